"""Very many runs and samples: what is read once, in order, and before it is refused."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path, PurePosixPath

import pytest
from stub import colours
from stub_runs import go, right, wrong_at
from test_tables import cell

from evalkit import collecting
from evalkit.cli import runs as verb
from evalkit.cli.main import main
from evalkit.data import records
from evalkit.data.packed import Samples
from evalkit.errors import DataError
from evalkit.evaluation import score
from evalkit.formats.jsonl import JsonLines
from evalkit.report import formats
from evalkit.runs import journal, scored_run, store
from evalkit.runs.store import RunFolder
from evalkit.tasks import loader
from evalkit.tasks.dataset import dataset
from evalkit.types import Prediction, Sample, Source


def test_what_a_newer_run_replaced_is_what_the_definition_says() -> None:
    draw = random.Random(0)
    for _ in range(300):
        runs = [
            (str(draw.randint(0, 5)), draw.randint(0, 5), Path(str(i))) for i in range(draw.randint(0, 9))
        ]
        newer = {p for when, n, p in runs if any(w > when and m >= n for w, m, _ in runs)}
        assert verb._older(runs) == newer


def test_runs_are_found_in_the_order_of_their_files(tmp_path: Path) -> None:
    folders = ["b", "a", "a/copy", "a/zcopy", "a.b", "a b", ".hidden/x", "c/predictions/inner", "A"]
    for name in folders:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "run.json").write_text("{}")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "run.json").symlink_to("nowhere")
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    expected = [path.parent for path in sorted(tmp_path.rglob("run.json"))]
    assert [folder.path for folder in store.find([tmp_path])] == expected
    assert len(expected) == len(folders)


def test_whether_a_run_has_answers_is_what_reading_them_all_says(tmp_path: Path) -> None:
    folder = RunFolder(go(colours(tmp_path / "data"), tmp_path / "out", "good", right))
    run = folder.read_run()
    (part,) = journal.parts(folder.path / "predictions")
    whole = part.read_bytes()
    for data in (whole, b"torn\n" + whole, whole[:20], b"", whole.replace(b'"text"', b'"tixt"')):
        part.write_bytes(data)
        assert folder.is_answered(run) == bool(folder.entries())
    part.rename(part.with_name("0_old.jsonl"))
    assert not folder.is_answered(run)
    assert not folder.is_answered(None)


def test_compare_of_many_refuses_before_it_reads_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, out = colours(tmp_path / "data"), tmp_path / "out"
    for name in ("good", "poor"):
        go(task, out, name, right if name == "good" else wrong_at(0.5))
        go(task, out, name, right, overrides={"prompt": "other {question}"})
    shutil.copytree(next(out.glob("*.good.*")), out / "copy")
    assert main(["compare", str(out), str(out)]) == 2
    said = capsys.readouterr().err
    assert "is there twice; name each run, or a folder of it, once" in said
    for rows in out.rglob("rows.jsonl"):
        rows.unlink()
    assert main(["compare", str(out), str(out)]) == 2
    assert capsys.readouterr().err == said
    assert {head.run for head in scored_run.heads(out)} == {f.name for f in store.find([out])} - {"copy"}


def test_a_table_for_no_screen_has_lines_that_can_be_read() -> None:
    cells = [
        cell(f"a_task_{t:02}_val", f"checkpoint-{i}00", i / 100, clusters=9)
        for t in range(60)
        for i in range(60)
    ]
    form = formats.FORMS["terminal"]
    assert form.wide is not None
    text = form.wide(cells, False)
    assert max(map(len, text.split("\n"))) <= formats.WIDE
    assert "rough: a_task_00_val, a_task_01_val," in text
    assert "a_task_05_val, and 54 more\n" in text
    assert [f"checkpoint-{i}00" in text for i in range(60)] == [True] * 60


def test_pauses_of_the_collector_nest() -> None:
    import gc

    assert gc.isenabled()
    with collecting.paused():
        with collecting.paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_samples_share_what_they_have_in_common(tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    samples = dataset(loader.load(str(task)), [tmp_path / "data"]).samples
    one, two = next((a, b) for a, b in itertools.pairwise(samples) if a.images == b.images)
    assert one.images is two.images
    assert next(iter(one.fields)) is next(iter(two.fields))
    assert all(image.within for sample in samples for image in sample.images)


def test_categories_are_those_of_all_lines_though_none_is_kept(tmp_path: Path) -> None:
    boxes = [{"category": "cat", "bbox": [0, 0, 1, 1]}, {"category": "ant", "bbox": [0, 0, 1, 1]}]
    lines: list[dict[str, object]] = [{"objects": []}, {"objects": boxes[:1]}, {"objects": boxes[1:]}]
    text = "".join(json.dumps({"image": "a.png", "size": [9, 9], **line}) + "\n" for line in lines)
    (tmp_path / "a.jsonl").write_text(text)
    source = Source(tmp_path, {"path": "a.jsonl"})
    found = [sample.target["categories"] for sample in JsonLines().samples(source, "all")]
    assert found == [("ant", "cat")] * 3
    (tmp_path / "a.jsonl").write_text(text.replace('"size"', '"split": "val", "size"'))
    with pytest.raises(DataError, match="no split 'test'"):
        list(JsonLines().samples(source, "test"))


def test_clusters_are_named_as_before() -> None:
    draw = random.Random(1)
    for _ in range(200):
        samples = [
            Sample(str(i), (), {}, ("a",), cluster=draw.choice("xyz") if draw.random() < 0.5 else "")
            for i in range(12)
        ]
        given = [
            Prediction(s.id, "", "a", image_digests=(draw.choice("abcdef"),) if draw.random() < 0.8 else ())
            for s in samples
        ]
        found = score._clusters(Samples.of(samples), ["+".join(p.image_digests) for p in given])
        keys = ["+".join(p.image_digests) or s.cluster or s.id for s, p in zip(samples, given, strict=True)]
        members: dict[str, set[str]] = {}
        for name, key in zip(found, keys, strict=True):
            members.setdefault(name, set()).add(key)
        for name, inside in members.items():  # named by its one image, or as it is stated
            assert inside == {name} or name in {s.cluster or s.id for s in samples}
        linked = [{key, f"stated {s.cluster or s.id}"} for s, key in zip(samples, keys, strict=True)]
        for _ in samples:  # what shares a link is one cluster, and nothing else is
            linked = [set().union(*(other for other in linked if other & one)) for one in linked]
        together = [[one == other for other in linked] for one in linked]
        assert together == [[one == other for other in found] for one in found]


def test_names_of_files_are_judged_as_their_parts_say() -> None:
    names = [
        "a.png",
        "a/b.png",
        "a..b",
        "../a",
        "a/../b",
        "/a",
        "\\a",
        "a\\..\\b",
        " ",
        "",
        "\0",
        "a\n",
        "ä b",
    ]
    for name in [*names, "..", "x/..", "x\\..\\..", "\u3000", "C:\\a.png"]:
        path = PurePosixPath(name.replace("\\", "/"))
        void, out = not name.strip() or "\0" in name, ".." in path.parts
        assert bool(records.name_problem(name)) == (void or out or path.is_absolute()), name
        assert bool(records.name_problem(name, absolute=True)) == (void or out), name
