"""Sections on how a study was made: arms, budgets, cost, losses, checks, configurations, where numbers are from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from ablate.recipe.values import flatten, plain
from ablate.records import UserError
from ablate.store.files import SCORES_FILE
from ablate.store.manifest import Manifest
from ablate.tables import number
from ablate.tracking.ledger import ledger_steps
from analysis.page.plots import loss_plot
from analysis.page.record import Field, Figure, Grid, Part, Section, count
from analysis.page.source import Source, grid_of
from analysis.study import costs
from analysis.study.differences import between
from analysis.study.runs import ArmRun, by_arm
from analysis.study.totals import COLUMNS, idle_factors, same_recipes, unmatched

BINS = 60
"""Points of a curve of losses: the steps in one are averaged."""
_SAME = 1e-6
"""Share by which a loss of a ledger and that of its manifest may differ."""


def arms(source: Source) -> Section:
    """Return what each arm is and what it changes against the baseline."""
    known = by_arm(source.study.evidence.runs)
    base = known[source.baseline][0].recipe
    rows = []
    for arm in source.arms:
        change = between(base, known[arm][0].recipe)
        rows.append(
            (
                arm,
                ", ".join(str(run.seed) for run in known[arm]),
                "the baseline" if arm == source.baseline else str(change),
                len(change.switches),
                source.study.table.seed_varies.get(arm, ""),
            )
        )
    varies = source.tested.table.seed_varies
    fields = (
        Field("arm", "arm"),
        Field("seeds", "seeds"),
        Field("differs", f"differs from {source.baseline} in"),
        Field("switches", "switches", count, True),
        Field("seed_varies", "a seed varies"),
    )
    rows = [(*row[:-1], varies.get(row[0], "")) for row in rows]
    notes = ("A switch is a change of its own; with more than one between two arms, a contrast of them is CONFOUNDED.",)
    grid = Grid("arms", "What each arm changes", fields, tuple(rows), notes)
    words = same_recipes(source.study.evidence.totals) + idle_factors(source.study.evidence.totals)
    return Section("arms", "Arms", (grid, *(f"{said}." for said in words)), source.significance)


def budgets(source: Source) -> Section | None:
    """Return all totals of the arms' mixes and trainings; what is unequal stands in the last column."""
    totals = source.study.evidence.totals
    if not totals:
        return None
    names = [arm.arm for arm in totals]
    reference = source.baseline if source.baseline in names else names[0]
    wrong = unmatched(totals, reference)
    fields = (
        Field("arm", "arm"),
        Field("budget", "budget"),
        Field("seeds", "seeds", count, True),
        *(Field(name, head, _total if name == "flops" else count, True) for name, head in COLUMNS.items()),
        Field("unmatched", "unmatched"),
    )
    rows = tuple(
        (
            arm.arm,
            f"{'all' if arm.budget.limit is None else f'{arm.budget.limit:,}'} {arm.budget.unit}, {arm.budget.fill}",
            len(arm.mixes),
            *(arm.totals[name] for name in COLUMNS),
            f"UNMATCHED: {wrong[arm.arm]}" if arm.arm in wrong else "",
        )
        for arm in sorted(totals, key=lambda arm: arm.arm != reference)
    )
    notes = (
        f"Means over seeds; matched against {reference}. Tokens count special tokens, passages once per pair.",
        *source.study.evidence.remarks,
    )
    grid = Grid("budgets", "What the arms were trained on", fields, rows, notes)
    return Section("budgets", "Budgets", (grid,), source.command("budgets", "--baseline", reference))


def _total(flops: float) -> str:
    return f"{flops / 1e12:,.2f}"


