"""`evalkit report` of very many samples: CPU time, wall time, peak memory and bytes, and their limits.

    python -m benchmarks.report [--samples 100000] [--folder KEPT]

Two runs are generated, five questions about each photo of 640 by 480. The report is built, and built again
over itself, whose pictures are then there. Pictures are compared with Pillow's plain way.
Memory is what the system counted, so this runs on Linux. Status 1 where a limit is passed.
"""

from __future__ import annotations

import argparse
import io
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageFilter

from benchmarks import many
from evalkit.images.thumbnail import thumbnail
from evalkit.types import ImageRef
from evalkit.viewer.pictures import SMALLEST

MINUTES = 3.0  # on two cores, for 100,000 samples
MEMORY = 300 * many.MIB  # for 100,000 samples
FIRST = 2_000_000  # bytes that the first page loads
SAMPLES = 100_000


def photos(count: int) -> Iterator[bytes]:
    """JPEGs about as large and as rich as a phone's, each with bytes of its own."""
    draw, bases = random.Random(0), []
    for _ in range(12):
        small = Image.frombytes("RGB", (64, 48), draw.randbytes(64 * 48 * 3)).filter(
            ImageFilter.GaussianBlur(2)
        )
        file = io.BytesIO()
        small.resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        bases.append(file.getvalue())
    for i in range(count):
        yield bases[i % len(bases)] + b"%d" % i


def prepared(folder: Path, count: int) -> None:
    """The data and both runs, unless they are there."""
    if (folder / "results").exists():
        return
    many.samples(folder, count)
    images = sorted((folder / "images").iterdir())
    for path, photo in zip(images, photos(len(images)), strict=True):
        path.write_bytes(photo)
    for name in ("first", "second"):
        command = ["run", "--model", f"replay:{name}.jsonl", "--tasks", "many.yaml", "--data-root", "."]
        done = many.evalkit(many.HERE, folder, command)
        assert done.status == 0, done.text


def first_page(report: Path) -> int:
    """Bytes of what is loaded before anything is asked for: the page and the report's own data."""
    files = [report / "index.html", report / "data/report.js", *(report / "page").rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".md")


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def pictures(count: int) -> tuple[float, float]:
    """(ours, Pillow's plain way) in seconds of one core for a picture."""
    some = list(photos(count))
    started = time.process_time()
    for photo in some:
        thumbnail(photo, SMALLEST, "ignore", ImageRef("photo"))
    ours = time.process_time() - started
    started = time.process_time()
    for photo in some:
        with Image.open(io.BytesIO(photo)) as image:
            small = image.convert("RGB").resize((SMALLEST, SMALLEST * 3 // 4), Image.Resampling.LANCZOS)
            small.save(io.BytesIO(), "JPEG")
    return ours / count, (time.process_time() - started) / count


def measured(folder: Path, count: int) -> list[str]:
    """Prints the figures; what passes its limit."""
    report, wrong = folder / "REPORT", []
    for name in ("built", "built again"):
        started = time.monotonic()
        done = many.evalkit(many.HERE, folder, ["report", "results", "--output", "REPORT"])
        wall = time.monotonic() - started
        assert done.status == 0, done.text
        print(
            f"{name:12} {done.seconds:6.1f} s CPU {wall:6.1f} s  {done.peak / many.MIB:5.0f} MiB", flush=True
        )
        if done.peak > MEMORY * max(1.0, count / SAMPLES):
            wrong.append(f"{name}: more than {MEMORY // many.MIB} MiB")
        if done.seconds > 2 * 60 * MINUTES * max(0.1, count / SAMPLES):
            wrong.append(f"{name}: more than {MINUTES:g} minutes on two cores")
    whole, thumbs, first = size(report), size(report / "thumbs"), first_page(report)
    print(f"first page {first:,} bytes; without pictures {whole - thumbs:,}; pictures {thumbs:,}")
    if first > FIRST:
        wrong.append(f"first page: more than {FIRST:,} bytes")
    ours, plain = pictures(200)
    print(f"a picture takes {1000 * ours:.2f} ms, Pillow's plain way {plain / ours:.1f} times as long")
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the figures; 1 where a limit is passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--folder", type=Path, help="kept, and used again where it is there")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        prepared(folder, given.samples)
        wrong = measured(folder, given.samples)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
