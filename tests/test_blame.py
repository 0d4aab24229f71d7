"""An argument that is not there is called by its own name, not by an option of another command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evalkit import demo
from evalkit.cli.main import main

NOT_THERE = [
    ("data nope", "no task, suite, folder or file 'nope'; `evalkit list tasks` shows all tasks"),
    ("data ./nope", "no task, suite, folder or file './nope'; `evalkit list tasks` shows all tasks"),
    ("data nope.jsonl", "no task, suite, folder or file 'nope.jsonl'; `evalkit list tasks` shows all tasks"),
    ("data vqav2_vall", "no task, suite, folder or file 'vqav2_vall'; did you mean vqav2_val"),
    ("data nope*", "no task matches 'nope*'; `evalkit list tasks` shows all tasks"),
    ("run --model demo:later --data nope", "nope: no such folder or file; name what holds your data"),
    ("run --model demo:later --tasks nope", "--tasks: no task or suite 'nope'; `evalkit list tasks` "),
    ("run --model demo:later --tasks mine", "--tasks: mine: the folder holds no .yaml file; name task files; "
     "--data mine takes data of your own"),
    ("run --model demo:later --tasks mine/a.json", "--tasks: no task or suite 'mine/a.json'; "
     "--data mine/a.json takes data of your own"),
    ("data mine", "mine: no layout is recognised; "),
    ("validate nope", "nope.yaml: no such file"),
    ("validate mine", "mine: is a folder; name .yaml files; `evalkit data mine --check` "),
    ("validate mine/a.json", "mine/a.json: is no task file; name .yaml files; `evalkit data mine/a.json "),
    ("check ./nope --baseline ./nope", "./nope: no such run or baseline; give a run folder"),
    ("doctor --model ./nope", "./nope: no such folder; give a checkpoint folder in Hugging Face layout "),
    ("run --model MODEL --tasks shapes_vqa_test --adapter ./nope", "./nope: no such folder; give the "
     "folder of an adapter or a hub id"),
    ("run --model MODEL --tasks shapes_vqa_test --tokenizer ./nope", "./nope: no such folder; give a "
     "folder with a tokenizer or a hub id"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), NOT_THERE, ids=[words for words, _ in NOT_THERE])
def test_what_is_not_there_is_called_by_its_own_name(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("mine")
    Path("mine/a.json").write_text('{"a": 1}')
    if "MODEL" in words:
        words = words.replace("MODEL", str(demo.checkpoint("later", 224)))
    assert main(words.split()) == 2
    assert capsys.readouterr().err.startswith(f"evalkit: {said}")
