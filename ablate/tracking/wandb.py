"""W&B as a mirror of the ledger: how its process is started, and how a run is written by it.

Online, a failed start (no key, no server, no answer) becomes an offline run that `wandb sync` can send later.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Literal, final

from ablate.secrets import scrub
from ablate.tracking.follow import State, one_line
from ablate.tracking.names import NOTE_FILE, metric_name, run_name, sync_command, tag_names
from ablate.tracking.process import Service, begun_file, import_path

INIT_TIMEOUT_S = 4.0
"""Time that a server has to accept a run before the mirror goes on offline."""
FINISH_TIMEOUT_S = 5.0
"""Time that a server has to take the rest of the data at the end."""
_KEPT = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_INSECURE_DISABLE_SSL")
"""Variables of W&B that say who and where; the others would change what is logged."""


def wandb_service(
    folder: Path, project: str, entity: str | None, *, online: bool, init_timeout_s: float = INIT_TIMEOUT_S
) -> Service:
    """Return W&B as the service of a mirror."""
    return Service(
        title="W&B",
        folder=Path(folder).absolute(),
        project=project,
        entity=entity,
        options=("--online",) if online else (),
        notes_begin=True,
        environment=wandb_environment,
        begin_options=("--init-timeout", str(init_timeout_s)),
    )


def wandb_environment(wandb_dir: Path) -> dict[str, str]:
    """Return the environment for W&B in a process of its own: all that it writes goes to `wandb_dir`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_") or key in _KEPT}
    return kept | {
        "PYTHONPATH": import_path(),
        "WANDB_DIR": str(wandb_dir),
        "WANDB_DATA_DIR": str(wandb_dir / "data"),
        "WANDB_CACHE_DIR": str(wandb_dir / "cache"),
        "WANDB_CONFIG_DIR": str(wandb_dir / "config"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }


@final
class WandbRun:
    """Hands records to one W&B run."""

    def __init__(
        self,
        ledger: Path,
        folder: Path,
        project: str,
        state: State,
        *,
        entity: str | None,
        online: bool,
        init_timeout_s: float,
    ) -> None:
        self._ledger, self._wandb_dir, self._project, self._entity = ledger, folder, project, entity
        self._online, self._init_timeout_s = online, init_timeout_s
        self._run: Any = None
        self._folder = Path()
        self._offline = False
        self._step = 0
        self._note: dict[str, Any] = {}
        self._state = state

    def begin(self, record: dict[str, Any], attempt: int) -> None:
        """Start the W&B run: online when asked and possible, else offline."""
        self._offline = not self._online
        if self._online:
            try:
                self._run = self._init(record, attempt, "online")
            except Exception as error:
                self._state.trouble(f"no online run ({one_line(error)}); logging offline")
                self._tear_down()  # the service still holds the run's id
                self._offline = True
        if self._run is None:
            self._run = self._init(record, attempt, "offline")
        self._folder = Path(self._run.settings.sync_dir)
        self._note = {
            "study": record["group"],
            "arm": record["job_type"],
            "name": record["name"],
            "id": self._run.id,
            "project": self._project,
            "entity": self._entity,
            "ledger": os.path.relpath(self._ledger.absolute(), self._folder),
            "ended": False,
            "sent": False,
        }
        self._write_note()
        send = sync_command(self._folder)
        self._state.set(remedy=f"send it later with: {send}")
        if self._offline:
            self._state.set(next=f"offline; send it with: {send}")

    def _init(self, record: dict[str, Any], attempt: int, mode: Literal["online", "offline"]) -> Any:
        import wandb

        settings = wandb.Settings(
            console="off",
            silent=True,
            quiet=True,
            init_timeout=self._init_timeout_s,
            finish_timeout=FINISH_TIMEOUT_S,
            finish_timeout_raises=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            x_transaction_log_flush_interval=1,
        )
        return wandb.init(
            project=self._project,
            entity=self._entity,
            group=record["group"][:128],
            job_type=record["job_type"],
            tags=tag_names(record["job_type"], record["tags"]),
            name=record["name"],
            id=run_name(record["run_id"], attempt),
            config={**record["recipe"], "study": record["group"], "arm": record["job_type"]},
            dir=str(self._wandb_dir),
            mode=mode,
            settings=settings,
        )

    @staticmethod
    def _tear_down() -> None:
        import wandb

        with contextlib.suppress(Exception):
            wandb.teardown()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Hand on the values of a step."""
        self._step = max(self._step, step)
        self._run.log({metric_name(name): value for name, value in values.items()}, step=step)

    def summary(self, values: dict[str, Any]) -> None:
        """Hand on values of the run as a whole."""
        self._run.summary.update({metric_name(name): value for name, value in values.items()})

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Hand on a table."""
        import wandb

        self._run.log({name: wandb.Table(columns=list(columns), data=rows)}, step=self._step)

    def artifact(self, path: Path, name: str, kind: str) -> None:
        """Hand on a file or folder with its bytes."""
        import wandb

        artifact = wandb.Artifact(name, type=kind)
        artifact.add_dir(str(path)) if path.is_dir() else artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def end(self, status: str) -> None:
        """Finish the W&B run; a server that does not take the rest in time is noted."""
        try:
            self._run.finish(exit_code=0 if status == "finished" else 1)
        except TimeoutError:  # the data is complete on disk
            self._state.trouble(f"the server did not take the data within {FINISH_TIMEOUT_S:g} s")

    def close(self) -> None:
        """Note the end."""
        if self._note and self._state.is_whole:
            self._note |= {"ended": True, "sent": not self._offline and not self._state.reason}
            self._write_note()
            with contextlib.suppress(OSError):
                begun_file(self._wandb_dir, self._run.id).unlink(missing_ok=True)

    def _write_note(self) -> None:
        """Say beside the run whose it is and whether all of it is there, for whoever sends it later."""
        with contextlib.suppress(OSError):  # W&B's own files are whole without it
            place = self._folder / NOTE_FILE
            place.with_suffix(".new").write_text(json.dumps(scrub(self._note)), "utf-8")
            os.replace(place.with_suffix(".new"), place)
