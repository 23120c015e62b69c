"""Our measures against three peers on random cases: the largest absolute difference of any per-unit value.

    python -m benchmarks.parity [--cases 2000] [--seed 0]

Peers: the formulas written out in this file; pytrec_eval with its own tie rule on the raw scores (our measures give it
a ranking instead, so nDCG, AP and recall share its arithmetic, not its order); mteb, where it is installed. The cases
are what all of them define: every query ranked and judged, scores that float32 holds. They have ties, unjudged and
unretrieved documents, grades from -1 to 4, lists of unequal length, documents outside of a list. What the peers define
differently is in tests/test_official_measures.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pytrec_eval
from tqdm import tqdm

from ablate.evaluation import measures
from ablate.evaluation.measures import Opposite
from ablate.retrieval.rankings import Ranking, rank

Scores = dict[str, dict[str, float]]
"""query_id -> document id -> score: a run as the peers take it."""
Grades = dict[str, dict[str, int]]
Values = Mapping[str, float]
"""Unit -> value."""
Compared = tuple[str, str, Values, Values]
"""Peer, measure, ours, theirs."""

TOLERANCE = 1e-9
CUTOFFS = (1, 3, 10, 1000)
LEVELS = (-2.0, -0.25, -0.0, 0.0, 0.25, 0.25 + 2.0**-20, 1.0, 3.5)
"""Scores: few, so that most lists have ties; all of them are float32 values."""
_ENGINE = {"nDCG": "ndcg_cut", "AP": "map_cut", "recall": "recall"}


def rankings_of(run: Mapping[str, Mapping[str, float]]) -> dict[str, Ranking]:
    """Return our rankings of a run."""
    return {query_id: rank(query_id, list(scores), list(scores.values())) for query_id, scores in run.items()}


def has_mteb() -> bool:
    """Return whether mteb is installed."""
    return importlib.util.find_spec("mteb") is not None


def by_definition(name: str, grades: Mapping[str, int], scores: Mapping[str, float]) -> float:
    """Return nDCG@k, RR@k, AP@k or recall@k of one query, by the formulas alone."""
    family, cutoff = name.split("@")
    ranked = sorted(scores, key=lambda doc_id: (scores[doc_id], doc_id), reverse=True)[: int(cutoff)]
    gains = [max(grades.get(doc_id, 0), 0) for doc_id in ranked]
    positive = [grade for grade in grades.values() if grade > 0]
    if family == "RR":
        return next((1 / place for place, gain in enumerate(gains, 1) if gain), 0.0)
    if not positive:
        return 0.0
    if family == "nDCG":
        ideal = sorted(positive, reverse=True)[: int(cutoff)]
        gained, best = (sum(g / math.log2(place + 1) for place, g in enumerate(row, 1)) for row in (gains, ideal))
        return gained / best
    hits = [place for place, gain in enumerate(gains, 1) if gain]
    if family == "recall":
        return len(hits) / len(positive)
    return sum(count / place for count, place in enumerate(hits, 1)) / len(positive)


def trec_eval(run: Scores, qrels: Grades) -> dict[str, dict[str, float]]:
    """Return query -> pytrec_eval's name of a measure -> value; ties are broken by its own code."""
    wanted = {f"{name}.{','.join(map(str, CUTOFFS))}" for name in _ENGINE.values()} | {"recip_rank"}
    return pytrec_eval.RelevanceEvaluator(qrels, wanted).evaluate(run)


def query_measures(run: Scores, qrels: Grades) -> Iterator[Compared]:
    """Compare nDCG, AP, recall and RR of every query; every judged query must be ranked and have a judgment."""
    names = [f"{family}@{cutoff}" for family in ("nDCG", "AP", "recall", "RR") for cutoff in CUTOFFS]
    ours = measures.query_measures(names, qrels, rankings_of(run))
    for name in names:
        yield "formulas", name, ours[name].per_unit, {q: by_definition(name, qrels[q], run[q]) for q in qrels}
    engine = trec_eval(run, qrels)
    for family, key in _ENGINE.items():
        for cutoff in CUTOFFS:
            name = f"{family}@{cutoff}"
            yield "pytrec_eval", name, ours[name].per_unit, {q: engine[q][f"{key}_{cutoff}"] for q in qrels}
    # pytrec_eval has no cut-off here; no list is longer than 1000
    yield "pytrec_eval", "RR@1000", ours["RR@1000"].per_unit, {q: engine[q]["recip_rank"] for q in qrels}
    if not has_mteb():
        return
    from mteb._evaluators import retrieval_metrics as official

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its abstention curves divide by zero; they are not compared
        official_scores = official.calculate_retrieval_scores(run, qrels, list(CUTOFFS))
    for family, key in _ENGINE.items():
        for cutoff in CUTOFFS:
            name = f"{family}@{cutoff}"
            theirs = {q: official_scores.all_scores[q][f"{key}_{cutoff}"] for q in qrels}
            yield "mteb", name, ours[name].per_unit, theirs
    for name, values in official.mrr(qrels, run, CUTOFFS).items():
        yield "mteb", name[1:], ours[name[1:]].per_unit, dict(zip(run, values, strict=True))


