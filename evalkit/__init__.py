"""evalkit: evaluation of PaliGemma checkpoints, by the published protocol."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalkit.api import (
        ask,
        check,
        compare,
        export,
        flat_scores,
        load,
        load_task,
        metric,
        parser,
        run,
        score,
        table,
    )

__version__ = "0.1.0"
__all__ = [
    "__version__", "ask", "check", "compare", "export", "flat_scores", "load", "load_task", "metric",
    "parser", "run", "score", "table",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The Python API, loaded when it is first used: `import evalkit` alone stays light."""
    if name in __all__:
        from evalkit import api

        return getattr(api, name)
    raise AttributeError(f"module 'evalkit' has no attribute '{name}'")
