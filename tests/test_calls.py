"""Detection with many classes: several calls for an image, whose answers are joined; class order; boxes that
two calls gave for one thing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stub import Stub, checkpoint
from test_layouts import WORLD, coco, locations

from evalkit import registry
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.evaluation import plan as planning
from evalkit.evaluation import predict
from evalkit.evaluation.predict import Session
from evalkit.runs.store import scores_of
from evalkit.tasks import calls, loader
from evalkit.tasks.dataset import DatasetCache, Selection
from evalkit.tasks.layouts.reading import dumped
from evalkit.tasks.layouts.recognise import recognise
from evalkit.types import Box, Prediction, Request, Task


def task_of(root: Path, **changed: str) -> Task:
    file = root / "pets.yaml"
    if not file.exists():
        coco(root / "pets")
        (draft,) = recognise(root / "pets").drafts
        file.write_text(dumped(draft.content))
    return loader.load(str(file), changed)


def asked(task: Task, whole: str = "detect b ; a ; d ; c ; e") -> tuple[str, ...]:
    return calls.prompts(task, whole)


def test_prompts_of_calls(tmp_path: Path) -> None:
    assert asked(task_of(tmp_path)) == ("detect b ; a ; d ; c ; e",)
    assert asked(task_of(tmp_path, classes_per_call="2")) == ("detect b ; a", "detect d ; c", "detect e")
    assert asked(task_of(tmp_path, classes_per_call="9")) == ("detect b ; a ; d ; c ; e",)
    assert asked(task_of(tmp_path, class_order="alphabet")) == ("detect a ; b ; c ; d ; e",)
    assert asked(task_of(tmp_path, class_order="reversed", classes_per_call="3")) == (
        "detect e ; c ; d", "detect a ; b",
    )  # fmt: skip
    (shuffled,) = asked(task_of(tmp_path, class_order="shuffled"))
    assert sorted(shuffled.removeprefix("detect ").split(" ; ")) == list("abcde")
    assert shuffled == asked(task_of(tmp_path, class_order="shuffled"), "detect e ; d ; c ; b ; a")[0]
    assert asked(task_of(tmp_path, classes_per_call="1"), "<image>segment a ; b") == (
        "segment a",
        "segment b",
    )
    with pytest.raises(UserError, match=r"pets\.yaml: classes_per_call: goes with prompts that name classes"):
        asked(task_of(tmp_path, classes_per_call="1"), "caption en")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"classes_per_call": "0"}, "classes_per_call: is 0, must be at least 1"),
        ({"classes_per_call": "two"}, "classes_per_call: is text, must be a whole number or null"),
        ({"class_order": "random"}, "class_order: no 'random'; there are: listed, alphabet, rev"),
        ({"nms_across_calls": "0.5"}, "nms_across_calls: has no effect without classes_per_call"),
        ({"classes_per_call": "2", "nms_across_calls": "1.5"}, "nms_across_calls: is 1.5, an IoU, must be"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(changed: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        task_of(tmp_path, **changed)


def answer(request: Request) -> str:
    """What is there of the classes that the prompt names."""
    name = Path(request.images[0].path).name
    wanted = request.prompt.removeprefix("detect ").split(" ; ")
    return locations([each for each in WORLD[name] if each[0] in wanted])


def run(task: Task, root: Path, model: Stub) -> planning.Plan:
    datasets = DatasetCache([Path(task.path).parent / "pets"])
    plan = planning.plan(datasets.get(task), checkpoint(model), root / "results", Selection())
    predict.run([plan], Session(checkpoint(model), datasets))
    return plan


def test_calls_are_joined_and_score_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same samples, so that runs of one and of several classes a call are compared in pairs."""
    (whole, single) = (task_of(tmp_path, **c) for c in ({}, {"classes_per_call": "1"}))
    first, second = Stub(answer), Stub(answer)
    one, many = run(whole, tmp_path, first), run(single, tmp_path, second)
    assert (len(first.asked), len(second.asked)) == (3, 6)
    assert one.digest != many.digest
    entries = many.folder.entries()
    assert sorted(entries) == sorted(one.folder.entries())
    found = entries["0"].prediction
    assert found.prompt == "detect cat\ndetect dog"
    assert found.text == locations(WORLD["a.png"])
    assert [part.text for part in calls.parts(found)] == [locations([thing]) for thing in WORLD["a.png"]]
    assert [part.text for part in calls.parts(entries["1"].prediction)] == ["", locations(WORLD["b.png"])]
    values = {score.metric: score.value for score in scores_of(one.folder)}
    assert values == {score.metric: score.value for score in scores_of(many.folder)}
    assert values["coco_ap"] == 1
    compared = ["compare", str(one.folder.path), str(many.folder.path)]
    assert main([*compared, "--allow", "prompt"]) in (0, 1)
    capsys.readouterr()
    assert main(compared) == 2, "the two were asked otherwise"
    assert "can't be compared: classes_per_call: nothing against 1; --allow prompt" in capsys.readouterr().err
    again = ["score", str(one.folder.path), "--data-root", str(tmp_path / "pets")]
    assert main([*again, "--set", "classes_per_call=1"]) == 2, "it was not asked so"
    assert "sample 0 (3 of 3 answers): was asked 'detect cat ; dog', not" in capsys.readouterr().err


