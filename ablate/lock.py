"""A lock in a file, for processes on several machines with one file system: it names its owner and has a heartbeat."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

HEARTBEAT_S = 5.0
STALE_AFTER_S = 60.0
"""A lock of another machine without a heartbeat for this long is taken over."""


class Lock:
    """An exclusive lock file with owner and heartbeat, as a context manager; waits for a living owner."""

    def __init__(self, path: Path, *, poll_s: float = 0.2) -> None:
        self.path = path
        self.poll_s = poll_s
        self.owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": _birth_of(os.getpid()),
            "token": uuid.uuid4().hex,
        }
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None

    def __enter__(self) -> Lock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        told = False
        while not self._try():
            owner = self._stale_owner()
            if owner is not None:
                self._take_over(owner)
            else:
                if not told:
                    print(f"waiting: another process holds {self.path}", file=sys.stderr)
                    told = True
                time.sleep(self.poll_s)
        self._start()
        return self

    def take(self) -> bool:
        """Take the lock without waiting; return False while a living owner has it. `release` gives it back."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._try():
            owner = self._stale_owner()
            if owner is None:
                return False
            self._take_over(owner)
            if not self._try():
                return False
        self._start()
        return True

    def is_held(self) -> bool:
        """Return whether a living owner has the lock."""
        return self.path.exists() and self._stale_owner() is None

    def _start(self) -> None:
        self._stop.clear()
        self._beat = threading.Thread(target=self._heartbeat, daemon=True)
        self._beat.start()

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the lock back."""
        self._stop.set()
        if self._beat is not None:
            self._beat.join()
        if _read_json(self.path) == self.owner:
            self.path.unlink(missing_ok=True)

    def _try(self) -> bool:
        # Written under another name and linked, so that a lock is never seen without its owner.
        draft = self.path.with_name(f".{self.path.name}.{self.owner['token']}")
        try:
            with open(draft, "w", encoding="utf-8") as file:
                file.write(json.dumps(self.owner))
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, self.path)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _heartbeat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _stale_owner(self) -> dict[str, Any] | None:
        owner = _read_json(self.path) or {}  # a lock that a power cut left unreadable has no owner
        if owner.get("host") == self.owner["host"]:
            return None if _birth_of(int(owner.get("pid", 0))) == owner.get("born") else owner
        try:
            age = _clock_of(self.path.parent) - self.path.stat().st_mtime
        except OSError:
            return None
        return owner if age > STALE_AFTER_S else None

    def _take_over(self, owner: dict[str, Any]) -> None:
        with open(self.path.parent / ".takeover", "a") as guard:  # one take-over at a time, so that no live lock goes
            fcntl.flock(guard, fcntl.LOCK_EX)
            if (_read_json(self.path) or {}) == owner:
                process = owner.get("pid", "unknown")
                print(f"taking over {self.path}: its owner (process {process}) is gone", file=sys.stderr)
                self.path.unlink(missing_ok=True)


def _birth_of(pid: int) -> str | None:
    """Return when a process of this machine was started, in the kernel's ticks, or None when there is no such process.

    A process id alone is not enough: it is given again after its owner is gone.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _clock_of(folder: Path) -> float:
    """Return the time of the file system that holds a folder, so that clocks of two machines need not agree."""
    probe = folder / f".clock-{uuid.uuid4().hex}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
