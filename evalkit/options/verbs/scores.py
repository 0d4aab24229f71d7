"""What the verbs take that score runs, compare them and say what a score means."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from evalkit.options.fields import (
    Names,
    Options,
    Paths,
    names,
    not_negative,
    option,
    options,
    paths,
    positive,
    share,
)
from evalkit.options.groups import MAY_DIFFER, RUNS, CodeOptions, SetOptions, may_differ, report_place
from evalkit.options.model import DataOptions, ModelOptions, TrustOptions

PLACES = "run folders, folders of runs, baseline files, FILE@GIT_REF"


def two_keys(value: str | tuple[str, str]) -> tuple[str, str]:
    """`question_id,answer` as two keys. Raises ValueError."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    if len(parts) != 2 or not all(parts):
        raise ValueError(value, "write two keys with a comma between: that of the id and that of the text")
    return parts[0], parts[1]


@options
class ScoreOptions(DataOptions, SetOptions, TrustOptions, CodeOptions):
    """Score runs again from their files, or a file of predictions made elsewhere."""

    runs: Paths = option(RUNS, default=(), kw_only=False, metavar="RUN", place="*", check=paths)
    task: str | Path | None = option("with --predictions: the task they answer", default=None, check=str)
    predictions: str | Path | None = option(
        'JSON lines {"id": ..., "text": ...}, JSON, CSV or TSV', default=None, metavar="FILE"
    )
    keys: Any = option(
        "with --predictions: how the keys of id and text are called (question_id, answer... are known)",
        default=None,
        metavar="ID,TEXT",
        check=two_keys,
    )
    name: str | None = option("what to call the model that made the predictions", default=None)
    output_path: str | Path | None = option(
        "with --predictions: keep them there as a run, to compare, check or export",
        default=None,
        metavar="DIR",
        check=Path,
        writes="folder",
    )
    per: str | None = option(
        "then a line a part of each score: class, group, error, field, confusion",
        default=None,
        metavar="PART",
    )


@options
class TableOptions(CodeOptions):
    """The leaderboard."""

    runs: Paths = option(
        "default: results", default=(), kw_only=False, metavar="RUN|DIR", place="*", check=paths
    )
    format: str | None = option(
        "terminal, md, csv, html, latex, json, model-index, lm-eval, or module:FILE.py:FUNCTION "
        "(default: by the name of --output, else terminal)",
        default=None,
        metavar="FORM",
    )
    shape: Literal["wide", "long"] | None = option(
        "tasks × models, or a line a score (csv and json: long)", default=None
    )
    paired: bool = option("find ties with the best by paired samples; slower", default=False)
    per: str | None = option(
        "a line a part of each score: class, group, error, field, or the confusion matrix",
        default=None,
        metavar="PART",
    )
    mean_over: Literal["seed"] | None = option(
        "one column for fine-tunes named alike but for -seed0, _s1, -run2 at the end: mean ± deviation",
        default=None,
    )
    output: str | Path | None = option(
        "write there instead of printing", default=None, metavar="FILE", check=Path, writes="file"
    )
    report: str | Path | None = option(
        "where the report of these runs is or will be, a folder or an address; html links to it",
        default=None,
        metavar="REPORT",
        check=report_place,
    )
    published: bool = option("with the papers' numbers, a line a score", default=False)
    published_model: str | None = option(
        "compare with this model's numbers, e.g. paligemma2-3b (default: by the checkpoint's name)",
        default=None,
        metavar="NAME",
    )


@options
class CompareOptions(CodeOptions):
    """Are two models different, task by task."""

    first: str | Path = option(f"{PLACES}; the first against the rest", kw_only=False, place="1", metavar="A")
    others: Names = option("the others", default=(), kw_only=False, metavar="B", place="*", check=names)
    allow: Names = option(f"{','.join(MAY_DIFFER)} may differ", default=(), metavar="KINDS", check=may_differ)
    margin: float = option("of equivalence (default 0.01: one point)", default=0.01, check=share)
    json: str | Path | None = option(
        "everything as JSON; - prints it instead of the table", default=None, metavar="FILE", writes="file"
    )
    samples: int = option(
        "show N lost and gained samples with targets and answers", default=0, metavar="N", check=not_negative
    )
    grid: bool = option("runs by resolution, precision, prompt and checkpoint, with cost", default=False)
    forgetting: str | Path | None = option(
        "what the others lost against this base, task by task, the worst first", default=None, metavar="BASE"
    )


@options
class CheckOptions(ModelOptions, DataOptions, TrustOptions, CodeOptions):
    """May a candidate replace a baseline."""

    candidate: str | Path = option(
        "a run folder, a folder of runs, or a model to run as the baseline was",
        kw_only=False,
        place="?",
        also=("--model",),
        metavar="CANDIDATE",
    )
    baseline: str | Path = option(
        "runs, a baseline file, or FILE@GIT_REF", kw_only=False, metavar="RUN", required=True
    )
    policy: Any = option("a gate.yaml: margins, groups, speed", default=None, metavar="FILE")
    margin: float | None = option(
        "how much worse may be (default 0.01: one point)", default=None, check=share
    )
    limit: int | None = option(
        "only the first N images of each task", default=None, metavar="N", check=positive
    )
    allow: Names = option(f"{','.join(MAY_DIFFER)} may differ", default=(), metavar="KINDS", check=may_differ)
    json: str | Path | None = option(
        "the decision with every number", default=None, metavar="FILE", check=Path, writes="file"
    )
    junit: str | Path | None = option(
        "one test case a task", default=None, metavar="FILE", check=Path, writes="file"
    )
    report: str | Path | None = option(
        "where the report of these runs is or will be; --junit and --github link to it",
        default=None,
        metavar="REPORT",
        check=report_place,
    )
    pages: str | Path | None = option(
        "write the report of both sides here: what was lost, with its pictures; one file where it ends "
        "with .html",
        default=None,
        metavar="DIR",
        check=Path,
    )
    github: bool = option("annotations and a job summary", default=False)
    output_path: str | Path | None = option(
        "where a model's runs are kept (default: a new folder below checks)",
        default=None,
        metavar="DIR",
        check=Path,
        writes="folder",
    )


@options
class BaselineOptions(CodeOptions):
    """A small file of a run's texts and rows, to check against."""

    what: Literal["save"] = option("save", kw_only=False, place="1")
    runs: Paths = option(RUNS, kw_only=False, metavar="RUN", place="+", check=paths)
    file: Path = option(
        "e.g. baselines/main.json, or .json.gz", kw_only=False, metavar="FILE", place="1", writes="file"
    )


@options
class ExplainOptions(CodeOptions):
    """Why a run's number may differ."""

    runs: Paths = option("a run, or two to compare", kw_only=False, metavar="RUN", place="+", check=paths)
    published_model: str | None = option(
        "compare with this model's numbers, e.g. paligemma2-3b (default: by the checkpoint's name)",
        default=None,
        metavar="NAME",
    )


@options
class SuspectsOptions(CodeOptions):
    """Samples whose annotation is probably wrong."""

    runs: Paths = option(
        f"{RUNS}; several checkpoints see more", kw_only=False, metavar="RUN", place="+", check=paths
    )
    top: int = option("how many are shown (default 20)", default=20, metavar="N", check=positive)
    output: str | Path | None = option(
        "all of them as JSON lines", default=None, metavar="FILE", check=Path, writes="file"
    )


@options
class PublishedOptions(Options):
    """The papers' numbers, of a task or a model."""

    what: str | None = option(
        "default: how many there are", default=None, kw_only=False, metavar="TASK|MODEL", place="?"
    )
