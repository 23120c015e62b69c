"""Clusters and fixed strata of the units of a data set: the mean square that they show, and its degrees of freedom.

Where clusters are uneven, the square of each has its own factor for G / (G - 1), n_g / (n_g - sum_h n_gh² / n_h), and
df are those of the sum of such squares if units of a cluster are alike. The H strata (forms of instruction, all of
which are there) are taken out by their means; a cluster may have units in several of them.

Source: Bell and McCaffrey (2002), Survey Methodology 28, 169-181.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ablate.records import UserError
from analysis.stats.matrix import Values

Codes = npt.NDArray[np.int64]
"""Whole numbers from 0 that stand for names."""


@dataclass(frozen=True)
class Grouping:
    """To which cluster, and to which fixed stratum, the units of a data set belong: both (Q,)."""

    clusters: Codes
    strata: Codes

    @classmethod
    def of(cls, clusters: Sequence[object], strata: Sequence[object] | None = None) -> Grouping:
        """Return the grouping of names; without strata there is one.

        A stratum of one cluster, which says nothing of the spread within it, is joined with the smallest other one.
        Raises UserError for fewer than two clusters.
        """
        codes = np.unique(np.asarray([str(name) for name in clusters]), return_inverse=True)[1].reshape(-1)
        layers = np.zeros_like(codes)
        if strata is not None:
            layers = np.unique(np.asarray([str(name) for name in strata]), return_inverse=True)[1].reshape(-1)
        if codes.max() < 1:
            raise UserError("all units are in one cluster; a test over new clusters needs at least 2")
        return cls(codes, _joined(codes, layers))

    def crossed_with(self, other: Grouping) -> Grouping:
        """Return the intersections of these clusters with those of another grouping, in the same strata."""
        codes = np.unique(np.stack([self.clusters, other.clusters]), axis=1, return_inverse=True)[1].reshape(-1)
        return Grouping(codes, self.strata)

    @property
    def num_clusters(self) -> int:
        """G."""
        return int(self.clusters.max()) + 1

    @property
    def num_strata(self) -> int:
        """H."""
        return int(self.strata.max()) + 1

    @property
    def _is_plain(self) -> bool:
        return self.num_strata == 1 and self.num_clusters == len(self.clusters)

    @cached_property
    def _counts_GH(self) -> Values:
        """Units of each cluster in each stratum."""
        places = self.clusters * self.num_strata + self.strata
        counts = np.bincount(places, minlength=self.num_clusters * self.num_strata)
        return counts.reshape(self.num_clusters, self.num_strata).astype(np.float64)

    @cached_property
    def _shares_G(self) -> Values:
        """Share of the variance of a cluster's sum that the means of its strata leave, if all units are alike."""
        counts_GH = self._counts_GH
        return np.asarray(1 - (counts_GH**2 / counts_GH.sum(axis=0)).sum(axis=1) / counts_GH.sum(axis=1))

    @property
    def between_df(self) -> float:
        """Degrees of freedom between clusters, beyond those of the strata: G - H where each lies in one."""
        return float(self._shares_G.sum())

    @cached_property
    def df(self) -> float:
        """Degrees of freedom of the mean square of clusters: G - 1, with strata G - H, less where they are uneven.

        (sum of eigenvalues)² / sum of squared ones, of M D M with M = diag(n_g) - T diag(1 / n_h) T', T the counts
        (G, H) and D the factors: a diagonal matrix and one of rank 2 H, so it costs G H².
        """
        if self._is_plain:
            return self.num_clusters - 1
        counts_GH, factors_G = self._counts_GH, 1 / self._shares_G
        sizes_G, layers_H = counts_GH.sum(axis=1), 1 / counts_GH.sum(axis=0)
        diagonal_G = sizes_G**2 * factors_G
        low_GK = np.hstack([(sizes_G * factors_G)[:, None] * counts_GH, counts_GH])
        inner_HH = (layers_H[:, None] * (counts_GH.T * factors_G) @ counts_GH) * layers_H
        middle_KK = np.block([[np.zeros_like(inner_HH), -np.diag(layers_H)], [-np.diag(layers_H), inner_HH]])
        added_G = np.einsum("gk,kl,gl->g", low_GK, middle_KK, low_GK)
        product_KK = middle_KK @ (low_GK.T @ low_GK)
        total = float(diagonal_G.sum() + added_G.sum())
        squares = float(diagonal_G @ diagonal_G + 2 * diagonal_G @ added_G + np.sum(product_KK * product_KK.T))
        return total**2 / squares

    def sums(self, values: Values) -> Values:
        """Return the sums of (..., Q) values over each cluster: (..., G), in the order of their codes.

        Where every unit is a cluster by itself, and there are no strata, they are the values as they stand.
        """
        if self._is_plain:
            return values
        order = np.argsort(self.clusters, kind="stable")
        starts = np.searchsorted(self.clusters[order], np.arange(self.num_clusters))
        return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1))

    def centred(self, values_Q: Values) -> Values:
        """Return values less the mean of their stratum: (Q,)."""
        means = np.bincount(self.strata, values_Q) / np.bincount(self.strata)
        return values_Q - means[self.strata]

    def mean_square(self, sums: Values, num_units: int) -> float:
        """Return the mean square per unit that sums over clusters show: with a unit in each, their variance."""
        if self._is_plain:
            return float(np.vdot(sums, sums)) * self.num_clusters / self.df / num_units
        return float(np.sum(sums**2 / self._shares_G)) / num_units


def _joined(clusters: Codes, strata: Codes) -> Codes:
    """Return strata each of which has units of two clusters."""
    while strata.max() > 0:
        counts = [len(np.unique(clusters[strata == stratum])) for stratum in range(int(strata.max()) + 1)]
        alone = counts.index(min(counts))
        if counts[alone] > 1:
            break
        others = [stratum for stratum in range(len(counts)) if stratum != alone]
        strata = np.where(strata == alone, min(others, key=counts.__getitem__), strata)
        strata = np.unique(strata, return_inverse=True)[1].reshape(-1)
    return strata
