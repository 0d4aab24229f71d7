"""Every task that comes along, on its fixture in the official form: planned, run with a stub, scored."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from official_files import OFFICIAL, picture, write
from stub import Stub, checkpoint, colours
from stub_runs import go, wrong_at

from evalkit.cli.main import main
from evalkit.data import sources
from evalkit.evaluation import plan as planning
from evalkit.evaluation import predict
from evalkit.geometry import mask_decoder
from evalkit.report import formats, leaderboard
from evalkit.runs import scored_run
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import DatasetCache, Selection
from evalkit.types import Sample, Score, why_not_scored

PERFECT = {
    "exact_match",
    "yes_no",
    "paired_accuracy",
    "smiles_match",
    "anls",
    "relaxed_accuracy",
    "vqa_accuracy",
    "teds",
}
TASKS = [name for name in loader.names() if not name.startswith("shapes_")]
MASK = "<loc0100><loc0100><loc0900><loc0900>" + "".join(f"<seg{n:03d}>" for n in range(16)) + " dog"


def fixture(root: Path, name: str) -> tuple[dataset.Dataset, Path]:
    """The task's dataset, written below `root` with every image that its samples name."""
    task = loader.load(name)
    entry = next(e for e in task.data.sources if not {"font", "rotation", "instead"} & set(e))
    write(root, entry, copy.deepcopy(OFFICIAL[name]))
    for key, place in sources._files_of(entry):
        path = root / place
        if not path.exists() and key in ("images", "videos"):
            path.mkdir(parents=True)
    source = sources.locate(task, [root])
    for number, sample in enumerate(dataset._read(task, source)):
        for image in sample.images:
            path = Path(image.path)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture(seed=number))
    return dataset.dataset(task, [root]), root


def right(sample: Sample) -> str:
    """A text that says what the target says, where it is text; else a box with a mask."""
    target = sample.target.get("answers") if isinstance(sample.target, dict) else sample.target
    return target[0] if isinstance(target, tuple) and target else MASK


