"""Locks between processes: who holds one, whether that one still lives, and what lies in a lock's place."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ablate.records import UserError
from ablate.store import lock as locks
from ablate.store import process as processes
from ablate.store.lock import STALE_AFTER_S, Lock, Reminder
from ablate.store.process import birth_of, machine_of, process_of, this_process

HOST, BOOT, SPACE = machine_of()
ME = os.getpid()
LIVING = {"host": HOST, "boot": BOOT, "space": SPACE, "pid": ME, "born": birth_of(ME), "token": "t"}


def dead_pid() -> int:
    """Return the pid of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def put(path: Path, content: Any, *, age_s: float = 0.0) -> Path:
    """Write a lock file, its heartbeat so many seconds ago."""
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def without(*names: str, **changes: Any) -> dict[str, Any]:
    """Return the record of this living process with some keys left out and others changed."""
    return {name: value for name, value in {**LIVING, **changes}.items() if name not in names}


OLD = ("boot", "space")
NOT_SEEN = {
    "another machine": without(host="elsewhere"),
    "another machine, as it was written before": without(*OLD, host="elsewhere"),
    "another machine of this name": without(boot="0000-another-start"),
    "another container on this machine": without(space="pid:[1]"),
    "an owner whose birth is not known": without(born=None),
    "the same, as it was written before": without(*OLD, born=None),
    "a pid that is a word": without(pid="abc"),
    "no pid": without(pid=None),
    "a negative pid": without(pid=-5),
    "pid zero, which would be the whole group": without(pid=0),
    "a pid beyond every system's": without(pid=10**30),
    "a pid that is a truth value": without(pid=True),
    "a pid that is a fraction": without(pid=1.5),
    "a host that is a number": without(host=5),
    "an empty object": {},
    "a list": [1, 2],
    "a text": "text",
    "nothing": None,
    "an empty file": b"",
    "a torn file": b'{"host": "a',
    "bytes that are no text": b"\xff\xfe\x00",
    "JSON of great depth": b"[" * 9_000,
    "a file that is far too large": b" " * 1_000_000,
}
"""Owners of which nothing is known but their heartbeat."""


@pytest.mark.parametrize("content", NOT_SEEN.values(), ids=NOT_SEEN.keys())
def test_an_owner_that_cannot_be_seen_is_judged_by_its_heartbeat(tmp_path: Path, content: Any) -> None:
    path = put(tmp_path / "lock.json", content)
    assert Lock(path).is_held() and not Lock(path).take()
    put(path, content, age_s=STALE_AFTER_S + 5)
    assert not Lock(path).is_held()
    with Lock(path):
        assert json.loads(path.read_text())["pid"] == ME
    assert not path.exists()


def test_owners_on_this_machine_are_judged_by_what_they_are(tmp_path: Path) -> None:
    gone = dead_pid()
    for owner, lives in (
        (LIVING, True),
        (without(*OLD), True),
        (without(born="1"), False),  # the pid was given again
        (without(*OLD, born="1"), False),
        (without(pid=gone), False),
        (without(pid=gone, born=None), False),  # as every killed process of a system without /proc left it
        (without(*OLD, pid=gone, born=None), False),
    ):
        assert Lock(put(tmp_path / "lock.json", owner)).is_held() == lives, owner
        assert Lock(put(tmp_path / "lock.json", owner, age_s=3600)).is_held() == lives, owner


def test_a_zombie_does_not_live() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    while birth_of(child.pid) is not None:
        time.sleep(0.005)
    assert process_of({**LIVING, "pid": child.pid, "born": "1"}).fate == "gone"
    child.wait()


def test_births_without_a_proc_file_system_come_from_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    if processes._said(["ps", "-o", "lstart=", "-p", str(ME)]) is None:
        pytest.skip("no ps here")
    monkeypatch.setattr(processes.Path, "exists", lambda self: False)
    for zone in ("Asia/Tokyo", "America/Lima"):
        monkeypatch.setenv("TZ", zone)
        born = birth_of(ME)
        assert born is not None and born == birth_of(ME) and process_of({**LIVING, "born": born}).fate == "living"
    assert birth_of(dead_pid()) is None


@pytest.mark.parametrize("shift_s", [3600.0, 10.0])
def test_a_heartbeat_in_the_future_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift_s: float
) -> None:
    path = put(tmp_path / "lock.json", without(host="elsewhere"), age_s=-shift_s)
    clock = time.monotonic()
    monkeypatch.setattr(locks.time, "monotonic", lambda: clock)
    assert not Lock(path).take()
    clock += STALE_AFTER_S - 1
    assert Lock(path).is_held()
    os.utime(path, (time.time() + shift_s + 5,) * 2)  # it beats: the wait begins anew
    clock += STALE_AFTER_S - 1
    assert Lock(path).is_held()
    clock += STALE_AFTER_S + 1
    assert not Lock(path).is_held() and Lock(path).take()


