"""`evalkit check --pages`, and reports of a baseline's file: its answers beside the candidate's pictures."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import own_world
import pytest
from report_runs import load, unpacked
from stub import colours
from stub_runs import go, right, wrong_at

import evalkit
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.evaluation import evaluate
from evalkit.types import Request
from evalkit.viewer import outlet

KEPT_NOT = ("margin:0", "suspect", "length:0", "length:1", "state:0")  # tokens, margins and how it stopped


def boxes(better: bool) -> Any:
    """Answers to the three pictures of `own_world`: the cat of a.png, loose or on its place."""

    def said(request: Request) -> str:
        if Path(request.images[0].path).name != "a.png":
            return ""
        return (
            "<loc0170><loc0160><loc0854><loc0672> cat"
            if better
            else "<loc0000><loc0000><loc0500><loc0500> cat"
        )

    return said


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base` and `new`: runs of questions with groups, and the baseline's file; `objects/...` the same of
    objects."""
    root = tmp_path_factory.mktemp("pages")
    questions = colours(root / "questions", images=40)
    lines = [json.loads(line) for line in (root / "questions/colours.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["group"] = "ab"[number % 2]
    (root / "questions/colours.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    questions.write_text(questions.read_text() + "group_mean: true\n")
    own_world.coco(root / "objects", polygons=True)
    objects = root / "objects/objects_test.yaml"
    objects.write_text(
        "version: 1\nabout: things\nlicense: none\ndata:\n  format: coco_detection\n  split: test\n"
        "  sources: [{path: coco.json, images: images}]\nprompt: detect\nparser: boxes\nmetrics: [coco_ap]\n"
    )
    for name, share in (("base", 0.1), ("new", 0.4)):
        go(questions, root / name, name, wrong_at(share))
        go(objects, root / "objects" / name, name, boxes(name == "base"))
    assert main(["baseline", "save", str(root / "base"), str(root / "base.json.gz")]) == 0
    both = [str(root / "base"), str(root / "objects/base")]
    assert main(["baseline", "save", *both, str(root / "both.json.gz")]) == 0
    return root


def data(report: Path, name: str) -> Any:
    return load(report / "data" / f"{name}.js")[1]


def test_a_baseline_s_file_shows_what_its_runs_would(world: Path, tmp_path: Path) -> None:
    new = [world / "new", world / "objects/new"]
    evalkit.build_report([world / "both.json.gz", *new], output=tmp_path / "file")
    evalkit.build_report([world / "base", world / "objects/base", *new], output=tmp_path / "runs")
    one, other = data(tmp_path / "file", "report"), data(tmp_path / "runs", "report")
    assert [run["name"] for run in one["runs"]] == ["base (baseline)", "new"]
    for key in ("tasks", "trend"):
        assert one[key] == other[key]
    for a, b in zip(one["comparisons"], other["comparisons"], strict=True):
        assert {**a, "telling": sorted(a["telling"])} == {**b, "telling": sorted(b["telling"])}
    for t, _ in enumerate(one["tasks"]):
        a, b = (unpacked(data(tmp_path / which, f"{t}/columns")) for which in ("file", "runs"))
        assert a.keys() ^ b.keys() <= {*KEPT_NOT}
        assert {"score:0", "right:0", "error:0"} <= a.keys()
        for name in a.keys() - {*KEPT_NOT}:
            assert list(map(str, a[name])) == list(map(str, b[name])), name
        a, b = (data(tmp_path / which, f"{t}/samples/0") for which in ("file", "runs"))
        for mine, theirs in zip(a, b, strict=True):
            for run in (mine["runs"][0], theirs["runs"][0]):
                del run["margin"], run["stop"]
        assert a == b
    found = data(tmp_path / "file", f"{[t['name'] for t in one['tasks']].index('objects_test')}/samples/0")
    assert sum(len(record["runs"][0]["boxes"]) for record in found) == 1


def test_a_failed_check_shows_the_pictures_of_what_was_lost(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(world / "new"), "--baseline", str(world / "base.json.gz")]
    assert main([*words, "--pages", str(tmp_path / "pages")]) == 1
    assert str(tmp_path / "pages/index.html") in capsys.readouterr().err
    report = data(tmp_path / "pages", "report")
    assert report["title"] == "new against base: fail"
    first = report["look_first"][0]
    assert first["text"].startswith("colours_test: check: fail: exact_match -")
    t = [task["name"] for task in report["tasks"]].index("colours_test")
    assert first["link"] == f"/task/{t}/samples?flip=0-1:lost"
    assert not [each for each in report["look_first"] if "new is worse than base" in each["text"]]
    records = data(tmp_path / "pages", f"{t}/samples/0")
    lost = [r for r in records if r["runs"][1]["answer"] == "grey" != r["runs"][0]["answer"]]
    assert lost
    assert f"({len(lost)} samples lost, 0 gained)" in first["text"]
    for record in lost:
        assert (tmp_path / "pages" / record["images"][0]["src"]).is_file()
        assert record["runs"][0]["answer"] in record["target"]["texts"]
    assert main([*words, "--pages", str(tmp_path / "one.html")]) == 1
    assert (tmp_path / "one.html").read_text().count("data:image/jpeg;base64,") >= len(lost)


def test_equal_weights_that_say_something_else_lead_to_the_sample(world: Path, tmp_path: Path) -> None:
    task = world / "questions/colours_test.yaml"

    def changed(request: Request) -> str:  # the same mistake in other words
        return "white" if (said := wrong_at(0.1)(request)) == "grey" else said

    new = go(task, tmp_path / "new", "base", changed, version=2)
    old = next((world / "base").glob("colours_test.*"))
    assert main(["baseline", "save", str(old), str(tmp_path / "b.json")]) == 0
    found = evalkit.check(new, tmp_path / "b.json", pages=tmp_path / "pages")
    assert found.status == "fail"
    assert found.tasks[0].differing is not None
    first = data(tmp_path / "pages", "report")["look_first"][0]
    assert first["text"].startswith("colours_test: check: fail: same weights, but")
    assert first["link"] == f"/task/0/samples?sample={found.tasks[0].differing['id']}"


def test_a_baseline_at_a_git_ref(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.json.gz").write_bytes((world / "base.json.gz").read_bytes())
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "baseline"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "base.json.gz").unlink()
    assert main(["check", str(world / "new"), "--baseline", "base.json.gz@HEAD", "--pages", "pages"]) == 1
    assert len(data(tmp_path / "pages", "report")["runs"]) == 2


def test_a_candidate_with_a_part_of_the_samples(world: Path, tmp_path: Path) -> None:
    new = go(world / "questions/colours_test.yaml", tmp_path / "new", "new", right, limit=10)
    with pytest.warns(UserWarning, match="objects_test: left out; no run beside it has its samples"):
        evalkit.build_report([world / "both.json.gz", new], output=tmp_path / "pages")
    report = data(tmp_path / "pages", "report")
    assert [task["n"] for task in report["tasks"]] == [20]
    assert all(run for record in data(tmp_path / "pages", "0/samples/0") for run in record["runs"])


def test_what_cannot_be_shown_is_said_before_a_model_runs(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(evaluate, "checkpoint", never)
    base = world / "base.json.gz"
    with pytest.raises(UserError, match=r"base\.json\.gz: a baseline's file has no targets and no pictures"):
        evalkit.build_report(base, output=tmp_path / "pages")
    with pytest.raises(UserError, match=r"--pages: .*base\.json\.gz is a baseline's file"):
        evalkit.check(base, base, pages=tmp_path / "pages")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(UserError, match="mine: is no report and not empty"):
        evalkit.check("demo:later", base, pages=tmp_path / "mine")


def test_a_failed_check_stays_one_without_its_pages(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> Any:
        raise UserError("no space left")

    words = ["--baseline", str(world / "base.json.gz"), "--pages", str(tmp_path / "pages")]
    monkeypatch.setattr(outlet.Folder, "put", full)
    assert main(["check", str(world / "new"), *words]) == 1
    assert "error: --pages: no space left" in capsys.readouterr().err
    assert main(["check", str(world / "base"), *words]) == 2
    monkeypatch.undo()
    assert main(["check", str(world / "base"), *words]) == 0
    report = data(tmp_path / "pages", "report")
    assert report["title"].endswith(": pass")
    assert not [each for each in report["look_first"] if "check:" in each["text"]]
