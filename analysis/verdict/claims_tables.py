"""The verdicts on the claims of a study as tables for readers, as plain values for JSON and as CSV."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ablate.study.declaration import QUERIES
from ablate.tables import Column, Table, number, probability, to_csv
from analysis.stats.contrast import ContrastRow
from analysis.stats.contrast_tables import above_table, beside_table, clusters_table, interval, percent, row_record
from analysis.study.fairness import failed_table
from analysis.verdict.judge import Judged, Judgement, confirming_looks
from analysis.verdict.rule import claim_interval

_FLAT = (
    "claim",
    "says",
    "contrast",
    "dataset",
    "condition",
    "direction",
    "measure",
    "expects",
    "margin",
    "alpha",
    "population",
    "withdrawn",
    "seeds",
    "n_units",
    "n_clusters",
    "icc",
    "design_effect",
    "estimate",
    "se",
    "df",
    "ci_low",
    "ci_high",
    "level",
    "p",
    "p_holm",
    "family_size",
    "verdict",
    "would_be",
    "reason",
    "also_changed",
)


def claims_table(judgement: Judgement) -> Table:
    """Return the claims for readers, one line each, and under it one sentence each."""
    columns = (
        Column("claim"),
        Column("contrast"),
        Column("place"),
        Column("expects"),
        *([Column("over new")] if _has_populations(judgement) else []),
        Column("S"),
        Column("units", "r"),
        Column("estimate", "r"),
        Column("interval", "r"),
        Column("level", "r"),
        Column("p", "r"),
        Column("Holm p", "r"),
        Column("verdict"),
    )
    lines = tuple(_line(judged, _has_populations(judgement)) for judged in judgement.claims)
    reasons = [
        f"{claim_name(judged)}: {judged.ruling.verdict}. {sentence(judged.ruling.reason)}"
        for judged in judgement.claims
    ]
    title = f"Claims of study {judgement.study} ({judgement.table.mark})"
    return Table(title, columns, lines, (*reasons, *_notes(judgement)))


def _has_populations(judgement: Judgement) -> bool:
    return any(judged.claim.population for judged in judgement.claims)


def _line(judged: Judged, with_population: bool) -> tuple[str, ...]:
    claim, row = judged.claim, judged.row
    place = f"{claim.measure} on {claim.dataset} ({claim.condition}{claim.direction and ': ' + claim.direction})"
    expects = claim.expects + (f" (margin {claim.margin:g})" if claim.margin is not None else "")
    verdict = judged.ruling.verdict
    verdict += f" (would be {judged.would_be})" if judged.would_be != verdict else ""
    head: tuple[str, ...] = (claim_name(judged), claim.contrast, str(row.cell) if row else place, expects)
    head += (" × ".join(claim.population) or QUERIES,) if with_population else ()
    if row is None:
        return (*head, *["–"] * 7, verdict)
    ends, level = claim_interval(claim, row)
    counts = set(row.num_seeds.values())
    seeds = str(counts.pop()) if len(counts) == 1 else ", ".join(f"{arm} {n}" for arm, n in row.num_seeds.items())
    return (
        *head,
        seeds,
        f"{row.num_units:,}",
        number(row.result.estimate),
        interval(ends) if judged.tested else "–",
        percent(level) if judged.tested else "–",
        probability(judged.p),
        probability(judged.p_holm),
        verdict,
    )


def claim_name(judged: Judged) -> str:
    """Return what a claim is called, with what must stand beside its name."""
    return judged.claim.name + (" (withdrawn)" if judged.withdrawn else "")


def sentence(text: str) -> str:
    """Return a reason as a sentence: a capital before it, a full stop behind it."""
    start = text[:1] if text.startswith("p-MRR") else text[:1].upper()
    return start + text[1:].rstrip(".") + "."


def _notes(judgement: Judgement) -> list[str]:
    study, declared = judgement.declared.study, judgement.declared
    looks = len(confirming_looks(study))
    alphas = ", ".join(f"{alpha:g}" for alpha in sorted({judged.claim.alpha for judged in judgement.claims})) or "–"
    notes = [
        "p: of the test that supports the claim; Holm over the family of "
        f"{len(judgement.claims)} declared claims (one that cannot be tested counts with p 1), at alpha {alphas}"
        + (f" divided by {looks} declared looks at five seeds or more" if looks > 1 else "")
        + "; interval: 1 - 2 alpha for equivalent and not_worse (one-sided tests), else 1 - alpha, without the "
        "correction.",
        f"Declared {declared.declared_at or 'in a file, not yet run'} ({declared.digest}): {study.question}",
    ]
    fresh = "; ".join(
        f"{claim_name(judged)}: {judged.fresh}" for judged in judgement.claims if judged.fresh is not None
    )
    notes += [f"New in this folder of results under the declaration: {fresh}."] if fresh else []
    if any(scores.clusters for scores in judgement.table.cells.values()) and not all(
        judged.claim.population for judged in judgement.claims
    ):
        notes.append(
            "A claim over queries is over other ones with the constraints and wordings that are here; its population "
            "names kinds of which it is over new ones (analysis.breakdown shows what that would cost)."
        )
    also = judgement.also_changed.items()
    notes += [f"Also changed by {contrast}: {text}." for contrast, text in also if text]
    free = sorted({arm for judged in judgement.claims if judged.row for arm in judged.row.deterministic})
    return [*notes, f"Without training randomness: {', '.join(free)}."] if free else notes


def judgement_record(judgement: Judgement) -> dict[str, Any]:
    """Return everything as plain values for JSON."""
    return {
        "study": judgement.study,
        "question": judgement.declared.study.question,
        "declaration": judgement.declared.digest,
        "declared_at": judgement.declared.declared_at or None,
        "looks": list(judgement.declared.study.looks),
        "fairness": [check._asdict() for check in judgement.checks],
        "remarks": [dict(zip(("arm", "mark", "why"), remark, strict=True)) for remark in judgement.remarks],
        "also_changed": dict(judgement.also_changed),
        "claims": [_record(judgement, judged) for judged in judgement.claims],
    }


def _record(judgement: Judgement, judged: Judged) -> dict[str, Any]:
    claim = {"claim" if name == "name" else name: value for name, value in dataclasses.asdict(judged.claim).items()}
    return {
        **claim,
        "withdrawn": judged.withdrawn,
        "verdict": judged.ruling.verdict,
        "would_be": judged.would_be,
        "reason": sentence(judged.ruling.reason),
        "p": judged.p,
        "p_holm": judged.p_holm,
        "family_size": judged.level.family,
        "alpha_of_a_look": judged.level.alpha,
        "tested": judged.tested,
        "fresh": None if judged.fresh is None else {key: list(new) for key, new in judged.fresh._asdict().items()},
        "row": None if judged.row is None else _row(judgement, judged.row),
    }


def _row(judgement: Judgement, row: ContrastRow) -> dict[str, Any]:
    """Return the estimates of a claim, without a correction over this row alone: the family is that of the claims.

    What else changed belongs to the contrast and stands beside the claims.
    """
    elsewhere = ("p_holm", "q_bh", "tost_p_holm", "family_size", "also_changed")
    return {name: value for name, value in row_record(judgement.table, row).items() if name not in elsewhere}


def claims_csv(judgement: Judgement) -> str:
    """Return the claims as CSV with all digits."""
    lines = []
    for judged in judgement.claims:
        record = _record(judgement, judged)
        row = record["row"] or {}
        ends, level = claim_interval(judged.claim, judged.row) if judged.row and judged.tested else ((None, None), None)
        record |= {name: row.get(name) for name in ("n_units", "estimate", "se", "df")}
        record |= {"ci_low": ends[0], "ci_high": ends[1], "level": level}
        record["population"] = " × ".join(judged.claim.population) or QUERIES
        clusters = row.get("clusters") or {"number": None, "kinds": {}, "design_effect": None}
        record |= {"n_clusters": clusters["number"], "design_effect": clusters["design_effect"]}
        correlations = {kind: known["icc"] for kind, known in clusters["kinds"].items()}
        record["icc"] = json.dumps(correlations, ensure_ascii=False) if correlations else None
        record["also_changed"] = judgement.also_changed.get(judged.claim.contrast)
        record |= {"seeds": json.dumps(row["seeds"]) if "seeds" in row else None}
        lines.append(record)
    return to_csv(_FLAT, lines)


def verdict_tables(judgement: Judgement) -> list[Table]:
    """Return fairness, what is to be known of the arms, the claims, what clusters do to them, nDCG beside p-MRR."""
    rows = [judged.row for judged in judgement.claims if judged.row is not None]
    clusters, beside = clusters_table(rows), beside_table(rows)
    return [
        failed_table(judgement.checks, judgement.study),
        *([above_table("the claims", judgement.remarks)] if judgement.remarks else []),
        claims_table(judgement),
        *(further for further in (clusters, beside) if further.rows),
    ]
