"""Rankers that are no model, by hand, and the arms that are made of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import override, run_config

from ablate.evaluation.rankers import FILLED, WORDLESS, Lexical, Random, plain_ranker
from ablate.evaluation.scoring import rank_and_score
from ablate.evaluation.summary import Evaluation, format_summary
from ablate.records import EvaluationQuery, EvaluationSet, Passage
from ablate.run import execute
from ablate.store.manifest import is_deterministic
from ablate.store.results import ResultStore

TEXTS = {"a": "red bird", "b": "red fish", "c": "blue fish", "d": "green tree"}
SET = EvaluationSet(
    name="toy/test",
    documents=tuple(Passage(doc_id, text) for doc_id, text in TEXTS.items()),
    queries=(
        EvaluationQuery("q", "q", "fish", "", "plain", "plain"),
        EvaluationQuery("q-og", "q", "fish", "any bird, tree or fish", "original", "og"),
        EvaluationQuery("q-red", "q", "fish", "must be red", "changed", "red"),
        EvaluationQuery("none", "none", "xylophone", "", "plain", "plain"),
    ),
    qrels={"q": {"b": 1, "c": 1}, "q-og": {"b": 1, "c": 1}, "q-red": {"b": 1}, "none": {"a": 1}},
    changed_documents={"q-red": ("c",)},
    opposites=(),
)


def order(result: Evaluation, query_id: str) -> str:
    found = [ranking for rankings in result.rankings.values() for ranking in rankings if ranking.query_id == query_id]
    return "".join(found[0].doc_ids)


def bm25(tf: int, df: int) -> float:
    """Lucene's BM25 of one word in TEXTS, whose documents all have two words, the mean length."""
    return math.log(1 + (4 - df + 0.5) / (df + 0.5)) * tf / (tf + 0.9)


def test_bm25_ranks_every_document_and_orders_equal_scores_by_id_descending() -> None:
    result = rank_and_score(Lexical(with_instruction=False), [SET], depth=4)
    assert order(result, "q") == order(result, "q-red") == "cbda"  # c and b share one word, d and a none
    assert order(result, "none") == "dcba"
    ranking = result.rankings["toy/test", "plain"][0]
    np.testing.assert_allclose(ranking.scores, [bm25(1, 2), bm25(1, 2), 0, 0], rtol=1e-6)
    assert result.listed["toy/test"][WORDLESS] == ("none",)
    assert result.listed["toy/test"][FILLED] == ("q", "q-og", "q-red")
    assert not [warning for warning in result.warnings if "lengths" in warning]
    changes = [score.value for score in result.scores if score.measure == "p-MRR"]
    assert changes == [0.0]  # blind to instructions


def test_with_the_instruction_its_words_lift_documents_whatever_it_asks_for() -> None:
    result = rank_and_score(Lexical(with_instruction=True), [SET], depth=4)
    assert order(result, "q") == "cbda"
    assert order(result, "q-red") == "bcad"  # fish and red; fish; red; nothing
    assert order(result, "q-og") == "cbda"  # fish twice: 2 ln 2 > ln(1 + 3.5 / 1.5) of bird and tree
    ranking = result.rankings["toy/test", "changed"][0]
    np.testing.assert_allclose(ranking.scores, [2 * bm25(1, 2), bm25(1, 2), bm25(1, 2), 0], rtol=1e-6)


def test_filled_rankings_are_listed_only_where_they_are_filled() -> None:
    result = rank_and_score(Lexical(with_instruction=False), [SET], depth=2)
    assert order(result, "q") == "cb"
    assert FILLED not in result.listed["toy/test"] and result.listed["toy/test"][WORDLESS] == ("none",)


def test_random_orders_differ_by_seed_and_query_and_by_nothing_else() -> None:
    documents = tuple(Passage(f"d{number}", "") for number in range(50))
    one = dataclasses.replace(SET, documents=documents, qrels={}, changed_documents={})
    first = Random(0)(one, 50).rankings
    turned = Random(0)(dataclasses.replace(one, documents=documents[::-1], queries=one.queries[::-1]), 50).rankings
    assert first == turned[::-1]
    orders = {ranking.doc_ids for seed in (0, 1) for ranking in Random(seed)(one, 50).rankings}
    assert len(orders) == 2 * len(one.queries)
    assert all(len(set(ranking)) == 50 for ranking in orders)
    assert [len(ranking) for ranking in Random(0)(one, 7).rankings] == [7] * 4
    assert Random(0)(one, 7).rankings[0].doc_ids == first[0].doc_ids[:7]


def test_random_order_is_at_chance() -> None:
    queries = tuple(EvaluationQuery(f"q{n}", f"q{n}", "", "", "plain", "plain") for n in range(2000))
    one = dataclasses.replace(SET, queries=queries, qrels={q.query_id: {"a": 1} for q in queries}, changed_documents={})
    places = [ranking.doc_ids.index("a") for ranking in Random(3)(one, 4).rankings]
    shares = np.bincount(places, minlength=4) / 2000
    assert np.abs(shares - 0.25).max() < 4 * math.sqrt(0.25 * 0.75 / 2000)


def test_a_name_gives_its_ranker() -> None:
    assert plain_ranker("bm25", 0).parameters["k1"] == 0.9 and plain_ranker("random", 0).parameters == {}
    with pytest.raises(KeyError):
        plain_ranker("trained", 0)


def test_the_summary_of_one_system() -> None:
    text = format_summary(rank_and_score(Lexical(with_instruction=True), [SET], depth=4).summary())
    at_3 = 1 / math.log2(4)  # `none` finds its document at rank 4: 1 / log2(5)
    assert at_3 == 0.5
    plain = (1 + 1 / math.log2(5)) / 2
    assert f"  plain                           2{plain:10.3f}" in text
    assert "toy/test" in text and "p-MRRx100" in text and "Robustness@10" in text


TINY = (
    "model=tiny",
    "source.documents=600",
    "evaluation.sets=[test]",
    "tracker=none",
    "runtime.threads=1",
    "runtime.dev_set=null",
    "runtime.study=s",
    "budget.limit=16",
    "train.batch_size=8",
)


def test_baselines_are_arms_with_scores_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ResultStore(tmp_path)

    def make(arm: str, seed: int) -> None:
        execute(run_config(f"+experiment={arm}", *TINY, f"seed={seed}", override("runtime.results", tmp_path)))

    for arm, seed in (("bm25", 0), ("bm25", 1), ("bm25_instruction", 0), ("random_ranker", 0), ("random_ranker", 1)):
        make(arm, seed)
    make("untouched", 0)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "mixes").exists()
    assert "no mix and no training (ranker=bm25)" in capsys.readouterr().out
    found = store.by_arm("evaluation", "s")
    assert sorted(found) == [
        ("bm25", 0),
        ("bm25_instruction", 0),
        ("random_ranker", 0),
        ("random_ranker", 1),
        ("untouched", 0),
    ]
    assert {arm: is_deterministic(manifest) for (arm, _), manifest in found.items()} == {
        "bm25": True,
        "bm25_instruction": True,
        "random_ranker": False,
        "untouched": False,  # tiny: drawn weights
    }

    before = found["untouched", 0].id
    make("query_only", 0)
    found = store.by_arm("evaluation", "s")
    assert sorted(arm for arm, _ in found).count("untouched") == 1 and not is_deterministic(found["query_only", 0])
    assert found["untouched", 0].id == before
