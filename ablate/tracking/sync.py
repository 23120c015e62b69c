"""W&B runs that were not sent: found by study, sent by the client's own `wandb sync`, compared with their ledgers.

A mirror that was ended early leaves half a run or none, and a note that it has begun; such a run is made anew from its
ledger, which is the record.

The exit code of `wandb sync` says nothing: it is 0 for a key that the server refuses too. So a run counts as sent when
the client left its mark beside it, and as arrived when the server gives back what the ledger holds.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ablate.records import UserError
from ablate.secrets import scrub_text
from ablate.tracking.elsewhere import OtherRun, flat
from ablate.tracking.ledger import ledger_steps, read_ledger, restore
from ablate.tracking.names import NOTE_FILE, metric_name, replay_command, run_name, tag_names
from ablate.tracking.process import BEGUN
from ablate.tracking.wandb import wandb_environment


@dataclass(frozen=True)
class UnsentRun:
    """A W&B run on the disk that no server had in full when it ended."""

    folder: Path | None
    """Where W&B keeps it; None where its mirror was ended before there was one."""
    study: str
    arm: str
    name: str
    id: str
    project: str
    entity: str | None
    ledger: Path
    ended: bool
    """Whether everything that the ledger holds is in it; else it is running, or its mirror was ended early."""
    wandb_dir: Path

    @property
    def is_sent(self) -> bool:
        """Whether the client marked it as sent."""
        return self.folder is not None and any(self.folder.glob("*.wandb.synced"))

    @property
    def replay(self) -> str:
        """The command that puts its ledger into W&B's files once more."""
        options = ["--entity", self.entity] if self.entity else []
        return replay_command(self.ledger, self.wandb_dir, self.project, *options)

    def stands(self) -> Literal["over", "open", "superseded", "lost"]:
        """Return how the attempt stands in the ledger.

        `over`: it has its `finish`. `open`: it runs, or was killed. `superseded`: a later attempt has what it logged.
        `lost`: the ledger is gone.
        """
        if not self.ledger.exists():
            return "lost"
        starts: list[str] = []
        finished = False
        for record in read_ledger(self.ledger):
            if record["kind"] == "start":
                starts.append(run_name(record["run_id"], len(starts) + 1))
            finished = record["kind"] == "finish" or (finished and record["kind"] != "start")
        if starts[-1:] != [self.id]:
            return "superseded"
        return "over" if finished else "open"


class Outcome(NamedTuple):
    """How the sending of a run ended."""

    ok: bool
    words: str


def unsent_runs(wandb_dir: Path) -> list[UnsentRun]:
    """Return the runs of every study that no server had in full when they ended, by study and name.

    Of several copies under one id the newest whole one counts. Folders without a note were made by an earlier version
    and are left out. Raises UserError for a note that cannot be read.
    """
    copies: dict[tuple[str, str, str | None], list[UnsentRun]] = {}
    begun = sorted((wandb_dir / BEGUN).glob("*.json"))
    folders = sorted(wandb_dir.glob(f"wandb/*run-*/{NOTE_FILE}"), key=lambda note: note.parent.name.split("run-")[1])
    for note in (*begun, *folders):
        folder = note.parent if note.name == NOTE_FILE else None
        try:
            values = {"ended": False, "sent": False} | json.loads(note.read_text("utf-8"))
            sent = values.pop("sent")
            ledger = Path(os.path.normpath(note.parent / values.pop("ledger")))
            run = UnsentRun(folder=folder, ledger=ledger, wandb_dir=wandb_dir, **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{note}: not a note on a run of W&B ({error}); delete it, and send the folder by hand"
            ) from None
        if not sent:
            copies.setdefault((run.id, run.project, run.entity), []).append(run)
    chosen = [max(runs, key=lambda run: run.ended) for runs in (list(reversed(runs)) for runs in copies.values())]
    return sorted(chosen, key=lambda run: (run.study, run.name, run.id))


REACH_S = 10.0
"""Seconds within which a server must take a connection."""


def _check_reachable(url: str) -> None:
    """Raise OSError unless something listens where a server should: the client would go on trying for long.

    Behind a proxy nothing is asked, because the server's own address need not be reachable.
    """
    place = urllib.parse.urlsplit(url)
    if urllib.request.getproxies().get(place.scheme) and not urllib.request.proxy_bypass(place.hostname or ""):
        return
    port = place.port or (443 if place.scheme == "https" else 80)
    socket.create_connection((place.hostname or "", port), timeout=REACH_S).close()


