"""The report of a gate's two sides: what the candidate lost, with its pictures."""

from __future__ import annotations

from pathlib import Path

from evalkit.comparison.gate import PASS, Decision
from evalkit.errors import UserError
from evalkit.options.fields import paths
from evalkit.options.verbs import CheckOptions, ReportOptions
from evalkit.viewer import from_baseline, outlet
from evalkit.viewer.build import Say, build
from evalkit.viewer.first_look import Verdict


def ready(options: CheckOptions) -> None:
    """Raises UserError, before a model runs for hours, where no report can be written."""
    if options.pages is None:
        return
    if from_baseline.is_file(str(options.candidate)):
        raise UserError(
            f"--pages: {options.candidate} is a baseline's file, which has no targets and no pictures; give "
            "the candidate's run folder"
        )
    if not _single(Path(options.pages)):
        outlet.refuse_other(Path(options.pages), "--pages")


def pages(options: CheckOptions, decision: Decision, command: str, say: Say = lambda text: None) -> Path:
    """Writes the report, and returns what to open. Raises UserError."""
    output = Path(str(options.pages))
    runs = [t.result.b.folder.path for t in decision.tasks if t.result.b.folder is not None]
    report = ReportOptions(
        runs=[*paths(options.baseline), *runs], output=output, single_file=_single(output),
        data_root=options.data_root, allow_code=options.allow_code,
        title=f"{decision.candidate} against {decision.baseline}: {decision.status}",
    )  # fmt: skip
    verdicts = [
        Verdict(t.task, t.status, t.why, (t.differing or {}).get("id", ""))
        for t in decision.tasks
        if t.status != PASS
    ]
    return build(report, command, say, verdicts)


def _single(output: Path) -> bool:
    return output.suffix in (".html", ".htm")
