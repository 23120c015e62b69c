"""What an evaluation gives, its means with a verdict on every p-MRR, and a trained model beside its untouched backbone.

p-MRR alone cannot tell a model that follows an instruction from one that loses every document under it, so each p-MRR
stands beside nDCG@10 under the original and under the changed instruction, and beside its instruction gain, for every
direction by itself.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ablate.evaluation import collapse, measures
from ablate.records import CONDITIONS, EvaluationSet, QueryScore, UserError
from ablate.retrieval.rankings import Ranking

NDCG = "nDCG@10"
QUERY_MEASURES = (NDCG, "RR@10", "AP@1000")
ROBUSTNESS = "Robustness@10"
INSTRUCTED = "instructed"
"""Condition of Robustness@10: all queries with an instruction; its direction is `all`."""
PAIRS = "pairs"
"""Condition of the pairwise measures; `both` is the direction of those that need both queries of a pair."""
CHANCE = {measures.PAIRWISE_ACCURACY: 0.25, measures.SATISFYING_OVER_VIOLATING: 0.5, measures.ONE_SIDED_RATE: 0.5}
Verdict = Literal["", "collapse", "not decided", "lexical"]


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
    """For p-MRR and instruction gain: nDCG@10 under this row's instruction and judgments, for the gain over its own
    units; None when no such query is judged."""
    verdict: Verdict = ""
    """For p-MRR only."""
    why: str = ""
    """What `collapse` and `not decided` are read from, in words."""

    @property
    def ndcg_blind(self) -> float | None:
        """For instruction gain only: nDCG@10 of the rankings that ignore the instruction, by the same judgments."""
        if self.measure != measures.INSTRUCTION_GAIN or self.ndcg_changed is None:
            return None
        return self.ndcg_changed - self.mean


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

    def summary(self) -> list[SummaryRow]:
        """Return the means over judged units, with a verdict on every p-MRR.

        `collapse` and `not decided`: see `ablate.evaluation.collapse`, by t intervals over units; without an
        instruction gain nothing is called so. `lexical`: p-MRR is negative in both of two opposite directions, each
        more than chance among the units: its 95 % t interval lies there as a whole, so that one unit alone is called
        nothing.
        """
        units = by_measure(self.scores)
        means = {key: _mean(values.values()) for key, values in units.items()}
        falls = {(key[0], key[2]) for key, u in units.items() if key[3] == measures.P_MRR and _is_below_0(u.values())}
        rows: list[SummaryRow] = []
        for (dataset, condition, direction, measure), mean in means.items():
            own = units[dataset, condition, direction, measure]
            row = SummaryRow(dataset, condition, direction, measure, mean, len(own))
            changed_key = (dataset, condition, direction, NDCG)
            if measure == measures.INSTRUCTION_GAIN:
                row = row._replace(ndcg_changed=_mean([units[changed_key][unit] for unit in own]))
            if measure == measures.P_MRR:
                parts = [u for key, u in units.items() if key[:2] == (dataset, "original") and key[3] == NDCG]
                original = [value for part in parts for value in part.values()]
                verdict, why = _called(own, units.get((dataset, condition, direction, measures.INSTRUCTION_GAIN)))
                twins = [b if a == direction else a for a, b in self.opposites.get(dataset, ()) if direction in (a, b)]
                if (dataset, direction) in falls and any((dataset, twin) in falls for twin in twins):
                    verdict = "lexical"
                before_change = _mean(original) if original else None
                row = row._replace(ndcg_original=before_change, ndcg_changed=means.get(changed_key))
                row = row._replace(verdict=verdict, why=why)
            rows.append(row)
        return rows


def _called(p_mrr: Mapping[str, float], gain: Mapping[str, float] | None) -> tuple[Verdict, str]:
    """Return what one p-MRR and its instruction gain are called, both unit -> value, and why."""
    if gain is None:
        return "", ""
    means = collapse.mean_of(p_mrr.values()), collapse.mean_of(gain.values())
    verdict = collapse.called(*means)
    return verdict, collapse.in_words(*means, "base queries") if verdict else ""


def _mean(values: Collection[float]) -> float:
    return math.fsum(values) / len(values)


def _is_below_0(values: Iterable[float]) -> bool:
    """Return whether the mean over units is below 0 by more than chance: its whole 95 % t interval is."""
    interval = measures.mean_interval(list(values))
    return interval is not None and interval[1] < 0


Key = tuple[str, str, str, str]
"""Dataset, condition, direction, measure."""


def by_measure(scores: Iterable[QueryScore]) -> dict[Key, dict[str, float]]:
    """Return place and measure -> unit -> value; raises UserError for a unit that has two values there."""
    by_key: dict[Key, dict[str, float]] = {}
    for score in scores:
        key = (score.dataset, score.condition, score.direction, score.measure)
        units = by_key.setdefault(key, {})
        if score.unit_id in units:
            raise UserError(
                f"{score.dataset}: {score.measure} of unit {score.unit_id!r} ({score.condition}, {score.direction!r}) "
                "is there twice; give each query of a base query its own direction"
            )
        units[score.unit_id] = score.value
    return by_key


def compare(trained: Evaluation, untouched: Evaluation) -> list[TableRow]:
    """Return the summary of a trained model beside that of its untouched backbone.

    Raises UserError when the two did not rank the same documents or do not have the same judged units.
    """
    if trained.candidates != untouched.candidates:
        names = sorted(trained.candidates.keys() | untouched.candidates.keys())
        name = next(n for n in names if trained.candidates.get(n) != untouched.candidates.get(n))
        raise UserError(f"dataset {name!r}: the two evaluations ranked different documents; evaluate both on one set")
    ours, theirs = by_measure(trained.scores), by_measure(untouched.scores)
    for key in ours.keys() | theirs.keys():
        if ours.get(key, {}).keys() != theirs.get(key, {}).keys():
            raise UserError(
                f"dataset {key[0]!r}: {key[3]} under {key[1]} {key[2]!r} has other units in the two "
                "evaluations; score both with the same judgments"
            )
    before = {row[:4]: row for row in untouched.summary()}
    return [TableRow(row, before[row[:4]]) for row in trained.summary()]


_LABEL, _COUNT, _CELL = 27, 6, 10


def format_table(rows: Sequence[TableRow]) -> str:
    """Return the comparison as plain text of at most 110 columns, one block per dataset.

    Every p-MRR (times 100) stands beside nDCG@10 under the original and under its own instruction. What its verdict
    means is said in words, of a collapse above the tables. A dash: no judged unit.
    """
    blocks: list[str] = []
    for dataset in dict.fromkeys(row.trained.dataset for row in rows):
        mine = [row for row in rows if row.trained.dataset == dataset]
        lines = [dataset]
        for who, theirs in (("trained", [r.trained for r in mine]), ("untouched", [r.untouched for r in mine])):
            lines += _wrapped(collapse_words(theirs, who))
        lines += [*_condition_lines(mine), *_extra_lines(mine), *_change_lines(mine), *_gain_lines(mine)]
        lines += _other_lines(mine)
        blocks.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(blocks) + "\n"


def collapse_words(rows: Iterable[SummaryRow], who: str = "") -> list[str]:
    """Return a sentence for each p-MRR that is a collapse, or may be one; `who` names what was measured."""
    return [
        f"{collapse.MARKS[row.verdict]}, {row.direction}{f' ({who})' if who else ''}: {row.why}."
        for row in rows
        if row.verdict in collapse.MARKS
    ]


def _wrapped(texts: Iterable[str]) -> list[str]:
    return [textwrap.fill(text, 106, initial_indent="  ", subsequent_indent="    ") for text in texts]


def format_summary(rows: Sequence[SummaryRow]) -> str:
    """Return the means of one system as plain text, one block per dataset: a condition a row, p-MRR times 100.

    `blind` is nDCG@10 of the rankings that ignore the instruction, `gain` the instruction gain: what the instruction
    adds to it. A collapse is said in words above. A dash: no judged unit.
    """
    columns = [*QUERY_MEASURES, measures.P_MRR, measures.INSTRUCTION_GAIN]
    blocks: list[str] = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        by_condition: dict[tuple[str, str], dict[str, SummaryRow]] = {}
        others: list[str] = []
        for row in (row for row in rows if row.dataset == dataset):
            if row.measure in columns:
                by_condition.setdefault((row.condition, row.direction), {})[row.measure] = row
            else:
                label = row.measure if row.direction in ("all", "both") else f"{row.measure}: {row.direction}"
                others.append(_line(label, row.num_units, [_number(row.mean)]))
        lines = [dataset, *_wrapped(collapse_words(row for row in rows if row.dataset == dataset))]
        names = [*map(measures.mean_name, QUERY_MEASURES), "p-MRRx100", "blind", "gain"]
        lines.append(_line("condition", "n", names))
        for (condition, direction), by_measure in by_condition.items():
            label = condition if direction in ("", condition) else f"{condition}: {direction}"
            cells = [_number(by_measure[name].mean if name in by_measure else None) for name in QUERY_MEASURES]
            change = by_measure.get(measures.P_MRR)
            cells.append("-" if change is None else f"{100 * change.mean:+.1f}")
            gain = by_measure.get(measures.INSTRUCTION_GAIN)
            cells += ["-", "-"] if gain is None else [_number(gain.ndcg_blind), f"{gain.mean:+.3f}"]
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
    by_condition: dict[tuple[str, str], dict[str, TableRow]] = {}
    for row in rows:
        if row.trained.measure in QUERY_MEASURES:
            by_condition.setdefault((row.trained.condition, row.trained.direction), {})[row.trained.measure] = row
    lines = _head("condition", [measures.mean_name(name) for name in QUERY_MEASURES]) if by_condition else []
    for (condition, direction), by_measure in by_condition.items():
        label = condition if direction in ("", condition) else f"{condition}: {direction}"
        cells = [(by_measure[name].trained.mean, by_measure[name].untouched.mean) for name in QUERY_MEASURES]
        count = by_measure[NDCG].trained.num_units
        lines.append(_line(label, count, [_number(value) for pair in cells for value in pair]))
    return lines


def _extra_lines(rows: Sequence[TableRow]) -> list[str]:
    """Return the lines of measures per query that only some sets report."""
    usual = (*QUERY_MEASURES, measures.P_MRR, measures.INSTRUCTION_GAIN, ROBUSTNESS)
    extra = [row for row in rows if row.trained.measure not in usual and row.trained.condition in CONDITIONS]
    lines = ["", *_head("further measures", [""])] if extra else []
    for ours, theirs in extra:
        label = f"{measures.mean_name(ours.measure)}: {ours.direction or ours.condition}"
        lines.append(_line(label, ours.num_units, [_number(ours.mean), _number(theirs.mean)]))
    return lines


def _change_lines(rows: Sequence[TableRow]) -> list[str]:
    changes = [row for row in rows if row.trained.measure == measures.P_MRR]
    lines = ["", *_head("p-MRR x 100", ["p-MRR", "nDCG@10 original", f"{NDCG} here"])] if changes else []
    words: list[str] = []
    for ours, theirs in changes:
        cells = [f"{100 * ours.mean:+.1f}", f"{100 * theirs.mean:+.1f}"]
        cells += [_number(row.ndcg_original) for row in (ours, theirs)]
        cells += [_number(row.ndcg_changed) for row in (ours, theirs)]
        mark = "" if ours.verdict == "not decided" else ours.verdict.upper()
        lines.append(_line(f"{ours.condition}: {ours.direction}", ours.num_units, cells, mark))
        for row, who in ((ours, "trained"), (theirs, "untouched")):
            if row.verdict == "lexical":
                words.append(
                    f"LEXICAL, {row.direction} ({who}): p-MRR is negative here and under the opposite instruction, by "
                    "more than chance: the words of the instruction lift the same documents whatever it asks for."
                )
    return [*lines, *_wrapped(words)]


def _gain_lines(rows: Sequence[TableRow]) -> list[str]:
    gains = [row for row in rows if row.trained.measure == measures.INSTRUCTION_GAIN]
    groups = [f"{NDCG} here", "blind to it", "gain"]
    lines = ["", *_head(measures.INSTRUCTION_GAIN, groups)] if gains else []
    for ours, theirs in gains:
        cells = [_number(row.ndcg_changed) for row in (ours, theirs)]
        cells += [_number(row.ndcg_blind) for row in (ours, theirs)]
        cells += [f"{row.mean:+.3f}" for row in (ours, theirs)]
        lines.append(_line(f"{ours.condition}: {ours.direction}", ours.num_units, cells))
    return lines


def _other_lines(rows: Sequence[TableRow]) -> list[str]:
    others = [row for row in rows if row.trained.measure == ROBUSTNESS or row.trained.condition == PAIRS]
    lines = ["", *_head("over instructions", [""], ["chance"])] if others else []
    for ours, theirs in others:
        label = f"{ours.measure}: {ours.direction}" if ours.measure == measures.ONE_SIDED_RATE else ours.measure
        chance = CHANCE.get(ours.measure)
        lines.append(_line(label, ours.num_units, [_number(ours.mean), _number(theirs.mean), _number(chance)]))
    return lines
