"""W&B runs made elsewhere, read from their offline files or asked of a server: configuration, summary and tables.

A `.wandb` file is a header of 7 bytes, then blocks of 32,768 bytes of LevelDB log records (CRC, length, kind), whose
joined contents are protobuf records of W&B. A torn tail, as a killed run leaves it, ends the file; anything else that
does not fit is an error. Nothing is unpickled, and no file outside of a run's folder is read.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.reading import check_file, faults
from ablate.records import UserError

_BLOCK, _HEAD = 32_768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_MAGIC = b":W&B"
MAX_FILE_BYTES = 2 * 2**30
"""Largest run file that is read: it is held in memory."""
MAX_TABLE_BYTES = 512 * 2**20


@dataclass
class OtherRun:
    """A run as W&B knows it, with the values of its configuration and summary by flat keys (`a.b`)."""

    place: str
    """The file or the address that it is from, for messages."""
    id: str = ""
    name: str = ""
    group: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Path] = field(default_factory=dict)
    """Name -> file of the last table that was logged under it."""
    ended: bool = False
    """Whether it has its end; a killed run has none."""

    def __str__(self) -> str:
        return f"{self.name or self.id} ({self.place})"


def offline_runs(path: Path) -> list[OtherRun]:
    """Return the runs of a `.wandb` file, of a run's folder, or of every run folder below a folder, by place.

    Raises UserError where there is none and for a file that is none of W&B's.
    """
    if path.is_file():
        return [_offline_run(path)]
    files = sorted(path.glob("run-*.wandb")) or sorted(path.rglob("*run-*/run-*.wandb"))
    if not files:
        raise UserError(f"{path}: no run of W&B there (run-ID.wandb, in folders offline-run-*); check the path")
    return [_offline_run(file) for file in files]


def read_table(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows of a table of W&B (JSON); raises UserError naming the file for anything else."""
    check_file(path)
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise UserError(f"{path}: {path.stat().st_size:,} bytes are more than a table may have ({MAX_TABLE_BYTES:,})")
    with faults(f"{path}: no table of W&B", "log it as wandb.Table"):
        table = json.loads(path.read_text("utf-8"))
        columns, rows = [str(name) for name in table["columns"]], [list(row) for row in table["data"]]
        if any(len(row) != len(columns) for row in rows):
            raise ValueError(f"a row does not have {len(columns)} values")
    return columns, rows


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested values by keys joined with dots."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value and "_type" not in value:
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def _offline_run(path: Path) -> OtherRun:
    check_file(path)
    with faults(f"{path}: no run file of W&B", "give the file that an offline run left"):
        return _read_run(path)


def _read_run(path: Path) -> OtherRun:
    """Return the run of a file; raises UserError for one without a run, and what parsers raise for a broken one."""
    run = OtherRun(str(path))
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    logged: dict[str, Any] = {}
    for record in _records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.id, run.name, run.group = record.run.run_id, record.run.display_name, record.run.run_group
            _take(config, record.run.config.update)
            _take(summary, record.run.summary.update)
        elif kind == "config":
            _take(config, record.config.update)
        elif kind == "summary":
            _take(summary, record.summary.update)
        elif kind == "history":
            _take(logged, record.history.item)
        elif kind == "exit":
            run.ended = True
    if not run.id:
        raise UserError(f"{path}: no run is in it; it was killed before W&B wrote anything, leave it out")
    run.config = flat({name: value for name, value in config.items() if name != "_wandb"})
    run.summary = flat(logged | summary)  # a run that was killed has what it logged last
    for name, value in run.summary.items():
        if isinstance(value, dict) and value.get("_type") == "table-file":
            run.tables[name] = _inside(path, str(value.get("path")))
    return run


def _take(values: dict[str, Any], items: Any) -> None:
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        place = values
        for name in above:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        place[last] = json.loads(item.value_json)


def _inside(path: Path, relative: str) -> Path:
    folder = (path.parent / "files").resolve()
    place = (folder / relative).resolve()
    if not place.is_relative_to(folder):
        raise UserError(f"{path}: names a table outside of its folder ({relative!r}); it is not read")
    return place


def _records(path: Path) -> Iterator[Any]:
    """Yield the records of a run file; raises ValueError for what is none."""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made when it is loaded

    for content in _contents(path):
        try:
            yield Record.FromString(content)
        except DecodeError as error:
            raise ValueError(str(error)) from None


def _contents(path: Path) -> Iterator[bytes]:
    """Yield the contents of a run file record by record, up to a torn tail."""
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise UserError(f"{path}: {size:,} bytes are more than a run file may have here ({MAX_FILE_BYTES:,})")
    data = path.read_bytes()
    if data[:4] != _MAGIC:
        raise ValueError(f"it does not begin with {_MAGIC.decode()}")
    place, parts = _HEAD, b""
    while place + _HEAD <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEAD:
            place += left
            continue
        crc, length, kind = struct.unpack_from("<IHB", data, place)
        content = data[place + _HEAD : place + _HEAD + length]
        if len(content) < length or (not crc and not length and not kind):
            return  # torn, or never written
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or zlib.crc32(content, zlib.crc32(bytes([kind]))) != crc:
            if place + _HEAD + length >= len(data):
                return
            raise ValueError(f"byte {place:,}: damaged")
        parts = content if kind in (_FULL, _FIRST) else parts + content
        place += _HEAD + length
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""
