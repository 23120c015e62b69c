"""Contrast rows: every contrast that is asked for is tested, with its second opinions and the guards beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ablate.evaluation.measures import P_MRR, range_of, within
from ablate.records import UserError
from analysis.stats.asked import Asked, over
from analysis.stats.clusters import Clustered, clustered, over_new
from analysis.stats.collapse import collapses, has_gain
from analysis.stats.contrast import ContrastRow, Guard, tost_level
from analysis.stats.crossed import (
    Blocks,
    Estimate,
    Options,
    probability_new_wins,
    seed_means,
    seeds_only,
    sign_flip,
    tie_width,
    unit_differences,
)
from analysis.stats.families import Plan, corrected, options_of
from analysis.stats.grouping import joints, num_together
from analysis.stats.matrix import Cell, ScoreTable, Values, is_signed, unit_kind
from analysis.stats.populations import population
from analysis.stats.power import Parts, outlook, smallest_detectable
from analysis.stats.trend import is_trend, lack_of_fit

CONFIRMATORY_SEEDS = 5


def contrast_rows(table: ScoreTable, asked: Sequence[Asked], plan: Plan) -> tuple[ContrastRow, ...]:
    """Return one row for each contrast that is asked for; `table` also holds the nDCG that guards p-MRR.

    Raises UserError for an arm without scores in a place, single-seed arms, unlike seeds where they are matched.
    """
    for arm in sorted(plan.options.deterministic):
        if arm not in table.seeds:
            raise UserError(f"the deterministic arm {arm!r} has no scores; arms are {', '.join(table.arms)}")
    drafts = [_draft(table, contrast, plan) for contrast in asked]
    rows = _with_sign_flips(drafts, asked, plan)
    rows = corrected(rows, asked, plan)
    return tuple(dataclasses.replace(row, population=population(row, plan)) for row in rows)


def bounds(measure: str, blocks: Mapping[str, Blocks], weights: Mapping[str, float]) -> tuple[float, float]:
    """Return the lowest and the highest value that a contrast of arms can have: [-1, 1] for two means in [0, 1].

    Infinite for a measure that is not ours, and where scores lie outside of its range, such as percentages.
    """
    low, high = range_of(measure)
    used = [block for arm, weight in weights.items() if weight != 0 for block in blocks[arm]]
    if math.isinf(low) or any(float(block.min()) < low or float(block.max()) > high for block in used):
        return -math.inf, math.inf
    ends = [(weight * low, weight * high) for weight in weights.values() if weight != 0]
    return sum(min(pair) for pair in ends), sum(max(pair) for pair in ends)


def _inside(result: Estimate, limits: tuple[float, float]) -> Estimate:
    return dataclasses.replace(result, ci=within(result.ci, *limits))


def _draft(table: ScoreTable, asked: Asked, plan: Plan) -> ContrastRow:
    blocks, cell = asked.target.blocks(), asked.target.cell
    weights = {arm: weight for arm, weight in asked.weights.items() if weight != 0}
    for arm in weights:
        if arm in table.seeds and arm not in blocks:
            raise UserError(
                f"contrast {asked.label!r}: arm {arm!r} has no {cell}; score it there or leave the cell out"
            )
    options = options_of(plan, blocks)
    trained = [arm for arm in weights if arm not in options.deterministic]
    _check_matched(table, trained, options)
    try:
        groupings = asked.groupings()
        result = over_new(blocks, weights, options, groupings)
    except UserError as error:
        raise UserError(f"{cell}: {error}") from None
    over_clusters = clustered(blocks, weights, groupings, options) if groupings else None
    fixed = dataclasses.replace(options, estimand="these_checkpoints")
    by_seed = trained and all(len(blocks[arm][0]) > 1 for arm in trained)
    means = {arm: seed_means(blocks[arm]) for arm in weights}
    differences = np.concatenate(unit_differences(blocks, weights))
    tie = tie_width(blocks, weights)
    spread = float(np.std(differences, ddof=1))
    two = sorted(weights.values()) == [-1, 1]
    baseline = float(means[min(weights, key=weights.__getitem__)].mean())
    margin = plan.margin(cell.measure)
    limits = bounds(cell.measure, blocks, weights)
    query_set = None
    if by_seed:
        query_set = _inside(seeds_only(blocks, weights, dataclasses.replace(options, seed_variance="welch")), limits)
    return ContrastRow(
        label=asked.label,
        weights=weights,
        cell=cell,
        unit=unit_kind(cell.measure),
        num_units=asked.target.num_units,
        num_sets=len(asked.target.datasets),
        num_seeds={arm: len(values) for arm, values in means.items()},
        means={arm: float(values.mean()) for arm, values in means.items()},
        seed_means={arm: tuple(values.tolist()) for arm, values in means.items()},
        deterministic=frozenset(weights) & options.deterministic,
        result=_inside(result, limits),
        status=_status({arm: len(means[arm]) for arm in trained}, asked, plan, over_clusters),
        smallest_detectable=_detectable(asked, result, trained, plan, over_clusters),
        relative_change=result.estimate / baseline if two and baseline > 0 and not is_signed(cell.measure) else None,
        standardised=result.estimate / spread if spread > tie else None,
        p_new_wins=probability_new_wins(blocks, weights, options),
        wins=int((differences > tie).sum()),
        ties=int((np.abs(differences) <= tie).sum()),
        losses=int((differences < -tie).sum()),
        checkpoints=_inside(over_new(blocks, weights, fixed, groupings), limits),
        p_sign_flip=1.0,
        query_set=query_set,
        margin=margin,
        tost_p=result.tost(margin) if margin is not None else None,
        tost_ci=within(result.interval(tost_level(result)), *limits),
        guards=_guards(table, asked, plan) if cell.measure == P_MRR else (),
        **_collapses(table, asked, options),
        clusters=over_clusters,
        lack_of_fit=lack_of_fit(blocks, asked.weights, options, groupings) if is_trend(asked.label) else None,
    )


def _check_matched(table: ScoreTable, trained: Sequence[str], options: Options) -> None:
    if not options.matched or not trained:
        return
    first = trained[0]
    for arm in trained[1:]:
        if table.seeds[arm] != table.seeds[first]:
            raise UserError(
                f"matched seeds need the same seeds in every arm; {first!r} has {', '.join(table.seeds[first])}, "
                f"{arm!r} has {', '.join(table.seeds[arm])}; leave out the option, or add the missing runs"
            )


def _detectable(
    asked: Asked, result: Estimate, trained: Sequence[str], plan: Plan, clusters: Clustered | None
) -> float | None:
    """Return the smallest difference that a test of this size finds, with the variance parts of this one."""
    if result.df is None:
        return None
    blocks = asked.target.blocks()
    num_seeds = max(2, min((len(blocks[arm][0]) for arm in trained), default=2))
    num_units = asked.target.num_units if clusters is None else clusters.num_clusters
    weights = [1.0] if plan.options.matched else [asked.weights[arm] for arm in trained]
    parts = Parts.of_test(result, weights if trained else [], num_seeds, num_units)
    return smallest_detectable(outlook(parts, num_seeds, num_units, plan.options.alpha), plan.power)


def _status(num_seeds: Mapping[str, int], asked: Asked, plan: Plan, clusters: Clustered | None) -> str:
    if plan.options.estimand == "these_checkpoints" or not num_seeds:
        return "these checkpoints"
    few = min(num_seeds.values()) < CONFIRMATORY_SEEDS or (clusters is not None and clusters.is_exploratory)
    declared = plan.declared
    stands = declared is None or not all(declared.late[place] for place in declared.places(asked))
    return "exploratory" if plan.correction == "bh" or few or not stands else "confirmatory"


def _guards(table: ScoreTable, asked: Asked, plan: Plan) -> tuple[Guard, ...]:
    """Test nDCG under the original instruction and under this one; where neither is there, all nDCG there is."""
    cell, datasets = asked.target.cell, asked.target.datasets
    places = dict.fromkeys(
        (*scored_cell[1:],) for scored_cell in table.cells if scored_cell.measure.startswith("nDCG@")
    )
    ndcg = [place for place in places if all(Cell(dataset, *place) in table.cells for dataset in datasets)]
    here = (cell.condition, cell.direction)
    near = [place for place in ndcg if place[0] == "original" or place[:2] == here]
    guards = []
    for place in near or ndcg:
        target = over(table, datasets, *place)
        blocks = target.blocks()
        if any(arm not in blocks for arm in asked.weights):
            continue
        margin = plan.margin(target.cell.measure)
        try:
            groupings = target.groupings(asked.population)
        except UserError:  # judged under more queries than p-MRR is, some of which are in no cluster
            groupings = {}
        result = over_new(blocks, asked.weights, options_of(plan, blocks), groupings)
        limits = bounds(target.cell.measure, blocks, asked.weights)
        p = result.noninferior(margin) if margin is not None else None
        ci = within(result.interval(tost_level(result)), *limits)
        over_queries = bool(asked.population) and not groupings
        guards.append(Guard(target.cell, _inside(result, limits), margin, p, ci, over_queries))
    return tuple(guards)


def _collapses(table: ScoreTable, asked: Asked, options: Options) -> dict[str, Any]:
    """Return which arms a p-MRR contrast raises by a collapse, and of which that cannot be seen, as fields of a row."""
    cell = asked.target.cell
    if cell.measure != P_MRR:
        return {}
    raised = [arm for arm, weight in asked.weights.items() if weight > 0]
    cells = [cell._replace(dataset=dataset) for dataset in asked.target.datasets]
    lacking = [arm for arm in raised if not all(has_gain(table, arm, place) for place in cells)]
    named = collapses(table, options.deterministic, raised, cells)
    return {"collapses": tuple(named), "without_gain": tuple(lacking)}


def _with_sign_flips(drafts: Sequence[ContrastRow], asked: Sequence[Asked], plan: Plan) -> list[ContrastRow]:
    """Run the randomization test once for all contrasts with equally many units: the signs are the expensive part."""
    columns: dict[int, list[tuple[int, Values]]] = {}
    for place, contrast in enumerate(asked):
        parts = unit_differences(contrast.target.blocks(), contrast.weights)
        shares = [part / (len(part) * len(parts)) for part in parts]
        groupings = list(contrast.groupings().values())
        if groupings:  # what is exchangeable is a cluster, so a cluster has one sign; of two kinds the one with fewer
            coarse = joints(min(groupings, key=num_together))
            shares = [joint.sums([shares[place] for place in joint.places]) for joint in coarse]
        column = np.concatenate(shares)
        columns.setdefault(len(column), []).append((place, column))
    p_values = dict.fromkeys(range(len(drafts)), 1.0)
    for equally_long in columns.values():
        flipped = sign_flip(np.stack([column for _, column in equally_long], axis=1), plan.draws)
        p_values |= {place: float(p) for (place, _), p in zip(equally_long, flipped, strict=True)}
    return [dataclasses.replace(row, p_sign_flip=p_values[place]) for place, row in enumerate(drafts)]
