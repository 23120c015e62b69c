"""Of what an effect is made: contrasts by form and by kind of constraint, and without each cluster of units.

A breakdown looks for what to ask next. Its intervals are those of the crossed test over the units of a slice, without
a correction, so they are of other units with the clusters that are here; q is Benjamini and Hochberg's over all slices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.evaluation.measures import within
from ablate.records import UserError
from ablate.tables import Column, Table, number, probability, to_csv
from analysis.stats.asked import Asked
from analysis.stats.clusters import EXPLORATORY_BELOW, Kind, clustered, without_each
from analysis.stats.contrast_rows import bounds
from analysis.stats.contrast_tables import interval, percent, two_digits
from analysis.stats.corrections import benjamini_hochberg
from analysis.stats.crossed import Blocks, Options, crossed, unit_differences
from analysis.stats.matrix import DESCRIPTIVE, Cell, CellScores

MOST_SLICES = 12
"""Clusters of a kind up to which it is broken down by where no descriptive kind is there."""
ALL, ONLY, WITHOUT = "all", "only", "without"


@dataclass(frozen=True)
class Part:
    """A contrast over some units of one data set."""

    contrast: str
    cell: Cell
    units: str
    """`all`, `only` those of a cluster, or those `without` it."""
    kind: str
    """Of the cluster; empty for all units."""
    cluster: str
    num_units: int
    estimate: float
    ci: tuple[float, float] | None
    """None where nothing can be tested: one unit, or one seed of a trained arm."""
    p: float | None = None
    q_bh: float | None = None
    """Of `only`: over all slices of the breakdown."""


@dataclass(frozen=True)
class Breakdown:
    """The parts of every contrast, and how alike the units of a cluster are."""

    parts: tuple[Part, ...]
    kinds: tuple[tuple[str, Cell, str, Kind], ...]
    """(contrast, where, kind, what its clusters are like)."""
    left_out: tuple[tuple[str, Cell, str, str], ...]
    """(contrast, where, kind, why its clusters say nothing of new ones)."""
    alpha: float


def break_down(asked: Sequence[Asked], options: Options, by: Sequence[str] = ()) -> Breakdown:
    """Return the parts of contrasts, each data set of a macro mean by itself.

    `by`: kinds of clusters whose slices are wanted; without them form and kind, where they are there, else every kind
    of at most MOST_SLICES clusters. Raises UserError for a kind that no unit has, and where none has any.
    """
    parts: list[Part] = []
    kinds: list[tuple[str, Cell, str, Kind]] = []
    left_out: list[tuple[str, Cell, str, str]] = []
    known = list(dict.fromkeys(kind for item in asked for part in item.target.parts for kind in part.clusters))
    if not known:
        raise UserError(
            "units are in no clusters, so there is nothing to break down by: evaluations of before did not keep them, "
            "and a folder names them in the metadata of its queries"
        )
    for kind in by:
        if kind not in known:
            raise UserError(f"--by {kind!r}: units are in no clusters of this kind; kinds are {', '.join(known)}")
    for item in _of_one_set(asked):
        scores = item.target.parts[0]
        parts.append(_part(item, scores, ALL, "", "", options))
        for kind in scores.clusters:
            if kind in (by or _descriptive(scores)):
                parts += _slices(item, kind, options)
            if kind in DESCRIPTIVE and kind not in by:
                continue
            parts += _without(item, kind, options)
            try:
                kinds.append((item.label, item.target.cell, kind, _kind(item, kind, options)))
            except UserError as error:
                left_out.append((item.label, item.target.cell, kind, str(error)))
    return Breakdown(_corrected(parts), tuple(kinds), tuple(left_out), options.alpha)


def _of_one_set(asked: Sequence[Asked]) -> list[Asked]:
    """Return the contrasts on each data set by itself, none of them twice."""
    single: dict[tuple[str, Cell], Asked] = {}
    for item in asked:
        for part, dataset in zip(item.target.parts, item.target.datasets, strict=True):
            cell = item.target.cell._replace(dataset=dataset)
            target = item.target._replace(cell=cell, parts=(part,), datasets=(dataset,))
            single.setdefault((item.label, cell), item._replace(target=target))
    return list(single.values())


def _descriptive(scores: CellScores) -> list[str]:
    named = [kind for kind in DESCRIPTIVE if kind in scores.clusters]
    return named or [kind for kind, names in scores.clusters.items() if len(set(names)) <= MOST_SLICES]


def _arms(item: Asked, scores: CellScores) -> tuple[dict[str, Blocks], dict[str, float]]:
    weights = {arm: weight for arm, weight in item.weights.items() if weight != 0}
    return {arm: scores.values_SQ[arm] for arm in weights}, weights


def _part(item: Asked, scores: CellScores, units: str, kind: str, cluster: str, options: Options) -> Part:
    arms, weights = _arms(item, scores)
    estimate = float(np.mean(unit_differences(arms, weights)[0]))
    made = Part(item.label, item.target.cell, units, kind, cluster, len(scores.units), estimate, None)
    options = dataclasses.replace(options, deterministic=options.deterministic & set(arms))
    one_seed = any(len(arms[arm]) < 2 for arm in arms if arm not in options.deterministic)
    if len(scores.units) < 2 or (one_seed and options.estimand == "method"):
        return made
    result = crossed(arms, weights, options)
    limits = bounds(item.target.cell.measure, {arm: [scores.values_SQ[arm]] for arm in arms}, weights)
    return dataclasses.replace(made, ci=within(result.ci, *limits), p=result.p)


def _slices(item: Asked, kind: str, options: Options) -> list[Part]:
    """Return the contrast over the units of each cluster, the clusters in alphabetical order."""
    scores = item.target.parts[0]
    names = scores.clusters[kind]
    return [
        _part(item, scores.kept([p for p, name in enumerate(names) if name == cluster]), ONLY, kind, cluster, options)
        for cluster in sorted(set(names))
    ]


def _without(item: Asked, kind: str, options: Options) -> list[Part]:
    """Return the contrast without the units of each cluster, the one that carries most of the effect first."""
    scores = item.target.parts[0]
    names = scores.clusters[kind]
    if len(set(names)) == len(names):
        return []
    parts = []
    for cluster in without_each(*_arms(item, scores), [names]):
        kept = scores.kept([place for place, name in enumerate(names) if name != cluster])
        parts.append(_part(item, kept, WITHOUT, kind, cluster, options))
    return [part for part in parts if part.cluster]


def _kind(item: Asked, kind: str, options: Options) -> Kind:
    """Return what clusters of a kind do to a contrast; raises UserError where no test over them can be made."""
    arms, weights = _arms(item, item.target.parts[0])
    options = dataclasses.replace(options, deterministic=options.deterministic & set(arms))
    return clustered(arms, weights, item.target.groupings([kind]), options).kinds[kind]


def _corrected(parts: Sequence[Part]) -> tuple[Part, ...]:
    tested = [place for place, part in enumerate(parts) if part.units == ONLY and part.p is not None]
    q_values = dict(zip(tested, benjamini_hochberg([parts[place].p or 0.0 for place in tested]), strict=True))
    return tuple(dataclasses.replace(part, q_bh=q_values.get(place)) for place, part in enumerate(parts))


def breakdown_tables(found: Breakdown, source: str) -> list[Table]:
    """Return what clusters are like, each kind's slices, and the cluster that carries most of each effect."""
    sliced = dict.fromkeys(part.kind for part in found.parts if part.units == ONLY)
    return [
        *([_kinds_table(found)] if found.kinds or found.left_out else []),
        *(_slices_table(found, kind, source) for kind in sliced),
        _carriers_table(found, source),
    ]


