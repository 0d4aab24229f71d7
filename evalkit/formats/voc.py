"""Pascal VOC: an XML file of boxes for each image, in the official folders or beside the images."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from evalkit import door
from evalkit.data import folders
from evalkit.data.readers import read_text
from evalkit.data.records import check_split, path_of
from evalkit.errors import DataError, ImageError
from evalkit.geometry import segmentations
from evalkit.types import Format, ImageRef, Remarks, Sample, Size, Source

_ANNOTATIONS = ("Annotations", "annotations", "labels", "xmls")
_IMAGES = ("JPEGImages", "images", "Images", "data", "imgs")
_VAL = ("val", "valid", "validation")  # one split by three names


class _Layout(NamedTuple):
    """Where the files are; `listed`: the split's ids, None for all of the folder."""

    annotations: Path
    images: Path
    listed: list[str] | None


class _Object(NamedTuple):
    """An <object>; `corners` [xmin, ymin, xmax, ymax] is None where they are not numbers, and so is a polygon
    of x1, y1, x2, ..."""

    line: int
    name: str
    corners: list[float] | None
    difficult: bool
    rotated: bool
    polygons: list[list[float] | None]


class _Annotation(NamedTuple):
    """What an XML file says."""

    image: str  # <filename>
    size: Size | None
    objects: list[_Object]


class _Labelled(NamedTuple):
    """An image with its XML file, '' where it has none, and what that says, None where it is not readable."""

    name: str
    image: str
    file: str
    said: _Annotation | None


@dataclass(frozen=True)
class Voc(Format):
    """One sample per image; id = the image's name without suffix, as in ImageSets.

    `path` of the source is a folder with Annotations/, JPEGImages/ and, where there are splits,
    ImageSets/Main/<split>.txt; or with <split>/ that holds images and XML files beside each other, as
    Roboflow writes it (`valid` is `val`); or with these files themselves. `annotations` and `images` of the
    source name other folders. An image without XML file has no object.
    Target: as coco_detection's; `image_id` counts the images.

    `one_based`: pixels are counted from 1, and xmax is the last one inside, so a box is (xmin - 1, ymin - 1)
    to (xmax, ymax), as the devkit, detectron2 and supervision read it; False: coordinates are edges counted
    from 0, as labelImg and CVAT write them.
    `count_difficult`: False: difficult objects are crowds, which are neither missed nor matched, as in the
    devkit; but there a box must overlap one by half to be left out, and here by half of the box's own area.
    `categories`: all classes; by default those of all XML files of the dataset, in the order of the alphabet.
    """

    one_based: bool = True
    count_difficult: bool = False
    categories: tuple[str, ...] = ()

    fields: ClassVar[tuple[str, ...]] = ("categories",)  # "person ; bicycle ; ...", as `detect` lists them
    keys: ClassVar[tuple[str, ...]] = ("path",)
    gives: ClassVar[tuple[str, ...]] = ("objects", "object masks")

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path = path_of(source, "path", self.keys)
        found = _layout(path, source, split)
        every = _labelled(found, source.remarks)
        if not every:
            raise DataError(f"{found.images}: holds no image; the images of {split} must be there")
        if not any(each.file for each in every):
            raise DataError(f"{found.annotations}: holds no XML file for any of the images")
        categories = self.categories or _categories(path, found, every)
        fields = {"categories": " ; ".join(categories)}
        for number, each in enumerate(every):
            ref = ImageRef(each.image)
            size = _size(each, ref, source.remarks)
            target: Any = ()
            if size:
                objects = list(self._objects(each, size, categories, source))
                target = {"size": size, "image_id": number, "categories": categories, "objects": objects}
            name = folders.below(each.image, str(found.images))
            yield Sample(each.name, (ref,), fields, target, size=size, cluster=name)

    def without_target(self, source: Source, split: str) -> str:
        return "their XML files or images cannot be read"

    def _objects(
        self, each: _Labelled, size: Size, categories: tuple[str, ...], source: Source
    ) -> Iterator[dict[str, Any]]:
        for thing in each.said.objects if each.said else ():
            where, remarks = f"{each.file}: line {thing.line}:", source.remarks
            if thing.rotated:
                raise DataError(f"{where} is a rotated box (robndbox); boxes must be upright, as bndbox")
            if not thing.name or thing.corners is None:
                lacks = "xmin, ymin, xmax and ymax that are numbers" if thing.name else "name"
                remarks.add("object", f"{where} an object has no {lacks}; it is left out")
            elif thing.name not in categories:
                remarks.add("class", f"{where} {thing.name!r} is not in voc(categories=...); it is left out")
            else:
                box = self._box(thing.corners, where, size, remarks)
                found = {"category": thing.name, "box": box, "area": box[2] * box[3]}
                found["iscrowd"] = int(thing.difficult and not self.count_difficult)
                yield found | self._polygons(thing, where, size, source)

    def _box(
        self, corners: list[float], where: str, size: Size, remarks: Remarks
    ) -> tuple[float, float, float, float]:
        """(x, y, w, h) in pixels."""
        x0, y0, x1, y1 = corners
        if x0 > x1 or y0 > y1:
            remarks.add(
                "reversed", f"{where} the corners of a box are in the wrong order; they are put right"
            )
            x0, y0, x1, y1 = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        if self.one_based and min(x0, y0) < 1:
            said = f"{where} a box begins at {min(x0, y0):g}, but pixels are counted from 1"
            remarks.add("zero", f"{said}; if edges are counted from 0, write voc(one_based=False)")
        x0, y0 = x0 - self.one_based, y0 - self.one_based
        over = max(-x0, -y0, x1 - size[1], y1 - size[0])
        if over > 1:
            remarks.add(
                "over", f"{where} a box is {over:.0f} pixels over the image's edge; it is kept as it is"
            )
        if x0 == x1 or y0 == y1:
            remarks.add("flat", f"{where} a box has no area; it is kept, and no answer can match it")
        return x0, y0, x1 - x0, y1 - y0

    def _polygons(self, thing: _Object, where: str, size: Size, source: Source) -> dict[str, Any]:
        """An object's polygons, as Roboflow and supervision write them, with their area."""
        found, area = [], 0.0
        for polygon in thing.polygons:
            if polygon is None:
                source.remarks.add("polygon", f"{where} a polygon is not x1, y1, x2, ...; it is left out")
                continue
            points = [part - self.one_based for part in polygon]
            if source.uses("object masks") and (wrong := segmentations.problem([points], size)):
                raise DataError(f"{where} polygon: {wrong[1]}")
            xs, ys = points[::2], points[1::2]
            area += abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2
            found.append(points)
        return {"segmentation": found, "area": area} if found else {}


