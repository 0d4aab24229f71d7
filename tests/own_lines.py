"""Tasks of a person's own: a YAML file over a few JSON lines, and the command that runs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stub import colours

from evalkit.cli.main import main


def write(folder: Path, lines: Sequence[dict[str, Any]], parser: str, metric: str, name: str = "t") -> Path:
    """A task of these lines, each with a picture, and the file that it is in."""
    colours(folder) if not folder.exists() else None
    text = "".join(json.dumps({"image": f"{n % 10}.png", **line}) + "\n" for n, line in enumerate(lines))
    (folder / f"{name}.jsonl").write_text(text)
    file = folder / f"{name}.yaml"
    file.write_text(
        "version: 1\nabout: x\nlicense: x\ndata:\n  format: jsonl\n  split: test\n"
        f"  sources: [{{path: {name}.jsonl, images: pictures}}]\n"
        f'prompt: what\nparser: "{parser}"\nmetrics: ["{metric}"]\n'
    )
    return file


def run(*tasks: str, more: Sequence[str] = ()) -> int:
    return main(["run", "--model", "m", "--tasks", ",".join(tasks), "--data-root", "data", *more])
