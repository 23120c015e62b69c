"""What a study is: arms × seeds with the claims declared beforehand, in one file of `sweeps/`.

A claim holds up only if it was written before its results were seen, so every stage that is completed under a study
records the digest of the declaration that stood at its start, and each declaration is kept
under its digest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ablate.cli.overrides import quoted, written
from ablate.recipe.build import build
from ablate.recipe.factors import Range
from ablate.recipe.schema import Count, Positive
from ablate.recipe.values import digest, plain
from ablate.records import UserError

NOT_CROSSED = ("seed", "experiment", "sweeps", "study", "runtime.study", "runtime.label", "runtime.results")
"""Keys that no grid may cross: a study names its seeds and arms, and labels tell its runs apart."""

MACRO = "macro"
"""As the data set of a claim: the mean over all data sets that have the measure there."""


QUERIES, STRATUM = "queries", "form"
"""The population of a claim that names none; the kind of cluster that is a fixed stratum and can be no population."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A contrast with its place, direction and margin, written before the results."""

    name: str
    says: str
    """The claim in a sentence."""
    contrast: str
    """Weighted sum of arms that sums to 0, `dual_view - instruction_negatives`, or `trend: arm=0, other=.1` for the
    slope over doses."""
    dataset: str
    """Name of the data set, such as `world/test`, or `macro`."""
    condition: str
    direction: str
    """Of the condition; `all`, `both` or empty where there is one only."""
    measure: str
    expects: Literal["greater", "less", "equivalent", "not_worse"]
    margin: Positive | None = None
    """On the measure's scale: the largest difference that counts as none (equivalent), or as no loss (not_worse)."""
    alpha: Annotated[float, Range(0.0001, 0.4999)] = 0.05
    """Of the whole claim, over all looks. A new declaration has at most .05 (`analysis.verdict.declarable`); a stored
    one may have more, and its claim is then exploratory."""
    population: tuple[str, ...] = ()
    """Over new clusters of which kinds it generalises: `constraint`, `template`, `[constraint, template]`. Empty,
    written `queries`: other queries with the constraints and wordings that are here."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A key that is crossed with all arms, and its values."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Study:
    """The `study` block of a file in `sweeps/`."""

    question: str
    arms: tuple[str, ...]
    """Each an arm of `conf/experiment/`, with overrides of its own after it: `label_noise factors.label_noise=0.1`."""
    seeds: tuple[Annotated[int, Range(0, 2**63 - 1)], ...]
    grid: tuple[Axis, ...] = ()
    looks: tuple[Count, ...] = ()
    """Numbers of seeds at which claims are judged; empty: once, when all seeds are there."""
    margins: tuple[tuple[str, float], ...] = ()
    """Measure and margin of non-inferiority and equivalence, for the guards of claims on p-MRR."""
    claims: tuple[Claim, ...] = ()
    incoherent: Literal["error", "list"] = "error"
    """What a combination that makes no sense is: a failure of the study, or (in a factorial) a line of its plan."""

    @property
    def digest(self) -> str:
        """Id of the whole declaration; comments and spelling of the file do not change it."""
        return digest(declaration(self))

    def cells(self) -> Iterator[tuple[str, ...]]:
        """Yield the overrides of every run: grid outermost, then seeds, then arms, so that early seeds are complete."""
        for point in itertools.product(*([(axis.key, value) for value in axis.values] for axis in self.grid)):
            for seed in self.seeds:
                for arm in self.arms:
                    experiment, *own = arm.split()
                    yield (f"+experiment={experiment}", *own, *(quoted(k, v) for k, v in point), f"seed={seed}")


@dataclass(frozen=True, kw_only=True)
class DeclaredCell:
    """One run that a study declares: what it is called, and what tells its recipe from those of the others."""

    label: str
    """Of its arm, as it stands in the results; where nothing could be composed, the overrides of the cell."""
    seed: Annotated[int, Range(0, 2**63 - 1)] | None
    """None where nothing could be composed."""
    arm_id: str | None
    """None where the cell makes no sense; `reason` says why."""
    differs: Any
    """Dotted key of the recipe -> resolved value, of the keys that are not equal in all cells of the study."""
    reason: str = ""


def build_study(values: Mapping[str, Any]) -> Study:
    """Build the declaration from the `study` block; raises UserError with the path of what is wrong."""
    study = build(Study, _with_populations(values), "study")
    for place, arm in enumerate(study.arms):
        name, *own = arm.split() or [""]
        if not name or "=" in name or not all("=" in word[1:] or word[0] == "~" for word in own):
            raise UserError(
                f"study.arms[{place}]={arm!r} must be the name of an arm of conf/experiment/, then overrides of its "
                f"own if it has some: 'label_noise factors.label_noise=0.1'"
            )
    for name, items in (("arms", [" ".join(arm.split()) for arm in study.arms]), ("seeds", study.seeds)):
        if not items or len(set(items)) < len(items):
            raise UserError(f"study.{name}={list(items)} must name at least one and none of them twice")
    names = [claim.name for claim in study.claims]
    _check_unique(names, "study.claims: the name")
    _check_unique([axis.key.lstrip("+~") for axis in study.grid], "study.grid: the key")
    for axis in study.grid:
        if not axis.values or any(isinstance(value, (list, Mapping)) for value in axis.values):
            raise UserError(f"study.grid: {axis.key} needs at least one value, each a number, a text or a truth value")
        texts = [written(value) for value in axis.values]
        twice = next((text for text in texts if texts.count(text) > 1), None)
        if twice is not None:
            raise UserError(f"study.grid: {axis.key} has the value {twice} twice; each point of a grid is one")
        if axis.key.lstrip("+~") in NOT_CROSSED:
            raise UserError(
                f"study.grid: {axis.key!r} cannot be crossed; arms and seeds have lists of their own (study.arms, "
                f"study.seeds), and names and places are the same for all cells"
            )
    if list(study.looks) != sorted(set(study.looks)) or any(look > len(study.seeds) for look in study.looks):
        raise UserError(
            f"study.looks={list(study.looks)} must be rising numbers of seeds, none above {len(study.seeds)}"
        )
    for claim in study.claims:
        _check_population(claim)
        if claim.expects in ("equivalent", "not_worse") and claim.margin is None:
            raise UserError(f"study.claims: {claim.name!r} expects {claim.expects} and has no margin; declare one")
    return study


def _with_populations(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the block with the population of each claim as a list of kinds of clusters."""
    claims = values.get("claims") if isinstance(values, Mapping) else None
    if not isinstance(claims, (list, tuple)):
        return values

    def listed(claim: Any) -> Any:
        if not isinstance(claim, Mapping) or not isinstance(claim.get("population"), str):
            return claim
        kind = claim["population"]
        return {**claim, "population": [] if kind == QUERIES else [kind]}

    return {**values, "claims": [listed(claim) for claim in claims]}


