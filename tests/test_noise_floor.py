"""Noise floors: runs are compared where they differ in one thing, and two arms that are one lie below the floor."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from synthetic_study import Arm, make_quick, make_study

from ablate.data.batches import plan_epoch
from analysis.noise_floor import main
from analysis.stats.noise import split_alarms, spread
from analysis.study.evidence import Evidence
from analysis.study.noise_floor import noise_of
from analysis.study.replicates import AXES, along, replicates

TWO_THREADS = {"device": "cpu", "device_name": "cpu", "threads": 2}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def rates(**more: object) -> dict[str, object]:
    return {"learning_rate": 0.1, "precision": "fp32", **more}


def drawn(names: str, means: Sequence[float]) -> list[tuple[str, float]]:
    """Return a group: a letter for what each run drew, and its mean."""
    return list(zip(names, means, strict=True))


def test_spread_is_the_pooled_standard_deviation() -> None:
    pooled = spread([drawn("ab", [0.1, 0.3]), drawn("cde", [0.5, 0.5, 0.8]), drawn("f", [0.9])])
    assert pooled is not None
    assert pooled.df == 3 and pooled.num_runs == 5
    assert pooled.sd == pytest.approx(math.sqrt((0.02 + 0.06) / 3))
    assert pooled.largest == pytest.approx(0.3)
    assert spread([drawn("a", [0.1]), []]) is None


def test_groups_of_the_same_draws_give_no_further_degrees_of_freedom() -> None:
    apart = spread([drawn("abc", [0.1, 0.3, 0.2]), drawn("def", [0.1, 0.3, 0.2])])
    shared = spread([drawn("abc", [0.1, 0.3, 0.2]), drawn("abc", [0.1, 0.3, 0.2])])
    assert apart is not None and shared is not None
    assert (apart.df, shared.df) == (4, 2)
    assert apart.sd == shared.sd
    assert shared.floor(5, 0.05) > apart.floor(5, 0.05)


@pytest.mark.parametrize(
    ("second", "third", "df"), [("ab", "abcde", 4), ("cde", "fg", 5), ("def", "cd", 5), ("de", "fg", 4)]
)
def test_draws_that_groups_share_in_part_count_once(second: str, third: str, df: int) -> None:
    groups = [drawn(names, [0.1 * place for place in range(len(names))]) for names in ("abc", second, third)]
    for ordered in (groups, groups[::-1]):
        pooled = spread(ordered)
        assert pooled is not None and pooled.df == df


def test_the_floor_of_one_axis_has_its_degrees_of_freedom(tmp_path: Path) -> None:
    make_study(tmp_path / "r", {"a": Arm(seeds=(0, 1, 2)), "b": Arm({"instructed": 1.0}, seeds=(3, 4, 5, 6))})
    (place,) = noise_of([Evidence(tmp_path / "r", "s")], 0.05).places
    assert place.together is not None
    assert place.together.df == place.by_axis["seed"].df == 5


@pytest.mark.parametrize("num_seeds", [1, 5])
def test_two_arms_that_are_one_exceed_the_floor_in_alpha_of_cases(num_seeds: int) -> None:
    draws = np.random.Generator(np.random.PCG64(3))
    exceeded = 0
    for _ in range(2000):
        pooled = spread([drawn("abcde", draws.normal(0, 0.01, 5).tolist())])
        assert pooled is not None
        difference = draws.normal(0, 0.01, num_seeds).mean() - draws.normal(0, 0.01, num_seeds).mean()
        exceeded += abs(difference) > pooled.floor(num_seeds, 0.1)
    assert 0.1 - 3 * math.sqrt(0.09 / 2000) <= exceeded / 2000 <= 0.1 + 3 * math.sqrt(0.09 / 2000)


def test_halves_of_one_arm_are_seldom_called_different_and_halves_of_two_are() -> None:
    draws = np.random.Generator(np.random.PCG64(1))
    same = [draws.normal(0, 1, (1, 40)) + draws.normal(0, 0.3, (8, 40)) for _ in range(20)]
    alarms = split_alarms(same, 0.05)
    assert alarms.num_splits == 20 * 35
    assert alarms.num_called < 0.1 * alarms.num_splits
    shifted = same[0] + np.where(np.arange(8) < 4, 5.0, 0.0)[:, None]
    assert split_alarms([shifted], 0.05).num_called >= 1
    assert split_alarms([same[0][:3]], 0.05).num_splits == 0


def test_every_axis_stands_apart(tmp_path: Path) -> None:
    arms = {
        "a": Arm(train=rates(), seeds=(0, 1, 2)),
        "other_order": Arm(train=rates(order=1), seeds=(0, 1)),
        "bf16": Arm(train=rates(precision="bf16"), seeds=(0,)),
        "other_rate": Arm(train={**rates(), "learning_rate": 0.2}, seeds=(0,)),
    }
    make_study(tmp_path / "r", arms)
    make_study(tmp_path / "two", {"a": Arm(train=rates(), seeds=(0, 1), hardware=TWO_THREADS)})
    make_study(tmp_path / "again", {"a": Arm(train=rates(), seeds=(2,))})
    runs = replicates([Evidence(tmp_path / name, "s") for name in ("r", "two", "again")])
    sizes = {axis: sorted(len(group) for group in along(runs, axis)) for axis in AXES}
    assert sizes == {
        "seed": [2, 2, 3],  # in the other order, on two threads, and in the first folder
        "order": [2, 2],
        "precision": [2],
        "threads": [2, 2],
        "device": [],
        "machine": [],
        "nothing": [2],
    }
    assert not any(run.run.arm == "other_rate" for axis in AXES for group in along(runs, axis) for run in group)


def test_the_command_says_what_was_seen_and_what_was_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study(tmp_path / "r", {"a": Arm(train=rates()), "b": Arm(factors={"instructed": 1.0}, train=rates())})
    out = tmp_path / "floor.json"
    assert main(["s", "--results", str(tmp_path / "r"), "--seeds", "1", "5", "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "Noise of seed" in shown
    assert "No runs that differ only in order, precision, threads, device, machine, nothing" in shown
    (place,) = json.loads(out.read_text())["places"]
    assert place["by_axis"]["seed"]["df"] == 4  # five seeds, in two arms
    assert place["floors"]["1"] == pytest.approx(place["floors"]["5"] * math.sqrt(5))
    assert place["alarms"]["num_splits"] == 20  # 10 ways to take 2 of 5, in two arms
    assert main(["s", "--results", str(tmp_path / "r"), "--measure", "nope"]) == 2
    assert "--measure 'nope' is not there" in capsys.readouterr().err


def test_the_same_run_made_again_shows_a_noise_of_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("r", "again"):
        make_study(tmp_path / name, {"a": Arm(train=rates(), seeds=(0, 1))})
    out = tmp_path / "floor.json"
    arguments = ["s", "--results", str(tmp_path / "r"), "--also", str(tmp_path / "again"), "--json", str(out)]
    assert main(arguments) == 0
    (place,) = json.loads(out.read_text())["places"]
    assert place["by_axis"]["nothing"] == {"num_runs": 4, "df": 2, "sd": 0.0, "largest": 0.0}
    assert place["by_axis"]["seed"]["num_runs"] == 2


def test_another_order_goes_through_the_same_rows() -> None:
    ids = [f"r{number}/{view}" for number in range(20) for view in ("original", "reversed")]
    first, other = (plan_epoch(ids, 8, seed=1, epoch=0, variant=variant) for variant in (0, 1))
    assert first != other
    assert first == plan_epoch(ids, 8, seed=1, epoch=0)
    assert sorted(sum(first, [])) == sorted(sum(other, [])) == list(range(40))
    assert all({index // 2 for index in batch} == {index // 2 for index in batch} for batch in other)
    for batch in other:
        assert sorted(batch) == sorted(
            {place for index in batch for place in (index - index % 2, index - index % 2 + 1)}
        )
