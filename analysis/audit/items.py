"""What is audited: items, read from JSON lines and checked, and the judgments that were made of them.

An item is a training pair in both of its views, see `ablate.data.judgments`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.data.judgments import Judgment, check_name, judgments_in
from ablate.reading import json_objects, shown
from ablate.records import UserError


@dataclass(frozen=True)
class Item:
    """A training pair with its instruction and the complement that swaps its labels."""

    id: str
    query_id: str
    """Source query: items of one query are a cluster."""
    query: str
    passage_a: str
    passage_b: str
    instruction: str
    complement: str
    constraint_type: str
    stratum: str
    """Stratum of the sampling design; the constraint's type where the file names none."""
    known_bad: bool
    """Made wrong on purpose, to find raters who wave through: never part of the estimate."""


_ITEM_TEXTS = ("id", "query_id", "query", "passage_a", "passage_b", "instruction", "complement", "constraint_type")


def read_items(path: str | Path) -> list[Item]:
    """Return the items of a JSON lines file; raises UserError with file and line for what is no item."""
    items: dict[str, Item] = {}
    for where, values in json_objects(path, required=_ITEM_TEXTS, optional=("stratum", "known_bad")):
        for name in (*_ITEM_TEXTS, *(("stratum",) if "stratum" in values else ())):
            if not isinstance(values[name], str) or not values[name].strip():
                raise UserError(f"{where}: {name} is {shown(values[name])}; it must be a text that is not empty")
        check_name(values["id"], "id", where)
        known_bad = values.get("known_bad", False)
        if not isinstance(known_bad, bool):
            raise UserError(f"{where}: known_bad is {shown(known_bad)}; allowed: true, false")
        texts = {name: values[name] for name in _ITEM_TEXTS}
        item = Item(**texts, stratum=values.get("stratum", values["constraint_type"]), known_bad=known_bad)
        if item.id in items:
            raise UserError(f"{where}: the id {item.id!r} stands on an earlier line too; every item needs its own")
        items[item.id] = item
    if not any(not item.known_bad for item in items.values()):
        raise UserError(f"{path} has no item to audit; one JSON object a line with {', '.join(_ITEM_TEXTS)}")
    return list(items.values())


def read_judgments(paths: Sequence[str | Path], items: Sequence[Item]) -> list[Judgment]:
    """Return the judgments of JSON lines files, each rater's at most once per item.

    Raises UserError with file and line for what is no judgment and for an item that is unknown.
    """
    known = {item.id for item in items}
    judgments = []
    for where, judgment in judgments_in(paths):
        if judgment.item_id not in known:
            raise UserError(f"{where}: item_id {judgment.item_id!r} is none of the {len(known)} items")
        judgments.append(judgment)
    return judgments
