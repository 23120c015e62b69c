"""Kills a study again and again, issues its command again, and says what was left, what ran, and whether scores differ.

    python -m benchmarks.kills --kills 20                # a study of 4 arms x 3 seeds with the tiny model
    python -m benchmarks.kills --concurrent 8            # processes on one study: trainings per cell, scores

Exit code 1 when scores differ from the uninterrupted study or a cell was trained twice by living processes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.project import ROOT
from ablate.store.results import ResultStore
from ablate.tracking import read_ledger

ARMS = ("query_only", "instructions", "instruction_negatives", "dual_view")
SEEDS = (0, 1, 2)
STUDY = (
    "-m",
    f"+experiment={','.join(ARMS)}",
    f"seed={','.join(map(str, SEEDS))}",
    "runtime.study=faults",
    "model=tiny",
    "source.documents=600",
    "budget.limit=96",
    "train.batch_size=8",
    "evaluation.sets=[test]",
    "tracker=none",
    "runtime.dev_set=null",
    "runtime.threads=1",
    "runtime.checkpoint_every=4",
)
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
NUM_STAGES = 3 * len(ARMS) * len(SEEDS)
"""Mixes, trainings and evaluations, but for those of the untouched backbone."""
FILE_LIMIT = 30_000
"""Bytes of the largest file that can be written when the disk is said to be full: less than a model takes."""

BROKEN = """
from ablate.engine import stages
make = stages.make_model
def breaks(run, *given):
    if run.config.seed == 1:
        raise RuntimeError("injected")
    return make(run, *given)
stages.make_model = breaks
from ablate.run import main
main()
"""
"""The command with an exception in the training of every run with seed 1."""


@dataclass(frozen=True)
class Mode:
    """A way in which a study ends early."""

    name: str
    overrides: tuple[str, ...] = ()
    kill: Callable[[subprocess.Popen[bytes]], None] | None = None
    """None: it ends by itself."""
    limited: bool = False
    injected: bool = False


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def _kill_worker(process: subprocess.Popen[bytes]) -> None:
    workers = [
        pid for pid in children_of(process.pid) if b"loky" in command_of(pid) and b"tracker" not in command_of(pid)
    ]
    if workers:
        os.kill(random.choice(workers), signal.SIGKILL)


MODES = (
    Mode("SIGKILL group", kill=_kill_group),
    Mode("SIGTERM", kill=lambda process: process.terminate()),
    Mode("SIGKILL joblib worker", JOBLIB, kill=_kill_worker),
    Mode("full disk", limited=True),
    Mode("exception", injected=True),
    Mode("SIGKILL joblib group", JOBLIB, kill=_kill_group),
)


def children_of(pid: int) -> list[int]:
    """Return the processes that a living process started itself."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                children.append(int(path.parent.name))
        except OSError:
            continue
    return children


def command_of(pid: int) -> bytes:
    """Return the command line of a process, its words apart by zero bytes; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def start(results: Path, mode: Mode | None = None) -> subprocess.Popen[bytes]:
    """Start the study in a process group of its own, its output beside its results."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))

    program = ["-c", BROKEN] if mode and mode.injected else ["-m", "ablate.run"]
    with open(f"{results}.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, *program, *STUDY, *(mode.overrides if mode else ()), f"runtime.results={results}"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL if mode and mode.limited else log,
            stderr=subprocess.PIPE if mode and mode.limited else log,
            start_new_session=True,
            preexec_fn=limit if mode and mode.limited else None,
        )


def scores(results: Path) -> dict[tuple[str, int], str]:
    """Return arm and seed -> SHA-256 of its scores, for complete evaluations."""
    return {
        (label, manifest.seed): hashlib.sha256(
            (results / "evals" / manifest.id / "scores.parquet").read_bytes()
        ).hexdigest()
        for manifest in ResultStore(results).manifests("evaluation")
        for label in manifest.labels
    }


def stages(results: Path) -> str:
    """Return how many mixes, trainings and evaluations are complete: `12+12+15`."""
    store = ResultStore(results)
    return "+".join(str(len(list(store.manifests(kind)))) for kind in ("mix", "train", "evaluation"))  # type: ignore[arg-type]


