"""The single checks of `analysis.fairness`: each looks at the evidence and says whether it holds and what was found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from ablate.config import diff
from ablate.evaluation.storage import NOTES_FILE
from ablate.records import UserError
from ablate.results import FOLDERS, Manifest, ResultStore
from ablate.stored import read_json
from ablate.study import Study
from analysis.budgets import ArmTotals, idle_factors, same_recipes, unmatched
from analysis.collect import read_columns
from analysis.declared import expected_runs
from analysis.runs import ArmRun, by_arm, deterministic_arms, seeds_of

UNITS = ("dataset", "condition", "direction", "measure", "unit_id")
_TEXTS = pa.schema([(name, pa.string()) for name in UNITS])


@dataclass(frozen=True)
class Evidence:
    """Everything that the checks read, gathered once."""

    store: ResultStore
    study: str
    runs: Sequence[ArmRun]
    totals: Sequence[ArmTotals]
    """Of the arms that have a mix and scores."""
    baseline: str
    """Arm that budgets are matched against."""
    declared: Study | None
    with_models: bool = False
    """Read trained models too when looking for damaged files."""

    @property
    def stages(self) -> list[Manifest]:
        """Every stage of every run once, in the order of the runs."""
        return list({(one.kind, one.id): one for run in self.runs for one in run.stages}.values())


def _missing(evidence: Evidence) -> tuple[bool, str]:
    if evidence.declared is None:
        return True, "no declaration: which runs there should be is not known"
    wanted = expected_runs(evidence.declared)
    there = {(run.arm, run.seed) for run in evidence.runs}
    free = deterministic_arms(evidence.runs)  # one run stands for all seeds
    lacking = [cell for cell in dict.fromkeys(wanted) if cell not in there and cell[0] not in free]
    extra = sorted({arm for arm, _ in there} - {arm for arm, _ in wanted} - free)
    beside = f"; not declared: {_some(extra)}" if extra else ""
    if lacking:
        shown = _some(f"{arm} seed {seed}" for arm, seed in lacking)
        return False, f"{len(lacking)} of {len(wanted)} declared runs have no scores: {shown}{beside}"
    return True, f"all {len(wanted)} declared runs are there{beside}"


def _one_recipe(evidence: Evidence) -> tuple[bool, str]:
    wrong = []
    for arm, runs in by_arm(evidence.runs).items():
        keys = dict.fromkeys(key for run in runs for key in diff(runs[0].recipe, run.recipe))
        if keys:
            wrong.append(f"{arm} differs between its seeds in {_some(keys)}")
    return not wrong, "; ".join(wrong) or "every arm has one recipe in all of its seeds"


def _same_seeds(evidence: Evidence) -> tuple[bool, str]:
    seeds = seeds_of(evidence.runs, deterministic_arms(evidence.runs))
    groups = _grouped((found, arm) for arm, found in seeds.items())
    if len(groups) <= 1:
        return True, f"seeds {_numbers(next(iter(groups), ()))} in {len(seeds)} trained arms"
    return False, "; ".join(f"seeds {_numbers(found)}: {_some(arms)}" for found, arms in groups.items())


def _same_units(evidence: Evidence) -> tuple[bool, str]:
    units: dict[tuple[str, int], pa.Table] = {}
    groups: dict[tuple[str, int], list[tuple[str, int]]] = {}
    unread = []
    for run in evidence.runs:
        read = _columns(evidence.store, run, UNITS)
        if read is None:
            unread.append((run.arm, run.seed))
            continue
        table = read.cast(_TEXTS).sort_by([(name, "ascending") for name in UNITS])
        known = next((key for key, other in units.items() if other.equals(table)), None)
        if known is None:
            units[run.arm, run.seed] = table
        groups.setdefault(known or (run.arm, run.seed), []).append((run.arm, run.seed))
    if unread:
        return False, f"the scores of {_runs(unread)} cannot be read"
    if len(groups) == 1:
        first = next(iter(units.values()))
        return True, f"{len(first):,} values of the same units in each of {len(evidence.runs)} runs"
    shown = (f"{len(units[key]):,} values in {_runs(members)}" for key, members in groups.items())
    return False, "unlike units: " + "; ".join(shown)


def _finite(evidence: Evidence) -> tuple[bool, str]:
    wrong = []
    for run in evidence.runs:
        read = _columns(evidence.store, run, ("value",))
        if read is None:
            wrong.append(f"{run.arm} seed {run.seed}: cannot be read")
            continue
        values = read["value"]
        count = len(values) - (pc.sum(pc.is_finite(values)).as_py() or 0)
        if count:
            wrong.append(f"{run.arm} seed {run.seed}: {count:,} of {len(values):,}")
    return not wrong, f"values that are no number: {_some(wrong)}" if wrong else "every value is a finite number"


def _candidates(evidence: Evidence) -> tuple[bool, str]:
    notes = [(run, _notes(evidence.store, run).get("candidates")) for run in evidence.runs]
    known = {json.dumps(found, sort_keys=True) for _, found in notes if found}
    return _equal("candidate lists", [(run, json.dumps(found, sort_keys=True)) for run, found in notes if found],
                  [run for run, found in notes if not found], f"{len(known)} list(s) of documents")  # fmt: skip


def _notes(store: ResultStore, run: ArmRun) -> dict[str, Any]:
    """Return the notes of an evaluation, none for a file that cannot be read (it is among the damaged ones)."""
    if NOTES_FILE not in run.evaluation.content_sha256:
        return {}
    try:
        notes = read_json(store.checked(run.evaluation, NOTES_FILE), store.remedy(run.evaluation))
    except UserError:
        return {}
    return notes if isinstance(notes, dict) else {}


def _protocol(evidence: Evidence) -> tuple[bool, str]:
    """Compare how the arms are evaluated, without the place of the documents: their lists are compared by content.

    The batch of an encoder is compared among the arms that have one: BM25 has none.
    """
    known, unknown = [], []
    for run in evidence.runs:
        found = run.evaluation.recipe.get("evaluation")
        if found:
            known.append((run, {name: value for name, value in found.items() if name != "source"}))
        else:
            unknown.append(run)
    batches = [found["batch_size"] for _, found in known if "batch_size" in found]
    for _, found in known:
        if batches:
            found.setdefault("batch_size", batches[0])
    keys = dict.fromkeys(key for _, found in known for key in diff(known[0][1], found)) if known else {}
    what = _some(keys) if keys else "sets, depth and batch size"
    return _equal(what, [(run, json.dumps(found, sort_keys=True)) for run, found in known], unknown, "one protocol")


def _code(evidence: Evidence) -> tuple[bool, str]:
    stages = evidence.stages
    commits = _grouped((one.git.get("commit") or "none", f"{one.kind} {one.id}") for one in stages)
    dirty = [one for one in stages if one.git.get("dirty") is not False]
    parts = [f"commit {str(next(iter(commits), ''))[:10]} in {len(stages)} stages"]
    if len(commits) > 1:
        parts = [f"{len(commits)} commits: " + ", ".join(f"{c[:10]} ({len(n)} stages)" for c, n in commits.items())]
    if "none" in commits:
        parts.append(f"{len(commits['none'])} stages without a commit")
    if dirty:
        parts.append(f"{len(dirty)} stages of a working tree with changes, or not known to be without")
    return len(commits) == 1 and "none" not in commits and not dirty, "; ".join(parts)


def _packages(evidence: Evidence) -> tuple[bool, str]:
    versions: dict[str, dict[str, int]] = {}
    for one in evidence.stages:
        for name, version in one.packages.items():
            versions.setdefault(name, {}).setdefault(version, 0)
            versions[name][version] += 1
    wrong = [f"{name} {', '.join(found)}" for name, found in versions.items() if len(found) > 1]
    return not wrong, "; ".join(wrong) or f"one version of each of {len(versions)} packages"


def _devices(evidence: Evidence) -> tuple[bool, str]:
    used = [one for one in evidence.stages if "device" in one.hardware]
    names = ("device", "device_name", "threads")
    groups = _grouped((tuple(str(one.hardware.get(name)) for name in names), one.id) for one in used)
    shown = "; ".join(f"{device} ({model}), {threads} threads in {len(ids)} stages"
                      for (device, model, threads), ids in groups.items())  # fmt: skip
    return len(groups) <= 1, shown or "no stage says what it was computed on"


def _budgets(evidence: Evidence) -> tuple[bool, str]:
    if len(evidence.totals) < 2:
        return True, "fewer than two arms with a mix"
    wrong = unmatched(evidence.totals, evidence.baseline)
    shown = "; ".join(f"{arm} UNMATCHED: {reason}" for arm, reason in wrong.items())
    return not wrong, shown or f"{len(evidence.totals)} arms are equal to {evidence.baseline} in {_units(evidence)}"


def _units(evidence: Evidence) -> str:
    return next(arm.budget.unit for arm in evidence.totals if arm.arm == evidence.baseline)


def _mixes(evidence: Evidence) -> tuple[bool, str]:
    wrong = idle_factors(evidence.totals)
    return not wrong, "; ".join([*wrong, *same_recipes(evidence.totals)]) or "other recipes have other mixes"


def _tuning(evidence: Evidence) -> tuple[bool, str]:
    trials = {arm: count for arm, count in tuning_trials(evidence.store).items() if arm in by_arm(evidence.runs)}
    if not trials:
        return True, "not tuned: no arm has trials"
    trained = [arm for arm in by_arm(evidence.runs) if arm not in deterministic_arms(evidence.runs)]
    groups = _grouped((trials.get(arm, 0), arm) for arm in trained)
    return len(groups) <= 1, "; ".join(f"{count} trials: {_some(arms)}" for count, arms in groups.items())


def tuning_trials(store: ResultStore) -> dict[str, int]:
    """Return arm -> finished trials that its values were chosen from, by the `tuning.json` of every tuning study."""
    found: dict[str, int] = {}
    for path in sorted((store.root / "tuning").glob("*/tuning.json")):
        for arm, record in json.loads(path.read_text(encoding="utf-8")).items():
            found[arm] = found.get(arm, 0) + int(record["finished"])
    return found


def _damaged(evidence: Evidence) -> tuple[bool, str]:
    wrong: list[str] = []
    counts: dict[str, int] = {}
    for one in tqdm(evidence.stages, desc="files", disable=not sys.stderr.isatty(), leave=False):
        place = f"{FOLDERS[one.kind]}/{one.id}"
        for name in one.content_sha256:
            unread = one.kind == "train" and name.startswith("model/") and not evidence.with_models
            fault = evidence.store.fault(one, name, with_content=not unread)
            if fault:
                wrong.append(f"{place}/{name} {fault}")
            counts["there" if unread else "read"] = counts.get("there" if unread else "read", 0) + 1
    if wrong:
        return False, _some(wrong)
    beside = f"; {counts['there']} model files are there, their content was not read" if "there" in counts else ""
    return True, f"{counts.get('read', 0)} files have their recorded digests{beside}"


CHECKS: tuple[tuple[str, Callable[[Evidence], tuple[bool, str]]], ...] = (
    ("no declared run is missing", _missing),
    ("one recipe per arm", _one_recipe),
    ("same seeds in all trained arms", _same_seeds),
    ("same units", _same_units),
    ("every value is a number", _finite),
    ("same candidate documents", _candidates),
    ("same protocol", _protocol),
    ("same budget", _budgets),
    ("no factor without effect", _mixes),
    ("same tuning", _tuning),
    ("same code", _code),
    ("same packages", _packages),
    ("same device and threads", _devices),
    ("no damaged file", _damaged),
)


def _columns(store: ResultStore, run: ArmRun, names: Sequence[str]) -> pa.Table | None:
    """Return columns of the scores of a run, None for a file that cannot be read (it is among the damaged ones)."""
    try:
        return read_columns(store, run.evaluation, names)
    except UserError:
        return None


def _equal(what: str, known: Sequence[tuple[ArmRun, str]], unknown: Sequence[ArmRun], one: str) -> tuple[bool, str]:
    """Return whether all runs that say something say the same; those that say nothing are named."""
    groups = _grouped((text, run) for run, text in known)
    beside = f"; not recorded: {_some(dict.fromkeys(run.arm for run in unknown))}" if unknown else ""
    if len(groups) <= 1:
        return True, (f"{one} for {len(known)} runs" if known else "nothing is recorded") + beside
    usual = max(groups.values(), key=len)
    others = [run for members in groups.values() if members is not usual for run in members]
    unlike = _runs([(run.arm, run.seed) for run in others])
    return False, f"{what} differ in {unlike} from {len(usual)} other runs{beside}"


def _grouped(items: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for key, member in items:
        groups.setdefault(key, []).append(member)
    return groups


def _runs(members: Sequence[tuple[str, int]]) -> str:
    return _some(f"{arm} ({_numbers(seeds)})" for arm, seeds in _grouped(members).items())


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


def _some(names: Iterable[str], limit: int = 6) -> str:
    known = list(names)
    return ", ".join(known[:limit]) + (f" and {len(known) - limit} more" if len(known) > limit else "")
