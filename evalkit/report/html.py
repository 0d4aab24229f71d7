"""Pages of HTML that need nothing else: no script, nothing loaded; light and dark as the reader has it.

Knows text, numbers and places on a curve; not runs or scores.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

STYLE = """
:root{color-scheme:light dark;--line:#d8dbe0;--soft:#5b6470;--band:#f4f6f8;--page:#fff;--ink:#1b1f24;
 --curve:#2457c5;--bad:#c62f2f;--best:#dff0e2}
@media(prefers-color-scheme:dark){:root{--line:#3a4048;--soft:#9aa4b0;--band:#1f242a;--page:#15181c;--ink:#e6e9ed;
 --curve:#7fa7ff;--bad:#ff7b72;--best:#1d3b27}}
body{font:14px/1.45 system-ui,sans-serif;margin:1.2em;background:var(--page);color:var(--ink)}
h1{font-size:1.3em;margin:0 0 .6em}p,li{max-width:110ch;color:var(--soft);margin:.3em 0}
.wide{overflow:auto;width:fit-content;max-width:100%;max-height:92vh;
 border:1px solid var(--line);border-radius:6px}
table{border-collapse:separate;border-spacing:0;font-variant-numeric:tabular-nums}
th,td{padding:3px 10px;text-align:left;vertical-align:top;white-space:nowrap;
 border-bottom:1px solid var(--line)}
th{font-weight:600;background:var(--band)}thead{position:sticky;top:0;z-index:2}
thead th{vertical-align:bottom}
thead th.n{white-space:normal;overflow-wrap:anywhere;text-align:right;min-width:6.5em;max-width:16em}
tbody th,thead tr:first-child th:first-child{position:sticky;left:0;z-index:1}
td.n{text-align:right}td.best{text-align:right;background:var(--best);font-weight:600}small{color:var(--soft);font-weight:400}
.curves{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(430px,100%),1fr));gap:1em;margin-top:1em}
figure{margin:0;padding:.6em;border:1px solid var(--line);border-radius:6px}
figcaption{overflow-wrap:anywhere}svg{width:100%;height:auto;display:block}
svg text{font-size:11px;fill:var(--soft)}.grid{stroke:var(--line)}
.curve{fill:none;stroke:var(--curve);stroke-width:1.5}.bar{stroke:var(--curve);opacity:.45}
.band{fill:var(--curve);opacity:.13}
.line1{--curve:#c2700a}.line2{--curve:#1f8a5b}.line3{--curve:#a24bb8}.line4{--curve:#0f8fa8}.line5{--curve:#8a7a1f}
.key span{color:var(--curve)}
circle{fill:var(--curve)}a{color:inherit}.bad{fill:var(--bad);stroke:var(--bad)}
"""
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 430, 180, 46, 12, 10, 24
_COLOURS = 6  # `.line1` to `.line5` of STYLE, and the usual one; more lines begin anew


def page(title: str, body: str) -> str:
    """A whole page."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n{body}</html>\n"
    )


@dataclass(frozen=True)
class Spot:
    """One point of a curve; `label` is shown when it is pointed at, `bad` draws it in red."""

    x: int
    y: float
    low: float
    high: float
    label: str
    bad: bool = False


def curve(spots: Sequence[Spot]) -> str:
    """An SVG of the points in order of x, with a band and bars of the intervals, three to six lines of a
    round scale, and the first and last x."""
    return chart([spots])


def chart(lines: Sequence[Sequence[Spot]]) -> str:
    """As `curve`, of several lines on one scale, in the colours of `legend`; none is empty."""
    every = [spot for spots in lines for spot in spots]
    bottom, top, step = _scale(min(s.low for s in every), max(s.high for s in every))
    first, last = min(s.x for s in every), max(s.x for s in every)
    inner, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + (inner * (value - first) / (last - first) if last > first else inner / 2)

    def y(value: float) -> float:
        return _TOP + tall * (top - value) / (top - bottom)

    parts = []
    digits = max(0, -math.floor(math.log10(step)))
    for i in range(round((top - bottom) / step) + 1):
        level = bottom + i * step
        up = y(level)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up:.1f}" y2="{up:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{up + 4:.1f}" text-anchor="end">{level:.{digits}f}</text>')
    for place, anchor in ((first, "start"), (last, "end")) if last > first else ((first, "middle"),):
        parts.append(f'<text x="{x(place):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{place:,}</text>')
    for number, spots in enumerate(lines):
        parts.append(f'<g class="line{number % _COLOURS}">{_line(spots, x, y)}</g>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'


def legend(names: Sequence[str]) -> str:
    """Which colour of a `chart` is whose."""
    each = (f'<span class="line{i % _COLOURS}">■</span> {html.escape(n)}' for i, n in enumerate(names))
    return f'<p class="key">{" &nbsp; ".join(each)}</p>'


def _line(spots: Sequence[Spot], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """One line with its band, bars and points."""
    parts = []
    if len(spots) > 1:
        around = [(s.x, s.high) for s in spots] + [(s.x, s.low) for s in reversed(spots)]
        edge = " ".join(f"{x(at):.1f},{y(level):.1f}" for at, level in around)
        parts.append(f'<polygon class="band" points="{edge}"/>')
    line = " ".join(f"{x(s.x):.1f},{y(s.y):.1f}" for s in spots)
    parts.append(f'<polyline class="curve" points="{line}"/>')
    for s in spots:
        at, bad = f"{x(s.x):.1f}", " bad" if s.bad else ""
        parts.append(f'<line class="bar{bad}" x1="{at}" x2="{at}" y1="{y(s.low):.1f}" y2="{y(s.high):.1f}"/>')
        parts.append(
            f'<circle class="spot{bad}" cx="{at}" cy="{y(s.y):.1f}" r="{4 if s.bad else 3}">'
            f"<title>{html.escape(s.label)}</title></circle>"
        )
    return "".join(parts)


def _scale(low: float, high: float) -> tuple[float, float, float]:
    """(bottom, top, step) of a scale that holds both, its step 1, 2 or 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 3))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= 5)
    bottom = math.floor(low / step) * step
    top = math.ceil(high / step) * step
    return bottom, top if top > bottom else bottom + step, step
