"""Close calls: answers whose smallest margin is within the noise of the precision, and how they are
decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.models.paligemma.interface import Answer, Engine, Prompt, Rules
from evalkit.types import Decode

Choices = Sequence[Sequence[int]]

THRESHOLDS = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}
"""Margins (in logits) below which another batch, device or precision might choose another token: about twice
the noise of tiny models. `evalkit doctor` measures the margin of a given checkpoint."""


@dataclass(slots=True)
class Stable:
    """Counts the answers below `threshold`; with `exact`, recomputes them in float32, one at a time."""

    threshold: float
    exact: Callable[[], Engine] | None = None
    counts: dict[str, int] = field(default_factory=lambda: {"answers": 0, "close": 0, "changed": 0})
    _engine: Engine | None = None

    def begin(self) -> None:
        """Resets the counts at the start of a run."""
        self.counts.update(answers=0, close=0, changed=0)

    def decide(
        self, prompt: Prompt, decode: Decode, rules: Rules, answer: Answer, choices: Choices = ()
    ) -> Answer:
        """The final answer: the given one, or the recomputed one of a close call."""
        self.counts["answers"] += 1
        if answer.margin is None or answer.margin >= self.threshold:
            return answer
        self.counts["close"] += 1
        if self.exact is None:
            return answer
        if self._engine is None:
            self._engine = self.exact()
        if choices:
            again = self._engine.choose(prompt, choices, rules)
        else:
            again = self._engine.answer([prompt], decode, rules)[0]
        self.counts["changed"] += again.tokens != answer.tokens
        return again

    def provenance(self) -> dict[str, Any]:
        """How many close calls there were, and how they were decided."""
        decided = "in float32, one at a time" if self.exact is not None else "as computed"
        return {"threshold": self.threshold, **self.counts, "decided": decided}
