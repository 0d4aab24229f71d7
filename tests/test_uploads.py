"""Images that cross to the device ahead of their batch; the CUDA stream is stood in for by a list."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import ask, backend, by_id

from evalkit.models.paligemma.engine.uploads import Uploads


class Ferry:
    """A `Cross` on the CPU that remembers who sent what, and what was used."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.used = 0

    def __call__(self, pixels: Any) -> Callable[[], torch.Tensor]:
        self.threads.append(threading.current_thread().name)
        near = torch.from_numpy(pixels).clone()

        def take() -> torch.Tensor:
            self.used += 1
            return near

        return take


def image(value: int) -> Any:
    return np.full((4, 4, 3), value, dtype=np.uint8)


def test_images_are_sent_by_the_threads_that_read_them() -> None:
    asked = ask(20)
    wanted = by_id(backend(tiny.checkpoint(1), engine="fast").predict(asked))
    ferry = Ferry()
    model = backend(tiny.checkpoint(1), engine="fast", batch_size=4)
    model.load()
    engine: Any = model._engine
    engine.uploads = Uploads(ferry)
    assert by_id(model.predict(asked)) == wanted
    # One that is read at the very moment it is wanted crosses with its batch.
    assert 0 < ferry.used == engine.uploads.taken <= len(ferry.threads) <= 20
    assert any(name.startswith("images") for name in ferry.threads)
    sent = len(ferry.threads)
    assert by_id(model.predict(asked)) == wanted, "features are remembered:"
    assert len(ferry.threads) == sent, "their images are not sent again"


def test_what_was_dropped_crosses_with_its_batch() -> None:
    asked = ask(20)
    wanted = by_id(backend(tiny.checkpoint(1), engine="fast").predict(asked))
    model = backend(tiny.checkpoint(1), engine="fast", batch_size=8)
    model.load()
    engine: Any = model._engine
    ferry = Ferry()
    engine.uploads = Uploads(ferry, limit=3 * 28 * 28 * 3)
    assert by_id(model.predict(asked)) == wanted
    assert ferry.used < 20
    engine.free()
    assert engine.uploads._bytes == 0


def test_the_oldest_goes_first_and_nothing_is_taken_twice() -> None:
    uploads = Uploads(Ferry(), limit=100)
    for value, name in enumerate("abc"):
        uploads.send(name, image(value))
    assert uploads.take("a") is None
    uploads.send("b", image(7))
    found = uploads.take("b")
    assert found is not None
    assert int(found[0, 0, 0]) == 7
    assert uploads.take("b") is None
    assert uploads.take("c") is not None
    assert uploads._bytes == 0


@pytest.mark.parametrize("many", [True, False])
def test_no_room_on_the_device(many: bool) -> None:
    def full(pixels: Any) -> Callable[[], torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory") if many else RuntimeError("shapes differ")

    uploads = Uploads(full)
    if many:
        uploads.send("a", image(1))
        assert uploads.take("a") is None
    else:
        with pytest.raises(RuntimeError, match="shapes differ"):
            uploads.send("a", image(1))
