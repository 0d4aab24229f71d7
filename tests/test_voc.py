"""Pascal VOC: its folders, its coordinates, and what is odd about XML files is said and costs only itself."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from own_world import SIZES, of, pictures, voc, voc_flat, voc_xml

from evalkit import registry
from evalkit.errors import DataError
from evalkit.types import Sample, Source

OBJECT = (
    "<object><name>cat</name>{}<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    "</object>"
)


def read(root: Path, spelling: str = "voc", split: str = "val", **entry: str) -> list[Sample]:
    return said(root, spelling, split, **entry)[0]


def said(
    root: Path, spelling: str = "voc", split: str = "val", **entry: str
) -> tuple[list[Sample], tuple[str, ...]]:
    source = Source(root, {"path": ".", **entry}, "t")
    samples = list(registry.make("formats", spelling).samples(source, split))
    return samples, source.remarks.said()


def counts(samples: list[Sample]) -> list[int]:
    return [len(s.target["objects"]) for s in samples]


def first(root: Path, text: str) -> Path:
    """The official folders with an XML file of one's own for a.png, 64 wide and 48 high."""
    voc(root, False)
    size = "<size><width>64</width><height>48</height></size>"
    (root / "Annotations/a.xml").write_text(f"<annotation>{size}\n{text}</annotation>")
    return root


# --- folders -----------------------------------------------------------------------------------


def test_the_official_folders(tmp_path: Path) -> None:
    voc(tmp_path, False)
    (tmp_path / "ImageSets/Main/train.txt").write_text("b\n")
    (tmp_path / "ImageSets/Main/cat_train.txt").write_text("b -1\n")
    (tmp_path / "ImageSets/Main/cat_val.txt").write_text("a  1\nc -1\n")
    samples, remarks = said(tmp_path)
    assert [s.id for s in samples] == ["a", "b", "c"]
    assert (samples[0].cluster, samples[0].images[0].path) == ("a.png", str(tmp_path / "JPEGImages/a.png"))
    assert counts(samples) == [2, 3, 0]
    assert remarks == ()
    assert [s.id for s in read(tmp_path, split="train")] == ["b"]
    assert read(tmp_path, split="valid") == samples
    assert [s.id for s in read(tmp_path, split="cat_val")] == ["a", "c"]  # of a list with `1` and `-1`
    with pytest.raises(DataError, match="no split 'test'; there are: train, val"):
        read(tmp_path, split="test")


def test_classes_are_those_of_all_splits(tmp_path: Path) -> None:
    voc(tmp_path, False)
    (tmp_path / "Annotations/z.xml").write_text(
        "<annotation>" + OBJECT.format("", 1, 1, 2, 2) + "</annotation>"
    )
    (tmp_path / "Annotations/y.xml").write_text("no XML")
    text = (tmp_path / "Annotations/z.xml").read_text()
    (tmp_path / "Annotations/z.xml").write_text(text.replace("cat", "zebra"))
    samples, remarks = said(tmp_path)
    assert samples[0].fields == {"categories": "cat ; dog ; zebra"}
    assert remarks == ()
    assert read(tmp_path, "voc(categories=('dog', 'cat'))")[0].fields == {"categories": "dog ; cat"}
    samples, remarks = said(tmp_path, "voc(categories=('cat',))")
    assert counts(samples) == [1, 1, 0]
    assert "Annotations/a.xml: line 7: 'dog' is not in voc(categories=...); it is left out (the" in remarks[0]


def test_images_and_xml_files_beside_each_other(tmp_path: Path) -> None:
    voc_flat(tmp_path / "ds", False)
    shutil.copytree(tmp_path / "ds/valid", tmp_path / "ds/train")
    text = (tmp_path / "ds/train/a.xml").read_text()
    (tmp_path / "ds/train/a.xml").write_text(text.replace("dog", "emu"))
    samples = read(tmp_path / "ds")
    assert [s.images[0].path for s in samples] == [str(tmp_path / "ds/valid" / name) for name in SIZES]
    assert samples[0].fields == {"categories": "cat ; dog ; emu"}
    assert read(tmp_path / "ds", split="validation") == samples
    assert counts(read(tmp_path / "ds", split="train")) == [2, 3, 0]
    alone = read(tmp_path / "ds/valid", split="anything")
    assert (counts(alone), alone[0].fields) == ([2, 3, 0], {"categories": "cat ; dog"})
    with pytest.raises(DataError, match=r"holds no XML files; it must be .* test/ that holds images"):
        read(tmp_path / "ds", split="test")


@pytest.mark.parametrize(
    ("images", "annotations"),
    [("images", "annotations"), ("JPEGImages", "Annotations"), ("data", "labels"), ("images", "xmls")],
)
@pytest.mark.parametrize("inside", ["", "val/"])
def test_other_folders(tmp_path: Path, images: str, annotations: str, inside: str) -> None:
    voc(tmp_path / "voc", False)
    (tmp_path / "ds" / inside).mkdir(parents=True)
    (tmp_path / "voc/JPEGImages").rename(tmp_path / "ds" / inside / images)
    (tmp_path / "voc/Annotations").rename(tmp_path / "ds" / inside / annotations)
    assert counts(read(tmp_path / "ds")) == [2, 3, 0]


