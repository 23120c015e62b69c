"""The noise floor of a study: for every place, how far its runs lie apart along each axis, and what may be claimed.

The floor of a place adds the variances of seed, precision, threads, device and machine, as far as they were seen (the
order of rows is a part of what a seed varies), with the degrees of freedom of Satterthwaite (1946) for the sum.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ablate.records import UserError
from ablate.tables import Column, Table, number
from analysis.stats.matrix import Cell
from analysis.stats.noise import Alarms, Spread, split_alarms, spread
from analysis.study.evidence import Evidence
from analysis.study.replicates import AXES, Replicate, along, replicates
from analysis.study.scores import in_words, means

_ROUNDING = 1e-9
"""By how much rounding may put degrees of freedom below a whole number."""
ADDED = ("seed", "precision", "threads", "device", "machine")
"""Axes whose variances add up; `order` is in the seed's, and `nothing` must be zero."""


class PlaceNoise(NamedTuple):
    """The noise of one place."""

    cell: Cell
    by_axis: Mapping[str, Spread]
    """Only the axes along which there are runs to compare."""
    alarms: Alarms

    @property
    def together(self) -> Spread | None:
        """The axes of `ADDED` as one spread, None without any."""
        parts = [self.by_axis[axis] for axis in ADDED if axis in self.by_axis]
        if not parts:
            return None
        variance = sum(part.sd**2 for part in parts)
        spent = sum(part.sd**4 / part.df for part in parts)
        df = max(1, math.floor(variance**2 / spent + _ROUNDING)) if spent > 0 else sum(part.df for part in parts)
        return Spread(
            sum(part.num_runs for part in parts), df, math.sqrt(variance), max(part.largest for part in parts)
        )


class Noise(NamedTuple):
    """The noise floor of a study."""

    places: tuple[PlaceNoise, ...]
    groups: Mapping[str, list[list[Replicate]]]
    """axis -> groups of runs that differ in it alone; empty where there are none."""


def noise_of(evidences: Sequence[Evidence], alpha: float, measures: Collection[str] = ()) -> Noise:
    """Return the noise of all places of these measures (all where none is named), the first study's units counting.

    Raises UserError for an unknown study or measure, and where no run can be compared with another one.
    """
    runs = replicates(evidences)
    groups = {axis: along(runs, axis) for axis in AXES}
    if not any(groups.values()):
        raise UserError(
            f"study {evidences[0].study!r} has {len(runs)} trained runs and none that differ in one thing alone; run "
            f"more seeds, or the same command with another runtime.threads and runtime.results, and name that folder "
            f"with --also"
        )
    by_evidence = {id(evidence): means(in_words(evidence.long_table())) for evidence in evidences}
    cells = {
        Cell(dataset, condition, direction, measure)
        for dataset, measure, condition, direction in by_evidence[id(evidences[0])]
    }
    known = sorted({cell.measure for cell in cells})
    for measure in measures:
        if measure not in known:
            raise UserError(f"--measure {measure!r} is not there; measures: {', '.join(known)}")
    chosen = sorted(cell for cell in cells if not measures or cell.measure in measures)
    return Noise(tuple(_place(cell, groups, by_evidence, evidences[0], alpha) for cell in chosen), groups)


_Means = Mapping[tuple[str, str, str, str], Mapping[str, Mapping[int, float]]]


def _place(
    cell: Cell,
    groups: Mapping[str, list[list[Replicate]]],
    by_evidence: Mapping[int, _Means],
    first: Evidence,
    alpha: float,
) -> PlaceNoise:
    def mean_of(replicate: Replicate) -> float | None:
        key = (cell.dataset, cell.measure, cell.condition, cell.direction)
        averages = by_evidence[id(replicate.evidence)].get(key, {})
        return averages.get(replicate.run.arm, {}).get(replicate.run.seed)

    by_axis = {}
    for axis, members in groups.items():
        values = [
            [((run.run.seed, run.on[axis]), mean) for run in group if (mean := mean_of(run)) is not None]
            for group in members
        ]
        axis_spread = spread(values)
        if axis_spread is not None:
            by_axis[axis] = axis_spread
    arms = {group[0].run.arm for group in groups["seed"] if group[0].evidence is first}
    scores = first.table.cells[cell].values_SQ
    return PlaceNoise(cell, by_axis, split_alarms([scores[arm] for arm in sorted(arms) if arm in scores], alpha))


def floor_table(noise: Noise, study: str, seeds: Sequence[int], alpha: float) -> Table:
    """Return one row a place: the smallest differences that may be claimed, by the number of seeds in each arm."""
    rows = []
    for place in noise.places:
        together = place.together
        alarms = place.alarms
        rows.append(
            (
                str(place.cell),
                number(together.sd) if together else "-",
                str(together.df) if together else "-",
                *(number(together.floor(count, alpha)) if together else "-" for count in seeds),
                f"{alarms.num_called} of {alarms.num_splits}" if alarms.num_splits else "-",
            )
        )
    seen = [axis for axis in ADDED if noise.groups[axis]]
    missing = [axis for axis in AXES if not noise.groups[axis]]
    notes = [
        f"Noise of {', '.join(seen) or 'nothing'}: two arms that are one differ by more than the floor in {alpha:.0%} "
        f"of cases. These queries are fixed; a claim about new ones needs the crossed test, which asks for more.",
        "Alarms: ways to split the runs of one arm into halves that the crossed test calls different.",
    ]
    if missing:
        notes.append(f"No runs that differ only in {', '.join(missing)}; see python -m analysis.noise_floor --help.")
    columns = (
        Column("place"),
        Column("sd of a run", "r"),
        Column("df", "r"),
        *(Column(f"floor, {count} seed{'s' if count > 1 else ''}", "r") for count in seeds),
        Column("alarms", "r"),
    )
    return Table(f"Noise floor of {study}: smallest difference that may be claimed", columns, tuple(rows), tuple(notes))


def axis_table(noise: Noise, study: str) -> Table:
    """Return one row for each place and axis: runs, standard deviation and the largest difference."""
    rows = tuple(
        (str(place.cell), axis, str(part.num_runs), str(part.df), number(part.sd, 6), number(part.largest, 6))
        for place in noise.places
        for axis, part in place.by_axis.items()
    )
    columns = (
        Column("place"),
        Column("differ in"),
        Column("runs", "r"),
        Column("df", "r"),
        Column("sd of a run", "r"),
        Column("largest difference", "r"),
    )
    return Table(f"Runs of {study} that differ in one thing", columns, rows)


def noise_records(noise: Noise, seeds: Sequence[int], alpha: float) -> list[dict[str, object]]:
    """Return the places for JSON."""
    return [
        {
            **place.cell._asdict(),
            "by_axis": {axis: part._asdict() for axis, part in place.by_axis.items()},
            "sd": place.together.sd if place.together else None,
            "df": place.together.df if place.together else None,
            "floors": {str(count): place.together.floor(count, alpha) for count in seeds} if place.together else {},
            "alarms": place.alarms._asdict(),
        }
        for place in noise.places
    ]
