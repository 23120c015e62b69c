"""Exact search by inner product: one fixed computation gives the scores, matrix products say which are worth computing.

The score of a query and a passage is their inner product in float64, rounded once to float32. It depends on the two
vectors alone: not on the batch, the shard, the number of threads or the linear algebra library, so equal vectors tie
exactly and two calls agree to the bit. The score of a document is that of its best passage. Candidates of a float32
matrix product are taken with a margin and extended until no passage outside of them can reach the cut, by the rounding
bound |error| <= n u / (1 - n u) * |q| |d| (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section
3.1), which holds for every order of summation. Vectors are gone through part by part, so memory is bounded by a part.

Shapes: D documents, P passages, Q queries, H dimensions, K candidates.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from ablate.recipe.schema import ExactIndex
from ablate.records import UserError
from ablate.retrieval.rankings import DocumentOrder, FloatArray, IntArray, Ranking, TieOrder
from ablate.retrieval.vectors import DocumentVectors
from ablate.timing import timed

AnyFloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]

_EXHAUSTIVE_BELOW = 4096
"""Corpora up to this size are scored entirely: as fast as anything else, and nothing to extend."""
_QUERIES_AT_ONCE = 64
"""Queries whose scores with all passages lie in memory together."""
_QUERIES_PER_PRODUCT, _PASSAGES_AT_ONCE = 256, 8_192
"""Size of one matrix product: its result fits into the processor's cache."""
_QUERIES_PER_PASS = 4_096
"""Queries whose candidates are gathered in one pass over all parts."""


def search(
    document_vectors: FloatArray | DocumentVectors,
    query_vectors: FloatArray,
    doc_ids: Sequence[str],
    query_ids: Sequence[str],
    depth: int,
) -> list[Ranking]:
    """Return the `depth` best documents of every query, in the order of the queries.

    `document_vectors` (D, H), or passages in parts, and `query_vectors` (Q, H) are float32. The result equals that of
    ranking all documents. Raises UserError naming the document or query whose vector is not finite, on shapes that do
    not fit, and on duplicate documents.
    """
    corpus = Corpus(document_vectors, doc_ids)
    return search_corpus(corpus, check_queries(corpus, query_vectors, query_ids, depth), query_ids, depth)


