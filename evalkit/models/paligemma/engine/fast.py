"""The fast engine: its own decoder over transformers' weights, no masks for equal lengths, image features
computed once. Gives the plain engine's answers."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.device import machine
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo
from evalkit.models.paligemma.checkpoint.loading import load_model
from evalkit.models.paligemma.decoding import likelihood
from evalkit.models.paligemma.decoding.beam_search import Search, search
from evalkit.models.paligemma.engine import continuous_batching, fused
from evalkit.models.paligemma.engine.compile import compile_layers
from evalkit.models.paligemma.engine.cuda_graphs import CudaCapture, StaticSteps
from evalkit.models.paligemma.engine.decoder import ROOM, Decoder, State
from evalkit.models.paligemma.engine.linear import onednn
from evalkit.models.paligemma.engine.uploads import LIMIT, CudaCross, Uploads, as_tensor
from evalkit.models.paligemma.engine.vision import Memory, Tower
from evalkit.models.paligemma.interface import Answer, Pixels, Prompt, Rules, pixel_key
from evalkit.models.paligemma.memory import collect, fitting, not_finite
from evalkit.types import Decode

CONTAINER = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # in bytes
VISION_TOKENS = {"cpu": 1024}  # image tokens that the tower works on at once


class FastEngine:
    """Answers with fused weights, taken out of transformers' model, which cannot be used afterwards.

    `strict`: every call has the same shape, so that a row's numbers cannot depend on the other rows: images
    go through the tower one by one, and ended rows stay in their batch.
    """

    def __init__(
        self,
        model: Any,
        image_tokens: int,
        kv_dtype: torch.dtype | None = None,
        memory: Memory | None = None,
        strict: bool = False,
    ) -> None:
        model = model.eval().requires_grad_(False)
        self.cap: float | None = getattr(model.config.text_config, "final_logit_softcapping", None)
        inner = model.model
        with torch.inference_mode():
            self.tower = Tower(inner.vision_tower, inner.multi_modal_projector)
            self.decoder = Decoder(inner.language_model, model.lm_head, kv_dtype)
        self.image_tokens = image_tokens
        self.dtype, self.home = self.decoder.dtype, self.decoder.home
        self.device = str(self.home)
        self.memory = memory if memory is not None else Memory(*memory_limits(self.home))
        self.strict = strict
        self.overlaps = False  # whether the device still works when a call returns
        self.compiled = False
        self.static: StaticSteps | None = None  # runs the decode steps with CUDA graphs or torch.compile
        self.uploads: Uploads | None = None  # images sent to the device ahead of their batch
        self.forbid: continuous_batching.Forbid | None = None  # a row's forbidden next tokens

    def feature_shape(self, resolution: int) -> tuple[int, ...]:
        """Shape of one image's features (1, tokens, hidden), found by a forward pass."""
        with torch.inference_mode():
            return tuple(self.features(torch.zeros((1, resolution, resolution, 3), dtype=torch.uint8)).shape)

    def row_bytes(self, image_tokens: int) -> int:
        """See `Engine.row_bytes`: activations, keys and values, logits."""
        return int(self.decoder.token_bytes) * image_tokens + 3 * 4 * len(self.decoder.table)

    def speed_up(self, graphs: bool | None, compiled: bool, kernels: bool = False) -> None:
        """Switches on CUDA graphs for decode steps (`graphs`; None: on a GPU), torch.compile for these and
        the tower (`compiled`), the decoder's own kernels (`kernels`), and, on a GPU, sending images ahead of
        their batch. Raises ModelError if that fails."""
        cuda = self.home.type == "cuda"
        if kernels and not fused.works(self.home, self.dtype):
            raise ModelError(f"--fused-kernels: they do not work on {self.device}; leave it out")
        if graphs and not cuda:
            raise ModelError(f"--cuda-graphs on: the model runs on {self.device}; graphs need a CUDA device")
        graphs = cuda if graphs is None else graphs
        self.overlaps = cuda
        if cuda:
            self.uploads = Uploads(CudaCross(self.home), min(LIMIT, self.memory.limit))
        if compiled:
            compile_layers(self.decoder, self.tower)
        self.compiled, self.decoder.fused = compiled, kernels
        if graphs or compiled:
            self.static = StaticSteps(self.decoder, self.cap, CudaCapture(self.home) if graphs else None)

    # --- forward passes ---

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Image tokens as the decoder gets them, (images, tokens, hidden), from uint8 (images, R, R, 3)."""
        most = 1 if self.strict else max(1, VISION_TOKENS.get(self.home.type, 16384) // self.image_tokens)
        return torch.cat([self.tower(part) for part in pixels.split(most)])

    def prefill(
        self, prompts: Sequence[Prompt], rules: Rules, state: State | None = None, room: int = ROOM
    ) -> tuple[torch.Tensor, State]:
        """Reads the prompts as new rows of `state` (None: a new one with room for `room` new tokens).

        Returns float32 logits (batch, vocabulary) of the first new tokens, and the state to continue from.
        Prompts of one length are read together, different lengths one after the other.
        """
        groups: dict[tuple[int, int, int], list[int]] = {}
        for row, prompt in enumerate(prompts):
            key = len(prompt.pixels), len(prompt.before), len(prompt.ids)
            groups.setdefault(key, []).append(row)
        # Copied first: a copy from unpinned memory waits for all work that is queued.
        ids = {
            key: torch.tensor([prompts[r].before + prompts[r].ids for r in rows]).to(self.home)
            for key, rows in groups.items()
        }
        images = self._images(prompts)
        longest = max(len(p.before) + len(p.pixels) * self.image_tokens + len(p.ids) for p in prompts)
        steps = self.static or self.decoder
        if state is None:
            state = steps.begin(len(prompts), longest + room, rules.first_position)
        steps.reserve(state, len(state.lengths) + len(prompts), longest + room)
        before, hidden, order = len(state.lengths), [], []
        for key, rows in groups.items():
            words = self.decoder.embed(ids[key])
            x = torch.cat([words[:, : key[1]], torch.stack([images[r] for r in rows]), words[:, key[1] :]], 1)
            free = prompts[rows[0]].free(self.image_tokens, rules.prompt_mask)
            hidden.append(self.decoder.prefill(x, state, free)[:, 0])
            order += rows
        back = sorted(range(len(order)), key=order.__getitem__)
        if len(groups) > 1:
            state.keep([*range(before), *(before + i for i in back)])
        read = torch.cat(hidden)
        return self._logits(read[back] if len(groups) > 1 else read, rules.cap_first), state

    def forced(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], rules: Rules
    ) -> list[tuple[float, ...]]:
        """The log-probability of each token of each prompt's answer, in one pass over both. All prompts have
        as many images and tokens as each other."""
        images, first = torch.stack(self._images(prompts)), prompts[0]
        longest = max(map(len, answers))
        text = [
            [*p.before, *p.ids, *a[:-1], *[0] * (longest - len(a))]
            for p, a in zip(prompts, answers, strict=True)
        ]
        words = self.decoder.embed(torch.tensor(text).to(self.home))
        begin = len(first.before)
        x = torch.cat([words[:, :begin], images, words[:, begin:]], dim=1)
        free = first.free(self.image_tokens, rules.prompt_mask)
        prefix = begin + images.shape[1] + len(first.ids)
        state = self.decoder.begin(len(prompts), x.shape[1], rules.first_position)
        hidden = self.decoder.prefill(x, state, prefix if free is None else free, longest)
        found = []
        for row, answer in zip(hidden, answers, strict=True):
            raw = self.decoder.logits(row[: len(answer)])
            capped = self._logits(row[: len(answer)], True)
            logits = capped if rules.cap_first else torch.cat([raw[:1], capped[1:]])
            told = torch.tensor(answer).to(self.home)[:, None]
            found.append(tuple((logits.gather(1, told)[:, 0] - logits.logsumexp(-1)).tolist()))
        return found

    def step(self, tokens: torch.Tensor, state: State) -> torch.Tensor:
        """Reads one new token per row (batch,): float32 logits (batch, vocabulary) of the token after it,
        valid until the next step."""
        if self.static is not None:
            return self.static.step(tokens, state)
        return self._logits(self.decoder.step(tokens, state), True)

    def send(self, key: str, pixels: Pixels) -> None:
        """Starts copying an image (R, R, 3) to the device before its batch comes, if useful; from any thread.
        `key` is the one in `Prompt.keys`."""
        if self.uploads is not None and key not in self.memory:
            self.uploads.send(key, pixels)

    def reorder(self, state: State, rows: torch.Tensor) -> None:
        """Makes row i continue from what row `rows[i]` has read (beam search; may change the batch size)."""
        state.keep(rows.tolist())

    def _images(self, prompts: Sequence[Prompt]) -> list[torch.Tensor]:
        """Each prompt's image tokens, its images one after the other: (images · tokens, hidden).

        Every distinct image goes through the tower once, and not at all if its features are in memory.
        """
        keys = [p.keys or tuple(pixel_key(image) for image in p.pixels) for p in prompts]
        wanted: dict[str, Pixels] = {}
        for prompt, names in zip(prompts, keys, strict=True):
            wanted |= dict(zip(names, prompt.pixels, strict=True))
        found: dict[str, torch.Tensor] = {}
        for name in wanted:
            kept = self.memory.get(name)
            if kept is not None:
                found[name] = kept.to(self.home, non_blocking=True)
        new = [name for name in wanted if name not in found]
        if new:
            computed = self.features(self._pixels(new, wanted))
            for name, features in zip(new, computed, strict=True):
                found[name] = features
                # a copy: a slice would keep the whole batch's tensor alive
                self.memory.put(name, features.clone() if len(new) > 1 else features)
        return [found[n[0]] if len(n) == 1 else torch.cat([found[i] for i in n]) for n in keys]

    def _pixels(self, names: Sequence[str], images: Mapping[str, Pixels]) -> torch.Tensor:
        """The named images as one batch (images, R, R, 3); on the device if uploads are on."""
        if self.uploads is None:
            return torch.from_numpy(np.stack([images[name] for name in names]))
        sent = {name: self.uploads.take(name) for name in names}
        return torch.stack([as_tensor(images[n]).to(self.home) if i is None else i for n, i in sent.items()])

    def _logits(self, hidden: torch.Tensor, cap: bool) -> torch.Tensor:
        """float32 before the soft cap: in bfloat16 the cap would turn close logits into ties."""
        logits = self.decoder.logits(hidden)
        if cap and self.cap is not None:
            logits = logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits

    def not_finite(self) -> ModelError:
        """The error for logits that are not finite."""
        return not_finite(self.dtype)

    # --- answers ---

    def answer(self, prompts: Sequence[Prompt], decode: Decode, rules: Rules) -> list[Answer]:
        """See `Engine.answer`; prompts of several lengths are fine."""

        def work() -> list[Answer]:
            if decode.beams > 1:
                return self._beam(prompts, decode, rules)
            return continuous_batching.answer(self, prompts, decode, rules)

        return fitting(self, work, f"{len(prompts)} prompts at once")

    def choose(self, prompt: Prompt, choices: Sequence[Sequence[int]], rules: Rules) -> Answer:
        """See `Engine.choose`."""

        def work() -> Answer:
            best = likelihood.choose(self, prompt, choices, rules)
            if not all(map(math.isfinite, best.logprobs)):
                raise self.not_finite()
            return best

        return fitting(self, work, f"{len(choices)} choices")

    def free(self) -> None:
        """Frees memory after running out of it."""
        self.memory.clear()
        for held in (self.static, self.uploads):
            if held is not None:
                held.clear()
        collect()

    def _beam(self, prompts: Sequence[Prompt], decode: Decode, rules: Rules) -> list[Answer]:
        """The reference's beam search; its answers always end with the end token."""
        logits, state = self.prefill(prompts, rules, room=decode.max_new_tokens)

        def step(rows: list[int], tokens: list[int]) -> torch.Tensor:
            state.keep(rows)
            return torch.log_softmax(self.step(torch.tensor(tokens), state), dim=-1)

        if not bool(torch.isfinite(logits).all()):
            raise self.not_finite()
        searches = [Search(decode.beams, decode.max_new_tokens, rules.eos[0]) for _ in prompts]
        search(torch.log_softmax(logits, dim=-1), step, searches)
        return [Answer(tuple(one.tokens), tuple(one.logprobs), "eos", None) for one in searches]

    def provenance(self) -> dict[str, Any]:
        """See `Engine.provenance`."""
        return {
            **machine(self.home),
            "onednn": onednn(self.decoder.table),
            "image_features": {"computed": self.memory.misses, "reused": self.memory.hits},
            "images_sent_ahead": self.uploads.taken if self.uploads is not None else 0,
            "compiled": self.compiled,
            "fused_kernels": self.decoder.fused,
            "cuda_graphs": self.static.provenance() if self.static is not None else {"on": False},
        }


def memory_limits(device: torch.device) -> tuple[int, int]:
    """Bytes of image features to keep on the device and, for a GPU, additionally in pinned host memory."""
    if device.type != "cuda":
        return 1 << 30, 0
    return int(torch.cuda.mem_get_info(device)[0] // 20), min(4 << 30, host_memory() // 8)


def host_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's; 8 GiB if neither is
    told."""
    told = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on Windows
        told.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in CONTAINER:
        with contextlib.suppress(OSError, ValueError):  # the word "max" if there is none
            told.append(int(Path(limit).read_text(encoding="ascii")))
    return min(told, default=8 << 30)


def load(
    info: CheckpointInfo,
    dtype: str,
    device: str,
    kv_dtype: str | None = None,
    strict: bool = False,
    scheme: str | None = None,
    sliding: bool = False,
) -> FastEngine:
    """The checkpoint as a fast engine; arguments and errors as `loading.load_model`."""
    model = load_model(info, dtype, device, scheme=scheme, sliding=sliding)
    return FastEngine(model, info.image_tokens, getattr(torch, kv_dtype) if kv_dtype else None, strict=strict)
