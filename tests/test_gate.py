"""The gate: what passes, fails and can't be told; what CI systems get to read; model text does no harm."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub import checkpoint, colours
from stub_runs import Weighted, go, right, wrong_at

import evalkit
from evalkit import api, registry
from evalkit.cli.main import main
from evalkit.comparison import gate
from evalkit.comparison.policy import Policy, read_policy
from evalkit.errors import UserError
from evalkit.evaluation import evaluate
from evalkit.report import decision
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun
from evalkit.types import Box, Request

EVIL = "::error::owned\n::set-output name=x::1\n##[group]x|`<b>@all</b>\x00\ud7ff"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("colours") / "data", images=150)


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base")
    return go(data, out, "base", wrong_at(0.1))


def test_same_weights_must_say_the_same(data: Path, base: Path, tmp_path: Path) -> None:
    same = go(data, tmp_path / "a", "base", wrong_at(0.1), version=2)  # the code changed, the text did not
    assert evalkit.check(same, base)
    other = go(data, tmp_path / "b", "base", wrong_at(0.1, seed=3), version=3)
    found = evalkit.check(other, base)
    assert (found.status, found.exit_status, bool(found)) == ("fail", 1, False)
    assert "same weights, but" in str(found)
    differing = found.tasks[0].differing
    assert differing is not None
    assert {differing["baseline"], differing["candidate"]} & {"grey"}


def test_sums_added_up_in_another_order_are_no_change(base: Path) -> None:
    """CIDEr's rows of a limited run differ from a whole one's in the last digit."""
    run = scored_run.read(base)[0]
    fuzzy = {m: np.asarray(r) + np.array([1e-15, 0]) for m, r in run.rows.items()}
    assert "texts and rows equal" in str(gate.check([replace(run, rows=fuzzy)], [run]))
    other = replace(run, rows=fuzzy, identity={**run.identity, "model": {"weights": "x"}})
    found = gate.check([other], [run]).tasks[0].metric.found
    assert (found.changed, found.gained, found.value) == (0, (), 0.0)
    changed = {m: np.asarray(r) + np.array([1e-6, 0]) for m, r in run.rows.items()}
    assert gate.check([replace(run, rows=changed)], [run]).status == "fail"


def test_other_weights_must_not_be_worse(data: Path, base: Path, tmp_path: Path) -> None:
    worse = go(data, tmp_path, "worse", wrong_at(0.3))
    slightly = go(data, tmp_path, "slightly", wrong_at(0.11))
    assert evalkit.check(worse, base).status == "fail"
    assert evalkit.check(go(data, tmp_path, "better", wrong_at(0.02)), base)
    unsure = evalkit.check(slightly, base)
    assert (unsure.status, unsure.exit_status) == ("inconclusive", 3)
    assert "samples would decide" in str(unsure) or "too close" in str(unsure)
    assert evalkit.check(slightly, base, margin=0.05)
    assert evalkit.check(worse, base, limit=5).status == "inconclusive"
    assert evalkit.check(worse, base, limit=5).tasks[0].metric.found.clusters == 5


def test_holm_keeps_the_failures_of_many_tasks_few() -> None:
    """A task that alone would just fail does not among twenty that are fine."""
    from evalkit.stats import significance

    assert significance.adjust([0.02])[0] <= gate.CERTAIN
    assert significance.adjust([0.02, *[0.9] * 19])[0] > gate.CERTAIN


def test_one_image_decides_nothing(data: Path, base: Path, tmp_path: Path) -> None:
    run = scored_run.read(base)[0].only({"q0-0"})
    other = {m: 1 - np.asarray(r) * [1, 0] for m, r in run.rows.items()}
    worse = replace(run, rows=other, identity={**run.identity, "model": {"weights": "x"}})
    decided = gate.check([worse], [run], allow=("samples",)).tasks[0]
    assert (decided.status, decided.needed) == ("inconclusive", None)
    assert "[unknown, unknown]" in decided.why


def test_a_policy_is_read_strictly(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(
        "margin: 0.02\ntasks:\n  colours_test: {margin: 0.05, metric: exact_match}\n"
        "groups: fail\ninvalid: off\nspeed: warn\nspeed_margin: 0.5\noffset: warn\noffset_margin: 2\n"
    )
    policy = read_policy(path)
    assert (policy.margin, policy.margin_of("colours_test"), policy.invalid) == (0.02, 0.05, "off")
    assert (policy.offset, policy.offset_margin) == ("warn", 2.0)
    for text, sentence in (
        ("margins: 0.1", "margins: unknown key; did you mean margin"),
        ("margin: 2", "margin: is 2; it must be a number between 0 and 1"),
        ("offset_margin: 0", "offset_margin: is 0; it must be a number of steps"),
        ("groups: loud", "groups: is 'loud'; it must be one of off, warn, fail"),
        ("tasks: {a: 3}", "tasks.a: is 3"),
        ("tasks: {a: {margine: 0.1}}", "tasks.a.margine: unknown key"),
        ("margin: !!python/name:os.system 1", "YAML tag"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=r"gate\.yaml"):
            read_policy(path)
        with pytest.raises(UserError) as error:
            read_policy(path)
        assert sentence in str(error.value)
    with pytest.raises(UserError, match="a policy is a YAML file"):
        read_policy(tmp_path / "none.yaml")
    path.write_text("tasks: {other: {margin: 0.1}}")
    with pytest.raises(UserError, match=r"tasks\.other: the baseline has no such task"):
        evalkit.check(base, base, policy=path)
    assert main(["check", "no-model", "--baseline", str(base), "--policy", str(path)]) == 2
    assert "tasks.other" in capsys.readouterr().err  # before the candidate is opened, let alone run
    path.write_text("tasks: {colours_test: {metric: iou}}")
    with pytest.raises(UserError, match="metric: no 'iou'"):
        evalkit.check(base, base, policy=path)


def test_groups_and_unreadable_answers_warn_or_fail(base: Path) -> None:
    run = scored_run.read(base)[0]
    half = tuple("a" if i < 150 else "b" for i in range(300))
    ones = {m: 0 * r + 1 for m, r in run.rows.items()}  # type: ignore[operator]
    mine = replace(run, groups=half, rows=ones)
    rows = {m: r.copy() for m, r in mine.rows.items()}  # type: ignore[union-attr]
    for r in rows.values():
        r[:40, 0] = 0
    other = {**run.identity, "model": {"weights": "x"}}
    new = replace(mine, rows=rows, identity=other, invalid=(True,) * 9 + (False,) * 291)
    found = gate.check([new], [mine], Policy(margin=0.3))
    assert found.status == "pass"
    assert any("group a" in w for w in gate.check([new], [mine], Policy(margin=0.15)).tasks[0].warnings)
    assert any("unreadable answers rose from 0 to 9" in w for w in found.tasks[0].warnings)
    strict = gate.check([new], [mine], Policy(margin=0.3, invalid="fail"))
    assert strict.status == "fail"
    assert not gate.check([new], [mine], Policy(margin=0.3, invalid="off")).tasks[0].warnings


def test_speed_only_on_the_same_device(base: Path) -> None:
    run = scored_run.read(base)[0]
    fast, slow = replace(run, seconds=100.0, device="x"), replace(run, seconds=150.0, device="x")
    assert "50 % slower" in gate.check([slow], [fast]).tasks[0].warnings[0]
    assert not gate.check([replace(slow, device="y")], [fast]).tasks[0].warnings
    assert not gate.check([fast], [slow]).tasks[0].warnings


# --- where boxes lie -------------------------------------------------------------------------------------


def boxed(run: ScoredRun, metric: str, steps: float, noise: float = 0.0, seed: int = 0) -> ScoredRun:
    """The run as if it had drawn boxes: right ones, moved by `steps` and noise, of other weights each."""
    rng = np.random.default_rng(seed)
    corners = 100 + 200 * np.random.default_rng(9).random((len(run.ids), 2))
    judge = scored_run.metric(metric)
    moved = (corners + noise * rng.standard_normal(corners.shape) + steps) / 1024
    answers = [(Box(y, x, y + 0.4, x + 0.4, "a"),) for y, x in moved.tolist()]
    size = (1024, 1024)
    told: list[dict[str, Any]] = []
    for n, (y, x) in enumerate(corners.tolist()):
        target = {"size": size, "box": (y, x, y + 409.6, x + 409.6)}
        thing = {"category": "a", "box": (x, y, 409.6, 409.6), "area": 1e5, "iscrowd": 0}
        told.append({**target, "image_id": n, "categories": ["a"], "objects": [thing]})
    spelling = registry.spell(judge)
    scores = {spelling: replace(run.scores[run.first], metric=metric)}
    identity = {**run.identity, "model": {"weights": f"{steps} {noise} {seed}"}}
    return replace(run, rows={spelling: judge.rows(answers, told)}, scores=scores, identity=identity)


@pytest.mark.parametrize("metric", ["box_iou", "box_accuracy(iou=0.5)", "coco_ap"])
def test_boxes_that_all_move_one_way_fail(base: Path, metric: str) -> None:
    run = scored_run.read(base)[0]
    old = boxed(run, metric, 0.0)
    moved = boxed(run, metric, 1.0, noise=0.1)
    found = gate.check([moved], [old], Policy(margin=0.05))
    assert found.status == "fail"
    assert "moved by more than 0.5 steps of 1,024: +1.0 [+1.0, +1.0] down, +1.0" in found.tasks[0].why
    assert not found.tasks[0].warnings
    assert gate.check([old], [moved], Policy(margin=0.05)), "boxes nearer to their targets are no fault"
    warned = gate.check([moved], [old], Policy(margin=0.05, offset="warn"))
    assert (warned.status, len(warned.tasks[0].warnings)) == ("pass", 1)
    assert gate.check([moved], [old], Policy(margin=0.05, offset="off"))
    assert gate.check([moved], [old], Policy(margin=0.05, offset_margin=2))
    shaken = boxed(run, metric, 0.0, noise=3.0)
    assert gate.check([shaken], [old], Policy(margin=0.05)), "noise is no displacement"


def test_displacement_is_rarely_called_at_its_margin(base: Path) -> None:
    """Boxes truly moved by exactly the margin: called more than that at most once in twenty times."""
    run = scored_run.read(base)[0]
    old = boxed(run, "box_iou", 0.0)
    new = [boxed(run, "box_iou", 0.5, noise=2.0, seed=seed) for seed in range(200)]
    policy = Policy(margin=0.05)
    assert sum(gate.check([n], [old], policy).status == "fail" for n in new) <= 10


def test_rows_without_places_say_nothing_of_them(base: Path) -> None:
    run = scored_run.read(base)[0]
    moved, old = boxed(run, "box_iou", 1.0), boxed(run, "box_iou", 0.0)
    short = replace(old, rows={m: np.asarray(r)[:, :2] for m, r in old.rows.items()})
    assert gate.check([moved], [short], Policy(margin=0.05))
    assert "texts and rows equal" in str(gate.check([old], [short]))


# --- the verb ------------------------------------------------------------------------------------------


def test_check_writes_for_machines(
    data: Path,
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def evil(request: Request) -> str:
        return EVIL.replace("\ud7ff", "") if request.id.startswith("q1-") else right(request)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    new = go(data, tmp_path / "r", "base", evil, version=4)
    words = ["check", str(new), "--baseline", str(base), "--junit", "j.xml", "--json", "d.json", "--github"]
    assert main(words) == 1
    out = capsys.readouterr().out
    commands_seen = [line for line in out.splitlines() if line.lstrip().startswith(("::", "##["))]
    assert len(commands_seen) == 1
    assert commands_seen[0].startswith("::error title=colours_test%3A fail::same weights, but")
    suite = ET.parse(tmp_path / "j.xml").getroot()[0]
    assert suite.attrib["failures"] == "1"
    assert json.loads((tmp_path / "d.json").read_text())["status"] == "fail"
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("before\n### evalkit check: ❌ fail")
    assert "<b>" not in summary
    assert "@all" not in summary
    assert "\n::" not in summary


def test_model_text_starts_no_command() -> None:
    for text in (EVIL, "  ::error::x", "a\r::error::x", "\t##[error]x"):
        assert not [x for x in decision.neutral(text).splitlines() if x.lstrip().startswith(("::", "##["))]


def test_exit_statuses(data: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(data, tmp_path, "slightly", wrong_at(0.11))
    assert main(["check", str(base), "--baseline", str(base)]) == 0
    assert main(["check", str(tmp_path), "--baseline", str(base)]) == 3
    assert "inconclusive" in capsys.readouterr().out
    assert main(["check", str(base), "--baseline", "nowhere"]) == 2
    assert main(["check", "--baseline", str(base)]) == 2
    assert "name one candidate" in capsys.readouterr().err


def test_a_model_is_run_as_the_baseline_was(
    data: Path,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALKIT_TASKS", str(data.parent))
    assert main(["baseline", "save", str(base), "base.json.gz"]) == 0
    assert "1 task, 300 samples" in capsys.readouterr().out
    asked: list[Weighted] = []

    def stub(spec: str, _: object) -> object:
        asked.append(Weighted(wrong_at(0.1), "base"))
        return checkpoint(asked[-1], spec)

    monkeypatch.setattr(evaluate, "checkpoint", stub)
    words = ["check", "mymodel", "--baseline", "base.json.gz", "--data-root", str(data.parent)]
    assert main([*words, "--limit", "20"]) == 0
    assert len(asked[-1].asked) == 40
    capsys.readouterr()
    assert main(words) == 0
    assert len(asked[-1].asked) == 300  # nothing is taken over from an earlier check
    said = capsys.readouterr().out
    assert "same weights, all 300 texts" in said
    kept = re.search(r"`evalkit report base.json.gz (checks/\S+)` \(or", said)
    assert kept is not None
    assert main(["report", "base.json.gz", kept[1], "--output", "pages", "--no-images"]) == 0
    assert main(["report", "no.json.gz", kept[1], "--output", "pages"]) == 2  # not left out in silence
    assert "no.json.gz: no such folder" in capsys.readouterr().err


def test_a_baseline_of_two_models_is_reported_before_a_model_runs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        go(data, tmp_path / "both", name, wrong_at(0.1), limit=2)
    monkeypatch.setattr(evaluate, "checkpoint", lambda *_: pytest.fail("a model was opened"))
    assert main(["check", "mymodel", "--baseline", str(tmp_path / "both")]) == 2
    assert "both: holds two runs of colours_test" in capsys.readouterr().err


def test_the_package_has_check() -> None:
    assert evalkit.check is api.check
    with pytest.raises(AttributeError):
        evalkit.nothing  # noqa: B018


def test_an_interval_beyond_the_margin_that_holm_keeps_from_failing_says_so(base: Path) -> None:
    """One of twelve tasks is worse, the others are as they were: it said "too close to the margin"."""
    run = scored_run.read(base)[0]
    other = {**run.identity, "model": {"weights": "x"}}
    right = {m: 0 * np.asarray(r) + 1 for m, r in run.rows.items()}
    some, new = [], []
    for i in range(12):
        worse = {m: r.copy() for m, r in right.items()}
        for r in worse.values():
            r[: 3 if i else 11, 0] = 0
        some.append(replace(run, task=f"t{i}", rows=right))
        new.append(replace(run, task=f"t{i}", rows=worse, identity=other))
    found = gate.check(new, some)
    first = found.tasks[0]
    assert first.metric.found.high < -0.01
    assert first.status == "inconclusive"
    assert "more than 1 worse if it were the only task; of 12 one is more often so by chance" in first.why
    assert "after Holm's correction p is 0." in first.why
    assert first.needed is None
    alone = gate.check(new[:1], some[:1]).tasks[0]
    assert alone.status == "fail"
    assert "surely more than 1 worse" in alone.why
    record = json.loads(decision.to_json(gate.check(new[:1], some[:1])))["tasks"][0]["comparison"]
    assert (record["outcome"], record["p_holm"]) == ("lost", alone.metric.found.p)


# --- libraries -----------------------------------------------------------------------------------------


def under(libraries: dict[str, str], base: Path, folder: Path) -> Path:
    """The baseline's file as if it had been made under these versions."""
    path = folder / "base.json"
    scored_run.save(scored_run.read(base), path)
    content = json.loads(path.read_text())
    for run in content["runs"]:
        run["libraries"] = libraries
    path.write_text(json.dumps(content))
    return path


