"""trackio as a mirror of the ledger: a tracker on this machine, without an account.

Nothing leaves the machine: of trackio's own settings (a Space, a server, a bucket, a webhook) none reaches its process,
and neither does a token of the Hugging Face Hub. It is read by `trackio show`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any, TextIO, final

from ablate.records import UserError
from ablate.tracking.follow import State
from ablate.tracking.names import run_name
from ablate.tracking.process import Service, import_path

_TOKENS = ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN")
_RESERVED_START = "registry-"
_RESERVED_ENDS = ("_system", "_configs", "_traces", "_artifacts", "_artifact_versions", "_artifact_aliases", "_links")
"""What trackio names files of its own; `_links` ends the names of two."""


def check_trackio(project: str, entity: str | None) -> None:
    """Raise UserError without the package, and for names that trackio has no place for.

    A project is a file of its name, from which trackio leaves out what is no letter, digit, hyphen or underscore, so
    that two projects would be one.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", project):
        raise UserError(
            f"runtime.tracker.project={project!r} is no name for trackio: letters, digits, hyphens and underscores"
        )
    if project.startswith(_RESERVED_START) or project.endswith(_RESERVED_ENDS):
        raise UserError(
            f"runtime.tracker.project={project!r} is a name that trackio keeps for files of its own (it begins with "
            f"{_RESERVED_START!r} or ends with {', '.join(map(repr, _RESERVED_ENDS))}); choose another one"
        )
    if entity is not None:
        raise UserError(
            f"runtime.tracker.entity={entity!r} is a user or team of W&B, and trackio has none; set it to null"
        )
    if importlib.util.find_spec("trackio") is None:
        raise UserError('tracker=trackio needs the package trackio: pip install -e ".[trackio]"')


def trackio_service(folder: Path, project: str) -> Service:
    """Return trackio as the service of a mirror."""
    return Service(
        title="trackio",
        folder=Path(folder).absolute(),
        project=project,
        options=("--trackio",),
        environment=trackio_environment,
    )


def trackio_environment(folder: Path) -> dict[str, str]:
    """Return the environment for trackio in a process of its own: it writes into `folder` and asks no server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRACKIO_")}
    kept = {name: value for name, value in kept.items() if name not in _TOKENS}
    return kept | {
        "PYTHONPATH": import_path(),
        "TRACKIO_DIR": str(folder),
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def show_command(folder: Path, project: str) -> str:
    """Return the line that shows a project, as a shell reads it."""
    return f"TRACKIO_DIR={shlex.quote(str(folder))} {shlex.join(['trackio', 'show', '--project', project])}"


@final
class TrackioRun:
    """Hands records to one run of trackio; values have the names that they have in the ledger.

    trackio knows a name, a group and a configuration: arm, study, tags and the run's id stand in the configuration, and
    values of the run as a whole are logged with its last step. It warns where it cannot write; a warning of its own is
    taken for a trouble.
    """

    def __init__(self, folder: Path, project: str, state: State) -> None:
        self._folder, self._project, self._state = folder, project, state
        self._run: Any = None
        self._step = 0
        self._logged: set[str] = set()

    def begin(self, record: dict[str, Any], attempt: int) -> None:
        """Start the run; an earlier copy of the same attempt is replaced."""
        import trackio

        warnings.showwarning = self._warned
        run_id = run_name(record["run_id"], attempt)
        self._delete_copies(run_id)
        names = {"study": record["group"], "arm": record["job_type"], "tags": record["tags"], "id": run_id}
        with contextlib.redirect_stdout(sys.stderr):  # it is chatty
            self._run = trackio.init(
                project=self._project,
                name=run_name(record["name"], attempt),
                group=record["group"],
                config={**record["recipe"], **names},
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self._state.set(next=f"look at it with: {show_command(self._folder, self._project)}")

    def _delete_copies(self, run_id: str) -> None:
        import trackio

        if (self._folder / f"{self._project}.db").exists():
            for run in trackio.Api().runs(self._project):
                if (run.config or {}).get("id") == run_id:
                    run.delete()

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr)
        if "trackio" in Path(filename).parts:
            self._state.fail(str(message))

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Hand on the values of a step."""
        self._step = max(self._step, step)
        self._logged.update(values)
        self._run.log(values, step=step)

    def summary(self, values: dict[str, Any]) -> None:
        """Hand on values of the run as a whole, at its last step; a name that steps have too begins with `run/`."""
        named = {f"run/{name}" if name in self._logged else name: value for name, value in values.items()}
        self._run.log(named, step=self._step)

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Hand on a table."""
        import trackio

        self._run.log({name: trackio.Table(columns=columns, data=rows)}, step=self._step)

    def artifact(self, path: Path, name: str, kind: str) -> None:
        """Hand on a file or folder; trackio keeps its bytes beside the project."""
        self._run.log_artifact(path, name=name, type=kind)

    def end(self, status: str) -> None:
        """Finish the run; one that did not finish gets an alert that says so."""
        import trackio

        with contextlib.redirect_stdout(sys.stderr):
            if status != "finished":
                self._run.alert(title=f"the run {status}", level=trackio.AlertLevel.ERROR)
            trackio.finish()

    def close(self) -> None:
        """Nothing is left to note: trackio keeps each step as it comes."""
