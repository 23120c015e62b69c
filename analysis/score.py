"""Score TREC run files of any system: plain measures, Robustness@10, p-MRR with instruction gain, SICR and WISE.

    python -m analysis.score --run system.run --qrels test.qrels --json scores.json

Definitions, ties and gaps are those of `ablate.evaluation`; no model is loaded.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ablate import reading
from ablate.cli.command import command, finish, output_file, seed, write_parquet, write_text
from ablate.evaluation.instructed import INFOSEARCH_MEASURES
from ablate.evaluation.measures import INSTRUCTION_GAIN, P_MRR, MeasureResult, mean_name, parse
from ablate.evaluation.trec import read_changed_documents, read_groups, read_qrels
from ablate.records import UserError
from ablate.tables import Column, Table, number, text_of_cell, to_csv, to_markdown
from analysis.external.instructed import MODES, score_modes
from analysis.external.scored import DEFAULT_MEASURES, Scored, Side, read_finite_run, score_pair, score_run
from analysis.stats.matrix import COLUMNS, listed

_PAIR_FILES = ("original_run", "changed_run", "original_qrels", "changed_qrels", "changed_documents")
_MODE_FILES = tuple(f"{mode}_{kind}" for kind in ("run", "qrels") for mode in MODES)


def report_record(scored: Scored) -> dict[str, Any]:
    """Return everything as plain values for JSON: the parts, the overall measures, listed, ties, warnings."""
    record: dict[str, Any] = {
        part: {name: _result_record(result) for name, result in results.items()}
        for part, results in scored.parts.items()
    }
    record |= {name: _result_record(result) for name, result in scored.overall.items()}
    return record | {"listed": scored.listed, "ties": scored.ties, "warnings": list(scored.warnings)}


def _result_record(result: MeasureResult) -> dict[str, Any]:
    return {"mean": result.mean, "mean_present_only": result.mean_present_only, "per_query": result.per_unit}


def problems(scored: Scored) -> list[str]:
    """Return one line for each warning, each listed reason and each run with ties."""
    lines = [f"warning: {warning}" for warning in scored.warnings]
    for where, reasons in scored.listed.items():
        lines += [f"{where}: {len(units)} × {reason}: {listed(units)}" for reason, units in reasons.items()]
    for part, counts in scored.ties.items():
        if counts["documents"]:
            lines.append(
                f"{part}: {counts['documents']:,} of {counts['of_documents']:,} documents in {counts['queries']:,} of "
                f"{counts['of_queries']:,} queries share their score (float32); their ids decide, descending as strings"
            )
    return lines


def table(scored: Scored, title: str) -> Table:
    """Return the means for readers; the mean of RR@10 is called MRR@10, that of AP@1000 MAP@1000."""
    columns = (
        Column("of"),
        Column("measure"),
        Column("mean", "r"),
        Column("n", "r"),
        Column("mean, ranked only", "r"),
        Column("n ranked", "r"),
    )
    rows = [(part, result) for part, results in scored.parts.items() for result in results.values()]
    compared = {P_MRR: "original, changed"} | dict.fromkeys(INFOSEARCH_MEASURES, ", ".join(MODES))
    rows += [(compared.get(name, "run"), result) for name, result in scored.overall.items()]
    lines = [
        (
            of,
            mean_name(result.name),
            number(result.mean),
            f"{len(result.per_unit):,}",
            number(result.mean_present_only),
            f"{sum(unit not in result.absent for unit in result.per_unit):,}",
        )
        for of, result in rows
    ]
    notes = ["mean: over all judged queries, 0 for one without a ranking; ranked only: over those that the run has."]
    if any(name not in compared for name in scored.overall):
        notes.append("Robustness@k: the lowest nDCG@k of each group; n counts groups, n ranked those with all queries.")
    if P_MRR in scored.overall:
        notes.append(
            "p-MRR: n counts topics; raw value (papers print it times 100), above 0 when documents that lost their "
            "relevance move down. It also rises when every document falls: read it beside the changed nDCG."
        )
    if any(INSTRUCTION_GAIN in results for results in scored.parts.values()):
        notes.append(
            "instruction gain: nDCG@10 minus that of the ranking of the same query without instruction, by the same "
            "judgments; below 0, following is worse than ignoring, and with a p-MRR above 0 it is a collapse."
        )
    if not scored.overall.keys().isdisjoint(INFOSEARCH_MEASURES):
        notes.append(
            "SICR, WISE: n counts queries; raw values (the paper prints them times 100). SICR: share of relevant "
            "documents whose rank and score both follow the instruction and its reverse, if one scorer with one scale "
            "made the three runs; WISE: reward or penalty by the three ranks, -1 to 1. (code): as the public code of "
            "InfoSearch computes it, which differs from the paper."
        )
    return Table(title, columns, tuple(lines), tuple(notes))


def long_rows(scored: Scored, arm: str, seed: int, dataset: str) -> Iterator[dict[str, Any]]:
    """Yield one row with COLUMNS for each value; the condition of `--run` is not known and stays empty."""
    places = {"run": ("", ""), "changed": ("changed", scored.variants[1] or "changed")}
    places |= {mode: (mode, "") for mode in MODES}
    cells = [(*places[part], result) for part, results in scored.parts.items() for result in results.values()]
    over = {P_MRR: places["changed"]} | dict.fromkeys(INFOSEARCH_MEASURES, places["instructed"])
    cells += [(*over.get(name, ("instructed", "all")), result) for name, result in scored.overall.items()]
    for condition, side, result in cells:
        for unit_id, value in result.per_unit.items():
            values = (arm, seed, dataset, condition, side, unit_id, result.name, value)
            yield dict(zip(COLUMNS, values, strict=True))


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.score",
        "Score TREC run files of any system by per-query measures, Robustness@10, p-MRR, SICR and WISE.",
        "--original-run og.run --changed-run changed.run --original-qrels og.qrels --changed-qrels changed.qrels "
        "--changed-documents diff.tsv --json scores.json",
    )
    made.add_argument("--run", metavar="F", help="TREC run file (.gz too): plain measures and Robustness@10")
    made.add_argument("--qrels", metavar="F", help="its judgments: TREC's four columns, or BEIR's TSV with its header")
    made.add_argument(
        "--groups",
        metavar="F",
        help="TSV query, group, for Robustness@k; without it a group is the part of the query id before the first _",
    )
    made.add_argument(
        "--original-run",
        metavar="F",
        help="run under the original instruction, for p-MRR; run of the query alone, for SICR and WISE",
    )
    made.add_argument("--changed-run", metavar="F", help="run under the changed instruction; may be the same file")
    made.add_argument(
        "--plain-run",
        metavar="F",
        help="run of the same system for the queries without any instruction, named as the topics, for instruction "
        "gain beside p-MRR",
    )
    made.add_argument("--original-qrels", metavar="F", help="its judgments")
    made.add_argument("--changed-qrels", metavar="F", help="judgments under the changed instruction")
    made.add_argument(
        "--changed-documents",
        metavar="F",
        help="documents that lose their relevance, by topic: BEIR TSV (diff_*.tsv) or JSON {query: [documents]}",
    )
    made.add_argument(
        "--instructed-run",
        metavar="F",
        help="run with the instruction, for SICR and WISE; its query ids are those of the original run",
    )
    made.add_argument("--instructed-qrels", metavar="F", help="judgments under the instruction")
    made.add_argument("--reversed-run", metavar="F", help="run with the reversed instruction, for SICR and WISE")
    made.add_argument("--reversed-qrels", metavar="F", help="judgments under the reversed instruction")
    made.add_argument(
        "--original-variant",
        metavar="V",
        help="the original query of topic t is t-V (default: the "
        "variant that the judgments are of, og where there are several)",
    )
    made.add_argument(
        "--changed-variant",
        metavar="V",
        help="the changed query of topic t is t-V (default: the "
        "variant that the judgments are of, changed where there are several)",
    )
    made.add_argument(
        "--measure",
        metavar="M",
        action="append",
        help="nDCG@k, RR@k, AP@k, recall@k or Robustness@k "
        f"(repeatable; default {', '.join(DEFAULT_MEASURES)}); Robustness@10, p-MRR, SICR and WISE "
        "come by themselves, with nDCG@10 beside the last three",
    )
    made.add_argument("--json", type=output_file, metavar="OUT", help="write all values, per query too, to this file")
    made.add_argument(
        "--scores",
        type=output_file,
        metavar="OUT",
        help="add the values to this table (.csv or .parquet) for analysis.significance; "
        "further arms and seeds go into the same file",
    )
    made.add_argument("--arm", metavar="NAME", help="arm in the long table")
    made.add_argument("--seed", metavar="N", type=seed, help="seed in the long table")
    made.add_argument("--dataset", metavar="D", help="data set in the long table")
    return made


def _check(args: argparse.Namespace) -> tuple[bool, bool, bool]:
    """Return whether a run, a pair of runs and three modes are to be scored; raises UserError for a half-given one."""

    def all_or_none(names: Sequence[str]) -> bool:
        lacking = [name for name in names if getattr(args, name) is None]
        if lacking and len(lacking) < len(names):
            given = next(name for name in names if name not in lacking)
            raise UserError(f"{_option(lacking[0])} is missing, and {_option(given)} is there; give both, or neither")
        return not lacking

    single = all_or_none(("run", "qrels"))
    only_pair, only_modes = (
        [_option(name) for name in files if name not in others and getattr(args, name) is not None]
        for files, others in ((_PAIR_FILES, _MODE_FILES), (_MODE_FILES, _PAIR_FILES))
    )
    if only_pair and only_modes:
        raise UserError(f"{only_pair[0]} is for p-MRR, {only_modes[0]} for SICR and WISE; score them one by one")
    modes = bool(only_modes) and all_or_none(_MODE_FILES)
    pair = not modes and all_or_none(_PAIR_FILES)
    if not single and not pair and not modes:
        files, more = (", ".join(map(_option, names)) for names in (_PAIR_FILES, _MODE_FILES))
        raise UserError(f"nothing to score; give --run and --qrels, or {files}, or {more}")
    for name in ("original_variant", "changed_variant"):
        if getattr(args, name) is not None and not pair:
            raise UserError(f"{_option(name)} is for p-MRR; give {', '.join(map(_option, _PAIR_FILES))}")
    if args.plain_run and not pair:
        raise UserError(f"--plain-run is for p-MRR; give {', '.join(map(_option, _PAIR_FILES))}")
    if args.groups and not single:
        raise UserError("--groups is for Robustness@k of --run; give --run and --qrels too")
    all_or_none(("scores", "arm", "seed", "dataset"))
    if args.scores and args.scores.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"--scores {args.scores}: the name must end in .csv or .parquet")
    for name in args.measure or ():
        if parse(name).cutoff is None:
            raise UserError(
                f"--measure {name!r} cannot be asked for; known are nDCG@k, RR@k, AP@k, recall@k, "
                "Robustness@k; p-MRR comes by itself with --changed-documents, SICR and WISE with "
                "--instructed-run"
            )
        if parse(name).family == "Robustness" and not single:
            raise UserError(f"--measure {name!r} is for --run and --qrels; give these too")
    return single, pair, modes


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _side(run: str, qrels: str) -> Side:
    if sys.stderr.isatty():
        print(f"reading {qrels} and {run}", file=sys.stderr)  # some seconds for millions of lines
    return Side(read_qrels(qrels), read_finite_run(run))


def _run(args: argparse.Namespace) -> None:
    single, pair, modes = _check(args)
    names = list(dict.fromkeys(args.measure or DEFAULT_MEASURES))
    scored = Scored({}, {}, {}, {}, ())
    if single:
        groups = read_groups(args.groups) if args.groups else None
        scored |= score_run(_side(args.run, args.qrels), names, groups)
    if pair:
        original = _side(args.original_run, args.original_qrels)
        changed = _side(args.changed_run, args.changed_qrels)
        variants = (args.original_variant, args.changed_variant)
        plain = read_finite_run(args.plain_run) if args.plain_run else None
        scored |= score_pair(original, changed, read_changed_documents(args.changed_documents), names, variants, plain)
    if modes:
        sides = {mode: _side(getattr(args, f"{mode}_run"), getattr(args, f"{mode}_qrels")) for mode in MODES}
        scored |= score_modes(sides, names)
    if args.json:
        record = json.dumps(report_record(scored), indent=1, ensure_ascii=False, allow_nan=False)
        write_text(args.json, record + "\n")
    if args.scores:
        _add_scores(args.scores, list(long_rows(scored, args.arm, args.seed, args.dataset)))
    for line in problems(scored):
        print(line)
    given = (args.run, args.original_run, args.changed_run, args.plain_run, args.instructed_run, args.reversed_run)
    sources = [name for name in given if name]
    print(to_markdown(table(scored, f"Scores of {', '.join(dict.fromkeys(sources))}")), end="")


def _add_scores(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to a long table; a row that is there already must have the same value, and is not written twice."""
    import pyarrow as pa

    stored = {tuple(str(row[name]) for name in COLUMNS[:-1]): row for row in _read_rows(path)}
    for row in rows:
        key = tuple(str(row[name]) for name in COLUMNS[:-1])
        old = stored.setdefault(key, row)["value"]
        if old != row["value"]:
            raise UserError(
                f"{path}: arm {row['arm']!r}, seed {row['seed']}, unit {row['unit_id']!r} has {row['measure']} {old} "
                f"there and {row['value']} now; give another --arm or --seed, or another file"
            )
    if path.suffix.lower() == ".csv":
        write_text(path, to_csv(COLUMNS, list(stored.values())))
        return
    types = {"seed": pa.int64(), "value": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    write_parquet(path, pa.Table.from_pylist(list(stored.values()), schema))


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a long table that this command wrote before, none if there is no file."""
    import pyarrow.parquet as pq

    if not path.exists():
        return []
    reading.check_file(path)
    with reading.faults(f"{path}: cannot be read as a table of scores", "give another file"):
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                texts = ({name: text_of_cell(cell) for name, cell in row.items()} for row in reader)
                rows: list[dict[str, Any]] = [row | {"value": float(row["value"])} for row in texts]
                names = list(reader.fieldnames or ())
        else:
            table = pq.read_table(path)
            rows, names = table.to_pylist(), table.column_names
    if names != list(COLUMNS):
        raise UserError(f"{path}: has the columns {', '.join(names)}, not {', '.join(COLUMNS)}; give another file")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
