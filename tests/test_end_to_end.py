"""A real PaliGemma (random, tiny) through the whole command line, killed and continued."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from stub import colours

from evalkit.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("models") / "tiny", image_size=28)


def words(task: Path, model: Path, output: Path) -> list[str]:
    return ["run", "--model", str(model), "--tasks", str(task), "--data-root", str(task.parent),
            "--output-path", str(output), "--batch-size", "2", "--set",
            "decode.max_new_tokens=4"]  # fmt: skip


def test_killed_at_random_moments_it_ends_with_the_same_files(model: Path, tmp_path: Path) -> None:
    task = colours(tmp_path / "data with a space", images=30)
    assert main(words(task, model, tmp_path / "whole")) == 0
    command = [sys.executable, "-m", "evalkit", *words(task, model, tmp_path / "killed")]
    root = Path(__file__).parent.parent
    rng = random.Random(int(os.environ.get("EVALKIT_KILL_SEED", "0")))
    kills = int(os.environ.get("EVALKIT_KILLS", "2"))
    done = 0
    while done < kills:
        journal = next((tmp_path / "killed").glob("*/predictions/*.jsonl"), None)
        before = journal.stat().st_size if journal else 0
        process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None:  # until it has written something, then a random moment later
            journal = next((tmp_path / "killed").glob("*/predictions/*.jsonl"), None)
            if journal and journal.stat().st_size > before:
                break
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1
    assert subprocess.run(command, cwd=root, check=False, capture_output=True).returncode == 0
    (whole,), (killed,) = (tmp_path / "whole").iterdir(), (tmp_path / "killed").iterdir()
    assert whole.name == killed.name
    assert (whole / "scores.json").read_bytes() == (killed / "scores.json").read_bytes()
    assert (whole / "rows.jsonl").read_bytes() == (killed / "rows.jsonl").read_bytes()
    assert len(json.loads((killed / "run.json").read_text())["sessions"]) > 1


def test_ask(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    colours(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "data" / "pictures" / "3.png"
    assert main(["ask", str(picture), "detect cat", "--model", str(model), "--max-new-tokens", "5"]) == 0
    out, err = capsys.readouterr()
    assert out.strip()
    assert "tokens  [" in err
    assert "the prompt is empty" not in err
    for empty in ("", " ", "<image>"):
        assert main(["ask", str(picture), empty, "--model", str(model), "--max-new-tokens", "1"]) == 0
        assert "the prompt is empty: the model was shown the picture alone" in capsys.readouterr().err
    assert main(["ask", "none.png", "detect cat", "--model", str(model)]) == 2
    assert main(["ask", str(picture), "detect cat", "--model", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--resolution", "224"], "28"),
        (["--dtype", "int3"], "--dtype"),
        (["--batch-size", "none"], "--batch-size none"),
        (["--model-args", "colour=red"], "--model_args colour=red: unknown"),
    ],
)
def test_a_model_that_cannot_be_run_as_asked(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    task = colours(tmp_path / "data")
    try:
        status = main([*words(task, model, tmp_path / "out"), *more])
    except SystemExit as stop:
        status = int(str(stop.code))
    assert status == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
