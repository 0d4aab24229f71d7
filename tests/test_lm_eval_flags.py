"""Flags as people know them from lm-evaluation-harness: they do what is meant, or say what does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stub import colours

import evalkit
from evalkit.cli.main import main
from evalkit.tasks import dataset, loader


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task of 20 images and two questions each, and answers to all."""
    task = colours(tmp_path / "data", images=20)
    samples = dataset.DatasetCache([task.parent]).get(loader.load(str(task))).samples
    (tmp_path / "said.jsonl").write_text(
        "".join(json.dumps({"id": s.id, "text": "red"}) + "\n" for s in samples)
    )
    monkeypatch.chdir(tmp_path)
    return task


def run(task: Path | str, *words: str) -> int:
    return main(["run", "--model", "replay:said.jsonl", "--data-root", "data", "--tasks", str(task), *words])


def only(folder: Path) -> dict[str, object]:
    (file,) = folder.rglob("run.json")
    found: dict[str, object] = json.loads(file.read_text())
    return found


def test_a_share_of_the_images(world: Path) -> None:
    assert run(world, "--limit", "0.1", "--log_samples") == 0
    assert only(Path("results"))["asked"] == {"limit": 2, "seed": 0, "ids": None}
    assert run(world, "--limit", "2", "--output_path", "again") == 0
    assert [p.name for p in Path("results").iterdir()] == [p.name for p in Path("again").iterdir()]


@pytest.mark.parametrize("limit", ["0", "-3", "1.5", "nan"])
def test_limits_that_are_none(world: Path, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, f"--limit={limit}") == 2
    assert "--limit" in capsys.readouterr().err


def test_gen_kwargs_are_settings_of_the_task(world: Path) -> None:
    assert run(world, "--gen_kwargs", "max_new_tokens=7,do_sample=False", "--dry-run") == 0
    said = "max_gen_toks=9,temperature=0"
    runs = evalkit.run("replay:said.jsonl", str(world), data_root="data", gen_kwargs=said)
    overrides = runs[0].record["task_file"]["overrides"]
    assert overrides == {"decode.max_new_tokens": "9", "decode.temperature": "0"}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("do_sample=True", "say temperature=0.7 instead"),
        ("max_new_token=7", "no such setting; did you mean max_new_tokens"),
        ("max_new_tokens", "write key=value"),
    ],
)
def test_gen_kwargs_that_are_refused(
    world: Path, said: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(world, "--gen_kwargs", said) == 2
    assert why in capsys.readouterr().err


def test_a_flag_of_another_harness_says_what_does_its_work(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(world, "--wandb_args", "project=x")
    assert ended.value.code == 2
    assert "--wandb-args: no such flag; --report-to wandb reports to" in capsys.readouterr().err


def test_data_is_not_taken_for_its_root(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "m", "--baseline", "t", "--data", "mine"])
    assert ended.value.code == 2
    assert "--data: no such flag of this command; `evalkit data FOLDER --save-task" in capsys.readouterr().err


def test_task_files_by_a_shells_pattern_and_by_folder(world: Path) -> None:
    other = world.with_name("other.yaml")
    other.write_text(world.read_text())
    assert run(world, str(other)) == 0  # `--tasks data/*.yaml`
    assert len(list(Path("results").iterdir())) == 2
    assert run("data", "--output_path", "again") == 0
    assert len(list(Path("again").iterdir())) == 2


def test_a_folder_without_tasks(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert run("empty") == 2
    assert "--tasks: empty: the folder holds no .yaml file" in capsys.readouterr().err


def test_score_and_data_take_settings(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a model, the same answers by another metric."""
    task, said = str(world), ["--data-root", "data", "--set", "metrics=[ceer]"]
    assert main(["score", "--task", task, "--predictions", "said.jsonl", *said]) == 2
    assert "metrics: no 'ceer'" in capsys.readouterr().err
    said[-1] = "metrics=[exact_match(lowercase=False)]"
    assert main(["score", "--task", task, "--predictions", "said.jsonl", *said]) == 0
    assert "exact_match(lowercase=False)" in capsys.readouterr().out
    run(world)
    assert main(["score", "results", *said]) == 0
    assert "exact_match(lowercase=False)" in capsys.readouterr().out
    assert main(["data", task, "--data-root", "data", "--set", "data.sources=[{path: gone.jsonl}]"]) == 1
    assert "gone.jsonl" in capsys.readouterr().out


def test_scores_by_short_names_and_rows_by_id(world: Path) -> None:
    (run,) = evalkit.run(
        "replay:said.jsonl",
        str(world),
        data_root="data",
        set={"metrics": "[exact_match(lowercase=True), anls, anls(threshold=0.2)]"},
    )
    assert run.scores["exact_match"] == run.scores["exact_match(lowercase=True)"]
    assert run.scores["anls"].metric == "anls"
    with pytest.raises(
        KeyError, match=r"cider: no such metric in this run; there are exact_match\(lowercase=True\)"
    ):
        run.scores["cider"]
    frame = run.samples()
    assert list(frame.id) == list(frame.index)
    assert frame.loc[frame.id.iloc[0]].text == "red"


def test_tasks_are_found_by_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["list", "tasks", "docvqa", "val"]) == 0
    assert capsys.readouterr().out.startswith("docvqa_val  Questions about scanned documents")
    monkeypatch.setattr("evalkit.cli.tasks.screen_width", lambda: 60)
    assert main(["list", "tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "vqa" in lines
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  ") for line in lines) >= 126
    assert main(["list", "tasks", "zebra"]) == 1
    assert main(["list", "metrics", "anls"]) == 2


def test_a_task_file_to_copy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["show", "docvqa_val", "--yaml"]) == 0
    copy = tmp_path / "mine.yaml"
    copy.write_text(capsys.readouterr().out)
    assert loader.load(str(copy)).metrics == loader.load("docvqa_val").metrics
