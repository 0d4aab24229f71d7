"""The results of all parts in Markdown, as printed and as a section of docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BEGIN, END = "<!-- python -m benchmarks.gpu --render: begin -->", "<!-- end -->"


def markdown(found: Mapping[str, Any]) -> str:
    """All parts that there are, with the device's name."""
    about_device = facts(found)
    head = "Rehearsal on a CPU at toy sizes: no figure means anything. " if found["rehearsal"] else ""
    about = [
        f"{about_device[key]}{unit}"
        for key, unit in (("memory_gib", " GiB"), ("capability", " (compute capability)"))
        if key in about_device
    ]
    made = ", ".join([about_device["name"], *about])
    with_ = ", ".join(
        f"{label} {about_device[key]}"
        for key, label in (
            ("torch", "torch"),
            ("transformers", "transformers"),
            ("cuda", "CUDA"),
            ("driver", "driver"),
        )
        if about_device.get(key)
    )
    lines = [f"{head}{made}; {with_}.", ""]
    for name, part in found["parts"].items():
        if part["ended"] != "whole":
            lines += [
                f"`{name}`: {part['ended']} after {part.get('seconds', 0):.0f} s; its rows so far:",
                "",
            ]
        lines += [line for table in PARTS[name] for line in table(part)]
        lines += [*(f"- {note}" for note in part["notes"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the first part that got so far says of the device."""
    each = (part["facts"] for part in found["parts"].values() if "facts" in part)
    return next(each, {"name": "a device of which nothing is known"})


def placed(text: str, section: str) -> str:
    """`text` with `section` between the markers, which it must have."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{section}{END}{after}"


def _answers(part: Mapping[str, Any]) -> list[str]:
    marks = {True: "yes", False: "**no**", None: "not run"}
    rows = [(row["check"], marks[row["ok"]], row["said"]) for row in part["rows"] if "check" in row]
    return _table(("same answers", "as they should be", "what was found"), rows)


def _throughput(part: Mapping[str, Any]) -> list[str]:
    speed, rows = part.get("speed"), []
    ours: dict[tuple[Any, ...], float] = {}
    for row in part["rows"]:
        case = row["model"], row["px"], row["work"]
        if "samples_a_second" not in row:
            rows.append((*case, row["who"], row["said"], *[""] * 6))
            continue
        rate = row["samples_a_second"]
        if row["who"] == "evalkit":
            ours[case] = rate
        times = f"{ours[case] / rate:.2f}" if case in ours and row["who"] != "evalkit" else ""
        rows.append((
            *case, row["who"], _number(rate), times, _share(row["share"]), _share(row["share_with_savings"]),
            _number(row["memory_gib"]), _share(row["busy"]), row.get("equal", ""),
        ))  # fmt: skip
    head = (
        "model", "px", "work", "who", "samples/s", "evalkit is × as fast", "share of the ceiling",
        "with the exact savings", "GiB beside the weights", "GPU busy", "first answers equal",
    )  # fmt: skip
    lines = _table(head, rows)
    if speed:
        lines += [
            f"The ceiling is computed from {speed['teraflops']:.0f} TFLOP/s (a large bfloat16 product) and "
            f"{speed['terabytes_a_second']:.2f} TB/s (a copy), both measured first. Random weights.",
            "",
        ]
    return lines


def _ladder(part: Mapping[str, Any]) -> list[str]:
    rows = [
        (r["switch"], r["work"], r.get("rows", ""), _number(r.get("samples_a_second")) or r["said"],
         _number(r.get("first_seconds")), _number(r.get("memory_gib")))
        for r in part["rows"] if "switch" in r
    ]  # fmt: skip
    lines = _table(
        ("switch", "work", "rows of a batch", "samples/s", "s of the first pass", "GiB beside the weights"),
        rows,
    )
    for row in part["rows"]:
        if "profile" not in row:
            continue
        lines += [
            f"{row['profile']}, four batches: {1e3 * row['seconds']:.0f} ms, in {_share(row['busy'])} of "
            f"which a kernel ran, and {1e3 * row['host_seconds']:.0f} ms of this process's CPU time; "
            f"{row['calls']} kernels. Under the profiler {1e3 * row['traced_seconds']:.0f} ms, with "
            f"{1e3 * row['gaps_traced']:.0f} ms between kernels. The longest:",
            "",
            *_table(
                ("kernel", "calls", "ms"), [(f"`{n}`", c, _number(1e3 * s)) for n, c, s in row["kernels"]]
            ),
        ]
    return lines


def _feeding(part: Mapping[str, Any]) -> list[str]:
    rows = [
        (r["images"], r["px"], r["way"], f"{r['workers']} × {r['readers']}", _number(r["images_a_second"]),
         _number(r["parent_ms"]), _number(r["tower"]))
        for r in part["rows"] if "readers" in r
    ]  # fmt: skip
    head = (
        "images", "px", "preparation", "readers", "images/s", "ms of the parent's CPU an image",
        "images/s of the tower",
    )  # fmt: skip
    return _table(head, rows)


PARTS = {
    "answers": (_answers,),
    "throughput": (_throughput,),
    "ladder": (_ladder,),
    "feeding": (_feeding,),
    "fused": (_answers, _ladder),
}


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    rows = list(rows)
    if not rows:
        return []

    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *map(line, rows), ""]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"
