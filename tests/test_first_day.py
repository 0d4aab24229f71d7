"""What a first day stumbles over: small things that are said, or that work without being asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from stub import Stub, colours

from evalkit.cli.main import main
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
    assert out.count("candidate") == 1
