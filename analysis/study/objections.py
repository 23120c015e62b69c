"""Which objection to a result an arm answers, as its file in `conf/experiment/` says (`runtime.objection`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from ablate.project import CONF
from analysis.study.evidence import Evidence

_VALUE = re.compile(r"\\\$\\\{[^}]*\\\}")
"""A value in the label of an arm, such as the dose of `label_noise_${factors.label_noise}`, after `re.escape`."""


@dataclass(frozen=True)
class Objector:
    """A shipped arm that answers an objection."""

    experiment: str
    """Its name in `conf/experiment/`."""
    objection: str
    label: str
    """What its runs are called; it may have values in it, as `${…}`."""

    def is_called(self, arm: str) -> bool:
        """Return whether a run of this arm has such a name where it was given no other one."""
        return re.fullmatch(_VALUE.sub(".+", re.escape(self.label)), arm) is not None


@cache
def objectors() -> tuple[Objector, ...]:
    """Return the arms of `conf/experiment/` that answer an objection, by their names."""
    found = []
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        runtime: Mapping[str, Any] = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("runtime") or {}
        if runtime.get("objection"):
            found.append(Objector(path.stem, str(runtime["objection"]), str(runtime.get("label", path.stem))))
    return tuple(found)


def answered(evidence: Evidence) -> dict[str, Objector]:
    """Return arm of a study -> what it answers, of its arms with scores: by its declared experiment, else by its name.

    Raises UserError as `Evidence` does.
    """
    experiments = _experiments(evidence)
    answers = {}
    for arm in dict.fromkeys(run.arm for run in evidence.runs):
        for known in objectors():
            if experiments.get(arm, "") == known.experiment or (arm not in experiments and known.is_called(arm)):
                answers[arm] = known
    return answers


def _experiments(evidence: Evidence) -> dict[str, str]:
    """Return label -> the experiment that it was declared with; empty where cells are not recorded."""
    if evidence.declared is None or evidence.cells is None:
        return {}
    overrides = list(evidence.declared.study.cells())
    if len(overrides) != len(evidence.cells):
        return {}
    pairs = zip(overrides, evidence.cells, strict=True)
    return {cell.label: words[0].removeprefix("+experiment=") for words, cell in pairs}
