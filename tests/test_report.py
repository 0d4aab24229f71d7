"""`evalkit report`: what its files hold, of runs of stub models."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import own_world
import pytest
from PIL import Image, ImageDraw
from report_runs import go, load, unpacked
from stub import colours
from stub_runs import chance, wrong_at

import evalkit
from evalkit import demo, registry
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.report.decision import summary
from evalkit.runs import sealed
from evalkit.runs.store import RunFolder
from evalkit.types import Box, Request
from evalkit.viewer import classes, faults, outlines, ranked, scripts, shapes, why
from evalkit.viewer.columns import escaped
from evalkit.viewer.pictures import longest
from evalkit.viewer.shapes import Answer, Target

HOSTILE = "<script>alert(1)</script></script>&\u2028\u202e\x1b[31m\ud800 <loc0000>"


def hostile(request: Request) -> str:
    return HOSTILE if request.id == "q3-0" else wrong_at(0.4)(request)


@dataclasses.dataclass
class World:
    """A report of two checkpoints on questions and objects."""

    folder: Path
    report: Path
    runs: Path

    def load(self, name: str) -> Any:
        return load(self.report / "data" / f"{name}.js")[1]

    def task(self, name: str) -> int:
        return [task["name"] for task in self.load("report")["tasks"]].index(name)

    def columns(self, t: int) -> dict[str, Any]:
        return unpacked(self.load(f"{t}/columns"))


def objects_task(folder: Path) -> Path:
    own_world.coco(folder, polygons=True)
    task = folder / "objects_test.yaml"
    task.write_text(
        "version: 1\nabout: things\nlicense: none\ndata:\n  format: coco_detection\n  split: test\n"
        "  sources: [{path: coco.json, images: images}]\nprompt: detect\nparser: boxes\nmetrics: [coco_ap]\n"
    )
    return task


def said_objects(request: Request) -> str:
    """a.png: the cat with loose edges, the dog as a cat; b.png: a cat where there is none; c.png: nothing."""
    name = Path(request.images[0].path).name
    return {
        "a.png": "<loc0150><loc0150><loc0950><loc0800> cat ; <loc0000><loc0000><loc0210><loc0320> cat",
        "b.png": "<loc0000><loc0000><loc0100><loc0100> horse",
    }.get(name, "")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("report")
    questions = colours(folder / "questions", questions=2, images=40)
    objects = objects_task(folder / "objects")
    runs = folder / "runs"
    for name, answer in (("old", wrong_at(0.2)), ("new", hostile)):
        go(questions, runs, name, answer)
    go(objects, runs, "new", said_objects)
    evalkit.build_report(_ordered(runs), output=folder / "REPORT")
    return World(folder, folder / "REPORT", runs)


def _ordered(runs: Path) -> list[Path]:
    return sorted(runs.iterdir(), key=lambda path: (".new." in path.name, path.name))


# --- what is there --------------------------------------------------------------------------------------


def test_every_sample_is_in_its_chunk_with_its_picture_and_scores(world: World) -> None:
    report, t = world.load("report"), world.task("colours_test")
    assert [run["name"] for run in report["runs"]] == ["old", "new"]
    assert all(run["memory_bytes"] > 1 << 20 and run["seconds"] > 0 for run in report["runs"])
    columns, records = world.columns(t), world.load(f"{t}/samples/0")
    assert columns["id"] == sorted(columns["id"]) == [record["id"] for record in records]
    assert len(records) == 80
    for i, record in enumerate(records):
        assert [run["scores"][0] for run in record["runs"]] == [
            ["exact_match", columns[f"score:{side}"][i]] for side in (0, 1)
        ]
        assert columns["right:1"][i] == (record["runs"][1]["answer"] in record["target"]["texts"])
        picture = Image.open(world.report / record["images"][0]["src"])
        assert picture.size == (record["images"][0]["width"], record["images"][0]["height"]) == (8, 8)
    cut = sum("cut" in flags for flags in columns["state:0"])
    assert cut == report["tasks"][t]["scores"][0]["cut"] > 0
    assert columns["length:0"].tolist() == [2.0] * 80
    text = json.loads(gzip.decompress(base64.b64decode(world.load(f"{t}/text"))))
    assert all(record["id"] in line for record, line in zip(records, text, strict=True))
    assert world.load(f"{t}/task")["exact_prompt"] == records[0]["prompt"] == "answer en question 0?"


def test_comparison_counts_are_those_of_the_columns_and_of_compare(world: World) -> None:
    report, t = world.load("report"), world.task("colours_test")
    (found,) = report["comparisons"]
    columns = world.columns(t)
    moved = columns["right:1"] - columns["right:0"]
    assert (found["gained"], found["lost"]) == ((moved > 0).sum(), (moved < 0).sum())
    assert found["gained"] + found["lost"] + found["same"] == 80
    compared = evalkit.compare(*(next(world.runs.glob(f"colours*.{name}.*")) for name in ("old", "new")))
    other = compared[0].tasks[0]
    assert found["difference"] == pytest.approx(other.first.found.value)
    assert [found["low"], found["high"]] == pytest.approx([other.first.found.low, other.first.found.high])
    assert found["p"] == pytest.approx(other.p)
    assert set(found["telling"]) <= set(np.flatnonzero(moved).tolist())
    assert len({columns["cluster"][i] for i in found["telling"]}) >= len(found["telling"]) / 2


@pytest.mark.parametrize(
    ("pairs", "strange", "best", "wanted"),
    [
        ([("cat", "cat")], 0, [0.8], 0.8),
        ([("cat", "cat")], 0, [0.6], 0.6),  # the box fits less well
        ([("cat", "cat"), ("cat", faults.NOTHING)], 0, [0.9, 0.2], 0.6),  # 2 / 3 of .9: one of two was missed
        ([("cat", "cat"), (faults.NOTHING, "dog")], 0, [0.9], 0.6),  # one too many
        ([("cat", "dog")], 0, [0.0], 0.0),
        ([("cat", "cat")], 1, [1.0], 0.67),  # and a label that is none
        ([], 0, [], 1.0),
        ([], 2, [], 0.0),
    ],
)
def test_the_quality_of_an_images_boxes_falls_with_each_fault(
    pairs: list[tuple[str, str]], strange: int, best: list[float], wanted: float
) -> None:
    assert faults.quality(pairs, strange, best) == pytest.approx(wanted)


def test_of_a_limited_report_only_the_samples_are_fewer(world: World, tmp_path: Path) -> None:
    """Its figures are those of the whole report, and every filter that they name is known."""
    evalkit.build_report(_ordered(world.runs), output=tmp_path / "R", limit=20)
    few = World(world.folder, tmp_path / "R", world.runs)
    whole, report, t = world.load("report"), few.load("report"), few.task("colours_test")
    assert report["look_first"] == whole["look_first"]
    assert (report["tasks"][t]["n"], report["tasks"][t]["shown"]) == (80, 20)
    assert (whole["tasks"][t]["n"], whole["tasks"][t]["shown"]) == (80, 80)
    for k in range(len(whole["tasks"])):
        assert few.load(f"{k}/task")["sections"] == world.load(f"{k}/task")["sections"]
    every, columns, records = world.columns(t), few.columns(t), few.load(f"{t}/samples/0")
    assert columns.keys() == every.keys()
    assert columns["id"] == [record["id"] for record in records]
    assert len(records) == len(json.loads(gzip.decompress(base64.b64decode(few.load(f"{t}/text"))))) == 20
    at = [every["id"].index(name) for name in columns["id"]]
    assert at == sorted(at) != list(range(20))
    for name, values in columns.items():
        np.testing.assert_equal(list(values), [every[name][i] for i in at], err_msg=name)
    heads = [one.load(f"{t}/columns")["head"]["columns"] for one in (few, world)]
    assert [head.get("labels") for head in heads[0]] == [head.get("labels") for head in heads[1]]
    (found,), (full,) = report["comparisons"], whole["comparisons"]
    assert {**found, "telling": None} == {**full, "telling": None}
    assert found["both_right"] == ((every["right:0"] == 1) & (every["right:1"] == 1)).sum() > 20
    assert found["both_right"] + found["both_wrong"] + found["gained"] + found["lost"] == 80
    moved = np.flatnonzero(columns["right:1"] != columns["right:0"]).tolist()
    assert set(found["telling"]) <= set(moved)
    assert found["telling"], "of the few that are shown some moved"
    shown = {image["src"] for record in records for image in record["images"]}
    assert {f"thumbs/{p.parent.name}/{p.name}" for p in (tmp_path / "R/thumbs").rglob("*.jpg")} >= shown
    assert "80 samples" not in str(report["runs"][0]["partial"])
    assert "can be opened in this report (--limit)" in str(report["runs"][0]["partial"])


def test_what_to_look_at_first_leads_to_samples(world: World) -> None:
    report = world.load("report")
    assert any("worse than old" in remark["text"] for remark in report["look_first"])
    for remark in report["look_first"]:
        t, query = re.fullmatch(r"/task/(\d+)/samples\?(.*)", remark["link"]).groups()
        names = world.columns(int(t)).keys()
        keys = [part.partition("=")[0] for part in query.split("&")]
        assert all(key in names or key in ("flip", "sort") for key in keys), remark


def test_every_part_of_a_section_names_as_many_samples_as_it_says(world: World) -> None:
    """Bars and matrix cells; the page's own tests click on them."""
    checked = 0
    for t in range(len(world.load("report")["tasks"])):
        columns = world.columns(t)
        for section in world.load(f"{t}/task")["sections"]:
            if section["title"] == "Kinds of error":
                for row in section["rows"]:
                    for side, n in enumerate(row["n"]):
                        if n is not None:
                            flags = columns[f"error:{side}"]
                            assert sum(row["label"] in found for found in flags) == n
                            checked += 1
            if section["kind"] == "matrix":
                pairs = [pair for some in columns[section["filters"]] for pair in some]
                assert 0 < len(pairs) <= int(np.sum(section["cells"]))
                assert {f"{a} → {b}" for a in section["rows"] for b in section["columns"]} >= set(pairs)
                checked += 1
            if section["kind"] == "histogram":
                for series in section["series"]:
                    values = columns[f"{section['column']}:{series['run']}"]
                    assert sum(series["counts"]) == (~np.isnan(values)).sum()
                    checked += 1
    assert checked > 8


