"""PaliGemma checkpoints: what is read from their files, what is refused, and the start-up checks."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import ask, backend, by_id

from evalkit.errors import ModelError, UserError
from evalkit.models.paligemma import PaliGemma, inspect
from evalkit.models.paligemma.checkpoint import info as checkpoint_info
from evalkit.models.paligemma.engine import plain


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(tiny.checkpoint(1), tmp_path / "copy")
    return tmp_path / "copy"


# --- what a checkpoint is ------------------------------------------------------------------------


def test_inspect() -> None:
    one, two = inspect(tiny.checkpoint(1)), inspect(tiny.checkpoint(2))
    assert (one.family, one.resolution, one.patch, one.image_tokens) == (1, 28, 14, 4)
    assert (one.attention, two.attention, one.dtype) == ("sdpa", "eager", "float32")
    assert two.describe().startswith("PaliGemma 2, 28 px (4 image tokens)")
    assert two.eos == (1, 107)


def test_inspecting_and_hashing_import_nothing_heavy() -> None:
    code = (
        "import sys; from evalkit.models.paligemma import PaliGemma, inspect\n"
        f"m = PaliGemma({str(tiny.checkpoint(1))!r}); m.info.describe(); m.identity(); m.as_checkpoint()\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'scipy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_identity_names_what_decides_the_text() -> None:
    one = backend(tiny.checkpoint(1))
    identity = dict(one.identity())
    assert json.loads(json.dumps(identity)) == identity
    assert identity == dict(backend(tiny.checkpoint(1), batch_size=3, workers=1).identity())
    assert identity != dict(backend(tiny.checkpoint(1), dtype="bfloat16").identity())
    assert identity != dict(backend(tiny.checkpoint(1), protocol="hf").identity())
    assert identity["weights"] != backend(tiny.checkpoint(2)).identity()["weights"]
    assert "device" not in identity
    other = one.under("hf")
    assert (one.protocol, other.protocol) == ("paper", "hf")
    one.load()
    assert one.under("hf")._engine is one._engine
    assert {"device", "torch", "transformers", "batch_size", "threads"} <= one.provenance().keys()


FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
         "preprocessor_config.json", "model.safetensors"]  # fmt: skip


def touch_up(file: Path) -> None:
    """Writes other content that means the same, in place."""
    if file.suffix == ".json":
        file.write_text((file.read_text() if file.is_file() else "{}") + "\n")
    else:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_decides_is_in_the_identity(broken: Path, name: str) -> None:
    before = backend(broken).identity()
    touch_up(broken / name)
    assert backend(broken).identity() != before


def test_shards_of_one_name_in_two_folders_are_two(broken: Path) -> None:
    shards = [broken / folder / "part.safetensors" for folder in ("a", "b")]
    for shard in shards:
        shard.parent.mkdir()
        shard.write_text(shard.parent.name)
    found = checkpoint_info.digests(dataclasses.replace(inspect(broken), weights=tuple(shards)))["weights"]
    assert sorted(found) == ["a/part.safetensors", "b/part.safetensors"]


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_a_file_replaced_between_plan_and_load_is_named(broken: Path, name: str) -> None:
    planned = backend(broken)
    planned.identity()
    touch_up(broken / name)
    with pytest.raises(ModelError, match=rf"{name} changed after the run was planned"):
        planned.load()


def test_as_checkpoint(broken: Path) -> None:
    made = backend(tiny.checkpoint(2)).as_checkpoint()
    assert (made.resolution, made.protocol, made.name) == (28, "", tiny.checkpoint(2).name)
    assert made.identity("paper")["protocol"]["eos"] == [1]
    assert made.identity("hf")["protocol"]["eos"] == [1, 107]
    assert made.load("hf")._engine is made.load("paper")._engine  # type: ignore[attr-defined]
    (broken / "evalkit.yaml").write_text("protocol: hf\n")
    assert backend(broken).as_checkpoint("mine").protocol == "hf"
    (broken / "evalkit.yaml").write_text("protokoll: hf\n")
    with pytest.raises(ModelError, match=r"evalkit\.yaml"):
        inspect(broken)


def _rename(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def _adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_rename, "only pickled weights"),
        (_shards, "1 of 2 weight files .* missing: model-00002"),
        (_truncate, "its header says"),
        (_adapter, "only an adapter"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (
            lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1"),
            "git lfs",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 300), "not a safetensors file"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer is missing"),
        (lambda f: tiny.edit(f, model_type="llava"), "model_type is 'llava'"),
        (lambda f: tiny.edit(f, text_config__model_type="gemma3_text"), "text_config.model_type"),
        (lambda f: tiny.edit(f, vision_config__image_size=56), r"positions for 4 \(28 px\)"),
        (lambda f: tiny.edit(f, vision_config__patch_size=15), "not a multiple"),
        (lambda f: tiny.edit(f, text_config__vocab_size=99), "vocab_size is 99"),
        (lambda f: tiny.edit(f, quantization_config={"bits": 4}), "only weights saved by bitsandbytes"),
    ],
)
def test_damaged_checkpoints(broken: Path, damage: Any, message: str) -> None:
    damage(broken)
    with pytest.raises(ModelError, match=message) as caught:
        inspect(broken)
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        _ = backend(tmp_path / "nowhere").info
    with pytest.raises(ModelError, match="is a file"):
        _ = backend(tiny.checkpoint(1) / "config.json").info
    with pytest.raises(ModelError, match="a local folder has no revisions"):
        _ = backend(tiny.checkpoint(1), revision="main").info
    with pytest.raises(ModelError, match="--resolution 448: this checkpoint takes 28 px"):
        _ = backend(tiny.checkpoint(1), resolution=448).info
    assert backend(tiny.checkpoint(1), resolution=28).info.resolution == 28


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*args: Any, **kwargs: Any) -> Any:
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelError, match="someone/thing@abc: no such folder here, and the hub cannot be"):
        _ = PaliGemma("someone/thing", revision="abc").info


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"dtype": "float8"}, "--dtype float8"),
        ({"engine": "warp"}, "--engine warp"),
        ({"protocol": "papr"}, "did you mean paper"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"batch_size": "many"}, "--batch-size many"),
        ({"workers": 0}, "--workers 0"),
    ],
)
def test_wrong_options(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PaliGemma("x", **option)


# --- start-up checks -----------------------------------------------------------------------------


def test_float16_warns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="evalkit"):
        backend(tiny.checkpoint(1), dtype="float16").load()
    assert "overflow in float16" in caplog.text


def test_numbers_that_are_not_finite_are_never_an_answer() -> None:
    model = backend(tiny.checkpoint(1))
    model.load()
    assert isinstance(model._engine, plain.PlainEngine)
    with torch.no_grad():
        model._engine.model.model.multi_modal_projector.linear.bias.fill_(float("inf"))
    with pytest.raises(ModelError, match="not finite"):
        list(model.predict(ask(1)))


def test_missing_tensors_are_refused(broken: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    gone = next(k for k in weights if "layers.1.mlp.up_proj" in k)
    del weights[gone]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing .*up_proj"):
        backend(broken).load()


def test_word_level_tokenizer_is_refused(broken: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "\n", "a"])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (broken / name).unlink()
    PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(broken)
    with pytest.raises(ModelError, match=r"tokenizer: (writes|<image> has id|.* rows)"):
        backend(broken).load()


def test_image_token_of_another_checkpoint(broken: Path) -> None:
    tiny.edit(broken, image_token_index=7)
    with pytest.raises(ModelError, match=r"<image> has id .* says 7"):
        backend(broken).load()


def test_scattered_location_tokens(tmp_path: Path) -> None:
    from transformers import GemmaTokenizer

    words, merges = tiny.vocabulary()
    tok = GemmaTokenizer(vocab=words, merges=merges)
    tok.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tok.add_tokens(["<loc0005>"])
    tok.add_tokens([f"<loc{i:04d}>" for i in range(1024)] + [f"<seg{i:03d}>" for i in range(128)])
    folder = tiny.build(tmp_path / "scattered", tok=tok)
    with pytest.raises(ModelError, match="do not follow one another"):
        backend(folder).load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"image_mean": [0.48, 0.45, 0.4]}, "image_mean"),
        ({"size": {"height": 448, "width": 448}}, "size is 448 px"),
        ({"image_seq_length": 256}, "image_seq_length is 256"),
    ],
)
def test_processor_of_another_checkpoint(broken: Path, content: dict[str, Any], message: str) -> None:
    (broken / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=message):
        backend(broken).load()


def test_a_tokenizer_that_pads_right_still_answers_right(
    broken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = broken / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "right"}))
    wanted = by_id(backend(tiny.checkpoint(1)).predict(ask(6)))
    assert by_id(backend(broken).predict(ask(6))) == wanted
    assert "pads on the right" in caplog.text


# --- what a trainer leaves -----------------------------------------------------------------------


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A trainer's output folder: checkpoints without tokenizer, which is saved beside them."""
    for step in (100, 1000, 200):
        shutil.copytree(tiny.checkpoint(1), tmp_path / "output" / f"checkpoint-{step}")
        for file in (tmp_path / "output" / f"checkpoint-{step}").glob("tokenizer*"):
            file.replace(tmp_path / "output" / file.name)
    return tmp_path / "output"


