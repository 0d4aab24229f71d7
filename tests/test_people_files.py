"""Files as people's tools write them: each gives the right value, or one sentence that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit.cli.main import main
from evalkit.tasks import dataset, loader
from evalkit.tasks.layouts.recognise import recognise

SIZE = (64, 48)


def coco(folder: Path, classes: Sequence[str] = ("cat", "dog")) -> Path:
    """Two images with a box each."""
    folder.mkdir(parents=True)
    boxes = [[4, 4, 20, 10], [30, 8, 12, 12]]
    for n in range(2):
        Image.new("RGB", SIZE, (40 * n, 90, 200)).save(folder / f"{n}.jpg")
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in range(2)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": n % len(classes), "bbox": box, "area": box[2] * box[3],
             "iscrowd": 0} for n, box in enumerate(boxes)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes)],
    }  # fmt: skip
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Möbel", "Möbel_test"),
        ("Mäbel", "Mäbel_test"),
        ("Mo\u0308bel", "Möbel_test"),  # as macOS may write it
        ("家具", "家具_test"),
        ("my data (new)", "my_data_new_test"),
        ("_x_", "x_test"),
    ],
)
def test_a_task_is_called_as_its_folder(folder: str, name: str, tmp_path: Path) -> None:
    coco(tmp_path / folder / "test")
    found = recognise(tmp_path / folder)
    assert found.name(found.drafts[0]) == name


def test_tasks_of_names_with_letters_of_every_script_run_and_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answers = [{"id": str(n), "text": "<loc0085><loc0064><loc0298><loc0383> cat"} for n in range(2)]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, answers)))
    for folder in ("Möbel", "Mäbel"):
        coco(Path(folder, "test"))
        words = ["run", "--model", "replay:a.jsonl", "--data", folder, "--output-path", "out"]
        assert main(words) == 0, capsys.readouterr().err
    assert sorted(path.name for path in Path("out/tasks").iterdir()) == ["Mäbel_test.yaml", "Möbel_test.yaml"]
    capsys.readouterr()
    assert main(["table", "out"]) == 0
    shown = capsys.readouterr().out
    assert "Möbel_test" in shown
    assert "Mäbel_test" in shown
    kept = ["--tasks", "out/tasks/Möbel_test.yaml", "--data-root", "Möbel", "--output-path", "again"]
    assert main(["run", "--model", "replay:a.jsonl", *kept]) == 0


# --- photos that EXIF turns ----------------------------------------------------------------------------

SIDEWAYS = 6  # the camera was held upright: 90 degrees clockwise make it so
UPRIGHT = [6, 4, 12, 24]  # x, y, width, height of the red object in the upright photo, 48 wide and 64 high


def photo(folder: Path, stated: tuple[int, int], box: Sequence[int]) -> None:
    """A COCO file of one photo stored sideways, with a red object, and of one that no tag turns."""
    folder.mkdir(parents=True)
    upright = Image.new("RGB", (48, 64), (0, 0, 90))
    upright.paste((250, 0, 0), (6, 4, 18, 28))
    exif = Image.Exif()
    exif[0x0112] = SIDEWAYS
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "0.jpg", quality=95, exif=exif)
    upright.save(folder / "1.jpg", quality=95)
    images = [{"id": 0, "file_name": "0.jpg", "width": stated[0], "height": stated[1]},
              {"id": 1, "file_name": "1.jpg", "width": 48, "height": 64}]  # fmt: skip
    objects = [{"id": n, "image_id": n, "category_id": 0, "bbox": list(given), "area": 288, "iscrowd": 0}
               for n, given in enumerate((box, UPRIGHT))]  # fmt: skip
    content = {"images": images, "annotations": objects, "categories": [{"id": 0, "name": "cat"}]}
    (folder / "_annotations.coco.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("stated", "protocol", "said"),
    [
        ((48, 64), "hf", ""),
        (
            (48, 64),
            "paper",
            "taken as of the upright picture, but protocol paper shows it as it is stored",
        ),
        ((64, 48), "paper", ""),
        (
            (64, 48),
            "hf",
            "of the picture as it is stored, as the stated size shows, but protocol hf turns",
        ),
    ],
)
def test_boxes_of_another_view_than_the_model_is_shown_are_told(
    stated: tuple[int, int], protocol: str, said: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    photo(Path("mine/test"), stated, UPRIGHT if stated == (48, 64) else [4, 30, 24, 12])
    Path("look.py").write_text(LOOKS)
    words = ["run", "--model", "module:look.py:Looks", "--data", "mine", "--protocol", protocol]
    assert main([*words, "--output-path", "out"]) == 0
    out, err = capsys.readouterr()
    warned = [line for line in err.split("\n") if "turned by EXIF" in line]
    assert len(warned) == bool(said)
    whole = "warning: mine_test: 1 of 2 photos is turned by EXIF and its boxes are " + said
    assert all(line.startswith(whole) for line in warned), warned
    assert "the first is " in "".join(warned) or not said
    ap = next(line for line in out.split("\n") if "coco_ap" in line).split()[3]
    assert (float(ap) > 80) == (not said), out
    run = json.loads(next(Path("out").glob("mine_test.*/run.json")).read_text())
    assert len([each for each in run.get("data", {}).get("remarks", []) if "turned by EXIF" in each]) == bool(
        said
    )


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ((48, 64), "taken as of the upright picture; predictions of a program that shows them as they are "
         "stored are scored wrongly; the first is "),
        ((64, 48), "of the picture as it is stored, as the stated size shows; predictions of a program that "
         "turns them upright are scored wrongly; the first is "),
    ],
)  # fmt: skip
def test_predictions_made_elsewhere_may_be_of_another_view(
    stated: tuple[int, int], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    photo(Path("mine/test"), stated, UPRIGHT if stated == (48, 64) else [4, 30, 24, 12])
    assert main(["data", "mine", "--save-task", "t.yaml"]) == 0
    answers = {
        "0": "<loc0063><loc0127><loc0447><loc0383> cat",
        "1": "<loc0063><loc0127><loc0447><loc0383> cat",
    }
    Path("p.json").write_text(json.dumps(answers))
    capsys.readouterr()
    words = ["score", "--task", "t.yaml", "--data-root", "mine", "--predictions", "p.json"]
    assert main([*words, "--output-path", "out"]) == 0
    warned = [line for line in capsys.readouterr().err.split("\n") if "turned by EXIF" in line]
    (line,) = warned
    assert line.startswith("warning: t: 1 of 2 photos is turned by EXIF and its boxes are " + said)
    run = json.loads(next(Path("out").glob("t.*/run.json")).read_text())
    assert [each for each in run["data"]["remarks"] if "turned by EXIF" in each]


LOOKS = """
import numpy as np

