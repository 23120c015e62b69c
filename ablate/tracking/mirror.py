"""W&B as a mirror of the ledger: the child process that follows a ledger and hands its records to W&B.

Online, a failed start (no key, no server, no answer) becomes an offline run that `wandb sync` can send later.

    python -m ablate.tracking.mirror LEDGER WANDB_DIR PROJECT [--entity E] [--online]

puts a ledger into W&B afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, final

from ablate.secrets import scrub
from ablate.tracking.ledger import merge_steps, parse_record, restore
from ablate.tracking.names import NOTE_FILE, metric_name, run_name, sync_command, tag_names
from ablate.tracking.wandb import SCRATCH, wandb_environment

FINISH_TIMEOUT_S = 5.0
"""Time that a server has to take the rest of the data at the end."""
LAST_RESORT_S = 60.0
"""Time after which a mirror that cannot finish ends all the same."""
_POLL_S = 0.2


@final
class _Follower:
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


@final
class _Mirror:
    """Hands records to one W&B run."""

    def __init__(
        self, ledger: Path, wandb_dir: Path, project: str, entity: str | None, online: bool, init_timeout_s: float
    ) -> None:
        self._ledger, self._wandb_dir, self._project, self._entity = ledger, wandb_dir, project, entity
        self._online, self._init_timeout_s = online, init_timeout_s
        self._run: Any = None
        self._step = 0
        self._note: dict[str, Any] = {}
        self.state: dict[str, Any] = {"done": False}

    def begin(self, record: dict[str, Any], attempt: int) -> None:
        """Start the W&B run: online when asked and possible, else offline."""
        offline = not self._online
        if self._online:
            try:
                self._run = self._init(record, attempt, "online")
            except Exception as error:
                self._trouble(f"no online run ({_one_line(error)}); logging offline")
                self._tear_down()  # the service still holds the run's id
                offline = True
        if self._run is None:
            self._run = self._init(record, attempt, "offline")
        folder = Path(self._run.settings.sync_dir)
        self.state |= {"run_dir": str(folder), "offline": offline}
        self._note = {
            "study": record["group"],
            "arm": record["job_type"],
            "name": record["name"],
            "id": self._run.id,
            "project": self._project,
            "entity": self._entity,
            "ledger": os.path.relpath(self._ledger.absolute(), folder),
            "ended": False,
            "sent": False,
        }
        self._write_note()
        self._save()

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

    def apply(self, record: dict[str, Any]) -> None:
        """Hand on one record."""
        import wandb

        match record["kind"]:
            case "metrics":
                self.metrics(record["step"], restore(record["values"]))
            case "summary":
                values = restore(record["values"])
                self._run.summary.update({metric_name(name): value for name, value in values.items()})
            case "table":
                table = wandb.Table(columns=record["columns"], data=record["rows"])
                self._run.log({record["name"]: table}, step=self._step)
            case "artifact":
                artifact = wandb.Artifact(record["name"], type=record["artifact_kind"])
                place = Path(record["path"])
                artifact.add_dir(str(place)) if place.is_dir() else artifact.add_file(str(place))
                self._run.log_artifact(artifact)

    def end(self, status: str) -> None:
        """Finish the W&B run; a server that does not take the rest in time is noted."""
        try:
            self._run.finish(exit_code=0 if status == "finished" else 1)
        except TimeoutError:  # the data is complete on disk
            self._trouble(f"the server did not take the data within {FINISH_TIMEOUT_S:g} s")

    def fail(self, error: BaseException) -> None:
        """Note that not everything is in W&B's files."""
        self.state["broken"] = True
        self._trouble(f"{type(error).__name__}: {_one_line(error)}")

    def close(self) -> None:
        """Note the end."""
        self.state["done"] = True
        if self._note and not self.state.get("broken"):
            self._note |= {"ended": True, "sent": not self.state["offline"] and "reason" not in self.state}
            self._write_note()
        self._save()

    def _trouble(self, reason: str) -> None:
        self.state.setdefault("reason", scrub(reason)[:300])
        self._save()

    def _write_note(self) -> None:
        """Say beside the run whose it is and whether all of it is there, for whoever sends it later."""
        with contextlib.suppress(OSError):  # W&B's own files are whole without it
            place = Path(self.state["run_dir"]) / NOTE_FILE
            place.with_suffix(".new").write_text(json.dumps(scrub(self._note)), "utf-8")
            os.replace(place.with_suffix(".new"), place)

    def _save(self) -> None:
        place = Path(tempfile.gettempdir()) / "state.json"
        if place.parent.name.startswith(SCRATCH):
            place.with_suffix(".new").write_text(json.dumps(self.state), "utf-8")
            os.replace(place.with_suffix(".new"), place)


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _mirror(follower: _Follower, mirror: _Mirror, attempt: int) -> None:
    status, replayed = "interrupted", False
    begun: list[dict[str, Any]] = []
    for record in follower.records():
        if record["kind"] == "start":
            mirror.begin(record, attempt)
        elif record["kind"] == "resumed":
            begun.append(record)  # after the first metrics there is nothing that W&B could take back
        else:
            if not replayed:
                replayed = True
                first = [record] if record["kind"] == "metrics" else []
                kept = merge_steps([*follower.earlier, *begun, *first])
                for step, values in kept.items():
                    if not first or step != record["step"]:
                        mirror.metrics(step, values)
                for earlier in follower.earlier:
                    if earlier["kind"] == "summary":
                        mirror.apply(earlier)
            if record["kind"] == "finish":
                status = record["status"]
            else:
                mirror.apply(record)
    last_resort = threading.Timer(LAST_RESORT_S, os._exit, (1,))
    last_resort.daemon = True
    last_resort.start()
    mirror.end(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Put a ledger into W&B: follow it while process `--parent` lives, or replay its last attempt."""
    parser = argparse.ArgumentParser(prog="python -m ablate.tracking.mirror", description="Put a ledger into W&B.")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("wandb_dir", type=Path)
    parser.add_argument("project")
    parser.add_argument("--entity")
    parser.add_argument("--online", action="store_true")
    parser.add_argument("--attempt", type=int, help="which start of the run; default: the last")
    parser.add_argument("--parent", type=int, help="process whose end also ends the ledger")
    parser.add_argument("--init-timeout", type=float, default=60.0, help="seconds")
    given = parser.parse_args(arguments)
    replay = given.parent is None
    if replay:
        os.environ.update(wandb_environment(given.wandb_dir.absolute()))
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    attempt = given.attempt
    if attempt is None:
        counter = _Follower(given.ledger, None, None)
        attempt = sum(record["kind"] == "start" for record in [*counter.records(), *counter.earlier])
    mirror = _Mirror(
        given.ledger, given.wandb_dir.absolute(), given.project, given.entity, given.online, given.init_timeout
    )
    try:
        _mirror(_Follower(given.ledger, attempt, given.parent), mirror, attempt)
    except Exception as error:
        mirror.fail(error)
    mirror.close()
    if replay:
        said = mirror.state.get("reason") or f"written to {mirror.state.get('run_dir')}"
        if mirror.state.get("offline") and "reason" not in mirror.state:
            said += f"; send it with: {sync_command(mirror.state['run_dir'])}"
        print("W&B:", said)
    elif os.getppid() != given.parent:  # nobody is left to do it
        if tempfile.gettempdir().rpartition(os.sep)[2].startswith(SCRATCH):
            shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)
    return 1 if "reason" in mirror.state else 0


if __name__ == "__main__":
    sys.exit(main())
