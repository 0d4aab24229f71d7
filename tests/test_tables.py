"""The leaderboard at scale and in its forms: ties, resolutions, escaping, model cards, lm-eval, trackers."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
import sys
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from stub import checkpoint, colours
from stub_runs import Weighted, go, wrong_at

import evalkit
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.evaluation import evaluate
from evalkit.options.verbs import TableOptions
from evalkit.report import columns, formats, leaderboard
from evalkit.report.columns import interval
from evalkit.report.leaderboard import Cell
from evalkit.report.seeds import over_seeds, stem
from evalkit.runs import store
from evalkit.types import Score


def cell(task: str, model: str, value: float, half: float = 0.01, resolution: int = 224, **more: Any) -> Cell:
    signature = f"task:{task}|metric:exact_match|targets:abc|evalkit:0.1.0"
    given = {"n": 1000, "clusters": 500, "coverage": "all", "invalid": 0, **more}
    score = Score(task, "exact_match", signature, value, value - half, value + half, **given)
    return Cell(score, f"{task}.{model}", model, (), (), resolution)


def test_ties_with_the_best_are_marked() -> None:
    cells = [cell("t", "a", 0.80), cell("t", "b", 0.79), cell("t", "c", 0.70)]
    text = formats.markdown(cells)
    assert "**80.0 ±1.0** | **79.0 ±1.0** | 70.0 ±1.0" in text
    assert "bold: the best on the same samples, and what does not differ from it significantly (by" in text
    other = cell("t", "d", 0.9, n=10, coverage="limited")
    assert "**80.0 ±1.0** | **79.0 ±1.0** | 70.0 ±1.0 | 90.0 ±1.0†" in formats.markdown([*cells, other])
    assert "**" not in formats.markdown([cells[0], other])


def test_an_interval_is_shown_as_it_is() -> None:
    """A value near an end of the scale has a short side and a long one: 5.1 ±26.1 would reach below 0."""
    assert interval(0.051, 0.002, 0.312) == " [0.2, 31.2]"
    assert interval(1.0, 0.9, 1.0) == " [90.0, 100.0]"
    assert interval(0.0, 0.0, 0.422) == " [0.0, 42.2]"
    assert interval(-0.5, -1.0, 0.25) == " [-100.0, 25.0]"
    assert interval(0.5, 0.484, 0.516) == " ±1.6"
    assert interval(0.5, 0.484, 0.518) == " ±1.7"  # both ends are right to the tenth that is shown
    assert interval(0.5, 0.484, 0.519) == " [48.4, 51.9]"
    assert interval(0.5, 0.5, 0.5) == " ±0.0"
    assert interval(0.5, None, None) == ""
    lopsided = cell("t", "a", 0.1)
    lopsided = replace(lopsided, score=replace(lopsided.score, low=0.0))
    assert "10.0 <small>[0.0, 11.0]</small>" in formats.html_table([lopsided])


def test_a_spreadsheet_has_both_ends() -> None:
    (line,) = csv.DictReader(io.StringIO(formats.wide_csv([cell("t", "a", 0.5)])))
    assert (line["a"], line["a low"], line["a high"]) == ("0.5", "0.49", "0.51")


def test_pairing_breaks_ties(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data", images=150)
    go(task, tmp_path / "out", "a", wrong_at(0.3))
    go(task, tmp_path / "out", "b", wrong_at(0.34))
    assert main(["table", str(tmp_path / "out"), "--format", "md"]) == 0
    assert capsys.readouterr().out.count("**") == 4
    assert main(["table", str(tmp_path / "out"), "--format", "md", "--paired"]) == 0
    out = capsys.readouterr().out
    assert out.count("**") == 2
    assert "paired on the samples" in out


def test_models_are_grouped_by_resolution() -> None:
    cells = [cell("t", "m", 0.5, resolution=r) for r in (896, 224, 448)] + [cell("t", "a", 0.4)]
    assert leaderboard.grid(cells).columns == ("a", "m 224 px", "m 448 px", "m 896 px")


def test_a_page_groups_models_and_tasks() -> None:
    """Names that differ in a number stand in its order; a model's resolutions stand below its name."""
    cells = [cell("t", f"m-{b}b", 0.5, resolution=r) for b in (28, 3, 10) for r in (224, 448)]
    page = formats.to_html([*cells, cell("u", "m-3b", 0.4)])
    heads = [page.index(f'colspan="2">m-{b}b</th>') for b in (3, 10, 28)]
    assert heads == sorted(heads)
    assert page.count("448 px") == 3
    assert '<td class="best">50.0 <small>±1.0</small></td>' in page
    assert "<script" not in page


def test_columns_that_do_not_fit_go_below() -> None:
    cells = [cell("t", f"model-{i:02}", 0.5) for i in range(30)]
    text = formats.terminal(cells, bold=False, width=100)
    assert max(len(line) for line in text.splitlines() if "model-" in line) <= 100
    assert all(f"model-{i:02}" in text for i in range(30))


