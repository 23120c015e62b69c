"""Runs of W&B that were made elsewhere, as arms and seeds: from offline files, or from a project on the server.

    python -m analysis.import_wandb wandb --arm model.arm --seed seed --measure nDCG@10=eval.ndcg --baseline A
    python -m analysis.import_wandb wandb --arm model.arm --seed seed --measure nDCG@10=ndcg --table scores --unit qid
        --dataset scifact --condition plain --scores scores.csv
    python -m analysis.import_wandb --online ENTITY/PROJECT …          # needs WANDB_API_KEY or `wandb login`

A summary has one value for each run and no queries. So it permits one comparison only, which this command prints: arms
over their seeds, for the queries that were measured. Where runs logged a table with a row for each query (`--table`),
its scores become a scores file, and `analysis.significance --scores` tests over seeds and queries.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ablate.cli.command import command, finish, output_file, write_text
from ablate.records import UserError
from ablate.tables import Column, Table, number, probability, to_csv, to_markdown
from ablate.tracking.elsewhere import OtherRun, offline_runs
from ablate.tracking.sync import Server
from analysis.external.from_wandb import SCORE_COLUMNS, ArmSeed, Taken, run_values, table_rows, take
from analysis.stats.matrix import from_arrow
from analysis.stats.run_values import difference

VALUE_COLUMNS = ("arm", "seed", "measure", "value", "run")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.import_wandb",
        "Read runs of W&B that were made elsewhere as arms and seeds, and compare their values over seeds, or write "
        "the scores of their queries for analysis.significance.",
        "wandb --arm model.arm --seed seed --measure nDCG@10=eval.ndcg --baseline A",
    )
    made.add_argument("path", nargs="?", type=Path, help="a .wandb file, or a folder with offline-run-* below it")
    made.add_argument("--online", metavar="ENTITY/PROJECT", help="instead: finished runs of a project on the server")
    made.add_argument("--arm", required=True, metavar="KEY", help="key of the configuration that names the arm")
    made.add_argument("--seed", required=True, metavar="KEY", help="key of the configuration that is the training seed")
    made.add_argument("--group", metavar="G", help="only runs of this group")
    made.add_argument(
        "--measure",
        required=True,
        action="append",
        metavar="NAME=KEY",
        help="measure, and its key of the summary, or with --table its column (repeatable)",
    )
    made.add_argument("--baseline", metavar="A", help="arm that others are compared with over seeds")
    made.add_argument("--csv", type=output_file, metavar="F", help="write the value of each run to this file")
    made.add_argument("--table", metavar="NAME", help="table with a row for each query that every run logged")
    made.add_argument("--unit", metavar="COLUMN", help="its column with the queries' ids")
    made.add_argument("--dataset", metavar="D", help="data set in the scores file")
    made.add_argument("--condition", metavar="C", help="condition in the scores file, such as plain")
    made.add_argument("--scores", type=output_file, metavar="F", help="scores file that is written (.csv)")
    return made


def _measures(texts: Sequence[str]) -> dict[str, str]:
    measures: dict[str, str] = {}
    for text in texts:
        name, _, key = text.partition("=")
        if not name.strip() or not key.strip():
            raise UserError(f"--measure {text!r} must be NAME=KEY, such as nDCG@10=eval.ndcg")
        if name in measures:
            raise UserError(f"--measure {name} is there twice; give each measure once")
        measures[name] = key
    return measures


def _check(args: argparse.Namespace) -> None:
    if (args.path is None) == (args.online is None):
        raise UserError("give either the path of offline runs, or --online ENTITY/PROJECT")
    given = {name: getattr(args, name) for name in ("table", "unit", "dataset", "condition", "scores")}
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise UserError(f"--{missing[0]} is missing; --{', --'.join(given)} go together")
    if args.table and args.online:
        raise UserError("--table reads the files of offline runs; online, only the values of runs can be read")
    if args.table and (args.baseline or args.csv):
        raise UserError("--baseline and --csv are for values of runs; with --table, analysis.significance compares")
    if args.scores and args.scores.suffix.lower() != ".csv":
        raise UserError(f"--scores {args.scores}: the name must end in .csv")
    if args.online and (args.online.count("/") != 1 or not all(args.online.split("/"))):
        raise UserError(f"--online {args.online!r} must be ENTITY/PROJECT")


def _runs(args: argparse.Namespace) -> list[OtherRun]:
    if args.path is not None:
        return offline_runs(args.path)
    with tempfile.TemporaryDirectory(prefix="ablate-import-") as folder:
        entity, project = args.online.split("/")
        return Server(Path(folder), "nothing was read").runs(entity, project)


def _run(args: argparse.Namespace) -> None:
    _check(args)
    measures = _measures(args.measure)
    taken = take(_runs(args), args.arm, args.seed, args.group)
    arms = list(dict.fromkeys(place.arm for place in taken.runs))
    if args.baseline is not None and args.baseline not in arms:
        raise UserError(f"--baseline {args.baseline!r} is no arm here; arms are {', '.join(arms)}")
    if args.table:
        rows = table_rows(taken, args.table, args.unit, measures, args.dataset, args.condition)
        _check_scores(rows)
        write_text(args.scores, to_csv(SCORE_COLUMNS, rows))
        _say(taken, arms)
        print(f"{len(rows):,} scores; test them: python -m analysis.significance --scores {args.scores} --baseline ARM")
        return
    values = run_values(taken, measures)
    if args.csv:
        rows = [
            dict(zip(VALUE_COLUMNS, (*place, measure, value, taken.runs[place].place), strict=True))
            for measure, by_place in values.items()
            for place, value in by_place.items()
        ]
        write_text(args.csv, to_csv(VALUE_COLUMNS, rows))
    _say(taken, arms)
    print(to_markdown(_table(values, arms, args.baseline)), end="")


def _check_scores(rows: Sequence[Mapping[str, object]]) -> None:
    """Raise UserError for scores that no analysis takes, such as runs with unlike queries."""
    import pyarrow as pa

    from_arrow(pa.Table.from_pylist([dict(row) for row in rows]), "the tables of the runs")


def _say(taken: Taken, arms: Sequence[str]) -> None:
    print(f"{len(taken.runs)} runs of {len(arms)} arms")
    for run, why in taken.left_out:
        print(f"left out: {run}: {why}")


def _table(values: Mapping[str, Mapping[ArmSeed, float]], arms: Sequence[str], baseline: str | None) -> Table:
    columns = [Column("measure"), Column("arm"), *(Column(name, "r") for name in ("runs", "mean", "sd"))]
    if baseline is not None:
        columns += [Column(name, "r") for name in (f"minus {baseline}", "95 % interval", "p")]
    rows = []
    for measure, by_place in values.items():
        of_arm = {arm: [value for place, value in by_place.items() if place.arm == arm] for arm in arms}
        for arm, own in of_arm.items():
            spread = float(np.std(own, ddof=1)) if len(own) > 1 else None
            row = [measure, arm, str(len(own)), number(float(np.mean(own))), number(spread)]
            if baseline == arm:
                row += ["", "", ""]
            elif baseline is not None:
                found = difference(own, of_arm[baseline])
                interval = "" if found.low is None else f"{number(found.low)} to {number(found.high)}"
                row += [number(found.difference), interval, probability(found.p)]
            rows.append(tuple(row))
    note = "Over new seeds, for exactly the queries that were measured; of other queries nothing is known from means."
    return Table("Values of runs", tuple(columns), tuple(rows), (note,))


def main(argv: Sequence[str] | None = None) -> int:
    """Read what the command line names and return the exit code: 0, or 2 for a mistake."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
