"""A backend of the user's own: its code and the files that it reads identify it, and what it raises is one
sentence."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from evalkit import own_code
from evalkit.errors import ImageError, ModelError, UserError
from evalkit.reading import Reading
from evalkit.types import Checkpoint, Model, Opening, Prediction, Request

R = TypeVar("R")


def code(thing: Any) -> dict[str, Any]:
    """The digest of a class's code, as part of an identity. Without files it is never the same again."""
    digest = own_code.digest(thing)
    return {"code": digest} if digest else {"code": "", "unidentified": uuid.uuid4().hex}


def checkpoint(backend: type[Model], spec: str, opening: Opening) -> Checkpoint:
    """The checkpoint that the backend opens. Raises ModelError for whatever its code raises.

    The digest of the backend's code and its options are added to what it says of itself.
    """
    reading = Reading(backend, spec, {"spec": opening.spec, **opening.options})

    def asked(call: Callable[[], R]) -> R:
        return _asked(spec, call, reading)

    found = asked(lambda: backend.open(opening))
    options = {name: str(value) for name, value in sorted(opening.options.items())}
    more = {**code(backend), "options": options}
    return replace(
        found,
        identity=lambda protocol: {**asked(lambda: found.identity(protocol)), **more},
        load=lambda protocol: _Guarded(asked(lambda: found.load(protocol)), asked, reading),
    )


@dataclass
class _Guarded(Model):
    """A model whose exceptions are sentences, and whose reading is watched."""

    model: Model
    asked: Callable[[Callable[[], Any]], Any]
    reading: Reading
    images: set[str] = field(default_factory=set)

    def identity(self) -> Mapping[str, Any]:
        return dict(self.asked(self.model.identity))

    def used(self) -> Mapping[str, str]:
        return {**self.reading.used(self.images), **self.asked(self.model.used)}

    def predict(
        self,
        requests: Sequence[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        """As the model does."""
        every = list(requests)  # own code may do with it what it likes
        self.images |= {os.path.abspath(image.path) for request in every for image in request.images}
        answers = self.asked(lambda: iter(self.model.predict(every, on_bad_image)))
        while (answer := self.asked(lambda: next(answers, None))) is not None:
            yield answer

    def provenance(self) -> Mapping[str, Any]:
        return dict(self.asked(self.model.provenance))


def _asked(spec: str, call: Callable[[], R], reading: Reading) -> R:
    """What a call to the backend gives; an exception of its own becomes a ModelError that names the line."""
    with reading.watching():
        try:
            return call()
        except UserError:
            raise
        except Exception as error:
            raise ModelError(f"{spec}: raised {own_code.said(error)} ({own_code.where(error)})") from error
