"""What the other formats make of data in the official form, and what each says of damaged data."""

from __future__ import annotations

import copy
import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from official_files import OFFICIAL, SCICAP_VERSION, Folder, Lines, write
from test_formats import ODD, drop, places, put

from evalkit import registry
from evalkit.errors import DataError
from evalkit.tasks import loader
from evalkit.types import Mark, Sample, Source, Task

Change = Callable[[dict[str, Any]], Any]


def source_of(root: Path, task: Task, files: dict[str, Any]) -> Source:
    entry = next(e for e in task.data.sources if not {"font", "rotation", "instead"} & set(e))
    write(root, entry, files)
    return Source(root, entry, task=task.name)


def read(root: Path, name: str, files: dict[str, Any] | None = None, spelling: str = "") -> list[Sample]:
    task = loader.load(name)
    source = source_of(root, task, copy.deepcopy(OFFICIAL[name]) if files is None else files)
    made = registry.make("formats", spelling or task.data.format)
    return list(made.samples(source, task.data.split))


def asked(name: str, sample: Sample) -> str:
    return loader.prompt(loader.load(name), sample.fields)


def below(root: Path, sample: Sample) -> list[str]:
    return [str(Path(image.path).relative_to(root)) for image in sample.images]


# --- right data --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ai2d_test", "aokvqa_mc_val", "scienceqa_test"])
def test_the_choices_hold_the_target(name: str, tmp_path: Path) -> None:
    for sample in read(tmp_path, name):
        assert len(sample.choices) > 1
        assert sample.target[0] in sample.choices


def test_pope(tmp_path: Path) -> None:
    samples = read(tmp_path, "pope_test")
    assert [s.id for s in samples[::4]] == ["random/1", "popular/2", "adversarial/3"]
    assert {s.group for s in samples} == {"random", "popular", "adversarial"}
    assert (samples[0].target, samples[1].target) == (("yes",), ("no",))
    assert asked("pope_test", samples[0]) == "answer en Is there a cat in the image?"
    assert below(tmp_path, samples[0]) == ["coco/val2014/COCO_val2014_000000310196.jpg"]
    assert samples[0].cluster == samples[3].cluster  # one image in all three settings


def test_two_images(tmp_path: Path) -> None:
    first, second = read(tmp_path, "nlvr2_test")
    assert below(tmp_path, first) == [f"nlvr2/images/test1/test1-0-1-img{n}.png" for n in (0, 1)]
    assert first.target == {"answers": ("False",), "pair": "test1-0-0"}
    assert (second.target["answers"], second.target["pair"]) == (("True",), "test1-0-1")
    assert first.cluster == second.cluster == "test1-0"
    samples = read(tmp_path, "marvl_test")
    assert [s.id for s in samples[:3]] == ["id/id-0", "id/id-1", "sw/sw-0"]
    assert below(tmp_path, samples[1]) == [f"marvl/images/id/images/39-Panci/39-{n}.jpg" for n in (8, 1)]
    assert [s.target for s in samples[:2]] == [("False",), ("True",)]


def test_gqa_and_its_languages(tmp_path: Path) -> None:
    first, _ = read(tmp_path, "gqa_testdev_balanced")
    assert (first.id, first.group) == ("201640614", "query")
    assert first.target == {
        "answers": ("women",), "id": "201640614", "balanced": True, "words": 5, "structural": "query",
        "semantic": "rel", "detailed": "relS", "entailed": ("201640614", "201640615"), "steps": 1,
    }  # fmt: skip
    assert below(tmp_path, first) == ["gqa/images/n235859.jpg"]
    samples = read(tmp_path, "xgqa_test")
    assert len(samples) == 16
    assert (samples[2].id, samples[2].group) == ("de/201640614", "de")
    assert asked("xgqa_test", samples[2]) == "answer en de?"
    assert samples[0].cluster == samples[2].cluster


def test_okvqa_reads_the_stemmed_answer(tmp_path: Path) -> None:
    (sample,) = read(tmp_path, "okvqa_val")
    assert sample.target == ("surf",) * 10
    spelling = "vqa_json(image_name='COCO_val2014_%012d.jpg', answer='raw_answer')"
    assert read(tmp_path, "okvqa_val", spelling=spelling)[0].target == ("surfing",) * 10


def test_aokvqa(tmp_path: Path) -> None:
    (direct,) = read(tmp_path, "aokvqa_da_val")
    assert direct.target == ("cigarette",) * 9 + ("food",)
    assert below(tmp_path, direct) == ["coco/val2017/000000461751.jpg"]
    (choice,) = read(tmp_path, "aokvqa_mc_val")
    assert choice.target == ("cigarette",)
    text = "answer en  What is in his mouth? choose from: toothpick \t food \t popsicle stick \t cigarette"
    assert asked("aokvqa_mc_val", choice) == text
    (hidden,) = read(tmp_path, "aokvqa_mc_test")
    assert (hidden.target, asked("aokvqa_mc_test", hidden)) == ((), text)


def test_ai2d(tmp_path: Path) -> None:
    first, second = read(tmp_path, "ai2d_test")
    assert (first.id, first.group, first.target) == ("0.png-0", "letters", ("D",))
    assert first.images[0].marks == (Mark("label", (3, 2, 30, 40), "pixels", text="A"),)
    assert asked("ai2d_test", first) == "answer en  What is shown at B? choose from: c \t D \t b \t a"
    assert (second.target, second.images[0].marks) == (("cow",), ())
    plain = read(tmp_path, "ai2d_test", spelling="ai2d(draw=False)")
    assert plain[0].images[0].marks == ()


def test_scienceqa(tmp_path: Path) -> None:
    first, second = read(tmp_path, "scienceqa_test")  # the problem without an image is left out
    text = "Question: Which colony?\nContext: N/A\nOptions: (A) Maryland, (B) Maine\nAnswer:"
    assert (first.target, asked("scienceqa_test", first)) == (("A",), text)
    assert "Context: Look.\n" in asked("scienceqa_test", second)
    assert below(tmp_path, first) == ["scienceqa/images/test/7/image.png"]


def test_tallyqa(tmp_path: Path) -> None:
    (simple,) = read(tmp_path, "tallyqa_simple_test")
    (complicated,) = read(tmp_path, "tallyqa_complex_test")
    assert (simple.id, complicated.id) == ("30095775", "30095774")
    assert simple.target == ("4",)
    assert below(tmp_path, simple) == ["visual_genome/VG_100K_2/2410408.jpg"]


def test_countbenchqa(tmp_path: Path) -> None:
    first, second = read(tmp_path, "countbenchqa_test")  # neither the grey image nor the one that is gone
    assert (first.id, first.target, second.target) == ("0", ("10",), ("3",))
    assert asked("countbenchqa_test", second) == "answer en How many dogs are there in the image?"
    assert first.images[0].member == "0/image"
    assert [s.target for s in read(tmp_path, "countbenchqa_540_test")] == [("10",), ("3",), ("4",)]


def test_vizwiz_leaves_empty_answers_out(tmp_path: Path) -> None:
    first, _ = read(tmp_path, "vizwiz_val")
    assert first.target == ("unsuitable",) * 8 + ("a dog",)
    assert (first.id, first.group) == ("VizWiz_val_00000000.jpg", "unanswerable")
    nothing = copy.deepcopy(OFFICIAL["vizwiz_val"])
    nothing["path"][0]["answers"] = [{"answer": "", "answer_confidence": "no"}] * 10
    assert read(tmp_path, "vizwiz_val", nothing)[0].target == ()  # counts for no score, as in the reference


@pytest.mark.parametrize("void", [None, []])
def test_a_question_without_answer_has_no_target(tmp_path: Path, void: Any) -> None:
    """It is not scored, which a run says, and `data --check` takes for wrong."""
    files = copy.deepcopy(OFFICIAL["aokvqa_da_val"])
    files["path"][0]["direct_answers"] = void
    assert read(tmp_path, "aokvqa_da_val", files)[0].target == ()


def test_ocrvqa(tmp_path: Path) -> None:
    first, second = read(tmp_path, "ocrvqa_test")
    assert (first.id, first.target, second.id) == ("0027239934-0", ("J. Doe",), "0027239934-1")
    assert below(tmp_path, first) == ["ocrvqa/images/0027239934.jpg"]
    (tmp_path / "ocrvqa/images").mkdir()
    (tmp_path / "ocrvqa/images/0027239934.gif").touch()
    assert below(tmp_path, read(tmp_path, "ocrvqa_test")[0]) == ["ocrvqa/images/0027239934.gif"]


def test_infovqa_and_stvqa(tmp_path: Path) -> None:
    (sample,) = read(tmp_path, "infovqa_val")
    assert len(sample.target) == 7  # six orders of three parts, and one answer
    assert sample.target[:2] == ("pinterest, x, y", "pinterest, y, x")
    assert "twitter" in sample.target
    files = copy.deepcopy(OFFICIAL["infovqa_val"])
    files["path"]["data"][0]["answers"] = [", ".join("abcdefgh"), ", ".join("abcdefghi")]
    assert len(read(tmp_path, "infovqa_val", files)[0].target) == 40_320 + 1
    first, _ = read(tmp_path, "stvqa_val")
    assert (first.id, first.target) == ("7", ("Coca-Cola",))
    assert below(tmp_path, first) == ["stvqa/train_images/coco-text/COCO_train2014_000000000042.jpg"]
    entry = loader.load("stvqa_val").data.sources[0]
    source = Source(tmp_path, entry)
    made = registry.make("formats", loader.load("stvqa_val").data.format)
    file = source.path("path")
    file.write_text(file.read_text().replace("coco-text/COCO", "vizwiz/COCO", 1))
    small, whole = made.samples(source, "train")
    assert below(tmp_path, small) == ["stvqa/train_images/vizwiz/COCO_train2014_000000000042.jpg"]
    assert below(tmp_path, whole) == ["coco/train2014/COCO_train2014_000000000042.jpg"]


def test_captions(tmp_path: Path) -> None:
    (screen, _) = read(tmp_path, "screen2words_test")
    assert (screen.id, screen.target) == ("12345", ("login page, of a shop", "sign in"))
    (text,) = read(tmp_path, "textcaps_val")
    assert text.target == ("A sign says stop 1.", "A sign says stop 2.")
    assert below(tmp_path, text) == ["textvqa/train_images/0054c91397f2fe05.jpg"]
    (figure,) = read(tmp_path, "scicap_test")
    assert (figure.id, figure.target) == ("1001.0025v1-Figure2-1", ("a plot of x .",))
    first, second = read(tmp_path, "nocaps_val")
    assert (first.group, second.group) == ("in-domain", "out-domain")


def test_widgetcap_marks_the_widget(tmp_path: Path) -> None:
    (sample,) = read(tmp_path, "widgetcap_test")
    assert (sample.id, sample.target) == ("1234_0.1", ("go back", "back arrow"))
    assert sample.images[0].marks == (Mark("outline", (200, 100, 700, 400), "canvas", 2560),)


def test_captions_in_many_languages(tmp_path: Path) -> None:
    samples = read(tmp_path, "coco35l_dev")
    assert {s.id: s.target for s in samples} == {
        "en/1234": ("a red bus 0", "a red bus 1"),  # of the rows into German only
        "de/1234": ("de bus 0", "de bus 1"),
        "fr/1234": ("fr bus 0", "fr bus 1"),
    }
    assert asked("coco35l_dev", samples[2]) == "caption fr"
    assert [s.id for s in read(tmp_path, "coco35l_en_dev")] == ["en/1234"]
    samples = read(tmp_path, "xm3600_test")
    assert len(samples) == 6
    assert (samples[2].group, samples[2].target) == ("th", ("th dog", "x"))
    assert read(tmp_path, "xm3600_tokenized_test")[2].target == ("th dog",)


def test_rsvqa_leaves_numbers_and_inactive_out(tmp_path: Path) -> None:
    samples = read(tmp_path, "rsvqa_lr_test")
    assert [(s.id, s.group) for s in samples] == [("5", "presence"), ("6", "comp")]
    assert below(tmp_path, samples[0]) == ["rsvqa_lr/Images_LR/2.tif"]
    assert below(tmp_path, read(tmp_path, "rsvqa_hr_test")[0]) == ["rsvqa_hr/Data/2.png"]


def test_rsvqa_takes_the_first_answer_of_several(tmp_path: Path) -> None:
    files = copy.deepcopy(OFFICIAL["rsvqa_hr_test"])
    files["questions"]["questions"][0]["answers_ids"] = [9, 6, 5]  # 9 is inactive
    files["answers"]["answers"][1]["answer"] = "no"
    assert read(tmp_path, "rsvqa_hr_test", files)[0].target == ("no",)


def test_vsr_and_mmvp(tmp_path: Path) -> None:
    first, second = read(tmp_path, "vsr_zeroshot_test")
    assert (first.target, second.target, first.id) == (("True",), ("False",), "0")
    opened, closed = read(tmp_path, "mmvp_test")
    assert opened.cluster == closed.cluster == "pair 1"
    assert below(tmp_path, closed) == ["mmvp/MMVP Images/2.jpg"]
    files = copy.deepcopy(OFFICIAL["mmvp_test"])
    files["path"][0][0] = "lndex"  # the published table's own spelling
    assert [s.id for s in read(tmp_path, "mmvp_test", files)] == ["1", "2"]


def test_doclaynet_counts_a_page_once(tmp_path: Path) -> None:
    files = copy.deepcopy(OFFICIAL["doclaynet_test"])
    again = copy.deepcopy(files["path"]["images"][0]) | {"id": 77, "precedence": 1}
    files["path"]["images"].append(again)
    files["path"]["annotations"].append(files["path"]["annotations"][0] | {"id": 77, "image_id": 77})
    assert [s.id for s in read(tmp_path, "doclaynet_test", files)] == [
        s.id for s in read(tmp_path, "doclaynet_test")
    ]


def test_totaltext_goes_on_over_lines(tmp_path: Path) -> None:
    long = "x: [[1 2 3\n 4]], y: [[5 6\n  7 8]], ornt: [u'c'], transcriptions: [u'caf\\xe9']\n"
    odd = "x: [[1 2 3]], y: [[1 2 3]], ornt: [u'h'], transcriptions: [u\"it's\"]\n"
    torn = "x: [[1 2 3]], y: [[1 2 3]], ornt: [u'h'], transcriptions: [u'it's']\n"
    files = copy.deepcopy(OFFICIAL["totaltext_words_test"])
    files["words"]["poly_gt_img1.txt"] = long + odd + torn
    (sample,) = read(tmp_path, "totaltext_words_test", files)
    cafe, quoted, raw = sample.target["words"]
    assert (cafe["text"], cafe["vertices"]) == ("café", ((1, 5), (2, 6), (3, 7), (4, 8)))
    assert quoted["text"] == raw["text"] == "it's"


def test_tables_words_music_molecules(tmp_path: Path) -> None:
    (table,) = read(tmp_path, "pubtabnet_val")
    html = '<thead><tr><td><b>A</b></td><td colspan="2"></td></tr></thead>'
    assert table.target == (f"<html><body><table>{html}</table></body></html>",)
    assert below(tmp_path, read(tmp_path, "fintabnet_test")[0]) == ["fintabnet/images/1.png"]
    (photo,) = read(tmp_path, "icdar15_words_test")
    assert photo.target["size"] == (48, 64)
    assert photo.target["words"] == [
        {"text": "Genaxis, Theatre", "vertices": ((7, 1), (46, 7), (46, 13), (38, 13)), "legible": True},
        {"text": "###", "vertices": ((4, 1), (5, 1), (5, 1), (4, 1)), "legible": False},
    ]
    (curved,) = read(tmp_path, "totaltext_words_test")
    assert [(w["text"], w["legible"]) for w in curved.target["words"]] == [("ASRAMA", True), ("#", False)]
    (music,) = read(tmp_path, "grandstaff_test")
    assert music.target[0].startswith("**kern\t**kern\n*clefF4")
    assert below(tmp_path, music) == ["grandstaff/beethoven/piano-sonatas/sonata01-1/original_m-0-5.jpg"]
    (molecule,) = read(tmp_path, "molecules_chemdraw_test")
    assert (molecule.id, molecule.target) == ("0", ("Fc1ccccc1",))


def test_videos(tmp_path: Path) -> None:
    (caption,) = read(tmp_path, "msrvtt_cap_test")
    assert caption.target == ("a man talks 0", "a man talks 1")
    assert len(caption.images) == 16
    assert below(tmp_path, caption)[:1] == ["msrvtt/frames/video7010/1.png"]  # every ninth of two: the first
    (tmp_path / "activitynet/videos").mkdir(parents=True)
    task = loader.load("activitynet_cap_test")
    entry = {"path": "activitynet/test.json", "videos": "activitynet/videos"}
    write(tmp_path, entry, OFFICIAL["activitynet_cap_test"])
    made = registry.make("formats", task.data.format)
    first, second = made.samples(Source(tmp_path, entry, "t"), "test")
    assert (first.id, second.target) == ("v_a-B1[0.83-19.86]", (" She dances.",))
    assert first.images[15].member == "15/16x30@0.83-19.86"
    assert below(tmp_path, first)[0] == "activitynet/videos/v_a-B1.mp4"
    (asks,) = read(tmp_path, "activitynet_qa_test")
    assert (asks.target, asks.group, len(asks.images)) == (("yes",), "3", 16)
    told, _ = read(tmp_path, "msvd_qa_test")
    assert below(tmp_path, told)[0] == "msvd/frames/-4wsuPCjDBc_5_15.mp4"
    assert told.images[7].member == "7/8x26"


# --- wrong data --------------------------------------------------------------------------------

WRONG: list[tuple[str, Change, str]] = [
    ("pope_test", drop("path.random", 0, "label"), "line 1.label: is missing"),
    ("pope_test", put("path.popular", 1, "image", to="../x"), "below the images folder"),
    ("pope_test", put("path.popular", 1, "question_id", to=1), "question_id 'popular/1' is repeated"),
    ("xgqa_test", put("path.de", to=[3]), "[0]: is a whole number; it must be an object"),
    ("xgqa_test", put("path.de", to=3), "is not a list; it must hold the records"),
    ("gqa_testdev_balanced", put("path", "201640614", "types", to=[]), "types: is a list"),
    ("gqa_testdev_balanced", put("path", "201640614", "imageId", to="a/../../b"), "below the images"),
    ("nlvr2_test", put("path", 0, "identifier", to="x"), "it must be split-set-pair-sentence"),
    ("nlvr2_test", put("path", 0, "label", to="Maybe"), "it must be 'True' or 'False'"),
    ("nlvr2_test", put("path", to=Lines()), "no split 'test1'"),
    ("marvl_test", put("path.sw", 0, "label", to="x"), "label: must be true or false"),
    ("marvl_test", put("path.sw", 0, "concept", to="/etc"), "concept: is '/etc'; it must be a name"),
    ("aokvqa_mc_val", put("path", 0, "correct_choice_idx", to=4), "is not one of 4 choices"),
    ("aokvqa_mc_val", put("path", 0, "correct_choice_idx", to="AB"), "is not one of 4 choices"),
    ("aokvqa_mc_val", put("path", 0, "correct_choice_idx", to="²"), "is not one of 4 choices"),
    ("aokvqa_mc_val", put("path", 0, "choices", to=[]), "there must be at least 1"),
    ("ai2d_test", put("ids", to=""), "it must list one image number a line"),
    ("ai2d_test", drop("annotations", "0.png.json", "text"), "text: is missing"),
    ("ai2d_test", put("annotations", "0.png.json", "text", "T0", "rectangle", to=[1, 2]), "must be [[x0"),
    (
        "ai2d_test",
        put("questions", "0.png.json", "questions", "What eats grass?", "correctAnswer", to=9),
        "is 9;",
    ),
    ("ai2d_test", put("questions", to=Folder()), "holds no <number>.png.json"),
    ("scienceqa_test", drop("splits", "test"), "no split 'test'; did you mean"),
    ("scienceqa_test", put("problems", "7", "answer", to=2), "it must be a place among the choices"),
    ("scienceqa_test", put("splits", "test", to=["1"]), "names problem '1', which"),
    ("tallyqa_simple_test", put("path", 1, "answer", to={}), "answer: is an object; it must be a string or"),
    ("countbenchqa_test", put("questions", to=[]), "holds 0 questions"),
    ("countbenchqa_test", put("table", to=b"no table"), "is no Parquet table"),
    ("countbenchqa_test", put("table", to=[{"image": None}]), "is no Parquet table with columns number"),
    ("vizwiz_val", put("path", 0, "answers", 3, to={}), "answers[3].answer: is missing"),
    ("ocrvqa_test", put("path", "1", "split", to=7), "must be 1 (train), 2 (val) or 3 (test)"),
    ("ocrvqa_test", put("path", "0027239934", "answers", to=["x"]), "holds 1, questions 2; one for each"),
    ("infovqa_val", put("path", "dataset_split", to="train"), "dataset_split: is 'train'; the split asked"),
    ("stvqa_val", drop("path", "data"), "data: is missing; it must hold the records"),
    ("screen2words_test", put("path", to=[["screenId", "text"], ["1", "x"]]), "row 2.summary: is missing"),
    ("screen2words_test", put("path", 1, to=["1"]), "row 2: has 1 cells, the header 2"),
    ("textcaps_val", put("path", "data", 0, "caption_str", to=["x", 3]), "caption_str[1]: is a whole number"),
    ("scicap_test", put("lists", "test/file_idx.json", to={}), "it must list the figures' file names"),
    (
        "scicap_test",
        drop("captions", "test/1001.0025v1-Figure2-1.json", SCICAP_VERSION),
        "is missing; it must",
    ),
    ("widgetcap_test", put("path", 1, 1, to="0.7"), "has no node 0.7"),
    ("widgetcap_test", put("path", 1, 2, to="|"), "it must hold captions with | between them"),
    ("coco35l_dev", put("path", to=[]), "must hold one JSON object a line"),
    ("coco35l_dev", put("karpathy", "images", to=[]), "image '1234' is not in"),
    ("xm3600_test", put("path", 0, "th", "caption", to=[]), "line 1.th.caption: holds 0 strings"),
    ("rsvqa_lr_test", put("questions", "questions", 0, "answers_ids", to=[9]), "names no active answer"),
    ("rsvqa_lr_test", put("questions", "questions", 1, "id", to=5), "question id 5 is repeated"),
    ("vsr_random_test", put("path", 0, "label", to=2), "label: is 2; it must be from 0 to 1"),
    ("mmvp_test", put("path", 1, 3, to="(c)"), "Correct Answer: is 'c'; the options are: a, b"),
    ("mmvp_test", put("path", 1, 0, to="x"), "Index: is 'x'; it must be a number from 1"),
    ("pubtabnet_val", put("path", 0, "html", "cells", to=[]), "the structure has more </td>"),
    ("pubtabnet_val", put("path", 0, "split", to="train"), "no split 'val'; there are: train"),
    ("icdar15_words_test", put("words", "gt_img_1.txt", to="1,2,3\n"), "line 1: must be x1,y1,x2,y2"),
    ("totaltext_words_test", put("words", "poly_gt_img1.txt", to="x: [[1 2]]"), "line 1: must be x: [[..]]"),
    ("grandstaff_test", put("lists", "test.txt", to="a/b.krn\n"), "a/b.krn: cannot be read"),
    ("grandstaff_test", put("lists", "test.txt", to="../b.krn\n"), "must be a name below"),
    ("activitynet_cap_test", put("path", "v_a-B1", "timestamps", 0, to=[5, 1]), "start first"),
    ("activitynet_cap_test", put("path", "v_a-B1", "sentences", to=[]), "must list 0 pairs"),
    ("activitynet_qa_test", put("answers", to=[]), "has no answer; the answers file must hold"),
    ("msvd_qa_test", put("image_map", to="a b c\n"), "line 1: holds 3 words"),
]


@pytest.mark.parametrize(
    ("name", "change", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_damage_is_one_sentence(tmp_path: Path, name: str, change: Change, message: str) -> None:
    files = copy.deepcopy(OFFICIAL[name])
    change(files)
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, files)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_missing_files_are_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read|no split") as caught:
        read(tmp_path, name, {})
    assert "\n" not in str(caught.value)


MUTABLE = sorted(n for n, files in OFFICIAL.items() if not n.endswith("words_test"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(MUTABLE), seed=st.integers(0, 2**32), odd=ODD, deed=st.sampled_from("rdd2"))
def test_mutated_data_is_read_or_refused(tmp_path: Path, name: str, seed: int, odd: Any, deed: str) -> None:
    files = copy.deepcopy(OFFICIAL[name])
    inner = [place for key in files for place in places({key: files[key]})[1:]]
    if not inner:
        return
    container, key = random.Random(seed).choice(inner)
    if isinstance(container, Folder) or isinstance(container[key], bytes):
        return
    if deed == "d":
        del container[key]
    elif deed == "2" and isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    else:
        container[key] = odd
    root, task, said = tmp_path / f"{name}{seed}", loader.load(name), ""
    try:
        source = source_of(root, task, files)
    except (TypeError, ValueError, AttributeError, csv.Error, pa.ArrowException):
        return  # such a file cannot be written
    try:
        samples = list(registry.make("formats", task.data.format).samples(source, task.data.split))
    except DataError as error:
        samples, said = [], str(error)
    assert "\n" not in said
    said.encode()
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        json.dumps([sample.fields, sample.target]).encode()
        assert all(isinstance(text, str) for text in sample.fields.values())
        assert all(Path(image.path).is_relative_to(root) for image in sample.images)
