"""How far apart are two runs of one arm? The spread of means that should be equal, and the smallest difference beyond.

Runs in a group differ in one thing only (`analysis.study.replicates`), so every difference between them is noise of
that thing. With n means y in each of k groups,

    sd² = sum over groups of sum (y - mean of the group)² / sum of (n - 1)

Groups that share draws (the same seeds in another arm) say the same thing again, so a draw counts once: df is the
number of draws less that of the sets of groups without a draw in common. The mean
difference of two arms of S runs each is within t(df, 1 - alpha/2) × sd × sqrt(2 / S) of zero for a share 1 - alpha of
such pairs, where the two are one (Bland and Altman 1996, BMJ 312, 1654, repeatability coefficient, with the quantile of
Student's t for an estimated sd). Queries are the same in both and take no part.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from analysis.stats.crossed import Blocks, Options, crossed
from analysis.stats.matrix import Values


class Spread(NamedTuple):
    """The spread of means that differ by noise alone."""

    num_runs: int
    df: int
    sd: float
    """Of one run's mean, pooled over groups."""
    largest: float
    """Largest difference between two means of a group."""

    def floor(self, num_seeds: int, alpha: float) -> float:
        """Return how large the difference of two arms of `num_seeds` runs each must be to lie outside the noise."""
        return float(stdtrit(self.df, 1 - alpha / 2)) * self.sd * math.sqrt(2 / num_seeds)


def spread(groups: Sequence[Sequence[tuple[Hashable, float]]]) -> Spread | None:
    """Return the spread of means inside groups, None where no group has two; a group is (what was drawn, mean)s."""
    kept = [group for group in groups if len(group) > 1]
    if not kept:
        return None
    apart: list[set[Hashable]] = []
    for group in kept:
        drawn: set[Hashable] = {draw for draw, _ in group}
        shared = [draws for draws in apart if draws & drawn]
        apart = [draws for draws in apart if not draws & drawn] + [drawn.union(*shared)]
    means = [np.array([mean for _, mean in group], dtype=np.float64) for group in kept]
    within = sum(float(np.sum((group - group.mean()) ** 2)) for group in means)
    variance = within / sum(len(group) - 1 for group in means)
    largest = max(float(np.ptp(group)) for group in means)
    df = sum(len(draws) - 1 for draws in apart)
    return Spread(sum(map(len, means)), df, math.sqrt(variance), largest)


class Alarms(NamedTuple):
    """How often the crossed test called two halves of one arm's runs different."""

    num_called: int
    num_splits: int


def split_alarms(blocks_SQ: Sequence[Values], alpha: float, most: int = 100) -> Alarms:
    """Split the runs (S, Q) of each arm into halves, every way up to `most` evenly taken ones, and test half - half.

    Arms with fewer than four runs are not split. Splits of one arm share runs, so the count is no binomial one; about
    alpha of them is what a valid test calls different on average.
    """
    called = tested = 0
    for block in blocks_SQ:
        num_runs = len(block)
        if num_runs < 4:
            continue
        half = num_runs // 2
        splits = [chosen for chosen in itertools.combinations(range(num_runs), half) if 0 in chosen or num_runs % 2]
        for chosen in splits[:: -(-len(splits) // most)]:
            rest = [row for row in range(num_runs) if row not in chosen]
            halves: dict[str, Blocks] = {"first": block[list(chosen)], "second": block[rest]}
            tested += 1
            called += crossed(halves, {"first": 1.0, "second": -1.0}, Options(alpha=alpha)).p < alpha
    return Alarms(called, tested)
