"""The one door to an index: what a recipe names is opened here, and nothing else asks which kind it is.

Shapes: Q queries, H dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ablate.recipe.schema import ExactIndex, HnswIndex, Index, IvfIndex, PqIndex
from ablate.retrieval.approximate import HnswSearch, IvfSearch, PqSearch
from ablate.retrieval.exact import Corpus, ExactSearch, check_queries
from ablate.retrieval.rankings import FloatArray, Ranking
from ablate.retrieval.vectors import DocumentVectors
from ablate.timing import timed


class OpenIndex(Protocol):
    """A corpus that can be searched."""

    def search(self, queries: FloatArray, query_ids: Sequence[str], depth: int) -> list[Ranking]:
        """Return the `depth` best documents of every query (Q, H) that it finds, in the order of the queries."""
        ...

    def check(
        self, rankings: Sequence[Ranking], queries: FloatArray, query_ids: Sequence[str], depth: int
    ) -> tuple[dict[str, float], list[str]]:
        """Return what is to be recorded of how much these rankings of its own miss, and warnings."""
        ...


SEARCHES: Mapping[type, Callable[[Corpus, Any], OpenIndex]] = {
    ExactIndex: ExactSearch,
    IvfIndex: IvfSearch,
    HnswIndex: HnswSearch,
    PqIndex: PqSearch,
}
"""Kind of index in a recipe -> what searches a corpus by it."""


@timed("index")
def open_index(corpus: Corpus, index: Index) -> OpenIndex:
    """Return a corpus behind an index, ready to be searched; raises UserError for one that cannot be built of it."""
    return SEARCHES[type(index)](corpus, index)


@timed("search")
def retrieve(
    document_vectors: FloatArray | DocumentVectors,
    query_vectors: FloatArray,
    doc_ids: Sequence[str],
    query_ids: Sequence[str],
    depth: int,
    index: Index,
) -> tuple[list[Ranking], dict[str, float], list[str]]:
    """Return the rankings by an index, what is to be recorded of it, and warnings.

    With `exact` nothing is recorded. Otherwise `recall@<depth>` is the mean share of the exact ranking's documents
    that the index found, over evenly spaced queries. Raises UserError as `search` of exact search does, and for an
    index that cannot be built of these vectors.
    """
    corpus = Corpus(document_vectors, doc_ids)
    queries = check_queries(corpus, query_vectors, query_ids, depth)
    opened = open_index(corpus, index)
    rankings = opened.search(queries, query_ids, depth)
    return rankings, *opened.check(rankings, queries, query_ids, depth)
