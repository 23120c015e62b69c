"""Power of the crossed contrast test: smallest detectable differences, and the cheapest design for a wanted one.

    python -m analysis.power --pilot scores.csv --contrast "B - A" --measure nDCG@10 --cost-seed 1800 --cost-query .02

The three variance parts of a pilot (or stated ones) are scaled to S seeds and Q units: SE² = seed / S + query / Q +
residual / (S Q). A test does not know this SE: it estimates it, and its degrees of freedom with it, from mean squares
that are scaled chi-squares. So the power is the mean of P(|estimate| > t_df × estimated SE) over what the mean squares
may come out as, `DRAWS` points of a Richtmyer sequence (fractions of multiples of the square roots of primes), with
df and SE as in `analysis.stats.crossed`. The noncentral t at the expected df is up to .07 too high for 3 to 5 seeds.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri, stdtrit

from ablate.records import UserError
from ablate.tables import Column, Table, number
from analysis.stats.crossed import Blocks, Estimate, Options, crossed, unit_differences
from analysis.stats.grouping import Grouping
from analysis.stats.matrix import Values

GRID_SEEDS, GRID_UNITS = (3, 5, 10), (20, 50, 104, 300, 1000, 9906)
MOST_SEEDS, MOST_UNITS = 100, 1_000_000
DRAWS = 1024
"""Points that the power is the mean over: within .001 of 100 times as many."""
_INVERSE_DF = np.linspace(0, 1, 2001)
"""Knots between which a critical t is interpolated: it is nearly a line in 1 / df."""


@dataclass(frozen=True)
class Parts:
    """Variance parts of a contrast for one seed and one unit: sums of w² × the variance in an arm."""

    seed: float
    """Main effect of a seed."""
    query: float
    """Spread over units of the difference between the arms' expected values."""
    resid: float
    """Seed × unit."""
    shares: tuple[float, ...] = (0.5, 0.5)
    """Of each arm with training randomness in the seed and the residual part; they sum to 1, empty for none."""
    evenness: float = 1.0
    """Degrees of freedom between clusters as a share of those of even ones; planned clusters are as uneven."""

    def __post_init__(self) -> None:
        for name in ("seed", "query", "resid"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UserError(f"the variance part {name!r} is {value}; it must be 0 or above")
        if self.seed + self.query + self.resid == 0:
            raise UserError("all variance parts are 0: every difference would be found; state one above 0")

    @classmethod
    def of_test(cls, result: Estimate, weights: Sequence[float], num_seeds: int, num_units: int) -> Parts:
        """Return the parts that a test with an error shows; `weights`: of its trained arms, of S seeds each."""
        return cls(
            max(result.v_seed - result.v_resid, 0.0) * num_seeds,
            max(result.v_query - result.v_resid, 0.0) * num_units,
            result.v_resid * num_seeds * num_units,
            _shares(weights),
        )

    def times(self, factor: float) -> Parts:
        """Return parts all of which are this many times as large."""
        return dataclasses.replace(self, seed=factor * self.seed, query=factor * self.query, resid=factor * self.resid)


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    squares = [weight**2 for weight in weights]
    return tuple(square / sum(squares) for square in squares)


def two_arms(sd_seed: float, sd_query: float, sd_resid: float) -> Parts:
    """Return the parts of B - A: seed and seed × unit sd within each arm, sd over units of the difference."""
    return Parts(2 * sd_seed**2, sd_query**2, 2 * sd_resid**2)


def pilot_parts(
    arms: Mapping[str, Blocks],
    weights: Mapping[str, float],
    options: Options | None = None,
    group: Grouping | None = None,
) -> Parts:
    """Return the parts that a pilot on one data set estimates, negative ones set to 0.

    `group`: the clusters of its units; then what is called a unit here is a cluster, of clusters as large and as uneven
    as those: uneven sizes are in the parts, which are mean squares of sums (the design effect 1 + ((cv² + 1) m - 1) ICC
    of Eldridge, Ashby and Kerry 2006, International Journal of Epidemiology 35, 1292-1300), and in the evenness.
    Shapes and errors as in `analysis.stats.crossed.crossed`; at least one arm needs training randomness.
    """
    options = options or Options()
    used = {arm: weight for arm, weight in weights.items() if weight != 0}
    trained = [arm for arm in used if arm not in options.deterministic]
    if not trained:
        raise UserError("no arm of the contrast has training randomness; more seeds change nothing, test over units")
    crossed(arms, weights, options, None if group is None else [group])
    if options.matched:
        difference_SQ = sum(used[arm] * np.asarray(arms[arm]) for arm in used)
        arms, used, trained = {"": np.asarray(difference_SQ)}, {"": 1.0}, [""]
    seed = resid = resid_of_mean = 0.0
    for arm in trained:
        block_SQ = np.asarray(arms[arm], dtype=np.float64)
        num_seeds, num_units = block_SQ.shape
        rest_SQ = block_SQ - block_SQ.mean(axis=0) - block_SQ.mean(axis=1, keepdims=True) + block_SQ.mean()
        if group is None:
            residual = float(np.vdot(rest_SQ, rest_SQ)) / ((num_seeds - 1) * (num_units - 1))
        else:
            square = group.mean_square(group.sums(np.stack([group.centred(rest_Q) for rest_Q in rest_SQ])), num_units)
            residual = square / (num_seeds - 1) / num_units * group.num_clusters
            num_units = group.num_clusters
        means_square = float(np.var(block_SQ.mean(axis=1), ddof=1))
        seed += used[arm] ** 2 * max(means_square - residual / num_units, 0.0)
        resid += used[arm] ** 2 * residual
        resid_of_mean += used[arm] ** 2 * residual / num_seeds
    differences_Q = unit_differences(arms, used)[0]
    if group is None:
        spread = float(np.var(differences_Q, ddof=1))
    else:
        square = group.mean_square(group.sums(group.centred(differences_Q)), len(differences_Q))
        spread = square / len(differences_Q) * group.num_clusters
    query = max(spread - resid_of_mean, 0.0)
    evenness = 1.0 if group is None else group.df / group.between_df
    return Parts(seed, query, resid, _shares([used[arm] for arm in trained]), evenness)


class Outlook(NamedTuple):
    """What a test of a planned size may come out with."""

    se: float
    """Of the estimate, as it is; no test knows it."""
    halves_D: Values
    """Half the width of the 1 - alpha interval that the test would give, in each draw of its mean squares."""
    alpha: float


def outlook(parts: Parts, num_seeds: int, num_units: int, alpha: float = 0.05) -> Outlook:
    """Return what the two-sided test of level alpha may come out with, at S seeds in each trained arm and Q units.

    Raises UserError below 2 of either.
    """
    if num_seeds < 2 or num_units < 2:
        raise UserError(f"{num_seeds} seeds × {num_units} units; the test needs at least 2 of both")
    resid = parts.resid / (num_seeds * num_units)
    seed, query = parts.seed / num_seeds, parts.query / num_units
    num_arms, seed_df, query_df = len(parts.shares), num_seeds - 1, (num_units - 1) * parts.evenness
    shares_A = np.asarray(parts.shares)
    v_query_D = (query + resid) * _mean_squares(num_arms, query_df)
    v_resid_D = np.zeros(DRAWS)
    den_D = v_query_D**2 / query_df
    seed_only_D, floor = np.zeros(DRAWS), float(query_df)
    if num_arms:
        seeds_DA = (seed + resid) * shares_A * np.stack([_mean_squares(a, seed_df) for a in range(num_arms)], axis=1)
        v_resid_D = resid * _mean_squares(num_arms + 1, num_arms * seed_df * query_df)
        seed_only_D = np.maximum(seeds_DA.sum(axis=1) - v_resid_D, 0.0)
        den_D = den_D + (seeds_DA**2).sum(axis=1) / seed_df
        den_D += v_resid_D**2 * float(shares_A @ shares_A) / (seed_df * query_df)
        floor = float(min(seed_df, query_df))
    square_D = v_resid_D + seed_only_D + np.maximum(v_query_D - v_resid_D, 0.0)
    critical_D = np.interp(1 / np.maximum(square_D**2 / den_D, floor), _INVERSE_DF, _critical(alpha))
    return Outlook(math.sqrt(seed + query + resid), critical_D * np.sqrt(square_D), alpha)


@functools.lru_cache(maxsize=1024)
def _mean_squares(place: int, df: float) -> Values:
    """Return draws of a mean square of expectation 1 with these df: (D,), by the sequence of the place-th prime."""
    level_D = np.arange(1, DRAWS + 1) * math.sqrt(_prime(place)) % 1
    return np.asarray(gammaincinv(df / 2, level_D) / (df / 2))


@functools.lru_cache
def _prime(place: int) -> int:
    candidate = 2 if place == 0 else _prime(place - 1) + 1
    while any(candidate % divisor == 0 for divisor in range(2, math.isqrt(candidate) + 1)):
        candidate += 1
    return candidate


@functools.lru_cache(maxsize=64)
def _critical(alpha: float) -> Values:
    """Return the critical t at 1 / df of `_INVERSE_DF`."""
    return np.append(-ndtri(alpha / 2), stdtrit(1 / _INVERSE_DF[1:], 1 - alpha / 2))


def power(difference: float, test: Outlook) -> float:
    """Return the probability that a test finds this difference, on either side."""
    above_D, below_D = (abs(difference) - test.halves_D) / test.se, (-abs(difference) - test.halves_D) / test.se
    return float(np.mean(ndtr(above_D) + ndtr(below_D)))


def smallest_detectable(test: Outlook, wanted: float = 0.8) -> float:
    """Return the difference that is found with the wanted power, by bisection to 1e-6 of it."""
    if not test.alpha < wanted < 1:
        raise UserError(f"the power is {wanted}; it must lie between alpha ({test.alpha}) and 1, for example 0.8")
    low, high = 0.0, test.se
    while power(high, test) < wanted:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, test) < wanted else (low, middle)
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
        detects = smallest_detectable(outlook(parts, num_seeds, high, alpha), wanted)
        designs.append(Design(num_seeds, high, detects, costs.total(num_arms, num_seeds, high)))
    if not designs:
        best = smallest_detectable(outlook(parts, seeds[1], most_units, alpha), wanted)
        raise UserError(
            f"no design up to {seeds[1]} seeds × {most_units} units finds a difference of {difference:g}; that one "
            f"finds {best:.4g}; allow more seeds or units, or match the seeds"
        )
    return min(designs, key=lambda candidate: (candidate.cost, candidate.num_seeds))


