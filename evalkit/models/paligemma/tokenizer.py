"""Prompts to token ids and token ids back to text, as the reference or as transformers' processor does.
Uses a tokenizer of transformers, but does not import transformers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

IMAGE = "<image>"
LOCATIONS = tuple(f"<loc{i:04d}>" for i in range(1024))
SEGMENTS = tuple(f"<seg{i:03d}>" for i in range(128))


UNKNOWN = " \u2047 "  # what SentencePiece writes for the unknown piece

# Gemma has pieces for runs of up to 31 blanks; SentencePiece cuts longer runs from the left, the fast
# tokenizer somewhere in the middle. Splitting the text after 31 makes both the same.
_LONG_RUN = re.compile(r" {32,}|\n{32,}|\t{32,}")


class Prompter:
    """One checkpoint's tokenizer under PaliGemma's rules.

    The tokenizer gets the special tokens that transformers' PaliGemmaProcessor would give it, in the same
    order: `<image>`, then 1,024 `<loc....>` and 128 `<seg...>`. Those that it already has do not change.
    """

    def __init__(self, tokenizer: Any, added: Any = None) -> None:
        self.tokenizer = tokenizer
        if tokenizer.convert_tokens_to_ids(IMAGE) in (None, tokenizer.unk_token_id):
            tokenizer.add_special_tokens({"additional_special_tokens": [added or IMAGE]})
        tokenizer.add_tokens([*LOCATIONS, *SEGMENTS])
        self.bos: int = tokenizer.bos_token_id
        self.newline: list[int] = self._ids("\n")
        self._controls = {
            t: i for t, i in ((tokenizer.bos_token, self.bos), (tokenizer.eos_token, tokenizer.eos_token_id),
                              (tokenizer.pad_token, tokenizer.pad_token_id)) if t is not None
        }  # fmt: skip
        self._literal = (*self._controls, IMAGE)

    def encode(
        self, prompt: str, length: int | None, protocol: str = "paper", bos: bool = True, newline: bool = True
    ) -> list[int]:
        """The ids after the image tokens; without `bos` or `newline` these are left out.

        `paper`: [bos] + tokens(prompt) + tokens("\\n"), cut to `length` ids (None: not cut), so a cut
        prompt loses its newline; `<bos>` and the like in a prompt are plain text (big_vision's
        evaluators, oracle finding 7). `hf`: "<bos>" + prompt + "\\n" as one string, never cut, as
        PaliGemmaProcessor does; a literal `<image>` is plain text.
        """
        if protocol == "hf":
            text = prompt + "\n" * newline
            return [self.bos] * bos + self._ids(text, literal=(IMAGE,))
        ids = [self.bos] * bos
        for part in _cut_runs(prompt):
            ids += self._ids(part, literal=self._literal)
        ids += self.newline * newline
        return ids if length is None else ids[:length]

    def continuation(self, text: str) -> list[int]:
        """The ids of an answer, tokenised separately from its prompt as big_vision does with suffixes;
        without bos and end token."""
        return [i for part in _cut_runs(text) for i in self._ids(part, literal=self._literal)]

    def pieces(self, text: str) -> list[int]:
        """The ids of a text in which special tokens (`<loc0000>`, a checkpoint's own) count as such."""
        return self._ids(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text, with `<loc....>` and `<seg...>` kept and no spaces added; control tokens (bos, eos,
        pad) are dropped, as SentencePiece does."""
        controls, unknown = set(self._controls.values()), self.tokenizer.unk_token_id
        parts: list[list[int]] = [[]]
        for i in ids:
            if i == unknown:
                parts.append([])
            elif i not in controls:
                parts[-1].append(int(i))
        texts = [
            self.tokenizer.decode(part, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            for part in parts
        ]
        return UNKNOWN.join(texts)

    def _ids(self, text: str, literal: tuple[str, ...] = ()) -> list[int]:
        """Tokens of the text alone. Special tokens are split into plain pieces only if one of `literal`
        occurs: the tokenizer's switch applies to all of them, and `<start_of_turn>` must stay one piece."""
        plain = any(word in text for word in literal)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=plain)[
            "input_ids"
        ]
        return ids


def _cut_runs(text: str) -> list[str]:
    """The text in parts, cut after every 31 blanks of a longer run."""
    places = [m.start() + k for m in _LONG_RUN.finditer(text) for k in range(31, len(m.group()), 31)]
    return [text[a:b] for a, b in pairwise([0, *places, len(text)])]