def test_objects_are_judged_as_the_metrics_of_objects_do(world: World) -> None:
    t = world.task("objects_test")
    records = {record["images"][0]["name"][-5:]: record for record in world.load(f"{t}/samples/0")}
    columns = world.columns(t)
    errors = dict(zip(columns["id"], columns["error:1"], strict=True))
    by_name = {name: set(errors[record["id"]]) for name, record in records.items()}
    assert by_name["a.png"] == {"classification"}
    assert by_name["b.png"] == {"missed", faults.LABEL}
    assert by_name["c.png"] == set()
    assert records["a.png"]["runs"][0] is None, "the other checkpoint has no run of it"
    assert records["a.png"]["target"]["boxes"] == [[10, 8, 42, 40, "cat"], [0, 0, 20, 10, "dog"]]
    assert dict(map(tuple, records["a.png"]["runs"][1]["why"]))["objects"].startswith("1 of 2 objects found")
    matrix = next(s for s in world.load(f"{t}/task")["sections"] if s["kind"] == "matrix")
    cell = matrix["cells"][matrix["rows"].index("dog")][matrix["columns"].index("cat")]
    assert cell == 1, "the dog that was called a cat"
    assert all(
        np.isfinite(columns["iou:1"][columns["id"].index(r["id"])])
        for n, r in records.items()
        if n != "c.png"
    )