def p_mrr_by_definition(doc_ids: Sequence[str], before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return p-MRR of one topic in the paper's form, by reciprocal ranks."""

    def reciprocal(scores: Mapping[str, float], doc_id: str) -> float:
        better = [other for other in scores if (scores[other], other) > (scores.get(doc_id, -math.inf), doc_id)]
        return 1 / (len(better) + 1) if doc_id in scores else 1 / (len(scores) + 1)

    pairs = [(reciprocal(before, doc_id), reciprocal(after, doc_id)) for doc_id in doc_ids]
    return sum(old / new - 1 if old <= new else 1 - new / old for old, new in pairs) / len(pairs)


def p_mrr(before: Scores, after: Scores, changed_documents: Mapping[str, list[str]]) -> Iterator[Compared]:
    """Compare p-MRR per topic, and the mean over topics; every topic has two lists and a changed document."""
    ours = measures.p_mrr(changed_documents, rankings_of(before), rankings_of(after))
    topics = {t: p_mrr_by_definition(docs, before[t], after[t]) for t, docs in changed_documents.items()}
    yield "formulas", "p-MRR", ours.per_unit, topics
    if not has_mteb():
        return
    from mteb._evaluators.retrieval_metrics import calculate_pmrr

    original = {f"{topic}-og": scores for topic, scores in before.items()}
    changed = {f"{topic}-changed": scores for topic, scores in after.items()}
    theirs = {t: float(calculate_pmrr(original, changed, {t: docs})) for t, docs in changed_documents.items()}
    yield "mteb", "p-MRR", ours.per_unit, theirs
    assert ours.mean is not None
    mean = float(calculate_pmrr(original, changed, dict(changed_documents)))
    yield "mteb", "p-MRR (mean)", {"": ours.mean}, {"": mean}


def instruction_gain(run: Scores, plain: Scores, qrels: Grades) -> Iterator[Compared]:
    """Compare the instruction gain of every query; both runs rank every query."""
    ours = measures.instruction_gain(qrels, rankings_of(run), rankings_of(plain)).per_unit
    name, (own, blind) = "instruction gain", (trec_eval(ranked, qrels) for ranked in (run, plain))
    written_out = {
        q: by_definition("nDCG@10", g, run[q]) - by_definition("nDCG@10", g, plain[q]) for q, g in qrels.items()
    }
    yield "formulas", name, ours, written_out
    yield "pytrec_eval", name, ours, {q: own[q]["ndcg_cut_10"] - blind[q]["ndcg_cut_10"] for q in qrels}


def robustness(run: Scores, qrels: Grades) -> Iterator[Compared]:
    """Compare Robustness@10 per group and its mean; the group is the part of the id before `_`.

    Groups of one query, which the peers count and we leave out, are left out of the case.
    """
    size = Counter(query_id.split("_")[0] for query_id in qrels)
    qrels = {query_id: grades for query_id, grades in qrels.items() if size[query_id.split("_")[0]] > 1}
    groups = {query_id: query_id.split("_")[0] for query_id in qrels}
    if not qrels:
        return
    ours = measures.robustness(10, qrels, rankings_of(run), groups)
    engine = trec_eval(run, qrels)
    members = {group: [q for q in qrels if groups[q] == group] for group in dict.fromkeys(groups.values())}
    lowest = {group: min(engine[q]["ndcg_cut_10"] for q in query_ids) for group, query_ids in members.items()}
    yield "pytrec_eval", "Robustness@10", ours.per_unit, lowest
    if not has_mteb():
        return
    from mteb._evaluators.retrieval_metrics import robustness_at_10

    theirs = {g: robustness_at_10({q: qrels[q] for q in query_ids}, run, engine) for g, query_ids in members.items()}
    yield "mteb", "Robustness@10", ours.per_unit, theirs
    assert ours.mean is not None
    yield "mteb", "Robustness@10 (mean)", {"": ours.mean}, {"": robustness_at_10(qrels, run, engine)}


def pairwise(run: Scores, qrels: Grades) -> Iterator[Compared]:
    """Compare pairwise accuracy; queries are `<pair>_q1` and `<pair>_q2`, candidates exactly two documents."""
    pairs = list(dict.fromkeys(query_id.rpartition("_")[0] for query_id in qrels))
    opposites = [Opposite(f"{pair}_q1", f"{pair}_q2", pair, "q1", "q2") for pair in pairs]
    ours = measures.pairwise(opposites, qrels, rankings_of(run)).accuracy
    engine = trec_eval(run, qrels)
    both = {pair: float(all(engine[f"{pair}_{q}"]["recall_1"] == 1 for q in ("q1", "q2"))) for pair in pairs}
    yield "pytrec_eval", "pairwise accuracy", ours.per_unit, both
    if not has_mteb():
        return
    from mteb._evaluators.retrieval_metrics import paired_accuracy

    assert ours.mean is not None
    yield "mteb", "pairwise accuracy (mean)", {"": ours.mean}, {"": paired_accuracy(qrels, run, engine)}


def _scores(rng: np.random.Generator, ids: Sequence[str], at_least: int = 1) -> dict[str, float]:
    chosen = rng.permutation(list(ids))[: rng.integers(at_least, len(ids) + 1)].tolist()
    if rng.random() < 0.5:
        return dict(zip(chosen, rng.choice(LEVELS, len(chosen)).tolist(), strict=True))
    return dict(zip(chosen, rng.normal(size=len(chosen)).astype(np.float32).tolist(), strict=True))


def _grades(rng: np.random.Generator, ids: Sequence[str]) -> dict[str, int]:
    chosen = rng.permutation(list(ids))[: rng.integers(1, len(ids) + 1)].tolist()
    return dict(zip(chosen, rng.integers(-1, 5, len(chosen)).tolist(), strict=True))


def random_case(rng: np.random.Generator) -> Iterator[Compared]:
    """Compare one random case of every measure."""
    ids = [str(number) for number in range(int(rng.integers(2, 40)))]
    queries = [f"g{group}_{member}" for group in range(3) for member in range(int(rng.integers(1, 4)))]
    run = {query_id: _scores(rng, ids) for query_id in queries}
    qrels = {query_id: _grades(rng, [*ids, "outside", "10x"]) for query_id in queries}
    yield from query_measures(run, qrels)
    yield from robustness(run, qrels)
    yield from instruction_gain(run, {query_id: _scores(rng, ids) for query_id in queries}, qrels)
    topics = [f"t{number}" for number in range(int(rng.integers(1, 4)))]
    lost = {t: rng.choice([*ids, "outside"], int(rng.integers(1, 6))).tolist() for t in topics}
    yield from p_mrr({t: _scores(rng, ids) for t in topics}, {t: _scores(rng, ids) for t in topics}, lost)
    two = {f"p{pair}_{side}": _scores(rng, ids[:2], 2) for pair in range(4) for side in ("q1", "q2")}
    yield from pairwise(two, {query_id: {ids[query_id.endswith("q2")]: 1} for query_id in two})


@dataclass
class Tally:
    """What was compared of one measure with one peer."""

    num_cases: int = 0
    num_values: int = 0
    largest: float = 0.0

    def add(self, ours: Values, theirs: Values) -> None:
        """Count one case; units that only one side has are an infinite difference."""
        self.num_cases += 1
        self.num_values += len(theirs)
        same_units = ours.keys() == theirs.keys()
        far = max((abs(ours[unit] - theirs[unit]) for unit in theirs), default=0.0) if same_units else math.inf
        self.largest = max(self.largest, math.inf if math.isnan(far) else far)


def tallies(num_cases: int, seed: int, progress: Callable[[Any], Any] = lambda cases: cases) -> dict[Any, Tally]:
    """Return (peer, measure) -> what was found in the random cases."""
    by_measure: dict[tuple[str, str], Tally] = {}
    rng = np.random.default_rng(seed)
    for _ in progress(range(num_cases)):
        for peer, measure, ours, theirs in random_case(rng):
            by_measure.setdefault((peer, measure), Tally()).add(ours, theirs)
    return by_measure


def main() -> int:
    """Print a line for each measure and peer, and return 1 if any difference is above the tolerance."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parity",
        description="Largest difference of our measures to pytrec_eval and mteb on random cases.",
        epilog="Example: python -m benchmarks.parity --cases 200",
    )
    parser.add_argument("--cases", type=int, default=2000, help="random cases for each measure (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    peers = [f"{name} {version(name)}" for name in ("pytrec-eval-terrier", *(["mteb"] if has_mteb() else []))]
    print(f"peers: {', '.join(peers)}" + ("" if has_mteb() else "; mteb is not installed, so it is not compared"))
    quiet = not sys.stderr.isatty()
    results = tallies(options.cases, options.seed, lambda cases: tqdm(cases, disable=quiet, unit="case"))
    print(f"{'peer':12s} {'measure':26s} {'cases':>7s} {'values':>9s} {'largest difference':>19s}")
    for (peer, measure), tally in sorted(results.items()):
        print(f"{peer:12s} {measure:26s} {tally.num_cases:7,} {tally.num_values:9,} {tally.largest:19.2e}")
    worst = max((tally.largest for tally in results.values()), default=0.0)
    print(f"largest of all: {worst:.2e} ({'within' if worst <= TOLERANCE else 'ABOVE'} {TOLERANCE:g})")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