def test_folders_that_the_source_names(tmp_path: Path) -> None:
    voc(tmp_path, False)
    (tmp_path / "JPEGImages").rename(tmp_path / "p")
    (tmp_path / "Annotations").rename(tmp_path / "q")
    (tmp_path / "ImageSets/Main/val.txt").write_text("b\na\nb\n")
    samples, remarks = said(tmp_path, images="p", annotations="q")
    assert [s.id for s in samples] == ["b", "a"]
    assert "1 images of the list are there again; they count once" in remarks[0]


def test_images_without_xml_and_xml_without_image(tmp_path: Path) -> None:
    voc_flat(tmp_path, False)
    (tmp_path / "valid/c.xml").unlink()
    (tmp_path / "valid/gone.xml").write_text(voc_xml("a.png", False).replace("a.png", "gone.png"))
    (tmp_path / "valid/copy.xml").write_text(voc_xml("a.png", False))  # of an image that has its own
    (tmp_path / "valid/d.heic").touch()
    samples, remarks = said(tmp_path)
    assert counts(samples) == [2, 3, 0]
    assert samples[2].size == SIZES["c.png"]
    assert [text.rpartition("/")[2] for text in remarks[:3]] == [
        "d.heic: .heic images are not read; it is left out",
        "copy.xml: there is no image for it; it is left out (the first of 2 such)",
        "c.png: has no XML file; it counts as one without objects",
    ]


def test_an_xml_file_of_another_name_says_its_image(tmp_path: Path) -> None:
    voc_flat(tmp_path, False)
    (tmp_path / "valid/a.xml").rename(tmp_path / "valid/0001.xml")
    samples, remarks = said(tmp_path)
    assert ([s.id for s in samples], counts(samples)) == (["a", "b", "c"], [2, 3, 0])
    assert len(remarks) == 1  # about corners at 0


def test_nothing_to_read(tmp_path: Path) -> None:
    pictures(tmp_path / "images")
    with pytest.raises(DataError, match="holds no XML files"):
        read(tmp_path)
    (tmp_path / "annotations").mkdir()
    with pytest.raises(DataError, match="annotations: holds no XML file for any of the images"):
        read(tmp_path)
    with pytest.raises(DataError, match="gone: cannot be read"):
        read(tmp_path / "gone")


@pytest.mark.parametrize("text", ["../a\n", "a/b\n", "a\0\n"])
def test_a_list_names_images_of_its_folder(tmp_path: Path, text: str) -> None:
    voc(tmp_path, False)
    (tmp_path / "ImageSets/Main/val.txt").write_text(text)
    with pytest.raises(DataError, match=r"val\.txt: .* is not an id; it must be an image's name"):
        read(tmp_path)


# --- coordinates -------------------------------------------------------------------------------


def test_pixels_are_counted_from_one(tmp_path: Path) -> None:
    """The whole image is 1 to its width and height."""
    first(tmp_path, OBJECT.format("", 1, 1, 64, 48) + OBJECT.format("", 10, 20, 10, 20))
    whole, dot = read(tmp_path)[0].target["objects"]
    assert (whole["box"], dot["box"]) == ((0, 0, 64, 48), (9, 19, 1, 1))
    assert dot["area"] == 1


def test_edges_are_counted_from_zero(tmp_path: Path) -> None:
    first(tmp_path, OBJECT.format("", 0, 0, 64, 48) + OBJECT.format("", 10.5, 20, 11, 20))
    samples, remarks = said(tmp_path, "voc(one_based=False)")
    whole, line = samples[0].target["objects"]
    assert (whole["box"], line["box"]) == ((0, 0, 64, 48), (10.5, 20, 0.5, 0))
    assert len(remarks) == 1
    assert "line 2: a box has no area; it is kept, and no answer can match it" in remarks[0]


def test_a_coordinate_of_zero_is_said(tmp_path: Path) -> None:
    first(tmp_path, OBJECT.format("", 0, 3, 9, 9))
    samples, remarks = said(tmp_path)
    assert samples[0].target["objects"][0]["box"] == (-1, 2, 10, 7)
    assert "a.xml: line 2: a box begins at 0, but pixels are counted from 1; if edges" in remarks[0]
    assert remarks[0].endswith("write voc(one_based=False)")


@pytest.mark.parametrize(
    ("corners", "box", "remark"),
    [
        ((" 1.5", "2.25 ", "4.0", "1e1"), (0.5, 1.25, 3.5, 8.75), ""),
        ((9, 4, 3, 2), (2, 1, 7, 3), "the corners of a box are in the wrong order; they are put right"),
        ((60, 1, 70, 9), (59, 0, 11, 9), "a box is 6 pixels over the image's edge; it is kept as it is"),
        ((60, 1, 65, 9), (59, 0, 6, 9), ""),
        (("", 1, 2, 3), None, "an object has no xmin, ymin, xmax and ymax that are numbers; it is left out"),
        (("nan", 1, 2, 3), None, "an object has no xmin"),
        (("1,5", 1, 2, 3), None, "an object has no xmin"),
    ],
)
def test_corners(tmp_path: Path, corners: tuple[object, ...], box: object, remark: str) -> None:
    first(tmp_path, OBJECT.format("", *corners))
    samples, remarks = said(tmp_path)
    assert [found["box"] for found in samples[0].target["objects"]] == ([box] if box else [])
    assert len(remarks) == bool(remark)
    if remark:
        assert f"Annotations/a.xml: line 2: {remark}" in remarks[0]


