"""What the arms of a study were trained on: totals of every unit, what the budget holds equal, and what it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from ablate.data.composition import composition_values, in_words, shown
from ablate.recipe.build import build
from ablate.recipe.schema import Budget
from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.store.files import PASSAGES_FILE
from ablate.store.manifest import Manifest
from ablate.store.results import stage_label
from ablate.tables import Column, Table, to_text
from analysis.study.declared import Declaration, claim_weights

COLUMNS = {
    "groups": "groups",
    "pairs": "pairs",
    "unique_queries": "unique queries",
    "unique_passages": "unique passages",
    "query_tokens": "query tokens",
    "instruction_tokens": "instr. tokens",
    "passage_tokens": "passage tokens",
    "optimiser_steps": "steps",
    "encoder_passes": "encoder passes",
    "flops": "TFLOP",
}
"""Totals of a mix and of the training on it, and their headings."""


class Training(NamedTuple):
    """A training, finished or only counted yet."""

    id: str
    counts: Mapping[str, Any]


@dataclass(frozen=True)
class ArmTotals:
    """Totals of one arm: the mean over its seeds, with the mix of each seed."""

    arm: str
    budget: Budget
    mixes: dict[int, Manifest]
    totals: dict[str, float | None]
    """None where it is not known yet: FLOPs before the training is complete."""
    composition: dict[str, float | None]
    """See `ablate.data.composition.composition_values`; missing: not recorded, or its training is not counted yet."""
    trainings: dict[int, str]
    """Seed -> id of the training on its mix, of those that are counted or finished."""


def arm_totals(
    study: str, mixes: Mapping[tuple[str, int], Manifest], trainings: Mapping[tuple[str, str], Training]
) -> tuple[ArmTotals, ...]:
    """Return the totals of every arm, in order of their names.

    `mixes`: by arm and seed; `trainings`: by the id of the mix and the label, of those that are counted or finished.
    """
    by_arm: dict[str, dict[int, Manifest]] = {}
    for (arm, seed), manifest in mixes.items():
        by_arm.setdefault(arm, {})[seed] = manifest
    return tuple(_totals(study, arm, by_arm[arm], trainings) for arm in sorted(by_arm))


def _totals(
    study: str, arm: str, mixes: dict[int, Manifest], trainings: Mapping[tuple[str, str], Training]
) -> ArmTotals:
    label = stage_label(study, arm)
    known = {seed: trainings[mix.id, label] for seed, mix in mixes.items() if (mix.id, label) in trainings}
    by_seed = [(mix.counts, known[seed].counts if seed in known else {}) for seed, mix in mixes.items()]
    counts = [{**of_training, **of_mix} for of_mix, of_training in by_seed]
    totals = {
        name: fmean(seed_counts[name] for seed_counts in counts)
        if all(name in seed_counts for seed_counts in counts)
        else None
        for name in COLUMNS
    }
    budget = build(Budget, next(iter(mixes.values())).recipe["budget"], "budget")
    made_of = mean_values([composition_values(of_mix, of_training) for of_mix, of_training in by_seed])
    return ArmTotals(arm, budget, mixes, totals, made_of, {seed: training.id for seed, training in known.items()})


def mean_values(by_seed: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each value that all seeds recorded; None where one of them does not know it."""
    means: dict[str, float | None] = {}
    for name in by_seed[0] if by_seed else ():
        if all(name in values for values in by_seed):
            known = [value for values in by_seed if (value := values[name]) is not None]
            means[name] = fmean(known) if len(known) == len(by_seed) else None
    return means


def unmatched(arms: Sequence[ArmTotals], baseline: str) -> dict[str, str]:
    """Return, for each arm whose declared unit differs from the baseline's by more than its tolerance, by how much."""
    reference = next((arm for arm in arms if arm.arm == baseline), None)
    if reference is None:
        known = ", ".join(arm.arm for arm in arms)
        raise UserError(f"--baseline {baseline!r} has no mix in this study; arms with one: {known}")
    reasons = {}
    for arm in arms:
        if arm.budget.unit != reference.budget.unit:
            reasons[arm.arm] = f"its budget is in {arm.budget.unit}, that of {baseline} in {reference.budget.unit}"
            continue
        for seed in sorted(arm.mixes.keys() & reference.mixes.keys()):
            mine, theirs = arm.mixes[seed].counts, reference.mixes[seed].counts
            if not arm.budget.is_matched(mine, theirs):
                reasons[arm.arm] = (
                    f"{arm.budget.used(mine):,} against {arm.budget.used(theirs):,} {arm.budget.unit} (seed {seed})"
                )
                break
    return reasons


