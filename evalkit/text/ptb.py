"""Penn Treebank tokens of a caption as pycocoevalcap makes them, without Java.

The reference is Stanford's PTBTokenizer (CoreNLP 3.4.1, options -preserveLines -lowerCase) called by
salaniz/pycocoevalcap tokenizer/ptbtokenizer.py @ ad63453c, which then drops punctuation. There are two
functions because the tokenizer looks across line ends: `caption` treats a text as a line that another line
follows, the normal case; `batch` treats a whole list as the reference does.

Not matched: letters added after Unicode 6.2 in scripts that no list here names, and batches of more than
16,384 characters in which an abbreviation meets one of JFlex 1.4's stale look-ahead marks (never observed).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from evalkit.text.lexer import Known
from evalkit.text.ptb_rules import lexer

_PUNCTUATION = "'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;"
DROPPED = frozenset(_PUNCTUATION.split())
"""Tokens that pycocoevalcap removes. Brackets stay, because they are lower-cased by then."""


@lru_cache(maxsize=1 << 16)
def caption(text: str) -> str:
    """The tokens of one caption, joined by blanks, as in a batch in which a neutral line follows."""
    lines = _lines(text.replace("\n", " ") + "\nx")
    return " ".join(filter(None, map(_kept, lines[:-1])))


def batch(texts: Sequence[str]) -> list[str]:
    """The tokens of all captions as one call of the reference gives them, with its effects across captions.

    A line separator other than LF inside a caption shifts all later captions by a line, as in the
    reference; the result is as long as `texts` unless the reference loses empty lines at the end.
    """
    lines = _lines("\n".join(text.replace("\n", " ") for text in texts))
    return [_kept(line) for line in lines[: len(texts)]]


def raw(text: str) -> str:
    """The tokenizer's own output for a file, with punctuation and lines."""
    return "\n".join(_lines(text))


def _kept(line: str) -> str:
    return " ".join(word for word in line.rstrip().split(" ") if word not in DROPPED)


# --- from the lexer's matches to tokens --------------------------------------------------------

