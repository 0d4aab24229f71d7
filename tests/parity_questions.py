"""Parity of the metrics that compare texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parity_compare import Compared, raised, score

from evalkit import vqa_text

Cases = list[dict[str, Any]]


def vqa_normalize(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    names = {
        "official": "official",
        "mmf": "mmf_m4c",
        "big_vision": "big_vision_vqav2",
        "vizwiz": "vizwiz",
    }
    for case in cases:
        text = case["inputs"]["text"]
        for dialect, name in names.items():
            result.equal(dialect, vqa_text.DIALECTS[dialect](text), case["expected"][name], text)
    return result


def vqa_accuracy(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    spelled = {
        "official_vqa": "vqa_accuracy(variant='official')",
        "big_vision_vqav2": "vqa_accuracy(variant='big_vision')",
        "mmf_textvqa": "vqa_accuracy(variant='mmf')",
        "vizwiz": "vqa_accuracy(variant='vizwiz')",
        "mmf_stvqa_acc": "exact_match(normalise='mmf')",
    }
    for case in cases:
        answer, humans = case["inputs"]["prediction"], tuple(case["inputs"]["answers"])
        expected = case["expected"]
        for name, spelling in spelled.items():
            result.near(name, score(spelling, answer, humans), expected[name], case["inputs"])
        _plain(result, "big_vision_vqa", answer, humans, expected["big_vision_vqa"], lower=False)
        _plain(
            result, "big_vision_vqa_to_lower", answer, humans, expected["big_vision_vqa_to_lower"], lower=True
        )
        if "official_without_answer_id" in expected:
            ours = _without_answer_ids(answer, humans)
            result.near(
                "official_without_answer_id", ours, expected["official_without_answer_id"], case["inputs"]
            )
    return result


def _plain(
    result: Compared, name: str, answer: str, humans: tuple[str, ...], expected: Any, lower: bool
) -> None:
    plain = f"vqa_accuracy(variant='plain', lowercase={lower})"
    where = (answer, humans)
    result.near(f"{name} acc", score(plain, answer, humans), expected["acc"], where)
    any_of = score(f"exact_match(lowercase={lower})", answer, humans)
    result.near(f"{name} acc_any", any_of, expected["acc_any"], where)
    result.near(f"{name} anls", score(f"anls(lowercase={lower})", answer, humans), expected["anls"], where)


def _without_answer_ids(answer: str, humans: tuple[str, ...]) -> float:
    """What the official script does to annotations without answer_id; understood, not offered.

    It leaves out every human who gave the same answer, not just one.
    """
    tidy = [vqa_text.tidy(h) for h in humans]
    answer = vqa_text.tidy(answer)
    if len(set(tidy)) > 1:
        tidy, answer = [vqa_text.official(h) for h in tidy], vqa_text.official(answer)
    matching = tidy.count(answer)
    return sum(0.0 if h == answer else min(1.0, matching / 3) for h in tidy) / len(tidy)


def anls(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    spelled = {
        "official_rrc": "anls(variant='rrc')",
        "mmf_stvqa_anls": "anls(variant='mmf')",
        "big_vision_to_lower": "anls",
        "big_vision": "anls(lowercase=False)",
        "pix2struct": "anls",
    }
    for case in cases:
        answer, accepted = case["inputs"]["prediction"], tuple(case["inputs"]["answers"])
        for name, spelling in spelled.items():
            ours, theirs = score(spelling, answer, accepted), case["expected"][name]
            if not raised(theirs):
                result.near(name, ours, theirs, case["inputs"])
            else:  # the references divide by zero where all are empty: an empty answer is then right
                result.equal(f"{name} raises", ours, 1.0, case["inputs"])
    return result


def relaxed(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    spelled = {
        "pix2struct": "relaxed_accuracy",
        "big_vision_to_lower": "relaxed_accuracy",
        "big_vision": "relaxed_accuracy(lowercase=False)",
        "big_vision_exact_to_lower": "exact_match(lowercase=True)",
    }
    for case in cases:
        answer, accepted = case["inputs"]["prediction"], (case["inputs"]["target"],)
        for name, spelling in spelled.items():
            result.equal(
                name, bool(score(spelling, answer, accepted)), case["expected"][name], case["inputs"]
            )
    return result


def exact_match(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        inputs, expected = case["inputs"], case["expected"]
        if inputs["task"] not in ("exact_match_single", "multi_answer"):
            continue
        answer = inputs["prediction"]
        accepted = tuple(inputs["answers"]) if "answers" in inputs else (inputs["answer"],)
        for name, lower in (("raw", False), ("to_lower", True)):
            if "answers" in inputs:
                _plain(result, f"several {name}", answer, accepted, expected[name], lower=lower)
            else:
                ours = score(f"exact_match(lowercase={lower})", answer, accepted)
                result.near(f"single {name}", ours, expected[name]["acc"], inputs)
                ours = score(f"anls(lowercase={lower})", answer, accepted)
                result.near(f"single {name} anls", ours, expected[name]["anls"], inputs)
    return result
