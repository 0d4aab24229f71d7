"""`python -m benchmarks.gpu`: the rehearsal of every part on a CPU, its arithmetic, and what it says."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import answers, ceiling, device, load, random_model, report, throughput
from benchmarks.gpu.parts import Part
from evalkit.models.paligemma import flops

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


def rehearse(name: str, folder: Path) -> dict[str, Any]:
    """The results of one part at toy sizes, as its file has them."""
    part = Part(name, CPU, 60, True, folder, folder / "scratch")
    part.scratch.mkdir(exist_ok=True)
    importlib.import_module(f"benchmarks.gpu.{name}").run(part)
    part.keep()
    found: dict[str, Any] = json.loads(part.file.read_text())
    assert not [row for row in found["rows"] if row.get("ok") is False]
    return found


@pytest.fixture(autouse=True)
def stance() -> Any:
    """A rehearsal switches the compiler off for its own process, which here is everybody's."""
    yield
    torch.compiler.set_stance("default")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the command says of a part, which runs in a process of its own; the folder with its results."""
    out = tmp_path_factory.mktemp("command")
    words = ["benchmarks.gpu", "--rehearse", "--only", "feeding", "--minutes", "60", "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, out


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every part, rehearsed; what feeding says of the whole model is of throughput's file beside it."""
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVALKIT_CACHE", str(folder / "cache"))
        return {name: rehearse(name, folder) for name in gpu.PARTS}


def test_every_check_of_the_answers_is_rehearsed(results: dict[str, dict[str, Any]]) -> None:
    rows = {row["check"]: row for row in results["answers"]["rows"]}
    run = [name for name, row in rows.items() if row["ok"]]
    assert len(rows) == 19
    assert "texts changed on cpu" in rows["second GPU"]["said"]
    assert set(rows) - set(run) <= {"recorded oracle"}
    assert "batches of 16 became" in rows["out of memory"]["said"]
    assert "4 of 4 are the CPU's recorded texts" in rows["float32, demo 224 px"]["said"]
    assert '"steps": 0' not in rows["CUDA graphs, float32"]["said"]


def test_throughput_compares_both_sides(results: dict[str, dict[str, Any]]) -> None:
    rows = results["throughput"]["rows"]
    cases = {(r["model"], r["px"], r["work"]) for r in rows}
    assert {r["who"] for r in rows} == {"evalkit", "generate, batch 1", "generate, batch 8"}
    assert len(rows) == 3 * len(cases)
    assert {(m, px) for m, px, _ in cases} == {
        ("PaliGemma 3B", 28),
        ("PaliGemma 3B", 56),
        ("PaliGemma 2 3B", 28),
    }
    for row in rows:
        assert row["samples_a_second"] / row["ceiling"] == pytest.approx(row["share"])
    assert results["throughput"]["speed"]["teraflops"] > 0


def test_the_ladder_switches_and_profiles(results: dict[str, dict[str, Any]]) -> None:
    rows = results["ladder"]["rows"]
    switches = {r["switch"] for r in rows if "switch" in r}
    assert {
        "as it is",
        "answers given out before the next prompts begin",
        "without graphs",
        "compile",
        "compile and graphs",
        "attention by flash, without graphs",
        "batches of 512",
    } <= switches
    profiles = [r for r in rows if "profile" in r]
    assert len(profiles) == 2
    assert all(p["kernels"] and p["busy"] > 0 for p in profiles)


def test_own_kernels_are_tried_in_a_part_of_their_own(results: dict[str, dict[str, Any]]) -> None:
    rows = results["fused"]["rows"]
    assert [row["ok"] for row in rows if "check" in row] == [True, True]
    assert {row["switch"] for row in rows if "switch" in row} == {"as it is", "fused kernels"}


def test_feeding_names_the_slowest(results: dict[str, dict[str, Any]]) -> None:
    notes = results["feeding"]["notes"]
    assert [n for n in notes if n.startswith("28 px, hf, 640×480") and "the whole model" in n]


def test_all_results_as_a_page(results: dict[str, dict[str, Any]]) -> None:
    facts = {"name": "A GPU", "memory_gib": 80.0, "torch": "2.13", "transformers": "5.23", "cuda": "13.0"}
    parts = {name: {**part, "facts": facts, "ended": "whole"} for name, part in results.items()}
    told = report.markdown({"rehearsal": False, "parts": parts})
    assert told.startswith("A GPU, 80.0 GiB; torch 2.13, transformers 5.23, CUDA 13.0.\n")
    assert "The ceiling is computed from" in told
    lines = told.splitlines()
    for part in ("same answers", "model | px", "switch", "images | px"):
        head = next(i for i, line in enumerate(lines) if line.startswith(f"| {part}"))
        columns = lines[head].count("|")
        assert lines[head + 1].count("---") == columns - 1
        assert lines[head + 2].count("|") == columns
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert report.placed(page, "new\n") == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    assert report.BEGIN in gpu.DOCS.read_text()


