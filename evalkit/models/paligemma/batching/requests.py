"""Requests to token ids, checked, and answers back to predictions. Knows no weights and no image."""

from __future__ import annotations

import functools
import logging
from typing import Any

from evalkit.errors import ModelError
from evalkit.models.paligemma.batching.batches import Planned
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo
from evalkit.models.paligemma.interface import Answer, Rules
from evalkit.models.paligemma.tokenizer import Prompter
from evalkit.types import Decode, Prediction, Request

END = "<eos>"  # in `decode.forbid`

log = logging.getLogger("evalkit")


def planned(request: Request, prompter: Prompter, rules: Rules, info: CheckpointInfo) -> Planned:
    """The request with its ids. Raises ModelError for one that this checkpoint cannot answer."""
    if request.preparation.resolution != info.resolution:
        raise ModelError(
            f"{info.path}: sample {request.id}: images are to be prepared at "
            f"{request.preparation.resolution} px, this checkpoint takes {info.resolution} px"
        )
    if not request.images:
        raise ModelError(f"sample {request.id}: has no image; PaliGemma needs at least one")
    decode = request.decode
    if (decode.mode == "likelihood") != bool(request.choices):
        raise ModelError(f"sample {request.id}: choices: go with decode.mode=likelihood, and it with them")
    if decode.max_new_tokens < 1 or decode.beams < 1:
        raise ModelError(f"decode: max_new_tokens and beams must be at least 1, not {decode}")
    if decode.samples and decode.beams > 1:
        raise ModelError(f"decode: sampling goes with beams=1 only, not {decode}")
    ids = tuple(prompter.encode(request.prompt, decode.text_length, rules.protocol))
    choices = tuple((*prompter.continuation(c), rules.eos[0]) for c in request.choices)
    return Planned(request, ids, choices, forbidden(decode, prompter, rules))


def forbidden(decode: Decode, prompter: Prompter, rules: Rules) -> tuple[tuple[int, ...], ...]:
    """The token sequences that an answer may not contain; `<eos>` is every end token."""
    if not decode.forbid:
        return ()
    if decode.beams > 1 or decode.mode == "likelihood":
        raise ModelError(f"decode: forbid goes with mode=generate and beams=1 only, not {decode}")
    ends = [(i,) for i in rules.eos] if END in decode.forbid else []
    texts = {text: tuple(prompter.pieces(text)) for text in decode.forbid if text != END}
    for text, pieces in texts.items():
        if len(pieces) > 1:
            _tell(text, prompter.decode(pieces[-1:]))
    return (*ends, *texts.values())


@functools.lru_cache(maxsize=16)
def _tell(text: str, last: str) -> None:
    log.warning(
        "decode.forbid: %r is no one token of this checkpoint; %r is kept out wherever it would end it",
        text,
        last,
    )


def prediction(prompter: Prompter, item: Planned, images: list[Any], answer: Answer) -> Prediction:
    """What is kept of an answer; `images` are the item's as they were read."""
    n = len(answer.tokens) - (answer.stop == "eos")
    tokens, request = answer.tokens[:n], item.request
    text = prompter.decode(tokens)
    if item.choices:  # as it was given, whatever the tokenizer makes of it
        text = request.choices[item.choices.index(answer.tokens)]
    return Prediction(
        id=request.id,
        prompt=request.prompt,
        text=text,
        tokens=tokens,
        logprobs=answer.logprobs[:n] if request.decode.logprobs else None,
        stop=answer.stop,
        margin=answer.margin,
        image_digests=tuple(str(i.digest) for i in images),
        sizes=tuple((int(i.size[0]), int(i.size[1])) for i in images),
    )
