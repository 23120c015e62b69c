"""All totals of the arms of a study side by side: what was held equal, and what was not.

python -m analysis.budgets STUDY [--results results] [--baseline ARM] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ablate.cli.command import add_study, command, finish, output_file, write_text
from analysis.study.evidence import Evidence
from analysis.study.totals import default_baseline, format_budgets, unmatched


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.budgets",
        "All totals of the arms of a study side by side; arms that differ in the declared unit are marked.",
        "single_runs --baseline instruction_negatives",
    )
    add_study(made)
    made.add_argument(
        "--baseline",
        help="arm to match against (default: that of the declared "
        "claims, else instruction_negatives, else the budget of most arms)",
    )
    made.add_argument("--json", type=output_file, help="also write the totals to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    evidence = Evidence(args.results, args.study)
    arms = evidence.mixed
    baseline = args.baseline or default_baseline(arms, evidence.declared)
    print(format_budgets(arms, baseline))
    if args.json:
        wrong = unmatched(arms, baseline)
        values = {
            arm.arm: {**arm.totals, "unmatched": wrong.get(arm.arm), "composition": arm.composition} for arm in arms
        }
        write_text(args.json, json.dumps(values, indent=1))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the budget table of a study and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
