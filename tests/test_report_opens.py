"""Every bar, cell, point and row of the report opens exactly as many samples as it says that it opens."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from report_runs import load, unpacked
from stub import colours
from stub_runs import Weighted, chance, wrong_at

import evalkit
from evalkit.comparison.trend import Point, Trend
from evalkit.evaluation import plan as planning
from evalkit.evaluation.predict import Session, run
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Selection
from evalkit.types import Checkpoint, Prediction, Request

CLASSES = [f"class {i:02d}" for i in range(45)]  # more than a matrix shows
LOCATIONS = 256_000  # the id of <loc0000>


class Tied(Weighted):
    """Says how sure it is in few steps, some of them the highest there is, and ends some answers early."""

    def predict(self, requests: Any, on_bad_image: Any = None) -> Iterator[Prediction]:
        for made in super().predict(requests, on_bad_image):
            sure = int(5 * chance(made.id, self.weights)) / 4
            stop = "length" if chance(made.id, "cut") < 0.2 else "eos"
            yield dataclasses.replace(made, margin=sure, stop=stop, logprobs=(sure - 1.0,), tokens=(1,))


class Ranking(Weighted):
    """Detections whose tokens have probabilities, equal ones too."""

    def predict(self, requests: Any, on_bad_image: Any = None) -> Iterator[Prediction]:
        for made in super().predict(requests, on_bad_image):
            tokens, logprobs = list[int](), list[float]()
            for k, thing in enumerate(made.text.split(" ; ") if made.text else []):
                codes = [int(part[:4]) for part in thing.split("<loc")[1:]]
                tokens += ([7] if k else []) + [LOCATIONS + code for code in codes] + [8]
                logprobs += [-int(1 + 6 * chance(made.id, k)) / 5] * (5 + bool(k))
            yield dataclasses.replace(made, tokens=tuple(tokens), logprobs=tuple(logprobs))


def objects(folder: Path) -> Path:
    """50 images of one to three objects of 45 classes; one object is all of its image."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], list[dict[str, Any]]()
    for i in range(50):
        Image.new("RGB", (100, 100), (5 * i, 0, 0)).save(folder / f"images/{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 100, "height": 100})
        for j in range(1 + i % 3):
            box = [0, 0, 100, 100] if i == 0 else [30 * j, 10, 25, 4 + i]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": (i + 7 * j) % 45, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(content))
    task = folder / "objects_test.yaml"
    task.write_text(
        "version: 1\nabout: things\nlicense: none\ndata:\n  format: coco_detection\n  split: test\n"
        "  sources: [{path: coco.json, images: images}]\nprompt: detect\nparser: boxes\n"
        "decode: {logprobs: true}\nmetrics: [\"coco_ap(rank='logprob')\"]\n"
    )
    return task


def said(request: Request) -> str:
    """Some boxes right, some of another class or place, some missed, some of no class."""
    i = int(Path(request.images[0].path).stem)
    things = []
    for j in range(1 + i % 3):
        fate = chance(request.id, j)
        name = CLASSES[(i + 7 * j) % 45] if fate < 0.6 else "zebra" if fate < 0.67 else CLASSES[i % 45]
        x0, y0, x1, y1 = (0, 0, 100, 100) if i == 0 else (30 * j, 10, 30 * j + 25, 14 + i)
        if fate < 0.85:
            corners = (y0, x0, y1, x1) if fate < 0.75 else (60, 60, 90, 90)
            things.append("".join(f"<loc{min(1023, c * 1024 // 100):04d}>" for c in corners) + f" {name}")
    return " ; ".join(things)


def go(task: Path, runs: Path, model: Any, name: str, pixels: int = 224) -> Path:
    datasets = dataset.DatasetCache([task.parent])
    candidate = Checkpoint(
        name, "a stub", pixels, lambda protocol: {**model.identity(), "p": protocol}, lambda protocol: model
    )
    plan = planning.plan(datasets.get(loader.load(str(task))), candidate, runs, Selection())
    run([plan], Session(candidate, datasets))
    return plan.folder.path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a checkpoint at two resolutions, of a training that was watched, and of a detector."""
    folder = tmp_path_factory.mktemp("opens")
    questions, runs = colours(folder / "questions", questions=2, images=20), folder / "runs"
    for pixels in (224, 448):
        go(questions, runs, Tied(wrong_at(0.4 - pixels / 2000), f"w{pixels}"), "base", pixels)
    watched = []
    for step in (100, 200, 300):
        name = f"checkpoint-{step}"
        path = go(questions, runs, Tied(wrong_at(0.5 - step / 1000), name), name)
        values = {"colours_test exact_match": (0.5 + step / 1000, None, None, 40)}
        watched.append(Point(step, name, (path.name,), values, 0.5))
    watched.append(Point(400, "checkpoint-400", ("colours_test.gone",), watched[0].values, 0.5))
    Trend(runs / "watch.json", watched).save()
    go(objects(folder / "objects"), runs, Ranking(said, "d"), "detector")
    return evalkit.build_report(runs, output=folder / "REPORT").parent


def columns(folder: Path, t: int) -> dict[str, Any]:
    return unpacked(load(folder / f"data/{t}/columns.js")[1])


def opened(columns: dict[str, Any], spelled: str) -> int:
    """How many samples a filter opens, by the rules of docs/report.md."""
    passes = np.ones(len(columns["id"]), dtype=bool)
    for part in spelled.split("&"):
        name, _, value = part.partition("=")
        if name not in ("sort", "run"):
            passes &= _passing(columns[name], unquote(value))
    return int(passes.sum())


def _passing(column: Any, value: str) -> Any:
    if isinstance(column, list):
        return np.array([value in some if isinstance(some, list) else some == value for some in column])
    if value == "any":
        return ~np.isnan(column)
    low, _, high = value.partition("..")
    found = column >= np.float32(low or -np.inf)
    if high:
        found &= column <= np.float32(high[1:]) if high[0] == "=" else column < np.float32(high)
    return found


def tasks(folder: Path) -> dict[str, int]:
    return {task["name"]: t for t, task in enumerate(load(folder / "data/report.js")[1]["tasks"])}


def links(section: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Every filter of a section, and how many samples it is said to open."""
    title = section["title"]
    if section["kind"] == "histogram":
        edges = section["edges"]
        for one in section["series"]:
            for k, n in enumerate(one["counts"]):
                last = "=" if k == len(one["counts"]) - 1 else ""
                yield f"{section['column']}:{one['run']}={edges[k]}..{last}{edges[k + 1]}", n, title
    elif section["kind"] == "matrix":
        for r, row in enumerate(section["rows"]):
            for c, column in enumerate(section["columns"]):
                if section["cells"][r][c]:
                    pair = f"{section['filters']}={row} → {column}"
                    yield pair, section["opens"][r][c], title
    elif section["kind"] == "curve":
        for one in section["series"]:
            assert len(one["points"]) == len(one["filters"]) == len(one["n"])
            yield from ((f, n, title) for f, n in zip(one["filters"], one["n"], strict=True))
    elif section["kind"] == "bars":
        for row in section["rows"]:
            several = isinstance(row["filter"], list)
            filters = row["filter"] if several else [row["filter"]]
            counts = row["n"] if several else [row.get("opens", row["n"])]
            yield from ((f, n, title) for f, n in zip(filters, counts, strict=True) if f)
    elif section["filters"]:
        yield from ((f, n, title) for f, n in zip(section["filters"], section["opens"], strict=True) if f)


GRAPHICS = {
    "colours_test": {"errors", "scores", "calibration", "coverage", "resolution", "lengths", "odd"},
    "objects_test": {"errors", "overlap", "sizes", "classes", "confusion", "precision-recall", "lengths"},
}


@pytest.mark.parametrize("task", GRAPHICS)
def test_each_part_of_a_graphic_opens_as_many_samples_as_it_says(built: Path, task: str) -> None:
    t = tasks(built)[task]
    table, sections = columns(built, t), load(built / f"data/{t}/task.js")[1]["sections"]
    assert GRAPHICS[task] <= {section["name"] for section in sections}
    for section in sections:
        found = list(links(section))
        assert found or section["name"] == "stored", section["title"]
        for spelled, n, title in found:
            assert opened(table, spelled) == n, (title, spelled)
            assert n or section["kind"] in ("histogram", "bars"), "a link that opens nothing"


def test_curves_stand_for_samples_that_only_they_open(built: Path) -> None:
    """Points are where values change: of equal ones none is opened without the others."""
    t = tasks(built)
    objects = load(built / f"data/{t['objects_test']}/task.js")[1]["sections"]
    curve = next(s for s in objects if s["name"] == "precision-recall")["series"][0]
    records = load(built / f"data/{t['objects_test']}/samples/0.js")[1]
    drawn = [box[5] for record in records for run in record["runs"] if run for box in run["boxes"]]
    steps = {round(float(np.exp(-k / 5)), 6) for k in range(1, 7)}
    assert {round(each, 6) for each in drawn} <= steps, "beside each box is how sure it was"
    assert len(set(drawn)) > 3
    assert len(set(curve["filters"])) == len(curve["filters"]) > 3
    assert curve["n"] == sorted(curve["n"])
    texts = load(built / f"data/{t['colours_test']}/task.js")[1]["sections"]
    sure = next(s for s in texts if s["name"] == "coverage")["series"][0]
    assert len(sure["n"]) == 5, "as many points as there are margins"
    assert sure["n"][-1] == 40
    calibration = next(s for s in texts if s["name"] == "calibration")["series"]
    assert all(sum(one["n"]) == 40 for one in calibration), "the surest of all too"
    pixels = next(s for s in texts if s["name"] == "resolution")["series"]
    assert [[point[0] for point in one["points"]] for one in pixels] == [[224, 448]]
    odd = next(s for s in texts if s["name"] == "odd")["rows"]
    assert {row[0] for row in odd} >= {"base 224 px", "base 448 px", "checkpoint-100"}


def test_classes_beyond_the_matrix_open_their_samples(built: Path) -> None:
    sections = load(built / f"data/{tasks(built)['objects_test']}/task.js")[1]["sections"]
    classes = next(s for s in sections if s["name"] == "classes")
    matrix = next(s for s in sections if s["name"] == "confusion")
    beyond = [row for row in classes["rows"] if row["label"] not in matrix["rows"]]
    assert beyond
    assert all(row["filter"] and row["opens"] for row in classes["rows"] if row["n"])
    whole = next(s for s in sections if s["name"] == "sizes")["rows"][-1]
    assert opened(columns(built, tasks(built)["objects_test"]), whole["filter"]) >= 1, "an object of 100 %"


def test_points_of_a_trend_lead_to_the_runs_that_are_there(built: Path) -> None:
    report, t = load(built / "data/report.js")[1], tasks(built)["colours_test"]
    (one,) = report["trend"]["tasks"]
    assert (one["name"], one["metric"]) == ("colours_test", "exact_match")
    names = [None if p["run"] is None else report["runs"][p["run"]]["name"] for p in one["points"]]
    assert names == ["checkpoint-100", "checkpoint-200", "checkpoint-300", None], "of a longer watch"
    assert [p["place"] for p in one["points"]] == ["", "", "", "colours_test.gone"], "told at the point"
    table = columns(built, t)
    assert all(
        opened(table, f"length:{p['run']}=any&sort=score:{p['run']}:asc&run={p['run']}") == p["n"] == 40
        for p in one["points"]
        if p["run"] is not None
    )


def test_what_to_look_at_first_opens_what_it_counts(built: Path) -> None:
    for remark in load(built / "data/report.js")[1]["look_first"]:
        path, _, query = remark["link"].partition("?")
        t = int(path.split("/")[2])
        known = [part for part in query.split("&") if not part.startswith("flip=")]
        assert opened(columns(built, t), "&".join(known) or "length:0=any") > 0, remark


def test_a_redacted_report_holds_no_label_that_only_a_model_said(built: Path, tmp_path: Path) -> None:
    """Neither in a remark, nor in a matrix, nor among the answered classes; the dataset's own stay."""
    run = next((built.parent / "runs").glob("objects*"))
    assert b"zebra" in (built / f"data/{tasks(built)['objects_test']}/samples/0.js").read_bytes()
    report = evalkit.build_report(run, output=tmp_path / "r", redact=True).parent
    everything = b"".join(file.read_bytes() for file in (report / "data").rglob("*.js"))
    assert b"zebra" not in everything
    labels = {str(label) for some in columns(report, 0)["said:0"] for label in some}
    assert "(others)" in labels
    assert labels - {"(others)", "(no category)"} <= set(CLASSES)


def by_part(folder: Path, metric: str, answers: list[str], said: list[str]) -> Path:
    """The report of a task that is scored by part, of one answer for each of the pictures."""
    task = colours(folder / "data", questions=1, images=len(answers))
    file = task.parent / "colours.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text(
        "".join(json.dumps({**x, "answers": [a]}) + "\n" for x, a in zip(lines, answers, strict=True))
    )
    task.write_text(task.read_text().replace("[exact_match]", f"[{metric}]"))
    go(task, folder / "runs", Weighted(lambda request: said[int(request.id[1:].split("-")[0])], "w"), "m")
    return evalkit.build_report(folder / "runs", output=folder / "REPORT").parent


