"""An evaluation in files: scores in Parquet, rankings as TREC runs, what a reader must know, and what it was scored by.

The judgments suffice to score another system's rankings of the same documents without the source, see `read_judgments`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ablate.evaluation.summary import Evaluation
from ablate.evaluation.trec import read_run, write_bytes, write_run
from ablate.recipe.values import digest
from ablate.records import EvaluationQuery, EvaluationSet, Passage, QueryScore, UserError
from ablate.retrieval.rankings import Ranking
from ablate.store.files import (
    CLUSTERS_FILE,
    JUDGMENTS_FILE,
    NOTES_FILE,
    RANKINGS_FOLDER,
    SCORES_FILE,
    safe_name,
    write_atomically,
)
from ablate.store.integrity import is_inside, read_json, reading, unpacked
from ablate.timing import timed


def write_scores(path: Path | str, scores: Sequence[QueryScore]) -> None:
    """Write scores as Parquet in the given order; the same scores give the same bytes.

    Columns are those of `QueryScore`: dictionary-encoded strings, and `value` in float64. Raises UserError naming a
    score that is not finite.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for score in scores:
        if not math.isfinite(score.value):
            where = f"({score.dataset}, {score.condition}, {score.direction!r})"
            raise UserError(f"score {score.measure} of unit {score.unit_id!r} {where} is {score.value}; leave it out")
    columns: dict[str, pa.Array] = {}
    for place, name in enumerate(QueryScore._fields):
        values = [score[place] for score in scores]
        text = name != "value"
        columns[name] = pa.array(values, pa.string()).dictionary_encode() if text else pa.array(values, pa.float64())
    pq.write_table(pa.table(columns), Path(path), compression="zstd")


def read_scores(path: Path | str) -> tuple[QueryScore, ...]:
    """Read what `write_scores` wrote; raises UserError naming the file when columns are missing or it is no Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(Path(path))
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as Parquet ({reason}); evaluate again to write it") from None
    missing = [name for name in QueryScore._fields if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: column {missing[0]!r} is missing; scores have {', '.join(QueryScore._fields)}")
    columns = [table.column(name).to_pylist() for name in QueryScore._fields]
    return tuple(QueryScore(*row) for row in zip(*columns, strict=True))


@timed("write files")
def write_evaluation(folder: Path, evaluation: Evaluation) -> tuple[str, ...]:
    """Write an evaluation into a folder and return the file names; equal evaluations give equal bytes."""
    files = [SCORES_FILE, NOTES_FILE]
    write_scores(folder / SCORES_FILE, evaluation.scores)
    (folder / RANKINGS_FOLDER).mkdir(exist_ok=True)
    places = []
    for (dataset, condition), rankings in sorted(evaluation.rankings.items()):
        name = f"{RANKINGS_FOLDER}/{safe_name(dataset)}.{safe_name(condition)}.trec.gz"
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
    if evaluation.sets:
        judgments = {name: _as_plain(bed) for name, bed in evaluation.sets.items()}
        write_bytes(folder / JUDGMENTS_FILE, json.dumps(judgments, ensure_ascii=False).encode())
        files.append(JUDGMENTS_FILE)
    clusters = {name: UnitClusters.of_set(bed)._asdict() for name, bed in evaluation.sets.items() if bed.clusters}
    if clusters:
        write_bytes(folder / CLUSTERS_FILE, json.dumps(clusters, ensure_ascii=False).encode())
        files.append(CLUSTERS_FILE)
    return tuple(files)


class UnitClusters(NamedTuple):
    """To which clusters the units of one set belong."""

    clusters: dict[str, dict[str, str]]
    """As `EvaluationSet.clusters`."""
    base: dict[str, str]
    """query_id -> base_id."""

    @classmethod
    def of_set(cls, bed: EvaluationSet) -> UnitClusters:
        """Return the clusters of a set."""
        return cls(bed.clusters, {query.query_id: query.base_id for query in bed.queries})

    def of(self, kind: str, unit_id: str) -> str:
        """Return the cluster of a unit, which is a query or a base query; empty where it has none of this kind."""
        return self.clusters.get(kind, {}).get(self.base.get(unit_id, unit_id), "")


def read_clusters(folder: Path) -> dict[str, UnitClusters]:
    """Return dataset -> the clusters of its units; nothing where no set names some, as in evaluations of before.

    Raises UserError for a file that cannot be read.
    """
    path, remedy = folder / CLUSTERS_FILE, f"delete {folder} and run again"
    if not path.exists():
        return {}
    with reading(path, remedy):
        values = json.loads(unpacked(path, remedy))
        return {name: UnitClusters(stored["clusters"], stored["base"]) for name, stored in values.items()}


def read_judgments(folder: Path) -> dict[str, EvaluationSet]:
    """Return dataset -> its set as far as scores need it: queries, judgments and document ids, without the documents.

    Raises UserError when the evaluation was written before judgments were kept, or its file cannot be read.
    """
    path, remedy = folder / JUDGMENTS_FILE, f"delete {folder} and run again"
    if not path.exists():
        raise UserError(f"{path} is not there: this evaluation was made before judgments were kept; {remedy}")
    known = read_clusters(folder)
    with reading(path, remedy):
        values = json.loads(unpacked(path, remedy))
        sets = {name: _from_plain(name, stored) for name, stored in values.items()}
    return {
        name: dataclasses.replace(bed, clusters=known[name].clusters) if name in known else bed
        for name, bed in sets.items()
    }


def _as_plain(bed: EvaluationSet) -> dict[str, Any]:
    only_some_have = {
        "candidates": bed.candidates,
        "own_documents": bed.own_documents,
        "plain_of": bed.plain_of,
        "measures": bed.measures,
        "provenance": bed.provenance,
    }
    return {
        **{name: value for name, value in only_some_have.items() if value},
        "documents": [passage.doc_id for passage in bed.documents],
        "queries": [list(query) for query in bed.queries],
        "qrels": bed.qrels,
        "changed_documents": bed.changed_documents,
        "opposites": bed.opposites,
        "pairs": None if bed.pairs is None else [[*opposite, pairs] for opposite, pairs in bed.pairs.items()],
    }


def _from_plain(name: str, values: dict[str, Any]) -> EvaluationSet:
    pairs = values["pairs"]
    return EvaluationSet(
        name=name,
        documents=tuple(Passage(doc_id, "") for doc_id in values["documents"]),
        queries=tuple(EvaluationQuery(*query) for query in values["queries"]),
        qrels=values["qrels"],
        changed_documents={query_id: tuple(doc_ids) for query_id, doc_ids in values["changed_documents"].items()},
        opposites=tuple((first, second) for first, second in values["opposites"]),
        pairs=None if pairs is None else {(a, b): tuple((x, y) for x, y in doc_pairs) for a, b, doc_pairs in pairs},
        candidates=None if "candidates" not in values else {q: tuple(ids) for q, ids in values["candidates"].items()},
        own_documents=_own_documents(values),
        plain_of=values.get("plain_of", {}),
        measures=tuple(values.get("measures", ())),
        provenance=values.get("provenance", {}),
    )


def _own_documents(values: dict[str, Any]) -> dict[str, str]:
    """Return what was written, or what the flag of earlier evaluations stands for: the document with the query's id."""
    if values.get("without_own_id"):
        return {query[0]: query[0] for query in values["queries"]}
    own: dict[str, str] = values.get("own_documents", {})
    return own


