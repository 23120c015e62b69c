"""A mirror of the ledger: the child's side, whatever the service; it follows a ledger and hands its records on."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, final

from ablate.secrets import scrub
from ablate.tracking.ledger import merge_steps, parse_record, restore
from ablate.tracking.process import SCRATCH, STATE_FILE

LAST_RESORT_S = 60.0
"""Time after which a mirror that cannot finish ends all the same."""
_POLL_S = 0.2


@final
class State:
    """How a mirror stands, told to the run through a file.

    `done`: it has ended by itself. `reason`: the first trouble. `broken`: not everything is with the service. `next`:
    what can be done with a run that is there. `remedy`: what to do after a trouble, if it is not `broken`.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"done": False}

    def set(self, **values: Any) -> None:
        """Set values and tell the run."""
        self.values |= values
        place = Path(tempfile.gettempdir()) / STATE_FILE
        if place.parent.name.startswith(SCRATCH):
            place.with_suffix(".new").write_text(json.dumps(self.values), "utf-8")
            os.replace(place.with_suffix(".new"), place)

    def trouble(self, reason: str) -> None:
        """Note a trouble; the first one counts."""
        self.set(reason=self.values.get("reason") or scrub(reason)[:300])

    def fail(self, reason: str) -> None:
        """Note that not everything is with the service."""
        self.set(broken=True)
        self.trouble(reason)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is known to be missing."""
        return "broken" not in self.values

    @property
    def reason(self) -> str:
        """The first trouble; empty without one."""
        return str(self.values.get("reason", ""))


class Recipient(Protocol):
    """One run of a service, as a mirror writes it."""

    def begin(self, record: dict[str, Any], attempt: int) -> None:
        """Start the run with the ledger's `start` record."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Hand on the values of a step."""

    def summary(self, values: dict[str, Any]) -> None:
        """Hand on values of the run as a whole."""

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Hand on a table."""

    def artifact(self, path: Path, name: str, kind: str) -> None:
        """Hand on a file or folder."""

    def end(self, status: str) -> None:
        """Finish the run with the status of the ledger."""

    def close(self) -> None:
        """Note the end, whatever happened before."""


@final
class Follower:
    """Reads the records of a ledger while it grows, until `finish` or the end of the run's process."""

    def __init__(self, path: Path, attempt: int | None, parent: int | None) -> None:
        self._path, self._attempt, self._parent = path, attempt, parent
        self.earlier: list[dict[str, Any]] = []
        """Records of earlier attempts, read before the first record is yielded."""

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records of the attempt, its `start` first; ends after `finish`."""
        attempts, number = 0, 0
        with open(self._path, "rb") as file:
            while True:
                alone = self._parent is None or os.getppid() != self._parent
                while line := self._complete_line(file):
                    number += 1
                    record = parse_record(line, f"{self._path}:{number}")
                    attempts += record["kind"] == "start"
                    if self._attempt is None or attempts < self._attempt:
                        self.earlier.append(record)
                        continue
                    yield record
                    if record["kind"] == "finish":
                        return
                if alone:
                    return
                time.sleep(_POLL_S)

    @staticmethod
    def _complete_line(file: Any) -> bytes:
        start = file.tell()
        line: bytes = file.readline()
        if line.endswith(b"\n"):
            return line
        file.seek(start)
        return b""


def _apply(record: dict[str, Any], recipient: Recipient) -> None:
    match record["kind"]:
        case "metrics":
            recipient.metrics(record["step"], restore(record["values"]))
        case "summary":
            recipient.summary(restore(record["values"]))
        case "table":
            recipient.table(record["name"], record["columns"], record["rows"])
        case "artifact":
            recipient.artifact(Path(record["path"]), record["name"], record["artifact_kind"])


def hand_over(follower: Follower, recipient: Recipient, attempt: int) -> None:
    """Hand an attempt to a service, with what earlier attempts logged and this one did not supersede."""
    status, replayed = "interrupted", False
    begun: list[dict[str, Any]] = []
    for record in follower.records():
        if record["kind"] == "start":
            recipient.begin(record, attempt)
        elif record["kind"] == "resumed":
            begun.append(record)  # after the first metrics there is nothing that a service could take back
        else:
            if not replayed:
                replayed = True
                first = [record] if record["kind"] == "metrics" else []
                kept = merge_steps([*follower.earlier, *begun, *first])
                for step, values in kept.items():
                    if not first or step != record["step"]:
                        recipient.metrics(step, values)
                for earlier in follower.earlier:
                    if earlier["kind"] == "summary":
                        _apply(earlier, recipient)
            if record["kind"] == "finish":
                status = record["status"]
            else:
                _apply(record, recipient)
    last_resort = threading.Timer(LAST_RESORT_S, os._exit, (1,))
    last_resort.daemon = True
    last_resort.start()
    recipient.end(status)


def one_line(error: BaseException) -> str:
    """Return the first line that an error says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
