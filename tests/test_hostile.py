"""Answers and ids with whatever a model or a dataset may hold come back from every file as they were."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from stub import Stub, checkpoint, colours

from evalkit import files
from evalkit.cli.main import main
from evalkit.data import readers
from evalkit.errors import DataError
from evalkit.evaluation import evaluate, predict
from evalkit.evaluation import plan as planning
from evalkit.evaluation.given import read_predictions
from evalkit.exports import forms
from evalkit.exports.layouts import ExportedRun
from evalkit.models.replay import Replay
from evalkit.report.columns import csv_text
from evalkit.runs import journal_lines, scored_run
from evalkit.runs.journal_lines import Entry
from evalkit.runs.store import RunFolder
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Dataset, DatasetCache, Selection
from evalkit.types import Prediction

SEPARATORS = [*map(chr, (0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029)), "\r\n"]
HOSTILE = [
    *(f"a{sign}b" for sign in SEPARATORS),
    *(f"{sign}b{sign}" for sign in SEPARATORS),
    *("\x00", "\ufeffa", "a\ufeff", "\ufffd\uffff", "\x7f\x80\x9f", "\u202eabc", "e\u0301", "\U0001f600"),
    *("", " \t ", '"', "\\", '\\"', "\\n", "\\u2028", "'", ",", ";", "=1+1", "@x"),
    *('","crc":"00000000"}\n', '{"id": "q0-0"}'),
    *("\ud800", "\udcff.png", "a\udfffb", "\\\ud800"),
]  # fmt: skip
UNICODE = [text for text in HOSTILE if text == text.encode("utf-8", "replace").decode()]


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Dataset]:
    """A run whose answers are hostile, and so are those of its ids that may be."""
    file = colours(tmp_path / "data", questions=len(HOSTILE), images=1)
    datasets = DatasetCache([file.parent])
    data = datasets.get(loader.load(str(file)))
    texts = {s.id: text for s, text in zip(data.samples, HOSTILE, strict=True)}
    candidate = checkpoint(Stub(lambda request: texts[request.id]))
    plan = planning.plan(data, candidate, tmp_path / "out", Selection())
    predict.run([plan], predict.Session(candidate, datasets))
    return plan.folder.path, data


def texts_of(data: Dataset, found: Callable[[str], str]) -> list[str]:
    return [found(s.id) for s in data.samples]


def test_journal_and_rows(run: tuple[Path, Dataset]) -> None:
    folder, data = run
    entries = RunFolder(folder).entries()
    assert texts_of(data, lambda name: entries[name].prediction.text) == HOSTILE
    rows = {row["id"]: row for row in RunFolder(folder).read_rows()}
    assert texts_of(data, lambda name: rows[name]["text"]) == HOSTILE
    (scored,) = scored_run.read(folder)
    texts = dict(zip(scored.ids, scored.texts, strict=True))
    assert texts_of(data, texts.__getitem__) == HOSTILE
    for file in (folder / "rows.jsonl", folder / "predictions" / "0.jsonl"):
        assert file.read_bytes().count(b"\n") == len(HOSTILE)  # every other reader sees a line a sample too
        assert file.read_bytes().decode()


def test_a_run_is_compared_and_scored_again(run: tuple[Path, Dataset]) -> None:
    """One answer with U+2028 made rows.jsonl unreadable for good."""
    folder, _ = run
    before = (folder / "scores.json").read_bytes()
    assert main(["compare", str(folder), str(folder), "--samples", "3"]) == 0
    (folder / "scores.json").unlink()
    assert main(["score", str(folder)]) == 0
    assert (folder / "scores.json").read_bytes() == before


@pytest.mark.parametrize("name", ["base.json", "base.json.gz"])
def test_a_baseline(run: tuple[Path, Dataset], tmp_path: Path, name: str) -> None:
    scored_run.save(scored_run.read(run[0]), tmp_path / name)
    (saved,), (scored,) = scored_run.read(tmp_path / name), scored_run.read(run[0])
    assert (saved.ids, saved.texts) == (scored.ids, scored.texts)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_exported_lines_are_scored_and_replayed(
    run: tuple[Path, Dataset], tmp_path: Path, mark: str, end: str
) -> None:
    folder, data = run
    file = tmp_path / "p.jsonl"
    assert main(["export", str(folder), "--to", "jsonl", "--output", str(file)]) == 0
    file.write_bytes((mark + file.read_bytes().decode().replace("\n", end)).encode())
    read = read_predictions(str(file), data.samples)
    assert texts_of(data, lambda name: read[name].text) == HOSTILE
    recorded = Replay(file).recorded
    assert texts_of(data, lambda name: recorded[name].text) == HOSTILE
    task = ["--task", data.task.path, "--data-root", str(Path(data.task.path).parent)]
    assert main(["score", *task, "--predictions", str(file)]) == 0


def rows_of(text: str) -> csv.DictReader[str]:
    return csv.DictReader(io.StringIO(text, newline=""))


LISTS: dict[str, Callable[[str], dict[str, str]]] = {
    "textvqa": lambda text: {str(e["question_id"]): e["answer"] for e in json.loads(text)},
    "nocaps": lambda text: {str(e["image_id"]): e["caption"] for e in json.loads(text)},
    "gqa": lambda text: {e["questionId"]: e["prediction"] for e in json.loads(text)},
    "vatex": json.loads,
    "aokvqa": lambda text: {k: v["direct_answer"] for k, v in json.loads(text).items()},
    "molscribe": lambda text: {r["image_id"]: r["SMILES"] for r in rows_of(text)},
    "csv": lambda text: {r["id"]: r["text"] for r in rows_of(text)},
    "jsonl": lambda text: {e["id"]: e["text"] for e in map(json.loads, text.split("\n")[:-1])},
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_every_form(run: tuple[Path, Dataset], tmp_path: Path, name: str) -> None:
    """A form of texts holds them as they are; a spreadsheet's begin with ' where they were formulas. CSV has
    no way to say half a character: it stands there as JSON would write it."""
    folder, data = run
    numbers = {s.id: str(i) for i, s in enumerate(data.samples)}
    samples = tuple(dataset.replace(s, id=numbers[s.id]) for s in data.samples)
    given = {numbers[k]: e.prediction for k, e in RunFolder(folder).entries().items()}
    answered = ExportedRun("r", "m", dataset.replace(data, samples=samples), given)
    files.atomic_write(tmp_path / "f", forms.write([answered], name).text)
    found = LISTS[name]((tmp_path / "f").read_bytes().decode())
    wanted = HOSTILE
    if name in ("molscribe", "csv"):
        wanted = [files.encoded(text).decode() for text in HOSTILE]
    if name == "csv":
        wanted = ["'" + text if text[:1] in "=+-@\t\r" and text else text for text in wanted]
    assert [found[str(i)] for i in range(len(HOSTILE))] == wanted


def test_every_form_of_texts_is_tried() -> None:
    layouts = {form.layout for form in forms.FORMS.values()}
    assert layouts - {forms.FORMS[name].layout for name in LISTS} == {
        forms.BOXES, forms.MASKS, forms.WORDS, forms.PAIRS,  # no texts; NLVR2's are true or false
    }  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_line_of_a_journal(text: str) -> None:
    """Also as an id and a prompt."""
    entry = Entry(Prediction(text, text, text, (1, 2), stop=text), ("a.b",))
    line = journal_lines.encode(entry, "0" * 64)
    assert line.count(b"\n") == 1
    assert journal_lines.decode(line, "0" * 64, False) == entry


@pytest.mark.parametrize("text", HOSTILE)
def test_a_row_of_csv(text: str) -> None:
    rows = [["id", text], [text, "x"], ["end", ""]]
    assert list(csv.reader(io.StringIO(csv_text(rows, safe=False), newline=""))) == rows


def test_what_is_written_with_half_characters(tmp_path: Path) -> None:
    """A file's name that is no UTF-8 reaches reports and run.json in that way."""
    files.atomic_write(tmp_path / "a.json", json.dumps({"\udcff": "a\ud800"}, ensure_ascii=False))
    assert readers.read_json(tmp_path / "a.json") == {"\udcff": "a\ud800"}
    folder = RunFolder(tmp_path / "r")
    content = {"task": "t", "model": "m\udcff", "digest": "d", "identity": {}, "asked": {}, "task_file": {},
               "source": {"root": "/\udcff\u2028"}}  # fmt: skip
    folder.write_run(content)
    assert {**(folder.read_run() or {}), **content} == folder.read_run()


