"""From a model to scores to a table: a hand-made encoder whose rankings and scores are worked out on paper."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import data_folder

from ablate.evaluation import collapse, measures, scoring, summary
from ablate.evaluation.scoring import evaluate, score_set
from ablate.evaluation.storage import read_scores, write_scores
from ablate.evaluation.summary import Evaluation, compare, format_summary, format_table
from ablate.evaluation.trec import read_qrels
from ablate.records import EvaluationQuery, EvaluationSet, Passage, QueryScore, UserError
from ablate.retrieval.rankings import Ranking, rank

AT_2 = 1 / math.log2(3)
"""nDCG@10 of one relevant document at rank 2."""


class HandMade:
    """Document i is the i-th unit vector, so the vector of a query holds its scores."""

    def __init__(self, orders: dict[tuple[str, str], str], documents: str = "abcd") -> None:
        self.orders, self.documents = orders, documents
        self.encoded: list[list[tuple[str, str]]] = []
        self.num_passages = 0

    def encode_queries(self, queries: Sequence[tuple[str, str]], *, progress: str | None = None) -> np.ndarray:
        self.encoded.append(list(queries))
        rows = [[-float(self.orders[query].index(doc_id)) for doc_id in self.documents] for query in queries]
        return np.array(rows, dtype=np.float32)

    def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> np.ndarray:
        self.num_passages += len(passages)
        return np.eye(len(passages), dtype=np.float32)


def queries_of(base: str) -> list[EvaluationQuery]:
    text = f"text of {base}"
    return [
        EvaluationQuery(base, base, text, "", "plain", "plain"),
        EvaluationQuery(f"{base}-og", base, text, "all", "original", "og"),
        EvaluationQuery(f"{base}-after", base, text, "after", "changed", "after"),
        EvaluationQuery(f"{base}-before", base, text, "before", "reversed", "before"),
    ]


SET = EvaluationSet(
    name="toy/test",
    documents=tuple(Passage(doc_id, f"document {doc_id}") for doc_id in "abcd"),
    queries=(*queries_of("b1"), *queries_of("b2")),
    qrels={
        "b1": {"a": 1},
        "b1-og": {"a": 1, "b": 1},
        "b1-after": {"a": 1},
        "b1-before": {"b": 1},
        "b2-og": {"c": 1, "d": 1},
        "b2-after": {"c": 1},
        "b2-before": {"d": 1},
    },
    changed_documents={"b1-after": ("b",), "b1-before": ("a",), "b2-after": ("d",), "b2-before": ("c",)},
    opposites=(("b1-after", "b1-before"), ("b2-after", "b2-before")),
)

ORDERS = {
    ("text of b1", ""): "bacd",
    ("text of b1", "all"): "abcd",
    ("text of b1", "after"): "acdb",
    ("text of b1", "before"): "bcad",
    ("text of b2", ""): "abcd",
    ("text of b2", "all"): "dcab",
    ("text of b2", "after"): "cdab",
    ("text of b2", "before"): "cdab",
}
IGNORES = {key: ORDERS[key[0], "all"] for key in ORDERS}


def value(evaluation: Evaluation, measure: str, unit_id: str, direction: str) -> float:
    found = [s.value for s in evaluation.scores if (s.measure, s.unit_id, s.direction) == (measure, unit_id, direction)]
    assert len(found) == 1, (measure, unit_id, direction, found)
    return found[0]


def test_scores_by_hand() -> None:
    evaluation = evaluate(HandMade(ORDERS), [SET], depth=4)
    ndcg = {s.unit_id: s.value for s in evaluation.scores if s.measure == "nDCG@10"}
    assert ndcg == pytest.approx(
        {
            "b1": AT_2,
            "b1-og": 1,
            "b2-og": 1,
            "b1-after": 1,
            "b2-after": 1,
            "b1-before": 1,
            "b2-before": AT_2,
        }
    )
    assert value(evaluation, "RR@10", "b1", "plain") == 0.5
    assert value(evaluation, "AP@1000", "b2-before", "before") == 0.5
    assert value(evaluation, "p-MRR", "b1", "after") == pytest.approx(1 - 2 / 4)
    assert value(evaluation, "p-MRR", "b2", "after") == pytest.approx(1 - 1 / 2)
    assert value(evaluation, "p-MRR", "b1", "before") == pytest.approx(1 - 1 / 3)
    assert value(evaluation, "p-MRR", "b2", "before") == pytest.approx(1 / 2 - 1)
    assert value(evaluation, "Robustness@10", "b1", "all") == 1.0
    assert value(evaluation, "Robustness@10", "b2", "all") == pytest.approx(AT_2)
    assert value(evaluation, "pairwise accuracy", "b1", "both") == 1.0
    assert value(evaluation, "pairwise accuracy", "b2", "both") == 0.0
    assert value(evaluation, "satisfying over violating", "b2", "both") == 0.5
    assert value(evaluation, "one-sided rate", "b2", "after") == 1.0
    assert value(evaluation, "one-sided rate", "b2", "before") == 0.0
    gains = {s.unit_id: s.value for s in evaluation.scores if s.measure == "instruction gain"}
    assert gains == pytest.approx(  # the plain ranking of b1 is bacd, that of b2 abcd
        {
            "b1-og": 0,
            "b1-after": 1 - AT_2,
            "b1-before": 1 - 1,
            "b2-og": 1 - (1 / 2 + 1 / math.log2(5)) / (1 + AT_2),
            "b2-after": 1 - 1 / 2,
            "b2-before": AT_2 - 1 / math.log2(5),
        }
    )
    assert len(evaluation.scores) == 3 * 7 + 4 + 2 + 2 * 4 + 6
    conditions = {s.measure: s.condition for s in evaluation.scores if s.condition not in ("plain", "original")}
    assert conditions["Robustness@10"] == "instructed" and conditions["one-sided rate"] == "pairs"


def test_what_stands_beside_the_scores() -> None:
    evaluation = evaluate(HandMade(ORDERS), [SET], depth=2)
    assert {key: [r.query_id for r in rankings] for key, rankings in evaluation.rankings.items()} == {
        ("toy/test", "plain"): ["b1", "b2"],
        ("toy/test", "original"): ["b1-og", "b2-og"],
        ("toy/test", "changed"): ["b1-after", "b2-after"],
        ("toy/test", "reversed"): ["b1-before", "b2-before"],
    }
    assert evaluation.rankings["toy/test", "changed"][0].doc_ids == ("a", "c")
    assert evaluation.listed == {"toy/test": {"ranked query without judgments": ("b2",)}}
    assert evaluation.candidates == {"toy/test": hashlib.sha256(b"a\nb\nc\nd\n").hexdigest()}
    assert evaluation.warnings == ("toy/test: rankings of depth 2 are shorter than the cut-off of AP@1000",)
    assert evaluation.counts["toy/test"] == {
        "documents": 4,
        "queries": 8,
        "groups": 2,
        "pairs": 2,
        "decisions by a tie": 0,
        "decisions with neither document ranked": 0,
        "pairwise accuracy over pairs": 0.5,
    }
    assert evaluation.opposites == {"toy/test": (("after", "before"),)}
    assert value(evaluation, "p-MRR", "b1", "after") == pytest.approx(1 - 2 / 3)  # b falls out of a list of two


def test_the_rankings_alone_give_the_same_scores() -> None:
    evaluation = evaluate(HandMade(ORDERS), [SET], depth=4)
    stored = [ranking for rankings in evaluation.rankings.values() for ranking in rankings]
    assert score_set(SET, stored).scores == evaluation.scores


def test_identical_texts_and_shared_documents_are_encoded_once() -> None:
    other = replace(SET, name="toy/dev", queries=tuple(q._replace(query="text of b1") for q in SET.queries))
    encoder = HandMade(ORDERS)
    evaluation = evaluate(encoder, iter([SET, other]), depth=4)
    assert encoder.num_passages == 4
    assert [len(queries) for queries in encoder.encoded] == [8, 4]
    assert {s.dataset for s in evaluation.scores} == {"toy/test", "toy/dev"}
    with pytest.raises(UserError, match="evaluation set 'toy/test' is there twice"):
        evaluate(HandMade(ORDERS), [SET, SET], depth=4)


def test_two_pairs_of_opposites_stay_apart() -> None:
    extra = [
        EvaluationQuery("b1-genre", "b1", "text of b1", "genre", "changed", "genre"),
        EvaluationQuery("b1-notgenre", "b1", "text of b1", "notgenre", "reversed", "notgenre"),
    ]
    wide = replace(
        SET,
        queries=(*SET.queries, *extra),
        qrels={**SET.qrels, "b1-genre": {"b": 1}, "b1-notgenre": {"a": 1}},
        changed_documents={**SET.changed_documents, "b1-genre": ("a",), "b1-notgenre": ("b",)},
        opposites=(*SET.opposites, ("b1-genre", "b1-notgenre")),
    )
    orders = {**ORDERS, ("text of b1", "genre"): "abcd", ("text of b1", "notgenre"): "adbc"}
    evaluation = evaluate(HandMade(orders), [wide], depth=4)
    assert value(evaluation, "p-MRR", "b1", "after") == pytest.approx(1 / 2)
    assert value(evaluation, "p-MRR", "b1", "genre") == 0.0
    assert value(evaluation, "p-MRR", "b1", "notgenre") == pytest.approx(1 - 2 / 3)
    assert value(evaluation, "pairwise accuracy", "b1", "both") == 0.5  # after/before holds, genre/notgenre does not
    assert value(evaluation, "satisfying over violating", "b1", "both") == 0.75
    assert value(evaluation, "one-sided rate", "b1", "genre") == 0.0
    assert value(evaluation, "one-sided rate", "b1", "notgenre") == 1.0
    assert value(evaluation, "Robustness@10", "b1", "all") == pytest.approx(AT_2)
    assert evaluation.opposites["toy/test"] == (("after", "before"), ("genre", "notgenre"))


def test_explicit_pairs_replace_the_implied_ones() -> None:
    chosen = replace(SET, pairs={("b2-after", "b2-before"): (("c", "d"), ("c", "b"))})
    evaluation = evaluate(HandMade(ORDERS), [chosen], depth=4)
    # c is over d and over b under `after`; under `before` d is not over c, b is not over c
    assert value(evaluation, "one-sided rate", "b2", "after") == 1.0
    assert value(evaluation, "pairwise accuracy", "b2", "both") == 0.0
    assert evaluation.listed["toy/test"]["opposites without a document pair"] == ("b1-after / b1-before",)
    assert evaluation.counts["toy/test"]["pairs"] == 2


def test_gaps_of_a_set_are_scored_and_listed() -> None:
    evaluation = evaluate(HandMade(ORDERS), [SET], depth=4)
    stored = [r for rankings in evaluation.rankings.values() for r in rankings if r.query_id != "b2-before"]
    odd = replace(SET, qrels={**SET.qrels, "b1": {"zz": 2, "a": 0}}, changed_documents={"b1-after": ("b",)})
    gaps = score_set(odd, [*stored, rank("stranger", ["a"], [1.0])])
    assert value(gaps, "nDCG@10", "b2-before", "before") == 0.0
    assert value(gaps, "nDCG@10", "b1", "plain") == 0.0
    assert value(gaps, "Robustness@10", "b2", "all") == 0.0
    assert value(gaps, "pairwise accuracy", "b2", "both") == 0.0
    assert gaps.listed["toy/test"] == {
        "ranked query without judgments": ("b2",),
        "judged query without a ranking": ("b2-before",),
        "ranked query that is not in the set": ("stranger",),
        "p-MRR after: no changed document": ("b2",),
        "p-MRR before: no changed document": ("b1", "b2"),
        "relevant document outside of the set": ("zz",),
    }


def test_pairs_outside_of_short_rankings_are_warned_of() -> None:
    stored = [r for rankings in evaluate(HandMade(ORDERS), [SET], depth=4).rankings.values() for r in rankings]
    short = [rank("b2-before", ["a"], [1.0]) if r.query_id == "b2-before" else r for r in stored]
    warnings = score_set(SET, short).warnings
    assert [w for w in warnings if "pair" in w] == [
        "toy/test: 1 of 4 pair decisions have neither document in the ranking and count as wrong, so chance is lower; "
        "deeper rankings decide them"
    ]
    assert any("topic 'b2': the rankings have different lengths (4 under" in w for w in warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": (*SET.queries, SET.queries[0])}, "'toy/test': query 'b1' is there twice"),
        ({"documents": (*SET.documents, SET.documents[2])}, "document 'c' is there twice"),
        ({"documents": ()}, "has 8 queries and 0 documents"),
        ({"qrels": {"b9": {"a": 1}}}, "query 'b9' has judgments but is not among the queries"),
        ({"changed_documents": {"b9": ("a",)}}, "query 'b9' has changed documents but"),
        ({"opposites": (("b1-after", "b9"),)}, "query 'b9' has an opposite but"),
        ({"opposites": (("b1-after", "b2-before"),)}, "are opposites of different base queries"),
        (
            {"queries": (SET.queries[0]._replace(condition="odd"), *SET.queries[1:])},
            "query 'b1' has condition 'odd'; allowed are plain, original, changed, reversed",
        ),
        (
            {"queries": (SET.queries[0]._replace(condition="original"), *SET.queries[1:])},
            "base query 'b1' has two original queries",
        ),
        (
            {"queries": (SET.queries[0]._replace(condition="changed", direction="after"), *SET.queries[1:])},
            "two changed queries of direction 'after'",
        ),
    ],
)
def test_sets_that_contradict_themselves_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(HandMade(ORDERS), [replace(SET, **change)], depth=4)  # type: ignore[arg-type]


def test_a_nan_of_the_encoder_is_refused_by_name() -> None:
    class Broken(HandMade):
        def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> np.ndarray:
            vectors = super().encode_passages(passages)
            vectors[2, 0] = np.nan
            return vectors

    with pytest.raises(UserError, match="document 'c': its vector has a NaN"):
        evaluate(Broken(ORDERS), [SET], depth=4)


def test_robustness_leaves_out_groups_of_one_and_says_how_many() -> None:
    fewer = {query_id: grades for query_id, grades in SET.qrels.items() if query_id not in ("b2-og", "b2-after")}
    found = evaluate(HandMade(ORDERS), [replace(SET, qrels=fewer)], depth=4)
    assert [score.unit_id for score in found.scores if score.measure == "Robustness@10"] == ["b1"]
    assert found.listed["toy/test"]["Robustness@10: group of one judged query: left out"] == ("b2",)
    assert "toy/test: Robustness@10 leaves out 1 of 2 groups, in which one query is judged" in found.warnings


# summary, verdicts, table


def test_summary_shows_p_mrr_beside_its_ndcg() -> None:
    rows = {(r.measure, r.direction): r for r in evaluate(HandMade(ORDERS), [SET], depth=4).summary()}
    assert rows["p-MRR", "after"][4:] == (pytest.approx(0.5), 2, pytest.approx(1.0), pytest.approx(1.0), "", "")
    before = rows["p-MRR", "before"]
    assert before.mean == pytest.approx((2 / 3 - 1 / 2) / 2) and before.condition == "reversed"
    assert before.ndcg_changed == pytest.approx((1 + AT_2) / 2)
    assert rows["nDCG@10", "plain"][4:6] == (pytest.approx(AT_2), 1) and rows["nDCG@10", "plain"].ndcg_original is None


class WordCount:
    """Vectors of word counts, divided by their frequency: the words of an instruction count like those of a query."""

    def __init__(self, words: str, use_instruction: bool = True) -> None:
        self.words, self.use_instruction = words.split(), use_instruction

    def _vectors(self, texts: list[str]) -> np.ndarray:
        return np.array([[text.split().count(word) for word in self.words] for text in texts], dtype=np.float32)

    def encode_queries(self, queries: Sequence[tuple[str, str]], *, progress: str | None = None) -> np.ndarray:
        return self._vectors(
            [f"{query} {instruction}" if self.use_instruction else query for query, instruction in queries]
        )

    def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> np.ndarray:
        return self._vectors([passage.text for passage in passages])


def films(instructions: tuple[str, str]) -> EvaluationSet:
    """Two films of the actor, one early, one late, and many others whose texts hold words of the instructions.

    Three base queries ask for the same, so that every mean has an interval, of width 0.
    """
    documents = [Passage("early", "eckhart film"), Passage("late", "eckhart eckhart film")]
    documents += [Passage(f"other{i:02}", "only released films are relevant only relevant") for i in range(20)]
    bases = ("f", "g", "h")
    posed = (
        ("", "plain", "plain"),
        ("any", "original", "og"),
        (instructions[0], "changed", "after"),
        (instructions[1], "reversed", "before"),
    )
    queries = [EvaluationQuery(f"{base}-{words[2]}", base, "eckhart", *words) for base in bases for words in posed]
    good = {"og": ("early", "late"), "after": ("late",), "before": ("early",)}
    return EvaluationSet(
        "films",
        tuple(documents),
        tuple(queries),
        {f"{base}-{end}": dict.fromkeys(ids, 1) for base in bases for end, ids in good.items()},
        {f"{base}-{end}": lost for base in bases for end, lost in (("after", ("early",)), ("before", ("late",)))},
        tuple((f"{base}-after", f"{base}-before") for base in bases),
    )


WORDS = "eckhart film only released films are relevant any"


def test_collapse_is_told_from_following() -> None:
    one = films(("only films released late are relevant", "only films released early are relevant"))
    counting, untouched = (evaluate(WordCount(WORDS, use), [one], depth=22) for use in (True, False))
    rows = {r.direction: r for r in counting.summary() if r.measure == "p-MRR"}
    # every other film passes both: early 2 -> 22, late 1 -> 21, and the relevant ones are lost with them
    assert rows["after"].mean == pytest.approx(1 - 2 / 22) and rows["before"].mean == pytest.approx(1 - 1 / 21)
    assert {d: (r.verdict, r.ndcg_changed) for d, r in rows.items()} == {
        "after": ("collapse", 0.0),
        "before": ("collapse", 0.0),
    }
    # the films that ignoring the instruction ranks first and second are 1 and 1 / log2 3 under it
    gains = {r.direction: r for r in counting.summary() if r.measure == "instruction gain"}
    assert (gains["after"].mean, gains["after"].ndcg_changed, gains["after"].ndcg_blind) == pytest.approx((-1, 0, 1))
    assert (gains["before"].mean, gains["before"].ndcg_blind) == pytest.approx((-AT_2, AT_2))
    assert {r.verdict for r in untouched.summary()} == {""}
    text = format_table(compare(counting, untouched)).replace("\n    ", " ")
    words = (
        "COLLAPSE, after (trained): p-MRR x 100 is +90.9 [+90.9, +90.9] and instruction gain -1.000 [-1.000, -1.000]"
    )
    assert words in text and text.index(words) < text.index("condition  ")
    assert "COLLAPSE, before (trained)" in text and "(untouched)" not in text
    alone = format_summary(counting.summary()).replace("\n    ", " ")
    assert alone.index("COLLAPSE, after: p-MRR x 100 is +90.9") < alone.index("condition  ")


def test_a_ranker_that_follows_is_no_collapse() -> None:
    one = films(("late", "early"))
    documents = (Passage("early", "eckhart film"), Passage("late", "eckhart released"), *one.documents[2:])
    words = {"eckhart": (1, 1), "late": (0, 3), "early": (3, 0)}

    class Following(WordCount):
        """Vectors of (early, late): an instruction lifts the film that it asks for."""

        def encode_queries(self, queries: Sequence[tuple[str, str]], *, progress: str | None = None) -> np.ndarray:
            named = [[words[word] for word in f"{q} {i}".split() if word in words] for q, i in queries]
            return np.array([np.sum(parts, axis=0) for parts in named], dtype=np.float32)

        def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> np.ndarray:
            return np.array([[p.doc_id == "early", p.doc_id == "late"] for p in passages], dtype=np.float32)

    rows = evaluate(Following(WORDS), [replace(one, documents=documents)], depth=22).summary()
    p_mrr = {r.direction: (r.mean > 0, r.verdict) for r in rows if r.measure == "p-MRR"}
    gain = {r.direction: r.mean for r in rows if r.measure == "instruction gain"}
    assert p_mrr["before"] == (True, "") and gain["before"] > 0 and gain["after"] == 0  # late is first without it


def without_plain(bed: EvaluationSet, base: str) -> EvaluationSet:
    """The set with the plain query of one base query only."""
    kept = tuple(q for q in bed.queries if q.condition != "plain" or q.base_id == base)
    return replace(bed, queries=kept, qrels={q: g for q, g in bed.qrels.items() if q in {k.query_id for k in kept}})


def all_rankings() -> list[Ranking]:
    return [r for rankings in evaluate(HandMade(ORDERS), [SET], depth=4).rankings.values() for r in rankings]


def gain_units(evaluation: Evaluation) -> set[str]:
    return {score.unit_id for score in evaluation.scores if score.measure == "instruction gain"}


B2 = ("b2-og", "b2-after", "b2-before")
LISTS = {query.query_id: tuple("abcd") for query in SET.queries}


@pytest.mark.parametrize(
    ("bed", "reason", "warned"),
    [
        (
            without_plain(SET, "b1"),
            "the set has no plain query of the same base query",
            "3 of 6 judged queries with an",
        ),
        (
            replace(SET, queries=(*SET.queries, EvaluationQuery("b2x", "b2", "b2", "", "plain", "plain"))),
            "the set has several plain queries of the same base query, so which ranking ignores it is open",
            "3 of 6 judged queries with an instruction have no instruction gain: the set has several",
        ),
        (
            replace(SET, own_documents={"b2": "a", **{q.query_id: "x" for q in SET.queries if q.query_id != "b2"}}),
            "the plain query of the same base query ranks other documents",
            "3 of 6 judged queries with an instruction have no instruction gain: the plain query",
        ),
        (
            replace(SET, candidates={**LISTS, "b2": tuple("abc")}),
            "the plain query of the same base query ranks other documents",
            "3 of 6 judged queries with an instruction have no instruction gain: the plain query",
        ),
    ],
)
def test_queries_without_a_comparable_plain_query_have_no_gain_and_are_listed(
    bed: EvaluationSet, reason: str, warned: str
) -> None:
    rankings = [rank("b2", list("cab"), [3, 2, 1]) if r.query_id == "b2" else r for r in all_rankings()]
    found = score_set(bed, rankings)
    assert gain_units(found) == {"b1-og", "b1-after", "b1-before"}
    assert set(found.listed["toy/test"][f"instruction gain: {reason}"]) == set(B2)
    assert any(warning.startswith(f"toy/test: {warned}") for warning in found.warnings)


def test_own_documents_and_lists_that_are_alike_change_nothing() -> None:
    own = replace(SET, own_documents={q.query_id: "d" for q in SET.queries}, candidates=LISTS)
    expected = gain_units(score_set(SET, all_rankings()))
    assert gain_units(score_set(own, all_rankings())) == expected and len(expected) == 6
    absent = replace(SET, own_documents={"b1": "not there", "b2": "nor this"})
    assert gain_units(score_set(absent, all_rankings())) == expected


def test_a_set_without_plain_queries_says_that_no_collapse_can_be_seen() -> None:
    found = score_set(without_plain(SET, ""), all_rankings())
    assert not gain_units(found) and found.listed["toy/test"]["ranked query that is not in the set"] == ("b1", "b2")
    assert [w for w in found.warnings if "instruction gain" in w] == [
        "toy/test: no instruction gain: the set poses no query without its instruction, so it is not known what "
        "ignoring the instructions gives, and no collapse can be seen"
    ]
    assert {row.verdict for row in found.summary()} == {""}


def test_rankings_that_lack_a_plain_query_give_no_gain_at_all() -> None:
    found = score_set(SET, [r for r in all_rankings() if r.query_id != "b2"])
    assert not gain_units(found)
    reason = "the plain query of the same base query is not ranked"
    assert found.listed["toy/test"][f"instruction gain: {reason}"] == B2
    assert (
        f"toy/test: 3 of 6 judged queries with an instruction have no instruction gain: {reason}, so it is left out on "
        "the whole set"
    ) in found.warnings


def test_a_missing_ranking_under_the_instruction_counts_as_nothing_found() -> None:
    found = score_set(SET, [r for r in all_rankings() if r.query_id != "b2-after"])
    assert value(found, "instruction gain", "b2-after", "after") == pytest.approx(0 - 1 / 2)


@pytest.mark.parametrize(
    ("p_mrr", "gain", "expected"),
    [
        ((0.5, (0.4, 0.6)), (-0.2, (-0.3, -0.1)), "collapse"),
        ((0.5, (0.4, 0.6)), (-0.2, (-0.4, 0.0)), "not decided"),
        ((0.5, (0.0, 1.0)), (-0.2, (-0.3, -0.1)), ""),  # no following is shown that could be a collapse
        ((0.5, None), (-0.2, (-0.3, -0.1)), "not decided"),
        ((0.5, (0.4, 0.6)), (-0.2, None), "not decided"),
        ((0.5, (0.4, 0.6)), (0.2, (0.1, 0.3)), ""),
        ((0.5, (0.4, 0.6)), (0.0, (0.0, 0.0)), ""),
        ((0.0, (0.0, 0.0)), (-0.2, (-0.3, -0.1)), ""),
        ((-0.5, (-0.6, -0.4)), (-0.2, (-0.3, -0.1)), ""),
        ((0.5, (0.4, 0.6)), None, ""),
    ],
)
def test_what_p_mrr_and_gain_are_called_together(p_mrr: Any, gain: Any, expected: str) -> None:
    assert collapse.called(collapse.Mean(*p_mrr), None if gain is None else collapse.Mean(*gain)) == expected


def _noisy(gain: float | None, p_mrr: dict[str, float], num_units: int = 66, spread: float = 0.2) -> Evaluation:
    """Scores of 66 topics around `gain` and around `p_mrr` by direction, with a spread as real ones have."""
    noise = [spread * (-1) ** unit * (0.5 + unit / num_units) for unit in range(num_units)]  # mean near 0
    scores = []
    for (direction, mean), condition in zip(p_mrr.items(), ("changed", "reversed"), strict=True):
        for unit, error in enumerate(noise):
            one = ("films", condition, direction)
            scores.append(QueryScore(*one, str(unit), "p-MRR", mean + error))
            if gain is not None:
                scores.append(QueryScore(*one, f"{unit}-{direction}", "nDCG@10", 0.5))
                scores.append(QueryScore(*one, f"{unit}-{direction}", "instruction gain", gain + error))
    return Evaluation(tuple(scores), {}, {}, (), {}, {}, {"films": (("after", "before"),)})


def test_what_is_within_chance_is_called_nothing() -> None:
    for gain, mean, expected in (
        (-0.2, 0.1, "collapse"),  # the half-width is about .05
        (-0.02, 0.1, "not decided"),
        (-0.2, 0.02, ""),
        (0.2, 0.1, ""),
        (None, 0.1, ""),
    ):
        rows = [r for r in _noisy(gain, {"after": mean, "before": mean}).summary() if r.measure == "p-MRR"]
        assert {row.verdict for row in rows} == {expected}, (gain, mean)
        assert all(bool(row.why) is bool(expected) for row in rows)
    undecided = format_summary(_noisy(-0.02, {"after": 0.1, "before": 0.1}).summary()).replace("\n    ", " ")
    assert "COLLAPSE NOT DECIDED, after: p-MRR x 100 is +9.8 [+4.7" in undecided and "is left open" in undecided
    for mean, expected in ((-0.02, ""), (-0.2, "lexical")):
        model = _noisy(None, {"after": mean, "before": mean})
        assert {row.verdict for row in model.summary() if row.measure == "p-MRR"} == {expected}, mean
    one_way = _noisy(None, {"after": -0.2, "before": -0.02})
    assert {row.verdict for row in one_way.summary() if row.measure == "p-MRR"} == {""}


def test_a_random_order_is_hardly_ever_called_lexical() -> None:
    # 60 topics of 10 documents, one of them lost in each direction, in random order: 200 draws by one stream
    draw = np.random.default_rng(0)
    called = 0
    for _ in range(200):
        ranks = draw.integers(1, 11, (60, 3)).tolist()
        scores = [
            QueryScore("s", condition, direction, str(topic), "p-MRR", measures.rank_change(first, after))
            for topic, (first, *afters) in enumerate(ranks)
            for (condition, direction), after in zip((("changed", "a"), ("reversed", "b")), afters, strict=True)
        ]
        found = Evaluation(tuple(scores), {}, {}, (), {}, {}, {"s": (("a", "b"),)}).summary()
        called += any(row.verdict for row in found)
    assert called <= 10  # at most 2.5 % are expected; by the sign alone about a third were


def test_a_fall_without_a_positive_p_mrr_is_no_collapse() -> None:
    orders = {**ORDERS, ("text of b1", "before"): "acdb"}  # a stays, b falls from 2 to 4; c of b2 rises from 2 to 1
    trained = evaluate(HandMade(orders), [SET], depth=4)
    row = next(r for r in trained.summary() if (r.measure, r.direction) == ("p-MRR", "before"))
    assert row.mean == pytest.approx(-0.25) and row.verdict == ""
    assert row.ndcg_changed == pytest.approx((1 / math.log2(5) + AT_2) / 2)  # untouched: (AT_2 + 1) / 2


def test_words_that_lift_the_same_documents_are_lexical() -> None:
    one = films(("film", "film"))
    # `film` does not tell the two directions apart; two more films of the actor stand between them without it
    documents = (
        Passage("early", "eckhart film film film"),
        Passage("late", "eckhart film film film"),
        *(Passage(f"other{i}", "eckhart eckhart") for i in range(5)),
    )
    one = replace(one, documents=documents)
    counting, untouched = (evaluate(WordCount(WORDS, use), [one], depth=7) for use in (True, False))
    rows = {r.direction: r for r in counting.summary() if r.measure == "p-MRR"}
    # equal scores go by id: late before early; 6 -> 1 and 7 -> 2
    assert rows["before"].mean == pytest.approx(1 / 6 - 1) and rows["after"].mean == pytest.approx(2 / 7 - 1)
    assert {r.verdict for r in rows.values()} == {"lexical"}
    text = format_table(compare(counting, untouched))
    assert "LEXICAL, after (trained): p-MRR is negative here and under the opposite instruction" in text
    one_way = [s for s in counting.scores if not (s.measure == "p-MRR" and s.direction == "before")]
    assert {r.verdict for r in replace(counting, scores=tuple(one_way)).summary()} == {""}


def test_the_table_to_the_letter() -> None:
    trained, untouched = evaluate(HandMade(ORDERS), [SET], depth=4), evaluate(HandMade(IGNORES), [SET], depth=4)
    text = format_table(compare(trained, untouched))
    assert (
        text
        == """\