# --- folders -----------------------------------------------------------------------------------


def _layout(path: Path, source: Source, split: str) -> _Layout:
    """Where a split's files are."""
    base = next((path / name for name in _names(split) if (path / name).is_dir()), path)
    given = {key: source.path(key) for key in ("annotations", "images") if key in source.entry}
    for folder in (path, base):
        annotations = given.get("annotations") or _first(folder, _ANNOTATIONS)
        images = given.get("images") or _first(folder, _IMAGES)
        if annotations and images:
            return _Layout(annotations, images, _listed(path, split))
    if not any(folders.suffix(file.name) == ".xml" for file in _files(base)):
        raise DataError(
            f"{base}: holds no XML files; it must be a folder with Annotations and JPEGImages, or with "
            f"{split}/ that holds images with their XML files"
        )
    return _Layout(base, base, None)


def _names(split: str) -> tuple[str, ...]:
    return (split, *(_VAL if split in _VAL else ()))


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _files(folder: Path) -> list[os.DirEntry[str]]:
    try:
        found = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    return sorted(found, key=lambda entry: entry.name)


def _listed(path: Path, split: str) -> list[str] | None:
    """The ids that ImageSets lists for a split; None without ImageSets."""
    lists = path / "ImageSets" / "Main"
    if not lists.is_dir():
        return None
    file = next((lists / f"{name}.txt" for name in _names(split) if (lists / f"{name}.txt").is_file()), None)
    if file is None:
        check_split(str(lists), split, {each.stem for each in lists.glob("*.txt") if "_" not in each.stem})
        raise AssertionError
    listed = read_text(file, "it must list one image a line").split("\n")
    # A class's list has `1` or `-1` behind the id.
    found = [line.split()[0] for line in listed if line.strip()]
    if odd := next((name for name in found if os.path.basename(name) != name or "\0" in name), ""):
        raise DataError(f"{file}: {odd[:60]!r} is not an id; it must be an image's name without suffix")
    return found


def _labelled(found: _Layout, remarks: Remarks) -> list[_Labelled]:
    """The split's images with what their XML files say, by name, or in the order of the list."""
    images, files = _images(found.images, remarks), _xml_files(found.annotations)
    if found.listed is not None:
        names = dict.fromkeys(found.listed)
        if again := len(found.listed) - len(names):
            where = found.annotations.parent / "ImageSets"
            remarks.add(
                "listed twice", f"{where}: {again:,} images of the list are there again; they count once"
            )
        every = [_of(name, images.get(name, ""), files.get(name, ""), found, remarks) for name in names]
    else:
        every = [_of(name, path, files.get(name, ""), found, remarks) for name, path in images.items()]
        bare = {each.name: n for n, each in enumerate(every) if not each.file}
        for name in sorted(files.keys() - images.keys()):
            other = _of(name, "", files[name], found, remarks)
            meant = os.path.splitext(os.path.basename(other.image))[0]
            if meant in bare:  # the file was renamed, and says the name of its image
                every[bare.pop(meant)] = other._replace(name=meant, image=images[meant])
            else:
                remarks.add("unused", f"{other.file}: there is no image for it; it is left out")
    for each in every:
        if not each.file:
            said = f"{each.image}: has no XML file; it counts as one without objects"
            remarks.add("unlabelled", said, usual=True)
    return every


