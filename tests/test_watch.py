"""Watching a training run: half-written checkpoints, the trend, drops, the hook, restarts."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from stub import checkpoint, colours
from stub_runs import Weighted, go, wrong_at

from evalkit.cli.main import main
from evalkit.comparison.trend import Point, Trend, checkpoints, lacks
from evalkit.errors import ModelError
from evalkit.evaluation import evaluate
from evalkit.report import trend as trend_report
from evalkit.report.html import Spot, curve
from evalkit.report.trend import sparkline, table, to_html


def write(folder: Path, cut: int = 0) -> Path:
    """A checkpoint folder with one small tensor; `cut` bytes are not written yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(16)
    (folder / "model.safetensors").write_bytes(content[: len(content) - cut])
    return folder


def test_half_written_checkpoints_are_not_complete(tmp_path: Path) -> None:
    assert lacks(write(tmp_path / "checkpoint-1")) == ""
    for cut in (1, 16, 20, 80):
        assert lacks(write(tmp_path / "checkpoint-2", cut)) == "the end of model.safetensors"
    folder = write(tmp_path / "checkpoint-3")
    (folder / "config.json").unlink()
    assert lacks(folder) == "config.json"
    folder = write(tmp_path / "checkpoint-4")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert lacks(folder) == "model-2.safetensors"
    (folder / "model.safetensors.index.json").write_text("{")
    assert lacks(folder) == "a readable index"
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    assert lacks(folder) == "", "an older save's index: its shards are gone, the single file is there"
    (tmp_path / "checkpoint-last").mkdir()
    assert [s for s, _ in checkpoints(tmp_path)] == [1, 2, 3, 4]


def test_the_cost_of_each_point_is_shown(tmp_path: Path) -> None:
    trend = Trend(tmp_path / "watch.json")
    for step, seconds in ((1, 61.4), (2, None)):
        values = {"t m": (0.5, 0.4, 0.6, 100)}
        trend.points.append(Point(step, f"checkpoint-{step}", (), values, 0.5, seconds=seconds))
    trend_report.save(trend)
    again = Trend.load(trend.path)
    assert [p.seconds for p in again.points] == [61.4, None]
    assert table(again).splitlines()[2].split() == ["predicting", "took", "61", "s", "–"]
    assert [line.split(",")[-1] for line in trend_report.to_csv(again).splitlines()] == [
        "seconds",
        "61.4",
        "",
    ]
    page = to_html(again)
    assert page.count('<polygon class="band"') == 1
    assert '<td class="n">61 s</td>' in page
    older = json.loads(trend.path.read_text())
    for point in older["points"]:
        del point["seconds"]
    trend.path.write_text(json.dumps(older))
    assert "predicting took" not in table(Trend.load(trend.path))


ODD_HEADERS = [
    b"[]", b"5", b'"x"', b"{", b"[" * 9000, b"\xff\xfe", b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": 5}', b'{"a": {}}',
    b'{"a": {"data_offsets": 5}}', b'{"a": {"data_offsets": [0]}}', b'{"a": {"data_offsets": [0, "x"]}}',
    b'{"a": {"data_offsets": null}}',
]  # fmt: skip
ODD_INDEXES = [
    "[]", "5", "null", "{}", "[" * 9000, '{"weight_map": 5}', '{"weight_map": {"a": 5, "b": "x"}}',
    '{"weight_map": {"a": []}}',
]  # fmt: skip


