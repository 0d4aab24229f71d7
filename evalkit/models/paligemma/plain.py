"""The plain engine: transformers' own forward, one batch at a time: greedy, beam or sampled. The oracle
that stays: other engines are compared with it, so it does nothing clever."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import transformers
from transformers.initialization import no_init_weights

from evalkit.errors import ModelError
from evalkit.models.paligemma import adapter, big_vision, quantize
from evalkit.models.paligemma import choices as choosing
from evalkit.models.paligemma.beam import Search, search
from evalkit.models.paligemma.checkpoint import CheckpointInfo
from evalkit.models.paligemma.engine import Answer, OutOfMemory, Prompt
from evalkit.models.paligemma.forbidding import forbid
from evalkit.models.paligemma.prompt import Rules
from evalkit.models.paligemma.sampling import Draws
from evalkit.models.paligemma.tensors import canonical
from evalkit.types import Decode

T = TypeVar("T")

WINDOW = 1 << 20  # tokens: above any prompt, so Gemma 2's sliding layers see everything
PAD = 0


@dataclass(slots=True)
class State:
    """A batch under way: what the next step needs beside the new tokens."""

    cache: Any
    mask: torch.Tensor  # (batch, length so far), 0 where padded
    position: torch.Tensor  # (batch,) of the next token


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 to float32 in [-1, 1]: -1 + (x / 255) · 2, in the order of big_vision's value_range."""
    return pixels.to(torch.float32, copy=True).div_(255.0).mul_(2.0).sub_(1.0)


class PlainEngine:
    """A PaliGemma of transformers with the tokens of one image known."""

    def __init__(self, model: Any, image_tokens: int) -> None:
        self.model = model.eval().requires_grad_(False)
        self.image_tokens = image_tokens
        self.image_token = int(model.config.image_token_id)
        self.dtype: torch.dtype = model.get_input_embeddings().weight.dtype
        self.home: torch.device = model.get_input_embeddings().weight.device
        self.device = str(self.home)
        self.cap: float | None = getattr(model.config.text_config, "final_logit_softcapping", None)

    def feature_shape(self, resolution: int) -> tuple[int, ...]:
        """Shape of one image's features (1, tokens, hidden), by trying."""
        with torch.inference_mode():
            return tuple(self.features(torch.zeros((1, resolution, resolution, 3), dtype=torch.uint8)).shape)

    # --- the calls that everything is made of ---

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Image tokens as the decoder gets them, (images, tokens, hidden), from uint8 (images, R, R, 3)."""
        found: torch.Tensor = self.model.get_image_features(self._values(pixels)).pooler_output
        return found

    def prefill(self, prompts: Sequence[Prompt], rules: Rules) -> tuple[torch.Tensor, State]:
        """Reads the prompts, left-padded to one length: (float32 logits (batch, vocabulary) of the first
        new token, the state to go on from)."""
        images = len(prompts[0].pixels)
        start = [self.image_token] * (self.image_tokens * images)
        longest = max(len(p.ids) for p in prompts)
        rows = [[PAD] * (longest - len(p.ids)) + start + list(p.ids) for p in prompts]
        ids = torch.tensor(rows, device=self.home)
        mask = torch.tensor(
            [[int(i >= longest - len(p.ids)) for i in range(len(rows[0]))] for p in prompts], device=self.home
        )
        position = (mask.cumsum(1) - 1).clamp(min=0) + rules.first_position
        pixels = torch.from_numpy(np.concatenate([p.pixels for p in prompts]))
        out = self.model.model(
            input_ids=ids,
            pixel_values=self._values(pixels),
            attention_mask=mask,
            position_ids=position,
            token_type_ids=torch.zeros_like(ids),  # without them the prefix would silently be causal
            use_cache=True,
        )
        state = State(out.past_key_values, mask, position[:, -1] + 1)
        return self._logits(out.last_hidden_state, rules.cap_first), state

    def step(self, tokens: torch.Tensor, state: State) -> torch.Tensor:
        """Reads one new token a row (batch,): float32 logits (batch, vocabulary) of the token after it."""
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
        """Makes row i go on from what row `rows[i]` has read (beam search; may change the batch size)."""
        rows = rows.to(self.home)
        state.cache.reorder_cache(rows)
        state.mask, state.position = state.mask[rows], state.position[rows]

    def _values(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 crosses to the device, floats are made there: (images, 3, R, R) in the model's dtype."""
        return normalise(pixels.to(self.home)).permute(0, 3, 1, 2).to(self.dtype)

    def _logits(self, hidden: torch.Tensor, cap: bool) -> torch.Tensor:
        """float32 before the soft cap: capped in bfloat16, near logits would become ties."""
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
        return fitting(self, lambda: choosing.choose(self, prompt, choices, rules), f"{len(choices)} choices")

    def free(self) -> None:
        """Gives memory back after running out of it."""
        collect()

    def _one_path(
        self, prompts: Sequence[Prompt], decode: Decode, rules: Rules, draws: Draws | None
    ) -> list[Answer]:
        """Token after token, the best one or, with `draws`, a drawn one."""
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

    def provenance(self) -> dict[str, Any]:
        """See `Engine.provenance`."""
        name = torch.cuda.get_device_name(self.home) if self.home.type == "cuda" else "cpu"
        return {
            "device": self.device,
            "device_name": name,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
            "float32_products": torch.get_float32_matmul_precision(),
        }


