"""Parity of boxes, masks, their decoder and average precision."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from parity_compare import Compared, predicted, score, score_all
from pycocotools import mask as cocomask

from evalkit import registry
from evalkit.geometry import boxes, mask_decoder
from evalkit.geometry import rle as run_lengths
from evalkit.stats.average_precision import prepare
from evalkit.types import Box, Mask

Cases = list[dict[str, Any]]

SQUARE = 1024  # pixels over a power of two and back are the same floats


def box_iou(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        inputs, expected = case["inputs"], case["expected"]
        if "items" in inputs:
            _box_accuracy(result, inputs["items"], expected["plain_iou_acc_at_0.5_top1"])
            continue
        ours = _iou(inputs["pred_xyxy"], inputs["gt_xyxy"])
        for name in ("iou_big_vision", "iou_mdetr_f64", "iou_pycocotools"):
            theirs = expected[name]
            if isinstance(theirs, float | int):
                result.near(name, ours, theirs, inputs)
            else:  # 0/0, an empty or an inverted box: no overlap
                result.equal(f"{name} undefined", ours, 0.0, inputs)
    return result


def _iou(answer_xyxy: list[float], target_xyxy: list[float]) -> float:
    return score("box_iou", (_box(answer_xyxy),), _target(target_xyxy))


def _box(xyxy: list[float]) -> Box:
    x0, y0, x1, y1 = (v / SQUARE for v in xyxy)
    return Box(y0, x0, y1, x1)


def _target(xyxy: list[float]) -> dict[str, Any]:
    x0, y0, x1, y1 = xyxy
    return {"size": (SQUARE, SQUARE), "box": (y0, x0, y1, x1)}


def _box_accuracy(result: Compared, items: list[dict[str, Any]], expected: dict[str, float]) -> None:
    for name, theirs in expected.items():
        chosen = [item for item in items if item["dataset_name"] == name]
        # Equal scores: MDETR sorts (score, box) pairs, so the larger coordinates come first.
        best = [max(zip(item["scores"], item["boxes"], strict=True))[1] for item in chosen]
        corners = [(x, y, x + w, y + h) for x, y, w, h in (item["gt_xywh"] for item in chosen)]
        ours = score_all("box_accuracy(iou=0.5)", [(_box(b),) for b in best], [_target(c) for c in corners])
        result.near("box_accuracy", ours, theirs, chosen)


def loc_decode(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    demo = registry.make("parsers", "boxes(divisor=1024, form='demo')")
    for case in cases:
        text, width, height = (case["inputs"][key] for key in ("text", "width", "height"))
        scale = (width, height, width, height)
        ours = [
            [[round(v * s) for v, s in zip((b.x0, b.y0, b.x1, b.y1), scale, strict=True)], b.label]
            for b in demo.read(predicted(text), (height, width)) or ()
        ]
        theirs = [[o["xyxy"], o["name"] or ""] for o in case["expected"]["hf_space"] if "xyxy" in o]
        result.equal("hf_space", ours, theirs, text)
        # supervision's parser takes boxes without <seg> only and strips labels: understood, not offered.
    return result


def vae_decode(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    expected = np.load(folder / "vae_decode_expected.npz")["masks"]
    ours = _decoder(folder).decode([case["inputs"]["seg_indices"] for case in cases])
    for case, values in zip(cases, ours, strict=True):
        theirs = expected[case["expected"]["row"]]
        result.near("values", float(np.abs(values - theirs).max()), 0.0, case["id"], tolerance=1e-4)
    return result


def vae_paste(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    values = np.load(folder / "vae_decode_expected.npz")["masks"]
    for case in cases:
        inputs, expected = case["inputs"], case["expected"]["big_vision"]
        size = (inputs["height"], inputs["width"])
        box = Box(*(v / 1023 for v in inputs["loc_yxyx"]))
        y0, x0, y1, x1 = boxes.pixels(box.coordinates, size)
        result.equal("pixels", [x0, y0, x1, y1], expected["xyxy_pixels"], inputs)
        pasted = mask_decoder.paste(values[inputs["m64_row"]], box, size)
        theirs = expected["mask_rle"]["counts"] if expected["valid"] else _nothing(size)
        result.equal("mask", pasted.counts, theirs, inputs)
    return result


def refseg(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    parser = registry.make("parsers", f"masks(decoder={str(folder / 'vae_random.npz')!r}, form='start')")
    for case in cases:
        inputs, expected = case["inputs"], case["expected"]
        if "gt_rle" in inputs:
            _many_masks(result, inputs, expected)
            continue
        size = tuple(inputs["gt_mask_rle"]["size"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = parser.read(predicted(_spelled(inputs)), size)
        height, width = size
        box = [v * s for v, s in zip(inputs["gt_bbox_yxyx_norm"], (height, width) * 2, strict=True)]
        target = {"size": size, "box": tuple(box), "segmentation": inputs["gt_mask_rle"]}
        theirs = expected["big_vision"]
        ours = answer[0].counts if answer else _nothing(size)
        apart = _apart(ours, expected["pred_mask_rle"]["counts"], size)
        result.near("mask", apart, 0.0, case["id"], tolerance=1e-3)
        result.equal("invalid", int(parser.invalid(answer)), theirs["invalid"], case["id"])
        for iou in ("0.5", "0.75"):
            ours = score(f"box_accuracy(iou={iou})", answer, target)
            result.equal(f"boxacc/{iou}", ours, theirs[f"boxacc/{iou}"], case["id"])
        ours = score("mask_iou", answer, target)
        result.near("miou", ours, theirs["miou"], case["id"], tolerance=2e-3)
        result.near("lavt_iou", ours, expected["lavt_iou"], case["id"], tolerance=2e-3)
    return result


def _apart(ours: str, theirs: str, size: tuple[int, int]) -> float:
    """The share of pixels that differ between two coded masks."""
    both = cocomask.decode([{"size": list(size), "counts": counts} for counts in (ours, theirs)])
    return float((both[..., 0] != both[..., 1]).mean())


def _spelled(inputs: dict[str, Any]) -> str:
    """The token ids as the text that the tokenizer makes of them."""

    def one(token: int) -> str:
        loc, seg = token - inputs["loc0"], token - inputs["seg0"]
        return f"<loc{loc:04}>" if 0 <= loc < 1024 else f"<seg{seg:03}>" if 0 <= seg < 128 else f"x{token}"

    return "".join(map(one, inputs["tokens"]))


def _many_masks(result: Compared, inputs: dict[str, Any], expected: dict[str, Any]) -> None:
    targets = [{"size": tuple(rle["size"]), "segmentation": rle} for rle in inputs["gt_rle"]]
    answers = [(Mask(tuple(rle["size"]), rle["counts"], Box(0, 0, 1, 1)),) for rle in inputs["pred_rle"]]
    for answer, target, theirs in zip(answers, targets, expected["per_sample_iou"], strict=True):
        result.near("iou", score("mask_iou", answer, target), theirs, target)
    result.near("mIoU", score_all("mask_iou", answers, targets), expected["mIoU"], "all")
    result.near("oIoU", score_all("cumulative_iou", answers, targets), expected["oIoU"], "all")


def coco_ap(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        inputs, expected = case["inputs"], case["expected"]
        if "ground_truth" not in inputs:
            ours = cocomask.iou(
                *(np.array(inputs[k], float) for k in ("dt_xywh", "gt_xywh")), inputs["iscrowd"]
            )
            for row, theirs in zip(ours, expected["iou"], strict=True):
                for a, b in zip(row, theirs, strict=True):
                    result.near("iou", a, b, case["id"])
            continue
        answers, targets, names = detections(inputs)
        region = "boxes" if inputs["iou_type"] == "bbox" else "masks"
        spelled = f"coco_ap(rank='logprob', region='{region}'"
        metric = registry.make("metrics", f"{spelled})")
        rows = metric.rows(answers, targets)
        for name, theirs in expected["stats"].items():
            ours = _figures(metric, rows).get(name, -1)  # -1: nothing of that kind
            result.near(name, ours, theirs, case["id"])
        prepared = prepare(rows)
        counted = [name for name, slots in prepared.categories if slots.objects[:, 0].sum() > 0]
        curves = (float(np.mean(precision)) for precision, _ in prepared.curves())
        by_category = dict(zip(counted, curves, strict=True))
        for number, theirs in expected["per_category_AP"].items():
            result.near("by category", by_category.get(names[int(number)], -1), theirs, case["id"])
        if "class_agnostic_stats" in expected:
            metric = registry.make("metrics", f"{spelled}, agnostic=True)")
            ours = _figures(metric, metric.rows(answers, targets))
            for name, theirs in zip(expected["stats"], expected["class_agnostic_stats"], strict=True):
                result.near(f"agnostic {name}", ours.get(name, -1), theirs, case["id"])
    return result


def _figures(metric: Any, rows: Any) -> dict[str, float]:
    value = metric.reduce(rows)
    return metric.details(rows) | ({} if np.isnan(value) else {"AP": value})


def detections(inputs: dict[str, Any]) -> tuple[list[Any], list[Any], dict[int, str]]:
    """COCO's ground truth and detections as answers and targets; boxes in pixels, as given."""
    truth, masked = inputs["ground_truth"], inputs["iou_type"] == "segm"
    names = {c["id"]: c["name"] for c in sorted(truth["categories"], key=lambda c: c["id"])}
    answers: dict[int, list[Any]] = {image["id"]: [] for image in truth["images"]}
    targets = {}
    for image in truth["images"]:
        size = (image["height"], image["width"]) if masked else (SQUARE, SQUARE)
        empty = {"size": size, "image_id": image["id"], "categories": tuple(names.values()), "objects": []}
        targets[image["id"]] = empty
    for each in truth["annotations"]:
        box = {"category": names[each["category_id"]], "box": tuple(each["bbox"])}
        kept = {key: each[key] for key in ("area", "iscrowd", "segmentation", "ignore") if key in each}
        targets[each["image_id"]]["objects"].append(box | kept)
    for each in inputs["detections"]:
        label = names.get(each["category_id"], "?")
        if masked:
            box, rle = Box(0, 0, 1, 1, label, each["score"]), each["segmentation"]
            answers[each["image_id"]].append(Mask(tuple(rle["size"]), rle["counts"], box, label))
        else:
            box = Box.of_pixels(tuple(each["bbox"]), (SQUARE, SQUARE), label, each["score"])
            answers[each["image_id"]].append(box)
    return [tuple(found) for found in answers.values()], list(targets.values()), names


def _decoder(folder: Path) -> mask_decoder.Decoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mask_decoder.decoder(str(folder / "vae_random.npz"))


def _nothing(size: tuple[int, int]) -> str:
    return run_lengths.empty(size)["counts"].decode()
