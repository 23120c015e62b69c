"""The offline W&B runs of a study sent to the server, each compared there with its ledger; safe to repeat.

python -m analysis.wandb_sync dual_view               # needs WANDB_API_KEY or `wandb login`
python -m analysis.wandb_sync dual_view --list        # says what there is, and asks no server
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ablate.cli.command import add_study, command, finish
from ablate.records import UserError
from ablate.store.results import ResultStore
from ablate.tracking.sync import Server, UnsentRun, unsent_runs


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; it must be a number of seconds above 0, such as 120")
    return seconds


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.wandb_sync",
        "Send the offline W&B runs of a study with the client's own `wandb sync`, and compare each on the server with "
        "its ledger. What was sent before is compared only; what is not whole is made anew from its ledger. Exit code "
        "1 when a run failed.",
        "dual_view",
    )
    add_study(made)
    made.add_argument("--list", action="store_true", help="say which runs there are, and ask no server")
    made.add_argument("--again", action="store_true", help="send once more what was sent before")
    made.add_argument(
        "--timeout", type=_seconds, default=300.0, metavar="S", help="seconds for each run (default: 300)"
    )
    return made


def _runs(results: str, study: str) -> list[UnsentRun]:
    """Return the unsent runs of a study; raises UserError where there is none."""
    folder = ResultStore(results).unsent
    runs = unsent_runs(folder)
    own = [run for run in runs if run.study == study]
    if not own:
        known = ", ".join(sorted({run.study for run in runs})) or "none"
        raise UserError(
            f"no offline W&B run of a study {study!r} under {folder}; studies there: {known}; runs of an earlier "
            "version have no note of their study: `wandb sync FOLDER` sends them"
        )
    return own


def _run(args: argparse.Namespace) -> int:
    runs = _runs(args.results, args.study)
    width = max(len(run.name) for run in runs)
    if args.list:
        for run in runs:
            state = "sent" if run.is_sent else "not sent" if run.ended else "not whole"
            print(f"{run.name:<{width}}  {state:<9}  {run.folder or run.ledger}")
        return 0
    server = Server(ResultStore(args.results).unsent)
    failed = 0
    for run in runs:
        ok, words = server.send(run, again=args.again, timeout_s=args.timeout)
        failed += not ok
        print(f"{run.name:<{width}}  {'done  ' if ok else 'failed'}  {words}", flush=True)
    print(f"{args.study}: {len(runs) - failed} done, {failed} failed, at {server.url}")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Send a study and return the exit code: 0 when every run arrived, 1 when one did not, 2 for a mistake."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