def _check_population(claim: Claim) -> None:
    kinds, where = list(claim.population), f"study.claims: {claim.name!r} has population={list(claim.population)}"
    if len(kinds) > 2 or len(set(kinds)) < len(kinds) or QUERIES in kinds or "" in kinds:
        raise UserError(
            f"{where}; it takes one kind of cluster, such as constraint, or two that cross each other, such as "
            f"[constraint, template]; `{QUERIES}` stands alone"
        )
    if STRATUM in kinds:
        raise UserError(f"{where}; {STRATUM} is a fixed stratum, all of which are there; name template instead")


def _check_unique(names: Sequence[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{what} {name!r} is there twice; each needs its own")


def build_cells(values: Any) -> tuple[DeclaredCell, ...]:
    """Build the cells of a study from plain values; raises UserError with the path of what is wrong."""
    if not isinstance(values, list):
        raise UserError("cells must be a list")
    cells = tuple(build(DeclaredCell, item, f"cells[{place}]") for place, item in enumerate(values))
    for place, cell in enumerate(cells):
        if not isinstance(cell.differs, Mapping):
            raise UserError(f"cells[{place}].differs must be a group of keys")
    return cells


def declaration(study: Study) -> dict[str, Any]:
    """Return the study as plain values, ready for JSON."""
    values: dict[str, Any] = plain(study)
    for claim in values["claims"]:
        if not claim["population"]:  # as claims were declared before there was a choice
            del claim["population"]
    return values
