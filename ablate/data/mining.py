"""Hard negatives for sources that have none: the best-ranked documents for the bare query that do not answer it.

    rows without hard negatives -> their query texts -> ranking of the whole corpus (BM25, or dense vectors)
        -> minus known answers -> minus near-duplicates of them -> the first `count`

A document is a known answer of a query when a row or an evaluation set of the source names it as positive, answer or
instruction negative, or as relevant, for the same query text. Mining happens once per distinct query text, at the
first call of `rows`; all rows of a text get the same negatives.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ablate.data.sources import RowSource
from ablate.records import EvaluationSet, Passage, SourceRow, UserError
from ablate.retrieval.bm25 import K1, B, Bm25, bm25_version
from ablate.retrieval.rankings import DocumentOrder, FloatArray
from ablate.retrieval.search import Corpus, search_corpus

if TYPE_CHECKING:
    from ablate.retrieval.vectors import Encoder

SHINGLE_WORDS = 5

_VERSION = 1
"""Raised whenever the code below would choose other negatives."""
_DOCUMENTS_AT_ONCE = 4096
_QUERIES_AT_ONCE = 64
"""Queries that are encoded together: what is padded together is part of a vector's last bits."""
_QUERIES_PER_PASS = 64 * 16
"""Queries that are searched together, in one pass over the corpus."""
_QUIET_SECONDS = 2.0


class CorpusSource(RowSource, Protocol):
    """A source that can list its whole corpus, and whose `passages` knows every document of it."""

    def documents(self) -> Iterator[Passage]:
        """Yield every document, in a fixed order."""
        ...


class Ranker(Protocol):
    """A ranking of the whole corpus for each of several queries."""

    def __call__(self, queries: Sequence[str]) -> Iterator[Sequence[str]]:
        """Yield the ids of the best documents of every query, best first, equal scores in the order of ids."""
        ...


