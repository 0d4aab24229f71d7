"""A score belongs to what was really used: what is replaced before, between and during runs is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont
from stub import Stub, checkpoint, colours
from stub_runs import as_schema_1

from evalkit import provenance
from evalkit.data import containers
from evalkit.errors import DataError
from evalkit.evaluation import plan as planning
from evalkit.evaluation import predict, stamps
from evalkit.evaluation.plan import Plan
from evalkit.formats import ai2d
from evalkit.geometry import mask_decoder
from evalkit.metrics.exact_match import ExactMatch
from evalkit.runs import scored_run
from evalkit.runs.store import Entry, RunFolder, scores_of
from evalkit.tasks import loader
from evalkit.tasks.dataset import DatasetCache, Selection
from evalkit.types import ImageRef, Prediction, Request, Sample

OLD = 1_500_000_000  # seconds: files from long ago


def red(request: Request) -> str:
    return "red"


def planned(tasks: Sequence[Path], model: Stub, output: Path) -> tuple[list[Plan], predict.Session]:
    """One run a task, as the command line plans them: all before the first is run."""
    datasets, candidate = DatasetCache([tasks[0].parent]), checkpoint(model)
    data = [datasets.get(loader.load(str(task))) for task in tasks]
    plans = [planning.plan(d, candidate, output, Selection()) for d in data]
    return plans, predict.Session(candidate, datasets)


def asked_by(task: Path, output: Path, answer: Callable[[Request], str] = red) -> list[str]:
    """Runs the task; the ids of the samples that the model was asked."""
    model = Stub(answer)
    plans, session = planned([task], model, output)
    predict.run(plans, session)
    return model.asked


def age(*files: Path) -> None:
    """Gives all files the same time, long ago, as a program that keeps times does."""
    for file in files:
        os.utime(file, (OLD, OLD))


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Ten pictures of equal size and time with a question each."""
    file = colours(tmp_path / "data", questions=1)
    pictures = sorted((tmp_path / "data" / "pictures").iterdir())
    for number, picture in enumerate(pictures):
        picture.write_bytes(b"P6 1 1 255\n" + bytes([number, 0, 0]))
    age(*pictures)
    return file


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are a moment old count as old ones, or no stamp would be tested here."""
    monkeypatch.setattr("evalkit.files.SETTLED", 0)


# --- which image a sample shows -------------------------------------------------------------------


def renamed(task: Path, old: str, new: str) -> None:
    """Makes the dataset show another image."""
    file = task.parent / "colours.jsonl"
    file.write_text(file.read_text().replace(f'"image": "{old}"', f'"image": "{new}"'))


def test_a_sample_that_shows_another_file_is_asked_again(task: Path, tmp_path: Path) -> None:
    assert len(asked_by(task, tmp_path / "out")) == 10
    renamed(task, "4.png", "5.png")
    assert asked_by(task, tmp_path / "out") == ["q4-0"]
    assert asked_by(task, tmp_path / "out") == []


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_a_sample_that_shows_another_member_is_asked_again(task: Path, tmp_path: Path, suffix: str) -> None:
    shutil.make_archive(str(task.parent / "pictures"), suffix, task.parent, "pictures")
    task.write_text(task.read_text().replace("images: pictures", f"images: pictures.{suffix}"))
    assert len(asked_by(task, tmp_path / "out")) == 10
    renamed(task, "4.png", "5.png")
    assert asked_by(task, tmp_path / "out") == ["q4-0"]


def test_an_archive_replaced_in_this_process_is_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    for content in (b"one", b"two"):
        other = tmp_path / "other.zip"
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr("x", content)
        age(other)
        os.replace(other, file)
        assert containers.read(str(file), "x", 100) == content


@pytest.mark.parametrize("way", ["rewritten", "replaced", "folder swapped"])
def test_an_image_of_equal_size_and_time_is_noticed(task: Path, tmp_path: Path, way: str) -> None:
    asked_by(task, tmp_path / "out")
    pictures = task.parent / "pictures"
    new = b"P6 1 1 255\n" + bytes([99, 0, 0])
    if way == "rewritten":
        (pictures / "4.png").write_bytes(new)
    elif way == "replaced":
        (tmp_path / "new").write_bytes(new)
        age(tmp_path / "new")
        os.replace(tmp_path / "new", pictures / "4.png")
    else:
        shutil.copytree(pictures, tmp_path / "copy")
        (tmp_path / "copy" / "4.png").write_bytes(new)
        age(*(tmp_path / "copy").iterdir())
        pictures.rename(tmp_path / "gone")
        (tmp_path / "copy").rename(pictures)
    age(pictures / "4.png")
    assert asked_by(task, tmp_path / "out") == ["q4-0"]


def test_an_image_replaced_while_it_is_answered_keeps_no_stamp(task: Path, tmp_path: Path) -> None:
    """The stub has read the old bytes when it answers; the new file is there when the answer is written."""
    picture = task.parent / "pictures" / "4.png"

    def replaced(request: Request) -> str:
        if request.id == "q4-0":
            picture.write_bytes(b"P6 1 1 255\n" + bytes([99, 0, 0]))
            age(picture)
        return "red"

    asked_by(task, tmp_path / "out", replaced)
    assert asked_by(task, tmp_path / "out") == ["q4-0"]


def test_a_moved_or_touched_image_is_the_same(task: Path, tmp_path: Path) -> None:
    asked_by(task, tmp_path / "out")
    pictures = task.parent / "pictures"
    os.utime(pictures / "4.png")
    shutil.copy(pictures / "5.png", pictures / "50.png")
    renamed(task, "5.png", "50.png")
    assert asked_by(task, tmp_path / "out") == []


def test_images_that_are_gone_keep_their_answers_but_another_name_does_not(
    task: Path, tmp_path: Path
) -> None:
    asked_by(task, tmp_path / "out")
    (task.parent / "pictures" / "4.png").unlink()
    assert asked_by(task, tmp_path / "out") == []
    renamed(task, "5.png", "never.png")
    with pytest.raises(DataError, match=r"not there: .*never\.png"):
        asked_by(task, tmp_path / "out")


def test_another_decoder_of_videos_is_compared_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This file is no video: only while its stamp fits is it taken for the one that was answered."""
    (tmp_path / "v.mp4").write_bytes(b"frames")
    sample = Sample("a", (ImageRef(str(tmp_path / "v.mp4"), "0/1x1"),), {}, ())
    answer = Prediction("a", "what?", "red", image_digests=("0" * 64,))
    entry = Entry(answer, stamps.Stamps(tmp_path, [sample.images]).of(sample))
    assert stamps.Shown(tmp_path).same(sample, entry)
    monkeypatch.setattr(containers, "_decoder", lambda: "av 99")
    assert not stamps.Shown(tmp_path).same(sample, entry)


