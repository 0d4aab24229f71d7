"""Where a report goes: a folder of many files, or one file that has everything."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Any

from evalkit.errors import ResultsError
from evalkit.files import atomic_write, refusals
from evalkit.viewer import scripts

REPORT = "data/report.js"  # a folder that has it is a report


class Outlet(ABC):
    """Takes the data piece by piece."""

    pictures: Path  # the folder of the pictures; where they are inline, nothing is written there

    @abstractmethod
    def put(self, name: str, key: str, value: Any) -> None:
        """`evalkit.put(key, value)`, in a folder as `data/<name>.js`."""

    @abstractmethod
    def finish(self, used: Collection[str]) -> Path:
        """Writes what is left; what to open. `used` are the pictures' files."""


class Folder(Outlet):
    """Files as they come. What an earlier report left is replaced, but its pictures are used again. The page
    is written first: by it a report that was not finished is known."""

    def __init__(self, folder: Path) -> None:
        self.pictures = folder
        refuse_other(folder)
        with refusals(folder):
            for old in ("data", "page"):
                if (folder / old).is_dir():
                    shutil.rmtree(folder / old)
        for name, data in scripts.sources():
            atomic_write(folder / name, data, sync=False)

    def put(self, name: str, key: str, value: Any) -> None:
        atomic_write(self.pictures / "data" / f"{name}.js", scripts.script(key, value), sync=False)

    def finish(self, used: Collection[str]) -> Path:
        """Removes pictures that an earlier report had: what is not shown is not passed on."""
        with refusals(self.pictures):
            for path in list((self.pictures / "thumbs").glob("*/*.jpg")):
                if path.relative_to(self.pictures).as_posix() not in used:
                    path.unlink()
            if not used:
                shutil.rmtree(self.pictures / "thumbs", ignore_errors=True)
        return self.pictures / "index.html"


class SingleFile(Outlet):
    """Everything in one page."""

    def __init__(self, path: Path) -> None:
        self.pictures = path.parent
        self._path = path if path.suffix in (".html", ".htm") else path.with_name(f"{path.name}.html")
        self._scripts: list[bytes] = []

    def put(self, name: str, key: str, value: Any) -> None:
        self._scripts.append(scripts.script(key, value))

    def finish(self, used: Collection[str]) -> Path:
        atomic_write(self._path, scripts.single(self._scripts))
        return self._path


def refuse_other(folder: Path, option: str = "--output") -> None:
    """Raises ResultsError where a folder holds something else than a report, begun or whole; `option` names
    another."""
    begun = (folder / "index.html").is_file() and (folder / "page").is_dir()
    if not begun and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ResultsError(f"{folder}: is no report and not empty; name a new folder with {option}")


def is_report(folder: Path) -> bool:
    """Whether a folder is a report that was built."""
    return (folder / REPORT).is_file() and (folder / "index.html").is_file()
