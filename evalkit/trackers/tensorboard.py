"""TensorBoard: scalars, a chart with the interval as a band for each score, pictures, and a table as text.

Event files are written by TensorBoard's own package, below the output folder or TENSORBOARD_LOGGING_DIR; a
curve is a folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from evalkit.images import overlay
from evalkit.printing import say
from evalkit.trackers import COLUMNS, PICTURE, Shown, Told, Tracker, letters


class TensorBoard(Tracker):
    """One event file a curve."""

    package = "tensorboard.summary.writer.event_file_writer"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = Path(os.environ.get("TENSORBOARD_LOGGING_DIR") or folder)
        self._writers: dict[str, Any] = {}
        self._bands: dict[str, dict[str, None]] = {}  # by curve, the scores that have an interval

    def tell(self, told: Told, numbers: bool = True) -> None:
        from tensorboard.compat.proto import summary_pb2 as proto

        values = []
        if numbers:
            values += [proto.Summary.Value(tag=k, simple_value=v) for k, v in told.numbers.items()]
            bands = self._bands.setdefault(told.series, {})
            new = dict.fromkeys(k for k in told.numbers if f"{k}_low" in told.numbers)
            if not new.keys() <= bands.keys():
                bands |= new
                values.append(_charts(list(bands)))
        for sample in told.samples:
            height, width, channels = sample.picture.shape
            image = proto.Summary.Image(
                height=height, width=width, colorspace=channels,
                encoded_image_string=overlay.png(sample.picture),
            )  # fmt: skip
            values.append(proto.Summary.Value(tag=f"{told.task}/samples/{letters(sample.id)}", image=image))
        if told.samples:
            values.append(_text(f"{told.task}/samples", table(told.samples)))
        writer = self._writer(told.series)
        for value in values:  # one value an event: TensorBoard's loader takes what it wants of each
            writer.add_event(_event(told.step, value))
        writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        if self._writers:
            say(f"tensorboard: to look at what was written: tensorboard --logdir {quote(str(self.folder))}")
        self._writers = {}

    def _writer(self, series: str) -> Any:
        if series not in self._writers:
            folder = self.folder / letters(series)
            self._writers[series] = self.module.EventFileWriter(str(folder), filename_suffix=".evalkit")
        return self._writers[series]


def table(samples: Sequence[Shown]) -> str:
    """The samples as a table in Markdown."""
    heads = [name for i, name in enumerate(COLUMNS) if i != PICTURE]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for sample in samples:
        cells = sample.row(None)
        del cells[PICTURE]
        texts = ["" if c is None else f"{c:.3f}" if isinstance(c, float) else _cell(str(c)) for c in cells]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    for mark in "\\`*_{}[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _event(step: int, value: Any) -> Any:
    from tensorboard.compat.proto import event_pb2, summary_pb2

    return event_pb2.Event(wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=[value]))


def _text(tag: str, text: str) -> Any:
    return _of_plugin(tag, "text", text.encode("utf-8"))


def _charts(keys: Sequence[str]) -> Any:
    """The layout of the tab "custom scalars": a chart a score, its interval as a band, by task."""
    from tensorboard.plugins.custom_scalar import layout_pb2 as layout

    tasks: Mapping[str, list[str]] = {key.partition("/")[0]: [] for key in keys}
    for key in keys:
        tasks[key.partition("/")[0]].append(key)

    def chart(key: str) -> Any:
        series = layout.MarginChartContent.Series(value=key, lower=f"{key}_low", upper=f"{key}_high")
        return layout.Chart(title=key, margin=layout.MarginChartContent(series=[series]))

    categories = [layout.Category(title=t, chart=[chart(k) for k in some]) for t, some in tasks.items()]
    whole = layout.Layout(category=categories)
    return _of_plugin("custom_scalars__config__", "custom_scalars", whole.SerializeToString())


def _of_plugin(tag: str, plugin: str, content: bytes) -> Any:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, types_pb2

    data = summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin)
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[content])
    metadata = summary_pb2.SummaryMetadata(plugin_data=data)
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
