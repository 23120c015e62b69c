"""The protocol: encode, search, measure; then summarise, and set a trained model beside its untouched backbone.

p-MRR alone cannot tell a model that follows an instruction from one that loses every document under it, so each p-MRR
stands beside nDCG@10 under the original and under the changed instruction, for every direction by itself.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ablate.evaluation import measures
from ablate.evaluation.candidates import candidate_digest, check_lists, check_ranked
from ablate.evaluation.measures import MeasureResult, Opposite
from ablate.evaluation.rankers import Dense, Ranker
from ablate.evaluation.rankings import Ranking, by_query
from ablate.evaluation.vectors import Encoder, Retrieval
from ablate.records import CONDITIONS, EvaluationQuery, EvaluationSet, QueryScore, UserError

NDCG = "nDCG@10"
QUERY_MEASURES = (NDCG, "RR@10", "AP@1000")
ROBUSTNESS = "Robustness@10"
INSTRUCTED = "instructed"
"""Condition of Robustness@10: all queries with an instruction; its direction is `all`."""
PAIRS = "pairs"
"""Condition of the pairwise measures; `both` is the direction of those that need both queries of a pair."""
CHANCE = {measures.PAIRWISE_ACCURACY: 0.25, measures.SATISFYING_OVER_VIOLATING: 0.5, measures.ONE_SIDED_RATE: 0.5}
Verdict = Literal["", "collapse", "lexical"]


class SummaryRow(NamedTuple):
    """Mean of one measure over the units of one dataset, condition and direction."""

    dataset: str
    condition: str
    direction: str
    measure: str
    mean: float
    num_units: int
    ndcg_original: float | None = None
    """For p-MRR only: nDCG@10 under the original instruction, original judgments."""
    ndcg_changed: float | None = None
    """For p-MRR only: nDCG@10 under this row's instruction and judgments; None when no such query is judged."""
    verdict: Verdict = ""


class TableRow(NamedTuple):
    """A summary row of a trained model beside that of the untouched one."""

    trained: SummaryRow
    untouched: SummaryRow


@dataclass(frozen=True)
class Evaluation:
    """Everything that one evaluation of one model gives; the rankings suffice to compute new measures."""

    scores: tuple[QueryScore, ...]
    rankings: dict[tuple[str, str], list[Ranking]]
    """(dataset, condition) -> rankings of all queries, judged or not."""
    listed: dict[str, dict[str, tuple[str, ...]]]
    """dataset -> reason -> ids that a reader must know of."""
    warnings: tuple[str, ...]
    candidates: dict[str, str]
    """dataset -> SHA-256 of the sorted document ids, each followed by a line feed; where every query has its own
    candidates these follow, sorted: query id, tab, document id, line feed."""
    counts: dict[str, dict[str, float]]
    """dataset -> how many documents, queries, pairs, ties, … stand behind the scores."""
    opposites: dict[str, tuple[tuple[str, str], ...]]
    """dataset -> pairs of directions whose instructions are each other's complement."""
    sets: dict[str, EvaluationSet] = field(default_factory=dict, compare=False, repr=False)
    """dataset -> what it was scored by; empty when read back without it."""
    provenance: dict[str, dict[str, str]] = field(default_factory=dict)
    """dataset -> where its data is from and how it was posed; only for sets that say so."""

    def summary(self, reference: Evaluation | None = None, *, margin: float = 0.0) -> list[SummaryRow]:
        """Return the means over judged units, with a verdict on every p-MRR.

        `collapse`: p-MRR is positive and nDCG@10 under the changed instruction lies below that of `reference` (the
        untouched backbone) by more than `margin`; without one nothing is called a collapse. `lexical`: p-MRR is
        negative in both of two opposite directions. Both must be more than chance among the units: the 95 % t interval
        of the paired differences, or of p-MRR, lies there as a whole, so that one unit alone is called nothing.
        """
        units = _by_measure(self.scores)
        means = {key: _mean(values.values()) for key, values in units.items()}
        others = {} if reference is None else _by_measure(reference.scores)
        falls = {(key[0], key[2]) for key, u in units.items() if key[3] == measures.P_MRR and _below(u.values())}
        rows: list[SummaryRow] = []
        for (dataset, condition, direction, measure), mean in means.items():
            num_units = len(units[dataset, condition, direction, measure])
            row = SummaryRow(dataset, condition, direction, measure, mean, num_units)
            if measure == measures.P_MRR:
                parts = [u for key, u in units.items() if key[:2] == (dataset, "original") and key[3] == NDCG]
                original = [value for part in parts for value in part.values()]
                changed_key = (dataset, condition, direction, NDCG)
                after, before = units.get(changed_key, {}), others.get(changed_key, {})
                verdict: Verdict = ""
                if mean > 0 and _below([after[unit] - before[unit] for unit in after if unit in before], -margin):
                    verdict = "collapse"
                twins = [b if a == direction else a for a, b in self.opposites.get(dataset, ()) if direction in (a, b)]
                if (dataset, direction) in falls and any((dataset, twin) in falls for twin in twins):
                    verdict = "lexical"
                before_change = _mean(original) if original else None
                row = row._replace(ndcg_original=before_change, ndcg_changed=means.get(changed_key), verdict=verdict)
            rows.append(row)
        return rows


