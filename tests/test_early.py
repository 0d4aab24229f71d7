"""Sequential runs: the test's promises by simulation, and runs that stop, resume and stay stamped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub import checkpoint, colours
from stub_runs import Weighted, go, wrong_at

from benchmarks.statistics import sequential
from evalkit.cli.main import main
from evalkit.comparison.compare import task_result
from evalkit.errors import UserError
from evalkit.evaluation import evaluate
from evalkit.report import leaderboard
from evalkit.runs import scored_run, store
from evalkit.runs.journal import Journal
from evalkit.stats.sequential import Decider


@pytest.mark.parametrize(
    ("drop", "verdict", "share"), [(0.05, "worse", 0.05), (0.03, "worse", 0.12), (0.0, "equivalent", 0.32)]
)
def test_decisions_come_early(drop: float, verdict: str, share: float) -> None:
    """The promises for 10,240 samples, 10 % of answers changing; benchmarks.statistics runs 2,000."""
    verdicts, used = sequential(drop, runs=120)
    assert verdicts[verdict] >= 114
    assert np.median(used) <= share * 10_240


def test_false_alarms_are_rare() -> None:
    runs = 100
    bound = runs * (0.05 + 2 * np.sqrt(0.05 * 0.95 / runs))
    for options in ({}, {"fixed": True}, {"changing": 0.3}, {"most": 5}):
        verdicts, _ = sequential(0.0, runs=runs, samples=3000, **options)  # type: ignore[arg-type]
        assert verdicts["worse"] + verdicts["better"] <= bound
    for drop in (0.02, -0.02):
        assert sequential(drop, runs=runs, samples=3000)[0]["equivalent"] <= bound


def test_inside_a_training_what_is_no_better_stops_earlier() -> None:
    """A gain of the margin is given up in at most 5 % of runs (and two standard errors), a loss soon."""
    options: dict[str, Any] = {"samples": 2000, "block": 64, "hopeful": True}
    runs = 100
    _, used = sequential(-0.02, runs=runs, **options)
    assert sum(n < 2000 for n in used) <= runs * (0.05 + 2 * np.sqrt(0.05 * 0.95 / runs))
    verdicts, used = sequential(0.02, runs=runs, **options)
    assert verdicts["not better"] >= 0.9 * runs
    assert np.median(used) <= 0.4 * 2000
    assert sequential(0.0, runs=20, samples=2000)[0]["not better"] == 0  # elsewhere there is no such verdict


def test_a_verdict_stays_and_blocks_are_all_that_counts() -> None:
    one, two = Decider(0.02, 1, 1.0), Decider(0.02, 1, 1.0)
    drops, sizes = np.repeat([-1.0, 0.0], 50), np.ones(100)
    assert [one.look(drops[i::5], sizes[i::5]) for i in range(5)][-1] == "worse"
    assert one.look(np.ones(50), np.ones(50)) == "worse"
    for i in range(5):
        two.look(drops[i::5], sizes[i::5])
    assert two.verdict == "worse"
    assert one.samples == 150


# --- runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("colours") / "data", images=400)


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go(data, tmp_path_factory.mktemp("base"), "base", wrong_at(0.1))


@pytest.fixture
def poor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Weighted]:
    """`--model m` is wrong at 35 %; every loaded one is put into the list."""
    made: list[Weighted] = []

    def stub(spec: str, _: object) -> object:
        made.append(Weighted(wrong_at(0.35), "poor"))
        return checkpoint(made[-1], spec)

    monkeypatch.setattr(evaluate, "checkpoint", stub)
    monkeypatch.chdir(tmp_path)
    return made


def words(data: Path, base: Path, *more: str) -> list[str]:
    return ["run", "--model", "m", "--tasks", str(data), "--data-root", str(data.parent), "--against",
            str(base), *more]  # fmt: skip


def test_a_drop_stops_the_run_and_is_stamped(
    data: Path, base: Path, poor: list[Weighted], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(data, base, "--until-decided")) == 0
    out, err = capsys.readouterr()
    asked = len(poor[-1].asked)
    assert 0 < asked < 300
    assert f"worse after {asked} of 800 samples" in err
    assert "minutes saved" in err
    assert "‡" in out
    (folder,) = store.find([Path("results")])
    run = folder.read_run()
    assert run is not None
    assert run["early"]["verdict"] == "worse"
    assert run["asked"]["limit"] == asked // 2
    (score,) = store.scores_of(folder)
    assert score.coverage == "early"
    assert "coverage:early" in score.signature
    with pytest.raises(UserError, match=r"samples: 800 against .* stopped early, on purpose"):
        task_result(scored_run.of_run(store.RunFolder(base)), scored_run.of_run(folder), (), 0.01)
    assert leaderboard.collect([folder])[0].stamps == "‡"


def test_asked_again_the_decision_is_replayed(data: Path, base: Path, poor: list[Weighted]) -> None:
    assert main(words(data, base, "--until-decided")) == 0
    (folder,) = store.find([Path("results")])
    before = {n: (folder.path / n).read_bytes() for n in ("run.json", "scores.json", "rows.jsonl")}
    assert main(words(data, base, "--until-decided")) == 0
    assert poor[-1].asked == []
    assert before == {n: (folder.path / n).read_bytes() for n in before}
    assert main(["score", "results"]) == 0
    assert json.loads(before["scores.json"]) == folder.read_scores()
    asked = len(poor[0].asked)
    assert main(words(data, base)) == 0  # all of it, please
    assert len(poor[-1].asked) == 800 - asked
    assert store.scores_of(folder)[0].coverage == "all"
    assert not (folder.read_run() or {}).get("early")


def test_stopped_anywhere_it_decides_the_same(
    data: Path, base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    for die in (None, 7, 40):
        dying = Weighted(wrong_at(0.35), "poor")
        dying.die_after = die
        for model in (dying, Weighted(wrong_at(0.35), "poor")):
            monkeypatch.setattr(evaluate, "checkpoint", lambda spec, _, m=model: checkpoint(m, spec))
            main(words(data, base, "--until-decided", "--output-path", f"out{die}"))
        (folder,) = store.find([Path(f"out{die}")])
        run = folder.read_run() or {}
        found.append(({**run["early"], "minutes_saved": 0}, (folder.path / "scores.json").read_bytes()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--until-decided", "--prompt", "{question}"], "prompt differs"),
        (["--until-decided", "--set", "metrics=[exact_match(lowercase=True)]"], "is a mean over samples"),
    ],
)
def test_what_can_not_be_decided(
    data: Path, base: Path, poor: list[Weighted], more: list[str], sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(words(data, base, *more)) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("results").exists()


def test_against_without_a_stop_compares_afterwards(
    data: Path, base: Path, poor: list[Weighted], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(data, base)) == 0
    assert "worse, beyond 1" in capsys.readouterr().out
    few = ["--limit", "50", "--output-path", "few"]
    assert main([*words(data, base), *few]) == 0  # a part on purpose is compared on that part
    assert "100 shared" in capsys.readouterr().out
    assert main(["run", "--model", "m", "--tasks", str(data), "--data-root", str(data.parent),
                 "--until-decided"]) == 2  # fmt: skip
    assert "--until-decided: goes with --against" in capsys.readouterr().err


def test_a_baseline_that_cannot_serve_is_said_before_anything_runs(
    data: Path, base: Path, poor: list[Weighted], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(data, tmp_path / "two", "one", wrong_at(0.1))
    go(data, tmp_path / "two", "other", wrong_at(0.2))
    for against, sentence in ((tmp_path / "two", "holds two runs of"), (tmp_path / "none", "no such run")):
        assert main(words(data, against)) == 2
        assert sentence in capsys.readouterr().err
    assert not any(model.asked for model in poor)
    assert not Path("results").exists()


def test_a_baseline_of_other_samples_is_said_before_anything_runs(
    data: Path, base: Path, poor: list[Weighted], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = scored_run.read(str(base))[0].ids
    for name, some in (("first", ids[:40]), ("others", ids[40:80])):
        (tmp_path / name).write_text("\n".join(some))
    few = ["--ids", str(tmp_path / "first"), "--output-path", str(tmp_path / "few")]
    assert main([*words(data, base), *few]) == 0
    more = ["--until-decided", "--ids", str(tmp_path / "others")]
    assert main(words(data, tmp_path / "few", *more)) == 2
    assert "has none of the samples that are asked for" in capsys.readouterr().err


def test_what_another_process_answered_meanwhile_is_looked_at_and_not_asked(
    data: Path, base: Path, poor: list[Weighted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answered the first half of the samples between the plan and the lock: the same decision."""
    assert main(words(data, base, "--until-decided", "--output-path", "alone")) == 0
    alone = (store.find([Path("alone")])[0].read_run() or {})["early"]
    enter, held = Journal.__enter__, list[Journal]()

    def entered(self: Journal) -> Journal:
        if not held:
            held.append(self)
            go(data, Path("results"), "m", wrong_at(0.35), "poor", limit=40)
        return enter(self)

    monkeypatch.setattr(Journal, "__enter__", entered)
    assert main(words(data, base, "--until-decided")) == 0
    (folder,) = store.find([Path("results")])
    found = (folder.read_run() or {})["early"]
    assert {**found, "minutes_saved": 0} == {**alone, "minutes_saved": 0}
    assert len(poor[-1].asked) == alone["samples"] - 80
    assert len(folder.entries()) == alone["samples"]
