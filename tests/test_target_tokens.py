"""Targets of `<loc>` tokens: what is wrong in one costs only that box, and is said."""

from __future__ import annotations

import pytest

from evalkit.geometry import location_tokens
from evalkit.geometry.target_tokens import judged

GOOD = "<loc0100><loc0200><loc0300><loc0400>"
FAR = "<loc90315><loc0032><loc0580><loc0230>"

RIGHT = [
    "",
    f"{GOOD} cat",
    f"{GOOD} cat ; {GOOD} dog",
    f"{GOOD} cat;{GOOD} dog ;",
    f"{GOOD}{'<seg001>' * 16} a cat ; {GOOD}{'<seg002>' * 16} dog",
    f"{GOOD} cat {GOOD} dog",
    f" \n{GOOD} cat\n",
]


@pytest.mark.parametrize("text", RIGHT)
def test_a_right_text_gives_what_an_answer_gives(text: str) -> None:
    read = judged(text)
    assert list(read.kept) == location_tokens.objects(text)
    assert read.problems == ()


@pytest.mark.parametrize(
    ("text", "kept", "kinds"),
    [
        (f"{FAR} square ; {GOOD} dog", "dog", "tokens"),
        (f"{GOOD} dog ; {FAR} square", "dog", "tokens"),
        (f"{GOOD} dog ; {FAR} square ; {GOOD} cat", "dog cat", "tokens"),
        (f"{GOOD} dog, {FAR} square", "dog,", "tokens"),
        (f"<loc1110><loc0032><loc0580><loc0230> a ; {GOOD} dog", "dog", "tokens"),
        (f"<loc0032><loc0580><loc0230> a ; {GOOD} dog", "dog", "tokens"),
        (f"<loc0032>{GOOD} a ; {GOOD} dog", "dog", "tokens"),
        (f"<loc99999>{GOOD} a ; {GOOD} dog", "dog", "tokens"),
        (f"<loc0001><loc0002> <loc0003><loc0004> a ; {GOOD} dog", "dog", "tokens"),
        (f"<LOC0001> a ; {GOOD} dog", "dog", "tokens"),
        (f"<loc0300><loc0400><loc0100><loc0200> a ; {GOOD} dog", "dog", "swapped"),
        (f"<loc0100><loc0400><loc0300><loc0200> a ; {GOOD} dog", "dog", "swapped"),
        (f"<loc0100><loc0200><loc0100><loc0400> a ; {GOOD} dog", "dog", "flat"),
        (f"{GOOD} ; {GOOD} dog", "dog", "unlabelled"),
        (f"{GOOD}{GOOD} dog", "dog", "unlabelled"),
        (f"a {GOOD} ; {GOOD} dog", "dog", "before"),
        (f"a {GOOD}", "", "before"),
        (f"a {GOOD} ; b {GOOD}", "", "before before"),
        (f"a {GOOD} b {GOOD}", "", "before before"),
        (f"{GOOD} dog ; a {GOOD}", "dog", "before"),
        (f"{GOOD} dog ; a", "dog", "boxless"),
        (f"a ; {GOOD} dog", "dog", "boxless"),
        (f"there is {GOOD} dog", "dog", "stray"),
        (f"{GOOD} a<b ; {GOOD} dog", "a dog", "stray"),
        (f"{GOOD}<seg001><seg002> a ; {GOOD} dog", "dog", "masks"),
    ],
)  # fmt: skip
def test_what_is_wrong_costs_only_its_box(text: str, kept: str, kinds: str) -> None:
    read = judged(text)
    assert " ".join(each.label for each in read.kept) == kept
    assert " ".join(kind for kind, _ in read.problems) == kinds


def test_data_without_labels_is_kept() -> None:
    assert [each.label for each in judged(f"{GOOD} ; {GOOD}", labelled=False).kept] == ["", ""]
    assert judged(GOOD, labelled=False).problems == ()
