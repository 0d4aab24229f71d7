"""What `evalkit check` does, without a command line: a candidate against a baseline, to a decision."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from evalkit.comparison import gate
from evalkit.comparison.compare import only_model
from evalkit.comparison.gate import Decision
from evalkit.comparison.policy import Policy, know, read_policy
from evalkit.evaluation import evaluate
from evalkit.options.fields import names
from evalkit.options.verbs import CheckOptions
from evalkit.runs import scored_run


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
        new = scored_run.read(place)
    else:
        new = evaluate.candidate_runs(evaluate.checkpoint(place, options), base, options, command)
    return gate.check(new, base, policy, options.limit, names(options.allow))


def _holds_runs(place: str) -> bool:
    path = Path(place)
    if os.path.isfile(path) or ("@" in place and not os.path.exists(path)):
        return True
    return os.path.isdir(path) and not (path / "config.json").is_file() and any(path.rglob("run.json"))
