"""Where the time of a run goes: parts have their own time, add up to the whole, and are nothing when none is asked."""

from __future__ import annotations

import threading
import time

import pytest

from ablate import timing
from ablate.engine.profiling import COLUMNS, rows_of, table_of, trace_of
from ablate.timing import Recording, recorded, staged, timed, timed_each


class Clock:
    """A clock that only moves when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(time, "process_time", lambda: clock.now / 2)
    monkeypatch.setattr(timing, "_first", False)
    return clock


def a_run(clock: Clock) -> Recording:
    """Three seconds of training, of which two are two forward passes, with one of them in a dev set's measurement."""

    @timed("forward")
    def forward() -> None:
        clock.now += 1

    with recorded(True) as recording:
        assert recording is not None
        clock.now += 5
        with staged("training"):
            forward()
            clock.now += 0.5
            with staged("dev set"):
                clock.now += 0.25
                forward()
            clock.now += 0.25
    return recording


def test_the_time_of_a_part_is_its_own(clock: Clock) -> None:
    recording = a_run(clock)
    assert {key: (spent.times, spent.wall, spent.cpu) for key, spent in recording.spent.items()} == {
        ("start", "other"): (1, 5.0, 2.5),
        ("training", "other"): (1, 0.75, 0.375),
        ("training", "forward"): (1, 1.0, 0.5),
        ("dev set", "other"): (1, 0.25, 0.125),
        ("dev set", "forward"): (1, 1.0, 0.5),
    }


def test_shares_are_of_all_that_passed(clock: Clock) -> None:
    rows = rows_of(a_run(clock))
    assert [row["stage"] for row in rows] == ["start", "training", "training", "dev set", "dev set"]
    assert rows[0]["share"] == 5 / 8 and sum(row["share"] for row in rows) == 1
    assert tuple(rows[0]) == COLUMNS


def test_table_sums_stages(clock: Clock) -> None:
    lines = table_of(a_run(clock)).rows
    assert ("training", "", "", "1.75", "0.88", "21.9%") in lines
    assert ("", "forward", "1", "1.00", "0.50", "12.5%") in lines
    assert lines[-1] == ("all", "", "", "8.00", "4.00", "100.0%")


def test_trace_has_an_event_for_each_passage(clock: Clock) -> None:
    trace = trace_of(a_run(clock), "arm seed 0")
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert [(event["name"], event["cat"], event["ts"], event["dur"]) for event in events] == [
        ("start", "start", 0.0, 8e6),
        ("training", "training", 5e6, 3e6),
        ("forward", "training", 5e6, 1e6),
        ("dev set", "dev set", 6.5e6, 1.25e6),
        ("forward", "dev set", 6.75e6, 1e6),
    ]
    assert trace["traceEvents"][0]["args"] == {"name": "arm seed 0"}


def test_what_is_too_much_for_a_trace_is_counted(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MOST_SPANS", 2)
    recording = a_run(clock)
    assert len(recording.spans) == 2 and recording.num_dropped == 3
    assert trace_of(recording, "")["otherData"] == {"spans that were counted only": 3}
    assert recording.spent["training", "other"].wall == 0.75


def test_items_are_timed_where_they_are_made(clock: Clock) -> None:
    def items() -> list[int]:
        made = []
        for item in timed_each("read", slow()):
            clock.now += 10
            made.append(item)
        return made

    def slow() -> object:
        for item in range(3):
            clock.now += 1
            yield item

    with recorded(True) as recording:
        assert items() == [0, 1, 2]
    assert recording is not None and recording.spent["start", "read"].wall == 3
    assert recording.spent["start", "other"].wall == 30


def test_without_a_recording_nothing_is_made() -> None:
    given = [1, 2]
    assert timed_each("read", given) is given
    with recorded(False) as recording, timed("part"):
        assert recording is None


def test_parts_of_errors_and_of_calls_of_themselves_end(clock: Clock) -> None:
    @timed("part")
    def down(depth: int) -> None:
        clock.now += 1
        if not depth:
            raise ValueError
        down(depth - 1)

    with recorded(True) as recording, pytest.raises(ValueError):
        down(2)
    assert recording is not None and recording.spent["start", "part"].wall == 3
    assert recording.spent["start", "part"].times == 3


def test_another_thread_disturbs_nothing(clock: Clock) -> None:
    with recorded(True) as recording:
        thread = threading.Thread(target=lambda: timed("elsewhere").__enter__())
        thread.start()
        thread.join()
        with timed("here"):
            clock.now += 1
    assert recording is not None and ("start", "elsewhere") not in recording.spent
    assert recording.spent["start", "here"].wall == 1


def test_a_device_is_waited_for_at_each_border(clock: Clock) -> None:
    def settle() -> None:
        clock.now += 1

    with recorded(True) as recording:
        assert recording is not None
        recording.settle = settle
        with timed("on the device"):
            pass
    assert recording.spent["start", "on the device"].wall == 1


def test_a_first_recording_counts_what_was_before_it(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_first", True)
    monkeypatch.setattr(timing, "_seconds_since_birth", lambda: 4.0)
    for expected in ([4.0], []):
        with recorded(True) as recording:
            pass
        assert recording is not None
        before = [spent.wall for (_, part), spent in recording.spent.items() if part == timing.BEFORE]
        assert before == expected
