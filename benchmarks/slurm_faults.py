"""Strikes a study on a SLURM, issues its command again, and says what was told, what ran and whether scores differ.

    python -m benchmarks.slurm_faults --partition cpu --results /shared/slurm_faults
    python -m benchmarks.slurm_faults --partition cpu --results ... --faults lost_node \\
        --stop-node "systemctl stop slurmd" --start-node "systemctl start slurmd"

It needs `sbatch` here, a folder that all nodes see, and a partition that runs jobs of one core and 4 GB; `lost_node`
needs commands that stop and start the node's daemon, and so a SLURM of one node that may be disturbed. Each fault takes
one to eight minutes. Exit code 1 when scores differ from those of the study in one process, a second command does not
end well, or a training that was complete was taken up again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.project import ROOT
from ablate.store.results import ResultStore
from benchmarks.kills import all_steps, first_steps, scores

STUDY = ("-m", "+sweeps=smoke", "runtime.threads=1", "runtime.checkpoint_every=64")
SHORT, LONG = ("train.epochs=60", "seed=0"), ("train.epochs=600", "seed=0")
"""Two cells of some seconds of training each; of a minute and more."""


@dataclass(frozen=True)
class Command:
    """The command of a study, on SLURM or not."""

    results: Path
    overrides: tuple[str, ...]

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own; what it says is added to RESULTS.log."""
        with open(f"{self.results}.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "ablate.run", *STUDY, f"runtime.results={self.results}", *self.overrides, *more],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def run(self, *more: str) -> int:
        """Run it to its end and return its exit code."""
        return self.start(*more).wait()

    def said(self) -> list[str]:
        """Return the lines that it said so far."""
        path = Path(f"{self.results}.log")
        return path.read_text(errors="replace").splitlines() if path.is_file() else []

    def array(self) -> str:
        """Return the id of the array that it queued last, once it has."""
        while not (lines := [line for line in self.said() if line.startswith("queued in SLURM")]):
            time.sleep(0.2)
        return lines[-1].rpartition(" ")[2]

    def until_trained(self, steps: int, runs: int = 1) -> None:
        """Wait until so many trainings have taken so many steps."""
        while sum(number >= steps for number in all_steps(self.results).values()) < runs:
            time.sleep(0.2)


def time_limit(command: Command, _: argparse.Namespace) -> int:
    """A limit that is shorter than the training."""
    return command.run("hydra.launcher.timeout_min=3", "hydra.launcher.signal_delay_s=45")


def scancel_one(command: Command, _: argparse.Namespace) -> int:
    """One job of the array is cancelled while it trains."""
    process = command.start()
    command.until_trained(20)
    _slurm("scancel", f"{command.array()}_0")
    return process.wait()


def scancel_all(command: Command, _: argparse.Namespace) -> int:
    """All jobs are cancelled, running and waiting ones."""
    process = command.start("hydra.launcher.array_parallelism=1")
    command.until_trained(20)
    _slurm("scancel", command.array())
    return process.wait()


def lost_node(command: Command, given: argparse.Namespace) -> int:
    """The node's daemon and its jobs die, the node is down for a while and comes back."""
    process = command.start()
    command.until_trained(20)
    subprocess.run(shlex.split(given.stop_node), check=True)
    time.sleep(given.down_s)
    subprocess.run(shlex.split(given.start_node), check=True)
    return process.wait()


def killed_sweeper(command: Command, _: argparse.Namespace) -> int:
    """The process that waits gets SIGKILL while jobs run and others wait."""
    return _ended(command, signal.SIGKILL)


def ended_sweeper(command: Command, _: argparse.Namespace) -> int:
    """The process that waits gets SIGINT, as by Ctrl-C."""
    return _ended(command, signal.SIGINT)


def _ended(command: Command, signum: signal.Signals) -> int:
    process = command.start("hydra.launcher.array_parallelism=1")
    command.until_trained(20)
    os.killpg(process.pid, signum)
    return process.wait()


def fails_at_once(command: Command, _: argparse.Namespace) -> int:
    """Jobs end before Python starts: an environment that is not on the node."""
    return command.run("hydra.launcher.setup=[exit 3]")


def refused(command: Command, _: argparse.Namespace) -> int:
    """A partition that does not exist."""
    return command.run("hydra.launcher.partition=no_such_partition")


Fault = Callable[[Command, argparse.Namespace], int]
FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "refused": (refused, SHORT),
    "fails_at_once": (fails_at_once, SHORT),
    "scancel_one": (scancel_one, SHORT),
    "scancel_all": (scancel_all, SHORT),
    "killed_sweeper": (killed_sweeper, SHORT),
    "ended_sweeper": (ended_sweeper, SHORT),
    "lost_node": (lost_node, SHORT),
    "time_limit": (time_limit, LONG),
}


