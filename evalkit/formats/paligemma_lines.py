"""PaliGemma's own training lines {"image", "prefix", "suffix"}: what a suffix spells in `<loc>` and `<seg>`
tokens is read as boxes and masks, in pixels of the upright image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from evalkit import door
from evalkit.data import instructions, rows
from evalkit.data.faults import Faults
from evalkit.data.readers import is_table, read_records
from evalkit.data.records import Record, name_problem, path_of
from evalkit.data.sources import below, image_ref, missing_image
from evalkit.errors import DataError, ImageError
from evalkit.geometry import location_tokens, mask_decoder, target_tokens
from evalkit.types import Format, ImageRef, Sample, Size, Source

Line = tuple[int, Record]
Chosen = Callable[[Faults], Iterator[Line]]
"""Gives the lines of the verb, from the first on each time; what is no line is left to the faults."""


@dataclass(frozen=True)
class PaliGemmaLines(Format):
    """One sample a line, as Roboflow, big_vision and maestro write them; id: the line's number from 0.

    Rows of Hugging Face datasets with these columns are read too: `path` is then a folder with Parquet or
    Arrow files, or the source names a dataset of the hub.

    image       a file name below the source's `images` (by default the file's own folder)
    prefix      the prompt, a field for the task: `prompt: "{prefix}"`
    suffix      the answer; null, missing, or an empty cell of a table: a question without target

    `verb` chooses the lines: detect, segment, caption (`caption`, `describe`), or text, all others.

    - detect: the target is as `coco_detection` gives it, boxes (x, y, w, h) in pixels of the upright image,
      whose size its header states; an empty suffix says that there is no object. `divisor`: a token's
      number over this is a fraction of the image, 1023 as parser `boxes` reads it. Boxes of wrong tokens,
      without area, with corners in the wrong order, without a label or with it before them are left out,
      and said. Where no box of the file has a label, all are of the class ''.
    - segment: the same with `segmentation`, decoded from the `<seg>` tokens by `decoder` (as parser `masks`).
    - caption: the suffixes of an image's lines with one prefix are references of one sample.
    - text: the suffix, or of lines with the same image and prefix all of them, as accepted answers.

    The categories are the names in the file's prefixes and suffixes, in the order in which they come.
    `image`, `prefix` and `suffix` are other names of these keys; without `prefix` every line is of the verb.
    """

    verb: Literal["detect", "segment", "caption", "text"] = "text"
    image: str = "image"
    prefix: str = "prefix"
    suffix: str = "suffix"
    divisor: Literal[1023, 1024] = 1023
    decoder: str = ""

    fields: ClassVar[tuple[str, ...]] = ("prefix",)
    keys: ClassVar[tuple[str, ...]] = ("path",)
    hub: ClassVar[bool] = True
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def __post_init__(self) -> None:
        kinds = {"detect": ("objects",), "segment": ("objects", "object masks")}
        object.__setattr__(self, "gives", kinds.get(self.verb, ("texts",)))

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        of_rows = "path" not in source.entry or source.path("path").is_dir()
        path = Path() if of_rows else path_of(source, "path", self.keys)
        images = source.path("images") if "images" in source.entry else path.parent
        chosen = self._kept(source, split) if of_rows else partial(self._chosen, path)
        faults = Faults()
        if next(chosen(faults), None) is None:
            faults.done()
            raise DataError(
                f"{source.path('path') if 'path' in source.entry else source.entry.get('hub')}: no prefix is "
                f"of the kind '{self.verb}'; paligemma_lines(verb=...) says which"
            )
        read = self._objects if self.verb in ("detect", "segment") else self._texts
        yield from read(chosen, images, source)

    def _texts(self, chosen: Chosen, images: Path, source: Source) -> Iterator[Sample]:
        """Lines that ask the same of one image are one sample."""
        together: dict[tuple[str | ImageRef, str], tuple[int, list[str]]] = {}
        faults, moved = Faults(), dict[str, str]()
        for number, line in chosen(faults):
            _, answers = together.setdefault((line.data[self.image], self._asked(line)), (number, []))
            given = faults.made(lambda: (self._suffix(line),)) or (None,)  # noqa: B023 – called at once
            if given[0] is not None and given[0] not in answers:
                answers.append(given[0])
        for (name, asked), (number, answers) in together.items():
            if (shown := faults.made(partial(self._image, name, images, moved))) is not None:
                yield Sample(str(number), (shown,), self._fields(asked), tuple(answers), cluster=str(name))
        faults.done()

    def _objects(self, chosen: Chosen, images: Path, source: Source) -> Iterator[Sample]:
        from evalkit.images.prepare import header_size  # Pillow is imported where images are read

        categories, labelled = self._categories(line for _, line in chosen(Faults()))
        usable, wrong, moved, faults = False, "", dict[str, str](), Faults()

        def looked_at(line: Record) -> tuple[ImageRef, str | None]:
            return self._image(line.data[self.image], images, moved), self._suffix(line)

        for number, line in chosen(faults):
            if (found := faults.made(partial(looked_at, line))) is None:
                continue
            ref, suffix = found
            size: Size | None = None
            try:
                size = header_size(ref, exif="apply")
            except ImageError as error:
                source.remarks.add("image", f"{error}{missing_image(ref.path)}; it is not scored")
            target: Any = ()
            if suffix is not None and size is not None:
                read = faults.made(partial(self._judged, line, suffix, labelled))
                if read is None:
                    continue
                for kind, problem in read.problems:
                    said = f"{line.file}: {line.place}: {self.suffix}: {problem}"
                    source.remarks.add(kind, said)
                    wrong = wrong or said
                usable = usable or bool(read.kept) or not suffix.strip()
                made = (faults.made(partial(self._object, line, each, size, source)) for each in read.kept)
                objects = [each for each in made if each is not None]
                target = {"size": size, "image_id": number, "categories": categories, "objects": objects}
            fields = self._fields(self._asked(line))
            yield Sample(str(number), (ref,), fields, target, size=size, cluster=str(line.data[self.image]))
        faults.done()
        if wrong and not usable:
            raise DataError(f"{wrong}; no other box is right either")

    def _judged(self, line: Record, suffix: str, labelled: bool) -> target_tokens.Judged:
        """The boxes that a suffix spells. Raises DataError where it spells something else."""
        if suffix.strip() and not location_tokens.labels(suffix):
            line.wrong(
                self.suffix, f"is {suffix[:60]!r}; a `{self.verb}` line holds <loc0000> tokens, or nothing"
            )
        return target_tokens.judged(suffix, labelled)

    def _object(
        self, line: Record, each: location_tokens.Found, size: Size, source: Source
    ) -> dict[str, Any]:
        """A box in pixels; its mask where that is scored."""
        (y0, x0, y1, x1), (height, width) = each.corners, size
        down, right = height / self.divisor, width / self.divisor
        box = (x0 * right, y0 * down, (x1 - x0) * right, (y1 - y0) * down)
        entry = {"category": each.label, "box": box, "area": box[2] * box[3], "iscrowd": 0}
        if self.verb == "segment" and source.uses("object masks"):
            if not each.indices:
                line.wrong(self.suffix, "has a box without its sixteen <seg000> tokens")
            values = self._decoder(source).decode([each.indices])[0]
            mask = mask_decoder.paste(values, each.box(self.divisor), size)
            entry["segmentation"] = {"size": list(size), "counts": mask.counts}
        return entry

    def _decoder(self, source: Source) -> mask_decoder.Decoder:
        """The masks' decoder, which is not named by the data and may lie anywhere."""
        with door.within(door.also(mask_decoder.resolve(self.decoder, (source.root,)))):
            return mask_decoder.decoder(self.decoder, (source.root,))

    # --- one line ---

    def _lines(self, path: Path, faults: Faults) -> Iterator[Line]:
        """Every line, with its number from 0; image and prefix are there."""
        called = "row" if is_table(path) else "line"
        for number, data in read_records(path, faults):
            line = faults.made(partial(self.line, data, str(path), f"{called} {number + 1}"))
            if line is not None:
                yield number, line

    def line(self, data: Any, file: str, place: str) -> Record:
        """A line that has image and prefix. Raises DataError."""
        line = Record(data, file, place)
        if self.prefix:
            line.text(self.prefix)
        if problem := name_problem(line.text(self.image), absolute=True):
            line.wrong(self.image, problem)
        return line

    def _chosen(self, path: Path, faults: Faults) -> Iterator[Line]:
        """The lines of the verb; none is kept."""
        return (line for line in self._lines(path, faults) if self._is_chosen(line[1]))

    def _is_chosen(self, line: Record) -> bool:
        return not self.prefix or self._verb(line) == self.verb

    def _kept(self, source: Source, split: str) -> Chosen:
        """The rows of the verb, which a dataset is not read for twice."""
        first = Faults()
        kept = [row for row in self._rows(source, split, first) if self._is_chosen(row[1])]

        def chosen(faults: Faults) -> Iterator[Line]:
            faults.take(first)
            return iter(kept)

        return chosen

    def _rows(self, source: Source, split: str, faults: Faults) -> Iterator[Line]:
        """The rows of a dataset, where the image is instead of its name."""
        for row in rows.read(source, split, self.image, faults).every:
            if not self.prefix or faults.tried(partial(row.record.text, self.prefix)):
                row.record.data[self.image] = row.image
                yield row.number, row.record

    def _asked(self, line: Record) -> str:
        return str(line.data[self.prefix]) if self.prefix else ""

    def _verb(self, line: Record) -> str:
        return instructions.verb(self._asked(line))

    def _fields(self, asked: str) -> dict[str, str]:
        return {"prefix": asked} if self.prefix else {}

    def _image(self, name: str | ImageRef, images: Path, moved: dict[str, str]) -> ImageRef:
        """The image; `moved` are those found by the end of another machine's path, each by one name."""
        if isinstance(name, ImageRef):
            return name
        found = below(images, name)
        if found != name and moved.setdefault(found, name) != name:
            raise DataError(f"{images}: {found} would be {moved[found]!r} and {name!r}; give other names")
        return image_ref(images, found)

    def _suffix(self, line: Record) -> str | None:
        """The answer as text; None where the line has none. Numbers are written as they stand. An empty cell
        of a table is no answer, though of boxes it says that there is no object."""
        if line.data.get(self.suffix) is None:
            return None
        empty = line.data[self.suffix] == "" and is_table(Path(line.file))
        return None if empty and self.verb in ("text", "caption") else line.scalar(self.suffix)

    def _categories(self, lines: Iterator[Record]) -> tuple[tuple[str, ...], bool]:
        """The names in prefixes and suffixes, each once, in the order in which they come; and whether boxes
        have labels: where none has one, as in referring expressions, '' is the class of all."""
        found: dict[str, None] = {}
        labelled = False
        for line in lines:
            found |= dict.fromkeys(instructions.classes(self._asked(line)))
            given = Faults().made(partial(self._suffix, line)) or ""  # what is wrong is said later
            labels = location_tokens.labels(given)
            found |= dict.fromkeys(labels)
            labelled = labelled or any(labels)
        return tuple(name for name in found if name or not labelled), labelled
