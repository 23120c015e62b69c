"""What a test says of a claim, by hand-made rows: signs, borders, family, guards, and how large a new study must be."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from scipy import stats
from scipy.special import stdtr

from ablate.study.declaration import Claim
from analysis.stats.contrast import ContrastRow, Guard
from analysis.stats.crossed import Estimate
from analysis.stats.matrix import Cell
from analysis.stats.power import MOST_SEEDS, MOST_UNITS, Parts, outlook, power
from analysis.verdict.rule import Level, Size, needed, rule

NDCG, PMRR = Cell("d", "changed", "after", "nDCG@10"), Cell("d", "changed", "after", "p-MRR")
ORIGINAL = NDCG._replace(condition="original", direction="original")


PARTS = (0.0004, 0.0009, 0.0001)  # of seeds, queries and the residual, with 5 seeds and 20 queries


def estimated(value: float, se: float = 0.01, df: float = 20.0, v: tuple[float, float, float] = PARTS) -> Estimate:
    """Return an estimate with its two-sided p; the variance parts are of seeds, queries and the residual."""
    p = 2 * float(stats.t.sf(abs(value) / se, df))
    half = float(stats.t.ppf(0.975, df)) * se
    return Estimate(value, se, df, p, (value - half, value + half), *v, 0.5, False, 0.05)


def exact(value: float) -> Estimate:
    """Return an estimate of scores without any spread."""
    return Estimate(value, 0.0, None, float(value == 0), (value, value), 0.0, 0.0, 0.0, 0.0, True, 0.05)


def row_of(result: Estimate, **changes: Any) -> ContrastRow:
    values: dict[str, Any] = dict(
        label="b - a",
        weights={"b": 1.0, "a": -1.0},
        cell=NDCG,
        unit="query",
        num_units=20,
        num_sets=1,
        num_seeds={"b": 5, "a": 5},
        means={},
        seed_means={},
        deterministic=frozenset(),
        result=result,
        status="confirmatory",
        smallest_detectable=None,
        relative_change=None,
        standardised=None,
        p_new_wins=None,
        wins=0,
        ties=0,
        losses=0,
        checkpoints=result,
        p_sign_flip=1.0,
        query_set=None,
        margin=None,
        tost_p=None,
        population="Of new queries and seeds.",
    )
    return ContrastRow(**{"tost_ci": result.interval(0.9), **values, **changes})


def claimed(expects: Any, margin: float | None = None, measure: str = "nDCG@10") -> Claim:
    return Claim(
        name="c",
        says="so",
        contrast="b - a",
        dataset="d",
        condition="changed",
        direction="after",
        measure=measure,
        expects=expects,
        margin=margin,
    )


def said(claim: Claim, result: Estimate, p_holm: float, alpha: float = 0.05, family: int = 1) -> tuple[str, str]:
    return tuple(rule(claim, row_of(result), p_holm, Level(alpha, family)))  # type: ignore[return-value]


@pytest.mark.parametrize("size", [0.004, 3.0])
@pytest.mark.parametrize(("expects", "sign"), [("greater", 1), ("less", -1)])
def test_the_sign_of_a_difference_decides_whatever_its_size(expects: str, sign: int, size: float) -> None:
    result = estimated(sign * size, se=size / 10)
    assert said(claimed(expects), result, 0.049)[0] == "SUPPORTED"
    assert said(claimed(expects), result, 0.05)[0] == "UNDECIDED"  # below alpha, not at it
    opposite = dataclasses.replace(result, estimate=-result.estimate)
    assert said(claimed(expects), opposite, 0.049)[0] == "REFUTED"
    assert said(claimed(expects), opposite, 0.05)[0] == "UNDECIDED"


def test_who_is_spoken_of_stands_beside_a_difference_and_not_beside_an_equivalence() -> None:
    result = estimated(0.03)
    _, reason = said(claimed("greater"), result, 0.01)
    assert reason == ("it is greater (+0.0300 [0.0091, 0.0509], Holm p .0100 below 0.05). Of new queries and seeds")
    for expects, begins in (("equivalent", "the difference lies within ±0.1"), ("not_worse", "it is not worse by 0.1")):
        verdict, reason = said(claimed(expects, 0.1), result, 0.01)
        assert verdict == "SUPPORTED" and reason.startswith(begins) and "Of new queries" not in reason


def test_a_difference_that_counts_as_none_refutes_at_alpha_over_the_family() -> None:
    result, claim = estimated(0.0, se=0.02), claimed("greater", 0.05)
    p = result.tost(0.05)
    assert said(claim, result, 1.0, alpha=p * 1.001)[0] == "REFUTED"
    assert said(claim, result, 1.0, alpha=p)[0] == "UNDECIDED"
    assert said(claim, result, 1.0, alpha=2 * p)[0] == "REFUTED"
    assert said(claim, result, 1.0, alpha=2 * p, family=3)[0] == "UNDECIDED"
    verdict, reason = said(claimed("greater"), result, 1.0, alpha=0.2)  # no margin, so nothing counts as none
    assert verdict == "UNDECIDED" and "(0.0000 [-0.0417, 0.0417]); " in reason


def test_an_equivalence_is_refuted_beyond_the_margin_on_either_side_with_twice_the_p() -> None:
    for sign in (1, -1):
        result, claim = estimated(sign * 0.08), claimed("equivalent", 0.05)
        p = 2 * float(stats.t.sf((0.08 - 0.05) / 0.01, 20))
        assert said(claim, result, 1.0, alpha=p * 1.001)[0] == "REFUTED"
        assert said(claim, result, 1.0, alpha=p * 0.999)[0] == "UNDECIDED"
        assert said(claim, result, 1.0, alpha=1.9 * p, family=2)[0] == "UNDECIDED"
        verdict, reason = said(claim, result, 1.0, alpha=0.1)
        assert verdict == "REFUTED" and f"p {p:.4f}".replace("0.", ".") in reason
    above = estimated(0.08)
    assert said(claimed("equivalent", 0.05), above, 1.0, alpha=2 * above.upper_tail(0.05))[0] == "UNDECIDED"


def test_not_worse_is_refuted_by_a_loss_beyond_the_margin_alone() -> None:
    claim, result = claimed("not_worse", 0.05), estimated(-0.08)
    p = float(stats.t.sf((0.08 - 0.05) / 0.01, 20))
    assert said(claim, result, 1.0, alpha=p * 1.001)[0] == "REFUTED"
    assert said(claim, result, 1.0, alpha=p * 0.999)[0] == "UNDECIDED"
    assert said(claim, result, 1.0, alpha=float(stdtr(20, (-0.08 + 0.05) / 0.01)))[0] == "UNDECIDED"
    assert said(claim, estimated(0.5), 1.0)[0] == "UNDECIDED"  # far better, and its own test says nothing here


@pytest.mark.parametrize(
    ("expects", "margin", "value", "p_holm", "verdict", "words"),
    [
        ("greater", None, 0.0, 1.0, "UNDECIDED", "agree exactly, so no error"),
        ("greater", None, 0.2, 0.0, "UNDECIDED", "differ by one constant amount, so no error"),
        ("greater", 0.01, 1.0, 0.0, "UNDECIDED", "differ by one constant amount, so no error"),
        ("equivalent", 0.01, -1.0, 0.0, "UNDECIDED", "differ by one constant amount, so no error"),
        ("equivalent", 0.01, 0.0, 0.0, "SUPPORTED", "agree exactly, no error could be estimated: it covers these runs"),
        ("not_worse", 0.01, 0.0, 0.0, "SUPPORTED", "agree exactly, no error could be estimated: it covers these runs"),
        ("less", 0.01, 0.0, 1.0, "REFUTED", "agree exactly, no error could be estimated: it covers these runs"),
    ],
)
def test_scores_without_spread_say_that_arms_agree_and_nothing_else(
    expects: str, margin: float | None, value: float, p_holm: float, verdict: str, words: str
) -> None:
    found, reason = said(claimed(expects, margin), exact(value), p_holm)
    assert found == verdict and words in reason


# p-MRR with nDCG beside it


LOSES = ": the model loses what it should keep"


def guard(value: float, p: float | None, cell: Cell = NDCG, se: float = 0.01) -> Guard:
    estimate = estimated(value, se)
    return Guard(cell, estimate, None if p is None else 0.05, p, estimate.interval(0.9))


def guarded(*guards: Guard, alpha: float = 0.05, expects: str = "greater") -> tuple[str, str]:
    row = row_of(estimated(0.1), cell=PMRR, guards=guards)
    return tuple(rule(claimed(expects, measure="p-MRR"), row, 0.01, Level(alpha, 1)))  # type: ignore[return-value]


def test_ndcg_that_is_lower_or_may_be_lower_takes_a_higher_p_mrr_back() -> None:
    assert guarded(guard(0.01, 0.001))[0] == "SUPPORTED"
    verdict, reason = guarded(guard(-0.03, 0.2))
    assert verdict == "UNDECIDED" and "nDCG@10 on d (changed: after) is -0.0300 (cannot exclude worse by 0.05" in reason
    assert guarded(guard(-0.03, 0.001))[0] == "SUPPORTED"  # lower, and within what counts as no loss
    assert reason.endswith(LOSES) and guarded(guard(-3.0, None, se=0.1))[1].endswith(LOSES)
    assert not guarded(guard(-0.001, 0.2))[1].endswith(LOSES)  # not significantly lower
    assert not guarded(guard(0.03, 0.2))[1].endswith(LOSES)  # significantly higher is no loss
    assert guarded(guard(0.5, None, se=0.1))[0] == "UNDECIDED"
    assert guarded(expects="less")[0] == "REFUTED"  # no guard is asked for a p-MRR that is said to be lower


def test_the_borders_of_a_guard_are_those_of_the_claim() -> None:
    lower = guard(-0.02, 0.2)
    p = lower.estimate.p
    assert [guarded(lower, alpha=alpha)[1].endswith(LOSES) for alpha in (p * 1.01, p)] == [True, False]
    assert guarded(guard(0.0, 0.04), alpha=0.041)[0] == "SUPPORTED"
    assert guarded(guard(0.0, 0.04), alpha=0.04)[0] == "UNDECIDED"
    at = dataclasses.replace(guard(-0.5, 0.04), p=0.04)  # surely lower, and at alpha not surely within the margin
    assert guarded(at, alpha=0.04)[1].endswith(LOSES)


def test_only_ndcg_under_the_changed_instruction_can_be_lost_and_every_one_must_be_kept() -> None:
    lower_elsewhere = guard(-0.03, 0.2, ORIGINAL)
    verdict, reason = guarded(guard(0.01, 0.001), lower_elsewhere)
    assert (
        verdict == "UNDECIDED"
        and "nDCG@10 on d (original" in reason
        and "so a loss of documents cannot be excl" in reason
    )
    assert "a loss may hide" in guarded(guard(0.01, 0.001, ORIGINAL))[1]
    verdict, reason = guarded(guard(0.01, 0.001), guard(0.02, 0.001, ORIGINAL))
    assert verdict == "SUPPORTED" and reason.count("not worse by 0.05 or more") == 2
    assert reason.endswith(". Of new queries and seeds")


# how large a new study must be


def parts_of(row: ContrastRow, factor: float) -> Parts:
    return Parts.of_test(row.result, [1.0, -1.0], 5, row.num_units).times(factor)


def found_with(row: ContrastRow, factor: float, distance: float, seeds: int, units: int, alpha: float) -> float:
    return power(distance, outlook(parts_of(row, factor), seeds, units, alpha))


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("wanted", [0.8, 0.9])
@pytest.mark.parametrize("distance", [0.06, 0.1, 0.15])
def test_the_smallest_sizes_that_find_a_distance_are_given(distance: float, wanted: float, alpha: float) -> None:
    row = row_of(estimated(0.0))
    assert row.result.df is not None
    for size, level in zip(needed(row, distance, alpha, wanted), (0.1, 0.9), strict=True):
        factor = float(row.result.df / stats.chi2.ppf(1 - level, row.result.df))  # an end of the variance's interval
        if size.seeds is None:
            assert found_with(row, factor, distance, MOST_SEEDS, 20, alpha) < wanted
        else:
            assert found_with(row, factor, distance, size.seeds, 20, alpha) >= wanted
            assert size.seeds == 5 or found_with(row, factor, distance, size.seeds - 1, 20, alpha) < wanted
        if size.units is None:
            assert found_with(row, factor, distance, 5, MOST_UNITS, alpha) < wanted
        else:
            assert found_with(row, factor, distance, 5, size.units, alpha) >= wanted
            assert size.units == 2 or found_with(row, factor, distance, 5, size.units - 1, alpha) < wanted


def test_the_parts_of_two_seeds_are_those_of_two() -> None:
    row = row_of(estimated(0.0), num_seeds={"b": 2, "a": 3})
    assert row.result.df is not None
    factor = float(row.result.df / stats.chi2.ppf(0.9, row.result.df))
    parts = Parts.of_test(row.result, [1.0, -1.0], 2, 20).times(factor)
    units = needed(row, 0.07, 0.05)[0].units
    assert units is not None
    enough, fewer = (power(0.07, outlook(parts, 5, count, 0.05)) for count in (units, units - 1))
    assert enough >= 0.8 > fewer


def test_a_surely_found_distance_needs_the_least_of_both_and_none_is_found_by_no_number() -> None:
    row = row_of(estimated(0.0))
    assert needed(row, 5.0, 0.05) == (Size(5, 2), Size(5, 2))
    assert needed(row, 0.0, 0.05) == (Size(None, None), Size(None, None))
    reason = rule(claimed("greater"), row, 1.0, Level(0.05, 1)).reason
    assert "; no new study of up to 100 seeds or 1,000,000 queries would find a difference as large as this" in reason


def test_arms_without_training_need_no_seeds() -> None:
    both = frozenset("ab")
    spread = row_of(estimated(0.01, v=(0.0, 0.0009, 0.0)), deterministic=both, num_seeds={"b": 1, "a": 1})
    assert [size.seeds for size in needed(spread, 0.01, 0.05)] == [None, None]
    low, high = needed(spread, 0.01, 0.05)
    reason = rule(claimed("greater"), spread, 0.7, Level(0.05, 1)).reason
    assert f"a new study of {low.units:,} to {high.units:,} queries would find" in reason  # no word of seeds


@pytest.mark.parametrize(
    ("expects", "margin", "value", "alpha", "wanted"),
    [
        ("greater", None, 0.12, 0.05 / 3, 0.8),
        ("less", None, -0.12, 0.05 / 3, 0.8),
        ("equivalent", 0.2, 0.19, 2 * 0.05 / 3, 0.9),  # both one-sided tests of alpha, either may fail
        ("not_worse", 0.2, -0.19, 2 * 0.05 / 3, 0.8),
    ],
)
def test_the_size_of_a_new_study_is_that_of_the_claims_own_test(
    expects: str, margin: float | None, value: float, alpha: float, wanted: float
) -> None:
    row = row_of(estimated(value, se=0.04), margin=margin)
    verdict, reason = rule(claimed(expects, margin), row, 0.2, Level(0.05, 3))
    low, high = needed(row, margin or abs(value), alpha, wanted)
    assert verdict == "UNDECIDED" and low.units is not None and low.units < (high.units or 0)
    assert f"{low.units:,} to {high.units:,} queries with 5 seeds per arm would" in reason
    others = [needed(row, margin or abs(value), *other)[0] for other in ((9 * alpha, wanted), (alpha, wanted - 0.1))]
    assert low.units not in [size.units for size in others]


def test_a_difference_that_counts_as_none_shows_the_interval_of_its_test() -> None:
    row = row_of(estimated(0.001, se=0.004), margin=0.05)
    verdict, reason = rule(claimed("greater", 0.05), row, 1.0, Level(0.05, 1))
    low, high = row.tost_ci
    assert verdict == "REFUTED" and f"[{low:.4f}, {high:.4f}] at 90 %, equivalence p" in reason
