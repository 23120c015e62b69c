"""Time the significance table of a large study in a fresh process, reading the Parquet file included.

    python -m benchmarks.significance

The promise: 10 arms × 10 seeds × 10,000 units × 6 measures in under 5 seconds and 1 GiB.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MEASURES = ("nDCG@10", "nDCG@100", "RR@10", "AP@1000", "recall@100", "recall@1000")
MOST_SECONDS, MOST_BYTES = 5.0, 1 << 30


def write_study(path: Path, num_arms: int, num_seeds: int, num_units: int, num_measures: int) -> int:
    """Write long scores run by run, as plain strings in many small row groups, and return the number of rows."""
    generator = np.random.Generator(np.random.PCG64(0))
    schema = pa.schema(
        [(name, pa.string()) for name in ("arm", "dataset", "condition", "unit_id", "measure")]
        + [("seed", pa.int64()), ("value", pa.float64())]
    )
    units = pa.array([f"query-{place:06d}" for place in range(num_units)])
    unit_effect = generator.normal(0.5, 0.3, num_units)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for arm in range(num_arms):
            for seed in range(num_seeds):
                for measure in MEASURES[:num_measures]:
                    noise = generator.normal(0.005 * arm + generator.normal(0, 0.01), 0.1, num_units)
                    repeated = {
                        "arm": f"arm_{arm}",
                        "dataset": "world/test",
                        "condition": "original",
                        "measure": measure,
                    }
                    columns = {name: pa.repeat(text, num_units) for name, text in repeated.items()}
                    columns |= {"unit_id": units, "seed": pa.repeat(seed, num_units)}
                    columns["value"] = pa.array(np.clip(unit_effect + noise, 0, 1))
                    writer.write_table(pa.table(columns).select(schema.names).cast(schema))
    return num_arms * num_seeds * num_units * num_measures


def timed(path: Path) -> float:
    """Return the seconds of one fresh process that tests all contrasts with the first arm."""
    command = [sys.executable, "-m", "analysis.significance", "--scores", str(path), "--baseline", "arm_0"]
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--json", str(path.with_suffix(".json"))],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    return time.perf_counter() - started


def main(argv: Sequence[str] | None = None) -> int:
    """Print seconds and peak memory; exit code 1 when the promise is broken."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.significance",
        description="Time the significance table of 10 arms × 10 seeds × 10,000 units × 6 measures.",
        epilog="example: python -m benchmarks.significance --repeats 3",
    )
    made.add_argument("--arms", type=int, default=10)
    made.add_argument("--seeds", type=int, default=10)
    made.add_argument("--units", type=int, default=10_000)
    made.add_argument("--measures", type=int, default=6, choices=range(1, 7))
    made.add_argument("--repeats", type=int, default=3, help="fresh processes; the median counts (default 3)")
    args = made.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        rows = write_study(path, args.arms, args.seeds, args.units, args.measures)
        print(f"{rows:,} rows, {path.stat().st_size / 2**20:.0f} MiB of Parquet", flush=True)
        seconds = sorted(timed(path) for _ in range(args.repeats))
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    busy = (usage.ru_utime + usage.ru_stime) / args.repeats
    median = seconds[len(seconds) // 2]
    kept = median < MOST_SECONDS and peak < MOST_BYTES
    shown = ", ".join(f"{duration:.2f}" for duration in seconds)
    print(f"{median:.2f} s (of {shown}; {busy:.2f} s of processor), peak memory {peak / 2**20:.0f} MiB")
    print(f"promise (under {MOST_SECONDS:g} s and {MOST_BYTES / 2**20:g} MiB): {'kept' if kept else 'BROKEN'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
