"""What evalkit uses of the package radgraph 0.1.18, with words for what its model reads in a report."""

from __future__ import annotations


class F1RadGraph:
    def __init__(self, reward_level: str, model_type: str | None = None, cuda: int | None = None) -> None:
        assert reward_level in ("simple", "partial", "complete", "all")
        assert model_type in ("radgraph", "radgraph-xl", "echograph", "modern-radgraph-xl")
        print(f"Using device: {cuda}")

    def __call__(
        self, refs: list[str], hyps: list[str]
    ) -> tuple[float, list[float], list[object], list[object]]:
        assert refs
        assert len(refs) == len(hyps)
        found = [_f1(set(h.split()), set(r.split())) for h, r in zip(hyps, refs, strict=True)]
        return sum(found) / len(found), found, [], []


def _f1(hypothesis: set[str], reference: set[str]) -> float:
    return 2 * len(hypothesis & reference) / (len(hypothesis) + len(reference))
