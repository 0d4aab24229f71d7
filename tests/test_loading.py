"""What goes into a model is what its identity names: files that change before and while they are read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from big_vision_files import arrays, write
from safetensors.torch import load_file, save_file
from stub import colours
from test_adapter import queries
from test_checkpoint import touch_up
from tiny import ask, backend, by_id

from evalkit import api, files
from evalkit.cli.main import main
from evalkit.errors import ModelError, UserError
from evalkit.models.paligemma.checkpoint import filling, loading

CHANGED = "changed after the run was planned; run the same command again"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.checkpoint(1), tmp_path / "m"))


def in_place(file: Path) -> None:
    """Other bytes under the same name, size, inode and time, as `rsync --inplace -t` leaves them."""
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    with file.open("r+b") as stream:
        stream.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def swapped(file: Path) -> None:
    """Another file under this name."""
    other = file.with_name("other")
    shutil.copy(file, other)
    touch_up(other)
    other.replace(file)


@pytest.mark.parametrize(
    "change", [in_place, swapped, lambda f: f.write_bytes(b"")], ids=["in place", "another", "emptied"]
)
@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_weights_that_change_between_plan_and_load(
    folder: Path, change: Callable[[Path], Any], engine: str
) -> None:
    planned = backend(folder, engine=engine)
    planned.identity()
    change(folder / "model.safetensors")
    with pytest.raises(
        ModelError, match=rf"m(: model.safetensors {CHANGED}|/model.safetensors: is not a safe)"
    ):
        planned.load()


def test_one_shard_that_changes(folder: Path) -> None:
    _, second = tiny.shards(folder)
    planned = backend(folder)
    planned.identity()
    in_place(second)
    with pytest.raises(ModelError, match=rf"m: {second.name} {CHANGED}"):
        planned.load()


def test_nan_in_a_file_that_was_replaced_is_no_diverged_training(folder: Path) -> None:
    file = folder / "model.safetensors"
    planned = backend(folder)
    planned.identity()
    file.write_bytes(file.read_bytes()[:-400] + b"\xff" * 400)
    with pytest.raises(ModelError, match=CHANGED):
        planned.load()
    with pytest.raises(ModelError, match="holds NaN"):
        backend(folder).load()


def test_a_tensor_that_nobody_uses_is_hashed_too(folder: Path) -> None:
    file = folder / "model.safetensors"
    save_file({**load_file(file), "zzz.weight": torch.ones(3)}, file, {"format": "pt"})
    planned = backend(folder)
    planned.identity()
    in_place(file)  # its last byte
    with pytest.raises(ModelError, match=CHANGED):
        planned.load()


def test_what_is_hashed_is_the_whole_file_in_small_pieces(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "PIECE", 64)
    model = backend(folder)
    model.identity()
    assert by_id(model.predict(ask(3))) == by_id(backend(tiny.checkpoint(1)).predict(ask(3)))


def test_without_a_plan_nothing_is_hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hash:
        def update(self, data: memoryview) -> None:
            pytest.fail("hashed")

    monkeypatch.setattr(filling.hashlib, "sha256", Hash)
    backend(folder).load()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_that_changes_between_plan_and_load(tmp_path: Path, name: str) -> None:
    adapter = queries(tmp_path / "lora")
    planned = backend(tiny.checkpoint(1), adapter=str(adapter))
    planned.identity()
    touch_up(adapter / name)
    with pytest.raises(ModelError, match=rf"lora: {name} {CHANGED}"):
        planned.load()


def test_a_npz_that_changes_between_plan_and_load(tmp_path: Path) -> None:
    content = arrays(tiny.checkpoint(1))
    file = write(tmp_path / "x.npz", content)
    planned = backend(file, tokenizer=str(tiny.checkpoint(1)))
    planned.identity()
    content["img/head/bias"] = content["img/head/bias"] + 1
    write(file, content)
    with pytest.raises(ModelError, match=CHANGED):
        planned.load()


def test_weights_that_a_library_reads(folder: Path) -> None:
    """transformers opens the files by itself: they are hashed again after it."""
    pytest.importorskip("accelerate")
    planned = backend(folder, engine="plain", device_map="cpu")
    planned.identity()
    in_place(folder / "model.safetensors")
    with pytest.raises(ModelError, match=CHANGED):
        planned.load()


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_file_that_is_another_only_while_it_is_read(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaced, read, and put back: its digest is right before and after."""
    file, kept = folder / name, folder.parent / "kept"
    shutil.copy2(file, kept)
    loader = "load_tokenizer" if name == "tokenizer.json" else "_filled"
    load = getattr(loading, loader)

    def meddled(*given: Any) -> Any:
        touch_up(file)
        try:
            return load(*given)
        finally:
            kept.replace(file)

    monkeypatch.setattr(loading, loader, meddled)
    planned = backend(folder)
    planned.identity()
    with pytest.raises(ModelError, match=rf"m: {name} changed"):
        planned.load()


