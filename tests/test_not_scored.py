"""Where there is no score there is a reason, and never NaN: groups without samples, metrics that fail."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub import checkpoint
from stub_runs import Weighted, as_schema_1, chance

import evalkit
from evalkit import files, models
from evalkit.cli.main import main
from evalkit.comparison import gate, trend
from evalkit.comparison.compare import ModelRuns, compare, holm, record, task_result
from evalkit.errors import UserError
from evalkit.metrics.exact_match import ExactMatch
from evalkit.metrics.group_mean import GroupMean
from evalkit.report import comparison, decision
from evalkit.runs import scored_run, store
from evalkit.runs.columns import as_read
from evalkit.runs.store import Entry, RunFolder
from evalkit.types import Prediction

TASK = """version: 1
about: groups
license: none
data: {format: jsonl, split: test, sources: [{path: lines.jsonl, images: pictures}]}
prompt: 'answer en {question}'
parser: text
metrics: [exact_match, anls]
group_mean: true
"""
OWN = '''
from dataclasses import dataclass
import numpy as np
from evalkit.types import Metric

@dataclass(frozen=True)
class Fails(Metric):
    """Raises, or gives what is no number."""
    how: str = "raise"
    def rows(self, answers, targets):
        if self.how == "raise":
            raise ValueError("no luck")
        rows = np.ones((len(answers), 2))
        rows[1, 0] = float(self.how)
        return rows
'''


def written(folder: Path, lines: dict[str, int]) -> Path:
    """A task with one file a group, and as many lines as said; returns the task file."""
    from PIL import Image

    (folder / "pictures").mkdir(parents=True)
    some: list[str] = []
    for group, count in lines.items():
        for i in range(count):
            place = len(some)
            Image.new("RGB", (8, 8), (place % 256, place // 256, 0)).save(folder / f"pictures/{place}.png")
            line = {"id": f"{group}-{i}", "group": group, "image": f"{place}.png", "question": "?"}
            some.append(json.dumps({**line, "answers": ["red"]}))
    (folder / "lines.jsonl").write_text("\n".join(some) + "\n")
    task = folder / "t.yaml"
    task.write_text(TASK)
    return task


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    share = {"good": 0.1, "poor": 0.3, "perfect": 0.0, "hopeless": 1.0}

    def opened(spec: str, *_: Any) -> Any:
        said = lambda request: "grey" if chance(request.id) < share[spec] else "red"  # noqa: E731
        return checkpoint(Weighted(said, spec), spec)

    monkeypatch.setattr(models, "open_checkpoint", opened)
    return tmp_path


def run(task: Path | str, model: str, *more: str) -> int:
    return main(["run", "--model", model, "--tasks", str(task), "--data-root", "data", *more])


def every_json(folder: Path) -> Iterator[Any]:
    """All JSON below a folder, read by a parser that knows no NaN."""
    for path in folder.rglob("*.json*"):
        for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            yield json.loads(text, parse_constant=pytest.fail)


FEW = ("--limit", "6")  # of 61: none is of the small group


def one_group_of_two(output: str, model: str = "good") -> RunFolder:
    if not Path("data").exists():
        written(Path("data"), {"de": 60, "fr": 1})
    assert run("data/t.yaml", model, "--output-path", output, *FEW) == 0
    (found,) = store.find([Path(output)])
    assert not any(line["id"].startswith("fr") for line in found.read_rows()), "choose another limit"
    return found


REASON = "not scored, because no sample of group fr"


def test_a_group_without_samples_is_a_reason(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = one_group_of_two("results")
    out, err = capsys.readouterr()
    assert f"t exact_match: {REASON}" in out
    assert f"t: exact_match {REASON}" in err
    assert "nan" not in (out + err).lower()
    assert store.scores_of(folder) == []
    assert store.not_scored_of(folder)["exact_match"] == "no sample of group fr"
    assert list(every_json(Path("results")))
    assert evalkit.load("results")[0].not_scored["anls"] == "no sample of group fr"


@pytest.mark.parametrize("form", ["terminal", "md", "csv", "html", "latex", "json", "model-index", "lm-eval"])
@pytest.mark.parametrize("shape", ["wide", "long", ""])
def test_no_form_of_the_table_says_nan(here: Path, form: str, shape: str) -> None:
    one_group_of_two("results")
    if shape and form in ("model-index", "lm-eval"):
        return
    text = evalkit.table("results", format=form, **({"shape": shape} if shape else {}))  # type: ignore[arg-type]
    assert "nan" not in text.lower()
    if form in ("json", "lm-eval"):
        json.loads(text, parse_constant=pytest.fail)


def test_no_baseline_of_what_has_no_score(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = one_group_of_two("results")
    assert main(["baseline", "save", str(folder.path), "base.json"]) == 2
    err = capsys.readouterr().err
    assert f"no score to check against: t: exact_match {REASON}; t: anls {REASON}" in err
    assert not Path("base.json").exists()


def test_the_gate_says_why(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where both runs have all groups, and only the samples that they share lack one."""
    written(Path("data"), {"de": 60, "fr": 1})
    assert run("data/t.yaml", "good", "--output-path", "whole") == 0
    (base,) = store.find([Path("whole")])
    part = one_group_of_two("part", "poor")
    capsys.readouterr()
    decided = gate.check(scored_run.read(part.path), scored_run.read(base.path), allow=("samples",))
    assert (decided.status, decided.tasks[0].needed) == ("inconclusive", None)
    assert decided.tasks[0].why == f"exact_match {REASON}"
    assert run("data/t.yaml", "poor", "--output-path", "other") == 0
    (other,) = store.find([Path("other")])
    limited = gate.check(scored_run.read(other.path), scored_run.read(base.path), limit=6)
    assert limited.tasks[0].why == f"exact_match {REASON}"
    for each in (decided, limited):
        json.loads(decision.to_json(each), parse_constant=pytest.fail)
        said = decision.text_of(each, False) + decision.summary(each) + decision.to_junit(each)
        assert "nan" not in said.lower()
        assert "too close" not in said


