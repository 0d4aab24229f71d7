"""Labels that a model wrote, and the names that they stand for; knows no box and no metric."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterable

LISTED = 5  # labels without a name that are said


def meant(label: str, names: Collection[str], lowercase: bool = False) -> str | None:
    """The name that a label is; with `lowercase`, where it is none as it stands, one that is equal in lower
    case."""
    if label in names or not lowercase:
        return label if label in names else None
    return next((name for name in names if name.lower() == label.lower()), None)


def strange(labels: Iterable[str], names: Collection[str], lowercase: bool = False) -> dict[str, int]:
    """How many boxes have a label that is none of all `names`, and the commonest of these with the nearest
    name; and how many have one that their own question does not ask for. {} where there are none."""
    lost = Counter(labels)
    others = sum(lost.pop(label) for label in list(lost) if meant(label, names, lowercase) is not None)
    found = {"boxes of a category that was not asked for": others} if others else {}
    common = lost.most_common(LISTED)
    named = {f"of them {_short(label)}{_nearest(label, names)}": n for label, n in common}
    return found | ({"boxes with a label that is no category": lost.total(), **named} if lost else {})


def _short(label: str) -> str:
    return repr(label if len(label) <= 40 else label[:37] + "...")


def _nearest(label: str, names: Collection[str]) -> str:
    """`, nearest 'cat'`: the name that a label of another spelling, or cut off at < or ;, stands for."""
    there, plain = list(names), _plain(label)
    same = [n for n in there if _plain(n) == plain] or [
        n for n in there if plain and _plain(re.split("[<;]", n)[0]) == plain
    ]
    close = same or difflib.get_close_matches(label, there, n=1, cutoff=0.6)
    return f", nearest {_short(close[0])}" if close else ""


def _plain(text: str) -> str:
    """A name without case, article, punctuation and blanks at its ends."""
    words = text.casefold().strip(" .,:;").split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)
