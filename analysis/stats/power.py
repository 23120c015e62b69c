"""Power of the crossed contrast test: smallest detectable differences, and the cheapest design for a wanted one.

    python -m analysis.power --pilot scores.csv --contrast "B - A" --measure nDCG@10 --cost-seed 1800 --cost-query .02

Power is that of the noncentral t with the three variance parts of a pilot (or stated ones) scaled to S seeds and Q
units: SE² = seed / S + query / Q + residual / (S Q), and the degrees of freedom of `analysis.stats.crossed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import nctdtr, stdtrit

from ablate.records import UserError
from ablate.tables import Column, Table, number
from analysis.stats.crossed import Blocks, Options, crossed, unit_differences

GRID_SEEDS, GRID_UNITS = (3, 5, 10), (20, 50, 104, 300, 1000, 9906)
MOST_SEEDS, MOST_UNITS = 100, 1_000_000


@dataclass(frozen=True)
class Parts:
    """Variance parts of a contrast for one seed and one unit: sums of w² × the variance in an arm."""

    seed: float
    """Main effect of a seed."""
    query: float
    """Spread over units of the difference between the arms' expected values."""
    resid: float
    """Seed × unit."""
    num_arms: float = 2.0
    """Arms with training randomness that share the seed part; sets its degrees of freedom."""

    def __post_init__(self) -> None:
        for name in ("seed", "query", "resid"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UserError(f"the variance part {name!r} is {value}; it must be 0 or above")
        if self.seed + self.query + self.resid == 0:
            raise UserError("all variance parts are 0: every difference would be found; state one above 0")


def two_arms(sd_seed: float, sd_query: float, sd_resid: float) -> Parts:
    """Return the parts of B - A: seed and seed × unit sd within each arm, sd over units of the difference."""
    return Parts(2 * sd_seed**2, sd_query**2, 2 * sd_resid**2)


def pilot_parts(arms: Mapping[str, Blocks], weights: Mapping[str, float], options: Options | None = None) -> Parts:
    """Return the parts that a pilot on one data set estimates, negative ones set to 0.

    Shapes and errors as in `analysis.stats.crossed.crossed`; at least one arm needs training randomness.
    """
    options = options or Options()
    used = {arm: weight for arm, weight in weights.items() if weight != 0}
    trained = [arm for arm in used if arm not in options.deterministic]
    if not trained:
        raise UserError("no arm of the contrast has training randomness; more seeds change nothing, test over units")
    crossed(arms, weights, options)
    if options.matched:
        difference_SQ = sum(used[arm] * np.asarray(arms[arm]) for arm in used)
        arms, used, trained = {"": np.asarray(difference_SQ)}, {"": 1.0}, [""]
    seed = resid = resid_of_mean = 0.0
    for arm in trained:
        block_SQ = np.asarray(arms[arm], dtype=np.float64)
        num_seeds, num_units = block_SQ.shape
        rest_SQ = block_SQ - block_SQ.mean(axis=0) - block_SQ.mean(axis=1, keepdims=True) + block_SQ.mean()
        residual = float(np.vdot(rest_SQ, rest_SQ)) / ((num_seeds - 1) * (num_units - 1))
        means_square = float(np.var(block_SQ.mean(axis=1), ddof=1))
        seed += used[arm] ** 2 * max(means_square - residual / num_units, 0.0)
        resid += used[arm] ** 2 * residual
        resid_of_mean += used[arm] ** 2 * residual / num_seeds
    query = max(float(np.var(unit_differences(arms, used)[0], ddof=1)) - resid_of_mean, 0.0)
    squares = [used[arm] ** 2 for arm in trained]
    return Parts(seed, query, resid, sum(squares) ** 2 / sum(square**2 for square in squares))


def design(parts: Parts, num_seeds: int, num_units: int) -> tuple[float, float]:
    """Return the expected SE and df of S seeds in each arm and Q units; raises UserError below 2 of either."""
    if num_seeds < 2 or num_units < 2:
        raise UserError(f"{num_seeds} seeds × {num_units} units; the test needs at least 2 of both")
    resid = parts.resid / (num_seeds * num_units)
    seed, query = parts.seed / num_seeds, parts.query / num_units
    seed_df = parts.num_arms * (num_seeds - 1)
    den = (
        (seed + resid) ** 2 / seed_df + resid**2 / (seed_df * (num_units - 1)) + (query + resid) ** 2 / (num_units - 1)
    )
    square = seed + query + resid
    return math.sqrt(square), max(square**2 / den, min(num_seeds - 1, num_units - 1))


def power(difference: float, se: float, df: float, alpha: float = 0.05) -> float:
    """Return the probability that the two-sided t test of level alpha finds this difference."""
    critical, shift = float(stdtrit(df, 1 - alpha / 2)), abs(difference) / se
    if shift - critical > 35:
        return 1.0
    below, beyond = nctdtr(df, shift, critical), nctdtr(df, shift, -critical)  # nan where they are as good as 0
    return float(1 - np.nan_to_num(below) + np.nan_to_num(beyond))


def smallest_detectable(se: float, df: float, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """Return the difference that is found with the wanted power, by bisection to 1e-6 of it."""
    if not alpha < wanted < 1:
        raise UserError(f"the power is {wanted}; it must lie between alpha ({alpha}) and 1, for example 0.8")
    low, high = 0.0, se
    while power(high, se, df, alpha) < wanted:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, se, df, alpha) < wanted else (low, middle)
    return high


@dataclass(frozen=True)
class Costs:
    """What a study pays, in any one unit (seconds, euros)."""

    seed: float
    """Training of one run."""
    query: float
    """Evaluation of one unit by one run."""
    label: float = 0.0
    """Writing and judging one unit, paid once for all runs."""

    def total(self, num_arms: float, num_seeds: int, num_units: int) -> float:
        """Return the cost of this many arms with S seeds each on Q units."""
        return num_arms * num_seeds * (self.seed + self.query * num_units) + self.label * num_units


@dataclass(frozen=True)
class Design:
    """A number of seeds and units, what it detects and what it costs."""

    num_seeds: int
    num_units: int
    detects: float
    cost: float


def cheapest(
    parts: Parts,
    difference: float,
    costs: Costs,
    *,
    num_arms: int = 2,
    alpha: float = 0.05,
    wanted: float = 0.8,
    seeds: tuple[int, int] = (5, 50),
    most_units: int = MOST_UNITS,
) -> Design:
    """Return the cheapest design that finds a difference with the wanted power.

    `seeds` bounds the seeds per arm, `most_units` the units that there are. Raises UserError with what the largest
    allowed design detects when none suffices.
    """
    if not difference > 0:
        raise UserError(f"the wanted difference is {difference}; it must be above 0, in units of the measure")
    if not 2 <= seeds[0] <= seeds[1] <= MOST_SEEDS:
        raise UserError(f"seeds from {seeds[0]} to {seeds[1]}; they must rise within 2 to {MOST_SEEDS}")
    designs: list[Design] = []
    for num_seeds in range(seeds[0], seeds[1] + 1):
        if not _finds(parts, difference, num_seeds, most_units, alpha, wanted):
            continue
        low, high = 1, most_units
        while high - low > 1:
            middle = (low + high) // 2
            enough = middle >= 2 and _finds(parts, difference, num_seeds, middle, alpha, wanted)
            low, high = (low, middle) if enough else (middle, high)
        detects = smallest_detectable(*design(parts, num_seeds, high), alpha, wanted)
        designs.append(Design(num_seeds, high, detects, costs.total(num_arms, num_seeds, high)))
    if not designs:
        best = smallest_detectable(*design(parts, seeds[1], most_units), alpha, wanted)
        raise UserError(
            f"no design up to {seeds[1]} seeds × {most_units} units finds a difference of {difference:g}; that one "
            f"finds {best:.4g}; allow more seeds or units, or match the seeds"
        )
    return min(designs, key=lambda candidate: (candidate.cost, candidate.num_seeds))


def _finds(parts: Parts, difference: float, seeds: int, units: int, alpha: float, wanted: float) -> bool:
    return power(difference, *design(parts, seeds, units), alpha) >= wanted


def detectable_table(
    parts: Parts,
    seeds: Sequence[int] = GRID_SEEDS,
    units: Sequence[int] = GRID_UNITS,
    alpha: float = 0.05,
    wanted: float = 0.8,
) -> dict[tuple[int, int], float]:
    """Return (S, Q) -> smallest detectable difference."""
    return {(s, q): smallest_detectable(*design(parts, s, q), alpha, wanted) for q in units for s in seeds}


def as_table(detectable: Mapping[tuple[int, int], float], parts: Parts, alpha: float, wanted: float) -> Table:
    seeds, units = sorted({s for s, _ in detectable}), sorted({q for _, q in detectable})
    columns = (Column("units", "r"), *(Column(f"{s} seeds", "r") for s in seeds))
    rows = tuple((str(q), *(number(detectable[s, q]) for s in seeds)) for q in units)
    sds = ", ".join(f"{name} {math.sqrt(getattr(parts, name)):.4g}" for name in ("seed", "query", "resid"))
    notes = (
        f"Standard deviations of the contrast for one seed and one unit: {sds}.",
        "Fewer than 5 seeds are exploratory.",
    )
    return Table(f"Smallest difference found with power {wanted:g} at alpha {alpha:g}", columns, rows, notes)
