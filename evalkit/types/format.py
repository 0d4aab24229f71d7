"""What a format is: a dataset's files to samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from evalkit.types.samples import Sample, Source


class Format(ABC):
    """How a dataset is stored on disk, and its reader. One frozen dataclass per file in `formats/`."""

    fields: ClassVar[tuple[str, ...]] = ()  # what a prompt may name; (): depends on the sample
    keys: ClassVar[tuple[str, ...]] = ("path", "images")  # keys that a source entry must have
    hub: ClassVar[bool] = False  # whether it also reads datasets of the hub
    gives: ClassVar[tuple[str, ...]] = ()  # kinds of targets (TARGETS) that it may give; (): not checked

    @abstractmethod
    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        """The samples in file order. Raises DataError naming file, key and what would be right.

        What is odd, but leaves the rest usable, is added to `source.remarks`.
        """

    def without_target(self, source: Source, split: str) -> str:
        """What the samples without a target have instead (keys, how often, the nearest right one), or ''."""
        return ""
