"""How time and memory grow with rows, documents and cells: exponents over sizes, and the peak of each size.

    python -m benchmarks.growth                                     all of it, an hour or more on one core
    python -m benchmarks.growth --only cells --cells 30 100 300     a part of it, on sizes of one's own
    python -m benchmarks.growth --kept kept.jsonl --to docs/performance.md

rows: a mix of 10,000 groups from published rows of short texts (`benchmarks.rows`). documents: a search for 100 queries
at depth 100 over structured vectors of 384 dimensions (`benchmarks.search`), building the index included, with its
recall. cells: a made study of trained arms with 10 seeds each, drawn scores of 200 units in three places and three
claims, planned by the command (`runtime.plan_only=true`, its start included) and read by the commands of `analysis`
(their imports not included).

Each measurement is made in a process of its own with one thread: processor seconds, user and system, which a busy
machine moves less than wall seconds, and the highest resident size. The exponent is the slope of a least-squares line
through the logarithms of size and seconds over all sizes, and beside it that between the two largest, where fixed costs
weigh least; 1 is linear. With `--kept`, measurements are appended to a file and those that it holds are not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ablate.cli.command import output_file, write_text
from ablate.project import ROOT
from ablate.tables import Column, Table, to_markdown
from benchmarks import report, rows, search

ROWS = (10_000, 100_000, 1_000_000)
DOCUMENTS = (5_000, 70_000, 1_000_000)
CELLS = (100, 300, 1_000)
FULL = {"rows": (10_000_000,), "documents": (5_000_000,), "cells": (3_000,)}
"""Sizes that `--full` adds."""
SEEDS, UNITS = 10, 200
QUERIES, DIMENSIONS, DEPTH, CHECKED = 100, 384, 100, 50
INDEXES = ("exact", "ivf", "hnsw", "pq")
STUDY = report.STUDY
COMMANDS: dict[str, tuple[str, ...]] = {
    "collect": (),
    "claims": (),
    "significance": ("--baseline", "arm_0"),
    "budgets": (),
    "costs": (),
    "fairness": (),
    "watch": ("--once",),
    "report": (),
}
"""Command of `analysis` -> what it is given beside the study."""
HEADING = "## Growth"


class Measured(NamedTuple):
    """What one task took at one size."""

    what: str
    size: int
    cpu_s: float
    wall_s: float
    peak_mib: float
    recall: float | None = None


def exponent(points: Iterable[tuple[float, float]]) -> float | None:
    """Return the slope of a least-squares line through (log size, log seconds); None below two sizes above 0."""
    logs = [(math.log(size), math.log(seconds)) for size, seconds in points if size > 0 and seconds > 0]
    if len({size for size, _ in logs}) < 2:
        return None
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def tables_of(measured: Sequence[Measured]) -> list[Table]:
    """Return a table for each kind of growth, a row for each task, with a column for each size."""
    tables = []
    for kind in ("rows", "documents", "cells"):
        own = [point for point in measured if point.what.startswith(f"{kind}: ")]
        if not own:
            continue
        sizes = sorted({point.size for point in own})
        columns = [Column("CPU s (peak MiB) at"), *(Column(f"{size:,}", "r") for size in sizes)]
        columns += [Column("exponent", "r"), Column("of the last two", "r")]
        lines = []
        for what in dict.fromkeys(point.what for point in own):
            points = {point.size: point for point in own if point.what == what}
            pairs = [(float(size), points[size].cpu_s) for size in sizes if size in points]
            lines.append(
                (
                    what.removeprefix(f"{kind}: "),
                    *(_cell(points.get(size)) for size in sizes),
                    _exponent(exponent(pairs) if len(pairs) > 2 else None),
                    _exponent(exponent(pairs[-2:])),
                )
            )
        tables.append(Table(kind, tuple(columns), tuple(lines)))
    return tables


def _cell(point: Measured | None) -> str:
    if point is None:
        return "–"
    recall = "" if point.recall is None else f", recall {point.recall:.3f}"
    return f"{point.cpu_s:.2f} ({point.peak_mib:,.0f}{recall})"


def _exponent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def with_section(text: str, section: str) -> str:
    """Return a Markdown document with this section in the place of its namesake, or at its end."""
    heading = section.splitlines()[0]
    lines = text.splitlines()
    if heading not in lines:
        return f"{text.rstrip()}\n\n{section}" if text.strip() else section
    first = lines.index(heading)
    last = next((place for place in range(first + 1, len(lines)) if lines[place].startswith("## ")), len(lines))
    after = "\n".join(lines[last:])
    return "\n".join([*lines[:first], section.rstrip(), ""]) + (f"\n{after}\n" if after else "")


def make(root: Path, num_cells: int) -> None:
    """Write a study of trained arms with SEEDS seeds each, as its runs would leave it, and its declaration."""
    from ablate.evaluation.storage import write_scores
    from ablate.recipe.identity import SCORING
    from ablate.recipe.values import digest
    from ablate.store.results import ResultStore
    from ablate.study.declaration import DeclaredCell, build_study
    from ablate.study.records import StudyRecords

    arms, seeds = [f"arm_{place}" for place in range(num_cells // SEEDS)], list(range(SEEDS))
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
        for place, (condition, direction, measure) in enumerate(report.PLACES[: len(arms) - 1], start=1)
    ]
    study = build_study({"question": "How does it grow?", "arms": arms, "seeds": seeds, "claims": claims})
    store, cells = ResultStore(root), []
    for place, arm in enumerate(arms):
        train_config = {"learning_rate": (place + 1) / 1000}
        differs = {"train.learning_rate": train_config["learning_rate"]}
        cells += [DeclaredCell(label=arm, seed=seed, arm_id=digest([arm]), differs=differs) for seed in seeds]
    StudyRecords(store, STUDY).declare(study, cells)
    hardware = {"device": "cpu", "device_name": "cpu", "threads": 1}
    for place, arm in enumerate(arms):
        for seed in seeds:
            known: dict[str, Any] = {
                "seed": seed,
                "label": f"{STUDY}/{arm}",
                "cost": {"wall_s": 1.0, "cpu_s": 1.0, "train_s": 1.0},
                "started": "2026-01-02T00:00:00+00:00",
                "declared": study.digest,
            }
            mix = {"stage": "mix", "source": {"kind": "world", "revision": "1"}, "factors": {}, "seed": seed}
            mix["budget"] = {"unit": "groups", "limit": 8, "fill": "fewer_queries", "negatives_per_group": 1}
            if store.find("mix", mix) is None:
                store.folder("mix", digest(mix)).mkdir(parents=True)
                counts = {"groups": 8, "content": digest(mix)}
                store.complete("mix", mix, files=(), parents=(), counts=counts, hardware={}, **known)
            else:
                store.add_label("mix", digest(mix), known["label"])
            train = {"stage": "train", "mix": digest(mix), "model": {"revision": "m"}, "seed": seed}
            train["train"] = {"learning_rate": (place + 1) / 1000}
            store.folder("train", digest(train)).mkdir(parents=True)
            parents = (digest(mix),)
            store.complete("train", train, files=(), parents=parents, counts={}, hardware=hardware, **known)
            recipe = {"stage": "evaluation", "train": digest(train), "scoring": SCORING}
            recipe["evaluation"] = {"source": None, "sets": ["test"], "depth": 10, "batch_size": 4}
            folder = store.folder("evaluation", digest(recipe))
            folder.mkdir(parents=True)
            write_scores(folder / "scores.parquet", report.scores(place, seed, UNITS))
            write_text(folder / "notes.json", json.dumps({"candidates": {"made/test": "c"}}))
            store.complete(
                "evaluation",
                recipe,
                files=("notes.json", "scores.parquet"),
                parents=(digest(train),),
                counts={"candidates": {"made/test": "c"}},
                hardware=hardware,
                **known,
            )


def plan(folder: Path, num_cells: int) -> None:
    """Plan a study of so many cells, as the command line does; nothing of it is run."""
    from ablate.run import main

    rates = ",".join(f"{place / 1000}" for place in range(1, num_cells // SEEDS + 1))
    sys.argv = ["ablate.run", "-m", "+experiment=dual_view", f"train.learning_rate={rates}"]
    sys.argv += [f"seed={','.join(map(str, range(SEEDS)))}", "model=tiny", "tracker=none"]
    sys.argv += ["runtime.plan_only=true", f"runtime.results={folder / 'planned'}"]
    main()


def task(what: str, size: int, folder: Path) -> dict[str, Any]:
    """Do one task in this process and return what it took; the material lies in the folder."""
    kind, _, name = what.partition(": ")
    call: Callable[[], Any]
    if kind == "rows":
        path = folder / "rows.jsonl"

        def call() -> None:
            assert rows.mix(path) == size
    elif kind == "documents":
        used = search.use(folder, name, DEPTH, CHECKED)
        return {
            "cpu_s": used["cpu"],
            "wall_s": used["wall"],
            "peak_mib": used["most"],
            "recall": used["counts"].get(f"recall@{DEPTH}"),
        }
    elif name == "planned":

        def call() -> None:
            with contextlib.redirect_stdout(io.StringIO()) as told:
                plan(folder, size)
            assert f"{size} cells" in told.getvalue(), told.getvalue()[-500:]
    else:
        main = import_module(f"analysis.{name}").main
        arguments = [STUDY, "--results", str(folder / "results"), *COMMANDS[name]]

        def call() -> None:
            told = io.StringIO()
            with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
                code = main(arguments)
            assert code in (0, None) or name == "fairness", told.getvalue()[-2000:]

    wall, before = time.perf_counter(), _cpu_seconds()
    call()
    took = {"cpu_s": _cpu_seconds() - before, "wall_s": time.perf_counter() - wall, "peak_mib": search.most_resident()}
    if name == "planned":
        took["cpu_s"] = _cpu_seconds()  # its start is part of it
    return took


def _cpu_seconds() -> float:
    """Return the processor seconds, user and system, of this process and its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _child(*arguments: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "benchmarks.growth", "--child", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-3000:]}")
    return done.stdout


