"""Parses HTML with lxml, which uses libxml2; never raises. Knows no metric.

PubTabNet's script uses lxml too. Another version of libxml2 may repair broken HTML in another way, so the
version is part of the signatures of metrics that compare trees.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast
from xml.etree.ElementTree import Element


def parse(text: str) -> Element | None:
    """The document's root (always html), or None if there is nothing to parse.

    The elements are lxml's, but only what the standard library's have is used; comments and processing
    instructions are dropped. Parsing ends where libxml2 gives up: at 256 nested elements, at half a surrogate
    pair, and at more than ten million characters in one text.
    """
    from lxml import etree  # not at the top, here and below: `evalkit list` imports the metrics

    root = etree.fromstring(text, etree.HTMLParser(remove_comments=True, remove_pis=True))
    return cast("Element | None", root)


def unwrap(element: Element, tags: Collection[str]) -> None:
    """Removes the tags of such elements below the element; their content stays in its place."""
    from lxml import etree

    etree.strip_tags(element, *tags)


def reader() -> str:
    """Name and version of the parser for signatures: `libxml2 2.14.6`."""
    from lxml import etree

    return f"libxml2 {'.'.join(map(str, etree.LIBXML_VERSION))}"