def test_both_sides_have_the_same_weights() -> None:
    """In float32 evalkit and `generate` give the same tokens at every resolution of the same weights."""
    for shape in random_model.TOYS.values():
        both = throughput.Both(shape, CPU, torch.float32)
        for side in shape.sides:
            both.at(side)
            for work in (load.VQA, load.CAPTIONS):
                ours = throughput._ours(both.ours, work, side)(0, 5)
                assert ours == throughput._theirs(both.generate, work, both.info, 4)(0, 5), (
                    shape.family,
                    side,
                )
                assert len(set(ours.values())) > 1


def test_the_ceiling() -> None:
    """engine.md's figures for the 3B: 603 samples/s at 224 px, 736 with every exact saving (800 TFLOP/s)."""
    speed = device.Speed(800e12, 1e18)
    shape = random_model.SHAPES["PaliGemma 3B"]
    info = random_model.describe(_meta(shape), shape, 224)
    sample = ceiling.Sample(prompt=16, new=5, questions=5.4)
    full, saved = (ceiling.samples_a_second(info, sample, speed, s) for s in (False, True))
    assert full == pytest.approx(603, rel=0.03)
    assert saved == pytest.approx(736, rel=0.03)
    assert full == pytest.approx(800e12 / flops.flops(info, 1, 16, 5))
    slow = device.Speed(800e12, 3e12)  # reading the weights: 2.5 billion of two bytes a step, for 32 rows
    weights = sum(2.0 * n for n in _sizes(info))
    read = flops.flops(info, 1, 16, 0)
    wanted = 1 / (read / 800e12 + 5 * weights / 3e12 / 32)
    assert ceiling.samples_a_second(info, sample, slow, False) == pytest.approx(wanted)


def _meta(shape: random_model.Shape) -> Any:
    """The model without memory for its weights."""
    return random_model.skeleton(shape, torch.device("meta"), torch.bfloat16)


def _sizes(info: Any) -> list[int]:
    return [int(torch.Size(s).numel()) for k, s in info.shapes.items() if "language_model" in k]


def test_time_in_which_something_ran() -> None:
    assert device.union([(5.0, 7.0), (0.0, 2.0), (1.0, 3.0), (6.0, 6.5)]) == (5.0, 2.0)
    assert device.union([]) == (0.0, 0.0)


def test_the_command_rehearses_and_renders(
    command: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part runs in a process of its own, from a plain copy of the repository."""
    said, out = command
    assert "Rehearsal on a CPU at toy sizes" in said
    assert "| 640×480 | 28 | hf |" in said
    found = json.loads((out / "gpu.json").read_text())
    assert found["parts"]["feeding"]["ended"] == "whole"
    assert gpu.main(["--render", str(out)]) == 2  # a rehearsal's figures stay out of the docs
    monkeypatch.setattr(gpu, "DOCS", tmp_path / "performance.md")
    gpu.DOCS.write_text(f"{report.BEGIN}\n{report.END}\n")
    (tmp_path / "gpu.json").write_text(json.dumps({**found, "rehearsal": False}))
    assert gpu.main(["--render", str(tmp_path)]) == 0
    assert "| 640×480 | 28 | hf |" in gpu.DOCS.read_text()
    # The command was killed in this part, which had written its rows.
    stopped = {"feeding": {"limit": 45.0, "ended": gpu.STOPPED}}
    (tmp_path / "gpu.json").write_text(json.dumps({**found, "rehearsal": False, "parts": stopped}))
    gpu.DOCS.write_text(f"{report.BEGIN}\n{report.END}\n")
    assert gpu.main(["--render", str(tmp_path)]) == 0
    assert "a device of which nothing is known" in gpu.DOCS.read_text()
    (tmp_path / "feeding.json").write_text((out / "feeding.json").read_text())
    assert gpu.main(["--render", str(tmp_path)]) == 0
    assert "| 640×480 | 28 | hf |" in gpu.DOCS.read_text()
    assert "CPU; torch" in gpu.DOCS.read_text()
    assert "`feeding`: stopped with the command after" in gpu.DOCS.read_text()


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("import time; time.sleep(60)", "cut"),
        ("raise SystemExit('no driver')", "failed (status 1): no driver"),
    ],
)
def test_a_part_that_is_cut_or_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, ended: str
) -> None:
    """What the part had written is kept, and the status says that something is missing."""
    real = subprocess.Popen
    monkeypatch.setattr(gpu, "GRACE", 0.5)

    def start(command: list[str], **given: Any) -> Any:
        file = Path(command[command.index("--out") + 1]) / "ladder.json"
        file.write_text(json.dumps({"rows": [], "notes": ["so far"], "seconds": 1.0}))
        return real([sys.executable, "-c", code], **given)

    monkeypatch.setattr(gpu.subprocess, "Popen", start)
    arguments = ["--rehearse", "--only", "ladder", "--minutes", "0.001", "--out", str(tmp_path)]
    assert gpu.main(arguments) == 1
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"]["ladder"]["ended"] == ended
    assert f"`ladder`: {ended}" in (tmp_path / "gpu.md").read_text()
    assert "- so far" in (tmp_path / "gpu.md").read_text()


def test_the_command_itself_uses_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that takes one process (a compute mode) is left to the parts."""
    real = subprocess.Popen
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        gpu.subprocess, "Popen", lambda command, **given: real([sys.executable, "-c", ""], **given)
    )
    assert gpu.main(["--only", "ladder", "--out", str(tmp_path)]) == 0
    assert not torch.cuda.is_initialized()
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"]["ladder"]["ended"] == "whole"