class Server:
    """The W&B server that the environment names, with the key that the environment or the home directory holds.

    Raises UserError when it does not answer or refuses the key. W&B's variables of this process are set to those of
    `wandb_environment`, so that nothing is written outside of `wandb_dir`.
    """

    def __init__(self, wandb_dir: Path, so: str = "nothing was sent") -> None:
        environment = wandb_environment(wandb_dir.absolute())
        os.environ.clear()
        os.environ.update(environment)
        import wandb

        self._wandb_dir = wandb_dir.absolute()
        self.url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
        with self.asking(so):
            _check_reachable(self.url)
            self._api = wandb.Api(timeout=20)
            self.entity = self._api.default_entity
        if not self.entity:
            raise UserError(f"W&B at {self.url} knows nobody under this key; {so}; check WANDB_API_KEY")

    @contextlib.contextmanager
    def asking(self, so: str) -> Iterator[None]:
        """Turn whatever the client raises into a UserError that says so, with what follows from it (`so`)."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            reason = scrub_text(" ".join(str(error).split()))[:200] or type(error).__name__
            raise UserError(
                f"W&B at {self.url} does not answer as it should ({reason}); {so}; check the network, WANDB_BASE_URL "
                "and WANDB_API_KEY (or `wandb login`), then issue the same command again"
            ) from None

    def runs(self, entity: str, project: str) -> list[OtherRun]:
        """Return the runs of a project with their configuration and summary; tables stay on the server."""
        with self.asking("nothing was read"):
            return [
                OtherRun(
                    place=f"{entity}/{project}/{run.id}",
                    id=run.id,
                    name=run.name or "",
                    group=run.group or "",
                    config=flat({name: value for name, value in run.config.items() if name != "_wandb"}),
                    summary=flat(run.summary_metrics),
                    ended=run.state == "finished",
                )
                for run in self._api.runs(f"{entity}/{project}", order="+created_at")
            ]

    def send(self, run: UnsentRun, *, again: bool, timeout_s: float) -> Outcome:
        """Send a run unless it was sent already, and compare what arrived with its ledger; never raises UserError.

        One that is not whole is made anew from its ledger first, if that has its end.
        """
        if not run.ended:
            try:
                stands = run.stands()
            except UserError as error:
                return Outcome(False, f"not whole, and its ledger cannot be read: {error}")
            if stands == "superseded":
                return Outcome(True, "not whole, and not sent: a later attempt has what this one logged")
            if stands == "lost":
                return Outcome(False, f"not whole, and its ledger is gone ({run.ledger}): nothing can be sent")
            if stands == "open":
                words = f"not whole: still running, or killed; when nothing runs: {run.replay}, then this command again"
                return Outcome(False, words)
            made = self._made_anew(run, timeout_s)
            if isinstance(made, str):
                return Outcome(False, made)
            ok, words = self.send(made, again=again, timeout_s=timeout_s)
            return Outcome(ok, f"made anew from its ledger; {words}")
        before = run.is_sent and not again
        if not before and (trouble := self._upload(run, again, timeout_s)):
            return Outcome(False, trouble)
        try:
            differences, compared = self._differences(run)
        except UserError as error:
            return Outcome(False, f"sent, but what arrived is not known: {error}")
        if differences:
            return Outcome(False, f"arrived otherwise: {'; '.join(differences[:3])}; send it once more with --again")
        return Outcome(True, f"{'sent before' if before else 'sent'}; {compared} values arrived as the ledger has them")

    def _made_anew(self, run: UnsentRun, timeout_s: float) -> UnsentRun | str:
        """Return a whole copy of a run that is made from its ledger, or in words why there is none."""
        said = self._call(shlex.split(run.replay)[1:], timeout_s)
        if said is None:
            return f"not whole, and not made anew within {timeout_s:g} s (--timeout); issue the same command again"
        made = [other for other in unsent_runs(run.wandb_dir) if other.id == run.id and other.ended]
        return made[0] if made else f"not whole, and not made anew ({_short(said)}); by hand: {run.replay}"

    def _call(self, words: Sequence[str], timeout_s: float) -> str | None:
        """Return what a Python command says, or None where it does not end in time; nothing of it stays alive."""
        process = subprocess.Popen(
            [sys.executable, *words],
            env=wandb_environment(self._wandb_dir) | {"WANDB_SILENT": "false"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            return process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):  # its service stays when it is killed alone
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _upload(self, run: UnsentRun, again: bool, timeout_s: float) -> str:
        """Return what went wrong; empty where the client says that the run was sent."""
        assert run.folder is not None
        for mark in run.folder.glob("*.wandb.synced") if again else ():
            mark.unlink()
        command = ["-m", "wandb", "sync", *(["--include-synced"] * again), "--include-online", str(run.folder)]
        said = self._call(command, timeout_s)
        if said is None:
            return f"no end of `wandb sync` within {timeout_s:g} s (--timeout); issue the same command again"
        if run.is_sent:
            return ""
        lines = [line.removeprefix("wandb:").strip() for line in said.splitlines()]
        telling = [line for line in lines if line and not line.startswith(("Syncing", str(run.folder)))]
        return f"`wandb sync` did not send it ({_short(' '.join(telling))})"

    def _differences(self, run: UnsentRun) -> tuple[list[str], int]:
        """Return in what the run on the server differs from its ledger, and how many values were compared."""
        records = read_ledger(run.ledger)
        start = [record for record in records if record["kind"] == "start"][-1]
        expected: dict[str, Any] = {}
        for record in records:
            if record["kind"] == "summary":
                expected |= {metric_name(name): value for name, value in restore(record["values"]).items()}
        if steps := ledger_steps(run.ledger):
            expected["_step"] = max(steps)
        with self.asking("it may have arrived"):
            arrived = self._api.run(f"{run.entity or self.entity}/{run.project}/{run.id}")
            theirs = {"group": arrived.group, "job type": arrived.job_type, "tags": sorted(arrived.tags)}
            summary = dict(arrived.summary)
        ours = {"group": run.study[:128], "job type": run.arm, "tags": sorted(tag_names(run.arm, start["tags"]))}
        wrong = [f"{name} {theirs[name]!r} for {ours[name]!r}" for name in ours if theirs[name] != ours[name]]
        numbers = {name: value for name, value in expected.items() if _is_finite(value)}
        for name, value in numbers.items():
            there = summary.get(name)
            if not _is_finite(there) or not math.isclose(float(there), value, rel_tol=1e-9):  # type: ignore[arg-type]
                wrong.append(f"{name} is {there!r} for {value!r}")
        return wrong, len(ours) + len(numbers)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _short(said: str) -> str:
    return scrub_text(" ".join(said.split()))[:200] or "it says nothing"
