"""Scored runs for reports, of stub models that say how sure they are; a report read as its page does."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from stub import checkpoint
from stub_runs import Weighted, chance

from evalkit.evaluation import plan as planning
from evalkit.evaluation.predict import Session, run
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Selection
from evalkit.types import Prediction, Request


class Sure(Weighted):
    """A stub that says how sure it is, and was cut at every tenth sample."""

    def predict(self, requests: Any, on_bad_image: Any = None) -> Iterator[Prediction]:
        for made in super().predict(requests, on_bad_image):
            sure = chance(made.id, self.weights, "sure")
            stop = "length" if chance(made.id, "cut") < 0.1 else "eos"
            yield dataclasses.replace(made, margin=8 * sure, stop=stop, logprobs=(-sure,), tokens=(1, 2))


def go(task_file: Path, output: Path, name: str, answer: Callable[[Request], str]) -> Path:
    task = loader.load(str(task_file))
    datasets = dataset.DatasetCache([task_file.parent])
    candidate = checkpoint(Sure(answer, name), name)
    plan = planning.plan(datasets.get(task), candidate, output, Selection())
    run([plan], Session(candidate, datasets))
    return plan.folder.path


def load(path: Path) -> tuple[str, Any]:
    """The key and the value of a script, read as a browser would."""
    found = re.fullmatch(r'evalkit\.put\("([^"]+)", (.*)\);\n', path.read_text("utf-8"), re.DOTALL)
    assert found, path
    return found[1], json.loads(found[2])


def unpacked(packed: dict[str, Any]) -> dict[str, Any]:
    """The columns as the page reads them."""
    data = gzip.decompress(base64.b64decode(packed["data"]))
    found: dict[str, Any] = {}
    kinds = {"Float32Array": np.float32, "Uint32Array": np.uint32, "Uint16Array": np.uint16}
    for column in packed["head"]["columns"]:
        assert column["offset"] % 8 == 0
        block = data[column["offset"] : column["offset"] + column["length"]]
        if column["kind"] == "text":
            found[column["name"]] = block.decode().split("\n")
        elif column["kind"] == "codes":
            starts, at = np.frombuffer(block, np.uint32), column["values"]
            part = data[at["offset"] : at["offset"] + at["length"]]
            values = [column["labels"][c] for c in np.frombuffer(part, kinds[column["type"]])]
            found[column["name"]] = [values[a:b] for a, b in itertools.pairwise(starts)]
        else:
            values = np.frombuffer(block, kinds[column["type"]])
            found[column["name"]] = values
            if column["kind"] == "flags":
                found[column["name"]] = [
                    [label for i, label in enumerate(column["labels"]) if v >> i & 1] for v in values.tolist()
                ]
    return found
