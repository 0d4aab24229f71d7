"""Widget captioning: widget_captions.csv with RICO's screens and their view hierarchies.

Li et al., 2020; columns as in google-research-datasets/widget-caption.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import read_json, read_table, read_text
from evalkit.data.records import Record, Unique, path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, Mark, Sample, Source


@dataclass(frozen=True)
class WidgetCap(Format):
    """One sample per widget of the split's screens, id = `<screenId>_<nodeId>`, target = its captions.

    The widget's box is drawn in red on the resized screen. Its bounds are those of the node in
    `<images>/<screenId>.json`, on a canvas 2560 pixels high: both coordinates are scaled by the
    image's height / 2560, as the reference does.
    """

    canvas: float = 2560.0

    fields: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[tuple[str, ...]] = ("path", "splits", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        listed = path_of(source, "splits", self.keys) / f"{split}.txt"
        screens = set(read_text(listed, "a split is a list of screens").split())
        unique = Unique(str(path), "screenId and nodeId")
        hierarchy, seen, faults = Record({}, ""), "", Faults(each_file=True)

        def of(entry: tuple[int, dict[str, str]]) -> Iterator[Sample]:
            nonlocal hierarchy, seen
            number, row = entry
            record = Record(row, str(path), f"row {number}")
            screen, node = record.name("screenId"), record.text("nodeId")
            if screen not in screens:
                return
            unique.add(f"{screen}_{node}", record)
            captions = tuple(record.text("captions").split("|"))
            if not any(captions):
                record.wrong("captions", "is empty; it must hold captions with | between them")
            if seen != screen:
                file = images / f"{screen}.json"
                hierarchy, seen = Record(read_json(file), str(file)), screen
            x0, y0, x1, y1 = _bounds(hierarchy, node)
            mark = Mark("outline", (y0, x0, y1, x1), "canvas", self.canvas)
            ref = image_ref(images, f"{screen}.jpg", (mark,))
            yield Sample(f"{screen}_{node}", (ref,), {}, captions, cluster=screen)

        yield from faults.of_all(read_table(path, faults=faults), of)


def _bounds(top: Record, node: str) -> tuple[float, ...]:
    """(x0, y0, x1, y1) of a node; `0.1.3` is child 3 of child 1 of the root, counted from 0."""
    found: Any = top.record("activity").record("root").data
    for step in node.split(".")[1:]:
        children = found.get("children") if isinstance(found, dict) else None
        if not step.isdecimal() or not isinstance(children, list) or int(step) >= len(children):
            raise DataError(f"{top.file}: has no node {node[:60]}; nodeId is a path from the root")
        found = children[int(step)]
    bounds = found.get("bounds") if isinstance(found, dict) else None
    if not (isinstance(bounds, list) and len(bounds) == 4 and all(_is_number(b) for b in bounds)):
        raise DataError(f"{top.file}: node {node[:60]}: bounds must be [x0, y0, x1, y1] in pixels")
    return tuple(float(b) for b in bounds)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6
