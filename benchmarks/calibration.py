"""Calibration: how often each test cries wolf when arms do not differ, by simulation.

    python -m benchmarks.calibration --draws 4000

Scores are unit + arm × unit + seed + seed × unit effects: Gaussian, or mapped through a Gaussian copula to discrete
RR@10, zero-inflated nDCG@10 and p-MRR with a spike at 0. Promises at nominal .05, for the crossed test only: type-I at
most .065 for S >= 5 seeds and .08 for S = 3; equivalence at the margin (TOST) at most .06; family-wise error after Holm
at most .06 for S >= 5. A promise counts as broken when a rate this high has probability below .001 under it (exact
binomial).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import bdtrc, ndtr, stdtr

from ablate.cli.command import output_file, write_text
from ablate.tables import Column, Table, to_markdown
from analysis.stats.corrections import holm
from analysis.stats.crossed import Options, crossed, seeds_only

Values = npt.NDArray[np.float64]
Kind = Literal["gaussian", "RR@10", "nDCG@10", "p-MRR"]

ALPHA = 0.05
SD_UNIT, SD_ARM_UNIT, SD_REST = 0.30, 0.10 / math.sqrt(2), 0.10
"""Over units; over units within an arm, so that the difference of two arms has sd .10; seed × unit."""
CONTRAST = {"B": 1.0, "A": -1.0}
RESAMPLES = 499
DRAWS_OF_OTHERS = 1000
"""The other tests fail by much: fewer draws show it."""
OTHERS = (
    "paired t",
    "Wilcoxon",
    "sign flip",
    "naive pooling",
    "unit bootstrap",
    "two-way bootstrap",
    "Welch over seeds",
)


@dataclass(frozen=True)
class Case:
    """One setting of the simulation; arms A and B are equal in law unless their seeds' spread differs."""

    seeds: tuple[int, int]
    units: int
    sd_seed: tuple[float, float]
    kind: Kind = "gaussian"
    options: Options = field(default_factory=Options)
    effect: float = 0.0
    """True difference at which power is counted; 0: not counted."""
    expected: tuple[float, float] | None = None
    """Type-I and power of the crossed test in an earlier simulation of 4,000 draws by other code."""

    @property
    def promise(self) -> float:
        """Highest type-I error that the crossed test may have."""
        trained = [n for arm, n in zip("AB", self.seeds, strict=True) if arm not in self.options.deterministic]
        return 0.065 if min(trained) >= 5 else 0.08

    def __str__(self) -> str:
        seeds = str(self.seeds[0]) if len(set(self.seeds)) == 1 else f"{self.seeds[0]} v {self.seeds[1]}"
        sds = f"{self.sd_seed[0]:g}" if len(set(self.sd_seed)) == 1 else f"{self.sd_seed[0]:g} v {self.sd_seed[1]:g}"
        extra: list[str] = [self.kind] if self.kind != "gaussian" else []
        extra += ["matched"] if self.options.matched else []
        extra += ["family variance"] if self.options.seed_variance == "family" else []
        extra += ["A deterministic"] if self.options.deterministic else []
        return f"{seeds} seeds × {self.units} units, seed sd {sds}" + (f", {', '.join(extra)}" if extra else "")


def cases() -> list[Case]:
    """Return the settings of the full run."""
    known = {
        (3, 50): (0.04, 0.033, 0.392),
        (5, 50): (0.04, 0.043, 0.575),
        (5, 104): (0.04, 0.043, 0.831),
        (3, 1000): (0.02, 0.048, 0.395),
        (5, 1000): (0.02, 0.043, 0.670),
    }
    settings = []
    for seeds, units in ((3, 50), (5, 50), (10, 50), (5, 104), (3, 1000), (5, 1000)):
        for sd in (0.0, 0.005, 0.01, 0.02):
            effect, *rates = known.get((seeds, units), (0.0,)) if sd == 0.01 else (0.0,)
            expected = (rates[0], rates[1]) if rates else None
            settings.append(Case((seeds, seeds), units, (sd, sd), effect=effect, expected=expected))
    kinds: tuple[Kind, ...] = ("RR@10", "nDCG@10", "p-MRR")
    settings += [Case((n, n), units, (0.01, 0.01), kind) for kind in kinds for n, units in ((3, 1000), (5, 104))]
    settings += [Case((n, n), 1000, (0.0, 0.02)) for n in (3, 5)]
    settings += [Case((5, 5), 1000, (0.005, 0.02)), Case((3, 10), 1000, (0.01, 0.01))]
    settings += [Case((n, n), 200, (0.01, 0.01), options=Options(matched=True)) for n in (3, 5)]
    settings += [Case((3, 3), 200, (0.01, 0.01), options=Options(seed_variance="family"))]
    settings += [Case((1, 5), 200, (0.0, 0.01), options=Options(deterministic=frozenset({"A"})))]
    return settings


