"""Families of contrasts: what is declared before results are seen, and the corrections over what belongs together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from analysis.stats.asked import Asked
from analysis.stats.clusters import over_new
from analysis.stats.contrast import ContrastRow
from analysis.stats.corrections import benjamini_hochberg, holm
from analysis.stats.crossed import Estimate, Options


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

    def places(self, asked: Asked) -> Sequence[int]:
        """Return where a contrast stands in the family, whichever arm is named first."""
        return self._places.get(_identity(asked), ())

    @cached_property
    def _places(self) -> Mapping[tuple[Any, ...], Sequence[int]]:
        places: dict[tuple[Any, ...], list[int]] = {}
        for place, declared in enumerate(self.contrasts):
            places.setdefault(_identity(declared), []).append(place)
        return places

    @cached_property
    def _populations(self) -> Sequence[tuple[str, ...]]:
        return list(dict.fromkeys(declared.population for declared in self.contrasts))

    def as_declared(self, asked: Asked) -> Asked:
        """Return a contrast over the population of the one that was declared in its place, if one was."""
        for population in self._populations:
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


def corrected(rows: Sequence[ContrastRow], asked: Sequence[Asked], plan: Plan) -> list[ContrastRow]:
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
    return over_new(blocks, asked.weights, options_of(plan, blocks), asked.groupings())


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


def options_of(plan: Plan, blocks: Mapping[str, Any]) -> Options:
    """Return the options of a plan for some arms: deterministic are those of its arms that are among them."""
    known = frozenset(arm for arm in plan.options.deterministic if arm in blocks)
    return dataclasses.replace(plan.options, deterministic=known)
