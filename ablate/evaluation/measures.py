"""What every measure computes, as pure functions of rankings and judgments with one value per unit.

Gaps are treated in one way throughout and every affected unit is listed: a judged query without a ranking (or with an
empty one) scores 0 and stays in the mean; so does a query whose judgments are all zero or negative; a ranking without
judgments is ignored; p-MRR, SICR and WISE (`instructed.py`) compare rankings, so a unit that lacks one of them is
skipped; instruction gain compares two rankings as well.

Sources: trec_eval (nDCG, AP, recall), FollowIR (arXiv:2403.15246) for p-MRR, InstructIR (arXiv:2402.14334) for
Robustness@k, NevIR (arXiv:2305.07614) for pairwise accuracy.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ablate.plugins import Plugin, measure_function, plugin_names, plugin_of, told
from ablate.records import EvaluationSet, UserError
from ablate.retrieval.rankings import Ranking

Qrels = Mapping[str, Mapping[str, int]]
"""query_id -> document id -> grade; grades of zero and below are not relevant."""
Rankings = Mapping[str, Ranking]

MISSING = "judged query without a ranking"
EMPTY = "judged query with an empty ranking"
UNJUDGED = "ranked query without judgments"
NO_POSITIVE = "judged query without a relevant document"
SKIPPED = "skipped: without one of the rankings"
NOTHING_CHANGED = "no changed document"
NO_PAIR = "opposites without a document pair"
NOT_RANKED = "decisions with neither document ranked"
"""Of pairs, in the counts of an evaluation: wrong whichever of the two is right."""
ALONE = "group of one judged query: left out"

P_MRR = "p-MRR"
INSTRUCTION_GAIN = "instruction gain"
SICR = "SICR"
SICR_CODE = "SICR(code)"
WISE = "WISE"
WISE_CODE = "WISE(code)"
PAIRWISE_ACCURACY = "pairwise accuracy"
ONE_SIDED_RATE = "one-sided rate"
SATISFYING_OVER_VIOLATING = "satisfying over violating"

_QUERY_FAMILIES = ("nDCG", "RR", "AP", "recall")
_WITHOUT_CUTOFF = (
    P_MRR,
    INSTRUCTION_GAIN,
    SICR,
    SICR_CODE,
    WISE,
    WISE_CODE,
    PAIRWISE_ACCURACY,
    ONE_SIDED_RATE,
    SATISFYING_OVER_VIOLATING,
)
KNOWN_MEASURES = (*(f"{family}@k" for family in _QUERY_FAMILIES), "Robustness@k", *_WITHOUT_CUTOFF)


class Measure(NamedTuple):
    """A measure taken apart: `nDCG@10` is family `nDCG` with cut-off 10."""

    family: str
    cutoff: int | None


def parse(name: str) -> Measure:
    """Return the parts of a measure's name; raises UserError with the known names for any other."""
    ours = _ours(name)
    if ours is not None:
        return ours
    if plugin_of("ablate.measures", name) is not None:
        return Measure(name, None)
    known = ", ".join((*KNOWN_MEASURES, *plugin_names("ablate.measures")))
    raise UserError(f"measure {name!r} is not known; known are {known} (k = 1, 2, …)")


def _ours(name: str) -> Measure | None:
    match = re.fullmatch(r"(nDCG|RR|AP|recall|Robustness)@([1-9][0-9]*)", name)
    if match:
        return Measure(match[1], int(match[2]))
    return Measure(name, None) if name in _WITHOUT_CUTOFF else None


def revisions_of(names: Sequence[str], usual: Sequence[str]) -> dict[str, str]:
    """Return name -> what ids hold of the measures per query that a recipe adds to the `usual` ones.

    That is distribution and version of a measure that a plugin brings, and nothing for ours. Raises UserError for what
    is no measure per query, is there anyway or twice, or is brought under a name of ours.
    """
    revisions: dict[str, str] = {}
    for name in names:
        plugin, family = plugin_of("ablate.measures", name), parse(name).family
        if plugin is not None and _ours(name) is not None:
            raise UserError(f"evaluation.measures: {plugin.title} has the name of a measure of ablate; uninstall it")
        if plugin is None and family not in _QUERY_FAMILIES:
            raise UserError(f"evaluation.measures: {name!r} has no value per query, or needs no naming; leave it out")
        if name in usual or name in revisions:
            raise UserError(f"evaluation.measures: {name!r} is there already; leave it out")
        revisions[name] = "" if plugin is None else plugin.revision
        if plugin is not None:
            measure_function(plugin)
    return revisions


