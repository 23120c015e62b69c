"""An audit of inverted labels: what gold, judges and humans said, as shares with intervals and verdicts."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np

from ablate.data.judgments import CLASSES, KINDS, QUESTIONS, SWAP, UNJUDGEABLE, Judgment, Kind
from ablate.records import UserError
from analysis.audit.agreement import Agreement, agreement
from analysis.audit.items import Item
from analysis.audit.two_phase import (
    MIN_LABELS,
    Estimate,
    bounded_share,
    codes,
    estimate_share,
    merge_strata,
    share_interval,
)
from analysis.stats.corrections import holm

Call = Literal["ABOVE", "BELOW", "UNDECIDED"]
Measure = Callable[[Judgment], bool]


def _is_class(name: str) -> Measure:
    return lambda judgment: judgment.swap_class == name


def _says(question: str) -> Measure:
    return lambda judgment: getattr(judgment, question) is True


MEASURES: Mapping[str, Measure] = {
    "swap accuracy": lambda j: j.swap_class == "right",
    "all four answers": lambda j: all(j.agrees(question) for question in QUESTIONS),
    "a is rejected under the complement": lambda j: j.agrees("a_under_complement"),
    "b is accepted under the complement": lambda j: j.agrees("b_under_complement"),
    **{f"class {name}": _is_class(name) for name in (*CLASSES.values(), UNJUDGEABLE)},
    "the complement does not exclude a": lambda j: j.a_under_complement is True,
    "b still fails under the complement": lambda j: j.b_under_complement is False,
    "a was not relevant in the first place": lambda j: j.a_under_instruction is False,
    "b was relevant in the first place": lambda j: j.b_under_instruction is True,
    "cannot be judged": lambda j: any(getattr(j, question) is None for question in QUESTIONS),
}
"""What is estimated: name -> does it hold by this judgment? What cannot be judged is not right."""

THRESHOLD = 0.90
"""Share that accuracy is held against where no other is named: well below it, a gain may be one of diversity alone."""

PRIMARY = "swap accuracy"
ONE_SIDED = ("a is rejected under the complement", "b is accepted under the complement")
FAILURE_MODES = tuple(MEASURES)[-5:]


@dataclass(frozen=True)
class RaterError:
    """How often humans called a known-bad item right."""

    shown: int
    waved_through: float
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Share of known-bad items that passed."""
        return self.waved_through / self.shown


@dataclass(frozen=True)
class Verdict:
    """A share held against the threshold."""

    estimate: Estimate
    low: float
    """Limits with the error of raters in them; those of the estimate where no known-bad item was shown."""
    high: float
    p: float
    """Two-sided, of "the share is the threshold"."""
    p_holm: float
    call: Call
    labels_needed: int | None
    """Further human labels with which the same share would be decided; 0 if it is, None if all items would not do."""


@dataclass(frozen=True)
class Confusion:
    """A judge beside the humans on the items that both saw."""

    judge: str
    constraint_type: str
    right_right: float
    """Items that humans and judge call right; the names below say humans first."""
    right_wrong: float
    wrong_right: float
    wrong_wrong: float

    @property
    def informedness(self) -> float | None:
        """Sensitivity + specificity - 1; 0 for a judge that knows nothing, negative for one that is worse."""
        right, wrong = self.right_right + self.right_wrong, self.wrong_right + self.wrong_wrong
        return None if right == 0 or wrong == 0 else self.right_right / right + self.wrong_wrong / wrong - 1


@dataclass(frozen=True)
class Audit:
    """Everything that an audit found; a share is None where no human or rule looked at enough items."""

    threshold: float
    num_items: int
    num_known_bad: int
    num_judged: Mapping[Kind, int]
    """Items with at least one judgment of this kind."""
    raters: Mapping[Kind, tuple[str, ...]]
    shares: Mapping[str, Estimate | None]
    overall: Verdict | None
    by_constraint_type: Mapping[str, Verdict | None]
    sizes: Mapping[str, int]
    """Items by type of constraint."""
    polarity_signal: float | None
    """1 - 2 back - null: by this factor wrong inversions shrink what reversal teaches (null: both, neither)."""
    agreement: Mapping[str, Agreement]
    confusion: Sequence[Confusion]
    rater_error: RaterError | None
    notes: Sequence[str]


def assess(items: Sequence[Item], judgments: Sequence[Judgment], *, threshold: float = THRESHOLD) -> Audit:
    """Return the audit of items by their judgments.

    An item with gold is known. Every other item has the judges' mean verdict, and a part of them a human one: the
    adjudicated one where there is one, else the mean of the raters. The human sample is taken as random within
    stratum x verdict. Agreement is that of the raters alone. Raises UserError for a threshold that is no share.
    """
    check_threshold(threshold)
    bad = {item.id for item in items if item.known_bad}
    audited = [item for item in items if not item.known_bad]
    by_raters = [judgment for judgment in judgments if not judgment.is_adjudicated]
    said = _settled(_by_item(judgments))
    evidence = _Evidence(audited, said)
    rater_error = _rater_error(bad, said)
    shares = {name: evidence.estimate(measure) for name, measure in MEASURES.items()}
    kinds = sorted({item.constraint_type for item in audited})
    inside = {
        kind: evidence.estimate(MEASURES[PRIMARY], [item.constraint_type == kind for item in audited]) for kind in kinds
    }
    tested = {kind: estimate for kind, estimate in inside.items() if estimate is not None}
    p_values = [_p(estimate, threshold, rater_error) for estimate in tested.values()]
    by_kind: dict[str, Verdict | None] = dict.fromkeys(kinds)
    for (kind, estimate), p_holm in zip(tested.items(), holm(p_values), strict=True):
        by_kind[kind] = _verdict(estimate, threshold, rater_error, p_holm)
    overall = shares[PRIMARY]
    back, both, neither = (shares[f"class {name}"] for name in ("back", "both", "neither"))
    signal = None
    if back is not None and both is not None and neither is not None:
        signal = 1 - 2 * back.share - both.share - neither.share
    return Audit(
        threshold=threshold,
        num_items=len(audited),
        num_known_bad=len(bad),
        num_judged={kind: sum((kind, item.id) in said for item in audited) for kind in KINDS},
        raters={kind: tuple(sorted({j.rater for j in by_raters if j.kind == kind})) for kind in KINDS},
        shares=shares,
        overall=None if overall is None else _verdict(overall, threshold, rater_error, None),
        by_constraint_type=by_kind,
        sizes={kind: sum(item.constraint_type == kind for item in audited) for kind in kinds},
        polarity_signal=signal,
        agreement=_agreements(audited, _by_item(by_raters)),
        confusion=_confusions(audited, said),
        rater_error=rater_error,
        notes=evidence.notes(),
    )


def check_threshold(threshold: float) -> None:
    """Raise UserError for a threshold that is no share between 0 and 1."""
    if not 0 < threshold < 1:
        raise UserError(f"the threshold is {threshold}; allowed: above 0 and below 1, such as 0.9")


Said = Mapping[tuple[Kind, str], Sequence[Judgment]]


def _by_item(judgments: Sequence[Judgment]) -> dict[tuple[Kind, str], list[Judgment]]:
    groups: dict[tuple[Kind, str], list[Judgment]] = defaultdict(list)
    for judgment in judgments:
        groups[judgment.kind, judgment.item_id].append(judgment)
    return dict(groups)


def _settled(said: Said) -> Said:
    """Return the judgments with the adjudicated one alone where there is one."""
    return {key: [judgment for judgment in group if judgment.is_adjudicated] or group for key, group in said.items()}


class _Evidence:
    """The audited items as arrays: strata, clusters, and who said what."""

    def __init__(self, items: Sequence[Item], said: Said) -> None:
        self.items, self.said = items, said
        self.kinds = codes([item.stratum for item in items])
        self.clusters = codes([item.query_id for item in items])
        self.gold = np.array([("gold", item.id) in said for item in items])
        self.human = np.array([("human", item.id) in said for item in items])
        self.known = self.gold | self.human
        scores = self._means("judge", MEASURES[PRIMARY])
        self.judged = ~np.isnan(scores)
        self.verdicts = np.where(self.gold, 3, np.where(self.judged, np.nan_to_num(scores) > 0.5, 2)).astype(int)

    def _means(self, kind: Kind, measure: Measure) -> Any:
        """Return (N,) mean over raters of a kind, NaN where none of them looked."""
        return np.array(
            [
                fmean(map(measure, self.said[kind, item.id])) if (kind, item.id) in self.said else np.nan
                for item in self.items
            ]
        )

    def estimate(self, measure: Measure, chosen: Sequence[bool] | None = None) -> Estimate | None:
        """Return the estimate of a measure over the chosen items, or None for fewer than `MIN_LABELS` labels."""
        inside = np.ones(len(self.items), dtype=bool) if chosen is None else np.asarray(chosen)
        known = self.known[inside]
        if known.sum() < min(MIN_LABELS, len(known)):
            return None
        answers = np.where(self.gold, self._means("gold", measure), self._means("human", measure))[inside]
        if not known.all() and self.gold[inside].sum() == known.sum():  # nobody looked at what has no gold
            return bounded_share(answers)
        judged = np.nan_to_num(self._means("judge", measure))[inside] if self.judged.any() else None
        strata = merge_strata(self.kinds[inside], self.verdicts[inside], known)
        sampled = np.unique(strata[~known])
        if not np.isin(sampled, strata[known]).all():  # what nobody looked at cannot join gold by rule
            return None
        return estimate_share(answers, strata, self.clusters[inside], judged)

    def notes(self) -> list[str]:
        """Return what limits the evidence, in words."""
        limits = []
        rest = ~self.gold
        if rest.any() and not self.human[rest].any():
            limits.append(
                f"{int(rest.sum())} items have no gold, and no human looked at any of them: what judges alone say is "
                f"not reported as accuracy"
            )
        unjudged = rest & ~self.judged
        if self.judged.any() and unjudged.any():
            limits.append(f"{int(unjudged.sum())} items were not seen by any judge; they are a stratum of their own")
        num_settled = sum(judgment.is_adjudicated for group in self.said.values() for judgment in group)
        if num_settled:
            limits.append(
                f"{num_settled} items are adjudicated: what was settled stands in place of what the raters said; "
                f"agreement is that of the raters"
            )
        per_query = np.bincount(self.clusters)
        if per_query.max() > 1:
            limits.append(f"items of one query are a cluster: {len(self.items)} items, {len(per_query)} queries")
        return limits


