"""Photos that EXIF turns, where the boxes are of another view of them than the model is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.data.packed import Samples
from evalkit.errors import ImageError
from evalkit.types import Sample

LOOKED = 1000  # samples whose image's header is read
REGIONS = frozenset(("objects", "box", "segmentation"))
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


def turned(samples: Samples, protocol: str, exif: str) -> str:
    """A sentence where boxes or masks are of the upright view and the model is shown the stored one (`exif`
    is `ignore`), or the other way round; '' where all is one. At most `LOOKED` samples are looked at."""
    if not len(samples) or not _has_region(samples[0]):
        return ""
    chosen = [samples[at] for at in range(0, len(samples), max(1, len(samples) // LOOKED))]
    wrong = [sample for sample in chosen if _is_wrong(sample, exif)]
    if not wrong:
        return ""
    seen = f" looked at, of {len(samples):,}" if len(chosen) < len(samples) else ""
    are = "is turned by EXIF and its" if len(wrong) == 1 else "are turned by EXIF and their"
    which = f"{len(wrong):,} of {len(chosen):,} photos{seen} {are} boxes are"
    first = f"the first is {wrong[0].images[0]}"
    if exif == "apply":
        return (
            f"{which} of the picture as it is stored, as the stated size shows, but protocol {protocol} "
            f"turns it upright, so they are scored wrongly; take the EXIF tag out of the files; {first}"
        )
    return (
        f"{which} taken as of the upright picture, but protocol {protocol} shows it as it is stored, so they "
        f"are scored wrongly; use --protocol hf, or save the photos upright; {first}"
    )


def _has_region(sample: Sample) -> bool:
    targets: Sequence[Any] = sample.target if isinstance(sample.target, (list, tuple)) else [sample.target]
    return any(isinstance(target, dict) and REGIONS & target.keys() for target in targets)


def _is_wrong(sample: Sample, exif: str) -> bool:
    from evalkit.images.prepare import header_turn  # Pillow is imported where images are read

    if sample.size is None or len(sample.images) != 1 or not _has_region(sample):
        return False
    try:
        stored, turn = header_turn(sample.images[0])
    except ImageError:  # which is said where images are read
        return False
    if turn not in range(2, 9):
        return False
    as_stored = turn in SIDEWAYS and sample.size == stored != stored[::-1]
    return as_stored == (exif == "apply")
