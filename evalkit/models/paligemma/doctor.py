"""`evalkit doctor`: whether a checkpoint answers the same with both engines and in any batch, how noisy its
precision is, how fast it is here, which options to set, and what it answers in codes and in floats."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from evalkit.models.paligemma.backend import PaliGemma
from evalkit.models.paligemma.checkpoint import quantize
from evalkit.models.paligemma.interface import Prompt
from evalkit.models.paligemma.memory import collect
from evalkit.types import Decode, ImageRef, Preparation, Request

PROMPTS = ("caption en", "answer en how many shapes are there?", "detect square ; circle")
TOLERANCE = 5e-3  # logits of two float32 engines beyond which something is wrong


def questions(resolution: int, samples: int) -> tuple[list[Request], Callable[..., Any]]:
    """`samples` requests about a quarter as many generated scenes, and the function that draws a scene."""
    from evalkit.demo import world
    from evalkit.demo.questions import vqa
    from evalkit.images.prepare import Prepared
    from evalkit.images.resize import resize

    def prepare(ref: ImageRef, preparation: Preparation) -> Prepared:
        pixels = world.render(world.make(int(ref.path)))
        return Prepared(resize(pixels, preparation.resolution), f"scene {ref.path}", pixels.shape[:2])

    preparation, decode, requests = Preparation(resolution), Decode(max_new_tokens=24), []
    for index in range(samples):
        scene = index // 4
        prompt = (
            PROMPTS[index % 4]
            if index % 4 < len(PROMPTS)
            else "answer en " + vqa(world.make(scene), random.Random(scene))[0].text
        )
        requests.append(Request(f"{index}", (ImageRef(str(scene)),), prompt, preparation, decode))
    return requests, prepare


def examine(
    model: str, given: Mapping[str, Any], samples: int, say: Callable[[str], None], called: str = ""
) -> tuple[str, bool]:
    """The report as text, and whether all is well. `given` are options of the model; those that the report
    varies itself (engine, batch size, ...) are ignored. `called` is the model's name in the report."""
    tried = ("dtype", "engine", "stable", "strict", "batch_size", "kv_dtype", "cuda_graphs", "compile")
    options = {name: value for name, value in given.items() if name not in tried}
    asked = PaliGemma(model, **options, dtype=given.get("dtype") or "float32")
    dtype, info = asked.dtype, asked.info
    requests, prepare = questions(info.resolution, samples)
    scheme = quantize.in_force(info, asked.quantize)
    floats = {**options, "quantize": quantize.FLOATS} if scheme else options
    found = diagnose(
        lambda **given: PaliGemma(model, prepare=prepare, **floats, **given),
        requests,
        dtype,
        say,
        (lambda **given: PaliGemma(model, prepare=prepare, **options, **given)) if scheme else None,
    )
    n = found.samples
    sound = found.differing == 0 and found.engines <= TOLERANCE
    changed = sum(found.changed.values())
    lines = [
        f"{called or model}: {info.describe()}",
        *(f"odd        {remark}" for remark in info.remarks),
        f"engines    plain and fast in float32: {n - found.differing} of {n} texts equal, "
        f"logits at most {found.engines:.1e} apart" + ("" if sound else "  <- too far apart"),
        f"batches    {dtype}, against one by one: "
        + ", ".join(f"{way} {count} changed" for way, count in found.changed.items())
        + f"; logits at most {found.batching:.1e} apart",
    ]
    if dtype != "float32":
        lines.append(
            f"precision  {dtype} and float32: {n - found.rounded} of {n} texts equal, "
            f"logits at most {found.precision:.2g} apart"
        )
    if found.codes is not None:
        lines += _of_codes(found, quantize.about(info, asked.quantize), info.adapter is not None)
    lines.append(
        "speed      " + ", ".join(f"{how}: {rate:.3g} samples/s" for how, rate in found.speed.items())
    )
    lines += ["", *_advice(sound, changed, found.batching, found.precision, dtype)]
    return "\n".join(lines), sound


def _of_codes(found: Findings, how: str, adapter: bool) -> list[str]:
    """What differs between codes, as they are or as an adapter was trained on them, and floats."""
    codes, n = found.codes, found.samples
    assert codes is not None
    head, other = ("adapter", "merged into float") if adapter else ("codes", "floats")
    how = how.removeprefix("adapter ")
    return [
        f"{head:10} {how} and {other}, {found.dtype}: {n - codes.differing} of {n} texts equal,",
        f"           logits at most {codes.apart:.2g} apart, a token's log-probability "
        f"{codes.likelihood:.2g} on average, {codes.most:.2g} at most;",
        f"           codes one by one and in a batch: logits at most {codes.batching:.1e} apart",
    ]


def _advice(sound: bool, changed: int, batching: float, precision: float, dtype: str) -> list[str]:
    if not sound:
        return ["set        --engine plain, and please report this checkpoint: the engines must agree"]
    if dtype == "float32":
        if not changed:
            return ["set        nothing: in float32 no text depends on its batch"]
        return [f"set        --stable {max(2 * batching, 1e-3):.2g}: some texts depend on their batch"]
    margin = 2 * max(batching, precision)
    return [
        f"set        --stable {margin:.2g} to decide answers closer than twice the noise in float32,",
        "           or --dtype float32",
    ]


STEPS = 4  # tokens after the first whose logits are compared
SOME = 8  # prompts whose logits are compared: one length at a time, all of one batch
SIZES = (1, 3, 16)


