"""What each command takes. The command line, the Python API and evalkit.toml read these classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from evalkit.errors import nearest
from evalkit.options.fields import (
    Names,
    Options,
    Paths,
    count_or_share,
    models,
    names,
    not_negative,
    option,
    options,
    paths,
    positive,
    settings,
    share,
)
from evalkit.options.model import DataOptions, ModelOptions, Protocol, TrustOptions, read_model_args

MAY_DIFFER = ("prompt", "protocol", "samples")
TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
RUNS = "run folders, or folders of runs"
TASKS = "tasks, suites, patterns or YAML files, by comma"
MODEL = "checkpoint folder, hub id, demo:later, module:FILE.py:CLASS, replay:FILE; may be repeated"
PLACES = "run folders, folders of runs, baseline files, FILE@GIT_REF"


GENERATION = {
    "max_new_tokens": "decode.max_new_tokens",
    "max_gen_toks": "decode.max_new_tokens",
    "temperature": "decode.temperature",
    "top_p": "decode.top_p",
    "num_beams": "decode.beams",
    "seed": "decode.seed",
}
"""lm-eval's names for how text is generated, and the keys of a task file that they mean."""


def gen_kwargs(value: str | Mapping[str, Any]) -> dict[str, str]:
    """`max_new_tokens=64,temperature=0` as keys of a task file. Raises ValueError."""
    found = {}
    for key, said in read_model_args(value).items():
        if key.startswith("decode."):  # read before
            found[key] = str(said)
        elif key == "do_sample":
            if str(said).lower() in ("true", "1"):
                raise ValueError(value, "do_sample: say temperature=0.7 instead; 0 is greedy")
        elif key in GENERATION:
            found[GENERATION[key]] = str(said)
        else:
            raise ValueError(
                value, f"{key}: no such setting{nearest(key, GENERATION)}; --set has all of a task's"
            )
    return found


def one_by_one(value: str | Sequence[str]) -> tuple[str, ...]:
    """Texts that may hold commas, each as it is."""
    return (value,) if isinstance(value, str) else tuple(value)


def two_keys(value: str | tuple[str, str]) -> tuple[str, str]:
    """`question_id,answer` as two keys. Raises ValueError."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    if len(parts) != 2 or not all(parts):
        raise ValueError(value, "write two keys with a comma between: that of the id and that of the text")
    return parts[0], parts[1]


def trackers(value: Names) -> tuple[str, ...]:
    """Experiment trackers; `none` is none. Raises ValueError."""
    found = tuple(name for name in names(value) if name != "none")
    for name in found:
        if name not in TRACKERS:
            raise ValueError(name, f"no such tracker{nearest(name, TRACKERS)}; --on-scores has any other")
    return found


def may_differ(value: Names) -> tuple[str, ...]:
    """What two runs may differ in and still be compared. Raises ValueError."""
    for name in (found := names(value)):
        if name not in MAY_DIFFER:
            raise ValueError(name, f"unknown; there are: {', '.join(MAY_DIFFER)}")
    return found


def report_place(value: str | Path) -> str:
    """Where a report is: a folder, its HTML file, or an address of either. Raises ValueError."""
    scheme = urlsplit(str(value)).scheme
    if len(scheme) > 1 and scheme not in ("http", "https", "file"):  # one letter: a drive of Windows
        raise ValueError(str(value), "is no address of a report; write a folder or https://...")
    return str(value)


@options
class CodeOptions(Options):
    """Whether files that a task or a run names may be executed."""

    allow_code: bool = option("let tasks use metrics, parsers and formats of your own files", default=False)


@options
class SetOptions(Options):
    """Keys of a task that are changed."""

    set: Mapping[str, Any] | Sequence[str] = option(
        "override a key of the task, e.g. decode.max_new_tokens=64; marked in tables",
        default=(),
        metavar="KEY=VALUE",
        check=settings,
        repeat=True,
    )
    confidence: bool = option(
        "also score how well answers' probabilities tell right from wrong; texts stay as they are",
        default=False,
    )

    @property
    def overrides(self) -> dict[str, str]:
        """The keys that `set` and `confidence` change."""
        return {**settings(self.set), **({"confidence": "true"} if self.confidence else {})}


@options
class TrackerOptions(Options):
    """Where scores are told to beside the results."""

    on_scores: str | Callable[..., Any] | None = option(
        "a function that gets every run's name and scores", default=None, metavar="FILE.py:NAME"
    )
    report_to: Names = option(
        f"{', '.join(TRACKERS)}: scores with intervals, and samples with pictures",
        default=(),
        metavar="TRACKER",
        check=trackers,
        repeat=True,
    )


@options
class LayoutOptions(Options):
    """How data of one's own is read that no task describes."""

    split: str | None = option(
        "which split of --data (default: test, else valid, else train)", default=None, metavar="NAME"
    )
    verb: Literal["detect", "segment"] | None = option(
        "what --data with boxes and masks asks for (default: detect)", default=None
    )
    box_order: Literal["xywh", "xyxy"] | None = option(
        "what the four numbers of a box are, where --data has rows that do not show it", default=None
    )
    save_task: Path | None = option(
        "write the task that --data makes to this file", default=None, metavar="FILE.yaml", check=Path
    )


