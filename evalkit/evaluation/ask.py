"""One question about one image: the text, its tokens, parsed boxes and masks, and an overlay picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit import conventions, demo
from evalkit.data import sources
from evalkit.errors import DataError, UserError
from evalkit.files import atomic_write
from evalkit.options.fields import names, paths
from evalkit.options.verbs import AskOptions
from evalkit.registry import make
from evalkit.tasks import loader
from evalkit.types import Box, Checkpoint, Decode, ImageRef, Mask, Prediction, Preparation, Request, Size

EMPTY = "the prompt is empty: the model was shown the picture alone; a prompt is e.g. 'caption en'"


@dataclass(frozen=True)
class Reply:
    """What a model said about one image, and what was read in it."""

    text: str
    tokens: tuple[int, ...]
    stop: str  # eos | length
    found: tuple[Box | Mask, ...]
    size: Size  # of the image
    overlay: Path | None  # the picture with boxes and masks, where there are any
    warning: str = ""


def ask(
    candidate: Checkpoint,
    image: Path,
    prompt: str,
    max_new_tokens: int,
    overlay: Path | None,
    decoder: str = "",
    folders: Sequence[Path] = (),
) -> Reply:
    """Asks once and draws boxes and masks where the answer has any, into `overlay` or the working folder.

    Images are prepared as a person's own are: by the checkpoint's protocol, else as transformers does.
    """
    if not os.path.isfile(image):
        raise DataError(f"{image}: no such image; give the path of a picture")
    protocol = candidate.protocol or "hf"
    if protocol == "hf":
        preparation = Preparation(
            candidate.resolution, resize="bicubic", antialias=True, jpeg="precise", exif="apply"
        )
    else:
        preparation = Preparation(candidate.resolution)
    preparation = conventions.preparation(preparation, candidate.conventions)
    reference = ImageRef(str(image))
    decode = Decode(max_new_tokens=max_new_tokens, text_length=None)
    prompt = loader.without_image(prompt)
    request = Request("ask", (reference,), prompt, preparation, decode)
    (prediction,) = candidate.load(protocol).predict([request])
    found, warning = _read(prediction, decoder, folders)
    if not prompt.strip():
        warning = "\n".join(filter(None, (EMPTY, warning)))
    target = (overlay or Path(f"{image.stem}.answer.png")) if found else None
    if target is not None:
        from evalkit.images import overlay as pictures
        from evalkit.images import prepare

        pixels = prepare.decode(sources.read_bytes(reference), exif=preparation.exif)
        atomic_write(target, pictures.png(pictures.drawn(pixels, found)))
    size = prediction.sizes[0]
    return Reply(prediction.text, prediction.tokens, prediction.stop, tuple(found), size, target, warning)


def _read(prediction: Prediction, decoder: str, folders: Sequence[Path]) -> tuple[list[Box | Mask], str]:
    """Masks where the text has segmentation tokens, else boxes, else nothing; and why masks could not be."""
    size, warning = prediction.sizes[0], ""
    if "<seg" in prediction.text:
        try:
            masks = make("parsers", f"masks(decoder={decoder!r}, form='objects')").within(folders)
            answer = masks.read(prediction, size)
            if answer:
                return list(answer), ""
        except UserError as error:
            warning = f"masks are not decoded: {error}"
    boxes = make("parsers", "boxes").read(prediction, size) if "<loc" in prediction.text else None
    return list(boxes or ()), warning


def shown(thing: Box | Mask, size: tuple[int, int]) -> str:
    """`box y0 x0 y1 x1 (pixels) label`, and for masks the share of the image that they cover."""
    box = thing.box if isinstance(thing, Mask) else thing
    h, w = size
    pixels = f"box y {box.y0 * h:.0f}–{box.y1 * h:.0f}, x {box.x0 * w:.0f}–{box.x1 * w:.0f} of {h}×{w}"
    if isinstance(thing, Mask):
        from pycocotools import mask as rle

        area = float(rle.area({"size": list(thing.size), "counts": thing.counts.encode()}))
        pixels += f", mask {100 * area / (h * w):.1f} % of the image"
    return f"{pixels}  {box.label}".rstrip()


def reply(options: AskOptions, candidate: Checkpoint) -> Reply:
    """What a model says to one question, as `evalkit ask` is asked."""
    (spec,) = names(options.model)
    decoder = str(demo.mask_decoder()) if spec.startswith("demo:") else ""
    folders = sources.roots(paths(options.data_root))
    overlay = None if options.overlay is None else Path(options.overlay)
    return ask(
        candidate, Path(options.image), options.prompt, options.max_new_tokens, overlay, decoder, folders
    )
