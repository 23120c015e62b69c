"""The files that people give, read within limits: every line with its number, every fault as one error with its place.

    lines -> columns, json_object, json_objects -> grade, score, check_id

A reader catches the kind, not one error: `faults` turns whatever a parser of the standard library or of Arrow raises on
a broken file into a UserError. Nothing here waits for a pipe, nor unpacks without a limit.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import math
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ablate.records import UserError

MAX_LINE_BYTES = 10 * 2**20
"""Longest line that is read."""
MAX_UNPACKED_RATIO = 100
"""How many times larger than its file compressed content may be, where it is larger than `ALWAYS_UNPACKED`: texts take
3 to 10 times, DEFLATE reaches 1,032."""
ALWAYS_UNPACKED = 8 * 2**20
MAX_GRADE = 1_000_000
"""Largest grade, and with a minus sign the smallest: trec_eval's code keeps a table with a place for every grade."""
COMMENT = "#"
"""First character of the lines of judgments and groups that are passed over, as trec_eval 10 does."""
MAX_SCORE = 3.4028235e38
"""Largest finite float32: scores beyond it would all be equal."""

SPACE = " \t\r\v\f"
"""What separates columns and what is cut off their ends: ASCII only, as trec_eval reads; U+00A0 is part of an id."""
_COLUMN = re.compile(f"[^{SPACE}]+")
_NOT_IN_IDS = re.compile("[\x00-\x20\x7f-\x9f\ud800-\udfff]")
_GRADE = re.compile("-?[0-9]+")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_BROKEN: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    zlib.error,
    csv.Error,
)


class Digest(Protocol):
    """What the bytes that are read are added to, such as `hashlib.sha256()`."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""


def at(path: Path | str, number: int) -> str:
    """Return how the place of a line is written in every error."""
    return f"{path}, line {number}"


@contextlib.contextmanager
def faults(what: str, remedy: str) -> Iterator[None]:
    """Raise a UserError `what (reason); remedy` for whatever a parser raises within; UserErrors pass unchanged.

    `what` names the file, the line where there is one, and what it is not: `a.parquet: not a readable Parquet file`.
    """
    arrow = sys.modules.get("pyarrow")  # its errors exist only where it is loaded
    broken = _BROKEN if arrow is None else (*_BROKEN, arrow.ArrowException)
    try:
        yield
    except UserError:
        raise
    except broken as error:
        raise UserError(f"{what} ({reason_of(error)}); {remedy}") from None


def reason_of(error: BaseException) -> str:
    """Return an error of a parser in one short line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_file(path: Path | str) -> None:
    """Raise UserError for what is no regular file: nothing, a folder, or a pipe or device that would be waited for."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        packed = f"{path}.gz" if os.path.exists(f"{path}.gz") else ""
        remedy = f"unpack {packed}, which is there" if packed else "check the path"
        raise UserError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{str(path)!r} cannot be read ({reason_of(error)}); check the path") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a folder; give a file")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is a pipe or a device, not a file; write its content into a file and give that")


def lines(path: Path | str, hashed: Digest | None = None) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file that are not blank, with their numbers from 1; `.gz` is unpacked.

    A byte order mark and the carriage returns before line feeds are left out. `hashed` gets name, size and bytes of the
    file as it lies on the disk; not of a compressed one. Raises UserError for everything that is no such file: no
    UTF-8, NUL bytes, carriage returns within a line, a line beyond `MAX_LINE_BYTES`, broken or bomb-like gzip.
    """
    check_file(path)
    name, packed = str(path), str(path).endswith(".gz")
    assert not (packed and hashed is not None), "what is hashed are the bytes of a plain file"
    number = num_bytes = 0
    what = "broken gzip" if packed else "cannot be read"
    try:
        size = os.stat(path).st_size
        if hashed is not None:
            hashed.update(f"{os.path.basename(name)}\0{size}\0".encode())
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                num_bytes += len(raw)
                if hashed is not None:
                    hashed.update(raw)
                if packed and num_bytes > ALWAYS_UNPACKED and num_bytes > MAX_UNPACKED_RATIO * size:
                    raise UserError(
                        f"{at(name, number)}: unpacks to more than {MAX_UNPACKED_RATIO} times its {size:,} bytes, as "
                        f"no text does; unpack it yourself and look at it"
                    )
                if text := _text(raw, name, number):
                    yield number, text
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{name}, after line {number}: {what} ({reason_of(error)}); fetch or write the file again"
        ) from None
    if hashed is not None and num_bytes != size:
        raise UserError(f"{name} changed while it was read ({size:,} bytes, then {num_bytes:,}); start again")


