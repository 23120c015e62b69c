"""What a study cost: seconds, processor and GPU time, tokens and FLOPs, by arm and in total, shared stages once.

python -m analysis.costs STUDY [--results results] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ablate.cli.command import add_study, command, finish, output_file, write_text
from analysis.study.costs import format_costs, read_costs
from analysis.study.evidence import Evidence


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.costs",
        "Seconds, processor and GPU time, tokens and FLOPs of a study by arm; shared stages count once.",
        "dual_view",
    )
    add_study(made)
    made.add_argument("--json", type=output_file, help="also write the sums to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    costs = read_costs(Evidence(args.results, args.study))
    print(format_costs(costs))
    if args.json:
        values = {arm: {"trainings": cost.runs, "stages": cost.stages, **cost.sums} for arm, cost in costs.items()}
        write_text(args.json, json.dumps(values, indent=1))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the costs of a study and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
