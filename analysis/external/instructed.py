"""SICR and WISE of anyone's run files: three runs of the same queries, with the judgments of each.

InfoSearch (arXiv:2410.23841) poses a query three times under one id: as it is (original), with an instruction
(instructed), and with the instruction negated (reversed). A document counts where it is relevant to the query and
still relevant under the instruction: it should rise with the instruction and fall with its reverse.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from ablate.evaluation.instructed import InstructedCase, instructed_measures
from ablate.evaluation.measures import SICR, parse
from ablate.records import UserError
from analysis.external.scored import NDCG, Scored, Side, check_measurable, score_gain, score_side

MODES = ("original", "instructed", "reversed")
BOTH = "SICR, WISE"
"""Where the units of all four values are listed."""
NO_DOCUMENT = "left out: no document is relevant both originally and under the instruction"
OUTSIDE = "relevant document outside of a ranking: it has rank length + 1 and score 0 there"
NOT_JUDGED = "document that is relevant originally and not judged under the instruction: taken as not relevant"
ONLY_INSTRUCTED = "document that is relevant under the instruction and not originally: not scored"
CONTRADICTION = "document that is relevant under the instruction and under its reverse: it cannot follow both"


def score_modes(sides: Mapping[str, Side], names: Sequence[str]) -> Scored:
    """Score SICR and WISE, by the paper and by its code, with the measures `names` of each run by its own judgments.

    `sides` has a run with its judgments for each of MODES. N of a query (WISE) are the documents that the original
    judgments call relevant; those listed (WISE(code)) are the ones of them that are judged under the instruction.
    nDCG@10 is always scored, for neither measure says how good a ranking is, and the instruction gain of the two runs
    with an instruction, for the original run ignores it. Raises UserError for a query that is not
    judged in all modes, where a run has nothing to measure (see `check_measurable`), and where no query has a value.
    """
    for mode in MODES:
        check_measurable(mode, sides[mode])
    _check_same_queries(sides)
    plain = [name for name in names if parse(name).family != "Robustness"]
    scored = Scored({}, {}, {}, {}, ())
    for mode in MODES:
        scored |= score_side(mode, sides[mode], plain if NDCG in plain else [NDCG, *plain])
    original, instructed, reverse = (sides[mode] for mode in MODES)
    for mode in MODES[1:]:
        scored |= score_gain(mode, scored, sides[mode], original.rankings)
    cases: dict[str, InstructedCase] = {}
    without: list[str] = []
    noted: dict[str, list[str]] = {}
    for query_id in (query_id for query_id, grades in original.qrels.items() if grades):
        before, after, opposite = (side.qrels[query_id] for side in (original, instructed, reverse))
        positive = [doc_id for doc_id, grade in before.items() if grade > 0]
        case = InstructedCase(
            original.rankings.get(query_id),
            instructed.rankings.get(query_id),
            reverse.rankings.get(query_id),
            relevant=tuple(doc_id for doc_id in positive if after.get(doc_id, 0) > 0),
            num_positive=len(positive),
            num_listed=sum(doc_id in after for doc_id in positive),
        )
        if case.relevant:
            cases[query_id] = case
        else:
            without.append(query_id)
        rankings = [ranking for ranking in case[:3] if ranking is not None]
        for reason, doc_ids in {
            NOT_JUDGED: [doc_id for doc_id in positive if doc_id not in after],
            ONLY_INSTRUCTED: [doc_id for doc_id, grade in after.items() if grade > 0 >= before.get(doc_id, 0)],
            CONTRADICTION: [doc_id for doc_id in case.relevant if opposite.get(doc_id, 0) > 0],
            OUTSIDE: [doc_id for doc_id in case.relevant if any(doc_id not in ranking.doc_ids for ranking in rankings)],
        }.items():
            noted.setdefault(reason, []).extend(f"{query_id}: {doc_id}" for doc_id in doc_ids)
    results = instructed_measures(cases)
    left_out = results[SICR].listed | ({NO_DOCUMENT: tuple(without)} if without else {})
    if not results[SICR].per_unit:
        reason = dataclasses.replace(results[SICR], listed=left_out).reason
        raise UserError(
            f"{reason}; SICR and WISE need all three rankings of one query at least, and a document that "
            "is relevant to it with and without its instruction"
        )
    listed = left_out | {reason: tuple(units) for reason, units in noted.items() if units}
    return scored | Scored({}, results, {BOTH: listed} if listed else {}, {}, ())


def _check_same_queries(sides: Mapping[str, Side]) -> None:
    judged = {mode: [query_id for query_id, grades in sides[mode].qrels.items() if grades] for mode in MODES}
    for mode, other in itertools.permutations(MODES, 2):
        known = set(judged[other])
        lacking = next((query_id for query_id in judged[mode] if query_id not in known), None)
        if lacking is not None:
            raise UserError(
                f"query {lacking!r} is in the {mode} judgments and not in the {other} ones; SICR and WISE compare one "
                "query in three modes, so give judgments of the same query ids in all three"
            )
