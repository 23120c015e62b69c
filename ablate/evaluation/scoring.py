"""From rankings to per-query scores: every judged query has a score under every condition."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ablate.evaluation import measures
from ablate.evaluation.candidates import candidate_digest, check_lists, check_ranked
from ablate.evaluation.measures import MeasureResult, Opposite
from ablate.evaluation.rankers import Dense, Ranker
from ablate.evaluation.summary import INSTRUCTED, NDCG, PAIRS, QUERY_MEASURES, ROBUSTNESS, Evaluation, by_measure
from ablate.records import CONDITIONS, Condition, EvaluationQuery, EvaluationSet, QueryScore, UserError
from ablate.retrieval.rankings import Ranking, by_query
from ablate.retrieval.vectors import Encoder, Retrieval
from ablate.timing import timed

NO_PLAIN = "the set has no plain query of the same base query"
SEVERAL_PLAIN = "the set has several plain queries of the same base query, so which ranking ignores it is open"
PLAIN_NOT_RANKED = "the plain query of the same base query is not ranked"
OTHER_DOCUMENTS = "the plain query of the same base query ranks other documents"


def evaluate(
    encoder: Encoder, sets: Iterable[EvaluationSet], *, depth: int, retrieval: Retrieval | None = None
) -> Evaluation:
    """Rank every query of every set over all of its documents by an encoder's vectors; see `rank_and_score`.

    `retrieval` says how documents are split, kept and searched (None: one passage each, in memory, exactly).
    """
    return rank_and_score(Dense(encoder, retrieval), sets, depth=depth)


def rank_and_score(ranker: Ranker, sets: Iterable[EvaluationSet], *, depth: int) -> Evaluation:
    """Rank every query of every set over all of its documents and return rankings and scores.

    `depth` is the length of the rankings. Raises UserError for a set that contradicts itself and for scores that are
    no numbers.
    """
    parts: list[Evaluation] = []
    for bed in sets:
        _check(bed)
        if any(bed.name in part.candidates for part in parts):
            raise UserError(f"evaluation set {bed.name!r} is there twice; give each set its own name")
        ranked = ranker(bed, depth)
        part, name = score_set(bed, ranked.rankings, depth=depth), bed.name
        parts.append(
            dataclasses.replace(
                part,
                listed={name: {**part.listed[name], **ranked.listed}},
                counts={name: {**part.counts[name], **ranked.counts}},
                warnings=(*part.warnings, *(f"{name}: {warning}" for warning in ranked.warnings)),
            )
        )
    return join(parts)


def join(parts: Sequence[Evaluation]) -> Evaluation:
    """Return the evaluations of several sets, each with its own name, as one."""
    return Evaluation(
        tuple(score for part in parts for score in part.scores),
        {key: rankings for part in parts for key, rankings in part.rankings.items()},
        {name: reasons for part in parts for name, reasons in part.listed.items()},
        tuple(warning for part in parts for warning in part.warnings),
        {name: digest for part in parts for name, digest in part.candidates.items()},
        {name: counts for part in parts for name, counts in part.counts.items()},
        {name: directions for part in parts for name, directions in part.opposites.items()},
        {name: judged for part in parts for name, judged in part.sets.items()},
        {name: notes for part in parts for name, notes in part.provenance.items()},
    )


def renamed(evaluation: Evaluation, names: Mapping[str, str]) -> Evaluation:
    """Return an evaluation whose data sets have other names: recorded -> new; what is not named there keeps its own."""
    if not names:
        return evaluation

    def called(name: str) -> str:
        return names.get(name, name)

    def told(warning: str) -> str:
        name, colon, words = warning.partition(": ")
        return f"{called(name)}{colon}{words}"

    return Evaluation(
        tuple(score._replace(dataset=called(score.dataset)) for score in evaluation.scores),
        {(called(name), condition): rankings for (name, condition), rankings in evaluation.rankings.items()},
        {called(name): reasons for name, reasons in evaluation.listed.items()},
        tuple(map(told, evaluation.warnings)),
        {called(name): digest for name, digest in evaluation.candidates.items()},
        {called(name): counts for name, counts in evaluation.counts.items()},
        {called(name): directions for name, directions in evaluation.opposites.items()},
        {called(name): dataclasses.replace(bed, name=called(name)) for name, bed in evaluation.sets.items()},
        {called(name): notes for name, notes in evaluation.provenance.items()},
    )


def _without(ranking: Ranking, doc_id: str) -> Ranking:
    """Return the ranking without one document."""
    if doc_id not in ranking.doc_ids:
        return ranking
    place = ranking.doc_ids.index(doc_id)
    scores = np.delete(ranking.scores, place)
    scores.setflags(write=False)
    return Ranking(ranking.query_id, ranking.doc_ids[:place] + ranking.doc_ids[place + 1 :], scores)


@timed("score")
def score_set(bed: EvaluationSet, rankings: Iterable[Ranking], *, depth: int | None = None) -> Evaluation:
    """Return every score of one set from its rankings, for example from those read back from files; needs no model.

    A query's own document is left out of its ranking first (`EvaluationSet.own_documents`).
    Raises UserError for a set that contradicts itself, and for a ranking that holds a document outside of the query's
    candidates. Gaps follow `ablate.evaluation.measures` and are listed.
    """
    _check(bed)
    ranked = by_query(rankings)
    check_ranked(bed, ranked)
    own = bed.own_documents
    ranked = {q: _without(ranking, own[q]) if q in own else ranking for q, ranking in ranked.items()}
    conditions = {c: [q for q in bed.queries if q.condition == c] for c in CONDITIONS}
    known = {query.query_id: query for query in bed.queries}
    log = _Log(bed.name)
    log.warnings += [f"{bed.name}: {remark}" for remark in bed.remarks]
    for queries in conditions.values():
        posed = {query.query_id for query in queries}
        qrels = {q: grades for q, grades in bed.qrels.items() if q in posed}
        names = tuple(dict.fromkeys((*QUERY_MEASURES, *bed.measures)))
        results = measures.query_measures(names, qrels, {q: r for q, r in ranked.items() if q in posed})
        for query in queries:
            for name, result in results.items():
                if query.query_id in result.per_unit:
                    log.add(query.condition, query.direction, query.query_id, name, result.per_unit[query.query_id])
        log.note(results[NDCG])
    log.mention("ranked query that is not in the set", [q for q in ranked if q not in known])
    _score_changes(bed, conditions["original"], ranked, log)
    _score_gains(bed, conditions, ranked, log)
    groups = {query.query_id: query.base_id for query in bed.queries if query.condition != "plain"}
    robust = measures.robustness(10, bed.qrels, ranked, groups)
    for base_id, value in robust.per_unit.items():
        log.add(INSTRUCTED, "all", base_id, ROBUSTNESS, value)
    alone = robust.listed.get(measures.ALONE, ())
    log.mention(f"{ROBUSTNESS}: {measures.ALONE}", alone)
    if alone and robust.per_unit:
        log.warnings.append(
            f"{bed.name}: {ROBUSTNESS} leaves out {len(alone):,} of {len(alone) + len(robust.per_unit):,} groups, in "
            "which one query is judged"
        )
    directions = _score_pairs(bed, known, ranked, log)
    doc_ids = sorted(passage.doc_id for passage in bed.documents)
    present = set(doc_ids)
    absent = {doc_id: None for grades in bed.qrels.values() for doc_id, g in grades.items() if g > 0}
    log.mention("relevant document outside of the set", [doc_id for doc_id in absent if doc_id not in present])
    longest = len(doc_ids) if bed.candidates is None else max(map(len, bed.candidates.values()))
    if depth is not None and depth < min(1000, longest):
        log.warnings.append(f"{bed.name}: rankings of depth {depth} are shorter than the cut-off of AP@1000")
    log.counts |= {"documents": len(doc_ids), "queries": len(known), "groups": len(robust.per_unit)}
    if bed.candidates is not None:
        log.counts["candidates"] = sum(map(len, bed.candidates.values()))
    kept: dict[tuple[str, str], list[Ranking]] = {
        (bed.name, c): [ranked[q.query_id] for q in qs if q.query_id in ranked] for c, qs in conditions.items() if qs
    }
    listed = {reason: tuple(ids) for reason, ids in log.listed.items()}
    scores = tuple(log.scores)
    if not scores:
        raise UserError(
            f"{bed.name}: nothing could be measured: none of the {len(known):,} queries has judgments; give some, or "
            f"name another set"
        )
    by_measure(scores)  # refuses a unit that is there twice
    return Evaluation(
        scores,
        kept,
        {bed.name: listed},
        tuple(log.warnings),
        {bed.name: candidate_digest(bed)},
        {bed.name: log.counts},
        {bed.name: directions},
        {bed.name: bed},
        {bed.name: dict(bed.provenance)} if bed.provenance else {},
    )


class _Log:
    """What is gathered while one set is scored."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self.scores: list[QueryScore] = []
        self.listed: dict[str, dict[str, None]] = {}
        self.warnings: list[str] = []
        self.counts: dict[str, float] = {}

    def add(self, condition: str, direction: str, unit_id: str, measure: str, value: float) -> None:
        self.scores.append(QueryScore(self.dataset, condition, direction, unit_id, measure, value))

    def mention(self, reason: str, ids: Iterable[str]) -> None:
        for unit_id in ids:
            self.listed.setdefault(reason, {})[unit_id] = None

    def note(self, result: MeasureResult, prefix: str = "") -> None:
        for reason, units in result.listed.items():
            self.mention(prefix + reason, units)
        self.warnings += [f"{self.dataset}: {prefix}{warning}" for warning in result.warnings]


