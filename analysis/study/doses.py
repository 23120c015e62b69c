"""Which arms of a study are doses of label noise, and which one their gains are over, read from their recipes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ablate.recipe.values import plain
from ablate.records import UserError
from analysis.study.differences import between
from analysis.study.runs import ArmRun, by_arm


def reference_of_doses(runs: Sequence[ArmRun], doses: Mapping[str, float], baseline: str) -> str:
    """Return the arm that gains are over: the baseline, or where that has a dose, the arm that differs in twins alone.

    The baseline where there is no such arm: what is wrong with it is said by `analysis.stats.dose.check_doses`.
    """
    if baseline not in doses:
        return baseline
    arms = by_arm(runs)
    dosed = arms[next(iter(doses))][0].recipe
    apart = (
        arm
        for arm, arm_runs in arms.items()
        if arm not in doses and between(dosed, arm_runs[0].recipe).switches == ("factors.reversed_views",)
    )
    return next(apart, baseline)


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
