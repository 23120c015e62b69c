"""How time and memory grow with rows, documents and cells: exponents over sizes, and the peak of each size.

    python -m benchmarks.growth                                     all of it, an hour or more on one core
    python -m benchmarks.growth --only cells --cells 30 100 300     a part of it, on sizes of one's own
    python -m benchmarks.growth --kept kept.jsonl --to docs/performance.md --json growth.json

rows: published rows of short texts (`benchmarks.rows`) read once, looked at by `ablate.check`, drawn from for a mix of
10,000 groups, and made into a mix of all of them; an epoch of so many groups planned and its batches made, texts
tokenised already. documents: a search for 100 queries at depth 100 over vectors of 384 dimensions, building the index
included, with its recall on 50 of them; the vectors have clusters (2,000 centres in 32 dimensions, `benchmarks.search`
has the recipe), because inverted lists have nothing to find in vectors that are drawn without any. cells: a study of
trained arms with 5 seeds each, a claim on each arm but the first, scores of 200 units in three places; planned from its
file by the command (`runtime.plan_only=true`, its start included), worked through by the loop of the sweeper with runs
that take no time, and read by the commands of `analysis` (their imports not included).

Each measurement is made in a process of its own with one thread: processor seconds, user and system, which a busy
machine moves less than wall seconds, and the highest resident size. The exponent is the slope of a least-squares line
through the logarithms of size and seconds over the upper half of the sizes, where fixed costs weigh least; 1 is linear.
Behind it stands what one row, document or cell takes at the largest size. With `--kept`, measurements are appended to a
file and those that it holds are not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import itertools
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
from ablate.store.provenance import machine, now
from ablate.tables import Column, Table, to_markdown
from benchmarks import report, rows, search

ROWS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
DOCUMENTS = (5_000, 20_000, 70_000, 270_000, 1_000_000)
CELLS = (10, 30, 100, 300, 1_000)
FULL = {"rows": (10_000_000,), "documents": (5_000_000,), "cells": (3_000,)}
"""Sizes that `--full` adds."""
SEEDS, UNITS = 5, 200
QUERIES, DIMENSIONS, DEPTH, CHECKED = 100, 384, 100, 50
TASKS = {
    "rows": ("read", "check", "mix", "mix of all", "epoch"),
    "documents": ("exact", "exact in shards", "ivf", "hnsw", "pq"),
}
MOST = {"rows: mix of all": 300_000, "documents: hnsw": 270_000}
"""Largest size that is measured without `--full`, where the usual ones would take many gigabytes or a long hour."""
STUDY = report.STUDY
WORLD_PLACES = (
    ("plain", "plain", "nDCG@10"),
    ("changed", "usual", "nDCG@10"),
    ("pairs", "both", "satisfying over violating"),
)
"""Condition, direction and measure of what the generated world has scores of."""
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


def upper_half(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return the points from the middle one on, at least two where there are two; they come in order of size."""
    return points[min(len(points) // 2, max(0, len(points) - 2)) :]


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
        columns += [Column("exponent", "r"), Column("µs each", "r")]
        lines = []
        for what in dict.fromkeys(point.what for point in own):
            points = {point.size: point for point in own if point.what == what}
            pairs = [(float(size), points[size].cpu_s) for size in sizes if size in points]
            lines.append(
                (
                    what.removeprefix(f"{kind}: "),
                    *(_cell(points.get(size)) for size in sizes),
                    _exponent(exponent(upper_half(pairs))),
                    f"{pairs[-1][1] / pairs[-1][0] * 1e6:,.0f}",
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


def declaration_of(num_cells: int, dataset: str, places: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Return a study of so many cells with a claim on each arm but the first, in one place after the other."""
    arms = [f"arm_{number}" for number in range(num_cells // SEEDS)]
    claims = []
    for number, arm in enumerate(arms[1:], start=1):
        condition, direction, measure = places[number % len(places)]
        words = {"name": f"claim_{number}", "says": f"Arm {number} is better than arm 0.", "contrast": f"{arm} - arm_0"}
        place = {"dataset": dataset, "condition": condition, "direction": direction, "measure": measure}
        claims.append({**words, **place, "expects": "greater"})
    return {"question": "How does it grow?", "arms": arms, "seeds": list(range(SEEDS)), "claims": claims}


def make(root: Path, num_cells: int) -> None:
    """Write a study of trained arms with SEEDS seeds each, as its runs would leave it, and its declaration."""
    from ablate.evaluation.storage import write_scores
    from ablate.recipe.identity import SCORING
    from ablate.recipe.values import digest
    from ablate.store.results import ResultStore
    from ablate.study.declaration import DeclaredCell, build_study
    from ablate.study.records import StudyRecords

    declared = declaration_of(num_cells, "made/test", report.PLACES)
    arms, seeds, study = declared["arms"], declared["seeds"], build_study(declared)
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
    """Plan a study of so many cells from its file, as the command line does; nothing of it is run."""
    from ablate.run import main

    declared = declaration_of(num_cells, "world/test", WORLD_PLACES)
    declared["arms"] = [
        f"dual_view train.learning_rate={(place + 1) / 1000} runtime.label={arm}"
        for place, arm in enumerate(declared["arms"])
    ]
    write_text(folder / "sweeps" / "grown.yaml", "# @package _global_\n" + json.dumps({"study": declared}))
    os.chdir(folder)
    sys.argv = ["ablate.run", "-m", "+sweeps=grown", "model=tiny", "tracker=none"]
    sys.argv += ["runtime.plan_only=true", f"runtime.results={folder / 'planned'}"]
    main()


def cells_of(num_cells: int) -> list[Any]:
    """Return so many cells of a plan, composed once."""
    from ablate.compose import load, strict
    from ablate.recipe.identity import Revisions, identify
    from ablate.study.planning import Cell

    config = strict(load(["+experiment=dual_view", "model=tiny", "tracker=none"]))
    cells = []
    for place, seed in itertools.product(range(num_cells // SEEDS), range(SEEDS)):
        train = dataclasses.replace(config.recipe.train, learning_rate=(place + 1) / 1000)
        runtime = dataclasses.replace(config.runtime, study=STUDY, label=f"arm_{place}")
        recipe = dataclasses.replace(config.recipe, train=train)
        identity = identify(recipe, seed, Revisions(source="s", model="m"))
        own = dataclasses.replace(config, recipe=recipe, seed=seed, runtime=runtime)
        cells.append(Cell((), f"arm_{place}", seed, own, identity))
    return cells


def work_through(folder: Path, cells: Sequence[Any]) -> None:
    """Let the loop of the sweeper go through cells, one after the other, each of which fails at once."""
    from ablate.store.results import ResultStore
    from ablate.study.running import Board, run_one_by_one

    board = Board(ResultStore(folder / "worked"), cells)
    run_one_by_one(board, lambda cell, number: RuntimeError("nothing is run here"))
    assert len(board.failed) == len(cells)


def groups_of(num_groups: int) -> list[Any]:
    """Return so many training groups: rows with their reversed twins, one positive and four negatives each."""
    from ablate.records import TrainingGroup

    groups = []
    for number in range(num_groups):
        row, view = number // 2, ("original", "reversed")[number % 2]
        positives, broken = (f"{row}_a",), (f"{row}_b",)
        if view == "reversed":
            positives, broken = broken, positives
        hard = tuple(str((row * 7919 + place * 104729) % 2_000_003) for place in range(3))
        asked = f"query number {row}", f"Only passages of kind {number % 97} count."
        groups.append(TrainingGroup(f"{row}/{view}", str(row), *asked, view, positives, hard, broken))
    return groups


def epoch(groups: Sequence[Any]) -> int:
    """Plan an epoch of groups, make all of its batches and return how many groups they hold."""
    import numpy as np

    from ablate.data.batches import Tokenised, prepare_steps

    def tokenise(texts: Sequence[Any]) -> Tokenised:
        return Tokenised([np.zeros(8, np.int32)] * len(texts), 0)

    steps, _ = prepare_steps(groups, tokenise, tokenise, batch_size=8, epochs=1, seed=0, in_batch_negatives=True)
    return sum(len(steps[step].group_ids) for step in range(len(steps)))


def task(what: str, size: int, folder: Path) -> dict[str, Any]:
    """Do one task in this process and return what it took; the material lies in the folder."""
    kind, _, name = what.partition(": ")
    call: Callable[[], Any]
    path = folder / "rows.jsonl"
    if name == "epoch":
        groups = groups_of(size)

        def call() -> None:
            assert epoch(groups) == size
    elif name == "check":
        from ablate.check import main as check

        words = ["source=promptriever", f"source.path={path}", "+evaluation_source=world", "model=tiny"]

        def call() -> None:
            told = io.StringIO()
            with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
                code = check(words)
            assert code == 0, told.getvalue()[-2000:]
    elif kind == "rows":
        drawn = {"read": lambda: rows.stream(path), "mix": lambda: rows.mix(path)}.get(name)

        def call() -> None:
            assert (drawn() if drawn else rows.mix(path, None)) == size
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
    elif name == "worked through":
        cells = cells_of(size)

        def call() -> None:
            with contextlib.redirect_stderr(io.StringIO()):
                work_through(folder, cells)
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
    return [f"{kind}: {name}" for name in TASKS.get(kind, ("planned", "worked through", *COMMANDS))]


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


def measure(sizes: dict[str, Sequence[int]], kept: Path | None, *, full: bool = False) -> list[Measured]:
    """Measure every task at every size and return all measurements, those that were kept before among them.

    Not `full`: some tasks are left out at the sizes that `MOST` says are too large for them.
    """
    measured = _kept(kept)
    known = {(point.what, point.size) for point in measured}
    for kind, of_kind in sizes.items():
        for size in of_kind:
            asked = [what for what in _tasks(kind) if full or size <= MOST.get(what, size)]
            missing = [what for what in asked if (what, size) not in known]
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
    parser.add_argument("--json", type=output_file, metavar="FILE.json", help="write the measurements there")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        _in_child(args.child)
        return 0
    sizes = {kind: [*getattr(args, kind), *(FULL[kind] if args.full else ())] for kind in usual if kind in args.only}
    measured = measure(sizes, args.kept, full=args.full)
    tables = [to_markdown(table) for table in tables_of(measured)]
    print("\n".join(tables))
    made_on = f"one thread of {machine().get('processor', 'an unknown processor')}, {now()[:10]}"
    if args.to:
        words = (__doc__ or "").split("\n\n", 2)[2].rstrip()
        origin = f"Written by `python -m benchmarks.growth` ({made_on})."
        if args.kept:
            origin = (
                f"Measured by the functions of `python -m benchmarks.growth`, not all by one command or at one time,\n"
                f"and put together with `--kept` ({made_on})."
            )
        section = "\n".join([HEADING, "", origin, "", words, "", *tables])
        before = args.to.read_text(encoding="utf-8") if args.to.exists() else ""
        write_text(args.to, with_section(before, section))
    if args.json:
        points = [point._asdict() for point in measured]
        write_text(args.json, json.dumps({"made_on": made_on, "measurements": points}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
