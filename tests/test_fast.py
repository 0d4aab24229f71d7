"""The fast engine on tiny random checkpoints: plain's answers, whatever the batch; memory; features."""

from __future__ import annotations

import gc
import itertools
import random
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import ask, backend, by_id

from evalkit.errors import ImageError, ModelError, UserError
from evalkit.models.paligemma.batching import batches, close_calls
from evalkit.models.paligemma.batching.batches import Planned, plan
from evalkit.models.paligemma.decoding import likelihood
from evalkit.models.paligemma.engine import continuous_batching, fast, vision
from evalkit.models.paligemma.engine.linear import Linear
from evalkit.models.paligemma.engine.vision import Memory
from evalkit.models.paligemma.interface import Answer, Limit, Prompt, pixel_key, rules
from evalkit.types import Decode, ImageRef, Prediction, Preparation, Request

PAPER = rules("paper", (1,))


def texts(found: dict[str, Prediction]) -> dict[str, Any]:
    return {k: (p.text, p.tokens, p.stop) for k, p in found.items()}


def quick(family: int, **options: Any) -> Any:
    return backend(tiny.checkpoint(family), **{"engine": "fast", **options})


# --- the plain engine's answers ------------------------------------------------------------------


@pytest.mark.parametrize("family", [1, 2])
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("protocol", ["paper", "hf"])
@pytest.mark.parametrize("decode", [{}, {"beams": 3}, {"temperature": 0.7, "top_p": 0.9, "seed": 4}])
def test_same_answers_as_plain(family: int, images: int, protocol: str, decode: dict[str, Any]) -> None:
    asked = ask(24, images, logprobs=True, **decode)
    wanted = by_id(backend(tiny.checkpoint(family), batch_size=1, protocol=protocol).predict(asked))
    found = by_id(quick(family, protocol=protocol).predict(asked))
    assert texts(found) == texts(wanted)
    for name, one in wanted.items():
        assert found[name].margin == pytest.approx(one.margin, abs=1e-4)
        assert found[name].logprobs == pytest.approx(one.logprobs, abs=1e-4)
        assert found[name].image_digests == one.image_digests


@pytest.mark.parametrize("family", [1, 2])
def test_logits_equal_plain(family: int) -> None:
    model, other = quick(family), backend(tiny.checkpoint(family))
    model.load()
    other.load()
    pixels = tiny.prepare(ImageRef("a"), Preparation(28)).pixels[None]
    asked = [Prompt(pixels, tuple(model.encode(p, 32))) for p in tiny.PROMPTS]
    with torch.inference_mode():
        mine, state = model._engine.prefill(asked, PAPER)
        theirs, cache = other._engine.prefill(asked, PAPER)
        for _ in range(5):
            assert torch.allclose(mine, theirs, atol=2e-4)
            token = theirs.argmax(-1)
            mine, theirs = model._engine.step(token, state), other._engine.step(token, cache)


@pytest.mark.parametrize("family", [1, 2])
def test_likelihood_of_given_answers(family: int) -> None:
    """Teacher forcing through the plain engine, one continuation at a time."""
    model, other = quick(family), backend(tiny.checkpoint(family))
    model.load()
    other.load()
    pixels = tiny.prepare(ImageRef("a"), Preparation(28)).pixels[None]
    asked = Prompt(pixels, tuple(model.encode("what is this", 32)))
    given = [(5, 9, 1), (7,), (30, 31, 32, 33, 1), ()]
    found = likelihood.likelihood(model._engine, asked, given, PAPER)
    again = likelihood.likelihood(other._engine, asked, given, PAPER)
    assert all(a == pytest.approx(b, abs=1e-4) for a, b in zip(found, again, strict=True))
    assert [len(f) for f in found] == [len(g) for g in given]
    for tokens, mine in zip(given, found, strict=True):
        with torch.inference_mode():
            logits, state = other._engine.prefill([asked], PAPER)
            for token, value in zip(tokens, mine, strict=True):
                assert value == pytest.approx(float(logits.log_softmax(-1)[0, token]), abs=1e-4)
                logits = other._engine.step(torch.tensor([token]), state)


