"""GQA's {split}_questions.json: questions by id, with what the official script's side figures need.

Knows no metric. Hudson and Manning, 2019; schema as distributed (questions1.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from evalkit.records import Record, path_of
from evalkit.sources import image_ref, read_json
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class Gqa(Format):
    """One sample a question, group = its structural type, image = imageId + ".jpg".

    Target: {"answers": (answer,), "id": question id, "balanced": bool, "words": of the question} and,
    where the annotations have them, "structural", "semantic", "detailed" (the question's types),
    "group" (its global group), "entailed" (ids of questions that follow), "steps" (of the program;
    those that the official script does not count are left out).
    """

    fields: ClassVar[tuple[str, ...]] = ("question",)
    keys: ClassVar[tuple[str, ...]] = ("path", "images")

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        top = Record(read_json(path), str(path))
        for name in top.data:
            number = Record({"id": name}, str(path), "top level").identifier("id")
            record = top.record(name)
            image = record.name("imageId") + ".jpg"
            fields = {"question": record.text("question")}
            target = _target(number, record)
            group = target.get("structural", "")
            yield Sample(number, (image_ref(images, image),), fields, target, group=group, cluster=image)


def _target(number: str, record: Record) -> dict[str, Any]:
    target: dict[str, Any] = {
        "answers": (record.text("answer"),),
        "id": number,
        "balanced": record.data.get("isBalanced") is not False,
        "words": len(record.text("question").split()),
    }
    if record.data.get("types") is not None:
        types = record.record("types")
        for kind in ("structural", "semantic", "detailed"):
            if types.data.get(kind) is not None:
                target[kind] = types.text(kind)
    if record.data.get("groups") is not None:
        groups = record.record("groups")
        if groups.data.get("global") is not None:
            target["group"] = groups.text("global")
    if record.has("entailed"):
        target["entailed"] = record.texts("entailed")
    if record.has("semantic"):
        target["steps"] = sum(_is_step(each.data) for each in record.records("semantic"))
    return target


def _is_step(operation: dict[str, Any]) -> bool:
    """As getStepsNum of the official script (MILVLG/openvqa gqa_eval.py @ f8f9966f)."""
    told = f"{operation.get('operation')}: {operation.get('argument')}"
    return not any(word in told for word in ("exist", "query: name", "choose name"))
