"""`evalkit plot`: figures hold the report's numbers, colours and texts, and are the same bytes each time."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from report_runs import go
from stub import colours
from stub_runs import wrong_at
from test_report import hostile, objects_task, said_objects

import evalkit
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.options.verbs import PlotOptions
from evalkit.options.verbs.outputs import FIGURES
from evalkit.viewer import drawing, ink, one, plot, sections
from evalkit.viewer.drawing import Sheet
from evalkit.viewer.gather import gather

PAGE = Path(plot.__file__).parent / "page"
SVG = "{http://www.w3.org/2000/svg}"
drawn = pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints on questions and one on objects; a group and a class have names that attack."""
    folder = tmp_path_factory.mktemp("plot")
    questions = colours(folder / "questions", questions=2, images=20)
    runs = folder / "runs"
    for name, answer in (("_old", wrong_at(0.4)), ("new$", hostile)):
        go(questions, runs, name, answer)
    go(objects_task(folder / "objects"), runs, "new$", said_objects)
    return runs


def texts(path: Path) -> list[str]:
    return ["".join(text.itertext()) for text in ET.parse(path).iter(f"{SVG}text")]


def row(label: str, *values: Any, n: Any = 10) -> dict[str, Any]:
    made = [v and {"value": v, "low": v - 0.1, "high": v + 0.1} for v in values]
    return {"label": label, "n": n, "filter": None, "values": made}


# --- what a user gets ---------------------------------------------------------------------------------


@drawn
def test_figures_are_named_by_what_and_task(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whats = "forest,errors,differences"
    assert main(["plot", str(runs), "--what", whats, "--output", str(tmp_path / "f.svg")]) == 0
    said = capsys.readouterr().out.split()
    assert said[0] == str(tmp_path / "f-forest.svg")
    assert {Path(name).name for name in said} == {path.name for path in tmp_path.iterdir()}
    assert {"f-colours_test-errors.svg", "f-objects_test-errors.svg"} <= {Path(p).name for p in said}
    forest = texts(tmp_path / "f-forest.svg")
    assert {"_old", "new$", "objects_test, coco_ap × 100"} <= set(forest)
    assert "_old" in texts(tmp_path / "f-colours_test-errors.svg")  # in the legend too
    assert "new$ − _old" in " ".join(texts(tmp_path / "f-colours_test-differences.svg"))


@drawn
def test_one_figure_of_one_task_is_the_named_file(runs: Path, tmp_path: Path) -> None:
    found = evalkit.plot(runs, what="errors", tasks="objects_test", output=tmp_path / "errors.pdf")
    assert found == [tmp_path / "errors.pdf"]
    data = found[0].read_bytes()
    assert data.startswith(b"%PDF")
    assert b"/FontFile2" in data  # letters, not outlines
    assert b"CreationDate" not in data


@drawn
@pytest.mark.parametrize("form", ["svg", "pdf", "png"])
def test_the_same_bytes_each_time(runs: Path, tmp_path: Path, form: str) -> None:
    both = [evalkit.plot(runs, output=tmp_path / f"{name}.{form}")[0].read_bytes() for name in "ab"]
    assert both[0] == both[1]
    assert not re.search(rb"\b20\d\d-\d\d-\d\d\b", both[0])


@drawn
def test_a_figure_holds_what_the_report_holds(runs: Path, tmp_path: Path) -> None:
    evalkit.build_report(runs, output=tmp_path / "R")
    report = read(tmp_path / "R/data/report.js")
    t = [task["name"] for task in report["tasks"]].index("objects_test")
    section = next(s for s in read(tmp_path / f"R/data/{t}/task.js")["sections"] if s["name"] == "classes")
    options = PlotOptions(runs, what="classes")
    (found,) = plot.figures(gather([runs]), ["objects_test"], ["classes"], options)
    (axis,) = found.figure.axes
    wanted = [100 * one["values"][1]["value"] for one in section["rows"]]
    assert max(wanted) > 0
    assert [bar.get_width() for bar in axis.patches] == pytest.approx(wanted)
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        f"{one['label']} ({one['n']})" for one in section["rows"]
    ]


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8").partition(", ")[2].removesuffix(");\n"))


def block(title: str, language: str) -> str:
    text = (Path(__file__).parent.parent / "docs/report.md").read_text(encoding="utf-8")
    found = re.search(rf"## {title}\n.*?```{language}\n(.*?)```", text, re.S)
    assert found
    return found[1]


