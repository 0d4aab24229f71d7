"""The report's files: data as classic scripts that a page from disk can load, the page, one file of all.

Whatever data says, a script file holds JSON without `<`, `>` and `&`: no HTML around it can end early.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from evalkit.files import encoded, json_text

PAGE = Path(__file__).parent / "page"
_MARKUP = re.compile("[<>&\u2028\u2029]")
_LINKED = re.compile(
    r'<script\b[^>]*\bsrc="([^"]+)"[^>]*>\s*</script>|<link\b[^>]*\bhref="([^"]+\.css)"[^>]*>'
)
_POLICY = re.compile(r'<meta\s+http-equiv="Content-Security-Policy"[^>]*>')


def script(key: str, value: Any) -> bytes:
    """`evalkit.put(key, value)` as the bytes of a script file."""
    return encoded(f"evalkit.put({_plain(key)}, {_plain(value)});\n")


def _plain(value: Any) -> str:
    return _MARKUP.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text(value, compact=True))


def json_bytes(value: Any) -> bytes:
    """JSON as UTF-8."""
    return encoded(json_text(value, compact=True))


def zipped(data: bytes) -> str:
    """Bytes as base64 of gzip, the same for the same bytes."""
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode("ascii")


class ZippedList:
    """A JSON list of texts as `zipped` gives it, compressed while it grows."""

    def __init__(self) -> None:
        self._zip = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: with gzip's head
        self._data = bytearray(self._zip.compress(b"["))
        self._any = False

    def add(self, text: str) -> None:
        self._data += self._zip.compress((b"," if self._any else b"") + json_bytes(text))
        self._any = True

    def done(self) -> str:
        self._data += self._zip.compress(b"]") + self._zip.flush()
        return base64.b64encode(self._data).decode("ascii")


# --- the page ----------------------------------------------------------------------------------------------


def sources() -> Iterator[tuple[str, bytes]]:
    """The page's files by their place in a report: index.html, and page/... for all that it loads."""
    for path in sorted(PAGE.rglob("*")):
        if path.is_file():
            name = path.relative_to(PAGE).as_posix()
            yield name if name == "index.html" else f"page/{name}", path.read_bytes()


def single(scripts: Iterable[bytes]) -> str:
    """The page with everything in it. Inline scripts run only by their digests, which the policy names."""
    files = dict(sources())
    allowed: dict[str, list[str]] = {"script": [], "style": []}

    def element(kind: str, data: bytes) -> str:
        text = data.decode("utf-8").replace("</script", "<\\/script")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
        return f"<{kind}>{text}</{kind}>"

    def inlined(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if found[2]:
            return element("style", files[name])
        if name.startswith("data/"):  # the report itself, which comes with all other data below
            return ""
        return element("script", files[name])

    page = _LINKED.sub(inlined, files["index.html"].decode("utf-8"))
    data = "".join(element("script", each) for each in scripts)
    before, mark, after = page.rpartition("</body>")
    page = f"{before}{data}{mark}{after}" if mark else page + data
    scripts_, styles = (" ".join(allowed[kind]) for kind in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {scripts_}; style-src {styles}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">'
    return _POLICY.sub(lambda _: meta, page, count=1)
