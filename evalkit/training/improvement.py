"""Whether a training still improves: each evaluation against the best so far, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.comparison import partial
from evalkit.comparison.compare import ModelRuns, compare
from evalkit.comparison.trend import comparable
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun
from evalkit.runs.store import RunFolder, scores_of
from evalkit.types import Score

SHARED = ("samples",)  # may differ


class Best:
    """The best evaluation so far, and how many came after it. Another takes its place where a task's first
    metric is significantly better (paired by image, at 5 % after Holm over the tasks) and none is
    significantly worse. That is so of each look: of very many looks some are won by chance."""

    def __init__(self) -> None:
        self.runs: ModelRuns | None = None  # where several processes train, on the first
        self.name = ""
        self.since = 0
        self.improvements = 0  # the first evaluation among them
        self.apart = ""  # why the last evaluation could not be compared with the best before it
        self._last = ""
        self._before: tuple[ModelRuns | None, str, int, int] = None, "", 0, 0

    def take_up(self, folders: Sequence[RunFolder], improvements: int, since: int) -> None:
        """Goes on where an earlier session of a training ended: these are the runs of the best then."""
        found = [scored_run.of_run(folder) for folder in folders if scores_of(folder)]
        whole = {run.task: run for run in found if not run.early}
        self.improvements, self.since = improvements, since
        if whole:
            self.name = found[0].name
            self.runs = ModelRuns(self.name, whole)

    def shown(self, folders: Sequence[RunFolder]) -> list[Score]:
        """The scores of an evaluation as one curve shows them: where a sequential test stopped a task, what
        it would be on all samples of the best."""
        known = {} if self.runs is None else self.runs.runs
        found = []
        for folder in folders:
            record = folder.read_run() or {}
            best = known.get(record["task"]) if record.get("early") else None
            if best is None:
                found += scores_of(folder)
            else:
                found += partial.completed(scored_run.of_run(folder), best)
        return found

    def look(self, folders: Sequence[RunFolder]) -> bool:
        """Whether these runs are the best now. The last ones again, with more samples, take their place. What
        cannot be compared with the best (its data was changed) is judged anew from here."""
        found = [scored_run.of_run(folder) for folder in folders if scores_of(folder)]
        if not found:
            return False
        runs = ModelRuns(found[0].name, {run.task: run for run in found})
        if runs.name == self._last:
            self.runs, self.name, self.since, self.improvements = self._before
        self._last, self._before = runs.name, (self.runs, self.name, self.since, self.improvements)
        stopped = any(run.early for run in found)  # what a sequential test stopped is no better
        self.apart = "" if self.runs is None else _apart(self.runs, runs)
        if self.runs is not None and not self.apart and (stopped or not _better(self.runs, runs)):
            self.since += 1
            return False
        self.runs, self.name, self.since = runs, runs.name, 0
        self.improvements += 1
        return True

    def promising(self, folders: Sequence[RunFolder]) -> bool:
        """Whether some of these runs were stopped, none of them worse, and another is significantly better:
        the rest is worth its time, since a new best has all samples."""
        records = [folder.read_run() or {} for folder in folders]
        stopped = [record["early"]["verdict"] for record in records if record.get("early")]
        whole = [f for f, r in zip(folders, records, strict=True) if not r.get("early") and scores_of(f)]
        if self.runs is None or not stopped or not whole or "worse" in stopped:
            return False
        found = [scored_run.of_run(folder) for folder in whole]
        return _better(self.runs, ModelRuns(found[0].name, {run.task: run for run in found}))

    def __str__(self) -> str:
        after = f", {self.since} without a significant improvement" * bool(self.since)
        apart = f", not compared with those before: {self.apart}" * bool(self.apart)
        return f"best so far {self.name or 'nothing yet'}{after}{apart}"


def _apart(before: ModelRuns, now: ModelRuns) -> str:
    """Why nothing of the two can be compared; '' where something can."""
    known, apart = comparable([*now.runs.values()], before.runs, SHARED)
    return "" if known else next((f"{task}: {why}" for task, why in apart.items()), "no task in common")


def _better(before: ModelRuns, now: ModelRuns) -> bool:
    """On the samples that both have: an image that cannot be read once is no end of all comparison."""
    if not any(_ahead(before.runs[task], now.runs[task]) for task in now.runs.keys() & before.runs.keys()):
        return False  # most evaluations end here, without hundreds of resamples
    known, _ = comparable([*now.runs.values()], before.runs, SHARED)
    if not known:
        return False
    found = compare(before, ModelRuns(now.name, known), SHARED)
    return found.count("won") > 0 and found.count("lost") == 0


def _ahead(before: ScoredRun, now: ScoredRun) -> bool:
    """Whether the first metric's value is better, by however little."""
    one, two = before.scores.get(before.first), now.scores.get(now.first)
    if one is None or two is None:
        return True
    return two.value < one.value if one.lower_is_better else two.value > one.value
