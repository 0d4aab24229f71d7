"""Files that are damaged or strange: every reader reads them or says in one sentence which file is wrong.

Each change is made from a seed that stands here, so that what was once found is found again.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from official_files import picture
from stub import colours
from stub_runs import go, wrong_at
from test_door import table

from evalkit import demo, hints, strict_yaml
from evalkit.cli.main import main
from evalkit.comparison import trend
from evalkit.comparison.policy import read_policy
from evalkit.data import containers, pickles, readers, sources
from evalkit.errors import UserError
from evalkit.evaluation import given
from evalkit.geometry import mask_decoder
from evalkit.options import config
from evalkit.runs import scored_run
from evalkit.tasks import loader
from evalkit.types import ImageRef, Sample

SEEDS = range(150)
STRANGE: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"7",
    "a text": b'"x"',
    "an object": b"{}",
    "half a number": b"a: 0b_",
    "no day": b"a: 2001-99-99",
    "a day": b"a: 2001-01-01",
    "5,000 digits": b"a: " + b"9" * 5000,
    "5,000 digits of JSON": b'{"a": ' + b"9" * 5000 + b"}",
    "5,000 hexadecimal digits": b"a: 0x" + b"f" * 5000,
    "deep lists": b"[" * 200_000,
    "deep lists of TOML": b"a = " + b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "deep lines": b"\n".join(b" " * n + b"a:" for n in range(1500)),
    "infinity": b'{"a": Infinity, "b": NaN, "c": 1e999}',
    "a key that is a list": b"? [a]\n: b",
    "a key that is no text": b"no: 1\n3: 2\n2001-01-01: 3",
    "a merged key": b"<<: 1",
    "NUL": b"a: \0",
    "half a character": b'{"a": "\xed\xa0\x80"}',
    "half a character, escaped": b'{"a": "\\ud800"}',
    "bytes": bytes(range(256)),
    "UTF-16": "a: 1".encode("utf-16"),
    "another YAML": b"%YAML 9.9\n---\na: 1",
    "two documents": b"---\na: 1\n---\nb: 2",
    "gzip's beginning": b"\x1f\x8b",
    "gzip, cut": gzip.compress(b'{"a": 1}' * 100)[:30],
    "gzip of depth": gzip.compress(b"[" * 200_000),
    "zip's beginning": b"PK\x03\x04" + bytes(30),
    "zip's end": b"PK\x05\x06" + bytes(18),
    "a pickle": pickle.dumps({"a": [1] * 100}),
    "a long line": b"x" * 1_000_000,
}


def changed(data: bytes, seed: int) -> bytes:
    """A few bytes set, cut out, doubled or swapped; or the file cut short."""
    rng, out = random.Random(seed), bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(out) or 1)
        deed = rng.choice(("set", "set", "cut", "drop", "double", "swap"))
        if deed == "set" and out:
            out[at] = rng.randrange(256)
        elif deed == "cut":
            del out[at:]
        elif deed == "drop":
            del out[at : at + rng.randrange(1, 40)]
        elif deed == "double":
            out[at:at] = out[at : at + rng.randrange(1, 40)]
        elif deed == "swap":
            other = rng.randrange(len(out) or 1)
            out[at : at + 8], out[other : other + 8] = out[other : other + 8], out[at : at + 8]
    return bytes(out)


# --- the readers, each with a sound file ------------------------------------------------------------


def archive(kind: str) -> bytes:
    file, data = io.BytesIO(), picture()
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("a.png", data)
    else:
        with tarfile.open(fileobj=file, mode="w") as tar:
            entry = tarfile.TarInfo("a.png")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def cells(kind: str, folder: Path) -> bytes:
    path = folder / f"sound.{kind}"
    table(path, [{"bytes": picture(seed=n), "path": None} for n in range(3)])
    return path.read_bytes()


def safetensors(path: Path) -> str:
    for name in ("config.json", "model.safetensors.index.json"):
        (path.parent / name).write_text("{}")
    (path.parent / "model.safetensors.index.json").unlink()
    return trend.lacks(path.parent)


def weights() -> bytes:
    from safetensors.numpy import save

    return save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(5, np.float16)})


def index(path: Path) -> str:
    (path.parent / "config.json").write_text("{}")
    return trend.lacks(path.parent)


def member(path: Path, name: str) -> bytes:
    containers._zip.cache_clear()  # two files of one size written within a tick of the clock
    containers._tar.cache_clear()
    return sources.read_bytes(ImageRef(str(path), name))


def decoder(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mask_decoder._load.__wrapped__(str(path), (0,), False)


SAMPLES = [Sample("a", (), {}, ()), Sample("b", (), {}, ())]
TASK = b"""version: 1
about: colours
license: none
data:
  format: jsonl(categories=['a'])
  split: test
  count: 12
  sources: [{path: colours.jsonl, images: pictures}, {path: b.jsonl, images: c}]
