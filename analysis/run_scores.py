"""Measures of anyone's run files: plain ones, Robustness@k and p-MRR, with everything that a reader must know of.

Definitions, ties and gaps are those of `ablate.evaluation.measures`; no model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import ablate.evaluation.measures as measures
from ablate.evaluation.measures import MeasureResult, Qrels
from ablate.evaluation.rankings import Ranking
from ablate.records import UserError
from analysis.scores import listed

NDCG = "nDCG@10"
ROBUSTNESS = "Robustness@10"
DEFAULT_MEASURES = (NDCG, "nDCG@5", "RR@10", "AP@1000", "recall@100", "recall@1000")
GROUP_FROM_ID = "judged query that the groups file does not name: its group comes from its id"
OTHER_SIDE = "left out: not a query of this side by its suffix"
UNNAMED = "judged changed query that the changed documents do not name: not part of the mean"
UNLIKE_CANDIDATES = "topic with unlike candidate sets"


class Side(NamedTuple):
    """A run with its judgments."""

    qrels: Qrels
    rankings: Mapping[str, Ranking]


@dataclass(frozen=True)
class Scored:
    """All that was found; results carry their own listed units and warnings."""

    parts: dict[str, dict[str, MeasureResult]]
    """`run`, `original`, `changed` -> measure -> result."""
    overall: dict[str, MeasureResult]
    """p-MRR and Robustness@k."""
    listed: dict[str, dict[str, tuple[str, ...]]]
    """Part or overall measure -> reason -> units; nothing that needs a word is left out."""
    ties: dict[str, dict[str, int]]
    """Part -> how many queries and documents share a score, so that the ids decide."""
    warnings: tuple[str, ...]

    def __or__(self, other: Scored) -> Scored:
        return Scored(
            self.parts | other.parts,
            self.overall | other.overall,
            self.listed | other.listed,
            self.ties | other.ties,
            self.warnings + other.warnings,
        )


def score_run(side: Side, names: Sequence[str], groups: Mapping[str, str] | None = None) -> Scored:
    """Score one run with nDCG@k, RR@k, AP@k and recall@k, and with Robustness@k (always with Robustness@10).

    A query's group is what `groups` says, else the part of its id before the first `_`. Raises UserError for a measure
    that is none of these.
    """
    robust = dict.fromkeys([ROBUSTNESS, *(name for name in names if measures.parse(name).family == "Robustness")])
    plain = _score_side("run", side, [name for name in names if name not in robust])
    judged = [query_id for query_id, grades in side.qrels.items() if grades]
    group_of = {query_id: (groups or {}).get(query_id, query_id.split("_", 1)[0]) for query_id in judged}
    overall = {}
    for name in robust:
        cutoff = measures.parse(name).cutoff
        assert cutoff is not None
        overall[name] = measures.robustness(cutoff, side.qrels, side.rankings, group_of)
    found = {name: dict(result.listed) for name, result in overall.items()}
    warnings = []
    if groups is None and len(set(group_of.values())) == len(judged) > 0:
        warnings.append("every group has one query, so Robustness@k is the mean of nDCG@k; name the groups by --groups")
    if unnamed := [query_id for query_id in judged if groups is not None and query_id not in groups]:
        found[ROBUSTNESS][GROUP_FROM_ID] = tuple(unnamed)
    if strangers := [query_id for query_id in groups or () if query_id not in group_of]:
        warnings.append(f"the groups file names {len(strangers)} queries that are not judged: {listed(strangers)}")
    return plain | Scored({}, overall, _without_empty(found), {}, tuple(warnings))


def score_pair(
    original: Side,
    changed: Side,
    changed_documents: Mapping[str, Sequence[str]],
    names: Sequence[str],
    variants: tuple[str, str] = ("og", "changed"),
) -> Scored:
    """Score p-MRR with its companions: the original run by the original qrels, the changed run by the changed ones.

    The query of a topic has its id, or its id with the suffix `-og` (original) or `-changed` (changed); `variants` are
    the names behind the hyphen. Where a side uses its suffix, queries without it are left out of the side and listed.
    nDCG@10 is always scored, for p-MRR alone cannot tell a model that follows from one that loses every document.
    Raises UserError for two equal variants, or a measure without a value per query.
    """
    suffixes = tuple(f"-{variant}" for variant in variants)
    if suffixes[0] == suffixes[1]:
        raise UserError(f"the original and the changed variant are both {variants[0]!r}; give two names")
    original, before, left_original = _own_side(original, changed_documents, suffixes[0])
    changed, after, left_changed = _own_side(changed, changed_documents, suffixes[1])
    names = [name for name in names if measures.parse(name).family != "Robustness"]
    names = names if NDCG in names else [NDCG, *names]
    scored = _score_side("original", original, names) | _score_side("changed", changed, names)
    for part, left_out in (("original", left_original), ("changed", left_changed)):
        if left_out:
            scored.listed.setdefault(part, {})[OTHER_SIDE] = left_out
    result = measures.p_mrr(changed_documents, before, after)
    warnings, unlike = _compare_candidates(result, before, after)
    found = dict(result.listed)
    judged = [query_id for query_id, grades in changed.qrels.items() if grades]
    known = {named for topic in changed_documents for named in (topic, topic + suffixes[1])}
    if unnamed := tuple(query_id for query_id in judged if query_id not in known):
        found[UNNAMED] = unnamed
    if unlike:
        found[UNLIKE_CANDIDATES] = unlike
    if not result.per_unit:
        warnings.append(
            f"{result.reason}; the query of topic t is t or t{suffixes[0]} (original), t or t{suffixes[1]} (changed)"
        )
    overall = {measures.P_MRR: result}
    return scored | Scored({}, overall, _without_empty({measures.P_MRR: found}), {}, (*result.warnings, *warnings))


def _score_side(part: str, side: Side, names: Sequence[str]) -> Scored:
    results = measures.query_measures([*dict.fromkeys([NDCG, *names])], side.qrels, side.rankings)
    found = results[NDCG].listed
    warnings = []
    judged = {query_id: grades for query_id, grades in side.qrels.items() if grades}
    common = [query_id for query_id in side.rankings if query_id in judged]
    if not judged:
        warnings.append(f"{part}: no query is judged, so there is no value")
    elif not side.rankings:
        warnings.append(f"{part}: the run has no line, so every query scores 0")
    elif not common:
        ids = f"ranked {listed(list(side.rankings), 2)}, judged {listed(list(judged), 2)}"
        warnings.append(
            f"{part}: no ranked query is judged, so everything is 0: {ids}; do run and qrels belong together?"
        )
    elif not any(judged[query_id].keys() & set(side.rankings[query_id].doc_ids) for query_id in common):
        warnings.append(
            f"{part}: no judged document is ranked for its query, so everything is 0: do the document ids match?"
        )
    return Scored(
        {part: {name: results[name] for name in names}},
        {},
        _without_empty({part: found}),
        {part: _ties(side.rankings)},
        tuple(warnings),
    )


def _without_empty(found: Mapping[str, Mapping[str, tuple[str, ...]]]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {name: dict(reasons) for name, reasons in found.items() if reasons}


def _ties(rankings: Mapping[str, Ranking]) -> dict[str, int]:
    """Count the documents whose score another document of the same query has, and the queries with such."""
    counts = []
    for ranking in rankings.values():
        equal = ranking.scores[1:] == ranking.scores[:-1]
        tied = np.zeros(len(ranking), dtype=bool)
        tied[1:] |= equal
        tied[:-1] |= equal
        counts.append(int(tied.sum()))
    num_documents = sum(len(ranking) for ranking in rankings.values())
    return {
        "queries": sum(count > 0 for count in counts),
        "documents": sum(counts),
        "of_queries": len(counts),
        "of_documents": num_documents,
    }


def _own_side(side: Side, topics: Iterable[str], suffix: str) -> tuple[Side, dict[str, Ranking], tuple[str, ...]]:
    """Return the side with its own queries only, its rankings by topic, and the queries that are left out.

    The suffix is in use when a topic has a query with it, judged or ranked; then no query without it belongs here.
    """
    query_ids = dict.fromkeys([*side.qrels, *side.rankings])
    if not any(topic + suffix in query_ids for topic in topics):
        return side, {topic: side.rankings[topic] for topic in topics if topic in side.rankings}, ()
    left_out = tuple(query_id for query_id in query_ids if not query_id.endswith(suffix))
    qrels = {query_id: grades for query_id, grades in side.qrels.items() if query_id.endswith(suffix)}
    rankings = {query_id: ranking for query_id, ranking in side.rankings.items() if query_id.endswith(suffix)}
    by_topic = {topic: rankings[topic + suffix] for topic in topics if topic + suffix in rankings}
    return Side(qrels, rankings), by_topic, left_out


def _compare_candidates(
    result: MeasureResult, before: Mapping[str, Ranking], after: Mapping[str, Ranking]
) -> tuple[list[str], tuple[str, ...]]:
    """Return a warning that names the topics whose two rankings hold other documents, and these topics."""
    unlike = {}
    for topic in result.per_unit:
        only = len(set(before[topic].doc_ids) ^ set(after[topic].doc_ids))
        if only:
            unlike[topic] = only
    if not unlike:
        return [], ()
    shown = ", ".join(f"{topic!r} ({only})" for topic, only in list(unlike.items())[:5])
    more = f" and {len(unlike) - 5} more" if len(unlike) > 5 else ""
    text = (
        f"p-MRR: in {len(unlike)} of {len(result.per_unit)} topics the two rankings do not hold the same documents "
        f"(topic and number of documents in only one: {shown}{more}); a document outside of a list has rank length + 1"
    )
    return [text], tuple(unlike)
