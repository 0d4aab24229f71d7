"""Comparing runs: what is refused, what the numbers say, how it is printed."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stub import colours
from stub_runs import go, right, wrong_at

from evalkit.cli.main import main
from evalkit.comparison import ranks
from evalkit.comparison.compare import ModelRuns, compare, flags, record, sides, task_result
from evalkit.errors import UserError
from evalkit.report import comparison
from evalkit.runs import scored_run
from evalkit.stats import intervals, paired
from evalkit.types import Metric, Rows


class Mean(Metric):
    def rows(self, answers: object, targets: object) -> Rows:
        raise AssertionError


class Error(Mean):
    lower_is_better = True


class Ratio(Mean):
    def value(self, sums: intervals.Floats) -> intervals.Floats:
        result: intervals.Floats = sums[..., 0] / sums[..., 1]
        return result


def rows(values: object) -> intervals.Floats:
    array = np.asarray(values, dtype=float)
    return np.stack([array, np.ones(len(array))], axis=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("colours") / "data", images=60)


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    go(data, out, "good", wrong_at(0.1))
    go(data, out, "poor", wrong_at(0.4))
    go(data, out, "twin", wrong_at(0.1))
    return out


def one(runs: Path, name: str) -> Path:
    (found,) = runs.glob(f"*.{name}.*")
    return found


# --- statistics ----------------------------------------------------------------------------------------


def test_tango_is_mcnemar_at_zero_and_inverts() -> None:
    assert paired.tango_score(12, 4, 200, 0.0) == pytest.approx(8 / math.sqrt(16))
    low, high = paired.tango(12, 4, 200, 1.96)
    assert low < 8 / 200 < high
    assert paired.tango_score(12, 4, 200, low) == pytest.approx(1.96, abs=1e-6)
    assert paired.tango_score(12, 4, 200, high) == pytest.approx(-1.96, abs=1e-6)
    assert paired.tango(0, 0, 300, 1.96) == pytest.approx((-0.01264, 0.01264), abs=1e-4)


def test_differences_are_turned_so_that_more_is_better() -> None:
    index = np.arange(200)
    a, b = np.linspace(0, 0.5, 200), np.linspace(0.1, 0.6, 200)
    assert paired.difference(Mean(), rows(a), rows(b), index).value == pytest.approx(0.1)
    found = paired.difference(Error(), rows(a), rows(b), index)
    assert found.value == pytest.approx(-0.1)
    assert found.high < 0
    assert len(found.lost or ()) == 200


def test_pairing_sees_what_two_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 0.9, size=300)
    b = a + rng.normal(0.01, 0.03, size=300)
    found = paired.difference(Mean(), rows(a), rows(b), np.arange(300))
    alone = intervals.interval(Mean(), rows(a), range(300))
    assert found.low > 0
    assert found.high - found.low < (alone[1] - alone[0]) / 5  # type: ignore[operator]
    assert found.p < 0.001


def test_corpus_metrics_are_compared_on_the_same_resamples() -> None:
    rng = np.random.default_rng(1)
    union = rng.uniform(1, 2, size=400)
    inside = union * rng.uniform(0.4, 0.6, size=400)
    a, b = np.stack([inside, union], 1), np.stack([inside * 1.02, union], 1)
    found = paired.difference(Ratio(), a, b, np.arange(400) // 2)
    assert found.low > 0
    assert found.p < 0.001
    assert found.test == "bootstrap"
    same = paired.difference(Ratio(), a, a, np.arange(400) // 2)
    assert (same.p, same.value, same.changed) == (1.0, 0.0, 0)


def test_nothing_changed_is_not_certainty() -> None:
    x = np.ones(50)
    found = paired.difference(Mean(), rows(x), rows(x), np.arange(50))
    assert found.low < -0.05
    assert not flags(found, 0.01)
    many = paired.difference(Mean(), rows(np.ones(300)), rows(np.ones(300)), np.arange(300))
    assert many.p_above(-0.01) < 0.05 < many.p_above(-0.005)  # the rule of three: 1 % at 300
    assert found.needed(0.01) == pytest.approx(50 * 0.0713 / 0.01, rel=0.05)
    graded = paired.difference(Mean(), rows(x * 0.5), rows(x * 0.5), np.arange(50))
    assert graded.low < -0.05
    alone = paired.difference(Mean(), rows([1, 0]), rows([0, 0]), np.zeros(2, dtype=int))
    assert math.isnan(alone.low)
    assert flags(alone, 0.01) == ()


def test_the_smallest_drop_seen_is_seen_in_four_of_five() -> None:
    """At 2 changed in 10 and 400 samples, drops of `detectable` are called worse in about 80 %."""
    rng = np.random.default_rng(2)

    def pair(drop: float) -> paired.Difference:
        draw = rng.random(400)
        lost, gained = draw < 0.1 + drop / 2, draw > 0.9 + drop / 2
        a = np.where(lost, 1.0, np.where(gained, 0.0, 1.0))
        b = np.where(lost, 0.0, np.where(gained, 1.0, 1.0))
        return paired.difference(Mean(), rows(a), rows(b), np.arange(400))

    drop = float(np.mean([pair(0.0).detectable for _ in range(20)]))
    seen = sum(pair(drop).high < 0 for _ in range(300))
    assert 0.72 <= seen / 300 <= 0.88


def test_rank_of_three(runs: Path) -> None:
    models = sides([(str(runs), scored_run.read(runs))])
    good, poor, twin = ranks.ranks(models)
    assert (good.mean, poor.mean, twin.mean) == (1.5, 3.0, 1.5)
    assert poor.low == 3.0


def test_an_image_is_drawn_for_all_its_tasks_at_once(runs: Path) -> None:
    """The same task twice says no more than once: were its copies drawn apart, the interval would shrink."""
    models = sides([(str(runs), scored_run.read(runs))])
    (run,) = models[0].runs.values()
    (name,) = run.rows
    rows = np.asarray(run.rows[name]).copy()
    rows[:20, 0] = 1 - rows[:20, 0]
    other = replace(run, rows={name: rows})
    thrice = [ModelRuns("x", dict.fromkeys("abc", run)), ModelRuns("y", dict.fromkeys("abc", other))]
    once = [ModelRuns("x", {"a": run}), ModelRuns("y", {"a": other})]
    assert [(r.low, r.high) for r in ranks.ranks(thrice)] == [(r.low, r.high) for r in ranks.ranks(once)]


def test_a_rank_of_tasks_without_common_images(runs: Path) -> None:
    """A small task beside a large one: resamples in which none of its images is drawn do no harm."""
    (run,) = sides([(str(runs), scored_run.read(runs))])[0].runs.values()
    small = run.only(run.ids[:2])
    models = [ModelRuns(n, {"large": run, "small": small}) for n in "ab"]
    found = ranks.ranks(models)
    assert [(r.mean, r.low, r.high) for r in found] == [(1.5, 1.5, 1.5)] * 2


def test_what_belongs_together_is_resampled_together(tmp_path: Path) -> None:
    """Two pictures that the dataset calls a pair, and two files of the same content, are one cluster each."""
    task = colours(tmp_path / "data", images=8, questions=1)
    lines = [json.loads(x) for x in (task.parent / "colours.jsonl").read_text().splitlines()]
    paired_up = [{**x, "cluster": "pair"} if x["id"] in ("q0-0", "q1-0") else x for x in lines]
    (task.parent / "colours.jsonl").write_text("".join(json.dumps(x) + "\n" for x in paired_up))
    (task.parent / "pictures" / "3.png").write_bytes((task.parent / "pictures" / "2.png").read_bytes())
    run = scored_run.read(go(task, tmp_path / "out", "a", right))[0]
    clusters = dict(zip(run.ids, run.clusters, strict=True))
    assert clusters["q0-0"] == clusters["q1-0"]
    assert clusters["q2-0"] == clusters["q3-0"]
    assert len(set(run.clusters)) == 6
    scored_run.save([run], tmp_path / "b.json")
    assert scored_run.read(tmp_path / "b.json")[0].clusters == run.clusters


def test_means_over_groups_are_compared_as_such(tmp_path: Path) -> None:
    task = colours(tmp_path / "data", images=120)
    lines = [json.loads(x) for x in (task.parent / "colours.jsonl").read_text().splitlines()]
    text = "".join(json.dumps({**x, "group": x["id"][-1]}) + "\n" for x in lines)
    (task.parent / "colours.jsonl").write_text(text)
    task.write_text(task.read_text() + "group_mean: true\n")
    a = scored_run.read(go(task, tmp_path / "out", "a", wrong_at(0.1)))[0]
    b = scored_run.read(go(task, tmp_path / "out", "b", wrong_at(0.3)))[0]
    found = task_result(a, b, (), 0.01)
    assert found.first.found.a == pytest.approx(a.scores[a.first].value)
    assert found.first.found.b == pytest.approx(b.scores[b.first].value)
    assert found.first.found.high < 0
    assert set(found.groups) == {"0", "1"}
    assert all(g.high < 0 for g in found.groups.values())


# --- what may be compared ---------------------------------------------------------------------------------


def test_refusals_name_the_first_thing_that_differs(data: Path, runs: Path, tmp_path: Path) -> None:
    good = scored_run.read(one(runs, "good"))[0]

    def refused(other: Path, sentence: str, kind: str | None) -> None:
        found = scored_run.read(other)[0]
        with pytest.raises(UserError, match=sentence):
            task_result(good, found, (), 0.01)
        if kind:
            assert task_result(good, found, (kind,), 0.01).notes

    refused(
        go(data, tmp_path, "asked", right, overrides={"prompt": "{question}"}), "prompt: 'answer", "prompt"
    )
    refused(
        go(data, tmp_path, "few", right, limit=20),
        "samples: 120 against 40, 40 shared; .* only in",
        "samples",
    )
    longer = {"decode.max_new_tokens": "7"}
    refused(go(data, tmp_path, "longer", right, overrides=longer), "decode.max_new_tokens: ", "protocol")
    refused(
        go(data, tmp_path, "strict", right, overrides={"parser": "text(strip=True)"}), "parser: 'text", None
    )
    other = colours(tmp_path / "other", images=60)
    lines = (other.parent / "colours.jsonl").read_text().replace("red", "rot")
    (other.parent / "colours.jsonl").write_text(lines)
    refused(go(other, tmp_path, "rot", right), "targets of the dataset: ", None)


def test_scores_that_other_tools_made_say_so(runs: Path) -> None:
    """Scores from before a tool was named too."""
    before = scored_run.read(one(runs, "good"))[0]

    def named(tool: str) -> scored_run.ScoredRun:
        scores = before.scores.items()
        return replace(
            before, scores={k: replace(s, signature=f"{s.signature}|tools:{tool}") for k, s in scores}
        )

    now, later = named("libxml2 2.14.6"), named("libxml2 2.15.0")
    for a, b, told in (
        (before, now, "(none named) and libxml2 2.14.6"),
        (now, later, "libxml2 2.14.6 and libxml2 2.15.0"),
    ):
        notes = task_result(a, b, (), 0.01).notes
        assert f"{a.first} was scored by tools {told}; `evalkit score` scores both alike" in notes
    assert "tools" not in str(task_result(now, now, (), 0.01).notes)


def test_arguments_become_sides(runs: Path) -> None:
    paths = [one(runs, n) for n in ("good", "poor")]
    assert [s.name for s in sides([(str(p), scored_run.read(p)) for p in paths])] == ["good", "poor"]
    assert len(sides([(str(runs), scored_run.read(runs))])) == 3
    with pytest.raises(UserError, match="all runs are of one model, good"):
        sides([("x", scored_run.read(paths[0]))])


# --- the verb ------------------------------------------------------------------------------------------


def test_compare_prints_verdicts(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(one(runs, "good")), str(one(runs, "poor")), "--samples", "2"]) == 0
    out = capsys.readouterr().out
    assert "A good    B poor" in out
    assert "worse, beyond 1" in out
    assert "samples gained 0, lost" in out
    assert "lost: q" in out
    assert "would have been seen" in out
    assert "note: 60 images only" in out
    assert "B won 0, lost 1, tied 0 of 1 tasks" in out
    assert main(["compare", str(one(runs, "good")), str(one(runs, "twin"))]) == 0
    assert "identical texts" in capsys.readouterr().out


def test_a_narrow_screen_gets_narrow_lines(runs: Path) -> None:
    good, poor, _ = sides([(str(runs), scored_run.read(runs))])
    found = compare(good, poor)
    wide, narrow = comparison.text_of(found), comparison.text_of(found, width=75)
    assert max(map(len, narrow.splitlines()[:8])) <= 75 < max(map(len, wide.splitlines()))
    assert "\ncolours_test, n 120\n  exact_match" in narrow
    assert comparison.text_of(found, width=200) == wide


def test_compare_json_has_every_p(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs), "--json", "-"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["comparisons"]) == 2
    assert len(content["mean_ranks"]) == 3
    metric = content["comparisons"][0]["tasks"][0]["metrics"][0]
    assert set(metric["others"]) == {"sign_flip", "mcnemar_exact", "mcnemar_mid"}
    assert metric["lost"][0].startswith("q")
    assert main(["compare", str(runs), "--json", str(tmp_path / "c.json")]) == 0
    assert "mean rank over tasks" in capsys.readouterr().out
    assert json.loads((tmp_path / "c.json").read_text())["comparisons"]


def test_grid(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs), "--grid"]) == 0
    out = capsys.readouterr().out
    assert "checkpoint  px   precision" in out
    assert "s/sample" in out
    assert "best" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compare", "nowhere", "else"], "nowhere: no such run or baseline"),
        (["compare", "x", "--allow", "targets"], "--allow targets: unknown"),
        (["compare", "nowhere.json@main", "x"], "git does not have it"),
        (["compare", "nowhere.json@--all", "x"], "write FILE@GIT_REF"),
    ],
)
def test_mistakes(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert sentence in capsys.readouterr().err


def test_a_branch_that_a_ci_did_not_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "base.json.gz@origin/main", "x"]) == 2
    assert "'origin/main'; a CI that fetches one commit needs the other branch too" in capsys.readouterr().err


def test_a_baseline_file_is_the_run(runs: Path, tmp_path: Path) -> None:
    whole = scored_run.read(runs)
    for name in ("b.json", "b.json.gz"):
        scored_run.save(whole, tmp_path / name)
        back = scored_run.read(tmp_path / name)
        assert [r.ids for r in back] == [r.ids for r in whole]
        assert record(compare(*sides([("x", back)])[:2])) == record(compare(*sides([("x", whole)])[:2]))
    assert (tmp_path / "b.json.gz").stat().st_size < 30_000
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "b.json"], check=True)
    subprocess.run([*git, "commit", "-qm", "b"], check=True)
    (tmp_path / "b.json").unlink()
    assert len(scored_run.read(f"{tmp_path}/b.json@HEAD")) == 3
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UserError, match="is not a baseline file"):
        scored_run.read(tmp_path / "bad.json")
