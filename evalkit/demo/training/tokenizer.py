"""A small Gemma-class tokenizer: bytes, printable characters and merges that make whole words.

Knows the words of the shapes world; anything else falls back to characters and bytes.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from evalkit.demo import world

FIRST = (
    "caption",
    "answer",
    "detect",
    "segment",
    "a",
    "yes",
    "no",
    "two",
    "there",
    "left",
    "right",
    "the",
    *world.SHAPES,
    *world.COLORS,
    *world.GLYPHS,
    *"01234",
)
"""Words that begin a prompt or an answer, so stand without a space."""
INNER = (
    "en",
    "all",
    "classes",
    "what",
    "which",
    "color",
    "shape",
    "shapes",
    "is",
    "are",
    "the",
    "how",
    "many",
    "there",
    "any",
    "of",
    "on",
    "in",
    "left",
    "right",
    "above",
    "below",
    "to",
    "than",
    "bigger",
    "biggest",
    "smallest",
    "leftmost",
    "rightmost",
    "top",
    "bottom",
    "written",
    "character",
    "letter",
    "digit",
    "with",
    "a",
    "an",
    "and",
    "picture",
    "image",
    "thing",
    "one",
    "at",
    "plain",
    "background",
    "it",
    "yes",
    "no",
    ";",
    *(f"{s}s" for s in world.SHAPES),
    "crosses",
    *world.SHAPES,
    *world.COLORS,
    *world.GLYPHS,
    *"01234",
)


def merges_for(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, commonest pair first, until every word is one piece."""
    parts = [list(word) for word in words]
    merges: list[tuple[str, str]] = []
    while any(len(p) > 1 for p in parts):
        counts = Counter(pair for p in parts for pair in pairwise(p))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        parts = [_merge(p, best) for p in parts]
    return merges


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for piece in pieces:
        # greedy from the left, as the tokenizer applies a merge
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out


def build() -> Any:
    """The `GemmaTokenizer`; `<image>`, loc and seg tokens are added by the processor."""
    from transformers import GemmaTokenizer

    words = sorted(set(FIRST) | {f"▁{w}" for w in INNER})
    merges = merges_for(words)
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{i:02X}>" for i in range(256))]
    pieces += ["\n", "▁", *(chr(i) for i in range(33, 127)), *(a + b for a, b in merges)]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return GemmaTokenizer(vocab=vocab, merges=merges, mask_token="<unk>", padding_side="left")


def processor(size: int, tokens: int) -> Any:
    """A `PaliGemmaProcessor` for images of `size` pixels that become `tokens` image tokens."""
    from transformers import PaliGemmaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    image = SiglipImageProcessorPil(size={"height": size, "width": size})
    image.image_seq_length = tokens
    return PaliGemmaProcessor(image_processor=image, tokenizer=build())
