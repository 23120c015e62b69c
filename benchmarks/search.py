"""Time and memory of searching a large corpus, side by side with plain faiss.

    python -m benchmarks.search --sizes 100000 1000000 --queries 1000 --depths 100 1000

Vectors have clusters: 2,000 centres drawn in a space of 32 dimensions, half as much noise around them, turned into all
dimensions with a quarter as much noise there, scaled to length one; queries are drawn likewise. A larger corpus has
more documents of the same clusters. Times: exact search and faiss's IndexFlatIP (which
gives float32 products and no tie rule) take turns in one process, vectors in memory; medians and the ratio. Memory: the
highest resident size of one fresh process each, with what the process holds before it loads a vector beside it; in
shards, vectors lie in files. Indexes: seconds to build and search, and recall against exact search on a sample.
Times of a busy machine mean little: the load is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ablate.recipe.schema import ExactIndex, HnswIndex, Index, IvfIndex, PqIndex
from ablate.retrieval.exact import Corpus, search
from ablate.retrieval.index import open_index
from ablate.retrieval.vectors import DocumentVectors

SHARD = 65_536
CENTRES, INNER = 2_000, 32
MOST_LISTS, PER_LIST = 1_024, 64
"""Inverted lists, at most, and documents that a list has at least: as many as k-means looks at for a centre."""
PROBED, SEEN = 16, 20
"""Of so many lists one is scored for a query, but no fewer than hold so many times the documents asked for."""
WAYS = ("exact", "exact in shards", "faiss", "ivf", "ivf in shards", "hnsw", "pq", "pq in shards")


def make(folder: Path, num_documents: int, num_queries: int, dimensions: int) -> None:
    """Write document vectors in shards, and query vectors."""
    generator = np.random.Generator(np.random.PCG64(0))
    centres = generator.standard_normal((CENTRES, INNER), dtype=np.float32)
    turn = generator.standard_normal((INNER, dimensions), dtype=np.float32) / np.float32(INNER**0.5)

    def draw(number: int) -> npt.NDArray[np.float32]:
        inner = centres[generator.integers(0, CENTRES, number)]
        inner += generator.standard_normal((number, INNER), dtype=np.float32) / 2
        vectors: npt.NDArray[np.float32] = inner @ turn
        vectors += generator.standard_normal((number, dimensions), dtype=np.float32) / 4
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    for first in range(0, num_documents, SHARD):
        np.save(folder / f"{first:010d}.npy", draw(min(SHARD, num_documents - first)))
    np.save(folder / "queries.npy", draw(num_queries))


def in_shards(folder: Path) -> DocumentVectors:
    """Return the document vectors in their files."""
    paths = sorted(folder.glob("0*.npy"))
    return DocumentVectors(tuple(paths), tuple(len(np.load(path, mmap_mode="r")) for path in paths))


def in_memory(folder: Path) -> npt.NDArray[np.float32]:
    """Return the document vectors (D, H), read without a second copy."""
    shards = in_shards(folder)
    dimensions = np.load(folder / "queries.npy", mmap_mode="r").shape[1]
    vectors = np.empty((len(shards), dimensions), np.float32)
    for first, part in shards:
        vectors[first : first + len(part)] = part
    return vectors


def index_of(kind: str, num_documents: int, depth: int, checked: int) -> Index:
    """Return an index with parameters that suit a corpus of this size and some hundred queries.

    Inverted lists are bounded in number, so that building takes time in proportion to the documents: with 4 sqrt(D)
    lists, which pay off where many queries are asked, each of D documents is compared with that many centres. A
    sixteenth of the lists is scored, and in a small corpus more: lists that hold hardly more documents than are asked
    for miss most of them.
    """
    lists = min(MOST_LISTS, max(1, num_documents // PER_LIST))
    probes = min(lists, max(lists // PROBED, -(-SEEN * depth * lists // num_documents)))
    choices: dict[str, Index] = {
        "ivf": IvfIndex(kind="ivf", lists=lists, probes=probes, seed=0, checked_queries=checked),
        "hnsw": HnswIndex(kind="hnsw", links=32, build_breadth=80, search_breadth=2 * depth, checked_queries=checked),
        "pq": PqIndex(kind="pq", code_bytes=48, oversampling=4.0, seed=0, checked_queries=checked),
    }
    return choices.get(kind, ExactIndex(kind="exact"))


def most_resident() -> float:
    """Return the highest resident size of this process so far in MiB; that of `getrusage` is inherited by children."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return wall and processor seconds of a call, and what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def compare(folder: Path, depth: int, repeats: int) -> dict[str, Any]:
    """Let exact search and faiss's flat index take turns on vectors in memory."""
    import faiss

    documents, queries = in_memory(folder), np.load(folder / "queries.npy")
    ids, query_ids = [f"d{row}" for row in range(len(documents))], [f"q{row}" for row in range(len(queries))]
    flat = faiss.IndexFlatIP(documents.shape[1])
    flat.add(documents)
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "faiss": []}
    overlap = 0.0
    for _ in range(repeats):
        *ours, rankings = timed(lambda: search(documents, queries, ids, query_ids, depth))
        *theirs, (_, rows) = timed(lambda: flat.search(queries, depth))
        times["ours"].append((ours[0], ours[1]))
        times["faiss"].append((theirs[0], theirs[1]))
        shared = [
            len({f"d{row}" for row in own} & set(r.doc_ids)) / depth for own, r in zip(rows, rankings, strict=True)
        ]
        overlap = statistics.fmean(shared)
    return {"times": times, "overlap": overlap}


