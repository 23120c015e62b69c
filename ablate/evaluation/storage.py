"""An evaluation in files: scores in Parquet, rankings as TREC runs, and what a reader must know beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ablate.evaluation.protocol import Evaluation, read_scores, write_scores
from ablate.evaluation.rankings import Ranking
from ablate.evaluation.trec import read_run, write_run
from ablate.results import safe_name, write_atomically

SCORES_FILE, NOTES_FILE = "scores.parquet", "notes.json"


def write_evaluation(folder: Path, evaluation: Evaluation) -> tuple[str, ...]:
    """Write an evaluation into a folder and return the file names; equal evaluations give equal bytes."""
    files = [SCORES_FILE, NOTES_FILE]
    write_scores(folder / SCORES_FILE, evaluation.scores)
    (folder / "rankings").mkdir(exist_ok=True)
    places = []
    for (dataset, condition), rankings in sorted(evaluation.rankings.items()):
        name = f"rankings/{safe_name(dataset)}.{safe_name(condition)}.trec.gz"
        assert name not in files, "two datasets of one source share a file name"
        write_run(folder / name, rankings)
        files.append(name)
        places.append([dataset, condition, name])
    notes: dict[str, Any] = {
        "rankings": places,
        "listed": evaluation.listed,
        "warnings": evaluation.warnings,
        "candidates": evaluation.candidates,
        "counts": evaluation.counts,
        "opposites": evaluation.opposites,
    }
    if evaluation.provenance:
        notes["provenance"] = evaluation.provenance
    write_atomically(folder / NOTES_FILE, json.dumps(notes, indent=1, sort_keys=True, ensure_ascii=False))
    return tuple(files)


def read_evaluation(folder: Path, *, with_rankings: bool = False) -> Evaluation:
    """Read back what `write_evaluation` wrote; rankings stay in their files unless they are asked for."""
    notes = json.loads((folder / NOTES_FILE).read_text(encoding="utf-8"))
    rankings: dict[tuple[str, str], list[Ranking]] = {}
    if with_rankings:
        for dataset, condition, name in notes["rankings"]:
            rankings[dataset, condition] = list(read_run(folder / name).values())
    return Evaluation(
        scores=read_scores(folder / SCORES_FILE),
        rankings=rankings,
        listed={
            dataset: {reason: tuple(ids) for reason, ids in reasons.items()}
            for dataset, reasons in notes["listed"].items()
        },
        warnings=tuple(notes["warnings"]),
        candidates=notes["candidates"],
        counts=notes["counts"],
        opposites={dataset: tuple((a, b) for a, b in pairs) for dataset, pairs in notes["opposites"].items()},
        provenance=notes.get("provenance", {}),
    )
