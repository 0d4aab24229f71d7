"""SMILES match: the answer writes the target's molecule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from evalkit.accepted import accepted
from evalkit.types import Metric, Rows
from evalkit.versions import version


@dataclass(frozen=True)
class SmilesMatch(Metric):
    """1 when the answer equals an accepted SMILES (targets: tuples of them), white space stripped.

    With `canonical` both are canonicalised by RDKit first where it is installed, stereochemistry
    kept; a text that RDKit cannot read is compared as it is. `tools` says whether RDKit computed: the
    signature differs, and so may the score.
    """

    canonical: bool = True

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (correct, 1) a sample."""
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            wanted = accepted(target)
            result[i, 1] = bool(wanted)
            if answer is not None:
                result[i, 0] = self._form(answer) in {self._form(text) for text in wanted}
        return result

    def tools(self) -> str:
        return version("rdkit") if self.canonical else ""

    def _form(self, text: str) -> str:
        text = text.strip()
        return (_canonical(text) or text) if self.canonical else text


@lru_cache(maxsize=1 << 14)
def _canonical(text: str) -> str | None:
    try:
        from rdkit import Chem, RDLogger
    except ImportError:
        return None
    RDLogger.DisableLog("rdApp.*")
    molecule = Chem.MolFromSmiles(text) if text else None
    return None if molecule is None else str(Chem.MolToSmiles(molecule))
