"""HTML as libxml2 reads it, into a plain tree; never raises, never recurses. Knows no metric.

Follows HTMLparser.c of GNOME/libxml2 2.14.6, what lxml 6.1 reads with: HTML 5's tokens, but libxml2's own
and older rules for which start tag closes which element. Left out: what is special to scripts that
hold comments, and strict doctypes. Comments and processing instructions are dropped.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

DEEPEST = 256  # elements inside each other; libxml2 stops reading where a document goes deeper

_TABLE = {"tbody", "tfoot"}
_CELL = {*_TABLE, "td", "th", "tr"}
_TITLES = {"fieldset", "form", "li", "table"}
_LISTS = {"dd", "dl", "dt", "form", "ul"}
_INLINE = {
    "a",
    "abbr",
    "acronym",
    "b",
    "bdo",
    "big",
    "cite",
    "code",
    "dfn",
    "em",
    "font",
    "i",
    "img",
    "kbd",
    "q",
}
_INLINE |= {"s", "samp", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var"}
_BLOCK = {"address", "blockquote", "body", "center", "dd", "dir", "div", "dl", "dt", "fieldset", "form"}
_BLOCK |= {"frameset", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "listing", "menu", "ol", "p", "pre"}
_BLOCK |= {"table", "ul", "xmp"}
_CLOSED_BY: dict[str, set[str]] = {
    "a": {"a", "fieldset", "table", "td", "th"},
    "address": {"dd", "dl", "dt", "form", "li", "ul"},
    "b": {"center", "p", "td", "th"},
    "caption": {*_TABLE, "col", "colgroup", "thead", "tr"},
    "col": {*_TABLE, "col", "colgroup", "thead", "tr"},
    "colgroup": {*_TABLE, "colgroup", "thead", "tr"},
    "dd": {"dt"},
    "dir": _LISTS,
    "dl": {"form", "li"},
    "dt": {"dd", "dl"},
    "font": {"center", "td", "th"},
    "form": {"form"},
    "head": {*_INLINE, *_BLOCK, "br", "iframe", "map"},
    "hr": {"form"},
    "i": {"center", "p", "td", "th"},
    "legend": {"fieldset"},
    "li": {"li"},
    "link": {"body", "frameset"},
    "listing": {*_LISTS, *_TITLES},
    "menu": _LISTS,
    "ol": {"form"},
    "option": {"optgroup", "option"},
    "p": {*_BLOCK, *_CELL, "caption", "col", "colgroup", "head", "title"},
    "pre": {*_LISTS, *_TITLES},
    "script": {"noscript"},
    "span": {"td", "th"},
    "style": {"body", "frameset"},
    "tbody": _TABLE,
    "td": _CELL,
    "tfoot": {"tbody"},
    "th": _CELL,
    "thead": _TABLE,
    "title": {"body", "frameset"},
    "tr": {*_TABLE, "tr"},
    "u": {"p", "td", "th"},
    "ul": {"address", "form", "menu", "pre"},
    "xmp": {*_LISTS, *_TITLES},
    **{f"h{n}": {*_TITLES, "p"} for n in range(1, 7)},
    **{tag: {"p"} for tag in ("big", "s", "small", "strike", "tt")},
}
_RANK = {"div": 150, "td": 160, "th": 160, "tr": 170, "thead": 180, "tbody": 180, "tfoot": 180}
_RANK |= {"table": 190, "head": 200, "body": 200, "html": 220}  # any other element: 100
_EMPTY = {
    "area",
    "base",
    "basefont",
    "br",
    "col",
    "frame",
    "hr",
    "img",
    "input",
    "isindex",
    "link",
    "meta",
    "param",
}
_RAW = {"iframe", "noembed", "noframes", "script", "style", "xmp", "textarea", "title", "plaintext"}
_READ = {"textarea", "title"}  # raw, but character references are read
_IN_HEAD = {"script", "style", "meta", "link", "title", "base"}

_SPACE = " \t\n\f\r"
_NAME = re.compile(r"[^\s/>]+")
_COMMENT_END = re.compile(r"--!?>")
_ATTRIBUTE = re.compile(  # a name, then perhaps = and a value: quoted, bare, or quoted without an end
    r"""([^ \t\n\f/>][^ \t\n\f/>=]*+)"""
    r"""(?:[ \t\n\f]*+=[ \t\n\f]*+(?:"([^"]*+)"|'([^']*+)'|(?!["'])([^ \t\n\f>]*+)|["'].*+))?+""",
    re.DOTALL,
)


@dataclass(eq=False, slots=True)
class Node:
    """One element: text before its first child, children, and `tail`: text after its own end."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    tail: str = ""
    children: list[Node] = field(default_factory=list)


