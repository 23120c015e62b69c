"""A whole study through its sweeper: run, repeated, resumed, failing in one cell, killed, shared by two processes."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, compose, override

from ablate.cli.interrupts import asked_to_end
from ablate.engine import stages
from ablate.engine.prepare import Run
from ablate.recipe.schema import RunConfig
from ablate.records import UserError
from ablate.store.manifest import Manifest, read_manifest
from ablate.store.metering import Meter
from ablate.store.results import ResultStore
from ablate.study.declaration import DeclaredCell, build_study
from ablate.study.planning import Cell
from ablate.study.records import StudyRecords
from ablate.study.running import Board, run_in_batches, run_in_lanes, run_one_by_one
from ablate.tracking import read_ledger
from analysis.costs import main as show_costs
from analysis.fairness import main as show_fairness
from analysis.study.costs import format_costs, read_costs
from analysis.study.evidence import Evidence

SMOKE = ("-m", "+sweeps=smoke", "runtime.threads=1")
CELLS = [("instruction_negatives", 0), ("dual_view", 0), ("instruction_negatives", 1), ("dual_view", 1)]


def command(results: Path, *overrides: str) -> int:
    """Run a command line in this process and return its exit code."""
    from ablate.run import main

    given = sys.argv
    sys.argv = ["ablate.run", *overrides, override("runtime.results", results)]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = given
    return 0


def process(results: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ablate.run", *overrides, override("runtime.results", results)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def scores(results: Path) -> dict[str, str]:
    """Return the digest of the scores of every complete evaluation."""
    return {
        manifest.id: hashlib.sha256((results / "evals" / manifest.id / "scores.parquet").read_bytes()).hexdigest()
        for manifest in ResultStore(results).manifests("evaluation")
    }


def starts(results: Path) -> list[int]:
    """Return how often each training took its first step."""
    return [
        sum(record.get("kind") == "metrics" and record["step"] == 1 for record in read_ledger(path))
        for path in sorted(results.glob("runs/*/ledger.jsonl"))
    ]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Titles of the runs whose training is asked for, in order."""
    titles: list[str] = []
    original = stages.make_model

    def spy(run: Run, *given: Any) -> Manifest:
        titles.append(run.title)
        return original(run, *given)

    monkeypatch.setattr(stages, "make_model", spy)
    return titles


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the smoke study, uninterrupted."""
    results = tmp_path_factory.mktemp("finished")
    assert command(results, *SMOKE) == 0
    return results


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished study, to be harmed."""
    import shutil

    shutil.copytree(finished, tmp_path / "results")
    return tmp_path / "results"


def test_a_study_leaves_every_cell_with_its_declaration(finished: Path) -> None:
    store = ResultStore(finished)
    assert set(store.by_arm("train", "smoke")) == set(CELLS)
    digest = build_study(compose("+sweeps=smoke")["study"]).digest
    assert {manifest.declared for kind in ("mix", "train", "evaluation") for manifest in store.manifests(kind)} == {
        digest
    }
    (found,) = StudyRecords(store, "smoke").declarations().items()
    assert found[0] == digest and found[1]["study"]["arms"] == ["instruction_negatives", "dual_view"]
    assert found[1]["declared_at"] <= min(manifest.started for manifest in store.manifests("mix"))


