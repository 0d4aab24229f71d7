"""Same answers: what a device computes against the CPU, the plain engine and the reference's records, and the
ways of the fast engine against each other."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import models
from benchmarks.gpu import device, oracle
from benchmarks.gpu.parts import Part
from evalkit import demo
from evalkit.errors import ModelError
from evalkit.files import atomic_write
from evalkit.models.paligemma import PaliGemma, doctor
from evalkit.models.paligemma.batching.close_calls import THRESHOLDS
from evalkit.models.paligemma.engine.cuda_graphs import StaticSteps
from evalkit.types import Decode, Prediction, Request

RECORDED = Path(__file__).with_name("recorded.json")
"""Texts of the embedded checkpoints, float32 on a CPU: made by `python -m benchmarks.gpu --record`."""
SAMPLES = {224: 64, 448: 24, 896: 12}
LOGITS = 5e-3  # how far apart float32 logits of two devices or engines may be
CHOICES = ("yes", "no", "red", "two circles and a star")

Answers = dict[str, Prediction]
Check = tuple[str, Callable[[], dict[str, Any]]]
"""Its name, and what runs it: {"ok": ..., "said": ...}."""


@dataclass
class Case:
    """A checkpoint with requests that it can answer."""

    name: str
    path: Path
    requests: list[Request]
    prepare: Callable[..., Any]
    loaded: dict[str, PaliGemma] = field(default_factory=dict)

    def backend(self, home: torch.device, **options: Any) -> PaliGemma:
        """evalkit's backend on this device, loaded once."""
        key = f"{home} {options}"
        if key not in self.loaded:
            self.loaded[key] = self.fresh(home, **options)
        return self.loaded[key]

    def fresh(self, home: torch.device, **options: Any) -> PaliGemma:
        """The same, not shared with another check."""
        return PaliGemma(str(self.path), device=str(home), prepare=self.prepare, **options)

    def decoding(self, **settings: Any) -> list[Request]:
        """The requests with other decode settings."""
        return [replace(r, decode=replace(r.decode, **settings)) for r in self.requests]


def embedded(side: int, samples: int) -> Case:
    """The embedded trained checkpoint (PaliGemma 1's shape) with the demo's own questions."""
    requests, prepare = doctor.questions(side, samples)
    return Case(f"demo {side} px", demo.checkpoint("later", side), requests, prepare)


def second(folder: Path, side: int, samples: int) -> Case:
    """Random weights in PaliGemma 2's shape."""
    path = models.build(folder / "second", "thin", side, family=2)
    requests, prepare = doctor.questions(side, samples)
    short = [replace(r, decode=Decode(max_new_tokens=4 if side < 224 else 8)) for r in requests]
    return Case("PaliGemma 2's shape", path, short, prepare)


def run(part: Part) -> None:
    """All checks, the most important first. One that breaks is a row that says so, and the next one runs."""
    samples = {224: 4, 448: 2, 896: 1} if part.toy else SAMPLES
    cases = {side: embedded(side, n) for side, n in samples.items()}
    whole = cases[224]
    checks: list[Check] = [
        *((f"float32, {c.name}", lambda c=c: _float32(part, c)) for c in cases.values()),  # type: ignore[misc]
        ("bfloat16 in batches", lambda: _batches(part, whole, "bfloat16")),
        ("CUDA graphs, float32", lambda: faster(part, whole, "float32", graphs=True)),
        ("CUDA graphs, bfloat16", lambda: faster(part, whole, "bfloat16", graphs=True)),
        ("out of memory", lambda: _out_of_memory(part, cases[896])),
        ("out of memory, CUDA graphs", lambda: _out_of_memory(part, cases[896], graphs=True)),
        ("beam search", lambda: _decoding(part, whole, beams=3)),
        ("likelihood", lambda: _likelihood(part, whole)),
        ("forbidden tokens", lambda: _decoding(part, whole, forbid=("<loc0000>", "<eos>"), max_new_tokens=8)),
        ("sampling", lambda: _decoding(part, whole, temperature=0.7, top_p=0.9, seed=1)),
        ("close calls decided in float32", lambda: _stable(part, whole)),
        ("one shape (--strict)", lambda: _strict(part, whole)),
        (
            "PaliGemma 2's shape, float32",
            lambda: _float32(part, second(part.scratch, 28 if part.toy else 224, samples[448])),
        ),
        ("recorded oracle", lambda: oracle.check(part.device)),
        ("second GPU", lambda: _second_gpu(part, whole)),
        ("compile, float32", lambda: faster(part, whole, "float32", compiled=True)),
        ("compile and CUDA graphs, bfloat16", lambda: faster(part, whole, "bfloat16", True, True)),
    ]
    run_all(part, checks)


