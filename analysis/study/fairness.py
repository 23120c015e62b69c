"""Whether the arms of a study can be compared: every check made on its evidence."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from ablate.tables import Column, Table
from analysis.study.checks import CHECKS
from analysis.study.evidence import Evidence


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str


def examine(evidence: Evidence) -> list[Check]:
    """Return every check, the failing ones first, else in a fixed order.

    Raises UserError for an unknown study, an unknown baseline, unreadable manifests and an unreadable record of cells.
    """
    evidence.check_names()
    bar = tqdm(CHECKS, desc="fairness", disable=not sys.stderr.isatty(), leave=False)
    checks = [Check(name, *look(evidence)) for name, look in bar]
    return sorted(checks, key=lambda check: check.ok)


def headline(checks: Sequence[Check]) -> str:
    """Return the mark of a table: how many checks failed."""
    failed = sum(not check.ok for check in checks)
    summary = f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    return f"fairness: {summary}"


def fairness_table(checks: Sequence[Check], study: str) -> Table:
    """Return the checks for readers."""
    return _table(checks, study, [(check.name, "ok" if check.ok else "FAILED", check.found) for check in checks])


def failed_table(checks: Sequence[Check], study: str) -> Table:
    """Return the checks that failed, and the others as one row, for a page that is about something else."""
    failed = [(check.name, "FAILED", check.found) for check in checks if not check.ok]
    num_passed = len(checks) - len(failed)
    others = f"the other {num_passed} checks" if failed else f"all {num_passed} checks"
    passed = (others, "ok", f"python -m analysis.fairness {shlex.quote(study)} lists them")
    return _table(checks, study, [*failed, *([passed] if num_passed else [])])


def _table(checks: Sequence[Check], study: str, rows: Sequence[tuple[str, str, str]]) -> Table:
    columns = (Column("check"), Column("result"), Column("found"))
    return Table(f"Fairness of study {study} ({headline(checks)})", columns, tuple(rows))
