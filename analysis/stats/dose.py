"""How the gain from reversed twins depends on the share of twins whose labels are wrong.

A twin that is right speaks for the polarity, one that is wrong speaks against it, so the signal of a mix in which a
share delta is wrong is 1 - 2 delta; what the twins' texts and their diversity buy is there whatever the labels say:

    gain(delta) = c + E (1 - 2 delta)            gain: mean of the arm minus mean of the reference arm

c and E are those of least squares over the arms. Both are contrasts of the arms' means, so the crossed test gives their
standard errors, with new seeds and new units in them. Labels that nobody flipped have errors of their own: with a share
b of pairs reversed back and n saying nothing (both or neither), the signal of the clean arm is s = 1 - 2 b - n, the
doses scale it, and E measured is s times that of right labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from ablate.records import UserError
from analysis.stats.clusters import Groupings, over_new
from analysis.stats.crossed import Blocks, Estimate, Options
from analysis.stats.trend import LackOfFit, lack_of_fit

_WIDEST = 64.0
"""Where the search for a limit of equivalent noise ends: a share is at most 1."""


class Signal(NamedTuple):
    """The signal 1 - 2 b - n of labels that were meant to be right, from an audit."""

    share: float
    se: float


class Adjusted(NamedTuple):
    """The gain that right labels would give."""

    estimate: float
    se: float
    ci: tuple[float, float] | None
    """None where the line has no error, which says nothing of how far other runs would lie from it."""


class EquivalentNoise(NamedTuple):
    """The share of wrong labels at which the line has an arm's gain; a limit is None where the data set none."""

    share: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class DoseLine:
    """The line through the gains, and the arms on it."""

    reference: str
    doses: Mapping[str, float]
    gains: Mapping[str, Estimate]
    """arm -> arm - reference."""
    constant: Estimate
    """c: what texts and diversity buy."""
    polarity: Estimate
    """E: what right labels buy beyond it."""
    fit: LackOfFit | None
    """None for two doses, which every line goes through."""


class _Line(NamedTuple):
    """Least squares of the gains as contrasts of arms."""

    constant: dict[str, float]
    polarity: dict[str, float]


def _weights(doses: Mapping[str, float], reference: str) -> _Line:
    signal_A = 1 - 2 * np.array(list(doses.values()))
    apart_A = signal_A - signal_A.mean()
    slope_A = apart_A / (apart_A @ apart_A)
    level_A = 1 / len(doses) - signal_A.mean() * slope_A
    polarity = dict(zip(doses, slope_A.tolist(), strict=True))
    constant = dict(zip(doses, level_A.tolist(), strict=True))
    constant[reference] = constant.get(reference, 0.0) - 1
    return _Line(constant, polarity)


def _plus(first: Mapping[str, float], second: Mapping[str, float], times: float = 1.0) -> dict[str, float]:
    return {arm: first.get(arm, 0.0) + times * second.get(arm, 0.0) for arm in {**first, **second}}


def check_doses(doses: Mapping[str, float], reference: str) -> None:
    """Raise UserError for fewer than two different doses, one outside 0 to 1, and a reference that has a dose."""
    for arm, dose in doses.items():
        if not 0 <= dose <= 1:
            raise UserError(f"the dose of {arm} is {dose:g}; a share of wrong labels lies between 0 and 1")
    if len(set(doses.values())) < 2:
        raise UserError(f"a dose-response needs two different doses; given are {dict(doses)}")
    if reference in doses:
        raise UserError(f"the reference {reference!r} has a dose itself; name an arm without reversed twins")


def dose_line(
    arms: Mapping[str, Blocks],
    doses: Mapping[str, float],
    reference: str,
    options: Options | None = None,
    groupings: Groupings | None = None,
) -> DoseLine:
    """Return the line through the gains of arms (S, Q) at these doses over the reference arm.

    Raises UserError as `check_doses` and `analysis.stats.clusters.over_new` do.
    """
    check_doses(doses, reference)
    line = _weights(doses, reference)
    slope = {arm: -weight / 2 for arm, weight in line.polarity.items()}
    return DoseLine(
        reference=reference,
        doses=dict(doses),
        gains={arm: over_new(arms, {arm: 1.0, reference: -1.0}, options, groupings or {}) for arm in doses},
        constant=over_new(arms, line.constant, options, groupings or {}),
        polarity=over_new(arms, line.polarity, options, groupings or {}),
        fit=lack_of_fit(arms, slope, options, groupings),
    )


def without_label_error(
    arms: Mapping[str, Blocks],
    doses: Mapping[str, float],
    reference: str,
    signal: Signal,
    options: Options | None = None,
    groupings: Groupings | None = None,
) -> Adjusted:
    """Return c + E / s, the gain of right labels, with the errors of the line and of the audit both in it.

    First order: the variance is that of the contrast c + E / s at the audited s, plus (E / s²)² var(s). Degrees of
    freedom are those of the contrast, which are the fewer; where it has none there is no interval. Raises UserError for
    a signal that is not above 0.
    """
    if not signal.share > 0:
        raise UserError(
            f"the audited signal of the labels is {signal.share:g}; at 0 or below they teach no polarity, and no gain "
            f"of right labels follows from them"
        )
    line = _weights(doses, reference)
    whole = over_new(arms, _plus(line.constant, line.polarity, 1 / signal.share), options, groupings or {})
    polarity = over_new(arms, line.polarity, options, groupings or {}).estimate
    se = math.hypot(whole.se, polarity / signal.share**2 * signal.se)
    if whole.df is None:
        return Adjusted(whole.estimate, se, None)
    half = se * float(stdtrit(whole.df, 1 - whole.alpha / 2))
    return Adjusted(whole.estimate, se, (whole.estimate - half, whole.estimate + half))


def equivalent_noise(
    arms: Mapping[str, Blocks],
    doses: Mapping[str, float],
    reference: str,
    arm: str,
    options: Options | None = None,
    groupings: Groupings | None = None,
) -> EquivalentNoise:
    """Return delta with c + E (1 - 2 delta) = gain of the arm (0 of the reference), and its interval by Fieller (1954).

    The limits are the delta at which the crossed test of "arm - reference - c - E (1 - 2 delta)" is at its level; where
    E is not shown to differ from 0, one or both of them do not exist.
    """
    line = _weights(doses, reference)
    off = _plus(_plus({arm: 1.0}, {reference: 1.0}, -1.0), line.constant, -1.0)

    def test(delta: float) -> Estimate:
        return over_new(arms, _plus(off, line.polarity, -(1 - 2 * delta)), options, groupings or {})

    polarity = over_new(arms, line.polarity, options, groupings or {})
    if polarity.estimate == 0:
        raise UserError("the line is flat (E is 0): every share of wrong labels gives the same gain")
    share = (1 - over_new(arms, off, options, groupings or {}).estimate / polarity.estimate) / 2
    if polarity.p >= polarity.alpha:
        return EquivalentNoise(share, None, None)
    return EquivalentNoise(share, _limit(test, share, -1.0), _limit(test, share, 1.0))


def _limit(test: Callable[[float], Estimate], start: float, side: float) -> float | None:
    """Return where, on this side of a delta that fits, the test reaches its level; None where it does not."""
    step = 0.01
    while test(start + side * step).p >= test(start).alpha:
        step *= 2
        if step > _WIDEST:
            return None
    inner, outer = step / 2 if step > 0.01 else 0.0, step
    for _ in range(30):
        middle = (inner + outer) / 2
        inner, outer = (middle, outer) if test(start + side * middle).p >= test(start).alpha else (inner, middle)
    return start + side * outer
