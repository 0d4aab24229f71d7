"""What the verbs take that load a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from evalkit.errors import nearest
from evalkit.options.fields import (
    Names,
    Options,
    count_or_share,
    models,
    names,
    not_negative,
    option,
    options,
    positive,
    share,
)
from evalkit.options.groups import MODEL, OWN, TASKS, CodeOptions, LayoutOptions, SetOptions, TrackerOptions
from evalkit.options.model import DataOptions, ModelOptions, Protocol, TrustOptions, read_model_args

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
            if found.get(GENERATION[key], str(said)) != str(said):
                raise ValueError(value, f"{key}: is {found[GENERATION[key]]} already; say it once")
            found[GENERATION[key]] = str(said)
        else:
            raise ValueError(
                value, f"{key}: no such setting{nearest(key, GENERATION)}; --set has all of a task's"
            )
    return found


def one_by_one(value: str | Sequence[str]) -> tuple[str, ...]:
    """Texts that may hold commas, each as it is."""
    return (value,) if isinstance(value, str) else tuple(value)


def relative(value: str) -> str:
    """A pattern of names inside a folder. Raises ValueError."""
    if Path(value).anchor or ".." in Path(value).parts:
        raise ValueError("is no pattern of names inside the watched folder; write checkpoint-* or */step-*")
    return value


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
        OWN,
        default=None,
        metavar="FOLDER|FILE",
        check=Path,
    )
    name: str | None = option(
        "what to call the model; of several: --model PATH,name=LABEL", default=None, metavar="LABEL"
    )
    output_path: str | Path = option(
        "default: results", default=Path("results"), metavar="DIR", check=Path, writes="folder"
    )
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
        "another prompt, e.g. 'answer en {question}'; marked in tables",
        default=None,
        metavar="TEXT",
        empty=True,
    )
    gen_kwargs: str | Mapping[str, Any] = option(
        "as lm-eval takes them: max_new_tokens=64,temperature=0,num_beams=1",
        default="",
        metavar="K=V,...",
        check=gen_kwargs,
        empty=True,
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

    output_path: str | Path = option(
        "default: results", default=Path("results"), metavar="DIR", check=Path, writes="folder"
    )
    limit: int | None = option("only N scenes", default=None, metavar="N", check=positive)


@options
class SweepOptions(ModelOptions, DataOptions, SetOptions, LayoutOptions, TrustOptions, CodeOptions):
    """What moves the score: a grid of settings, on more samples where it is undecided."""

    model: Names = option(
        "a checkpoint as `run` takes it; several are the values of --over resolution",
        kw_only=False, metavar="MODEL", check=models, repeat=True, required=True,
    )  # fmt: skip
    tasks: Names = option(
        TASKS, kw_only=False, metavar="NAMES", default=(), check=names, repeat=True, several=True,
        also=("--task",),
    )  # fmt: skip
    data: Path | None = option(OWN, default=None, metavar="FOLDER|FILE", check=Path)
    over: Sequence[str] = option(
        "prompt, resolution, precision, classes_per_call, or KEY=A,B of any option of the model or key of a "
        "task; the first value is what the others are compared with",
        default=(), metavar="AXIS", check=one_by_one, repeat=True,
    )  # fmt: skip
    prompt: Sequence[str] = option(
        "with --over prompt: a text to try beside the task's own (default: with and without 'answer en', in "
        "lower case, with a second line break)",
        default=(), metavar="TEXT", check=one_by_one, repeat=True, empty=True,
    )  # fmt: skip
    first: int = option("images of the first look (default 100)", default=100, metavar="N", check=positive)
    limit: float | None = option(
        "images of the last look, or a share of them (default: all)",
        default=None, metavar="N", check=count_or_share,
    )  # fmt: skip
    margin: float = option("of equivalence (default 0.02: two points)", default=0.02, check=share)
    protocol: Protocol | None = option("image, prompt and stop rules (default: the task's)", default=None)
    output_path: str | Path = option(
        "default: results", default=Path("results"), metavar="DIR", check=Path, writes="folder"
    )
    format: Literal["terminal", "md", "csv", "html", "latex", "json"] | None = option(
        "default: by the name of --output, else terminal", default=None
    )
    output: str | Path | None = option(
        "write the map there instead of printing", default=None, metavar="FILE", check=Path, writes="file"
    )


@options
class WatchOptions(ModelOptions, DataOptions, LayoutOptions, TrackerOptions, TrustOptions, CodeOptions):
    """Evaluate each new checkpoint of a training run."""

    folder: Path = option("the output folder of the training run", kw_only=False, metavar="DIR", place="1")
    tasks: Names = option(
        TASKS,
        kw_only=False,
        metavar="NAMES",
        default=(),
        check=names,
        repeat=True,
        also=("--task", "--suite"),
    )
    data: Path | None = option(OWN, default=None, metavar="FOLDER|FILE", check=Path)
    output_path: str | Path = option(
        "default: results", default=Path("results"), metavar="DIR", check=Path, writes="folder"
    )
    pattern: str = option(
        "of checkpoint folders (default checkpoint-*)", default="checkpoint-*", check=relative
    )
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
class AskOptions(ModelOptions, DataOptions):
    """One question about one image."""

    image: str | Path = option("a picture", kw_only=False, place="1", check=Path)
    prompt: str = option(
        "what is asked, as PaliGemma's prompts are written", kw_only=False, place="1", empty=True
    )
    model: Names = option(MODEL, kw_only=False, metavar="MODEL", check=names, repeat=True, required=True)
    max_new_tokens: int = option("default 64", default=64, metavar="N", check=positive)
    overlay: str | Path | None = option(
        "where to draw boxes and masks", default=None, metavar="PNG", check=Path, writes="file"
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
