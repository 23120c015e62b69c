"""Files under a passing name until they are whole; what a killed process left of them is swept away.

The name of a draft, `.NAME.TOKEN` with 32 hex digits, says which process writes it: 8 digits for the machine, 8 for the
pid, 8 for its birth and 8 at random. So nobody takes away a file that a living process is writing.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from ablate.recipe.values import digest
from ablate.store.process import MAX_PID, birth_of, machine_of

ENDS_AFTER_S = 24 * 3600.0
"""A draft of another machine, whose processes cannot be seen, is left over when nothing was written for so long."""

_DRAFT = re.compile(r"\..+\.([0-9a-f]{32})(\.npy)?|\.(?:probe|clock)-([0-9a-f]{32})")


def draft_of(path: Path, suffix: str = "") -> Path:
    """Return the name beside a path under which this process may write until the file is whole."""
    return path.with_name(f".{path.name}.{_token()}{suffix}")


def sweep(folders: Iterable[Path]) -> list[Path]:
    """Remove drafts that processes which are gone left right inside some folders, and return them; never raises.

    A draft whose process lives stays; one of another machine, or of an earlier version of the program, goes a day
    after it was last written to.
    """
    removed = []
    for folder in folders:
        try:
            names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(".")]
        except OSError:
            continue
        for name in names:
            match = _DRAFT.fullmatch(name)
            if match and _is_left_over(folder / name, match[1] or match[3]):
                with contextlib.suppress(OSError):
                    path = folder / name
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                    removed.append(path)
    return removed


def _token() -> str:
    pid = os.getpid()
    return f"{_machine()}{pid:08x}{_birth(pid)}{secrets.token_hex(4)}"


def _machine() -> str:
    return digest(machine_of())[:8]


def _birth(pid: int) -> str:
    return digest(birth_of(pid))[:8]


def _is_left_over(path: Path, token: str) -> bool:
    pid = int(token[8:16], 16)
    if token[:8] == _machine() and 0 < pid <= MAX_PID:
        if token[16:24] != _birth(pid):
            return True
        if birth_of(pid) is not None:
            return False
    try:
        return time.time() - path.lstat().st_mtime > ENDS_AFTER_S
    except OSError:
        return False
