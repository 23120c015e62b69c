"""Power of the crossed contrast test: smallest detectable differences, and the cheapest design for a wanted one.

    python -m analysis.power --pilot scores.csv --contrast "B - A" --measure nDCG@10 --cost-seed 1800 --cost-query .02

Power is that of the crossed test with the three variance parts of a pilot (or stated ones) scaled to S seeds and Q
units, over all that its standard error and degrees of freedom may be estimated as (`analysis.stats.power`).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ablate.cli.command import command, finish, output_folder, write_text
from ablate.records import UserError
from ablate.tables import curves_svg, number, to_markdown
from analysis.stats.asked import targets
from analysis.stats.crossed import Options
from analysis.stats.matrix import Cell, ScoreTable, listed, read_scores
from analysis.stats.populations import plural_kind
from analysis.stats.power import (
    GRID_SEEDS,
    GRID_UNITS,
    MOST_UNITS,
    Costs,
    Design,
    Parts,
    as_table,
    cheapest,
    detectable_table,
    outlook,
    pilot_parts,
    smallest_detectable,
    two_arms,
)
from analysis.stats.weights import parse_contrast


def _pilot_cell(table: ScoreTable) -> Cell:
    if len(table.cells) > 1:
        raise UserError(
            f"{table.source} has {len(table.cells)} combinations of data set, condition, direction and measure: "
            f"{listed([str(cell) for cell in table.cells])}; name one with --dataset, --condition, --direction and "
            "--measure"
        )
    return next(iter(table.cells))


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.power",
        "Smallest detectable difference by seeds × units, and the cheapest design for a wanted one.",
        "--sd-seed .01 --sd-query .10 --sd-resid .10 --difference .02 --cost-seed 1800 --cost-query .02 --out power",
    )
    pilot = made.add_argument_group("variance parts from a pilot")
    pilot.add_argument("--pilot", metavar="F", help="scores file of a pilot (see python -m analysis.significance)")
    pilot.add_argument("--contrast", metavar="C", help='contrast of the pilot, for example "B - A"')
    for name in ("dataset", "condition", "direction", "measure"):
        pilot.add_argument(f"--{name}", metavar="X", help=f"{name} of the pilot, where there are several")
    pilot.add_argument("--deterministic", metavar="A", action="append", default=[], help="arm without randomness")
    pilot.add_argument("--matched", action="store_true", help="seeds are paired across arms")
    pilot.add_argument(
        "--clusters", metavar="KIND", help="plan over new clusters of this kind: rows, and --units, count clusters"
    )
    stated = made.add_argument_group("stated variance parts of B - A")
    stated.add_argument("--sd-seed", type=float, metavar="SD", help="seed main effect within an arm")
    stated.add_argument("--sd-query", type=float, metavar="SD", help="over units, of the difference of the two arms")
    stated.add_argument("--sd-resid", type=float, metavar="SD", help="seed × unit within an arm")
    made.add_argument("--seeds", type=int, nargs="+", default=list(GRID_SEEDS), metavar="S", help="table columns")
    made.add_argument("--units", type=int, nargs="+", default=list(GRID_UNITS), metavar="Q", help="table rows")
    made.add_argument("--alpha", type=float, default=0.05, help="level of the two-sided test (default .05)")
    made.add_argument("--power", type=float, default=0.8, help="wanted power (default .8)")
    made.add_argument("--difference", type=float, metavar="D", help="wanted difference: look for the cheapest design")
    made.add_argument("--cost-seed", type=float, metavar="C", help="cost of training one run")
    made.add_argument("--cost-query", type=float, default=0.0, metavar="C", help="cost of one unit in one run")
    made.add_argument("--cost-label", type=float, default=0.0, metavar="C", help="cost of making one unit, paid once")
    made.add_argument("--arms", type=int, default=2, metavar="N", help="arms of the study, for its cost (default 2)")
    made.add_argument("--least-seeds", type=int, default=5, metavar="S", help="fewest seeds per arm (default 5)")
    made.add_argument("--most-seeds", type=int, default=50, metavar="S", help="most seeds per arm (default 50)")
    made.add_argument("--most-units", type=int, default=MOST_UNITS, metavar="Q", help="units that can be had")
    made.add_argument(
        "--out", type=output_folder, metavar="DIR", help="write power.md, power.json and power.svg into this folder"
    )
    return made


class _Planned(NamedTuple):
    """What a study is planned by."""

    parts: Parts
    things: str
    """What it has many of: units, or clusters with as many units as those of the pilot."""


def _parts(args: argparse.Namespace) -> _Planned:
    stated = (args.sd_seed, args.sd_query, args.sd_resid)
    if args.pilot is None:
        if None in stated:
            raise UserError("give --pilot with --contrast, or all of --sd-seed, --sd-query and --sd-resid")
        if args.clusters is not None:
            raise UserError("--clusters are those of a pilot; give --pilot, or state parts for one cluster")
        return _Planned(two_arms(*stated), "units")
    if stated != (None, None, None) or args.contrast is None:
        raise UserError("--pilot needs --contrast and excludes --sd-seed, --sd-query and --sd-resid")
    table = read_scores(args.pilot)
    chosen = {
        f"{name}s": [getattr(args, name)]
        for name in ("dataset", "condition", "direction", "measure")
        if getattr(args, name) is not None
    }
    table = table.select(**chosen)
    scores = table.cells[_pilot_cell(table)]
    options = Options(deterministic=frozenset(args.deterministic), matched=args.matched, alpha=args.alpha)
    weights = parse_contrast(args.contrast, table.arms)
    if args.clusters is None:
        return _Planned(pilot_parts(scores.values_SQ, weights, options), "units")
    (target,) = targets(table, "none")
    (group,) = target.groupings([args.clusters])[args.clusters]
    sizes = np.bincount(group.clusters)
    uneven = f"coefficient of variation {sizes.std() / sizes.mean():.2g}, as in the pilot"
    things = f"{plural_kind(args.clusters)} (of {sizes.mean():.3g} units on average, {uneven})"
    return _Planned(pilot_parts(scores.values_SQ, weights, options, group), things)


def _run(args: argparse.Namespace) -> None:
    parts, things = _parts(args)
    detectable = detectable_table(parts, args.seeds, args.units, args.alpha, args.power)
    text = to_markdown(as_table(detectable, parts, args.alpha, args.power, things))
    best = None
    if args.difference is not None:
        if args.cost_seed is None:
            raise UserError("--difference looks for the cheapest design and needs --cost-seed")
        costs = Costs(args.cost_seed, args.cost_query, args.cost_label)
        bounds = (args.least_seeds, args.most_seeds)
        best = cheapest(
            parts,
            args.difference,
            costs,
            num_arms=args.arms,
            alpha=args.alpha,
            wanted=args.power,
            seeds=bounds,
            most_units=args.most_units,
        )
        text += (
            f"\nCheapest design for a difference of {args.difference:g}: {best.num_seeds} seeds in each of {args.arms} "
            f"arms × {best.num_units} {things}; it finds {number(best.detects)} and costs {best.cost:,.4g}.\n"
        )
    print(text, end="")
    if args.out:
        _write(args.out, text, _Planned(parts, things), detectable, best, args)


def _write(
    folder: Path,
    text: str,
    planned: _Planned,
    detectable: Mapping[tuple[int, int], float],
    best: Design | None,
    args: argparse.Namespace,
) -> None:
    write_text(folder / "power.md", text)
    record = {
        "alpha": args.alpha,
        "power": args.power,
        "parts": vars(planned.parts),
        "things": planned.things,
        "detectable": [{"seeds": s, "units": q, "difference": value} for (s, q), value in detectable.items()],
        "cheapest": vars(best) if best else None,
    }
    write_text(folder / "power.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    units = sorted({round(2 ** (step / 4)) for step in range(int(4 * math.log2(20)), int(4 * math.log2(20_000)) + 1)})
    seeds = sorted(set(args.seeds))
    lines = {
        f"{s} seeds": [(q, smallest_detectable(outlook(planned.parts, s, q, args.alpha), args.power)) for q in units]
        for s in seeds
    }
    title = f"Smallest difference found with power {args.power:g} at alpha {args.alpha:g}"
    over = "units (queries, topics, groups)" if args.clusters is None else planned.things
    svg = curves_svg(lines, title, over, "difference")
    write_text(folder / "power.svg", svg)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
