"""Parity of the metrics that compare texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parity_compare import Compared, predicted, raised, score, score_all

from evalkit import registry
from evalkit.text import vqa

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
            result.equal(dialect, vqa.DIALECTS[dialect](text), case["expected"][name], text)
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
    tidy = [vqa.tidy(h) for h in humans]
    answer = vqa.tidy(answer)
    if len(set(tidy)) > 1:
        tidy, answer = [vqa.official(h) for h in tidy], vqa.official(answer)
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
        if inputs["task"] == "science_qa":
            _science(result, inputs, expected)
            continue
        if inputs["task"] == "aokvqa":
            _aokvqa(result, inputs, expected)
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


def _science(result: Compared, inputs: dict[str, Any], expected: dict[str, Any]) -> None:
    parser = registry.make("parsers", "letter")
    answer, wanted = (parser.read(predicted(inputs[key]), None) for key in ("prediction", "answer"))
    result.equal("science parsed", answer or "failed", expected["parsed"], inputs)
    result.equal("science parsefail", float(parser.invalid(answer)), expected["parsefail"], inputs)
    if wanted is not None:  # the reference takes two unreadable texts for equal
        result.near("science acc", score("exact_match", answer, (wanted,)), expected["acc"], inputs)


def _aokvqa(result: Compared, inputs: dict[str, Any], expected: dict[str, Any]) -> None:
    direct = score("vqa_accuracy(variant='plain')", inputs["direct_answer"], tuple(inputs["direct_answers"]))
    result.near("aokvqa big_vision DA", direct, expected["big_vision_DA"], inputs)
    if raised(expected["DA_percent"]):  # difficult questions have no direct answer: no sample is left
        result.equal("aokvqa DA raises", inputs["difficult_direct_answer"], True, inputs)
    else:
        result.near("aokvqa DA", 100 * direct, expected["DA_percent"], inputs)
    right = (inputs["choices"][inputs["correct_choice_idx"]],)
    ours = 100 * score("exact_match", inputs["multiple_choice"], right)
    for strict in ("not_strict", "strict"):
        theirs = expected[f"MC_percent_{strict}"]
        if raised(theirs):  # strict refuses an answer that is no choice; it is wrong here
            result.equal("aokvqa MC raises", ours, 0.0, inputs)
        else:
            result.near(f"aokvqa MC {strict}", ours, theirs, inputs)


def pope(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        inputs, expected = case["inputs"], case["expected"]
        if "answer" in inputs:
            said = score("yes_no(variant='official')", inputs["answer"], ("yes",))
            result.equal("official", "yes" if said else "no", expected["official_mapped"], inputs)
            for label in ("yes", "no"):
                ours = score("yes_no", inputs["answer"], (label,))
                result.equal("big_vision", ours, expected[f"big_vision_correct_if_{label}"], inputs)
            continue
        targets = [(label,) for label in inputs["labels"]]
        official, strict = (
            registry.make("metrics", f"yes_no(variant={v!r})") for v in ("official", "strict")
        )
        rows = official.rows(inputs["answers"], targets)
        theirs = expected["official"]
        if raised(theirs):  # nobody says yes: precision and F1 are 0 here
            result.equal("official raises", official.details(rows)["f1"], 0.0, case["id"])
        else:
            ours = official.details(rows)
            names = {"acc": "accuracy", "yes_ratio": "yes_rate"}
            for name in ("acc", "precision", "recall", "f1", "yes_ratio"):
                result.near(f"official {name}", ours[names.get(name, name)], theirs[name], case["id"], 1e-12)
        rows = strict.rows(inputs["answers"], targets)
        theirs = expected["big_vision"]
        result.near("big_vision acc", strict.reduce(rows), theirs["acc"], case["id"], 1e-12)
        readable = strict.details(rows)["readable"]
        result.near("big_vision valid", readable, theirs["valid_percent"], case["id"], 1e-12)
    return result


def nlvr2(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        items, expected = case["inputs"]["items"], case["expected"]
        answers = [item["prediction"] for item in items]
        targets = []
        for item in items:
            parts = item["identifier"].split("-")
            pair = "-".join([*parts[:2], "", *parts[3:]])  # the fourth field stays, as in the official script
            targets.append({"pair": pair, "answers": (item["label"],)})
        for name, spelling in (
            ("accuracy", "exact_match(lowercase=True)"),
            ("consistency", "paired_accuracy(lowercase=True)"),
        ):
            ours = score_all(spelling, answers, targets)
            result.near(f"official {name}", ours, expected["official"][name], case["id"], 1e-12)
        ours = score_all("exact_match", answers, targets)
        result.near("big_vision", ours, expected["big_vision_exact"], case["id"], 1e-12)
    return result


def rsvqa(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        inputs, expected = case["inputs"], case["expected"]
        lower = inputs["to_lower"]
        answers = [item["prediction"] for item in inputs["items"]]
        targets = [{"type": item["question_type"], "answers": item["answers"]} for item in inputs["items"]]
        spelled = {
            "acc": f"vqa_accuracy(variant='plain', lowercase={lower})",
            "acc_any": f"exact_match(lowercase={lower})",
            "anls": f"anls(lowercase={lower})",
            "acc_avg": f"mean_type_accuracy(lowercase={lower})",
            # With all three types both of the reference's subsets have this name; the last stays.
            "acc_avg_nonum": f"mean_type_accuracy(types=('comp', 'presence'), lowercase={lower})",
        }
        for name, theirs in expected.items():
            if name == "num":
                continue
            one = f"mean_type_accuracy(types=({name[4:]!r},), lowercase={lower})"
            ours = score_all(spelled.get(name, one), answers, targets)
            result.near(name if name in spelled else "one type", ours, theirs, case["id"], 1e-12)
    return result


def counts(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        inputs, expected = case["inputs"], case["expected"]
        ours = score("exact_match(normalise='count')", inputs["prediction"], (inputs["answer"],))
        if raised(expected):  # a count above 15 is counted like any other here
            same = vqa.count(inputs["prediction"]) == vqa.count(inputs["answer"])
            result.equal("raises", bool(ours), same, inputs)
        else:
            result.equal("correct", bool(ours), expected["correct"], inputs)
    return result


def counts_of_all(cases: Cases, expected: dict[str, Any]) -> Compared:
    """The figures of all cases that do not raise: of all, of simple and complex ones, of each count."""
    result = Compared()
    inputs = [case["inputs"] for case in cases if not raised(case["expected"])]
    kinds = {"simple": 1, "complex": 0}
    for name, theirs in expected.items():
        figure, _, part = name.partition("/")
        chosen = [
            each
            for each in inputs
            if not part
            or (part in kinds and each.get("issimple") == kinds[part])
            or part == f"count_{vqa.count(each['answer'])}"
        ]
        if figure == "num":
            result.equal(figure, len(chosen), theirs, name)
        else:
            answers, targets = [e["prediction"] for e in chosen], [(e["answer"],) for e in chosen]
            ours = score_all("exact_match(normalise='count')", answers, targets)
            result.near(figure, ours, theirs, name, 1e-12)
    return result


def gqa(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    metric = registry.make("metrics", "gqa")
    kinds = {"StructuralType": "structural", "SemanticType": "semantic", "Length": "words", "Steps": "steps"}
    for case in cases:
        inputs, expected = case["inputs"], case["expected"]
        choices = inputs["choices"] or {}
        targets = [_gqa_target(i, q, choices.get(i, {})) for i, q in inputs["questions"].items()]
        rows = metric.rows([inputs["predictions"][target["id"]] for target in targets], targets)
        ours = metric.details(rows)
        result.near("accuracy", 100 * metric.reduce(rows), expected["accuracy"], case["id"])
        for name in ("binary", "open", "validity", "plausibility", "consistency"):
            if name != "consistency" or inputs["eval_consistency"]:
                result.near(name, 100 * ours.get(name, 0.0), expected[name], case["id"])
        result.near("distribution", ours["distribution"], expected["distribution"], case["id"])
        for theirs, name in kinds.items():
            for value, (figure, _) in expected[f"accuracyPer{theirs}"].items():
                result.near(name, 100 * ours[f"{name} {value}"], figure, case["id"])
    return result


def _gqa_target(number: str, question: dict[str, Any], choices: dict[str, Any]) -> dict[str, Any]:
    asked = [f"{step['operation']}: {step['argument']}" for step in question["semantic"]]
    final = ("exist", "query: name", "choose name")
    types = question["types"]
    return {
        "id": number,
        "answers": (question["answer"],),
        "balanced": question["isBalanced"],
        "structural": types["structural"],
        "semantic": types["semantic"],
        "detailed": types["detailed"],
        "group": question["groups"]["global"],
        "entailed": question["entailed"],
        "words": len(question["question"].split()),
        "steps": sum(not any(f in step for f in final) for step in asked),
        **choices,
    }
