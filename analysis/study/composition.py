"""What else changes between the arms of a contrast: the composition of their mixes, beside the switch that is declared.

A factor that is meant to change one thing may change the negatives per row, the queries, the style of the positives and
more with it (`ablate.data.composition`). Each is a rival explanation of an effect, so they stand beside the contrast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ablate.data.composition import COUNTS, composition_values, in_words, shown
from ablate.records import UserError
from analysis.study.declared import claim_weights
from analysis.study.differences import differences, reference_of
from analysis.study.evidence import Evidence
from analysis.study.runs import ArmRun
from analysis.study.totals import mean_values
from analysis.study.words import some

COUNT_TOLERANCE = 0.05
"""Relative to the larger of both values: numbers of things that differ by less count as equal."""
SHARE_TOLERANCE = 0.05
"""The same for shares, absolute."""

DECLARED_BY: Mapping[str, tuple[str, ...]] = {
    "negatives_per_row": (
        "train.batch_size",
        "train.in_batch_negatives",
        "train.same_query",
        "train.most_negatives",
        "budget.negatives_per_group",
    ),
    "unique_": ("budget.limit",),
    "right_labels": ("factors.label_noise", "factors.twin_polarity"),
    "usual_side_asked": ("source.skew",),
    "positives_in_style": ("source.shortcut",),
    "negatives_in_style": ("source.shortcut",),
}
"""Value, or how its name begins -> the switches that set it: between arms that differ in one it is no other change."""

FOLLOWS = ("label_from_side",)
"""Values that follow from others which are compared: the side follows from `usual_side_asked` and `right_labels`."""


class Change(NamedTuple):
    """One value of the composition that differs between two arms."""

    name: str
    before: float
    """Of the reference arm; means over the seeds of its runs."""
    after: float

    def __str__(self) -> str:
        return f"{in_words(self.name)} {shown(self.name, self.before)} → {shown(self.name, self.after)}"


def arm_composition(runs: Sequence[ArmRun]) -> dict[str, float | None]:
    """Return the composition of an arm, the mean over its runs; without the values that one of them did not record."""
    by_run = [
        composition_values(run.mix.counts, run.train.counts)
        for run in runs
        if run.mix is not None and run.train is not None
    ]
    return mean_values(by_run)


def also_changed(arms: Mapping[str, Sequence[ArmRun]], weights: Mapping[str, float]) -> dict[str, tuple[Change, ...]]:
    """Return, for every arm of a contrast but its reference, what differs in composition beside the switch.

    `arms`: arm -> its runs. Compared is what both arms know, by COUNT_TOLERANCE and SHARE_TOLERANCE; arms without a mix
    have nothing to compare.
    """
    changes = {}
    for arm, difference in differences(arms, weights).items():
        theirs, ours = arm_composition(arms[reference_of(weights)]), arm_composition(arms[arm])
        changes[arm] = tuple(
            Change(name, before, after)
            for name, before in theirs.items()
            if before is not None
            and (after := ours.get(name)) is not None
            and differs(name, before, after)
            and name not in FOLLOWS
            and not _is_declared(name, difference.keys)
        )
    return changes


def differs(name: str, before: float, after: float) -> bool:
    """Return whether two values of the composition are further apart than the tolerance of their kind."""
    if name in COUNTS:
        return abs(after - before) > COUNT_TOLERANCE * max(abs(before), abs(after))
    return abs(after - before) > SHARE_TOLERANCE


def _is_declared(name: str, keys: Mapping[str, object]) -> bool:
    return any(key in keys for value, owners in DECLARED_BY.items() if name.startswith(value) for key in owners)


def changes_in_words(changes: Mapping[str, Sequence[Change]]) -> str:
    """Return what `also_changed` found as text, the arm named where there are several; empty where nothing changed."""
    parts = [
        (f"{arm}: " if len(changes) > 1 else "") + ", ".join(map(str, arm_changes))
        for arm, arm_changes in changes.items()
        if arm_changes
    ]
    return "; ".join(parts)


def look_at_changes(evidence: Evidence) -> tuple[bool, str]:
    """Name the contrasts that change more than their switch; this is told and never fails, since a switch may imply it.

    The contrasts are those of the declared claims, else each arm with a mix against the baseline.
    """
    trained = {arm: runs for arm, runs in evidence.arms.items() if any(run.mix is not None for run in runs)}
    values = {arm: arm_composition(runs) for arm, runs in trained.items()}
    unrecorded = [arm for arm in trained if "right_labels" not in values[arm]]
    beside = f"; not recorded, by an earlier version: {some(unrecorded)}" if unrecorded else ""
    found = {}
    contrasts = _contrasts(evidence, list(trained))
    for label, weights in contrasts.items():
        text = changes_in_words(also_changed(evidence.arms, weights))
        if text:
            found[label] = text
    if not found:
        looked = f"{len(contrasts)} contrasts change nothing else" if contrasts else "fewer than two arms with a mix"
        return True, looked + beside
    listed = "; ".join(f"{label}: {text}" for label, text in found.items())
    return True, f"{len(found)} of {len(contrasts)} contrasts change more than their switch: {listed}{beside}"


def _contrasts(evidence: Evidence, trained: Sequence[str]) -> dict[str, Mapping[str, float]]:
    """Return the contrasts that the study is about, by their labels."""
    if evidence.declared is None:
        baseline = evidence.baseline
        others = [arm for arm in trained if arm != baseline]
        return {f"{arm} - {baseline}": {arm: 1.0, baseline: -1.0} for arm in others if baseline in trained}
    asked: dict[str, Mapping[str, float]] = {}
    scored = list(evidence.arms)
    for claim in evidence.declared.study.claims:
        try:
            weights = claim_weights(claim, scored)
        except UserError:  # it is about an arm without scores
            continue
        if sum(arm in trained for arm, weight in weights.items() if weight != 0) > 1:
            asked[claim.contrast] = weights
    return asked
