"""What is odd about answers and prompts is counted and named, and read where other tools read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from own_lines import run, write
from PIL import Image
from stub import Stub, checkpoint
from test_parsers import CAT, SEGS, decoder_file

import evalkit
from evalkit import registry
from evalkit.cli.main import main
from evalkit.geometry import location_tokens, mask_decoder
from evalkit.models.paligemma.tokenizer import Prompter
from evalkit.runs import store
from evalkit.tasks import dataset, loader
from evalkit.types import CUT, Prediction, Score

BOX = {"size": [64, 64], "bbox": [12, 6, 44, 38]}


def predicted(text: str, prompt: str = "", stop: str = "eos") -> Prediction:
    return Prediction("0", prompt, text, stop=stop, sizes=((64, 64),))


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights in the published layout."""
    monkeypatch.setenv(mask_decoder.ENVIRONMENT, str(decoder_file()))


pytestmark = pytest.mark.filterwarnings("ignore:.*is not the published")


def scores() -> list[Score]:
    (folder,) = store.find([Path("results")])
    return store.scores_of(folder)


# --- boxes and masks -------------------------------------------------------------------------------------

LOC = CAT  # y0 x0 y1 x1 = 100 200 700 900
# text -> whether (boxes first, boxes start, masks first, masks start) read it
READ = {
    f"{LOC}{SEGS} wall": (True, True, True, True),
    f"{LOC} {SEGS} wall": (True, True, True, False),
    f"{LOC}\n{SEGS}": (True, True, True, False),
    f"detect wall\n{LOC}{SEGS} wall": (True, False, True, False),
    f"<bos>segment wall\n{LOC} {SEGS} wall<eos>": (True, False, True, False),
    f" {LOC}{SEGS}": (True, False, True, False),
    f"{LOC} wall": (True, True, False, False),
    f"{LOC} wall ; {LOC}{SEGS} wall": (True, True, False, False),
    f"{LOC}{SEGS[:-8]} wall": (True, True, False, False),
    "".join(f"{token}> " for token in LOC.split(">")[:-1]): (False, False, False, False),
    LOC[:-9] + SEGS: (False, False, False, False),
    "wall": (False, False, False, False),
    "": (False, False, False, False),
}


@pytest.mark.parametrize("text", READ)
@pytest.mark.usefixtures("decoder")
def test_what_each_form_reads(text: str) -> None:
    """`start` is big_vision's evaluator, for the papers' tasks; `first` reads as the published demo does."""
    found = []
    for name in ("boxes", "masks"):
        for form in ("first", "start"):
            parser = registry.make("parsers", f"{name}(form='{form}')")
            answer = parser.read(predicted(text), (64, 64))
            found.append(bool(answer))
            assert answer is None or len(answer) <= 1
            why = parser.remark(predicted(text), (64, 64))
            assert bool(why) == (not answer), (name, form, why)
    assert tuple(found) == READ[text]


@pytest.mark.usefixtures("decoder")
def test_a_blank_changes_nothing_else() -> None:
    parser = registry.make("parsers", "masks")
    one, two = (
        parser.read(predicted(text), (64, 64)) for text in (f"{LOC}{SEGS} wall", f"{LOC} {SEGS} wall")
    )
    assert one == two
    assert (
        registry.make("parsers", "masks(form='objects')").read(predicted(f"{LOC} {SEGS} wall"), (64, 64))
        == one
    )


def test_the_papers_tasks_read_as_the_reference_does() -> None:
    for name in loader.names():
        task = loader.load(name)
        if name.startswith("refcoco"):
            assert registry.make("parsers", task.parser).form == "start"
        if name in ("custom_segment", "shapes_refer_seg_test"):
            assert registry.make("parsers", task.parser).form == "first"