@dataclass(frozen=True, slots=True)
class Codes:
    """Codes against floats, in one precision, one by one. Log-probabilities (natural) are of the tokens that
    the model in floats writes."""

    differing: int  # texts
    apart: float  # logits
    likelihood: float  # log-probability of a token, mean of absolute differences
    most: float  # the largest of them
    batching: float  # logits of codes one by one and in a full batch


@dataclass(slots=True)
class Findings:
    """Counts are of `samples` texts; differences are the largest of any logit (logits have no unit)."""

    samples: int = 0
    dtype: str = ""
    differing: int = 0  # plain and fast, float32
    engines: float = 0.0  # logits of plain and fast, float32
    changed: dict[str, int] = field(default_factory=dict)  # way of batching -> texts unlike batch 1
    batching: float = 0.0  # logits of batch 1 and a full batch, in `dtype`
    precision: float = 0.0  # logits in `dtype` and in float32, fast
    rounded: int = 0  # texts in `dtype` unlike float32's
    speed: dict[str, float] = field(default_factory=dict)  # engine and precision -> samples a second
    codes: Codes | None = None  # where weights are quantised by a library


def diagnose(
    make: Callable[..., PaliGemma],
    requests: Sequence[Request],
    dtype: str,
    say: Callable[[str], None],
    coded: Callable[..., PaliGemma] | None = None,
) -> Findings:
    """Loads the checkpoint three times, one after the other, and compares its answers to the same requests.

    `make(**options)` gives the checkpoint's backend in floats, which already knows how to read the images;
    `coded` the one whose weights are quantised by a library: it is loaded last, and compared in `dtype`.
    """
    found = Findings(len(requests), dtype)
    say("plain engine in float32")
    wanted, plain, _, tokens = _ask(make(engine="plain", dtype="float32"), requests, found, None)
    say("fast engine in float32")
    texts, fast, _, _ = _ask(make(engine="fast", dtype="float32"), requests, found, tokens)
    found.differing = _unlike(texts, wanted)
    found.engines = _apart(plain, fast)
    model = make(engine="fast", dtype=dtype, batch_size=SIZES[0])
    say(f"fast engine in {dtype}: batches of 1, 3 and 16, shuffled, resumed")
    alone, single, batched, _ = _ask(model, requests, found, tokens)
    found.precision, found.batching = _apart(single, fast), _apart(single, batched)
    found.rounded = _unlike(alone, texts)
    shuffled = random.Random(0).sample(list(requests), len(requests))
    ways = {f"batch {n}": (n, list(requests)) for n in SIZES[1:]}
    ways |= {"shuffled": (SIZES[-1], shuffled), "resumed": (SIZES[-1], shuffled[len(shuffled) // 3 :])}
    for way, (size, ordered) in ways.items():
        assert model._limit is not None
        model._limit.rows = size
        found.changed[way] = _unlike(_texts(model, ordered), alone)
    if coded is not None:
        say(f"plain engine in {dtype}, weights in codes")
        model = coded(engine="plain", dtype=dtype, batch_size=1)
        texts, rows, batched, _ = _ask(model, requests, found, tokens)
        drift = (_likelihood(rows, tokens) - _likelihood(single, tokens)).abs()
        found.codes = Codes(
            _unlike(texts, alone), _apart(rows, single), float(drift.mean()), float(drift.max()),
            _apart(rows, batched),
        )  # fmt: skip
    return found


def _likelihood(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (steps, prompts) of the tokens that were fed."""
    return logits[:-1].log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


def _ask(
    model: PaliGemma, requests: Sequence[Request], found: Findings, tokens: torch.Tensor | None
) -> tuple[dict[str, str], torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts by id; logits (steps, prompts, vocabulary) one by one and as one batch; the tokens that were
    fed for them (greedy unless `tokens` are given)."""
    collect()  # the weights of the engine before: nothing else would free them in time
    model.load()
    _texts(model, requests[:2])  # warm-up
    begun = time.perf_counter()
    texts = _texts(model, requests)
    found.speed[f"{model.engine}, {model.dtype}"] = len(requests) / (time.perf_counter() - begun)
    with torch.inference_mode():
        prompts = _prompts(model, requests)
        together, chosen = _logits(model, prompts, tokens)
        rows = [_logits(model, [p], chosen[:, i : i + 1])[0] for i, p in enumerate(prompts)]
    return texts, torch.cat(rows, dim=1), together, chosen


def _texts(model: PaliGemma, requests: Sequence[Request]) -> dict[str, str]:
    return {p.id: p.text for p in model.predict(requests)}


def _prompts(model: PaliGemma, requests: Sequence[Request]) -> list[Prompt]:
    """The first prompts of the most frequent length: they make one batch without padding."""
    lengths: dict[int, list[Prompt]] = {}
    for request in requests:
        ids = tuple(model.encode(request.prompt, request.decode.text_length))
        pixels = np.stack([model._prepare()(i, request.preparation).pixels for i in request.images])
        lengths.setdefault(len(ids), []).append(Prompt(pixels, ids))
    return max(lengths.values(), key=len)[:SOME]


def _logits(
    model: PaliGemma, prompts: list[Prompt], tokens: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    engine: Any = model._engine
    logits, state = engine.prefill(prompts, model.rules)
    rows, fed = [logits.cpu()], []
    for step in range(STEPS):
        chosen = logits.argmax(-1).cpu() if tokens is None else tokens[step]
        fed.append(chosen)
        logits = engine.step(chosen, state)
        rows.append(logits.cpu())
    return torch.stack(rows), torch.stack(fed)


def _unlike(texts: dict[str, str], wanted: dict[str, str]) -> int:
    return sum(text != wanted[name] for name, text in texts.items())


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())
