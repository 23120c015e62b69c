"""Rankings and measures: values worked out by hand, every gap and tie, and comparison with trec_eval's own code."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ablate.evaluation import measures
from ablate.evaluation.measures import Opposite
from ablate.records import UserError
from ablate.retrieval.rankings import DocumentOrder, Ranking, by_query, rank


def listed_as(query_id: str, text: str) -> Ranking:
    """The ranking with these documents (separated by blanks) in this order."""
    doc_ids = text.split()
    return rank(query_id, doc_ids, np.arange(len(doc_ids), 0, -1, dtype=np.float32))


def of(**texts: str) -> dict[str, Ranking]:
    return {query_id: listed_as(query_id, text) for query_id, text in texts.items()}


# rankings


def test_ties_are_ordered_by_id_descending_as_strings() -> None:
    assert rank("q", ["10", "2", "9"], [1.0, 1.0, 1.0]).doc_ids == ("9", "2", "10")
    assert rank("q", ["a", "b", "c"], [1.0, 2.0, 1.0]).doc_ids == ("b", "c", "a")
    assert rank("q", ["z", "é", "Z", "𝄞"], [0, 0, 0, 0]).doc_ids == ("𝄞", "é", "z", "Z")


def test_scores_are_compared_in_float32() -> None:
    assert rank("q", ["a", "b"], [1.0 + 1e-9, 1.0]).doc_ids == ("b", "a")
    assert rank("q", ["a", "b"], [1.0 + 1e-6, 1.0]).doc_ids == ("a", "b")


def test_zeros_and_infinities_tie() -> None:
    ranking = rank("q", ["a", "b", "c", "d", "e"], [0.0, -0.0, math.inf, 1e300, -math.inf])
    assert ranking.doc_ids == ("d", "c", "b", "a", "e")
    assert not np.signbit(ranking.scores[2:4]).any()


def test_a_nan_and_a_duplicate_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="query 'q7', document 'd2': the score is NaN"):
        rank("q7", ["d1", "d2"], [1.0, math.nan])
    with pytest.raises(UserError, match="query 'q7': document 'd1' is there twice"):
        rank("q7", ["d1", "d2", "d1"], [1.0, 2.0, 1.0])
    with pytest.raises(UserError, match="the documents: document 'x' is there twice"):
        DocumentOrder(["x", "x"])
    with pytest.raises(UserError, match="query 'q8', document 'd2': the score is NaN"):
        DocumentOrder(["d0", "d1", "d2"]).rank("q8", [1.0, math.nan], rows=np.array([0, 2]))
    with pytest.raises(UserError, match=r"query 'q': scores have shape \(1,\), expected \(2,\)"):
        rank("q", ["a", "b"], [1.0])
    with pytest.raises(UserError, match="query 'q': scores are of type"):
        rank("q", ["a"], ["high"])
    with pytest.raises(UserError, match="query 'q': depth is 0, allowed is 1 or more"):
        DocumentOrder(["a"]).rank("q", [1.0], depth=0)
    with pytest.raises(UserError, match="query 'q' has two rankings"):
        by_query([listed_as("q", "a"), listed_as("q", "b")])


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(-3, 3)), unique_by=lambda row: row[0], max_size=30), st.data()
)
def test_a_cut_ranking_is_the_head_of_the_whole_one(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    doc_ids, scores = [str(row[0]) for row in rows], [float(row[1]) for row in rows]
    slow = sorted(zip(scores, doc_ids, strict=True), reverse=True)
    whole = rank("q", doc_ids, scores)
    assert list(zip(whole.scores.tolist(), whole.doc_ids, strict=True)) == slow
    depth = data.draw(st.integers(1, 35))
    cut = DocumentOrder(doc_ids).rank("q", scores, depth=depth)
    assert cut.doc_ids == whole.doc_ids[:depth] and np.array_equal(cut.scores, whole.scores[:depth])
    rows_kept = np.array(data.draw(st.permutations(range(len(rows)))), dtype=np.int64)
    part = DocumentOrder(doc_ids).rank("q", np.array(scores, dtype=np.float32)[rows_kept], rows=rows_kept, depth=depth)
    assert part == cut


def test_ranks_and_scores_of_documents() -> None:
    ranking = rank("q", ["a", "b"], [0.5, 0.25])
    assert ranking.ranks_of(["b", "x", "a", "b"]).tolist() == [2, 3, 1, 2]
    assert ranking.scores_of(["b", "x"], missing=0.0).tolist() == [0.25, 0.0]
    assert listed_as("q", "").ranks_of(["x"]).tolist() == [1]
    assert ranking.ranks_of([]).dtype == np.int64 and ranking.scores_of([]).tolist() == []
    with pytest.raises(ValueError, match="read-only"):
        ranking.scores[0] = 9


def test_rankings_are_equal_in_query_documents_and_scores_together() -> None:
    ranking = rank("q", ["a", "b"], [0.5, 0.25])
    assert ranking == rank("q", ["b", "a"], [0.25, 0.5]) and len({ranking, rank("q", ["a", "b"], [0.5, 0.25])}) == 1
    for other in (
        rank("p", ["a", "b"], [0.5, 0.25]),
        rank("q", ["a", "c"], [0.5, 0.25]),
        rank("q", ["a", "b"], [0.5, 0.125]),
    ):
        assert ranking != other
    assert (ranking == "q") is False


# nDCG, RR, AP, recall


def test_ndcg_has_linear_gain() -> None:
    result = measures.query_measure("nDCG@10", {"q": {"a": 3, "b": 2, "c": 1, "d": 0}}, of(q="b c a d"))
    by_hand = (2 + 1 / math.log2(3) + 3 / 2) / (3 + 2 / math.log2(3) + 1 / 2)
    assert result.per_unit["q"] == pytest.approx(by_hand, abs=1e-12)
    assert round(by_hand, 4) == 0.8675


def test_reciprocal_rank_average_precision_and_recall() -> None:
    qrels = {"q": {"b": 1, "d": 2, "never": 1, "a": 0, "c": -1}}
    names = ["RR@1", "RR@2", "RR@10", "AP@1000", "AP@3", "recall@2", "recall@1000", "nDCG@1"]
    found = {n: r.per_unit["q"] for n, r in measures.query_measures(names, qrels, of(q="a b c d")).items()}
    by_hand = [0, 1 / 2, 1 / 2, (1 / 2 + 2 / 4) / 3, (1 / 2) / 3, 1 / 3, 2 / 3, 0]
    assert list(found.values()) == pytest.approx(by_hand, abs=1e-12)


def test_a_reciprocal_rank_at_the_cut_counts() -> None:
    doc_ids = " ".join(f"d{i:02}" for i in range(60))
    for place in range(1, 60):
        qrels = {"q": {f"d{place - 1:02}": 1}}
        found = measures.query_measures([f"RR@{place}", f"RR@{place + 1}"], qrels, of(q=doc_ids))
        assert [result.per_unit["q"] for result in found.values()] == [1 / place, 1 / place]
        if place > 1:
            assert measures.query_measure(f"RR@{place - 1}", qrels, of(q=doc_ids)).per_unit["q"] == 0


def test_gaps_score_zero_and_are_listed() -> None:
    qrels = {"full": {"a": 1}, "missing": {"a": 1}, "empty": {"a": 1}, "none": {"a": 0, "b": -2}, "unjudged": {}}
    rankings = of(full="a b", empty="", none="a b", unjudged="a b", stranger="a b")
    result = measures.query_measure("nDCG@10", qrels, rankings)
    assert result.per_unit == {"full": 1.0, "missing": 0.0, "empty": 0.0, "none": 0.0}
    assert result.listed == {
        measures.MISSING: ("missing",),
        measures.EMPTY: ("empty",),
        measures.NO_POSITIVE: ("none",),
        measures.UNJUDGED: ("unjudged", "stranger"),
    }
    assert result.mean == 0.25 and result.mean_present_only == 0.5 and result.reason == ""


def test_nothing_judged_gives_no_value_and_a_reason() -> None:
    result = measures.query_measure("RR@10", {}, of(q="a"))
    assert result.mean is None and result.mean_present_only is None
    assert result.reason == "RR@10 has no value: no unit is left (1 ranked query without judgments)"


def test_names() -> None:
    assert measures.parse("nDCG@10") == ("nDCG", 10) and measures.parse("WISE(code)") == ("WISE(code)", None)
    assert [measures.mean_name(n) for n in ("RR@10", "AP@1000", "nDCG@5", "p-MRR")] == [
        "MRR@10",
        "MAP@1000",
        "nDCG@5",
        "p-MRR",
    ]
    for wrong in ("ndcg@10", "nDCG", "nDCG@0", "MRR@10", "p-mrr", ""):
        with pytest.raises(
            UserError, match=r"is not known; known are nDCG@k, RR@k, AP@k, recall@k, Robustness@k, p-MRR"
        ):
            measures.parse(wrong)
    with pytest.raises(UserError, match="measure 'p-MRR' has no value per query"):
        measures.query_measure("p-MRR", {}, {})


def test_ranges_and_intervals() -> None:
    assert {measures.range_of(name) for name in ("p-MRR", "WISE", "WISE(code)")} == {(-1, 1)}
    assert {measures.range_of(name) for name in ("nDCG@10", "SICR", "pairwise accuracy", "Robustness@5")} == {(0, 1)}
    assert measures.range_of("perplexity") == (-math.inf, math.inf)
    assert measures.within((-0.25, 1.5), 0, 1) == (0, 1) and measures.within((0.25, 0.5), 0, 1) == (0.25, 0.5)
    assert measures.within((-3, -2), -1, 1) == (-1, -1) and measures.within((2, 3), -1, 1) == (1, 1)
    values = [0.2, 0.4, 0.9]
    for level, found in ((0.95, measures.mean_interval(values)), (0.8, measures.mean_interval(values, 0.8))):
        half = stats.t.ppf((1 + level) / 2, 2) * np.std(values, ddof=1) / math.sqrt(3)
        assert found == pytest.approx((0.5 - half, 0.5 + half))
    assert measures.mean_interval([0.5]) is None and measures.mean_interval([0.5, 0.5]) == (0.5, 0.5)


RUNS = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]),
    st.dictionaries(st.integers(0, 25).map(str), st.sampled_from([0.5, 0.25, 0.25 + 1e-9, 1.0, -0.0, 0.0, 3.0, -2.0])),
)
QRELS = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3", "q4"]), st.dictionaries(st.integers(0, 30).map(str), st.integers(-1, 4))
)


@settings(deadline=None, max_examples=200)
@given(RUNS, QRELS)
def test_agrees_with_trec_eval_on_its_own_ties(
    run: dict[str, dict[str, float]], qrels: dict[str, dict[str, int]]
) -> None:
    names = {
        "nDCG@3": "ndcg_cut_3",
        "nDCG@10": "ndcg_cut_10",
        "AP@1000": "map_cut_1000",
        "AP@4": "map_cut_4",
        "recall@5": "recall_5",
        "RR@1000": "recip_rank",
    }
    rankings = {q: rank(q, list(docs), list(docs.values())) for q, docs in run.items()}
    ours = measures.query_measures(list(names), qrels, rankings)
    engine = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.3,10", "map_cut.4,1000", "recall.5", "recip_rank"})
    theirs = engine.evaluate({q: docs for q, docs in run.items() if docs}) if qrels else {}
    for name, engine_name in names.items():
        expected = {q: theirs.get(q, {}).get(engine_name, 0.0) for q, grades in qrels.items() if grades}
        assert ours[name].per_unit == expected


LISTS = st.integers(1, 1200).flatmap(
    lambda size: st.tuples(
        st.just(size), st.dictionaries(st.integers(0, size + 20), st.integers(-2, 7), min_size=1, max_size=40)
    )
)


@settings(deadline=None, max_examples=200)
@given(LISTS)
def test_long_rankings_score_to_the_bit_as_in_trec_eval(given: tuple[int, dict[int, int]]) -> None:
    size, judged = given
    doc_ids = [f"d{place}" for place in range(size)]
    grades = {f"d{place}": grade for place, grade in judged.items()}
    names = {"nDCG@10": "ndcg_cut_10", "nDCG@1000": "ndcg_cut_1000", "AP@1000": "map_cut_1000"}
    names |= {"AP@10": "map_cut_10", "recall@100": "recall_100", "RR@2000": "recip_rank"}
    ours = measures.query_measures(list(names), {"q": grades}, {"q": rank("q", doc_ids, -np.arange(size))})
    wanted = {"ndcg_cut.10,1000", "map_cut.10,1000", "recall.100", "recip_rank"}
    engine = pytrec_eval.RelevanceEvaluator({"q": {d: max(grade, 0) for d, grade in grades.items()}}, wanted)
    theirs = engine.evaluate({"q": {doc_id: -float(place) for place, doc_id in enumerate(doc_ids, start=1)}})["q"]
    assert {name: ours[name].per_unit["q"] for name in names} == {name: theirs[key] for name, key in names.items()}


# p-MRR


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(1, 2, 0.5), (99, 100, 0.01), (2, 10, 0.8), (10, 2, -0.8), (7, 7, 0.0), (500, 1000, 0.5)],
)
def test_rank_change(before: int, after: int, expected: float) -> None:
    assert measures.rank_change(before, after) == pytest.approx(expected, abs=1e-12)


def test_p_mrr_averages_documents_then_topics() -> None:
    original = of(t1="a b c d", t2="a b")
    changed = of(t1="d c b a", t2="a b")
    # t1: a 1 -> 4 is +.75, d 4 -> 1 is -.75, b 2 -> 3 is +1/3; t2: a stays
    result = measures.p_mrr({"t1": ["a", "d", "b"], "t2": ["a"]}, original, changed)
    assert result.per_unit == pytest.approx({"t1": (0.75 - 0.75 + 1 / 3) / 3, "t2": 0.0})
    assert result.mean == pytest.approx(1 / 18)
    assert measures.p_mrr({"t1": ["a", "a", "d"]}, original, changed).per_unit["t1"] == pytest.approx(0.25)


def test_p_mrr_skips_lists_and_warns() -> None:
    original = of(gone="a b", empty="", nothing="a", uneven="a b c")
    changed = of(empty="a b", nothing="a", uneven="b")
    result = measures.p_mrr(
        {"gone": ["a"], "empty": ["a"], "nothing": [], "uneven": ["z"], "absent": ["a"]}, original, changed
    )
    assert result.per_unit == {"uneven": -0.5}  # in neither list: ranks 4 and 2
    assert result.listed == {
        measures.SKIPPED: ("gone", "empty", "absent"),
        measures.NOTHING_CHANGED: ("nothing",),
    }
    assert len(result.warnings) == 1
    assert "topic 'uneven'" in result.warnings[0] and "(3 under the original instruction, 1 under" in result.warnings[0]
    nothing_left = measures.p_mrr({"x": ["a"]}, {}, {})
    assert nothing_left.mean is None
    assert nothing_left.reason == "p-MRR has no value: no unit is left (1 skipped: without one of the rankings)"


def test_a_model_that_ignores_instructions_has_p_mrr_zero() -> None:
    same = of(t="a b c")
    assert measures.p_mrr({"t": ["c", "a", "zz"]}, same, same).mean == 0.0


def slow_p_mrr(lost: list[str], before: dict[str, float], after: dict[str, float]) -> float:
    """The reciprocal-rank form of the paper over score dictionaries; shares no code with ours."""

    def reciprocal(scores: dict[str, float], doc_id: str) -> float:
        if doc_id not in scores:
            return 1 / (len(scores) + 1)
        mine = (float(np.float32(scores[doc_id])), doc_id)
        return 1 / (1 + sum((float(np.float32(s)), d) > mine for d, s in scores.items()))

    total = 0.0
    for doc_id in lost:
        old, new = reciprocal(before, doc_id), reciprocal(after, doc_id)
        total += old / new - 1 if old < new else 1 - new / old
    return total / len(lost)


SCORED = st.dictionaries(st.integers(0, 12).map(str), st.sampled_from([0.0, 1.0, 1.0 + 1e-9, 2.0, -1.5]), min_size=1)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 14).map(str), min_size=1), SCORED, SCORED)
def test_p_mrr_equals_the_slow_reference(lost: list[str], before: dict[str, float], after: dict[str, float]) -> None:
    original = {"t": rank("t", list(before), list(before.values()))}
    changed = {"t": rank("t", list(after), list(after.values()))}
    result = measures.p_mrr({"t": lost}, original, changed)
    assert result.per_unit["t"] == pytest.approx(slow_p_mrr(lost, before, after), abs=1e-9)
    assert bool(result.warnings) == (len(before) != len(after))


# Robustness@k


def test_robustness_is_the_mean_of_group_minima() -> None:
    # one relevant document at rank 1 or 3: nDCG 1 or 1 / log2(4) = .5; g2-y has no ranking; loner has no group; of
    # g3 one query is judged, so there is nothing to be robust against
    qrels: dict[str, dict[str, int]] = {q: {"a": 1} for q in ("g1-x", "g1-y", "g2-x", "g2-y", "g3-x", "loner")}
    qrels["g3-y"] = {}
    rankings = of(**{"g1-x": "a b c", "g1-y": "b c a", "g2-x": "a b c", "g3-x": "a", "loner": "b"})
    groups = {"g1-x": "g1", "g1-y": "g1", "g2-x": "g2", "g2-y": "g2", "g3-x": "g3", "g3-y": "g3", "g9-unjudged": "g9"}
    result = measures.robustness(10, qrels, rankings, groups)
    assert result.name == "Robustness@10"
    assert result.per_unit == pytest.approx({"g1": 0.5, "g2": 0.0})
    assert result.listed == {measures.MISSING: ("g2",), measures.ALONE: ("g3",)}
    assert result.mean == pytest.approx(0.25) and result.mean_present_only == pytest.approx(0.5)
    alone = measures.robustness(10, {"loner": {"a": 1}}, rankings, {"loner": "one"})
    assert alone.mean is None and "1 group of one judged query" in alone.reason


def test_the_minimum_is_taken_inside_a_seed() -> None:
    # nDCG of x and y is 1 and .5 in one seed, .5 and 1 in the other: the mean of the minima is .5, whereas the minimum
    # of the means over seeds would be .75
    per_seed = [of(x="a b c", y="b c a"), of(x="b c a", y="a b c")]
    qrels, groups = {"x": {"a": 1}, "y": {"a": 1}}, {"x": "g", "y": "g"}
    minima = [measures.robustness(10, qrels, rankings, groups).per_unit["g"] for rankings in per_seed]
    assert minima == pytest.approx([0.5, 0.5])
    means = [np.mean([measures.query_measure("nDCG@10", qrels, r).per_unit[q] for r in per_seed]) for q in ("x", "y")]
    assert min(means) == pytest.approx(0.75)


# pairwise accuracy

AFTER = Opposite("q-after", "q-before", "q", "after", "before")


def test_pairwise_by_hand() -> None:
    qrels = {"q-after": {"s1": 1, "s2": 1, "both": 1, "no": 0}, "q-before": {"v": 1, "both": 1, "s2": 0, "none": 0}}
    rankings = of(**{"q-after": "s1 v s2 both", "q-before": "s2 v s1 both"})
    # after: s1 > v right, s2 > v wrong; before: v > s1 right, v > s2 wrong; pairs (s1, v) right, (s2, v) wrong
    result = measures.pairwise([AFTER], qrels, rankings)
    assert result.accuracy.per_unit == {"q": 0.5} and result.satisfying_over_violating.per_unit == {"q": 0.5}
    assert {d: r.per_unit for d, r in result.one_sided.items()} == {"after": {"q": 0.5}, "before": {"q": 0.5}}
    assert (result.num_pairs, result.accuracy_over_pairs, result.num_tied, result.num_undecided) == (2, 0.5, 0, 0)


def test_one_ranking_for_both_is_never_right_on_both_sides() -> None:
    qrels = {"q-after": {"s": 1}, "q-before": {"v": 1}}
    same = {q: rank(q, ["s", "v"], [1.0, 1.0]) for q in ("q-after", "q-before")}  # v wins by its id
    result = measures.pairwise([AFTER], qrels, same)
    assert result.accuracy.mean == 0.0 and result.satisfying_over_violating.mean == 0.5
    assert result.one_sided["after"].mean == 0.0 and result.one_sided["before"].mean == 1.0
    assert result.num_tied == 2


def test_explicit_pairs_are_not_multiplied_and_bases_weigh_the_same() -> None:
    pairs = (("s1", "v1"), ("s2", "v2"), ("s3", "v3"))
    wide = AFTER._replace(pairs=pairs)
    narrow = Opposite("p-after", "p-before", "p", "after", "before", (("s1", "v1"),))
    rankings = of(
        **{
            "q-after": "s1 v1 s2 v2 v3 s3",
            "q-before": "v1 s1 s2 v2 v3 s3",
            "p-after": "v1 s1",
            "p-before": "v1 s1",
        }
    )
    result = measures.pairwise([wide, narrow], {}, rankings)
    assert result.accuracy.per_unit == pytest.approx({"q": 1 / 3, "p": 0.0})
    assert result.accuracy.mean == pytest.approx(1 / 6) and result.accuracy_over_pairs == pytest.approx(1 / 4)
    assert result.one_sided["after"].per_unit == pytest.approx({"q": 2 / 3, "p": 0.0})
    assert result.one_sided["before"].per_unit == pytest.approx({"q": 2 / 3, "p": 1.0})


def test_several_opposites_of_one_base_keep_their_directions_apart() -> None:
    genre = Opposite("q-genre", "q-notgenre", "q", "genre", "notgenre", (("s", "v"),))
    rankings = of(**{"q-after": "s v", "q-before": "v s", "q-genre": "v s", "q-notgenre": "v s"})
    result = measures.pairwise([AFTER._replace(pairs=(("s", "v"),)), genre], {}, rankings)
    assert result.accuracy.per_unit == {"q": 0.5} and result.satisfying_over_violating.per_unit == {"q": 0.75}
    assert {d: r.per_unit["q"] for d, r in result.one_sided.items()} == {
        "after": 1.0,
        "before": 1.0,
        "genre": 0.0,
        "notgenre": 1.0,
    }


def test_pairwise_gaps() -> None:
    qrels = {"q-after": {"s": 1}, "q-before": {"v": 1}, "p-after": {"s": 1}}
    unpaired = Opposite("p-after", "p-before", "p", "after", "before")
    result = measures.pairwise([AFTER, unpaired], qrels, of(**{"q-after": "s v"}))
    assert result.accuracy.per_unit == {"q": 0.0} and result.accuracy.mean_present_only is None
    assert result.one_sided["after"].per_unit == {"q": 1.0} and result.one_sided["before"].per_unit == {"q": 0.0}
    assert result.accuracy.listed == {measures.MISSING: ("q-before",), measures.NO_PAIR: ("p-after / p-before",)}
    outside = measures.pairwise([AFTER], qrels, of(**{"q-after": "x", "q-before": "v"}))
    assert outside.num_undecided == 1 and outside.accuracy.mean == 0.0 and outside.one_sided["before"].mean == 1.0
    nowhere = measures.pairwise([AFTER], qrels, of(**{"q-after": "x", "q-before": "x"}))
    assert nowhere.num_undecided == 2 and {rate.mean for rate in nowhere.one_sided.values()} == {0.0}
    assert measures.pairwise([], {}, {}).accuracy_over_pairs is None


@settings(deadline=None, max_examples=100)
@given(st.permutations(list("abcdefgh")), st.permutations(list("abcdefgh")), st.integers(1, 8), st.integers(0, 8))
def test_implied_pairs_equal_a_double_loop(first: list[str], second: list[str], cut_1: int, cut_2: int) -> None:
    one, two = rank("c", first[:cut_1], range(cut_1, 0, -1)), rank("r", second[:cut_2], range(cut_2, 0, -1))
    qrels = {"c": {"a": 1, "b": 2, "c": 1, "d": 1}, "r": {"d": 1, "e": 1, "f": 1}}

    def place(docs: list[str], doc_id: str) -> int:
        return docs.index(doc_id) if doc_id in docs else len(docs)

    sides = [
        (place(first[:cut_1], s) < place(first[:cut_1], v), place(second[:cut_2], v) < place(second[:cut_2], s))
        for s in "abc"
        for v in "ef"
    ]
    result = measures.pairwise([Opposite("c", "r", "q", "x", "y")], qrels, {"c": one, "r": two})
    assert result.accuracy.per_unit["q"] == pytest.approx(np.mean([a and b for a, b in sides]))
    assert result.one_sided["x"].per_unit["q"] == pytest.approx(np.mean([a for a, _ in sides]))
    assert result.one_sided["y"].per_unit["q"] == pytest.approx(np.mean([b for _, b in sides]))
    assert result.num_pairs == 6 and result.num_tied == 0


def test_measures_import_neither_torch_nor_faiss() -> None:
    code = (
        "import sys, json; import ablate.evaluation.measures, ablate.evaluation.trec, ablate.retrieval.rankings; "
        "print(json.dumps([m for m in ('torch', 'faiss', 'transformers', 'lightning', 'pyarrow') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