@pytest.mark.parametrize(
    ("text", "mask", "start", "why"),
    [
        ("", False, False, "an empty text"),
        (" \n", True, True, "an empty text"),
        ("a cat", False, False, "no location token"),
        (LOC[:27], False, False, "no four location tokens in a row"),
        (f"x {LOC}", False, True, "something before the box"),
        (LOC, True, False, "no mask tokens"),
        (LOC + SEGS[:30], True, False, "no sixteen mask tokens after the box"),
        (f"{LOC} {SEGS}", True, True, "a blank between box and mask"),
        ("<loc0005>" * 4, False, False, "a box without area"),
        ("<loc0005>" * 4 + " ; " + LOC, False, False, ""),
        ("<loc0005>" * 4 + " ; " + LOC, False, True, "a box without area"),
        (f"x {LOC} {SEGS}", True, False, ""),
    ],
)
def test_why_nothing_is_read(text: str, mask: bool, start: bool, why: str) -> None:
    assert location_tokens.lacking(text, "start" if start else "objects", mask) == why


def test_unreadable_answers_say_why(
    tmp_path: Path,
    model: Stub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "data", [BOX] * 6, "boxes(form='first')", "box_iou")
    texts = [LOC, "", "cat", "cat", "dog", LOC[:-9]]
    model.answer = lambda request: texts[int(request.id)]
    assert run("data/t.yaml") == 0
    out, err = capsys.readouterr()
    (score,) = scores()
    assert score.invalid == 5
    assert score.remarks == {
        "unreadable: no location token": 3,
        "unreadable: an empty text": 1,
        "unreadable: no four location tokens in a row": 1,
    }
    assert "(n 6, 5 unreadable)\n    3 unreadable: no location token; 1 unreadable: an empty text; " in err
    said = "unreadable answers, scored as wrong: m: t 5 of 6 (3 no location token, 1 an empty text, 1 no four"
    assert said in out
    assert json.loads(evalkit.table("results", format="json"))[0]["remarks"].startswith(
        "3 unreadable: no loc"
    )


# --- labels ----------------------------------------------------------------------------------------------

NAMES = ("Gate Hatch", "cat", "vélo", "a < b", "nut; bolt")


def detections(labels: dict[str, str]) -> tuple[Any, Any]:
    """One image a label, each with the object that the answer says in these words."""
    answers, targets = [], []
    for n, (label, name) in enumerate(labels.items()):
        answers.append(registry.make("parsers", "boxes").read(predicted(f"{LOC} {label}"), None))
        y0, x0, y1, x1 = (v / 1023 * 64 for v in (100, 200, 700, 900))
        thing = {"category": name, "box": (x0, y0, x1 - x0, y1 - y0), "area": 9.0, "iscrowd": 0}
        targets.append({"size": (64, 64), "image_id": n, "categories": NAMES, "objects": [thing]})
    return answers, targets


def test_labels_that_are_no_category_are_counted_and_named() -> None:
    answers, targets = detections(
        {"Gate Hatch": "Gate Hatch", "GATE HATCH": "Gate Hatch", "a cat": "cat", "velo": "vélo",
         "a < b": "a < b", "nut; bolt": "nut; bolt", "zebra": "cat"}
    )  # fmt: skip
    metric = registry.make("metrics", "coco_ap")
    assert metric.remarks(answers, targets) == {
        "boxes with a label that is no category": 6,
        "of them 'GATE HATCH', nearest 'Gate Hatch'": 1,
        "of them 'a cat', nearest 'cat'": 1,
        "of them 'velo', nearest 'vélo'": 1,
        "of them 'a', nearest 'a < b'": 1,  # a label ends at < and ;
        "of them 'nut', nearest 'nut; bolt'": 1,
    }
    assert registry.make("metrics", "coco_ap").remarks([None, ()], targets[:2]) == {}