class Mined:
    """A source whose rows have hard negatives: its own where it has some, mined ones elsewhere.

    `count` negatives per row are the first ones among ranks `skip + 1` to `depth` that are no known answer of the
    query and no near-duplicate of one: not the same words, and a Jaccard similarity of the sets of five-word shingles
    of at most `near_duplicate`. Rankings are made by `bm25`, or `dense` by the inner products of `encoder()`, whose
    weights `encoder_revision` names. Memory: the index of the corpus while mining, then `count` ids per query text.
    """

    def __init__(
        self,
        source: CorpusSource,
        *,
        kind: Literal["bm25", "dense"],
        count: int,
        depth: int,
        skip: int,
        near_duplicate: float,
        encoder: Callable[[], Encoder] | None = None,
        encoder_revision: str | None = None,
    ) -> None:
        """Fix what is mined; raises UserError for values that cannot be met."""
        if kind not in ("bm25", "dense"):
            raise UserError(f"mining kind={kind!r} is not known; allowed: bm25, dense")
        if count < 1 or skip < 0 or depth < skip + count:
            raise UserError(
                f"mining depth={depth} cannot give count={count} after skip={skip} ranks; count must be at least 1, "
                f"skip at least 0, depth at least {max(skip, 0) + max(count, 1)}"
            )
        if not 0.0 <= near_duplicate <= 1.0:
            raise UserError(f"mining near_duplicate={near_duplicate} is out of range; allowed: 0 to 1 (1: equal words)")
        if kind == "dense" and (encoder is None or not encoder_revision):
            raise UserError("mining kind='dense' needs an encoder and its revision; give both, or use kind='bm25'")
        self._source, self._kind, self._encoder, self._encoder_revision = source, kind, encoder, encoder_revision
        self._count, self._depth, self._skip, self._near_duplicate = count, depth, skip, near_duplicate

    @cached_property
    def revision(self) -> str:
        """SHA-256 over the revision of the inner source, every value that decides a negative, and the ranker's."""
        ranker = {"version": bm25_version(), "k1": K1, "b": B} if self._kind == "bm25" else self._encoder_revision
        values = {
            "source": self._source.revision,
            "version": _VERSION,
            "kind": self._kind,
            "count": self._count,
            "depth": self._depth,
            "skip": self._skip,
            "near_duplicate": float(self._near_duplicate),
            "ranker": ranker,
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Names that `evaluation_set` takes: those of the inner source."""
        return self._source.evaluation_names

    def rows(self) -> Iterator[SourceRow]:
        """Yield the rows of the inner source, each with hard negatives; the first call mines.

        Where fewer than `count` are left within the depth, a row has fewer: the mix refuses it if it needs more.
        """
        mined = self._mined
        for row in self._source.rows():
            yield row if row.hard_negatives else dataclasses.replace(row, hard_negatives=mined[row.query])

    def generated(self, doc_id: str) -> bool | None:
        """Return what the inner source says."""
        return self._source.generated(doc_id)

    def documents(self) -> Iterator[Passage]:
        """Yield the whole corpus of the inner source."""
        return self._source.documents()

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        """Yield the passages of these ids, in the order asked; raises UserError for an unknown id."""
        return self._source.passages(doc_ids)

    def evaluation_set(self, name: str) -> EvaluationSet:
        """Return an evaluation set of the inner source; raises UserError for an unknown one."""
        return self._source.evaluation_set(name)

    @cached_property
    def _mined(self) -> dict[str, tuple[str, ...]]:
        asked: dict[str, None] = {}
        answers: dict[str, set[str]] = {}
        for row in self._source.rows():
            if not row.hard_negatives:
                asked[row.query] = None
            known = answers.setdefault(_words(row.query), set())
            known.update(row.positives, row.answers, row.instruction_negatives)
        if not asked:
            return {}
        self._add_judged(answers)
        texts = list(asked)
        progress = _Progress("mining hard negatives")
        progress.show(f"ranking the corpus with {self._kind}")
        mined: dict[str, tuple[str, ...]] = {}
        for number, (text, ranking) in enumerate(zip(texts, self._ranker()(texts), strict=True), 1):
            mined[text] = self._choose(ranking[self._skip :], answers[_words(text)])
            progress.show(f"{number:,} of {len(texts):,} queries")
        progress.end()
        return mined

    def _add_judged(self, answers: dict[str, set[str]]) -> None:
        for name in self._source.evaluation_names:
            judged = self._source.evaluation_set(name)
            for query in judged.queries:
                known = answers.get(_words(query.query))
                if known is not None:
                    known.update(doc_id for doc_id, grade in judged.qrels.get(query.query_id, {}).items() if grade > 0)

    def _ranker(self) -> Ranker:
        if self._kind == "bm25":
            return _Bm25Ranker(self._source.documents(), self._depth)
        assert self._encoder is not None
        return _DenseRanker(self._source.documents, self._encoder(), self._depth)

    def _choose(self, ranking: Sequence[str], known: set[str]) -> tuple[str, ...]:
        """Return the first `count` documents of a ranking that are neither known answers nor near-duplicates."""
        duplicates = NearDuplicates((_body(one) for one in self._source.passages(sorted(known))), self._near_duplicate)
        candidates = self._source.passages(doc_id for doc_id in ranking if doc_id not in known)
        chosen: list[str] = []
        for passage in candidates:
            if not duplicates.has(_body(passage)):
                chosen.append(passage.doc_id)
                if len(chosen) == self._count:
                    break
        return tuple(chosen)


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
            self._equal.add(_words(text))
            shingles = _shingles(text)
            self._sizes.append(len(shingles))
            for shingle in shingles:
                self._holders.setdefault(shingle, []).append(number)

    def has(self, text: str) -> bool:
        """Return whether a text is a near-duplicate of one of them."""
        if _words(text) in self._equal:
            return True
        shingles = _shingles(text)
        shared = Counter(number for shingle in shingles for number in self._holders.get(shingle, ()))
        return any(
            common > self._threshold * (len(shingles) + self._sizes[number] - common)
            for number, common in shared.items()
        )


def _body(passage: Passage) -> str:
    return passage.text or passage.title


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _shingles(text: str) -> set[str]:
    words = _words(text).split()
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    return {" ".join(words[start : start + SHINGLE_WORDS]) for start in range(last)} if words else set()


class _Bm25Ranker:
    """BM25; documents without a query word are left out."""

    def __init__(self, documents: Iterable[Passage], depth: int) -> None:
        self._index, self._depth = Bm25(documents), depth
        self._order = DocumentOrder(self._index.doc_ids, ties="ascending")

    def __call__(self, queries: Sequence[str]) -> Iterator[Sequence[str]]:
        for query in queries:
            scores = self._index.scores(query)
            rows = np.flatnonzero(scores > 0)
            yield self._order.rank(query, scores[rows], depth=self._depth, rows=rows).doc_ids


class _DenseRanker:
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
    found = np.ascontiguousarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(bad):
        raise UserError(
            f"mining kind='dense': the vector of {names[bad[0]]!r} has a NaN or an infinity; mine with another encoder"
        )
    return found


def _blocks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    block: list[Any] = []
    for item in items:
        block.append(item)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


class _Progress:
    """One line on a terminal's standard error, from the second second on; nothing elsewhere."""

    def __init__(self, what: str) -> None:
        self._what, self._started, self._shown, self._width = what, time.monotonic(), 0.0, 0

    def show(self, state: str) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._started > _QUIET_SECONDS and now - self._shown > 0.5:
            line = f"{self._what}: {state}, {now - self._started:.0f} s"
            print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._shown, self._width = now, len(line)

    def end(self) -> None:
        if self._width:
            print(file=sys.stderr)
