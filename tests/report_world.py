"""Writes a report of invented samples in two runs: questions, objects, captions.

The page's tests open what this writes; nothing of the builder is needed.
`python tests/report_world.py FOLDER [N]` writes one to look at.
"""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path
from typing import Any

from report_folder import World, script
from report_objects import write_objects
from report_questions import GROUPS, HOSTILE, write_captions, write_questions

__all__ = ["HOSTILE", "write"]
PAGE = Path(__file__).parent.parent / "evalkit" / "viewer" / "page"


def compared(world: World) -> list[dict[str, Any]]:
    a, b = world.tasks[0]["scores"]
    groups = [
        {"name": g, "difference": d, "low": d - 0.06, "high": d + 0.06, "n": 100, "filter": f"group={g}"}
        for g, d in zip(GROUPS, (0.11, -0.02, 0.04), strict=True)
    ]
    difference = b["value"] - a["value"]
    return [
        {
            "task": 0,
            "a": 0,
            "b": 1,
            "difference": difference,
            "low": difference - 0.04,
            "high": difference + 0.04,
            "p": 0.0012,
            "significant": True,
            "verdict": "better",
            "notes": ["a note about it"],
            "gained": 60,
            "lost": 31,
            "same": 200,
            "both_right": 150,
            "both_wrong": 50,
            "groups": groups,
            "telling": [0, 3, 8, 12],
        }
    ]


def write(folder: Path, n: int = 400, title: str = "An invented report") -> Path:
    """The whole folder; gives index.html's path. `n` samples of questions, at most 240 of objects."""
    shutil.copytree(PAGE, folder / "page", ignore=shutil.ignore_patterns("index.html"))
    shutil.copy(PAGE / "index.html", folder / "index.html")
    world = World(folder, random.Random(7))
    write_questions(world, n)
    write_objects(world, min(n, 240))
    write_captions(world, min(n, 12))
    runs = [
        {
            "name": f"vqa_world__{name}",
            "model": f"models/{name}",
            "short": name,
            "identity": [["weights", "sha256 0123"], ["prompt", "answer en {question}"]],
            "resolution": 224,
            "precision": "bfloat16",
            "partial": [],
            "seconds": 75.0 + 1e4 * r,
            "samples_per_second": 12.3,
            "memory_bytes": 6.2e9 if r else None,
            "colour": r,
        }
        for r, name in enumerate(("pt-224", "ft-224"))
    ]
    first = [
        {"text": "23 answers of pt-224 could not be read", "link": "/task/0/samples?state:0=invalid"},
        {"text": "detect_world: most AP is lost to missed objects", "link": "/task/1/samples?error:0=missed"},
    ]
    trend = {
        "tasks": [
            {
                "name": "vqa_world",
                "metric": "vqa_accuracy",
                "points": [
                    {
                        "step": 500 * k,
                        "value": 0.5 + 0.04 * k,
                        "low": 0.46 + 0.04 * k,
                        "high": 0.54 + 0.04 * k,
                        "n": n,
                        "run": 1 if k == 5 else None,
                        "cost_seconds": 12.0,
                    }
                    for k in range(1, 6)
                ],
            }
        ]
    }
    report = {
        "version": 1,
        "title": title,
        "made": "2026-11-02 10:00 UTC",
        "command": "evalkit report runs/a runs/b",
        "evalkit": "0.9",
        "licence": ["pictures of detect_world: CC BY 4.0"],
        "redacted": False,
        "images": True,
        "runs": runs,
        "tasks": world.tasks,
        "look_first": first,
        "comparisons": compared(world),
        "trend": trend,
    }
    script(folder / "data" / "report.js", "report", report)
    return folder / "index.html"


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), *map(int, sys.argv[2:])))