CHILD = (
    "import sys; from benchmarks.gpu import __main__ as gpu; print('follows', flush=True); "
    "gpu._follow(int(sys.argv[1]))"
)
PARENT = (
    "import os, subprocess, sys, time; command = [sys.executable, '-c', sys.argv[1], str(os.getpid())]; "
    "print(subprocess.Popen(command, start_new_session=True).pid, flush=True); time.sleep(60)"
)


def test_a_part_ends_when_the_command_was_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid, _ = sorted(parent.stdout.readline().strip() for _ in range(2))
    child = Path("/proc") / pid / "stat"
    assert _lives(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"rehearsal": false, "parts": {"speed": {}}}'])
def test_what_is_no_result_is_not_rendered(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gpu.json").write_text(content)
    assert gpu.main(["--render", str(tmp_path)]) == 2
    assert "gpu.json: " in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert gpu.main(["--rehearse", "--out", str(tmp_path / "file")]) == 2
    assert "--out " in capsys.readouterr().err


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "soon"])
def test_minutes_that_are_none(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--rehearse", "--minutes", minutes])
    assert ended.value.code == 2
    assert "must be a number above 0" in capsys.readouterr().err


def test_a_device_with_room_for_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, built, inner = Part("throughput", CPU, 60, True, tmp_path, tmp_path), [0], random_model.build

    def build(*given: Any) -> Any:
        built[0] += 1
        if built[0] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(*given)

    monkeypatch.setattr(random_model, "build", build)
    both = throughput._both(part, "3B", random_model.TOYS["PaliGemma 3B"], torch.float32)
    assert both is not None
    both.at(28)
    throughput._compare(part, "3B", both, load.VQA, device.Speed(1e12, 1e12))
    assert part.notes == ["3B: its weights do not fit into this device's memory twice"]
    assert [row["who"] for row in part.rows] == ["evalkit"]


def test_after_a_fault_of_the_device_nothing_else_is_asked_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(home: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    part = Part("answers", CPU, 60, True, tmp_path, tmp_path)
    monkeypatch.setattr(device, "wait", lost)
    answers.run_all(part, [("first", lambda: {"ok": True, "said": ""}), ("second", lambda: 1 / 0)])
    assert [row["check"] for row in part.rows] == ["first"]
    assert "the device does not answer after 'first'" in part.notes[0]


def test_a_part_counts_from_when_it_was_started(tmp_path: Path) -> None:
    """Importing torch takes seconds, and the command counts them."""
    part = Part("ladder", CPU, 60, False, tmp_path, tmp_path, time.time() - 50)
    assert 0 < part.left() < 10.1


def test_a_part_says_what_it_leaves_out(tmp_path: Path) -> None:
    part = Part("ladder", CPU, 1.0, False, tmp_path, tmp_path)
    assert part.has(0.5, "eager")
    assert not part.has(20, "compile")
    assert part.notes == ["compile: left out, 1 s were left"]


def test_without_a_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no CUDA device here, so nothing was measured" in err


def test_without_a_package(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "PIL" else find(name))
    assert gpu.main(["--rehearse"]) == 2
    assert "not installed: Pillow; pip install Pillow" in capsys.readouterr().err


def test_an_unknown_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--only", "speed"])
    assert ended.value.code == 2
    assert "no part 'speed'; there are answers, throughput, ladder, feeding, fused" in capsys.readouterr().err
