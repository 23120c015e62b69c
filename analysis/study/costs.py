"""What a study cost: time, energy and memory, by arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ablate.records import UserError
from ablate.store.manifest import Kind, Manifest
from ablate.tables import Column, Table, to_text
from analysis.study.evidence import Evidence

COLUMNS = {
    "wall_s": "wall s",
    "cpu_s": "CPU s",
    "gpu_s": "GPU s",
    "gpu_joules": "GPU J",
    "tokens": "tokens",
    "flops": "TFLOP",
}
KINDS: tuple[Kind, ...] = ("mix", "train", "evaluation")


@dataclass
class Cost:
    """Sums over stages."""

    stages: int = 0
    runs: int = 0
    """Trainings among the stages."""
    shared: int = 0
    """Stages that other arms of the study use too; each is counted with the first arm, by name."""
    sums: dict[str, float] = field(default_factory=dict)
    unknown: int = 0
    """Stages made before processor time was recorded."""


def read_costs(evidence: Evidence) -> dict[str, Cost]:
    """Return the cost of each arm of a study, each stage once; raises UserError when the study has no stage at all."""
    store, study = evidence.store, evidence.study
    costs: dict[str, Cost] = {}
    manifests = [manifest for kind in KINDS for manifest in store.manifests(kind)]
    for manifest in manifests:
        arms = sorted(_arms(manifest, study))
        if arms:
            _add(costs.setdefault(arms[0], Cost()), manifest)
        for other in arms[1:]:
            costs.setdefault(other, Cost()).shared += 1
    if not costs:
        known = sorted({label.partition("/")[0] for manifest in manifests for label in manifest.labels})
        raise UserError(
            f"no stage of a study {study!r} under {store.root}; studies there: {', '.join(known) or 'none'}"
        )
    return dict(sorted(costs.items()))


def _arms(manifest: Manifest, study: str) -> Iterable[str]:
    for label in manifest.labels:
        name, _, arm = label.partition("/")
        if name == study:
            yield arm


def _add(cost: Cost, manifest: Manifest) -> None:
    cost.stages += 1
    cost.runs += manifest.kind == "train"
    cost.unknown += "cpu_s" not in manifest.cost
    values = {**manifest.cost, "wall_s": manifest.cost.get("wall_s", manifest.cost.get("train_s", 0.0))}
    if manifest.kind == "train":
        values |= {name: manifest.counts[name] for name in ("tokens", "flops") if name in manifest.counts}
    for name in COLUMNS:
        if name in values:
            cost.sums[name] = cost.sums.get(name, 0.0) + values[name]


def total(costs: Mapping[str, Cost]) -> Cost:
    """Return the sum over arms."""
    whole = Cost()
    for cost in costs.values():
        whole.stages, whole.runs = whole.stages + cost.stages, whole.runs + cost.runs
        whole.unknown += cost.unknown
        for name, value in cost.sums.items():
            whole.sums[name] = whole.sums.get(name, 0.0) + value
    return whole


def format_costs(costs: Mapping[str, Cost]) -> str:
    """Return the table, the total last; columns that no stage has are left out."""
    rows = {**costs, "total": total(costs)}
    names = [name for name in COLUMNS if any(name in cost.sums for cost in costs.values())]
    heads = ("trainings", "stages", "shared", *(COLUMNS[name] for name in names))
    lines = tuple(
        (arm, str(cost.runs), str(cost.stages), str(cost.shared or ""), *(_number(n, cost.sums.get(n)) for n in names))
        for arm, cost in rows.items()
    )
    notes = []
    if any(cost.shared for cost in costs.values()):
        notes.append("shared: stages that stand with the first arm that uses them")
    if rows["total"].unknown:
        notes.append(f"{rows['total'].unknown} stages were made without a count of CPU seconds: theirs are missing")
    return to_text(Table("", (Column("arm"), *(Column(head, "r") for head in heads)), lines, tuple(notes)))


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e12:.2f}" if name == "flops" else f"{value:,.0f}" if name == "tokens" else f"{value:,.1f}"
