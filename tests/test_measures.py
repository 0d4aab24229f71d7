"""Detection without confidences, parts of scores and how they are shown, errors by kind."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from own_lines import run, write
from stub import Stub

import evalkit
from evalkit import registry
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.runs import store
from evalkit.types import Box, Score

SIZE = [64, 64]


def loc(x: int, y: int, w: int, h: int) -> str:
    """A box in pixels of a 64 x 64 image as location tokens."""
    return "".join(f"<loc{round(v / 64 * 1023):04}>" for v in (y, x, y + h, x + w))


def thing(name: str, x: int, y: int, w: int, h: int, crowd: int = 0) -> dict[str, Any]:
    return {"category": name, "bbox": [x, y, w, h], "iscrowd": crowd}


def box(name: str, x: float, y: float, w: float, h: float) -> Box:
    return Box(y / 64, x / 64, (y + h) / 64, (x + w) / 64, name)


def target(*things: dict[str, Any], names: tuple[str, ...] = ("cat", "dog")) -> dict[str, Any]:
    objects = [{**t, "box": t["bbox"], "area": t["bbox"][2] * t["bbox"][3]} for t in things]
    return {"size": (64, 64), "image_id": 0, "categories": names, "objects": objects}


def scored(spelling: str, answers: list[Any], targets: list[Any]) -> float:
    metric = registry.make("metrics", spelling)
    return float(metric.reduce(metric.rows(answers, targets)))


def scores() -> list[Score]:
    (folder,) = store.find([Path("results")])
    return store.scores_of(folder)


# --- detection without confidences ---------------------------------------------------------------------

ANSWER = (
    box("cat", 0, 0, 20, 20),  # right
    box("dog", 30, 30, 20, 20),  # a cat
    box("dog", 0, 40, 10, 10),  # nothing there
    box("owl", 50, 0, 10, 10),  # no category, where a dog is
)
TARGET = target(
    thing("cat", 0, 0, 20, 20),
    thing("cat", 30, 30, 20, 20),
    thing("dog", 50, 0, 10, 10),
    thing("dog", 0, 20, 9, 9),
)


def test_detections_are_counted_by_what_they_are() -> None:
    metric = registry.make("metrics", "detection_f1")
    rows = metric.rows([ANSWER], [TARGET])
    assert metric.reduce(rows) == pytest.approx(2 * 1 / (4 + 4))
    assert metric.details(rows) == pytest.approx(
        {"precision": 1 / 4, "recall": 1 / 4, "F1": 1 / 4, "macro F1": (2 / 3 + 0) / 2}
    )
    parts = metric.breakdowns(rows)
    assert parts["confusion"] == {
        "(background)": {"dog": 1},
        "cat": {"cat": 1, "dog": 1},
        "dog": {"(no category)": 1, "(background)": 1},
    }
    assert parts["class"]["cat"] == {
        "precision": 1.0, "recall": 0.5, "F1": pytest.approx(2 / 3), "right": 1, "given": 1, "wanted": 2
    }  # fmt: skip
    assert parts["class"]["(no category)"] == {
        "precision": 0.0,
        "F1": 0.0,
        "right": 0,
        "given": 1,
        "wanted": 0,
    }
    assert metric.remarks([ANSWER], [TARGET]) == {
        "boxes with a label that is no category": 1,
        "of them 'owl'": 1,
    }


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        ("detection_f1(agnostic=True)", 2 * 3 / 8),
        ("detection_f1(iou=0.9)", 2 / 8),
        ("detection_f1(average='macro')", 1 / 3),
        ("detection_f1(figure='count_error')", 0.0),
    ],
)
def test_figures_of_detections(spelling: str, value: float) -> None:
    assert scored(spelling, [ANSWER], [TARGET]) == pytest.approx(value)


def test_each_object_is_found_once_and_the_best_pair_goes_first() -> None:
    wide, near, there = box("cat", 0, 0, 20, 28), box("cat", 0, 0, 20, 21), thing("cat", 0, 0, 20, 20)
    for answer in ((wide, near), (near, wide)):
        rows = registry.make("metrics", "detection_f1").rows([answer], [target(there)])
        assert sorted(rows[0]["pairs"]) == [["(background)", "cat"], ["cat", "cat"]]
    # the first detection overlaps both objects, the second one of them: both objects are found
    two = [thing("cat", 0, 0, 20, 20), thing("cat", 0, 8, 20, 20)]
    assert (
        scored(
            "detection_f1(iou=0.4)", [(box("cat", 0, 3, 20, 20), box("cat", 0, 0, 20, 19))], [target(*two)]
        )
        == 1
    )


def test_crowds_and_exact_halves() -> None:
    crowd = target(thing("cat", 0, 0, 60, 60, crowd=1), thing("dog", 0, 0, 10, 10))
    inside = (box("cat", 5, 5, 10, 10), box("dog", 0, 0, 10, 20))  # an IoU of exactly one half
    rows = registry.make("metrics", "detection_f1").rows([inside], [crowd])
    assert rows == [{"pairs": [["dog", "dog"]], "off": 0}]
    rows = registry.make("metrics", "detection_f1").rows([(box("owl", 5, 5, 10, 10),)], [crowd])
    assert rows[0]["pairs"] == [["(background)", "(no category)"], ["dog", "(background)"]]


def test_unreadable_answers_and_empty_images() -> None:
    empty, one = target(), target(thing("cat", 0, 0, 9, 9))
    metric = registry.make("metrics", "detection_f1(figure='count_error')")
    assert [row["off"] for row in metric.rows([None, (), None, ()], [empty, empty, one, one])] == [1, 0, 1, 1]
    assert scored("detection_f1", [()], [empty]) != scored("detection_f1", [()], [empty])  # NaN: undefined
    assert scored("detection_f1(figure='precision')", [()], [one]) == 0.0
    assert scored("detection_f1", [(box("cat", 0, 0, 9, 9),)], [empty]) == 0.0


@pytest.mark.parametrize(
    ("spelling", "why"),
    [
        ("detection_f1(iou=0.0)", "iou=0.0: must be above 0"),
        ("detection_f1(average='macro', figure='recall')", "average='macro' is of f1"),
    ],
)
def test_wrong_parameters(spelling: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        registry.make("metrics", spelling)


# --- parts of a score, from the command line -------------------------------------------------------------

LINES = [
    {"size": SIZE, "objects": [thing("cat", 0, 0, 20, 20), thing("dog", 30, 30, 20, 20)], "group": "day"},
    {"size": SIZE, "objects": [thing("cat", 10, 10, 20, 20)], "group": "night"},
    {"size": SIZE, "objects": [], "group": "night"},
]
TEXTS = [
    f"{loc(0, 0, 20, 20)} cat ; {loc(30, 30, 20, 20)} cat",
    f"{loc(10, 10, 20, 20)} cat ; {loc(40, 40, 9, 9)} dog",
    "",
]


@pytest.fixture
def detected(tmp_path: Path, model: Stub) -> Path:
    """A run of three images that is scored by two metrics."""
    file = write(tmp_path / "data", LINES, "boxes", "detection_f1")
    file.write_text(file.read_text().replace('"detection_f1"', '"detection_f1", "coco_ap"'))
    model.answer = lambda request: TEXTS[int(request.id)]
    assert run("data/t.yaml") == 0
    return tmp_path


@pytest.mark.usefixtures("detected")
def test_a_table_of_classes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.report.columns.SHEET", 200)  # else it is cut into parts
    capsys.readouterr()
    assert main(["table", "results", "--per", "class"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == [
        "task", "metric", "model", "class", "AP", "AP50", "AR100", "precision", "recall", "F1",
        "right", "given", "wanted", "images",
    ]  # fmt: skip
    cat, dog = [re.split(" {2,}", line) for line in out[1:3]]
    assert cat[:4] == ["t", "coco_ap", "m", "cat"]
    assert cat[4] != "–"
    shares = [re.fullmatch(r"(66\.7|100\.0|80\.0) \[\d\d?\.\d, (9\d|100)\.\d\]", text) for text in cat[7:10]]
    assert [found and found[1] for found in shares] == ["66.7", "100.0", "80.0"]
    assert cat[10:] == ["2", "3", "2", "2"]
    assert dog[7:9] == ["0.0", "0.0"], "one image alone shows what is detected, and one what is there"
    assert dog[10:] == ["0", "1", "1", "2"]
    assert "detection_f1" not in "".join(out), "its figures stand in AP's lines"
    assert out[-3:] == [
        "shares × 100; whole numbers are counts",
        "± half of the 95 % interval, [both ends] where it is uneven (clustered by image); "
        "none where one image alone shows it",
        "fewer than 100 images, so the interval is rough: cat (2), dog (2)",
    ]
    (folder,) = store.find([Path("results")])
    file = json.loads((folder.path / "scores.json").read_text())
    stored = file["scores"][1]["breakdowns"]["class"]["cat"]
    assert 0 <= stored["AP low"] <= stored["AP"] <= stored["AP high"] <= 1
    assert main(["score", "results", "--per", "class"]) == 0
    assert out[1] in capsys.readouterr().out


@pytest.mark.usefixtures("detected")
def test_parts_for_programs() -> None:
    found = json.loads(evalkit.table("results", format="json", per="class"))
    assert [(f["metric"], f["class"], f["F1"]) for f in found] == [
        ("detection_f1", "cat", 0.8), ("detection_f1", "dog", 0.0),
        ("coco_ap", "cat", 0.8), ("coco_ap", "dog", 0.0),
    ]  # fmt: skip
    assert found[0]["AP"] is None
    assert found[2]["AP"] == pytest.approx(scores()[1].value * 2)  # the mean over two classes, one of them 0
    lines = list(csv.DictReader(io.StringIO(evalkit.table("results", format="csv", per="confusion"))))
    assert {(line["true"], line["answered"]): line["n"] for line in lines} == {
        ("cat", "cat"): "2", ("dog", "cat"): "1", ("(background)", "dog"): "1",
    }  # fmt: skip


@pytest.mark.usefixtures("detected")
def test_the_confusion_matrix_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["score", "results", "--per", "confusion"]) == 0
    out = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(out) if line.startswith("true"))
    assert [line.split() for line in out[at : at + 4]] == [
        ["true", "cat", "dog", "(background)"], ["cat", "2", "0", "0"], ["dog", "1", "0", "0"],
        ["(background)", "0", "1", "0"],
    ]  # fmt: skip
    assert "a row is a true class" in out[at + 5]
    assert main(["table", "results", "--per", "group"]) == 0
    assert [line.split()[3:5] for line in capsys.readouterr().out.splitlines()[1:3]] == [
        ["day", "50.0"], ["night", "66.7"],
    ]  # fmt: skip


@pytest.mark.usefixtures("detected")
def test_large_matrices_are_listed() -> None:
    from evalkit.report import breakdowns, leaderboard

    (folder,) = store.find([Path("results")])
    cell = leaderboard.collect([folder])[0]
    matrix = {f"c{a:02}": {f"c{(a + 1) % 20:02}": a} for a in range(20)}
    score = Score(
        **{**{f: getattr(cell.score, f) for f in Score.__slots__}, "breakdowns": {"confusion": matrix}}
    )
    text = breakdowns.table([leaderboard.Cell(score, "r", "m", ())], "md", "confusion")
    assert text.splitlines()[2] == "| c19 | c00 | 19 |"
    assert "the 20 commonest of 20 confusions" in text


@pytest.mark.usefixtures("detected")
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--per", "clas"], "--per clas: no score has it; did you mean class"),
        (["--per", "class", "--shape", "wide"], "--per class: is a table of its own"),
        (["--per", "class", "--format", "lm-eval"], "--per class: is a table of its own"),
    ],
)
def test_parts_that_are_not_there(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "results", *words]) == 2
    assert why in capsys.readouterr().err


# --- kinds of errors, and what causes them -----------------------------------------------------------------


def test_errors_are_shown_with_their_causes(
    tmp_path: Path, model: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"size": SIZE, "objects": [thing("cat", 10, 10, 20, 20), thing("dog", 40, 40, 10, 10)]}] * 3
    write(tmp_path / "data", lines, "boxes", "tide")
    texts = [
        f"{loc(10, 10, 20, 20)} dog ; {loc(10, 10, 20, 20)} dog ; {loc(0, 0, 64, 64)} cat",
        f"{loc(10, 10, 20, 20)} cat ; {loc(12, 10, 20, 20)} cat ; {loc(48, 48, -8, -8)} dog",
        f"{loc(14, 14, 20, 20)} cat ; {loc(50, 0, 10, 10)} dog",
    ]
    model.answer = lambda request: texts[int(request.id)]
    assert run("data/t.yaml") == 0
    (score,) = scores()
    assert score.remarks == {
        "have a box whose corners are in the wrong order": 1,
        "boxes around the whole image": 1,
        "boxes that the answer repeats": 1,
    }
    counts = {name: row["n"] for name, row in score.breakdowns["error"].items()}
    assert counts == {
        "classification": 2, "localisation": 1, "both": 0, "duplicate": 1, "background": 2, "missed": 3,
        "false positive": 6, "false negative": 5,
    }  # fmt: skip
    capsys.readouterr()
    assert main(["table", "results", "--per", "error"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["task", "metric", "model", "error", "n", "ΔAP"]
    assert "missed: answers that were cut, more objects than in training" in out
    assert "corners are in the wrong order: targets written as x y x y" in out
    (folder,) = store.find([Path("results")])
    assert main(["explain", str(folder.path)]) == 0
    out = capsys.readouterr().out
    assert "! cause        1 boxes around the whole image: a prompt that it was not trained for" in out
    assert "! error        missed: 3, ΔAP " in out


def test_answers_that_were_cut_are_said_with_their_limit(
    tmp_path: Path, model: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    from evalkit.report import causes
    from evalkit.types import CUT

    score = Score("t", "m", "", 0.5, None, None, 20, 20, "all", 0, remarks={CUT: 12})
    assert list(causes.odd(score, {"decode": {"max_new_tokens": 128}})) == [
        "12 of 20 answers were cut at 128 new tokens: raise decode.max_new_tokens to the longest target"
    ]


def test_equal_scores_keep_one_order_when_errors_are_mended() -> None:
    """Mending must not cost AP because of the order of detections that are ranked alike."""
    good, bad = target(thing("cat", 0, 0, 20, 20)), target(thing("cat", 0, 0, 20, 20))
    answers = [(box("cat", 0, 0, 20, 20),), (box("dog", 0, 0, 20, 20), box("cat", 40, 40, 9, 9))]
    metric = registry.make("metrics", "tide")
    rows = metric.rows(answers, [good | {"image_id": 0}, bad | {"image_id": 1}])
    errors = metric.breakdowns(rows)["error"]
    assert errors["background"] == {"n": 1, "ΔAP": 0.0}  # it is the last of its class
    assert errors["classification"]["n"] == 1
    assert errors["classification"]["ΔAP"] > 0.5


def test_empty_masks_are_counted() -> None:
    from pycocotools import mask as cocomask

    from evalkit.types import Mask

    coded = cocomask.frPyObjects({"size": [64, 64], "counts": [64 * 64]}, 64, 64)
    answer = (Mask((64, 64), coded["counts"].decode(), box("cat", 0, 0, 9, 9), "cat"),)
    metric = registry.make("metrics", "coco_ap")
    assert metric.remarks([answer], [target(thing("cat", 0, 0, 9, 9))]) == {"masks without a pixel": 1}


# --- a confidence sweep -------------------------------------------------------------------------------------


def test_a_threshold_is_chosen_on_one_half_and_stated_on_the_other() -> None:
    """Right boxes have a confidence of .6 or more, wrong ones of .5 or less."""
    answers, targets = [], []
    for n in range(40):
        sure, unsure = 0.6 + n / 100, 0.5 - n / 100
        good, bad = box("cat", 0, 0, 20, 20), box("cat", 40, 40, 9, 9)
        answers.append((replace(bad, class_score=unsure), replace(good, class_score=sure)))
        targets.append(target(thing("cat", 0, 0, 20, 20)) | {"image_id": n})
    metric = registry.make("metrics", "sweep_f1")
    rows = metric.rows(answers, targets)
    assert {row["half"] for row in rows} == {0, 1}
    least = min(score for row in rows if not row["half"] for score, right in row["boxes"] if right)
    parts = metric.breakdowns(rows)["threshold"]
    assert parts["chosen"]["threshold"] == least
    assert parts["chosen"]["low"] <= least <= parts["chosen"]["high"]
    scored_half = [row for row in rows if row["half"]]
    found = sum(score >= least for row in scored_half for score, right in row["boxes"] if right)
    assert metric.reduce(rows) == pytest.approx(2 * found / (found + len(scored_half)))
    assert metric.details(rows) == {"F1 of all": pytest.approx(2 / 3)}
    assert list(parts.values())[1]["F1"] == pytest.approx(2 / 3)  # all detections


def test_crowds_duplicates_and_equal_confidence_in_a_sweep() -> None:
    there = target(thing("cat", 0, 0, 20, 20), thing("dog", 0, 0, 60, 60, crowd=1))
    answer = (
        box("cat", 0, 0, 20, 20),
        box("cat", 0, 0, 20, 19),
        box("dog", 5, 5, 9, 9),
        box("owl", 5, 5, 9, 9),
    )
    metric = registry.make("metrics", "sweep_f1")
    rows = metric.rows([answer], [there])
    assert sorted(right for _, right in rows[0]["boxes"]) == [0, 0, 1]  # the dog lies in a crowd
    assert metric.reduce(rows) == pytest.approx(2 / (3 + 1))  # alike in confidence, so taken together
    assert metric.reduce(metric.rows([()], [there])) == 0.0


def test_categories_that_a_question_does_not_ask_for_are_told_from_strange_labels() -> None:
    asked = [target(names=("cat",)), target(names=("dog",))]
    answers = [(box("dog", 0, 0, 9, 9), box("owl", 0, 0, 9, 9)), ()]
    for name in ("coco_ap", "detection_f1"):
        assert registry.make("metrics", name).remarks(answers, asked) == {
            "boxes of a category that was not asked for": 1,
            "boxes with a label that is no category": 1,
            "of them 'owl'": 1,
        }