# --- what may go wrong ----------------------------------------------------------------------------------


def test_what_models_say_cannot_end_a_script(world: World) -> None:
    t = world.task("colours_test")
    for file in (world.report / "data").rglob("*.js"):
        raw = file.read_bytes()
        assert not re.search(rb"[<>&]|\xe2\x80\xa8|\xe2\x80\xae|\x1b", raw), file
        load(file)
    record = next(r for r in world.load(f"{t}/samples/0") if r["id"] == "q3-0")
    assert record["runs"][1]["answer"] == HOSTILE, "and it is still what was said"


def test_pictures_are_made_once_and_a_missing_image_costs_itself(world: World, tmp_path: Path) -> None:
    made = {p: p.stat().st_mtime_ns for p in (world.report / "thumbs").rglob("*.jpg")}
    assert len(made) == 43, "an image of several questions once"
    run = next(world.runs.glob("colours*.new.*"))
    moved = tmp_path / "elsewhere"
    (world.folder / "questions").rename(moved)
    try:
        evalkit.build_report(sorted(world.runs.iterdir()), output=world.report)
        assert {p: p.stat().st_mtime_ns for p in made} == made, "known by content, without their files"
        report = evalkit.build_report(run, output=tmp_path / "none").parent
        images = [r["images"][0] for r in load(report / "data/0/samples/0.js")[1]]
        assert all(image["src"] is None and "no such file" in image["missing"].lower() for image in images)
        (moved / "pictures/3.png").write_bytes(b"no picture")
        report = evalkit.build_report(run, output=tmp_path / "found", data_root=moved).parent
        images = [r["images"][0] for r in load(report / "data/0/samples/0.js")[1]]
        assert sorted(image["name"] for image in images if image["src"] is None) == ["pictures/3.png"] * 2
    finally:
        Image.new("RGB", (8, 8), (60, 0, 0)).save(moved / "pictures/3.png")
        moved.rename(world.folder / "questions")
        places = sorted(world.runs.iterdir(), key=lambda path: (".new." in path.name, path.name))
        evalkit.build_report(places, output=world.report)