@timed("search")
def rerank(
    document_vectors: FloatArray | DocumentVectors,
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
    corpus = Corpus(document_vectors, doc_ids)
    queries = check_queries(corpus, query_vectors, query_ids, depth)
    row_of = {doc_id: row for row, doc_id in enumerate(doc_ids)}
    passages: list[IntArray] = []
    for query_id in query_ids:
        own = candidates.get(query_id, ())
        if not own:
            raise UserError(f"query {query_id!r} has no candidates to rank; give it a list, or leave the query out")
        for doc_id in own:
            if doc_id not in row_of:
                raise UserError(f"query {query_id!r}: candidate {doc_id!r} is not among the documents; add it to them")
        passages.append(corpus.passages_of(np.array(sorted({row_of[doc_id] for doc_id in own}), dtype=np.int64)))
    scored = scores_of(corpus, queries, passages)
    return [corpus.rank(*row) for row in zip(query_ids, scored, [depth] * len(scored), passages, strict=True)]


def search_corpus(corpus: Corpus, queries: FloatArray, query_ids: Sequence[str], depth: int) -> list[Ranking]:
    """Return what `search` does, for a corpus and queries that are checked."""
    num_passages = corpus.num_passages
    fetch = first_fetch(corpus, depth)
    rankings: list[Ranking | None] = [None] * len(queries)
    while True:
        open_rows = [row for row, ranking in enumerate(rankings) if ranking is None]
        if not open_rows:
            return [ranking for ranking in rankings if ranking is not None]
        if num_passages <= max(_EXHAUSTIVE_BELOW, 2 * fetch):
            for start in range(0, len(open_rows), _QUERIES_AT_ONCE):
                rows = open_rows[start : start + _QUERIES_AT_ONCE]
                for row, scores in zip(rows, _all_scores(corpus, queries[rows]), strict=True):
                    rankings[row] = corpus.rank(query_ids[row], scores, depth)
            continue
        for start in range(0, len(open_rows), _QUERIES_PER_PASS):
            rows = open_rows[start : start + _QUERIES_PER_PASS]
            candidates, lowest = _candidates(corpus, queries[rows], fetch)
            scored = scores_of(corpus, queries[rows], candidates)
            for row, passages, scores, limit in zip(rows, candidates, scored, lowest, strict=True):
                if is_settled(corpus, queries[row], passages, scores, limit, depth):
                    rankings[row] = corpus.rank(query_ids[row], scores, depth, passages)
        fetch *= 2


class ExactSearch:
    """Every passage of a corpus is scored, or known to be below the cut."""

    def __init__(self, corpus: Corpus, config: ExactIndex) -> None:
        self._corpus = corpus

    def search(self, queries: FloatArray, query_ids: Sequence[str], depth: int) -> list[Ranking]:
        """Return the rankings of checked queries (Q, H)."""
        return search_corpus(self._corpus, queries, query_ids, depth)

    def check(
        self, rankings: Sequence[Ranking], queries: FloatArray, query_ids: Sequence[str], depth: int
    ) -> tuple[dict[str, float], list[str]]:
        """Return nothing: there is nothing that could have been missed."""
        return {}, []


def first_fetch(corpus: Corpus, depth: int) -> int:
    """Return how many passages to begin with so that the best `depth` documents are likely among them."""
    per_document = -(-corpus.num_passages // max(1, len(corpus.order.doc_ids)))
    return (depth + max(64, depth // 8)) * per_document


class Corpus:
    """The vectors of all passages, whose documents they are, the order of document ids, and the longest vector."""

    def __init__(
        self,
        vectors: FloatArray | DocumentVectors,
        doc_ids: Sequence[str],
        *,
        ties: TieOrder = "descending",
    ) -> None:
        """Check every part; equal scores are ranked in the order `ties` of ids. Raises UserError as `search` does."""
        if not isinstance(vectors, DocumentVectors):
            vectors = DocumentVectors((vectors,), (len(vectors),))
        expected = len(doc_ids) if vectors.passages is None else int(vectors.passages.sum())
        self.owner = None if vectors.passages is None else np.repeat(np.arange(len(doc_ids)), vectors.passages)
        """(P,) document of each passage, ascending; None: the passages are the documents."""
        self._vectors = vectors
        self.num_passages, self.dimensions, longest = 0, 0, 0.0
        for first, given in vectors:
            part = np.ascontiguousarray(given)
            if part.ndim != 2 or part.dtype != np.float32 or len(vectors) != expected:
                raise UserError(
                    f"document vectors have shape {part.shape} and type {part.dtype}, expected ({expected}, H) "
                    "float32: one row per document id, or per passage of one"
                )
            for start, block in _blocks(part):
                squares = np.einsum("ph,ph->p", block, block, dtype=np.float64)
                bad = ~np.isfinite(squares)
                if bad.any():
                    row = first + start + int(np.argmax(bad))
                    _refuse("document", doc_ids[row if self.owner is None else int(self.owner[row])])
                longest = max(longest, float(squares.max(initial=0.0)))
            self.num_passages, self.dimensions = self.num_passages + len(part), part.shape[1]
        self.longest = float(np.sqrt(longest))
        self.order = DocumentOrder(doc_ids, ties=ties)

    def __iter__(self) -> Iterator[tuple[int, FloatArray]]:
        for first, part in self._vectors:
            yield first, np.ascontiguousarray(part)

    def fits(self, query: FloatArray) -> bool:
        """Return whether no float32 sum of products with this query can overflow (Cauchy-Schwarz)."""
        return self.longest * float(np.linalg.norm(query.astype(np.float64))) < 1e38

    def margin(self, query: FloatArray) -> float:
        """Return how far a float32 inner product of this query may be from the score."""
        rounding = self.dimensions * 2.0**-24
        relative = (rounding / (1 - rounding) + 2.0**-23) * self.longest  # sums in float32; ours rounds once
        underflow = self.dimensions * 1e-44  # products below the smallest float32 vanish
        return relative * float(np.linalg.norm(query.astype(np.float64))) + underflow

    def best(self, scores: FloatArray, passages: IntArray | None = None) -> tuple[FloatArray, IntArray | None]:
        """Return the score of each document that has a passage here, its best one's, and which documents (None: all).

        `scores` (K,) belong to `passages` (K,), ascending, or to all passages.
        """
        if self.owner is None:
            return scores, passages
        owners = self.owner if passages is None else self.owner[passages]
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        return np.maximum.reduceat(scores, starts) if len(starts) else scores, owners[starts]

    def passages_of(self, documents: IntArray) -> IntArray:
        """Return the passages, ascending, of some documents (K,), ascending."""
        if self.owner is None:
            return documents
        return np.flatnonzero(np.isin(self.owner, documents))

    def rank(self, query_id: str, scores: FloatArray, depth: int, passages: IntArray | None = None) -> Ranking:
        """Return the ranking of documents by the scores of all passages, or of some."""
        best, documents = self.best(scores, passages)
        return self.order.rank(query_id, best, depth=depth, rows=documents)


def check_queries(corpus: Corpus, query_vectors: FloatArray, query_ids: Sequence[str], depth: int) -> FloatArray:
    """Return the query vectors (Q, H), contiguous; raises UserError as `search` does."""
    queries = np.ascontiguousarray(query_vectors)
    if queries.ndim != 2 or queries.dtype != np.float32 or len(queries) != len(query_ids):
        raise UserError(
            f"query vectors have shape {queries.shape} and type {queries.dtype}, expected ({len(query_ids)}, H) "
            "float32: one row per query id"
        )
    finite = np.isfinite(queries).all(axis=1)
    if not finite.all():
        _refuse("query", query_ids[int(np.argmin(finite))])
    if corpus.dimensions != queries.shape[1]:
        raise UserError(
            f"document vectors have {corpus.dimensions} dimensions, query vectors {queries.shape[1]}; encode both "
            "with one model"
        )
    if depth < 1:
        raise UserError(f"depth is {depth}, allowed is 1 or more")
    return queries


def _refuse(kind: str, name: str) -> NoReturn:
    raise UserError(
        f"{kind} {name!r}: its vector has a NaN or an infinity; look for empty text or an overflow in the encoder"
    )


@contextmanager
def passages_bar(name: str, total: int) -> Iterator[Callable[[float], object]]:
    """Show how many passages are done, on a terminal only and once it takes more than two seconds."""
    from tqdm import tqdm

    hidden = not sys.stderr.isatty()
    with tqdm(total=total, desc=name, unit=" passages", delay=2, leave=False, disable=hidden, file=sys.stderr) as bar:
        yield bar.update


def _blocks(part: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    for start in range(0, len(part), _PASSAGES_AT_ONCE):
        yield start, part[start : start + _PASSAGES_AT_ONCE]


def _scores(passages: AnyFloatArray, query: AnyFloatArray) -> FloatArray:
    """Return the scores (K,) of K passages (K, H) for one query (H,): the only place where scores are made."""
    exact: npt.NDArray[np.float64] = np.einsum(
        "kh,h->k", passages.astype(np.float64, copy=False), query.astype(np.float64, copy=False)
    )
    with np.errstate(over="ignore"):
        return exact.astype(np.float32)


def _all_scores(corpus: Corpus, queries: FloatArray) -> FloatArray:
    """Return the scores (Q, P) of all passages for some queries."""
    wide = queries.astype(np.float64)
    scores_qp = np.empty((len(queries), corpus.num_passages), dtype=np.float32)
    for first, part in corpus:
        for start, block in _blocks(part):
            passages = block.astype(np.float64)
            for row, query in enumerate(wide):
                scores_qp[row, first + start : first + start + len(block)] = _scores(passages, query)
    return scores_qp


def scores_of(corpus: Corpus, queries: FloatArray, candidates: Sequence[IntArray]) -> list[FloatArray]:
    """Return the scores (K,) of each query's own candidates, ascending rows of passages; one pass over all parts."""
    all_scores = [np.empty(len(rows), dtype=np.float32) for rows in candidates]
    for first, part in corpus:
        for query, rows, scores in zip(queries, candidates, all_scores, strict=True):
            low, high = np.searchsorted(rows, (first, first + len(part)))
            if low < high:
                scores[low:high] = _scores(part[rows[low:high] - first], query)
    return all_scores


def is_settled(
    corpus: Corpus, query: FloatArray, passages: IntArray, scores: FloatArray, lowest: float, depth: int
) -> bool:
    """Return whether no passage outside of the candidates can reach the cut.

    A passage that was left out has a float32 product of at most `lowest`, hence a score of at most lowest + margin.
    """
    best, _ = corpus.best(scores, passages)
    if len(best) < depth or not np.isfinite(lowest) or not corpus.fits(query):
        return False
    cut = float(np.partition(best, len(best) - depth)[len(best) - depth])
    return cut > lowest + corpus.margin(query)


@dataclass(slots=True)
class _Pool:
    """The best passages of one query so far: what is below the `size`-th of them is let go from time to time."""

    size: int
    rows: list[IntArray]
    products: list[FloatArray]
    num_rows: int = 0

    def add(self, rows: IntArray, products: FloatArray) -> None:
        self.rows.append(rows)
        self.products.append(products)
        self.num_rows += len(rows)

    def shrink(self) -> float:
        """Keep the best `size` and return the lowest of them, minus infinity as long as there are fewer."""
        if self.num_rows < self.size:
            return -np.inf
        rows, products = np.concatenate(self.rows), np.concatenate(self.products)
        best = np.argpartition(products, len(products) - self.size)[len(products) - self.size :]
        self.rows, self.products, self.num_rows = [rows[best]], [products[best]], self.size
        return float(products[best[0]])


def _candidates(corpus: Corpus, queries: FloatArray, fetch: int) -> tuple[list[IntArray], list[float]]:
    """Return for each query the `fetch` passages of the highest float32 products, ascending, and the lowest of them."""
    pools = [_Pool(fetch, [], []) for _ in queries]
    bars = np.full(len(queries), -np.inf, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"), passages_bar("search", corpus.num_passages) as advance:
        for first, part in corpus:
            for start, block in _blocks(part):
                for low in range(0, len(queries), _QUERIES_PER_PRODUCT):
                    products_qp = queries[low : low + _QUERIES_PER_PRODUCT] @ block.T
                    above_qp = products_qp >= bars[low : low + _QUERIES_PER_PRODUCT, None]
                    for row, (products, above) in enumerate(zip(products_qp, above_qp, strict=True), start=low):
                        places = np.flatnonzero(above)
                        if len(places):
                            pools[row].add(places + (first + start), products[places])
                            if pools[row].num_rows > 4 * fetch:
                                bars[row] = pools[row].shrink()
                advance(len(block))
    lowest = [pool.shrink() for pool in pools]
    return [np.sort(np.concatenate(pool.rows)) for pool in pools], lowest
