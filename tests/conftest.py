"""What all tests share: property tests without a stopwatch, the same examples on every machine."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from evalkit.metrics import radgraph_f1

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