@pytest.mark.parametrize("header", ODD_HEADERS)
def test_odd_headers_are_waited_for(header: bytes, tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint-1")
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert lacks(folder) in ("a readable header of model.safetensors", "the end of model.safetensors")


@pytest.mark.parametrize("index", ODD_INDEXES)
def test_odd_indexes_are_waited_for(index: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint-1")
    (folder / "model.safetensors.index.json").write_text(index)
    assert lacks(folder) == "a readable index"


def test_a_checkpoint_itself_is_not_watched(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write(training / "checkpoint-12")
    assert main(["watch", str(one), *WORDS[2:]]) == 2
    said = capsys.readouterr().err
    assert "checkpoint-12: is a checkpoint itself; evaluate it with: evalkit run --model " in said
    assert f"evalkit watch {training} --tasks" in said
    shutil.copytree(one, training, dirs_exist_ok=True)  # a final model beside the checkpoints
    assert main(WORDS) == 0


def test_the_newest_and_the_best_always_fit(tmp_path: Path) -> None:
    trend = Trend(tmp_path / "watch.json")
    for step in range(100, 2100, 100):
        mean = 0.9 if step == 300 else step / 4000
        values = {"a_task exact_match": (mean, mean - 0.1, mean + 0.1, 10)}
        trend.points.append(Point(step, f"checkpoint-{step}", (), values, mean))
    text = table(trend, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "300*" in text
    assert " 2000" in text
    assert " 100 " not in text.splitlines()[0]
    assert "more in watch.csv" in text


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (71.2, 71.3), (-3.0, 100.0), (812.0, 830.0)])
def test_a_curve_has_a_round_scale_that_holds_it(low: float, high: float) -> None:
    svg = curve([Spot(1, low, low, low, "a<b"), Spot(9, high, low, high, "b", True)])
    shown = [float(t) for t in re.findall(r'text-anchor="end">(-?[\d.]+)</text>', svg)]
    assert 2 <= len(shown) - 1 <= 8  # the last is x
    assert min(shown[:-1]) <= low <= high <= max(shown[:-1])
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', svg)]
    assert all(0 < y < 180 for y in heights)
    assert "a&lt;b" in svg


def test_what_is_not_of_all_samples_is_marked(tmp_path: Path) -> None:
    trend = Trend(tmp_path / "watch.json")
    key = "a_task exact_match"
    whole = Point(1, "checkpoint-1", (), {key: (0.5, 0.4, 0.6, 500)}, 0.5)
    part = Point(2, "checkpoint-2", (), {key: (0.5, 0.4, 0.6, 50)}, 0.5, coverage={key: "limited"})
    trend.points = [whole]
    assert "†" not in table(trend)
    trend.points += [part]
    trend_report.save(trend)
    for text in (table(Trend.load(trend.path)), to_html(trend)):
        assert "50.0 ±10.0†" in text
        assert "† a part of the samples" in text
        assert "fewer than 100 samples" in text
    assert [line.split(",")[-3] for line in trend_report.to_csv(trend).splitlines()[1:]] == ["all", "limited"]


def test_sparkline() -> None:
    assert sparkline([0, 0.5, 1]) == "▁▅█"
    assert sparkline([1, 1]) == "▁▁"


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training run whose checkpoint-N is wrong at 0.9 - N/100, but checkpoint-60 collapsed."""
    colours(tmp_path / "data", images=100)
    monkeypatch.setenv("EVALKIT_TASKS", str(tmp_path / "data"))
    monkeypatch.setenv("EVALKIT_DATA", str(tmp_path / "data"))

    def stub(spec: str, _: object) -> object:
        step = int(spec.rsplit("-", 1)[1])
        if step == 13:
            raise ModelError(f"{spec}: no tokenizer.json; copy the processor's files beside it")
        return checkpoint(
            Weighted(wrong_at(0.9 if step == 60 else 0.9 - step / 100), str(step)), Path(spec).name
        )

    monkeypatch.setattr(evaluate, "checkpoint", stub)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "training"


WORDS = ["watch", "training", "--suite", "colours_test", "--once", "--poll", "0.01"]


def test_each_checkpoint_once_and_drops_warned_of(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (10, 40, 60):
        write(training / f"checkpoint-{step}")
    write(training / "checkpoint-70", cut=3)
    write(training / "checkpoint-13")
    hook = "echo $EVALKIT_STEP $EVALKIT_BEST >> hooked.txt"
    assert main([*WORDS, "--hook", hook]) == 0
    out, err = capsys.readouterr()
    assert "checkpoint-70: waiting for the end of model.safetensors" in err
    assert "checkpoint-13: checkpoint" not in err
    assert "no tokenizer.json" in err
    assert "warning: checkpoint-60: colours_test: exact_match fell by" in err
    assert "against checkpoint-40" in err
    assert "best: checkpoint-40" in out
    assert "trend" in out
    assert Path("hooked.txt").read_text() == "10 checkpoint-10\n40 checkpoint-40\n60 checkpoint-40\n"
    rows = Path("results/watch.csv").read_text().splitlines()
    assert rows[0] == "step,checkpoint,task,metric,value,low,high,n,coverage,drop,seconds"
    assert rows[3].startswith("60,checkpoint-60,colours_test,exact_match,")
    assert rows[3].split(",")[-2] == "1"
    page = Path("results/watch.html").read_text()
    assert page.count("<circle") == 3
    assert page.count('class="spot bad"') == 1
    write(training / "checkpoint-70")  # a restart: what is known is not run again
    assert main([*WORDS, "--hook", hook]) == 0
    out, err = capsys.readouterr()
    assert "checkpoint-40: a stub" not in err
    assert "best: checkpoint-70" in out
    assert main([*WORDS]) == 0  # nothing new: what is known already
    assert "best: checkpoint-70" in capsys.readouterr().out
    assert Path("hooked.txt").read_text().splitlines()[3:] == ["70 checkpoint-70"]


def test_drops_against_a_baseline_and_a_failing_hook(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = go(tmp_path / "data" / "colours_test.yaml", tmp_path / "base", "released", wrong_at(0.1))
    write(training / "checkpoint-10")
    assert main([*WORDS, "--against", str(base), "--hook", "exit 3"]) == 0
    err = capsys.readouterr().err
    assert "against released" in err
    assert "--hook ended with status 3" in err
    write(training / "checkpoint-12")  # fewer images than the baseline has: on those
    assert main([*WORDS, "--against", str(base), "--limit", "40"]) == 0
    assert "warning: checkpoint-12: colours_test: exact_match fell by" in capsys.readouterr().err


def test_nothing_yet_and_no_folder(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 2
    assert "training: no such folder" in capsys.readouterr().err
    training.mkdir()
    assert main(WORDS) == 0
    assert "no checkpoint yet" in capsys.readouterr().out


def test_checkpoints_that_all_fail_are_not_called_none(
    training: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a CI: `--once` must not end well where nothing was evaluated."""

    def refused(*_: object) -> None:
        raise ModelError("its base is missing")

    monkeypatch.setattr(evaluate, "watched_runs", refused)
    write(training / "checkpoint-10")
    assert main(WORDS) == 1
    out, err = capsys.readouterr()
    assert "checkpoint-10: its base is missing" in err
    assert out == ""


def test_data_of_one_s_own_is_watched(
    training: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `run --data` has it: recognised and said, its task kept beside the runs, doubts about it too."""
    mine = training.parent / "mine"
    mine.mkdir()
    told = [{"image": f"{n}.png", "prefix": "what colour", "suffix": "red"} for n in range(3)]
    (mine / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    for n in range(3):
        shutil.copy(training.parent / f"data/pictures/{n % 2}.png", mine / f"{n}.png")
    said = {10: "red", 20: "blue"}

    def stub(spec: str, _: object) -> object:
        step = int(spec.rsplit("-", 1)[1])
        return checkpoint(Weighted(lambda request: said[step], str(step)), Path(spec).name)

    monkeypatch.setattr(evaluate, "checkpoint", stub)
    write(training / "checkpoint-10")
    words = ["watch", str(training), "--data", str(mine), "--once", "--poll", "0.01"]
    assert main(words) == 0
    shown = capsys.readouterr().err
    assert "  task     results/tasks/" in shown
    (first,) = Path("results").rglob("run.json")
    (doubt,) = json.loads(first.read_text())["data"]["doubts"]
    assert f"warning  {doubt}" in shown
    write(training / "checkpoint-20")
    assert main(words) == 0
    points = Trend.load(Path("results/watch.json")).points
    (kept,) = Path("results/tasks").glob("*.yaml")
    key = f"{kept.stem} exact_match(lowercase=True)"
    assert [point.values[key][0] for point in points] == [1.0, 0.0]
    runs = [json.loads(path.read_text()) for path in Path("results").rglob("run.json")]
    assert [run["data"]["doubts"] for run in runs] == [[doubt]] * 2
    capsys.readouterr()
    for wrong, why in (
        ([], "watch: name tasks with --tasks, or data of your own with --data FOLDER"),
        (["--data", "nowhere"], "nowhere"),
        (["--tasks", "docvqa_val", "--data-root", "mine"], "docvqa_val: data not found"),
        (["--data", str(mine), "--on-scores", "nowhere.py:tell"], "nowhere.py"),
    ):
        assert main(["watch", str(training), *wrong, "--once"]) == 2
        assert why in capsys.readouterr().err


def test_a_checkpoint_written_while_watching(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written byte by byte in another thread, it is taken only when it is whole."""
    from evalkit.cli import watch

    training.mkdir()
    taken: list[int] = []
    old = watch._take

    def take(*given: object) -> None:
        taken.append((training / "checkpoint-20" / "model.safetensors").stat().st_size)
        old(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "_take", take)

    def train() -> None:
        for cut in (90, 50, 10, 0):
            write(training / "checkpoint-20", cut)
            time.sleep(0.05)

    thread = threading.Thread(target=train)
    thread.start()
    assert main([w for w in WORDS if w != "--once"]) == 130
    thread.join()
    assert taken == [os.stat(training / "checkpoint-20" / "model.safetensors").st_size]


@pytest.fixture
def weighed(training: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training run whose checkpoints are what the last byte of their weights says."""

    def stub(spec: str, _: object) -> object:
        last = (Path(spec) / "model.safetensors").read_bytes()[-1]
        return checkpoint(Weighted(wrong_at(last / 10), str(last)), Path(spec).name)

    monkeypatch.setattr(evaluate, "checkpoint", stub)
    return write(training / "checkpoint-10")


def rewrite(folder: Path, last: int) -> None:
    """Other weights of equal size and time."""
    file = folder / "model.safetensors"
    before = file.stat()
    file.write_bytes(file.read_bytes()[:-1] + bytes([last]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def points() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path("results/watch.json").read_text())["points"]
    return found


@pytest.mark.parametrize("kept", [True, False], ids=["by its digest", "by the run of an older watch"])
def test_a_checkpoint_rewritten_in_its_folder_is_evaluated_again(
    weighed: Path, kept: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = ["--hook", "echo $EVALKIT_MEAN >> hooked.txt"]
    assert main([*WORDS, *hook]) == 0
    assert points()[0]["mean"] == 1.0
    if not kept:
        file = Path("results/watch.json")
        content = json.loads(file.read_text())
        del content["points"][0]["models"]
        file.write_text(json.dumps(content))
    os.utime(weighed / "model.safetensors")
    capsys.readouterr()
    assert main([*WORDS, *hook]) == 0  # the same weights, written once more
    assert "checkpoint-10" not in capsys.readouterr().err
    rewrite(weighed, 5)
    assert main([*WORDS, *hook]) == 0
    assert "checkpoint-10: is not the model that was evaluated before" in capsys.readouterr().err
    (point,) = points()
    assert point["mean"] < 0.8
    assert Path("hooked.txt").read_text().splitlines() == ["1.0", str(point["mean"])]


def test_a_checkpoint_rewritten_while_watching_is_evaluated_again(
    weighed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evalkit.cli import watch

    old, taken = watch._take, list[float]()

    def take(trend: Trend, *given: Any) -> None:
        old(trend, *given)
        taken.append(trend.points[0].mean)
        if len(taken) == 2:
            raise KeyboardInterrupt
        rewrite(weighed, 5)

    monkeypatch.setattr(watch, "_take", take)
    assert main([w for w in WORDS if w != "--once"]) == 130
    assert taken[0] == 1.0
    assert taken[1] < 0.8


def test_what_each_checkpoint_lost_against_its_base(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = go(tmp_path / "data" / "colours_test.yaml", tmp_path / "base", "released", wrong_at(0.5))
    for step in (10, 60):
        write(training / f"checkpoint-{step}")
    assert main(WORDS) == 0
    assert "against the base" not in Path("results/watch.html").read_text()
    capsys.readouterr()
    write(training / "checkpoint-80")
    assert main([*WORDS, "--forgetting", str(base)]) == 0
    said = capsys.readouterr().err
    assert "checkpoint-80 against its base released: 0 of 1 tasks forgotten" in said
    assert "gained: colours_test +" in said
    kinds = [p["lost"]["colours_test"][0] for p in points()]
    assert kinds == ["forgotten", "forgotten", "gained"], "those of the earlier watch too"
    page = Path("results/watch.html").read_text()
    assert page.count("forgotten -") == 4  # a point's label and a cell of the table, twice
    assert Trend.load(Path("results/watch.json")).points[2].lost["colours_test"][1] > 0  # type: ignore[operator]
    assert main([*WORDS, "--forgetting", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--forgetting", "--against"])
def test_what_cannot_be_compared_stays_in_the_trend(
    training: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "data" / "colours_test.yaml"
    own = task.read_text()
    base = go(task, tmp_path / "base", "released", wrong_at(0.5))
    asked = next(line for line in own.splitlines() if line.startswith("prompt:"))
    task.write_text(own.replace(asked, "prompt: 'what colour is it?'"))
    write(training / "checkpoint-10")
    assert main([*WORDS, option, str(base)]) == 0
    said = capsys.readouterr().err
    assert "warning: checkpoint-10: colours_test: not compared with released: prompt: " in said
    (point,) = points()
    assert point["name"] == "checkpoint-10"
    assert point["drops"] == []
    task.write_text(own)  # another prompt than the best so far has
    write(training / "checkpoint-60")
    assert main([*WORDS, option, str(base)]) == 0
    said = capsys.readouterr().err
    assert "warning: checkpoint-60: colours_test: not compared with checkpoint-10: prompt: " in said
    assert [p["name"] for p in points()] == ["checkpoint-10", "checkpoint-60"]
    if option == "--forgetting":
        kinds = [p["lost"]["colours_test"][0] for p in points()]
        assert kinds[0].startswith("not compared: prompt: ")
        assert kinds[1] in ("forgotten", "kept", "open", "gained")
        assert "not compared: prompt: " in Path("results/watch.html").read_text()


def test_all_tasks_are_on_one_scale_too(tmp_path: Path) -> None:
    trend = Trend(tmp_path / "watch.json")
    for step in (1, 2):
        values = {f"{task} m": (step / 4, 0.1, 0.9, 100) for task in ("a", "b<")}
        trend.points.append(Point(step, f"checkpoint-{step}", (), values, 0.5))
    page = to_html(trend)
    assert page.count('<polygon class="band"') == 4
    assert page.count("<figcaption>all tasks</figcaption>") == 1
    assert '<span class="line1">■</span> b&lt; m' in page
    trend.points[1] = Point(2, "checkpoint-2", (), {"a m": (0.5, 0.1, 0.9, 100)}, 0.5)
    assert to_html(trend).count('<polygon class="band"') == 2, "a task with one point has no band"
