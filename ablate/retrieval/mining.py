"""The ranking of a corpus that hard negatives are chosen from, and the copies of an answer that are none.

Shapes: D documents, H dimensions, N texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ablate.records import Passage, UserError
from ablate.retrieval.bm25 import Bm25
from ablate.retrieval.exact import Corpus, search_corpus
from ablate.retrieval.rankings import DocumentOrder, FloatArray

if TYPE_CHECKING:
    from ablate.retrieval.vectors import Encoder

SHINGLE_WORDS = 5

_DOCUMENTS_AT_ONCE = 4096
_QUERIES_AT_ONCE = 64
"""Queries that are encoded together: what is padded together is part of a vector's last bits."""
_QUERIES_PER_PASS = 64 * 16
"""Queries that are searched together, in one pass over the corpus."""


class CorpusRanker(Protocol):
    """A ranking of the whole corpus for each of several queries."""

    def __call__(self, queries: Sequence[str]) -> Iterator[Sequence[str]]:
        """Yield the ids of the best documents of every query, best first, equal scores in the order of ids."""
        ...


class Bm25Ranker:
    """BM25; documents without a query word are left out."""

    def __init__(self, documents: Iterable[Passage], depth: int, stemmer: str | None = None) -> None:
        self._index, self._depth = Bm25(documents, stemmer), depth
        self._order = DocumentOrder(self._index.doc_ids, ties="ascending")

    def __call__(self, queries: Sequence[str]) -> Iterator[Sequence[str]]:
        for query in queries:
            scores = self._index.scores(query)
            rows = np.flatnonzero(scores > 0)
            yield self._order.rank(query, scores[rows], depth=self._depth, rows=rows).doc_ids


class DenseRanker:
    """Exact search by inner product; memory: D x H float32, and the vectors of the queries of one pass."""

    def __init__(self, documents: Callable[[], Iterator[Passage]], encoder: Encoder, depth: int) -> None:
        self._encoder, self._depth = encoder, depth
        doc_ids = [passage.doc_id for passage in documents()]
        vectors: FloatArray = np.zeros((0, 0), dtype=np.float32)
        start = 0
        for block in _blocks(documents(), _DOCUMENTS_AT_ONCE):
            encoded = _finite(encoder.encode_passages(block), [passage.doc_id for passage in block])
            if start == 0:
                vectors = np.empty((len(doc_ids), encoded.shape[1]), dtype=np.float32)
            vectors[start : start + len(block)] = encoded
            start += len(block)
        self._corpus = Corpus(vectors, doc_ids, ties="ascending")

    def __call__(self, queries: Sequence[str]) -> Iterator[Sequence[str]]:
        for texts in _blocks(iter(queries), _QUERIES_PER_PASS):
            encoded = [
                _finite(self._encoder.encode_queries([(text, "") for text in block]), block)
                for block in _blocks(iter(texts), _QUERIES_AT_ONCE)
            ]
            for ranking in search_corpus(self._corpus, np.concatenate(encoded), texts, self._depth):
                yield ranking.doc_ids


def _finite(vectors: FloatArray, names: Sequence[str]) -> FloatArray:
    """Return vectors (N, H) as float32; raises UserError naming the first text whose vector is not finite."""
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise UserError(
            f"mining kind='dense': the vector of {names[bad[0]]!r} has a NaN or an infinity; mine with another encoder"
        )
    return matrix


def _blocks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    block: list[Any] = []
    for item in items:
        block.append(item)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


class NearDuplicates:
    """Texts against which others are compared: the same words, or a Jaccard similarity above a threshold.

    The similarity is that of the sets of five-word shingles (Broder, "On the resemblance and containment of
    documents", 1997); a shorter text is one shingle. Case, punctuation and spaces do not count.
    """

    def __init__(self, texts: Iterable[str], threshold: float) -> None:
        self._threshold = threshold
        self._sizes: list[int] = []
        self._equal: set[str] = set()
        self._holders: dict[str, list[int]] = {}
        for number, text in enumerate(texts):
            self._equal.add(words_of(text))
            shingles = _shingles(text)
            self._sizes.append(len(shingles))
            for shingle in shingles:
                self._holders.setdefault(shingle, []).append(number)

    def has(self, text: str) -> bool:
        """Return whether a text is a near-duplicate of one of them."""
        if words_of(text) in self._equal:
            return True
        shingles = _shingles(text)
        shared = Counter(number for shingle in shingles for number in self._holders.get(shingle, ()))
        return any(
            common > self._threshold * (len(shingles) + self._sizes[number] - common)
            for number, common in shared.items()
        )


def words_of(text: str) -> str:
    """Return the words of a text, apart by single blanks: case, punctuation and spaces do not count."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _shingles(text: str) -> set[str]:
    words = words_of(text).split()
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    return {" ".join(words[start : start + SHINGLE_WORDS]) for start in range(last)} if words else set()