class _Frees(Protocol):
    def free(self) -> None: ...


def fitting(engine: _Frees, work: Callable[[], T], what: str) -> T:
    """What `work` gives; raises OutOfMemory, memory given back, where the device has no room for it."""
    try:
        with torch.inference_mode():
            return work()
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler, so that the traceback no longer holds the batch's tensors.
    engine.free()
    raise OutOfMemory(f"{what} do not fit")


def collect() -> None:
    """Has Python and the GPU's allocator let go of what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def not_finite(dtype: torch.dtype) -> ModelError:
    """What to say when the numbers break down."""
    return ModelError(
        f"the model's logits are not finite in {str(dtype).removeprefix('torch.')}; "
        "use --dtype bfloat16 or float32"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the CPU's allocator ran out of memory (the latter is a bare RuntimeError)."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return "DefaultCPUAllocator" in text or "out of memory" in text


def load(
    info: CheckpointInfo,
    dtype: str,
    device: str,
    device_map: str | None = None,
    scheme: str | None = None,
    sliding: bool = False,
) -> PlainEngine:
    """The checkpoint as a plain engine."""
    return PlainEngine(load_model(info, dtype, device, device_map, scheme, sliding), info.image_tokens)


def load_model(
    info: CheckpointInfo,
    dtype: str,
    device: str,
    device_map: str | None = None,
    scheme: str | None = None,
    sliding: bool = False,
) -> Any:
    """The checkpoint as transformers' model, its adapter merged, its weights quantised by `scheme`.

    `device`: auto (the GPU where there is one), cpu, cuda, cuda:N; `device_map`: as transformers
    (`auto`, `balanced`...), for checkpoints larger than one GPU; `sliding`: with the window that Gemma 2's
    config names. Raises ModelError when the device is not there or weights are missing.
    """
    config = _config(info, sliding)
    if info.derived:
        model = _from_npz(info, config, dtype)
    else:
        model = _from_folder(info, config, dtype, device, device_map, scheme)
    if info.adapter is not None:
        adapter.merge(info.adapter, model)
    if scheme == "int8":
        quantize.round_int8(model)
    exact_float32()
    if not device_map and scheme not in quantize.LIBRARIES:
        home = _device(device)
        model = model.to(home)
        if home.type == "cuda":
            torch.cuda.set_device(home)  # whose streams, graphs and compiled kernels are meant from here on
    return model


def exact_float32() -> None:
    """float32 products in float32, whatever was set before: no TF32 on a GPU, no bfloat16 on a CPU."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def _from_folder(
    info: CheckpointInfo, config: Any, dtype: str, device: str, device_map: str | None, scheme: str | None
) -> Any:
    if device_map and importlib.util.find_spec("accelerate") is None:
        raise ModelError(f"device_map={device_map}: needs the package accelerate; pip install accelerate")
    options: dict[str, Any] = {"device_map": device_map} if device_map else {}
    if scheme in quantize.LIBRARIES:  # the library puts the weights where they stay
        device_map = device_map or str(_device(device))
        options |= {
            "quantization_config": quantize.library_config(scheme, getattr(torch, dtype)),
            "device_map": device_map if device_map == "auto" else {"": device_map},
        }
    model, report = _quietly(
        lambda: transformers.PaliGemmaForConditionalGeneration.from_pretrained(
            info.path,
            config=config,
            dtype=getattr(torch, dtype),
            attn_implementation=info.attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        ),
        info,
    )
    missing = sorted(k for k in report.get("missing_keys", ()) if k != "lm_head.weight")
    mismatched = sorted(str(k) for k in report.get("mismatched_keys", ()))
    if missing or mismatched:
        # transformers would go on with random numbers in their place.
        what = (
            f"{len(missing)} weights are missing"
            if missing
            else f"{len(mismatched)} weights have another shape"
        )
        raise ModelError(
            f"{info.path}: {what} (first: {(missing or mismatched)[0]}); save the checkpoint again"
        )
    return model


