"""Offline runs of a study reach a server that speaks W&B's protocol, are compared there, and failures are told."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from wandb_server import ENTITY, KEY, wandb_server

from ablate.tracking import Ledger
from ablate.tracking.names import metric_name, tag_names
from ablate.tracking.process import Mirror, MirroredLedger
from ablate.tracking.sync import unsent_runs
from ablate.tracking.wandb import wandb_service


def record_run(results: Path, arm: str, seed: int, study: str = "s") -> None:
    """Make an offline run as a training leaves it."""
    path = results / "runs" / f"{arm}{seed}" / "ledger.jsonl"
    mirror = Mirror(wandb_service(results / "wandb", "p", None, online=False), patience_s=60.0)  # of a busy machine
    tracker = MirroredLedger(Ledger(path), mirror)
    names = {"group": study, "job_type": arm, "name": f"{arm}-s{seed}", "run_id": f"{arm}{seed}"}
    tracker.start({"seed": seed, "factors": {"instructed": 1.0}}, tags=["instructed=1.0"], **names)  # type: ignore[arg-type]
    for step in range(3):
        tracker.log(step, {"loss": 1.0 / (step + 1)})
    tracker.summary({"steps": 3})
    tracker.summary({"d/pairs/both/satisfying over violating": 0.5 + seed / 100, "d/plain/plain/nDCG@10": 0.25})
    tracker.finish("finished")


def sync(results: Path, url: str, *words: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = kept | {"WANDB_BASE_URL": url, "WANDB_API_KEY": key, "HOME": str(results), "WANDB_MODE": "disabled"}
    command = [sys.executable, "-m", "analysis.wandb_sync", "s", "--results", str(results), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=180)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three offline runs, two of them of study `s`."""
    folder = tmp_path_factory.mktemp("recorded")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        for arm, seed, study in (("a", 0, "s"), ("b", 1, "s"), ("c", 0, "other")):
            record_run(folder, arm, seed, study)
    folders = sorted((folder / "wandb").glob("wandb/offline-run-*"), key=lambda place: place.name[-2:])
    assert said.getvalue().splitlines() == [f"W&B: offline; send it with: wandb sync {place}" for place in folders]
    return folder


@pytest.fixture
def results(recorded: Path, tmp_path: Path) -> Path:
    """One offline run of study `s`, as its training left it."""
    for part in ("runs/a0", *(f"wandb/wandb/{place.name}" for place in recorded.glob("wandb/wandb/*-a0"))):
        shutil.copytree(recorded / part, tmp_path / part)
    return tmp_path


