"""The cache of prepared images: nothing that a model is given changes, whatever happens to the files."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

from evalkit.errors import ImageError, UserError
from evalkit.images import cache as image_cache
from evalkit.images import prepare
from evalkit.types import Decode, ImageRef, Mark, Preparation, Request

ROOT = Path(__file__).parent.parent


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turned on; where its files lie."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(image_cache.ENVIRONMENT, "1")
    return tmp_path / "cache" / "images"


def files(cache: Path) -> list[Path]:
    return sorted(p for p in cache.rglob("*") if p.is_file())


def same(ours: prepare.Prepared, theirs: prepare.Prepared) -> None:
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    assert ours.pixels.dtype == theirs.pixels.dtype
    assert ours.pixels.flags.writeable
    assert ours.pixels.flags.aligned
    assert (ours.size, ours.digest) == (theirs.size, theirs.digest)


def test_the_same_pixels_with_it_and_each_preparation_its_own(
    photo: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = [
        ImageRef(str(photo)),
        ImageRef(str(photo), turn=1),
        ImageRef(str(photo), marks=(Mark("outline", (1, 2, 30, 40)),)),
    ]
    kinds = [
        Preparation(28),
        Preparation(28, "bicubic"),
        Preparation(28, floats=True),
        Preparation(42, antialias=True),
    ]
    asked = [(ref, kind) for ref in refs for kind in kinds]
    first = [prepare.prepare(*each) for each in asked]
    assert len(files(cache)) == len(asked)
    again = [prepare.prepare(*each) for each in asked]
    monkeypatch.delenv(image_cache.ENVIRONMENT)
    for each, one, two in zip(asked, first, again, strict=True):
        same(one, prepare.prepare(*each))
        same(two, one)


def test_found_by_content_not_by_name(photo: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prepare.prepare(ImageRef(str(photo)), Preparation(28))
    copy = photo.with_name("copy.jpg")
    copy.write_bytes(photo.read_bytes())
    monkeypatch.setattr(prepare, "_prepared", None)  # nothing is decoded again
    same(prepare.prepare(ImageRef(str(copy)), Preparation(28)), before)


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_torn_file_is_made_again(photo: Path, cache: Path, damage: bytes | None) -> None:
    ref, kind = ImageRef(str(photo)), Preparation(28)
    before = prepare.prepare(ref, kind)
    (file,) = files(cache)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    same(prepare.prepare(ref, kind), before)
    assert file.read_bytes() == whole


def test_a_damaged_image_is_no_less_damaged(tmp_path: Path, cache: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(ImageError, match=r"bad\.png: is not an image"):
            prepare.prepare(ImageRef(str(bad)), Preparation(28))
    assert files(cache) == []


def test_it_stays_within_its_bounds_and_drops_what_is_oldest(tmp_path: Path) -> None:
    held = image_cache.ImageCache(tmp_path, limit=100_000)
    pixels = np.zeros((28, 28, 3), np.uint8)
    keys = [image_cache.key(i) for i in range(200)]
    for i, key in enumerate(keys):
        held.put(key, pixels + i, (5, 6))
        if held.get(keys[0]):  # used all the time
            os.utime(held._path(keys[0]), (2e9, 2e9))
        os.utime(held._path(key), (i, i))
    assert sum(f.stat().st_size for f in files(tmp_path)) <= 105_000
    last = held.get(keys[-1])
    assert last is not None
    np.testing.assert_array_equal(last[0], pixels + 199)
    assert held.get(keys[0]) is not None
    assert held.get(keys[1]) is None


def test_leftovers_of_killed_processes_go(tmp_path: Path) -> None:
    held = image_cache.ImageCache(tmp_path, limit=100_000)
    old, young = tmp_path / "ab" / ".old.x", tmp_path / "ab" / ".young.x"
    old.parent.mkdir()
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    held.put(image_cache.key(1), np.zeros((2, 2, 3), np.uint8), (2, 2))
    assert (old.exists(), young.exists()) == (False, True)


WRITER = """
import sys
import numpy as np
from pathlib import Path
from evalkit.images.cache import ImageCache, key
held = ImageCache(Path(sys.argv[1]), limit=200_000)
for turn in range(3):
    for i in range(100):
        found = held.get(key(i))
        if found is None:
            held.put(key(i), np.full((28, 28, 3), i, np.uint8), (i, i + 1))
        else:
            assert (found[0] == i).all() and found[1] == (i, i + 1)
"""


def test_several_processes_share_it(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        for _ in range(3)
    ]
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert not list(tmp_path.rglob(".*"))
    assert sum(f.stat().st_size for f in files(tmp_path)) <= 230_000


def test_a_disk_that_refuses_does_not_end_a_run(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv(image_cache.ENVIRONMENT, "1")
    with caplog.at_level(logging.WARNING, "evalkit"):
        found = [prepare.prepare(ImageRef(str(photo)), Preparation(28)) for _ in range(3)]
    monkeypatch.delenv(image_cache.ENVIRONMENT)
    same(found[-1], prepare.prepare(ImageRef(str(photo)), Preparation(28)))
    assert len([r for r in caplog.records if image_cache.ENVIRONMENT in r.message]) == 1


@pytest.mark.parametrize("limit", ["yes", "0", "-1", "nan"])
def test_a_bound_that_is_none_is_refused(
    photo: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv(image_cache.ENVIRONMENT, limit)
    with pytest.raises(UserError, match=f"EVALKIT_IMAGE_CACHE={limit}: must be a limit in GiB"):
        prepare.prepare(ImageRef(str(photo)), Preparation(28))


def test_texts_are_the_same(photo: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        Request(str(i), (ImageRef(str(photo)),), p, Preparation(28), Decode(8))
        for i, p in enumerate(tiny.PROMPTS)
    ]

    def answers() -> Any:
        model = tiny.backend(tiny.checkpoint(1), engine="fast", prepare=None)
        return tiny.by_id(model.predict(asked))

    made, found = answers(), answers()
    monkeypatch.delenv(image_cache.ENVIRONMENT)
    assert made == found == answers()
