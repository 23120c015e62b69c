"""Audits of inverted labels: estimates against plain loops, agreement by hand, verdicts, coverage, the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from ablate.data.judgments import Judgment, Kind
from ablate.records import UserError
from analysis.audit.agreement import NAMES, agreement, coefficients
from analysis.audit.assess import MEASURES, PRIMARY, assess
from analysis.audit.items import Item, read_items
from analysis.audit.sampling import allocate
from analysis.audit.two_phase import estimate_share, merge_strata, share_interval, tail_probabilities
from analysis.inversion_audit import main
from analysis.sample_for_audit import main as sample_main
from benchmarks.audit_coverage import broken, cell_row

ANSWERS = {"right": (False, True), "back": (True, False), "both": (True, True), "neither": (False, False)}


def item(number: int, kind: str = "date", **changes: Any) -> Item:
    values = dict(
        id=f"i{number}",
        query_id=f"q{number}",
        query="films",
        passage_a="a",
        passage_b="b",
        instruction="only old ones",
        complement="no old ones",
        constraint_type=kind,
        stratum=kind,
        known_bad=False,
    )
    return Item(**{**values, **changes})


def judgment(number: int, kind: Kind, found: str = "right", rater: str = "r") -> Judgment:
    return Judgment(f"i{number}", rater, kind, True, False, *ANSWERS[found])


def by_loops(answers: Any, strata: Any, clusters: Any, judged: Any) -> tuple[float, float]:
    """Return theta and V of the formulas in plain loops, for samples without a complete stratum."""
    size = len(answers)
    rows: dict[int, list[int]] = {}
    for place in range(size):
        rows.setdefault(int(strata[place]), []).append(place)
    drawn = {h: [i for i in places if not math.isnan(answers[i])] for h, places in rows.items()}
    above = below = 0.0
    for h, places in drawn.items():
        n, big = len(places), len(rows[h])
        factor = (big / size) ** 2 * (1 - n / big) / n
        y, f = [answers[i] for i in places], [judged[i] for i in places]
        above += factor * sum((a - sum(y) / n) * (b - sum(f) / n) for a, b in zip(y, f, strict=True)) / max(n - 1, 1)
        below += factor * sum((b - sum(f) / n) ** 2 for b in f) / max(n - 1, 1)
    lam = above / below if below else 0.0
    theta = lam * sum(judged) / size
    residuals, unvaried = {}, 0
    for h, places in drawn.items():
        mean = sum(answers[i] - lam * judged[i] for i in places) / len(places)
        theta += len(rows[h]) / size * mean
        residuals |= {i: answers[i] - lam * judged[i] - mean for i in places}
        if sum(residuals[i] ** 2 for i in places) / max(len(places) - 1, 1) < 1e-12:
            unvaried += len(places)
    one = 1 / (unvaried + 2)
    independent, sums = 0.0, {}
    for h, places in drawn.items():
        n, big = len(places), len(rows[h])
        s2 = sum(residuals[i] ** 2 for i in places) / max(n - 1, 1)
        independent += (big / size) ** 2 * (1 - n / big) * (s2 if s2 >= 1e-12 else one * (1 - one)) / n
        for i in places:
            sums[clusters[i]] = sums.get(clusters[i], 0.0) + big / (n * size) * residuals[i]
    n, g = sum(map(len, drawn.values())), len(sums)
    clustered = (1 - n / size) * g / max(g - 1, 1) * sum(value**2 for value in sums.values())
    return min(max(theta, 0.0), 1.0), max(independent, clustered)


@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(0.5, 1.0), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_the_estimate_is_the_formula(seed: int, num_strata: int, share: float, per_query: int) -> None:
    random = np.random.default_rng(seed)
    size = 120
    strata = np.arange(size) % num_strata
    answers = (random.random(size) < share).astype(float)
    judged = np.where(random.random(size) < 0.8, answers, 1 - answers)
    answers[random.permutation(size) >= 60] = np.nan
    strata = merge_strata(strata, judged.astype(int), ~np.isnan(answers))
    complete = np.bincount(strata[~np.isnan(answers)], minlength=strata.max() + 1) == np.bincount(strata)
    assume(not complete.any())  # those are known exactly: a test of their own
    clusters = np.arange(size) // per_query
    found = estimate_share(answers, strata, clusters, judged)
    theta, variance = by_loops(answers, strata, clusters, judged)
    assert found.share == pytest.approx(theta, abs=1e-9)
    if 1e-9 < theta < 1 - 1e-9:
        ratio = t.ppf(0.975, 59) / t.ppf(0.975, 60 - found.num_strata)
        assert found.effective_n == pytest.approx(theta * (1 - theta) / variance * ratio**2, rel=1e-6)
        assert (found.low, found.high) == pytest.approx(share_interval(theta, found.effective_n))


def test_the_interval_is_clopper_and_pearsons_and_the_tails_are_its_inverse() -> None:
    for right in (0, 3, 49, 50):
        exact = binomtest(right, 50).proportion_ci(0.95, "exact")
        assert share_interval(right / 50, 50) == pytest.approx((exact.low, exact.high))
    low, high = share_interval(0.96, 50)
    assert tail_probabilities(0.96, 50, low)[0] == pytest.approx(0.025)
    assert tail_probabilities(0.96, 50, high)[1] == pytest.approx(0.025)


def test_strata_that_are_labelled_completely_are_known_exactly() -> None:
    """Half of the items by rule, .9 right; of the other half ten of forty, all right."""
    answers = np.array([1.0] * 36 + [0.0] * 4 + [1.0] * 10 + [np.nan] * 30)
    strata = np.repeat([0, 1], 40)
    found = estimate_share(answers, strata, np.arange(80))
    low, _ = share_interval(1.0, 10)
    assert found.share == pytest.approx(0.95)
    assert (found.low, found.high) == pytest.approx((0.45 + 0.5 * low, 0.95))
    whole = estimate_share(answers[:40], strata[:40], np.arange(40))
    assert (whole.low, whole.share, whole.high) == (0.9, 0.9, 0.9)
    assert whole.tails(0.8) == (0.0, 1.0) and whole.tails(0.95) == (1.0, 0.0)


def test_small_strata_are_merged_within_their_verdict_first() -> None:
    kinds = np.repeat([0, 1, 2, 0, 1], [20, 20, 20, 20, 20])
    verdicts = np.repeat([1, 1, 1, 0, 0], 20)
    labels = [2, 3, 9, 3, 4]
    labelled = np.concatenate([np.arange(20) < many for many in labels])
    merged = merge_strata(kinds, verdicts, labelled)
    groups = [set(merged[20 * place : 20 * place + 20]) for place in range(5)]
    assert all(len(group) == 1 for group in groups)
    assert groups[0] == groups[1] != groups[2] and groups[3] == groups[4] != groups[0]
    with pytest.raises(UserError, match="1 strata have items and no label"):
        estimate_share(np.array([1.0, np.nan]), np.array([0, 1]), np.array([0, 1]))


def test_krippendorffs_own_example_and_gwets_coefficient_by_hand() -> None:
    """Two raters, ten items (Krippendorff 2011, part A): alpha .095; raw .6, mean yes .3, so AC1 = .18 / .58."""
    first, second = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    yes = np.array(first) + np.array(second)
    values = dict(zip(NAMES, coefficients(yes, np.full(10, 2)), strict=True))
    assert values["alpha"] == pytest.approx(0.0952, abs=5e-4)
    assert values["raw"] == 0.6 and values["ac1"] == pytest.approx(0.18 / 0.58)
    assert values["positive"] == pytest.approx(2 / 6) and values["negative"] == pytest.approx(10 / 14)
    found = agreement(yes, np.full(10, 2), np.arange(10))
    assert all(low <= getattr(found, name) <= high for name, (low, high) in found.intervals.items())
    assert coefficients(np.array([2, 2]), np.array([2, 2]))[3] is None  # everybody always says yes


def test_raters_who_are_nearly_always_right_have_a_low_alpha_and_a_high_ac1() -> None:
    """Both .95 right at a prevalence of .97 (10,000 items by their expected counts): alpha .33, AC1 .89."""
    both_yes = 0.97 * 0.95**2 + 0.03 * 0.05**2
    both_no = 0.97 * 0.05**2 + 0.03 * 0.95**2
    counts = np.round(10_000 * np.array([both_yes, both_no])).astype(int)
    yes = np.repeat([2, 0, 1], [*counts, 10_000 - counts.sum()])
    values = dict(zip(NAMES, coefficients(yes, np.full(10_000, 2)), strict=True))
    assert values["raw"] == pytest.approx(0.905) and values["alpha"] == pytest.approx(0.33, abs=0.01)
    assert values["ac1"] == pytest.approx(0.89, abs=0.01)


def test_classes_and_failure_modes_are_counted_from_the_four_answers() -> None:
    items = [item(number) for number in range(10)]
    found = ["right"] * 6 + ["back", "both", "neither", "right"]
    gold = [judgment(number, "gold", name) for number, name in enumerate(found)]
    gold[9] = Judgment("i9", "r", "gold", True, True, False, None)
    audit = assess(items, gold)
    shares = {name: audit.shares[name].share for name in MEASURES}
    assert shares[PRIMARY] == pytest.approx(0.6)
    assert [shares[f"class {name}"] for name in ANSWERS] == pytest.approx([0.6, 0.1, 0.1, 0.1])
    assert shares["class unjudgeable"] == pytest.approx(0.1) and shares["cannot be judged"] == pytest.approx(0.1)
    assert shares["the complement does not exclude a"] == pytest.approx(0.2)
    assert shares["b still fails under the complement"] == pytest.approx(0.2)
    assert shares["b was relevant in the first place"] == pytest.approx(0.1)
    assert audit.polarity_signal == pytest.approx(1 - 0.2 - 0.2)
    assert audit.overall.call == "BELOW" and (audit.overall.low, audit.overall.high) == pytest.approx((0.6, 0.6))


def test_judges_alone_are_no_accuracy() -> None:
    audit = assess([item(number) for number in range(50)], [judgment(number, "judge") for number in range(50)])
    assert audit.overall is None and audit.by_constraint_type == {"date": None}
    assert "not reported as accuracy" in audit.notes[0]


def test_raters_who_wave_known_bad_items_through_cannot_decide() -> None:
    items = [item(number, known_bad=number >= 900) for number in range(940)]
    humans = [judgment(number, "human") for number in range(0, 900, 2)]
    honest = [judgment(number, "human", "back") for number in range(900, 940)]
    waving = [judgment(number, "human", "back" if number % 2 else "right") for number in range(900, 940)]
    clear, doubtful = assess(items, humans + honest), assess(items, humans + waving, threshold=0.99)
    assert clear.overall.call == "ABOVE" and clear.rater_error.rate == 0
    assert doubtful.rater_error.rate == 0.5 and doubtful.overall.call == "UNDECIDED"
    assert doubtful.overall.low < 0.99 < assess(items, humans, threshold=0.99).overall.low


def test_labels_that_are_needed_decide_when_they_come() -> None:
    """Of 5,000 items 60 are labelled, .95 right: undecided against .9; the number that is named decides."""
    items = [item(number) for number in range(5000)]

    def audit(labels: int) -> Any:
        names = ["back" if number % 20 == 0 else "right" for number in range(labels)]
        return assess(items, [judgment(number, "human", name) for number, name in enumerate(names)]).overall

    first = audit(60)
    assert first.call == "UNDECIDED" and 50 < first.labels_needed < 400
    assert audit(60 + math.ceil(first.labels_needed / 20 + 1) * 20).call == "ABOVE"
    assert audit(60 + first.labels_needed // 2).call == "UNDECIDED"


def test_kinds_of_constraint_are_corrected_together() -> None:
    items = [item(number, f"kind{number % 10}") for number in range(2000)]
    human = [judgment(number, "human") for number in range(600)]
    audit = assess(items, human)
    verdicts = audit.by_constraint_type.values()
    assert {verdict.call for verdict in verdicts} == {"ABOVE"}  # 60 of 60 in each: p = 2 x .9^60
    assert all(verdict.p_holm == pytest.approx(10 * verdict.p) for verdict in verdicts)


def test_the_interval_covers_the_truth_with_drifting_judges_and_clusters() -> None:
    for cell in ((0.85, 100, 16, 0.2, "good"), (0.90, 100, 2, 0.2, "good"), (0.97, 150, 16, 0.5, "drifting")):
        row = cell_row(cell, 300, seed=1)
        assert broken(row, 300) == [] and row["width"] < row["width_human_only"]
    assert broken({**row, "coverage": 0.85}, 300) == ["coverage 0.850"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_command_prints_and_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("id", "query_id", "query", "passage_a", "passage_b", "instruction", "complement", "constraint_type")
    items = [
        {name: getattr(item(number, "date" if number % 2 else "genre"), name) for name in names}
        for number in range(200)
    ]
    said = [vars(judgment(number, "judge", "back" if number % 8 == 0 else "right", "llm")) for number in range(200)]
    said += [
        vars(judgment(number, "human", "back" if number % 10 == 0 else "right", rater))
        for rater in ("ann", "bob")
        for number in range(80)
    ]
    command = [
        "--items",
        str(write(tmp_path / "items.jsonl", items)),
        "--json",
        str(tmp_path / "new" / "audit.json"),
        "--judgments",
        str(write(tmp_path / "said.jsonl", said)),
    ]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "Are the inverted labels right?" in shown and "Gwet's AC1" in shown and "| genre" in shown
    found = json.loads((tmp_path / "new" / "audit.json").read_text())
    assert found["verdicts"].keys() == {"swap accuracy", "date", "genre"}
    assert found["swap_accuracy"]["n"] == 80 and found["classes"]["back"]["estimate"] == pytest.approx(0.1, abs=0.03)
    assert found["agreement"]["human: swap accuracy"]["raw"]["value"] == 1.0
    assert found["by_constraint_type"]["date"]["estimate"] > found["by_constraint_type"]["genre"]["estimate"]


# The sample


def test_places_are_given_with_a_floor_and_in_proportion() -> None:
    """Of 50 places 13 by the floor, 33 and 3 in whole parts, and one that is left."""
    assert allocate({"a": 1000, "b": 100, "c": 3}, 50) == {"a": 39, "b": 8, "c": 3}
    assert allocate({"a": 10, "b": 10, "c": 10}, 7) == {"a": 3, "b": 2, "c": 2}
    assert allocate({"a": 4, "b": 6}, 10) == {"a": 4, "b": 6}


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(1, 300), min_size=1, max_size=9), st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_every_place_is_given_and_no_stratum_gives_more_than_it_has(sizes: dict[str, int], total: int) -> None:
    total = min(total, sum(sizes.values()))
    given_places = allocate(sizes, total)
    assert sum(given_places.values()) == total
    assert all(0 <= given_places[name] <= sizes[name] for name in sizes)
    floor = min(5, total // len(sizes))
    assert all(given_places[name] >= min(floor, sizes[name]) for name in sizes)


def test_a_sample_is_drawn_into_a_folder_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = tmp_path / "items.jsonl", tmp_path / "audit"
    path.write_text("".join(json.dumps(vars(item(n, passage_a=f"old {n}"))) + "\n" for n in range(60)))
    assert sample_main(["--items", str(path), "--size", "30", "--known-bad", "6", "--to", str(folder)]) == 0
    assert sorted(file.name for file in folder.iterdir()) == ["design.json", "items.jsonl"]
    assert len(read_items(folder / "items.jsonl")) == 66
    assert sample_main(["--items", str(path), "--size", "30", "--to", str(folder)]) == 2
    assert "holds a sample already" in capsys.readouterr().err
    design = json.loads((folder / "design.json").read_text())
    assert len(design["known_bad"]) == 6 and design["strata"] == {"date: not judged": {"drawn": 30, "items": 60}}
