"""SPICE of captions: agreement of scene graphs; its own Java program parses and scores them."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.errors import UserError
from evalkit.provenance import version
from evalkit.text import java, ngrams
from evalkit.types import Metric, Rows

MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


@dataclass(frozen=True)
class Spice(Metric):
    """Mean over samples of the F-score of scene-graph tuples (targets: tuples of captions).

    spice-1.0.jar, called as in salaniz/pycocoevalcap spice/spice.py @ ad63453c, but with its files in a
    temporary folder. Needs Java and CoreNLP 3.6.0, which pycocoevalcap can download. An F that the
    program leaves undefined is 0. `ptb` as in `evalkit.text.ngrams`.
    """

    ptb: ngrams.Tokens = "caption"

    takes = ("texts",)
    columns = ("score", "n")

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One (score, 1) per sample. Raises UserError without Java or CoreNLP."""
        result = np.zeros((len(targets), 2))
        result[:, 1] = 1.0
        ours, theirs = ngrams.tokenized(answers, targets, self.ptb)
        captioned = [
            {"image_id": i, "test": answer, "refs": references}
            for i, (answer, references) in enumerate(zip(ours, theirs, strict=True))
            if answer is not None and references
        ]
        for each in _scored(captioned) if captioned else ():
            f = each["scores"]["All"]["f"]
            result[each["image_id"], 0] = f if isinstance(f, float | int) and math.isfinite(f) else 0.0
        return result

    def no_interval(self) -> str:
        return ngrams.BATCH_REASON if self.ptb == "batch" else ""

    def tools(self) -> str:
        return f"spice 1.0, {version('pycocoevalcap')}"


def _scored(captioned: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The program's output for each caption. Raises UserError without Java or CoreNLP."""
    jar = java.jar("spice", "spice-1.0.jar")
    missing = [name for name in MODELS if not (jar.parent / "lib" / name).is_file()]
    if missing:
        raise UserError(
            f"SPICE needs {missing[0]} in {jar.parent / 'lib'}; it is part of "
            "stanford-corenlp-full-2015-12-09 (http://nlp.stanford.edu/software), which "
            f"`cd {jar.parent} && python get_stanford_models.py` downloads"
        )
    with tempfile.TemporaryDirectory(prefix="evalkit-spice-") as folder:
        given, printed = Path(folder) / "given.json", Path(folder) / "printed.json"
        given.write_text(json.dumps(captioned), encoding="utf-8")
        options = ["-cache", folder, "-out", str(printed), "-subset", "-silent"]
        java.run_java(["-Xmx8G", "-jar", jar.name, str(given), *options], jar.parent)
        read: list[dict[str, Any]] = json.loads(printed.read_text(encoding="utf-8"))
    return read
