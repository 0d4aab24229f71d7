"""The arguments of the verbs that judge: compare, check, baseline, watch, published, explain.

Each imports what it needs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalkit.errors import UserError


def _verb(verbs: Any, name: str, about: str, act: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + "."
    )
    verb.set_defaults(act=act)
    return verb


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


Adder = Callable[..., Any]


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


def _published_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--published-model", metavar="NAME",
        help="lay runs beside this model's numbers, e.g. paligemma2-3b (default: by the checkpoint's name)",
    )  # fmt: skip
