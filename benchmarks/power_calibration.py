"""Calibration of power: how often the crossed test finds the difference that it is predicted to find with power .80.

    python -m benchmarks.power_calibration --draws 8000

Scores are unit + arm × unit + seed + seed × unit effects, as in `benchmarks.calibration`. For every setting the
smallest difference with predicted power .80 is added to one arm, and the share of draws in which the test finds it is
counted. The promise is .78 to .82; it counts as broken when a share lies 3 Monte-Carlo errors outside of that. The
noncentral t at the expected degrees of freedom stands beside it: what would be predicted without the integration.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np
from scipy import stats

from ablate.cli.command import output_file, write_text
from ablate.tables import Column, Table, to_markdown
from analysis.stats.crossed import crossed
from analysis.stats.power import Parts, outlook, smallest_detectable, two_arms
from benchmarks.calibration import CONTRAST, SD_ARM_UNIT, SD_REST, Case, draw

SETTINGS = ((3, 50), (3, 1000), (5, 20), (5, 144), (5, 1000), (10, 144))
SEED_SDS = (0.005, 0.01, 0.02)
LOWEST, HIGHEST = 0.78, 0.82


def predicted_by_noncentral_t(parts: Parts, difference: float, num_seeds: int, num_units: int) -> float:
    """Return the power of a two-arm contrast when the df were known: Satterthwaite's at the expected mean squares."""
    resid = parts.resid / (num_seeds * num_units)
    seed, query = parts.seed / num_seeds, parts.query / num_units
    seed_df, query_df = 2 * (num_seeds - 1), num_units - 1
    den = (seed + resid) ** 2 / seed_df + resid**2 / (seed_df * query_df) + (query + resid) ** 2 / query_df
    square = seed + query + resid
    df = max(square**2 / den, min(num_seeds - 1, query_df))
    critical, shift = stats.t.ppf(0.975, df), difference / math.sqrt(square)
    return float(stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift))


def found_share(case: Case, difference: float, draws: int, seed: int = 0) -> float:
    """Return the share of draws in which the crossed test at .05 finds a difference between B and A."""
    generator = np.random.Generator(np.random.PCG64([seed, *str(case).encode()]))
    hits = 0
    for _ in range(draws):
        scores = draw(case, generator)
        scores["B"] = scores["B"] + difference
        hits += crossed(scores, CONTRAST).p < 0.05
    return hits / draws


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return 1 where the promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=8000, help="draws of each setting (default 8000)")
    parser.add_argument("--out", type=output_file, metavar="F", help="also write the table to this file")
    args = parser.parse_args(argv)
    room = 3 * math.sqrt(0.8 * 0.2 / args.draws)
    lines, broken = [], False
    for num_seeds, num_units in SETTINGS:
        for sd in SEED_SDS:
            case = Case((num_seeds, num_seeds), num_units, (sd, sd))
            parts = two_arms(sd, math.sqrt(2) * SD_ARM_UNIT, SD_REST)
            difference = smallest_detectable(outlook(parts, num_seeds, num_units))
            found = found_share(case, difference, args.draws)
            known = predicted_by_noncentral_t(parts, difference, num_seeds, num_units)
            kept = LOWEST - room <= found <= HIGHEST + room
            broken |= not kept
            lines.append((str(case), f"{difference:.4f}", f"{found:.3f}", f"{known:.3f}", "kept" if kept else "BROKEN"))
    columns = (Column("setting"), Column("difference", "r"), Column("found", "r"))
    columns += (Column("noncentral t says", "r"), Column("promise"))
    note = f"{args.draws:,} draws of each setting; promise {LOWEST:g} to {HIGHEST:g}, and 3 Monte-Carlo errors."
    text = to_markdown(Table("Differences with a predicted power of .80", columns, tuple(lines), (note,)))
    print(text, end="")
    if args.out:
        write_text(args.out, text)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
