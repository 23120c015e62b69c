"""Whether a study can be judged as it is declared: found before anything runs, because a correction afterwards is late.

A declaration that cannot be judged is refused; what can only end in one verdict is a note.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from ablate.evaluation.measures import KNOWN_MEASURES, P_MRR, parse
from ablate.evaluation.places import places
from ablate.evaluation.storage import UnitClusters
from ablate.recipe.build import meant
from ablate.records import EvaluationSet, UserError
from ablate.study.declaration import MACRO, QUERIES, STRATUM, Claim, DeclaredCell, Study
from analysis.stats.clusters import EXPLORATORY_BELOW
from analysis.stats.contrast_rows import CONFIRMATORY_SEEDS
from analysis.stats.matrix import Cell, is_signed, listed
from analysis.study.declared import claim_weights

MOST_ALPHA = 0.05
"""Level of a claim, above which it is refused, and exploratory where it was declared before there was this limit."""
GUARD = "nDCG@10"
"""What stands beside every p-MRR, so that a loss of documents is seen; its margin is declared in `study.margins`."""


def direction_of(claim: Claim, cells: Iterable[Cell]) -> str:
    """Return the direction at which a claim is looked at: its own, or the only one there is where it names none.

    Raises UserError, naming the first part of the claim's place that is wrong and what is there instead.
    """
    left = list(cells)
    for part in ("dataset", "condition", "measure", "direction"):
        value, measured = getattr(claim, part), list(dict.fromkeys(getattr(cell, part) for cell in left))
        if (part == "dataset" and value == MACRO) or (part == "direction" and value == "" and len(measured) == 1):
            continue
        if value not in measured:
            posed = f"{claim.condition}: {claim.direction or 'no direction is named'}"
            known = f"the {part} {value!r} is none of {', '.join(measured) or '(nothing is measured)'}"
            there = f"there are {listed([str(cell) for cell in left])}" if part in ("measure", "direction") else known
            raise UserError(
                f"there are no scores of {claim.measure} on {claim.dataset} ({posed}); {there}{meant(value, measured)}"
            )
        left = [cell for cell in left if getattr(cell, part) == value]
    return left[0].direction


def check_plan(
    study: Study,
    rankers: Mapping[str, str],
    declared: Sequence[DeclaredCell],
    others: Iterable[str],
    sets: Iterable[EvaluationSet] | None,
) -> list[str]:
    """Return notes on a study as it is going to be run, as `check_study` does.

    `rankers`: label of a planned run -> what ranks its documents; `declared`: the cells that the study declares, now
    planned or not; `others`: labels of results that are there, such as imported ones; `sets`: what all runs are going
    to be measured on, None when that is not to be asked. Where a declared cell could not be composed, and so has no
    name, claims are not looked at, and a note says so.
    """
    nameless = [cell for cell in declared if cell.seed is None]
    if nameless:
        return [
            f"the claims are not checked: {len(nameless)} of {len(declared)} declared runs have no name, because they "
            f"cannot be composed ({nameless[0].reason})"
        ]
    usual = next(iter(rankers.values()), "trained")  # what no cell differs in is as in the planned ones
    rankers = {cell.label: cell.differs.get("ranker", usual) for cell in declared} | dict(rankers)
    arms = dict.fromkeys([*rankers, "untouched", *others])
    trained = [arm for arm, ranker in rankers.items() if ranker in ("trained", "random")]
    clusters = None if sets is None else {cell: kinds for bed in sets for cell, kinds in clusters_of(bed).items()}
    return check_study(study, list(arms), trained, clusters)


def clusters_of(bed: EvaluationSet) -> dict[Cell, dict[str, tuple[str, ...]]]:
    """Return where a set is measured -> kind -> the cluster of each unit there, empty for a unit without one."""
    known = UnitClusters.of_set(bed)
    return {
        Cell(*place): {kind: tuple(known.of(kind, unit) for unit in unit_ids) for kind in known.clusters}
        for place, unit_ids in places(bed).items()
    }


def check_study(
    study: Study,
    arms: Sequence[str],
    trained: Collection[str],
    cells: Mapping[Cell, Mapping[str, Sequence[str]]] | None,
) -> list[str]:
    """Return notes on a study that can be judged; raises UserError, naming the claim, for one that cannot.

    `arms` are the labels of its runs, `trained` those with training randomness; `cells` is where all of them are going
    to be measured, with the clusters of the units there (see `clusters_of`), None when they are not going to be.
    """
    for measure, margin in study.margins:
        where = f"study.margins: {measure}"
        _check_measure(measure, where)
        _check_margin(margin, measure, 1.0, where)
    measures = [measure for measure, _ in study.margins]
    for measure in measures:
        if measures.count(measure) > 1:
            raise UserError(f"study.margins: {measure} is there twice; a measure has one margin")
    _check_levels(study, trained)
    tested: dict[tuple[object, ...], str] = {}
    few, blind = list[str](), list[str]()
    most = max(study.looks, default=len(study.seeds))
    for claim in study.claims:
        weights = _check_claim(claim, arms, cells)
        if cells is not None:
            _check_clusters(claim, cells, most >= CONFIRMATORY_SEEDS or set(trained).isdisjoint(weights))
        sign = -1.0 if claim.expects == "less" else 1.0
        signed = frozenset((arm, round(sign * weight, 9)) for arm, weight in weights.items())
        kind = "greater" if claim.expects == "less" else claim.expects
        place = (
            signed,
            kind,
            claim.dataset,
            claim.condition,
            claim.direction,
            claim.measure,
            frozenset(claim.population),
        )
        if place in tested:
            raise UserError(
                f"study.claims: {tested[place]!r} and {claim.name!r} are one test under two names, and every claim "
                f"makes the correction stricter; leave one of them out"
            )
        tested[place] = claim.name
        if not set(trained).isdisjoint(weights):
            few.append(claim.name)
        if claim.measure == P_MRR and claim.expects == "greater" and GUARD not in measures:
            blind.append(claim.name)
    notes = []
    if few and most < CONFIRMATORY_SEEDS:
        notes.append(
            f"at most {most} seeds: {_claims(few)} can only be EXPLORATORY; anything else needs at least "
            f"{CONFIRMATORY_SEEDS} (study.seeds), declared before the first result"
        )
    if blind:
        notes.append(
            f"no margin of {GUARD}: {_claims(blind)} on {P_MRR} cannot be SUPPORTED, because losing documents raises "
            f"it too; declare study.margins=[[{GUARD},0.02]] or what you hold to be no loss"
        )
    return notes


def _check_levels(study: Study, trained: Collection[str]) -> None:
    """Raise UserError for a claim at a level that confirms nothing, and for looks at which nothing is confirmed."""
    for claim in study.claims:
        if claim.alpha > MOST_ALPHA:
            raise UserError(
                f"study.claims: {claim.name!r} has alpha={claim.alpha:g}; a claim is tested at {MOST_ALPHA:g} or below "
                f"(0.0001 to {MOST_ALPHA:g}), because a laxer test confirms too much that is chance; leave alpha out"
            )
    early = [look for look in study.looks if look < CONFIRMATORY_SEEDS]
    if early and study.claims and trained and len(study.seeds) >= CONFIRMATORY_SEEDS:
        later = [look for look in study.looks if look >= CONFIRMATORY_SEEDS]
        raise UserError(
            f"study.looks={list(study.looks)} has looks at {' and '.join(map(str, early))} seeds, at which no claim "
            f"can be confirmed: that takes {CONFIRMATORY_SEEDS}; leave them out (study.looks={later}), results may be "
            f"watched at any time"
        )


def _check_claim(claim: Claim, arms: Sequence[str], cells: Collection[Cell] | None) -> dict[str, float]:
    """Return the weights of a claim that can be tested; raises UserError for one that cannot."""
    where = f"study.claims: {claim.name!r}"
    _check_measure(claim.measure, where)
    try:
        weights = claim_weights(claim, arms)
        if cells is not None:
            direction_of(claim, cells)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if not all(math.isfinite(weight) for weight in weights.values()):
        raise UserError(f"{where}: contrast {claim.contrast!r} has a weight that is no finite number")
    is_trend = claim.contrast.lstrip().startswith("trend")
    if claim.measure == P_MRR and claim.expects == "less" and not is_trend:
        raise UserError(
            f"{where} expects less {P_MRR}, so the other arm has more, which is held against {GUARD} and collapse only "
            f"where it is written so: turn the contrast {claim.contrast!r} round and expect greater"
        )
    if claim.margin is not None and not is_trend:
        _check_margin(claim.margin, claim.measure, sum(weight for weight in weights.values() if weight > 0), where)
    return weights


def _check_clusters(claim: Claim, cells: Mapping[Cell, Mapping[str, Sequence[str]]], can_confirm: bool) -> None:
    """Raise UserError for a population that units are in no clusters of, or in too few where the claim could hold."""
    where = f"study.claims: {claim.name!r}"
    wanted = Cell(claim.dataset, claim.condition, direction_of(claim, cells), claim.measure)
    beds = [cell for cell in cells if cell == wanted or (claim.dataset == MACRO and cell[1:] == wanted[1:])]
    for kind in claim.population:
        clusters: set[str] = set()
        for cell in beds:
            known = {name: names for name, names in cells[cell].items() if any(names) and name != STRATUM}
            if kind not in known:
                raise UserError(
                    f"{where}: the units of {cell.dataset} are in no clusters of the kind {kind!r}; population is "
                    f"{' or '.join([QUERIES, *known])}{meant(kind, known)}"
                )
            lacking = sum(not name for name in known[kind])
            if lacking:
                raise UserError(
                    f"{where}: {lacking} of {len(known[kind])} units of {cell} are in no cluster of the kind {kind!r}; "
                    f"name theirs (metadata.{kind} of a folder's queries), or choose another population"
                )
            clusters |= set(known[kind])
        if len(clusters) < EXPLORATORY_BELOW and can_confirm:
            raise UserError(
                f"{where}: {len(clusters)} clusters of the kind {kind!r} cannot confirm anything over new ones: that "
                f"takes {EXPLORATORY_BELOW}; choose another population ({QUERIES}: these {kind} only)"
            )


def _check_measure(measure: str, where: str) -> None:
    try:
        parse(measure)
    except UserError as error:
        near = meant(measure, [*(name.replace("@k", "@10") for name in KNOWN_MEASURES), "AP@1000"])
        raise UserError(f"{where}: {error}{near}") from None


def _check_margin(margin: float, measure: str, weight: float, where: str) -> None:
    """Raise UserError for a margin that no difference could pass, or that none could keep."""
    largest = weight * (2.0 if is_signed(measure) else 1.0)
    if not 0 < margin < largest:
        raise UserError(
            f"{where}: the margin {margin:g} must lie between 0 and {largest:g}, the largest difference of {measure} "
            f"there can be; margins are on the measure's own scale (two points of nDCG are 0.02)"
        )


def _claims(names: Sequence[str]) -> str:
    return f"the claim {names[0]!r}" if len(names) == 1 else f"{len(names)} claims ({listed(names, 3)})"
