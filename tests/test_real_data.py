"""Formats and tasks on real photos and annotations, where they are (EVALKIT_DATA or ../shared/data/real)."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.data import sources
from evalkit.images import prepare
from evalkit.tasks import loader
from evalkit.types import Preparation, Sample, Source

BESIDE = Path(__file__).parents[2] / "shared/data/real"
ROOT = Path(os.environ.get("EVALKIT_DATA", str(BESIDE)).split(os.pathsep)[0])
pytestmark = pytest.mark.skipif(
    not (ROOT / "coco").is_dir(), reason=f"no real data at {ROOT} (EVALKIT_DATA names the folder)"
)

# task -> (samples on disk, images on disk that they name)
EXPECTED = {
    "coco_captions_2017_val": (5000, 70),
    "coco_detection_val2017": (70, 70),
    "vqav2_train": (33, 8),
    "vqav2_val": (29, 8),
    "docvqa_val": (10, 10),
    "chartqa_human_test": (80, 40),
    "chartqa_augmented_test": (37, 30),
    "refcoco_unc_val": (36, 4),
    "refcoco_unc_testA": (12, 1),
    "refcoco_unc_testB": (12, 2),
    "refcoco_unc_seg_val": (36, 4),
    "refcocoplus_unc_val": (39, 4),
    "refcocoplus_unc_testA": (11, 1),
    "refcocoplus_unc_testB": (12, 2),
    "refcocog_umd_val": (11, 2),
    "pope_test": (90, 5),
}


def read(name: str) -> list[Sample]:
    task = loader.load(name)
    source = sources.locate(task, [ROOT])
    return list(registry.make("formats", task.data.format).samples(source, task.data.split))


@pytest.mark.parametrize("name", EXPECTED)
def test_counts(name: str) -> None:
    samples, pictures = EXPECTED[name]
    found = read(name)
    there = {ref.path for sample in found for ref in sample.images if Path(ref.path).is_file()}
    assert (len(found), len(there)) == (samples, pictures)
    assert len({sample.id for sample in found}) == samples


def test_every_image_decodes_to_the_stated_size() -> None:
    seen = set()
    for name in EXPECTED:
        for sample in read(name):
            (ref,) = sample.images
            if ref.path in seen or not Path(ref.path).is_file():
                continue
            seen.add(ref.path)
            prepared = prepare.prepare(ref, Preparation(224, antialias=True))
            assert prepared.pixels.shape == (224, 224, 3)
            assert sample.size in (None, prepared.size), ref
    assert len(seen) == 179


def test_crowds_and_captions() -> None:
    objects = [entry for sample in read("coco_detection_val2017") for entry in sample.target["objects"]]
    assert (len(objects), sum(entry["iscrowd"] for entry in objects)) == (490, 3)
    assert {type(entry["segmentation"]) for entry in objects if entry["iscrowd"]} == {dict}
    assert sum(len(sample.target) for sample in read("coco_captions_2017_val")) == 25_014


def test_questions_and_pages_beside_the_official_files() -> None:
    made = registry.make("formats", "docvqa")
    entry = {"path": "docvqa/val_v1.0_all_questions_on_these_pages.json", "images": "docvqa/documents"}
    assert len(list(made.samples(Source(ROOT, entry), "val"))) == 45
    made = registry.make("formats", "textvqa")
    entry = {"path": "textvqa/TextVQA_0.5.1_val_first100_noimages.json", "images": "textvqa"}
    assert len(list(made.samples(Source(ROOT, entry), "val"))) == 100
    groups = Counter(sample.group for name in ("vqav2_train", "vqav2_val") for sample in read(name))
    assert set(groups) <= {"yes/no", "number", "other"}
    made = registry.make("formats", "jsonl")
    entry = {"path": "pope/coco_pope_random.json", "images": "vqav2/val2014"}
    samples = list(made.samples(Source(ROOT, entry), "test"))
    assert (len(samples), samples[0].fields["label"]) == (30, "yes")


def test_pairs_graphs_and_captions_beside_the_official_files() -> None:
    made = registry.make("formats", "nlvr2")
    pairs = list(made.samples(Source(ROOT, {"path": "nlvr2/dev.json", "images": "nlvr2/dev"}), "dev"))
    assert len(pairs) == 8
    assert all(Path(image.path).is_file() for sample in pairs for image in sample.images)
    made = registry.make("formats", loader.load("gqa_testdev_balanced").data.format)
    entry = {"path": "gqa/questions.json", "images": "gqa/images"}
    graphs = list(made.samples(Source(ROOT, entry), "testdev_balanced"))
    assert (len(graphs), graphs[0].id, graphs[0].target["answers"]) == (4, "202218649", ("picture",))
    assert all(Path(sample.images[0].path).is_file() for sample in graphs)
    made = registry.make("formats", loader.load("textcaps_val").data.format)
    entry = {"path": "textcaps/TextCaps_0.1_val_first100_noimages.json", "images": "textcaps"}
    captions = list(made.samples(Source(ROOT, entry), "val"))
    assert sum(len(sample.target) for sample in captions) == 100
    made = registry.make("formats", loader.load("pope_test").data.format)
    kinds = ("random", "popular", "adversarial")
    entry = {"path": {k: f"pope/full/coco_pope_{k}.json" for k in kinds}, "images": "coco"}
    assert sum(1 for _ in made.samples(Source(ROOT, entry), "test")) == loader.load("pope_test").data.count


@pytest.mark.parametrize("task", ["refcoco_unc", "refcocoplus_unc", "refcocog_umd"])
def test_full_splits_have_the_official_number_of_sentences(task: str, tmp_path: Path) -> None:
    """The full boxes-only lists, written out in REFER's form, give the counts that the tasks state."""
    folder, by = task.split("_")
    folder = folder.replace("plus", "+")
    refs, annotations, pictures, sentence = [], {}, {}, 0
    rows = json.loads((ROOT / "refcoco" / folder / f"boxes_full_{by}.json").read_text())
    for row in rows:
        x, y, w, h = row["bbox"]
        number, image = row["ann_id"], row["image_id"]
        sentences: list[dict[str, Any]] = []
        for text in row["sentences"]:
            sentences.append({"sent_id": sentence, "sent": text, "raw": text, "tokens": text.split()})
            sentence += 1
        refs.append({"ref_id": len(refs), "ann_id": number, "image_id": image, "category_id": 1,
                     "split": row["split"], "sentences": sentences})  # fmt: skip
        pictures[image] = {"id": image, "file_name": row["file_name"], "height": 2000, "width": 2000}
        annotations[number] = {"id": number, "image_id": image, "category_id": 1, "bbox": row["bbox"],
                               "area": w * h, "iscrowd": 0,
                               "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}  # fmt: skip
    (tmp_path / "refs.p").write_bytes(pickle.dumps(refs, 2))
    content = {
        "images": [*pictures.values()],
        "annotations": [*annotations.values()],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    source = Source(tmp_path, {"refs": "refs.p", "instances": "instances.json", "images": "train2014"})
    made = registry.make("formats", "refcoco")
    named = [name for name in loader.names() if name.startswith(f"{task}_")]
    assert len(named) in (8, 12)  # boxes and masks, the transfer's prompt and the mix checkpoints'
    for name in named:
        data = loader.load(name).data
        if data.split not in {row["split"] for row in rows}:  # RefCOCOg's test is not among the lists
            continue
        assert sum(1 for _ in made.samples(source, data.split)) == data.count
