"""W&B as a mirror of the ledger, in a process of its own: the run's side.

The child process (`ablate.tracking.mirror`) follows the ledger file and hands each record to W&B. So no call of a run
ever waits for W&B: only `finish` does, until the mirror has caught up, and no longer than `PATIENCE_S`; then the child
is killed, and W&B's own service process ends with it. A run that is killed leaves a mirror that finishes what the
ledger holds and ends. The first trouble is one line on stderr; every number is in the ledger.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from ablate.project import ROOT
from ablate.secrets import scrub
from ablate.tracking.ledger import Ledger, Status
from ablate.tracking.names import sync_command

PATIENCE_S = 9.0
"""Longest time in seconds that a run waits for W&B, in total."""
INIT_TIMEOUT_S = 4.0
"""Time that a server has to accept a run before the mirror goes on offline."""
SCRATCH = "ablate-wandb-"
"""How the names of the folders begin through which the two processes talk."""
_KEPT = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_INSECURE_DISABLE_SSL")
"""Variables of W&B that say who and where; the others would change what is logged."""


@final
class MirroredLedger:
    """A tracker that writes the ledger and lets W&B follow it."""

    def __init__(self, ledger: Ledger, mirror: WandbMirror) -> None:
        self._ledger, self._mirror = ledger, mirror

    def start(
        self, recipe: Mapping[str, Any], *, group: str, job_type: str, tags: Sequence[str], name: str, run_id: str
    ) -> None:
        """Record the start of an attempt and start its mirror."""
        self._ledger.start(recipe, group=group, job_type=job_type, tags=tags, name=name, run_id=run_id)
        self._mirror.start(self._ledger.path, self._ledger.attempt)

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
class WandbMirror:
    """The child process that puts a ledger into W&B, as seen from the run; none of its methods raises."""

    def __init__(
        self,
        *,
        wandb_dir: Path,
        project: str,
        entity: str | None,
        online: bool,
        patience_s: float = PATIENCE_S,
        init_timeout_s: float = INIT_TIMEOUT_S,
    ) -> None:
        self._wandb_dir = Path(wandb_dir).absolute()
        self._project, self._entity, self._online = project, entity, online
        self._patience_s, self._init_timeout_s = patience_s, init_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = Path()
        self._ledger_path = Path()
        self._checked = 0.0
        self._warned = False

    def start(self, ledger_path: Path, attempt: int) -> None:
        """Start the child; takes milliseconds."""
        self._ledger_path = ledger_path
        options = ["--attempt", str(attempt), "--parent", str(os.getpid())]
        options += ["--init-timeout", str(self._init_timeout_s)]
        options += ["--entity", self._entity] if self._entity else []
        options += ["--online"] if self._online else []
        command = [sys.executable, "-P", "-m", "ablate.tracking.mirror", *options, "--"]
        command += [str(ledger_path), str(self._wandb_dir), self._project]
        try:
            self._wandb_dir.mkdir(parents=True, exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(prefix=SCRATCH))
            environment = wandb_environment(self._wandb_dir) | {"TMPDIR": str(self._scratch)}
            with open(self._wandb_dir / "mirror.log", "ab") as log:
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
            state = json.loads((self._scratch / "state.json").read_text("utf-8"))
        except (OSError, ValueError):
            state = {}
        if ended and not late and state.get("done") and state.get("offline") and not state.get("reason"):
            print(f"W&B: offline; send it with: {sync_command(state['run_dir'])}", flush=True)
        elif late:
            reason = state.get("reason") or f"it did not keep up within {self._patience_s:g} s"
            self._warn(state | {"reason": reason, "broken": True})
        elif state.get("reason") or (ended and not state.get("done")):
            lost = {} if state.get("done") or not ended else {"broken": True}
            self._warn({"reason": f"its process ended, see {self._wandb_dir / 'mirror.log'}"} | state | lost)

    def _warn(self, state: dict[str, Any]) -> None:
        if self._warned:
            return
        self._warned = True
        folder = state.get("run_dir")
        if folder and not state.get("broken"):
            remedy = f"send it later with: {sync_command(folder)}"
        else:
            words = [str(self._ledger_path), str(self._wandb_dir), self._project, *(["--online"] * self._online)]
            remedy = f"put them into W&B later with: python -m ablate.tracking.mirror {shlex.join(words)}"
        text = f"W&B: {state['reason']}; the run goes on, every number is in {self._ledger_path}; {remedy}"
        print(scrub(" ".join(text.split())), file=sys.stderr, flush=True)


def wandb_environment(wandb_dir: Path) -> dict[str, str]:
    """Return the environment for W&B in a process of its own: all that it writes goes to `wandb_dir`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_") or key in _KEPT}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {
        "PYTHONPATH": os.pathsep.join(paths),
        "WANDB_DIR": str(wandb_dir),
        "WANDB_DATA_DIR": str(wandb_dir / "data"),
        "WANDB_CACHE_DIR": str(wandb_dir / "cache"),
        "WANDB_CONFIG_DIR": str(wandb_dir / "config"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }
