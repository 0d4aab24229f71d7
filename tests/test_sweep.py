"""Sweeps: axes and prompts, tests that are held together, and runs that stop where they are decided."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import own_world
import pytest
from scipy.special import ndtr
from stub import checkpoint, colours
from stub_runs import Weighted, chance, right

import evalkit
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.evaluation import evaluate
from evalkit.report import sweep as report
from evalkit.stats.looks import Looks
from evalkit.tasks import grid, loader
from evalkit.types import Request


def test_prompts_are_varied_as_people_write_them() -> None:
    assert grid.variants("answer en {question}") == [
        "{question}", "answer en {question:lower}", "answer en {question}\n",
    ]  # fmt: skip
    assert grid.variants("Detect {classes}")[0] == "detect {classes:lower}"
    assert grid.variants("caption en") == ["caption en\n"]
    assert grid.variants("{question}")[0] == "answer en {question}"


def test_a_field_in_lower_case() -> None:
    task = dataclasses.replace(loader.load("vqav2_val"), prompt="answer en {question:lower}")
    assert loader.prompt(task, {"question": "Is it RED?"}) == "answer en is it red?"
    with pytest.raises(UserError, match="lone"):
        loader.prompt(dataclasses.replace(task, prompt="{question:upper}"), {"question": "x"})


@pytest.mark.parametrize(
    ("over", "models", "prompts", "why"),
    [
        ([], ["m"], [], "say what is varied"),
        (["decode.beams"], ["m"], [], "at least two values, as in --over decode.beams=A,B"),
        (["decode.beams=3"], ["m"], [], "at least two values"),
        (["precisoin"], ["m"], [], "precision"),
        (["resolution"], ["m"], [], "a checkpoint has one; name checkpoints"),
        (["prompt"], ["m", "n"], [], "are the values of --over resolution"),
        (["prompt=a,b"], ["m"], [], "say texts with --prompt"),
    ],
)
def test_axes_without_values_are_refused(over: Any, models: Any, prompts: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        grid.axes(over, models, prompts)


def test_axes_and_settings() -> None:
    task = loader.load("vqav2_val")
    found = grid.axes(["precision", "decode.beams=1,3", "resolution"], ["a", "b"], ["ask {question}"])
    some = grid.settings(task, found, ["ask {question}"])
    assert len(some) == 2 * 2 * 2 * 2
    assert some[0] == grid.Setting(
        ("float32", "1", "a", repr(task.prompt)), {"decode.beams": "1"}, {"dtype": "float32"}, "a"
    )
    assert some[-1].task == {"decode.beams": "3", "prompt": "ask {question}"}
    with pytest.raises(UserError, match="at most 64"):
        grid.settings(task, grid.axes([f"decode.beams={','.join(map(str, range(70)))}"], ["m"], []), [])


def test_a_value_may_be_what_the_task_has() -> None:
    task = loader.load("coco_detection_val2017")
    some = grid.settings(task, grid.axes(["classes_per_call", "quantize=default,int8"], ["m"], []), [])
    assert [s.task for s in some[::2]] == [{}, {"classes_per_call": "1"}, {"classes_per_call": "5"}]
    assert [s.model for s in some[:2]] == [{}, {"quantize": "int8"}]


def test_nothing_moves_where_nothing_is_different() -> None:
    """Twelve settings, three looks on growing samples, all null: a false alarm in 5 % of sweeps,
    give or take two standard errors."""
    rng, alarms, sweeps = np.random.default_rng(0), 0, 200
    for _ in range(sweeps):
        looks = Looks(12)
        base = rng.normal(size=1600)  # what all are compared with
        for setting in range(12):
            moved = rng.normal(size=1600) - base
            for n in (100, 400, 1600):
                z = abs(moved[:n].sum()) / np.sqrt(2 * n)
                looks.add(setting, 2 * float(ndtr(-z)), 3)
        alarms += min(looks.adjusted().values()) <= 0.05
    assert alarms <= sweeps * 0.05 + 2 * np.sqrt(sweeps * 0.05 * 0.95)


def test_what_was_decided_stays_so() -> None:
    looks = Looks(3)
    looks.add("a", 0.001, 2)
    assert looks.adjusted() == {"a": pytest.approx(0.006)}
    looks.add("b", 0.5, 2)
    looks.add("a", 0.9, 2)
    assert looks.adjusted()["a"] == pytest.approx(0.006)


# --- runs -------------------------------------------------------------------------------------------------


def answer(request: Request) -> str:
    """Wrong at 40 % of the samples where the prompt is bare."""
    if request.prompt.startswith("detect"):
        return ""
    bare = "answer en" not in request.prompt
    return "grey" if chance(request.id) < (0.4 if bare else 0.05) else right(request)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("colours") / "data", questions=1, images=160)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, Any, Weighted]]:
    """Every checkpoint that is opened: what it was called, the options, the model."""
    opened: list[tuple[str, Any, Weighted]] = []

    def stub(spec: str, options: Any) -> object:
        model = Weighted(answer, f"{spec} {options.dtype}")
        opened.append((spec, options, model))
        return checkpoint(model, spec)

    monkeypatch.setattr(evaluate, "checkpoint", stub)
    monkeypatch.chdir(tmp_path)
    return opened


def asked(loaded: list[tuple[str, Any, Weighted]]) -> int:
    return sum(len(model.asked) for _, _, model in loaded)


def test_what_is_decided_stops_and_the_rest_goes_on(
    data: Path, loaded: list[tuple[str, Any, Weighted]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "--model", "m", "--tasks", str(data), "--data-root", str(data.parent)]
    words += ["--over", "prompt", "--first", "40"]
    assert main(words) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    bare = next(line for line in lines if "'{question}'" in line)
    assert bare.split()[1] == "40"
    assert bare.endswith("worse")
    assert sum("identical texts" in line and " 160 " in line for line in lines) == 2
    assert any("moves the score by -" in line and "'{question}'" in line for line in lines)
    assert "look 2 of 2: 1 of 3 settings decided" in shown.err
    count = asked(loaded)
    assert count == 3 * 160 + 40
    found = evalkit.sweep(  # everything is there: nothing is asked again
        "m", str(data), data_root=data.parent, over=["prompt"], first=40, output="map.json"
    )
    assert asked(loaded) == count
    content = json.loads(Path("map.json").read_text())
    assert [p["n"] for p in content["points"]] == [160, 40, 160, 160]
    assert content["points"][1]["difference_high"] < 0
    assert content["points"][0]["difference"] is None
    assert content["moved"] == [content["points"][1]["run"]]
    assert report.text_of(found, "html").startswith("<!doctype html>")
    assert report.text_of(found, "csv").startswith("task,metric,prompt,value")
    assert report.text_of(found, "md").count("| worse |") == 1


def test_two_axes_are_a_grid(data: Path, loaded: list[tuple[str, Any, Weighted]]) -> None:
    found = evalkit.sweep(
        "m", str(data), data_root=data.parent, over=["precision", "decode.max_new_tokens=8,9"],
        prompt=["answer en {question}", "{question}"], limit=40,
    )  # fmt: skip
    assert found.axes == ("precision", "decode.max_new_tokens", "prompt")
    assert len(found.points) == 8
    assert [p.verdict(found.margin) for p in found.points].count("worse") == 4
    assert {p.values[2] for p in found.moved} == {"'{question}'"}
    assert found.changed(found.points[-1]).keys() == set(found.axes)
    assert {options.dtype for _, options, _ in loaded} == {"float32", "bfloat16"}
    assert len(loaded) == 2  # each is loaded once for all its tasks


def test_checkpoints_are_values_of_resolution(data: Path, loaded: list[tuple[str, Any, Weighted]]) -> None:
    found = evalkit.sweep(["a", "b"], str(data), data_root=data.parent, over=["resolution"], limit=20)
    assert [p.values for p in found.points] == [("a",), ("b",)]
    assert found.points[1].verdict(found.margin) == "identical texts"


def test_settings_that_mean_the_same_are_one_run(data: Path, loaded: list[tuple[str, Any, Weighted]]) -> None:
    found = evalkit.sweep(
        "m", str(data), data_root=data.parent, over=["decode.text_length=32,0x20"], limit=20
    )  # fmt: skip
    assert found.points[0].run == found.points[1].run
    assert asked(loaded) == 20


def test_settings_of_a_mean_over_groups_have_their_own_scores(
    data: Path, loaded: list[tuple[str, Any, Weighted]]
) -> None:
    """They share a run's texts."""
    folder = data.parent.parent / "groups"
    folder.mkdir()
    (folder / "pictures").symlink_to(data.parent / "pictures")
    lines = [json.loads(line) for line in (data.parent / "colours.jsonl").read_text().split("\n")[:8]]
    told = [{**line, "group": "ab"[n > 0], "answers": ["blue"]} for n, line in enumerate(lines)]
    (folder / "colours.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    (folder / "t.yaml").write_text(data.read_text())
    found = evalkit.sweep(
        "m", str(folder / "t.yaml"), data_root=folder, over=["group_mean=false,true"]
    )  # fmt: skip
    assert found.points[0].run == found.points[1].run
    assert [round(p.score.value, 3) for p in found.points] == [0.5, 0.714]


def test_data_of_ones_own_is_swept_as_run_takes_it(
    tmp_path: Path, loaded: list[tuple[str, Any, Weighted]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A COCO file becomes the task that `run --data` makes; the sweep's runs are such runs."""
    own_world.coco(tmp_path / "mine", polygons=False)
    words = ["--model", "m", "--data", "mine", "--limit", "3"]
    assert main(["sweep", *words, "--over", "classes_per_call=default,1"]) == 0
    out, err = capsys.readouterr()
    assert "\nmine  coco_ap  default " in out
    assert "cat" in err  # what was recognised is said
    kept = sorted(Path("results").glob("mine.m.*"))
    assert len(kept) == 2
    assert main(["run", *words]) == 0
    assert sorted(Path("results").glob("mine.m.*")) == kept
    assert main(["sweep", "--model", "m", "--over", "prompt"]) == 2
    assert "sweep: name tasks with --tasks, or data of your own with --data" in capsys.readouterr().err


def test_mistakes_are_said_before_anything_runs(
    data: Path, loaded: list[tuple[str, Any, Weighted]], capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["sweep", "--model", "m", "--tasks", str(data), "--data-root", str(data.parent)]
    for words, why in (
        (["--over", "precision=float32,fp8"], "--dtype fp8: no such dtype"),
        (["--over", "decode.beems=1,2"], "beems"),
        (["--over", "prompt", "--output", "map.yaml"], "a sweep is written as"),
        (["--over", "prompt", "--first", "0"], "is below 1"),
    ):
        assert main(base + words) == 2
        assert why in capsys.readouterr().err
    assert asked(loaded) == 0
