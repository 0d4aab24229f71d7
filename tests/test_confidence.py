"""Metrics of confidence: against outside packages, of boxes and soft scores, from a run to what it prints."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub import Stub, checkpoint, colours
from stub_runs import chance, right

import evalkit
from evalkit import registry
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.evaluation import evaluate
from evalkit.runs import scored_run
from evalkit.runs.journal_lines import Entry, decode, encode
from evalkit.stats.selective import Ranked
from evalkit.tasks import loader
from evalkit.types import Box, Confident, Metric, Prediction

GOLDEN = json.loads((Path(__file__).parent / "golden" / "confidence.json").read_text(encoding="utf-8"))
THREE = (
    "calibration_error(of='exact_match')", "risk_coverage(of='exact_match')",
    "selective_accuracy(of='exact_match')",
)  # fmt: skip


def rows_of(spelling: str, sure: Sequence[float], values: Sequence[float]) -> tuple[Metric, Any]:
    metric: Metric = registry.make("metrics", spelling)
    answers = [Confident("a" if v else "b", (math.log(c),)) for c, v in zip(sure, values, strict=True)]
    return metric, metric.rows(answers, [("a",)] * len(answers))


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: str(len(case["sure"])))
@pytest.mark.parametrize(
    ("spelling", "key"),
    [("calibration_error", "ece"), ("risk_coverage", "aurc"), ("selective_accuracy", "accuracy_80")],
)
def test_as_the_packages_have_it(case: Mapping[str, Any], spelling: str, key: str) -> None:
    metric, rows = rows_of(spelling, case["sure"], case["right"])
    assert metric.reduce(rows) == pytest.approx(case[key], abs=1e-6)  # theirs are partly of float32


def test_answers_of_equal_confidence_have_no_order() -> None:
    """Of four equally sure answers two are right: whatever is kept is half right."""
    for values in ((1, 1, 0, 0), (0, 0, 1, 1), (0, 1, 0, 1)):
        metric, rows = rows_of("selective_accuracy(coverage=0.25)", (0.5,) * 4, values)
        assert metric.reduce(rows) == 0.5
        metric, rows = rows_of("risk_coverage", (0.5,) * 4, values)
        assert metric.reduce(rows) == 0.5
        metric, rows = rows_of("calibration_error(bins=4)", (0.5,) * 4, values)
        assert metric.reduce(rows) == 0.0


def test_soft_scores_are_calibrated_against_what_they_give() -> None:
    """0.6 of the humans' agreement said with 0.6 is calibrated, not wrong."""
    metric = registry.make("metrics", "calibration_error(of='vqa_accuracy')")
    humans = ("b", "b", *"acdefghi")
    rows = metric.rows([Confident("b", (math.log(0.6),))], [humans])
    assert metric.reduce(rows) == pytest.approx(0.0)
    rows = metric.rows([Confident("b", (math.log(0.9),))], [humans])
    assert metric.reduce(rows) == pytest.approx(0.3)


def test_the_probability_is_of_the_text_with_its_end() -> None:
    prediction = Prediction("a", "p", "t", (1, 2), logprobs=(math.log(0.5), math.log(0.5)))
    assert Confident.of("t", prediction).probability() == pytest.approx(0.25)
    ended = replace(prediction, end_logprob=math.log(0.5))
    assert Confident.of("t", ended).probability() == pytest.approx(0.125)
    assert Confident.of("t", ended).probability("token") == pytest.approx(0.5)
    calls = replace(ended, end_logprob=2 * math.log(0.5), calls=((1, 1), (0, 1)))  # each had its end
    assert Confident.of("t", calls).probability() == pytest.approx(0.0625)
    assert Confident.of("t", calls).probability("token") == pytest.approx(0.5)
    assert Confident.of("t", replace(prediction, logprobs=None)).probability() is None
    assert Confident("t", (-math.inf,)).probability() == 0.0
    assert Confident("", ()).probability("token") == 1.0
    assert decode(encode(Entry(ended, ()), "d" * 64).rstrip(b"\n") + b"\n", "d" * 64, False) == Entry(
        ended, ()
    )


