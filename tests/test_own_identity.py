"""Code of the user's own is identified by all that it is made of and reads, as it was executed and read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub import colours

import evalkit
from evalkit import imports, own_code, registry
from evalkit.cli.main import main
from evalkit.models.module import Module
from evalkit.reading import Reading
from evalkit.runs import store
from evalkit.types import Decode, ImageRef, Preparation, Request

MODEL = """
from pathlib import Path
{imports}

class Mine:
    def __init__(self, weights=""):
        self.word = "red"
        {load}

    @classmethod
    def identity(cls, **options):
        return {{"mine": 1}}

    def answer(self, image, prompt, max_new_tokens):
        {answer}
"""


@pytest.fixture(autouse=True)
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures; the working folder holds the model's code, and nothing else finds it later."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(own_code, "_LOADED", {})
    for name in [name for name, module in sys.modules.items() if imports.source(module)]:
        del sys.modules[name]
    return colours(tmp_path / "data", questions=1, images=4)


def model(imports: str = "", load: str = "pass", answer: str = "return self.word", file: str = "mine.py"
          ) -> str:  # fmt: skip
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text(MODEL.format(imports=imports, load=load, answer=answer))
    return f"module:{file}:Mine"


def run(spec: str, **more: Any) -> str:
    """Runs the task; its first answer, be it from now or from earlier."""
    (made,) = evalkit.run(spec, "data/colours_test.yaml", data_root="data", **more)
    return first(made)


def first(made: evalkit.Run) -> str:
    return next(iter(made.folder.entries().values())).prediction.text


def runs() -> int:
    return len(list(Path("results").glob("*/run.json")))


def asked(spec: str, **options: Any) -> tuple[str, Mapping[str, Any], Mapping[str, str]]:
    """One answer of the model without a run, its identity, and the files that it has read."""
    made = Module(spec.removeprefix("module:"), options)
    image = ImageRef(str(Path("data/pictures/0.png")))
    (given,) = made.predict([Request("q", (image,), "what?", Preparation(8), Decode())])
    return given.text, made.identity(), made.used()


def rewrite(file: str, old: str, new: str) -> None:
    """Another content of equal size and time, which bytecode is taken to belong to."""
    path = Path(file)
    before = path.stat()
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# --- imported modules -----------------------------------------------------------------------------

# how: (imports, what is answered, the file that changes)
NAMED = {
    "a module": ("import helper", "return helper.WORD", "helper.py"),
    "from a module": ("from helper import WORD", "return WORD", "helper.py"),
    "a module of a module": ("import outer", "return outer.word()", "helper.py"),
    "a package": ("import pack.part as part", "return part.WORD", "pack/part.py"),
    "a package's own file": ("import pack.part", "return pack.WORD", "pack/__init__.py"),
    "a relative import": ("import pack.part as part", "return part.near()", "pack/near.py"),
    "a namespace package": ("from space import part", "return part.WORD", "space/part.py"),
    "while it answers": ("", "import helper; return helper.WORD", "helper.py"),
    "by its name": ("import importlib", "return importlib.import_module('helper').WORD", "helper.py"),
}
MADE = {
    "by a made name": ("import importlib", "return importlib.import_module('hel' + 'per').WORD", "helper.py"),
    "as text": ("", "exec(Path('helper.py').read_text(), globals()); return WORD", "helper.py"),
    "as a script": ("import runpy", "return runpy.run_path('helper.py')['WORD']", "helper.py"),
}


@pytest.fixture
def helpers() -> None:
    for folder in ("pack", "space"):
        Path(folder).mkdir()
    for file in ("helper.py", "pack/__init__.py", "pack/near.py", "space/part.py"):
        Path(file).write_text("WORD = 'old'\n")
    Path("outer.py").write_text("import helper\ndef word():\n    return helper.WORD\n")
    near = "def near():\n    from .near import WORD\n    return WORD\n"
    Path("pack/part.py").write_text(f"WORD = 'old'\n{near}")


@pytest.mark.usefixtures("helpers")
@pytest.mark.parametrize("way", NAMED)
def test_what_a_model_imports_is_in_its_identity(way: str) -> None:
    imports, answer, changed = NAMED[way]
    spec = model(imports, answer=answer)
    text, identity, used = asked(spec)
    assert (text, used) == ("old", {})
    assert asked(spec) == (text, identity, used)
    rewrite(changed, "'old'", "'new'")
    text, other, used = asked(spec)
    assert (text, used) == ("new", {})
    assert other != identity


@pytest.mark.usefixtures("helpers")
@pytest.mark.parametrize("way", MADE)
def test_what_only_a_run_shows_is_noted_with_it(way: str) -> None:
    imports, answer, changed = MADE[way]
    spec = model(imports, answer=answer)
    text, identity, used = asked(spec)
    assert (text, [Path(file).name for file in used]) == ("old", ["helper.py"])
    assert asked(spec) == (text, identity, used)
    rewrite(changed, "'old'", "'new'")
    text, same, other = asked(spec)
    assert (text, same, other.keys()) == ("new", identity, used.keys())
    assert other != used


@pytest.mark.usefixtures("helpers")
@pytest.mark.parametrize("way", ["a module", "by a made name"])
def test_a_change_of_what_a_model_imports_makes_another_run(way: str) -> None:
    imports, answer, changed = {**NAMED, **MADE}[way]
    spec = model(imports, answer=answer)
    assert [run(spec), run(spec), runs()] == ["old", "old", 1]
    rewrite(changed, "'old'", "'new'")
    assert [run(spec), runs()] == ["new", 2]
    rewrite(changed, "'new'", "'old'")
    assert [run(spec), runs()] == ["old", 2]  # the first one again


def test_a_model_is_the_file_that_was_named_not_one_of_its_name_beside_the_task() -> None:
    beside = model(answer="return 'beside the task'", file="data/mine.py")
    spec = model(answer="return 'named'")
    assert (run(spec, allow_code=True), run(beside, allow_code=True)) == ("named", "beside the task")
    Path("mine.py").unlink()
    assert run(spec, allow_code=True) == "beside the task"


def test_a_file_alone_is_named_by_its_digest_as_before() -> None:
    Path("mine.py").write_text("import json\nclass Mine: pass\n")
    found = own_code.digest(own_code.load("mine.py:Mine", "m"))
    assert found == hashlib.sha256(Path("mine.py").read_bytes()).hexdigest()


def test_two_folders_with_modules_of_one_name(tmp_path: Path) -> None:
    specs = []
    for word in ("one", "two"):
        answer = "import later; return helper.WORD + later.WORD"
        specs.append(model("import helper", answer=answer, file=f"{word}/mine.py"))
        for name in ("helper", "later"):
            Path(f"{word}/{name}.py").write_text(f"WORD = '{word}'\n")
    for _ in range(2):
        made = evalkit.run(specs, "data/colours_test.yaml", data_root="data")
        assert [first(r) for r in made] == ["oneone", "twotwo"]


def test_code_that_is_changed_after_it_was_looked_at_runs_as_it_was(tmp_path: Path) -> None:
    """The helper is imported at the second answer; by then its file is another."""
    body = "Path('helper.py').write_text(\"WORD = 'new'\"); import helper; return helper.WORD"
    Path("helper.py").write_text("WORD = 'old'\n")
    spec = model(answer=body)
    assert run(spec) == "old"


@pytest.mark.parametrize("kind", ["metric", "parser", "format"])
def test_what_own_parts_of_a_task_import_is_in_the_spelling(kind: str, tmp_path: Path) -> None:
    Path("helper.py").write_text("A = 1\n")
    bodies = {
        "metric": "from evalkit.types import Metric\n@dataclass(frozen=True)\nclass X(Metric):\n"
        "    def rows(self, answers, targets): return []\n",
        "parser": "from evalkit.types import Parser\n@dataclass(frozen=True)\nclass X(Parser):\n"
        "    kind = 'text'\n    def read(self, prediction, size): return None\n",
        "format": "from evalkit.types import Format\n@dataclass(frozen=True)\nclass X(Format):\n"
        "    def samples(self, source, split): return iter(())\n",
    }
    Path("x.py").write_text("from dataclasses import dataclass\nimport helper\n" + bodies[kind])
    with own_code.allowed(True):
        one = registry.identified(f"{kind}s", "module:x.py:X")
        Path("helper.py").write_text("A = 2\n")
        two = registry.identified(f"{kind}s", "module:x.py:X")
    assert one != two


METRIC = """
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from evalkit.types import Metric
{early}

