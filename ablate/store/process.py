"""Who a process is, so that another one, perhaps on another machine, can tell whether it still lives."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Fate = Literal["living", "gone", "unknown"]
MAX_PID = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process by all that tells it from others: two machines may share a name, and a pid is given again."""

    host: str | None
    boot: str | None
    """Id of the start of the machine's system; None where there is none, and in records of old."""
    space: str | None
    """Namespace that the pid counts in, as containers have their own; None where there is none, and of old."""
    pid: int | None
    """None in a record that does not say it."""
    born: str | None
    """When the process was started, as the system writes it; None where that cannot be asked."""

    @property
    def fate(self) -> Fate:
        """Whether the process lives, as far as this machine can see; `unknown` for one of another machine."""
        if self.pid is None or not self._is_of_here():
            return "unknown"
        if not _is_there(self.pid):
            return "gone"
        born = birth_of(self.pid)
        if born is None and birth_of(os.getpid()) is not None:  # a zombie, or it ended just now
            return "gone"
        if born is None or self.born is None:
            return "unknown"
        return "living" if self.born == born else "gone"

    def _is_of_here(self) -> bool:
        host, boot, space = machine_of()
        return self.host == host and self.boot in (None, boot) and self.space in (None, space)


def this_process() -> Process:
    """Return who this process is."""
    host, boot, space = machine_of()
    return Process(host=host, boot=boot, space=space, pid=os.getpid(), born=birth_of(os.getpid()))


def process_of(record: Mapping[str, Any]) -> Process:
    """Return the process that a record names; whatever it does not say properly is None."""

    def text(name: str) -> str | None:
        value = record.get(name)
        return value if isinstance(value, str) else None

    pid = record.get("pid")
    return Process(
        host=text("host"),
        boot=text("boot"),
        space=text("space"),
        pid=pid if type(pid) is int and 0 < pid <= MAX_PID else None,
        born=text("born"),
    )


@functools.cache
def machine_of() -> tuple[str, str | None, str | None]:
    """Return the machine's name, the id of its system's start, and the namespace that pids count in here."""
    boot, space = None, None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip() or None
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = boot or _said(["sysctl", "-n", "kern.bootsessionuuid"])
    return socket.gethostname(), boot, space


def birth_of(pid: int) -> str | None:
    """Return when a process of this machine was started, or None when there is no such process or it has ended.

    In the kernel's ticks on Linux, elsewhere as `ps` writes it. A pid alone is not enough: it is given again.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] == "Z" else fields[19]
    state, _, born = (_said(["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]) or "").partition(" ")
    return None if state.startswith("Z") else born.strip() or None


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _said(command: list[str]) -> str | None:
    """Return what a program of the system says, in one spelling whatever the locale and time zone; None without it."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, env={**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
