"""Share of right labels from a human sample and judges that saw every item, with an interval that holds near 1.

Stratified difference estimator with known weights: the strata are kind of constraint x verdict of the judges, and the
judges scored all N items, so each stratum's share W_h = N_h / N is known. With y the human answer, f the judges' and
n_h items drawn at random from stratum h,

    theta = lam * mean(f over all N) + sum_h W_h mean_h(y - lam f)
    lam   = sum_h a_h cov_h(y, f) / sum_h a_h var_h(f),     a_h = W_h^2 (1 - n_h / N_h) / n_h;   0 where var is 0
    e_i   = y_i - lam f_i - mean of its stratum,            w_i = N_h / (n_h N)
    V     = max( sum_h W_h^2 (1 - n_h / N_h) s_h^2 / n_h ,
                 (1 - n / N) g / (g - 1) sum over the g sampled clusters of (sum_i w_i e_i)^2 )

The interval is Clopper and Pearson's for the effective sample size n* = theta (1 - theta) / V (t_{n-1} / t_{n-H})^2
(Korn and Graubard 1998, Survey Methodology 24, 193-201). Sources: Cochran, Sampling Techniques (1977), chapters 5 and 7
for the difference estimator; Angelopoulos et al. (2023), arXiv 2311.01453, for lam.

Strata in which every answer was the same show no variance, which says little when they are small: theirs is taken as
that of one error in m + 2 answers (Laplace's mean), m being the labels of all such strata together.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betainc, betaincinv, stdtrit

from ablate.records import UserError

MIN_LABELS = 5
"""Human labels that a stratum needs; smaller ones are merged."""


@dataclass(frozen=True)
class Estimate:
    """A share with its interval."""

    share: float
    low: float
    high: float
    num_items: int
    """N: all items that the share speaks of."""
    num_labels: int
    """n: items with a human answer."""
    effective_n: float
    """Size of the simple random sample that knows as much; infinite for a census, 0 where there is none (bounds)."""
    num_strata: int
    design_effect: float
    """Variance of clusters over that of independent items; 1 where it is not larger."""
    slope: float
    """lam: how much of the judges' scores is used; 0 without judges."""
    known_share: float
    """Share of the items whose stratum is labelled completely (gold by rule, a census)."""
    known_mean: float
    """Share of right ones among those."""

    @property
    def is_census(self) -> bool:
        """Return whether every item was looked at: then the ends are the share, and nothing was sampled."""
        return self.known_share == 1

    @property
    def is_bounded(self) -> bool:
        """Return whether nothing is known of the items without gold: then the ends have all of them wrong and right."""
        return self.effective_n == 0

    def tails(self, threshold: float) -> tuple[float, float]:
        """Return (p of "the truth is not above", p of "the truth is not below") a threshold, each one-sided."""
        if self.is_census:
            return float(self.share <= threshold), float(self.share >= threshold)
        if self.is_bounded:
            return float(self.low <= threshold), float(self.high >= threshold)
        rest, known = 1 - self.known_share, self.known_share * self.known_mean
        inside = (threshold - known) / rest
        if not 0 < inside < 1:  # what is known settles it
            return float(inside >= 1), float(inside <= 0)
        return tail_probabilities((self.share - known) / rest, self.effective_n, inside)


