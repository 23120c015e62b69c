"""What may be spent, and how fast: the worst case of everything in flight is reserved before it leaves."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ablate.synthesis.cache import Charge

NOTHING = Charge(0, 0, 0.0)


@dataclass(frozen=True)
class Prices:
    """Money for a million tokens, in one currency; None: not known."""

    tokens_in: float | None = None
    tokens_out: float | None = None

    def charge(self, tokens_in: int, tokens_out: int) -> Charge:
        """Return what these tokens come to."""
        cost = tokens_in * (self.tokens_in or 0.0) + tokens_out * (self.tokens_out or 0.0)
        return Charge(tokens_in, tokens_out, cost / 1e6)


class OverBudget(Exception):
    """The next request could go beyond the budget, and nothing in flight can free any of it."""


class Budget:
    """Limits on what a campaign comes to over all its commands; None: no limit."""

    def __init__(self, spent: Charge, most_tokens: int | None, most_cost: float | None) -> None:
        self._tokens, self._cost = spent.tokens, spent.cost
        self._most_tokens, self._most_cost = most_tokens, most_cost
        self._in_flight = 0
        self._settled = asyncio.Event()

    async def reserve(self, worst: Charge) -> None:
        """Reserve the worst case of a request; waits while what is in flight may free it, then raises OverBudget."""
        while not self._fits(worst):
            if not self._in_flight:
                raise OverBudget
            self._settled.clear()
            await self._settled.wait()
        self._add(worst, 1)
        self._in_flight += 1

    def settle(self, worst: Charge, charge: Charge) -> None:
        """Put what a request came to in the place of what was reserved for it."""
        self._add(worst, -1)
        self._add(charge, 1)
        self._in_flight -= 1
        self._settled.set()

    def _add(self, charge: Charge, sign: int) -> None:
        self._tokens += sign * charge.tokens
        self._cost += sign * charge.cost

    def _fits(self, worst: Charge) -> bool:
        tokens = self._most_tokens is None or self._tokens + worst.tokens <= self._most_tokens
        return tokens and (self._most_cost is None or self._cost + worst.cost <= self._most_cost + 1e-12)


class Pace:
    """Turns of requests: evenly at most so many a minute, and none before a time that the server named."""

    def __init__(self, per_minute: float | None) -> None:
        self._between = 0.0 if per_minute is None else 60.0 / per_minute
        self._next = 0.0

    def wait(self) -> float:
        """Take a turn, and return the seconds until it comes."""
        turn = max(self._next, time.monotonic())
        self._next = turn + self._between
        return turn - time.monotonic()

    def hold(self, seconds: float) -> None:
        """Let no further turn come before so many seconds."""
        self._next = max(self._next, time.monotonic() + seconds)
