"""Weights from safetensors files into their places: all of transformers' values, in every precision."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint import filling, info, loading
from evalkit.models.paligemma.checkpoint.planned import Planned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.checkpoint(1), tmp_path / "m"))


def filled(folder: Path, dtype: str = "float32") -> Any:
    found = info.inspect(folder)
    return loading._filled(found, loading._config(found, False), dtype, "cpu")


def saved(folder: Path, change: Any) -> None:
    """Saves the weights again, changed."""
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("family", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_value_is_transformers(family: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces that cut tensors; buffers too."""
    monkeypatch.setattr(filling, "PIECE", 64)
    path = tiny.checkpoint(family)
    ours = filled(path, dtype)
    theirs = transformers.PaliGemmaForConditionalGeneration.from_pretrained(path, dtype=getattr(torch, dtype))
    for kind in ("named_parameters", "named_buffers"):
        wanted = dict(getattr(theirs, kind)())
        found = dict(getattr(ours, kind)())
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[k], wanted[k]) and found[k].dtype == wanted[k].dtype for k in wanted)
    assert ours.lm_head.weight.data_ptr() == ours.get_input_embeddings().weight.data_ptr()
    assert not ours.training


def test_weights_saved_in_another_precision(folder: Path) -> None:
    saved(folder, lambda weights: {k: v.bfloat16() for k, v in weights.items()})
    found = filled(folder, "float32").get_input_embeddings().weight
    kept = next(v for k, v in load_file(folder / "model.safetensors").items() if "embed_tokens" in k)
    assert torch.equal(found, kept.float())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda k, v: None,
            r"1 weights are missing \(first: language_model\.layers\.1\.mlp\.up_proj\.weight\)",
        ),
        (lambda k, v: v[:-1].clone(), r"up_proj\.weight has shape \(63, 32\), it must be \(64, 32\)"),
        (
            lambda k, v: v.T.contiguous(),
            r"has shape \(32, 64\), it must be \(64, 32\): its axes are in another",
        ),
        (lambda k, v: v.to(torch.int8), r"up_proj\.weight is I8; weights must be float32"),
    ],
    ids=["missing", "another shape", "transposed", "whole numbers"],
)
def test_what_does_not_fit_is_refused(folder: Path, change: Any, sentence: str) -> None:
    def changed(weights: dict[str, Any]) -> dict[str, Any]:
        made = {
            k: change(k, v) if "layers.1.mlp.up" in k and "language" in k else v for k, v in weights.items()
        }
        return {k: v for k, v in made.items() if v is not None}

    saved(folder, changed)
    with pytest.raises(ModelError, match=sentence):
        filled(folder)


def test_a_file_that_is_cut_while_it_is_read(folder: Path) -> None:
    found = info.inspect(folder)
    model = loading._empty(found, loading._config(found, False), "float32")
    places = filling.places(found.weights, model, folder)
    file = folder / "model.safetensors"
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - 100)
    with pytest.raises(ModelError, match=r"model.safetensors: ends early"):
        filling.fill(model, places, Planned())
