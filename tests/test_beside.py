"""The benchmark beside sentence-transformers: its batch without masks, its figures, its section, and the equality."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import extra

from ablate.data.batches import relations
from ablate.records import TrainingGroup
from benchmarks import beside
from benchmarks.peer import page
from benchmarks.peer.material import unmasked
from benchmarks.peer.processes import one_by_one


def group(name: str, query: str, positive: str, negative: str, answers: tuple[str, ...] = ()) -> TrainingGroup:
    return TrainingGroup(name, query, f"text of {query}", "", "original", (positive,), (negative,), (), answers)


def test_a_batch_without_masks_has_every_passage_once_and_all_are_candidates() -> None:
    groups = [
        group("a", "q1", "d1", "d2"),
        group("same query", "q1", "d3", "d4"),
        group("same passage", "q2", "d5", "d2"),
        group("known to answer", "q3", "d6", "d7", answers=("d1",)),
        group("b", "q4", "d8", "d9", answers=("d10",)),
        group("answers another", "q5", "d10", "d11"),
        group("c", "q6", "d12", "d13"),
    ]
    places = unmasked(groups, 8)
    assert [groups[place].group_id for place in places] == ["a", "b", "c"]
    assert bool(relations([groups[place] for place in places], True).candidate_QP.all())
    assert not bool(relations(groups, True).candidate_QP.all())
    assert unmasked(groups, 2) == places[:2]


def row(side: str, precision: str, times: list[float], peak: float) -> dict[str, Any]:
    told = {"workload": "world", "side": side, "precision": precision, "setting": f"{side} {precision}", "share": 0.5}
    return {**told, "cpu": times, "wall": [2 * time for time in times], "peak_mib": peak}


def cell(side: str, cells: int, cpu: float, precision: str = "fp32") -> dict[str, Any]:
    told = {"side": side, "precision": precision, "setting": side, "cells": cells}
    return {**told, "cpu": cpu, "wall": cpu, "peak_mib": 1000.0}


@pytest.fixture
def record() -> dict[str, Any]:
    told = {"loss": 1e-7, "gradients": 2e-6, "relative": 3e-6}
    return {
        "command": "python -m benchmarks.beside",
        "date": "2026-01-02",
        "versions": {"torch": "2.13.0"},
        "machine": {"processor": "P", "flags": [], "cores": 2, "load": [0.5, 1.5], "device": "no GPU"},
        "clock": "cpu",
        "threads": 1,
        "batch_size": 8,
        "rounds": 3,
        "skipped": ["a GPU"],
        "equality": {
            "equal": True,
            "groups": 8,
            "tokens": [100, 100],
            "loss": 1.25,
            "tolerance": 1e-4,
            "vectors": 1e-7,
            "with": {"plain": told, "cached": {**told, "gradients": 5e-6}},
        },
        "training": [
            row("default", "fp32", [400.0, 300.0, 330.0], 3000.0),
            row("best", "fp32", [210.0, 190.0, 200.0], 2000.0),
            row("best", "bf16", [90.0, 90.0, 90.0], 1500.0),
            row("ours", "fp32", [100.0, 100.0, 110.0], 1000.0),
            row("ours", "bf16", [60.0, 60.0, 60.0], 1200.0),
        ],
        "limit": {"fp32": 1e11, "bf16": 4e11},
        "encoding": [
            {"workload": "world", "side": "ours", "precision": "fp32", "setting": "x", "per_second": [50.0, 50.0]},
            {"workload": "world", "side": "best", "precision": "fp32", "setting": "y", "per_second": [60.0, 55.0]},
        ],
        "cell": "c",
        "cells": [
            cell("ours", 1, 60.0),
            cell("ours", 2, 100.0),
            cell("ours", 2, 50.0, "bf16"),
            cell("best", 2, 190.0),
            cell("best", 2, 125.0, "bf16"),
            cell("default", 2, 300.0),
        ],
        "scores": {
            "near": {"ours": [0.5, 0.54], "best": [0.52, 0.55], "default": [0.5, 0.5]},
            "far": {"ours": [0.5, 0.51], "best": [0.7, 0.7], "default": [0.5, 0.5]},
        },
    }


def test_goals_are_judged_in_the_same_precision(record: dict[str, Any]) -> None:
    values = {goal["what"]: (round(goal["value"], 2), goal["reached"]) for goal in page.goals(record)}
    assert values == {
        "training, world, fp32": (1.9, False),  # rounds 2.1, 1.9, 1.82
        "memory, world, fp32": (0.5, True),
        "training, world, bf16": (1.5, False),
        "memory, world, bf16": (0.8, False),
        "2 cells by one command, fp32, against its best, CPU": (1.9, False),
        "2 cells by one command, bf16, against its best, CPU": (2.5, True),
        "2 cells by one command, fp32, against its default, CPU": (3.0, True),
    }
    record["training"][3]["cpu"] = [95.0, 95.0, 95.0]
    assert page.goals(record)[0]["reached"]


def test_ratios_are_those_of_the_same_round() -> None:
    assert page.ratios([10.0, 30.0, 4.0], [10.0, 10.0, 2.0]) == (2.0, 1.0, 3.0)


def test_what_was_done_once_is_shared_out_over_all_groups() -> None:
    cost = {"cpu": 0.8, "once": {"cpu": 6.4}}
    assert beside._per_group(cost, "cpu", 8, 64) == pytest.approx(200.0)
    assert beside._per_group({"cpu": 0.8}, "cpu", 8, 64) == pytest.approx(100.0)


def test_the_section_says_where_we_are_not_better(record: dict[str, Any]) -> None:
    text = page.markdown(record)
    assert text.startswith(page.HEADING + "\n")
    assert "| world | best | best fp32 | 200 (190 to 210) | 400 | 2,000 | 50% |" in text
    assert "- world, fp32: its default takes 3.00 times our time (3.00 to 4.00); we take 33% of its memory." in text
    assert "we are SLOWER, 0.87 times (0.83 to 0.91)" in text
    assert "a gradient by 5.0e-06" in text and "**The same is computed**: yes" in text
    assert "| near | 0.520 | 0.535 | 0.028 | within twice the noise |" in text
    assert "| far | 0.505 | 0.700 | 0.007 | BEYOND twice the noise |" in text
    assert "| training, world, fp32 | ≥ 2 | 1.90 | NOT reached |" in text
    assert "Not measured: a GPU." in text
    record["equality"]["equal"] = False
    assert "**The same is computed**: NO" in page.markdown(record)


def test_a_section_takes_the_place_of_its_own_and_of_no_other() -> None:
    section = f"{page.HEADING}\n\nnew \\1\n"
    assert page.placed("", section) == f"# Performance\n\n{section}"
    before, after = "# Performance\n\n## A cell\n\nkept\n", "## After\n\nkept too\n"
    assert page.placed(before, section) == f"{before}\n{section}"
    old = f"{before}\n{page.HEADING}\n\nold\n\n### below\n\nold\n\n{after}"
    assert page.placed(old, section) == f"{before}\n{section}\n{after}"
    assert page.placed(page.placed(old, section), section) == f"{before}\n{section}\n{after}"


def test_a_process_that_fails_ends_the_benchmark_with_its_last_words() -> None:
    done = one_by_one([[sys.executable, "-c", "print('a')"], [sys.executable, "-c", "print('b')"]], 1)
    assert [process["out"] for process in done["processes"]] == ["a\n", "b\n"]
    assert all(process["cpu"] > 0 for process in done["processes"])
    with pytest.raises(RuntimeError, match="nothing of the kind"):
        one_by_one([[sys.executable, "-c", "raise SystemExit('nothing of the kind')"]], 1)


@pytest.mark.extras
def test_too_few_groups_for_the_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    extra("sentence_transformers")
    extra("datasets")
    assert beside.main(["--groups", "16", "--rounds", "4"]) == 2
    assert "raise it to 40" in capsys.readouterr().err


@pytest.mark.extras
def test_both_sides_compute_the_same(tmp_path: Path) -> None:
    extra("sentence_transformers")
    extra("datasets")
    words = ["--quick", "--json", str(tmp_path / "x.json"), "--to", str(tmp_path / "x.md")]
    assert beside.main(words) == 0
    record = json.loads((tmp_path / "x.json").read_text())
    told = record["equality"]
    assert told["equal"] and told["tokens"][0] == told["tokens"][1] > 0 and told["gradient_norm"] > 0.01
    assert set(told["with"]) == {"plain", "cached", "tokens"}
    sides = {(one["side"], one["precision"]) for one in record["training"]}
    assert {("default", "fp32"), ("best", "fp32"), ("ours", "fp32")} <= sides
    assert all(len(one["cpu"]) == 1 and one["cpu"][0] > 0 and one["peak_mib"] > 10 for one in record["training"])
    assert {one["side"] for one in record["encoding"]} == {"ours", "default", "best"}
    assert (tmp_path / "x.md").read_text().count(page.HEADING) == 1
