"""The files of a checkpoint that a run was planned with: what is loaded must be what the identity names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.errors import ModelError
from evalkit.files import file_digest, forget
from evalkit.opened import State, state_of


@dataclass(frozen=True, slots=True)
class Planned:
    """sha256 of every file that the identity names, and its state when loading began. Empty where nothing was
    planned: then nothing is compared."""

    digests: Mapping[Path, str] = field(default_factory=dict)
    states: Mapping[Path, State | None] = field(default_factory=dict)

    @classmethod
    def now(cls, digests: Mapping[Path, str]) -> Planned:
        """For what is loaded from now on."""
        return cls(digests, {path: state_of(str(path)) for path in digests})

    def names(self, path: Path) -> bool:
        return path in self.digests

    def check(self, path: Path, digest: str) -> None:
        """Raises ModelError unless the bytes that were loaded are the planned ones: `digest` is theirs."""
        if path in self.digests and digest != self.digests[path]:
            forget(path)  # a digest that was remembered may be what is wrong
            raise ModelError(
                f"{path.parent}: {path.name} changed after the run was planned; run the same command again"
            )

    def check_again(self, paths: Iterable[Path]) -> None:
        """Hashes files that were read by somebody else (transformers, zipfile) once more, after they were.
        Raises ModelError unless they are the planned ones, and were not touched while they were read."""
        for path in paths:
            if path not in self.digests:
                continue
            self.check(path, file_digest(path, again=True) if path.is_file() else "")
            if state_of(str(path)) != self.states[path]:
                raise ModelError(
                    f"{path.parent}: {path.name} changed while it was read; run the same command again"
                )
