"""Our measures against pytrec_eval's and mteb's own code: equal where all of them are defined, and where they are not.

On clean input (every query ranked and judged, scores that float32 holds) values are equal to 1e-9, ties included; mteb
is compared where it is installed (`pip install .[mteb]`, written against 2.26.24; before 2.19.5 its p-MRR broke ties by
the order of insertion). The deliberate differences, each with a test here that shows both sides:

| case | pytrec_eval | mteb | ours |
|---|---|---|---|
| judged query not in the run | dropped | dropped; KeyError in Robustness and pairs | 0, stays in the mean, listed |
| ranked query without judgments | dropped | KeyError in MRR | ignored, listed |
| query with an empty judgment list | dropped | – | not judged, listed if ranked |
| empty ranking | 0 | 0 | 0, listed |
| empty ranking in p-MRR | – | every document has rank 1 | skipped, listed |
| NaN score | ranked, no error | ranked by the order of insertion | refused by query and document |
| document twice in a run file | assertion without a line | – (a dict: the last counts) | refused by file and line |
| scores equal in float32 only | tie | nDCG: tie; MRR, p-MRR: no tie (doubles) | tie in all measures |
| -0.0 and 0.0 | tie | tie | tie |
| RR beyond the cut-off | has no cut-off | 0 | 0 |
| p-MRR without any topic | – | ValueError of pandas | no value, with the reason |
| p-MRR, lists of unequal length | – | a value | the same value, and a warning |
| document twice among the changed | – | counts twice | counts twice; refused in a file |
| Robustness, group of one query | – | counts | left out, listed |
| Robustness, base id with `_` | – | groups by the part before the first `_` collide | groups are given |
| pairs with a third candidate | – | wrong if the third is first | only the two documents count |
| means | – | nDCG, AP, recall rounded to 5 digits | not rounded |
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
from conftest import extra
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.evaluation import measures
from ablate.evaluation.measures import Opposite
from ablate.evaluation.trec import read_changed_documents, read_run
from ablate.records import UserError
from ablate.retrieval.rankings import Ranking
from benchmarks import parity
from benchmarks.parity import LEVELS, TOLERANCE, Compared, Grades, Scores, Tally, rankings_of, trec_eval

pytestmark = [
    pytest.mark.extras,  # also where mteb is missing: without its part
    # Deprecations inside the packages that mteb imports.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def official() -> Any:
    return extra("mteb._evaluators.retrieval_metrics")


# equal on clean input

SCORE = st.one_of(st.sampled_from(LEVELS), st.floats(-1e6, 1e6, width=32))
DOCUMENT = st.integers(0, 14).map(str)
ONE_RUN = st.dictionaries(DOCUMENT, SCORE, min_size=1)
ONE_QREL = st.dictionaries(st.integers(0, 16).map(str), st.integers(-1, 4), min_size=1)
FEW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
FEWER = settings(FEW, max_examples=10 if parity.has_mteb() else 40)  # mteb's abstention curves are slow


def largest(compared: Iterator[Compared]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for peer, measure, ours, theirs in compared:
        tally = Tally()
        tally.add(ours, theirs)
        found[peer, measure] = tally.largest
    return found


def assert_equal(compared: Iterator[Compared], *expected_peers: str) -> None:
    found = largest(compared)
    assert {key: value for key, value in found.items() if not value <= TOLERANCE} == {}
    assert {peer for peer, _ in found} == {*expected_peers, *(["mteb"] if parity.has_mteb() else [])}


@FEWER
@given(st.lists(st.tuples(ONE_RUN, ONE_QREL), min_size=1, max_size=4))
def test_ndcg_ap_recall_and_rr(cases: list[tuple[dict[str, float], dict[str, int]]]) -> None:
    run = {f"g{place % 2}_{place}": scores for place, (scores, _) in enumerate(cases)}
    qrels = {f"g{place % 2}_{place}": grades for place, (_, grades) in enumerate(cases)}
    assert_equal(parity.query_measures(run, qrels), "formulas", "pytrec_eval")
    if len(cases) > 2:  # else every group has one query
        assert_equal(parity.robustness(run, qrels), "pytrec_eval")


@FEW
@given(st.lists(st.tuples(ONE_RUN, ONE_RUN, st.lists(DOCUMENT, min_size=1, max_size=5)), min_size=1, max_size=3))
def test_p_mrr(cases: list[tuple[dict[str, float], dict[str, float], list[str]]]) -> None:
    before, after = ({f"t{i}": case[side] for i, case in enumerate(cases)} for side in (0, 1))
    assert_equal(parity.p_mrr(before, after, {f"t{i}": case[2] for i, case in enumerate(cases)}), "formulas")


@FEW
@given(st.lists(st.tuples(SCORE, SCORE, SCORE, SCORE), min_size=1, max_size=4))
def test_pairwise_accuracy(cases: list[tuple[float, float, float, float]]) -> None:
    run: Scores = {}
    for place, (a, b, c, d) in enumerate(cases):
        run |= {f"p{place}_q1": {"x": a, "y": b}, f"p{place}_q2": {"y": c, "x": d}}
    qrels = {query_id: {"x" if query_id.endswith("q1") else "y": 1} for query_id in run}
    assert_equal(parity.pairwise(run, qrels), "pytrec_eval")


def test_the_random_cases_of_the_benchmark_agree() -> None:
    found = parity.tallies(15, seed=1)
    assert max(tally.largest for tally in found.values()) <= TOLERANCE
    assert {tally.num_cases for tally in found.values()} == {15}
    assert found["pytrec_eval", "nDCG@10"].num_values > 60


def test_the_comparison_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ties broken by ascending ids, every family differs from its peers."""

    def ascending(run: Scores) -> dict[str, Ranking]:
        orders = {q: sorted(scores, key=lambda d: (-scores[d], d)) for q, scores in run.items()}
        return {q: Ranking(q, tuple(order), np.zeros(len(order), np.float32)) for q, order in orders.items()}

    monkeypatch.setattr(parity, "rankings_of", ascending)
    run, qrels = {"g_1": {"a": 1.0, "z": 1.0, "b": 0.5}}, {"g_1": {"z": 1}}
    found = largest(parity.query_measures(run, qrels))
    far = {"nDCG@1": 1.0, "nDCG@10": 1 - 1 / math.log2(3), "AP@10": 0.5, "RR@10": 0.5, "RR@1000": 0.5, "recall@1": 1.0}
    for (_, name), difference in found.items():
        assert difference == pytest.approx(far.get(name, difference), abs=1e-12)
    assert all(("pytrec_eval", name) in found for name in far if name != "RR@10")
    lower = largest(parity.robustness({"g_1": run["g_1"], "g_2": run["g_1"]}, {"g_1": {"z": 1}, "g_2": {"z": 1}}))
    assert list(lower.values()) == pytest.approx([far["nDCG@10"]] * len(lower))
    moved = largest(parity.p_mrr({"t": {"a": 1.0, "b": 1.0}}, {"t": {"b": 1.0, "a": 0.0}}, {"t": ["a"]}))
    assert set(moved.values()) == {0.5}
    tally = Tally()
    tally.add({"q": 1.0}, {"q": 1.0, "r": 1.0})
    assert tally.largest == math.inf
    tally = Tally()
    tally.add({"q": 1.0}, {"q": math.nan})
    assert tally.largest == math.inf