def run_all(part: Part, checks: Sequence[Check]) -> None:
    """A row for each check. After a fault of the device the process is lost: the rest is left out."""
    for name, check in checks:
        if not part.has(25 if "compile" in name else 4, name):
            continue
        begun = part.left()
        try:
            found = check()
        except Exception as error:  # whatever it is, the other checks must still run
            lacks = isinstance(error, ModelError) and str(error).startswith("--compile")  # a compiler
            found = {
                "ok": None if lacks else False,
                "said": f"{type(error).__name__}: {str(error).strip()[:300]}",
            }
        part.add(check=name, **found, seconds=begun - part.left())
        try:
            device.wait(part.device)
            device.release(part.device)
        except RuntimeError as error:
            part.note(f"the device does not answer after '{name}', what follows is left out: {error}"[:300])
            return


def record(target: Path = RECORDED) -> None:
    """Writes the texts and margins that the CPU gives in float32."""
    found = []
    for side, n in SAMPLES.items():
        case = embedded(side, n)
        answers = _ask(case.backend(torch.device("cpu")), case.requests)
        texts = [
            json.dumps({r.id: [answers[r.id].text, _rounded(answers[r.id].margin)]}) for r in case.requests
        ]
        found.append(f"{json.dumps(case.name)}: {{\n" + ",\n".join(t[1:-1] for t in texts) + "\n}")
    atomic_write(target, "{" + ",\n".join(found) + "}\n")


def _rounded(margin: float | None) -> float | None:
    return None if margin is None else round(margin, 5)


# --- one check each: {"ok": ..., "said": ...} ---


def _float32(part: Part, case: Case) -> dict[str, Any]:
    """Plain and fast engine on the device, and what the CPU says: recorded, or asked now."""
    plain, fast = (case.backend(part.device, engine=e) for e in ("plain", "fast"))
    found, wanted = _ask(fast, case.requests), _ask(plain, case.requests)
    with torch.inference_mode():
        prompts = doctor._prompts(plain, case.requests)
        expected, tokens = doctor._logits(plain, prompts, None)
        apart = doctor._apart(expected, doctor._logits(fast, prompts, tokens)[0])
    texts, clear = _unlike(found, wanted, THRESHOLDS["float32"])
    recorded = json.loads(RECORDED.read_text()).get(case.name)
    if recorded is not None:
        cpu = {k: recorded[k] for k in found}
        before = "the CPU's recorded texts"
    else:
        asked = _ask(case.backend(torch.device("cpu")), case.requests)
        cpu = {k: [p.text, p.margin] for k, p in asked.items()}
        before = "the CPU's texts"
    moved = [k for k, (text, _) in cpu.items() if found[k].text != text]
    unclear = sum((cpu[k][1] or 0) < THRESHOLDS["float32"] for k in moved)
    on_gpu = part.device.type == "cuda"
    n, sent = len(found), fast.provenance()["images_sent_ahead"]
    return {
        "ok": not clear and len(moved) == unclear and apart <= LOGITS and bool(sent or not on_gpu),
        "said": f"plain and fast: {n - texts} of {n} texts equal, logits at most {apart:.1e} apart; "
        f"{n - len(moved)} of {n} are {before} ({unclear} of the others close calls); {sent} sent ahead",
    }


