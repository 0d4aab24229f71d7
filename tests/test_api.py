"""The Python API: the command line's words as keywords, runs as objects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from stub import Stub, checkpoint, colours

import evalkit
from evalkit.errors import UserError
from evalkit.evaluation import evaluate
from evalkit.types import Prediction


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(evaluate, "checkpoint", lambda spec, _: checkpoint(Stub(lambda r: "red"), spec))
    monkeypatch.chdir(tmp_path)
    return colours(tmp_path / "data")


def test_run_samples_and_table(task: Path) -> None:
    runs = evalkit.run(["a", "b"], task, data_root=task.parent, limit=4, batch_size=2)
    assert [run.model for run in runs] == ["a", "b"]
    first = runs[0]
    assert first.task == "colours_test"
    assert first.scores["exact_match"].n == 8
    frame = first.samples()
    assert len(frame) == 8
    assert frame["exact_match"].mean() == first.scores["exact_match"].value
    assert set(frame["text"]) == {"red"}
    assert runs.table("md").startswith("| task |")
    assert "<table>" in runs._repr_html_()
    assert "exact_match" in repr(first)
    assert len(evalkit.load("results")) == 2


def test_overrides_are_a_mapping(task: Path) -> None:
    (run,) = evalkit.run(
        "a", task, data_root=task.parent, set={"decode.max_new_tokens": 3}, prompt="{question}"
    )
    assert run.record["identity"]["task"]["decode"]["max_new_tokens"] == 3
    assert run.record["task_file"]["overrides"] == {"decode.max_new_tokens": "3", "prompt": "{question}"}


def test_score_again_and_from_elsewhere(task: Path) -> None:
    evalkit.run("a", task, data_root=task.parent)
    (run,) = evalkit.score("results")
    assert run.scores["exact_match"].value == 0.5
    Path("p.jsonl").write_text('{"id": "q1-0", "text": "red"}')
    (score,) = evalkit.score(task=task, data_root=task.parent, predictions="p.jsonl")
    assert (score.value, score.n, score.coverage) == (1.0, 1, "incomplete")


def test_compare_check_table_and_export(task: Path) -> None:
    evalkit.run(["a", "b"], task, data_root=task.parent)
    old, new = sorted(Path("results").iterdir())
    found = evalkit.compare(old, new, json="c.json")
    assert [t.task for t in found[0].tasks] == ["colours_test"]
    assert len(found) == 1
    assert json.loads(Path("c.json").read_text()) == json.loads(json.dumps(found.to_dict()))
    assert str(found).startswith("A a    B b")
    assert str(evalkit.compare(old, new, grid=True)).startswith("colours_test  exact_match")
    decision = evalkit.check(new, old, junit="c.xml")
    assert decision
    assert "testsuite" in Path("c.xml").read_text()
    for form in ("terminal", "md", "csv", "html", "latex", "json", "model-index"):
        text = evalkit.table(format=form, output=f"table.{form}")
        assert text == Path(f"table.{form}").read_text()
        assert evalkit.load("results").table(form) == text
    with pytest.raises(UserError, match="--shape wide: model-index has a shape of its own"):
        evalkit.table(format="model-index", shape="wide")
    with pytest.raises(UserError, match="no such form; did you mean html"):
        evalkit.table(format="htm")
    (path,) = evalkit.export(new, to="csv", data_root=task.parent)
    assert path.read_text().startswith("id,text\n")
    assert evalkit.load(new)[0].export("csv", data_root=task.parent) == path


def test_mistakes_are_exceptions(task: Path) -> None:
    with pytest.raises(TypeError, match="'batch_sizes'; did you mean batch_size"):
        evalkit.run("a", task, batch_sizes=4)
    with pytest.raises(UserError, match="run: limit=0: is below 1"):
        evalkit.run("a", task, limit=0)
    with pytest.raises(UserError, match="no task or suite 'nothing'"):
        evalkit.run("a", "nothing")
    with pytest.raises(UserError, match="no such folder"):
        evalkit.load("nowhere")


def test_pieces() -> None:
    metric = evalkit.metric("exact_match(lowercase=True)")
    rows = metric.rows(["Red", None], [("red",), ("red",)])
    assert metric.reduce(rows) == 0.5
    (box,) = evalkit.parser("boxes").read(
        Prediction("1", "", "<loc0000><loc0000><loc1023><loc1023> cat"), None
    )
    assert box.coordinates == (0, 0, 1, 1)
    assert evalkit.load_task("docvqa_val", set={"prompt": "answer en {question}"}).prompt.startswith("answer")
    with pytest.raises(AttributeError):
        _ = evalkit.nothing


def test_an_editor_completes_the_api() -> None:
    assert set(evalkit.__all__) <= set(dir(evalkit))
    assert "TYPE_CHECKING" not in dir(evalkit)


def test_importing_is_light() -> None:
    code = "import sys, evalkit; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
