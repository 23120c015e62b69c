"""The process of a mirror: it follows a ledger and hands its records to a service.

    python -m ablate.tracking.mirror LEDGER FOLDER PROJECT [--trackio] [--entity E] [--online]

puts a ledger into W&B, or into trackio, afterwards.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ablate.tracking.follow import Follower, Recipient, State, hand_over, one_line
from ablate.tracking.process import SCRATCH
from ablate.tracking.trackio import TrackioRun, trackio_environment
from ablate.tracking.wandb import WandbRun, wandb_environment


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ablate.tracking.mirror", description="Put a ledger into W&B, or into trackio."
    )
    parser.add_argument("ledger", type=Path)
    parser.add_argument("folder", type=Path, help="where everything that the service writes lies")
    parser.add_argument("project")
    parser.add_argument("--trackio", action="store_true", help="into trackio, on this machine")
    parser.add_argument("--entity", help="user or team of W&B")
    parser.add_argument("--online", action="store_true", help="into W&B's server at once")
    parser.add_argument("--attempt", type=int, help="which start of the run; default: the last")
    parser.add_argument("--parent", type=int, help="process whose end also ends the ledger")
    parser.add_argument("--init-timeout", type=float, default=60.0, help="seconds")
    return parser


def _recipient(given: argparse.Namespace, state: State) -> Recipient:
    folder = given.folder.absolute()
    if given.trackio:
        return TrackioRun(folder, given.project, state)
    return WandbRun(
        given.ledger,
        folder,
        given.project,
        state,
        entity=given.entity,
        online=given.online,
        init_timeout_s=given.init_timeout,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Put a ledger into a service: follow it while process `--parent` lives, or replay its last attempt."""
    given = _parser().parse_args(arguments)
    replay = given.parent is None
    if replay:
        environment = trackio_environment if given.trackio else wandb_environment
        taken = environment(given.folder.absolute())
        os.environ.clear()
        os.environ.update(taken)
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    attempt = given.attempt
    if attempt is None:
        counter = Follower(given.ledger, None, None)
        attempt = sum(record["kind"] == "start" for record in [*counter.records(), *counter.earlier])
    state = State()
    recipient = _recipient(given, state)
    try:
        hand_over(Follower(given.ledger, attempt, given.parent), recipient, attempt)
    except Exception as error:
        state.fail(f"{type(error).__name__}: {one_line(error)}")
    recipient.close()
    state.set(done=True)
    if replay:
        title = "trackio" if given.trackio else "W&B"
        print(f"{title}: {state.reason or state.values.get('next') or 'the server has it'}")
    elif os.getppid() != given.parent:  # nobody is left to do it
        if tempfile.gettempdir().rpartition(os.sep)[2].startswith(SCRATCH):
            shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)
    return 1 if state.reason else 0


if __name__ == "__main__":
    sys.exit(main())
