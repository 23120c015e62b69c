"""Runs of W&B that were made elsewhere as arms and seeds: one value of a run, or the scores of its queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ablate.reading import shown
from ablate.records import UserError
from ablate.tracking.elsewhere import OtherRun, read_table
from analysis.stats.matrix import listed

SCORE_COLUMNS = ("arm", "seed", "dataset", "condition", "unit_id", "measure", "value")


class ArmSeed(NamedTuple):
    """Which arm and seed a run is."""

    arm: str
    seed: str


@dataclass(frozen=True)
class Taken:
    """The runs that are one arm and seed each, and those that are none."""

    runs: dict[ArmSeed, OtherRun]
    left_out: tuple[tuple[OtherRun, str], ...]
    """Run, and why it is left out."""


def take(runs: Sequence[OtherRun], arm_key: str, seed_key: str, group: str | None = None) -> Taken:
    """Return runs by arm and seed, which their configurations hold under these keys; `group`: only runs of it.

    A run without its end or without one of the keys is left out and named. Raises UserError where none is left, and
    for two runs of one arm and seed.
    """
    taken: dict[ArmSeed, OtherRun] = {}
    left_out = []
    for run in runs:
        if group is not None and run.group != group:
            continue
        missing = next((key for key in (arm_key, seed_key) if run.config.get(key) is None), None)
        if missing is not None:
            left_out.append((run, f"its configuration has no {missing!r}, it has {listed(sorted(run.config))}"))
            continue
        if not run.ended:
            left_out.append((run, "it did not finish"))
            continue
        place = ArmSeed(str(run.config[arm_key]), str(run.config[seed_key]))
        if place in taken:
            raise UserError(
                f"{taken[place]} and {run} are both arm {place.arm!r}, seed {place.seed}; choose runs of one --group, "
                "or name the key of the configuration that tells them apart as --arm or --seed"
            )
        taken[place] = run
    if not taken:
        known = ", ".join(sorted({run.group for run in runs if run.group})) or "none"
        why = f"{left_out[0][0]}: {left_out[0][1]}" if left_out else f"no run has group {group!r}; groups are {known}"
        raise UserError(f"none of {len(runs)} runs can be taken: {why}" if runs else "the project has no run")
    return Taken(taken, tuple(left_out))


def run_values(taken: Taken, measures: Mapping[str, str]) -> dict[str, dict[ArmSeed, float]]:
    """Return measure -> arm and seed -> value; `measures`: measure -> key of the summary.

    Raises UserError naming the run for a key that it does not have, and a value that is no finite number.
    """
    return {
        measure: {place: _number(run, key) for place, run in taken.runs.items()} for measure, key in measures.items()
    }


def _number(run: OtherRun, key: str) -> float:
    value = run.summary.get(key)
    if value is None:
        numbers = sorted(name for name, other in run.summary.items() if isinstance(other, (int, float)))
        raise UserError(f"{run}: its summary has no {key!r}; numbers there: {listed(numbers) or 'none'}")
    number = _finite(value)
    if number is None:
        raise UserError(f"{run}: {key} is {shown(value)}, which is no finite number; leave the measure out")
    return number


def _finite(value: object) -> float | None:
    """Return a number as a float; None for anything else, and for what is none as a float: NaN, infinity, 10^400."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _name(value: object) -> str:
    """Return a text or a whole number as the name of a unit, 1.0 as 1; empty for what names nothing."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip() else ""


def table_rows(
    taken: Taken, table: str, unit: str, measures: Mapping[str, str], dataset: str, condition: str
) -> list[dict[str, Any]]:
    """Return rows of a scores file from a table that every run logged, one row of it for each unit.

    `unit`: column of the units' names, texts or whole numbers; `measures`: measure -> column. Raises UserError naming
    the run without the table, and the table without a column or with two of its name, with a value that is no finite
    number, a unit without a name, or a unit twice.
    """
    rows = []
    for place, run in taken.runs.items():
        if table not in run.tables:
            raise UserError(f"{run}: logged no table {table!r}; its tables: {listed(sorted(run.tables)) or 'none'}")
        columns, lines = read_table(run.tables[table])
        for column in (unit, *measures.values()):
            if column not in columns:
                raise UserError(f"{run.tables[table]}: no column {column!r}; columns are {listed(columns)}")
            if columns.count(column) > 1:
                raise UserError(
                    f"{run.tables[table]}: {columns.count(column)} columns are named {column!r}; rename one"
                )
        at = {column: columns.index(column) for column in (unit, *measures.values())}
        seen: set[str] = set()
        for number, line in enumerate(lines, 1):
            name = _name(line[at[unit]])
            if not name:
                raise UserError(
                    f"{run.tables[table]}, row {number}: {unit} is {shown(line[at[unit]])}, which names no unit; "
                    f"allowed: a text that is not empty, a whole number"
                )
            if name in seen:
                raise UserError(f"{run.tables[table]}: {unit} {name!r} is there twice; a unit has one row")
            seen.add(name)
            for measure, column in measures.items():
                value = _finite(line[at[column]])
                if value is None:
                    raise UserError(
                        f"{run.tables[table]}: {unit} {name!r}: {column} is {shown(line[at[column]])}, no finite number"
                    )
                given = (place.arm, place.seed, dataset, condition, name, measure, value)
                rows.append(dict(zip(SCORE_COLUMNS, given, strict=True)))
    return rows
