"""A study as one page to be read in five minutes: verdicts first, then the numbers behind them and where they are from.

python -m analysis.report dual_view                  # results/reports/dual_view/report.html, needs no network
python -m analysis.report dual_view --out /tmp/report --baseline instruction_negatives
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ablate.cli.command import add_study, command, finish, output_folder
from ablate.records import UserError
from ablate.store.files import FOLDERS, REPORTS, file_name
from analysis.page.gather import gather
from analysis.page.labels import read_audit
from analysis.page.record import Report
from analysis.page.write import Written, write
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.report",
        "Write a study as one page that needs no network (verdicts, intervals, queries, budgets, checks, values, "
        "provenance), and beside it Markdown, LaTeX, CSV and figures.",
        "dual_view --out /tmp/report",
    )
    add_study(made)
    made.add_argument("--baseline", metavar="A", help="arm that others are compared with (default: the claims')")
    made.add_argument(
        "--audit",
        metavar="F",
        action="append",
        default=[],
        help="JSON of analysis.inversion_audit, for labels that have no census (repeatable)",
    )
    made.add_argument(
        "--out", type=output_folder, metavar="DIR", help=f"folder to write into (default: RESULTS/{REPORTS}/STUDY)"
    )
    return made


def _run(args: argparse.Namespace) -> None:
    evidence = Evidence(args.results, args.study, baseline=args.baseline)
    evidence.check_names()
    audits = tuple(read_audit(Path(place)) for place in args.audit)
    folder = args.out or _default_folder(args.results, args.study)
    _check_outside(folder, Path(args.results))
    report = gather(OpenStudy(evidence), args.results, args.baseline, audits)
    print(_said(report, write(report, folder)))


def _default_folder(results: str, study: str) -> Path:
    """Return where reports lie; raises UserError where nothing can be written."""
    folder = Path(results) / REPORTS / file_name(study)
    try:
        return output_folder(str(folder))
    except argparse.ArgumentTypeError as error:
        raise UserError(f"the report's folder {error} (--out)") from None


def _check_outside(folder: Path, results: Path) -> None:
    """Raise UserError for a folder in which stages lie: what is in theirs counts as their content."""
    for name in FOLDERS.values():
        stages = (results / name).resolve()
        if stages in (folder.resolve(), *folder.resolve().parents):
            raise UserError(
                f"--out {str(folder)!r} lies in {stages}, where only stages of runs are; name another folder"
            )


def _said(report: Report, written: Written) -> str:
    counts = Counter(claim.verdict for claim in report.verdicts)
    verdicts = ", ".join(f"{num} {verdict}" for verdict, num in counts.items()) or "no claim was declared"
    lines = [
        f"{report.study}: {verdicts}; {report.headline}",
        f"{written.page} ({written.page.stat().st_size:,} bytes), with {written.num_tables} tables and "
        f"{written.num_figures} figures beside it",
    ]
    return "\n".join([*lines, written.skipped] if written.skipped else lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of a study and return the exit code: 0 whatever its verdicts, 2 for a mistake."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
