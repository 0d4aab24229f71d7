"""A training run's checkpoints as they appear: which are complete, the trend, the best, drops.

Knows folders, answered runs and comparisons; not how a checkpoint is evaluated or printed.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evalkit import baseline, compare, significance
from evalkit.baseline import Answered
from evalkit.compare import TaskResult
from evalkit.errors import UserError
from evalkit.results import RunFolder, atomic_write

PATTERN = "checkpoint-*"  # as the transformers trainer names them
SCHEMA = 1
Stamp = tuple[tuple[str, int, int], ...]
"""(name, bytes, mtime) of every file of a checkpoint."""


# --- checkpoints on disk ----------------------------------------------------------------------------------


def checkpoints(folder: Path, pattern: str = PATTERN) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint folder below, by step: the last number in its name.

    Raises UserError when the folder is not there.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the output folder of the training run")
    found = []
    for path in folder.glob(pattern):
        numbers = re.findall(r"\d+", path.name)
        if path.is_dir() and numbers:
            found.append((int(numbers[-1]), path))
    return sorted(found)


def lacks(folder: Path) -> str:
    """What a checkpoint still lacks to be complete, or ''.

    Complete: a config, and every safetensors file (those of the index, where there is one) as long as
    its own header says. A trainer that is still writing fails this.
    """
    try:
        adapter = (folder / "adapter_config.json").is_file()
        if not adapter and not (folder / "config.json").is_file():
            return "config.json"
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            files = [folder / name for name in sorted(named)]
        else:
            files = [folder / ("adapter_model.safetensors" if adapter else "model.safetensors")]
        for file in files:
            if not file.is_file():
                return str(file.name)
            if not _whole(file):
                return f"the end of {file.name}"
    except (OSError, ValueError, KeyError, AttributeError):
        return "a readable index"
    return ""


def _whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says: 8 bytes, the header, the tensors."""
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        size = file.stat().st_size
        if not 2 <= length <= size - 8:
            return False
        header = json.loads(opened.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return bool(size == 8 + length + max(ends, default=0))


def stamp(folder: Path) -> Stamp:
    """What changes while a checkpoint is written."""
    files = [p for p in sorted(folder.iterdir()) if p.is_file()]
    return tuple((p.name, s.st_size, s.st_mtime_ns) for p in files for s in [p.stat()])


# --- what is known so far -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """One checkpoint's scores: (task, metric as spelled) to (value, low, high, n)."""

    step: int
    name: str
    runs: tuple[str, ...]  # run folders, below the output folder
    values: Mapping[str, tuple[float, float | None, float | None, int]]  # "task metric"
    mean: float  # over tasks of the first metric, turned so that more is better
    drops: tuple[str, ...] = ()  # sentences
    hooked: bool = False


@dataclass
class Trend:
    """The checkpoints seen so far, kept in `watch.json` so that a restart goes on."""

    path: Path
    points: list[Point] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Trend:
        if not path.is_file():
            return cls(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            points = [
                Point(**{**p, "runs": tuple(p["runs"]), "drops": tuple(p["drops"]),
                         "values": {k: tuple(v) for k, v in p["values"].items()}})
                for p in content["points"]
            ]  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged ({error}); move it away to start over") from None
        return cls(path, points)

    def save(self) -> None:
        self.points.sort(key=lambda p: p.step)
        content = {"schema": SCHEMA, "points": [asdict(p) for p in self.points]}
        atomic_write(self.path, json.dumps(content, indent=1) + "\n")
        atomic_write(self.path.with_suffix(".csv"), self.to_csv())
        atomic_write(self.path.with_suffix(".html"), to_html(self))

    def names(self) -> set[str]:
        return {p.name for p in self.points}

    @property
    def best(self) -> Point | None:
        """The checkpoint with the highest mean over tasks; the earlier one of two equal."""
        return max(self.points, key=lambda p: (p.mean, -p.step), default=None)

    def runs(self, point: Point) -> list[Answered]:
        """The runs of a point that are still there."""
        folders = [RunFolder(self.path.parent / name) for name in point.runs]
        return [baseline.of_run(f) for f in folders if (f.path / "scores.json").is_file()]

    def to_csv(self) -> str:
        """One line a checkpoint and score."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["step", "checkpoint", "task", "metric", "value", "low", "high", "n", "drop"])
        for p in self.points:
            for key, (value, low, high, n) in p.values.items():
                task, _, metric = key.partition(" ")
                dropped = any(d.startswith(f"{task}:") for d in p.drops)
                writer.writerow([p.step, p.name, task, metric, value, low, high, n, int(dropped)])
        return out.getvalue()


def point(step: int, name: str, runs: Sequence[Answered], drops: Sequence[str] = ()) -> Point:
    """A checkpoint's place in the trend."""
    values = {f"{r.task} {s.metric}": (s.value, s.low, s.high, s.n) for r in runs for s in r.scores.values()}
    firsts = [r.scores[r.first] for r in runs]
    turned = [1 - s.value if s.lower_is_better else s.value for s in firsts]
    return Point(step, name, tuple(r.run for r in runs), values, sum(turned) / len(turned), tuple(drops))


def drops(
    new: Sequence[Answered], old: Sequence[Answered], name: str, allow: Collection[str] = ()
) -> list[str]:
    """Sentences for the tasks on which `new` is significantly worse than `old` (5 %, Holm over tasks)."""
    before = {r.task: r for r in old}
    results: list[TaskResult] = [
        compare.task_result(before[r.task], r, allow, compare.MARGIN) for r in new if r.task in before
    ]
    adjusted = significance.adjust([r.first.found.p for r in results])
    found = []
    for result, p in zip(results, adjusted, strict=True):
        d = result.first.found
        if p <= compare.ALPHA and d.value < 0:
            found.append(
                f"{result.task}: {result.first.spelled} fell by {-100 * d.value:.1f} "
                f"[{-100 * d.high:.1f}, {-100 * d.low:.1f}] against {name}"
            )
    return found


# --- for the eye --------------------------------------------------------------------------------------------

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float]) -> str:
    """Values as a line of blocks, the lowest and highest of them at its ends."""
    low, high = min(values), max(values)
    span = high - low or 1.0
    return "".join(_BARS[min(7, int(8 * (v - low) / span))] for v in values)


