"""`evalkit export`: the files that test servers want."""

from __future__ import annotations

from evalkit.exports import write
from evalkit.options.verbs import ExportOptions
from evalkit.printing import put


def export(options: ExportOptions) -> int:
    """Writes the files and says what each is."""
    for path, about in write.export(options).items():
        put(f"{path}: {about}")
    return 0


ACTS = {"export": export}
