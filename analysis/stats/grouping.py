"""Clusters and fixed strata of the units of a data set: the mean square that they show, and its degrees of freedom.

Where clusters are uneven, the square of each has its own factor for G / (G - 1), n_g / (n_g - sum_h n_gh² / n_h), and
df are those of the sum of such squares if units of a cluster are alike. The H strata (forms of instruction, all of
which are there) are taken out by their means; a cluster may have units in several of them.

Data sets may share clusters: a name is one cluster wherever it stands. With R_d[g] the sum of what the means of strata
leave of the units of a cluster in data set d, Q_d its units and f_d[g] the factor there, the square of a cluster in the
sum of the D means is that of sum_d f_d[g]^1/2 R_d[g] / Q_d, which for clusters of one data set is the above.

Source: Bell and McCaffrey (2002), Survey Methodology 28, 169-181.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    names: tuple[str, ...] = ()
    """Of the clusters, in the order of their codes, by which another data set may share them; empty: it shares none."""

    @classmethod
    def of(cls, clusters: Sequence[object], strata: Sequence[object] | None = None) -> Grouping:
        """Return the grouping of names; without strata there is one.

        A stratum of one cluster, which says nothing of the spread within it, is joined with the smallest other one.
        Raises UserError for fewer than two clusters.
        """
        names, codes = np.unique(np.asarray([str(name) for name in clusters]), return_inverse=True)
        codes = codes.reshape(-1)
        layers = np.zeros_like(codes)
        if strata is not None:
            layers = np.unique(np.asarray([str(name) for name in strata]), return_inverse=True)[1].reshape(-1)
        if codes.max() < 1:
            raise UserError("all units are in one cluster; a test over new clusters needs at least 2")
        return cls(codes, _joined(codes, layers), tuple(names.tolist()))

    def crossed_with(self, other: Grouping) -> Grouping:
        """Return the intersections of these clusters with those of another grouping, in the same strata."""
        pairs, codes = np.unique(np.stack([self.clusters, other.clusters]), axis=1, return_inverse=True)
        named = self.names and other.names
        names = (f"{self.names[first]}\0{other.names[second]}" for first, second in pairs.T) if named else ()
        return Grouping(codes.reshape(-1), self.strata, tuple(names))

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
    def counts_GH(self) -> Values:
        """Units of each cluster in each stratum."""
        places = self.clusters * self.num_strata + self.strata
        counts = np.bincount(places, minlength=self.num_clusters * self.num_strata)
        return counts.reshape(self.num_clusters, self.num_strata).astype(np.float64)

    @cached_property
    def _shares_G(self) -> Values:
        """Share of the variance of a cluster's sum that the means of its strata leave, if all units are alike."""
        counts_GH = self.counts_GH
        return np.asarray(1 - (counts_GH**2 / counts_GH.sum(axis=0)).sum(axis=1) / counts_GH.sum(axis=1))

    @cached_property
    def scales_G(self) -> Values:
        """What a cluster's sum is multiplied with, so that its square is its share of that of the mean: f^1/2 / Q."""
        return np.asarray(1 / np.sqrt(self._shares_G) / len(self.clusters))

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
        counts_GH, factors_G = self.counts_GH, 1 / self._shares_G
        sizes_G, layers_H = counts_GH.sum(axis=1), 1 / counts_GH.sum(axis=0)
        diagonal_G = sizes_G**2 * factors_G
        low_GK = np.hstack([(sizes_G * factors_G)[:, None] * counts_GH, counts_GH])
        inner_HH = (layers_H[:, None] * (counts_GH.T * factors_G) @ counts_GH) * layers_H
        middle_KK = np.block([[np.zeros_like(inner_HH), -np.diag(layers_H)], [-np.diag(layers_H), inner_HH]])
        return _freedom(diagonal_G, low_GK, middle_KK)

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


def _freedom(diagonal_G: Values, low_GK: Values, middle_KK: Values) -> float:
    """Return (sum of eigenvalues)² / sum of squared ones of diag(diagonal) + low middle low'."""
    added_G = np.einsum("gk,kl,gl->g", low_GK, middle_KK, low_GK)
    product_KK = middle_KK @ (low_GK.T @ low_GK)
    total = float(diagonal_G.sum() + added_G.sum())
    squares = float(diagonal_G @ diagonal_G + 2 * diagonal_G @ added_G + np.sum(product_KK * product_KK.T))
    return total**2 / squares


