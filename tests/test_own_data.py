"""People's own files: paths of Windows, conversations, images that are not there or cannot be decoded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from own_lines import write
from PIL import Image

from evalkit import registry
from evalkit.cli.main import main
from evalkit.data.records import meant_key
from evalkit.errors import DataError
from evalkit.tasks import dataset, loader
from evalkit.types import Sample, Source


def lines(folder: Path, records: list[dict[str, Any]], **entry: str) -> list[Sample]:
    """The samples of JSON lines, with pictures in `shots/day`."""
    (folder / "shots" / "day").mkdir(parents=True, exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 8)).save(folder / "shots" / "day" / name)
    (folder / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    source = Source(folder, {"path": "d.jsonl", **entry}, "t")
    return list(registry.make("formats", "jsonl").samples(source, "test"))


# --- paths as Windows writes them ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "images", "found"),
    [
        ("shots\\day\\a.jpg", ".", "shots/day/a.jpg"),
        ("day\\a.jpg", "shots", "shots/day/a.jpg"),
        (".\\day\\a.jpg", "shots", "shots/./day/a.jpg"),
        ("C:\\data\\shots\\day\\a.jpg", "shots", "shots/day/a.jpg"),
        ("c:/data/a.jpg", "shots/day", "shots/day/a.jpg"),
        ("\\\\server\\share\\day\\a.jpg", "shots", "shots/day/a.jpg"),
        ("D:\\else\\gone.jpg", "shots", "shots/gone.jpg"),  # missing, and said to be
        ("day/a.jpg", "shots", "shots/day/a.jpg"),
    ],
)
def test_paths_of_windows(tmp_path: Path, name: str, images: str, found: str) -> None:
    (sample,) = lines(tmp_path, [{"image": name, "answer": "x"}], images=images)
    assert sample.images[0].path == str(tmp_path / images / Path(found).relative_to(images)) or (
        Path(sample.images[0].path) == tmp_path / found
    )


def test_a_file_whose_name_has_a_backslash_is_itself(tmp_path: Path) -> None:
    (tmp_path / "day\\a.jpg").touch()
    (sample,) = lines(tmp_path, [{"image": "day\\a.jpg", "answer": "x"}])
    assert sample.images[0].path == str(tmp_path / "day\\a.jpg")


def test_two_paths_of_windows_are_not_one_file(tmp_path: Path) -> None:
    """C:\\train\\a.jpg must not be answered on val's a.jpg."""
    given = [{"image": f"C:\\{part}\\a.jpg", "answer": "x"} for part in ("val", "val", "train")]
    assert len(lines(tmp_path, given[:2], images="shots/day")) == 2
    with pytest.raises(DataError, match=r"line 3\.image: is .*train.*; a\.jpg is what .*val.* is already"):
        lines(tmp_path, given, images="shots/day")


def test_windows_names_in_an_archive(tmp_path: Path) -> None:
    (tmp_path / "shots" / "day").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "shots" / "day" / "a.jpg")
    shutil.make_archive(str(tmp_path / "shots"), "zip", tmp_path, "shots")
    for name in ("day\\a.jpg", "C:\\shots\\day\\a.jpg"):
        (tmp_path / "d.jsonl").write_text(json.dumps({"image": name, "answer": "x"}))
        source = Source(tmp_path, {"path": "d.jsonl", "images": "shots.zip"}, "t")
        (sample,) = registry.make("formats", "jsonl").samples(source, "test")
        assert sample.images[0].member == "shots/day/a.jpg"


def test_other_formats_read_backslashes_too(tmp_path: Path) -> None:
    lines(tmp_path, [{"image": "x", "answer": "x"}])
    (tmp_path / "d.csv").write_text("image,question,answers\nday\\a.jpg,what?,red\n")
    source = Source(tmp_path, {"path": "d.csv", "images": "shots"}, "t")
    (sample,) = registry.make("formats", "questions").samples(source, "test")
    assert sample.images[0].path == str(tmp_path / "shots" / "day/a.jpg")


# --- other layouts ---------------------------------------------------------------------------------------

