"""Every kind of mistake of a dataset is told at once; `validate --data`, `data` and `run` say the same."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from official_files import OFFICIAL
from PIL import Image
from test_official_formats import source_of

from evalkit import registry
from evalkit.cli.main import main
from evalkit.data.faults import KINDS, Faults, Faulty
from evalkit.errors import DataError
from evalkit.tasks import loader

RECORDS: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = [
    # task, where its records are, and where a record's key is that is taken away
    ("pope_test", ("path.random",), ("label",)),
    ("gqa_testdev_balanced", ("path",), ("answer",)),
    ("nlvr2_test", ("path",), ("sentence",)),
    ("marvl_test", ("path.id",), ("caption",)),
    ("ai2d_test", ("questions", "0.png.json", "questions"), ("answerTexts",)),
    ("countbenchqa_test", ("questions",), ("question",)),
    ("ocrvqa_test", ("path",), ("questions",)),
    ("docvqa_val", ("path", "data"), ("answers",)),
    ("textvqa_val", ("path", "data"), ("image_id",)),
    ("chartqa_human_test", ("path",), ("label",)),
    ("coco35l_dev", ("path",), ("trg_lang",)),
    ("xm3600_test", ("path",), ("image/key",)),
    ("rsvqa_lr_test", ("questions", "questions"), ("question",)),
    ("pubtabnet_val", ("path",), ("html",)),
    ("activitynet_cap_test", ("path",), ("sentences",)),
    ("tallyqa_simple_test", ("path",), ("question",)),
    ("vqav2_val", ("questions", "questions"), ("image_id",)),
    ("cococap_val", ("path", "images"), ("sentences",)),
    ("refcoco_unc_val", ("refs",), ("sentences",)),
    ("coco_detection_val2017", ("path", "images"), ("file_name",)),
]
IDS = {"id", "question_id", "questionId", "identifier", "filename", "cocoid"}  # which no two may share


@pytest.mark.parametrize(("name", "place", "key"), RECORDS, ids=[name for name, *_ in RECORDS])
def test_every_format_tells_all_kinds_of_mistakes(
    name: str, place: tuple[Any, ...], key: tuple[Any, ...], tmp_path: Path
) -> None:
    files = copy.deepcopy(OFFICIAL[name])
    records: Any = files
    for part in place:
        records = records[part]
    wanted = [r for r in (records.values() if isinstance(records, dict) else records) if _counts(name, r)]
    broken = [copy.deepcopy(wanted[0]) for _ in range(2)]
    for n, each in enumerate(broken):
        del each[key[0]]
        for other in IDS & each.keys():
            each[other] = {"identifier": f"test1-0-1-{n + 7}"}.get(other, 900 + n)
    if isinstance(records, dict):
        records |= {"91": broken[0], "92": broken[1], "93": 7}
    else:
        records += [*broken, 7]
        if name == "countbenchqa_test":  # its questions and rows belong together by position
            files["table"] += [files["table"][0]] * 3
    task = loader.load(name)
    with pytest.raises(Faulty) as caught:
        list(
            registry.make("formats", task.data.format).samples(
                source_of(tmp_path, task, files), task.data.split
            )
        )
    said = caught.value.said
    (missing,) = (each for each in said if f"{key[0]}: is missing" in each)
    assert "(the first of 2 such; also " in missing, missing
    assert any("is a whole number; it must be an object" in each for each in said), said
    assert str(caught.value) == ". Also: ".join(said)


def _counts(name: str, record: Any) -> bool:
    """Whether a record is of the task's split."""
    split = {"ocrvqa_test": 3, "cococap_val": "val", "refcoco_unc_val": "val"}.get(name)
    return record.get("issimple") is not False and (split is None or record["split"] == split)