def test_case_may_be_ignored() -> None:
    answers, targets = detections({"GATE HATCH": "Gate Hatch", "CAT": "cat"})
    values = []
    for spelling in ("coco_ap", "coco_ap(lowercase=True)"):
        metric = registry.make("metrics", spelling)
        values.append(metric.reduce(metric.rows(answers, targets)))
    assert values == [0.0, pytest.approx(1.0)]
    assert registry.make("metrics", "coco_ap(lowercase=True)").remarks(answers, targets) == {}
    exact = [{**t, "categories": (*NAMES, "CAT")} for t in targets]  # a category of that very name goes first
    rows = registry.make("metrics", "coco_ap(lowercase=True)").rows(answers[1:], exact[1:])
    assert [box[0] for box in rows[0]["boxes"]] == ["CAT"]


def test_a_parameter_added_later_leaves_signatures_as_they_were() -> None:
    assert registry.spell(registry.make("metrics", "coco_ap")) == (
        "coco_ap(rank='constant', region='boxes', agnostic=False)"
    )
    assert registry.spell(registry.make("parsers", "text")) == "text(strip=False)"
    for room, spelling in (("metrics", "coco_ap(lowercase=True)"), ("parsers", "text(clean=True)")):
        made = registry.make(room, spelling)
        assert registry.make(room, registry.spell(made)) == made
        assert "=True" in registry.spell(made)


# --- texts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean", "remark"),
    [
        ("beach", "beach", ""),
        ("beach<eos>", "beach", "end with <eos> or <pad>"),
        ("beach<eos><pad><pad>", "beach", "end with <eos> or <pad>"),
        ("beach <pad>\n", "beach", "end with <eos> or <pad>"),
        ("<bos>answer en where?\nbeach<eos>", "beach", "begin with <bos> or <pad>"),
        ("<pad><pad>beach", "beach", "begin with <bos> or <pad>"),
        ("answer en where?\nbeach", "beach", "repeat the prompt"),
        ("answer en where?", "", "repeat the prompt"),
        ("answer en where? beach", "answer en where? beach", ""),  # a sentence of its own
        (" beach", "beach", "begin or end with a blank"),
        ("\nbeach ", "beach", "begin or end with a blank"),
        ("a <eos> sign", "a <eos> sign", ""),
        ("", "", ""),
    ],
)
def test_texts_as_other_tools_leave_them(text: str, clean: str, remark: str) -> None:
    prediction = predicted(text, "answer en where?")
    plain, cleaning = registry.make("parsers", "text"), registry.make("parsers", "text(clean=True)")
    assert plain.read(prediction, None) == text
    assert plain.remark(prediction, None) == remark
    assert cleaning.read(prediction, None) == clean
    assert cleaning.remark(prediction, None) == ""


