"""The command line: arguments in, exit status out. 0 done, 1 a test failed, 2 a mistake to mend."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from evalkit import __version__, judging
from evalkit.errors import UserError
from evalkit.mistyped import Parser

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
    judging.add(verbs, _verb, _model, _data, _where)
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
    judging.table_arguments(verb)

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


def _verb(verbs: Any, name: str, about: str, act: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + "."
    )
    verb.set_defaults(act=act)
    return verb


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
    judging.run_arguments(verb)
    verb.add_argument("--dry-run", action="store_true", help="the plan with samples, FLOPs, time and disk")
    verb.add_argument("--resume-across", action="store_true", help="go on with other library versions")


def _model(verb: argparse.ArgumentParser, required: bool) -> None:
    verb.add_argument(
        "--model",
        action="append",
        required=required,
        metavar="MODEL",
        help="checkpoint folder, hub id, demo:later, module:FILE.py:CLASS, replay:FILE; may be repeated",
    )
    verb.add_argument(
        "--model-args",
        default="",
        metavar="K=V,...",
        help="pretrained, revision, dtype, device, ... as in lm-eval",
    )
    verb.add_argument("--revision", help="hub revision, a 40-digit commit is best")
    verb.add_argument(
        "--resolution", type=int, choices=(224, 448, 896), help="checked against the checkpoint"
    )
    verb.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default=None,
        help="default float32, as the reference runs",
    )
    verb.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    verb.add_argument("--device-map", help="'auto' spreads a checkpoint over several GPUs")
    verb.add_argument("--adapter", metavar="DIR", help="a LoRA adapter to merge (peft's two files)")
    verb.add_argument("--quantize", metavar="SCHEME", help="int8 weights, or a library's scheme; stamped")
    verb.add_argument(
        "--batch-size", default="auto", metavar="N|auto", help="auto halves when memory runs out"
    )
    verb.add_argument(
        "--engine", choices=("fast", "plain"), help="default fast; plain is transformers' own forward"
    )
    verb.add_argument(
        "--kv-dtype", choices=("float32", "bfloat16"), help="bfloat16: round keys and values as big_vision"
    )
    verb.add_argument(
        "--stable",
        nargs="?",
        const="auto",
        metavar="MARGIN",
        help="decide answers closer than MARGIN logits again in float32; `evalkit doctor` measures MARGIN",
    )
    verb.add_argument(
        "--strict", action="store_true", default=None, help="one batch shape; out of memory is an error"
    )
    verb.add_argument(
        "--sliding-window",
        choices=("none", "transformers"),
        help="default none, as the reference; transformers: Gemma 2's window while decoding",
    )
    verb.add_argument(
        "--cuda-graphs", choices=("on", "off"), help="decode steps as CUDA graphs (default: off)"
    )
    verb.add_argument(
        "--compile", action="store_true", default=None, help="torch.compile decode steps and vision tower"
    )


def _data(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--data-root",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="where datasets lie (or EVALKIT_DATA, or evalkit.toml)",
    )
    verb.add_argument(
        "--include-path", action="append", type=Path, default=[], metavar="DIR", help="more task files"
    )


def _where(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--output-path", type=Path, default=Path("results"), metavar="DIR", help="default: results"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


# --- commands; each imports what it needs, so that --help and list stay light ------------------------


def _run(arguments: argparse.Namespace) -> int:
    from evalkit import commands

    return commands.run(arguments, command=shlex.join(sys.argv[1:]))


def _demo(arguments: argparse.Namespace) -> int:
    from evalkit import commands

    return commands.demo(arguments.output_path, arguments.limit)


def _score(arguments: argparse.Namespace) -> int:
    from evalkit import commands

    return commands.score(arguments)


def _table(arguments: argparse.Namespace) -> int:
    from evalkit import commands

    return commands.table(arguments)


def _export(arguments: argparse.Namespace) -> int:
    from evalkit import exporting

    return exporting.run(arguments)


def _list(arguments: argparse.Namespace) -> int:
    from evalkit import looking

    return looking.list_what(arguments.what, arguments.include_path, arguments.output_path)


def _show(arguments: argparse.Namespace) -> int:
    from evalkit import looking

    return looking.show(arguments)


def _data_of(arguments: argparse.Namespace) -> int:
    from evalkit import looking

    return looking.data(arguments)


def _runs(arguments: argparse.Namespace) -> int:
    from evalkit import looking

    return looking.runs(arguments.what, arguments.runs, arguments.output_path, arguments.yes)


def _validate(arguments: argparse.Namespace) -> int:
    from evalkit import looking

    return looking.validate(arguments.files, arguments.schema)


def _convert(arguments: argparse.Namespace) -> int:
    from evalkit import commands

    return commands.convert(arguments.file, arguments.target, arguments.tokenizer)


def _doctor(arguments: argparse.Namespace) -> int:
    from evalkit import commands

    return commands.examine(arguments)


def _ask(arguments: argparse.Namespace) -> int:
    from evalkit import commands

    return commands.ask(arguments)
