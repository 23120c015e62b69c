"""Published rows in local files that `ablate.run` builds a mix from."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_inputs import BadInput, nothing, written

PASSAGE = {"docid": "d1", "title": "", "text": "a text"}
ROW = {
    "query_id": "q1",
    "query": "a question",
    "positive_passages": [PASSAGE],
    "negative_passages": [{"docid": "d2", "title": "", "text": "another text"}],
}
GOOD = json.dumps(ROW)


def _rows(
    name: str,
    words: str,
    make: Callable[[Path], object],
    file: str = "rows.jsonl",
    kind: str = "tevatron",
    *overrides: str,
) -> BadInput:
    command = (
        "ablate.run",
        "+experiment=query_only",
        "model=tiny",
        f"source={kind}",
        "source.path={dir}/" + file,
        "+evaluation_source=world",
        "evaluation.sets=[test]",
        "tracker=none",
        "runtime.until=mix",
        "budget.limit=1",
        "budget.negatives_per_group=1",
        "runtime.results={dir}/results",
    )
    return BadInput(name, (*command, *overrides), (words,), make)


def _line(name: str, words: str, line: str | bytes) -> BadInput:
    content = f"{GOOD}\n".encode() + (line if isinstance(line, bytes) else line.encode()) + b"\n"
    return _rows(name, f"{{dir}}/rows.jsonl, line 2: {words}", written("rows.jsonl", content))


def _field(name: str, words: str, **fields: Any) -> BadInput:
    return _line(name, words, json.dumps({**ROW, **fields}))


def _judged(name: str, value: object, shown: str) -> BadInput:
    row = {
        "query_id": "q1",
        "query": "a b",
        "only_query": "a",
        "only_instruction": "b",
        "has_instruction": True,
        "positive_passages": [{**PASSAGE, "followir_score": value}],
        "new_negatives": [],
        "negative_passages": [],
    }
    return _rows(
        name,
        f"positive_passages: the followir_score of passage 'd1' is {shown}; it is a probability, from 0 to 1",
        written("rows.jsonl", json.dumps(row)),
        "rows.jsonl",
        "promptriever",
    )


def _lists(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({**{name: [ROW[name]] for name in ROW}, "query": [["a", "b"]]}), folder / "rows.parquet")


def _torn(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: [ROW[name]] for name in ROW}), folder / "rows.parquet")
    whole = (folder / "rows.parquet").read_bytes()
    (folder / "rows.parquet").write_bytes(whole[:4] + b"\xff" * 60 + whole[64:])


def _two_kinds(folder: Path) -> None:
    written("rows/a.jsonl", GOOD)(folder)
    written("rows/a.jsonl.gz", gzip.compress(GOOD.encode()))(folder)


def _folder(folder: Path) -> None:
    (folder / "rows" / "a.jsonl").mkdir(parents=True)


def _pipe(folder: Path) -> None:
    (folder / "rows").mkdir()
    os.mkfifo(folder / "rows" / "a.jsonl")


BAD_INPUTS = [
    _rows("no file", "is neither a file nor a folder of files that end in .jsonl, .jsonl.gz, .parquet", nothing),
    _rows("a folder in the place of a file", "rows/a.jsonl is a folder; give a file", _folder, "rows"),
    _rows("a pipe in a folder", "rows/a.jsonl is a pipe or a device, not a file", _pipe, "rows"),
    _rows(
        "two kinds of files",
        "holds files of 2 kinds (.jsonl, .jsonl.gz), perhaps the same records twice",
        _two_kinds,
        "rows",
    ),
    _rows(
        "a Parquet file that is none",
        "rows.parquet: not a readable Parquet file",
        written("rows.parquet", b"PAR1 and nothing else"),
        "rows.parquet",
    ),
    _rows("a Parquet file with damaged pages", "rows.parquet: not a readable Parquet file", _torn, "rows.parquet"),
    _rows(
        "a Parquet column of lists",
        "rows.parquet, row group 1, row 1: field 'query' is of type list instead of text",
        _lists,
        "rows.parquet",
    ),
    _rows(
        "half a gzip file",
        "rows.jsonl.gz, after line 0: broken gzip",
        written("rows.jsonl.gz", gzip.compress(GOOD.encode())[:30]),
        "rows.jsonl.gz",
    ),
    _rows(
        "a gzip bomb",
        "rows.jsonl.gz, line 8: unpacks to more than 100 times its",
        written("rows.jsonl.gz", gzip.compress((b" " * (2**20) + b"\n") * 9)),
        "rows.jsonl.gz",
    ),
    _rows("rows in UTF-16", "rows.jsonl: UTF-16", written("rows.jsonl", GOOD.encode("utf-16"))),
    _line("a torn line", "not JSON (Unterminated string", GOOD[:-9]),
    _line("a list", "a list instead of a JSON object", "[]"),
    _line("a NUL byte", "a NUL byte", GOOD.encode() + b"\0"),
    _line("depth without end", "JSON that cannot be read (nested too deeply)", '{"query_id": ' + "[" * 100_000),
    _line("an integer of 5,000 digits", "JSON that cannot be read (Exceeds the limit", f'{{"query_id": {"9" * 5000}}}'),
    _line("half of a character in a docid", r"\ud83d is half of a surrogate pair", GOOD.replace('"d1"', r'"\ud83d"')),
    _line("half of a character in a text", r"\udc00 is half of a surrogate pair", GOOD.replace("a text", r"\uDC00")),
    _line("no query", "no field 'query'; it has", json.dumps({"query_id": "q", "positive_passages": []})),
    _field("a query that is null", "field 'query' is null instead of text", query=None),
    _field("a query that is blank", "field 'query' is empty; give its text or leave the record out", query=" "),
    _field(
        "a query id that is a float",
        "field 'query_id' is of type float instead of text or a whole number",
        query_id=1.5,
    ),
    _field(
        "passages that are a text",
        "field 'positive_passages' is of type str instead of a list of passages",
        positive_passages="d1",
    ),
    _field(
        "a passage that is an id",
        "positive_passages[0] is of type str instead of a passage with docid and text",
        positive_passages=["d1"],
    ),
    _field("a passage without text", "positive_passages[0]: its text is missing", positive_passages=[{"docid": "d1"}]),
    _field(
        "a passage whose text is a number",
        "positive_passages[0]: its text is of type int",
        positive_passages=[{"docid": "d1", "text": 5}],
    ),
    _field("a passage without docid", "positive_passages[0]: its docid is missing", positive_passages=[{"text": "a"}]),
    _field(
        "a title that is a list",
        "positive_passages[0]: its title is of type list instead of text",
        positive_passages=[{**PASSAGE, "title": ["a"]}],
    ),
    _judged("a judge's score of seven", 7, "7"),
    _judged("a judge's score that is no number", float("nan"), "nan"),
    _judged("a judge's score without end", float("inf"), "inf"),
]
