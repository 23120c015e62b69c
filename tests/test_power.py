"""Power, smallest detectable differences and cheapest designs against scipy, simulation and hand computation."""

from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from ablate.records import UserError
from ablate.tables import curves_svg
from analysis.power import main
from analysis.stats.crossed import Options, crossed
from analysis.stats.grouping import Grouping
from analysis.stats.power import (
    Costs,
    Parts,
    cheapest,
    detectable_table,
    outlook,
    pilot_parts,
    power,
    smallest_detectable,
    two_arms,
)

TYPICAL = two_arms(0.01, 0.10, 0.10)


def test_the_standard_error_of_a_design_by_hand() -> None:
    # S = 5, Q = 100: seed .0002 / 5, query .01 / 100, residual .02 / 500
    assert outlook(TYPICAL, 5, 100).se == pytest.approx(math.sqrt(4e-5 + 1e-4 + 4e-5))
    with pytest.raises(UserError, match="1 seeds × 100 units; the test needs at least 2 of both"):
        outlook(TYPICAL, 1, 100)


@pytest.mark.parametrize(("alpha", "num_units"), [(0.05, 9), (0.05, 200), (0.01, 30)])
def test_power_without_training_is_that_of_the_noncentral_t(alpha: float, num_units: int) -> None:
    # one mean square, so the degrees of freedom are known and the mean over its draws has a closed form
    test = outlook(Parts(0.0, float(num_units), 0.0, ()), 2, num_units, alpha)
    critical = stats.t.ppf(1 - alpha / 2, num_units - 1)
    for difference in (0.0, 1.0, -2.5, 4.0):
        expected = stats.nct.sf(critical, num_units - 1, difference) + stats.nct.cdf(
            -critical, num_units - 1, difference
        )
        assert power(difference, test) == pytest.approx(expected, abs=0.002)
    assert power(100.0, test) == pytest.approx(1)


def test_uneven_clusters_have_the_degrees_of_freedom_of_the_pilot() -> None:
    """Twenty-one clusters at half the evenness are a mean square of ten degrees of freedom, and find less."""
    uneven, even = (outlook(Parts(0.0, 21.0, 0.0, (), share), 2, 21) for share in (0.5, 1.0))
    critical = stats.t.ppf(0.975, 10)
    expected = stats.nct.sf(critical, 10, 3.0) + stats.nct.cdf(-critical, 10, 3.0)
    assert power(3.0, uneven) == pytest.approx(expected, abs=0.002) and power(3.0, even) > power(3.0, uneven) + 0.02
    arms = {arm: np.random.default_rng(place).normal(size=(3, 24)) for place, arm in enumerate("AB")}
    group = Grouping.of("aaaaaaaaaaaabbbbbbccddef")
    parts = pilot_parts(arms, {"B": 1.0, "A": -1.0}, None, group)
    assert parts.evenness == pytest.approx(group.df / 5) and parts.evenness < 0.8
    assert pilot_parts(arms, {"B": 1.0, "A": -1.0}, None, Grouping.of("abcdef" * 4)).evenness == pytest.approx(1)


def test_the_smallest_detectable_difference_has_the_wanted_power() -> None:
    test = outlook(TYPICAL, 5, 104)
    assert power(smallest_detectable(test), test) == pytest.approx(0.8, abs=1e-5)
    with pytest.raises(UserError, match="the power is 1; it must lie between alpha"):
        smallest_detectable(test, wanted=1)


@pytest.mark.parametrize("size", [(2, 20), (3, 1000), (10, 144)])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.0001])
def test_power_is_a_number_that_rises_to_one_however_large_the_difference(size: tuple[int, int], alpha: float) -> None:
    test = outlook(TYPICAL, *size, alpha)
    powers = [power(0.5 * step * test.se, test) for step in range(2000)]
    assert all(low <= high + 1e-9 for low, high in itertools.pairwise(powers))
    assert 0 <= powers[0] < max(1.2 * alpha, 0.002) and powers[-1] > 0.9


def test_smallest_detectable_differences_of_typical_parts() -> None:
    found = detectable_table(TYPICAL)
    rounded = {key: round(value, 4) for key, value in found.items()}
    # .0318 and .0308 if the degrees of freedom were known
    assert rounded[3, 1000] == 0.0353 and rounded[3, 9906] == 0.0350
    assert [round(found[s, 104], 3) for s in (3, 5, 10)] == [0.049, 0.039, 0.033]
    assert all(found[5, q] < found[3, q] for q in (20, 104, 9906))


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_a_predicted_power_of_80_percent_is_found_where_seeds_decide(num_seeds: int) -> None:
    # 1,000 units, seed sd .02: the noncentral t at the expected degrees of freedom would promise .88 and .82
    parts = two_arms(0.02, 0.10, 0.10)
    test = outlook(parts, num_seeds, 1000)
    difference = smallest_detectable(test)
    generator = np.random.Generator(np.random.PCG64(0))
    draws, num_units = 3000, 40  # the mean squares are those of 1,000 units, drawn on fewer
    shrink = math.sqrt(num_units / 1000)
    hits = 0
    for _ in range(draws):
        arms = {
            arm: generator.normal(0, shrink * 0.1 / math.sqrt(2), num_units)
            + shift
            + generator.normal(0, 0.02, (num_seeds, 1))
            + generator.normal(0, shrink * 0.1, (num_seeds, num_units))
            for arm, shift in (("A", 0.0), ("B", difference))
        }
        hits += crossed(arms, {"B": 1.0, "A": -1.0}).p < 0.05
    room = 3 * math.sqrt(0.8 * 0.2 / draws)
    assert 0.78 - room < hits / draws < 0.82 + room


def test_pilot_gives_back_its_parts() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    arms = {
        arm: generator.normal(0, 0.2, 400) + generator.normal(0, 0.05, (60, 1)) + generator.normal(0, 0.1, (60, 400))
        for arm in "AB"
    }
    found = pilot_parts(arms, {"B": 1.0, "A": -1.0})
    assert math.sqrt(found.seed) == pytest.approx(0.05 * math.sqrt(2), rel=0.15)
    assert math.sqrt(found.query) == pytest.approx(0.2 * math.sqrt(2), rel=0.1)
    assert math.sqrt(found.resid) == pytest.approx(0.1 * math.sqrt(2), rel=0.02)
    assert found.shares == (0.5, 0.5)
    # the design of the pilot itself has the standard error of its test
    test = crossed(arms, {"B": 1.0, "A": -1.0})
    assert outlook(found, 60, 400).se == pytest.approx(test.se, rel=0.1)
    again = Parts.of_test(test, [1.0, -1.0], 60, 400)
    assert (again.seed, again.query, again.resid) == pytest.approx((found.seed, found.query, found.resid))
    one_trained = {"A": arms["A"][:1], "B": arms["B"]}
    alone = pilot_parts(one_trained, {"B": 1.0, "A": -1.0}, Options(deterministic=frozenset("A")))
    assert alone.shares == (1.0,) and alone.resid == pytest.approx(found.resid / 2, rel=0.05)
    matched = pilot_parts(arms, {"B": 1.0, "A": -1.0}, Options(matched=True))
    assert matched.shares == (1.0,) and matched.seed == pytest.approx(found.seed, rel=0.5)
    with pytest.raises(UserError, match="no arm of the contrast has training randomness"):
        pilot_parts(arms, {"B": 1.0, "A": -1.0}, Options(deterministic=frozenset("AB")))


def test_parts_are_checked() -> None:
    with pytest.raises(UserError, match="the variance part 'query' is -1"):
        Parts(0, -1, 0)
    with pytest.raises(UserError, match="all variance parts are 0"):
        Parts(0, 0, 0)


