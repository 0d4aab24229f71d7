"""Format, parser and metric fit together, or are refused before a model loads; one task fails alone."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_lines import run, write
from stub import Stub, colours
from stub_runs import right

import evalkit
from evalkit import registry
from evalkit.api import Runs
from evalkit.cli.main import main
from evalkit.errors import TasksFailed, UserError
from evalkit.runs import store
from evalkit.tasks import contract, dataset, loader
from evalkit.types import TARGETS, target_kinds

BOX = {"size": [8, 8], "bbox": [0, 0, 4, 4]}
SQUARE = [[0, 0, 4, 0, 4, 4, 0, 4]]
THING = {"category": "cat", "bbox": [0, 0, 4, 4]}
LINES: dict[str, dict[str, Any]] = {
    "texts": {"answer": "red"},
    "box": BOX,
    "mask": {**BOX, "segmentation": SQUARE},
    "objects": {"size": [8, 8], "objects": [THING]},
    "object masks": {"size": [8, 8], "objects": [{**THING, "segmentation": SQUARE}]},
}
KINDS = {  # what a line's target is, in every kind that it can be scored as
    "texts": {"texts"},
    "box": {"box"},
    "mask": {"box", "mask"},
    "objects": {"objects"},
    "object masks": {"objects", "object masks"},
}
PARSERS = ("text", "boxes")
INNER = ("group_mean", *loader.CONFIDENCE_METRICS)  # take what the metric takes that they are of
METRICS = [name for name in registry.names("metrics") if name not in INNER]


# --- what is declared ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_declares_what_it_takes(name: str) -> None:
    assert set(registry.find("metrics", name).takes) <= set(TARGETS)
    assert registry.find("metrics", name).takes


@pytest.mark.parametrize("name", registry.names("formats"))
def test_every_format_declares_what_it_gives(name: str) -> None:
    assert set(registry.find("formats", name).gives) <= set(TARGETS)
    assert registry.find("formats", name).gives


def test_every_task_that_comes_along_fits() -> None:
    """`test_every_task.py` reads their data in the official form, which is checked there too."""
    tasks = [loader.load(name) for name in loader.names()]
    assert len(tasks) > 120
    for task in tasks:
        assert task.metrics or task.not_scored
        assert contract.used(task) is not None


def test_what_depends_on_parameters() -> None:
    masks = registry.make("metrics", "coco_ap(region='masks')")
    assert (masks.wants, masks.takes) == (("masks",), ("object masks",))
    mean = registry.make("metrics", "group_mean(of=\"coco_ap(region='masks')\")")
    assert (mean.wants, mean.takes) == (masks.wants, masks.takes)
    assert registry.make("formats", "hub(bbox='box')").gives == ("box",)
    assert registry.make("formats", "questions(choices='c', correct='k')").gives == ("texts",)


@pytest.mark.parametrize("kind", LINES)
def test_the_kinds_of_a_target(tmp_path: Path, kind: str) -> None:
    file = write(tmp_path / "data", [LINES[kind]], "text", "exact_match")
    fmt, source = (
        registry.make("formats", "jsonl"),
        dataset.sources.locate(loader.load(str(file)), [tmp_path / "data"]),
    )
    (sample,) = fmt.samples(source, "test")
    assert target_kinds(sample.target) == KINDS[kind]


def test_kinds_that_only_official_formats_give() -> None:
    assert target_kinds({"answers": ("True",), "pair": "p"}) == {"texts", "pair"}
    assert target_kinds({"answers": ("2",), "type": "count"}) == {"texts", "type"}
    assert target_kinds({"answers": ("2",), "id": "1"}) == {"texts", "question"}
    assert target_kinds({"size": (1, 1), "words": []}) == {"words"}
    assert target_kinds(()) == target_kinds(None) == frozenset()


# --- every pairing of target, parser and metric ----------------------------------------------------------

PARTICULAR = {"yes_no", "json_fields", "json_match", "ted", "mean_absolute_error"}  # not every text will do


@pytest.mark.parametrize("kind", LINES)
def test_every_pairing_fits_or_is_refused(tmp_path: Path, kind: str) -> None:
    refused = 0
    for metric in [*METRICS, "coco_ap(region='masks')"]:
        made = registry.make("metrics", metric)
        for parser in PARSERS:
            file = write(tmp_path / "data", [LINES[kind]] * 3, parser, metric)
            reads = registry.make("parsers", parser).kind in made.wants
            fits = reads and not KINDS[kind].isdisjoint(made.takes)
            sound = metric not in PARTICULAR
            with contextlib.nullcontext() if fits and sound else pytest.raises(UserError) as caught:
                dataset.dataset(loader.load(str(file)), [tmp_path / "data"])
            if caught is not None:
                refused += 1
                assert str(caught.value).startswith(f"{file}: metrics: {metric}")
                assert "there are: " in str(caught.value) or not sound
    assert refused > len(METRICS)


@pytest.mark.parametrize(
    ("kind", "parser", "metric", "alone"),
    [
        ("texts", "boxes", "coco_ap", False),
        ("texts", "boxes", "box_accuracy", False),
        ("objects", "text", "cider", False),
        ("objects", "boxes", "box_iou", False),
        ("texts", "words", "hiertext_f1", True),
        ("texts", "text", "paired_accuracy", True),
        ("texts", "text", "box_iou", True),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    tmp_path: Path, model: Stub, kind: str, parser: str, metric: str, alone: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """`alone`: the file says it, without the data."""
    file = write(tmp_path / "data", [LINES[kind]] * 3, parser, metric)
    for words in (
        ["validate", str(file), *([] if alone else ["--data", "--data-root", "data"])],
        ["data", str(file), "--check", "--data-root", "data"],
        ["run", "--model", "m", "--tasks", str(file), "--data-root", "data", "--dry-run"],
        ["run", "--model", "m", "--tasks", str(file), "--data-root", "data"],
    ):
        assert main(words) == 2, words
        told = "".join(capsys.readouterr())
        assert f"{file}: metrics: {metric} " in told, words
        assert "there are: " in told, words
    assert model.asked == []
    assert not Path("results").exists()


def test_the_names_that_fit_are_said(tmp_path: Path) -> None:
    file = write(tmp_path / "data", [LINES["objects"]], "text", "cider")
    with pytest.raises(UserError) as caught:
        dataset.dataset(loader.load(str(file)), [tmp_path / "data"])
    assert str(caught.value) == (
        f"{file}: metrics: cider scores targets of kind texts, but 1 of 1 samples have objects, the first "
        "is 0; with a parser that gives boxes or masks there are: coco_ap, detection_f1, sweep_f1, tide"
    )


def test_boxes_written_as_tokens_are_named(tmp_path: Path) -> None:
    """Fine-tuning files hold the boxes as the text that the model is to write."""
    line = {"suffix": "<loc0100><loc0100><loc0200><loc0200> cat"}
    file = write(tmp_path / "data", [line], "boxes", "coco_ap")
    with pytest.raises(UserError, match=r"coco_ap scores .* have texts.*not <loc> tokens: docs/data.md"):
        dataset.dataset(loader.load(str(file)), [tmp_path / "data"])


def test_one_line_of_another_kind_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "data", [*[LINES["texts"]] * 9, LINES["box"]], "text", "exact_match")
    with pytest.raises(UserError, match=r"1 of 10 samples have box, the first is 9; the others have texts$"):
        dataset.dataset(loader.load(str(file)), [tmp_path / "data"])


def test_a_source_with_a_format_of_its_own_counts(tmp_path: Path) -> None:
    file = write(tmp_path / "data", [LINES["box"]], "boxes", "box_iou")
    text = file.read_text().replace("images: pictures}", "images: pictures, format: questions}")
    file.write_text(text)
    with pytest.raises(
        UserError, match=r"metrics: box_iou scores .* kind box, but format questions gives texts"
    ):
        loader.load(str(file))


def test_yes_no_takes_only_yes_and_no(tmp_path: Path) -> None:
    """Any other target counted as a yes."""
    lines = [{"answer": "Yes"}, {"answer": "no"}, {"answer": "three"}]
    file = write(tmp_path / "data", lines, "text", "yes_no")
    with pytest.raises(
        UserError, match=r"metrics: yes_no: the target of sample 2 is 'three'; it must be yes or no"
    ):
        dataset.dataset(loader.load(str(file)), [tmp_path / "data"])


def test_a_mean_over_groups_needs_rows_that_add_up(tmp_path: Path) -> None:
    file = write(tmp_path / "data", [LINES["objects"]], "boxes", "coco_ap")
    file.write_text(file.read_text() + "group_mean: true\n")
    with pytest.raises(UserError, match="group_mean: coco_ap has no rows that add up"):
        loader.load(str(file))
    file = write(tmp_path / "data", [{**LINES["texts"], "group": "en"}], "text", "exact_match")
    file.write_text(file.read_text() + "group_mean: {without: [de]}\n")
    with pytest.raises(UserError, match="group_mean: without: no group 'de'; there are: en"):
        dataset.dataset(loader.load(str(file)), [tmp_path / "data"])


@pytest.mark.parametrize("name", ["bleu", "cider", "rouge_l", "error_rates", "teds", "grits", "smiles_match"])
def test_every_text_metric_reads_answers_with_more_beside_them(name: str) -> None:
    """A target like NLVR2's, {answers, pair}, was read as the references "answers" and "pair"."""
    metric, texts = registry.make("metrics", name), ("<table><tr><td>CC O</td></tr></table>",)
    plain = np.asarray(metric.rows([texts[0], "answers"], [texts, texts]))
    rich = np.asarray(metric.rows([texts[0], "answers"], [{"answers": texts, "pair": "p"}] * 2))
    assert np.array_equal(plain, rich)


