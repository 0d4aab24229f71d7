"""Our metrics against what the reference evaluators gave, file by file.

The folder is the one that EVALKIT_PARITY names, else ../shared/parity beside the repository. A file in
it that the table does not name is a failure; an absent folder skips. `pytest -rP` shows the counts.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import parity_captions
import parity_questions
import parity_regions
import parity_structures
import pytest
from parity_compare import Compared, raised

FOLDER = Path(os.environ.get("EVALKIT_PARITY") or Path(__file__).parents[2] / "shared" / "parity")

TABLE = {
    "anls.json": parity_questions.anls,
    "box_iou.json": parity_regions.box_iou,
    "captions.json": parity_captions.captions,
    "chartqa_relaxed.json": parity_questions.relaxed,
    "coco_ap.json": parity_regions.coco_ap,
    "gqa.json": parity_questions.gqa,
    "grandstaff_cer_ser_ler.json": parity_structures.error_rates,
    "hiertext_words.json": parity_structures.hiertext,
    "loc_decode.json": parity_regions.loc_decode,
    "nlvr2.json": parity_questions.nlvr2,
    "pope.json": parity_questions.pope,
    "ptb_tokenize.json": parity_captions.ptb_tokenize,
    "ptb_tokenize_batches.json": parity_captions.ptb_batches,
    "qa_exact_match.json": parity_questions.exact_match,
    "refseg.json": parity_regions.refseg,
    "rsvqa.json": parity_questions.rsvqa,
    "statistics.json": "test_statistics.py",
    "tallyqa_countbenchqa.json": parity_questions.counts,
    "teds.json": parity_structures.teds,
    "vae_decode.json": parity_regions.vae_decode,
    "vae_paste.json": parity_regions.vae_paste,
    "vqa_accuracy.json": parity_questions.vqa_accuracy,
    "vqa_normalize.json": parity_questions.vqa_normalize,
}
"""What tests a file: a function, or another test file."""

TOGETHER = {"tallyqa_countbenchqa.json": parity_questions.counts_of_all}
"""What tests the figures that a reference gives for all cases of a file, where they are all here."""

BESIDE = {"README.md", "vae_random.npz", "vae_decode_expected.npz", "vae_paste_soft.npz"}
"""Not cases themselves: weights and arrays that cases name."""

needs_folder = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no parity files at {FOLDER}; set EVALKIT_PARITY to their folder"
)


@needs_folder
def test_every_file_is_in_the_table() -> None:
    assert {path.name for path in FOLDER.iterdir()} <= TABLE.keys() | BESIDE


@needs_folder
@pytest.mark.parametrize("name", TABLE)
def test_parity(name: str) -> None:
    check = TABLE[name]
    if isinstance(check, str):
        assert name in (Path(__file__).parent / check).read_text(), f"{check} does not read {name}"
        return
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    alone = [case for case in cases if "all_cases_above" not in case["inputs"]]
    _report(name, check(alone, FOLDER))
    for case in cases:
        counted = sum(not raised(each["expected"]) for each in alone)
        if name in TOGETHER and case not in alone and case["expected"]["num"] == counted:
            _report(name, TOGETHER[name](alone, case["expected"]))


def _report(name: str, compared: Compared) -> None:
    print(f"{name}: " + ", ".join(f"{what} {n}" for what, n in sorted(compared.counts.items())))
    assert compared.counts, f"{name}: nothing was compared"
    assert not compared.failures, f"{len(compared.failures)} differ:\n" + "\n".join(compared.failures[:20])
