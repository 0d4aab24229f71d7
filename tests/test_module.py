"""`module:`: a from-scratch model equals the plain backend; what a class may and may not do."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from stub import colours

from evalkit.cli.main import main
from evalkit.errors import ModelError
from evalkit.models.module import Module, read_options
from evalkit.types import Decode, ImageRef, Mark, Preparation, Request

GLUE = Path(__file__).parent / "glue.py"


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten noisy pictures with a question each; the working folder is empty."""
    file = colours(tmp_path / "data", questions=1)
    rng = np.random.default_rng(0)
    for picture in (tmp_path / "data" / "pictures").iterdir():
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(picture)
    monkeypatch.chdir(tmp_path)
    return file


def run(task: Path, model: str, *more: str) -> int:
    words = ["run", "--model", model, "--tasks", str(task), "--data-root", str(task.parent)]
    return main([*words, "--set", "decode.max_new_tokens=6", *more])


def texts(folder: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return {row["id"]: row["text"] for row in rows}


def write(tmp_path: Path, body: str) -> str:
    """A file with a class `Mine` of the given methods; returns what follows `module:`."""
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n" + textwrap.indent(textwrap.dedent(body), "    "))
    return f"{file}:Mine"


def ask(*images: Path, **decode: Any) -> Request:
    refs = tuple(ImageRef(str(i)) for i in images)
    return Request("s1", refs, "what", Preparation(28), Decode(**decode))


# --- a model from scratch --------------------------------------------------------------------------


def test_a_model_from_scratch_equals_the_plain_backend(
    task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny.checkpoint(1)
    assert run(task, str(model), "--protocol", "hf", "--output-path", "plain") == 0
    spec = f"module:{GLUE}:Glue"
    words = ["--protocol", "hf", "--output-path", "scratch", "--model-args", f"folder={model}"]
    assert run(task, spec, *words) == 0
    (plain,), (scratch,) = Path("plain").iterdir(), Path("scratch").iterdir()
    assert len(set(texts(plain).values())) > 3
    assert texts(scratch) == texts(plain)
    one, two = (json.loads((f / "scores.json").read_text())["scores"] for f in (plain, scratch))
    for scores in (one, two):  # a model of one's own does not say how an answer ended, so none counts as cut
        scores[0].pop("remarks", None)
    assert one == two
    identity = json.loads((scratch / "run.json").read_text())["identity"]["model"]
    assert set(identity["declared"]) == {"weights"}
    assert identity["options"] == {"folder": str(model)}
    capsys.readouterr()
    assert run(task, spec, *words) == 0  # identified: nothing is asked twice
    assert "done" in capsys.readouterr().err
    assert len(list(Path("scratch").iterdir())) == 1
    assert "?" not in capsys.readouterr().out


def test_its_own_sampling_is_seeded_per_sample(task: Path) -> None:
    spec, model = f"module:{GLUE}:Glue", tiny.checkpoint(1)
    for name, more in (("a", []), ("b", ["--limit", "4"])):
        args = f"folder={model},temperature=1.5,top_p=0.9"
        assert run(task, spec, "--output-path", name, "--model-args", args, *more) == 0
    (a,), (b,) = Path("a").iterdir(), Path("b").iterdir()
    assert a.name == b.name
    assert len(texts(b)) == 4
    assert texts(b).items() <= texts(a).items()


def test_without_identity_nothing_is_gone_on_with(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = "module:" + write(tmp_path, "def answer(self, image, prompt, max_new_tokens): return 'red'")
    assert run(task, spec) == 0
    assert run(task, spec) == 0
    out, err = capsys.readouterr()
    assert len(list(Path("results").iterdir())) == 2
    assert "? unidentified" in out
    assert "no identity()" in err
    assert "done" not in err


# --- what a class is given -------------------------------------------------------------------------


def test_images_as_they_are_or_prepared(task: Path, tmp_path: Path) -> None:
    picture = next((task.parent / "pictures").iterdir())
    body = "def answer(self, image, prompt, max_new_tokens, seed):\n    return repr({})"
    (one,) = Module(write(tmp_path, body.format("(image.size, image.mode, prompt, max_new_tokens)"))).predict(
        [ask(picture)]
    )
    assert one.text == "((56, 40), 'RGB', 'what', 32)"
    assert one.sizes == ((40, 56),)
    assert len(one.image_digests[0]) == 64
    two = Module(
        write(tmp_path, "prepare = True\nresolution = 28\n" + body.format("(image.shape, str(image.dtype))"))
    )
    assert two.as_checkpoint().resolution == 28
    assert [p.text for p in two.predict([ask(picture)])] == ["((28, 28, 3), 'uint8')"]
    three = Module(write(tmp_path, body.format("[i.size for i in image]")))
    assert [p.text for p in three.predict([ask(picture, picture)])] == ["[(56, 40), (56, 40)]"]


def test_images_are_handed_over_turned_and_marked(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (60, 40)).save(file)
    edge = Mark("outline", (0, 0, 1, 1), colour=(255, 0, 0))
    label = Mark("label", (30, 20, 50, 40), unit="pixels", text="B")
    ref = ImageRef(str(file), marks=(edge, label), turn=1)
    body = "def answer(self, image, prompt, max_new_tokens, seed):\n    return repr({})"
    spec = write(tmp_path, body.format("[image.size, *map(image.getpixel, ((0, 0), (20, 50), (10, 10)))]"))
    request = replace(ask(file), images=(ref,), preparation=Preparation(28, jpeg="precise"))
    (told,) = Module(spec).predict([request])
    assert told.text == "[(40, 60), (255, 0, 0), (255, 255, 255), (0, 0, 0)]"
    assert told.sizes == ((60, 40),)


def test_batches(task: Path, tmp_path: Path) -> None:
    pictures = sorted((task.parent / "pictures").iterdir())
    spec = write(
        tmp_path,
        "def answer_batch(self, images, prompts, max_new_tokens, seeds):\n"
        "    return [f'{len(prompts)} {s}' for s in seeds]",
    )
    requests = [ask(p) for p in pictures[:5]]
    found = [p.text for p in Module(spec, batch_size=3).predict(requests)]
    assert [t.split()[0] for t in found] == ["3", "3", "3", "2", "2"]
    assert {t.split()[1] for t in found} == {str(requests[0].seed % (1 << 63))}
    short = write(tmp_path, "def answer_batch(self, images, prompts, max_new_tokens): return ['a']")
    with pytest.raises(ModelError, match=r"returned a list of 1; it must return a list of 2 texts"):
        list(Module(short).predict(requests[:2]))


def test_only_decodings_that_it_claims_to_know(task: Path, tmp_path: Path) -> None:
    picture = next((task.parent / "pictures").iterdir())
    spec = write(tmp_path, "def answer(self, image, prompt, max_new_tokens, **more): return str(more)")
    for decode, sentence in (
        ({"beams": 4}, r"decode\.beams=4, but answer\(\) takes no 'beams'"),
        ({"temperature": 1.0}, r"run with --set decode\.temperature=0"),
        ({"logprobs": True}, "log-probabilities"),
    ):
        with pytest.raises(ModelError, match=sentence):
            list(Module(spec).predict([ask(picture, **decode)]))
    knows = write(tmp_path, "def answer(self, image, prompt, max_new_tokens, beams): return str(beams)")
    assert [p.text for p in Module(knows).predict([ask(picture, beams=4)])] == ["4"]


def test_options_are_read_as_python_writes_them() -> None:
    given = {"a": "1", "b": "0.5", "c": "True", "d": "model.pt", "e": "None", "f": "'1'", "g": "[1]"}
    wanted = {"a": 1, "b": 0.5, "c": True, "d": "model.pt", "e": None, "f": "1", "g": "[1]"}
    assert read_options(given) == wanted


def test_the_resolution_is_handed_on_where_it_is_wanted(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = "def answer(self, image, prompt, max_new_tokens): return str(image.shape)\n"
    spec = "module:" + write(tmp_path, "prepare = True\n" + answers)
    assert run(task, spec, "--model-args", "resolution=56", "--output-path", "a") == 0
    takes = "prepare = True\ndef __init__(self, resolution): self.r = resolution\n"
    spec = "module:" + write(tmp_path, takes + answers.replace("image.shape", "(image.shape, self.r)"))
    assert run(task, spec, "--resolution", "448", "--output-path", "b") == 0
    (a,), (b,) = Path("a").iterdir(), Path("b").iterdir()
    assert set(texts(a).values()) == {"(56, 56, 3)"}
    assert set(texts(b).values()) == {"((448, 448, 3), 448)"}


def test_from_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_package_of_models").mkdir()
    (tmp_path / "my_package_of_models" / "small.py").write_text(
        "class Mine:\n    name = 'small one'\n    def answer(self, image, prompt, max_new_tokens): pass\n"
    )
    assert Module("my_package_of_models.small:Mine").name == "small one"


# --- classes that do not behave --------------------------------------------------------------------

GOOD = "def answer(self, image, prompt, max_new_tokens): return 'red'\n"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "def answer(self, image, prompt, max_new_tokens): return None",
            "sample q0-0: answer() returned None",
        ),
        ("def answer(self, image, prompt, max_new_tokens): return b'red'", "answer() returned a bytes of 3"),
        ("def answer(self, image, prompt, max_new_tokens): return '\\ud800'", "half a character"),
        (
            "def answer(self, image, prompt, max_new_tokens): raise KeyError('x')",
            "sample q0-0: raised KeyError: 'x' (mine.py, line 2)",
        ),
        ("def answer(self, image, prompt): return 'red'", "answer() takes no 'max_new_tokens'"),
        ("def reply(self): return 'red'", "Mine has no method answer"),
        ("def __init__(self, weights): pass\n" + GOOD, "Mine needs 'weights'; add --model_args weights=..."),
        ("def __init__(self): 1 / 0\n" + GOOD, "__init__: raised ZeroDivisionError"),
        ("def identity(self): return None\n" + GOOD, "identity() returned None; it must return a dict"),
        ("def identity(self): return {'a': object()}\n" + GOOD, "identity() returned a dict"),
        ("def identity(self): return {}\n" + GOOD, "identity() returned a dict"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero (mine.py, line 2)"),
        ("def", "cannot be imported: SyntaxError"),
    ],
)
def test_refused(
    body: str, sentence: str, task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(task, "module:" + write(tmp_path, body)) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.strip().split("\n")[-1].startswith("evalkit: module:")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("module:mine.py", "write module:FILE.py:CLASS"),
        ("module:none.py:Mine", "none.py: no such file"),
        (
            "module:no_such_package:Mine",
            "no package no_such_package can be imported; write module:FILE.py:CLASS",
        ),
        ("module:json.decoder:JSONdecoder", "has no class 'JSONdecoder'; did you mean JSONDecoder"),
    ],
)
def test_refused_spec(spec: str, sentence: str, task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(task, spec) == 2
    assert sentence in capsys.readouterr().err


def test_unknown_options_are_named(task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = "module:" + write(tmp_path, "def __init__(self, top_p=1.0): pass\n" + GOOD)
    assert run(task, spec, "--model-args", "topp=0.5") == 2
    assert "Mine takes no 'topp'; did you mean top_p?" in capsys.readouterr().err


def test_what_was_answered_before_is_kept(task: Path, tmp_path: Path) -> None:
    spec = "module:" + write(
        tmp_path,
        "n = 0\n"
        "def identity(self): return {'weights': 1}\n"
        "def answer(self, image, prompt, max_new_tokens):\n"
        "    type(self).n += 1\n"
        "    return 'red' if self.n != 5 else None",
    )
    assert run(task, spec) == 2
    (folder,) = Path("results").iterdir()
    assert len((folder / "predictions" / "0.jsonl").read_text().splitlines()) == 4
    assert run(task, spec) == 2  # asked anew, the class fails at its fifth answer again
    assert len((folder / "predictions" / "0.jsonl").read_text().splitlines()) == 8
