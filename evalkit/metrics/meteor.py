"""METEOR 1.5 of captions; its own Java program does the matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evalkit.provenance import version
from evalkit.text import java, ngrams
from evalkit.types import Metric, Rows

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75  # English
_STAGES = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase
_COUNTS = 23  # numbers that the program prints for each sample


@dataclass(frozen=True)
class Meteor(Metric):
    """METEOR of the whole corpus, from match counts summed over samples (targets: tuples of captions).

    The counts come from meteor-1.5.jar, called as in salaniz/pycocoevalcap meteor/meteor.py @ ad63453c
    (-l en -norm), in one run and always in UTF-8; the score is its formula (Denkowski and Lavie 2014)
    over the sums, so that rows can be resampled. Needs Java. `ptb` as in `evalkit.text.ngrams`.
    """

    ptb: ngrams.Tokens = "caption"

    takes = ("texts",)
    columns = (
        "length",
        "reference length",
        "function words",
        "reference function words",
        *(
            f"{stage} {side}{kind}"
            for stage in ("exact", "stem", "synonym", "paraphrase")
            for kind in ("content", "function")
            for side in ("", "reference ")
        ),
        "chunks",
        "matches",
        "reference matches",
    )

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One row of the program's counts per sample. Raises UserError without Java."""
        result = np.zeros((len(targets), _COUNTS))
        ours, theirs = ngrams.tokenized(answers, targets, self.ptb)
        scorable = [i for i, references in enumerate(theirs) if references]
        lines = [_line(ours[i] or "", theirs[i]) for i in scorable]
        if not lines:
            return result
        printed = _program(java.jar("meteor", "meteor-1.5.jar")).ask(lines)
        for i, counts in zip(scorable, printed, strict=True):
            result[i] = [float(number) for number in counts.split()]
        # A caption that matches completely, in one chunk, adds no fragmentation to the corpus.
        whole = (result[:, 21] == result[:, 0]) & (result[:, 22] == result[:, 1]) & (result[:, 20] == 1)
        result[whole, 20] = 0.0
        return result

    def value(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """METEOR of sums of rows (..., columns); 0 where nothing matches."""
        length, own_function = sums[..., 0], sums[..., 2]
        other_length, other_function = sums[..., 1], sums[..., 3]
        matches = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)  # stage; content, function; own, other
        weighted = np.einsum("...sk,s->...k", matches, _STAGES)
        chunks, own, other = sums[..., 20], sums[..., 21], sums[..., 22]
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = _mixed(weighted[..., 0::2], length, own_function)
            recall = _mixed(weighted[..., 1::2], other_length, other_function)
            mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
            scattered = chunks / ((own + other) / 2)
            score = mean * (1 - _GAMMA * scattered**_BETA)
        return np.nan_to_num(score, nan=0.0)

    def no_interval(self) -> str:
        return ngrams.BATCH_REASON if self.ptb == "batch" else ""

    def tools(self) -> str:
        return f"meteor 1.5, {version('pycocoevalcap')}"


@cache
def _program(jar: Path) -> java.JavaLines:
    """The running program; it needs ten seconds to start, so it is kept for the next task.

    `-a` names the file that it takes anyway: it looks for it by an address that it has encoded twice, and
    finds nothing where a folder's name has a blank.
    """
    options = ["-Xmx2G", "-jar", jar.name, "-", "-", "-stdio", "-l", "en", "-norm"]
    options += ["-a", "data/paraphrase-en.gz"]
    return java.JavaLines(options, jar.parent)


def _mixed(
    matched: npt.NDArray[np.float64], length: npt.NDArray[np.float64], function: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Matched words over all words of one side; content words weigh more than function words."""
    weights = np.array([_DELTA, 1 - _DELTA])
    words = np.stack([length - function, function], axis=-1)
    result: npt.NDArray[np.float64] = (matched @ weights) / (words @ weights)
    return result


def _line(answer: str, references: Sequence[str]) -> str:
    answer = answer.replace("|||", "").replace("  ", " ")
    return " ||| ".join(("SCORE", *(r.replace("|||", "") for r in references), answer))
