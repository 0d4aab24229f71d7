"""Rows of Hugging Face datasets: boxes in either order, questions, captions and PaliGemma's own lines, as
`save_to_disk`, Parquet files, an imagefolder's metadata and the hub have them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_layouts import ANSWERS, SIDE, WORLD, coco, lines, locations, made, pictures

from evalkit import registry
from evalkit.cli.main import main
from evalkit.errors import DataError, UserError
from evalkit.tasks import dataset
from evalkit.tasks.layouts import box_order
from evalkit.tasks.layouts.reading import Reading
from evalkit.tasks.layouts.recognise import recognise
from evalkit.types import Prediction, Source

NAMES = ["cat", "dog"]


def png(shade: int = 0) -> dict[str, Any]:
    held = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (shade, 0, 0)).save(held, "PNG")
    return {"bytes": held.getvalue(), "path": None}


def box(corners: tuple[int, int, int, int], order: str) -> list[float]:
    x0, y0, x1, y1 = map(float, corners)
    return [x0, y0, x1 - x0, y1 - y0] if order == "xywh" else [x0, y0, x1, y1]


def objects(name: str, order: str, names: bool = False) -> dict[str, Any]:
    """As a struct of lists; with areas, which tell `xywh`."""
    boxes = [box(corners, order) for _, corners in WORLD[name]]
    return {
        "bbox": boxes,
        "category": [label if names else NAMES.index(label) for label, _ in WORLD[name]],
        "area": [float((x1 - x0) * (y1 - y0)) for _, (x0, y0, x1, y1) in WORLD[name]],
    }


def listed(name: str, order: str, names: bool = False) -> list[dict[str, Any]]:
    """The same as a list of objects."""
    held = objects(name, order, names)
    return [dict(zip(held, one, strict=True)) for one in zip(*held.values(), strict=True)]


def table(order: str, of_lists: bool) -> Any:
    """A `Dataset` with a ClassLabel."""
    from datasets import ClassLabel, Dataset, Features, List, Value
    from datasets import Image as Picture

    number, four = Value("float32"), List(Value("float32"), length=4)
    label = ClassLabel(names=NAMES)
    inside: Any = {"bbox": List(four), "category": List(label), "area": List(number)}
    kind: Any = inside if of_lists else List({"bbox": four, "category": label, "area": number})
    make = objects if of_lists else listed
    rows = [{"image": png(n), "objects": make(name, order)} for n, name in enumerate(WORLD)]
    return Dataset.from_list(rows, features=Features({"image": Picture(), "objects": kind}))


def saved(root: Path, order: str) -> None:
    from datasets import DatasetDict

    DatasetDict({"validation": table(order, True)}).save_to_disk(str(root))


def parquet(root: Path, order: str) -> None:
    (root / "data").mkdir(parents=True)
    table(order, False).to_parquet(str(root / "data" / "validation-00000-of-00001.parquet"))


def metadata(root: Path, order: str) -> None:
    pictures(root / "validation")
    told = [{"file_name": name, "objects": objects(name, order, names=True)} for name in WORLD]
    lines(root / "validation" / "metadata.jsonl", told)


def cells(root: Path, order: str) -> None:
    """CSV, whose cells hold JSON."""
    pictures(root / "validation")
    with (root / "validation" / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "height", "width", "objects"])
        writer.writerows([name, SIDE, SIDE, json.dumps(listed(name, order, names=True))] for name in WORLD)


def columns(root: Path, order: str) -> None:
    """Boxes and labels are columns of their own."""
    pictures(root / "images")
    told = [
        {"image": name, "height": SIDE, "width": SIDE, "bboxes": held["bbox"], "labels": held["category"],
         "area": held["area"]}
        for name in WORLD for held in [objects(name, order, names=True)]
    ]  # fmt: skip
    (root / "val.json").write_text(json.dumps(told))


ROWS: dict[str, Callable[[Path, str], None]] = {
    "save_to_disk": saved, "parquet": parquet, "metadata.jsonl": metadata, "metadata.csv": cells,
    "columns": columns,
}  # fmt: skip


def score(found: Reading, folder: Path) -> dict[str, float]:
    folder.mkdir()
    (task,) = made(found, folder)
    data = dataset.dataset(task, [found.root])
    texts = [locations(ANSWERS[name]) for name in WORLD]
    read = [
        data.parser.read(Prediction(s.id, "", t), s.size) for s, t in zip(data.samples, texts, strict=True)
    ]
    metrics = {spelled: registry.make("metrics", spelled) for spelled in task.metrics}
    return {m: one.reduce(one.rows(read, [s.target for s in data.samples])) for m, one in metrics.items()}


@pytest.mark.parametrize("order", ["xywh", "xyxy"])
@pytest.mark.parametrize("kind", ROWS)
def test_one_world_in_every_kind_of_rows_gives_the_same_score(kind: str, order: str, tmp_path: Path) -> None:
    ROWS[kind](tmp_path / "set", order)
    found = recognise(tmp_path / "set")
    assert (found.layout, found.split, found.samples) == ("Hugging Face rows", "valid", 3)
    assert found.classes == (tuple(NAMES) if kind in ("save_to_disk", "parquet") else ("cat", "dog"))
    assert f"boxes are {order}: {box_order.ORDERS[order]}; told by " in found.notes[0]
    coco(tmp_path / "as coco")
    assert score(found, tmp_path / "rows") == score(recognise(tmp_path / "as coco"), tmp_path / "coco")


@pytest.mark.parametrize("spelling", ["object_rows(image='file_name')", "hub(question='', bbox='bbox')"])
def test_boxes_are_of_the_upright_image(spelling: str, tmp_path: Path) -> None:
    """`datasets` turns a photo upright before anybody sees it, and so does the protocol hf."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "test").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "test/a.jpg", exif=exif)
    held = {"objects": {"bbox": [[1, 2, 3, 4]], "category": ["cat"]}}
    source = {"path": "test/metadata.jsonl", "images": "test"}
    if spelling.startswith("hub"):
        source, held = {"folder": "."}, {"bbox": [1, 2, 3, 4]}
    lines(tmp_path / "test/metadata.jsonl", [{"file_name": "a.jpg", **held}])
    (sample,) = registry.make("formats", spelling).samples(Source(tmp_path, source), "test")
    assert sample.size == sample.target["size"] == (30, 20)


