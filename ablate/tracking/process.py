"""A mirror of the ledger in a process of its own: the run's side.

The child process (`ablate.tracking.mirror`) follows the ledger file and hands each record to its service. So no call of
a run ever waits for a service: only `finish` does, until the mirror has caught up, no longer than `PATIENCE_S`; then
the child is killed. A run that is killed leaves a mirror that finishes what the ledger holds and ends. The first
trouble is one line on stderr; every number is in the ledger.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ablate.project import ROOT
from ablate.secrets import scrub
from ablate.tracking.ledger import Ledger, Status
from ablate.tracking.names import replay_command, run_name

PATIENCE_S = 9.0
"""Longest time in seconds that a run waits for its mirror, in total."""
SCRATCH = "ablate-mirror-"
"""How the names of the folders begin through which the two processes talk."""
BEGUN = "begun"
"""Folder of the notes on runs that have begun and are not whole with the service yet."""
STATE_FILE = "state.json"
"""In there: how the mirror stands, see `ablate.tracking.follow.State`."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What the run's side knows of the service that a mirror writes to."""

    title: str
    """What people call it."""
    folder: Path
    """Where all that it writes lies."""
    project: str
    options: tuple[str, ...]
    """Options of `python -m ablate.tracking.mirror` that choose it."""
    environment: Callable[[Path], dict[str, str]]
    """Folder -> environment of its process."""
    entity: str | None = None
    """Whose project it is, where the service has owners."""
    begin_options: tuple[str, ...] = ()
    """Options that count only while a run is followed."""
    notes_begin: bool = False
    """Whether a begun run is noted until all of it is in a folder of its own, so that none is forgotten."""

    @property
    def words(self) -> tuple[str, ...]:
        """All options that choose the service."""
        return (*(("--entity", self.entity) if self.entity else ()), *self.options)


@final
class MirroredLedger:
    """A tracker that writes the ledger and lets a service follow it."""

    def __init__(self, ledger: Ledger, mirror: Mirror) -> None:
        self._ledger, self._mirror = ledger, mirror

    def start(
        self, recipe: Mapping[str, Any], *, group: str, job_type: str, tags: Sequence[str], name: str, run_id: str
    ) -> None:
        """Record the start of an attempt and start its mirror."""
        self._ledger.start(recipe, group=group, job_type=job_type, tags=tags, name=name, run_id=run_id)
        names = {"study": group, "arm": job_type, "name": name, "id": run_name(run_id, self._ledger.attempt)}
        self._mirror.start(self._ledger.path, self._ledger.attempt, names)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of one training step."""
        self._ledger.log(step, values)
        self._mirror.check()

    def summary(self, values: Mapping[str, Any]) -> None:
        """Record values of the run as a whole."""
        self._ledger.summary(values)

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Record a table."""
        self._ledger.table(name, columns, rows)

    def artifact(self, path: Path, name: str, kind: str) -> None:
        """Record a file or folder."""
        self._ledger.artifact(path, name, kind)

    def finish(self, status: Status) -> None:
        """Record the end, and wait for the mirror; the second call does nothing."""
        try:
            self._ledger.finish(status)
        except BaseException:
            self._mirror.finish(patience_s=0.0)  # the end that it waits for will not come
            raise
        self._mirror.finish()


@final
class Mirror:
    """The child process that puts a ledger into a service, as seen from the run; none of its methods raises."""

    def __init__(self, service: Service, *, patience_s: float = PATIENCE_S) -> None:
        self._service, self._patience_s = service, patience_s
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = Path()
        self._ledger_path = Path()
        self._checked = 0.0
        self._warned = False

    def start(self, ledger_path: Path, attempt: int, names: Mapping[str, str]) -> None:
        """Start the child; takes milliseconds. `names`: study, arm, name and id of the run with the service."""
        self._ledger_path = ledger_path
        service, folder = self._service, self._service.folder
        options = ["--attempt", str(attempt), "--parent", str(os.getpid()), *service.begin_options, *service.words]
        command = [sys.executable, "-P", "-m", "ablate.tracking.mirror", *options, "--"]
        command += [str(ledger_path), str(folder), service.project]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if service.notes_begin:
                self._note_begin(names)
            self._scratch = Path(tempfile.mkdtemp(prefix=SCRATCH))
            environment = service.environment(folder) | {"TMPDIR": str(self._scratch)}
            with open(folder / "mirror.log", "ab") as log:
                self._process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            self._warn({"reason": f"its process cannot start ({error})"})

    def _note_begin(self, names: Mapping[str, str]) -> None:
        place = begun_file(self._service.folder, names["id"])
        place.parent.mkdir(exist_ok=True)
        ledger = os.path.relpath(self._ledger_path, place.parent)
        note = {**names, "project": self._service.project, "entity": self._service.entity, "ledger": ledger}
        place.with_suffix(".new").write_text(json.dumps(scrub(note)), "utf-8")
        os.replace(place.with_suffix(".new"), place)

    def check(self) -> None:
        """Warn once when the mirror is in trouble; looks every other second."""
        now = time.monotonic()
        if self._process is None or now - self._checked < 2.0:
            return
        self._checked = now
        self._report(ended=self._process.poll() is not None)

    def finish(self, patience_s: float | None = None) -> None:
        """Wait for the mirror to catch up, at most `patience_s` seconds, and end it."""
        if self._process is None:
            return
        process, self._process = self._process, None
        late = False
        try:
            process.wait(self._patience_s if patience_s is None else patience_s)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            self._report(ended=True, late=late)
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _report(self, *, ended: bool, late: bool = False) -> None:
        try:
            state = json.loads((self._scratch / STATE_FILE).read_text("utf-8"))
        except (OSError, ValueError):
            state = {}
        if ended and not late and state.get("done") and state.get("next") and not state.get("reason"):
            print(scrub(f"{self._service.title}: {state['next']}"), flush=True)
        elif late:
            reason = state.get("reason") or f"it did not keep up within {self._patience_s:g} s"
            self._warn(state | {"reason": reason, "broken": True})
        elif state.get("reason") or (ended and not state.get("done")):
            lost = {} if state.get("done") or not ended else {"broken": True}
            self._warn({"reason": f"its process ended, see {self._service.folder / 'mirror.log'}"} | state | lost)

    def _warn(self, state: dict[str, Any]) -> None:
        if self._warned:
            return
        self._warned = True
        title, service = self._service.title, self._service
        remedy = state.get("remedy")
        if not remedy or state.get("broken"):
            replay = replay_command(self._ledger_path, service.folder, service.project, *service.words)
            remedy = f"put them into {title} later with: {replay}"
        text = f"{title}: {state['reason']}; the run goes on, every number is in {self._ledger_path}; {remedy}"
        print(scrub(" ".join(text.split())), file=sys.stderr, flush=True)


def begun_file(folder: Path, run_id: str) -> Path:
    """Return where a run is noted from its begin on until all of it is in a folder of its own."""
    return folder / BEGUN / f"{run_id}.json"


def import_path() -> str:
    """Return PYTHONPATH for a child process that runs a module of this program."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