def use(folder: Path, way: str, depth: int, checked: int) -> dict[str, Any]:
    """Search in one way and return seconds, recall and the resident size before and at most, in MiB."""
    import faiss

    queries = np.load(folder / "queries.npy")
    kind, _, place = way.partition(" ")
    before = most_resident()
    documents = in_shards(folder) if place or kind == "faiss" else in_memory(folder)
    counts: dict[str, float] = {}

    def call() -> None:
        if kind == "faiss":
            flat = faiss.IndexFlatIP(queries.shape[1])
            flat.add(in_memory(folder))
            flat.search(queries, depth)
            return
        ids, query_ids = [f"d{row}" for row in range(len(documents))], [f"q{row}" for row in range(len(queries))]
        corpus = Corpus(documents, ids)
        index = index_of(kind, len(documents), depth, checked)
        counts["build"], _, opened = timed(lambda: open_index(corpus, index))
        counts["search"], _, rankings = timed(lambda: opened.search(queries, query_ids, depth))
        counts.update(opened.check(rankings, queries, query_ids, depth)[0])

    wall, cpu, _ = timed(call)
    return {"wall": wall, "cpu": cpu, "before": before, "most": most_resident(), "counts": counts}


def child(*words: str | int | Path) -> dict[str, Any]:
    """Run a part of this benchmark in a fresh process and return what it measured."""
    command = [sys.executable, "-m", "benchmarks.search", "--part", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def report(folder: Path, depth: int, arguments: argparse.Namespace) -> None:
    """Print the comparison and the memory of every way for one corpus and depth."""
    num_queries, size = arguments.queries, len(in_shards(folder))
    mebibytes = size * arguments.dimensions * 4 / 2**20
    shape = f"{size:,} x {arguments.dimensions} ({mebibytes:,.0f} MiB)"
    load = os.getloadavg()[0]
    print(f"\n{shape}, {num_queries} queries, depth {depth}, load {load:.1f}")
    if arguments.repeats:
        both = child(folder, "compare", depth, arguments.repeats)
        cpu = {name: statistics.median(turn[1] for turn in times) for name, times in both["times"].items()}
        for name, times in both["times"].items():
            wall = statistics.median(turn[0] for turn in times)
            spread = f"{min(turn[1] for turn in times):.1f} to {max(turn[1] for turn in times):.1f}"
            print(
                f"  {name:<6}{wall:8.1f} s wall {cpu[name]:8.1f} s cpu ({spread}) {num_queries / wall:8.1f} queries/s"
            )
        print(f"  faiss / ours: {cpu['faiss'] / cpu['ours']:.2f} (cpu); documents in common {both['overlap']:.5f}")
    print(f"  {'in a process of its own':<24}{'wall s':>8}{'cpu s':>8}{'MiB at most':>13}{'before':>8}")
    for way in arguments.ways:
        usage = child(folder, "use", depth, arguments.checked, way)
        counts = usage["counts"]
        note = ""
        if f"recall@{depth}" in counts:
            note = f"recall {counts[f'recall@{depth}']:.4f}, build {counts['build']:.1f} s, search "
            note += f"{counts['search']:.1f} s, {num_queries / counts['search']:.1f} queries/s"
        print(
            f"  {way:<24}{usage['wall']:8.1f}{usage['cpu']:8.1f}{usage['most']:13,.0f}{usage['before']:8,.0f}  {note}",
            flush=True,
        )


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print; `--part` is for the processes that this one starts."""
    parser = argparse.ArgumentParser(
        description="Time and memory of searching a large corpus, side by side with plain faiss.",
        epilog="Example: python -m benchmarks.search --sizes 100000 --queries 200 --depths 1000 --ways exact faiss ivf",
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000], help="documents")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--depths", type=int, nargs="+", default=[100, 1000], help="documents per ranking")
    parser.add_argument("--repeats", type=int, default=3, help="turns of exact search and faiss; 0: none")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=["exact", "exact in shards", "faiss", "ivf"])
    parser.add_argument("--checked", type=int, default=50, help="queries that an index is checked on")
    parser.add_argument("--folder", type=Path, help="where vectors are written for the time of the benchmark")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.part:
        folder, what, depth, number, *way = arguments.part
        if what == "compare":
            print(json.dumps(compare(Path(folder), int(depth), int(number))))
        else:
            print(json.dumps(use(Path(folder), way[0], int(depth), int(number))))
        return
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            make(Path(folder), size, arguments.queries, arguments.dimensions)
            for depth in arguments.depths:
                report(Path(folder), depth, arguments)


if __name__ == "__main__":
    main()