def test_where_both_orders_are_possible_none_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "set")
    told = [{"file_name": "a.png", "objects": {"bbox": [[10, 20, 200, 300]], "category": ["cat"]}}]
    lines(tmp_path / "set" / "metadata.jsonl", told)
    assert main(["data", "set"]) == 2
    assert (
        "set: can be read in 2 ways; say which: Hugging Face rows, (unnamed): --box-order xywh (x, y, width, "
        "height, as COCO's); Hugging Face rows, (unnamed): --box-order xyxy (corners, as Pascal VOC's)"
    ) in capsys.readouterr().err
    for order, shape in (("xywh", (10, 20, 200, 300)), ("xyxy", (10, 20, 190, 280))):
        assert main(["data", "set", "--box-order", order, "--save-task", f"{order}.yaml"]) == 0
        (task,) = made(recognise(Path("set"), order=order), tmp_path)
        (sample,) = dataset.dataset(task, [tmp_path / "set"]).samples
        assert sample.target["objects"][0]["box"] == shape


def seen(
    *boxes: tuple[float, ...], size: tuple[int, int] | None = (100, 200), area: float | None = None
) -> Any:
    return [box_order.Seen(f"row {n}", each, size, area) for n, each in enumerate(boxes)]


@pytest.mark.parametrize(
    ("boxes", "told"),
    [
        (seen((150, 10, 40, 30)), ["xywh"]),  # corners from right to left
        (seen((10, 60, 40, 30)), ["xywh"]),  # from bottom to top
        (seen((150, 10, 190, 30)), ["xyxy"]),  # 340 pixels to the right
        (seen((10, 60, 40, 90)), ["xyxy"]),
        (seen((10, 20, 40, 30)), ["xywh", "xyxy"]),
        (seen((10, 20, 40, 30), area=1200), ["xywh"]),
        (seen((10, 20, 40, 30), area=300), ["xyxy"]),
        (seen((10, 20, 40, 30), area=77), ["xywh", "xyxy"]),  # a polygon's
        (seen((10, 20, 40, 30), size=None), ["xywh", "xyxy"]),
        (seen((150, 10, 190, 30), size=None), ["xywh", "xyxy"]),
        (seen((150, 10, 40, 30), size=None), ["xywh"]),
        (seen((99, 0, 101, 100.5)), ["xywh", "xyxy"]),  # rounding at the edge
        (seen(*[(150, 10, 40, 30)] * 50, (150, 10, 190, 30)), ["xywh"]),  # one wrong annotation
        ([], ["xywh", "xyxy"]),
    ],
)  # fmt: skip
def test_the_order_is_told_by_what_boxes_would_mean(boxes: Any, told: list[str]) -> None:
    assert [order for order, _ in box_order.orders(boxes, "d")] == told


