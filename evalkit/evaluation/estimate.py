"""What a run would cost, before it is run: operations, time by what earlier runs here took, disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.data.by_name import Index
from evalkit.errors import ResultsError
from evalkit.evaluation.plan import Plan, requests
from evalkit.runs import store
from evalkit.tasks.dataset import DatasetCache
from evalkit.types import Checkpoint, Request

LETTERS_A_TOKEN = 4  # of English, for prompts that nobody has tokenised yet
BYTES_A_SAMPLE = 700  # a journal line and a row line, where no earlier run tells


@dataclass(frozen=True, slots=True)
class Estimate:
    """Upper bounds for one plan: every answer is taken to be as long as it may be."""

    samples: int
    images: int
    flops: float | None  # None: the backend does not say
    seconds: float | None  # None: nothing like it has run here
    bytes: int


def estimate(plan: Plan, datasets: DatasetCache, checkpoint: Checkpoint, output: Path) -> Estimate:
    """The cost of what the plan still misses."""
    missing, every = Index(plan.missing), datasets.get(plan.task).samples
    samples = every.take(at for at, name in enumerate(every.ids) if name in missing)
    asked = requests(plan, samples)
    total: float | None = None
    if checkpoint.flops is not None:
        total = sum(
            checkpoint.flops(len(r.images), prompt_tokens(plan, r.prompt), new_tokens(r)) for r in asked
        )
    speed, size = _earlier(output, checkpoint.name)
    return Estimate(
        samples=len(samples),
        images=len({str(i) for s in samples for i in s.images}),
        flops=total,
        seconds=total / speed if total is not None and speed else None,
        bytes=int(size * len(samples)),
    )


def prompt_tokens(plan: Plan, prompt: str) -> int:
    """About how many tokens a prompt is, BOS and newline counted, cut as the plan cuts it."""
    tokens = 2 + len(prompt) // LETTERS_A_TOKEN
    longest = plan.task.decode.text_length if plan.protocol == "paper" else None
    return tokens if longest is None else min(tokens, longest)


def new_tokens(request: Request) -> int:
    """At most how many tokens the decoder reads or writes after the prompt: where choices are scored, about
    all of theirs, end tokens included."""
    if not request.choices:
        return request.decode.max_new_tokens
    return sum(2 + len(choice) // LETTERS_A_TOKEN for choice in request.choices)


def _earlier(output: Path, model: str) -> tuple[float | None, float]:
    """Operations a second and bytes a sample, of the runs of this checkpoint below the folder."""
    flops = seconds = 0.0
    size = lines = 0
    for folder in store.find([output]) if output.exists() else []:
        try:
            run = folder.read_run()
        except ResultsError:  # damaged, or another version's: nothing to learn from
            continue
        if run is None or run["model"] != model:
            continue
        for session in run.get("sessions", []):
            if session.get("seconds") and session.get("flops"):
                seconds += session["seconds"]
                flops += session["flops"]
        files = [*folder.path.glob("predictions/*.jsonl"), *folder.path.glob("rows.jsonl")]
        size += sum(f.stat().st_size for f in files)
        lines += len(folder.answers(run["digest"], run).entries)
    return (flops / seconds if seconds else None), (size / lines if lines else BYTES_A_SAMPLE)


def describe(estimates: Sequence[Estimate]) -> str:
    """One line for people: `1,423 samples, 300 images, at most 1.2 TFLOP, about 40 s, 1.0 MB`."""
    samples, images = sum(e.samples for e in estimates), sum(e.images for e in estimates)
    parts = [f"{samples:,} samples", f"{images:,} images"]
    flops = [e.flops for e in estimates if e.flops is not None]
    if flops:
        parts.append(f"at most {_scaled(sum(flops), 'FLOP')}")
    seconds = [e.seconds for e in estimates if e.samples]
    if seconds and all(s is not None for s in seconds):
        parts.append(f"about {_time(sum(s for s in seconds if s is not None))} by earlier runs here")
    elif samples:
        parts.append("time unknown: this checkpoint has not run here yet")
    parts.append(f"{_scaled(float(sum(e.bytes for e in estimates)), 'B')} on disk")
    return ", ".join(parts)


def _scaled(value: float, unit: str) -> str:
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
