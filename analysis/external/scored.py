"""Measures of anyone's run files: plain ones, Robustness@k, p-MRR and instruction gain, and all that must be known.

Definitions, ties and gaps are those of `ablate.evaluation.measures`; no model is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

import ablate.evaluation.measures as measures
from ablate.evaluation.collapse import MARKS, called, in_words, mean_of
from ablate.evaluation.measures import INSTRUCTION_GAIN, MeasureResult, Qrels
from ablate.evaluation.trec import read_run
from ablate.records import UserError
from ablate.retrieval.rankings import Ranking
from analysis.stats.matrix import listed

NDCG = "nDCG@10"
ROBUSTNESS = "Robustness@10"
DEFAULT_MEASURES = (NDCG, "nDCG@5", "RR@10", "AP@1000", "recall@100", "recall@1000")
GROUP_FROM_ID = "judged query that the groups file does not name: its group comes from its id"
OTHER_SIDE = "left out: not a query of this side by its suffix"
UNNAMED = "judged changed query that the changed documents do not name: not part of the mean"
STILL_RELEVANT = "changed document that is relevant in the changed judgments: it should not move down"
NEVER_RELEVANT = "changed document that the original judgments call not relevant: it has no relevance to lose"
UNLIKE_CANDIDATES = "topic with unlike candidate sets"
UNLIKE_PLAIN = "query whose ranking holds other documents than that of its plain query"
NO_PLAIN_RUN = (
    "no instruction gain: without --plain-run, the run of the queries without their instructions, it is not known what "
    "ignoring them gives, and no collapse can be seen"
)


class Side(NamedTuple):
    """A run with its judgments."""

    qrels: Qrels
    rankings: Mapping[str, Ranking]


@dataclass(frozen=True)
class Scored:
    """All that was found; results carry their own listed units and warnings."""

    parts: dict[str, dict[str, MeasureResult]]
    """`run`, `original`, `changed`, `instructed`, `reversed` -> measure -> result."""
    overall: dict[str, MeasureResult]
    """Robustness@k, p-MRR, SICR and WISE."""
    listed: dict[str, dict[str, tuple[str, ...]]]
    """Part or overall measure -> reason -> units; nothing that needs a word is left out."""
    ties: dict[str, dict[str, int]]
    """Part -> how many queries and documents share a score, so that the ids decide."""
    warnings: tuple[str, ...]
    variants: tuple[str, str] = ("", "")
    """Names of the original and the changed variant that p-MRR compares; empty for queries that are named as topics."""

    def __or__(self, other: Scored) -> Scored:
        return Scored(
            self.parts | other.parts,
            self.overall | other.overall,
            self.listed | other.listed,
            self.ties | other.ties,
            self.warnings + other.warnings,
            other.variants if any(other.variants) else self.variants,
        )


def read_finite_run(path: Path | str) -> dict[str, Ranking]:
    """Return the rankings of a TREC run file; raises UserError for what `read_run` refuses, and for infinite scores."""
    rankings = read_run(path)
    for query_id, ranking in rankings.items():
        if len(ranking) and not (np.isfinite(ranking.scores[0]) and np.isfinite(ranking.scores[-1])):  # they are sorted
            doc_id, value = next((d, s) for d, s in zip(ranking.doc_ids, ranking.scores, strict=True) if np.isinf(s))
            raise UserError(
                f"{path}: query {query_id!r}, document {doc_id!r}: the score is {value}, as of a sum that overflowed; "
                "give finite scores, or leave out what was not scored"
            )
    return rankings


def score_run(side: Side, names: Sequence[str], groups: Mapping[str, str] | None = None) -> Scored:
    """Score one run with nDCG@k, RR@k, AP@k and recall@k, and with Robustness@k (always with Robustness@10).

    A query's group is what `groups` says, else the part of its id before the first `_`. Raises UserError for a measure
    that is none of these, and where nothing can be measured (see `check_measurable`).
    """
    check_measurable("run", side)
    robust = dict.fromkeys([ROBUSTNESS, *(name for name in names if measures.parse(name).family == "Robustness")])
    plain = score_side("run", side, [name for name in names if name not in robust])
    judged = [query_id for query_id, grades in side.qrels.items() if grades]
    group_of = {query_id: (groups or {}).get(query_id, query_id.split("_", 1)[0]) for query_id in judged}
    overall = {}
    for name in robust:
        cutoff = measures.parse(name).cutoff
        assert cutoff is not None
        overall[name] = measures.robustness(cutoff, side.qrels, side.rankings, group_of)
    left_out = {name: dict(result.listed) for name, result in overall.items()}
    warnings = []
    if groups is None and len(set(group_of.values())) == len(judged):
        warnings.append("every group has one query, so there is no Robustness@k; name the groups by --groups")
    if unnamed := [query_id for query_id in judged if groups is not None and query_id not in groups]:
        left_out[ROBUSTNESS][GROUP_FROM_ID] = tuple(unnamed)
    if strangers := [query_id for query_id in groups or () if query_id not in group_of]:
        warnings.append(f"the groups file names {len(strangers)} queries that are not judged: {listed(strangers)}")
    return plain | Scored({}, overall, _without_empty(left_out), {}, tuple(warnings))


def score_pair(
    original: Side,
    changed: Side,
    changed_documents: Mapping[str, Sequence[str]],
    names: Sequence[str],
    variants: tuple[str | None, str | None] = (None, None),
    plain: Mapping[str, Ranking] | None = None,
) -> Scored:
    """Score p-MRR with its companions: the original run by the original qrels, the changed run by the changed ones.

    `plain` has the rankings of the queries without any instruction, by topic: with them both sides get the instruction
    gain, and a p-MRR that is a collapse is called so; without them a warning says what cannot be seen.

    The query of a topic has its id, or its id, a hyphen and the name of its variant. Which variant each side is comes
    from its judgments, see `variants_of`; queries of other variants are left out of the side and listed. nDCG@10 is
    always scored, for p-MRR alone cannot tell a model that follows from one that loses every document. Raises UserError
    where the judgments leave open which variants are meant, where judged and ranked queries are of different variants
    (see `check_measurable`), and for a measure without a value per query.
    """
    chosen = variants_of(original.qrels, changed.qrels, changed_documents, variants)
    suffixes = tuple(f"-{variant}" if variant else "" for variant in chosen)
    original, before, left_original = _own_side("original", original, changed_documents, suffixes[0])
    changed, after, left_changed = _own_side("changed", changed, changed_documents, suffixes[1])
    names = [name for name in names if measures.parse(name).family != "Robustness"]
    names = names if NDCG in names else [NDCG, *names]
    scored = score_side("original", original, names) | score_side("changed", changed, names)
    for part, side, suffix in (("original", original, suffixes[0]), ("changed", changed, suffixes[1])):
        if plain is not None:
            scored |= score_gain(part, scored, side, {f"{topic}{suffix}": ranked for topic, ranked in plain.items()})
    for part, left_out in (("original", left_original), ("changed", left_changed)):
        if left_out:
            scored.listed.setdefault(part, {})[OTHER_SIDE] = left_out
    result = measures.p_mrr(changed_documents, before, after)
    warnings, unlike = _compare_candidates(result, before, after)
    reasons = dict(result.listed)
    judged = [query_id for query_id, grades in changed.qrels.items() if grades]
    known = {topic + suffixes[1] for topic in changed_documents}
    if unnamed := tuple(query_id for query_id in judged if query_id not in known):
        reasons[UNNAMED] = unnamed
    for name, qrels, suffix, is_wrong in (
        (STILL_RELEVANT, changed.qrels, suffixes[1], True),
        (NEVER_RELEVANT, original.qrels, suffixes[0], False),
    ):
        reasons[name] = tuple(
            f"{topic}: {doc_id}"
            for topic in result.per_unit
            for doc_id in changed_documents[topic]
            if doc_id in (grades := qrels.get(topic + suffix, {})) and (grades[doc_id] > 0) is is_wrong
        )
    if unlike:
        reasons[UNLIKE_CANDIDATES] = unlike
    if not result.per_unit:
        raise UserError(f"{result.reason}; p-MRR needs a changed document and both rankings of one topic at least")
    overall = {measures.P_MRR: result}
    noted = _without_empty({measures.P_MRR: {name: units for name, units in reasons.items() if units}})
    warnings += [NO_PLAIN_RUN] if plain is None else []
    collapse = _collapse(result, scored.parts["changed"].get(INSTRUCTION_GAIN))
    return scored | Scored({}, overall, noted, {}, (*collapse, *result.warnings, *warnings), chosen)


def score_gain(part: str, scored: Scored, side: Side, blind: Mapping[str, Ranking]) -> Scored:
    """Score the instruction gain of a side that is scored, over `blind`: what its queries rank without instructions.

    Queries are known by the ids of the side. Raises UserError where no judged query has a blind ranking.
    """
    result = measures.instruction_gain(side.qrels, side.rankings, blind)
    if not result.per_unit:
        raise UserError(
            f"{part}: {result.reason}; the plain run has {listed(list(blind), 2) or 'no query'}, and judged are "
            f"{listed(list(side.qrels), 2)}: give the run of the same queries without instruction, named as the topics"
        )
    unlike = [
        query_id
        for query_id in result.per_unit
        if query_id in side.rankings and set(side.rankings[query_id].doc_ids) != set(blind[query_id].doc_ids)
    ]
    reasons = {f"{INSTRUCTION_GAIN}: {reason}": units for reason, units in result.listed.items()}
    reasons |= {UNLIKE_PLAIN: tuple(unlike)} if unlike else {}
    parts = {part: {**scored.parts[part], INSTRUCTION_GAIN: result}}
    return Scored(parts, {}, {part: {**scored.listed.get(part, {}), **reasons}} if reasons else {}, {}, ())


def _collapse(p_mrr: MeasureResult, gain: MeasureResult | None) -> list[str]:
    """Return in words that a p-MRR is a collapse, or may be one."""
    if gain is None:
        return []
    means = mean_of(p_mrr.per_unit.values()), mean_of(gain.per_unit.values())
    verdict = called(*means)
    return [f"{MARKS[verdict]}: {in_words(*means, 'topics')}"] if verdict else []


def variants_of(
    original: Qrels, changed: Qrels, topics: Collection[str], asked: tuple[str | None, str | None] = (None, None)
) -> tuple[str, str]:
    """Return the variants that the judgments of the two sides are of, empty for queries that are named as topics.

    Of several judged variants the one that is asked for counts, else `og` (original) and `changed`, the names of the
    published sets, else the only two that differ. Raises UserError where no topic is judged on a side, where a variant
    is asked for that is not judged, and where more than one pair of variants is possible.
    """
    judged = []
    for name, qrels, wanted, usual in zip(
        ("original", "changed"), (original, changed), asked, ("og", "changed"), strict=True
    ):
        there = _judged_variants(qrels, topics)
        if not there:
            raise UserError(
                f"the {name} judgments have no query of the {len(topics):,} topics of the changed documents: judged "
                f"{listed(list(qrels), 2) or 'none'}, topics {listed(list(topics), 2) or 'none'}; the query of topic t "
                "is t or t-VARIANT"
            )
        if wanted is not None and wanted not in there:
            raise UserError(
                f"--{name}-variant {wanted!r}: no judged {name} query ends in '-{wanted}'; judged are {_counted(there)}"
            )
        judged.append([wanted] if wanted is not None else [usual] if usual in there else list(there))
    pairs = [(first, second) for first in judged[0] for second in judged[1] if first != second and second]
    pairs = pairs or [(first, second) for first in judged[0] for second in judged[1] if not second]
    if not pairs:
        raise UserError(
            f"the original and the changed variant are both {judged[0][0]!r}, so nothing can have moved; give the "
            "judgments of two variants"
        )
    if len(pairs) > 1:
        shown = "; ".join(
            f"{name} {_counted(_judged_variants(qrels, topics))}"
            for name, qrels in (("original", original), ("changed", changed))
        )
        raise UserError(
            f"which variants p-MRR compares is open, judged are {shown}; say it by --original-variant and "
            "--changed-variant"
        )
    return pairs[0]


def _judged_variants(qrels: Qrels, topics: Collection[str]) -> dict[str, int]:
    """Return variant -> how many topics have a judged query of it; the empty name is a query named as its topic."""
    counts: dict[str, int] = {}
    for query_id, grades in qrels.items():
        ends = [place for place, letter in enumerate(query_id) if letter == "-"]
        parts = [(query_id, ""), *((query_id[:place], query_id[place + 1 :]) for place in reversed(ends))]
        variant = next((variant for topic, variant in parts if topic in topics), None)
        if grades and variant is not None:
            counts[variant] = counts.get(variant, 0) + 1
    return counts


def _counted(variants: Mapping[str, int]) -> str:
    shown = (f"{f'-{name}' if name else 'without a variant'} ({count:,} topics)" for name, count in variants.items())
    return ", ".join(shown)


def check_measurable(part: str, side: Side) -> None:
    """Raise UserError where a side has nothing to measure, so that every mean would be 0 or missing for no reason."""
    judged = [query_id for query_id, grades in side.qrels.items() if grades]
    if not judged:
        raise UserError(f"{part}: no query is judged, so there is nothing to measure; check the judgments")
    if not any(grade > 0 for grades in side.qrels.values() for grade in grades.values()):
        raise UserError(
            f"{part}: no document is relevant for any of the {len(judged):,} judged queries (no grade above 0), so "
            "every value would be 0; check the judgments"
        )
    if not side.rankings:
        raise UserError(f"{part}: the run has no line, so every query would score 0; check the run file")
    if not side.rankings.keys() & set(judged):
        raise UserError(
            f"{part}: none of the {len(side.rankings):,} ranked queries is among the {len(judged):,} judged ones "
            f"(ranked {listed(list(side.rankings), 2)}, judged {listed(judged, 2)}); give a run and judgments of the "
            "same queries"
        )


def score_side(part: str, side: Side, names: Sequence[str]) -> Scored:
    """Score one run with measures that have a value per query, and say what is wrong with it under its name."""
    results = measures.query_measures([*dict.fromkeys([NDCG, *names])], side.qrels, side.rankings)
    left_out = results[NDCG].listed
    warnings = []
    judged = {query_id: grades for query_id, grades in side.qrels.items() if grades}
    common = [query_id for query_id in side.rankings if query_id in judged]
    if not any(judged[query_id].keys() & set(side.rankings[query_id].doc_ids) for query_id in common):
        warnings.append(
            f"{part}: no judged document is ranked for its query, so everything is 0: do the document ids match?"
        )
    return Scored(
        {part: {name: results[name] for name in names}},
        {},
        _without_empty({part: left_out}),
        {part: count_ties(side.rankings)},
        tuple(warnings),
    )


def _without_empty(left_out: Mapping[str, Mapping[str, tuple[str, ...]]]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {name: dict(reasons) for name, reasons in left_out.items() if reasons}


def count_ties(rankings: Mapping[str, Ranking]) -> dict[str, int]:
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


def _own_side(
    part: str, side: Side, topics: Iterable[str], suffix: str
) -> tuple[Side, dict[str, Ranking], tuple[str, ...]]:
    """Return the side with the queries of its variant only, its rankings by topic, and the queries that are left out.

    A side whose queries are named as their topics is taken whole, but for queries of a topic with another variant.
    """
    own = {topic + suffix for topic in topics}
    others = tuple(f"{topic}-" for topic in topics)

    def belongs(query_id: str) -> bool:
        return query_id in own or (query_id.endswith(suffix) if suffix else not query_id.startswith(others))

    left_out = tuple(query_id for query_id in dict.fromkeys([*side.qrels, *side.rankings]) if not belongs(query_id))
    mine = Side(
        {query_id: grades for query_id, grades in side.qrels.items() if belongs(query_id)},
        {query_id: ranking for query_id, ranking in side.rankings.items() if belongs(query_id)},
    )
    check_measurable(part, mine if mine.rankings else Side(mine.qrels, side.rankings))
    by_topic = {topic: mine.rankings[topic + suffix] for topic in topics if topic + suffix in mine.rankings}
    return mine, by_topic, left_out


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
