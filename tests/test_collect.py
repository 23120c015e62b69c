"""Scores of a study as one long table, and their means over seeds."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from synthetic_study import NDCG, Arm, make_study

from ablate.evaluation.storage import write_scores
from ablate.recipe.values import digest
from ablate.records import QueryScore
from ablate.store.results import ResultStore
from analysis.collect import main
from analysis.study.scores import format_means


def record(root: Path, arm: str, seed: int, values: dict[str, float], recipe: str = "") -> None:
    store, stage = ResultStore(root), {"arm": arm, "seed": seed, "recipe": recipe}
    folder = store.folder("evaluation", digest(stage))
    folder.mkdir(parents=True)
    scores = [QueryScore("d/test", "plain", "plain", unit, "nDCG@10", value) for unit, value in values.items()]
    write_scores(folder / "scores.parquet", scores)
    store.complete(
        "evaluation",
        stage,
        files=("scores.parquet",),
        parents=(),
        seed=seed,
        label=f"s/{arm}",
        counts={},
        hardware={},
        cost={},
        started="",
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    record(tmp_path, "a", 0, {"q1": 0.2, "q2": 0.4})
    record(tmp_path, "a", 1, {"q1": 0.6, "q2": 0.8})
    record(tmp_path, "untouched", 0, {"q1": 0.1, "q2": 0.1})
    return tmp_path


def test_the_table_has_every_score_with_arm_and_seed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["s", "--results", str(results), "--out", str(results / "out.parquet")]) == 0
    rows = pq.read_table(results / "out.parquet").to_pylist()
    assert [(row["arm"], row["seed"], row["unit_id"], row["value"]) for row in rows] == [
        ("a", 0, "q1", 0.2),
        ("a", 0, "q2", 0.4),
        ("a", 1, "q1", 0.6),
        ("a", 1, "q2", 0.8),
        ("untouched", 0, "q1", 0.1),
        ("untouched", 0, "q2", 0.1),
    ]
    printed = capsys.readouterr().out
    assert "d/test  nDCG@10" in printed and "6 scores written" in printed
    line = next(line for line in printed.splitlines() if line.strip().startswith("a "))
    assert line.split() == ["a", "2", "0.500", "±0.283"]  # means .3 and .7; standard deviation .4 / sqrt(2)


def test_the_table_is_what_the_significance_test_takes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from analysis.significance import main as significance

    main(["s", "--results", str(results), "--out", str(results / "out.parquet")])
    arguments = ["--scores", str(results / "out.parquet"), "--baseline", "untouched", "--deterministic", "untouched"]
    assert significance([*arguments, "--measure", "nDCG@10"]) == 0
    assert "a - untouched" in capsys.readouterr().out


def test_two_recipes_under_one_name_are_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(results, "a", 1, {"q1": 0.0, "q2": 0.0}, recipe="other")
    assert main(["s", "--results", str(results)]) == 2
    assert "two recipes share a name" in capsys.readouterr().err


def test_unknown_studies_and_measures_are_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["t", "--results", str(results)]) == 2
    assert "no evaluation of a study 't'" in capsys.readouterr().err
    assert main(["s", "--results", str(results), "--measure", "x"]) == 2
    assert "--measure 'x' is not there; measures: nDCG@10" in capsys.readouterr().err


def test_measures_are_called_and_scaled_as_in_the_table_of_a_run() -> None:
    place = ("changed", "after")
    shown = format_means(
        {("d", "AP@1000", *place): {"a": {0: 0.25, 1: 0.25}}, ("d", "p-MRR", *place): {"a": {0: 0.125, 1: 0.375}}}
    )
    heads = [line.partition("  (")[0] for line in shown.splitlines() if line.startswith("d ")]
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith("a ")]
    assert heads == ["d  MAP@1000", "d  p-MRR x 100"]
    assert rows == [["a", "2", "0.250", "±0.000"], ["a", "2", "25.0", "±17.7"]]


def test_a_measure_may_be_asked_for_by_the_name_of_its_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study(tmp_path, {"a": Arm(shift={("d/test", "plain", "plain", "RR@10"): 0.0, NDCG: 0.0})})
    for name in ("RR@10", "MRR@10"):
        assert main(["s", "--results", str(tmp_path), "--measure", name]) == 0
        printed = capsys.readouterr().out
        assert "d/test  MRR@10" in printed and "nDCG@10" not in printed
