"""Tracking: the local ledger, which is the record of truth, and W&B as a mirror of it.

W&B runs in a process of its own that reads the ledger, so it cannot stop, slow or change a run: see
`ablate.tracking.wandb`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from ablate.tracking.ledger import Ledger, Status, ledger_steps, read_ledger
from ablate.tracking.wandb import MirroredLedger, WandbMirror

__all__ = ["Ledger", "MirroredLedger", "Status", "Tracker", "WandbMirror"]
__all__ += ["ledger_steps", "open_tracker", "read_ledger"]


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
        """Report a file or folder; W&B takes a copy, the ledger its place."""

    def finish(self, status: Status) -> None:
        """End the run as `finished`, `failed` or `interrupted`."""


def open_tracker(
    kind: Literal["none", "wandb_offline", "wandb"],
    *,
    ledger_path: Path,
    wandb_dir: Path,
    project: str,
    entity: str | None,
) -> Tracker:
    """Open the ledger, and beside it W&B unless `kind` is `none`.

    Everything that W&B writes lies in `wandb_dir`. Raises UserError when the ledger is corrupt or cannot be written;
    nothing that W&B does raises.
    """
    ledger = Ledger(ledger_path)
    if kind == "none":
        return ledger
    mirror = WandbMirror(wandb_dir=wandb_dir, project=project, entity=entity, online=kind == "wandb")
    return MirroredLedger(ledger, mirror)
