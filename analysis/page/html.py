"""The report as one page that asks for nothing: style, script, tables and drawings are all in it.

The policy of the page forbids every request, and every script but the one whose digest it names. Names, queries and
documents are data: the template escapes them, and what steers text (marks of direction, control characters) is shown.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from ablate.terminal import visible
from analysis.page.drawing import minus, styles
from analysis.page.record import Answer, Figure, Grid, Report, signed

_HERE = Path(__file__).parent
_LONG = 28
"""Letters from which a cell is broken into lines."""


class _Cell(NamedTuple):
    """A cell of a grid in the page."""

    text: str
    value: float | None
    """What it is sorted by, of a number."""
    numeric: bool
    long: bool


def html(report: Report) -> str:
    """Return the page of a report; the same report gives the same bytes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters |= {
        "numbers": lambda text: minus(str(text)),
        "signed": lambda value: minus(signed(value)),
        "rank": lambda value: f"{value:.0f}" if value == round(value) else f"{value:.1f}",
        "drawing": Markup,
    }
    environment.tests |= {
        "grid": lambda part: isinstance(part, Grid),
        "figure": lambda part: isinstance(part, Figure),
        "answer": lambda part: isinstance(part, Answer),
    }
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        report=report,
        cells=_cells,
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8") + styles()),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else visible(str(value))


def _cells(grid: Grid, row: tuple[Any, ...]) -> Iterator[_Cell]:
    shown = [(field, value) for field, value in zip(grid.fields, row, strict=True) if field.head]
    for (field, value), text in zip(shown, grid.texts(row), strict=True):
        first = value[0] if isinstance(value, tuple) else value  # an interval is sorted by its lower end
        is_number = isinstance(first, (int, float)) and not isinstance(first, bool)
        words = minus(text) if field.numeric else text
        yield _Cell(words, first if is_number else None, field.numeric, len(words) > _LONG)
