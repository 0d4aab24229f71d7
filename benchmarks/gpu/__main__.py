"""Proves and measures the engine on a GPU, in one command that needs no network, data or installation.

    python -m benchmarks.gpu [--minutes 7] [--only PART,...] [--out DIR]   on a machine with a GPU
    python -m benchmarks.gpu --rehearse                                    all parts on a CPU, at toy sizes
    python -m benchmarks.gpu --render DIR                                  results to docs/performance.md

Each part runs in its own process under its own time limit and writes its results row by row:

    answers      the same as the CPU's, the plain engine's, the reference's; in any batch, graphed, compiled
    throughput   samples a second at the 3B's shape, against transformers' `generate` in the same process
    ladder       the engine's switches one by one, and where the time of a batch goes
    feeding      reading, resizing and sending images, against what the vision tower takes
    fused        the decoder's own kernels (--fused-kernels): their answers, and what they gain

Status 0 if all is well, 1 if a check failed or a part was cut, 2 if nothing could be run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PARTS = {"answers": 80, "throughput": 160, "ladder": 75, "feeding": 45, "fused": 60}
"""Seconds of each when the whole takes seven minutes."""
NEEDED = {
    "torch": "torch", "transformers": "transformers", "numpy": "numpy", "PIL": "Pillow", "yaml": "PyYAML",
    "safetensors": "safetensors", "tqdm": "tqdm",
}  # fmt: skip
OPTIONAL = (
    "simplejpeg", "pycocotools", "pycocoevalcap", "datasets", "pyarrow", "pandas", "scipy", "lxml",
    "rapidfuzz", "shapely",
)  # fmt: skip
GRACE = 5.0  # seconds after which a part that did not stop by itself is stopped
KILLED = 20.0  # seconds in which one that was stopped must have ended: a driver may hold it for ever
STOPPED = "stopped with the command"
DOCS = ROOT / "docs" / "performance.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the command line says; see the module."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without × is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    arguments = _arguments(argv)
    lacking = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if lacking:
        return _refuse(f"not installed: {', '.join(lacking)}; pip install {' '.join(lacking)}")
    if arguments.render:
        return _render(arguments.render)
    if arguments.record:
        from benchmarks.gpu import answers

        answers.record()
        return 0
    if arguments.part:
        _part(arguments)
        return 0
    why = _unwritable(arguments.out)
    if why:
        return _refuse(f"--out {arguments.out}: {why}; name a folder that can be written")
    import torch

    if not torch.cuda.is_available() and not arguments.rehearse:
        return _refuse(
            "torch sees no CUDA device here, so nothing was measured; run it on a machine with a GPU "
            "(on a CPU: --rehearse tries all parts at toy sizes, python -m benchmarks.engine measures)"
        )
    return _all(arguments)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=_minutes, default=7.0, help="for all parts together (default 7)")
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,...", help="these parts")
    parser.add_argument("--out", type=Path, default=Path("gpu-benchmark"), metavar="DIR")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at toy sizes")
    parser.add_argument("--render", type=Path, metavar="DIR", help="write DIR's results into the docs")
    parser.add_argument("--record", action="store_true", help="record the CPU's texts (benchmarks/gpu)")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--begun", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _minutes(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (found := float(text)) < math.inf:
            return found
    raise argparse.ArgumentTypeError(f"'{text}'; it must be a number above 0")


def _parts(text: str) -> list[str]:
    wanted = [name.strip() for name in text.split(",")]
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no part '{unknown[0]}'; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in wanted]


def _unwritable(out: Path) -> str:
    """Why nothing can be written into this folder, which is made; '' where something can."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "log.txt").open("ab").close()
    except OSError as error:
        return str(error.strerror or error)
    return ""


def _refuse(why: str) -> int:
    print(f"benchmarks.gpu: {why}", file=sys.stderr)
    return 2


# --- the parent ---


