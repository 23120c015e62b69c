"""Files and keys of `analysis.import_wandb`."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

from bad_inputs import BadInput, written


def run_file(*records: object, header: bytes = b":W&B\x00\x00\x00") -> bytes:
    """Return a run file as W&B writes it; every record is short enough for one block."""
    parts = [header]
    for record in records:
        content = record.SerializeToString()  # type: ignore[attr-defined]
        parts.append(struct.pack("<IHB", zlib.crc32(content, zlib.crc32(b"\x01")), len(content), 1) + content)
    return b"".join(parts)


def make_run(folder: Path, seed: int = 0, loss: str = "0.5", table: str = "media/t.json", name: str = "r") -> None:
    """Write an offline run: arm `a`, a seed, a summary and a table `t`."""
    from wandb.proto.wandb_internal_pb2 import Record

    begin, summary, end = Record(), Record(), Record()
    begin.run.run_id = begin.run.display_name = name
    for key, value in (("arm", "a"), ("seed", seed)):
        begin.run.config.update.add(key=key, value_json=json.dumps(value))
    summary.summary.update.add(key="loss", value_json=loss)
    shown = json.dumps({"_type": "table-file", "path": table})
    summary.summary.update.add(key="t", value_json=shown)
    end.exit.exit_code = 0
    place = folder / f"offline-run-1-{name}"
    (place / "files" / "media").mkdir(parents=True)
    (place / f"run-{name}.wandb").write_bytes(run_file(begin, summary, end))
    rows = {"columns": ["q", "v"], "data": [["x", 0.5], ["y", 0.25]]}
    (place / "files" / "media" / "t.json").write_text(json.dumps(rows))


def _two(folder: Path) -> None:
    make_run(folder)
    make_run(folder, name="s")


def _damaged(folder: Path) -> None:
    make_run(folder)
    path = folder / "offline-run-1-r" / "run-r.wandb"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(bytes(data))


def _table(folder: Path, text: str) -> None:
    make_run(folder)
    (folder / "offline-run-1-r" / "files" / "media" / "t.json").write_text(text)


def _rows(rows: str) -> str:
    return f'{{"columns": ["q", "v"], "data": [{rows}]}}'


def _deep(folder: Path) -> None:
    """Write a run with a key of 5,000 parts."""
    from wandb.proto.wandb_internal_pb2 import Record

    record = Record()
    record.run.run_id = "r"
    record.run.config.update.add(nested_key=["a"] * 5_000, value_json="1")
    (folder / "run-r.wandb").write_bytes(run_file(record))


class _Garbage:
    """What has a right checksum and is no record."""

    def SerializeToString(self) -> bytes:
        return b"\xff" * 20


KEYS = ("--arm", "arm", "--seed", "seed")
SUMMARY = ("--measure", "l=loss")
SCORES = ("--table", "t", "--unit", "q", "--dataset", "d", "--condition", "plain", "--scores", "{dir}/s.csv")
COLUMN = ("--measure", "m=v")


def _row(name: str, words: str, *more: str, make: object = make_run, path: str = "{dir}") -> BadInput:
    return BadInput(name, ("analysis.import_wandb", path, *more), (words,), make)  # type: ignore[arg-type]


BAD_INPUTS = [
    _row("no such path", "{dir}/none: no run of W&B there", *KEYS, *SUMMARY, path="{dir}/none"),
    _row(
        "another file",
        "run-x.wandb: no run file of W&B (it does not begin with :W&B)",
        *KEYS,
        *SUMMARY,
        make=written("run-x.wandb", b"something else entirely"),
    ),
    _row("a damaged record", "run-r.wandb: no run file of W&B (byte 7: damaged)", *KEYS, *SUMMARY, make=_damaged),
    _row("a key of 5,000 parts", "run-r.wandb: no run file of W&B (nested too deeply)", *KEYS, *SUMMARY, make=_deep),
    _row(
        "a record that is none",
        "run-x.wandb: no run file of W&B (Error parsing message",
        *KEYS,
        *SUMMARY,
        make=written("run-x.wandb", run_file(_Garbage())),
    ),
    _row(
        "a file of a run that wrote nothing",
        "run-x.wandb: no run is in it; it was killed",
        *KEYS,
        *SUMMARY,
        make=written("run-x.wandb", run_file()),
    ),
    _row("an unknown key of the arm", "its configuration has no 'model'", "--arm", "model", "--seed", "seed", *SUMMARY),
    _row("one arm and seed twice", "are both arm 'a', seed 0; choose runs of one --group", *KEYS, *SUMMARY, make=_two),
    _row("a group that is not there", "no run has group 'g'; groups are none", *KEYS, *SUMMARY, "--group", "g"),
    _row("an unknown key of the summary", "has no 'acc'; numbers there: 'loss'", *KEYS, "--measure", "m=acc"),
    _row(
        "a value that is no number",
        "loss is NaN, which is no finite number",
        *KEYS,
        *SUMMARY,
        make=lambda folder: make_run(folder, loss="NaN"),
    ),
    _row(
        "a value beyond all floats",
        "run-r.wandb): loss is 1000000",
        *KEYS,
        *SUMMARY,
        make=lambda folder: make_run(folder, loss=str(10**400)),
    ),
    _row("a measure without a key", "--measure 'm' must be NAME=KEY", *KEYS, "--measure", "m"),
    _row("a measure twice", "--measure l is there twice", *KEYS, *SUMMARY, *SUMMARY),
    _row("an unknown baseline", "--baseline 'b' is no arm here; arms are a", *KEYS, *SUMMARY, "--baseline", "b"),
    _row("half of a table", "--unit is missing; --table, --unit", *KEYS, *SUMMARY, "--table", "t"),
    _row("a table that no run logged", "logged no table 'u'; its tables: 't'", *KEYS, *COLUMN, *SCORES, "--table", "u"),
    _row("an unknown column", "t.json: no column 'w'; columns are 'q', 'v'", *KEYS, "--measure", "m=w", *SCORES),
    _row(
        "a table outside of the run",
        "names a table outside of its folder ('../../secret.json')",
        *KEYS,
        *COLUMN,
        *SCORES,
        make=lambda folder: make_run(folder, table="../../secret.json"),
    ),
    _row(
        "a table with NUL in its path",
        "run-r.wandb: no run file of W&B (embedded null",
        *KEYS,
        *COLUMN,
        *SCORES,
        make=lambda folder: make_run(folder, table="media/\0.json"),
    ),
    *(
        _row(
            f"a table: {name}",
            f"t.json{words}",
            *KEYS,
            *COLUMN,
            *SCORES,
            make=lambda folder, text=text: _table(folder, text),  # type: ignore[misc]
        )
        for name, words, text in (
            ("a unit that is null", ", row 2: q is null, which names no unit", _rows('["x", 1], [null, 1]')),
            ("a unit that is blank", ', row 1: q is " ", which names no unit', _rows('[" ", 1]')),
            ("a unit that is a list", ", row 1: q is [1], which names no unit", _rows("[[1], 1]")),
            ("a unit that is no whole number", ", row 1: q is 1.5, which names no unit", _rows("[1.5, 1]")),
            ("units 1 and 1.0", ": q '1' is there twice", _rows("[1, 1], [1.0, 1]")),
            ("a value beyond all floats", f": q 'x': v is {str(10**400)[:57]}..., no", _rows(f'["x", {10**400}]')),
            ("two columns of one name", ": 2 columns are named 'v'", '{"columns": ["q", "v", "v"], "data": []}'),
        )
    ),
    _row(
        "no table of W&B", "t.json: no table of W&B", *KEYS, *COLUMN, *SCORES, make=lambda folder: _table(folder, "[]")
    ),
    _row(
        "a unit twice",
        "q 'x' is there twice",
        *KEYS,
        *COLUMN,
        *SCORES,
        make=lambda folder: _table(folder, '{"columns": ["q", "v"], "data": [["x", 1], ["x", 1]]}'),
    ),
    _row(
        "a text for a score",
        "q 'x': v is \"high\", no finite number",
        *KEYS,
        *COLUMN,
        *SCORES,
        make=lambda folder: _table(folder, '{"columns": ["q", "v"], "data": [["x", "high"]]}'),
    ),
    _row(
        "a path and a project", "give either the path of offline runs, or --online", *KEYS, *SUMMARY, "--online", "a/b"
    ),
    BadInput("no path", ("analysis.import_wandb", *KEYS, *SUMMARY), ("give either the path",)),
    BadInput("no project", ("analysis.import_wandb", "--online", "a", *KEYS, *SUMMARY), ("must be ENTITY/PROJECT",)),
]
