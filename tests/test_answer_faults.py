"""Every kind of mistake of a file of predictions is told at once, by `score --predictions` and `replay:`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stub import colours

from evalkit.cli.main import main

RIGHT = [{"id": f"q{i}-0", "text": "red" if i % 2 else "blue"} for i in range(10)]
BROKEN = [
    *map(json.dumps, RIGHT[:2]), "{", json.dumps(RIGHT[0]), '{"id": "q7-0", "text": null}',
    '{"id": "q8-0", "text": ["a", "b"]}', '{"text": "red"}', json.dumps(RIGHT[1]), "3", "{,",
    '{"id": "q9-0", "text": null}', '{"id": 1.5, "text": "a"}',
]  # fmt: skip
NO_JSON = "is not valid JSON: {}Expecting property name enclosed in double quotes at column"
SAID = [
    f"line 3: {NO_JSON.format('it ends early; it is cut off (')} 1)",
    "line 4: id 'q0-0' is repeated; each id must occur once (the first of 2 such; also line 8)",
    "line 5: no \"text\" for id 'q7-0': it is null; it must be text (the first of 2 such; also line 11)",
    "line 6: no \"text\" for id 'q8-0': it is a list of 2; it must be text",
    "line 7: id: is missing; there are: text; it must be a sample's id, a number or text",
    'line 9: no "id"; a line is {"id": ..., "text": ...}',
    f"line 10: {NO_JSON.format('')} 2",
    "line 12: id: is 1.5; it must be a sample's id, a number or text",
]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return colours(tmp_path / "data", questions=1)


def told(task: Path, name: str, replay: bool, capsys: pytest.CaptureFixture[str]) -> list[str]:
    given = ["--data-root", str(task.parent)]
    words = (
        ["run", "--model", f"replay:{name}", "--tasks", str(task), *given]
        if replay
        else ["score", "--task", str(task), "--predictions", name, *given]
    )
    assert main(words) == 2
    return [line.removeprefix("evalkit: ") for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("replay", [False, True])
def test_all_kinds_are_told_with_their_count_and_places(
    replay: bool, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("answers.jsonl").write_text("\n".join(BROKEN) + "\n")
    assert told(task, "answers.jsonl", replay, capsys) == [f"answers.jsonl: {each}" for each in SAID]
    assert not Path("results").exists()


def test_ids_that_the_task_lacks(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = [{"id": name, "text": "a"} for name in ("q77-0", "Zoe", "x y", "other")]
    Path("answers.jsonl").write_text("\n".join(map(json.dumps, [*RIGHT, *more])))
    (said,) = told(task, "answers.jsonl", False, capsys)
    assert said.startswith("answers.jsonl: line 11: the task has no sample 'q77-0'; did you mean q7-0, ")
    assert said.endswith(" (the first of 4 such; also line 12, line 13, ...)")


@pytest.mark.parametrize("replay", [False, True])
def test_rows_of_another_length(replay: bool, task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text("id,text\nq0-0,blue\nq1-0\nq2-0,blue,red\nq3-0,red\nq0-0,red\n")
    assert told(task, "a.csv", replay, capsys) == [
        "a.csv: row 3: has 1 cells, the header 2 (the first of 2 such; also row 4)",
        "a.csv: row 6: id 'q0-0' is repeated; each id must occur once",
    ]


@pytest.mark.parametrize("replay", [False, True])
def test_what_comes_before_a_file_that_breaks_off_is_told_too(
    replay: bool, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.csv").write_text('id,text\nq0-0\nq1-0,"bl"ue\n')
    first, second = told(task, "a.csv", replay, capsys)
    assert first == "a.csv: row 2: has 1 cells, the header 2"
    assert second.startswith("a.csv: is not valid CSV (")


def test_records_of_a_run_that_are_no_numbers(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{**each, "tokens": ["x"]} if n in (2, 5) else each for n, each in enumerate(RIGHT)]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert told(task, "a.jsonl", True, capsys) == [
        "a.jsonl: line 3: tokens, logprobs, sizes and margin must be numbers (the first of 2 such; also "
        "line 6)"
    ]
