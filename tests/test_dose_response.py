"""Dose-response: the line through the gains, what right labels would give, and which noise an arm is worth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_study import NDCG, Arm, claim, declare, make_quick, make_study, study_block

from ablate.records import UserError
from analysis.dose_response import main, read_signal
from analysis.stats.dose import Signal, dose_line, equivalent_noise, without_label_error

DOSES = {"clean": 0.0, "tenth": 0.1, "third": 0.35, "half": 0.5}


def arms(constant: float, polarity: float, *, sd: float = 0.01, draws: int = 0) -> dict[str, np.ndarray]:
    """Return arms (5, 60) on the line over a reference, with noise of seeds and units."""
    random = np.random.Generator(np.random.PCG64(draws))
    units = random.normal(0, 0.1, 60)
    levels = {"base": 0.5, **{arm: 0.5 + constant + polarity * (1 - 2 * dose) for arm, dose in DOSES.items()}}
    return {
        arm: level + units + random.normal(0, sd, (5, 1)) + random.normal(0, sd, (5, 60))
        for arm, level in levels.items()
    }


def test_the_line_is_that_of_least_squares() -> None:
    blocks = arms(0.07, 0.15, draws=2)
    line = dose_line(blocks, DOSES, "base")
    gains = [blocks[arm].mean() - blocks["base"].mean() for arm in DOSES]
    slope, level = np.polyfit([1 - 2 * dose for dose in DOSES.values()], gains, 1)
    assert line.polarity.estimate == pytest.approx(slope)
    assert line.constant.estimate == pytest.approx(level)
    assert line.gains["third"].estimate == pytest.approx(gains[2])


def test_intervals_hold_the_truth_and_a_bend_is_seen() -> None:
    held = [0, 0, 0]
    for draw in range(200):
        blocks = arms(0.07, 0.15, draws=draw)
        line = dose_line(blocks, DOSES, "base")
        right = without_label_error(blocks, DOSES, "base", Signal(0.9, 0.0))
        held[0] += line.constant.ci[0] <= 0.07 <= line.constant.ci[1]
        held[1] += line.polarity.ci[0] <= 0.15 <= line.polarity.ci[1]
        assert right.ci is not None
        held[2] += right.ci[0] <= 0.07 + 0.15 / 0.9 <= right.ci[1]
    assert min(held) >= 180  # .95 less three Monte-Carlo errors
    bent = arms(0.07, 0.15)
    bent["third"] = bent["third"] + 0.1
    fit = dose_line(bent, DOSES, "base").fit
    assert fit is not None and fit.p < 0.05 and fit.arm == "third"


def test_errors_of_the_audit_widen_what_right_labels_give() -> None:
    blocks = arms(0.07, 0.15)
    line = dose_line(blocks, DOSES, "base")
    exact, rough = (without_label_error(blocks, DOSES, "base", Signal(0.8, se)) for se in (0.0, 0.1))
    assert exact.estimate == pytest.approx(line.constant.estimate + line.polarity.estimate / 0.8)
    assert rough.se**2 == pytest.approx(exact.se**2 + (line.polarity.estimate / 0.64 * 0.1) ** 2)
    assert without_label_error(blocks, DOSES, "base", Signal(1.0, 0.0)).estimate == pytest.approx(
        line.constant.estimate + line.polarity.estimate
    )
    with pytest.raises(UserError, match="teach no polarity"):
        without_label_error(blocks, DOSES, "base", Signal(0.0, 0.1))


def test_scores_without_spread_give_right_labels_no_interval() -> None:
    """Nothing varies, so no degrees of freedom are there: an interval of width 0 would claim to be certain."""
    blocks = {arm: np.full((3, 8), 0.1 * place) for place, arm in enumerate(["base", *reversed(DOSES)])}
    right = without_label_error(blocks, DOSES, "base", Signal(0.8, 0.1))
    assert right.ci is None and right.se > 0


def test_an_arm_is_worth_the_noise_that_it_was_given() -> None:
    held = 0
    for draw in range(100):
        blocks = arms(0.07, 0.15, draws=draw)
        blocks["other"] = blocks["half"].mean() - blocks["half"] + blocks["clean"].mean() - 0.06  # a dose of .2
        noise = equivalent_noise(blocks, DOSES, "base", "other")
        assert noise.low is not None and noise.high is not None and noise.low < noise.share < noise.high
        held += noise.low <= 0.2 <= noise.high
    assert held >= 85
    flat = equivalent_noise(arms(0.07, 0.0, sd=0.05), DOSES, "base", "half")
    assert (flat.low, flat.high) == (None, None)


def _study(folder: Path) -> None:
    twins = {"instructed": 1.0, "instruction_negatives": 1, "reversed_views": 1.0}
    made = {
        "base": Arm(factors={"instructed": 1.0, "instruction_negatives": 1}),
        "clean": Arm(factors=twins, shift={NDCG: 0.2}),
        "noisy": Arm(factors={**twins, "label_noise": 0.25}, shift={NDCG: 0.15}),
        "half": Arm(factors={**twins, "label_noise": 0.5}, shift={NDCG: 0.1}),
    }
    make_study(folder / "r", made)


def test_the_reference_is_worth_the_noise_that_takes_the_gain_away() -> None:
    blocks = arms(0.02, 0.15)
    line = dose_line(blocks, DOSES, "base")
    worth = equivalent_noise(blocks, DOSES, "base", "base")
    assert worth.share == pytest.approx((1 + line.constant.estimate / line.polarity.estimate) / 2)


def test_the_command_finds_the_doses_in_the_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_quick(monkeypatch)
    _study(tmp_path)
    share = {"estimate": 0.93, "ci": [0.90, 0.96]}
    audit = tmp_path / "audit.json"
    audit.write_text(json.dumps({"classes": {"right": share, "back": {"estimate": 0.03, "ci": [0.01, 0.05]}}}))
    out = tmp_path / "dose.json"
    base = ["s", "--results", str(tmp_path / "r"), "--reference", "base"]
    assert main([*base, "--audit", str(audit), "--equivalent", "noisy", "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "gain over base" in shown and "what right labels buy" in shown
    record = json.loads(out.read_text())
    (place,) = record["places"]
    assert [gain["dose"] for gain in place["gains"].values()] == [0.0, 0.25, 0.5]
    assert place["constant"]["estimate"] == pytest.approx(0.1, abs=0.02)
    assert place["polarity"]["estimate"] == pytest.approx(0.1, abs=0.02)
    assert place["equivalent_noise"]["noisy"]["share"] == pytest.approx(0.25, abs=0.1)
    assert record["signal"]["share"] == pytest.approx(0.9)
    assert record["signal"]["se"] == pytest.approx(0.05 / 1.96, rel=1e-3)
    assert main([*base, "--doses", "clean=0, half=.5"]) == 0
    assert main([*base, "--doses", "clean=0, half=1.5"]) == 2
    assert "a share of wrong labels lies between 0 and 1" in capsys.readouterr().err
    declare(tmp_path / "r", study_block([claim("c", "less", contrast="half - clean")], arms=["clean", "half"]))
    assert main([*base[:3], "--json", str(out)]) == 0  # the claims' baseline has a dose itself
    assert json.loads(out.read_text())["places"][0]["reference"] == "base"
    assert main([*base[:3], "--reference", "clean"]) == 2
    assert "has a dose itself" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{}", '{"classes": {"right": {"estimate": 1, "ci": [1]}, "back": {}}}', "[]"])
def test_another_file_is_no_audit(tmp_path: Path, content: str) -> None:
    path = tmp_path / "audit.json"
    path.write_text(content)
    with pytest.raises(UserError, match="inversion_audit --json"):
        read_signal(path)