OWN = """
from dataclasses import dataclass
import numpy as np
from evalkit.metrics.exact_match import ExactMatch
from evalkit.types import Metric

@dataclass(frozen=True)
class Free(Metric):
    def rows(self, answers, targets):
        return np.array([[float(len(t["objects"])), 1.0] for t in targets])

@dataclass(frozen=True)
class Derived(ExactMatch):
    def rows(self, answers, targets):
        return np.array([[float(len(t["objects"])), 1.0] for t in targets])

@dataclass(frozen=True)
class Stated(Free):
    takes = ("texts",)

@dataclass(frozen=True)
class Broken(Metric):
    def rows(self, answers, targets):
        return [t["nothing"] for t in targets]
"""


def test_own_code_is_checked_where_it_declares(tmp_path: Path, model: Stub) -> None:
    for name, status in (("Free", 0), ("Derived", 0), ("Stated", 2)):
        write(tmp_path / "data", [LINES["objects"]], "text", f"module:own.py:{name}")
        (tmp_path / "data" / "own.py").write_text(OWN)
        assert run("data/t.yaml", more=["--allow-code", "--output-path", name]) == status
    assert store.scores_of(store.find([Path("Free")])[0])[0].value == 1.0


# --- one task's failure ----------------------------------------------------------------------------------


