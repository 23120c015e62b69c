"""Tables of bad inputs, one module per kind of input; `tests/test_bad_inputs.py` runs every row of every table.

The promise: one line on standard error that names file and line or key, the value, what is allowed and the remedy; exit
code 2; nothing half-written.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


def nothing(folder: Path) -> None:
    """Write no file."""


@dataclass(frozen=True)
class BadInput:
    """A command that must be refused before it does any work.

    In `command` and `words`, `{dir}` stands for the folder of the test, which `make` fills.
    """

    name: str
    """What is wrong, in words; the name of the test."""
    command: Sequence[str]
    """Module and arguments: ("analysis.score", "--run", "{dir}/run.trec", …)."""
    words: Sequence[str]
    """What the line must contain."""
    make: Callable[[Path], object] = nothing


def written(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Return a `make` that writes one file."""

    def make(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def tables() -> dict[str, list[BadInput]]:
    """Return the rows of every module of this package by its name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: list(importlib.import_module(f"{__name__}.{name}").BAD_INPUTS) for name in names}