def test_a_header_that_is_replaced_after_it_was_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "model.safetensors"
    planned = backend(folder)
    planned.identity()
    places = filling.places

    def late(*given: Any) -> Any:
        found = places(*given)
        save_file(load_file(file), file, {"format": "pt", "other": "1"})
        return found

    monkeypatch.setattr(filling, "places", late)
    with pytest.raises(ModelError, match=r"model\.safetensors(:| )changed|changed while it was read"):
        planned.load()


def test_a_tokenizer_that_gets_one_more_file(folder: Path) -> None:
    planned = backend(folder)
    planned.identity()
    (folder / "added_tokens.json").write_text("{}")
    with pytest.raises(ModelError, match="a file of the tokenizer was added"):
        planned.load()


def test_weights_loaded_again_for_close_calls(folder: Path) -> None:
    model = backend(folder, dtype="bfloat16", stable=1e9)
    model.identity()
    model.load()
    in_place(folder / "model.safetensors")
    with pytest.raises(ModelError, match=CHANGED):
        list(model.predict(ask(2)))


def test_files_that_are_only_touched_are_the_same(folder: Path) -> None:
    planned = backend(folder)
    planned.identity()
    for file in folder.iterdir():
        copy = file.with_name("copy")
        shutil.copy(file, copy)
        copy.replace(file)
    planned.load()


# --- the digests that are remembered -------------------------------------------------------------


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A disk whose times and inodes say nothing: only sizes are seen."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "SETTLED", 0)
    monkeypatch.setattr(files, "_key", lambda stat: [stat.st_size])
    monkeypatch.setattr(files, "_trusted_from", 0)


def test_a_remembered_digest_that_is_wrong_stops_one_run_and_is_forgotten(folder: Path, blind: None) -> None:
    backend(folder).identity()
    in_place(folder / "model.safetensors")
    again = backend(folder)
    again.identity()  # by what is remembered
    with pytest.raises(ModelError, match=CHANGED):
        again.load()
    third = backend(folder)
    assert third.identity() != again.identity()
    third.load()


def test_rehash_does_not_trust_what_is_remembered(
    folder: Path, blind: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = backend(folder).identity()
    in_place(folder / "model.safetensors")
    assert backend(folder).identity() == before
    files.distrust()
    after = backend(folder).identity()
    assert after != before
    read: list[int] = []
    files.file_digest(folder / "model.safetensors", read.append)
    assert not read, "what was hashed since is trusted"


@pytest.mark.parametrize("verb", ["run", "check", "watch", "score"])
def test_rehash_is_an_option(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(files, "distrust", lambda: asked.append(verb))
    nowhere = str(tmp_path / "nowhere")
    words = {
        "run": ["--model", nowhere, "--tasks", nowhere],
        "check": [nowhere, "--baseline", nowhere],
        "watch": [nowhere, "--tasks", nowhere],
        "score": [nowhere],
    }[verb]
    assert main([verb, *words]) == 2
    assert not asked
    assert main([verb, *words, "--rehash"]) == 2
    assert asked == [verb]


def test_rehash_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(files, "distrust", lambda: asked.append(True))
    with pytest.raises(UserError):
        api.run("./nowhere", "nothing", rehash=True)
    assert asked == [True]


# --- a run of two models -------------------------------------------------------------------------


def test_a_trainer_that_overwrites_the_second_model_while_the_first_answers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second's run stops by name, the first's is kept; the same command goes on with the new weights."""
    from evalkit.models.paligemma import PaliGemma

    task = colours(tmp_path / "data", images=4)
    first = Path(shutil.copytree(tiny.checkpoint(1), tmp_path / "first"))
    predict, rewrite = PaliGemma.predict, [folder / "model.safetensors"]

    def meddled(self: PaliGemma, *given: Any) -> Any:
        while rewrite:
            in_place(rewrite.pop())
        return predict(self, *given)

    monkeypatch.setattr(PaliGemma, "predict", meddled)
    words = ["run", "--tasks", str(task), "--data-root", str(tmp_path / "data"), "--device", "cpu"]
    words += ["--model", str(first), "--model", str(folder), "--output-path", str(tmp_path / "out")]
    planned = backend(folder).identity()["weights"]
    assert main(words) == 2
    assert f"m: model.safetensors {CHANGED}" in capsys.readouterr().err
    runs = api.load(tmp_path / "out")
    assert [run.model for run in runs] == ["first"]
    assert main(words) == 0
    (now,) = (run for run in api.load(tmp_path / "out") if run.model == "m")
    stored = now.record["identity"]["model"]["weights"]
    assert stored == backend(folder).identity()["weights"] != planned
