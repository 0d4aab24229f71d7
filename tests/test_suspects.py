"""Annotations that are probably wrong: found by confident checkpoints that agree against them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_runs import load
from stub import checkpoint, colours
from stub_runs import Weighted, chance, right, wrong_at

import evalkit
from evalkit.cli.main import main
from evalkit.comparison import suspects
from evalkit.errors import UserError
from evalkit.evaluation import plan as planning
from evalkit.evaluation.predict import Session, run
from evalkit.geometry import rle
from evalkit.report.suspects import table
from evalkit.runs.store import RunFolder
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Selection
from evalkit.types import Prediction, Request
from evalkit.viewer import first_look


class Sure(Weighted):
    """A stub that is less sure where it is wrong, as models mostly are."""

    def __init__(self, answer: Callable[[Request], str], name: str) -> None:
        super().__init__(answer, name)
        self.name = name

    def predict(self, requests: Any, on_bad_image: Any = None) -> Iterator[Prediction]:
        known = {request.id: request for request in requests}
        for made in super().predict(requests, on_bad_image):
            wrong = made.text != right(known[made.id])
            sure = chance(made.id, self.name, "sure")
            yield dataclasses.replace(made, margin=2 * sure if wrong else 1 + 6 * sure)


def damaged(folder: Path, share: float = 0.05) -> tuple[Path, set[str]]:
    """The coloured pictures with a share of the answers exchanged, and which they are."""
    task = colours(folder, images=200)
    file = folder / "colours.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    chosen = sorted(lines, key=lambda line: chance(line["id"], "damage"))[: round(share * len(lines))]
    for line in chosen:
        line["answers"] = ["red" if line["answers"] == ["blue"] else "blue"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return task, {line["id"] for line in chosen}


def answered(task_file: Path, name: str, answer: Callable[[Request], str]) -> RunFolder:
    task = loader.load(str(task_file))
    datasets = dataset.DatasetCache([task_file.parent])
    candidate = checkpoint(Sure(answer, name), name)
    plan = planning.plan(datasets.get(task), candidate, Path("results"), Selection(None))
    run([plan], Session(candidate, datasets))
    return plan.folder


def precision(found: list[suspects.Suspect], wrong: set[str]) -> float:
    """The share of damaged labels among the first as many suspects."""
    return sum(s.id in wrong for s in found[: len(wrong)]) / len(wrong)


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_damaged_labels_are_found(tmp_path: Path) -> None:
    task, wrong = damaged(tmp_path / "data")
    runs = [answered(task, f"m{k}", wrong_at(0.1, seed=k)) for k in range(3)]
    alone, together = suspects.find(runs[:1]), suspects.find(runs)
    assert precision(alone, wrong) >= 0.7
    assert precision(together, wrong) >= 0.9
    assert precision(together, wrong) >= precision(alone, wrong)
    first = together[0]
    assert (first.runs, first.score) == (3, 0.0)
    assert 0 < first.suspicion <= first.confidence <= 1
    assert [s.suspicion for s in together] == sorted((s.suspicion for s in together), reverse=True)
    assert together[-1].suspicion > 0


def test_what_speaks_for_an_annotation() -> None:
    def answer(text: Any, score: float, confidence: float) -> Any:
        return suspects.Answer(text, score, confidence, "", "")

    def suspicion(*given: Any) -> float:
        found = suspects.suspect("t", "s", given)
        return 0.0 if found is None else found.suspicion

    sure = answer("dog", 0.0, 0.9)
    assert suspicion(sure) == pytest.approx(0.9)
    assert suspicion(sure, answer("DOG ", 0.0, 0.5)) == pytest.approx(0.7)
    assert suspicion(sure, answer("cat", 1.0, 0.9)) == 0.0  # another one agrees with the annotation
    assert suspicion(sure, answer("cow", 0.0, 0.5)) == pytest.approx(0.2)  # wrong, but not alike
    assert suspicion(answer("dog", 0.6, 1.0)) == 0.0
    assert suspicion(answer("cat", 1.0, 1.0)) == 0.0
    boxes = [{"box": [0, 0, 0.5, 0.5], "label": "cat"}, {"box": [0.5, 0.5, 1, 1], "label": "cat"}]
    moved = [{"box": [0, 0, 0.5, 0.4], "label": "cat"}]
    assert suspicion(answer(boxes, 0.0, 1.0), answer(moved, 0.0, 1.0)) == 1.0
    other = [{**moved[0], "label": "dog"}]
    assert suspicion(answer(boxes, 0.0, 1.0), answer(other, 0.0, 1.0)) == 0.0


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("a red bus on the street", "A red bus in a street", True),
        ("a red bus on the street", "two dogs play on the grass", False),
        ("two red", "red two", False),  # too short to be a sentence
        ("12", "12 ", True),
        ("a red bus on the street", "bus", False),
    ],
)
def test_sentences_that_say_the_same(one: str, other: str, alike: bool) -> None:
    assert suspects._alike(one, other) is alike
    assert suspects._alike(other, one) is alike


def test_masks_that_say_the_same() -> None:
    """By their pixels: two bars that cross have one box and little in common."""

    def mask(runs: list[int]) -> list[dict[str, Any]]:
        found = rle.rle({"size": [8, 8], "counts": runs}, (8, 8))
        coded = {"size": [8, 8], "counts": found["counts"].decode()}
        return [{"box": [0, 0, 1, 1], "label": "bar", "rle": coded}]

    left, more, right = mask([0, 32, 32]), mask([0, 40, 24]), mask([32, 32])
    assert suspects._alike(left, left)
    assert suspects._alike(left, more)  # 32 of 40 pixels
    assert not suspects._alike(left, right)
    assert not suspects._alike(left, [{**left[0], "label": "star"}])


def test_captions_that_are_damaged_are_found(tmp_path: Path) -> None:
    """Two checkpoints word the same thing in two ways."""
    task, wrong = damaged(tmp_path / "data")
    file = tmp_path / "data/colours.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text(
        "".join(
            json.dumps({**line, "answers": [f"a picture that is {line['answers'][0]} all over"]}) + "\n"
            for line in lines
        )
    )
    task.write_text(task.read_text().replace("exact_match", "cider"))
    runs = [
        answered(task, name, lambda request, words=words: f"{words} {right(request)} all over")
        for name, words in {"a": "a picture that is", "b": "the picture shows"}.items()
    ]
    assert precision(suspects.find(runs), wrong) >= 0.75  # measured: 0.8


def test_the_table_and_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, wrong = damaged(tmp_path / "data")
    answered(task, "m", right)
    capsys.readouterr()
    assert main(["suspects", "results", "--top", "3", "--output", "suspects.jsonl"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == [
        "suspicion", "task", "sample", "answered", "by", "score", "confidence"
    ]  # fmt: skip
    assert out.splitlines()[1].split()[-5:-2] == ["1", "of", "1"]
    assert f"{len(wrong) - 3} more, --output FILE has all" in out
    lines = [json.loads(line) for line in Path("suspects.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == wrong
    assert lines[0].keys() >= {"task", "id", "suspicion", "answer", "agreeing", "runs", "score", "image"}
    assert f"suspects.jsonl: {len(wrong)} samples" in err


def test_runs_of_other_annotations_are_refused(tmp_path: Path) -> None:
    task, _ = damaged(tmp_path / "data")
    first = answered(task, "a", right)
    file = task.parent / "colours.jsonl"
    file.write_text(file.read_text().replace('"red"', '"green"', 1))
    with pytest.raises(UserError, match="were scored against other annotations"):
        suspects.find([first, answered(task, "b", right)])


def test_where_nothing_speaks_against_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answered(colours(tmp_path / "data"), "m", right)
    capsys.readouterr()
    assert main(["suspects", "results"]) == 0
    assert "no sample is answered with confidence against its annotation" in capsys.readouterr().out
    Path("nothing").mkdir()
    assert main(["suspects", "nothing"]) == 2  # a folder without runs is no all-clear
    assert "nothing: holds no runs" in capsys.readouterr().err


def test_boxes_are_told_by_their_labels() -> None:
    box = {"box": [0.1, 0.2, 0.3, 0.4], "label": "ring"}
    bare = {"box": [0.1, 0.2, 0.3, 0.4], "label": ""}
    shown = [
        table([suspects.Suspect("t", "s", 0.5, answer, 1, 1, 0, 1, "", "")], 1).splitlines()[1]
        for answer in ([box, {**box, "label": "star"}], [bare, bare], [bare], [])
    ]
    assert ["ring, star" in shown[0], "2 boxes" in shown[1], "1 box " in shown[2], "[]" in shown[3]] == [
        True
    ] * 4


def told(runs: list[RunFolder], folder: Path) -> list[str]:
    """What a report says first of annotations."""
    evalkit.build_report([run.path for run in runs], output=folder)
    first = load(folder / "data/report.js")[1]["look_first"]
    return [each["text"] for each in first if "annotation" in each["text"]]


def test_a_checkpoint_that_answers_badly_accuses_no_annotation(tmp_path: Path) -> None:
    """One alone is believed where it is right nearly everywhere else; several where they agree."""
    task, wrong = damaged(tmp_path / "data")
    good = answered(task, "good", right)
    weak = [answered(task, f"weak{k}", wrong_at(0.4, seed=k)) for k in range(2)]

    def accused(*runs: RunFolder) -> list[str]:
        return [s.id for s in suspects.find(runs) if s.suspicion >= first_look.SURE]

    assert accused(weak[0]) == []
    assert {*accused(good)} <= wrong
    assert len(accused(good)) >= 0.5 * len(wrong)
    both = suspects.find(weak)
    assert {s.trust for s in both if s.agreeing > 1} == {1.0}
    assert all(s.trust < 0.1 for s in both if s.agreeing == 1)
    alone = suspects.find(weak[:1])
    assert sum(s.suspicion / s.trust >= first_look.SURE for s in alone) > 20  # accused without it
    assert suspects.record(alone[0])["trust"] == round(alone[0].trust, 4)
    assert "wrong too often to be believed" in table(suspects.find(weak[:1]), 5)
    assert "wrong too often" not in table(suspects.find([good]), 5)

    (text,) = told([good], tmp_path / "a")
    assert "annotations are probably wrong: sure answers of a checkpoint that is right nearly" in text
    (text,) = told(weak[:1], tmp_path / "b")
    assert re.search(r": [\d,]+ sure answers speak against the annotation, but no other checkpoint is "
                     r"here to say so too, and this one is wrong in 4\d % of all", text)  # fmt: skip


def test_what_one_checkpoint_s_word_is_worth() -> None:
    assert suspects.trust([1.0] * 1000) == 1.0
    assert suspects.trust([1.0] * 967 + [0.0] * 33) == pytest.approx(1.0, abs=0.03)
    assert suspects.trust([1.0] * 900 + [0.0] * 100) == pytest.approx(0.33, abs=0.01)
    assert suspects.trust([float("nan")] * 50 + [0.9] * 5) == pytest.approx(0.033 * 6)  # few say little
    assert suspects.trust([]) == pytest.approx(0.033)