toy/test
  condition                       n             nDCG@10              MRR@10            MAP@1000
                                      trained untouched   trained untouched   trained untouched
  plain                           1     0.631     1.000     0.500     1.000     0.500     1.000
  original: og                    2     1.000     1.000     1.000     1.000     1.000     1.000
  changed: after                  2     1.000     0.815     1.000     0.750     1.000     0.750
  reversed: before                2     0.815     0.815     0.750     0.750     0.750     0.750

  p-MRR x 100                     n               p-MRR    nDCG@10 original        nDCG@10 here
                                      trained untouched   trained untouched   trained untouched
  changed: after                  2     +50.0      +0.0     1.000     1.000     1.000     0.815
  reversed: before                2      +8.3      +0.0     1.000     1.000     0.815     0.815

  instruction gain                n        nDCG@10 here         blind to it                gain
                                      trained untouched   trained untouched   trained untouched
  original: og                    2     1.000     1.000     0.785     1.000    +0.215    +0.000
  changed: after                  2     1.000     0.815     0.565     0.815    +0.435    +0.000
  reversed: before                2     0.815     0.815     0.715     0.815    +0.100    +0.000

  over instructions               n
                                      trained untouched    chance
  Robustness@10                   2     0.815     0.631         -
  pairwise accuracy               2     0.500     0.000     0.250
  satisfying over violating       2     0.750     0.500     0.500
  one-sided rate: after           2     1.000     0.500     0.500
  one-sided rate: before          2     0.500     0.500     0.500
