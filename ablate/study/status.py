"""Where the cells of a study stand, by manifests and locks alone, and what the rest is going to cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from ablate.recipe.identity import Identity
from ablate.recipe.schema import RunConfig
from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.store.lock import Lock
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore, stage_label
from ablate.study.planning import Cell
from ablate.study.records import StudyRecords

State = Literal["done", "to run", "running", "failed before", "incoherent"]


def stages_of(config: RunConfig, identity: Identity) -> list[tuple[Any, dict[str, Any], str]]:
    """Return kind, full recipe and label of every stage that a run needs to be complete."""
    label, until = stage_label(config.runtime.study, config.runtime.label), config.runtime.until
    scores = ("evaluation", identity.evaluation, label)
    if config.recipe.ranker != "trained":
        return [scores] if until == "scores" else []
    stages: list[tuple[Any, dict[str, Any], str]] = [("mix", identity.mix, label)]
    if until != "mix":
        stages.append(("train", identity.train, label))
    if until == "scores":
        stages += [("evaluation", identity.untouched, stage_label(config.runtime.study, "untouched")), scores]
    return stages


def is_done(store: ResultStore, cell: Cell) -> bool:
    """Return whether every stage of a cell is complete and recorded under its name."""
    if cell.config is None or cell.identity is None:
        return False
    for kind, recipe, label in stages_of(cell.config, cell.identity):
        try:
            manifest = store.find(kind, recipe)
        except UserError:  # a damaged stage: the run says so, in its own name
            return False
        if manifest is None or label not in manifest.labels:
            return False
    if cell.config.runtime.until == "mix" and cell.config.recipe.ranker == "trained":
        try:
            workload = store.workload(cell.identity.train_id)
        except UserError:
            return False
        return workload is not None and stage_label(cell.study, cell.label) in workload.labels
    return True


def is_running(store: ResultStore, cell: Cell) -> bool:
    """Return whether a living process works on the run of a cell."""
    return cell.identity is not None and any(lock.is_held() for lock in locks_of(store, cell))


def locks_of(store: ResultStore, cell: Cell) -> tuple[Lock, ...]:
    """Return the lock that a sweeper takes on a cell, and the one that its run takes where it trains."""
    assert cell.identity is not None and cell.config is not None
    claim = store.lock(claim_name(cell))
    if cell.config.recipe.ranker != "trained":  # the training that its configuration describes is another cell's
        return (claim,)
    return claim, store.lock(f"run-{cell.identity.train_id}")


def claim_name(cell: Cell) -> str:
    """Return the name of the lock that a sweeper takes on a cell; cells with the same evaluation id share it."""
    assert cell.identity is not None
    return f"cell-{cell.identity.eval_id}"


def state_of(store: ResultStore, cell: Cell) -> State:
    """Return where a cell stands, by the results."""
    if cell.config is None:
        return "incoherent"
    if is_done(store, cell):
        return "done"
    if is_running(store, cell):
        return "running"
    if StudyRecords(store, cell.study).failure_file(cell.label, cell.config.seed).is_file():
        return "failed before"
    return "to run"


def estimate(store: ResultStore, cells: Iterable[Cell]) -> None:
    """Set what each cell takes, by the manifests of runs with the same model, training and budget.

    Seconds of training and of evaluation: the mean over runs of the same arm, else over all of these, else unknown. Of
    a ranker that trains nothing: of its evaluation on the same sets, else on others.
    """
    mixes = {manifest.id: manifest for manifest in store.manifests("mix")}
    evaluations: dict[str, list[float]] = {}
    rankings: dict[str, list[float]] = {}
    for manifest in store.manifests("evaluation"):
        for parent in manifest.parents:
            evaluations.setdefault(parent, []).append(manifest.cost.get("wall_s", 0.0))
        for kind in _kinds_of_ranker(manifest.recipe) if "wall_s" in manifest.cost else ():
            rankings.setdefault(kind, []).append(manifest.cost["wall_s"])
    known: dict[tuple[str, str], list[float]] = {}
    for manifest in store.manifests("train"):
        mix = mixes.get(manifest.parents[0]) if manifest.parents else None
        if mix is None:
            continue
        spent = manifest.cost.get("train_s", 0.0) + fmean(evaluations.get(manifest.id, [0.0]))
        kind = _kind(manifest, mix)
        for arm in {"", *(label.partition("/")[2] for label in manifest.labels)}:
            known.setdefault((kind, arm), []).append(spent)
    for cell in cells:
        if cell.identity is None or cell.config is None:
            continue
        if cell.config.recipe.ranker != "trained":
            own, others = _kinds_of_ranker(cell.identity.evaluation)
            times = rankings.get(own) or rankings.get(others)
        else:
            train, mix_recipe = cell.identity.train, cell.identity.mix
            kind = digest([train["model"], train["train"], mix_recipe["budget"]])
            times = known.get((kind, cell.label)) or known.get((kind, ""))
        cell.estimate_s = fmean(times) if times else None


def _kind(train: Manifest, mix: Manifest) -> str:
    return digest([train.recipe.get("model"), train.recipe.get("train"), mix.recipe.get("budget")])


def _kinds_of_ranker(recipe: Mapping[str, Any]) -> tuple[str, str]:
    """Return what evaluations by one ranker have in common, whatever the seed: on the same sets, and on any."""
    own = {name: value for name, value in recipe.items() if name not in ("seed", "vocabulary")}
    return digest(own), digest({name: value for name, value in own.items() if name != "evaluation"})


def format_plan(store: ResultStore, cells: Sequence[Cell], workers: int = 1) -> str:
    """Return the plan as text: a line for each cell with its state, and what the rest is going to take."""
    lines, counts = [], dict[str, int]()
    left: list[float | None] = []
    width = max((len(cell.name) for cell in cells), default=0)
    for cell in cells:
        state = state_of(store, cell)
        counts[state] = counts.get(state, 0) + 1
        note = ""
        if state == "incoherent":
            note = cell.reason
        elif state == "running":
            note = "by another process"
        elif cell.same_as:
            note = f"same as {cell.same_as}"
        elif state != "done":
            left.append(cell.estimate_s)
            note = duration(cell.estimate_s)
        if state == "failed before":
            assert cell.config is not None
            note += f"; traceback: {StudyRecords(store, cell.study).failure_file(cell.label, cell.config.seed)}"
        lines.append(f"{cell.name.ljust(width)}  {state:<13}  {note}".rstrip())
    lines.append(f"{len(cells)} cells: " + ", ".join(f"{number} {state}" for state, number in counts.items()))
    known = [seconds for seconds in left if seconds is not None]
    if left:
        text = f"to make: {len(left)} runs, "
        text += duration(sum(known) / workers) if known else "cost unknown (no earlier run of this model and budget)"
        text += f" on {workers} workers" if workers > 1 and known else ""
        unknown = len(left) - len(known)
        lines.append(text + (f", and {unknown} of unknown cost" if known and unknown else ""))
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Return a time for people: `about 40 s`, `about 12 min`, `about 3.5 h`, or `unknown`."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
