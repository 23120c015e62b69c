"""Being asked to end (SIGTERM, SIGHUP, Ctrl-C): the run is put down tidily, and the exit code always says it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
PATIENCE_S = 10.0
"""What the runs in worker processes get to be put down tidily."""

asked_to_end = threading.Event()
"""Set once this process was asked to end: nothing new is started."""


@contextlib.contextmanager
def told_by_exit_code(signals: tuple[signal.Signals, ...] = SIGNALS) -> Iterator[None]:
    """Turn each of these signals into an exit with code 128 + its number: 143, 129, 130; a second one ends at once.

    An exit that something on the way swallowed, because it fell into a destructor or another library's handler, is
    made up for at the end of the block. A signal that somebody handles already (a scheduler's job) or that is ignored
    (`nohup`) is left alone, and so is everything outside of the main thread. joblib's workers are asked to end,
    too, and none is left behind.
    """
    asked: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        if asked:
            os._exit(128 + number)
        asked.append(number)
        asked_to_end.set()
        for worker in _workers():
            with contextlib.suppress(OSError):
                os.kill(worker, signal.SIGTERM)
        raise SystemExit(128 + number)

    ours = {}
    if threading.current_thread() is threading.main_thread():
        unhandled = (signal.SIG_DFL, signal.default_int_handler)
        ours = {signum: handler for signum in signals if (handler := signal.getsignal(signum)) in unhandled}
    try:
        for signum in ours:
            signal.signal(signum, end)
        yield
    except BaseException:
        if not asked:
            raise
    finally:
        for signum, handler in ours.items():
            signal.signal(signum, handler)
    if asked:
        _end_workers()
        asked_to_end.clear()
        name = signal.Signals(asked[0]).name
        print(f"ended by {name}; the same command goes on from where it stopped", file=sys.stderr)
        raise SystemExit(128 + asked[0])


def _executor() -> Any:
    """Return what runs joblib's shared worker processes, or None where there are none."""
    module = sys.modules.get("joblib.externals.loky.reusable_executor")
    return getattr(module, "_executor", None)


def _workers() -> list[int]:
    return list(getattr(_executor(), "_processes", None) or ())


def _end_workers() -> None:
    """Kill the workers that are left: at its exit, joblib would wait for their runs."""
    executor = _executor()
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)
