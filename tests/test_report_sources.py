"""The report's page as sources: all are loaded, nothing else is, and nothing in them makes HTML of text."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "evalkit" / "viewer" / "page"
INDEX = (PAGE / "index.html").read_text(encoding="utf-8")
SOURCES = sorted(PAGE.glob("*.js"))
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'"
)
VENDORED = {  # from the registry's packages, byte by byte: preact 10.29.8 and htm 3.1.1
    "preact.js": "134b77bc803fa386",
    "hooks.js": "5c29238e5dc99df3",
    "htm.js": "7a31776e04bd4afd",
}


def test_the_page_loads_its_files_and_no_others() -> None:
    """Each is its own tag, without anything inline: the policy would refuse it."""
    assert f'content="{POLICY}"' in INDEX
    loaded = re.findall(r'<script src="page/([^"]+)" defer></script>', INDEX)
    assert len(loaded) == INDEX.count("<script") == len(set(loaded))
    assert set(loaded) == {p.relative_to(PAGE).as_posix() for p in PAGE.rglob("*.js")}
    assert re.findall(r'(?:href|src)="(?!page/)([^"]*)"', INDEX) == ["data:,"]
    assert " style=" not in INDEX
    assert " on" not in re.sub(r">[^<]*<", "><", INDEX)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_no_source_makes_html_of_text_or_asks_the_network(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    forbidden = (
        "innerHTML", "outerHTML", "insertAdjacentHTML", "dangerouslySetInnerHTML", "document.write", "eval(",
        "new Function", "srcdoc", "fetch(", "XMLHttpRequest", "WebSocket", "import(", "setAttribute(",
    )  # fmt: skip
    found = [
        word
        for word in forbidden
        if re.search(r"(?<![\w.])" + re.escape(word) if "(" in word else word, text)
    ]
    assert found == [], path.name
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert text.startswith("/*")
    assert '"use strict";' in text
    assert text.count("\n") < 400


def test_vendored_files_are_the_packages_own_with_their_licences() -> None:
    folder = PAGE / "vendor"
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in folder.glob("*.js")}
    assert found == VENDORED
    assert "The MIT License" in (folder / "LICENSE-preact").read_text()
    assert "Apache License" in (folder / "LICENSE-htm").read_text()


def test_everything_together_is_small() -> None:
    sizes = sum(p.stat().st_size for p in PAGE.rglob("*") if p.suffix in (".js", ".css", ".html"))
    assert sizes < 200_000
