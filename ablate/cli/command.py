"""The frame of every command of this package: a parser with an example, one line and exit code 2 for mistakes."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ablate.records import UserError
from ablate.terminal import one_line, safe_output

if TYPE_CHECKING:
    import pyarrow as pa


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one line like all others, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help shows what is allowed")


def command(module: str, description: str, example: str) -> argparse.ArgumentParser:
    """Return the parser of `python -m MODULE`; `example` is what may follow that."""
    return _Parser(prog=f"python -m {module}", description=description, epilog=f"example: python -m {module} {example}")


def seed(text: str) -> int:
    """Return a seed of the command line: a whole number from 0, in ASCII digits; raises as argparse expects it."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; it must be a whole number such as 0")
    return int(text)


def output_place(text: str) -> Path:
    """Return a path that an option names for what is going to be made, checked when the command line is read.

    What lies there already is not looked at, and folders on the way are made when it is written. Raises, as argparse
    expects it, where nothing can be written.
    """
    path = Path(text)
    way = path.absolute()
    there = next(place for place in (way, *way.parents) if place.is_dir() or (place != way and place.exists()))
    try:
        with tempfile.TemporaryFile(dir=there):
            return path
    except OSError as error:
        why = f"{there}: {error.strerror}"
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written ({why}); name another place") from None


def output_file(text: str) -> Path:
    """Return a file that an option names to be written, checked before any work as `output_place` does.

    Raises, as argparse expects it, for what is there and no plain file too.
    """
    path = Path(text)
    if not text or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; name a file")
    if path.exists() and not path.is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is no plain file, and would be replaced by one; name another")
    return output_place(text)


def output_folder(text: str) -> Path:
    """Return a folder that an option names to be written into, checked before any work as `output_place` does.

    Raises, as argparse expects it, for what is there and no folder too.
    """
    if not text or (Path(text).exists() and not Path(text).is_dir()):
        raise argparse.ArgumentTypeError(f"{text!r} is no folder; name one, or a new one")
    return output_place(text)


def add_study(made: argparse.ArgumentParser, *, needed: bool = True) -> None:
    """Add the study and the folder of results."""
    made.add_argument(
        "study", nargs=None if needed else "?", help="name under which the runs were made (runtime.study)"
    )
    made.add_argument("--results", default="results", help="folder of results (default: results)")


def finish(
    run: Callable[[argparse.Namespace], int | None],
    made: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    *,
    intermixed: bool = False,
) -> int:
    """Run a command and return its exit code; a user's mistake is one line on standard error and exit code 2.

    `intermixed`: options may stand between the words.
    """
    code = None
    try:
        with safe_output():
            code = run(made.parse_intermixed_args(argv) if intermixed else made.parse_args(argv))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (UserError, OSError) as error:
        from ablate.store.files import disk_trouble

        message = disk_trouble(error) if isinstance(error, OSError) else None
        print(f"error: {one_line(message or error)}", file=sys.stderr)
        return 2
    return code or 0


def write_text(path: Path, text: str) -> None:
    """Write a file with its folder, by rename, and say so on standard error."""
    from ablate.store.files import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    print(f"written: {path}", file=sys.stderr)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file with its folder, by rename, and say so on standard error."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    print(f"written: {path}", file=sys.stderr)
