"""The errors a user can fix, each a single sentence: `file: key: what is wrong; what would be right`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class UserError(Exception):
    """A mistake in what the user gave; the command line prints its `sentences`, a line each, and exits with
    2."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is wrong, a sentence for each kind of mistake."""
        return (str(self),)


class DataError(UserError):
    """A dataset that is missing, damaged or not as its format requires."""


class ImageError(DataError):
    """One image that cannot be read; `--on-bad-image skip` may leave its sample out."""


class ModelError(UserError):
    """A checkpoint that cannot be evaluated as asked."""


class ResultsError(UserError):
    """A results folder that is in use, is damaged or belongs to something else."""


class Damaged(ResultsError):
    """A file of a run that is damaged and can be written again; the message names the command."""


class MetricsFailed(DataError):
    """Some metrics of a task failed; the others are scored and stored: `scores`."""

    def __init__(self, why: str, scores: Sequence[Any]) -> None:
        self.scores = tuple(scores)
        super().__init__(why)

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.scores)


class TasksFailed(UserError):
    """Some tasks of several could not be done; the others were.

    `failures` says why, by task or by run; `runs` are the finished runs, also those of `evalkit.run`.
    `done` counts those that failed in nothing; a run may have failed in a metric and be among `runs`.
    `status` is the exit status: 1 where anything was done, else 2.
    """

    def __init__(self, failures: Mapping[str, Exception], runs: Sequence[Any], done: int) -> None:
        self.failures, self.runs, self.done = dict(failures), runs, done
        self.status = 1 if done or runs else 2
        super().__init__("; ".join(map(str, failures.values())))

    def __reduce__(self) -> Any:
        return type(self), (self.failures, self.runs, self.done)

    @property
    def summary(self) -> str:
        """`1 of 3 failed, the others are done`."""
        asked = len(self.failures) + self.done
        if all(isinstance(error, MetricsFailed) for error in self.failures.values()):
            return f"{len(self.failures)} of {asked} failed in a metric, everything else is done"
        others = "the others are done; the same command goes on" if self.runs else "nothing was done"
        return f"{len(self.failures)} of {asked} failed, {others}"


def nearest(name: str, names: Iterable[str], limit: int = 3, most: int = 40) -> str:
    """`; did you mean a, b?` for the names close to `name`, else `; there are: ...`, at most so many."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=limit, cutoff=0.6)
    if close:
        return f"; did you mean {', '.join(close)}?"
    if not known:
        return "; there are none"
    shown = ", ".join(known[:most]) + (f", ... ({len(known):,} in all)" if len(known) > most else "")
    return f"; there are: {shown}"


def meant(name: str, names: Iterable[str]) -> str:
    """`; did you mean a?`, or '' where no name is close."""
    near = nearest(name, names)
    return near if "did you mean" in near else ""
