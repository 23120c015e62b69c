"""What clusters do to a contrast: the clustered test beside the plain one, ICC, design effect, and leaving one out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from ablate.records import UserError
from analysis.stats.crossed import Blocks, Estimate, Grouping, Options, Values, crossed, unit_differences

EXPLORATORY_BELOW = 10
"""Clusters with fewer than which a test over them is exploratory: its degrees of freedom are too few to confirm."""


@dataclass(frozen=True)
class Clustered:
    """A contrast over new clusters, with what the clusters change."""

    estimate: Estimate
    plain: Estimate
    """The same contrast with every unit by itself."""
    num_clusters: int
    """Of all data sets together."""
    icc: float | None
    """Intra-class correlation of the units' differences, below 0 where units of a cluster differ more than others; None
    where no cluster has two units."""

    @property
    def design_effect(self) -> float | None:
        """Return (clustered SE / plain SE)², None where there is no error."""
        return None if self.plain.se == 0 else (self.estimate.se / self.plain.se) ** 2

    @property
    def is_exploratory(self) -> bool:
        """Return whether there are too few clusters for a confirmatory claim."""
        return self.num_clusters < EXPLORATORY_BELOW


def clustered(
    arms: Mapping[str, Blocks],
    weights: Mapping[str, float],
    groupings: Sequence[Grouping],
    options: Options | None = None,
) -> Clustered:
    """Return the contrast over new clusters; one grouping for each data set. Raises UserError as `crossed` does."""
    differences = unit_differences(arms, weights)
    found = [intra_class(values, group) for values, group in zip(differences, groupings, strict=True)]
    known = [value for value in found if value is not None]
    return Clustered(
        crossed(arms, weights, options, groupings),
        crossed(arms, weights, options),
        sum(group.num_clusters for group in groupings),
        float(np.mean(known)) if known else None,
    )


def clustered_twice(
    arms: Mapping[str, Blocks],
    weights: Mapping[str, float],
    first: Sequence[Grouping],
    second: Sequence[Grouping],
    options: Options | None = None,
) -> Estimate:
    """Return the contrast over new clusters of two kinds that cross each other, such as constraints and wordings.

    SE² is that over the one, plus that over the other, less that over their intersections, and at least the larger of
    the two; df are those of the larger. Source: Cameron, Gelbach and Miller (2011), Journal of Business and Economic
    Statistics 29, 238-249.
    """
    both = [
        Grouping.of(list(zip(one.clusters, two.clusters, strict=True))) for one, two in zip(first, second, strict=True)
    ]
    over_first, over_second, over_both = (crossed(arms, weights, options, g) for g in (first, second, both))
    larger = max(over_first, over_second, key=lambda found: found.se)
    if larger.df is None:
        return larger
    se = max(over_first.se**2 + over_second.se**2 - over_both.se**2, larger.se**2) ** 0.5
    half = float(stdtrit(larger.df, 1 - larger.alpha / 2)) * se
    return dataclasses.replace(
        larger,
        se=se,
        p=min(1.0, 2 * float(stdtr(larger.df, -abs(larger.estimate) / se))),
        ci=(larger.estimate - half, larger.estimate + half),
    )


def intra_class(values_Q: Values, group: Grouping) -> float | None:
    """Return the intra-class correlation of values in clusters, None where no cluster has two units.

    (MSB - MSW) / (MSB + (m - 1) MSW) with m = (Q - sum of squared sizes / Q) / (G - 1). Source: Donner and Koval
    (1980), Biometrics 36, 19-25.
    """
    sizes = np.bincount(group.clusters).astype(float)
    num_units, num_clusters = len(values_Q), len(sizes)
    if num_units == num_clusters or num_clusters < 2:
        return None
    means = np.bincount(group.clusters, values_Q) / sizes
    between = float(sizes @ (means - values_Q.mean()) ** 2) / (num_clusters - 1)
    within = float(np.sum((values_Q - means[group.clusters]) ** 2)) / (num_units - num_clusters)
    size = (num_units - float(sizes @ sizes) / num_units) / (num_clusters - 1)
    spread = between + (size - 1) * within
    return (between - within) / spread if spread > 0 else 0.0


def without_each(
    arms: Mapping[str, Blocks],
    weights: Mapping[str, float],
    names: Sequence[Sequence[str]],
) -> dict[str, float]:
    """Return cluster -> the contrast without its units, the one that moves it furthest first.

    `names`: the cluster of every unit, a list for each data set; every data set counts alike, as in `crossed`. Raises
    UserError for a cluster that is a whole data set.
    """
    differences = unit_differences(arms, weights)
    whole = float(np.mean([values.mean() for values in differences]))
    found = {}
    for cluster in dict.fromkeys(name for some in names for name in some):
        kept = [v[np.asarray([n != cluster for n in some])] for v, some in zip(differences, names, strict=True)]
        if any(len(values) == 0 for values in kept):
            raise UserError(f"the cluster {cluster!r} is a whole data set; without it nothing is left to compare")
        found[cluster] = float(np.mean([values.mean() for values in kept]))
    return dict(sorted(found.items(), key=lambda item: -abs(item[1] - whole)))
