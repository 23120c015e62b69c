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
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from tqdm import tqdm

from ablate.data.sources import RowSource
from ablate.records import EvaluationSet, Passage, SourceRow, UserError
from ablate.retrieval.bm25 import K1, B, bm25_version, stemmer_version
from ablate.retrieval.mining import Bm25Ranker, CorpusRanker, DenseRanker, NearDuplicates, words_of

if TYPE_CHECKING:
    from ablate.retrieval.vectors import Encoder

_VERSION = 1
"""Raised whenever the code below would choose other negatives."""
QUIET_S = 2.0
"""Seconds before a bar shows."""


class Mined:
    """A source whose rows have hard negatives: its own where it has some, mined ones elsewhere.

    `count` negatives per row are the first ones among ranks `skip + 1` to `depth` that are no known answer of the
    query and no near-duplicate of one: not the same words, and a Jaccard similarity of the sets of five-word shingles
    of at most `near_duplicate`. Rankings are made by `bm25`, or `dense` by the inner products of `encoder()`, whose
    weights `encoder_revision` names. Memory: the index of the corpus while mining, then `count` ids per query text.
    """

    def __init__(
        self,
        source: RowSource,
        *,
        kind: Literal["bm25", "dense"],
        count: int,
        depth: int,
        skip: int,
        near_duplicate: float,
        stemmer: str | None = None,
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
        if kind == "dense" and stemmer is not None:
            raise UserError(
                f"miner.stemmer={stemmer} stems words of BM25, and miner.kind=dense has none; set it to null"
            )
        if kind == "dense" and (encoder is None or not encoder_revision):
            raise UserError("mining kind='dense' needs an encoder and its revision; give both, or use kind='bm25'")
        self._source, self._kind, self._encoder, self._encoder_revision = source, kind, encoder, encoder_revision
        self._stemmer = stemmer
        self._count, self._depth, self._skip, self._near_duplicate = count, depth, skip, near_duplicate

    @cached_property
    def revision(self) -> str:
        """SHA-256 over the revision of the inner source, every value that decides a negative, and the ranker's."""
        ranker: object = self._encoder_revision
        if self._kind == "bm25":
            stemmed = {} if self._stemmer is None else {"stemmer": [self._stemmer, stemmer_version(self._stemmer)]}
            ranker = {"version": bm25_version(), "k1": K1, "b": B, **stemmed}
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

    def style_of(self, doc_id: str) -> str | None:
        """Return what the inner source says."""
        return self._source.style_of(doc_id)

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
            known = answers.setdefault(words_of(row.query), set())
            known.update(row.positives, row.answers, row.instruction_negatives)
        if not asked:
            return {}
        self._add_judged(answers)
        texts = list(asked)
        mined: dict[str, tuple[str, ...]] = {}
        label = f"mining hard negatives ({self._kind})"
        with tqdm(total=len(texts), desc=label, unit=" queries", delay=QUIET_S, disable=None, leave=False) as bar:
            for text, ranking in zip(texts, self._ranker()(texts), strict=True):
                mined[text] = self._choose(ranking[self._skip :], answers[words_of(text)])
                bar.update()
        return mined

    def _add_judged(self, answers: dict[str, set[str]]) -> None:
        for name in self._source.evaluation_names:
            judged = self._source.evaluation_set(name)
            for query in judged.queries:
                known = answers.get(words_of(query.query))
                if known is not None:
                    known.update(doc_id for doc_id, grade in judged.qrels.get(query.query_id, {}).items() if grade > 0)

    def _ranker(self) -> CorpusRanker:
        if self._kind == "bm25":
            return Bm25Ranker(self._source.documents(), self._depth, self._stemmer)
        assert self._encoder is not None
        return DenseRanker(self._source.documents, self._encoder(), self._depth)

    def _choose(self, ranking: Sequence[str], known: set[str]) -> tuple[str, ...]:
        """Return the first `count` documents of a ranking that are neither known answers nor near-duplicates."""
        duplicates = NearDuplicates(
            (_body(passage) for passage in self._source.passages(sorted(known))), self._near_duplicate
        )
        candidates = self._source.passages(doc_id for doc_id in ranking if doc_id not in known)
        chosen: list[str] = []
        for passage in candidates:
            if not duplicates.has(_body(passage)):
                chosen.append(passage.doc_id)
                if len(chosen) == self._count:
                    break
        return tuple(chosen)


def _body(passage: Passage) -> str:
    return passage.text or passage.title
