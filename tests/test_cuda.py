"""What runs on a GPU only, over a stand-in for `torch.cuda`: devices, streams, memory, refusals."""

from __future__ import annotations

import gc
import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from fake_cuda import FakeCuda
from tiny import ask, backend, by_id

from evalkit.errors import ModelError
from evalkit.models.paligemma import checks, doctor, memory, standstill
from evalkit.models.paligemma.batching import batch_size
from evalkit.models.paligemma.checkpoint import device, loading
from evalkit.models.paligemma.engine import (
    attention,
    cuda_graphs,
    decoder,
    fast,
    linear,
    plain,
    uploads,
    vision,
)
from evalkit.models.paligemma.engine import compile as compiling

SECOND = torch.device("cuda", 1)
FULL = torch.OutOfMemoryError("CUDA out of memory")
PINNED_FULL = RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


class Near:
    """A tensor on the device, or on its way."""

    def __init__(self, cuda: FakeCuda, size: int = 48) -> None:
        self.cuda, self.nbytes, self.device = cuda, size, SECOND

    def pin_memory(self) -> Near:
        self.cuda.say(f"pin, on GPU {self.cuda.current.index}")
        return self

    def to(self, home: torch.device, non_blocking: bool) -> Near:
        assert non_blocking
        self.cuda.say(f"copy to GPU {home.index} on {self.cuda.current_stream().name}")
        return self

    def record_stream(self, stream: Any) -> None:
        self.cuda.say(f"used on {stream.name}")


# --- images sent ahead ---------------------------------------------------------------------------


