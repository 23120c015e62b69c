"""A report in files: page, Markdown, LaTeX, a CSV for every table, an SVG for every figure, and PNG and PDF of it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

from ablate.store.drafts import draft_of
from ablate.store.files import write_atomically
from ablate.tables import escape_latex, escape_markdown, to_csv, to_latex, to_markdown
from analysis.page.html import html
from analysis.page.record import Answer, Field, Figure, Grid, Report, Section, Units, signed

PAGE, MARKDOWN, LATEX = "report.html", "report.md", "report.tex"
TABLES, FIGURES = "tables", "figures"
_SCALE = 3.0
"""Pixels of a PNG for one of its drawing: sharp on a slide."""


class Written(NamedTuple):
    """What a report became."""

    page: Path
    num_tables: int
    num_figures: int
    skipped: str
    """What was not written, and why; empty where everything was."""


def write(report: Report, folder: Path) -> Written:
    """Write a report into a folder, every file by rename; of its name no text of the data is a part."""
    for inner in (folder, folder / TABLES, folder / FIGURES):
        inner.mkdir(parents=True, exist_ok=True)
    tables = {grid.key: grid_csv(grid) for grid in report.grids}
    tables |= {name: text for section in report.sections for name, text in section.tables}
    tables |= {"claims": report.claims_csv} if report.claims_csv else {}
    for name, text in tables.items():
        write_atomically(folder / TABLES / f"{name}.csv", text)
    for figure in report.figures:
        write_atomically(folder / FIGURES / f"{figure.key}.svg", figure.svg)
    skipped = _write_pictures(report.figures, folder / FIGURES)
    write_atomically(folder / MARKDOWN, markdown(report))
    write_atomically(folder / LATEX, latex(report, with_figures=not skipped))
    write_atomically(folder / PAGE, html(report))
    return Written(folder / PAGE, len(tables), len(report.figures), skipped)


def grid_csv(grid: Grid) -> str:
    """Return the columns of a grid that have a name as CSV, with all digits."""
    names = [field.name for field in grid.fields]
    records = [dict(zip(names, row, strict=True)) for row in grid.rows]
    return to_csv([name for name in names if name], records)


def _write_pictures(figures: list[Figure], folder: Path) -> str:
    """Write PNG and PDF of figures; return why not, where the package that draws them is not installed."""
    if importlib.util.find_spec("vl_convert") is None:
        return 'no PNG and PDF of the figures: they need the extra figures (pip install -e ".[figures]")'
    import vl_convert

    for figure in figures:
        _write_bytes(folder / f"{figure.key}.png", vl_convert.svg_to_png(figure.svg, scale=_SCALE))
        _write_bytes(folder / f"{figure.key}.pdf", vl_convert.svg_to_pdf(figure.svg))
    return ""


def _write_bytes(path: Path, data: bytes) -> None:
    draft = draft_of(path)
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def markdown(report: Report) -> str:
    """Return a report as Markdown, with its figures by their files."""
    say = escape_markdown
    lines = [f"# {say(report.question or f'Study {report.study}')}", "", f"Study {say(report.study)}.", ""]
    lines += [f"**{say(report.headline)}**", "", *(f"- {say(c.name)}: {say(c.found)}" for c in report.failing), ""]
    lines += [f"- {say(name)}: {say(value)}" for name, value in report.facts]
    lines += ["", *verdict_lines(report)]
    lines += _command(report.verdict_command)
    for section in report.sections:
        lines += ["", f"## {section.title}", "", *_markdown_parts(section), *_command(section.command)]
    return "\n".join(lines).rstrip() + "\n"


def verdict_lines(report: Report) -> list[str]:
    """Return the lines of Markdown on the declared claims, under a heading."""
    say = escape_markdown
    lines = ["## Verdicts", "", *(f"{say(remark)}\n" for remark in report.remarks)]
    for claim in report.verdicts:
        beside = f" (it would be {claim.would_be})" if claim.would_be else ""
        estimate = f"{claim.estimate} ({claim.evidence}). " if claim.estimate else ""
        lines += [f"### {say(claim.name)}: {claim.verdict}{beside}", "", say(claim.says), ""]
        lines += [
            f"{say(claim.contrast)}, {say(claim.place)}; expected: {say(claim.expects)}; over other {claim.over}.",
            "",
        ]
        lines += [f"Also changed: {say(claim.also_changed)}.", ""] if claim.also_changed else []
        lines += [say(f"{estimate}{claim.population} {claim.reason}"), ""]
    return [*lines, *(f"{say(note)}\n" for note in report.verdict_notes)]


def _command(words: str) -> list[str]:
    return [f"Printed by {_code(words)}", ""] if words else []


def _code(words: str) -> str:
    fence = "`" * (2 if "`" in words else 1)
    return f"{fence}{words}{fence}"


def _markdown_parts(section: Section) -> list[str]:
    lines: list[str] = []
    for part in section.parts:
        if isinstance(part, str):
            lines += [escape_markdown(part), ""]
        elif isinstance(part, Grid):
            lines += [to_markdown(part.table())]
        elif isinstance(part, Figure):
            lines += [
                f"![{escape_markdown(part.caption)}]({FIGURES}/{part.key}.svg)",
                "",
                escape_markdown(part.caption),
                "",
            ]
        elif isinstance(part, Answer):
            see = f" All of it: {part.title}." if part.see else ""
            lines += [f"### {escape_markdown(part.question)}", "", escape_markdown(f"{part.says}{see}"), ""]
            if part.head:
                listed = [f"- {escape_markdown(item)}" for item in part.items]
                lines += [f"{escape_markdown(part.head)}:", "", *listed, ""]
            for gives, words in part.commands:
                lines += [f"{escape_markdown(gives)}: {_code(words)}", ""]
        else:
            lines += [to_markdown(units_grid(part).table())]
    return lines


def units_grid(units: Units) -> Grid:
    """Return the units of a claim as a table without their documents."""
    fields = (
        Field("difference", "difference", signed, True),
        Field("unit", "unit"),
        Field("query", "query"),
        Field("instruction", "instruction"),
    )
    rows = tuple((unit.difference, unit.unit_id, unit.query, unit.instruction) for unit in units.units)
    return Grid(units.key, f"{units.title}: {len(rows)} of {units.num_units:,} {units.kind}", fields, rows)


def latex(report: Report, *, with_figures: bool) -> str:
    """Return the tables of a report, folded ones left out, and where there are PDF files its figures."""
    parts = [f"% {escape_latex(report.made_by)}"]
    for section in report.sections:
        for part in section.parts:
            if isinstance(part, Grid) and not part.folded:
                parts.append(to_latex(part.table()))
            elif isinstance(part, Figure) and with_figures:
                parts.append(
                    "% needs \\usepackage{graphicx}\n\\begin{figure}\n\\centering\n"
                    f"\\includegraphics[width=\\linewidth]{{{FIGURES}/{part.key}.pdf}}\n"
                    f"\\caption{{{escape_latex(part.caption)}}}\n\\end{{figure}}\n"
                )
    return "\n".join(parts)