def table(trend: Trend) -> str:
    """Checkpoints × scores with error bars, a sparkline a score, the best named."""
    if not trend.points:
        return "no checkpoint yet\n"
    keys = list(dict.fromkeys(k for p in trend.points for k in p.values))
    header = ["checkpoint", *keys]
    rows = [[p.name, *(_shown(p.values.get(k)) for k in keys)] for p in trend.points]
    lines = [sparkline([p.values[k][0] for p in trend.points if k in p.values][-20:]) for k in keys]
    rows.append(["trend", *lines])
    widths = [max(len(h), *(len(r[i]) for r in rows)) for i, h in enumerate(header)]
    out = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in [header, *rows]]
    best = trend.best
    assert best is not None
    out.append(f"best: {best.name}, mean over tasks {100 * best.mean:.1f}")
    return "\n".join(out) + "\n"


def to_html(trend: Trend) -> str:
    """A page with one curve a score, 95 % error bars, drops in red; nothing loaded from elsewhere."""
    keys = list(dict.fromkeys(k for p in trend.points for k in p.values))
    curves = "\n".join(f"<h3>{html.escape(k)}</h3>\n{_curve(trend.points, k)}" for k in keys)
    best = trend.best
    named = f"<p>best: {html.escape(best.name)}, mean over tasks {100 * best.mean:.1f}</p>" if best else ""
    fallen = "".join(f"<li>{html.escape(f'{p.name}: {d}')}</li>" for p in trend.points for d in p.drops)
    style = "body{font:14px sans-serif}svg{background:#fafafa}"
    head = f'<!doctype html>\n<meta charset="utf-8">\n<title>evalkit watch</title>\n<style>{style}</style>'
    return f"{head}\n{named}\n<ul>{fallen}</ul>\n{curves}\n"


def _curve(points: Sequence[Point], key: str) -> str:
    """An SVG of 600 x 160: steps to the right, the score upwards."""
    shown = [(p, *p.values[key][:3]) for p in points if key in p.values]
    lows = [v if low is None else low for _, v, low, _ in shown]
    highs = [v if high is None else high for _, v, _, high in shown]
    bottom, span = min(lows), (max(highs) - min(lows)) or 1.0
    first, width = shown[0][0].step, (shown[-1][0].step - shown[0][0].step) or 1
    xs = [20 + 560 * (p.step - first) / width for p, *_ in shown]

    def y(value: float) -> float:
        return 145 - 125 * (value - bottom) / span

    line = " ".join(f"{x:.1f},{y(v):.1f}" for x, (_, v, _, _) in zip(xs, shown, strict=True))
    parts = [f'<polyline points="{line}" fill="none" stroke="#36c"/>']
    for x, (p, v, _, _), low, high in zip(xs, shown, lows, highs, strict=True):
        colour = "#c33" if any(d.startswith(f"{key.partition(' ')[0]}:") for d in p.drops) else "#36c"
        told = html.escape(f"{p.name}: {100 * v:.1f} [{100 * low:.1f}, {100 * high:.1f}]")
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{colour}"/>'
        )
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y(v):.1f}" r="3" fill="{colour}"><title>{told}</title></circle>'
        )
    return f'<svg width="600" height="160" viewBox="0 0 600 160">{"".join(parts)}</svg>'


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    v, low, high, _ = value
    return f"{100 * v:.1f}" + ("" if low is None or high is None else f" ±{50 * (high - low):.1f}")
