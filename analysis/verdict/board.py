"""Where a running study stands, from what lies in the folder of results at this moment: no process is asked.

The pace is that of the last runs to finish, whatever they waited for (start-up, other work on the machine), so the time
left is what a person with a watch would say.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ablate.records import UserError
from ablate.store.files import FOLDERS, LEDGER_FILE, LOCKS
from ablate.store.lock import Lock
from ablate.store.results import ResultStore
from ablate.study.records import StudyRecords
from analysis.stats.contrast import ContrastRow
from analysis.stats.contrast_rows import contrast_rows
from analysis.stats.crossed import Options
from analysis.stats.families import Plan
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy, untestable
from analysis.verdict.judge import asked_by

RECENT = 8
"""Runs whose pace counts."""
_TAIL_BYTES = 4096


class Running(NamedTuple):
    """A training that a living process works on."""

    name: str
    """Its arm, or its id where no name is known yet."""
    step: int | None
    steps: int | None


@dataclass(frozen=True)
class Board:
    """One look at a study."""

    study: str
    num_done: int
    num_wanted: int | None
    """None where no declaration says how many runs there are to be."""
    running: tuple[Running, ...]
    num_failed: int
    pace_s: float | None
    """Seconds from one finished run to the next; None for fewer than two."""
    cpu_s: float
    """Of all stages that are there."""
    rows: tuple[ContrastRow, ...]
    """Contrasts of the claims that can be estimated so far."""

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at this pace; None where that is not known."""
        if self.num_wanted is None or self.pace_s is None:
            return None
        return self.pace_s * (self.num_wanted - self.num_done)

    @property
    def is_complete(self) -> bool:
        """Whether every declared run is there."""
        return self.num_wanted is not None and self.num_done >= self.num_wanted


def look(results: str | Path, study: str) -> Board:
    """Return where a study stands; raises UserError for one that has neither runs nor a declaration."""
    evidence = Evidence(results, study)
    store = evidence.store
    declared, cells = evidence.declared, evidence.cells
    scored = store.by_arm("evaluation", study) if store.arms("evaluation", study) else {}
    if not scored and declared is None:
        raise UserError(f"study {study!r} has neither runs nor a declaration under {store.root}; start it first")
    wanted = None if cells is None else {(cell.label, cell.seed) for cell in cells if not cell.reason}
    free = OpenStudy(evidence).deterministic if scored else frozenset()
    done = set(scored) if wanted is None else {cell for cell in wanted if cell in scored or cell[0] in free}
    finished = sorted(manifest.finished for manifest in scored.values())[-RECENT:]
    stages = {(stage.kind, stage.id): stage for stage in evidence.stages} if scored else {}
    return Board(
        study,
        len(done),
        None if wanted is None else len(wanted),
        tuple(_running(store, study)),
        len(StudyRecords(store, study).failures()),
        _pace(finished),
        sum(stage.cost.get("cpu_s", 0.0) for stage in stages.values()),
        _rows(evidence) if scored else (),
    )


def _running(store: ResultStore, study: str) -> list[Running]:
    workloads = {workload.train: workload for workload in store.workloads()}
    trainings = []
    for path in sorted((store.root / LOCKS).glob("run-*.json")):
        if not Lock(path).is_held():
            continue
        train = path.stem.removeprefix("run-")
        workload = workloads.get(train)
        labels = workload.labels if workload else ()
        names = [label.partition("/")[2] for label in labels if label.startswith(f"{study}/")]
        if workload is not None and not names:
            continue  # of another study
        steps = workload.counts.get("optimiser_steps") if workload else None
        step = _last_step(store.root / FOLDERS["train"] / train / LEDGER_FILE)
        trainings.append(Running(names[0] if names else train, step, steps))
    return trainings


def _last_step(path: Path) -> int | None:
    """Return the last step of a ledger that may be written to at this moment; None where it has none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    for line in reversed(lines):
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and isinstance(values.get("step"), int):
            return int(values["step"])
    return None


def _pace(finished: Sequence[str]) -> float | None:
    times = [datetime.datetime.fromisoformat(text) for text in finished]
    if len(times) < 2:
        return None
    return (times[-1] - times[0]).total_seconds() / (len(times) - 1)


def _rows(evidence: Evidence) -> tuple[ContrastRow, ...]:
    """Return the contrasts of the claims as they stand; what cannot be tested yet is left out."""
    declared, study = evidence.declared, OpenStudy(evidence)
    try:
        table = study.table
    except UserError:  # nothing in common to compare yet
        return ()
    plan = Plan(Options(deterministic=study.deterministic))
    asked = []
    for claim in declared.study.claims if declared else ():
        try:
            contrast = asked_by(claim, table)
            contrast.groupings()
        except UserError:
            continue
        if contrast not in asked and not untestable(table, contrast, plan):
            asked.append(contrast)
    return contrast_rows(table, asked, plan) if asked else ()
