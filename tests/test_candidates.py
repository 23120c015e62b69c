"""Sets whose queries have their own candidates: only those are ranked, and anything else is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ablate.evaluation.scoring import evaluate, score_set
from ablate.evaluation.storage import read_evaluation, read_judgments, write_evaluation
from ablate.evaluation.summary import compare, format_table
from ablate.records import EvaluationQuery, EvaluationSet, Passage, UserError
from ablate.retrieval.exact import rerank, search
from ablate.retrieval.rankings import rank

DOCUMENTS = tuple(Passage(doc_id, f"document {doc_id}") for doc_id in "abcde")


class BestFirst:
    """Scores documents a to e by 5 to 1 for every query, or by 1 to 5 under the instruction `turn`."""

    def encode_queries(self, queries: Sequence[tuple[str, str]], *, progress: str | None = None) -> np.ndarray:
        up = np.arange(5, 0, -1, dtype=np.float32)
        return np.stack([up[::-1] if instruction == "turn" else up for _, instruction in queries])

    def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> np.ndarray:
        return np.eye(len(passages), dtype=np.float32)


SET = EvaluationSet(
    name="official",
    documents=DOCUMENTS,
    queries=(
        EvaluationQuery("1-og", "1", "text", "all", "original", "og"),
        EvaluationQuery("1-changed", "1", "text", "turn", "changed", "changed"),
    ),
    qrels={"1-og": {"c": 1, "d": 1}, "1-changed": {"d": 1, "c": 0}},
    changed_documents={"1-changed": ("c",)},
    opposites=(),
    candidates={"1-og": ("d", "b", "c"), "1-changed": ("b", "d", "c")},
    measures=("nDCG@5",),
    provenance={"data": "org/name@abc"},
)
NO_PLAIN = (
    "official: no instruction gain: the set poses no query without its instruction, so it is not known what ignoring "
    "the instructions gives, and no collapse can be seen"
)


def test_only_the_candidates_of_a_query_are_ranked() -> None:
    result = evaluate(BestFirst(), [SET], depth=1000)
    (original,), (changed,) = result.rankings["official", "original"], result.rankings["official", "changed"]
    assert original.doc_ids == ("b", "c", "d") and original.scores.tolist() == [4, 3, 2]
    assert changed.doc_ids == ("d", "c", "b")
    scores = {(score.measure, score.condition): score.value for score in result.scores}
    assert scores["p-MRR", "changed"] == 0  # rank 2 before and after; among all documents 3 and 3
    assert scores["AP@1000", "original"] == pytest.approx((1 / 2 + 2 / 3) / 2)  # among all documents (1/3 + 2/4) / 2
    assert scores["nDCG@5", "changed"] == 1
    assert result.counts["official"]["candidates"] == 6 and result.counts["official"]["documents"] == 5
    assert result.warnings == (NO_PLAIN,)  # a ranking as long as the lists is not too short


def test_each_query_has_its_own_list() -> None:
    shorter = replace(SET, candidates={"1-og": ("e", "a"), "1-changed": ("e", "d", "a")})
    result = evaluate(BestFirst(), [shorter], depth=2)
    assert result.rankings["official", "original"][0].doc_ids == ("a", "e")
    assert result.rankings["official", "changed"][0].doc_ids == ("e", "d")
    assert result.warnings == (NO_PLAIN, "official: rankings of depth 2 are shorter than the cut-off of AP@1000")


def test_scores_of_candidates_are_those_of_the_search() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    documents = generator.standard_normal((300, 16)).astype(np.float32)
    queries = generator.standard_normal((2, 16)).astype(np.float32)
    doc_ids = [f"d{place}" for place in range(300)]
    own = {"q0": doc_ids[::7], "q1": doc_ids[5:90]}
    everything = search(documents, queries, doc_ids, ["q0", "q1"], 300)
    for found, full in zip(rerank(documents, queries, doc_ids, ["q0", "q1"], own, 300), everything, strict=True):
        kept = [doc_id for doc_id in full.doc_ids if doc_id in own[full.query_id]]
        assert list(found.doc_ids) == kept
        assert np.array_equal(found.scores, full.scores_of(kept))
    with pytest.raises(UserError, match="query 'q0': candidate 'x' is not among the documents"):
        rerank(documents, queries, doc_ids, ["q0", "q1"], {"q0": ["x"], "q1": ["d1"]}, 10)
    with pytest.raises(UserError, match="query 'q1' has no candidates to rank"):
        rerank(documents, queries, doc_ids, ["q0", "q1"], {"q0": ["d1"]}, 10)
    with pytest.raises(UserError, match="depth is 0"):
        rerank(documents, queries, doc_ids, ["q0", "q1"], own, 0)


@pytest.mark.parametrize(
    ("candidates", "text"),
    [
        ({"1-og": ("b",)}, "query '1-changed' has no candidate list; .* is another benchmark"),
        ({"1-og": ("b",), "1-changed": ()}, "query '1-changed' has no candidate list"),
        ({**SET.candidates, "2": ("a",)}, "query '2' has candidates but is not among the queries"),
        ({**SET.candidates, "1-og": ("b", "b")}, "query '1-og': candidate 'b' is there twice or is not among"),
        ({**SET.candidates, "1-og": ("b", "x")}, "query '1-og': candidate 'x' is there twice or is not among"),
    ],
)
def test_lists_with_gaps_are_refused(candidates: dict[str, tuple[str, ...]], text: str) -> None:
    with pytest.raises(UserError, match=text):
        evaluate(BestFirst(), [replace(SET, candidates=candidates)], depth=10)


def test_rankings_of_the_whole_corpus_are_refused() -> None:
    union = [rank("1-og", list("abcde"), [5, 4, 3, 2, 1]), rank("1-changed", list("bcd"), [1, 2, 3])]
    with pytest.raises(UserError, match="query '1-og': document 'a' is ranked and is not one of its 3 candidates"):
        score_set(SET, union)


def test_candidates_are_part_of_the_digest() -> None:
    whole = "a\nb\nc\nd\ne\n"
    lists = "1-changed\tb\n1-changed\tc\n1-changed\td\n1-og\tb\n1-og\tc\n1-og\td\n"
    found = evaluate(BestFirst(), [SET], depth=10)
    assert found.candidates["official"] == hashlib.sha256((whole + lists).encode()).hexdigest()
    other_order = replace(SET, candidates={"1-changed": ("d", "c", "b"), "1-og": ("d", "b", "c")})
    assert evaluate(BestFirst(), [other_order], depth=10).candidates == found.candidates
    plain = evaluate(BestFirst(), [replace(SET, candidates=None)], depth=10)
    assert plain.candidates["official"] == hashlib.sha256(whole.encode()).hexdigest()
    assert "candidates" not in plain.counts["official"]
    with pytest.raises(UserError, match="the two evaluations ranked different documents"):
        compare(found, plain)


def test_further_measures_and_provenance_are_kept_and_shown(tmp_path: Path) -> None:
    result = evaluate(BestFirst(), [SET], depth=10)
    assert "nDCG@5: changed" in format_table(compare(result, result))
    write_evaluation(tmp_path, result)
    assert read_evaluation(tmp_path).provenance == {"official": {"data": "org/name@abc"}}
    bare = evaluate(BestFirst(), [replace(SET, measures=(), provenance={})], depth=10)
    assert "further measures" not in format_table(compare(bare, bare))
    write_evaluation(tmp_path, bare)
    assert "provenance" not in json.loads((tmp_path / "notes.json").read_text())
    usual = evaluate(BestFirst(), [replace(SET, measures=("nDCG@10",), provenance={})], depth=10)
    assert usual.scores == bare.scores  # a measure that is always there is not reported twice


def test_the_document_with_the_id_of_the_query_is_left_out() -> None:
    queries = tuple(EvaluationQuery(name, name, "text", "", "plain", "plain") for name in "az")
    one = EvaluationSet("own", DOCUMENTS, queries, {"a": {"b": 1}, "z": {"b": 1}}, {}, ())
    with_it = evaluate(BestFirst(), [one], depth=3).rankings["own", "plain"]
    assert [ranking.doc_ids for ranking in with_it] == [("a", "b", "c"), ("a", "b", "c")]
    found = evaluate(BestFirst(), [replace(one, own_documents={"a": "a", "z": "z"})], depth=3)
    assert [ranking.doc_ids for ranking in found.rankings["own", "plain"]] == [("b", "c"), ("a", "b", "c")]
    assert found.rankings["own", "plain"][0].scores.tolist() == [4, 3]
    assert [score.value for score in found.scores if score.measure == "RR@10"] == [1, 0.5]


def test_own_documents_are_left_out_of_imported_rankings_too_and_survive_their_file(tmp_path: Path) -> None:
    query = EvaluationQuery("a-og", "a", "text", "only", "original", "og")
    one = EvaluationSet("own", DOCUMENTS, (query,), {"a-og": {"b": 1}}, {}, (), own_documents={"a-og": "a"})
    scored = score_set(one, [rank("a-og", ["a", "b"], [2.0, 1.0])])
    assert [score.value for score in scored.scores if score.measure == "RR@10"] == [1]
    write_evaluation(tmp_path, scored)
    assert read_judgments(tmp_path)["own"].own_documents == {"a-og": "a"}
    plain = json.loads(gzip.decompress((tmp_path / "judgments.json.gz").read_bytes()))
    del plain["own"]["own_documents"]
    plain["own"]["without_own_id"] = True  # as earlier evaluations say it
    (tmp_path / "judgments.json.gz").write_bytes(gzip.compress(json.dumps(plain).encode()))
    assert read_judgments(tmp_path)["own"].own_documents == {"a-og": "a-og"}


def test_several_original_queries_of_a_base_are_fine_without_changed_ones() -> None:
    queries = tuple(EvaluationQuery(f"5_{n}", "5", "text", f"as {n}", "original", "instruction") for n in range(3))
    qrels = {"5_0": {"a": 1}, "5_1": {"b": 1}, "5_2": {"a": 1}}
    result = evaluate(BestFirst(), [EvaluationSet("many", DOCUMENTS, queries, qrels, {}, ())], depth=5)
    robust = [score.value for score in result.scores if score.measure == "Robustness@10"]
    assert robust == [pytest.approx(1 / np.log2(3))]  # the worst of 1, 1 / log2(3), 1