LINES = [
    '{"id": 1, "image": "a.png", "answer": "x"}',
    '{"id": 2, "image": "a.png", "answer": "x"',
    '{"id": 3, "image": "a.png", "answer": 5}',
    "",
    "not JSON at all",
    '{"id": 1, "image": "a.png", "answer": "x"}',
    '{"id": 4, "answer": "x"}',
    '{"id": 5, "image": "gone.png", "answer": "x"}',
    "[1, 2]",
    "what is this",
]
SAID = [
    "d.jsonl: line 2: is not valid JSON: it ends early; it is cut off",
    "d.jsonl: line 3.answer: is a whole number; it must be a string",
    "d.jsonl: line 5: is not valid JSON: Expecting value at column 1 (the first of 2 such; also line 10)",
    "d.jsonl: line 6: id '1' is repeated; ids must be unique",
    "d.jsonl: line 7.image: must be given",
    "d.jsonl: line 9: is a list; it must be an object",
    "1 of 2 image files is not there: ",
]


def test_the_same_words_by_validate_data_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    Path("d.jsonl").write_text("\n".join(LINES))
    Path("t.yaml").write_text(
        "version: 1\nabout: x\nlicense: x\ndata:\n  format: jsonl\n  split: test\n"
        "  sources: [{path: d.jsonl, images: .}]\nprompt: what\nparser: text\nmetrics: [exact_match]\n"
    )
    told = []
    for words, status in (
        (["data", "t.yaml", "--data-root", ".", "--check"], 1),
        (["validate", "t.yaml", "--data", "--data-root", "."], 2),
        (["run", "--model", "demo:later", "--tasks", "t.yaml", "--data-root", "."], 2),
    ):
        assert main(words) == status, words
        out, err = capsys.readouterr()
        every = [line.strip() for line in f"{out}\n{err}".split("\n")]
        heads = ("wrong    ", "evalkit: ")
        told.append([line[9:] for line in every if line.startswith(heads)])
    assert told[0] == told[1] == told[2]
    assert len(told[0]) == len(SAID)
    assert all(any(said in line for line in told[0]) for said in SAID), told[0]


def test_lines_that_are_no_json_are_told_of_a_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, line in (
        ("lines", {"image": "a.png", "prefix": "detect cat",
                   "suffix": "<loc0000><loc0000><loc0512><loc0512> cat"}),
        ("table", {"image": "a.png", "question": "what", "answer": "x"}),
        ("rows", {"image": "a.png", "objects": {"bbox": [[10, 1, 5, 9]], "category": ["cat"]}}),
        ("talks", {"image": "a.png", "conversations": [{"from": "human", "value": "what"},
                                                       {"from": "gpt", "value": "x"}]}),
    ):  # fmt: skip
        Path(folder).mkdir()
        Image.new("RGB", (16, 16)).save(f"{folder}/a.png")
        right = [json.dumps({**line, "id": n}) for n in range(3)]
        Path(folder, "test.jsonl").write_text("\n".join(["oh", *right, "no", "7"]))
        assert main(["data", folder]) == 1, folder
        looked = [line[11:] for line in capsys.readouterr().out.split("\n") if line.startswith("# wrong")]
        assert main(["run", "--model", "demo:later", "--data", folder]) == 2
        ran = [line[9:] for line in capsys.readouterr().err.split("\n") if line.startswith("evalkit: ")]
        assert (
            "test.jsonl: line 1: is not valid JSON: Expecting value at column 1 (the first of 2 such"
            in looked[0]
        )
        assert looked[0] == ran[0]


def test_many_kinds_are_counted_and_a_bound_is_kept() -> None:
    faults = Faults()
    for n in range(KINDS + 5):
        faults.add(f"d.jsonl: line {n}: {chr(97 + n) * 3}")
    assert len(faults.said()) == KINDS + 1
    assert faults.said()[-1] == "5 mistakes of other kinds"
    few = Faults(most=1)
    few.add("d: x")
    with pytest.raises(DataError, match="d: y"):
        few.add("d: y")
