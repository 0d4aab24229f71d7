"""Whether a run's answers are answers to the questions, about the images, that a dataset holds now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.errors import DataError
from evalkit.evaluation.stamps import Shown
from evalkit.runs.journal_lines import Entry
from evalkit.tasks import loader
from evalkit.tasks.dataset import Dataset

REMEDY = "run it again, or give the data that it was run on with --data-root"


def refuse_others(data: Dataset, run: Mapping[str, Any], entries: Mapping[str, Entry], where: str) -> None:
    """Raises DataError where answers are of other samples, to other prompts or about other images than the
    dataset's, with the first of them. `run` is run.json.

    Prompts are compared one by one only where the digest of all is another one.
    """
    task, samples = data.task, {s.id: s for s in data.samples}
    if not same_prompts(data, run):
        gone = [name for name in entries if name not in samples]
        if gone:
            raise DataError(f"{where}: {_first(gone, entries)}: {task.name} does not have it now; {REMEDY}")
        prompts = {name: loader.prompt(task, samples[name].fields) for name in entries}
        other = [name for name, prompt in prompts.items() if prompt != entries[name].prediction.prompt]
        if other:
            was, now = (text[:80] for text in (entries[other[0]].prediction.prompt, prompts[other[0]]))
            raise DataError(f"{where}: {_first(other, entries)}: was asked {was!r}, not {now!r}; {REMEDY}")
    shown = Shown(data.source.root)
    moved = [name for name in entries if name in samples and not shown.same(samples[name], entries[name])]
    if moved:
        raise DataError(f"{where}: {_first(moved, entries)}: had another image than it has now; {REMEDY}")


def same_prompts(data: Dataset, run: Mapping[str, Any]) -> bool:
    """Whether the dataset's prompts, choices and what is drawn on its images are all those of the run."""
    return bool(run["identity"].get("prompts") == data.prompts)


def _first(names: Sequence[str], entries: Mapping[str, Entry]) -> str:
    """`sample q1 (3 of 20 answers)`."""
    return f"sample {names[0]}" + (f" ({len(names):,} of {len(entries):,} answers)" if names[1:] else "")
