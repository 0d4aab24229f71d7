"""Requests to checked token ids, and answers back to predictions. Knows no weights and no image."""

from __future__ import annotations

import functools
import logging
from typing import Any

from evalkit import conventions
from evalkit.errors import ModelError
from evalkit.models.paligemma.batching.batches import Planned
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo
from evalkit.models.paligemma.interface import Answer, Rules
from evalkit.models.paligemma.tokenizer import Prompter
from evalkit.types import Decode, Prediction, Request

END = "<eos>"  # in `decode.forbid`

log = logging.getLogger("evalkit")


def planned(request: Request, prompter: Prompter, rules: Rules, info: CheckpointInfo) -> Planned:
    """The request with its token ids, its prompt written as in training. Raises ModelError if this checkpoint
    cannot answer it."""
    if request.preparation.resolution != info.resolution:
        raise ModelError(
            f"{info.path}: sample {request.id}: images are prepared at "
            f"{request.preparation.resolution} px, but this checkpoint takes {info.resolution} px"
        )
    if not request.images:
        raise ModelError(f"sample {request.id}: has no image; PaliGemma needs at least one")
    decode = request.decode
    if (decode.mode == "likelihood") != bool(request.choices):
        raise ModelError(f"sample {request.id}: choices and decode.mode=likelihood need each other")
    if decode.max_new_tokens < 1 or decode.beams < 1:
        raise ModelError(f"decode: max_new_tokens and beams must be at least 1, not {decode}")
    if decode.samples and decode.beams > 1:
        raise ModelError(f"decode: sampling needs beams=1, not {decode}")
    text = conventions.prompt(request.prompt, info.trained)
    before, ids = encoded(prompter, text, decode.text_length, rules)
    end = (rules.eos[0],) * rules.ended
    choices = tuple((*prompter.continuation(c), *end) for c in request.choices)
    return Planned(request, ids, choices, forbidden(decode, prompter, rules), before, rules.ended)


def encoded(
    prompter: Prompter, prompt: str, length: int | None, rules: Rules
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids before the image tokens, and after them."""
    ids = prompter.encode(prompt, length, rules.protocol, rules.bos == "prompt", rules.newline)
    return (prompter.bos,) * (rules.bos == "image"), tuple(ids)


def forbidden(decode: Decode, prompter: Prompter, rules: Rules) -> tuple[tuple[int, ...], ...]:
    """The token sequences that an answer may not contain; `<eos>` is every end token."""
    if not decode.forbid:
        return ()
    if decode.beams > 1 or decode.mode == "likelihood":
        raise ModelError(f"decode: forbid needs mode=generate and beams=1, not {decode}")
    ends = [(i,) for i in rules.eos] if END in decode.forbid else []
    texts = {text: tuple(prompter.pieces(text)) for text in decode.forbid if text != END}
    for text, pieces in texts.items():
        if len(pieces) > 1:
            _warn(text, prompter.decode(pieces[-1:]))
    return (*ends, *texts.values())


@functools.lru_cache(maxsize=16)
def _warn(text: str, last: str) -> None:
    log.warning(
        "decode.forbid: %r is several tokens in this checkpoint; %r is forbidden where it would complete it",
        text,
        last,
    )


def prediction(prompter: Prompter, item: Planned, images: list[Any], answer: Answer) -> Prediction:
    """The prediction to keep of an answer; `images` are the item's images as read."""
    n = len(answer.tokens) - (answer.stop == "eos" and (item.ended or not item.choices))
    tokens, request = answer.tokens[:n], item.request
    text = prompter.decode(tokens)
    if item.choices:  # the choice as given, not as the tokenizer decodes it
        text = request.choices[item.choices.index(answer.tokens)]
    kept = request.decode.logprobs
    return Prediction(
        id=request.id,
        prompt=request.prompt,
        text=text,
        tokens=tokens,
        logprobs=answer.logprobs[:n] if kept else None,
        stop=answer.stop,
        margin=answer.margin,
        image_digests=tuple(str(i.digest) for i in images),
        sizes=tuple((int(i.size[0]), int(i.size[1])) for i in images),
        end_logprob=answer.logprobs[n] if kept and n < len(answer.logprobs) else None,
    )
