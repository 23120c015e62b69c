"""How far raters agree: raw, per class, Krippendorff's alpha and Gwet's AC1, with bootstrap intervals over clusters.

At a prevalence near 1 alpha and kappa are low even for raters who are nearly always right, AC1 is not; so all stand
beside each other. Sources: Krippendorff (2011), Computing Krippendorff's Alpha-Reliability; Gwet (2008), British
Journal of Mathematical and Statistical Psychology 61, 29-48; Cicchetti and Feinstein (1990) for agreement per class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.randomness import stream

RESAMPLES = 1000


@dataclass(frozen=True)
class Agreement:
    """Agreement on one yes-or-no question; a value is None where it is not defined."""

    num_items: int
    """Items with at least two answers."""
    num_raters: int
    raw: float | None
    """Share of pairs of answers to one item that are equal."""
    positive: float | None
    """Of the pairs in which one answer is yes, weighted by how many are: both are."""
    negative: float | None
    alpha: float | None
    ac1: float | None
    intervals: Mapping[str, tuple[float, float]]
    """95 % percentile bootstrap over clusters for each of the five."""


def agreement(yes: Any, answered: Any, clusters: Any, *, seed: int = 0) -> Agreement:
    """Return the agreement of raters on a yes-or-no question.

    yes, answered: (N,) numbers of raters who said yes, and who answered at all. clusters: (N,) whole numbers.
    """
    several = answered >= 2
    yes, answered, clusters = yes[several], answered[several], clusters[several]
    values = dict(zip(NAMES, coefficients(yes, answered), strict=True))
    intervals: dict[str, tuple[float, float]] = {}
    names, place = np.unique(clusters, return_inverse=True)
    if len(names) > 1:
        random = stream(seed, "agreement")
        counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
        drawn = np.array([coefficients(yes, answered, weight[place]) for weight in counts], dtype=float)
        for name, column in zip(NAMES, drawn.T, strict=True):
            if values[name] is not None and not np.isnan(column).all():
                low, high = np.nanquantile(column, [0.025, 0.975])
                intervals[name] = (float(low), float(high))
    raters = int(answered.max(initial=0))
    return Agreement(len(yes), raters, intervals=intervals, **values)


NAMES = ("raw", "positive", "negative", "alpha", "ac1")


def coefficients(yes: Any, answered: Any, weights: Any = None) -> tuple[float | None, ...]:
    """Return raw, positive and negative agreement, alpha and AC1 of items with two answers or more; None if undefined.

    With r answers to an item, r_k of them in class k, its share of equal pairs is sum_k r_k (r_k - 1) / r (r - 1).
    """
    weights = np.ones(len(yes)) if weights is None else weights
    total = float(weights.sum())
    if total == 0:
        return (None,) * len(NAMES)
    no = answered - yes
    pairs = answered * (answered - 1)
    raw = float(weights @ ((yes * (yes - 1) + no * (no - 1)) / pairs)) / total
    per_class = []
    for count in (yes, no):  # (r_k - 1) / (r - 1) is how many of the other answers agree with one in class k
        one_in_class = float(weights @ (count / answered))
        agreeing = float(weights @ (count * (count - 1) / pairs))
        per_class.append(agreeing / one_in_class if one_in_class > 0 else None)
    n_yes, n = float(weights @ yes), float(weights @ answered)
    observed = float(weights @ (2 * yes * no / (answered - 1))) / n
    expected = 2 * n_yes * (n - n_yes) / (n * (n - 1))
    alpha = 1 - observed / expected if expected > 0 else None
    prevalence = float(weights @ (yes / answered)) / total
    chance = 2 * prevalence * (1 - prevalence)
    return raw, *per_class, alpha, (raw - chance) / (1 - chance)
