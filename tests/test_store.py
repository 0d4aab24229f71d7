"""What is stored belongs to its run: foreign, damaged, edited and older files, and what mends them."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from stub import Stub, checkpoint, colours
from stub_runs import Weighted, as_schema_1

from evalkit import provenance
from evalkit.cli.main import main
from evalkit.errors import ResultsError, UserError
from evalkit.evaluation import estimate, predict, progress
from evalkit.evaluation import plan as planning
from evalkit.evaluation.plan import Plan
from evalkit.report import explain, leaderboard
from evalkit.runs import journal, journal_lines, scored_run, store
from evalkit.runs.journal_lines import Entry
from evalkit.runs.store import RunFolder
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Selection
from evalkit.types import Prediction, Request

ALL = [f"q{i}-{j}" for i in range(10) for j in range(2)]


def red(request: Request) -> str:
    return "red"


def blue(request: Request) -> str:
    return "blue"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return colours(tmp_path / "data")


def planned(task: Path, output: Path, model: Stub, name: str = "stub") -> tuple[Plan, predict.Session]:
    datasets = dataset.DatasetCache([task.parent])
    candidate = checkpoint(model, name)
    plan = planning.plan(datasets.get(loader.load(str(task))), candidate, output, Selection())
    return plan, predict.Session(candidate, datasets)


def ran(task: Path, output: Path, answer: Callable[[Request], str] = red, weights: str = "a") -> Path:
    """A finished run's folder."""
    plan, session = planned(task, output, Weighted(answer, weights))
    predict.run([plan], session)
    return plan.folder.path


def asked_by(
    task: Path, output: Path, answer: Callable[[Request], str] = red, weights: str = "a"
) -> list[str]:
    """Runs once more; the samples that the model was asked for."""
    model = Weighted(answer, weights)
    plan, session = planned(task, output, model)
    predict.run([plan], session)
    return model.asked


def value(folder: Path) -> float:
    return store.scores_of(RunFolder(folder))[0].value


# --- whose it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["0_old.jsonl", "1.jsonl", "0 (copy).jsonl", "-1.jsonl"])
def test_answers_of_another_checkpoint_are_left_aside_by_name(task: Path, tmp_path: Path, name: str) -> None:
    """Its file beside the run's own was taken: done, with the other's score."""
    other = ran(task, tmp_path / "other", lambda r: "red" if int(r.id[1]) % 2 else "blue", weights="b")
    mine = ran(task, tmp_path / "out")
    shutil.copy(other / "predictions" / "0.jsonl", mine / "predictions" / name)
    plan, session = planned(task, tmp_path / "out", Weighted(red, "a"))
    assert plan.missing == ()
    (said,) = plan.aside
    assert name in said
    assert other.name[-8:] in said or "no journal of evalkit's" in said
    predict.run([plan], session)
    assert (value(other), value(mine)) == (1.0, 0.5)


def test_a_journal_in_anothers_place_is_run_again(task: Path, tmp_path: Path) -> None:
    other = ran(task, tmp_path / "other", blue, weights="b")
    mine = ran(task, tmp_path / "out")
    shutil.copy(other / "predictions" / "0.jsonl", mine / "predictions" / "0.jsonl")
    assert sorted(asked_by(task, tmp_path / "out")) == ALL
    assert {e.prediction.text for e in RunFolder(mine).entries().values()} == {"red"}


def test_single_lines_of_another_run_are_run_again(task: Path, tmp_path: Path) -> None:
    other = ran(task, tmp_path / "other", blue, weights="b")
    mine = ran(task, tmp_path / "out")
    theirs, ours = (f / "predictions" / "0.jsonl" for f in (other, mine))
    lines = ours.read_bytes().split(b"\n")
    lines[3] = theirs.read_bytes().split(b"\n")[3]
    ours.write_bytes(b"\n".join(lines))
    plan, _ = planned(task, tmp_path / "out", Weighted(red, "a"))
    assert plan.missing == ("q1-1",)
    assert plan.aside == (f"{ours}: 1 line of another run, {other.name[-8:]}; left aside",)


