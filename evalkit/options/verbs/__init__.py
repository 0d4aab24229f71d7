"""What each command takes. The command line, the Python API and evalkit.toml read these classes."""

from __future__ import annotations

from evalkit.options.fields import Options
from evalkit.options.verbs.models import (
    AskOptions,
    ConvertOptions,
    DemoOptions,
    DoctorOptions,
    RunOptions,
    SweepOptions,
    WatchOptions,
)
from evalkit.options.verbs.outputs import ExportOptions, PlotOptions, ReportOptions, ViewOptions
from evalkit.options.verbs.scores import (
    BaselineOptions,
    CheckOptions,
    CompareOptions,
    ExplainOptions,
    PublishedOptions,
    ScoreOptions,
    SuspectsOptions,
    TableOptions,
)
from evalkit.options.verbs.tasks import (
    FindDataOptions,
    ListOptions,
    RunsOptions,
    ShowOptions,
    ValidateOptions,
)

__all__ = [
    "VERBS", "AskOptions", "BaselineOptions", "CheckOptions", "CompareOptions", "ConvertOptions",
    "DemoOptions", "DoctorOptions", "ExplainOptions", "ExportOptions", "FindDataOptions", "ListOptions",
    "PlotOptions", "PublishedOptions", "ReportOptions", "RunOptions", "RunsOptions", "ScoreOptions",
    "ShowOptions", "SuspectsOptions", "SweepOptions", "TableOptions", "ValidateOptions", "ViewOptions",
    "WatchOptions",
]  # fmt: skip

VERBS: dict[str, type[Options]] = {
    "run": RunOptions,
    "demo": DemoOptions,
    "score": ScoreOptions,
    "table": TableOptions,
    "report": ReportOptions,
    "view": ViewOptions,
    "plot": PlotOptions,
    "export": ExportOptions,
    "compare": CompareOptions,
    "sweep": SweepOptions,
    "check": CheckOptions,
    "baseline": BaselineOptions,
    "watch": WatchOptions,
    "published": PublishedOptions,
    "explain": ExplainOptions,
    "suspects": SuspectsOptions,
    "list": ListOptions,
    "show": ShowOptions,
    "data": FindDataOptions,
    "validate": ValidateOptions,
    "runs": RunsOptions,
    "convert": ConvertOptions,
    "doctor": DoctorOptions,
    "ask": AskOptions,
}
"""Every command and what it takes, in the order of `evalkit --help`."""
