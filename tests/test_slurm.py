"""SLURM: presets, what is asked of it, jobs that are found again, lost or refused; and a study where one answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import compose, override
from omegaconf import OmegaConf
from test_study import board, process, scores

from ablate.cli.explain import Places
from ablate.recipe.build import build_run
from ablate.records import UserError
from ablate.store.results import ResultStore
from ablate.study import slurm
from ablate.study.slurm import Queue, Queued, Submissions, fate, in_words, largest_array

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

import hydra_plugins.ablate_slurm as plugin  # noqa: E402

__all__ = ["board"]  # a fixture of the tests of studies

COMMANDS = {
    "sbatch": """cp "$1" "$STATE/script-$(ls "$STATE" | grep -c script)"
                 [ -f "$STATE/refusal" ] && { cat "$STATE/refusal" >&2; exit 1; }
                 sed "s/NAME/$(sed -n 's/^#SBATCH --job-name=//p' "$1")/" "$STATE/after" > "$STATE/queue"
                 echo Submitted batch job 7""",
    "squeue": '[ -f "$STATE/away" ] && exit 1; cat "$STATE/queue"',
    "scontrol": 'cat "$STATE/known"',
    "srun": "exit 1",
}
"""SLURM's commands as far as they are asked: the queue is a file, which becomes `after` when jobs are queued."""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what these commands answer; looks at the queue need no pause."""
    programs, folder = tmp_path / "bin", tmp_path / "state"
    programs.mkdir()
    folder.mkdir()
    for name, text in COMMANDS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    for name in ("queue", "after", "known"):
        (folder / name).touch()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(folder))
    settings(
        "ablate_slurm_cpu"
    )  # Hydra executes the module anew when it looks for plugins, the first time in a process
    monkeypatch.setattr(plugin, "QUEUE", Queue(look_s=0.0))
    monkeypatch.setattr(slurm, "GONE_AFTER_S", 0.0)
    return folder


def settings(preset: str, *overrides: str) -> dict[str, Any]:
    """Return the settings of a launcher by its preset."""
    composed = Places().composed([f"hydra/launcher={preset}", *overrides])
    launcher = OmegaConf.to_container(composed.hydra.launcher, resolve=False)
    assert isinstance(launcher, dict)
    return {str(key): value for key, value in launcher.items()}


def launcher_of(results: Path, preset: str = "ablate_slurm_cpu", *overrides: str) -> Any:
    given = settings(preset, *overrides)
    assert given.pop("_target_") == "hydra_plugins.ablate_slurm.SlurmLauncher"
    given |= {"submitit_folder": f"{results}/logs/.submitit/%j", "name": "run"}
    launcher = plugin.SlurmLauncher(**given)
    launcher.config = OmegaConf.create({"hydra": {"sweep": {"dir": f"{results}/logs"}}})
    return launcher


def launched(launcher: Any, results: Path, *cells: str) -> dict[int, Exception | None]:
    return dict(launcher.launch_cells(cells, [[f"seed={cell}"] for cell in cells], 0, ResultStore(results)))


def scripts(state: Path) -> list[str]:
    return [path.read_text() for path in sorted(state.glob("script-*"))]


def leaves_result(results: Path, job: str) -> None:
    """Let a job have ended well, by the result file that submitit's jobs leave."""
    import pickle

    from hydra.core.utils import JobReturn, JobStatus

    folder = results / "logs" / ".submitit" / job
    folder.mkdir(parents=True, exist_ok=True)
    back = JobReturn(status=JobStatus.COMPLETED)
    (folder / f"{job}_0_result.pkl").write_bytes(pickle.dumps(("success", back)))


def test_presets_differ_in_the_gpu_alone() -> None:
    gpu, cpu = settings("ablate_slurm"), settings("ablate_slurm_cpu")
    assert {key for key in gpu if gpu[key] != cpu[key]} == {"gpus_per_node"}
    assert gpu["gpus_per_node"] == 1 and cpu["gpus_per_node"] is None
    assert gpu["max_num_timeout"] > 0 and 0 < gpu["signal_delay_s"] < 60 * gpu["timeout_min"]


