"""Which seed of an arm stands apart from its others: an outlier rule on seed means, by name and never to drop one.

In each place, a seed's mean is compared with those of the arm's other S - 1 seeds (the deleted residual, Grubbs 1950):

    t = |mean_s - mean of the others| / (sd of the others × sqrt(1 + 1 / (S - 1)))          S - 2 df, two-sided

where the sd is at least that which seed × unit noise alone would give. A seed has one p over all places, the harmonic
mean of theirs (Wilson 2019), which a seed that broke down everywhere keeps and correlated places do not inflate. It
stands apart where S × p < `LEVEL`: under normal seed means that names a seed in .4 to .7 % of all arms, with 5 to 20
seeds and 1 to 20 places that are correlated by 0 to .9 (simulated; tests/test_fairness.py repeats a part). Two of five
that broke down hide each other: the rule says nothing of what it does not name. The median and 1.4826 MAD would need
a distance of 18.6 for 1 % with five seeds in one place, and 86 for .05 %, so they would name still less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr

from ablate.tables import number
from analysis.stats.matrix import Cell, ScoreTable, Values

LEAST_SEEDS = 5
"""With fewer, a seed that happens to lie apart is nothing unusual."""
LEVEL = 0.005
_ROUNDING = 64 * np.finfo(np.float64).eps


class Apart(NamedTuple):
    """A seed that stands apart, where it does so most."""

    arm: str
    seed: str
    cell: Cell
    mean: float
    lowest: float
    """Of the other seeds' means."""
    highest: float
    num_others: int

    def __str__(self) -> str:
        return (
            f"{self.arm} seed {self.seed} has {number(self.mean)} in {self.cell}, its {self.num_others} other seeds "
            f"{number(self.lowest)} to {number(self.highest)}"
        )


def seeds_apart(table: ScoreTable, arms: Sequence[str]) -> list[Apart]:
    """Return the seeds of these arms that stand apart; arms with fewer than `LEAST_SEEDS` seeds have none."""
    apart = []
    for arm in arms:
        cells = {cell: scores.values_SQ[arm] for cell, scores in table.cells.items() if arm in scores.values_SQ}
        apart += [_where(arm, table.seeds[arm], place, cells, p_C) for place, p_C in _outlying(list(cells.values()))]
    return apart


def remarks_of_seeds(
    table: ScoreTable, contrasts: Mapping[str, Mapping[str, float]], deterministic: frozenset[str]
) -> list[tuple[str, str, str]]:
    """Return (contrast, mark, why) for each contrast with an arm of which a seed stands apart."""
    used = {arm for weights in contrasts.values() for arm, weight in weights.items() if weight != 0}
    apart = seeds_apart(table, [arm for arm in table.arms if arm in used and arm not in deterministic])
    return [
        (label, "SEED APART", f"{seed}; it is in every number")
        for label, weights in contrasts.items()
        for seed in apart
        if weights.get(seed.arm, 0) != 0
    ]


def _outlying(blocks: Sequence[Values]) -> list[tuple[int, Values]]:
    """Return the places of seeds that stand apart, each with its p in every (S, Q) block."""
    if not blocks or len(blocks[0]) < LEAST_SEEDS:
        return []
    p_CS = np.stack([deleted_p(block) for block in blocks])
    joint_S = 1 / np.mean(1 / np.maximum(p_CS, 1e-300), axis=0)
    return [(int(place), p_CS[:, place]) for place in np.flatnonzero(joint_S * len(joint_S) < LEVEL)]


def deleted_p(block_SQ: Values) -> Values:
    """Return, for each seed of (S, Q) scores, the p of its mean being one more of the others': (S,)."""
    num_seeds, num_units = block_SQ.shape
    means_S = block_SQ.mean(axis=1)
    tiny = _ROUNDING * float(np.abs(block_SQ).max())
    p_S = np.ones(num_seeds)
    for place in range(num_seeds):
        others_SQ, others_S = np.delete(block_SQ, place, axis=0), np.delete(means_S, place)
        rest_SQ = others_SQ - others_SQ.mean(axis=0) - others_S[:, None] + others_S.mean()
        noise = float(np.vdot(rest_SQ, rest_SQ)) / ((num_seeds - 2) * max(num_units - 1, 1) * num_units)
        spread = math.sqrt(max(float(np.var(others_S, ddof=1)), noise) * (1 + 1 / (num_seeds - 1)))
        distance = abs(float(means_S[place] - others_S.mean()))
        if distance > tiny:
            p_S[place] = 2 * stdtr(num_seeds - 2, -distance / spread) if spread > tiny else 0.0
    return p_S


def _where(arm: str, seeds: Sequence[str], place: int, cells: Mapping[Cell, Values], p_C: Values) -> Apart:
    cell = list(cells)[int(np.argmin(p_C))]
    means_S = cells[cell].mean(axis=1)
    others_S = np.delete(means_S, place)
    return Apart(
        arm, seeds[place], cell, float(means_S[place]), float(others_S.min()), float(others_S.max()), len(others_S)
    )