def _mean(values: Collection[float]) -> float:
    return math.fsum(values) / len(values)


def _below(values: Iterable[float], bound: float = 0.0) -> bool:
    """Return whether the mean over units is below a bound by more than chance: its whole 95 % t interval is."""
    found = measures.mean_interval(list(values))
    return found is not None and found[1] < bound


Key = tuple[str, str, str, str]
"""Dataset, condition, direction, measure."""


def _by_measure(scores: Iterable[QueryScore]) -> dict[Key, dict[str, float]]:
    found: dict[Key, dict[str, float]] = {}
    for score in scores:
        key = (score.dataset, score.condition, score.direction, score.measure)
        units = found.setdefault(key, {})
        if score.unit_id in units:
            raise UserError(
                f"{score.dataset}: {score.measure} of unit {score.unit_id!r} ({score.condition}, {score.direction!r}) "
                "is there twice; give each query of a base query its own direction"
            )
        units[score.unit_id] = score.value
    return found


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
    for one in sets:
        _check(one)
        if any(one.name in part.candidates for part in parts):
            raise UserError(f"evaluation set {one.name!r} is there twice; give each set its own name")
        ranked = ranker(one, depth)
        part, name = score_set(one, ranked.rankings, depth=depth), one.name
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
        {(called(name), condition): found for (name, condition), found in evaluation.rankings.items()},
        {called(name): reasons for name, reasons in evaluation.listed.items()},
        tuple(map(told, evaluation.warnings)),
        {called(name): found for name, found in evaluation.candidates.items()},
        {called(name): counts for name, counts in evaluation.counts.items()},
        {called(name): directions for name, directions in evaluation.opposites.items()},
        {called(name): dataclasses.replace(one, name=called(name)) for name, one in evaluation.sets.items()},
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