@dataclass(frozen=True)
class Mine(Metric):
    def rows(self, answers, targets):
        {late}
        return np.array([[worth, 1.0] for _ in answers])
"""


@pytest.mark.parametrize("when", ["when it is imported", "while it scores"])
def test_a_file_that_an_own_metric_reads_is_scored_again_and_named(when: str, task: Path) -> None:
    read = "worth = float(Path('worth.txt').read_text())"
    early, late = (read, "pass") if when == "when it is imported" else ("", read)
    Path("metric.py").write_text(METRIC.format(early=early, late=late))
    task.write_text(task.read_text().replace("[exact_match]", "['module:metric.py:Mine']"))
    spec, found = model(), []
    for worth in ("0.25", "0.75", "0.75"):
        Path("worth.txt").write_text(worth)
        (made,) = evalkit.run(spec, task, data_root="data", allow_code=True)
        found.append(store.scores_of(made.folder)[0])
    assert [score.value for score in found] == [0.25, 0.75, 0.75]
    first, second, third = ({*score.signature.split("|")} for score in found)
    assert [part[:6] for part in first ^ second] == ["files:", "files:"]
    assert second == third


def test_a_parser_that_is_changed_while_the_model_answers_is_scored_again(task: Path) -> None:
    body = (
        "from dataclasses import dataclass\nfrom evalkit.types import Parser\n\n\n@dataclass(frozen=True)\n"
        "class Mine(Parser):\n    kind = 'text'\n    def read(self, prediction, size): return 'red'\n"
    )
    Path("parser.py").write_text(body)
    Path("new.py").write_text(body.replace("'red'", "'grey'"))
    task.write_text(task.read_text().replace("parser: text", "parser: module:parser.py:Mine"))
    spec = model(answer="Path('parser.py').write_text(Path('new.py').read_text()); return 'red'")
    found = []
    for _ in range(2):
        (made,) = evalkit.run(spec, task, data_root="data", allow_code=True)
        found.append(store.scores_of(made.folder)[0])
    assert [score.value for score in found] == [0.5, 0.0]
    assert found[0].signature != found[1].signature


# --- files that a model opens ---------------------------------------------------------------------


def saved(value: int) -> None:
    """Weights in three forms; all have the same size whatever the value is."""
    from safetensors.numpy import save_file

    Path("w.txt").write_text(str(value))
    np.save("w.npy", np.array([value]))
    save_file({"w": np.array([value])}, "w.safetensors")
    Path("folder").mkdir(exist_ok=True)
    Path("folder/w.bin").write_text(str(value))
    Path("w.db").unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect("w.db")) as database:
        database.execute("CREATE TABLE w AS SELECT ? AS value", [str(value)])
        database.commit()


READS: dict[str, tuple[str, str, dict[str, str]]] = {
    "a file": ("", "self.word = Path('w.txt').read_text()", {}),
    "a file, at the first answer": ("", "", {}),
    "a file, when it is imported": ("WORD = Path('w.txt').read_text()", "self.word = WORD", {}),
    "a file, when a module is imported": ("import reads", "self.word = reads.WORD", {}),
    "numpy": ("import numpy", "self.word = str(numpy.load('w.npy')[0])", {}),
    "safetensors": (
        "from safetensors.numpy import load_file",
        "self.word = str(load_file('w.safetensors')['w'][0])",
        {},
    ),
    "safe_open": (
        "import safetensors",
        "self.word = str(safetensors.safe_open('w.safetensors', 'np').get_tensor('w')[0])",
        {},
    ),
    "SQLite": (
        "import sqlite3",
        "self.word = sqlite3.connect('w.db').execute('SELECT value FROM w').fetchone()[0]",
        {},
    ),
    "SQLite, by an address": (
        "import sqlite3",
        "base = sqlite3.connect('file:w.db?mode=ro', uri=True)\n"
        "        self.word = base.execute('SELECT value FROM w').fetchone()[0]",
        {},
    ),
    "a native reader that maps a file": (
        "import pyarrow",
        "self.held = pyarrow.memory_map('w.txt'); self.word = self.held.read().decode()",
        {},
    ),
    "a native reader of an option's file": (
        "import subprocess",
        "self.word = subprocess.run(['cat', weights], capture_output=True, text=True).stdout",
        {"weights": "w.txt"},
    ),
    "a native reader of an option's folder": (
        "import subprocess",
        "self.word = subprocess.run(['cat', weights + '/w.bin'], capture_output=True, text=True).stdout",
        {"weights": "folder"},
    ),
}


@pytest.mark.parametrize("log", ["delete", "wal"])
def test_a_database_that_a_class_writes_is_not_what_it_reads(log: str) -> None:
    """It may keep answers of its own there, from run to run."""
    saved(1)
    reading = Reading(object, "mine")
    with contextlib.closing(sqlite3.connect("w.db")) as before:
        before.execute(f"PRAGMA journal_mode={log}")
        os.utime("w.db", (1, 1))  # clocks of file systems are coarse
        with reading.watching():
            base = sqlite3.connect("w.db")
        assert list(reading.used()) == [str(Path("w.db").absolute())]
        with reading.watching():
            base.execute("INSERT INTO w VALUES (2)")
            base.commit()
        assert not reading.used()
        base.close()


@pytest.mark.parametrize("way", READS)
def test_what_a_model_opens_is_noted(way: str) -> None:
    imports, load, options = READS[way]
    Path("reads.py").write_text("WORD = open('w.txt').read()\n")
    spec = model(imports, load or "pass", "return self.word" if load else "return Path('w.txt').read_text()")
    saved(1)
    text, identity, used = asked(spec, **options)
    assert text == "1"
    assert asked(spec, **options) == (text, identity, used)
    saved(2)
    text, same, other = asked(spec, **options)
    assert (text, same, other.keys()) == ("2", identity, used.keys())
    assert other != used


def test_other_weights_make_another_run() -> None:
    spec = model(load="self.word = Path('w.txt').read_text()")
    saved(1)
    assert [run(spec), run(spec), runs()] == ["1", "1", 1]
    saved(2)
    assert [run(spec), run(spec), runs()] == ["2", "2", 2]
    saved(1)
    assert [run(spec), runs()] == ["1", 2]


def test_weights_that_changed_are_no_same_weights(capsys: pytest.CaptureFixture[str]) -> None:
    spec = model(load="Path('w.txt').read_text()")
    saved(1)
    run(spec)
    saved(2)
    run(spec, output_path="other")
    (one,), (two,) = Path("results").iterdir(), Path("other").iterdir()
    assert main(["explain", str(one), str(two)]) == 0
    assert "the models differ, first in used: w.txt" in capsys.readouterr().out
    assert main(["check", str(two), "--baseline", str(one)]) in (0, 3)
    assert "same weights" not in capsys.readouterr().out


def test_weights_replaced_while_they_are_read_stop_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    saved(1)
    spec = model(load="self.word = Path('w.txt').read_text(); import os; os.system('echo 2 > w.txt')")
    assert main(["run", "--model", spec, "--tasks", "data/colours_test.yaml", "--data-root", "data"]) == 2
    assert "w.txt: changed while it was read" in capsys.readouterr().err
    assert not [e for folder in store.find([Path("results")]) for e in folder.entries()]


def test_an_identity_that_changes_while_the_model_is_loaded_stops_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The weights are read natively and named by the class alone."""
    spec = model(load="import os; os.system('echo 2 > w.txt')")
    file = Path("mine.py")
    size = '{"size": Path("w.txt").stat().st_size}'
    file.write_text(file.read_text().replace('{"mine": 1}', size))
    saved(100)
    assert main(["run", "--model", spec, "--tasks", "data/colours_test.yaml", "--data-root", "data"]) == 2
    assert "identity() gives another answer than before the model was loaded" in capsys.readouterr().err