def _finds(parts: Parts, difference: float, seeds: int, units: int, alpha: float, wanted: float) -> bool:
    return power(difference, outlook(parts, seeds, units, alpha)) >= wanted


def detectable_table(
    parts: Parts,
    seeds: Sequence[int] = GRID_SEEDS,
    units: Sequence[int] = GRID_UNITS,
    alpha: float = 0.05,
    wanted: float = 0.8,
) -> dict[tuple[int, int], float]:
    """Return (S, Q) -> smallest detectable difference."""
    return {(s, q): smallest_detectable(outlook(parts, s, q, alpha), wanted) for q in units for s in seeds}


def as_table(
    detectable: Mapping[tuple[int, int], float], parts: Parts, alpha: float, wanted: float, things: str = "units"
) -> Table:
    """Return smallest detectable differences by (seeds, units) as a table for readers; `things`: what a unit is."""
    seeds, units = sorted({s for s, _ in detectable}), sorted({q for _, q in detectable})
    columns = (Column(things, "r"), *(Column(f"{s} seeds", "r") for s in seeds))
    rows = tuple((str(q), *(number(detectable[s, q]) for s in seeds)) for q in units)
    sds = ", ".join(f"{name} {math.sqrt(getattr(parts, name)):.4g}" for name in ("seed", "query", "resid"))
    notes = (
        f"Standard deviations of the contrast for one seed and one of the {things}: {sds}.",
        "Fewer than 5 seeds are exploratory.",
    )
    return Table(f"Smallest difference found with power {wanted:g} at alpha {alpha:g}", columns, rows, notes)