def test_images_outside_of_the_data_roots_are_not_shown(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    from evalkit.viewer.pictured import Pictured
    from evalkit.viewer.pictures import Pictures, Wanted, Where

    pictures = Pictures(tmp_path / "out")
    where = Where.of_run({"source": {"root": str(world.folder), "entry": {}}}, ())
    beside = os.path.relpath(secret, world.folder)
    pictures.ask([Wanted(Pictured("a", str(secret)), where), Wanted(Pictured("b", beside), where)])
    assert all("outside of the data roots" in str(pictures.get(key)) for key in "ab")
    assert pictures.get("c") == ""
    pictures.finish()


def test_redacted_and_without_images(world: World, tmp_path: Path) -> None:
    run = next(world.runs.glob("colours*.new.*"))
    report = evalkit.build_report(run, output=tmp_path / "r", redact=True).parent
    everything = b"".join(file.read_bytes() for file in (report / "data").rglob("*.js"))
    t = load(report / "data/0/text.js")[1]
    assert set(json.loads(gzip.decompress(base64.b64decode(t)))) == {""}
    for secret in (b"question 0", b"alert(1)", b"pictures/", b'"blue"', b"grey"):
        assert secret not in everything, secret
    assert not (report / "thumbs").exists()
    assert load(report / "data/report.js")[1]["redacted"]
    columns = unpacked(load(report / "data/0/columns.js")[1])
    assert "score:0" in columns
    assert not {"class", "said:0", "pair:0"} & columns.keys()
    plain = evalkit.build_report(run, output=tmp_path / "p", no_images=True, limit=10).parent
    records = load(plain / "data/0/samples/0.js")[1]
    assert len(records) == 10
    assert records[0]["question"]
    assert records[0]["images"][0]["src"] is None
    assert not (plain / "thumbs").exists()
    shown = evalkit.build_report(run, output=tmp_path / "p").parent
    assert len(list((shown / "thumbs").rglob("*.jpg"))) == 40
    evalkit.build_report(run, output=tmp_path / "p", redact=True)
    assert not (shown / "thumbs").exists(), "pictures of an earlier report are not passed on"


def test_doubts_about_the_data_stand_beside_the_score(world: World, tmp_path: Path) -> None:
    run = tmp_path / next(world.runs.glob("colours*.new.*")).name
    shutil.copytree(world.runs / run.name, run)
    content = RunFolder(run).read_run() or {}
    content.setdefault("data", {})["doubts"] = ["4 images of test are in train too: secret.jpg"]
    RunFolder(run).write_run(content)
    for redact in (False, True):
        report = evalkit.build_report(run, output=tmp_path / f"r{redact}", redact=redact).parent
        (score,) = load(report / "data/report.js")[1]["tasks"][0]["scores"]
        assert len(score["doubts"]) == 1
        assert ("secret.jpg" in score["doubts"][0]) is not redact


def test_one_file_runs_nothing_that_its_policy_does_not_name(world: World, tmp_path: Path) -> None:
    run = next(world.runs.glob("colours*.new.*"))
    page = evalkit.build_report(run, output=tmp_path / "one", single_file=True)
    text = page.read_text("utf-8")
    assert page.name == "one.html"
    assert "data:image/jpeg;base64," in text
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1].replace("&#x27;", "'")
    for kind in ("script", "style"):
        found = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digests = {base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in found}
        allowed = set(re.search(rf"{kind}-src ([^;]*);", policy)[1].split())
        assert {f"'sha256-{digest}'" for digest in digests} == allowed
    assert not re.search(r'<script[^>]+src=|<link[^>]+href="page', text)
    assert text.count("evalkit.put(") >= 5
    assert [p.name for p in tmp_path.iterdir()] == ["one.html"]


