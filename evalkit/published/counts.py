"""What a wrong number of samples looks like: `results/counts.csv`, known wrong counts and their causes.

Reads no dataset.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable
from fnmatch import fnmatchcase

from evalkit.errors import UserError
from evalkit.published.numbers import place


@functools.cache
def load() -> tuple[tuple[str, int, str], ...]:
    """(pattern of task names, count, what has that count), in the order of the file."""
    path = place().with_name("counts.csv")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple((row["task"], int(row["count"]), row["resembles"]) for row in csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; it is part of evalkit: install evalkit again") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: is damaged ({error}); it is part of evalkit: install evalkit again"
        ) from None


def resembles(task: str, found: int, official: Iterable[tuple[str, int]] = ()) -> list[str]:
    """What a wrong count looks like: known wrong counts, else tasks of the same dataset that have it.

    `official` has the (name, count) of tasks; names of one dataset begin with the same word.
    """
    known = [what for pattern, n, what in load() if n == found and fnmatchcase(task, pattern)]
    family = task.partition("_")[0]
    same = [name for name, n in official if n == found and name != task and name.partition("_")[0] == family]
    return known or ([f"that of {', '.join(same[:3])}"] if same else [])
