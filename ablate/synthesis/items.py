"""Items and judgments of an audit (docs/audit.md), as they are written for `analysis.inversion_audit`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablate.data.judgments import QUESTIONS
from ablate.reading import at, json_object, lines
from ablate.records import SourceRow, UserError

_TEXTS = ("id", "query_id", "query", "passage_a", "passage_b", "instruction", "complement", "constraint_type")


def item_of(row: SourceRow, texts: Mapping[str, str], constraint: str) -> dict[str, str]:
    """Return the item that a row with a complement is; `texts`: doc_id -> text."""
    return {
        "id": row.row_id,
        "query_id": row.query_id,
        "query": row.query,
        "passage_a": texts[row.positives[0]],
        "passage_b": texts[row.instruction_negatives[0]],
        "instruction": row.instruction,
        "complement": row.reversed_instruction,
        "constraint_type": constraint,
    }


def read_items(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the items of a file; raises UserError with file and line for what is none."""
    seen: set[str] = set()
    for number, text in lines(path):
        values = json_object(text, at(path, number))
        for name in _TEXTS:
            if not isinstance(values.get(name), str) or not values[name].strip():
                raise UserError(f"{at(path, number)}: {name} is missing or no text; an item has {', '.join(_TEXTS)}")
        if values["id"] in seen:
            raise UserError(f"{at(path, number)}: the id {values['id']!r} stands on an earlier line too")
        seen.add(values["id"])
        yield values


def read_gold(path: Path) -> dict[str, dict[str, bool]]:
    """Return item id -> question -> answer of the gold judgments in a file; raises UserError for what is none."""
    gold: dict[str, dict[str, bool]] = {}
    for number, text in lines(path):
        values = json_object(text, at(path, number))
        item_id, answers = values.get("item_id"), {name: values.get(name) for name in QUESTIONS}
        if not isinstance(item_id, str) or not all(isinstance(answer, bool) for answer in answers.values()):
            raise UserError(
                f"{at(path, number)}: no gold judgment; it has item_id and true or false for {', '.join(QUESTIONS)}"
            )
        gold[item_id] = {name: bool(answer) for name, answer in answers.items()}
    return gold


def judgment(item_id: str, rater: str, kind: str, answers: Mapping[str, bool | None]) -> dict[str, Any]:
    """Return a judgment as it is written."""
    return {"item_id": item_id, "rater": rater, "kind": kind, **{name: answers[name] for name in QUESTIONS}}
