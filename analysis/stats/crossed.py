"""The contrast test: units and training seeds as two crossed random factors, and the tests that stand beside it.

The scores of an arm are a matrix y (S seeds × Q units), or one such matrix for each of D data sets (macro mean: every
data set counts alike, and the same seeds serve them all). A contrast is a weighted sum of arm means, w:

    v_a    = variance over seeds of the arm's mean over units (divisor S_a - 1)
    e_a    = sum (y - seed mean - unit mean + grand mean)² / ((S_a - 1)(Q - 1))
    Vseed  = sum w_a² v_a / S_a     Vquery = var_q(sum w_a unit mean_a) / Q     Vres = sum w_a² e_a / (S_a Q)
    SE²    = Vres + max(Vseed - Vres, 0) + max(Vquery - Vres, 0)
    df     = SE⁴ / (sum of squared mean squares, each over its own df), at least min(S_a - 1, Q - 1)

Units may come in G clusters (wordings, kinds of constraint) that are the random factor in the place of units. With
d_q = sum w_a unit mean_a, and R_a[g, s] the sum of the residuals of a cluster,

    Vquery = G / (G - 1) sum_g (sum_{q in g} (d_q - mean d) / Q)²                                            df G - 1
    Vres   = sum_a w_a² G / (G - 1) / (S_a (S_a - 1)) sum_{g, s} (R_a[g, s] / Q)²                df (S_a - 1)(G - 1)

which with one unit in each cluster is the above. Uneven clusters and fixed strata: `analysis.stats.grouping`, where d_q
and, within a seed, the residuals are taken less the mean of their stratum.

Sources: crossed readers and cases of Obuchowski and Rockette (1995) and Hillis (2007), with units for cases and seeds
for readers; degrees of freedom of Satterthwaite (1946) and Welch (1947); two one-sided tests of Schuirmann (1987); the
clustered sums of Liang and Zeger (1986), for evaluation questions Miller (2024), arXiv 2411.00640.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import ndtr, stdtr, stdtrit

from ablate.records import UserError
from analysis.stats.grouping import Grouping, Joint, joints
from analysis.stats.matrix import Values

Blocks = Values | Sequence[Values]
"""Scores of an arm: (S, Q), or one such matrix for each data set of a macro mean."""
Estimand = Literal["method", "these_checkpoints"]
SeedVariance = Literal["welch", "family"]

_ROUNDING = 64 * np.finfo(np.float64).eps
"""Share of the largest score below which a standard deviation is rounding, not spread."""
_FLIPS_AT_ONCE = 64


def check_level(alpha: float, name: str = "alpha") -> None:
    """Raise UserError for what is no level of a test; `name` is what it is called where it was given."""
    if not 0 < alpha < 0.5:
        raise UserError(f"{name} is {alpha}; it must lie between 0 and 0.5, for example 0.05")


@dataclass(frozen=True)
class Options:
    """What is chosen in the plan, before results are seen."""

    deterministic: frozenset[str] = frozenset()
    """Arms without training randomness (BM25, an untouched checkpoint); one seed is enough for them."""
    matched: bool = False
    """The same seed means the same initialisation, order and draw in all arms: seeds are paired."""
    seed_variance: SeedVariance = "welch"
    """`family` pools the seed variance over all trained arms that are given, weight 0 included."""
    estimand: Estimand = "method"
    """`these_checkpoints` takes the seeds as fixed: a paired t over units, and no claim about new seeds."""
    alpha: float = 0.05

    def __post_init__(self) -> None:
        check_level(self.alpha)
        if self.matched and self.seed_variance == "family":
            raise UserError("matched seeds and the seed variance of the family exclude each other; choose one")


@dataclass(frozen=True)
class Estimate:
    """A contrast with its variance parts; `df` is None where no error could be estimated."""

    estimate: float
    se: float
    df: float | None
    p: float
    """Two-sided, against 0."""
    ci: tuple[float, float]
    """Level 1 - alpha."""
    v_seed: float
    """Raw mean square of seeds: holds one residual part, like `v_query`."""
    v_query: float
    v_resid: float
    share_seed: float | None
    """Share of SE² that only more seeds reduce; None when no arm has training randomness."""
    degenerate: bool
    """No spread at all: p is 0 or 1 by definition, not by a test."""
    alpha: float

    def upper_tail(self, at: float) -> float:
        """Return P(T > (estimate - at) / SE); a step where SE is 0."""
        if self.df is None:
            return 0.0 if self.estimate > at else 1.0
        return float(stdtr(self.df, -(self.estimate - at) / self.se))

    def tost(self, margin: float) -> float:
        """Return the p of two one-sided tests of |effect| >= margin: below alpha, the arms are equivalent."""
        _check_margin(margin)
        if self.df is None:
            return 0.0 if abs(self.estimate) < margin else 1.0
        return max(self.upper_tail(-margin), float(stdtr(self.df, (self.estimate - margin) / self.se)))

    def noninferior(self, margin: float) -> float:
        """Return the p of the one-sided test of "worse by the margin or more"."""
        _check_margin(margin)
        return self.upper_tail(-margin)

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval of another level, for example .90 for the two one-sided tests at .05."""
        if self.df is None:
            return (self.estimate, self.estimate)
        half = float(stdtrit(self.df, (1 + level) / 2)) * self.se
        return (self.estimate - half, self.estimate + half)


