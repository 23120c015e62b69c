"""The section on queries: which units carry each claim's contrast, and which of their documents moved.

Of every claim the units that move its contrast furthest stand in the page, half of them in its direction and half
against it; the differences of all units are in a file. Documents of a query are those that are relevant, excluded by
its instruction or among the first `DEPTH` of any arm, and of these the ones whose discount in nDCG differs most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ablate.records import CONDITIONS, EvaluationQuery, EvaluationSet, UserError
from ablate.store.files import RANKINGS_FOLDER
from ablate.tables import to_csv
from analysis.page.drawing import shortened
from analysis.page.plots import units_plot
from analysis.page.record import Figure, MovedDocument, Part, PosedQuery, Section, Unit, Units, signed
from analysis.page.source import Source
from analysis.stats.asked import Target
from analysis.stats.contrast import ContrastRow, plural
from analysis.stats.crossed import unit_differences
from analysis.study.explained import Judged as Judgments
from analysis.study.explained import judged_sets, label_of, mean_ranks, ranks_of, texts_of_units
from analysis.study.runs import by_arm
from analysis.study.texts import has_texts, with_documents
from analysis.verdict.claims_tables import claim_name
from analysis.verdict.judge import Judged, place_of

MOST_UNITS, MOST_IN_ALL = 30, 240
"""Units of a claim in the page, and of all claims together."""
MOST_DOCUMENTS, DEPTH = 5, 5
"""Documents of a posed query; ranks from which they are taken beside the judged ones."""
MOST_ARMS = 4
"""Arms whose ranks stand beside a document; of contrasts over more, those of the highest and the lowest weight do."""
MOST_BYTES = 64_000_000
"""Compressed rankings that are read for the documents of a claim; where there are more, none are shown."""
LETTERS = 240
"""Of a document's text."""
_HEADS = (
    "claim",
    "contrast",
    "dataset",
    "condition",
    "direction",
    "measure",
    "unit",
    "difference",
    "query",
    "instruction",
)


