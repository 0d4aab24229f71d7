"""`--report-to`: each tracker's own package keeps scores, intervals and pictures; read back from files."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stub import checkpoint
from stub_runs import Weighted
from test_watch import write

from evalkit import trackers
from evalkit.cli.main import main
from evalkit.evaluation import evaluate
from evalkit.images import overlay
from evalkit.runs import store
from evalkit.trackers import Told, Tracker, curve_id, series_of
from evalkit.trackers.tensorboard import table
from evalkit.types import Box, Mask, Request

LOC = "<loc0256><loc0256><loc0767><loc0767>"  # the middle of an image
KEY = "things_test/coco_ap"


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def needs(package: str) -> Any:
    return pytest.mark.skipif(not has(package), reason=f"{package} is not installed: pip install {package}")


def world(folder: Path) -> Path:
    """Twelve pictures with one box each; the model finds those of the middle, all but the last's."""
    (folder / "pictures").mkdir(parents=True)
    lines = []
    for i in range(12):
        Image.new("RGB", (64, 48), (200, 200, i)).save(folder / "pictures" / f"{i}.png")
        box = [16, 12, 32, 24] if i < 11 else [0, 0, 8, 8]
        lines.append({"id": f"p{i}", "image": f"{i}.png", "thing": "cat",
                      "size": [48, 64], "objects": [{"category": "cat", "bbox": box}]})  # fmt: skip
    (folder / "things.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = folder / "things_test.yaml"
    task.write_text(
        "version: 1\nabout: things\nlicense: none\n"
        "data:\n  format: jsonl\n  split: test\n"
        "  sources: [{path: things.jsonl, images: pictures}]\n"
        "prompt: 'detect {thing}'\nparser: boxes\nmetrics: [coco_ap, detection_f1]\n"
    )
    return task


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command that runs a stub called `ft-checkpoint-40`, in an empty working folder."""
    for name in ("TENSORBOARD_LOGGING_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    base = f"sqlite:///{tmp_path}/mlflow.db"  # mlflow-skinny brings none, and its tables take seconds
    monkeypatch.setenv("MLFLOW_TRACKING_URI", base if has("sqlalchemy") else f"file://{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.chdir(tmp_path)

    def answer(request: Request) -> str:
        return f"{LOC} cat"

    monkeypatch.setattr(evaluate, "checkpoint", lambda spec, _: checkpoint(Weighted(answer), spec))
    task = world(tmp_path / "data")
    return ["run", "--tasks", str(task), "--data-root", str(task.parent), "--model", "ft-checkpoint-40"]


def scores() -> dict[str, float]:
    found = {}
    for folder in store.find([Path("results")]):
        found.update(trackers.numbers(trackers.keys(store.scores_of(folder))))
    return found


@needs("tensorboard")
def test_tensorboards_files(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2

    assert main([*words, "--report-to", "tensorboard"]) == 0
    said = capsys.readouterr().err
    assert "tensorboard: to look at what was written: tensorboard --logdir results/tensorboard\n" in said
    assert main([*words[:-1], "ft-checkpoint-80", "--report-to", "tensorboard"]) == 0
    found = EventAccumulator("results/tensorboard/ft", size_guidance={"images": 0, "tensors": 0}).Reload()
    values = scores()
    assert 0 < values[f"{KEY}"] < 1
    for name, value in values.items():
        assert [(e.step, e.value) for e in found.Scalars(name)] == [
            (n, pytest.approx(value)) for n in (40, 80)
        ]
    assert [e.value for e in found.Scalars("things_test/n")] == [12, 12]
    assert found.Scalars("things_test/seconds")[0].value >= 0
    assert [e.step for e in found.Images("things_test/samples/p0")] == [40, 80]
    first = found.Images("things_test/samples/p0")[0]
    assert (first.height, first.width) == (48, 64)
    (text, _) = found.Tensors("things_test/samples")
    assert "detect cat" in text.tensor_proto.string_val[0].decode()
    layout = layout_pb2.Layout.FromString(
        found.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    )
    (category,) = layout.category
    charts = {chart.title: chart.margin.series[0] for chart in category.chart}
    assert (charts[KEY].value, charts[KEY].lower, charts[KEY].upper) == (KEY, f"{KEY}_low", f"{KEY}_high")


@needs("mlflow")
def test_mlflows_files(words: list[str]) -> None:
    import mlflow

    assert main([*words, "--report-to", "mlflow"]) == 0
    assert main([*words[:-1], "ft-checkpoint-80", "--report-to", "mlflow"]) == 0
    client = mlflow.MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "evalkit"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("ft", "FINISHED")
    for name, value in scores().items():
        told = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        assert told == [(40, value), (80, value)]
    assert "coco_ap" in run.data.tags["signature/things_test"]
    kept = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/samples/things_test.json")
    assert kept["columns"] == ["step", *trackers.COLUMNS]
    steps = [[row[0], row[1]] for row in kept["data"]]
    assert sorted(steps) == sorted([s, f"p{i}"] for s in (40, 80) for i in range(12))


@needs("mlflow")
def test_mlflow_has_a_run_for_each_training_of_one_name(tmp_path: Path, words: list[str]) -> None:
    import mlflow

    told = Told("ft", 40, "t", "ft_t", {"t/m": 0.5}, "signed", ())
    later = replace(told, step=80)
    for place, each in (("a", told), ("b", told), ("a", later)):
        tracker = trackers.opened("mlflow", tmp_path / place / "mlflow")
        tracker.tell(each)
        tracker.close()
    client = mlflow.MlflowClient()
    runs = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == "evalkit"])
    steps = [[m.step for m in client.get_metric_history(r.info.run_id, "t/m")] for r in runs]
    assert sorted(steps) == [[40], [40, 80]]
    assert {r.info.run_name for r in runs} == {"ft"}


def test_a_curve_is_that_of_its_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = curve_id(Path("results/wandb"), "ft", "p")
    assert mine == curve_id(tmp_path / "results/wandb", "ft", "p")
    assert mine != curve_id(Path("results/wandb"), "ft", "q")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")
    assert mine != curve_id(Path("results/wandb"), "ft", "p")


def logged(data: bytes) -> Iterator[bytes]:
    """The records of what wandb keeps offline: LevelDB's log, in blocks of 32 KiB after seven bytes."""
    place, whole = 7, b""
    while place + 7 <= len(data):
        left = -place % 32768
        if left and left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


@needs("wandb")
def test_wandbs_files_without_an_account(words: list[str]) -> None:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    assert main([*words, "--report-to", "wandb"]) == 0
    wandb.teardown()  # the last of it is written when its service ends
    (file,) = [f for f in Path("results/wandb").rglob("*.wandb") if not f.parent.is_symlink()]
    told: dict[str, Any] = {}
    pictures = 0
    for record in map(Record.FromString, logged(file.read_bytes())):
        told |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
        pictures += sum(entry.path.endswith(".png") for entry in record.artifact.manifest.contents)
    assert told["checkpoint step"] == 40
    for name, value in scores().items():
        assert told[name] == value
    assert told["things_test/samples/_type"] == "table-file"
    (kept,) = file.parent.rglob("*.table.json")
    rows = json.loads(kept.read_text())
    assert rows["columns"] == list(trackers.COLUMNS)
    assert pictures == 12
    assert len(rows["data"]) == 12


@needs("trackio")
def test_trackios_files(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--report-to", "trackio"]) == 0
    assert main([*words[:-1], "ft-checkpoint-80", "--report-to", "trackio"]) == 0
    (file,) = Path("trackio").glob("*.db")
    with sqlite3.connect(file) as base:
        lines = base.execute("select run_name, step, metrics from metrics order by step").fetchall()
    told = [(run, step, json.loads(values)) for run, step, values in lines]
    assert [(run, step) for run, step, _ in told] == [("ft", 40), ("ft", 80)]
    for _, _, values in told:
        assert {k: v for k, v in values.items() if k in scores()} == scores()
        table = values["things_test/samples"]
        assert len(table["_value"]) == 12
    assert len(list(Path("trackio").rglob("*.png"))) == 24
    out = capsys.readouterr().out
    assert "Trackio" not in out


# --- without any tracker -----------------------------------------------------------------------------------


class Kept(Tracker):
    """Keeps what it is told."""

    package = "json"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.told: list[Told] = []
        self.closed = 0

    def tell(self, told: Told, numbers: bool = True) -> None:
        self.told.append(told)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    found = Kept(Path())
    monkeypatch.setattr(trackers, "opened", lambda name, folder: found)
    return found


def test_what_trackers_are_told(words: list[str], kept: Kept) -> None:
    assert main([*words, "--report-to", "wandb"]) == 0
    (told,) = kept.told
    assert (told.series, told.step, told.task) == ("ft", 40, "things_test")
    assert {k: v for k, v in told.numbers.items() if k in scores()} == scores()
    assert {"things_test/n", "things_test/seconds"} <= told.numbers.keys()
    shown = {s.id: s for s in told.samples}
    assert shown.keys() == {f"p{i}" for i in range(12)}
    one, miss = shown["p0"], shown["p11"]
    assert (one.prompt, one.target, one.answer) == ("detect cat", "cat", f"{LOC} cat")
    assert one.score is None or one.score == 1
    assert tuple(miss.picture[0, 4]) == overlay.TARGET
    assert tuple(miss.picture[12, 40]) == overlay.COLOURS[0]
    assert kept.closed == 1


def test_watch_tells_each_checkpoint_as_a_step(
    words: list[str], kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (40, 80):
        write(tmp_path / f"my-training/checkpoint-{step}")
    monkeypatch.setattr(
        evaluate, "checkpoint", lambda spec, _: checkpoint(Weighted(lambda r: f"{LOC} cat"), Path(spec).name)
    )
    assert main(["watch", "my-training", *words[1:5], "--once", "--report-to", "wandb"]) == 0
    assert [(t.series, t.step, len(t.samples)) for t in kept.told] == [
        ("my-training", 40, 12), ("my-training", 80, 12),
    ]  # fmt: skip


def test_the_same_again_is_not_told(kept: Kept) -> None:
    report = trackers.Reporter(["wandb"], Path())
    first = Told("ft", 40, "t", "t.ft", {"t/m": 0.5}, "signed", ())
    for told in (first, replace(first, task="u"), first, replace(first, numbers={"t/m": 0.6}), first):
        report(told)
    assert [(t.task, t.numbers["t/m"]) for t in kept.told] == [("t", 0.5), ("u", 0.5), ("t", 0.6), ("t", 0.5)]


def test_a_fault_of_a_tracker_is_told_and_nothing_else_ends(
    words: list[str], kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: Any, told: Told, numbers: bool = True) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Kept, "tell", broken)
    assert main([*words, "--report-to", "mlflow"]) == 0
    said = capsys.readouterr().err
    assert "warning: --report-to mlflow: OSError: no space left" in said
    assert scores()


def test_what_is_not_there_is_said_before_anything_runs(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--report-to", "tensorbord"]) == 2
    assert "--report-to tensorbord: no such tracker; did you mean tensorboard?" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert main([*words, "--report-to", "trackio"]) == 2
    assert "--report-to trackio: its package is not installed; pip install trackio" in capsys.readouterr().err
    folder = words[2]
    assert main(["watch", ".", "--tasks", folder, "--once", "--report-to", "trackio"]) == 2
    assert not Path("results").exists()


def test_none_is_no_tracker(words: list[str], kept: Kept) -> None:
    assert main([*words, "--report-to", "none"]) == 0
    assert not kept.told


@pytest.mark.parametrize(
    ("model", "found"),
    [("ft-checkpoint-40", ("ft", 40)), ("checkpoint-7", ("my-training", 7)), ("ft.step_9", ("ft", 9)),
     ("later", ("later", 0)), ("paligemma2-3b-pt-224", ("paligemma2-3b-pt-224", 0))],
)  # fmt: skip
def test_a_models_name_says_curve_and_step(model: str, found: tuple[str, int]) -> None:
    assert series_of(model, "my-training") == found


def test_masks_and_objects_are_drawn() -> None:
    grey = np.full((10, 20, 3), 100, np.uint8)
    target = {"size": (10, 20), "box": (0, 0, 10, 10), "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]}
    (mask,) = overlay.of_target(target)
    assert isinstance(mask, Mask)
    found = overlay.drawn(grey, [], [mask])
    assert tuple(found[5, 5]) == tuple((100 + c) // 2 for c in overlay.TARGET)
    assert tuple(found[5, 15]) == (100, 100, 100)
    assert (grey == 100).all()
    several = {"size": (10, 20), "objects": [
        {"category": "a", "box": (0, 0, 4, 4), "iscrowd": 0},
        {"category": "b", "box": (0, 0, 9, 9), "iscrowd": 1},
    ]}  # fmt: skip
    (box,) = overlay.of_target(several)
    assert isinstance(box, Box)
    assert box.label == "a"
    assert overlay.of_target(["yes"]) == overlay.of_target({"a": 1}) == ()


def test_the_tables_cells_are_text() -> None:
    picture = np.zeros((1, 1, 3), np.uint8)
    text = table([trackers.Shown("a|b", "what\nis `it`", "<loc>", "x", 0.5, picture)])
    assert text.splitlines()[2] == r"| a\|b | what is \`it\` | \<loc\> | x | 0.500 |"