def test_predictions_made_elsewhere_are_read_with_their_prompts(
    tmp_path: Path,
    model: Stub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write(tmp_path / "data", [{"answer": "beach"}] * 3, "text", "exact_match")
    Path("p.jsonl").write_text("".join(f'{{"id": "{n}", "text": "what\\nbeach<eos>"}}\n' for n in range(3)))
    words = ["score", "--task", str(file), "--data-root", "data", "--predictions", "p.jsonl"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "answers as they are: p: t 3 repeat the prompt" in out
    assert main([*words, "--set", "parser=text(clean=True)"]) == 0
    assert "100.0" in capsys.readouterr().out


# --- answers that were cut -------------------------------------------------------------------------------


class Cut(Stub):
    """Says that every fourth answer was cut."""

    def predict(self, requests: Any, on_bad_image: Any = None) -> Any:
        for n, prediction in enumerate(super().predict(requests, on_bad_image)):
            yield Prediction(
                prediction.id, prediction.prompt, prediction.text, stop="eos" if n % 4 else "length",
                image_digests=prediction.image_digests, sizes=prediction.sizes,
            )  # fmt: skip


def test_cut_answers_are_counted_and_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        evalkit.evaluation.evaluate,
        "checkpoint",
        lambda spec, options: checkpoint(Cut(lambda r: "red"), spec),
    )
    write(tmp_path / "data", [{"answer": "red"}] * 8, "text", "exact_match")
    assert run("data/t.yaml") == 0
    out, err = capsys.readouterr()
    (score,) = scores()
    assert score.remarks == {CUT: 2}
    assert "2 cut at max_new_tokens" in err
    assert "warning: answers are cut at 32 tokens; raise decode.max_new_tokens if they go on" in err
    assert "answers as they are: m: t 2 cut at max_new_tokens" in out
    record = json.loads(evalkit.table("results", format="json"))[0]
    assert (record["cut"], record["remarks"]) == (2, "2 cut at max_new_tokens")
    assert main(["explain", "results"]) == 0
    assert "answers      2 cut at max_new_tokens" in capsys.readouterr().out


# --- <image> in a prompt ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("<image>what color is it", "what color is it"),
        ("<image><image>what color is it", "what color is it"),
        ("<image><bos>what color is it", "<bos>what color is it"),
        ("<image>\nwhat color is it", "\nwhat color is it"),
        ("<image>what is at <loc0100>", "what is at <loc0100>"),
        (" <image>what", " <image>what"),
        ("what is <image>", "what is <image>"),
    ],
)
def test_an_image_placeholder_is_the_image(tmp_path: Path, prompt: str, read: str) -> None:
    file = write(tmp_path / "data", [{"prefix": prompt, "suffix": "red"}], "text", "exact_match")
    file.write_text(file.read_text().replace("prompt: what", 'prompt: "{prefix}"'))
    task = loader.load(str(file))
    data = dataset.dataset(task, [tmp_path / "data"])
    assert loader.prompt(task, data.samples[0].fields) == read
    begins = "1 of 1 prompts begin with <image>, which stands for the image and is left out"
    inside = "1 of 1 prompts have <image> inside, first 0's; it is read as text, since images come first"
    assert data.placeholders == (begins if prompt.startswith("<image>") else inside)


def test_prompts_with_and_without_it_are_one_run(tmp_path: Path) -> None:
    digests = []
    for prompt in ("<image>what", "what", "<image>\nwhat"):
        file = write(tmp_path / "data", [{"prefix": prompt, "suffix": "red"}], "text", "exact_match")
        file.write_text(file.read_text().replace("prompt: what", 'prompt: "{prefix}"'))
        digests.append(dataset.dataset(loader.load(str(file)), [tmp_path / "data"]).prompts)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "prompt", ["<image>a cat", "<image>\na cat", "<image><bos>a cat", "<image>a <loc0001> cat", "<image>"]
)
def test_hf_ids_are_those_of_the_processor(prompt: str) -> None:
    import transformers
    from transformers import PaliGemmaProcessor, SiglipImageProcessor

    pillow = getattr(transformers, "SiglipImageProcessorPil", SiglipImageProcessor)  # its name in 5.0
    shape = pillow(size={"height": 28, "width": 28}, image_seq_length=4)
    processor, prompter = PaliGemmaProcessor(shape, tiny.tokenizer()), Prompter(tiny.tokenizer())
    theirs = processor(images=[Image.fromarray(np.zeros((28, 28, 3), np.uint8))], text=[prompt])["input_ids"][
        0
    ]
    image = [prompter.tokenizer.convert_tokens_to_ids("<image>")] * 4
    assert image + prompter.encode(loader.without_image(prompt), None, "hf") == list(theirs)


def test_it_is_said_before_a_run(
    tmp_path: Path,
    model: Stub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write(tmp_path / "data", [{"prefix": "<image>what", "suffix": "red"}] * 2, "text", "exact_match")
    file.write_text(file.read_text().replace("prompt: what", 'prompt: "{prefix}"'))
    assert run("data/t.yaml") == 0
    assert "note: t: 2 of 2 prompts begin with <image>, which stands for the image" in capsys.readouterr().err
