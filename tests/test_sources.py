"""Where data is looked for, what is said when it isn't there, and what is remembered of files."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from evalkit.data import sources
from evalkit.errors import DataError, ImageError
from evalkit.files import file_digest, remembered_digest
from evalkit.types import Data, Decode, ImageRef, Task


def task(*entries: dict[str, Any]) -> Task:
    return Task(
        name="docs_val",
        version=1,
        about="",
        license="research use",
        data=Data("docvqa", "val", entries),
        prompt="{question}",
        image={},
        decode=Decode(),
        parser="text",
        metrics=(),
        homepage="https://example.org",
    )


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EVALKIT_DATA", raising=False)


def test_roots_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "given").mkdir()
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.setenv("EVALKIT_DATA", os.pathsep.join(["/one", "/two", "/one"]))
    (tmp_path / "evalkit.toml").write_text("data = ['datasets', '/three']")
    monkeypatch.chdir(inner)
    found = sources.roots([tmp_path / "given"])
    assert found == [tmp_path / "given", Path("/one"), Path("/two"), tmp_path / "datasets", Path("/three")]
    with pytest.raises(DataError, match="--data-root: no such folder"):
        sources.roots([tmp_path / "nowhere"])


@pytest.mark.parametrize("text", ["data = 'x'", "data = [1]", "data = [", "\xff"])
def test_damaged_config(tmp_path: Path, text: str) -> None:
    (tmp_path / "evalkit.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"evalkit\.toml"):
        sources.roots()


def test_locate_takes_the_first_complete_entry(tmp_path: Path) -> None:
    first, second = {"path": "a.json", "images": "a"}, {"path": "b.json", "images": "b"}
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "b").mkdir(parents=True)
    (one / "b.json").touch()
    (one / "a.json").touch()  # without its images
    found = sources.locate(task(first, second), [two, one])
    assert (found.root, found.entry, found.task) == (one, second, "docs_val")
    (two / "a").mkdir(parents=True)
    (two / "a.json").touch()
    assert sources.locate(task(first, second), [one, two]).root == two
    states = sources.status(task(first, second), [one])
    assert [state.complete for state in states] == [False, True]
    assert states[0].missing == {"images": one / "a"}


def test_missing_data_says_all(tmp_path: Path) -> None:
    asked = task(
        {"path": "a.json", "images": "a"}, {"hub": "x/y", "split": "validation", "revision": "0" * 40}
    )
    with pytest.raises(DataError) as caught:
        sources.locate(asked, [tmp_path])
    for part in (
        str(tmp_path / "a.json"),
        "hub:x/y is not downloaded: hf download --repo-type dataset x/y --revision",
        "https://example.org",
        "research use",
        "--data-root",
    ):
        assert part in str(caught.value)
    with pytest.raises(DataError, match=r"no data root is set; name the folder that holds a\.json"):
        sources.locate(asked, [])


def test_a_data_root_too_deep_or_too_high_is_named(tmp_path: Path) -> None:
    asked = task({"path": "docs/a.json", "images": "docs/a"}, {"path": "b.json"})
    data = tmp_path / "my data"
    (data / "docs").mkdir(parents=True)
    with pytest.raises(DataError, match=re.escape(f"{data}/docs/a.json, {data}/docs/a; or {data}/b.json;")):
        sources.locate(asked, [data])
    (data / "docs" / "a").mkdir()
    (data / "docs" / "a.json").touch()
    for wrong in (data / "docs", data / "docs" / "a", tmp_path):
        with pytest.raises(DataError, match=re.escape(f"but below {data}: --data-root '{data}'")):
            sources.locate(asked, [wrong])
    assert sources.locate(asked, [data]).root == data


def test_digests_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.files.SETTLED", 0)  # as if written some seconds ago
    path = tmp_path / "weights"
    path.write_bytes(b"abc" * 1000)
    os.utime(path, ns=(1, 1))
    read: list[int] = []
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert remembered_digest(path) is None
    assert file_digest(path, read.append) == right
    assert file_digest(path, read.append) == right
    assert read == [3000]
    path.write_bytes(b"abd" * 1000)
    os.utime(path, ns=(2, 2))
    assert file_digest(path, read.append) != right
    (entry,) = (tmp_path / "cache/digests").iterdir()
    for damage in (b"", b"[1]", b'{"path": 1}', b"[" * 100_000, b"\xff"):
        entry.write_bytes(damage)
        assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setenv("EVALKIT_CACHE", "/dev/null/nowhere")  # cannot be written: no error
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError, match="cannot be read"):
        file_digest(tmp_path / "nowhere")


def test_a_file_just_written_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "young"
    path.write_bytes(b"x")
    file_digest(path)
    assert remembered_digest(path) is None


def test_images_in_folders_and_archives(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val/a.png").write_bytes(b"plain")
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        archive.writestr("val/a.png", b"inside")
        archive.writestr("b.png", b"top")
    assert sources.read_bytes(sources.image_ref(tmp_path / "val", "a.png")) == b"plain"
    assert sources.read_bytes(sources.image_ref(tmp_path / "val.zip", "a.png")) == b"inside"
    assert sources.read_bytes(sources.image_ref(tmp_path / "val.zip", "b.png")) == b"top"
    assert str(sources.image_ref(tmp_path / "val.zip", "a.png")).endswith("val.zip::val/a.png")


def test_unreadable_images(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    with zipfile.ZipFile(tmp_path / "good.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"x" * 10_000)
    torn = bytearray((tmp_path / "good.zip").read_bytes())
    torn[40:50] = b"0" * 10
    (tmp_path / "torn.zip").write_bytes(bytes(torn))
    for ref in (
        ImageRef(str(tmp_path / "nowhere.png")),
        ImageRef(str(tmp_path)),
        ImageRef("a\0b"),
        ImageRef(str(tmp_path / "good.zip"), "b.png"),
        ImageRef(str(tmp_path / "torn.zip"), "a.png"),
        ImageRef(str(tmp_path / "nowhere.zip"), "a.png"),
        ImageRef(str(tmp_path / "bad.zip"), "a.png"),
    ):
        with pytest.raises(ImageError) as caught:
            sources.read_bytes(ref)
        assert str(caught.value).startswith(str(ref))
    with pytest.raises(DataError, match="is not a zip archive"):
        sources.image_ref(tmp_path / "bad.zip", "a.png")


def test_too_large_a_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(sources.MAX_IMAGE_BYTES + 1)
    with pytest.raises(ImageError, match="larger than 1 GiB"):
        sources.read_bytes(ImageRef(str(tmp_path / "huge.png")))


def test_importing_sources_and_formats_is_light() -> None:
    code = (
        "import sys; from evalkit import registry; from evalkit.data import sources\n"
        "[registry.find('formats', name) for name in registry.names('formats')]\n"
        "heavy = 'torch', 'transformers', 'datasets', 'scipy', 'pandas', 'PIL'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    place = {**os.environ, "PYTHONPATH": str(Path(sources.__file__).parents[2])}
    assert subprocess.check_output([sys.executable, "-c", code], env=place, text=True).strip() == "[]"
