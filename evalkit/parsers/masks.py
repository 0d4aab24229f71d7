"""Masks from four `<loc>` and sixteen `<seg>` tokens, decoded and pasted into the image's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from evalkit.errors import DataError
from evalkit.geometry import location_tokens, mask_decoder
from evalkit.geometry.boxes import pixels
from evalkit.types import Box, Mask, Parser, Prediction, Size

_CHUNK = 256  # predictions decoded together


@dataclass(frozen=True)
class Masks(Parser):
    """A tuple of masks at the original image's size; None when none can be read.

    `form` says what is read:
    - first: the first box in the text and the sixteen tokens after it, with blanks between or not; the rest
      is ignored. Unreadable unless all twenty are there and y1 > y0 and x1 > x0.
    - start: the same, but the text must begin with the twenty tokens, without a blank
      (google-research/big_vision transfers/segmentation.py @ 0127fb6b, for the papers' tasks).
    - objects: every `<loc>x4<seg>x16 label` in the text (the mix checkpoints); those whose box has no
      area are skipped. A blank text says that there is no object.

    A box that has an area in tokens but none in whole pixels gives a mask without a pixel: it scores 0
    and counts as invalid, but its box is still compared, as in big_vision. `decoder` names the weights:
    a file, "demo", or "" for what `geometry.mask_decoder.resolve` finds.
    """

    decoder: str = ""
    form: Literal["first", "start", "objects"] = "first"
    divisor: Literal[1023, 1024] = 1023
    folders: tuple[Path, ...] = field(default=(), init=False, repr=False, compare=False)

    kind = "masks"

    def within(self, folders: Sequence[Path]) -> Masks:
        """A copy that looks for the decoder below `folders` first. Raises UserError when there is none."""
        made = replace(self)
        object.__setattr__(made, "folders", tuple(folders))
        mask_decoder.resolve(self.decoder, folders)
        return made

    def read(self, prediction: Prediction, size: Size | None) -> tuple[Mask, ...] | None:
        """The masks in the order of the text. Needs `size` (h, w), or the prediction's own."""
        return self.answers([prediction], [size])[0]

    def answers(
        self, predictions: Sequence[Prediction], sizes: Sequence[Size | None]
    ) -> list[tuple[Mask, ...] | None]:
        """The answers of many predictions, decoded in batches. Raises DataError where no size is known."""
        result: list[tuple[Mask, ...] | None] = []
        for start in range(0, len(predictions), _CHUNK):
            part = predictions[start : start + _CHUNK]
            result += self._chunk(part, sizes[start : start + _CHUNK])
        return result

    def invalid(self, answer: Any | None) -> bool:
        """Whether it is None or the box of its first mask has no area in whole pixels."""
        return answer is None or (bool(answer) and _vanished(answer[0].box, answer[0].size))

    def identity(self) -> str:
        """The sha256 of the decoder's weights."""
        return self._weights.digest

    @cached_property
    def _weights(self) -> mask_decoder.Decoder:
        """The decoder, the same for all answers of a run, whatever becomes of its file."""
        return mask_decoder.decoder(self.decoder, self.folders)

    def _chunk(
        self, predictions: Sequence[Prediction], sizes: Sequence[Size | None]
    ) -> list[tuple[Mask, ...] | None]:
        boxes: list[list[Box]] = []
        indices: list[tuple[int, ...]] = []
        for prediction in predictions:
            found = self._found(prediction.text)
            scored = location_tokens.scored([f.box(self.divisor) for f in found], found, prediction)
            kept = [(b, f.indices) for b, f in zip(scored, found, strict=True) if f.sound and f.indices]
            boxes.append([box for box, _ in kept])
            indices += [row for _, row in kept]
        values = iter(self._weights.decode(indices) if indices else ())
        result: list[tuple[Mask, ...] | None] = []
        for prediction, size, some in zip(predictions, sizes, boxes, strict=True):
            known = size or (prediction.sizes[0] if prediction.sizes else None)
            if some and known is None:
                raise DataError(f"sample {prediction.id}: a mask needs the image's size, none is known")
            pasted = tuple(mask_decoder.paste(next(values), box, known) for box in some) if known else ()
            nothing = self.form == "objects" and not prediction.text.strip()
            result.append(pasted or (() if nothing else None))
        return result

    def remark(self, prediction: Prediction, size: Size | None) -> str:
        """Why no mask is read, or has no pixel; of a text with several, whether some are left out."""
        why = location_tokens.lacking(prediction.text, self.form, mask=True)
        if why:
            return why
        first = next(found for found in self._found(prediction.text) if found.sound and found.indices)
        if size is not None and _vanished(first.box(self.divisor), size):
            return "a box without a whole pixel"
        return location_tokens.skipped(prediction.text) if self.form == "objects" else ""

    def _found(self, text: str) -> list[location_tokens.Found]:
        if self.form == "start":
            first = location_tokens.first_mask(text)
            return [first] if first else []
        return location_tokens.objects(text)[: 1 if self.form == "first" else None]


def _vanished(box: Box, size: Size) -> bool:
    y0, x0, y1, x1 = pixels(box.coordinates, size)
    return y1 <= y0 or x1 <= x0
