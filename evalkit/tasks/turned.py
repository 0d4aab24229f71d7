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
    does, remedy = "shows it as it is stored", "use --protocol hf, or save the photos upright"
    if exif == "apply":
        does, remedy = "turns it upright", "take the EXIF tag out of the files"
    why = f", but protocol {protocol} {does}, so they are scored wrongly; {remedy}"
    return _sentence(samples, _chosen(samples), exif, why)


def turned_elsewhere(samples: Samples) -> tuple[str, ...]:
    """The same of predictions that were made elsewhere: nothing says which view their program was shown."""
    chosen, shown = (
        _chosen(samples),
        {"ignore": "shows them as they are stored", "apply": "turns them upright"},
    )
    why = "; predictions of a program that {} are scored wrongly"
    said = (_sentence(samples, chosen, exif, why.format(does)) for exif, does in shown.items())
    return tuple(filter(None, said))


def _chosen(samples: Samples) -> Sequence[Sample]:
    """The samples whose photos are looked at; none where there are no boxes or masks."""
    if not len(samples) or not _has_region(samples[0]):
        return ()
    return [samples[at] for at in range(0, len(samples), max(1, len(samples) // LOOKED))]


def _sentence(samples: Samples, chosen: Sequence[Sample], exif: str, why: str) -> str:
    wrong = [sample for sample in chosen if _is_wrong(sample, exif)]
    if not wrong:
        return ""
    seen = f" looked at, of {len(samples):,}" if len(chosen) < len(samples) else ""
    are = "is turned by EXIF and its" if len(wrong) == 1 else "are turned by EXIF and their"
    view = "taken as of the upright picture"
    if exif == "apply":
        view = "of the picture as it is stored, as the stated size shows"
    which = f"{len(wrong):,} of {len(chosen):,} photos{seen} {are} boxes are {view}"
    return f"{which}{why}; the first is {wrong[0].images[0]}"


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
