"""A worker that computes when it is told to: one round for each line that it reads, one line of costs for each."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def peak_mib() -> float:
    """Return the highest resident size of this process so far.

    Not from getrusage where the kernel tells it otherwise: that one starts at the size of the parent.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1024)


def gpu_peak_mib() -> float | None:
    """Return the most memory that was held on the GPU, None where there is none."""
    import torch

    return torch.cuda.max_memory_allocated() / (1 << 20) if torch.cuda.is_available() else None


class Gate:
    """Stops the work after each round and tells what the round took; the end of the input ends the process."""

    def __init__(self, steps_per_round: int) -> None:
        """A round is so many calls of `step`."""
        self._steps_per_round, self._steps = steps_per_round, 0
        self._out = sys.stdout
        sys.stdout = sys.stderr  # what libraries print must not stand among the answers

    def say(self, **told: Any) -> None:
        """Answer with one line of JSON."""
        print(json.dumps(told), file=self._out, flush=True)

    def open(self) -> None:
        """Wait for the next round and start its clocks."""
        if not sys.stdin.readline():
            raise SystemExit(0)
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def close(self, **told: Any) -> None:
        """Tell what the round took."""
        _synchronise()
        cost = {"cpu": time.process_time() - self._cpu, "wall": time.perf_counter() - self._wall}
        self.say(**cost, peak_mib=peak_mib(), gpu_peak_mib=gpu_peak_mib(), **told)

    def step(self, **told: Any) -> None:
        """Count one step; after the last one of a round, tell and wait."""
        self._steps += 1
        if self._steps % self._steps_per_round == 0:
            self.close(**told)
            self.open()

    def rounds(self, work: Callable[[], dict[str, Any]]) -> None:
        """Do the same work in every round until the input ends."""
        while True:
            self.open()
            self.close(**work())


def _synchronise() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