def test_infinities_ids_beyond_ascii_and_negative_grades_as_in_pytrec_eval() -> None:
    run = {"q": {"z": math.inf, "é": math.inf, "𝄞": 1e300, "a": -math.inf, "b": 3}}
    for relevant in run["q"]:
        qrels = {"q": {relevant: 2, "b": -3, "outside": 1}}
        ours = measures.query_measures(["nDCG@10", "RR@1000"], qrels, rankings_of(run))
        theirs = trec_eval(run, qrels)["q"]
        assert ours["nDCG@10"].per_unit["q"] == pytest.approx(theirs["ndcg_cut_10"], abs=TOLERANCE)
        assert ours["RR@1000"].per_unit["q"] == pytest.approx(theirs["recip_rank"], abs=TOLERANCE)
    assert rankings_of(run)["q"].doc_ids == ("𝄞", "é", "z", "b", "a")


# the deliberate differences: the first column of the table above

ONE: Scores = {"q1": {"a": 2.0, "b": 1.0}}
BOTH: Grades = {"q1": {"a": 1}, "q2": {"a": 1}}


def mteb_means(official: Any, run: Scores, qrels: Grades) -> Any:
    return official.calculate_retrieval_scores(run, qrels, [1, 10])


def test_a_missing_query() -> None:
    assert list(trec_eval(ONE, BOTH)) == ["q1"]
    ours = measures.query_measure("nDCG@10", BOTH, rankings_of(ONE))
    assert ours.per_unit == {"q1": 1.0, "q2": 0.0} and ours.mean == 0.5 and ours.mean_present_only == 1.0
    assert ours.listed == {measures.MISSING: ("q2",)}