def _kinds_table(found: Breakdown) -> Table:
    heads = ("clusters", "ICC", "SE over units", "SE over new clusters", "design effect")
    columns = (Column("contrast"), Column("where"), Column("kind"), *(Column(head, "r") for head in heads))
    lines = [
        (
            contrast,
            str(cell),
            name,
            f"{kind.num_clusters:,}" + (" (exploratory)" if kind.num_clusters < EXPLORATORY_BELOW else ""),
            two_digits(kind.icc),
            number(kind.plain_se),
            number(kind.se),
            two_digits(kind.design_effect),
        )
        for contrast, cell, name, kind in found.kinds
    ]
    notes = (
        "SE over new clusters: of a claim with that population; forms are fixed strata. Design effect: (that / SE over "
        f"units)². Below {EXPLORATORY_BELOW} clusters nothing is confirmed.",
        *(f"{contrast}, {cell}: {kind}: {why}." for contrast, cell, kind, why in found.left_out),
    )
    return Table("How alike the units of a cluster are", columns, tuple(lines), notes)


def _slices_table(found: Breakdown, kind: str, source: str) -> Table:
    heads = ("units", "difference", f"{percent(1 - found.alpha)} interval", "p", "q (BH)")
    columns = (Column("contrast"), Column("where"), Column(kind), *(Column(head, "r") for head in heads))
    lines = []
    for part in found.parts:
        if part.units == ALL or (part.units == ONLY and part.kind == kind):
            name = "(all)" if part.units == ALL else part.cluster or "(none)"
            cells = (part.contrast, str(part.cell), name, f"{part.num_units:,}", number(part.estimate), _ends(part))
            lines.append((*cells, probability(part.p), probability(part.q_bh)))
    note = (
        "Exploratory slices, no claim: intervals are without a correction and over other units with these clusters; a "
        "difference between two slices is not tested. q: over all slices of the breakdown."
    )
    return Table(f"Contrasts of {source} by {kind}", columns, tuple(lines), (note,))


