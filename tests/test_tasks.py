"""Task files: what is refused and in which words, overrides, prompts, and the files that come along."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit import registry
from evalkit.errors import UserError
from evalkit.tasks import loader
from evalkit.types import Metric, Parser

GOOD = """\
version: 1
about: a test
license: none
data:
  format: jsonl
  split: test
  sources: [{path: a.jsonl, images: pictures}]
prompt: "answer en {question}"
parser: text
metrics: [exact_match]
"""

REFUSED = [
    ("parser: text", "parser: text\nparsr: text", "parsr: unknown key; did you mean parser?"),
    ("version: 1", "version: one", "version: is text, must be a whole number"),
    ("version: 1", "version: true", "version: is true or false, must be a whole number"),
    ("version: 1\n", "", "version: is missing"),
    ("[exact_match]", "[exact_matsch]", "metrics: no 'exact_matsch'; did you mean exact_match?"),
    ("[exact_match]", "[]", "metrics: the list is empty"),
    ("[exact_match]", "[exact_match]\nnot_scored: because", "not_scored: is given together with metrics"),
    ("[exact_match]", "exact_match", "metrics: is text, must be a list"),
    ("[exact_match]", "[exact_match, exact_match]", "listed twice"),
    ("[exact_match]", "[anls(treshold=0.5)]", "no parameter 'treshold'; did you mean threshold?"),
    ("[exact_match]", "['anls(threshold=[)']", "cannot be read; write name or name(key=value"),
    ("[exact_match]", "[\"anls(threshold=open('/etc/passwd'))\"]", "cannot be read"),
    ("[exact_match]", "[anls(threshold='half')]", "threshold='half': must be a number"),
    ("[exact_match]", "[mask_iou]", "reads masks, but parser text gives text"),
    ("parser: text", "parser: txet", "parser: no 'txet'; did you mean text?"),
    ("format: jsonl", "format: jsonlines", "data: format: no 'jsonlines'"),
    ("{path: a.jsonl, images: pictures}", "{images: pictures}", "an entry lacks 'path'"),
    ("[{path: a.jsonl, images: pictures}]", "[a.jsonl]", "must be a list of mappings"),
    ("about: a test", "about: !!python/object:os.system a", "is refused; use plain values"),
    ("about: a test", "about: &x a test", "anchors and aliases are refused"),
    ("about: a test", "about: a test\nabout: again", "key 'about' is given twice"),
    ("about: a test", "about: {a test", "line "),
    ('"answer en {question}"', "{question}", "prompt: is a mapping, must be text; put quotes around it"),
    (
        "parser: text",
        "parser: text\nimage: {resize: nearest}",
        "image: resize: no 'nearest'; there are: bicubic",
    ),
    (
        "parser: text",
        "parser: text\nimage: {jpeg: slow}",
        "image: jpeg: no 'slow'; there are: fast, precise",
    ),
    ("parser: text", "parser: text\ndecode: {beams: 0}", "decode: beams: is 0, must be at least 1"),
    ("parser: text", "parser: text\ndecode: {max_tokens: 5}", "max_tokens: unknown key"),
    ("parser: text", "parser: text\nprotocol: papper", "protocol: no 'papper'; there are: paper, hf"),
    (GOOD, "- a list\n", "holds no keys"),
    (GOOD, "[" * 5000, "t.yaml: "),
]


@pytest.mark.parametrize(("old", "new", "sentence"), REFUSED, ids=[r[2][:40] for r in REFUSED])
def test_refusals_name_file_key_and_what_would_be_right(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    assert old in GOOD
    path = tmp_path / "t.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        loader.load(str(path))
    assert str(error.value).startswith(str(path)), "the file comes first"
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def load(tmp_path: Path, text: str = GOOD, **overrides: str) -> loader.Task:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    return loader.load(str(path), overrides)


def test_overrides_are_read_as_yaml_and_stamped(tmp_path: Path) -> None:
    plain = load(tmp_path)
    path = str(tmp_path / "t.yaml")
    changed = loader.load(path, {"decode.max_new_tokens": "64", "prompt": "{question}: what?"})
    assert changed.decode.max_new_tokens == 64
    assert changed.prompt == "{question}: what?"
    assert set(changed.overrides) == {"decode.max_new_tokens", "prompt"}
    assert changed.digest != plain.digest
    with pytest.raises(UserError, match="max_tokens: unknown key"):
        loader.load(path, {"decode.max_tokens": "64"})
    with pytest.raises(UserError, match="'parser' holds no keys"):
        loader.load(path, {"parser.x": "1"})


def test_prompts_are_filled_and_nothing_else_is_touched(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD.replace("answer en {question}", "answer en  {question} {{x}}\\t"))
    assert loader.prompt(task, {"question": "Is {this} it? "}) == "answer en  Is {this} it?  {x}\t"
    with pytest.raises(UserError, match="no field 'question'; did you mean questions"):
        loader.prompt(task, {"questions": ""})
    broken = load(tmp_path, GOOD.replace("{question}", "{question"))
    with pytest.raises(UserError, match=r"a lone '\{'"):
        loader.prompt(broken, {"question": ""})


def test_names_patterns_suites() -> None:
    assert loader.expand(["shapes_vqa_test", "demo"])[0] == "shapes_vqa_test"
    assert len(loader.expand(["demo", "demo"])) == len(set(loader.expand(["demo"])))
    assert loader.expand(["shapes_refer*"]) == ["shapes_refer_seg_test", "shapes_refer_test"]
    with pytest.raises(UserError, match="did you mean shapes_vqa_test"):
        loader.expand(["shapes_vqa_tset"])
    with pytest.raises(UserError, match="no task matches"):
        loader.expand(["nothing*"])


@pytest.mark.parametrize("name", loader.names())
def test_every_task_that_comes_along_is_sound(name: str) -> None:
    task = loader.load(name)
    assert task.about
    assert task.license
    parser: Parser = registry.make("parsers", task.parser)
    for spelling in task.metrics:
        metric: Metric = registry.make("metrics", spelling)
        assert parser.kind in metric.wants
        assert registry.make("metrics", registry.spell(metric)) == metric


@pytest.mark.parametrize("name", loader.suites())
def test_every_suite_names_tasks(name: str) -> None:
    assert loader.expand([name])
