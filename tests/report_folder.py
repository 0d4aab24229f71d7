"""A report's folder as `evalkit report` lays it out: columns, scripts of data, pictures. Knows no task."""

from __future__ import annotations

import base64
import colorsys
import gzip
import hashlib
import io
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CHUNK = 500
TYPES = {"float32": "Float32Array", "uint16": "Uint16Array", "uint32": "Uint32Array"}


@dataclass
class Columns:
    """Arrays one after the other, each at a multiple of eight bytes, and the head that says where."""

    n: int
    head: list[dict[str, Any]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def _append(self, raw: bytes) -> int:
        self.data += b"\0" * (-len(self.data) % 8)
        place = len(self.data)
        self.data += raw
        return place

    def number(self, name: str, values: Any, **more: Any) -> None:
        array = np.asarray(values, np.float32)
        self._add(name, "number", array, **more)

    def code(self, name: str, values: Any, labels: Sequence[str], **more: Any) -> None:
        self._add(name, "code", np.asarray(values, np.uint16), labels=list(labels), **more)

    def flags(self, name: str, values: Any, labels: Sequence[str], **more: Any) -> None:
        self._add(name, "flags", np.asarray(values, np.uint32), labels=list(labels), **more)

    def _add(self, name: str, kind: str, array: Any, **more: Any) -> None:
        place = self._append(array.tobytes())
        self.head.append(
            {
                "name": name,
                "kind": kind,
                "type": TYPES[array.dtype.name],
                "offset": place,
                "length": array.nbytes,
                "run": run_of(name),
                **more,
            }
        )

    def codes(self, name: str, values: Sequence[Sequence[int]], **more: Any) -> None:
        starts = np.cumsum([0, *map(len, values)]).astype(np.uint32)
        flat = np.asarray([c for one in values for c in one], np.uint16)
        first, second = self._append(starts.tobytes()), self._append(flat.tobytes())
        self.head.append(
            {
                "name": name,
                "kind": "codes",
                "type": "Uint16Array",
                "offset": first,
                "length": starts.nbytes,
                "values": {"offset": second, "length": flat.nbytes},
                "run": run_of(name),
                **more,
            }
        )

    def text(self, name: str, lines: Sequence[str]) -> None:
        raw = "\n".join(line.replace("\\", "\\\\").replace("\n", "\\n") for line in lines).encode()
        place = self._append(raw)
        self.head.append({"name": name, "kind": "text", "offset": place, "length": len(raw), "run": None})

    def value(self) -> dict[str, Any]:
        return {"head": {"n": self.n, "columns": self.head}, "data": packed(bytes(self.data))}


def run_of(name: str) -> int | None:
    return int(name.partition(":")[2]) if ":" in name else None


def packed(raw: bytes) -> str:
    return base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode()


def script(path: Path, key: str, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"evalkit.put({json.dumps(key)}, {text});\n", encoding="utf-8")


STRUCTURE = {"kind", "column", "filter", "filters", "src", "type", "path", "link", "stop", "data"}


def poisoned(value: Any, attack: str, key: str = "") -> Any:
    """The same data, where every text that is shown has an attack before it."""
    if isinstance(value, dict):
        return {k: poisoned(v, attack, k) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(v, attack, key) for v in value]
    return attack + value if isinstance(value, str) and key not in STRUCTURE else value


def poison(folder: Path, attack: str) -> None:
    """Puts an attack before every text of a report's overview, tasks and samples."""
    for path in (folder / "data").rglob("*.js"):
        key, value = json.loads(
            f"[{path.read_text().removeprefix('evalkit.put(').removesuffix(');' + chr(10))}]"
        )
        if key.partition("/")[0] in ("report", "task", "samples"):
            script(path, key, poisoned(value, attack))


@dataclass
class World:
    """What is written: the folder, chance, and the report's tasks so far."""

    folder: Path
    chance: random.Random
    tasks: list[dict[str, Any]] = field(default_factory=list)

    def write_task(
        self,
        page: dict[str, Any],
        columns: Columns,
        record: Callable[[int], dict[str, Any]],
        texts: Sequence[str],
    ) -> None:
        t, data = len(self.tasks), self.folder / "data"
        script(data / str(t) / "task.js", f"task/{t}", page)
        script(data / str(t) / "columns.js", f"columns/{t}", columns.value())
        lowered = json.dumps([s.lower() for s in texts]).encode()
        script(data / str(t) / "text.js", f"text/{t}", packed(lowered))
        for k in range(math.ceil(columns.n / CHUNK)):
            rows = [record(i) for i in range(k * CHUNK, min(columns.n, (k + 1) * CHUNK))]
            script(data / str(t) / "samples" / f"{k}.js", f"samples/{t}/{k}", rows)

    def picture(self, width: int, height: int, seed: int, shapes: Sequence[Sequence[float]] = ()) -> str:
        """A scene of the shapes that are boxes, on a soft ground; its place in the report."""
        chance = random.Random(seed)
        scale = 384 / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        ground = Image.linear_gradient("L").resize(size)
        warm, cold = _colour(chance, 0.25, 0.95), _colour(chance, 0.35, 0.55)
        image = Image.composite(Image.new("RGB", size, warm), Image.new("RGB", size, cold), ground)
        draw = ImageDraw.Draw(image)
        for x0, y0, x1, y1, *_ in shapes:
            place = [x0 * scale, y0 * scale, x1 * scale, y1 * scale]
            form = draw.ellipse if chance.random() < 0.6 else draw.rectangle
            form(place, fill=_colour(chance, 0.6, 0.8), outline=(40, 40, 40))
        raw = io.BytesIO()
        image.save(raw, "JPEG", quality=75)
        digest = hashlib.sha256(raw.getvalue()).hexdigest()[:32]
        path = self.folder / "thumbs" / digest[:2] / f"{digest}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw.getvalue())
        return f"thumbs/{digest[:2]}/{digest}.jpg"


def _colour(chance: random.Random, saturation: float, value: float) -> tuple[int, int, int]:
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(chance.random(), saturation, value))


