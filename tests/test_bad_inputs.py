"""Every row of the tables in `tests/bad_inputs`: one line, exit code 2, nothing half-written."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from bad_inputs import BadInput, tables
from conftest import ROOT, override

TABLES = tables()
ROWS = [pytest.param(row, id=f"{table}: {row.name}") for table, rows in TABLES.items() for row in rows]


@contextlib.contextmanager
def _as_a_process(arguments: Sequence[str]) -> Iterator[None]:
    """Give Hydra, which keeps state for the life of a process, a fresh one with these arguments."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.singleton import Singleton

    before, state = sys.argv, Singleton.get_state()
    sys.argv = ["ablate", *arguments]
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        sys.argv = before
        GlobalHydra.instance().clear()
        Singleton.set_state(state)


def call(command: Sequence[str]) -> tuple[int, str]:
    """Run a command in this process and return its exit code and what it said on standard error."""
    module, *arguments = command
    main = importlib.import_module(module).main
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), _as_a_process(arguments):
        try:
            code = main() if module == "ablate.run" else main(arguments)
        except SystemExit as end:
            code = end.code
    return int(code or 0), errors.getvalue()


TAKES_OVERRIDES = ("ablate.run", "ablate.check", "ablate.world_checks")


def given(word: str, folder: Path, *, is_hydras: bool) -> str:
    """Return a word of a command with the folder of the test in it; as an override it is quoted, for any folder."""
    key, _, value = word.partition("=")
    if is_hydras and value.startswith("{dir}"):
        return override(key, value.replace("{dir}", str(folder)))
    return word.replace("{dir}", str(folder))


@pytest.mark.parametrize("row", ROWS)
def test_a_bad_input_is_refused_in_one_line(row: BadInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    row.make(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    module, *words = row.command
    code, said = call([module, *(given(word, tmp_path, is_hydras=module in TAKES_OVERRIDES) for word in words)])
    lines = said.strip().splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: "), said
    for words in row.words:
        assert words.replace("{dir}", str(tmp_path)) in lines[0]
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert not [path for path in left if "locks" not in path.parts and "failures" not in path.parts], left


def test_the_tables_hold_rows_of_distinct_names() -> None:
    for rows in TABLES.values():
        assert len({row.name for row in rows}) == len(rows) > 0
