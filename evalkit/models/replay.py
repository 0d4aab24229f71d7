"""Recorded answers as a model: `replay:FILE.jsonl` or `replay:RUN_FOLDER`. Computes nothing."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from evalkit import door
from evalkit.data import answers, sources
from evalkit.data.by_name import Mapped
from evalkit.data.faults import Faults
from evalkit.data.sequences import Requests
from evalkit.errors import DataError, ImageError, ModelError
from evalkit.files import settled_state
from evalkit.images import prepare
from evalkit.options.model import model_options
from evalkit.runs.journal import Predictions
from evalkit.runs.store import RunFolder
from evalkit.types import Checkpoint, ImageRef, Model, Opening, Prediction, Preparation, Request, Size

TEXT_VERSION = 1  # raised by hand whenever the same file could give other text
_FIELDS = [f.name for f in fields(Prediction)]
_of_prediction = operator.attrgetter(*_FIELDS)
KNOWN = {*_FIELDS} - {"id", "prompt", "image_digests", "sizes"}
_MORE = sorted(KNOWN - {"text"})


@dataclass(eq=False)
class Replay(Model):
    """Answers from a file as `data/answers.py` reads it, or from the journals of a run folder.

    Other recorded keys of a prediction (tokens, logprobs, stop, margin) are returned too. A recorded prompt
    or image digest that differs from the request's is an error. Lines are found by id alone, so a file
    should hold the answers of one task.
    """

    uses = frozenset({"resolution"})

    path: Path
    resolution: int | None = None
    _last: tuple[Any, Any] = field(default=(None, None), init=False, repr=False)  # image, as `_image` says

    @classmethod
    def open(cls, asked: Opening) -> Checkpoint:
        """Opens `replay:FILE.jsonl` or `replay:RUN_FOLDER`; `resolution` is that of the prepared images."""
        given = model_options(asked.options)
        return cls(door.home(asked.spec), given.get("resolution")).as_checkpoint()

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise ModelError(f"replay:{self.path}: no such file; give JSON lines or a run folder")

    @cached_property
    def recorded(self) -> Mapping[str, Prediction]:
        """Every recorded prediction by id."""
        if self.path.is_dir():
            entries = RunFolder(self.path).entries()
            found: Mapping[str, Prediction] = Predictions(entries, list(entries))
        else:
            found = self._packed() or self._of_lines()
        if not found:
            raise ModelError(f'replay:{self.path}: holds no answers; a line is {{"id": ..., "text": ...}}')
        return found

    def _packed(self) -> Mapping[str, Prediction] | None:
        """The predictions of a file in which each id occurs once; else None."""
        found, faults = Mapped[Prediction](lambda name, plain: Prediction(name, *plain)), Faults()
        for where, name, text, line in answers.read(self.path, faults=faults):
            try:
                found.add(name, _values(_prediction(where, name, text, line))[1:])
            except DataError as error:
                faults.add(str(error))
        if found.repeated:
            return None
        faults.done()
        return found

    def _of_lines(self) -> dict[str, Prediction]:
        """The predictions of a file in which an id may occur twice, as in a journal; else that is refused."""
        found, faults = dict[str, Prediction](), Faults()
        for where, name, text, line in answers.read(self.path, faults=faults):
            if name in found and "crc" not in line:  # in a journal the last line of an id counts
                faults.add(f"{where}: id {name!r} is repeated; each id must occur once")
            elif (made := faults.made(partial(_prediction, where, name, text, line))) is not None:
                found[name] = made
        faults.done()
        return found

    def identity(self) -> Mapping[str, Any]:
        """A digest of the recorded answers; neither their place on disk nor their order matters."""
        digest, recorded = hashlib.sha256(), self.recorded
        for name in sorted(recorded):
            known = (name, *recorded.plain(name)) if isinstance(recorded, Mapped) else _values(recorded[name])
            known = known if known[-1] else known[:-1]  # as before a sample could have several calls
            digest.update(repr(known).encode("utf-8", "surrogatepass"))
        return {"backend": "replay", "text_version": TEXT_VERSION, "answers": digest.hexdigest()}

    def provenance(self) -> Mapping[str, Any]:
        return {"model": f"replay:{self.path}"}

    def as_checkpoint(self) -> Checkpoint:
        """What a plan needs to know of it."""
        name = self.path.resolve()
        return Checkpoint(
            name=f"replay-{name.name if name.is_dir() else name.stem}",
            about=f"{len(self.recorded):,} recorded answers of {self.path}",
            resolution=self.resolution or 224,
            identity=lambda protocol: self.identity(),
            load=lambda protocol: self,
        )

    def predict(
        self,
        requests: Sequence[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Predictions in the requests' order. Raises ModelError before the first if any is not recorded."""
        names = requests.ids if isinstance(requests, Requests) else [r.id for r in requests if not r.further]
        missing = [name for name in names if name not in self.recorded]
        if missing:
            more = f" and {len(missing) - 1:,} more of {len(requests):,}" if len(missing) > 1 else ""
            raise ModelError(
                f"replay:{self.path}: no answer for sample {missing[0]}{more}; record them, or select "
                "the recorded ones with --ids"
            )
        for request in requests:
            if request.further:  # the sample's first call has the whole recording
                yield Prediction(request.id, request.prompt, "")
                continue
            known = self.recorded[request.id]
            if known.prompt and known.prompt != (request.whole or request.prompt):
                raise ModelError(
                    f"replay:{self.path}: sample {request.id}: was asked {known.prompt[:80]!r}, "
                    f"not {request.prompt[:80]!r}; replay it under the prompt it answers"
                )
            try:
                digests, sizes = self._images(request, known)
            except ImageError as error:
                if on_bad_image is None:
                    raise
                on_bad_image(request, error)
                continue
            yield Prediction(
                known.id, request.prompt, known.text, known.tokens, known.logprobs, known.stop, known.margin,
                digests, sizes, known.end_logprob, known.calls,
            )  # fmt: skip

    def _images(
        self, request: Request, known: Prediction
    ) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
        """Digests and sizes of the images on disk now, which must be the images of the recorded answers."""
        shown = [self._image(ref, request.preparation) for ref in request.images]
        digests = tuple(digest for digest, _ in shown)
        if known.image_digests and known.image_digests != digests:
            raise ModelError(
                f"replay:{self.path}: sample {request.id}: its image has changed since it was answered; "
                "replay it with the original images"
            )
        if known.image_digests and known.sizes:
            return digests, known.sizes
        return digests, tuple(size() for _, size in shown)

    def _image(self, ref: ImageRef, preparation: Preparation) -> tuple[str, Callable[[], Size]]:
        """The digest of an image and what tells its size. That of the request before is not read again while
        its file stays as it was, as questions of one image follow each other."""
        key: tuple[Any, ...] = (ref, preparation, settled_state(ref.path))
        if key != self._last[0] or key[2] is None:
            data = sources.read_bytes(ref)
            size = cache(partial(prepare.decoded_size, data, preparation.exif, str(ref)))
            shown = hashlib.sha256(data).hexdigest(), size
            self._last = key, shown
            return shown
        found: tuple[str, Callable[[], Size]] = self._last[1]
        return found


def _values(prediction: Prediction) -> tuple[Any, ...]:
    """The fields in their order."""
    return _of_prediction(prediction)


def _prediction(where: str, name: str, text: str, line: Mapping[str, Any]) -> Prediction:
    """One record as a prediction; keys that a prediction does not have are ignored."""
    kept: dict[str, Any] = {k: line[k] for k in _MORE if line.get(k) is not None}
    try:
        for key, kind in (("tokens", int), ("logprobs", float)):
            if key in kept:
                kept[key] = tuple(kind(v) for v in kept[key])
        kept |= {"calls": tuple((int(a), int(b)) for a, b in kept["calls"])} if "calls" in kept else {}
        kept |= {key: float(kept[key]) for key in ("margin", "end_logprob") if key in kept}
        kept |= {"stop": str(kept["stop"])} if "stop" in kept else {}
        sizes = tuple((int(h), int(w)) for h, w in line.get("sizes") or ())
        digests = tuple(str(d) for d in line.get("image_digests") or ())
    except (TypeError, ValueError):
        raise DataError(f"{where}: tokens, logprobs, sizes and margin must be numbers") from None
    prompt = str(line.get("prompt") or "")
    return Prediction(name, prompt, text, image_digests=digests, sizes=sizes, **kept)
