"""The totals of a training, counted before it starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """The totals of a training, and the names that it was asked for by."""

    train: str
    mix: str
    labels: tuple[str, ...]
    counts: dict[str, int]
