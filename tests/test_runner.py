"""The runner and what it leaves: resume, kills, torn lines, two writers, coverage, changed images."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from stub import Stub, checkpoint, colours

from evalkit import provenance
from evalkit.errors import DataError, ResultsError, UserError
from evalkit.evaluation import plan as planning
from evalkit.evaluation import predict
from evalkit.files import atomic_write
from evalkit.report import formats, leaderboard
from evalkit.runs import sealed, store
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Selection
from evalkit.types import Request, Score

EVERYTHING = Selection()


def red(request: Request) -> str:
    return "red"


def go(
    task_file: Path,
    model: Stub,
    output: Path,
    asked: Selection = EVERYTHING,
    overrides: dict[str, str] | None = None,
    **how: Any,
) -> tuple[planning.Plan, list[Score]]:
    """One task, one model, as the command line does it."""
    task = loader.load(str(task_file), overrides)
    datasets = dataset.DatasetCache([task_file.parent])
    candidate = checkpoint(model)
    plan = planning.plan(
        datasets.get(task), candidate, output, asked, missing_images=how.get("on_bad_image", "stop")
    )
    found: list[Score] = []
    session = predict.Session(candidate, datasets, done=lambda _, s: found.extend(s), **how)
    predict.run([plan], session)
    return plan, found


def bytes_of(plan: planning.Plan, name: str) -> bytes:
    return (plan.folder.path / name).read_bytes()


def test_a_run_scores_and_is_not_repeated(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    _, (score,) = go(task, Stub(red), tmp_path / "out")
    assert (score.value, score.n, score.clusters, score.coverage) == (0.5, 20, 10, "all")
    assert score.low is not None
    assert score.high is not None
    assert score.low < 0.5 < score.high
    again = Stub(red)
    second, (same,) = go(task, again, tmp_path / "out")
    assert again.asked == []
    assert second.missing == ()
    assert same == score


def test_stopped_anywhere_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    whole, _ = go(task, Stub(red), tmp_path / "whole")
    for stop in (0, 1, 7, 19):
        out = tmp_path / f"out{stop}"
        with pytest.raises(KeyboardInterrupt):
            go(task, Stub(red, die_after=stop), out)
        rest = Stub(red)
        plan, _ = go(task, rest, out)
        assert len(rest.asked) == 20 - stop
        assert bytes_of(plan, "scores.json") == bytes_of(whole, "scores.json")
        assert bytes_of(plan, "rows.jsonl") == bytes_of(whole, "rows.jsonl")


def test_torn_and_damaged_lines_are_run_again(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    plan, _ = go(task, Stub(red), tmp_path / "out")
    journal = plan.folder.path / "predictions" / "0.jsonl"
    lines = journal.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b"red", b"bad")
    journal.write_bytes(b"\n".join(lines)[:-40])
    rest = Stub(red)
    before = bytes_of(plan, "scores.json")
    go(task, rest, tmp_path / "out")
    assert rest.asked == ["q1-1", "q9-1"]
    assert bytes_of(plan, "scores.json") == before
    assert len(plan.folder.entries()) == 20


def test_the_second_writer_leaves(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        go(task, Stub(red, die_after=3), tmp_path / "out")
    folder = store.find([tmp_path / "out"])[0]
    with folder.journal("a"), pytest.raises(ResultsError, match="another process is writing"):
        go(task, Stub(red), tmp_path / "out")


def test_limits_nest_and_never_shrink_a_run(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    first = Stub(red)
    _, (small,) = go(task, first, tmp_path / "out", Selection(limit=3))
    assert (small.n, small.coverage) == (6, "limited")
    more = Stub(red)
    _, (larger,) = go(task, more, tmp_path / "out", Selection(limit=5))
    assert len(more.asked) == 4
    assert not set(more.asked) & set(first.asked)
    assert larger.n == 10
    _, (kept,) = go(task, Stub(red), tmp_path / "out", Selection(limit=2))
    assert kept.n == 10  # complete for more: left as it is
    _, (everything,) = go(task, Stub(red), tmp_path / "out")
    assert (everything.n, everything.coverage) == (20, "all")


def test_ids_choose_samples(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    _, (score,) = go(task, Stub(red), tmp_path / "out", Selection(ids=("q1-0", "q2-0")))
    assert (score.n, score.value) == (2, 0.5)
    with pytest.raises(UserError, match="no sample 'q1-9'; did you mean"):
        go(task, Stub(red), tmp_path / "out", Selection(ids=("q1-9",)))


def test_answers_that_are_not_asked_for_now_are_not_scored(tmp_path: Path) -> None:
    """Also where as many samples are asked for as answers lie there, since one cannot be answered."""
    task = colours(tmp_path / "data")
    go(task, Stub(red), tmp_path / "out", Selection(ids=("q1-0",)))  # which red answers
    (tmp_path / "data/pictures/3.png").unlink()
    wanted = Selection(ids=("q0-0", "q2-0", "q3-0"))
    plan, (score,) = go(task, Stub(red), tmp_path / "out", wanted, on_bad_image="skip")
    assert len(plan.folder.entries()) == len(wanted.ids or ()) == 3
    assert (score.value, score.n, score.coverage) == (0, 2, "incomplete")


def test_a_changed_image_is_asked_again(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    go(task, Stub(red), tmp_path / "out")
    picture = tmp_path / "data" / "pictures" / "4.png"
    os.utime(picture)  # a newer file with the same content is the same image
    same = Stub(red)
    go(task, same, tmp_path / "out")
    assert same.asked == []
    Image.new("RGB", (9, 9), (1, 2, 3)).save(picture)
    rest = Stub(red)
    plan, _ = go(task, rest, tmp_path / "out")
    assert rest.asked == list(plan.changed) == ["q4-0", "q4-1"]


def test_another_prompt_is_another_run_and_metrics_are_not(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    plan, _ = go(task, Stub(red), tmp_path / "out")
    other, _ = go(task, Stub(red), tmp_path / "out", overrides={"prompt": "{question}"})
    assert other.folder != plan.folder
    rest = Stub(red)
    third, (score,) = go(task, rest, tmp_path / "out", overrides={"metrics": "[exact_match(lowercase=True)]"})
    assert third.folder == plan.folder
    assert rest.asked == []
    assert "lowercase=True" in score.signature


def test_missing_and_bad_images(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    (tmp_path / "data" / "pictures" / "4.png").unlink()
    with pytest.raises(DataError, match=r"1 of 10 image files is not there: .*4\.png"):
        go(task, Stub(red), tmp_path / "out")
    plan, (score,) = go(task, Stub(red), tmp_path / "out", on_bad_image="skip")
    assert (score.n, score.coverage) == (18, "incomplete")
    run = plan.folder.read_run()
    assert run is not None
    assert set(run["bad_images"]) == {"q4-0", "q4-1"}


def test_other_library_versions_must_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = colours(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        go(task, Stub(red, die_after=3), tmp_path / "out")
    monkeypatch.setattr(provenance, "versions", lambda: {"torch": "9.9"})
    with pytest.raises(ResultsError, match="--resume-across"):
        go(task, Stub(red), tmp_path / "out")
    _, (score,) = go(task, Stub(red), tmp_path / "out", resume_across=True)
    assert score.n == 20


def test_the_leaderboard_stamps_and_ranks(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    go(task, Stub(red), tmp_path / "out", Selection(limit=3))
    other = Stub(lambda r: "blue")
    datasets = dataset.DatasetCache([task.parent])
    candidate = checkpoint(other, "blue|=1")
    plan = planning.plan(
        datasets.get(loader.load(str(task))), candidate, tmp_path / "out", Selection(limit=3)
    )
    predict.run([plan], predict.Session(candidate, datasets))
    cells = leaderboard.collect(store.find([tmp_path / "out"]))
    shown = formats.terminal(cells, bold=True)
    assert "†" in shown
    assert "\033[1m" in shown
    assert "blue\\|=1" in formats.markdown(cells)
    assert json.loads(formats.to_json(cells))[0]["coverage"] == "limited"
    assert formats.to_csv(cells).startswith("task,metric,model,value")


def test_results_that_are_not_ours(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such folder"):
        store.find([tmp_path / "none"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ResultsError, match="damaged"):
        store.RunFolder(tmp_path / "run").read_run()
    (tmp_path / "run" / "run.json").write_text('{"schema": 99}')
    with pytest.raises(ResultsError, match="newer evalkit"):
        store.RunFolder(tmp_path / "run").read_run()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ResultsError, match="there is a file where a folder is needed"):
        atomic_write(blocked / "x.json", "{}")


def test_older_results_are_migrated_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.json").write_text('{"schema": 1, "model": "a"}')
    monkeypatch.setattr(sealed, "SCHEMA", 3)
    steps = {1: lambda c: {**c, "name": c["model"]}, 2: lambda c: {**c, "name": c["name"] * 2}}
    monkeypatch.setattr(sealed, "MIGRATIONS", steps)
    assert sealed.read(tmp_path / "x.json", "") == {"schema": 3, "model": "a", "name": "aa"}
