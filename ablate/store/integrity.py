"""Files of results are read with suspicion: they may be damaged, or come from someone else.

A file counts as read only when its kind, size and SHA-256 are the recorded ones; what it holds is then still bounded
and may still be refused, because a record can be made up too.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import stat
import time
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ablate.records import UserError
from ablate.store.drafts import draft_of

MOST_JSON_BYTES = 256 * 2**20
"""Of a JSON file in a folder of results; the largest of ours, with the warnings of all its queries, has some MB."""
MOST_PACKED = 200
"""Bytes that one byte of a gzip file may become, above `FREE_BYTES`; ours become 10 to 40, a bomb's 1,000."""
FREE_BYTES = 64 * 2**20

UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    NotImplementedError,
    RecursionError,
    OverflowError,
)
"""What readers of JSON, gzip and Parquet raise for content that they do not expect; Arrow's errors are among them."""

TICK_S = 0.05
"""A file that was changed less than this long ago may be changed again without another time stamp."""

_digests: dict[tuple[str, int, int, int, int, int], str] = {}
"""SHA-256 of the files that this process has read, by path and state: one that changes is read again."""


@contextlib.contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a UserError that names it; a UserError stays as it is."""
    try:
        yield
    except UserError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read ({type(error).__name__}: {reason}); {remedy}") from error


def read_json(path: Path, remedy: str) -> Any:
    """Return the content of a JSON file; raises UserError for one that is too large, no plain file or no JSON."""
    with reading(path, remedy):
        with _opened(path) as file:
            content = file.read(MOST_JSON_BYTES + 1)
        if len(content) > MOST_JSON_BYTES:
            raise UserError(f"{path} has more than {MOST_JSON_BYTES:,} bytes, which no record of a run has; {remedy}")
        return json.loads(content)


def unpacked(path: Path, remedy: str) -> bytes:
    """Return the content of a gzip file; raises UserError for a broken one, and for one that would fill the memory."""
    with reading(path, remedy), _opened(path) as raw:
        most = max(FREE_BYTES, MOST_PACKED * os.fstat(raw.fileno()).st_size)
        content = gzip.GzipFile(fileobj=raw).read(most + 1)
    if len(content) > most:
        raise UserError(f"{path} unpacks to more than {most:,} bytes, {MOST_PACKED} times its size; {remedy}")
    return content


def _opened(path: Path) -> Any:
    """Open a plain file for reading; anything else, such as a pipe, which could wait for ever, is a ValueError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("no plain file")
    return os.fdopen(handle, "rb")


def is_inside(name: str) -> bool:
    """Return whether a recorded file name stays in its folder: relative, in normal form, without `..`."""
    path = PurePosixPath(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts and str(path) == name


def fault_of(folder: Path, name: str, sha256: str, size: int | None, *, with_content: bool = True) -> str:
    """Return what is wrong with a recorded file, as words that follow its name, or nothing.

    `size` in bytes, None where it was not recorded. The content is read once per process and state of the file.
    """
    path = folder / name
    try:
        status = path.stat()
        if not path.resolve().is_relative_to(folder.resolve()):
            return "is a link that leaves its folder"
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links that go round
        return "is missing"
    if not stat.S_ISREG(status.st_mode):
        return "is no plain file"
    if size is not None and status.st_size != size:
        return f"was changed ({status.st_size:,} bytes, recorded {size:,})"
    if not with_content:
        return ""
    try:
        other = digest_of(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if other == sha256:
        return ""
    return f"was changed ({status.st_size:,} bytes, SHA-256 {other[:12]}…, recorded {sha256[:12]}…)"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex; a file that this process has read in this state is not read."""
    status = path.stat()
    key = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key in _digests:
        return _digests[key]
    sha256 = sha256_of(path)
    if time.time() - max(status.st_mtime, status.st_ctime) > TICK_S:
        _digests[key] = sha256
    return sha256


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def give_usual_modes(paths: list[Path]) -> None:
    """Give files the mode that the umask gives to a new one; some libraries write theirs for the owner alone."""
    if not paths:
        return
    probe = draft_of(paths[0].parent / "mode")
    probe.touch()
    try:
        mode = stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink(missing_ok=True)
    for path in paths:
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)
