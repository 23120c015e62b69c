"""A study as a W&B report: verdicts and contrasts from the results, and W&B's panels of its runs, grouped by arm.

python -m analysis.wandb_report dual_view                                # its specification, asks no server
python -m analysis.wandb_report dual_view --online --entity me           # saved in W&B; again: the same report, renewed
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablate.cli.command import add_study, command, finish, output_file, write_text
from ablate.records import UserError
from ablate.store.files import REPORTS, WANDB_REPORT_FILE, file_name
from ablate.tracking.sync import Server
from analysis.page.gather import gather
from analysis.page.source import Source
from analysis.page.wandb_report import check_installed, describe, panels_of, specification
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.wandb_report",
        "Describe a study as a W&B report (verdicts, contrasts, run comparer, plots by arm, p-MRR against nDCG@10, "
        "parallel coordinates): as a file of JSON, and with --online saved in W&B. Needs the extra wandb-reports.",
        "dual_view --online --entity me --project ablate",
    )
    add_study(made)
    made.add_argument("--baseline", metavar="A", help="arm that others are compared with (default: the claims')")
    made.add_argument("--entity", help="W&B user or team (default with --online: that of the key)")
    made.add_argument("--project", default="ablate", help="W&B project of the runs (default: ablate)")
    made.add_argument("--online", action="store_true", help="save the report in W&B and print its address")
    made.add_argument(
        "--out",
        type=output_file,
        metavar="FILE",
        help=f"file of the specification (default: RESULTS/{REPORTS}/STUDY/…)",
    )
    return made


def _run(args: argparse.Namespace) -> None:
    evidence = Evidence(args.results, args.study, baseline=args.baseline)
    evidence.check_names()
    check_installed()
    place = args.out or Path(args.results) / REPORTS / file_name(args.study) / WANDB_REPORT_FILE
    study = OpenStudy(evidence)
    report = gather(study, args.results, args.baseline)
    panels = panels_of(Source(study, args.results, args.baseline), report)
    earlier = _earlier(place)
    if not args.online:
        described = describe(report, panels, args.entity or "", args.project, linked=False)
        write_text(place, _text(specification(described) | earlier))
        words = ["python", "-m", "analysis.wandb_report", args.study, "--online", "--project", args.project]
        words += ["--results", args.results] if args.results != "results" else []
        words += ["--entity", args.entity] if args.entity else []
        words += ["--baseline", args.baseline] if args.baseline else []
        words += ["--out", str(args.out)] if args.out else []
        print(f"{args.study}: not in W&B yet; with its runs there (analysis.wandb_sync): {shlex.join(words)}")
        return
    server = Server(evidence.store.unsent)
    entity = str(args.entity or server.entity)
    os.environ["WANDB_SILENT"] = "true"
    with server.asking("the report was not saved; are its runs there (analysis.wandb_sync)?"):
        described = describe(report, panels, entity, args.project, linked=True)
        values = specification(described)
        if earlier and (earlier["entity"], earlier["project"]) == (entity, args.project):
            described.id = earlier["id"]
        described.save()
        saved = {"id": described.id, "url": described.url}
    write_text(place, _text(values | saved))
    print(f"{args.study}: {saved['url']}")


def _earlier(place: Path) -> dict[str, Any]:
    """Return where the report was saved before; empty where it was not."""
    if not place.exists():
        return {}
    try:
        values = json.loads(place.read_text("utf-8"))
        return {name: values[name] for name in ("id", "url", "entity", "project")} if "id" in values else {}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{place}: not a specification of a report ({error}); delete it or name another (--out)"
        ) from None


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, indent=1) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Describe or save the report of a study and return the exit code: 0, or 2 for a mistake."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
