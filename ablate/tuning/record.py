"""What a tuning sweep leaves: `tuning.json` for audits, and the winners as files that Hydra can load."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config import digest
from ablate.results import now, write_atomically
from ablate.tuning.plan import Plan, hidden
from ablate.tuning.space import Dimension
from ablate.tuning.sweep import ArmStudy

if TYPE_CHECKING:
    import optuna

TUNING_FILE = "tuning.json"


def space_values(dimensions: Mapping[str, Dimension]) -> dict[str, str]:
    """Return a space as key to text."""
    return {key: str(dimension) for key, dimension in dimensions.items()}


def summary(arm: ArmStudy) -> dict[str, Any]:
    """Return what tuning gave one arm: trials wanted and finished, space, settings and the best trials.

    `best` is a list: one trial for one objective, the Pareto front for several, none when no trial is complete.
    """
    plan, trials = arm.plan, arm.study.get_trials(deepcopy=False)
    count = {state: sum(trial.state.name == state for trial in trials) for state in ("COMPLETE", "PRUNED", "FAIL")}
    best = [
        {"trial": trial.number, "values": dict(zip(plan.objective, trial.values, strict=True)), "params": trial.params}
        for trial in best_trials(arm.study)
    ]
    space = space_values(arm.dimensions)
    return {
        "trials": arm.target,
        "finished": count["COMPLETE"] + count["PRUNED"],
        "pruned": count["PRUNED"],
        "failed": count["FAIL"],
        "space": space,
        "space_digest": digest(space),
        "best": best,
        "study": arm.study.study_name,
        "sampler": plan.sampler,
        "sampler_seed": plan.sampler_seed,
        "pruner": plan.pruner,
        "directions": list(plan.all_directions),
        "declared": dict(arm.arm.declared),
        "overrides": list(arm.arm.overrides),
        "storage": hidden(plan.storage),
        "written": now(),
    }


def best_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the best complete trial, the earliest of equals, or the Pareto front of several objectives, by number."""
    if not any(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False)):
        return []
    front = sorted(study.best_trials, key=lambda trial: trial.number)
    return front[:1] if len(study.directions) == 1 else front


def write_record(plan: Plan, arms: Sequence[ArmStudy], folder: Path) -> list[Path]:
    """Write `tuning.json`, and the winners once every arm has all its trials; return the winners' files.

    Until then winners of an earlier, smaller call stay away, because arms that are tuned unequally must not be compared.
    """
    found = {arm.arm.name: summary(arm) for arm in arms}
    write_atomically(folder / TUNING_FILE, json.dumps(found, indent=1) + "\n")
    winners = folder / "winners"
    for path in winners.glob("*.yaml"):
        path.unlink()
    if any(one["finished"] < one["trials"] for one in found.values()):
        return []
    winners.mkdir(exist_ok=True)
    written = []
    for name, one in found.items():
        for best in one["best"]:
            path = winners / (f"{name}.yaml" if len(plan.objective) == 1 else f"{name}_trial{best['trial']}.yaml")
            write_atomically(path, winner_text(name, one, best))
            written.append(path)
    return written


def winner_text(arm: str, one: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """Return the text of a winner's file: its provenance as comments, its values at their places in the configuration."""
    import yaml

    values: dict[str, Any] = {}
    groups = []
    for key, value in best["params"].items():
        if "." not in key:
            groups.append({f"override /{key}": value})
            continue
        place = values
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    scores = ", ".join(f"{name} = {value:.6g}" for name, value in best["values"].items())
    lines = [
        "# @package _global_",
        f"# Tuned on the dev set for the arm {arm}: study {one['study']}, trial {best['trial']}, {one['finished']} of "
        f"{one['trials']} trials finished ({one['pruned']} pruned, {one['failed']} failed beside them)",
        f"# dev: {scores}",
        f"# sampler {one['sampler']} seed {one['sampler_seed']}, pruner {one['pruner']}, space {one['space_digest']}, "
        f"written {one['written']}",
    ]
    body: dict[str, Any] = {**({"defaults": groups} if groups else {}), **values}
    return "\n".join(re.sub(r"[\r\n]", " ", line) for line in lines) + "\n" + yaml.safe_dump(body, sort_keys=False)
