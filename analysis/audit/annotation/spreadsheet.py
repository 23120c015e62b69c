"""Sheets as CSV for a spreadsheet, and back: every answer checked, no text of an item taken for a formula."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ablate.reading import at, check_file, faults
from ablate.records import UserError
from ablate.tables import text_of_cell, to_csv
from analysis.audit.sample_folder import SampleFolder
from analysis.audit.sampling import QUESTION_COLUMNS, Answer, Sheet, sheet

COLUMNS = tuple(field.name for field in dataclasses.fields(Sheet))
ANSWER_WORDS: Mapping[str, Answer] = {
    "yes": True,
    "no": False,
    "cannot tell": None,
    "true": True,
    "false": False,
    "unknown": None,
}
"""What may stand in a cell, in any case; spreadsheets make TRUE and FALSE of some."""
_WRITTEN: Mapping[Answer, str] = {True: "yes", False: "no", None: "cannot tell"}
_BOM = "\ufeff"
"""By this mark spreadsheets know that the file is in UTF-8."""


def sheets_csv(sample: SampleFolder, answers: Mapping[str, Sequence[Answer]]) -> str:
    """Return all sheets of a sample as CSV, in the order in which raters see them, with the answers there are."""
    rows = []
    for name, item in sample.sheets.items():
        row = dataclasses.asdict(sheet(item, sample.seed))
        if name in answers:
            row |= {column: _WRITTEN[given] for column, given in zip(QUESTION_COLUMNS, answers[name], strict=True)}
        rows.append(row)
    return _BOM + to_csv(COLUMNS, rows)


def read_sheets(path: Path, sample: SampleFolder) -> dict[str, tuple[Answer, ...]]:
    """Return sheet -> its four answers of a filled spreadsheet; sheets without any answer are left out.

    Raises UserError, with the line, for what is no sheet of the sample, a sheet that is there twice or answered in
    part, and a cell that is none of `ANSWER_WORDS`; and when nothing is answered.
    """
    answers: dict[str, tuple[Answer, ...]] = {}
    lines_of: dict[str, int] = {}
    for number, row in _rows(path):
        where, name = at(path, number), text_of_cell(row["item_id"] or "").strip()
        if name not in sample.sheets:
            raise UserError(f"{where}: {name!r} is no sheet of {sample.path}; leave the column item_id as it was")
        first = lines_of.setdefault(name, number)
        if first != number:
            raise UserError(f"{where}: sheet {name} is in line {first} too; keep one")
        words = {column: " ".join((row[column] or "").lower().split()) for column in QUESTION_COLUMNS}
        if not any(words.values()):
            continue
        for column, word in words.items():
            if word not in ANSWER_WORDS:
                raise UserError(f"{where}: {column} is {word!r}; allowed: {', '.join(ANSWER_WORDS)}, or all four empty")
        answers[name] = tuple(ANSWER_WORDS[word] for word in words.values())
    if not answers:
        raise UserError(f"{path}: none of {len(sample.sheets):,} sheets is answered; write yes, no or cannot tell")
    return answers


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a spreadsheet with the lines that they end on."""
    check_file(path)
    with faults(f"{path}: not a readable CSV file", "save the sheets as CSV in UTF-8"):
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            header = "".join(rows.fieldnames or ())
            other = next((name for sign, name in ((";", "semicolons"), ("\t", "tabs")) if sign in header), None)
            remedy = f"it seems to be separated by {other}: save it with commas" if other else "keep the header"
            raise UserError(
                f"{path}: the column {missing[0]} is missing; the columns are {', '.join(COLUMNS)}; {remedy}"
            )
        return [(rows.line_num, row) for row in rows]
