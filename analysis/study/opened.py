"""A study opened for testing: its scores as a table, with what is known of its arms written beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.records import UserError
from ablate.store.results import ResultStore
from ablate.tables import Table
from analysis.stats.contrast_rows import Asked, Plan
from analysis.stats.matrix import ScoreTable, from_arrow
from analysis.stats.weights import all_contrasts
from analysis.study.checks import Evidence
from analysis.study.declared import claim_weights, stored_declarations
from analysis.study.differences import confounded, differences, reference_of
from analysis.study.fairness import Check, examine, fairness_table, gather, headline
from analysis.study.runs import ArmRun, deterministic_arms
from analysis.study.scores import collect
from analysis.study.totals import ArmTotals, unmatched


@dataclass(frozen=True)
class OpenStudy:
    """The scores of a study, the contrasts that are asked for, and what stands above them."""

    table: ScoreTable
    contrasts: Mapping[str, Mapping[str, float]]
    plan: Plan
    evidence: Evidence
    checks: Sequence[Check]

    @property
    def fairness(self) -> Table:
        """The checks for readers."""
        return fairness_table(self.checks, self.evidence.study)

    @property
    def fairness_record(self) -> list[dict[str, Any]]:
        """The checks for JSON."""
        return [check._asdict() for check in self.checks]

    def testable(self, asked: Sequence[Asked]) -> tuple[list[Asked], OpenStudy]:
        """Return what can be tested, and the study with a remark on everything that cannot.

        That is a contrast with a trained arm of one seed, or with an arm that has no scores in a place.
        Raises UserError when nothing is left.
        """
        left: list[Asked] = []
        remarks: dict[tuple[str, str], list[str]] = {}
        for one in asked:
            why = untestable(self.table, one, self.plan)
            if why:
                remarks.setdefault((one.label, why), []).append(str(one.target.cell))
            else:
                left.append(one)
        if not left:
            (label, why), _ = next(iter(remarks.items()))
            raise UserError(f"nothing can be tested in {self.table.source}: {label}: {why}")
        more = tuple(
            (label, "NOT TESTED", f"{why} ({len(cells)} of {sum(a.label == label for a in asked)} places)")
            for (label, why), cells in remarks.items()
        )
        table = dataclasses.replace(self.table, remarks=(*self.table.remarks, *more))
        return left, dataclasses.replace(self, table=table)


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


def open_study(
    results: str | Path, study: str, baselines: Sequence[str], contrasts: Sequence[str], trends: Sequence[str],
    plan: Plan,
) -> OpenStudy:  # fmt: skip
    """Return a study ready for tests; without contrasts, those of the claims of its newest declaration.

    Arms without training randomness are known from their recipes; margins that the plan leaves open are those of the
    declaration. Raises UserError for an unknown study or arm, and where neither contrasts nor claims are there.
    """
    store = ResultStore(results)
    evidence = gather(store, study, baseline=baselines[0] if baselines else None)
    checks = examine(evidence)
    options = dataclasses.replace(
        plan.options, deterministic=plan.options.deterministic | deterministic_arms(evidence.runs)
    )
    declared = stored_declarations(store, study)
    margins = dict(plan.margins) or (dict(declared[-1].study.margins) if declared else {})
    table = from_arrow(collect(store, study), f"study {study}")
    known = {cell.measure for cell in table.cells}
    plan = dataclasses.replace(plan, options=options, margins={m: v for m, v in margins.items() if m in known or not m})
    if baselines or contrasts or trends or not declared:
        if not (baselines or contrasts or trends):
            raise UserError(
                f"study {study!r} has no declared claims; give --baseline ARM or --contrast 'B - A'; arms are "
                f"{', '.join(table.arms)}"
            )
        asked = all_contrasts(table.arms, baselines, contrasts, trends)
        return OpenStudy(described(table, evidence, checks, asked), asked, plan, evidence, checks)
    asked, missing = {}, {}
    for claim in declared[-1].study.claims:
        try:
            asked[claim.contrast] = claim_weights(claim, table.arms)
        except UserError as error:
            missing[claim.contrast] = str(error)
    table = described(table, evidence, checks, asked)
    remarks = tuple((contrast, "NOT TESTED", why) for contrast, why in missing.items())
    return OpenStudy(dataclasses.replace(table, remarks=(*table.remarks, *remarks)), asked, plan, evidence, checks)


def described(
    table: ScoreTable, evidence: Evidence, checks: Sequence[Check], contrasts: Mapping[str, Mapping[str, float]]
) -> ScoreTable:
    """Return the table with what the arms of each contrast differ in, and what stands against comparing them."""
    differs, marks = {}, {}
    remarks: list[tuple[str, str, str]] = []
    for label, weights in contrasts.items():
        found = differences(evidence.runs, weights)
        alone = len(found) == 1
        differs[label] = "; ".join(f"{one}" if alone else f"{arm}: {one}" for arm, one in found.items())
        against = against_contrast(evidence.runs, evidence.totals, weights)
        if against:
            marks[label] = ", ".join(against)
        remarks += [(label, mark, why) for mark, why in against.items()]
    return dataclasses.replace(table, differs=differs, marks=marks, mark=headline(checks), remarks=tuple(remarks))


def against_contrast(
    runs: Sequence[ArmRun], totals: Sequence[ArmTotals], weights: Mapping[str, float]
) -> dict[str, str]:
    """Return the marks of a contrast with their reasons: UNMATCHED for unequal budgets, CONFOUNDED for several changes.

    Budgets are compared among the arms that have a mix.
    """
    found = {}
    used = [arm for arm in totals if weights.get(arm.arm, 0) != 0]
    if len(used) > 1:
        names = [arm.arm for arm in used]
        reference = reference_of(weights)
        wrong = unmatched(used, reference if reference in names else names[0])
        if wrong:
            found["UNMATCHED"] = "; ".join(f"{arm} has {reason}" for arm, reason in wrong.items())
    why = confounded(runs, weights)
    if why:
        found["CONFOUNDED"] = why
    return found
