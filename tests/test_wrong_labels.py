"""At which share of wrong labels a verdict ends: held against data whose labels are exchanged, and tested again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ablate.study.declaration import Claim
from analysis.stats.contrast_rows import contrast_rows
from analysis.stats.crossed import Options, crossed
from analysis.stats.families import Plan
from analysis.stats.label_errors import corrected, exchanged, most_telling
from analysis.stats.matrix import Cell, CellScores, ScoreTable
from analysis.verdict.judge import Judged, Judgement, asked_by, place_of
from analysis.verdict.rule import Level, claim_p, rule
from analysis.verdict.wrong_labels import WrongLabels, wrong_labels, wrong_labels_table

SEEDS, UNITS, PAIRS = 5, 150, 6
SIDES, ACCURACY = "satisfying over violating", "pairwise accuracy"


def decisions(better: float, number: int = 0) -> dict[str, Any]:
    """Return arm -> decisions of both queries of a pair (S, Q, pairs, 2): how often arm b is right above arm a."""
    random = np.random.default_rng(number)
    skill_Q = random.normal(0, 0.1, (1, UNITS, 1, 1))
    shape = (SEEDS, UNITS, PAIRS, 2)
    seeds = {arm: random.normal(0, 0.005, (SEEDS, 1, 1, 1)) for arm in "ab"}
    rates = {"a": 0.6 + skill_Q + seeds["a"], "b": 0.6 + better + skill_Q + seeds["b"]}
    return {arm: random.random(shape) < rate for arm, rate in rates.items()}


def table_of(decided: dict[str, Any]) -> ScoreTable:
    units = tuple(f"q{unit:03d}" for unit in range(UNITS))
    sides = {arm: right.mean(axis=(2, 3)) for arm, right in decided.items()}
    both = {arm: right.all(axis=3).mean(axis=2) for arm, right in decided.items()}
    place = ("d/test", "pairs", "both")
    cells = {Cell(*place, SIDES): CellScores(units, sides), Cell(*place, ACCURACY): CellScores(units, both)}
    cells[Cell(*place, "nDCG@10")] = CellScores(units, both)
    return ScoreTable("made", {arm: tuple("01234") for arm in decided}, cells)


def judged(decided: dict[str, Any], expects: Any = "greater", measure: str = SIDES, **more: Any) -> Judgement:
    table = table_of(decided)
    claim = Claim(
        name="c", says="so", contrast="b - a", dataset="d/test", condition="pairs", direction="both",
        measure=measure, expects=expects, **more,
    )  # fmt: skip
    plan = Plan(Options(), {} if claim.margin is None else {measure: claim.margin})
    (row,) = contrast_rows(table, [asked_by(claim, table)], plan)
    p, level = claim_p(claim, row.result), Level(0.05, 1)
    ruling = rule(claim, row, p, level)
    found = Judged(claim, False, row, True, p, p, level, ruling, ruling.verdict)
    return Judgement(None, table, (found,), [], "s", {})  # type: ignore[arg-type]


def labels_of(judgement: Judgement) -> WrongLabels:
    (labels,) = wrong_labels(judgement, {"d/test": 0})
    return labels


def flipped(decided: dict[str, Any], wrong: Any) -> dict[str, Any]:
    """Return the decisions under labels that are wrong where said (Q, pairs): those of both queries turn round."""
    return {arm: right ^ wrong[None, :, :, None] for arm, right in decided.items()}


def verdict_again(decided: dict[str, Any]) -> bool:
    values = {arm: right.mean(axis=(2, 3)) for arm, right in decided.items()}
    result = crossed(values, {"b": 1, "a": -1})
    return result.p < 0.05 and result.estimate > 0


def test_a_difference_is_lost_about_where_data_with_exchanged_labels_lose_it() -> None:
    decided = decisions(0.05)
    assert verdict_again(decided)
    lost = labels_of(judged(decided)).lost
    assert lost is not None and 0.05 < lost < 0.45
    random = np.random.default_rng(99)

    def kept(share: float) -> float:
        wrong = (random.random((200, UNITS, 1)) < share) & np.ones((1, 1, PAIRS), dtype=bool)
        return float(np.mean([verdict_again(flipped(decided, given)) for given in wrong]))

    assert kept(lost - 0.05) > 0.6 and kept(lost + 0.05) < 0.4


def test_the_scores_of_exchanged_labels_are_those_of_decisions_that_turn_round() -> None:
    decided = decisions(0.05)
    table, turned = table_of(decided), table_of(flipped(decided, np.ones((UNITS, PAIRS), dtype=bool)))
    for measure in (SIDES, ACCURACY):
        claim = judged(decided, measure=measure).claims[0].claim
        other = exchanged(table, place_of(table, claim), ["a", "b"])
        for arm in "ab":
            wanted = turned.cells[Cell("d/test", "pairs", "both", measure)].values_SQ[arm]
            np.testing.assert_allclose(other[arm][0], wanted, atol=1e-12)


@pytest.mark.parametrize("measure", [SIDES, ACCURACY])
def test_the_correction_gives_the_difference_of_right_labels_back(measure: str) -> None:
    """Pairs have wrong labels by chance, each by itself: the mean over draws of the corrected scores is the truth."""
    decided, random, share = decisions(0.08), np.random.default_rng(7), 0.2

    def difference(given: dict[str, Any], at: float) -> float:
        table = table_of(given)
        target = place_of(table, judged(decided, measure=measure).claims[0].claim)
        scored = {arm: [target.parts[0].values_SQ[arm]] for arm in "ab"}
        right = corrected(scored, exchanged(table, target, ["a", "b"]), at)
        return float(right["b"][0].mean() - right["a"][0].mean())

    draws = [flipped(decided, random.random((UNITS, PAIRS)) < share) for _ in range(200)]
    true = difference(decided, 0.0)
    assert np.mean([difference(given, share) for given in draws]) == pytest.approx(true, abs=0.004)
    seen = np.mean([difference(given, 0.0) for given in draws])
    if measure == SIDES:
        assert seen == pytest.approx((1 - 2 * share) * true, abs=0.003)
    assert seen < 0.8 * true


def test_errors_by_chance_make_no_difference_untrue_and_an_equivalence_at_the_share_that_is_worked_out() -> None:
    assert labels_of(judged(decisions(0.08))).untrue is None
    judgement = judged(decisions(0.0, 3), "equivalent", margin=0.06)
    row = judgement.claims[0].row
    assert row is not None and judgement.claims[0].ruling.verdict == "SUPPORTED"
    share = labels_of(judgement).untrue
    by_hand = (1 - max(map(abs, row.tost_ci)) / 0.06) / 2  # where the far end over 1 - 2 delta is the margin
    assert share is not None and by_hand <= share <= by_hand + 1 / 400


def test_an_equivalence_that_wrong_labels_made_is_untrue_below_their_share() -> None:
    """Arms that differ by more than the margin look alike where labels are wrong by chance in two of five."""
    decided, random = decisions(0.10, 5), np.random.default_rng(1)
    assert judged(decided, "equivalent", margin=0.06).claims[0].ruling.verdict == "REFUTED"
    seen = flipped(decided, random.random((UNITS, PAIRS)) < 0.4)
    judgement = judged(seen, "equivalent", margin=0.06)
    assert judgement.claims[0].ruling.verdict == "SUPPORTED"
    share = labels_of(judgement).untrue
    assert share is not None and 0 < share < 0.4


@pytest.mark.parametrize("expects", ["greater", "less"])
def test_the_worst_case_is_the_least_number_of_units_along_what_carries_most(expects: str) -> None:
    decided = decisions(0.08)
    judgement = judged(decided, expects)
    labels = labels_of(judgement)
    assert labels.worst_units is not None and labels.worst == labels.worst_units / UNITS
    values = {arm: right.mean(axis=(2, 3)) for arm, right in decided.items()}
    gains = (values["b"] - values["a"]).mean(axis=0)
    order = np.argsort(-gains, kind="stable")

    def holds(number: int) -> bool:
        wrong = np.zeros((UNITS, PAIRS), dtype=bool)
        wrong[order[:number]] = True
        return verdict_again(flipped(decided, wrong))

    assert holds(labels.worst_units - 1) and not holds(labels.worst_units)
    assert labels.lost is not None and labels.worst < labels.lost


def test_pairs_without_a_ranked_document_are_no_basis() -> None:
    (labels,) = wrong_labels(judged(decisions(0.08)), {"d/test": 3})
    assert labels.lost is None and labels.why_not.startswith("3 pair decisions have neither document ranked")


def test_of_a_macro_mean_a_unit_of_a_small_set_moves_more() -> None:
    scored = {"a": [np.zeros((2, 4)), np.zeros((2, 2))], "b": [np.full((2, 4), 0.9), np.full((2, 2), 0.8)]}
    other = {arm: [1 - values for values in sets] for arm, sets in scored.items()}
    order = most_telling(scored, other, {"b": 1, "a": -1}, rises=False)
    assert [number for number, _ in order] == [1, 1, 0, 0, 0, 0]
    assert most_telling(scored, other, {"b": 1, "a": -1}, rises=True) == []


@pytest.mark.parametrize(
    ("judgement", "why"),
    [
        (judged(decisions(0.08), measure="nDCG@10"), "what nDCG@10 would be under other labels does not follow from"),
        (judged(decisions(0.0, 3)), "the test decides nothing, so there is nothing to lose"),
    ],
)
def test_where_no_share_follows_none_is_printed(judgement: Judgement, why: str) -> None:
    labels = labels_of(judgement)
    assert labels.why_not.startswith(why) and labels.lost is labels.untrue is labels.worst is None
    table = wrong_labels_table([labels])
    assert table.rows == (("c", "–", "–", "–"),) and why in table.notes[-1]