@pytest.mark.parametrize("preset", ["ablate_slurm", "ablate_slurm_cpu"])
def test_what_sbatch_is_asked_for(state: Path, tmp_path: Path, preset: str) -> None:
    launcher = launcher_of(tmp_path, preset, "hydra.launcher.partition=here", "hydra.launcher.timeout_min=90")
    launched(launcher, tmp_path, "a", "b", "c")
    (script,) = scripts(state)
    asked = dict(line.removeprefix("#SBATCH --").split("=", 1) for line in script.splitlines() if "#SBATCH" in line)
    values = settings(preset)
    assert asked["signal"] == f"USR2@{values['signal_delay_s']}" and asked["time"] == "90"
    assert asked["array"] == "0-2%3" and asked["partition"] == "here" and asked["open-mode"] == "append"
    assert asked["cpus-per-task"] == str(values["cpus_per_task"]) and asked["mem"] == f"{values['mem_gb']}GB"
    assert asked.get("gpus-per-node") == (None if preset == "ablate_slurm_cpu" else "1")
    assert re.fullmatch("run-[0-9a-f]{12}", asked["job-name"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("JobState=CANCELLED Reason=None ExitCode=0:15 NodeList=n1", "CANCELLED, exit code 0:15, on n1"),
        ("JobState=NODE_FAIL Reason=NodeDown ExitCode=0:0 NodeList=n1", "NODE_FAIL, NodeDown, exit code 0:0, on n1"),
    ],
)
def test_a_lost_job_is_told_with_what_slurm_knows_and_others_count(
    state: Path, tmp_path: Path, fields: str, words: str
) -> None:
    leaves_result(tmp_path, "7_1")
    (state / "known").write_text(f"JobId=8 {fields}\n")
    ended = launched(launcher_of(tmp_path), tmp_path, "a", "b")
    assert ended[1] is None
    assert f"SLURM job 7_0 left no result: {words}" in str(ended[0])
    assert str(ended[0]).endswith("; the same command queues it again")
    assert not list((tmp_path / "submissions").iterdir())


def test_jobs_of_a_killed_command_are_waited_for_and_not_queued_again(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = Submissions(ResultStore(tmp_path)).add(["x", "b"])
    queue = f"5_0|RUNNING|run-{mark}|None\n5_1|PENDING|run-{mark}|Resources\n6|RUNNING|other|None\n"
    for name in ("queue", "after"):
        (state / name).write_text(queue)
    for job in ("5_1", "7"):
        leaves_result(tmp_path, job)
    assert launched(launcher_of(tmp_path), tmp_path, "a", "b") == {0: None, 1: None}
    (script,) = scripts(state)
    assert "--array" not in script
    assert [path.stem for path in (tmp_path / "submissions").iterdir()] == [mark]  # 5_0 is queued still
    said = capsys.readouterr().err
    assert "in SLURM's queue already: 1 cells (5_1)" in said and "queued in SLURM: 1 cells as job 7" in said


def test_jobs_that_are_queued_stay_findable_until_they_ended(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "after").write_text("7_0|RUNNING|NAME|None\n7_1|PENDING|NAME|Resources\n")
    leaves_result(tmp_path, "7_0")
    waiting = launcher_of(tmp_path).launch_cells(["a", "b"], [[], []], 0, ResultStore(tmp_path))
    assert next(waiting) == (0, None)
    with pytest.raises(KeyboardInterrupt):
        waiting.throw(KeyboardInterrupt)
    assert "`scancel 7` ends them" in capsys.readouterr().err
    jobs = Queue().jobs()
    assert jobs is not None and Submissions(ResultStore(tmp_path)).living(jobs) == {"a": "7_0", "b": "7_1"}


def test_a_refusal_is_one_line_in_the_words_of_sbatch(state: Path, tmp_path: Path) -> None:
    (state / "refusal").write_text("sbatch: error: Invalid generic resource (gres) specification\n")
    with pytest.raises(UserError, match="SLURM refuses the jobs: .*Invalid generic.*hydra/launcher=ablate_slurm_cpu"):
        launched(launcher_of(tmp_path, "ablate_slurm"), tmp_path, "a", "b")
    assert not list((tmp_path / "submissions").iterdir())
    (state / "away").touch()
    with pytest.raises(UserError, match="squeue does not answer"):
        launched(launcher_of(tmp_path), tmp_path, "a")


@pytest.mark.parametrize("end", [UserError("no such partition"), SystemExit(143), KeyboardInterrupt()])
def test_a_batch_that_is_refused_or_left_alone_frees_its_cells(tmp_path: Path, board: Any, end: BaseException) -> None:
    from ablate.study.running import run_in_batches

    def refused(batch: Any) -> Iterator[Any]:
        raise end
        yield

    here = board()
    with pytest.raises(type(end)):
        run_in_batches(here, refused)
    assert not here.failed and not list((tmp_path / "locks").glob("cell-*"))


def test_batches_are_as_large_as_an_array_may_be(tmp_path: Path, board: Any) -> None:
    from ablate.study.running import run_in_batches

    sizes: list[int] = []

    def launch_all(batch: Any) -> Iterator[tuple[int, Exception | None]]:
        sizes.append(len(batch))
        for number, cell in batch:
            (tmp_path / f"done-{cell.seed}").touch()
            yield number, None

    here = board()
    run_in_batches(here, launch_all, largest=3)
    assert sizes == [3, 1] and not here.failed


def test_what_a_job_failed_with_is_told_at_once(tmp_path: Path, board: Any) -> None:
    from ablate.study.running import run_in_batches

    here, lines = board(), list[str]()

    def launch_all(batch: Any) -> Iterator[tuple[int, Exception | None]]:
        yield 2, RuntimeError("SLURM job 7_2 left no result")
        lines.append(here.line())
        for _, cell in batch:
            if cell.seed != 2:
                (tmp_path / f"done-{cell.seed}").touch()

    run_in_batches(here, launch_all)
    assert "0 of 4 cells done, 3 running here, 0 elsewhere, 1 failed" in lines[0]
    assert list(here.failed) == ["dual_view seed 2"] and "left no result" in here.failed["dual_view seed 2"]


@pytest.mark.parametrize(
    ("preset", "has_gpu", "words"),
    [("ablate_slurm", False, "add train.precision=bf16"), ("ablate_slurm_cpu", True, "add runtime.device=cpu")],
)
def test_ids_that_the_nodes_would_take_otherwise_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, preset: str, has_gpu: bool, words: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)

    def cell(*overrides: str) -> Any:
        return SimpleNamespace(config=build_run(compose("+experiment=dual_view", *overrides)))

    launcher = launcher_of(tmp_path, preset)
    with pytest.raises(UserError, match=words):
        launcher.refuse_another_device([cell()])
    launcher.refuse_another_device([cell(words.removeprefix("add "))])