def test_under_other_libraries_scores_decide(data: Path, base: Path, tmp_path: Path) -> None:
    now = dict(scored_run.read(base)[0].libraries)
    assert "torch" in now
    older = under({**now, "torch": "1.0"}, base, tmp_path)
    moved = f"libraries differ from the baseline's: torch 1.0 → {now['torch']}"
    same = go(data, tmp_path / "same", "base", wrong_at(0.1), version=2)
    found = evalkit.check(same, older)
    assert (found.status, found.notes) == ("pass", (moved,))
    assert "all 300 texts and rows equal" in found.tasks[0].why
    turned = go(data, tmp_path / "a", "base", wrong_at(0.1 - 0.002), version=3)  # a text or two by rounding
    found = evalkit.check(turned, older, margin=0.05)
    assert (found.status, found.notes) == ("pass", (moved,))
    assert "not worse by 5" in found.tasks[0].why
    assert "texts are equal, so scores decide" in found.tasks[0].warnings[0]
    assert json.loads(decision.to_json(found))["tasks"][0]["updated"] == f"torch 1.0 → {now['torch']}"
    assert evalkit.check(turned, base, margin=0.05).status == "fail"  # the same libraries: not one text
    worse = go(data, tmp_path / "b", "base", wrong_at(0.4), version=4)
    assert evalkit.check(worse, older).status == "fail"
    assert "surely more than 1 worse" in evalkit.check(worse, older).tasks[0].why


def test_libraries_that_are_not_known_change_nothing(data: Path, base: Path, tmp_path: Path) -> None:
    older = under({}, base, tmp_path)
    other = go(data, tmp_path / "a", "base", wrong_at(0.1, seed=3), version=3)
    found = evalkit.check(other, older, margin=0.05)
    assert (found.status, found.notes) == ("fail", ())
    content = json.loads(older.read_text())
    del content["runs"][0]["libraries"]  # as before versions were recorded
    older.write_text(json.dumps(content))
    assert evalkit.check(other, older, margin=0.05).status == "fail"


def test_a_metric_s_tool_is_a_library(base: Path) -> None:
    run = scored_run.read(base)[0]
    (name, score), *_ = run.scores.items()
    scored = replace(score, signature=f"{score.signature}|tools:pycocotools 2.0.8, libxml2 2.9")
    assert replace(run, scores={name: scored}).versions() == {
        **run.libraries, "pycocotools": "2.0.8", "libxml2": "2.9",
    }  # fmt: skip
