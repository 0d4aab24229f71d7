"""Datasets of the hub: local folders in the column layouts that people use, and what is said of the rest."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from official_files import COUNTS, OFFICIAL, picture, write
from stub import Stub, checkpoint

from evalkit import registry
from evalkit.cli.main import main
from evalkit.data import sources
from evalkit.errors import DataError, UserError
from evalkit.evaluation import plan as planning
from evalkit.evaluation.predict import Session, run
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import DatasetCache, Selection
from evalkit.types import Sample, Score, Source

datasets = pytest.importorskip("datasets")
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("hf")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setenv("EVALKIT_CACHE", str(home / "evalkit"))


def table(path: Path, rows: list[dict[str, Any]], images: str = "image") -> None:
    """Rows as Parquet with an image column, as `push_to_hub` writes it."""
    features = datasets.Dataset.from_list(
        [{k: v for k, v in r.items() if k != images} for r in rows]
    ).features
    features[images] = datasets.Image()
    if isinstance(rows[0][images], list):
        features[images] = datasets.List(datasets.Image())
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(path), batch_size=2)


def cell(seed: int) -> dict[str, Any]:
    return {"bytes": picture(seed=seed), "path": None}


def read(folder: Path, spelling: str, wanted: str, **entry: Any) -> list[Sample]:
    source = Source(folder.parent, {"folder": folder.name, **entry}, "t")
    return list(registry.make("formats", spelling).samples(source, wanted))


def test_vqav2_layout(tmp_path: Path) -> None:
    """lmms-lab/VQAv2: answers are a list of objects, sharded Parquet."""
    rows = [
        {"question_type": "is it", "multiple_choice_answer": "yes", "answer_type": "yes/no", "image_id": 42,
         "answers": [{"answer": "yes" if a else "no", "answer_id": a} for a in range(10)],
         "question_id": n, "question": f"Is it {n}?", "image": cell(n)}
        for n in range(5)
    ]  # fmt: skip
    for shard in (0, 1):
        part = rows[:3] if shard == 0 else rows[3:]
        table(tmp_path / f"VQAv2/data/validation-0000{shard}-of-00002.parquet", part)
    samples = read(tmp_path / "VQAv2", "hub(id='question_id', group='answer_type')", "validation")
    assert [s.id for s in samples] == ["0", "1", "2", "3", "4"]
    assert samples[0].target == ("no",) + ("yes",) * 9
    assert (samples[4].fields["question"], samples[4].group) == ("Is it 4?", "yes/no")
    assert [sources.read_bytes(s.images[0]) for s in samples] == [picture(seed=n) for n in range(5)]


def test_docvqa_layout_with_two_configs(tmp_path: Path) -> None:
    """lmms-lab/DocVQA: configurations named in the card, ids that are strings, answers null for test."""
    row = {
        "questionId": "49153",
        "question": "What?",
        "docId": 1,
        "answers": ["0.28", ".28"],
        "image": cell(1),
    }
    folder = tmp_path / "DocVQA"
    table(folder / "DocVQA/validation-00000-of-00001.parquet", [row])
    table(folder / "InfographicVQA/validation-00000-of-00001.parquet", [{**row, "questionId": "7"}])
    configs = "".join(
        f"- config_name: {c}\n  data_files:\n  - split: validation\n    path: {c}/validation-*\n"
        for c in ("DocVQA", "InfographicVQA")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    (sample,) = read(folder, "hub(id='questionId')", "val", name="DocVQA", split="validation")
    assert (sample.id, sample.target) == ("49153", ("0.28", ".28"))
    assert read(folder, "hub(id='questionId')", "val", name="InfographicVQA", split="validation")[0].id == "7"
    with pytest.raises(DataError, match="cannot be loaded"):
        read(folder, "hub(id='questionId')", "val", name="docvqa", split="validation")


def plain(sample: Sample) -> tuple[Any, ...]:
    """All of a sample but where its image lies and what it is called with."""
    return (sample.fields, sample.target, sample.group, sample.choices, sources.read_bytes(sample.images[0]))


def twice(root: Path, name: str) -> tuple[list[Sample], list[Sample]]:
    """The task's samples from its files, and those of its hub source, written by `root`'s owner."""
    task = loader.load(name)
    entry = next(e for e in task.data.sources if "hub" in e)
    write(root, task.data.sources[0], OFFICIAL[name])
    files = registry.make("formats", task.data.format).samples(
        Source(root, task.data.sources[0], name), task.data.split
    )
    hub = Source(root, {**entry, "folder": entry["hub"]}, name)
    made = registry.make("formats", entry.get("format", task.data.format))
    return list(files), list(made.samples(hub, task.data.split))


def card(folder: Path, split: str, *configs: str) -> None:
    listed = "".join(
        f"- config_name: {c}\n  data_files:\n  - split: {split}\n    path: {c}/{split}-*\n" for c in configs
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{listed}---\n")


def gqa_copy(root: Path, spelled: bool = False, unknown: str = "unused") -> None:
    """lmms-lab/GQA, questions in one config and images in another, and the images of the official files."""
    folder, place = root / "lmms-lab/GQA", "testdev-00000-of-00001.parquet"
    questions = [{"id": n, **record} for n, record in OFFICIAL["gqa_testdev_balanced"]["path"].items()]
    for question in questions:
        if "entailed" in question and spelled:
            question["entailed"] = str(question["entailed"])
    (folder / "testdev_balanced_instructions").mkdir(parents=True)
    datasets.Dataset.from_list(questions).to_parquet(str(folder / "testdev_balanced_instructions" / place))
    images = sorted({q["imageId"] for q in questions})
    pixels = [{"id": i, "image": cell(n)} for n, i in enumerate(["unused", *images]) if i != unknown]
    table(folder / "testdev_balanced_images" / place, pixels)
    card(folder, "testdev", "testdev_balanced_instructions", "testdev_balanced_images")
    for number, image in enumerate(images, 1):
        path = root / "gqa/images" / f"{image}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed=number))


@pytest.mark.parametrize("spelled", [False, True])
def test_gqa_is_joined_from_two_configs(spelled: bool, tmp_path: Path) -> None:
    gqa_copy(tmp_path, spelled, unknown="")
    files, hub = twice(tmp_path, "gqa_testdev_balanced")
    assert [s.id for s in hub] == [s.id for s in files]
    assert [s.cluster for s in hub] == [s.cluster for s in files]
    assert list(map(plain, hub)) == list(map(plain, files))
    assert any("entailed" in s.target for s in hub)


def test_gqa_without_one_of_its_images(tmp_path: Path) -> None:
    missing = next(iter(OFFICIAL["gqa_testdev_balanced"]["path"].values()))["imageId"]
    gqa_copy(tmp_path, unknown=missing)
    with pytest.raises(
        DataError, match=f"row 0.imageId: '{missing}' is not an image of the config testdev_balanced_images"
    ):
        twice(tmp_path, "gqa_testdev_balanced")


def test_countbenchqa_has_its_questions_in_the_table(tmp_path: Path) -> None:
    asked = OFFICIAL["countbenchqa_test"]["questions"]
    rows = [{**row, **question} for row, question in zip(COUNTS, asked, strict=True) if row["image"]]
    table(tmp_path / "vikhyatk/CountBenchQA/data/test-00000-of-00001.parquet", rows)
    files, hub = twice(tmp_path, "countbenchqa_test")
    assert [s.id for s in hub] == ["0", "1"]  # the grey one is left out
    assert list(map(plain, hub)) == list(map(plain, files))


def test_scienceqa_is_lettered(tmp_path: Path) -> None:
    """lmms-lab/ScienceQA: no pid, so ids are row numbers; all else is as from the files."""
    problems = OFFICIAL["scienceqa_test"]["problems"]
    rows = []
    for number, (pid, problem) in enumerate((p, q) for p, q in problems.items() if q["image"]):
        kept = {k: v for k, v in problem.items() if k not in ("image", "split")}
        rows.append({**kept, "image": cell(number)})
        path = tmp_path / f"scienceqa/images/test/{pid}/image.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(picture(seed=number))
    folder = tmp_path / "lmms-lab/ScienceQA"
    table(folder / "ScienceQA-IMG/test-00000-of-00001.parquet", rows)
    card(folder, "test", "ScienceQA-IMG")
    files, hub = twice(tmp_path, "scienceqa_test")
    assert [s.id for s in hub] == ["0", "1"]
    task = loader.load("scienceqa_test")
    assert [loader.prompt(task, s.fields) for s in hub] == [loader.prompt(task, s.fields) for s in files]
    assert [plain(s)[1:] for s in hub] == [plain(s)[1:] for s in files]


def test_refcoco_layout_one_row_an_object(tmp_path: Path) -> None:
    """lmms-lab/RefCOCO: a list of sentences and one box a row; the size is the image's own."""
    row = {"question_id": "1719310", "question": "Describe", "iscrowd": 0,
           "answer": ["the lady", "blue shirt"],
           "segmentation": [1.0, 2.0], "bbox": [8.0, 12.0, 16.0, 24.0], "image": cell(3)}  # fmt: skip
    table(tmp_path / "RefCOCO/data/testA-00000-of-00001.parquet", [row])
    made = "hub(id='question_id', question='', each='answer', bbox='bbox')"
    first, second = read(tmp_path / "RefCOCO", made, "testA")
    assert (first.id, second.id) == ("1719310-0", "1719310-1")
    assert second.fields == {"question": "blue shirt"}
    assert first.target == {"size": (48, 64), "box": (12.0, 8.0, 36.0, 24.0), "iscrowd": 0}
    assert first.cluster == second.cluster


