"""A study while it runs: what is done, what runs, the time left at the present pace, and the contrasts so far.

    python -m analysis.watch dual_view              # on a terminal: one table, refreshed until all runs are there
    python -m analysis.watch dual_view --once       # one look, for a log or a script

Off a terminal a line is printed whenever a run is finished. Nothing is written and no process is asked. To look is no
declared look: verdicts are those of `analysis.claims` when all seeds are there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from ablate.cli.command import add_study, command, finish
from ablate.records import UserError
from ablate.tables import Column, Table, number, to_text
from analysis.stats.contrast_tables import interval
from analysis.verdict.board import Board, Running, look

NO_LOOK = "Looking is no declared look: intervals move until all seeds are there, and stopping on one is no test."


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.watch",
        "Show where a running study stands: runs done, steps of those that run, time left, contrasts so far.",
        "dual_view --every 10",
    )
    add_study(made)
    made.add_argument(
        "--every", metavar="S", type=float, default=5.0, help="seconds between looks (default 5, least 1)"
    )
    made.add_argument("--once", action="store_true", help="one look, then end")
    return made


def _run(args: argparse.Namespace) -> None:
    if not args.every >= 1:
        raise UserError(f"--every {args.every:g} is too often; it must be at least 1 second")
    board = look(args.results, args.study)
    if args.once or board.is_complete:
        print(text(board))
        return
    try:
        if sys.stdout.isatty():
            _live(args, board)
        else:
            _lines(args, board)
    except KeyboardInterrupt:
        pass


def _live(args: argparse.Namespace, board: Board) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(Text(text(board)), auto_refresh=False) as shown:
        while not board.is_complete:
            time.sleep(args.every)
            board = look(args.results, args.study)
            shown.update(Text(text(board)), refresh=True)


def _lines(args: argparse.Namespace, board: Board) -> None:
    print(headline(board), flush=True)
    while not board.is_complete:
        time.sleep(args.every)
        before, board = board, look(args.results, args.study)
        if board.num_done != before.num_done or board.num_failed != before.num_failed:
            print(headline(board), flush=True)
    print(text(board))


def headline(board: Board) -> str:
    """Return how far a study is, in a line."""
    wanted = "" if board.num_wanted is None else f" of {board.num_wanted}"
    parts = [f"{board.study}: {board.num_done}{wanted} runs done"]
    parts += [f"{board.num_failed} failed"] if board.num_failed else []
    if board.is_complete:
        parts.append("complete")
    elif board.left_s is not None:
        parts.append(f"{_duration(board.left_s)} left at the pace of the last runs")
    return ", ".join([*parts, f"{board.cpu_s / 3600:.2f} processor hours"])


def text(board: Board) -> str:
    """Return everything that is known, for reading."""
    lines = [headline(board)]
    lines += [f"  {_training(running)}" for running in board.running]
    if board.rows:
        columns = (
            Column("contrast"),
            Column("place"),
            Column("seeds", "r"),
            Column("so far", "r"),
            Column("interval", "r"),
        )
        rows = tuple(
            (
                row.label,
                str(row.cell),
                str(min(row.num_seeds.values())),
                number(row.result.estimate),
                interval(row.result.ci),
            )
            for row in board.rows
        )
        lines += ["", to_text(Table("", columns, rows, (NO_LOOK,)))]
    return "\n".join(lines)


def _training(running: Running) -> str:
    if running.step is None or not running.steps:
        return f"{running.name}: starting"
    return f"{running.name}: step {running.step} of {running.steps} ({running.step / running.steps:.0%})"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(1, minutes)} min"


def main(argv: Sequence[str] | None = None) -> int:
    """Show a study until it is complete and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