def _text(raw: bytes, name: str, number: int) -> str:
    """Return the text of a line, empty for a blank one."""
    if len(raw) > MAX_LINE_BYTES:
        raise UserError(f"{at(name, number)}: longer than {MAX_LINE_BYTES:,} bytes; is it one record a line?")
    if number == 1:
        if raw.startswith(_UTF_16):
            raise UserError(f"{name}: UTF-16 (by its byte order mark); convert the file to UTF-8")
        raw = raw.removeprefix(_BOM)
    if b"\0" in raw:
        raise UserError(f"{at(name, number)}: a NUL byte; this is no text file in UTF-8")
    raw = raw.rstrip(b"\r\n")
    if b"\r" in raw:
        raise UserError(
            f"{at(name, number)}: a carriage return within the line; end lines with a line feed, or with both"
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{at(name, number)}: not UTF-8 (byte {error.start + 1}); convert the file to UTF-8") from None
    return text if text.strip(SPACE) else ""


def is_comment(text: str) -> bool:
    """Return whether a line of judgments is a comment."""
    return text.lstrip(SPACE).startswith(COMMENT)


def passed_over(path: Path | str, num_comments: int) -> str:
    """Return how comments that were left out are told."""
    return f"{path}: {num_comments:,} comment line{'' if num_comments == 1 else 's'} ({COMMENT}) passed over"


def columns(text: str) -> list[str]:
    """Return the columns of a line, separated by ASCII white space and by nothing else."""
    # str.split() is twice as fast; on ASCII it differs by U+001C to U+001F, which no id may have
    return text.split() if text.isascii() else _COLUMN.findall(text)


def tabbed(text: str) -> list[str]:
    """Return the columns of a line, separated by tabs, without ASCII white space at their ends."""
    return [column.strip(SPACE) for column in text.split("\t")]


def parse_json(
    text: str, place: str, remedy: str = "every line is one JSON object", pairs: Callable[..., Any] | None = None
) -> Any:
    """Return a JSON value; raises UserError for anything else, and for half of a surrogate pair, which is no text.

    `pairs` is called with the (name, value) pairs of every object, see `object_pairs_hook` of `json.loads`.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = place if error.lineno == 1 else at(place, error.lineno)
        raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno}); {remedy}") from None
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise UserError(
            f"{place}: {half} is half of a surrogate pair (a text cut within a character?); mend the text"
        ) from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{place}: JSON that cannot be read ({reason_of(error)}); mend the line") from None
    return value


def json_object(text: str, place: str) -> dict[str, Any]:
    """Return a JSON object; raises UserError for anything else."""
    value = parse_json(text, place)
    if not isinstance(value, dict):
        raise UserError(f"{place}: a {type(value).__name__} instead of a JSON object")
    return value


def json_objects(
    path: Path | str, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) of a JSON lines file; raises UserError for what is none, a missing and an unknown key."""
    for number, text in lines(path):
        where = at(path, number)
        values = json_object(text, where)
        missing = [name for name in required if name not in values]
        if missing:
            raise UserError(f"{where}: {missing[0]} is missing; an object here has {', '.join(required)}")
        unknown = sorted(set(values) - {*required, *optional})
        if unknown:
            raise UserError(f"{where}: {unknown[0]!r} is not known; allowed: {', '.join((*required, *optional))}")
        yield where, values


def shown(value: object) -> str:
    """Return a value of JSON as messages show it, in ASCII and at most 60 characters."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def grade(text: str) -> int:
    """Return a grade, ASCII digits with or without a minus sign; raises UserError, without a place, for others."""
    if not _GRADE.fullmatch(text):
        raise UserError(f"grade {_short(text)} is no integer; write a grade like 0 or 1, in ASCII digits")
    if len(text) > 9 or abs(int(text)) > MAX_GRADE:
        raise UserError(f"grade {_short(text)} is out of range; allowed: {-MAX_GRADE:,} to {MAX_GRADE:,}")
    return int(text)


def score(text: str) -> float:
    """Return a score as float32 can hold it, infinities included; raises UserError, without a place, for others."""
    try:
        value = float(text if text.isascii() and "_" not in text else "none")
    except ValueError:
        raise UserError(f"score {_short(text)} is no number") from None
    if math.isnan(value):
        raise UserError("the score is NaN; it must be a number")
    if abs(value) > MAX_SCORE and not math.isinf(value):
        raise UserError(f"score {text} is beyond ±3.4e38, where all scores are equal; scale the scores")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def bad_id(text: str) -> str:
    """Return what is wrong with an id, empty when it can stand in every file that is written."""
    if not text:
        return "is empty"
    match = _NOT_IN_IDS.search(text)
    if match is None:
        return ""
    if match[0] in f"{SPACE}\n":
        return "has white space, which a TREC file cannot hold"
    return f"has a control character or half of a surrogate pair (U+{ord(match[0]):04X})"


def check_id(text: str, what: str, place: str) -> None:
    """Raise UserError for an id that is empty or has ASCII white space, a control character or half of a character."""
    if problem := bad_id(text):
        raise UserError(f"{place}: {what} {text!r} {problem}; rename it")


def check_query_id(text: str, what: str, place: str) -> None:
    """Raise UserError as `check_id`, and for a query id whose judgments would read as comments."""
    check_id(text, what, place)
    if text.startswith(COMMENT):
        raise UserError(f"{place}: {what} {text!r} begins with {COMMENT}, as comments of judgments do; rename it")
