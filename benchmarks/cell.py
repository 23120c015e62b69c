"""Where the CPU seconds of a cell go: two cells of a study, one after the other in one process.

    OMP_NUM_THREADS=1 python -m benchmarks.cell [OVERRIDES]

Processor time (user and system) of this process, so that a busy machine matters less than it does on a clock; what
is nested in another part is counted in the inner one alone. Results lie in a temporary folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablate.compose import load, strict
from ablate.run import execute

CELLS = ("dual_view", "instruction_negatives")
STEPS, ENCODING, DEV, TOKENISING = "training steps", "encoding for scores", "dev set in training", "tokenising"
LOADING, WRITING, REST = "weights read and written", "checkpoints", "all else"


class Parts:
    """CPU seconds by part, each without the parts that are nested in it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []
        self._open: list[str] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts its time as a part's; encoding inside the dev set is the dev set's."""

        def counting(*given: Any, **named: Any) -> Any:
            own = DEV if DEV in self._open and part == ENCODING else part
            self._open.append(own)
            self._inner.append(0.0)
            started = time.process_time()
            try:
                return function(*given, **named)
            finally:
                spent = time.process_time() - started
                self._open.pop()
                self.seconds[own] = self.seconds.get(own, 0.0) + spent - self._inner.pop()
                if self._inner:
                    self._inner[-1] += spent

        return counting


def watch(parts: Parts) -> None:
    """Put the clock around the functions that do the work."""
    from ablate.engine import stages
    from ablate.model.encoder import BiEncoder
    from ablate.model.module import RetrieverModule
    from ablate.model.resume import Checkpoints
    from ablate.model.text import TextTemplate

    places: list[tuple[Any, str, str]] = [
        (RetrieverModule, "training_step", STEPS),
        (BiEncoder, "_encode", ENCODING),
        (TextTemplate, "_tokenise", TOKENISING),
        (BiEncoder, "save", LOADING),
        (Checkpoints, "save", WRITING),
        *((stages, name, DEV) for name in ("measure_dev", "glance_at_dev") if hasattr(stages, name)),
    ]
    for owner, name, part in places:
        setattr(owner, name, parts.timed(part, getattr(owner, name)))
    for name in ("from_config", "load"):
        setattr(BiEncoder, name, staticmethod(parts.timed(LOADING, getattr(BiEncoder, name))))


def main() -> None:
    """Run the cells and print the table."""
    imported = time.process_time()
    parts = Parts()
    watch(parts)
    loaded = time.process_time()
    columns: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as results:
        for arm in CELLS:
            parts.seconds = {}
            started = time.process_time()
            quiet = sys.stdout
            with open(os.devnull, "w", encoding="utf-8") as sys.stdout:
                execute(strict(load([f"+experiment={arm}", f"runtime.results={Path(results)}", *sys.argv[1:]])))
            sys.stdout = quiet
            total = time.process_time() - started
            columns[arm] = {**parts.seconds, REST: total - sum(parts.seconds.values()), "sum": total}
    names = (STEPS, ENCODING, DEV, TOKENISING, LOADING, WRITING, REST, "sum")
    print(f"{'CPU seconds':<26}" + "".join(f"{title:>14}" for title in ("first cell", "second cell")))
    for name in names:
        print(f"{name:<26}" + "".join(f"{columns[arm].get(name, 0.0):14.2f}" for arm in CELLS))
    print(f"before the first cell: {imported:.2f} for this command, {loaded - imported:.2f} for torch and the like")


if __name__ == "__main__":
    main()
