"""What is read of a study: each manifest and each file of scores once, whoever asks for it how often."""

from __future__ import annotations

import collections
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from synthetic_study import CHANGED, NDCG, NUM_UNITS, Arm, claim, declare, make_quick, make_study, study_block

import ablate.store.results as stored
from ablate.records import UserError
from analysis.stats.matrix import from_arrow
from analysis.study import scores as reader
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy


@pytest.fixture(autouse=True)
def made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    arms = {
        "a": Arm(shift={NDCG: 0.0, CHANGED: 0.0}),
        "b": Arm({"instructed": 1.0}, {NDCG: 0.1, CHANGED: 0.1}),
        "bm25": Arm(system={"stage": "ranker"}, seeds=(0,)),
    }
    declare(tmp_path, study_block([claim("one", "greater"), claim("two", "greater", contrast="b - bm25")]))
    make_study(tmp_path, arms)
    make_study(tmp_path, {"x": Arm({"other": 1})}, "another")
    return tmp_path


def count(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> collections.Counter[Path]:
    """Return a counter that counts the calls of a function by the path that it is given first."""
    calls: collections.Counter[Path] = collections.Counter()
    once: Callable[..., Any] = getattr(owner, name)

    def counted(path: Any, *more: Any, **options: Any) -> Any:
        calls[Path(path)] += 1
        return once(path, *more, **options)

    monkeypatch.setattr(owner, name, counted)
    return calls


@pytest.mark.parametrize(
    ("command", "more", "reads_scores"),
    [
        ("claims", (), True),
        ("significance", ("--baseline", "a"), True),
        ("significance", (), True),
        ("fairness", (), True),
        ("collect", (), True),
        ("budgets", (), False),
        ("costs", (), False),
    ],
)
def test_a_command_reads_every_file_once(
    results: Path, command: str, more: tuple[str, ...], reads_scores: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"analysis.{command}")
    manifests = count(monkeypatch, stored, "read_manifest")
    tables = count(monkeypatch, pq, "read_table")
    assert module.main(["s", "--results", str(results), *more]) == 0
    read = {path.parent.name for path in manifests}
    assert read == {"mixes", "runs"} if command == "budgets" else read == {"mixes", "runs", "evals"}
    assert set(manifests.values()) == {1}
    own = {path.parent for path in results.glob("evals/*/scores.parquet")}
    assert len(own) == 16 and len(tables) == (11 if reads_scores else 0)  # those of another study are not read
    assert set(tables.values()) <= {1}


def test_a_damaged_file_is_tried_once_and_told_to_everyone_who_asks(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = OpenStudy(Evidence(results, "s"))
    first = study.evidence.runs[0].evaluation
    (results / "evals" / first.id / "scores.parquet").write_bytes(b"x")
    tried = count(monkeypatch, reader, "reading")
    for _ in range(2):
        with pytest.raises(UserError, match="was changed"):
            study.evidence.scores(first)
    assert "the scores of a (0) cannot be read" in {check.name: check.found for check in study.checks}["same units"]
    with pytest.raises(UserError, match=r"scores\.parquet was changed"):
        _ = study.table
    assert len(tried) == 10  # the others; this one failed before it was opened


def test_what_was_read_stays_as_it_was(results: Path) -> None:
    evidence = Evidence(results, "s")
    before = evidence.runs
    make_study(results, {"c": Arm({"late": 1})})
    assert evidence.runs == before and {arm.arm for arm in evidence.mixed} == {"a", "b"}
    assert {run.arm for run in Evidence(results, "s").runs} == {"a", "b", "bm25", "c"}


def test_runs_with_the_same_units_share_one_table_of_them(results: Path) -> None:
    evidence = Evidence(results, "s")
    tables: dict[str, set[int]] = {}
    for run in evidence.runs:
        tables.setdefault(run.arm, set()).add(id(evidence.scores(run.evaluation).units))
    assert tables["a"] == tables["b"] != tables["bm25"] and {len(found) for found in tables.values()} == {1}


def test_scores_written_as_plain_texts_in_another_order_are_the_same_scores(results: Path) -> None:
    make_study(results, {name: Arm({"p": name}, seeds=(0, 1)) for name in ("p", "q")}, "pair")
    whole = Evidence(results, "pair")
    before = from_arrow(whole.long_table(), "s")
    evidence = Evidence(results, "pair")
    first, last = evidence.runs[0].evaluation, evidence.runs[-1].evaluation
    path = results / "evals" / first.id / "scores.parquet"
    table = reader.in_words(whole.long_table()).slice(0, NUM_UNITS).drop_columns(["arm", "seed"])
    pq.write_table(table.sort_by([("unit_id", "descending")]), path)
    first.content_sha256["scores.parquet"] = stored.digest_of(path)
    first.content_bytes["scores.parquet"] = path.stat().st_size
    checks = {check.name: check for check in OpenStudy(evidence).checks}
    assert checks["same units"].found == "20 values of the same units in each of 4 runs"
    assert evidence.scores(first).units is not evidence.scores(last).units
    after = from_arrow(evidence.long_table(), "s")
    assert after.seeds == before.seeds and after.cells.keys() == before.cells.keys()
    for cell, found in after.cells.items():
        assert found.units == before.cells[cell].units
        assert all((found.values_SQ[arm] == values).all() for arm, values in before.cells[cell].values_SQ.items())


def test_two_names_of_one_evaluation_are_two_arms_and_one_reading(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = Evidence(results, "s")
    evidence.store.add_label("evaluation", evidence.runs[0].evaluation.id, "s/again", {"d/test": "e/test"})
    tables = count(monkeypatch, pq, "read_table")
    fresh = Evidence(results, "s")
    rows = reader.in_words(fresh.long_table()).group_by(["arm", "dataset"]).aggregate([]).to_pylist()
    assert set(tables.values()) == {1} and len(tables) == 11
    named = {("a", "e/test"), ("again", "e/test")}
    assert {(row["arm"], row["dataset"]) for row in rows} == named | {(arm, "d/test") for arm in ("a", "b", "bm25")}