def test_several_images_lists_that_are_strings_and_lettered_answers(tmp_path: Path) -> None:
    rows = [
        {"images": [cell(n), cell(n + 1)], "question": "Same?", "direct_answers": "['a', 'b']",
         "options": ["cow", "sun"], "answer": "1"}
        for n in (0, 1)
    ]  # fmt: skip
    table(tmp_path / "d/data/test-00000-of-00001.parquet", rows, images="images")
    one, _ = read(tmp_path / "d", "hub(image='images', answers='direct_answers', literal=True)", "test")
    assert one.target == ("a", "b")
    assert [sources.read_bytes(i) for i in one.images] == [picture(seed=0), picture(seed=1)]
    chosen, _ = read(tmp_path / "d", "hub(image='images', choices='options', correct='answer')", "test")
    assert (chosen.target, chosen.fields["choices"]) == (("sun",), "cow \t sun")


def test_imagefolder_and_webdataset(tmp_path: Path) -> None:
    folder = tmp_path / "photos/test"
    folder.mkdir(parents=True)
    for n in range(2):
        (folder / f"{n}.png").write_bytes(picture(seed=n))
    lines = [{"file_name": f"{n}.png", "question": f"{n}?", "answers": ["x"]} for n in range(2)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    samples = read(tmp_path / "photos", "hub()", "test")
    assert [sources.read_bytes(s.images[0]) for s in samples] == [picture(seed=0), picture(seed=1)]
    shards = tmp_path / "shards/test-000.tar"
    shards.parent.mkdir()
    with tarfile.open(shards, "w") as archive:
        for n in range(2):
            told = json.dumps({"question": f"{n}?", "answer": "y"}).encode()
            for name, data in ((f"{n}.png", picture(seed=n)), (f"{n}.json", told)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    made = "hub(id='__key__', image='png', question='json.question', answers='json.answer')"
    first, second = read(tmp_path / "shards", made, "test")
    assert (first.id, second.fields["question"], second.target) == ("0", "1?", ("y",))
    assert sources.read_bytes(second.images[0]) == picture(seed=1)


@pytest.mark.parametrize(
    ("made", "split", "message"),
    [
        ("hub(image='picture')", "test", "no column 'picture'; there are: "),
        ("hub(question='q')", "test", "row 0.q: is missing"),
        ("hub(id='question')", "test", "is repeated"),
        ("hub()", "val", "cannot be loaded"),
        ("hub()", "test[:1]", "is a part of a split; name the split and use --limit"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, made: str, split: str, message: str) -> None:
    row = {"question": "What?", "answers": ["a"], "image": cell(1)}
    table(tmp_path / "d/data/test-00000-of-00001.parquet", [row, row])
    with pytest.raises(DataError) as caught:
        read(tmp_path / "d", made, split)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_without_image(tmp_path: Path) -> None:
    row = {"question": "What?", "answers": ["a"], "image": cell(1)}
    table(tmp_path / "d/data/test-00000-of-00001.parquet", [row, {**row, "image": None}])
    with pytest.raises(DataError, match=r"row 1\.image: is null or empty; every row needs an image"):
        read(tmp_path / "d", "hub()", "test")


TASK = """\
version: 1
about: a test
license: none
homepage: https://example.org
data:
  format: docvqa
  split: val
  sources:
    - {{path: here/val.json, images: here}}
    - {{hub: someone/Pages, split: validation, revision: "{revision}", format: "{format}"}}
prompt: "{{question}}"
parser: text
metrics: [anls]
"""


def task_file(tmp_path: Path, revision: str = REVISION, format: str = "hub(id='questionId')") -> Path:
    path = tmp_path / "pages_val.yaml"
    path.write_text(TASK.format(revision=revision, format=format))
    return path


def test_a_task_with_a_source_of_the_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, root = task_file(tmp_path), tmp_path / "data"
    root.mkdir()
    assert main(["data", str(path), "--data-root", str(root)]) == 1
    said = capsys.readouterr().out
    assert "missing" in said
    assert f"hf download --repo-type dataset someone/Pages --revision {REVISION}" in said
    row = {"questionId": "1", "question": "What?", "answers": ["yes"], "image": cell(1)}
    table(root / "someone/Pages/data/validation-00000-of-00001.parquet", [row, {**row, "questionId": "2"}])
    assert main(["data", str(path), "--data-root", str(root)]) == 0
    assert f"found    hub: {root / 'someone/Pages'}" in capsys.readouterr().out
    task = loader.load(str(path))
    data = dataset.dataset(task, [root])
    model = checkpoint(Stub(lambda request: "yes"))
    plan = planning.plan(data, model, tmp_path / "results", Selection())
    found: list[Score] = []
    run([plan], Session(model, DatasetCache([root]), done=lambda p, s: found.extend(s)))
    assert (found[0].value, found[0].n) == (1.0, 2)


def test_the_cache_of_the_hub_is_found(tmp_path: Path) -> None:
    snapshot = sources._hub_cache() / f"datasets--someone--Pages/snapshots/{REVISION}"
    row = {"questionId": "1", "question": "What?", "answers": ["yes"], "image": cell(1)}
    table(snapshot / "data/validation-00000-of-00001.parquet", [row])
    assert len(dataset.dataset(loader.load(str(task_file(tmp_path))), []).samples) == 1


@pytest.mark.parametrize(
    ("revision", "format", "message"),
    [
        ("main", "hub()", "revision: must be the 40 hex digits of a commit"),
        ("0" * 7, "hub()", "revision: must be the 40 hex digits of a commit"),
        (REVISION, "docvqa", "format docvqa reads no hub dataset; give the source its own"),
        (REVISION, "hub(identity='x')", "no parameter 'identity'"),
    ],
)
def test_task_files_that_are_refused(tmp_path: Path, revision: str, format: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        loader.load(str(task_file(tmp_path, revision, format)))
    assert message in str(caught.value)


def test_streaming_keeps_images_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": f"{n}?", "answers": ["a"], "image": cell(n)} for n in range(5)]
    table(tmp_path / "d/data/test-00000-of-00001.parquet", rows)
    plain = datasets.load_dataset

    def from_folder(name: str, config: Any, split: str, revision: str, streaming: bool) -> Any:
        assert (name, revision, streaming) == ("someone/d", REVISION, True)
        return plain(str(tmp_path / "d"), config, split=split, streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", from_folder)
    entry = {"hub": "someone/d", "revision": REVISION, "stream": True, "rows": 3}
    samples = list(registry.make("formats", "hub()").samples(Source(Path(), entry, "t"), "test"))
    assert [s.fields["question"] for s in samples] == ["0?", "1?", "2?"]
    assert [sources.read_bytes(s.images[0]) for s in samples] == [picture(seed=n) for n in range(3)]