def test_lines_that_claim_to_be_this_runs_are_not(task: Path, tmp_path: Path) -> None:
    """The checksum is over the whole digest, not over the eight digits that stand in the line."""
    other = ran(task, tmp_path / "other", blue, weights="b")
    mine = ran(task, tmp_path / "out")
    theirs, ours = (f / "predictions" / "0.jsonl" for f in (other, mine))
    names = [f.name[-8:].encode() for f in (other, mine)]
    ours.write_bytes(theirs.read_bytes().replace(names[0], names[1]))
    assert sorted(asked_by(task, tmp_path / "out")) == ALL


def test_a_folder_renamed_into_anothers_place_is_refused(task: Path, tmp_path: Path) -> None:
    other = ran(task, tmp_path / "out", blue, weights="b")
    mine = ran(task, tmp_path / "out")
    shutil.rmtree(mine)
    other.rename(mine)
    with pytest.raises(ResultsError, match=f"holds another run, {other.name}; rename it back") as refusal:
        planned(task, tmp_path / "out", Weighted(red, "a"))
    assert str(mine) in str(refusal.value)
    mine.rename(other)
    assert asked_by(task, tmp_path / "out", blue, "b") == []


def test_a_renamed_folder_is_still_read(task: Path, tmp_path: Path) -> None:
    mine = ran(task, tmp_path / "out")
    renamed = mine.rename(tmp_path / "kept")
    assert value(renamed) == 0.5
    assert len(RunFolder(renamed).entries()) == 20


def test_scores_of_another_run_are_written_again(task: Path, tmp_path: Path) -> None:
    other = ran(task, tmp_path / "other", blue, weights="b")
    mine = ran(task, tmp_path / "out")
    for name in ("scores.json", "rows.jsonl"):
        shutil.copy(other / name, mine / name)
    with pytest.raises(ResultsError, match=f"scores.json: is of another run; `evalkit score {mine}` writes"):
        store.scores_of(RunFolder(mine), RunFolder(mine).read_run())
    assert asked_by(task, tmp_path / "out") == []
    assert '"text": "red"' in (mine / "rows.jsonl").read_text()


def test_a_copy_of_the_journal_beside_it_does_not_outlive_it(task: Path, tmp_path: Path) -> None:
    """A copy of the run's own answers is its own; what was asked again since then is not undone by it."""
    mine = ran(task, tmp_path / "out")
    shutil.copy(mine / "predictions" / "0.jsonl", mine / "predictions" / "1.jsonl")
    picture = tmp_path / "data" / "pictures" / "4.png"
    shutil.copy(tmp_path / "data" / "pictures" / "5.png", picture)
    assert asked_by(task, tmp_path / "out", lambda r: "blue") == ["q4-0", "q4-1"]
    assert asked_by(task, tmp_path / "out") == []
    assert RunFolder(mine).entries()["q4-0"].prediction.text == "blue"