LLAVA = {"id": "0", "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nwhat?"}]}
CHAT = {"messages": [{"role": "user", "content": "what?"}], "images": ["a.jpg"]}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (LLAVA, "line 1: is in LLaVA's layout ('conversations'); read it with `format: conversations`, or"),
        (CHAT, "line 1: is in a chat layout ('messages')"),
        ({"messages": CHAT["messages"]}, "line 1: is in a chat layout ('messages')"),
    ],
)
def test_a_conversation_is_named(tmp_path: Path, record: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        lines(tmp_path, [record])
    assert said in str(caught.value)
    for list_of in ([record], [record, record]):
        (tmp_path / "d.json").write_text(json.dumps(list_of, indent=1))
        with pytest.raises(
            DataError, match=r"is a JSON list; .*; the first record is in (LLaVA's|a chat) layout"
        ):
            list(registry.make("formats", "jsonl").samples(Source(tmp_path, {"path": "d.json"}), "test"))
    fmt = registry.make("formats", "questions")
    with pytest.raises(DataError, match=r"(image|question): is missing; .*the record is in (LLaVA's|a chat)"):
        list(fmt.samples(Source(tmp_path, {"path": "d.json", "images": "shots"}), "test"))


def test_a_conversation_beside_a_target_is_no_matter(tmp_path: Path) -> None:
    (sample,) = lines(tmp_path, [{**LLAVA, "answer": "red"}])
    assert sample.target == ("red",)


def test_the_page_converts_conversations_and_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two pieces of code in docs/data.md, run as they stand there."""
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text()
    llava, tokens = [part.split("```")[0] for part in page.split("```python\n")[1:3]]
    monkeypatch.chdir(tmp_path)
    talk = [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "a cat"},
            {"from": "human", "value": "and?"}, {"from": "gpt", "value": "a dog"}]  # fmt: skip
    Path("llava.json").write_text(json.dumps([{"id": "7", "image": "a.jpg", "conversations": talk}]))
    exec(llava, {})
    assert [json.loads(line) for line in Path("mine.jsonl").read_text().splitlines()] == [
        {"image": "a.jpg", "question": "what?", "answer": "a cat"},
        {"image": "a.jpg", "question": "and?", "answer": "a dog"},
    ]
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 32)).save("photos/a.jpg")
    text = "<loc0000><loc0000><loc1023><loc1023> cat ; <loc0000><loc0000><loc0512><loc0512> dog"
    Path("train.jsonl").write_text(
        json.dumps({"image": "a.jpg", "prefix": "detect cat ; dog", "suffix": text})
        + "\n"
        + json.dumps({"image": "a.jpg", "prefix": "detect cat ; dog", "suffix": ""})
        + "\n"
    )
    exec(tokens, {})
    first, empty = [json.loads(line) for line in Path("boxes.jsonl").read_text().splitlines()]
    assert (first["prefix"], first["size"], empty["objects"]) == ("detect cat ; dog", [32, 64], [])
    assert first["objects"][0] == {"category": "cat", "bbox": [0, 0, 64, 32]}
    assert first["objects"][1]["bbox"] == pytest.approx([0, 0, 32.03, 16.02], abs=0.01)


def test_tokens_are_shares_of_the_upright_image(tmp_path: Path) -> None:
    """Which is what a model of own tasks is shown, and where boxes are drawn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(tmp_path / "a.jpg", exif=exif)
    line = {"image": "a.jpg", "prefix": "detect cat", "suffix": "<loc0000><loc0000><loc0512><loc1023> cat"}
    (tmp_path / "d.jsonl").write_text(json.dumps(line))
    reader = registry.make("formats", "paligemma_lines(verb='detect')")
    (sample,) = reader.samples(Source(tmp_path, {"path": "d.jsonl"}, "t"), "test")
    assert sample.size == sample.target["size"] == (64, 32)
    assert sample.target["objects"][0]["box"] == pytest.approx((0, 0, 32, 64 * 512 / 1023))


def test_an_empty_cell_is_no_answer_but_no_object(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    (tmp_path / "d.csv").write_text(
        "image,prefix,suffix\na.jpg,what?,\na.jpg,and?,x\na.jpg,detect cat,\na.jpg,caption en,\n"
    )
    source = Source(tmp_path, {"path": "d.csv"}, "t")
    found = {
        verb: [
            s.target
            for s in registry.make("formats", f"paligemma_lines(verb='{verb}')").samples(source, "test")
        ]
        for verb in ("text", "caption", "detect")
    }
    assert found["text"] == [(), ("x",)]
    assert found["caption"] == [()]
    assert found["detect"][0]["objects"] == []


@pytest.mark.parametrize(
    ("seen", "meant"),
    [("label", "answer"), ("LABELS", "answers"), ("anwser", "answer"), ("refrences", "references"),
     ("sufix", "suffix"), ("box", "bbox"), ("annotations", "objects"), ("mask", "segmentation"), ("x", "")],
)  # fmt: skip
def test_what_a_key_stands_for(seen: str, meant: str) -> None:
    known = ("answer", "answers", "references", "suffix", "bbox", "objects", "segmentation")
    assert meant_key(seen, known) == meant


# --- data --check ----------------------------------------------------------------------------------------


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten lines and pictures in data/."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data", [{"answer": "red", "size": [8, 8]}] * 10, "text", "exact_match")
    return Path("data/t.yaml")


def check(task: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    status = main(["data", str(task), "--check", "--data-root", "data", *more])
    return status, capsys.readouterr().out


def test_images_are_decoded(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = check(task, capsys)
    assert status == 0
    assert "right    10 image files, none is missing\n  right    10 images decoded\n" in out
    for number, content in ((3, b""), (4, b"no image"), (5, Path("data/pictures/5.png").read_bytes()[:45])):
        Path(f"data/pictures/{number}.png").write_bytes(content)
    status, out = check(task, capsys)
    assert status == 1
    assert "wrong    3 of 10 images, the first is data/pictures/3.png: is empty" in out.replace(
        f"{Path.cwd()}/", ""
    )


def test_a_sample_of_the_images_is_decoded(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = []
    for n in range(130):
        Image.new("RGB", (8, 8)).save(f"data/pictures/{n}.png")
        records.append({"image": f"{n}.png", "answer": "red"})
    Path("data/t.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert "right    50 of 130 images decoded; --all-images decodes every one" in check(task, capsys)[1]
    Path("data/pictures/129.png").write_bytes(b"x")
    assert check(task, capsys)[0] == 0
    status, out = check(task, capsys, "--all-images")
    assert status == 1
    assert "wrong    1 of 130 images" in out


def test_an_image_of_another_size_than_stated(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """[width, height] where [height, width] belongs moves every box."""
    Image.new("RGB", (16, 8)).save("data/pictures/2.png")
    status, out = check(task, capsys)
    assert status == 1
    assert "2.png: is 8 high and 16 wide; the dataset says 8 and 8" in out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("0.PNG", "; there is '0.png' instead of '0.PNG'"),
        ("0.png ", "; there is '0.png' instead of '0.png '"),
        ("https://x.example/0.png", "; that is an address: download the images"),
        ("data:image/png;base64,iVBORw0KGgo=", "; that is no file name but the image itself"),
        ("data:image/png;base64," + "A" * 5000, "; that is no file name but the image itself"),
    ],
)
def test_why_an_image_is_missing(
    task: Path, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/t.jsonl").write_text(json.dumps({"image": name, "answer": "red"}))
    status, out = check(task, capsys)
    assert status == 1
    assert "missing  1 of 1 image file is not there: " in out
    assert said in out
    assert len(out) < 1500
    assert main(["run", "--model", "demo:later", "--tasks", str(task), "--data-root", "data"]) == 2
    assert said in capsys.readouterr().err


def test_every_task_is_checked_though_one_is_wrong(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("data"), [{"size": [8, 8], "bbox": [0, 0, 1, 1]}], "text", "exact_match", "other")
    assert main(["data", "data/other.yaml", str(task), "--check", "--data-root", "data"]) == 2
    out = capsys.readouterr().out
    assert "wrong    data/other.yaml: metrics: exact_match scores targets of kind texts" in out
    assert "right    10 images decoded" in out


def test_own_tasks_read_reports_of_strangers(tmp_path: Path) -> None:
    """`custom_vqa` on lines as annotation tools on Windows write them."""
    samples = lines(
        tmp_path, [{"image": "C:\\me\\day\\b.jpg", "question": "why?", "answer": "so"}], images="shots"
    )
    assert samples[0].images[0].path == str(tmp_path / "shots" / "day/b.jpg")
    task = loader.load("custom_vqa", {"data.sources": "[{path: d.jsonl, images: shots}]"})
    assert dataset.dataset(task, [tmp_path]).samples[0].images == samples[0].images