prompt: "answer en {question}"
image: {resize: bilinear, antialias: true}
decode: {max_new_tokens: 8, forbid: ['x']}
parser: text
group_mean: false
metrics: [exact_match]
"""
GATE = (
    b"margin: 0.02\ntasks:\n  t: {margin: 0.05, metric: m}\ngroups: fail\ninvalid: off\nspeed_margin: 0.5\n"
)
TOML = b"data = ['/datasets', 'more', '~']\n[model]\ndtype = 'bfloat16'\n[run]\nlimit = 500\n"
POINTS = b"""{"schema": 1, "points": [{"step": 1, "name": "checkpoint-1", "runs": ["a"], "values":
 {"t m": [0.5, 0.4, 0.6, 10]}, "mean": 0.5, "drops": [], "coverage": {}, "hooked": false, "models": {}}]}"""
LINES = b'{"id": "a", "text": "red"}\n{"id": "b", "text": "blue \\u2028"}\n'

# what -> (the file's name, a sound one, how it is read)
READERS: dict[str, tuple[str, Callable[[Path], bytes], Callable[[Path], Any]]] = {
    "image": ("a.png", lambda _: picture(), lambda p: sources.read_bytes(ImageRef(str(p)))),
    "zip": ("a.zip", lambda _: archive("zip"), lambda p: member(p, "a.png")),
    "tar": ("a.tar", lambda _: archive("tar"), lambda p: member(p, "a.png")),
    "Parquet": ("a.parquet", lambda f: cells("parquet", f), lambda p: member(p, "1/image")),
    "Arrow": ("a.arrow", lambda f: cells("arrow", f), lambda p: member(p, "1/image")),
    "JSON": ("a.json", lambda _: POINTS, readers.read_json),
    "JSON lines": ("a.jsonl", lambda _: LINES, lambda p: list(readers.read_lines(p))),
    "CSV": ("a.csv", lambda _: b'a,b\n1,"2, 3"\n', lambda p: list(readers.read_table(p))),
    "text": ("a.txt", lambda _: b"a\nb\n", readers.read_text),
    "pickle": ("a.p", lambda _: pickle.dumps([{"a": (1, 2.5)}, "b"] * 5), pickles.read_pickle),
    "task": ("a_test.yaml", lambda _: TASK, lambda p: loader.load(str(p))),
    "suite": ("a.yaml", lambda _: b"about: a\ntasks: [b, c]\n", loader.read_suite),
    "gate": ("gate.yaml", lambda _: GATE, read_policy),
    "evalkit.toml": ("evalkit.toml", lambda _: TOML, config._read),
    "mask decoder": ("a.npz", lambda _: demo.mask_decoder().read_bytes(), decoder),
    "answers": ("a.jsonl", lambda _: LINES, lambda p: given.read_predictions(str(p), SAMPLES)),
    "watch.json": ("watch.json", lambda _: POINTS, trend.Trend.load),
    "safetensors": ("model.safetensors", lambda _: weights(), safetensors),
    "index": ("model.safetensors.index.json", lambda _: b'{"weight_map": {"a": "b.safetensors"}}', index),
}  # fmt: skip


def tried(read: Callable[[Path], Any], path: Path, data: bytes, what: object) -> str:
    """Reads the file; the sentence, if there is one."""
    path.write_bytes(data)
    try:
        read(path)
    except UserError as error:
        said = str(error)
        assert path.name in said, (what, said)
        assert len(said) < 1000, (what, said)
        assert "\n" not in said, (what, said)
        return said
    except BaseException as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {str(error)[:300]}") from error
    return ""


@pytest.mark.parametrize("reader", READERS)
def test_a_sound_file_is_read(reader: str, tmp_path: Path) -> None:
    name, sound, read = READERS[reader]
    assert tried(read, tmp_path / name, sound(tmp_path), "sound") == ""


@pytest.mark.parametrize("reader", READERS)
def test_a_strange_file_is_read_or_refused(reader: str, tmp_path: Path) -> None:
    name, _, read = READERS[reader]
    for what, data in STRANGE.items():
        tried(read, tmp_path / name, data, what)


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_read_or_refused(reader: str, tmp_path: Path) -> None:
    name, sound, read = READERS[reader]
    data = sound(tmp_path)
    for seed in SEEDS if len(data) < 100_000 else SEEDS[:20]:
        tried(read, tmp_path / name, changed(data, seed), f"seed {seed}")
    for end in {len(data) * part // 20 for part in range(20)}:
        tried(read, tmp_path / name, data[:end], f"the first {end} bytes")


# --- every place of a structured file, with values of every kind ---------------------------------------

VALUES: list[Any] = [None, True, 7, -1, 2.5, float("nan"), float("inf"), 10**400, "", "x", "\ud800",
                     "x" * 300, "~nosuchuser", "../x", "a\0b", [], [1], [[]], {}, {"a": 1},
                     [{"a": []}]]  # fmt: skip


def places(content: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside plain data; of long lists the first two."""
    inside = content.items() if isinstance(content, dict) else ()
    inside = list(enumerate(content))[:2] if isinstance(content, list) else inside
    return [way, *(place for key, value in inside for place in places(value, (*way, key)))]


