"""Tables as aligned text, Markdown, LaTeX (booktabs) and CSV, and curves as SVG: everything escaped for its format."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ablate.records import UserError
from ablate.terminal import visible

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "²": r"$^2$",
    "→": r"$\rightarrow$",
    "±": r"$\pm$",
}
FORMULA = re.compile("'*[=+\\-@\t\r]")
"""Beginning of a cell that spreadsheets take for a formula, or of one that was marked as none."""
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_COLOURS = ("#1b6ca8", "#c8553d", "#2f855a", "#6b4c9a", "#b7791f", "#4a5568", "#0f766e", "#9d174d")


class Column(NamedTuple):
    """Head of a column; `r` is for numbers."""

    name: str
    align: Literal["l", "r"] = "l"


@dataclass(frozen=True)
class Table:
    """A table of finished texts; every row has as many as there are columns."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with this many decimals, more for small ones; a dash for None."""
    if value is None:
        return "–"
    if value != 0 and abs(value) < 10.0 ** (1 - digits):
        return f"{value:.2e}"
    return f"{value:.{digits}f}"


def probability(value: float | None) -> str:
    """Return a p-value with four decimals, `<.0001` below them."""
    if value is None:
        return "–"
    return "<.0001" if value < 0.0001 else f"{value:.4f}".replace("0.", ".", 1)


def escape_markdown(text: str) -> str:
    """Return a text that Markdown (GitHub's) shows as it is, inside a table too, and that reads well unrendered."""
    flat = re.sub(r"([\\`*|~])", r"\\\1", visible(" ".join(text.split())))
    flat = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", flat)
    flat = flat.replace("](", "]\\(")
    flat = re.sub(r"&(?=#?\w+;)", "&amp;", flat)
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", flat)


def escape_latex(text: str) -> str:
    """Return a text that LaTeX shows as it is."""
    return "".join(_LATEX.get(character, character) for character in visible(" ".join(text.split())))


def escape_html(text: str) -> str:
    """Return a text that HTML and SVG show as it is, in attributes too."""
    return html.escape(visible(" ".join(text.split())), quote=True)


def to_text(table: Table) -> str:
    """Return a table as aligned lines for a terminal, two spaces between columns, with title and notes on their own.

    Nothing is escaped: what is printed passes `terminal.py`. The last line has no line feed.
    """
    lines = [tuple(column.name for column in table.columns), *table.rows]
    widths = [max(len(text) for text in texts) for texts in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            text.rjust(width) if column.align == "r" else text.ljust(width)
            for text, column, width in zip(line, table.columns, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*([table.title] if table.title else []), *aligned, *table.notes])


def to_markdown(table: Table) -> str:
    """Return a Markdown table under its title, with the notes below."""
    lines = [f"**{escape_markdown(table.title)}**", ""]
    widths = [
        max(3, *(len(escape_markdown(text)) for text in (column.name, *(row[place] for row in table.rows))))
        for place, column in enumerate(table.columns)
    ]
    lines.append(_markdown_row([column.name for column in table.columns], table.columns, widths))
    aligned = zip(table.columns, widths, strict=True)
    rules = ["-" * (width - 1) + (":" if column.align == "r" else "-") for column, width in aligned]
    lines.append("| " + " | ".join(rules) + " |")
    lines += [_markdown_row(row, table.columns, widths) for row in table.rows]
    lines += [line for note in table.notes for line in ("", escape_markdown(note))]
    return "\n".join(lines) + "\n"


def _markdown_row(texts: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    cells = []
    for text, column, width in zip(texts, columns, widths, strict=True):
        shown = escape_markdown(text)
        cells.append(shown.rjust(width) if column.align == "r" else shown.ljust(width))
    return "| " + " | ".join(cells) + " |"


def to_latex(table: Table) -> str:
    r"""Return a LaTeX `table` for the package booktabs; the notes stand in the caption's place below it."""
    head = " & ".join(escape_latex(column.name) for column in table.columns)
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{escape_latex(table.title)}}}",
        rf"\begin{{tabular}}{{{''.join(column.align for column in table.columns)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = [_latex_cell(text, column) for text, column in zip(row, table.columns, strict=True)]
        # An opening bracket after a line break would be read as its argument.
        lines.append(("{}" if cells[0].startswith("[") else "") + " & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip\footnotesize {escape_latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}", ""])


def _latex_cell(text: str, column: Column) -> str:
    shown = escape_latex(text)
    return re.sub(r"-(?=[\d.])", "$-$", shown) if column.align == "r" else shown


def to_csv(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Return CSV with a header; None is empty, numbers keep all their digits, and no text is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if row[name] is None else _cell(row[name]) for name in columns] for row in rows])
    return text.getvalue()


def _cell(value: object) -> object:
    """Return a cell that no spreadsheet computes: a text that begins like a formula gets an apostrophe before it."""
    if not isinstance(value, str) or not FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return "'" + value


def text_of_cell(cell: Any) -> Any:
    """Return the text that `to_csv` wrote as a cell; what is no text stays."""
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and FORMULA.match(cell) else cell


def curves_svg(curves: Mapping[str, Sequence[tuple[float, float]]], title: str, x_name: str, y_name: str) -> str:
    """Return an SVG of curves over logarithmic axes; points are (x, y), all above 0.

    Raises UserError for a point at or below 0.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points or min(min(point) for point in points) <= 0:
        raise UserError("a logarithmic plot needs points above 0 on both axes")
    left, top, wide, high = 70, 40, 520, 330
    xs, ys = [math.log10(x) for x, _ in points], [math.log10(y) for _, y in points]
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys) - 0.05, max(ys) + 0.05

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x_low) / ((x_high - x_low) or 1)
        up = (math.log10(y) - y_low) / (y_high - y_low)
        return left + wide * across, top + high * (1 - up)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + wide + 110} {top + high + 60}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape_html(title)}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="22" font-size="14">{escape_html(title)}</text>',
    ]
    for tick in _ticks(10**x_low, 10**x_high):
        x, _ = at(tick, 10**y_low)
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + high}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + high + 16}" text-anchor="middle">{tick:g}</text>')
    for tick in _ticks(10**y_low, 10**y_high):
        _, y = at(10**x_low, tick)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + wide}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for place, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in curve))
        x, y = at(*curve[-1])
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape_html(name)}</text>')
    middle = top + high / 2
    parts += [
        f'<text x="{left + wide / 2}" y="{top + high + 42}" text-anchor="middle">{escape_html(x_name)}</text>',
        f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">'
        f"{escape_html(y_name)}</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two numbers."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step}e{decade}") for decade in decades for step in (1, 2, 5)]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
