"""Following told from collapse: p-MRR is positive in both, the instruction gain is below zero in a collapse alone.

A ranker that loses every document under an instruction moves those down, too, that lost their relevance, so its p-MRR
is high; its ranking then serves the instruction worse than the one that ignores it. Both must be more than chance.
"""

from __future__ import annotations

from collections.abc import Collection
from statistics import fmean
from typing import Literal, NamedTuple

from ablate.evaluation.measures import INSTRUCTION_GAIN, P_MRR, mean_interval

Called = Literal["", "collapse", "not decided"]
MARKS = {"collapse": "COLLAPSE", "not decided": "COLLAPSE NOT DECIDED"}
"""What stands before the words of a verdict."""
LEVEL = 0.95
"""Level of both intervals."""


class Mean(NamedTuple):
    """A mean with the interval of that mean; None where there is none, as of one unit."""

    value: float
    interval: tuple[float, float] | None


def mean_of(values: Collection[float]) -> Mean:
    """Return the mean over units of one run with its t interval over these units; raises ValueError for no value."""
    numbers = list(values)
    return Mean(fmean(numbers), mean_interval(numbers, LEVEL))


def called(p_mrr: Mean, gain: Mean | None) -> Called:
    """Return what p-MRR and instruction gain of one ranker under one instruction are called together.

    `collapse`: the interval of p-MRR lies wholly above zero and that of the gain wholly below; `not decided`: p-MRR
    does, and of the gain the mean alone, or an interval is missing. A p-MRR that may be 0 shows no following that
    could be a collapse, and without a gain nothing is called anything.
    """
    if gain is None or not p_mrr.value > 0 > gain.value:
        return ""
    if p_mrr.interval is not None and p_mrr.interval[0] <= 0:
        return ""
    if p_mrr.interval is None or gain.interval is None:
        return "not decided"
    return "collapse" if gain.interval[1] < 0 else "not decided"


def in_words(p_mrr: Mean, gain: Mean, over: str) -> str:
    """Return why something is a collapse, or not decided; `over` says what the intervals are over."""
    numbers = (
        f"{P_MRR} x 100 is {_shown(p_mrr, 100, '+.1f')} and {INSTRUCTION_GAIN} {_shown(gain, 1, '+.3f')} "
        f"({100 * LEVEL:.0f} % intervals over {over})"
    )
    if called(p_mrr, gain) == "collapse":
        return f"{numbers}: the ranking that ignores the instruction serves it better, so it is not followed"
    return f"{numbers}: whether this is a collapse is left open, because the gain may be 0"


def _shown(mean: Mean, scale: float, digits: str) -> str:
    ends = "" if mean.interval is None else " [{}, {}]".format(*(format(scale * end, digits) for end in mean.interval))
    return format(scale * mean.value, digits) + ends
