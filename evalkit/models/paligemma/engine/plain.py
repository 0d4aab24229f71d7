"""The plain engine: transformers' own forward pass, one batch at a time; greedy, beam search or sampling.
Kept simple, because other engines are compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evalkit.models.paligemma.checkpoint.device import machine
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo
from evalkit.models.paligemma.checkpoint.loading import load_model
from evalkit.models.paligemma.decoding import likelihood
from evalkit.models.paligemma.decoding.beam_search import Search, search
from evalkit.models.paligemma.decoding.forbidden import forbid
from evalkit.models.paligemma.decoding.sampling import Draws
from evalkit.models.paligemma.engine.vision import normalise
from evalkit.models.paligemma.interface import Answer, Prompt, Rules
from evalkit.models.paligemma.memory import collect, fitting, not_finite
from evalkit.types import Decode

PAD = 0


@dataclass(slots=True)
class State:
    """A batch being decoded: what the next step needs besides the new tokens."""

    cache: Any
    mask: torch.Tensor  # (batch, length so far), 0 where padded
    position: torch.Tensor  # (batch,) of the next token


class PlainEngine:
    """Answers with transformers' PaliGemma, which is in evaluation mode; `image_tokens` is the number of
    tokens of one image."""

    def __init__(self, model: Any, image_tokens: int) -> None:
        self.model = model
        self.image_tokens = image_tokens
        self.image_token = int(model.config.image_token_id)
        self.dtype: torch.dtype = model.get_input_embeddings().weight.dtype
        self.home: torch.device = model.get_input_embeddings().weight.device
        self.device = str(self.home)
        self.cap: float | None = getattr(model.config.text_config, "final_logit_softcapping", None)

    def feature_shape(self, resolution: int) -> tuple[int, ...]:
        """Shape of one image's features (1, tokens, hidden), found by a forward pass."""
        with torch.inference_mode():
            return tuple(self.features(torch.zeros((1, resolution, resolution, 3), dtype=torch.uint8)).shape)

    # --- forward passes ---

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Image tokens as the decoder gets them, (images, tokens, hidden), from uint8 (images, R, R, 3)."""
        whole = self.model.model  # `get_image_features` of transformers before 5.4 scales what it returns
        seen = whole.vision_tower(self._values(pixels)).last_hidden_state
        found: torch.Tensor = whole.multi_modal_projector(seen)
        return found

    def prefill(self, prompts: Sequence[Prompt], rules: Rules) -> tuple[torch.Tensor, State]:
        """Reads the prompts, left-padded to one length. Returns float32 logits (batch, vocabulary) of the
        first new tokens and the state to continue from."""
        images = len(prompts[0].pixels)
        start = [self.image_token] * (self.image_tokens * images)
        read = [[*p.before, *start, *p.ids] for p in prompts]
        longest = max(map(len, read))
        padding = [longest - len(row) for row in read]
        ids = torch.tensor([[PAD] * n + row for n, row in zip(padding, read, strict=True)], device=self.home)
        mask = torch.tensor([[int(i >= n) for i in range(longest)] for n in padding], device=self.home)
        # Tokens of type 0 attend to each other, the others to what is before them.
        free = [p.free(self.image_tokens, rules.prompt_mask) for p in prompts]
        ends = [longest if n is None else m + n for n, m in zip(free, padding, strict=True)]
        kinds = torch.tensor([[int(i >= end) for i in range(longest)] for end in ends], device=self.home)
        position = (mask.cumsum(1) - 1).clamp(min=0) + rules.first_position
        pixels = torch.from_numpy(np.concatenate([p.pixels for p in prompts]))
        out = self.model.model(
            input_ids=ids,
            pixel_values=self._values(pixels),
            attention_mask=mask,
            position_ids=position,
            token_type_ids=kinds,  # without them the whole prefix would silently be causal
            use_cache=True,
        )
        state = State(out.past_key_values, mask, position[:, -1] + 1)
        return self._logits(out.last_hidden_state, rules.cap_first), state

    def step(self, tokens: torch.Tensor, state: State) -> torch.Tensor:
        """Reads one new token per row (batch,): float32 logits (batch, vocabulary) of the token after it."""
        state.mask = torch.cat([state.mask, state.mask.new_ones((len(state.mask), 1))], dim=1)
        ids = tokens.to(self.home)[:, None]
        out = self.model.model(
            input_ids=ids,
            attention_mask=state.mask,
            position_ids=state.position[:, None],
            token_type_ids=torch.ones_like(ids),
            past_key_values=state.cache,
            use_cache=True,
        )
        state.position = state.position + 1
        return self._logits(out.last_hidden_state, True)

    def reorder(self, state: State, rows: torch.Tensor) -> None:
        """Makes row i continue from what row `rows[i]` has read (beam search; may change the batch size)."""
        rows = rows.to(self.home)
        state.cache.reorder_cache(rows)
        state.mask, state.position = state.mask[rows], state.position[rows]

    def _values(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels as the model takes them, (images, 3, R, R) in its dtype. Copied to the device as uint8,
        which is smaller."""
        return normalise(pixels.to(self.home)).permute(0, 3, 1, 2).to(self.dtype)

    def _logits(self, hidden: torch.Tensor, cap: bool) -> torch.Tensor:
        """float32 before the soft cap: in bfloat16 the cap would turn close logits into ties."""
        logits: torch.Tensor = self.model.lm_head(hidden[:, -1]).to(self.home).float()
        if cap and self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        if not bool(torch.isfinite(logits).all()):
            raise not_finite(self.dtype)
        return logits

    # --- answers ---

    def answer(self, prompts: Sequence[Prompt], decode: Decode, rules: Rules) -> list[Answer]:
        """See `Engine.answer`."""

        def work() -> list[Answer]:
            if decode.beams > 1:
                return self._beam(prompts, decode, rules)
            draws = Draws([p.seed for p in prompts], decode) if decode.samples else None
            return self._one_path(prompts, decode, rules, draws)

        return fitting(self, work, f"{len(prompts)} prompts at once")

    def choose(self, prompt: Prompt, choices: Sequence[Sequence[int]], rules: Rules) -> Answer:
        """See `Engine.choose`."""
        return fitting(
            self, lambda: likelihood.choose(self, prompt, choices, rules), f"{len(choices)} choices"
        )

    def free(self) -> None:
        """Frees memory after running out of it."""
        collect()

    def _one_path(
        self, prompts: Sequence[Prompt], decode: Decode, rules: Rules, draws: Draws | None
    ) -> list[Answer]:
        """Token by token: the best one or, with `draws`, a drawn one."""
        n = len(prompts)
        tokens: list[list[int]] = [[] for _ in range(n)]
        logprobs: list[list[float]] = [[] for _ in range(n)]
        margins, stops = [float("inf")] * n, ["length"] * n
        logits, state = self.prefill(prompts, rules)
        for index in range(decode.max_new_tokens):
            whole = logits.logsumexp(dim=-1)
            forbid(logits, [(p.forbid, said) for p, said in zip(prompts, tokens, strict=True)])
            # argmax: the lowest id among equals, as the reference
            best = logits.argmax(dim=-1) if draws is None else draws.next(logits)
            top = logits.topk(2, dim=-1).values
            gap = (top[:, 0] - top[:, 1]).tolist()
            chosen = best.tolist()
            score = (logits.gather(1, best[:, None])[:, 0] - whole).tolist()
            for row in range(n):
                if stops[row] == "eos":
                    continue
                tokens[row].append(chosen[row])
                logprobs[row].append(score[row])
                margins[row] = min(margins[row], gap[row])
                if chosen[row] in rules.eos:
                    stops[row] = "eos"
            if "length" not in stops or index + 1 == decode.max_new_tokens:
                break
            logits = self.step(best, state)
        return [
            Answer(tuple(t), tuple(p), s, m if draws is None else None)
            for t, p, s, m in zip(tokens, logprobs, stops, margins, strict=True)
        ]

    def _beam(self, prompts: Sequence[Prompt], decode: Decode, rules: Rules) -> list[Answer]:
        """The reference's beam search; its answers always end with the end token."""
        logits, state = self.prefill(prompts, rules)

        def step(rows: list[int], tokens: list[int]) -> torch.Tensor:
            self.reorder(state, torch.tensor(rows))
            return torch.log_softmax(self.step(torch.tensor(tokens), state), dim=-1)

        searches = [Search(decode.beams, decode.max_new_tokens, rules.eos[0]) for _ in prompts]
        search(torch.log_softmax(logits, dim=-1), step, searches)
        return [Answer(tuple(one.tokens), tuple(one.logprobs), "eos", None) for one in searches]

    def row_bytes(self, image_tokens: int) -> int:
        """See `Engine.row_bytes`."""
        return 0

    def provenance(self) -> dict[str, Any]:
        """See `Engine.provenance`."""
        return machine(self.home)


def load(
    info: CheckpointInfo,
    dtype: str,
    device: str,
    device_map: str | None = None,
    scheme: str | None = None,
    sliding: bool = False,
) -> PlainEngine:
    """The checkpoint as a plain engine."""
    model = load_model(info, dtype, device, device_map, scheme, sliding).eval().requires_grad_(False)
    return PlainEngine(model, info.image_tokens)
