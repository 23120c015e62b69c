"""A study opened for questions: the checks on it, its scores as a table, and what stands against comparing its arms."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ablate.records import UserError
from ablate.tables import Table
from analysis.stats.asked import Asked
from analysis.stats.collapse import collapses
from analysis.stats.families import Plan
from analysis.stats.matrix import ScoreTable
from analysis.stats.seeds_apart import remarks_of_seeds
from analysis.stats.weights import all_contrasts
from analysis.study.composition import also_changed, changes_in_words
from analysis.study.declared import claim_weights
from analysis.study.differences import confounded, differences, reference_of
from analysis.study.evidence import Evidence
from analysis.study.fairness import Check, examine, failed_table, fairness_table, headline
from analysis.study.runs import deterministic_arms, seed_varies
from analysis.study.totals import ArmTotals, unmatched


@dataclass(frozen=True, eq=False)
class OpenStudy:
    """A study with what follows from its evidence; everything is worked out once, when it is first asked for."""

    evidence: Evidence

    @cached_property
    def checks(self) -> Sequence[Check]:
        """Every check of the study, the failing ones first; raises UserError as `examine` does."""
        return examine(self.evidence)

    @property
    def fairness(self) -> Table:
        """The checks for readers."""
        return fairness_table(self.checks, self.evidence.study)

    @property
    def unfairness(self) -> Table:
        """The checks that failed, and the others as one row."""
        return failed_table(self.checks, self.evidence.study)

    @property
    def fairness_record(self) -> list[dict[str, Any]]:
        """The checks for JSON."""
        return [check._asdict() for check in self.checks]

    @cached_property
    def table(self) -> ScoreTable:
        """The scores, under the mark of the checks; raises UserError for scores that no test can be made on."""
        return dataclasses.replace(self.evidence.table, mark=headline(self.checks))

    @cached_property
    def deterministic(self) -> frozenset[str]:
        """The arms without training randomness, known from their recipes."""
        return deterministic_arms(self.evidence.runs)

    @cached_property
    def _totals(self) -> Mapping[str, ArmTotals]:
        return {totals.arm: totals for totals in self.evidence.totals}

    def against(self, weights: Mapping[str, float]) -> dict[str, str]:
        """Return the marks of a contrast with their reasons.

        UNMATCHED for unequal budgets, compared among the arms that have a mix; CONFOUNDED for several changes.
        """
        marks = {}
        used = [self._totals[arm] for arm in sorted(weights) if weights[arm] != 0 and arm in self._totals]
        if len(used) > 1:
            names = [arm.arm for arm in used]
            reference = reference_of(weights)
            wrong = unmatched(used, reference if reference in names else names[0])
            if wrong:
                marks["UNMATCHED"] = "; ".join(f"{arm} has {reason}" for arm, reason in wrong.items())
        why = confounded(self.evidence.arms, weights)
        if why:
            marks["CONFOUNDED"] = why
        return marks

    def collapse_remarks(self, arms: Collection[str]) -> list[tuple[str, str, str]]:
        """Return (arm, mark, why) for each collapse of these arms, in their order, and where none can be seen."""
        ordered = [arm for arm in self.table.arms if arm in arms]
        lacking = self.evidence.lacks_gain
        older = [("all arms", "NO INSTRUCTION GAIN", lacking)] if lacking else []
        return [*(collapsed.remark for collapsed in collapses(self.table, self.deterministic, ordered)), *older]

    def also_changed(self, weights: Mapping[str, float]) -> str:
        """Return in what else than their switch the mixes of a contrast differ; empty where nothing is known to."""
        return changes_in_words(also_changed(self.evidence.arms, weights))

    def ask(
        self, baselines: Sequence[str], contrasts: Sequence[str], trends: Sequence[str], plan: Plan
    ) -> StudyContrasts:
        """Return contrasts ready for tests; where none is named, those of the claims of the newest declaration.

        Margins that the plan leaves open are those of the declaration. Raises UserError for an unknown study or arm,
        and where neither contrasts nor claims are there.
        """
        declared = self.evidence.declarations
        options = dataclasses.replace(plan.options, deterministic=plan.options.deterministic | self.deterministic)
        margins = dict(plan.margins) or (dict(declared[-1].study.margins) if declared else {})
        known = {cell.measure for cell in self.table.cells}
        margins = {measure: margin for measure, margin in margins.items() if measure in known or not measure}
        plan = dataclasses.replace(plan, options=options, margins=margins)
        if baselines or contrasts or trends or not declared:
            if not (baselines or contrasts or trends):
                raise UserError(
                    f"study {self.evidence.study!r} has no declared claims; give --baseline ARM or --contrast 'B - A'; "
                    f"arms are {', '.join(self.table.arms)}"
                )
            asked = all_contrasts(self.table.arms, baselines, contrasts, trends)
            return StudyContrasts(self._described(asked), asked, plan)
        asked, missing = {}, {}
        for claim in declared[-1].study.claims:
            try:
                asked[claim.contrast] = claim_weights(claim, self.table.arms)
            except UserError as error:
                missing[claim.contrast] = str(error)
        table = self._described(asked)
        remarks = tuple((contrast, "NOT TESTED", why) for contrast, why in missing.items())
        return StudyContrasts(dataclasses.replace(table, remarks=(*table.remarks, *remarks)), asked, plan)

    def _described(self, contrasts: Mapping[str, Mapping[str, float]]) -> ScoreTable:
        """Return the table with what the arms of each contrast differ in, and what stands against comparing them."""
        differs, marks, also = {}, {}, {}
        remarks: list[tuple[str, str, str]] = []
        for label, weights in contrasts.items():
            changes = differences(self.evidence.arms, weights)
            alone = len(changes) == 1
            differs[label] = "; ".join(f"{change}" if alone else f"{arm}: {change}" for arm, change in changes.items())
            also[label] = self.also_changed(weights)
            against = self.against(weights)
            if against:
                marks[label] = ", ".join(against)
            remarks += [(label, mark, why) for mark, why in against.items()]
        remarks += remarks_of_seeds(self.table, contrasts, self.deterministic)
        remarks += self.collapse_remarks({arm for weights in contrasts.values() for arm in weights if weights[arm]})
        return dataclasses.replace(
            self.table,
            differs=differs,
            also_changed=also,
            marks=marks,
            remarks=tuple(remarks),
            seed_varies=seed_varies(self.evidence.runs),
        )


@dataclass(frozen=True)
class StudyContrasts:
    """The contrasts that are asked of a study, with its scores and what is known of the arms written beside them."""

    table: ScoreTable
    contrasts: Mapping[str, Mapping[str, float]]
    plan: Plan

    def testable(self, asked: Sequence[Asked]) -> tuple[list[Asked], ScoreTable]:
        """Return what can be tested, and the table with a remark on everything that cannot.

        That is a contrast with a trained arm of one seed, or with an arm that has no scores in a place.
        Raises UserError when nothing is left.
        """
        left: list[Asked] = []
        remarks: dict[tuple[str, str], list[str]] = {}
        for contrast in asked:
            why = untestable(self.table, contrast, self.plan)
            if why:
                remarks.setdefault((contrast.label, why), []).append(str(contrast.target.cell))
            else:
                left.append(contrast)
        if not left:
            (label, why), _ = next(iter(remarks.items()))
            raise UserError(f"nothing can be tested in {self.table.source}: {label}: {why}")
        num_places = Counter(contrast.label for contrast in asked)
        more = tuple(
            (label, "NOT TESTED", f"{why} ({len(cells)} of {num_places[label]} places)")
            for (label, why), cells in remarks.items()
        )
        return left, dataclasses.replace(self.table, remarks=(*self.table.remarks, *more))


def untestable(table: ScoreTable, asked: Asked, plan: Plan) -> str:
    """Return why a contrast cannot be tested in a place, or an empty text."""
    blocks = asked.target.blocks()
    for arm, weight in asked.weights.items():
        if weight == 0:
            continue
        if arm not in blocks:
            return f"{arm} has no scores there"
        if plan.options.estimand == "method" and arm not in plan.options.deterministic and len(blocks[arm][0]) < 2:
            return f"{arm} has one seed, which says nothing about new ones; train more"
    return ""
