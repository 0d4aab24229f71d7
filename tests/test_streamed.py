"""JSON files that are read piece by piece: what comes out, and what is said of a file that is not right, is
what reading the whole gives."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from evalkit.data import elements, streamed
from evalkit.data.elements import Elements
from evalkit.data.readers import read_json
from evalkit.data.streamed import read_lists
from evalkit.errors import DataError
from evalkit.formats.coco_detection import CocoDetection
from evalkit.types import Source

VALUES: list[Any] = [
    {}, [], {"a": []}, {"a": {}}, {"a": [1, 2.5, -1e-7, "x", None, True, [], [[]], {}, {"b": [{"c": 1}]}]},
    {"a": [{"b": 1, "c": [0.1, 2]}, {"b": 2, "c": "é"}, {"c": 1, "b": 3}]}, [{"a": 1}, {"a": 12345678901234}],
    {"ключ": [{"ü": "\u2028\U0001f600"}], "n": 12345, "t": "}],", "l": ["]", "\\\"", ","]},
    {"a": list(range(1000, 1100)), "b": [[1, 2], [3]]},
    {"annotations": [{"id": i} for i in range(50)], "x": 7},
]  # fmt: skip
WRONG = [
    "", " ", "{", "[", '{"a": [1, 2', '{"a": [1, 2]', '{"a": [1 2]}', '{"a": [1,]}', '{"a": [,1]}', '{"a": }',
    '{"a" [1]}', '{"a": [1]} x', '{"a": [1]}{}', '[1] 2', '{"a": [1], "a": [2]}', '{"a": [{"b": 1, "b": 2}]}',
    '{1: [2]}', '{"a": [01]}', '{"a": [tru]}', '{"a": ["x]}', '{"a": 1,}', "7 8", "nul", "[" * 100_000,
    '{"a": [' + "[" * 100_000,
]  # fmt: skip


def plain(value: Any) -> Any:
    """Lists in place of Elements."""
    if isinstance(value, dict):
        return {key: list(one) if isinstance(one, Elements) else one for key, one in value.items()}
    return list(value) if isinstance(value, Elements) else value


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_pieces_are_the_whole(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "_CHUNK", chunk)
    monkeypatch.setattr(elements, "_KINDS", 1)
    path = tmp_path / "a.json"
    for value in VALUES:
        for text in (json.dumps(value), json.dumps(value, indent=1), f"\ufeff {json.dumps(value)} \r\n\t"):
            path.write_text(text, encoding="utf-8")
            found = read_lists(path)
            assert repr(plain(found)) == repr(value)
            assert all(type(v) is not list for v in (found.values() if isinstance(found, dict) else ()))
    path.write_text('{"a": "\u00e4\u00f6"}', encoding="utf-8")
    assert read_lists(path) == {"a": "äö"}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_is_told_as_if_read_whole(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "_CHUNK", 5)
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as whole:
        read_json(path)
    with pytest.raises(DataError) as pieces:
        read_lists(path)
    assert str(pieces.value) == str(whole.value)


def test_what_is_no_text_or_no_object(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": ["\xff"]}')
    with pytest.raises(DataError, match="is not UTF-8; save the file as UTF-8 JSON"):
        read_lists(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_lists(tmp_path / "none.json")
    path.write_text("7")
    assert read_lists(path) == 7


def test_objects_that_are_not_kept_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [{"n": 1}, {"n": 2, "of": {"n": 3}}]}))
    found = read_lists(path, keep=lambda entry: entry.get("n") in (2, None))
    assert list(found["a"]) == [None, {"n": 2, "of": None}]
    assert list(found["a"])[1] == found["a"][-1]
    assert found["a"][:1] == [None]


def instances(path: Path, images: int, order: tuple[str, ...]) -> list[list[dict[str, Any]]]:
    """Writes a file with polygons, annotations in any order; returns each image's, in the file's order."""
    draw = random.Random(0)
    annotations = [
        {"id": n, "image_id": draw.randrange(images), "category_id": 3, "iscrowd": 0, "area": n / 3,
         "bbox": [draw.random() * 9, 1.5, 3, 4],
         "segmentation": [[round(draw.random() * 9, 2) for _ in range(60)]]}
        for n in range(4 * images)
    ]  # fmt: skip
    parts: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 9, "width": 12} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}],
    }
    path.write_text(json.dumps({key: parts[key] for key in order}))
    return [[a for a in annotations if a["image_id"] == i] for i in range(images)]


@pytest.mark.parametrize("order", [1, -1])
def test_the_objects_of_an_image_are_those_of_the_file_in_its_order(order: int, tmp_path: Path) -> None:
    expected = instances(tmp_path / "a.json", 60, ("images", "categories", "annotations")[::order])
    source = Source(tmp_path, {"path": "a.json", "images": "."})
    found = list(CocoDetection().samples(source, "val"))
    assert [s.id for s in found] == [str(i) for i in range(60)]
    for sample, mine in zip(found, expected, strict=True):
        assert sample.target["objects"] == [
            {"category": "cat", "box": tuple(a["bbox"]), "area": a["area"], "iscrowd": 0,
             "segmentation": a["segmentation"]} for a in mine
        ]  # fmt: skip


def test_reading_instances_needs_less_than_twice_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "_CHUNK", 1 << 14)
    instances(tmp_path / "a.json", 60, ("images", "annotations", "categories"))
    source = Source(tmp_path, {"path": "a.json", "images": "."})
    tracemalloc.start()
    try:
        for _ in CocoDetection().samples(source, "val"):
            pass
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2 * (tmp_path / "a.json").stat().st_size
