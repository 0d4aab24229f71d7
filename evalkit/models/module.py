"""Any Python class as a model: `module:my_file.py:MyModel`. Knows the class's few methods, nothing of its
inside; docs/models.md says what they are."""

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
from evalkit.options.model import model_options
from evalkit.types import Checkpoint, Model, Prediction, Request

TEXT_VERSION = 2  # raised by hand whenever the same class could be made to write other text
RESOLUTION = 224  # where the class says none
BATCH = 8  # of `answer_batch`, where --batch-size says auto


@dataclass(eq=False)
class Module(Model):
    """A class of yours: `module:FILE.py:CLASS` or `module:PACKAGE.MODULE:CLASS`.

    `spec` is what follows `module:`; `options` go to the class by name; `resolution` is that of images
    handed over prepared. Making one imports the class and checks its methods; an instance is made when
    something must be answered, or when `identity` is an ordinary method.
    """

    # a class of its own is given what else it takes, so that it can say what it lacks
    uses = frozenset({"batch_size", "resolution", "revision", "dtype", "device", "device_map", "adapter",
                      "base", "quantize", "tokenizer"})  # fmt: skip
    takes_more = True

    spec: str
    options: Mapping[str, Any] = field(default_factory=dict)
    resolution: int | None = None
    batch_size: int | str = "auto"

    @classmethod
    def open(
        cls,
        spec: str,
        flags: Mapping[str, Any],
        args: Mapping[str, Any],
        name: str,
        say: Callable[[str], None],
    ) -> Checkpoint:
        """All options go to the class, but `resolution`, and `batch_size`: how many `answer_batch` gets."""
        given = {**flags, **read_options(args)}
        ours = model_options({k: given.pop(k) for k in ("batch_size", "resolution") if k in given})
        return cls(spec, given, ours.get("resolution"), ours.get("batch_size", "auto")).as_checkpoint()

    def __post_init__(self) -> None:
        self.cls = own_code.load(self.spec, f"module:{self.spec}", kind=ModelError)
        self.name = str(getattr(self.cls, "name", self.cls.__name__))
        self.where = f"module:{self.spec}"
        self._method = "answer_batch" if hasattr(self.cls, "answer_batch") else "answer"
        if self.resolution is not None and "resolution" in _parameters(self.cls):
            self.options = {**self.options, "resolution": self.resolution}
        _check_options(self.where, self.cls, self.options)
        self._takes = _check_method(self.where, self.cls, self._method)
        if self.batch_size != "auto" and (not str(self.batch_size).isdecimal() or int(self.batch_size) < 1):
            raise ModelError(f"--batch-size {self.batch_size}: must be auto or a number from 1")

    # --- what it is ---

    @cached_property
    def instance(self) -> Any:
        """The object, made once: this is where the class loads its weights."""
        return self._asked("__init__", lambda: self.cls(**self.options))

    @cached_property
    def _declared(self) -> dict[str, Any]:
        """What the class says of itself. Without a word it is never taken for the same model again."""
        known = inspect.getattr_static(self.cls, "identity", None)
        if known is None:
            return {"unidentified": uuid.uuid4().hex}
        if isinstance(known, (classmethod, staticmethod)):
            said = self._asked("identity", lambda: self.cls.identity(**self.options))
        else:
            said = self._asked("identity", lambda: self.instance.identity())
        try:
            if not isinstance(said, Mapping) or not said:
                raise TypeError
            return {"declared": json.loads(json.dumps(dict(said), sort_keys=True, allow_nan=False))}
        except (TypeError, ValueError):
            raise ModelError(
                f"{self.where}: identity() gave {_short(said)}; it must give a dict of plain values "
                "that names the weights, e.g. {'weights': file_digest(path)}"
            ) from None

    def identity(self) -> Mapping[str, Any]:
        """What the class declares, its options, and its source file's content."""
        return {
            "backend": "module",
            "text_version": TEXT_VERSION,
            "class": self.cls.__qualname__,
            "code": own_code.digest(self.cls),
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
        known = "no identity(), so nothing is gone on with" if declared else "identified by itself"
        handed = "prepared pixels" if self._prepares else "images as they are"
        return Checkpoint(
            name=self.name,
            about=f"{self.where}, {declared}{known}, takes {handed}",
            resolution=self.resolution or int(getattr(self.cls, "resolution", RESOLUTION)),
            identity=lambda protocol: self.identity(),
            load=lambda protocol: self,
        )

    def provenance(self) -> Mapping[str, Any]:
        return {"model": self.where, "options": {k: repr(v) for k, v in self.options.items()}}

    # --- answering ---

    def predict(
        self,
        requests: Sequence[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        """In order, one at a time (`answer`) or in batches of one decoding (`answer_batch`)."""
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
        """Raises ModelError for a decoding that the class does not claim to know."""
        decode, unknown = request.decode, list[tuple[str, Any]]()
        for key, plain in (("beams", 1), ("temperature", 0), ("top_p", 1), ("forbid", ())):
            if getattr(decode, key) != plain and key not in self._takes:
                unknown.append((key, list(plain) if isinstance(plain, tuple) else plain))
        told = [f"decode.{key}={getattr(decode, key)}" for key, _ in unknown]
        changed = " ".join(f"--set decode.{key}={plain}" for key, plain in unknown)
        if decode.logprobs:
            raise ModelError(
                f"{self.where}: the task asks for log-probabilities, which a module cannot give; "
                f"run with --set decode.logprobs=false {changed}".rstrip()
            )
        if unknown:
            raise ModelError(
                f"{self.where}: the task asks for {' and '.join(told)}, but {self._method}() takes no "
                f"'{unknown[0][0]}'; give it one, or run with {changed}"
            )
        if request.choices:
            raise ModelError(f"{self.where}: sample {request.id}: scoring given answers is not for modules")

    def _images(self, request: Request) -> tuple[list[Any], tuple[str, ...], tuple[tuple[int, int], ...]]:
        """(what the class gets, sha256 of the bytes, (height, width)) of each image."""
        handed, digests, sizes = [], [], []
        for ref in request.images:
            make = prepare.prepare if self._prepares else prepare.whole
            made = make(ref, request.preparation)
            handed.append(made.pixels if self._prepares else Image.fromarray(made.pixels))
            digests.append(made.digest)
            sizes.append(made.size)
        return handed, tuple(digests), tuple(sizes)

    def _answers(self, good: list[tuple[Request, list[Any], Any, Any]]) -> Iterator[Prediction]:
        asked, decode = [request for request, *_ in good], good[0][0].decode
        pictures = [i[0] if len(i) == 1 else i for _, i, *_ in good]
        prompts, seeds = [r.prompt for r in asked], [r.seed % (1 << 63) for r in asked]
        known: dict[str, Any] = {
            "max_new_tokens": decode.max_new_tokens,
            "temperature": decode.temperature,
            "top_p": decode.top_p,
            "beams": decode.beams,
            "forbid": decode.forbid,
        }
        known = {k: v for k, v in known.items() if k in self._takes}
        what = f"sample {asked[0].id}" + (f" to {asked[-1].id}" if len(asked) > 1 else "")
        if self._method == "answer":
            known |= {"seed": seeds[0]} if "seed" in self._takes else {}
            texts = [self._asked(what, lambda: self.instance.answer(pictures[0], prompts[0], **known))]
        else:
            known |= {"seeds": seeds} if "seeds" in self._takes else {}
            texts = self._asked(what, lambda: self.instance.answer_batch(pictures, prompts, **known))
            if not isinstance(texts, (list, tuple)) or len(texts) != len(asked):
                raise ModelError(
                    f"{self.where}: {what}: answer_batch() gave {_short(texts)}; it must give a list of "
                    f"{len(asked)} texts"
                )
        for (request, _, digests, sizes), text in zip(good, texts, strict=True):
            _check_text(f"{self.where}: sample {request.id}: {self._method}()", text)
            yield Prediction(request.id, request.prompt, text, image_digests=digests, sizes=sizes)

    def _asked(self, what: str, call: Callable[[], Any]) -> Any:
        """Calls the class; whatever it raises becomes one sentence that names the line."""
        try:
            return call()
        except Exception as error:
            kept = "; what was answered before is kept" if what.startswith("sample") else ""
            raise ModelError(
                f"{self.where}: {what}: raised {own_code.said(error)} ({own_code.where(error)}){kept}"
            ) from error


# --- the class -----------------------------------------------------------------------------------


def read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """`top_p=0.9,weights=model.pt` with numbers, True, False, None and 'quoted' read as Python writes
    them; anything else is text."""
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
    except ValueError:  # a class of C
        return {}


def _check_options(where: str, cls: type[Any], options: Mapping[str, Any]) -> None:
    """Raises ModelError where the class does not take the options, or needs others."""
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
    """The names that the method can be given. Raises ModelError where it is not there or too narrow."""
    wanted = "answer(self, image, prompt, max_new_tokens)"
    if method == "answer_batch":
        wanted = "answer_batch(self, images, prompts, max_new_tokens)"
    known = getattr(cls, method, None)
    if not callable(known):
        raise ModelError(f"{where}: {cls.__name__} has no method answer; it must have {wanted} -> str")
    parameters = list(inspect.signature(known).parameters.values())[1:]
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        named |= {"max_new_tokens", "seed", "seeds"}  # never what would claim to know a decoding
    if "max_new_tokens" not in named:
        raise ModelError(f"{where}: {method}() takes no 'max_new_tokens'; it must be {wanted}")
    return named


def _check_text(what: str, text: Any) -> None:
    if not isinstance(text, str):
        raise ModelError(f"{what} gave {_short(text)}; it must give the text, a str")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ModelError(
            f"{what} gave half a character (a lone surrogate); it must be valid Unicode"
        ) from None


def _short(value: Any) -> str:
    """What something is, for an error message."""
    if value is None:
        return "None"
    size = f" of {len(value)}" if isinstance(value, (list, tuple, bytes)) else ""
    return f"a {type(value).__name__}{size}"
