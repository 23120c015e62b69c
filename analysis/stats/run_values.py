"""Arms compared by one value of each run, where the scores of queries are not known: new seeds, these queries.

Welch's t over runs (Welch 1947), `scipy.stats.ttest_ind(equal_var=False)`: what it says holds for new seeds on exactly
the queries that were measured. Of other queries it says nothing, since their variance is not in a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import ttest_ind


class RunDifference(NamedTuple):
    """An arm minus its baseline over runs; no error where an arm has one run."""

    difference: float
    low: float | None
    high: float | None
    p: float | None


def difference(values: Sequence[float], baseline: Sequence[float], alpha: float = 0.05) -> RunDifference:
    """Return the difference of the means of two arms with Welch's interval of level 1 - alpha and two-sided p.

    Without any spread in both arms, or with one run of an arm, there is no interval and no p.
    """
    plain = float(np.mean(values) - np.mean(baseline))
    if min(len(values), len(baseline)) < 2 or max(np.ptp(values), np.ptp(baseline)) == 0:
        return RunDifference(plain, None, None, None)
    result = ttest_ind(values, baseline, equal_var=False)
    low, high = result.confidence_interval(1 - alpha)
    return RunDifference(plain, float(low), float(high), float(result.pvalue))
