"""What the reference implementation was recorded to do, against a device: the files of `oracle/`, where there
are any (EVALKIT_ORACLE names the folder). The whole comparison is tests/test_oracle_model.py."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evalkit.models.paligemma.checkpoint import info as checkpoint_info
from evalkit.models.paligemma.engine import fast
from evalkit.models.paligemma.interface import Prompt, rules
from evalkit.types import Decode

FOLDERS = ("shared/oracle", "../shared/oracle")
TIE = 2e-3  # smallest margin below which an answer may fall either way


def folder() -> Path | None:
    """The recorded files' folder, or None."""
    root = Path(__file__).resolve().parents[2]
    asked = os.environ.get("EVALKIT_ORACLE")
    places = [Path(asked)] if asked else [root / name for name in FOLDERS]
    return next((p for p in places if (p / "decode_models.json").is_file()), None)


def check(home: torch.device) -> dict[str, Any]:
    """Greedy and beam answers of the recorded models, in float32."""
    source = folder()
    if source is None:
        return {"ok": None, "said": "no recorded files here (EVALKIT_ORACLE names their folder)"}
    from tests.oracle_inputs import image

    equal = total = wrong = 0
    for name, case in json.loads((source / "decode_models.json").read_text())["models"].items():
        with tempfile.TemporaryDirectory() as made:
            engine = _engine(source, name, Path(made), home)
        specs = [s if isinstance(s, list) else [s] for s in case["images"]]
        asked = [
            Prompt(np.stack([image(s) for s in some]), tuple(ids[: case["text_len"]]))
            for some, ids in zip(specs, case["prompts"], strict=True)
        ]
        for beams, key in ((1, "greedy"), (2, "beam2"), (3, "beam3")):
            decode = Decode(case["max_decode_len"], beams=beams, logprobs=True)
            for answer, tokens in zip(
                engine.answer(asked, decode, rules("paper", (1,))), case["float32"][key], strict=True
            ):
                same = list(answer.tokens) == tokens
                equal, total = equal + same, total + 1
                wrong += not same and (answer.margin is None or answer.margin > TIE)
    return {"ok": wrong == 0, "said": f"{equal} of {total} greedy and beam answers are the reference's"}


def _engine(source: Path, name: str, made: Path, home: torch.device) -> fast.FastEngine:
    shutil.copyfile(source / f"{name}.config.json", made / "config.json")
    shutil.copyfile(source / f"{name}.safetensors", made / "model.safetensors")
    (made / "tokenizer.json").write_text("{}")  # the recorded models have none; only inspect() looks
    return fast.load(checkpoint_info.inspect(made), "float32", str(home))
