"""Rows that `ablate.synthesize` wrote: a `SourceRow` a line, with its passages inside and where its texts are from.

    row_id, query_id, query, instruction, …   the fields of SourceRow; those with a default may be absent
    passages     [{docid, title, text}]       every passage that the row names, but for those of `answers` alone
    provenance   {field: {model, prompt, …}}  of each field that was written by a model

Ids of passages that a model wrote begin with `written-`, followed by a digest of their text.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ablate.data.published.fields import passages_of, text_of
from ablate.data.published.reader import LocalFiles, Record
from ablate.records import Passage, SourceRow

WRITTEN = "written-"
"""How ids of passages begin that a model wrote."""
_FIELDS = dataclasses.fields(SourceRow)
_LISTED = ("positives", "hard_negatives", "instruction_negatives", "restyled")


class Synthesized:
    """Format of the rows that synthesis writes."""

    fields = (*(field.name for field in _FIELDS), "passages", "provenance")

    def rows(self, record: Record, number: int, dropped: Counter[str]) -> Iterator[SourceRow]:
        """Yield the row of a record; nothing is dropped."""
        values: dict[str, Any] = {}
        for field in _FIELDS:
            has_default = field.default is not dataclasses.MISSING
            if field.name not in record.values and has_default:
                continue
            if field.name in ("row_id", "query_id", "query"):
                values[field.name] = text_of(record, field.name)
            else:
                values[field.name] = _checked(record, field.name, str(field.type))
        if not values["positives"]:
            raise record.error("field 'positives' is empty; a row needs at least one")
        there = {passage.doc_id for passage in self.passages(record)}
        for name in _LISTED:
            for doc_id in values.get(name, ()):
                if doc_id not in there:
                    raise record.error(f"{name} names {doc_id!r}, which is not among its passages; add it there")
        yield SourceRow(**values)

    def generated(self, doc_id: str) -> bool | None:
        """Return True for a passage that synthesis wrote; None for others, of which the source of the row knew."""
        return True if doc_id.startswith(WRITTEN) else None

    def passages(self, record: Record) -> Iterator[Passage]:
        """Yield the passages of a record, in their order."""
        for passage, _ in passages_of(record, "passages", "docid"):
            yield passage


def _checked(record: Record, name: str, kind: str) -> Any:
    if name not in record.values:
        raise record.error(f"no field {name!r}; it has {', '.join(sorted(record.values)) or 'none'}")
    value = record.values[name]
    if kind.startswith("tuple") and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "bool | None" and (value is None or isinstance(value, bool)):
        return value
    meant = {"str": "text", "bool | None": "true, false or null"}.get(kind, "a list of texts")
    raise record.error(f"field {name!r} is {value!r:.60} instead of {meant}")


def provenances(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (row_id, where its texts are from) of the records of a file or folder, in the order of their rows."""
    for record in LocalFiles(path).records(("row_id", "provenance")):
        value = record.values.get("provenance") or {}
        if not isinstance(value, dict):
            raise record.error(f"field 'provenance' is {value!r:.60} instead of an object")
        yield text_of(record, "row_id"), value
