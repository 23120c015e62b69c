"""The single checks of `analysis.fairness`: each looks at the evidence and says whether it holds and what was found."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from ablate.evaluation.storage import judgments_digest, read_judgments
from ablate.recipe.values import diff, flatten
from ablate.records import UserError
from ablate.store.files import FOLDERS, JUDGMENTS_FILE, NOTES_FILE
from ablate.store.integrity import read_json
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore
from analysis.stats.seeds_apart import LEAST_SEEDS, seeds_apart
from analysis.study.composition import look_at_changes
from analysis.study.evidence import Evidence
from analysis.study.leak_check import no_leak
from analysis.study.runs import ArmRun, deterministic_arms, seeds_of
from analysis.study.scores import UNITS, Scores
from analysis.study.totals import idle_factors, same_recipes, unmatched
from analysis.study.words import grouped, numbers, runs_in_words, some

_TEXTS = pa.schema([(name, pa.string()) for name in UNITS])


def _missing(evidence: Evidence) -> tuple[bool, str]:
    if evidence.declared is None:
        return True, "no declaration: which runs there should be is not known"
    if evidence.cells is None:
        return True, (
            "the cells of the declaration are not recorded, so which runs there should be is not known; issuing the "
            "study's command again records them and makes no run twice"
        )
    there: set[tuple[str, int | None]] = {(run.arm, run.seed) for run in evidence.runs}
    senseless, wanted = list[str](), list[tuple[str, int | None]]()
    for cell in evidence.cells:
        is_listed = bool(cell.reason) and evidence.declared.study.incoherent == "list"
        if is_listed and (cell.label, cell.seed) not in there:
            senseless.append(cell.label)
        else:
            wanted.append((cell.label, cell.seed))
    free = deterministic_arms(evidence.runs)  # one run stands for all seeds
    lacking = [cell for cell in dict.fromkeys(wanted) if cell not in there and cell[0] not in free]
    extra = sorted({arm for arm, _ in there} - {arm for arm, _ in wanted} - free)
    beside = f"; not declared: {some(extra)}" if extra else ""
    if senseless:
        beside += f"; combinations that make no sense: {some(dict.fromkeys(senseless))}"
    if lacking:
        shown = some(f"{arm} seed {'?' if seed is None else seed}" for arm, seed in lacking)
        return False, f"{len(lacking)} of {len(wanted)} declared runs have no scores: {shown}{beside}"
    return True, f"all {len(wanted)} declared runs are there{beside}"


def _one_recipe(evidence: Evidence) -> tuple[bool, str]:
    wrong = []
    for arm, runs in evidence.arms.items():
        keys = dict.fromkeys(key for run in runs for key in diff(runs[0].recipe, run.recipe))
        if keys:
            wrong.append(f"{arm} differs between its seeds in {some(keys)}")
    return not wrong, "; ".join(wrong) or "every arm has one recipe in all of its seeds"


def _same_seeds(evidence: Evidence) -> tuple[bool, str]:
    """Compare the seeds of arms that were trained, here or elsewhere; what is drawn at random without is only told."""
    seeds = seeds_of(evidence.runs, deterministic_arms(evidence.runs))
    drawn = {run.arm for run in evidence.runs if run.evaluation.recipe.get("stage") in ("ranker", "untouched")}
    groups = grouped((arm_seeds, arm) for arm, arm_seeds in seeds.items() if arm not in drawn)
    beside = "".join(f"; not trained: {arm} (seeds {numbers(seeds[arm])})" for arm in seeds if arm in drawn)
    if len(groups) <= 1:
        return True, f"seeds {numbers(next(iter(groups), ()))} in {len(seeds.keys() - drawn)} trained arms{beside}"
    return False, "; ".join(f"seeds {numbers(arm_seeds)}: {some(arms)}" for arm_seeds, arms in groups.items()) + beside


def _same_units(evidence: Evidence) -> tuple[bool, str]:
    """Compare the units of every data set among the runs that have scores there; who has none is told."""
    by_table: dict[int, dict[str, pa.Table]] = {}
    units: dict[str, list[pa.Table]] = {}
    groups: dict[str, dict[int, list[tuple[str, int]]]] = {}
    sizes, unread = set(), []
    for run in evidence.runs:
        read = _scores(evidence, run)
        if read is None:
            unread.append((run.arm, run.seed))
            continue
        sizes.add(len(read.units))
        names = run.evaluation.dataset_names(evidence.study)
        if id(read.units) not in by_table:
            by_table[id(read.units)] = _by_dataset(read.units)
        for recorded, table in by_table[id(read.units)].items():
            dataset = names.get(recorded, recorded)
            known = units.setdefault(dataset, [])
            place = next((number for number, other in enumerate(known) if other.equals(table)), len(known))
            if place == len(known):
                known.append(table)
            groups.setdefault(dataset, {}).setdefault(place, []).append((run.arm, run.seed))
    if unread:
        return False, f"the scores of {runs_in_words(unread)} cannot be read"
    for dataset, unit_groups in groups.items():
        if len(unit_groups) > 1:
            shown = (
                f"{len(units[dataset][place]):,} values in {runs_in_words(members)}"
                for place, members in unit_groups.items()
            )
            return False, f"unlike units of {dataset}: " + "; ".join(shown)
    everyone = [(run.arm, run.seed) for run in evidence.runs]
    without = [
        f"{runs_in_words([arm_seed for arm_seed in everyone if arm_seed not in unit_groups[0]])} without {dataset}"
        for dataset, unit_groups in groups.items()
        if len(unit_groups[0]) < len(everyone)
    ]
    counts = f"{max(sizes, default=0):,} values of the same units in each of {len(everyone)} runs"
    return True, "; ".join([counts if len(sizes) <= 1 else "the same units wherever runs have scores", *without])


def _by_dataset(units: pa.Table) -> dict[str, pa.Table]:
    """Return data set -> its units in a fixed order."""
    texts = units.cast(_TEXTS)
    parts = {}
    for name in pc.unique(texts["dataset"]).to_pylist():
        part = texts.filter(pc.equal(texts["dataset"], name)).drop_columns("dataset")
        parts[name] = part.sort_by([(column, "ascending") for column in part.column_names])
    return parts


def _finite(evidence: Evidence) -> tuple[bool, str]:
    wrong = []
    for run in evidence.runs:
        read = _scores(evidence, run)
        if read is None:
            wrong.append(f"{run.arm} seed {run.seed}: cannot be read")
            continue
        values = read.values
        count = len(values) - (pc.sum(pc.is_finite(values)).as_py() or 0)
        if count:
            wrong.append(f"{run.arm} seed {run.seed}: {count:,} of {len(values):,}")
    return not wrong, f"values that are no number: {some(wrong)}" if wrong else "every value is a finite number"


def _candidates(evidence: Evidence) -> tuple[bool, str]:
    """Compare the lists of documents of every data set among the runs that were measured there."""
    notes = [(run, _candidate_lists(evidence, run)) for run in evidence.runs]
    told = [run for run, lists in notes if not lists]
    datasets = dict.fromkeys(name for _, lists in notes for name in lists or ())
    for name in datasets:
        same, said = _equal(
            f"candidate lists of {name}",
            [(run, lists[name]) for run, lists in notes if lists and name in lists],
            told,
            "one list",
        )
        if not same:
            return False, said
    return _equal("", [(run, "") for run, lists in notes if lists], told, f"{len(datasets)} list(s) of documents")


def _candidate_lists(evidence: Evidence, run: ArmRun) -> dict[str, str]:
    """Return data set, as this study calls it -> digest of its candidates; empty where none was written."""
    names = run.evaluation.dataset_names(evidence.study)
    candidates: dict[str, str] = _notes(evidence.store, run).get("candidates") or {}
    return {names.get(name, name): lists for name, lists in candidates.items()}


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

    What an arm cannot have is not asked of it: BM25 has no batch, imported rankings have nothing but their depth. All
    of them are compared in their judgments, where these are kept.
    """
    known, unknown = [], []
    digests = judgments_by_run(evidence)
    for run in evidence.runs:
        settings = run.evaluation.recipe.get("evaluation")
        if settings:
            own = {name: value for name, value in settings.items() if name not in ("source", "judgments")}
            names = run.evaluation.dataset_names(evidence.study)
            judged = digests.get(run.evaluation.id, {})
            kept = {f"judgments of {names.get(name, name)}": value for name, value in judged.items()}
            known.append((run, {**own, **kept}))
        else:
            unknown.append(run)
    here = next((settings for run, settings in known if run.evaluation.recipe.get("stage") != "imported"), {})
    usual = {
        key: settings[key] for _, settings in reversed(known) for key in settings if key.startswith("judgments of ")
    }
    usual |= {key: settings[key] for _, settings in reversed(known) for key in settings if key == "batch_size"}
    for run, settings in known:
        cannot = here if run.evaluation.recipe.get("stage") == "imported" else {}
        for key, value in {**cannot, **usual}.items():
            settings.setdefault(key, value)
    keys = dict.fromkeys(key for _, settings in known for key in diff(known[0][1], settings)) if known else {}
    what = some(keys) if keys else "sets, depth, batch size and judgments"
    return _equal(
        what, [(run, json.dumps(settings, sort_keys=True)) for run, settings in known], unknown, "one protocol"
    )


