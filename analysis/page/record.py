"""What a report says, as one frozen record: sections of paragraphs, tables, figures, verdicts and queries.

A section is made by one function of `analysis.page.sections` and drawn part by part, so that the page, Markdown, LaTeX
and CSV have it without a line of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ablate.tables import Column, Table, number
from analysis.study.fairness import Check

Tone = Literal["good", "bad", "open", "warn"]
"""Of a verdict: supported, refuted, undecided, and what stands against judging it at all."""


class Field(NamedTuple):
    """A column of a grid: its name for machines, its head for readers, and how a value is shown.

    Without a name it is for readers alone, without a head for machines alone.
    """

    name: str
    head: str
    show: Callable[[Any], str] = str
    numeric: bool = False


@dataclass(frozen=True)
class Grid:
    """A table with all digits: readers see each value as its field shows it, and machines the value."""

    key: str
    """Stem of its file; ASCII, and no text of the data."""
    title: str
    fields: tuple[Field, ...]
    rows: tuple[tuple[Any, ...], ...]
    """A value for every field; None is a dash for readers and empty for machines."""
    notes: tuple[str, ...] = ()
    folded: bool = False
    """Shown behind its title, which opens it."""

    def texts(self, row: tuple[Any, ...]) -> tuple[str, ...]:
        """Return the cells of a row for readers, of the columns with a head."""
        cells = zip(self.fields, row, strict=True)
        return tuple("–" if value is None else field.show(value) for field, value in cells if field.head)

    def table(self) -> Table:
        """Return the grid as a table of texts."""
        columns = tuple(Column(field.head, "r" if field.numeric else "l") for field in self.fields if field.head)
        return Table(self.title, columns, tuple(map(self.texts, self.rows)), self.notes)


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption; `narrow` is the same for a phone, where the wide one could not be read."""

    key: str
    """Stem of its files; ASCII, and no text of the data."""
    caption: str
    svg: str
    narrow: str = ""


@dataclass(frozen=True)
class Verdict:
    """A declared claim with what may be said of it."""

    name: str
    says: str
    verdict: str
    tone: Tone
    place: str
    contrast: str
    expects: str
    over: str
    """Of what other units it speaks: queries, or new clusters of the kinds that it names."""
    also_changed: str
    """What else of the mixes differs; empty where nothing is known to."""
    estimate: str
    """With its interval and the level of it; empty where nothing was tested."""
    evidence: str
    """Seeds, units, p."""
    population: str
    reason: str
    would_be: str
    """The verdict but for EXPLORATORY; empty where it is the same."""


@dataclass(frozen=True)
class MovedDocument:
    """A document of a query with its rank under every arm of a contrast."""

    doc_id: str
    label: str
    text: str
    ranks: Mapping[str, float]
    """arm -> rank, mean over seeds."""


@dataclass(frozen=True)
class PosedQuery:
    """A query as it is posed, with the documents that moved furthest."""

    posed: str
    """Condition and direction."""
    query: str
    instruction: str
    documents: tuple[MovedDocument, ...]


@dataclass(frozen=True)
class Unit:
    """A unit of a contrast with its difference, mean over seeds."""

    unit_id: str
    dataset: str
    difference: float
    query: str
    instruction: str
    posed: tuple[PosedQuery, ...] = ()


@dataclass(frozen=True)
class Units:
    """The units that decide a contrast, and how many there are in all."""

    key: str
    title: str
    arms: tuple[str, ...]
    units: tuple[Unit, ...]
    num_units: int
    kind: str
    """What the units are, in the plural."""
    command: str
    """Shows a unit named UNIT with all of its documents."""


@dataclass(frozen=True)
class Answer:
    """A question of a reader, answered in a few words, with the section that has all of it."""

    question: str
    says: str
    see: str = ""
    """Key of that section; empty where this is all."""
    title: str = ""
    """Of that section."""
    commands: tuple[tuple[str, str], ...] = ()
    """What further commands give, and the commands."""
    head: str = ""
    """Of the list; empty where there is none."""
    items: tuple[str, ...] = ()


Part = str | Grid | Figure | Units | Answer
"""What a section is made of; a text is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading of its own."""

    key: str
    title: str
    parts: tuple[Part, ...]
    command: str = ""
    """Prints the numbers of the section."""
    short: str = ""
    """Its title in the row of links, where that is another one."""
    tables: tuple[tuple[str, str], ...] = ()
    """Stem of a further file and its CSV: what is too long for the page."""


@dataclass(frozen=True)
class Report:
    """Everything that a report says."""

    study: str
    question: str
    """As it was declared; empty where nothing was."""
    facts: tuple[tuple[str, str], ...]
    """What it stands on, in a few words: name, value."""
    failing: tuple[Check, ...]
    headline: str
    """How many checks failed."""
    remarks: tuple[str, ...]
    """What must be known before any number is read."""
    verdicts: tuple[Verdict, ...]
    verdict_notes: tuple[str, ...]
    verdict_command: str
    sections: tuple[Section, ...]
    made_by: str
    """The command that makes this report."""
    claims_csv: str
    """Empty for a study without a declaration."""

    @property
    def grids(self) -> list[Grid]:
        """Every grid, in the order of the report."""
        return [part for section in self.sections for part in section.parts if isinstance(part, Grid)]

    @property
    def figures(self) -> list[Figure]:
        """Every figure, in the order of the report."""
        return [part for section in self.sections for part in section.parts if isinstance(part, Figure)]


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return ("+" if value > 0 else "") + number(value)


def interval(ends: tuple[float, float]) -> str:
    """Return an interval as it stands beside an estimate."""
    return f"[{number(ends[0])}, {number(ends[1])}]"


def count(value: float) -> str:
    """Return a number of things."""
    return f"{value:,.0f}"
