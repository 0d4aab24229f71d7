"""How VQA-style scorers normalise an answer before comparing it; knows no metric and no dataset.

Four dialects, each equal to its reference for every string:

- `official`: GT-Vision-Lab/VQA vqaEval.py @ a013f004, with the bug that only the first 32 full stops
  are removed (a flag passed as a count). `\\d` is Unicode's, as when that script runs under Python 3.
- `big_vision`: google-research/big_vision transfers/vqav2.py @ 0127fb6b; the same without that bug.
- `mmf`: facebookresearch/mmf m4c_evaluators.py @ b0ffc7fb (TextVQA, ST-VQA).
- `vizwiz`: the VizWiz API's copy, whose table of contractions has typographic apostrophes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

_COUNTED = "zero one two three four five six seven eight nine ten"
_COUNTED_ON = "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
NUMBERS = {word: str(value) for value, word in enumerate(_COUNTED.split())} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))

# A contraction is repaired if exactly one of its apostrophes is missing: both "couldnt've" and
# "couldn'tve" become "couldn't've". The references list all of these in one table.
_FORMS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've
mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't
shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's
something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've
they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_CONTRACTIONS = _FORMS.split()
_STRAIGHT_IN_VIZWIZ = ("ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've")


def _repairs(forms: Iterable[str], mark: str) -> dict[str, str]:
    return {f[:i] + f[i + 1 :]: f for f in forms for i, c in enumerate(f) if c == mark}


def _vizwiz_words() -> dict[str, str]:
    curly = [f.replace("'", "’") for f in _CONTRACTIONS if f not in _STRAIGHT_IN_VIZWIZ]
    table = _repairs(curly, "’") | _repairs(_STRAIGHT_IN_VIZWIZ, "'")
    for word in ("couldn", "hadn"):  # these two keep a straight apostrophe in one key
        table.pop(f"{word}’tve")
        table[f"{word}'tve"] = f"{word}’t’ve"
    return table | {"somebody’d": "somebodyd"} | NUMBERS


# "somebody'd" loses its apostrophe: a mistake of the reference that is kept.
_WORDS = _repairs(_CONTRACTIONS, "'") | {"somebody'd": "somebodyd"} | NUMBERS
_VIZWIZ_WORDS = _vizwiz_words()

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_ANY_MARK = re.compile(f"[{re.escape(_MARKS)}]")
_DIGIT_COMMA = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")
_OFFICIAL_STOPS = 32  # re.UNICODE, passed where the count belongs


@lru_cache(maxsize=1 << 17)
def tidy(text: str) -> str:
    """Turns newlines and tabs into spaces and strips the ends, as every dialect does first."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def _punctuation(text: str, stops: int) -> str:
    """Drops the 21 marks or turns them into spaces, then drops up to `stops` (0: all) full stops that are
    not before a digit."""
    out = text
    present = set(_ANY_MARK.findall(text))
    if present:
        comma = _DIGIT_COMMA.search(text) is not None
        for mark in present:
            drop = comma or f"{mark} " in text or f" {mark}" in text
            out = out.replace(mark, "" if drop else " ")
    return _STOP.sub("", out, count=stops) if "." in out else out


def _reworded(text: str, table: Mapping[str, str]) -> str:
    return " ".join(table.get(w, w) for w in text.lower().split() if w not in _ARTICLES)


@lru_cache(maxsize=1 << 17)
def official(text: str) -> str:
    """`text` (already tidy) as the official script compares it if the human answers differ."""
    return _reworded(_punctuation(text, _OFFICIAL_STOPS), _WORDS)


@lru_cache(maxsize=1 << 17)
def big_vision(text: str) -> str:
    """`text` (already tidy) as big_vision's vqav2 evaluator compares it if the human answers differ."""
    return _reworded(_punctuation(text, 0), _WORDS)


@lru_cache(maxsize=1 << 17)
def vizwiz(text: str) -> str:
    """`text` (already tidy) as the VizWiz script prepares a prediction."""
    return _reworded(_punctuation(text, _OFFICIAL_STOPS), _VIZWIZ_WORDS)


@lru_cache(maxsize=1 << 17)
def mmf(text: str) -> str:
    """`text` (raw) as MMF's answer processor normalises it."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return _reworded(_punctuation(tidy(text), _OFFICIAL_STOPS), _WORDS)


_COUNTS = {w: str(n) for n, w in enumerate(f"{_COUNTED} {_COUNTED_ON}".split())} | {"none": "0"}


def count(text: str) -> str:
    """A number word up to twenty as digits, any other text unchanged; strips nothing.

    google-research/big_vision transfers/tallyqa.py @ 0127fb6b.
    """
    return _COUNTS.get(text.lower(), text)


DIALECTS: dict[str, Callable[[str], str]] = {
    "official": lambda text: official(tidy(text)),
    "big_vision": lambda text: big_vision(tidy(text)),
    "mmf": mmf,
    "vizwiz": lambda text: vizwiz(tidy(text)),
    "count": count,
}
"""By name, the function from raw text to the text that the dialect compares."""
