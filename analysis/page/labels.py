"""How right the labels of reversed twins are, by arm: a census where the source is exact, else what audits found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.records import UserError
from ablate.store.integrity import read_json
from ablate.store.manifest import Manifest
from analysis.audit.assess import MEASURES, PRIMARY, THRESHOLD
from analysis.audit.twins import NoPairs, Truths, Twins, has_twins, read_twins
from analysis.study.composition import DECLARED_BY
from analysis.study.evidence import Evidence
from analysis.study.runs import by_arm

NO_PAIRS = "reversed groups without their originals, so no pair to judge"


@dataclass(frozen=True)
class AuditRecord:
    """What an audit found, from its file."""

    place: str
    """The file, as it was named."""
    labels: tuple[str, ...]
    """Names of the mix that it is of, `study/arm`; empty for an audit of items."""
    threshold: float
    num_items: int
    estimate: float | None
    ends: tuple[float, float] | None
    num_labels: int
    is_census: bool
    verdict: str


@dataclass(frozen=True)
class ArmLabels:
    """What is known of the labels of an arm's twins."""

    arm: str
    evidence: str
    """`census`, with what it does not know; the file of an audit, or why nothing is known."""
    is_census: bool
    by_seed: Mapping[int, float]
    """Swap accuracy of the known pairs of each mix, of a census."""
    num_pairs: int | None
    estimate: float | None
    ends: tuple[float, float] | None
    """None for a census of all pairs: nothing was sampled. Of one that does not know some, those with all of them wrong
    and right."""
    threshold: float
    verdict: str
    """ABOVE, BELOW or UNDECIDED; empty where nothing is known."""
    originals_right: float | None
    decided_by: str
    """The factors that decide whether labels are right, such as a dose of noise; empty where they all should be."""


def read_audit(path: Path) -> AuditRecord:
    """Return what an audit found, from its JSON; raises UserError for a file that is none."""
    remedy = "give the file that python -m analysis.inversion_audit --json wrote"
    if not path.is_file():
        raise UserError(f"--audit {path}: there is no such file; {remedy}")
    values = read_json(path, remedy)
    try:
        swap, mix = values["swap_accuracy"], values.get("mix") or {"labels": []}
        ends = None if swap["ci"] is None else (float(swap["ci"][0]), float(swap["ci"][1]))
        return AuditRecord(
            place=str(path),
            labels=tuple(map(str, mix["labels"])),
            threshold=float(values["threshold"]),
            num_items=int(values["items"]),
            estimate=None if swap["estimate"] is None else float(swap["estimate"]),
            ends=ends,
            num_labels=int(swap["n"]),
            is_census=swap["census"] is True,
            verdict=str(swap["verdict"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise UserError(f"--audit {path} has no swap_accuracy with estimate, ci, n and verdict; {remedy}") from None


def arm_labels(evidence: Evidence, audits: Sequence[AuditRecord]) -> list[ArmLabels]:
    """Return what is known of every arm with reversed twins beside their originals, and of audits of other items."""
    truths, known = Truths(evidence.store), list[ArmLabels]()
    used = set[str]()
    for arm, runs in by_arm(evidence.runs).items():
        mixes = {run.mix.id: run.mix for run in runs if run.mix is not None and has_twins(run.mix)}
        if not mixes:
            continue
        own = [audit for audit in audits if f"{evidence.study}/{arm}" in audit.labels]
        used |= {audit.place for audit in own}
        known.append(_census(evidence, arm, list(mixes.values()), truths))
        if own and known[-1].estimate is None:
            known.pop()
        known += [_audited(audit, arm, decided_by(next(iter(mixes.values())))) for audit in own]
    return [*known, *(_audited(audit, Path(audit.place).stem, "") for audit in audits if audit.place not in used)]


def _census(evidence: Evidence, arm: str, mixes: Sequence[Manifest], truths: Truths) -> ArmLabels:
    """Return the census of an arm over its mixes, or why there is none."""
    decided = decided_by(mixes[0])
    read = list[Twins]()
    try:
        for mix in mixes:
            read.append(read_twins(evidence.store, mix, truths))
        why = next((twins.no_gold for twins in read if twins.no_gold), "")
    except NoPairs:
        why = NO_PAIRS
    except UserError as error:
        why = str(error)
    if why:
        return ArmLabels(arm, why, False, {}, None, None, None, THRESHOLD, "", None, decided)
    by_seed = {twins.seed: _num_right(twins) / len(twins.gold) for twins in read}
    known, total = sum(len(twins.gold) for twins in read), sum(len(twins.items) for twins in read)
    right = sum(map(_num_right, read))
    low, high = right / total, (right + total - known) / total
    originals = sum((twins.originals_right or 0.0) * len(twins.gold) for twins in read) / known
    verdict = "ABOVE" if low > THRESHOLD else "BELOW" if high < THRESHOLD else "UNDECIDED"
    ends = None if known == total else (low, high)
    said = "census" if ends is None else f"census, not known for {total - known} of {total} pairs"
    return ArmLabels(arm, said, True, by_seed, total, right / known, ends, THRESHOLD, verdict, originals, decided)


def _num_right(twins: Twins) -> int:
    return sum(map(MEASURES[PRIMARY], twins.gold))


def _audited(audit: AuditRecord, arm: str, decided: str) -> ArmLabels:
    said = f"{audit.place}: {audit.num_labels:,} answers on {audit.num_items:,} items"
    ends = None if audit.is_census else audit.ends
    verdict = audit.verdict if audit.estimate is not None else ""
    return ArmLabels(
        arm, said, audit.is_census, {}, audit.num_items, audit.estimate, ends, audit.threshold, verdict, None, decided
    )


def decided_by(mix: Manifest) -> str:
    """Return the factors of a mix that decide whether labels are right, in words."""
    factors: Mapping[str, Any] = mix.recipe.get("factors") or {}
    names = {name.removeprefix("factors.") for name in DECLARED_BY["right_labels"]}
    return ", ".join(f"factors.{name}={factors[name]}" for name in sorted(names & set(factors)))