class Looks:
    def identity(self):
        return {"looks": "at red pixels"}

    def answer(self, image, prompt, max_new_tokens):
        pixels = np.asarray(image).astype(int)
        red = pixels[..., 0] > pixels[..., 2]
        ys, xs = (np.flatnonzero(red.any(axis)) for axis in (1, 0))
        height, width = red.shape
        ends = ys[0] / height, xs[0] / width, (ys[-1] + 1) / height, (xs[-1] + 1) / width
        return "".join(f"<loc{round(1023 * end):04d}>" for end in ends) + " cat"
"""


# --- other tools' files --------------------------------------------------------------------------------

LABEL_STUDIO = {
    "data": {"image": "/data/upload/0.jpg"},
    "annotations": [{"result": [{"type": "rectanglelabels"}]}],
}
REGION = {"shape_attributes": {"name": "rect", "x": 4, "y": 4}, "region_attributes": {"label": "cat"}}
PROMPTED = {"image": "0.jpg", "prefix": "<OD>", "suffix": "cat<loc_62><loc_83><loc_375><loc_291>"}
FOREIGN = [
    (
        "labelme",
        "0.json",
        {"version": "5", "shapes": [], "imagePath": "0.jpg"},
        "is labelme's JSON; export it as COCO",
    ),
    (
        "via",
        "via.json",
        {"0.jpg12": {"filename": "0.jpg", "regions": [REGION]}},
        "is VGG Image Annotator's JSON; ",
    ),
    (
        "via_csv",
        "via.csv",
        "filename,region_shape_attributes\n0.jpg,{}\n",
        "is VGG Image Annotator's CSV; export",
    ),
    ("label_studio", "export.json", [LABEL_STUDIO], "is Label Studio's JSON; export COCO"),
    (
        "label_studio_min",
        "export.json",
        [{"image": "0.jpg", "label": [{"x": 1, "rectanglelabels": ["cat"]}]}],
        "is Label Studio's JSON; export COCO",
    ),
    (
        "createml",
        "_annotations.createml.json",
        [{"image": "0.jpg", "annotations": [{"label": "cat", "coordinates": {"x": 1}}]}],
        "is CreateML's JSON; ",
    ),
    (
        "results",
        "results.json",
        [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
        "is a list of detections, as COCO's results; ",
    ),
    (
        "tensorflow",
        "_annotations.csv",
        "filename,class,xmin,ymin,xmax,ymax\n0.jpg,cat,1,2,3,4\n",
        "is a table of a box a row, as TensorFlow's; ",
    ),
    ("tfrecord", "a.tfrecord", "x", "is TensorFlow's; export it as COCO"),
    (
        "cvat",
        "annotations.xml",
        "<annotations><version>1.1</version><image name='0.jpg'/></annotations>",
        "is CVAT's XML of images; export it as COCO",
    ),
    ("keras", "_annotations.txt", "0.jpg 4,4,24,14,0\n", "is a table of YOLO for Keras; export it as COCO"),
    ("darknet", "obj.names", "cat\n", "is YOLO's without a data.yaml; write a data.yaml beside it: "),
    ("classes", "classes.txt", "cat\n", "is YOLO's without a data.yaml; write a data.yaml beside it: "),
    (
        "labels",
        "labels/0.txt",
        "0 .5 .5 .1 .1\n",
        "is YOLO's without a data.yaml; write a data.yaml beside it: ",
    ),
    (
        "florence",
        "test.jsonl",
        [PROMPTED],
        "suffix: has tokens of Florence-2, as <loc_62>, which PaliGemma does not",
    ),
    ("zip", "test.zip", "PK", "test.zip: is an archive; unpack it and name its folder"),
    ("xlsx", "test.xlsx", "PK", "test.xlsx: is a spreadsheet; save it as CSV (UTF-8)"),
    (
        "columns",
        "test.json",
        {"image": ["0.jpg"], "answer": ["cat"]},
        "is a list for each column; write a record",
    ),
    ("wrapped", "test.json", {"rows": [{"image": "0.jpg", "answer": "cat"}]}, "is a list inside an object; "),
    (
        "nested",
        "test.json",
        [{"image": {"path": "0.jpg"}, "answer": "cat"}],
        "a record whose image is an object",
    ),
    (
        "by_id",
        "test.json",
        {"7": {"image": "0.jpg", "answer": "cat"}},
        "an object of records by their ids; write",
    ),
    ("headless", "test.csv", "0.jpg,what,cat\n0.jpg,what,dog\n", "a table without a header line; write one"),
    (
        "folders",
        "cat/1.jpg",
        "x",
        "holds folders of images alone (cat, dog); for classes write a metadata.jsonl",
    ),
    ("images", "1.jpg", "x", "holds images alone; annotations are missing"),
    (
        "twice",
        "test.csv",
        "image,answer,answer\n0.jpg,cat,dog\n",
        "the column 'answer' is there twice; give each a",
    ),
]


@pytest.mark.parametrize("name", ["test.jsonl", "test.csv", "test.json"])
def test_utf_16_is_called_so(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(json.dumps({"image": "0.jpg", "answer": "cat"}).encode("utf-16"))
    assert main(["data", str(tmp_path)]) == 2
    assert f"{name}: is UTF-16; save " in capsys.readouterr().err


@pytest.mark.parametrize(("tool", "file", "content", "said"), FOREIGN, ids=[tool for tool, *_ in FOREIGN])
def test_files_of_other_tools_are_called_by_their_name(
    tool: str, file: str, content: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    folder = tmp_path / "dog" if tool == "folders" else tmp_path
    folder.mkdir(exist_ok=True)
    Image.new("RGB", SIZE).save(folder / "0.jpg")
    if not isinstance(content, str):
        content = "\n".join(map(json.dumps, content)) if file.endswith(".jsonl") else json.dumps(content)
    path.write_text(content)
    assert main(["data", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


CELLS = ("what", "cat")


@pytest.mark.parametrize(
    "text",
    [
        "image;question;answer\r\n0.jpg;what;cat\r\n",
        "image|question|answer\n0.jpg|what|cat\n",
        "sep=;\r\nimage;question;answer\r\n0.jpg;what;cat\r\n",
        "\ufeffsep=,\nimage,question,answer\n0.jpg,what,cat\n",
        "image,question,answer\nC:\\data\\0.jpg,what,cat\n",
        "image,question,answer\n/home/somebody/0.jpg,what,cat\n",
    ],
)
def test_tables_of_many_hands_give_the_same_sample(text: str, tmp_path: Path) -> None:
    Image.new("RGB", SIZE).save(tmp_path / "0.jpg")
    (tmp_path / "test.csv").write_text(text, newline="")
    found = recognise(tmp_path)
    task = loader.holding(found.drafts[0].content, tmp_path / "t.yaml")
    (sample,) = dataset.dataset(task, [tmp_path]).samples
    assert (sample.fields["question"], *sample.target) == CELLS
    assert sample.images[0].path == str(tmp_path / "0.jpg")


def test_a_coco_file_of_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = coco(tmp_path / "test")
    file = folder / "_annotations.coco.json"
    content = json.loads(file.read_text())
    for n, image in enumerate(content["images"]):
        image["file_name"] = f"C:\\photos\\{n}.jpg"
    content["annotations"][0] |= {
        "area": None,
        "iscrowd": None,
        "segmentation": None,
    }  # as some exports have it
    file.write_text(json.dumps(content))
    assert main(["data", str(tmp_path), "--check"]) == 0, capsys.readouterr().out
    content["images"][1]["file_name"] = "D:\\other\\0.jpg"
    file.write_text(json.dumps(content))
    assert main(["data", str(tmp_path), "--check"]) == 1
    assert "images[1].file_name: is 'D:\\\\other\\\\0.jpg'; 0.jpg is what 'C:" in capsys.readouterr().out


def test_a_coco_file_with_an_image_that_has_no_name_is_still_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = coco(tmp_path / "test") / "_annotations.coco.json"
    content = json.loads(file.read_text())
    del content["images"][1]["file_name"]
    file.write_text(json.dumps(content))
    assert main(["data", str(tmp_path)]) == 1
    assert "wrong    " in (out := capsys.readouterr().out)
    assert "images[1].file_name: is missing" in out
