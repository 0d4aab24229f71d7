"""What a target's `<loc>` text spells, judged: the boxes that are right, and what is wrong with the rest.

A model's answer is read by `location_tokens` alone, which takes what it can; in a target nothing may be lost
without a word.
"""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.geometry import location_tokens
from evalkit.geometry.location_tokens import Found

_SHOWN = 60  # characters of a wrong text
_LEFT_OUT = "the box is left out"


@dataclass(frozen=True, slots=True)
class Judged:
    """The boxes to score, and of all others the kind of mistake and a sentence."""

    kept: tuple[Found, ...]
    problems: tuple[tuple[str, str], ...]


def judged(text: str, labelled: bool = True) -> Judged:
    """`labelled`: whether a box must have a label; False for data whose boxes never have one."""
    matches = list(location_tokens.OBJECT.finditer(text))
    found = location_tokens.objects(text)
    edges = [0, *(end for match in matches for end in match.span()), len(text)]
    gaps = [text[edges[n] : edges[n + 1]].split(";") for n in range(0, len(edges), 2)]
    first = bool(matches) and gaps[0][-1].strip() and "<" not in gaps[0][-1] and not found[-1].label
    kept, problems = [], list(_apart(gaps[0][:-1]))
    for number, (match, each) in enumerate(zip(matches, found, strict=True)):
        before, after = gaps[number][-1].strip(), gaps[number + 1]
        shown = _quoted(f"{before} {match.group()} {after[0]}".strip())
        wrong = _problem(each, before, after[0].strip(), bool(first), labelled)
        if wrong:
            problems.append((wrong[0], f"{shown} {wrong[1]}; {_LEFT_OUT}"))
        else:
            kept.append(each)
            problems += _beside(
                before, after[0].strip() if len(after) > 1 or number + 1 == len(found) else ""
            )
        problems += _apart(after[1:-1] if number + 1 < len(found) else after[1:])
    return Judged(tuple(kept), tuple(problems))


def _problem(each: Found, before: str, after: str, first: bool, labelled: bool) -> tuple[str, str] | None:
    """Why a box does not count; `before` and `after` are what is not read beside it, up to the next `;`."""
    broken = (
        "holds a token too many or broken; a box is four in a row, <loc0000> to <loc1023>, then its label"
    )
    if (before.endswith(">") and "<loc" in before) or (after.startswith("<loc") and not each.label):
        return "tokens", broken
    if after.startswith("<seg") and not each.label:
        return "masks", "holds no sixteen tokens <seg000> to <seg127> after its box"
    if first or (before and "<" not in before and not each.label):
        return "before", "has the label before the box; it comes after it"
    if labelled and not each.label:
        return "unlabelled", "has no label"
    if each.swapped:
        return "swapped", f"is {location_tokens.SWAPPED}; it is y0, x0, y1, x1"
    return None if each.sound else ("flat", "is a box without area")


def _beside(*texts: str) -> list[tuple[str, str]]:
    """What is not read beside a box that counts."""
    return [_broken(text) if "<loc" in text else _stray(text) for text in texts if text]


def _apart(texts: list[str]) -> list[tuple[str, str]]:
    """What stands between two `;` without a box."""
    return [
        _broken(t) if "<" in t else ("boxless", f"{_quoted(t)} has no box; it is left out")
        for t in map(str.strip, texts)
        if t
    ]


def _broken(text: str) -> tuple[str, str]:
    return "tokens", f"{_quoted(text)} is no box: four in a row, <loc0000> to <loc1023>; {_LEFT_OUT}"


def _stray(text: str) -> tuple[str, str]:
    return "stray", f"{_quoted(text)} belongs to no box and is not read"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
