"""Versions of the outside tools that compute, for signatures."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def version(*packages: str) -> str:
    """`pycocotools 2.0.11`, several joined by commas; "absent" for one that is not installed."""
    return ", ".join(f"{p} {_one(p)}" for p in packages)


def _one(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