@dataclass(frozen=True)
class Joint:
    """Data sets that share clusters with each other and with no other one, or one data set that shares none."""

    places: tuple[int, ...]
    """Of the data sets, among all that a mean is over."""
    groups: tuple[Grouping, ...]

    @property
    def num_units(self) -> int:
        """Units of all its data sets."""
        return sum(len(group.clusters) for group in self.groups)

    @property
    def num_clusters(self) -> int:
        """Clusters of all its data sets, each counted once."""
        return self.groups[0].num_clusters if len(self.groups) == 1 else len(self._codes)

    @cached_property
    def _codes(self) -> dict[str, int]:
        names = dict.fromkeys(name for group in self.groups for name in group.names)
        return {name: code for code, name in enumerate(names)}

    def _places_of(self, group: Grouping) -> Codes:
        """Return where the clusters of a data set stand among those of all."""
        return np.array([self._codes[name] for name in group.names], dtype=np.int64)

    @cached_property
    def df(self) -> float:
        """Degrees of freedom of the mean square: those of `Grouping.df`, with one effect of a cluster in all data sets.

        That of B'B with B = diag(sum_d c_d n_d) - sum_d diag(c_d) T_d diag(1 / n_h) T_d', c_d = f_d^1/2 / Q_d.
        """
        if len(self.groups) == 1:
            return self.groups[0].df
        own_G = np.zeros(self.num_clusters)
        left: list[Values] = []
        right: list[Values] = []
        for group in self.groups:
            places, counts_GH, scales_G = self._places_of(group), group.counts_GH, group.scales_G
            own_G[places] += scales_G * counts_GH.sum(axis=1)
            for part, values_GH in ((left, scales_G[:, None] * counts_GH), (right, counts_GH / counts_GH.sum(axis=0))):
                wide_GH = np.zeros((self.num_clusters, group.num_strata))
                wide_GH[places] = values_GH
                part.append(wide_GH)
        left_GK, right_GK = np.hstack(left), np.hstack(right)
        none_KK, one_KK = np.zeros((left_GK.shape[1],) * 2), np.eye(left_GK.shape[1])
        middle = np.block([[none_KK, -one_KK], [-one_KK, left_GK.T @ left_GK]])
        return _freedom(own_G**2, np.hstack([own_G[:, None] * left_GK, right_GK]), middle)

    def sums(self, values: Sequence[Values]) -> Values:
        """Return the sums over each cluster of values (..., Q) of its data sets: (..., G)."""
        return self._together([group.sums(some) for group, some in zip(self.groups, values, strict=True)])

    def _together(self, sums: Sequence[Values]) -> Values:
        if len(sums) == 1:
            return sums[0]
        total = np.zeros((*sums[0].shape[:-1], self.num_clusters))
        for group, some in zip(self.groups, sums, strict=True):
            total[..., self._places_of(group)] += some
        return total

    def mean_square(self, values: Sequence[Values]) -> float:
        """Return the mean square per unit that values (..., Q), less the means of their strata, show over clusters.

        Divided by the number of units it is the square of the sum of the data sets' means.
        """
        sums = [group.sums(some) for group, some in zip(self.groups, values, strict=True)]
        if len(sums) == 1:
            return self.groups[0].mean_square(sums[0], self.num_units)
        scaled = [group.scales_G * some for group, some in zip(self.groups, sums, strict=True)]
        return float(np.sum(self._together(scaled) ** 2)) * self.num_units


def joints(groups: Sequence[Grouping]) -> list[Joint]:
    """Return the data sets by which of them share clusters, in the order of the first of each."""
    members: list[list[int]] = []
    for place, group in enumerate(groups):
        shared = [some for some in members if any({*group.names} & {*groups[other].names} for other in some)]
        members = [some for some in members if some not in shared]
        members.append(sorted([*(other for some in shared for other in some), place]))
    return [Joint(tuple(places), tuple(groups[place] for place in places)) for places in sorted(members)]


def num_together(groups: Iterable[Grouping]) -> int:
    """Return the number of clusters of several data sets, each counted once."""
    return sum(joint.num_clusters for joint in joints(list(groups)))