"""
    )
    assert max(map(len, text.splitlines())) <= 110


def test_only_like_is_compared_with_like() -> None:
    trained = evaluate(HandMade(ORDERS), [SET], depth=4)
    other = replace(SET, documents=(*SET.documents[:3], Passage("e", "another")))
    with pytest.raises(UserError, match="dataset 'toy/test': the two evaluations ranked different documents"):
        compare(trained, evaluate(HandMade(ORDERS), [other], depth=4))
    fewer = replace(trained, scores=trained.scores[1:])
    with pytest.raises(UserError, match=r"'toy/test': nDCG@10 under plain 'plain' has other units"):
        compare(trained, fewer)


# Parquet


def test_scores_survive_with_the_same_bytes(tmp_path: Path) -> None:
    scores = evaluate(HandMade(ORDERS), [SET], depth=4).scores
    for name in ("one.parquet", "two.parquet"):
        write_scores(tmp_path / name, scores)
    assert read_scores(tmp_path / "one.parquet") == scores
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    write_scores(tmp_path / "none.parquet", [])
    assert read_scores(tmp_path / "none.parquet") == ()


def test_bad_scores_are_refused_by_name(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "s.parquet"
    with pytest.raises(UserError, match=r"score p-MRR of unit 't3' \(d, changed, 'after'\) is nan"):
        write_scores(path, [QueryScore("d", "changed", "after", "t3", "p-MRR", math.nan)])
    assert not path.exists()
    with pytest.raises(UserError, match="s.parquet: cannot be read as Parquet"):
        read_scores(path)
    path.write_text("no Parquet")
    with pytest.raises(UserError, match="s.parquet: cannot be read as Parquet"):
        read_scores(path)
    pq.write_table(pa.table({"dataset": ["d"]}), path)
    with pytest.raises(UserError, match="s.parquet: column 'condition' is missing"):
        read_scores(path)


def test_a_unit_with_two_values_is_refused() -> None:
    evaluation = evaluate(HandMade(ORDERS), [SET], depth=4)
    doubled = replace(evaluation, scores=evaluation.scores + evaluation.scores[:1])
    with pytest.raises(UserError, match="toy/test: nDCG@10 of unit 'b1' .* is there twice"):
        doubled.summary()
    assert summary.CHANCE["pairwise accuracy"] == 0.25


# real judgments


def test_perfect_rankings_of_real_judgments() -> None:
    folder = data_folder("movies") / "qrels"
    kinds = {"og": "original", "after": "changed", "before": "reversed"}
    queries: list[EvaluationQuery] = []
    qrels: dict[str, dict[str, int]] = {}
    lost: dict[str, tuple[str, ...]] = {}
    for variant, condition in kinds.items():
        judged = read_qrels(folder / f"{variant}_dev.tsv")
        qrels |= judged
        for query_id in judged:
            base = query_id.removesuffix(f"-{variant}")
            queries.append(EvaluationQuery(query_id, base, base, variant, condition, variant))  # type: ignore[arg-type]
        if variant != "og":
            changed = read_qrels(folder / f"diff_{variant}_dev.tsv")
            lost |= {
                f"{base}-{variant}": tuple(docs) for base, docs in changed.items() if f"{base}-{variant}" in judged
            }
    doc_ids = sorted({doc_id for grades in qrels.values() for doc_id in grades})
    opposites = tuple(
        (f"{q.base_id}-after", q.query_id) for q in queries if q.direction == "before" and f"{q.base_id}-after" in qrels
    )
    documents = tuple(Passage(doc_id, doc_id) for doc_id in doc_ids)
    one = EvaluationSet("movies/dev", documents, tuple(queries), qrels, lost, opposites)
    rankings = [rank(q.query_id, doc_ids, [qrels[q.query_id].get(d, 0) for d in doc_ids]) for q in queries]
    evaluation = score_set(one, rankings)
    rows = {(row.measure, row.direction): row for row in evaluation.summary()}
    assert all(row.mean == 1.0 for (measure, _), row in rows.items() if measure != "p-MRR")
    assert rows["p-MRR", "after"].mean > 0.5 and rows["p-MRR", "before"].mean > 0.5
    assert {row.verdict for row in rows.values()} == {""}
    assert len(opposites) > 20 and rows["pairwise accuracy", "both"].num_units == len(opposites)


def test_a_set_without_judgments_measures_nothing_and_says_so() -> None:
    with pytest.raises(UserError, match="toy/test: nothing could be measured: none of the 8 queries has judgments"):
        score_set(replace(SET, qrels={}, changed_documents={}, opposites=()), [])


def test_remarks_stand_first_among_the_warnings_and_names_can_be_others() -> None:
    found = score_set(replace(SET, remarks=("mind this",)), [rank("b1", list("abcd"), [4, 3, 2, 1])], depth=2)
    assert found.warnings[0] == "toy/test: mind this"
    other = scoring.renamed(found, {"toy/test": "own/test", "absent": "x"})
    assert other.warnings[0] == "own/test: mind this" and {score.dataset for score in other.scores} == {"own/test"}
    assert set(other.sets) == {"own/test"} == set(other.candidates) and other.sets["own/test"].name == "own/test"
    assert scoring.renamed(other, {"own/test": "toy/test"}) == found