def test_mistakes_are_one_sentence(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all of it")
    assert main(["report", str(world.runs), "--output", str(mine)]) == 2
    assert "is no report and not empty; name a new folder with --output" in capsys.readouterr().err
    assert (mine / "thesis.txt").read_text() == "all of it"
    broken = tmp_path / "broken"
    shutil.copytree(next(world.runs.glob("colours*.new.*")), broken)
    row = (broken / "rows.jsonl").read_text().replace('"exact_match"', '"other"')
    (broken / "rows.jsonl").write_text(row)
    scores = json.loads((broken / "scores.json").read_text())
    plain = {key: value for key, value in scores.items() if key not in ("seal", "schema")}
    sealed.write(broken / "scores.json", plain | {"rows": hashlib.sha256(row.encode()).hexdigest()})
    assert main(["report", str(broken), "--output", str(tmp_path / "b")]) == 2
    assert "sample q0-0: has no row of exact_match; `evalkit score" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["report", str(empty)]) == 2
    assert "holds no runs" in capsys.readouterr().err
    assert main(["report", str(world.runs), "--limit", "3", "--output", str(tmp_path / "r")]) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'r' / 'index.html'}\n"
    assert "colours_test: 3 of 80 samples" in said.err


def test_the_server_answers_this_machine_alone(world: World) -> None:
    with evalkit.view(world.report, no_browser=True) as shown:
        address = shown.address
        assert shown.folder == world.report
        host = address.removeprefix("http://").rstrip("/")
        assert host.startswith("127.0.0.1:")

        def asked(path: str, name: str) -> int:
            connection = http.client.HTTPConnection(host, timeout=10)
            connection.request("GET", path, headers={"Host": name})
            return connection.getresponse().status

        assert asked("/index.html", host) == 200
        assert asked("/data/report.js", f"localhost:{host[10:]}") == 200
        assert asked("/data/report.js", "evil.example") == asked("/index.html", "evil.example:80") == 421
        assert asked("/data/", host) == 404
        assert asked("/../runs/", host) == 404
    with pytest.raises(ConnectionRefusedError):
        asked("/index.html", host)
    shown.close()  # a second time does nothing


