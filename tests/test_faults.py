"""The benchmark of faults: strikes are counted and replayed, and a struck study goes on to the same scores."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

from benchmarks.fault_shim import Shim
from benchmarks.faults import drawn


def work(folder: Path) -> None:
    """Eight operations: mkdir, open, write, fsync, replace; open, write (gzip's own); unlink."""
    (folder / "in").mkdir()
    with open(folder / "in" / "draft", "w", encoding="utf-8") as file:
        file.write("0123456789")
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / "in" / "draft", folder / "in" / "name")
    with gzip.GzipFile(folder / "in" / "packed", "wb") as packed:
        packed.write(b"x")
    (folder / "in" / "packed").unlink()


def struck(folder: Path, strike: str, at: int) -> tuple[int, dict[str, bytes]]:
    """Return how a child ended that was struck at an operation, and the files that it left."""
    folder.mkdir()
    pid = os.fork()
    if pid == 0:
        try:
            Shim(folder, strike, at).install()
            work(folder)
        except OSError as error:
            os._exit(error.errno or 1)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_strike_falls_before_after_and_in_the_middle_of_an_operation(tmp_path: Path) -> None:
    dead = -signal.SIGKILL
    assert struck(tmp_path / "1", "before", 2) == (dead, {})
    assert struck(tmp_path / "2", "after", 2) == (dead, {"draft": b""})
    assert struck(tmp_path / "3", "torn", 3) == (dead, {"draft": b"01234"})
    assert struck(tmp_path / "4", "after", 3) == (dead, {"draft": b"0123456789"})
    assert struck(tmp_path / "5", "before", 5) == (dead, {"draft": b"0123456789"})
    assert struck(tmp_path / "6", "after", 5) == (dead, {"name": b"0123456789"})
    assert struck(tmp_path / "7", "full", 3) == (28, {"draft": b"01234"})
    assert struck(tmp_path / "8", "term", 3)[0] == -signal.SIGTERM
    assert struck(tmp_path / "9", "before", 1000) == (0, {"name": b"0123456789"})


def test_a_seed_decides_the_faults() -> None:
    rounds = [drawn(7, number, 400) for number in range(200)]
    assert rounds == [drawn(7, number, 400) for number in range(200)] != [drawn(8, n, 400) for n in range(200)]
    kinds = {fault.partition("@")[0].partition(":")[0] for faults in rounds for fault in faults}
    assert kinds == {
        "before",
        "after",
        "torn",
        "full",
        "term",
        "int",
        "hup",
        "flip",
        "truncate",
        "zero",
        "exchange",
        "vanish",
    }


def test_a_struck_study_goes_on_to_the_same_scores() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", "--replay", "torn@120 term@200"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round 0: --replay 'torn@120 term@200': identical" in done.stdout
