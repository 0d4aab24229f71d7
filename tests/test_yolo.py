"""YOLO datasets: the forms of data.yaml, and what is odd about labels is said and costs only itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from own_world import SIZES, THINGS, of, pictures, yolo, yolo_line
from PIL import Image
from stub import Stub

from evalkit import registry
from evalkit.cli.main import main
from evalkit.errors import DataError
from evalkit.types import Sample, Source, target_kinds

LINE = "0 0.5 0.5 0.25 0.5"


def read(root: Path, split: str = "val", path: str = "data.yaml", spelling: str = "yolo") -> list[Sample]:
    return said(root, split, path, spelling)[0]


def said(
    root: Path, split: str = "val", path: str = "data.yaml", spelling: str = "yolo"
) -> tuple[list[Sample], tuple[str, ...]]:
    source = Source(root, {"path": path}, "t")
    samples = list(registry.make("formats", spelling).samples(source, split))
    return samples, source.remarks.said()


def labels(root: Path, **files: str) -> None:
    """The world with other labels: a="...", and no more for b and c."""
    yolo(root, False)
    for name in "abc":
        (root / f"labels/val/{name}.txt").write_text(files.get(name, ""))


# --- data.yaml ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        "names: [cat, dog]",
        "names:\n- cat\n- dog",
        "names:\n  0: cat\n  1: dog",
        "names: {1: dog, 0: cat}",
        "nc: 2\nnames: ['cat', 'dog']",
        "names: {'0': cat, '1': dog}",
    ],
)
def test_names_are_a_list_or_a_mapping(tmp_path: Path, names: str) -> None:
    yolo(tmp_path, False)
    (tmp_path / "data.yaml").write_text(f"val: images/val\n{names}\n")
    samples, remarks = said(tmp_path)
    assert samples[0].fields == {"categories": "cat ; dog"}
    assert [o["category"] for o in samples[0].target["objects"]] == ["cat", "dog"]
    assert remarks == ()


def test_names_are_text_as_written(tmp_path: Path) -> None:
    """YAML's own reading makes True and 7 of them."""
    yolo(tmp_path, False)
    (tmp_path / "data.yaml").write_text("val: images/val\nnames: [yes, 7]\n")
    assert read(tmp_path)[0].fields == {"categories": "yes ; 7"}