def test_wide_tables_fit_a_sheet() -> None:
    header = ["task", "metric", *(f"figure {i}" for i in range(12)), "source"]
    long = ["a reason that is longer than a column of figures", "another that is no shorter than the first"]
    rows = [["vqa", f"m{i}", *(f"{i}.{j}00 ±{j}" for j in range(12)), long[i % 2]] for i in range(4)]
    lines = columns.fitted([header, *rows], 100, 2)
    assert max(map(len, lines)) <= 100
    assert lines[0] == "task vqa"  # all rows have it
    parts = [part.split("\n") for part in "\n".join(lines).split("\n\n")[1:-1]]
    assert len(parts) > 1
    assert all([row.split()[0] for row in part[1:]] == ["m0", "m1", "m2", "m3"] for part in parts)
    assert all(f"{i}.{j}00 ±{j}" in "\n".join(lines) for i in range(4) for j in range(12))
    assert [row[-3:] for row in parts[-1][1:]] == ["[1]", "[2]", "[1]", "[2]"]
    assert lines[-2:] == [f"[1] {long[0]}", f"[2] {long[1]}"]
    assert columns.fitted([header, *rows], 1000, 2) == columns.aligned([header, *rows])


def test_many_models_and_a_hundred_tasks() -> None:
    cells = [cell(f"task{t}", f"m{m}", (m * 7 + t) % 97 / 97) for t in range(100) for m in range(60)]
    start = time.perf_counter()
    for form in ("terminal", "md", "csv", "html", "latex", "json"):
        for shape in ("wide", "long"):
            text, _ = formats.render(cells, TableOptions(format=form, shape=shape))
            assert "task99" in text
    assert time.perf_counter() - start < 20


EVIL = "=1+1|<b>&%_{}\\"


def test_every_form_keeps_odd_names_harmless() -> None:
    cells = [cell("t", EVIL, 0.5), cell("t", "plain", 0.9)]
    for shape in ("wide", "long"):
        rows = list(
            csv.reader(io.StringIO(formats.render(cells, TableOptions(format="csv", shape=shape))[0]))
        )
        assert not [f for row in rows for f in row if f[:1] in ("=", "+", "@")]
        page = formats.render(cells, TableOptions(format="html", shape=shape))[0]
        parser = html.parser.HTMLParser()
        parser.feed(page)
        assert "&lt;b&gt;" in page
        tex = formats.render(cells, TableOptions(format="latex", shape=shape))[0]
        assert r"\&\%\_\{\}\textbackslash{}" in tex
        assert "\\|" in formats.render(cells, TableOptions(format="md", shape=shape))[0]
        assert json.loads(formats.render(cells, TableOptions(format="json", shape=shape))[0])


