"""Any Python class as a model: `module:my_file.py:MyModel`. Uses only the few methods that docs/models.md
lists."""

from __future__ import annotations

import ast
import inspect
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from PIL import Image

from evalkit import own_code
from evalkit.errors import ImageError, ModelError, nearest
from evalkit.images import prepare
from evalkit.models._own import code
from evalkit.options.model import model_options
from evalkit.reading import Reading
from evalkit.types import Checkpoint, Model, Opening, Prediction, Request

TEXT_VERSION = 2  # raised by hand whenever the same class could be made to write other text
RESOLUTION = 224  # if the class names none
BATCH = 8  # images per call of `answer_batch` with --batch-size auto


@dataclass(eq=False)
class Module(Model):
    """A user's class: `module:FILE.py:CLASS` or `module:PACKAGE.MODULE:CLASS`.

    `spec` is what follows `module:`; `options` are passed to the class by name; `resolution` applies to
    images that are passed prepared. Creating a `Module` imports the class and checks its methods. The class
    is instantiated when it must answer, or when its `identity` is an ordinary method.
    """

    # every other option is passed to the user's class, which refuses what it does not take
    uses = frozenset({"batch_size", "resolution", "revision", "dtype", "device", "device_map", "adapter",
                      "base", "quantize", "tokenizer"})  # fmt: skip
    takes_more = True

    spec: str
    options: Mapping[str, Any] = field(default_factory=dict)
    resolution: int | None = None
    batch_size: int | str = "auto"

    @classmethod
    def open(cls, asked: Opening) -> Checkpoint:
        """Passes all options to the class except `resolution` and `batch_size` (of `answer_batch`)."""
        given = {**asked.flags, **read_options(asked.args)}
        ours = model_options({k: given.pop(k) for k in ("batch_size", "resolution") if k in given})
        return cls(asked.spec, given, ours.get("resolution"), ours.get("batch_size", "auto")).as_checkpoint()

    def __post_init__(self) -> None:
        self.cls = own_code.load(self.spec, f"module:{self.spec}", kind=ModelError, typed=True)
        self.name = str(getattr(self.cls, "name", self.cls.__name__))
        self.where = f"module:{self.spec}"
        self._method = "answer_batch" if hasattr(self.cls, "answer_batch") else "answer"
        if self.resolution is not None and "resolution" in _parameters(self.cls):
            self.options = {**self.options, "resolution": self.resolution}
        _check_options(self.where, self.cls, self.options)
        self._reading = Reading(self.cls, self.where, self.options)
        self._takes = _check_method(self.where, self.cls, self._method)
        if self.batch_size != "auto" and (not str(self.batch_size).isdecimal() or int(self.batch_size) < 1):
            raise ModelError(f"--batch-size {self.batch_size}: must be auto or a number from 1")

    # --- what it is ---

    @cached_property
    def instance(self) -> Any:
        """The instance, created once: this is where the class loads its weights. Raises ModelError if it
        was planned as another model."""
        made = self._call("__init__", lambda: self.cls(**self.options))
        if self._known_unloaded and self._ask() != self._declared:
            raise ModelError(
                f"{self.where}: identity() gives another answer than before the model was loaded; "
                "run the same command again"
            )
        return made

    @property
    def _known_unloaded(self) -> bool:
        known = inspect.getattr_static(self.cls, "identity", None)
        return isinstance(known, (classmethod, staticmethod))

    @cached_property
    def _code(self) -> dict[str, Any]:
        return code(self.cls)

    @cached_property
    def _declared(self) -> dict[str, Any]:
        """What the class declares as its identity. Without one it never counts as the same model again."""
        if inspect.getattr_static(self.cls, "identity", None) is None:
            return {"unidentified": uuid.uuid4().hex}
        return self._ask()

    def _ask(self) -> dict[str, Any]:
        if self._known_unloaded:
            declared = self._call("identity", lambda: self.cls.identity(**self.options))
        else:
            declared = self._call("identity", lambda: self.instance.identity())
        try:
            if not isinstance(declared, Mapping) or not declared:
                raise TypeError
            return {"declared": json.loads(json.dumps(dict(declared), sort_keys=True, allow_nan=False))}
        except (TypeError, ValueError):
            raise ModelError(
                f"{self.where}: identity() returned {_short(declared)}; it must return a dict of plain "
                "values that names the weights, e.g. {'weights': file_digest(path)}"
            ) from None

    def identity(self) -> Mapping[str, Any]:
        """What the class declares, its options, and the digest of its code."""
        return {
            "backend": "module",
            "text_version": TEXT_VERSION,
            "class": self.cls.__qualname__,
            **self._code,
            "options": {k: v if isinstance(v, (str, int, float, bool)) else repr(v)
                        for k, v in sorted(self.options.items())},
            "prepare": self._prepares,
            **self._declared,
        }  # fmt: skip

    @property
    def _prepares(self) -> bool:
        return bool(getattr(self.cls, "prepare", False))

    def as_checkpoint(self) -> Checkpoint:
        """What a plan needs to know of it."""
        declared = "unidentified: " if not hasattr(self.cls, "identity") else ""
        known = "no identity(), so runs cannot be resumed" if declared else "identified by itself"
        images = "prepared pixels" if self._prepares else "images as they are"
        return Checkpoint(
            name=self.name,
            about=f"{self.where}, {declared}{known}, takes {images}",
            resolution=self.resolution or int(getattr(self.cls, "resolution", RESOLUTION)),
            identity=lambda protocol: self.identity(),
            load=lambda protocol: self,
        )

    def used(self) -> Mapping[str, str]:
        """The files that it has read; none where it is unidentified anyway."""
        return {} if "unidentified" in {**self._code, **self._declared} else self._reading.used()

    def provenance(self) -> Mapping[str, Any]:
        return {"model": self.where, "options": {k: repr(v) for k, v in self.options.items()}}

    # --- answering ---

    def predict(
        self,
        requests: Sequence[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Predictions in the requests' order, one at a time (`answer`) or in batches (`answer_batch`)."""
        if not requests:
            return
        for request in requests:
            self._check(request)
        _ = self.instance
        size = 1 if self._method == "answer" else BATCH if self.batch_size == "auto" else int(self.batch_size)
        for start in range(0, len(requests), size):
            good = []
            for request in requests[start : start + size]:
                try:
                    good.append((request, *self._images(request)))
                except ImageError as error:
                    if on_bad_image is None:
                        raise
                    on_bad_image(request, error)
            if good:
                yield from self._answers(good)

    def _check(self, request: Request) -> None:
        """Raises ModelError for decode settings that the class's method does not take."""
        decode, unknown = request.decode, list[tuple[str, Any]]()
        for key, plain in (("beams", 1), ("temperature", 0), ("top_p", 1), ("forbid", ())):
            if getattr(decode, key) != plain and key not in self._takes:
                unknown.append((key, list(plain) if isinstance(plain, tuple) else plain))
        wanted = [f"decode.{key}={getattr(decode, key)}" for key, _ in unknown]
        changed = " ".join(f"--set decode.{key}={plain}" for key, plain in unknown)
        if decode.logprobs:
            raise ModelError(
                f"{self.where}: the task asks for log-probabilities, which a module cannot give; "
                f"run with --set decode.logprobs=false {changed}".rstrip()
            )
        if unknown:
            raise ModelError(
                f"{self.where}: the task asks for {' and '.join(wanted)}, but {self._method}() takes no "
                f"'{unknown[0][0]}'; give it one, or run with {changed}"
            )
        if request.choices:
            raise ModelError(f"{self.where}: sample {request.id}: a module cannot score given choices")

    def _images(self, request: Request) -> tuple[list[Any], tuple[str, ...], tuple[tuple[int, int], ...]]:
        """The images as the class gets them, sha256 of each image's bytes, and each (height, width)."""
        images, digests, sizes = [], [], []
        for ref in request.images:
            read = prepare.prepare if self._prepares else prepare.whole
            found = read(ref, request.preparation)
            images.append(found.pixels if self._prepares else Image.fromarray(found.pixels))
            digests.append(found.digest)
            sizes.append(found.size)
        return images, tuple(digests), tuple(sizes)

    def _answers(self, good: list[tuple[Request, list[Any], Any, Any]]) -> Iterator[Prediction]:
        requests, decode = [request for request, *_ in good], good[0][0].decode
        images = [i[0] if len(i) == 1 else i for _, i, *_ in good]
        prompts, seeds = [r.prompt for r in requests], [r.seed % (1 << 63) for r in requests]
        known: dict[str, Any] = {
            "max_new_tokens": decode.max_new_tokens,
            "temperature": decode.temperature,
            "top_p": decode.top_p,
            "beams": decode.beams,
            "forbid": decode.forbid,
        }
        known = {k: v for k, v in known.items() if k in self._takes}
        what = f"sample {requests[0].id}" + (f" to {requests[-1].id}" if len(requests) > 1 else "")
        if self._method == "answer":
            known |= {"seed": seeds[0]} if "seed" in self._takes else {}
            texts = [self._call(what, lambda: self.instance.answer(images[0], prompts[0], **known))]
        else:
            known |= {"seeds": seeds} if "seeds" in self._takes else {}
            texts = self._call(what, lambda: self.instance.answer_batch(images, prompts, **known))
            if not isinstance(texts, (list, tuple)) or len(texts) != len(requests):
                raise ModelError(
                    f"{self.where}: {what}: answer_batch() returned {_short(texts)}; it must return a list "
                    f"of {len(requests)} texts"
                )
        for (request, _, digests, sizes), text in zip(good, texts, strict=True):
            _check_text(f"{self.where}: sample {request.id}: {self._method}()", text)
            yield Prediction(request.id, request.prompt, text, image_digests=digests, sizes=sizes)

    def _call(self, what: str, call: Callable[[], Any]) -> Any:
        """Calls the class; turns any exception into a ModelError that names the line."""
        with self._reading.watching():
            try:
                return call()
            except Exception as error:
                kept = "; earlier answers are kept" if what.startswith("sample") else ""
                raise ModelError(
                    f"{self.where}: {what}: raised {own_code.said(error)} ({own_code.where(error)}){kept}"
                ) from error


# --- the class -----------------------------------------------------------------------------------


def read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options such as `top_p=0.9,weights=model.pt` as Python values: numbers, True, False, None and quoted
    strings are read as Python literals, anything else stays text."""
    found: dict[str, Any] = {}
    for key, text in given.items():
        try:
            value = ast.literal_eval(text) if isinstance(text, str) else text
            found[key] = value if isinstance(value, (str, int, float, bool, type(None))) else text
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found[key] = text
    return found


def _parameters(cls: type[Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(cls).parameters
    except ValueError:  # a class written in C
        return {}


def _check_options(where: str, cls: type[Any], options: Mapping[str, Any]) -> None:
    """Raises ModelError if the class does not take one of the options, or needs another."""
    parameters = _parameters(cls)
    known = [n for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in options:
        if key not in known and not open_ended:
            raise ModelError(
                f"{where}: --model_args {key}=...: {cls.__name__} takes no '{key}'{nearest(key, known)}"
            )
    missing = [n for n in known if n not in options and parameters[n].default is inspect.Parameter.empty]
    if missing:
        raise ModelError(f"{where}: {cls.__name__} needs '{missing[0]}'; add --model_args {missing[0]}=...")


def _check_method(where: str, cls: type[Any], method: str) -> set[str]:
    """The parameter names of the method. Raises ModelError if it is missing or lacks `max_new_tokens`."""
    wanted = "answer(self, image, prompt, max_new_tokens)"
    if method == "answer_batch":
        wanted = "answer_batch(self, images, prompts, max_new_tokens)"
    known = getattr(cls, method, None)
    if not callable(known):
        raise ModelError(f"{where}: {cls.__name__} has no method answer; it must have {wanted} -> str")
    parameters = list(inspect.signature(known).parameters.values())[1:]
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        # Not the decode settings: **kwargs does not show that the method implements them.
        named |= {"max_new_tokens", "seed", "seeds"}
    if "max_new_tokens" not in named:
        raise ModelError(f"{where}: {method}() takes no 'max_new_tokens'; it must be {wanted}")
    return named


def _check_text(what: str, text: Any) -> None:
    if not isinstance(text, str):
        raise ModelError(f"{what} returned {_short(text)}; it must return the text, a str")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ModelError(
            f"{what} returned half a character (a lone surrogate); it must be valid Unicode"
        ) from None


def _short(value: Any) -> str:
    """A value's type, and its length where it has one, for an error message."""
    if value is None:
        return "None"
    size = f" of {len(value)}" if isinstance(value, (list, tuple, bytes)) else ""
    return f"a {type(value).__name__}{size}"
