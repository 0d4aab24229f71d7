"""What data may open: regular files, up to a bound, in the data roots and where the task says."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from official_files import picture
from stub import colours
from test_every_task import TASKS, fixture

from evalkit import door, own_code, strict_yaml
from evalkit.cli.main import main
from evalkit.data import containers, pickles, readers, sources
from evalkit.errors import DataError, ImageError, UserError
from evalkit.geometry import mask_decoder
from evalkit.options import config
from evalkit.runs import scored_run
from evalkit.tasks import dataset, loader
from evalkit.text import ptb
from evalkit.types import ImageRef, Task

OUTSIDE = "outside of the data roots"


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    """A file that is waited for fails its test."""

    def late(*_: Any) -> None:
        raise AssertionError("waited for 60 seconds")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)


def of_each_format() -> list[str]:
    found: dict[str, str] = {}
    for name in TASKS:
        found.setdefault(loader.load(name).data.format.partition("(")[0], name)
    return list(found.values())


def read_all(data: dataset.Dataset) -> None:
    for image in (image for sample in data.samples for image in sample.images):
        if image.path.endswith(".mp4"):  # which is none in this fixture
            door.check(image.path, image.within)
        else:
            assert sources.read_bytes(image)


# --- links and names, over all formats ------------------------------------------------------------


@pytest.mark.parametrize("name", of_each_format())
def test_no_link_leads_out_of_the_root(name: str, tmp_path: Path) -> None:
    """Every file of the dataset that the task does not name itself, replaced by a link to a copy outside."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    data, _ = fixture(root, name)
    named = {data.source.root / place for _, place in sources._files_of(data.source.entry)}
    found = [p for p in sorted(root.rglob("*")) if p.is_file() and p not in named]
    if not found:
        pytest.skip("all of its files are named by the task")
    for number, path in enumerate(found):
        path.rename(outside / f"{number}{path.suffix}")
        path.symlink_to(outside / f"{number}{path.suffix}")
    with pytest.raises((DataError, OSError), match=f"leads to .*{OUTSIDE}"):
        read_all(dataset.dataset(data.task, [root]))
    # with the other folder given too, all is as it was
    again = dataset.dataset(data.task, [root, outside])
    assert again.digest == data.digest
    read_all(again)


@pytest.mark.parametrize("name", of_each_format())
def test_what_the_task_names_may_be_links(name: str, tmp_path: Path) -> None:
    """A folder of images on another disk is the usual case."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    data, _ = fixture(root, name)
    for number, (_, place) in enumerate(sources._files_of(data.source.entry)):
        path = root / place
        if not path.is_symlink():
            target = outside / f"{number}-{path.name}"
            path.rename(target)
            path.symlink_to(target)
    again = dataset.dataset(data.task, [root])
    assert again.digest == data.digest
    read_all(again)


def own(folder: Path, lines: list[dict[str, Any]], source: dict[str, Any]) -> Task:
    """A task on JSON lines, and its file."""
    (folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = {
        "version": 1, "about": "a", "license": "none", "prompt": "{question}", "parser": "text",
        "metrics": ["exact_match"], "data": {"format": "jsonl", "split": "test", "sources": [source]},
    }  # fmt: skip
    (folder / "own_test.yaml").write_text(yaml.safe_dump(content))
    return loader.load(str(folder / "own_test.yaml"))


def line(image: object) -> dict[str, Any]:
    return {"image": str(image), "question": "q", "answer": "a"}


def test_absolute_names_of_own_data_stay_in_the_roots(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root, other):
        folder.mkdir()
        (folder / "a.png").write_bytes(picture())
    task = own(root, [line(root / "a.png"), line(other / "a.png")], {"path": "lines.jsonl"})
    inside, outside = (s.images[0] for s in dataset.dataset(task, [root]).samples)
    assert sources.read_bytes(inside) == picture()
    with pytest.raises(ImageError, match=rf"other/a\.png: is {OUTSIDE}.*--data-root"):
        sources.read_bytes(outside)
    for roots, images in (([root, other], None), ([root], str(other)), ([root], str(tmp_path))):
        source = {"path": "lines.jsonl"} | ({"images": images} if images else {})
        task = own(root, [line(other / "a.png")], source)
        (sample,) = dataset.dataset(task, roots).samples
        assert sources.read_bytes(sample.images[0]) == picture()


def test_a_folder_that_data_names_stays_in_the_roots(tmp_path: Path) -> None:
    """MaRVL's language is a part of the path, and nothing checks how it is spelled."""
    root, outside = tmp_path / "root", tmp_path / "outside/images/c"
    root.mkdir()
    outside.mkdir(parents=True)
    (outside / "a.png").write_bytes(picture())
    record = {"language": "../../outside", "concept": "c", "left_img": "a.png", "right_img": "a.png",
              "caption": "c", "label": True}  # fmt: skip
    task = own(root, [record], {"path": "lines.jsonl", "images": "marvl"})
    (root / "marvl").mkdir()
    text = (
        (root / "own_test.yaml")
        .read_text()
        .replace("format: jsonl", "format: marvl")
        .replace("question", "sentence")
    )
    (root / "own_test.yaml").write_text(text)
    (sample,) = dataset.dataset(loader.load(task.path), [root]).samples
    assert Path(sample.images[0].path).exists()
    with pytest.raises(ImageError, match=OUTSIDE):
        sources.read_bytes(sample.images[0])