@options
class RunOptions(
    ModelOptions, DataOptions, SetOptions, LayoutOptions, TrackerOptions, TrustOptions, CodeOptions
):
    """Predict and score tasks with checkpoints."""

    model: Names = option(MODEL, kw_only=False, metavar="MODEL", check=models, repeat=True, required=True)
    tasks: Names = option(
        TASKS,
        kw_only=False,
        metavar="NAMES",
        default=(),
        check=names,
        repeat=True,
        several=True,
        also=("--task",),
    )
    data: Path | None = option(
        "a folder or file of your own: what it holds is recognised, and a task made of it",
        default=None,
        metavar="FOLDER|FILE",
        check=Path,
    )
    name: str | None = option(
        "what to call the model; of several: --model PATH,name=LABEL", default=None, metavar="LABEL"
    )
    output_path: str | Path = option("default: results", default=Path("results"), metavar="DIR", check=Path)
    limit: float | None = option(
        "only N images of each task (a seeded choice), or a share of them: 0.1",
        default=None,
        metavar="N",
        check=count_or_share,
    )
    ids: str | Path | None = option(
        "only these sample ids, one a line", default=None, metavar="FILE", check=Path
    )
    seed: int = option("of the choice that --limit makes (default 0)", default=0)
    prompt: str | None = option(
        "another prompt, e.g. 'answer en {question}'; marked in tables", default=None, metavar="TEXT"
    )
    gen_kwargs: str | Mapping[str, Any] = option(
        "as lm-eval takes them: max_new_tokens=64,temperature=0,num_beams=1",
        default="",
        metavar="K=V,...",
        check=gen_kwargs,
    )
    log_samples: bool = option("as in lm-eval; every sample is always kept", default=False)
    protocol: Protocol | None = option("image, prompt and stop rules (default: the task's)", default=None)
    on_bad_image: Literal["stop", "skip"] = option("whether an unreadable image ends the run", default="stop")
    against: str | Path | None = option(
        "compare with these runs, or a baseline file", default=None, metavar="BASELINE"
    )
    until_decided: bool = option("stop as soon as worse, better or equivalent is certain", default=False)
    margin: float | None = option(
        "of equivalence: default 0.02 with --until-decided, else 0.01", default=None, check=share
    )
    num_fewshot: int = option(
        "as in lm-eval, only 0: PaliGemma's prompts are zero-shot",
        default=0,
        metavar="0",
        bare="1",
        also=("--fewshot",),
        check=None,
    )
    dry_run: bool = option("the plan with samples, FLOPs, time and disk", default=False)
    resume_across: bool = option("go on with other library versions", default=False)

    @property
    def overrides(self) -> dict[str, str]:
        """Keys of the task that `gen_kwargs`, `set` and `prompt` change."""
        changed = {**gen_kwargs(self.gen_kwargs), **super().overrides}
        return changed if self.prompt is None else {**changed, "prompt": self.prompt}


@options
class DemoOptions(Options):
    """The embedded benchmark with the two embedded checkpoints."""

    output_path: str | Path = option("default: results", default=Path("results"), metavar="DIR", check=Path)
    limit: int | None = option("only N scenes", default=None, metavar="N", check=positive)


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
        "write there instead of printing", default=None, metavar="FILE", check=Path
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
        "everything as JSON; - prints it instead of the table", default=None, metavar="FILE"
    )
    samples: int = option(
        "show N lost and gained samples with targets and answers", default=0, metavar="N", check=not_negative
    )
    grid: bool = option("runs by resolution, precision, prompt and checkpoint, with cost", default=False)
    forgetting: str | Path | None = option(
        "what the others lost against this base, task by task, the worst first", default=None, metavar="BASE"
    )


