"""What every benchmark of ratios prints and writes: rows in turn, as text and as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass
class Row:
    """One line of the table: how many times less CPU time ours takes than `against`."""

    name: str
    against: str
    ratio: float
    at_least: float
    spread: tuple[float, float] = (0.0, 0.0)  # lowest and highest of the rounds
    same: str = ""  # how far both sides' answers are equal
    each: str = ""  # both sides' time or memory


def run(
    about: str | None,
    rows: Mapping[str, Callable[[int, bool], Sequence[Row]]],
    argv: Sequence[str] | None = None,
) -> int:
    """Prints the rows that the command line asks for (each made with the rounds and whether to be quick);
    status 1 when a row is below its bar."""
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", nargs="*", choices=list(rows), default=list(rows))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer samples; for trying out")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    found: list[Row] = []
    for name in asked.only:
        for row in rows[name](asked.rounds, asked.quick):
            found.append(row)
            low, high = row.spread
            print(
                f"{row.ratio:6.2f} x (at least {row.at_least:.2f}; {low:.2f} to {high:.2f})  {row.name} "
                f"against {row.against}: {row.each}; same: {row.same or 'not compared'}",
                flush=True,
            )
    if asked.json:
        asked.json.write_text(json.dumps([asdict(r) for r in found], indent=1) + "\n")
    return int(any(r.ratio < r.at_least for r in found))
