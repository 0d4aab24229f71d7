"""An option that is empty, names nothing or has no effect beside the others is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_options import NEEDED

import evalkit
from evalkit import hints
from evalkit.cli.main import main
from evalkit.cli.options import parser
from evalkit.errors import UserError
from evalkit.evaluation import check
from evalkit.options.config import made
from evalkit.options.fields import OptionError, Options, flags
from evalkit.options.together import RULES
from evalkit.options.verbs import VERBS, CheckOptions, ViewOptions
from evalkit.viewer import view

MAKES = {"title", "model_args", "gen_kwargs", "prompt"}  # options that may be empty
RUN, SWEEP = "run --model m --tasks t", "sweep --model m --tasks t --over prompt"
WATCH, CHECK, DOCTOR = "watch d --tasks t", "check r --baseline b", "doctor --model m"
IN_VAIN = [
    *((f"{verb} {words}", f"{words}: goes with --data; leave it out, or say that too")
      for verb in (RUN, SWEEP, WATCH)
      for words in ("--split s", "--verb detect", "--box-order xyxy", "--save-task t.yaml")),
    (f"{RUN} --ids f --limit 3", "--limit 3: has no effect with --ids, which chooses the samples"),
    (f"{RUN} --margin 0.1", "--margin 0.1: goes with --against"),
    (f"{RUN} --until-decided", "--until-decided: goes with --against; leave it out, or say that too"),
    (f"{RUN} --dtype float16 --model_args dtype=bfloat16", "--dtype float16: --model-args says dtype="),
    (f"{RUN} --set a=1 --set a=2", "--set a=2: a is 1 already; say it once"),
    (f"{RUN} --set prompt=a --prompt b", "--prompt b: --set says prompt=a; leave one of the two out"),
    (f"{RUN} --set decode.beams=2 --gen_kwargs num_beams=3", "--set decode.beams=2: --gen-kwargs says 3"),
    (f"{RUN} --gen_kwargs max_new_tokens=3,max_gen_toks=5", "--gen-kwargs max_new_tokens=3,max_gen_toks=5: "),
    (f"{RUN} --model_args dtype=a,dtype=b", "--model-args dtype=a,dtype=b: dtype is a already; say it once"),
    (f"{WATCH} --pattern /x*", "--pattern /x*: is no pattern of names inside the watched folder"),
    ("runs gc --output-path nope", "--output-path nope: no such folder; name a folder that is there"),
    ("score r --task t", "--task t: goes with --predictions"),
    ("score r --keys a,b", "--keys a,b: goes with --predictions"),
    ("score r --name n", "--name n: goes with --predictions"),
    ("score r --output-path o", "--output-path o: goes with --predictions"),
    ("score r --task t --predictions p", "r: a run is scored from its own answers; leave it out, or"),
    ("report r --no-images --picture-size 9", "--picture-size 9: has no effect with --no-images"),
    ("report r --redact --picture-size 9", "--picture-size 9: has no effect with --redact"),
    ("plot r --top 3", "--top 3: goes with --what of rows"),
    ("compare a b --grid --json x", "--json x: has no effect with --grid"),
    ("compare a b --grid --samples 3", "--samples 3: has no effect with --grid"),
    ("compare a b --grid --forgetting x", "--forgetting x: has no effect with --grid"),
    ("compare a b --json - --samples 3", "--samples 3: has no effect with --json -"),
    (f"{CHECK} --report x", "--report x: goes with --junit or --github; leave it out, or say one of them"),
    ("explain a b --published-model m", "--published-model m: has no effect with two runs"),
    ("list metrics --output-path o", "--output-path o: goes with `list runs`"),
    ("list runs --include-path .", "--include-path .: task files name no runs"),
    ("show t --yaml --data-root .", "--data-root .: has no effect with --yaml"),
    ("data t --all-images", "--all-images: goes with --check"),
    ("data vqav2_val --split s", "--split s: goes with a folder or file of your own, not with vqav2_val"),
    ("data own --data-root .", "--data-root .: goes with tasks; own is read where it is; leave it out"),
    ("validate t.yaml --data-root .", "--data-root .: goes with --data; leave it out, or say that too"),
    ("validate t.yaml --schema", "t.yaml: has no effect with --schema"),
    ("runs list a", "a: goes with `runs keep` and `runs rm`"),
    ("runs gc a", "a: goes with `runs keep` and `runs rm`"),
    ("runs keep a --yes", "--yes: goes with `runs rm` and `runs gc`; leave it out"),
    ("runs rm a --output-path o", "--output-path o: goes with `runs list` and `runs gc`"),
    (f"{DOCTOR} --data nope", "--data nope: goes with --protocol-of MODEL"),
    (f"{DOCTOR} --tasks t", "--tasks t: goes with --protocol-of MODEL"),
    (f"{DOCTOR} --write", "--write: goes with --protocol-of MODEL"),
    (f"{DOCTOR} --data-root .", "--data-root .: goes with --protocol-of MODEL"),
    (f"{DOCTOR} --include-path .", "--include-path .: goes with --protocol-of MODEL"),
    (f"{DOCTOR} --allow-code", "--allow-code: goes with --protocol-of MODEL"),
    (f"{DOCTOR} --split s", "--split s: goes with --protocol-of MODEL"),
    (f"{DOCTOR} --protocol-of m", "--model m: --protocol-of stands in place of --model"),
    ("doctor --protocol-of m --tasks t --split s", "--split s: goes with --data"),
    ("doctor --protocol-of m --data d --save-task t.yaml", "--save-task t.yaml: goes with `evalkit run"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/data.jsonl").write_text('{"image": "a.png", "question": "x", "answer": "y"}\n')


@pytest.mark.parametrize(("words", "said"), IN_VAIN, ids=[words for words, _ in IN_VAIN])
def test_an_option_without_effect_is_refused(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"evalkit: {said}")
    assert err.count("\n") == 1


def test_every_rule_is_tried() -> None:
    """Of each rule at least one option; the rules name options that there are."""
    tried = {verb: {words.partition(" ")[0] for words, _ in IN_VAIN} for verb in RULES}
    for verb, rules in RULES.items():
        assert verb in tried[verb]
        for rule in rules:
            assert set(rule.names) <= set(flags(VERBS[verb])), verb
            mine = [said for words, said in IN_VAIN if words.split()[0] == verb]
            assert any(rule.why.split(";")[0] in said or said.partition(": ")[2] in rule.why for said in mine)


def options_of(kind: str) -> list[tuple[str, str]]:
    """(verb, option) of every option that takes an empty text, a number with a point, or a place."""
    found = []
    for verb, cls in VERBS.items():
        hinted = hints.annotated(cls)
        for name, flag in flags(cls).items():
            real = float in hints.members(hinted[name])
            chosen = {
                "float": real,
                "exists": flag.exists,
                "file": flag.writes == "file" and not flag.place,
                "folder": flag.writes == "folder",
                "text": not flag.place and _takes_text(hinted[name]),
            }
            if chosen[kind]:
                found.append((verb, name))
    return found


def _takes_text(hint: object) -> bool:
    return any(member is str or member is Path or "Sequence" in str(member) for member in hints.members(hint))


def refused(verb: str, name: str, value: str) -> str:
    """What is said of an option's value, beside what the verb needs."""
    needed = vars(parser(verb, "x").parse_args(NEEDED.get(verb, [])))
    with pytest.raises(OptionError) as error:
        made(verb, {**needed, **SENSE.get((verb, name), {}), name: value})
    return str(error.value)