def _from_npz(info: CheckpointInfo, config: Any, dtype: str) -> Any:
    """A model of transformers filled weight by weight; no second copy of the weights is held."""
    home = getattr(torch, dtype)
    with no_init_weights():
        model = _quietly(
            lambda: transformers.AutoModelForImageTextToText.from_config(
                config, dtype=home, attn_implementation=info.attention
            ),
            info,
        )
    model.tie_weights()  # initialising would have done it
    places = {canonical(name): weight for name, weight in model.named_parameters()}
    with torch.no_grad():
        for tensor in big_vision.read(info.path):
            array = tensor.array if tensor.array.flags.writeable else tensor.array.copy()
            half = tensor.kind == "BF16"
            values = torch.from_numpy(array.view(np.int16) if half else array)
            values = values.view(torch.bfloat16) if half else values
            place = places.pop(canonical(tensor.name), None)
            if place is None or place.shape != values.shape:
                fits = "no such weight" if place is None else tuple(place.shape)
                raise ModelError(f"{info.path}: {tensor.name} is {tuple(values.shape)}, its model has {fits}")
            place.copy_(values)
    if places:
        raise ModelError(f"{info.path}: {len(places)} weights are missing (first: {min(places)})")
    return model


def _config(info: CheckpointInfo, sliding: bool) -> Any:
    if info.derived is not None:
        config = transformers.PaliGemmaConfig.from_dict(dict(info.derived))
    else:
        config = transformers.PaliGemmaConfig.from_pretrained(info.path, local_files_only=True)
    if info.family == 2 and not sliding:
        # The reference has no sliding window; transformers' would hide the first image tokens at 896 px.
        config.text_config.sliding_window = WINDOW
    return config


def load_tokenizer(info: CheckpointInfo) -> Any:
    """The checkpoint's own tokenizer; ModelError when transformers cannot read it."""
    return _quietly(
        lambda: transformers.AutoTokenizer.from_pretrained(
            info.tokenizer[0].parent, local_files_only=True, trust_remote_code=False
        ),
        info,
    )


def _device(name: str) -> torch.device:
    """The device by its name; a GPU with its number, which torch.cuda.set_device insists on."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        if device.type not in ("cpu", "cuda", "mps", "xpu"):
            raise RuntimeError
    except RuntimeError:
        raise ModelError(f"--device {name}: no such device; auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ModelError(f"--device {name}: this machine has {count} usable GPUs; try --device cpu")
        if device.index is None:
            return torch.device("cuda", torch.cuda.current_device())
    return device


def _quietly(load: Callable[[], Any], info: CheckpointInfo) -> Any:
    """Loads without transformers' progress bars and reports; its errors become one sentence."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return load()
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise ModelError(
                f"{info.path}: {info.parameters:,} parameters do not fit into memory; try "
                "--dtype bfloat16, or device_map=auto to spread them over several GPUs"
            ) from None
        raise ModelError(
            f"{info.path}: transformers cannot load it: {str(error).strip().splitlines()[0]}"
        ) from None
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
