"""Whether training in bf16 stays within seed noise of fp32: the same arm and seeds in both, scored in fp32.

    python -m benchmarks.precision [--seeds 0 1 2] [--results results/precision] [OVERRIDE ...]

Prints, for each measure, the mean difference bf16 - fp32 at equal seeds beside the standard deviation between seeds.
On a processor without native bf16 (CUDA has it, and a CPU with AMX or AVX512_BF16) training in it is many times slower,
and the figure says nothing about speed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

from ablate.cli.overrides import quoted
from analysis.study.evidence import Evidence
from analysis.study.scores import in_words, means


def main() -> int:
    """Train both precisions, print the differences, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision",
        description="bf16 against fp32 training at equal seeds, beside the noise between seeds.",
        epilog="Example: python -m benchmarks.precision --seeds 0 1 2 -- model=tiny budget.limit=128",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=Path("results/precision"))
    parser.add_argument("--arm", default="instruction_negatives")
    parser.add_argument("overrides", nargs="*", help="further overrides of the run")
    options = parser.parse_args()
    for precision in ("fp32", "bf16"):
        command = [
            sys.executable,
            "-m",
            "ablate.run",
            "-m",
            f"+experiment={options.arm}",
            f"train.precision={precision}",
            f"seed={','.join(map(str, options.seeds))}",
            quoted("runtime.results", options.results),
            "runtime.study=precision",
            f"runtime.label={precision}",
            "tracker=none",
            *options.overrides,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"{'dataset / measure / condition / direction':70s} {'fp32':>8s} {'bf16-fp32':>10s} {'sd of seeds':>12s}")
    table = in_words(Evidence(options.results, "precision").long_table())
    for key, arms in sorted(means(table).items()):
        fp32, bf16 = arms["fp32"], arms["bf16"]
        difference = fmean(bf16[seed] - fp32[seed] for seed in options.seeds)
        noise = f"{stdev(fp32.values()):12.4f}" if len(fp32) > 1 else " " * 12
        print(f"{' / '.join(key):70s} {fmean(fp32.values()):8.4f} {difference:+10.4f} {noise}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