def parse(text: str) -> Node | None:
    """The document's root (always html), or None where there is nothing to read."""
    return _Reader(text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")).read()


class _Reader:
    """The text, how far it is read, and the elements that are open."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.open: list[Node] = []
        self.roots: list[Node] = []
        self.seen: set[str] = set()
        self.ignored = 0  # html, head and body tags that were passed over: so are as many end tags

    def read(self) -> Node | None:
        text = self.text
        while self.at < len(text) and len(self.open) <= DEEPEST:
            if text[self.at] != "<":
                end = text.find("<", self.at)
                self.at, start = end if end >= 0 else len(text), self.at
                self._characters(html.unescape(text[start : self.at]))
                continue
            after = text[self.at + 1 : self.at + 2]
            if after == "/":
                self._end_tag()
            elif after in ("!", "?") and after:
                self._skip_comment()
            elif after.isascii() and after.isalpha():
                self._start_tag()
            else:
                self._characters("<")
                self.at += 1
        return self.roots[0] if self.roots else None

    def _skip_comment(self) -> None:
        """Comments to their end; <!...> and <?...> to the next >."""
        text = self.text
        if not text.startswith("<!--", self.at):
            end = text.find(">", self.at)
            self.at = end + 1 if end >= 0 else len(text)
            return
        for short in (">", "->"):
            if text.startswith(short, self.at + 4):
                self.at += 4 + len(short)
                return
        found = _COMMENT_END.search(text, self.at + 4)
        self.at = found.end() if found else len(text)

    def _start_tag(self) -> None:
        name = self._name(self.at + 1)
        while self.open and name in _CLOSED_BY.get(self.open[-1].tag, ()):
            self.open.pop()
        self._imply(name)
        misplaced = (
            (name == "html" and bool(self.open))
            or (name == "head" and len(self.open) != 1)
            or (name == "body" and any(node.tag == "body" for node in self.open))
        )
        self.ignored += misplaced
        attributes = self._attributes()
        if self.at >= len(self.text):  # cut off within the tag
            return
        if not misplaced:
            self._push(name, attributes)
        if self.text[self.at] == "/":  # <td/>; a misplaced tag ends what it stands in
            self.at += 2
            if self.open:
                self.open.pop()
            return
        self.at += 1
        if not self.open:
            return
        inner = self.open[-1].tag
        if inner in _EMPTY:
            self.open.pop()
        elif inner in _RAW:
            self._raw(inner)

    def _raw(self, name: str) -> None:
        """The text of script, style and the like, up to their end tag."""
        end = re.compile(rf"</{re.escape(name)}[\s/>]", re.IGNORECASE).search(self.text, self.at)
        start, self.at = self.at, end.start() if end and name != "plaintext" else len(self.text)
        text = self.text[start : self.at]
        self._characters(html.unescape(text) if name in _READ else text)

    def _end_tag(self) -> None:
        after = self.text[self.at + 2 : self.at + 3]
        if not after:
            self._characters("</")
            self.at = len(self.text)
            return
        if not (after.isascii() and after.isalpha()):
            end = self.text.find(">", self.at)
            self.at = end + 1 if end >= 0 else len(self.text)
            return
        name = self._name(self.at + 2)
        self._attributes()
        if self.at >= len(self.text):
            return
        self.at += 2 if self.text[self.at] == "/" else 1
        if self.ignored and name in ("html", "body", "head"):
            self.ignored -= 1
            return
        rank = _RANK.get(name, 100)
        for depth in range(len(self.open) - 1, -1, -1):
            tag = self.open[depth].tag
            if tag == name:
                del self.open[depth:]
                return
            if _RANK.get(tag, 100) > rank:
                return

    def _name(self, start: int) -> str:
        found = _NAME.match(self.text, start)
        assert found  # callers saw a letter there
        self.at = found.end()
        return _lower(found.group())

    def _attributes(self) -> dict[str, str]:
        """Attributes up to > or />, where it stops; the first of equal names counts."""
        result: dict[str, str] = {}
        text = self.text
        while True:
            while self.at < len(text) and text[self.at] in _SPACE:
                self.at += 1
            if self.at >= len(text) or text[self.at] == ">" or text.startswith("/>", self.at):
                return result
            if text[self.at] == "/":
                self.at += 1
                continue
            found = _ATTRIBUTE.match(text, self.at)
            assert found  # any character but those above begins a name
            self.at = found.end()
            name, *values = found.groups()
            value = next((v for v in values if v is not None), "")
            result.setdefault(_lower(name), html.unescape(value))

    def _characters(self, text: str) -> None:
        if not self.open or self.open[-1].tag in ("html", "head"):
            rest = text.lstrip(_SPACE)
            self._append(text[: len(text) - len(rest)])
            text = rest
            if not text:
                return
            if self.open and self.open[-1].tag == "head":
                self.open.pop()
            self._imply("p")
        self._append(text)

    def _append(self, text: str) -> None:
        if self.open:
            node = self.open[-1]
            if node.children:
                node.children[-1].tail += text
            else:
                node.text += text

    def _imply(self, name: str) -> None:
        """The html, head and body that a tag or text takes for granted."""
        if name == "html":
            return
        if not self.open:
            self._push("html", {})
        if name in ("body", "head"):
            return
        if len(self.open) <= 1 and name in _IN_HEAD:
            if not self.seen & {"head", "body"}:
                self._push("head", {})
        elif name not in ("noframes", "frame", "frameset"):
            inside = any(node.tag in ("body", "head") for node in self.open)
            if "body" not in self.seen and not inside:
                self._push("body", {})

    def _push(self, name: str, attributes: dict[str, str]) -> None:
        node = Node(name, attributes)
        self.seen.add(name)
        if len(self.open) < DEEPEST:
            (self.open[-1].children if self.open else self.roots).append(node)
        self.open.append(node)


def _lower(name: str) -> str:
    """ASCII letters only."""
    return name.lower() if name.isascii() else re.sub("[A-Z]+", lambda m: m.group().lower(), name)
