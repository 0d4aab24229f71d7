"""A backend of the user's own: its code is part of its identity, and what it raises is one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from evalkit import own_code
from evalkit.errors import ImageError, ModelError, UserError
from evalkit.types import Checkpoint, Model, Opening, Prediction, Request

R = TypeVar("R")


def checkpoint(backend: type[Model], spec: str, opening: Opening) -> Checkpoint:
    """The checkpoint that the backend opens. Raises ModelError for whatever its code raises.

    The digest of the backend's file and its options are added to what it says of itself.
    """
    found = _asked(spec, lambda: backend.open(opening))
    options = {name: str(value) for name, value in sorted(opening.options.items())}
    more = {"code": own_code.digest(backend), "options": options}
    return replace(
        found,
        identity=lambda protocol: {**_asked(spec, lambda: found.identity(protocol)), **more},
        load=lambda protocol: _Guarded(_asked(spec, lambda: found.load(protocol)), spec),
    )


@dataclass
class _Guarded(Model):
    """A model whose exceptions are sentences."""

    model: Model
    spec: str

    def identity(self) -> Mapping[str, Any]:
        return _asked(self.spec, self.model.identity)

    def predict(
        self,
        requests: Sequence[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        """As the model does."""
        answers = _asked(self.spec, lambda: iter(self.model.predict(requests, on_bad_image)))
        while (answer := _asked(self.spec, lambda: next(answers, None))) is not None:
            yield answer

    def provenance(self) -> Mapping[str, Any]:
        return _asked(self.spec, self.model.provenance)


def _asked(spec: str, call: Callable[[], R]) -> R:
    """What a call to the backend gives; an exception of its own becomes a ModelError that names the line."""
    try:
        return call()
    except UserError:
        raise
    except Exception as error:
        raise ModelError(f"{spec}: raised {own_code.said(error)} ({own_code.where(error)})") from error