def test_the_queue_in_words_and_what_slurm_does_not_say(state: Path) -> None:
    jobs = [Queued("a", "RUNNING", "None"), Queued("b", "PENDING", "Resources"), Queued("c", "PENDING", "Resources")]
    assert in_words(jobs) == "2 pending (Resources), 1 running" and in_words([]) == "none in the queue"
    assert in_words([Queued("a", "PENDING", "None")]) == "1 pending"
    assert fate("7_0") == "SLURM does not know any more how it ended" and largest_array() == 1001
    (state / "known").write_text("JobId=8 JobState=CANCELLED Reason=BeginTime ExitCode=0:0\n")
    assert fate("7_0") == "CANCELLED, exit code 0:0"
    (state / "known").write_text("JobId=8 JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0 NodeList=n1\n")
    assert fate("7_0") == "FAILED, NonZeroExitCode, exit code 3:0, on n1"
    (state / "known").write_text("MaxArraySize            = 51\n")
    assert largest_array() == 51


def test_a_damaged_record_of_queued_cells_is_told(tmp_path: Path) -> None:
    submissions = Submissions(ResultStore(tmp_path))
    mark = submissions.add(["a"])
    path = tmp_path / "submissions" / f"{mark}.json"
    for content in ("{", *map(json.dumps, ({"cells": []}, [], {"cells": "abc"}, {"cells": ["a", 1]}, {"cells": {}}))):
        path.write_text(content)
        with pytest.raises(UserError, match=f"{mark}.json cannot be read"):
            submissions.living({"5_0": Queued(f"run-{mark}", "RUNNING", "None")})


@pytest.mark.parametrize("job_id", ["7_[3-5%2]", "7_1+0", "7_-1", "7_", "x"])
def test_a_job_with_an_unexpected_id_is_passed_over_unless_it_is_of_the_study(job_id: str, tmp_path: Path) -> None:
    submissions = Submissions(ResultStore(tmp_path))
    mark = submissions.add(["a", "b"])
    queue = {"7_1": Queued(f"run-{mark}", "RUNNING", "None")}
    for name in ("another", f"run-{'0' * 12}"):
        assert submissions.living(queue | {job_id: Queued(name, "PENDING", "None")}) == {"b": "7_1"}
    with pytest.raises(UserError, match=f"job {re.escape(job_id)} \\(run-{mark}\\) is of this study.*scancel it"):
        submissions.living(queue | {job_id: Queued(f"run-{mark}", "PENDING", "None")})


def answers() -> str | None:
    """Return a partition of the SLURM that answers on this machine, or None."""
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        return None
    done = subprocess.run(["sinfo", "-h", "-t", "idle", "-o", "%P"], capture_output=True, text=True, timeout=60)
    names = done.stdout.split() if done.returncode == 0 else []
    return max(names, key=lambda name: name.endswith("*"), default="").removesuffix("*") or None  # the default first


def test_a_study_on_slurm_has_the_scores_of_one_process(tmp_path: Path) -> None:
    partition = answers()
    if partition is None:
        pytest.skip("no SLURM with an idle node answers here (sbatch, sinfo)")
    study = ("-m", "+sweeps=smoke", "runtime.threads=1", "seed=0")
    alone = process(tmp_path / "alone", *study)
    alone.communicate()
    queued = process(
        tmp_path / "queued",
        *study,
        "hydra/launcher=ablate_slurm_cpu",
        override("hydra.launcher.partition", partition),
        "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.mem_gb=2",
    )
    said = queued.communicate()[1]
    assert (alone.returncode, queued.returncode) == (0, 0), said
    assert scores(tmp_path / "alone") == scores(tmp_path / "queued") and "submitit WARNING" not in said
