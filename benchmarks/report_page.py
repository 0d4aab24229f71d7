"""The report's page in Chromium: how long a reader waits; columns against rows of JSON as viewers often hold.

    python -m benchmarks.report_page REPORT/index.html [--task 0] [--times 5]

`benchmarks.report --folder KEPT` leaves a report of very many samples. Needs playwright, and its Chromium or
the system's. Each figure is the best of several tries, in milliseconds. Status 1 where a limit is passed.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LIMITS = {
    "first page": 1000.0,
    "columns": 100.0,
    "six filters": 200.0,
    "sort": 200.0,
    "search": 200.0,
}  # 100,000
MEASURE = """async (task) => {
  const figures = {"first page": evalkit.drawn};
  const timed = async (name, act) => {
    const from = performance.now();
    const value = await act();
    figures[name] = performance.now() - from;
    return value;
  };
  const packed = await evalkit.load(`columns/${task}`);
  const table = await timed("columns", () => evalkit.columns(task));
  const numbers = table.names.filter((name) => table.columns.get(name).kind === "number").slice(0, 5);
  const flips = table.columns.has("score:1") ? "flip=0-1:both&" : "";
  const six = flips + numbers.map((name) => `${name}=0..`).join("&");
  const select = (query, given) => evalkit.select(table, evalkit.address.parse(query), given || {});
  await timed("six filters", () => select(six));
  await timed("sort", () => select(`sort=${numbers[numbers.length - 1]}:asc`));
  const text = await timed("all text", () => evalkit.texts(task));
  await timed("search", () => select("text=zebra", {text}));
  await timed("chunk of records", () => evalkit.load(`samples/${task}/${Math.floor((table.n - 1) / 500)}`));

  const plain = [...table.columns.values()].filter((c) => c.kind === "number" || c.kind === "flags");
  const rows = Array.from({length: table.n}, (_, i) =>
    Object.fromEntries(plain.map((c) => [c.name, Number.isNaN(c.values[i]) ? null : c.values[i]])));
  const json = JSON.stringify(rows);
  const read = await timed("rows of JSON: read", () => JSON.parse(json));
  const passes = (row) => numbers.every((name) => row[name] !== null && row[name] >= 0);
  await timed("rows of JSON: five filters", () => read.filter(passes));
  return {figures, n: table.n, packed: packed.data.length, json: json.length};
}"""


def measured(index: Path, task: int, times: int) -> dict[str, Any]:
    """The best figures of several new pages."""
    from playwright.sync_api import sync_playwright

    best: dict[str, Any] = {}
    with sync_playwright() as started:
        system = shutil.which("chromium") or shutil.which("google-chrome")
        browser = started.chromium.launch(executable_path=system, args=["--no-sandbox"])
        for _ in range(times):
            page = browser.new_page()
            page.goto(index.absolute().as_uri())
            page.wait_for_selector("h1")
            found = page.evaluate(MEASURE, task)
            page.close()
            old = best.get("figures", found["figures"])
            best = found | {"figures": {name: min(ms, old[name]) for name, ms in found["figures"].items()}}
        browser.close()
    return best


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("--task", type=int, default=0)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args(arguments)
    found = measured(options.index, options.task, options.times)
    figures: dict[str, float] = found["figures"]
    print(f"{found['n']:,} samples; {found['packed'] / 1e3:,.0f} kB of columns in their script, "
          f"{found['json'] / 1e3:,.0f} kB as rows of JSON")  # fmt: skip
    for name, ms in figures.items():
        limit = f"   at most {LIMITS[name]:.0f}" if name in LIMITS else ""
        print(f"{name:28} {ms:8.1f} ms{limit}")
    print(f"columns are read in {figures['columns'] / figures['rows of JSON: read']:.2f} of the rows' time")
    return int(any(figures[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    raise SystemExit(main())