def test_runs_are_shown_from_python_until_they_are_closed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wait` is what a script ends with: it returns once another thread closes, and Ctrl-C ends it."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("webbrowser.open", (visited := list[str]()).append)
    shown = evalkit.load(next(world.runs.glob("objects*"))).view(limit=2)
    assert visited == [shown.address]
    assert tmp_path in shown.folder.parents
    assert len(load(shown.folder / "data/0/samples/0.js")[1]) == 2
    assert f'<a href="{shown.address}"' in shown._repr_html_()
    threading.Timer(0.05, shown.close).start()
    shown.wait()
    with pytest.raises(TypeError, match="'browser'; did you mean"):
        evalkit.view(world.report, browser=False)
    script = (
        "import evalkit, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"shown = evalkit.view({str(world.report)!r}, no_browser=True)\n"
        "print(shown, flush=True)\nshown.wait()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    assert run.stdout.readline().startswith("<View http://127.0.0.1:")
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=30)[1].endswith("KeyboardInterrupt\n")


def test_no_torch_is_needed(world: World, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom evalkit.cli.main import main\n"
        f"main(['report', {str(world.runs)!r}, '--output', {str(tmp_path / 'r')!r}])\n"
        "sys.exit('heavy' if {'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_tables_and_the_gate_link_to_a_task(world: World, tmp_path: Path) -> None:
    old, new = (next(world.runs.glob(f"colours*.{name}.*")) for name in ("old", "new"))
    page = evalkit.table(world.runs, format="html", report='https://example.org/a"b/')
    assert 'href="https://example.org/a&quot;b/index.html#/task/colours_test"' in page
    evalkit.check(new, old, junit=tmp_path / "gate.xml", report="REPORT")
    assert "samples: REPORT/index.html#/task/colours_test" in (tmp_path / "gate.xml").read_text()
    decision = evalkit.check(new, old)
    assert "| [colours&#95;test](r.html#/task/colours_test) |" in summary(decision, "r.html")
    for wrong in ({"report": "javascript:alert(1)"}, {"report": "R", "format": "md"}):
        with pytest.raises(UserError):
            evalkit.table(world.runs, **wrong)


def test_pictures_are_as_large_as_their_number_allows() -> None:
    assert [longest(n) for n in (1, 500, 501, 5000, 5001)] == [768, 768, 384, 384, 256]


# --- pieces -------------------------------------------------------------------------------------------


def test_outlines_have_the_area_of_their_masks() -> None:
    height, width = 90, 120
    rng = np.random.default_rng(0)
    mask = np.zeros((height, width), dtype=bool)
    mask[20:70, 30:100] = True
    mask[35:50, 50:80] = False  # a hole
    mask[rng.integers(0, height, 40), rng.integers(0, width, 40)] ^= True
    flat = mask.T.ravel().tolist()
    runs = [len(list(same)) for _, same in itertools.groupby(flat)]
    counts = [0, *runs] if flat[0] else runs
    path = outlines.polygons({"size": [height, width], "counts": counts}, (height, width))
    drawn = Image.new("1", (width, height))
    for loop in path.split("Z")[:-1]:
        points = _points(loop)
        layer = Image.new("1", (width, height))
        ImageDraw.Draw(layer).polygon(points, fill=1)
        drawn = Image.fromarray(np.asarray(drawn) ^ np.asarray(layer))
    edge = 2 * path.count("H") + 40
    assert abs(int(np.asarray(drawn).sum()) - int(mask.sum())) < edge * 8
    assert path.count("M") >= 2
    for bad in ({"size": [9, 9], "counts": "~~"}, {"size": [0, 9], "counts": "0"}, {}, None, 3,
                {"size": [9, 9], "counts": "o" * 99}, {"size": ["x", 9], "counts": "1"}):  # fmt: skip
        assert outlines.path(bad) == ""


def _points(loop: str) -> list[tuple[float, float]]:
    start = re.match(r"M([\d.]+) ([\d.]+)", loop)
    x, y = float(start[1]), float(start[2])
    found = [(x, y)]
    for kind, number in re.findall(r"([HV])([\d.]+)", loop):
        x, y = (float(number), y) if kind == "H" else (x, float(number))
        found.append((x, y))
    return found


@pytest.mark.parametrize(
    ("said", "targets", "kind"),
    [
        ("Red.", ("red",), "spelling"), ("", ("red",), "empty"), ("it is red now", ("red",), "longer"),
        ("red", ("red fox",), "shorter"), ("7", ("8",), "another number"),
        ("elephent", ("elephant",), "near"),
        ("dog", ("cat",), "another text"), ("cat", ("dog", "dog", "cat"), "disputed"),
    ],
)  # fmt: skip
def test_kinds_of_wrong_texts(said: str, targets: tuple[str, ...], kind: str) -> None:
    judged = faults.texts(Target(targets), Answer(said, read=True), False, 0.3, False)
    assert judged.errors == (kind,)
    assert faults.texts(Target(targets), Answer(said, read=True), False, 1.0, False).errors == ()
    assert faults.texts(Target(targets), Answer(None), True, 0.0, False).errors == ("unreadable",)
    assert faults.texts(Target(("Yes",)), Answer("yes"), False, float("nan"), False).errors == ()
    long = faults.texts(Target(("b" * 900_000,)), Answer("a" * 900_000), False, 0.0, False)
    assert long.errors == ("another text",)


@pytest.mark.parametrize(
    ("spelling", "said", "targets", "row", "expected"),
    [
        ("vqa_accuracy", "Red", ("red",) * 3 + ("blue",) * 7, [0.9, 1], "3 of 10"),
        ("exact_match", "rad", ("red", "blue"), [0, 1], "'red', 1 edits"),
        ("anls(threshold=0.5)", "rad", ("red",), [0.67, 1], "0.67"),
        ("cer", "rad", ("red",), [1, 3, 1], "1 over a target of 3"),
        ("relaxed_accuracy", "95", ("100",), [0, 1], "95 for 100, 5.0% off"),
        ("cider", "a red fox", ("the red fox",), [1, 1], "2 of 3 words, 1 of 2 pairs"),
        ("bleu", "a red fox", ("the red fox",), [1, 1], "a"),
    ],
)  # fmt: skip
def test_why_a_score(spelling: str, said: str, targets: tuple[str, ...], row: Any, expected: str) -> None:
    judge = registry.make("metrics", spelling)
    found = dict(why.lines(spelling, judge, Answer(said, read=True), Target(targets), row))
    assert any(expected in value for value in found.values()), found


def test_json_stands_field_by_field() -> None:
    judges = {"json_fields": registry.make("metrics", "json_fields(tolerance=0.01)")}
    target = Target(('{"total": 10, "items": [{"name": "tea"}]}',))
    found = why.fields(judges, Answer('{"total": "10.05", "items": [{"name": "Tea"}], "x": null}'), target)
    assert found == (
        ("total", "10", "10.05", True), ("items[0].name", "tea", "Tea", False), ("x", "", "null", False),
    )  # fmt: skip
    assert why.fields(judges, Answer("no json"), target)[0] == ("total", "10", "", False)
    assert why.fields({}, Answer("{}"), target) is None


def test_precision_and_recall_are_those_of_coco_ap() -> None:
    found = ranked.Ranked()
    judge = registry.make("metrics", "coco_ap(rank='logprob')")
    objects = [{"category": "a", "box": (10 * i, 0, 8, 8), "area": 64, "iscrowd": 0} for i in range(3)]
    target = {"size": (50, 50), "image_id": 1, "categories": ("a",), "objects": objects}
    said = [((0, 0, 8, 8), 0.9), ((40, 40, 8, 8), 0.8), ((10, 0, 8, 8), 0.7), ((10, 0, 8, 8), 0.6)]
    boxes = tuple(Box.of_pixels(box, (50, 50), "a", score) for box, score in said)
    for row in judge.rows([boxes], [target]):
        assert found.add(row) == pytest.approx(0.9)
    wanted = [(1 / 3, 1), (1 / 3, 0.5), (2 / 3, 2 / 3), (2 / 3, 0.5)]
    assert [point[:2] for point in found.points()] == [pytest.approx(point) for point in wanted]
    assert [float(least) for *_, least in found.points()] == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert found.add({"pairs": []}) is None
    assert found.wanted == 3
    assert ranked.Ranked().points() == []
    missed = {"image": 1, "objects": {"cat": 2}, "unfound": {"cat": 2}, "missed": {"cat": 2}, "boxes": []}
    assert not found.add(missed), "tide's row of an image without a box says nothing of ranks"


def test_ids_stay_on_one_line() -> None:
    assert escaped("a\nb\\c\r") == "a\\nb\\\\c\\r"


def test_too_many_texts_are_no_classes() -> None:
    names, pairs = classes.Names(), classes.Pairs()
    for i in range(classes.MOST + 5):
        pairs.add(names, [(f"text {i}", "x")])
    assert names.given_up
    assert len(pairs.starts) == classes.MOST + 6


def test_targets_of_unknown_shapes_are_shown_as_they_are() -> None:
    found = shapes.target_of({"target": {"answers": ["a", 3], "pair": "p1", "words": [{"t": 1}]}})
    assert found.texts == ("a", "3")
    assert dict(found.other) == {"pair": "p1", "words": '[{"t": 1}]'}
    assert shapes.target_of({"target": None}) == Target()
    assert shapes.target_of({"target": {"answers": 7}}).texts == ("7",)
    assert shapes.target_of(
        {"target": {"boxes": [[1, 2, 3], [0, 0, float("nan"), 2], [0, 1, 2, 3]]}}
    ).boxes == ((0, 1, 2, 3),)
    assert shapes.answer_of({"answer": [{"box": [0, 0, 1, 1], "label": "a"}]}).boxes == ()
    assert shapes.answer_of({"answer": [], "text": ""}).read


def test_scripts_hold_what_json_can() -> None:
    raw = scripts.script("a/<b>", {"x": float("nan"), "y": "<!--\u2029&"})
    assert raw == b'evalkit.put("a/\\u003cb\\u003e", {"x":null,"y":"\\u003c!--\\u2029\\u0026"});\n'


def test_target_masks_are_drawn_where_the_dataset_is(tmp_path: Path) -> None:
    task = objects_task(tmp_path / "objects")
    task.write_text(
        task.read_text()
        .replace("parser: boxes", f"parser: masks(decoder={str(demo.mask_decoder())!r}, form='objects')")
        .replace("[coco_ap]", "[coco_ap(region='masks')]")
    )  # fmt: skip
    folder = go(task, tmp_path / "runs", "one", lambda request: "nothing")
    report = evalkit.build_report(folder, output=tmp_path / "r").parent
    records = {r["images"][0]["name"][-5:]: r for r in load(report / "data/0/samples/0.js")[1]}
    assert [m["label"] for m in records["a.png"]["target"]["masks"]] == ["cat", "dog"]
    assert records["a.png"]["target"]["masks"][1]["path"] == "M0 0L20 0L20 10L0 10Z"
    (tmp_path / "objects/coco.json").rename(tmp_path / "objects/gone.json")
    report = evalkit.build_report(folder, output=tmp_path / "r").parent
    assert load(report / "data/0/samples/0.js")[1][0]["target"]["masks"] == []


def test_right_is_what_the_stub_is_right_at(world: World) -> None:
    columns = world.columns(world.task("colours_test"))
    wrong = {name for name in columns["id"] if chance(name, 0) < 0.2}
    assert {i for i, r in zip(columns["id"], columns["right:0"], strict=True) if not r} == wrong
