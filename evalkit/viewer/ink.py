"""How figures for papers look: the page's colours, lines and shapes, letters as text, no dates."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from typing import Any

from evalkit.errors import UserError
from evalkit.printing import one_line

# Of the checkpoints in their order, as page/style.css and page/charts.js have them for light pages.
COLOURS = ("#b45f00", "#0068a8", "#a3467c", "#6a5200", "#5a4fcf", "#b3261e", "#00757d", "#4d5a66")
DASHES = ((10, 5), (3, 3), (10, 3, 2, 3), (16, 5), (5, 3), (8, 3, 2, 3, 2, 3), (1, 3), (12, 3, 4, 3))
SHAPES = ("o", "s", "^", "v", "H", "P")
HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "++++", "||||")
INK, SOFT, FAINT = "#1b1f24", "#57606a", "#d8dbe0"
WIDTHS = {"one": 3.35, "two": 6.9}  # inches, of a column and of a page of two columns
DPI = 300
FORMS = ("svg", "pdf", "png")
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # the one that comes with matplotlib
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "text.parse_math": False,  # a class may be called "$5"
    "svg.fonttype": "none",
    "svg.hashsalt": "evalkit",
    "pdf.fonttype": 42,
}


def refuse_missing() -> None:
    """Raises UserError where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("evalkit plot: matplotlib is not installed; pip install 'evalkit[plot]'")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Matplotlib as figures need it, whatever a matplotlibrc says."""
    from matplotlib import style as known

    with known.context(["default", STYLE], after_reset=True):
        yield


def colour(run: int) -> str:
    return COLOURS[run % len(COLOURS)]


def dashes(run: int) -> tuple[int, tuple[float, ...]]:
    """The line of a run: matplotlib measures dashes in widths of the line, the page in pixels."""
    return 0, tuple(length / 2.5 for length in DASHES[run % len(DASHES)])


def shape(run: int) -> str:
    return SHAPES[run % len(SHAPES)]


def hatch(run: int) -> str:
    return HATCHES[run % len(HATCHES)]


def short(text: str, most: int = 30) -> str:
    """Text of one line; of a long one both ends, which tell names of one family apart."""
    line = one_line(text)
    head = most // 2
    return line if len(line) <= most else f"{line[:head]}…{line[head + 1 - most :]}"


def saved(figure: Any, form: str, title: str) -> tuple[bytes, str]:
    """The figure as a file that does not say when it was made; and the characters that its font lacks."""
    out = io.BytesIO()
    metadata: dict[str, Any] = {
        "svg": {"Date": None, "Creator": "evalkit", "Title": title},
        "pdf": {"CreationDate": None, "Creator": "evalkit", "Producer": None, "Title": title},
        "png": {"Software": None, "Title": title},
    }[form]
    with warnings.catch_warnings(record=True) as told, style():
        warnings.simplefilter("always")
        figure.savefig(out, format=form, dpi=DPI, metadata=metadata)
    lost = sorted(
        {str(w.message).split(" ")[1] for w in told if str(w.message).startswith("Glyph ")}, key=int
    )
    return out.getvalue(), "".join(chr(int(code)) for code in lost)
