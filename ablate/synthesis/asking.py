"""Tasks become requests, requests become recorded answers: several at once, each paid once, stopped cleanly.

What ends the asking early is a `Stop`: no request leaves after it, and what is in flight is waited for and recorded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ablate.randomness import uniform
from ablate.secrets import scrub_text
from ablate.synthesis.answers import FINAL, Answer, Reply, tokens_of, understand
from ablate.synthesis.budget import NOTHING, Budget, OverBudget, Pace, Prices
from ablate.synthesis.cache import Attempt, Cache, Charge
from ablate.synthesis.prompts import Prompt

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""Statuses after which the same request may succeed."""
HOPELESS = frozenset({401, 403, 404, 405})
"""Statuses that every further request would have too."""
MOST_REFUSED = 5
"""Requests that are refused in a row, before any was answered, until it is the command that is at fault."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
PER_MESSAGE = 64
"""Tokens that a template may put around the messages; a token is at least a byte of what is sent."""


@dataclass(frozen=True)
class Task:
    """One thing that a model is asked."""

    id: str
    variables: Mapping[str, Any]
    """What the prompt is filled with."""
    known: Mapping[str, Any]
    """What the source knows of the right answer; only a simulation reads it."""
    fault: Callable[[Any], str]
    """What stands against values of the right form."""


@dataclass(frozen=True)
class Response:
    """What a server said: a status, the body, and what the headers ask for."""

    status: int
    raw: str
    retry_after_s: float | None = None


class NoAnswer(Exception):
    """The connection gave no whole response; `reached`: the request may have been worked on."""

    def __init__(self, reason: str, *, reached: bool) -> None:
        super().__init__(reason)
        self.reached = reached


class Engine(Protocol):
    """Who answers."""

    model: str
    place: str
    """What tells models of one name apart: an address, a digest."""

    def body(self, messages: list[dict[str, str]], schema: type[Reply], prompt: Prompt, task: Task) -> dict[str, Any]:
        """Return the request, all of which decides the answer."""

    async def send(self, body: dict[str, Any], ask: int) -> Response:
        """Return what the server says, whatever its status; raises NoAnswer where nothing whole came."""

    async def close(self) -> None:
        """Free what is held."""


StopKind = Literal["signal", "budget", "quota", "server"]


class Stop(Exception):
    """Why no further request leaves."""

    def __init__(self, kind: StopKind, reason: str, number: int = 0) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason
        self.number = number
        """Of the signal."""


@dataclass(frozen=True)
class Request:
    """What is sent, and the key under which its answer is kept."""

    key: str
    body: dict[str, Any]
    worst: Charge


@dataclass(frozen=True)
class Settings:
    """How requests are made."""

    concurrency: int = 8
    tries: int = 6
    """Requests until a failing one is given up."""
    asks: int = 2
    """Answers that are asked for until one is well-formed; each is a request of its own."""
    patience_s: float = 600.0
    """The longest wait that a server may ask for."""


@dataclass(frozen=True)
class Known:
    """What is recorded of a task."""

    answer: Answer
    attempt: Attempt
    ask: int


class Asking:
    """Asks an engine what the cache does not know, within a budget and at a pace."""

    def __init__(
        self,
        engine: Engine,
        cache: Cache,
        prompt: Prompt,
        schema: type[Reply],
        is_none: Callable[[Any], bool],
        *,
        step: str,
        settings: Settings,
        prices: Prices,
        most_tokens: int | None = None,
        most_cost: float | None = None,
        per_minute: float | None = None,
    ) -> None:
        self.engine, self.prompt = engine, prompt
        self.campaign = _digest([step, engine.place, engine.model, prompt.digest])
        self.given_up: Counter[str] = Counter()
        """Why tasks were left without an answer -> how many."""
        self._cache, self._schema, self._is_none = cache, schema, is_none
        self._settings, self._prices = settings, prices
        self._limits = most_tokens, most_cost
        self._pace = Pace(per_minute)
        self._num_refused = 0
        self._any_answered = False

    def request(self, task: Task, ask: int) -> Request:
        """Return the request of a task; further asks are the same request under a key of their own."""
        messages = self.prompt.messages(task.variables)
        body = self.engine.body(messages, self._schema, self.prompt, task)
        sent = json.dumps(body, ensure_ascii=False, sort_keys=True)
        worst = self._prices.charge(len(sent.encode()) + PER_MESSAGE * len(messages), self.prompt.most_tokens)
        return Request(_digest([self.engine.place, sent, ask]), body, worst)

    def known(self, task: Task) -> Known | None:
        """Return the last recorded answer of a task, or None where there is none."""
        last = None
        for ask in range(self._settings.asks):
            attempt = self._cache.answered(self.request(task, ask).key)
            if attempt is None:
                break
            last = Known(self._understood(attempt.raw, task), attempt, ask)
            if last.answer.outcome in FINAL:
                break
        return last

    def attempts(self, task: Task) -> Iterator[tuple[int, Attempt, Answer | None]]:
        """Yield (ask, attempt, what its answer comes to) for everything recorded of a task."""
        for ask in range(self._settings.asks):
            for attempt in self._cache.attempts(self.request(task, ask).key):
                yield ask, attempt, self._understood(attempt.raw, task) if attempt.state == "answered" else None

    def ask_all(self, tasks: Iterable[Task], told: Callable[[], None]) -> Stop | None:
        """Ask every task that is not known, call `told` after each, and return what ended it early, or None."""
        return asyncio.run(self._ask_all(iter(tasks), told))

    async def _ask_all(self, tasks: Iterator[Task], told: Callable[[], None]) -> Stop | None:
        self._stop: Stop | None = None
        self._stopped = asyncio.Event()
        self._budget = Budget(self._cache.charged(self.campaign), *self._limits)
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        ours = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
        for number in ours:
            loop.add_signal_handler(number, self._end, number)

        async def work() -> None:
            try:
                while self._stop is None and (task := next(tasks, None)) is not None:
                    await self._settle(task)
                    told()
                    await asyncio.sleep(0)  # let signals in, also where all is known
            except Stop as stop:
                self._end_by(stop)

        workers = [asyncio.create_task(work()) for _ in range(self._settings.concurrency)]
        try:
            finished = await asyncio.gather(*workers, return_exceptions=True)
        finally:
            for number, handler in ours.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
            await self.engine.close()
        for outcome in finished:
            if isinstance(outcome, BaseException):
                raise outcome
        return self._stop

    def _end(self, number: int) -> None:
        if self._stop is not None and self._stop.kind == "signal":
            os._exit(128 + number)
        name = signal.Signals(number).name
        print(f"{name}: waiting for what is in flight; once more ends at once", file=sys.stderr)
        self._end_by(Stop("signal", f"ended by {name}", number))

    def _end_by(self, stop: Stop) -> None:
        if self._stop is None or (stop.kind == "signal" and self._stop.kind != "signal"):
            self._stop = stop
        self._stopped.set()

    async def _pause(self, seconds: float) -> None:
        """Wait, and raise the stop if one comes."""
        if self._stop is None and seconds > 0:
            try:
                await asyncio.wait_for(self._stopped.wait(), seconds)
            except TimeoutError:
                pass
        if self._stop is not None:
            raise self._stop

    async def _settle(self, task: Task) -> None:
        for ask in range(self._settings.asks):
            request = self.request(task, ask)
            attempt = self._cache.answered(request.key)
            raw = attempt.raw if attempt is not None else await self._answer(request, ask)
            if raw is None or self._understood(raw, task).outcome in FINAL:
                return

    def _understood(self, raw: str, task: Task) -> Answer:
        return understand(raw, self._schema, self._is_none, task.fault)

    async def _answer(self, request: Request, ask: int) -> str | None:
        """Return the raw answer of a request once it is recorded, or None where it was given up."""
        reason = ""
        for attempt in range(self._settings.tries):
            await self._pause(self._pace.wait())
            try:
                await self._budget.reserve(request.worst)
            except OverBudget:
                raise Stop("budget", "the budget is used up: the next request could go beyond it") from None
            response, reason = await self._send(request, ask)
            if response is not None and response.status < 400:
                self._any_answered = True
                return response.raw
            status = None if response is None else response.status
            if response is not None:
                self._refuse(response, reason)
                if status not in RETRIED:
                    break
            if attempt + 1 < self._settings.tries:
                asked = None if response is None else response.retry_after_s
                await self._pause(self._wait(request, attempt, asked, status))
        self.given_up[reason] += 1
        return None

    async def _send(self, request: Request, ask: int) -> tuple[Response | None, str]:
        """Send a request once and record it; return the response, and what went wrong in a few words."""
        worst, charge = request.worst, NOTHING
        if self._stop is not None:
            self._budget.settle(worst, NOTHING)
            raise self._stop
        number = self._cache.sent(request.key, self.campaign, self.engine.model, self.prompt.digest, worst)
        try:
            response = await self.engine.send(request.body, ask)
            raw = scrub_text(response.raw)
            if response.status < 400:
                counted = tokens_of(raw)
                charge = worst if counted is None else self._prices.charge(*counted)
                self._cache.settle(request.key, number, "answered", raw, charge, response.status)
                return Response(response.status, raw), ""
            self._cache.settle(request.key, number, "refused", raw, NOTHING, response.status)
            return response, f"status {response.status}"
        except NoAnswer as error:
            charge = worst if error.reached else NOTHING
            state: Literal["perhaps_paid", "not_reached"] = "perhaps_paid" if error.reached else "not_reached"
            self._cache.settle(request.key, number, state, scrub_text(str(error)), charge)
            return None, str(error)
        finally:
            self._budget.settle(worst, charge)

    def _refuse(self, response: Response, reason: str) -> None:
        """Raise a Stop for a response after which no other request can succeed."""
        said = _error_of(response.raw)
        if response.status == 402 or "insufficient_quota" in (said.get("code"), said.get("type")):
            raise Stop("quota", "the server says that the quota is exhausted (insufficient_quota)")
        told = str(said.get("message") or "")[:200]
        if response.status in HOPELESS:
            raise Stop("server", f"the server refuses with {reason} ({told}); check address, key and model")
        if response.status not in RETRIED and not self._any_answered:
            self._num_refused += 1
            if self._num_refused >= MOST_REFUSED:
                raise Stop(
                    "server",
                    f"the server refuses every request with {reason} ({told}); check model, --format and the "
                    f"parameters of the prompt",
                )

    def _wait(self, request: Request, attempt: int, asked: float | None, status: int | None) -> float:
        """Return the seconds until a request is made again: what the server asks for, else doubling with a jitter."""
        if asked is None:
            doubled: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)
            return doubled * (0.5 + 0.5 * uniform(0, "wait", request.key, attempt))
        if asked > self._settings.patience_s:
            raise Stop(
                "server",
                f"the server asks to wait {asked:,.0f} s, more than --patience {self._settings.patience_s:g}",
            )
        if status == 429:
            self._pace.hold(asked)
        return asked


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def _error_of(raw: str) -> dict[str, Any]:
    """Return the error object of a body, empty where it has none."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}
