"""Scored runs of stub models in milliseconds: right on a seeded share of the coloured pictures."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stub import Stub, checkpoint

from evalkit.evaluation import plan as planning
from evalkit.evaluation.predict import Session, run
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Selection
from evalkit.types import Request


def chance(*parts: object) -> float:
    """A number in [0, 1) that hangs on the parts alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def right(request: Request) -> str:
    image = int(request.id[1:].split("-")[0])
    return "red" if image % 2 else "blue"


def wrong_at(share: float, seed: int = 0) -> Callable[[Request], str]:
    """Answers that are wrong at a seeded share of the samples; larger shares contain smaller ones."""
    return lambda request: "grey" if chance(request.id, seed) < share else right(request)


class Weighted(Stub):
    """A stub with weights, so that two of them can have the same or others."""

    def __init__(self, answer: Callable[[Request], str], weights: str = "w", version: int = 1) -> None:
        super().__init__(answer)
        self.weights, self.version = weights, version

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "stub", "text_version": self.version, "weights": self.weights}

    def provenance(self) -> Mapping[str, Any]:
        return {"device": "stub"}


def go(
    task_file: Path, output: Path, name: str, answer: Callable[[Request], str], weights: str = "",
    version: int = 1, overrides: dict[str, str] | None = None, limit: int | None = None,
) -> Path:  # fmt: skip
    """One scored run; returns its folder."""
    task = loader.load(str(task_file), overrides)
    datasets = dataset.DatasetCache([task_file.parent])
    candidate = checkpoint(Weighted(answer, weights or name, version), name)
    plan = planning.plan(datasets.get(task), candidate, output, Selection(limit))
    run([plan], Session(candidate, datasets))
    return plan.folder.path


def as_schema_1(folder: Path, stamps: list[list[int]] | None = None) -> None:
    """Writes a run's files as evalkit did before they were sealed; `stamps` as they were then, if given."""
    for name in ("run.json", "scores.json"):
        content = json.loads((folder / name).read_text())
        plain = {k: v for k, v in content.items() if k not in ("schema", "seal", "run", "rows")}
        (folder / name).write_text(json.dumps({"schema": 1, **plain}, ensure_ascii=False, indent=1) + "\n")
    for journal in (folder / "predictions").iterdir():
        journal.write_bytes(
            b"".join(_older(line, stamps) for line in journal.read_bytes().split(b"\n") if line)
        )


def _older(line: bytes, stamps: list[list[int]] | None) -> bytes:
    content = json.loads(line)
    content.pop("run", None)
    del content["crc"]
    content |= {"stamps": stamps} if stamps else {}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))[:-1].encode()
    return text + b',"crc":"%08x"}\n' % zlib.crc32(text)
