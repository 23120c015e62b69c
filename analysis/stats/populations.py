"""Which population a contrast speaks of, in words: new seeds, other units or new clusters, and how many data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.stats.clusters import Clustered
from analysis.stats.contrast import ContrastRow, plural
from analysis.stats.corrections import replicated
from analysis.stats.families import Plan


def population(row: ContrastRow, plan: Plan) -> str:
    """Return which population the claim of a row covers, from the test and its two second opinions."""
    alpha, units = plan.options.alpha, plural(row.unit)
    others = f"other {units} like these" if row.num_sets == 1 else f"other {units} of these {row.num_sets} data sets"
    if row.clusters is not None:
        others += f", over {new_clusters(row.clusters)}"
    if row.result.degenerate:
        amount = "agree exactly" if row.result.estimate == 0 else "differ by the same amount"
        return f"All {units} and seeds {amount}; no error could be estimated: this covers these runs only."
    if row.status == "these checkpoints":
        seen = "differ" if row.result.p < alpha else "are not shown to differ"
        return f"These checkpoints {seen} on {others}; nothing is said about new training seeds."
    if row.result.p < alpha:
        weak = "" if row.status == "confirmatory" else " (exploratory)"
        corrected = row.p_holm if row.p_holm is not None else row.q_bh
        if corrected is not None and corrected >= alpha:
            weak += f", but not after the correction over the family of {row.family_size}"
        bad = [
            f"{guard.cell.measure} {guard.verdict}" for guard in row.guards if guard.p is not None and guard.p >= alpha
        ]
        beside = f" Beside it: {'; '.join(dict.fromkeys(bad))}." if bad else ""
        return f"Covers new training seeds of these arms and {others}{weak}.{beside}"
    limit = ""
    if row.smallest_detectable is not None:
        limit = f"; a true difference below {row.smallest_detectable:.4f} would rarely be found"
    if row.result.share_seed is not None and row.checkpoints.p < alpha:
        return (
            f"Only these checkpoints differ on {others}; it is not shown for new training seeds "
            f"(seeds are {row.result.share_seed:.0%} of the variance){limit}."
        )
    if row.query_set is not None and row.query_set.p < alpha:
        return f"Only on exactly these {units} would new seeds differ again; it is not shown for {others}{limit}."
    return f"No difference is shown for any population{limit}."


def new_clusters(clusters: Clustered) -> str:
    """Return over what a test generalises, in words: `new constraints of these kinds (29 here)`."""
    parts = (f"new {plural_kind(name)} ({kind.num_clusters:,} here)" for name, kind in clusters.kinds.items())
    return f"{' and '.join(parts)} of these kinds"


def plural_kind(kind: str) -> str:
    """Return the plural of a kind of cluster."""
    return kind if kind.endswith("s") else f"{kind}s"


def replication(rows: Sequence[ContrastRow], alpha: float) -> list[dict[str, Any]]:
    """Return, for each contrast on several data sets, on how many it is there and the signs (see `replicated`)."""
    groups: dict[tuple[str, ...], list[ContrastRow]] = {}
    for row in rows:
        if row.num_sets == 1:
            groups.setdefault((row.label, *row.cell[1:]), []).append(row)
    return [
        {
            "contrast": label,
            "condition": condition,
            "direction": direction,
            "measure": measure,
            "replicated_on": replicated([row.result.p for row in members], alpha),
            "of": len(members),
            "signs": {
                r.cell.dataset: "+" if r.result.estimate > 0 else "-" if r.result.estimate < 0 else "0" for r in members
            },
        }
        for (label, condition, direction, measure), members in groups.items()
        if len(members) > 1
    ]
