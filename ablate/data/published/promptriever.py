"""The rows that Promptriever was trained on (arXiv 2409.11136; on the hub: samaya-ai/msmarco-w-instructions).

    query_id, query, only_query, only_instruction, has_instruction
    positive_passages  [{docid, text, title, explanation, followir_score, joint_id}]
    negative_passages  [{docid, text, title}]
    new_negatives      [{docid, text, title, explanation, followir_score, joint_id}]

Each base query is there twice under one `query_id`: plain (`has_instruction` false), and with an instruction appended
to its query (`query` = `only_query` + `only_instruction`). `new_negatives` are generated passages that answer the query
and break the instruction; their ids are their own (`<query_id>_<number>`). `followir_score` is the probability that a
judge (FollowIR-7B) gives to "relevant" for query and instruction together; the published set was filtered with it, and
here it can be filtered again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from ablate.data.published.fields import (
    PassageIds,
    flag_of,
    id_of,
    passages_of,
    score_of,
    text_of,
    text_or_nothing,
)
from ablate.data.published.reader import Record
from ablate.records import Passage, SourceRow, UserError


class Promptriever:
    """Format of Promptriever's published rows.

    `records`: instructed records, plain ones, or all. `min_positive_score`: a positive of an instructed record is
    dropped unless its score is above this (0.5: what the authors call relevant); None keeps all. `max_negative_score`:
    an instruction negative is dropped when its score is above this; None keeps all. Passages without a score are kept.
    Raises UserError for thresholds outside 0 to 1 and for two under which one score would pass as both.
    """

    fields = (
        "query_id",
        "query",
        "only_query",
        "only_instruction",
        "has_instruction",
        "positive_passages",
        "negative_passages",
        "new_negatives",
        "reversed_instruction",
    )
    """What is read of a record; `reversed_instruction` is ours and optional: the complement of `only_instruction`."""

    def __init__(
        self,
        *,
        records: Literal["instructed", "plain", "all"],
        min_positive_score: float | None,
        max_negative_score: float | None,
        passage_ids: PassageIds,
    ) -> None:
        for name, value in (("min_positive_score", min_positive_score), ("max_negative_score", max_negative_score)):
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"source.{name}={value}: must lie between 0 and 1, or be null to keep all passages")
        if min_positive_score is not None and max_negative_score is not None:
            if max_negative_score > min_positive_score:
                raise UserError(
                    f"source.max_negative_score={max_negative_score} is above "
                    f"source.min_positive_score={min_positive_score}: a score in between would pass as positive and as "
                    f"negative; lower the first or raise the second"
                )
        self._records = records
        self._min_positive, self._max_negative = min_positive_score, max_negative_score
        self._passage_ids = passage_ids

    def rows(self, record: Record, number: int, dropped: Counter[str]) -> Iterator[SourceRow]:
        """Yield the row of a record, unless it is dropped; counts what is dropped, by its reason."""
        instructed = flag_of(record, "has_instruction")
        query_id = id_of(record, "query_id")
        query = text_of(record, "only_query") if instructed else _plain_query(record)
        instruction = text_of(record, "only_instruction") if instructed else ""
        reversed_instruction = text_or_nothing(record, "reversed_instruction") if instructed else ""
        positives = list(passages_of(record, "positive_passages", self._passage_ids))
        broken = list(passages_of(record, "new_negatives", self._passage_ids))
        candidates = list(passages_of(record, "negative_passages", self._passage_ids))
        if self._records != "all" and instructed != (self._records == "instructed"):
            dropped["rows: instructed" if instructed else "rows: plain"] += 1
            return
        kept: list[str] = []
        for passage, item in positives:
            score = score_of(record, "positive_passages", item, "followir_score")
            if instructed and self._min_positive is not None and score is not None and score <= self._min_positive:
                dropped["positives: score not above min_positive_score"] += 1
            else:
                kept.append(passage.doc_id)
        partners: list[str] = []
        for passage, item in broken if instructed else ():
            score = score_of(record, "new_negatives", item, "followir_score")
            if self._max_negative is not None and score is not None and score > self._max_negative:
                dropped["instruction negatives: score above max_negative_score"] += 1
            elif passage.doc_id in kept:
                dropped["instruction negatives: also a positive"] += 1
            else:
                partners.append(passage.doc_id)
        if not kept:
            dropped["rows: no positive"] += 1
            return
        answers = tuple(dict.fromkeys(passage.doc_id for passage, _ in (*positives, *broken)))
        hard: list[str] = []
        for passage, item in candidates:
            if passage.doc_id in answers or item.get("followir_score") is not None:
                dropped["hard negatives: listed as an answer of the query, or judged"] += 1
            else:
                hard.append(passage.doc_id)
        yield SourceRow(
            row_id=f"{query_id}:{'instructed' if instructed else 'plain'}:{number}",
            query_id=query_id,
            query=query,
            instruction=instruction,
            reversed_instruction=reversed_instruction,
            paraphrase="",
            positives=tuple(dict.fromkeys(kept)),
            hard_negatives=tuple(dict.fromkeys(hard)),
            instruction_negatives=tuple(dict.fromkeys(partners)),
            answers=answers,
        )

    def generated(self, doc_id: str) -> bool | None:
        """Return whether an id is of the form `<query_id>_<n>`, which the authors give to generated passages."""
        return "_" in doc_id.split("#")[0]

    def passages(self, record: Record) -> Iterator[Passage]:
        """Yield all passages of a record: positives, instruction negatives, hard negatives."""
        for name in ("positive_passages", "new_negatives", "negative_passages"):
            for passage, _ in passages_of(record, name, self._passage_ids):
                yield passage


def _plain_query(record: Record) -> str:
    """Return the query of a plain record, which may leave `only_query` empty."""
    return text_or_nothing(record, "only_query") or text_of(record, "query")
