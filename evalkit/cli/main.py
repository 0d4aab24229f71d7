"""The command line: words in, exit status out. 0 done, 1 a test failed, 2 a mistake of the user's."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from evalkit import __version__
from evalkit.cli import interrupts
from evalkit.cli.suggest import Parser
from evalkit.errors import TasksFailed, UserError
from evalkit.printing import one_line, say

EPILOG = """examples:
  evalkit demo                                              the whole thing on an embedded model, a minute
  evalkit run --model google/paligemma-3b-mix-224 --tasks vqav2_val --limit 100
  evalkit run --model ./my-finetune --tasks docvqa_val,chartqa_human_test --dtype bfloat16
  evalkit table results                                     the leaderboard of all runs
"""
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "predict and score tasks with checkpoints; goes on where it stopped"),
    "demo": ("run", "the main job on an embedded model and benchmark, then the leaderboard"),
    "score": ("score", "score again without a model, or score predictions made elsewhere"),
    "table": ("table", "the leaderboard: tasks × checkpoints"),
    "report": ("report", "pages that open from disk: scores, every sample with its picture, what went wrong"),
    "view": ("report", "the same pages in the browser, served to this machine alone"),
    "plot": ("report", "the report's graphics as SVG, PDF or PNG, for papers"),
    "export": ("export", "a run's answers as the file that a test server wants"),
    "compare": ("compare", "are two models different, task by task"),
    "sweep": ("sweep", "what moves the score: prompts, resolution, precision, any setting"),
    "check": ("check", "may a candidate replace a baseline; 0 yes, 1 no, 3 undecided, 2 a mistake"),
    "baseline": ("check", "a small file of a run's texts and rows, to check against"),
    "watch": ("watch", "evaluate each new checkpoint of a training run: trend, best, a warning on a drop"),
    "published": ("published", "the papers' numbers, of a task or a model"),
    "explain": (
        "published",
        "why a run's number may differ from the published one, or two runs from each other",
    ),
    "suspects": ("suspects", "samples whose annotation is probably wrong, ranked"),
    "list": ("tasks", "what there is"),
    "show": ("tasks", "a task: exact prompt on a sample, preparation, metrics, what is missing"),
    "data": ("tasks", "where a task's data is looked for, what is found, where to get the rest"),
    "validate": ("tasks", "check task files without running them"),
    "runs": ("runs", "list, keep or remove runs; gc removes what newer runs replaced"),
    "convert": ("model", "a big_vision .npz checkpoint to a folder in Hugging Face layout"),
    "doctor": ("model", "engines, batches and precision of a checkpoint; what to set"),
    "ask": ("model", "one question about one image"),
}
"""Every command: the file that does it, imported when it is asked for, and what `--help` says."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. The user's mistakes are one line on stderr and status 2."""
    if argv is None:
        interrupts.install()
    words = _dashed(list(sys.argv[1:] if argv is None else argv))
    warnings.showwarning = _warn
    for stream in (sys.stdout, sys.stderr):  # a name or an answer may hold half a character
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if words and words[0].startswith("--") and words[0] not in ("--help", "--version"):
        words.insert(0, "run")  # `evalkit --model ... --tasks ...`, as lm-eval takes it
    if not words:
        _top().print_help()
        return 2
    verb = words[0]
    if verb not in COMMANDS:
        _top().parse_args(words[:1])
    try:
        status = _run(verb, words[1:])
        sys.stdout.flush()  # what it cannot take is said here, not by Python at the very end
        return status
    except UserError as error:
        say("\n".join(f"evalkit: {one_line(said)}" for said in error.sentences))
        return error.status if isinstance(error, TasksFailed) else 2
    except KeyboardInterrupt:
        return interrupts.stopped()
    except BrokenPipeError:  # `evalkit table | head`; of `check` nobody has seen the decision
        _drop_stdout()
        return 2 if verb == "check" else 0
    except Exception as error:
        return _unexpected(error)


def _unexpected(error: Exception) -> int:
    """Says what is no mistake in what was asked, with the place in the code unless it is the system's. Status
    2: 1 says that a test failed, which `check` must not."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
        _drop_stdout()
        say("evalkit: the disk is full, where the output of this command goes")
        return 2
    if isinstance(error, OSError) and error.filename is not None:
        say(f"evalkit: {error.filename}: {error.strerror or error}")
        return 2
    traceback.print_exception(error)
    say(
        f"evalkit: {type(error).__name__}: evalkit did not expect this; what was answered is kept. Please "
        "report it with the lines above"
    )
    return 2


def _drop_stdout() -> None:
    """What is still to be printed goes nowhere: Python would try, and complain, once more as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(verb: str, words: list[str]) -> int:
    """Does what a command's words say. What it needs is imported here: `evalkit --help` needs nothing."""
    from evalkit import files, own_code
    from evalkit.cli import options

    file, about = COMMANDS[verb]
    given = options.read(verb, about, words)
    act = importlib.import_module(f"evalkit.cli.{file}").ACTS[verb]
    if getattr(given, "rehash", False):
        files.distrust()
    with own_code.allowed(*given.own_code()):
        return act(given) or 0


def _top() -> argparse.ArgumentParser:
    """`evalkit --help`, and what says that a command is mistyped."""
    top = Parser(
        prog="evalkit",
        description="Evaluates PaliGemma checkpoints by the published protocol.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"evalkit {__version__}")
    verbs = top.add_subparsers(metavar="COMMAND")
    for verb, (_, about) in COMMANDS.items():
        verbs.add_parser(verb, help=about)
    return top


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as a line for people, without the place in the code."""
    say(f"evalkit: warning: {one_line(str(message))}")


def _dashed(words: list[str]) -> list[str]:
    """`--batch_size=4` as `--batch-size=4`: both spellings of every flag."""
    out = []
    for word in words:
        name, mark, value = word.partition("=")
        out.append(name.replace("_", "-") + mark + value if name.startswith("--") else word)
    return out