@pytest.fixture(scope="module")
def any_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask decoder of random numbers."""
    path = tmp_path_factory.mktemp("decoder") / "random.npz"
    rng = np.random.default_rng(0)
    np.savez(
        path,
        **{k: rng.normal(size=shape).astype(np.float32) / 9 for k, shape in mask_decoder._SHAPES.items()},
    )
    return path


def test_every_task_has_a_fixture() -> None:
    assert [name for name in TASKS if name not in OFFICIAL] == []


def frames_elsewhere(name: str, root: Path) -> None:
    """Videos as folders of frames, as the first source of every video task has them."""
    for video in ("v_a-B1", "video7010", "-4wsuPCjDBc_5_15", "v_1QIUV7WYKXg", "Ptf_2VRj-V0_000122_000132"):
        for segment in ("", "[0.83-19.86]", "[17.37-60.81]"):
            for base in ("activitynet", "msrvtt", "msvd", "vatex"):
                folder = root / base / "frames" / f"{video}{segment}"
                folder.mkdir(parents=True, exist_ok=True)
                for number in range(3):
                    (folder / f"{number:05d}.png").write_bytes(picture(seed=number))


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.filterwarnings("ignore:.*is not the published")
def test_task_from_files_to_score(
    name: str, tmp_path: Path, any_decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = loader.load(name)
    if task.data.format.startswith(("dense_video",)) or "frames=" in task.data.format:
        frames_elsewhere(name, tmp_path / "data")
    monkeypatch.setenv(mask_decoder.ENVIRONMENT, str(any_decoder))
    data, root = fixture(tmp_path / "data", name)
    assert data.samples
    form = "The answer is {}." if task.parser == "letter" else "{}"
    answers = {s.id: form.format(right(s)) for s in data.samples}
    model = checkpoint(Stub(lambda request: answers[request.id]))
    plan = planning.plan(data, model, tmp_path / "results", Selection())
    found: list[Score] = []
    predict.run([plan], predict.Session(model, DatasetCache([root]), done=lambda p, s: found.extend(s)))
    assert [s.metric for s in found] == [m for m in task.metrics if m != "radgraph_f1"]
    for score in found:
        assert score.n == len(data.samples)
        assert score.coverage == ("incomplete" if data.short_of else "all")
        assert math.isfinite(score.value), score
        if score.metric.split("(")[0] in PERFECT:
            assert score.value == 1, score
    lines = (plan.folder.path / "rows.jsonl").read_text().splitlines()
    assert len(lines) == len(data.samples)
    json.loads(lines[0])


def test_a_task_that_is_not_scored_says_why(tmp_path: Path) -> None:
    data, root = fixture(tmp_path / "data", "docci_qual_dev")
    model = checkpoint(Stub(lambda request: "A close up."))
    plan = planning.plan(data, model, tmp_path / "results", Selection())
    predict.run([plan], predict.Session(model, DatasetCache([root])))
    cells = leaderboard.collect([plan.folder])
    text = formats.terminal(cells, bold=False)
    assert "docci_qual_dev: not scored, because the published figure is the share of sentences" in text
    assert json.loads(formats.to_json(cells))[0]["value"] is None


def test_a_task_that_is_not_scored_runs_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = fixture(tmp_path / "data", "docci_qual_dev")
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(f'{{"id": "{s.id}", "text": "A close up."}}\n' for s in data.samples))
    words = ["--tasks", "docci_qual_dev", "--data-root", str(root), "--output_path", str(tmp_path / "out")]
    assert main(["run", "--model", f"replay:{answers}", *words]) == 0
    out, err = capsys.readouterr()
    said = "docci_qual_dev: not scored, because the published figure is the share"
    assert said in out
    assert said in err
    (run,) = (tmp_path / "out").iterdir()
    assert main(["compare", str(run), str(run)]) == 2
    assert "has no score that could be compared: the published figure" in capsys.readouterr().err
    words = ["--task", "docci_qual_dev", "--predictions", str(answers), "--data-root", str(root)]
    assert main(["score", *words]) == 2
    assert said in capsys.readouterr().err
    others = tmp_path / "others"
    shutil.copytree(run, others / "docci")
    task = colours(tmp_path / "colours", questions=1, images=1)
    go(task, others / "a", "m", wrong_at(0.0))
    assert [r.task for r in scored_run.read(others)] == ["colours_test"]


FORMS = tuple(formats.FORMS)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", [n for n in TASKS if loader.load(n).not_scored or n == "mimic_cxr_test"])
def test_no_form_of_the_table_shows_what_is_not_scored(
    name: str, published: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = loader.load(name)
    data, root = fixture(tmp_path / "data", name)
    model = checkpoint(Stub(lambda request: MASK), "paligemma-3b-ft-a-224")
    plan = planning.plan(data, model, tmp_path / "results", Selection())
    predict.run([plan], predict.Session(model, DatasetCache([root])))
    why = why_not_scored(task.not_scored or "the package radgraph is not installed")
    words = ["table", str(tmp_path / "results"), *(["--published"] if published else []), "--format"]
    for form in FORMS[:6] if published else FORMS:
        assert main([*words, form]) == 0
        out, err = capsys.readouterr()
        assert not re.search(r"\bnan\b", out.lower())
        if form in ("terminal", "md"):
            assert why in out
            assert ("submission only" in out) == ("test server" in why)
        if form == "json":
            left = [r for r in json.loads(out) if r["metric"] in (leaderboard.WHOLE, "radgraph_f1")]
            assert [r["value"] for r in left] == [None]
        if form == "model-index":
            assert "left out: paligemma-3b-ft-a-224 on " in err
    assert main(["explain", str(tmp_path / "results")]) == 0
    assert f"not compared; {why}" in capsys.readouterr().out


def test_radgraph_is_scored_where_its_package_is(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = fixture(tmp_path / "data", "mimic_cxr_test")
    model = checkpoint(Stub(lambda request: right(data.samples[0])))
    plan = planning.plan(data, model, tmp_path / "results", Selection())
    found: list[Score] = []
    again = ([plan], predict.Session(model, DatasetCache([root]), done=lambda p, s: found.extend(s)))
    predict.run(*again)
    assert "radgraph_f1" not in {s.metric for s in found}
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(f'{{"id": "{s.id}", "text": "A close up."}}\n' for s in data.samples))
    words = ["--task", "mimic_cxr_test", "--predictions", str(answers), "--data-root", str(root)]
    assert main(["score", *words]) == 0
    told = "radgraph_f1: not scored, because the package radgraph is not installed"
    assert told in capsys.readouterr().err
    request.getfixturevalue("radgraph")
    predict.run(*again)  # the same answers, another set of metrics
    assert found[-1].metric == "radgraph_f1"
    assert 0 < found[-1].value <= 1
    assert "metric:radgraph_f1(level='partial', model='radgraph')" in found[-1].signature
    assert "not scored" not in formats.terminal(leaderboard.collect([plan.folder]), bold=False)


def test_a_table_repeats_that_a_prompt_was_never_published(tmp_path: Path) -> None:
    data, root = fixture(tmp_path / "data", "molecules_chemdraw_test")
    model = checkpoint(Stub(lambda request: "C"))
    plan = planning.plan(data, model, tmp_path / "results", Selection())
    predict.run([plan], predict.Session(model, DatasetCache([root])))
    text = formats.terminal(leaderboard.collect([plan.folder]), bold=False)
    assert "prompt unpublished, so evalkit's own" in text


def test_a_mean_over_groups_is_compared_as_such(tmp_path: Path) -> None:
    data, root = fixture(tmp_path / "data", "xgqa_test")
    said = {s.id: "women" if s.group in ("de", "en") else "no" for s in data.samples}
    model = checkpoint(Stub(lambda request: said[request.id]))
    plan = planning.plan(data, model, tmp_path / "results", Selection())
    found: list[Score] = []
    predict.run([plan], predict.Session(model, DatasetCache([root]), done=lambda p, s: found.extend(s)))
    (score,) = found
    assert (score.value, score.groups["de"]["value"]) == (0.5, 0.5)
    assert score.details == {"mean of all 8 groups": 0.5}
    (answered,) = scored_run.read(plan.folder.path)
    assert answered.first.startswith("group_mean(of='exact_match', groups=('bn', 'de', ")
    assert scored_run.metric(answered.first).reduce(answered.rows[answered.first]) == score.value


def test_the_mean_of_two_files(tmp_path: Path) -> None:
    data, root = fixture(tmp_path / "data", "chartqa_test")
    by_group = {group: [s for s in data.samples if s.group == group] for group in ("human", "augmented")}
    assert [len(samples) for samples in by_group.values()] == [2, 2]
    said = {s.id: right(s) if s.group == "human" else "?" for s in data.samples}
    model = checkpoint(Stub(lambda request: said[request.id]))
    plan = planning.plan(data, model, tmp_path / "results", Selection())
    found: list[Score] = []
    predict.run([plan], predict.Session(model, DatasetCache([root]), done=lambda p, s: found.extend(s)))
    assert {g: v["value"] for g, v in found[0].groups.items()} == {"human": 1, "augmented": 0}
    assert found[0].value == 0.5


def test_the_halves_of_a_pair_are_one_cluster(tmp_path: Path) -> None:
    data, root = fixture(tmp_path / "data", "mmvp_test")
    model = checkpoint(Stub(lambda request: "Open"))
    plan = planning.plan(data, model, tmp_path / "results", Selection())
    predict.run([plan], predict.Session(model, DatasetCache([root])))
    lines = [json.loads(line) for line in (plan.folder.path / "rows.jsonl").read_text().splitlines()]
    assert lines[0]["image"] != lines[1]["image"]
    assert len({line.get("cluster") or line["image"] for line in lines}) == 1


def test_what_is_drawn_on_an_image_is_part_of_the_identity(tmp_path: Path) -> None:
    data, _ = fixture(tmp_path / "one", "widgetcap_test")
    (tmp_path / "two").mkdir()
    moved = copy.deepcopy(OFFICIAL["widgetcap_test"])
    moved["images"]["1234.json"]["activity"]["root"]["children"][1]["bounds"] = [0, 0, 40, 70]
    write(tmp_path / "two", data.task.data.sources[0], moved)
    other = dataset.dataset(data.task, [tmp_path / "two"])
    assert other.prompts != data.prompts
    assert other.targets == data.targets
