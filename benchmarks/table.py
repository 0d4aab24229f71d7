"""The table that every benchmark of ratios prints and writes: row by row, as text and as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass
class Row:
    """One line of the table: `ratio` is the CPU time (or memory) of `against` over ours."""

    name: str
    against: str
    ratio: float
    at_least: float
    spread: tuple[float, float] = (0.0, 0.0)  # lowest and highest of the rounds
    same: str = ""  # how many of both sides' answers are equal, or within which tolerance
    each: str = ""  # both sides' time or memory


def run(
    about: str | None,
    rows: Mapping[str, Callable[[int, bool], Sequence[Row]]],
    argv: Sequence[str] | None = None,
) -> int:
    """Prints the rows that the command line selects (each made from the number of rounds and `--quick`);
    status 1 when a row's ratio is below `at_least`."""
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", nargs="*", choices=list(rows), default=list(rows))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer samples; for trying out")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    found: list[Row] = []
    for name in arguments.only:
        for row in rows[name](arguments.rounds, arguments.quick):
            found.append(row)
            low, high = row.spread
            print(
                f"{row.ratio:6.2f} x (at least {row.at_least:.2f}; {low:.2f} to {high:.2f})  {row.name} "
                f"against {row.against}: {row.each}; same: {row.same or 'not compared'}",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in found], indent=1) + "\n")
    return int(any(r.ratio < r.at_least for r in found))
