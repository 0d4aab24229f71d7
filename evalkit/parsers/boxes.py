"""Boxes from `<loc>` tokens, with labels and, where log-probabilities are kept, scores to rank them by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evalkit.geometry import location_tokens
from evalkit.types import Box, Parser, Prediction, Size


@dataclass(frozen=True)
class Boxes(Parser):
    """A tuple of boxes as fractions of the image; None when none can be read.

    `form` says what is read:
    - objects: every `<loc>x4 label` in the text, separated by " ; " or not. Boxes without area are
      skipped; a text with no other box is unreadable. A blank text says that there is no object.
    - first: the first four location tokens in a row, for example after an echoed prompt; the rest is ignored.
      Unreadable unless y1 > y0 and x1 > x0.
    - start: the same, but the text must begin with them (referring expressions in the papers).
      google-research/big_vision transfers/segmentation.py @ 0127fb6b.
    - demo: as the published demo (Space big-vision/paligemma-hf) reads, boxes without area included;
      the demo divides by 1024 and rounds to pixels.

    `divisor`: 1023 as in big_vision, 1024 as in the demo. A box's score is the mean log-probability
    of its tokens where the prediction has them, else 1.
    """

    divisor: Literal[1023, 1024] = 1023
    form: Literal["objects", "first", "start", "demo"] = "objects"

    kind = "boxes"

    def read(self, prediction: Prediction, size: Size | None) -> tuple[Box, ...] | None:
        """The boxes in the order of the text; `size` is not needed."""
        text = prediction.text
        if self.form in ("objects", "demo") and not text.strip():
            return ()
        if self.form == "start":
            first = location_tokens.first_box(text)
            found = [first] if first else []
        elif self.form == "demo":
            found = location_tokens.demo_objects(text)
        else:
            found = location_tokens.objects(text)[: 1 if self.form == "first" else None]
        boxes = location_tokens.scored([f.box(self.divisor) for f in found], found, prediction)
        sound = tuple(b for b, f in zip(boxes, found, strict=True) if f.sound or self.form == "demo")
        return sound or None

    def remark(self, prediction: Prediction, size: Size | None) -> str:
        """Why no box is read; of a text with several, whether some are left out."""
        form = "objects" if self.form == "demo" else self.form
        why = location_tokens.lacking(prediction.text, form)
        unread = self.form == "demo" and self.read(prediction, size) is None
        if why or unread:
            return why or "a line break before the box"
        return location_tokens.skipped(prediction.text) if self.form == "objects" else ""
