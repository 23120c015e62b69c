"""Trials per second of the tuning storages: worker processes with a stub objective that reports five times.

    python -m benchmarks.tuning --workers 8 --trials 100

PostgreSQL is measured with --url, or on a server that is started for it where initdb and pg_ctl are on the path.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ablate.tuning.plan import Plan, build_plan, hidden
from ablate.tuning.space import Interval
from ablate.tuning.sweep import ArmToTune, Outcome, close_arms, open_arms, run_trials

MEASURE = "pairs/both/satisfying over violating"
REPORTS = 5


def stub(plan: Plan, folder: str, number: int) -> Outcome:
    """Report a rising score five times; nothing is pruned, so that every trial costs the same."""
    from ablate.tuning.trial import Watcher

    with Watcher(plan, folder, f"{plan.study}.stub", number) as watcher:
        for step in range(1, REPORTS + 1):
            watcher(step, {f"dev/stub/{MEASURE}": float(step + number)})
    return Outcome("complete", (float(number),))


def measure(storage: str, folder: Path, workers: int, trials: int) -> float:
    """Return the seconds that the trials take, with worker processes that are warm."""
    plan = build_plan(
        dict(
            study=f"bench-{os.getpid()}",
            objective=[MEASURE],
            directions=[],
            params={},
            arms=[],
            n_trials=trials,
            workers=workers,
            max_failures=1,
            sampler="random",
            sampler_seed=0,
            num_startup=10**6,
            pruner="median",
            pruner_warmup=0,
            storage=storage,
        )
    )
    place = plan.folder(folder)
    place.mkdir(parents=True)
    space = {"train.learning_rate": Interval(1e-5, 1e-3, log=True)}
    arms = open_arms(plan, [ArmToTune("stub", (), {})], space, place)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_warm, range(4 * workers)))

        def launch(overrides: Sequence[str], number: int) -> Outcome:
            return pool.submit(stub, plan, str(folder), number).result()

        started = time.perf_counter()
        with contextlib.redirect_stdout(open(os.devnull, "w")):
            failures = run_trials(plan, arms, launch)
        seconds = time.perf_counter() - started
    finished = arms[0].finished
    close_arms(arms)
    assert not failures and finished == trials, failures
    return seconds


def _warm(_: int) -> None:
    import optuna

    import ablate.tuning.trial

    assert optuna and ablate.tuning.trial
    time.sleep(0.2)


@contextlib.contextmanager
def postgres_server() -> Iterator[str | None]:
    """Yield the URL of a fresh server on a free port of this machine, or None where none can be started."""
    initdb, pg_ctl = shutil.which("initdb"), shutil.which("pg_ctl")
    if initdb is None or pg_ctl is None or importlib.util.find_spec("psycopg") is None:
        yield None
        return
    who: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ablate-postgres-") as folder:
        if os.getuid() == 0:  # PostgreSQL refuses root
            person = pwd.getpwnam("nobody")
            who = {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}
            os.chown(folder, person.pw_uid, person.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options: dict[str, Any] = dict(check=True, cwd=folder, stdout=subprocess.DEVNULL, **who)
        subprocess.run([initdb, "-D", f"{folder}/data", "-U", "tuner", "-A", "trust"], **options)
        settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
        subprocess.run(
            [pg_ctl, "-D", f"{folder}/data", "-l", f"{folder}/log", "-w", "-o", settings, "start"], **options
        )
        try:
            yield f"postgresql+psycopg://tuner@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([pg_ctl, "-D", f"{folder}/data", "-m", "fast", "-w", "stop"], **options)


def main() -> None:
    """Measure the storages one after another and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--url", help="of a database to measure instead of a fresh PostgreSQL server")
    given = parser.parse_args()
    print(f"{given.trials} trials, {given.workers} workers, {REPORTS} reports each, {os.cpu_count()} processors")
    print(f"{'storage':<40} {'seconds':>8} {'trials/s':>9}")
    with contextlib.ExitStack() as stack:
        url = given.url or stack.enter_context(postgres_server())
        for storage in ("sqlite", "journal", url):
            if storage is None:
                print("postgresql: not measured, initdb, pg_ctl or psycopg is missing (or give --url)")
                continue
            with tempfile.TemporaryDirectory() as folder:
                seconds = measure(storage, Path(folder), given.workers, given.trials)
            name = storage if "://" not in storage else hidden(storage)
            print(f"{name:<40} {seconds:8.1f} {given.trials / seconds:9.1f}", flush=True)


if __name__ == "__main__":
    main()
