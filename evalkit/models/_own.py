"""A backend of the user's own: its code and the files that it reads identify it, and what it raises is one
sentence."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from evalkit import imports, own_code
from evalkit.errors import DataError, ImageError, ModelError, UserError
from evalkit.files import cache_folder, file_digest
from evalkit.opened import Opened, state_of
from evalkit.types import Checkpoint, Model, Opening, Prediction, Request

R = TypeVar("R")


FILES = 1000  # a folder that an option names is identified by its files, if it holds no more


def code(thing: Any) -> dict[str, Any]:
    """The digest of a class's code, as part of an identity. Without files it is never the same again."""
    digest = own_code.digest(thing)
    return {"code": digest} if digest else {"code": "", "unidentified": uuid.uuid4().hex}


class Reading:
    """Keeps account of the files that own code reads while it answers: what it opens, and what its options
    name. `where` names the model in errors."""

    def __init__(self, thing: Any, where: str, options: Mapping[str, Any]) -> None:
        self._thing, self._where = thing, where
        self._named: list[str] | None = list(_named(options.values()))
        self._opened = Opened()
        self._digests: dict[str, str] = {}
        self._known: dict[str, int] = {}  # files to the number of states that were looked at

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside the block the class may run."""
        for path in self._named or ():  # hashed before it is read, since a native reader is not heard of
            self._opened.read(path)
            self._look(path)
        self._named = None
        with own_code.running(self._thing), self._opened.watching():
            yield

    def used(self, images: Collection[str] = ()) -> Mapping[str, str]:
        """Every file that was read so far, with its digest, but for code that the identity names, what is
        installed, what the class wrote itself, and `images`. Raises ModelError where one has changed."""
        code = own_code.files(self._thing)
        known = {file for file, _ in code.files.values()} if code else set()
        for path in list(self._opened.states):
            if path in known or path in images or path.endswith(".pyc") or _not_ours(path):
                del self._opened.states[path]
            elif self._known.get(path) != len(self._opened.states[path]):
                self._look(path)
                self._known[path] = len(self._opened.states[path])
        return {path: self._digests[path] for path in self._opened.states} | own_code.late(self._thing)

    def _look(self, path: str) -> None:
        """Hashes a file. Raises ModelError unless it is as it was whenever it was opened."""
        try:
            self._digests[path] = file_digest(Path(path))
        except DataError:
            self._digests[path] = ""
            return
        if self._opened.states.get(path) != {state_of(path)}:
            raise ModelError(
                f"{self._where}: {path}: was changed while the model read it; run the same command again"
            )


def _named(values: Collection[Any]) -> Iterator[str]:
    """The files that options name, and those in a folder that one names."""
    for value in values:
        if not isinstance(value, (str, os.PathLike)) or not str(value):
            continue
        path = Path(value).expanduser().absolute()
        with contextlib.suppress(OSError):
            if path.is_file():
                yield str(path)
            elif path.is_dir():
                inside = [str(p) for p in sorted(path.iterdir()) if p.is_file()]
                yield from inside if len(inside) <= FILES else []


def _not_ours(path: str) -> bool:
    return imports.installed(path) or path.startswith(str(cache_folder()) + os.sep)


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
        self.images |= {os.path.abspath(image.path) for request in requests for image in request.images}
        answers = self.asked(lambda: iter(self.model.predict(requests, on_bad_image)))
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