def _score_changes(
    bed: EvaluationSet, originals: Sequence[EvaluationQuery], ranked: Mapping[str, Ranking], log: _Log
) -> None:
    """Score p-MRR of each (condition, direction): the original ranking of a base query against the changed one."""
    original_of: dict[str, str] = {}
    if not any(query.condition in ("changed", "reversed") for query in bed.queries):
        return
    for query in originals:
        if query.base_id in original_of:
            raise UserError(f"{bed.name}: base query {query.base_id!r} has two original queries; p-MRR needs one")
        original_of[query.base_id] = query.query_id
    before = {base: ranked[query_id] for base, query_id in original_of.items() if query_id in ranked}
    kinds: dict[tuple[str, str], list[EvaluationQuery]] = {}
    for query in bed.queries:
        if query.condition in ("changed", "reversed"):
            kinds.setdefault((query.condition, query.direction), []).append(query)
    for (condition, direction), queries in kinds.items():
        if len({query.base_id for query in queries}) < len(queries):
            raise UserError(
                f"{bed.name}: a base query has two {condition} queries of direction {direction!r}; give "
                "each its own direction"
            )
        lost = {query.base_id: bed.changed_documents.get(query.query_id, ()) for query in queries}
        after = {query.base_id: ranked[query.query_id] for query in queries if query.query_id in ranked}
        result = measures.p_mrr(lost, before, after)
        for base_id, value in result.per_unit.items():
            log.add(condition, direction, base_id, measures.P_MRR, value)
        log.note(result, f"p-MRR {direction}: ")


