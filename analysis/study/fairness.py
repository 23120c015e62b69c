"""Whether the arms of a study can be compared: its evidence gathered and every check made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from ablate.records import UserError
from ablate.store.results import ResultStore
from ablate.study.records import StudyRecords
from ablate.tables import Column, Table
from analysis.study.checks import CHECKS, Evidence
from analysis.study.declared import Declaration, newest_declared
from analysis.study.runs import read_runs
from analysis.study.totals import default_baseline, read_arms


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str


def gather(
    store: ResultStore, study: str, *, baseline: str | None = None, declared: Declaration | None = None,
    with_models: bool = False,
) -> Evidence:  # fmt: skip
    """Return the evidence on a study; without `declared`, its newest stored declaration says which runs there must be.

    Raises UserError for an unknown study, an unknown baseline, unreadable manifests and an unreadable record of cells.
    """
    runs = read_runs(store, study)
    scored = {run.arm for run in runs}
    has_mix = any(run.mix is not None for run in runs)
    totals = [arm for arm in read_arms(store, study) if arm.arm in scored] if has_mix else []
    declared = declared or newest_declared(store, study)
    names = [arm.arm for arm in totals]
    if baseline is not None and baseline not in scored:
        known_arms = ", ".join(sorted(scored))
        raise UserError(f"--baseline {baseline!r} has no scores in study {study!r}; arms are {known_arms}")
    if baseline is None or baseline not in names:
        baseline = default_baseline(totals, declared)
    cells = None if declared is None else StudyRecords(store, study).cells(declared.digest)
    return Evidence(store, study, runs, totals, baseline, declared, cells, with_models)


def examine(evidence: Evidence) -> list[Check]:
    """Return every check, the failing ones first, else in a fixed order."""
    bar = tqdm(CHECKS, desc="fairness", disable=not sys.stderr.isatty(), leave=False)
    checks = [Check(name, *look(evidence)) for name, look in bar]
    return sorted(checks, key=lambda check: check.ok)


def headline(checks: Sequence[Check]) -> str:
    """Return the mark of a table: how many checks failed."""
    failed = sum(not check.ok for check in checks)
    found = f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    return f"fairness: {found}"


def fairness_table(checks: Sequence[Check], study: str) -> Table:
    """Return the checks for readers."""
    rows = tuple((check.name, "ok" if check.ok else "FAILED", check.found) for check in checks)
    columns = (Column("check"), Column("result"), Column("found"))
    return Table(f"Fairness of study {study} ({headline(checks)})", columns, rows)
