"""The PaliGemma backend: options, identity, and requests to predictions through an engine.
Imports torch only when it loads."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.errors import ImageError, ModelError, nearest
from evalkit.models.paligemma import adapter as adapters
from evalkit.models.paligemma import checkpoint, quantize
from evalkit.models.paligemma.batches import Limit, Planned, Prepare, plan, with_images
from evalkit.models.paligemma.checkpoint import PROTOCOLS, CheckpointInfo
from evalkit.models.paligemma.engine import Answer, Engine, OutOfMemory, Prompt
from evalkit.models.paligemma.prompt import Prompter, Rules, rules
from evalkit.types import Checkpoint, Decode, Model, Prediction, Request

TEXT_VERSION = 1  # raised by hand whenever this backend could write other text
ENGINES = ("plain",)
DTYPES = ("float32", "bfloat16", "float16")

log = logging.getLogger("evalkit")


@dataclass(eq=False)
class PaliGemma(Model):
    """One PaliGemma or PaliGemma 2 checkpoint in Hugging Face layout.

    `model` is a folder or a hub id (with `revision`); `resolution` only checks; `device`: auto, cpu,
    cuda, cuda:N; `device_map` spreads a checkpoint over GPUs; `batch_size` a number, or auto: begins
    with a size that suits the device and the resolution. Either is halved when memory runs out.
    `adapter` is a LoRA adapter to be merged; where `model` itself is one, `base` is what it is merged
    into (default: what it names). `quantize` rounds the weights; `tokenizer` is another folder's.
    `prepare` reads an image (default: `evalkit.images.prepare`). Making one reads nothing; `info`
    and `identity()` read the folder; torch comes with `load()` or the first prediction.
    """

    model: str
    revision: str | None = None
    resolution: int | None = None
    dtype: str = "float32"
    device: str = "auto"
    device_map: str | None = None
    batch_size: int | str = "auto"
    engine: str = "plain"
    protocol: str = "paper"
    workers: int = 2
    adapter: str | None = None
    base: str | None = None
    quantize: str | None = None
    tokenizer: str | None = None
    prepare: Prepare | None = None
    digest: Callable[[Path], str] | None = None
    _engine: Engine | None = field(default=None, init=False, repr=False)
    _prompter: Prompter | None = field(default=None, init=False, repr=False)
    _limit: Limit | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("dtype", self.dtype, DTYPES),
            ("engine", self.engine, ENGINES),
            ("protocol", self.protocol, PROTOCOLS),
        ):
            if value not in known:
                raise ModelError(f"--{name} {value}: no such {name}{nearest(value, known)}")
        if self.batch_size != "auto":
            size = str(self.batch_size)
            if not size.isdecimal() or int(size) < 1:
                raise ModelError(f"--batch-size {size}: must be auto or a number from 1")
            self.batch_size = int(size)
        if self.quantize is not None:
            quantize.check(self.quantize)
        if self.workers < 1:
            raise ModelError(f"workers={self.workers}: at least one thread must read images")

    # --- what it is ---

    @cached_property
    def info(self) -> CheckpointInfo:
        """The checkpoint as its files tell it, checked; needs neither torch nor transformers."""
        path, adapter = self._found
        tokenizer = checkpoint.resolve(self.tokenizer) if self.tokenizer else None
        info = checkpoint.inspect(path, tokenizer)
        checkpoint.check_resolution(info, self.resolution)
        if adapter is None:
            return info
        if self.quantize in quantize.LIBRARIES:
            raise ModelError(f"--quantize {self.quantize}: not together with an adapter; --quantize int8 is")
        adapters.check_base(adapter, self._base, info.family, info.resolution, info.shapes)
        return dataclasses.replace(info, adapter=adapter)

    @cached_property
    def _found(self) -> tuple[Path, adapters.Adapter | None]:
        """Where the weights lie, and the adapter; `model` may be an adapter that names its base."""
        path = checkpoint.resolve(str(self.model), self.revision)
        if not adapters.is_adapter(path):
            if self.base is not None:
                raise ModelError(
                    f"{self.model}: base={self.base}: goes with an adapter as --model; this is none"
                )
            chosen = adapters.inspect(checkpoint.resolve(self.adapter)) if self.adapter else None
            return path, chosen
        if self.adapter is not None:
            raise ModelError(f"{self.model}: is an adapter itself; give its base as --model with --adapter")
        chosen = adapters.inspect(path)
        base = self.base or chosen.base
        if not base:
            raise ModelError(f"{self.model}: is an adapter that names no base; add --model_args base=FOLDER")
        try:
            return checkpoint.resolve(base, None if self.base else chosen.revision), chosen
        except ModelError as error:
            raise ModelError(
                f"{self.model}: is an adapter of {base}, which is not to be had ({error}); "
                "add --model_args base=FOLDER"
            ) from None

    @property
    def _base(self) -> str:
        """How the base of an adapter was called."""
        path, chosen = self._found
        return str(self.model) if self.adapter else self.base or (chosen.base if chosen else "") or str(path)

    @cached_property
    def _digests(self) -> dict[str, Any]:
        return dict(checkpoint.digests(self.info, self.digest))

    @property
    def rules(self) -> Rules:
        return rules(self.protocol, self.info.eos)

    def identity(self) -> Mapping[str, Any]:
        """What decides the text. Hashes the weights (once): no torch needed."""
        fixed = self.rules
        return {
            "backend": f"paligemma-{self.engine}",
            "text_version": TEXT_VERSION,
            **self._digests,
            "dtype": self.dtype,
            "kv_dtype": self.dtype,
            "attention": self.info.attention,
            "quantisation": quantize.identity(self.quantize),
            "protocol": {
                "prompt": fixed.protocol,
                "eos": list(fixed.eos),
                "first_logits_capped": fixed.cap_first,
                "first_position": fixed.first_position,
                "sliding_window": None,
            },
        }

    def provenance(self) -> dict[str, Any]:
        """What is recorded but does not name the run; the device and versions once it is loaded."""
        known: dict[str, Any] = {
            "model": str(self.model),
            "path": str(self.info.path),
            "revision": self.revision,
        }
        if self._limit is not None:
            known["batch_size"] = self._limit.rows
        return known | (self._engine.provenance() if self._engine is not None else {})

    def under(self, protocol: str) -> PaliGemma:
        """This checkpoint under another protocol; the weights are shared, not loaded again."""
        if protocol == self.protocol:
            return self
        other = copy.copy(self)
        other.protocol = protocol
        other.__post_init__()
        if self._prompter is not None:
            other._check()
        return other

    def as_checkpoint(self, name: str = "") -> Checkpoint:
        """What a plan needs to know of it; the weights are loaded once, whatever the protocols."""

        def identity(protocol: str) -> Mapping[str, Any]:
            _ = self._digests  # hashed before the copy is made, so that it is not done again
            return self.under(protocol).identity()

        def load(protocol: str) -> Model:
            self.load()
            return self.under(protocol)

        return Checkpoint(
            name=name or self.info.path.resolve().name,
            about=f"{self.info.describe()}, run in {self.dtype}"
            + (f", weights quantised ({self.quantize})" if self.quantize else ""),
            resolution=self.info.resolution,
            identity=identity,
            load=load,
            protocol=self.info.protocol,
        )

    # --- loading ---

    def load(self) -> None:
        """Loads tokenizer and weights and runs the start-up checks; does nothing the second time."""
        if self._engine is not None:
            return
        from evalkit.models.paligemma import checks, plain  # torch and transformers

        checks.check_processor(self.info)
        self._prompter = Prompter(plain.load_tokenizer(self.info))
        self._check()
        if self.dtype == "float16":
            log.warning("--dtype float16: Gemma's activations overflow in float16; use bfloat16")
        engine = plain.load(self.info, self.dtype, self.device, self.device_map, self.quantize)
        size = self.info.resolution
        checks.check_features(self.info, engine.feature_shape(size))
        self._engine = engine
        self._limit = Limit(self._first_batch_size(engine))

    def _check(self) -> None:
        from evalkit.models.paligemma import checks

        assert self._prompter is not None
        checks.check_tokens(self.info, self._prompter, self.rules)

    def _first_batch_size(self, engine: Engine) -> int:
        if isinstance(self.batch_size, int):
            return self.batch_size
        budget, most = (4096, 16) if engine.device == "cpu" else (32768, 64)
        return max(1, min(most, budget // self.info.image_tokens))

    # --- answering ---

    def encode(self, prompt: str, text_length: int | None) -> list[int]:
        """The ids that follow the image tokens, under this protocol; loads what it needs."""
        self.load()
        assert self._prompter is not None
        return self._prompter.encode(prompt, text_length, self.protocol)

    def predict(
        self,
        requests: Iterable[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Answers batch by batch; the order inside a window of some batches is by length.

        A damaged image: `on_bad_image(request, error)` is called and the sample left out; without
        it the error is raised after the rest of its batch was answered.
        """
        self.load()
        assert self._limit is not None
        planned = (self._planned(r) for r in requests)
        feed = with_images(plan(planned, self._limit), self._prepare(), self.workers)
        try:
            for batch in feed:
                good, bad = _collect(batch)
                if good:
                    yield from self._answer(good)
                for request, error in bad:
                    if on_bad_image is None:
                        raise error
                    on_bad_image(request, error)
        finally:
            feed.close()

    def _planned(self, request: Request) -> Planned:
        if request.preparation.resolution != self.info.resolution:
            raise ModelError(
                f"{self.info.path}: sample {request.id}: images are to be prepared at "
                f"{request.preparation.resolution} px, this checkpoint takes {self.info.resolution} px"
            )
        if not request.images:
            raise ModelError(f"sample {request.id}: has no image; PaliGemma needs at least one")
        if request.choices:
            raise ModelError(f"sample {request.id}: choices: scoring given answers is not in this version")
        decode = request.decode
        if decode.max_new_tokens < 1 or decode.beams < 1:
            raise ModelError(f"decode: max_new_tokens and beams must be at least 1, not {decode}")
        if decode.samples and decode.beams > 1:
            raise ModelError(f"decode: sampling goes with beams=1 only, not {decode}")
        return Planned(request, tuple(self.encode(request.prompt, decode.text_length)))

    def _prepare(self) -> Prepare:
        if self.prepare is not None:
            return self.prepare
        from evalkit.images import prepare

        return prepare

    def _answer(self, rows: list[tuple[Planned, list[Any]]]) -> Iterator[Prediction]:
        """Answers one batch, in halves where memory does not do for the whole."""
        assert self._engine is not None
        assert self._limit is not None
        waiting = [rows]
        while waiting:
            part = waiting.pop()
            if len(part) > self._limit.rows:
                waiting += [part[self._limit.rows :], part[: self._limit.rows]]
                continue
            decode: Decode = part[0][0].request.decode
            prompts = [
                Prompt(np.stack([i.pixels for i in images]), p.ids, p.request.seed) for p, images in part
            ]
            try:
                answers = self._engine.answer(prompts, decode, self.rules)
            except OutOfMemory:
                if len(part) == 1:
                    raise ModelError(
                        f"sample {part[0][0].request.id}: does not fit into memory even alone; "
                        "use --dtype bfloat16, a smaller resolution or a larger device"
                    ) from None
                self._limit.rows = (len(part) + 1) // 2
                log.warning("out of memory: going on with batches of %d", self._limit.rows)
                waiting.append(part)
                continue
            for (item, images), answer in zip(part, answers, strict=True):
                yield self._prediction(item.request, images, answer)

    def _prediction(self, request: Request, images: list[Any], answer: Answer) -> Prediction:
        assert self._prompter is not None
        n = len(answer.tokens) - (answer.stop == "eos")
        tokens = answer.tokens[:n]
        return Prediction(
            id=request.id,
            prompt=request.prompt,
            text=self._prompter.decode(tokens),
            tokens=tokens,
            logprobs=answer.logprobs[:n] if request.decode.logprobs else None,
            stop=answer.stop,
            margin=answer.margin,
            image_digests=tuple(str(i.digest) for i in images),
            sizes=tuple((int(i.size[0]), int(i.size[1])) for i in images),
        )


def _collect(
    batch: list[tuple[Planned, list[Future[Any]]]],
) -> tuple[list[tuple[Planned, list[Any]]], list[tuple[Request, ImageError]]]:
    """A batch's images: the samples that can be answered, and those with a damaged image."""
    good: list[tuple[Planned, list[Any]]] = []
    bad: list[tuple[Request, ImageError]] = []
    for planned, futures in batch:
        try:
            good.append((planned, [f.result() for f in futures]))
        except ImageError as error:
            bad.append((planned.request, error))
    return good, bad
