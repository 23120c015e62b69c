"""SICR and WISE: whether documents relevant under an instruction follow it, and its reverse, in three rankings.

Modes of InfoSearch (arXiv:2410.23841): original (the query alone), instructed, reversely instructed. Both measures come
twice, by the formulas of the paper and as its public code computes them, because published numbers do not say which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ablate.evaluation.measures import SICR, SICR_CODE, SKIPPED, WISE, WISE_CODE, MeasureResult
from ablate.records import UserError
from ablate.retrieval.rankings import Ranking

INFOSEARCH_MEASURES = (SICR, SICR_CODE, WISE, WISE_CODE)


class ThreeRanks(NamedTuple):
    """Ranks of one relevant document under the original, the instructed and the reversely instructed query."""

    original: int
    instructed: int
    reversed: int


class ThreeScores(NamedTuple):
    """Scores of one relevant document under the same three queries, from one scorer with one scale."""

    original: float
    instructed: float
    reversed: float


def sicr_indicator(ranks: ThreeRanks, scores: ThreeScores, *, code: bool = False) -> int:
    """Return 1 if rank and score both follow the instruction and its reverse, else 0.

    `code=True` follows the public code of InfoSearch, which can give 1 to a document that already ranks first.
    Source: InfoSearch, arXiv:2410.23841, equation 2.
    """
    if code and ranks.original == 1:
        ranks_follow = ranks.instructed == 1 and ranks.reversed > 1
        return int(ranks_follow and scores.instructed >= scores.original > scores.reversed)
    ranks_follow = ranks.instructed < ranks.original < ranks.reversed
    return int(ranks_follow and scores.instructed > scores.original > scores.reversed)


_WISE_K = 20


def wise(ranks: ThreeRanks, num_positive: int) -> float:
    """Return the WISE reward or penalty of one document by the paper's formula, with its square root.

    `num_positive` is N, the relevant documents of the query in its original form; K is 20. Source: InfoSearch,
    arXiv:2410.23841, equations 3 to 6.
    """
    original, instructed, reverse = ranks
    if instructed <= original < reverse:
        if original <= num_positive and instructed == 1:
            return 1.0
        if original <= _WISE_K:
            return (1 - math.sqrt(original - instructed) / _WISE_K) / math.sqrt(instructed)
        return 0.01
    if reverse < original < instructed:
        return -1.0
    return _wise_penalty(ranks)


def wise_code(ranks: ThreeRanks, num_listed: int) -> float:
    """Return the WISE reward or penalty of one document as the public code computes it.

    `num_listed` is the number of positive and negative documents listed for the query. It differs from the paper in
    the square root, in the condition of the full reward and in the penalty of -1, which it never gives. Source:
    github.com/EIT-NLP/InfoSearch, mteb_infosearch/mteb/evaluation/evaluators/utils.py at 25179c1.
    """
    original, instructed, reverse = ranks
    if instructed <= original < reverse:
        if original < num_listed and instructed == 1:
            return 1.0
        if original <= _WISE_K:
            return (1 - (original - instructed) / _WISE_K) / math.sqrt(instructed)
        return 0.01
    return _wise_penalty(ranks)


def _wise_penalty(ranks: ThreeRanks) -> float:
    if ranks.original <= ranks.instructed:
        return (ranks.original - ranks.instructed) / ranks.instructed
    return (ranks.reversed - ranks.original) / ranks.original


class InstructedCase(NamedTuple):
    """One instructed query of SICR and WISE: its three rankings (None: missing) and what they are judged by."""

    original: Ranking | None
    instructed: Ranking | None
    reversed: Ranking | None
    relevant: tuple[str, ...]
    """Documents relevant under the instruction; at least one."""
    num_positive: int
    """Relevant documents of the query in its original form (WISE)."""
    num_listed: int
    """Positive and negative documents listed for the query (WISE(code))."""


def instructed_measures(cases: Mapping[str, InstructedCase]) -> dict[str, MeasureResult]:
    """Return SICR, SICR(code), WISE and WISE(code) per query: the mean over its relevant documents.

    A document outside of a list has rank len + 1 and score 0. A query without one of its three rankings is skipped and
    listed, for a made-up rank would reward or punish it. Raises UserError naming a query without relevant documents.
    """
    values: dict[str, dict[str, float]] = {name: {} for name in INFOSEARCH_MEASURES}
    skipped: list[str] = []
    for unit, case in cases.items():
        rankings = (case.original, case.instructed, case.reversed)
        if not case.relevant:
            raise UserError(f"query {unit!r}: no relevant document is given for SICR and WISE; leave the query out")
        present = [ranking for ranking in rankings if ranking is not None and len(ranking)]
        if len(present) < 3:
            skipped.append(unit)
            continue
        ranks = np.stack([ranking.ranks_of(case.relevant) for ranking in present], axis=1).tolist()
        scores = np.stack([ranking.scores_of(case.relevant, missing=0.0) for ranking in present], axis=1).tolist()
        three = [(ThreeRanks(*r), ThreeScores(*s)) for r, s in zip(ranks, scores, strict=True)]
        count = len(three)
        values[SICR][unit] = math.fsum(sicr_indicator(r, s) for r, s in three) / count
        values[SICR_CODE][unit] = math.fsum(sicr_indicator(r, s, code=True) for r, s in three) / count
        values[WISE][unit] = math.fsum(wise(r, case.num_positive) for r, _ in three) / count
        values[WISE_CODE][unit] = math.fsum(wise_code(r, case.num_listed) for r, _ in three) / count
    listed = {SKIPPED: tuple(skipped)} if skipped else {}
    return {name: MeasureResult(name, per_unit, listed) for name, per_unit in values.items()}
