"""How large must a difference be to lie outside the noise of training itself? A/A differences, one cause at a time.

    python -m ablate.run -m +sweeps=noise_floor                                              # seeds, orders, precision
    python -m ablate.run -m +sweeps=noise_floor runtime.threads=1 runtime.results=one_thread # the same on one thread
    python -m analysis.noise_floor noise_floor --also one_thread --json floor.json

Any study will do: its seeds are compared in every arm. `--also` names further folders of results with the same study,
made with other threads, on another device or another machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ablate.cli.command import add_study, command, finish, output_file, write_text
from ablate.records import UserError
from ablate.tables import to_markdown
from analysis.stats.crossed import check_level
from analysis.study.evidence import Evidence
from analysis.study.noise_floor import axis_table, floor_table, noise_of, noise_records


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.noise_floor",
        "A/A differences of runs that differ in one thing alone (seed, order, precision, threads, device, machine, "
        "nothing), and the smallest difference between two arms that may be claimed.",
        "noise_floor --also one_thread --measure 'satisfying over violating'",
    )
    add_study(made)
    made.add_argument(
        "--also",
        metavar="DIR",
        action="append",
        default=[],
        help="another folder of results with this study: other threads, device or machine (repeatable)",
    )
    made.add_argument("--measure", metavar="M", action="append", default=[], help="only this measure (repeatable)")
    made.add_argument(
        "--seeds", metavar="S", type=int, nargs="+", default=[1, 3, 5, 10], help="runs per arm (default 1 3 5 10)"
    )
    made.add_argument("--alpha", metavar="A", type=float, default=0.05, help="share of noise above it (default .05)")
    made.add_argument("--json", type=output_file, metavar="F", help="also write everything to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    check_level(args.alpha, "--alpha")
    for count in args.seeds:
        if count < 1:
            raise UserError(f"--seeds {count} is no number of runs; it must be at least 1")
    folders = [args.results, *args.also]
    evidences = [Evidence(folder, args.study) for folder in dict.fromkeys(folders)]
    noise = noise_of(evidences, args.alpha, args.measure)
    tables = [floor_table(noise, args.study, args.seeds, args.alpha), axis_table(noise, args.study)]
    print("\n".join(to_markdown(table) for table in tables), end="")
    if args.json:
        record = {"study": args.study, "alpha": args.alpha, "places": noise_records(noise, args.seeds, args.alpha)}
        write_text(args.json, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the noise floor of a study and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
