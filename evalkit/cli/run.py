"""evalkit.cli.run: docstring to be written."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from evalkit.cli.options import _data, _model, _positive, _where, margin
from evalkit.comparison.compare import MARGIN, base, compare, only_side
from evalkit.errors import UserError
from evalkit.evaluation.evaluate import DEMO, _model_args, _plan_all, _run_all, checkpoint, execute, roots
from evalkit.evaluation.predict import Options
from evalkit.report import formats, leaderboard
from evalkit.report.columns import _screen
from evalkit.report.comparison import text_of
from evalkit.runs import scored_run, store
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Asked


def _run_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--tasks",
        "--task",
        action="append",
        required=True,
        metavar="NAMES",
        help="tasks, suites, patterns or YAML files, by comma",
    )
    _model(verb, required=True)
    _data(verb)
    _where(verb)
    verb.add_argument(
        "--limit", type=_positive, metavar="N", help="only N images of each task (a seeded choice)"
    )
    verb.add_argument("--ids", type=Path, metavar="FILE", help="only these sample ids, one a line")
    verb.add_argument("--seed", type=int, default=0, help="of the choice that --limit makes (default 0)")
    verb.add_argument("--prompt", metavar="TEXT", help="another prompt, e.g. 'answer en {question}'; stamped")
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the task, e.g. decode.max_new_tokens=64; stamped",
    )
    verb.add_argument(
        "--protocol", choices=("paper", "hf"), help="image, prompt and stop rules (default: the task's)"
    )
    verb.add_argument("--on-bad-image", choices=("stop", "skip"), default="stop")
    run_arguments(verb)
    verb.add_argument("--dry-run", action="store_true", help="the plan with samples, FLOPs, time and disk")
    verb.add_argument("--resume-across", action="store_true", help="go on with other library versions")


# --- commands; each imports what it needs, so that --help and list stay light ------------------------


def _run(arguments: argparse.Namespace) -> int:

    return run(arguments, command=shlex.join(sys.argv[1:]))


def _demo(arguments: argparse.Namespace) -> int:

    return demo(arguments.output_path, arguments.limit)


# --- run -------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace, command: str) -> int:
    """`evalkit run`: every model on every task; plan first, then predict, score and the table."""
    folders = execute(arguments, command)
    if arguments.dry_run:
        return 0
    print()
    print(formats.terminal(leaderboard.collect(folders), bold=sys.stdout.isatty()), end="", flush=True)
    if arguments.against and not arguments.until_decided:
        part = arguments.limit is not None or arguments.ids is not None
        after_run(arguments.against, folders, arguments.margin, ("samples",) if part else ())
    return 0


def _pair(text: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not mark or not key:
        raise UserError(f"--set {text}: write KEY=VALUE, e.g. --set decode.max_new_tokens=64")
    return key, value


def demo(output: Path, limit: int | None) -> int:
    """`evalkit demo`: the embedded suite with the two embedded checkpoints."""
    loaded = [loader.load(name) for name in loader.expand([DEMO])]
    shelf = dataset.Shelf(roots([], loaded))
    arguments = argparse.Namespace(
        model_args="", revision=None, resolution=None, dtype=None, device=None, device_map=None,
        batch_size="auto",
    )  # fmt: skip
    found = [checkpoint(f"{DEMO}:{name}", arguments) for name in ("earlier", "later")]
    options = Options(command="demo")
    every = _plan_all(found, loaded, shelf, output, Asked(limit), None, options)
    folders = _run_all(found, every, shelf, options)
    print("\n" + formats.terminal(leaderboard.collect(folders), bold=sys.stdout.isatty()), end="")
    print(
        f"\nResults are in {output}/; next: evalkit run --model YOUR_CHECKPOINT --tasks vqav2_val "
        "--data-root YOUR_DATASETS --limit 100"
    )
    return 0


# --- models and data ---------------------------------------------------------------------------------


def _models(arguments: argparse.Namespace) -> list[str]:
    """`--model`, repeated or by comma; `--model paligemma --model_args pretrained=X` as in lm-eval."""
    given = [spec for text in arguments.model for spec in text.split(",") if spec]
    pretrained = _model_args(arguments.model_args).get("pretrained")
    if pretrained and given in (["paligemma"], ["hf"]):
        return [pretrained]
    if pretrained:
        raise UserError(
            "--model_args pretrained=...: goes with --model paligemma; else name the checkpoint by --model"
        )
    return list(dict.fromkeys(given))


def _ids(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is no UTF-8 text"
        raise UserError(f"--ids {path}: {why}; give a text file, one id a line") from None
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise UserError(f"--ids {path}: holds no ids; one id a line")
    return found


def after_run(
    against: str, folders: Sequence[store.RunFolder], margin: float | None, allow: Collection[str] = ()
) -> None:
    """`evalkit run --against`: what was run now against a baseline, every model."""
    found = scored_run.of_runs(folders)
    reference = base(against, [run.task for run in found])
    for name in dict.fromkeys(r.name for r in found):
        side = only_side([r for r in found if r.name == name], name)
        found_now = compare(reference, side, allow, margin or MARGIN)
        print("\n" + text_of(found_now, sys.stdout.isatty(), width=_screen()))


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
