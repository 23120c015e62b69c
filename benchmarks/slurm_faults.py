"""Strikes a study on a SLURM, issues its command again, and says what was told, what ran and whether scores differ.

    python -m benchmarks.slurm_faults --partition cpu --results /shared/slurm_faults
    python -m benchmarks.slurm_faults --partition cpu --results ... hydra.launcher.account=lab    # what jobs need there
    python -m benchmarks.slurm_faults --partition cpu --results ... --faults lost_node failed_node rebooted_node

It needs `sbatch` here, a folder that all nodes see, and a partition that runs jobs of one core and 4 GB. The faults of
a node kill the daemon of this machine's node and whatever its jobs run, with SIGKILL, as a crash does, and start it
again: they need root on the only node of a SLURM that may be disturbed, and wait for its SlurmdTimeout (300 s unless
slurm.conf says less). Each other fault takes one to eight minutes. Exit code 1 when scores differ from those of the
study in one process, a second command does not end well or leaves a lock, or a training that was complete was taken up
again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.project import ROOT
from ablate.store.files import LOCKS
from ablate.store.results import ResultStore
from benchmarks.kills import all_steps, children_of, command_of, first_steps, scores

STUDY = ("-m", "+sweeps=smoke", "runtime.threads=1", "runtime.checkpoint_every=64")
SHORT, LONG = ("train.epochs=60", "seed=0"), ("train.epochs=3000", "seed=0")
"""Two cells of some seconds of training each; of more than the 75 seconds that a time limit leaves."""


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

    def note(self, text: str) -> None:
        """Add a line of the benchmark's own to what it said."""
        with open(f"{self.results}.log", "a") as log:
            log.write(f"[{text}]\n")

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
    code = command.run("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=45")
    restarts = re.findall(r"Restarts=(\d+)", _answer("scontrol", "show", "job", command.array()))
    if not any(map(int, restarts)):
        raise SystemExit("no job was queued again, so nothing was struck: the training is too short for this machine")
    return code


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
    """The node crashes, SLURM takes it for down and queues its jobs again, and it comes back after a while."""
    return _node_is_away(command.start(), command, given)


def failed_node(command: Command, given: argparse.Namespace) -> int:
    """The node crashes, and its jobs must not be queued again: SLURM ends them as NODE_FAIL."""
    process = command.start("+hydra.launcher.additional_parameters.no_requeue=true")
    return _node_is_away(process, command, given)


def rebooted_node(command: Command, given: argparse.Namespace) -> int:
    """The node crashes and is back before SLURM took it for down."""
    process = command.start()
    command.until_trained(20)
    subprocess.run(_crash(), check=True)
    return process.wait()


def _node_is_away(process: subprocess.Popen[bytes], command: Command, given: argparse.Namespace) -> int:
    command.until_trained(20)
    daemon = _crash()
    while "down" not in (state := _answer("sinfo", "--noheader", f"--partition={given.partition}", "--format=%T")):
        time.sleep(1)
    command.note(f"the node is {state}")
    time.sleep(given.down_s)
    command.note("the node comes back")
    subprocess.run(daemon, check=True)
    return process.wait()


def _crash() -> list[str]:
    """Kill this node's daemon and all that its jobs run; return the command that starts the daemon again."""
    pid = _daemon()
    if pid is None:
        raise SystemExit("no slurmd runs on this machine")
    restart = command_of(pid).decode().rstrip("\0").split("\0")
    # The daemon first: alive, it would report how the jobs ended.
    os.kill(pid, signal.SIGKILL)
    supervisors = [
        int(path.name) for path in Path("/proc").glob("[0-9]*") if command_of(int(path.name)).startswith(b"slurmstepd")
    ]
    for supervisor in supervisors:
        os.kill(supervisor, signal.SIGSTOP)  # sees no end of a process that it could report
    family = supervisors
    while family:
        children = [child for member in family for child in children_of(member)]
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        family = children
    return restart


def _daemon() -> int | None:
    told = re.search(r"^SlurmdPidFile\s*=\s*(\S+)", _answer("scontrol", "show", "config"), re.MULTILINE)
    path = Path(told.group(1)) if told else None
    return int(path.read_text()) if path is not None and path.is_file() else None


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
    "time_limit": (time_limit, LONG),
    "lost_node": (lost_node, SHORT),
    "failed_node": (failed_node, SHORT),
    "rebooted_node": (rebooted_node, SHORT),
}
OF_A_NODE = ("lost_node", "failed_node", "rebooted_node")


def _slurm(*command: str) -> None:
    subprocess.run(command, check=True)


def _answer(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


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
            *given.overrides,
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
    locks = [path.name for path in sorted((results / LOCKS).glob("*.json"))]
    steps = {run: number - all_steps(reference.results)[run] for run, number in after.items()}
    yield f"  exit codes {first}, then {second}; scores {'identical' if same else 'DIFFERENT'}"
    yield f"  complete trainings taken up again: {repeated}; most first steps of a training: {started}"
    yield f"  steps that a training did again: {sorted(steps.values())}"
    yield f"  locks that are left: {', '.join(locks) or 'none'}"
    yield "  right" if same and second == 0 and not repeated and not locks else "  WRONG"


def main(argv: Sequence[str] | None = None) -> int:
    """Strike the faults that are named, or all that leave the node alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partition", required=True, help="a partition of nodes without a GPU")
    parser.add_argument("--results", type=Path, required=True, help="a folder that all nodes see")
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), help="default: all but those of a node")
    parser.add_argument("--down-s", type=float, default=70, help="how long a node stays down (default: 70)")
    parser.add_argument("--lines", type=int, default=8, help="lines of the struck command that are shown")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what else jobs need, as for ablate.run")
    given = parser.parse_intermixed_args(argv)
    names = given.faults or [name for name in FAULTS if name not in OF_A_NODE]
    if shutil.which("sbatch") is None:
        parser.error("there is no sbatch on this machine")
    if set(names) & set(OF_A_NODE) and (os.geteuid() != 0 or _daemon() is None):
        parser.error(f"{', '.join(OF_A_NODE)} need root, and a slurmd on this machine")
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