def _check_margin(margin: float) -> None:
    if not margin > 0:
        raise UserError(f"the margin is {margin}; it must be above 0, in units of the measure")


class _Moments(NamedTuple):
    """What the test needs of one arm."""

    num_seeds: int
    seed_means_S: Values
    """Macro mean of each seed."""
    unit_means: list[Values]
    """Of each data set."""
    seed_square: float
    """v_a."""
    residual_squares: list[float]
    """e_a, of each joint of data sets."""


def crossed(
    arms: Mapping[str, Blocks],
    weights: Mapping[str, float],
    options: Options | None = None,
    groupings: Sequence[Grouping] | None = None,
) -> Estimate:
    """Return the crossed contrast test of arms (S, Q) with these weights.

    Units must be the same, in the same order, in all arms; seeds may differ in number unless they are matched. Arms
    of weight 0 matter only for the seed variance of the family. `groupings`: one for each data set, and a name in
    several of them is one cluster; None: every unit is a cluster by itself. Raises UserError naming the arm for weights
    that do not sum to 0, unknown or single-seed arms, unlike units, values that are not finite, and groupings of other
    units.
    """
    options = options or Options()
    blocks = _checked(arms, weights, options)
    used = {arm: float(weight) for arm, weight in weights.items() if weight != 0}
    scale = sum(abs(used[arm]) * _largest(blocks[arm]) for arm in used)
    tiny = (_ROUNDING * scale) ** 2
    if options.estimand == "these_checkpoints":
        options = Options(deterministic=frozenset(blocks), alpha=options.alpha)
    trained = [arm for arm in used if arm not in options.deterministic]
    if options.matched and trained:
        blocks, used, trained = {"": _paired(blocks, used, trained)}, {"": 1.0}, [""]
    pooled = [arm for arm in blocks if arm in trained or (options.seed_variance == "family" and arm not in used)]
    pooled = [arm for arm in pooled if arm not in options.deterministic and len(blocks[arm][0]) > 1]
    groups = _groupings(groupings, [block.shape[1] for block in next(iter(blocks.values()))])
    together = joints(groups)
    moments = {arm: _moments(blocks[arm], arm in pooled, tiny, together) for arm in dict.fromkeys([*used, *pooled])}
    estimate = sum(weight * float(moments[arm].seed_means_S.mean()) for arm, weight in used.items())
    query_parts = []
    for joint in together:
        differences = []
        for place, group in zip(joint.places, joint.groups, strict=True):
            differences_Q = sum(weight * moments[arm].unit_means[place] for arm, weight in used.items())
            differences.append(group.centred(np.asarray(differences_Q)))
        query_parts.append(_above(joint.mean_square(differences), tiny) / joint.num_units / len(groups) ** 2)
    v_query = sum(query_parts)
    freedoms = [joint.df for joint in together]
    den = sum(part**2 / df for part, df in zip(query_parts, freedoms, strict=True))

    seed_parts, residual_parts, floor = _seed_parts(moments, used, trained, pooled, together, len(groups), options)
    v_seed, v_resid = sum(part for part, _ in seed_parts), sum(part for part, _ in residual_parts)
    den += sum(part**2 / df for part, df in [*seed_parts, *residual_parts])
    seed_only = max(v_seed - v_resid, 0.0)
    square = v_resid + seed_only + max(v_query - v_resid, 0.0)
    parts = (v_seed, v_query, v_resid)
    if square == 0:
        return _without_error(estimate, scale, parts, bool(trained), options.alpha)
    df = max(square**2 / den, min([floor, *freedoms]))
    return _with_error(estimate, square**0.5, df, parts, seed_only / square if trained else None, options.alpha)