# What makes sense of an option, where it has none alone.
SENSE: dict[tuple[str, str], dict[str, object]] = {
    ("validate", "data_root"): {"data": True}, ("doctor", "data_root"): {"protocol_of": "m", "model": ()},
    ("doctor", "include_path"): {"protocol_of": "m", "model": ()},
    ("score", "output_path"): {"predictions": "p"},
    ("list", "output_path"): {"what": "runs"},
    ("runs", "output_path"): {"what": "gc"}, ("run", "save_task"): {"data": "d"},
    ("sweep", "save_task"): {"data": "d"}, ("watch", "save_task"): {"data": "d"},
}  # fmt: skip


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def test_an_empty_text_is_refused() -> None:
    tried = [each for each in options_of("text") if each[1] not in MAKES]
    assert len(tried) > 100
    for verb, name in tried:
        assert refused(verb, name, "").strip() == f"{flag(name)}: is empty; say what it is, or leave it out"


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_number_that_is_none_is_refused(value: str) -> None:
    tried = options_of("float")
    assert len(tried) > 10
    for verb, name in tried:
        assert refused(verb, name, value).startswith(f"{flag(name)} {value}: "), (verb, name)


def test_a_place_that_is_not_there_is_refused() -> None:
    tried = options_of("exists")
    assert len(tried) > 20
    for verb, name in tried:
        assert (
            refused(verb, name, "nope") == f"{flag(name)} nope: no such folder; name a folder that is there"
        )


@pytest.mark.parametrize(
    ("kind", "place", "said"),
    [("file", "own", "is a folder; name a file to be written"),
     ("folder", "own/data.jsonl", "is a file; name a folder"),
     ("folder", "own/data.jsonl/x", "own/data.jsonl is a file; name a folder"),
     ("file", "own/data.jsonl/x", "own/data.jsonl is a file; name a folder")],
)  # fmt: skip
def test_what_cannot_be_written_is_said_before(kind: str, place: str, said: str) -> None:
    tried = options_of(kind)
    assert len(tried) > 5
    for verb, name in tried:
        if (verb, name) != ("doctor", "save_task"):
            assert refused(verb, name, place) == f"{flag(name)} {place}: {said}"


def test_a_default_of_the_file_may_be_in_vain(capsys: pytest.CaptureFixture[str]) -> None:
    Path("evalkit.toml").write_text('[run]\nsplit = "test"\n')
    assert main(["run", "--model", "m", "--tasks", "nope_at_all"]) == 2
    assert "no task or suite 'nope_at_all'" in capsys.readouterr().err


def test_python_says_the_same() -> None:
    with pytest.raises(UserError, match=r"^score: name='n': goes with --predictions"):
        evalkit.score("r", name="n")
    with pytest.raises(UserError, match=r"^run: include_path=.*nope.*: no such folder; name a folder"):
        evalkit.run("m", "t", include_path="nope")
    with pytest.raises(UserError, match=r"^run: until_decided=True: goes with --against"):
        evalkit.run("m", "t", until_decided=True)


def test_rules_are_of_commands() -> None:
    assert set(RULES) <= set(VERBS)
    assert all(issubclass(VERBS[verb], Options) for verb in RULES)


def test_what_only_a_model_or_only_runs_have_a_use_for() -> None:
    """`check` of a run computes nothing, `view` of a report makes none."""
    for given in ({"dtype": "float16"}, {"output_path": "x"}, {"data_root": "own"}, {"rehash": True}):
        (name,) = given
        with pytest.raises(OptionError, match=f"--{flag(name)[2:]}.*: r is a run, not a model that is run"):
            check._refuse_unused(CheckOptions("r", baseline="b", **given))
    check._refuse_unused(CheckOptions("r", baseline="b", pages="p", data_root="own", limit=3))
    with pytest.raises(OptionError, match="--limit 3: r is a report already; leave it out, or name the runs"):
        view._refuse_unused(ViewOptions("r", limit=3))
    view._refuse_unused(ViewOptions("r", no_browser=True))
