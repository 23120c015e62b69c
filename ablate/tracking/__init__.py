"""Tracking: the local ledger, which is the record of truth, and a service that mirrors it: W&B or trackio.

A service runs in a process of its own that reads the ledger, so it cannot stop, slow or change a run: see
`ablate.tracking.process`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from ablate.tracking.ledger import Ledger, Status, ledger_steps, read_ledger
from ablate.tracking.process import Mirror, MirroredLedger
from ablate.tracking.trackio import check_trackio, trackio_service
from ablate.tracking.wandb import wandb_service

__all__ = ["Kind", "Ledger", "Status", "Tracker"]
__all__ += ["check_tracker", "ledger_steps", "open_tracker", "read_ledger"]

Kind = Literal["none", "wandb_offline", "wandb", "trackio"]


class Tracker(Protocol):
    """Takes what a run reports; `finish` belongs into a `finally` and may be called twice.

    A run that goes on is opened and started again; what was logged from its first new step on is superseded.
    """

    def start(
        self, recipe: Mapping[str, Any], *, group: str, job_type: str, tags: Sequence[str], name: str, run_id: str
    ) -> None:
        """Begin an attempt: the resolved recipe, the study (`group`), the arm's tags and the run's name and id."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Report training metrics of one step; several calls with one step add up, the last value of a name wins."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Report values of the run as a whole."""

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Report a table, such as the scores of each condition."""

    def artifact(self, path: Path, name: str, kind: str) -> None:
        """Report a file or folder; a service takes a copy, the ledger its place."""

    def finish(self, status: Status) -> None:
        """End the run as `finished`, `failed` or `interrupted`."""


def check_tracker(kind: Kind, project: str, entity: str | None) -> None:
    """Raise UserError where a tracker could not be opened: without its package, or with names that it cannot take."""
    if kind == "trackio":
        check_trackio(project, entity)


def open_tracker(kind: Kind, *, ledger_path: Path, folder: Path, project: str, entity: str | None) -> Tracker:
    """Open the ledger, and beside it the service that `kind` names.

    Everything that the service writes lies in `folder`. Raises UserError when the ledger is corrupt or cannot be
    written; nothing that the service does raises.
    """
    ledger = Ledger(ledger_path)
    if kind == "none":
        return ledger
    if kind == "trackio":
        return MirroredLedger(ledger, Mirror(trackio_service(folder, project)))
    return MirroredLedger(ledger, Mirror(wandb_service(folder, project, entity, online=kind == "wandb")))
