"""evalkit: evaluation of PaliGemma checkpoints, by the published protocol."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "ask", "check", "load", "load_task", "metric", "parser", "run", "score"]


def __getattr__(name: str) -> Any:
    """The Python API, loaded when it is first used: `import evalkit` alone stays light."""
    if name in __all__:
        from evalkit import api

        return getattr(api, name)
    raise AttributeError(f"module 'evalkit' has no attribute '{name}'")