def _score_gains(
    bed: EvaluationSet,
    conditions: Mapping[Condition, Sequence[EvaluationQuery]],
    ranked: Mapping[str, Ranking],
    log: _Log,
) -> None:
    """Score the instruction gain of every judged query with an instruction over the plain query of its base.

    Compared are rankings of the same documents alone: the candidates of a query (or all documents) less its own
    document. Where these differ between the two queries there is no gain, and the query is listed. Rankings that lack
    a part of the plain queries give no gain at all, because systems are compared in the same units.
    """
    judged = [q for c in CONDITIONS if c != "plain" for q in conditions[c] if bed.qrels.get(q.query_id)]
    plain: dict[str, list[str]] = {}
    for query in conditions["plain"]:
        plain.setdefault(query.base_id, []).append(query.query_id)
    plain |= {base_id: [query_id] for base_id, query_id in bed.plain_of.items() if base_id not in plain}
    if judged and not plain:
        log.warnings.append(
            f"{bed.name}: no {measures.INSTRUCTION_GAIN}: the set poses no query without its instruction, so it is not "
            "known what ignoring the instructions gives, and no collapse can be seen"
        )
        return
    present = {passage.doc_id for passage in bed.documents}
    reasons: dict[str, list[str]] = {}
    blind: dict[str, Ranking] = {}
    for query in judged:
        query_id, twins = query.query_id, plain.get(query.base_id, [])
        if len(twins) != 1:
            reasons.setdefault(SEVERAL_PLAIN if twins else NO_PLAIN, []).append(query_id)
        elif _ranks_other_documents(bed, present, query_id, twins[0]):
            reasons.setdefault(OTHER_DOCUMENTS, []).append(query_id)
        elif twins[0] not in ranked or not len(ranked[twins[0]]):
            reasons.setdefault(PLAIN_NOT_RANKED, []).append(query_id)
        else:
            blind[query_id] = ranked[twins[0]]
    whole = {} if PLAIN_NOT_RANKED in reasons else blind
    result = measures.instruction_gain({q: bed.qrels[q] for q in whole}, ranked, whole)
    for query in judged:
        if query.query_id in result.per_unit:
            value = result.per_unit[query.query_id]
            log.add(query.condition, query.direction, query.query_id, measures.INSTRUCTION_GAIN, value)
    for reason, query_ids in reasons.items():
        log.mention(f"{measures.INSTRUCTION_GAIN}: {reason}", query_ids)
        rest = ", so it is left out on the whole set" if reason == PLAIN_NOT_RANKED and blind else ""
        log.warnings.append(
            f"{bed.name}: {len(query_ids):,} of {len(judged):,} judged queries with an instruction have no "
            f"{measures.INSTRUCTION_GAIN}: {reason}{rest}"
        )