def test_a_run_that_broke_between_two_calls_goes_on(tmp_path: Path) -> None:
    task = task_of(tmp_path, classes_per_call="1")
    with pytest.raises(KeyboardInterrupt):
        run(task, tmp_path, Stub(answer, die_after=3))
    model = Stub(answer)
    plan = run(task, tmp_path, model)
    assert len(plan.folder.entries()) == 3
    assert model.asked == ["1", "1\x001", "2", "2\x001"]  # the one that lacked a call is asked again


def test_boxes_of_two_calls_for_one_thing_are_one(tmp_path: Path) -> None:
    def twice(request: Request) -> str:
        """A model that sees what it is asked for everywhere."""
        name = Path(request.images[0].path).name
        label = request.prompt.removeprefix("detect ")
        return locations([(label, corners) for _, corners in WORLD[name]])

    every = run(task_of(tmp_path, classes_per_call="1"), tmp_path / "every", Stub(twice))
    task = task_of(tmp_path, classes_per_call="1", nms_across_calls="0.5")
    once = run(task, tmp_path / "once", Stub(twice))
    assert every.digest == once.digest  # the texts are the same
    (f1,) = [score for score in scores_of(once.folder) if score.metric == "detection_f1"]
    assert "|nms:0.5 across calls|" in f1.signature
    for folder, n in ((every.folder, [4, 2, 0]), (once.folder, [2, 1, 0])):
        rows = map(json.loads, (folder.path / "rows.jsonl").read_text().splitlines())
        assert [len(row.get("boxes", ())) for row in rows] == n


def seen(*boxes: tuple[int, float, float]) -> list[tuple[int, Any]]:
    """(call, left edge, score): boxes of one size."""
    return [(call, Box(0, x, 1, x + 1, score=score)) for call, x, score in boxes]


@pytest.mark.parametrize(
    ("boxes", "kept"),
    [
        (seen((0, 0, 1), (1, 0.1, 1)), [0]),  # equal scores: the earlier
        (seen((0, 0, 0.2), (1, 0.1, 0.9)), [1]),
        (seen((0, 0, 1), (0, 0.1, 1)), [0, 1]),  # of one call
        (seen((0, 0, 1), (1, 0.9, 1)), [0, 1]),  # they hardly overlap
        (seen((0, 0, 0.5), (1, 0.3, 0.9), (2, 0.6, 0.7)), [1]),
        (seen((0, 0, 0.9), (1, 0.3, 0.7), (2, 0.6, 0.5)), [0, 2]),  # what is left out suppresses none
        ([], []),
    ],
)  # fmt: skip
def test_nms(boxes: list[tuple[int, Any]], kept: list[int]) -> None:
    assert calls.suppressed(boxes, 0.5) == [boxes[i] for i in kept]