def with_measures(bed: EvaluationSet, names: Sequence[str]) -> EvaluationSet:
    """Return a set that asks for these measures beside its own."""
    return replace(bed, measures=tuple(dict.fromkeys((*bed.measures, *names)))) if names else bed


def range_of(name: str) -> tuple[float, float]:
    """Return the lowest and the highest value that a measure can have; infinite ones for a measure that is not ours."""
    try:
        family = parse(name).family
    except UserError:
        return -math.inf, math.inf
    return (-1.0, 1.0) if family in (P_MRR, INSTRUCTION_GAIN, WISE, WISE_CODE) else (0.0, 1.0)


def within(ends: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """Return an interval cut to a range, as the ends of a symmetric one may lie where no value can."""
    return min(max(ends[0], low), high), min(max(ends[1], low), high)


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return the t interval of the mean over units, or None for fewer than two of them."""
    from scipy.special import stdtrit

    if len(values) < 2:
        return None
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def mean_name(name: str) -> str:
    """Return what the mean of a measure is called: the mean of RR@10 is MRR@10, that of AP@1000 is MAP@1000.

    A measure that is not known here, as that of a plugin which is not installed, keeps its name.
    """
    try:
        family, cutoff = parse(name)
    except UserError:
        return name
    return f"M{family}@{cutoff}" if family in ("RR", "AP") else name


@dataclass(frozen=True)
class MeasureResult:
    """One value for every unit of one measure, with the units that need a word."""

    name: str
    per_unit: dict[str, float]
    listed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Reason -> units, in the order met; a reason without units is left out."""
    warnings: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()
    """Units that score 0 for want of a ranking: the difference between the two means."""

    @property
    def mean(self) -> float | None:
        """Mean over all units; None when there is none (see `reason`)."""
        return _mean(self.per_unit.values())

    @property
    def mean_present_only(self) -> float | None:
        """Mean over the units that have a ranking: never to be reported without `mean`."""
        return _mean(value for unit, value in self.per_unit.items() if unit not in self.absent)

    @property
    def reason(self) -> str:
        """Why there is no mean; empty when there is one."""
        if self.per_unit:
            return ""
        listed = "; ".join(f"{len(units)} {reason}" for reason, units in self.listed.items())
        return f"{self.name} has no value: no unit is left ({listed or 'none was given'})"


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers) if numbers else None


def _listed(**reasons: Iterable[str]) -> dict[str, tuple[str, ...]]:
    names = {"missing": MISSING, "empty": EMPTY, "unjudged": UNJUDGED, "no_positive": NO_POSITIVE}
    names |= {"skipped": SKIPPED, "unchanged": NOTHING_CHANGED, "no_pair": NO_PAIR}
    listed = {names[key]: tuple(units) for key, units in reasons.items()}
    return {reason: units for reason, units in listed.items() if units}


def _is_absent(ranking: Ranking | None) -> bool:
    return ranking is None or len(ranking) == 0


class _Met(NamedTuple):
    """The relevant documents of one query: where they were ranked, and all that were judged."""

    places: list[tuple[int, int]]
    """(rank, grade) of those that were ranked, best first."""
    ideal: list[int]
    """Grades of all of them, highest first."""

    @classmethod
    def of(cls, grades: Mapping[str, int], ranking: Ranking, depth: int) -> _Met:
        """Look for the documents with a grade above zero, one at least, in the first `depth` of a ranking."""
        relevant = {doc_id: grade for doc_id, grade in grades.items() if grade > 0}
        found = ranking.places_of(relevant, depth)
        return cls([(place, relevant[doc_id]) for doc_id, place in found.items()], sorted(relevant.values())[::-1])

    def value(self, family: str, cutoff: int) -> float:
        """Return nDCG, RR, AP or recall at a cut-off."""
        places = [place for place, _ in self.places if place <= cutoff]
        if family == "nDCG":
            ideal = _discounted(enumerate(self.ideal[:cutoff], start=1))
            return _discounted(self.places[: len(places)]) / ideal
        if family == "RR":
            return 1 / places[0] if places else 0.0
        if family == "recall":
            return len(places) / len(self.ideal)
        return _summed(number / place for number, place in enumerate(places, start=1)) / len(self.ideal)


def _discounted(places: Iterable[tuple[int, int]]) -> float:
    """Return the discounted cumulative gain of (rank, grade)."""
    return _summed(grade / math.log2(place + 1) for place, grade in places)