def box(chance: random.Random, width: int, height: int) -> list[float]:
    w, h = chance.uniform(0.15, 0.5) * width, chance.uniform(0.15, 0.5) * height
    x, y = chance.uniform(0, width - w), chance.uniform(0, height - h)
    return [round(v, 1) for v in (x, y, x + w, y + h)]


def answered(answer: str, **more: Any) -> dict[str, Any]:
    empty = {
        "parsed": answer,
        "boxes": [],
        "masks": [],
        "stop": "end",
        "margin": None,
        "invalid": "",
        "remark": "",
        "scores": [],
        "why": [],
        "fields": None,
    }
    return {"answer": answer, **empty, **more}


def target(texts: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    return {"texts": list(texts), "boxes": [], "masks": [], "other": [], **more}


def described(name: str, metric: str, prompt: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": 1,
        "about": "",
        "license": "CC BY 4.0",
        "homepage": "https://example.org/data",
        "prompt": prompt,
        "exact_prompt": "answer en What is seen in picture 0?\n",
        "protocol": "paper: resized to 224 × 224, bilinear",
        "signature_words": [["metric", metric], ["samples", "all"], ["tool", "own"]],
        "signature": f"{metric}|n:all|v:1",
        "metrics": [metric],
    }


def interval(values: Any) -> dict[str, float]:
    mean = float(np.mean(values))
    half = 1.96 * float(np.std(values)) / math.sqrt(max(1, len(values)))
    return {"value": mean, "low": mean - half, "high": mean + half}


def summary(
    name: str, about: str, metric: str, scores: Any, scale: int, published: float | None
) -> dict[str, Any]:
    n = scores.shape[1]
    rows = [
        {
            **interval(s),
            "n": n,
            "coverage": "all",
            "invalid": n // 41,
            "cut": n // 67,
            "remarks": "2 answers were cut" if r else "",
            "stamps": [],
            "comparable": "",
        }
        for r, s in enumerate(scores)
    ]
    known = [
        {
            "model": "PaliGemma 3B 224",
            "value": published,
            "low": None,
            "high": None,
            "source": "the paper, table 1",
        }
    ]
    return {
        "name": name,
        "license": "CC BY 4.0",
        "about": about,
        "n": n,
        "metric": metric,
        "lower_is_better": False,
        "maximum": 1,
        "scores": rows,
        "published": known if published else [],
        "scale": scale,
        "digits": 1,
    }
