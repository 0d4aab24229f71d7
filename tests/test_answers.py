"""Answers made elsewhere, in the files and under the keys that other tools write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.cli.main import main
from evalkit.data import answers
from evalkit.errors import DataError, nearest

WANTED = [("7", "a dog; \u2028 two\tcats"), ("8", "2")]


def as_lines(id_key: str, text_key: str, mark: str = "") -> str:
    return mark + "".join(json.dumps({id_key: i, text_key: t}, ensure_ascii=False) + "\n" for i, t in WANTED)


FILES = {
    "a.jsonl": as_lines("id", "text"),
    "bom.jsonl": as_lines("id", "text", "\ufeff"),
    "vqa.json": json.dumps([{"question_id": 7, "answer": WANTED[0][1]}, {"question_id": 8, "answer": 2}]),
    "coco.json": json.dumps({"annotations": [{"image_id": int(i), "caption": t} for i, t in WANTED]}),
    "by_id.json": json.dumps(dict(WANTED)),
    "list.txt": json.dumps([{"id": i, "prediction": [t]} for i, t in WANTED]),
    "vlmeval.tsv": 'index\tprediction\n7\t"' + WANTED[0][1] + '"\n8\t2\n',
    "a.csv": 'question_id,extra,answer\n7,x,"' + WANTED[0][1] + '"\n8,y,2\n',
    "excel.csv": '\ufeffquestion_id;"seen, or not";answer\r\n7;x;"' + WANTED[0][1] + '"\r\n8;y;2\r\n',
    "tabs.csv": 'index\tprediction; of it\tprediction\n7\tx\t"' + WANTED[0][1] + '"\n8\ty\t2\n',
    "commas.csv": 'id,"seen; a\tb; c",text\n7,x,"' + WANTED[0][1] + '"\n8,y,2\n',
    "commas.tsv": 'id,text\n7,"' + WANTED[0][1] + '"\n8,2\n',
}


@pytest.mark.parametrize("name", FILES)
def test_every_form_gives_the_same_answers(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    assert [(i, text) for _, i, text, _ in answers.read(tmp_path / name)] == WANTED


def test_keys_that_are_named_count_before_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "no", "uid": "u1", "pred": "yes"}\n')
    assert [(i, t) for _, i, t, _ in answers.read(tmp_path / "a.jsonl", ("uid", "pred"))] == [("u1", "yes")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"uid": 1, "text": "a"}\n', r'line 1: no "id" among its keys \(uid, text\); .* --keys ID,TEXT'),
        ('{"id": 1, "pred": "a"}\n', r'line 1: no "text" among its keys \(id, pred\)'),
        ('{"id": 1, "text": "a"}\n{"id": 2, "text": null}\n', r'line 2: no "text" for id 2: it is null'),
        (
            '{"id": 1, "text": ["a", "b"]}\n',
            r'line 1: no "text" for id 1: it is a list of 2; it must be text',
        ),
        ('{"id": 1, "text": true}\n', r'line 1: no "text" for id 1: it is True'),
        ('{"id": 1.5, "text": "a"}\n', r"line 1: id: is 1.5; it must be a sample's id"),
        ('{"id": 1, "text": "a"}\n{"text": "b"}\n', r"line 2: id: is missing"),
        ("3\n", r'line 1: no "id"'),
        ("[1]\n", r'\[0\]: no "id"'),
    ],
)
def test_what_is_no_answer_is_said_with_its_place(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=said):
        list(answers.read(tmp_path / "a.jsonl"))


def test_score_and_replay_take_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    data = [{"id": i, "image": "a.png", "question": "what?", "answer": t} for i, t in WANTED]
    Path("d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in data))
    Path("t.yaml").write_text(
        "version: 1\nabout: x\nlicense: y\ndata: {format: jsonl, split: test, sources: [{path: d.jsonl}]}\n"
        'prompt: "answer en {question}"\nparser: text\nmetrics: [exact_match]\n'
    )
    Path("p.tsv").write_text(FILES["vlmeval.tsv"].replace("index\tprediction", "uid\tpred"))
    command = ["score", "--task", "t.yaml", "--data-root", ".", "--predictions", "p.tsv"]
    assert main(command) == 2
    assert 'p.tsv: row 2: no "id" among its keys (uid, pred)' in capsys.readouterr().err
    assert main([*command, "--keys", "uid,pred"]) == 0
    assert "100.0" in capsys.readouterr().out
    Path("p.csv").write_text('id;text\n7;"' + WANTED[0][1] + '"\n8;2\n')
    assert main([*command[:-1], "p.csv"]) == 0
    assert "p.csv: its cells are separated by semicolons" in capsys.readouterr().err
    assert main([*command, "--keys", "uid"]) == 2
    assert "--keys uid: write two keys" in capsys.readouterr().err
    Path("q.tsv").write_text(FILES["vlmeval.tsv"])
    assert main(["run", "--model", "replay:q.tsv", "--tasks", "t.yaml", "--data-root", "."]) == 0
    assert "100.0" in capsys.readouterr().out


def test_a_missing_file_a_cut_one_and_an_unknown_id_are_said_as_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(DataError) as missing:
        list(answers.read(tmp_path / "nope.csv"))
    assert str(missing.value) == f"{tmp_path}/nope.csv: cannot be read (No such file or directory)"
    (tmp_path / "latin.csv").write_bytes("id,text\n1,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8; save the file as UTF-8 CSV"):
        list(answers.read(tmp_path / "latin.csv"))
    whole = FILES["coco.json"]
    for end in (len(whole) - 1, len(whole) // 2, whole.index("7") + 1, whole.index("caption") + 3):
        (tmp_path / "cut.json").write_text(whole[:end] + "\n\n")
        with pytest.raises(
            DataError, match=r"line \d: is not valid JSON: the file ends early; it is cut off"
        ):
            list(answers.read(tmp_path / "cut.json"))
    (tmp_path / "wrong.json").write_text("[1 2]")
    with pytest.raises(DataError, match="is not valid JSON: Expecting ',' delimiter at column 4"):
        list(answers.read(tmp_path / "wrong.json"))
    assert nearest("x", map(str, range(80)), most=5) == "; there are: 0, 1, 10, 11, 12, ... (80 in all)"
