"""PubTabNet's and FinTabNet's JSON lines: images of tables with their HTML as tokens.

Zhong et al., 2020; Zheng et al., 2021; schema as in ibm-aur-nlp/PubTabNet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from evalkit.data.faults import Faults
from evalkit.data.readers import line_records
from evalkit.data.records import Record, Unique, check_split, path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class TableHtml(Format):
    """One sample per table of the split, id and image = `name`'s key, target = (html,).

    The HTML is the structure's tokens with each cell's tokens put into its <td>, as a whole
    document <html><body><table>...</table></body></html>. `suffix`: what follows the name in the
    image's file name (FinTabNet's images are cut out of PDF pages and named by table_id).
    """

    name: Literal["filename", "table_id"] = "filename"
    suffix: str = ""

    fields: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        unique, present, found = Unique(str(path), self.name), set[str](), False
        faults = Faults()

        def of(line: tuple[int, Record]) -> Iterator[Sample]:
            nonlocal found
            _, record = line
            present.add(record.text("split"))
            if record.data["split"] != split:
                return
            found = True
            name = record.identifier(self.name)
            unique.add(name, record)
            file = Record({self.name: name + self.suffix}, str(path), record.place).name(self.name)
            yield Sample(name, (image_ref(images, file),), {}, (_html(record),), cluster=file)

        yield from faults.of_all(line_records(path, faults), of)
        if not present:
            raise DataError(f"{path}: is empty; it must hold one JSON object a line")
        if not found:
            check_split(str(path), split, present)


def _html(record: Record) -> str:
    """The table as a document; each </td> gets the next cell's content before it."""
    html = record.record("html")
    cells = ["".join(cell.texts("tokens")) for cell in html.records("cells" if html.has("cells") else "cell")]
    structure = html.record("structure").texts("tokens", least=1)
    parts, used = [], 0
    for token in structure:
        if token == "</td>":
            if used >= len(cells):
                html.wrong("cells", f"holds {len(cells)}; the structure has more </td>")
            parts.append(cells[used])
            used += 1
        parts.append(token)
    if used < len(cells):
        html.wrong("cells", f"holds {len(cells)}; the structure has only {used} </td>")
    return f"<html><body><table>{''.join(parts)}</table></body></html>"
