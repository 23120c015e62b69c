"""What SLURM's own commands say: which jobs are in the queue, what became of one, and how large an array may be.

Only `squeue` and `scontrol` are asked, which every cluster has, and never accounting (`sacct`), which many have not.
Which cells the jobs of an array are is written down before they are queued, under the name that they get, so that a
command that is issued again finds the jobs of one that was killed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ablate.records import UserError
from ablate.store.files import SUBMISSIONS, write_atomically
from ablate.store.integrity import read_json, reading
from ablate.store.results import ResultStore
from ablate.terminal import one_line

LOOK_S = 10.0
"""Between two looks at the queue, whoever of this process asks."""
GONE_AFTER_S = 30.0
"""A job is lost when it is not in the queue for this long and left no result: file systems show files late."""
ANSWER_S = 60.0
"""What a command of SLURM gets to answer."""
REMEDY = "delete it: jobs that it names are then queued once more, and find their work done"
_JOB_ID = re.compile("[0-9]+(?:_([0-9]+))?")
USUAL_ARRAY = 1001
"""SLURM's own MaxArraySize, where it is not told."""


class Queued(NamedTuple):
    """A job in the queue, as `squeue` shows it."""

    name: str
    state: str
    """In SLURM's words: PENDING, RUNNING, COMPLETING, ..."""
    reason: str
    """Why it waits; `None` in SLURM's words while it runs."""


class Queue:
    """The jobs of this person in the queue, looked at once in LOOK_S at the most; safe for threads."""

    def __init__(self, look_s: float = LOOK_S) -> None:
        self._look_s = look_s
        self._jobs: dict[str, Queued] | None = None
        self._due = 0.0
        self._mutex = threading.Lock()

    def jobs(self) -> dict[str, Queued] | None:
        """Return id (`12`, or `12_3` in an array) -> job; None while SLURM does not answer."""
        with self._mutex:
            if time.monotonic() >= self._due:
                said = _said("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%T|%j|%r")
                self._jobs = None if said is None else _read(said)
                self._due = time.monotonic() + self._look_s
            return self._jobs

    def look_again(self) -> None:
        """Let the next question be asked of SLURM itself: jobs were queued just now."""
        with self._mutex:
            self._due = 0.0


def _read(text: str) -> dict[str, Queued]:
    fields = (line.split("|", 3) for line in text.splitlines())
    return {parts[0]: Queued(parts[2], parts[1], parts[3]) for parts in fields if len(parts) == 4}


def in_words(jobs: Iterable[Queued]) -> str:
    """Return how jobs stand, in a line: `2 running, 3 pending (Resources)`."""
    counts = Counter(
        job.state.lower() + (f" ({one_line(job.reason)})" if job.state == "PENDING" and job.reason != "None" else "")
        for job in jobs
    )
    return ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "none in the queue"


def fate(job_id: str) -> str:
    """Return how a job that left the queue ended, by what SLURM still knows: state, reason, exit code, node."""
    said = _said("scontrol", "--oneliner", "show", "job", job_id) or ""
    fields = dict(re.findall(r"(\w+)=(\S+)", said))
    state = fields.get("JobState")
    if state is None:
        return "SLURM does not know any more how it ended"
    reason = fields.get("Reason", "None")  # of one that was cancelled, why it waited before
    words = [state] if reason == "None" or state == "CANCELLED" else [state, reason]
    words += [f"{name} {fields[key]}" for name, key in (("exit code", "ExitCode"), ("on", "NodeList")) if key in fields]
    return one_line(", ".join(words))


def largest_array() -> int:
    """Return how many jobs an array may have here, by SLURM's MaxArraySize."""
    told = re.search(r"^MaxArraySize\s*=\s*(\d+)", _said("scontrol", "show", "config") or "", re.MULTILINE)
    return max(1, int(told.group(1)) if told else USUAL_ARRAY)


class Submissions:
    """Which cells the jobs of an array are, in files beside the results, one for each array."""

    def __init__(self, store: ResultStore) -> None:
        self._folder = store.root / SUBMISSIONS

    def add(self, cells: Sequence[str]) -> str:
        """Write down the cells of an array that is going to be queued, in its order, and return its mark."""
        mark = uuid.uuid4().hex[:12]
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file(mark), json.dumps({"cells": list(cells)}))
        return mark

    def remove(self, mark: str) -> None:
        """Forget an array, all jobs of which have ended."""
        self._file(mark).unlink(missing_ok=True)

    def living(self, jobs: dict[str, Queued]) -> dict[str, str]:
        """Return cell -> id of its job, for cells whose job is in the queue.

        A job belongs to an array by its name, which ends in the mark; others may have any id. Raises UserError for a
        record that cannot be read, and for a job of ours whose id does not say which cell it is.
        """
        cells: dict[str, str] = {}
        for job_id, job in jobs.items():
            mark = job.name.rpartition("-")[2]
            if not re.fullmatch("[0-9a-f]{12}", mark) or not self._file(mark).is_file():
                continue
            numbers = _JOB_ID.fullmatch(job_id)
            if numbers is None:
                raise UserError(
                    f"job {one_line(job_id)} ({one_line(job.name)}) is of this study, and its id does not say which "
                    f"cell it is (as 12 or 12_3 would); wait until it has left the queue, or scancel it"
                )
            cells[self._cell(mark, int(numbers[1] or 0))] = job_id
        return cells

    def _cell(self, mark: str, position: int) -> str:
        content = read_json(self._file(mark), REMEDY)
        with reading(self._file(mark), REMEDY):
            cells = content["cells"]
            if not isinstance(cells, list) or not all(isinstance(cell, str) for cell in cells):
                raise ValueError("cells is no list of texts")
            return str(cells[position])

    def _file(self, mark: str) -> Path:
        return self._folder / f"{mark}.json"


def _said(*command: str) -> str | None:
    """Return what a command of SLURM prints; None when it fails, is not there or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, errors="replace")
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
