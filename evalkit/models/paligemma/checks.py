"""Checks and settings made once at start-up, before the first prompt."""

from __future__ import annotations

import logging
import os

import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint import settings
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo
from evalkit.models.paligemma.interface import Rules
from evalkit.models.paligemma.tokenizer import IMAGE, LOCATIONS, SEGMENTS, Prompter

SMALL = 20_000_000  # parameters

log = logging.getLogger("evalkit")


def check_tokens(info: CheckpointInfo, prompter: Prompter, rules: Rules) -> None:
    """Checks the tokenizer. Raises ModelError for what would make every answer silently wrong."""
    tokenizer, where = prompter.tokenizer, f"{info.path}: tokenizer"
    for tokens in (LOCATIONS, SEGMENTS):
        ids = [tokenizer.convert_tokens_to_ids(t) for t in tokens]
        if ids != list(range(ids[0], ids[0] + len(tokens))):
            raise ModelError(f"{where}: the ids of {tokens[0]} to {tokens[-1]} do not follow one another")
        if tokenizer(tokens[0] + tokens[1], add_special_tokens=False)["input_ids"] != ids[:2]:
            raise ModelError(f"{where}: {tokens[0]} is not read as one token; save a GemmaTokenizer with it")
        if ids[-1] >= info.vocabulary:
            raise ModelError(
                f"{where}: {tokens[-1]} has id {ids[-1]}, but the embedding table has {info.vocabulary} "
                "rows; the tokenizer belongs to another checkpoint"
            )
        text = prompter.decode(ids[1:3])
        if text != tokens[1] + tokens[2]:
            raise ModelError(
                f"{where}: writes {tokens[1]}{tokens[2]} as {text!r}; save a GemmaTokenizer with it"
            )
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    if image != info.image_token:
        raise ModelError(
            f"{where}: {IMAGE} has id {image}, config.json: image_token_index says {info.image_token}; "
            "one of them belongs to another checkpoint"
        )
    first = tokenizer.convert_tokens_to_ids(LOCATIONS[0])
    if info.derived is not None and first != info.vocabulary - len(LOCATIONS) - len(SEGMENTS):
        raise ModelError(
            f"{where}: {LOCATIONS[0]} has id {first}, {info.path} has it in row "
            f"{info.vocabulary - len(LOCATIONS) - len(SEGMENTS)}; give the tokenizer of a published PaliGemma"
        )
    if len(prompter.newline) != 1:
        raise ModelError(f"{where}: a newline is {len(prompter.newline)} tokens; it must be one")
    if tokenizer.bos_token_id is None:
        raise ModelError(f"{where}: has no <bos> token")
    if max(tokenizer.bos_token_id, *prompter.newline) >= info.vocabulary:
        raise ModelError(
            f"{where}: <bos> has id {tokenizer.bos_token_id}, a newline {prompter.newline[0]}, but the "
            f"embedding table has {info.vocabulary} rows; the tokenizer belongs to another checkpoint"
        )
    if tokenizer.eos_token_id not in rules.eos:
        raise ModelError(
            f"{where}: <eos> has id {tokenizer.eos_token_id}, but protocol {rules.protocol} ends at "
            f"{' or '.join(map(str, rules.eos))}"
        )
    if tokenizer.padding_side != "left":
        log.warning("%s: pads on the %s; evalkit pads on the left by itself", where, tokenizer.padding_side)


def check_processor(info: CheckpointInfo) -> None:
    """Raises ModelError if the saved image processor disagrees with how images are prepared here."""
    for file in info.processor:
        said = settings.read(file)
        said = said.part("image_processor") if "image_processor" in said.content else said
        for key in ("image_mean", "image_std"):
            value = said.content.get(key)
            each = value if isinstance(value, list) else [0.5 if value is None else value]
            if any(not isinstance(v, float) or abs(v - 0.5) > 1e-6 for v in each):
                raise said.refuse(key, "it must be 0.5 (pixels from -1 to 1)")
        tokens, height = said.maybe("image_seq_length"), info.resolution
        if isinstance(said.content.get("size"), dict):
            height = said.part("size").whole("height", default=height)
        if height != info.resolution:
            raise ModelError(
                f"{file}: size is {height} px, config.json says {info.resolution} px; one of them is another "
                "checkpoint's"
            )
        if tokens is not None and tokens != info.image_tokens:
            raise ModelError(
                f"{file}: image_seq_length is {tokens}, but {info.resolution} px in patches of {info.patch} "
                f"are {info.image_tokens} image tokens"
            )


def check_features(info: CheckpointInfo, shape: tuple[int, ...]) -> None:
    """Raises ModelError unless one image gives (resolution / patch)² features."""
    if shape[-2] != info.image_tokens:
        raise ModelError(
            f"{info.path}: one image gives {shape[-2]} features, not {info.image_tokens} "
            f"(({info.resolution} / {info.patch})²)"
        )


def calm_threads(info: CheckpointInfo, device: str) -> None:
    """Sets one thread for a small model on a CPU, where more would only wait for each other.
    Leaves OMP_NUM_THREADS alone."""
    cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    if cpu and info.parameters < SMALL and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