# --- tables, folders of the hub, videos --------------------------------------------------------------


def table(path: Path, cells: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({"image": pa.array(cells, kind), "question": ["q"] * len(cells)})
    if path.suffix == ".parquet":
        pq.write_table(made, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, made.schema) as writer:
            writer.write_table(made)


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_a_table_opens_only_what_lies_beside_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.png").write_bytes(picture(seed=1))
    (outside / "only-here.png").write_bytes(picture(seed=1))
    (root / "a.png").write_bytes(picture(seed=2))
    (root / "link.png").symlink_to(outside / "secret.png")
    monkeypatch.chdir(outside)  # a relative path does not begin there
    names = ["a.png", str(root / "a.png"), str(outside / "secret.png"), "../outside/secret.png", "link.png",
             "only-here.png", "a\0b", "x" * 300]  # fmt: skip
    table(root / f"t.{kind}", [{"bytes": None, "path": name} for name in names])
    path = str(root / f"t.{kind}")
    for within in ((), door.places([root])):
        refs = [ImageRef(path, f"{row}/image", within=within) for row in range(len(names))]
        for ref in refs[:2]:
            assert sources.read_bytes(ref) == picture(seed=2)
        for ref in refs[2:5]:
            with pytest.raises(ImageError, match=OUTSIDE):
                sources.read_bytes(ref)
        for ref in refs[5:]:
            with pytest.raises(ImageError, match=f"t.{kind}::./image: "):
                sources.read_bytes(ref)
    # where the other folder is a root too, it may be named
    ref = ImageRef(path, "2/image", within=door.places([root, outside]))
    assert sources.read_bytes(ref) == picture(seed=1)


def test_a_folder_of_the_hub_names_no_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    root, outside = tmp_path / "root/set", tmp_path / "outside"
    root.mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.csv").write_text("question\nwhat is secret\n")
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: {}\n---\n"
    task = own(tmp_path, [], {"folder": "set", "format": "hub(image='', answers='')"})
    for named in (str(outside / "secret.csv"), "link.csv"):
        (root / "README.md").write_text(card.format(named))
        (root / "link.csv").unlink(missing_ok=True)
        (root / "link.csv").symlink_to(outside / "secret.csv")
        with pytest.raises(DataError, match=OUTSIDE):
            dataset.dataset(task, [tmp_path / "root"])


def test_a_snapshot_of_the_hub_may_link_to_its_blobs(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "datasets--a--b/snapshots/123", tmp_path / "datasets--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "0").write_bytes(picture())
    (snapshot / "a.png").symlink_to("../../blobs/0")
    task = own(snapshot, [line("a.png")], {"path": "lines.jsonl"})
    source = sources.locate(task, [snapshot])
    with door.within(sources.places(source, [])):
        assert sources.read_bytes(ImageRef(str(snapshot / "a.png"))) == picture()


def test_a_video_is_no_playlist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    with av.open(str(outside / "secret.ts"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    (outside / "v.mp4").write_bytes((outside / "secret.ts").read_bytes())
    assert sources.read_bytes(ImageRef(str(outside / "v.mp4"), "0/1x1"))  # by its content, as ever
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{outside}/secret.ts\n#EXT-X-ENDLIST\n"
    for text in (playlist, f"ffconcat version 1.0\nfile {outside}/secret.ts\n"):
        (inside / "v.mp4").write_text(text)
        with pytest.raises(ImageError, match="is not a video"):
            sources.read_bytes(ImageRef(str(inside / "v.mp4"), "0/1x1"))


# --- only regular files -------------------------------------------------------------------------------


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "an image": ("a.png", lambda p: sources.read_bytes(ImageRef(str(p)))),
    "a zip": ("a.zip", lambda p: containers.names(str(p))),
    "a tar": ("a.tar", lambda p: sources.read_bytes(ImageRef(str(p), "a"))),
    "a table": ("a.parquet", lambda p: sources.read_bytes(ImageRef(str(p), "0/a"))),
    "an Arrow table": ("a.arrow", lambda p: sources.read_bytes(ImageRef(str(p), "0/a"))),
    "a video": ("a.mp4", lambda p: sources.read_bytes(ImageRef(str(p), "0/1x1"))),
    "JSON": ("a.json", readers.read_json),
    "JSON lines": ("a.jsonl", lambda p: list(readers.read_lines(p))),
    "CSV": ("a.csv", lambda p: list(readers.read_table(p))),
    "text": ("a.txt", readers.read_text),
    "a pickle": ("a.p", pickles.read_pickle),
    "YAML": ("a.yaml", strict_yaml.read),
    "TOML": ("evalkit.toml", config._read),
    "a mask decoder": ("a.npz", lambda p: mask_decoder._load(str(p), (0,), False)),
    "a baseline": ("a.json.gz", scored_run.read),
}


@pytest.mark.parametrize("what", ["pipe", "device", "socket", "folder", "nothing"])
@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_read(
    reader: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, read = READERS[reader]
    monkeypatch.chdir(tmp_path)
    if what == "pipe":
        os.mkfifo(name)
    elif what == "device":
        Path(name).symlink_to("/dev/zero")
    elif what == "socket":
        socket.socket(socket.AF_UNIX).bind(name)
    elif what == "folder":
        Path(name).mkdir()
    with pytest.raises(UserError) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_a_file_that_states_no_size_is_read_to_the_bound(tmp_path: Path) -> None:
    assert door.read("/proc/self/status", 1 << 20)
    with pytest.raises(OSError, match="is larger than"):
        door.read("/proc/self/status", 10)
    (tmp_path / "a").write_bytes(b"x" * 11)
    assert door.read(tmp_path / "a", 11) == b"x" * 11
    with pytest.raises(OSError, match="is larger than"):
        door.read(tmp_path / "a", 10)


def test_a_run_says_which_image_is_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colours(tmp_path)
    (tmp_path / "pictures/0.png").unlink()
    os.mkfifo(tmp_path / "pictures/0.png")
    words = ["data", str(tmp_path / "colours_test.yaml"), "--check", "--data-root", str(tmp_path)]
    assert main(words) != 0
    out, err = capsys.readouterr()
    assert "0.png: is a pipe; only regular files are read" in out + err


# --- bounds ------------------------------------------------------------------------------------------


def test_a_baseline_that_expands_without_end_is_refused(tmp_path: Path) -> None:
    part = gzip.compress(bytes(64 << 20))
    path = tmp_path / "b.json.gz"
    path.write_bytes(part * (2_000_000 // len(part)))  # 2 MB of nearly 2 GB
    start = time.monotonic()
    with pytest.raises(UserError, match=r"b\.json\.gz: expands to more than \d+ MiB"):
        scored_run.read(path)
    assert time.monotonic() - start < 20


def test_an_image_of_an_annotation_has_so_many_pixels_as_are_read(tmp_path: Path) -> None:
    for size in ([65_536, 65_536], [1 << 21, 1], [10**30, 1]):
        entry = line("a.png") | {"size": size, "bbox": [0, 0, 1, 1]}
        entry.pop("answer")
        task = own(tmp_path, [entry], {"path": "lines.jsonl"})
        with pytest.raises(DataError, match=r"line 1\.size: is of .* at most 512 megapixels"):
            list(dataset._read(task, sources.locate(task, [tmp_path])))


@pytest.mark.parametrize(
    "text",
    ["\0", "&", "%", "\u05d0", "\u200f\u05d0", "\u0627\u0644 ", "a.", "A. ", "<a ", "jan. <!a ", "a.b. <!a ",
     "'", "<", "-", "^.[^x=", "www.", "http://", "a@", "\N{GRINNING FACE}", "&amp;", "\u2028", "0."],
)  # fmt: skip
@pytest.mark.parametrize("end", ["", ">", "  The "])
def test_captions_are_tokenised_in_linear_time(text: str, end: str) -> None:
    """100,000 characters in well under 20 seconds (0.2 to 1 s each on one core; what was quadratic took
    minutes)."""
    start = time.monotonic()
    ptb.raw(text * (100_000 // len(text)) + end)
    assert time.monotonic() - start < 20


# --- what a format did not foresee ---------------------------------------------------------------------


OWN = """
from dataclasses import dataclass
from typing import ClassVar
from evalkit.types import Format, ImageRef, Sample

@dataclass(frozen=True)
class Mine(Format):
    fields: ClassVar[tuple[str, ...]] = ("question",)
    keys: ClassVar[tuple[str, ...]] = ("path",)
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source, split):
        yield Sample("a", (ImageRef({image!r}),), {{"question": "q"}}, ("a",))
        {then}
"""


def mine(folder: Path, image: Path, then: str) -> Task:
    (folder / "mine.py").write_text(OWN.format(image=str(image), then=then))
    task = own(folder, [line("a.png")], {"path": "lines.jsonl"})
    path = Path(task.path)
    path.write_text(path.read_text().replace("format: jsonl", "format: module:mine.py:Mine"))
    with own_code.allowed(True):
        return loader.load(str(path))


def test_a_format_of_ones_own_stays_in_the_roots_too(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root, other):
        folder.mkdir()
        (folder / "a.png").write_bytes(picture())
    with own_code.allowed(True):
        task = mine(root, other / "a.png", "")
        (sample,) = dataset.dataset(task, [root]).samples
        with pytest.raises(ImageError, match=OUTSIDE):
            sources.read_bytes(sample.images[0])
        assert sources.read_bytes(dataset.dataset(task, [root, other]).samples[0].images[0])


def test_a_format_that_raises_is_named(tmp_path: Path) -> None:
    with own_code.allowed(True):
        task = mine(tmp_path, tmp_path / "a.png", "{}['x']")
        with pytest.raises(
            DataError, match=r"format: module:mine\.py:Mine raised KeyError: 'x' \(mine\.py, li"
        ):
            dataset.dataset(task, [tmp_path])


@pytest.mark.parametrize("name", ["activitynet_cap_test", "activitynet_qa_test", "ocrvqa_test", "vqav2_val"])
def test_names_of_300_letters_are_no_fault(name: str, tmp_path: Path) -> None:
    """Where a format looks whether a folder or a file is there."""
    data, _ = fixture(tmp_path, name)
    for path in (p for p in tmp_path.rglob("*.json") if p.is_file()):
        text = path.read_text()
        for sample in data.samples:
            for stem in {Path(i.path).stem for i in sample.images}:
                text = text.replace(stem, "x" * 300)
        path.write_text(text)
    try:
        images = [i for s in dataset.dataset(data.task, [tmp_path]).samples for i in s.images]
    except DataError as error:
        images = []
        said = str(error)
    else:
        said = ""
    assert "raised" not in said
    for image in images:
        if len(Path(image.path).name) > 255:
            with pytest.raises(ImageError, match="cannot be read"):
                sources.read_bytes(image)


def test_a_folder_that_becomes_a_link_is_looked_at_again(tmp_path: Path) -> None:
    """Folders are resolved once each, but not once and for all."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "pictures", outside):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(picture())
    ref = ImageRef(str(root / "pictures/a.png"), within=door.places([root]))
    assert sources.read_bytes(ref) == picture()
    (root / "pictures").rename(root / "before")
    (root / "pictures").symlink_to(outside)
    with pytest.raises(ImageError, match=OUTSIDE):
        sources.read_bytes(ref)
    with pytest.raises(ImageError, match=OUTSIDE):
        sources.read_bytes(ImageRef(str(root / "before/../../outside/a.png"), within=ref.within))
