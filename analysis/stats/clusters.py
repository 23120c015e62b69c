"""What clusters do to a contrast: the clustered test beside the plain one, ICC and design effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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
    correlations = [intra_class(values, group) for values, group in zip(differences, groupings, strict=True)]
    known = [value for value in correlations if value is not None]
    return Clustered(
        crossed(arms, weights, options, groupings),
        crossed(arms, weights, options),
        sum(group.num_clusters for group in groupings),
        float(np.mean(known)) if known else None,
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