def _summed(numbers: Iterable[float]) -> float:
    """Return a sum that rounds after each number, as trec_eval's does; `sum` corrects itself from Python 3.12 on."""
    total = 0.0
    for number in numbers:
        total += number
    return total


def query_measures(names: Sequence[str], qrels: Qrels, rankings: Rankings) -> dict[str, MeasureResult]:
    """Return nDCG@k, RR@k, AP@k, recall@k and what plugins bring, for every judged query.

    nDCG has linear gain and the ideal of all judged documents; AP divides by all judged relevant documents; RR is 0
    beyond k. To the bit what trec_eval computes from score = -rank: its sums in its order, in float64. A query
    without any judgment line is not judged. Raises UserError for a measure that is not one of these.
    """
    plugins = {name: plugin_of("ablate.measures", name) for name in names if _ours(name) is None}
    brought = {name: plugin for name, plugin in plugins.items() if plugin is not None}
    parsed = {name: parse(name) for name in names if name not in brought}
    for name, (family, _) in parsed.items():
        if family not in _QUERY_FAMILIES:
            raise UserError(f"measure {name!r} has no value per query; per query are nDCG@k, RR@k, AP@k, recall@k")
    judged = {query_id: grades for query_id, grades in qrels.items() if grades}
    clipped = {q: {doc_id: max(int(grade), 0) for doc_id, grade in grades.items()} for q, grades in judged.items()}
    listed = _listed(
        missing=[q for q in judged if q not in rankings],
        empty=[q for q in judged if q in rankings and len(rankings[q]) == 0],
        no_positive=[q for q, grades in clipped.items() if not any(grades.values())],
        unjudged=[q for q in rankings if q not in judged],
    )
    absent = frozenset(listed.get(MISSING, ()) + listed.get(EMPTY, ()))
    silent = absent.union(listed.get(NO_POSITIVE, ()))
    depth = max((measure.cutoff or 0 for measure in parsed.values()), default=0)
    met = {q: _Met.of(grades, rankings[q], depth) for q, grades in clipped.items() if q not in silent}
    results: dict[str, MeasureResult] = {}
    for name, (family, cutoff) in parsed.items():
        assert cutoff is not None, "a measure per query has a cut-off"
        values = {q: met[q].value(family, cutoff) if q in met else 0.0 for q in judged}
        results[name] = MeasureResult(name, values, listed, absent=absent)
    for name, plugin in brought.items():
        values = _brought(plugin, {q: grades for q, grades in judged.items() if q not in silent}, rankings)
        results[name] = MeasureResult(name, {q: values.get(q, 0.0) for q in judged}, listed, absent=absent)
    return results


def _brought(plugin: Plugin, qrels: Qrels, rankings: Rankings) -> dict[str, float]:
    """Return query_id -> value of a measure that a plugin brings; raises UserError for what is not from 0 to 1."""
    function, values = measure_function(plugin), dict[str, float]()
    for query_id, grades in qrels.items():
        with told(plugin, f"for query {query_id!r}"):
            value = function(dict(grades), rankings[query_id].doc_ids)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UserError(f"{plugin.title} gave {value!r} for query {query_id!r}; a measure is a number from 0 to 1")
        values[query_id] = float(value)
    return values


def query_measure(name: str, qrels: Qrels, rankings: Rankings) -> MeasureResult:
    """Return one measure of `query_measures`."""
    return query_measures([name], qrels, rankings)[name]


def instruction_gain(qrels: Qrels, rankings: Rankings, blind: Rankings) -> MeasureResult:
    """Return what following an instruction gains over ignoring it, per judged query: in [-1, 1].

    nDCG@10 of the query's ranking minus that of `blind`, which has under the same id the ranking that the same ranker
    gives the base query without any instruction; both by the judgments under the instruction. A query whose own ranking
    is missing or empty has nDCG@10 of 0, as everywhere; one without a blind ranking (or with an empty one) is skipped
    and listed. Which documents the two rankings hold is for the caller to compare. This project's own measure.
    """
    judged = {query_id: grades for query_id, grades in qrels.items() if grades}
    skipped = [query_id for query_id in judged if _is_absent(blind.get(query_id))]
    compared = {query_id: judged[query_id] for query_id in judged if not _is_absent(blind.get(query_id))}
    own = query_measure("nDCG@10", compared, rankings)
    ignoring = query_measure("nDCG@10", compared, blind).per_unit
    values = {query_id: own.per_unit[query_id] - ignoring[query_id] for query_id in compared}
    return MeasureResult(INSTRUCTION_GAIN, values, _listed(skipped=skipped), absent=own.absent)


