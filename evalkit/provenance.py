"""Versions of libraries and tools, the code's commit, and the time: recorded with each number."""

from __future__ import annotations

import datetime
import hashlib
import resource
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pillow", "simplejpeg")
ABSENT = "absent"


def versions() -> dict[str, str]:
    """Versions of the libraries that can change a text, without importing them."""
    found = {name: _one(name) for name in LIBRARIES}
    return {name: version for name, version in found.items() if version != ABSENT}


@cache
def code(*parts: str) -> str:
    """sha256 of the source of some of evalkit's own packages and modules: a version stays while they are
    worked on."""
    here, digest = Path(__file__).parent, hashlib.sha256()
    files = [(here / p).rglob("*.py") if (here / p).is_dir() else [here / f"{p}.py"] for p in parts]
    for path in sorted(file for some in files for file in some):
        digest.update(f"{path.relative_to(here)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def peak_memory() -> int:
    """The most memory in bytes that this process has held so far, all that it did before included."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


@cache  # as it was when it was imported, or nearly: what comes into the files later is not what runs
def commit() -> str | None:
    """The git commit of the code, where it runs from a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def version(*packages: str) -> str:
    """`pycocotools 2.0.11`; several are joined by commas, and a missing one is "absent"."""
    return ", ".join(f"{p} {_one(p)}" for p in packages)


@cache
def _one(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ABSENT