def test_identity_names_the_engine() -> None:
    assert quick(1).identity()["backend"] == "paligemma-fast"
    assert backend(tiny.checkpoint(1), engine="auto").engine == "fast"
    assert backend(tiny.checkpoint(1), engine="auto", device_map="auto").engine == "plain"
    rounded, kept = quick(1, kv_dtype="bfloat16").identity(), quick(1).identity()
    assert (rounded["kv_dtype"], kept["kv_dtype"]) == ("bfloat16", "float32")
    assert "stable" not in kept
    assert quick(1, stable=True).identity()["stable"] == close_calls.THRESHOLDS["float32"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device_map": "auto"}, "engine plain"),
        ({"engine": "plain", "strict": True}, "engine fast"),
        ({"engine": "plain", "kv_dtype": "bfloat16"}, "engine fast"),
        ({"kv_dtype": "float16"}, "--kv-dtype float16"),
        ({"kv_dtype": "float32", "dtype": "bfloat16"}, "cannot be wider"),
        ({"stable": "much"}, "--stable much"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        quick(1, **options)


# --- the same answer whatever the batch ----------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", [1, 2])
@pytest.mark.parametrize("new", [8, 60])
def test_batches_order_and_resume_change_nothing(dtype: str, family: int, new: int) -> None:
    """60 new tokens: places are filled again while other rows go on."""
    asked = ask(30 if new < 60 else 20, max_new_tokens=new)
    alone = by_id(quick(family, batch_size=1, dtype=dtype).predict(asked))
    shuffled = random.Random(5).sample(asked, len(asked))
    ways = {"3": (3, asked), "16": (16, asked), "shuffled": (16, shuffled), "resumed": (7, shuffled[11:])}
    for way, (size, requests) in ways.items():
        found = by_id(quick(family, batch_size=size, dtype=dtype).predict(requests))
        changed = [k for k in found if found[k].text != alone[k].text]
        close = close_calls.THRESHOLDS[dtype]
        assert all((alone[k].margin or 0) < close for k in changed), (way, changed)
        if dtype == "float32":
            assert not changed


def test_strict_keeps_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, tower = set(), set()
    prefill, features = fast.FastEngine.prefill, fast.Tower.__call__

    def watched(self: Any, prompts: Any, *rest: Any, **more: Any) -> Any:
        shapes.add(len(prompts))
        return prefill(self, prompts, *rest, **more)

    def seen(self: Any, pixels: Any) -> Any:
        tower.add(len(pixels))
        return features(self, pixels)

    monkeypatch.setattr(fast.FastEngine, "prefill", watched)
    monkeypatch.setattr(fast.Tower, "__call__", seen)
    found = by_id(quick(1, batch_size=4, strict=True).predict(ask(23)))
    assert len(found) == 23
    assert (shapes, tower) == ({4}, {1})
    assert texts(found) == texts(by_id(quick(1).predict(ask(23))))


def test_close_calls_are_decided_again_in_float32() -> None:
    asked = ask(24)
    exact = by_id(quick(1, batch_size=1).predict(asked))
    model = quick(1, dtype="bfloat16", stable=1e9)
    found = by_id(model.predict(asked))
    assert texts(found) == texts(exact)
    told = model.provenance()["close_calls"]
    assert (told["answers"], told["close"], told["decided"]) == (24, 24, "in float32, one at a time")
    counted = quick(1, dtype="bfloat16")
    list(counted.predict(asked))
    assert counted.provenance()["close_calls"]["decided"] == "as computed"


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [8, 60])
def test_out_of_memory_halves_and_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: Any, new: int) -> None:
    asked = ask(24, max_new_tokens=new)
    wanted = texts(by_id(quick(1, batch_size=1).predict(asked)))
    prefill = fast.FastEngine.prefill

    def limited(self: Any, prompts: Any, rules: Any, state: Any = None, room: int = 16) -> Any:
        if len(prompts) + (len(state.lengths) if state else 0) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate")
        return prefill(self, prompts, rules, state, room)

    monkeypatch.setattr(fast.FastEngine, "prefill", limited)
    model = quick(1, batch_size=16)
    assert texts(by_id(model.predict(asked))) == wanted
    assert model.provenance()["batch_size"] <= 3
    assert "out of memory" in caplog.text


