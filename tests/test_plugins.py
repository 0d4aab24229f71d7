"""Code of the user's own: metrics, parsers, formats, backends and table forms from a file or a package."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from stub import colours

import evalkit
from evalkit import own_code, registry
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.runs import store

METRIC = '''
"""Mine."""
from dataclasses import dataclass
import numpy as np
from evalkit.types import Metric

@dataclass(frozen=True)
class Half(Metric):
    """Half of a right answer."""
    worth: float = 0.5

    def rows(self, answers, targets):
        return np.array([[self.worth * (a in t), 1.0] for a, t in zip(answers, targets)])
'''
PARSER = '''
from dataclasses import dataclass
from evalkit.types import Parser

@dataclass(frozen=True)
class First(Parser):
    """The first word."""
    kind = "text"

    def read(self, prediction, size):
        return prediction.text.split(" ")[0] or None
'''
FORMAT = '''
from dataclasses import dataclass
from evalkit.data.sources import image_ref
from evalkit.types import Format, Sample

@dataclass(frozen=True)
class Two(Format):
    """Two samples."""
    fields = ("question",)

    def samples(self, source, split):
        for name in ("1.png", "2.png"):
            image = image_ref(source.path("images"), name)
            yield Sample(name, (image,), {"question": "which?"}, ("red",))
'''
BACKEND = '''
import hashlib
from evalkit.data.sources import read_bytes
from evalkit.types import Model, Prediction

class Red(Model):
    """Always the same word."""
    uses = frozenset({"dtype"})

    def __init__(self, spec, dtype="float32"):
        self.word = spec or "red"

    def identity(self):
        return {"backend": "red", "word": self.word}

    def predict(self, requests, on_bad_image=None):
        for r in requests:
            digests = tuple(hashlib.sha256(read_bytes(i)).hexdigest() for i in r.images)
            yield Prediction(r.id, r.prompt, self.word + " indeed", image_digests=digests, sizes=((8, 8),))
'''
FORM = """
def write(cells):
    return "".join(f"{c.score.task}={c.score.value}\\n" for c in cells)
"""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task beside its own metric, parser and format, run from another folder."""
    path = colours(tmp_path / "data")
    for name, code in (("metric", METRIC), ("parser", PARSER), ("format", FORMAT)):
        (path.parent / f"my_{name}.py").write_text(code)
    (tmp_path / "my_backend.py").write_text(BACKEND)
    (tmp_path / "my_form.py").write_text(FORM)
    text = path.read_text().replace("[exact_match]", "[exact_match, 'module:my_metric.py:Half(worth=0.25)']")
    path.write_text(text.replace("parser: text", "parser: module:my_parser.py:First"))
    monkeypatch.chdir(tmp_path)
    return path


def run(task: Path, *more: str) -> int:
    words = [
        "run",
        "--model",
        "module:my_backend.py:Red",
        "--tasks",
        str(task),
        "--data-root",
        str(task.parent),
    ]
    return main([*words, *more])


