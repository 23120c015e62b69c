"""Records of published training sets, one at a time: JSON lines, gzipped JSON lines, Parquet, or a set on the hub.

Nothing is held but the record in hand (Parquet: the row group in hand), so a set of any size is read in the same
memory. Every record knows its place, so that whatever is wrong in it can be told with file and line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ablate import reading
from ablate.records import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
"""Names of the files that are read."""

_BATCH = 256
"""Records of a Parquet row group that are turned into Python values at once."""


class Record(NamedTuple):
    """One record and where it stands; numbers start at 1."""

    values: dict[str, Any]
    file: str
    number: int
    """Line of a file of JSON lines; row of a row group; row of a set on the hub."""
    row_group: int | None = None
    unit: str = "line"

    @property
    def place(self) -> str:
        """Where the record stands, for an error text."""
        group = "" if self.row_group is None else f"row group {self.row_group}, "
        return f"{self.file}, {group}{self.unit} {self.number}"

    def error(self, problem: str) -> UserError:
        """Return the error that tells this problem and its place."""
        return UserError(f"{self.place}: {problem}")


class Records(Protocol):
    """Where records come from; every pass gives the same records in the same order."""

    @property
    def revision(self) -> str:
        """What ids hold for the content."""

    def records(self, fields: Sequence[str]) -> Iterator[Record]:
        """Yield all records with, at least, those of these fields that they have."""


class LocalFiles:
    """One file, or all files of a folder in the order of their names (.jsonl, .jsonl.gz or .parquet; one kind only).

    Raises UserError when there is no such file, and, while reading, with file and line for a broken one.
    """

    def __init__(self, path: str) -> None:
        place = Path(path)
        if place.is_dir():
            self._files = sorted(file for file in place.iterdir() if file.name.endswith(SUFFIXES))
        elif place.is_file() and place.name.endswith(SUFFIXES):
            self._files = [place]
        else:
            self._files = []
        if not self._files:
            raise UserError(
                f"source.path={path!r} is neither a file nor a folder of files that end in {', '.join(SUFFIXES)}; "
                f"give one that is"
            )
        kinds = sorted({next(suffix for suffix in SUFFIXES if file.name.endswith(suffix)) for file in self._files})
        if len(kinds) > 1:
            raise UserError(
                f"source.path={path!r} holds files of {len(kinds)} kinds ({', '.join(kinds)}), perhaps the same "
                f"records twice; leave one kind in the folder"
            )

    @cached_property
    def revision(self) -> str:
        """SHA-256 over names and bytes of the files; reads them once."""
        hashed = hashlib.sha256()
        for file in self._files:
            reading.check_file(file)
            hashed.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            with open(file, "rb") as stream:
                while block := stream.read(1 << 20):
                    hashed.update(block)
        return hashed.hexdigest()

    def records(self, fields: Sequence[str]) -> Iterator[Record]:
        """Yield the records of all files, in order; of Parquet files only these fields are read."""
        for file in self._files:
            if file.suffix == ".parquet":
                yield from _parquet_records(file, fields)
            else:
                yield from _json_records(file)


class HubSet:
    """A data set on the Hugging Face hub, streamed with `datasets`, pinned to a commit of its repository.

    Only data files are read, never code of the repository. Raises UserError when `revision` is not a commit or the
    package `datasets` is not installed; and, while reading, when the set cannot be had.
    """

    def __init__(self, repo: str, *, revision: str | None, subset: str | None, split: str) -> None:
        if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise UserError(
                f"source.revision={revision!r} does not pin {repo!r}: a branch or tag can move; give the 40 hex digits "
                f"of a commit (on the hub: Files, History)"
            )
        self._repo, self._commit, self._subset, self._split = repo, revision, subset, split

    @property
    def revision(self) -> str:
        """Repository, commit, subset and split."""
        return f"{self._repo}@{self._commit}:{self._subset or 'default'}:{self._split}"

    def records(self, fields: Sequence[str]) -> Iterator[Record]:
        """Yield the records of the split, in the order of its files."""
        try:
            import datasets
        except ModuleNotFoundError as error:
            raise UserError(
                f'{self._repo!r} is read with the package datasets, which is not installed: pip install -e ".[hub]"'
            ) from error
        try:
            rows = datasets.load_dataset(
                self._repo, self._subset, split=self._split, revision=self._commit, streaming=True
            )
            if rows.column_names:
                rows = rows.select_columns([name for name in fields if name in rows.column_names])
            for number, values in enumerate(rows, start=1):
                yield Record(values, f"{self._repo}@{self._commit[:12]}", number, unit="row")
        except UserError:
            raise
        except (OSError, ValueError) as error:
            told = " ".join(str(error).split())
            raise UserError(
                f"source.repo={self._repo!r} at {self._commit} cannot be read ({type(error).__name__}: {told[:200]}); "
                f"check repository, commit, subset, split and the network, or give local files in source.path"
            ) from error


def _json_records(file: Path) -> Iterator[Record]:
    """Yield the records of a file of JSON lines; empty lines are passed over."""
    for number, line in reading.lines(file):
        yield Record(reading.json_object(line, reading.at(file, number)), str(file), number)


def _parquet_records(file: Path, fields: Sequence[str]) -> Iterator[Record]:
    """Yield the records of a Parquet file, row group by row group; only these columns are read."""
    import pyarrow.parquet

    name = str(file)
    reading.check_file(file)
    with reading.faults(f"{name}: not a readable Parquet file", "fetch or write the file again"):
        with pyarrow.parquet.ParquetFile(file) as table:
            columns = [field for field in fields if field in table.schema_arrow.names]
            for group in range(table.num_row_groups):
                number = 0
                batches = table.iter_batches(_BATCH, row_groups=[group], columns=columns, use_threads=False)
                for batch in batches:
                    for values in batch.to_pylist():
                        number += 1
                        yield Record(values, name, number, group + 1, "row")
