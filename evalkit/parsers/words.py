"""Words with their positions: four `<loc>` tokens and the text that is written there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from evalkit.geometry import location_tokens
from evalkit.types import Box, Parser, Prediction, Size

_BOX = re.compile(r"<loc((?:0[0-9]{3}|10[01][0-9]|102[0-3]))>" * 4)


@dataclass(frozen=True)
class Words(Parser):
    """A tuple of boxes as fractions of the image, each labelled with its transcription, case kept.

    `form`: box_first is `<loc>x4 text ; <loc>x4 text`, as in PaliGemma's detection; text_first
    is `text <loc>x4 ; text <loc>x4` (PaliGemma 2 doesn't publish which it uses). Unlike a class name, the
    text may hold ";" and "<": it ends at the next box. One ";" that separates two words is removed, then
    white space at both ends; nothing else is changed. Boxes without area are kept, since HierText's
    protocol counts them as predicted. A blank text means no words; a text that is not blank and
    holds no box is unreadable. `divisor`: 1023 as in big_vision, 1024 as in the demo.
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

    def remark(self, prediction: Prediction, size: Size | None) -> str:
        """Why no word is read from a text that is not blank."""
        text = prediction.text
        return location_tokens.lacking(text) if text.strip() and not _BOX.search(text) else ""
