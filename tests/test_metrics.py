"""Rules that every metric keeps, and what each reference does at its edges."""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_examples import EXAMPLES, Example

from evalkit import registry
from evalkit.errors import UserError
from evalkit.metrics import meteor, spice
from evalkit.text import java
from evalkit.types import Metric


def spice_needs() -> str:
    """The first of SPICE's jars that is not there, or ''."""
    folder = java.jar("spice", "spice-1.0.jar").parent / "lib"
    return next((name for name in spice.MODELS if not (folder / name).is_file()), "")


def _marks(name: str, example: Example) -> list[pytest.MarkDecorator]:
    """Skips with a reason where a metric's outside program is not there."""
    if not example.java:
        return []
    marks = [pytest.mark.java]
    if not shutil.which("java"):
        marks.append(pytest.mark.skip(reason="no Java: install openjdk-17-jre-headless"))
    elif name == "spice" and spice_needs():
        marks.append(pytest.mark.skip(reason=f"SPICE needs {spice_needs()}"))
    return marks


pytestmark = pytest.mark.usefixtures("radgraph")


CASES = [
    pytest.param(example, spelling, id=spelling, marks=_marks(name, example))
    for name, example in EXAMPLES.items()
    for spelling in example.spellings
]
over_all = pytest.mark.parametrize(("example", "spelling"), CASES)


def scored(metric: Metric, answers: Any, targets: Any) -> float:
    return metric.reduce(metric.rows(list(answers), list(targets)))


def test_every_metric_has_an_example() -> None:
    assert set(registry.names("metrics")) == set(EXAMPLES)


def test_every_metric_says_what_it_reads() -> None:
    for name in registry.names("metrics"):
        metric = registry.find("metrics", name)
        assert set(metric.wants) <= {"text", "boxes", "masks"}
        assert metric.__doc__


