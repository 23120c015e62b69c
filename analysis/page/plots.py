"""Plots of arms: a pair of measures, gains over doses, losses over steps, and the differences of all units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from ablate.tables import number
from analysis.page.drawing import Drawing, Scale, series, shortened, tick
from analysis.page.record import interval, signed

WIDE, HIGH = 544, 380
LEFT, RIGHT, TOP, BOTTOM = 66.0, 532.0, 16.0, 318.0
LABELS = 392.0
"""Where the names of arms begin, in plots that have them at their right."""
BARS = 240
"""Most bars of the plot of units: more units share one, which then stands at their mean."""


class Point(NamedTuple):
    """An arm in a plane of two measures."""

    name: str
    seeds: tuple[tuple[float, float], ...]
    """Both measures in every seed, the one across first."""
    blind: float | None = None
    """The measure across of the same ranker where it ignores instructions, so that the one upwards is 0; None where it
    was not measured."""


def _axes(drawing: Drawing, across: Scale, up: Scale, names: tuple[str, str], right: float = RIGHT) -> None:
    for value in across.ticks(6):
        drawing.line((across(value), TOP), (across(value), BOTTOM), "grid")
        drawing.text(across(value), BOTTOM + 18, tick(value), "soft", anchor="middle", size=12)
    for value in up.ticks(6):
        drawing.line((LEFT, up(value)), (right, up(value)), "grid")
        drawing.text(LEFT - 8, up(value) + 4, tick(value), "soft", anchor="end", size=12)
    drawing.line((LEFT, BOTTOM), (right, BOTTOM), "axis")
    drawing.text((LEFT + right) / 2, BOTTOM + 40, shortened(names[0], 70), "soft", anchor="middle", size=12)
    drawing.turned(12, (TOP + BOTTOM) / 2, shortened(names[1], 52))


def _apart(wanted: Sequence[float], least: float = 15.0) -> list[float]:
    """Return heights of labels, as near to the wanted ones as leaves this room between neighbours."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    placed = list(wanted)
    for before, after in zip(order, order[1:], strict=False):
        placed[after] = max(placed[after], placed[before] + least)
    if order:
        placed[order[-1]] = min(placed[order[-1]], BOTTOM - 4)
    for after, before in zip(order[::-1], order[-2::-1], strict=False):
        placed[before] = min(placed[before], placed[after] - least)
    return placed


def pair_of_measures(points: Sequence[Point], names: tuple[str, str], title: str, *, lost: float | None = None) -> str:
    """Return arms in a plane of two measures; left of `lost` more of the one across is lost than the margin."""
    drawing = Drawing(title, f"Across {names[0]}, upwards {names[1]}; large points are means, small ones seeds.")
    values = [value for point in points for value in point.seeds]
    blind = [point.blind for point in points if point.blind is not None]
    across = Scale([x for x, _ in values] + blind + ([] if lost is None else [lost]), LEFT, LABELS - 14)
    up = Scale([y for _, y in values] + [0.0] * bool(blind), BOTTOM, TOP)
    if lost is not None and across(lost) > LEFT:
        drawing.box(LEFT, TOP, across(lost) - LEFT, BOTTOM - TOP, "band")
    _axes(drawing, across, up, names, LABELS - 14)
    if lost is not None and across(lost) > LEFT:
        drawing.line((across(lost), TOP), (across(lost), BOTTOM), "edge")
    if up.low < 0 < up.high:
        drawing.line((LEFT, up(0)), (LABELS - 14, up(0)), "zero")
    middles = [(across(fmean(x for x, _ in p.seeds)), up(fmean(y for _, y in p.seeds))) for p in points]
    heights = _apart([y + 4 for _, y in middles])
    for place, (point, (x, y), height) in enumerate(zip(points, middles, heights, strict=True)):
        mark = f"mark-{series(place)}"
        mean = tuple(fmean(values) for values in zip(*point.seeds, strict=True))
        with drawing.named(f"{point.name}: {names[0]} {number(mean[0])}, {names[1]} {number(mean[1])}"):
            for seed in point.seeds:
                drawing.dot(across(seed[0]), up(seed[1]), 2.4, f"haze-{series(place)}")
            drawing.line((x, y), (LABELS - 4, height - 4), f"thin-{series(place)}")
            drawing.dot(x, y, 6, mark)
            if point.blind is not None:
                drawing.dot(across(point.blind), up(0), 5, f"ring-{series(place)}")
            drawing.text(LABELS, height, shortened(point.name, 21), mark, size=12)
    return drawing.svg(WIDE, HIGH)


