"""How growth is told: exponents, tables, the section of a document, and a made study that the commands read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablate.recipe.schema import IvfIndex
from analysis import budgets, claims
from benchmarks import growth
from benchmarks.growth import Measured, exponent, tables_of, with_section
from benchmarks.search import index_of


def test_exponent_is_the_slope_of_the_logarithms() -> None:
    assert exponent([(10, 2.0), (100, 20.0), (1000, 200.0)]) == pytest.approx(1)
    assert exponent([(10, 1.0), (100, 100.0)]) == pytest.approx(2)
    assert exponent([(10, 5.0), (1000, 5.0)]) == pytest.approx(0)
    assert exponent([(10, 1.0), (100, 1.0), (1000, 10.0)]) == pytest.approx(0.5)


def test_one_size_has_no_exponent() -> None:
    assert exponent([(10, 2.0)]) is None
    assert exponent([(10, 2.0), (10, 3.0)]) is None
    assert exponent([(10, 2.0), (100, 0.0)]) is None


def test_table_has_a_row_for_each_task_and_what_is_missing_is_a_dash() -> None:
    points = [Measured("cells: claims", size, size / 10, 0.0, 5.0) for size in (10, 100, 1000)]
    points += [Measured("cells: costs", 10, 1.0, 0.0, 7.0), Measured("documents: ivf", 10, 1.0, 0.0, 7.0, 0.9)]
    documents, cells = tables_of(points)
    assert documents.rows == (("ivf", "1.00 (7, recall 0.900)", "–", "100,000"),)
    assert cells.rows == (
        ("claims", "1.00 (5)", "10.00 (5)", "100.00 (5)", "1.00", "100,000"),
        ("costs", "1.00 (7)", "–", "–", "–", "100,000"),
    )


@pytest.mark.parametrize(("number", "kept"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 2), (5, 3), (6, 3)])
def test_the_exponent_is_taken_from_the_upper_half(number: int, kept: int) -> None:
    points = [(float(10**place), 1.0) for place in range(number)]
    assert list(growth.upper_half(points)) == points[number - kept :]


@pytest.mark.parametrize("num_documents", [100, 5_000, 20_000, 70_000, 1_000_000])
def test_inverted_lists_are_bounded_and_hold_more_than_is_asked_for(num_documents: int) -> None:
    index = index_of("ivf", num_documents, 100, 50)
    assert isinstance(index, IvfIndex)
    assert index.lists <= 1_024 and num_documents // index.lists >= 64
    assert index.probes == index.lists or index.probes * num_documents / index.lists >= 2_000
    assert index.probes >= index.lists // 16


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "## Growth\n\nnew\n"),
        ("# Title\n\n## Other\n\ntext\n", "# Title\n\n## Other\n\ntext\n\n## Growth\n\nnew\n"),
        (
            "# Title\n\n## Growth\n\nold\n\n## Other\n\ntext\n",
            "# Title\n\n## Growth\n\nnew\n\n## Other\n\ntext\n",
        ),
        ("# Title\n\n## Growth\n\nold\n", "# Title\n\n## Growth\n\nnew\n"),
    ],
)
def test_section_takes_its_own_place_alone(before: str, after: str) -> None:
    assert with_section(before, "## Growth\n\nnew\n") == after
    assert with_section(after, "## Growth\n\nnew\n") == after


def test_kept_measurements_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def child(*words: object) -> str:
        asked.append(words[:3])
        return json.dumps({"cpu_s": 1.0, "wall_s": 2.0, "peak_mib": 3.0})

    monkeypatch.setattr(growth, "_child", child)
    monkeypatch.setitem(growth.TASKS, "rows", ("read", "mix"))
    monkeypatch.setitem(growth.MOST, "rows: mix", 30)
    kept = tmp_path / "kept.jsonl"
    first = growth.measure({"rows": (10, 20)}, kept)
    assert [words[0] for words in asked] == ["make", "task", "task"] * 2
    asked.clear()
    assert growth.measure({"rows": (10, 20, 30, 40)}, kept)[:4] == first
    assert asked == [
        ("make", "rows", 30),
        ("task", "rows: read", 30),
        ("task", "rows: mix", 30),
        ("make", "rows", 40),
        ("task", "rows: read", 40),
    ]
    asked.clear()
    growth.measure({"rows": (40,)}, kept, full=True)
    assert asked == [("make", "rows", 40), ("task", "rows: mix", 40)]


def test_made_study_is_read_by_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    growth.make(tmp_path / "results", 20)
    place = [growth.STUDY, "--results", str(tmp_path / "results")]
    assert budgets.main(place) == 0
    assert claims.main(place) == 0
    assert "arm_1 - arm_0" in capsys.readouterr().out


def test_work_that_takes_no_time_goes_through_all_cells(tmp_path: Path) -> None:
    cells = growth.cells_of(10)
    assert len({cell.identity.eval_id for cell in cells}) == 10
    growth.work_through(tmp_path, cells)
    assert len(list((tmp_path / "worked" / "failures").rglob("*.txt"))) == 10


def test_an_epoch_has_each_group_once() -> None:
    assert growth.epoch(growth.groups_of(50)) == 50
