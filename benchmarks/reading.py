"""Reading images ahead: threads against processes, and the cache of prepared images, without a model.

    python -m benchmarks.reading [--workers 2] [--images 200]

For each: images per second of wall time, and the parent process's CPU time per image, during which its
interpreter cannot feed a GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import work
from evalkit.images import prepare
from evalkit.images.cache import ENVIRONMENT
from evalkit.models.paligemma.batching import image_readers
from evalkit.models.paligemma.batching.batches import Keying
from evalkit.types import ImageRef, Preparation

PREPARATIONS = {
    "paper, 224 px": Preparation(224, "bilinear", False, "fast"),
    "hf, 224 px": Preparation(224, "bicubic", True, "precise"),
    "hf, 448 px": Preparation(448, "bicubic", True, "precise"),
    "hf, 896 px": Preparation(896, "bicubic", True, "precise"),
}


def measure(
    kind: str,
    workers: int,
    paths: Sequence[str],
    preparation: Preparation,
    send: Callable[[str, Any], None] | None = None,
) -> dict[str, Any]:
    """One pass over the files by `workers` readers that are already running, up to 32 images ahead; threads
    `send` each image."""
    read = Keying(prepare.prepare, send)
    pool = image_readers.Readers(kind, workers).pool()
    for future in [pool.submit(read, ImageRef(p), preparation) for p in paths[: 4 * workers]]:
        future.result()
    wall, parent = time.perf_counter(), time.process_time()
    ahead = []
    for path in paths:
        ahead.append(pool.submit(read, ImageRef(path), preparation))
        if len(ahead) > 32:
            ahead.pop(0).result()
    for future in ahead:
        future.result()
    wall, parent = time.perf_counter() - wall, time.process_time() - parent
    pool.shutdown()
    return {"images a second": len(paths) / wall, "parent": 1e3 * parent / len(paths)}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args(argv)
    os.environ.pop(ENVIRONMENT, None)
    with tempfile.TemporaryDirectory() as name:
        os.environ["EVALKIT_CACHE"] = name
        paths = [work.picture(Path(name) / "pictures", i) for i in range(arguments.images)]
        for title, preparation in PREPARATIONS.items():
            for kind in image_readers.KINDS:
                _print(f"{title}, {kind}", measure(kind, arguments.workers, paths, preparation))
            os.environ[ENVIRONMENT] = "4"
            measure("thread", arguments.workers, paths, preparation)
            _print(
                f"{title}, thread, found in the cache",
                measure("thread", arguments.workers, paths, preparation),
            )
            del os.environ[ENVIRONMENT]
    return 0


def _print(name: str, found: dict[str, Any]) -> None:
    print(
        f"{name}: {found['images a second']:.0f} images/s, {found['parent']:.2f} ms of the parent's CPU each",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
