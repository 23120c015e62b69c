"""Approximate search: faiss finds candidates by inverted lists, a graph or codes; scores and ties are as in `search`.

An index may miss documents, so some queries are searched exactly too and the share of their documents that the index
found is part of the result. Building is deterministic: k-means has a seed, trains on evenly spaced passages and, like
the linking of the graph, runs on one thread, because the result would otherwise depend on how threads take turns.

Shapes: P passages, Q queries, H dimensions, K candidates.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ablate.recipe.schema import HnswIndex, IvfIndex, PqIndex
from ablate.records import UserError
from ablate.retrieval.exact import Corpus, first_fetch, is_settled, passages_bar, scores_of, search_corpus
from ablate.retrieval.rankings import FloatArray, IntArray, Ranking

_POINTS_PER_CENTRE = 64
"""Passages per centre that k-means looks at; faiss asks for at least 39."""
_CODE_BITS = 8
_ADDED_AT_ONCE = 65_536
_QUERIES_PER_PASS = 1_024


class _FaissSearch(ABC):
    """A corpus behind an index of faiss; by default one whose products are exact."""

    def __init__(self, corpus: Corpus, config: IvfIndex | HnswIndex | PqIndex) -> None:
        """Build and fill the index; raises UserError for one that cannot be built of these vectors."""
        self._corpus, self._kind, self._checked_queries = corpus, config.kind, config.checked_queries
        with _one_thread():
            self._built = self._trained()
            with passages_bar(f"index {config.kind}", corpus.num_passages) as advance:
                for block in _even_blocks(corpus, _ADDED_AT_ONCE):
                    self._built.add(block)
                    advance(len(block))

    @abstractmethod
    def _trained(self) -> Any:
        """Return the faiss index, ready to be filled; raises UserError for one that cannot be built."""

    def _first_fetch(self, depth: int) -> int:
        """Return how many candidates the index is asked for first."""
        return first_fetch(self._corpus, depth)

    @abstractmethod
    def _look_for(self, fetch: int) -> None:
        """Let the index look far enough for so many candidates."""

    def _is_enough(self, query: FloatArray, passages: IntArray, scores: FloatArray, lowest: float, depth: int) -> bool:
        """Return whether candidates (K,) settle a ranking: what was left out has a product of at most `lowest`."""
        return is_settled(self._corpus, query, passages, scores, lowest, depth)

    def search(self, queries: FloatArray, query_ids: Sequence[str], depth: int) -> list[Ranking]:
        """Return the rankings of checked queries (Q, H): of more and more candidates until these are enough."""
        corpus = self._corpus
        rankings: list[Ranking | None] = [None] * len(queries)
        fetch = self._first_fetch(depth)
        while True:
            fetch = min(fetch, corpus.num_passages)
            open_rows = [row for row, ranking in enumerate(rankings) if ranking is None]
            if not open_rows:
                return [ranking for ranking in rankings if ranking is not None]
            self._look_for(fetch)
            for start in range(0, len(open_rows), _QUERIES_PER_PASS):
                rows = open_rows[start : start + _QUERIES_PER_PASS]
                products_qk, passages_qk = self._built.search(queries[rows], fetch)
                candidates: list[IntArray] = [np.sort(passages[passages >= 0]) for passages in passages_qk]
                scored = scores_of(corpus, queries[rows], candidates)
                lowest = products_qk[:, -1].tolist()
                for row, passages, scores, limit in zip(rows, candidates, scored, lowest, strict=True):
                    complete = len(passages) < fetch or fetch == corpus.num_passages  # the index has no more to give
                    if complete or self._is_enough(queries[row], passages, scores, limit, depth):
                        rankings[row] = corpus.rank(query_ids[row], scores, depth, passages)
            fetch *= 2

    def check(
        self, rankings: Sequence[Ranking], queries: FloatArray, query_ids: Sequence[str], depth: int
    ) -> tuple[dict[str, float], list[str]]:
        """Return the recall of its rankings against exact search on evenly spaced queries, and a warning below 1."""
        corpus = self._corpus
        number = min(self._checked_queries, len(queries))
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
        line = f"index {self._kind}: recall@{depth} against exact search is {recall:.4f} on {len(rows)} of "
        line += f"{len(queries)} queries, {short} rankings are short; documents that are missed count as not retrieved"
        return counts, [line + ": search broader or set evaluation.index.kind=exact"]


class IvfSearch(_FaissSearch):
    """Inverted lists around the centres of k-means."""

    def __init__(self, corpus: Corpus, config: IvfIndex) -> None:
        self._config = config
        super().__init__(corpus, config)

    def _trained(self) -> Any:
        import faiss

        size, lists, num_passages = self._corpus.dimensions, self._config.lists, self._corpus.num_passages
        if lists > num_passages:
            raise UserError(
                f"evaluation.index.lists={lists} is more than the {num_passages} passages of the set; "
                f"lower it or set evaluation.index.kind=exact"
            )
        built = faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, lists, faiss.METRIC_INNER_PRODUCT)
        _train(built, built.cp, self._corpus, lists, self._config.seed)
        return built

    def _look_for(self, fetch: int) -> None:
        self._built.nprobe = self._config.probes


class HnswSearch(_FaissSearch):
    """A graph of near neighbours."""

    def __init__(self, corpus: Corpus, config: HnswIndex) -> None:
        self._config = config
        super().__init__(corpus, config)

    def _trained(self) -> Any:
        import faiss

        built = faiss.IndexHNSWFlat(self._corpus.dimensions, self._config.links, faiss.METRIC_INNER_PRODUCT)
        built.hnsw.efConstruction = self._config.build_breadth
        return built

    def _look_for(self, fetch: int) -> None:
        self._built.hnsw.efSearch = max(self._config.search_breadth, fetch)


class PqSearch(_FaissSearch):
    """Codes, whose products are rough: more candidates are scored, and enough documents are enough."""

    def __init__(self, corpus: Corpus, config: PqIndex) -> None:
        self._config = config
        super().__init__(corpus, config)

    def _trained(self) -> Any:
        import faiss

        size, code_bytes, num_passages = self._corpus.dimensions, self._config.code_bytes, self._corpus.num_passages
        if size % code_bytes:
            divisors = ", ".join(str(parts) for parts in range(1, size + 1) if size % parts == 0)
            raise UserError(
                f"evaluation.index.code_bytes={code_bytes} does not divide the {size} dimensions of the "
                f"vectors; allowed: {divisors}"
            )
        if num_passages < 2**_CODE_BITS:
            raise UserError(
                f"evaluation.index.kind=pq needs {2**_CODE_BITS} passages for its codes and the set has "
                f"{num_passages}; set evaluation.index.kind=exact"
            )
        built = faiss.IndexPQ(size, code_bytes, _CODE_BITS, faiss.METRIC_INNER_PRODUCT)
        _train(built, built.pq.cp, self._corpus, 2**_CODE_BITS, self._config.seed)
        return built

    def _first_fetch(self, depth: int) -> int:
        return int(super()._first_fetch(depth) * self._config.oversampling)

    def _look_for(self, fetch: int) -> None:
        """Every code is looked at."""

    def _is_enough(self, query: FloatArray, passages: IntArray, scores: FloatArray, lowest: float, depth: int) -> bool:
        enough = len(self._corpus.best(scores, passages)[0]) >= depth
        return enough or super()._is_enough(query, passages, scores, lowest, depth)


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