def first_steps(results: Path) -> dict[str, int]:
    """Return how often each training took its first step."""
    return {
        path.parent.name: sum(record.get("kind") == "metrics" and record["step"] == 1 for record in read_ledger(path))
        for path in sorted(results.glob("runs/*/ledger.jsonl"))
    }


def all_steps(results: Path) -> dict[str, int]:
    """Return how many steps were taken in each training, those that a resumed one took again included."""
    return {
        path.parent.name: sum(record.get("kind") == "metrics" for record in read_ledger(path))
        for path in sorted(results.glob("runs/*/ledger.jsonl"))
    }


def fault(mode: Mode, results: Path, share: float, reference: dict[tuple[str, int], str]) -> tuple[list[str], bool]:
    """Stop a study at a share of its stages, issue its command again; return a row and whether all is right."""
    process, began = start(results, mode), time.monotonic()
    target = int(share * NUM_STAGES)
    while mode.kill and process.poll() is None and len(list(results.glob("*/*/manifest.json"))) < target:
        time.sleep(0.02)
    if mode.kill and process.poll() is None:
        time.sleep(random.uniform(0, 2))  # anywhere within the stage that follows
        mode.kill(process)
    process.communicate()
    ended_after = time.monotonic() - began
    left, before = stages(results), all_steps(results)
    complete = {manifest.id for manifest in ResultStore(results).manifests("train")}
    second = start(results)
    second.communicate()
    after = all_steps(results)
    again = [name for name, number in after.items() if number > before.get(name, 0)]
    repeated = len(complete & set(again))
    same = scores(results) == reference
    right = same and second.returncode == 0 and not repeated
    row = [
        mode.name,
        f"{ended_after:.1f}",
        str(process.returncode),
        left,
        f"{len(again)} trained",
        f"{repeated} of them complete before",
        "identical" if same else "DIFFERENT",
        str(second.returncode),
    ]
    return row, right


def concurrent(number: int, folder: Path, reference: dict[tuple[str, int], str]) -> bool:
    """Run several processes on one study and print how often each cell was trained; return whether all is right."""
    results = folder / "concurrent"
    began = time.monotonic()
    processes = [start(results) for _ in range(number)]
    for process in processes:
        process.communicate()
    counts = first_steps(results)
    same = scores(results) == reference
    codes = [process.returncode for process in processes]
    print(f"{number} processes, {time.monotonic() - began:.0f} s: exit codes {codes}; {len(counts)} cells")
    print(f"trainings per cell {sorted(counts.values())}; scores {'identical' if same else 'DIFFERENT'}")
    return same and set(counts.values()) == {1} and len(counts) == len(ARMS) * len(SEEDS) and not any(codes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the faults and return 0 when nothing was lost, repeated or changed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kills",
        description="Kills a study of 4 arms x 3 seeds at random times and checks that the same command finishes it.",
        epilog="Example: python -m benchmarks.kills --kills 6 --seed 1",
    )
    parser.add_argument("--kills", type=int, default=20, help="faults, the modes in turn (default: 20)")
    parser.add_argument("--concurrent", type=int, default=0, metavar="N", help="instead: N processes on one study")
    parser.add_argument("--seed", type=int, default=0, help="of the random times (default: 0)")
    parser.add_argument("--only", help="only modes whose name holds this text")
    options = parser.parse_args(arguments)
    random.seed(options.seed)
    modes = [mode for mode in MODES if not options.only or options.only in mode.name]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        whole = start(folder / "reference")
        whole.communicate()
        if whole.returncode:
            print(Path(f"{folder / 'reference'}.log").read_text(), file=sys.stderr)
            return 1
        reference = scores(folder / "reference")
        stages_made = stages(folder / "reference")
        print(f"uninterrupted: {time.monotonic() - began:.1f} s, {stages_made} stages, {len(reference)} sets of scores")
        if options.concurrent:
            return 0 if concurrent(options.concurrent, folder, reference) else 1
        right = True
        print("fault | after s | exit code | left (mixes+trainings+evaluations) | second command | | scores | its code")
        for number in range(options.kills):
            results = folder / f"fault{number}"
            row, fine = fault(modes[number % len(modes)], results, random.random(), reference)
            print(" | ".join(row), flush=True)
            right = right and fine
            shutil.rmtree(results)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