def score_set(one: EvaluationSet, rankings: Iterable[Ranking], *, depth: int | None = None) -> Evaluation:
    """Return every score of one set from its rankings, for example from those read back from files; needs no model.

    A query's own document is left out of its ranking first (`EvaluationSet.own_documents`).
    Raises UserError for a set that contradicts itself, and for a ranking that holds a document outside of the query's
    candidates. Gaps follow `ablate.evaluation.measures` and are listed.
    """
    _check(one)
    found = by_query(rankings)
    check_ranked(one, found)
    own = one.own_documents
    found = {q: _without(ranking, own[q]) if q in own else ranking for q, ranking in found.items()}
    conditions = {c: [q for q in one.queries if q.condition == c] for c in CONDITIONS}
    known = {query.query_id: query for query in one.queries}
    log = _Log(one.name)
    log.warnings += [f"{one.name}: {remark}" for remark in one.remarks]
    for queries in conditions.values():
        posed = {query.query_id for query in queries}
        qrels = {q: grades for q, grades in one.qrels.items() if q in posed}
        names = tuple(dict.fromkeys((*QUERY_MEASURES, *one.measures)))
        results = measures.query_measures(names, qrels, {q: r for q, r in found.items() if q in posed})
        for query in queries:
            for name, result in results.items():
                if query.query_id in result.per_unit:
                    log.add(query.condition, query.direction, query.query_id, name, result.per_unit[query.query_id])
        log.note(results[NDCG])
    log.mention("ranked query that is not in the set", [q for q in found if q not in known])
    _score_changes(one, conditions["original"], found, log)
    groups = {query.query_id: query.base_id for query in one.queries if query.condition != "plain"}
    robust = measures.robustness(10, one.qrels, found, groups)
    for base_id, value in robust.per_unit.items():
        log.add(INSTRUCTED, "all", base_id, ROBUSTNESS, value)
    alone = robust.listed.get(measures.ALONE, ())
    log.mention(f"{ROBUSTNESS}: {measures.ALONE}", alone)
    if alone and robust.per_unit:
        log.warnings.append(
            f"{one.name}: {ROBUSTNESS} leaves out {len(alone):,} of {len(alone) + len(robust.per_unit):,} groups, in "
            "which one query is judged"
        )
    directions = _score_pairs(one, known, found, log)
    doc_ids = sorted(passage.doc_id for passage in one.documents)
    present = set(doc_ids)
    absent = {doc_id: None for grades in one.qrels.values() for doc_id, g in grades.items() if g > 0}
    log.mention("relevant document outside of the set", [doc_id for doc_id in absent if doc_id not in present])
    longest = len(doc_ids) if one.candidates is None else max(map(len, one.candidates.values()))
    if depth is not None and depth < min(1000, longest):
        log.warnings.append(f"{one.name}: rankings of depth {depth} are shorter than the cut-off of AP@1000")
    log.counts |= {"documents": len(doc_ids), "queries": len(known), "groups": len(robust.per_unit)}
    if one.candidates is not None:
        log.counts["candidates"] = sum(map(len, one.candidates.values()))
    kept: dict[tuple[str, str], list[Ranking]] = {
        (one.name, c): [found[q.query_id] for q in qs if q.query_id in found] for c, qs in conditions.items() if qs
    }
    listed = {reason: tuple(ids) for reason, ids in log.listed.items()}
    scores = tuple(log.scores)
    if not scores:
        raise UserError(
            f"{one.name}: nothing could be measured: none of the {len(known):,} queries has judgments; give some, or "
            f"name another set"
        )
    _by_measure(scores)  # refuses a unit that is there twice
    return Evaluation(
        scores,
        kept,
        {one.name: listed},
        tuple(log.warnings),
        {one.name: candidate_digest(one)},
        {one.name: log.counts},
        {one.name: directions},
        {one.name: one},
        {one.name: dict(one.provenance)} if one.provenance else {},
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
        for one in ids:
            self.listed.setdefault(reason, {})[one] = None

    def note(self, result: MeasureResult, prefix: str = "") -> None:
        for reason, units in result.listed.items():
            self.mention(prefix + reason, units)
        self.warnings += [f"{self.dataset}: {prefix}{warning}" for warning in result.warnings]


def _score_changes(
    one: EvaluationSet, originals: Sequence[EvaluationQuery], found: Mapping[str, Ranking], log: _Log
) -> None:
    """Score p-MRR of each (condition, direction): the original ranking of a base query against the changed one."""
    original_of: dict[str, str] = {}
    if not any(query.condition in ("changed", "reversed") for query in one.queries):
        return
    for query in originals:
        if query.base_id in original_of:
            raise UserError(f"{one.name}: base query {query.base_id!r} has two original queries; p-MRR needs one")
        original_of[query.base_id] = query.query_id
    before = {base: found[query_id] for base, query_id in original_of.items() if query_id in found}
    kinds: dict[tuple[str, str], list[EvaluationQuery]] = {}
    for query in one.queries:
        if query.condition in ("changed", "reversed"):
            kinds.setdefault((query.condition, query.direction), []).append(query)
    for (condition, direction), queries in kinds.items():
        if len({query.base_id for query in queries}) < len(queries):
            raise UserError(
                f"{one.name}: a base query has two {condition} queries of direction {direction!r}; give "
                "each its own direction"
            )
        lost = {query.base_id: one.changed_documents.get(query.query_id, ()) for query in queries}
        after = {query.base_id: found[query.query_id] for query in queries if query.query_id in found}
        result = measures.p_mrr(lost, before, after)
        for base_id, value in result.per_unit.items():
            log.add(condition, direction, base_id, measures.P_MRR, value)
        log.note(result, f"p-MRR {direction}: ")


def _score_pairs(
    one: EvaluationSet, known: Mapping[str, EvaluationQuery], found: Mapping[str, Ranking], log: _Log
) -> tuple[tuple[str, str], ...]:
    opposites = [
        Opposite(
            first,
            second,
            known[first].base_id,
            known[first].direction,
            known[second].direction,
            None if one.pairs is None else one.pairs.get((first, second), ()),
        )
        for first, second in one.opposites
    ]
    result = measures.pairwise(opposites, one.qrels, found)
    both = (result.accuracy, result.satisfying_over_violating)
    rows = [("both", part) for part in both] + list(result.one_sided.items())
    for direction, part in rows:
        for base_id, value in part.per_unit.items():
            log.add(PAIRS, direction, base_id, part.name, value)
    log.note(result.accuracy)
    if opposites:
        log.counts |= {"pairs": result.num_pairs, "decisions by a tie": result.num_tied}
        log.counts["decisions with neither document ranked"] = result.num_undecided
        if result.num_undecided:
            log.warnings.append(
                f"{one.name}: {result.num_undecided} of {2 * result.num_pairs} pair decisions have neither document in "
                "the ranking and count as wrong, so chance is lower; deeper rankings decide them"
            )
        if result.accuracy_over_pairs is not None:
            log.counts["pairwise accuracy over pairs"] = result.accuracy_over_pairs
    return tuple(dict.fromkeys((opposite.first_direction, opposite.second_direction) for opposite in opposites))


def _check(one: EvaluationSet) -> None:
    """Refuse a set that contradicts itself."""
    ids = [query.query_id for query in one.queries]
    known = {query.query_id: query for query in one.queries}
    if len(known) < len(ids):
        twice = next(query_id for query_id in ids if ids.count(query_id) > 1)
        raise UserError(f"evaluation set {one.name!r}: query {twice!r} is there twice; query ids must be unique")
    if not one.queries or not one.documents:
        raise UserError(
            f"evaluation set {one.name!r} has {len(ids)} queries and {len(one.documents)} documents; "
            "it needs at least one of each"
        )
    distinct = {passage.doc_id for passage in one.documents}
    if len(distinct) < len(one.documents):
        doc_ids = sorted(passage.doc_id for passage in one.documents)
        twice = next(left for left, right in zip(doc_ids, doc_ids[1:], strict=False) if left == right)
        raise UserError(f"evaluation set {one.name!r}: document {twice!r} is there twice; document ids must be unique")
    for query in one.queries:
        if query.condition not in CONDITIONS:
            raise UserError(
                f"evaluation set {one.name!r}: query {query.query_id!r} has condition {query.condition!r}; "
                f"allowed are {', '.join(CONDITIONS)}"
            )
    used = {"judgments": list(one.qrels), "changed documents": list(one.changed_documents)}
    used["an opposite"] = [query_id for opposite in one.opposites for query_id in opposite]
    for what, query_ids in used.items():
        for query_id in query_ids:
            if query_id not in known:
                raise UserError(
                    f"evaluation set {one.name!r}: query {query_id!r} has {what} but is not among the "
                    "queries; add the query or drop the entry"
                )
    check_lists(one)
    for first, second in one.opposites:
        if known[first].base_id != known[second].base_id:
            raise UserError(
                f"evaluation set {one.name!r}: {first!r} and {second!r} are opposites of different base "
                "queries; opposites share their base query"
            )


def compare(trained: Evaluation, untouched: Evaluation, *, margin: float = 0.0) -> list[TableRow]:
    """Return the summary of a trained model beside that of its untouched backbone.

    Raises UserError when the two did not rank the same documents or do not have the same judged units.
    """
    if trained.candidates != untouched.candidates:
        names = sorted(trained.candidates.keys() | untouched.candidates.keys())
        name = next(n for n in names if trained.candidates.get(n) != untouched.candidates.get(n))
        raise UserError(f"dataset {name!r}: the two evaluations ranked different documents; evaluate both on one set")
    ours, theirs = _by_measure(trained.scores), _by_measure(untouched.scores)
    for key in ours.keys() | theirs.keys():
        if ours.get(key, {}).keys() != theirs.get(key, {}).keys():
            raise UserError(
                f"dataset {key[0]!r}: {key[3]} under {key[1]} {key[2]!r} has other units in the two "
                "evaluations; score both with the same judgments"
            )
    before = {row[:4]: row for row in untouched.summary()}
    return [TableRow(row, before[row[:4]]) for row in trained.summary(untouched, margin=margin)]


_LABEL, _COUNT, _CELL = 27, 6, 10


def format_table(rows: Sequence[TableRow]) -> str:
    """Return the comparison as plain text of at most 110 columns, one block per dataset.

    Every p-MRR (times 100) stands beside nDCG@10 under the original and under its own instruction; what its verdict
    means is said in words below. A dash: no judged unit.
    """
    blocks: list[str] = []
    for dataset in dict.fromkeys(row.trained.dataset for row in rows):
        mine = [row for row in rows if row.trained.dataset == dataset]
        lines = [dataset, *_condition_lines(mine), *_extra_lines(mine), *_change_lines(mine), *_other_lines(mine)]
        blocks.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(blocks) + "\n"


def format_summary(rows: Sequence[SummaryRow]) -> str:
    """Return the means of one system as plain text, one block per dataset: a condition a row, p-MRR times 100.

    A dash: no judged unit.
    """
    columns = [*QUERY_MEASURES, measures.P_MRR]
    blocks: list[str] = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        found: dict[tuple[str, str], dict[str, SummaryRow]] = {}
        others: list[str] = []
        for row in (row for row in rows if row.dataset == dataset):
            if row.measure in columns:
                found.setdefault((row.condition, row.direction), {})[row.measure] = row
            else:
                label = row.measure if row.direction in ("all", "both") else f"{row.measure}: {row.direction}"
                others.append(_line(label, row.num_units, [_number(row.mean)]))
        lines = [dataset, _line("condition", "n", [*map(measures.mean_name, QUERY_MEASURES), "p-MRRx100"])]
        for (condition, direction), by_measure in found.items():
            label = condition if direction in ("", condition) else f"{condition}: {direction}"
            cells = [_number(by_measure[name].mean if name in by_measure else None) for name in QUERY_MEASURES]
            change = by_measure.get(measures.P_MRR)
            cells.append("-" if change is None else f"{100 * change.mean:+.1f}")
            lines.append(_line(label, next(iter(by_measure.values())).num_units, cells))
        blocks.append("\n".join([*lines, *([""] if others else []), *others]))
    return "\n\n".join(blocks) + "\n"


def _line(label: str, count: str | int, cells: Iterable[str], verdict: str = "") -> str:
    end = f"  {verdict}" if verdict else ""
    return f"  {label:<{_LABEL}}{count:>{_COUNT}}" + "".join(f"{cell:>{_CELL}}" for cell in cells) + end


def _head(label: str, groups: Sequence[str], last: Sequence[str] = ()) -> list[str]:
    first = "".join(f"{group:>{2 * _CELL}}" for group in groups)
    return [
        f"  {label:<{_LABEL}}{'n':>{_COUNT}}{first}",
        _line("", "", [*(["trained", "untouched"] * len(groups)), *last]),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _condition_lines(rows: Sequence[TableRow]) -> list[str]:
    found: dict[tuple[str, str], dict[str, TableRow]] = {}
    for row in rows:
        if row.trained.measure in QUERY_MEASURES:
            found.setdefault((row.trained.condition, row.trained.direction), {})[row.trained.measure] = row
    lines = _head("condition", [measures.mean_name(name) for name in QUERY_MEASURES]) if found else []
    for (condition, direction), by_measure in found.items():
        label = condition if direction in ("", condition) else f"{condition}: {direction}"
        cells = [(by_measure[name].trained.mean, by_measure[name].untouched.mean) for name in QUERY_MEASURES]
        count = by_measure[NDCG].trained.num_units
        lines.append(_line(label, count, [_number(value) for pair in cells for value in pair]))
    return lines


def _extra_lines(rows: Sequence[TableRow]) -> list[str]:
    """Return the lines of measures per query that only some sets report."""
    usual = (*QUERY_MEASURES, measures.P_MRR, ROBUSTNESS)
    found = [row for row in rows if row.trained.measure not in usual and row.trained.condition in CONDITIONS]
    lines = ["", *_head("further measures", [""])] if found else []
    for ours, theirs in found:
        label = f"{measures.mean_name(ours.measure)}: {ours.direction or ours.condition}"
        lines.append(_line(label, ours.num_units, [_number(ours.mean), _number(theirs.mean)]))
    return lines


def _change_lines(rows: Sequence[TableRow]) -> list[str]:
    found = [row for row in rows if row.trained.measure == measures.P_MRR]
    lines = ["", *_head("p-MRR x 100", ["p-MRR", "nDCG@10 original", f"{NDCG} here"])] if found else []
    words: list[str] = []
    for ours, theirs in found:
        cells = [f"{100 * ours.mean:+.1f}", f"{100 * theirs.mean:+.1f}"]
        cells += [_number(row.ndcg_original) for row in (ours, theirs)]
        cells += [_number(row.ndcg_changed) for row in (ours, theirs)]
        lines.append(_line(f"{ours.condition}: {ours.direction}", ours.num_units, cells, ours.verdict.upper()))
        if ours.verdict == "collapse":
            words.append(
                f"COLLAPSE, {ours.direction}: p-MRR is positive ({cells[0]}), but nDCG@10 under this instruction is "
                f"{cells[4]}, below the untouched {cells[5]} by more than chance (95 % interval over queries): "
                "documents are lost, the instruction is not followed."
            )
        for row, who in ((ours, "trained"), (theirs, "untouched")):
            if row.verdict == "lexical":
                words.append(
                    f"LEXICAL, {row.direction} ({who}): p-MRR is negative here and under the opposite instruction, by "
                    "more than chance: the words of the instruction lift the same documents whatever it asks for."
                )
    wrapped = [textwrap.fill(text, 106, initial_indent="  ", subsequent_indent="    ") for text in words]
    return [*lines, *wrapped]


def _other_lines(rows: Sequence[TableRow]) -> list[str]:
    found = [row for row in rows if row.trained.measure == ROBUSTNESS or row.trained.condition == PAIRS]
    lines = ["", *_head("over instructions", [""], ["chance"])] if found else []
    for ours, theirs in found:
        label = f"{ours.measure}: {ours.direction}" if ours.measure == measures.ONE_SIDED_RATE else ours.measure
        chance = CHANCE.get(ours.measure)
        lines.append(_line(label, ours.num_units, [_number(ours.mean), _number(theirs.mean), _number(chance)]))
    return lines


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