def units(source: Source) -> Section | None:
    """Return the units that decide each claim; the differences of all units are a table beside it."""
    claims = [judged for judged in source.judged if judged.row is not None]
    if not claims:
        return None
    remarks: list[str] = []
    try:
        judgments = judged_sets(source.study.evidence)
    except UserError as error:
        remarks.append(f"Without queries and documents: {error}.")
        judgments = Judgments({})
    most = max(2, min(MOST_UNITS, MOST_IN_ALL // len(claims)))
    reader = _Documents(source, judgments, remarks)
    parts: list[Part] = [
        f"Means over seeds. Of each claim up to {most} units are listed, half of them those that go furthest with the "
        f"contrast and half those that go furthest against it; all of them are in units.csv. Documents are the "
        f"{MOST_DOCUMENTS} that moved most between the arms (by nDCG’s discount of their ranks) of those that are "
        f"relevant, excluded by the instruction or among the first {DEPTH} of an arm; of a contrast over more than "
        f"{MOST_ARMS} arms, between those of its highest and its lowest weight."
    ]
    lines: list[dict[str, object]] = []
    for place, judged in enumerate(claims, start=1):
        parts += _of_claim(source, judged, place, most, judgments, reader, lines)
    rows = [judged.row for judged in claims if judged.row is not None]
    command = _command(source, next((row for row in rows if sorted(row.weights.values()) == [-1, 1]), None))
    said = (*parts, *dict.fromkeys(remarks))
    return Section("queries", "Queries that decide", said, command, "Queries", (("units", to_csv(_HEADS, lines)),))


def _command(source: Source, row: ContrastRow | None) -> str:
    """Return the command that lists the units of a contrast of two arms, or shows one where there is none."""
    if row is None:
        return source.command("explain", "--query", "ID")
    first, second = sorted(row.weights, key=row.weights.__getitem__, reverse=True)
    return source.command(
        "explain", "--worst", first, second, "--measure", row.cell.measure, "--condition", row.cell.condition
    )


def _of_claim(
    source: Source,
    judged: Judged,
    place: int,
    most: int,
    judgments: Judgments,
    reader: _Documents,
    lines: list[dict[str, object]],
) -> list[Part]:
    row, target = judged.row, place_of(source.study.table, judged.claim)
    assert row is not None
    found = _differences(row, target, judgments)
    cell = row.cell._asdict()
    lines += [
        {"claim": judged.claim.name, "contrast": row.label, **cell}
        | {"dataset": unit.dataset, "unit": unit.unit_id, "difference": unit.difference}
        | {"query": unit.query, "instruction": unit.instruction}
        for unit in found
    ]
    side = 1.0 if row.result.estimate >= 0 else -1.0
    ordered = sorted(found, key=lambda unit: -side * unit.difference)
    half = (most + 1) // 2
    shown = ordered if len(ordered) <= most else [*ordered[:half], *ordered[half - most :]]
    arms = tuple(sorted(row.weights, key=row.weights.__getitem__, reverse=True))
    arms = arms if len(arms) <= MOST_ARMS else (arms[0], arms[-1])
    names = plural(row.unit)
    better = sum(unit.difference > 0 for unit in found)
    worse = sum(unit.difference < 0 for unit in found)
    title = claim_name(judged)
    caption = (
        f"{title}: {row.label}, {row.cell}. The differences of all {len(found):,} {names}, sorted ({better:,} above "
        f"zero, {worse:,} below, mean {signed(row.result.estimate)})."
    )
    drawn = units_plot([unit.difference for unit in found], title, f"{names}, largest difference first")
    return [
        Figure(f"units_{place}", caption, drawn),
        Units(
            f"queries_{place}",
            title,
            arms,
            tuple(reader.with_documents(shown, row.cell.condition, arms)),
            len(found),
            names,
            source.command("explain", "--query", "UNIT"),
        ),
    ]


def _differences(row: ContrastRow, target: Target, judgments: Judgments) -> list[Unit]:
    found = []
    parts = unit_differences(target.blocks(), row.weights)
    for dataset, scores, differences in zip(target.datasets, target.parts, parts, strict=True):
        bed = judgments.sets.get(dataset)
        texts = {} if bed is None else texts_of_units(bed, row.cell._replace(dataset=dataset))
        found += [
            Unit(unit, dataset, value, *texts.get(unit, ("", "")))
            for unit, value in zip(scores.units, np.asarray(differences).tolist(), strict=True)
        ]
    return found


class _Documents:
    """Reads which documents of a query moved between arms: rankings of a claim's arms, texts of a data set once."""

    def __init__(self, source: Source, judgments: Judgments, remarks: list[str]) -> None:
        self._source, self._judgments, self._remarks = source, judgments, remarks
        self._texts: dict[str, Mapping[str, str]] = {}

    def with_documents(self, units: Sequence[Unit], condition: str, arms: Sequence[str]) -> Iterable[Unit]:
        """Yield units with their posed queries and the documents that moved."""
        queries = {
            dataset: _queries_of(bed, [unit for unit in units if unit.dataset == dataset], condition)
            for dataset, bed in self._judgments.sets.items()
        }
        ranks = {dataset: self._ranks(dataset, by_unit, arms) for dataset, by_unit in queries.items()}
        for unit in units:
            posed = [
                self._posed(unit.dataset, query, ranks[unit.dataset])
                for query in queries.get(unit.dataset, {}).get(unit.unit_id, ())
            ]
            yield Unit(unit.unit_id, unit.dataset, unit.difference, unit.query, unit.instruction, tuple(posed))

    def _ranks(
        self, dataset: str, by_unit: Mapping[str, Sequence[EvaluationQuery]], arms: Sequence[str]
    ) -> dict[str, list[dict[str, dict[str, int]]]]:
        """Return arm -> query id -> document -> rank for each of its seeds; nothing where it cannot be read."""
        asked = list({query.query_id: query for queries in by_unit.values() for query in queries}.values())
        evidence, bed = self._source.study.evidence, self._judgments.sets[dataset]
        runs = {arm: arm_runs for arm, arm_runs in by_arm(evidence.runs).items() if arm in arms}
        size = sum(
            num_bytes
            for arm_runs in runs.values()
            for run in arm_runs
            for name, num_bytes in run.evaluation.content_bytes.items()
            if name.startswith(f"{RANKINGS_FOLDER}/")
        )
        if not asked:
            return {}
        if size > MOST_BYTES:
            self._remarks.append(
                f"Documents are not shown: rankings of {', '.join(arms)} have {size:,} bytes, above {MOST_BYTES:,}; "
                f"{self._source.command('explain', '--query', 'ID')} shows those of one query."
            )
            return {}
        try:
            return {
                arm: [ranks_of(evidence, run, bed.name, asked) for run in arm_runs] for arm, arm_runs in runs.items()
            }
        except UserError as error:
            self._remarks.append(f"Documents are not shown: {error}.")
            return {}

    def _posed(
        self, dataset: str, query: EvaluationQuery, ranks: Mapping[str, list[dict[str, dict[str, int]]]]
    ) -> PosedQuery:
        bed = self._judgments.sets[dataset]
        by_arm_means = {arm: mean_ranks([run[query.query_id] for run in runs]) for arm, runs in ranks.items()}
        absent = {arm: 1.0 + max(len(run[query.query_id]) for run in runs) for arm, runs in ranks.items()}
        grades = bed.qrels.get(query.query_id, {})
        excluded = set(bed.changed_documents.get(query.query_id, ()))
        asked = [doc_id for doc_id, grade in grades.items() if grade > 0] + sorted(excluded)
        asked += [doc_id for means in by_arm_means.values() for doc_id, rank in means.items() if rank <= DEPTH]
        most = max(grades.values(), default=1)
        texts = self._texts_of(dataset) if asked and ranks else {}
        documents = [
            MovedDocument(
                doc_id,
                label_of(grades.get(doc_id, 0), doc_id in excluded, most),
                texts.get(doc_id, ""),
                {arm: means.get(doc_id, absent[arm]) for arm, means in by_arm_means.items()},
            )
            for doc_id in dict.fromkeys(asked if ranks else ())
        ]
        moved = sorted(documents, key=lambda document: (-_moved(document), document.doc_id))[:MOST_DOCUMENTS]
        how = query.condition if query.direction in ("", query.condition) else f"{query.condition}: {query.direction}"
        return PosedQuery(how, query.query, query.instruction, tuple(moved))

    def _texts_of(self, dataset: str) -> Mapping[str, str]:
        if dataset not in self._texts:
            bed, run = self._judgments.sets[dataset], self._judgments.runs[dataset]
            said: list[str] = []
            opened = with_documents(self._source.study.evidence, run, {bed.name: bed}, said).get(bed.name, bed)
            self._remarks += [f"Without their texts: {words}." for words in said]
            self._texts[dataset] = (
                {
                    passage.doc_id: shortened(" ".join(f"{passage.title} {passage.text}".split()), LETTERS)
                    for passage in opened.documents
                }
                if has_texts(opened)
                else {}
            )
        return self._texts[dataset]


def _queries_of(bed: EvaluationSet, units: Sequence[Unit], condition: str) -> dict[str, list[EvaluationQuery]]:
    """Return unit -> its posed queries: under the condition of the contrast; of pairs and groups, the instructed."""
    wanted = {unit.unit_id for unit in units}
    posed: dict[str, list[EvaluationQuery]] = {}
    for query in sorted(bed.queries, key=lambda query: CONDITIONS.index(query.condition)):
        fits = query.condition == condition if condition in CONDITIONS else query.condition in ("changed", "reversed")
        name = query.query_id if query.query_id in wanted else query.base_id
        if fits and name in wanted:
            posed.setdefault(name, []).append(query)
    return posed


def _moved(document: MovedDocument) -> float:
    """Return how far the discount 1 / log2(1 + rank) of a document differs between the arms."""
    discounts = [1 / math.log2(1 + rank) for rank in document.ranks.values()]
    return max(discounts) - min(discounts)
