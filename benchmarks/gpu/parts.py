"""What a part gets, and how it hands on its results: row by row, so that a cut loses little."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from evalkit.files import atomic_write


@dataclass
class Part:
    """One part being run: its device, the seconds that it may take, whether shapes are toys, the folder of
    its results, and one for what is only needed while it runs."""

    name: str
    device: torch.device
    seconds: float
    toy: bool
    folder: Path
    scratch: Path
    begun: float = field(default_factory=time.time)  # when the command started it
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)  # beside rows and notes

    @property
    def file(self) -> Path:
        """Where the results so far are."""
        return self.folder / f"{self.name}.json"

    def left(self) -> float:
        """Seconds until this part is stopped."""
        return self.seconds - (time.time() - self.begun)

    def has(self, seconds: float, what: str) -> bool:
        """Whether so many seconds are left; notes `what` as left out if not. A rehearsal has always time."""
        if self.toy or self.left() >= seconds:
            return True
        self.note(f"{what}: left out, {max(0.0, self.left()):.0f} s were left")
        return False

    def add(self, **row: Any) -> None:
        """Keeps a row of results, on disk at once."""
        self.rows.append(row)
        told = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print(f"{self.name}: {told}", flush=True)
        self.keep()

    def note(self, text: str) -> None:
        """Keeps a sentence that explains the rows; the same one only once."""
        if text in self.notes:
            return
        self.notes.append(text)
        print(f"{self.name}: {text}", flush=True)
        self.keep()

    def keep(self, **more: Any) -> None:
        """Writes what there is, and from now on `more` with it."""
        self.about |= more
        found = {"seconds": time.time() - self.begun, "rows": self.rows, "notes": self.notes, **self.about}
        atomic_write(self.file, json.dumps(found, indent=1) + "\n")
