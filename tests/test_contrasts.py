"""The contrast test against hand computation and scipy, its invariances, options, degenerate cases and calibration."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import numpy as np
import pytest
from conftest import extra
from scipy import stats

from ablate.records import UserError
from analysis.stats.corrections import benjamini_hochberg, holm, replicated
from analysis.stats.crossed import (
    Options,
    crossed,
    probability_new_wins,
    seeds_only,
    sign_flip,
    tie_width,
    trend_weights,
    unit_differences,
)
from analysis.stats.matrix import Values
from analysis.stats.trend import is_trend, lack_of_fit
from analysis.stats.weights import all_contrasts, parse_contrast, parse_trend
from benchmarks.calibration import (
    Case,
    is_broken,
    is_off,
    simulate,
    simulate_equivalence,
    simulate_family,
    to_measure,
)

A = np.array([[1.0, 2, 3], [2, 3, 7]])
B = np.array([[4.0, 4, 4], [6, 8, 4]])
INTERACTION = {"D": 1.0, "B": -1.0, "C": -1.0, "A": 1.0}
B_MINUS_A = {"B": 1.0, "A": -1.0}


def scores(seed: int = 0, arms: str = "AB", num_seeds: int = 4, num_units: int = 30) -> dict[str, np.ndarray]:
    generator = np.random.Generator(np.random.PCG64(seed))
    unit_Q = generator.normal(0, 0.3, num_units)
    return {
        arm: unit_Q
        + generator.normal(0.05 * place, 0.1, num_units)
        + generator.normal(0, 0.05, (num_seeds, 1))
        + generator.normal(0, 0.1, (num_seeds, num_units))
        for place, arm in enumerate(arms)
    }


def assert_same(left, right) -> None:
    for name in ("estimate", "se", "df", "p", "v_seed", "v_query", "v_resid", "share_seed"):
        assert getattr(left, name) == pytest.approx(getattr(right, name), rel=1e-9, abs=1e-15), name


def test_variance_parts_by_hand() -> None:
    # A: seed means 2 and 4, so v = 2; unit means 1.5, 2.5, 5; residuals +-(.5, .5, -1), so e = 3 / 2.
    # B: seed means 4 and 6, so v = 2; unit means 5, 6, 4; residuals +-(0, -1, 1), so e = 4 / 2.
    # unit differences 3.5, 3.5, -1: variance 6.75.
    found = crossed({"A": A, "B": B}, B_MINUS_A)
    assert found.estimate == pytest.approx(2)
    assert found.v_seed == pytest.approx(2 / 2 + 2 / 2)
    assert found.v_query == pytest.approx(6.75 / 3)
    assert found.v_resid == pytest.approx(1.5 / 6 + 2 / 6)
    square = 3.5 / 6 + (2 - 3.5 / 6) + (2.25 - 3.5 / 6)
    df = square**2 / (1 + 1 + 0.25**2 / 2 + (1 / 3) ** 2 / 2 + 2.25**2 / 2)
    assert found.se == pytest.approx(math.sqrt(square))
    assert found.df == pytest.approx(df)
    assert found.p == pytest.approx(2 * stats.t.sf(2 / math.sqrt(square), df))
    half = stats.t.ppf(0.975, df) * math.sqrt(square)
    assert found.ci == pytest.approx((2 - half, 2 + half))
    assert found.share_seed == pytest.approx((2 - 3.5 / 6) / square)
    assert not found.degenerate


def test_deterministic_arm_by_hand() -> None:
    # B alone carries seeds: Vseed 2 / 2, Vres 2 / 6; unit means of B minus (1, 2, 3) are 4, 4, 1: variance 3.
    found = crossed({"A": A[:1], "B": B}, B_MINUS_A, Options(deterministic=frozenset("A")))
    square = 1 / 3 + (1 - 1 / 3) + (1 - 1 / 3)
    assert (found.estimate, found.v_seed, found.v_query) == pytest.approx((3, 1, 1))
    assert found.se**2 == pytest.approx(square)
    assert found.df == pytest.approx(square**2 / (1 / 1 + (1 / 3) ** 2 / 2 + 1 / 2))
    twice = crossed({"A": A[[0, 0, 0]], "B": B}, B_MINUS_A, Options(deterministic=frozenset("A")))
    assert_same(found, twice)
    for differing in (A, A / 100):
        with pytest.raises(UserError, match="'A' is declared deterministic but its seeds differ"):
            crossed({"A": differing, "B": B}, B_MINUS_A, Options(deterministic=frozenset("A")))
    with pytest.raises(UserError, match="'C' is declared deterministic but has no scores; arms are A, B"):
        crossed({"A": A, "B": B}, B_MINUS_A, Options(deterministic=frozenset("C")))


def test_matched_by_hand() -> None:
    # D = B - A = (3, 2, 1) and (4, 5, -3): seed means 2, 2; unit means 3.5, 3.5, -1; residuals +-(.5, 1.5, -2).
    found = crossed({"A": A, "B": B}, B_MINUS_A, Options(matched=True))
    assert found.v_seed == 0
    assert found.v_resid == pytest.approx(2 * (0.25 + 2.25 + 4) / 2 / 6)
    assert found.v_query == pytest.approx(2.25)
    assert found.se**2 == pytest.approx(2.25)  # Vres + (Vquery - Vres)
    assert found.df == pytest.approx(2.25**2 / (found.v_resid**2 / 2 + 2.25**2 / 2))
    with pytest.raises(UserError, match="matched seeds need as many seeds in every arm; there are B 2, A 3"):
        crossed({"A": np.vstack([A, A[:1]]), "B": B}, B_MINUS_A, Options(matched=True))
    with pytest.raises(UserError, match="exclude each other"):
        Options(matched=True, seed_variance="family")


def test_family_variance_by_hand() -> None:
    # C, weight 0, has 3 seeds: seed means 0, 0, 3, so v = 3; residual 0. Pooled v = (2 + 2 + 2 * 3) / 4.
    c = np.array([[0.0, 0, 0], [0, 0, 0], [3, 3, 3]])
    found = crossed({"A": A, "B": B, "C": c}, B_MINUS_A, Options(seed_variance="family"))
    v_seed, v_resid = 2.5 * (1 / 2 + 1 / 2), (1.5 + 2 + 0) / 4 * (1 / 6 + 1 / 6)
    assert (found.v_seed, found.v_resid, found.v_query) == pytest.approx((v_seed, v_resid, 2.25))
    square = v_seed + 2.25 - v_resid
    assert found.se**2 == pytest.approx(square)
    assert found.df == pytest.approx(square**2 / (v_seed**2 / 4 + v_resid**2 / (4 * 2) + 2.25**2 / 2))
    # The same pooled variances of a contrast with the arm of three seeds, and of one with weights of a half.
    unequal, halves = {"C": 1.0, "A": -1.0}, {"C": 1.0, "A": -0.5, "B": -0.5}
    for weights, spread in ((unequal, 1 / 3 + 1 / 2), (halves, 1 / 3 + 1 / 8 + 1 / 8)):
        found = crossed({"A": A, "B": B, "C": c}, weights, Options(seed_variance="family"))
        assert (found.v_seed, found.v_resid) == pytest.approx((2.5 * spread, 3.5 / 4 * spread / 3))


def test_floor_of_the_degrees_of_freedom() -> None:
    # seed means 0, 0; unit means .5, -.5; residuals +-.5: Vseed 0, Vquery = Vres = .25, SE^4 / den = .0625 / .125 = .5.
    b = np.array([[1.0, -1], [0, 0]])
    found = crossed({"A": np.zeros((1, 2)), "B": b}, B_MINUS_A, Options(deterministic=frozenset("A")))
    assert (found.v_seed, found.v_query, found.v_resid) == pytest.approx((0, 0.25, 0.25))
    assert found.se == pytest.approx(0.5)
    assert found.df == 1


def test_agreement_with_scipy() -> None:
    made = scores() | {"A": scores()["A"][:3]}
    fixed = crossed(made, B_MINUS_A, Options(estimand="these_checkpoints"))
    paired = stats.ttest_rel(made["B"].mean(axis=0), made["A"].mean(axis=0))
    assert (fixed.p, fixed.df) == pytest.approx((paired.pvalue, 29))
    assert fixed.ci == pytest.approx(tuple(paired.confidence_interval()))
    assert fixed.share_seed is None
    welch = stats.ttest_ind(made["B"].mean(axis=1), made["A"].mean(axis=1), equal_var=False)
    found = seeds_only(made, B_MINUS_A)
    assert (found.p, found.df) == pytest.approx((welch.pvalue, welch.df))
    same = scores()
    matched = seeds_only(same, B_MINUS_A, Options(matched=True))
    assert matched.p == pytest.approx(stats.ttest_rel(same["B"].mean(axis=1), same["A"].mean(axis=1)).pvalue)
    both = frozenset("AB")
    lone = {arm: block[:1] for arm, block in same.items()}
    assert crossed(lone, B_MINUS_A, Options(deterministic=both)).p == pytest.approx(
        stats.ttest_rel(lone["B"][0], lone["A"][0]).pvalue
    )


def test_crossed_becomes_welch_when_units_do_not_vary() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    made = {arm: generator.normal(size=(n, 1)) + np.zeros((n, 20)) for arm, n in (("A", 3), ("B", 6))}
    welch = stats.ttest_ind(made["B"][:, 0], made["A"][:, 0], equal_var=False)
    found = crossed(made, B_MINUS_A)
    assert (found.p, found.df) == pytest.approx((welch.pvalue, welch.df))
    assert found.share_seed == 1


def test_an_arm_of_weight_zero_is_as_if_it_were_not_named() -> None:
    made = scores(arms="ABC") | {"C": 50 + scores(seed=9)["A"][:1]}
    named, weights = B_MINUS_A | {"C": 0.0}, B_MINUS_A
    for options in (
        Options(),
        Options(matched=True),
        Options(seed_variance="family"),
        Options(estimand="these_checkpoints"),
    ):
        assert crossed(made, named, options) == crossed(made, weights, options)
    assert seeds_only(made, named) == seeds_only(made, weights)
    assert np.array_equal(unit_differences(made, named), unit_differences(made, weights))
    assert tie_width(made, named) == tie_width(made, weights)
    assert probability_new_wins(made, named, Options()) == probability_new_wins(made, weights, Options()) is not None


def test_the_family_has_no_variance_of_arms_without_one() -> None:
    """A system without training and an arm of one seed say nothing about seeds."""
    made, family = scores(arms="ABC"), Options(seed_variance="family")
    expected = crossed(made, B_MINUS_A, family)
    assert crossed(made | {"D": made["C"][:1] * 3}, B_MINUS_A, family) == expected
    fixed = Options(seed_variance="family", deterministic=frozenset("D"))
    assert crossed(made | {"D": np.tile(made["C"][:1] * 3, (4, 1))}, B_MINUS_A, fixed) == expected
    assert expected.v_seed != crossed({arm: made[arm] for arm in "AB"}, B_MINUS_A, family).v_seed


def test_matched_seeds_beside_an_arm_without_training() -> None:
    made = scores()
    fixed = made | {"A": np.tile(made["A"][0], (3, 1))}
    options = Options(matched=True, deterministic=frozenset("A"))
    assert_same(crossed(fixed, B_MINUS_A, options), crossed(fixed, B_MINUS_A, Options(deterministic=frozenset("A"))))
    assert_same(
        seeds_only(fixed, B_MINUS_A, options), seeds_only(fixed, B_MINUS_A, Options(deterministic=frozenset("A")))
    )


def test_order_does_not_matter() -> None:
    made = scores(arms="ABCD")
    generator = np.random.Generator(np.random.PCG64(5))
    units = generator.permutation(30)
    mixed = {arm: made[arm][generator.permutation(4)][:, units] for arm in "DBAC"}
    for options in (Options(), Options(seed_variance="family")):
        assert_same(crossed(made, INTERACTION, options), crossed(mixed, dict(reversed(INTERACTION.items())), options))
    fixed = Options(estimand="these_checkpoints")
    assert crossed(made, INTERACTION, fixed).p == pytest.approx(crossed(mixed, INTERACTION, fixed).p, rel=1e-9)
    seeds = generator.permutation(4)
    matched = Options(matched=True)
    together = {arm: block[seeds][:, units] for arm, block in made.items()}
    assert_same(crossed(made, INTERACTION, matched), crossed(together, INTERACTION, matched))


def test_scale_shift_and_sign() -> None:
    made = scores()
    found = crossed(made, B_MINUS_A)
    scaled = crossed({arm: 100 * block + 7 for arm, block in made.items()}, B_MINUS_A)
    assert (scaled.estimate, scaled.se) == pytest.approx((100 * found.estimate, 100 * found.se))
    assert (scaled.p, scaled.df, scaled.share_seed) == pytest.approx((found.p, found.df, found.share_seed))
    moved = crossed({"A": made["A"], "B": made["B"] + 0.5}, B_MINUS_A)
    assert (moved.estimate, moved.se, moved.df) == pytest.approx((found.estimate + 0.5, found.se, found.df))
    turned = crossed(made, {"A": 1.0, "B": -1.0})
    assert (turned.estimate, turned.p) == pytest.approx((-found.estimate, found.p))
    assert turned.ci == pytest.approx((-found.ci[1], -found.ci[0]))


def test_scores_of_another_type_are_taken_as_they_are() -> None:
    single = {arm: block.astype(np.float32) for arm, block in scores().items()}
    double = {arm: block.astype(np.float64) for arm, block in single.items()}
    assert crossed(single, B_MINUS_A) == crossed(double, B_MINUS_A)
    for kind in (int, bool):
        whole = {"A": A.astype(kind), "B": (B > 4).astype(kind)}
        assert crossed(whole, B_MINUS_A) == crossed({arm: y.astype(float) for arm, y in whole.items()}, B_MINUS_A)


def dosed(doses: Mapping[str, float], bend: float, generator: np.random.Generator) -> dict[str, Values]:
    """Return scores (5, 40) whose means fall with the dose, on a line but for a bend."""
    unit_Q = generator.normal(0, 0.3, 40)
    return {
        arm: unit_Q
        + (bend * dose**2 - 0.3 * dose)
        + generator.normal(0, 0.05, 40)
        + generator.normal(0, 0.01, (5, 1))
        + generator.normal(0, 0.05, (5, 40))
        for arm, dose in doses.items()
    }


def test_lack_of_fit_of_three_doses_is_the_test_of_their_bend() -> None:
    doses = {"A": 0.0, "B": 1.0, "C": 3.0}
    made = dosed(doses, 0.1, np.random.Generator(np.random.PCG64(3)))
    weights = trend_weights(doses)
    # a line leaves out what B lies above the chord from A to C: B - 2/3 A - 1/3 C
    off_the_chord = crossed(made, {"A": -2 / 3, "B": 1.0, "C": -1 / 3})
    fit = lack_of_fit(made, weights)
    assert fit is not None and fit.p == pytest.approx(off_the_chord.p)
    line = np.polyfit(list(doses.values()), [made[arm].mean() for arm in doses], 1)
    off = {arm: made[arm].mean() - np.polyval(line, dose) for arm, dose in doses.items()}
    assert (fit.arm, fit.deviation) == (max(off, key=lambda arm: abs(off[arm])), pytest.approx(off[fit.arm]))
    assert fit.arm == "B" and fit.deviation < 0 and fit.p < 0.05
    assert fit.in_words(0.05).startswith(f"The means are on no line: B lies {abs(fit.deviation):.4f} below it")
    assert lack_of_fit({arm: made[arm] for arm in "AB"}, {"A": -1.0, "B": 1.0}) is None
    assert lack_of_fit({**made, "B": made["B"][:1]}, weights) is None
    assert [is_trend(label) for label in ("trend: A=0", "trend over A=0", "trend - A", "trendy - B")] == [
        True,
        True,
        False,
        False,
    ]


def test_arms_of_one_dose_lie_on_a_line_only_if_they_are_equal() -> None:
    doses = {"A": 0.0, "B": 0.0, "C": 1.0}
    made = dosed(doses, 0.0, np.random.Generator(np.random.PCG64(4)))
    fit = lack_of_fit(made, trend_weights(doses))
    assert fit is not None and fit.p == pytest.approx(crossed(made, {"A": 1.0, "B": -1.0}).p)


def test_a_line_seldom_lacks_fit_and_a_bend_is_found() -> None:
    doses = dict(zip("ABCDEF", (0.0, 0.05, 0.1, 0.2, 0.35, 0.5), strict=True))
    generator, weights, draws = np.random.Generator(np.random.PCG64(5)), trend_weights(doses), 150
    shares = {}
    for bend in (0.0, 1.0):
        fits = [lack_of_fit(dosed(doses, bend, generator), weights) for _ in range(draws)]
        shares[bend] = sum(fit is not None and fit.p < 0.05 for fit in fits) / draws
    assert shares[0.0] < 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / draws) and shares[1.0] > 0.8


def test_interaction_and_trend() -> None:
    made = scores(arms="ABCD")
    found = crossed(made, INTERACTION)
    means = {arm: block.mean() for arm, block in made.items()}
    assert found.estimate == pytest.approx(means["D"] - means["B"] - means["C"] + means["A"])
    assert found.v_seed == pytest.approx(sum(np.var(y.mean(axis=1), ddof=1) / 4 for y in made.values()))
    doses = {"A": 0.0, "B": 0.1, "C": 0.2, "D": 0.5}
    slope = np.polyfit(list(doses.values()), [means[arm] for arm in doses], 1)[0]
    assert crossed(made, trend_weights(doses)).estimate == pytest.approx(slope)
    with pytest.raises(UserError, match="a trend needs two different doses"):
        trend_weights({"A": 0.1, "B": 0.1})
    with pytest.raises(UserError, match="a trend needs two different doses; given are {}"):
        trend_weights({})
    assert trend_weights({"A": 0, "B": 0, "C": 1, "D": 1}) == {"A": -0.5, "B": -0.5, "C": 0.5, "D": 0.5}


def test_macro_mean_of_two_data_sets() -> None:
    # The same data set twice: seed part as for one, unit and residual parts halved.
    one = crossed({"A": A, "B": B}, B_MINUS_A)
    two = crossed({"A": [A, A], "B": [B, B]}, B_MINUS_A)
    assert two.estimate == pytest.approx(one.estimate)
    assert two.v_seed == pytest.approx(one.v_seed)
    assert two.v_query == pytest.approx(one.v_query / 2)
    assert two.v_resid == pytest.approx(one.v_resid / 2)
    # Three times: the residual part of an arm and a data set is e / (S Q) / 9, with 2 degrees of freedom.
    three = crossed({"A": [A] * 3, "B": [B] * 3}, B_MINUS_A)
    assert (three.v_query, three.v_resid) == pytest.approx((one.v_query / 3, one.v_resid / 3))
    square = three.v_seed + three.v_query - three.v_resid
    den = 1 + 1 + 3 * (1.5 / 6 / 9) ** 2 / 2 + 3 * (2 / 6 / 9) ** 2 / 2 + 3 * (2.25 / 9) ** 2 / 2
    assert (three.se**2, three.df) == pytest.approx((square, square**2 / den))
    # Of the family (of these two arms) all parts are pooled: v 2, e 1.75.
    family = crossed({"A": [A] * 3, "B": [B] * 3}, B_MINUS_A, Options(seed_variance="family"))
    den = 2**2 / 2 + 3 * (1.75 / 3 / 9) ** 2 / 4 + 3 * (2.25 / 9) ** 2 / 2
    assert (family.v_seed, family.v_resid, family.df) == pytest.approx((2, 1.75 / 9, square**2 / den))
    # Seed effects that cancel between the data sets leave the macro mean without a seed part.
    opposite = crossed({"A": [A * 0, A * 0], "B": [B, 10 - B]}, B_MINUS_A)
    assert opposite.v_seed == 0
    assert [d.tolist() for d in unit_differences({"A": [A, A], "B": [B, B]}, B_MINUS_A)] == [[3.5, 3.5, -1]] * 2


def test_degenerate_cases() -> None:
    same = np.tile([0.1, 0.5, 0.7], (3, 1))
    equal = crossed({"A": same, "B": same}, B_MINUS_A)
    assert (equal.estimate, equal.p, equal.ci, equal.df, equal.degenerate) == (0, 1, (0, 0), None, True)
    assert equal.tost(0.01) == 0
    apart = crossed({"A": same, "B": same + 0.1}, B_MINUS_A)
    assert (apart.p, apart.df, apart.degenerate) == (0, None, True)
    assert apart.ci == pytest.approx((0.1, 0.1))
    assert (apart.tost(0.2), apart.tost(0.05), apart.noninferior(0.01)) == (0, 1, 0)
    assert crossed({"A": same + 0.1, "B": same}, B_MINUS_A).noninferior(0.05) == 1
    spread = scores()["A"]
    copies = crossed({"A": spread, "B": spread}, B_MINUS_A)
    assert (copies.estimate, copies.p, copies.degenerate) == (0, 1, False)
    alone = seeds_only({"A": same, "B": same}, B_MINUS_A)
    assert (alone.v_seed, alone.v_query, alone.v_resid, alone.degenerate) == (0, 0, 0, True)
    assert (equal.v_seed, equal.v_query, equal.v_resid, equal.share_seed) == (0, 0, 0, 0)
    assert crossed({"A": same, "B": same}, B_MINUS_A, Options(deterministic=frozenset("AB"))).share_seed is None
    assert equal.interval(0.5) == (0, 0) and apart.interval(0.5) == apart.ci
    nothing = crossed({"A": 0 * same, "B": 0 * same}, B_MINUS_A)  # no query found anything
    assert (nothing.estimate, nothing.p, nothing.degenerate) == (0, 1, True)
    rounded = crossed({"A": same, "B": same + 1e-16}, B_MINUS_A)  # what is left of rounding is no difference
    assert (rounded.estimate, rounded.p, rounded.degenerate) == (0, 1, True)


def test_without_an_error_a_border_is_not_passed() -> None:
    """Half beyond by definition of "more than": exactly at the margin nothing is shown."""
    half = np.full((2, 4), 0.5)
    at = crossed({"A": half, "B": 2 * half}, B_MINUS_A)
    assert (at.estimate, at.tost(0.5), at.tost(0.75)) == (0.5, 1, 0)
    assert (at.upper_tail(0.5), at.upper_tail(0.25)) == (1, 0)
    turned = crossed({"A": 2 * half, "B": half}, B_MINUS_A)
    assert (turned.noninferior(0.5), turned.noninferior(0.75)) == (1, 0)


def test_seeds_alone_have_one_part() -> None:
    found = seeds_only({"A": A, "B": B}, B_MINUS_A, Options(alpha=0.2))
    assert (found.v_seed, found.v_query, found.v_resid, found.share_seed, found.alpha) == (2, 0, 0, 1, 0.2)
    assert found.ci == pytest.approx(found.interval(0.8)) and not found.degenerate


@pytest.mark.parametrize(
    ("arms", "weights", "text"),
    [
        ({"A": A, "B": B[:1]}, B_MINUS_A, "arm 'B' has one seed, .* train 2 or more seeds"),
        ({"A": A, "B": B}, {"B": 1.0}, "must sum to 0 .* B \\+1 sum to 1; subtract a baseline"),
        ({"A": A, "B": B}, {"A": 0.0, "B": 0.0}, "must sum to 0 and not all be 0"),
        ({"A": A, "B": B}, {"C": 1.0, "A": -1.0}, "arm 'C' of the contrast has no scores; arms are A, B"),
        ({"A": A, "B": B[:, :2]}, B_MINUS_A, "arm 'A' has scores of shapes 2 × 3 where 'B' has 2 × 2"),
        ({"A": A, "B": np.where(B == 8, np.nan, B)}, B_MINUS_A, "arm 'B': the value of seed 1, unit 1 is nan"),
        ({"A": A[:, :1], "B": B[:, :1]}, B_MINUS_A, "has 1 unit; a test needs at least 2"),
        ({"A": A[0], "B": B}, B_MINUS_A, r"arm 'A' has scores of shapes 3; give \(seeds, units\)"),
        ({"A": A, "B": B[0]}, B_MINUS_A, r"arm 'B' has scores of shapes 3; give \(seeds, units\)"),
        ({"A": A[:0], "B": B}, B_MINUS_A, r"arm 'A' has scores of shapes 0 × 3; give \(seeds, units\)"),
        ({"A": [A, A[:1]], "B": [B, B]}, B_MINUS_A, "arm 'A' has scores of shapes 2 × 3, 1 × 3 where 'B' has 2 × 3, 2"),
        ({"A": np.where(A > 2, np.inf, A), "B": B}, B_MINUS_A, "arm 'A': the value of seed 0, unit 2 is inf; score"),
    ],
)
def test_refusals(arms: dict, weights: dict, text: str) -> None:
    with pytest.raises(UserError, match=text):
        crossed(arms, weights)


def test_alpha_is_checked_and_sets_the_interval() -> None:
    with pytest.raises(UserError, match="alpha is 5; it must lie between 0 and 0.5"):
        Options(alpha=5)
    for alpha in (0.0, 0.5, -0.05):
        with pytest.raises(UserError, match=f"alpha is {alpha}; it must lie between 0 and 0.5"):
            Options(alpha=alpha)
    assert Options().alpha == 0.05
    for options in (Options(alpha=0.1), Options(alpha=0.1, estimand="these_checkpoints")):
        found = crossed(scores(), B_MINUS_A, options)
        assert found.ci == pytest.approx(found.interval(1 - options.alpha)) and found.alpha == options.alpha


def test_one_seed_may_speak_of_these_checkpoints() -> None:
    found = crossed({"A": A[:1], "B": B[:1]}, B_MINUS_A, Options(estimand="these_checkpoints"))
    assert found.p == pytest.approx(stats.ttest_rel(B[0], A[0]).pvalue)


def test_equivalence_by_hand() -> None:
    # estimate 2, SE^2 and df as above: both one-sided tests for a margin of 5.
    found = crossed({"A": A, "B": B}, B_MINUS_A)
    above, below = stats.t.sf((2 + 5) / found.se, found.df), stats.t.cdf((2 - 5) / found.se, found.df)
    assert found.tost(5) == pytest.approx(max(above, below))
    assert found.noninferior(5) == pytest.approx(above)
    # p < .05 exactly when the 90 % interval lies inside the margin
    low, high = found.interval(0.9)
    edge = max(abs(low), abs(high))
    assert found.tost(edge * 1.001) < 0.05 < found.tost(edge * 0.999)
    with pytest.raises(UserError, match="the margin is 0; it must be above 0"):
        found.tost(0)


def test_sign_flip() -> None:
    # 1, 2, 3: of the 8 sign patterns only +++ and --- reach a sum of 6; 1, -1 reaches 0 always.
    assert sign_flip(np.array([[1.0], [2], [3]])) == pytest.approx([2 / 8])
    assert sign_flip(np.array([[1.0], [-1]])) == pytest.approx([1])
    generator = np.random.Generator(np.random.PCG64(3))
    columns = generator.normal([0.02, 0.3], 1, (100, 2))
    found = sign_flip(columns)
    expected = [stats.ttest_1samp(columns[:, place], 0).pvalue for place in range(2)]
    assert found == pytest.approx(expected, abs=0.02)
    assert sign_flip(columns + 50).tolist() == [1 / 5000, 1 / 5000]
    assert sign_flip(np.ones((3000, 1)), draws=99) == pytest.approx([0.01])
    assert sign_flip(np.array([[1.0], [2], [3]]), draws=7) == pytest.approx([2 / 8])  # all eight are as many as may be
    drawn = 7 * sign_flip(np.array([[1.0], [2], [3]]), draws=6)
    assert drawn == pytest.approx(drawn.round()) and drawn >= 1  # six draws, and the one that was seen
    assert sign_flip(np.array([[0.1, 1], [0.2, 1], [0.3, 1], [-0.6, 1]])).tolist() == [1, 2 / 16]  # up to rounding
    for units in (8, 9, 17):  # bits come in bytes
        assert sign_flip(np.ones((units, 1)), draws=100) == pytest.approx([2 / 2**units], abs=0.02)
    weekdays = (np.arange(100.0) % 7 - 2.6)[:, None]
    assert sign_flip(weekdays).tolist() == [433 / 5000]  # the draws are always the same


def test_probability_that_a_new_checkpoint_wins() -> None:
    # both arms have seed variance 2, the difference is 2: Phi(2 / sqrt(4))
    assert probability_new_wins({"A": A, "B": B}, B_MINUS_A, Options()) == pytest.approx(stats.norm.cdf(1))
    assert probability_new_wins({"A": A, "B": B}, {"B": 2.0, "A": -2.0}, Options()) is None
    assert probability_new_wins({"A": A[:1], "B": B[:1]}, B_MINUS_A, Options()) is None
    assert probability_new_wins({"A": A[:1], "B": A[[1, 1]]}, B_MINUS_A, Options()) is None  # no spread
    small = {"A": A / 100, "B": B / 100}
    assert probability_new_wins(small, B_MINUS_A, Options()) == pytest.approx(stats.norm.cdf(1))
    alone = probability_new_wins({"A": A[:1], "B": B}, B_MINUS_A, Options(deterministic=frozenset("A")))
    assert alone == pytest.approx(stats.norm.cdf((5 - 2) / math.sqrt(2)))
    assert probability_new_wins({"A": A, "B": B, "C": A}, {"A": -0.5, "C": -0.5, "B": 1.0}, Options()) is None


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == holm([0.9, 0.8]) == [1, 1]
    values = [0.01, 0.04, 0.03, 0.005]
    assert benjamini_hochberg(values) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([0.9, 0.5]) == pytest.approx([0.9, 0.9]) and benjamini_hochberg([]) == []
    for correct in (holm, benjamini_hochberg, replicated):
        with pytest.raises(UserError, match="p-value 2 of 2 in the family is nan"):
            correct([0.1, math.nan])
        with pytest.raises(UserError, match="p-value 1 of 3 in the family is 1.01"):
            correct([1.01, 0.1, -0.01])
        with pytest.raises(UserError, match="p-value 2 of 2 in the family is -0.01"):
            correct([1.0, -0.01])
        correct([0.0, 1.0])
    assert holm([]) == []


def test_replicated_by_hand() -> None:
    # "at least 1 of 3": 3 * .001; "at least 2": 2 * .02 = .04; "all 3": .2
    assert replicated([0.2, 0.001, 0.02]) == 2
    assert replicated([0.02, 0.02, 0.02]) == 0
    assert replicated([0.01, 0.04]) == 2
    assert (replicated([0.05]), replicated([0.0501]), replicated([0.2], alpha=0.2)) == (1, 0, 1)


def test_written_contrasts() -> None:
    arms = ("A", "B", "AB", "0", "bm25-base", "my arm")
    assert parse_contrast("B - A", arms) == {"B": 1, "A": -1}
    assert parse_contrast("AB - A - B + 0", arms) == {"AB": 1, "A": -1, "B": -1, "0": 1}
    assert parse_contrast("0.5*A + .5 * B - bm25-base", arms) == {"A": 0.5, "B": 0.5, "bm25-base": -1}
    assert parse_contrast("-my arm+B", arms) == {"my arm": -1, "B": 1}
    assert parse_contrast("  B\t−A ", arms) == {"B": 1, "A": -1}  # with the sign of typesetters
    assert parse_contrast("A + B - 2.*A + 0*AB", arms) == {"A": -1, "B": 1}  # summed up, and without what is not there
    for text, said in [
        ("B - C", "arm 'C' is unknown; arms are A, B"),
        ("ABC - A", "arm 'ABC' is unknown; arms are A, B"),
        ("B", "weights of a contrast must sum to 0"),
        ("B A", "a \\+ or - is missing before 'A'"),
        ("B -", "arm '\\(nothing\\)' is unknown"),
        ("A - A", "must sum to 0 and not all be 0"),
        ("", "must sum to 0 and not all be 0"),
    ]:
        with pytest.raises(UserError, match=said):
            parse_contrast(text, arms)
    assert parse_trend("A=0, B=1", arms) == pytest.approx({"A": -1, "B": 1})
    assert parse_trend("n=1=0,B= .5", ("n=1", "B")) == pytest.approx({"n=1": -2, "B": 2})  # the last = is the dose's
    for text, said in [
        ("A=0, B", "'B' is not arm=dose"),
        ("A=0, B=inf", "'B=inf' is not arm=dose, such as"),
        ("A=0, C=1", "arm 'C' is unknown; arms are A, B"),
        ("A=0, B=1, A=2", "names arm 'A' twice; an arm has one dose"),
        ("A=1, B=1", "a trend needs two different doses"),
    ]:
        with pytest.raises(UserError, match=said):
            parse_trend(text, arms)
    found = all_contrasts(("A", "B", "C"), ["A"], ["B - A", " C - B "], [" A=0, B=1 "])
    assert list(found) == ["B - A", "C - A", "C - B", "trend over A=0, B=1"]
    assert found["C - A"] == {"C": 1, "A": -1} and found["trend over A=0, B=1"] == {"A": -1, "B": 1}
    with pytest.raises(UserError, match="no contrast is asked for; give --baseline A"):
        all_contrasts(("A", "B"), [], [], [])
    with pytest.raises(UserError, match="the baseline 'Z' is not an arm; arms are A, B"):
        all_contrasts(("A", "B"), ["Z"], [], [])


@pytest.mark.extras
def test_variance_parts_agree_with_a_mixed_model() -> None:
    """In the interior, the REML standard error of the arm is that of the pooled closed form."""
    extra("statsmodels")
    import pandas as pd
    import statsmodels.formula.api as smf

    made = scores(seed=2, num_seeds=4, num_units=12)
    rows = [
        {"arm": arm, "unit": f"u{q}", "arm_unit": f"{arm}{q}", "arm_seed": f"{arm}{s}", "value": block[s, q], "all": 1}
        for arm, block in made.items()
        for s in range(4)
        for q in range(12)
    ]
    parts = {"unit": "0 + C(unit)", "arm_unit": "0 + C(arm_unit)", "seed": "0 + C(arm_seed)"}
    model = smf.mixedlm("value ~ C(arm)", pd.DataFrame(rows), groups="all", vc_formula=parts, re_formula="0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the search passes along the boundary
        fitted = model.fit(reml=True)
    found = crossed(made, B_MINUS_A, Options(seed_variance="family"))
    assert found.v_seed > found.v_resid and found.v_query > found.v_resid
    assert found.estimate == pytest.approx(fitted.params["C(arm)[T.B]"], rel=1e-6)
    assert found.se == pytest.approx(fitted.bse["C(arm)[T.B]"], rel=1e-3)


def test_calibration_reduced() -> None:
    """Promised error rates at a number of draws that takes seconds, with exact binomial bounds."""
    draws = 700
    for case in (Case((5, 5), 50, (0.01, 0.01)), Case((3, 3), 200, (0.01, 0.01), "nDCG@10")):
        assert not is_broken(simulate(case, draws)["crossed"], draws, case.promise), case
    known = Case((5, 5), 50, (0.01, 0.01), effect=0.04, expected=(0.043, 0.575))
    counts = simulate(known, draws, seed=1)
    assert not is_off(counts["crossed"], draws, 0.043) and not is_off(counts["power"], draws, 0.575), counts
    assert not is_broken(simulate_equivalence(5, 104, 0.01, 0.05, draws)["crossed"], draws, 0.06)
    assert not is_broken(simulate_family(5, 104, 250)["crossed + Holm"], 250, 0.06)


def test_calibration_can_fail() -> None:
    case = Case((3, 3), 500, (0.02, 0.02))
    counts = simulate(case, 150, draws_of_others=150)
    for name in ("paired t", "Wilcoxon", "sign flip", "naive pooling", "unit bootstrap"):
        assert is_broken(counts[name], 150, case.promise), (name, counts)
    assert is_off(counts["paired t"], 150, 0.05)
    assert not is_broken(0, 150, 0.05)


def test_copula_has_the_marks_of_its_measures() -> None:
    standard = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    reciprocal = to_measure(standard, standard, "RR@10")
    assert sorted(set(reciprocal.round(6))) == pytest.approx([0, *(1 / rank for rank in range(10, 0, -1))], abs=1e-6)
    assert (reciprocal == 0).mean() == pytest.approx(0.35, abs=1e-3)
    assert (reciprocal == 1).mean() == pytest.approx(0.65 * 30 / 65, abs=1e-3)
    ndcg = to_measure(standard, standard, "nDCG@10")
    assert (ndcg == 0).mean() == pytest.approx(0.3, abs=1e-3) and 0.99 < ndcg.max() <= 1
    p_mrr = to_measure(standard, standard, "p-MRR")
    assert (p_mrr == 0).mean() == pytest.approx(0.4, abs=1e-3)
    assert -1 <= p_mrr.min() < -0.99 and 0.99 < p_mrr.max() <= 1


def test_a_query_variance_below_the_residual_is_cut_at_zero() -> None:
    """Units whose means agree while seeds disagree about each: V_query is 0, V_seed too, and V_res is all there is."""
    wave = np.array([1.0, -1, 1, -1])
    arms = {"A": np.array([wave, -wave]), "B": 1 + np.array([-wave, wave])}
    found = crossed(arms, B_MINUS_A)
    residual = 2 * (8 / ((2 - 1) * (4 - 1))) / (2 * 4)  # e = 8 / 3 in each arm, over S Q = 8
    assert (found.v_seed, found.v_query) == (0.0, 0.0)
    assert found.v_resid == pytest.approx(residual) and found.se == pytest.approx(math.sqrt(residual))


def test_of_two_deterministic_arms_without_scores_the_first_is_named() -> None:
    with pytest.raises(UserError, match="arm 'x' is declared deterministic but has no scores"):
        crossed(scores(), B_MINUS_A, Options(deterministic=frozenset({"y", "x"})))
