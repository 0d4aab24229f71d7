"""The arguments of the verbs that judge: compare, check, baseline, watch, published, explain.

Each imports what it needs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalkit.errors import UserError

Adder = Callable[..., Any]


def add(verbs: Any, verb: Adder, model: Adder, data: Adder, where: Adder) -> None:
    """Adds the verbs; the four callables are the command line's own way of adding arguments."""
    _compare_arguments(verb(verbs, "compare", "are two models different, task by task", _compare))

    about = "may a candidate replace a baseline; 0 yes, 1 no, 3 can't be told, 2 a mistake to mend"
    check = verb(verbs, "check", about, _check)
    _check_arguments(check)
    model(check, required=False)
    data(check)
    where(check)
    check.set_defaults(output_path=None)

    save = verb(verbs, "baseline", "a small file of a run's texts and rows, to check against", _baseline)
    save.add_argument("what", choices=("save",))
    save.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or folders of runs")
    save.add_argument("file", type=Path, metavar="FILE", help="e.g. baselines/main.json, or .json.gz")

    about = "evaluate each new checkpoint of a training run: trend, best, a warning on a drop"
    watch = verb(verbs, "watch", about, _watch)
    _watch_arguments(watch)
    model(watch, required=False)
    data(watch)
    where(watch)
    _papers(verbs, verb)


def _papers(verbs: Any, verb: Adder) -> None:
    papers = verb(verbs, "published", "the papers' numbers, of a task or a model", _published)
    papers.add_argument("what", nargs="?", metavar="TASK|MODEL", help="default: how many there are")

    about = "why a run's number may differ from the published one, or two runs from each other"
    explain = verb(verbs, "explain", about, _explain)
    explain.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run, or two to tell apart")
    _published_model(explain)


