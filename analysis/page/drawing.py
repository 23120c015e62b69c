"""SVG by hand: marks with classes that a page colours for light and dark, and with the light colours as attributes.

A drawing stands in the page, where the rules of `styles` take over, and as a file, where its attributes count.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ablate.tables import escape_html

FONT = "ui-sans-serif, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"


class _Style(NamedTuple):
    """Attribute -> colours in light and in dark, and what is the same in both."""

    attribute: str
    light: str
    dark: str
    more: str = ""


_SERIES = (
    ("#1f6fb2", "#6cb4f0"),
    ("#c2532d", "#f0936d"),
    ("#2c7a4b", "#6fcf97"),
    ("#7a4fa3", "#c09be6"),
    ("#a66a00", "#e5b04f"),
    ("#0f7785", "#5cc8d6"),
    ("#a8326e", "#f08cbd"),
    ("#5a6472", "#aab4c2"),
)
STYLES: dict[str, _Style] = {
    "paper": _Style("fill", "#ffffff", "transparent"),
    "ink": _Style("fill", "#18202b", "#eef1f5"),
    "soft": _Style("fill", "#566171", "#a9b3c0"),
    "band": _Style("fill", "#eef2f7", "#202936"),
    "grid": _Style("stroke", "#e2e7ed", "#2b3543", 'stroke-width="1"'),
    "axis": _Style("stroke", "#98a3b1", "#6b7686", 'stroke-width="1"'),
    "zero": _Style("stroke", "#566171", "#a9b3c0", 'stroke-width="1.25"'),
    "edge": _Style("stroke", "#98a3b1", "#6b7686", 'stroke-width="1" stroke-dasharray="3 3"'),
    "whisker": _Style("stroke", "#18202b", "#eef1f5", 'stroke-width="2.25" stroke-linecap="round"'),
    "seed": _Style("fill", "#7d8898", "#8d98a8", 'fill-opacity="0.6"'),
    **{
        f"tone-{tone}": _Style("fill", light, dark)
        for tone, light, dark in (
            ("good", "#1a7f45", "#5fd08c"),
            ("bad", "#b3261e", "#ff8f85"),
            ("open", "#4b5768", "#b4bfcd"),
            ("warn", "#9a5b00", "#efb35a"),
            ("none", "#1f6fb2", "#6cb4f0"),
        )
    },
    **{f"mark-{place}": _Style("fill", *colours) for place, colours in enumerate(_SERIES)},
    **{
        f"curve-{place}": _Style("stroke", *colours, 'fill="none" stroke-width="2" stroke-linejoin="round"')
        for place, colours in enumerate(_SERIES)
    },
    **{f"haze-{place}": _Style("fill", *colours, 'fill-opacity="0.4"') for place, colours in enumerate(_SERIES)},
    **{
        f"ring-{place}": _Style("stroke", *colours, 'fill="none" stroke-width="1.75"')
        for place, colours in enumerate(_SERIES)
    },
    **{
        f"thin-{place}": _Style("stroke", *colours, 'fill="none" stroke-width="1" stroke-opacity="0.3"')
        for place, colours in enumerate(_SERIES)
    },
}
"""Class of a mark -> its colours."""


def styles() -> str:
    """Return the rules that colour the drawings of a page for light and dark."""
    return "\n".join(
        f"svg .{name}{{{style.attribute}:light-dark({style.light},{style.dark})}}" for name, style in STYLES.items()
    )


def series(place: int) -> int:
    """Return the number of the colours of an arm, from its place."""
    return place % len(_SERIES)


def minus(text: str) -> str:
    """Return a text whose numbers have the sign of subtraction; names, dates and ranges keep their hyphens."""
    return re.sub(r"(?<![\w.\-])-(?=\.?\d)", "−", text)


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many letters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


class Drawing:
    """A picture that grows mark by mark; coordinates are in CSS pixels, y downwards, rounded to a tenth."""

    def __init__(self, title: str, description: str) -> None:
        self._title, self._description = title, description
        self._marks: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        words: str,
        style: str = "ink",
        *,
        anchor: str = "start",
        size: float = 13,
        bold: bool = False,
    ) -> None:
        """Write a text; `anchor` is start, middle or end."""
        weight = ' font-weight="600"' if bold else ""
        self._marks.append(
            f'<text x="{_at(x)}" y="{_at(y)}" font-size="{size:g}" text-anchor="{anchor}"{weight}{_style(style)}>'
            f"{escape_html(words)}</text>"
        )

    def turned(self, x: float, y: float, words: str) -> None:
        """Write the name of an upright axis."""
        self._marks.append(
            f'<text x="{_at(x)}" y="{_at(y)}" font-size="12" text-anchor="middle"{_style("soft")} '
            f'transform="rotate(-90 {_at(x)} {_at(y)})">{escape_html(words)}</text>'
        )

    def line(self, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
        """Draw a straight line."""
        (x1, y1), (x2, y2) = start, end
        self._marks.append(f'<line x1="{_at(x1)}" y1="{_at(y1)}" x2="{_at(x2)}" y2="{_at(y2)}"{_style(style)}/>')

    def curve(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """Draw a line through points."""
        path = " ".join(f"{_at(x)},{_at(y)}" for x, y in points)
        self._marks.append(f'<polyline points="{path}"{_style(style)}/>')

    def box(self, x: float, y: float, wide: float, high: float, style: str) -> None:
        """Draw a filled rectangle."""
        self._marks.append(
            f'<rect x="{_at(x)}" y="{_at(y)}" width="{_at(max(wide, 0))}" height="{_at(max(high, 0))}"{_style(style)}/>'
        )

    def dot(self, x: float, y: float, radius: float, style: str) -> None:
        """Draw a disc."""
        self._marks.append(f'<circle cx="{_at(x)}" cy="{_at(y)}" r="{radius:g}"{_style(style)}/>')

    def diamond(self, x: float, y: float, radius: float, style: str) -> None:
        """Draw a square that stands on a corner."""
        corners = ((x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y))
        path = " ".join(f"{_at(a)},{_at(b)}" for a, b in corners)
        self._marks.append(f'<polygon points="{path}"{_style(style)}/>')

    @contextlib.contextmanager
    def named(self, words: str) -> Iterator[None]:
        """Group the marks made inside: the keyboard reaches them, and a reader or a pointer is told the words."""
        self._marks.append(f'<g tabindex="0" role="img"><title>{escape_html(minus(words))}</title>')
        yield
        self._marks.append("</g>")

    def svg(self, wide: float, high: float) -> str:
        """Return the picture at this size."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_at(wide)} {_at(high)}" width="{_at(wide)}" '
            f'height="{_at(high)}" font-family="{escape_html(FONT)}" role="group" '
            f'aria-label="{escape_html(f"{self._title}. {self._description}")}">\n'
            f'<title>{escape_html(self._title)}</title>\n<rect width="100%" height="100%"{_style("paper")}/>\n'
            + "\n".join(self._marks)
            + "\n</svg>\n"
        )


def _at(value: float) -> str:
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _style(name: str) -> str:
    style = STYLES[name]
    more = f" {style.more}" if style.more else ""
    return f' class="{name}" {style.attribute}="{style.light}"{more}'


class Scale:
    """A linear axis: values from low to high, placed from start to end."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, margin: float = 0.06) -> None:
        low, high = min(values), max(values)
        room = (high - low) * margin if high > low else max(abs(high), 1e-3) / 2
        self.low, self.high, self._start, self._end = low - room, high + room, start, end

    def __call__(self, value: float) -> float:
        """Return where a value is placed."""
        return self._start + (value - self.low) / (self.high - self.low) * (self._end - self._start)

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values inside: 1, 2, 2.5 or 5 times a power of ten apart."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(times * power for times in (1, 2, 2.5, 5, 10) if times * power >= rough * 0.999)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(place * step, 12) for place in range(first, last + 1)]


def tick(value: float) -> str:
    """Return the label of a tick."""
    return minus(f"{value:.6g}")
