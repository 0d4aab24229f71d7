"""LoRA adapters: merged logits equal peft's; what does not fit its base, or is not understood, is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from stub import colours
from tiny import ask, backend, by_id

from evalkit.cli.main import main
from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.safetensors import canonical
from evalkit.models.paligemma.interface import Prompt

ATTENTION = "language_model.layers.{}.self_attn.{}_proj"


def lora(
    folder: Path, names: dict[str, tuple[int, int]], r: int = 4, style: str = "{}", **config: Any
) -> Path:
    """An adapter as peft saves it, written by hand: random matrices for layers of (out, in)."""
    folder.mkdir(parents=True)
    rng = torch.Generator().manual_seed(1)
    tensors = {}
    for name, (out, inner) in names.items():
        key = f"base_model.model.{style.format(name)}.lora_"
        tensors[f"{key}A.weight"] = torch.randn(r, inner, generator=rng)
        tensors[f"{key}B.weight"] = torch.randn(out, r, generator=rng)
    save_file(tensors, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "r": r, "lora_alpha": 8, "base_model_name_or_path": "", **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def queries(folder: Path, **config: Any) -> Path:
    return lora(folder, {ATTENTION.format(i, "q"): (32, 32) for i in range(2)}, **config)


def logits(model: Any, image: np.ndarray) -> torch.Tensor:
    """Of the first new token, by our engine (float32)."""
    model.load()
    prompt = Prompt(image[None], tuple(model.encode("what is this a cat", None)))
    with torch.inference_mode():
        found: torch.Tensor = model._engine.prefill([prompt], model.rules)[0]
    return found


IMAGE = np.random.default_rng(3).integers(0, 256, (28, 28, 3), dtype=np.uint8)


# --- the numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [1, 2])
@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 12},
        {"target_modules": "all-linear", "r": 4, "use_rslora": True},
        {
            "target_modules": ["q_proj", "gate_proj", "fc1"],
            "rank_pattern": {"gate_proj": 2},
            "alpha_pattern": {"language_model.layers.1.self_attn.q_proj": 32},
        },
        {"target_modules": ["o_proj", "lm_head"], "bias": "none"},
        {"target_modules": ["k_proj"], "modules_to_save": ["multi_modal_projector", "lm_head"]},
        {"target_modules": ["k_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["fc1", "out_proj"], "bias": "lora_only"},
        {"target_modules": ["q_proj", "fc1", "linear"], "use_dora": True, "rank_pattern": {"fc1": 2}},
        {
            "target_modules": ["v_proj", "fc2", "linear"],
            "use_rslora": True,
            "rank_pattern": {r"layers\.1\.self_attn\.v_proj": 8, "linear": 2},
            "alpha_pattern": {"fc2": 3, "linear": 24},
        },
    ],
    ids=["plain", "all-linear, rsLoRA", "patterns", "lm_head", "saved modules", "saved embeddings", "biases",
         "DoRA", "vision and projector, rsLoRA, ranks a layer"],
)  # fmt: skip
def test_merged_logits_and_weights_equal_pefts(family: int, config: dict[str, Any], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import PaliGemmaForConditionalGeneration

    base = tiny.checkpoint(family)
    # sdpa, which was the default once, leaves Gemma 2's soft cap of attention out
    model = PaliGemmaForConditionalGeneration.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**config))
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name or "modules_to_save" in name or (weight.requires_grad and "bias" in name):
                weight.add_(torch.randn_like(weight) * 0.1)
    wrapped.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    ours = backend(base, adapter=str(tmp_path / "adapter"), protocol="hf")
    found = logits(ours, IMAGE)
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 127.5 - 1
    ids = [ours.info.image_token] * ours.info.image_tokens + list(ours.encode("what is this a cat", None))
    text = torch.tensor([ids])
    with torch.inference_mode():
        out = wrapped(
            input_ids=text, pixel_values=pixels, attention_mask=torch.ones_like(text),
            token_type_ids=torch.zeros_like(text),
        )  # fmt: skip
    wanted = tiny.soft_capped(model, out.logits[:, -1])
    assert torch.allclose(found, wanted, atol=2e-4), (found - wanted).abs().max()
    assert not torch.allclose(found, logits(backend(base, protocol="hf"), IMAGE), atol=1e-2)
    weights = dict(wrapped.merge_and_unload().named_parameters(remove_duplicate=False))
    for name, weight in ours._engine.model.named_parameters():
        if "embed_tokens" in name and "lm_head" in config["target_modules"]:
            weights.pop(name)  # peft's merge changes the tied embeddings too, which its adapter did not
            continue
        assert torch.allclose(weight, weights.pop(name), atol=1e-5), name
    assert set(weights) <= {"lm_head.weight"}  # one with the embedding table in ours


@pytest.mark.parametrize("family", [1, 2])
@pytest.mark.parametrize("table", ["lm_head", "language_model.embed_tokens"])
def test_the_fast_engine_takes_a_table_of_its_own(family: int, table: str, tmp_path: Path) -> None:
    """Embedding and output table are one weight in the base, and two once an adapter brings one."""
    base = tiny.checkpoint(family)
    folder = queries(tmp_path / "adapter", modules_to_save=[table.rpartition(".")[2]])
    file = folder / "adapter_model.safetensors"
    rows = backend(base).info.vocabulary
    own = torch.randn((rows, 32), generator=torch.Generator().manual_seed(2)) * 0.1
    save_file({**load_file(file), f"base_model.model.{table}.weight": own}, file)
    plain, fast = (
        by_id(backend(base, adapter=str(folder), engine=e).predict(ask(8))) for e in ("plain", "fast")
    )
    assert {k: p.tokens for k, p in fast.items()} == {k: p.tokens for k, p in plain.items()}


@pytest.mark.parametrize("style", ["model.{}", "{}", "language_model.model.{}"])
def test_names_of_all_versions_of_transformers(style: str, tmp_path: Path) -> None:
    if style.startswith("language_model"):  # before 4.52: language_model.model.layers...
        names = {f"layers.{i}.self_attn.q_proj": (32, 32) for i in range(2)}
    else:
        names = {ATTENTION.format(i, "q"): (32, 32) for i in range(2)}
    folder = lora(tmp_path / "adapter", names, style=style)
    base = tiny.checkpoint(1)
    wanted = logits(backend(base, adapter=str(queries(tmp_path / "wanted"))), IMAGE)
    assert torch.equal(logits(backend(base, adapter=str(folder)), IMAGE), wanted)


def test_one_spelling() -> None:
    new = "model.language_model.layers.0.mlp.up_proj.weight"
    assert canonical(new) == canonical("language_model.model.layers.0.mlp.up_proj.weight")
    assert canonical(f"base_model.model.{new}".replace(".weight", ".base_layer.weight")) == canonical(new)
    assert canonical("vision_tower.vision_model.encoder.x") == canonical("model.vision_tower.encoder.x")
    assert canonical("language_model.lm_head.weight") == "lm_head.weight"


# --- how it is called --------------------------------------------------------------------------------


def test_an_adapter_as_the_model(tmp_path: Path) -> None:
    base = tiny.checkpoint(1)
    wanted = by_id(backend(base, adapter=str(queries(tmp_path / "a"))).predict(ask(6)))
    named = queries(tmp_path / "b", base_model_name_or_path=str(base))
    assert by_id(backend(named).predict(ask(6))) == wanted
    assert by_id(backend(queries(tmp_path / "c"), base=str(base)).predict(ask(6))) == wanted
    assert by_id(backend(base).predict(ask(6))) != wanted


def test_the_adapter_is_in_the_identity(tmp_path: Path) -> None:
    base = tiny.checkpoint(1)
    plain, with_a = backend(base).identity(), backend(base, adapter=str(queries(tmp_path / "a"))).identity()
    assert set(with_a["weights"]) - set(plain["weights"]) == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    }
    other = backend(base, adapter=str(queries(tmp_path / "b", lora_alpha=9))).identity()
    assert other["weights"] != with_a["weights"]


def test_the_base_is_in_the_identity(tmp_path: Path) -> None:
    base = shutil.copytree(tiny.checkpoint(1), tmp_path / "base")
    adapter = str(queries(tmp_path / "a"))
    before = backend(adapter, base=str(base)).identity()
    data = bytearray((base / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (base / "model.safetensors").write_bytes(data)
    assert backend(adapter, base=str(base)).identity()["weights"] != before["weights"]


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = colours(tmp_path / "data", images=2)
    monkeypatch.chdir(tmp_path)
    base, folder = tiny.checkpoint(1), queries(tmp_path / "mine")
    words = ["run", "--tasks", str(task), "--data-root", str(task.parent), "--model", str(base)]
    assert main([*words, "--adapter", str(folder)]) == 0
    assert main([*words, "--model-args", f"adapter={folder}"]) == 0
    (run,) = Path("results").iterdir()
    assert f"{base.name}+mine" in run.name
    assert "with adapter mine" in capsys.readouterr().err
    assert main(["run", *words[1:5], "--model", str(folder), "--model-args", f"base={base}"]) == 0


# --- refused -------------------------------------------------------------------------------------------


def change(**config: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))

    return apply


def tensor(key: str, *shape: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        save_file({**load_file(file), key: torch.zeros(shape)}, file)

    return apply


def _pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _torn(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


P = "base_model.model."


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_pickled, "adapter_model.safetensors is missing (only the pickled adapter_model.bin"),
        (_torn, "download it again"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json is missing"),
        (change(peft_type="IA3"), "peft_type is 'IA3'; only LORA"),
        (change(use_dora=True), "says use_dora true, its lora_magnitude_vector has none"),
        (
            tensor(f"{P}{ATTENTION.format(0, 'q')}.lora_magnitude_vector", 32),
            "says use_dora false, its lora_magnitude_vector has (32,)",
        ),
        (change(use_qalora=True), "use_qalora is not understood"),
        (change(lora_bias=True), "lora_bias is not understood"),
        (change(trainable_token_indices=[5]), "trainable_token_indices is not understood"),
        (change(init_lora_weights="pissa"), "init_lora_weights is 'pissa', which changes the base too"),
        (change(r=8), "has rank 4, adapter_config.json says r 8"),
        (tensor(f"{P}language_model.layers.9.self_attn.q_proj.lora_A.weight", 4, 32), "has only half"),
        (tensor(f"{P}language_model.embed_tokens.lora_embedding_A", 4, 32), "only LoRA on linear layers"),
        (tensor(f"{P}multi_modal_projector.linear.weight", 64, 32), "brings its own multi_modal_projector"),
        (tensor(f"{P}no.such.weight", 4), "has none; the adapter belongs to another base"),
        (change(base_model_name_or_path="google/paligemma2-3b-pt-224"), "but {base} is a PaliGemma;"),
        (change(base_model_name_or_path="google/paligemma-3b-pt-448"), "but {base} is made for 28 px"),
    ],
)
def test_refused(damage: Callable[[Path], Any], sentence: str, tmp_path: Path) -> None:
    folder, base = queries(tmp_path / "adapter"), tiny.checkpoint(1)
    damage(folder)
    with pytest.raises(ModelError) as error:
        _ = backend(base, adapter=str(folder)).info
    assert sentence.format(base=base) in str(error.value)


def test_another_bases_layers(tmp_path: Path) -> None:
    wide = lora(tmp_path / "wide", {ATTENTION.format(0, "q"): (64, 48)}, base_model_name_or_path="wide-model")
    with pytest.raises(
        ModelError, match=r"adapts language_model.* of \(64, 48\), .* has \(32, 32\).*wide-model"
    ):
        _ = backend(tiny.checkpoint(1), adapter=str(wide)).info
    deep = lora(tmp_path / "deep", {ATTENTION.format(7, "q"): (32, 32)})
    with pytest.raises(ModelError, match="has no such layer; the adapter belongs to another base"):
        _ = backend(tiny.checkpoint(1), adapter=str(deep)).info


def test_another_kind_of_the_same_family(tmp_path: Path) -> None:
    """`pt` and `mix` have the same shapes: only the names tell."""
    base = tmp_path / "paligemma-3b-mix-028"
    shutil.copytree(tiny.checkpoint(1), base)
    folder = queries(tmp_path / "adapter", base_model_name_or_path="google/paligemma-3b-pt-028")
    with pytest.raises(ModelError, match=r"was trained on google/paligemma-3b-pt-028, but .* is 3b mix"):
        _ = backend(base, adapter=str(folder)).info
    fitting = queries(tmp_path / "fitting", base_model_name_or_path="google/paligemma-3b-mix-028")
    assert backend(base, adapter=str(fitting)).info.adapter is not None


def test_an_adapter_without_its_base(tmp_path: Path) -> None:
    for name, config, sentence in (
        ("a", {}, "is an adapter that names no base; add --model_args base=FOLDER"),
        ("b", {"base_model_name_or_path": "/gone"}, "is an adapter of /gone, which cannot be found"),
    ):
        with pytest.raises(ModelError, match=sentence):
            _ = backend(queries(tmp_path / name, **config)).info
    with pytest.raises(ModelError, match="the base that was given: /gone: no such folder"):
        _ = backend(tmp_path / "a", base="/gone").info
    with pytest.raises(ModelError, match="needs an adapter as --model; this is not one"):
        _ = backend(tiny.checkpoint(1), base="x").info
    with pytest.raises(ModelError, match="is an adapter itself"):
        _ = backend(tmp_path / "a", adapter=str(tmp_path / "b")).info


# --- what its config names and it does not have --------------------------------------------------


def remarks(folder: Path) -> tuple[str, ...]:
    return backend(tiny.checkpoint(1), adapter=str(folder)).info.remarks


@pytest.mark.parametrize("style", ["model.{}", "{}", "language_model.model.{}"])
@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["zzz"]}, "v_proj"),
        ({"target_modules": r".*language_model.*layers\.\d+\.self_attn\.[qv]_proj"}, "v_proj"),
        ({"target_modules": ["q_proj"]}, ""),
        ({"target_modules": r".*layers\.\d+\.self_attn\.q_proj", "exclude_modules": r".*vision_tower.*"}, ""),
        ({"target_modules": []}, ""),
        ({}, ""),
    ],
)
def test_an_adapter_of_a_part(config: dict[str, Any], missing: str, style: str, tmp_path: Path) -> None:
    """Only the decoder's q_proj are there."""
    names = {ATTENTION.format(i, "q").removeprefix("language_model." if "language" in style else ""): (32, 32)
             for i in range(2)}  # fmt: skip
    more = {"exclude_modules": r".*vision_tower.*"} if isinstance(config.get("target_modules"), list) else {}
    folder = lora(tmp_path / "lora", names, style=style, **{**config, **more})
    found = remarks(folder)
    assert bool(found) == bool(missing)
    if missing:
        assert found == (
            f"{folder}: adapts 2 of the 4 layers that adapter_config.json names; the base's own weights are "
            f"used for language_model.layers.*.self_attn.{missing} (2)",
        )


