"""What wrong labels of an evaluation set do to a contrast, where exchanging a unit's labels has a known score.

A label error exchanges what satisfies an instruction and what violates it. With v the share of decisions of a unit in
which the right document ranks above the other one, the exchanged unit has 1 - v, because each decision turns round; a
pair is right for both queries after the exchange where it was wrong for both, and over the pairs of a unit

    pairs with both wrong = 1 - 2 (satisfying over violating) + pairwise accuracy

So for every arm there are two matrices, Y as scored and X exchanged (S seeds, Q units). Errors do not know the arms: an
exchanged unit is exchanged in all of them. If a share delta of units is exchanged by chance, the expected score is
(1 - delta) Y + delta X; for v a difference of two arms d shrinks to (1 - 2 delta) d. Read backwards,

    labels as given have a share delta wrong    right ones would have given ((1 - delta) Y - delta X) / (1 - 2 delta)

which for v is d / (1 - 2 delta): the classical correction for errors that do not depend on what is compared (Rogan and
Gladen 1978, American Journal of Epidemiology 107, 71-76; Bross 1954, Biometrics 10, 478-486). Errors in the worst case
are those of a fragility index (Walsh et al. 2014, Journal of Clinical Epidemiology 67, 622-628): the units that carry
most of the difference, exchanged one after the other.

Decisions between two documents of which none was ranked are wrong before and after the exchange, so X does not hold
where there are some; the notes of an evaluation count them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ablate.evaluation.measures import ONE_SIDED_RATE, PAIRWISE_ACCURACY, SATISFYING_OVER_VIOLATING
from ablate.records import UserError
from analysis.stats.asked import Target
from analysis.stats.crossed import unit_differences
from analysis.stats.matrix import ScoreTable, Values

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Sets = Mapping[str, Sequence[Values]]
"""arm -> its matrices (S, Q), one for each data set."""

DRAWS = 32
"""Draws of units that are exchanged by chance."""


def exchanged(table: ScoreTable, target: Target, arms: Sequence[str]) -> Sets:
    """Return the scores of arms (at a target) with the labels of every unit exchanged.

    Raises UserError where that does not follow from scores: another measure, or accuracy without its one-sided rates.
    """
    measure = target.cell.measure
    if measure in (SATISFYING_OVER_VIOLATING, ONE_SIDED_RATE):
        return {arm: [1 - part.values_SQ[arm] for part in target.parts] for arm in arms}
    if measure != PAIRWISE_ACCURACY:
        raise UserError(f"what {measure} would be under other labels does not follow from scores")
    sides = []
    for part, dataset in zip(target.parts, target.datasets, strict=True):
        rates = table.cells.get(target.cell._replace(dataset=dataset, measure=SATISFYING_OVER_VIOLATING))
        if rates is None or rates.units != part.units or any(arm not in rates.values_SQ for arm in arms):
            raise UserError(f"{SATISFYING_OVER_VIOLATING} was not scored beside {measure}")
        sides.append(rates)
    return {
        arm: [
            1 - 2 * rates.values_SQ[arm] + part.values_SQ[arm] for part, rates in zip(target.parts, sides, strict=True)
        ]
        for arm in arms
    }


def masks_of(scored: Sets, units: Sequence[tuple[int, int]]) -> list[Mask]:
    """Return the masks (Q,) of each data set in which these (data set, unit) are chosen."""
    masks = [np.zeros(values.shape[1], dtype=bool) for values in next(iter(scored.values()))]
    for number, unit in units:
        masks[number][unit] = True
    return masks


def corrected(scored: Sets, other: Sets, share: float) -> Sets:
    """Return the scores that right labels would give in expectation if a share (below .5) of the labels is wrong."""
    return {
        arm: [((1 - share) * y - share * x) / (1 - 2 * share) for y, x in zip(scored[arm], other[arm], strict=True)]
        for arm in scored
    }


def exchanged_at(scored: Sets, other: Sets, chosen: Sequence[Mask]) -> Sets:
    """Return the scores with the labels of chosen units exchanged; `chosen`: a mask (Q,) for each data set."""
    return {
        arm: [np.where(mask, x, y) for y, x, mask in zip(scored[arm], other[arm], chosen, strict=True)]
        for arm in scored
    }


def orders_by_chance(scored: Sets) -> list[list[Codes]]:
    """Return `DRAWS` times a place in a random order for each unit: (Q,) for each data set."""
    sizes = [values.shape[1] for values in next(iter(scored.values()))]
    return [
        [np.random.Generator(np.random.PCG64([draw, number])).permutation(size) for number, size in enumerate(sizes)]
        for draw in range(DRAWS)
    ]


def first_share(order: Sequence[Codes], share: float) -> list[Mask]:
    """Return the masks of exactly a share of the units (rounded) of each data set, the first of an order."""
    return [places < round(share * len(places)) for places in order]


def most_telling(scored: Sets, other: Sets, weights: Mapping[str, float], *, rises: bool) -> list[tuple[int, int]]:
    """Return (data set, unit) of those whose exchange moves the contrast down (`rises`: up), what moves it most first.

    Every data set counts alike, so a unit of a small one moves a macro mean more.
    """
    moved = []
    pairs = zip(unit_differences(other, weights), unit_differences(scored, weights), strict=True)
    for number, (after_Q, before_Q) in enumerate(pairs):
        steps_Q = (after_Q - before_Q) / len(before_Q) * (1 if rises else -1)
        moved += [(float(step), number, unit) for unit, step in enumerate(steps_Q) if step > 0]
    return [(number, unit) for _, number, unit in sorted(moved, key=lambda step: (-step[0], *step[1:]))]