@options
class SweepOptions(ModelOptions, DataOptions, SetOptions, TrustOptions, CodeOptions):
    """What moves the score: a grid of settings, on more samples where it is undecided."""

    model: Names = option(
        "a checkpoint as `run` takes it; several are the values of --over resolution",
        kw_only=False, metavar="MODEL", check=models, repeat=True, required=True,
    )  # fmt: skip
    tasks: Names = option(
        TASKS, kw_only=False, metavar="NAMES", check=names, repeat=True, several=True, required=True,
        also=("--task",),
    )  # fmt: skip
    over: Sequence[str] = option(
        "prompt, resolution, precision, classes_per_call, or KEY=A,B of any option of the model or key of a "
        "task; the first value is what the others are compared with",
        default=(), metavar="AXIS", check=one_by_one, repeat=True,
    )  # fmt: skip
    prompt: Sequence[str] = option(
        "with --over prompt: a text to try beside the task's own (default: with and without 'answer en', in "
        "lower case, with a second line break)",
        default=(), metavar="TEXT", check=one_by_one, repeat=True,
    )  # fmt: skip
    first: int = option("images of the first look (default 100)", default=100, metavar="N", check=positive)
    limit: float | None = option(
        "images of the last look, or a share of them (default: all)",
        default=None, metavar="N", check=count_or_share,
    )  # fmt: skip
    margin: float = option("of equivalence (default 0.02: two points)", default=0.02, check=share)
    protocol: Protocol | None = option("image, prompt and stop rules (default: the task's)", default=None)
    output_path: str | Path = option("default: results", default=Path("results"), metavar="DIR", check=Path)
    format: Literal["terminal", "md", "csv", "html", "latex", "json"] | None = option(
        "default: by the name of --output, else terminal", default=None
    )
    output: str | Path | None = option(
        "write the map there instead of printing", default=None, metavar="FILE", check=Path
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
        "the decision with every number", default=None, metavar="FILE", check=Path
    )
    junit: str | Path | None = option("one test case a task", default=None, metavar="FILE", check=Path)
    report: str | Path | None = option(
        "where the report of these runs is or will be; --junit and --github link to it",
        default=None,
        metavar="REPORT",
        check=report_place,
    )
    github: bool = option("annotations and a job summary", default=False)
    output_path: str | Path | None = option(
        "where a model's runs are kept (default: a new folder below checks)",
        default=None,
        metavar="DIR",
        check=Path,
    )


@options
class BaselineOptions(CodeOptions):
    """A small file of a run's texts and rows, to check against."""

    what: Literal["save"] = option("save", kw_only=False, place="1")
    runs: Paths = option(RUNS, kw_only=False, metavar="RUN", place="+", check=paths)
    file: Path = option("e.g. baselines/main.json, or .json.gz", kw_only=False, metavar="FILE", place="1")


@options
class WatchOptions(ModelOptions, DataOptions, TrackerOptions, TrustOptions, CodeOptions):
    """Evaluate each new checkpoint of a training run."""

    folder: Path = option("the output folder of the training run", kw_only=False, metavar="DIR", place="1")
    tasks: Names = option(
        TASKS,
        kw_only=False,
        metavar="NAMES",
        check=names,
        repeat=True,
        required=True,
        also=("--task", "--suite"),
    )
    output_path: str | Path = option("default: results", default=Path("results"), metavar="DIR", check=Path)
    pattern: str = option("of checkpoint folders (default checkpoint-*)", default="checkpoint-*")
    against: str | Path | None = option(
        "also warn of drops against these runs", default=None, metavar="BASELINE"
    )
    forgetting: str | Path | None = option(
        "what each lost against the runs of its base, task by task", default=None, metavar="BASE"
    )
    limit: int | None = option("only N images of each task", default=None, metavar="N", check=positive)
    protocol: Protocol | None = option("default: the checkpoint's, or the task's", default=None)
    hook: str | None = option(
        "a shell command after each; it gets EVALKIT_CHECKPOINT, _STEP, _MEAN, _BEST, _DROPS, _TREND",
        default=None,
        metavar="CMD",
    )
    poll: float = option("seconds between looks (30)", default=30.0, metavar="S", check=not_negative)
    once: bool = option("only the checkpoints that are there", default=False)


@options
class ExportOptions(DataOptions, CodeOptions):
    """A run's answers as the file that a test server wants."""

    runs: Paths = option(RUNS, kw_only=False, metavar="RUN", place="+", check=paths)
    to: str = option("vqav2, docvqa, ..., jsonl, csv (default: by the task)", default="auto", metavar="FORM")
    output: str | Path | None = option(
        "default: export/ in the run's folder", default=None, metavar="FILE", check=Path
    )
    allow_partial: bool = option("also where answers are missing", default=False)