def test_out_of_memory_in_a_step_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ask(12)
    wanted = texts(by_id(quick(1, batch_size=1).predict(asked)))
    step = fast.FastEngine.step

    def limited(self: Any, tokens: Any, state: Any) -> Any:
        if len(tokens) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, tokens, state)

    monkeypatch.setattr(fast.FastEngine, "step", limited)
    assert texts(by_id(quick(1, batch_size=8).predict(asked))) == wanted


@pytest.mark.parametrize(
    ("strict", "message"), [(False, "sample s0: .*memory"), (True, "--strict: .*memory")]
)
def test_out_of_memory_for_good(monkeypatch: pytest.MonkeyPatch, strict: bool, message: str) -> None:
    def never(self: Any, *rest: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(fast.FastEngine, "prefill", never)
    with pytest.raises(ModelError, match=message):
        list(quick(1, batch_size=4, strict=strict).predict(ask(1)))


def test_memory_that_runs_out_once_new_rows_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way goes on; the new rows, whose prompts the cache holds already, come later."""
    asked, read, failed = ask(20, max_new_tokens=60), continuous_batching.ContinuousBatch._read, []

    def limited(self: Any, logits: torch.Tensor, rows: list[continuous_batching.Row]) -> list[int]:
        if self._live and rows is not self._live and not failed:
            failed.append(len(rows))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(self, logits, rows)

    wanted = by_id(quick(1, batch_size=6).predict(asked))
    monkeypatch.setattr(continuous_batching.ContinuousBatch, "_read", limited)
    found = by_id(quick(1, batch_size=6).predict(asked))
    assert failed
    assert {k: p.tokens for k, p in found.items()} == {k: p.tokens for k, p in wanted.items()}


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, *rest: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(fast.FastEngine, "prefill", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(quick(1).predict(ask(2)))


def test_numbers_that_break_down_are_an_error() -> None:
    model = quick(1)
    model.load()
    model._engine.decoder.norm = model._engine.decoder.norm * float("nan")
    with pytest.raises(ModelError, match="not finite"):
        list(model.predict(ask(2)))


def test_weights_are_held_once() -> None:
    """Fused tensors replace transformers' own; the rest of its modules keep no second copy."""
    engine: Any = fast.load(quick(1).info, "float32", "cpu")
    held = {}
    for t in _tensors(engine):
        if t.layout is torch.strided:
            held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        else:  # packed, which has no storage to be asked
            held[id(t)] = t.numel() * t.element_size()
    saved = quick(1).info.parameters * 4
    assert 0.9 * saved <= sum(held.values()) <= 1.02 * saved + 4096


def test_an_engine_goes_with_its_last_user() -> None:
    """Weights that wait for the garbage collector would stand beside those of the next checkpoint."""
    gc.collect()
    gc.disable()
    try:
        engine: Any = fast.load(quick(1).info, "float32", "cpu")
        gone = [weakref.ref(part) for part in (engine, engine.decoder, engine.tower)]
        del engine
        assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()


def _tensors(engine: Any) -> list[torch.Tensor]:
    tower, decoder = engine.tower, engine.decoder
    parts: list[Any] = [decoder.table, tower.places, decoder.head, tower.embed, tower.projection]
    for part in (*decoder.layers, *tower.blocks):
        parts += [getattr(part, name) for name in part.__slots__]
    parts += [getattr(p, name) for p in parts if isinstance(p, Linear) for name in ("weight", "bias")]
    return [p for p in parts if torch.is_tensor(p)]


# --- image features ------------------------------------------------------------------------------


def same_image(n: int, **change: Any) -> list[Request]:
    preparation = Preparation(28, **change)
    return [
        Request(f"s{i}", (ImageRef("one.jpg"),), p, preparation, Decode(8))
        for i, p in enumerate((tiny.PROMPTS * 9)[:n])
    ]


def test_an_image_is_read_and_seen_once() -> None:
    read: list[str] = []

    def prepare(ref: Any, preparation: Any) -> Any:
        read.append(ref.path)
        return tiny.prepare(ref, preparation)

    model = quick(1, prepare=prepare, batch_size=4)
    found = by_id(model.predict(same_image(18)))
    assert read == ["one.jpg"]
    memory = model._engine.memory
    assert (memory.misses, len(memory)) == (1, 1)
    list(model.predict(same_image(6)))  # the next task of a suite
    assert memory.misses == 1
    assert texts(found) == texts(by_id(backend(tiny.checkpoint(1)).predict(same_image(18))))


def test_another_preparation_is_another_image() -> None:
    def prepare(ref: Any, preparation: Any) -> Any:
        found = tiny.prepare(ref, preparation)
        if not preparation.antialias:
            return found
        return tiny.Picture(255 - found.pixels, found.digest, found.size)

    for engine in ("fast", "plain"):
        model = backend(tiny.checkpoint(1), prepare=prepare, engine=engine)
        both = [*same_image(6), *(
            Request("b" + r.id, r.images, r.prompt, r.preparation, r.decode)
            for r in same_image(6, antialias=True)
        )]  # fmt: skip
        found = by_id(model.predict(both))
        if engine == "fast":
            wanted = texts(found)
            assert model._engine.memory.misses == 2
        else:
            assert texts(found) == wanted


def test_features_are_bounded_and_the_oldest_goes_first() -> None:
    one = torch.zeros(4, 8)
    memory = Memory(3 * one.nbytes)
    for name in "abc":
        memory.put(name, one + ord(name))
    assert memory.get("a") is not None
    memory.put("d", one)
    assert memory.get("b") is None
    assert memory.bytes == 3 * one.nbytes
    memory.put("huge", torch.zeros(400, 8))
    assert memory.bytes <= 3 * one.nbytes
    spilled = Memory(one.nbytes, one.nbytes)
    for name in "abc":
        spilled.put(name, one + ord(name))
    found = spilled.get("b")
    assert found is not None
    assert float(found[0, 0]) == ord("b")
    assert spilled.get("a") is None


def test_pixels_name_an_image() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert pixel_key(pixels) == pixel_key(pixels.copy()) == pixel_key(np.asfortranarray(pixels))
    assert pixel_key(pixels) != pixel_key(pixels.reshape(2, 8, 3))


# --- batches and rows ----------------------------------------------------------------------------


def test_windows_cut_tails_and_keep_images_together() -> None:
    asked = [
        Request(f"s{i}", (ImageRef(f"{i % 10}.jpg"),), "", Preparation(28), Decode(8)) for i in range(100)
    ]
    items = [Planned(r, (2,) * (3 + i % 3)) for i, r in enumerate(asked)]
    made = list(plan(items, Limit(16), 4096, None, "powers"))
    assert sorted(p.request.id for b in made for p in b) == sorted(r.id for r in asked)
    assert {len(b) for b in made} <= {16, 8, 4, 2, 1}
    assert [len(b[0].ids) for b in made] == sorted((len(b[0].ids) for b in made), reverse=True)
    for batch in made:
        paths = [p.request.images[0].path for p in batch]
        assert len(set(paths)) == 1 + sum(a != b for a, b in itertools.pairwise(paths))
    held = list(plan(items, Limit(16), 4096, 4))
    assert all(len({p.request.images for p in b}) <= 4 for b in held)


def test_tails_of_all_lengths_make_one_batch() -> None:
    """Never of other decode settings or another number of images; full batches have one length."""

    def item(i: int) -> Planned:
        images = (ImageRef(f"{i}.jpg"),) * (1 + (i % 50 == 0))
        asked = Request(f"s{i}", images, "", Preparation(28), Decode(8 + i % 2))
        return Planned(asked, (2,) * (5 if i < 40 else 3 + i % 7))

    items = [item(i) for i in range(100)]
    made = list(plan(items, Limit(16), 4096, None, "together"))
    assert sorted(p.request.id for b in made for p in b) == sorted(p.request.id for p in items)
    assert all(len({(p.request.decode, len(p.request.images)) for p in b}) == 1 for b in made)
    assert [len(b) for b in made] == [2, 16, 16, 16, 16, 16, 16, 2]
    lengths = [[len(p.ids) for p in b] for b in made]
    assert all(each == sorted(each, reverse=True) for each in lengths)
    assert lengths[1] == lengths[4] == [5] * 16


def test_places_are_filled_again() -> None:
    """Scripted ends of 2 to 40 tokens: no answer hangs on who came and left beside it."""
    model = quick(1)
    model.load()
    engine = model._engine
    pixels = [tiny.prepare(ImageRef(str(i)), Preparation(28)).pixels[None] for i in range(20)]
    asked = [Prompt(p, tuple(model.encode(tiny.PROMPTS[i % 3], 32))) for i, p in enumerate(pixels)]
    ends = {id(p): 2 + 37 * i % 39 for i, p in enumerate(asked)}
    going = torch.zeros(engine.decoder.table.shape[0], dtype=torch.bool)
    going[1] = True

    def forbid(row: continuous_batching.Row) -> torch.Tensor:
        return going if len(row.tokens) + 1 < ends[id(row.prompt)] else ~going

    def run(rows: int, refill: bool) -> dict[int, Answer]:
        made = continuous_batching.ContinuousBatch(engine, Decode(60), PAPER, Limit(rows), refill, forbid)
        groups = [[continuous_batching.Row(p, i)] for i, p in enumerate(asked)]
        return {row.tag: row.answer() for row in made.run(groups)}

    alone = run(1, False)
    assert [len(alone[i].tokens) for i in range(20)] == [ends[id(p)] for p in asked]
    for rows, refill in ((8, True), (3, True), (8, False)):
        assert {k: a.tokens for k, a in run(rows, refill).items()} == {k: a.tokens for k, a in alone.items()}


def test_bad_images() -> None:
    def prepare(ref: Any, preparation: Any) -> Any:
        if ref.path == "2-0.jpg":
            raise ImageError("2-0.jpg: cannot be read")
        return tiny.prepare(ref, preparation)

    skipped: list[str] = []
    found = by_id(quick(1, prepare=prepare).predict(ask(6), lambda r, e: skipped.append(f"{r.id} {e}")))
    assert sorted(found) == ["s0", "s1", "s3", "s4", "s5"]
    assert skipped == ["s2 2-0.jpg: cannot be read"]
    got: list[Prediction] = []
    with pytest.raises(ImageError, match="2-0"):
        got.extend(quick(1, prepare=prepare, batch_size=4).predict(ask(12)))
    assert "s8" in by_id(got)  # of the same batch as the bad one


def test_leaving_early_leaves_no_threads() -> None:
    """Readers are threads of the process, two at most, and end with it however it ends."""
    before = set(threading.enumerate())
    model = quick(1, batch_size=2)
    answers = model.predict(ask(200))
    next(answers)
    answers.close()
    assert model._readers.kind == "thread"
    assert len([t for t in set(threading.enumerate()) - before if t.name.startswith("images")]) <= 2
    assert batches.AHEAD == 2


def test_normalising_leaves_the_bytes_alone() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    vision.normalise(values)
    floats = values.float()
    vision.normalise(floats)
    assert torch.equal(floats, values.float())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_doctor_measures_and_says_what_to_set(dtype: str, brief: None) -> None:
    from evalkit.models.paligemma import doctor

    said: list[str] = []
    text, sound = doctor.examine(str(tiny.checkpoint(2)), {"dtype": dtype, "device": "cpu"}, 8, said.append)
    assert sound, text
    assert "8 of 8 texts equal" in text
    assert ("--stable" in text.split("set  ")[1]) == (dtype == "bfloat16")
    assert len(said) == 3


def test_doctor_finds_engines_that_do_not_agree(monkeypatch: pytest.MonkeyPatch, brief: None) -> None:
    from evalkit.models.paligemma import doctor

    tower = fast.Tower.__call__
    monkeypatch.setattr(fast.Tower, "__call__", lambda self, pixels: 1.1 * tower(self, pixels))
    text, sound = doctor.examine(str(tiny.checkpoint(1)), {"device": "cpu"}, 4, lambda line: None)
    assert not sound
    assert "--engine plain" in text


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_float32_means_float32(engine: str) -> None:
    """Whatever was set before: TF32 or bfloat16 products would be neither exact nor told."""
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    model = quick(1, engine=engine)
    model.load()
    told = model.provenance()
    assert told["float32_products"] == "highest"
    assert told["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