def test_what_is_left_aside_is_said(task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = ran(task, tmp_path / "out")
    shutil.copy(mine / "predictions" / "0.jsonl", mine / "predictions" / "0_old.jsonl")
    plan, session = planned(task, tmp_path / "out", Weighted(red, "a"))
    progress.plan(session.checkpoint, [plan])
    assert "warning: colours_test: " in (said := capsys.readouterr().err)
    assert "0_old.jsonl: is no journal of evalkit's; left aside" in said


# --- older runs -----------------------------------------------------------------------------------


def test_older_lines_count_only_in_the_run_that_had_them(task: Path, tmp_path: Path) -> None:
    """Their checksums name no run: in a newer run they could be anyone's."""
    other = ran(task, tmp_path / "other", blue, weights="b")
    as_schema_1(other)
    mine = ran(task, tmp_path / "out")
    shutil.copy(other / "predictions" / "0.jsonl", mine / "predictions" / "0.jsonl")
    plan, _ = planned(task, tmp_path / "out", Weighted(red, "a"))
    assert len(plan.missing) == 20
    assert "20 lines of an older evalkit, which do not say of which run they are; left aside" in plan.aside[0]


def test_an_older_run_is_gone_on_with(task: Path, tmp_path: Path) -> None:
    mine = ran(task, tmp_path / "out")
    before = value(mine)
    as_schema_1(mine)
    journal = mine / "predictions" / "0.jsonl"
    journal.write_bytes(b"\n".join(journal.read_bytes().split(b"\n")[:15]) + b"\n")
    assert len(asked_by(task, tmp_path / "out")) == 5
    assert asked_by(task, tmp_path / "out") == []
    run = RunFolder(mine).read_run() or {}
    assert run["seal"]
    assert 0 < run["unsealed"]["0.jsonl"] < journal.stat().st_size
    assert value(mine) == before
    older = journal.read_bytes()[: run["unsealed"]["0.jsonl"]]
    journal.write_bytes(journal.read_bytes() + older)  # later ones must name the run
    assert planned(task, tmp_path / "out", Weighted(red, "a"))[0].aside[0].startswith(f"{journal}: 15 lines")


@pytest.mark.parametrize("damage", ['"schema": 9', "x", "{", "", "cut"])
def test_an_older_runs_answers_outlive_its_run_json(task: Path, tmp_path: Path, damage: str) -> None:
    """As long as it still holds the digest: else nothing says whose they are."""
    mine = ran(task, tmp_path / "out")
    as_schema_1(mine)
    text = (mine / "run.json").read_text()
    cut = text[: text.index('"digest"')]
    (mine / "run.json").write_text(cut if damage == "cut" else damage + text[12:])
    if damage.startswith('"'):
        (mine / "run.json").write_text(text.replace('"asked"', '"esked"'))
    assert len(asked_by(task, tmp_path / "out")) == (20 if damage == "cut" else 0)
    assert asked_by(task, tmp_path / "out") == []
    assert value(mine) == 0.5


# --- damage, and what mends it --------------------------------------------------------------------


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def reading(folder: Path) -> list[str]:
    """What every way of reading a run says of it; ['', ...] where nothing is wrong."""
    said = []
    for read in (leaderboard.collect, scored_run.of_runs, lambda f: explain.explained([f[0].path], None)):
        try:
            read([RunFolder(folder)])
            said.append("")
        except UserError as error:
            said.append(str(error))
    return said


@pytest.mark.parametrize("name", ["run.json", "scores.json", "rows.jsonl"])
def test_no_flipped_bit_is_read_as_if_it_were_whole(task: Path, tmp_path: Path, name: str) -> None:
    """One bit in every hundred and a few: a flip is a sentence that names the file, or changes no content
    (a blank that is another blank)."""
    mine = ran(task, tmp_path / "out")
    file = mine / name
    whole, silent = file.read_bytes(), 0
    content = None if name == "rows.jsonl" else json.loads(whole)
    for bit in range(3, 8 * len(whole), 8 * len(whole) // 150):
        file.write_bytes(flipped(whole, bit))
        said = reading(mine)
        if name == "rows.jsonl":
            assert said[0] == said[2] == ""  # neither reads them
            assert name in said[1]
        elif not any(said):
            silent += 1
            assert json.loads(file.read_bytes()) == content
        else:
            assert all(str(file) in one or name in one for one in said)
    assert silent < 10
    file.write_bytes(whole)
    assert reading(mine) == ["", "", ""]


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


EDITS: list[Callable[[Path], None]] = [
    lambda f: edit(f / "scores.json", '"value": 0.5', '"value": 0.7'),
    lambda f: edit(f / "scores.json", '"coverage": "all"', '"coverage": "limited"'),
    lambda f: edit(f / "scores.json", '"schema": 2', '"schema": 3'),
    lambda f: edit(f / "scores.json", '"seal"', '"sea1"'),
    lambda f: edit(f / "rows.jsonl", '"exact_match": [1.0', '"exact_match": [0.0'),
    lambda f: edit(f / "rows.jsonl", '"text": "red"', '"text": "rot"'),
    lambda f: (f / "rows.jsonl").write_text("".join((f / "rows.jsonl").read_text().splitlines(True)[1:])),
    lambda f: (f / "rows.jsonl").write_text(""),
    lambda f: (f / "rows.jsonl").unlink(),
    lambda f: (f / "scores.json").write_text(""),
    lambda f: (f / "scores.json").write_text("[" * 100_000),
    lambda f: (f / "scores.json").write_bytes(b"\xff\xfe\x00"),
    lambda f: (f / "scores.json").write_text((f / "scores.json").read_text()[:-40]),
    lambda f: (f / "scores.json").unlink(),
]  # fmt: skip


@pytest.mark.parametrize("change", EDITS)
@pytest.mark.parametrize("verb", ["score", "run"])
def test_scores_and_rows_are_mended_by_score_and_by_run(
    task: Path, tmp_path: Path, change: Callable[[Path], None], verb: str
) -> None:
    mine = ran(task, tmp_path / "out")
    names = ("scores.json", "rows.jsonl")
    before = [(mine / n).read_bytes() for n in names]
    change(mine)
    said = [s for s in reading(mine) if s]
    assert said or not (mine / "scores.json").exists()
    assert all(f"`evalkit score {mine}`" in s for s in said)
    if verb == "score":
        assert main(["score", str(mine)]) == 0
    else:
        assert asked_by(task, tmp_path / "out") == []
    assert [(mine / n).read_bytes() for n in names] == before
    assert reading(mine) == ["", "", ""]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.write_text(""),
        lambda f: f.write_text(f.read_text()[:-40]),
        lambda f: f.write_text("{" * 50_000),
        lambda f: edit(f, '"protocol": "paper"', '"protocol": "hf"'),
        lambda f: edit(f, '"digest": "', '"digest": "0'),
        lambda f: edit(f, '"schema"', '"schemb"'),
        lambda f: f.unlink(),
    ],
)
@pytest.mark.parametrize("kept", [20, 7])
def test_run_json_is_mended_by_the_same_run(
    task: Path, tmp_path: Path, change: Callable[[Path], None], kept: int
) -> None:
    """Whether all is answered or a part: nothing of it is asked again, and the run is in the table."""
    mine = ran(task, tmp_path / "out")
    journal = mine / "predictions" / "0.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(True)[:kept]))
    gone = (mine / "run.json").read_text()
    change(mine / "run.json")
    damaged = (mine / "run.json").read_text() if (mine / "run.json").exists() else None
    if damaged is not None:
        assert all("run.json" in s and "the `evalkit run` command that made it" in s for s in reading(mine))
    assert len(asked_by(task, tmp_path / "out")) == 20 - kept
    assert asked_by(task, tmp_path / "out") == []
    run = RunFolder(mine).read_run() or {}
    for key in ("digest", "identity", "asked", "task_file", "model"):
        assert run[key] == json.loads(gone)[key]
    assert len(run["sessions"]) == 1
    assert [c.score.n for c in leaderboard.collect(store.find([tmp_path / "out"]))] == [20]
    if damaged is not None:
        assert (mine / "run.json.damaged").read_text() == damaged


