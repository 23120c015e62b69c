"""Draw the items that humans judge: a stratified sample, with known-bad items among them.

    python -m analysis.sample_for_audit --items items.jsonl --judgments judge.jsonl --size 150 --to audit
    python -m analysis.annotate audit --rater ann

The folder holds `items.jsonl` (all items with the known-bad ones: what `analysis.inversion_audit --items` reads) and
`design.json` (strata, seed, digests). Keep both from raters: `analysis.annotate` shows them blinded sheets, on a page
or in a spreadsheet.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ablate.cli.command import command, finish, output_folder, write_text
from ablate.records import UserError
from analysis.audit.items import read_items, read_judgments
from analysis.audit.sample_folder import DESIGN_FILE, ITEMS_FILE, item_line
from analysis.audit.sampling import digest_of, draw


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.sample_for_audit",
        "Draw a stratified sample of items for human raters (analysis.annotate), with known-bad items among them.",
        "--items items.jsonl --judgments judge.jsonl --size 150 --known-bad 15 --to audit",
    )
    made.add_argument(
        "--items", metavar="F", required=True, help="items of the audit (JSON lines, see analysis.inversion_audit)"
    )
    made.add_argument("--judgments", metavar="F", nargs="*", default=[], help="what gold and judges said of them")
    made.add_argument("--size", type=int, default=150, help="items that are drawn (default 150)")
    made.add_argument("--known-bad", type=int, metavar="N", help="items made wrong on purpose (default: a tenth)")
    made.add_argument("--seed", type=int, default=0, help="of the sample and of all orders (default 0)")
    made.add_argument(
        "--to",
        type=output_folder,
        metavar="DIR",
        required=True,
        help="folder that is written; it must not hold a sample already",
    )
    return made


def _run(args: argparse.Namespace) -> None:
    folder = args.to
    if (folder / DESIGN_FILE).exists():
        raise UserError(f"{folder} holds a sample already ({DESIGN_FILE}); take another folder, or move it away")
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
    write_text(folder / ITEMS_FILE, "".join(map(item_line, [*items, *bad])))
    write_text(
        folder / DESIGN_FILE, json.dumps(design, indent=1, ensure_ascii=False) + "\n"
    )  # last: the folder is whole
    for name, (drawn, size) in sample.strata.items():
        print(f"{drawn:>6,} of {size:>8,}  {name}")
    print(f"{len(bad):>6,} known-bad items among {len(sample.items):,} sheets")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