def merge_strata(kinds: Any, verdicts: Any, labelled: Any, minimum: int = MIN_LABELS) -> Any:
    """Return the stratum of every item, (N,) whole numbers: kind x verdict, merged until each has `minimum` labels.

    Kinds of one verdict are merged first, the smallest with each other; verdicts only where one has too few labels in
    all. A cell that is labelled completely stays alone. `kinds` and `verdicts` are (N,) whole numbers, `labelled` (N,)
    booleans.
    """
    num_kinds = int(kinds.max(initial=0)) + 1
    cells = verdicts * num_kinds + kinds
    size = np.bincount(cells)
    labels = np.bincount(cells, weights=labelled, minlength=len(size)).astype(int)
    group = np.arange(len(size))
    present = size > 0
    open_cells = present & (labels < size)
    for verdict in np.unique(verdicts):
        _pool(group, labels, open_cells & (group // num_kinds == verdict), minimum)
    _pool(group, labels, open_cells, minimum)
    return np.unique(group[cells], return_inverse=True)[1].reshape(-1)


def _pool(group: Any, labels: Any, among: Any, minimum: int) -> None:
    """Merge groups of cells, smallest first, until each of them has enough labels or only one is left."""
    while True:
        names = np.unique(group[among])
        if len(names) < 2:
            return
        totals = np.array([labels[group == name].sum() for name in names])
        order = np.argsort(totals, kind="stable")
        if totals[order[0]] >= minimum:
            return
        group[group == names[order[0]]] = names[order[1]]


def estimate_share(
    answers: Any, strata: Any, clusters: Any, judged: Any = None, *, confidence: float = 0.95
) -> Estimate:
    """Return the share of right items with its interval.

    answers: (N,) in [0, 1], NaN where nobody looked. strata, clusters: (N,) whole numbers from 0. judged: (N,) in
    [0, 1] or None. Strata that are labelled completely are known; the interval is that of the others, scaled. Raises
    UserError for a stratum with items and no label.
    """
    answers = np.asarray(answers, dtype=float)
    labelled = ~np.isnan(answers)
    size = np.bincount(strata)
    labels = np.bincount(strata[labelled], minlength=len(size))
    if ((size > 0) & (labels == 0)).any():
        raise UserError(f"{int(((size > 0) & (labels == 0)).sum())} strata have items and no label; merge them first")
    known = (labels == size)[strata]
    N, known_share = len(answers), float(known.mean())
    known_mean = float(answers[known].mean()) if known.any() else 0.0
    if known.all():
        return Estimate(
            known_mean, known_mean, known_mean, N, N, math.inf, len(np.unique(strata)), 1.0, 0.0, 1.0, known_mean
        )
    rest = np.flatnonzero(~known)
    part = _sampled(
        answers[rest],
        np.unique(strata[rest], return_inverse=True)[1],
        clusters[rest],
        None if judged is None else np.asarray(judged, dtype=float)[rest],
        confidence,
    )
    share, low, high = (known_share * known_mean + (1 - known_share) * x for x in (part.share, part.low, part.high))
    return dataclasses.replace(
        part,
        share=share,
        low=low,
        high=high,
        num_items=N,
        num_labels=int(labelled.sum()),
        known_share=known_share,
        known_mean=known_mean,
    )


def bounded_share(answers: Any) -> Estimate:
    """Return the share of right items among those that are known, between the bounds of the share of all.

    answers: (N,) in [0, 1], NaN where nothing is known, and one at least that is not. With n of N known and r of them
    right, the ends are r / N (all others wrong) and (r + N - n) / N (all others right).
    """
    labelled = ~np.isnan(answers)
    N, n, right = len(answers), int(labelled.sum()), float(answers[labelled].sum())
    return Estimate(right / n, right / N, (right + N - n) / N, N, n, 0.0, 1, 1.0, 0.0, n / N, right / n)


def _sampled(answers: Any, strata: Any, clusters: Any, judged: Any, confidence: float) -> Estimate:
    """Return the estimate of items none of whose strata is labelled completely; shapes as in `estimate_share`."""
    labelled = ~np.isnan(answers)
    N, n = len(answers), int(labelled.sum())
    N_h = np.bincount(strata).astype(float)
    y, h = answers[labelled], strata[labelled]
    n_h = np.bincount(h, minlength=len(N_h)).astype(float)
    f = np.zeros(n) if judged is None else judged[labelled]
    y_mean, f_mean = np.bincount(h, y) / n_h, np.bincount(h, f) / n_h
    free = np.maximum(n_h - 1, 1)
    W_h = N_h / N
    a_h = W_h**2 * (1 - n_h / N_h) / n_h
    centred = f - f_mean[h]
    spread = float(a_h @ (np.bincount(h, centred**2) / free))
    shared = float(a_h @ (np.bincount(h, centred * (y - y_mean[h])) / free))
    lam = shared / spread if spread > 0 else 0.0
    share = float(W_h @ (y_mean - lam * f_mean)) + (lam * float(judged.mean()) if lam else 0.0)
    share = min(max(share, 0.0), 1.0)

    residual = y - lam * f - (y_mean - lam * f_mean)[h]
    s2 = np.bincount(h, residual**2) / free
    unvaried = s2 < 1e-12
    one_error = 1 / (n_h[unvaried].sum() + 2)
    s2[unvaried] = one_error * (1 - one_error)
    independent = float(a_h @ s2)
    groups, sizes = np.unique(clusters[labelled], return_counts=True)
    sums = np.bincount(np.searchsorted(groups, clusters[labelled]), (N_h / n_h / N)[h] * residual)
    clustered = (1 - n / N) * len(groups) / max(len(groups) - 1, 1) * float(sums @ sums)
    if 0 < share < 1:
        effective = share * (1 - share) / max(independent, clustered) * _t_ratio(n, len(N_h))
    else:  # not one error, or nothing but errors: as many items as there are, less what clusters repeat
        effective = n / (float(sizes @ sizes) / n)
    low, high = share_interval(share, effective, confidence)
    return Estimate(share, low, high, N, n, effective, len(N_h), max(1.0, clustered / independent), lam, 0.0, 0.0)


def share_interval(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a share of n items; n need not be whole."""
    tail, k = (1 - confidence) / 2, share * n
    low = 0.0 if k <= 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if share >= 1 else float(betaincinv(k + 1, max(n - k, 1e-12), 1 - tail))
    return low, high


def tail_probabilities(share: float, n: float, threshold: float) -> tuple[float, float]:
    """Return (P(at least this share), P(at most this share)) of n items if the truth were the threshold."""
    k = share * n
    above = 1.0 if k <= 0 else float(betainc(k, n - k + 1, threshold))
    below = 1.0 if share >= 1 else float(1 - betainc(k + 1, n - k, threshold))
    return above, below


@functools.cache
def _t_ratio(n: int, num_strata: int) -> float:
    return float((stdtrit(max(n - 1, 1), 0.975) / stdtrit(max(n - num_strata, 1), 0.975)) ** 2)


def codes(names: Sequence[object]) -> Any:
    """Return whole numbers from 0 that stand for names, equal for equal ones."""
    return np.unique(np.asarray([str(name) for name in names]), return_inverse=True)[1].reshape(-1)
