"""Batch sizes from a budget of tokens, free memory and what earlier runs learned, with a made-up memory."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import ask, backend, by_id

from evalkit.models.paligemma.batching import batch_size
from evalkit.models.paligemma.batching.batch_size import BatchSize, by_tokens
from evalkit.models.paligemma.batching.batches import Planned
from evalkit.models.paligemma.engine import fast
from evalkit.models.paligemma.interface import Limit

MIB = 1 << 20


class Memory:
    """A device with `free` bytes where each row takes `row` bytes."""

    def __init__(self, free: int, row: int = MIB, rows: int = 0) -> None:
        self.left, self.row, self.rows, self.marks = free, row, rows, 0

    def free(self) -> int:
        return self.left

    def mark(self) -> None:
        self.marks += 1

    def peak(self) -> int:
        return self.row * self.rows


def batch(rows: int, images: int = 1) -> list[Planned]:
    return [Planned(r, (2,)) for r in ask(rows, images)]


def run(sizes: BatchSize, rows: int, left: int, images: int = 1) -> None:
    """A run that begins with batches of `rows`; of the first one `left` rows were found to fit."""
    limit = Limit(rows)
    batches = sizes.watch(iter([batch(rows, images), batch(1, images)]), limit)
    next(batches)
    limit.rows = left
    sizes.answered(limit)
    next(batches)
    sizes.answered(limit)
    sizes.ended(limit)


@pytest.mark.parametrize(
    ("tokens", "device", "rows"),
    [(256, "cuda", 256), (1024, "cuda", 64), (4096, "cuda", 16), (256, "cpu", 32), (4096, "cpu", 2)],
)
def test_rows_by_tokens(tokens: int, device: str, rows: int) -> None:
    assert by_tokens(tokens, device) == rows
    assert by_tokens(1 << 20, device) == 1
    assert by_tokens(4096, "cpu", plain=True) == 1
    assert by_tokens(256, "cuda", plain=True) == 64


def test_of_several_lengths_the_largest_group_counts(tmp_path: Path) -> None:
    """They are read one after the other, so the peak belongs to it."""
    sizes, limit = BatchSize(8, Memory(100 * MIB, rows=5), tmp_path / "x.json"), Limit(8)
    mixed = [dataclasses.replace(p, ids=(2,) * (3 if i < 5 else 2)) for i, p in enumerate(batch(8))]
    next(sizes.watch(iter([mixed]), limit))
    sizes.answered(limit)
    assert json.loads((tmp_path / "x.json").read_text())["bytes_per_row"] == MIB


def test_what_rows_take_is_measured_once_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "224.json"
    memory = Memory(100 * MIB, rows=64)
    sizes = BatchSize(64, memory, file)
    assert sizes.first() == 64
    run(sizes, 64, 64)
    assert json.loads(file.read_text()) == {"bytes_per_row": MIB}
    assert BatchSize(64, Memory(100 * MIB), file).first() == 64
    assert BatchSize(64, Memory(50 * MIB), file).first() == 32  # 45 rows fit
    assert BatchSize(64, Memory(MIB // 2), file).first() == 1
    assert BatchSize(24, Memory(100 * MIB), file).first() == 24
    assert memory.marks == 1


def test_a_small_batch_says_little(tmp_path: Path) -> None:
    sizes, limit = BatchSize(64, Memory(100 * MIB, rows=31), tmp_path / "224.json"), Limit(64)
    next(sizes.watch(iter([batch(31)]), limit))
    sizes.answered(limit)
    sizes.ended(limit)
    assert not (tmp_path / "224.json").exists()


def test_several_images_a_row() -> None:
    memory = Memory(100 * MIB, row=4 * MIB, rows=8)
    sizes = BatchSize(8, memory)
    run(sizes, 8, 8, images=4)
    assert sizes._known == {"bytes_per_row": MIB}
    run(sizes, 8, 2, images=4)
    assert "failed" not in sizes._known


def test_what_did_not_fit_is_remembered_until_there_is_more_memory(tmp_path: Path) -> None:
    file = tmp_path / "448.json"
    run(BatchSize(32, Memory(100 * MIB), file), 32, 8)
    assert json.loads(file.read_text()) == {"failed": {"left": 8, "free": 100 * MIB}}
    assert BatchSize(32, Memory(105 * MIB), file).first() == 8
    assert BatchSize(32, Memory(120 * MIB), file).first() == 32


@pytest.mark.parametrize("text", ["", "[]", "{", '{"bytes_per_row": "x"}', '{"failed": {"left": 1}}'])
def test_a_damaged_file_is_as_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "batches.json"
    file.write_text(text)
    assert BatchSize(32, Memory(MIB), file).first() == 32


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "batches").write_text("a file, not a folder")
    run(BatchSize(32, Memory(MIB, rows=32), tmp_path / "batches" / "x.json"), 32, 32)


def test_files_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    one, other = batch_size.remembered("GPU", 224, "bfloat16"), batch_size.remembered("GPU", 448, "bfloat16")
    assert one != other
    assert one.is_relative_to(tmp_path)


def test_a_run_learns_and_the_next_one_begins_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only 5 rows fit: the second run never runs out of memory, and no text differs."""
    asked, prefill = ask(30), fast.FastEngine.prefill
    wanted = by_id(backend(tiny.checkpoint(1), engine="fast", batch_size=1).predict(asked))
    out: list[int] = []

    def limited(self: Any, prompts: Any, *rest: Any, **more: Any) -> Any:
        if len(prompts) > 5:
            out.append(len(prompts))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return prefill(self, prompts, *rest, **more)

    monkeypatch.setattr(fast.FastEngine, "prefill", limited)
    counts = []
    for _ in range(2):
        model: Any = backend(tiny.checkpoint(1), engine="fast")
        model.load()
        model._sizes = BatchSize(16, Memory(100 * MIB, rows=4), tmp_path / "x.json")
        model._limit.rows = model._sizes.first()
        found = by_id(model.predict(asked))
        assert {k: p.tokens for k, p in found.items()} == {k: p.tokens for k, p in wanted.items()}
        counts.append(len(out))
    assert counts == [1, 1], "8 rows were tried, once"