def test_what_own_code_had_read_is_not_known_without_run_json(task: Path, tmp_path: Path) -> None:
    """Its files decided its answers and stood in run.json alone: it is asked again."""
    own = tmp_path / "own.py"
    own.write_text(
        "class Red:\n    def answer(self, image, prompt, max_new_tokens):\n        return 'red'\n"
        "    @staticmethod\n    def identity():\n        return {'w': 1}\n"
    )
    words = ["run", "--model", f"module:{own}:Red", "--tasks", str(task), "--data-root",
             str(task.parent), "--output-path", str(tmp_path / "out"), "--allow-code"]  # fmt: skip
    assert main(words) == 0
    (mine,) = (tmp_path / "out").iterdir()
    journal = mine / "predictions" / "0.jsonl"
    (mine / "run.json").unlink()
    assert main(words) == 0
    assert len(journal.read_bytes().splitlines()) == 40
    assert main(words) == 0
    assert len(journal.read_bytes().splitlines()) == 40


def test_a_file_of_another_version_is_not_overwritten(task: Path, tmp_path: Path) -> None:
    mine = ran(task, tmp_path / "out")
    for text, said in (('{"schema": 3}', "newer evalkit"), ('{"a": 1}', "not a file of evalkit's")):
        (mine / "run.json").write_text(text)
        with pytest.raises(ResultsError, match=said):
            planned(task, tmp_path / "out", Weighted(red, "a"))
        assert (mine / "run.json").read_text() == text


def test_how_a_file_is_laid_out_is_not_in_its_seal(task: Path, tmp_path: Path) -> None:
    """`jq -S`, other line ends and a byte order mark change no content."""
    mine = ran(task, tmp_path / "out")
    for name in ("run.json", "scores.json"):
        content = json.loads((mine / name).read_text())
        text = json.dumps(content, sort_keys=True, indent=4).replace("\n", "\r\n")
        (mine / name).write_bytes(text.encode("utf-8-sig"))
    assert reading(mine) == ["", "", ""]