def _slurm(*command: str) -> None:
    subprocess.run(command, check=True)


def strike(name: str, given: argparse.Namespace) -> Iterator[str]:
    """Yield what one fault came to, line by line; the last is `right` or `WRONG`."""
    fault, study = FAULTS[name]
    reference = Command(given.results / f"reference_{'long' if study is LONG else 'short'}", study)
    if reference.run():  # found complete after the first time
        raise SystemExit(f"the study in one process failed: {reference.said()[-1]}")
    results = given.results / name
    shutil.rmtree(results, ignore_errors=True)
    Path(f"{results}.log").unlink(missing_ok=True)
    command = Command(
        results,
        (
            *study,
            "hydra/launcher=ablate_slurm_cpu",
            f"hydra.launcher.partition={given.partition}",
            "hydra.launcher.cpus_per_task=1",
            "hydra.launcher.mem_gb=4",
        ),
    )
    first = fault(command, given)
    told = command.said()
    yield from (f"  {line}" for line in told[-given.lines :])
    complete = {manifest.id for manifest in ResultStore(results).manifests("train")}
    before = all_steps(results)
    second = command.run()
    yield f"  again: {command.said()[-1]}"
    after = all_steps(results)
    repeated = sum(after[run] > before.get(run, 0) for run in complete)
    started = max(first_steps(results).values())
    same = scores(results) == scores(reference.results)
    steps = {run: number - all_steps(reference.results)[run] for run, number in after.items()}
    yield f"  exit codes {first}, then {second}; scores {'identical' if same else 'DIFFERENT'}"
    yield f"  complete trainings taken up again: {repeated}; most first steps of a training: {started}"
    yield f"  steps that a training did again: {sorted(steps.values())}"
    yield "  right" if same and second == 0 and not repeated else "  WRONG"


def main(argv: Sequence[str] | None = None) -> int:
    """Strike the faults that are named, or all that need no command of the person."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partition", required=True, help="a partition of nodes without a GPU")
    parser.add_argument("--results", type=Path, required=True, help="a folder that all nodes see")
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), help="default: all but lost_node")
    parser.add_argument("--stop-node", help="for lost_node: a command that stops the node's daemon and its jobs")
    parser.add_argument("--start-node", help="for lost_node: a command that starts it again")
    parser.add_argument("--down-s", type=float, default=30, help="for lost_node: how long it is down")
    parser.add_argument("--lines", type=int, default=8, help="lines of the struck command that are shown")
    given = parser.parse_args(argv)
    names = given.faults or [name for name in FAULTS if name != "lost_node"]
    if "lost_node" in names and not (given.stop_node and given.start_node):
        parser.error("lost_node needs --stop-node and --start-node")
    if shutil.which("sbatch") is None:
        parser.error("there is no sbatch on this machine")
    given.results = given.results.resolve()
    given.results.mkdir(parents=True, exist_ok=True)
    wrong = 0
    for name in names:
        print(f"{name}: {FAULTS[name][0].__doc__}", flush=True)
        for line in strike(name, given):
            print(line, flush=True)
            wrong += line == "  WRONG"
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
