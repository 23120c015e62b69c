"""Contrast rows: every contrast of a family with its test, its second opinions and the population it speaks of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from ablate.evaluation.measures import P_MRR, range_of, within
from ablate.records import UserError
from analysis.stats.clusters import MOST_KINDS, Clustered, Groupings, clustered, over_new
from analysis.stats.collapse import Collapsed, collapses, has_gain
from analysis.stats.corrections import benjamini_hochberg, holm, replicated
from analysis.stats.crossed import (
    Blocks,
    Estimate,
    Grouping,
    Options,
    Values,
    probability_new_wins,
    seed_means,
    seeds_only,
    sign_flip,
    tie_width,
    unit_differences,
)
from analysis.stats.matrix import FORM, Cell, CellScores, ScoreTable, is_signed, listed, unit_kind
from analysis.stats.power import Parts, outlook, smallest_detectable
from analysis.stats.trend import LackOfFit, is_trend, lack_of_fit

CONFIRMATORY_SEEDS = 5
_PLURALS = {"topic": "topics", "group": "groups", "question": "questions", "query": "queries"}


def plural(unit: str) -> str:
    """Return the plural of a kind of unit."""
    return _PLURALS[unit]


def tost_level(result: Estimate) -> float:
    """Return the level of the interval that says the same as one-sided tests at alpha: 1 - 2 alpha."""
    return 1 - 2 * result.alpha


@dataclass(frozen=True)
class DeclaredFamily:
    """The contrasts in their places that were declared; none of them where nothing was."""

    contrasts: tuple[Asked, ...] = ()
    late: tuple[bool, ...] = ()
    """Of each: declared after results, or at other seeds than declared; it stays in the family and is exploratory."""
    num_untestable: int = 0
    """Declared contrasts without scores, which count with p 1."""

    @property
    def size(self) -> int:
        """How many contrasts Holm's correction is over."""
        return len(self.contrasts) + self.num_untestable

    def places(self, asked: Asked) -> list[int]:
        """Return where a contrast stands in the family, whichever arm is named first."""
        return [place for place, declared in enumerate(self.contrasts) if _identity(declared) == _identity(asked)]

    def as_declared(self, asked: Asked) -> Asked:
        """Return a contrast over the population of the one that was declared in its place, if one was."""
        for population in dict.fromkeys(declared.population for declared in self.contrasts):
            if self.places(asked._replace(population=population)):
                return asked._replace(population=population)
        return asked


def _identity(asked: Asked) -> tuple[Any, ...]:
    weights = sorted((arm, weight) for arm, weight in asked.weights.items() if weight != 0)
    sign = math.copysign(1.0, weights[0][1]) if weights else 1.0
    _, *posed = asked.target.cell
    place = tuple(posed), tuple(sorted(asked.target.datasets)), tuple(sorted(asked.population))
    return tuple((arm, sign * weight) for arm, weight in weights), *place


@dataclass(frozen=True)
class Plan:
    """What is declared before the results are seen."""

    options: Options = field(default_factory=Options)
    margins: Mapping[str, float] = field(default_factory=dict)
    """Measure -> margin of equivalence and non-inferiority; the key '' holds for every other measure."""
    correction: Literal["holm", "bh"] = "holm"
    """`bh` is for exploratory slices and makes every row exploratory."""
    declared: DeclaredFamily | None = None
    """None: what is asked for is what was declared."""
    draws: int = 4999
    """Sign flips of the randomization test."""
    power: float = 0.8

    def margin(self, measure: str) -> float | None:
        """Return the margin of a measure, None where none is declared."""
        return self.margins.get(measure, self.margins.get(""))