def seeds_only(arms: Mapping[str, Blocks], weights: Mapping[str, float], options: Options | None = None) -> Estimate:
    """Return Welch's t over seed means (matched: paired t): new seeds on exactly these units.

    Shapes and errors as in `crossed`. With two arms it is `scipy.stats.ttest_ind(equal_var=False)` of the seed means.
    """
    options = options or Options()
    blocks = _checked(arms, weights, options)
    used = {arm: float(weight) for arm, weight in weights.items() if weight != 0}
    scale = sum(abs(used[arm]) * _largest(blocks[arm]) for arm in used)
    trained = [arm for arm in used if arm not in options.deterministic]
    if options.matched and trained:
        blocks, used, trained = {"": _paired(blocks, used, trained)}, {"": 1.0}, [""]
    means = {arm: _seed_means(blocks[arm]) for arm in used}
    estimate = sum(weight * float(means[arm].mean()) for arm, weight in used.items())
    parts = []
    for arm in trained:
        square = _above(float(np.var(means[arm], ddof=1)), (_ROUNDING * scale) ** 2)
        parts.append((used[arm] ** 2 * square / len(means[arm]), len(means[arm]) - 1))
    v_seed = sum(part for part, _ in parts)
    if v_seed == 0:
        return _without_error(estimate, scale, (0.0, 0.0, 0.0), bool(trained), options.alpha)
    df = v_seed**2 / sum(part**2 / df for part, df in parts)
    return _with_error(estimate, v_seed**0.5, df, (v_seed, 0.0, 0.0), 1.0, options.alpha)


def unit_differences(arms: Mapping[str, Blocks], weights: Mapping[str, float]) -> list[Values]:
    """Return sum of w_a × mean over seeds for every unit: one (Q,) array for each data set."""
    blocks = {arm: _as_blocks(arms[arm]) for arm, weight in weights.items() if weight != 0}
    num_sets = len(next(iter(blocks.values())))
    return [sum(weights[arm] * blocks[arm][place].mean(axis=0) for arm in blocks) for place in range(num_sets)]


def seed_means(arm: Blocks) -> Values:
    """Return the (macro) mean over units of every seed: (S,)."""
    return _seed_means(_as_blocks(arm))


def tie_width(arms: Mapping[str, Blocks], weights: Mapping[str, float]) -> float:
    """Return the size below which a difference of a unit is rounding: a tie."""
    used = {arm: abs(weight) for arm, weight in weights.items() if weight != 0}
    return float(_ROUNDING) * sum(weight * _largest(_as_blocks(arms[arm])) for arm, weight in used.items())