def test_cheapest_design_is_the_cheapest() -> None:
    costs = Costs(seed=100, query=0.1, label=2)
    assert costs.total(3, 5, 40) == 3 * 5 * (100 + 4) + 80
    best = cheapest(TYPICAL, 0.03, costs, seeds=(5, 12), most_units=5000)
    assert best.detects <= 0.03 and power(0.03, outlook(TYPICAL, best.num_seeds, best.num_units)) >= 0.8
    assert power(0.03, outlook(TYPICAL, best.num_seeds, best.num_units - 1)) < 0.8
    for seeds in range(5, 13):
        enough = next(q for q in range(2, 5001) if power(0.03, outlook(TYPICAL, seeds, q)) >= 0.8)
        assert costs.total(2, seeds, enough) >= best.cost
    dear_units = cheapest(TYPICAL, 0.03, Costs(seed=1, query=0, label=100))
    assert dear_units.num_seeds > best.num_seeds and dear_units.num_units < best.num_units


def test_impossible_designs_are_refused() -> None:
    with pytest.raises(UserError, match="no design up to 6 seeds × 1000 units finds a difference of 0.001; that one"):
        cheapest(TYPICAL, 0.001, Costs(1, 1), seeds=(5, 6), most_units=1000)
    with pytest.raises(UserError, match="the wanted difference is 0; it must be above 0"):
        cheapest(TYPICAL, 0, Costs(1, 1))
    with pytest.raises(UserError, match="seeds from 6 to 5; they must rise within 2 to 100"):
        cheapest(TYPICAL, 0.1, Costs(1, 1), seeds=(6, 5))


def test_curves_are_well_formed_and_escaped() -> None:
    text = curves_svg({"<3 & seeds>": [(10, 0.1), (100, 0.01)]}, "a < b", "x", "y")
    root = ElementTree.fromstring(text)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<3 & seeds>", "a < b", "x", "y", "10", "100", "0.1", "0.01"} <= set(texts)
    points = root.find("{http://www.w3.org/2000/svg}polyline").get("points").split()
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in points)
    assert x1 > x0 and y1 > y0  # further right, and lower on the page
    with pytest.raises(UserError, match="needs points above 0"):
        curves_svg({"a": [(1, 0)]}, "", "", "")


def test_command_line_with_stated_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--sd-seed", ".01", "--sd-query", ".1", "--sd-resid", ".1", "--seeds", "3", "5"]
    arguments += ["--units", "104", "1000"]
    arguments += ["--difference", ".03", "--cost-seed", "1800", "--cost-query", ".02", "--out", str(tmp_path)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "|  1000 |  0.0353 |  0.0229 |" in shown and "Cheapest design for a difference of 0.03: 5 seeds" in shown
    record = json.loads((tmp_path / "power.json").read_text())
    assert len(record["detectable"]) == 4 and record["cheapest"]["num_seeds"] == 5
    ElementTree.fromstring((tmp_path / "power.svg").read_text())
    assert (tmp_path / "power.md").read_text() in shown


def test_command_line_with_a_pilot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.Generator(np.random.PCG64(2))
    path = tmp_path / "pilot.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "seed", "dataset", "condition", "unit_id", "measure", "value"])
        for arm in "AB":
            for seed in range(3):
                for unit in range(20):
                    for measure in ("nDCG@10", "RR@10"):
                        writer.writerow([arm, seed, "d", "c", unit, measure, generator.normal()])
    assert main(["--pilot", str(path), "--contrast", "B - A"]) == 2
    assert "name one with --dataset, --condition, --direction and --measure" in capsys.readouterr().err
    assert main(["--pilot", str(path), "--contrast", "B - A", "--measure", "RR@10"]) == 0
    assert "Smallest difference found with power 0.8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give --pilot with --contrast, or all of --sd-seed, --sd-query and --sd-resid"),
        (["--pilot", "p.csv"], "--pilot needs --contrast"),
        (["--sd-seed", "-1", "--sd-query", "0", "--sd-resid", "inf"], "the variance part 'resid' is inf"),
        (
            ["--sd-seed", ".1", "--sd-query", ".1", "--sd-resid", ".1", "--difference", ".1"],
            "--difference looks for the cheapest design and needs --cost-seed",
        ),
        (["--sd-seed", ".1", "--sd-query", ".1", "--sd-resid", ".1", "--power", "2"], "the power is 2.0"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert text in captured.err and captured.err.count("\n") == 1
