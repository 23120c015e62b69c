"""Runs that should give the same numbers: those of one recipe that differ in one thing which the claim is not about.

Such a thing is an axis: the seed, the order of the rows, the precision, the number of threads, the device, the machine
(processor, kernels, settings, versions), or nothing at all (the same run made again elsewhere). Runs are compared only
where all other axes and the rest of the recipe agree, so that each axis stands apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ablate.recipe.values import plain
from ablate.store.manifest import Manifest
from analysis.study.checks import SEEN_IN_USED, USED
from analysis.study.evidence import Evidence
from analysis.study.runs import ArmRun

AXES = ("seed", "order", "precision", "threads", "device", "machine", "nothing")
"""Where `auto` chose another precision on another device, two of them change at once, and the runs are not compared."""

_MACHINE = tuple(name for name in USED if name not in ("device", "threads"))


class Replicate(NamedTuple):
    """A run with its value on every axis."""

    evidence: Evidence
    run: ArmRun
    on: Mapping[str, str]
    """axis -> value; for `nothing` the place among the folders of results."""
    rest: str
    """What must agree beside them."""


def replicates(evidences: Sequence[Evidence]) -> list[Replicate]:
    """Return the trained runs of some studies, each in a folder of results of its own; the others are left out.

    Raises UserError for an unknown study and for manifests that cannot be read.
    """
    return [
        _replicate(evidence, run, place)
        for place, evidence in enumerate(evidences)
        for run in evidence.runs
        if run.train is not None
    ]


def _replicate(evidence: Evidence, run: ArmRun, place: int) -> Replicate:
    assert run.train is not None
    recipe = plain(run.recipe)
    train = dict(recipe.get("train") or {})
    stages = [stage for stage in (run.train, run.evaluation) if "device" in stage.hardware]
    machine = [_machine(stage) for stage in stages]
    on = {
        "seed": str(run.seed),
        "order": str(train.pop("order", 0)),
        "precision": str(train.pop("precision", None)),
        "threads": ", ".join(dict.fromkeys(str(stage.hardware.get("threads")) for stage in stages)),
        "device": ", ".join(dict.fromkeys(str(stage.hardware.get("device")) for stage in stages)),
        "machine": _spelled(machine),
        "nothing": str(place),
    }
    return Replicate(evidence, run, on, _spelled({**recipe, "train": train}))


def _machine(stage: Manifest) -> dict[str, Any]:
    """Return what the numbers of a stage depend on beside device and threads."""
    settings = stage.hardware.get("settings") or {}
    others = {name: value for name, value in settings.items() if name not in SEEN_IN_USED}
    return {**{name: stage.hardware.get(name) for name in _MACHINE}, **others, "packages": dict(stage.packages)}


def _spelled(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def along(runs: Sequence[Replicate], axis: str) -> list[list[Replicate]]:
    """Return groups of two or more runs that differ in this axis alone, one run for each of its values.

    Where runs were made of the same recipe, seed and machine twice, the first folder's stands for both; those twins are
    the groups of the axis `nothing`.
    """
    others = [name for name in AXES if name not in (axis, "nothing")]
    groups: dict[tuple[str, ...], dict[str, Replicate]] = {}
    for run in runs:
        group = groups.setdefault((run.rest, *(run.on[name] for name in others)), {})
        group.setdefault(run.on[axis], run)
    return [list(group.values()) for group in groups.values() if len(group) > 1]