def robustness(cutoff: int, qrels: Qrels, rankings: Rankings, groups: Mapping[str, str]) -> MeasureResult:
    """Return Robustness@k: for each group of queries, the minimum of nDCG@k over its judged members.

    `groups` maps query_id -> group; judged queries without a group are not counted. A member without a ranking scores
    0, hence its group too. A group of one judged query has nothing to be robust against: it is left out and listed.
    The mean is over groups.
    """
    size = Counter(groups[query_id] for query_id, grades in qrels.items() if grades and query_id in groups)
    together = {query_id: grades for query_id, grades in qrels.items() if size[groups.get(query_id, "")] > 1}
    members = query_measure(f"nDCG@{cutoff}", together, rankings)
    lowest: dict[str, float] = {}
    for query_id, value in members.per_unit.items():
        group = groups[query_id]
        lowest[group] = min(value, lowest.get(group, value))
    listed = {
        reason: tuple(dict.fromkeys(groups[q] for q in units if q in groups))
        for reason, units in members.listed.items()
        if reason != UNJUDGED
    }
    if alone := tuple(group for group, count in size.items() if count == 1):
        listed[ALONE] = alone
    absent = frozenset(groups[query_id] for query_id in members.absent)
    return MeasureResult(f"Robustness@{cutoff}", lowest, listed, absent=absent)


def rank_change(rank: int, new_rank: int) -> float:
    """Return p of one document that lost its relevance: > 0 when it moved down, < 0 when up, 0 when it stayed."""
    return new_rank / rank - 1 if rank >= new_rank else 1 - rank / new_rank


def p_mrr(changed_documents: Mapping[str, Sequence[str]], original: Rankings, changed: Rankings) -> MeasureResult:
    """Return p-MRR per topic: the mean rank change of the documents that the changed instruction made non-relevant.

    All three arguments are keyed by topic: the changed documents, the ranking under the original instruction, the
    ranking under the changed one. A document outside of a list has rank len + 1 of that list. A topic without one of
    its rankings (or with an empty one) is skipped, one without changed documents is not counted; both are listed.
    Lists of different lengths create p-MRR out of nothing, so they are warned of by topic. Raw values in (-1, 1); the
    papers print them times 100. Source: FollowIR, arXiv:2403.15246, equation 1.
    """
    values: dict[str, float] = {}
    skipped: list[str] = []
    unchanged: list[str] = []
    warnings: list[str] = []
    for topic, doc_ids in changed_documents.items():
        before, after = original.get(topic), changed.get(topic)
        if not doc_ids:
            unchanged.append(topic)
            continue
        if before is None or after is None or _is_absent(before) or _is_absent(after):
            skipped.append(topic)
            continue
        if len(before) != len(after):
            warnings.append(
                f"p-MRR of topic {topic!r}: the rankings have different lengths ({len(before)} under the original "
                f"instruction, {len(after)} under the changed one), so documents outside of them seem to move"
            )
        ranks = zip(before.ranks_of(doc_ids).tolist(), after.ranks_of(doc_ids).tolist(), strict=True)
        values[topic] = math.fsum(rank_change(r, new) for r, new in ranks) / len(doc_ids)
    return MeasureResult(P_MRR, values, _listed(skipped=skipped, unchanged=unchanged), tuple(warnings))


class Opposite(NamedTuple):
    """Two queries whose instructions are each other's complement."""

    first: str
    second: str
    base_id: str
    first_direction: str
    second_direction: str
    pairs: tuple[tuple[str, str], ...] | None = None
    """(document right for the first, document right for the second); None: every such pair that the qrels imply."""


@dataclass(frozen=True)
class PairwiseResult:
    """Pairwise accuracy with what shows where it fails; units are base queries."""

    accuracy: MeasureResult
    """Both queries rank their own document above the other one; chance .25."""
    satisfying_over_violating: MeasureResult
    """Mean of the two one-sided rates; chance .5."""
    one_sided: dict[str, MeasureResult]
    """direction -> rate at which the query of that direction ranks its own document above the other one."""
    num_pairs: int
    accuracy_over_pairs: float | None
    """Mean over pairs, beside the mean over base queries."""
    num_tied: int
    """One-sided decisions between two documents with equal scores: the id rule made them."""
    num_undecided: int
    """One-sided decisions with neither document in the ranking: counted as wrong."""


