"""Cost per row and peak memory of reading published rows and of building a mix from them, at three sizes.

    python -m benchmarks.rows                           10 thousand, 100 thousand and 1 million rows of JSON lines
    python -m benchmarks.rows --kind parquet --sizes 10000 100000 --repeats 3

Writes files of Promptriever's schema with short texts (about 1.5 KB a row as JSON lines, so 1.5 GB at 1 million;
the real rows are nine times as long) into a temporary folder, one size at a time, and measures each task in a fresh
process: a pass over `rows()`, and a mix of 10,000 groups with `build_mix` (two such passages over the rows and one over
the passages). The promise: CPU time per row does not grow with the number of rows, and neither does the memory of a
pass.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ablate.project import ROOT

SIZES = (10_000, 100_000, 1_000_000)
GROUPS, NEGATIVES = 10_000, 4
_MIB = 1 << 20


def records(num_rows: int) -> Iterator[dict[str, Any]]:
    """Yield records of the published schema: plain and instructed in turn, four hard negatives, three new ones."""
    for number in range(num_rows):
        query_id, instructed = str(number // 2), number % 2 == 1
        query = f"query number {query_id} about some subject of the day"
        instruction = f"Only passages of kind {number % 97} count, and nothing that was written before {number % 89}."
        yield {
            "query_id": query_id,
            "query": f"{query} {instruction}" if instructed else query,
            "positive_passages": [_judged(f"{number // 2 + 10**7}", 0.9 if instructed else None)],
            "negative_passages": [
                {"docid": str(doc), "text": _text(str(doc)), "title": "-"}
                for doc in ((number // 2 * 7919 + place * 104729) % 2_000_003 for place in range(NEGATIVES))
            ],
            "only_instruction": instruction if instructed else None,
            "only_query": query,
            "has_instruction": instructed,
            "new_negatives": [_judged(f"{query_id}_{place}", place / 4) for place in range(1, 4)] if instructed else [],
            "reversed_instruction": f"Anything that is not of kind {number % 97} counts." if instructed else None,
        }


def _text(docid: str) -> str:
    return f"Passage {docid} says something about its subject, in a sentence or two of no great length or weight."


def _judged(docid: str, score: float | None) -> dict[str, Any]:
    told = {"explanation": None if score is None else "omission", "followir_score": score, "joint_id": docid}
    return {"docid": docid, **told, "text": _text(docid), "title": "-"}


def write(path: Path, num_rows: int) -> None:
    """Write the file of a size: JSON lines or, by its name, Parquet in row groups of 1,000."""
    if path.suffix == ".jsonl":
        with open(path, "w", encoding="utf-8") as file:
            for record in records(num_rows):
                file.write(json.dumps(record) + "\n")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    bare = [("docid", pa.string()), ("text", pa.string()), ("title", pa.string())]
    judged = [*bare, ("explanation", pa.string()), ("followir_score", pa.float64()), ("joint_id", pa.string())]
    text = dict.fromkeys(("query_id", "query", "only_instruction", "only_query", "reversed_instruction"), pa.string())
    lists = {"positive_passages": judged, "negative_passages": bare, "new_negatives": judged}
    types = {**text, **{name: pa.list_(pa.struct(item)) for name, item in lists.items()}, "has_instruction": pa.bool_()}
    schema, rows = pa.schema(list(types.items())), records(num_rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while block := list(itertools.islice(rows, 1000)):
            writer.write_table(pa.Table.from_pylist(block, schema))


def stream(path: Path) -> int:
    """Pass over the rows of a file and return how many there are."""
    from ablate.data.published import open_published

    return sum(1 for _ in open_published(format="promptriever", path=str(path), max_negative_score=0.5).rows())


def mix(path: Path, limit: int | None = GROUPS) -> int:
    """Build a mix of `limit` groups, None: all (the arm `dual_view`), and return the number of rows in the source."""
    from ablate.compose import load, strict
    from ablate.data.mix import build_mix
    from ablate.data.published import open_published

    overrides = [
        "+experiment=dual_view",
        "budget.unit=groups",
        f"budget.limit={'null' if limit is None else limit}",
        f"budget.negatives_per_group={NEGATIVES}",
    ]
    recipe = strict(load(overrides)).recipe
    source = open_published(format="promptriever", path=str(path), max_negative_score=0.5)
    built = build_mix(source, recipe, seed=0)
    assert len(built.groups) == (limit or 2 * built.card["rows_eligible"])  # each row and its twin
    return built.card["rows_in_source"]


def _measure(task: str, path: Path) -> None:
    """Run one task in this process and print what it cost."""
    wall, cpu = time.perf_counter(), time.process_time()
    num_rows = {"stream": stream, "mix": mix}[task](path)
    cost = {
        "rows": num_rows,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    print(json.dumps(cost))


def _child(*arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.rows", *arguments]
    return subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True).stdout


def main(arguments: Sequence[str] | None = None) -> None:
    """Write, measure and print the table; raises CalledProcessError when a task fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help=f"rows, at least {GROUPS:,} for the mix")
    parser.add_argument("--kind", choices=("jsonl", "parquet"), default="jsonl")
    parser.add_argument("--repeats", type=int, default=1, help="medians over this many fresh processes")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.child:
        task, path, *size = chosen.child
        if task == "write":
            write(Path(path), int(size[0]))
        else:
            _measure(task, Path(path))
        return
    heads = ("     rows", " file MB", "task  ", "   rows/s", "CPU µs/row", "  wall s", "peak MiB")
    print("  ".join(heads))
    with tempfile.TemporaryDirectory() as folder:
        for size in chosen.sizes:
            path = Path(folder) / f"rows.{chosen.kind}"
            _child("--child", "write", str(path), str(size))
            megabytes = path.stat().st_size / 1e6
            for task in ("stream", "mix"):
                costs = [json.loads(_child("--child", task, str(path))) for _ in range(chosen.repeats)]
                assert all(cost["rows"] == size for cost in costs)
                wall, cpu, peak = (statistics.median(cost[name] for cost in costs) for name in ("wall", "cpu", "peak"))
                print(
                    f"{size:>9,}  {megabytes:>8.1f}  {task:<6}  {size / wall:>9,.0f}  {cpu / size * 1e6:>10.1f}  "
                    f"{wall:>8.2f}  {peak / _MIB:>8.0f}",
                    flush=True,
                )
            path.unlink()


if __name__ == "__main__":
    main()
