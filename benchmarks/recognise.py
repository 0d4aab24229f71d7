"""Looking at a folder of many images: all of `evalkit data FOLDER`, and of it whether test images are in the
training split too, against the digests of all files, as sha256sum makes them.

    python -m benchmarks.recognise [--images 100000]

CPU seconds of one process, the files in the page cache. The images are random bytes, of sizes as photos have
them (log-normal), every thousandth of the test split a copy of one in the training split.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from evalkit.printing import put
from evalkit.tasks.layouts import doubts
from evalkit.tasks.layouts.recognise import recognise

TEST = 0.05  # the share of the test split
KILOBYTES = 10.0  # of the median image: 1 GB for all, where photos would need ten times as much


def folder(root: Path, images: int) -> list[Path]:
    """Writes the folder, PaliGemma's lines; returns its images."""
    rng, content = random.Random(0), os.urandom(1 << 20)
    sizes = [max(2000, int(1000 * KILOBYTES * rng.lognormvariate(0, 0.35))) for _ in range(images)]
    first = int(images * (1 - TEST))
    written = []
    for split, numbers in (("train", range(first)), ("test", range(first, images))):
        (root / split).mkdir(parents=True)
        with (root / f"_annotations.{split}.jsonl").open("w") as lines:
            for n in numbers:
                same = n if n % 1000 else n % first
                start = same * 7 % 900_000
                path = root / split / f"{n:06}.jpg"
                path.write_bytes(content[start : start + sizes[same]])
                suffix = "<loc0000><loc0000><loc0100><loc0100> cat"
                told = {"image": f"{split}/{path.name}", "prefix": "detect cat", "suffix": suffix}
                lines.write(json.dumps(told) + "\n")
                written.append(path)
    return written


def seconds(act: Callable[[], object]) -> float:
    """CPU seconds of an act."""
    begun = time.process_time()
    act()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        paths = folder(Path(name), images)
        every = seconds(lambda: [hashlib.sha256(path.read_bytes()).digest() for path in paths])
        looked = recognise(Path(name))
        assert looked.pictures is not None
        whole = min(seconds(lambda: recognise(Path(name))) for _ in range(3))
        pictures = looked.pictures
        compared = min(
            seconds(lambda: doubts.images(looked.root, looked.splits, looked.split, pictures))
            for _ in range(3)
        )
    put(f"{images:,} images: recognised in {whole:.2f} s, of which comparing splits {compared:.2f} s; ")
    put(f"sha256 of all files {every:.2f} s, {every / compared:.1f} times as long as comparing")
    put(looked.doubts[0])


if __name__ == "__main__":
    main()
