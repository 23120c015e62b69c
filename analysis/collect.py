"""All scores of a study in one long table: the file that `analysis.significance --scores` takes, and means at a glance.

python -m analysis.collect STUDY --out scores.parquet [--results results]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ablate.cli.command import add_study, command, finish, output_file, write_parquet
from ablate.evaluation.measures import mean_name
from ablate.records import UserError
from analysis.stats.collapse import Collapsed, collapses
from analysis.study.evidence import Evidence
from analysis.study.runs import deterministic_arms
from analysis.study.scores import format_means, in_words, means


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.collect",
        "All scores of a study in one long table, and their means over seeds.",
        "polarity --out polarity.parquet --measure 'nDCG@10'",
    )
    add_study(made)
    made.add_argument("--out", type=output_file, help="write the long table to this Parquet file")
    made.add_argument("--measure", action="append", help="print only this measure; may be given again")
    return made


def _run(args: argparse.Namespace) -> None:
    evidence = Evidence(args.results, args.study)
    table = in_words(evidence.long_table())
    averages = means(table)
    known = {key[1] for key in averages}
    by_name = {mean_name(measure): measure for measure in sorted(known)} | {measure: measure for measure in known}
    for name in args.measure or ():
        if name not in by_name:
            raise UserError(f"--measure {name!r} is not there; measures: {', '.join(sorted(map(mean_name, known)))}")
    chosen = {by_name[name] for name in args.measure or known}
    for line in evidence.remarks:
        print(line)
    fixed = sorted(deterministic_arms(evidence.runs))
    for collapsed in _collapses(evidence, fixed):
        print("{1}: {0}, {2}".format(*collapsed.remark))
    print(format_means({key: value for key, value in averages.items() if key[1] in chosen}))
    if fixed:
        flags = " ".join(f"--deterministic {arm}" for arm in fixed)
        print(f"without training randomness, one seed stands for all; analysis.significance --scores: {flags}")
    if args.out:
        write_parquet(args.out, table)
        print(f"{len(table):,} scores written to {args.out}")


def _collapses(evidence: Evidence, fixed: Sequence[str]) -> list[Collapsed]:
    """Return the collapses of a study; scores that cannot be put side by side are still collected, and have none."""
    try:
        return collapses(evidence.table, fixed, evidence.table.arms)
    except UserError as error:
        print(f"collapses are not looked for: {error}")
        return []


def main(argv: Sequence[str] | None = None) -> int:
    """Write the scores of a study, print their means, and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
