"""Checkpoints that are not what they seem: refused with the cause and what to do, or said once."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from tiny import ask, backend, by_id

from evalkit import models
from evalkit.cli.main import main
from evalkit.errors import ModelError
from evalkit.models.paligemma import inspect
from evalkit.models.paligemma.checkpoint import contents
from evalkit.models.paligemma.checkpoint.safetensors import canonical

Weights = dict[str, torch.Tensor]
LAYER = "language_model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.checkpoint(1), tmp_path / "m"))


def save(folder: Path, weights: Weights) -> None:
    copies = {name: tensor.clone().contiguous() for name, tensor in weights.items()}
    save_file(copies, folder / "model.safetensors", {"format": "pt"})


def load(folder: Path) -> Weights:
    return dict(load_file(folder / "model.safetensors"))


def key(weights: Weights, name: str) -> str:
    """The name in the file of a weight by its canonical name."""
    return next(k for k in weights if canonical(k) == name)


def prefixed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


def with_lora(weights: Weights) -> Weights:
    """A trained pair beside the full weights, which keep the base's numbers."""
    name = key(weights, LAYER).removesuffix(".weight")
    return weights | {f"{name}.lora_A.weight": torch.ones(4, 32), f"{name}.lora_B.weight": torch.ones(32, 4)}


def renamed(old: str, new: str) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        return {n.replace(old, new) if old in n else n: t for n, t in weights.items()}

    return change


def beside(name: str, tensor: torch.Tensor) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, name: tensor}


def changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Weights], Weights]:
    def act(weights: Weights) -> Weights:
        return {n: change(t) if canonical(n) == name else t for n, t in weights.items()}

    return act


def codes(weights: Weights) -> Weights:
    """bitsandbytes' 8-bit layers, saved without their configuration."""
    name = key(weights, LAYER)
    scale = weights[name].abs().amax(1)
    eight = (weights[name] / scale[:, None] * 127).round().to(torch.int8)
    return weights | {name: eight, name.replace(".weight", ".SCB"): scale}


def twice(weights: Weights) -> Weights:
    name = key(weights, LAYER)
    other = "model." + canonical(name)
    assert other != name
    return {**weights, other: weights[name]}


