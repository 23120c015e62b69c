"""What a tuning sweep leaves: `tuning.json` for audits, and the winners as files that Hydra can load."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.recipe.values import digest
from ablate.store.files import TUNING_FILE, write_atomically
from ablate.store.provenance import now
from ablate.tuning.plan import Plan, hidden
from ablate.tuning.space import Dimension
from ablate.tuning.sweep import ArmStudy

if TYPE_CHECKING:
    import optuna


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


def format_plan(plan: Plan, arms: Sequence[ArmStudy], folder: Path) -> str:
    """Return the settings and the space of a sweep, and how many trials each arm has and lacks, as text."""
    lines = [
        f"tuning study {plan.study} in {folder}: {plan.sampler} (seed {plan.sampler_seed}), pruner {plan.pruner}, "
        f"storage {hidden(plan.storage)}; objective: {', '.join(plan.objective)}",
        *(f"space: {key} = {text}" for key, text in space_values(arms[0].dimensions).items()),
    ]
    for arm in arms:
        row = summary(arm)
        line = f"{arm.arm.name}: {row['finished']} of {row['trials']} trials finished"
        if row["pruned"] or row["failed"]:
            line += f" ({row['pruned']} pruned, {row['failed']} failed beside them)"
        if row["best"]:
            values = ", ".join(f"{value:.4f}" for value in row["best"][0]["values"].values())
            line += f"; best: trial {row['best'][0]['trial']} with {values}"
        lines.append(line)
    return "\n".join([*lines, f"to make: {sum(max(0, arm.missing) for arm in arms)} trials"])


def best_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the best complete trial, the earliest of equals, or the Pareto front of several objectives, by number."""
    if not any(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False)):
        return []
    front = sorted(study.best_trials, key=lambda trial: trial.number)
    return front[:1] if len(study.directions) == 1 else front


def write_record(plan: Plan, arms: Sequence[ArmStudy], folder: Path) -> list[Path]:
    """Bring `tuning.json` and the winners up to date, and return the winners' files of these arms.

    Arms that earlier calls tuned under the same study name stay. The winners of these arms are there only when each of
    them has all its trials, because arms that were tuned unequally must not be compared; where nothing has changed, no
    file is touched.
    """
    path, winners = folder / TUNING_FILE, folder / "winners"
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows = {arm.arm.name: summary(arm) for arm in arms}
    for name, row in rows.items():
        earlier = known.get(name, {})
        if {**earlier, "written": ""} == {**json.loads(json.dumps(row)), "written": ""}:
            row["written"] = earlier["written"]
    texts = {}
    if all(row["finished"] >= row["trials"] for row in rows.values()):
        for name, row in rows.items():
            for best in row["best"]:
                ending = "" if len(plan.objective) == 1 else f"_trial{best['trial']}"
                texts[winners / f"{name}{ending}.yaml"] = winner_text(name, row, best)
    stale = {
        winners / name for table in (known, rows) for arm in rows for name in _winner_files(table.get(arm, {}), arm)
    }
    for file in stale - set(texts):
        file.unlink(missing_ok=True)
    winners.mkdir(exist_ok=True)
    for file, text in {**texts, path: json.dumps({**known, **rows}, indent=1) + "\n"}.items():
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_atomically(file, text)
    return list(texts)


def _winner_files(row: Mapping[str, Any], arm: str) -> list[str]:
    """Return the names that the winners of an arm may have had."""
    return [f"{arm}.yaml", *(f"{arm}_trial{best['trial']}.yaml" for best in row.get("best", ()))]


def winner_text(arm: str, row: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """Return the text of a winner's file: comments with its provenance, and its values as Hydra composes them."""
    import yaml  # type: ignore[import-untyped,unused-ignore]

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
        f"# Tuned on the dev set for the arm {arm}: study {row['study']}, trial {best['trial']}, {row['finished']} of "
        f"{row['trials']} trials finished ({row['pruned']} pruned, {row['failed']} failed beside them)",
        f"# dev: {scores}",
        f"# sampler {row['sampler']} seed {row['sampler_seed']}, pruner {row['pruner']}, space {row['space_digest']}, "
        f"written {row['written']}",
    ]
    body: dict[str, Any] = {**({"defaults": groups} if groups else {}), **values}
    text: str = yaml.safe_dump(body, sort_keys=False)
    return "\n".join(re.sub(r"[\r\n]", " ", line) for line in lines) + "\n" + text