def test_weights_replaced_between_two_sessions_of_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped after two answers, the run is not gone on with under other weights."""
    body = "self.n = getattr(self, 'n', 0) + 1\n        assert self.n < 3\n        return self.word"
    spec = model(load="self.word = Path('w.txt').read_text()", answer=body)
    saved(1)
    words = ["run", "--model", spec, "--tasks", "data/colours_test.yaml", "--data-root", "data"]
    assert main(words) == 2
    saved(2)
    assert main(words) == 2
    texts = [{e.prediction.text for e in f.entries().values()} for f in store.find([Path("results")])]
    assert sorted(texts, key=str) == [{"1"}, {"2"}]


def test_what_a_model_wrote_itself_is_no_input() -> None:
    body = "Path('log.txt').open('a').write('x'); Path('log.txt').read_text(); return 'red'"
    spec = model(answer=body)
    run(spec)
    run(spec)
    assert runs() == 1
    (folder,) = store.find([Path("results")])
    assert "used" not in (folder.read_run() or {})


def test_a_file_that_is_gone_before_it_is_hashed_leaves_the_model_unidentified(
    capsys: pytest.CaptureFixture[str],
) -> None:
    load = "import os; os.system('echo red > g.txt'); self.word = open('g.txt').read(); os.remove('g.txt')"
    spec = model(load=load)
    assert [run(spec), run(spec), runs()] == ["red\n", "red\n", 2]
    assert main(["table", "results"]) == 0
    assert "? unidentified" in capsys.readouterr().out


def test_an_own_backend_is_named_by_what_it_imports_and_opens() -> None:
    Path("mine.py").write_text(
        "import hashlib\nfrom pathlib import Path\nimport helper\n"
        "from evalkit.data.sources import read_bytes\nfrom evalkit.types import Model, Prediction\n\n\n"
        "class Mine(Model):\n"
        "    def __init__(self, spec):\n        pass\n"
        "    def identity(self):\n        return {'mine': 1}\n"
        "    def predict(self, requests, on_bad_image=None):\n"
        "        word = Path('w.txt').read_text() + helper.WORD\n"
        "        for r in requests:\n"
        "            digests = tuple(hashlib.sha256(read_bytes(i)).hexdigest() for i in r.images)\n"
        "            yield Prediction(r.id, r.prompt, word, image_digests=digests, sizes=((8, 8),))\n"
    )
    Path("helper.py").write_text("WORD = 'a'\n")
    saved(1)
    spec = "module:mine.py:Mine"
    assert run(spec) == "1a"
    saved(2)
    assert run(spec) == "2a"
    Path("helper.py").write_text("WORD = 'b'\n")
    assert run(spec) == "2b"
    assert run(spec) == "2b"
    assert runs() == 3
    for folder in store.find([Path("results")]):
        used = (folder.read_run() or {})["used"]
        assert [Path(p).name for p in used] == ["w.txt"]  # and none of the images
    saved(1)
    Path("helper.py").write_text("WORD = 'a'\n")
    assert run(spec) == "1a"
    assert runs() == 3
