"""SMILES match: whether two texts write the same molecule; RDKit canonicalises them where installed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, util
from typing import Literal

import numpy as np

from evalkit.errors import UserError
from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows

LONGEST = 5_000  # characters; longer ones are compared as they are

# The tokens of SmilesPE's atomwise_tokenizer; characters that fit none are dropped, as there.
_TOKEN = re.compile(
    r"\[[^\]]+]|Br?|Cl?|[NOSPFIbcnosp().=#\-+\\/:~@?>*$]|%[0-9]{2}|[0-9]",
)


@dataclass(frozen=True)
class SmilesMatch(Metric):
    """1 when the answer equals one of the targets (tuples of SMILES) after both are made canonical.

    thomas0809/MolScribe evaluate.py @ 7296a304: its canon_smiles, and its graph with `chirality=False`.
    `cistrans`: whether / and \\ count (there they are removed). [R1] becomes [1*], any other bracket that
    is no atom becomes *, characters that no SMILES has are dropped, and a text that RDKit cannot read is
    compared after these changes: all kept. A text that is empty, or is after these changes ("[]"), matches
    nothing, not even the same target.

    `canonical`: auto uses RDKit where it is installed; rdkit requires it (else UserError); plain
    compares the texts as they are, which is what auto does without RDKit: then the same molecule written
    in another order is wrong, and the other parameters have no effect. The signature names the choice.
    Texts of over 5,000 characters are compared as they are.
    """

    chirality: bool = True
    cistrans: bool = False
    canonical: Literal["auto", "rdkit", "plain"] = "auto"

    takes = ("texts",)

    def __post_init__(self) -> None:
        if self.canonical == "rdkit" and not _there():
            raise UserError("smiles_match(canonical='rdkit'): needs the package rdkit; pip install rdkit")

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One (correct, counted) per sample; one without targets is not counted."""
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            wanted = accepted(target)
            result[i, 1] = bool(wanted)
            if answer:
                written = self._written(answer)
                result[i, 0] = any(written == self._written(text) != "" for text in wanted)
        return result

    def tools(self) -> str:
        """RDKit's version, or that texts were compared as they are."""
        return f"rdkit {metadata.version('rdkit')}" if self._rdkit() else "no rdkit: plain text"

    def _rdkit(self) -> bool:
        return self.canonical != "plain" and _there()

    def _written(self, text: str) -> str:
        if not self._rdkit() or len(text) > LONGEST:
            return text
        return _canonical(text, self.chirality, self.cistrans)


def _there() -> bool:
    return util.find_spec("rdkit") is not None


@lru_cache(maxsize=4096)
def _is_atom(token: str) -> bool:
    from rdkit import Chem

    try:
        return Chem.AtomFromSmiles(token) is not None
    except ValueError:  # half of a surrogate pair
        return False


def _canonical(text: str, chirality: bool, cistrans: bool) -> str:
    """The molecule as RDKit writes it; where RDKit cannot read it, the text with the changes so far."""
    from rdkit import Chem, rdBase

    if not cistrans:
        text = text.replace("/", "").replace("\\", "")
    tokens = _TOKEN.findall(text)
    with rdBase.BlockLogs():
        for n, token in enumerate(tokens):
            if token[0] == "[":
                symbol = token[1:-1]
                if symbol[0] == "R" and symbol[1:].isdigit():
                    tokens[n] = f"[{symbol[1:]}*]"
                elif not _is_atom(token):
                    tokens[n] = "*"
        text = "".join(tokens)
        try:
            molecule = Chem.MolFromSmiles(text)
            return text if molecule is None else str(Chem.MolToSmiles(molecule, chirality))
        except (ValueError, RuntimeError):
            return text
