"""Very many runs and samples: what is read once, in order, and before it is refused."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from stub import colours
from stub_runs import go, right, wrong_at
from test_tables import cell

from evalkit import collecting
from evalkit.cli import runs as verb
from evalkit.cli.main import main
from evalkit.report import formats
from evalkit.runs import journal, scored_run, store
from evalkit.runs.store import RunFolder


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
    assert "has two runs of colours_test" in said
    for rows in out.rglob("rows.jsonl"):
        rows.unlink()
    assert main(["compare", str(out), str(out)]) == 2
    assert capsys.readouterr().err == said
    assert {head.run for head in scored_run.heads(out)} == {f.name for f in store.find([out])} - {"copy"}


def test_a_table_for_no_screen_has_lines_that_can_be_read() -> None:
    cells = [cell("t", f"checkpoint-{i}00", i / 100) for i in range(60)]
    form = formats.FORMS["terminal"]
    assert form.wide is not None
    text = form.wide(cells, False)
    table = text.split("\n\nvalues")[0]
    assert max(map(len, table.splitlines())) <= formats.WIDE
    assert [f"checkpoint-{i}00" in text for i in range(60)] == [True] * 60


def test_pauses_of_the_collector_nest() -> None:
    import gc

    assert gc.isenabled()
    with collecting.paused():
        with collecting.paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
