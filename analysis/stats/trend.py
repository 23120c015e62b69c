"""Do the arms of a trend lie on a line? The test of lack of fit that stands beside every slope.

A slope over k doses is one contrast of the arms; what it leaves out are k - 2 more, the orthogonal polynomials of
degree 2 to k - 1 over the doses (for arms of equal dose, their difference). Each is tested by the crossed test of
`analysis.stats.crossed`, like the slope, so new seeds and new units are both in its error; the p of lack of fit is
the smallest of theirs after Holm. It is below alpha for at most alpha of straight lines, and finds a bend, which lies
in the first of them, nearly as well as that contrast alone would.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ablate.tables import number, probability
from analysis.stats.clusters import Groupings, over_new
from analysis.stats.corrections import holm
from analysis.stats.crossed import Blocks, Options, seed_means
from analysis.stats.matrix import Values

_TREND = re.compile(r"\s*trend(\s*:|\s+over\s)")
_INDEPENDENT = 1e-8
"""Length of what is new in a direction, of 1, below which it is rounding."""


class LackOfFit(NamedTuple):
    """How far the means of the arms of a trend are from a line."""

    p: float
    """Smallest of the contrasts that a line leaves out, after Holm over them."""
    arm: str
    """Whose mean lies furthest from the least-squares line."""
    deviation: float
    """By how much, on the measure's scale."""

    def in_words(self, alpha: float) -> str:
        """Return what may be said of the line beside the verdict on its slope."""
        if self.p >= alpha:
            return f"No lack of fit to a line is shown (p {probability(self.p)})"
        side = "above" if self.deviation > 0 else "below"
        return (
            f"The means are on no line: {self.arm} lies {number(abs(self.deviation))} {side} it (lack of fit p "
            f"{probability(self.p)}), so the slope is an average and says nothing of a single dose"
        )


def is_trend(label: str) -> bool:
    """Return whether a contrast was written as a trend over doses."""
    return _TREND.match(label) is not None


def lack_of_fit(
    arms: Mapping[str, Blocks],
    weights: Mapping[str, float],
    options: Options | None = None,
    groupings: Groupings | None = None,
) -> LackOfFit | None:
    """Return the lack of fit of arms (S, Q) to a line over their doses, of which the slope's weights are a shift.

    None for fewer than three arms, and where one of them has no scores or no second seed. Raises UserError as
    `analysis.stats.crossed.crossed` does.
    """
    options, names = options or Options(), list(weights)
    trained = [arm for arm in names if arm not in options.deterministic and options.estimand == "method"]
    if (
        len(names) < 3
        or any(arm not in arms for arm in names)
        or any(len(seed_means(arms[arm])) < 2 for arm in trained)
    ):
        return None
    basis = _polynomials(np.array([weights[arm] for arm in names]))
    shapes = [dict(zip(names, row.tolist(), strict=True)) for row in basis[2:]]
    p_values = [over_new(arms, shape, options, groupings or {}).p for shape in shapes]
    means_A = np.array([float(seed_means(arms[arm]).mean()) for arm in names])
    off_A = means_A - basis[:2].T @ (basis[:2] @ means_A)
    furthest = int(np.argmax(np.abs(off_A)))
    return LackOfFit(min(holm(p_values)), names[furthest], float(off_A[furthest]))


def _polynomials(doses_A: Values) -> Values:
    """Return orthonormal rows (A, A): constant, slope, then what is left, by degree."""
    scaled_A = doses_A / np.abs(doses_A).max()
    candidates = [scaled_A**degree for degree in range(len(doses_A))] + list(np.eye(len(doses_A)))
    rows: list[Values] = []
    for candidate in candidates:
        rest_A = candidate / np.linalg.norm(candidate)
        for row in [*rows, *rows]:  # twice: once is not orthogonal to the last digits
            rest_A = rest_A - (row @ rest_A) * row
        length = float(np.linalg.norm(rest_A))
        if length > _INDEPENDENT and len(rows) < len(doses_A):
            rows.append(rest_A / length)
    return np.stack(rows)