def with_value(content: Any, way: tuple[Any, ...], value: Any) -> Any:
    if not way:
        return value
    made = content.copy()
    made[way[0]] = with_value(content[way[0]], way[1:], value)
    return made


def without(content: Any, way: tuple[Any, ...]) -> Any:
    made = content.copy()
    if len(way) == 1:
        del made[way[0]]
    else:
        made[way[0]] = without(content[way[0]], way[1:])
    return made


def variants(content: Any) -> list[tuple[str, Any]]:
    found = []
    for way in places(content):
        found += [(f"{way}: {value!r:.50}", with_value(content, way, value)) for value in VALUES]
        if way:
            found.append((f"without {way}", without(content, way)))
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    data = colours(folder / "data", images=6)
    return {name: go(data, folder / name, name, wrong_at(share)) for name, share in (("a", 0.1), ("b", 0.2))}


def test_a_baseline_with_anything_in_it_never_fails_a_check_by_a_fault(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 says that a candidate is worse; whatever is in a file, it is said only with a decision."""
    path = tmp_path / "base.json"
    assert main(["baseline", "save", str(runs["a"]), str(path)]) == 0
    content = json.loads(path.read_bytes())
    assert main(["check", str(runs["a"]), "--baseline", str(path)]) == 0
    statuses = set()
    for what, variant in variants(content):
        path.write_text(json.dumps(variant))
        capsys.readouterr()
        status = main(["check", str(runs["b"]), "--baseline", str(path)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err, (what, err[-2000:])
        assert status == 2 or "colours_test" in out, what
        assert status != 2 or (err.count("\n") == 1 and len(err) < 1000), (what, err[:3000])
        statuses.add(status)
    assert 2 in statuses


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_baseline_is_refused(packed: bool, runs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / f"base.json{'.gz' if packed else ''}"
    scored_run.save(scored_run.read(runs["a"]), path)
    data = path.read_bytes()
    for seed in SEEDS:
        tried(scored_run.read, path, changed(data, seed), f"seed {seed}")
    for what, strange in STRANGE.items():
        assert "is not a baseline file" in tried(scored_run.read, path, strange, what)
    for schema in ('"1"', "null", "[]", "1.5", "true", '{"a": 1}'):
        text = gzip.decompress(data) if packed else data
        changed_schema = text.replace(b'"schema":1', f'"schema":{schema}'.encode())
        assert "schema: is no whole number" in tried(scored_run.read, path, changed_schema, schema)


@pytest.mark.parametrize("text", [b"2.5", b"[" * 5000, b"77", b'{"data_offsets": 3}', b"[1]", b'{"a": null}',
                                  b'{"a": {"data_offsets": [0, "x"]}}', b'{"a": {"data_offsets": [0, [1]]}}',
                                  b'{"a": {"data_offsets": {}}}', b'{"a": {}, "b": []}',
                                  b"\xff\xfe"])  # fmt: skip
def test_odd_headers_of_a_checkpoint_that_is_watched(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    assert trend.lacks(tmp_path) in ("a readable header of model.safetensors", "a readable index")
    (tmp_path / "model.safetensors.index.json").write_bytes(text)
    assert trend.lacks(tmp_path) == "a readable index"


def test_what_is_known_of_a_watch_with_anything_in_it(tmp_path: Path) -> None:
    for what, variant in variants(json.loads(POINTS)):
        path = tmp_path / "watch.json"
        tried(trend.Trend.load, path, json.dumps(variant).encode("utf-8", "surrogatepass"), what)


SCALARS = ["0b_", "2001-99-99", "2001-01-01", "9" * 5000, "-0x" + "f" * 5000, "1e999", ".nan", "-.inf", "~",
           "no", "1:60:99", "[]", "{}", "[[[]]]", "'x'", "''", "{no: 1}", "{1: a}", "{2001-01-01: a}",
           "{[a]: b}", "? a", "!!int x", "*a", "&a b", "'../x'", "~nosuchuser", "'" + "x" * 300 + "'",
           "\"a\\0b\"",
           "'{'"]  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda text: text[:20])
def test_a_task_file_with_any_value_in_any_place(
    scalar: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read, shown and looked for: a sentence, or none needed."""
    colours(tmp_path)
    content = strict_yaml.read(tmp_path / "colours_test.yaml")
    path = tmp_path / "changed_test.yaml"
    for way in places(content)[1:]:
        path.write_text(json.dumps(with_value(content, way, "@@")).replace('"@@"', scalar))
        for words in (["validate", str(path)], ["data", str(path)], ["show", str(path)]):
            status = main([*words, *([] if words[0] == "validate" else ["--data-root", str(tmp_path)])])
            out, err = capsys.readouterr()
            assert "Traceback" not in err, (way, words, err[-1500:])
            assert status in (0, 1, 2)
            assert max(map(len, (out + err).splitlines()), default=0) < 7000


@pytest.mark.parametrize("value", ["[" * 100_000, "0b_", "2001-99-99", "9" * 5000, "{[a]: b}", "{1: a}",
                                   "&a", "!!python/name:os.system x", "[" * 25 + "]" * 7])  # fmt: skip
@pytest.mark.parametrize("key", ["decode.max_new_tokens", "version", "data.sources", "about.x", "x", ""])
def test_set_with_any_value(key: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colours(tmp_path)
    task = str(tmp_path / "colours_test.yaml")
    status = main(["show", task, "--data-root", str(tmp_path), "--set", f"{key}={value}"])
    err = capsys.readouterr().err
    assert status == 2, err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert len(err) < 1000


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "data = ['~nosuchuser/x']",
                                  f"data = ['{'x' * 300}']",
                                  "data = ['a\\u0000b']", "[run]\nlimit = " + "9" * 5000, "'' = 1",
                                  "run = 2001-01-01", "[run]\nlimit = 2001-01-01", "[[run]]",
                                  "data = [[]]"])  # fmt: skip
