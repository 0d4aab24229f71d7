"""How likely known answers are to a checkpoint, if it is asked by one convention or another. Images, features
of equal pixels and answers of which a convention changes nothing are computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit import conventions
from evalkit.models.paligemma.backend import PaliGemma
from evalkit.models.paligemma.batching.requests import encoded
from evalkit.models.paligemma.interface import Pixels, Prompt, pixel_key, rules
from evalkit.types import Conventions, ImageRef, Preparation

Floats = npt.NDArray[np.float64]
Shown = tuple[Pixels, tuple[str, ...]]
"""The images of a prompt as the model gets them, with their keys."""


@dataclass(frozen=True, slots=True)
class Known:
    """A prompt as the data has it, and its answer by the bins of its boxes (all alike where it has none)."""

    id: str
    cluster: str
    images: tuple[ImageRef, ...]
    prompt: str
    answers: Mapping[int, str]


@dataclass(frozen=True, slots=True, eq=False)
class Likelihood:
    """Of each known answer: the mean log-probability of its tokens, and that of the end token after it
    (natural logarithms)."""

    token: Floats  # (answers,)
    end: Floats  # (answers,)


@dataclass(eq=False)
class KnownAnswers:
    """A checkpoint and answers that are known. `usual` and `text_length` are the protocol's."""

    model: PaliGemma
    known: Sequence[Known]
    usual: Preparation
    text_length: int | None = None
    read: int = 0  # answers, each as often as a convention changed something about it
    _pixels: dict[Preparation, list[tuple[Pixels, tuple[str, ...]]]] = field(
        default_factory=dict, init=False, repr=False
    )
    _found: dict[Any, tuple[float, ...]] = field(default_factory=dict, init=False, repr=False)

    def inputs(self, trained: Conventions) -> Any:
        """What decides the numbers of a convention: where two are equal, the data cannot tell which it is."""
        return tuple(_key(trained, prompt, answer) for prompt, answer in self._asked(trained))

    def likelihood(self, trained: Conventions) -> Likelihood:
        """How likely the answers are by this convention. Raises ModelError and ImageError."""
        from evalkit.models.paligemma.decoding.likelihood import of_answers

        asked = self._asked(trained)
        keys = [_key(trained, prompt, answer) for prompt, answer in asked]
        new = {key: each for key, each in zip(keys, asked, strict=True) if key not in self._found}
        if new:
            prompts, texts = zip(*new.values(), strict=True)
            told = of_answers(self.model._engine, prompts, texts, self._rules(trained))
            self._found |= zip(new, told, strict=True)
            self.read += len(new)
        found = [self._found[key] for key in keys]
        token = [sum(each[:-1]) / max(1, len(each) - 1) for each in found]
        return Likelihood(np.array(token), np.array([each[-1] for each in found]))

    def _rules(self, trained: Conventions) -> Any:
        return rules(self.model.protocol, self.model.info.eos, trained)

    def _asked(self, trained: Conventions) -> list[tuple[Prompt, tuple[int, ...]]]:
        """Each prompt, and its answer's tokens with the end token."""
        self.model.load()
        prompter, rule = self.model._prompter, self._rules(trained)
        assert prompter is not None
        found = []
        for known, (pixels, keys) in zip(self.known, self._shown(trained), strict=True):
            text = conventions.prompt(known.prompt, trained)
            before, ids = encoded(prompter, text, self.text_length, rule)
            answer = prompter.continuation(known.answers[trained.bins or 1023])
            found.append((Prompt(pixels, ids, keys=keys, before=before), (*answer, rule.eos[0])))
        return found

    def _shown(self, trained: Conventions) -> list[Shown]:
        """The prepared images of each prompt, with their keys."""
        how = conventions.preparation(self.usual, trained)
        if how not in self._pixels:
            read = self.model._prepare()
            ready: dict[ImageRef, Pixels] = {}
            for ref in (ref for known in self.known for ref in known.images):
                if ref not in ready:
                    ready[ref] = read(ref, how).pixels
            keys = {ref: pixel_key(pixels) for ref, pixels in ready.items()}
            self._pixels[how] = [
                (np.stack([ready[r] for r in known.images]), tuple(keys[r] for r in known.images))
                for known in self.known
            ]
        return self._pixels[how]


def _key(trained: Conventions, prompt: Prompt, answer: tuple[int, ...]) -> Any:
    """All that an answer's likelihood depends on."""
    return trained.prompt_mask or "bidirectional", prompt.before, prompt.ids, prompt.keys, answer
