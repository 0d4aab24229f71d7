"""Weights that bitsandbytes saved as codes, as their files describe them: read without the library, which
would read beyond the ends of what does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from evalkit.cli.main import main
from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.info import inspect

Weights = dict[str, torch.Tensor]
LINEAR = ("_proj.weight", "fc1.weight", "fc2.weight", "linear.weight")
STATE = "quant_state.bitsandbytes__"


def eight(name: str, weight: torch.Tensor) -> Weights:
    scales = weight.abs().amax(1)
    codes = (weight / scales[:, None] * 127).round().to(torch.int8)
    layer = name.removesuffix("weight")
    order = torch.tensor(0, dtype=torch.uint8)
    return {name: codes, f"{layer}SCB": scales, f"{name}_format": order}


def four(name: str, weight: torch.Tensor, double: bool = False, storage: str = "uint8") -> Weights:
    """The parts that a 4-bit weight has; the codes themselves are all 0."""
    scales = -(-weight.numel() // 64)
    said: dict[str, Any] = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16"}
    said["shape"] = list(weight.shape)
    more = {}
    if double:
        said |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5}
        more = {
            f"{name}.nested_absmax": torch.ones(-(-scales // 256)),
            f"{name}.nested_quant_map": torch.zeros(256),
        }
    return {
        name: torch.zeros(weight.numel() // 2, dtype=torch.uint8).view(getattr(torch, storage))[:, None],
        f"{name}.absmax": torch.zeros(scales, dtype=torch.uint8) if double else torch.ones(scales),
        f"{name}.quant_map": torch.linspace(-1, 1, 16),
        f"{name}.{STATE}nf4": packed(said),
        **more,
    }


def packed(said: Any) -> torch.Tensor:
    return torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)


def unpacked(tensor: torch.Tensor) -> Any:
    return json.loads(bytes(tensor.tolist()))


def saved(folder: Path, make: Callable[..., Weights], config: dict[str, Any], **how: Any) -> Path:
    """A tiny checkpoint whose layers are codes, as `save_pretrained` writes it."""
    shutil.copytree(tiny.checkpoint(1), folder)
    tensors: Weights = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        coded = name.endswith(LINEAR) and "lm_head" not in name
        tensors |= make(name, weight, **how) if coded else {name: weight.bfloat16()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    tiny.edit(folder, quantization_config={"quant_method": "bitsandbytes", **config})
    return folder


NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
DOUBLE = {**NF4, "bnb_4bit_use_double_quant": True}
BFLOAT16 = {**NF4, "bnb_4bit_quant_storage": "bfloat16"}
WAYS: dict[str, tuple[Callable[..., Weights], dict[str, Any], dict[str, Any]]] = {
    "bitsandbytes-int8": (eight, {"load_in_8bit": True}, {}),
    "bitsandbytes-nf4": (four, NF4, {}),
    "bitsandbytes-nf4-double": (four, DOUBLE, {"double": True}),
    "bitsandbytes-nf4 in bfloat16": (four, BFLOAT16, {"storage": "bfloat16"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of every kind, not to be changed."""
    home = tmp_path_factory.mktemp("saved")
    return {name: saved(home / name, make, config, **how) for name, (make, config, how) in WAYS.items()}


@pytest.mark.parametrize("way", WAYS)
def test_described_as_what_it_stands_for(way: str, whole: dict[str, Path]) -> None:
    scheme, folder = way.split()[0], whole[way]
    found, plain = inspect(folder), inspect(tiny.checkpoint(1))
    assert found.codes is not None
    assert found.codes.scheme == scheme
    assert len(found.codes.weights) == 2 * 7 + 2 * 6 + 1
    assert found.shapes == plain.shapes
    assert (found.parameters, found.remarks) == (plain.parameters, ())
    assert f"parameters in bfloat16 (saved in {scheme})" in found.describe()


@pytest.fixture
def folder(kind: str, whole: dict[str, Path], tmp_path: Path) -> Path:
    """Codes of one kind, to be damaged."""
    return shutil.copytree(whole[f"bitsandbytes-{kind}"], tmp_path / "saved")


def on(part: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[Path], None]:
    """Changes, or with None takes away, the part of one layer's codes whose name ends so."""

    def act(folder: Path) -> None:
        file = folder / "model.safetensors"
        tensors = load_file(file)
        name = next(
            n
            for n in sorted(tensors)
            if "language_model" in n and "layers.0.self_attn.k_proj" in n and n.endswith(part)
        )
        new = change(tensors.pop(name))
        save_file(tensors if new is None else {**tensors, name: new}, file, {"format": "pt"})

    return act


def state(**changes: Any) -> Callable[[Path], None]:
    return on(STATE + "nf4", lambda t: packed({**unpacked(t), **changes}))


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: tiny.edit(folder, **{f"quantization_config__{k}": v for k, v in changes.items()})


def gone(tensor: torch.Tensor) -> None:
    return None


def shorter(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:-1].clone()