def test_a_configuration_with_anything_in_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    colours(tmp_path / "data")
    shutil.copy(tmp_path / "data/colours_test.yaml", tmp_path)
    (tmp_path / "evalkit.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    status = main(["data", "colours_test.yaml"])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert status in (1, 2)
    assert "evalkit.toml" in out + err or "missing" in out + err


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "~nosuchuser/x", "/" + "x/" * 3000, " ", "/dev/null"])
def test_names_that_can_be_no_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In every option that takes a path."""
    monkeypatch.chdir(tmp_path)
    colours(tmp_path)
    task = "colours_test.yaml"
    for words in (
        ["check", name, "--baseline", name],
        ["check", name, "--baseline", name, "--policy", name],
        ["compare", name, name],
        ["table", name],
        ["score", name],
        ["score", "--task", task, "--data-root", ".", "--predictions", name],
        ["score", "--task", task, "--data-root", name, "--predictions", "x"],
        ["data", task, "--data-root", name],
        ["data", f"{name}.yaml"],
        ["validate", f"{name}.yaml"],
        ["show", name],
        ["run", "--model", name, "--tasks", task, "--data-root", "."],
        ["run", "--model", "demo", "--tasks", name],
        ["run", "--model", "demo", "--tasks", task, "--ids", name],
        ["ask", "--model", "demo", "--image", name, "x"],
        ["export", name],
        ["explain", name],
        ["runs", "list", name],
        ["watch", name, "--tasks", task, "--once"],
        ["baseline", "save", name, name],
        ["convert", name, name],
        ["doctor", "--model", name],
    ):
        status = main_status(words)
        err = capsys.readouterr().err
        assert "Traceback" not in err, (words, err[-1500:])
        assert status in (0, 2), (words, status, err)


def main_status(words: list[str]) -> Any:
    try:
        return main(words)
    except SystemExit as error:  # of the options' own reading
        return error.code


def test_hints_say_what_does_not_fit() -> None:
    sound = {"step": 1, "name": "a", "runs": ("a",), "values": {}, "mean": 0.5, "models": {}}
    assert hints.misfit(trend.Point, sound) == ""
    assert hints.misfit(trend.Point, sound | {"step": "1"}) == "step: is text, must be a whole number"
    assert hints.misfit(trend.Point, sound | {"runs": ["a", 1]}).startswith("runs: is list")


def fault(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("by a fault")


def too_long(*_: Any, **__: Any) -> Any:
    raise OSError(36, "File name too long", "x" * 300)


def shut(*_: Any, **__: Any) -> Any:
    raise BrokenPipeError


@pytest.mark.parametrize(("error", "said"), [(fault, "did not expect"), (too_long, "File name too long")])
def test_no_unexpected_error_says_that_a_candidate_is_worse(
    error: Callable[..., Any], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scored_run, "read", error)
    assert main(["check", "a", "--baseline", "b"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert ("Traceback" in err) == (error is fault)


def test_a_decision_that_nobody_could_read_is_no_pass(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.dup2", lambda *_: None)
    monkeypatch.setattr(scored_run, "read", shut)
    assert main(["check", str(runs["a"]), "--baseline", str(runs["a"])]) == 2
    assert main(["compare", str(runs["a"]), str(runs["a"])]) == 0