@pytest.mark.parametrize(
    ("text", "crowd"),
    [("1", 1), ("0", 0), (" 1 ", 1), ("true", 1), ("", 0)],
)
def test_difficult_objects_are_neither_missed_nor_matched(tmp_path: Path, text: str, crowd: int) -> None:
    more = f"<truncated>1</truncated><difficult>{text}</difficult>"
    first(tmp_path, OBJECT.format(more, 1, 1, 64, 48))
    assert read(tmp_path)[0].target["objects"][0]["iscrowd"] == crowd
    assert read(tmp_path, "voc(count_difficult=True)")[0].target["objects"][0]["iscrowd"] == 0


def test_parts_of_a_person_are_no_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
    first(tmp_path, OBJECT.format("", 1, 2, 3, 4).replace("</object>", part))
    (found,) = read(tmp_path)[0].target["objects"]
    assert (found["category"], found["box"]) == ("cat", (0, 1, 3, 3))


def test_rotated_boxes_are_refused(tmp_path: Path) -> None:
    rotated = "<object><name>cat</name><robndbox><cx>9</cx><angle>.3</angle></robndbox></object>"
    first(tmp_path, rotated)
    with pytest.raises(DataError, match=r"a\.xml: line 2: is a rotated box \(robndbox\)"):
        read(tmp_path)


def test_polygons(tmp_path: Path) -> None:
    voc(tmp_path, True)
    text = (tmp_path / "Annotations/a.xml").read_text()
    (tmp_path / "Annotations/a.xml").write_text(text.replace("<x2>", "<z>").replace("</x2>", "</z>"))
    samples, remarks = said(tmp_path)
    assert ["segmentation" in found for s in samples for found in s.target["objects"]] == [False] * 2 + [
        True
    ] * 3
    assert samples[1].target["objects"][0]["segmentation"] == [list(of("b.png")[0].polygon)]
    assert "a.xml: line 5: a polygon is not x1, y1, x2, ...; it is left out (the first of 2" in remarks[0]


# --- XML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "no XML", "<annotation><size>", "\xff", "<a>" * 100_000, "<a>\0</a>"])
def test_an_xml_file_that_is_none_costs_only_its_image(tmp_path: Path, text: str) -> None:
    voc(tmp_path, False)
    (tmp_path / "Annotations/a.xml").write_bytes(text.encode("latin-1"))
    samples, remarks = said(tmp_path)
    assert [s.target == () for s in samples] == [True, False, False]
    assert f"{tmp_path}/Annotations/a.xml: is not valid XML (" in remarks[0]
    assert remarks[0].endswith("; its image is not scored")
    assert "\n" not in remarks[0]


def test_entities_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    head = f'<!DOCTYPE a [<!ENTITY i "inside"><!ENTITY o SYSTEM "file://{tmp_path}/secret">]>'
    voc(tmp_path, False)
    for entity in ("&i;", "&o;"):
        text = OBJECT.format("", 1, 1, 2, 2).replace("cat", entity)
        (tmp_path / "Annotations/a.xml").write_text(f"{head}<annotation>{text}</annotation>")
        samples, remarks = said(tmp_path)
        assert counts(samples) == [0, 3, 0]
        assert samples[0].fields == {"categories": "cat ; dog"}
        assert "an object has no name; it is left out" in remarks[1]


def test_a_billion_laughs_are_not_laughed(tmp_path: Path) -> None:
    voc(tmp_path, False)
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    text = OBJECT.format("", 1, 1, 2, 2).replace("cat", "&l11;")
    head = f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]>'
    (tmp_path / "Annotations/a.xml").write_text(f"{head}<annotation>{text}</annotation>")
    before = time.perf_counter()
    samples, remarks = said(tmp_path)
    assert time.perf_counter() - before < 1
    assert samples[0].target == () or not samples[0].target["objects"]
    assert "a.xml: " in remarks[0]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>", "<size/>"])
def test_a_size_that_is_not_stated_is_the_images(tmp_path: Path, size: str) -> None:
    voc(tmp_path, False)
    (tmp_path / "Annotations/a.xml").write_text(f"<annotation>{size}</annotation>")
    samples, remarks = said(tmp_path)
    assert samples[0].size == SIZES["a.png"]
    assert "a.xml: states no size of the image; it is read from the image" in remarks[0]
    (tmp_path / "JPEGImages/a.png").write_text("no image")
    samples, remarks = said(tmp_path)
    assert (samples[0].target, samples[0].size) == ((), None)
    assert remarks[1].endswith("; it is not scored")