def default_baseline(arms: Sequence[ArmTotals], declared: Declaration | None = None) -> str:
    """Return the arm to match against when none is named; empty when there is no arm.

    The one that most declared claims compare with, else instruction_negatives, else the first arm of those that have
    the budget that most arms have.
    """
    names = [arm.arm for arm in arms]
    compared: Counter[str] = Counter()
    for claim in declared.study.claims if declared is not None else ():
        try:
            weights = claim_weights(claim, names)
        except UserError:  # it is about an arm without a mix
            continue
        compared[min(weights, key=weights.__getitem__)] += 1
    if compared:
        return compared.most_common(1)[0][0]
    if "instruction_negatives" in names or not names:
        return "instruction_negatives" if names else ""
    likes = {arm: len(arms) - len(unmatched(arms, arm)) for arm in names}
    return max(names, key=likes.__getitem__)


def same_recipes(arms: Sequence[ArmTotals]) -> list[str]:
    """Return one sentence for each group of arms that have the same recipe, and for each that share their mix only."""
    trained = _sharing((training, arm.arm) for arm in arms for training in arm.trainings.values())
    mixed = _sharing((mix.id, arm.arm) for arm in arms for mix in arm.mixes.values())
    return [
        *(f"{' = '.join(names)}: one recipe, built and trained once" for names in trained),
        *(f"{', '.join(names)}: one mix, built once" for names in mixed if names not in trained),
    ]


def _sharing(stages: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Return the groups of arms that have a stage in common, from pairs of its id and an arm."""
    by_id: dict[str, list[str]] = {}
    for stage_id, arm in stages:
        by_id.setdefault(stage_id, []).append(arm)
    return sorted({tuple(names) for names in by_id.values() if len(names) > 1})


def idle_factors(arms: Sequence[ArmTotals]) -> list[str]:
    """Return one sentence for each group of arms with other factors or another source and the same mix.

    The same mix is the same groups with the same texts. Arms are compared that have one budget, and under a budget in
    tokens one model: where another number of tokens decides what is left out, equal mixes say nothing about a factor.
    """
    by_mix: dict[tuple[int, str, str | None, str], dict[str, str]] = {}
    for arm in arms:
        for seed, manifest in arm.mixes.items():
            cut = {name: manifest.recipe.get(name) for name in ("budget", "model")}
            asked = {name: value for name, value in manifest.recipe.items() if name not in cut}
            if asked.get("miner"):  # its revision names source and model, which are no factors of their own
                asked["miner"] = {name: value for name, value in asked["miner"].items() if name != "revision"}
            mix = (seed, manifest.counts["content"], manifest.content_sha256.get(PASSAGES_FILE), digest(cut))
            by_mix.setdefault(mix, {})[digest(asked)] = arm.arm
    nothing = sorted({tuple(sorted(names.values())) for names in by_mix.values() if len(names) > 1})
    return [
        f"{' and '.join(names)} differ in recipe and have the same mix: a factor did nothing here" for names in nothing
    ]


def format_budgets(arms: Sequence[ArmTotals], baseline: str) -> str:
    """Return the table in plain text; what is not equal stands above it and in its last column."""
    wrong = unmatched(arms, baseline)
    lines = [f"UNMATCHED: {arm}: {reason}" for arm, reason in wrong.items()]
    lines += [*same_recipes(arms), *idle_factors(arms)]
    numbers = [Column(name, "r") for name in ("seeds", *COLUMNS.values())]
    columns = (Column("arm"), Column("budget"), *numbers, Column(""))
    rows = tuple(
        (
            arm.arm,
            _budget(arm.budget),
            str(len(arm.mixes)),
            *(_cell(name, arm.totals[name]) for name in COLUMNS),
            "UNMATCHED" if arm.arm in wrong else "",
        )
        for arm in arms
    )
    note = f"means over seeds; matched against {baseline}; tokens with special tokens, passages once per pair"
    return "\n".join([*lines, to_text(Table("", columns, rows, (note,))), *_format_composition(arms)])


def _format_composition(arms: Sequence[ArmTotals]) -> list[str]:
    """Return the table of what the mixes are made of, below an empty line; nothing where no arm recorded it."""
    names = dict.fromkeys(name for arm in arms for name in arm.composition if name not in COLUMNS)
    if not names:
        return ["what the mixes are made of was not recorded, by an earlier version"]
    columns = (Column("arm"), *(Column(in_words(name), "r") for name in names))
    rows = tuple(
        (arm.arm, *(shown(name, arm.composition[name]) if name in arm.composition else "…" for name in names))
        for arm in arms
    )
    note = (
        "composition, means over seeds: shares but for the numbers per row and the words; -: the source does not tell, "
        "…: not recorded or not counted yet; label from: balanced accuracy of telling the label by that alone, 0.50 is "
        "chance"
    )
    return ["", to_text(Table("", columns, rows, (note,)))]


def _budget(budget: Budget) -> str:
    return f"{budget.unit} {'all' if budget.limit is None else budget.limit}, {budget.fill}"


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e12:.2f}" if name == "flops" else f"{value:,.0f}"
