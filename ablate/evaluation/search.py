"""Exact search by inner product: faiss finds the candidates, one fixed computation gives the scores.

The score of a query and a document is their inner product in float64, rounded once to float32. It depends on the two
vectors alone: not on the batch, the number of threads or the linear algebra library, so equal vectors tie exactly and
two calls agree to the bit. Candidates of faiss (float32) are taken with a margin and extended until no document
outside of them can reach the cut, by the rounding bound |error| <= n u / (1 - n u) * |q| |d| (Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., section 3.1).

Shapes: D documents, Q queries, H dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ablate.evaluation.rankings import DocumentOrder, FloatArray, IntArray, Ranking
from ablate.records import UserError

AnyFloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]

_EXHAUSTIVE_BELOW = 4096
"""Corpora up to this size are scored entirely: as fast as faiss, and nothing to extend."""
_QUERIES_AT_ONCE = 64
_DOCUMENTS_AT_ONCE = 16_384


def search(
    document_vectors: FloatArray,
    query_vectors: FloatArray,
    doc_ids: Sequence[str],
    query_ids: Sequence[str],
    depth: int,
) -> list[Ranking]:
    """Return the `depth` best documents of every query, in the order of the queries.

    `document_vectors` (D, H) and `query_vectors` (Q, H) are float32. The result equals that of ranking all documents.
    Raises UserError naming the document or query whose vector is not finite, on shapes that do not fit, and on
    duplicate documents.
    """
    documents = _vectors("document", document_vectors, doc_ids)
    queries = _vectors("query", query_vectors, query_ids)
    _check_search(documents, queries, depth)
    order = DocumentOrder(doc_ids)
    fetch = depth + max(64, depth // 8)
    if len(documents) <= max(_EXHAUSTIVE_BELOW, 2 * fetch):
        return _search_all(documents, queries, order, query_ids, depth)
    return _search_candidates(documents, queries, order, query_ids, depth, fetch)


def rerank(
    document_vectors: FloatArray,
    query_vectors: FloatArray,
    doc_ids: Sequence[str],
    query_ids: Sequence[str],
    candidates: Mapping[str, Sequence[str]],
    depth: int,
) -> list[Ranking]:
    """Return the `depth` best of each query's own candidates, in the order of the queries.

    Shapes, scores and errors are those of `search`; further raises UserError for a query without candidates and for a
    candidate that is not among the documents.
    """
    documents = _vectors("document", document_vectors, doc_ids)
    queries = _vectors("query", query_vectors, query_ids)
    _check_search(documents, queries, depth)
    order = DocumentOrder(doc_ids)
    row_of = {doc_id: row for row, doc_id in enumerate(doc_ids)}
    rankings: list[Ranking] = []
    for query, query_id in zip(queries, query_ids, strict=True):
        own = candidates.get(query_id, ())
        if not own:
            raise UserError(f"query {query_id!r} has no candidates to rank; give it a list, or leave the query out")
        for doc_id in own:
            if doc_id not in row_of:
                raise UserError(f"query {query_id!r}: candidate {doc_id!r} is not among the documents; add it to them")
        rows = np.array([row_of[doc_id] for doc_id in own], dtype=np.int64)
        rankings.append(order.rank(query_id, _scores(documents[rows], query), depth=depth, rows=rows))
    return rankings


def _check_search(documents: FloatArray, queries: FloatArray, depth: int) -> None:
    if documents.shape[1] != queries.shape[1]:
        raise UserError(
            f"document vectors have {documents.shape[1]} dimensions, query vectors {queries.shape[1]}; encode both "
            "with one model"
        )
    if depth < 1:
        raise UserError(f"depth is {depth}, allowed is 1 or more")


def _vectors(kind: str, vectors: FloatArray, ids: Sequence[str]) -> FloatArray:
    found = np.ascontiguousarray(vectors)
    if found.ndim != 2 or found.dtype != np.float32 or len(found) != len(ids):
        raise UserError(
            f"{kind} vectors have shape {found.shape} and type {found.dtype}, expected ({len(ids)}, H) float32: one "
            f"row per {kind} id"
        )
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        bad = ids[int(np.argmin(finite))]
        raise UserError(
            f"{kind} {bad!r}: its vector has a NaN or an infinity; look for empty text or an overflow in the encoder"
        )
    return found


def _scores(documents: AnyFloatArray, query: AnyFloatArray) -> FloatArray:
    """Return the scores (K,) of K documents (K, H) for one query (H,): the only place where scores are made."""
    exact: npt.NDArray[np.float64] = np.einsum(
        "kh,h->k", documents.astype(np.float64, copy=False), query.astype(np.float64, copy=False)
    )
    with np.errstate(over="ignore"):
        return exact.astype(np.float32)


def _search_all(
    documents: FloatArray, queries: FloatArray, order: DocumentOrder, query_ids: Sequence[str], depth: int
) -> list[Ranking]:
    rankings: list[Ranking] = []
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        block = queries[start : start + _QUERIES_AT_ONCE].astype(np.float64)
        scores_qd = np.empty((len(block), len(documents)), dtype=np.float32)
        for first in range(0, len(documents), _DOCUMENTS_AT_ONCE):
            part = documents[first : first + _DOCUMENTS_AT_ONCE].astype(np.float64)
            for row, query in enumerate(block):
                scores_qd[row, first : first + len(part)] = _scores(part, query)
        for row, scores in enumerate(scores_qd):
            rankings.append(order.rank(query_ids[start + row], scores, depth=depth))
    return rankings


def _search_candidates(
    documents: FloatArray,
    queries: FloatArray,
    order: DocumentOrder,
    query_ids: Sequence[str],
    depth: int,
    fetch: int,
) -> list[Ranking]:
    import faiss

    index = faiss.IndexFlatIP(documents.shape[1])
    index.add(documents)
    longest = float(np.sqrt(np.einsum("dh,dh->d", documents, documents, dtype=np.float64).max()))
    rounding = documents.shape[1] * 2.0**-24
    relative = (rounding / (1 - rounding) + 2.0**-23) * longest  # faiss sums in float32; ours rounds once
    underflow = documents.shape[1] * 1e-44  # products below the smallest float32 vanish in faiss
    rankings: list[Ranking] = []
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        block = queries[start : start + _QUERIES_AT_ONCE]
        approximate_qk, rows_qk = index.search(block, fetch)
        for offset, query in enumerate(block):
            margin = relative * float(np.linalg.norm(query.astype(np.float64))) + underflow
            found = _resolve(documents, query, rows_qk[offset], float(approximate_qk[offset, -1]), margin, depth)
            size = fetch
            while found is None:
                size = min(2 * size, len(documents))
                if size == len(documents):
                    everything = np.arange(size, dtype=np.int64)
                    found = everything, _scores(documents, query)
                else:
                    approximate, rows = index.search(query[None], size)
                    found = _resolve(documents, query, rows[0], float(approximate[0, -1]), margin, depth)
            rows, scores = found
            rankings.append(order.rank(query_ids[start + offset], scores, depth=depth, rows=rows))
    return rankings


def _resolve(
    documents: FloatArray, query: FloatArray, rows: IntArray, lowest: float, margin: float, depth: int
) -> tuple[IntArray, FloatArray] | None:
    """Return the candidates and their scores, or None when a document outside of them could still reach the cut.

    A document that faiss left out has a faiss score of at most `lowest`, hence a score of at most lowest + margin.
    """
    if not (rows >= 0).all() or not np.isfinite(lowest):
        return None
    scores = _scores(documents[rows], query)
    cut = float(np.partition(scores, len(scores) - depth)[len(scores) - depth])
    return (rows, scores) if cut > lowest + margin else None
