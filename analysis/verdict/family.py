"""The declared family of a study: what of the contrasts in their places was declared before the results."""

from __future__ import annotations

from ablate.records import UserError
from analysis.stats.families import DeclaredFamily, Plan
from analysis.study.opened import OpenStudy, untestable
from analysis.verdict.judge import asked_by, exploratory_reasons, withdrawn_claims


def declared_family(study: OpenStudy, plan: Plan) -> DeclaredFamily:
    """Return the contrasts of all declared claims, withdrawn ones too; nothing for a study without a declaration.

    One whose declaration came after results is told as late. `plan` says how they are tested.
    """
    declared = study.evidence.declared
    if declared is None:
        return DeclaredFamily()
    contrasts, late, num_untestable = [], [], 0
    withdrawn = withdrawn_claims(study.evidence)
    for claim in (*declared.study.claims, *withdrawn):
        try:
            asked = asked_by(claim, study.table)
            asked.groupings()
        except UserError:  # the table of claims says why
            num_untestable += 1
            continue
        if untestable(study.table, asked, plan):
            num_untestable += 1
            continue
        contrasts.append(asked)
        arms = {arm for arm, weight in asked.weights.items() if weight != 0}
        late.append(claim in withdrawn or bool(exploratory_reasons(study, claim, arms)))
    return DeclaredFamily(tuple(contrasts), tuple(late), num_untestable)
