"""Checked access to the fields of a record; whatever is missing or of the wrong type is told with file and line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

from ablate.data.published.reader import Record
from ablate.records import Passage

PassageIds = Literal["docid", "docid_and_text"]
"""docid: a passage is known by its docid, and two texts under one docid are an error. docid_and_text: by its docid and
a digest of its text, for sets that use one docid for several texts."""


def text_of(record: Record, name: str) -> str:
    """Return a field that must be text and not empty; raises UserError otherwise."""
    value = _field(record, name)
    if not isinstance(value, str):
        raise record.error(f"field {name!r} is {_kind(value)} instead of text")
    if not value.strip():
        raise record.error(f"field {name!r} is empty; give its text or leave the record out")
    return value


def text_or_nothing(record: Record, name: str) -> str:
    """Return a field that may be text, null, empty or absent, as text; raises UserError for any other value."""
    value = record.values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise record.error(f"field {name!r} is {_kind(value)} instead of text")
    return value.strip() and value


def flag_of(record: Record, name: str) -> bool:
    """Return a field that must be true or false; raises UserError otherwise."""
    value = _field(record, name)
    if not isinstance(value, bool):
        raise record.error(f"field {name!r} is {_kind(value)} instead of true or false")
    return value


def id_of(record: Record, name: str) -> str:
    """Return an id, which may be written as text or as a whole number; raises UserError otherwise."""
    return _as_id(record, f"field {name!r}", _field(record, name))


def passages_of(record: Record, name: str, passage_ids: PassageIds) -> Iterator[tuple[Passage, dict[str, Any]]]:
    """Yield the passages of a list field, each beside its raw object; null counts as empty.

    Raises UserError for a missing field, for anything that is not a list of objects with docid and text, and for an
    empty text.
    """
    items = _field(record, name)
    if items is None:
        return
    if not isinstance(items, list):
        raise record.error(f"field {name!r} is {_kind(items)} instead of a list of passages")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise record.error(f"{name}[{index}] is {_kind(item)} instead of a passage with docid and text")
        text, title = item.get("text"), item.get("title")
        if not isinstance(text, str) or not text.strip():
            what = "empty" if isinstance(text, str) else "missing" if text is None else f"{_kind(text)}"
            raise record.error(f"{name}[{index}]: its text is {what}; give its text or leave the passage out")
        if title is not None and not isinstance(title, str):
            raise record.error(f"{name}[{index}]: its title is {_kind(title)} instead of text")
        doc_id = item.get("docid")
        if type(doc_id) is not str or not doc_id:
            doc_id = _as_id(record, f"{name}[{index}]: its docid", doc_id)
        if passage_ids == "docid_and_text":
            doc_id = f"{doc_id}#{digest(text)}"
        yield Passage(doc_id, text, title or ""), item


def score_of(record: Record, name: str, item: dict[str, Any], what: str) -> float | None:
    """Return a judge's score of a passage, 0 to 1, None when it has none; raises UserError for anything else."""
    value = item.get(what)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:  # NaN is out of it too
        raise record.error(
            f"{name}: the {what} of passage {item.get('docid')!r} is {value!r} instead of a number from 0 to 1"
        )
    return float(value)


def digest(text: str) -> str:
    """Return 12 hex digits of BLAKE2b that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _field(record: Record, name: str) -> Any:
    if name not in record.values:
        raise record.error(f"no field {name!r}; it has {', '.join(sorted(record.values)) or 'none'}")
    return record.values[name]


def _as_id(record: Record, what: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        told = "empty" if value == "" else "missing" if value is None else _kind(value)
        raise record.error(f"{what} is {told} instead of text or a whole number")
    return str(value)


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