def test_every_box_is_judged_by_its_own_probability() -> None:
    size = (100, 100)
    objects = [{"category": "cat", "box": (10, 10, 50, 50), "area": 2500, "iscrowd": 0}]
    image = {"size": size, "image_id": 1, "categories": ("cat",), "objects": objects}
    hit = Box(0.1, 0.1, 0.6, 0.6, "cat", score=math.log(0.9), class_score=0.7)
    miss = Box(0.7, 0.7, 0.9, 0.9, "cat", score=math.log(0.2), class_score=0.4)
    for of, sure in (("sweep_f1", (0.7, 0.4)), ("sweep_f1(rank='logprob')", (0.9, 0.2))):
        metric = registry.make("metrics", f"calibration_error(of={of!r}, bins=2)")
        rows = metric.rows([Confident((hit, miss), (-0.1,)), Confident(None, (-0.1,))], [image, image])
        assert rows[0]["judged"] == [[pytest.approx(sure[0]), 1.0], [pytest.approx(sure[1]), 0.0]]
        assert rows[1]["judged"] == []
        assert metric.reduce(rows) == pytest.approx((1 - sure[0] + sure[1]) / 2)
    accuracy = registry.make("metrics", "selective_accuracy(of='box_accuracy', coverage=1.0)")
    referred = {"size": size, "box": (10, 10, 60, 60)}
    assert accuracy.reduce(accuracy.rows([Confident((hit,), (-0.1,))], [referred])) == 1.0


@pytest.mark.parametrize(
    "of", ["cider", "cumulative_iou", "wer", "coco_ap", "group_mean", "calibration_error", "nonsense"]
)
def test_what_gives_no_value_of_an_answer_is_refused(of: str) -> None:
    with pytest.raises(UserError, match=r"no mean of values|no 'nonsense'"):
        registry.make("metrics", f"risk_coverage(of={of!r})")


def test_the_interval_of_a_calibrated_model_begins_at_0() -> None:
    """The percentiles of resamples, which lie above the score, would leave 0 out every time."""
    rng = np.random.default_rng(1)
    begins, covers = [], []
    for shift in (0.0, 0.15):
        for _ in range(2):
            sure = rng.beta(4, 1.5, 200)
            values = rng.random(200) < np.maximum(sure - shift, 0)
            metric, rows = rows_of("calibration_error", sure.tolist(), values.tolist())
            bounds = metric.bounds(rows, np.arange(200))
            assert bounds is not None
            (begins if shift == 0 else covers).append(bounds[0] == 0 if shift == 0 else bounds)
    assert all(begins)
    assert all(0.02 < low < 0.16 < high for low, high, _ in covers)


def test_no_thing_has_no_figure() -> None:
    assert Ranked.of([[], []]).drawn(np.ones(2, dtype=int)).total == 0
    metric = registry.make("metrics", "risk_coverage")
    assert math.isnan(metric.reduce(metric.rows([Confident("a", (0.0,))], [()])))


# --- runs ---------------------------------------------------------------------------------------------------


class Sure(Stub):
    """Right answers with 0.9, wrong ones with 0.3; without log-probabilities where none are asked for."""

    def predict(self, requests: Any, on_bad_image: Any = None) -> Iterator[Prediction]:
        for request, answer in zip(requests, super().predict(requests, on_bad_image), strict=True):
            sure = math.log(0.3 if answer.text == "grey" else 0.9)
            kept = {"tokens": (7,), "logprobs": (sure,), "end_logprob": 0.0, "stop": "eos"}
            yield replace(answer, **kept) if request.decode.logprobs else answer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("colours") / "data", images=100)


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = Sure(lambda request: "grey" if chance(request.id) < 0.3 else right(request))
    monkeypatch.setattr(evaluate, "checkpoint", lambda spec, _: checkpoint(model, spec))
    monkeypatch.chdir(tmp_path)


