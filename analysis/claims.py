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

from ablate.cli.command import add_study, command, finish, output_file, write_text
from ablate.tables import to_latex, to_markdown
from analysis.study.declared import read_declaration
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy
from analysis.verdict.claims_tables import claims_csv, judgement_record, verdict_tables
from analysis.verdict.judge import judge
from analysis.verdict.wrong_labels import wrong_labels, wrong_labels_table


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
    evidence = Evidence(args.results, args.study, declared=declared)
    judgement = judge(OpenStudy(evidence))
    labels = wrong_labels(judgement, evidence.not_ranked)
    tables = [*verdict_tables(judgement), *([wrong_labels_table(labels)] if labels else [])]
    shown = "\n".join(to_markdown(table) for table in tables)
    print(shown, end="")
    if args.json:
        record = {
            **judgement_record(judgement),
            "wrong_labels": [dataclasses.asdict(of_claim) for of_claim in labels],
        }
        write_text(args.json, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if args.markdown:
        write_text(args.markdown, shown)
    if args.latex:
        write_text(args.latex, "\n".join(to_latex(table) for table in tables))
    if args.csv:
        write_text(args.csv, claims_csv(judgement))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the verdicts of a study and return the exit code: 0 whatever they are, 2 for a mistake."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