class Dose(NamedTuple):
    """The gain of an arm at a dose, with its interval."""

    arm: str
    dose: float
    gain: float
    ends: tuple[float, float]


def dose_plot(doses: Sequence[Dose], line: tuple[float, float], names: tuple[str, str], title: str) -> str:
    """Return gains over doses with the line c + E (1 - 2 dose); `line` is (c, E)."""
    constant, polarity = line
    drawing = Drawing(title, f"Across {names[0]}, upwards {names[1]}, with intervals and the fitted line.")
    across = Scale([0.0, *(dose.dose for dose in doses)], LEFT, RIGHT - 20)
    fitted = [(dose, constant + polarity * (1 - 2 * dose)) for dose in (0.0, max(dose.dose for dose in doses))]
    ends = [end for dose in doses for end in dose.ends]
    up = Scale([0.0, *ends, *(gain for _, gain in fitted)], BOTTOM, TOP)
    _axes(drawing, across, up, names)
    drawing.line((LEFT, up(0)), (RIGHT, up(0)), "zero")
    drawing.curve([(across(dose), up(gain)) for dose, gain in fitted], "curve-0")
    for dose in doses:
        with drawing.named(f"{dose.arm}: {names[0]} {dose.dose:g}, gain {signed(dose.gain)} {interval(dose.ends)}"):
            x = across(dose.dose)
            drawing.line((x, up(dose.ends[0])), (x, up(dose.ends[1])), "whisker")
            drawing.diamond(x, up(dose.gain), 6, "tone-none")
    return drawing.svg(WIDE, HIGH)


def loss_plot(arms: Mapping[str, Sequence[Sequence[tuple[float, float]]]], names: tuple[str, str], title: str) -> str:
    """Return losses over steps: thin lines are seeds, the thick one is their mean where all have the step."""
    drawing = Drawing(title, "Thin lines are seeds, thick ones their means.")
    points = [point for curves in arms.values() for curve in curves for point in curve]
    across = Scale([x for x, _ in points], LEFT, LABELS - 14, margin=0.02)
    up = Scale([y for _, y in points], BOTTOM, TOP)
    _axes(drawing, across, up, names, LABELS - 14)
    means = {}
    for arm, curves in arms.items():
        by_step: dict[float, list[float]] = {}
        for step, loss in (point for curve in curves for point in curve):
            by_step.setdefault(step, []).append(loss)
        means[arm] = [(step, fmean(losses)) for step, losses in sorted(by_step.items()) if len(losses) == len(curves)]
    heights = _apart([up(mean[-1][1]) + 4 for mean in means.values()])
    for place, ((arm, mean), height) in enumerate(zip(means.items(), heights, strict=True)):
        with drawing.named(f"{arm}: from {number(mean[0][1])} to {number(mean[-1][1])}"):
            for curve in arms[arm]:
                drawing.curve([(across(x), up(y)) for x, y in curve], f"thin-{series(place)}")
            drawing.curve([(across(x), up(y)) for x, y in mean], f"curve-{series(place)}")
            drawing.line((across(mean[-1][0]), up(mean[-1][1])), (LABELS - 4, height - 4), f"thin-{series(place)}")
            drawing.text(LABELS, height, shortened(arm, 21), f"mark-{series(place)}", size=12)
    return drawing.svg(WIDE, HIGH)


def units_plot(differences: Sequence[float], title: str, axis: str) -> str:
    """Return the differences of all units, the largest first: whether few or many of them carry a contrast."""
    drawing = Drawing(title, "Every unit's difference, from the largest to the smallest.")
    ordered = sorted(differences, reverse=True)
    size = -(-len(ordered) // BARS)
    bars = [fmean(ordered[start : start + size]) for start in range(0, len(ordered), size)]
    high, bottom = 190, 150.0
    up = Scale([0.0, *bars], bottom, 14.0)
    wide = (RIGHT - LEFT) / len(bars)
    for value in up.ticks(4):
        drawing.line((LEFT, up(value)), (RIGHT, up(value)), "grid")
        drawing.text(LEFT - 8, up(value) + 4, tick(value), "soft", anchor="end", size=12)
    for place, value in enumerate(bars):
        top = min(up(value), up(0))
        tone = "mark-0" if value > 0 else "mark-1"
        drawing.box(LEFT + wide * place, top, wide * (0.9 if wide > 3 else 1), abs(up(value) - up(0)), tone)
    drawing.line((LEFT, up(0)), (RIGHT, up(0)), "zero")
    drawing.text((LEFT + RIGHT) / 2, high - 16, axis, "soft", anchor="middle", size=12)
    return drawing.svg(WIDE, high)
