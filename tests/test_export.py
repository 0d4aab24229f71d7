"""What the test servers and official scripts read: every form, ids, completeness, file names."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import dataset_files
import official_files
import pytest
from stub import Stub, checkpoint, colours
from test_every_task import MASK, fixture, frames_elsewhere

import evalkit
from evalkit import demo
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.evaluation import plan as planning
from evalkit.evaluation import predict as predicting
from evalkit.evaluation.given import read_predictions
from evalkit.exports import forms
from evalkit.exports.layouts import ExportedRun
from evalkit.geometry import mask_decoder, rle
from evalkit.report import formats, leaderboard
from evalkit.runs import store
from evalkit.runs.store import RunFolder
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import DatasetCache, Selection
from evalkit.types import Prediction, Request, Score

SUBMISSIONS = [name for name in loader.names() if loader.load(name).not_scored.startswith("submission only")]
# task -> (form, the file's name, what one entry is)
EXPECTED: dict[str, tuple[str, str, Any]] = {
    "vqav2_test": (
        "vqav2", "v2_OpenEnded_mscoco_test2015_org-stub-1_results.json",
        {"question_id": 42000, "answer": "a"},
    ),
    "vqav2_testdev": (
        "vqav2", "v2_OpenEnded_mscoco_test-dev2015_org-stub-1_results.json",
        {"question_id": 42000, "answer": "a"},
    ),
    "textvqa_test": ("textvqa", "textvqa_test_org-stub-1.json", {"question_id": 34602, "answer": "a"}),
    "vizwiz_test": (
        "vizwiz", "vizwiz_test_org-stub-1.json", {"image": "VizWiz_test_00000000.jpg", "answer": "a"},
    ),
    "docvqa_test": ("docvqa", "docvqa_test_org-stub-1.json", {"questionId": 49153, "answer": "a"}),
    "docvqa_val": ("docvqa", "docvqa_val_org-stub-1.json", {"questionId": 49153, "answer": "a"}),
    "infovqa_test": ("docvqa", "infovqa_test_org-stub-1.json", {"questionId": 1, "answer": "a"}),
    "stvqa_test": ("stvqa", "stvqa_test_org-stub-1.json", {"question_id": 9, "answer": "a"}),
    "cococap_val": (
        "coco_captions", "captions_val2014_org-stub-1_results.json", {"image_id": 42, "caption": "a"},
    ),
    "nocaps_val": ("nocaps", "nocaps_val_org-stub-1.json", {"image_id": None, "caption": "a"}),
    "textcaps_val": (
        "textcaps", "textcaps_val_org-stub-1.json", {"image_id": "0054c91397f2fe05", "caption": "a"},
    ),
    "gqa_testdev_balanced": (
        "gqa", "gqa_testdev_balanced_org-stub-1.json", {"questionId": None, "prediction": "a"},
    ),
}  # fmt: skip


def ran(root: Path, name: str, text: str = "a", model: str = "org/stub 1") -> tuple[Path, Path]:
    """A finished run of the task on its fixture: its folder, and the data root."""
    data, data_root = fixture(root / "data", name)
    stub = checkpoint(Stub(lambda request: text), "stub")
    plan = planning.plan(data, stub, root / "results", Selection())
    predicting.run([plan], predicting.Session(stub, DatasetCache([data_root])))
    content = plan.folder.read_run()
    assert content is not None
    plan.folder.write_run({**content, "model": model})
    return plan.folder.path, data_root


def exported(folder: Path, *more: str) -> Path:
    """The one file that `evalkit export` writes."""
    assert main(["export", str(folder), "--allow-partial", *more]) == 0
    (path,) = (folder / "export").iterdir()
    return path


@pytest.mark.parametrize("name", EXPECTED)
def test_each_server_gets_its_form(name: str, tmp_path: Path) -> None:
    form, file, entry = EXPECTED[name]
    path = exported(ran(tmp_path, name)[0])
    assert path.name == file
    first = json.loads(path.read_text())[0]
    key = forms.FORMS[form].id
    if entry[key] is None:
        assert isinstance(first[key], int if form == "nocaps" else str)
        first[key] = None
    assert first == entry


def test_every_submission_has_a_form_and_never_a_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(SUBMISSIONS) == 10
    assert {n for n in loader.names() if "test server" in loader.load(n).not_scored} == set(SUBMISSIONS)
    for name in SUBMISSIONS:
        folder, _ = ran(tmp_path / name, name)
        assert exported(folder).exists()
        cells = leaderboard.collect([RunFolder(folder)])
        (cell,) = cells
        assert cell.text() == "submission only"
        assert f"{name}: submission only: the answers are not public" in formats.terminal(cells, bold=False)
        assert json.loads(formats.to_json(cells))[0]["value"] is None
        assert store.scores_of(RunFolder(folder)) == []
    assert "; submission only: the answers are not public" in capsys.readouterr().out


def test_vqa_by_a_reading_of_the_official_loader(tmp_path: Path) -> None:
    """VQA.loadRes: a list, of which the questions are exactly those of the questions file."""
    path = exported(ran(tmp_path, "vqav2_val")[0])
    assert path.name == "v2_OpenEnded_mscoco_val2014_org-stub-1_results.json"
    answers = json.loads(path.read_text())
    assert isinstance(answers, list)
    told = [answer["question_id"] for answer in answers]
    assert set(told) == {q["question_id"] for q in dataset_files.QUESTIONS["questions"]}
    assert len(told) == len(set(told))
    assert all(set(a) == {"question_id", "answer"} for a in answers)


def test_captions_are_loaded_by_pycocotools(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    folder, root = ran(tmp_path, "coco_captions_2017_val", 'a dog\n"läuft"')
    path = exported(folder)
    assert path.name == "captions_val2017_org-stub-1_results.json"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(root / "coco/annotations/captions_val2017.json"))
        loaded = truth.loadRes(str(path))
    assert {a["image_id"]: a["caption"] for a in loaded.anns.values()} == dict.fromkeys(
        (4, 9), 'a dog\n"läuft"'
    )


class Sure(Stub):
    """Gives log-probabilities: surer of the first image (id 9), where the dog is."""

    def predict(
        self, requests: Sequence[Request], on_bad_image: Callable[..., None] | None = None
    ) -> Iterator[Prediction]:
        for answer in super().predict(requests, on_bad_image):
            numbers = [256000 + int(n) for n in re.findall(r"<loc(\d{4})>", answer.text)]
            tokens = [t for n in range(0, len(numbers), 4) for t in [*numbers[n : n + 4], 5, 6]]
            sure = (-0.1 if answer.id == "9" else -2.0,) * len(tokens)
            yield replace(answer, tokens=tuple(tokens), logprobs=sure)


@pytest.mark.parametrize(("rank", "value"), [("constant", 0.5), ("logprob", 1.0), ("class", 1.0)])
def test_detections_give_the_same_figure_by_pycocotools(rank: str, value: float, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    text = "<loc0427><loc0160><loc0852><loc0480> dog ; <loc0010><loc0020><loc0800><loc0900> person ; "
    text += "<loc0100><loc0160><loc0850><loc0480> wolf"
    name = "coco_detection_val2017"
    _, root = fixture(tmp_path / "data", name)
    task = replace(loader.load(name), metrics=(f"coco_ap(rank='{rank}')",))
    data = dataset.dataset(task, [root])
    model = checkpoint(Sure(lambda request: text))
    plan = planning.plan(data, model, tmp_path / "results", Selection())
    found: list[Score] = []
    predicting.run([plan], predicting.Session(model, DatasetCache([root]), done=lambda p, s: found.extend(s)))
    answers = {k: e.prediction for k, e in plan.folder.entries().items()}
    path = tmp_path / "detections.json"
    path.write_text(forms.write([ExportedRun("r", "m", data, answers)], "coco_detections").text)
    assert exported(plan.folder.path).name == "detections_val2017_stub_results.json"
    entries = json.loads(path.read_text())
    assert len(entries) == 4  # two images; the wolf is no category
    assert entries[0]["category_id"] == 18
    x, y, width, height = entries[0]["bbox"]  # the image is 64 wide, 48 high
    assert (x, y) == pytest.approx((160 / 1023 * 64, 427 / 1023 * 48))
    assert (width, height) == pytest.approx((320 / 1023 * 64, 425 / 1023 * 48))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(root / "coco/annotations/instances_val2017.json"))
        judge = COCOeval(truth, truth.loadRes(str(path)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert judge.stats[0] == pytest.approx(found[0].value)
    assert found[0].value == pytest.approx(value, abs=0.01)


def test_boxes_are_exported_in_the_steps_that_the_checkpoint_states(tmp_path: Path) -> None:
    folder, _ = ran(tmp_path, "coco_detection_val2017", "<loc0427><loc0160><loc0852><loc0480> dog")
    content = RunFolder(folder).read_run() or {}
    content["identity"]["model"]["conventions"] = {"bins": 1024}
    RunFolder(folder).write_run(content)
    entry = json.loads(exported(folder).read_text())[0]
    assert entry["bbox"][:2] == pytest.approx((160 / 1024 * 64, 427 / 1024 * 48))


def test_boxes_for_the_test_server_are_ranked_by_their_class(tmp_path: Path) -> None:
    name = "coco_detection_testdev2017"
    _, root = fixture(tmp_path / "data", name)
    data = dataset.dataset(loader.load(name), [root])
    text = "<loc0010><loc0020><loc0800><loc0900> dog"
    tokens, sure = (256010, 256020, 256800, 256900, 5), (-1.0, -1.0, -1.0, -1.0, -0.5)
    told = {s.id: Prediction(s.id, "", text, tokens, sure) for s in data.samples}
    answered = ExportedRun("r", "m", data, told)
    assert forms.choose(answered) == "coco_detections"
    assert forms.file_name(answered, "coco_detections") == "detections_test-dev2017_m_results.json"
    entries = json.loads(forms.write([answered], "coco_detections").text)
    assert {e["category_id"] for e in entries} == {18}
    assert [e["score"] for e in entries] == [pytest.approx(math.exp(-0.5))] * 2


def test_aokvqa_merges_both_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    direct, _ = ran(tmp_path, "aokvqa_da_test", "a surfer")
    choice, _ = ran(tmp_path, "aokvqa_mc_test", "none of these")
    assert main(["export", str(tmp_path / "results"), "--allow-partial"]) == 0
    (path,) = tmp_path.rglob("predictions_test.json")
    content = json.loads(path.read_text())
    question = official_files.AOKVQA_TEST[0]["question_id"]
    assert content[question] == {"multiple_choice": "none of these", "direct_answer": "a surfer"}
    assert "answers are none of the choices, the first is " in capsys.readouterr().err
    path.unlink()
    assert json.loads(exported(direct).read_text())[question] == {"direct_answer": "a surfer"}
    again = tmp_path / "results" / "again"
    again.mkdir()
    (again / "run.json").write_text((choice / "run.json").read_text())
    (again / "predictions").symlink_to(choice / "predictions")
    assert main(["export", str(choice), str(again), "--allow-partial"]) == 2
    assert "gives multiple_choice, and so does" in capsys.readouterr().err


def test_aokvqa_script_reads_one_setting(tmp_path: Path) -> None:
    path = exported(ran(tmp_path, "aokvqa_mc_val", "none")[0], "--to", "aokvqa_eval")
    assert path.name == "predictions_val-mc.json"
    assert json.loads(path.read_text()) == {r["question_id"]: "none" for r in official_files.AOKVQA}


def test_nlvr2_by_a_reading_of_its_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """metrics.py cuts lines at commas and compares the second part, whatever its case."""
    path = exported(ran(tmp_path, "nlvr2_test", "true")[0])
    assert path.name == "predictions.csv"
    read = dict(line.strip().split(",") for line in path.read_text().splitlines())
    wanted = [json.loads(line) for line in (tmp_path / "data/nlvr2/data/test1.json").read_text().splitlines()]
    assert read == {w["identifier"]: "true" for w in wanted}
    assert "neither" not in capsys.readouterr().err
    path = exported(ran(tmp_path / "b", "nlvr2_test", "well, yes\nor no")[0])
    assert {line.split(",")[1] for line in path.read_text().splitlines()} == {"well yes or no"}
    assert "2 answers are neither true nor false, the first is test1-" in capsys.readouterr().err


def test_captions_of_videos_by_their_id(tmp_path: Path) -> None:
    frames_elsewhere("vatex_test", tmp_path / "data")
    path = exported(ran(tmp_path, "vatex_test", "a man climbs")[0])
    assert path.name == "submission.json"
    assert json.loads(path.read_text()) == {"Ptf_2VRj-V0_000122_000132": "a man climbs"}


@pytest.mark.parametrize("name", ["icdar15_words_test", "totaltext_words_test"])
def test_words_give_the_same_figure_as_read_back(name: str, tmp_path: Path) -> None:
    text = "<loc0100><loc0020><loc0300><loc0900> Genaxis ; <loc0000><loc0000><loc1023><loc1023> é;x"
    folder, root = ran(tmp_path, name, text)
    (score, _) = store.scores_of(RunFolder(folder))
    content = json.loads(exported(folder).read_text())
    data = dataset.dataset(loader.load(name), [root])
    assert [a["image_id"] for a in content["annotations"]] == [s.id for s in data.samples]
    words = [
        [word for p in a["paragraphs"] for line in p["lines"] for word in line["words"]]
        for a in content["annotations"]
    ]
    assert [w["text"] for w in words[0]] == ["Genaxis", "é;x"]
    metric = evalkit.metric("hiertext_f1")
    rows = metric.rows(words, [s.target for s in data.samples])
    assert metric.reduce(rows) == score.value
    assert metric.details(rows) == pytest.approx(dict(score.details))
    empty = exported(ran(tmp_path / "b", name, "")[0])
    assert all(a["paragraphs"] == [] for a in json.loads(empty.read_text())["annotations"])


@pytest.mark.parametrize(("name", "key"), [("pubtabnet_val", "PMC1_0.png"), ("fintabnet_test", "1")])
def test_tables_by_file_name(name: str, key: str, tmp_path: Path) -> None:
    html = "<html><body><table><tr><td>ü</td></tr></table></body></html>"
    path = exported(ran(tmp_path, name, html)[0])
    assert json.loads(path.read_text()) == {key: html}


def test_molecules_are_read_by_pandas(tmp_path: Path) -> None:
    import pandas as pd

    smiles = 'C[C@@H](N)C(=O)O,"x"'
    path = exported(ran(tmp_path, "molecules_chemdraw_test", smiles)[0])
    assert path.name == "prediction_chemdraw.csv"
    found, wanted = pd.read_csv(path), pd.read_csv(tmp_path / "data/molscribe/synthetic/chemdraw.csv")
    assert list(found["image_id"]) == list(wanted["image_id"])
    assert list(found["SMILES"]) == [smiles] * len(wanted)


def test_masks_give_the_same_figure_by_pycocotools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pycocotools import mask as coco

    monkeypatch.setenv(mask_decoder.ENVIRONMENT, str(demo.mask_decoder()))
    name, text = "refcoco_unc_seg_val", MASK
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder, root = ran(tmp_path, name, text)
        data = dataset.dataset(loader.load(name), [root])
        told = json.loads(exported(folder).read_text())
        score = next(s for s in store.scores_of(RunFolder(folder)) if s.metric == "mask_iou")
        samples = {int(s.id): s.target for s in data.samples}
        assert [t["image_id"] for t in told] == list(samples)
        found = [t["segmentation"] for t in told]
        wanted = [rle.rle(t["segmentation"], t["size"]) for t in samples.values()]
        ious = [coco.iou([a], [b], [False])[0, 0] for a, b in zip(found, wanted, strict=True)]
        assert sum(ious) / len(ious) == pytest.approx(score.value)
        assert score.value > 0
        nothing = exported(ran(tmp_path / "b", name, "no mask")[0])
    assert json.loads(nothing.read_text()) == []
    err = capsys.readouterr().err
    assert "answers are without a mask and left out" in err
    assert "holds no mask; pycocotools cannot load an empty list" in err


def test_from_python(tmp_path: Path) -> None:
    folder, _ = ran(tmp_path, "docvqa_val")
    (run,) = runs = evalkit.load(folder)
    with pytest.raises(UserError, match="of officially 5,349 samples; run the rest"):
        run.export()
    path = run.export(allow_partial=True)
    assert path == folder / "export" / "docvqa_val_org-stub-1.json"
    paths = runs.export(to="jsonl", output=tmp_path / "own.jsonl", allow_partial=True)
    assert paths == [tmp_path / "own.jsonl"]
    assert json.loads(paths[0].read_text().splitlines()[0]) == {"id": "49153", "text": "a"}


# --- any run ---------------------------------------------------------------------------------------


@pytest.fixture
def plain(tmp_path: Path) -> tuple[Path, Path]:
    """A whole run of a task of one's own: its folder and its task file."""
    return whole(tmp_path, Selection())