@options
class AskOptions(ModelOptions, DataOptions):
    """One question about one image."""

    image: str | Path = option("a picture", kw_only=False, place="1", check=Path)
    prompt: str = option("what is asked, as PaliGemma's prompts are written", kw_only=False, place="1")
    model: Names = option(MODEL, kw_only=False, metavar="MODEL", check=names, repeat=True, required=True)
    max_new_tokens: int = option("default 64", default=64, metavar="N", check=positive)
    overlay: str | Path | None = option(
        "where to draw boxes and masks", default=None, metavar="PNG", check=Path
    )


@options
class DoctorOptions(ModelOptions, DataOptions, LayoutOptions, CodeOptions):
    """Engines, batches and precision of a checkpoint; or what it was trained with; what to set."""

    model: Names = option(MODEL, default=(), kw_only=False, metavar="MODEL", check=names, repeat=True)
    samples: int | None = option("default 32; of known answers 64", default=None, metavar="N", check=positive)
    protocol_of: str | None = option(
        "in place of --model: what this checkpoint was trained with (mask, newline, resize...), by answers "
        "that --data or --tasks state",
        default=None,
        metavar="MODEL",
    )
    tasks: Names = option(
        f"with --protocol-of: {TASKS}", metavar="NAMES", default=(), check=names, repeat=True, several=True
    )
    data: Path | None = option(
        "with --protocol-of: a folder or file of your own, such as the training data",
        default=None,
        metavar="FOLDER|FILE",
        check=Path,
    )
    write: bool = option(
        "with --protocol-of: write what is certain to evalkit.yaml beside the checkpoint", default=False
    )


@options
class ConvertOptions(Options):
    """A big_vision .npz checkpoint to a folder in Hugging Face layout."""

    file: Path = option("the checkpoint", kw_only=False, metavar="FILE.npz", place="1")
    target: Path = option("the folder to be written", kw_only=False, metavar="FOLDER", place="1")
    tokenizer: Path = option("a folder that has PaliGemma's", kw_only=False, metavar="DIR", required=True)


@options
class ListOptions(Options):
    """What there is."""

    what: Literal["tasks", "suites", "metrics", "parsers", "models", "formats", "forms", "runs"] = option(
        "what to list", kw_only=False, place="1"
    )
    words: Names = option(
        "only tasks with all of these in name, suite or description",
        default=(),
        kw_only=False,
        metavar="WORD",
        check=names,
        place="*",
    )
    include_path: Paths = option("more task files", default=(), metavar="DIR", check=paths, repeat=True)
    output_path: str | Path = option("default: results", default=Path("results"), metavar="DIR", check=Path)


@options
class ShowOptions(DataOptions, SetOptions, CodeOptions):
    """A task: exact prompt on a sample, preparation, metrics, what is missing."""

    task: str | Path = option("a task's name or file", kw_only=False, place="1", check=str)
    yaml: bool = option("the task file alone, to copy and change", default=False)


@options
class FindDataOptions(DataOptions, SetOptions, LayoutOptions, CodeOptions):
    """Where a task's data is looked for; or what a folder or file of one's own holds."""

    tasks: Names = option(
        f"{TASKS}; or a folder or file of your own", kw_only=False, metavar="TASK", place="+", check=names
    )
    check: bool = option("read it: counts against the official, targets, images", default=False)
    all_images: bool = option("with --check: decode every image, not a sample", default=False)


@options
class ValidateOptions(CodeOptions):
    """Check task files without running them."""

    files: Paths = option(
        "task files", default=(), kw_only=False, metavar="FILE.yaml", place="*", check=paths
    )
    include_path: Paths = option(
        "where task files' own code is looked for", default=(), metavar="DIR", check=paths, repeat=True
    )
    data: bool = option("read their data too: whether the metrics can score it", default=False)
    data_root: Paths = option(
        "with --data: where datasets are", default=(), metavar="DIR", check=paths, repeat=True
    )
    schema: bool = option("print the JSON schema of a task file, for editors", default=False)


@options
class RunsOptions(Options):
    """List, keep or remove runs."""

    what: Literal["list", "keep", "rm", "gc"] = option(
        "default: list", default="list", kw_only=False, place="?"
    )
    runs: Paths = option(
        "with keep and rm: run folders", default=(), kw_only=False, metavar="RUN", place="*", check=paths
    )
    yes: bool = option("remove; without it gc and rm only say what they would", default=False)
    output_path: str | Path = option("default: results", default=Path("results"), metavar="DIR", check=Path)


