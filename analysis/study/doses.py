"""Which arms of a study are doses of label noise, read from their recipes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ablate.recipe.values import plain
from ablate.records import UserError
from analysis.study.runs import ArmRun, by_arm


def doses_of(runs: Sequence[ArmRun]) -> dict[str, float]:
    """Return arm -> share of its twins that are labelled wrongly, for arms alike in all but `factors.label_noise`.

    Raises UserError where no two arms are, or where several sets of arms are.
    """
    families: dict[str, dict[str, float]] = {}
    for arm, arm_runs in by_arm(runs).items():
        recipe = plain(arm_runs[0].recipe)
        factors = dict(recipe.get("factors") or {})
        if not factors.get("reversed_views"):
            continue
        dose = float(factors.pop("label_noise", 0.0))
        families.setdefault(json.dumps({**recipe, "factors": factors}, sort_keys=True, default=str), {})[arm] = dose
    several = [doses for doses in families.values() if len(set(doses.values())) > 1]
    if len(several) != 1:
        found = " and ".join(", ".join(doses) for doses in several)
        raise UserError(
            f"the arms that differ in factors.label_noise alone are {found or 'none'}; name the doses: "
            f"--doses 'dual_view=0, label_noise_0.1=.1'"
        )
    return dict(sorted(several[0].items(), key=lambda item: item[1]))