def test_log_probabilities_are_those_of_each_call() -> None:
    """A box's score is of its own tokens, wherever in the joined text it is."""
    loc = 256000
    label = {"cat": 7, "dog": 8}

    def call(name: str, value: float) -> Prediction:
        text = f"<loc0000><loc0000><loc0100><loc0100> {name}"
        tokens = (loc, loc, loc + 100, loc + 100, label[name])
        return Prediction("s", f"detect {name}", text, tokens, (value,) * 5)

    answers = [call("cat", -0.5), Prediction("s", "detect x", "", (), ()), call("dog", -1.0)]
    found = calls.joined(answers, "detect cat\ndetect x\ndetect dog")
    assert [(p.text, p.tokens, p.logprobs) for p in calls.parts(found)] == [
        (p.text, p.tokens, p.logprobs) for p in answers
    ]
    task, parser = Task(**{**_PLAIN, "classes_per_call": 1}), registry.make("parsers", "boxes")  # type: ignore[arg-type]
    (read,) = calls.answers(task, parser, [found], [(10, 10)])
    assert read is not None
    assert [(box.label, box.score) for box in read] == [("cat", -0.5), ("dog", -1.0)]
    cut = calls.joined([replace(answers[0], stop="eos"), replace(answers[2], stop="length")], "a\nb")
    assert cut.stop == "length"


_PLAIN: dict[str, Any] = {
    "name": "t", "version": 1, "about": "", "license": "", "data": None, "prompt": "", "image": {},
    "decode": None, "parser": "boxes", "metrics": (),
}  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "read"),
    [
        (("", ""), ()),
        (("", "none"), None),
        (("none", "none"), None),
        (("none", locations(WORLD["b.png"])), 1),
    ],
)
def test_unreadable_calls(texts: tuple[str, str], read: Any) -> None:
    found = calls.joined([Prediction("s", "p", text) for text in texts], "p\np")
    task, parser = Task(**{**_PLAIN, "classes_per_call": 1}), registry.make("parsers", "boxes")
    (answer_,) = calls.answers(task, parser, [found], [(10, 10)])
    assert (answer_ if answer_ is None or not answer_ else len(answer_)) == read


def test_show_and_recorded_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_of(tmp_path, classes_per_call="1")
    plan = run(task, tmp_path, Stub(answer))
    monkeypatch.chdir(tmp_path)
    changed = ["--set", "classes_per_call=1", "--set", "nms_across_calls=0.5"]
    assert main(["show", "pets.yaml", "--data-root", "pets", *changed]) == 0
    shown = capsys.readouterr().out
    assert (
        "classes    at most 1 a call, order: listed, of two calls' boxes that overlap by more than 0.5"
        in shown
    )
    assert "  prompt   'detect cat' (BOS" in shown
    assert "  then     'detect dog'" in shown
    again = ["--tasks", "pets.yaml", "--data-root", "pets", *changed]
    assert main(["run", "--model", f"replay:{plan.folder.path}", *again]) == 0
    lines = [{"id": str(n), "text": locations(WORLD[name])} for n, name in enumerate(WORLD)]
    (tmp_path / "a.json").write_text(json.dumps(lines))
    task_args = ["score", "--task", "pets.yaml", "--predictions", "a.json", "--output-path", "kept"]
    assert main([*task_args, "--data-root", "pets", *changed]) == 0
    assert main(["table", "results", "kept"]) == 0
    assert capsys.readouterr().out.count("100.0") >= 4
    assert main(["compare", str(plan.folder.path), "kept"]) == 2
    said = capsys.readouterr().err
    assert "can't be compared: nms_across_calls: nothing against '0.5 across calls'" in said


ECHO = """
from evalkit.types import Model, Prediction

class Echo(Model):
    def __init__(self, spec, **options):
        pass

    def identity(self):
        return {"backend": "echo"}

    def predict(self, requests, on_bad_image=None):
        for request in requests:
            label = request.prompt.removeprefix("detect ")
            text = f"<loc0200><loc0100><loc0500><loc0300> {label}"
            yield Prediction(request.id, request.prompt, text, sizes=((1023, 1023),))
"""


def test_a_sweep_over_calls_and_nms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings that only score otherwise share a run's texts, and have numbers of their own."""
    task_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("echo.py").write_text(ECHO)
    args = ["--model", "module:echo.py:Echo", "--allow-code", "--tasks", "pets.yaml", "--data-root", "pets"]
    fixed = ["--set", "classes_per_call=1", "--set", "metrics=[detection_f1]"]
    assert main(["sweep", *args, *fixed, "--over", "nms_across_calls=1,0.5"]) == 0
    shown = capsys.readouterr().out
    # one box in three images is right; of each two that lie upon each other 0.5 keeps one, so 3 of 6
    assert "  22.2" in shown
    assert "  33.3" in shown
