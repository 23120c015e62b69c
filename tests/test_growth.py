"""How growth is told: exponents, tables, the section of a document, and a made study that the commands read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate.recipe.schema import IvfIndex
from ablate.study.declaration import Claim
from analysis import budgets, claims
from analysis.stats import families
from analysis.stats.asked import Asked, Target
from analysis.stats.contrast_rows import contrast_rows
from analysis.stats.families import DeclaredFamily, Plan
from analysis.stats.matrix import Cell, CellScores, ScoreTable, Values
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy
from analysis.study.runs import ArmRun
from analysis.verdict.judge import judge
from benchmarks import growth, report
from benchmarks.growth import Measured, exponent, tables_of, with_section
from benchmarks.search import index_of
from tests.synthetic_study import NDCG, Arm, claim, declare, make_quick, make_study, study_block


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


def test_no_two_made_runs_have_the_same_scores() -> None:
    """Runs of equal scores count as one model, so that what is measured would be another study."""
    assert len({tuple(report.scores(arm, seed, 20)) for arm in range(300) for seed in range(2)}) == 600


def count_calls(monkeypatch: pytest.MonkeyPatch, calls: Counter[str], owner: Any, name: str) -> None:
    """Count the calls of a function or method that is looked up in this owner."""
    original = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


class CountedRuns(tuple[ArmRun, ...]):
    """The runs of a study, which count how often all of them are gone through."""

    calls: Counter[str]

    def __iter__(self) -> Iterator[ArmRun]:
        self.calls["all runs"] += 1
        return super().__iter__()


def calls_of_judging(folder: Path, num_claims: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return what is looked through when a study of six arms of one model is judged."""
    names = [f"arm_{number}" for number in range(6)]
    asked = [claim(f"c{number}", "greater", contrast=f"{names[number]} - arm_0") for number in range(1, num_claims + 1)]
    under = declare(folder, study_block(asked, arms=names, seeds=[0, 1]))
    made = {
        name: Arm(train={"learning_rate": number}, seeds=(0, 1), declared=under, weights="one")
        for number, name in enumerate(names)
    }
    make_study(folder, made)
    opened = OpenStudy(Evidence(folder, "s"))
    assert [check.name for check in opened.checks]  # what is looked at once for all claims
    calls: Counter[str] = Counter()
    with monkeypatch.context() as patched:
        count_calls(patched, calls, Evidence, "same_model")
        count_calls(patched, calls, type(opened.evidence.store), "manifests")
        count_calls(patched, calls, Claim, "__eq__")
        runs = CountedRuns(opened.evidence.runs)
        runs.calls = calls
        patched.setitem(vars(opened.evidence), "runs", runs)
        assert sum(judged.row is not None for judged in judge(opened).claims) == num_claims
    return calls


def test_a_further_claim_looks_through_no_list_of_runs_models_or_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    few, many = (calls_of_judging(tmp_path / str(number), number, monkeypatch) for number in (1, 5))
    assert few == many
    assert set(few) == {"manifests", "all runs"}, "the counts count"


class NotListed(dict[str, Values]):
    """Scores of arms that can be looked up and not listed."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all arms are gone through")


def made_table(num_arms: int, mapping: type[dict[str, Values]] = dict) -> ScoreTable:
    """Return a table of arms with two seeds and three units in one place."""
    arms = {f"arm_{number}": np.random.default_rng(number).random((2, 3)) for number in range(num_arms)}
    place = CellScores(("a", "b", "c"), mapping(arms))
    return ScoreTable("made", dict.fromkeys(arms, ("0", "1")), {Cell(*NDCG): place})


def contrasts_of(table: ScoreTable) -> list[Asked]:
    """Return each arm of a table against the first."""
    ((cell, scores),) = table.cells.items()
    target = Target(cell, (scores,), (cell.dataset,))
    return [Asked(f"{arm} - arm_0", {arm: 1.0, "arm_0": -1.0}, target) for arm in table.arms[1:]]


def test_a_contrast_asks_for_the_scores_of_its_own_arms() -> None:
    tables = made_table(4), made_table(4, mapping=NotListed)
    listed, looked_up = (contrast_rows(table, contrasts_of(table), Plan()) for table in tables)
    assert listed == looked_up


def test_a_place_in_a_declared_family_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = contrasts_of(made_table(9))
    family = DeclaredFamily(tuple(asked), (False,) * len(asked))
    calls: Counter[str] = Counter()
    count_calls(monkeypatch, calls, families, "_identity")
    assert [list(family.places(contrast)) for contrast in asked] == [[place] for place in range(len(asked))]
    assert [family.as_declared(contrast) for contrast in asked] == asked
    assert calls["_identity"] == 3 * len(asked)  # once to know the family, and once for each question
