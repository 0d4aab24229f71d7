"""Rules that every parser keeps, and what each reads."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as cocomask

from evalkit import registry
from evalkit.errors import DataError, ModelError, UserError
from evalkit.geometry import boxes, mask_decoder, rle
from evalkit.types import Box, Parser, Prediction

SIZE = (48, 64)


def predicted(text: str, **more: Any) -> Prediction:
    return Prediction(id="7", prompt="", text=text, **more)


@cache
def decoder_file() -> Path:
    """Random weights in the published layout; also what the environment names in these tests."""
    import tempfile

    path = Path(tempfile.mkdtemp()) / mask_decoder.FILE
    generator = np.random.default_rng(5)
    arrays = {
        k: (generator.standard_normal(s) * 0.1).astype(np.float16) for k, s in mask_decoder._SHAPES.items()
    }
    np.savez(path, **arrays)
    return path


@pytest.fixture(autouse=True)
def _decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mask_decoder.ENVIRONMENT, str(decoder_file()))


pytestmark = pytest.mark.filterwarnings("ignore:.*is not the published")

SPELLINGS = {
    "text": ("text", "text(strip=True)", "text(clean=True)"),
    "boxes": ("boxes", "boxes(divisor=1024, form='demo')", "boxes(form='first')", "boxes(form='start')"),
    "html": ("html",),
    "json": ("json",),
    "letter": ("letter", "letter(form='alone')"),
    "masks": ("masks", "masks(form='start')", "masks(form='objects', divisor=1024)"),
    "words": ("words", "words(form='text_first', divisor=1024)"),
}
over_all = pytest.mark.parametrize("spelling", [s for some in SPELLINGS.values() for s in some])

special = st.one_of(
    st.integers(0, 1100).map(lambda n: f"<loc{n:04}>"),
    st.integers(0, 140).map(lambda n: f"<seg{n:03}>"),
    st.just("<loc0100><loc0200><loc0700><loc0900>"),
    st.just("<seg001>" * 16),
    st.sampled_from([" cat", " ; ", ";", " ", "\n", "<", "<loc", "<loc12>", "the answer is b."]),
)
texts = st.one_of(st.text(), st.lists(special, max_size=30).map("".join))


def test_every_parser_is_tested_here() -> None:
    assert set(registry.names("parsers")) == set(SPELLINGS)


@over_all
def test_spelling_is_read_back(spelling: str) -> None:
    parser = registry.make("parsers", spelling)
    assert registry.make("parsers", registry.spell(parser)) == parser
    assert parser.kind in {"text", "boxes", "masks"}
    assert isinstance(parser.identity(), str)


@over_all
@given(data=st.data())
def test_no_text_makes_it_raise(spelling: str, data: st.DataObject) -> None:
    parser: Parser = registry.make("parsers", spelling)
    some = data.draw(st.lists(texts, max_size=3))
    predictions = [predicted(text) for text in some]
    answers = parser.answers(predictions, [SIZE] * len(some))
    assert answers == [parser.read(p, SIZE) for p in predictions]
    for answer, prediction in zip(answers, predictions, strict=True):
        assert answer is not None or parser.invalid(answer)
        assert answer is not None or parser.remark(prediction, SIZE), "why it is unreadable"


@pytest.mark.parametrize(
    ("form", "text", "letter"),
    [
        ("sentence", "The answer is B.", "b"),
        ("sentence", "the answer is b. because", "b"),
        ("sentence", "The answer is B", None),
        ("sentence", " The answer is B.", None),
        ("sentence", "The answer is (B).", None),
        ("alone", "B", "b"),
        ("alone", "(B) a dog", "b"),
        ("alone", "b. a dog", "b"),
        ("alone", "a dog", None),
        ("alone", "", None),
    ],
)
def test_letters(form: str, text: str, letter: str | None) -> None:
    assert registry.make("parsers", f"letter(form={form!r})").read(predicted(text), None) == letter


def locs(*values: int) -> str:
    return "".join(f"<loc{v:04}>" for v in values)


CAT = locs(100, 200, 700, 900)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (f"{CAT} cat", ["cat"]),
        (f"{CAT} cat ; {CAT} black dog", ["cat", "black dog"]),
        (f"{CAT} cat;{CAT} dog ;", ["cat", "dog"]),
        (f"{CAT}{CAT} dog", ["", "dog"]),
        (f"here: {CAT} cat", ["cat"]),
        (f"{CAT}{'<seg003>' * 16} cat ; {CAT}", ["cat", ""]),
        (f"{locs(5, 5, 5, 9)} thin ; {CAT} cat", ["cat"]),
        (f"{locs(1, 2, 3)} cat", None),
        ("<loc9999><loc0001><loc1024><loc1025> cat", None),
        ("", []),  # no object in the image
        (" \n", []),
        ("nothing", None),
    ],
)
def test_objects(text: str, labels: list[str] | None) -> None:
    answer = registry.make("parsers", "boxes").read(predicted(text), None)
    assert (None if answer is None else [box.label for box in answer]) == labels


ROWS = "<tr><td>a</td><td>b</td></tr>"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (f"<html><body><table>{ROWS}</table></body></html>", 1),
        (f"\n<!DOCTYPE html><html><body><table>{ROWS}</table></body></html>", 1),
        (f"<body><table>{ROWS}</table></body>", 1),
        (f"<table>{ROWS}</table>", 1),
        (f" <Table border=1>{ROWS}", 1),
        (ROWS, 1),
        (f"<thead>{ROWS}</thead>", 0.75),  # of four elements the head is one too many
        ("<table><tr><td>a</td>", 0.667),  # breaks off: of three elements one is missing
        (f"the table: <table>{ROWS}</table>", 0),
        ("<tableau>", 0),
        ("", 0),
    ],
)
def test_a_bare_table_becomes_a_document(text: str, score: float) -> None:
    answer = registry.make("parsers", "html").read(predicted(text), None)
    assert answer.endswith(text)
    metric = registry.make("metrics", "teds")
    target = f"<html><body><table>{ROWS}</table></body></html>"
    assert metric.reduce(metric.rows([answer], [(target,)])) == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize(
    ("form", "text", "labels"),
    [
        ("box_first", f"{CAT} Café", ["Café"]),
        ("box_first", f"{CAT} a;b ; {CAT} <b> 24/7 ;", ["a;b", "<b> 24/7 ;"]),
        ("box_first", f"{CAT};;{CAT}{locs(5, 5, 5, 9)} thin", [";", "", "thin"]),
        ("text_first", f"Café {CAT} ; 24/7{CAT} left over", ["Café", "24/7"]),
        ("text_first", f"; {CAT};;{CAT}", [";", ";"]),
        ("box_first", " ", []),
        ("box_first", "STOP", None),
    ],
)
def test_words(form: str, text: str, labels: list[str] | None) -> None:
    answer = registry.make("parsers", f"words(form={form!r})").read(predicted(text), None)
    assert (None if answer is None else [box.label for box in answer]) == labels


def test_divisors() -> None:
    (box,) = registry.make("parsers", "boxes").read(predicted(CAT), None)
    assert box.coordinates == (100 / 1023, 200 / 1023, 700 / 1023, 900 / 1023)
    (box,) = registry.make("parsers", "boxes(divisor=1024)").read(predicted(CAT), None)
    assert box.coordinates == (100 / 1024, 200 / 1024, 700 / 1024, 900 / 1024)


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        (CAT, True),
        (f"{CAT} cat", True),
        (f"{CAT}{locs(3)}", True),
        (f" {CAT}", False),
        (locs(100, 200, 100, 900), False),
        (locs(700, 200, 100, 900), False),
        (locs(1, 2, 3), False),
    ],
)
def test_the_first_box_only(text: str, readable: bool) -> None:
    answer = registry.make("parsers", "boxes(form='start')").read(predicted(text), None)
    assert (answer is not None) == readable
    assert answer is None or len(answer) == 1


def test_probabilities_of_boxes() -> None:
    ids = {"<loc": 5000, "cat": 11, "black": 12, "dog": 13, " ;": 14, " ": 15}
    tokens = [5100, 5200, 5700, 5900, 11, 14, 15, 5001, 5002, 5003, 5004, 12, 13]
    logprobs = tuple(-0.1 * n for n in range(len(tokens)))
    text = f"{CAT} cat ; {locs(1, 2, 3, 4)} black dog"
    assert ids["<loc"] == tokens[0] - 100
    prediction = predicted(text, tokens=tuple(tokens), logprobs=logprobs)
    cat, dog = registry.make("parsers", "boxes").read(prediction, None)
    assert cat.score == pytest.approx(-0.1 * np.mean([0, 1, 2, 3, 4]))
    assert cat.class_score == pytest.approx(np.exp(-0.4))
    assert dog.score == pytest.approx(-0.1 * np.mean([7, 8, 9, 10, 11, 12]))
    assert dog.class_score == pytest.approx(np.mean(np.exp([-1.1, -1.2])))


@given(texts, st.lists(st.integers(0, 6000), max_size=30))
def test_probabilities_that_do_not_fit_are_left_out(text: str, tokens: list[int]) -> None:
    prediction = predicted(text, tokens=tuple(tokens), logprobs=(-1.0,) * len(tokens))
    for box in registry.make("parsers", "boxes").read(prediction, None) or ():
        assert box.score in (1.0, -1.0)


SEGS = "".join(f"<seg{v:03}>" for v in range(16))


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        (CAT + SEGS, True),
        (f"{CAT}{SEGS} cat ; more", True),
        (f"{CAT}{SEGS}<seg001>", True),
        (f"x{CAT}{SEGS}", False),
        (CAT + SEGS[:-8], False),
        (f"{CAT} {SEGS}", False),
        (CAT + SEGS.replace("015", "128"), False),
        (locs(700, 200, 100, 900) + SEGS, False),
    ],
)
def test_masks(text: str, readable: bool) -> None:
    parser = registry.make("parsers", "masks(form='start')")
    answer = parser.read(predicted(text), SIZE)
    assert (answer is not None) == readable
    assert parser.invalid(answer) != readable
    if answer:
        pixels = cocomask.decode(rle.mask_rle(answer[0]))
        assert pixels.shape == SIZE
        y0, x0, y1, x1 = boxes.pixels(answer[0].box.coordinates, SIZE)
        pixels[y0:y1, x0:x1] = 0
        assert not pixels.any()


def test_a_box_that_vanishes_in_pixels_is_invalid_but_keeps_its_box() -> None:
    parser = registry.make("parsers", "masks")
    answer = parser.read(predicted(locs(100, 100, 101, 101) + SEGS), SIZE)
    assert answer
    assert parser.invalid(answer)
    assert cocomask.area(rle.mask_rle(answer[0])) == 0


def test_several_labelled_masks() -> None:
    parser = registry.make("parsers", "masks(form='objects')")
    assert [parser.read(predicted(text), (40, 40)) for text in ("", " ", "cat")] == [(), (), None]
    assert not parser.invalid(())
    text = f"{CAT}{SEGS} cat ; {CAT} no mask ; {locs(0, 0, 1023, 1023)}{SEGS} sky"
    answer = parser.read(predicted(text, sizes=(SIZE,)), None)
    assert [mask.label for mask in answer] == ["cat", "sky"]


def test_a_mask_without_a_size_says_so() -> None:
    with pytest.raises(DataError, match="size"):
        registry.make("parsers", "masks").read(predicted(CAT + SEGS), None)


def test_decoding_does_not_depend_on_company() -> None:
    decoder = mask_decoder.decoder()
    rows = np.random.default_rng(0).integers(0, 128, (37, 16))
    together = decoder.decode(rows)
    assert together.shape == (37, 64, 64)
    fresh = mask_decoder.Decoder(mask_decoder._weights("", decoder_file().read_bytes()), "")
    np.testing.assert_array_equal(fresh.decode(rows[3:4])[0], together[3])
    with pytest.raises(ValueError, match="0 to 127"):
        decoder.decode([[128] * 16])


def test_the_decoder_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mask_decoder.ENVIRONMENT, str(tmp_path / "no.npz"))
    with pytest.raises(UserError, match=r"Get it from gs://"):
        mask_decoder.decoder()
    short = tmp_path / "short.npz"
    np.savez(short, **{"decoder.0.bias": np.zeros(128, np.float32)})
    with pytest.raises(ModelError, match="_vq_vae"):
        mask_decoder.decoder(str(short))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, **{k: np.array([None], dtype=object) for k in mask_decoder._SHAPES}, allow_pickle=True)
    with pytest.raises(ModelError, match="plain arrays"):
        mask_decoder.decoder(str(pickled))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ModelError, match="cannot be read"):
        mask_decoder.decoder(str(tmp_path / "text.npz"))


def test_a_decoder_in_the_published_place_that_is_another_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(mask_decoder.ENVIRONMENT)
    copy = tmp_path / mask_decoder.FILE
    copy.write_bytes(decoder_file().read_bytes())
    with pytest.warns(UserWarning, match="is not the published"):
        digest = mask_decoder.decoder(folders=[tmp_path]).digest
    named_by_hand = mask_decoder.decoder(mask_decoder.FILE, [tmp_path])  # as it is, without a word
    assert named_by_hand.digest == digest
    assert registry.make("parsers", "masks").within([tmp_path]).identity() == digest
    with pytest.raises(UserError, match=r"no mask decoder .*; tried"):
        registry.make("parsers", "masks").within([tmp_path / "elsewhere"])
    assert len(digest) == 64


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [4, 6], "counts": "0d0"},
        {"size": [4, 6], "counts": [1, 2]},
        {"size": [4, 6], "counts": [30, -6]},
        {"size": [4, 5], "counts": [20]},
        {"counts": [24]},
        [[0, 0, 1]],
        "polygon",
        5,
    ],
)
def test_a_damaged_segmentation_is_an_error(segmentation: Any) -> None:
    with pytest.raises(DataError, match="segmentation"):
        rle.rle(segmentation, (4, 6))


def test_box_overlap_of_nothing_is_nothing() -> None:
    empty = Box(0.5, 0.5, 0.5, 0.5).coordinates
    assert boxes.iou(empty, empty) == 0.0
    assert boxes.iou((0, 0, 1, 1), (0, 0, 1, 1)) == 1.0
