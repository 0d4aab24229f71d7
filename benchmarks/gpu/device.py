"""What the device is and how fast it is at most: its products, its memory, and when it is busy."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers


def chosen(rehearsal: bool) -> torch.device:
    """The first CUDA device (a ROCm device has this name too); the CPU for a rehearsal."""
    return torch.device("cpu") if rehearsal else torch.device("cuda", 0)


def facts(device: torch.device) -> dict[str, Any]:
    """Name, memory and versions, for the head of the tables."""
    found: dict[str, Any] = {
        "device": device.type,
        "name": "CPU",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        seen = torch.cuda.get_device_properties(device)
        found |= {
            "name": seen.name,
            "memory_gib": round(seen.total_memory / 2**30, 1),
            "processors": seen.multi_processor_count,
            "capability": f"{seen.major}.{seen.minor}",
            "cuda": torch.version.cuda or f"ROCm {torch.version.hip}",
            "driver": _driver(),
            "bfloat16": torch.cuda.is_bf16_supported(),
        }
    return found


def _driver() -> str:
    ask = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm,power.limit", "--format=csv,noheader"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, timeout=20).stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return ""


def wait(device: torch.device) -> None:
    """Returns when the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Wall time of `work` until the device has finished it."""
    wait(device)
    begun = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - begun


def rate(device: torch.device, work: Callable[[], object], least: float = 1.0) -> float:
    """Calls of `work` a second, repeated for at least `least` seconds after two calls to warm up."""
    for _ in range(2):
        work()
    done, spent, many = 0, 0.0, 1
    while spent < least:
        spent += seconds(device, lambda n=many: [work() for _ in range(n)])  # type: ignore[misc]
        done += many
        many = min(64, 2 * many)
    return done / spent


@dataclass(frozen=True)
class Speed:
    """What the device reaches at most: operations a second of a large product, bytes a second of a copy."""

    flops: float
    bytes: float


def speed(device: torch.device, dtype: torch.dtype, side: int = 8192, least: float = 1.0) -> Speed:
    """Measures both: a square product of `side` rows in `dtype`, and a copy of as many bytes (read and
    written). Two operations a multiply-add."""
    with torch.inference_mode():
        a = torch.randn(side, side, device=device, dtype=torch.float32).to(dtype)
        out = torch.empty_like(a)
        products = rate(device, lambda: torch.matmul(a, a, out=out), least)
        copies = rate(device, lambda: out.copy_(a), least / 2)
    return Speed(2.0 * side**3 * products, 2.0 * a.nbytes * copies)


class Peak:
    """The most bytes that torch held on a GPU at once, beyond those held at the start; None on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> Peak:
        self._begun = 0
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._begun = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = (
            torch.cuda.max_memory_allocated(self._device) - self._begun
            if self._device.type == "cuda"
            else None
        )


def release(device: torch.device) -> None:
    """Gives memory that is no longer used back to the device."""
    import gc

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Profile:
    """Where the time of some work goes. `seconds`: of the work, and `host`: CPU seconds of this process in
    it, both without the profiler. `kernels`: (name, calls, seconds), the longest first; `busy`: seconds in
    which at least one kernel ran; `gaps`: seconds between the first and the last kernel in which none did,
    and `traced`: of the work, both under the profiler, which makes the host slower."""

    seconds: float
    host: float
    kernels: list[tuple[str, int, float]]
    busy: float
    gaps: float
    traced: float


def profile(device: torch.device, work: Callable[[], object]) -> Profile:
    """Runs `work` to warm up, then to time it, then under torch.profiler. On a CPU operations stand in for
    kernels."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as trace

    cuda = device.type == "cuda"
    work()  # what is done only once is not of interest
    host = time.process_time()
    plain = seconds(device, work)
    host = time.process_time() - host
    kinds = [ProfilerActivity.CUDA] if cuda else [ProfilerActivity.CPU]
    with trace(activities=kinds, acc_events=True) as found:
        traced = seconds(device, work)
    wanted = DeviceType.CUDA if cuda else DeviceType.CPU
    spans: list[tuple[float, float]] = []
    total: dict[str, tuple[int, float]] = {}
    for event in found.events():
        if event.device_type != wanted or (not cuda and event.cpu_parent is not None):
            continue
        span = event.time_range
        spans.append((span.start, span.end))
        calls, spent = total.get(event.name, (0, 0.0))
        total[event.name] = calls + 1, spent + (span.end - span.start)
    busy, gaps = union(spans)
    kernels = sorted(((n, c, s / 1e6) for n, (c, s) in total.items()), key=lambda k: -k[2])
    return Profile(plain, host, kernels, busy / 1e6, gaps / 1e6, traced)


def union(spans: list[tuple[float, float]]) -> tuple[float, float]:
    """(time covered by at least one span, time between the first and the last that none covers)."""
    covered, gaps, end = 0.0, 0.0, None
    for start, stop in sorted(spans):
        if end is None or start > end:
            gaps += 0.0 if end is None else start - end
            covered, end = covered + stop - start, stop
        elif stop > end:
            covered, end = covered + stop - end, stop
    return covered, gaps


@contextlib.contextmanager
def at_most(device: torch.device, more: int) -> Any:
    """While this lasts, torch may hold only `more` bytes more than it holds now. Does nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    release(device)
    total = torch.cuda.get_device_properties(device).total_memory
    share = min(1.0, (torch.cuda.memory_reserved(device) + more) / total)
    torch.cuda.set_per_process_memory_fraction(share, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