_FRACTIONS = {"\xbc": "1/4", "\xbd": "1/2", "\xbe": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_MONEY = str.maketrans({"\xa2": "cents", "\xa3": "#", **dict.fromkeys("\x80\xa4\u20a0\u20ac", "$")})
_ROUND = str.maketrans({"(": "-LRB-", ")": "-RRB-"})
_SQUARE = str.maketrans({"{": "-LCB-", "}": "-RCB-", "[": "-LSB-", "]": "-RSB-"})
_QUOTES = str.maketrans(
    {
        **dict.fromkeys("\x91\u2018\u201b\u2039", "`"),
        **dict.fromkeys("\x92\u2019\u203a", "'"),
        **dict.fromkeys("\x93\u201c\xab", "``"),
        **dict.fromkeys("\x94\u201d\xbb", "''"),
    }
)
_AMPERSAND = re.compile("&amp;", re.IGNORECASE)
_REWRITES: dict[str, Callable[[str], str]] = {
    "unbroken": lambda t: t.replace(" ", "\xa0"),
    "dash": lambda _: "--",
    "ampersand": lambda t: _AMPERSAND.sub("&", t),
    "soft": lambda t: t.replace("\xad", "") or "-",
    "quote": lambda t: _quoted(t, "'"),
    "opening quote": lambda t: _quoted(t, "`"),
    "fraction": lambda t: _FRACTIONS.get(t, t),
    "money": lambda t: t.translate(_MONEY),
    "phone": lambda t: t.replace(" ", "\xa0").translate(_ROUND),
    "less": lambda _: "<",
    "greater": lambda _: ">",
    "brackets": lambda t: t.translate(_ROUND),
    "any bracket": lambda t: t.translate(_ROUND).translate(_SQUARE),
    "hyphens": lambda t: "--" if len(t) in (3, 4) else t,
    "ellipsis": lambda _: "...",
}


def _quoted(token: str, single: str) -> str:
    token = token.replace("&apos;", "'").replace("&quot;", '"')
    return token.replace("'", single).replace('"', 2 * single).translate(_QUOTES)


def _lines(text: str) -> list[str]:
    """The tokenizer's output for a file of this text, split at its line ends."""
    wide = max(text, default="") > "\uffff"
    if wide:  # Java reads UTF-16: a character beyond the first plane is two unknown ones
        text = "".join(map(chr, np.frombuffer(text.encode("utf-16-le", "surrogatepass"), "<u2")))
    output = "".join(_printed(text))
    if wide:
        output = output.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return output.split("\n")


def _printed(text: str) -> Iterator[str]:
    machine, place, fresh = lexer(), 0, True
    known: Known = {}
    while place < len(text):
        rule, end = machine.match(text, place, known)
        name, token = machine.rules[rule].name, text[place:end]
        place = end
        if name == "nothing":
            continue
        if name == "line":
            fresh = True
            yield "\n"
            continue
        if name == "split three" or name == "split two":
            place -= 3 if name == "split three" else 2
            token = text[end - len(token) : place]
        elif name == "stop twice" or name == "acronym":
            # An abbreviation that ends a sentence keeps its full stop and is followed by another one; a
            # single letter ("I.") loses its own.
            place -= 1
            if name == "acronym" and len(token) == 2:
                token = token[:-1]
        elif name in _REWRITES:
            token = _REWRITES[name](token)
        yield _lowered(token) if fresh else " " + _lowered(token)
        fresh = False


# --- lower case ----------------------------------------------------------------------------------

_SIGMA = "\u03a3"
# A word as java.text.BreakIterator sees it: letters with single dashes, stops, quotes between them, and
# numbers. By kinds of characters: Letter, Mark, Digit, Punctuation in words, Quote or stop, Comma.
_EAST_ASIAN = re.compile("[\u3005\u3041-\u3094\u3099-\u309c\u30a1-\u30fe\u4e00-\u9fa5\uf900-\ufa2d]")
_CASED = re.compile(
    "[\u02b0-\u02b8\u02c0\u02c1\u02e0-\u02e4\u0345\u037a\u1d2c-\u1d61\u2160-\u217f\u24b6-\u24e9]"
)
_JAVA_WORD = re.compile("(?:L[LM]*(?:[PQ]L[LM]*)*|D[DM]*(?:[QC]D[DM]*)*)+")
_KINDS = {**dict.fromkeys(".'\"", "Q"), **dict.fromkeys(",\u066b", "C"), "\u2027": "P"}


def _kind(c: str) -> str:
    group = unicodedata.category(c)
    if group in ("Mn", "Me", "Cf"):
        return "M"
    if _EAST_ASIAN.match(c):
        return "O"
    return _KINDS.get(c) or {"L": "L", "N": "D"}.get(group[0]) or ("P" if group in ("Pd", "Pc") else "O")


def _lowered(token: str) -> str:
    """Lower case as Java's toLowerCase, which finds a final sigma by its own rules for word ends."""
    if _SIGMA not in token:
        return token.lower()
    cased = [unicodedata.category(c) in ("Lu", "Ll", "Lt") or _CASED.match(c) for c in token]
    final = set[int]()
    for word in _JAVA_WORD.finditer("".join(map(_kind, token))):
        letters = [i for i in range(*word.span()) if cased[i]]
        if len(letters) > 1:
            final.add(letters[-1])
    places = [-1, *(i for i, c in enumerate(token) if c == _SIGMA), len(token)]
    pieces = [token[a + 1 : b].lower() for a, b in pairwise(places)]
    ends = ["\u03c2" if i in final else "\u03c3" for i in places[1:-1]]
    return "".join(p + e for p, e in zip(pieces, [*ends, ""], strict=True))