def test_a_reader_sends_to_the_models_gpu_and_the_model_waits(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new thread begins on GPU 0: without `set_device`, leaving the stream would go back there."""
    monkeypatch.setattr(uploads, "as_tensor", lambda pixels: Near(cuda))
    cross, made = uploads.CudaCross(SECOND), []
    reader = threading.Thread(target=lambda: made.append(cross(np.zeros((4, 4, 3), np.uint8))))
    reader.start()
    reader.join()
    assert cuda.log == [
        "pin, on GPU 1",
        "on side 1:1, first",
        "copy to GPU 1 on side 1:1, first",
        "event on side 1:1, first",
        "off side 1:1, first, on GPU 1",
    ]
    cuda.log.clear()
    made[0]()
    assert cuda.log == ["default:1 waits for the event on side 1:1, first", "used on default:1"]


def test_images_that_may_not_be_written_are_copied_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """As they come from the cache of prepared images, and here past the uploads, of which none was taken."""
    model = backend(tiny.checkpoint(1), engine="fast")
    asked = ask(4)
    wanted = by_id(model.predict(asked))
    readonly = backend(tiny.checkpoint(1), engine="fast", prepare=_readonly)
    readonly.load()
    readonly._engine.uploads = uploads.Uploads(lambda pixels: lambda: pytest.fail("was dropped"), limit=0)  # type: ignore[union-attr]
    assert by_id(readonly.predict(asked)) == wanted
    assert not [w for w in recwarn if "writ" in str(w.message)]


def _readonly(ref: Any, preparation: Any) -> Any:
    found = tiny.prepare(ref, preparation)
    found.pixels.flags.writeable = False
    return found


# --- CUDA graphs ---------------------------------------------------------------------------------


def test_a_step_is_recorded_on_the_stream_it_was_warmed_up_on(cuda: FakeCuda) -> None:
    """And on the model's GPU, although GPU 0 is the current one."""
    capture = cuda_graphs.CudaCapture(SECOND)

    def work() -> None:
        cuda.say(f"work on {cuda.current_stream().name}")

    first = capture(work)
    assert cuda.log == [
        "on side 1:1",
        "side 1:1 waits for default:1",
        "work on side 1:1",
        "work on side 1:1",
        "default:1 waits for side 1:1",
        "record on side 1:1, thread_local",
        "work on side 1:1",
        "recorded",
        "off side 1:1, on GPU 0",
    ]
    graph: Any = first.__self__  # type: ignore[attr-defined]
    assert graph.given is None
    second: Any = capture(work)
    assert second.__self__.given == graph.pool(), "both use one pool"
    del first, second, graph
    third: Any = capture(work)
    assert third.__self__.given is None, "a pool is freed with its last graph"


@pytest.mark.parametrize("recording", [False, True])
def test_memory_that_runs_out_leaves_the_streams_in_order(cuda: FakeCuda, recording: bool) -> None:
    def work() -> None:
        if any(line.startswith("record") for line in cuda.log) or not recording:
            raise FULL

    with pytest.raises(torch.OutOfMemoryError):
        cuda_graphs.CudaCapture(SECOND)(work)
    assert "default:1 waits for side 1:1" in cuda.log
    assert cuda.log[-1] == "off side 1:1, on GPU 0"
    assert ("recorded" in cuda.log) == recording


def test_a_recording_that_cannot_be_ended_ends_the_run(cuda: FakeCuda) -> None:
    """torch's allocator would go on as if the recording still ran, and free nothing."""
    cuda.end_fails = RuntimeError("CUDA error: operation failed due to a previous error during capture")

    def work() -> None:
        if any(line.startswith("record") for line in cuda.log):
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    with pytest.raises(ModelError, match=r"--cuda-graphs on: .*not permitted when stream is capturing\)"):
        cuda_graphs.CudaCapture(SECOND)(work)
    assert cuda.log[-1] == "off side 1:1, on GPU 0"
    cuda.log.clear()
    cuda.end_fails = torch.OutOfMemoryError("CUDA out of memory")  # no room for the graph itself
    with pytest.raises(torch.OutOfMemoryError):
        cuda_graphs.CudaCapture(SECOND)(lambda: None)


def steps(capture: Any = None) -> Any:
    """Steps of a decoder on the second GPU, whose inputs are there already."""
    made: Any = cuda_graphs.StaticSteps(SimpleNamespace(home=SECOND), None, capture)  # type: ignore[arg-type]
    made._inputs, made._staged = (torch.zeros((4, 3), dtype=torch.long) for _ in range(2))
    made._logits = torch.zeros((4, 5))
    return made


def test_staged_inputs_are_written_again_only_once_they_were_read(cuda: FakeCuda) -> None:
    made, state = steps(), SimpleNamespace(lengths=[7, 9], first=1)
    for _ in range(2):
        made._set_inputs(torch.tensor([3, 4]), state, 4)
    assert made._inputs.tolist() == [[3, 7, 8], [4, 9, 10], [0, 0, 1], [0, 0, 1]]
    assert cuda.log == ["event on default:1", "host waits for the event on default:1", "event on default:1"]


def test_a_graph_in_which_nothing_was_recorded_is_found_out(caplog: pytest.LogCaptureFixture) -> None:
    """As by a recording on another device: its replay leaves the logits of the step before it as they are."""
    made = steps(lambda work: lambda: None)
    for value in range(4):
        made._run(("shape",), lambda v=value: made._logits.fill_(v), made._logits)
    assert made.off == "a replayed step gave other logits"
    assert made._logits.tolist() == [[3.0] * 5] * 4


def test_what_a_failed_recording_held_is_freed_before_the_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the error's traceback, and in the last graph, which holds the memory of all."""
    alive: list[str] = []

    class Held:
        def __init__(self) -> None:
            alive.append("held")

        def __del__(self) -> None:
            alive.pop()

    def capture(work: Any) -> Any:
        graph = Held()
        return lambda: graph.missing if ran[0] < 4 else full()  # type: ignore[attr-defined]

    def full() -> None:
        held = Held()
        raise torch.OutOfMemoryError(f"CUDA out of memory {held!r:.0}")

    ran, freed = [0], []

    def work() -> None:
        ran[0] += 1
        if ran[0] > 4:
            assert not alive

    monkeypatch.setattr(cuda_graphs, "collect", lambda: freed.append(list(alive)))
    made = steps(capture)
    for _ in range(4):
        made._run(("shape",), work, made._logits)
    assert (ran, freed, made.off) == ([5], [[]], "out of memory")


def test_inputs_are_pinned_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    zeros = torch.zeros

    def noted(shape: Any, **options: Any) -> torch.Tensor:
        asked.append(options)
        return zeros(shape, dtype=options["dtype"])

    monkeypatch.setattr(torch, "zeros", noted)
    monkeypatch.setattr(torch, "empty", lambda shape, **options: zeros(1))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: self)
    made: Any = cuda_graphs.StaticSteps(SimpleNamespace(home=SECOND, table=[0] * 5), None)  # type: ignore[arg-type]
    made._reserve(2)
    assert [a["pin_memory"] for a in asked] == [True]


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "memory_ran_out"),
    [
        (FULL, True),
        (PINNED_FULL, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: misaligned address"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, memory_ran_out: bool) -> None:
    assert memory.is_out_of_memory(error) == memory_ran_out


def test_freeing_frees_the_gpu_too(cuda: FakeCuda) -> None:
    memory.collect()
    assert cuda.log == ["empty cache"]


def test_pinned_memory_that_runs_out_is_no_error(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> None:
    """Features that leave the GPU are kept while the host has pinned memory, which is rounded up to powers of
    two; later ones are computed again when needed."""
    left = [3]

    def pinned(like: Near, **options: Any) -> Any:
        assert options == {"device": "cpu", "pin_memory": True}
        left[0] -= 1
        if left[0] < 0:
            raise PINNED_FULL
        return SimpleNamespace(copy_=lambda features, non_blocking: features)

    monkeypatch.setattr(torch, "empty_like", pinned)
    kept = vision.Memory(limit=100, spill=1000)
    for name in "abcdefg":
        kept.put(name, Near(cuda, 48))  # type: ignore[arg-type]
    assert [name for name in "abcdefg" if name in kept] == ["a", "b", "c", "f", "g"]
    assert (kept.bytes, kept.spill) == (2 * 48 + 3 * 64, 3 * 64)

    def broken(like: Near, **options: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "empty_like", broken)
    kept.spill = 1000
    with pytest.raises(RuntimeError, match="illegal"):
        kept.put("h", Near(cuda, 48))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("free", "host", "limits"),
    [(72 << 30, 128 << 30, (72 << 30, 4 << 30)), (2 << 30, 16 << 30, (2 << 30, 2 << 30))],
)
def test_features_take_a_part_of_the_memory(
    free: int, host: int, limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def free_memory(home: torch.device) -> tuple[int, int]:
        assert home == SECOND
        return free, 80 << 30

    monkeypatch.setattr(torch.cuda, "mem_get_info", free_memory)
    monkeypatch.setattr(fast, "host_memory", lambda: host)
    near, spill = fast.memory_limits(SECOND)
    assert (near * 20, spill) == pytest.approx(limits, rel=1e-6)


def test_a_container_may_have_less_memory_than_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "CONTAINER", ())
    machine = fast.host_memory()
    assert machine > 1 << 28
    limits = [tmp_path / "memory.max", tmp_path / "limit", tmp_path / "none"]
    limits[0].write_text("max\n")
    limits[1].write_text("4096\n")
    monkeypatch.setattr(fast, "CONTAINER", [limits[0], limits[2]])
    assert fast.host_memory() == machine
    monkeypatch.setattr(fast, "CONTAINER", limits)
    assert fast.host_memory() == 4096


@pytest.mark.parametrize(("mine", "limit"), [(80 << 20, 80 << 20), (4 << 30, uploads.LIMIT)])
def test_images_sent_ahead_take_no_more_than_features_may(mine: int, limit: int, cuda: FakeCuda) -> None:
    """On a small GPU, 256 MiB of them would take the place of a batch."""
    decoder = SimpleNamespace()
    engine: Any = SimpleNamespace(home=SECOND, memory=vision.Memory(mine), decoder=decoder, cap=None)
    fast.FastEngine.speed_up(engine, graphs=None, compiled=False)
    assert engine.uploads._limit == limit
    assert engine.static.capture._home == SECOND
    assert not decoder.fused
    engine.static = None
    fast.FastEngine.speed_up(engine, graphs=False, compiled=False)
    assert engine.static is None


def test_the_probe_asks_the_models_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(value: Any) -> Any:
        def asked(home: Any) -> Any:
            assert home == "cuda:1"
            return value

        return asked

    values = {
        "mem_get_info": (50, 80), "memory_reserved": 30, "memory_allocated": 20, "max_memory_allocated": 29,
        "reset_peak_memory_stats": None,
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setattr(torch.cuda, name, of(value))
    probe = batch_size.CudaProbe("cuda:1")
    assert probe.free() == 60
    probe.mark()
    assert probe.peak() == 9


def test_batch_sizes_are_learned_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size.CudaProbe, "free", lambda self: 1 << 40)
    engine: Any = SimpleNamespace(
        device="cuda:1", provenance=lambda: {"device_name": "a GPU"}, row_bytes=lambda tokens: 1 << 32
    )
    learned = backend(tiny.checkpoint(1), engine="fast")._batch_sizes(engine)
    assert learned._probe._home == "cuda:1"  # type: ignore[union-attr]
    assert learned.first() == 128  # half of a TiB is planned for, by an estimate
    fixed = backend(tiny.checkpoint(1), engine="fast", batch_size=3)._batch_sizes(engine)
    assert fixed._probe is None


@pytest.mark.parametrize(("engine", "part"), [("fast", fast), ("plain", plain)])
def test_weights_that_do_not_fit_are_one_sentence(
    engine: str, part: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On their way to the device, fused, or with the first image."""

    def full(*rest: Any, **more: Any) -> Any:
        raise FULL

    place = "FastEngine" if engine == "fast" else "PlainEngine"
    monkeypatch.setattr(getattr(part, place), "features", full)
    with pytest.raises(ModelError, match=r"parameters in float32 and one image do not fit.*another --device"):
        backend(tiny.checkpoint(1), engine=engine).load()
    monkeypatch.setattr(getattr(part, place), "features", lambda *rest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backend(tiny.checkpoint(1), engine=engine).load()


def test_doctor_holds_one_engine_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies of the weights would not fit where one does."""
    alive: set[int] = set()
    most: list[int] = []
    for part in (fast.FastEngine, plain.PlainEngine):
        begin = part.__init__

        def noted(self: Any, *rest: Any, begin: Any = begin, **more: Any) -> None:
            begin(self, *rest, **more)
            self.itself = self  # not freed by counting references, nor by chance
            alive.add(id(self))
            most.append(len(alive))

        monkeypatch.setattr(part, "__init__", noted)
        monkeypatch.setattr(part, "__del__", lambda self: alive.discard(id(self)), raising=False)
    monkeypatch.setattr(doctor, "_texts", lambda model, asked: {})
    gc.disable()
    try:
        doctor.examine(str(tiny.checkpoint(1)), {"device": "cpu"}, 4, lambda line: None)
    finally:
        gc.enable()
    assert most == [1, 1, 1]


# --- small parts, as a GPU works on --------------------------------------------------------------


def test_a_gpus_parts_give_the_same_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limits hold wherever the CPU has none of its own."""
    asked = ask(12)
    wanted = {i: p.text for i, p in by_id(backend(tiny.checkpoint(2), engine="fast").predict(asked)).items()}
    for table in (decoder.MLP_ELEMENTS, fast.VISION_TOKENS, batch_size.TOKENS):
        monkeypatch.delitem(table, "cpu")
    monkeypatch.setattr(decoder, "GPU_MLP_ELEMENTS", 1)
    monkeypatch.setattr(decoder, "MLP_ROWS", 5)
    found = by_id(backend(tiny.checkpoint(2), engine="fast").predict(asked))
    assert {i: p.text for i, p in found.items()} == wanted


# --- the device ----------------------------------------------------------------------------------


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, fails: str = "") -> list[Any]:
    """Makes torch see so many GPUs; returns the devices on which something was computed."""
    used: list[Any] = []
    zeros = torch.zeros

    def noted(n: int, **options: Any) -> torch.Tensor:
        used.append(options.pop("device", None))
        if fails:
            raise RuntimeError(fails)
        return zeros(n)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: count - 1)
    monkeypatch.setattr(torch, "zeros", noted)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return used


@pytest.mark.parametrize(("name", "number"), [("auto", 1), ("cuda", 1), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_is_tried_before_it_is_used(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used = gpus(monkeypatch, 2)
    assert device.find_device(name) == torch.device("cuda", number)
    assert used == [torch.device("cuda", number)]


def test_the_gpu_of_the_weights_becomes_the_current_one(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "find_device", lambda name: SECOND)
    monkeypatch.setattr(loading, "_filled", lambda *rest: SimpleNamespace(to=on))
    monkeypatch.setattr(loading, "_from_folder", lambda *rest: on(SECOND))  # where a library places them
    info = backend(tiny.checkpoint(1)).info
    for scheme in (None, "bitsandbytes-nf4"):
        cuda.current = torch.device("cuda", 0)
        loading.load_model(info, "float32", "cuda:1", scheme=scheme)
        assert cuda.current == SECOND, scheme


def on(home: torch.device) -> Any:
    """A model of which only its device is known."""
    table = SimpleNamespace(weight=SimpleNamespace(device=home))
    return SimpleNamespace(get_input_embeddings=lambda: table)


@pytest.mark.parametrize(
    ("name", "count", "setting", "fails", "message"),
    [
        ("cuda", 0, None, "", r"0 usable GPUs; try --device cpu"),
        ("cuda:1", 1, ("CUDA_VISIBLE_DEVICES", "3"), "", r"1 usable GPUs \(CUDA_VISIBLE_DEVICES=3\)"),
        ("cuda", 0, ("CUDA_VISIBLE_DEVICES", ""), "", r"0 usable GPUs \(CUDA_VISIBLE_DEVICES=\)"),
        (
            "cuda:0", 1, None, "CUDA error: no kernel image is available\nmore",
            r"--device cuda:0: does not work here \(CUDA error: no kernel image is available\)",
        ),
        ("auto", 1, ("NVIDIA_TF32_OVERRIDE", "1"), "", "NVIDIA_TF32_OVERRIDE=1: .*unset it"),
    ],
)  # fmt: skip
def test_gpus_that_cannot_be_used(
    name: str, count: int, setting: Any, fails: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, count, fails)
    if setting:
        monkeypatch.setenv(*setting)
    with pytest.raises(ModelError, match=message):
        device.find_device(name)


@pytest.mark.parametrize(
    ("capability", "hip", "dtype", "warned"),
    [
        ((7, 5), None, "bfloat16", True),
        ((7, 5), None, "float32", False),
        ((8, 0), None, "bfloat16", False),
        ((7, 0), "6.4", "bfloat16", False),
    ],
)
def test_bfloat16_by_emulation_is_told(
    capability: tuple[int, int],
    hip: str | None,
    dtype: str,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda home: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda home: "Tesla T4")
    monkeypatch.setattr(torch.version, "hip", hip)
    with caplog.at_level(logging.WARNING, logger="evalkit"):
        device.warn_if_emulated(SECOND, dtype)
        device.warn_if_emulated(torch.device("cpu"), dtype)
    assert ("Tesla T4 computes it by emulation" in caplog.text) == warned


def test_provenance_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda home: f"GPU {home.index}")
    told = device.machine(SECOND)
    assert (told["device"], told["device_name"]) == ("cuda:1", "GPU 1")
    assert "instructions" not in told
    assert device.machine(torch.device("mps"))["device_name"] == "mps"


def test_how_numbers_are_computed_is_fixed() -> None:
    """Whatever was set before, by torch's old names or its new ones, for all of torch or for a part."""
    backends = torch.backends
    backends.fp32_precision = "tf32"
    backends.cudnn.fp32_precision = "tf32"
    backends.cuda.matmul.fp32_precision = "tf32"
    try:
        device.fix_arithmetic()
        assert torch.get_float32_matmul_precision() == "highest"
        assert backends.cuda.matmul.fp32_precision == "ieee"
        parts = (backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.conv, backends.mkldnn.matmul)
        assert {part.fp32_precision for part in parts} == {"ieee"}
        assert not backends.cudnn.allow_tf32
        assert not backends.cuda.matmul.allow_tf32
        assert not backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        assert not backends.cuda.matmul.allow_fp16_reduced_precision_reduction
        assert not backends.cuda.matmul.allow_fp16_accumulation
        assert not backends.cuda.cudnn_sdp_enabled()
        assert backends.cuda.flash_sdp_enabled()
    finally:
        backends.fp32_precision = backends.cudnn.fp32_precision = "none"


def test_a_default_device_of_the_program_changes_nothing() -> None:
    """`torch.set_default_device("cuda")`, as scripts say it; `meta` fails wherever it is taken."""
    info, made = backend(tiny.checkpoint(1)).info, {}
    for default in ("cpu", "meta"):
        with torch.device(default):
            model = loading.load_model(info, "bfloat16", "cpu")
            engine = fast.FastEngine(model, info.image_tokens)
            turns = engine.decoder.turns(3)
            inside = linear.gelu_inside.__wrapped__(torch.device("cpu"), torch.bfloat16)
            one = linear._multiplies.__wrapped__(torch.float32)
        made[default] = (engine.decoder.table.float().sum(), turns.abs().sum(), inside, one)
    assert made["cpu"] == made["meta"]


def test_a_training_in_tf32_for_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `evalkit run` refuses it: the two would answer differently."""
    monkeypatch.setattr(standstill, "base_of", lambda model: on(SECOND))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(ModelError, match="NVIDIA_TF32_OVERRIDE=1"), standstill.standstill(None):
        pass


def test_arithmetic_is_fixed_before_adapters_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging multiplies, too: a container may have set TF32 for all of it."""
    products = []

    def filled(*rest: Any) -> Any:
        products.append(torch.get_float32_matmul_precision())
        return SimpleNamespace(to=on)

    monkeypatch.setattr(loading, "_filled", filled)
    torch.set_float32_matmul_precision("medium")
    try:
        loading.load_model(backend(tiny.checkpoint(1)).info, "float32", "cpu")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert products == ["highest"]


# --- torch.compile -------------------------------------------------------------------------------


def test_compiling_needs_triton_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: Any, **options: Any) -> Any:
        raise RuntimeError("Cannot find a working triton installation")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(torch, "ones", lambda n, device: None)
    with pytest.raises(ModelError, match=r"working triton.*on cuda it needs triton"):
        compiling._check(SECOND)


CACHES = [
    (places, room, used)
    for places, room in ((1, 128), (32, 384), (8, 1152))
    for used in (128, 256, room)
    if used <= room
]


@pytest.mark.parametrize(
    ("family", "rows", "caches", "most"),
    [
        (1, (2, 4, 8), [(8, 384, 384)], 2),
        pytest.param(1, (1, 2, 4, 8, 32), CACHES, 6, marks=pytest.mark.slow),
        pytest.param(2, (1, 2, 4, 8, 32), CACHES, 6, marks=pytest.mark.slow),
    ],
)
def test_a_layer_is_compiled_a_few_times_whatever_the_shapes(
    family: int, rows: tuple[int, ...], caches: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond torch's limit it would run uncompiled, with other numbers. Dynamo alone: no kernel is made."""
    made: list[str] = []

    def compile_(function: Any, **options: Any) -> Any:
        def count(module: Any, inputs: Any) -> Any:
            made.append(getattr(function, "__name__", "check"))
            return module.forward

        return real(function, backend=count, **options)

    real = torch.compile
    torch._dynamo.reset()
    model = backend(tiny.checkpoint(family), engine="fast", sliding_window="transformers")
    model.load()
    engine: Any = model._engine
    monkeypatch.setattr(torch, "compile", compile_)
    engine.speed_up(graphs=False, compiled=True)
    run = engine.decoder
    with torch.inference_mode():
        for places, room, used in caches:
            state = run.begin(places, room, 0)
            for n in (n for n in rows if n <= places):
                table, at = run.turns(room), torch.full((n,), 3)
                some = (c[:, :n, :, :used] for c in (state.keys, state.values))
                run.masked_step(torch.zeros(n, dtype=torch.long), at, table[at], *some)
        if most == 6:
            for images in (1, 2, 3, 7, 13):
                engine.tower(torch.zeros((images, 28, 28, 3), dtype=torch.uint8))
            assert made.count("block") <= 2
    assert 1 < made.count("masked_layer") <= most


# --- what a GPU does otherwise than a CPU --------------------------------------------------------


def test_attention_on_a_gpu_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 too, which a CPU computes faster written out."""
    found = object()
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: found)
    q: Any = SimpleNamespace(dtype=torch.bfloat16, device=SECOND, shape=(8, 1, 2240, 256))
    assert attention.attend(q, q, q, 1.0) is found


@pytest.mark.parametrize("fails", ["", "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED", "wrong"])
def test_gelu_inside_a_product_is_tried_first(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = torch._addmm_activation

    def product(*given: Any, **more: Any) -> torch.Tensor:
        if fails.startswith("CUDA"):
            raise RuntimeError(fails)
        return inner(*given, **more) + 0.1 * bool(fails)

    monkeypatch.setattr(torch, "_addmm_activation", product)
    for dtype in (torch.bfloat16, torch.float16):
        assert linear.gelu_inside.__wrapped__(torch.device("cpu"), dtype) == (not fails)


def test_onednn_is_for_a_cpu() -> None:
    weight: Any = SimpleNamespace(device=SECOND, dtype=torch.float32)
    assert not linear.onednn(weight)


@pytest.mark.parametrize(
    ("name", "gpu", "parameters", "calm"),
    [
        ("cpu", True, 1000, True), ("auto", False, 1000, True), ("auto", True, 1000, False),
        ("cuda:1", True, 1000, False), ("cpu", False, 1 << 30, False),
    ],
)  # fmt: skip
def test_a_small_model_on_a_cpu_runs_in_one_thread(
    name: str, gpu: bool, parameters: int, calm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    info: Any = SimpleNamespace(parameters=parameters)
    checks.calm_threads(info, name)
    assert threads == [1] * calm
