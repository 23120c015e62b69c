"""The declared claims of a study, each with one verdict and its reason (in which order: `analysis.verdict.rule`).

python -m analysis.claims STUDY [--declared sweeps/NAME.yaml] [--results results]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablate.cli.command import add_study, command, finish, output_file, write_text
from ablate.tables import Column, Table, number, probability, to_csv, to_latex, to_markdown
from analysis.stats.contrast_rows import ContrastRow
from analysis.stats.contrast_tables import beside_table, row_record
from analysis.study.declared import read_declaration
from analysis.study.evidence import Evidence
from analysis.study.fairness import fairness_table
from analysis.study.opened import OpenStudy
from analysis.verdict.judge import Judged, Judgement, judge

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
    "withdrawn",
    "seeds",
    "n_units",
    "estimate",
    "se",
    "df",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "family_size",
    "verdict",
    "would_be",
    "reason",
)


def claims_table(found: Judgement) -> Table:
    """Return the claims for readers, one line each, and under it one sentence each."""
    columns = (
        Column("claim"),
        Column("contrast"),
        Column("place"),
        Column("expects"),
        Column("S"),
        Column("units", "r"),
        Column("estimate", "r"),
        Column("interval", "r"),
        Column("p", "r"),
        Column("Holm p", "r"),
        Column("verdict"),
    )
    lines = tuple(_line(one) for one in found.claims)
    reasons = [f"{_name(one)}: {one.ruling.verdict}. {_sentence(one.ruling.reason)}" for one in found.claims]
    title = f"Claims of study {found.study} ({found.table.mark})"
    return Table(title, columns, lines, (*reasons, *_notes(found)))


def _line(one: Judged) -> tuple[str, ...]:
    claim, row = one.claim, one.row
    place = f"{claim.measure} on {claim.dataset} ({claim.condition}{claim.direction and ': ' + claim.direction})"
    expects = claim.expects + (f" (margin {claim.margin:g})" if claim.margin is not None else "")
    verdict = one.ruling.verdict
    verdict += f" (would be {one.would_be})" if one.would_be != verdict else ""
    head = (_name(one), claim.contrast, str(row.cell) if row else place, expects)
    if row is None:
        return (*head, *["–"] * 6, verdict)
    low, high = row.result.ci
    interval = f"[{number(low)}, {number(high)}]" if one.tested else "–"
    counts = set(row.num_seeds.values())
    seeds = str(counts.pop()) if len(counts) == 1 else ", ".join(f"{arm} {n}" for arm, n in row.num_seeds.items())
    return (
        *head,
        seeds,
        f"{row.num_units:,}",
        number(row.result.estimate),
        interval,
        probability(one.p),
        probability(one.p_holm),
        verdict,
    )


def _name(one: Judged) -> str:
    return one.claim.name + (" (withdrawn)" if one.withdrawn else "")


def _sentence(text: str) -> str:
    start = text[:1] if text.startswith("p-MRR") else text[:1].upper()
    return start + text[1:].rstrip(".") + "."


def _notes(found: Judgement) -> list[str]:
    study, declared = found.declared.study, found.declared
    looks = max(1, len(study.looks))
    alphas = ", ".join(f"{alpha:g}" for alpha in sorted({one.claim.alpha for one in found.claims})) or "–"
    notes = [
        "p: of the test that supports the claim; Holm over the family of "
        f"{len(found.claims)} declared claims (one that cannot be tested counts with p 1), at alpha {alphas}"
        + (f" divided by {looks} declared looks" if looks > 1 else "")
        + "; intervals at the same alpha.",
        f"Declared {declared.declared_at or 'in a file, not yet run'} ({declared.digest}): {study.question}",
    ]
    free = sorted({arm for one in found.claims if one.row for arm in one.row.deterministic})
    return [*notes, f"Without training randomness: {', '.join(free)}."] if free else notes


def judgement_record(found: Judgement) -> dict[str, Any]:
    """Return everything as plain values for JSON."""
    return {
        "study": found.study,
        "question": found.declared.study.question,
        "declaration": found.declared.digest,
        "declared_at": found.declared.declared_at or None,
        "looks": list(found.declared.study.looks),
        "fairness": [check._asdict() for check in found.checks],
        "claims": [_record(found, one) for one in found.claims],
    }


def _record(found: Judgement, one: Judged) -> dict[str, Any]:
    claim = {"claim" if name == "name" else name: value for name, value in dataclasses.asdict(one.claim).items()}
    return {
        **claim,
        "withdrawn": one.withdrawn,
        "verdict": one.ruling.verdict,
        "would_be": one.would_be,
        "reason": _sentence(one.ruling.reason),
        "p": one.p,
        "p_holm": one.p_holm,
        "family_size": one.level.family,
        "alpha_of_a_look": one.level.alpha,
        "tested": one.tested,
        "row": None if one.row is None else _row(found, one.row),
    }


def _row(found: Judgement, row: ContrastRow) -> dict[str, Any]:
    """Return the estimates of a claim, without a correction over this row alone: the family is that of the claims."""
    corrected = ("p_holm", "q_bh", "tost_p_holm", "family_size")
    return {name: value for name, value in row_record(found.table, row).items() if name not in corrected}


def claims_csv(found: Judgement) -> str:
    """Return the claims as CSV with all digits."""
    lines = []
    for one in found.claims:
        record = _record(found, one)
        row = record["row"] or {"ci": (None, None)}
        low, high = row["ci"] if one.tested else (None, None)
        record |= {name: row.get(name) for name in ("n_units", "estimate", "se", "df")}
        record |= {"ci_low": low, "ci_high": high, "seeds": json.dumps(row["seeds"]) if "seeds" in row else None}
        lines.append(record)
    return to_csv(_FLAT, lines)


def tables(found: Judgement) -> list[Table]:
    """Return the fairness of the study, its claims, and nDCG beside those on p-MRR."""
    beside = beside_table([one.row for one in found.claims if one.row is not None])
    return [fairness_table(found.checks, found.study), claims_table(found), *([beside] if beside.rows else [])]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.claims",
        "A verdict on every declared claim of a study, with its reason.",
        "polarity --markdown claims.md --json claims.json",
    )
    add_study(made)
    made.add_argument("--declared", type=Path, metavar="F", help="file of sweeps/ whose claims are read instead")
    for name in ("json", "markdown", "latex", "csv"):
        made.add_argument(f"--{name}", type=output_file, metavar="F", help=f"also write {name} to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    declared = read_declaration(args.declared) if args.declared else None
    found = judge(OpenStudy(Evidence(args.results, args.study, declared=declared)))
    shown = "\n".join(to_markdown(one) for one in tables(found))
    print(shown, end="")
    if args.json:
        write_text(args.json, json.dumps(judgement_record(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if args.markdown:
        write_text(args.markdown, shown)
    if args.latex:
        write_text(args.latex, "\n".join(to_latex(one) for one in tables(found)))
    if args.csv:
        write_text(args.csv, claims_csv(found))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the verdicts of a study and return the exit code: 0 whatever they are, 2 for a mistake."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
