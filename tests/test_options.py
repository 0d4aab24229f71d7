"""Options, written once: every command and every Python function takes and refuses the same values."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from pathlib import Path
from typing import Any

import pytest
from stub import colours

import evalkit
from evalkit import api, hints
from evalkit.cli.main import COMMANDS, main
from evalkit.errors import ModelError, UserError
from evalkit.models import open_checkpoint
from evalkit.models.paligemma import PaliGemma
from evalkit.options import config
from evalkit.options.fields import Options, checked, flags, names, positive
from evalkit.options.model import MODEL_OPTIONS, ModelOptions
from evalkit.options.verbs import VERBS, RunOptions

FUNCTIONS = {name: getattr(api, name) for name in VERBS if hasattr(api, name)}
# Words that let a command's parser through to the option under test.
NEEDED = {
    "run": ["--model", "m", "--tasks", "t"], "export": ["r"], "compare": ["a", "b"],
    "check": ["c", "--baseline", "b"], "baseline": ["save", "r", "f"], "watch": ["d", "--tasks", "t"],
    "sweep": ["--model", "m", "--tasks", "t", "--over", "prompt"],
    "explain": ["r"], "suspects": ["r"], "report": ["r"], "view": ["r"], "plot": ["r"], "list": ["tasks"],
    "show": ["t"], "data": ["t"],
    "doctor": ["--model", "m"], "convert": ["f", "g", "--tokenizer", "t"], "ask": ["i", "p", "--model", "m"],
}  # fmt: skip


def numbers() -> list[tuple[str, str]]:
    """Every option of every command that takes a whole number from 1."""
    return [
        (verb, name) for verb, cls in VERBS.items() for name, flag in flags(cls).items()
        if flag.check is positive and int in hints.members(hints.annotated(cls)[name])
    ]  # fmt: skip


def test_every_command_has_its_options_and_every_function_its_command() -> None:
    assert set(COMMANDS) == set(VERBS)
    assert {"run", "score", "table", "compare", "sweep", "check", "export", "ask"} <= set(FUNCTIONS)


def test_limits_are_among_the_numbers() -> None:
    """That of `run` may be a share too: tests/test_lm_eval_flags.py."""
    assert {v for v, name in numbers() if name == "limit"} == {
        "demo",
        "check",
        "watch",
        "report",
        "view",
    }


@pytest.mark.parametrize(("verb", "name"), numbers())
@pytest.mark.parametrize(
    ("value", "why"),
    [("-3", "is below 1; give a number from 1"), ("0", "is below 1"), ("x", "must be a whole number")],
)
def test_a_wrong_number_is_refused_by_every_command(
    verb: str, name: str, value: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = f"--{name.replace('_', '-')}"
    assert main([verb, *NEEDED.get(verb, []), f"{flag}={value}"]) == 2
    assert capsys.readouterr().err.startswith(f"evalkit: {flag} {value}: {why}")


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_python_takes_what_the_command_takes(verb: str) -> None:
    cls, function = VERBS[verb], FUNCTIONS[verb]
    said = inspect.signature(function).parameters
    assert list(said) == list(inspect.signature(cls).parameters)
    assert set(said) == set(flags(cls))


@pytest.mark.parametrize(("verb", "name"), [n for n in numbers() if n[0] in FUNCTIONS])
def test_a_wrong_number_is_refused_by_every_function(verb: str, name: str) -> None:
    known = {
        "run": ["m", "t"],
        "sweep": ["m", "t"],
        "check": ["c", "b"],
        "ask": ["i", "p", "m"],
        "plot": ["r"],
        "view": ["r"],
    }
    needed: list[Any] = known.get(verb, [])
    with pytest.raises(UserError, match=rf"{verb}: {name}=-3: is below 1"):
        FUNCTIONS[verb](*needed, **{name: -3})


def test_a_wrong_keyword_names_the_nearest() -> None:
    with pytest.raises(
        TypeError, match=r"run\(\) got an unexpected keyword argument 'limits'; did you mean lim"
    ):
        evalkit.run("m", "t", limits=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="multiple values for argument 'model'"):
        evalkit.run("m", "t", model="m")  # type: ignore[misc]
    with pytest.raises(TypeError, match="missing a required argument: 'model'"):
        evalkit.run(tasks="t")  # type: ignore[call-arg]
    with pytest.raises(UserError, match="name tasks with --tasks, or data of your own"):
        evalkit.run("m")


@pytest.mark.parametrize("cls", VERBS.values())
def test_defaults_are_values_that_are_taken(cls: type[Options]) -> None:
    defaults = {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
    assert set(checked(cls, defaults)) == set(defaults)
    assert all(flag.help for flag in flags(cls).values())


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int | None, "3", 3),
        (float, "3", 3.0),
        (bool, "TRUE", True),
        (int | typing.Literal["auto"], "auto", "auto"),
        (float | bool | typing.Literal["auto"] | None, "0.5", 0.5),
        (Path, "a", Path("a")),
    ],
)
def test_texts_are_read_by_the_annotation(hint: Any, text: str, value: Any) -> None:
    read = hints.read(text, hint)
    assert (read, type(read)) == (value, type(value))


def test_a_number_is_no_truth_value() -> None:
    assert not hints.fits(True, int | None)
    assert not hints.fits(1, bool)
    assert not hints.fits(3, typing.Literal["auto"] | None)


def test_names_come_by_comma_or_one_by_one() -> None:
    options = RunOptions(["a,b", "c"], "t,u,t", model_args="dtype=bfloat16,workers=3", dtype="float32")
    assert (names(options.model), names(options.tasks)) == (("a", "b", "c"), ("t", "u"))
    assert options.of_model() == ({"dtype": "float32"}, {"dtype": "bfloat16", "workers": "3"})


# --- backends --------------------------------------------------------------------------------------------


def test_the_backend_has_every_option_of_a_model() -> None:
    assert {f.name for f in dataclasses.fields(PaliGemma)} >= MODEL_OPTIONS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dtype": "bfloat16"}, "--dtype bfloat16: the backend replay does not use it"),
        ({"quantize": "int8"}, "--quantize int8: the backend replay does not use it"),
        ({"batch_size": 4}, "--batch-size 4: the backend replay does not use it"),
        ({"model_args": "engine=fast"}, "--model_args engine=fast: the backend replay does not use it"),
        ({"model_args": "resolutoin=3"}, "--model_args resolutoin=3: unknown with replay:"),
    ],
)
def test_an_option_that_a_backend_cannot_use_names_the_backend(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"id": "q", "text": "red"}\n')
    with pytest.raises(ModelError) as error:
        open_checkpoint(f"replay:{file}", ModelOptions(**given))
    assert str(error.value).startswith(said)
    assert open_checkpoint(f"replay:{file}", ModelOptions(resolution=448)).resolution == 448


# --- evalkit.toml ----------------------------------------------------------------------------------------


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "evalkit.toml"


def test_a_file_may_set_defaults(toml: Path) -> None:
    toml.write_text('[model]\ndtype = "bfloat16"\nbatch-size = 4\n[run]\nlimit = 7\n[watch]\nlimit = 9\n')
    made = config.made("run", {"model": "m", "tasks": "t", "batch_size": 8})
    assert (made.dtype, made.batch_size, made.limit) == ("bfloat16", 8, 7)
    assert config.made("watch", {"folder": ".", "tasks": "t"}).limit == 9
    assert config.made("check", {"candidate": "c", "baseline": "b"}).limit is None


def test_a_default_is_for_the_backends_that_use_it(toml: Path, tmp_path: Path) -> None:
    toml.write_text('[model]\ndtype = "bfloat16"\n')
    (tmp_path / "answers.jsonl").write_text('{"id": "q", "text": "red"}\n')
    given = {"model": "replay:answers.jsonl", "tasks": "t"}
    assert open_checkpoint("replay:answers.jsonl", config.made("run", given)).name == "replay-answers"
    with pytest.raises(ModelError, match="--dtype float16: the backend replay does not use it"):
        open_checkpoint("replay:answers.jsonl", config.made("run", {**given, "dtype": "float16"}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[modle]\n", "evalkit.toml: modle: unknown key; did you mean model?"),
        ("[run]\nlimt = 3\n", "evalkit.toml: run: limt: unknown option; did you mean limit, split?"),
        ("[run]\nlimit = 0\n", "evalkit.toml: run: limit: 0: is below 1"),
        (
            '[model]\ndtype = "bf16"\n',
            "evalkit.toml: model: dtype: 'bf16': no such dtype; did you mean bfloat16?",
        ),
        ("run = 3\n", "evalkit.toml: run: is no table; write [run] above its options"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(
    toml: Path, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    toml.write_text(content)
    assert main(["run", "--model", "m", "--tasks", "t"]) == 2
    assert said in capsys.readouterr().err


def test_the_file_counts_for_python_too(toml: Path, tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(f'{{"id": "q{i}-{j}", "text": "red"}}\n' for i in range(10) for j in range(2)))
    toml.write_text('data = ["data"]\n[run]\nlimit = 3\n')
    (run,) = evalkit.run(f"replay:{answers}", task)
    assert run.scores["exact_match"].n == 6
