"""Runs and names in the words of a check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def grouped(items: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """Return key -> members, in the order in which they come."""
    groups: dict[Any, list[Any]] = {}
    for key, member in items:
        groups.setdefault(key, []).append(member)
    return groups


def runs_in_words(members: Sequence[tuple[str, int]]) -> str:
    """Return runs, arm and seed, by their arms."""
    return some(f"{arm} ({numbers(seeds)})" for arm, seeds in grouped(members).items())


def numbers(values: Iterable[int]) -> str:
    """Return whole numbers as a list."""
    return ", ".join(map(str, values))


def some(names: Iterable[str], limit: int = 6) -> str:
    """Return names as a list: the first ones, and how many more there are."""
    known = list(names)
    return ", ".join(known[:limit]) + (f" and {len(known) - limit} more" if len(known) > limit else "")
