"""The command line: arguments in, exit status out. 0 done, 1 a test failed, 2 a mistake to mend."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from evalkit import __version__
from evalkit.cli import table
from evalkit.cli.check import _baseline, _check, _check_arguments
from evalkit.cli.compare import _compare, _compare_arguments
from evalkit.cli.export import _export
from evalkit.cli.model import _ask, _convert, _doctor
from evalkit.cli.options import Adder, _data, _model, _positive, _published_model, _verb, _where
from evalkit.cli.published import _explain, _published
from evalkit.cli.run import _demo, _run, _run_arguments
from evalkit.cli.runs import _runs
from evalkit.cli.score import _score
from evalkit.cli.suggest import Parser
from evalkit.cli.table import _table
from evalkit.cli.tasks import _data_of, _list, _show, _validate
from evalkit.cli.watch import _watch, _watch_arguments
from evalkit.errors import UserError

EPILOG = """examples:
  evalkit demo                                              the whole thing on an embedded model, a minute
  evalkit run --model google/paligemma-3b-mix-224 --tasks vqav2_val --limit 100
  evalkit run --model ./my-finetune --tasks docvqa_val,chartqa_human_test --dtype bfloat16
  evalkit table results                                     the leaderboard of all runs
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Mistakes that a person can mend are one line on stderr and status 2."""
    words = _dashed(list(sys.argv[1:] if argv is None else argv))
    warnings.showwarning = _warn
    if words and words[0].startswith("--") and words[0] not in ("--help", "--version"):
        words.insert(0, "run")  # `evalkit --model ... --tasks ...`, as lm-eval takes it
    arguments = parser().parse_args(words)
    if not hasattr(arguments, "act"):
        parser().print_help()
        return 2
    try:
        status: int = arguments.act(arguments) or 0
        return status
    except UserError as error:
        print(f"evalkit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nevalkit: stopped; what was answered is kept, the same command goes on from here",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:  # `evalkit table | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as a line for people, without the place in the code."""
    print(f"evalkit: warning: {message}", file=sys.stderr)


def _dashed(words: list[str]) -> list[str]:
    """`--batch_size=4` as `--batch-size=4`: both spellings of every flag."""
    out = []
    for word in words:
        name, mark, value = word.partition("=")
        out.append(name.replace("_", "-") + mark + value if name.startswith("--") else word)
    return out


class _Raising(Parser):
    """A parser for callers from Python: a wrong flag is an exception, not the process's end."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse(words: list[str]) -> argparse.Namespace:
    """The words as the command line reads them. Raises UserError where it would exit."""
    return parser(_Raising).parse_args(words)


# --- arguments -------------------------------------------------------------------------------------


def parser(kind: type[Parser] = Parser) -> argparse.ArgumentParser:
    """The whole command line; `kind` decides what a mistake does."""
    top = kind(
        prog="evalkit",
        description="Evaluates PaliGemma checkpoints by the published protocol.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"evalkit {__version__}")
    verbs = top.add_subparsers(metavar="COMMAND")
    _running(verbs)
    add(verbs, _verb, _model, _data, _where)
    _looking(verbs)
    _asking(verbs)
    return top


def _running(verbs: Any) -> None:
    _run_arguments(
        _verb(verbs, "run", "predict and score tasks with checkpoints; goes on where it stopped", _run)
    )

    verb = _verb(
        verbs, "demo", "the main job on an embedded model and benchmark, then the leaderboard", _demo
    )
    _where(verb)
    verb.add_argument("--limit", type=_positive, metavar="N", help="only N scenes")

    verb = _verb(verbs, "score", "score again without a model, or score predictions made elsewhere", _score)
    verb.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders, or folders of runs")
    verb.add_argument("--task", help="with --predictions: the task they answer")
    verb.add_argument("--predictions", metavar="FILE", help='JSON lines {"id": ..., "text": ...}')
    verb.add_argument("--name", help="what to call the model that made the predictions")
    _data(verb)
    _where(verb)

    verb = _verb(verbs, "table", "the leaderboard: tasks × checkpoints", _table)
    verb.add_argument("runs", nargs="*", type=Path, metavar="RUN|DIR", help="default: results")
    table.table_arguments(verb)

    verb = _verb(verbs, "export", "a run's answers as the file that a test server wants", _export)
    verb.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders of runs")
    verb.add_argument(
        "--to", default="auto", metavar="FORM", help="vqav2, docvqa, ..., jsonl, csv (default: by the task)"
    )
    verb.add_argument("--output", type=Path, metavar="FILE", help="default: export/ in the run's folder")
    verb.add_argument("--allow-partial", action="store_true", help="also where answers are missing")
    _data(verb)


def _looking(verbs: Any) -> None:
    verb = _verb(verbs, "list", "what there is", _list)
    verb.add_argument("what", choices=("tasks", "suites", "metrics", "parsers", "models", "formats", "runs"))
    verb.add_argument("--include-path", action="append", type=Path, default=[], help="more task files")
    _where(verb)

    verb = _verb(
        verbs, "show", "a task: exact prompt on a sample, preparation, metrics, what is missing", _show
    )
    verb.add_argument("task")
    _data(verb)

    verb = _verb(
        verbs, "data", "where a task's data is looked for, what is found, where to get the rest", _data_of
    )
    verb.add_argument("tasks", nargs="+", metavar="TASK")
    verb.add_argument("--check", action="store_true", help="read it: counts against the official, images")
    _data(verb)

    verb = _verb(verbs, "validate", "check task files without running them", _validate)
    verb.add_argument("files", nargs="*", metavar="FILE.yaml")
    verb.add_argument(
        "--schema", action="store_true", help="print the JSON schema of a task file, for editors"
    )

    verb = _verb(verbs, "runs", "list, keep or remove runs; gc removes what newer runs replaced", _runs)
    verb.add_argument("what", nargs="?", choices=("list", "keep", "rm", "gc"), default="list")
    verb.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="with keep and rm: run folders")
    verb.add_argument(
        "--yes", action="store_true", help="remove; without it gc and rm only say what they would"
    )
    _where(verb)


def _asking(verbs: Any) -> None:
    verb = _verb(
        verbs, "convert", "a big_vision .npz checkpoint to a folder in Hugging Face layout", _convert
    )
    verb.add_argument("file", type=Path, metavar="FILE.npz")
    verb.add_argument("target", type=Path, metavar="FOLDER")
    verb.add_argument(
        "--tokenizer", type=Path, required=True, metavar="DIR", help="a folder that has PaliGemma's"
    )

    verb = _verb(verbs, "doctor", "engines, batches and precision of a checkpoint; what to set", _doctor)
    verb.add_argument("--samples", type=_positive, default=32, metavar="N", help="default 32")
    _model(verb, required=True)

    verb = _verb(verbs, "ask", "one question about one image", _ask)
    verb.add_argument("image", type=Path)
    verb.add_argument("prompt")
    verb.add_argument("--max-new-tokens", type=_positive, default=64, metavar="N")
    verb.add_argument("--overlay", type=Path, metavar="PNG", help="where to draw boxes and masks")
    _model(verb, required=True)
    _data(verb)


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