def test_a_journal_of_which_nothing_is_left_is_asked_again(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a power cut leaves it: as long as it was, and all zero."""
    mine = ran(task, tmp_path / "out")
    whole = (mine / "scores.json").read_bytes()
    part = mine / "predictions" / "0.jsonl"
    part.write_bytes(bytes(part.stat().st_size))
    assert main(["score", str(mine), "--data-root", str(task.parent)]) == 2
    assert "its answers are gone or damaged; the `evalkit run` command" in capsys.readouterr().err
    assert ran(task, tmp_path / "out") == mine
    assert (mine / "scores.json").read_bytes() == whole


def test_a_damaged_run_does_not_stop_an_estimate(task: Path, tmp_path: Path) -> None:
    mine = ran(task, tmp_path / "out")
    (mine / "run.json").write_text("{")
    plan, session = planned(task, tmp_path / "out", Weighted(red, "b"))
    assert estimate.estimate(plan, session.datasets, session.checkpoint, tmp_path / "out").samples == 20


# --- lines that are whole and yet none ------------------------------------------------------------


def line(digest: str, text: str) -> bytes:
    """A journal's line of any content, with the right checksum."""
    data = text.encode()
    return data + b',"crc":"%08x"}\n' % zlib.crc32(data, zlib.crc32(digest.encode()))


GOOD = {
    "id": "q1-1",
    "prompt": "answer en question 1?",
    "text": "red",
    "image_digests": ["0"],
    "sizes": [[8, 8]],
}
STRANGE: list[Any] = [
    None,
    True,
    3,
    3.5,
    "x",
    [],
    [1],
    ["x"],
    [[1, 2, 3]],
    [[1.5, 2]],
    {},
    {"a": 1},
    [None],
    [[]],
]
WRONG = [
    json.dumps({**GOOD, key: value})
    for key in ("id", "prompt", "text", "tokens", "logprobs", "stop", "margin", "image_digests", "sizes")
    for value in STRANGE
    if (key, value) != ("logprobs", [None])  # JSON's only way to say minus infinity
]
ODD = [
    *(json.dumps({k: v for k, v in GOOD.items() if k != key}) for key in ("id", "prompt", "text")),
    json.dumps({**GOOD, "stamps": None}), json.dumps({**GOOD, "stamps": 3}),
    *("{}", "[]x", "3x", '"a"x', "nullx", "x", '{"id": "q1-1"', "{" * 50_000, '{"id":' + "[" * 50_000),
    '{"id":' + "[" * 50_000 + "]" * 50_000 + "}", '{"id": 1e999}', '{"tokens": [' + "9" * 5000 + "]}",
    '{"id": "q1-1", "text": "\\ud8"}', '{"id": "q1-1", "id": 3, "prompt": "", "text": ""}',
    "\x00}", "\ufeff{}",
]  # fmt: skip


def fits(text: str) -> bool:
    """Whether it is a line that evalkit could have written."""
    try:
        content = json.loads(text)
        Prediction(**content)
        lists = {key: content.get(key, []) for key in ("tokens", "image_digests", "sizes")}
        lists["logprobs"] = [] if content.get("logprobs") is None else content["logprobs"]
        return (
            all(type(content.get(k, "")) is str for k in ("id", "prompt", "text", "stop"))
            and all(type(found) is list for found in lists.values())
            and all(type(t) is int for t in lists["tokens"])
            and all(type(n) in (int, float) for n in lists["logprobs"])
            and type(content.get("margin")) in (int, float, type(None))
            and all(type(d) is str for d in lists["image_digests"])
            and all(type(s) is list and [type(n) for n in s] == [int, int] for s in lists["sizes"])
        )
    except Exception:
        return False


def test_lines_of_wrong_kinds_are_dropped_as_torn_ones_are(task: Path, tmp_path: Path) -> None:
    """Ten of 82 such lines were tracebacks."""
    mine = ran(task, tmp_path / "out")
    digest = (RunFolder(mine).read_run() or {})["digest"]
    file = mine / "predictions" / "0.jsonl"
    whole = [one for one in file.read_bytes().splitlines(True) if b'"id":"q1-1"' not in one]
    texts = [text for text in (*WRONG, *ODD) if not fits(text)]
    assert len(texts) > 100
    for text in texts:
        assert not isinstance(journal_lines.decode(line(digest, text[:-1]), digest, False), Entry), text[:80]
    file.write_bytes(b"".join(whole) + b"".join(line(digest, text[:-1]) for text in texts))
    assert asked_by(task, tmp_path / "out") == ["q1-1"]
    assert asked_by(task, tmp_path / "out") == []
    assert value(mine) == 0.5


def test_lines_of_right_kinds_are_taken() -> None:
    for text in (t for t in (*WRONG, json.dumps(GOOD)) if fits(t)):
        assert isinstance(journal_lines.decode(line("d", text[:-1]), "d", False), Entry), text


def test_a_line_of_another_version_is_named(task: Path, tmp_path: Path) -> None:
    mine = ran(task, tmp_path / "out")
    digest = (RunFolder(mine).read_run() or {})["digest"]
    file = mine / "predictions" / "0.jsonl"
    newer = line(digest, json.dumps({**GOOD, "thoughts": "hm", "ears": 2})[:-1])
    lines = [newer if b'"id":"q1-1"' in one else one for one in file.read_bytes().splitlines(True)]
    file.write_bytes(b"".join(lines))
    plan, _ = planned(task, tmp_path / "out", Weighted(red, "a"))
    assert plan.missing == ("q1-1",)
    assert plan.aside == (
        f"{file}: 1 line of another version of evalkit, with 'ears', 'thoughts'; left aside",
    )


@pytest.mark.parametrize("name", ["scores.json", "rows.jsonl", "run.json"])
def test_older_files_of_wrong_kinds_are_a_sentence(task: Path, tmp_path: Path, name: str) -> None:
    """Without a seal only the shape can tell. None is a traceback, and `score` mends what it writes."""
    mine = ran(task, tmp_path / "out")
    as_schema_1(mine)
    assert reading(mine) == ["", "", ""]
    file = mine / name
    whole = file.read_text()
    first = json.loads(whole if name != "rows.jsonl" else whole.split("\n")[0])
    for key in first:
        for odd in (None, 0.5, "x", [3], {"a": 3}, "gone"):
            content = {**first, key: odd}
            if odd == "gone":
                del content[key]
            text = json.dumps(content)
            file.write_text(text if name != "rows.jsonl" else whole.replace(whole.split("\n")[0], text))
            said = reading(mine)  # raises where it is no sentence
            assert all(str(mine) in s for s in said if s), (key, odd, said)
            if name != "run.json":
                assert main(["score", str(mine)]) == 0
                assert reading(mine) == ["", "", ""], (key, odd)
                as_schema_1(mine)


# --- other questions under the same ids -----------------------------------------------------------


def lines_of(task: Path) -> list[dict[str, Any]]:
    return [json.loads(one) for one in (task.parent / "colours.jsonl").read_text().splitlines()]


def rewritten(task: Path, lines: list[dict[str, Any]]) -> None:
    (task.parent / "colours.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def asking(task: Path) -> None:
    rewritten(
        task, [{**one, "question": f"{one['question']} or not?", "answers": ["no"]} for one in lines_of(task)]
    )


def by_place(task: Path) -> None:
    """The same lines in another order, where ids are places; all prompts are alike, as captions' are."""
    lines = lines_of(task)
    moved = lines[2:] + lines[:2]
    rewritten(task, [{**new, "id": old["id"]} for old, new in zip(lines, moved, strict=True)])


def cut(task: Path) -> None:
    rewritten(task, lines_of(task)[:-3])


def grown(task: Path) -> None:
    rewritten(task, [*lines_of(task), {**lines_of(task)[0], "id": "new"}])


def repainted(task: Path) -> None:
    for i in range(1, 10):
        shutil.copy(task.parent / "pictures" / "0.png", task.parent / "pictures" / f"{i}.png")


CHANGES: dict[Callable[[Path], None], str] = {
    asking: r"sample q0-0 \(20 of 20 answers\): was asked 'answer en question 0\?', not '",
    by_place: r"sample q0-0 \(20 of 20 answers\): had another image than it has now",
    cut: r"sample q8-1 \(3 of 20 answers\): colours_test does not have it now",
    grown: "colours_test has other samples now",
    repainted: r"sample q1-0 \(18 of 20 answers\): had another image than it has now",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_old_answers_are_not_scored_as_answers_to_other_questions(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None]
) -> None:
    """100 became 0.0 without a word, and 50.0 where the places had moved."""
    mine = ran(task, tmp_path / "out", lambda r: "red" if int(r.id[1]) % 2 else "blue")
    before = [(mine / name).read_bytes() for name in ("scores.json", "rows.jsonl")]
    change(task)
    (mine / "scores.json").unlink()
    assert main(["score", str(mine)]) == 2
    err = capsys.readouterr().err
    assert re.search(f"{mine.name}: {CHANGES[change]}", err)
    assert "run it again, or give the data that it was run on with --data-root" in err
    exported = main(["export", str(mine), "--to", "jsonl", "--allow-partial"])
    assert exported == (0 if change is grown else 2)
    shutil.rmtree(tmp_path / "data")
    colours(tmp_path / "data")
    assert main(["score", str(mine)]) == 0
    assert [(mine / name).read_bytes() for name in ("scores.json", "rows.jsonl")] == before


def test_other_targets_of_the_same_questions_are_scored(task: Path, tmp_path: Path) -> None:
    mine = ran(task, tmp_path / "out")
    rewritten(task, [{**one, "answers": ["red"]} for one in lines_of(task)])
    assert main(["score", str(mine)]) == 0
    assert value(mine) == 1.0


def test_answers_are_scored_where_the_images_are_not(task: Path, tmp_path: Path) -> None:
    mine = ran(task, tmp_path / "out")
    (mine / "scores.json").unlink()
    for picture in (task.parent / "pictures").iterdir():
        picture.unlink()
    assert main(["score", str(mine)]) == 0
    assert value(mine) == 0.5


def test_another_prompt_of_the_task_is_another_question(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = ran(task, tmp_path / "out")
    assert main(["score", str(mine), "--set", "prompt=caption en"]) == 2
    assert "was asked 'answer en question 0?', not 'caption en'" in capsys.readouterr().err
    assert main(["score", str(mine), "--set", "metrics=[exact_match(lowercase=True)]"]) == 0


def test_an_older_run_is_scored_though_its_digest_of_prompts_was_made_otherwise(
    task: Path, tmp_path: Path
) -> None:
    mine = ran(task, tmp_path / "out")
    content = RunFolder(mine).read_run() or {}
    RunFolder(mine).write_run({**content, "identity": {**content["identity"], "prompts": "0" * 64}})
    assert main(["score", str(mine)]) == 2
    as_schema_1(mine)
    assert main(["score", str(mine)]) == 0
    asking(task)
    assert main(["score", str(mine)]) == 2


# --- two processes, two folders -------------------------------------------------------------------


def test_what_another_process_answered_since_the_plan_is_not_asked_again(task: Path, tmp_path: Path) -> None:
    """It was planned while the first one was at its seventh answer: 132 of 284 were computed twice."""
    stale: list[tuple[Plan, predict.Session]] = []
    second = Weighted(red, "a")

    def answer(request: Request) -> str:
        if request.id == "q3-0":
            stale.append(planned(task, tmp_path / "out", second))
        return "red"

    mine = ran(task, tmp_path / "out", answer)
    ((plan, session),) = stale
    assert len(plan.missing) == 14
    before = (mine / "run.json").read_bytes()
    predict.run([plan], session)
    assert second.asked == []
    assert (mine / "run.json").read_bytes() == before


@pytest.mark.parametrize("at", ["when its model is loaded", "when it holds the journal"])
def test_the_plan_is_looked_at_again_under_the_lock(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    second = Weighted(red, "a")
    plan, session = planned(task, tmp_path / "out", second)
    others: list[Path] = []

    def meanwhile() -> None:
        if not others:
            others.append(tmp_path)
            others.append(ran(task, tmp_path / "out"))

    if at == "when its model is loaded":
        load = session.checkpoint.load
        session = replace(
            session, checkpoint=replace(session.checkpoint, load=lambda p: (meanwhile(), load(p))[1])
        )
    else:
        enter = journal.Journal.__enter__
        monkeypatch.setattr(journal.Journal, "__enter__", lambda self: (meanwhile(), enter(self))[1])
    predict.run([plan], session)
    assert second.asked == []
    assert len((others[1] / "predictions" / "0.jsonl").read_bytes().splitlines()) == 20


def test_the_rest_of_a_stopped_run_is_asked_by_a_stale_plan(task: Path, tmp_path: Path) -> None:
    second = Weighted(red, "a")
    stale, session = planned(task, tmp_path / "out", second)
    first, other = planned(task, tmp_path / "out", Weighted(red, "a"))
    cast(Stub, other.model("paper")).die_after = 7
    with pytest.raises(KeyboardInterrupt):
        predict.run([first], other)
    predict.run([stale], session)
    assert len(second.asked) == 13
    assert value(stale.folder.path) == 0.5


def test_a_stale_plan_makes_nothing_smaller(task: Path, tmp_path: Path) -> None:
    """It was limited and planned before the whole run was there."""
    datasets = dataset.DatasetCache([task.parent])
    model = Weighted(red, "a")
    candidate = checkpoint(model, "stub")
    data = datasets.get(loader.load(str(task)))
    stale = planning.plan(data, candidate, tmp_path / "out", Selection(limit=3))
    mine = ran(task, tmp_path / "out")
    predict.run([stale], predict.Session(candidate, datasets))
    assert model.asked == []
    assert (RunFolder(mine).read_run() or {})["asked"]["limit"] is None
    assert store.scores_of(RunFolder(mine))[0].coverage == "all"


def test_other_libraries_since_the_plan_must_be_asked_for(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale, session = planned(task, tmp_path / "out", Weighted(red, "a"))
    first, other = planned(task, tmp_path / "out", Weighted(red, "a"))
    cast(Stub, other.model("paper")).die_after = 7
    with pytest.raises(KeyboardInterrupt):
        predict.run([first], other)
    monkeypatch.setattr(provenance, "versions", lambda: {"torch": "9.9"})
    with pytest.raises(ResultsError, match="--resume-across"):
        predict.run([stale], session)


def test_a_copy_of_a_run_is_no_second_column(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name stood there twice."""
    monkeypatch.chdir(tmp_path)
    mine = ran(task, tmp_path / "out")
    ran(task, tmp_path / "out", blue, weights="b")
    for copy in ("a copy", "backup/" + mine.name):
        shutil.copytree(mine, tmp_path / "out" / copy)
    with pytest.warns(UserWarning, match="is a copy of") as warned:
        cells = leaderboard.collect(store.find([tmp_path / "out"]))
    assert sorted(cell.run for cell in cells) == sorted(f.name for f in (tmp_path / "out").glob("*.*"))
    copies = [tmp_path / "out" / name for name in (f"backup/{mine.name}", "a copy")]
    assert [str(w.message) for w in warned] == [f"{c}: is a copy of {mine}; left out" for c in copies]
    with pytest.warns(UserWarning, match="is a copy of"):
        assert len(scored_run.read(tmp_path / "out")) == 2
    assert main(["table", "out"]) == 0
    assert (
        f"evalkit: warning: out/a copy: is a copy of out/{mine.name}; left out\n" in capsys.readouterr().err
    )


def test_a_copy_that_was_gone_on_with_is_named_by_its_folder(task: Path, tmp_path: Path) -> None:
    datasets = dataset.DatasetCache([task.parent])
    candidate = checkpoint(Weighted(red, "a"), "stub")
    data = datasets.get(loader.load(str(task)))
    plan = planning.plan(data, candidate, tmp_path / "out", Selection(limit=3))
    predict.run([plan], predict.Session(candidate, datasets))
    shutil.copytree(plan.folder.path, tmp_path / "out" / "earlier")
    ran(task, tmp_path / "out")
    cells = leaderboard.collect(store.find([tmp_path / "out"]))
    assert {c.model: c.score.n for c in cells} == {f"stub [{plan.folder.name}]": 20, "stub [earlier]": 6}


def test_the_same_weights_under_two_names_are_two_columns(task: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        plan, session = planned(task, tmp_path / "out", Weighted(red, "a"), name)
        predict.run([plan], session)
    assert [c.model for c in leaderboard.collect(store.find([tmp_path / "out"]))] == ["one", "two"]
    assert len(scored_run.read(tmp_path / "out")) == 2