def two_and_a_third(folder: Path, metric: str = "exact_match") -> list[str]:
    write(folder, [LINES["texts"]] * 3, "text", "exact_match", "first")
    write(folder, [LINES["texts"]] * 3, "text", metric, "bad")
    write(folder, [LINES["texts"]] * 3, "text", "exact_match", "last")
    (folder / "own.py").write_text(OWN)
    return [f"data/{name}.yaml" for name in ("first", "bad", "last")]


def test_missing_data_of_one_task_does_not_stop_the_others(
    tmp_path: Path, model: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = two_and_a_third(tmp_path / "data")
    (tmp_path / "data" / "bad.jsonl").unlink()
    assert run(*tasks, more=["--dry-run"]) == 1
    assert run(*tasks) == 1
    out, err = capsys.readouterr()
    assert [f.read_run()["task"] for f in store.find([Path("results")])] == ["first", "last"]
    assert "first" in out
    assert err.splitlines()[-2].startswith("evalkit: bad: data not found; missing: ")
    assert err.splitlines()[-1] == "evalkit: 1 of 3 failed, the others are done; the same command goes on"
    assert run(tasks[1]) == 2  # nothing else was asked
    for task in ("first", "last"):
        (tmp_path / "data" / f"{task}.jsonl").unlink()
    assert run(*tasks) == 2  # nothing could be done
    assert "evalkit: 3 of 3 failed, nothing was done" in capsys.readouterr().err


def test_a_missing_image_of_one_task_does_not_stop_the_others(tmp_path: Path, model: Stub) -> None:
    tasks = two_and_a_third(tmp_path / "data")
    lines = (tmp_path / "data" / "bad.jsonl").read_text().replace("1.png", "gone.png")
    (tmp_path / "data" / "bad.jsonl").write_text(lines)
    assert run(*tasks) == 1
    assert len(store.find([Path("results")])) == 2


def test_a_scoring_error_does_not_stop_the_others(
    tmp_path: Path, model: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = two_and_a_third(tmp_path / "data", "module:own.py:Broken")
    assert run(*tasks, more=["--allow-code"]) == 1
    err = capsys.readouterr().err
    said = "metrics: module:own.py:Broken raised TypeError: tuple indices must be integers or slices, not str"
    assert f"{said} (own.py, line " in err.splitlines()[-2]
    assert "Traceback" not in err
    folders = {f.read_run()["task"]: f for f in store.find([Path("results")])}
    assert [len(f.entries()) for f in folders.values()] == [3, 3, 3]  # what was answered is kept
    assert [name for name, f in folders.items() if f.read_scores()] == ["first", "last"]
    assert main(["score", "results", "--allow-code"]) == 1  # likewise
    assert "1 of 3 failed, the others are done" in capsys.readouterr().err


def test_two_models_and_a_task_that_fails_with_one(tmp_path: Path, model: Stub) -> None:
    tasks = two_and_a_third(tmp_path / "data", "module:own.py:Broken")
    with pytest.raises(TasksFailed) as caught:
        evalkit.run(["a", "b"], tasks, data_root="data", allow_code=True)
    assert len(caught.value.failures) == 2
    assert isinstance(caught.value.runs, Runs)
    assert [(r.model, r.task, r.scores["exact_match"].value) for r in caught.value.runs] == [
        ("a", "first", 1.0), ("a", "last", 1.0), ("b", "first", 1.0), ("b", "last", 1.0),
    ]  # fmt: skip


def test_a_task_that_does_not_fit_refuses_the_whole_run(tmp_path: Path, model: Stub) -> None:
    """It is a mistake in a file, and known before a model loads."""
    tasks = two_and_a_third(tmp_path / "data")
    write(tmp_path / "data", [LINES["box"]] * 3, "text", "exact_match", "bad")
    assert run(*tasks) == 2
    assert model.asked == []


def test_the_gate_does_not_say_regression(
    tmp_path: Path, model: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = two_and_a_third(tmp_path / "data")
    assert run(*tasks) == 0
    assert main(["baseline", "save", "results", "b.json"]) == 0
    (tmp_path / "data" / "bad.jsonl").unlink()
    model.asked.clear()
    assert (
        main(
            ["check", "--model", "m", "--baseline", "b.json", "--data-root", "data", "--include-path", "data"]
        )
        == 2
    )
    assert model.asked == []


def test_the_gate_ends_with_2_where_scoring_fails(tmp_path: Path, model: Stub) -> None:
    tasks = two_and_a_third(tmp_path / "data", "module:own.py:Broken")
    (tmp_path / "data" / "own.py").write_text(OWN.replace('t["nothing"]', "[1.0, 1.0]"))
    assert run(*tasks, more=["--allow-code"]) == 0
    words = ["--allow-code", "--include-path", "data"]
    assert main(["baseline", "save", "results", "b.json", "--allow-code"]) == 0
    (tmp_path / "data" / "own.py").write_text(OWN)
    assert main(["check", "--model", "m", "--baseline", "b.json", "--data-root", "data", *words]) == 2


def test_a_running_score_that_fails_does_not_end_the_run(tmp_path: Path, model: Stub) -> None:
    write(tmp_path / "data", [LINES["texts"]] * 3, "text", "module:own.py:Broken")
    (tmp_path / "data" / "own.py").write_text(OWN)
    assert run("data/t.yaml", more=["--allow-code"]) == 2
    assert len(model.asked) == 3


# --- targets that are missing ----------------------------------------------------------------------------


def sixty(change: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [
        {"question": "which?", "answer": "red" if n % 2 else "blue"} for n in range(60)
    ]
    return [change.get(n, line) for n, line in enumerate(lines)]


@pytest.mark.parametrize(
    ("key", "near"),
    [("label", "answer"), ("Anwser", "answer"), ("captions", "references"), ("boxes", "objects"), ("x", "")],
)  # fmt: skip
def test_a_misspelt_target_key_is_told(
    tmp_path: Path, model: Stub, key: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"question": "which?", key: "red"}] * 60
    file = write(tmp_path / "data", lines, "text", "exact_match")
    for words in (
        ["validate", str(file), "--data", "--data-root", "data"],
        ["data", str(file), "--check", "--data-root", "data"],
        ["run", "--model", "m", "--tasks", str(file), "--data-root", "data", "--dry-run"],
        ["run", "--model", "m", "--tasks", str(file), "--data-root", "data"],
    ):
        assert main(words) == 2
        told = "".join(capsys.readouterr())
        assert f"{file}: metrics: no sample has a target" in told
        assert f"'image' (60), 'question' (60), '{key}' (60); a target is one of answer, answers, " in told
        assert (f"; '{key}' probably stands for {near}; " in told) == bool(near)
        assert ("stands for" in told) == bool(near)
    assert model.asked == []


@pytest.mark.parametrize(
    "line", [{"label": "red"}, {"answer": None}, {"answers": []}, {"references": []}, {}]
)
def test_one_line_without_target_costs_itself_only(
    tmp_path: Path, model: Stub, line: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "data", sixty({7: {"question": "which?", **line}}), "text", "exact_match")
    assert main(["validate", str(file), "--data", "--data-root", "data"]) == 2
    assert main(["data", str(file), "--check", "--data-root", "data"]) == 1
    told = "1 of 60 samples has no target and is not scored, the first is 7: this line has the keys 'image'"
    assert f"warning  {told}" in capsys.readouterr().out
    assert run("data/t.yaml") == 0
    err = capsys.readouterr().err
    assert f"warning: t: {told}" in err
    assert "(n 59, 1 not scored)" in err
    (score,) = store.scores_of(store.find([Path("results")])[0])
    assert (score.n, score.value) == (59, 29 / 59)  # line 7 would have been "red", the others of them are 29
    (tmp_path / "p.jsonl").write_text("".join(f'{{"id": "{n}", "text": "red"}}\n' for n in range(60)))
    assert main(["score", "--task", str(file), "--data-root", "data", "--predictions", "p.jsonl"]) == 0
    assert f"warning: {told}" in capsys.readouterr().err


def test_an_empty_cell_of_a_table_is_no_target(tmp_path: Path) -> None:
    file = write(tmp_path / "data", [LINES["texts"]], "text", "exact_match")
    file.write_text(
        file.read_text().replace("jsonl\n", "questions(answers='answer')\n").replace("t.jsonl", "t.csv")
    )
    (tmp_path / "data" / "t.csv").write_text("image,question,answer\n1.png,a?,red\n2.png,b?,\n")
    data = dataset.dataset(loader.load(str(file)), [tmp_path / "data"])
    assert [s.target for s in data.samples] == [("red",), ()]
    assert data.unscored == "1 of 2 samples has no target and is not scored, the first is 1"
    (tmp_path / "data" / "t.csv").write_text("image,question,label\n1.png,a?,red\n")
    with pytest.raises(UserError, match=r"row 2\.answer: is missing; .*; did you mean label\?"):
        dataset.dataset(loader.load(str(file)), [tmp_path / "data"])


def test_a_mask_without_a_box_is_a_target(tmp_path: Path) -> None:
    file = write(tmp_path / "data", [{"size": [8, 8], "segmentation": SQUARE}], "boxes", "box_iou")
    with pytest.raises(UserError, match=r"box_iou scores targets of kind box, but 1 of 1 samples have mask"):
        dataset.dataset(loader.load(str(file)), [tmp_path / "data"])


# --- nothing there ---------------------------------------------------------------------------------------


def test_images_without_objects(tmp_path: Path, model: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"size": [8, 8], "objects": []}
    write(tmp_path / "data", [LINES["objects"], nothing], "boxes", "coco_ap")
    box = "".join(f"<loc{n:04}>" for n in (0, 0, 512, 512)) + " cat"
    model.answer = lambda request: box if request.id == "0" else ""
    assert run("data/t.yaml") == 0
    (score,) = store.scores_of(store.find([Path("results")])[0])
    assert (score.invalid, round(score.value, 3)) == (0, 1.0)


def test_a_dataset_without_objects_has_a_reason(
    tmp_path: Path, model: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "data", [{"size": [8, 8], "objects": []}] * 4, "boxes", "coco_ap")
    model.answer = lambda request: ""
    assert run("data/t.yaml") == 0
    out, err = capsys.readouterr()
    assert "nan" not in (out + err).lower()
    assert "t: coco_ap not scored, because no image has an object" in err
    assert "t coco_ap: not scored, because no image has an object" in out
    text = (store.find([Path("results")])[0].path / "scores.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["not_scored"] == {"coco_ap": "no image has an object"}


def test_an_empty_answer_where_one_box_is_asked_for_is_unreadable(tmp_path: Path, model: Stub) -> None:
    write(tmp_path / "data", [LINES["box"]] * 2, "boxes", "box_iou")
    model.answer = lambda request: ""
    assert run("data/t.yaml") == 0
    assert store.scores_of(store.find([Path("results")])[0])[0].invalid == 2


def test_right_answers_still_score(tmp_path: Path, model: Stub) -> None:
    """What fits is not touched by any of this."""
    colours(tmp_path / "data")
    model.answer = right
    assert run("data/colours_test.yaml") == 0
    (score,) = store.scores_of(store.find([Path("results")])[0])
    assert (score.n, score.value, score.coverage) == (20, 1.0, "all")
