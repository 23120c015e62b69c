"""Beside sentence-transformers: the same computation on both sides, then what each takes for it.

    make bench                                       ten minutes on two cores; prints the section
    make bench ARGS="--to docs/performance.md"       and puts it into the page, in place of the one that is there
    python -m benchmarks.beside --quick              a tiny model in seconds: what it does, not what it takes

Parts, in order: equality of tokens, vectors, loss and gradients; training, round by round in processes that run by
turns; encoding; whole cells (train and evaluate), ours by one command, with the scores that they end at. The
other side is given the rows and the test beds ready made, which we build ourselves in a cell. Needs the package
sentence-transformers (the extra `extras`); real text is the folder `scifact` below ABLATE_DATA_DIR. Exit code 1: the
two sides do not compute the same.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ablate.cli.command import command, finish, output_file, write_text
from ablate.cli.overrides import quoted
from ablate.records import UserError
from benchmarks.peer import page
from benchmarks.peer.processes import Worker, one_by_one

PARTS = ("equality", "training", "encoding", "cells")
ARM = "dual_view"
"""Its groups share passages, as those of most arms do: where texts stand twice in a batch, we encode them once."""
UNTOUCHED = "untouched"
REAL_ARM = "query_only"
"""Real text has no instruction negatives: its queries and abstracts alone are what both sides work on."""
STUDY = "beside"
SEEDS = (1, 2)
PACKAGES = ("ablate", "sentence-transformers", "torch", "transformers", "accelerate", "datasets")
KINDS = ("cpu", "wall")
SHOWN = ("nDCG@10", "p-MRR", "satisfying over violating")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = command("benchmarks.beside", (__doc__ or "").splitlines()[0], "--only equality training --rounds 3")
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    made.add_argument("--quick", action="store_true", help="a tiny model and one round, without cells")
    made.add_argument("--rounds", type=int, default=5, help="rounds that are measured (default 5)")
    made.add_argument("--batch-size", type=int, default=8, help="groups per step (default 8, as both sides have it)")
    made.add_argument("--groups", type=int, default=96, help="groups of a cell (default 96)")
    made.add_argument("--documents", type=int, default=800, help="documents of the generated world (default 800)")
    made.add_argument("--encoded", type=int, default=24, help="documents encoded in a round (default 24)")
    made.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of another backbone (default: MiniLM as shipped)"
    )
    made.add_argument("--threads", type=int, default=1, help="threads of each process (default 1)")
    made.add_argument("--to", type=output_file, metavar="PAGE", help="page whose section is replaced or added")
    made.add_argument("--json", type=output_file, metavar="OUT", help="file for the record of all rounds")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for, print the section, write it where it is asked for, and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    return finish(lambda options: run(options, words), parser(), argv)


def run(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run the parts; raises UserError for a package that is missing and numbers that cannot be."""
    missing = [name for name in ("sentence_transformers", "datasets") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{missing[0]} is not installed and stands on the other side; make bench installs it")
    for name in ("rounds", "batch_size", "groups", "documents", "encoded", "threads"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')}={getattr(options, name)} must be at least 1")
    if options.quick:
        options.rounds, options.groups, options.documents, options.encoded = 1, 32, 600, 16
        options.only = [part for part in options.only if part != "cells"]
    if options.groups < options.batch_size * (options.rounds + 1):
        raise UserError(
            f"--groups={options.groups} is less than --batch-size={options.batch_size} times the {options.rounds + 1} "
            f"rounds, the one that is dropped with them; raise it to {options.batch_size * (options.rounds + 1)}"
        )
    record = _start(options, words)
    with tempfile.TemporaryDirectory() as made:
        for part in options.only:
            _say(part)
            {"equality": _equality, "training": _training, "encoding": _encoding, "cells": _cells}[part](
                options, record, Path(made)
            )
    record["machine"]["load"] = sorted([record["machine"]["load"][0], os.getloadavg()[0]])
    record["goals"] = page.goals(record)
    section = page.markdown(record)
    print(section)
    if options.to:
        write_text(options.to, page.placed(options.to.read_text("utf-8") if options.to.exists() else "", section))
    if options.json:
        write_text(options.json, json.dumps(record, indent=1) + "\n")
    return int(not record.get("equality", {}).get("equal", True))


def _say(what: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)


def _start(options: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    import torch

    from ablate.model.device import native_bf16, processor_flags, resolve_device

    device = resolve_device("auto")
    flags = [name for name in ("amx_bf16", "avx512_bf16") if name in processor_flags()]
    names = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    skipped = []
    if not native_bf16(device):
        skipped.append("bf16, which this processor does not multiply natively")
    if device == "cpu":
        skipped.append("a GPU, and with it FlashAttention without padding: none is here")
    skipped += [f"{part}, which was not asked for" for part in PARTS if part not in options.only]
    return {
        "command": " ".join(["python -m benchmarks.beside", *words]),
        "date": datetime.date.today().isoformat(),
        "versions": {name: version(name) for name in PACKAGES},
        "machine": {
            "processor": names[0].partition(": ")[2] if names else "unknown processor",
            "flags": flags,
            "cores": len(os.sched_getaffinity(0)),
            "load": [os.getloadavg()[0]],
            "device": torch.cuda.get_device_name() if device == "cuda" else "no GPU",
        },
        "clock": "wall" if device == "cuda" else "cpu",
        "precisions": ["fp32", "bf16"] if native_bf16(device) else ["fp32"],
        **{name: getattr(options, name) for name in ("threads", "batch_size", "rounds", "groups", "documents")},
        "skipped": skipped,
    }


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8", "replace").splitlines() if path.is_file() else []


def _overrides(options: argparse.Namespace, seed: int, arm: str = ARM) -> list[str]:
    """Return what a cell of an arm on the generated world is, on either side."""
    return [
        f"+experiment={arm}",
        f"source.documents={options.documents}",
        *_settings(options, seed),
    ]


def _settings(options: argparse.Namespace, seed: int) -> list[str]:
    """Return what cells of every source have in common."""
    return [
        "evaluation.sets=[test]",
        f"budget.limit={options.groups}",
        f"train.batch_size={options.batch_size}",
        f"seed={seed}",
        "runtime.dev_set=null",
        f"runtime.threads={options.threads}",
        f"runtime.study={STUDY}",
        "tracker=none",
        *_model(options),
    ]


def _model(options: argparse.Namespace) -> list[str]:
    """Return which backbone both sides have."""
    if options.quick:
        return ["model=tiny"]
    return [] if options.weights is None else ["model=local", quoted("model.path", options.weights.resolve())]


def _world(options: argparse.Namespace, folder: Path, seed: int = SEEDS[0]) -> Path:
    """Return the folder of the material of the generated world, made once."""
    from benchmarks.peer.material import make

    place = folder / f"world_{seed}"
    if not place.is_dir():
        make("generated world", _overrides(options, seed), place)
    return place


def _workloads(options: argparse.Namespace, record: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Return name -> folder of the material of the world and of real text where it is."""
    from benchmarks.peer.material import MATERIAL_FILE, make

    places = {"generated world": _world(options, folder)}
    data = os.environ.get("ABLATE_DATA_DIR")
    text = None if data is None else Path(data) / "scifact"
    place, reason = folder / "scifact", "real text, because ABLATE_DATA_DIR does not name a folder with scifact in it"
    if options.quick:
        reason = "real text, because of --quick"
    elif text is not None and text.is_dir():
        real = [f"+experiment={REAL_ARM}", "source=beir", quoted("source.path", text.resolve()), "source.rows=all"]
        try:
            if not (place / MATERIAL_FILE).is_file():
                make("scifact", [*real, *_settings(options, SEEDS[0])], place)
            return {**places, "scifact": place}
        except UserError as error:
            reason = f"real text: {error}"
    if reason not in record["skipped"]:
        record["skipped"].append(reason)
    return places


def _equality(options: argparse.Namespace, record: dict[str, Any], folder: Path) -> None:
    with Worker(_world(options, folder), "compare", {}, options.threads) as worker:
        record["equality"] = worker.answer()


def _best(options: argparse.Namespace, record: dict[str, Any], place: Path) -> dict[str, dict[str, Any]]:
    """Return precision -> the quickest setting of the other side, tried on the first batches; the trial is recorded."""
    if "trial" not in record:
        setting = {"precisions": record["precisions"], "repeats": 1 if options.quick else 2}
        with Worker(place, "choose", setting, options.threads) as worker:
            record["trial"] = worker.round()["milliseconds"]
    order = sorted(record["trial"], key=lambda name: record["trial"][name])
    tried = [json.loads(name) for name in order]
    return {name: next(one for one in tried if one["precision"] == name) for name in record["precisions"]}


def _training(options: argparse.Namespace, record: dict[str, Any], folder: Path) -> None:
    from benchmarks.peer import theirs
    from benchmarks.peer.material import read

    record["training"], record["limit"] = [], {}
    for name, place in _workloads(options, record, folder).items():
        _say(f"training on {name}")
        best, material = _best(options, record, place), read(place)
        sides = [("default", "fp32", theirs.DEFAULT)]
        sides += [("best", precision, theirs.Setting(**best[precision])) for precision in best]
        jobs: list[tuple[str, str, str, str, dict[str, Any]]] = [
            (side, precision, setting.words, "train_theirs", dataclasses.asdict(setting))
            for side, precision, setting in sides
        ]
        for precision in record["precisions"]:
            jobs.append(("ours", precision, f"{precision}, dropout 0", "train_ours", {"precision": precision}))
            flops = 1e9 if options.quick else sum(material.flops["ours"][1 : options.rounds + 1]) / options.rounds
            jobs.append(("limit", precision, "", "multiply", {"precision": precision, "flops": flops}))
        costs = _by_turns([(task, setting) for *_, task, setting in jobs], options, place)
        clock, size = record["clock"], options.batch_size
        rates = {
            precision: [cost["flops"] / cost[clock] for cost in taken]
            for (side, precision, *_), taken in zip(jobs, costs, strict=True)
            if side == "limit"
        }
        record["limit"] |= {precision: page.spread(rate)[0] for precision, rate in rates.items()}
        for (side, precision, words, *_), taken in zip(jobs, costs, strict=True):
            if side == "limit":
                continue
            work = material.flops["ours" if side == "ours" else "theirs"][1 : options.rounds + 1]
            times = {kind: [_per_group(cost, kind, size, len(material.groups)) for cost in taken] for kind in KINDS}
            done = zip(work, times[clock], rates[precision], strict=True)
            record["training"].append(
                {
                    "workload": name,
                    "side": side,
                    "precision": precision,
                    "setting": words,
                    **times,
                    "peak_mib": taken[-1]["gpu_peak_mib"] or taken[-1]["peak_mib"],
                    "share": page.spread([1000 * flops / (size * time) / rate for flops, time, rate in done])[0],
                }
            )


def _per_group(cost: dict[str, Any], kind: str, size: int, num_groups: int) -> float:
    """Return milliseconds per group of a round of one batch, with the group's share of what was done once for all."""
    return 1000 * (cost[kind] / size + cost.get("once", {}).get(kind, 0.0) / num_groups)


def _by_turns(
    jobs: Sequence[tuple[str, dict[str, Any]]], options: argparse.Namespace, place: Path
) -> list[list[dict[str, Any]]]:
    """Return of each (task, setting) the costs of its rounds; one of them computes at a time, the first round drops."""
    with contextlib.ExitStack() as open_workers:
        workers = [open_workers.enter_context(Worker(place, task, setting, options.threads)) for task, setting in jobs]
        rounds = [[worker.round() for worker in workers] for _ in range(options.rounds + 1)]
    return [list(costs) for costs in zip(*rounds[1:], strict=True)]


def _encoding(options: argparse.Namespace, record: dict[str, Any], folder: Path) -> None:
    record["encoding"] = []
    clock = record["clock"]
    for name, place in _workloads(options, record, folder).items():
        _say(f"encoding of {name}")
        both = {"documents": options.encoded}
        jobs: list[tuple[str, str, str, str, dict[str, Any]]] = [
            ("ours", "fp32", "fp32", "encode_ours", both),
            *_encoders(record["precisions"], both),
        ]
        costs = _by_turns([(task, setting) for *_, task, setting in jobs], options, place)
        for (side, precision, words, *_), taken in zip(jobs, costs, strict=True):
            speeds = [cost["documents"] / cost[clock] for cost in taken]
            row = {"workload": name, "side": side, "precision": precision, "setting": words, "per_second": speeds}
            record["encoding"].append(row)


def _encoders(precisions: Sequence[str], both: dict[str, Any]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Yield the settings of the other side: as it comes, in batches of 16, and in bf16, which we do not offer."""
    for side, precision, batch in (("default", "fp32", 32), ("best", "fp32", 16), ("best", "bf16", 16)):
        if precision in precisions:
            setting = {**both, "precision": precision, "attention": "sdpa", "batch": batch}
            yield side, precision, f"{precision}, sdpa, batches of {batch}", "encode_theirs", setting


def _cells(options: argparse.Namespace, record: dict[str, Any], folder: Path) -> None:
    """Do the cells of one arm and all seeds: ours by one command, the other side's each by a process of its own."""
    from benchmarks.peer import theirs

    places = {seed: _world(options, folder, seed) for seed in SEEDS}
    best = _best(options, record, places[SEEDS[0]])
    record["cell"] = (
        f"{options.groups} groups of the arm {ARM} on the generated world of {options.documents:,} documents, the "
        "model saved, then the test bed by our evaluation, encoded in fp32. Several of ours are one command, the other "
        "side's are a process each. The other side is given rows and test bed ready made, and ours builds them. The "
        "untouched backbone, which a study measures once, is left out."
    )
    sides = [("default", "fp32", theirs.DEFAULT)]
    sides += [("best", precision, theirs.Setting(**best[precision])) for precision in record["precisions"]]
    record["cells"], record["scores"] = [], {}
    ends: dict[tuple[str, int], dict[str, float]] = {}
    measured = folder / "untouched"
    one_by_one([_own_cells(options, measured, SEEDS[:1], UNTOUCHED, "fp32")], options.threads)
    for precision in record["precisions"]:
        for seeds in (SEEDS[:1], SEEDS):
            _say(f"ours, {precision}, {len(seeds)} cell(s)")
            results = shutil.copytree(measured, folder / f"results_{precision}_{len(seeds)}")
            took = one_by_one([_own_cells(options, results, seeds, ARM, precision)], options.threads)
            record["cells"].append(_row("ours", precision, f"{precision}, dropout 0", len(seeds), took))
            ends |= {("ours " + precision, seed): _scores(results, seed) for seed in seeds}
    for side, precision, setting in sides:
        _say(f"{side}, {setting.words}")
        commands = [_other_cell(options, places[seed], seed, setting) for seed in SEEDS]
        took = one_by_one(commands, options.threads)
        record["cells"].append(_row(side, precision, setting.words, len(SEEDS), took))
        for seed, process in zip(SEEDS, took["processes"], strict=True):
            ends[f"{side} {precision}", seed] = json.loads(process["out"].splitlines()[-1])["scores"]
    shown = [name for name in ends["ours fp32", SEEDS[0]] if any(f" {measure} /" in name for measure in SHOWN)]
    for name in sorted(shown):
        values = {side: [ends[f"{side} fp32", seed][name] for seed in SEEDS] for side in ("ours", "best")}
        record["scores"][name] = values


def _row(side: str, precision: str, setting: str, cells: int, took: dict[str, Any]) -> dict[str, Any]:
    return {
        "side": side,
        "precision": precision,
        "setting": setting,
        "cells": cells,
        "wall": took["wall"],
        "cpu": sum(process["cpu"] for process in took["processes"]),
        "peak_mib": max(process["peak_mib"] for process in took["processes"]),
    }


def _own_cells(options: argparse.Namespace, results: Path, seeds: Sequence[int], arm: str, precision: str) -> list[str]:
    """Return the command of the cells of an arm; of several seeds it is a study in one process."""
    words = [*_overrides(options, seeds[0], arm), f"train.precision={precision}", quoted("runtime.results", results)]
    if len(seeds) > 1:
        words = ["-m", *(item for item in words if not item.startswith("seed=")), f"seed={','.join(map(str, seeds))}"]
    return [sys.executable, "-m", "ablate.run", *words]


def _other_cell(options: argparse.Namespace, place: Path, seed: int, setting: Any) -> list[str]:
    told = json.dumps({**dataclasses.asdict(setting), "seed": seed, "threads": options.threads})
    return [sys.executable, "-m", "benchmarks.peer.worker", str(place), "cell_theirs", told]


def _scores(results: Path, seed: int) -> dict[str, float]:
    """Return the means of our cell of a seed, by data set, measure, condition and direction."""
    from analysis.study.evidence import Evidence
    from analysis.study.scores import in_words, means

    table = means(in_words(Evidence(results, STUDY).long_table()))
    return {" / ".join(key): arms[ARM][seed] for key, arms in table.items() if seed in arms.get(ARM, {})}


if __name__ == "__main__":
    sys.exit(main())
