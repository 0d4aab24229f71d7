"""What a first day stumbles over: small things that are said, or that work without being asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from stub import Stub, colours

import evalkit
from evalkit import demo
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.files import shipped
from evalkit.tasks import loader


def absolute(folder: Path) -> Path:
    """A task whose source has absolute paths, in a folder that is no root."""
    colours(folder / "data")
    path = folder / "mine_test.yaml"
    text = (folder / "data/colours_test.yaml").read_text()
    for name in ("colours.jsonl", "pictures"):
        text = text.replace(name, str(folder / "data" / name))
    path.write_text(text)
    return path


def test_absolute_paths_need_no_root(model: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = absolute(tmp_path)
    assert main(["data", str(path), "--check"]) == 0
    assert "no data root" not in capsys.readouterr().out
    assert main(["show", str(path)]) == 0
    assert "found      20 samples" in capsys.readouterr().out
    assert main(["run", "--model", "m", "--tasks", str(path)]) == 0
    assert "exact_match" in capsys.readouterr().out
    (tmp_path / "data/colours.jsonl").unlink()
    assert main(["run", "--model", "m", "--tasks", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"missing: {tmp_path}/data/colours.jsonl" in said
    assert "no data root is set" not in said


def test_absolute_paths_do_not_open_the_working_folder(
    model: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No root is not the working folder: what lies there is outside, too."""
    path = absolute(tmp_path / "task")
    lines = [json.loads(x) for x in (tmp_path / "task/data/colours.jsonl").read_text().splitlines()]
    (tmp_path / "here.png").write_bytes((tmp_path / "task/data/pictures/0.png").read_bytes())
    lines[0]["image"] = str(tmp_path / "here.png")
    (tmp_path / "task/data/colours.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert main(["data", str(path), "--check"]) == 1
    assert "is outside of the data roots" in capsys.readouterr().out


def test_a_limit_over_a_full_run_is_said(
    model: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours(tmp_path / "data")
    words = ["run", "--model", "m", "--tasks", "data/colours_test.yaml", "--data-root", "data"]
    assert main(words) == 0
    assert "asked for" not in capsys.readouterr().err
    assert main([*words, "--limit", "3"]) == 0
    said = capsys.readouterr().err
    assert "6 of these were asked for, and no run is made smaller: the score is of all 20" in said
    assert main([*words, "--limit", "3", "--output-path", "other"]) == 0
    assert "asked for" not in capsys.readouterr().err
    assert main([*words, "--limit", "10", "--output-path", "other"]) == 0  # all of them
    assert "asked for" not in capsys.readouterr().err


@pytest.mark.parametrize("overrides", [[], ["--set", "decode.max_new_tokens=3"]])
def test_show_yaml_is_a_file_to_copy(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From any working folder, as after `pip install`: the path that is said is there."""
    monkeypatch.chdir(tmp_path)
    assert main(["show", "docvqa_val", "--yaml", *overrides]) == 0
    out = capsys.readouterr().out
    named = out.splitlines()[0].removeprefix("# A copy of ").split(".yaml")[0] + ".yaml"
    assert Path(named).is_file()
    assert yaml.safe_load(out) == yaml.safe_load((shipped("tasks") / "docvqa_val.yaml").read_text())
    assert ("--set is not in it: decode.max_new_tokens" in out) == bool(overrides)
    Path("my_docvqa_val.yaml").write_text(out)
    assert loader.load("my_docvqa_val.yaml").name == "my_docvqa_val"
    assert main(["show", "docvqa_val"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("file ")]
    assert Path(line.split(maxsplit=1)[1]).is_file()


def test_check_names_the_model_once(model: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colours(tmp_path / "data")
    words = ["data/colours_test.yaml", "--data-root", "data"]
    assert main(["run", "--model", "m", "--tasks", *words]) == 0
    assert main(["baseline", "save", "results", "base.json"]) == 0
    capsys.readouterr()
    assert (
        main(
            ["check", "candidate", "--baseline", "base.json", "--include-path", "data", "--data-root", "data"]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert [x for x in err.splitlines() if x.startswith("candidate")] == ["candidate: a stub"]
    assert len([line for line in out.splitlines() if line.startswith("candidate")]) == 1


# --- predictions made elsewhere, kept as a run ----------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that score a file with an answer to each of 20 questions."""
    colours(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    lines = [json.loads(x) for x in Path("data/colours.jsonl").read_text().splitlines()]
    Path("their answers.jsonl").write_text(
        "".join(json.dumps({"id": x["id"], "text": x["answers"][0]}) + "\n" for x in lines)
    )
    return ["score", "--task", "data/colours_test.yaml", "--data-root", "data",
            "--predictions", "their answers.jsonl"]  # fmt: skip


def test_predictions_are_kept_as_a_run(
    elsewhere: list[str], model: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(elsewhere) == 0
    assert not Path("results").exists()
    assert main([*elsewhere, "--output-path", "results"]) == 0
    assert "kept as the run results/colours_test.their-answers." in capsys.readouterr().err
    (run,) = evalkit.load("results")
    assert (run.model, run.scores["exact_match"].value) == ("their-answers", 1.0)
    assert run.scores["exact_match"].coverage == "all"
    assert main(["run", "--model", "m", "--tasks", "data/colours_test.yaml", "--data-root", "data"]) == 0
    capsys.readouterr()
    theirs, ours = sorted(Path("results").iterdir(), key=lambda p: "their" not in p.name)
    assert main(["compare", str(theirs), str(ours)]) == 0  # the images are the same ones, by content
    assert "A their-answers    B m" in capsys.readouterr().out
    assert main(["score", str(theirs)]) == 0
    assert main(["export", str(theirs), "--to", "csv", "--data-root", "data"]) == 0
    assert main([*elsewhere, "--output-path", "results"]) == 0  # the same again
    assert len(list(Path("results").iterdir())) == 2


def test_predictions_of_a_part_are_incomplete(
    elsewhere: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("their answers.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:7]))
    (run,) = evalkit.score(
        task="data/colours_test.yaml", data_root="data", predictions=path, output_path="out", name="theirs"
    )
    score = run.scores["exact_match"]
    assert (run.model, score.n, score.coverage) == ("theirs", 7, "incomplete")
    assert "has no prediction for" in json.dumps(run.record["bad_images"])


def test_predictions_need_no_images(elsewhere: list[str]) -> None:
    for picture in Path("data/pictures").iterdir():
        picture.unlink()
    assert main([*elsewhere, "--output-path", "out"]) == 0
    (run,) = evalkit.load("out")
    assert run.scores["exact_match"].value == 1.0


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--name", "a/b", "--output-path", "out"], "--name: 'a/b': write letters"),
     (["--name", "", "--output-path", "out/x"], "--name: is empty; say what it is, or leave it out")],
)  # fmt: skip
def test_names_of_kept_predictions(
    elsewhere: list[str], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*elsewhere, *words]) == 2
    assert said in capsys.readouterr().err


def test_runs_are_scored_where_they_are(elsewhere: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*elsewhere, "--output-path", "out"]) == 0
    assert main(["score", "out", "--output-path", "other"]) == 2
    assert "--output-path other: goes with --predictions" in capsys.readouterr().err


# --- the precision of the checkpoint ---------------------------------------------------------------------


def test_dtype_auto_is_how_the_weights_are_stored(capsys: pytest.CaptureFixture[str]) -> None:
    from evalkit.models.paligemma import PaliGemma

    stored = str(demo.checkpoint("later"))
    assert PaliGemma(stored, dtype="auto").dtype == "bfloat16"
    assert PaliGemma(stored).dtype == "float32"
    assert PaliGemma(stored, dtype="auto").identity() == PaliGemma(stored, dtype="bfloat16").identity()
    assert PaliGemma(stored, dtype="auto", kv_dtype="bfloat16").kv_dtype == "bfloat16"
    with pytest.raises(UserError, match="--kv-dtype float32: the cache cannot be wider"):
        PaliGemma(stored, dtype="auto", kv_dtype="float32")
    words = ["run", "--model", "demo:later", "--tasks", "shapes_vqa_test", "--limit", "2", "--dry-run"]
    for dtype in ("--dtype=auto", "--model_args=dtype=auto"):
        assert main([*words, dtype]) == 0
        assert "run in bfloat16" in capsys.readouterr().err