def cost(source: Source) -> Section:
    """Return time, energy and computation by arm; a stage that several arms share counts once."""
    read = costs.read_costs(source.study.evidence)
    whole = {**read, "total": costs.total(read)}
    names = [name for name in costs.COLUMNS if any(name in arm_cost.sums for arm_cost in read.values())]
    show = {"flops": _total, "tokens": count}
    fields = (
        Field("arm", "arm"),
        Field("trainings", "trainings", count, True),
        Field("stages", "stages", count, True),
        Field("shared", "shared", count, True),
        *(Field(name, costs.COLUMNS[name], show.get(name, _seconds), True) for name in names),
    )
    rows = tuple(
        (arm, arm_cost.runs, arm_cost.stages, arm_cost.shared, *(arm_cost.sums.get(name) for name in names))
        for arm, arm_cost in whole.items()
    )
    notes = ["shared: stages that stand with the first arm that uses them."]
    if whole["total"].unknown:
        notes.append(f"{whole['total'].unknown} stages were made without a count of CPU seconds: theirs are missing.")
    grid = Grid("costs", "What it cost", fields, rows, tuple(notes))
    return Section("costs", "Cost", (grid,), source.command("costs"))


def _seconds(value: float) -> str:
    return f"{value:,.1f}"


def losses(source: Source) -> Section | None:
    """Return losses over steps from the ledgers, and those of the first and last eighth of all steps."""
    trained = [run for run in source.study.evidence.runs if run.train is not None]
    rows = tuple(
        (run.arm, run.seed, *(run.train.counts.get(name) for name in ("steps", "first_loss", "last_loss")))
        for run in trained
        if run.train is not None and "last_loss" in run.train.counts
    )
    if not rows:
        return None
    curves: dict[str, list[list[tuple[float, float]]]] = {}
    lacking = []
    for run in trained:
        curve = _curve(source, run)
        if curve:
            curves.setdefault(run.arm, []).append(curve)
        else:
            lacking.append(f"{run.arm} seed {run.seed}")
    parts: list[Part] = []
    if curves:
        drawn = loss_plot(curves, ("optimiser step", "loss"), "Training losses")
        said = (
            f"Losses as they were logged, up to {BINS} points a run, each the mean of its steps; thin lines are seeds."
        )
        parts.append(Figure("losses", said, drawn))
    if lacking:
        parts.append(
            f"No curve: the ledger of {', '.join(lacking[:6])}{' …' if len(lacking) > 6 else ''} is gone or another."
        )
    fields = (
        Field("arm", "arm"),
        Field("seed", "seed", str, True),
        Field("steps", "steps", count, True),
        Field("first_loss", "first eighth", number, True),
        Field("last_loss", "last eighth", number, True),
    )
    parts.append(Grid("losses", "Mean loss by run", fields, rows, folded=len(rows) > 12))
    return Section("losses", "Learning curves", tuple(parts), "", "Losses")