def judgments_by_run(evidence: Evidence) -> dict[str, dict[str, str]]:
    """Return id of an evaluation -> dataset -> digest of its judgments; without those that do not keep them.

    How a set was posed to a model stands beside its judgments (provenance) and is no part of them.
    """
    digests: dict[str, dict[str, str]] = {}
    by_content: dict[str, dict[str, str]] = {}
    for evaluation in {run.evaluation.id: run.evaluation for run in evidence.runs}.values():
        content = evaluation.content_sha256.get(JUDGMENTS_FILE)
        if content is None:
            continue
        if content not in by_content:
            try:
                sets = read_judgments(evidence.store.checked(evaluation, JUDGMENTS_FILE).parent)
            except (UserError, OSError):  # it is among the damaged files
                continue
            bare = {name: dataclasses.replace(one_set, provenance={}) for name, one_set in sets.items()}
            by_content[content] = {name: judgments_digest(one_set) for name, one_set in bare.items()}
        digests[evaluation.id] = by_content[content]
    return digests


def _code(evidence: Evidence) -> tuple[bool, str]:
    """Compare the code that made the stages, by its content; by commit where a manifest is older than that record.

    Documents, tests and files of sweeps/ and conf/ change no number that the recipes do not tell.
    """
    stages = evidence.stages
    clean = [stage.git for stage in stages if stage.git.get("code") and not stage.git.get("changed")]
    content = {git.get("commit"): git["code"] for git in clean}
    states: dict[str, list[Manifest]] = {}
    unknown = []
    for stage in stages:
        commit = stage.git.get("commit")
        if stage.git.get("code"):
            states.setdefault(stage.git["code"], []).append(stage)
        elif commit and stage.git.get("dirty") is False:
            states.setdefault(content.get(commit, commit), []).append(stage)
        else:
            unknown.append(stage)
    commits = grouped((_named(stage.git), stage) for stage in stages)
    shown = ", ".join(f"{commit} ({len(members)} stages)" for commit, members in commits.items())
    changed = some(dict.fromkeys(path for stage in stages for path in stage.git.get("changed") or ()))
    ok = len(states) <= 1 and not unknown
    if len(states) > 1:
        parts = [f"{len(states)} states of the code, commits {shown}"]
    else:
        parts = [("one state of the code, " if ok and len(commits) > 1 else "") + f"commit {shown}"]
    if unknown:
        parts.append(f"{len(unknown)} stages of a working tree with changes, or not known to be without")
    if changed:
        parts.append(f"uncommitted: {changed}; commit them" + ("" if ok else " and run the stages of other code again"))
    elif not ok:
        parts.append("commit what has changed and run again what was made by other code")
    return ok, "; ".join(parts)


