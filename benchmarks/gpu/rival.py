"""transformers' `generate`, as its documentation calls it, on the same prompts and pictures: left-padded
batches, sdpa. Pictures arrive prepared and are normalised on the device, so that only the model's work is
compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.gpu import load, random_model
from evalkit.models.paligemma.engine.vision import normalise
from evalkit.models.paligemma.tokenizer import Prompter
from evalkit.types import Request

EOS, PAD = 1, 0


class Ends:
    """A logits processor that ends row i after exactly `lengths[i]` new tokens."""

    def __init__(self, lengths: Sequence[int], start: int, device: torch.device) -> None:
        self._lengths, self._start = torch.tensor(lengths, device=device), start

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        ends = self._lengths <= ids.shape[1] - self._start + 1
        scores[:, EOS] = -torch.inf
        scores[ends] = -torch.inf
        scores[ends, EOS] = 0
        return scores


class Generate:
    """Answers requests in batches with transformers' model, in the given order."""

    def __init__(self, model: Any, prompter: Prompter) -> None:
        self._model, self._prompter = model, prompter
        self._home: torch.device = model.device

    def answer(
        self, requests: Sequence[Request], work: load.Work, image_tokens: int
    ) -> dict[str, tuple[int, ...]]:
        """One batch's new tokens by id, without the end token and padding."""
        texts = [self._prompter.encode(r.prompt, None, "hf") for r in requests]
        longest = max(map(len, texts))
        image = [self._model.config.image_token_id] * image_tokens
        rows = [[PAD] * (longest - len(t)) + image + t for t in texts]
        seen = [[0] * (longest - len(t)) + [1] * (image_tokens + len(t)) for t in texts]
        pictures = [random_model.picture(r.images[0], r.preparation).pixels for r in requests]
        pixels = normalise(torch.from_numpy(np.stack(pictures)).to(self._home)).permute(0, 3, 1, 2)
        ids = torch.tensor(rows, device=self._home)
        start = ids.shape[1]
        new = [work.length(r.id) for r in requests]
        with torch.inference_mode():
            out = self._model.generate(
                input_ids=ids,
                attention_mask=torch.tensor(seen, device=self._home),
                token_type_ids=torch.zeros_like(ids),
                pixel_values=pixels.to(self._model.dtype),
                max_new_tokens=max(new),
                do_sample=False,
                logits_processor=[Ends(new, start, self._home)] if work.varies else None,
            )
        answers = out[:, start:].tolist()
        return {r.id: tuple(a[: n - work.varies]) for r, a, n in zip(requests, answers, new, strict=True)}