def test_the_same_command_again_runs_nothing(
    finished: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert command(finished, *SMOKE) == 0
    assert trained == [] and capsys.readouterr().err == "4 of 4 cells done, 0 running here, 0 elsewhere, 0 failed\n"
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


def test_a_study_records_its_cells_and_analysis_calls_them_as_they_are_called(
    tmp_path: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    grid = "+study.grid=[{key:+miner,values:[bm25]}]"
    words = (*SMOKE, "study.arms=['label_noise factors.label_noise=1e-1']", grid, "study.claims=[]")

    def missing_runs() -> str:
        capsys.readouterr()
        assert show_fairness(["smoke", "--results", str(tmp_path)]) == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if "no declared run is missing" in line)
        return " ".join(line.split())

    assert command(tmp_path, *words, "seed=0", "runtime.plan_only=true") == 0 and not list(tmp_path.rglob("*.json"))
    assert command(tmp_path, *words, "seed=0") == 0
    label, store = "label_noise_0.1 miner=bm25", ResultStore(tmp_path)
    assert f"FAILED | 1 of 2 declared runs have no scores: {label} seed 1" in missing_runs()
    assert command(tmp_path, *words, "+miner=bm25") == 0
    assert "ok | all 2 declared runs are there" in missing_runs()
    (declared,) = StudyRecords(store, "smoke").declarations()
    cells = StudyRecords(store, "smoke").cells(declared)
    assert cells is not None and [(cell.label, cell.seed, cell.differs) for cell in cells] == [
        (label, 0, {}),
        (label, 1, {}),
    ]
    assert trained == [f"{label} seed 0", f"{label} seed 1"]
    (path,) = (tmp_path / "studies" / "smoke" / "cells").iterdir()
    text = path.read_text()
    for harm in (path.unlink, lambda: path.write_text("{")):  # results of before, and a damaged record
        harm()
        assert command(tmp_path, *words) == 0
        assert path.read_text() == text and len(trained) == 2


def test_cells_are_those_of_the_last_command_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hunter2hunter2")
    records = StudyRecords(ResultStore(tmp_path), "mine")
    declared = build_study({"question": "Why?", "arms": ["a"], "seeds": [0]})
    cell = DeclaredCell(label="a", seed=0, arm_id="0" * 16, differs={"source.path": "/x/hunter2hunter2/y"})
    assert records.cells(declared.digest) is None
    digest = records.declare(declared, [cell])
    (found,) = records.cells(digest) or ()
    assert found.differs == {"source.path": "/x/[removed: looks like a secret]/y"}
    records.declare(declared, [cell, dataclasses.replace(cell, seed=1)])
    assert [one.seed for one in records.cells(digest) or ()] == [0, 1]
    assert list(records.declarations()) == [digest]


def test_a_full_disk_costs_a_study_no_more_than_the_names_of_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = StudyRecords(ResultStore(tmp_path), "mine")
    declared = build_study({"question": "Why?", "arms": ["a"], "seeds": [0]})
    digest = records.declare(declared, [])
    (tmp_path / "studies" / "mine" / "cells" / f"{digest}.json").unlink()

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("ablate.study.records.write_atomically", full)
    assert records.declare(declared, []) == digest and records.cells(digest) is None
    assert "the cells of mine are not recorded in" in capsys.readouterr().err


def test_only_what_is_missing_is_run_again(copied: Path, finished: Path, trained: list[str]) -> None:
    store = ResultStore(copied)
    evaluations = store.by_arm("evaluation", "smoke")
    (store.folder("evaluation", evaluations["dual_view", 0].id) / "manifest.json").unlink()
    (store.folder("evaluation", evaluations["instruction_negatives", 1].id) / "manifest.json").unlink()
    assert command(copied, *SMOKE) == 0
    assert trained == ["dual_view seed 0", "instruction_negatives seed 1"]
    assert scores(copied) == scores(finished)


def test_a_failed_cell_keeps_its_traceback_and_the_others_are_done(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ResultStore(copied)
    for arm, seed in CELLS[1:]:
        (store.folder("evaluation", store.by_arm("evaluation", "smoke")[arm, seed].id) / "manifest.json").unlink()
    original = stages.make_scores

    def breaks(run: Run, *given: Any) -> Any:
        if run.title == "dual_view seed 0":
            raise ZeroDivisionError("nothing to divide")
        if run.title == "dual_view seed 1":
            raise OSError(errno.ENOSPC, "No space left on device", "here")
        return original(run, *given)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "make_scores", breaks)
        assert command(copied, *SMOKE) == 2
    lines = capsys.readouterr().err.splitlines()
    files = [copied / "failures" / "smoke" / f"dual_view-s{seed}.txt" for seed in (0, 1)]
    assert lines[-2:] == [
        f"failed: dual_view seed 0: ZeroDivisionError: nothing to divide ({files[0]})",
        f"failed: dual_view seed 1: the disk is full at here; finished stages are kept: make room (or point "
        f"runtime.results elsewhere) and issue the same command again ({files[1]})",
    ]
    assert "in breaks" in files[0].read_text() and "ZeroDivisionError" in files[0].read_text()
    assert "2 of 4 cells done, 0 running here, 0 elsewhere, 2 failed" in lines
    assert command(copied, *SMOKE, "runtime.plan_only=true") == 0
    assert f"dual_view seed 0              failed before  about 0 s; traceback: {files[0]}" in _plan(capsys)
    assert command(copied, *SMOKE) == 0
    assert not files[0].exists() and not files[1].exists()


def _plan(capsys: pytest.CaptureFixture[str]) -> str:
    import re

    return re.sub(r"about \d+ s", "about 0 s", capsys.readouterr().out)


def test_a_plan_of_seeds_that_were_not_declared(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(finished, *SMOKE, "seed=1,2", "runtime.plan_only=true") == 0
    states = [line.split("  ")[0] + ": " + line.split("  ")[-1].strip() for line in _plan(capsys).splitlines()]
    assert states[:4] == [
        "instruction_negatives seed 1: done",
        "dual_view seed 1: done",
        "instruction_negatives seed 2: about 0 s",
        "dual_view seed 2: about 0 s",
    ]


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (("-m", "+sweeps=smoke", "+experiment=dual_view"), "+experiment=dual_view cannot stand beside +sweeps=smoke"),
        (("+sweeps=smoke",), "write -m before +sweeps=smoke"),
        (("-m", "+sweeps=smoke", "seed=interval(0,1)"), "not a range to search"),
        (("-m", "+sweeps=smoke", "study.seeds=[]"), "study.seeds=[] must name at least one"),
        (("-m", "+sweeps=smoke", "runtime.label=x"), "two different runs would be recorded as x seed 0 of smoke"),
    ],
)
def test_bad_commands_are_refused_in_one_line(
    tmp_path: Path, overrides: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, *overrides) == 2
    error = capsys.readouterr().err
    assert text in error and error.startswith("error: ") and len(error.splitlines()) == 1
    assert not list(tmp_path.rglob("manifest.json"))


