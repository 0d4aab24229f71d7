"""`.npz` checkpoints of big_vision: the same logits as the folder they were made of, read or converted."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from big_vision_files import arrays, bfloat16, write
from safetensors.torch import load_file
from stub import colours
from tiny import ask, backend, by_id

from evalkit.cli.main import main
from evalkit.errors import ModelError
from evalkit.models.paligemma import inspect
from evalkit.models.paligemma.checkpoint import big_vision


def answers(model: Any) -> dict[str, Any]:
    """Tokens and margins; how weights lie in memory moves the last bit of a logit, so no more of those."""
    found = by_id(model.predict(ask(8)))
    return {k: (p.tokens, p.stop, pytest.approx(p.margin, abs=1e-5)) for k, p in found.items()}


@pytest.fixture(params=[1, 2], ids=["gemma", "gemma2"])
def folder(request: pytest.FixtureRequest) -> Path:
    return tiny.checkpoint(request.param)


def test_the_same_weights_and_answers(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "paligemma-3b-pt-224.npz", arrays(folder))
    ours, theirs = backend(file, tokenizer=str(folder)), backend(folder)
    assert answers(ours) == answers(theirs)
    weights = dict(theirs._engine.model.named_parameters())
    for name, weight in ours._engine.model.named_parameters():
        assert torch.equal(weight, weights[name]), name
    for key in ("family", "resolution", "patch", "parameters", "vocabulary", "image_token", "shapes"):
        assert getattr(ours.info, key) == getattr(theirs.info, key), key
    assert ours.identity()["weights"].keys() == {file.name}
    assert ours.identity()["config"].keys() == {"derived"}


def test_the_fast_engine_and_int8(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "x.npz", arrays(folder))
    for scheme in (None, "int8"):
        wanted = answers(backend(folder, quantize=scheme))
        assert answers(backend(file, tokenizer=str(folder), engine="fast", quantize=scheme)) == wanted


def test_many_key_value_heads(tmp_path: Path) -> None:
    """PaliGemma 2's larger decoders have several; their order must not change."""
    folder = tiny.build(tmp_path / "two", family=2, more={"num_key_value_heads": 2, "head_dim": 16})
    content = arrays(folder, groups=2)
    file = write(tmp_path / "two.npz", content)
    tiny.edit(folder, text_config__query_pre_attn_scalar=16)  # as big_vision scales
    assert content["llm/layers/attn/kv_einsum/w"].shape == (2, 2, 2, 32, 16)
    wanted = answers(backend(folder))
    assert answers(backend(file, tokenizer=str(folder))) == wanted


@pytest.mark.parametrize("prefix", ["params/", ""])
@pytest.mark.parametrize("packed", [False, True])
def test_ways_of_saving(prefix: str, packed: bool, tmp_path: Path) -> None:
    folder = tiny.checkpoint(1)
    content = arrays(folder)
    file = write(tmp_path / "a.npz", content, prefix, packed)
    assert len(list(big_vision.read(file))) == len(load_file(folder / "model.safetensors"))
    assert inspect(folder).shapes == big_vision.inspect(file, folder).shapes


@pytest.mark.parametrize(("kind", "dtype"), [("V2", "bfloat16"), ("u2", "bfloat16"), ("f2", "float16")])
def test_half_precision(kind: str, dtype: str, tmp_path: Path) -> None:
    folder = tiny.checkpoint(1)
    content = arrays(folder)
    half = {
        k: bfloat16(a).view(kind) if dtype == "bfloat16" else a.astype(np.float16) for k, a in content.items()
    }
    ours = backend(write(tmp_path / "half.npz", half), tokenizer=str(folder))
    ours.load()
    assert ours.info.dtype == dtype
    theirs = backend(folder)
    theirs.load()
    for (name, a), (_, b) in zip(
        sorted(ours._engine.model.named_parameters()),
        sorted(theirs._engine.model.named_parameters()),
        strict=True,
    ):
        assert torch.equal(a, b.to(getattr(torch, dtype)).float()), name


def test_converted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = write(tmp_path / "x.npz", arrays(folder)), tmp_path / "out"
    words = ["convert", str(file), str(out), "--tokenizer", str(folder)]
    assert main(words) == 0
    assert "PaliGemma" in capsys.readouterr().err
    assert answers(backend(out)) == answers(backend(folder))
    assert main(words) == 2
    assert "already exists; name a new folder" in capsys.readouterr().err
    (out / "config.json").unlink()  # as a kill would leave it
    assert main(words) == 0
    from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

    model, report = PaliGemmaForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"] - {"lm_head.weight"}
    assert not report["unexpected_keys"]
    assert model.config.vision_config.image_size == 28
    assert AutoProcessor.from_pretrained(out).image_seq_length == 4