@options
class PublishedOptions(Options):
    """The papers' numbers, of a task or a model."""

    what: str | None = option(
        "default: how many there are", default=None, kw_only=False, metavar="TASK|MODEL", place="?"
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
    output: str | Path | None = option("all of them as JSON lines", default=None, metavar="FILE", check=Path)


@options
class PagesOptions(CodeOptions):
    """Which samples a report shows, and where their images are."""

    runs: Paths = option(
        f"{RUNS}; several are compared", kw_only=False, metavar="RUN", place="+", check=paths
    )
    limit: int | None = option("only so many samples of a task", default=None, metavar="N", check=positive)
    data_root: Paths = option(
        "where images are, if not where the run found them",
        default=(),
        metavar="DIR",
        check=paths,
        repeat=True,
    )


@options
class ReportOptions(PagesOptions):
    """Pages that open from disk: scores, every sample with its picture, what went wrong."""

    output: str | Path = option("default: REPORT", default=Path("REPORT"), metavar="DIR", check=Path)
    picture_size: int | None = option(
        "pixels of a picture's longer side (default: 768 up to 500 images, 384 up to 5,000, else 256)",
        default=None,
        metavar="N",
        check=positive,
    )
    title: str = option("default: the checkpoints' names", default="", metavar="TEXT")
    single_file: bool = option("one HTML file with everything in it, for few samples", default=False)
    no_images: bool = option("without pictures", default=False)
    redact: bool = option(
        "without pictures, questions, targets and answers: for data that may not be passed on", default=False
    )


@options
class ViewOptions(PagesOptions):
    """The same pages in the browser, served to this machine alone; RUN may also be a report."""

    no_browser: bool = option("only say the address", default=False)


FIGURES: dict[str, str] = {
    "forest": "a score",
    "differences": "two checkpoints that can be compared",
    "trend": "three checkpoints whose names differ by a number, or a folder that `evalkit watch` keeps",
    "errors": "answers that are wrong in a known way",
    "groups": "a dataset that states groups",
    "classes": "a metric that scores classes, such as coco_ap",
    "confusion": "classes that are answered",
    "sizes": "boxes of several sizes",
    "precision-recall": "boxes with scores of their own",
    "calibration": "log-probabilities, which a run keeps where its task asks for them",
    "coverage": "margins of the answers",
    "resolution": "one checkpoint at several resolutions",
    "scores": "a score of each sample",
    "overlap": "boxes",
    "lengths": "answers",
}
"""What `plot` draws, and what each needs."""


def figures(value: Names) -> tuple[str, ...]:
    """Names of figures, or `all`."""
    found = names(value)
    for name in found:
        if name != "all" and name not in FIGURES:
            raise ValueError(name, "no such figure" + nearest(name, [*FIGURES, "all"]))
    if not found:
        raise ValueError("names no figure; say forest, or all")
    return found


@options
class PlotOptions(CodeOptions):
    """The report's graphics as files for papers (needs matplotlib: pip install 'evalkit[plot]')."""

    runs: Paths = option(
        f"{RUNS}; several are compared", kw_only=False, metavar="RUN", place="+", check=paths
    )
    what: Names = option(
        f"default: forest; by comma, or all: {', '.join(FIGURES)}",
        default=("forest",), metavar="FIGURES", check=figures, repeat=True,
    )  # fmt: skip
    output: str | Path = option(
        "default: figure.pdf; .svg, .pdf or .png. Of several tasks or figures the names are put behind it",
        default=Path("figure.pdf"), metavar="FILE", check=Path,
    )  # fmt: skip
    tasks: Names = option(
        "only these tasks, by comma", default=(), metavar="NAMES", check=names, repeat=True, also=("--task",)
    )
    width: Literal["one", "two"] = option("columns of a page of two: 3.35 or 6.9 inches", default="one")
    top: int = option(
        "rows of bars, classes of a matrix (default 20)", default=20, metavar="N", check=positive
    )
    limit: int | None = option("only so many samples of a task", default=None, metavar="N", check=positive)


VERBS: dict[str, type[Options]] = {
    "run": RunOptions,
    "demo": DemoOptions,
    "score": ScoreOptions,
    "table": TableOptions,
    "report": ReportOptions,
    "view": ViewOptions,
    "plot": PlotOptions,
    "export": ExportOptions,
    "compare": CompareOptions,
    "sweep": SweepOptions,
    "check": CheckOptions,
    "baseline": BaselineOptions,
    "watch": WatchOptions,
    "published": PublishedOptions,
    "explain": ExplainOptions,
    "suspects": SuspectsOptions,
    "list": ListOptions,
    "show": ShowOptions,
    "data": FindDataOptions,
    "validate": ValidateOptions,
    "runs": RunsOptions,
    "convert": ConvertOptions,
    "doctor": DoctorOptions,
    "ask": AskOptions,
}
"""Every command and what it takes, in the order of `evalkit --help`."""
