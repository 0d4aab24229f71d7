"""ActivityNet Captions' {train,val_1,val_2}.json: sentences about segments of videos.

Krishna et al., 2017; {"v_<id>": {duration, timestamps, sentences}}.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import read_json
from evalkit.data.records import Record, path_of
from evalkit.data.sources import frame_refs
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class DenseVideo(Format):
    """One sample per segment, id = `<video>[<start>-<end>]` in seconds, target = (its sentence,).

    The images are `frames` frames, every `stride`-th of the segment, of `<videos>/<video>.mp4`; or those
    in a folder of frames `<videos>/<video>[<start>-<end>]`.
    """

    frames: int = 16
    stride: int = 30

    fields: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[tuple[str, ...]] = ("path", "videos")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, videos = path_of(source, "path", self.keys), path_of(source, "videos", self.keys)
        top = Record(read_json(path), str(path))
        faults = Faults()

        def of(entry: tuple[str, Record]) -> Iterator[Sample]:
            video, record = entry
            name = Record({"video": video}, str(path), "top level").name("video")
            sentences, times = record.texts("sentences"), record.get("timestamps")
            if not isinstance(times, list) or len(times) != len(sentences):
                record.wrong("timestamps", f"must list {len(sentences)} pairs [start, end]")
            seen: dict[str, int] = {}
            for place, (time, sentence) in enumerate(zip(times, sentences, strict=True)):
                start, end = _seconds(record, place, time)
                segment = f"{name}[{start:g}-{end:g}]"
                seen[segment] = seen.get(segment, 0) + 1
                part = segment if os.path.isdir(videos / segment) else name
                refs = frame_refs(videos, part, self.frames, self.stride, start, end)
                repeat = f"#{seen[segment]}" if seen[segment] > 1 else ""
                yield Sample(segment + repeat, refs, {}, (sentence,), cluster=name)

        yield from faults.of_all(top.entries(faults), of)


def _seconds(record: Record, place: int, value: Any) -> tuple[float, float]:
    is_pair = isinstance(value, list) and len(value) == 2 and all(type(v) in (int, float) for v in value)
    if not is_pair or not 0 <= value[0] <= value[1] < 1e6:
        record.wrong(f"timestamps[{place}]", "must be [start, end] in seconds, start first")
    return float(value[0]), max(float(value[1]), 1e-3)