class Target(NamedTuple):
    """Where a contrast is looked at: one data set, or the macro mean of several (every one counts alike)."""

    cell: Cell
    parts: tuple[CellScores, ...]
    datasets: tuple[str, ...]

    def blocks(self) -> dict[str, Blocks]:
        """Return arm -> its matrices (S, Q), of the arms that all parts have."""
        arms = [arm for arm in self.parts[0].values_SQ if all(arm in part.values_SQ for part in self.parts)]
        return {arm: [part.values_SQ[arm] for part in self.parts] for arm in arms}

    def kinds(self) -> list[str]:
        """Return the kinds of clusters that units of all parts have."""
        return [kind for kind in self.parts[0].clusters if all(kind in part.clusters for part in self.parts)]

    def groupings(self, population: Sequence[str]) -> Groupings:
        """Return the clusters of these kinds, in each part; where all units have a form, forms are fixed strata.

        Raises UserError for a kind that a unit has not, and for too few clusters.
        """
        groups: dict[str, list[Grouping]] = {}
        for kind in population:
            for part, dataset in zip(self.parts, self.datasets, strict=True):
                where, names = dataset or "the data set", part.clusters.get(kind)
                if names is None:
                    known = ", ".join(part.clusters) or "none"
                    raise UserError(f"the units of {where} are in no clusters of the kind {kind!r}; kinds are {known}")
                lacking = [unit for unit, name in zip(part.units, names, strict=True) if not name]
                if lacking:
                    raise UserError(
                        f"{len(lacking)} of {len(part.units)} units of {where} are in no cluster of the kind {kind!r} "
                        f"({listed(lacking, 3)}); name theirs, or choose another kind"
                    )
                forms = part.clusters.get(FORM, ())
                strata = forms if kind != FORM and forms and all(forms) else None
                groups.setdefault(kind, []).append(Grouping.of(names, strata))
        return groups

    @property
    def num_units(self) -> int:
        """Units of all parts."""
        return sum(len(part.units) for part in self.parts)


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise UserError for kinds of clusters of a command line that no test is over."""
    if len(kinds) > MOST_KINDS or len(set(kinds)) < len(kinds) or FORM in kinds:
        raise UserError(
            f"--clusters {' '.join(kinds)}: a test is over clusters of one kind, or of two that cross each other; "
            f"{FORM} is no such kind, because forms are fixed strata"
        )


class Asked(NamedTuple):
    """One contrast of the family."""

    label: str
    weights: Mapping[str, float]
    target: Target
    population: tuple[str, ...] = ()
    """Kinds of clusters that the contrast is over new ones of; empty: new units like these."""

    def groupings(self) -> Groupings:
        """Return the clusters of its population; raises UserError as `Target.groupings` does."""
        return self.target.groupings(self.population)


@dataclass(frozen=True)
class Guard:
    """Non-inferiority of nDCG beside a p-MRR contrast: pushing every document down raises p-MRR and ruins nDCG."""

    cell: Cell
    estimate: Estimate
    margin: float | None
    p: float | None
    """None without a margin."""
    ci: tuple[float, float]
    """Level 1 - 2 alpha: its lower end is that of the one-sided test."""
    over_queries: bool = False
    """Its units are in no clusters of the contrast's population, so it is over other units like these."""

    @property
    def verdict(self) -> str:
        """What may be said."""
        if self.margin is None:
            return "not tested: no margin was declared"
        assert self.p is not None
        shown = self.p < self.estimate.alpha
        said = f"{'not worse by' if shown else 'cannot exclude worse by'} {self.margin:g} or more"
        return f"{said}, over other {plural(unit_kind(self.cell.measure))} like these" if self.over_queries else said


@dataclass(frozen=True)
class ContrastRow:
    """One contrast in one place, with everything that a reader needs to judge it."""

    label: str
    weights: Mapping[str, float]
    cell: Cell
    unit: str
    num_units: int
    num_sets: int
    """Data sets: above 1 for a macro mean."""
    num_seeds: Mapping[str, int]
    means: Mapping[str, float]
    seed_means: Mapping[str, tuple[float, ...]]
    deterministic: frozenset[str]
    """Arms of it without training randomness."""
    result: Estimate
    status: str
    """`confirmatory`, `exploratory` or `these checkpoints`."""
    smallest_detectable: float | None
    relative_change: float | None
    standardised: float | None
    p_new_wins: float | None
    wins: int
    ties: int
    losses: int
    checkpoints: Estimate
    """Paired t over units: other units, these checkpoints."""
    p_sign_flip: float
    query_set: Estimate | None
    """Welch over seeds: new seeds, these units."""
    margin: float | None
    tost_p: float | None
    tost_ci: tuple[float, float]
    """Level 1 - 2 alpha, that of two one-sided tests: equivalence holds where it lies within the margin."""
    guards: tuple[Guard, ...] = ()
    collapses: tuple[Collapsed, ...] = ()
    """Of p-MRR: the arms with a weight above 0 that collapse here, or may."""
    without_gain: tuple[str, ...] = ()
    """Of p-MRR: the arms with a weight above 0 that have no instruction gain here, so that no collapse can be seen."""
    clusters: Clustered | None = None
    """The test over new clusters beside that over new units; None where the population is new units."""
    is_declared: bool = False
    """Whether it is one of the declared family that the plan names."""
    lack_of_fit: LackOfFit | None = None
    """Of a trend over three doses or more: whether its arms are on a line."""
    family_size: int = 0
    p_holm: float | None = None
    q_bh: float | None = None
    tost_p_holm: float | None = None
    population: str = ""


