"""Counts what a process does to the files under a folder, and lets a fault strike at one of these operations.

An operation is a call by the main thread that opens a file for writing, writes, syncs, renames, links, removes or makes
something under the folder. `strike` at operation K: `before` and `after` kill the process there, `torn` kills it with
half of the bytes in the file, `full` has the disk full from there on, `term`, `int` and `hup` send that signal.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

STRIKES = ("before", "after", "torn", "full", "term", "int", "hup")
SIGNALS = {"term": signal.SIGTERM, "int": signal.SIGINT, "hup": signal.SIGHUP}
NATIVE = (
    ("pyarrow.parquet", "write_table"),
    ("safetensors.torch", "save_file"),
    ("transformers.modeling_utils", "safe_save_file"),
)
"""Functions that write a file, named by their second argument, without Python's help; of modules that are loaded."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Shim:
    """Stands between a process and the files under `root` from `install` to the end of the process."""

    def __init__(self, root: Path, strike: str = "", at: int = 0, trace: list[str] | None = None) -> None:
        self.root, self.strike, self.at, self.trace = os.path.abspath(root), strike, at, trace
        self.number = 0
        self.is_full = False

    def holds(self, place: Any, dir_fd: int | None = None) -> bool:
        """Return whether a path or an open file lies under the root."""
        try:
            if isinstance(place, int):
                path = os.readlink(f"/proc/self/fd/{place}")
            else:
                base = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
                path = os.path.join(base, os.fsdecode(place))
        except (OSError, TypeError):
            return False
        return path == self.root or path.startswith(self.root + os.sep)

    def step(self, name: str, place: Any, do: Callable[[], Any], tear: Callable[[], None] = lambda: None) -> Any:
        """Do one operation as its number says; `tear` does half of it."""
        if threading.current_thread() is not threading.main_thread():
            return do()
        self.number += 1
        if self.trace is not None:
            self.trace.append(f"{self.number} {name} {place}")
        if self.is_full and name in ("open", "write", "native", "mkdir", "link"):
            raise OSError(errno.ENOSPC, "No space left on device", str(place))
        if self.number != self.at:
            return do()
        if self.strike == "full":
            self.is_full = True
            tear()
            raise OSError(errno.ENOSPC, "No space left on device", str(place))
        if self.strike in SIGNALS:
            os.kill(os.getpid(), SIGNALS[self.strike])
            return do()
        if self.strike == "torn":
            tear()
        elif self.strike == "after":
            do()
        os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Replace the functions through which Python, pyarrow and safetensors change files."""
        for name in ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir", "truncate"):
            self._wrap(os, name)
        real_open, real_os_open, real_write, real_fsync = io.open, os.open, os.write, os.fsync
        shim = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> Any:
                view = memoryview(data).cast("B")
                done = super().write
                return shim.step("write", self.name, lambda: done(view), lambda: done(view[: len(view) // 2]))

        def opened(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: Any = None,
            errors: Any = None,
            newline: Any = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            if isinstance(file, int) or opener or not set(mode) & set("wax+") or not shim.holds(file):
                return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = shim.step("open", file, lambda: Raw(file, mode.replace("b", "").replace("t", "")))
            if buffering == 0:
                return raw
            buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

        def os_open(path: Any, flags: int, *given: Any, **named: Any) -> int:
            if flags & WRITES and shim.holds(path, named.get("dir_fd")):
                return int(shim.step("open", path, lambda: real_os_open(path, flags, *given, **named)))
            return real_os_open(path, flags, *given, **named)

        def os_write(file: int, data: Any) -> int:
            if not shim.holds(file):
                return real_write(file, data)
            half = lambda: (real_write(file, bytes(data)[: len(data) // 2]), None)[1]  # noqa: E731
            return int(shim.step("write", file, lambda: real_write(file, data), half))

        def fsync(file: Any) -> None:
            number = file if isinstance(file, int) else file.fileno()
            if shim.holds(number):
                shim.step("fsync", number, lambda: real_fsync(file))
            else:
                real_fsync(file)

        builtins.open = io.open = opened  # type: ignore[assignment]
        os.open, os.write, os.fsync = os_open, os_write, fsync
        for module, name in NATIVE:
            if hasattr(sys.modules.get(module), name):
                self._wrap_native(sys.modules[module], name)

    def _wrap(self, module: Any, name: str) -> None:
        real = getattr(module, name)

        def wrapped(path: Any, *given: Any, **named: Any) -> Any:
            where = named.get("dir_fd", named.get("src_dir_fd"))
            if not self.holds(path, where):
                return real(path, *given, **named)
            return self.step(name, path, lambda: real(path, *given, **named))

        setattr(module, name, wrapped)

    def _wrap_native(self, module: Any, name: str) -> None:
        """Wrap a function of another library that writes the file named by its second argument by itself."""
        real = getattr(module, name)

        def wrapped(*given: Any, **named: Any) -> Any:
            place = given[1] if len(given) > 1 else named.get("where", named.get("filename"))
            if not isinstance(place, (str, os.PathLike)) or not self.holds(place):
                return real(*given, **named)

            def half() -> None:
                real(*given, **named)
                os.truncate(place, os.path.getsize(place) // 2)

            return self.step("native", place, lambda: real(*given, **named), half)

        setattr(module, name, wrapped)