def test_compare_says_why_and_counts_the_others(here: Path) -> None:
    written(Path("data"), {"de": 60, "fr": 1})
    assert run("data/t.yaml", "good", "--output-path", "whole") == 0
    part = one_group_of_two("part", "poor")
    base, new = scored_run.read("whole")[0], scored_run.read(part.path)[0]
    fine = dataclasses.replace(base, task="u"), dataclasses.replace(base, task="u", name="poor")
    found = compare(
        ModelRuns("good", {"t": base, "u": fine[0]}),
        ModelRuns("poor", {"t": new, "u": fine[1]}),
        ("samples",),
    )
    assert [t.outcome for t in found.tasks] == ["not scored", "tied"]
    json.loads(files.json_text(record(found)), parse_constant=pytest.fail)
    text = comparison.text_of(found)
    assert REASON in text
    assert "not scored 1 of 2 tasks" in text
    assert "nan" not in text
    with pytest.raises(UserError, match="t exact_match: not scored, because no sample of group fr"):
        trend.point(1, "x", [new])


def test_an_unscored_task_takes_no_part_in_holm(here: Path) -> None:
    written(Path("data"), {"de": 60, "fr": 1})
    assert run("data/t.yaml", "good", "--output-path", "whole") == 0
    assert run("data/t.yaml", "poor", "--output-path", "other") == 0
    part = one_group_of_two("part", "poor")
    base, other, new = (scored_run.read(p)[0] for p in ("whole", "other", part.path))
    good, none = task_result(base, other, (), 0.01), task_result(base, new, ("samples",), 0.01)
    assert holm([good, none, none]) == [good.first.found.p, 1.0, 1.0]


