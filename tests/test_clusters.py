"""Clusters of units: by hand, against the plain test, invariances, two kinds at once, and type-I error."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ablate.records import UserError
from analysis.significance import main
from analysis.stats.asked import Asked, targets
from analysis.stats.clusters import clustered, intra_class, over_new, without_each
from analysis.stats.contrast_rows import contrast_rows
from analysis.stats.crossed import Estimate, Options, crossed
from analysis.stats.families import Plan
from analysis.stats.grouping import Grouping, joints, num_together
from analysis.stats.matrix import ScoreTable, read_scores
from benchmarks.cluster_calibration import type_one

B_MINUS_A = {"B": 1.0, "A": -1.0}


def draw(seed: int, num_seeds: int = 4, num_units: int = 24) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {arm: random.normal(size=(num_seeds, num_units)) for arm in "AB"}


def assert_same(first: Estimate, second: Estimate) -> None:
    assert dataclasses.astuple(first)[:4] == pytest.approx(dataclasses.astuple(second)[:4])
    assert first.ci == pytest.approx(second.ci) and first.v_resid == pytest.approx(second.v_resid)


def test_one_unit_in_each_cluster_is_the_plain_test() -> None:
    arms = draw(0)
    plain, alone = crossed(arms, B_MINUS_A), crossed(arms, B_MINUS_A, None, [Grouping.of(range(24))])
    assert_same(plain, alone)


def test_variance_parts_of_clusters_by_hand() -> None:
    """A is 0 for both seeds; B has unit means 1, 3, 5, 7 and residuals of seed 1 (+1, +1, -1, -1), seed 2 minus those.

    Clusters {1, 2} and {3, 4}: the mean is 4, sums of deviations -4 and +4, each over Q = 4: z = -1, 1, and V_query =
    2/1 * (1 + 1) = 4. Residual sums +-2 in each cluster, over Q: +-.5, so V_res = 2/1 / (2 * 1) * 4 * .25 = 1.
    """
    wave = np.array([1.0, 1, -1, -1])
    base = np.array([1.0, 3, 5, 7])
    arms = {"A": np.zeros((2, 4)), "B": np.array([base + wave, base - wave])}
    group = Grouping.of(["x", "x", "y", "y"])
    found = crossed(arms, B_MINUS_A, Options(deterministic=frozenset("A")), [group])
    assert (found.estimate, found.v_query, found.v_resid, found.v_seed) == pytest.approx((4, 4, 1, 0))
    assert found.se == pytest.approx(2.0)  # 1 + max(0 - 1, 0) + (4 - 1)
    assert found.df == pytest.approx(max(16 / (4**2 / 1 + 1 / 1), 1))


def test_strata_take_their_means_out_of_the_variance() -> None:
    arms = {"A": np.zeros((2, 6)), "B": np.tile([1.0, 1, 2, 9, 9, 10], (2, 1))}
    clusters, strata = ["a", "a", "b", "c", "c", "d"], ["low"] * 3 + ["high"] * 3
    fixed = Options(deterministic=frozenset("AB"))
    apart = crossed(arms, B_MINUS_A, fixed, [Grouping.of(clusters, strata)])
    together = crossed(arms, B_MINUS_A, fixed, [Grouping.of(clusters)])
    # Deviations from the stratum's mean: -1/3, -1/3, 2/3 in each; sums -2/3 and 2/3, over 6, four of them. Strata of 3
    # leave 1 - 2/3 of the variance of a cluster of two and 1 - 1/3 of that of one: factors 3 and 3/2.
    assert apart.v_query == pytest.approx((3 + 3 / 2) * 2 * (2 / 3 / 6) ** 2)
    assert apart.estimate == together.estimate and apart.v_query < together.v_query / 10
    with pytest.raises(UserError, match="all units are in one cluster; a test over new clusters needs at least 2"):
        Grouping.of(["a", "a"], ["low", "high"])


def test_degrees_of_freedom_are_those_of_the_matrix_of_squares() -> None:
    """Even clusters: G - 1, with strata G - H. Uneven ones: (tr A)² / tr A², written out with all its G² elements."""
    assert Grouping.of([place // 3 for place in range(24)]).df == pytest.approx(7)
    assert Grouping.of([place // 3 for place in range(24)], [place // 12 for place in range(24)]).df == pytest.approx(6)
    assert Grouping.of("aabbccdd", "xyxyxyxy").df == pytest.approx(3)  # every cluster has both strata alike
    random = np.random.default_rng(6)
    for strata in (None, random.integers(0, 3, 40)):
        group = Grouping.of(random.integers(0, 9, 40) ** 2 // 8, strata)
        counts = np.zeros((group.num_clusters, group.num_strata))
        np.add.at(counts, (group.clusters, group.strata), 1)
        moved = np.diag(counts.sum(axis=1)) - (counts / counts.sum(axis=0)) @ counts.T
        factors = counts.sum(axis=1) / np.diag(moved)
        matrix = np.sqrt(factors)[:, None] * (moved @ moved.T) * np.sqrt(factors)
        assert group.df == pytest.approx(np.trace(matrix) ** 2 / np.sum(matrix**2))
        assert group.df < group.num_clusters - 1


def test_the_square_of_uneven_clusters_is_right_where_all_units_are_alike() -> None:
    random = np.random.default_rng(7)
    strata = np.repeat([0, 1], 20)
    group = Grouping.of(np.sort(random.integers(0, 8, 40)) + 8 * strata, strata)
    squares = [group.mean_square(group.sums(group.centred(random.normal(size=40))), 40) for _ in range(4000)]
    assert np.mean(squares) == pytest.approx(1, abs=4 * np.std(squares) / 4000**0.5)


def test_a_stratum_of_one_cluster_is_joined_with_the_smallest_other() -> None:
    clusters = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e", "f", "f"]
    forms = ["short"] * 6 + ["long"] * 4 + ["negated"] * 2
    group = Grouping.of(clusters, forms)
    assert group.num_strata == 2 and group.df == pytest.approx(4)
    assert len(set(group.strata[6:])) == 1 != len(set(group.strata))
    assert Grouping.of(["a", "b"], ["low", "high"]).num_strata == 1


def test_names_and_order_of_clusters_do_not_matter() -> None:
    arms, names = draw(1), [f"c{place % 5}" for place in range(24)]
    order = np.random.default_rng(0).permutation(24)
    first = crossed(arms, B_MINUS_A, None, [Grouping.of(names)])
    moved = {arm: values[:, order] for arm, values in arms.items()}
    second = crossed(moved, B_MINUS_A, None, [Grouping.of([names[place] + "!" for place in order])])
    assert_same(first, second)
    with pytest.raises(UserError, match="the clusters are of 3 units, the scores of 24"):
        crossed(arms, B_MINUS_A, None, [Grouping.of("abc")])


def test_equal_units_in_a_cluster_have_icc_one_and_their_number_as_design_effect() -> None:
    random = np.random.default_rng(3)
    values = np.repeat(random.normal(size=12), 4)
    group = Grouping.of([place // 4 for place in range(48)])
    assert intra_class(values, group) == pytest.approx(1.0)
    assert intra_class(values, Grouping.of(range(48))) is None
    arms = {"A": np.zeros((1, 48)), "B": values[None]}
    found = clustered(arms, B_MINUS_A, {"w": [group]}, Options(deterministic=frozenset("AB")))
    assert found.kinds["w"].design_effect == found.design_effect
    assert found.design_effect == pytest.approx(4 * (12 / 11) / (48 / 47)) and found.num_clusters == 12
    assert not found.is_exploratory


def test_intra_class_correlation_by_hand() -> None:
    """x 1 3, y 5 6 7, z 2: mean 4, means 2 6 2 of them, MSB = (2 * 4 + 3 * 4 + 4) / 2, MSW = (1 + 1 + 1 + 1) / 3."""
    values = np.array([1.0, 3, 5, 6, 7, 2])
    size = (6 - (4 + 9 + 1) / 6) / 2
    expected = (12 - 4 / 3) / (12 + (size - 1) * 4 / 3)
    assert intra_class(values, Grouping.of("xxyyyz")) == pytest.approx(expected)
    # Two clusters: mean 4.4, MSB = 2 * 2.4² + 3 * 1.6², MSW = 4 / 3, m = 5 - 13 / 5.
    assert intra_class(values[:5], Grouping.of("xxyyy")) == pytest.approx((19.2 - 4 / 3) / (19.2 + 1.4 * 4 / 3))
    assert intra_class(np.array([0.0, 1, 0, 1]), Grouping.of("xxyy")) == pytest.approx(-1)  # no two units more unlike
    assert intra_class(np.ones(4), Grouping.of("xxyy")) == 0
    together = np.zeros(4, dtype=np.int64)
    assert intra_class(values[:4], Grouping(together, together)) is None  # one cluster has nothing to differ from


def test_a_macro_mean_of_clusters_counts_all_and_averages_the_correlations_there_are() -> None:
    random = np.random.default_rng(8)
    arms = {arm: [random.normal(size=(3, size)) for size in (12, 8, 5)] for arm in "AB"}
    groups = [Grouping.of("aabbccddeeff"), Grouping.of("gggghhhh"), Grouping.of(range(5))]
    found = clustered(arms, B_MINUS_A, {"w": groups})
    differences = [arms["B"][place].mean(axis=0) - arms["A"][place].mean(axis=0) for place in range(2)]
    known = [intra_class(values, group) for values, group in zip(differences, groups[:2], strict=True)]
    assert found.num_clusters == 6 + 2 + 5 and found.kinds["w"].icc == pytest.approx(np.mean(known))
    assert found.estimate == crossed(arms, B_MINUS_A, None, groups) and found.plain == crossed(arms, B_MINUS_A)
    alone = {"w": [Grouping.of(f"{size} {place}" for place in range(size)) for size in (12, 8, 5)]}
    assert clustered(arms, B_MINUS_A, alone).kinds["w"].icc is None
    one_set = {arm: arms[arm][0] for arm in "AB"}
    assert clustered(one_set, B_MINUS_A, {"w": [Grouping.of(range(12))]}).design_effect == 1
    same = np.ones((2, 12))
    assert clustered({"A": same, "B": same}, B_MINUS_A, {"w": groups[:1]}).design_effect is None
    kind = found.kinds["w"]
    counts = [{"w": dataclasses.replace(kind, num_clusters=number), "v": kind} for number in (9, 10, 11)]
    few = [dataclasses.replace(found, kinds=kinds).is_exploratory for kinds in counts]
    assert few == [True, False, False]


def test_a_data_set_that_is_there_twice_makes_nothing_surer() -> None:
    """The macro mean of a data set and its copy is that data set: the same clusters, not twice as many."""
    arms, forms = draw(9, num_units=24), [place % 3 for place in range(24)]
    names = [(place * 7 % 24) ** 2 // 60 for place in range(24)]
    twice = {arm: [values, values] for arm, values in arms.items()}
    for strata in (None, forms):
        once = {"w": [Grouping.of(names, strata)], "v": [Grouping.of([place // 4 for place in range(24)], strata)]}
        for kinds in (("w",), ("w", "v")):
            single = clustered(arms, B_MINUS_A, {kind: once[kind] for kind in kinds})
            macro = clustered(twice, B_MINUS_A, {kind: once[kind] * 2 for kind in kinds})
            assert_same(macro.estimate, single.estimate)
            assert macro.num_clusters == single.num_clusters
    named = Grouping.of([f"copy {name}" for name in names])
    apart = clustered(twice, B_MINUS_A, {"w": [Grouping.of(names), named]})
    assert apart.num_clusters == 2 * Grouping.of(names).num_clusters
    assert apart.estimate.v_query == pytest.approx(crossed(arms, B_MINUS_A, None, [Grouping.of(names)]).v_query / 2)


def test_clusters_that_some_data_sets_share_by_hand() -> None:
    """Of three data sets the first two share cluster b alone: B e is what e, one effect of each cluster, adds up to."""
    random, letters = np.random.default_rng(5), ("aabbbcc", "bbddee", "xyz")
    groups = [Grouping.of(text) for text in letters]
    first, alone = joints(groups)
    assert (first.places, first.num_clusters, alone.places) == ((0, 1), 5, (2,)) and num_together(groups) == 8
    effects = np.zeros((5, 5))
    parts = dict.fromkeys("abcde", 0.0)
    values = [random.normal(size=len(text)) for text in letters]
    for text, value in zip(letters[:2], values[:2], strict=True):
        size = len(text)
        for row, name in enumerate("abcde"):
            own = text.count(name)
            if own:
                scale = (own / (own - own**2 / size)) ** 0.5 / size
                chosen = [place for place, other in enumerate(text) if other == name]
                parts[name] += scale * float(np.sum(value[chosen] - value.mean()))
                for column, other in enumerate("abcde"):
                    effects[row, column] += scale * ((own if name == other else 0) - own * text.count(other) / size)
    square = effects.T @ effects
    assert first.df == pytest.approx(np.trace(square) ** 2 / np.trace(square @ square))
    arms = {"A": [np.zeros((1, len(text))) for text in letters], "B": [value[None] for value in values]}
    found = crossed(arms, B_MINUS_A, Options(deterministic=frozenset("AB")), groups)
    rest = float(np.var(values[2], ddof=1)) / 3
    assert found.v_query == pytest.approx((sum(part**2 for part in parts.values()) + rest) / 9)


def test_two_kinds_of_clusters_are_no_surer_than_the_worse_of_them() -> None:
    random = np.random.default_rng(4)
    rows, columns = np.repeat(np.arange(8), 8), np.tile(np.arange(8), 8)
    values = random.normal(size=8)[rows] + random.normal(size=8)[columns] + 0.1 * random.normal(size=64)
    arms = {"A": np.zeros((1, 64)), "B": values[None]}
    fixed = Options(deterministic=frozenset("AB"))
    groupings = {"row": [Grouping.of(rows)], "column": [Grouping.of(columns)]}
    both = over_new(arms, B_MINUS_A, fixed, groupings)
    alone = [crossed(arms, B_MINUS_A, fixed, groups) for groups in groupings.values()]
    cells = crossed(arms, B_MINUS_A, fixed, [Grouping.of(range(64))])
    assert both.se**2 == pytest.approx(alone[0].se ** 2 + alone[1].se ** 2 - cells.se**2)
    assert both.v_query == pytest.approx(both.se**2) and both.df == pytest.approx(7)
    assert both.se > max(estimate.se for estimate in alone)
    assert both.ci[1] - both.estimate == pytest.approx(both.se * 2.364624)  # t of 7 df
    found = clustered(arms, B_MINUS_A, groupings, fixed)
    assert found.estimate == both and [kind.num_clusters for kind in found.kinds.values()] == [8, 8]


def test_clusters_of_one_kind_inside_the_other_are_those_of_the_coarser() -> None:
    """V = V_1 + V_2 - V_2, so the finer clusters add nothing."""
    arms, fine, coarse = draw(7), [place // 2 for place in range(24)], [place // 4 for place in range(24)]
    groupings = {"fine": [Grouping.of(fine)], "coarse": [Grouping.of(coarse)]}
    alone = {kind: crossed(arms, B_MINUS_A, None, groups) for kind, groups in groupings.items()}
    larger = max(alone.values(), key=lambda estimate: estimate.se)
    assert_same(over_new(arms, B_MINUS_A, None, groupings), larger)


def test_a_stratum_takes_its_interaction_with_seeds_out_of_the_residual() -> None:
    """Seeds that differ by form alone leave no residual within forms, so all of it stays with the seeds."""
    forms = np.repeat([0, 1, 2], 8)
    swing = np.array([[1.0, -1, 0], [0, 1, -1], [-1, 0, 1]])[:, forms]
    units = np.random.default_rng(2).normal(size=24)
    arms = {"A": np.zeros((1, 24)), "B": units + swing}
    options = Options(deterministic=frozenset("A"))
    clusters = [place // 4 for place in range(24)]
    apart = crossed(arms, B_MINUS_A, options, [Grouping.of(clusters, forms)])
    assert apart.v_resid == pytest.approx(0) and crossed(arms, B_MINUS_A, options, [Grouping.of(clusters)]).v_resid > 0


def test_a_correlation_is_of_what_strata_leave() -> None:
    """Forms alone make templates alike: within forms nothing is left."""
    forms, templates = np.repeat([0, 1], 12), np.repeat(np.arange(8), 3)
    values = 10.0 * forms + np.tile([0.0, 1, 2], 8)
    assert intra_class(values, Grouping.of(templates)) == pytest.approx(0.966, abs=0.001)
    assert intra_class(values, Grouping.of(templates, forms)) == pytest.approx(-0.5)  # no two units more unlike


def test_the_cluster_that_carries_the_effect_comes_first() -> None:
    arms = {"A": np.zeros((1, 6)), "B": np.array([[9.0, 9, 0, 0, 1, 1]])}
    names = [["x", "x", "y", "y", "z", "z"]]
    left = without_each(arms, B_MINUS_A, names)
    assert list(left) == ["x", "z", "y"] and list(left.values()) == pytest.approx([0.5, 4.5, 5.0])
    assert list(without_each(arms, {"A": 1.0, "B": -1.0}, names)) == ["x", "z", "y"]
    assert without_each(arms, B_MINUS_A, [["x"] * 6]) == {}


def test_type_one_error_holds_where_the_plain_test_fails() -> None:
    rates = type_one(clusters=10, icc=0.5, units=144, seeds=5, draws=400, seed=0)
    noise = 3 * math.sqrt(0.05 * 0.95 / 400)
    assert rates["clustered"] <= 0.065 + noise and rates["plain"] > 0.2


def write_scores(path: Path, cluster_of: Callable[[int], str], num_units: int = 48) -> Path:
    random = np.random.default_rng(5)
    effect = random.normal(0.1, 0.2, num_units // 4)
    lines = ["arm,seed,dataset,condition,unit_id,cluster,measure,value"]
    for arm, seed, unit in itertools.product("AB", range(5), range(num_units)):
        value = 0.5 + (arm == "B") * effect[unit // 4] + 0.01 * random.normal()
        lines.append(f"{arm},{seed},d,changed,u{unit},{cluster_of(unit)},score,{value}")
    path.write_text("\n".join(lines) + "\n")
    return path


def asked_of(table: ScoreTable) -> list[Asked]:
    return [Asked("B - A", {"B": 1.0, "A": -1.0}, target, ("cluster",)) for target in targets(table)]


def test_a_scores_file_with_clusters_is_tested_over_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twelve wordings with four queries each; the same scores with every query by itself look much surer."""
    found = {}
    for name, cluster_of in (("wordings", lambda unit: f"w{unit // 4}"), ("queries", lambda unit: f"w{unit}")):
        path = write_scores(tmp_path / f"{name}.csv", cluster_of)
        out = tmp_path / f"{name}.json"
        assert main(["--scores", str(path), "--baseline", "A", "--json", str(out)]) == 0
        (found[name],) = json.loads(out.read_text())["contrasts"]
    shown = capsys.readouterr().out
    assert (
        "Clusters of units" in shown and "other queries like these, over new clusters (12 here) of these kinds" in shown
    )
    wordings, queries = found["wordings"], found["queries"]
    assert wordings["clusters"]["number"] == 12 and wordings["clusters"]["kinds"]["cluster"]["icc"] > 0.9
    assert wordings["clusters"]["se_over_units"] == pytest.approx(queries["se"])
    assert wordings["clusters"]["design_effect"] == pytest.approx((wordings["se"] / queries["se"]) ** 2)
    assert wordings["these_checkpoints"]["p_sign_flip"] > 3 * queries["these_checkpoints"]["p_sign_flip"]
    table = read_scores(tmp_path / "wordings.csv")
    (row,) = contrast_rows(table, asked_of(table), Plan())
    assert row.status == "confirmatory" and wordings["status"] == "exploratory"  # nothing was declared


def test_few_clusters_are_exploratory_and_a_unit_is_in_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_scores(tmp_path / "few.csv", lambda unit: f"w{unit % 9}")
    assert main(["--scores", str(path), "--baseline", "A"]) == 0
    assert "exploratory: fewer than 5 seeds in a trained arm, fewer than 10 clusters" in capsys.readouterr().out
    path.write_text(path.read_text().replace("A,0,d,changed,u3,w3", "A,0,d,changed,u3,w4"))
    assert main(["--scores", str(path), "--baseline", "A"]) == 2
    assert "unit 'u3' is in the clusters 'w4' and 'w3' (score on d (changed)); a unit is in" in capsys.readouterr().err
