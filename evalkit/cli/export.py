"""evalkit.cli.export: docstring to be written."""

from __future__ import annotations

import argparse

from evalkit.export.write import execute


def _export(arguments: argparse.Namespace) -> int:

    return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Writes the files and says what each is; status 0."""
    for path, about in execute(arguments).items():
        print(f"{path}: {about}")
    return 0
