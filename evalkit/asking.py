"""One question about one image: the text, its tokens, parsed boxes and masks, and an overlay picture."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from evalkit import results, sources
from evalkit.errors import DataError, UserError
from evalkit.lookup import make
from evalkit.types import Box, Checkpoint, Decode, ImageRef, Mask, Prediction, Preparation, Request

COLOURS = ((230, 57, 70), (29, 120, 200), (42, 157, 80), (244, 162, 30), (131, 56, 236), (0, 150, 160))


def ask(
    candidate: Checkpoint,
    image: Path,
    prompt: str,
    max_new_tokens: int,
    overlay: Path | None,
    decoder: str,
) -> int:
    """Prints what the model says; draws boxes and masks where the answer has any.

    Images are prepared as a person's own are: by the checkpoint's protocol, else as transformers does.
    """
    if not image.is_file():
        raise DataError(f"{image}: no such image; give the path of a picture")
    protocol = candidate.protocol or "hf"
    if protocol == "hf":
        preparation = Preparation(
            candidate.resolution, resize="bicubic", antialias=True, jpeg="precise", exif="apply"
        )
    else:
        preparation = Preparation(candidate.resolution)
    reference = ImageRef(str(image))
    decode = Decode(max_new_tokens=max_new_tokens, text_length=None)
    request = Request("ask", (reference,), prompt, preparation, decode)
    (prediction,) = candidate.load(protocol).predict([request])
    print(prediction.text)
    print(f"tokens  {list(prediction.tokens)}; stopped at {prediction.stop}", file=sys.stderr)
    found = _read(prediction, decoder)
    for thing in found:
        print(f"  {_shown(thing, prediction.sizes[0])}")
    if found:
        target = overlay or Path(f"{image.stem}.answer.png")
        results.atomic_write(target, _draw(reference, found, preparation.exif))
        print(f"overlay {target}", file=sys.stderr)
    return 0


def _read(prediction: Prediction, decoder: str) -> list[Box | Mask]:
    """Masks where the text has segmentation tokens, else boxes, else nothing."""
    size = prediction.sizes[0]
    if "<seg" in prediction.text:
        try:
            answer = make("parsers", f"masks(decoder={decoder!r}, form='objects')").read(prediction, size)
        except UserError as error:
            print(f"masks   not decoded: {error}", file=sys.stderr)
            answer = None
        if answer:
            return list(answer)
    return list(make("parsers", "boxes").read(prediction, size) or ()) if "<loc" in prediction.text else []


def _shown(thing: Box | Mask, size: tuple[int, int]) -> str:
    """`box y0 x0 y1 x1 (pixels) label`, and for masks the share of the image that they cover."""
    box = thing.box if isinstance(thing, Mask) else thing
    h, w = size
    pixels = f"box y {box.y0 * h:.0f}–{box.y1 * h:.0f}, x {box.x0 * w:.0f}–{box.x1 * w:.0f} of {h}×{w}"
    if isinstance(thing, Mask):
        from pycocotools import mask as rle

        area = float(rle.area({"size": list(thing.size), "counts": thing.counts.encode()}))
        pixels += f", mask {100 * area / (h * w):.1f} % of the image"
    return f"{pixels}  {box.label}".rstrip()


def _draw(reference: ImageRef, things: list[Box | Mask], exif: str) -> bytes:
    """The image with every box outlined and every mask tinted, as PNG bytes."""
    import numpy as np
    from PIL import Image, ImageDraw
    from pycocotools import mask as rle

    from evalkit import images

    pixels = images.decode(sources.read_bytes(reference), exif=exif)
    for i, thing in enumerate(things):
        if isinstance(thing, Mask):
            inside = rle.decode({"size": list(thing.size), "counts": thing.counts.encode()}).astype(bool)
            colour = np.array(COLOURS[i % len(COLOURS)])
            pixels[inside] = (0.5 * pixels[inside] + 0.5 * colour).astype(np.uint8)
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    w, h = picture.size
    for i, thing in enumerate(things):
        box = thing.box if isinstance(thing, Mask) else thing
        colour3 = COLOURS[i % len(COLOURS)]
        corners = (box.x0 * w, box.y0 * h, box.x1 * w, box.y1 * h)
        draw.rectangle(corners, outline=colour3, width=max(2, min(w, h) // 150))
        if box.label:
            draw.text((corners[0] + 4, corners[1] + 3), box.label, fill=colour3)
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue()
