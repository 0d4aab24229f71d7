"""Numbers and dates as people and models write them; knows no metric."""

from __future__ import annotations

import datetime
import math
import re

_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
_CURRENCY = "$€£¥"
_FORMS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y",
    "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d %B %Y", "%d %b %Y", "%B %d %Y", "%b %d %Y", "%d-%b-%Y",
    "%d-%B-%Y",
)  # fmt: skip


def number(text: str) -> float | None:
    """The number that a whole text is: `1,234.5`, `-3`, `$12`, `12 €`, `45%` (0.45); None for any other text,
    and for what is not finite."""
    plain = text.strip().replace("−", "-")
    share = plain.endswith("%")
    plain = plain.rstrip("%").strip(_CURRENCY + " ")
    if plain[:1] in ("+", "-"):
        plain = plain[0] + plain[1:].lstrip(_CURRENCY + " ")
    if _GROUPED.fullmatch(plain):
        plain = plain.replace(",", "")
    try:
        value = float(plain) if "_" not in plain else math.nan
    except ValueError:
        return None
    return (value / 100 if share else value) if math.isfinite(value) else None


def dates(text: str) -> frozenset[datetime.date]:
    """The days that a whole text may mean: two for 03/04/2024, none for what is no date."""
    plain = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", text.strip().replace(",", " "))
    plain = " ".join(plain.split())
    if moment := re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ]\d\d:\d\d.*", plain):
        plain = moment[1]
    found = set()
    for form in _FORMS:
        try:
            found.add(datetime.datetime.strptime(plain, form).date())
        except ValueError:
            continue
    return frozenset(found)