def _batches(part: Part, case: Case, dtype: str) -> dict[str, Any]:
    """Batches of other sizes, shuffled and resumed, against one by one."""
    model = case.fresh(part.device, dtype=dtype, batch_size=1)
    alone = _ask(model, case.requests)
    close = sum(_margin(p) < THRESHOLDS[dtype] for p in alone.values())
    shuffled = random.Random(0).sample(case.requests, len(case.requests))
    ways: dict[str, tuple[int, Sequence[Request]]] = {str(n): (n, case.requests) for n in (3, 16, 64)}
    ways |= {"shuffled": (16, shuffled), "resumed": (16, shuffled[len(shuffled) // 3 :])}
    said, clear = [], 0
    for way, (size, asked) in ways.items():
        model._limit.rows = size  # type: ignore[union-attr]
        flips, sure = _unlike(_ask(model, asked), alone, THRESHOLDS[dtype])
        said.append(f"{way}: {flips}")
        clear += sure
    with torch.inference_mode():
        prompts = doctor._prompts(model, case.requests)
        together, tokens = doctor._logits(model, prompts, None)
        rows = [doctor._logits(model, [p], tokens[:, i : i + 1])[0] for i, p in enumerate(prompts)]
        apart = doctor._apart(torch.cat(rows, dim=1), together)
    return {
        "ok": clear == 0,
        "said": f"texts changed in batches of {', '.join(said)}; {close} of {len(alone)} answers are close "
        f"calls (margin under {THRESHOLDS[dtype]}), {clear} changed that are none; logits "
        f"at most {apart:.2g} apart",
    }


def faster(
    part: Part, case: Case, dtype: str, graphs: bool = False, compiled: bool = False, fused: bool = False
) -> dict[str, Any]:
    """Recorded or compiled decode steps, or fused kernels, against single operations, in batches of 16.
    Graphs need a third step of the same shape, so the samples are asked three times."""
    wanted = _ask(case.backend(part.device, dtype=dtype, batch_size=16, cuda_graphs="off"), case.requests)
    model = _switched(part, case, dtype, graphs, compiled, fused)
    flips = clear = 0
    for _ in range(3):
        model._engine.memory.clear()  # type: ignore[union-attr]  # images are sent while graphs are recorded
        other, sure = _unlike(_ask(model, case.requests), wanted, THRESHOLDS[dtype])
        flips, clear = flips + other, clear + sure
    told = model.provenance()
    how = told["cuda_graphs"] | {"fused_kernels": told["fused_kernels"]}
    wrong = graphs and part.device.type == "cuda" and not (how["on"] and how["replayed"])
    return {
        "ok": clear == 0 and not wrong,
        "said": f"{flips} of {3 * len(wanted)} texts changed, {clear} of them no close calls; "
        + json.dumps(how),
    }


def _switched(
    part: Part, case: Case, dtype: str, graphs: bool, compiled: bool, fused: bool = False
) -> PaliGemma:
    """The backend with graphs, compiled layers and fused kernels; on a CPU steps have the graphs' shapes but
    are not recorded, no kernel is fused, and a rehearsal does not call the compiler."""
    if part.toy:
        torch.compiler.set_stance("force_eager")
    cuda = part.device.type == "cuda"
    model = case.fresh(
        part.device,
        dtype=dtype,
        batch_size=16,
        workers=8,
        cuda_graphs="on" if graphs and cuda else "off",
        compile=compiled,
        fused_kernels=fused and cuda,
    )
    model.load()
    engine: Any = model._engine
    if graphs and not cuda:
        engine.static = StaticSteps(engine.decoder, engine.cap, None)
    return model


def _decoding(part: Part, case: Case, **settings: Any) -> dict[str, Any]:
    """Other decode settings, plain against fast, in float32."""
    asked = case.decoding(**settings)
    wanted = _ask(case.backend(part.device, engine="plain"), asked)
    flips, clear = _unlike(_ask(case.backend(part.device), asked), wanted, THRESHOLDS["float32"])
    return {"ok": clear == 0, "said": f"plain and fast: {len(asked) - flips} of {len(asked)} texts equal"}


def _likelihood(part: Part, case: Case) -> dict[str, Any]:
    asked = [replace(r, choices=CHOICES) for r in case.decoding(mode="likelihood", logprobs=True)]
    wanted, found = (_ask(case.backend(part.device, engine=e), asked) for e in ("plain", "fast"))
    flips, clear = _unlike(found, wanted, THRESHOLDS["float32"])
    apart = max(abs(_margin(found[k]) - _margin(wanted[k])) for k in found)
    return {
        "ok": clear == 0 and apart < 0.01,
        "said": f"plain and fast: {len(asked) - flips} of {len(asked)} choices equal, log-likelihoods' "
        f"margins at most {apart:.1e} apart",
    }


def _stable(part: Part, case: Case) -> dict[str, Any]:
    """bfloat16 with close calls decided in float32: no text may depend on the batch."""
    model = case.fresh(part.device, dtype="bfloat16", batch_size=1, stable="auto")
    alone = _ask(model, case.requests)
    model._limit.rows = 16  # type: ignore[union-attr]
    flips, clear = _unlike(_ask(model, case.requests), alone, 0.0)
    counts = model.provenance()["close_calls"]
    return {"ok": clear == 0, "said": f"{flips} texts changed in batches of 16; {json.dumps(counts)}"}


def _strict(part: Part, case: Case) -> dict[str, Any]:
    """One shape for all batches: in any order a text stays, in bfloat16 too."""
    rows = 4 if part.toy else 16
    model = case.backend(part.device, dtype="bfloat16", batch_size=rows, strict=True)
    first = _ask(model, case.requests)
    again = _ask(model, random.Random(1).sample(case.requests, len(case.requests)))
    flips, _ = _unlike(again, first, 0.0)
    return {"ok": flips == 0, "said": f"{flips} of {len(first)} texts changed in another order"}


def _second_gpu(part: Part, case: Case) -> dict[str, Any]:
    """Answers on `cuda:1`, with graphs, of a process that began on `cuda:0`; on the CPU in a rehearsal."""
    cuda = part.device.type == "cuda"
    if cuda and torch.cuda.device_count() < 2:
        return {"ok": None, "said": "there is one here"}
    wanted = _ask(case.backend(part.device), case.requests)
    model = case.fresh(torch.device("cuda", 1) if cuda else part.device)
    flips, clear = 0, 0
    for _ in range(3):  # a step is recorded when its shape comes again
        other, sure = _unlike(_ask(model, case.requests), wanted, THRESHOLDS["float32"])
        flips, clear = flips + other, clear + sure
    told = model.provenance()
    if cuda:
        torch.cuda.set_device(part.device)
    return {
        "ok": clear == 0,
        "said": f"{flips} of {3 * len(wanted)} texts changed on {told['device']}; {told['cuda_graphs']}",
    }


def _out_of_memory(part: Part, case: Case, graphs: bool = False) -> dict[str, Any]:
    """A batch that does not fit is halved until it does. On a GPU torch may hold little more than the
    weights; on a CPU the engine is made to say once that it has no memory."""
    wanted = _ask(case.backend(part.device, batch_size=1), case.requests)
    model = _switched(part, case, "float32", graphs, False)
    asked = case.requests * 16
    asked = [replace(r, id=f"{r.id}/{i}") for i, r in enumerate(asked)]
    limit: Any = model._limit
    limit.rows = before = len(asked)
    engine: Any = model._engine
    if part.device.type != "cuda":
        _fail_once(engine)
    with device.at_most(part.device, 44 << 20):
        found = _ask(model, asked)
    flips = sum(found[r.id].text != wanted[r.id.split("/")[0]].text for r in asked)
    return {
        "ok": limit.rows < before and flips == 0 and len(found) == len(asked),
        "said": f"batches of {before} became {limit.rows}; {flips} of {len(asked)} texts changed",
    }


def _fail_once(engine: Any) -> None:
    real = engine.prefill

    def prefill(*given: Any, **more: Any) -> Any:
        engine.prefill = real
        raise torch.OutOfMemoryError("out of memory: made by the benchmark")

    engine.prefill = prefill


# --- answers ---


def _ask(model: PaliGemma, requests: Sequence[Request]) -> Answers:
    """Every request's answer; an error, which fails the check, where one is lost or comes twice."""
    found = list(model.predict(requests))
    if sorted(p.id for p in found) != sorted(r.id for r in requests):
        raise ValueError(f"{len(found)} answers to {len(requests)} requests, or to others")
    return {p.id: p for p in found}


def _margin(prediction: Prediction) -> float:
    return float("inf") if prediction.margin is None else prediction.margin


def _unlike(found: Answers, wanted: Answers, threshold: float) -> tuple[int, int]:
    """How many texts differ, and how many of these are no close calls."""
    other = [k for k in found if found[k].text != wanted[k].text]
    return len(other), sum(_margin(wanted[k]) >= threshold for k in other)
