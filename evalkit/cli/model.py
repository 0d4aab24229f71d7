"""evalkit.cli.model: docstring to be written."""

from __future__ import annotations

import argparse
from pathlib import Path

from evalkit import models
from evalkit.evaluation import progress
from evalkit.evaluation.ask import reply_to, shown
from evalkit.evaluation.evaluate import DEMO, _embedded, _model_args


def _convert(arguments: argparse.Namespace) -> int:

    return convert(arguments.file, arguments.target, arguments.tokenizer)


def _doctor(arguments: argparse.Namespace) -> int:

    return examine(arguments)


def _ask(arguments: argparse.Namespace) -> int:

    return ask(arguments)


# --- others ------------------------------------------------------------------------------------------------


def convert(file: Path, target: Path, tokenizer: Path) -> int:
    """`evalkit convert FILE.npz FOLDER`: a big_vision checkpoint in Hugging Face layout."""
    from evalkit.models.paligemma.checkpoint.convert import convert as write

    write(file, target, tokenizer, progress.say)
    print(f"{target}: written; evalkit run --model {target} --tasks ...")
    return 0


def examine(arguments: argparse.Namespace) -> int:
    """`evalkit doctor --model M`: what both engines say, and what to set. 1: they do not agree."""
    from evalkit.models.paligemma import doctor

    well = True
    for spec in arguments.model:
        given = {k: getattr(arguments, k, None) for k in models.KEYS} | _model_args(arguments.model_args)
        path = spec
        if spec.startswith(f"{DEMO}:"):
            path = _embedded(spec, int(given.get("resolution") or 224))
        options = {k: v for k, v in given.items() if v is not None}
        text, sound = doctor.examine(path, options, arguments.samples, progress.say, spec)
        print(text)
        well = well and sound
    return 0 if well else 1


def ask(arguments: argparse.Namespace) -> int:
    """`evalkit ask IMAGE PROMPT --model M`: one answer, its tokens, boxes and masks, an overlay."""
    reply = reply_to(arguments)
    print(reply.text)
    for thing in reply.found:
        print(f"  {shown(thing, reply.size)}")
    progress.say(f"tokens  {list(reply.tokens)}; stopped at {reply.stop}")
    if reply.warning:
        progress.say(reply.warning)
    if reply.overlay:
        progress.say(f"overlay {reply.overlay}")
    return 0