def draw(case: Case, generator: np.random.Generator) -> dict[str, Values]:
    """Return the scores of A and B, (S, Q) each, without a difference between their means."""
    unit_Q = generator.normal(0, SD_UNIT, case.units)
    return {
        arm: _arm(unit_Q, num_seeds, sd, arm not in case.options.deterministic, case.kind, generator)
        for arm, num_seeds, sd in zip("AB", case.seeds, case.sd_seed, strict=True)
    }


def _arm(
    unit_Q: Values, num_seeds: int, sd: float, trained: bool, kind: Kind, generator: np.random.Generator
) -> Values:
    scores_SQ = unit_Q + generator.normal(0, SD_ARM_UNIT, len(unit_Q)) + np.zeros((num_seeds, 1))
    if trained:
        scores_SQ += generator.normal(0, sd, (num_seeds, 1)) + generator.normal(0, SD_REST, scores_SQ.shape)
    rest = SD_REST if trained else 0.0
    return to_measure(scores_SQ / math.sqrt(SD_UNIT**2 + SD_ARM_UNIT**2 + sd**2 + rest**2), scores_SQ, kind)


def to_measure(standard: Values, scores: Values, kind: Kind) -> Values:
    """Return scores with the marginal law of a measure, from standard normal ones."""
    if kind == "gaussian":
        return scores
    level = ndtr(standard)
    if kind == "RR@10":
        # nothing found in 35 %, then ranks 10 … 1 with rising shares
        bounds = 0.35 + 0.65 * np.cumsum(np.array([1, 1, 1, 2, 2, 3, 4, 7, 14, 30]) / 65)
        values: Values = np.array([0.0, *(1 / rank for rank in range(10, 0, -1))])
        return values[np.searchsorted(bounds[:-1], level) + (level > 0.35)]
    if kind == "nDCG@10":
        return np.where(level < 0.3, 0.0, (np.maximum(level - 0.3, 0) / 0.7) ** 0.8)
    falls: Values = -((np.maximum(0.25 - level, 0) / 0.25) ** 2)
    rises: Values = (np.maximum(level - 0.65, 0) / 0.35) ** 1.5
    return falls + rises


class Resampling:
    """Signs and bootstrap weights of a case, drawn once: each draw's p-value stays that of its test."""

    def __init__(self, case: Case, generator: np.random.Generator) -> None:
        size = case.units
        self.signs = generator.integers(0, 2, (RESAMPLES, size)) * 2.0 - 1
        self.unit_weights = generator.multinomial(size, np.full(size, 1 / size), RESAMPLES) / size
        self.seed_weights = {
            arm: generator.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
            for arm, n in zip("AB", case.seeds, strict=True)
        }

    def p_values(self, scores: dict[str, Values]) -> dict[str, float]:
        """Return the p of every other test; a bootstrap is 0 or 1: whether its percentile interval holds 0."""
        a_SQ, b_SQ = scores["A"], scores["B"]
        difference_Q = b_SQ.mean(axis=0) - a_SQ.mean(axis=0)
        observed = abs(difference_Q.mean())
        flips = np.abs(self.signs @ difference_Q) / len(difference_Q)
        num = min(len(a_SQ), len(b_SQ))
        p_values = {
            "paired t": _t(difference_Q),
            "Wilcoxon": float(stats.wilcoxon(difference_Q, method="approx").pvalue) if difference_Q.any() else 1.0,
            "sign flip": float((1 + (flips >= observed - 1e-12).sum()) / (1 + RESAMPLES)),
            "naive pooling": _t((b_SQ[:num] - a_SQ[:num]).ravel()),
            "unit bootstrap": _outside(self.unit_weights @ difference_Q),
        }
        means = {
            arm: ((self.unit_weights @ block.T) * self.seed_weights[arm]).sum(axis=1) for arm, block in scores.items()
        }
        p_values["two-way bootstrap"] = _outside(means["B"] - means["A"])
        return p_values


def _t(differences: Values) -> float:
    se = differences.std(ddof=1) / math.sqrt(len(differences))
    return float(2 * stdtr(len(differences) - 1, -abs(differences.mean()) / se)) if se > 0 else 1.0


def _outside(resampled: Values) -> float:
    low, high = np.quantile(resampled, [ALPHA / 2, 1 - ALPHA / 2])
    return 0.0 if low > 0 or high < 0 else 1.0


