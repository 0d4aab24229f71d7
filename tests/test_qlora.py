"""Weights in bitsandbytes' codes and adapters beside them: the numbers are those of transformers and peft.
What a CPU can run of bitsandbytes is run here; on a GPU its own kernels take the same places."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import live
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from stub import colours
from test_adapter import ATTENTION, IMAGE, logits, lora, queries
from tiny import ask, backend, by_id

import evalkit
from evalkit.cli.main import main
from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint import lora as adapters
from evalkit.models.paligemma.checkpoint import quantize, unmerged
from evalkit.models.paligemma.doctor import examine

WHY = "bitsandbytes is not installed: pip install 'evalkit[quantized]'"
SCHEMES = {
    "bitsandbytes-nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "bitsandbytes-nf4-double": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_quant_storage": "bfloat16",
    },
    "bitsandbytes-fp4": {"load_in_4bit": True},
    "bitsandbytes-int8": {"load_in_8bit": True},
}
EVERYWHERE = [r"q_proj", r"fc1", r"linear"]  # decoder, vision tower, projector


def coded(scheme: str, folder: Path | str | None = None, **more: Any) -> Any:
    """transformers' model, quantised by bitsandbytes: what people train on and save."""
    pytest.importorskip("bitsandbytes", reason=WHY)
    from transformers import BitsAndBytesConfig, PaliGemmaForConditionalGeneration

    return PaliGemmaForConditionalGeneration.from_pretrained(
        folder or tiny.checkpoint(1),
        dtype=torch.float32,
        quantization_config=BitsAndBytesConfig(**{**SCHEMES[scheme], **more}),
        device_map={"": "cpu"},
    ).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved checkpoint of every scheme, with its tokenizer."""
    home, found = tmp_path_factory.mktemp("coded"), {}
    for scheme in SCHEMES:
        coded(scheme).save_pretrained(home / scheme)
        tiny.tokenizer().save_pretrained(home / scheme)
        found[scheme] = home / scheme
    return found


def theirs(model: Any, ours: Any) -> torch.Tensor:
    """transformers' or peft's logits of the first new token for the prompt of `test_adapter.logits`."""
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 127.5 - 1
    ids = [ours.info.image_token] * ours.info.image_tokens + list(ours.encode("what is this a cat", None))
    text = torch.tensor([ids])
    with torch.inference_mode():
        found: torch.Tensor = model(
            input_ids=text, pixel_values=pixels, attention_mask=torch.ones_like(text),
            token_type_ids=torch.zeros_like(text),
        ).logits[:, -1]  # fmt: skip
    return found


# --- saved codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_saved_codes_are_run_as_they_are(scheme: str, saved: dict[str, Path]) -> None:
    ours = backend(saved[scheme], engine="auto", protocol="hf")
    found = logits(ours, IMAGE)
    assert torch.allclose(found, theirs(coded(scheme), ours), atol=1e-5)
    said = ours.identity()
    assert said["backend"] == "paligemma-plain"
    assert said["quantisation"].items() >= {"scheme": scheme, "saved": True}.items()
    assert f"weights as saved ({scheme})" in ours.as_checkpoint().about


@pytest.mark.parametrize("scheme", SCHEMES)
def test_saved_codes_are_expanded_into_floats(scheme: str, saved: dict[str, Path]) -> None:
    """By the fast engine; what is left between the two is how each multiplies: LLM.int8 rounds its inputs."""
    codes = backend(saved[scheme], engine="auto")
    floats = backend(saved[scheme], engine="auto", quantize="none")
    assert floats.identity()["backend"] == "paligemma-fast"
    assert floats.identity()["quantisation"]["expanded"] is True
    apart = float((logits(codes, IMAGE) - logits(floats, IMAGE)).abs().max())
    assert apart < (0.1 if scheme == "bitsandbytes-int8" else 1e-5)
    weight = floats._engine.decoder.layers[0].out.weight.to_dense()
    of_codes = quantize.floats(codes._engine.model.model.language_model.layers[0].self_attn.o_proj)
    assert torch.equal(weight, of_codes.float())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_no_code_is_in_the_precision_that_was_asked_for(scheme: str, saved: dict[str, Path]) -> None:
    """transformers leaves it as it was saved."""
    model = backend(saved[scheme], engine="auto", dtype="bfloat16")
    assert len(by_id(model.predict(ask(6)))) == 6
    kinds = {n: p.dtype for n, p in model._engine.model.named_parameters() if "norm" in n or "embed" in n}
    assert set(kinds.values()) == {torch.bfloat16}


def test_quantised_here_is_as_quantised_and_saved(saved: dict[str, Path]) -> None:
    pytest.importorskip("bitsandbytes", reason=WHY)
    for short, scheme in {"nf4": "bitsandbytes-nf4", "bitsandbytes-int8": "bitsandbytes-int8"}.items():
        here = backend(tiny.checkpoint(1), engine="auto", quantize=short)
        assert here.identity()["quantisation"]["scheme"] == scheme
        wanted = logits(backend(saved[scheme], engine="auto"), IMAGE)
        assert torch.allclose(logits(here, IMAGE), wanted, atol=1e-5)


@pytest.mark.parametrize("scheme", ["bitsandbytes-nf4", "bitsandbytes-nf4-double"])
def test_answers_are_the_same_whatever_the_batch(scheme: str, saved: dict[str, Path]) -> None:
    one, many = (by_id(backend(saved[scheme], engine="auto", batch_size=n).predict(ask(6))) for n in (1, 4))
    assert {k: p.tokens for k, p in one.items()} == {k: p.tokens for k, p in many.items()}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "fast"}, "--engine plain runs as they are; with --quantize none they are expanded"),
        ({"quantize": "nf4"}, "is saved in bitsandbytes-nf4 already; leave it out"),
        ({"quantize": "int8"}, "is saved in bitsandbytes-nf4 already; leave it out"),
        ({"engine": "auto", "strict": True}, "--kv-dtype, --strict: need --engine fast"),
    ],
)
def test_options_that_do_not_go_with_codes(
    options: dict[str, Any], sentence: str, saved: dict[str, Path]
) -> None:
    with pytest.raises(ModelError, match=sentence):
        _ = backend(saved["bitsandbytes-nf4"], **options).info


@pytest.mark.parametrize(
    ("scheme", "part"),
    [
        ("bitsandbytes-nf4", "q_proj.weight.absmax"),
        ("bitsandbytes-nf4-double", "q_proj.weight.nested_absmax"),
        ("bitsandbytes-int8", "q_proj.SCB"),
        ("bitsandbytes-nf4", "patch_embedding.weight"),
    ],
)
def test_scales_that_are_no_numbers(scheme: str, part: str, saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved[scheme], tmp_path / "nan")
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if n.endswith(part))
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"{part} holds NaN"):
        backend(folder, engine="auto").load()


def test_weights_that_are_no_numbers_are_said_before_they_are_codes(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason=WHY)
    folder = shutil.copytree(tiny.checkpoint(1), tmp_path / "nan")
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if n.endswith("layers.1.self_attn.q_proj.weight"))
    tensors[name][3, 5] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"q_proj\.weight holds NaN"):
        backend(folder, engine="auto", quantize="nf4").load()


@pytest.mark.parametrize("coded_there", [False, True])
def test_a_layer_of_which_config_says_another_thing(
    coded_there: bool, saved: dict[str, Path], tmp_path: Path
) -> None:
    """Whether a layer was left out of quantising is written in config.json alone."""
    projector = ["lm_head", "model.multi_modal_projector"]
    folder = tmp_path / "mixed"
    if coded_there:
        shutil.copytree(saved["bitsandbytes-nf4"], folder)
        said, sentence = projector, "1 weights have a wrong shape"
    else:
        coded("bitsandbytes-nf4", llm_int8_skip_modules=projector).save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        said, sentence = None, r"multi_modal_projector\.linear\.weight is not quantised"
    assert len(by_id(backend(folder, engine="auto").predict(ask(2)))) == 2
    tiny.edit(folder, quantization_config__llm_int8_skip_modules=said)
    with pytest.raises(ModelError, match=sentence):
        backend(folder, engine="auto").load()


# --- adapters beside codes -------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["bitsandbytes-nf4", "bitsandbytes-int8"])
@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": "all-linear", "lora_alpha": 12},
        {"target_modules": EVERYWHERE, "use_rslora": True, "rank_pattern": {"fc1": 2}},
        {"target_modules": EVERYWHERE, "use_dora": True},
        {"target_modules": ["o_proj"], "modules_to_save": ["lm_head"]},
    ],
    ids=["all-linear", "rsLoRA, patterns", "DoRA", "saved modules"],
)
def test_logits_equal_pefts(scheme: str, config: dict[str, Any], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(coded(scheme), peft.LoraConfig(r=4, **config)).eval()
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    wrapped.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    options = {"adapter": str(tmp_path / "adapter"), "protocol": "hf", "engine": "auto"}
    ours = backend(tiny.checkpoint(1), quantize=scheme, **options)
    found = logits(ours, IMAGE)
    assert torch.allclose(found, theirs(wrapped, ours), atol=5e-4), (
        (found - theirs(wrapped, ours)).abs().max()
    )
    merged = logits(backend(tiny.checkpoint(1), **options), IMAGE)
    assert not torch.allclose(found, merged, atol=1e-2)


def test_it_is_told_apart_from_the_merged_one(saved: dict[str, Path], tmp_path: Path) -> None:
    folder, base = str(queries(tmp_path / "mine")), saved["bitsandbytes-nf4"]
    ways = {
        "as trained (bitsandbytes-nf4 base, unmerged)": backend(base, adapter=folder, engine="auto"),
        "merged into float": backend(base, adapter=folder, quantize="none"),
    }
    said = [m.identity()["quantisation"] for m in ways.values()]
    assert said[0]["adapter"] == "unmerged"
    assert said[0] != said[1]
    for how, model in ways.items():
        assert f"adapter {how}" in model.as_checkpoint().about
    # the same weights in the end, but for rounding
    assert torch.allclose(*(logits(m, IMAGE) for m in ways.values()), atol=1e-4)


def test_a_module_of_its_own_replaces_codes(saved: dict[str, Path], tmp_path: Path) -> None:
    """modules_to_save is trained in floats: the layer has no codes any more."""
    folder = queries(tmp_path / "mine", modules_to_save=["multi_modal_projector"])
    own = {
        "weight": torch.randn((32, 32), generator=torch.Generator().manual_seed(2)),
        "bias": torch.ones(32),
    }
    file = folder / "adapter_model.safetensors"
    more = {f"base_model.model.multi_modal_projector.linear.{k}": v for k, v in own.items()}
    save_file({**load_file(file), **more}, file)
    ways = [
        backend(saved["bitsandbytes-nf4"], adapter=str(folder), engine="auto", **how)
        for how in ({}, {"quantize": "none"})
    ]
    assert torch.allclose(*(logits(m, IMAGE) for m in ways), atol=1e-4)
    assert torch.equal(ways[0]._engine.model.model.multi_modal_projector.linear.weight, own["weight"])


@pytest.mark.parametrize("dora", [False, True])
def test_beside_a_plain_layer_it_is_the_merged_one(dora: bool, tmp_path: Path) -> None:
    """The same formula twice, without the library: W x + scaling · B A x, and (W + scaling · B A) x."""
    names = {ATTENTION.format(1, "q"): (32, 32), "vision_tower.encoder.layers.0.mlp.fc1": (64, 32)}
    folder = lora(tmp_path / "mine", names, use_dora=dora)
    if dora:
        file = folder / "adapter_model.safetensors"
        lengths = {
            f"base_model.model.{name}.lora_magnitude_vector": torch.rand(out) + 0.5
            for name, (out, _) in names.items()
        }
        save_file({**load_file(file), **lengths}, file)
    merged, beside = backend(tiny.checkpoint(1), adapter=str(folder)), backend(tiny.checkpoint(1))
    wanted, without = logits(merged, IMAGE), logits(beside, IMAGE)
    unmerged.attach(adapters.inspect(folder), beside._engine.model)
    assert torch.allclose(logits(beside, IMAGE), wanted, atol=1e-4)
    assert not torch.allclose(without, wanted, atol=1e-2)


# --- what the difference is ------------------------------------------------------------------------


def test_doctor_measures_codes_against_floats(saved: dict[str, Path], brief: None) -> None:
    said: list[str] = []
    given = {"device": "cpu"}
    text, sound = examine(str(saved["bitsandbytes-int8"]), given, 4, said.append)
    assert sound, text
    assert len(said) == 4
    (line,) = (line for line in text.splitlines() if line.startswith("codes"))
    assert "weights as saved (bitsandbytes-int8) and floats, float32: " in line
    assert "logits at most 0.0" in text.split("of 4 texts equal,\n")[1].splitlines()[0]
    assert "plain, float32" in text


def test_doctor_measures_an_adapter_as_trained_against_the_merged_one(tmp_path: Path, brief: None) -> None:
    pytest.importorskip("bitsandbytes", reason=WHY)
    given = {"device": "cpu", "adapter": str(queries(tmp_path / "mine")), "quantize": "nf4"}
    text, sound = examine(str(tiny.checkpoint(1)), given, 4, lambda line: None)
    assert sound, text
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("adapter"))
    assert "as trained (bitsandbytes-nf4 base, unmerged) and merged into float, float32:" in lines[at]
    apart = float(lines[at + 1].split("logits at most ")[1].split()[0])
    mean = float(lines[at + 1].split("log-probability ")[1].split()[0])
    assert 0.05 < apart < 5
    assert 0 < mean < apart


def test_doctor_finds_no_difference_where_none_is(brief: None) -> None:
    """The same weights as codes and floats: what the comparison itself adds."""
    from evalkit.models.paligemma import doctor

    requests, prepare = doctor.questions(28, 4)

    def make(**options: Any) -> Any:
        return backend(tiny.checkpoint(1), **{**options, "prepare": prepare})

    found = doctor.diagnose(make, requests, "float32", lambda line: None, make).codes
    assert found is not None
    assert (found.differing, found.most < 1e-4, found.apart < 1e-4) == (0, True, True)


@pytest.mark.parametrize("quantize", ["nf4", ""])
def test_tables_say_how_an_adapter_was_run(
    quantize: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if quantize:
        pytest.importorskip("bitsandbytes", reason=WHY)
    task = colours(tmp_path / "data", images=2)
    monkeypatch.chdir(tmp_path)
    words = ["--tasks", str(task), "--data-root", str(task.parent), "--model", str(tiny.checkpoint(1))]
    words += ["--adapter", str(queries(tmp_path / "mine")), *(["--quantize", quantize] if quantize else [])]
    assert main(["run", *words]) == 0
    how = "as trained (bitsandbytes-nf4 base, unmerged)" if quantize else "merged into float"
    assert f"adapter {how}" in capsys.readouterr().err
    assert main(["table"]) == 0
    assert f"adapters: {tiny.checkpoint(1).name}+mine {how}" in capsys.readouterr().out
    assert main(["table", "--format", "json"]) == 0
    assert f'"adapter": "{how}"' in capsys.readouterr().out
    (run,) = Path("results").iterdir()
    assert main(["explain", str(run)]) == 0
    assert how in capsys.readouterr().out


def test_a_model_in_training_answers_as_its_saved_adapter(tmp_path: Path) -> None:
    """As QLoRA trains it, in memory, and from disk beside the same codes."""
    peft = pytest.importorskip("peft")
    wrapped = peft.get_peft_model(coded("bitsandbytes-nf4"), peft.LoraConfig(r=4, target_modules=EVERYWHERE))
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    task = live.task(tmp_path / "data")
    where = {"data_root": tmp_path / "data"}
    (run,) = evalkit.Evaluator(task, processor=live.processor(), output_path=tmp_path / "live", **where)(
        wrapped, 7
    )
    wrapped.save_pretrained(tmp_path / "adapter")
    (other,) = evalkit.run(
        tmp_path / "adapter", task, base=str(tiny.checkpoint(1)), quantize="nf4",
        output_path=tmp_path / "saved", **where,
    )  # fmt: skip
    texts = [{line["id"]: line["text"] for line in one.folder.read_rows()} for one in (run, other)]
    assert texts[0] == texts[1]
    assert len(set(texts[0].values())) > 1
    said = [
        json.loads((one.folder.path / "run.json").read_text())["identity"]["model"] for one in (run, other)
    ]
    assert said[0]["quantisation"]["scheme"] == said[1]["quantisation"]["scheme"] == "bitsandbytes-nf4"