def _of(name: str, image: str, file: str, found: _Layout, remarks: Remarks) -> _Labelled:
    said = _read(file, remarks) if file else None
    named = said.image if said and said.image == os.path.basename(said.image) else ""
    return _Labelled(name, image or str(found.images / (named or f"{name}.jpg")), file, said)


def _images(folder: Path, remarks: Remarks) -> dict[str, str]:
    """The images of a folder by their names without suffix, sorted."""
    found = dict[str, str]()
    for entry in _files(folder):
        stem, kind = os.path.splitext(entry.name)
        if kind.lower() in folders.UNREAD:
            remarks.add("unread", f"{entry.path}: {kind} images are not read; it is left out")
        elif kind.lower() in folders.IMAGES and found.setdefault(stem, entry.path) != entry.path:
            remarks.add("twins", f"{entry.path}: has the name of {found[stem]}; it is left out")
    return found


def _xml_files(folder: Path) -> dict[str, str]:
    """The XML files of a folder by their names without suffix, sorted."""
    return {e.name[:-4]: e.path for e in _files(folder) if folders.suffix(e.name) == ".xml"}


def _categories(path: Path, found: _Layout, every: list[_Labelled]) -> tuple[str, ...]:
    """The names of all objects in the dataset's XML files, also those of other splits, sorted."""
    places = [found.annotations]
    if found.annotations.parent == path:
        places += [Path(e.path) for e in _files(path) if e.is_dir() and e.path != str(found.annotations)]
    known = {each.file for each in every}
    others = [file for place in places for file in _xml_files(place).values() if file not in known]
    said = [each.said for each in every] + [_read(file, Remarks()) for file in others]
    return tuple(sorted({thing.name for each in said if each for thing in each.objects if thing.name}))


# --- XML ---------------------------------------------------------------------------------------


def _read(file: str, remarks: Remarks) -> _Annotation | None:
    """What a file says; None where it is not XML. Entities are not replaced and nothing is fetched."""
    from lxml import etree  # not at the top: `evalkit list` imports the formats

    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False)
    try:
        root = etree.fromstring(door.read(file, door.SMALL), parser)
    except OSError as error:
        remarks.add("xml", f"{file}: cannot be read ({error.strerror}); its image is not scored")
    except (etree.XMLSyntaxError, ValueError) as error:
        problem = " ".join(str(getattr(error, "msg", error)).split())[:200]
        remarks.add("xml", f"{file}: is not valid XML ({problem}); its image is not scored")
    else:
        sides = [int(_number(root.findtext(f"size/{key}")) or 0) for key in ("height", "width")]
        size = (sides[0], sides[1]) if min(sides) > 0 else None
        return _Annotation(_text(root, "filename"), size, [_object(each) for each in root.findall("object")])
    return None


def _object(element: Any) -> _Object:
    inside = {
        child.tag: child for child in reversed(element)
    }  # of two the first; faster than a search for each
    box = {child.tag: child.text for child in inside.get("bndbox", ())}
    texts = {key: (inside[key].text or "").strip() for key in ("name", "difficult") if key in inside}
    return _Object(
        line=element.sourceline,
        name=texts.get("name", ""),
        corners=_all([_number(box.get(key)) for key in ("xmin", "ymin", "xmax", "ymax")]),
        difficult=texts.get("difficult", "").lower() in ("1", "true"),
        rotated="robndbox" in inside and "bndbox" not in inside,
        polygons=[_polygon(child) for child in element if child.tag == "polygon"],
    )


def _polygon(element: Any) -> list[float] | None:
    """x1, y1, x2, y2, ...; None for anything else, or fewer than three points."""
    tags = ((re.fullmatch(r"([xy])(\d{1,6})", str(child.tag)), child.text) for child in element)
    values = {(int(tag[2]), tag[1]): _number(text) for tag, text in tags if tag}
    parts = [values[place] for place in sorted(values)]
    return _all(parts) if len(parts) >= 6 and len(parts) % 2 == 0 else None


def _text(element: Any, key: str) -> str:
    return (element.findtext(key) or "").strip()


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _all(values: list[float | None]) -> list[float] | None:
    found = [value for value in values if value is not None]
    return found if len(found) == len(values) else None


def _size(each: _Labelled, ref: ImageRef, remarks: Remarks) -> Size | None:
    """(height, width) as the XML file states it, or else of the image; None where that cannot be read, or the
    XML file is there and cannot."""
    if each.said and each.said.size:
        return each.said.size
    if each.file and not each.said:
        return None
    if each.said:
        said = f"{each.file}: states no size of the image; it is read from the image"
        remarks.add("size", said, usual=True)
    from evalkit.images.prepare import header_size  # as in `_read`

    try:
        return header_size(ref, exif="apply")
    except ImageError as error:
        remarks.add("image", f"{error}; it is not scored")
        return None
