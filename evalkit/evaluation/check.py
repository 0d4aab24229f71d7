"""What `evalkit check` does, without a command line: a candidate against a baseline, to a decision."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from evalkit.comparison import gate
from evalkit.comparison.compare import only_model
from evalkit.comparison.gate import Decision
from evalkit.comparison.policy import Policy, know, read_policy
from evalkit.evaluation import evaluate
from evalkit.options.fields import OptionError, flags, names
from evalkit.options.model import ModelOptions
from evalkit.options.verbs import CheckOptions
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun


def check(options: CheckOptions, command: str = "") -> Decision:
    """The decision; a candidate that is a model is run as the baseline was.

    Raises UserError for what can't be compared, a baseline of two models or a policy that does not fit it
    among them before a model runs for hours.
    """
    policy = options.policy if isinstance(options.policy, Policy) else Policy()
    if options.policy is not None and policy is not options.policy:
        policy = read_policy(Path(options.policy))
    if options.margin is not None:
        policy = dataclasses.replace(policy, margin=options.margin)
    base = scored_run.read(options.baseline)
    know(policy, only_model(base, f"--baseline {options.baseline}").runs)
    place = str(options.candidate)
    if _holds_runs(place):
        _refuse_unused(options)
        return gate.check(scored_run.read(place), base, policy, options.limit, names(options.allow))
    new = evaluate.candidate_runs(evaluate.checkpoint(place, options), base, options, command)
    found = gate.check(new, base, policy, options.limit, names(options.allow))
    return dataclasses.replace(found, notes=(*found.notes, *_where(new, options)))


def _refuse_unused(options: CheckOptions) -> None:
    """Raises OptionError for what only a candidate that is a model has a use for."""
    given = options.given()
    pictures = () if options.pages is None else ("data_root",)
    for name in (*flags(ModelOptions), "output_path", "include_path", "data_root", "rehash"):
        if name in given and name not in (*options.from_file, *pictures):
            raise OptionError(
                name, given[name], f"{options.candidate} is a run, not a model that is run; leave it out"
            )


def _where(new: Sequence[ScoredRun], options: CheckOptions) -> list[str]:
    """Where a candidate's runs were kept, and what shows their pictures beside the baseline's answers."""
    places = dict.fromkeys(str(run.folder.path.parent) for run in new if run.folder is not None)
    if not places or options.pages is not None:
        return []
    runs = f"`evalkit report {options.baseline} {' '.join(places)}`"
    return [f"the candidate's runs are kept: {runs} (or `--pages DIR`) shows the pictures of what changed"]


def _holds_runs(place: str) -> bool:
    path = Path(place)
    if os.path.isfile(path) or ("@" in place and not os.path.exists(path)):
        return True
    return os.path.isdir(path) and not (path / "config.json").is_file() and any(path.rglob("run.json"))