def test_a_file_of_a_moment_ago_proves_nothing(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be written again within one tick of the clock and keep its times."""
    monkeypatch.setattr("evalkit.files.SETTLED", 10**18)
    asked_by(task, tmp_path / "out")
    (folder,) = (RunFolder(path) for path in (tmp_path / "out").iterdir())
    assert {entry.stamps[0][8:] for entry in folder.entries().values()} == {"."}
    assert asked_by(task, tmp_path / "out") == []  # by content


def test_lines_of_older_runs_are_compared_by_content(task: Path, tmp_path: Path) -> None:
    """They hold (bytes, mtime) of each file, which another file can have too."""
    asked_by(task, tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    as_schema_1(folder, [[14, OLD * 10**9]])
    assert asked_by(task, tmp_path / "out") == []
    renamed(task, "4.png", "5.png")
    assert asked_by(task, tmp_path / "out") == ["q4-0"]


# --- the dataset ----------------------------------------------------------------------------------


@pytest.fixture
def tasks(tmp_path: Path) -> list[Path]:
    """Two tasks with a dataset each, in one folder."""
    first = colours(tmp_path / "data", questions=1)
    second = first.with_name("shades_test.yaml")
    second.write_text(first.read_text().replace("colours.jsonl", "shades.jsonl"))
    shutil.copy(first.with_name("colours.jsonl"), first.with_name("shades.jsonl"))
    return [first, second]


@pytest.mark.parametrize(
    ("old", "new"),
    [("question 0?", "which colour?"), ('"red"', '"grey"'), ("q4-0", "q4-9")],
    ids=["prompts", "targets", "ids"],
)
def test_a_dataset_rewritten_while_an_earlier_task_runs_stops_its_run(
    tasks: list[Path], tmp_path: Path, old: str, new: str
) -> None:
    file = tasks[1].with_name("shades.jsonl")

    def rewriting(request: Request) -> str:
        file.write_text(file.read_text().replace(old, new))
        return "red"

    plans, session = planned(tasks, Stub(rewriting), tmp_path / "out")
    with pytest.raises(DataError, match=r"shades_test: its dataset changed after the run was planned"):
        predict.run(plans, session)
    assert scores_of(plans[0].folder)
    assert not plans[1].folder.entries()
    assert not scores_of(plans[1].folder)
    asked_by(tasks[1], tmp_path / "out")  # planned again, it runs


def test_targets_rewritten_before_scoring_stop_it(tasks: list[Path], tmp_path: Path) -> None:
    file = tasks[1].with_name("shades.jsonl")
    plans, session = planned(tasks[1:], Stub(red), tmp_path / "out")
    predict.predict(plans[0], session)
    file.write_text(file.read_text().replace('"red"', '"grey"'))
    with pytest.raises(DataError, match="its dataset changed"):
        predict.score(plans[0], DatasetCache([file.parent]))
    plans, session = planned(tasks[1:], Stub(red), tmp_path / "out")
    predict.run(plans, session)
    (score,) = scores_of(plans[0].folder)
    assert score.value == 0.0
    assert f"|targets:{plans[0].targets[:12]}|" in score.signature


def test_new_groups_or_sizes_are_scored_again(tmp_path: Path) -> None:
    """What decides a score beside the targets: the sizes of images, groups, clusters."""
    file = colours(tmp_path / "data", questions=1)
    lines = file.with_name("colours.jsonl")
    file.write_text(file.read_text() + "group_mean: true\n")

    def grouped(by: Callable[[int], str]) -> float:
        made = [json.loads(line) for line in lines.read_text().splitlines()]
        lines.write_text("".join(json.dumps({**m, "group": by(i)}) + "\n" for i, m in enumerate(made)))
        plans, session = planned([file], Stub(red), tmp_path / "out")
        predict.run(plans, session)
        return scores_of(plans[0].folder)[0].value

    assert grouped(lambda i: "a" if i < 5 else "b") == pytest.approx(0.5)
    assert grouped(lambda i: "a" if i < 3 else "b") == pytest.approx((1 / 3 + 4 / 7) / 2)


# --- what scoring uses ----------------------------------------------------------------------------


def decoder(file: Path, value: float) -> None:
    """A mask decoder whose numbers are all `value`: equal sizes for all."""
    arrays = {key: np.full(shape, value, np.float16) for key, shape in mask_decoder._SHAPES.items()}
    np.savez(file, **arrays)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A task about masks, two samples, with a mask decoder beside its data."""
    file = colours(tmp_path / "data", questions=1, images=2)
    line = {"size": [8, 8], "bbox": [1, 1, 4, 4], "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]], "question": "?"}
    lines = [json.dumps({"id": str(i), "image": f"{i}.png", **line}) + "\n" for i in range(2)]
    file.with_name("colours.jsonl").write_text("".join(lines))
    text = file.read_text().replace("parser: text", "parser: masks(decoder='d.npz')")
    file.write_text(text.replace("[exact_match]", "[mask_iou]"))
    return file


def test_another_mask_decoder_is_scored_again_and_named(masks: Path, tmp_path: Path) -> None:
    weights, signatures = masks.with_name("d.npz"), []
    for value in (0.0, 1.0):
        decoder(weights, value)
        age(weights)
        asked_by(masks, tmp_path / "out")
        (folder,) = (tmp_path / "out").iterdir()
        signatures.append(scores_of(RunFolder(folder))[0].signature)
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
        assert f"|parser:masks(decoder='d.npz', form='first', divisor=1023)#{digest}|" in signatures[-1]
    assert signatures[0] != signatures[1]


def test_a_mask_decoder_replaced_while_answers_are_read_is_not_mixed_in(masks: Path) -> None:
    decoder(masks.with_name("d.npz"), 0.0)
    parser = DatasetCache([masks.parent]).get(loader.load(str(masks))).parser
    before = parser.identity()
    decoder(masks.with_name("d.npz"), 1.0)
    assert parser.identity() == before


def test_older_signatures_that_name_no_decoder_still_compare() -> None:
    one, two = ("v:1|parser:masks(form='first')#mask decoder|n:2", "v:1|parser:masks(form='first')#ab12|n:2")
    assert scored_run.comparable(one, two) == ("v:1|parser:masks(form='first')|n:2",) * 2
    assert scored_run.comparable(two, two.replace("ab", "cd")) == (two, two.replace("ab", "cd"))


def test_another_version_of_a_tool_is_scored_again(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_by(task, tmp_path / "out")
    monkeypatch.setattr(ExactMatch, "tools", lambda self: "a tool 2.0")
    assert asked_by(task, tmp_path / "out") == []
    (folder,) = (tmp_path / "out").iterdir()
    assert "|tools:a tool 2.0|" in scores_of(RunFolder(folder))[0].signature


def test_other_code_of_evalkit_is_scored_again(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version alone does not tell while it is worked on."""
    asked_by(task, tmp_path / "out")
    (folder,) = (RunFolder(path) for path in (tmp_path / "out").iterdir())
    before = (folder.read_scores() or {})["inputs"]
    monkeypatch.setattr(provenance, "code", lambda *packages: "other code")
    monkeypatch.setattr(ExactMatch, "reduce", lambda self, rows, counts=None: 0.25)
    assert asked_by(task, tmp_path / "out") == []
    assert scores_of(folder)[0].value == 0.25
    assert (folder.read_scores() or {})["inputs"] != before


def test_a_list_of_ids_that_changes_makes_another_run(task: Path, tmp_path: Path) -> None:
    listed = task.with_name("ids.txt")
    task.write_text(task.read_text().replace("images: pictures", "images: pictures, only: ids.txt"))
    for wanted in ("q1-0 q2-0", "q1-0 q3-0"):
        listed.write_text(wanted)
        assert asked_by(task, tmp_path / "out") == wanted.split()


def test_a_font_is_the_one_that_was_hashed(tmp_path: Path) -> None:
    """Letters are drawn long after the questions were read."""
    font, data = tmp_path / "a.ttf", ImageFont.load_default(10).font_bytes
    font.write_bytes(data)
    copy = Path(ai2d._font(font))
    font.write_bytes(b"no font")
    assert copy.read_bytes() == data
    with pytest.raises(DataError, match=r"a\.ttf: is not a TrueType font"):
        ai2d._font(font)


def test_the_table_names_tests_that_there_are() -> None:
    here = Path(__file__).parent
    named = re.findall(r"`(test_\w+\.py)`((?: `\w+`,?)*)", (here.parent / "docs/reliability.md").read_text())
    assert len(named) > 30
    for file, names in named:
        there = re.findall(r"def (test_\w+)", (here / file).read_text())
        for name in re.findall(r"\w+", names):
            assert any(name in test for test in there), f"{file} has no test of {name}"
