"""Scores a demo checkpoint on the written benchmark, apart from the harness.

    python -m evalkit.demo.measure later earlier [--size 224] [--scenes 300]

Leans on pycocotools and pycocoevalcap, so that the demo's numbers rest on nobody's own metrics.
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import evalkit.demo as demo
from evalkit.demo import data
from evalkit.demo.training import check, vae

Rows = dict[str, list[float]]


def main() -> None:
    """Print one JSON line a checkpoint, then the differences of the first two, paired."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        root = data.write(Path(folder), args.scenes, size=args.size)
        done = [measure(name, root, args.size) for name in args.checkpoints]
    for task in done[0] if len(done) > 1 else ():
        gap = np.array(done[0][task], dtype=float) - np.array(done[1][task], dtype=float)
        error = gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else float("nan")
        print(f"{task}: {gap.mean():+.3f} +- {error:.3f} over {len(gap)}")


def measure(name: str, root: Path, size: int) -> Rows:
    """Per-sample scores of each task (one number where a task has only a total)."""
    from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

    folder = demo.checkpoint(name, size)
    model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    begun, asked = time.time(), 0

    def ask(pairs: list[tuple[int, str]]) -> list[str]:
        nonlocal asked
        asked += len(pairs)
        images = {i: np.asarray(Image.open(root / "images" / (data.NAME % i))) for i, _ in pairs}
        pictures = [images[i] for i, _ in pairs]
        return check.generate(model, processor, pictures, [p for _, p in pairs])

    rows: Rows = {**_vqa(root, ask), **_refs(root, ask, size)}
    rows["cider"], rows["bleu4"] = _captions(root, ask)
    rows["AP50"], rows["AP"] = _detection(root, ask, size)
    spent = time.time() - begun
    means = {task: round(float(np.mean(values)), 4) for task, values in rows.items()}
    print(
        json.dumps(
            {
                "checkpoint": name,
                "size": size,
                **means,
                "prompts": asked,
                "seconds": round(spent, 1),
            }
        ),
        flush=True,
    )
    return rows


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def agreement(answer: str, given: list[str]) -> float:
    """VQA accuracy: over every nine of the ten people, min(1, agreeing / 3)."""
    same = [a == answer for a in given]
    return float(np.mean([min(1.0, (sum(same) - s) / 3) for s in same]))


def _vqa(root: Path, ask: Any) -> Rows:
    asked = _load(root / "vqav2/v2_OpenEnded_shapes_demo_questions.json")["questions"]
    notes = _load(root / "vqav2/v2_shapes_demo_annotations.json")["annotations"]
    given = {n["question_id"]: [a["answer"] for a in n["answers"]] for n in notes}
    kinds = {n["question_id"]: n["answer_type"] for n in notes}
    texts = ask([(q["image_id"], f"answer en {q['question']}") for q in asked])
    rows: Rows = {"vqa": [], "vqa yes/no": [], "vqa number": [], "vqa other": []}
    for q, text in zip(asked, texts, strict=True):
        right = agreement(text, given[q["question_id"]])
        rows["vqa"].append(right)
        rows["vqa " + kinds[q["question_id"]]].append(right)
    read = _load(root / "textvqa/TextVQA_demo.json")["data"]
    texts = ask([(int(r["image_id"]), f"answer en {r['question']}") for r in read])
    rows["text"] = [agreement(t, r["answers"]) for r, t in zip(read, texts, strict=True)]
    return rows


def _refs(root: Path, ask: Any, size: int) -> Rows:
    """Boxes from `detect`, boxes and masks from `segment`, against the annotations."""
    from pycocotools.coco import COCO

    coco = COCO(str(root / "refcoco/instances.json"))
    with (root / "refcoco/refs(demo).p").open("rb") as file:
        refs = pickle.load(file)
    flat = [(r, s["sent"]) for r in refs for s in r["sentences"]]
    decoder = _decoder()
    rows: Rows = {"detect P@.5": [], "segment P@.5": [], "mask IoU": []}
    found = ask([(r["image_id"], f"detect {s}") for r, s in flat])
    drawn = ask([(r["image_id"], f"segment {s}") for r, s in flat])
    for (ref, _), box_text, mask_text in zip(flat, found, drawn, strict=True):
        note = coco.anns[ref["ann_id"]]
        x, y, w, h = (v / size for v in note["bbox"])
        for task, text in (("detect", box_text), ("segment", mask_text)):
            boxes = check.boxes(text) or [(0.0, 0.0, 0.0, 0.0)]
            rows[f"{task} P@.5"].append(check.overlap(boxes[0], (y, x, y + h, x + w)) >= 0.5)
        truth = coco.annToMask(note).astype(bool)
        rows["mask IoU"].append(check.mask_overlap(truth, check.draw(decoder, mask_text, size)))
    return rows


def _decoder() -> vae.MaskVAE:
    masks = vae.MaskVAE()
    arrays = np.load(demo.mask_decoder())
    state = {k: torch.from_numpy(arrays[k]).float() for k in arrays.files}
    masks.book.copy_(state.pop("_vq_vae._embedding"))
    masks.load_state_dict(state, strict=False)
    masks.eval()
    return masks


def _captions(root: Path, ask: Any) -> tuple[list[float], list[float]]:
    """CIDEr an image, and corpus BLEU-4."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    def plain(text: str) -> list[str]:  # what the PTB tokenizer makes of these captions
        return [text.lower().replace(",", "")]

    notes = _load(root / "coco/captions_demo.json")
    ids = [i["id"] for i in notes["images"]]
    truth: dict[int, list[str]] = {i: [] for i in ids}
    for note in notes["annotations"]:
        truth[note["image_id"]] += plain(note["caption"])
    texts = ask([(i, "caption en") for i in ids])
    made = {i: plain(t) for i, t in zip(ids, texts, strict=True)}
    _, each = Cider().compute_score(truth, made)
    bleu, _ = Bleu(4).compute_score(truth, made, verbose=0)
    return [float(v) for v in each], [float(bleu[3])]


def _detection(root: Path, ask: Any, size: int) -> tuple[list[float], list[float]]:
    """COCO AP50 and AP of `detect all classes`, every box at the same score."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO(str(root / "coco/instances_demo.json"))
    names = {c["name"]: c["id"] for c in coco.cats.values()}
    ids = sorted(coco.imgs)
    results = []
    for image, text in zip(ids, ask([(i, "detect all classes") for i in ids]), strict=True):
        for part in text.split(";"):
            label = part.split(">")[-1].strip()
            for y0, x0, y1, x1 in check.boxes(part)[:1]:
                box = [x0 * size, y0 * size, (x1 - x0) * size, (y1 - y0) * size]
                if label in names:
                    results.append(
                        {"image_id": image, "category_id": names[label], "bbox": box, "score": 1.0}
                    )
    if not results:
        return [0.0], [0.0]
    scored = COCOeval(coco, coco.loadRes(results), "bbox")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    return [float(scored.stats[1])], [float(scored.stats[0])]


if __name__ == "__main__":
    main()
