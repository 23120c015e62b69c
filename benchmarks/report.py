"""Time, memory and size of the report of a made study.

    python -m benchmarks.report --arms 10 --seeds 10 --units 10000

A study of rankers with drawn scores in three places and three claims is written to a temporary folder, and reported.
Seconds are those of making the report; the highest resident size is of the whole process. Promised: a page below 5 MB.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ablate.evaluation.storage import write_scores
from ablate.recipe.values import digest
from ablate.records import QueryScore
from ablate.store.results import ResultStore
from ablate.study.declaration import build_study
from ablate.study.records import StudyRecords
from analysis.page.gather import gather
from analysis.page.write import write
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy

STUDY = "made"
PLACES = (("plain", "plain", "nDCG@10"), ("changed", "after", "nDCG@10"), ("changed", "after", "p-MRR"))
MOST_BYTES = 5_000_000
_EFFECT, _LEVELS = 0.01, 20
"""By how much each arm is better than the one before, and after how many arms the first level comes again: scores that
are cut at 1 would be equal in all further arms, and equal scores count as those of one model."""


def make(root: Path, num_arms: int, num_seeds: int, num_units: int) -> None:
    """Write a study with these many arms, seeds and units, and its declaration."""
    claims = [
        {
            "name": f"claim_{place}",
            "says": f"Arm {place} is better than arm 0.",
            "contrast": f"arm_{place} - arm_0",
            "dataset": "made/test",
            "condition": condition,
            "direction": direction,
            "measure": measure,
            "expects": "greater",
        }
        for place, (condition, direction, measure) in enumerate(PLACES, start=1)
    ]
    arms, seeds = [f"arm_{place}" for place in range(num_arms)], list(range(num_seeds))
    study = build_study({"question": "How large is a report?", "arms": arms, "seeds": seeds, "claims": claims})
    store = ResultStore(root)
    StudyRecords(store, STUDY).declare(study, [])
    for place, arm in enumerate(arms):
        for seed in seeds:
            recipe = {"stage": "ranker", "name": arm, "seed": seed, "evaluation": {"depth": 10, "sets": ["test"]}}
            folder = store.folder("evaluation", digest(recipe))
            folder.mkdir(parents=True)
            write_scores(folder / "scores.parquet", scores(place, seed, num_units))
            store.complete(
                "evaluation",
                recipe,
                files=("scores.parquet",),
                parents=(),
                seed=seed,
                label=f"{STUDY}/{arm}",
                counts={"candidates": {"made/test": "c"}},
                hardware={"device": "cpu"},
                cost={"wall_s": 1.0},
                started="2026-01-02T00:00:00+00:00",
                declared=study.digest,
            )


def scores(arm: int, seed: int, num_units: int) -> list[QueryScore]:
    """Return the drawn scores of a run in all places; an arm of a higher number is a little better, up to 20."""
    drawn = []
    for number, (condition, direction, measure) in enumerate(PLACES):
        easy = np.random.Generator(np.random.PCG64([number])).random(num_units) * 0.4
        effect = _EFFECT * (arm % _LEVELS)
        noise = np.random.Generator(np.random.PCG64([number, arm, seed])).normal(effect, 0.05, num_units)
        drawn += [
            QueryScore("made/test", condition, direction, f"query-{unit:06d}", measure, float(value))
            for unit, value in enumerate(np.clip(0.3 + easy + noise, 0, 1))
        ]
    return drawn


def main(argv: Sequence[str] | None = None) -> int:
    """Make and report a study, print size, seconds and memory, and return 1 for a page that is too large."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=(__doc__ or "").splitlines()[0])
    for name, usual in (("arms", 10), ("seeds", 10), ("units", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=usual, metavar="N", help=f"(default {usual:,})")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        make(root, args.arms, args.seeds, args.units)
        began = time.perf_counter()
        report = gather(OpenStudy(Evidence(root, STUDY)), str(root))
        gathered = time.perf_counter()
        written = write(report, Path(folder) / "out")
        ended = time.perf_counter()
        size = written.page.stat().st_size
        beside = sum(path.stat().st_size for path in written.page.parent.rglob("*") if path.is_file()) - size
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{args.arms} arms x {args.seeds} seeds x {args.units:,} units: page {size:,} bytes, beside it {beside:,}; "
        f"{gathered - began:.1f} s gathered, {ended - gathered:.1f} s written, {memory:,.0f} MiB"
    )
    return int(size > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
