"""Type-I error of the clustered crossed test and of the plain one, when new clusters are drawn every time.

    python -m benchmarks.cluster_calibration                  # three designs x ICC 0, .2, .5 x 10, 29 clusters x seeds

Two arms with the same mean; every draw has its own clusters (with an effect on the difference of the arms), units and
seeds. Designs: `clusters` of one kind; `strata`, where clusters lie in four forms, each with a difference and a seed
effect of its own, which are fixed; `crossed`, where a second kind of cluster (12 of them) with the same share of the
variance crosses the first, and the test is over new ones of both. Promise: at most .065 where the nominal level is .05,
within three Monte-Carlo errors.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ablate.randomness import stream
from analysis.stats.clusters import over_new
from analysis.stats.crossed import crossed
from analysis.stats.grouping import Grouping

Design = Literal["clusters", "strata", "crossed"]
DESIGNS: tuple[Design, ...] = ("clusters", "strata", "crossed")
PROMISE = 0.065
WEIGHTS = {"B": 1.0, "A": -1.0}
FORM_DIFFERENCES, FORMS = np.array([0.08, -0.08, 0.04, -0.04]), 4
SECOND = 12


def type_one(
    *, clusters: int, icc: float, units: int, seeds: int, draws: int, seed: int, design: Design = "clusters"
) -> dict[str, float]:
    """Return how often each test finds a difference of equal arms at .05.

    The difference of the arms has a standard deviation of .1 over units, of whose variance clusters hold `icc` (each
    kind of two: half of it); seeds have one of .01, unit x seed of .1. Units are spread over clusters unevenly (in
    proportion to 1, 2, 3, 1, 2, 3 …).
    """
    random = stream(seed, "clusters", clusters, str(icc), units, seeds, *(() if design == "clusters" else (design,)))
    shares = np.array([1 + place % 3 for place in range(clusters)], dtype=float)
    names = np.repeat(np.arange(clusters), np.maximum(1, np.round(units * shares / shares.sum()).astype(int)))
    forms = names % FORMS if design == "strata" else None
    groupings = {"first": [Grouping.of(names, forms)]}
    others = np.arange(len(names)) % SECOND
    if design == "crossed":
        groupings["second"] = [Grouping.of(others)]
    fixed = np.zeros(len(names)) if forms is None else FORM_DIFFERENCES[forms]
    fixed = fixed - fixed.mean()
    rejections = {"clustered": 0, "plain": 0}
    for _ in range(draws):
        kinds = ((names, clusters), (others, SECOND)) if design == "crossed" else ((names, clusters),)
        effect = sum(math.sqrt(icc / len(kinds)) * random.normal(size=count)[of] for of, count in kinds)
        effect += math.sqrt(1 - icc) * random.normal(size=len(names))
        common = random.normal(0.5, 0.3, len(names))
        arms = {}
        for arm, side in (("A", -1), ("B", 1)):
            values = common + side * (0.05 * effect + 0.5 * fixed) + random.normal(0, 0.01, (seeds, 1))
            arms[arm] = values + random.normal(0, 0.1, (seeds, len(names)))
            if forms is not None:
                arms[arm] += random.normal(0, 0.01, (seeds, FORMS))[:, forms]
        rejections["clustered"] += over_new(arms, WEIGHTS, None, groupings).p <= 0.05
        rejections["plain"] += crossed(arms, WEIGHTS).p <= 0.05
    return {name: count / draws for name, count in rejections.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 when the promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster_calibration", description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--units", type=int, default=144)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--design", choices=DESIGNS, action="append", help="only this one (repeatable)")
    args = parser.parse_args(argv)
    limit = PROMISE + 3 * math.sqrt(PROMISE * (1 - PROMISE) / args.draws)
    started, broken = time.monotonic(), 0
    print("| design | clusters | ICC | seeds | clustered | plain | |\n|---|---:|---:|---:|---:|---:|---|")
    for design, clusters, icc, seeds in itertools.product(
        args.design or DESIGNS, (10, 29), (0.0, 0.2, 0.5), (3, 5, 10)
    ):
        rates = type_one(
            clusters=clusters, icc=icc, units=args.units, seeds=seeds, draws=args.draws, seed=args.seed, design=design
        )
        kept = rates["clustered"] <= limit
        broken += not kept
        shown = (f"{rates[name]:.3f}" for name in ("clustered", "plain"))
        row = (design, clusters, icc, seeds, *shown, "kept" if kept else "BROKEN")
        print("|", " | ".join(map(str, row)), "|", flush=True)
    print(f"\n{args.draws} draws a row, {time.monotonic() - started:.0f} s; promises broken: {broken}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