def whole(tmp_path: Path, asked: Selection, text: str = "=1+1, über") -> tuple[Path, Path]:
    path = (
        colours(tmp_path / "data")
        if not (tmp_path / "data").exists()
        else tmp_path / "data/colours_test.yaml"
    )
    task = loader.load(str(path))
    model = checkpoint(Stub(lambda request: text))
    plan = planning.plan(dataset.dataset(task, [path.parent]), model, tmp_path / "results", asked)
    datasets = DatasetCache([path.parent])
    predicting.run([plan], predicting.Session(model, datasets))
    return plan.folder.path, path


def test_lines_can_be_scored_again(plain: tuple[Path, Path]) -> None:
    folder, path = plain
    assert main(["export", str(folder), "--to", "jsonl"]) == 0
    (file,) = (folder / "export").iterdir()
    assert file.name == "colours_test_stub.jsonl"
    samples = dataset.dataset(loader.load(str(path)), [path.parent]).samples
    read = read_predictions(str(file), samples)
    assert {p.text for p in read.values()} == {"=1+1, über"}
    assert len(read) == 20


def test_a_table_runs_nothing(plain: tuple[Path, Path]) -> None:
    folder, _ = plain
    assert main(["export", str(folder), "--to", "csv", "--output", str(folder.parent)]) == 0
    with open(folder.parent / "colours_test_stub.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[:2] == [["id", "text"], ["q0-0", "'=1+1, über"]]
    assert len(rows) == 21


def test_what_is_refused(plain: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = plain

    def said(*words: str) -> str:
        assert main(["export", str(folder), *words]) == 2
        assert not (folder / "export").exists()
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    assert "--to docvqu: unknown; did you mean docvqa" in said("--to", "docvqu")
    assert "has no official form that evalkit knows; choose one with --to: vqav2, textvqa" in said()
    assert "needs whole numbers as question_id, and a sample of colours_test is called 'q0-0'" in said(
        "--to", "stvqa"
    )
    assert "needs boxes, but colours_test's parser text gives text" in said("--to", "coco_detections")


def test_a_part_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = whole(tmp_path, Selection(ids=("q0-0", "q1-1")))
    words = ["export", str(folder), "--to", "jsonl"]
    assert main(words) == 2
    assert "has 2 of 20 answers, the first missing is q0-1; run the rest, or give --allow-partial" in (
        capsys.readouterr().err
    )
    assert main([*words, "--allow-partial"]) == 0
    assert "partial: " in capsys.readouterr().out


def test_a_part_of_the_official_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = ran(tmp_path, "vizwiz_test")
    assert main(["export", str(folder)]) == 2
    assert "the data on disk holds 1 of officially 8,000 samples" in capsys.readouterr().err


def test_row_numbers_are_no_ids(tmp_path: Path) -> None:
    folder, root = ran(tmp_path, "chartqa_human_test")
    data = dataset.dataset(loader.load("chartqa_human_test"), [root])
    hub = replace(data.source, entry={**data.source.entry, "format": "hub(answers='answer')"})
    given = {k: e.prediction for k, e in RunFolder(folder).entries().items()}
    answered = ExportedRun("r", "m", replace(data, source=hub), given)
    with pytest.raises(UserError, match="are row numbers"):
        forms.refuse(answered, "vqav2", True)


def test_two_exports_are_not_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole(tmp_path, Selection())
    words = ["export", str(tmp_path / "results"), "--to", "jsonl"]
    assert main([*words, "--output", str(tmp_path / "one.jsonl")]) == 0
    assert len((tmp_path / "one.jsonl").read_text().splitlines()) == 20
    ran(tmp_path / "results", "docvqa_val")
    assert main([*words, "--allow-partial", "--output", str(tmp_path / "two.jsonl")]) == 2
    assert "is one file for 2 exports; name a folder that exists" in capsys.readouterr().err


def test_the_page_names_every_form() -> None:
    page = (Path(__file__).parent.parent / "docs" / "export.md").read_text(encoding="utf-8")
    for name, form in forms.FORMS.items():
        assert f"| `{name}` | {form.about} |" in page
    patterns = [p for form in forms.FORMS.values() for p in form.tasks]
    assert [p for p in patterns if not any(fnmatch(n, p) for n in loader.names())] == []
