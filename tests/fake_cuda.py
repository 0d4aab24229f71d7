"""A stand-in for `torch.cuda` that notes what is called, on which device and in which order. Tensors stay on
the CPU: tests hold order, devices and what happens after an error with it, not arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch


class Stream:
    def __init__(self, cuda: FakeCuda, name: str, home: torch.device) -> None:
        self.cuda, self.name, self.device = cuda, name, home

    def wait_stream(self, other: Stream) -> None:
        self.cuda.say(f"{self.name} waits for {other.name}")

    def wait_event(self, event: Event) -> None:
        self.cuda.say(f"{self.name} waits for {event.name}")

    def record_event(self) -> Event:
        event = Event(self.cuda)
        event.record(self)
        return event


class Event:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.name = cuda, "an event never recorded"

    def record(self, stream: Stream) -> None:
        self.name = f"the event on {stream.name}"
        self.cuda.say(f"event on {stream.name}")

    def synchronize(self) -> None:
        self.cuda.say(f"host waits for {self.name}")


class Graph:
    """A `CUDAGraph`: its pool may be asked for only after its recording was ended."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.given, self.ended = cuda, None, False

    def pool(self) -> Any:
        assert self.ended, "this graph was never recorded"
        return self.given or id(self)

    def replay(self) -> None:
        self.cuda.say("replay")


class FakeCuda:
    """What `torch.cuda` was told. `end_fails` makes the end of a recording fail, as after a step that cannot
    be recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.current = torch.device("cuda", 0)  # as in every new thread
        self.streams = {i: [Stream(self, f"default:{i}", torch.device("cuda", i))] for i in range(2)}
        self.made = 0  # streams
        self.end_fails: Exception | None = None
        for name in ("current_stream", "stream", "set_device", "empty_cache", "synchronize", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "Stream", self.make_stream)
        monkeypatch.setattr(torch.cuda, "Event", lambda: Event(self))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(self))

    def say(self, what: str) -> None:
        self.log.append(what)

    def make_stream(self, home: torch.device, priority: int = 0) -> Stream:
        self.made += 1
        name = f"side {self.made}:{home.index}" + (", first" if priority < 0 else "")
        return Stream(self, name, home)

    def current_stream(self, home: torch.device | None = None) -> Stream:
        return self.streams[(home or self.current).index][-1]

    def set_device(self, home: torch.device) -> None:
        self.current = home

    def empty_cache(self) -> None:
        self.say("empty cache")

    def synchronize(self, home: Any = None) -> None:
        self.say("synchronise")

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream.device
        self.streams[stream.device.index].append(stream)
        self.say(f"on {stream.name}")
        try:
            yield
        finally:
            self.streams[stream.device.index].pop()
            self.current = before
            self.say(f"off {stream.name}, on GPU {before.index}")

    @contextmanager
    def graph(self, graph: Graph, pool: Any, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        """As torch's: the recording is ended whatever happened in it; if that fails the stream stays."""
        assert self.current == stream.device, "the recording would be on another device"
        self.say(f"record on {stream.name}, {capture_error_mode}")
        graph.given = pool
        try:
            yield
        finally:
            if self.end_fails is not None:
                raise self.end_fails
            graph.ended = True
            self.say("recorded")