def test_a_missing_query_in_mteb(official: Any) -> None:
    found = mteb_means(official, ONE, BOTH)
    assert found.ndcg["NDCG@10"] == 1.0 and found.mrr["MRR@10"] == 1.0
    with pytest.raises(KeyError, match="q2"):
        official.robustness_at_10(BOTH, ONE, trec_eval(ONE, BOTH))
    assert measures.robustness(10, BOTH, rankings_of(ONE), {"q1": "g", "q2": "g"}).per_unit == {"g": 0.0}
    half: Scores = {"p_q1": {"a": 2.0, "b": 1.0}}
    qrels: Grades = {"p_q1": {"a": 1}, "p_q2": {"b": 1}}
    with pytest.raises(KeyError, match="p_q2"):
        official.paired_accuracy(qrels, half, trec_eval(half, qrels))
    ours = measures.pairwise([Opposite("p_q1", "p_q2", "p", "q1", "q2")], qrels, rankings_of(half)).accuracy
    assert ours.per_unit == {"p": 0.0} and ours.listed == {measures.MISSING: ("p_q2",)}


def test_a_query_without_judgments() -> None:
    run: Scores = ONE | {"stranger": {"a": 1.0}, "void": {"a": 1.0}}
    qrels: Grades = {"q1": {"a": 1}, "void": {}}
    assert list(trec_eval(run, qrels)) == ["q1"]
    ours = measures.query_measure("nDCG@10", qrels, rankings_of(run))
    assert ours.per_unit == {"q1": 1.0} and ours.listed == {measures.UNJUDGED: ("stranger", "void")}


def test_a_query_without_judgments_in_mteb(official: Any) -> None:
    with pytest.raises(KeyError, match="stranger"):
        official.mrr({"q1": {"a": 1}}, ONE | {"stranger": {"a": 1.0}}, [10])


def test_an_empty_ranking() -> None:
    run: Scores = {**ONE, "q2": {}}
    assert trec_eval(run, BOTH)["q2"]["ndcg_cut_10"] == 0
    ours = measures.query_measure("nDCG@10", BOTH, rankings_of(run))
    assert ours.mean == 0.5 and ours.listed == {measures.EMPTY: ("q2",)}


def test_an_empty_ranking_in_mteb(official: Any) -> None:
    assert official.mrr(BOTH, {**ONE, "q2": {}}, [10]) == {"MRR@10": [1.0, 0.0]}
    # in p-MRR the document has rank 1 of no documents, and falls to 2: +.5 for a topic that was not ranked at all
    assert official.calculate_pmrr({"t-og": {}}, {"t-changed": {"b": 1.0, "a": 0.0}}, {"t": ["a"]}) == 0.5
    ours = measures.p_mrr({"t": ["a"]}, rankings_of({"t": {}}), rankings_of({"t": {"b": 1.0, "a": 0.0}}))
    assert ours.mean is None and ours.listed == {measures.SKIPPED: ("t",)}


NAN: dict[str, float] = {"a": 1.0, "b": math.nan, "c": 0.5}


def test_a_nan() -> None:
    assert trec_eval({"q": NAN}, {"q": {"a": 1}})["q"]["recip_rank"] > 0  # some rank, and no error
    with pytest.raises(UserError, match="query 'q', document 'b': the score is NaN"):
        rankings_of({"q": NAN})


def test_a_nan_in_mteb(official: Any) -> None:
    orders = [dict.fromkeys(order, 0.0) | {d: NAN[d] for d in order} for order in ("abc", "bac", "cba")]
    assert len({official.get_rank_from_dict(scores, "a")[0] for scores in orders}) == 3
    assert len({official.mrr({"q": {"a": 1}}, {"q": scores}, [10])["MRR@10"][0] for scores in orders}) == 3