def test_a_file_to_commit_and_diff(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    go(task, tmp_path / "out", "b", wrong_at(0.3))
    go(task, tmp_path / "out", "a", wrong_at(0.1))
    out = tmp_path / "leaderboard.csv"
    assert main(["table", str(tmp_path / "out"), "--output", str(out)]) == 0
    first = out.read_bytes()
    assert main(["table", str(tmp_path / "out"), "--output", str(out)]) == 0
    assert out.read_bytes() == first
    assert [line.split(",")[2] for line in first.decode().splitlines()] == ["model", "a", "b"]


def test_model_cards_hold_whole_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data")
    go(task, tmp_path / "out", "good", wrong_at(0.1))
    go(task, tmp_path / "out", "part", wrong_at(0.1), limit=3)
    assert main(["table", str(tmp_path / "out"), "--format", "model-index"]) == 0
    out, err = capsys.readouterr()
    assert "left out: part on colours_test, exact_match: limited" in err
    (model,) = yaml.safe_load(out)["model-index"]
    assert model["name"] == "good"
    (result,) = model["results"]
    assert result["dataset"] == {"name": "colours", "type": "colours_test", "split": "test"}
    assert result["metrics"][0]["type"] == "exact_match"
    hub = pytest.importorskip("huggingface_hub.repocard_data")
    name, parsed = hub.model_index_to_eval_results(yaml.safe_load(out)["model-index"])
    assert (name, parsed[0].metric_value) == ("good", result["metrics"][0]["value"])


def test_lm_evals_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data")
    go(task, tmp_path / "out", "good", wrong_at(0.1))
    assert main(["table", str(tmp_path / "out"), "--format", "lm-eval"]) == 0
    content = json.loads(capsys.readouterr().out)
    result = content["results"]["colours_test"]
    assert set(result) == {"alias", "exact_match,none", "exact_match_stderr,none"}
    assert content["n-samples"]["colours_test"] == {"original": 20, "effective": 20}
    assert content["higher_is_better"]["colours_test"] == {"exact_match": True}
    go(task, tmp_path / "out", "other", wrong_at(0.1))
    assert main(["table", str(tmp_path / "out"), "--format", "lm-eval"]) == 2
    assert "holds one model" in capsys.readouterr().err


# --- trackers ------------------------------------------------------------------------------------------


class Fake(types.ModuleType):
    """A tracker that only remembers what it was told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.told: list[Any] = []
        self.summary: dict[str, str] = {}

    def init(self, **_: Any) -> Fake:
        return self

    def log(self, values: Any) -> None:
        self.told.append(values)

    log_metrics = log

    def start_run(self, run_name: str) -> Fake:
        return self

    def set_tag(self, key: str, value: str) -> None:
        self.summary[key] = value

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def SummaryWriter(self, folder: str) -> Fake:
        return self

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.told.append({name: value, "step": step})

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("title", ["Weights & Biases", "MLflow", "TensorBoard"])
def test_the_trackers_of_the_docs(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "trackers.md").read_text()
    code = re.search(rf"### {title}\n\n```python\n(.*?)```", page, re.S)
    assert code
    (tmp_path / "track.py").write_text(code[1])
    fake = Fake("fake")
    for name in ("wandb", "mlflow", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "checkpoint", lambda spec, _: checkpoint(Weighted(wrong_at(0.1)), spec))
    task = colours(tmp_path / "data")
    words = ["run", "--model", "checkpoint-7", "--tasks", str(task), "--data-root", str(task.parent)]
    assert main([*words, "--on-scores", "track.py:on_scores"]) == 0
    (score,) = store.scores_of(store.find([Path("results")])[0])
    values = {k: v for told in fake.told for k, v in told.items()}
    assert values["colours_test/exact_match"] == score.value
    assert values["colours_test/exact_match_low"] == score.low
    assert values.get("step", 7) == 7
    for bad, sentence in (("nothing", "write FILE.py:FUNCTION"), ("track.py:none", "has no function 'none'")):
        assert main([*words, "--on-scores", bad]) == 2
        assert sentence in capsys.readouterr().err


def test_trackers_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "checkpoint", lambda spec, _: checkpoint(Weighted(wrong_at(0.1)), spec))
    task = colours(tmp_path / "data")
    told: list[tuple[str, float]] = []
    evalkit.run("m", task, data_root=task.parent, on_scores=lambda name, s: told.append((name, s[0].value)))
    assert len(told) == 1
    assert told[0][0].startswith("colours_test.m.")


def test_the_seed_in_a_name() -> None:
    said = ("ft-seed0", "ft_s1", "ft-run2", "ft-seed-3", "ft_SEED_4")
    assert {stem(name) for name in said} == {"ft"}
    assert [stem(n) for n in ("ft", "ft-224", "seed0", "ft-seeds", "ft-s", "docs1")] == [None] * 6


def test_means_over_seeds() -> None:
    seeds = [cell("t", f"ft-seed{i}", v, invalid=1) for i, v in enumerate((0.8, 0.81, 0.85))]
    found = over_seeds([*seeds, cell("t", "other", 0.9)])
    assert [(c.model, c.runs) for c in found] == [("ft", 3), ("other", 1)]
    assert found[0].score.value == pytest.approx(0.82)
    assert found[0].stdev == pytest.approx(0.02645751311)
    assert [c.text() for c in found] == ["82.0 ±2.6 (3 runs)", "90.0 (1 run)"]
    text = formats.markdown(found)
    assert "standard deviation over runs" in text
    assert "**" not in text
    assert "3 of 3000" in text
    named = over_seeds([*seeds, cell("t", "ft", 0.9)])
    assert [c.model for c in named] == ["ft (mean)", "ft"]
    other = [cell("t", "ft-seed0", 0.5), cell("t", "ft-seed1", 0.5, n=10, coverage="limited")]
    with pytest.raises(UserError, match="differ in coverage, samples"):
        over_seeds(other)
    with pytest.raises(UserError, match="ft-seed0 ran in several ways, one of them"):
        over_seeds([cell("t", "ft-seed0 [hf, 12ab]", 0.5), cell("t", "ft-seed0 [paper, 34cd]", 0.5)])
    assert over_seeds([cell("t", "ft [hf, 12ab]", 0.5)])[0].runs == 1


def test_means_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data", images=50)
    for i in range(3):
        go(task, tmp_path / "out", f"ft-seed{i}", wrong_at(0.1 + i / 10), weights=f"w{i}")
    words = ["table", str(tmp_path / "out"), "--mean-over", "seed", "--format"]
    for form in ("terminal", "md", "html"):
        assert main([*words, form]) == 0
        assert re.search(r"±\d+\.\d \(3 runs\)", capsys.readouterr().out)
    assert main([*words, "csv"]) == 0
    (line,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (line["model"], line["runs"]) == ("ft", "3")
    assert float(line["stdev"]) > 0
    assert main([*words, "csv", "--shape", "wide"]) == 0
    (wide,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (wide["ft"], wide["ft ±"], wide["ft runs"]) == (line["value"], line["stdev"], "3")
    assert main([*words, "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["runs"] == 3
    assert main([*words, "lm-eval"]) == 2
    assert "--mean-over: lm-eval holds runs" in capsys.readouterr().err
    assert main(["table", str(tmp_path / "out"), "--mean-over", "seed", "--published"]) == 0
    assert "(3 runs)" in capsys.readouterr().out