def test_the_tokenizer_of_the_folder_above(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (output / "preprocessor_config.json").write_text('{"image_seq_length": 4}')
    one = output / "checkpoint-100"
    model = backend(one)
    assert model.info.remarks == (f"{one}: has no tokenizer; the one in the folder above is used",)
    assert by_id(model.predict(ask(3))) == by_id(backend(tiny.checkpoint(1)).predict(ask(3)))
    assert model.identity()["tokenizer"] == backend(tiny.checkpoint(1)).identity()["tokenizer"]
    assert model.identity()["processor"].keys() == {"preprocessor_config.json"}
    monkeypatch.chdir(one)
    for here in (".", "../checkpoint-100"):
        assert backend(Path(here)).info.tokenizer == model.info.tokenizer
        assert [f.name for f in backend(Path(here)).info.processor] == ["preprocessor_config.json"]
    (output / "preprocessor_config.json").write_text('{"image_seq_length": 5}')
    with pytest.raises(ModelError, match="image_seq_length is 5"):
        backend(one).load()


def test_a_tokenizer_of_its_own_comes_first(output: Path) -> None:
    one = output / "checkpoint-100"
    shutil.copy(tiny.checkpoint(1) / "tokenizer.json", one)
    (output / "tokenizer.json").write_text("{}")
    found = inspect(one)
    assert {f.parent for f in found.tokenizer} == {one}
    assert found.remarks == ()
    assert {f.parent for f in inspect(one, tokenizer=tiny.checkpoint(1)).tokenizer} == {tiny.checkpoint(1)}


def test_no_tokenizer_anywhere(output: Path) -> None:
    (output / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"checkpoint-100: the tokenizer is missing .*tokenizer=FOLDER"):
        inspect(output / "checkpoint-100")


def test_a_trainers_output_folder_names_its_checkpoints(output: Path) -> None:
    with pytest.raises(ModelError) as caught:
        inspect(output)
    assert str(caught.value) == (
        f"{output}: holds 3 checkpoints and is none itself; give --model {output}/checkpoint-1000, or "
        f"evaluate each with: evalkit watch {output} --tasks ..."
    )
    for file in tiny.checkpoint(1).iterdir():  # its final model
        shutil.copy(file, output)
    assert inspect(output).path == output


@pytest.mark.parametrize(
    ("names", "last"),
    [
        (["final"], "final"),
        (["epoch_2", "epoch_10", "best"], "epoch_10"),
        (["snapshots/0a1b2c", "refs"], "snapshots/0a1b2c"),
    ],
)
def test_other_folders_of_checkpoints(names: list[str], last: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / "all" / name).mkdir(parents=True)
        if name != "refs":
            (tmp_path / "all" / name / "config.json").write_text("{}")
    with pytest.raises(ModelError) as caught:
        inspect(tmp_path / "all")
    count = len([n for n in names if n != "refs"])
    assert str(caught.value) == (
        f"{tmp_path}/all: holds {count} checkpoint{'s' * (count > 1)} and is none itself; give --model "
        f"{tmp_path}/all/{last}"
    )


def test_an_output_folder_as_adapter(tmp_path: Path) -> None:
    (tmp_path / "out" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "out" / "checkpoint-5" / "adapter_config.json").write_text("{}")
    with pytest.raises(
        ModelError, match=r"out: holds 1 checkpoint and is none itself; give --adapter .*/checkpoint-5"
    ):
        _ = backend(tiny.checkpoint(1), adapter=str(tmp_path / "out")).info