def margin(text: str) -> float:
    """A margin as a share: 0.01 is one point."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1; one point is 0.01")
    return value


def allowed(text: str) -> tuple[str, ...]:
    """`prompt,protocol,samples`, checked."""
    known = ("prompt", "protocol", "samples")
    names = tuple(n for n in text.split(",") if n)
    wrong = [n for n in names if n not in known]
    if wrong:
        raise UserError(f"--allow {wrong[0]}: unknown; there are: {', '.join(known)}")
    return names


def run_arguments(verb: argparse.ArgumentParser) -> None:
    """What `evalkit run` takes to compare with a baseline at once, and to tell a tracker."""
    verb.add_argument("--on-scores", metavar="FILE.py:NAME", help="a function told of every run's scores")
    verb.add_argument("--against", metavar="BASELINE", help="compare with these runs, or a baseline file")
    verb.add_argument(
        "--num-fewshot", "--fewshot", nargs="?", const="1", default="0", metavar="0",
        help="as in lm-eval, only 0: PaliGemma's prompts are zero-shot",
    )  # fmt: skip
    verb.add_argument(
        "--until-decided", action="store_true", help="stop as soon as worse, better or equivalent is certain"
    )
    verb.add_argument(
        "--margin", type=margin, help="of equivalence: default 0.02 with --until-decided, else 0.01"
    )


def table_arguments(verb: argparse.ArgumentParser) -> None:
    """The forms of the leaderboard."""
    verb.add_argument(
        "--format", choices=("terminal", "md", "csv", "html", "latex", "json", "model-index", "lm-eval"),
        help="default: by the name of --output, else terminal",
    )  # fmt: skip
    verb.add_argument(
        "--shape", choices=("wide", "long"), help="tasks × models, or a line a score (csv and json: long)"
    )
    verb.add_argument("--paired", action="store_true", help="tell ties with the best by the samples; slower")
    verb.add_argument(
        "--mean-over", choices=("seed",),
        help="one column for fine-tunes named alike but for -seed0, _s1, -run2 at the end: mean ± deviation",
    )  # fmt: skip
    verb.add_argument("--output", type=Path, metavar="FILE", help="write there instead of printing")
    verb.add_argument("--published", action="store_true", help="the papers' numbers beside, a line a score")
    _published_model(verb)


def _published_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--published-model", metavar="NAME",
        help="lay runs beside this model's numbers, e.g. paligemma2-3b (default: by the checkpoint's name)",
    )  # fmt: skip


# --- compare -------------------------------------------------------------------------------------------


def _compare_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "runs", nargs="+", metavar="A B",
        help="run folders, folders of runs, baseline files, FILE@GIT_REF; the first against the rest",
    )  # fmt: skip
    verb.add_argument("--allow", default="", metavar="KINDS", help="prompt,protocol,samples may differ")
    verb.add_argument("--margin", type=margin, default=0.01, help="of equivalence (default 0.01: one point)")
    verb.add_argument("--json", metavar="FILE", help="everything as JSON; - prints it instead of the table")
    verb.add_argument("--samples", type=int, default=0, metavar="N", help="name N lost and gained samples")
    verb.add_argument(
        "--grid", action="store_true", help="runs by resolution, precision, prompt and checkpoint, with cost"
    )


def _compare(arguments: argparse.Namespace) -> int:
    from evalkit import comparing

    return comparing.run(
        arguments.runs, allowed(arguments.allow), arguments.margin, arguments.json, arguments.grid,
        arguments.samples,
    )  # fmt: skip


# --- check and baseline -----------------------------------------------------------------------------------


def _check_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "candidate", nargs="?", help="a run folder, a folder of runs, or a model to run as the baseline was"
    )
    verb.add_argument(
        "--baseline", required=True, metavar="RUN", help="runs, a baseline file, or FILE@GIT_REF"
    )
    verb.add_argument("--policy", type=Path, metavar="FILE", help="a gate.yaml: margins, groups, speed")
    verb.add_argument("--margin", type=margin, help="how much worse may be (default 0.01: one point)")
    verb.add_argument("--limit", type=int, metavar="N", help="only the first N images of each task")
    verb.add_argument("--allow", default="", metavar="KINDS", help="prompt,protocol,samples may differ")
    verb.add_argument("--json", type=Path, metavar="FILE", help="the decision with every number")
    verb.add_argument("--junit", type=Path, metavar="FILE", help="one test case a task")
    verb.add_argument("--github", action="store_true", help="annotations and a job summary")


def _check(arguments: argparse.Namespace) -> int:
    from evalkit import checking

    return checking.run(arguments, allowed(arguments.allow))


def _baseline(arguments: argparse.Namespace) -> int:
    from evalkit import checking

    return checking.save(arguments.runs, arguments.file)


# --- watch ------------------------------------------------------------------------------------------------


def _watch_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("folder", type=Path, metavar="DIR", help="the output folder of the training run")
    verb.add_argument(
        "--tasks", "--task", "--suite", action="append", required=True, metavar="NAMES",
        help="tasks, suites, patterns or YAML files, by comma",
    )  # fmt: skip
    verb.add_argument("--pattern", default="checkpoint-*", help="of checkpoint folders (default %(default)s)")
    verb.add_argument("--against", metavar="BASELINE", help="also warn of drops against these runs")
    verb.add_argument("--limit", type=int, metavar="N", help="only N images of each task")
    verb.add_argument("--protocol", choices=("paper", "hf"), help="default: the checkpoint's, or the task's")
    verb.add_argument(
        "--hook", metavar="CMD",
        help="a shell command after each; it gets EVALKIT_CHECKPOINT, _STEP, _MEAN, _BEST, _DROPS, _TREND",
    )  # fmt: skip
    verb.add_argument("--on-scores", metavar="FILE.py:NAME", help="a function told of every run's scores")
    verb.add_argument("--poll", type=float, default=30.0, metavar="S", help="seconds between looks (30)")
    verb.add_argument("--once", action="store_true", help="only the checkpoints that are there")


def _watch(arguments: argparse.Namespace) -> int:
    from evalkit import watching

    return watching.run(arguments)


# --- published and explain --------------------------------------------------------------------------------


def _published(arguments: argparse.Namespace) -> int:
    from evalkit import yardstick

    return yardstick.show(arguments.what)


def _explain(arguments: argparse.Namespace) -> int:
    from evalkit import yardstick

    return yardstick.explain(arguments.runs, arguments.published_model)
