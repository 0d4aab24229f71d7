"""`replay:`: recorded answers as a model, from a file or a run; what does not fit is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stub import Stub, checkpoint, colours

from evalkit.cli.main import main
from evalkit.evaluation import evaluate

LINES = [{"id": f"q{i}-0", "text": "red" if i % 2 else "blue"} for i in range(10)]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return colours(tmp_path / "data", questions=1)


def run(task: Path, model: str, *more: str) -> int:
    return main(["run", "--model", model, "--tasks", str(task), "--data-root", str(task.parent), *more])


def write(lines: list[dict[str, object]]) -> str:
    Path("answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return "replay:answers.jsonl"


def test_a_file(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write(LINES)
    assert run(task, spec) == 0
    out, err = capsys.readouterr()
    assert "100.0" in out
    assert "10 recorded answers of answers.jsonl" in err
    write(LINES[::-1])
    assert run(task, spec) == 0  # the order is no identity
    assert len(list(Path("results").iterdir())) == 1
    write([{**LINES[0], "text": "red"}, *LINES[1:]])
    assert run(task, spec) == 0
    assert len(list(Path("results").iterdir())) == 2


def test_a_run_again(task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            evaluate, "checkpoint", lambda spec, _: checkpoint(Stub(lambda request: request.id), spec)
        )
        assert run(task, "m") == 0
    (folder,) = Path("results").iterdir()
    for spec in (f"replay:{folder}", f"replay:{folder}/predictions/0.jsonl"):
        assert run(task, spec, "--output-path", "again") == 0
    for again in Path("again").iterdir():
        assert (again / "rows.jsonl").read_bytes() == (folder / "rows.jsonl").read_bytes()
        read = [json.loads((f / "scores.json").read_text()) for f in (again, folder)]
        assert read[0].pop("run") != read[1].pop("run")
        assert read[0].pop("seal") != read[1].pop("seal")
        assert read[0] == read[1]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (LINES[:7], "no answer for sample q7-0 and 2 more of 10"),
        ([], "holds no answers"),
        ([*LINES, LINES[3]], "line 11: id 'q3-0' is repeated"),
        ([{"id": "q0-0"}], 'line 1: no "text" among its keys'),
        ([{"text": "a"}], 'line 1: no "id"'),
        ([{**LINES[0], "prompt": "why?"}, *LINES[1:]], "sample q0-0: was asked 'why?', not 'answer en"),
        (
            [{**LINES[0], "image_digests": ["0" * 64]}, *LINES[1:]],
            "its image has changed since it was answered",
        ),
        ([{**LINES[0], "tokens": ["a"]}], "line 1: tokens, logprobs, sizes and margin must be numbers"),
    ],
)
def test_refused(
    lines: list[dict[str, object]], sentence: str, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(task, write(lines)) == 2
    assert sentence in capsys.readouterr().err


def test_no_file(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(task, "replay:none.jsonl") == 2
    assert "replay:none.jsonl: no such file" in capsys.readouterr().err
    write(LINES)
    assert run(task, "replay:answers.jsonl", "--model-args", "colour=red") == 2
    assert "colour=red: unknown with replay:answers.jsonl" in capsys.readouterr().err
