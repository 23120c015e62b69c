"""InF-IR's triples (arXiv 2505.21439; https://github.com/night-chen/InF_Embed, dataloaders/basic_dataloader.py).

    query_positive, query_negative, instruction_positive, instruction_negative
    document (in some sets: document_positive), hard_negative_document_1, hard_negative_document_2

What is relevant to what: (query_positive, instruction_positive) -> document; (query_positive, instruction_negative) ->
hard_negative_document_1; (query_negative, instruction_positive) -> hard_negative_document_2. So `instruction_negative`
takes the place of the complement, and the first two documents swap labels under it. In some sets the names of queries
and instructions end in `_fewshot`. There are no ids: queries and documents are known by digests of their texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ablate.data.published.fields import digest, text_of
from ablate.data.published.reader import Record
from ablate.records import Passage, SourceRow

_QUERIES = ("query_positive", "query_negative", "instruction_positive", "instruction_negative")
_DOCUMENTS = ("document_positive", "document", "hard_negative_document_1", "hard_negative_document_2")


class _Triple(NamedTuple):
    query: str
    other_query: str
    instruction: str
    other_instruction: str
    document: Passage
    of_other_instruction: Passage
    of_other_query: Passage


class InfIr:
    """Format of InF-IR's records.

    `other_queries`: whether (query_negative, instruction_positive) -> hard_negative_document_2 is a row of its own; it
    has no instruction negative, so it is there under source.rows=all only.
    """

    fields = (*_QUERIES, *(f"{name}_fewshot" for name in _QUERIES), *_DOCUMENTS)

    def __init__(self, *, other_queries: bool) -> None:
        self._other_queries = other_queries

    def rows(self, record: Record, number: int, dropped: Counter[str]) -> Iterator[SourceRow]:
        """Yield the row of a record and, if asked for, that of its other query; counts what is dropped."""
        triple = _read(record)
        document, partner = triple.document.doc_id, triple.of_other_instruction.doc_id
        far = triple.of_other_query.doc_id
        if document in (partner, far):
            dropped["rows: positive and negative have the same text"] += 1
            return
        query_id = f"q-{digest(triple.query)}"
        yield SourceRow(
            row_id=f"{query_id}:{number}",
            query_id=query_id,
            query=triple.query,
            instruction=triple.instruction,
            reversed_instruction=triple.other_instruction,
            paraphrase="",
            positives=(document,),
            hard_negatives=(far,) if far != partner else (),
            instruction_negatives=(partner,),
            answers=(document, partner),
        )
        if self._other_queries:
            other_id = f"q-{digest(triple.other_query)}"
            yield SourceRow(
                row_id=f"{other_id}:{number}:other",
                query_id=other_id,
                query=triple.other_query,
                instruction=triple.instruction,
                reversed_instruction="",
                paraphrase="",
                positives=(far,),
                hard_negatives=(document,),
                instruction_negatives=(),
                answers=(far,),
            )

    def generated(self, doc_id: str) -> bool | None:
        """Return None: the ids are digests of the texts."""
        return None

    def passages(self, record: Record) -> Iterator[Passage]:
        """Yield the three documents of a record."""
        triple = _read(record)
        yield from (triple.document, triple.of_other_instruction, triple.of_other_query)


def _read(record: Record) -> _Triple:
    values = record.values
    end = "" if values.get("query_positive") is not None or "query_positive_fewshot" not in values else "_fewshot"
    document = "document" if values.get("document_positive") is None and "document" in values else "document_positive"
    names = (document, *_DOCUMENTS[2:])
    query, other_query, instruction, other_instruction = (text_of(record, f"{name}{end}") for name in _QUERIES)
    first, second, third = (Passage(f"d-{digest(text)}", text) for text in (text_of(record, name) for name in names))
    return _Triple(query, other_query, instruction, other_instruction, first, second, third)
