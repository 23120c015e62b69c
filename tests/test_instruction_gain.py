"""Instruction gain by its formula, collapses over seeds, and evaluations that were scored before it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import override, run_config
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_study import GAIN, NDCG, PMRR, Arm, make_quick, make_study

from ablate.engine import stages
from ablate.evaluation import measures
from ablate.evaluation.again import completed, score_again
from ablate.evaluation.rankers import Random
from ablate.evaluation.scoring import rank_and_score
from ablate.evaluation.storage import read_evaluation, read_judgments, write_evaluation
from ablate.evaluation.summary import Evaluation
from ablate.recipe.identity import SCORING, scoring_of, without_scoring
from ablate.recipe.values import digest
from ablate.records import EvaluationQuery, EvaluationSet, Passage, UserError
from ablate.retrieval.rankings import rank
from ablate.run import execute
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore
from analysis.collect import main as collect_main
from analysis.significance import main as significance_main
from analysis.stats.collapse import collapses
from analysis.stats.matrix import Cell, CellScores, ScoreTable
from analysis.study.evidence import Evidence
from analysis.study.recomputed import disagreement, rescored

SCORES = st.dictionaries(st.integers(0, 14).map(str), st.integers(-3, 3).map(float), min_size=1)
GRADES = st.dictionaries(st.integers(0, 18).map(str), st.integers(-1, 3), min_size=1)


def slow_ndcg(scores: Mapping[str, float], grades: Mapping[str, int]) -> float:
    ranked = sorted(scores, key=lambda doc_id: (scores[doc_id], doc_id), reverse=True)[:10]
    best = sorted((max(grade, 0) for grade in grades.values()), reverse=True)[:10]
    gained = [max(grades.get(doc_id, 0), 0) for doc_id in ranked]
    sums = [sum(grade / math.log2(place + 2) for place, grade in enumerate(grades)) for grades in (gained, best)]
    return sums[0] / sums[1] if sums[1] else 0.0


@settings(deadline=None, max_examples=200)
@given(SCORES, SCORES, GRADES)
def test_the_gain_is_the_difference_of_two_ndcg_by_the_same_judgments(
    own: dict[str, float], blind: dict[str, float], grades: dict[str, int]
) -> None:
    rankings = [{"q": rank("q", list(scores), list(scores.values()))} for scores in (own, blind)]
    result = measures.instruction_gain({"q": grades}, *rankings)
    assert result.per_unit == {"q": pytest.approx(slow_ndcg(own, grades) - slow_ndcg(blind, grades), abs=1e-12)}


def test_gaps_of_the_gain() -> None:
    full, empty = rank("q", ["a"], [1.0]), rank("q", [], [])
    blind = {"lost": full, "kept": full, "bare": empty}
    result = measures.instruction_gain(
        {"lost": {"a": 1}, "kept": {"a": 1}, "bare": {"a": 1}, "none": {"a": 1}, "unjudged": {}}, {"kept": full}, blind
    )
    assert result.per_unit == {"lost": -1.0, "kept": 0.0} and result.absent == {"lost"}
    assert result.listed == {"skipped: without one of the rankings": ("bare", "none")}
    assert measures.range_of("instruction gain") == (-1, 1) and measures.parse("instruction gain").cutoff is None


# over seeds


def table(p_mrr: np.ndarray, gain: np.ndarray | None) -> ScoreTable:
    """Scores (seeds, queries) of one arm under one instruction."""
    place = ("d", "changed", "after")
    units = tuple(f"q{number}" for number in range(p_mrr.shape[1]))
    cells = {Cell(*place, "p-MRR"): CellScores(units, {"a": p_mrr})}
    if gain is not None:
        cells[Cell(*place, "instruction gain")] = CellScores(units, {"a": gain})
    return ScoreTable("t", {"a": tuple(map(str, range(len(p_mrr))))}, cells)


def wavy(mean: float, by_seed: float = 0.0, num_seeds: int = 5) -> np.ndarray:
    queries = 0.1 * (-1.0) ** np.arange(30)
    seeds = by_seed * np.linspace(-1, 1, num_seeds)
    return mean + seeds[:, None] + np.broadcast_to(queries, (num_seeds, 30))


@pytest.mark.parametrize(
    ("p_mrr", "gain", "fixed", "verdict"),
    [
        (wavy(0.5), wavy(-0.2), False, "collapse"),
        (wavy(0.5), wavy(-0.2, by_seed=0.5), False, "not decided"),  # in some seeds it follows
        (wavy(0.5)[:1], wavy(-0.2)[:1], False, "collapse"),  # one run: an interval over its queries
        (wavy(0.5)[:1], wavy(-0.02)[:1], True, "not decided"),
        (wavy(0.5)[:1, :1], wavy(-0.2)[:1, :1], False, "not decided"),  # one query has no interval
        (wavy(0.001), wavy(-0.2), False, None),  # a p-MRR that may be 0 claims no following
        (wavy(0.5), wavy(0.2), False, None),
        (wavy(-0.5), wavy(-0.2), False, None),
        (wavy(0.5), None, False, None),
    ],
)
def test_a_collapse_over_seeds(p_mrr: np.ndarray, gain: np.ndarray | None, fixed: bool, verdict: str | None) -> None:
    named = collapses(table(p_mrr, gain), {"a"} if fixed else (), ["a"])
    assert [collapsed.verdict for collapsed in named] == ([] if verdict is None else [verdict])
    if verdict == "collapse" and len(p_mrr) > 1:
        assert "% intervals over queries and 5 seeds" in named[0].why
    assert all(collapsed.remark[0] == "a" and str(collapsed.cell) in collapsed.remark[2] for collapsed in named)


def test_collapses_stand_above_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    kept = {NDCG: 0.0, PMRR: 0.0, GAIN: 0.0}
    make_study(tmp_path, {"a": Arm(shift=kept), "b": Arm({"instructed": 1.0}, {**kept, GAIN: -0.6})})
    words = "p-MRR on d/test (changed: after): p-MRR x 100 is +"
    assert collect_main(["s", "--results", str(tmp_path), "--out", str(tmp_path / "s.csv.parquet")]) == 0
    shown = capsys.readouterr().out
    assert f"COLLAPSE: b, {words}" in shown and "COLLAPSE: a" not in shown
    assert shown.index("COLLAPSE: b") < shown.index("d/test  nDCG@10")
    study, file = ["s", "--results", str(tmp_path)], ["--scores", str(tmp_path / "s.csv.parquet")]
    for source in (study, file):
        assert significance_main([*source, "--contrast", "b - a"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert f"| b | COLLAPSE | {words}" in shown and shown.index("| COLLAPSE |") < shown.index("**Contrasts of")
        assert significance_main([*source, "--contrast", "a - b", "--measure", "p-MRR"]) == 0
        assert "so a collapse cannot be seen" not in capsys.readouterr().out


# scored before there was an instruction gain


def toy() -> EvaluationSet:
    posed = (("", "", "plain", "plain"), ("-og", "any", "original", "og"), ("-red", "red", "changed", "red"))
    queries = [
        EvaluationQuery(f"{base}{end}", base, "fish", words, condition, direction)  # type: ignore[arg-type]
        for base in "pqr"
        for end, words, condition, direction in posed
    ]
    return EvaluationSet(
        "toy/test",
        tuple(Passage(doc_id, doc_id) for doc_id in "abcd"),
        tuple(queries),
        {
            f"{base}{end}": {doc_id: 1 for doc_id in good}
            for base in "pqr"
            for end, good in (("-og", "ab"), ("-red", "a"))
        },
        {f"{base}-red": ("b",) for base in "pqr"},
        (),
    )


def without_gain(evaluation: Evaluation) -> Evaluation:
    kept = tuple(score for score in evaluation.scores if score.measure != "instruction gain")
    return dataclasses.replace(evaluation, scores=kept)


def record(store: ResultStore, arm: str, evaluation: Evaluation, recipe: Mapping[str, Any], seed: int = 0) -> Manifest:
    folder = store.folder("evaluation", digest(recipe))
    folder.mkdir(parents=True)
    return store.complete(
        "evaluation",
        recipe,
        files=write_evaluation(folder, evaluation),
        parents=(),
        seed=seed,
        label=f"s/{arm}",
        counts={"scores": len(evaluation.scores), "candidates": evaluation.candidates},
        hardware={},
        cost={},
        started="2026-01-01T00:00:00+00:00",
    )


def recipe_of(arm: str, seed: int, **scoring: int) -> dict[str, Any]:
    return {"stage": "evaluation", "train": arm, "seed": seed, "evaluation": {"depth": 4}, **scoring}


def test_older_scores_of_plain_queries_alone_lack_nothing(tmp_path: Path) -> None:
    now = rank_and_score(Random(0), [toy()], depth=4)
    plain = dataclasses.replace(now, scores=tuple(score for score in now.scores if score.condition == "plain"))
    record(ResultStore(tmp_path), "old", plain, recipe_of("old", 0))
    assert Evidence(tmp_path, "s").before_gain == () and not Evidence(tmp_path, "s").remarks


def test_an_older_evaluation_is_read_and_said_to_lack_the_gain(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    now = rank_and_score(Random(0), [toy()], depth=4)
    assert sum(score.measure == "instruction gain" for score in now.scores) == 6
    record(store, "new", now, recipe_of("new", 0, scoring=SCORING))
    older = record(store, "old", without_gain(now), recipe_of("old", 0))
    evidence = Evidence(tmp_path, "s")
    assert [run.arm for run in evidence.before_gain] == ["old"]
    assert evidence.remarks[-1].startswith("NO INSTRUCTION GAIN: old (0): measured before instruction gain; run again")
    assert "instruction gain" not in {cell.measure for cell in evidence.table.cells}  # the arms have the same units
    assert {cell.measure for cell in evidence.table.cells} >= {"nDCG@10", "p-MRR"}
    both = rescored(store, older)
    assert disagreement(both) == "" and both.num_new == 6

    record(store, "old", now, recipe_of("old", 0, scoring=SCORING))
    evidence = Evidence(tmp_path, "s")  # the version that has it counts, and the other one is no second recipe
    assert evidence.before_gain == () and not evidence.remarks and evidence.lacks_gain == ""
    assert "instruction gain" in {cell.measure for cell in evidence.table.cells}
    newer = store.by_arm("evaluation", "s")["old", 0]
    assert scoring_of(newer.recipe) == SCORING and rescored(store, newer).num_new == 0
    with pytest.raises(UserError, match="two recipes share a name"):
        record(store, "old", now, {**recipe_of("old", 0, scoring=SCORING), "train": "other"})
        store.by_arm("evaluation", "s")


def test_gains_that_were_changed_or_left_out_are_seen(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    now = rank_and_score(Random(0), [toy()], depth=4)
    left_out = record(store, "a", without_gain(now), recipe_of("a", 0, scoring=SCORING))
    assert "6 scores are missing that rankings and judgments give (instruction gain of p-og" in disagreement(
        rescored(store, left_out)
    )
    changed = [s._replace(value=s.value + (s.measure == "instruction gain") * 0.1) for s in now.scores]
    other = record(store, "b", dataclasses.replace(now, scores=tuple(changed)), recipe_of("b", 0, scoring=SCORING))
    assert "6 of 30 scores are not what rankings and judgments give" in disagreement(rescored(store, other))


def test_scored_again_it_keeps_what_was_said_of_it() -> None:
    now = rank_and_score(Random(0), [toy()], depth=4)
    before = dataclasses.replace(
        without_gain(now),
        warnings=("toy/test: mind this", *now.warnings),
        counts={"toy/test": {**now.counts["toy/test"], "dimensions": 3}},
        listed={"toy/test": {"odd": ("q",), **now.listed["toy/test"]}},
        provenance={"toy/test": {"data": "here"}},
    )
    after = completed(before, now.sets)
    assert after.scores == now.scores == score_again(before, now.sets).scores
    assert (after.warnings, after.counts, after.listed) == (before.warnings, before.counts, before.listed)
    assert after.provenance == before.provenance and after.rankings == now.rankings


TINY = (
    "model=tiny",
    "source.documents=600",
    "evaluation.sets=[test]",
    "tracker=none",
    "runtime.threads=1",
    "runtime.study=s",
)


def test_a_run_adds_the_gain_to_an_older_evaluation_without_ranking_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(tmp_path)
    config = run_config("+experiment=bm25_instruction", *TINY, override("runtime.results", tmp_path))
    execute(config)
    first = store.by_arm("evaluation", "s")["bm25_instruction", 0]
    folder = store.folder("evaluation", first.id)
    whole = dataclasses.replace(read_evaluation(folder, with_rankings=True), sets=read_judgments(folder))
    assert any(score.measure == "instruction gain" for score in whole.scores)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    older = record(store, "bm25_instruction", without_gain(whole), without_scoring(first.recipe))
    monkeypatch.setattr(stages, "open_ranker", lambda *_: pytest.fail("it ranks again"))
    execute(config)
    again = store.by_arm("evaluation", "s")["bm25_instruction", 0]
    assert again.id == first.id and again.counts["scored_again_from"] == older.id
    assert read_evaluation(store.folder("evaluation", again.id)).scores == whole.scores
    assert again.content_sha256 == first.content_sha256
