"""What clusters do to a contrast: the clustered test beside the plain one, ICC, design effect, and leaving one out.

A population is the kinds of clusters that a claim is over new ones of: none (new units like these), one, or two that
cross each other, such as constraints and wordings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from analysis.stats.crossed import Blocks, Estimate, Options, crossed, unit_differences
from analysis.stats.grouping import Grouping, num_together
from analysis.stats.matrix import Values

EXPLORATORY_BELOW = 10
"""Clusters with fewer than which a test over them is exploratory: its degrees of freedom are too few to confirm."""
MOST_KINDS = 2
"""Kinds of clusters that one test can be over."""

Groupings = Mapping[str, Sequence[Grouping]]
"""Kind of cluster -> a grouping for each data set, a cluster of several by its name; empty: every unit by itself."""


@dataclass(frozen=True)
class Kind:
    """What the clusters of one kind are like."""

    num_clusters: int
    """Of all data sets together; one that several data sets have counts once."""
    icc: float | None
    """Intra-class correlation of the units' differences less the means of their strata, below 0 where units of a
    cluster differ more than others; None where no cluster has two units."""
    se: float
    """Of the contrast over new clusters of this kind alone."""
    plain_se: float
    """Of the same contrast with every unit by itself."""

    @property
    def design_effect(self) -> float | None:
        """Return (clustered SE / plain SE)², None where there is no error."""
        return None if self.plain_se == 0 else (self.se / self.plain_se) ** 2


@dataclass(frozen=True)
class Clustered:
    """A contrast over new clusters, with what the clusters change."""

    estimate: Estimate
    plain: Estimate
    """The same contrast with every unit by itself."""
    kinds: Mapping[str, Kind]

    @property
    def num_clusters(self) -> int:
        """Return the number of clusters, of the kind with the fewest: the size of the sample of them."""
        return min(kind.num_clusters for kind in self.kinds.values())

    @property
    def design_effect(self) -> float | None:
        """Return (clustered SE / plain SE)², None where there is no error."""
        return None if self.plain.se == 0 else (self.estimate.se / self.plain.se) ** 2

    @property
    def is_exploratory(self) -> bool:
        """Return whether there are too few clusters of a kind for a confirmatory claim."""
        return self.num_clusters < EXPLORATORY_BELOW


def over_new(
    arms: Mapping[str, Blocks], weights: Mapping[str, float], options: Options | None, groupings: Groupings
) -> Estimate:
    """Return the crossed test over new clusters of the kinds of a population; see `crossed` for shapes and errors.

    Two kinds: SE² is that over the one, plus that over the other, less that over their intersections, and at least the
    larger of the two; df are those of the larger. Source: Cameron, Gelbach and Miller (2011), Journal of Business and
    Economic Statistics 29, 238-249.
    """
    kinds = list(groupings.values())
    if len(kinds) < MOST_KINDS:
        return crossed(arms, weights, options, kinds[0] if kinds else None)
    first, second = kinds
    both = [one.crossed_with(other) for one, other in zip(first, second, strict=True)]
    over_first, over_second, over_both = (crossed(arms, weights, options, g) for g in (first, second, both))
    larger = max(over_first, over_second, key=lambda estimate: estimate.se)
    if larger.df is None:
        return larger
    square = max(over_first.se**2 + over_second.se**2 - over_both.se**2, larger.se**2)
    half = float(stdtrit(larger.df, 1 - larger.alpha / 2)) * square**0.5
    share = larger.share_seed
    return dataclasses.replace(
        larger,
        se=square**0.5,
        p=min(1.0, 2 * float(stdtr(larger.df, -abs(larger.estimate) / square**0.5))),
        ci=(larger.estimate - half, larger.estimate + half),
        v_query=larger.v_query + square - larger.se**2,
        share_seed=None if share is None else share * larger.se**2 / square,
    )


def clustered(
    arms: Mapping[str, Blocks],
    weights: Mapping[str, float],
    groupings: Groupings,
    options: Options | None = None,
) -> Clustered:
    """Return the contrast over new clusters, beside that over new units. Raises UserError as `crossed` does."""
    differences = unit_differences(arms, weights)
    plain = crossed(arms, weights, options)
    kinds = {}
    for kind, groups in groupings.items():
        correlations = [intra_class(values, group) for values, group in zip(differences, groups, strict=True)]
        known = [value for value in correlations if value is not None]
        kinds[kind] = Kind(
            num_together(groups),
            float(np.mean(known)) if known else None,
            crossed(arms, weights, options, groups).se,
            plain.se,
        )
    return Clustered(over_new(arms, weights, options, groupings), plain, kinds)


def intra_class(values_Q: Values, group: Grouping) -> float | None:
    """Return the intra-class correlation of values in clusters, None where no cluster has two units.

    (MSB - MSW) / (MSB + (m - 1) MSW) with m = (Q - sum of squared sizes / Q) / (G - 1), of values less the mean of
    their stratum. Source: Donner and Koval (1980), Biometrics 36, 19-25.
    """
    sizes = np.bincount(group.clusters).astype(float)
    num_units, num_clusters = len(values_Q), len(sizes)
    if num_units == num_clusters or num_clusters < 2:
        return None
    rest_Q = group.centred(values_Q)
    means = np.bincount(group.clusters, rest_Q) / sizes
    between = float(sizes @ means**2) / group.between_df
    within = float(np.sum((rest_Q - means[group.clusters]) ** 2)) / (num_units - num_clusters)
    size = (num_units - float(sizes @ sizes) / num_units) / (num_clusters - 1)
    spread = between + (size - 1) * within
    return (between - within) / spread if spread > 0 else 0.0


def without_each(
    arms: Mapping[str, Blocks], weights: Mapping[str, float], names: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Return cluster -> the contrast without its units, the one that carries most of the effect first.

    `names`: the cluster of every unit, a list for each data set; every data set counts alike, as in `crossed`. What
    carries most is what leaves least of the effect, in its own direction. A cluster that is a whole data set is left
    out, for without it nothing is there to compare.
    """
    differences = unit_differences(arms, weights)
    sign = float(np.sign(np.mean([values.mean() for values in differences]))) or 1.0
    left = {}
    for cluster in dict.fromkeys(name for some in names for name in some):
        kept = [v[np.asarray([n != cluster for n in some])] for v, some in zip(differences, names, strict=True)]
        if all(len(values) for values in kept):
            left[cluster] = float(np.mean([values.mean() for values in kept]))
    return dict(sorted(left.items(), key=lambda item: sign * item[1]))
