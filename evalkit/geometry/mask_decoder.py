"""The mask decoder: turns 16 `<seg>` indices into a 64 x 64 mask, and pastes the mask into its box.

Knows no text and no metric. Follows google-research/big_vision transfers/segmentation.py @ 0127fb6b.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit import door
from evalkit.errors import DataError, ModelError
from evalkit.files import cache_folder
from evalkit.geometry import boxes
from evalkit.types import Box, Mask, Size

ENVIRONMENT = "EVALKIT_MASK_DECODER"
FILE = "vae-oid.npz"
MAX_BYTES = 256 << 20  # of the file and of each of its arrays
PUBLISHED_SIZE = 8_479_556
PUBLISHED_SHA256 = "5586010257b8536dddefab65e7755077f21d5672d5674dacf911f73ae95a4447"
WHERE = "gs://big_vision/paligemma/vae-oid.npz (also in the Hugging Face Space big-vision/paligemma-hf)"
BATCH = 32  # masks decoded at once, always: see Decoder.decode
REMEMBERED = 4096  # decoded masks kept in memory, 16 KB each

_SHAPES: dict[str, tuple[int, ...]] = {
    "_vq_vae._embedding": (128, 512),
    "decoder.0.weight": (128, 512, 1, 1),
    "decoder.4.weight": (128, 128, 4, 4),
    "decoder.6.weight": (128, 64, 4, 4),
    "decoder.8.weight": (64, 32, 4, 4),
    "decoder.10.weight": (32, 16, 4, 4),
    "decoder.12.weight": (1, 16, 1, 1),
    "decoder.0.bias": (128,),
    "decoder.4.bias": (128,),
    "decoder.6.bias": (64,),
    "decoder.8.bias": (32,),
    "decoder.10.bias": (16,),
    "decoder.12.bias": (1,),
}
for _block in (2, 3):
    for _layer, _kernel in ((0, 3), (2, 3), (4, 1)):
        _SHAPES[f"decoder.{_block}.net.{_layer}.weight"] = (128, 128, _kernel, _kernel)
        _SHAPES[f"decoder.{_block}.net.{_layer}.bias"] = (128,)

# --- which file --------------------------------------------------------------------------------


def resolve(decoder: str = "", folders: Sequence[Path] = ()) -> Path:
    """The weights' file. With a name: that path, or the path below `folders` (data roots). Without: the
    published file, where EVALKIT_MASK_DECODER says, below `folders`, or in the cache.

    Raises DataError that lists the paths tried and where to get the file.
    """
    if decoder:
        tried = [Path(decoder), *(folder / decoder for folder in dict.fromkeys(folders))]
    else:
        named = os.environ.get(ENVIRONMENT)
        below = [folder / FILE for folder in dict.fromkeys(folders)]
        tried = [Path(named)] if named else [*below, cache_folder() / FILE]
    for path in tried:
        if os.path.isfile(path):
            return path
    places = ", ".join(map(str, tried))
    if decoder:
        raise DataError(f"mask decoder '{decoder}': not found; tried {places}")
    raise DataError(
        f"no mask decoder {FILE}; tried {places}. Get it from {WHERE} and put it at {tried[-1]}, "
        f"or set {ENVIRONMENT} to its path"
    )


def decoder(spelled: str = "", folders: Sequence[Path] = ()) -> Decoder:
    """The decoder that `resolve` finds, loaded once unless its file changes."""
    path = resolve(spelled, folders)
    with door.guarded(path, kind=ModelError):
        found = path.stat()
    state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return _load(str(path.resolve()), state, not spelled)


@lru_cache(maxsize=4)
def _load(path: str, state: tuple[int, ...], published: bool) -> Decoder:
    with door.guarded(path, f"give a {FILE} mask decoder", ModelError):
        data = door.read(path, MAX_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    if published and (len(data), digest) != (PUBLISHED_SIZE, PUBLISHED_SHA256):
        warnings.warn(
            f"{path} is not the published {FILE} ({len(data):,} bytes, sha256 {digest[:12]}..., expected "
            f"{PUBLISHED_SIZE:,}, {PUBLISHED_SHA256[:12]}...): its masks may differ from the reference's",
            stacklevel=4,
        )
    return Decoder(_weights(path, data), digest)


def _weights(path: str, data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """The decoder's arrays by key, with their shapes checked; the encoder's are ignored."""
    with (
        door.guarded(path, "it must be an .npz of plain arrays, complete", ModelError),
        np.load(io.BytesIO(data), allow_pickle=False) as archive,
    ):
        missing = [key for key in _SHAPES if key not in archive.files]
        if missing:
            raise ModelError(f"{path}: has no array '{missing[0]}'; give a {FILE} mask decoder")
        large = [entry.filename for entry in archive.zip.infolist() if entry.file_size > MAX_BYTES]
        if large:
            raise ModelError(f"{path}: '{large[0]}' is larger than any array of a mask decoder")
        arrays = {key: np.asarray(archive[key]) for key in _SHAPES}
    for key, shape in _SHAPES.items():
        if arrays[key].shape != shape or arrays[key].dtype.kind != "f":
            found = f"{arrays[key].dtype} {list(arrays[key].shape)}"
            raise ModelError(f"{path}: {key} is {found}; it must be floats {list(shape)}")
    return {key: np.ascontiguousarray(array, dtype=np.float32) for key, array in arrays.items()}


# --- decoding ----------------------------------------------------------------------------------


class Decoder:
    """The decoder half of the VQ-VAE; remembers masks that it has decoded."""

    def __init__(self, weights: dict[str, npt.NDArray[np.float32]], digest: str) -> None:
        self.digest = digest  # sha256 of the file
        self._weights = weights
        self._torch: dict[str, Any] = {}  # filled by the first decoding: the digest alone needs no torch
        self._known: dict[bytes, npt.NDArray[np.float32]] = {}

    def decode(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Codebook indices (n, 16), 0 to 127, in rows of a 4 x 4 grid, to values (n, 64, 64).

        Values above 0 are foreground; published weights give about -1 to 1. Every batch is filled up to
        one size, because otherwise a mask would depend slightly on the batch (2e-5 was observed).
        Raises ValueError for a wrong shape or an index out of range.
        """
        rows = np.asarray(indices, dtype=np.int64)
        if not rows.size:
            return np.empty((0, 64, 64), dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != 16 or rows.min() < 0 or rows.max() > 127:
            raise ValueError("a mask's codebook indices are sixteen numbers, 0 to 127")
        keys = [row.tobytes() for row in rows.astype(np.uint8)]
        fresh = list({key: i for i, key in enumerate(keys) if key not in self._known}.items())
        decoded = dict(self._known) if fresh else self._known
        for start in range(0, len(fresh), BATCH):
            part = fresh[start : start + BATCH]
            filled = np.zeros((BATCH, 16), dtype=np.int64)
            filled[: len(part)] = rows[[i for _, i in part]]
            values = self._forward(filled)[: len(part)]
            decoded.update((key, value) for (key, _), value in zip(part, values, strict=True))
        result = np.empty((len(rows), 64, 64), dtype=np.float32)
        for i, key in enumerate(keys):
            result[i] = decoded[key]
        if fresh:
            self._known = dict(list(decoded.items())[-REMEMBERED:])
        return result

    def _forward(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        import torch
        from torch.nn import functional

        if not self._torch:
            self._torch = {key: torch.from_numpy(array) for key, array in self._weights.items()}
        weight = self._torch

        def conv(x: Any, name: str, padding: int = 0) -> Any:
            return functional.conv2d(x, weight[f"{name}.weight"], weight[f"{name}.bias"], padding=padding)

        with torch.inference_mode():
            x = weight["_vq_vae._embedding"][torch.from_numpy(rows)]
            x = x.reshape(-1, 4, 4, 512).permute(0, 3, 1, 2)
            x = conv(x, "decoder.0").relu_()
            for block in ("decoder.2.net", "decoder.3.net"):
                inner = conv(x, f"{block}.0", padding=1).relu_()
                inner = conv(inner, f"{block}.2", padding=1).relu_()
                x = x + conv(inner, f"{block}.4")
            for layer in (4, 6, 8, 10):
                name = f"decoder.{layer}"
                x = functional.conv_transpose2d(
                    x, weight[f"{name}.weight"], weight[f"{name}.bias"], stride=2, padding=1
                ).relu_()
            values: npt.NDArray[np.float32] = conv(x, "decoder.12")[:, 0].numpy()
        return values


# --- pasting -----------------------------------------------------------------------------------


def paste(values: npt.NDArray[np.float32], box: Box, size: Size) -> Mask:
    """Pastes (64, 64) values into their box in an image of `size`; returns a run-length-coded Mask.

    The box is truncated to whole pixels and the values are resized to it with Pillow's bilinear
    filter on floats; above 0 is foreground. A box that is empty in pixels gives an empty mask.
    """
    from PIL import Image

    y0, x0, y1, x1 = boxes.pixels(box.coordinates, size)
    if y1 <= y0 or x1 <= x0:
        return Mask(size, counts=_counts(np.zeros((0, 0), dtype=bool), 0, 0, size), box=box, label=box.label)
    resized = Image.fromarray(values).resize((x1 - x0, y1 - y0), resample=Image.Resampling.BILINEAR)
    return Mask(size, counts=_counts(np.asarray(resized) > 0.0, y0, x0, size), box=box, label=box.label)


def _counts(region: npt.NDArray[np.bool_], y0: int, x0: int, size: Size) -> str:
    """COCO's run lengths of an image that is empty except for `region` with its corner at (y0, x0)."""
    from pycocotools import mask

    height, width = size
    rows, columns = region.shape
    # COCO's runs go down the columns. Only the starts and ends of runs matter: they are found in the region
    # alone (with an empty row below, unless it fills the columns) and then shifted to the image.
    gap = int(rows < height)
    flat = np.zeros((columns, rows + gap), dtype=np.int8)
    flat[:, :rows] = region.T
    edges = np.flatnonzero(np.diff(flat.ravel(), prepend=0, append=0))
    column, row = np.divmod(edges, rows + gap)
    places = (x0 + column) * height + y0 + row
    runs = np.diff(places, prepend=0, append=height * width)
    if len(runs) > 1 and runs[-1] == 0:
        runs = runs[:-1]
    plain = {"size": [height, width], "counts": runs.tolist()}
    coded = mask.frPyObjects(plain, height, width)
    counts: str = coded["counts"].decode("ascii")
    return counts
