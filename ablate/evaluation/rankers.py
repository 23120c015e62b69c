"""What ranks the documents of an evaluation set for its queries: vectors of an encoder, BM25, or a coin.

Every ranker ranks all documents, or all candidates of a query where these are given, so the rankings of a set have one
length and p-MRR sees no document move because a list is shorter; equal scores are ordered by
`ablate.retrieval.rankings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ablate.randomness import stream
from ablate.records import EvaluationSet, Passage, UserError
from ablate.retrieval.bm25 import Bm25, parameters
from ablate.retrieval.exact import rerank
from ablate.retrieval.index import retrieve
from ablate.retrieval.rankings import DocumentOrder, FloatArray, Ranking
from ablate.retrieval.vectors import Encoder, Retrieval, encode_all
from ablate.timing import timed

FILLED = "ranking filled up with documents that share no word with the query (score 0, by id)"
WORDLESS = "query without a word of any document: all scores are 0"


@dataclass(frozen=True)
class Ranked:
    """One ranking per query of a set, in its order, and the queries that need a word."""

    rankings: list[Ranking]
    listed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Reason -> query ids."""
    counts: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Ranker(Protocol):
    """A ranking of all documents of a set for each of its queries, down to `depth`."""

    def __call__(self, bed: EvaluationSet, depth: int) -> Ranked:
        """Return the rankings; raises UserError for scores that are no numbers."""
        ...


class Dense:
    """Inner products of an encoder's vectors: each (query, instruction) and shared documents are encoded once."""

    def __init__(self, encoder: Encoder, retrieval: Retrieval | None = None) -> None:
        """`retrieval` says how documents are split, kept and searched."""
        self.encoder, self._retrieval = encoder, retrieval or Retrieval()
        self._documents: tuple[Passage, ...] | None = None

    def __call__(self, bed: EvaluationSet, depth: int) -> Ranked:
        """Return the rankings; raises UserError for vectors that are not finite."""
        if self._documents != bed.documents:
            kept = self._retrieval.of_set(bed.name)
            self._vectors = encode_all(self.encoder, bed.documents, kept, progress=f"{bed.name}: documents")
            self._documents = bed.documents
        rows: dict[tuple[str, str], int] = {}
        for query in bed.queries:
            rows.setdefault((query.query, query.instruction), len(rows))
        distinct = self.encoder.encode_queries(list(rows), progress=f"{bed.name}: queries")
        if len(distinct) != len(rows):
            raise UserError(f"{bed.name}: the encoder gave {len(distinct)} vectors for {len(rows)} queries")
        vectors = distinct[[rows[query.query, query.instruction] for query in bed.queries]]
        doc_ids = [passage.doc_id for passage in bed.documents]
        query_ids = [query.query_id for query in bed.queries]
        if bed.candidates is None:
            rankings, counts, warnings = retrieve(
                self._vectors, vectors, doc_ids, query_ids, depth, self._retrieval.index
            )
        else:
            rankings = rerank(self._vectors, vectors, doc_ids, query_ids, bed.candidates, depth)
            counts, warnings = {}, []
        warnings += self._vectors.warnings(len(doc_ids), self._retrieval.window)
        return Ranked(rankings, {}, counts | self._vectors.counts(len(doc_ids)), tuple(warnings))


class Lexical:
    """BM25 for the bare query, or for the query with its instruction appended."""

    def __init__(self, *, with_instruction: bool, stemmer: str | None = None) -> None:
        self._with_instruction, self._stemmer = with_instruction, stemmer
        self._documents: tuple[Passage, ...] | None = None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What ids hold; raises UserError as `parameters` does."""
        return parameters(self._stemmer)

    @timed("search")
    def __call__(self, bed: EvaluationSet, depth: int) -> Ranked:
        """Return the rankings; documents without a word of the query stand last, and such rankings are listed."""
        if self._documents != bed.documents:
            self._index = Bm25(bed.documents, self._stemmer)
            self._order = DocumentOrder(self._index.doc_ids)
            self._documents = bed.documents
        rankings: list[Ranking] = []
        listed: dict[str, list[str]] = {WORDLESS: [], FILLED: []}
        for query in bed.queries:
            text = f"{query.query} {query.instruction}" if self._with_instruction else query.query
            scores = self._index.scores(text)
            ranking = _ranked(self._order, bed, query.query_id, scores, depth)
            rankings.append(ranking)
            if not scores.any():
                listed[WORDLESS].append(query.query_id)
            elif ranking.scores[-1] == 0:
                listed[FILLED].append(query.query_id)
        return Ranked(rankings, {reason: tuple(ids) for reason, ids in listed.items() if ids})


class Random:
    """Another order of the documents for every seed, set and query as posed, whatever order the set has them in."""

    parameters: Mapping[str, Any] = {}

    def __init__(self, seed: int) -> None:
        self._seed = seed

    @timed("search")
    def __call__(self, bed: EvaluationSet, depth: int) -> Ranked:
        """Return the rankings; scores are whole numbers from D - 1 down, exact in float32 up to 2^24 documents."""
        order = DocumentOrder(sorted(passage.doc_id for passage in bed.documents))
        num_documents = len(order.doc_ids)
        if num_documents > 2**24:
            raise UserError(f"{bed.name} has {num_documents:,} documents; ranker=random takes at most 2^24")
        rankings = []
        for query in bed.queries:
            generator = stream(self._seed, "random ranker", bed.name, query.query_id)
            scores = generator.permutation(num_documents).astype(np.float32)
            rankings.append(_ranked(order, bed, query.query_id, scores, depth))
        return Ranked(rankings)


def _ranked(order: DocumentOrder, bed: EvaluationSet, query_id: str, scores: FloatArray, depth: int) -> Ranking:
    """Return the ranking of all documents, or of the query's own candidates, by the scores (D,) of all documents."""
    if bed.candidates is None:
        return order.rank(query_id, scores, depth=depth)
    own = set(bed.candidates[query_id])
    rows = np.array([row for row, doc_id in enumerate(order.doc_ids) if doc_id in own], dtype=np.int64)
    return order.rank(query_id, scores[rows], depth=depth, rows=rows)


def plain_ranker(kind: str, seed: int, stemmer: str | None = None) -> Lexical | Random:
    """Return a ranker that is no model by its name in a recipe; making it costs nothing before its first set.

    `stemmer` is that of BM25; a coin has none.
    """
    if kind == "random":
        return Random(seed)
    return Lexical(with_instruction={"bm25": False, "bm25_instruction": True}[kind], stemmer=stemmer)
