"""transformers' sliding window for Gemma 2 (`--sliding-window transformers`) against transformers' own
forward; the tiny checkpoint's window of 4 tokens is shorter than one image."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
import transformers
from tiny import ask, backend, by_id

from evalkit.models.paligemma.engine import vision
from evalkit.models.paligemma.engine.continuous_batching import answer
from evalkit.models.paligemma.interface import Prompt, rules
from evalkit.options.fields import OptionError
from evalkit.types import Decode, ImageRef, Preparation

HF = rules("hf", (1,))


def sliding(engine: str, **options: Any) -> Any:
    made = backend(tiny.checkpoint(2), engine=engine, sliding_window="transformers", **options)
    made.load()
    return made


def prompts(model: Any, words: list[str]) -> list[Prompt]:
    pixels = tiny.prepare(ImageRef("a"), Preparation(28)).pixels[None]
    return [Prompt(pixels, tuple(model.encode(text, 32))) for text in words]


def theirs(prompt: Prompt, tokens: list[int]) -> torch.Tensor:
    """Logits (1 + tokens, vocabulary) of transformers as it comes, reading a prompt and given tokens."""
    whole: Any = transformers.PaliGemmaForConditionalGeneration.from_pretrained(
        tiny.checkpoint(2), attn_implementation="eager"
    ).eval()
    assert whole.config.text_config.sliding_window == 4
    ids = torch.tensor([[whole.config.image_token_id] * 4 + list(prompt.ids)])
    with torch.inference_mode():
        out = whole(
            input_ids=ids,
            pixel_values=vision.normalise(torch.from_numpy(prompt.pixels)).permute(0, 3, 1, 2),
            token_type_ids=torch.zeros_like(ids),
            attention_mask=torch.ones_like(ids),
            use_cache=True,
        )
        found = [tiny.soft_capped(whole, out.logits[0, -1])]
        for i, token in enumerate(tokens):
            out = whole(
                input_ids=torch.tensor([[token]]),
                attention_mask=torch.ones((1, ids.shape[1] + i + 1), dtype=torch.long),
                token_type_ids=torch.ones((1, 1), dtype=torch.long),
                past_key_values=out.past_key_values,
                use_cache=True,
            )
            found.append(tiny.soft_capped(whole, out.logits[0, -1]))
    return torch.stack(found)


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_logits_equal_transformers_own(engine: str) -> None:
    model = sliding(engine)
    told = [40, 11, 90, 33, 7, 52]
    asked = prompts(model, ["what is this a cat"])[0]
    wanted = theirs(asked, told)
    with torch.inference_mode():
        logits, state = model._engine.prefill([asked], HF)
        mine = [logits[0].clone()]
        for token in told:
            mine.append(model._engine.step(torch.tensor([token]), state)[0].clone())
    assert torch.allclose(torch.stack(mine), wanted, atol=2e-4)
    wide = backend(tiny.checkpoint(2), engine=engine)
    wide.load()
    with torch.inference_mode():
        first, state = wide._engine.prefill([asked], HF)
        assert torch.allclose(first[0], wanted[0], atol=2e-4), "a prompt sees all of itself"
        after = wide._engine.step(torch.tensor(told[:1]), state)[0]
    assert float((after - wanted[1]).abs().max()) > 1e-2, "the window changes what is decoded"


@pytest.mark.parametrize("decode", [{"max_new_tokens": 8}, {"max_new_tokens": 60}, {"beams": 3}])
def test_both_engines_in_any_batch(decode: dict[str, Any]) -> None:
    """60 new tokens: rows of several lengths side by side, each with its own window."""
    asked = ask(18, **decode)
    wanted = by_id(sliding("plain", batch_size=1).predict(asked))
    for size in (1, 7):
        found = by_id(sliding("fast", batch_size=size).predict(asked))
        assert {k: p.tokens for k, p in found.items()} == {k: p.tokens for k, p in wanted.items()}
    if "beams" in decode:  # whose short answers the window does not reach
        return
    wide = by_id(backend(tiny.checkpoint(2), engine="fast").predict(asked))
    assert {k: p.tokens for k, p in wide.items()} != {k: p.tokens for k, p in wanted.items()}


def test_lengths_in_one_batch() -> None:
    model = sliding("fast")
    asked = prompts(model, tiny.PROMPTS)
    together = answer(model._engine, asked, Decode(20), HF)
    alone = [answer(model._engine, [p], Decode(20), HF)[0] for p in asked]
    assert [a.tokens for a in together] == [a.tokens for a in alone]


def test_identity_says_so() -> None:
    def said(family: int, window: str) -> Any:
        made = backend(tiny.checkpoint(family), sliding_window=window)
        return made.identity()["protocol"]["sliding_window"]

    assert (said(2, "none"), said(2, "transformers"), said(1, "transformers")) == (None, 4, None)
    with pytest.raises(
        OptionError, match=r"--sliding-window wide: no such sliding window; .*none, transformers"
    ):
        said(2, "wide")
