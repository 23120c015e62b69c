"""The cells of a plan, run until none is left: one after the other, in lanes, or in one batch.

Nothing is kept in memory that matters: a cell is done when its stages are complete, it is taken by a lock that names a
living process, and it failed when its failure is described on the disk. So any number of processes may work on one
study, and after any interruption the same command goes on with what is missing.
"""

from __future__ import annotations

import functools
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.cli.interrupts import PATIENCE_S, asked_to_end
from ablate.recipe.schema import RunConfig
from ablate.records import UserError
from ablate.store.files import disk_trouble
from ablate.store.lock import Lock, Reminder
from ablate.store.provenance import now
from ablate.store.results import ResultStore
from ablate.study.planning import Cell
from ablate.study.records import StudyRecords
from ablate.study.status import claim_name, duration, is_done, is_running, locks_of
from ablate.terminal import one_line

POLL_S = 0.5
"""Between looks at cells that other processes work on."""

LOOKING = 0.02
"""Share of the time that looks at all cells may take, which only serve the line that is printed as cells end."""

MAX_STARTS = 2
"""Times that a cell is started when its worker dies: a worker that is killed takes its neighbours down with it."""

Launch = Callable[[Cell, int], Exception | None]
"""Runs a cell (with its number) and returns what it failed with; raises when its worker died."""

LaunchAll = Callable[[Sequence[tuple[int, Cell]]], Iterable[tuple[int, Exception | None]]]
"""Runs cells (with their numbers) and yields the number of each with what it failed with, as they come back; one that
it does not yield is back at its end."""