def judgments_digest(bed: EvaluationSet) -> str:
    """Return the id of everything that decides the scores of a ranking on a set; the texts of documents do not."""
    documents = tuple(Passage(doc_id, "") for doc_id in sorted(passage.doc_id for passage in bed.documents))
    return digest(_as_plain(dataclasses.replace(bed, documents=documents)))


@timed("read files")
def read_evaluation(folder: Path, *, with_rankings: bool = False) -> Evaluation:
    """Read back what `write_evaluation` wrote; rankings stay in their files unless they are asked for.

    `folder`: one whose files were checked, see `ResultStore.whole`. Raises UserError naming a file that is not ours.
    """
    path, remedy = folder / NOTES_FILE, f"delete {folder} and run again"
    notes = read_json(path, remedy)
    with reading(path, remedy):
        return _evaluation_of(folder, notes, with_rankings)


def read_counts(folder: Path) -> dict[str, dict[str, float]]:
    """Return dataset, as it is recorded -> what was counted when it was scored; nothing where nothing was.

    `folder`: one whose files were checked, see `ResultStore.whole`. Raises UserError naming a file that is not ours.
    """
    path, remedy = folder / NOTES_FILE, f"delete {folder} and run again"
    notes = read_json(path, remedy)
    with reading(path, remedy):
        return {dataset: dict(counts) for dataset, counts in notes.get("counts", {}).items()}


def read_rankings(folder: Path, dataset: str, condition: str) -> list[Ranking]:
    """Return the stored rankings of one data set, as it is recorded, under one condition; empty where none were kept.

    `folder`: one whose files were checked, see `ResultStore.whole`. Raises UserError naming a file that is not ours.
    """
    path, remedy = folder / NOTES_FILE, f"delete {folder} and run again"
    notes = read_json(path, remedy)
    with reading(path, remedy):
        places = {(name, posed): file for name, posed, file in notes["rankings"]}
        if (dataset, condition) not in places:
            return []
        return list(read_run(_ranking_file(folder, places[dataset, condition])).values())


def _ranking_file(folder: Path, name: str) -> Path:
    if not is_inside(name):
        raise UserError(f"{folder / NOTES_FILE} names {name!r}, which is not in its folder")
    return folder / name


def _evaluation_of(folder: Path, notes: dict[str, Any], with_rankings: bool) -> Evaluation:
    rankings: dict[tuple[str, str], list[Ranking]] = {}
    if with_rankings:
        for dataset, condition, name in notes["rankings"]:
            rankings[dataset, condition] = list(read_run(_ranking_file(folder, name)).values())
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
