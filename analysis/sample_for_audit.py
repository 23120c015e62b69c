"""Draw the items that humans judge, as blinded sheets for a spreadsheet, and read the filled sheets back.

    python -m analysis.sample_for_audit --items items.jsonl --judgments judge.jsonl --size 150 --to audit
    python -m analysis.sample_for_audit --from audit --filled ann.csv --rater ann --out ann.jsonl

The folder holds `sheets.csv` (one line an item: four questions, answered yes, no or cannot tell), `items.jsonl` (all
items with the known-bad ones: what `analysis.inversion_audit --items` reads) and `design.json` (strata, seed, digests).
Keep `items.jsonl` and `design.json` from raters.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ablate.cli.command import command, finish, output_file, output_folder, write_text
from ablate.reading import at, check_file, faults
from ablate.records import UserError
from analysis.audit.items import Item, read_items, read_judgments
from analysis.audit.sampling import Sheet, digest_of, draw, judgment_of, sheet, sheet_id

SHEETS, ITEMS, DESIGN = "sheets.csv", "items.jsonl", "design.json"
COLUMNS = tuple(field.name for field in dataclasses.fields(Sheet))


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.sample_for_audit",
        "Draw a stratified, blinded sample of items for human raters, or read their filled sheets back.",
        "--items items.jsonl --judgments judge.jsonl --size 150 --known-bad 15 --to audit",
    )
    made.add_argument("--items", metavar="F", help="items of the audit (JSON lines, see analysis.inversion_audit)")
    made.add_argument("--judgments", metavar="F", nargs="*", default=[], help="what gold and judges said of them")
    made.add_argument("--size", type=int, default=150, help="items that are drawn (default 150)")
    made.add_argument("--known-bad", type=int, metavar="N", help="items made wrong on purpose (default: a tenth)")
    made.add_argument("--seed", type=int, default=0, help="of the sample and of all orders (default 0)")
    made.add_argument(
        "--to", type=output_folder, metavar="DIR", help="folder that is written; it must not hold a sample already"
    )
    made.add_argument("--from", metavar="DIR", dest="source", help="folder of a sample whose sheets were filled")
    made.add_argument("--filled", metavar="F", help="the filled sheets (CSV)")
    made.add_argument("--rater", metavar="NAME", help="who filled them")
    made.add_argument("--out", type=output_file, metavar="F", help="where the judgments go (JSON lines)")
    return made


def _run(args: argparse.Namespace) -> None:
    if args.items and args.to and not args.source:
        _draw(args)
    elif args.source and args.filled and args.rater and args.out and not args.items:
        _read(args)
    else:
        raise UserError("give --items F --to DIR to draw, or --from DIR --filled F --rater NAME --out F to read back")


def _draw(args: argparse.Namespace) -> None:
    folder = args.to
    if (folder / DESIGN).exists():
        raise UserError(f"{folder} holds a sample already ({DESIGN}); take another folder, or move it away")
    items = read_items(args.items)
    judgments = read_judgments(args.judgments, items)
    num_bad = round(args.size / 10) if args.known_bad is None else args.known_bad
    if num_bad < 0:
        raise UserError(f"--known-bad {num_bad} must not be below 0")
    sample = draw(items, judgments, args.size, num_bad, args.seed)
    bad = [item for item in sample.items if item.known_bad]
    design = {
        "seed": args.seed,
        "items_sha256": digest_of(items),
        "strata": {name: {"drawn": drawn, "items": size} for name, (drawn, size) in sample.strata.items()},
        "known_bad": [item.id for item in bad],
        "sheets": [item.id for item in sample.items],
    }
    sheets = io.StringIO()
    writer = csv.DictWriter(sheets, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(sheet(item, args.seed)) for item in sample.items)
    write_text(folder / SHEETS, sheets.getvalue())
    write_text(folder / ITEMS, "".join(_line(item) for item in [*items, *bad]))
    write_text(folder / DESIGN, json.dumps(design, indent=1, ensure_ascii=False) + "\n")  # last: the folder is whole
    for name, (drawn, size) in sample.strata.items():
        print(f"{drawn:>6,} of {size:>8,}  {name}")
    print(f"{len(bad):>6,} known-bad items among {len(sample.items):,} sheets")


def _line(item: Item) -> str:
    return json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n"


def _read(args: argparse.Namespace) -> None:
    folder = Path(args.source)
    if not (folder / DESIGN).is_file():
        raise UserError(f"{folder} holds no sample ({DESIGN} is missing); draw one with --items F --to {folder}")
    design = json.loads((folder / DESIGN).read_text(encoding="utf-8"))
    by_id = {item.id: item for item in read_items(folder / ITEMS)}
    by_sheet = {sheet_id(by_id[name], design["seed"]): by_id[name] for name in design["sheets"]}
    judgments, lines_of = [], dict[str, int]()
    for number, row in _rows(args.filled):
        if row["item_id"] not in by_sheet:
            raise UserError(f"{at(args.filled, number)}: {row['item_id']!r} is no sheet of {folder}")
        first = lines_of.setdefault(row["item_id"], number)
        if first != number:
            raise UserError(f"{at(args.filled, number)}: sheet {row['item_id']} is in line {first} too; keep one")
        try:
            judgment = judgment_of(row, by_sheet[row["item_id"]], design["seed"], args.rater)
        except UserError as error:
            raise UserError(f"{at(args.filled, number)}: {error}") from None
        judgments += [] if judgment is None else [judgment]
    if not judgments:
        raise UserError(f"{args.filled}: none of {len(by_sheet):,} sheets is answered; write yes, no or cannot tell")
    lines = [json.dumps(dataclasses.asdict(judgment), ensure_ascii=False) for judgment in judgments]
    write_text(args.out, "".join(f"{line}\n" for line in lines))
    print(f"{len(judgments):,} of {len(by_sheet):,} sheets are answered")


def _rows(path: str) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a spreadsheet with the lines that they end on."""
    check_file(path)
    with faults(f"{path}: not a readable CSV file", "save the sheets as CSV in UTF-8"):
        rows = csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8-sig"), newline=""))
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            header = "".join(rows.fieldnames or ())
            other = next((name for sign, name in ((";", "semicolons"), ("\t", "tabs")) if sign in header), None)
            remedy = f"it seems to be separated by {other}: save it with commas" if other else "keep the header"
            raise UserError(
                f"{path}: the column {missing[0]} is missing; the columns are {', '.join(COLUMNS)}; {remedy}"
            )
        return [(rows.line_num, row) for row in rows]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