def refuse_several_processes() -> None:
    """Raise UserError when torchrun started several processes on one multirun: each would run all of its runs."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise UserError(
            f"torchrun started {processes} processes and each of them would go through every run of this multirun; "
            f"use torchrun for one run (without -m), and a launcher (hydra/launcher=joblib, …) for many runs"
        )


def refuse_split_weights(config: RunConfig) -> None:
    """Raise UserError for a run of a multirun that would split its weights: torchrun starts one run, not many."""
    if config.runtime.shard_weights and config.recipe.ranker == "trained":
        raise UserError(
            "runtime.shard_weights=true is for one run that torchrun starts (without -m), and this is one of a "
            "multirun; set it to false"
        )


class Board:
    """The cells of a plan, and which of them are taken, done or failed; safe for threads."""

    def __init__(self, store: ResultStore, cells: Sequence[Cell], *, workers: int = 1) -> None:
        self.store = store
        self.cells = [cell for cell in cells if cell.config is not None]
        self.workers = workers
        self.failed: dict[str, str] = {}
        """Name of a cell -> one line about what went wrong."""
        self._claim_names = [claim_name(cell) for cell in self.cells]  # a digest each, and asked for again and again
        self._claims: dict[str, Lock] = {}
        self._done: set[int] = set()
        self._elsewhere: set[int] = set()
        """What other processes worked on at the last look at all cells."""
        self._next_look = 0.0
        self._told = ""
        """The line that was printed last."""
        self._starts: dict[int, int] = {}
        self._seconds: list[float] = []
        self._mutex = threading.RLock()
        self._failures_before = {number: self._failure_stamp(cell) for number, cell in enumerate(self.cells)}
        for number, cell in enumerate(self.cells):
            self._look_at(number, cell)

    def claim(self) -> tuple[int, Cell] | None:
        """Take the first cell that is not done and that no living process works on; None when none is left.

        None, too, once this process was asked to end. Waits while all that is left is worked on by other processes.
        """
        remind = Reminder()
        while not asked_to_end.is_set():
            with self._mutex:
                taken = self.claim_now()
                if taken is not None:
                    return taken
                numbers = [number for number, cell in enumerate(self.cells) if self._is_left(number, cell)]
                if all(map(self._is_here, numbers)):
                    return None  # nothing is left, or other lanes of this process have it
            remind(functools.partial(self._waiting, [self.cells[number] for number in numbers]))
            time.sleep(POLL_S)
        return None

    def claim_now(self) -> tuple[int, Cell] | None:
        """Take a cell as `claim` does, without waiting; cells behind the one that is taken are not looked at."""
        with self._mutex:
            for number, cell in enumerate(self.cells):
                if asked_to_end.is_set():
                    return None
                if self._is_left(number, cell):
                    self._look_at(number, cell)
                    if self._is_left(number, cell) and self._take(number, cell):
                        self._starts[number] = self._starts.get(number, 0) + 1
                        return number, cell
            return None

    def finish(self, number: int, cell: Cell, error: Exception | None, seconds: float | None) -> None:
        """Record how a cell ended, give it back and print a line over the whole study.

        `seconds` is what it took, or None when that is not known (it waited in a queue).
        """
        with self._mutex:
            if error is None and is_done(self.store, cell):
                self._done.add(number)
                self._seconds.extend([] if seconds is None else [seconds])
                self._failure_file(cell).unlink(missing_ok=True)
            else:
                self._fail(number, cell, error or RuntimeError("its worker came back without results"))
            self.release(cell)
            self.tell()

    def tell(self, *, again: bool = True) -> None:
        """Print how the whole study stands; not `again`: only where that is not what was printed last.

        Once `claim` has found that nothing is left, it is up to date.
        """
        with self._mutex:
            line = self.line()
            if again or line != self._told:
                print(line, file=sys.stderr, flush=True)
            self._told = line

    def give_back(self, number: int, cell: Cell, error: Exception) -> None:
        """Put a cell whose worker died back, or record it as failed when that happened too often."""
        with self._mutex:
            if asked_to_end.is_set():  # it ended with this process, and did not fail
                self.release(cell)
                return
            if is_done(self.store, cell) or self._starts[number] >= MAX_STARTS:
                self.finish(number, cell, None if is_done(self.store, cell) else error, 0.0)
                return
            print(f"{cell.name}: its worker died ({_one_line(error)}); once more", file=sys.stderr)
            self.release(cell)

    def line(self) -> str:
        """Return how the whole study stands, in one line; what other processes did may be as old as the last look."""
        with self._mutex:
            self._look()
            total, done, failed = len(self.cells), len(self._done), len(self.failed)
            numbers = [number for number, cell in enumerate(self.cells) if self._is_left(number, cell)]
            left = [self.cells[number] for number in numbers]
            here = sum(self._is_here(number) for number in numbers)
            elsewhere = sum(number in self._elsewhere and not self._is_here(number) for number in numbers)
            text = f"{done} of {total} cells done, {here} running here, {elsewhere} elsewhere, {failed} failed"
            costs = [cell.estimate_s for cell in left if not cell.same_as]
            mean = sum(self._seconds) / len(self._seconds) if self._seconds else None
            times = [mean if mean is not None else cost for cost in costs]
            known = [seconds for seconds in times if seconds is not None]
            if costs and known:
                text += f", {duration(sum(known) / max(1, self.workers + elsewhere))} left"
            return text

    def _is_left(self, number: int, cell: Cell) -> bool:
        return number not in self._done and cell.name not in self.failed

    def _is_here(self, number: int) -> bool:
        return self._claim_names[number] in self._claims

    def _look(self) -> None:
        """Look at all cells, unless the last look is so recent that more than LOOKING of the time would go there."""
        began = time.monotonic()
        if began < self._next_look:
            return
        self._elsewhere.clear()
        for number, cell in enumerate(self.cells):
            self._look_at(number, cell)
            if self._is_left(number, cell) and not self._is_here(number) and is_running(self.store, cell):
                self._elsewhere.add(number)
        ended = time.monotonic()
        self._next_look = ended + (ended - began) / LOOKING

    def _look_at(self, number: int, cell: Cell) -> None:
        """Read from the results whether a cell is done, or another process found it to fail since this one started."""
        if number in self._done or self._is_here(number):
            return
        if is_done(self.store, cell):
            self._done.add(number)
            self._failure_file(cell).unlink(missing_ok=True)
        elif cell.name not in self.failed and self._failure_stamp(cell) not in (None, self._failures_before[number]):
            self.failed[cell.name] = f"failed in another process ({self._failure_file(cell)})"

    def _take(self, number: int, cell: Cell) -> bool:
        if self._is_here(number):
            return False
        claim, *others = locks_of(self.store, cell)
        if not claim.take():
            return False
        if any(lock.is_held() for lock in others) or is_done(self.store, cell):
            claim.release()
            return False
        self._claims[self._claim_names[number]] = claim
        return True

    def _waiting(self, cells: Sequence[Cell]) -> str:
        """Return whom this process waits for: the number of cells, and who works on the first of them."""
        holders = (holder for cell in cells for lock in locks_of(self.store, cell) if (holder := lock.holder()))
        return f"waiting for {len(cells)} cells that other processes work on; the first: {next(holders, 'just ended')}"

    def release(self, cell: Cell) -> None:
        """Let other processes have a cell."""
        with self._mutex:
            claim = self._claims.pop(claim_name(cell), None)
            if claim is not None:
                claim.release()

    def _fail(self, number: int, cell: Cell, error: Exception) -> None:
        path = self._failure_file(cell)
        if self._failure_stamp(cell) in (None, self._failures_before[number]):
            StudyRecords(self.store, cell.study).keep_failure(*_place(cell), failure_text(error))
        self.failed[cell.name] = f"{_one_line(error)} ({path})"
        print(f"{cell.name}: {_one_line(error)}", file=sys.stderr)

    def _failure_file(self, cell: Cell) -> Path:
        return StudyRecords(self.store, cell.study).failure_file(*_place(cell))

    def _failure_stamp(self, cell: Cell) -> int | None:
        try:
            return self._failure_file(cell).stat().st_mtime_ns
        except OSError:
            return None


def run_one_by_one(board: Board, launch: Launch) -> None:
    """Run the cells in this thread."""
    while (taken := board.claim()) is not None:
        _run(board, launch, *taken)


def run_in_lanes(board: Board, launch: Launch, lanes: int) -> None:
    """Run the cells in lanes, a thread each that takes the next cell as soon as its own is back: no batch to wait for.

    What is not an ordinary failure (the end of the process was asked for) in a lane is raised here.
    """
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def lane() -> None:
        try:
            run_one_by_one(board, launch)
        except BaseException as error:
            ends.put(error)
        else:
            ends.put(None)

    threads = [threading.Thread(target=lane, daemon=True) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(lanes):
            error = ends.get()
            if error is not None:
                raise error
    except BaseException:
        deadline = time.monotonic() + PATIENCE_S
        while threads := [thread for thread in threads if thread.is_alive() and time.monotonic() < deadline]:
            threads[0].join(0.1)
        raise


def run_in_batches(board: Board, launch_all: LaunchAll, largest: int | None = None) -> None:
    """Run all cells that are free as one batch (a job array), and again while there are cells that were never tried.

    A batch has at most `largest` cells. How each ended is read from the results as soon as it is back. What is wrong
    with the batch itself, so that no job of it was queued, is a UserError of `launch_all` and is raised here.
    """
    while (first := board.claim()) is not None:
        batch = [first]
        while (largest is None or len(batch) < largest) and (more := board.claim_now()) is not None:
            batch.append(more)
        left, error = dict(batch), None
        try:
            for number, error_of_cell in launch_all(batch):
                cell = left.pop(number)
                board.finish(number, cell, None if is_done(board.store, cell) else error_of_cell, None)
        except (UserError, SystemExit, KeyboardInterrupt):  # nothing was queued, or the jobs go on without this process
            for cell in left.values():
                board.release(cell)
            raise
        except Exception as caught:  # one job of the batch was lost; the others have left their results
            error = caught
        for number, cell in left.items():
            board.finish(number, cell, None if is_done(board.store, cell) else error, None)


def _run(board: Board, launch: Launch, number: int, cell: Cell) -> None:
    started = time.monotonic()
    try:
        error = launch(cell, number)
    except Exception as lost:
        board.give_back(number, cell, lost)
    except BaseException:  # the end was asked for: the next process need not find out that this one is gone
        board.release(cell)
        raise
    else:
        board.finish(number, cell, error, time.monotonic() - started)


def keep_failure(runtime: Mapping[str, Any], seed: int, error: Exception) -> Exception:
    """Describe in the results why a run of a multirun failed, and return a plain error that any process can read.

    A full disk, on which nothing can be described, is no reason to lose the message.
    """
    message = user_message(error)
    text = failure_text(error)
    try:
        StudyRecords(ResultStore(runtime["results"]), runtime["study"]).keep_failure(runtime["label"], seed, text)
    except OSError as trouble:
        print(f"the failure could not be written down: {trouble}", file=sys.stderr)
    return UserError(message) if message else RuntimeError(f"{type(error).__name__}: {_one_line(error)}")


def user_message(error: Exception) -> str | None:
    """Return the line for the user when an error is a mistake or the disk, None when it is a fault of the program."""
    if isinstance(error, UserError):
        return _one_line(error)
    return disk_trouble(error) if isinstance(error, OSError) else None


def failure_text(error: Exception) -> str:
    """Return what is kept about a failure: when, what, and from where."""
    return f"{now()}\n{''.join(traceback.format_exception(error))}"


def _one_line(error: Exception) -> str:
    return one_line(error) or type(error).__name__


def _place(cell: Cell) -> tuple[str, int]:
    assert cell.config is not None
    return cell.label, cell.config.seed