def simulate(case: Case, draws: int, seed: int = 0, draws_of_others: int = 0) -> dict[str, int]:
    """Return how often each test rejects at .05 without a difference; `power` counts the crossed test at the effect.

    The other tests see only the first draws.
    """
    generator = np.random.Generator(np.random.PCG64([seed, *str(case).encode()]))
    resampling = Resampling(case, generator) if draws_of_others else None
    counts = dict.fromkeys(["crossed", "power", *(OTHERS if draws_of_others else ())], 0)
    for place in range(draws):
        scores = draw(case, generator)
        result = crossed(scores, CONTRAST, case.options)
        counts["crossed"] += result.p < ALPHA
        if case.effect and result.df is not None:
            counts["power"] += 2 * stdtr(result.df, -abs(result.estimate + case.effect) / result.se) < ALPHA
        if resampling is not None and place < draws_of_others:
            for name, p in resampling.p_values(scores).items():
                counts[name] += p < ALPHA
            counts["Welch over seeds"] += seeds_only(scores, CONTRAST, case.options).p < ALPHA
    return {name: int(count) for name, count in counts.items()}


def simulate_equivalence(seeds: int, units: int, sd: float, margin: float, draws: int, seed: int = 0) -> dict[str, int]:
    """Return how often equivalence is claimed when the true difference is exactly the margin."""
    case = Case((seeds, seeds), units, (sd, sd))
    generator = np.random.Generator(np.random.PCG64([seed, 1, seeds, units]))
    fixed = Options(estimand="these_checkpoints")
    counts = {"crossed": 0, "paired t": 0}
    for _ in range(draws):
        scores = draw(case, generator)
        scores["B"] = scores["B"] + margin
        counts["crossed"] += crossed(scores, CONTRAST).tost(margin) < ALPHA
        counts["paired t"] += crossed(scores, CONTRAST, fixed).tost(margin) < ALPHA
    return counts


def simulate_family(seeds: int, units: int, draws: int, seed: int = 0, sd: float = 0.01) -> dict[str, int]:
    """Return how often any of 3 arms × 3 measures (correlation .7) differs from the baseline, all being equal."""
    generator = np.random.Generator(np.random.PCG64([seed, 2, seeds, units]))
    arms, measures = ("A", "B", "C", "D"), range(3)
    fixed = Options(estimand="these_checkpoints")
    counts = {"crossed + Holm": 0, "crossed, uncorrected": 0, "Holm per measure": 0, "paired t + Holm": 0}
    for _ in range(draws):
        unit_MQ = _related((units,), SD_UNIT, generator)
        scores = {
            arm: unit_MQ[:, None]
            + _related((1, units), SD_ARM_UNIT, generator)
            + _related((seeds, 1), sd, generator)
            + _related((seeds, units), SD_REST, generator)
            for arm in arms
        }
        by_measure = [{arm: values[m] for arm, values in scores.items()} for m in measures]
        p = [[crossed(measured, {arm: 1.0, "A": -1.0}).p for arm in arms[1:]] for measured in by_measure]
        fixed_p = [crossed(measured, {arm: 1.0, "A": -1.0}, fixed).p for measured in by_measure for arm in arms[1:]]
        flat = [value for row in p for value in row]
        counts["crossed + Holm"] += min(holm(flat)) < ALPHA
        counts["crossed, uncorrected"] += min(flat) < ALPHA
        counts["Holm per measure"] += min(min(holm(row)) for row in p) < ALPHA
        counts["paired t + Holm"] += min(holm(fixed_p)) < ALPHA
    return counts


def _related(shape: tuple[int, ...], sd: float, generator: np.random.Generator) -> Values:
    """Return (3, *shape) normal draws with correlation .7 between the three."""
    return sd * (math.sqrt(0.7) * generator.normal(size=shape) + math.sqrt(0.3) * generator.normal(size=(3, *shape)))


def is_broken(count: int, draws: int, promise: float) -> bool:
    """Return whether a rejection rate refutes a promise: P(this many or more | promise) < .001, exact binomial."""
    return count > 0 and float(bdtrc(count - 1, draws, promise)) < 0.001


def is_off(count: int, draws: int, expected: float) -> bool:
    """Return whether a rate is more than 3 Monte-Carlo errors from one that was seen in 4,000 draws."""
    return abs(count / draws - expected) > 3 * math.sqrt(expected * (1 - expected) * (1 / draws + 1 / 4000))


def _rates(counts: dict[str, int], draws: int, names: Sequence[str]) -> list[str]:
    return [f"{counts[name] / draws:.3f}" if name in counts else "–" for name in names]