def _ranks_other_documents(bed: EvaluationSet, present: set[str], query_id: str, other_id: str) -> bool:
    """Return whether two queries of a set, whose documents are `present`, may rank different ones."""
    own, other = bed.own_documents.get(query_id), bed.own_documents.get(other_id)
    if bed.candidates is not None:
        first, second = set(bed.candidates[query_id]), set(bed.candidates[other_id])
        return first - {own} != second - {other}
    return own != other and (own in present or other in present)


def _score_pairs(
    bed: EvaluationSet, known: Mapping[str, EvaluationQuery], ranked: Mapping[str, Ranking], log: _Log
) -> tuple[tuple[str, str], ...]:
    opposites = [
        Opposite(
            first,
            second,
            known[first].base_id,
            known[first].direction,
            known[second].direction,
            None if bed.pairs is None else bed.pairs.get((first, second), ()),
        )
        for first, second in bed.opposites
    ]
    result = measures.pairwise(opposites, bed.qrels, ranked)
    both = (result.accuracy, result.satisfying_over_violating)
    rows = [("both", part) for part in both] + list(result.one_sided.items())
    for direction, part in rows:
        for base_id, value in part.per_unit.items():
            log.add(PAIRS, direction, base_id, part.name, value)
    log.note(result.accuracy)
    if opposites:
        log.counts |= {"pairs": result.num_pairs, "decisions by a tie": result.num_tied}
        log.counts[measures.NOT_RANKED] = result.num_undecided
        if result.num_undecided:
            log.warnings.append(
                f"{bed.name}: {result.num_undecided} of {2 * result.num_pairs} pair decisions have neither document in "
                "the ranking and count as wrong, so chance is lower; deeper rankings decide them"
            )
        if result.accuracy_over_pairs is not None:
            log.counts["pairwise accuracy over pairs"] = result.accuracy_over_pairs
    return tuple(dict.fromkeys((opposite.first_direction, opposite.second_direction) for opposite in opposites))


def _check_clusters(bed: EvaluationSet) -> None:
    """Refuse clusters of what is no base query, and queries whose cluster would be that of another base query."""
    bases = {query.base_id for query in bed.queries}
    for kind, members in bed.clusters.items():
        for base_id in members:
            if base_id not in bases:
                raise UserError(
                    f"evaluation set {bed.name!r}: base query {base_id!r} is in a cluster ({kind}) and has no query; "
                    "add its queries or drop the entry"
                )
    for query in bed.queries if bed.clusters else ():
        if query.query_id in bases and query.base_id != query.query_id:
            raise UserError(
                f"evaluation set {bed.name!r}: {query.query_id!r} is a query of the base query {query.base_id!r} and "
                "the id of another base query, so its cluster is open; give it another id"
            )


def _check(bed: EvaluationSet) -> None:
    """Refuse a set that contradicts itself."""
    ids = [query.query_id for query in bed.queries]
    known = {query.query_id: query for query in bed.queries}
    if len(known) < len(ids):
        twice = next(query_id for query_id in ids if ids.count(query_id) > 1)
        raise UserError(f"evaluation set {bed.name!r}: query {twice!r} is there twice; query ids must be unique")
    if not bed.queries or not bed.documents:
        raise UserError(
            f"evaluation set {bed.name!r} has {len(ids)} queries and {len(bed.documents)} documents; "
            "it needs at least one of each"
        )
    distinct = {passage.doc_id for passage in bed.documents}
    if len(distinct) < len(bed.documents):
        doc_ids = sorted(passage.doc_id for passage in bed.documents)
        twice = next(left for left, right in zip(doc_ids, doc_ids[1:], strict=False) if left == right)
        raise UserError(f"evaluation set {bed.name!r}: document {twice!r} is there twice; document ids must be unique")
    for query in bed.queries:
        if query.condition not in CONDITIONS:
            raise UserError(
                f"evaluation set {bed.name!r}: query {query.query_id!r} has condition {query.condition!r}; "
                f"allowed are {', '.join(CONDITIONS)}"
            )
    used = {"judgments": list(bed.qrels), "changed documents": list(bed.changed_documents)}
    used["an opposite"] = [query_id for opposite in bed.opposites for query_id in opposite]
    for what, query_ids in used.items():
        for query_id in query_ids:
            if query_id not in known:
                raise UserError(
                    f"evaluation set {bed.name!r}: query {query_id!r} has {what} but is not among the "
                    "queries; add the query or drop the entry"
                )
    check_lists(bed)
    _check_clusters(bed)
    for first, second in bed.opposites:
        if known[first].base_id != known[second].base_id:
            raise UserError(
                f"evaluation set {bed.name!r}: {first!r} and {second!r} are opposites of different base "
                "queries; opposites share their base query"
            )