@drawn
@pytest.mark.parametrize("line", [line for line in block("Plots", "").split("\n") if line])
def test_the_commands_of_the_docs(
    runs: Path, tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(runs)
    words = shlex.split(line, comments=True)
    fewer = ["--tasks=colours_test"] if "--tasks" not in words else []
    assert main([*words[1:], *fewer]) == 0
    assert list(tmp_path.rglob(f"*{Path(words[-1]).suffix}"))


def test_the_notebook_of_the_docs(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(runs)
    code = block("In a notebook", "python")
    if not importlib.util.find_spec("matplotlib"):
        code = code.partition("evalkit.plot(")[0]
    names: dict[str, Any] = {"evalkit": evalkit}
    visited: list[str] = []
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("webbrowser.open", visited.append)
    exec(code, names)  # our own documentation
    assert "new$: answer" in str(names["sample"])
    assert visited == ([names["shown"].address] if "shown" in names else [])


# --- mistakes -----------------------------------------------------------------------------------------


def test_without_matplotlib_a_sentence_says_what_to_install(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else known(name, *a)
    )
    assert main(["plot", str(runs)]) == 2
    assert capsys.readouterr().err == (
        "evalkit: evalkit plot: matplotlib is not installed; pip install 'evalkit[plot]'\n"
    )


@drawn
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--what", "forrest"], "no such figure; did you mean forest"),
        (["--what", ","], "names no figure"),
        (["--output", "a.jpg"], "must end with .svg, .pdf or .png"),
        (["--tasks", "colour_test"], "no run is of it; did you mean colours_test"),
        (["--what", "resolution"], "resolution needs one checkpoint at several resolutions"),
        (["--top", "0"], "is below 1"),
    ],
)
def test_a_mistake_is_one_sentence(
    runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    assert main(["plot", str(runs), *words]) == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


@drawn
def test_what_is_there_is_written_before_what_is_missing_is_said(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trend needs three checkpoints"):
        evalkit.plot(runs, what="forest,trend", output=tmp_path / "f.svg")
    assert (tmp_path / "f-forest.svg").is_file()


# --- what is drawn ------------------------------------------------------------------------------------


def test_colours_and_lines_are_the_pages() -> None:
    css = (PAGE / "style.css").read_text("utf-8").partition("@media")[0]
    for run, (colour, dashes) in enumerate(zip(ink.COLOURS, ink.DASHES, strict=True)):
        assert f"--run{run}: {colour};" in css
        every = (PAGE / "style.css").read_text("utf-8")
        assert re.search(rf"^\.c{run} {{.*--dash: {' '.join(map(str, dashes))};", every, re.M)
    shapes = (PAGE / "charts.js").read_text("utf-8").partition("const SHAPES = [")[2].partition("];")[0]
    assert shapes.count("html`") == len(ink.SHAPES)


def test_every_figure_but_the_tables_is_of_a_section() -> None:
    assert set(FIGURES) - {*plot.WHOLE, "differences"} == set(sections.MAKERS) - {"stored", "odd"}


@drawn
def test_bars_hold_values_intervals_and_the_largest_rows() -> None:
    sheet = Sheet(3, ["a", "b"], most=2, scale=100)
    section = {"unit": "score", "rows": [row("x", 0.5, 0.25), row("y", None, 0.75), row("z", 1.0, 1.0)]}
    with ink.style():
        (axis,) = drawing.bars(sheet, section).axes
    widths = [[bar.get_width() for bar in bars] for bars in axis.containers]
    assert widths[0][0] == 50
    assert widths[0][1] != widths[0][1]  # no bar
    assert widths[1] == [25, 75]
    assert [list(line.get_xdata()) for line in axis.lines] == [
        [40, 60], pytest.approx([15, 35]), pytest.approx([65, 85])
    ]  # fmt: skip
    assert [label.get_text() for label in axis.get_yticklabels()] == ["x (10)", "y (10)"]


@drawn
def test_errors_without_a_price_are_counted() -> None:
    rows = [row("near", None, None, n=[3, None]), row("far", None, None, n=[1, 4])]
    with ink.style():
        (axis,) = drawing.bars(Sheet(3, ["a", "b"]), {"unit": "gain", "rows": rows}).axes
    assert [[bar.get_width() for bar in bars] for bars in axis.containers] == [[3, 1], [0, 4]]
    assert axis.get_xlabel() == "samples"


@drawn
def test_a_large_matrix_keeps_its_total() -> None:
    cells = [[10, 1, 2], [0, 1, 1], [4, 0, 20]]
    assert drawing._largest({"rows": ["a", "b", "c"], "cells": cells}, 3) == (["a", "b", "c"], cells)
    names, merged = drawing._largest({"rows": ["a", "b", "c"], "cells": cells}, 2)
    assert (names, merged) == (["a", "c", "(others)"], [[10, 2, 1], [4, 20, 0], [0, 1, 1]])
    section = {"run": 0, "rows": ["a", "b", "c"], "cells": cells}
    with ink.style():
        axis = drawing.matrices(Sheet(3, ["r"]), [section]).axes[0]
    assert sorted(int(text.get_text()) for text in axis.texts) == [1, 1, 1, 2, 4, 10, 20]
    assert axis.images[0].get_array()[2].tolist() == pytest.approx([4 / 24, 0, 20 / 24])


@drawn
def test_curves_and_histograms_hold_their_points() -> None:
    points = [[0.1, 0.2, 0.1, 0.3], [0.5, None, None, None], [0.9, 0.8, 0.7, 0.9]]
    words = {"x": {"label": "sure"}, "y": {"label": "right"}, "diagonal": True}
    series = [{"name": "", "run": 1, "points": points, "filters": None}]
    with ink.style():
        (axis,) = drawing.curve(Sheet(3, ["a", "b"]), {**words, "series": series}).axes
        counts = {
            "title": "Scores",
            "column": "score",
            "edges": [0, 0.5, 1],
            "series": [{"run": 0, "counts": [3, 7]}],
        }
        (bars,) = drawing.histogram(Sheet(3, ["a"], scale=100), counts).axes
    assert axis.lines[0].get_xydata().tolist() == [[0.1, 0.2], [0.9, 0.8]]
    assert axis.lines[0].get_color() == ink.COLOURS[1]
    stairs = bars.patches[0].get_data()
    assert (stairs.values.tolist(), list(stairs.edges)) == ([3, 7], [0, 50, 100])


@drawn
def test_forest_marks_published_values() -> None:
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    published = [{"run": 1, "value": 0.55, "low": 0.5, "high": 0.6}]
    tasks = [
        {"name": "t", "metric": "anls(x=1)", "scores": [None, score], "published": published, "digits": 1}
    ]
    with ink.style():
        (axis,) = drawing.forest(Sheet(3, ["a", "b"], scale=100), tasks).axes
    found = {line.get_marker(): line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 1}
    assert found == {ink.SHAPES[1]: 50, "D": pytest.approx(55)}
    assert axis.get_title(loc="left") == "t, anls × 100"
    assert axis.texts[0].get_text() == "50.0"


@drawn
def test_text_that_attacks_is_text(tmp_path: Path) -> None:
    nasty = "$\\frac{</text><script>\x00\u202e\ud800&$ \n_" + 1000 * "x"
    section = {"unit": nasty, "rows": [row(nasty, 0.5, 0.5)]}
    with ink.style():
        figure = drawing.bars(Sheet(3, [nasty, "_hidden"]), section)
    for form in ink.FORMS:
        data, _ = ink.saved(figure, form, ink.short(nasty))
        (tmp_path / f"a.{form}").write_bytes(data)
    found = texts(tmp_path / "a.svg")
    assert not list(ET.parse(tmp_path / "a.svg").iter(f"{SVG}script"))
    assert any(text.startswith("$\\frac{</text>") for text in found)
    assert "_hidden" in found
    assert all(len(text) < 60 for text in found)


@drawn
def test_letters_that_the_font_lacks_are_named() -> None:
    with ink.style():
        figure = drawing.bars(Sheet(3, ["a"]), {"unit": "x", "rows": [row("漢字", 0.5)]})
    assert set(ink.saved(figure, "pdf", "t")[1]) == {"漢", "字"}


# --- in a notebook -------------------------------------------------------------------------------------


def test_a_table_in_a_notebook_is_html(runs: Path) -> None:
    page = evalkit.load(runs)._repr_html_()
    assert "objects_test" in page
    assert "<!doctype" not in page
    assert '<td class="best">' in page


def test_a_sample_is_shown_with_boxes_and_masks_of_target_and_answer(runs: Path) -> None:
    (run,) = (run for run in evalkit.load(runs) if run.task == "objects_test")
    page = run.show(run.samples().id.iloc[0])._repr_html_()
    figure = ET.fromstring(re.search(r"<svg .*?</svg>", page, re.S)[0])  # type: ignore[index]
    assert figure.find(f"{SVG}image").get("href").startswith("data:image/jpeg;base64,")  # type: ignore[union-attr]
    seen = [rect.get("stroke") for rect in figure.iter(f"{SVG}rect") if rect.get("stroke") != "white"]
    assert seen == 2 * ["#007a5a"] + 2 * [ink.COLOURS[0]]
    assert [text.text for text in figure.iter(f"{SVG}text")] == ["cat", "dog", "cat", "cat"]


def test_two_checkpoints_answers_on_one_picture(runs: Path) -> None:
    found = evalkit.load(runs).show("q3-0", task="colours_test")
    assert [bool(answer) for answer in found.record["runs"]] == [True, True]
    said = repr(found)
    assert "_old: answer: " in said
    assert "new$: answer: <script>" in said
    page = found._repr_html_()
    assert "<script" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_an_id_of_two_tasks_needs_the_task(runs: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(runs.parent / "questions", twin)
    (twin / "colours_test.yaml").rename(twin / "twin_test.yaml")
    go(twin / "twin_test.yaml", tmp_path / "runs", "m", wrong_at(0.1))
    both = evalkit.load([runs, tmp_path / "runs"])
    with pytest.raises(
        UserError, match="several tasks have it; name one with task=: colours_test, twin_test"
    ):
        both.show("q3-0")
    assert both.show("q3-0", task="twin_test").task == "twin_test"


def test_an_id_that_is_not_there_is_said(runs: Path) -> None:
    with pytest.raises(UserError, match=r"'q3-9': no sample is called so; did you mean q3-"):
        evalkit.load(runs).show("q3-9")
    with pytest.raises(UserError, match="no run is of it; did you mean colours_test"):
        evalkit.load(runs).show("q3-0", task="colour_test")


def test_the_target_is_drawn_in_the_pages_colour() -> None:
    assert f"--target: {one.TARGET};" in (PAGE / "style.css").read_text("utf-8").partition("@media")[0]
