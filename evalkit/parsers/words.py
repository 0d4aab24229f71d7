"""Words with their places: four `<loc>` tokens and what is written there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from evalkit.types import Box, Parser, Prediction, Size

_BOX = re.compile(r"<loc((?:0[0-9]{3}|10[01][0-9]|102[0-3]))>" * 4)


@dataclass(frozen=True)
class Words(Parser):
    """A tuple of boxes as fractions of the image, each labelled with the transcription; case kept.

    `form`: box_first is `<loc>x4 text ; <loc>x4 text`, the grammar of PaliGemma's detection; text_first
    is `text <loc>x4 ; text <loc>x4` (PaliGemma 2 publishes neither). Unlike a class name, the text may
    hold ";" and "<": it reaches to the next box. One ";" that separates two words is taken off, then
    white space at both ends; nothing else is done. Boxes without area are kept, since HierText's
    protocol counts them as predicted. A blank text says that there are no words; a text that is
    not blank and holds no box is unreadable. `divisor`: 1023 as big_vision, 1024 as the demo.
    """

    form: Literal["box_first", "text_first"] = "box_first"
    divisor: Literal[1023, 1024] = 1023

    kind = "boxes"

    def read(self, prediction: Prediction, size: Size | None) -> tuple[Box, ...] | None:
        """The words in the order of the text; `size` is not needed."""
        text = prediction.text
        found = list(_BOX.finditer(text))
        if not found:
            return None if text.strip() else ()
        words = []
        for n, match in enumerate(found):
            if self.form == "box_first":
                end = found[n + 1].start() if n + 1 < len(found) else len(text)
                written = text[match.end() : end].strip()
                if n + 1 < len(found):
                    written = written.removesuffix(";").rstrip()
            else:
                written = text[found[n - 1].end() if n else 0 : match.start()].strip()
                if n:
                    written = written.removeprefix(";").lstrip()
            y0, x0, y1, x1 = (int(corner) / self.divisor for corner in match.groups())
            words.append(Box(y0, x0, y1, x1, label=written))
        return tuple(words)
