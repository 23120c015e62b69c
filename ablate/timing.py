"""Where the time of a run goes: parts of stages, counted while a recording is on.

`timed` marks a part and `staged` a stage, as a context or as a decorator; without a recording both do nothing.
The time of a part is its own: what it spends in another part counts there alone, so all parts add up to the whole.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

START, BEFORE, OTHER = "start", "python and configuration", "other"
"""Stage before any other; its part before a recording begins; what no part of a stage is named for."""
MOST_SPANS = 100_000
"""Spans that are kept one by one for a trace; later ones are counted only."""


class Span(NamedTuple):
    """One passage through a part, with all that it spent in others."""

    stage: str
    part: str
    began: float
    """Seconds since the recording's zero."""
    wall: float
    cpu: float


@dataclass
class Spent:
    """What all passages through a part took of their own, in seconds."""

    times: int = 0
    wall: float = 0.0
    cpu: float = 0.0


@dataclass
class _Open:
    stage: str
    part: str
    began: float
    cpu: float
    wall_within: float = 0.0
    """Of this, what was spent in other parts."""
    cpu_within: float = 0.0


@dataclass
class Recording:
    """What one thread spends from now on; its zero is the start of the process for the first one of a process."""

    settle: Callable[[], None] | None = None
    """Waits for work that a device does on its own time; called where parts begin and end."""
    spans: list[Span] = field(default_factory=list)
    num_dropped: int = 0
    spent: dict[tuple[str, str], Spent] = field(default_factory=dict)
    """(stage, part) -> its own time, in the order of their first beginnings."""

    def __post_init__(self) -> None:
        """Count what the process took before its first recording."""
        global _first
        self._thread, self._open = threading.get_ident(), list[_Open]()
        before = _seconds_since_birth() if _first else 0.0
        self._zero = time.perf_counter() - before
        if _first:
            self._keep(Span(START, BEFORE, 0.0, before, time.process_time()), before, time.process_time())
        _first = False

    def begin(self, part: str, stage: str | None) -> None:
        """Begin a part of a stage; None: of the stage that is open."""
        if threading.get_ident() == self._thread:
            if self.settle is not None:
                self.settle()
            stage = stage or (self._open[-1].stage if self._open else START)
            self.spent.setdefault((stage, part), Spent())
            self._open.append(_Open(stage, part, time.perf_counter(), time.process_time()))

    def end(self) -> None:
        """End the part that was begun last."""
        if threading.get_ident() == self._thread:
            if self.settle is not None:
                self.settle()
            part = self._open.pop()
            wall, cpu = time.perf_counter() - part.began, time.process_time() - part.cpu
            if self._open:
                self._open[-1].wall_within += wall
                self._open[-1].cpu_within += cpu
            span = Span(part.stage, part.part, part.began - self._zero, wall, cpu)
            self._keep(span, wall - part.wall_within, cpu - part.cpu_within)

    def stop(self) -> None:
        """End all parts that are open and record nothing more."""
        while self._open and threading.get_ident() == self._thread:
            self.end()
        self._thread = -1

    def _keep(self, span: Span, own_wall: float, own_cpu: float) -> None:
        spent = self.spent.setdefault((span.stage, span.part), Spent())
        spent.times, spent.wall, spent.cpu = spent.times + 1, spent.wall + own_wall, spent.cpu + own_cpu
        if len(self.spans) < MOST_SPANS:
            self.spans.append(span)
        else:
            self.num_dropped += 1


_recording: Recording | None = None
_first = True


class timed(contextlib.ContextDecorator):
    """A part of the stage that is open, as a context or as a decorator."""

    def __init__(self, part: str, *, stage: str | None = None) -> None:
        self._part, self._stage = part, stage
        self._recording: Recording | None = None

    def _recreate_cm(self) -> timed:
        """Return a context of its own for each call of a decorated function, which may call itself."""
        return timed(self._part, stage=self._stage)

    def __enter__(self) -> None:
        """Begin, where a recording is on."""
        self._recording = _recording
        if self._recording is not None:
            self._recording.begin(self._part, self._stage)

    def __exit__(self, *error: object) -> None:
        """End what was begun."""
        if self._recording is not None:
            self._recording.end()


def staged(stage: str) -> timed:
    """Return a stage: what is in none of its parts counts as `other`."""
    return timed(OTHER, stage=stage)


def timed_each(part: str, items: Iterable[T]) -> Iterable[T]:
    """Return the items, the making of each of them timed as one part; without a recording, what was given."""
    return items if _recording is None else _each(part, iter(items))


def _each(part: str, items: Iterator[T]) -> Iterator[T]:
    nothing: Any = object()
    while True:
        with timed(part):
            item = next(items, nothing)
        if item is nothing:
            return
        yield item


@contextlib.contextmanager
def recorded(wanted: bool) -> Iterator[Recording | None]:
    """Record what a block spends and yield the recording, or None where none is wanted."""
    global _recording
    if not wanted:
        yield None
        return
    before, _recording = _recording, Recording()
    try:
        with staged(START):
            yield _recording
    finally:
        _recording = before


def _seconds_since_birth() -> float:
    """Return how long this process has lived, where the system tells; else what it has computed."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return time.process_time()
