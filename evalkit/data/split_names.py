"""What names of files and folders call a split."""

from __future__ import annotations

import re

SPLITS = {
    "test": "test", "testing": "test", "valid": "valid", "val": "valid", "validation": "valid",
    "dev": "valid", "eval": "valid", "train": "train", "training": "train",
}  # fmt: skip
"""What names of files and folders call a split, and what is meant."""


def without_split(name: str) -> str:
    """The name with `*` where it says a split: the same for files that differ in their split only."""
    return re.sub("[a-z]+", lambda word: "*" if word[0] in SPLITS else word[0], name.lower())


def split_of(name: str) -> str:
    """The split that a file's or folder's name says (train, valid or test), or ''; the last word counts."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in reversed(words) if word in SPLITS), "")
