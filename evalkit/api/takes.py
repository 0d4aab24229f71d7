"""Functions of the Python API take what their commands take, with types, checks and the same words."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from evalkit import files, own_code
from evalkit.errors import UserError, meant
from evalkit.options.config import made
from evalkit.options.fields import OptionError, Options, flags
from evalkit.options.verbs import (
    VERBS,
)

P = ParamSpec("P")
Given = TypeVar("Given", bound=Options)
R = TypeVar("R")


def takes(cls: Callable[P, Given]) -> Callable[[Callable[[Given], R]], Callable[P, R]]:
    """Makes a function of an options object one that takes the options themselves, with their types."""

    def decorate(act: Callable[[Given], R]) -> Callable[P, R]:
        verb = next(name for name, known in VERBS.items() if known is cls)
        known, signature = flags(VERBS[verb]), inspect.signature(VERBS[verb])

        @functools.wraps(act)
        def call(*args: P.args, **given: P.kwargs) -> R:
            for name in given:
                if name not in known:
                    wrong = f"{act.__name__}() got an unexpected keyword argument '{name}'"
                    raise TypeError(wrong + meant(name, known))
            said = signature.bind(*args, **given).arguments
            try:
                options = made(verb, said)
            except OptionError as error:
                raise UserError(f"{act.__name__}: {error.in_python()}") from None
            if getattr(options, "rehash", False):
                files.distrust()
            with own_code.allowed(
                getattr(options, "allow_code", False), getattr(options, "include_path", ())
            ):
                return act(options)

        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate
