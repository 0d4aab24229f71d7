"""Conversations in every layout, and what cannot be read as one question and one answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stub import Stub, colours

from evalkit import registry
from evalkit.cli.main import main
from evalkit.errors import DataError
from evalkit.types import Sample, Source


def said(
    folder: Path, records: Any, lines: bool = True, **entry: str
) -> tuple[list[Sample], tuple[str, ...]]:
    text = "".join(json.dumps(r) + "\n" for r in records) if lines else json.dumps(records, indent=1)
    (folder / "d.json").write_text(text)
    source = Source(folder, {"path": "d.json", **entry}, "t")
    samples = list(registry.make("formats", "conversations").samples(source, "train"))
    return samples, source.remarks.said()


def llava(question: str = "<image>\nWhat is it?", answer: str = "A cat.", **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"image": "a.jpg", "conversations": turns, **more}


def chat(content: Any, answer: Any = "A cat.", *, system: Any = None, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    first = [{"role": "system", "content": system}] if system is not None else []
    return {"messages": first + turns, **more}


TEXT = {"type": "text", "text": "What is it?"}

LAYOUTS = {
    "LLaVA": llava(),
    "LLaVA, image last": llava("What is it?\n<image>"),
    "LLaVA, no placeholder": llava(" What is it? "),
    "LLaVA, a list": llava(image=["a.jpg"]),
    "MiniCPM": {"image": "a.jpg", "conversations": chat("<image>\nWhat is it?")["messages"]},
    "ms-swift": chat("<image>What is it?", images=["a.jpg"]),
    "ms-swift, images as objects": chat("<image>What is it?", images=[{"path": "a.jpg", "bytes": None}]),
    "LLaMA-Factory, ShareGPT": {
        "conversations": llava("<image>What is it?")["conversations"], "images": ["a.jpg"], "system": "",
    },
    "LLaMA-Factory, messages": chat("<image>What is it?", images="a.jpg"),
    "OpenAI": chat([TEXT, {"type": "image_url", "image_url": {"url": "a.jpg"}}]),
    "OpenAI, url alone": chat([{"type": "image_url", "image_url": "file://a.jpg"}, TEXT]),
    "transformers": chat([{"type": "image", "image": "a.jpg"}, TEXT], [{"type": "text", "text": "A cat."}]),
    "transformers, path": chat([{"type": "image", "path": "a.jpg"}, TEXT]),
    "transformers, images apart": chat([{"type": "image"}, TEXT], images=["a.jpg"]),
    "Qwen": chat([{"image": "a.jpg"}, {"text": "What is it?"}]),
    "Roboflow, two turns of the user": {
        "messages": [
            {"role": "system", "content": ""},
            {"role": "user", "content": "What is it?"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.jpg"}}]},
            {"role": "assistant", "content": "A cat."},
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("record", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("lines", [True, False])
def test_every_layout_is_the_same_sample(tmp_path: Path, record: dict[str, Any], lines: bool) -> None:
    (sample,), remarks = said(tmp_path, [record], lines, images="p")
    assert sample.fields == {"question": "What is it?", "system": ""}
    assert sample.target == ("A cat.",)
    assert (sample.id, sample.cluster) == ("0", "a.jpg")
    assert [ref.path for ref in sample.images] == [str(tmp_path / "p/a.jpg")]
    assert remarks == ()


def test_names_of_images(tmp_path: Path) -> None:
    """Next to the file, absolute, and of Windows."""
    (tmp_path / "b.jpg").touch()
    records = [llava(image=name) for name in ("in/a.jpg", "/x/a.jpg", "C:\\data\\b.jpg")]
    samples, _ = said(tmp_path, records)
    assert [s.images[0].path for s in samples] == [
        str(tmp_path / "in/a.jpg"),
        "/x/a.jpg",
        str(tmp_path / "b.jpg"),
    ]
    records.append(llava(image="D:\\more\\b.jpg"))
    with pytest.raises(DataError, match=r"line 4: is .*b\.jpg'; b\.jpg is what .* is already"):
        said(tmp_path, records)


def test_several_images(tmp_path: Path) -> None:
    record = llava("<image><image>\nWhich?", image=["a.jpg", "b.jpg"])
    (sample,), _ = said(tmp_path, [record])
    assert (len(sample.images), sample.cluster, sample.fields["question"]) == (2, "a.jpg b.jpg", "Which?")


@pytest.mark.parametrize(
    ("ids", "names", "remark"),
    [
        (["x", 7], ["x", "7"], ""),
        (["x", None], ["0", "1"], ""),
        (["x", "x"], ["0", "1"], "line 2: id 'x' is repeated; all samples have their numbers as ids"),
        ([[], "x"], ["0", "1"], ""),
    ],
)
def test_ids(tmp_path: Path, ids: list[Any], names: list[str], remark: str) -> None:
    samples, remarks = said(tmp_path, [llava(id=name) for name in ids])
    assert [s.id for s in samples] == names
    assert remarks == ((f"{tmp_path}/d.json: {remark}",) if remark else ())


@pytest.mark.parametrize(
    "record",
    [llava(system="Be brief."), chat("What is it?", system="Be brief.", image="a.jpg")],
    ids=["key", "turn"],
)
def test_system_turns_are_no_part_of_the_question(tmp_path: Path, record: dict[str, Any]) -> None:
    (sample,), remarks = said(tmp_path, [record])
    assert sample.fields == {"question": "What is it?", "system": "Be brief."}
    assert "line 1: has a system turn; it is no part of the question, but a prompt may name it" in remarks[0]


def test_a_placeholder_inside_the_question_is_said(tmp_path: Path) -> None:
    (sample,), remarks = said(tmp_path, [llava("Is <image> a cat?")])
    assert sample.fields["question"] == "Is a cat?"
    assert "line 1: has <image> inside the question; it is taken out, since images come first" in remarks[0]


def test_a_record_without_answer_is_not_scored(tmp_path: Path) -> None:
    record = llava()
    record["conversations"].pop()
    samples, remarks = said(tmp_path, [record, llava(answer="")])
    assert [s.target for s in samples] == [(), ("",)]
    assert remarks == ()


def talk(*turns: Any) -> dict[str, Any]:
    return {"image": "a.jpg", "messages": [{"role": r, "content": c} for r, c in turns]}


ASKED, SAID = ("user", "q"), ("assistant", "a")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (talk(ASKED, SAID, ASKED, SAID), "has 2 questions; a record must have one, with one answer"),
        (talk(ASKED, SAID, ASKED, SAID, ASKED), "has 3 questions"),
        (talk(ASKED, SAID, ASKED), "has 2 questions"),
        (talk(SAID, ASKED), "must have a question, and then its answer"),
        (talk(SAID), "must have a question"),
        (talk(("system", "x")), "must have a question"),
        (
            talk(("tool", "x"), ASKED, SAID),
            "has a turn of 'tool'; turns must be of human or user, and gpt or",
        ),
        (talk((None, "x"), SAID), "has a turn of nobody"),
        (talk(("user", None), SAID), "has a turn that is neither a text nor a list of texts and images"),
        (talk(("user", [{"type": "video", "video": "v.mp4"}]), SAID), "has a turn that is neither"),
        (talk(("user", "\ud800"), SAID), "holds half a character"),
        ({"image": "a.jpg", "messages": []}, "must be an object with `conversations` or `messages`, a list"),
        ({"image": "a.jpg", "messages": "x"}, "must be an object with"),
        ({"image": "a.jpg", "messages": ["x"]}, "has a turn of nobody"),
        ({"image": "a.jpg"}, "must be an object with"),
        ([], "must be an object with"),
        (llava(image=None), "has no image; every question must be about one"),
        (llava(image=[]), "has no image"),
        (llava(image=3), "has an image without a file name"),
        (llava(image={"bytes": "x"}), "holds the image itself; save it as a file and write its name"),
        (llava(image="data:image/png;base64,AAAA"), "holds the image itself"),
        (llava(image="https://x.example/t.jpg"), "has the image 'https://x.example/t.jpg'; download it"),
        (llava(image="../a.jpg"), "image is '../a.jpg'; it must be a name below the images folder"),
        (llava("<image><image>q"), "has 2 <image> for 1 images; there must be one for each"),
        (llava("<image>q", image=["a.jpg", "b.jpg"]), "has 1 <image> for 2 images"),
        (llava(videos=["v.mp4"]), "has videos; only images are read"),
        (llava("Where is <ref-object>?", "<bbox>", objects={"bbox": [[1, 2, 3, 4]]}), "has <bbox> or <ref"),
    ],
)
def test_what_is_no_question_and_answer_costs_only_itself(tmp_path: Path, record: Any, why: str) -> None:
    samples, remarks = said(tmp_path, [llava(), record, llava(), record])
    assert [s.id for s in samples] == ["0", "2"]
    assert len(remarks) == 1
    assert remarks[0].startswith(f"{tmp_path}/d.json: line 2: {why}")
    assert remarks[0].endswith("; it is left out (the first of 2 such)")
    with pytest.raises(DataError, match=r"d\.json: \[0\]: .*; no other record is right either"):
        said(tmp_path, [record], lines=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "d.json: holds no record"),
        ("[]", "d.json: holds no record"),
        ("[{", "d.json: line 1: is not valid JSON"),
        ("{}\n{", "d.json: line 2: is not valid JSON"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.json").write_text(text)
    source = Source(tmp_path, {"path": "d.json"}, "t")
    with pytest.raises(DataError) as caught:
        list(registry.make("formats", "conversations").samples(source, "train"))
    assert message in str(caught.value)
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        list(
            registry.make("formats", "conversations").samples(
                Source(tmp_path, {"path": "gone.json"}, "t"), "x"
            )
        )


def test_a_byte_order_mark_before_a_list(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps([llava()]), encoding="utf-8-sig")
    source = Source(tmp_path, {"path": "d.json"}, "t")
    assert len(list(registry.make("formats", "conversations").samples(source, "x"))) == 1


def test_a_task_of_conversations_runs(
    tmp_path: Path, model: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    colours(tmp_path / "data")
    records = [llava("<image>\nwhich?", "red", image=f"{n}.png", id=f"r{n}") for n in range(4)]
    records += [
        llava("which?", "blue", image="4.png", id="r4"),
        {**talk(ASKED, SAID, ASKED, SAID), "id": "r5"},
    ]
    (tmp_path / "data/d.json").write_text(json.dumps(records))
    Path("mine.yaml").write_text(
        "version: 1\nabout: x\nlicense: x\n"
        "data: {format: conversations, split: train, sources: [{path: d.json, images: pictures}]}\n"
        'prompt: "answer en {question}"\nparser: text\nmetrics: [exact_match]\n'
    )
    assert main(["run", "--model", "m", "--tasks", "mine.yaml", "--data-root", "data"]) == 0
    out, err = capsys.readouterr()
    assert "d.json: [5]: has 2 questions; a record must have one, with one answer; it is left out" in err
    assert "80.0" in out
    assert sorted(model.asked) == [f"r{n}" for n in range(5)]
