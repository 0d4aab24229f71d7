"""A score as it is kept and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evalkit.types.metric import Breakdowns


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one run; values in the metric's own unit (0 to 1; CIDEr unscaled)."""

    task: str
    metric: str  # as spelled in the YAML
    signature: str
    value: float
    low: float | None  # 95 % interval
    high: float | None
    n: int
    clusters: int
    coverage: str  # all | limited | early | incomplete
    invalid: int
    groups: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)  # value None: not scored
    details: Mapping[str, float] = field(default_factory=dict)
    lower_is_better: bool = False
    remarks: Mapping[str, int] = field(default_factory=dict)  # what is odd about the answers -> how many
    breakdowns: Breakdowns = field(default_factory=dict)


def remarked(remarks: Mapping[str, int]) -> str:
    """`12 cut at max_new_tokens; 5 end with <eos>`: a score's remarks as a sentence."""
    return "; ".join(f"{n:,} {what}" for what, n in remarks.items())