def targets(table: ScoreTable, macro: Literal["also", "only", "none"] = "also") -> tuple[Target, ...]:
    """Return the cells of a table and the macro means over data sets that share condition, direction and measure."""
    single = [Target(cell, (scores,), (cell.dataset,)) for cell, scores in table.cells.items()]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for cell in table.cells:
        groups.setdefault((cell.condition, cell.direction, cell.measure), []).append(cell.dataset)
    joint = [over(table, tuple(datasets), *place) for place, datasets in groups.items() if len(datasets) > 1]
    if macro == "only" and not joint:
        raise UserError(f"{table.source}: no measure is there on two data sets, so there is no macro mean")
    return tuple({"also": [*single, *joint], "only": joint, "none": single}[macro])


def over(table: ScoreTable, datasets: tuple[str, ...], condition: str, direction: str, measure: str) -> Target:
    """Return the target over these data sets, which all have this cell."""
    parts = tuple(table.cells[Cell(dataset, condition, direction, measure)] for dataset in datasets)
    name = datasets[0] if len(datasets) == 1 else f"macro of {', '.join(datasets)}"
    return Target(Cell(name, condition, direction, measure), parts, datasets)


def contrast_rows(table: ScoreTable, asked: Sequence[Asked], plan: Plan) -> tuple[ContrastRow, ...]:
    """Return one row for each contrast that is asked for; `table` also holds the nDCG that guards p-MRR.

    Raises UserError for an arm without scores in a place, single-seed arms, unlike seeds where they are matched.
    """
    for arm in sorted(plan.options.deterministic):
        if arm not in table.arms:
            raise UserError(f"the deterministic arm {arm!r} has no scores; arms are {', '.join(table.arms)}")
    drafts = [_draft(table, contrast, plan) for contrast in asked]
    rows = _with_sign_flips(drafts, asked, plan)
    rows = _corrected(rows, asked, plan)
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


def _options(plan: Plan, blocks: Mapping[str, Any]) -> Options:
    return dataclasses.replace(plan.options, deterministic=plan.options.deterministic & set(blocks))


def _draft(table: ScoreTable, asked: Asked, plan: Plan) -> ContrastRow:
    blocks, cell = asked.target.blocks(), asked.target.cell
    weights = {arm: weight for arm, weight in asked.weights.items() if weight != 0}
    for arm in weights:
        if arm in table.arms and arm not in blocks:
            raise UserError(
                f"contrast {asked.label!r}: arm {arm!r} has no {cell}; score it there or leave the cell out"
            )
    options = _options(plan, blocks)
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
        result = over_new(blocks, asked.weights, _options(plan, blocks), groupings)
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
            coarse = min(groupings, key=lambda groups: sum(group.num_clusters for group in groups))
            shares = [group.sums(share) for group, share in zip(coarse, shares, strict=True)]
        column = np.concatenate(shares)
        columns.setdefault(len(column), []).append((place, column))
    p_values = dict.fromkeys(range(len(drafts)), 1.0)
    for equally_long in columns.values():
        flipped = sign_flip(np.stack([column for _, column in equally_long], axis=1), plan.draws)
        p_values |= {place: float(p) for (place, _), p in zip(equally_long, flipped, strict=True)}
    return [dataclasses.replace(row, p_sign_flip=p_values[place]) for place, row in enumerate(drafts)]


def _corrected(rows: Sequence[ContrastRow], asked: Sequence[Asked], plan: Plan) -> list[ContrastRow]:
    """Correct over whole families: the declared one, shown or not, and all that was asked for and not declared."""
    if plan.correction == "bh":
        q_values = benjamini_hochberg([row.result.p for row in rows])
        rows = [dataclasses.replace(row, q_bh=q) for row, q in zip(rows, q_values, strict=True)]
    declared = plan.declared or DeclaredFamily()
    places = [declared.places(contrast) if plan.correction == "holm" else [] for contrast in asked]
    outside = [row for row, known in zip(rows, places, strict=True) if not known]
    corrected = iter(_family([(row.result, row.margin) for row in outside], 0))
    family = []
    if any(places):
        estimates = [_estimate_of(contrast, plan) for contrast in declared.contrasts]
        margins = [plan.margin(contrast.target.cell.measure) for contrast in declared.contrasts]
        family = _family(list(zip(estimates, margins, strict=True)), declared.num_untestable)
    done = []
    for row, known in zip(rows, places, strict=True):
        p_holm, tost_p_holm = family[known[0]] if known else next(corrected)
        size = declared.size if known else len(outside)
        p_holm = p_holm if plan.correction == "holm" else None
        row = dataclasses.replace(row, is_declared=bool(known), family_size=size)
        done.append(dataclasses.replace(row, p_holm=p_holm, tost_p_holm=tost_p_holm))
    return done


