"""What a process that is asked to end says with its exit code."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from ablate.cli.interrupts import SIGNALS, told_by_exit_code


def ended(body: Callable[[], None]) -> int:
    """Run a body in a child process under `told_by_exit_code` and return the child's exit code."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            for one in SIGNALS:
                signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)
            with told_by_exit_code():
                body()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def send(number: int) -> None:
    os.kill(os.getpid(), number)


class Careless:
    """Is asked to end where Python loses every exception: in a destructor."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        send(self.number)


def swallowed(number: int) -> None:
    with pytest.raises(SystemExit):
        send(number)


def in_a_destructor(number: int) -> None:
    Careless(number)


def while_it_fails(number: int) -> None:
    try:
        raise ValueError("something else")
    finally:
        send(number)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("body", [send, swallowed, in_a_destructor, while_it_fails])
def test_whoever_is_asked_to_end_never_looks_finished(body: Callable[[int], None], number: int) -> None:
    assert ended(lambda: body(number)) == 128 + number


def test_the_second_signal_ends_at_once() -> None:
    def slow() -> None:
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGTERM)
            time.sleep(60)

    assert ended(slow) == 143


def test_other_ends_stay_what_they_are() -> None:
    def two() -> None:
        raise SystemExit(2)

    def nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with told_by_exit_code():
            send(signal.SIGHUP)

    assert ended(lambda: None) == 0 and ended(two) == 2 and ended(nohup) == 0


def test_handlers_are_given_back_and_those_of_others_are_left_alone() -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    with told_by_exit_code():
        outer = [signal.getsignal(one) for one in SIGNALS]
        with told_by_exit_code():
            assert [signal.getsignal(one) for one in SIGNALS] == outer
    assert [signal.getsignal(one) for one in SIGNALS] == before
