"""The generated benchmark on disk: written once into the user's cache, and used there as a data root."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from evalkit.demo import SCENES, data, mask_decoder
from evalkit.files import cache_folder, refusals

COUNT = 300


def benchmark(scenes: int = COUNT) -> Path:
    """A data root with `shapes/` (official formats, images, mask decoder); made if it does not exist.

    The folder is named by a digest of the generator's source, so a new version never reads old scenes.
    Raises ResultsError where the cache cannot be written.
    """
    code = b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))
    name = f"benchmark-{scenes}-{hashlib.sha256(code).hexdigest()[:12]}"
    root = cache_folder() / "demo" / name
    if root.is_dir():
        return root
    with refusals(root):
        return _made(root, scenes)


def _made(root: Path, scenes: int) -> Path:
    """The data root, complete from the moment that it is there."""
    root.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        data.write(work / SCENES, scenes)
        shutil.copyfile(mask_decoder(), work / SCENES / "vae-oid.npz")
        os.rename(work, root)
    except FileExistsError:  # another process was faster
        shutil.rmtree(work)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)
        if not root.is_dir():
            raise
    return root
