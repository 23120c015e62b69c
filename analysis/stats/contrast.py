"""What is known of a contrast in a place: its test, its second opinions and the guards beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.stats.clusters import Clustered
from analysis.stats.collapse import Collapsed
from analysis.stats.crossed import Estimate
from analysis.stats.matrix import Cell, unit_kind
from analysis.stats.trend import LackOfFit

_PLURALS = {"topic": "topics", "group": "groups", "question": "questions", "query": "queries"}


def plural(unit: str) -> str:
    """Return the plural of a kind of unit."""
    return _PLURALS[unit]


def tost_level(result: Estimate) -> float:
    """Return the level of the interval that says the same as one-sided tests at alpha: 1 - 2 alpha."""
    return 1 - 2 * result.alpha


@dataclass(frozen=True)
class Guard:
    """Non-inferiority of nDCG beside a p-MRR contrast: pushing every document down raises p-MRR and ruins nDCG."""

    cell: Cell
    estimate: Estimate
    margin: float | None
    p: float | None
    """None without a margin."""
    ci: tuple[float, float]
    """Level 1 - 2 alpha: its lower end is that of the one-sided test."""
    over_queries: bool = False
    """Its units are in no clusters of the contrast's population, so it is over other units like these."""

    @property
    def verdict(self) -> str:
        """What may be said."""
        if self.margin is None:
            return "not tested: no margin was declared"
        assert self.p is not None
        shown = self.p < self.estimate.alpha
        said = f"{'not worse by' if shown else 'cannot exclude worse by'} {self.margin:g} or more"
        return f"{said}, over other {plural(unit_kind(self.cell.measure))} like these" if self.over_queries else said


@dataclass(frozen=True)
class ContrastRow:
    """One contrast in one place, with everything that a reader needs to judge it."""

    label: str
    weights: Mapping[str, float]
    cell: Cell
    unit: str
    num_units: int
    num_sets: int
    """Data sets: above 1 for a macro mean."""
    num_seeds: Mapping[str, int]
    means: Mapping[str, float]
    seed_means: Mapping[str, tuple[float, ...]]
    deterministic: frozenset[str]
    """Arms of it without training randomness."""
    result: Estimate
    status: str
    """`confirmatory`, `exploratory` or `these checkpoints`."""
    smallest_detectable: float | None
    relative_change: float | None
    standardised: float | None
    p_new_wins: float | None
    wins: int
    ties: int
    losses: int
    checkpoints: Estimate
    """Paired t over units: other units, these checkpoints."""
    p_sign_flip: float
    query_set: Estimate | None
    """Welch over seeds: new seeds, these units."""
    margin: float | None
    tost_p: float | None
    tost_ci: tuple[float, float]
    """Level 1 - 2 alpha, that of two one-sided tests: equivalence holds where it lies within the margin."""
    guards: tuple[Guard, ...] = ()
    collapses: tuple[Collapsed, ...] = ()
    """Of p-MRR: the arms with a weight above 0 that collapse here, or may."""
    without_gain: tuple[str, ...] = ()
    """Of p-MRR: the arms with a weight above 0 that have no instruction gain here, so that no collapse can be seen."""
    clusters: Clustered | None = None
    """The test over new clusters beside that over new units; None where the population is new units."""
    is_declared: bool = False
    """Whether it is one of the declared family that the plan names."""
    lack_of_fit: LackOfFit | None = None
    """Of a trend over three doses or more: whether its arms are on a line."""
    family_size: int = 0
    p_holm: float | None = None
    q_bh: float | None = None
    tost_p_holm: float | None = None
    population: str = ""
