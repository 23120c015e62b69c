"""Tuning with a real PostgreSQL server, started on a free port by the test and stopped by it; skipped where none is."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from conftest import extra

from ablate.engine.recorder import Stopped
from ablate.records import UserError
from ablate.tuning.plan import build_plan, open_storage
from ablate.tuning.space import Interval
from ablate.tuning.sweep import ArmToTune, Outcome, close_arms, open_arms, run_trials
from ablate.tuning.trial import Watcher

pytestmark = pytest.mark.extras

MEASURE = "pairs/both/satisfying over violating"
SPACE = {"train.learning_rate": Interval(1e-5, 1e-3, log=True)}


def account() -> dict[str, Any]:
    """Return under which account the server runs: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return {}
    try:
        person = pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("PostgreSQL refuses to run as root, and there is no account nobody")
    return {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of an empty database."""
    extra("psycopg")
    places = [*os.environ.get("PATH", "").split(os.pathsep), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    initdb, pg_ctl = (shutil.which(name, path=os.pathsep.join(places)) for name in ("initdb", "pg_ctl"))
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL is not installed: neither on the path nor in /usr/lib/postgresql are initdb and pg_ctl")
    who = account()
    with tempfile.TemporaryDirectory(prefix="ablate-postgres-") as folder, socket.socket() as probe:
        if who:
            os.chown(folder, who["user"], who["group"])
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        data = Path(folder) / "data"
        options: dict[str, Any] = dict(check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120, **who)
        subprocess.run([initdb, "-D", str(data), "-U", "tuner", "-A", "trust", "--no-sync", "-E", "UTF8"], **options)
        settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off"
        log = str(Path(folder) / "log")
        subprocess.run([pg_ctl, "-D", str(data), "-l", log, "-w", "-o", settings, "start"], **options)
        try:
            yield f"postgresql+psycopg://tuner@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop"], **options)


def plan(url: str, **changes: Any) -> Any:
    values = dict(
        study="s",
        objective=[MEASURE],
        directions=[],
        params={},
        arms=[],
        n_trials=8,
        workers=4,
        max_failures=3,
        sampler="tpe",
        sampler_seed=0,
        num_startup=4,
        pruner="median",
        pruner_warmup=0,
        storage=url,
    )
    return build_plan({**values, **changes})


def work(one: Any, folder: str, number: int, rate: float) -> Outcome:
    """What a worker process does: five reports to the pruner."""
    from ablate.engine.recorder import Stopped

    try:
        with Watcher(one, folder, "s.a", number) as watcher:
            for step in range(1, 6):
                watcher(step, {f"dev/world/dev/{MEASURE}": -rate * step})
    except Stopped:
        return Outcome("pruned")
    return Outcome("complete", (-rate * 5,))


def test_workers_share_a_study_on_postgresql_and_prune(server: str, tmp_path: Path) -> None:
    one = plan(server)
    (arm,) = open_arms(one, [ArmToTune("a", (), {"x": 1})], SPACE, tmp_path)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:

        def launch(overrides: Any, number: int) -> Outcome:
            rate = float(next(item for item in overrides if "learning_rate" in item).split("=")[1])
            return pool.submit(work, one, str(tmp_path), number, rate).result()

        assert run_trials(one, [arm], launch) == []
    assert arm.finished == 8 and not list(tmp_path.iterdir()), "nothing but the database holds the study"
    trials = arm.study.trials
    close_arms([arm])
    assert {len(trial.params) for trial in trials} == {1} and any(trial.intermediate_values for trial in trials)
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}  # which is pruned depends on who is first
    (again,) = open_arms(one, [ArmToTune("a", (), {"x": 1})], SPACE, tmp_path)
    assert run_trials(one, [again], launch) == [] and len(again.study.trials) == 8
    worse = again.study.ask()
    with Watcher(one, str(tmp_path), "s.a", worse.number) as watcher, pytest.raises(Stopped):
        for step in range(1, 6):
            watcher(step, {f"dev/world/dev/{MEASURE}": -1e6 * step})
    close_arms([again])


def test_a_killed_sweep_on_postgresql_tries_its_point_again(server: str, tmp_path: Path) -> None:
    one = plan(server, study="killed", n_trials=1, pruner="none", workers=1)

    def kill(overrides: Any, number: int) -> Outcome:
        raise KeyboardInterrupt

    opened = open_arms(one, [ArmToTune("a", (), {})], SPACE, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_trials(one, opened, kill)
    close_arms(opened)
    (arm,) = open_arms(one, [ArmToTune("a", (), {})], SPACE, tmp_path)
    run_trials(one, [arm], lambda overrides, number: Outcome("complete", (0.0,)))
    first, second = arm.study.trials
    assert (first.state.name, second.state.name, second.user_attrs["retry_of"]) == ("FAIL", "COMPLETE", 0)
    assert first.params == second.params
    close_arms([arm])


def test_a_server_that_is_not_there_is_named(server: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg://me:geheim@127.0.0.1:{probe.getsockname()[1]}/db"
        with pytest.raises(UserError, match=r"me:\*\*\*@127.0.0.1.* cannot be used: .*refused") as caught:
            open_storage(plan(url), tmp_path)
    assert "geheim" not in str(caught.value)
