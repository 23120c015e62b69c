"""What became of a declaration: changes between declarations, runs that are not there or not declared, late claims."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ablate.recipe.values import plain
from ablate.study.declaration import Study
from analysis.study.declared import Declaration
from analysis.study.evidence import Evidence
from analysis.study.runs import deterministic_arms
from analysis.verdict.judge import Judgement


class Deviation(NamedTuple):
    """One difference between what was declared and what is there."""

    what: str
    """`declaration`, `runs` or `claim`."""
    said: str


def deviations(evidence: Evidence, judgement: Judgement | None) -> list[Deviation]:
    """Return every deviation from the declarations of a study, in the order of time, then of runs, then of claims.

    `judgement` is None for a study whose claims cannot be judged.
    """
    log = [
        Deviation("declaration", said)
        for older, newer in itertools.pairwise(evidence.declarations)
        for said in _changes(older, newer, evidence)
    ]
    log += [Deviation("runs", said) for said in _runs(evidence)]
    if judgement is not None:
        log += [
            Deviation("claim", f"{judged.claim.name!r} is exploratory: {judged.exploratory}")
            for judged in judgement.claims
            if judged.exploratory
        ]
    return log


def _changes(older: Declaration, newer: Declaration, evidence: Evidence) -> list[str]:
    num_under = sum(older.digest in {stage.declared for stage in run.stages} for run in evidence.runs)
    when = f"declared anew {newer.declared_at}, when {num_under} runs stood under {older.digest}"
    changes = []
    for name in ("arms", "seeds"):
        before, after = getattr(older.study, name), getattr(newer.study, name)
        changes += [f"{name} left out: {_some(value for value in before if value not in after)}"]
        changes += [f"{name} added: {_some(value for value in after if value not in before)}"]
    for name in ("question", "grid", "looks", "margins", "incoherent"):
        before, after = plain(getattr(older.study, name)), plain(getattr(newer.study, name))
        changes += [f"{name} changed from {before!r} to {after!r}"] if before != after else []
    changes += _claims(older.study, newer.study)
    return [f"{change} ({when})" for change in changes if not change.endswith(": ")]


def _claims(older: Study, newer: Study) -> list[str]:
    before = {claim.name: claim for claim in older.claims}
    after = {claim.name: claim for claim in newer.claims}
    changed = []
    for name in before:
        if name in after and before[name] != after[name]:
            old, new = plain(before[name]), plain(after[name])
            keys = ", ".join(f"{key} from {old[key]!r} to {new[key]!r}" for key in old if old[key] != new[key])
            changed.append(f"claim {name!r} changed: {keys}")
    return [
        *(f"claim {name!r} withdrawn" for name in before if name not in after),
        *changed,
        *(f"claim {name!r} added" for name in after if name not in before),
    ]


def _runs(evidence: Evidence) -> list[str]:
    if evidence.declared is None:
        return ["there is no declaration"]
    free = deterministic_arms(evidence.runs)
    there = [(run.arm, run.seed) for run in evidence.runs]
    beside = {run.arm for run in evidence.runs if run.evaluation.recipe.get("stage") == "untouched"}  # trained arms
    said = []
    if evidence.cells is None:
        said.append("the cells of the declaration are not recorded, so which runs there should be is not known")
    else:
        wanted = [(cell.label, cell.seed) for cell in evidence.cells if not cell.reason]
        lacking = [cell for cell in wanted if cell not in there and cell[0] not in free]
        extra = [cell for cell in there if cell not in wanted and cell[0] not in free | beside]
        said += [f"declared and not there: {_cells(lacking)}"] if lacking else []
        said += [f"there and not declared: {_cells(extra)}"] if extra else []
    for kind, words in (("train", "trained"), ("evaluation", "measured")):
        under: dict[str, list[tuple[str, int]]] = {}
        for run in evidence.runs:
            for stage in run.stages:
                if stage.kind == kind and stage.declared != evidence.declared.digest and run.arm not in free:
                    under.setdefault(stage.declared, []).append((run.arm, run.seed))
        for declared, cells in under.items():
            what = f"under the declaration {declared}" if declared else "without a declaration"
            said.append(f"{words} {what}: {_cells(cells)}")
    return said


def _cells(cells: Sequence[tuple[str, int | None]]) -> str:
    return _some(f"{arm} seed {seed}" for arm, seed in cells)


def _some(values: Iterable[object], limit: int = 12) -> str:
    shown = [str(value) for value in values]
    return ", ".join(shown[:limit]) + (f" and {len(shown) - limit} more" if len(shown) > limit else "")