def _all(arguments: argparse.Namespace) -> int:
    """Starts the parts one after the other, then prints the table and writes the JSON of all. It calls no GPU
    itself: one that takes a single process would have none left for a part."""
    from benchmarks.gpu import report

    out: Path = arguments.out
    missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    if missing:
        print(f"not installed, and its part is left out: {', '.join(missing)}", flush=True)
    found: dict[str, Any] = {"rehearsal": arguments.rehearse, "missing": missing, "parts": {}}
    good = True
    for name in arguments.only:
        limit = PARTS[name] * arguments.minutes * 60 / sum(PARTS.values())
        (out / f"{name}.json").unlink(missing_ok=True)
        found["parts"][name] = {"limit": limit, "ended": STOPPED}
        _keep(out, found)
        ended = _child(arguments, name, limit)
        part = found["parts"][name] = _results(out / f"{name}.json") | {"limit": limit, "ended": ended}
        good &= ended == "whole" and all(row.get("ok") is not False for row in part["rows"])
        _keep(out, found)
    told = report.markdown(found)
    (out / "gpu.md").write_text(told, encoding="utf-8")
    print(told)
    return int(not good)


def _keep(out: Path, found: dict[str, Any]) -> None:
    (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _child(arguments: argparse.Namespace, name: str, limit: float) -> str:
    """Runs one part in its own process group; says how it ended: whole, cut, or failed with its last line."""
    out: Path = arguments.out
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--out", str(out.resolve())]
    command += ["--seconds", str(limit), "--begun", str(time.time()), "--parent", str(os.getpid())]
    command += ["--rehearse"] * arguments.rehearse
    print(f"== {name}, at most {limit:.0f} s", flush=True)
    log = out / "log.txt"
    with log.open("ab") as file, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        begun = file.tell()
        env = {**os.environ, "PYTHONUTF8": "1", "TMPDIR": scratch}  # what it leaves where it is stopped, too
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file, start_new_session=True)
        shown, deadline = begun, time.monotonic() + limit + GRACE
        try:
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
                shown = _show(log, shown)
        finally:
            late = child.poll() is None
            if late:
                os.killpg(child.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(KILLED)
    _show(log, shown)
    if late:
        return "cut"
    if child.returncode:
        said = log.read_bytes()[begun:].decode(errors="replace").strip().splitlines() or [""]
        return f"failed (status {child.returncode}): {said[-1][:300]}"
    return "whole"


def _show(log: Path, start: int) -> int:
    """Prints what the log has gained."""
    with log.open("rb") as file:
        file.seek(start)
        more = file.read()
    sys.stdout.write(more.decode(errors="replace"))
    sys.stdout.flush()
    return start + len(more)


def _results(file: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        if isinstance(found := json.loads(file.read_text(encoding="utf-8")), dict):
            return {"rows": [], "notes": [], **found}
    return {"rows": [], "notes": []}


# --- the child ---


def _part(arguments: argparse.Namespace) -> None:
    """One part, in this process."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if arguments.parent:
        threading.Thread(target=_follow, args=(arguments.parent,), daemon=True).start()
    import torch

    from benchmarks.gpu import device
    from benchmarks.gpu.parts import Part

    home = device.chosen(arguments.rehearse)
    if home.type == "cuda":
        torch.cuda.set_device(home)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["EVALKIT_CACHE"] = f"{scratch}/cache"  # nothing learned on this machine before is used
        place = arguments.rehearse, arguments.out, Path(scratch), arguments.begun or time.time()
        part = Part(arguments.part, home, arguments.seconds, *place)
        part.keep(facts=device.facts(home))
        importlib.import_module(f"benchmarks.gpu.{part.name}").run(part)
        part.keep()


def _follow(parent: int) -> None:
    """Ends this process and those that it started when the command was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _render(folder: Path) -> int:
    """Puts the results of `folder` into docs/performance.md, between the markers; of a part that was stopped
    with the command, the rows that it had written."""
    from benchmarks.gpu import report

    file = folder / "gpu.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["rehearsal"]:
            return _refuse(f"{file}: is a rehearsal's, whose figures mean nothing; run it on a GPU")
        for name, part in found["parts"].items():
            if part["ended"] == STOPPED:
                found["parts"][name] = _results(folder / f"{name}.json") | part
        section = report.markdown(found)
        text = DOCS.read_text(encoding="utf-8")
        DOCS.write_text(report.placed(text, section), encoding="utf-8")
    except (OSError, ValueError) as error:
        return _refuse(f"{file}: cannot be read ({error}); it is what `--out {folder}` leaves")
    except (KeyError, TypeError, AttributeError):
        return _refuse(f"{file}: is not what `--out {folder}` leaves")
    print(f"{DOCS}: has the figures of {report.facts(found)['name']}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that a part is ended, too
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
