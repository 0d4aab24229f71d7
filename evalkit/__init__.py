"""evalkit: evaluation of PaliGemma checkpoints, by the published protocol."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalkit.api import (
        ask,
        build_report,
        check,
        compare,
        export,
        flat_scores,
        load,
        load_task,
        metric,
        parser,
        plot,
        run,
        score,
        sweep,
        table,
        view,
    )
    from evalkit.training.callback import TrainerCallback
    from evalkit.training.evaluator import Evaluator

__version__ = "0.1.0"
__all__ = [
    "Evaluator", "TrainerCallback", "__version__", "ask", "build_report", "check", "compare", "export",
    "flat_scores", "load", "load_task", "metric", "parser", "plot", "run", "score", "sweep", "table", "view",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The Python API, loaded when it is first used: `import evalkit` alone stays light."""
    if name == "Evaluator":
        from evalkit.training import evaluator

        return evaluator.Evaluator
    if name == "TrainerCallback":
        from evalkit.training import callback

        return callback.TrainerCallback
    if name in __all__:
        from evalkit import api

        return getattr(api, name)
    raise AttributeError(f"module 'evalkit' has no attribute '{name}'")


def __dir__() -> list[str]:
    """What an editor or a notebook completes: the API too, which is not loaded yet."""
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING"})
