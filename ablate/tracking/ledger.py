"""The ledger: everything that a run reports, one JSON object per line, the record of truth.

Each record is handed to the operating system before the call returns, so a run that is killed (kill -9) loses at most
the record in flight. `start`, `resumed`, `summary`, `table`, `artifact` and `finish` are also fsynced, metric records
at most every `FSYNC_EVERY_S` seconds, so a power cut loses at most that many seconds of metrics.

Kinds of records, each with `time` (seconds since 1970) and `kind`:
    start     recipe, group, job_type, tags, name, run_id; one per attempt
    resumed   dropped_bytes; written when a ledger is opened again
    metrics   step, values
    summary   values
    table     name, columns, rows
    artifact  path, name, artifact_kind
    finish    status
JSON has no NaN and no infinities; they stand as the texts "nan", "inf" and "-inf".
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, final

from ablate.records import UserError
from ablate.secrets import scrub, scrub_texts

Status = Literal["finished", "failed", "interrupted"]
STATUSES: tuple[Status, ...] = ("finished", "failed", "interrupted")

FSYNC_EVERY_S = 2.0
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@final
class Ledger:
    """A tracker that appends to one file of JSON lines.

    Opening an existing ledger cuts off a torn last line, keeps the rest and writes a `resumed` record. Raises
    UserError when the file is corrupt elsewhere (with file and line) or cannot be written (with the reason).
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            existed = self.path.exists()
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            size = os.fstat(self._file).st_size
            self._end = _complete_length(self._file, size)
            earlier = read_ledger(self.path) if self._end else []
            if self._end < size:
                os.ftruncate(self._file, self._end)
            self.attempt = sum(record["kind"] == "start" for record in earlier)
            """How often this run was started; 0 before the first `start`."""
            self._synced = 0.0
            if not existed:
                _fsync_folder(self.path.parent)
            if earlier or self._end < size:
                self._append({"kind": "resumed", "dropped_bytes": size - self._end}, sync=True)
        except OSError as error:
            os.close(self._file)
            raise self._unwritable(error) from error
        except BaseException:
            os.close(self._file)
            raise

    def start(
        self, recipe: Mapping[str, Any], *, group: str, job_type: str, tags: Sequence[str], name: str, run_id: str
    ) -> None:
        """Record the start of an attempt; values of the recipe that look like secrets are left out."""
        self.attempt += 1
        names = {"group": group, "job_type": job_type, "tags": list(tags), "name": name}
        record = {"recipe": scrub(recipe), **scrub_texts(names)}
        self._append({"kind": "start", **record, "run_id": run_id}, sync=True)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of one training step."""
        record = {"kind": "metrics", "step": int(step), "values": {str(key): _number(values[key]) for key in values}}
        self._append(record, sync=time.monotonic() - self._synced > FSYNC_EVERY_S)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Record values of the run as a whole."""
        self._append({"kind": "summary", "values": scrub(values)}, sync=True)

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Record a table; every row has one value per column."""
        rows = [list(row) for row in rows]
        assert all(len(row) == len(columns) for row in rows), f"table {name}: a row does not fit {columns}"
        self._append({"kind": "table", "name": name, "columns": list(columns), "rows": scrub(rows)}, sync=True)

    def artifact(self, path: Path, name: str, kind: str) -> None:
        """Record where a file or folder lies that belongs to the run."""
        place = scrub_texts(str(Path(path).absolute()))
        self._append({"kind": "artifact", "path": place, "name": name, "artifact_kind": kind}, sync=True)

    def finish(self, status: Status) -> None:
        """Record the end and close the file; the second call does nothing."""
        if self._file < 0:
            return
        assert status in STATUSES, f"status {status!r} is none of {STATUSES}"
        try:
            self._append({"kind": "finish", "status": status}, sync=True)
        finally:
            os.close(self._file)
            self._file = -1

    def _append(self, record: dict[str, Any], *, sync: bool) -> None:
        assert self._file >= 0, "the ledger is finished; open it again to go on"
        record = {"time": round(time.time(), 3), **record}
        line = json.dumps(_strict(record), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if sync:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise self._unwritable(error) from error
        self._end += len(line)

    def _unwritable(self, error: OSError) -> UserError:
        reason = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
        return UserError(
            f"cannot write the ledger {self.path}: {reason}; what it holds is kept; make room or choose "
            "another place (runtime.results), then give the same command again"
        )


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Return the records of a ledger, without a torn last line.

    Raises UserError for a missing file and, with file and line, for a line that is not a record.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the ledger {path}: {error.strerror}; is it a finished or running run?") from error
    lines = data.split(b"\n")[:-1]  # what follows the last line break is torn
    return [parse_record(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def parse_record(line: bytes, where: str) -> dict[str, Any]:
    """Return one line of a ledger as a record; raises UserError that names `where` (file and line)."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not a record of a ledger ({error}); delete this line to go on") from error
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise UserError(f"{where}: not a record of a ledger (no kind); delete this line to go on")
    return record


def ledger_steps(path: Path) -> dict[int, dict[str, float]]:
    """Return the metrics of a ledger by step, in order of steps, as `merge_steps` sees them; raises as read_ledger."""
    return merge_steps(read_ledger(path))


def merge_steps(records: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """Return one set of values per step: the last value of each name wins, and superseded steps are left out.

    A `resumed` record supersedes the metrics before it from the first step on that is logged after it: every step is
    logged, so that is the one after the last checkpoint.
    """
    steps: dict[int, dict[str, float]] = {}
    reopened = False
    for record in records:
        if record["kind"] == "resumed":
            reopened = True
        elif record["kind"] == "metrics":
            if reopened:
                steps = {step: values for step, values in steps.items() if step < record["step"]}
                reopened = False
            steps.setdefault(record["step"], {}).update(restore(record["values"]))
    return dict(sorted(steps.items()))


def restore(values: Mapping[str, Any]) -> dict[str, float]:
    """Return metric values with the texts for NaN and the infinities as numbers again."""
    return {key: _NOT_FINITE[value] if value in _NOT_FINITE else value for key, value in values.items()}


def _number(value: Any) -> float:
    return value if type(value) in (int, float, bool) else float(value)


def _strict(value: Any) -> Any:
    """Return the value as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, (str, bool, int)):
        return value
    try:
        return _strict(float(value))  # numbers of other libraries
    except (TypeError, ValueError):
        return str(value)


def _complete_length(file: int, size: int) -> int:
    """Return the number of bytes up to and with the last line break."""
    while size > 0:
        start = max(0, size - 65_536)
        last_break = os.pread(file, size - start, start).rfind(b"\n")
        if last_break >= 0:
            return start + last_break + 1
        size = start
    return 0


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
