"""Small files of rows for tests of synthesis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def row(number: int, **more: Any) -> dict[str, Any]:
    """Return a row as synthesis writes it."""
    passages = [{"docid": f"d{number}{kind}", "title": "", "text": f"text {number} {kind}"} for kind in "phn"]
    values = {
        "row_id": f"r{number}",
        "query_id": f"q{number}",
        "query": f"query {number}",
        "instruction": f"Only it {number}",
        "reversed_instruction": "",
        "paraphrase": "",
        "positives": [f"d{number}p"],
        "hard_negatives": [f"d{number}h"],
        "instruction_negatives": [f"d{number}n"],
        "passages": passages,
        "provenance": {"instruction": {"model": "earlier"}},
    }
    return {**values, **more}


def rows_file(folder: Path, count: int, **more: Any) -> Path:
    """Write `count` rows into `rows.jsonl` of a folder."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row(number, **more)) + "\n" for number in range(count)))
    return path
