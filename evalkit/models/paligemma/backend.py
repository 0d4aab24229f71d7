"""The PaliGemma backend: a described checkpoint, loaded, and predictions for requests by an engine.
Imports torch only to load a checkpoint."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from evalkit import conventions
from evalkit.errors import ImageError
from evalkit.files import remembered_digest
from evalkit.models.paligemma import flops
from evalkit.models.paligemma.batching import requests as translate
from evalkit.models.paligemma.batching.batch_size import BatchSize, CudaProbe, by_tokens, remembered
from evalkit.models.paligemma.batching.batches import Keying, Prepare, Tails, plan, with_images
from evalkit.models.paligemma.batching.close_calls import THRESHOLDS, Stable
from evalkit.models.paligemma.batching.image_readers import Readers, ended
from evalkit.models.paligemma.batching.stream import Stream
from evalkit.models.paligemma.checkpoint import info as checkpoint_info
from evalkit.models.paligemma.checkpoint import quantize as quantization
from evalkit.models.paligemma.checkpoint.planned import Planned
from evalkit.models.paligemma.checkpoint.resolve import called_after
from evalkit.models.paligemma.described import Described
from evalkit.models.paligemma.interface import Engine, Limit
from evalkit.models.paligemma.tokenizer import Prompter
from evalkit.options.model import model_options
from evalkit.types import Checkpoint, Model, Opening, Prediction, Request

WINDOW = 4096  # requests planned together by the fast engine; that many have only about twenty lengths
PIXEL_BYTES = 256 << 20  # prepared images held at once

T = TypeVar("T")

log = logging.getLogger("evalkit")


@dataclass(eq=False)
class PaliGemma(Described, Model):
    """One PaliGemma or PaliGemma 2 checkpoint in Hugging Face layout.

    Its options are those of `Described`, which reads the files; `load()` or the first prediction imports
    torch.
    """

    _engine: Engine | None = field(default=None, init=False, repr=False)
    _prompter: Prompter | None = field(default=None, init=False, repr=False)
    _limit: Limit | None = field(default=None, init=False, repr=False)
    _readers: Readers | None = field(default=None, init=False, repr=False)
    _sizes: BatchSize | None = field(default=None, init=False, repr=False)
    _stable: Stable | None = field(default=None, init=False, repr=False)
    _features: tuple[int, ...] = field(default=(), init=False, repr=False)

    @classmethod
    def open(cls, asked: Opening) -> Checkpoint:
        """Opens a folder, a `.npz`, an adapter's folder or a hub id; its last part becomes the name."""
        backend = cls(asked.spec, **model_options(asked.options))
        called = asked.name or called_after(asked.spec)
        if backend.adapter:
            called += f"+{called_after(backend.adapter)}"
        for remark in backend.info.remarks:
            asked.say(remark)
        fresh = [f for f in backend.info.weights if remembered_digest(f) is None]
        size = sum(f.stat().st_size for f in fresh)
        if size > 1 << 28:
            asked.say(f"{called}: hashing {size / 1e9:.1f} GB of weights once")
        return backend.as_checkpoint(called)

    def provenance(self) -> dict[str, Any]:
        """What is recorded but is not identity; includes device and versions once it is loaded."""
        known: dict[str, Any] = {
            "model": str(self.model),
            "path": str(self.info.path),
            "revision": self.revision,
        }
        if self._limit is not None:
            known["batch_size"] = self._limit.rows
            known["strict"] = self.strict
        if self._stable is not None:
            known["close_calls"] = self._stable.provenance()
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
        """What a plan needs to know; the weights are loaded once for all protocols."""

        def identity(protocol: str) -> Mapping[str, Any]:
            _ = self._digests  # hashed before the copy is made, so that the copy need not hash again
            return self.under(protocol).identity()

        def load(protocol: str) -> Model:
            self.load()
            return self.under(protocol)

        how = quantization.about(self.info, self.quantize)
        return Checkpoint(
            name=name or self.info.path.resolve().name,
            about=f"{self.info.describe()}, run in {self.dtype}"
            + (f", {how}" if how else "")
            + (f"; as trained: {self.info.trained}" if self.info.trained.said else ""),
            resolution=self.info.resolution,
            identity=identity,
            load=load,
            protocol=self.info.protocol,
            conventions=self.info.trained,
            flops=flops.counter(self.info),
        )

    # --- loading ---

    def load(self) -> None:
        """Loads tokenizer and weights and runs the start-up checks; does nothing the second time."""
        if self._engine is not None:
            return
        from evalkit.models.paligemma import checks
        from evalkit.models.paligemma.checkpoint import loading

        planned = self._planned()
        checks.check_processor(self.info)
        loading.load_tokenizer(self.info, self._take)
        if self.dtype == "float16":
            log.warning("--dtype float16: Gemma's activations overflow in float16; use bfloat16")
        checks.calm_threads(self.info, self.device)
        self._start(self._fitting(lambda: self._load_engine(planned)))

    def _start(self, engine: Engine) -> None:
        """Answers with this engine from now on, after a check of its image features."""
        from evalkit.models.paligemma import checks
        from evalkit.models.paligemma.checkpoint.device import warn_if_emulated

        warn_if_emulated(engine.home, self.dtype)
        self._features = self._fitting(lambda: engine.feature_shape(self.info.resolution))
        checks.check_features(self.info, self._features)
        self._engine = engine
        self._stable = self._stability()
        self._sizes = self._batch_sizes(engine)
        self._limit = Limit(self.batch_size if isinstance(self.batch_size, int) else self._sizes.first())
        # One for all protocols. Threads for a reader of one's own, which a process may not be able to get.
        beside = engine.home.type if self.prepare is None else "cpu"
        self._readers = Readers(self.worker_kind, self.workers, beside)

    def _fitting(self, work: Callable[[], T]) -> T:
        """The result of `work`. Raises ModelError if there is no memory for it."""
        from evalkit.models.paligemma.memory import loaded

        what = f"{self.info.path}: {self.info.parameters:,} parameters in {self.dtype} and one image"
        return loaded(work, what)

    def _planned(self) -> Planned:
        """The files that the identity names, as they are now that they are about to be read."""
        if "_digests" not in self.__dict__:
            return Planned()
        files = checkpoint_info.decisive(self.info).items()
        return Planned.now({f: self._digests[kind][name] for kind, each in files for name, f in each.items()})

    def _load_engine(self, planned: Planned) -> Engine:
        """Loads the weights. Raises ModelError if a file is another than the one that the identity names."""
        from evalkit.models.paligemma.engine import fast, plain

        info = dataclasses.replace(self.info, planned=planned)
        common = info, self.dtype, self.device
        if self.engine == "plain":
            slow = plain.load(*common, self.device_map, self.quantize, self._sliding)
            checkpoint_info.check_small_files(info)
            return slow
        engine = fast.load(*common, self._kv_dtype, self.strict, self.quantize, self._sliding)
        checkpoint_info.check_small_files(info)
        engine.speed_up({"on": True, "off": False}.get(self.cuda_graphs), self.compile, self.fused_kernels)
        return engine

    def _stability(self) -> Stable:
        """Counts close calls; with `stable`, a float32 copy of this engine decides them (this engine itself,
        one at a time, if it runs in float32 already)."""
        if not self._threshold:
            return Stable(THRESHOLDS[self.dtype])

        def exact() -> Engine:
            assert self._engine is not None
            if self.dtype == "float32":
                return self._engine
            log.info("close calls: loading the weights in float32 too")
            return copy.copy(self)._in_float32()

        return Stable(self._threshold, exact)

    def _in_float32(self) -> Engine:
        self.dtype = "float32"
        return self._fitting(lambda: self._load_engine(self._planned()))

    def _take(self, tokenizer: Any) -> None:
        self._prompter = Prompter(tokenizer)
        self._check()

    def _check(self) -> None:
        from evalkit.models.paligemma import checks

        assert self._prompter is not None
        checks.check_tokens(self.info, self._prompter, self.rules)

    def _batch_sizes(self, engine: Engine) -> BatchSize:
        """Batch sizes, learned from memory use if --batch-size is auto and they may differ between runs."""
        device = engine.device.partition(":")[0]
        most = by_tokens(self.info.image_tokens, device, plain=self.engine == "plain")
        if device != "cuda" or self.batch_size != "auto" or self.strict or self.device_map:
            return BatchSize(most)
        device_name = engine.provenance()["device_name"]
        file = remembered(
            device_name, self.info.family, self.info.parameters, self.info.resolution,
            self.dtype, self.engine, self.quantize, self.compile, self.cuda_graphs,
        )  # fmt: skip
        return BatchSize(most, CudaProbe(engine.device), file, engine.row_bytes(self.info.image_tokens))

    # --- answering ---

    def encode(self, prompt: str, text_length: int | None) -> list[int]:
        """The token ids after the image tokens, under this protocol and the checkpoint's conventions; loads
        the checkpoint if needed."""
        self.load()
        assert self._prompter is not None
        text = conventions.prompt(prompt, self.info.trained)
        return list(translate.encoded(self._prompter, text, text_length, self.rules)[1])

    def predict(
        self,
        requests: Iterable[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Predictions batch by batch; a window of some batches is sorted by length. For a request with
        choices the answer is the most likely choice (`FastEngine.choose`).

        For a damaged image `on_bad_image(request, error)` is called and the sample is left out; without
        it the error is raised after the rest of the batch was answered.
        """
        self.load()
        assert self._engine is not None
        assert self._limit is not None
        assert self._stable is not None
        assert self._sizes is not None
        assert self._prompter is not None
        assert self._readers is not None
        self._stable.begin()
        prompter, rules, info, pool = self._prompter, self.rules, self.info, self._readers.pool()
        if info.trained.eos is False:  # it may never write the end token, and rambles after a line break
            rules = dataclasses.replace(rules, eos=(*rules.eos, *prompter.newline))
        planned = (translate.planned(r, prompter, rules, info) for r in requests)
        if self.engine == "fast":
            engine: Any = self._engine
            keep = self._images_kept(engine)
            masked = engine.overlaps or engine.static is not None  # decode steps are, or cost the same
            tails: Tails = "whole" if self.strict else "together" if masked else "powers"
            batches = plan(planned, self._limit, WINDOW, keep, tails)
            batches = self._sizes.watch(batches, self._limit)
            here, later = (engine.send, None) if self._readers.kind == "thread" else (None, engine.send)
            feed = with_images(batches, Keying(self._prepare(), here), pool, keep, later)
        else:
            batches = self._sizes.watch(plan(planned, self._limit), self._limit)
            feed = with_images(batches, self._prepare(), pool)
        stream = Stream(self._engine, rules, self._limit, self._stable, self.strict)
        try:
            for item, images, answer in stream.answers(feed, on_bad_image):
                self._sizes.answered(self._limit)
                yield translate.prediction(prompter, item, images, answer)
        except BrokenExecutor:
            self._readers.close()
            raise ended() from None
        finally:
            feed.close()
            self._sizes.ended(self._limit)

    def _images_kept(self, engine: Any) -> int:
        """How many prepared images, and their features, a window may hold."""
        pixels = self.info.resolution**2 * 3
        features = self._features[-2] * self._features[-1] * engine.dtype.itemsize
        within = min(PIXEL_BYTES // pixels, (engine.memory.limit + engine.memory.spill) * 9 // 10 // features)
        return max(2 * self._limit.rows if self._limit else 2, int(within))

    def _prepare(self) -> Prepare:
        if self.prepare is not None:
            return self.prepare
        from evalkit.images.prepare import prepare

        return prepare