@pytest.mark.parametrize(
    ("kind", "damage", "sentence"),
    [
        ("int8", on(".SCB", shorter), "needs 8 scales (SCB, F32), one a row"),
        ("int8", on(".SCB", torch.Tensor.half), "needs 8 scales"),
        ("int8", on("k_proj.weight", torch.Tensor.float), "is no matrix of 8-bit codes (I8)"),
        ("int8", on("k_proj.weight", lambda t: t.flatten()), "is no matrix of 8-bit codes (I8)"),
        ("int8", on("k_proj.weight", gone), "is no matrix of 8-bit codes (I8)"),
        ("int8", on("weight_format", lambda t: t + 1), "in the order of one GPU (weight_format)"),
        ("int8", config(llm_int8_threshold="6"), "llm_int8_threshold: is \"6\"; it must be a number from 0"),
        ("int8", config(llm_int8_has_fp16_weight=True), "llm_int8_has_fp16_weight: is true; such weights"),
        ("int8", config(load_in_8bit=None), "one of load_in_4bit and load_in_8bit must be true"),
        ("int8", config(load_in_4bit=True), "one of load_in_4bit and load_in_8bit must be true"),
        ("int8", config(load_in_8bit="yes"), "load_in_8bit: is \"yes\"; it must be true or false"),
        ("int8", config(llm_int8_skip_modules=7), "llm_int8_skip_modules: is 7; it must be a list of texts"),
        ("nf4", on(".absmax", shorter), "needs 4 numbers F32 as absmax, has ('F32', 3)"),
        ("nf4", on(".absmax", gone), "needs 4 numbers F32 as absmax, has none"),
        ("nf4", on(".absmax", lambda t: t.to(torch.uint8)), "needs 4 numbers F32 as absmax, has ('U8', 4)"),
        ("nf4", on(".quant_map", shorter), "needs 16 numbers F32 as quant_map"),
        ("nf4", on("k_proj.weight", shorter), "is not 128 bytes of codes"),
        ("nf4", on("k_proj.weight", torch.Tensor.int), "is not 128 bytes of codes"),
        ("nf4", on(STATE + "nf4", gone), "weight has no quant_state"),
        ("nf4", on(STATE + "nf4", lambda t: t[:9].clone()), "cannot be read as bitsandbytes' JSON"),
        ("nf4", on(STATE + "nf4", lambda t: packed([1])), "cannot be read as bitsandbytes' JSON"),
        ("nf4", state(shape=[32, 64]), "numbers F32 as absmax"),
        ("nf4", state(shape=[0, 32]), "has shape (0, 32) in blocks of 64; it must be a matrix"),
        ("nf4", state(shape=[1024]), "has shape (1024,) in blocks of 64; it must be a matrix"),
        ("nf4", state(shape="x"), "shape: is \"x\"; it must be a whole number"),
        ("nf4", state(blocksize=1), "in blocks of 1; it must be a matrix in blocks of 32 to 4096"),
        ("nf4", state(dtype="int8"), "dtype: is \"int8\"; it must be one of bfloat16, float16, float32"),
        ("nf4", state(quant_type="fp4"), "quant_type: is \"fp4\"; config.json says nf4"),
        ("nf4", config(bnb_4bit_quant_type="fp4"), "quant_type: is \"nf4\"; config.json says fp4"),
        ("nf4", config(bnb_4bit_quant_type="int4"), "bnb_4bit_quant_type: is \"int4\"; it must be one of"),
        ("nf4", config(bnb_4bit_compute_dtype="load"), "bnb_4bit_compute_dtype: is \"load\"; it must be one"),
        ("nf4", config(bnb_4bit_quant_storage="int64"), "bnb_4bit_quant_storage: is \"int64\"; it must be"),
        ("nf4", config(bnb_4bit_use_double_quant=True), "nested_blocksize"),
        ("nf4-double", config(bnb_4bit_use_double_quant=None), "F32 as absmax, has ('U8'"),
        ("nf4-double", on("nested_absmax", gone), "needs 1 numbers F32 as nested_absmax, has none"),
        ("nf4-double", on("nested_quant_map", shorter), "needs 256 numbers F32 as nested_quant_map"),
        ("nf4-double", state(nested_offset="x"), "nested_offset: is \"x\"; it must be a number"),
        ("nf4-double", state(nested_blocksize=3), "nested_blocksize: is 3; it must be one of 32"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    kind: str, damage: Callable[[Path], None], sentence: str, folder: Path
) -> None:
    inspect(folder)
    damage(folder)
    with pytest.raises(ModelError) as error:
        inspect(folder)
    assert sentence in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("method", ["gptq", "awq", "torchao", "fp8", "hqq", "", None])
@pytest.mark.parametrize("kind", ["int8"])
def test_codes_of_other_libraries(method: str | None, folder: Path, kind: str) -> None:
    config(quant_method=method, load_in_8bit=None, bits=8)(folder)
    with pytest.raises(ModelError, match=r"quant_method is .*; only weights saved by bitsandbytes"):
        inspect(folder)


@pytest.mark.parametrize("kind", ["int8"])
def test_a_configuration_without_codes(folder: Path, kind: str) -> None:
    shutil.copy(tiny.checkpoint(1) / "model.safetensors", folder)
    tiny.edit(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    with pytest.raises(ModelError, match="says that weights are codes of bitsandbytes-int8, no weight is"):
        inspect(folder)


@pytest.mark.parametrize("kind", ["nf4"])
def test_without_the_library(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.absent(monkeypatch, "bitsandbytes")
    assert main(["doctor", "--model", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"{folder}: is saved in bitsandbytes-nf4: needs the package bitsandbytes" in said
    assert "pip install 'evalkit[quantized]'" in said
