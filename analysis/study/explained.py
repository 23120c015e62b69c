"""One query of a study: where every arm ranks its documents as it is posed, and which queries decide a contrast."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

import numpy as np

from ablate.evaluation.storage import read_judgments, read_rankings
from ablate.records import CONDITIONS, EvaluationQuery, EvaluationSet, UserError
from ablate.store.files import JUDGMENTS_FILE
from analysis.stats.crossed import unit_differences
from analysis.stats.matrix import Cell, ScoreTable
from analysis.study.evidence import Evidence
from analysis.study.runs import ArmRun, by_arm
from analysis.study.texts import has_texts, with_documents


class DocumentRanks(NamedTuple):
    """One document of a query: its label, its text and its ranks."""

    doc_id: str
    label: str
    """relevant (with its grade where there are several), excluded (it breaks this instruction), or empty."""
    text: str
    """Empty where the source could not be read."""
    ranks: Mapping[str, tuple[int, ...]]
    """arm -> rank in each of its seeds, from 1; one more than the length of a list that does not have it."""


class Posed(NamedTuple):
    """A query as it is posed, with the documents that an arm ranks high or that are judged."""

    query: EvaluationQuery
    num_relevant: int
    documents: tuple[DocumentRanks, ...]
    ndcg: Mapping[str, float]
    """arm -> mean over seeds, where this was measured."""


@dataclass(frozen=True)
class Explained:
    """A base query in all of its forms."""

    dataset: str
    base_id: str
    posed: tuple[Posed, ...]
    seeds: Mapping[str, tuple[int, ...]]
    """arm -> its seeds, in the order of the ranks."""
    remarks: tuple[str, ...] = ()
    """What could not be read, and why."""


class Deciding(NamedTuple):
    """A unit with its difference, mean over seeds."""

    unit_id: str
    difference: float
    share: float
    """Of the sum of all units' differences in the direction of the contrast; 0 for the others."""
    query: str
    instruction: str


@dataclass(frozen=True)
class Judged:
    """The judgments of a study by data set, and the run whose evaluation holds them."""

    sets: Mapping[str, EvaluationSet]
    runs: Mapping[str, ArmRun] = field(default_factory=dict)


def judged_sets(evidence: Evidence) -> Judged:
    """Return every data set of a study as the study calls it; raises UserError where no judgments were kept."""
    sets: dict[str, EvaluationSet] = {}
    runs: dict[str, ArmRun] = {}
    for run in sorted(evidence.runs, key=lambda run: run.train is None):
        if JUDGMENTS_FILE not in run.evaluation.content_sha256:
            continue
        names = run.evaluation.dataset_names(evidence.study)
        if all(names.get(name, name) in sets for name in run.evaluation.counts["candidates"]):
            continue
        folder = evidence.store.checked(run.evaluation, JUDGMENTS_FILE).parent
        for name, bed in read_judgments(folder).items():
            sets.setdefault(names.get(name, name), bed)
            runs.setdefault(names.get(name, name), run)
    if not sets:
        raise UserError(f"study {evidence.study!r} kept no judgments with its scores; evaluate again to keep them")
    return Judged(sets, runs)


def explain(evidence: Evidence, query_id: str, arms: Sequence[str], depth: int) -> Explained:
    """Return how the arms (all where none is named) rank for a query, under all conditions of its base query.

    `query_id`: of a query or a base query. `depth`: documents that any arm ranks this high, mean over seeds, are shown
    beside the judged ones. Raises UserError for an unknown query or arm, and for evaluations without rankings.
    """
    judged = judged_sets(evidence)
    dataset, queries = _find(judged, query_id)
    bed, remarks = judged.sets[dataset], list[str]()
    texts = with_documents(evidence, judged.runs[dataset], {bed.name: bed}, remarks).get(bed.name, bed)
    known = by_arm(evidence.runs)
    for arm in arms:
        if arm not in known:
            raise UserError(f"--arm {arm!r} has no scores in study {evidence.study!r}; arms are {', '.join(known)}")
    chosen = {arm: runs for arm, runs in known.items() if arm in (arms or known)}
    ranks = {arm: [ranks_of(evidence, run, bed.name, queries) for run in runs] for arm, runs in chosen.items()}
    passages = {passage.doc_id: passage for passage in texts.documents} if has_texts(texts) else {}
    posed = []
    for query in sorted(queries, key=lambda query: CONDITIONS.index(query.condition)):
        grades = bed.qrels.get(query.query_id, {})
        excluded = set(bed.changed_documents.get(query.query_id, ()))
        by_run = {arm: [of_run[query.query_id] for of_run in runs] for arm, runs in ranks.items()}
        shown = [doc_id for doc_id, grade in grades.items() if grade > 0] + sorted(excluded)
        for runs in by_run.values():
            mean = mean_ranks(runs)
            shown += [doc_id for doc_id, rank in mean.items() if rank <= depth]
        documents = tuple(
            DocumentRanks(
                doc_id,
                label_of(grades.get(doc_id, 0), doc_id in excluded, max(grades.values(), default=1)),
                " ".join(f"{passages[doc_id].title} {passages[doc_id].text}".split()) if doc_id in passages else "",
                {arm: tuple(run.get(doc_id, len(run) + 1) for run in runs) for arm, runs in by_run.items()},
            )
            for doc_id in dict.fromkeys(shown)
        )
        first = next(iter(by_run))
        ordered = sorted(documents, key=lambda document: (fmean(document.ranks[first]), document.doc_id))
        relevant = sum(grade > 0 for grade in grades.values())
        posed.append(Posed(query, relevant, tuple(ordered), _ndcg(evidence.table, dataset, query)))
    seeds = {arm: tuple(run.seed for run in runs) for arm, runs in chosen.items()}
    return Explained(dataset, queries[0].base_id, tuple(posed), seeds, tuple(remarks))


