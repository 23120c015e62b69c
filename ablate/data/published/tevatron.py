"""Tevatron's training records with their passages inside (https://github.com/texttron/tevatron), without instructions.

query_id, query
positive_passages  [{docid, title, text}]
negative_passages  [{docid, title, text}]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ablate.data.published.fields import PassageIds, id_of, passages_of, text_of
from ablate.data.published.reader import Record
from ablate.records import Passage, SourceRow


class Tevatron:
    """Format of Tevatron's records: a query, its positives and its hard negatives."""

    fields = ("query_id", "query", "positive_passages", "negative_passages", "positive_document_ids")

    def __init__(self, *, passage_ids: PassageIds) -> None:
        self._passage_ids = passage_ids

    def rows(self, record: Record, number: int, dropped: Counter[str]) -> Iterator[SourceRow]:
        """Yield the row of a record, unless it has no positive; counts what is dropped, by its reason."""
        self._refuse_bare_ids(record)
        query_id, query = id_of(record, "query_id"), text_of(record, "query")
        positives = dict.fromkeys(
            passage.doc_id for passage, _ in passages_of(record, "positive_passages", self._passage_ids)
        )
        hard: list[str] = []
        for passage, _ in passages_of(record, "negative_passages", self._passage_ids):
            if passage.doc_id in positives:
                dropped["hard negatives: also a positive"] += 1
            else:
                hard.append(passage.doc_id)
        if not positives:
            dropped["rows: no positive"] += 1
            return
        yield SourceRow(
            row_id=f"{query_id}:{number}",
            query_id=query_id,
            query=query,
            instruction="",
            reversed_instruction="",
            paraphrase="",
            positives=tuple(positives),
            hard_negatives=tuple(dict.fromkeys(hard)),
            instruction_negatives=(),
            answers=tuple(positives),
        )

    def generated(self, doc_id: str) -> bool | None:
        """Return None: the format does not say."""
        return None

    def passages(self, record: Record) -> Iterator[Passage]:
        """Yield all passages of a record: positives, hard negatives."""
        self._refuse_bare_ids(record)
        for name in ("positive_passages", "negative_passages"):
            for passage, _ in passages_of(record, name, self._passage_ids):
                yield passage

    @staticmethod
    def _refuse_bare_ids(record: Record) -> None:
        if "positive_document_ids" in record.values and "positive_passages" not in record.values:
            raise record.error(
                "it names its passages by positive_document_ids and keeps their texts in a corpus of its own; "
                "give records with positive_passages and negative_passages"
            )
