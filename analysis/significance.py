"""Significance of the contrasts of a study, or of anyone's scores, in Markdown, LaTeX, CSV and JSON.

    python -m analysis.significance polarity --baseline instruction_negatives --out tables
    python -m analysis.significance --scores scores.csv --baseline A --margin .02 --out tables

A scores file is long, CSV or Parquet: arm, seed, dataset, condition, unit_id, measure, value, and optionally direction,
cluster (then the test is over new clusters: wordings, kinds of constraint) and cluster.KIND, of which `--clusters KIND`
chooses one, or two that cross each other. Where all units have a cluster.form, forms are fixed strata.

A row is confirmatory only if a declaration of the study has it; Holm's correction is then over all declared claims.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablate.cli.command import add_study, command, finish, output_file, output_folder, write_text
from ablate.records import UserError
from ablate.tables import Table, to_latex, to_markdown
from analysis.stats.asked import Asked, check_kinds, targets
from analysis.stats.collapse import collapses
from analysis.stats.contrast import ContrastRow
from analysis.stats.contrast_rows import contrast_rows
from analysis.stats.contrast_tables import all_tables, report_record, rows_csv
from analysis.stats.crossed import Options
from analysis.stats.families import DeclaredFamily, Plan
from analysis.stats.matrix import CLUSTER, ScoreTable, read_scores
from analysis.stats.seeds_apart import remarks_of_seeds
from analysis.stats.weights import all_contrasts

if TYPE_CHECKING:
    from analysis.study.opened import OpenStudy


def parse_margins(texts: Sequence[str]) -> dict[str, float]:
    """Return measure -> margin of `0.02` (every measure, key '') and `nDCG@10=0.01`; raises UserError for others."""
    margins: dict[str, float] = {}
    for text in texts:
        measure, _, size = text.rpartition("=")
        try:
            margins[measure.strip()] = float(size)
        except ValueError:
            raise UserError(f"--margin {text!r} is no number; write 0.02, or nDCG@10=0.01") from None
        if not 0 < margins[measure.strip()] < float("inf"):
            raise UserError(f"--margin {text!r} must be above 0, in units of the measure")
    return margins


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.significance",
        "Test contrasts of arms over training seeds and queries together: of a study, or from anyone's scores.",
        "--scores scores.csv --baseline A --contrast 'AB - A - B + none' --measure nDCG@10 --margin .02 --out tables",
    )
    add_study(made, needed=False)
    made.add_argument(
        "--scores",
        metavar="F",
        help="instead of a study: CSV or Parquet with arm, seed, dataset, condition, unit_id, measure, value[, "
        "direction, cluster, cluster.KIND]; the unit is the topic for p-MRR, the group for Robustness@k (minimum "
        "inside a seed), else the query, never a document",
    )
    made.add_argument("--baseline", metavar="A", action="append", default=[], help="contrast every other arm with it")
    made.add_argument("--contrast", metavar="C", action="append", default=[], help='"B - A", "AB - A - B + none"')
    made.add_argument("--trend", metavar="T", action="append", default=[], help='slope: "n0=0, n10=.1, n20=.2"')
    for name in ("measure", "dataset", "condition", "direction"):
        made.add_argument(f"--{name}", metavar="X", action="append", default=[], help=f"only this {name} (repeatable)")
    made.add_argument(
        "--deterministic", metavar="A", action="append", default=[], help="arm without training randomness"
    )
    made.add_argument("--matched", action="store_true", help="seeds are paired across arms")
    made.add_argument("--seed-variance", choices=("welch", "family"), default="welch", help="family pools all arms")
    made.add_argument(
        "--estimand",
        choices=("method", "these_checkpoints"),
        default="method",
        help="these_checkpoints: seeds are fixed, no claim about new ones",
    )
    made.add_argument(
        "--clusters",
        metavar="KIND",
        action="append",
        default=[],
        help="test over new clusters of this kind, such as constraint; twice: of two kinds that cross each other "
        "(default: the population of a declared claim, the column cluster of a file, else new units)",
    )
    made.add_argument("--macro", choices=("also", "only", "none"), default="also", help="mean over data sets")
    made.add_argument("--margin", metavar="M", action="append", default=[], help="equivalence: .02 or nDCG@10=.01")
    made.add_argument("--correction", choices=("holm", "bh"), default="holm", help="bh: exploratory slices, no claim")
    made.add_argument("--alpha", type=float, default=0.05, help="level of the tests (default .05)")
    made.add_argument(
        "--out", type=output_folder, metavar="DIR", help="write significance.{csv,md,tex,json} into this folder"
    )
    made.add_argument(
        "--paper",
        action="store_true",
        help="first the narrow table of arms and measures, a paragraph on methods and references, ready to paste; with "
        "--out paper.{md,tex,bib,csv} too",
    )
    made.add_argument("--json", type=output_file, metavar="OUT", help="write the JSON to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    check_kinds(args.clusters)
    if args.paper and args.study is None:
        raise UserError("--paper tells of arms, seeds and software, which a file of scores does not hold; give a STUDY")
    if (args.study is None) == (args.scores is None):
        raise UserError("give either a STUDY or --scores F; the one reads the folder of results, the other a file")
    options = Options(
        deterministic=frozenset(args.deterministic),
        matched=args.matched,
        seed_variance=args.seed_variance,
        estimand=args.estimand,
        alpha=args.alpha,
    )
    plan = Plan(options, parse_margins(args.margin), args.correction)
    if args.scores is not None:
        table = read_scores(args.scores)
        plan = dataclasses.replace(plan, declared=DeclaredFamily())
        contrasts = all_contrasts(table.arms, args.baseline, args.contrast, args.trend)
        used = [arm for arm in table.arms if any(weights.get(arm) for weights in contrasts.values())]
        named = [collapsed.remark for collapsed in collapses(table, options.deterministic, used)]
        seeds = remarks_of_seeds(table, contrasts, options.deterministic)
        table = dataclasses.replace(table, remarks=(*seeds, *named))
        asked = _asked(args, table, contrasts)
        if not args.clusters:
            asked = [item._replace(population=(CLUSTER,)) if CLUSTER in item.target.kinds() else item for item in asked]
        report(args, table, asked, plan)
        return
    from analysis.study.evidence import Evidence
    from analysis.study.opened import OpenStudy
    from analysis.verdict.family import declared_family

    baseline = args.baseline[0] if args.baseline else None
    study = OpenStudy(Evidence(args.results, args.study, baseline=baseline))
    study_contrasts = study.ask(args.baseline, args.contrast, args.trend, plan)
    family = declared_family(study, study_contrasts.plan)
    asked = _asked(args, study_contrasts.table, study_contrasts.contrasts)
    asked, table = study_contrasts.testable(asked if args.clusters else [family.as_declared(item) for item in asked])
    if args.paper:
        _paper(args, study, plan, baseline)
    plan = dataclasses.replace(study_contrasts.plan, declared=family)
    report(args, table, asked, plan, [study.unfairness], {"fairness": study.fairness_record})


def _paper(args: argparse.Namespace, study: OpenStudy, plan: Plan, baseline: str | None) -> None:
    from analysis.verdict.paper import paper

    made = paper(study, plan, baseline, _chosen(args, study.table))
    print(made.markdown())
    if args.out:
        for ending, text in (
            ("md", made.markdown()),
            ("tex", made.latex()),
            ("bib", made.bibtex()),
            ("csv", made.csv()),
        ):
            write_text(args.out / f"paper.{ending}", text)


def _chosen(args: argparse.Namespace, table: ScoreTable) -> ScoreTable:
    return table.select(
        datasets=args.dataset, conditions=args.condition, directions=args.direction, measures=args.measure
    )


def _asked(args: argparse.Namespace, table: ScoreTable, contrasts: Mapping[str, Mapping[str, float]]) -> list[Asked]:
    chosen = _chosen(args, table)
    return [
        Asked(label, weights, target, tuple(args.clusters))
        for target in targets(chosen, args.macro)
        for label, weights in contrasts.items()
    ]


def report(
    args: argparse.Namespace,
    table: ScoreTable,
    asked: Sequence[Asked],
    plan: Plan,
    above: Sequence[Table] = (),
    beside: Mapping[str, Any] | None = None,
) -> None:
    """Test, print the tables below those of `above`, and write what is asked for; `beside` joins the JSON."""
    unknown = [name for name in plan.margins if name and name not in {cell.measure for cell in table.cells}]
    if unknown:
        raise UserError(f"--margin for {unknown[0]!r}: {table.source} has no such measure")
    rows: tuple[ContrastRow, ...] = contrast_rows(table, asked, plan)
    tables = [*above, *all_tables(table, rows, plan)]
    shown = "\n".join(to_markdown(report_table) for report_table in tables)
    print(shown, end="")
    values = {**report_record(table, rows, plan), **(beside or {})}
    record = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if args.json:
        write_text(args.json, record)
    if args.out:
        write_text(args.out / "significance.md", shown)
        write_text(args.out / "significance.tex", "\n".join(to_latex(report_table) for report_table in tables))
        write_text(args.out / "significance.csv", rows_csv(table, rows))
        write_text(args.out / "significance.json", record)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
