"""trackio mirrors the ledger on this machine: what it holds is read back from its own database; trouble is one line."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, extra

from ablate.records import UserError
from ablate.tracking import check_tracker, ledger_steps, open_tracker, read_ledger
from ablate.tracking.ledger import Ledger
from ablate.tracking.process import PATIENCE_S, Mirror, MirroredLedger
from ablate.tracking.trackio import trackio_environment, trackio_service

START: dict[str, Any] = {"group": "study", "job_type": "train", "tags": ["a=1"], "name": "arm-s0", "run_id": "r1"}
KEY = "hf_" + "0123456789" * 3


def rows_of(folder: Path, project: str = "p") -> dict[str, dict[str, Any]]:
    """Return run name -> its configuration, and its values by step."""
    with sqlite3.connect(f"file:{folder / project}.db?mode=ro", uri=True) as base:
        runs: dict[str, dict[str, Any]] = {}
        for name, config in base.execute("SELECT run_name, config FROM configs"):
            assert name not in runs, f"{name} is there twice"
            runs[name] = {"config": json.loads(config), "steps": {}}
        for name, step, values in base.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id"):
            runs[name]["steps"].setdefault(step, {}).update(json.loads(values))
    return runs


def record(folder: Path, steps: range = range(50), **names: Any) -> Path:
    """Log a run as a training does; returns its ledger."""
    ledger = folder / f"{(START | names)['run_id']}.jsonl"
    tracker = open_tracker("trackio", ledger_path=ledger, folder=folder / "t i", project="p", entity=None)
    tracker.start({"train": {"lr": 0.5}, "api_key": "hush", "note": KEY}, **(START | names))
    for step in steps:
        tracker.log(step, {"loss": float(step)})
    tracker.log(steps[-1], {"bad": math.nan, "d.v1/plain/plain/nDCG@10": 0.25})
    tracker.summary({"best": 0.75, "steps": 50, "loss": 0.5})
    tracker.table("scores", ["condition", "value"], [["plain", 0.25]])
    tracker.finish("finished")
    return ledger


@pytest.mark.extras
def test_a_run_is_in_its_database_whole_and_twice_is_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    extra("trackio")
    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/space")
    folder = tmp_path / "t i"
    ledger = record(tmp_path)
    line = f"trackio: look at it with: TRACKIO_DIR='{folder}' trackio show --project p"
    said = capfd.readouterr()
    assert said.err == "" and said.out.splitlines() == [line]
    run = rows_of(folder)["arm-s0"]
    config = {name: value for name, value in run["config"].items() if name[0] != "_"}
    assert config.pop("note") == config.pop("api_key") == "[removed: looks like a secret]"
    assert config == {"train": {"lr": 0.5}, "study": "study", "arm": "train", "tags": ["a=1"], "id": "r1"}
    assert run["config"]["_Group"] == "study" and run["config"]["_Username"] is None  # nobody was asked who this is
    assert {step: values["loss"] for step, values in run["steps"].items()} == {s: float(s) for s in range(50)}
    last = run["steps"][49]
    assert last["run/loss"] == 0.5
    assert (last["d.v1/plain/plain/nDCG@10"], last["best"], last["steps"], last["bad"]) == (0.25, 0.75, 50, "NaN")
    assert last["scores"]["_value"] == [{"condition": "plain", "value": 0.25}]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]

    command = [sys.executable, "-m", "ablate.tracking.mirror", str(ledger), str(folder), "p", "--trackio"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == [line]
    assert rows_of(folder) == {"arm-s0": run | {"config": rows_of(folder)["arm-s0"]["config"]}}


@pytest.mark.extras
def test_a_second_attempt_has_what_the_first_one_logged(tmp_path: Path) -> None:
    extra("trackio")
    record(tmp_path, range(4))
    record(tmp_path, range(2, 4))
    first, second = (rows_of(tmp_path / "t i")[name]["steps"] for name in ("arm-s0", "arm-s0-2"))
    assert sorted(first) == [0, 1, 2, 3] and {step: row["loss"] for step, row in second.items()} == {
        step: float(step) for step in range(4)
    }


@pytest.mark.extras
def test_two_runs_at_a_time_do_not_mix(tmp_path: Path) -> None:
    extra("trackio")
    trackers = {}
    for name in ("a", "b"):
        trackers[name] = open_tracker(
            "trackio", ledger_path=tmp_path / f"{name}.jsonl", folder=tmp_path / "t", project="p", entity=None
        )
        trackers[name].start({}, **(START | {"name": name, "run_id": name}))
    for step in range(30):
        for name, tracker in trackers.items():
            tracker.log(step, {name: float(step)})
    for tracker in trackers.values():
        tracker.finish("finished")
    runs = rows_of(tmp_path / "t")
    assert all(runs[name]["steps"] == {step: {name: float(step)} for step in range(30)} for name in trackers)


@pytest.mark.extras
def test_a_folder_that_cannot_be_written_is_one_line_and_the_ledger_is_whole(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    extra("trackio")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "p.db").write_bytes(b"this is no database, but somebody's file")
    tracker = open_tracker("trackio", ledger_path=tmp_path / "l.jsonl", folder=tmp_path / "t", project="p", entity=None)
    begun = time.monotonic()
    tracker.start({}, **START)
    for step in range(5):
        tracker.log(step, {"loss": float(step)})
    tracker.finish("finished")
    assert time.monotonic() - begun < PATIENCE_S + 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("trackio: ") and f"every number is in {tmp_path / 'l.jsonl'}" in line
    assert line.endswith(f"python -m ablate.tracking.mirror {tmp_path / 'l.jsonl'} {tmp_path / 't'} p --trackio")
    assert sorted(ledger_steps(tmp_path / "l.jsonl")) == list(range(5))


def test_a_mirror_that_is_late_is_ended_and_the_run_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mirror = Mirror(trackio_service(tmp_path / "t", "p"), patience_s=0.0)
    tracker = MirroredLedger(Ledger(tmp_path / "l.jsonl"), mirror)
    tracker.start({}, **START)
    tracker.finish("finished")
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("trackio: it did not keep up within 0 s; the run goes on, every number is in ")
    assert shlex.split(line)[-1] == "--trackio" and read_ledger(tmp_path / "l.jsonl")[-1]["status"] == "finished"


def test_without_the_package_a_run_is_refused_before_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "trackio" else find(name))
    with pytest.raises(UserError, match=r'needs the package trackio: pip install -e "\.\[trackio\]"'):
        check_tracker("trackio", "p", None)
    check_tracker("wandb", "p.q", "me")


def test_nothing_of_an_account_reaches_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.setenv("TRACKIO_SERVER_URL", "http://somewhere/?write_token=x")
    environment = trackio_environment(tmp_path)
    assert KEY not in environment.values() and environment["HF_HUB_OFFLINE"] == "1"
    assert [name for name in environment if name.startswith("TRACKIO_")] == ["TRACKIO_DIR"]
    assert environment["PATH"] == os.environ["PATH"]