@over_all
def test_spelling_is_read_back(example: Example, spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    assert registry.make("metrics", registry.spell(metric)) == metric


@over_all
def test_order_does_not_matter(example: Example, spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    pairs = list(zip(example.answers, example.targets, strict=True))
    before = scored(metric, *zip(*pairs, strict=True))
    random.Random(7).shuffle(pairs)
    assert scored(metric, *zip(*pairs, strict=True)) == pytest.approx(before, abs=1e-12)


@over_all
def test_a_perfect_answer_is_best(example: Example, spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    best = scored(metric, example.perfect, example.targets)
    if example.best is None:
        assert best == pytest.approx(metric.minimum if metric.lower_is_better else metric.maximum)
    else:
        assert best >= example.best
    got = scored(metric, example.answers, example.targets)
    assert got >= best if metric.lower_is_better else got <= best


@over_all
def test_an_unreadable_answer_is_worst(example: Example, spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    nothing = scored(metric, [None] * len(example.targets), example.targets)
    if not metric.lower_is_better:
        assert nothing == metric.minimum
    for i in range(len(example.targets)):
        spoilt = [None if j == i else answer for j, answer in enumerate(example.perfect)]
        best, less = (scored(metric, a, example.targets) for a in (example.perfect, spoilt))
        assert less >= best if metric.lower_is_better else less <= best


@over_all
def test_scores_stay_in_bounds(example: Example, spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    rows = metric.rows(list(example.answers), list(example.targets))
    for value in (metric.reduce(rows), *metric.details(rows).values()):
        assert value >= metric.minimum
        assert metric.maximum is None or value <= metric.maximum


@over_all
def test_rows_are_one_a_sample_and_plain(example: Example, spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    rows = metric.rows(list(example.answers), list(example.targets))
    assert len(rows) == len(example.targets)
    if isinstance(rows, np.ndarray):
        assert rows.dtype == np.float64
        assert rows.shape == (len(example.targets), len(metric.columns))
        assert np.isfinite(rows).all()
        rows = rows.tolist()
    back = json.loads(json.dumps(rows, allow_nan=False))
    assert metric.reduce(back) == metric.reduce(rows)


@over_all
def test_drawing_each_sample_once_changes_nothing(example: Example, spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    rows = metric.rows(list(example.answers), list(example.targets))
    assert metric.reduce(rows, np.ones(len(rows), dtype=int)) == metric.reduce(rows)


@over_all
def test_counts_mean_copies(example: Example, spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    rows = metric.rows(list(example.answers), list(example.targets))
    generator = np.random.default_rng(3)
    for _ in range(10):
        counts = generator.integers(0, 4, len(rows))
        copied = [row for row, count in zip(rows, counts, strict=True) for _ in range(count)]
        ours, theirs = metric.reduce(rows, counts), metric.reduce(copied) if copied else math.nan
        assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)


@over_all
def test_no_sample_is_no_score(example: Example, spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    assert len(metric.rows([], [])) == 0


@over_all
def test_answers_and_targets_must_pair(example: Example, spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    with pytest.raises(ValueError, match="zip"):
        metric.rows(list(example.answers[:-1]), list(example.targets))


# --- edges, each as its reference has it -------------------------------------------------------

EDGES = [
    # the official script leaves normalisation out when all humans agree, MMF does not
    ("vqa_accuracy(variant='official')", "The cat", ("the cat",) * 10, 0.0),
    ("vqa_accuracy(variant='mmf')", "The cat", ("the cat",) * 10, 1.0),
    ("vqa_accuracy(variant='official')", "two", ("2",) * 9 + ("3",), 1.0),
    ("vqa_accuracy(variant='vizwiz')", "2", ("two",) * 10, 0.0),
    # one, two and three of ten humans
    ("vqa_accuracy", "b", ("b", *"acdefghij"), 0.3),
    ("vqa_accuracy", "b", ("b", "b", *"acdefghi"), 0.6),
    ("vqa_accuracy", "b", ("b", "b", "b", *"acdefgh"), 0.9),
    ("vqa_accuracy(variant='plain')", "b", ("b", "a"), 1 / 3),
    # the first 32 full stops only
    ("vqa_accuracy(variant='official')", "." * 33 + "x", ("x",) * 9 + ("y",), 0.0),
    ("vqa_accuracy(variant='big_vision')", "." * 33 + "x", ("x",) * 9 + ("y",), 1.0),
    # a hub copy's spelling of the target
    ("yes_no", "no", ("NO",), 1.0),
    ("yes_no(variant='official')", "yes", ("No",), 0.0),
    # a distance of exactly one half
    ("anls", "ab", ("ac",), 0.0),
    ("anls(variant='rrc')", "ab", ("ac",), 0.5),
    ("anls(variant='mmf')", "ab", ("ac",), 0.5),
    ("anls", " abc", ("abc",), 0.75),
    ("anls(variant='mmf')", " abc", ("abc",), 1.0),
    ("anls(variant='rrc')", "", ("",), 1.0),
    ("relaxed_accuracy", "105", ("100",), 1.0),
    ("relaxed_accuracy", "105.1", ("100",), 0.0),
    ("relaxed_accuracy", "45", ("45%",), 0.0),
    ("relaxed_accuracy", "0.45", ("45%",), 1.0),
    ("relaxed_accuracy", "0.0", ("0",), 0.0),
    ("relaxed_accuracy", "1,000", ("1000",), 0.0),
    ("relaxed_accuracy", "nan", ("nan",), 0.0),
    ("exact_match", "Yes", ("yes",), 0.0),
    ("exact_match(lowercase=True)", "Yes", ("no", "YES"), 1.0),
]


@pytest.mark.parametrize(("spelling", "answer", "target", "value"), EDGES)
def test_edge(spelling: str, answer: str, target: tuple[str, ...], value: float) -> None:
    assert scored(registry.make("metrics", spelling), [answer], [target]) == pytest.approx(value)


@pytest.mark.parametrize("name", ["vqa_accuracy", "exact_match", "anls", "relaxed_accuracy"])
def test_a_sample_without_accepted_answers_is_not_counted(name: str) -> None:
    metric = registry.make("metrics", name)
    assert metric.rows(["x", None, "y"], [(), (), ("y",) * 10])[:, 1].tolist() == [0, 0, 1]


def test_a_wrong_parameter_is_a_user_error() -> None:
    with pytest.raises(UserError, match="variant"):
        registry.make("metrics", "anls(variant='docvqa')")
    with pytest.raises(UserError, match="threshold"):
        registry.make("metrics", "anls(treshold=0.5)")


def test_a_mean_over_groups() -> None:
    mean: Any = registry.make("metrics", "group_mean(of='exact_match', groups=('de', 'en'), without=('en',))")
    groups = ["de", "en", "de", "en", "en"]
    inner = mean.own_rows(["a", "x", "b", "c", "x"], [("a",), ("b",), ("x",), ("c",), ("c",)], groups)
    rows = mean.spread(inner, groups)
    assert mean.reduce(rows) == 0.5
    assert mean.details(rows) == {"mean of all 2 groups": (1 / 2 + 1 / 3) / 2}
    with pytest.raises(UserError, match="no group 'fr'; there are: de"):
        registry.make("metrics", "group_mean(of='exact_match', groups=('de',), without=('fr',))")


def test_a_corpus_metric_sees_its_group_alone() -> None:
    mean: Any = registry.make("metrics", "group_mean(of='cider', groups=('a', 'b'))")
    captions = [("a red bus",), ("a dog runs",), ("ein roter bus",), ("ein hund rennt",)]
    answers = [c[0] for c in captions]
    rows = mean.own_rows(answers, captions, ["a", "a", "b", "b"])
    alone = mean.metric.rows(answers[:2], captions[:2])
    np.testing.assert_array_equal(rows[:2], alone)


@pytest.mark.parametrize("name", ["bleu", "cider", "meteor", "rouge_l", "spice"])
def test_a_batch_of_captions_has_no_interval(name: str) -> None:
    assert registry.make("metrics", f"{name}(ptb='batch')").no_interval()
    assert not registry.make("metrics", name).no_interval()


def test_batch_keeps_what_captions_do_to_each_other() -> None:
    targets = [("the dog", "a dog"), ("I'll",)]
    alone, together = (
        registry.make("metrics", f"rouge_l(ptb={mode!r})").rows(["a dog", "i ll"], targets)[:, 0]
        for mode in ("caption", "batch")
    )
    assert alone[0] == together[0] == 1.0
    assert together[1] == 1.0 > alone[1]  # "I'll" is i 'll before a line end, i ll at the end of a file


def test_without_java_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("meteor", "spice"):
        with pytest.raises(UserError, match="openjdk"):
            registry.make("metrics", name).rows(["a"], [("a",)])


@pytest.mark.java
@pytest.mark.skipif(not shutil.which("java"), reason="no Java: install openjdk-17-jre-headless")
def test_meteor_where_a_folder_has_a_blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jar = java.jar("meteor", "meteor-1.5.jar")
    place = tmp_path / "a folder"
    place.mkdir()
    (place / "data").symlink_to(jar.parent / "data")
    shutil.copy(jar, place)
    monkeypatch.setattr(java, "jar", lambda *_: place / jar.name)
    metric = registry.make("metrics", "meteor")
    try:
        assert metric.reduce(metric.rows(["a cat sits"], [("a cat sits",)])) == 1.0
    finally:
        meteor._program(place / jar.name).close()


@pytest.mark.java
@pytest.mark.skipif(not shutil.which("java"), reason="no Java: install openjdk-17-jre-headless")
def test_spice_without_its_models_says_where_they_are() -> None:
    if not spice_needs():
        pytest.skip("SPICE is complete here")
    with pytest.raises(UserError, match="stanford-corenlp"):
        registry.make("metrics", "spice").rows(["a"], [("a",)])


def test_radgraph_takes_the_nearest_of_several_reports(capsys: pytest.CaptureFixture[str]) -> None:
    targets = [("clear lungs", "no clear effusion"), ("clear lungs",), ("",), ("clear lungs",)]
    rows = registry.make("metrics", "radgraph_f1").rows(["no effusion", "clear", "clear", ""], targets)
    np.testing.assert_allclose(rows, [[0.8, 1], [2 / 3, 1], [0, 1], [0, 1]])
    assert capsys.readouterr().out == ""  # what the package prints would stand in --json


def test_radgraph_without_its_model_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "radgraph", types.ModuleType("radgraph"))
    with pytest.raises(UserError, match="cannot load its model radgraph-xl"):
        registry.make("metrics", "radgraph_f1(model='radgraph-xl')").rows(["a"], [("a",)])


def test_bleu_has_four_orders() -> None:
    with pytest.raises(UserError, match="n=5"):
        registry.make("metrics", "bleu(n=5)")
