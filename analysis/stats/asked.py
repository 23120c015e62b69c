"""What is asked: contrasts of arms, each in its place and over its population."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from ablate.records import UserError
from analysis.stats.clusters import MOST_KINDS, Groupings
from analysis.stats.grouping import Grouping
from analysis.stats.matrix import FORM, Cell, CellScores, ScoreTable, Values, listed


class _Joint(Mapping[str, Sequence[Values]]):
    """Arm -> its matrices in several cells, of the arms that all of them have; what is asked for is looked up alone."""

    def __init__(self, parts: Sequence[CellScores]) -> None:
        self._parts = parts

    def __getitem__(self, arm: str) -> list[Values]:
        return [part.values_SQ[arm] for part in self._parts]

    def __contains__(self, arm: object) -> bool:
        return all(arm in part.values_SQ for part in self._parts)

    def __iter__(self) -> Iterator[str]:
        return (arm for arm in self._parts[0].values_SQ if arm in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Target(NamedTuple):
    """Where a contrast is looked at: one data set, or the macro mean of several (every one counts alike)."""

    cell: Cell
    parts: tuple[CellScores, ...]
    datasets: tuple[str, ...]

    def blocks(self) -> Mapping[str, Sequence[Values]]:
        """Return arm -> its matrices (S, Q), of the arms that all parts have."""
        return _Joint(self.parts)

    def kinds(self) -> list[str]:
        """Return the kinds of clusters that units of all parts have."""
        return [kind for kind in self.parts[0].clusters if all(kind in part.clusters for part in self.parts)]

    def groupings(self, population: Sequence[str]) -> Groupings:
        """Return the clusters of these kinds, in each part; where all units have a form, forms are fixed strata.

        Raises UserError for a kind that a unit has not, and for too few clusters.
        """
        groups: dict[str, list[Grouping]] = {}
        for kind in population:
            for part, dataset in zip(self.parts, self.datasets, strict=True):
                where, names = dataset or "the data set", part.clusters.get(kind)
                if names is None:
                    known = ", ".join(part.clusters) or "none"
                    raise UserError(f"the units of {where} are in no clusters of the kind {kind!r}; kinds are {known}")
                lacking = [unit for unit, name in zip(part.units, names, strict=True) if not name]
                if lacking:
                    raise UserError(
                        f"{len(lacking)} of {len(part.units)} units of {where} are in no cluster of the kind {kind!r} "
                        f"({listed(lacking, 3)}); name theirs, or choose another kind"
                    )
                forms = part.clusters.get(FORM, ())
                strata = forms if kind != FORM and forms and all(forms) else None
                groups.setdefault(kind, []).append(Grouping.of(names, strata))
        return groups

    @property
    def num_units(self) -> int:
        """Units of all parts."""
        return sum(len(part.units) for part in self.parts)


class Asked(NamedTuple):
    """One contrast of the family."""

    label: str
    weights: Mapping[str, float]
    target: Target
    population: tuple[str, ...] = ()
    """Kinds of clusters that the contrast is over new ones of; empty: new units like these."""

    def groupings(self) -> Groupings:
        """Return the clusters of its population; raises UserError as `Target.groupings` does."""
        return self.target.groupings(self.population)


def targets(table: ScoreTable, macro: Literal["also", "only", "none"] = "also") -> tuple[Target, ...]:
    """Return the cells of a table and the macro means over data sets that share condition, direction and measure."""
    single = [Target(cell, (scores,), (cell.dataset,)) for cell, scores in table.cells.items()]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for cell in table.cells:
        groups.setdefault((cell.condition, cell.direction, cell.measure), []).append(cell.dataset)
    joint = [over(table, tuple(datasets), *place) for place, datasets in groups.items() if len(datasets) > 1]
    if macro == "only" and not joint:
        raise UserError(f"{table.source}: no measure is there on two data sets, so there is no macro mean")
    return tuple({"also": [*single, *joint], "only": joint, "none": single}[macro])


def over(table: ScoreTable, datasets: tuple[str, ...], condition: str, direction: str, measure: str) -> Target:
    """Return the target over these data sets, which all have this cell."""
    parts = tuple(table.cells[Cell(dataset, condition, direction, measure)] for dataset in datasets)
    name = datasets[0] if len(datasets) == 1 else f"macro of {', '.join(datasets)}"
    return Target(Cell(name, condition, direction, measure), parts, datasets)


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise UserError for kinds of clusters of a command line that no test is over."""
    if len(kinds) > MOST_KINDS or len(set(kinds)) < len(kinds) or FORM in kinds:
        raise UserError(
            f"--clusters {' '.join(kinds)}: a test is over clusters of one kind, or of two that cross each other; "
            f"{FORM} is no such kind, because forms are fixed strata"
        )