def pairwise(opposites: Iterable[Opposite], qrels: Qrels, rankings: Rankings) -> PairwiseResult:
    """Return pairwise accuracy and its one-sided rates over opposite queries.

    Per opposite the mean over its document pairs, then the mean over the opposites of a base query. Documents outside
    of a list have equal rank, which is not right for either; a query without a ranking is wrong in all its pairs and
    listed. Opposites without a pair are listed and not counted. Source: NevIR, arXiv:2305.07614.
    """
    both: dict[str, list[float]] = {}
    mean_of_sides: dict[str, list[float]] = {}
    sides: dict[str, dict[str, list[float]]] = {}
    totals = {"pairs": 0, "correct": 0, "tied": 0, "undecided": 0}
    missing: dict[str, str] = {}
    no_pair: list[str] = []
    for opposite in opposites:
        for direction in (opposite.first_direction, opposite.second_direction):
            sides.setdefault(direction, {})
        satisfying, violating, product = _sides(opposite, qrels)
        if not satisfying or not violating:
            no_pair.append(f"{opposite.first} / {opposite.second}")
            continue
        queries = (opposite.first, opposite.second)
        missing |= {query_id: opposite.base_id for query_id in queries if _is_absent(rankings.get(query_id))}
        first_right, first_tied, first_out = _decide(rankings.get(opposite.first), satisfying, violating, product)
        second_right, second_tied, second_out = _decide(rankings.get(opposite.second), violating, satisfying, product)
        if product:  # (S, V) against (V, S)
            second_right = second_right.T
        correct = first_right & second_right
        base = opposite.base_id
        both.setdefault(base, []).append(float(correct.mean()))
        rates = float(first_right.mean()), float(second_right.mean())
        mean_of_sides.setdefault(base, []).append((rates[0] + rates[1]) / 2)
        sides[opposite.first_direction].setdefault(base, []).append(rates[0])
        sides[opposite.second_direction].setdefault(base, []).append(rates[1])
        totals["pairs"] += correct.size
        totals["correct"] += int(correct.sum())
        totals["tied"] += first_tied + second_tied
        totals["undecided"] += first_out + second_out
    listed = _listed(missing=missing, no_pair=no_pair)

    def result(name: str, per_base: dict[str, list[float]]) -> MeasureResult:
        per_unit = {base: math.fsum(values) / len(values) for base, values in per_base.items()}
        return MeasureResult(name, per_unit, listed, absent=frozenset(missing.values()))

    return PairwiseResult(
        result(PAIRWISE_ACCURACY, both),
        result(SATISFYING_OVER_VIOLATING, mean_of_sides),
        {direction: result(ONE_SIDED_RATE, per_base) for direction, per_base in sides.items()},
        totals["pairs"],
        totals["correct"] / totals["pairs"] if totals["pairs"] else None,
        totals["tied"],
        totals["undecided"],
    )


def _sides(opposite: Opposite, qrels: Qrels) -> tuple[list[str], list[str], bool]:
    """Return the documents right for the first and for the second; True when every combination of them is a pair."""
    if opposite.pairs is not None:
        return [own for own, _ in opposite.pairs], [other for _, other in opposite.pairs], False
    first, second = qrels.get(opposite.first, {}), qrels.get(opposite.second, {})
    only_first = [doc_id for doc_id, grade in first.items() if grade > 0 and second.get(doc_id, 0) <= 0]
    only_second = [doc_id for doc_id, grade in second.items() if grade > 0 and first.get(doc_id, 0) <= 0]
    return only_first, only_second, True


def _decide(
    ranking: Ranking | None, own: Sequence[str], other: Sequence[str], product: bool
) -> tuple[npt.NDArray[np.bool_], int, int]:
    """Return whether each own document ranks above the other one ((N,), or (own, other) for a product), and counts."""
    if ranking is None:
        ranking = Ranking("", (), np.zeros(0, dtype=np.float32))
    ranks = ranking.ranks_of([*own, *other])
    scores = ranking.scores_at(ranks)  # NaN when missing: never a tie
    own_ranks, other_ranks = ranks[: len(own)], ranks[len(own) :]
    own_scores, other_scores = scores[: len(own)], scores[len(own) :]
    if product:
        own_ranks, own_scores = own_ranks[:, None], own_scores[:, None]
    right = own_ranks < other_ranks
    num_undecided = int((own_ranks == other_ranks).sum())
    num_tied = int((own_scores == other_scores).sum())
    return right, num_tied, num_undecided