@pytest.mark.parametrize("kind", ["directory", "FIFO", "dangling link", "link", "socket"])
def test_what_is_no_file_in_the_place_of_a_lock_is_named(tmp_path: Path, kind: str) -> None:
    import socket

    path = tmp_path / "lock.json"
    if kind == "directory":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        (listening := socket.socket(socket.AF_UNIX)).bind(os.path.relpath(path))
        listening.close()
    else:
        path.symlink_to(tmp_path / "nowhere" if kind == "dangling link" else __file__)
    for attempt in (Lock(path).take, Lock(path).is_held, Lock(path).__enter__):
        with pytest.raises(UserError, match=r"lock\.json should be a lock and is no file; move it away"):
            attempt()
    assert [found.name for found in tmp_path.iterdir()] == ["lock.json"]


def test_a_folder_in_which_no_lock_can_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locks").touch()
    with pytest.raises(UserError, match="the lock .*x.json cannot be made"):
        Lock(tmp_path / "locks" / "x.json").take()
    assert not Lock(tmp_path / "locks" / "x.json").is_held()

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(UserError, match="file system with hard links"):
        Lock(tmp_path / "x.json").take()
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_whoever_waits_says_for_whom_since_when_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path / "lock.json", {**without(host="elsewhere"), "since": "2026-01-01T00:00:00+00:00"}, age_s=50)
    clock, slept = time.monotonic(), 0

    def sleep(_: float) -> None:
        nonlocal clock, slept
        clock, slept = clock + 10, slept + 1
        os.utime(path) if slept < 13 else path.unlink()

    monkeypatch.setattr(locks.time, "monotonic", lambda: clock)
    monkeypatch.setattr(locks.time, "sleep", sleep)
    with Lock(path):
        said = capsys.readouterr().err.splitlines()
    assert len(said) == 3  # at once, after one minute, after two; silent otherwise
    assert said[0] == (
        f"waiting for process {ME} on elsewhere (has {path} since 2026-01-01T00:00:00+00:00, last sign of life 50 s "
        f"ago; if that process is surely gone, delete this file)"
    )


def test_a_reminder_is_sparing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = 1000.0
    monkeypatch.setattr(locks.time, "monotonic", lambda: clock)
    remind = Reminder()
    for number in range(130):
        clock += 1
        remind(lambda number=number: f"after {number}" if number >= 5 else None)
    assert capsys.readouterr().err.split("\n") == ["after 5", "after 65", "after 125", ""]


def test_a_lock_that_was_taken_over_is_neither_kept_alive_nor_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a laptop sleeps for two minutes and wakes up again."""
    path = tmp_path / "lock.json"
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.01)
    lock = Lock(path)
    assert lock.take()
    before = path.stat().st_mtime_ns
    deadline = time.monotonic() + 10
    while path.stat().st_mtime_ns == before:
        assert time.monotonic() < deadline
    other = tmp_path / "other"
    put(other, without(host="elsewhere"), age_s=30)
    os.replace(other, path)
    time.sleep(0.05)
    assert time.time() - path.stat().st_mtime > 29
    lock.release()
    assert path.exists()


def _count(folder: Path, times: int) -> None:
    for _ in range(times):
        with Lock(folder / "lock.json", poll_s=0.001):
            value = int((folder / "count").read_text())
            time.sleep(0.001)
            (folder / "count").write_text(str(value + 1))


def test_a_lock_lets_one_process_in_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    workers = [multiprocessing.get_context("fork").Process(target=_count, args=(tmp_path, 20)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert (tmp_path / "count").read_text() == "80"
    assert not (tmp_path / "lock.json").exists()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import os, sys; from pathlib import Path; from ablate.store.lock import Lock\n"
        "Lock(Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock.json")], check=False)
    assert (tmp_path / "lock.json").exists()
    with Lock(tmp_path / "lock.json"):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert "taking over" in capsys.readouterr().err
    assert not (tmp_path / "lock.json").exists()


def test_the_owner_that_a_lock_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    holder = Lock(put(tmp_path / "lock.json", without(host="a\x1b[2J\nb", since="\x1b]0;x\x07"))).holder() or ""
    assert r"on a\x1b[2J b (has" in holder and r"since \x1b]0;x\x07," in holder


def test_a_record_of_this_process_is_read_back_as_this_process() -> None:
    assert process_of(LIVING) == this_process() and this_process().fate == "living"