def probability_new_wins(arms: Mapping[str, Blocks], weights: Mapping[str, float], options: Options) -> float | None:
    """Return P(a new checkpoint of the one arm beats one of the other on these units) = Phi(est / sqrt(v_A + v_B)).

    None unless the contrast is of two arms with weights 1 and -1, and when the seeds have no spread. Source:
    Bouthillier et al. (2021), arXiv:2103.03098.
    """
    used = {arm: weight for arm, weight in weights.items() if weight != 0}
    if sorted(used.values()) != [-1, 1]:
        return None
    means = {arm: seed_means(arms[arm]) for arm in used}
    varied = [arm for arm in used if arm not in options.deterministic and len(means[arm]) > 1]
    square = sum(float(np.var(means[arm], ddof=1)) for arm in varied)
    estimate = sum(weight * float(means[arm].mean()) for arm, weight in used.items())
    return float(ndtr(estimate / square**0.5)) if square > 0 else None


def sign_flip(differences_QC: Values, draws: int = 4999, seed: int = 20240711) -> Values:
    """Return the two-sided p of the sign-flip randomization test of each column of (Q units, C contrasts): (C,).

    Exact over all 2^Q signs when these are at most draws + 1, else (count + 1) / (draws + 1): never 0. The statistic is
    the sum, so a macro mean is tested by giving each unit the weight of its data set. A claim about these checkpoints.
    """
    num_units, num_contrasts = differences_QC.shape
    observed = np.abs(differences_QC.sum(axis=0))
    enough = observed - 1e-12 * np.abs(differences_QC).sum(axis=0)
    exact = num_units <= 60 and 2**num_units <= draws + 1
    total = 2**num_units if exact else draws
    counts = np.zeros(num_contrasts)
    generator = np.random.Generator(np.random.PCG64(seed))
    num_bytes = -(-num_units // 8)
    total_C = differences_QC.sum(axis=0)
    buffer = np.empty((_FLIPS_AT_ONCE, num_units))
    for start in range(0, total, _FLIPS_AT_ONCE):
        size = min(_FLIPS_AT_ONCE, total - start)
        if exact:
            buffer[:size] = (np.arange(start, start + size)[:, None] >> np.arange(num_units)) & 1
        else:
            bits = np.frombuffer(generator.bytes(size * num_bytes), dtype=np.uint8).reshape(size, num_bytes)
            buffer[:size] = np.unpackbits(bits, axis=1, count=num_units)
        sums = total_C - 2 * (buffer[:size] @ differences_QC)
        counts += (np.abs(sums) >= enough).sum(axis=0)
    return counts / total if exact else (counts + 1) / (draws + 1)


def trend_weights(doses: Mapping[str, float]) -> dict[str, float]:
    """Return the weights whose contrast is the least-squares slope of the arm means per unit of dose.

    Raises UserError for fewer than two different doses.
    """
    mean = sum(doses.values()) / max(len(doses), 1)
    spread = sum((dose - mean) ** 2 for dose in doses.values())
    if spread == 0:
        raise UserError(f"a trend needs two different doses; given are {dict(doses)}")
    return {arm: (dose - mean) / spread for arm, dose in doses.items()}


def _as_blocks(arm: Blocks) -> list[Values]:
    return [np.asarray(arm, dtype=np.float64)] if isinstance(arm, np.ndarray) else [np.asarray(b, float) for b in arm]


def _largest(blocks: Sequence[Values]) -> float:
    return max(max(float(block.max()), -float(block.min())) for block in blocks)


def _checked(arms: Mapping[str, Blocks], weights: Mapping[str, float], options: Options) -> dict[str, list[Values]]:
    used = check_weights(weights, arms)
    unknown = sorted(arm for arm in options.deterministic if arm not in arms)
    if unknown:
        raise UserError(f"arm {unknown[0]!r} is declared deterministic but has no scores; arms are {', '.join(arms)}")
    wanted = arms if options.seed_variance == "family" else used
    blocks = {arm: _as_blocks(arms[arm]) for arm in wanted}
    first_arm, first = next(iter((arm, blocks[arm]) for arm in used))
    sizes = [block.shape[-1] for block in first]
    for arm, scores in blocks.items():
        if any(block.ndim != 2 or len(block) == 0 for block in scores):
            raise UserError(f"arm {arm!r} has scores of shapes {_shapes(scores)}; give (seeds, units)")
        if [block.shape[1] for block in scores] != sizes or len({len(block) for block in scores}) != 1:
            raise UserError(
                f"arm {arm!r} has scores of shapes {_shapes(scores)} where {first_arm!r} has {_shapes(first)}; every "
                "arm needs the same units"
            )
        for block in scores:
            finite = np.isfinite(block)
            if not finite.all():
                row, unit = (int(place) for place in np.argwhere(~finite)[0])
                value = block[row, unit]
                raise UserError(f"arm {arm!r}: the value of seed {row}, unit {unit} is {value}; score it again")
        if arm in options.deterministic and any(np.ptp(block, axis=0).max() > 0 for block in scores):
            raise UserError(f"arm {arm!r} is declared deterministic but its seeds differ; leave out the declaration")
    if min(sizes) < 2:
        raise UserError(f"arm {first_arm!r} has {min(sizes)} unit; a test needs at least 2")
    if options.estimand == "method":
        for arm in used:
            if arm not in options.deterministic and len(blocks[arm][0]) < 2:
                raise UserError(
                    f"arm {arm!r} has one seed, so nothing can be said about its method; train 2 or more seeds (5 for "
                    "a confirmatory claim), declare it deterministic, or claim only about these checkpoints"
                )
    return blocks


def _shapes(blocks: Sequence[Values]) -> str:
    return ", ".join(" × ".join(map(str, block.shape)) for block in blocks)


def check_weights(weights: Mapping[str, float], arms: Collection[str]) -> list[str]:
    """Return the arms with a weight; raises UserError for an unknown arm or weights that do not sum to 0."""
    unknown = [arm for arm in weights if arm not in arms]
    if unknown:
        raise UserError(f"arm {unknown[0]!r} of the contrast has no scores; arms are {', '.join(arms)}")
    used = [arm for arm, weight in weights.items() if weight != 0]
    total = sum(weights.values())
    if not used or abs(total) > 1e-9 * sum(abs(weight) for weight in weights.values()):
        shown = ", ".join(f"{arm} {weight:+g}" for arm, weight in weights.items())
        raise UserError(
            f"the weights of a contrast must sum to 0 and not all be 0; {shown or 'none'} sum to {total:g}; subtract a "
            "baseline (to compare with zero, add an arm whose scores are 0 and declare it deterministic)"
        )
    return used


def _paired(blocks: Mapping[str, list[Values]], used: Mapping[str, float], trained: Sequence[str]) -> list[Values]:
    """Return sum of w_a × y_a for each seed and unit, arms without training randomness spread over the seeds."""
    counts = {arm: len(blocks[arm][0]) for arm in trained}
    if len(set(counts.values())) != 1:
        shown = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        raise UserError(f"matched seeds need as many seeds in every arm; there are {shown}; leave out `matched`")
    num_sets = len(next(iter(blocks.values())))
    shape = next(iter(counts.values()))
    total = []
    for place in range(num_sets):
        sums_SQ = np.zeros((shape, blocks[trained[0]][place].shape[1]))
        for arm, weight in used.items():
            block = blocks[arm][place]
            sums_SQ += weight * (block if arm in trained else block.mean(axis=0, keepdims=True))
        total.append(sums_SQ)
    return total


def _seed_means(blocks: Sequence[Values]) -> Values:
    return np.asarray(np.mean([block.mean(axis=1) for block in blocks], axis=0))


def _groupings(groupings: Sequence[Grouping] | None, sizes: Sequence[int]) -> list[Grouping]:
    if groupings is None:
        return [Grouping(np.arange(size), np.zeros(size, dtype=np.int64)) for size in sizes]
    if [len(group.clusters) for group in groupings] != list(sizes):
        named = ", ".join(str(len(group.clusters)) for group in groupings)
        raise UserError(f"the clusters are of {named} units, the scores of {', '.join(map(str, sizes))}")
    return list(groupings)


def _moments(blocks: Sequence[Values], trained: bool, tiny: float, together: Sequence[Joint]) -> _Moments:
    means_S = _seed_means(blocks)
    unit_means = [block.mean(axis=0) for block in blocks]
    if not trained:
        return _Moments(len(means_S), means_S, unit_means, 0.0, [0.0] * len(blocks))
    residual_squares = []
    for joint in together:
        rests = []
        for place, group in zip(joint.places, joint.groups, strict=True):
            rest_SQ = blocks[place] - unit_means[place]
            rest_SQ -= rest_SQ.mean(axis=1, keepdims=True)
            if group.num_strata > 1:
                rest_SQ = np.stack([group.centred(rest_Q) for rest_Q in rest_SQ])
            rests.append(rest_SQ)
        residual_squares.append(_above(joint.mean_square(rests) / (len(means_S) - 1), tiny))
    seed_square = _above(float(np.var(means_S, ddof=1)), tiny)
    return _Moments(len(means_S), means_S, unit_means, seed_square, residual_squares)


def _above(square: float, tiny: float) -> float:
    return square if square > tiny else 0.0


def _seed_parts(
    moments: Mapping[str, _Moments],
    used: Mapping[str, float],
    trained: Sequence[str],
    pooled: Sequence[str],
    together: Sequence[Joint],
    num_sets: int,
    options: Options,
) -> tuple[list[tuple[float, float]], list[tuple[float, float]], float]:
    """Return the seed and the residual parts of the variance, each with its df, and the least df of the seeds."""
    if not trained:
        return [], [], float("inf")
    count = num_sets**2
    if options.seed_variance == "welch":
        seed_parts: list[tuple[float, float]] = [
            (used[a] ** 2 * moments[a].seed_square / moments[a].num_seeds, moments[a].num_seeds - 1) for a in trained
        ]
        residual_parts = [
            (
                used[a] ** 2 * square / (moments[a].num_seeds * joint.num_units) / count,
                (moments[a].num_seeds - 1) * joint.df,
            )
            for a in trained
            for square, joint in zip(moments[a].residual_squares, together, strict=True)
        ]
        return seed_parts, residual_parts, min(moments[a].num_seeds - 1 for a in trained)
    spread = sum(used[arm] ** 2 / moments[arm].num_seeds for arm in trained)
    dfs = {arm: moments[arm].num_seeds - 1 for arm in pooled}
    total = sum(dfs.values())
    seed_square = sum(dfs[arm] * moments[arm].seed_square for arm in pooled) / total
    residual_parts = []
    for place, joint in enumerate(together):
        residual_square = sum(dfs[arm] * moments[arm].residual_squares[place] for arm in pooled) / total
        residual_parts.append((residual_square * spread / joint.num_units / count, total * joint.df))
    return [(seed_square * spread, total)], residual_parts, total


def _without_error(
    estimate: float, scale: float, parts: tuple[float, float, float], trained: bool, alpha: float
) -> Estimate:
    """Return the verdict on scores without any spread: equal, or apart by a constant."""
    equal = abs(estimate) <= _ROUNDING * scale
    value = 0.0 if equal else estimate
    share = 0.0 if trained else None
    return Estimate(value, 0.0, None, 1.0 if equal else 0.0, (value, value), *parts, share, True, alpha)


def _with_error(
    estimate: float, se: float, df: float, parts: tuple[float, float, float], share: float | None, alpha: float
) -> Estimate:
    half = float(stdtrit(df, 1 - alpha / 2)) * se
    p = min(1.0, 2 * float(stdtr(df, -abs(estimate) / se)))
    return Estimate(estimate, se, df, p, (estimate - half, estimate + half), *parts, share, False, alpha)
