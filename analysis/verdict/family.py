"""The declared family of a study: what of the contrasts in their places was declared before the results."""

from __future__ import annotations

from ablate.records import UserError
from analysis.stats.contrast_rows import Asked, DeclaredFamily, Plan
from analysis.study.declared import claim_weights
from analysis.study.opened import OpenStudy, untestable
from analysis.verdict.judge import exploratory_reasons, place_of, withdrawn_claims


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
            weights = claim_weights(claim, study.table.arms)
            asked = Asked(claim.contrast, weights, place_of(study.table, claim))
        except UserError:  # the table of claims says why
            num_untestable += 1
            continue
        if untestable(study.table, asked, plan):
            num_untestable += 1
            continue
        contrasts.append(asked)
        arms = {arm for arm, weight in weights.items() if weight != 0}
        late.append(claim in withdrawn or bool(exploratory_reasons(study, claim, arms)))
    return DeclaredFamily(tuple(contrasts), tuple(late), num_untestable)
