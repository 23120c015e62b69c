"""Every request that was made, with its raw answer, in one SQLite file: what was answered once is never paid again.

A row `sent` is on the disk (WAL, synchronous FULL) before its request leaves, with the worst that it can cost, and is
settled after. A row that a killed process left at `sent` becomes `perhaps_paid`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablate.records import UserError
from ablate.store.provenance import now

State = Literal["sent", "answered", "refused", "not_reached", "perhaps_paid"]
"""refused: by the server, with a status of 400 or more, which is not paid; not_reached: no connection was made;
perhaps_paid: sent, and no whole answer came back."""

_TABLE = """
CREATE TABLE IF NOT EXISTS attempt (
    request TEXT NOT NULL, number INTEGER NOT NULL, campaign TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL,
    state TEXT NOT NULL, status INTEGER, sent TEXT NOT NULL, settled TEXT, raw TEXT NOT NULL,
    tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, cost REAL NOT NULL, PRIMARY KEY (request, number));
CREATE INDEX IF NOT EXISTS by_campaign ON attempt (campaign);
"""


@dataclass(frozen=True)
class Charge:
    """Tokens and money (in the currency of the prices; 0 where there are none)."""

    tokens_in: int
    tokens_out: int
    cost: float

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.tokens_in + self.tokens_out


@dataclass(frozen=True)
class Attempt:
    """One request that was made, and what came of it."""

    request: str
    number: int
    """Counts from 0; a request is made again only where no answer came."""
    model: str
    prompt: str
    state: State
    status: int | None
    sent: str
    settled: str | None
    raw: str
    charge: Charge


class Cache:
    """The attempts in a file; raises UserError for what is no such file, or where another process uses it.

    Not `is_paid`: what is recorded may be lost where the machine fails, which is quicker.
    """

    def __init__(self, path: Path, *, is_paid: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            self._base = sqlite3.connect(path, timeout=1.0, isolation_level=None)
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", f"synchronous={'FULL' if is_paid else 'OFF'}"):
                self._base.execute(f"PRAGMA {pragma}").fetchall()
            self._base.executescript(_TABLE)
            self._base.execute("UPDATE attempt SET state = 'perhaps_paid' WHERE state = 'sent'")
        except sqlite3.Error as error:
            busy = "locked" in str(error)
            remedy = "another process uses it: wait, or name another" if busy else "name another, or move it away"
            raise UserError(f"--cache {path} cannot be opened ({error}); {remedy}") from None

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def sent(self, request: str, campaign: str, model: str, prompt: str, worst: Charge) -> int:
        """Write down that a request is about to leave, and return its number."""
        ((number,),) = self._execute("SELECT count(*) FROM attempt WHERE request = ?", (request,))
        row = (request, number, campaign, model, prompt, now(), worst.tokens_in, worst.tokens_out, worst.cost)
        self._execute("INSERT INTO attempt VALUES (?, ?, ?, ?, ?, 'sent', NULL, ?, NULL, '', ?, ?, ?)", row)
        return int(number)

    def settle(
        self, request: str, number: int, state: State, raw: str, charge: Charge, status: int | None = None
    ) -> None:
        """Write down what came of a request that was sent."""
        row = (state, status, now(), raw, charge.tokens_in, charge.tokens_out, charge.cost, request, number)
        self._execute(
            "UPDATE attempt SET state = ?, status = ?, settled = ?, raw = ?, tokens_in = ?, tokens_out = ?, cost = ? "
            "WHERE request = ? AND number = ?",
            row,
        )

    def answered(self, request: str) -> Attempt | None:
        """Return the attempt that was answered, or None."""
        return next((attempt for attempt in self.attempts(request) if attempt.state == "answered"), None)

    def attempts(self, request: str) -> Iterator[Attempt]:
        """Yield all attempts of a request, the first one first."""
        rows = self._execute(
            "SELECT request, number, model, prompt, state, status, sent, settled, raw, tokens_in, tokens_out, cost "
            "FROM attempt WHERE request = ? ORDER BY number",
            (request,),
        )
        for key, number, model, prompt, state, status, sent, settled, raw, *charge in rows:
            yield Attempt(key, number, model, prompt, state, status, sent, settled, raw, Charge(*charge))

    def charged(self, campaign: str) -> Charge:
        """Return what all attempts of a campaign came to; those perhaps paid count with the worst."""
        (row,) = self._execute(
            "SELECT total(tokens_in), total(tokens_out), total(cost) FROM attempt WHERE campaign = ?", (campaign,)
        )
        return Charge(int(row[0]), int(row[1]), float(row[2]))

    def states(self, campaign: str) -> Counter[str]:
        """Return how many attempts of a campaign are in each state."""
        rows = self._execute("SELECT state, count(*) FROM attempt WHERE campaign = ? GROUP BY state", (campaign,))
        return Counter(dict(rows))

    def perhaps_paid(self, campaign: str) -> list[tuple[str, str]]:
        """Return (request, when it was sent) of what may have been paid without an answer."""
        return self._execute(
            "SELECT request, sent FROM attempt WHERE campaign = ? AND state = 'perhaps_paid' ORDER BY sent, request",
            (campaign,),
        )

    def _execute(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        """Run a statement and return its rows; raises UserError where the file cannot be read or written any more."""
        try:
            return self._base.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise UserError(
                f"--cache {self._path}: {error}; what was recorded stays: make room, and issue the same command again"
            ) from None