def run(draws: int, seed: int, show: Callable[[str], None]) -> tuple[list[dict[str, object]], bool]:
    """Run every case, show the tables, and return the records and whether every promise was kept."""
    records: list[dict[str, object]] = []
    kept = True
    names = ("crossed", *OTHERS)
    lines = []
    for case in cases():
        few = min(draws, DRAWS_OF_OTHERS)
        counts = simulate(case, draws, seed, few)
        broken = is_broken(counts["crossed"], draws, case.promise)
        notes = ["BROKEN" if broken else "kept"]
        if case.expected:
            off = is_off(counts["crossed"], draws, case.expected[0]) or is_off(counts["power"], draws, case.expected[1])
            broken = broken or off
            power = f"power at {case.effect:g}: {counts['power'] / draws:.3f}"
            notes.append(f"{power}{', OFF' if off else ''}, expected {case.expected[0]:.3f} and {case.expected[1]:.3f}")
        kept = kept and not broken
        rates = [*_rates(counts, draws, names[:1]), *_rates(counts, few, OTHERS)]
        lines.append((str(case), *rates, f"{case.promise:g}", "; ".join(notes)))
        records.append(
            {
                "case": str(case),
                "draws": draws,
                "draws_of_others": few,
                "promise": case.promise,
                "kept": not broken,
                **counts,
            }
        )
        print(f"{case}: crossed {counts['crossed'] / draws:.3f}", file=sys.stderr, flush=True)
    columns = (
        Column("no difference between A and B"),
        *(Column(name, "r") for name in (*names, "promise")),
        Column(""),
    )
    show(to_markdown(Table(f"Type-I error at .05, {draws:,} draws (other tests: {few:,})", columns, tuple(lines))))

    lines = []
    for seeds, units, sd, margin in ((5, 104, 0.01, 0.05), (3, 1000, 0.01, 0.05), (5, 1000, 0.02, 0.06)):
        counts = simulate_equivalence(seeds, units, sd, margin, draws, seed)
        broken = is_broken(counts["crossed"], draws, 0.06)
        kept = kept and not broken
        what = f"TOST at the margin {margin:g}: {seeds} seeds × {units} units, seed sd {sd:g}"
        lines.append((what, *_rates(counts, draws, ("crossed", "paired t")), "0.06", "BROKEN" if broken else "kept"))
        records.append({"case": what, "draws": draws, "promise": 0.06, "kept": not broken, **counts})
    columns = (Column("equivalence"), *(Column(name, "r") for name in ("crossed", "paired t", "promise")), Column(""))
    show(to_markdown(Table("Equivalence claimed at a difference of the margin", columns, tuple(lines))))

    lines = []
    methods = ("crossed + Holm", "crossed, uncorrected", "Holm per measure", "paired t + Holm")
    for seeds, units in ((3, 500), (5, 104), (5, 500), (10, 500)):
        counts = simulate_family(seeds, units, draws, seed)
        broken = seeds >= 5 and is_broken(counts["crossed + Holm"], draws, 0.06)
        kept = kept and not broken
        what = f"{seeds} seeds × {units} units, seed sd 0.01"
        promise = "0.06" if seeds >= 5 else "exploratory"
        lines.append((what, *_rates(counts, draws, methods), promise, "BROKEN" if broken else "kept"))
        records.append({"case": f"family: {what}", "draws": draws, "promise": promise, "kept": not broken, **counts})
    columns = (Column("4 arms × 3 measures"), *(Column(name, "r") for name in (*methods, "promise")), Column(""))
    show(to_markdown(Table("Family-wise error, all arms equal", columns, tuple(lines))))
    return records, kept


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 1 when a promise is broken."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.calibration",
        description="Type-I, family-wise and equivalence error of the crossed test beside the usual tests.",
        epilog="example: python -m benchmarks.calibration --draws 4000 --json calibration.json",
    )
    made.add_argument("--draws", type=int, default=4000, help="simulated studies per case (default 4000)")
    made.add_argument("--seed", type=int, default=0, help="of the simulation (default 0)")
    made.add_argument("--json", type=output_file, metavar="OUT", help="write the counts to this file")
    args = made.parse_args(argv)
    if args.draws < 100:
        print(f"error: --draws is {args.draws}; fewer than 100 show nothing", file=sys.stderr)
        return 2
    started = time.perf_counter()
    records, kept = run(args.draws, args.seed, print)
    print(f"{time.perf_counter() - started:.0f} s; promises: {'all kept' if kept else 'BROKEN'}")
    if args.json:
        write_text(args.json, json.dumps(records, indent=1) + "\n")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
