"""What the sections of a report are made from: the opened study, its judgement, the rows of its contrasts."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from ablate.evaluation.measures import P_MRR, SATISFYING_OVER_VIOLATING
from ablate.records import UserError
from ablate.tables import Table
from analysis.page.labels import AuditRecord
from analysis.page.record import Field, Grid
from analysis.stats.asked import Asked, Target, targets
from analysis.stats.contrast import ContrastRow
from analysis.stats.contrast_rows import contrast_rows
from analysis.stats.families import Plan
from analysis.stats.matrix import Cell, ScoreTable
from analysis.study.differences import reference_of
from analysis.study.opened import OpenStudy
from analysis.verdict.family import declared_family
from analysis.verdict.judge import Judged, Judgement, judge, place_of

NDCG = "nDCG@10"
"""Measure that stands beside p-MRR."""


@dataclass(frozen=True)
class Tested:
    """Every arm against the baseline, in the places of the claims and under the main measures."""

    rows: tuple[ContrastRow, ...]
    table: ScoreTable
    """With what the arms differ in, and the remarks on what cannot be tested."""
    plan: Plan
    nothing: str = ""
    """Why there is no row; empty where there is one."""


@dataclass(frozen=True, eq=False)
class Source:
    """A study with everything that several sections need; worked out once, when it is first asked for."""

    study: OpenStudy
    results: str
    """Folder of results, as it stands in a command."""
    asked_baseline: str | None = None
    """Arm that a person names as the baseline, of those with scores."""
    audits: tuple[AuditRecord, ...] = ()
    """What audits of labels found, as a person names their files."""

    @cached_property
    def judgement(self) -> Judgement | None:
        """The verdicts on the declared claims; None for a study without a declaration."""
        return judge(self.study) if self.study.evidence.declared is not None else None

    @property
    def judged(self) -> tuple[Judged, ...]:
        """The claims with something to test."""
        claims = () if self.judgement is None else self.judgement.claims
        return tuple(judged for judged in claims if judged.row is not None)

    @cached_property
    def baseline(self) -> str:
        """The arm that others are compared with: as asked for, else that of budgets, of most claims, or the first."""
        if self.asked_baseline is not None:
            return self.asked_baseline
        if self.study.evidence.baseline:
            return self.study.evidence.baseline
        named = Counter(reference_of(judged.row.weights) for judged in self.judged if judged.row is not None)
        return named.most_common(1)[0][0] if named else self.study.table.arms[0]

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """The arms, the baseline first."""
        arms = self.study.table.arms
        return (self.baseline, *(arm for arm in arms if arm != self.baseline))

    @cached_property
    def places(self) -> tuple[Target, ...]:
        """Where claims are looked at, each place once, in the order of the claims."""
        table = self.study.table
        return tuple(
            {target.cell: target for target in (place_of(table, judged.claim) for judged in self.judged)}.values()
        )

    @cached_property
    def main_places(self) -> tuple[Target, ...]:
        """The places of the claims, then all others of the main measures, macro means too."""
        main = [target for target in targets(self.study.table) if target.cell.measure in self.main_measures]
        ordered = sorted(main, key=lambda target: target.cell.condition == "reversed")
        return tuple({target.cell: target for target in (*self.places, *ordered)}.values())

    @cached_property
    def main_measures(self) -> tuple[str, ...]:
        """The measures of the claims, nDCG@10, p-MRR and pairs, as far as they are there; all where none of them is."""
        known = dict.fromkeys(cell.measure for cell in self.study.table.cells)
        wanted = {target.cell.measure for target in self.places} | {NDCG, P_MRR, SATISFYING_OVER_VIOLATING}
        return tuple(measure for measure in known if measure in wanted) or tuple(known)

    @property
    def significance(self) -> str:
        """The command that prints the contrasts of every arm with the baseline, as one family."""
        measures = (word for measure in self.main_measures for word in ("--measure", measure))
        return self.command("significance", "--baseline", self.baseline, *measures)

    @cached_property
    def tested(self) -> Tested:
        """The contrasts of every arm with the baseline in the main places."""
        contrasts = self.study.ask([self.baseline], [], [], Plan()) if len(self.arms) > 1 else None
        if contrasts is None:
            return Tested((), self.study.table, Plan(), f"{self.baseline} is the only arm.")
        asked = [
            Asked(label, weights, target)
            for target in self.main_places
            for label, weights in contrasts.contrasts.items()
        ]
        try:
            left, table = contrasts.testable(asked)
        except UserError as error:
            return Tested((), contrasts.table, contrasts.plan, f"{error}.")
        plan = dataclasses.replace(contrasts.plan, declared=declared_family(self.study, contrasts.plan))
        return Tested(contrast_rows(table, left, plan), table, plan)

    @property
    def where(self) -> tuple[str, ...]:
        """The words of a command that name the folder of results; none where it is the default."""
        return () if self.results == "results" else ("--results", self.results)

    def command(self, module: str, *words: str) -> str:
        """Return a command on this study, as a shell reads it."""
        return shlex.join(["python", "-m", f"analysis.{module}", self.study.evidence.study, *words, *self.where])


def seed_differences(row: ContrastRow, seeds: Mapping[str, Sequence[str]]) -> tuple[float, ...]:
    """Return the contrast in every seed that all of its trained arms have, in their order.

    `seeds`: arm -> its seeds, in the order of its means. Arms without training randomness have one mean for all seeds.
    """
    by_seed = {
        arm: dict(zip(seeds[arm], row.seed_means[arm], strict=True))
        for arm in row.weights
        if arm not in row.deterministic
    }
    constant = sum(
        weight * fmean(row.seed_means[arm]) for arm, weight in row.weights.items() if arm in row.deterministic
    )
    first = next(iter(by_seed), None)
    if first is None:
        return ()
    shared = [seed for seed in seeds[first] if all(seed in means for means in by_seed.values())]
    return tuple(constant + sum(row.weights[arm] * means[seed] for arm, means in by_seed.items()) for seed in shared)


def seeds_of(row: ContrastRow) -> str:
    """Return the number of seeds of a contrast, by arm where the arms have unlike ones."""
    counts = row.num_seeds
    return (
        str(min(counts.values()))
        if len(set(counts.values())) == 1
        else ", ".join(f"{a} {n}" for a, n in counts.items())
    )


def grid_of(key: str, table: Table, *, folded: bool = False) -> Grid:
    """Return a table of texts as a grid of texts."""
    fields = tuple(Field(column.name, column.name, numeric=column.align == "r") for column in table.columns)
    return Grid(key, table.title, fields, table.rows, table.notes, folded)


def posed(cell: Cell) -> str:
    """Return how queries are posed in a place."""
    return cell.condition if cell.direction in ("", cell.condition) else f"{cell.condition}: {cell.direction}"
