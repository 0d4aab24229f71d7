"""The command line as a person meets it: what is printed, what is refused, with which status."""

from __future__ import annotations

import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from stub import Stub, checkpoint, colours
from stub_runs import go, wrong_at

from evalkit.cli.main import main
from evalkit.evaluation import evaluate
from evalkit.published import counts
from evalkit.runs import store
from evalkit.tasks import loader


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stub:
    """Every `--model` is a stub that says red; the working folder is empty."""
    model = Stub(lambda request: "red")
    monkeypatch.setattr(evaluate, "checkpoint", lambda spec, _: checkpoint(model, spec))
    monkeypatch.chdir(tmp_path)
    return model


def run(task: Path, *more: str) -> int:
    return main(["run", "--model", "m", "--tasks", str(task), "--data-root", str(task.parent), *more])


def test_run_prints_plan_scores_and_table(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = colours(tmp_path / "data")
    assert run(task) == 0
    out, err = capsys.readouterr()
    assert "colours_test      20 samples  224 px  paper  to run" in err
    assert "exact_match 50.0 [" in err
    assert "colours_test  exact_match  20" in out
    assert run(task) == 0
    assert "done" in capsys.readouterr().err
    assert len(stub.asked) == 20


def test_dry_run_says_what_it_would_cost(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = colours(tmp_path / "data")
    assert run(task, "--dry-run") == 0
    out, _ = capsys.readouterr()
    assert (
        out
        == "m: 20 samples, 10 images, time unknown: this checkpoint has not run here yet, 14.0 kB on disk\n"
    )
    assert stub.asked == []
    assert not Path("results").exists()
    run(task)
    capsys.readouterr()
    run(task, "--dry-run")
    assert capsys.readouterr().out.startswith("m: 0 samples, 0 images")


def test_flags_as_lm_eval_has_them(stub: Stub, tmp_path: Path) -> None:
    task = colours(tmp_path / "data")
    words = ["--model", "m", "--model_args", "dtype=bfloat16", "--tasks", str(task), "--batch_size", "4"]
    words += [
        "--limit",
        "2",
        "--output_path",
        "here",
        "--device",
        "cpu",
        "--seed",
        "1",
        "--num_fewshot",
        "0",
        f"--data_root={task.parent}",
    ]
    assert main(words) == 0
    assert len(stub.asked) == 4
    assert list(Path("here").glob("*/scores.json"))


def test_prompt_and_set_are_stamped(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data")
    assert run(task, "--prompt", "{question} please", "--set", "decode.max_new_tokens=3") == 0
    out, _ = capsys.readouterr()
    assert "~ prompt or settings" in out
    (folder,) = Path("results").iterdir()
    content = json.loads((folder / "run.json").read_text())
    assert content["identity"]["task"]["prompt"] == "{question} please"
    assert content["identity"]["task"]["decode"]["max_new_tokens"] == 3


def test_table_in_four_forms(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(colours(tmp_path / "data"))
    for form, start in (("terminal", "task  "), ("md", "| task |"), ("csv", "task,metric"), ("json", "[\n")):
        capsys.readouterr()
        assert main(["table", "results", "--format", form]) == 0
        assert capsys.readouterr().out.startswith(start)
    assert main(["table", "--output", "board/table.md", "--format", "md"]) == 0
    assert Path("board/table.md").read_text().startswith("| task |")
    assert main(["list", "runs"]) == 0
    assert "exact_match 50.0" in capsys.readouterr().out


def test_score_again_gives_the_same(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data")
    run(task)
    (scores,) = Path("results").glob("*/scores.json")
    before = scores.read_bytes()
    scores.unlink()
    assert main(["score", "results"]) == 0
    assert scores.read_bytes() == before
    assert "50.0" in capsys.readouterr().out


def test_predictions_made_elsewhere(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data")
    lines = [
        json.dumps({"id": f"q{i}-{j}", "text": "red" if i % 2 else "blue"})
        for i in range(10)
        for j in range(2)
    ]
    words = ["score", "--task", str(task), "--data-root", str(task.parent), "--predictions", "p.jsonl"]
    Path("p.jsonl").write_text("\n".join(lines))
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "100.0" in out
    assert "coverage:all" in err
    Path("p.jsonl").write_text("\n".join(lines[:-1]))
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "!" in out
    assert "1 of 20 samples have no prediction, the first is q9-1" in err
    for bad, sentence in (
        (lines[0] + "\n" + lines[0], "line 2: id 'q0-0' is repeated"),
        ('{"id": "q77", "text": ""}', "line 1: the task has no sample 'q77'"),
        ('{"id": "q0-0"}', 'line 1: no "text" among its keys'),
        ("{", "line 1: is not valid JSON"),
        ("3", 'line 1: no "id"'),
        ("[]", "nothing to score"),
    ):
        Path("p.jsonl").write_text(bad)
        assert main(words) == 2
        assert sentence in capsys.readouterr().err


def test_show_and_data(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data")
    assert main(["show", str(task), "--data-root", str(task.parent)]) == 0
    out = capsys.readouterr().out
    assert "'answer en question 0?'" in out
    assert "exact_match(lowercase=False" in out
    assert main(["data", str(task), "--data-root", str(task.parent)]) == 0
    assert "found below" in capsys.readouterr().out
    assert main(["data", "docvqa_val"]) == 1
    assert "get it: https://" in capsys.readouterr().out
    assert main(["show", "docvqa_val"]) == 0
    assert "sample     none: docvqa_val: no data root is set" in capsys.readouterr().out


def test_data_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data", questions=1, images=10)
    words = ["data", str(task), "--data-root", str(task.parent), "--check"]
    assert main(words) == 0
    assert "10 samples; no official count is known" in capsys.readouterr().out
    text = task.read_text()
    task.write_text(text.replace("split: test\n", "split: test\n  count: 10\n"))
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "right    10 samples, the official count" in out
    assert "right    10 image files, none is missing" in out
    task.write_text(text.replace("split: test\n", "split: test\n  count: 12\n"))
    (task.parent / "pictures" / "3.png").unlink()
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "wrong    10 samples, officially 12 (-2)\n" in out
    assert "missing  1 of 10 image files is not there: " in out
    (task.parent / "colours.jsonl").write_text("{")
    assert main(words) == 1
    assert "wrong    " in capsys.readouterr().out


def test_data_check_names_the_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data", questions=491, images=1)
    text = task.read_text().replace("split: test\n", "split: test\n  count: 540\n")
    other = task.with_name("countbenchqa_540_test.yaml")
    other.write_text(text)
    assert main(["data", str(other), "--data-root", str(task.parent), "--check"]) == 1
    assert "491 samples, officially 540 (-49); 491 is the rows whose" in capsys.readouterr().out


def test_as_many_as_the_papers_had_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data", questions=1, images=10)
    text = task.read_text()
    words = [str(task), "--data-root", str(task.parent)]
    for told, status, said in (
        (
            "count: 12\n  published_count: 10",
            0,
            "right    10 samples, as many as the papers had, officially 12\n",
        ),
        ("published_count: 10", 0, "right    10 samples, as many as the papers had\n"),
        ("count: 10\n  published_count: 8", 0, "right    10 samples, the official count; published on 8\n"),
        ("count: 12\n  published_count: 8", 1, "wrong    10 samples, officially 12 (-2); published on 8\n"),
        ("published_count: 8", 0, "count    10 samples; no official count is known; published on 8\n"),
    ):
        task.write_text(text.replace("split: test\n", f"split: test\n  {told}\n"))
        assert main(["data", *words, "--check"]) == status
        assert said in capsys.readouterr().out
    task.write_text(text.replace("split: test\n", "split: test\n  count: 12\n  published_count: 10\n"))
    folder = go(task, tmp_path / "out", "m", wrong_at(0.1))
    assert main(["table", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "§ as many samples as the papers' own copy has, not the official number" in out
    assert "incomplete" not in out
    assert main(["show", *words]) == 0
    assert "12 samples officially, published on 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "count", "said"),
    [
        ("refcoco_unc_val", 8811, "mixed with google val"),
        ("refcoco_unc_seg_mix_val", 8811, "mixed with google val"),
        ("refcocog_umd_val", 7573, "mixed with google val"),
        ("pope_test", 8910, "2023-10-09"),
        ("countbenchqa_540_test", 490, "big_vision"),
        ("countbenchqa_test", 491, "without three channels"),
        ("cococap_val", 40504, "val2014"),
        ("vsr_zeroshot_test", 616, "README"),
        ("xgqa_test", 77328, "few-shot test"),
        ("vqav2_val", 107394, "that of vqav2_testdev"),
    ],
)
def test_what_a_wrong_count_resembles(task: str, count: int, said: str) -> None:
    known = [(t.name, t.data.count) for t in map(loader.load, loader.names()) if t.data.count]
    found = counts.resembles(task, count, known)
    assert len(found) == 1
    assert said in found[0]
    assert counts.resembles(task, 7, known) == []


def test_counts_are_of_tasks_and_wrong() -> None:
    official = {name: loader.load(name).data.count for name in loader.names()}
    rows = counts.load()
    assert len({(p, n) for p, n, _ in rows}) == len(rows)
    for pattern, _, what in rows:
        assert [name for name in official if fnmatchcase(name, pattern)], pattern
        assert what


REFUSED: list[tuple[list[str], str]] = [
    (
        ["run", "--model", "m", "--tasks", "vqav2_vall"],
        "no task or suite 'vqav2_vall'; did you mean vqav2_val",
    ),
    (["run", "--model", "m", "--tasks", "docvqa_val"], "docvqa_val: no data root is set"),
    (
        ["run", "--model", "m", "--tasks", "docvqa_val", "--data-root", "none"],
        "--data-root none: no such folder; name a folder that is there",
    ),
    (
        ["run", "--model", "m", "--tasks", "docvqa_val", "--set", "nonsense"],
        "--set nonsense: write KEY=VALUE",
    ),
    (["run", "--model", "m", "--tasks", "docvqa_val", "--set", "a=b"], "a: unknown key"),
    (["run", "--model", "m", "--tasks", "docvqa_val", "--ids", "none.txt"], "--ids none.txt"),
    (["run", "--model", "m", "--tasks", "none.yaml"], "none.yaml: no such file"),
    (["--model", "m", "--tasks", "docvqa_val", "--num_fewshot", "5"], "--num-fewshot 5: PaliGemma's prompts"),
    (["run", "--model", "m", "--tasks", "docvqa_val", "--fewshot"], "prompts are zero-shot"),
    (["table", "nowhere"], "nowhere: no such folder"),
    (["score"], "score: name run folders"),
    (["score", "--predictions", "p.jsonl"], "name the task they answer"),
    (["show", "docvqa_vall"], "no task 'docvqa_vall'; did you mean docvqa_val"),
]


@pytest.mark.parametrize(("words", "sentence"), REFUSED, ids=[" ".join(r[0])[:50] for r in REFUSED])
def test_mistakes_are_one_sentence_and_status_2(
    words: list[str], sentence: str, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert err.startswith("evalkit: ")
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize("words", [["run"], ["nonsense"], ["baseline", "save"]])
def test_usage_errors_have_status_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tabel"], "did you mean table"),
        (["run", "--modle", "m", "--tasks", "t"], "--modle: no such flag; did you mean --model"),
        (["run", "--model", "m", "--tasks", "t", "--limt=3"], "--limt: no such flag; did you mean --limit"),
        (["run", "--model", "m", "--tasks", "t", "--zzz"], "--zzz: no such flag of this command"),
        (["run", "--model", "m", "--tasks", "t", "--engine", "fsat"], "no such engine; did you mean fast"),
        (["run", "--model", "m", "--tasks", "t", "--engine", "?"], "there are: auto, fast, plain"),
        (["list", "metric"], "metric: unknown; did you mean metrics"),
    ],
)
def test_a_mistyped_word_is_one_line(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main(words)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A task, and a model that is stopped after five answers."""
    task = colours(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        evaluate, "checkpoint", lambda spec, _: checkpoint(Stub(lambda r: "red", die_after=5), spec)
    )
    return task


def test_a_stop_says_what_is_kept(stopping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stopping) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_a_table_of_runs_that_were_stopped_says_how_to_score_them(
    stopping: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(stopping)
    capsys.readouterr()
    assert main(["table", "results"]) == 0
    out, err = capsys.readouterr()
    assert out == "no scored runs\n"
    assert err.startswith("1 run is not scored yet: ")
    assert "`evalkit score results`" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_below_the_output_is_one_sentence() -> None:
    words = [sys.executable, "-m", "evalkit", "list", "metrics"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "evalkit: the disk is full, where the output of this command goes\n"


def test_a_cache_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "file"))
    for words in (
        ["run", "--model", "demo:later", "--tasks", "vqav2_val", "--data-root", str(tmp_path)],
        ["demo", "--limit", "2"],
    ):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert f"{tmp_path}/file/demo/" in err
        assert err.endswith("choose another folder with EVALKIT_CACHE\n")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("results", "results: is a file; a run is a folder"),  # the default: not said by anybody
        ("results/more", "--output-path results/more: results is a file; name a folder"),
    ],
)
def test_an_output_path_that_is_a_file_is_named(
    place: str, said: str, stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("results").touch()
    assert run(colours(tmp_path / "data"), "--output-path", place) == 2
    assert capsys.readouterr().err == f"evalkit: {said}\n"


def test_the_embedded_checkpoints_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", "demo", "--tasks", "shapes_vqa_test"]) == 2
    assert "the embedded checkpoints are demo:later and demo:earlier" in capsys.readouterr().err


def test_help_has_a_command_s_own_flags_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    said = capsys.readouterr().out
    assert said.startswith("usage: evalkit run --model MODEL [options]\n")
    places = [
        said.index(word)
        for word in ("--limit N", "how the model is loaded and run:", "--dtype", "what is trusted:")
    ]
    assert places == sorted(places)
    assert said.count("what is trusted:") == 1
    assert said.index("--data FOLDER|FILE") < said.index("--data-root DIR")


def test_run_eval_is_the_same_command_line() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "run_eval.py", "--version"], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.startswith("evalkit ")


def test_answers_without_a_score_yet_are_not_replaced_by_fewer(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = colours(tmp_path / "data")
    run(task)
    (folder,) = Path("results").iterdir()
    (folder / "scores.json").unlink()  # it broke before
    content = store.RunFolder(folder).read_run() or {}
    content["sessions"][-1]["started"] = "2020-01-01"
    store.RunFolder(folder).write_run(content)
    folder = folder.rename(folder.with_name(folder.name.rpartition(".")[0] + ".00000000"))
    run(task, "--limit", "2")
    capsys.readouterr()
    assert main(["runs", "gc"]) == 0
    assert capsys.readouterr().out == ""
    run(task)
    capsys.readouterr()
    assert main(["runs", "gc"]) == 0
    assert capsys.readouterr().out == f"would go {folder}\n"


@pytest.mark.parametrize("other", ["prompt", "place"])
def test_runs_of_another_prompt_or_place_are_not_replaced(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    """Two settings of a sweep; checkpoint-500 of two trainings."""
    task = colours(tmp_path / "data")
    run(task)
    (folder,) = Path("results").iterdir()
    folder = folder.rename(folder.with_name(folder.name.rpartition(".")[0] + ".00000000"))
    content = store.RunFolder(folder).read_run() or {}
    content["sessions"][-1]["started"] = "2020-01-01"
    if other == "prompt":
        content["identity"]["task"]["prompt"] = "x"
    else:
        content["sessions"][-1]["path"] = "/trainings/first/checkpoint-500"
    store.RunFolder(folder).write_run(content)
    run(task)
    capsys.readouterr()
    assert main(["runs", "gc"]) == 0
    assert capsys.readouterr().out == ""


def test_runs_are_kept_and_removed(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data")
    run(task)
    old = next(Path("results").iterdir())
    content = store.RunFolder(old).read_run() or {}
    content["sessions"][-1]["started"] = "2020-01-01"  # an earlier identity of the same checkpoint
    replaced = old.with_name(old.name.rpartition(".")[0] + ".00000000")
    old.rename(replaced)
    store.RunFolder(replaced).write_run(content)
    run(task)
    capsys.readouterr()
    assert main(["runs", "gc"]) == 0
    assert capsys.readouterr().out == f"would go {replaced}\n"
    assert main(["runs", "keep", str(replaced)]) == 0
    assert main(["runs", "gc", "--yes"]) == 0
    assert replaced.exists()
    (replaced / "keep").unlink()
    assert main(["runs", "gc", "--yes"]) == 0
    assert not replaced.exists()
    assert old.exists()
    assert main(["runs", "rm", str(old), "--yes"]) == 0
    assert list(Path("results").iterdir()) == []
    assert main(["runs", "rm"]) == 2
    assert main(["runs"]) == 0