def _tasks(kind: str) -> list[str]:
    names = {"rows": ["mix"], "documents": list(INDEXES), "cells": ["planned", *COMMANDS]}[kind]
    return [f"{kind}: {name}" for name in names]


def _make(kind: str, size: int, folder: Path) -> None:
    """Write the material of a size in a process of its own, so that it adds nothing to the memory of another."""
    _child("make", kind, size, folder)


def _in_child(arguments: Sequence[str]) -> None:
    job, what, size, folder = arguments[0], arguments[1], int(arguments[2]), Path(arguments[3])
    if job == "task":
        print(json.dumps(task(what, size, folder)))
    elif what == "rows":
        rows.write(folder / "rows.jsonl", size)
    elif what == "documents":
        search.make(folder, size, QUERIES, DIMENSIONS)
    else:
        make(folder / "results", size)


def _kept(path: Path | None) -> list[Measured]:
    if path is None or not path.exists():
        return []
    return [Measured(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def measure(sizes: dict[str, Sequence[int]], kept: Path | None) -> list[Measured]:
    """Measure every task at every size and return all measurements, those that were kept before among them."""
    measured = _kept(kept)
    known = {(point.what, point.size) for point in measured}
    for kind, of_kind in sizes.items():
        for size in of_kind:
            missing = [what for what in _tasks(kind) if (what, size) not in known]
            with tempfile.TemporaryDirectory() as folder:
                if missing:
                    _make(kind, size, Path(folder))
                for what in missing:
                    point = Measured(what, size, **json.loads(_child("task", what, size, folder).splitlines()[-1]))
                    measured.append(point)
                    print(f"{what} {size:,}: {_cell(point)}", flush=True)
                    if kept is not None:
                        with open(kept, "a", encoding="utf-8") as file:
                            file.write(json.dumps(point._asdict()) + "\n")
    return measured


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables and, with `--to`, write them into a document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").splitlines()[0])
    usual = {"rows": ROWS, "documents": DOCUMENTS, "cells": CELLS}
    for kind, sizes in usual.items():
        words = " ".join(map(str, sizes))
        parser.add_argument(f"--{kind}", type=int, nargs="+", default=sizes, metavar="N", help=f"(default {words})")
    parser.add_argument("--only", nargs="+", choices=list(usual), default=list(usual), help="kinds of growth")
    parser.add_argument("--full", action="store_true", help="one size more of each, of hours and tens of gigabytes")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="append measurements here; do not make them again")
    parser.add_argument("--to", type=output_file, metavar="FILE.md", help=f"write the tables there, under {HEADING!r}")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        _in_child(args.child)
        return 0
    sizes = {kind: [*getattr(args, kind), *(FULL[kind] if args.full else ())] for kind in usual if kind in args.only}
    tables = [to_markdown(table) for table in tables_of(measure(sizes, args.kept))]
    print("\n".join(tables))
    if args.to:
        words = "\n".join((__doc__ or "").split("\n\n", 2)[2].splitlines())
        section = "\n".join([HEADING, "", "Written by `python -m benchmarks.growth`.", "", words, *tables])
        before = args.to.read_text(encoding="utf-8") if args.to.exists() else ""
        write_text(args.to, with_section(before, section))
    return 0


if __name__ == "__main__":
    sys.exit(main())