def _named(git: Mapping[str, Any]) -> str:
    """Return the commit of a stage's code, or the release that was installed."""
    return str(git.get("commit") or git.get("release") or "none")[:10]


def _packages(evidence: Evidence) -> tuple[bool, str]:
    versions: dict[str, dict[str, int]] = {}
    for stage in evidence.stages:
        for name, version in stage.packages.items():
            versions.setdefault(name, {}).setdefault(version, 0)
            versions[name][version] += 1
    wrong = [f"{name} {', '.join(counts)}" for name, counts in versions.items() if len(counts) > 1]
    return not wrong, "; ".join(wrong) or f"one version of each of {len(versions)} packages"


USED = ("device", "device_name", "processor", "threads", "processes", "kernels", "mkldnn", "packed", "compiled")
"""Of the hardware of a stage: what the last bits of its numbers depend on, beside settings of the environment."""
SEEN_IN_USED = ("ATEN_CPU_CAPABILITY", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Settings that are not compared: what they come to is among USED (kernels, threads)."""


def _devices(evidence: Evidence) -> tuple[bool, str]:
    """Compare what the last bits of numbers depend on and no id says, as it was used.

    Rankers that are no model compute nothing that could differ, so they are left out.
    """
    stages = [
        (run, stage.hardware)
        for run in evidence.runs
        for stage in run.stages
        if "device" in stage.hardware and stage.recipe.get("stage") != "ranker"
    ]
    settings = sorted({name for _, hardware in stages for name in hardware.get("settings", ())} - {*SEEN_IN_USED})
    alike, unlike = list[str](), list[str]()
    for name in (*USED, *settings):
        groups = grouped(
            (value, (run.arm, run.seed)) for run, hardware in stages if (value := _used(hardware, name)) is not None
        )
        if not groups:
            continue
        usual = max(groups, key=lambda value: len(groups[value]))
        others = [
            f"{value} in {runs_in_words([*dict.fromkeys(runs)])}" for value, runs in groups.items() if value != usual
        ]
        (unlike if others else alike).append(f"{name} {usual}" + (f" but {', '.join(others)}" if others else ""))
    before = dict.fromkeys(run.arm for run, hardware in stages if "kernels" not in hardware)
    beside = f"; kernels and settings not recorded, by an earlier version: {some(before)}" if before else ""
    return not unlike, ("; ".join(unlike) or ", ".join(alike) or "no stage says what it was computed on") + beside


def _used(hardware: Mapping[str, Any], name: str) -> str | None:
    """Return what a stage used, or None when it does not say."""
    if name in USED:
        return str(hardware[name]) if name in hardware else None
    return str(hardware["settings"].get(name, "unset")) if "settings" in hardware else None


def _budgets(evidence: Evidence) -> tuple[bool, str]:
    if len(evidence.totals) < 2:
        return True, "fewer than two arms with a mix"
    wrong = unmatched(evidence.totals, evidence.baseline)
    shown = "; ".join(f"{arm} UNMATCHED: {reason}" for arm, reason in wrong.items())
    others = len(evidence.totals) - 1
    said = f"{others} {'arm is' if others == 1 else 'arms are'} equal to {evidence.baseline} in {_units(evidence)}"
    return not wrong, shown or said


def _units(evidence: Evidence) -> str:
    return next(arm.budget.unit for arm in evidence.totals if arm.arm == evidence.baseline)


def _mixes(evidence: Evidence) -> tuple[bool, str]:
    wrong = idle_factors(evidence.totals)
    return not wrong, "; ".join([*wrong, *same_recipes(evidence.totals)]) or "other recipes have other mixes"


def _tuning(evidence: Evidence) -> tuple[bool, str]:
    """Compare how many trials the values of the arms were chosen from; a winner in no recipe counts for nothing."""
    free = deterministic_arms(evidence.runs)
    trained = {arm: runs for arm, runs in evidence.arms.items() if arm not in free}
    trials = {arm: tuned_by(evidence.store, arm, runs) for arm, runs in trained.items()}
    if not any(trials.values()):
        return True, "not tuned: no recipe has the values of a winner"
    groups = grouped((count, arm) for arm, count in trials.items())
    return len(groups) <= 1, "; ".join(f"{count} trials: {some(arms)}" for count, arms in groups.items())


def tuned_by(store: ResultStore, arm: str, runs: Sequence[ArmRun]) -> int:
    """Return the finished trials that the values of an arm were chosen from, by the `tuning.json` of every study.

    An arm was chosen so where a run of it has every value of a winner of its own. Raises UserError for a record that
    cannot be read.
    """
    recipes = [flatten(run.recipe) for run in runs]
    total = 0
    for path in store.tuning_records():
        try:
            record = json.loads(path.read_text(encoding="utf-8")).get(arm) or {}
            winners = [winner["params"] for winner in record.get("best", ())]
            finished = int(record.get("finished", 0))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} is not a readable record of tuning ({error!r}); move it away") from None
        if any(_has_values(recipe, params) for recipe in recipes for params in winners):
            total += finished
    return total


def _has_values(recipe: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Return whether a flat recipe has the values of a winner; choices of whole groups cannot be seen in it.

    A key that the recipe does not have is at its default, which no manifest tells: it is not compared.
    """
    seen = {key: value for key, value in params.items() if key in recipe}
    return bool(seen or not any("." in key for key in params)) and all(
        recipe[key] == value
        or (isinstance(value, float) and isinstance(recipe[key], int | float) and math.isclose(recipe[key], value))
        for key, value in seen.items()
    )


def _damaged(evidence: Evidence) -> tuple[bool, str]:
    wrong: list[str] = []
    counts: dict[str, int] = {}
    for stage in tqdm(evidence.stages, desc="files", disable=not sys.stderr.isatty(), leave=False):
        place = f"{FOLDERS[stage.kind]}/{stage.id}"
        for name in stage.content_sha256:
            unread = stage.kind == "train" and name.startswith("model/") and not evidence.with_models
            fault = evidence.store.fault(stage, name, with_content=not unread)
            if fault:
                wrong.append(f"{place}/{name} {fault}")
            counts["there" if unread else "read"] = counts.get("there" if unread else "read", 0) + 1
    if wrong:
        return False, some(wrong)
    beside = f"; {counts['there']} model files are there, their content was not read" if "there" in counts else ""
    return True, f"{counts.get('read', 0)} files have their recorded digests{beside}"


def _apart(evidence: Evidence) -> tuple[bool, str]:
    """Name the seeds whose scores stand apart, and the trainings whose loss did not fall; both at once fails."""
    seeds = seeds_of(evidence.runs, deterministic_arms(evidence.runs))
    few = [arm for arm, arm_seeds in seeds.items() if len(arm_seeds) < LEAST_SEEDS]
    many = [arm for arm in seeds if arm not in few]
    losses = _risen_losses(evidence.runs)
    said, failed = list[str](), False
    try:
        for apart in seeds_apart(evidence.table, many) if many else []:
            loss = losses.pop((apart.arm, int(apart.seed)), None)
            failed |= loss is not None
            said.append(f"{apart}; " + (f"its training diverged, {loss}" if loss else "it counts like the others"))
        said += [] if said or not many else [f"none of {len(many)} arms has one"]
    except UserError:
        said.append("the scores cannot be put side by side, see the other checks")
    for (arm, seed), loss in losses.items():
        failed |= "nan" in loss or "inf" in loss
        said.append(f"the training of {arm} seed {seed} lowered nothing, {loss}")
    said += [f"not looked at, fewer than {LEAST_SEEDS} seeds: {some(few)}"] if few else []
    return not failed, "; ".join(said) or "no arm has training randomness"


def _risen_losses(runs: Sequence[ArmRun]) -> dict[tuple[str, int], str]:
    """Return, of each run whose loss did not fall or is no number, the loss in words."""
    risen = {}
    for run in runs:
        counts = run.train.counts if run.train is not None else {}
        if {"first_loss", "last_loss"} <= counts.keys():
            first, last = float(counts["first_loss"]), float(counts["last_loss"])
            if not last < first or not math.isfinite(last):
                risen[run.arm, run.seed] = f"loss {first:.3f} -> {last:.3f}"
    return risen


CHECKS: tuple[tuple[str, Callable[[Evidence], tuple[bool, str]]], ...] = (
    ("no declared run is missing", _missing),
    ("one recipe per arm", _one_recipe),
    ("same seeds in all trained arms", _same_seeds),
    ("same units", _same_units),
    ("every value is a number", _finite),
    ("no seed stands apart", _apart),
    ("same candidate documents", _candidates),
    ("same protocol", _protocol),
    ("same budget", _budgets),
    ("no factor without effect", _mixes),
    ("what else changes", look_at_changes),
    ("no leak from training to evaluation", no_leak),
    ("same tuning", _tuning),
    ("same code", _code),
    ("same packages", _packages),
    ("same device and threads", _devices),
    ("no damaged file", _damaged),
)


def _scores(evidence: Evidence, run: ArmRun) -> Scores | None:
    """Return the scores of a run, None for a file that cannot be read (it is among the damaged ones)."""
    try:
        return evidence.scores(run.evaluation)
    except UserError:
        return None


def _equal(what: str, known: Sequence[tuple[ArmRun, str]], unknown: Sequence[ArmRun], common: str) -> tuple[bool, str]:
    """Return whether all runs that say something say the same; those that say nothing are named."""
    groups = grouped((text, run) for run, text in known)
    beside = f"; not recorded: {some(dict.fromkeys(run.arm for run in unknown))}" if unknown else ""
    if len(groups) <= 1:
        return True, (f"{common} for {len(known)} runs" if known else "nothing is recorded") + beside
    usual = max(groups.values(), key=len)
    others = [run for members in groups.values() if members is not usual for run in members]
    unlike = runs_in_words([(run.arm, run.seed) for run in others])
    return False, f"{what} differ in {unlike} from {len(usual)} other runs{beside}"
