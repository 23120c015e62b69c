"""What must be equal before arms may be compared: checks of a study, failing ones first.

python -m analysis.fairness STUDY [--results results] [--baseline ARM] [--models]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ablate.cli.command import add_study, command, finish, output_file, write_text
from ablate.tables import to_markdown
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.fairness",
        "What must be equal before the arms of a study may be compared; failing checks first.",
        "polarity --baseline instruction_negatives",
    )
    add_study(made)
    made.add_argument("--baseline", metavar="A", help="arm that budgets are matched against")
    made.add_argument("--models", action="store_true", help="also read the files of the trained models")
    made.add_argument("--json", type=output_file, metavar="F", help="also write the checks to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    study = OpenStudy(Evidence(args.results, args.study, baseline=args.baseline, with_models=args.models))
    print(to_markdown(study.fairness), end="")
    if args.json:
        write_text(args.json, json.dumps(study.fairness_record, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the checks of a study and return the exit code: 0 whatever they find, 2 for a mistake."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