def test_the_order_says_what_told_it() -> None:
    ((_, why),) = box_order.orders(seen((0, 0, 9, 9), (150, 10, 40, 30), (150, 10, 41, 30)), "d")
    assert why == "row 1: [150, 10, 40, 30] would be corners from right to left and 1 more"
    ((_, why),) = box_order.orders(seen((150, 10, 190, 30)), "d")
    assert why == "row 0: [150, 10, 190, 30] with that width and height would leave the image, 200 × 100"


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        (seen((0.1, 0.2, 0.5, 0.9)), r"d: boxes are shares of the image \(the largest .* 0\.9\); "),
        (seen((150, 10, 190, 30), (150, 10, 40, 30)), "d: boxes are neither x, y, .* nor corners, .*: row"),
    ],
)  # fmt: skip
def test_boxes_of_no_order_are_refused(boxes: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        box_order.orders(boxes, "d")


def test_what_is_odd_about_objects_costs_only_itself(tmp_path: Path) -> None:
    pictures(tmp_path)
    rows = [
        {"file_name": "a.png",
         "objects": {"bbox": [[0, 0, 9, 9], [1, 1, 5], [1, 1, -2, 5]], "category": [0, 0, 0]}},
        {"file_name": "b.png", "objects": {"bbox": [[0, 0, 9, 9], [1000, 0, 50, 9]], "category": [7, 1]}},
        {"file_name": "gone.png", "objects": None},
        {"file_name": "c.png", "objects": []},
    ]  # fmt: skip
    lines(tmp_path / "d.jsonl", rows)
    source = Source(tmp_path, {"path": "d.jsonl"}, "t")
    fmt = registry.make("formats", "object_rows(image='file_name', names=('cat', 'dog'))")
    samples = list(fmt.samples(source, "test"))
    assert [len(s.target["objects"]) if s.target else None for s in samples] == [1, 1, None, 0]
    assert [each.partition("d.jsonl: ")[2] for each in source.remarks.said() if "d.jsonl" in each] == [
        "line 1: object 1: box must be four numbers; it is left out (the first of 2 such)",
        "line 2: object 0: category is 7; there are 0 to 1; it is left out",
        "line 2: a box is 27 pixels over the image's edge; it is kept as it is",
    ]
    rows[0]["objects"] = {"bbox": [[0, 0, 9, 9]], "category": []}
    lines(tmp_path / "d.jsonl", rows)
    with pytest.raises(DataError, match=r"line 1\.objects: holds 1 boxes and 0 categories"):
        list(fmt.samples(Source(tmp_path, {"path": "d.jsonl"}, "t"), "test"))


def flat(root: Path, rows: list[dict[str, Any]], split: str = "test") -> None:
    from datasets import Dataset, Features, List, Value
    from datasets import Image as Picture

    kinds = {
        key: List(Value("string")) if isinstance(v, list) else Value("string") for key, v in rows[0].items()
    }
    told = [{**row, "image": png(n)} for n, row in enumerate(rows)]
    data = Dataset.from_list(told, features=Features({**kinds, "image": Picture()}))
    root.mkdir(exist_ok=True, parents=True)
    data.to_parquet(str(root / f"{split}.parquet"))


def test_questions_captions_and_lines_of_rows(tmp_path: Path) -> None:
    flat(
        tmp_path / "vqa",
        [{"question": "what?", "answers": ["a", "b"]}, {"question": "who?", "answers": ["c"]}],
    )
    flat(tmp_path / "caps", [{"text": "a cat"}, {"text": "a dog"}])
    flat(tmp_path / "lines", [
        {"prefix": "detect cat", "suffix": locations([("cat", (100, 200, 300, 500))])},
        {"prefix": "caption en", "suffix": "a cat"},
    ])  # fmt: skip
    flat(tmp_path / "label", [{"label_for_paligemma": locations([("cat", (100, 200, 300, 500))])}])
    found = {name: recognise(tmp_path / name) for name in ("vqa", "caps", "lines", "label")}
    verbs = {name: [(d.verb, d.samples) for d in one.drafts] for name, one in found.items()}
    assert verbs == {
        "vqa": [("text", 2)], "caps": [("caption", 2)], "lines": [("detect", 1), ("caption", 1)],
        "label": [("detect", 1)],
    }  # fmt: skip
    samples = {
        name: [s for task in made(one, tmp_path) for s in dataset.dataset(task, [one.root]).samples]
        for name, one in found.items()
    }
    assert [s.target for s in samples["vqa"]] == [("a", "b"), ("c",)]
    assert [s.fields["question"] for s in samples["vqa"]] == ["what?", "who?"]
    assert [s.target for s in samples["caps"]] == [("a cat",), ("a dog",)]
    for boxes, *_ in (samples["lines"], samples["label"]):
        assert boxes.target["objects"][0]["box"] == (100, 200, 200, 300)
        assert boxes.size == (SIDE, SIDE)
    assert samples["lines"][1].target == ("a cat",)


def test_images_inside_of_rows_are_compared(tmp_path: Path) -> None:
    flat(tmp_path, [{"text": "a"}, {"text": "b"}, {"text": "c"}], "train")
    flat(tmp_path, [{"text": "x"}], "test")
    (doubt,) = recognise(tmp_path).doubts
    assert doubt == (
        "1 image of test is in train too, by content; the model may have seen them: "
        "test.parquet::0/image = train.parquet::0/image"
    )


def test_configurations_are_readings_and_tables_without_images_none(tmp_path: Path) -> None:
    for config in ("en", "de"):
        flat(tmp_path / "set" / config, [{"text": "a"}])
    with pytest.raises(UserError, match=r"can be read in 2 ways; name the file: .*set/de; .*set/en"):
        recognise(tmp_path / "set")
    assert recognise(tmp_path / "set" / "de").samples == 1
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "none").mkdir()
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "none" / "test.parquet")
    with pytest.raises(UserError, match="no layout is recognised"):
        recognise(tmp_path / "none")
    (tmp_path / "none" / "test.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(UserError, match=r"test\.parquet: "):
        recognise(tmp_path / "none")


def test_rows_of_a_hub_dataset_are_read(tmp_path: Path) -> None:
    """As a folder `org/name` below a data root, by `datasets`; and what `save_to_disk` wrote by `hub`."""
    parquet(tmp_path / "org" / "pets", "xyxy")
    entry = {"hub": "org/pets", "folder": "org/pets", "split": "validation"}
    fmt = registry.make("formats", "object_rows(order='xyxy')")
    samples = list(fmt.samples(Source(tmp_path, entry, "t"), "validation"))
    assert [len(s.target["objects"]) for s in samples] == [2, 1, 0]
    assert samples[0].target["categories"] == ("cat", "dog")
    assert samples[0].target["objects"][0]["box"] == (100, 200, 200, 300)
    saved(tmp_path / "disk", "xywh")
    hub = registry.make("formats", "hub(question='', answers='', extra=())")
    assert len(list(hub.samples(Source(tmp_path, {"folder": "disk"}, "t"), "validation"))) == 3
    with pytest.raises(DataError, match="disk: no split 'test'"):
        list(hub.samples(Source(tmp_path, {"folder": "disk"}, "t"), "test"))
