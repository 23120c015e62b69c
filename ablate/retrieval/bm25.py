"""BM25 over a corpus, by bm25s (https://github.com/xhluca/bm25s), for mining and as a ranker.

Method `lucene`: lower case, words of two characters or more, Lucene's 33 English stop words left out, and no stemming
unless a Snowball stemmer is asked for (https://snowballstem.org, by PyStemmer).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from ablate.records import Passage, UserError
from ablate.timing import timed

K1, B = 0.9, 0.4
"""As in Anserini (https://github.com/castorini/anserini)."""
METHOD, STOP_WORDS = "lucene", "en"


class Bm25:
    """Index of a corpus; memory: its postings, 8 bytes per distinct word of each document."""

    @timed("index")
    def __init__(self, documents: Iterable[Passage], stemmer: str | None = None) -> None:
        """Index title and text of every document by their words, or by the stems that a Snowball stemmer gives.

        Raises UserError when bm25s, or PyStemmer for a stemmer, is not installed.
        """
        bm25_version()
        self._stemmer = None if stemmer is None else open_stemmer(stemmer)
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG
        self._tokenize: Callable[..., Any] = bm25s.tokenize
        doc_ids: list[str] = []

        def texts() -> Iterator[str]:
            for passage in documents:
                doc_ids.append(passage.doc_id)
                yield f"{passage.title} {passage.text}"

        tokens = bm25s.tokenize(texts(), stopwords=STOP_WORDS, stemmer=self._stemmer, show_progress=False)
        self.doc_ids = doc_ids
        self._index: Any = None
        if tokens.vocab:
            self._index = bm25s.BM25(k1=K1, b=B, method=METHOD, backend="numpy", csc_backend="numpy")
            self._index.index((tokens.ids, tokens.vocab), create_empty_token=False, show_progress=False)

    def scores(self, query: str) -> npt.NDArray[np.float32]:
        """Return the scores (D,) of all documents; 0 for one that shares no word with the query."""
        (words,) = self._tokenize(
            [query], stopwords=STOP_WORDS, stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        known = self._index.get_tokens_ids(words) if self._index else []
        if not known:
            return np.zeros(len(self.doc_ids), dtype=np.float32)
        scores: npt.NDArray[np.float32] = self._index.get_scores_from_ids(known)
        return scores


def parameters(stemmer: str | None) -> dict[str, Any]:
    """Return all that decides a score, for ids; of a stemmer its name and the version of what stems."""
    named = None if stemmer is None else f"{stemmer} {stemmer_version(stemmer)}"
    return {"k1": K1, "b": B, "method": METHOD, "stop_words": STOP_WORDS, "stemmer": named, "text": "title text"}


def open_stemmer(language: str) -> Any:
    """Return the Snowball stemmer of a language; raises UserError when PyStemmer is not installed."""
    stemmer_version(language)
    import Stemmer

    return Stemmer.Stemmer(language)


def stemmer_version(language: str) -> str:
    """Return the version of PyStemmer; raises UserError when it is not installed."""
    try:
        return metadata.version("PyStemmer")
    except metadata.PackageNotFoundError:
        raise UserError(
            f"BM25 with stemmer={language} needs the package PyStemmer; run `pip install PyStemmer`, or set it to null"
        ) from None


def bm25_version() -> str:
    """Return the version of bm25s; raises UserError when it is not installed."""
    try:
        return metadata.version("bm25s")
    except metadata.PackageNotFoundError:
        raise UserError("BM25 needs the package bm25s; run `pip install bm25s`") from None