def test_a_document_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.run"
    path.write_text("q Q0 a 1 2 t\nq Q0 a 2 1 t\n")
    with path.open() as file, pytest.raises(AssertionError) as error:
        pytrec_eval.parse_run(file)
    assert "line" not in str(error.value)
    with pytest.raises(UserError, match="twice.run, line 2: query 'q': document 'a' is there twice"):
        read_run(path)


CLOSE: dict[str, float] = {"a": 1.0 + 1e-9, "b": 1.0}
"""Two scores that only doubles can tell apart: `a` first in doubles, `b` (the larger id) first in float32."""


def test_scores_that_float32_makes_equal() -> None:
    assert trec_eval({"q": CLOSE}, {"q": {"a": 1}})["q"]["recip_rank"] == 0.5
    assert measures.query_measure("RR@10", {"q": {"a": 1}}, rankings_of({"q": CLOSE})).per_unit == {"q": 0.5}


def test_scores_that_float32_makes_equal_in_mteb(official: Any) -> None:
    found = mteb_means(official, {"q": CLOSE, "other": {"a": 1.0}}, {"q": {"a": 1}, "other": {"a": 1}})
    assert found.mrr["MRR@1"] == 1.0 and found.all_scores["q"]["ndcg_cut_1"] == 0.0  # two rankings of one run
    assert official.get_rank_from_dict(CLOSE, "a")[0] == 1
    moved = {"b": 1.0, "a": 0.5}
    assert official.calculate_pmrr({"t-og": CLOSE}, {"t-changed": moved}, {"t": ["a"]}) == 0.5
    assert measures.p_mrr({"t": ["a"]}, rankings_of({"t": CLOSE}), rankings_of({"t": moved})).mean == 0.0


def test_two_zeros_tie() -> None:
    for scores in ({"a": 0.0, "b": -0.0}, {"a": -0.0, "b": 0.0}):
        assert trec_eval({"q": scores}, {"q": {"b": 1}})["q"]["recip_rank"] == 1.0
        assert rankings_of({"q": scores})["q"].doc_ids == ("b", "a")


def test_two_zeros_tie_in_mteb(official: Any) -> None:
    assert official.get_rank_from_dict({"a": 0.0, "b": -0.0}, "b")[0] == 1


def test_reciprocal_rank_beyond_the_cut() -> None:
    run: Scores = {"q": {f"d{place:02}": -float(place) for place in range(12)}}
    qrels: Grades = {"q": {"d10": 1}}
    assert trec_eval(run, qrels)["q"]["recip_rank"] == pytest.approx(1 / 11)
    assert measures.query_measure("RR@10", qrels, rankings_of(run)).per_unit == {"q": 0.0}
    assert measures.query_measure("RR@11", qrels, rankings_of(run)).per_unit == {"q": 1 / 11}


def test_p_mrr_without_a_topic_in_mteb(official: Any) -> None:
    with pytest.raises(ValueError, match="DataFrame"):
        official.calculate_pmrr({}, {}, {"t": ["a"]})
    ours = measures.p_mrr({"t": ["a"]}, {}, {})
    assert ours.mean is None and ours.reason.startswith("p-MRR has no value: no unit is left (1 skipped")


def test_p_mrr_out_of_unequal_lengths_in_mteb(official: Any) -> None:
    before, after = {"a": 3.0, "b": 2.0, "c": 1.0}, {"b": 1.0}  # z is in neither: ranks 4 and 2
    assert official.calculate_pmrr({"t-og": before}, {"t-changed": after}, {"t": ["z"]}) == -0.5
    ours = measures.p_mrr({"t": ["z"]}, rankings_of({"t": before}), rankings_of({"t": after}))
    assert ours.mean == -0.5 and "topic 't'" in ours.warnings[0]


def test_a_changed_document_twice(tmp_path: Path) -> None:
    path = tmp_path / "changed.json"
    path.write_text('{"t": ["a", "a", "b"]}')
    with pytest.raises(UserError, match="query 't': document 'a' is there twice"):
        read_changed_documents(path)