def carriers(found: Breakdown) -> list[tuple[Part, Part]]:
    """Return, for each contrast and kind, all units and those without the cluster that carries most of the effect."""
    whole = {(part.contrast, part.cell): part for part in found.parts if part.units == ALL}
    first: dict[tuple[str, Cell, str], Part] = {}
    for part in found.parts:
        if part.units == WITHOUT:
            first.setdefault((part.contrast, part.cell, part.kind), part)
    return [(whole[contrast, cell], part) for (contrast, cell, _), part in first.items()]


def _carriers_table(found: Breakdown, source: str) -> Table:
    heads = ("its units", "difference", "interval", "without it", "interval without it")
    columns = (Column("contrast"), Column("where"), Column("kind"), Column("cluster"), *(Column(h, "r") for h in heads))
    lines = tuple(
        (
            whole.contrast,
            str(whole.cell),
            part.kind,
            part.cluster,
            f"{whole.num_units - part.num_units:,} of {whole.num_units:,}",
            number(whole.estimate),
            _ends(whole),
            number(part.estimate),
            _ends(part),
        )
        for whole, part in carriers(found)
    )
    note = "The cluster whose units carry most of the effect: without them least of it is left. All others: CSV, JSON."
    return Table(f"Contrasts of {source} without one cluster", columns, lines, (note,))


def _ends(part: Part) -> str:
    return "–" if part.ci is None else interval(part.ci)


_FLAT = (
    *("contrast", "dataset", "condition", "direction", "measure", "units", "kind", "cluster", "n_units", "estimate"),
    *("ci_low", "ci_high", "p", "q_bh"),
)


def _record(part: Part) -> dict[str, Any]:
    low, high = part.ci or (None, None)
    return {
        "contrast": part.contrast,
        **part.cell._asdict(),
        "units": part.units,
        "kind": part.kind,
        "cluster": part.cluster,
        "n_units": part.num_units,
        "estimate": part.estimate,
        "ci_low": low,
        "ci_high": high,
        "p": part.p,
        "q_bh": part.q_bh,
    }


def breakdown_record(found: Breakdown) -> dict[str, Any]:
    """Return everything as plain values for JSON."""
    return {
        "level": 1 - found.alpha,
        "parts": [_record(part) for part in found.parts],
        "carriers": [_record(part) for _, part in carriers(found)],
        "kinds": [
            {
                "contrast": contrast,
                **cell._asdict(),
                "kind": name,
                "clusters": kind.num_clusters,
                "icc": kind.icc,
                "se_over_units": kind.plain_se,
                "se_over_clusters": kind.se,
                "design_effect": kind.design_effect,
            }
            for contrast, cell, name, kind in found.kinds
        ],
        "not_tested": [
            {"contrast": contrast, **cell._asdict(), "kind": kind, "why": why}
            for contrast, cell, kind, why in found.left_out
        ],
    }


def breakdown_csv(found: Breakdown) -> str:
    """Return the parts as CSV with all digits."""
    return to_csv(_FLAT, [_record(part) for part in found.parts])
