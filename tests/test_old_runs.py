"""A run written before files were sealed: read, compared, scored and gone on with as before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from stub import Stub, checkpoint
from stub_runs import Weighted, go

from evalkit import api, provenance
from evalkit.cli.main import main
from evalkit.evaluation import plan as planning
from evalkit.evaluation import predict
from evalkit.report import leaderboard
from evalkit.runs import scored_run, sealed, store
from evalkit.runs.store import RunFolder
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Selection
from evalkit.types import Request

GOLDEN = Path(__file__).parent / "golden" / "schema_1"
NAME = "colours_test.stub.086ba6c2"
TASK = Path("data/colours_test.yaml")


@pytest.fixture(autouse=True)
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return RunFolder(Path("results") / NAME)


def red(request: Request) -> str:
    return "red"


def asked() -> list[str]:
    """Runs it once more; what the model was asked for."""
    model: Stub = Weighted(red, "a")
    datasets = dataset.DatasetCache([TASK.parent])
    candidate = checkpoint(model, "stub")
    plan = planning.plan(datasets.get(loader.load(str(TASK))), candidate, Path("results"), Selection())
    predict.run([plan], predict.Session(candidate, datasets))
    return model.asked


def explained(capsys: pytest.CaptureFixture[str], folder: RunFolder) -> str:
    capsys.readouterr()
    assert main(["explain", str(folder.path)]) == 0
    found = [line for line in capsys.readouterr().out.split("\n") if "not sealed" in line]
    return found[0] if found else ""


def test_the_golden_run_is_of_schema_1() -> None:
    for name in ("run.json", "scores.json"):
        content = json.loads((GOLDEN / "results" / NAME / name).read_text())
        assert content["schema"] == 1
        assert not {"seal", "run", "rows"} & content.keys()


def test_the_migration(old: RunFolder) -> None:
    """A file of schema 1 is read as one of today's that has no seal, and is not written by reading."""
    for name in ("run.json", "scores.json"):
        before = (old.path / name).read_bytes()
        found = sealed.read(old.path / name, "")
        assert found == {**json.loads(before), "schema": sealed.SCHEMA, "seal": ""}
        assert (old.path / name).read_bytes() == before
    assert set(sealed.MIGRATIONS) == set(range(1, sealed.SCHEMA))


def test_it_is_read_as_before(old: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    (cell,) = leaderboard.collect(store.find([Path("results")]))
    assert (cell.score.value, cell.score.n, cell.stamps) == (0.5, 8, "")
    assert len(old.entries()) == len(old.read_rows()) == 8
    (run,) = api.load("results")
    assert list(run.samples()["text"]) == ["red"] * 8
    assert main(["table", "results"]) == 0
    assert main(["runs"]) == 0
    assert main(["baseline", "save", "results", "base.json"]) == 0
    assert main(["export", str(old.path), "--to", "jsonl"]) == 0
    said = explained(capsys, old)
    assert (
        "! not sealed   run.json, scores.json, rows.jsonl, predictions/0.jsonl: of an older evalkit" in said
    )


def test_it_is_compared_with_a_run_of_today(old: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    new = go(TASK, Path("new"), "stub", red, "a")
    assert new.name == NAME
    assert main(["compare", str(old.path), str(new)]) == 0
    assert main(["check", str(new), "--baseline", str(old.path)]) in (0, 3)
    one, two = (scored_run.read(path)[0] for path in (old.path, new))
    assert (one.ids, one.texts, one.images) == (two.ids, two.texts, two.images)
    assert explained(capsys, RunFolder(new)) == ""


def test_it_is_done(old: RunFolder) -> None:
    journal = (old.path / "predictions" / "0.jsonl").read_bytes()
    assert asked() == []
    assert (old.path / "predictions" / "0.jsonl").read_bytes() == journal


def test_scoring_it_seals_what_it_writes(old: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "results"]) == 0
    assert "! not sealed   run.json, predictions/0.jsonl: of an older evalkit" in explained(capsys, old)
    rows = old.path / "rows.jsonl"
    rows.write_text(rows.read_text().replace('"red"', '"rot"', 1))
    assert main(["compare", str(old.path), str(old.path)]) == 2
    assert main(["score", "results"]) == 0
    assert main(["compare", str(old.path), str(old.path)]) == 0


def test_it_is_gone_on_with(
    old: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = old.path / "predictions" / "0.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:5]))
    (session,) = (old.read_run() or {})["sessions"]
    monkeypatch.setattr(provenance, "versions", lambda: session["libraries"])
    assert len(asked()) == 3
    assert asked() == []
    assert journal.read_bytes().startswith(b"".join(lines[:5]))
    size = len(b"".join(lines[:5]))
    assert f"! not sealed   predictions/0.jsonl up to byte {size:,}: of an older" in explained(capsys, old)
    assert [score.value for score in store.scores_of(old)] == [0.5]
    assert len((old.read_run() or {})["sessions"]) == 2