UP = "language_model.model.layers.0.mlp.up_proj."
UP_OF_ONE = "language_model.layers.1.mlp.up_proj.weight"
BITS = torch.ones(8, dtype=torch.uint8)
REFUSED: list[tuple[str, Callable[[Weights], Weights], str]] = [
    (
        "lora beside weights",
        with_lora,
        r"holds LoRA matrices \(2, the first is .*lora_A.weight\).*merge_and_unload",
    ),
    (
        "lora of an embedding",
        beside("language_model.model.embed_tokens.lora_embedding_A", torch.ones(4, 9)),
        "LoRA matr",
    ),
    ("dora", beside(UP + "lora_magnitude_vector.weight", torch.ones(9)), "LoRA matr"),
    ("ia3", beside(UP + "ia3_l", torch.ones(9, 1)), "parts of an adapter"),
    ("prompt tuning", beside("prompt_embeddings", torch.ones(9, 1)), "parts of an adapter"),
    (
        "peft's wrapping",
        renamed(".q_proj.", ".q_proj.base_layer."),
        "layers as peft wraps them, without their adapter",
    ),
    (
        "modules_to_save",
        beside("multi_modal_projector.modules_to_save.default.linear.weight", torch.ones(32, 32)),
        "holds a module twice",
    ),
    (
        "modules_to_save beside the original",
        renamed("multi_modal_projector.", "multi_modal_projector.original_module."),
        "holds a module twice",
    ),
    ("torch.compile", prefixed("_orig_mod."), r"as torch\.compile wraps .*_orig_mod\.save_pretrained"),
    ("torch.compile of a part", renamed("layers.0.", "layers.0._orig_mod."), r"as torch\.compile wraps"),
    ("DDP", prefixed("module."), r"as DDP or DeepSpeed wraps .*model\.module\.save_pretrained"),
    ("DDP and torch.compile", prefixed("module._orig_mod."), r"as torch\.compile wraps"),
    ("FSDP", renamed("layers.0.", "layers.0._fsdp_wrapped_module."), "as FSDP wraps"),
    ("another prefix", prefixed("my_model."), r"names of tensors begin with 'my_model\.'"),
    ("int8 codes without configuration", codes, r"(q_proj\.weight is I8|q_proj\.SCB belongs to quantised)"),
    ("scales alone", beside(UP + "SCB", torch.ones(9)), "SCB belongs to quantised"),
    ("absmax", beside(UP + "weight.absmax", torch.ones(9)), "absmax belongs to"),
    (
        "a quantisation's state",
        beside("x.weight.quant_state.bitsandbytes__nf4", BITS),
        "belongs to quantised|is U8",
    ),
    ("GPTQ", beside(UP + "qweight", BITS.int()), "qweight is I32"),
    ("MLX's scales", beside(UP + "scales", torch.ones(9)), "scales belongs to"),
    ("MLX's biases", beside(UP + "biases", torch.ones(9)), "biases belongs to"),
    ("compressed tensors", beside(UP + "weight_scale", torch.ones(9)), "weight_scale be"),
    ("float8", changed(LAYER, lambda t: t.to(torch.float8_e4m3fn)), r"q_proj\.weight is F8_E4M3"),
    ("whole numbers", changed(LAYER, lambda t: t.to(torch.int16)), r"q_proj\.weight is I16"),
    ("truth values", beside("mask", torch.ones(3, dtype=torch.bool)), "mask is BOOL"),
    ("complex numbers", beside("freqs_cis", torch.ones(3, dtype=torch.complex64)), "freqs_cis is C64"),
    (
        "a weight under two names",
        twice,
        r"one weight is given twice, as .* and as model\.language_model\.layers\.0",
    ),
    (
        "MLX's axes",
        changed(contents.PATCHES, lambda t: t.permute(0, 2, 3, 1)),
        r"weight has shape \(32, 14, 14, 3\), it must be \(32, 3, 14, 14\): .* as MLX saves them",
    ),
    (
        "a layer more",
        beside("language_model.model.layers.2.mlp.up_proj.weight", torch.ones(64, 32)),
        r"num_hidden_layers is 2, the weights have layers up to language_model\.layers\.2",
    ),
    (
        "a layer less",
        lambda w: {n: w[n] for n in w if "language_model.model.layers.1." not in n},
        r"num_hidden_layers is 2, the weights have layers up to language_model\.layers\.0",
    ),
    (
        "Gemma 2's norms",
        beside("language_model.model.layers.0.pre_feedforward_layernorm.weight", torch.ones(32)),
        "the weights are of Gemma 2",
    ),
    (
        "a table of one axis",
        changed(contents.TABLE, lambda t: t[0]),
        r"embed_tokens.weight has shape \(32,\)",
    ),
    ("no vision tower", lambda w: {n: t for n, t in w.items() if "vision" not in n}, "hold no vision tower"),
]


