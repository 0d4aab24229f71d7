"""evalkit: evaluation of PaliGemma checkpoints, by the published protocol."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "check"]


def __getattr__(name: str) -> Any:
    """`evalkit.check`, loaded when it is asked for: importing the package stays free."""
    if name == "check":
        import importlib

        return importlib.import_module("evalkit.checking").check
    raise AttributeError(f"module 'evalkit' has no attribute '{name}'")