def test_incoherent_cells_fail_a_study_unless_it_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept = ("-m", "+experiment=dual_view", "factors.instructed=0,1", "runtime.plan_only=true", "model=tiny")
    assert command(tmp_path, *swept) == 2
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("dual_view instructed=0 seed 0  incoherent     factors.instruction_negatives=1 acts on")
    assert out[1].startswith("dual_view instructed=1 seed 0  to run")
    assert command(tmp_path, "-m", "+sweeps=factorial", "seed=0", "runtime.plan_only=true", "model=tiny") == 0
    assert "16 cells: 7 to run, 9 incoherent" in capsys.readouterr().out


def test_two_processes_on_one_study_train_each_run_once(finished: Path, tmp_path: Path) -> None:
    both = [process(tmp_path, *SMOKE) for _ in range(2)]
    errors = [one.communicate(timeout=300)[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], errors
    assert starts(tmp_path) == [1, 1, 1, 1]
    assert scores(tmp_path) == scores(finished)


def test_a_killed_study_goes_on_to_the_same_scores(finished: Path, tmp_path: Path) -> None:
    running = process(tmp_path, *SMOKE)
    deadline = time.monotonic() + 200
    while len(list(tmp_path.glob("runs/*/manifest.json"))) < 2:
        assert time.monotonic() < deadline and running.poll() is None, "the study did not get to its second training"
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    left = {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/manifest.json")}
    assert 2 <= len(left) < 4
    assert command(tmp_path, *SMOKE) == 0
    assert scores(tmp_path) == scores(finished)
    assert sum(starts(tmp_path)) <= 5  # only the one that was cut short
    now = {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/manifest.json")}
    assert {name: now[name] for name in left} == left


def test_asked_to_end_a_study_takes_no_cell_and_records_no_failure(board: Callable[[], Board], tmp_path: Path) -> None:
    one = board()
    number, taken = one.claim() or (0, one.cells[0])
    asked_to_end.set()
    try:
        one.give_back(number, taken, RuntimeError("its worker died"))
        assert one.claim() is None and not one.failed and not list(tmp_path.rglob("cell-*.json"))
    finally:
        asked_to_end.clear()
    assert one.claim() is not None


def test_joblib_and_its_workers_end_when_asked(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = process(tmp_path, *SMOKE, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("locks/run-*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    joblib.terminate()
    error = joblib.communicate(timeout=60)[1]  # the pipe is open for as long as a worker lives
    assert joblib.returncode == 143, error
    assert "ended by SIGTERM" in error and "once more" not in error
    assert not list(tmp_path.glob("locks/cell-*")) and not list(tmp_path.glob("failures/*/*"))


def test_joblib_shares_the_threads_and_gives_the_same_scores(finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = process(tmp_path, "-m", "+sweeps=smoke", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0")
    error = joblib.communicate(timeout=300)[1]
    assert joblib.returncode == 0, error
    threads = {manifest.hardware["threads"] for manifest in ResultStore(tmp_path).manifests("train")}
    assert threads == {max(1, len(os.sched_getaffinity(0)) // 2)}
    if threads == {1}:
        assert scores(tmp_path).items() <= scores(finished).items()


def test_costs_count_shared_stages_once(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    costs = read_costs(Evidence(finished, "smoke"))
    assert {arm: (cost.runs, cost.stages) for arm, cost in costs.items()} == {
        "dual_view": (2, 6),
        "instruction_negatives": (2, 6),
        "untouched": (0, 2),
    }
    assert all(cost.sums["cpu_s"] > 0 and not cost.unknown for cost in costs.values())
    tokens = sum(manifest.counts["tokens"] for manifest in ResultStore(finished).manifests("train"))
    assert sum(cost.sums.get("tokens", 0) for cost in costs.values()) == tokens
    assert f"{tokens:,}" in format_costs(costs).splitlines()[-1]
    assert show_costs(["smoke", "--results", str(finished)]) == 0
    assert show_costs(["smok", "--results", str(finished)]) == 2
    assert "studies there: smoke" in capsys.readouterr().err


def test_a_single_run_can_be_planned_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, "+experiment=dual_view", "model=tiny", "runtime.plan_only=true") == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["dual_view seed 0  to run         unknown", "1 cells: 1 to run"]
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_manifest_from_before_declarations_is_read(copied: Path) -> None:
    path = next(copied.glob("runs/*/manifest.json"))
    values = json.loads(path.read_text())
    assert values.pop("declared") and values.pop("checksum")
    path.write_text(json.dumps(values))
    manifest = read_manifest(path.parent)
    assert manifest is not None and manifest.declared == ""


def test_a_meter_counts_processor_time_and_holds_a_gpu_only_when_there_is_one() -> None:
    meter, end = Meter(), time.process_time() + 0.05
    while time.process_time() < end:
        pass
    cost = meter.cost()
    assert set(cost) == {"wall_s", "cpu_s"} and cost["cpu_s"] >= 0.03 and cost["wall_s"] >= 0.04
    on_gpu = Meter("cuda").cost()
    assert on_gpu["gpu_s"] == on_gpu["wall_s"] and set(on_gpu) <= {"wall_s", "cpu_s", "gpu_s", "gpu_joules"}


# The loop, with cells that are done by writing one file: no training.


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Board]:
    """Makes boards of four cells, each done when `done-<seed>` is there."""
    monkeypatch.setattr("ablate.study.running.is_done", lambda store, cell: (tmp_path / f"done-{cell.seed}").exists())
    monkeypatch.setattr("ablate.study.running.POLL_S", 0.01)
    return lambda: Board(ResultStore(tmp_path), list(cells()))


def cells() -> Iterator[Cell]:
    from test_planning import ids

    from ablate.recipe.build import build_run

    for seed in range(4):
        values = compose("+experiment=dual_view", "model=tiny")
        config: RunConfig = build_run({**values, "seed": seed})
        yield Cell((), "dual_view", seed, config, ids(config))


def test_a_cell_whose_worker_died_is_started_once_more(board: Callable[[], Board], tmp_path: Path) -> None:
    launched: list[int] = []

    def launch(cell: Cell, number: int) -> None:
        launched.append(number)
        if number == 1 or (number == 2 and launched.count(2) == 1):
            raise RuntimeError("a worker was killed")
        (tmp_path / f"done-{cell.seed}").touch()

    here = board()
    run_one_by_one(here, launch)
    assert launched == [0, 1, 1, 2, 2, 3]
    assert list(here.failed) == ["dual_view seed 1"] and "a worker was killed" in here.failed["dual_view seed 1"]
    assert "a worker was killed" in (tmp_path / "failures" / "single_runs" / "dual_view-s1.txt").read_text()


def test_a_cell_of_a_living_process_is_waited_for_and_not_run(board: Callable[[], Board], tmp_path: Path) -> None:
    here, launched = board(), list[int]()
    other = ResultStore(tmp_path).lock(f"cell-{here.cells[0].identity.eval_id}")  # type: ignore[union-attr]
    assert other.take() and not ResultStore(tmp_path).lock(other.path.stem).take()

    def launch(cell: Cell, number: int) -> None:
        launched.append(number)
        (tmp_path / f"done-{cell.seed}").touch()
        if number == 3:
            (tmp_path / "done-0").touch()
            other.release()

    assert "0 running here, 1 elsewhere" in here.line()
    run_one_by_one(here, launch)
    assert launched == [1, 2, 3] and not here.failed


def test_a_cell_is_looked_at_a_few_times_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablate.study.running.LOOKING", 1e-9)
    from test_planning import ids

    (first,) = itertools.islice(cells(), 1)
    config = first.config
    assert config is not None

    def looks(number: int) -> int:
        done, asked = set[int](), list[int]()

        def is_done(store: ResultStore, cell: Cell) -> bool:
            asked.append(cell.seed or 0)
            return cell.seed in done

        def launch(cell: Cell, number: int) -> None:
            done.add(cell.seed or 0)

        monkeypatch.setattr("ablate.study.running.is_done", is_done)
        configs = [dataclasses.replace(config, seed=seed) for seed in range(number)]
        many = [Cell((), "dual_view", config.seed, config, ids(config)) for config in configs]
        here = Board(ResultStore(tmp_path / str(number)), many)
        run_one_by_one(here, launch)
        assert len(done) == number and f"{number} of {number} cells done" in here.line()
        return len(asked)

    assert looks(40) <= 2.1 * looks(20)


def test_a_line_tells_of_other_processes_once_looking_is_due(
    board: Callable[[], Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = board()
    assert "0 of 4 cells done" in here.line()
    (tmp_path / "done-3").touch()
    monkeypatch.setattr("ablate.study.running.time.monotonic", lambda: math.inf)
    assert "1 of 4 cells done" in here.line()


def test_the_last_line_tells_of_what_other_processes_did_meanwhile(
    board: Callable[[], Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ablate.study.running.LOOKING", 1e-9)
    here = board()
    here.tell()

    def launch(cell: Cell, number: int) -> None:
        (tmp_path / f"done-{cell.seed}").touch()
        if number == 2:
            (tmp_path / "done-3").touch()  # by another process

    run_one_by_one(here, launch)
    assert capsys.readouterr().err.splitlines()[-1].startswith("3 of 4 cells done")
    here.tell(again=False)
    here.tell(again=False)
    assert capsys.readouterr().err == "4 of 4 cells done, 0 running here, 0 elsewhere, 0 failed\n"


def test_lanes_share_the_cells_and_pass_on_the_end_of_the_process(board: Callable[[], Board], tmp_path: Path) -> None:
    launched: list[int] = []

    def launch(cell: Cell, number: int) -> None:
        launched.append(number)
        time.sleep(0.05)
        (tmp_path / f"done-{cell.seed}").touch()

    run_in_lanes(board(), launch, 3)
    assert sorted(launched) == [0, 1, 2, 3]
    (tmp_path / "done-2").unlink()

    def ends(cell: Cell, number: int) -> None:
        raise SystemExit(143)

    with pytest.raises(SystemExit, match="143"):
        run_in_lanes(board(), ends, 2)


def test_a_batch_is_judged_by_its_results(board: Callable[[], Board], tmp_path: Path) -> None:
    sizes: list[int] = []

    def launch_all(batch: Any) -> None:
        sizes.append(len(batch))
        for _, cell in batch[:3]:
            (tmp_path / f"done-{cell.seed}").touch()
        raise RuntimeError("job 3 of the array was lost")

    here = board()
    run_in_batches(here, launch_all)
    assert sizes == [4] and list(here.failed) == ["dual_view seed 3"]


def test_declarations_are_kept_once_and_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    records = StudyRecords(store, "mine")
    declared = build_study({"question": "Why?", "arms": ["a"], "seeds": [0]})
    digest = records.declare(declared, [])
    path = tmp_path / "studies" / "mine" / f"{digest}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "declared_at": "2020"}))
    assert records.declare(declared, []) == digest
    assert records.declarations()[digest]["declared_at"] == "2020"
    for name in ("", ".", "..", "a/b"):
        with pytest.raises(UserError, match="must be a name without a slash"):
            StudyRecords(store, name)
    assert records.failure_file("a b", 0) != records.failure_file("a_b", 0)
    path.write_text("{}")
    with pytest.raises(UserError, match="not a readable declaration"):
        records.declarations()
