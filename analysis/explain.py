"""One query side by side: how each arm ranks its documents under each instruction, and which queries decide a contrast.

python -m analysis.explain dual_view --worst dual_view instruction_negatives
python -m analysis.explain dual_view --query test-lodging-windmill-03-date-long --arm dual_view --arm untouched
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from statistics import fmean

from ablate.cli.command import add_study, command, finish, output_file, write_text
from ablate.evaluation.measures import SATISFYING_OVER_VIOLATING
from ablate.records import UserError
from ablate.tables import Column, Table, number, to_text
from analysis.stats.matrix import Cell, ScoreTable
from analysis.study.evidence import Evidence
from analysis.study.explained import Deciding, DocumentRanks, Explained, Posed, deciding, explain

MOST = 40
"""Documents in a table; all are in the JSON."""
WIDTH = 80
"""Letters of a document's text."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.explain",
        "Show how each arm ranks the documents of one query under each instruction (ranks: mean over seeds), or find "
        "the queries that decide a contrast.",
        "dual_view --worst dual_view instruction_negatives",
    )
    add_study(made)
    asked = made.add_mutually_exclusive_group(required=True)
    asked.add_argument("--query", metavar="ID", help="a query or a base query")
    asked.add_argument("--worst", metavar=("A", "B"), nargs=2, help="the queries that move A - B furthest")
    made.add_argument("--arm", metavar="A", action="append", default=[], help="only this arm (repeatable)")
    made.add_argument("--depth", metavar="K", type=int, default=5, help="ranks that are shown beside judged documents")
    made.add_argument("--limit", metavar="N", type=int, default=20, help="queries of --worst (default 20)")
    for name in ("dataset", "condition", "direction", "measure"):
        made.add_argument(f"--{name}", metavar="X", help=f"{name} of --worst, where there are several")
    made.add_argument("--json", type=output_file, metavar="F", help="also write everything to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    for name in ("depth", "limit"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)} is nothing to show; it must be at least 1")
    evidence = Evidence(args.results, args.study)
    if args.worst:
        table = evidence.table
        for arm in args.worst:
            if arm not in table.arms:
                raise UserError(f"--worst {arm!r} is no arm of {args.study!r}; arms are {', '.join(table.arms)}")
        cell = _cell(table, args)
        rows = deciding(evidence, table, cell, {args.worst[0]: 1.0, args.worst[1]: -1.0}, args.limit)
        print(to_text(_worst_table(rows, cell, args.worst)))
        record: object = {**cell._asdict(), "contrast": args.worst, "units": [row._asdict() for row in rows]}
    else:
        explained = explain(evidence, args.query, args.arm, args.depth)
        print("\n".join(to_text(table) for table in tables(explained)))
        record = _record(explained)
    if args.json:
        write_text(args.json, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _cell(table: ScoreTable, args: argparse.Namespace) -> Cell:
    """Return the place to look at: what was asked for, else pairs, else the changed instruction."""
    names = ("dataset", "condition", "direction", "measure")
    asked = {f"{name}s": [getattr(args, name)] for name in names if getattr(args, name) is not None}
    cells = list(table.select(**asked).cells)
    return min(cells, key=lambda cell: (cell.measure != SATISFYING_OVER_VIOLATING, cell.condition != "changed"))


def _worst_table(rows: Sequence[Deciding], cell: Cell, arms: Sequence[str]) -> Table:
    columns = (
        Column("unit"),
        Column("difference", "r"),
        Column("share of the gain", "r"),
        Column("query"),
        Column("instruction"),
    )
    shown = tuple(
        (row.unit_id, number(row.difference, 3), f"{row.share:.1%}" if row.share else "–", row.query, row.instruction)
        for row in rows
    )
    notes = ("Means over seeds; share: of the sum of the units that go the way of the contrast.",)
    return Table(f"{arms[0]} - {arms[1]}: {cell}, the units that move it furthest", columns, shown, notes)


def tables(explained: Explained) -> list[Table]:
    """Return one table for each form of the query, in the order of the conditions."""
    return [_posed_table(posed, explained) for posed in explained.posed]


def _posed_table(posed: Posed, explained: Explained) -> Table:
    query = posed.query
    how = query.condition if query.direction in ("", query.condition) else f"{query.condition}: {query.direction}"
    head = f"{explained.dataset} {query.query_id} ({how})"
    said = f"{query.query} | {query.instruction}" if query.instruction else query.query
    with_text = any(document.text for document in posed.documents)
    columns = (
        Column("label"),
        *(Column(_head(arm, posed), "r") for arm in explained.seeds),
        Column("document"),
        *((Column("text"),) if with_text else ()),
    )
    rows = tuple(
        (
            document.label or "–",
            *(_rank(document, arm) for arm in explained.seeds),
            document.doc_id,
            *((document.text[:WIDTH],) if with_text else ()),
        )
        for document in posed.documents[:MOST]
    )
    below = max(0, len(posed.documents) - MOST)
    seeds = ", ".join(f"{arm} {len(seeds)}" for arm, seeds in explained.seeds.items())
    more = f"; {below} judged documents follow below" if below else ""
    notes = (
        f"{posed.num_relevant} relevant documents{more}. Ranks are means over seeds ({seeds}); in brackets nDCG@10. "
        f"excluded: answers the query and breaks this instruction.",
        *explained.remarks,
    )
    return Table(f"{head}: {said}", columns, rows, notes)


def _head(arm: str, posed: Posed) -> str:
    return f"{arm} ({number(posed.ndcg[arm], 3)})" if arm in posed.ndcg else arm


def _rank(document: DocumentRanks, arm: str) -> str:
    mean = fmean(document.ranks[arm])
    return f"{mean:.0f}" if mean == round(mean) else f"{mean:.1f}"


def _record(explained: Explained) -> dict[str, object]:
    return {
        "dataset": explained.dataset,
        "base_id": explained.base_id,
        "seeds": explained.seeds,
        "remarks": explained.remarks,
        "posed": [
            {
                **posed.query._asdict(),
                "num_relevant": posed.num_relevant,
                "nDCG@10": posed.ndcg,
                "documents": [document._asdict() for document in posed.documents],
            }
            for posed in explained.posed
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the query or the queries and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