def test_fields_of_json_open_the_samples_that_have_them(tmp_path: Path) -> None:
    wanted = ['{"total": "1", "tax": "2"}', '{"total": "3"}', '{"total": "4"}', '{"date": "5"}']
    folder = by_part(tmp_path, "json_fields", wanted, [wanted[0], '{"tax": "3"}', "no JSON", wanted[3]])
    sections = load(folder / "data/0/task.js")[1]["sections"]
    table = next(s for s in sections if s["name"] == "stored")
    found = {
        row[1]: (f, n) for row, f, n in zip(table["rows"], table["filters"], table["opens"], strict=True)
    }
    assert {name: n for name, (_, n) in found.items()} == {"total": 3, "tax": 2, "date": 1}
    assert all(f and opened(columns(folder, 0), f) == n for f, n in found.values())
    hidden = evalkit.build_report(tmp_path / "runs", output=tmp_path / "r", redact=True).parent
    assert "part:0" not in columns(hidden, 0)


def test_labels_open_the_samples_that_have_them(tmp_path: Path) -> None:
    folder = by_part(tmp_path, "label_f1", ["cat, dog", "cat", "cow"], ["cat", "dog", "cow"])
    sections = load(folder / "data/0/task.js")[1]["sections"]
    rows = {row["label"]: row for row in next(s for s in sections if s["name"] == "classes")["rows"]}
    assert {name: row["n"] for name, row in rows.items()} == {"cat": [2], "dog": [2], "cow": [1]}
    assert all(opened(columns(folder, 0), row["filter"][0]) == row["n"][0] for row in rows.values())