def test_only_a_count_of_classes(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    (tmp_path / "data.yaml").write_text("val: images/val\nnc: 2\n")
    assert read(tmp_path)[0].fields == {"categories": "class_0 ; class_1"}


def test_odd_names_are_said(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    (tmp_path / "data.yaml").write_text("val: images/val\nnc: 3\nnames: [cat, cat]\n")
    samples, remarks = said(tmp_path)
    assert samples[0].target["categories"] == ("cat",)
    assert {o["category"] for o in samples[0].target["objects"]} == {"cat"}
    assert [text.partition("data.yaml: ")[2] for text in remarks] == [
        "nc: is 3, but 2 classes have names; the names count",
        "names.1: is 'cat', as is names.0; they are one class",
    ]


@pytest.mark.parametrize(
    ("yaml", "where", "split"),
    [
        ("path: ..\nval: ds/images/val", "ds", "val"),
        ("val: images/val", "ds", "valid"),
        ("valid: images/val", "ds", "val"),
        ("validation: images/val", "ds", "valid"),
        ("val: ../images/val", "ds", "val"),  # Roboflow's: one folder too high
        ("path: /content/ds\nval: images/val", "ds", "val"),  # another machine's
        ("val: /content/ds/images/val", "ds", "val"),
        ("val: 'C:\\data\\ds\\images\\val'", "ds", "val"),
        ("path: ds\ntest: images/val", "ds", "test"),  # below ultralytics' folder of datasets
        ("val: [images/val]", "ds", "val"),
        ("val: ./images/val/", "ds", "val"),
        ("train: images\nval: images/val", "ds", "val"),
    ],
)
def test_where_images_are(tmp_path: Path, yaml: str, where: str, split: str) -> None:
    yolo(tmp_path / where, False)
    (tmp_path / where / "data.yaml").write_text(f"{yaml}\nnames: [cat, dog]\n")
    samples = read(tmp_path, split, f"{where}/data.yaml")
    assert [s.id for s in samples] == list(SIZES)
    assert samples[0].images[0].path == str(tmp_path / "ds/images/val/a.png")
    assert read(tmp_path, split, where) == samples  # the folder that holds data.yaml


def test_ids_are_paths_below_the_dataset_where_there_are_several_folders(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    shutil.copytree(tmp_path / "images/val", tmp_path / "images/more/day")
    (tmp_path / "data.yaml").write_text("val: [images/val, images/more]\nnames: [cat, dog]\n")
    samples, remarks = said(tmp_path)
    assert [s.id for s in samples][:4] == [
        *(f"images/more/day/{name}" for name in SIZES),
        "images/val/a.png",
    ]
    assert samples[3].cluster == "images/val/a.png"
    assert [len(s.target["objects"]) for s in samples] == [0, 0, 0, 2, 3, 0]
    assert "labels/more/day/a.txt: is not there; its image counts as one without objects" in remarks[0]
    assert "(the first of 3 such)" in remarks[0]


def test_images_in_folders_below_their_split(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    for kind in ("images", "labels"):
        (tmp_path / kind / "val").rename(tmp_path / kind / "day")
        (tmp_path / kind / "val").mkdir()
        (tmp_path / kind / "day").rename(tmp_path / kind / "val" / "day")
    samples, remarks = said(tmp_path)
    assert [s.id for s in samples] == [f"day/{name}" for name in SIZES]
    assert [len(s.target["objects"]) for s in samples] == [2, 3, 0]
    assert remarks == ()


def test_a_list_of_images(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    (tmp_path / "data.yaml").write_text("val: val.txt\nnames: [cat, dog]\n")
    (tmp_path / "val.txt").write_text(
        f"./images/val/b.png\n\nimages/val/a.png\n{tmp_path}/images/val/b.png\n", encoding="utf-8-sig"
    )
    samples, remarks = said(tmp_path)
    assert [s.id for s in samples] == ["images/val/a.png", "images/val/b.png"]
    assert [len(s.target["objects"]) for s in samples] == [2, 3]
    assert len(remarks) == 1
    assert "b.png again; it counts once" in remarks[0]


def test_labels_beside_images(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    for name in SIZES:
        shutil.copy(tmp_path / f"labels/val/{name[0]}.txt", tmp_path / "images/val")
    (tmp_path / "images").rename(tmp_path / "photos")
    (tmp_path / "photos/val/classes.txt").write_text("cat\ndog\n")
    (tmp_path / "data.yaml").write_text("val: photos/val\nnames: [cat, dog]\n")
    samples, remarks = said(tmp_path)
    assert [len(s.target["objects"]) for s in samples] == [2, 3, 0]
    assert remarks == ()


def test_labels_replace_the_last_folder_images(tmp_path: Path) -> None:
    yolo(tmp_path / "images", False)
    assert [len(s.target["objects"]) for s in read(tmp_path / "images")] == [2, 3, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val: images/val", "names: must list the classes, as [cat, dog] or {0: cat, 1: dog}"),
        ("val: images/val\nnames: []", "names: must list the classes"),
        ("val: images/val\nnames: cat", "names: must list the classes"),
        ("val: images/val\nnames: {1: cat, 2: dog}", "must have the classes' numbers as keys, here 0 to 1"),
        ("val: images/val\nnames: {a: cat}", "names: must have the classes' numbers as keys, here 0 to 0"),
        ("val: images/val\nnames: [cat, [dog]]", "names.1: is not a name; it must be text"),
        ("val: images/val\nnames: [cat, '']", "names.1: is not a name"),
        ("train: images/val\nnames: [cat]", "no split 'val'; there are: train"),
        ("val: images/gone\nnames: [cat]", "val: names 'images/gone', but "),
        ("val: /content/gone/val\nnames: [cat]", "is not there; it must be a folder of images"),
        ("val: {a: b}\nnames: [cat]", "val: must be a folder, a list of folders or a .txt file"),
        ("val: labels/val\nnames: [cat]", "names no image"),
        ("val: images/val/a.png\nnames: [cat]", "must list one image a line"),
        ("names: [cat", "line 1: is not valid YAML"),
        ("- a", "is a list; it must be an object"),
        ("", "is null; it must be an object"),
        ("\xff", "is not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_data_yaml(tmp_path: Path, text: str, message: str) -> None:
    yolo(tmp_path, False)
    (tmp_path / "data.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_without_data_yaml(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    (tmp_path / "data.yaml").rename(tmp_path / "mine.yaml")
    assert len(read(tmp_path, path=".")) == 3
    (tmp_path / "other.yml").write_text("")
    with pytest.raises(DataError, match=r"must hold one data\.yaml .* there is mine\.yaml, other\.yml"):
        read(tmp_path, path=".")
    with pytest.raises(DataError, match="there is no YAML file"):
        read(tmp_path, path="images")


# --- labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("2 .5 .5 .2 .2", "class 2 is not in data.yaml, which has 0 to 1"),
        ("-1 .5 .5 .2 .2", "class -1 is not in data.yaml"),
        ("0.5 .5 .5 .2 .2", "class 0.5 is not in data.yaml"),
        ("cat .5 .5 .2 .2", "is 'cat .5 .5 .2 .2'; it must be numbers with blanks between them"),
        ("0,.5,.5,.2,.2", "is '0,.5,.5,.2,.2'; it must be numbers"),
        ("0 .5 .5 nan .2", "holds nan; numbers must be finite"),
        ("0 .5 .5 .2", "holds 4 numbers; it must be `class cx cy w h`, or"),
        ("0 .5 .5 .2 .2 .9", "holds 6 numbers, as predictions with a confidence have"),
        ("0 .1 .1 .5 .1 .5 .5 .1", "holds 8 numbers; it must be"),
        ("0 32 24 10 10", "reaches 32; numbers are shares of the image, from 0 to 1"),
        ("0 .5 .5 1.02 .2", "reaches 1.02"),
        ("0 -.02 .5 .1 .2", "reaches -0.02"),
        ("0 .5 .5 -.005 .2", "holds -0.005 as a side; width and height must not be negative"),
        ("0 10 10 50 10 50 50", "reaches 30; numbers are shares"),
    ],
)
def test_a_wrong_line_costs_only_itself(tmp_path: Path, line: str, why: str) -> None:
    labels(tmp_path, a=f"{LINE}\n{line}\n1 .5 .5 .1 .1\n", b=f"{line}\n")
    samples, remarks = said(tmp_path)
    assert [len(s.target["objects"]) for s in samples] == [2, 0, 0]
    assert len(remarks) == 1
    assert f"labels/val/a.txt: line 2: {why}" in remarks[0]
    assert remarks[0].endswith("; the line is left out (the first of 2 such)")


def test_labels_of_which_no_line_is_right_are_refused(tmp_path: Path) -> None:
    labels(tmp_path, a="0 32 24 10 10\n", b="0 32 24 10 10\n0 1 2 3\n")
    with pytest.raises(DataError, match=r"a\.txt: line 1: reaches 32; .*; no other line is right either"):
        read(tmp_path)


def test_numbers_as_ultralytics_takes_them(tmp_path: Path) -> None:
    labels(tmp_path, a="\ufeff0.0 0.5 0.5 1.01 1\r\n\r\n  1\t-0.01 0.5 0.02 0.1  \n")
    objects = read(tmp_path)[0].target["objects"]
    assert [o["category"] for o in objects] == ["cat", "dog"]
    assert objects[0]["box"] == pytest.approx(((0.5 - 0.505) * 64, 0, 1.01 * 64, 48))


def test_boxes_over_the_edge_are_kept_and_said(tmp_path: Path) -> None:
    labels(tmp_path, a="0 0.9 0.5 0.5 0.5\n", b="1 0.005 0.5 0.02 0.5\n")
    samples, remarks = said(tmp_path)
    assert samples[0].target["objects"][0]["box"] == pytest.approx((0.65 * 64, 12, 32, 24))
    assert len(remarks) == 1  # half a pixel is rounding
    assert "a.txt: line 1: is 10 pixels over the image's edge; it is kept as it is" in remarks[0]


def test_flat_and_repeated_boxes_are_said(tmp_path: Path) -> None:
    labels(tmp_path, a=f"{LINE}\n{LINE}\n1 .5 .5 0 .2\n")
    samples, remarks = said(tmp_path)
    assert [o["category"] for o in samples[0].target["objects"]] == ["cat", "dog"]
    assert "line 2: is there twice; it counts once" in remarks[0]
    assert "line 3: is a box without area; it is kept" in remarks[1]


def test_boxes_and_polygons_in_one_file(tmp_path: Path) -> None:
    cat, dog = of("a.png")
    labels(tmp_path, a=f"{yolo_line(cat, True)}\n{yolo_line(dog, False)}\n")
    samples, remarks = said(tmp_path)
    first, second = samples[0].target["objects"]
    assert first["segmentation"][0] == pytest.approx(cat.polygon)
    assert second["box"] == pytest.approx(dog.box)
    assert "segmentation" not in second
    assert target_kinds(samples[0].target) == {"objects"}  # so a task about masks refuses it
    assert "has boxes and polygons; each line is read as what it is" in remarks[0]


def test_images_without_labels_and_labels_without_image(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    (tmp_path / "labels/val/c.txt").unlink()
    (tmp_path / "labels/val/gone.txt").write_text(LINE)
    (tmp_path / "labels/val/classes.txt").write_text("cat\ndog\n")
    (tmp_path / "images/val/._a.png").touch()  # macOS's
    (tmp_path / "images/val/d.heic").touch()
    samples, remarks = said(tmp_path)
    assert [len(s.target["objects"]) for s in samples] == [2, 3, 0]
    assert [text.rpartition("/")[2] for text in remarks] == [
        "d.heic: .heic images are not read; it is left out",
        "c.txt: is not there; its image counts as one without objects",
        "gone.txt: there is no image for these labels; they are left out",
    ]


def test_no_labels_at_all_are_refused(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    shutil.rmtree(tmp_path / "labels")
    with pytest.raises(DataError, match=r"labels/val/a\.txt: is not there, and no other image has labels"):
        read(tmp_path)


def test_labels_that_are_no_text_cost_only_themselves(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    (tmp_path / "labels/val/a.txt").write_bytes(b"\xff\xfe0\x00")
    samples, remarks = said(tmp_path)
    assert [s.target == () for s in samples] == [True, False, False]
    assert "a.txt: is not UTF-8 text; its image is not scored" in remarks[0]


def test_an_image_that_cannot_be_read_is_not_scored(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    (tmp_path / "images/val/a.png").write_text("no image")
    (tmp_path / "data.yaml").write_text("val: val.txt\nnames: [cat, dog]\n")
    (tmp_path / "val.txt").write_text("".join(f"images/val/{name}\n" for name in (*SIZES, "gone.png")))
    (tmp_path / "labels/val/gone.txt").write_text(LINE)
    samples, remarks = said(tmp_path)
    assert [s.target == () for s in samples] == [True, False, False, True]
    assert "images/val/a.png: is not an image of a known kind" in remarks[0]
    assert remarks[0].endswith("; it is not scored (the first of 2 such)")


def test_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    yolo(tmp_path, False)
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "png"):
        (tmp_path / "images/val/a.png").unlink(missing_ok=True)
        Image.new("RGB", (30, 20)).save(tmp_path / f"images/val/a.{suffix}", exif=exif)
        sample = read(tmp_path)[0]
        assert sample.size == sample.target["size"] == (30, 20)
        (tmp_path / f"images/val/a.{suffix}").unlink()


def test_keypoints_are_dropped(tmp_path: Path) -> None:
    labels(tmp_path, a=f"{LINE} .1 .1 2 .2 .2 1\n")
    with pytest.raises(DataError, match="reaches 1"):  # 11 numbers: a polygon, but for `kpt_shape`
        read(tmp_path)
    with (tmp_path / "data.yaml").open("a") as file:
        file.write("kpt_shape: [2, 3]\n")
    assert read(tmp_path)[0].target["objects"][0]["box"] == pytest.approx((24, 12, 16, 24))


# --- rotated boxes -----------------------------------------------------------------------------

TURNED = "0 0.5 0.2 0.8 0.5 0.5 0.8 0.2 0.5\n"
LEVEL = "0 0.2 0.2 0.8 0.2 0.8 0.8 0.2 0.8\n"


@pytest.mark.parametrize("text", [TURNED, LEVEL + TURNED, TURNED * 2])
def test_rotated_boxes_are_refused(tmp_path: Path, text: str) -> None:
    labels(tmp_path, b=text)
    with pytest.raises(DataError, match=r"b\.txt: line \d: is a turned box.*yolo\(polygons=True\)"):
        read(tmp_path)
    assert read(tmp_path, spelling="yolo(polygons=True)")[1].target["objects"]


@pytest.mark.parametrize(
    "text",
    [LEVEL, LEVEL.replace("0.8 0.2", "0.8 0.2001"), TURNED + "0 .1 .1 .5 .1 .5 .5\n", TURNED + LINE],
    ids=["level", "rounded", "with a triangle", "with a box"],
)
def test_four_corners_may_be_polygons(tmp_path: Path, text: str) -> None:
    labels(tmp_path, b=text)
    assert read(tmp_path)[1].target["objects"][0]["segmentation"]


# --- what is said -------------------------------------------------------------------------------


def test_remarks_are_said_by_every_command(
    tmp_path: Path, model: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    labels(tmp_path / "data", a=f"{LINE}\n7 .5 .5 .2 .2\n")
    (tmp_path / "mine.yaml").write_text(
        "version: 1\nabout: x\nlicense: x\ndata: {format: yolo, split: val, sources: [{path: data.yaml}]}\n"
        'prompt: "detect {categories}"\nparser: boxes\nmetrics: [coco_ap]\n'
    )
    told = (
        "data/labels/val/a.txt: line 2: class 7 is not in data.yaml, which has 0 to 1; the line is left out\n"
    )
    task = ["mine.yaml", "--data-root", "data"]
    assert main(["data", *task, "--check"]) == 1
    assert f"warning  {tmp_path}/{told}" in capsys.readouterr().out
    assert main(["run", "--model", "m", "--tasks", *task]) == 0
    assert f"warning: mine: {tmp_path}/{told}" in capsys.readouterr().err
    (tmp_path / "p.jsonl").write_text("".join(f'{{"id": "{name}", "text": ""}}\n' for name in SIZES))
    assert main(["score", "--task", *task, "--predictions", "p.jsonl"]) == 0
    assert f"warning: {tmp_path}/{told}" in capsys.readouterr().err


# --- large datasets ----------------------------------------------------------------------------


def test_images_are_not_decoded(tmp_path: Path) -> None:
    """Half of each file is missing: their headers are enough."""
    yolo(tmp_path, False)
    for name in SIZES:
        data = (tmp_path / "images/val" / name).read_bytes()
        (tmp_path / "images/val" / name).write_bytes(data[: len(data) // 2])
    assert [s.size for s in read(tmp_path)] == list(SIZES.values())


def test_the_fixture_has_all_things(tmp_path: Path) -> None:
    pictures(tmp_path)
    assert sum(len(of(name)) for name in SIZES) == len(THINGS)


def test_an_image_without_labels_is_a_note_and_right(
    tmp_path: Path, model: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    labels(tmp_path / "data", a=LINE)
    (tmp_path / "data" / "labels" / "val" / "b.txt").unlink(missing_ok=True)
    file = tmp_path / "data" / "data.yaml"  # whose images for training are those of val, which is doubtful
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "train" not in line))
    assert main(["data", "./data", "--check"]) == 0
    shown = capsys.readouterr().out
    assert "note     " in shown
    assert "b.txt: is not there; its image counts as one without objects" in shown
    assert main(["run", "--model", "m", "--data", "data"]) == 0
    assert "note: data_valid: " in capsys.readouterr().err
