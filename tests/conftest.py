"""What all tests share: property tests without a stopwatch, the same examples on every machine; `slow` tests
where they are asked for."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from stub import Stub, checkpoint

from evalkit.evaluation import evaluate
from evalkit.metrics import radgraph_f1

LONGEST = (
    "test_training", "test_fast", "test_gpu_benchmark", "test_qlora", "test_damage", "test_end_to_end",
    "test_static", "test_door", "test_metrics", "test_plot", "test_demo_judged", "test_stopped",
    "test_cli", "test_saved_codes", "test_readers", "test_layouts", "test_adapter", "test_likelihood",
    "test_structures", "test_small_samples", "test_report", "test_early", "test_few_packages",
    "test_typing",
)  # fmt: skip
"""The files that take longest, which begin first: one that began last would leave the other workers idle."""

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("EVALKIT_HYPOTHESIS", "steady"))


@pytest.fixture
def radgraph(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stub of the package radgraph, which itself would fetch a model."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "radgraph_stub")
    radgraph_f1._scorer.cache_clear()
    yield
    sys.modules.pop("radgraph", None)
    radgraph_f1._scorer.cache_clear()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """`evalkit doctor` asks for six new tokens in place of 24: half of the time."""
    from evalkit.models.paligemma import doctor

    ask: Callable[..., Any] = doctor.questions

    def questions(resolution: int, samples: int) -> Any:
        requests, prepare = ask(resolution, samples)
        return [replace(r, decode=replace(r.decode, max_new_tokens=6)) for r in requests], prepare

    monkeypatch.setattr(doctor, "questions", questions)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stub:
    """The model that every `--model` names, in an empty working folder; it says "red" and keeps what it was
    asked."""
    made = Stub(lambda request: "red")
    monkeypatch.setattr(evaluate, "checkpoint", lambda spec, options: checkpoint(made, spec))
    monkeypatch.chdir(tmp_path)
    return made


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first; leaves out the tests marked slow, and says so, unless `-m` names them."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))
    if "slow" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes a minute or more: python -m pytest -m slow"))


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: each search for garbage would go through it again."""
    gc.collect()
    gc.freeze()
