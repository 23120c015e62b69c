"""The share of wrong labels of an evaluation set at which a verdict would no longer hold.

Three questions of a verdict that the test of a claim gave, each answered by the claim's own test (population, level,
looks, Holm with the other claims as they are) on scores with exchanged labels (`analysis.stats.label_errors`):

    lost        a share of units, drawn by chance, has its labels exchanged: from which share on does at least half of
                the draws give another verdict? How much noise of labels the study has to spare.
    untrue      the labels as they are have a share of errors, by chance: from which share on would right labels have
                given another verdict? Such errors shrink differences, so they threaten verdicts that rest on a small
                one (equivalent, not_worse, a refutation by the margin); one that is seen is no smaller in truth.
    worst case  how few units, those that carry most of the verdict, need to have exchanged labels?

Nothing is said of UNDECIDED, nor of a measure whose value under other labels does not follow from scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ablate.records import UserError
from ablate.tables import Column, Table
from analysis.stats.clusters import over_new
from analysis.stats.contrast import ContrastRow, tost_level
from analysis.stats.corrections import holm
from analysis.stats.crossed import Options
from analysis.stats.label_errors import (
    Sets,
    corrected,
    exchanged,
    exchanged_at,
    first_share,
    masks_of,
    most_telling,
    orders_by_chance,
)
from analysis.verdict.claims_tables import claim_name
from analysis.verdict.judge import Judged, Judgement, asked_by
from analysis.verdict.rule import UNDECIDED, claim_p, outcome

STEPS = 200
"""Shares are looked at in steps of 1 / 400, from 0 to below one half."""
PLACES = 20
"""Of shares whose draws are tested before the place between two of them is looked for."""
MOST_PLACES = 400
"""The same, of numbers of units."""


@dataclass(frozen=True)
class WrongLabels:
    """At which shares of wrong labels the verdict on a claim ends; None where no share below one half is enough."""

    claim: str
    why_not: str = ""
    """Why nothing is said; then all else is empty."""
    lost: float | None = None
    untrue: float | None = None
    worst: float | None = None
    worst_units: int | None = None
    num_units: int = 0


def wrong_labels(judgement: Judgement, not_ranked: Mapping[str, int]) -> tuple[WrongLabels, ...]:
    """Return for each claim of a study at which shares of wrong labels its verdict ends, in their order.

    `not_ranked`: data set -> pair decisions with neither document ranked, whose score under other labels is not known.
    """
    return tuple(_of_claim(judgement, place, not_ranked) for place in range(len(judgement.claims)))


def _of_claim(judgement: Judgement, place: int, not_ranked: Mapping[str, int]) -> WrongLabels:
    judged = judgement.claims[place]
    row, level = judged.row, judged.level
    if row is None or judged.p is None or judged.p_holm is None:
        return WrongLabels(claim_name(judged), "it was not tested")
    given = outcome(judged.claim, row, judged.p_holm, level)
    if given == UNDECIDED:
        return WrongLabels(claim_name(judged), "the test decides nothing, so there is nothing to lose")
    if row.result.degenerate:
        return WrongLabels(claim_name(judged), "no error could be estimated")
    asked = asked_by(judged.claim, judgement.table)
    arms = list(row.weights)
    try:
        other = exchanged(judgement.table, asked.target, arms)
    except UserError as error:
        return WrongLabels(claim_name(judged), str(error))
    unknown = sum(not_ranked.get(dataset, 0) for dataset in asked.target.datasets)
    if unknown:
        return WrongLabels(
            claim_name(judged), f"{unknown:,} pair decisions have neither document ranked (evaluation.depth)"
        )
    scored: Sets = {arm: [part.values_SQ[arm] for part in asked.target.parts] for arm in arms}
    options = Options(deterministic=row.deterministic, alpha=level.alpha)
    groupings, others = asked.groupings(), _other_p(judgement.claims, place)

    def holds(sets: Sets) -> bool:
        result = over_new(sets, row.weights, options, groupings)
        again = dataclasses.replace(row, result=result, tost_ci=result.interval(tost_level(result)))
        adjusted = holm([claim_p(judged.claim, result), *others])[0]
        return outcome(judged.claim, again, adjusted, level) == given

    orders = orders_by_chance(scored)

    def half_hold(share: float) -> bool:
        held = sum(holds(exchanged_at(scored, other, first_share(order, share))) for order in orders)
        return 2 * held > len(orders)

    worst = _fewest(scored, other, row, holds)
    return WrongLabels(
        claim_name(judged),
        lost=_share(half_hold, STEPS // PLACES),
        untrue=_share(lambda share: holds(corrected(scored, other, share)), 1),
        worst=None if worst is None else worst / row.num_units,
        worst_units=worst,
        num_units=row.num_units,
    )


def _other_p(claims: Sequence[Judged], place: int) -> list[float]:
    """Return the p of the other claims of the family; one that cannot be tested counts with 1."""
    return [1.0 if other.p is None else other.p for number, other in enumerate(claims) if number != place]


def _share(holds: Callable[[float], bool], stride: int) -> float | None:
    """Return the smallest share (in steps) at which a verdict does not hold, None where it holds below one half."""
    step = _first(lambda number: not holds(number / (2 * STEPS)), STEPS - 1, stride)
    return None if step is None else step / (2 * STEPS)


def _fewest(scored: Sets, other: Sets, row: ContrastRow, holds: Callable[[Sets], bool]) -> int | None:
    """Return how few units need to be exchanged, those that move the contrast most first, in either direction."""
    fewest = []
    for rises in (False, True):
        order = most_telling(scored, other, row.weights, rises=rises)

        def fails(number: int, order: list[tuple[int, int]] = order) -> bool:
            return not holds(exchanged_at(scored, other, masks_of(scored, order[:number])))

        number = _first(fails, len(order), max(1, len(order) // MOST_PLACES))
        fewest += [] if number is None else [number]
    return min(fewest, default=None)


def _first(is_so: Callable[[int], bool], most: int, stride: int) -> int | None:
    """Return the first number from 1 to `most` at which something is so, None where there is none.

    Looked for in strides, and then in the stride before: with a stride of 1 it is the first one.
    """
    tried = (number for number in (*range(stride, most, stride), most) if number and is_so(number))
    high: int | None = next(tried, None)
    if high is None:
        return None
    low = (high - 1) // stride * stride
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_so(middle) else (middle, high)
    return high


def wrong_labels_table(found: Sequence[WrongLabels]) -> Table:
    """Return the shares as a table for readers, and under it why there is none."""
    columns = (
        Column("claim"),
        Column("lost at", "r"),
        Column("untrue at", "r"),
        Column("worst case", "r"),
    )
    rows = tuple(
        (
            labels.claim,
            *(
                ("–", "–", "–")
                if labels.why_not
                else (
                    _cell(labels.lost),
                    _cell(labels.untrue),
                    "none"
                    if labels.worst is None
                    else f"{labels.worst:.3f} ({labels.worst_units:,} of {labels.num_units:,})",
                )
            ),
        )
        for labels in found
    )
    notes = [
        "Share of units whose labels must be exchanged (what satisfies is taken for what violates) for the test to say "
        "something else. lost: by chance, on top of what is there; untrue: by chance, in the labels as they are, so "
        "that right ones say something else (none: such errors only hide a difference); worst case: the units that "
        "carry most of the verdict, first. docs/statistics.md.",
        *(f"{labels.claim}: not said, {labels.why_not}." for labels in found if labels.why_not),
    ]
    return Table("Wrong labels of the evaluation set", columns, rows, tuple(notes))


def _cell(share: float | None) -> str:
    return "none below .5" if share is None else f"{share:.3f}"