def test_hostile_ids_are_asked_once(tmp_path: Path) -> None:
    file = colours(tmp_path / "data", questions=1, images=len(UNICODE))
    lines = [json.loads(text) for text in (file.parent / "colours.jsonl").read_text().split("\n")[:-1]]
    named = [{**line, "id": f"{i}{text}"} for i, (line, text) in enumerate(zip(lines, UNICODE, strict=True))]
    (file.parent / "colours.jsonl").write_text("".join(json.dumps(line) + "\n" for line in named))
    datasets = DatasetCache([file.parent])
    data = datasets.get(loader.load(str(file)))
    asked = []
    for _ in range(2):
        model = Stub(lambda request: "red")
        plan = planning.plan(data, checkpoint(model), tmp_path / "out", Selection())
        predict.run([plan], predict.Session(checkpoint(model), datasets))
        asked.append(sorted(model.asked))
    assert asked == [sorted(s.id for s in data.samples), []]
    (scored,) = scored_run.read(plan.folder.path)
    assert sorted(scored.ids) == asked[0]


def test_lines_end_where_they_end(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffa\u2028\x85\x0b\x1cb\r\n\r\n\ufeffc\rd\n".encode())
    assert list(files.lines(file)) == [(1, "a\u2028\x85\x0b\x1cb"), (2, ""), (3, "\ufeffc\rd")]
    file.write_bytes(b'{"a": 1}\n\xff\n')
    with pytest.raises(DataError, match=r"lines.txt: line 2: is not UTF-8; save it as UTF-8"):
        list(readers.read_lines(file))
    (tmp_path / "ids.txt").write_bytes("\ufeffa\u2028b\r\n\nc\n".encode())
    assert evaluate._ids(tmp_path / "ids.txt") == ("a\u2028b", "c")


def test_no_other_reader_splits_lines() -> None:
    """`str.splitlines` ends a line at eight signs that may stand inside an answer."""
    package = Path(files.__file__).parent
    for path in package.rglob("*.py"):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if ".splitlines(" in line:
                assert "strip()" in line, f"{path}:{number}: use files.lines"  # the words of an error
            assert ".readlines(" not in line, f"{path}:{number}: use files.lines"