def _estimate_of(asked: Asked, plan: Plan) -> Estimate:
    blocks = asked.target.blocks()
    return over_new(blocks, asked.weights, _options(plan, blocks), asked.groupings())


def _family(
    estimates: Sequence[tuple[Estimate, float | None]], num_untestable: int
) -> list[tuple[float | None, float | None]]:
    """Return Holm's p of each difference, and of its equivalence where it has a margin."""
    by_holm = holm([estimate.p for estimate, _ in estimates] + [1.0] * num_untestable)
    tests = [estimate.tost(margin) for estimate, margin in estimates if margin is not None]
    equivalence = iter(holm([*tests, *[1.0] * num_untestable] if tests else []))
    return [
        (p_holm, next(equivalence) if margin is not None else None)
        for p_holm, (_, margin) in zip(by_holm, estimates, strict=False)
    ]


def population(row: ContrastRow, plan: Plan) -> str:
    """Return which population the claim of a row covers, from the test and its two second opinions."""
    alpha, units = plan.options.alpha, plural(row.unit)
    others = f"other {units} like these" if row.num_sets == 1 else f"other {units} of these {row.num_sets} data sets"
    if row.clusters is not None:
        others += f", over {new_clusters(row.clusters)}"
    if row.result.degenerate:
        amount = "agree exactly" if row.result.estimate == 0 else "differ by the same amount"
        return f"All {units} and seeds {amount}; no error could be estimated: this covers these runs only."
    if row.status == "these checkpoints":
        seen = "differ" if row.result.p < alpha else "are not shown to differ"
        return f"These checkpoints {seen} on {others}; nothing is said about new training seeds."
    if row.result.p < alpha:
        weak = "" if row.status == "confirmatory" else " (exploratory)"
        corrected = row.p_holm if row.p_holm is not None else row.q_bh
        if corrected is not None and corrected >= alpha:
            weak += f", but not after the correction over the family of {row.family_size}"
        bad = [
            f"{guard.cell.measure} {guard.verdict}" for guard in row.guards if guard.p is not None and guard.p >= alpha
        ]
        beside = f" Beside it: {'; '.join(dict.fromkeys(bad))}." if bad else ""
        return f"Covers new training seeds of these arms and {others}{weak}.{beside}"
    limit = ""
    if row.smallest_detectable is not None:
        limit = f"; a true difference below {row.smallest_detectable:.4f} would rarely be found"
    if row.result.share_seed is not None and row.checkpoints.p < alpha:
        return (
            f"Only these checkpoints differ on {others}; it is not shown for new training seeds "
            f"(seeds are {row.result.share_seed:.0%} of the variance){limit}."
        )
    if row.query_set is not None and row.query_set.p < alpha:
        return f"Only on exactly these {units} would new seeds differ again; it is not shown for {others}{limit}."
    return f"No difference is shown for any population{limit}."


def new_clusters(clusters: Clustered) -> str:
    """Return over what a test generalises, in words: `new constraints of these kinds (29 here)`."""
    parts = (f"new {plural_kind(name)} ({kind.num_clusters:,} here)" for name, kind in clusters.kinds.items())
    return f"{' and '.join(parts)} of these kinds"


def plural_kind(kind: str) -> str:
    """Return the plural of a kind of cluster."""
    return kind if kind.endswith("s") else f"{kind}s"


def replication(rows: Sequence[ContrastRow], alpha: float) -> list[dict[str, Any]]:
    """Return, for each contrast on several data sets, on how many it is there and the signs (see `replicated`)."""
    groups: dict[tuple[str, ...], list[ContrastRow]] = {}
    for row in rows:
        if row.num_sets == 1:
            groups.setdefault((row.label, *row.cell[1:]), []).append(row)
    return [
        {
            "contrast": label,
            "condition": condition,
            "direction": direction,
            "measure": measure,
            "replicated_on": replicated([row.result.p for row in members], alpha),
            "of": len(members),
            "signs": {
                r.cell.dataset: "+" if r.result.estimate > 0 else "-" if r.result.estimate < 0 else "0" for r in members
            },
        }
        for (label, condition, direction, measure), members in groups.items()
        if len(members) > 1
    ]
