"""The forest plot: every contrast with its interval, a dot for each seed, and the margin that was declared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analysis.page.drawing import Drawing, Scale, minus, shortened, tick
from analysis.page.record import interval, signed


class ForestRow(NamedTuple):
    """One contrast in one place."""

    label: str
    beside: str
    """Written small under the label."""
    estimate: float
    ends: tuple[float, float] | None
    """None where there is no interval; `without_ends` says why."""
    seeds: tuple[float, ...]
    """The difference of every seed that all arms have."""
    margin: float | None
    verdict: str
    tone: str
    """A verdict's tone, or `none`."""
    without_ends: str = "one seed: no interval"
    """What stands in the place of an interval that there is not."""


class Panel(NamedTuple):
    """Rows over one axis."""

    title: str
    place: str
    axis: str
    rows: tuple[ForestRow, ...]


WIDE, NARROW = 960, 380


def forest(panels: Sequence[Panel], title: str, *, narrow: bool = False) -> str:
    """Return the plot as SVG: names left and numbers right of the intervals, or (narrow) above and below them."""
    drawing = Drawing(title, "Points are estimates, lines their intervals, small dots single seeds.")
    top = 6.0
    for panel in panels:
        top = _panel(drawing, panel, top, narrow)
    return drawing.svg(NARROW if narrow else WIDE, top)


def _panel(drawing: Drawing, panel: Panel, top: float, narrow: bool) -> float:
    """Draw a panel from here on and return where it ends."""
    left, right = (8.0, NARROW - 8.0) if narrow else (262.0, 596.0)
    step, head = (66.0, top + 36) if narrow else (38.0, top + 18)
    ends = [end for row in panel.rows for end in (row.ends or ())]
    seeds = [value for row in panel.rows for value in row.seeds]
    margins = [side * row.margin for row in panel.rows if row.margin is not None for side in (-1, 1)]
    scale = Scale([0.0, *ends, *seeds, *margins, *(row.estimate for row in panel.rows)], left, right)
    if narrow:
        drawing.text(0, top + 18, shortened(panel.title, 44), bold=True, size=14)
        drawing.text(0, top + 35, shortened(panel.place, 54), "soft", size=12)
    else:
        drawing.text(0, head, f"{panel.title} on {panel.place}", bold=True, size=14)
    first = head + 16
    last = first + step * len(panel.rows)
    zones = [(first + step * place, first + step * (place + 1)) for place in range(len(panel.rows))]
    if narrow:  # names and numbers stand over and under the marks, so lines leave them their room
        zones = [(above + 20, below - 22) for above, below in zones]
    for row, (above, below) in zip(panel.rows, zones, strict=True):
        if row.margin is not None:
            drawing.box(
                scale(-row.margin), above + 2, scale(row.margin) - scale(-row.margin), below - above - 4, "band"
            )
    for value in scale.ticks(4 if narrow else 6):
        for above, below in zones:
            drawing.line((scale(value), above), (scale(value), below), "grid")
        drawing.text(scale(value), last + 16, tick(value), "soft", anchor="middle", size=12)
    for row, (above, below) in zip(panel.rows, zones, strict=True):
        for side in (-1, 1) if row.margin is not None else ():
            x = scale(side * (row.margin or 0.0))
            drawing.line((x, above + 2), (x, below - 2), "edge")
        drawing.line((scale(0), above), (scale(0), below), "zero")
    drawing.line((left, last), (right, last), "axis")
    for place, row in enumerate(panel.rows):
        with drawing.named(_words(row, panel)):
            _row(drawing, row, scale, first + step * place, narrow)
    drawing.text((left + right) / 2, last + 33, panel.axis, "soft", anchor="middle", size=12)
    return last + 52


def _words(row: ForestRow, panel: Panel) -> str:
    ends = f" {interval(row.ends)}" if row.ends else ", no interval"
    said = f" {row.verdict}." if row.verdict else ""
    seeds = f" Seeds: {', '.join(map(signed, row.seeds))}." if row.seeds else ""
    return f"{row.label}: {row.beside}. {panel.title}: {signed(row.estimate)}{ends}.{said}{seeds}"


def _row(drawing: Drawing, row: ForestRow, scale: Scale, top: float, narrow: bool) -> None:
    middle = top + (30 if narrow else 19)
    is_verdict = row.tone != "none"
    said = f"tone-{row.tone}" if is_verdict else "soft"
    if narrow:
        drawing.text(0, top + 14, shortened(row.label, 34 if row.verdict else 50), size=13)
        drawing.text(NARROW, top + 14, row.verdict, said, anchor="end", size=12, bold=is_verdict)
    else:
        both = bool(row.beside)
        drawing.text(0, middle + (-3 if both else 5), shortened(row.label, 34), size=13)
        drawing.text(0, middle + 12, shortened(row.beside, 40) if both else "", "soft", size=11)
    for value in row.seeds:
        drawing.dot(scale(value), middle + 8.5, 2.4, "seed")
    if row.ends:
        low, high = (min(max(end, scale.low), scale.high) for end in row.ends)
        drawing.line((scale(low), middle), (scale(high), middle), "whisker")
    drawing.diamond(scale(row.estimate), middle, 6, f"tone-{row.tone}")
    estimate = minus(f"{row.estimate:+.4f}")
    ends = minus(f"[{row.ends[0]:.4f}, {row.ends[1]:.4f}]") if row.ends else row.without_ends
    if narrow:
        drawing.text(0, top + 55, f"{estimate}  {ends}", "soft", size=12)
    else:
        drawing.text(614, middle + 5, estimate, bold=True)
        drawing.text(684, middle + 5, ends, "soft", size=12)
        drawing.text(WIDE, middle + 5, row.verdict, said, anchor="end", size=11.5, bold=is_verdict)
