"""What all tests share: property tests without a stopwatch, the same examples on every machine; `slow` tests
where they are asked for."""

import os

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("EVALKIT_HYPOTHESIS", "steady"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests marked slow, and says so, unless `-m` names them."""
    if "slow" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes a minute or more: python -m pytest -m slow"))
