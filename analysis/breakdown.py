"""Contrasts by form and by kind of constraint, and the cluster of units that carries most of each effect.

python -m analysis.breakdown STUDY                                     # the claims of its declaration
python -m analysis.breakdown STUDY --contrast "B - A" --measure p-MRR --by constraint
python -m analysis.breakdown --scores scores.csv --baseline A          # with columns cluster.KIND
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ablate.cli.command import add_study, command, finish, output_file, write_text
from ablate.records import UserError
from ablate.tables import to_latex, to_markdown
from analysis.stats.asked import Asked, targets
from analysis.stats.breakdown import break_down, breakdown_csv, breakdown_record, breakdown_tables
from analysis.stats.contrast_tables import remarks_table
from analysis.stats.crossed import Options
from analysis.stats.families import Plan
from analysis.stats.matrix import ScoreTable, read_scores
from analysis.stats.weights import all_contrasts
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy
from analysis.verdict.judge import asked_by


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.breakdown",
        "Contrasts by form and by kind of constraint, and without the cluster that carries most of the effect.",
        'dual_view --contrast "dual_view - instruction_negatives" --measure p-MRR --csv breakdown.csv',
    )
    add_study(made, needed=False)
    made.add_argument("--scores", metavar="F", help="instead of a study: scores as for analysis.significance")
    made.add_argument("--baseline", metavar="A", action="append", default=[], help="contrast every other arm with it")
    made.add_argument(
        "--contrast", metavar="C", action="append", default=[], help='"B - A"; without any, the claims of the study'
    )
    for name in ("measure", "dataset", "condition", "direction"):
        made.add_argument(f"--{name}", metavar="X", action="append", default=[], help=f"only this {name} (repeatable)")
    made.add_argument(
        "--by", metavar="KIND", action="append", default=[], help="slices of this kind of cluster (default: form, kind)"
    )
    made.add_argument(
        "--deterministic", metavar="A", action="append", default=[], help="arm without training randomness"
    )
    for name in ("json", "markdown", "latex", "csv"):
        made.add_argument(f"--{name}", type=output_file, metavar="F", help=f"also write {name} to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    if (args.study is None) == (args.scores is None):
        raise UserError("give either a STUDY or --scores F; the one reads the folder of results, the other a file")
    options = Options(deterministic=frozenset(args.deterministic))
    if args.scores is not None:
        table = read_scores(args.scores)
        contrasts = all_contrasts(table.arms, args.baseline, args.contrast, [])
        asked = [
            Asked(label, weights, t)
            for t in targets(_chosen(args, table), "none")
            for label, weights in contrasts.items()
        ]
    else:
        asked, table, options = _of_study(args, options)
    found = break_down(asked, options, args.by)
    source = table.source + (f" ({table.mark})" if table.mark else "")
    tables = [*([remarks_table(table)] if table.remarks else []), *breakdown_tables(found, source)]
    shown = "\n".join(to_markdown(made) for made in tables)
    print(shown, end="")
    if args.json:
        record = {"source": table.source, "mark": table.mark, **breakdown_record(found)}
        write_text(args.json, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if args.markdown:
        write_text(args.markdown, shown)
    if args.latex:
        write_text(args.latex, "\n".join(to_latex(made) for made in tables))
    if args.csv:
        write_text(args.csv, breakdown_csv(found))


def _chosen(args: argparse.Namespace, table: ScoreTable) -> ScoreTable:
    return table.select(
        datasets=args.dataset, conditions=args.condition, directions=args.direction, measures=args.measure
    )


def _of_study(args: argparse.Namespace, options: Options) -> tuple[list[Asked], ScoreTable, Options]:
    """Return the contrasts of a study in their places, its scores under their marks, and its arms without randomness.

    Raises UserError where nothing is named and no claim of the declaration can be looked at.
    """
    baseline = args.baseline[0] if args.baseline else None
    study = OpenStudy(Evidence(args.results, args.study, baseline=baseline))
    made = study.ask(args.baseline, args.contrast, [], Plan(options))
    cells = _chosen(args, made.table).cells
    if args.baseline or args.contrast:
        places = targets(_chosen(args, made.table), "none")
        asked = [Asked(label, weights, place) for place in places for label, weights in made.contrasts.items()]
    else:
        asked, why = [], ""
        for claim in study.evidence.declarations[-1].study.claims:
            try:
                claimed = asked_by(claim, made.table)
            except UserError as error:
                why = str(error)
                continue
            if any(claimed.target.cell._replace(dataset=dataset) in cells for dataset in claimed.target.datasets):
                asked.append(claimed)
        if not asked:
            raise UserError(f"no claim of study {args.study!r} is of what was asked for{why and f' ({why})'}")
    there = [item for item in asked if all(arm in item.target.blocks() for arm in item.weights)]
    if not there:
        raise UserError(f"{made.table.source}: no place that was asked for has scores of all arms of a contrast")
    return there, made.table, made.plan.options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
