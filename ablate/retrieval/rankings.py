"""The one ranking of a query: every measure reads it, nothing sorts scores a second time or in another way.

Scores are cast once to float32; higher scores come first; equal scores are ordered by document id as strings (code
points): descending, which is what trec_eval does, or ascending where that is asked for. Ranks are 1-based positions in
that list.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ablate.records import UserError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

TieOrder = Literal["descending", "ascending"]
"""Order of the ids of documents with equal scores: descending in all that is measured, ascending in what is mined."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The documents of one query, best first; made by `rank` or `DocumentOrder`, never sorted again."""

    query_id: str
    doc_ids: tuple[str, ...]
    scores: FloatArray
    """float32, one per document, not increasing, read-only."""

    def __len__(self) -> int:
        return len(self.doc_ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ranking):
            return NotImplemented
        same_ids = self.query_id == other.query_id and self.doc_ids == other.doc_ids
        return same_ids and np.array_equal(self.scores, other.scores)

    def __hash__(self) -> int:
        return hash((self.query_id, self.doc_ids))

    def ranks_of(self, doc_ids: Sequence[str]) -> IntArray:
        """Return the 1-based ranks of documents; a document that is not in the list has rank len + 1."""
        ranks, missing = self.places_of(set(doc_ids)), len(self.doc_ids) + 1
        return np.array([ranks.get(doc_id, missing) for doc_id in doc_ids], dtype=np.int64)

    def places_of(self, doc_ids: Collection[str], depth: int | None = None) -> dict[str, int]:
        """Return document -> its 1-based rank, best first, of a set (or the keys) of documents; missing ones have none.

        With `depth`, only the first so many documents of the list are looked at.
        """
        listed = self.doc_ids[:depth]
        is_wanted = map(doc_ids.__contains__, listed)  # in C: of thousands of documents, a handful is asked for
        return {listed[place - 1]: place for place in itertools.compress(itertools.count(1), is_wanted)}

    def scores_of(self, doc_ids: Sequence[str], missing: float = float("nan")) -> FloatArray:
        """Return the scores of documents, `missing` for a document that is not in the list."""
        return self.scores_at(self.ranks_of(doc_ids), missing)

    def scores_at(self, ranks: IntArray, missing: float = float("nan")) -> FloatArray:
        """Return the scores at ranks as `ranks_of` gives them."""
        return np.append(self.scores, np.float32(missing))[ranks - 1]


class DocumentOrder:
    """The string order of one list of documents, worked out once and used for many queries."""

    def __init__(self, doc_ids: Iterable[str], query_id: str | None = None, *, ties: TieOrder = "descending") -> None:
        """Take distinct document ids; raises UserError naming the document that is there twice, and the query."""
        self.doc_ids = tuple(doc_ids)
        self._ids = np.array(self.doc_ids, dtype=object)
        ordered = sorted(range(len(self.doc_ids)), key=self.doc_ids.__getitem__, reverse=ties == "descending")
        self.place = np.empty(len(self.doc_ids), dtype=np.int64)
        """Position of each document in the order of ties: the second sort key."""
        self.place[ordered] = np.arange(len(self.doc_ids))
        for left, right in zip(ordered, ordered[1:], strict=False):
            if self.doc_ids[left] == self.doc_ids[right]:
                owner = "the documents" if query_id is None else f"query {query_id!r}"
                raise UserError(f"{owner}: document {self.doc_ids[left]!r} is there twice; keep one entry per document")

    def rank(
        self,
        query_id: str,
        scores: npt.ArrayLike,
        *,
        depth: int | None = None,
        rows: IntArray | None = None,
    ) -> Ranking:
        """Return the `depth` best documents of one query (all by default).

        `scores` (D,) belong to all documents in their order, or, with `rows` (K,), to those rows only. Ties at the cut
        are decided by the id rule like all others. Raises UserError naming the query and the document of a NaN.
        """
        row_scores = _as_float32(query_id, scores)
        expected = len(self.doc_ids) if rows is None else len(rows)
        if row_scores.shape != (expected,):
            raise UserError(
                f"query {query_id!r}: scores have shape {row_scores.shape}, expected ({expected},); give one score "
                "per document"
            )
        places = self.place if rows is None else self.place[rows]
        is_nan = np.isnan(row_scores)
        if is_nan.any():
            first = int(np.argmax(is_nan))
            doc_id = self.doc_ids[first if rows is None else int(rows[first])]
            raise UserError(
                f"query {query_id!r}, document {doc_id!r}: the score is NaN; scores must be numbers (infinities are "
                "allowed), so look for the NaN in the model or in the run file"
            )
        if depth is not None and depth < 1:
            raise UserError(f"query {query_id!r}: depth is {depth}, allowed is 1 or more")
        chosen: IntArray
        if depth is not None and depth < expected:
            cut = np.partition(row_scores, expected - depth)[expected - depth]
            chosen = np.flatnonzero(row_scores >= cut)  # every document that ties at the cut takes part
        else:
            chosen = np.arange(expected)
        order = chosen[np.lexsort((places[chosen], -row_scores[chosen]))][:depth]
        kept = row_scores[order]
        kept.setflags(write=False)
        kept_rows = order if rows is None else rows[order]
        return Ranking(query_id, tuple(self._ids[kept_rows].tolist()), kept)


def rank(query_id: str, doc_ids: Sequence[str], scores: npt.ArrayLike) -> Ranking:
    """Return the ranking of one query's scored documents.

    Raises UserError naming the query id and the document id for a NaN score or a document that is there twice.
    """
    return DocumentOrder(doc_ids, query_id).rank(query_id, scores)


def by_query(rankings: Iterable[Ranking]) -> dict[str, Ranking]:
    """Return query_id -> ranking; raises UserError naming a query that has two rankings."""
    by_id: dict[str, Ranking] = {}
    for ranking in rankings:
        if ranking.query_id in by_id:
            raise UserError(f"query {ranking.query_id!r} has two rankings; give one ranking per query")
        by_id[ranking.query_id] = ranking
    return by_id


def _as_float32(query_id: str, scores: npt.ArrayLike) -> FloatArray:
    given = np.asarray(scores)
    if given.size and given.dtype.kind not in "fiu":
        raise UserError(f"query {query_id!r}: scores are of type {given.dtype}, allowed are real numbers")
    with np.errstate(over="ignore"):
        return given.astype(np.float32) + np.float32(0.0)  # + 0 makes -0.0 and 0.0 one value