@pytest.mark.parametrize("model", ["perfect", "hopeless"])
def test_a_run_at_the_end_of_the_scale_is_not_certain(
    here: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written(Path("data"), {"de": 6, "fr": 3})
    assert run("data/t.yaml", model) == 0
    out = capsys.readouterr().out
    shown = r" 100\.0 \[\d\d\.\d, 100\.0\]" if model == "perfect" else r" 0\.0 \[0\.0, \d\d\.\d\]"
    assert len(re.findall(shown, out)) == 2
    (found,) = scored_run.read("results")
    assert found.signature(found.first)["interval"] == "groups(exact)"


def test_rows_with_the_type_of_a_question_are_read_again() -> None:
    """Rows of `mean_type_accuracy` hold the type's name, and could not be read again."""
    rows = [["de", 1.0], ["fr", 0.0]]
    assert as_read(rows) == rows
    assert np.asarray(as_read([[0.5, 1.0]])).dtype == np.float64


# --- groups inside a score -------------------------------------------------------------------------------


def test_why_a_mean_over_groups_has_no_value() -> None:
    mean = GroupMean(of="exact_match", groups=("a", "b", "c"))
    rows = mean.spread(ExactMatch().rows(["x"], [("x",)]), ["b"])
    assert math.isnan(mean.reduce(rows))
    assert mean.why_undefined(rows) == "no sample of group a and 1 other"
    less = GroupMean(of="exact_match", groups=("a", "b", "c"), without=("a",))
    assert (
        less.why_undefined(less.spread(ExactMatch().rows(["x"], [("x",)]), ["b"])) == "no sample of group c"
    )
    assert all(map(math.isnan, less.details(rows).values())), "which the score leaves out"


def test_a_group_without_objects_is_null(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole has a score, one group of it has none."""
    written(Path("data"), {"de": 3, "fr": 2})
    objects = {"de": [{"category": "cat", "bbox": [0, 0, 4, 4]}], "fr": []}
    path = Path("data/lines.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    made = [
        {k: line[k] for k in ("id", "group", "image")} | {"size": [8, 8], "objects": objects[line["group"]]}
        for line in lines
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in made))
    text = TASK.replace("answer en {question}", "detect cat").replace("parser: text", "parser: boxes")
    Path("data/t.yaml").write_text(
        text.replace("exact_match, anls", "coco_ap").replace("group_mean: true\n", "")
    )
    assert run("data/t.yaml", "good") == 0
    (folder,) = store.find([Path("results")])
    (score,) = store.scores_of(folder)
    assert score.groups["fr"] == {"value": None, "n": 2, "invalid": 2}
    assert score.groups["de"]["value"] == 0.0
    assert list(every_json(Path("results")))
    assert "nan" not in evalkit.table("results", mean_over="seed").lower()


# --- metrics that fail -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["raise", "nan", "inf"])
def test_one_failing_metric_leaves_the_others(
    here: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written(Path("data"), {"de": 5, "fr": 5})
    Path("data/own.py").write_text(OWN)
    own = f"module:own.py:Fails(how='{how}')"
    text = TASK.replace("exact_match, anls", f'exact_match, "{own}", anls').replace("group_mean: true\n", "")
    Path("data/t.yaml").write_text(text)
    Path("data/u.yaml").write_text(TASK)
    assert run("data/t.yaml", "good", "--allow-code") == 1
    out, err = capsys.readouterr()
    (folder,) = store.find([Path("results")])
    assert [s.metric for s in store.scores_of(folder)] == ["exact_match", "anls"]
    why = "no luck" if how == "raise" else "the row of sample de-1 is no number"
    assert why in store.not_scored_of(folder)[own]
    assert why in out, "the table says it"
    assert why in err.splitlines()[-2]
    assert err.splitlines()[-1] == "evalkit: 1 of 1 failed in a metric, everything else is done"
    assert run("data/t.yaml", "good", "--allow-code") == 1, "it is tried again, not remembered as done"
    capsys.readouterr()
    assert main(["score", str(folder.path), "--data-root", "data", "--allow-code"]) == 1
    out, err = capsys.readouterr()
    assert "anls" in out
    assert why in err
    Path("p.jsonl").write_text('{"id": "de-0", "text": "red"}\n{"id": "de-1", "text": "red"}\n')
    given = ["score", "--task", "data/t.yaml", "--predictions", "p.jsonl", "--data-root", "data"]
    assert main([*given, "--allow-code"]) == 1
    assert "100.0" in capsys.readouterr().out
    assert run("data/t.yaml,data/u.yaml", "good", "--allow-code", "--output-path", "two") == 1
    assert "1 of 2 failed in a metric" in capsys.readouterr().err
    assert list(every_json(Path("results")))


def test_where_every_metric_fails_the_error_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(Path("data"), {"de": 5, "fr": 5})
    Path("data/own.py").write_text(OWN)
    Path("data/t.yaml").write_text(TASK.replace("exact_match, anls", '"module:own.py:Fails"'))
    assert run("data/t.yaml", "good", "--allow-code") == 2
    assert "no luck" in capsys.readouterr().err


# --- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [math.nan, math.inf, -math.inf, [1.0, math.nan], {"a": {"b": (math.nan, "x")}}, np.float64("nan"),
     {"a": [[{"b": -math.inf}]]}],
)  # fmt: skip
def test_json_never_holds_what_is_no_number(content: Any) -> None:
    for given in ({}, {"indent": 1}, {"compact": True}, {"ascii_only": True}):
        assert "null" in json.dumps(json.loads(files.json_text(content, **given), parse_constant=pytest.fail))
    assert files.json_text({"a": 0.1, "b": "NaN"}) == '{"a": 0.1, "b": "NaN"}'


def test_a_journal_keeps_an_answer_whose_numbers_are_none(tmp_path: Path) -> None:
    """A model whose logits overflow gives NaN; its text is kept, its probability ranks last."""
    digest = "0" * 64
    folder = RunFolder(tmp_path / "run")
    prediction = Prediction("a", "p", "t", (1, 2), logprobs=(-0.5, math.nan), margin=math.nan)
    with folder.journal(digest) as journal:
        journal.write(Entry(prediction))
    assert list(every_json(tmp_path))
    found = folder.answers(digest, None).entries["a"].prediction
    assert (found.logprobs, found.margin, found.text) == ((-0.5, -math.inf), None, "t")


def test_files_of_an_older_evalkit_with_nan(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scores and a baseline that hold a bare NaN are read as what has no score."""
    written(Path("data"), {"de": 5, "fr": 5})
    assert run("data/t.yaml", "good") == 0
    (folder,) = store.find([Path("results")])
    assert main(["baseline", "save", str(folder.path), "base.json.gz"]) == 0
    as_schema_1(folder.path)
    for path, read in ((folder.path / "scores.json", Path.read_bytes), (Path("base.json.gz"), _unzipped)):
        content = json.loads(read(path))
        scores = content["scores"] if "scores" in content else list(content["runs"][0]["scores"].values())
        scores[0]["value"] = math.nan
        text = json.dumps(content).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    assert [s.metric for s in store.scores_of(folder)] == ["anls"]
    capsys.readouterr()
    said = evalkit.table("results")
    assert "exact_match: not scored, because an older evalkit stored no number" in said
    (base,) = scored_run.read("base.json.gz")
    assert list(base.spelled) == ["exact_match", "anls"]
    assert base.spelled["exact_match"] == ""


def _unzipped(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def test_a_metric_of_other_code_is_none_of_both(here: Path) -> None:
    """The same word in the task file, another full spelling: as before, the next metric is compared."""
    written(Path("data"), {"de": 60, "fr": 5})
    assert run("data/t.yaml", "good", "--output-path", "whole") == 0
    base = scored_run.read("whole")[0]
    first = base.first
    renamed = dataclasses.replace(
        base,
        scores={m + "x" if m == first else m: s for m, s in base.scores.items()},
        rows={m + "x" if m == first else m: r for m, r in base.rows.items()},
    )
    found = task_result(base, renamed, (), 0.01)
    assert [m.spelled for m in found.metrics] == ["anls"]
    assert found.notes[0] == f"{first} is scored in {base.run} only"
