"""Significance of contrasts from anyone's scores, as a table in Markdown, LaTeX, CSV and JSON.

    python -m analysis.significance --scores scores.csv --baseline A --margin .02 --out tables

A scores file is long, CSV or Parquet: arm, seed, dataset, condition, unit_id, measure, value, and optionally direction.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.records import UserError
from analysis.contrasts import Estimate, Options
from analysis.rows import Asked, ContrastRow, Plan, contrast_rows, replication, targets
from analysis.scores import ScoreTable, read_scores
from analysis.tables import Column, Table, number, probability, to_csv, to_latex, to_markdown
from analysis.weights import all_contrasts

_FLAT = (
    "contrast", "dataset", "condition", "direction", "measure", "unit", "n_units", "estimate", "se", "df", "p",
    "p_holm", "q_bh", "family_size", "ci_low", "ci_high", "v_seed", "v_query", "v_resid", "share_seed", "margin",
    "tost_p", "tost_p_holm", "degenerate", "status", "smallest_detectable", "relative_change", "standardised",
    "p_new_wins", "win", "tie", "loss", "seeds", "means", "p_these_checkpoints", "p_sign_flip", "p_this_query_set",
    "population", "differs", "verdicts",
)  # fmt: skip


def main_table(table: ScoreTable, rows: Sequence[ContrastRow], plan: Plan) -> Table:
    """Return the significance table for readers."""
    level = f"{100 * (1 - plan.options.alpha):g} % interval"
    holm_name = "Holm p" if plan.correction == "holm" else "q (BH, exploratory)"
    with_margin = any(row.margin is not None for row in rows)
    differs = any(arm in table.differs for row in rows for arm in row.weights)
    verdicts = any(arm in table.verdicts for row in rows for arm in row.weights)
    columns = [
        Column("contrast"),
        *([Column("differs in")] if differs else []),
        Column("data set"),
        Column("condition"),
    ]
    columns += [Column("measure"), Column("units", "r"), Column("S"), Column("means")]
    columns += [Column(name, "r") for name in ("difference", level, "df", "seed share", "p", holm_name)]
    columns += [Column("TOST p", "r")] if with_margin else []
    columns += [Column("win/tie/loss", "r"), Column("detectable", "r"), Column("status")]
    columns += [Column("verdict")] if verdicts else []
    lines = []
    for row in rows:
        result = row.result
        cells = [row.label]
        cells += [_of_arms(table.differs, row)] if differs else []
        cells += [
            row.cell.dataset,
            _posed(row.cell.condition, row.cell.direction),
            row.cell.measure,
            f"{row.num_units:,}",
            _seeds(row),
            _means(row),
        ]
        cells += [number(result.estimate), f"[{number(result.ci[0])}, {number(result.ci[1])}]"]
        cells += [number(result.df, 1), "–" if result.share_seed is None else f"{result.share_seed:.0%}"]
        cells += [probability(result.p), probability(row.p_holm if plan.correction == "holm" else row.q_bh)]
        cells += [probability(row.tost_p)] if with_margin else []
        cells += [f"{row.wins}/{row.ties}/{row.losses}", number(row.smallest_detectable), row.status]
        cells += [_of_arms(table.verdicts, row)] if verdicts else []
        lines.append(tuple(cells))
    return Table(f"Contrasts of {table.source}", tuple(columns), tuple(lines), _notes(rows, plan))


def _posed(condition: str, direction: str) -> str:
    return condition if direction in ("", condition) else f"{condition}: {direction}"


def _seeds(row: ContrastRow) -> str:
    counts = list(row.num_seeds.values())
    return str(counts[0]) if len(set(counts)) == 1 else ", ".join(f"{a} {n}" for a, n in row.num_seeds.items())


def _means(row: ContrastRow) -> str:
    return ", ".join(f"{arm} {number(mean)}" for arm, mean in row.means.items())


def _of_arms(texts: Mapping[str, str], row: ContrastRow) -> str:
    return "; ".join(f"{arm}: {texts[arm]}" for arm in row.weights if arm in texts)


def _notes(rows: Sequence[ContrastRow], plan: Plan) -> tuple[str, ...]:
    options = plan.options
    if options.estimand == "these_checkpoints":
        test = "Paired t over units of seed-averaged scores: a claim about these checkpoints only."
    else:
        spread = "of the family, pooled" if options.seed_variance == "family" else "of each arm"
        seeds = "matched seeds" if options.matched else f"seed variance {spread}"
        test = (
            f"Crossed test over training seeds and units ({seeds}); S seeds per arm; seed share: part of the variance "
            "that only more seeds reduce."
        )
    if plan.correction == "holm":
        family = f"Holm's correction over the family of all {len(rows)} contrasts shown."
    else:
        family = f"Benjamini–Hochberg over {len(rows)} exploratory slices: no claim."
    notes = [
        test,
        family,
        f"detectable: smallest difference found with power {plan.power:g}; p above {options.alpha:g} is not equality.",
    ]
    margins = {row.margin for row in rows if row.margin is not None}
    if margins:
        shown = ", ".join(f"{margin:g}" for margin in sorted(margins))
        notes.append(f"TOST p: two one-sided tests of equivalence within a margin declared beforehand ({shown}).")
    if options.deterministic:
        notes.append(f"Declared without training randomness: {', '.join(sorted(options.deterministic))}.")
    if any(row.status == "exploratory" for row in rows):
        notes.append("exploratory: fewer than 5 seeds in a trained arm, or slices that were not declared.")
    for row in rows:
        if row.cell.measure == "p-MRR" and not row.guards:
            notes.append(f"{row.label}, {row.cell}: there is no nDCG beside p-MRR, so a collapse cannot be seen.")
        if 2.0 ** (1 - row.num_units) > options.alpha:
            notes.append(
                f"{row.label}, {row.cell}: with {row.num_units} units a sign flip cannot reach {options.alpha:g}."
            )
    return tuple(notes)


def opinions_table(rows: Sequence[ContrastRow]) -> Table:
    """Return the second opinions beside the test, and which population each claim covers."""
    columns = (
        Column("contrast"), Column("where"), Column("crossed p", "r"), Column("these checkpoints: paired t p", "r"),
        Column("sign flip p", "r"), Column("this query set: Welch over seeds p", "r"), Column("d", "r"),
        Column("P(new beats new)", "r"), Column("what the claim covers"),
    )  # fmt: skip
    lines = tuple(
        (
            row.label, str(row.cell), probability(row.result.p), probability(row.checkpoints.p),
            probability(row.p_sign_flip), probability(row.query_set.p if row.query_set else None),
            number(row.standardised, 2), "–" if row.p_new_wins is None else f"{row.p_new_wins:.2f}", row.population,
        )
        for row in rows
    )  # fmt: skip
    return Table("Second opinions and what each claim covers", columns, lines)


def beside_table(rows: Sequence[ContrastRow]) -> Table:
    """Return the non-inferiority of nDCG beside every p-MRR contrast."""
    columns = (
        Column("contrast"), Column("p-MRR"), Column("beside it"), Column("difference", "r"), Column("interval", "r"),
        Column("one-sided p", "r"), Column("verdict"),
    )  # fmt: skip
    lines = []
    for row in rows:
        for guard in row.guards:
            low, high = guard.estimate.ci
            cells = (row.label, str(row.cell), str(guard.cell), number(guard.estimate.estimate))
            lines.append((*cells, f"[{number(low)}, {number(high)}]", probability(guard.p), guard.verdict))
    note = "p-MRR rises when every document falls, which nDCG shows: no p-MRR claim without it."
    return Table("nDCG beside p-MRR", columns, tuple(lines), (note,))


def replication_table(rows: Sequence[ContrastRow], alpha: float) -> Table:
    """Return, for contrasts on several data sets, on how many the effect is there and the signs."""
    columns = (Column("contrast"), Column("condition"), Column("measure"), Column("there on at least", "r"))
    lines = [
        (found["contrast"], _posed(found["condition"], found["direction"]), found["measure"],
         f"{found['replicated_on']} of {found['of']}", ", ".join(f"{n} {sign}" for n, sign in found["signs"].items()))
        for found in replication(rows, alpha)
    ]  # fmt: skip
    note = f"Partial conjunction at {alpha:g}, Bonferroni's form; these data sets, no claim about data sets in general."
    return Table("Replication over data sets", (*columns, Column("signs")), tuple(lines), (note,))


def all_tables(table: ScoreTable, rows: Sequence[ContrastRow], plan: Plan) -> list[Table]:
    """Return the significance table, the second opinions, and what else has rows."""
    further = [beside_table(rows), replication_table(rows, plan.options.alpha)]
    return [main_table(table, rows, plan), opinions_table(rows), *(one for one in further if one.rows)]


def _estimate(found: Estimate) -> dict[str, Any]:
    return {"estimate": found.estimate, "se": found.se, "df": found.df, "p": found.p, "ci": list(found.ci)}


def row_record(table: ScoreTable, row: ContrastRow) -> dict[str, Any]:
    """Return a row as plain values for JSON."""
    result = row.result
    return {
        "contrast": row.label,
        "weights": dict(row.weights),
        "dataset": row.cell.dataset,
        "condition": row.cell.condition,
        "direction": row.cell.direction,
        "measure": row.cell.measure,
        "unit": row.unit,
        "n_units": row.num_units,
        "seeds": dict(row.num_seeds),
        "means": dict(row.means),
        "seed_means": {arm: list(means) for arm, means in row.seed_means.items()},
        "seed_stands_for": {arm: table.seed_stands_for[arm] for arm in row.weights if arm in table.seed_stands_for},
        "differs": {arm: table.differs[arm] for arm in row.weights if arm in table.differs},
        "verdicts": {arm: table.verdicts[arm] for arm in row.weights if arm in table.verdicts},
        **_estimate(result),
        "p_holm": row.p_holm,
        "q_bh": row.q_bh,
        "family_size": row.family_size,
        "v_seed": result.v_seed,
        "v_query": result.v_query,
        "v_resid": result.v_resid,
        "share_seed": result.share_seed,
        "margin": row.margin,
        "tost_p": row.tost_p,
        "tost_p_holm": row.tost_p_holm,
        "degenerate": result.degenerate,
        "status": row.status,
        "smallest_detectable": row.smallest_detectable,
        "relative_change": row.relative_change,
        "standardised": row.standardised,
        "p_new_wins": row.p_new_wins,
        "win": row.wins,
        "tie": row.ties,
        "loss": row.losses,
        "these_checkpoints": {**_estimate(row.checkpoints), "p_sign_flip": row.p_sign_flip},
        "this_query_set": _estimate(row.query_set) if row.query_set else None,
        "beside": [
            {"cell": guard.cell._asdict(), **_estimate(guard.estimate), "margin": guard.margin,
             "p_noninferior": guard.p, "verdict": guard.verdict}
            for guard in row.guards
        ],
        "population": row.population,
    }  # fmt: skip


def report_record(table: ScoreTable, rows: Sequence[ContrastRow], plan: Plan) -> dict[str, Any]:
    """Return the whole table as plain values for JSON."""
    options = plan.options
    return {
        "source": table.source,
        "alpha": options.alpha,
        "estimand": options.estimand,
        "matched": options.matched,
        "seed_variance": options.seed_variance,
        "deterministic": sorted(options.deterministic),
        "margins": dict(plan.margins),
        "correction": plan.correction,
        "family_size": len(rows),
        "contrasts": [row_record(table, row) for row in rows],
        "replication": replication(rows, options.alpha),
    }


def rows_csv(table: ScoreTable, rows: Sequence[ContrastRow]) -> str:
    """Return the rows as CSV with all digits."""
    lines = []
    for row in rows:
        record = row_record(table, row)
        low, high = record["ci"]
        record |= {"ci_low": low, "ci_high": high, "p_sign_flip": row.p_sign_flip}
        record |= {
            "p_these_checkpoints": row.checkpoints.p,
            "p_this_query_set": row.query_set.p if row.query_set else None,
        }
        for name in ("seeds", "means", "differs", "verdicts"):
            record[name] = json.dumps(record[name], ensure_ascii=False) if record[name] else None
        lines.append(record)
    return to_csv(_FLAT, lines)


def parse_margins(texts: Sequence[str]) -> dict[str, float]:
    """Return measure -> margin of `0.02` (every measure, key '') and `nDCG@10=0.01`; raises UserError for others."""
    found: dict[str, float] = {}
    for text in texts:
        measure, _, size = text.rpartition("=")
        try:
            found[measure.strip()] = float(size)
        except ValueError:
            raise UserError(f"--margin {text!r} is no number; write 0.02, or nDCG@10=0.01") from None
        if not 0 < found[measure.strip()] < float("inf"):
            raise UserError(f"--margin {text!r} must be above 0, in units of the measure")
    return found


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        prog="python -m analysis.significance",
        description="Test contrasts of arms over training seeds and queries together, from anyone's scores.",
        epilog="example: python -m analysis.significance --scores scores.csv --baseline A "
        "--contrast 'AB - A - B + none' --measure nDCG@10 --margin .02 --out tables",
    )
    made.add_argument(
        "--scores",
        metavar="F",
        required=True,
        help="CSV or Parquet: arm, seed, dataset, condition, unit_id, measure, value[, direction]; the unit is the "
        "topic for p-MRR, the group for Robustness@k (minimum inside a seed), else the query, never a document",
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
    made.add_argument("--estimand", choices=("method", "these_checkpoints"), default="method",
                      help="these_checkpoints: seeds are fixed, no claim about new ones")  # fmt: skip
    made.add_argument("--macro", choices=("also", "only", "none"), default="also", help="mean over data sets")
    made.add_argument("--margin", metavar="M", action="append", default=[], help="equivalence: .02 or nDCG@10=.01")
    made.add_argument("--correction", choices=("holm", "bh"), default="holm", help="bh: exploratory slices, no claim")
    made.add_argument("--alpha", type=float, default=0.05, help="level of the tests (default .05)")
    made.add_argument("--out", metavar="DIR", help="write significance.{csv,md,tex,json} into this folder")
    made.add_argument("--json", metavar="OUT", help="write the JSON to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    options = Options(
        deterministic=frozenset(args.deterministic),
        matched=args.matched,
        seed_variance=args.seed_variance,
        estimand=args.estimand,
        alpha=args.alpha,
    )
    plan = Plan(options, parse_margins(args.margin), args.correction)
    table = read_scores(args.scores)
    unknown = [name for name in plan.margins if name and name not in {cell.measure for cell in table.cells}]
    if unknown:
        raise UserError(f"--margin for {unknown[0]!r}: {table.source} has no such measure")
    contrasts = all_contrasts(table.arms, args.baseline, args.contrast, args.trend)
    chosen = table.select(
        datasets=args.dataset, conditions=args.condition, directions=args.direction, measures=args.measure
    )
    asked = [
        Asked(label, weights, target) for target in targets(chosen, args.macro) for label, weights in contrasts.items()
    ]
    rows = contrast_rows(table, asked, plan)
    tables = all_tables(table, rows, plan)
    shown = "\n".join(to_markdown(one) for one in tables)
    print(shown, end="")
    record = json.dumps(report_record(table, rows, plan), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if args.json:
        _write(Path(args.json), record)
    if args.out:
        folder = Path(args.out)
        _write(folder / "significance.md", shown)
        _write(folder / "significance.tex", "\n".join(to_latex(one) for one in tables))
        _write(folder / "significance.csv", rows_csv(table, rows))
        _write(folder / "significance.json", record)


def _write(path: Path, text: str) -> None:
    from ablate.results import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    print(f"written: {path}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    try:
        _run(parser().parse_args(argv))
    except (UserError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