@pytest.fixture
def all_results(recorded: Path, tmp_path: Path) -> Path:
    """All recorded runs; W&B keeps no absolute path in them."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True, symlinks=True)
    return tmp_path


def secrets_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_study_arrives_once_and_is_compared(all_results: Path) -> None:
    results = all_results
    with wandb_server() as (server, url):
        done = sync(results, url)
        assert (done.returncode, done.stderr) == (0, ""), (done, server.unknown)
        lines = done.stdout.splitlines()
        assert lines[0].startswith("a-s0  done    sent; 7 values arrived") and lines[1].startswith("b-s1  done")
        assert lines[2] == f"s: 2 done, 0 failed, at {url}" and KEY not in done.stdout
        assert sorted(server.runs) == ["a0", "b1"]
        run = server.runs["b1"]
        assert run["groupName"] == "s" and run["jobType"] == "b" and run["tags"] == ["arm=b", "instructed=1.0"]
        config = {name: value["value"] for name, value in json.loads(run["config"]).items() if name != "_wandb"}
        assert config == {"arm": "b", "study": "s", "seed": 1, "factors": {"instructed": 1.0}}
        assert run["summary"]["d/pairs/both/satisfying_over_violating"] == 0.51 and run["summary"]["steps"] == 3
        assert [row["loss"] for row in run["history"]] == [1.0, 0.5, 1.0 / 3]

        uploads = server.uploads
        again = sync(results, url)
        assert again.returncode == 0 and again.stdout.count("sent before; 7 values") == 2 and server.uploads == uploads
        server.loses = "d/plain/plain/nDCG@10"
        lost = sync(results, url)
        assert (
            lost.returncode == 1 and lost.stdout.count("failed  arrived otherwise: d/plain/plain/nDCG@10 is None") == 2
        )
        server.loses = ""
        server.runs.clear()
        missing = sync(results, url)
        assert missing.returncode == 1 and missing.stdout.count("failed  sent, but what arrived is not known") == 2
        assert sync(results, url, "--again").returncode == 0 and sorted(server.runs) == ["a0", "b1"]
    assert secrets_in(results) == []


def test_a_wrong_key_is_one_line_and_nothing_is_marked_as_sent(results: Path) -> None:
    with wandb_server() as (server, url):
        server.accepts = False
        done = sync(results, url)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith(f"error: W&B at {url} does not answer as it should (")
    assert "nothing was sent" in line and "WANDB_API_KEY" in line and KEY not in line
    assert [run.is_sent for run in unsent_runs(results / "wandb")] == [False] and secrets_in(results) == []


def test_a_key_that_is_refused_only_by_the_upload_is_a_failed_run(results: Path) -> None:
    with wandb_server() as (server, url):
        answer = server.answer

        def refusing(body: dict[str, Any]) -> dict[str, Any]:
            if "upsertBucket" in body["query"]:
                server.accepts = False
                return {}
            return answer(body)

        server.answer = refusing  # type: ignore[method-assign]
        done = sync(results, url, "--timeout", "20")
    assert done.returncode == 1 and "a-s0  failed  " in done.stdout and "s: 0 done, 1 failed" in done.stdout


def test_a_server_that_is_down_is_one_line(results: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        done = sync(results, f"http://127.0.0.1:{free.getsockname()[1]}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "does not answer as it should" in done.stderr
    assert [run.is_sent for run in unsent_runs(results / "wandb")] == [False]


def test_a_run_that_has_not_ended_is_told_with_its_remedy(results: Path) -> None:
    (run,) = unsent_runs(results / "wandb")
    assert run.folder is not None
    note = run.folder / "ablate.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"ended": False}))
    run.ledger.write_text("".join(run.ledger.read_text().splitlines(keepends=True)[:-1]))  # killed before its end
    with wandb_server() as (server, url):
        done = sync(results, url)
        assert done.returncode == 1 and f"python -m ablate.tracking.mirror {run.ledger}" in done.stdout
        assert server.runs == {} and "not whole" in sync(results, url, "--list").stdout


def late_run(results: Path, patience_s: float) -> None:
    """Make a run whose mirror is killed at its time limit, as a busy machine does it."""
    path = results / "runs" / "c0" / "ledger.jsonl"
    mirror = Mirror(wandb_service(results / "wandb", "p", ENTITY, online=False), patience_s=patience_s)
    tracker = MirroredLedger(Ledger(path), mirror)
    tracker.start({"seed": 0}, group="s", job_type="c", tags=[], name="c-s0", run_id="c0")
    tracker.log(7, {"loss": 0.125})
    if patience_s:
        end = time.monotonic() + 30
        while not list((results / "wandb").glob("wandb/*run-*-c0/ablate.json")) and time.monotonic() < end:
            time.sleep(0.02)
    tracker.summary({"steps": 8})
    tracker.artifact(results / "model.bin", "arm", "model")
    tracker.finish("finished")


@pytest.mark.parametrize("patience_s", [0.0, 0.01], ids=["before it began", "in the midst"])
def test_what_a_killed_mirror_left_is_made_anew_from_the_ledger(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], patience_s: float
) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights of the model")
    late_run(tmp_path, patience_s)
    assert "W&B: it did not keep up within" in capfd.readouterr().err
    (run,) = unsent_runs(tmp_path / "wandb")
    assert (run.name, run.ended, run.folder is None) == ("c-s0", False, patience_s == 0.0)
    with wandb_server() as (server, url):
        done = sync(tmp_path, url)
        assert done.returncode == 0, (done, server.unknown)
        assert "c-s0  done    made anew from its ledger; sent; 5 values arrived" in done.stdout
        assert server.runs["c0"]["summary"]["steps"] == 8 and server.runs["c0"]["history"][0]["loss"] == 0.125
        assert server.artifacts == {"arm": {"model.bin": b"weights of the model"}}
        assert sync(tmp_path, url).stdout.startswith("c-s0  done    sent before;")
    assert not list((tmp_path / "wandb" / "begun").iterdir())


def test_an_attempt_that_a_later_one_supersedes_is_not_sent_as_half_a_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    late_run(tmp_path, 0.0)
    first, ledger = unsent_runs(tmp_path / "wandb")[0], tmp_path / "runs" / "c0" / "ledger.jsonl"
    assert first.stands() == "over"
    tracker = Ledger(ledger)
    assert first.stands() == "over"  # opened, and nothing new begun
    tracker.start({}, group="s", job_type="c", tags=[], name="c-s0", run_id="c0")
    assert first.stands() == "superseded"
    tracker.finish("finished")
    ledger.unlink()
    assert first.stands() == "lost"


def test_names_are_flat_and_tags_are_what_the_server_takes() -> None:
    assert metric_name("d.v1/pairs/both/SICR(code)") == "d_v1/pairs/both/SICR_code"
    assert metric_name("d/changed/after/p-MRR") == "d/changed/after/p-MRR"
    assert tag_names("a", ["x=1", "x=1", "", "y" * 70]) == ["arm=a", "x=1", "y" * 64]
