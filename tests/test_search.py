"""Exact search: equal to ranking everything, ties at the cut included, and the same to the bit in every call."""

from __future__ import annotations

import dataclasses
import math
import typing
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.recipe.schema import ExactIndex, HnswIndex, Index, IvfIndex, PqIndex
from ablate.records import UserError
from ablate.retrieval import approximate
from ablate.retrieval.exact import Corpus, search, search_corpus
from ablate.retrieval.index import SEARCHES, retrieve
from ablate.retrieval.rankings import rank
from ablate.retrieval.vectors import DocumentVectors


def normals(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((rows, columns)).astype(np.float32)


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def test_small_corpus_by_hand() -> None:
    documents = np.array([[1, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    queries = np.array([[2, 1], [0, -1]], dtype=np.float32)
    first, second = search(documents, queries, ["a", "b", "c", "d"], ["q1", "q2"], 3)
    assert (first.query_id, first.doc_ids, first.scores.tolist()) == ("q1", ("d", "c", "a"), [3.0, 2.0, 2.0])
    assert (second.query_id, second.doc_ids, second.scores.tolist()) == ("q2", ("c", "a", "d"), [0.0, 0.0, -1.0])
    assert len(search(documents, queries, ["a", "b", "c", "d"], ["q1", "q2"], 99)[0]) == 4


@pytest.mark.parametrize("num_documents", [500, 6000])  # all scored, and candidates of faiss
def test_equals_the_correctly_rounded_inner_product(num_documents: int) -> None:
    documents, queries = normals(num_documents, 8, 1), normals(3, 8, 2)
    documents[0] *= 3
    documents[100:200] = documents[0]  # with the query in its direction: a hundred best documents with one score
    documents[300:310] = documents[200:210]
    queries[0] = documents[0]
    doc_ids, query_ids = names("d", num_documents), names("q", 3)
    found = search(documents, queries, doc_ids, query_ids, 50)
    for query, query_id, ranking in zip(queries.tolist(), query_ids, found, strict=True):
        exact = [math.fsum(x * y for x, y in zip(query, row, strict=True)) for row in documents.tolist()]
        assert ranking == type(ranking)(query_id, *cut(rank(query_id, doc_ids, exact), 50))
    assert found[0].scores[0] == found[0].scores[49]  # the cut goes through the tie


def cut(ranking, depth):  # type: ignore[no-untyped-def]
    return ranking.doc_ids[:depth], ranking.scores[:depth]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([1, 7, 100, 4000]))
def test_ties_at_the_cut_are_extended_until_resolved(seed: int, distinct: int, depth: int) -> None:
    generator = np.random.Generator(np.random.PCG64(seed))
    documents = generator.integers(-2, 3, (distinct, 4)).astype(np.float32)[generator.integers(0, distinct, 9000)]
    queries = generator.integers(-2, 3, (2, 4)).astype(np.float32)  # small integers: every sum is exact
    doc_ids = names("", len(documents))
    for ranking, exact in zip(
        search(documents, queries, doc_ids, ["x", "y"], depth), queries @ documents.T, strict=True
    ):
        assert cut(ranking, depth)[0] == cut(rank("q", doc_ids, exact), depth)[0]
        assert np.array_equal(ranking.scores, -np.sort(-exact)[:depth])


def test_scores_depend_on_the_two_vectors_alone() -> None:
    documents, queries = normals(9000, 48, 3), normals(70, 48, 4)
    doc_ids, query_ids = names("d", 9000), names("q", 70)
    together = search(documents, queries, doc_ids, query_ids, 20)
    assert search(documents, queries, doc_ids, query_ids, 20) == together
    alone = [search(documents, queries[i : i + 1], doc_ids, [query_ids[i]], 20)[0] for i in (0, 33, 69)]
    assert alone == [together[i] for i in (0, 33, 69)]
    backwards = search(documents[::-1], queries, doc_ids[::-1], query_ids, 20)
    assert backwards == together
    everything = search(documents[:4000], queries, doc_ids[:4000], query_ids, 4000)
    known = dict(zip(everything[5].doc_ids, everything[5].scores.tolist(), strict=True))
    assert all(
        known[d] == s for d, s in zip(together[5].doc_ids, together[5].scores.tolist(), strict=True) if d in known
    )
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        assert search(documents, queries, doc_ids, query_ids, 20) == together
    finally:
        faiss.omp_set_num_threads(threads)


def test_scores_that_faiss_cannot_tell_apart() -> None:
    # the large components cancel in float64 but swallow the small one in float32 sums
    documents = np.zeros((5000, 3), dtype=np.float32)
    documents[:, 0], documents[:, 2] = 1e6, -1e6
    documents[:, 1] = np.arange(5000) / 5000
    query = np.array([[1e3, 1.0, 1e3]], dtype=np.float32)
    ranking = search(documents, query, names("d", 5000), ["q"], 3)[0]
    assert ranking.doc_ids == ("d4999", "d4998", "d4997")


def test_overflow_ranks_by_infinity_and_id() -> None:
    documents = np.full((5000, 2), 3e38, dtype=np.float32)
    ranking = search(documents, np.ones((1, 2), dtype=np.float32), names("d", 5000), ["q"], 2)[0]
    assert ranking.doc_ids == ("d999", "d998") and np.isinf(ranking.scores).all()


def test_ties_by_ascending_ids_where_that_is_asked_for() -> None:
    documents = np.arange(6000, dtype=np.float32)[:, None] // 100  # sixty scores, a hundred documents each
    doc_ids, query = [f"d{row:04}" for row in range(6000)], np.ones((1, 1), dtype=np.float32)
    (ranking,) = search_corpus(Corpus(documents, doc_ids, ties="ascending"), query, ["q"], 150)
    best = sorted(range(6000), key=lambda row: (-(row // 100), doc_ids[row]))[:150]
    assert list(ranking.doc_ids) == [doc_ids[row] for row in best]
    (other,) = search_corpus(Corpus(documents, doc_ids), query, ["q"], 150)
    assert other.doc_ids[:2] == ("d5999", "d5998") and ranking.doc_ids[:2] == ("d5900", "d5901")
    assert np.array_equal(ranking.scores, other.scores)


def test_bad_vectors_are_refused_by_name() -> None:
    documents, queries = normals(3, 2, 5), normals(2, 2, 6)
    bad = documents.copy()
    bad[1, 0] = np.nan
    with pytest.raises(UserError, match="document 'd1': its vector has a NaN or an infinity"):
        search(bad, queries, names("d", 3), names("q", 2), 1)
    worse = queries.copy()
    worse[1, 1] = np.inf
    with pytest.raises(UserError, match="query 'q1': its vector has a NaN or an infinity"):
        search(documents, worse, names("d", 3), names("q", 2), 1)
    with pytest.raises(UserError, match=r"document vectors have shape \(3, 2\) and type float32, expected \(2, H\)"):
        search(documents, queries, names("d", 2), names("q", 2), 1)
    with pytest.raises(UserError, match="query vectors have shape .* type float64"):
        search(documents, queries.astype(np.float64), names("d", 3), names("q", 2), 1)
    with pytest.raises(UserError, match="document vectors have 2 dimensions, query vectors 1"):
        search(documents, queries[:, :1], names("d", 3), names("q", 2), 1)
    with pytest.raises(UserError, match="document 'd' is there twice"):
        search(documents, queries, ["d", "e", "d"], names("q", 2), 1)
    with pytest.raises(UserError, match="depth is 0"):
        search(documents, queries, names("d", 3), names("q", 2), 0)


# Parts


def in_files(folder: Path, documents: np.ndarray, size: int) -> DocumentVectors:
    paths = []
    for start in range(0, len(documents), size):
        paths.append(folder / f"{start}.npy")
        np.save(paths[-1], documents[start : start + size])
    return DocumentVectors(tuple(paths), tuple(len(np.load(path)) for path in paths))


@pytest.mark.parametrize("distinct", [37, 9000])  # with 37 vectors every tie goes through all shards
def test_shards_equal_memory_to_the_bit(tmp_path: Path, distinct: int) -> None:
    generator = np.random.Generator(np.random.PCG64(7))
    documents = normals(distinct, 16, 8)[generator.permutation(9000) % distinct]
    queries, doc_ids, query_ids = normals(70, 16, 9), names("d", 9000), names("q", 70)
    whole = search(documents, queries, doc_ids, query_ids, 300)
    for size in (8999, 1000):
        parts = in_files(tmp_path, documents, size)
        assert search(parts, queries, doc_ids, query_ids, 300) == whole
    scores = whole[0].scores
    assert (len(np.unique(scores)) < len(scores)) == (distinct == 37)


# Indexes that may miss documents

IVF = IvfIndex(kind="ivf", lists=16, probes=16, seed=0, checked_queries=5)
HNSW = HnswIndex(kind="hnsw", links=8, build_breadth=40, search_breadth=20, checked_queries=5)
PQ = PqIndex(kind="pq", code_bytes=4, oversampling=2.0, seed=0, checked_queries=5)
DOCUMENTS, QUERIES = normals(6000, 16, 10), normals(40, 16, 11)


def found(index: Index, documents: np.ndarray | DocumentVectors = DOCUMENTS, depth: int = 50):  # type: ignore[no-untyped-def]
    return retrieve(documents, QUERIES, names("d", 6000), names("q", 40), depth, index)


def test_every_kind_of_index_is_opened_by_the_one_door() -> None:
    assert set(SEARCHES) == set(typing.get_args(Index))


def test_all_lists_are_exact_search_ties_included() -> None:
    exact, counts, warnings = found(ExactIndex(kind="exact"))
    assert (counts, warnings) == ({}, [])
    rankings, counts, warnings = found(IVF)
    assert rankings == exact and warnings == []
    assert counts == {"recall@50": 1.0, "queries checked": 5, "short rankings": 0}
    tied = DOCUMENTS[np.arange(6000) % 40]
    assert found(IVF, tied)[0] == found(ExactIndex(kind="exact"), tied)[0]


def test_recall_is_the_share_of_the_exact_ranking_and_a_warning_says_so() -> None:
    few = dataclasses.replace(IVF, probes=2, checked_queries=40)
    exact, (rankings, counts, warnings) = found(ExactIndex(kind="exact"))[0], found(few)
    shares = [len(set(a.doc_ids) & set(b.doc_ids)) / 50 for a, b in zip(rankings, exact, strict=True)]
    recall = counts["recall@50"]
    assert recall == pytest.approx(sum(shares) / 40) and 0.1 < recall < 0.9
    assert warnings[0].startswith(f"index ivf: recall@50 against exact search is {recall:.4f} on 40 of 40 queries, 0 ")
    for ranking, truth in zip(rankings, exact, strict=True):  # what is found has its exact score and place
        assert list(ranking.scores) == sorted(ranking.scores, reverse=True)
        for doc_id in set(ranking.doc_ids) & set(truth.doc_ids):
            assert ranking.scores_of([doc_id]) == truth.scores_of([doc_id])
    sample = found(dataclasses.replace(few, checked_queries=2))[1]
    assert sample["queries checked"] == 2 and sample["recall@50"] == pytest.approx((shares[0] + shares[39]) / 2)


def test_lists_that_hold_too_few_documents_give_short_rankings_that_are_counted() -> None:
    rankings, counts, warnings = found(dataclasses.replace(IVF, lists=64, probes=1), depth=2000)
    assert counts["short rankings"] == 40 == sum(len(ranking) < 2000 for ranking in rankings)
    assert "40 rankings are short; documents that are missed count as not retrieved" in warnings[0]


@pytest.mark.parametrize("index", [dataclasses.replace(IVF, probes=3), HNSW, PQ], ids=lambda index: index.kind)
def test_indexes_are_the_same_in_every_call_with_any_threads_and_in_shards(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximate, "_ADDED_AT_ONCE", 2500)
    rankings, counts, _ = found(index)
    assert 0.3 < counts["recall@50"] <= 1.0
    assert all(len(ranking) == 50 for ranking in rankings)
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1 if threads > 1 else 2)
        assert found(index)[0] == rankings
    finally:
        faiss.omp_set_num_threads(threads)
    for size in (1700, 5500):
        assert found(index, in_files(tmp_path, DOCUMENTS, size))[0] == rankings


def test_indexes_rank_documents_by_their_best_passages() -> None:
    passages = DocumentVectors((DOCUMENTS,), (6000,), np.array([4000, *([2] * 1000)]))
    ids = names("d", 1001), names("q", 40)
    exact = retrieve(passages, QUERIES, *ids, 30, ExactIndex(kind="exact"))[0]
    assert retrieve(passages, QUERIES, *ids, 30, IVF)[0] == exact
    for index in (HNSW, PQ):
        rankings, counts, _ = retrieve(passages, QUERIES, *ids, 30, index)
        assert all(len(ranking) == 30 for ranking in rankings) and counts["recall@30"] > 0.5


def test_indexes_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(UserError, match="index.lists=9000 is more than the 6000 passages of the set; lower it"):
        found(dataclasses.replace(IVF, lists=9000))
    with pytest.raises(UserError, match="code_bytes=5 does not divide the 16 dimensions .*; allowed: 1, 2, 4, 8, 16"):
        found(dataclasses.replace(PQ, code_bytes=5))
    with pytest.raises(UserError, match="kind=pq needs 256 passages for its codes and the set has 3"):
        retrieve(DOCUMENTS[:3], QUERIES, names("d", 3), names("q", 40), 2, PQ)
