"""The embedded demo: same bytes every time, official formats, checkpoints that load and answer."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evalkit.demo as demo
from evalkit.demo import data, questions, world


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data.write(tmp_path_factory.mktemp("demo"), scenes=12)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("EVALKIT_CACHE", str(folder))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_scene_is_the_same_to_the_byte() -> None:
    digest = hashlib.sha256()
    for seed in range(20):
        digest.update(world.render(world.make(seed)).tobytes())
        digest.update(questions.caption(world.make(seed)).encode())
    assert digest.hexdigest()[:16] == "8c44cfc326591172"


def test_files_are_the_same_to_the_byte(root: Path, tmp_path: Path) -> None:
    data.write(tmp_path, scenes=12)
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        assert (tmp_path / path.relative_to(root)).read_bytes() == path.read_bytes()
        if path.suffix != ".png":  # how a PNG is compressed is the installed library's choice
            digest.update(path.read_bytes())
    assert digest.hexdigest()[:16] == "9367f672c0b1e2ea"


@pytest.mark.parametrize("size", [448, 896])
def test_larger_scene_is_the_same_scene(size: int) -> None:
    k = size // 224
    small, large = (world.render(world.make(7), s).astype(float) for s in (224, size))
    shrunk = large.reshape(224, k, 224, k, 3).mean((1, 3))
    assert np.abs(shrunk - small).mean() < 0.3


def test_masks_fill_their_boxes() -> None:
    for seed in range(40):
        for thing in world.make(seed).things:
            rows, columns = np.nonzero(world.mask(thing))
            edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            np.testing.assert_allclose(edges, world.box(thing), atol=1.6)


def test_coco_reads_the_annotations(root: Path) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    coco = COCO(str(root / "coco/instances_demo.json"))
    things = [t for i in range(12) for t in world.make(i).things]
    kinds = set()
    for thing, note in zip(things, coco.anns.values(), strict=True):
        mask, truth = coco.annToMask(note).astype(bool), world.mask(thing)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.97
        assert coco.cats[note["category_id"]]["name"] == thing.shape
        form = note["segmentation"]
        kinds.add(type(form).__name__ if isinstance(form, list) else type(form["counts"]).__name__)
    assert "list" in kinds
    assert len(read(root / "coco/captions_demo.json")["annotations"]) == 5 * 12


@pytest.mark.parametrize("odd", [True, False])
def test_run_lengths_round_trip(odd: bool) -> None:
    tools = pytest.importorskip("pycocotools.mask")
    rng = np.random.RandomState(int(odd))
    mask = rng.rand(37, 41) > 0.4
    mask[0, 0] = odd
    counts = data.compress(data.run_lengths(mask))
    decoded = tools.decode({"size": [37, 41], "counts": counts.encode()})
    np.testing.assert_array_equal(decoded.astype(bool), mask)


def test_vqa_files_fit_together(root: Path) -> None:
    asked = read(root / "vqav2/v2_OpenEnded_shapes_demo_questions.json")["questions"]
    notes = read(root / "vqav2/v2_shapes_demo_annotations.json")["annotations"]
    assert [q["question_id"] for q in asked] == [n["question_id"] for n in notes]
    for note in notes:
        answers = [a["answer"] for a in note["answers"]]
        assert len(answers) == 10
        assert answers.count(note["multiple_choice_answer"]) >= 4
        assert note["answer_type"] in ("yes/no", "number", "other")
    for row in read(root / "textvqa/TextVQA_demo.json")["data"]:
        assert len(row["answers"]) == 10
        assert (root / "images" / f"{row['image_id']}.png").exists()


def test_refs_point_at_their_annotations(root: Path) -> None:
    with (root / "refcoco/refs(demo).p").open("rb") as file:
        refs = pickle.load(file)
    notes = {n["id"]: n for n in read(root / "refcoco/instances.json")["annotations"]}
    ids = [s["sent_id"] for r in refs for s in r["sentences"]]
    assert ids == list(range(len(ids))) == [i for r in refs for i in r["sent_ids"]]
    for ref in refs:
        note = notes[ref["ann_id"]]
        assert (ref["image_id"], ref["category_id"]) == (note["image_id"], note["category_id"])
        assert ref["split"] == "test"


def test_expressions_fit_one_thing_only() -> None:
    for seed in range(60):
        scene = world.make(seed)
        said = [s for t in scene.things for s in questions.expressions(scene, t)]
        assert len(said) == len(set(said))


def test_write_refuses_training_scenes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scenes must be"):
        data.write(tmp_path, scenes=20_000)


def test_import_is_light() -> None:
    code = "import sys, evalkit.demo.data; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_checkpoint_of_two_at_once() -> None:
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(demo.checkpoint, ["earlier", "earlier"]))
    assert paths[0] == paths[1]
    assert not list(paths[0].parent.glob(".*"))
    assert {p.name for p in paths[0].iterdir()} == {*demo.SHARED, "model.safetensors"}


@pytest.mark.parametrize(("name", "resolution"), [("middle", 224), ("later", 300)])
def test_unknown_checkpoint(name: str, resolution: int) -> None:
    with pytest.raises(ValueError, match="no demo checkpoint"):
        demo.checkpoint(name, resolution)


@pytest.mark.parametrize("size", [224, 448])
def test_checkpoint_answers(size: int) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from evalkit.demo.training import check
    from evalkit.models.paligemma.checkpoint.loading import KEY_MAPPING

    folder = demo.checkpoint("later", size)
    model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(folder, key_mapping=KEY_MAPPING)
    model = model.to(torch.float32).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == processor.image_token_id
    pairs = "<loc0001><loc0002><seg003>"
    ids = processor.tokenizer(pairs, add_special_tokens=False)["input_ids"]
    assert len(ids) == 3
    assert processor.tokenizer.decode(ids) == pairs
    scenes = [world.make(i) for i in range(100, 108)]
    pictures = [world.render(s, size) for s in scenes]
    prompts = ["answer en how many shapes are there?"] * 8 + ["detect all classes"] * 8
    texts = check.generate(model, processor, pictures * 2, prompts)
    counted = sum(t == str(len(s.things)) for s, t in zip(scenes, texts[:8], strict=True))
    assert counted >= 6
    hits = 0
    for scene, text in zip(scenes, texts[8:], strict=True):
        truth = check.boxes(questions.detect_all(scene)[1])
        got = check.boxes(text)
        hits += sum(any(check.overlap(a, b) > 0.5 for b in got) for a in truth)
    assert hits >= 0.6 * sum(len(s.things) for s in scenes)


def test_mask_decoder_has_the_published_keys() -> None:
    shapes = {}
    with np.load(demo.mask_decoder(), allow_pickle=False) as arrays:
        shapes = {k: arrays[k].shape for k in arrays.files}
    assert shapes["_vq_vae._embedding"] == (128, 512)
    assert shapes["decoder.0.weight"] == (128, 512, 1, 1)
    assert shapes["decoder.2.net.0.weight"] == (128, 128, 3, 3)
    assert shapes["decoder.3.net.4.weight"] == (128, 128, 1, 1)
    assert shapes["decoder.4.weight"] == (128, 128, 4, 4)
    assert shapes["decoder.10.weight"] == (32, 16, 4, 4)
    assert shapes["decoder.12.weight"] == (1, 16, 1, 1)
    assert len(shapes) == 25


def test_assets_stay_small() -> None:
    assert sum(p.stat().st_size for p in demo.ASSETS.iterdir()) < 14_000_000