def test_a_run_with_confidence(data: Path, sure: None, capsys: pytest.CaptureFixture[str]) -> None:
    plain = evalkit.run("m", str(data), data_root=data.parent, output_path="plain")[0]
    run = evalkit.run("m", str(data), data_root=data.parent, output_path="sure", confidence=True)[0]
    assert run.scores["exact_match"].value == plain.scores["exact_match"].value
    assert [*run.scores] == [*plain.scores, *THREE]
    accuracy = run.scores["exact_match"].value
    error, risk, kept = (run.scores[name] for name in THREE)
    assert error.value == pytest.approx(0.1 * accuracy + 0.3 * (1 - accuracy), abs=0.02)
    assert kept.value == pytest.approx(accuracy / 0.8)
    assert risk.value == pytest.approx(risk.details["in the best order"])
    assert kept.details["least confidence kept"] == pytest.approx(0.3)
    assert None not in (error.low, error.high, risk.low, kept.high)
    line = next(iter(run.folder.read_rows()))
    assert line["probability"] in (pytest.approx(0.9), pytest.approx(0.3))
    assert next(iter(run.samples()["probability"])) == line["probability"]
    capsys.readouterr()
    assert main(["compare", "plain", "sure"]) == 0  # log-probabilities are kept in one of them
    assert "identical texts" in capsys.readouterr().out
    assert main(["table", "sure"]) == 0
    table = capsys.readouterr().out
    assert "selective_accuracy(of='exact_match')" in table
    assert "changed on the command line" not in table
    assert main(["table", "sure", "--per", "bin"]) == 0
    assert "confidence" in capsys.readouterr().out
    assert main(["table", "sure", "--per", "coverage", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 10
    assert main(["explain", "sure"]) == 0
    assert "where 65.0 are right" in capsys.readouterr().out


def test_two_models_are_compared_by_their_confidence(data: Path, sure: None) -> None:
    evalkit.run("m", str(data), data_root=data.parent, output_path="sure", confidence=True)
    (one,) = scored_run.read("sure")
    assert isinstance(one.rows[registry.spell(registry.make("metrics", THREE[0]))], list)
    found = evalkit.compare("sure", "sure")[0].tasks[0]
    assert [m.found.value for m in found.metrics] == [0.0] * 4


def test_without_log_probabilities_it_is_said(
    data: Path, sure: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = evalkit.run("m", str(data), data_root=data.parent, output_path="plain")[0]
    assert main(["score", str(run.folder.path), "--confidence"]) == 0
    assert "--confidence` keeps them" in capsys.readouterr().out + str(evalkit.load("plain")[0].not_scored)
    evalkit.run("m", str(data), data_root=data.parent, output_path="sure", set={"decode.logprobs": True})
    assert main(["score", "sure", "--confidence"]) == 0  # kept, so no model is asked again
    assert THREE[1] in evalkit.load("sure")[0].scores


def test_what_confidence_adds_fits_the_task() -> None:
    def added(name: str) -> list[str]:
        task = loader.load(name, {"confidence": "true"})
        assert task.decode.logprobs
        return list(task.metrics[len(loader.load(name).metrics) :])

    assert added("vqav2_val")[0] == "calibration_error(of='vqa_accuracy')"
    assert added("refcoco_unc_val") == [
        "calibration_error(of='box_accuracy(iou=0.5)', confidence='token')",
        "risk_coverage(of='box_accuracy(iou=0.5)')", "selective_accuracy(of='box_accuracy(iou=0.5)')",
    ]  # fmt: skip
    assert added("coco_detection_val2017") == [f"{name}(of='sweep_f1')" for name in loader.CONFIDENCE_METRICS]
    assert added("coco35l_en_dev") == []  # CIDEr says of no single caption how right it is
