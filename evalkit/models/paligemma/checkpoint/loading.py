"""Loads a checkpoint's files as transformers' model and tokenizer, on the chosen device. Knows no prompt and
no decoding."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
import transformers
from transformers.initialization import no_init_weights
from transformers.models.siglip import modeling_siglip

from evalkit.errors import ModelError, UserError
from evalkit.models.paligemma.checkpoint import (
    big_vision,
    contents,
    filling,
    finite,
    lora,
    quantize,
    unmerged,
    weight_files,
)
from evalkit.models.paligemma.checkpoint.contents import shown
from evalkit.models.paligemma.checkpoint.device import find_device, fix_arithmetic
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo
from evalkit.models.paligemma.checkpoint.safetensors import canonical
from evalkit.models.paligemma.memory import is_out_of_memory

T = TypeVar("T")

WINDOW = 1 << 20  # tokens: longer than any prompt, so Gemma 2's sliding layers see everything
# For transformers before 5.6, which has the vision tower one module deeper and does not find the weights of a
# checkpoint that a later release saved: from a file's names to its own. Later ones read all by themselves.
KEY_MAPPING: dict[str, str] | None = None
if hasattr(modeling_siglip, "SiglipVisionTransformer"):
    KEY_MAPPING = {
        r"^(model\.)?vision_tower\.(vision_model\.)?": "model.vision_tower.vision_model.",
        r"^multi_modal_projector\.": "model.multi_modal_projector.",
        r"^language_model\.lm_head\.": "lm_head.",
        r"^language_model\.(model\.)?": "model.language_model.",
    }


def load_model(
    info: CheckpointInfo,
    dtype: str,
    device: str,
    device_map: str | None = None,
    scheme: str | None = None,
    sliding: bool = False,
) -> Any:
    """Loads the checkpoint as transformers' model, quantised by `scheme`, its adapter merged, or beside the
    codes of its base (`quantize.unmerged`).

    `device`: auto (a GPU if there is one), cpu, cuda, cuda:N; `device_map`: as in transformers
    (`auto`, `balanced`...), for checkpoints larger than one GPU; `sliding`: use the window of Gemma 2's
    config. Raises ModelError if the device does not exist, weights are missing or not finite, or a file
    is not the one in `info.planned`.
    """
    fix_arithmetic()  # first: adapters are merged and weights rounded by products, too
    config = _config(info, sliding)
    alone = not device_map and scheme not in quantize.LIBRARIES and info.codes is None
    if info.derived:
        model = _from_npz(info, config, dtype)
        info.planned.check_again(info.weights)
    elif alone:
        model = _filled(info, config, dtype, device)
    else:
        model = _from_folder(info, config, dtype, device, device_map, scheme)
        info.planned.check_again(info.weights)
    if info.codes is not None and quantize.in_force(info, scheme) is None:
        quantize.expand(model, getattr(torch, dtype))
    if info.adapter is not None:
        (unmerged.attach if quantize.unmerged(info, scheme) else lora.merge)(info.adapter, model)
        info.planned.check_again(info.adapter.files)
    if scheme == "int8":
        quantize.round_int8(model)
    if alone:
        model = model.to(find_device(device))
    home = model.get_input_embeddings().weight.device
    if home.type == "cuda":
        torch.cuda.set_device(home)  # the default for streams, graphs and own kernels from now on
    return model


def _filled(info: CheckpointInfo, config: Any, dtype: str, device: str) -> Any:
    """transformers' model on its device, filled from safetensors files."""
    with find_device(device):
        model = _empty(info, config, dtype)
    filling.fill(model, filling.places(info.weights, model, info.path), info.planned)
    return model.eval()


def _empty(info: CheckpointInfo, config: Any, dtype: str) -> Any:
    """transformers' model in this precision; memory for its parameters is reserved and not written."""
    config = copy.copy(config)
    if info.codes is not None:
        del config.quantization_config  # here every layer is a plain one
    with no_init_weights():
        model = _quietly(
            lambda: transformers.AutoModelForImageTextToText.from_config(
                config, dtype=getattr(torch, dtype), attn_implementation=info.attention
            ),
            info,
        )
    model.tie_weights()  # normally a part of the initialisation, which was skipped
    return model


