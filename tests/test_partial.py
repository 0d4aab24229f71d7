"""Scores of stopped runs, as they would be on all samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub import colours
from stub_runs import go, right, wrong_at

from evalkit.comparison.partial import completed
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun
from evalkit.runs.store import RunFolder
from evalkit.training.improvement import Best
from evalkit.types import Request, Score

NAME = "exact_match"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ScoredRun:
    """A run of 200 samples to 100 pictures that is right on the first 60 pictures."""
    folder = tmp_path_factory.mktemp("partial")

    def answer(request: Request) -> str:
        return right(request) if int(request.id[1:].split("-")[0]) < 60 else "grey"

    return scored_run.of_run(
        RunFolder(go(colours(folder / "data", images=100), folder / "out", "best", answer))
    )


def test_easy_samples_make_no_part_better(whole: ScoredRun) -> None:
    """Of the easy pictures alone the worse run scores .9, the better one on all .6."""
    (spelled,) = whole.scores
    easy = [n for n in whole.ids if int(n[1:].split("-")[0]) < 30]
    part = whole.only(easy)
    rows = np.array(part.rows[spelled])
    rows[:6, 0] = 0
    part = replace(
        part, rows={spelled: rows}, scores={spelled: replace(part.scores[spelled], n=60, value=0.9)}
    )
    (score,) = completed(part, whole)
    assert score.value == pytest.approx(0.6 - 6 / 60)
    assert score.low is not None
    assert score.high is not None
    assert score.low < score.value < score.high
    assert score.n == 60


def test_a_hard_fall_on_easy_samples_stays_within_bounds(whole: ScoredRun) -> None:
    """The best has .6 of all, and all of the easy ones, of which the part has none: .6 - 1 is no accuracy."""
    (spelled,) = whole.scores
    part = whole.only([n for n in whole.ids if int(n[1:].split("-")[0]) < 30])
    part = replace(part, rows={spelled: np.array(part.rows[spelled]) * [0, 1]})
    (score,) = completed(part, whole)
    assert score.value == 0
    assert score.low is not None
    assert score.high is not None
    assert score.low <= score.value <= score.high


def test_what_is_no_mean_and_what_has_other_samples_is_left_out(whole: ScoredRun) -> None:
    (spelled,) = whole.scores
    other = replace(whole.only(whole.ids[:4]), ids=("a", "b", "c", "d"))
    assert completed(other, whole) == []
    rows = np.array(whole.rows[spelled]) * [1, 2]
    assert completed(replace(whole, rows={spelled: rows}), whole) == []
    assert completed(replace(whole, rows={spelled: [{} for _ in whole.ids]}), whole) == []


def test_a_sample_more_ends_no_comparison_in_a_training(tmp_path: Path) -> None:
    """As where one image could not be read at one step."""
    data = colours(tmp_path / "data", images=100)

    def at(step: int, share: float, **more: Any) -> list[RunFolder]:
        return [RunFolder(go(data, tmp_path / "out", f"t-checkpoint-{step}", wrong_at(share), **more))]

    best = Best()
    assert best.look(at(1, 0.6, limit=99))
    assert best.look(at(2, 0.1))
    assert not best.look(at(3, 0.1))
    assert str(best) == "best so far t-checkpoint-2, 1 without a significant improvement"
    assert best.look(at(4, 0.9, overrides={"prompt": "what colour is it?"}))
    assert str(best).startswith(
        "best so far t-checkpoint-4, not compared with those before: colours_test: prompt"
    )
    assert (best.improvements, best.since) == (3, 0)
    assert not best.look(at(5, 0.9, overrides={"prompt": "what colour is it?"}))
    assert "not compared" not in str(best)


def test_intervals_hold_what_they_say() -> None:
    """95 % of intervals, give or take two standard errors, less a point for the roughness of few changes."""
    rng, held, times, n, ids = np.random.default_rng(2), 0, 400, 120, tuple(map(str, range(400)))
    score = Score("t", NAME, "", 0.0, None, None, 0, 0, "early", 0)
    run = ScoredRun("m", "r", "t", {}, "", {}, {}, None, {NAME: score}, (), (), (), (), (), (), {})
    for _ in range(times):
        before = rng.random(len(ids)) < 0.7
        after = np.where(rng.random(len(ids)) < 0.2, rng.random(len(ids)) < 0.4, before)
        both = [np.stack([column, np.ones(len(ids))], axis=1) for column in (before, after)]
        best = replace(run, ids=ids, clusters=ids, rows={NAME: both[0]})
        part = replace(run, ids=ids[:n], clusters=ids[:n], rows={NAME: both[1][:n]})
        (found,) = completed(part, best)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.7 * 0.8 + 0.4 * 0.2 <= found.high
    assert held >= times * 0.94 - 2 * np.sqrt(times * 0.95 * 0.05)
