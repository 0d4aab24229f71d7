"""Whether a training still improves: each evaluation against the best so far, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.comparison.compare import ModelRuns, compare
from evalkit.runs import scored_run
from evalkit.runs.store import RunFolder


class Best:
    """The best evaluation so far, and how many came after it. Another takes its place where a task's first
    metric is significantly better (paired by image, at 5 % after Holm over the tasks) and none is
    significantly worse. That is so of each look: of very many looks some are won by chance."""

    def __init__(self) -> None:
        self.runs: ModelRuns | None = None
        self.since = 0
        self.improvements = 0  # the first evaluation among them

    def look(self, folders: Sequence[RunFolder]) -> bool:
        """Whether these runs are the best now."""
        found = [scored_run.of_run(folder) for folder in folders]
        runs = ModelRuns(found[0].name, {run.task: run for run in found})
        stopped = any(run.early for run in found)  # what a sequential test stopped is no better
        if self.runs is not None and (stopped or not _better(self.runs, runs)):
            self.since += 1
            return False
        self.runs, self.since = runs, 0
        self.improvements += 1
        return True

    @staticmethod
    def promising(folders: Sequence[RunFolder]) -> bool:
        """Whether a sequential test found one of these runs better and none worse, before all was answered:
        the rest is worth its time, since the best is compared with on all samples."""
        records = [folder.read_run() or {} for folder in folders]
        verdicts = {(record.get("sequential") or {}).get("verdict") for record in records}
        return "better" in verdicts and "worse" not in verdicts and any(r.get("early") for r in records)

    def __str__(self) -> str:
        name = self.runs.name if self.runs else "nothing yet"
        return f"best so far {name}" + (
            f", {self.since} without a significant improvement" * bool(self.since)
        )


def _better(before: ModelRuns, now: ModelRuns) -> bool:
    found = compare(before, now)
    return found.count("won") > 0 and found.count("lost") == 0