@pytest.mark.parametrize(("change", "sentence"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused_before_anything_is_loaded(
    folder: Path, change: Callable[[Weights], Weights], sentence: str
) -> None:
    save(folder, change(load(folder)))
    with pytest.raises(ModelError, match=sentence) as caught:
        inspect(folder)
    said = str(caught.value)
    assert said.startswith(str(folder))
    assert "\n" not in said
    assert len(said) < 600


def test_run_and_doctor_refuse_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(folder, with_lora(load(folder)))
    assert main(["doctor", "--model", str(folder)]) == 2
    doctor = capsys.readouterr().err
    assert main(["run", "--model", str(folder), "--tasks", "demo", "--dry-run"]) == 2
    assert capsys.readouterr().err == doctor
    assert "LoRA matrices" in doctor


def test_one_weight_in_two_shards(folder: Path) -> None:
    first, second = tiny.shards(folder)
    moved = load_file(first) | load_file(second)
    save_file(moved, second, {"format": "pt"})
    with pytest.raises(ModelError, match=r"given twice, as .* in model-00001.* in model-00002"):
        inspect(folder)


# --- what is said --------------------------------------------------------------------------------


def test_tensors_without_a_place_are_named_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = load(folder)
    for i in range(2):
        weights[f"language_model.model.layers.{i}.self_attn.q_norm.weight"] = torch.ones(8)
    weights["value_head.\x1b[31mweight\n"] = torch.ones(8)
    save(folder, weights)
    (remark,) = inspect(folder).remarks
    assert remark == (
        f"{folder}: holds 3 tensors that PaliGemma has no place for, not used: "
        "language_model.model.layers.*.self_attn.q_norm.weight (2), value_head.?[31mweight?"
    )
    said: list[str] = []
    models.open_checkpoint(str(folder), say=said.append).identity("paper")
    assert said == [remark]
    assert by_id(backend(folder).predict(ask(4))) == by_id(backend(tiny.checkpoint(1)).predict(ask(4)))


def test_buffers_of_older_versions_are_nothing_odd(folder: Path) -> None:
    weights = load(folder)
    weights["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(4)[None]
    weights["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save(folder, weights)
    assert inspect(folder).remarks == ()


@pytest.mark.parametrize("family", [1, 2])
def test_plain_checkpoints_have_no_remarks(family: int) -> None:
    assert inspect(tiny.checkpoint(family)).remarks == ()


def test_doctor_says_it_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(folder, {**load(folder), "ema.weight": torch.ones(2)})
    assert main(["doctor", "--model", str(folder), "--samples", "2", "--device", "cpu"]) == 0
    assert "holds a tensor that PaliGemma has no place for, not used: ema.weight" in capsys.readouterr().out


# --- numbers that are none -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [LAYER, contents.TABLE, contents.PATCHES, "multi_modal_projector.linear.bias"]
)
@pytest.mark.parametrize(
    ("value", "what"), [("nan", "NaN"), ("inf", "infinite numbers"), ("-inf", "infinite numbers")]
)
def test_weights_that_are_not_finite_are_named(folder: Path, name: str, value: str, what: str) -> None:
    weights = load(folder)
    weights[key(weights, name)].view(-1)[5] = float(value)
    save(folder, weights)
    with pytest.raises(
        ModelError, match=rf"{name.split('.')[-2]}\.\w+ holds {what}: the training has diverged"
    ):
        backend(folder).load()


def test_weights_that_a_library_reads_are_looked_at_too(folder: Path) -> None:
    pytest.importorskip("accelerate")
    weights = load(folder)
    weights[key(weights, LAYER)][0, 0] = float("nan")
    save(folder, weights)
    with pytest.raises(ModelError, match=r"q_proj\.weight holds NaN"):
        backend(folder, device_map="cpu").load()


def test_large_weights_are_finite(folder: Path) -> None:
    """Their sum is not."""
    weights = load(folder)
    name = key(weights, LAYER)
    weights[name] = torch.full_like(weights[name], 3e38)
    save(folder, weights)
    backend(folder).load()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_that_are_not_finite_name_a_precision_that_helps(folder: Path, dtype: str) -> None:
    weights = load(folder)
    name = key(weights, "language_model.norm.weight")
    weights[name] = torch.full_like(weights[name], 3e38)
    save(folder, weights)
    with pytest.raises(ModelError, match="not finite") as caught:
        list(backend(folder, dtype=dtype).predict(ask(1)))
    wanted = {"float32": "too large for any precision", "bfloat16": "use --dtype float32"}[dtype]
    assert wanted in str(caught.value)
    assert ("--dtype" in str(caught.value)) == (dtype != "float32")


# --- embedding and output tables -----------------------------------------------------------------


def transformers_logits(folder: Path) -> Any:
    import transformers

    model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(folder)
    return model.lm_head.weight, model.get_input_embeddings().weight


def renamed_table(folder: Path) -> None:
    weights = load(folder)
    weights[HEAD_NAME] = weights.pop(key(weights, contents.TABLE))
    save(folder, weights)


HEAD_NAME = "language_model.lm_head.weight"  # as versions before 4.52 save it


@pytest.mark.parametrize("name", [HEAD_NAME, "lm_head.weight"])
@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_an_output_table_alone_is_both(folder: Path, name: str, engine: str) -> None:
    weights = load(folder)
    weights[name] = weights.pop(key(weights, contents.TABLE))
    save(folder, weights)
    found = backend(folder, engine=engine)
    assert by_id(found.predict(ask(4))) == by_id(backend(tiny.checkpoint(1), engine=engine).predict(ask(4)))
    assert found.info.vocabulary == inspect(tiny.checkpoint(1)).vocabulary
    assert "tables" not in found.identity()


def test_an_output_table_alone_with_an_adapter_on_it(folder: Path, tmp_path: Path) -> None:
    from test_adapter import lora

    rows = inspect(folder).vocabulary
    adapter = str(lora(tmp_path / "lora", {"lm_head": (rows, 32)}, target_modules=["lm_head"]))
    wanted = by_id(backend(folder, adapter=adapter).predict(ask(4)))
    renamed_table(folder)
    assert by_id(backend(folder, adapter=adapter).predict(ask(4))) == wanted


@pytest.mark.parametrize("equal", [True, False])
def test_both_tables_are_one_if_they_are_equal(folder: Path, equal: bool) -> None:
    weights = load(folder)
    table = weights[key(weights, contents.TABLE)]
    weights["lm_head.weight"] = table.clone() if equal else table.flip(0).clone()
    save(folder, weights)
    found = backend(folder)
    found.load()
    model = found._engine.model  # type: ignore[union-attr]
    head, embedding = transformers_logits(folder)
    assert (head is embedding) == equal, "what transformers does"
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == equal
    assert torch.equal(model.lm_head.weight, head)
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    assert found.identity()["tables"] == 2
    fast = by_id(backend(folder, engine="fast").predict(ask(4)))
    assert {k: p.tokens for k, p in fast.items()} == {
        k: p.tokens for k, p in by_id(found.predict(ask(4))).items()
    }


def test_untied_without_output_table_is_refused(folder: Path) -> None:
    tiny.edit(folder, tie_word_embeddings=False, text_config__tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"1 weights are missing \(first: lm_head.weight\)"):
        backend(folder).load()


# --- one file beside shards ----------------------------------------------------------------------


def test_the_index_decides_between_one_file_and_shards(folder: Path) -> None:
    """The single file is what an earlier training left: other weights."""
    wanted = by_id(backend(folder).predict(ask(4)))
    old = load(folder)
    tiny.shards(folder)
    save(folder, {name: torch.zeros_like(t) for name, t in old.items()})
    found = backend(folder)
    assert found.info.remarks == (
        f"{folder}: model.safetensors lies beside the shards that model.safetensors.index.json names; "
        "the shards are used",
    )
    assert sorted(found.identity()["weights"]) == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert by_id(found.predict(ask(4))) == wanted


def test_transformers_own_choice_is_not_taken(folder: Path) -> None:
    """With a device map transformers opens the files: it would prefer the single one."""
    pytest.importorskip("accelerate")
    old = load(folder)
    tiny.shards(folder)
    save(folder, old)
    with pytest.raises(ModelError, match="lies beside shards, which are the weights; move it away"):
        backend(folder, device_map="cpu").load()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (changed(UP_OF_ONE, lambda t: t.T), r"has shape \(32, 64\), it must be \(64, 32\): its axes"),
        (
            lambda w: {n: t for n, t in w.items() if canonical(n) != UP_OF_ONE},
            r"1 weights are missing .*up_proj",
        ),
    ],
)
def test_with_a_device_map_the_same_is_said(
    folder: Path, change: Callable[[Weights], Weights], sentence: str
) -> None:
    pytest.importorskip("accelerate")
    save(folder, change(load(folder)))
    with pytest.raises(ModelError, match=sentence) as caught:
        backend(folder).load()
    with pytest.raises(ModelError) as with_map:
        backend(folder, device_map="cpu").load()
    assert str(with_map.value) == str(caught.value)


def test_an_index_without_any_of_its_shards_is_stale(folder: Path) -> None:
    old = load(folder)
    for file in tiny.shards(folder):
        file.unlink()
    save(folder, old)
    found = inspect(folder)
    assert [f.name for f in found.weights] == ["model.safetensors"]
    assert "none of the shards that it names is there; model.safetensors is used" in found.remarks[0]


def test_shards_without_an_index_are_not_used(folder: Path) -> None:
    old = load(folder)
    tiny.shards(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match=r"no weights; model.safetensors \(or its shards and their index\)"):
        inspect(folder)
    save(folder, old)
    found = inspect(folder)
    assert [f.name for f in found.weights] == ["model.safetensors"]
    assert "model.safetensors is used, not the shards beside it (model-00001-of" in found.remarks[0]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapters_file_beside_full_weights(folder: Path, name: str) -> None:
    """Without the config that would make it an adapter's folder, it would be left out in silence."""
    (folder / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=rf"holds full weights and an adapter's \({name}\)"):
        inspect(folder)


def test_an_index_of_other_shards(folder: Path) -> None:
    tiny.shards(folder)
    index = folder / "model.safetensors.index.json"
    home = json.loads(index.read_text())["weight_map"]
    names = sorted(home)
    home[names[0]], home[names[-1]] = home[names[-1]], home[names[0]]
    home |= {name: min(home.values()) for name in home if "projector" in name}
    index.write_text(json.dumps({"weight_map": home}))
    with pytest.raises(ModelError, match="which does not hold it; the index belongs to other shards"):
        inspect(folder)


def test_remarks_are_no_identity(folder: Path) -> None:
    info = inspect(folder)
    assert "remarks" not in json.dumps(backend(folder).identity())
    assert dataclasses.replace(info, remarks=("x",)).describe() == info.describe()
