"""HTML as lxml reads it, which is libxml2; never raises. Knows no metric.

PubTabNet's script reads by lxml too. Another version of libxml2 may mend broken HTML in another way, so the
version goes into the signatures of metrics that read trees.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast
from xml.etree.ElementTree import Element


def parse(text: str) -> Element | None:
    """The document's root (always html), or None where there is nothing to read.

    The elements are lxml's, used as those of the standard library; comments and processing instructions
    are dropped. Reading ends where libxml2 gives up: at 256 elements inside each other, at half a surrogate
    pair, and at over ten million characters in one piece.
    """
    from lxml import etree  # here, as in the others: `evalkit list` imports the metrics

    root = etree.fromstring(text, etree.HTMLParser(remove_comments=True, remove_pis=True))
    return cast("Element | None", root)


def unwrap(element: Element, tags: Collection[str]) -> None:
    """Takes elements of these tags out from below the element; what they hold stays in their place."""
    from lxml import etree

    etree.strip_tags(element, *tags)


def reader() -> str:
    """What reads, for signatures: `libxml2 2.14.6`."""
    from lxml import etree

    return f"libxml2 {'.'.join(map(str, etree.LIBXML_VERSION))}"