def _from_folder(
    info: CheckpointInfo, config: Any, dtype: str, device: str, device_map: str | None, scheme: str | None
) -> Any:
    if device_map and importlib.util.find_spec("accelerate") is None:
        raise ModelError(f"device_map={device_map}: needs the package accelerate; pip install accelerate")
    single = info.path / weight_files.SINGLE
    if single.is_file() and single not in info.weights:  # which transformers would take
        raise ModelError(f"{single}: lies beside shards, which are the weights; move it away for this option")
    config.transformers_weights = None  # a file that config.json may name: the weights are `info.weights`
    _check_fit(info, config, dtype)
    options: dict[str, Any] = {"device_map": device_map} if device_map else {}
    by_library = scheme if scheme in quantize.LIBRARIES else info.codes.scheme if info.codes else ""
    if by_library:  # the library itself places the weights, so it needs the device now
        device_map = device_map or str(find_device(device))
        options["device_map"] = device_map if device_map == "auto" else {"": device_map}
    if scheme in quantize.LIBRARIES:
        options["quantization_config"] = quantize.library_config(scheme, getattr(torch, dtype))
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
            ignore_mismatched_sizes=True,  # they are refused below, by name
            key_mapping=KEY_MAPPING,
            **options,
        ),
        info,
    )
    missing = sorted(k for k in report.get("missing_keys", ()) if k != "lm_head.weight")
    mismatched = sorted(str(k) for k in report.get("mismatched_keys", ()))
    if missing or mismatched:
        # transformers would silently use random numbers instead.
        what = (
            f"{len(missing)} weights are missing"
            if missing
            else f"{len(mismatched)} weights have a wrong shape"
        )
        raise ModelError(
            f"{info.path}: {what} (first: {(missing or mismatched)[0]}); save the checkpoint again"
        )
    if by_library in quantize.BITSANDBYTES:
        quantize.settle(info, model, getattr(torch, dtype))
        finite.check_files(info.weights, info.codes.weights if info.codes else frozenset())
        return model
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and not weight.is_meta:
            finite.check(info.path, name, weight)
    return model


def _check_fit(info: CheckpointInfo, config: Any, dtype: str) -> None:
    """Says here what does not fit the model; transformers' report is a table on stderr."""
    with torch.device("meta"):
        model = _empty(info, config, dtype)
    if info.codes is None:
        filling.places(info.weights, model, info.path)
        return
    wanted = {canonical(name): tuple(weight.shape) for name, weight in model.named_parameters()}
    contents.check_shapes(info.path, info.shapes, wanted)


def _from_npz(info: CheckpointInfo, config: Any, dtype: str) -> Any:
    """transformers' model, filled weight by weight, so that memory never holds the weights twice."""
    model = _empty(info, config, dtype)
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
            finite.check(info.path, tensor.name, values)
            place.copy_(values)
    if places:
        raise ModelError(f"{info.path}: {len(places)} weights are missing (first: {min(places)})")
    return model


def _config(info: CheckpointInfo, sliding: bool) -> Any:
    if info.derived is not None:
        config = transformers.PaliGemmaConfig.from_dict(dict(info.derived))
    else:
        config = _quietly(
            lambda: transformers.PaliGemmaConfig.from_pretrained(info.path, local_files_only=True), info
        )
    if info.family == 2 and not sliding:
        # The reference has no sliding window; transformers' would hide the first image tokens at 896 px.
        config.text_config.sliding_window = WINDOW
    return config


def load_tokenizer(info: CheckpointInfo, use: Callable[[Any], None]) -> None:
    """Hands the checkpoint's own tokenizer to `use`. Raises ModelError if transformers cannot read it, or it
    fails there: what is odd in its files may show only when it is used."""
    home = info.tokenizer[0].parent
    _quietly(
        lambda: use(
            transformers.AutoTokenizer.from_pretrained(home, local_files_only=True, trust_remote_code=False)
        ),
        info,
        f"{home}: the tokenizer cannot be used",
    )


def _quietly(load: Callable[[], T], info: CheckpointInfo, what: str = "") -> T:
    """Loads without transformers' progress bars and reports; turns its errors into a ModelError."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return load()
    except UserError:
        raise
    except Exception as error:  # of a file's odd content: its own, those of tokenizers and of huggingface_hub
        if is_out_of_memory(error):
            raise ModelError(
                f"{info.path}: {info.parameters:,} parameters do not fit into memory; try "
                "--dtype bfloat16, or device_map=auto to spread them over several GPUs"
            ) from None
        why = shown((str(error).strip().splitlines() or [""])[0], 300)
        what = what or f"{info.path}: transformers cannot load it"
        raise ModelError(f"{what}: {type(error).__name__}: {why}") from None
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
