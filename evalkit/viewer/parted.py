"""Parts of samples that rows of metrics name, fields of JSON and labels: which samples have one."""

from __future__ import annotations

from urllib.parse import quote

from evalkit.viewer.assembled import Assembled
from evalkit.viewer.collect import OfRun


def opening(found: Assembled, run: OfRun, kind: str, part: str) -> tuple[str | None, int | None]:
    """The filter of the samples that have a part, wanted or answered, and how many they are; None where
    samples do not tell it, or may not."""
    code = run.parts.names.get(part)
    if run.parted is None or run.parted[1] != kind or code is None or found.collector.redact:
        return None, None
    return f"part:{run.side}={quote(part, safe='')}", sum(code in some for some in run.having)
