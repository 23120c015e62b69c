"""Processes of the benchmark: workers that go round by round, and whole cells, with what each took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ablate.project import ROOT

TAIL = 2000
"""Characters of a failed process's last words that are shown."""


def environment(threads: int) -> dict[str, str]:
    """Return the environment that every process of both sides gets."""
    same = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **same, "HF_HUB_OFFLINE": "1"}


class Worker:
    """A process that does one task round by round, in a `with` block."""

    def __init__(self, folder: Path, task: str, setting: dict[str, Any], threads: int) -> None:
        """`setting` is what the task takes, see `benchmarks.peer.worker`."""
        self._words = tempfile.TemporaryFile("w+")
        told = json.dumps({**setting, "threads": threads})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peer.worker", str(folder), task, told],
            cwd=ROOT,
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
        )
        self._task = task

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._words.close()

    def answer(self) -> dict[str, Any]:
        """Return the next answer; raises RuntimeError with its last words when the process has ended without one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._words.seek(0)
            raise RuntimeError(f"{self._task} ended: {self._words.read()[-TAIL:]}")
        told: dict[str, Any] = json.loads(line)
        return told

    def round(self) -> dict[str, Any]:
        """Let it do one round and return what that took."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and `answer` tells why
        return self.answer()


def one_by_one(commands: Sequence[Sequence[str]], threads: int) -> dict[str, Any]:
    """Run commands one after another and return wall seconds, and of each its CPU seconds, peak memory and output.

    CPU seconds are those of a process and of the children that it waited for. Raises RuntimeError when one fails.
    """
    began, done = time.perf_counter(), list[dict[str, Any]]()
    for command in commands:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as words:
            process = subprocess.Popen(command, cwd=ROOT, env=environment(threads), stdout=out, stderr=words)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                words.seek(0)
                raise RuntimeError(f"{' '.join(map(str, process.args))} failed: {words.read()[-TAIL:]}")
            out.seek(0)
            peak = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1024)
            done.append({"cpu": usage.ru_utime + usage.ru_stime, "peak_mib": peak, "out": out.read()})
    return {"wall": time.perf_counter() - began, "processes": done}