def test_own_code_runs_only_when_it_may(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(task) == 2
    err = capsys.readouterr().err
    assert f"{task}: parser: 'module:my_parser.py:First' is code of your own; --allow-code lets it run" in err
    assert run(task, "--allow-code") == 0
    assert not own_code.is_allowed()
    (folder,) = store.find([Path("results")])
    exact, half = store.scores_of(folder)
    assert (exact.value, half.value) == (0.5, 0.125)
    code = own_code.digest(own_code.load(f"{task.parent}/my_metric.py:Half", "m"))[:12]
    assert f"|metric:module:my_metric.py:Half(worth=0.25)#{code}|" in half.signature
    assert "|parser:module:my_parser.py:First#" in half.signature
    recorded = folder.read_run()
    assert recorded is not None
    assert len(recorded["identity"]["model"]["code"]) == 64


def test_code_that_changed_is_not_taken_for_the_old(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(task, "--allow-code") == 0
    assert main(["baseline", "save", "results", "b.json", "--allow-code"]) == 0
    for words in (["compare", "results", "b.json"], ["table", "results", "--paired"]):
        assert main([*words, "--allow-code"]) == 0
    (task.parent / "my_metric.py").write_text(METRIC.replace("self.worth *", "2 * self.worth *"))
    capsys.readouterr()
    assert main(["compare", "results", "b.json", "--allow-code"]) == 2
    assert "module:my_metric.py:Half: its code is not the one of this run" in capsys.readouterr().err
    assert main(["score", "results", "--allow-code"]) == 0  # today's code, though nothing else changed
    assert store.scores_of(store.find([Path("results")])[0])[1].value == 0.25


def test_a_format_of_ones_own(task: Path) -> None:
    task.write_text(task.read_text().replace("format: jsonl", "format: module:my_format.py:Two"))
    assert run(task, "--allow-code") == 0
    (folder,) = store.find([Path("results")])
    recorded = folder.read_run()
    assert recorded is not None
    assert recorded["identity"]["task"]["format"].startswith("module:my_format.py:Two#")
    assert [s.n for s in store.scores_of(folder)] == [2, 2]


def test_a_form_of_ones_own(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(task, "--allow-code") == 0
    capsys.readouterr()
    assert main(["table", "--format", "module:my_form.py:write"]) == 2
    assert "--format module:my_form.py:write: is code of your own; --allow-code" in capsys.readouterr().err
    assert main(["table", "--format", "module:my_form.py:write", "--allow-code"]) == 0
    assert capsys.readouterr().out == "colours_test=0.5\ncolours_test=0.125\n"
    assert evalkit.table(format="module:my_form.py:write", allow_code=True).startswith("colours_test=0.5")
    assert main(["table", "--format", "htm"]) == 2
    assert "--format htm: no such form; did you mean html" in capsys.readouterr().err


def test_an_option_that_the_own_backend_does_not_use(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(task, "--allow-code", "--dtype", "bfloat16", "--limit", "1") == 0
    assert run(task, "--allow-code", "--quantize", "int8") == 2
    assert "--quantize int8: the backend my_backend.py:Red does not use it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "def __init__(self, spec",
            "def __init__(self, weights, spec",
            "TypeError: Red.__init__() missing 1",
        ),
        (
            'return {"backend"',
            'return {1 / 0: 1, "backend"',
            "ZeroDivisionError: division by zero (my_",
        ),
        (
            "digests = tuple(",
            "digests = nothing, tuple(",
            "NameError: name 'nothing' is not defined (my_",
        ),
    ],
)
def test_what_the_own_backend_raises_is_one_sentence(
    task: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in BACKEND
    Path("my_backend.py").write_text(BACKEND.replace(old, new))
    assert run(task, "--allow-code") == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"evalkit: module:my_backend.py:Red: raised {said}")
    )


def test_python_may_use_own_code_too(task: Path) -> None:
    (made,) = evalkit.run("module:my_backend.py:Red", task, data_root=task.parent, allow_code=True)
    assert made.samples()["module:my_metric.py:Half(worth=0.25)"].mean() == 0.125
    assert evalkit.load("results", allow_code=True)[0].samples().shape[0] == 20
    with pytest.raises(UserError, match="--allow-code"):
        evalkit.load("results")[0].samples()
    assert evalkit.metric(f"module:{task.parent}/my_metric.py:Half", allow_code=True).maximum == 1
    code = made.record["identity"]["model"]
    assert code["options"] == {}
    (again,) = evalkit.run(
        "module:my_backend.py:Red", task, data_root=task.parent, allow_code=True, dtype="bfloat16", limit=1
    )
    assert again.record["identity"]["model"]["options"] == {"dtype": "bfloat16"}


def test_lists_name_own_code_without_running_it(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (task.parent / "my_metric.py").write_text("raise SystemExit(7)")
    for room, spelled in (
        ("metrics", "module:my_metric.py:Half(worth=0.25)"),
        ("parsers", "module:my_parser.py:First"),
    ):
        assert main(["list", room, "--include-path", str(task.parent)]) == 0
        (line,) = [li for li in capsys.readouterr().out.splitlines() if li.startswith(spelled)]
        assert line.endswith(f"your own, named by {task}; runs with --allow-code")


def test_a_package_adds_by_entry_points(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "packaged_metric.py").write_text(METRIC)
    (tmp_path / "packaged_backend.py").write_text(BACKEND)
    monkeypatch.syspath_prepend(tmp_path)
    added = {
        "metrics": {"half": metadata.EntryPoint("half", "packaged_metric:Half", "evalkit.metrics")},
        "models": {"red": metadata.EntryPoint("red", "packaged_backend:Red", "evalkit.models")},
    }
    monkeypatch.setattr(registry, "entry_points", lambda room: added.get(room, {}))
    task.write_text(task.read_text().replace("module:my_metric.py:Half(worth=0.25)", "half"))
    words = ["run", "--model", "red:blue", "--tasks", str(task), "--data-root", str(task.parent)]
    assert main([*words, "--allow-code"]) == 0
    (folder,) = store.find([Path("results")])
    assert [s.value for s in store.scores_of(folder)] == [0.5, 0.25]
    assert "|metric:half(worth=0.5)#" in store.scores_of(folder)[1].signature
    assert main(["list", "metrics"]) == 0
    assert "of a package: packaged_metric:Half" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spelled", "said"),
    [
        ("module:none.py:Half", "module:none.py:Half: none.py: no such file"),
        ("module:my_metric.py:Hlaf", "my_metric.py has no class 'Hlaf'; did you mean Half"),
        ("module:my_metric.py:Half(wroth=1.0)", "no parameter 'wroth'; did you mean worth"),
        ("module:my_metric.py:Half(worth='a')", "worth='a': must be a number"),
        (
            "module:my_parser.py:First",
            "module:my_parser.py:First: is no Metric; derive it from evalkit.types.Metric",
        ),
        (
            "module:loose.py:Loose",
            "module:loose.py:Loose: is no dataclass; put @dataclass(frozen=True) on it",
        ),
        ("module:loose.py:Bare", "module:loose.py:Bare: lacks rows"),
        (
            "module:broken.py:Half",
            "cannot be imported: NameError: name 'nothing' is not defined (broken.py, line 1)",
        ),
        ("module:my_metric.py", "write module:FILE.py:CLASS"),
    ],
)
def test_what_is_wrong_with_own_code_is_one_sentence(
    task: Path, spelled: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (task.parent / "broken.py").write_text("nothing")
    (task.parent / "loose.py").write_text(
        "from dataclasses import dataclass\nfrom evalkit.types import Metric\n"
        "class Loose(Metric):\n    def rows(self, a, t): return []\n"
        "@dataclass(frozen=True)\nclass Bare(Metric):\n    pass\n"
    )
    task.write_text(
        task.read_text().replace("module:my_metric.py:Half(worth=0.25)", spelled.replace("'", "''"))
    )
    assert run(task, "--allow-code") == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith(f"evalkit: {task}: metrics: ")
    assert err.count("\n") == 1


def test_a_spelling_goes_and_comes_back(task: Path) -> None:
    with own_code.allowed(True, [task.parent]):
        made = registry.make("metrics", "module:my_metric.py:Half(worth=0.25)")
        assert registry.make("metrics", registry.spell(made)) == made
    with pytest.raises(UserError, match="--allow-code"):
        registry.make("metrics", registry.spell(made))
    assert registry.identified("metrics", "exact_match(lowercase=True)") == "exact_match(lowercase=True)"
    assert (
        json.dumps(registry.parse("module:a.py:B(c=(1, 2))#0123456789ab"))
        == '["module:a.py:B", {"c": [1, 2]}]'
    )
