"""Judge the items of a sample on a local web page or in a spreadsheet, and settle those on which raters differ.

    python -m analysis.annotate audit --rater ann                         # prints the address of a page; Ctrl-C ends
    python -m analysis.annotate audit --rater bob --to-csv bob.csv        # or a spreadsheet ...
    python -m analysis.annotate audit --rater bob --from-csv bob.csv      # ... and back, once it is filled
    python -m analysis.annotate audit --adjudicate ann bob                # the items on which the two differ

The folder is that of `analysis.sample_for_audit`. Each rater has a file of judgments, `answers/NAME.jsonl`, and what is
settled is in `answers/adjudicated.jsonl`: all of them are what `analysis.inversion_audit --judgments` reads. The same
command goes on where the last one ended.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ablate.cli.command import command, finish, output_file, write_text
from ablate.data.judgments import ADJUDICATED
from ablate.records import UserError
from analysis.audit.annotation.answers import AnswerFile, answer_file, disputed
from analysis.audit.annotation.server import PageServer, Task
from analysis.audit.annotation.spreadsheet import read_sheets, sheets_csv
from analysis.audit.sample_folder import SampleFolder, check_rater, open_sample


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.annotate",
        "Judge the items of a sample on a local web page or in a spreadsheet, and settle those on which raters differ.",
        "audit --rater ann",
    )
    made.add_argument("folder", type=Path, help="folder of a sample (analysis.sample_for_audit --to)")
    made.add_argument("--rater", metavar="NAME", help="who judges; nothing of other raters is shown")
    made.add_argument(
        "--adjudicate", metavar="NAME", nargs="+", help="settle the items on which these raters, two or more, differ"
    )
    made.add_argument("--port", type=_port, default=0, help="of the page on 127.0.0.1 (default: a free one)")
    made.add_argument("--stop-when-done", action="store_true", help="end seconds after the last answer, without Ctrl-C")
    made.add_argument(
        "--to-csv", type=output_file, metavar="F", help="write the sheets for a spreadsheet, with --rater's answers"
    )
    made.add_argument("--from-csv", type=Path, metavar="F", help="read what --rater filled in")
    return made


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; it must be a whole number from 0 to 65535")
    return int(text)


def _run(args: argparse.Namespace) -> None:
    if args.to_csv and args.from_csv:
        raise UserError("--to-csv writes and --from-csv reads; give one of them")
    if args.adjudicate and (args.rater or args.to_csv or args.from_csv):
        raise UserError("--adjudicate shows a page of its own; give it without --rater, --to-csv and --from-csv")
    if args.adjudicate and len(set(args.adjudicate)) < 2:
        raise UserError(f"--adjudicate {' '.join(args.adjudicate)}: give two different raters or more")
    if not (args.rater or args.adjudicate or args.to_csv):
        raise UserError("give --rater NAME to judge, or --adjudicate NAME NAME to settle what raters differ on")
    for name in args.adjudicate or ([args.rater] if args.rater else []):
        check_rater(name)
    sample = open_sample(args.folder)
    if args.to_csv:
        _write_csv(sample, args.rater, args.to_csv)
    elif args.from_csv:
        _read_csv(sample, args.rater, args.from_csv)
    elif args.rater:
        with answer_file(sample, args.rater) as answers:
            _serve(Task(answers, list(sample.sheets), {}), args)
    else:
        said = disputed(sample, list(dict.fromkeys(args.adjudicate)))
        if not said:
            print("the raters agree on every item that more than one of them judged: nothing is to be settled")
            return
        with answer_file(sample, ADJUDICATED) as answers:
            _serve(Task(answers, list(said), said), args)


def _write_csv(sample: SampleFolder, rater: str | None, path: Path) -> None:
    if rater and sample.answers_path(rater).is_file():
        with answer_file(sample, rater) as answers:
            write_text(path, sheets_csv(sample, answers.answers))
    else:
        write_text(path, sheets_csv(sample, {}))


def _read_csv(sample: SampleFolder, rater: str, path: Path) -> None:
    filled = read_sheets(path, sample)
    with answer_file(sample, rater) as answers:
        for name, given in filled.items():
            if answers.answers.get(name, given) != given:
                raise UserError(
                    f"{path}: sheet {name} is answered otherwise in {answers.path}; empty its four cells, or change it "
                    f"on the page"
                )
        answers.save_all(filled)
        print(f"{len(answers.answers):,} of {len(sample.sheets):,} sheets are answered: {answers.path}")


def _serve(task: Task, args: argparse.Namespace) -> None:
    answers: AnswerFile = task.answers
    if answers.was_torn:
        print(f"{answers.path}: the last line was cut off by a kill; that item is asked again", file=sys.stderr)
    if not (args.stop_when_done and task.is_done):
        with PageServer(task, args.port, stop_when_done=args.stop_when_done) as server:
            try:
                print(f"{task.num_done:,} of {len(task.sheets):,} items are answered")
                print(f"open {server.address} in a browser on this machine; Ctrl-C ends, nothing is lost", flush=True)
                server.serve_forever(poll_interval=0.2)
            except KeyboardInterrupt:
                print()
    print(f"{task.num_done:,} of {len(task.sheets):,} items are answered: {answers.path}")
    if not task.is_done:
        print("the same command goes on from here")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
