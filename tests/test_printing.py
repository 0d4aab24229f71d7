"""What a file, a name or an answer holds steers no terminal, no log, no table; messages have an end."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from stub import checkpoint, colours
from stub_runs import Weighted, as_schema_1, go, wrong_at

import evalkit
from evalkit import files, models, printing
from evalkit.cli.main import main
from evalkit.comparison import gate
from evalkit.evaluation import progress
from evalkit.report import columns, decision, formats, leaderboard
from evalkit.report.leaderboard import Cell
from evalkit.runs import scored_run
from evalkit.types import Score

ESC = "\x1b[2J\x1b]0;title\x07\x9b31m"  # clears the screen, names the window, colours by one 8-bit control
STRANGE = f"m{ESC}<img src=x onerror=alert(1)>\n| a | b |\r\n::error::x\u202egnp.\u2028\ud800\x00\x7f`c`[l](http://e)\U000e0041"
HIDDEN = re.compile(f"[{printing.UNSEEN}\n\t]")
UNSEEN = re.compile(f"[{printing.UNSEEN}]")


def sound(text: str) -> str:
    """The text, where it holds nothing that steers."""
    assert not UNSEEN.search(text), repr(UNSEEN.search(text))
    return text


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("strange")
    data = colours(folder / "data", images=30)
    good, poor = (
        go(data, folder / "runs", "good", wrong_at(0.1)),
        go(data, folder / "runs", "poor", wrong_at(0.5)),
    )
    for place in (good, poor):  # as another tool, or a checkpoint's folder, may name things
        as_schema_1(place)  # or the seals would tell that they were changed
        run = json.loads((place / "run.json").read_text())
        (place / "run.json").write_text(json.dumps({**run, "model": f"{run['model']}{STRANGE}"}))
        lines = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
        changed = [{**line, "id": line["id"] + STRANGE, "text": line["text"] + ESC} for line in lines]
        (place / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    return [good, poor]


def test_compare_and_its_samples(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, runs), "--samples", "3"]) == 0
    out = sound(capsys.readouterr().out)
    assert "lost: q" in out
    assert "\\x1b[2J" in out, "it is seen, not dropped"
    assert not [line for line in out.splitlines() if line.startswith(("::", "|"))]
    assert main(["compare", *map(str, runs), "--grid"]) == 0
    sound(capsys.readouterr().out)


def test_json_is_whole_on_a_terminal(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, runs), "--json", "-"]) == 0
    content = json.loads(sound(capsys.readouterr().out))
    assert content["comparisons"][0]["a"] == f"good{STRANGE}"


@pytest.mark.parametrize("form", ["terminal", "md", "html", "latex", "csv", "json"])
def test_every_form_of_the_table(runs: list[Path], form: str, capsys: pytest.CaptureFixture[str]) -> None:
    for shape in ("wide", "long"):
        assert main(["table", *map(str, runs), "--format", form, "--shape", shape]) == 0
        out = sound(capsys.readouterr().out)
        if form == "md":
            rows = [line for line in out.splitlines() if line.startswith("|")]
            assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6 if shape == "wide" else 8}
            assert "<img" not in out
            assert "](http" not in out
        if form == "terminal":
            table = out.removeprefix("task colours_test, metric exact_match\n\n")  # which all rows have
            assert len(table.split("\n\n")[0].splitlines()) == 3
        if form == "html":
            assert "<img" not in out


def test_check_and_what_github_reads(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    given = ["check", str(runs[1]), "--baseline", str(runs[0])]
    assert main(given) == 1
    sound(capsys.readouterr().out)
    assert main([*given, "--github"]) == 1
    out = sound(capsys.readouterr().out)
    assert [line[:8] for line in out.splitlines() if line.lstrip().startswith(("::", "##["))] == ["::error "]
    sound(str(evalkit.check(runs[1], runs[0])))


def test_sentences_and_commands_have_an_end(runs: list[Path]) -> None:
    decided = gate.check(scored_run.read(runs[1]), scored_run.read(runs[0]))
    long = "x" * 2_000_000 + ESC + "\n::error::owned"
    (task,) = decided.tasks
    task = dataclasses.replace(
        task, why=long, warnings=(long,), differing={"id": long, "baseline": long, "candidate": long}
    )
    odd = dataclasses.replace(decided, tasks=(task,), candidate=long, notes=(long,))
    for text in (decision.text_of(odd, False), decision.workflow_commands(odd), str(odd)):
        assert len(sound(text)) < 20_000
        assert not [line for line in text.splitlines() if line.startswith("::error::owned")]
    assert "(2,000,0" in decision.text_of(odd, True)


def test_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    image = colours(tmp_path / "data", images=1).parent / "pictures" / "0.png"
    box = "<loc0000><loc0000><loc0512><loc0512> cat" + STRANGE.replace("\ud800", "")
    for answer in (STRANGE, box, "y" * 3_000_000):
        model = Weighted(lambda request, answer=answer: answer)  # type: ignore[misc]
        monkeypatch.setattr(models, "open_checkpoint", lambda *_, model=model: checkpoint(model))
        assert main(["ask", "--model", "x", str(image), "p"]) == 0
        out, err = capsys.readouterr()
        sound(out + err)
        assert len(out + err) < 150_000


def test_errors_and_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"no{STRANGE}such"]) == 2
    err = sound(capsys.readouterr().err)
    assert len(err.splitlines()) == 1
    assert main(["table", "--format", "z" * 100_000, str(tmp_path)]) == 2
    assert len(capsys.readouterr().err) < 3000
    with pytest.raises(SystemExit):
        main(["table", f"--for{STRANGE}"])
    sound(capsys.readouterr().err)
    progress.say("warning: " + "w" * 5_000_000 + "\n" * 100_000 + ESC)
    assert len(sound(capsys.readouterr().err)) < 5000


def test_list_runs_and_explain(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", "--output-path", str(runs[0].parent)]) == 0
    sound(capsys.readouterr().out)
    assert main(["explain", str(runs[0])]) == 0
    sound(capsys.readouterr().out)
    assert main(["explain", *map(str, runs)]) == 0
    sound(capsys.readouterr().out)


# --- the pieces --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [*range(32), *range(127, 160), 0x202E, 0x2066, 0x2028, 0xFEFF, 0xD800, 0xE0041]
)
def test_no_control_character_is_left(number: int) -> None:
    text = printing.one_line(f"a{chr(number)}b")
    assert not HIDDEN.search(text)
    assert text.startswith("a")
    assert text.endswith("b")
    assert len(text) > 2
    assert json.loads(files.json_text(f"a{chr(number)}b")) == f"a{chr(number)}b"
    assert not UNSEEN.search(files.json_text({chr(number): chr(number)}))


def test_words_of_all_scripts_are_as_they_were() -> None:
    for text in ("naïve – ±1.3 ✅", "日本語", "हिन्दी\u200dक", "👩\u200d👩\u200d👧", "שלום", "e\u0301"):
        assert printing.one_line(text) == text
        assert columns.in_markdown(text) == text


def test_own_colours_pass_to_a_terminal_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    printing.put(columns.painted("fail", printing.RED) + ESC)
    assert capsys.readouterr().out == "\x1b[31mfail\x1b[0m\\x1b[2J\\x1b]0;title\\x07\\x9b31m\n"
    name = f"x{printing.RED}y"  # a colour of a name is none of ours
    score = Score("t", "m", "", 0.5, 0.4, 0.6, 200, 200, "all", 0)
    assert printing.RED not in formats.terminal([Cell(score, "r", name, ())], bold=True)


def test_wide_tables_of_strange_names_stay_tables() -> None:
    score = Score("t", "m", "", 0.5, 0.4, 0.6, 200, 200, "all", 3)
    cells = [Cell(score, str(i), f"{i}{STRANGE}", ()) for i in range(3)]
    text = formats.markdown(cells)
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 3
    assert all(sound(n) for n in map(columns.in_markdown, leaderboard.notes(cells)))
