"""Approximate search: faiss finds candidates by inverted lists, a graph or codes; scores and ties are as in `search`.

An index may miss documents, so some queries are searched exactly too and the share of their documents that the index
found is part of the result. Building is deterministic: k-means has a seed, trains on evenly spaced passages and, like
the linking of the graph, runs on one thread, because the result would otherwise depend on how threads take turns.

Shapes: P passages, Q queries, H dimensions, K candidates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ablate.recipe.schema import ExactIndex, HnswIndex, Index, IvfIndex, PqIndex
from ablate.records import UserError
from ablate.retrieval.rankings import FloatArray, IntArray, Ranking
from ablate.retrieval.search import (
    Corpus,
    check_queries,
    first_fetch,
    is_settled,
    passages_bar,
    scores_of,
    search_corpus,
)
from ablate.retrieval.vectors import DocumentVectors

_POINTS_PER_CENTRE = 64
"""Passages per centre that k-means looks at; faiss asks for at least 39."""
_CODE_BITS = 8
_ADDED_AT_ONCE = 65_536
_QUERIES_PER_PASS = 1_024


def retrieve(
    document_vectors: FloatArray | DocumentVectors,
    query_vectors: FloatArray,
    doc_ids: Sequence[str],
    query_ids: Sequence[str],
    depth: int,
    index: Index,
) -> tuple[list[Ranking], dict[str, float], list[str]]:
    """Return what `search` returns by the configured index, what is to be recorded of it, and warnings.

    With `exact` nothing is recorded. Otherwise `recall@<depth>` is the mean share of the exact ranking's documents
    that the index found, over evenly spaced queries. Raises UserError as `search` does, and for an index that cannot
    be built of these vectors.
    """
    corpus = Corpus(document_vectors, doc_ids)
    queries = check_queries(corpus, query_vectors, query_ids, depth)
    if isinstance(index, ExactIndex):
        return search_corpus(corpus, queries, query_ids, depth), {}, []
    rankings = search_index(build_index(corpus, index), corpus, queries, query_ids, depth, index)
    return rankings, *check_index(rankings, corpus, queries, query_ids, depth, index)


def check_index(
    rankings: Sequence[Ranking],
    corpus: Corpus,
    queries: FloatArray,
    query_ids: Sequence[str],
    depth: int,
    index: IvfIndex | HnswIndex | PqIndex,
) -> tuple[dict[str, float], list[str]]:
    """Return the recall of rankings against exact search on evenly spaced queries, and a warning when it is below 1."""
    number = min(index.checked_queries, len(queries))
    rows = np.unique(np.linspace(0, len(queries) - 1, number).round().astype(np.int64)).tolist()
    exact = search_corpus(corpus, queries[rows], [query_ids[row] for row in rows], depth)
    shares = [
        len(set(truth.doc_ids) & set(rankings[row].doc_ids)) / len(truth)
        for row, truth in zip(rows, exact, strict=True)
    ]
    recall, expected = float(np.mean(shares)), min(depth, len(corpus.order.doc_ids))
    short = sum(len(ranking) < expected for ranking in rankings)
    counts: dict[str, float] = {f"recall@{depth}": recall, "queries checked": len(rows), "short rankings": short}
    if recall == 1.0 and not short:
        return counts, []
    line = f"index {index.kind}: recall@{depth} against exact search is {recall:.4f} on {len(rows)} of {len(queries)} "
    line += f"queries, {short} rankings are short; documents that are missed count as not retrieved: "
    return counts, [line + "search broader or set evaluation.index.kind=exact"]


def build_index(corpus: Corpus, index: IvfIndex | HnswIndex | PqIndex) -> Any:
    """Return the filled faiss index; raises UserError for one that cannot be built of these vectors."""
    import faiss

    size, metric = corpus.dimensions, faiss.METRIC_INNER_PRODUCT
    built: Any
    with _one_thread():
        if isinstance(index, HnswIndex):
            built = faiss.IndexHNSWFlat(size, index.links, metric)
            built.hnsw.efConstruction = index.build_breadth
        elif isinstance(index, IvfIndex):
            if index.lists > corpus.num_passages:
                raise UserError(
                    f"evaluation.index.lists={index.lists} is more than the {corpus.num_passages} passages of the set; "
                    f"lower it or set evaluation.index.kind=exact"
                )
            quantiser = faiss.IndexFlatIP(size)
            built = faiss.IndexIVFFlat(quantiser, size, index.lists, metric)
            built.nprobe = index.probes
            _train(built, built.cp, corpus, index.lists, index.seed)
        else:
            if size % index.code_bytes:
                divisors = ", ".join(str(parts) for parts in range(1, size + 1) if size % parts == 0)
                raise UserError(
                    f"evaluation.index.code_bytes={index.code_bytes} does not divide the {size} dimensions of the "
                    f"vectors; allowed: {divisors}"
                )
            if corpus.num_passages < 2**_CODE_BITS:
                raise UserError(
                    f"evaluation.index.kind=pq needs {2**_CODE_BITS} passages for its codes and the set has "
                    f"{corpus.num_passages}; set evaluation.index.kind=exact"
                )
            built = faiss.IndexPQ(size, index.code_bytes, _CODE_BITS, metric)
            _train(built, built.pq.cp, corpus, 2**_CODE_BITS, index.seed)
        with passages_bar(f"index {index.kind}", corpus.num_passages) as advance:
            for block in _even_blocks(corpus, _ADDED_AT_ONCE):
                built.add(block)
                advance(len(block))
    return built


def _even_blocks(corpus: Corpus, size: int) -> Iterator[FloatArray]:
    """Yield all passages in blocks of one size, whatever the parts: a graph depends on what is added together."""
    waiting: list[FloatArray] = []
    for _, part in corpus:
        start = 0
        while start < len(part):
            end = min(len(part), start + size - sum(map(len, waiting)))
            waiting.append(part[start:end])
            start = end
            if sum(map(len, waiting)) == size:
                yield np.concatenate(waiting)
                waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _train(built: Any, clustering: Any, corpus: Corpus, num_centres: int, seed: int) -> None:
    clustering.seed, clustering.min_points_per_centroid = seed, 1
    number = min(corpus.num_passages, _POINTS_PER_CENTRE * num_centres)
    rows = np.arange(number, dtype=np.int64) * corpus.num_passages // number
    points = [part[rows[(rows >= first) & (rows < first + len(part))] - first] for first, part in corpus]
    built.train(np.concatenate(points))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def search_index(
    built: Any,
    corpus: Corpus,
    queries: FloatArray,
    query_ids: Sequence[str],
    depth: int,
    index: IvfIndex | HnswIndex | PqIndex,
) -> list[Ranking]:
    """Return the rankings: candidates until there are enough documents and, where products are exact, no open tie."""
    found: list[Ranking | None] = [None] * len(queries)
    fetch = first_fetch(corpus, depth)
    if isinstance(index, PqIndex):
        fetch = int(fetch * index.oversampling)
    while True:
        fetch = min(fetch, corpus.num_passages)
        open_rows = [row for row, ranking in enumerate(found) if ranking is None]
        if not open_rows:
            return [ranking for ranking in found if ranking is not None]
        if isinstance(index, HnswIndex):
            built.hnsw.efSearch = max(index.search_breadth, fetch)
        for start in range(0, len(open_rows), _QUERIES_PER_PASS):
            rows = open_rows[start : start + _QUERIES_PER_PASS]
            products_qk, passages_qk = built.search(queries[rows], fetch)
            candidates: list[IntArray] = [np.sort(passages[passages >= 0]) for passages in passages_qk]
            scored = scores_of(corpus, queries[rows], candidates)
            lowest = products_qk[:, -1].tolist()
            for row, passages, scores, limit in zip(rows, candidates, scored, lowest, strict=True):
                complete = len(passages) < fetch or fetch == corpus.num_passages  # the index has no more to give
                if isinstance(index, PqIndex):
                    complete = complete or len(corpus.best(scores, passages)[0]) >= depth
                if complete or is_settled(corpus, queries[row], passages, scores, limit, depth):
                    found[row] = corpus.rank(query_ids[row], scores, depth, passages)
        fetch *= 2
