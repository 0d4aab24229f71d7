"""A few samples for every metric, so that the rules of test_metrics.py hold for each.

A new metric needs one entry here: spellings, answers with a target each, and perfect answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pycocotools import mask as cocomask

from evalkit.types import Box, Confident, Mask


@dataclass(frozen=True)
class Example:
    spellings: tuple[str, ...]
    answers: tuple[Any, ...]
    targets: tuple[Any, ...]
    perfect: tuple[Any, ...]
    best: float | None = None  # of the perfect answers; None: the metric's maximum
    java: bool = False


TEXTS = ("yes", "a dog", "None", "", "42%", "The  cat.", "2,000", "déjà vu")
ACCEPTED = (
    ("yes",) * 10,
    ("dog", "a dog", "the dog", "puppy", "dog", "dogs", "a big dog", "dog", "cat", "Dog"),
    ("0", "none", "zero", "two", "none", "none", "0", "no", "nothing", "none"),
    ("", "x", "", "", "x", "", "", "", "", ""),
    ("0.42", "42%"),
    ("cat", "the cat", "the cat.", "Cat"),
    ("2000",),
    ("deja vu", "déjà vu", "déjà  vu"),
)
AGREED = tuple((text,) * 10 for text in ("yes", "dog", "2 red", "blue sky", "0.5", "cat", "2000", "déjà vu"))
_SURE = tuple(Confident(text, (-0.1 * (place % 3), -0.05 * (place % 2))) for place, text in enumerate(TEXTS))
_SURE_AND_RIGHT = tuple(Confident(humans[0], (0.0, 0.0)) for humans in AGREED)
CAPTIONS = (
    ("a man rides a brown horse.", "A man riding on a horse", "someone is on a horse"),
    ("two dogs play in the snow", "dogs running in deep snow"),
    ("a red bus on the street", "the bus is parked", "a double-decker bus"),
    ("a plate of food", "pizza on a plate, isn't it?"),
)


def _mask(runs: list[int]) -> Mask:
    """A 4 x 6 mask of run lengths down the columns, empty first."""
    coded = cocomask.frPyObjects({"size": [4, 6], "counts": runs}, 4, 6)
    return Mask((4, 6), coded["counts"].decode(), Box(0.0, 0.0, 0.5, 0.5))


CAPTIONED = ("a man on a horse", "dogs in snow", "bus", "")
CAPTIONS_RIGHT = tuple(references[0] for references in CAPTIONS)

_REFERRED = tuple(
    {"size": (100, 200), "box": box}
    for box in ((10, 20, 60, 120), (0, 0, 100, 200), (50, 100, 75, 150), (5, 5, 6, 6))
)
_BOXES = (
    (Box(0.1, 0.1, 0.6, 0.6),),
    (Box(0.0, 0.0, 0.5, 0.5), Box(0, 0, 1, 1)),
    (Box(0.5, 0.5, 0.9, 0.75),),
    (Box(0.9, 0.9, 1.0, 1.0),),
)
_RIGHT_BOXES = tuple(
    (Box(t["box"][0] / 100, t["box"][1] / 200, t["box"][2] / 100, t["box"][3] / 200),) for t in _REFERRED
)
_REGIONS = (
    {"size": (4, 6), "segmentation": {"size": [4, 6], "counts": [0, 8, 16]}},
    {"size": (4, 6), "segmentation": [[0, 0, 3, 0, 3, 4, 0, 4]]},
    {"size": (4, 6), "segmentation": {"size": [4, 6], "counts": _mask([4, 4, 12, 2, 2]).counts}},
)
_MASKS = ((_mask([2, 8, 14]),), (_mask([12, 12]),), (_mask([4, 4, 16]),))
_RIGHT_MASKS = ((_mask([0, 8, 16]),), (_mask([0, 12, 12]),), (_mask([4, 4, 12, 2, 2]),))


def _outlined(text: str, x0: int, y0: int, x1: int, y1: int, legible: bool = True) -> dict[str, Any]:
    return {"text": text, "vertices": ((x0, y0), (x1, y0), (x1, y1), (x0, y1)), "legible": legible}


_NAMES = ("cat", "dog")


def _detection(number: int, *objects: tuple[str, tuple[float, ...], int]) -> dict[str, Any]:
    listed = [
        {"category": name, "box": box, "area": box[2] * box[3], "iscrowd": crowd}
        for name, box, crowd in objects
    ]
    return {"size": (128, 128), "image_id": number, "categories": _NAMES, "objects": listed}


def _found(name: str, x: float, y: float, w: float, h: float, score: float = 1.0) -> Box:
    return Box(y / 128, x / 128, (y + h) / 128, (x + w) / 128, name, score, class_score=score)


_DETECTIONS = (
    _detection(3, ("cat", (10, 10, 40, 40), 0), ("dog", (60, 60, 30, 30), 0)),
    _detection(1, ("dog", (0, 0, 100, 100), 0), ("dog", (64, 64, 20, 20), 0), ("dog", (0, 0, 128, 128), 1)),
    _detection(2),
)
_DETECTED = (
    (_found("cat", 12, 10, 40, 40, 0.9), _found("cat", 70, 70, 9, 9, 0.3), _found("owl", 0, 0, 9, 9)),
    (_found("dog", 0, 0, 90, 100, 0.8), _found("dog", 60, 60, 20, 24, 0.7), _found("dog", 1, 1, 90, 90, 0.7)),
    (_found("dog", 5, 5, 50, 50, 0.2),),
)


def _reads(text: str, x: float, y: float, w: float, h: float, legible: bool = True) -> dict[str, Any]:
    corners = ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
    return {"vertices": corners, "text": text, "legible": legible}


_READ = (
    {"size": (128, 128), "words": [_reads("STOP", 10, 10, 20, 20), _reads("GO", 50, 50, 20, 10)]},
    {"size": (128, 128), "words": [_reads("24/7", 0, 0, 30, 9)]},
    {"size": (128, 128), "words": [_reads("?", 0, 0, 30, 30, legible=False)]},
)
_DETECTED_RIGHT = (
    (_found("cat", 10, 10, 40, 40), _found("dog", 60, 60, 30, 30)),
    (_found("dog", 0, 0, 100, 100), _found("dog", 64, 64, 20, 20)),
    None,
)
_SPOTTED = (
    {"size": (100, 200), "words": [_outlined("Café", 20, 10, 60, 30), _outlined("24/7", 100, 50, 160, 80)]},
    {
        "size": (100, 200),
        "words": [_outlined("##", 20, 10, 60, 30, legible=False), _outlined("a", 5, 5, 9, 9)],
    },
)
_WORDS = (
    (Box(0.1, 0.1, 0.3, 0.28, "Café"), Box(0.5, 0.5, 0.8, 0.8, "24/"), Box(0, 0, 0, 0.1, "x")),
    (Box(0.1, 0.1, 0.3, 0.28, "Café"), Box(0.5, 0.5, 0.8, 0.8, "24/")),
)
_WORDS_RIGHT = (
    (Box(0.1, 0.1, 0.3, 0.3, "Café"), Box(0.5, 0.5, 0.8, 0.8, "24/7")),
    (Box(0.05, 0.025, 0.09, 0.045, "a"),),
)


def _table(*rows: str) -> str:
    return f"<html><body><table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table></body></html>"


_TABLES = (
    (_table("<td>a</td><td>b</td>", '<td colspan="2">12.3</td>'),),
    (_table("<td><b>n</b></td><td></td>", "<td>a b</td><td>0</td>"),),
    (_table("<td>x</td>"), _table("<td>y</td>")),
)
_TABLES_READ = (
    _table("<td>a</td><td>c</td>", "<td>12.3</td>"),
    _table("<td>n</td>") + "<table>",
    "<table><tr><td>x</td></tr></table>",
)

_GQA = (
    {"id": "1", "answers": ("yes",), "structural": "verify", "group": "thing", "entailed": ["1", "2"]},
    {"id": "2", "answers": ("blue",), "structural": "query", "group": "color", "valid": ("blue", "red")},
    {"id": "3", "answers": ("left",), "structural": "choose", "plausible": ("left",), "steps": 2, "words": 5},
    {"id": "4", "answers": ("cup",), "structural": "query", "balanced": False, "entailed": ["2"]},
)
_TYPED = (("presence", "yes"), ("presence", "no"), ("count", "7"), ("rural_urban", "rural"), ("comp", "no"))
_PAIRED = (("a", "True"), ("a", "False"), ("b", "True"), ("c", "False"))

_JSON = (
    ('{"total": "12.50", "menu": [{"name": "cake", "n": 2}, {"name": "juice"}]}',),
    ('{"date": "2024-03-01", "paid": true, "notes": null}', '{"date": "1 March 2024"}'),
    ('["a", "b"]',),
    ("<s_name>Ann</s_name><s_items><s_a>1</s_a><sep/><s_a>2</s_a></s_items>",),
    ("{}",),
)
_JSON_READ = (
    '{"menu": [{"name": "juice"}, {"n": 3, "name": "cake"}], "total": 12.5}',
    '{"date": "03/01/2024"}',
    '["b", "a", "c"]',
    '{"name": "Ann", "items": [{"a": "2"}]',
    '{"x": 1}',
)
_JSON_RIGHT = tuple(accepted[0] for accepted in _JSON)
_LABELS = (("cat", "dog"), ("bird",), (), ("cat, red bird",))
_NUMBERS = (("12",), ("1,200", "1300"), ("0.5",), ("-3",))

EXAMPLES = {
    "anls": Example(
        ("anls", "anls(lowercase=False)", "anls(variant='rrc')", "anls(variant='mmf')"),
        TEXTS,
        ACCEPTED,
        tuple(accepted[0] for accepted in ACCEPTED),
    ),
    "anls_star": Example(("anls_star", "anls_star(threshold=0.0)"), _JSON_READ, _JSON, _JSON_RIGHT),
    "box_accuracy": Example(("box_accuracy", "box_accuracy(iou=0.75)"), _BOXES, _REFERRED, _RIGHT_BOXES),
    "box_iou": Example(("box_iou",), _BOXES, _REFERRED, _RIGHT_BOXES),
    "bleu": Example(
        ("bleu", "bleu(n=1)", "bleu(ptb='batch')"), CAPTIONED, CAPTIONS, CAPTIONS_RIGHT, best=0.999
    ),
    "cider": Example(
        ("cider", "cider(ptb='batch')"),
        CAPTIONED,
        CAPTIONS,
        CAPTIONS_RIGHT,
        best=4.5,  # at least: other references differ from the one that was given
    ),
    "meteor": Example(("meteor",), CAPTIONED, CAPTIONS, CAPTIONS_RIGHT, java=True),
    "radgraph_f1": Example(
        ("radgraph_f1", "radgraph_f1(level='complete', model='radgraph-xl')"),
        CAPTIONED,
        CAPTIONS,
        CAPTIONS_RIGHT,
    ),
    "rouge_l": Example(("rouge_l", "rouge_l(ptb='batch')"), CAPTIONED, CAPTIONS, CAPTIONS_RIGHT),
    "spice": Example(("spice",), CAPTIONED, CAPTIONS, CAPTIONS_RIGHT, java=True),
    "coco_ap": Example(
        (
            "coco_ap",
            "coco_ap(rank='logprob')",
            "coco_ap(rank='class')",
            "coco_ap(agnostic=True)",
            "coco_ap(iou=0.5)",
        ),
        _DETECTED,
        _DETECTIONS,
        _DETECTED_RIGHT,
    ),
    "detection_f1": Example(
        (
            "detection_f1",
            "detection_f1(iou=0.75, lowercase=True)",
            "detection_f1(average='macro')",
            "detection_f1(agnostic=True)",
            *(f"detection_f1(figure={figure!r})" for figure in ("precision", "recall", "count_error")),
        ),
        _DETECTED,
        _DETECTIONS,
        (*_DETECTED_RIGHT[:2], ()),
    ),
    "cumulative_iou": Example(("cumulative_iou",), _MASKS, _REGIONS, _RIGHT_MASKS),
    "group_mean": Example(
        ("group_mean", "group_mean(of='anls(threshold=0.5)', groups=('a', 'b'), without=('b',))"),
        TEXTS,
        ACCEPTED,
        tuple(accepted[0] for accepted in ACCEPTED),
    ),
    "error_rates": Example(
        ("error_rates", "error_rates(kind='ser')", "error_rates(kind='ler')"),
        ("4c\t4e\n8d\t.", "=\t=", "", "4c  4d\n\n", "x" * 90),
        (("4c\t4e\n8d\t8r",), ("=\t=",), ("4c 4d",), ("4c 4d",), ("2.e-", "16ff\t(8a")),
        ("4c\t4e\n8d\t8r", "=\t=", "4c 4d", "4c 4d", "16ff\t(8a"),
    ),
    "cer": Example(("cer", "cer(lowercase=True)"), TEXTS, ACCEPTED, tuple(a[0] for a in ACCEPTED)),
    "wer": Example(("wer", "wer(lowercase=True)"), TEXTS, ACCEPTED, tuple(a[0] for a in ACCEPTED)),
    "json_fields": Example(
        (
            "json_fields",
            "json_fields(average='macro', lists='ordered', lowercase=True)",
            "json_fields(average='samples', lists='flat', tolerance=0.01, days=0)",
        ),
        _JSON_READ,
        _JSON,
        _JSON_RIGHT,
    ),
    "json_match": Example(
        ("json_match", "json_match(lists='ordered', tolerance=0.1, days=1, lowercase=True)"),
        _JSON_READ,
        _JSON,
        _JSON_RIGHT,
    ),
    "label_f1": Example(
        ("label_f1", "label_f1(average='macro', lowercase=True)", "label_f1(average='samples')"),
        ("dog,cat , cat", "Bird", None, "cat"),
        _LABELS,
        ("cat, dog", "bird", "", "red bird,cat"),
    ),
    "mean_absolute_error": Example(
        ("mean_absolute_error", "mean_absolute_error(within=(0.0, 5.0, 100.0))"),
        ("11", "$1,250", "about", None),
        _NUMBERS,
        ("12", "1200", "50%", "−3.0"),
    ),
    "sweep_f1": Example(
        ("sweep_f1", "sweep_f1(rank='logprob', iou=0.75, lowercase=True)"),
        _DETECTED,
        _DETECTIONS,
        _DETECTED_RIGHT,
    ),
    "calibration_error": Example(
        (
            "calibration_error",
            "calibration_error(of='vqa_accuracy', bins=3)",
            "calibration_error(of='exact_match(lowercase=True)', confidence='token')",
        ),
        _SURE,
        AGREED,
        _SURE_AND_RIGHT,
    ),
    "risk_coverage": Example(("risk_coverage", "risk_coverage(of='anls')"), _SURE, AGREED, _SURE_AND_RIGHT),
    "selective_accuracy": Example(
        ("selective_accuracy", "selective_accuracy(of='exact_match', coverage=0.5)"),
        _SURE,
        AGREED,
        _SURE_AND_RIGHT,
    ),
    "tide": Example(
        ("tide", "tide(rank='logprob')", "tide(rank='class', iou=0.75, background=0.2)"),
        _DETECTED,
        _DETECTIONS,
        _DETECTED_RIGHT,
    ),
    "ted": Example(("ted",), _JSON_READ, _JSON, _JSON_RIGHT),
    "exact_match": Example(
        ("exact_match", "exact_match(lowercase=True)", "exact_match(normalise='mmf')"),
        TEXTS,
        ACCEPTED,
        tuple(accepted[-1] for accepted in ACCEPTED),
    ),
    "grits": Example(
        ("grits", "grits(kind='content')"),
        _TABLES_READ,
        _TABLES,
        tuple(accepted[-1] for accepted in _TABLES),
    ),
    "hiertext_f1": Example(("hiertext_f1", "hiertext_f1(count='found')"), _WORDS, _SPOTTED, _WORDS_RIGHT),
    "gqa": Example(("gqa",), ("yes", "red", "left", None), _GQA, ("yes", "blue", "left", "cup")),
    "mean_type_accuracy": Example(
        ("mean_type_accuracy", "mean_type_accuracy(types=('presence', 'comp'), lowercase=False)"),
        ("yes", "No", "12", "rural", "yes"),
        tuple({"type": t, "answers": (a,)} for t, a in _TYPED),
        tuple(a for _, a in _TYPED),
    ),
    "paired_accuracy": Example(
        ("paired_accuracy", "paired_accuracy(lowercase=True)"),
        ("true", "False", "True", "True"),
        tuple({"pair": p, "answers": (a,)} for p, a in _PAIRED),
        tuple(a for _, a in _PAIRED),
    ),
    "yes_no": Example(
        (
            "yes_no",
            "yes_no(variant='official')",
            *(f"yes_no(figure={figure!r})" for figure in ("precision", "recall", "f1")),
        ),
        ("yes", "No", "yes.", "no, it is not", "maybe", "yes"),
        (("yes",), ("yes",), ("no",), ("no",), ("yes",), ("no",)),
        ("yes", "yes", "no", "no", "yes", "no"),
    ),
    "mask_iou": Example(("mask_iou",), _MASKS, _REGIONS, _RIGHT_MASKS),
    "relaxed_accuracy": Example(
        ("relaxed_accuracy", "relaxed_accuracy(lowercase=False, tolerance=0.1)"),
        TEXTS,
        ACCEPTED,
        tuple(accepted[0] for accepted in ACCEPTED),
    ),
    "smiles_match": Example(
        ("smiles_match", "smiles_match(canonical='plain')", "smiles_match(chirality=False, cistrans=True)"),
        ("CCO", "C[C@H](N)C(=O)O", "", "not a molecule"),
        (("CCO",), ("C[C@@H](N)C(=O)O",), ("F/C=C/F",), ("c1ccccc1[R1]", "CC")),
        ("CCO", "C[C@@H](N)C(=O)O", "F/C=C/F", "CC"),
    ),
    "teds": Example(
        ("teds", "teds(structure_only=True)", "teds(ignore=('b', 'i'))"),
        _TABLES_READ,
        _TABLES,
        tuple(accepted[-1] for accepted in _TABLES),
    ),
    "vqa_accuracy": Example(
        (
            "vqa_accuracy(lowercase=True)",
            *(f"vqa_accuracy(variant={v!r})" for v in ("official", "big_vision", "mmf", "plain", "vizwiz")),
        ),
        TEXTS,
        AGREED,
        ("yes", "dog", "2 red", "blue sky", "0.5", "cat", "2000", "déjà vu"),
    ),
}
