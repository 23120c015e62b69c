"""The folder of a sample: all items, the design, and in `answers/` one file of judgments for each rater."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.data.judgments import ADJUDICATED
from ablate.reading import check_file, parse_json
from ablate.records import UserError
from analysis.audit.items import Item, read_items
from analysis.audit.sampling import digest_of, sheet_id

ITEMS_FILE, DESIGN_FILE, ANSWERS_FOLDER = "items.jsonl", "design.json", "answers"
_RATER = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


@dataclass(frozen=True)
class SampleFolder:
    """A drawn sample as it lies on the disk."""

    path: Path
    items: tuple[Item, ...]
    """All items of the audit, the known-bad ones among them."""
    seed: int
    """Of the sample: it decides the names of sheets and on which side a passage stands."""
    sheets: Mapping[str, Item]
    """Sheet's name -> its item, in the order in which raters see them."""

    def answers_path(self, rater: str) -> Path:
        """Return where the judgments of a rater lie, whose name `check_rater` has let through."""
        return self.path / ANSWERS_FOLDER / f"{rater}.jsonl"


def check_rater(name: str) -> str:
    """Return the name of a rater; raises UserError for one that is no file name, or is that of what is settled."""
    if not _RATER.fullmatch(name):
        raise UserError(f"the rater {name!r} is no name; allowed: a-z, 0-9, - and _, at most 40, such as ann")
    if name == ADJUDICATED:
        raise UserError(f"the rater {name!r} is the name of what is settled with --adjudicate; take another name")
    return name


def item_line(item: Item) -> str:
    """Return an item as a line of the file of items."""
    return json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n"


def open_sample(folder: Path) -> SampleFolder:
    """Return the sample in a folder.

    Raises UserError when there is none, and when its items are not those that the design was drawn from.
    """
    design_path = folder / DESIGN_FILE
    if not design_path.is_file():
        draw = f"python -m analysis.sample_for_audit --items F --to {folder}"
        raise UserError(f"{folder} holds no sample ({DESIGN_FILE} is missing); draw one with {draw}")
    check_file(design_path)
    design = _design(design_path)
    items = read_items(folder / ITEMS_FILE)
    by_id = {item.id: item for item in items}
    unknown = [name for name in (*design["known_bad"], *design["sheets"]) if name not in by_id]
    made_bad = set(design["known_bad"])
    if unknown or digest_of([item for item in items if item.id not in made_bad]) != design["items_sha256"]:
        raise UserError(
            f"{folder / ITEMS_FILE} is not what {DESIGN_FILE} was drawn from; bring both files back, or draw again"
        )
    sheets = {sheet_id(by_id[name], design["seed"]): by_id[name] for name in design["sheets"]}
    return SampleFolder(folder, tuple(items), design["seed"], sheets)


def _design(path: Path) -> dict[str, Any]:
    design = parse_json(path.read_text(encoding="utf-8", errors="replace"), str(path), "draw the sample again")
    lists = ("known_bad", "sheets")
    whole = (
        isinstance(design, dict)
        and type(design.get("seed")) is int
        and isinstance(design.get("items_sha256"), str)
        and all(isinstance(design.get(name), list) for name in lists)
        and all(isinstance(name, str) for key in lists for name in design[key])
    )
    if not whole:
        raise UserError(
            f"{path} is no design of a sample (seed, items_sha256, known_bad, sheets); draw the sample again"
        )
    return dict(design)
