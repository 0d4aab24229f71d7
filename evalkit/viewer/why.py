"""Why an answer has its score, in a few lines a metric; computes no score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evalkit.files import json_text
from evalkit.printing import cut
from evalkit.text import numbers, trees, vqa
from evalkit.text.edit_distance import distance
from evalkit.types import Metric
from evalkit.viewer.marks import inner
from evalkit.viewer.shapes import Answer, Target

Pairs = Iterator[tuple[str, str]]
Field = tuple[str, str, str, bool]  # path, target, answer, whether they are the same
LONG = 4000  # characters from which on texts are not compared here
FIELDS = 60
ORDERS = ("words", "pairs", "triples", "fours")


def lines(spelling: str, judge: Metric, answer: Answer, target: Target, row: Any) -> Pairs:
    """(label, value) of one metric; none for a metric that says nothing beyond its score."""
    explain = _KINDS.get(spelling.partition("(")[0])
    if explain is None or answer.text is None or not target.texts:
        return
    if max(len(answer.text), *(len(text) for text in target.texts)) <= LONG:
        yield from explain(inner(judge), answer.text, target.texts, row)


def _annotators(judge: Any, said: str, texts: Sequence[str], row: Any) -> Pairs:
    """VQA accuracy: who agrees, after the metric's own normalisation."""
    tidy = vqa.DIALECTS.get(judge.variant, str)
    if judge.variant in ("official", "big_vision") and len(set(map(vqa.tidy, texts))) == 1:
        tidy = vqa.tidy  # where all agree, these normalise nothing
    if judge.lowercase:
        said, texts = said.lower(), [text.lower() for text in texts]
    own = tidy(said)
    counts = Counter(map(tidy, texts))
    yield "annotators who agree", f"{counts[own]} of {len(texts)}" + (f", as {own!r}" if own != said else "")
    yield "they said", ", ".join(f"{cut(text, 60)!r} {n}" for text, n in counts.most_common(4))


def _dialect(judge: Any) -> Callable[[str], str]:
    lower = str.lower if getattr(judge, "lowercase", False) else str
    found = vqa.DIALECTS.get(getattr(judge, "normalise", ""))
    return lambda text: (found or str)(lower(text))


def _nearest(judge: Any, said: str, texts: Sequence[str], row: Any) -> Pairs:
    """Metrics of one right text: the nearest one and how far it is."""
    tidy = _dialect(judge)
    own = tidy(said)
    edits, best = min((distance(own, tidy(text)), text) for text in dict.fromkeys(texts))
    length = max(len(own), len(best), 1)
    yield "nearest target", f"{cut(best, 200)!r}, {edits} edits" if edits else f"{cut(best, 200)!r}, the same"
    if edits and hasattr(judge, "threshold"):
        yield "similarity", f"{1 - edits / length:.2f}; {judge.threshold:g} and below scores 0"


def _edits(judge: Any, said: str, texts: Sequence[str], row: Any) -> Pairs:
    if isinstance(row, list) and len(row) >= 2:
        yield "edits", f"{row[0]:g} over a target of {row[1]:g}"


def _number(judge: Any, said: str, texts: Sequence[str], row: Any) -> Pairs:
    own, wanted = numbers.number(said), [numbers.number(text) for text in texts]
    known = [value for value in wanted if value is not None]
    if own is None or not known:
        yield "number", "none was read" if own is None else "the target is none"
        return
    best = min(known, key=lambda value: abs(value - own))
    off = f", {abs(own - best) / abs(best):.1%} off" if best else ""
    yield "number", f"{own:g} for {best:g}{off}"


def _ngrams(judge: Any, said: str, texts: Sequence[str], row: Any) -> Pairs:
    """Captions: how many n-grams of the answer any reference has, and which words none has."""
    words = said.lower().replace(",", " ").replace(".", " ").split()
    references = [text.lower().replace(",", " ").replace(".", " ").split() for text in texts]
    found = []
    for n, name in enumerate(ORDERS, 1):
        own = Counter(zip(*(words[k:] for k in range(n)), strict=False))
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= Counter(zip(*(reference[k:] for k in range(n)), strict=False))
        if total := own.total():
            found.append(f"{(own & most).total()} of {total} {name}")
    known = {word for reference in references for word in reference}
    strange = [word for word in dict.fromkeys(words) if word not in known]
    yield "in a reference", ", ".join(found) or "nothing was said"
    if strange:
        yield "in none", cut(", ".join(strange), 300)


_KINDS: Mapping[str, Callable[[Any, str, Sequence[str], Any], Pairs]] = {
    "vqa_accuracy": _annotators,
    "exact_match": _nearest,
    "anls": _nearest,
    "anls_star": _nearest,
    "smiles_match": _nearest,
    "cer": _edits,
    "wer": _edits,
    "error_rates": _edits,
    "relaxed_accuracy": _number,
    "mean_absolute_error": _number,
    "cider": _ngrams,
    "bleu": _ngrams,
    "rouge_l": _ngrams,
    "meteor": _ngrams,
    "spice": _ngrams,
}


# --- JSON ---------------------------------------------------------------------------------------------


def fields(judges: Mapping[str, Metric], answer: Answer, target: Target) -> tuple[Field, ...] | None:
    """Targets and answer that are JSON, field by field, by the rules of the task's metric of JSON; None where
    a task has none. Of several targets the first."""
    judge = next((inner(j) for name, j in judges.items() if name.startswith(("json_", "label_"))), None)
    if judge is None or not target.texts or not trees.readable(target.texts[0]):
        return None
    given = trees.given(answer.text)
    wanted = dict(_flat(trees.read(target.texts[0]), ""))
    found = dict(_flat(given[0], "")) if given else {}
    rules = trees.Rules(
        getattr(judge, "tolerance", None),
        getattr(judge, "days", None),
        bool(getattr(judge, "lowercase", False)),
    )
    return tuple(
        (path, _shown(wanted, path), _shown(found, path),
         path in wanted and path in found and rules.same(found[path], wanted[path]))
        for path in list(dict.fromkeys([*wanted, *found]))[:FIELDS]
    )  # fmt: skip


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every single value with its path: `items[0].name`."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for k, part in enumerate(value):
            yield from _flat(part, f"{path}[{k}]")
    else:
        yield path or trees.ROOT, value


def _shown(values: Mapping[str, Any], path: str) -> str:
    value = values.get(path, "")
    return cut(value if isinstance(value, str) else json_text(value), 400)
