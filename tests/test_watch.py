"""A look at a running study: what is done, what runs, what is left, and that looking decides nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_study import Arm, claim, declare, make_quick, make_study, study_block

from ablate.store.files import LEDGER_FILE
from ablate.store.lock import Lock
from ablate.store.results import ResultStore
from ablate.store.workload import Workload
from analysis.verdict.board import look
from analysis.watch import NO_LOOK, headline, main, text


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_quick(monkeypatch)
    declare(tmp_path, study_block([claim("better", "greater")]))
    return tmp_path


def test_a_study_that_begins_has_nothing_done(results: Path) -> None:
    board = look(results, "s")
    assert (board.num_done, board.num_wanted, board.pace_s, board.left_s) == (0, 10, None, None)
    assert not board.rows and not board.running and not board.is_complete
    assert headline(board).startswith("s: 0 of 10 runs done")


def test_done_runs_and_contrasts_are_those_of_the_declaration(results: Path) -> None:
    arms = {
        "a": Arm(seeds=(0, 1)),
        "b": Arm(factors={"instructed": 1.0}, seeds=(0, 1, 2)),
        "z": Arm(factors={"instructed": 0.5}),
    }
    make_study(results, arms)
    board = look(results, "s")
    assert (board.num_done, board.num_wanted) == (5, 10)  # z is not declared
    (row,) = board.rows
    assert row.label == "b - a" and dict(row.num_seeds) == {"b": 3, "a": 2}
    assert board.pace_s is not None and board.left_s == pytest.approx(5 * board.pace_s)
    assert NO_LOOK in text(board)


def test_an_arm_without_training_stands_for_all_seeds(results: Path) -> None:
    bm25 = Arm(system={"stage": "ranker", "ranker": {"kind": "bm25"}}, seeds=(0,))
    make_study(results, {"a": bm25, "b": Arm(factors={"instructed": 1.0})})
    board = look(results, "s")
    assert board.num_done == 10 and board.is_complete
    assert "complete" in headline(board)


def test_what_runs_is_told_by_its_lock_and_its_ledger(results: Path) -> None:
    store = ResultStore(results)
    for train, arm in (("t1", "s/a"), ("t2", "other/b")):
        store.keep_workload(Workload(train, "m", (arm,), {"optimiser_steps": 40}))
    ledger = results / "runs" / "t1" / LEDGER_FILE
    ledger.write_text("\n".join([json.dumps({"step": 7}), json.dumps({"kind": "note"}), '{"step": 8, "val']))
    locks = [Lock(results / "locks" / f"run-{train}.json") for train in ("t1", "t2", "t3")]
    assert all(lock.take() for lock in locks[:2])
    try:
        (running,) = look(results, "s").running  # t2 is of another study, t3 is nobody's
        assert running == ("a", 7, 40)
        assert "a: step 7 of 40 (18%)" in text(look(results, "s"))
    finally:
        for lock in locks[:2]:
            lock.release()
    assert look(results, "s").running == ()


def test_failures_are_counted(results: Path) -> None:
    folder = results / "failures" / "s"
    folder.mkdir(parents=True)
    (folder / "a-s0.txt").write_text("boom")
    assert "1 failed" in headline(look(results, "s"))


def test_the_command_ends_by_itself_when_all_is_there(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study(results, {"a": Arm(), "b": Arm(factors={"instructed": 1.0})})
    assert main(["s", "--results", str(results)]) == 0
    assert "10 of 10 runs done, complete" in capsys.readouterr().out
    assert main(["nope", "--results", str(results)]) == 2
    assert "has neither runs nor a declaration" in capsys.readouterr().err
    assert main(["s", "--results", str(results), "--every", "0"]) == 2