def test_layers_of_the_vision_tower_are_named_too(tmp_path: Path) -> None:
    """peft adapts every layer whose name ends so: a decoder's adapter alone has lost a part."""
    (said,) = remarks(queries(tmp_path / "lora", target_modules=["q_proj"]))
    assert "adapts 2 of the 4 layers" in said
    assert "vision_tower.encoder.layers.*.self_attn.q_proj (2)" in said


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"layers_to_transform": [0]}, 1),
        ({"layers_to_transform": 1}, 1),
        ({"layers_to_transform": [0], "layers_pattern": "layers"}, 1),
        ({"layers_to_transform": []}, 2),
        ({"layers_to_transform": None}, 2),
    ],
)
def test_layers_by_number(config: dict[str, Any], count: int, tmp_path: Path) -> None:
    """As peft counts them, the adapter of `count` layers is whole."""
    peft = pytest.importorskip("peft")
    import transformers

    targets = r"q_proj"
    model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(tiny.checkpoint(1))
    made = peft.get_peft_model(
        model, peft.LoraConfig(r=4, target_modules=[targets], exclude_modules=["zzz"], **config)
    )
    made.save_pretrained(tmp_path / "whole")
    whole = load_file(tmp_path / "whole" / "adapter_model.safetensors")
    assert len(whole) == 2 * 2 * count  # A and B, decoder and vision tower
    assert remarks(tmp_path / "whole") == ()
    part = {k: v for k, v in whole.items() if "language_model" in k}
    save_file(part, tmp_path / "whole" / "adapter_model.safetensors")
    assert f"adapts {count} of the {2 * count} layers" in remarks(tmp_path / "whole")[0]


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj"], "modules_to_save": ["multi_modal_projector"]},
        {"target_modules": ["q_proj", "linear"], "modules_to_save": ["multi_modal_projector"]},
        {"target_modules": r".*vision_tower.*\.(fc1|fc2)"},
        {"target_modules": ["lm_head", "fc1"]},
    ],
)
def test_whole_adapters_have_no_remarks(config: dict[str, Any], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    import transformers

    model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(tiny.checkpoint(1))
    peft.get_peft_model(model, peft.LoraConfig(r=4, **config)).save_pretrained(tmp_path / "lora")
    assert remarks(tmp_path / "lora") == ()


def test_a_module_that_was_to_be_saved_and_is_not_there(tmp_path: Path) -> None:
    folder = queries(tmp_path / "lora", modules_to_save=["multi_modal_projector", "lm_head"])
    (said,) = remarks(folder)
    assert said == (
        f"{folder}: adapter_config.json names modules_to_save multi_modal_projector, lm_head, which it does "
        "not hold; the base's own weights are used for them"
    )


def test_an_adapters_remarks_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = queries(tmp_path / "lora", target_modules=["q_proj", "v_proj"])
    words = ["--model", str(tiny.checkpoint(1)), "--adapter", str(folder)]
    assert main(["doctor", *words, "--samples", "2", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("adapts 2 of the 8 layers") == 1


@pytest.mark.parametrize("half", ["A", "B"])
def test_an_adapter_with_nan(half: str, tmp_path: Path) -> None:
    folder = queries(tmp_path / "lora")
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(k for k in tensors if f"lora_{half}" in k)
    tensors[name][0, 0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(ModelError, match=rf"lora_{half}\.weight holds NaN"):
        backend(tiny.checkpoint(1), adapter=str(folder)).load()


def test_another_adapter_in_the_folder(tmp_path: Path) -> None:
    """peft saves several adapters of a model side by side: the first in the folder, the others below it."""
    folder = queries(tmp_path / "mine")
    queries(folder / "checkpoint-20")  # a trainer's
    assert remarks(folder) == ()
    queries(folder / "french")
    queries(folder / "german")
    (said,) = remarks(folder)
    assert (
        said
        == f"{folder}: holds other adapters too, which are not run: french, german; give one as --adapter"
    )
    with pytest.raises(ModelError, match="no such folder"):
        _ = backend(tiny.checkpoint(1), adapter=f"{folder},{folder / 'french'}").info