def test_converting_keeps_bfloat16(tmp_path: Path) -> None:
    folder = tiny.checkpoint(1)
    file = write(tmp_path / "x.npz", {k: bfloat16(a) for k, a in arrays(folder).items()})
    assert main(["convert", str(file), str(tmp_path / "out"), "--tokenizer", str(folder)]) == 0
    made, exact = load_file(tmp_path / "out" / "model.safetensors"), tiny.weights(folder)
    assert {t.dtype for t in made.values()} == {torch.bfloat16}
    for name, weight in exact.items():
        theirs = name.replace("vision_tower.", "vision_tower.vision_model.")
        assert torch.equal(made[theirs], weight.to(torch.bfloat16)), name
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_memory_is_a_layer_not_an_array(tmp_path: Path) -> None:
    content = arrays(tiny.checkpoint(1))
    stacks = ("llm/layers", "img/Transformer/encoderblock")
    deep = {k: np.repeat(a, 100, axis=0) if k.startswith(stacks) else a for k, a in content.items()}
    deep["llm/layers/mlp/linear"] = np.zeros((200, 640, 320), np.float32)
    deep["llm/layers/mlp/gating_einsum"] = np.zeros((200, 2, 32, 320), np.float32)
    file = write(tmp_path / "deep.npz", deep)
    whole = deep["llm/layers/mlp/linear"].nbytes
    tracemalloc.start()
    for _ in big_vision.read(file):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < whole / 20, f"{most:,} of {whole:,}"


def test_on_the_command_line_with_an_adapter_and_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from test_adapter import queries

    task, folder = colours(tmp_path / "data", images=2), tiny.checkpoint(1)
    monkeypatch.chdir(tmp_path)
    write(Path("small.npz"), arrays(folder))
    words = ["run", "--tasks", str(task), "--data-root", str(task.parent), "--model", "small.npz"]
    assert main([*words, "--model-args", f"tokenizer={folder}"]) == 0
    adapted = f"tokenizer={folder},adapter={queries(tmp_path / 'mine')},quantize=int8"
    assert main([*words, "--model-args", adapted]) == 0
    assert {p.name.split(".")[1] for p in Path("results").iterdir()} == {"small", "small+mine"}
    assert main(words) == 2
    assert "small.npz: a .npz holds no tokenizer; name a folder" in capsys.readouterr().err
    assert main([*words, "--model-args", f"tokenizer={folder},device_map=auto"]) == 2
    assert "evalkit convert" in capsys.readouterr().err


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(key)


def reshaped(key: str, *shape: int) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({key: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (without("img/head/bias"), "img/head/bias is missing"),
        (lambda c: c.clear(), "holds no params/img"),
        (reshaped("llm/layers/mlp/third", 2, 3), "llm/layers/mlp/third is not part of any PaliGemma"),
        (reshaped("llm/layers/mlp/linear", 3, 64, 32), "has 2 layers, others have 3"),
        (reshaped("img/pos_embedding", 1, 5, 32), "positions for 5 image tokens, which is not a square"),
        (reshaped("img/embedding/kernel", 5), "not shaped as PaliGemma's"),
        (reshaped("llm/layers/attn/q_einsum/w", 2, 3), "not shaped as PaliGemma's"),
        (lambda c: c.update({"img/head/bias": np.array([None])}), "weights must be little-endian floats"),
        (lambda c: c.update({"img/head/bias": np.zeros(3, ">f4")}), "weights must be little-endian floats"),
        (
            lambda c: c.update({"img/head/kernel": np.asfortranarray(c["img/head/kernel"] + 1)}),
            "Fortran order",
        ),
    ],
)
def test_refused(damage: Callable[[dict[str, Any]], None], sentence: str, tmp_path: Path) -> None:
    content = arrays(tiny.checkpoint(1))
    damage(content)
    file = write(tmp_path / "x.npz", content)
    with pytest.raises(ModelError) as error:
        big_vision.inspect(file, tiny.checkpoint(1))
    assert sentence in str(error.value)
    assert str(error.value).startswith(str(file))


def test_weights_of_another_shape_than_the_model(tmp_path: Path) -> None:
    content = arrays(tiny.checkpoint(1))
    content["img/head/kernel"] = np.zeros((32, 40), np.float32)
    model = backend(write(tmp_path / "x.npz", content), tokenizer=str(tiny.checkpoint(1)))
    with pytest.raises(ModelError, match=r"linear.weight is \(40, 32\), its model has \(32, 32\)"):
        model.load()


def test_torn_files(tmp_path: Path) -> None:
    file = write(tmp_path / "x.npz", arrays(tiny.checkpoint(1)))
    data = file.read_bytes()
    for torn in (data[:-100], data[: len(data) // 2], b"", b"PK"):
        file.write_bytes(torn)
        with pytest.raises(ModelError, match=r"is not a valid \.npz file"):
            big_vision.inspect(file, tiny.checkpoint(1))
    middle = bytearray(data)
    middle[len(data) // 2] ^= 0xFF
    file.write_bytes(middle)
    with pytest.raises(ModelError, match=r"is not a valid \.npz file .*CRC"):
        list(big_vision.read(file))


def test_a_tokenizer_of_another_table(tmp_path: Path) -> None:
    content = arrays(tiny.checkpoint(1))
    content["llm/embedder/input_embedding"] = content["llm/embedder/input_embedding"][1:]
    file = write(tmp_path / "x.npz", content)
    with pytest.raises(ModelError, match=r"<loc0000> has id .* give the tokenizer of a published PaliGemma"):
        big_vision.inspect(file, tiny.checkpoint(1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="the tokenizer is missing"):
        big_vision.inspect(write(tmp_path / "y.npz", arrays(tiny.checkpoint(1))), tmp_path / "empty")
