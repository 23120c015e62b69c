"""How often the audit's interval covers the truth, over simulated corpora, judges and human samples.

    python -m benchmarks.audit_coverage                       # every cell of the table, 4,000 audits each
    python -m benchmarks.audit_coverage --audits 400 --truths .90 .97 --labels 150

A cell: a corpus of 2,560 items, four of a query; a share of right items that differs by kind of constraint and comes
in clusters of a query (intra-class correlation ICC); a judge that saw all of it; a human sample drawn with the same
chance in every stratum (kind x verdict), at least five each. Promises: coverage at least .94, each one-sided miss at
most .035, a false ABOVE at a truth of .90 at most .05, all within three Monte-Carlo errors.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from ablate.cli.command import output_file, write_text
from ablate.randomness import stream
from analysis.audit.two_phase import estimate_share, merge_strata

QUERIES, PER_QUERY = 640, 4
ITEMS = QUERIES * PER_QUERY
JUDGES = ("good", "useless", "worse than chance", "drifting")
TRUTHS, LABELS, CELLS, ICCS = (0.85, 0.90, 0.95, 0.97, 0.99), (100, 150, 300), (2, 16), (0.0, 0.2, 0.5)
THRESHOLD = 0.90


def corpus(random: np.random.Generator, truth: float, kinds: Any, icc: float) -> Any:
    """Return (N,) booleans: which items are right. Queries differ by a beta distribution with this ICC."""
    offsets = np.linspace(-1, 1, int(kinds.max()) + 1) * min(0.5 * (1 - truth), 0.04)
    share = (truth + offsets - offsets[kinds].mean())[kinds]
    if icc == 0:
        return random.random(ITEMS) < share
    # With probability icc an item takes the draw that its query shares, else one of its own: correlation icc inside.
    common = np.repeat(random.random(QUERIES), PER_QUERY)
    return np.where(random.random(ITEMS) < math.sqrt(icc), common, random.random(ITEMS)) < share


def verdicts(random: np.random.Generator, right: Any, kinds: Any, judge: str) -> Any:
    """Return (N,) booleans: what the judge says."""
    drift = np.linspace(-1, 1, int(kinds.max()) + 1)[kinds]
    sensitivity, specificity = {
        "good": (0.96, 0.80),
        "useless": (0.90, 0.10),
        "worse than chance": (0.70, 0.10),
        "drifting": (0.90 + 0.08 * drift, 0.60 + 0.30 * drift),
    }[judge]
    return random.random(ITEMS) < np.where(right, sensitivity, 1 - np.asarray(specificity))


def sample(random: np.random.Generator, cells: Any, size: int) -> Any:
    """Return (N,) booleans: a stratified sample in proportion, with at least five of every stratum while they last."""
    counts = np.bincount(cells)
    wanted = np.minimum(np.maximum(np.floor(size * counts / len(cells)), min(5, size // len(counts))), counts).astype(
        int
    )
    chosen = np.zeros(len(cells), dtype=bool)
    for cell in np.flatnonzero(counts):
        chosen[random.choice(np.flatnonzero(cells == cell), wanted[cell], replace=False)] = True
    free = np.flatnonzero(~chosen)
    if (left := size - int(chosen.sum())) > 0:
        chosen[random.choice(free, left, replace=False)] = True
    return chosen


def audit(random: np.random.Generator, truth: float, size: int, num_kinds: int, icc: float, judge: str) -> Any:
    """Return (truth of this corpus, low, high, low and high of the human sample alone) of one simulated audit."""
    clusters = np.repeat(np.arange(QUERIES), PER_QUERY)
    kinds = np.arange(ITEMS) % num_kinds
    right = corpus(random, truth, kinds, icc)
    says = verdicts(random, right, kinds, judge).astype(int)
    chosen = sample(random, kinds * 2 + says, size)
    answers = np.where(chosen, right, np.nan)
    estimate = estimate_share(answers, merge_strata(kinds, says, chosen), clusters, says)
    alone = estimate_share(answers, merge_strata(kinds, np.zeros_like(says), chosen), clusters)
    return right.mean(), estimate.low, estimate.high, alone.low, alone.high


def cell_row(cell: tuple[float, int, int, float, str], audits: int, seed: int) -> dict[str, Any]:
    """Return coverage, misses on each side, widths and false verdicts of one cell."""
    random = stream(seed, "audit", *map(str, cell))
    drawn = np.array([audit(random, *cell) for _ in range(audits)])
    truth, low, high, alone_low, alone_high = drawn.T
    row = dict(zip(("truth", "labels", "kinds", "icc", "judge"), cell, strict=True))
    return {
        **row,
        "coverage": float(np.mean((low <= truth) & (truth <= high))),
        "truth_below": float(np.mean(truth < low)),
        "truth_above": float(np.mean(truth > high)),
        "width": float(np.mean(high - low)),
        "width_human_only": float(np.mean(alone_high - alone_low)),
        "false_above": float(np.mean((low > THRESHOLD) & (truth <= THRESHOLD))),
    }


def broken(row: dict[str, Any], audits: int) -> list[str]:
    """Return which promises a row breaks by more than three Monte-Carlo errors."""

    def limit(promise: float) -> float:
        return 3 * math.sqrt(promise * (1 - promise) / audits)

    misses = [f"coverage {row['coverage']:.3f}"] if row["coverage"] < 0.94 - limit(0.94) else []
    for side in ("truth_below", "truth_above"):
        misses += [f"{side} {row[side]:.3f}"] if row[side] > 0.035 + limit(0.035) else []
    return misses + ([f"false ABOVE {row['false_above']:.3f}"] if row["false_above"] > 0.05 + limit(0.05) else [])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cells and print them; exit code 1 when a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_coverage", description=__doc__)
    parser.add_argument("--audits", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--truths", type=float, nargs="+", default=TRUTHS)
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS)
    parser.add_argument("--kinds", type=int, nargs="+", default=CELLS)
    parser.add_argument("--iccs", type=float, nargs="+", default=ICCS)
    parser.add_argument("--judges", nargs="+", choices=JUDGES, default=JUDGES)
    parser.add_argument("--json", type=output_file, metavar="OUT")
    args = parser.parse_args(argv)
    cells = list(itertools.product(args.truths, args.labels, args.kinds, args.iccs, args.judges))
    started = time.monotonic()
    rows = [cell_row(cell, args.audits, args.seed) for cell in tqdm(cells, disable=not sys.stderr.isatty())]
    print(
        "| truth | labels | kinds | ICC | judge | coverage | truth below | above | width | human only | false ABOVE | |"
    )
    print("|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|---|")
    for row in rows:
        print("|", " | ".join(_cells(row, args.audits)), "|")
    bad = [row for row in rows if broken(row, args.audits)]
    seconds = time.monotonic() - started
    print(f"\n{len(rows)} cells of {args.audits} audits in {seconds:.0f} s; promises broken in {len(bad)}")
    if args.json:
        write_text(args.json, json.dumps(rows, indent=1) + "\n")
    return 1 if bad else 0


def _cells(row: dict[str, Any], audits: int) -> Iterator[str]:
    for name, value in row.items():
        yield f"{value:.3f}" if isinstance(value, float) and name not in ("truth", "icc") else f"{value}"
    yield "BROKEN: " + ", ".join(broken(row, audits)) if broken(row, audits) else "kept"


if __name__ == "__main__":
    sys.exit(main())
