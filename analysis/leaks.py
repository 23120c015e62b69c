"""What training shares with evaluation: queries, instructions, documents and judged pairs, by arm and set.

python -m analysis.leaks STUDY [--near .5] [--json F] [--csv F]
python -m analysis.leaks STUDY --contrast "B - A" [--leave-out pairs]      # contrasts without the touched units too
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ablate.cli.command import add_study, command, finish, output_file, write_text
from ablate.records import UserError
from ablate.tables import to_markdown
from analysis.stats.asked import Asked, targets
from analysis.stats.families import Plan
from analysis.study.evidence import Evidence
from analysis.study.leaks import (
    LEFT_OUT,
    example_table,
    find_leaks,
    leak_csv,
    leak_records,
    leak_table,
    recomputed,
    recomputed_table,
)
from analysis.study.opened import OpenStudy
from analysis.verdict.family import declared_family


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.leaks",
        "Count the queries, instructions, documents and judged pairs of each evaluation set that each mix has too, and "
        "test contrasts without them.",
        "dual_view --contrast 'dual_view - instruction_negatives'",
    )
    add_study(made)
    made.add_argument(
        "--near",
        metavar="X",
        type=float,
        default=0.5,
        help="share of the eight-word runs of a document, in one training passage, from which it is near (default .5)",
    )
    made.add_argument(
        "--contrast", metavar="C", action="append", default=[], help='test it with and without: "B - A" (repeatable)'
    )
    made.add_argument(
        "--leave-out",
        choices=tuple(LEFT_OUT),
        default="queries",
        help="whose scores are left out: queries that are training queries (default); those of them with a trained "
        "pair; queries with a trained relevant document",
    )
    made.add_argument("--json", type=output_file, metavar="F", help="also write counts and units to this file")
    made.add_argument("--csv", type=output_file, metavar="F", help="also write the counts of every run to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    if not 0 < args.near <= 1:
        raise UserError(f"--near {args.near:g} is no share of a document; it must be above 0 and at most 1")
    study = OpenStudy(Evidence(args.results, args.study))
    contrasts = study.ask([], args.contrast, [], Plan()) if args.contrast else None
    leaks = find_leaks(study.evidence, args.near)
    tables = [leak_table(leaks, args.study, args.near)]
    examples = example_table(leaks)
    tables += [examples] if examples else []
    record = {"near": args.near, "leaks": leak_records(leaks), "remarks": leaks.remarks}
    if contrasts is not None:
        places = targets(contrasts.table)
        every = [Asked(label, weights, at) for at in places for label, weights in contrasts.contrasts.items()]
        family = declared_family(study, contrasts.plan)
        asked, table = contrasts.testable([family.as_declared(item) for item in every])
        rows = recomputed(table, asked, contrasts.plan, leaks, args.leave_out)
        tables.append(recomputed_table(rows, table, args.leave_out, contrasts.plan.options.alpha))
        record |= {"left_out": args.leave_out, "contrasts": [row._asdict() for row in rows]}
    print("\n".join(to_markdown(table) for table in tables), end="")
    if args.json:
        write_text(args.json, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if args.csv:
        write_text(args.csv, leak_csv(leaks))


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is shared and return the exit code: 0 whatever it is, 2 for a mistake."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