def _find(judged: Judged, query_id: str) -> tuple[str, list[EvaluationQuery]]:
    """Return the data set of a query or base query, and all queries of its base query."""
    for dataset, bed in judged.sets.items():
        base = next((query.base_id for query in bed.queries if query_id in (query.query_id, query.base_id)), None)
        if base is not None:
            return dataset, [query for query in bed.queries if query.base_id == base]
    known = [name for bed in judged.sets.values() for query in bed.queries for name in (query.base_id, query.query_id)]
    near = difflib.get_close_matches(query_id, known, n=1, cutoff=0.8)
    meant = f"; did you mean {near[0]!r}?" if near else "; --worst finds queries to look at"
    raise UserError(f"--query {query_id!r} is in none of {', '.join(judged.sets)}{meant}")


def ranks_of(
    evidence: Evidence, run: ArmRun, dataset: str, queries: Sequence[EvaluationQuery]
) -> dict[str, dict[str, int]]:
    """Return query id -> document id -> rank, from the stored rankings of a run; `dataset` as it is recorded.

    Raises UserError where a query has none.
    """
    wanted = {query.query_id for query in queries}
    found = {
        ranking.query_id: {doc_id: place for place, doc_id in enumerate(ranking.doc_ids, start=1)}
        for condition in dict.fromkeys(query.condition for query in queries)
        for ranking in read_rankings(evidence.store.whole(run.evaluation), dataset, condition)
        if ranking.query_id in wanted
    }
    lacking = sorted(wanted - set(found))
    if lacking:
        raise UserError(f"{run.arm} seed {run.seed} kept no ranking of {lacking[0]}; evaluate again to keep it")
    return found


def mean_ranks(runs: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return document id -> rank, mean over seeds; one more than the length of a list that does not have it."""
    documents = dict.fromkeys(doc_id for run in runs for doc_id in run)
    return {doc_id: fmean(run.get(doc_id, len(run) + 1) for run in runs) for doc_id in documents}


def label_of(grade: int, is_excluded: bool, most: int) -> str:
    """Return what a document is to a query whose highest grade is `most`: relevant, excluded, or nothing."""
    if grade > 0:
        return f"relevant ({grade})" if most > 1 else "relevant"
    return "excluded" if is_excluded else ""


def _ndcg(table: ScoreTable, dataset: str, query: EvaluationQuery) -> dict[str, float]:
    scores = table.cells.get(Cell(dataset, query.condition, query.direction, "nDCG@10"))
    if scores is None or query.query_id not in scores.units:
        return {}
    column = scores.units.index(query.query_id)
    return {arm: float(values[:, column].mean()) for arm, values in scores.values_SQ.items()}


def deciding(
    evidence: Evidence, table: ScoreTable, cell: Cell, weights: Mapping[str, float], limit: int
) -> list[Deciding]:
    """Return the units of a cell that move a contrast furthest, in its own direction first, then against it.

    Raises UserError for an arm without scores there.
    """
    scores = table.cells[cell]
    for arm, weight in weights.items():
        if weight and arm not in scores.values_SQ:
            raise UserError(f"arm {arm!r} has no {cell}; choose another measure or arm")
    (differences,) = unit_differences({arm: scores.values_SQ[arm] for arm in weights}, weights)
    side = 1.0 if differences.mean() >= 0 else -1.0
    total = float(np.sum(np.maximum(side * differences, 0)))
    order = np.argsort(-side * differences, kind="stable")
    half = (limit + 1) // 2
    rows = dict.fromkeys([*order[:half].tolist(), *order[::-1][: limit - half].tolist()])
    bed = judged_sets(evidence).sets.get(cell.dataset)
    queries = {} if bed is None else texts_of_units(bed, cell)
    return [
        Deciding(
            scores.units[row],
            float(differences[row]),
            max(side * float(differences[row]), 0.0) / total if total else 0.0,
            *queries.get(scores.units[row], ("", "")),
        )
        for row in rows
    ]


def texts_of_units(bed: EvaluationSet, cell: Cell) -> dict[str, tuple[str, str]]:
    """Return unit -> query and instruction; a base query stands for its changed form."""
    texts: dict[str, tuple[str, str]] = {}
    for query in bed.queries:
        texts[query.query_id] = (query.query, query.instruction)
        if query.condition == "changed" or query.base_id not in texts:
            texts[query.base_id] = (query.query, query.instruction)
    return texts