def test_a_changed_document_twice_in_mteb(official: Any) -> None:
    before, after = {"a": 2.0, "b": 1.0}, {"b": 2.0, "a": 1.0}  # a falls: +.5; b rises: -.5
    theirs = official.calculate_pmrr({"t-og": before}, {"t-changed": after}, {"t": ["a", "a", "b"]})
    ours = measures.p_mrr({"t": ["a", "a", "b"]}, rankings_of({"t": before}), rankings_of({"t": after}))
    assert ours.mean == pytest.approx(0.5 / 3) == theirs


def test_groups_of_ids_with_underscores_in_mteb(official: Any) -> None:
    run: Scores = {"film_1_og": {"a": 1.0}, "film_2_og": {"b": 2.0, "a": 1.0}}
    run |= {"film_1_new": {"a": 1.0}, "film_2_new": {"b": 2.0, "a": 1.0}}  # two base queries, two instructions each
    qrels: Grades = {query_id: {"a": 1} for query_id in run}
    second = 1 / math.log2(3)
    assert official.robustness_at_10(qrels, run, trec_eval(run, qrels)) == pytest.approx(second)  # one group, `film`
    groups = {query_id: query_id[:6] for query_id in run}
    assert measures.robustness(10, qrels, rankings_of(run), groups).mean == pytest.approx((1 + second) / 2)


def test_pairs_with_a_third_candidate_in_mteb(official: Any) -> None:
    run: Scores = {"p_q1": {"x": 2.0, "y": 1.0, "third": 3.0}, "p_q2": {"x": 1.0, "y": 2.0}}
    qrels: Grades = {"p_q1": {"x": 1}, "p_q2": {"y": 1}}
    assert official.paired_accuracy(qrels, run, trec_eval(run, qrels)) == 0.0
    ours = measures.pairwise([Opposite("p_q1", "p_q2", "p", "q1", "q2")], qrels, rankings_of(run)).accuracy
    assert ours.mean == 1.0


def test_mteb_rounds_its_means(official: Any) -> None:
    run: Scores = {"q1": {"a": 2.0, "b": 1.0}, "q2": {"b": 2.0, "a": 1.0}}
    found = mteb_means(official, run, BOTH)
    assert found.ndcg["NDCG@10"] == round((1 + 1 / math.log2(3)) / 2, 5)
    ours = measures.query_measure("nDCG@10", BOTH, rankings_of(run)).mean
    assert ours == pytest.approx((1 + 1 / math.log2(3)) / 2, abs=1e-12) and ours != found.ndcg["NDCG@10"]


# what mteb does since 2.19.5, and its whole FollowIR path


def test_mteb_breaks_ties_of_p_mrr_by_id_whatever_the_order(official: Any) -> None:
    tied = {document: 1.0 for document in "abcde"}
    found = set()
    for seed in range(5):
        shuffled = dict(random.Random(seed).sample(sorted(tied.items()), len(tied)))
        found.add(official.get_rank_from_dict(shuffled, "b")[0])
    assert found == {4} and rankings_of({"t": tied})["t"].ranks_of(["b"]).tolist() == [4]


def test_the_whole_followir_evaluation_of_mteb(official: Any) -> None:
    rng = np.random.default_rng(3)
    ids = [str(number) for number in range(30)]
    sides = ("og", "changed")
    run = {
        f"{t}-{side}": dict(zip(ids, rng.normal(size=30).round(1).tolist(), strict=True))
        for t in range(4)
        for side in sides
    }
    qrels = {query_id: dict(zip(ids, rng.integers(0, 3, 30).tolist(), strict=True)) for query_id in run}
    lost = {str(t): rng.choice(ids, 4, replace=False).tolist() for t in range(4)}
    theirs = official.evaluate_p_mrr_change(qrels, run, lost, [1, 5, 10, 1000])

    from analysis.external.scored import Side, score_pair

    names = {"nDCG@5": "ndcg_at_5", "AP@1000": "map_at_1000", "RR@10": "mrr_at_10", "recall@10": "recall_at_10"}
    both = Side(qrels, rankings_of({q: {d: float(np.float32(s)) for d, s in row.items()} for q, row in run.items()}))
    ours = score_pair(both, both, lost, list(names))
    assert ours.overall["p-MRR"].mean == pytest.approx(theirs["p-MRR"], abs=TOLERANCE)
    for part, side in (("original", "og"), ("changed", "changed")):
        for name, key in names.items():
            assert ours.parts[part][name].mean == pytest.approx(theirs[side][key], abs=5.1e-6)  # mteb rounds
