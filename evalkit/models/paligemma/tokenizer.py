"""Prompts to token ids and token ids back to text, by the reference's rule or by the processor's.
Knows a tokenizer of transformers by its methods only; imports none."""

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
    """The text side of one checkpoint: its tokenizer under PaliGemma's rules.

    The tokenizer gets the special tokens that transformers' PaliGemmaProcessor would give it, in its
    order: `<image>`, then 1,024 `<loc....>` and 128 `<seg...>`; those it has already stay as they are.
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

    def encode(self, prompt: str, length: int | None, protocol: str = "paper") -> list[int]:
        """The ids after the image tokens.

        `paper`: [bos] + tokens(prompt) + tokens("\\n"), cut to `length` ids (None: never), so a cut
        prompt loses its newline; `<bos>` and the like in a prompt are plain text (big_vision's
        evaluators, oracle finding 7). `hf`: "<bos>" + prompt + "\\n" as one string, never cut, as
        PaliGemmaProcessor does; a literal `<image>` stays plain text.
        """
        if protocol == "hf":
            return [self.bos, *self._ids(prompt + "\n", literal=(IMAGE,))]
        ids = [self.bos]
        for part in _cut_runs(prompt):
            ids += self._ids(part, literal=self._literal)
        ids += self.newline
        return ids if length is None else ids[:length]

    def continuation(self, text: str) -> list[int]:
        """The ids of an answer after its prompt: by itself, as big_vision tokenises suffixes; no bos, no
        end token."""
        return [i for part in _cut_runs(text) for i in self._ids(part, literal=self._literal)]

    def pieces(self, text: str) -> list[int]:
        """The ids of a text in which special tokens are themselves (`<loc0000>`, a checkpoint's own)."""
        return self._ids(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text with `<loc....>` and `<seg...>` kept and no spaces put in; control tokens (bos, eos,
        pad) are left out, as SentencePiece does."""
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
        """Tokens of the text alone. Special tokens are split into plain pieces only where one of
        `literal` occurs: the switch is all or nothing, and `<start_of_turn>` is one piece."""
        plain = any(word in text for word in literal)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=plain)[
            "input_ids"
        ]
        return ids


def _cut_runs(text: str) -> list[str]:
    """The text in parts, cut after every 31 blanks of a longer run."""
    places = [m.start() + k for m in _LONG_RUN.finditer(text) for k in range(31, len(m.group()), 31)]
    return [text[a:b] for a, b in pairwise([0, *places, len(text)])]
