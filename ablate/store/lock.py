"""A lock in a file, for processes on several machines with one file system: it names its owner and has a heartbeat.

Whether an owner still lives is decided by what it is, where this machine can see it (see `process`), and by its
heartbeat everywhere else: another machine or container, a system that does not tell when a process was started, a file
that cannot be read. A heartbeat has stopped when the file was not touched for STALE_AFTER_S, by the clock of the file
system or while this process looked on; so a time in the future, or clocks that disagree, delay nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import stat
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ablate.records import UserError
from ablate.store.drafts import draft_of
from ablate.store.process import Process, process_of, this_process
from ablate.terminal import one_line

HEARTBEAT_S = 5.0
STALE_AFTER_S = 60.0
"""A lock whose owner cannot be seen is taken over when its heartbeat has stopped for this long."""
REMIND_AFTER_S = 60.0
"""Between two lines about the same wait."""
MAX_BYTES = 10_000
"""A lock is smaller than this; of a larger file nothing is read."""

_NO_LOCKS_HERE = (errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


class Seen(NamedTuple):
    """A lock file as it was at one moment."""

    content: dict[str, Any]
    """Empty when it holds no owner: a power cut, or another hand."""
    beat: tuple[int, int, int]
    """Changes with every heartbeat: device, inode, time of the last touch in ns."""

    @property
    def owner(self) -> Process:
        """Who holds the lock, as far as the file says it."""
        return process_of(self.content)

    @property
    def who(self) -> str:
        """The owner, for people."""
        return one_line(f"process {self.owner.pid or 'unknown'} on {self.owner.host or 'an unknown machine'}")


_FIRST_SEEN: dict[Path, tuple[tuple[int, int, int], float]] = {}
"""Lock file -> its last heartbeat that this process saw, and since when (monotonic) it has been that one."""


class Lock:
    """An exclusive lock file with owner and heartbeat, as a context manager; waits for a living owner.

    Raises UserError when something that is no file is in its place, or no lock can be made there.
    """

    def __init__(self, path: Path, *, poll_s: float = 0.2) -> None:
        self.path = path
        self.poll_s = poll_s
        self.owner = {
            **dataclasses.asdict(this_process()),
            "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "token": uuid.uuid4().hex,
        }
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None

    def __enter__(self) -> Lock:
        remind = Reminder()
        while not self.take():
            remind(lambda: None if (holder := self.holder()) is None else f"waiting for {holder}")
            time.sleep(self.poll_s)
        return self

    def take(self) -> bool:
        """Take the lock without waiting; return False while a living owner has it. `release` gives it back."""
        if not self._try():
            seen = self._seen()
            if seen is not None and self._lives(seen):
                return False
            if seen is not None:
                self._take_over(seen)
            if not self._try():
                return False
        self._stop.clear()
        self._beat = threading.Thread(target=self._heartbeat, daemon=True)
        self._beat.start()
        return True

    def is_held(self) -> bool:
        """Return whether a living owner has the lock."""
        seen = self._seen()
        return seen is not None and self._lives(seen)

    def holder(self) -> str | None:
        """Return who has the lock, since when, and what to do if nobody does, in a line; None when it is free."""
        seen = self._seen()
        if seen is None:
            return None
        since = seen.content.get("since")
        since = one_line(since) if isinstance(since, str) else "an unknown time"
        return (
            f"{seen.who} (has {self.path} since {since}, last sign of "
            f"life {self._silent_s(seen):.0f} s ago; if that process is surely gone, delete this file)"
        )

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the lock back."""
        self._stop.set()
        if self._beat is not None:
            self._beat.join()
        with contextlib.suppress(UserError):  # what is no lock any more is not given back
            if self._is_mine():
                self.path.unlink(missing_ok=True)

    def _try(self) -> bool:
        # Written under another name and linked, so that a lock is never seen without its owner.
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = draft_of(self.path)
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
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise
            raise UserError(
                f"the lock {self.path} cannot be made ({error.strerror}); it needs a folder that can be written to, "
                f"on a file system with hard links: name another runtime.results"
            ) from error
        return True

    def _is_mine(self) -> bool:
        seen = self._seen()
        return seen is not None and seen.content == self.owner

    def _heartbeat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError, UserError):
                if self._is_mine():  # else another one took it over while this process was asleep
                    os.utime(self.path)

    def _seen(self) -> Seen | None:
        """Return the lock file as it is, or None when there is none."""
        try:
            mode = self.path.lstat().st_mode
            if not stat.S_ISREG(mode):
                raise UserError(f"{self.path} should be a lock and is no file; move it away")
            with open(self.path, "rb") as file:  # opened, so that a network file system asks its server for the times
                status, text = os.fstat(file.fileno()), file.read(MAX_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # it may not be read: then it has a heartbeat and no name
            with contextlib.suppress(OSError):
                status, text = self.path.lstat(), b""
                return Seen({}, (status.st_dev, status.st_ino, status.st_mtime_ns))
            return None
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        beat = (status.st_dev, status.st_ino, status.st_mtime_ns)
        return Seen(content if isinstance(content, dict) else {}, beat)

    def _lives(self, seen: Seen) -> bool:
        fate = seen.owner.fate
        return fate == "living" or (fate == "unknown" and self._silent_s(seen) <= STALE_AFTER_S)

    def _silent_s(self, seen: Seen) -> float:
        """Return the seconds without a heartbeat: by the file's time, and at least as long as it was watched."""
        beat, since = _FIRST_SEEN.get(self.path, (None, 0.0))
        if beat != seen.beat:
            since = time.monotonic()
            _FIRST_SEEN[self.path] = seen.beat, since
        return max(time.monotonic() - since, _clock_of(self.path.parent) - seen.beat[2] / 1e9)

    def _take_over(self, seen: Seen) -> None:
        with open(self.path.parent / ".takeover", "a") as guard:  # one take-over at a time, so that no live lock goes
            fcntl.flock(guard, fcntl.LOCK_EX)
            now = self._seen()
            if now is not None and (now.content, now.beat) == (seen.content, seen.beat):
                print(f"taking over {self.path}: its owner ({seen.who}) is gone", file=sys.stderr)
                self.path.unlink(missing_ok=True)


class Reminder:
    """Says on stderr that something is waited for: at once, and then once a minute."""

    def __init__(self) -> None:
        self._due = 0.0

    def __call__(self, text: Callable[[], str | None]) -> None:
        """Print what `text` returns (nothing for None), if it is time again."""
        if time.monotonic() >= self._due and (line := text()) is not None:
            print(line, file=sys.stderr, flush=True)
            self._due = time.monotonic() + REMIND_AFTER_S


def _clock_of(folder: Path) -> float:
    """Return the time of the file system that holds a folder, so that clocks of two machines need not agree.

    Where nothing can be written it is this machine's.
    """
    guard = folder / ".takeover"
    try:
        guard.touch()
        return guard.stat().st_mtime
    except OSError:
        return time.time()