def _observed(threshold: float, error: RaterError | None) -> tuple[float, float]:
    """Return the observed shares above which, and below which, the true one is above and below the threshold.

    Raters who wave a share q of bad items through see 1 - (1 - truth)(1 - q); q is taken at its upper limit for ABOVE
    and at its lower limit for BELOW.
    """
    if error is None:
        return threshold, threshold
    return 1 - (1 - threshold) * (1 - error.high), 1 - (1 - threshold) * (1 - error.low)


def _p(estimate: Estimate, threshold: float, error: RaterError | None) -> float:
    above_at, below_at = _observed(threshold, error)
    return min(1.0, 2 * min(estimate.tails(above_at)[0], estimate.tails(below_at)[1]))


def _verdict(estimate: Estimate, threshold: float, error: RaterError | None, p_holm: float | None) -> Verdict:
    above_at, below_at = _observed(threshold, error)
    p = _p(estimate, threshold, error)
    p_holm = p if p_holm is None else p_holm
    call: Call = "UNDECIDED"
    if p_holm <= 0.05:
        call = "ABOVE" if estimate.share > above_at else "BELOW"
    low = estimate.low if error is None else max(0.0, 1 - (1 - estimate.low) / (1 - min(error.high, 1 - 1e-9)))
    high = estimate.high if error is None else 1 - (1 - estimate.high) / (1 - min(error.low, 1 - 1e-9))
    needed = 0 if call != "UNDECIDED" else _labels_needed(estimate, above_at, below_at, p_holm / p)
    return Verdict(estimate, low, high, p, p_holm, call, needed)


def _labels_needed(estimate: Estimate, above_at: float, below_at: float, factor: float) -> int | None:
    """Return how many further labels would decide if share and knowledge per label stay as they are, or None."""
    sampled = estimate.num_labels - round(estimate.known_share * estimate.num_items)
    left = estimate.num_items - estimate.num_labels
    if estimate.is_census or sampled <= 0:
        return None

    def decided(more: int) -> bool:
        if more == left:
            return estimate.share > above_at or estimate.share < below_at
        grown = dataclasses.replace(estimate, effective_n=estimate.effective_n * (sampled + more) / sampled)
        return factor * 2 * min(grown.tails(above_at)[0], grown.tails(below_at)[1]) <= 0.05

    low, high = 0, left
    if not decided(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _rater_error(bad: set[str], said: Said) -> RaterError | None:
    judged = [fmean(map(MEASURES[PRIMARY], said["human", item])) for item in sorted(bad) if ("human", item) in said]
    if not judged:
        return None
    low, high = share_interval(fmean(judged), len(judged))
    return RaterError(len(judged), math.fsum(judged), low, high)


def _agreements(items: Sequence[Item], said: Said) -> dict[str, Agreement]:
    """Return the agreement of humans and of judges on each question of the swap and on the swap itself."""
    clusters = codes([item.query_id for item in items])
    questions: dict[str, Measure] = {PRIMARY: MEASURES[PRIMARY]}
    questions |= {name: _says(name) for name in SWAP}
    agreements = {}
    for kind in ("human", "judge"):
        answers = [said.get((kind, item.id), ()) for item in items]
        if not any(len(several) > 1 for several in answers):
            continue
        for name, measure in questions.items():
            yes = np.array([sum(map(measure, several)) for several in answers])
            counts = np.array([len(several) for several in answers])
            agreements[f"{kind}: {name}"] = agreement(yes, counts, clusters)
    return agreements


def _confusions(items: Sequence[Item], said: Said) -> list[Confusion]:
    """Return each judge beside the humans, over all kinds of constraint and for each."""
    right = MEASURES[PRIMARY]
    confusions = []
    for judge in sorted({j.rater for (kind, _), several in said.items() if kind == "judge" for j in several}):
        tables: dict[str, Any] = {}
        for item in items:
            verdicts = [right(j) for j in said.get(("judge", item.id), ()) if j.rater == judge]
            if verdicts and ("human", item.id) in said:
                human = fmean(map(right, said["human", item.id]))
                for name in ("", item.constraint_type):
                    table = tables.setdefault(name, np.zeros((2, 2)))
                    column = 0 if verdicts[0] else 1
                    table[0, column] += human
                    table[1, column] += 1 - human
        confusions += [Confusion(judge, name or "all", *map(float, tables[name].ravel())) for name in sorted(tables)]
    return confusions
