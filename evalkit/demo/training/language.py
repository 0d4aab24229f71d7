"""Second stage: the whole model on captions, questions, boxes and masks.

Packed rows first, for speed; PaliGemma's own layout for the rest.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from torch.utils.data import DataLoader

from evalkit.demo.training import vae
from evalkit.demo.training.lessons import IMAGE, Batch, Lessons
from evalkit.demo.training.model import LOC0, Dense, optimisers, see
from evalkit.demo.training.vision import TRAIN_SEED, rate, set_rate

FIRST_SEED = TRAIN_SEED + 50_000_000


def logits(model: Any, batch: Batch, hidden: Tensor) -> Tensor:
    """(targets, vocabulary) predictions of the targets from the tower's output."""
    inner = model.model
    seen = inner.multi_modal_projector(hidden)[batch.rows]
    words = inner.language_model.embed_tokens(batch.ids)
    embeds = torch.cat([seen, words.to(seen.dtype)], 1)
    out = inner.language_model(
        inputs_embeds=embeds,
        attention_mask=batch.bias.to(embeds.dtype),
        position_ids=batch.places,
        use_cache=False,
    )
    flat = out.last_hidden_state[:, IMAGE:].flatten(0, 1)[batch.at]
    return model.lm_head(flat).float()  # type: ignore[no-any-return]


def text_loss(scores: Tensor, batch: Batch, loc0: int, sigma: float) -> Tensor:
    """Weighted cross-entropy; a loc target is spread over its neighbours by a Gaussian, so that
    near misses are near right."""
    logp = log_softmax(scores, -1)
    is_loc = (batch.targets >= loc0) & (batch.targets < loc0 + 1024)
    loss = -logp.gather(1, batch.targets[:, None])[:, 0]
    bins = torch.arange(1024)
    centre = (batch.targets[is_loc] - loc0)[:, None]
    soft = torch.softmax(-(((bins - centre) / sigma) ** 2) / 2, -1)
    loss = loss.index_put((is_loc.nonzero()[:, 0],), -(soft * logp[is_loc][:, loc0 : loc0 + 1024]).sum(1))
    return (loss * batch.weights).sum() / batch.weights.sum()


class Run:
    """The state of the stage, which survives a cut: weights, optimisers, minutes done, step."""

    def __init__(self, model: Any, head: Dense, path: Path, lr: float) -> None:
        self.model, self.head, self.path = model, head, path
        tower = [(n, p) for n, p in model.named_parameters() if "vision_tower" in n]
        rest = [(n, p) for n, p in model.named_parameters() if "vision_tower" not in n]
        tower += list(head.named_parameters())
        self.params = [p for _, p in tower + rest]
        self.optimisers = optimisers(rest, lr) + optimisers(tower, lr * 0.3)
        self.minutes, self.step = 0.0, 0

    def save(self) -> None:
        """Write through a temporary name, so that a cut leaves the last good file."""
        state = {
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "minutes": self.minutes,
            "step": self.step,
        }
        torch.save(state, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").replace(self.path)

    def resume(self) -> None:
        """Go on from the file, if there is one."""
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.head.load_state_dict(state["head"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.minutes, self.step = state["minutes"], state["step"]

    def learn(self, batch: Batch, loc0: int, done: float) -> float:
        """One step; returns the text loss."""
        set_rate(self.optimisers, rate(done))
        with torch.autocast("cpu", torch.bfloat16):
            hidden = see(self.model.model.vision_tower, batch.pixels)
            scores = logits(self.model, batch, hidden)
        helper, _ = self.head(hidden, batch.labels, batch.boxes)
        sigma = 13.5 * (3.5 / 13.5) ** min(1.0, done * 1.25)
        loss = text_loss(scores, batch, loc0, sigma)
        (loss + 0.1 * helper).backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.step += 1
        return float(loss.detach())


def stream(tokenizer: Any, masks: vae.MaskVAE, scenes: int, first: int, packed: bool) -> Iterator[Batch]:
    """Batches made by one other process."""
    made = Lessons(tokenizer, masks, scenes, first, packed)
    return iter(DataLoader(made, batch_size=None, num_workers=1, prefetch_factor=3))


def train(
    run: Run,
    tokenizer: Any,
    masks: vae.MaskVAE,
    minutes: float,
    packed_share: float = 0.6,
    check: Callable[[Any], str] = lambda _: "",
    every: float = 5.0,
) -> None:
    """Train for some minutes of wall time in all, saving and checking every few."""
    loc0 = tokenizer.convert_tokens_to_ids(LOC0)
    run.resume()
    mean, mark = 0.0, run.minutes
    for packed in (True, False):
        end = minutes * (packed_share if packed else 1.0)
        if run.minutes >= end:
            continue
        first = FIRST_SEED + 64 * run.step
        batches = stream(tokenizer, masks, 24 if packed else 20, first, packed)
        for count in itertools.count(1):
            begun = time.time()
            loss = run.learn(next(batches), loc0, run.minutes / minutes)
            mean = loss if mean == 0 else mean + 0.02 * (loss - mean)
            run.minutes += (time.time() - begun) / 60
            if count % 100 == 0:
                print(
                    f"language {run.minutes:.1f} min step {run.step} packed {packed} loss {mean:.4f}",
                    flush=True,
                )
            if run.minutes - mark > every or run.minutes >= end:
                mark = run.minutes
                run.save()
                torch.save(run.model.state_dict(), run.path.with_name(f"at{mark:05.1f}.pt"))
                print(f"language {mark:.1f} min: {check(run.model)}", flush=True)
            if run.minutes >= end:
                break