def _curve(source: Source, run: ArmRun) -> list[tuple[float, float]]:
    """Return (step, loss) of a run in bins; nothing where its ledger does not give the losses of its manifest."""
    assert run.train is not None
    path = source.study.evidence.store.ledger(run.train)
    if path is None:
        return []
    try:
        steps = ledger_steps(path)
    except UserError:
        return []
    logged = [(step, values["loss"]) for step, values in steps.items() if "loss" in values]
    if not logged or not all(math.isfinite(loss) for _, loss in logged):
        return []
    last = fmean([loss for _, loss in logged][-max(1, len(logged) // 8) :])
    if not math.isclose(last, run.train.counts.get("last_loss", math.nan), rel_tol=_SAME):
        return []
    width = max(1, math.ceil(logged[-1][0] / BINS))
    bins: dict[int, list[float]] = {}
    for step, loss in logged:
        bins.setdefault((step - 1) // width, []).append(loss)
    return [(place * width + (width + 1) / 2, fmean(members)) for place, members in sorted(bins.items())]


def checks(source: Source) -> Section:
    """Return every check that was made before any number was shown, the failing ones first."""
    return Section("fairness", "Fairness", (grid_of("fairness", source.study.fairness),), source.command("fairness"))


def configuration(source: Source) -> Section:
    """Return the resolved values of the arms: in which keys they differ, and those that they share."""
    known = by_arm(source.study.evidence.runs)
    recipes = {arm: _resolved(known[arm][0].recipe) for arm in source.arms}
    trained = {arm: recipe for arm, recipe in recipes.items() if recipe.get("system") == "trained"}
    keys = list(dict.fromkeys(key for recipe in trained.values() for key in recipe))
    unequal = [key for key in keys if len({_value(recipe, key) for recipe in trained.values()}) > 1]
    parts: list[Part] = []
    if unequal:
        fields = (Field("key", "key"), *(Field(arm, arm) for arm in trained))
        rows = tuple((key, *(_value(recipe, key) for recipe in trained.values())) for key in unequal)
        parts.append(Grid("configuration_differs", "What differs", fields, rows, ("off: a factor at its no-op.",)))
    two = (Field("key", "key"), Field("value", "value"))
    shared = tuple((key, _value(next(iter(trained.values())), key)) for key in keys if key not in unequal)
    if shared:
        parts.append(Grid("configuration_shared", "What all trained arms share", two, shared, folded=True))
    others = [
        (arm, key, _value(recipe, key)) for arm, recipe in recipes.items() if arm not in trained for key in recipe
    ]
    if others:
        fields = (Field("arm", "arm"), *two)
        parts.append(Grid("configuration_others", "Arms that are not trained here", fields, tuple(others), folded=True))
    return Section("configuration", "Configuration", tuple(parts), "", "Values")


def _resolved(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return flatten(plain(recipe))


def _value(recipe: Mapping[str, Any], key: str) -> str:
    value = recipe.get(key)
    if value is None:
        return "off" if key.startswith("factors.") else "none" if key in recipe else "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def provenance(source: Source) -> Section:
    """Return software, hardware and times of all stages, and the digests that every number hangs on."""
    evidence = source.study.evidence
    stages = evidence.stages
    rows = [("results between", f"{min(s.started for s in stages)} and {max(s.finished for s in stages)}")]
    rows += [("commit", said) for said in _counted(_commit(stage) for stage in stages)]
    rows += [("hardware", said) for said in _counted(_machine(stage) for stage in stages)]
    rows += [
        ("declaration", f"{declaration.digest}, first seen {declaration.declared_at}")
        for declaration in evidence.declarations
    ]
    packages: dict[str, dict[str, None]] = {}
    for stage in stages:
        for name, version in stage.packages.items():
            packages.setdefault(name, {})[version] = None
    two = (Field("what", "what"), Field("value", "value"))
    runs = tuple(
        (
            run.arm,
            run.seed,
            *("" if stage is None else stage.id for stage in (run.mix, run.train, run.evaluation)),
            run.evaluation.content_sha256.get(SCORES_FILE, ""),
        )
        for run in evidence.runs
    )
    run_fields = (
        Field("arm", "arm"),
        Field("seed", "seed", str, True),
        *(Field(name, name) for name in ("mix", "training", "evaluation")),
        Field("scores_sha256", "SHA-256 of the scores"),
    )
    versions = tuple((name, ", ".join(packages[name])) for name in sorted(packages))
    parts = (
        Grid("provenance", "Made by", two, tuple(rows)),
        Grid("packages", "Packages", (Field("package", "package"), Field("version", "version")), versions, folded=True),
        Grid("runs", "Every run and its digests", run_fields, runs, folded=True),
    )
    return Section("provenance", "Where the numbers are from", parts, source.command("verify"), "Provenance")


def _counted(texts: Iterable[str]) -> Sequence[str]:
    """Return each text once, with how many stages it is of where there are several."""
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    return [
        text if len(counts) == 1 else f"{text} ({num} of {sum(counts.values())} stages)" for text, num in counts.items()
    ]


def _commit(stage: Manifest) -> str:
    dirty = ", with uncommitted changes" if stage.git.get("dirty") else ""
    release = stage.git.get("release")
    return f"{stage.git.get('commit') or (f'release {release}' if release else 'not known')}{dirty}"


def _machine(stage: Manifest) -> str:
    return ", ".join(f"{name} {value}" for name, value in stage.hardware.items() if name != "settings")
