"""The errors a user can fix, each a single sentence: `file: key: what is wrong; what would be right`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave; the command line prints it as one line and exits with 2."""


class DataError(UserError):
    """A dataset that is missing, damaged or not as its format requires."""


class ImageError(DataError):
    """One image that cannot be read; `--on-bad-image skip` may leave its sample out."""


class ModelError(UserError):
    """A checkpoint that cannot be evaluated as asked."""


class ResultsError(UserError):
    """A results folder that is in use, is damaged or belongs to something else."""


def nearest(name: str, names: Iterable[str], limit: int = 3) -> str:
    """`; did you mean a, b?` for the names close to `name`, else `; there are: ...`."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=limit, cutoff=0.6)
    if close:
        return f"; did you mean {', '.join(close)}?"
    if not known:
        return "; there are none"
    shown = ", ".join(known[:40]) + (", ..." if len(known) > 40 else "")
    return f"; there are: {shown}"


def meant(name: str, names: Iterable[str]) -> str:
    """`; did you mean a?`, or '' where no name is close."""
    near = nearest(name, names)
    return near if "did you mean" in near else ""
