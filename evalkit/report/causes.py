"""What usually causes an odd answer or a kind of error, and what to try; knows scores, not how they are
computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.types import CUT, UNREADABLE, Score

ODD: Mapping[str, str] = {
    CUT: "raise decode.max_new_tokens to the longest target",
    "a label that is no category": "a prompt other than the one trained with, or names spelled otherwise; "
    "coco_ap(lowercase=True) ignores case",
    "not asked for": "few training prompts named what an image does not show, so all is said that is seen",
    "around the whole image": "a prompt that it was not trained for, or a class that it does not know",
    "that the answer repeats": "a loop while decoding: fewer objects in training than here",
    "corners are in the wrong order": "targets written as x y x y; PaliGemma's order is y0 x0 y1 x1",
    "without a pixel": "a mask decoder other than the one trained with, or boxes of a pixel or two",
    "without a whole pixel": "boxes smaller than a pixel, in targets too",
    "a box without area": "targets that were rounded to nothing, or x y w h written as corners",
    "no location token": "a prompt without detect or segment, or a checkpoint without these tasks",
    "no four location tokens": "an answer that was cut, or a tokenizer without <loc> tokens",
    "something before the box": "a checkpoint that repeats its prompt: parser boxes(form='first') reads on",
    "a blank between box and mask": "a tokenizer that writes blanks: parser masks(form='first') reads them",
    "a line break before the box": "the demo's parser, which ends there: parser boxes reads on",
    "mask tokens": "a prompt with detect instead of segment, or an answer that was cut",
    "no JSON": "a checkpoint that was not trained to write JSON, or another prompt",
    "JSON that is not complete": "an answer that was cut: raise decode.max_new_tokens",
    "JSON that is broken": "quotes within values that training did not escape",
    "an empty text": "a prompt other than the one trained with",
}
"""By what stands in a remark: what usually causes it, or mends it."""

ERRORS: Mapping[str, str] = {
    "classification": "classes that look alike or are mixed up in the annotations: see --per confusion",
    "localisation": "loose annotations, small objects at this resolution, or another resize than in training",
    "both": "a guess: too few examples of these classes",
    "duplicate": "the same object said twice: several prompts an image, or repetition while decoding",
    "background": "objects that nobody annotated (evalkit suspects), or a prompt that names what is absent",
    "missed": "answers that were cut, more objects than in training, small objects: a higher resolution",
    "false positive": "all wrong detections together",
    "false negative": "all objects together that no detection found",
}
"""What usually causes each kind of error of a detector."""


def own(score: Score) -> dict[str, dict[str, int]]:
    """PaliGemma's own kinds of error, those of a score's remarks whose cause is known, as parts of it."""
    return {
        what: {"n": n}
        for what, n in score.remarks.items()
        if not what.startswith("of them ") and any(key in what for key in ODD)
    }


def odd(score: Score, task_file: Mapping[str, Any]) -> Iterator[str]:
    """`12 of 20 answers were cut at 128 new tokens: raise ...`, a line for each remark with a known cause."""
    for what, n in score.remarks.items():
        cause = next((text for key, text in ODD.items() if key in what), "")
        if not cause or what.startswith("of them "):
            continue
        shown = f"{n:,} {what.removeprefix(UNREADABLE)}"
        if what == CUT:
            most = task_file.get("decode", {}).get("max_new_tokens")
            shown = f"{n:,} of {score.n:,} answers were cut" + (f" at {most} new tokens" if most else "")
        elif what.startswith(UNREADABLE):
            shown = f"{n:,} of {score.n:,} answers are unreadable, {what.removeprefix(UNREADABLE)}"
        yield f"{shown}: {cause}"


def errors(score: Score) -> Iterator[str]:
    """`missed: 40, ΔAP 12.3: usually ...`, the costliest first, of errors that cost anything."""
    found = score.breakdowns.get("error", {})
    for name, row in sorted(found.items(), key=lambda item: -item[1].get("ΔAP", 0.0)):
        if row.get("n") and name in ERRORS and not name.startswith("false "):
            yield f"{name}: {row['n']:,}, ΔAP {100 * row.get('ΔAP', 0.0):.1f}: {ERRORS[name]}"


def confidence(score: Score) -> Iterator[str]:
    """What a calibration error, a risk-coverage curve or an accuracy at a coverage says, in a sentence."""
    name, said = score.metric.partition("(")[0], score.details
    if name == "calibration_error" and "of a calibrated model" in said:
        sure, right = said["mean confidence"], said["mean value"]
        if score.low is not None and score.low <= 0:
            yield (
                f"{score.metric}: {_hundred(score.value)}, no more than chance gives a calibrated model of "
                f"{score.n:,} samples (about {_hundred(said['of a calibrated model'])})"
            )
            return
        how = "sure of wrong answers: scale confidences down" if sure > right else "less sure than it may be"
        yield f"{score.metric}: says {_hundred(sure)} on average where {_hundred(right)} are right: {how}"
    elif name == "risk_coverage" and "risk of all" in said:
        yield (
            f"{score.metric}: {_hundred(score.value)}; without any order it is "
            f"{_hundred(said['risk of all'])}, in the best {_hundred(said['in the best order'])}"
        )
    elif name == "selective_accuracy" and "least confidence kept" in said:
        least = said["least confidence kept"]
        yield f"{score.metric}: {_hundred(score.value)} of answers whose probability is {least:.3g} or more"


def _hundred(value: float) -> str:
    return f"{100 * value:.1f}"
