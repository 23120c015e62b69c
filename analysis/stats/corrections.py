"""Corrections over a family of p-values, and replicability over data sets; a missing p-value is an error."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ablate.records import UserError


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values in the given order: valid under any dependence within the family.

    The r-th smallest becomes the maximum over j <= r of min(1, (m - j + 1) p_(j)). Raises UserError for a value that is
    no probability. Source: Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    _check(p_values)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return Benjamini and Hochberg's q-values in the given order: for slices that are called exploratory, no claim.

    Raises UserError for a value that is no probability. Source: Benjamini and Hochberg (1995), JRSS B 57, 289-300.
    """
    from scipy.stats import false_discovery_control  # a second, which only this correction costs

    _check(p_values)
    adjusted: list[float] = false_discovery_control(p_values).tolist()
    return adjusted


def replicated(p_values: Sequence[float], alpha: float = 0.05) -> int:
    """Return on how many data sets at least the effect is there, with confidence 1 - alpha under any dependence.

    Partial conjunction in Bonferroni's form: "at least u of n" has p = (n - u + 1) p_(u), made monotone in u. Source:
    Dror et al. (2017), TACL 5, 471-486.
    """
    _check(p_values)
    count, highest = 0, 0.0
    for place, p in enumerate(sorted(p_values)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p))
        if highest > alpha:
            break
        count += 1
    return count


def _check(p_values: Sequence[float]) -> None:
    for place, p in enumerate(p_values):
        if math.isnan(p) or not 0 <= p <= 1:
            where = f"p-value {place + 1} of {len(p_values)} in the family"
            raise UserError(f"{where} is {p}; every claim of a family needs its p in [0, 1]")
