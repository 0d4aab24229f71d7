"""Images out of tar archives, Arrow and Parquet tables and videos; padding and labels."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.data import containers
from evalkit.data.sources import image_ref, read_bytes
from evalkit.errors import DataError, ImageError
from evalkit.images import prepare
from evalkit.types import ImageRef, Mark, Preparation


def png(colour: tuple[int, int, int] = (9, 8, 7), size: tuple[int, int] = (6, 4)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def test_tar(tmp_path: Path) -> None:
    for packed in ("w", "w:gz"):
        name = "shard.tar" if packed == "w" else "shard.tar.gz"
        with tarfile.open(tmp_path / name, packed) as archive:
            for number in range(3):
                info = tarfile.TarInfo(f"./{number}.png")
                info.size = len(png((number, 0, 0)))
                archive.addfile(info, io.BytesIO(png((number, 0, 0))))
    assert read_bytes(image_ref(tmp_path / "shard.tar", "2.png")) == png((2, 0, 0))
    with pytest.raises(ImageError, match="holds no such member"):
        read_bytes(image_ref(tmp_path / "shard.tar", "3.png"))
    with pytest.raises(DataError, match="compressed as a whole"):
        image_ref(tmp_path / "shard.tar.gz", "1.png")
    (tmp_path / "bad.tar").write_bytes(b"no archive")
    with pytest.raises(ImageError, match="is not a tar archive"):
        read_bytes(ImageRef(str(tmp_path / "bad.tar"), "1.png"))


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_tables(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": png((n, 0, 0)), "path": None} for n in range(5)]
    table = pa.table({"image": cells, "images": [[c, c] for c in cells], "n": range(5)})
    path = tmp_path / f"t.{kind}"
    if kind == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    else:
        pq.write_table(table, path, row_group_size=2)
    for row in (4, 0, 2):
        assert read_bytes(ImageRef(str(path), f"{row}/image")) == png((row, 0, 0))
        assert read_bytes(ImageRef(str(path), f"{row}.1/images")) == png((row, 0, 0))
    for member, message in [("9/image", "no such"), ("1/n", "holds no image"), ("1/none", "t.")]:
        with pytest.raises(ImageError, match=message):
            read_bytes(ImageRef(str(path), member))


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_cells_that_name_files_are_told_from_those_that_hold_bytes(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held, named = {"bytes": png(), "path": None}, {"bytes": None, "path": str(tmp_path / "a.png")}
    (tmp_path / "a.png").write_bytes(png((1, 2, 3)))
    table = pa.table({"in": [held, held], "out": [held, named], "ins": [[held], []], "outs": [[named], []]})
    path = str(tmp_path / f"t.{kind}")
    if kind == "arrow":
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path)
    assert read_bytes(ImageRef(path, "1/out")) == png((1, 2, 3))
    found = {name: containers.beside(path, f"0/{name}") for name in ("in", "out")}
    found |= {name: containers.beside(path, f"0.0/{name}") for name in ("ins", "outs")}
    assert (found["in"], found["out"], found["outs"]) == ("", None, None)
    if kind == "arrow":
        assert found["ins"] == ""  # in Parquet an empty list counts as a cell without bytes


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(20):
            frame = np.full((48, 64, 3), number * 12, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def grey(path: Path, member: str) -> int:
    return round(float(prepare.decode(read_bytes(ImageRef(str(path), member))).mean()) / 12)


def test_frames_of_a_video(video: Path) -> None:
    assert [grey(video, f"{i}/4x5") for i in range(4)] == [0, 5, 10, 15]
    assert [grey(video, f"{i}/5x9") for i in range(5)] == [0, 9, 18, 0, 9]  # too short: played again
    assert [grey(video, f"{i}/3x2@0.5-1.0") for i in range(3)] == [5, 7, 9]
    with pytest.raises(ImageError, match="no frame between 7 s and 9 s"):
        read_bytes(ImageRef(str(video), "0/2x1@7-9"))
    with pytest.raises(ImageError, match="no such member"):
        read_bytes(ImageRef(str(video), "first"))


def test_no_video(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(ImageError, match="is not a video that can be decoded"):
        read_bytes(ImageRef(str(tmp_path / "v.mp4"), "0/2x1"))


def test_padding_keeps_the_aspect(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png((0, 0, 0), size=(8, 4)))
    prepared = prepare.prepare(ImageRef(str(tmp_path / "a.png")), Preparation(8, pad="white"))
    assert prepared.size == (4, 8)
    assert (prepared.pixels[:4] == 0).all()
    assert (prepared.pixels[4:] == 255).all()


def test_turns(tmp_path: Path) -> None:
    page = np.zeros((2, 4, 3), np.uint8)
    page[0, 3] = 255  # the upper right corner
    Image.fromarray(page).save(tmp_path / "a.png")
    turned = prepare.prepare(ImageRef(str(tmp_path / "a.png"), turn=1), Preparation(4))
    assert turned.size == (4, 2)
    assert turned.pixels[0, 0].tolist() == [255, 255, 255]  # against the clock: now the upper left


def test_marks(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png((0, 0, 0), size=(60, 120)))
    edge = Mark("outline", (1280, 256, 2560, 1024), unit="canvas", canvas=2560)  # 0.1 and 0.4 heights
    pixels = prepare.prepare(ImageRef(str(path), marks=(edge,)), Preparation(101)).pixels
    red = np.argwhere((pixels == (255, 0, 0)).all(axis=2))
    assert (red.min(axis=0).tolist(), red.max(axis=0).tolist()) == ([50, 20], [100, 80])
    label = Mark("label", (20, 10, 60, 50), unit="pixels", text="B")
    big = prepare.prepare(ImageRef(str(path), marks=(label,)), Preparation(120)).pixels
    assert (big[21:59, 22:30] > 0).any()  # a white box ...
    assert (big[21:55, 40:80] == 0).any()  # ... with a black letter
    assert (big[:20] == 0).all()
    wrong = Mark("label", (20, 10, 60, 50), unit="pixels", text="B", font=str(path))
    with pytest.raises(ImageError, match="is not a TrueType font"):
        prepare.prepare(ImageRef(str(path), marks=(wrong,)), Preparation(60))


def test_letters_on_palette_images_have_no_grey_edges(tmp_path: Path) -> None:
    label = Mark("label", (0, 0, 40, 40), unit="pixels", text="B")
    page = Image.new("RGB", (40, 40))
    seen = {}
    for mode in ("RGB", "L", "P"):  # as Pillow draws on each
        page.convert(mode).save(tmp_path / "a.png")
        ref = ImageRef(str(tmp_path / "a.png"), marks=(label,))
        seen[mode] = len(np.unique(prepare.prepare(ref, Preparation(40)).pixels))
    assert seen["P"] == 2 < seen["RGB"] == seen["L"]
