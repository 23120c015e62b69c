"""Every number of a study's verdicts worked out again, without a model; the study as a packet for other machines.

    python -m analysis.verify STUDY                             # files, scores from rankings and judgments, verdicts
    python -m analysis.verify STUDY --packet STUDY.tar.gz       # the same, and all of it in one archive
    python -m analysis.verify --check STUDY.tar.gz              # on another machine, without the results
    python -m analysis.verify STUDY --check STUDY.tar.gz        # the results against a packet that was written of them

Exit code 0 when everything holds, 1 when something does not or cannot be worked out again, 2 for a mistake.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ablate.cli.command import add_study, command, finish, output_file
from ablate.records import UserError
from ablate.store.integrity import sha256_of
from analysis.verdict.packet import Changed, bind, compare, opened, verify_packet, write_packet
from analysis.verdict.verification import FAILS, HOLDS, Verification, Verified, verify


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.verify",
        "Score the stored rankings of a study again, judge its claims again, and say what does not agree.",
        "polarity --packet polarity.tar.gz",
    )
    add_study(made, needed=False)
    which = made.add_mutually_exclusive_group()
    which.add_argument(
        "--packet", type=output_file, metavar="OUT", help="write the study as one archive: everything but the models"
    )
    which.add_argument("--check", type=Path, metavar="F", help="verify such an archive, or the results against it")
    made.add_argument(
        "--bind",
        metavar="X",
        action="append",
        default=[],
        help="file (such as a time stamp of the declaration) or git hash to record in the packet, or to look for in it",
    )
    return made


def _run(args: argparse.Namespace) -> int:
    if args.study is None and args.check is None:
        raise UserError("give a STUDY, or --check F for a packet; --help shows what is allowed")
    if args.bind and args.packet is None and args.check is None:
        raise UserError("--bind records something in a packet; give --packet OUT too, or --check F")
    bound = [bind(text) for text in args.bind]
    if args.check is not None and not args.check.is_file():
        raise UserError(f"--check {args.check}: there is no such file; give one that --packet wrote")
    if args.check is None:
        verification = verify(args.results, args.study)
        code = show(verification)
        if args.packet is not None:
            _write(args.packet, verification, bound)
        return code
    try:
        with opened(args.check) as packet:
            verification = verify_packet(packet, bound)
            for item in packet.bound:
                print(f"bound: {item.get('file', 'commit')}: {item.get('sha256') or item.get('commit')}")
            if args.study is not None:
                if args.study != packet.study:
                    raise UserError(f"the packet is one of study {packet.study!r}, not of {args.study!r}")
                here = verify(args.results, args.study)
                wrong = [
                    item._replace(check=f"{item.check} (packet)") for item in verification.checks if item.state != HOLDS
                ]
                checks = [*here.checks, *compare(packet, here.evidence, Path(args.results).absolute()), *wrong]
                verification = here._replace(checks=sorted(checks, key=lambda verified: verified.state != FAILS))
            return show(verification)
    except Changed as error:
        return show(Verification([Verified(FAILS, "packet", str(error))], None, None, []))


def show(verification: Verification) -> int:
    """Print a line for each check, first what fails, then each deviation from the declaration; return the exit code."""
    for state, check, said in verification.checks:
        print(f"{state}: {check}: {said}")
    for what, said in verification.log:
        print(f"deviation: {what}: {said}")
    return 0 if verification.all_hold else 1


def _write(path: Path, verification: Verification, bound: Sequence[dict[str, str]]) -> None:
    if verification.evidence is None:
        raise UserError(f"{path} is not written: manifests cannot be read (see above); mend or move them away first")
    listed = write_packet(path, verification, bound)
    print(f"written: {path} (SHA-256 {sha256_of(path)}; of its list of files {listed})", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Verify a study or a packet and return the exit code: 0 all holds, 1 something does not, 2 a mistake."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
