"""What is wrong with data that every reader accepts: leaks, labels that contradict, variants that are never measured.

Texts are compared without case and white space. Nothing here refuses; a finding is a sentence.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ablate.records import CONDITIONS, EvaluationQuery, EvaluationSet, Passage, SourceRow, TrainingGroup

FIELDS = ("instruction", "reversed_instruction", "paraphrase", "positives", "hard_negatives", "instruction_negatives")
"""Of a row, what may be empty."""

FEW_QUERIES = 0.1
"""Unique queries per training group below which a mix is said to be few queries over and over."""


LEAK = 0.01
"""Share of judged queries with a trained pair above which the scores of a set are wrong, and not only a little off."""
MOST_ROWS = 2000
"""Rows that are kept for their texts and lengths."""
MOST_FILES = 10_000
"""Files of a folder that are looked at for those that are not read."""


class Finding(NamedTuple):
    """Something that a person should know before training."""

    level: Literal["FAILED", "warning"]
    """FAILED: results on this data are wrong."""
    text: str


def normal(text: str) -> str:
    """Return a text without case and with single blanks: what counts as the same text."""
    return " ".join(text.casefold().split())


def body(passage: Passage) -> str:
    """Return the normal form of a passage with its title."""
    return normal(f"{passage.title} {passage.text}")


@dataclass
class Rows:
    """What one pass over the rows of a source finds."""

    num_rows: int = 0
    query_ids: set[str] = field(default_factory=set)
    lacking: Counter[str] = field(default_factory=Counter)
    """Field -> rows in which it is empty."""
    sample: list[SourceRow] = field(default_factory=list)
    first: list[SourceRow] = field(default_factory=list)
    """The first rows, for texts and lengths."""
    positives: dict[str, set[str]] = field(default_factory=dict)
    """Normal form of a query -> ids of its positives."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def unique_queries(self) -> int:
        """Number of different query texts."""
        return len(self.positives)


def read_rows(rows: Iterable[SourceRow], num_sampled: int = 3) -> Rows:
    """Return what a pass over rows finds; memory grows with queries and labels, not with texts of passages."""
    summary, draw = Rows(), random.Random(0)
    equal, both = list[str](), list[str]()
    labels: dict[tuple[str, str], dict[str, bool]] = {}
    crossed = dict[str, None]()
    for row in rows:
        summary.num_rows += 1
        summary.query_ids.add(row.query_id)
        summary.lacking.update(name for name in FIELDS if not getattr(row, name))
        query, instruction = normal(row.query), normal(row.instruction)
        summary.positives.setdefault(query, set()).update(row.positives)
        if instruction and instruction == normal(row.reversed_instruction):
            equal.append(row.row_id)
        negatives = {*row.hard_negatives, *row.instruction_negatives}
        if negatives.intersection(row.positives):
            both.append(row.row_id)
        known = labels.setdefault((query, instruction), {})
        for is_positive, doc_ids in ((True, row.positives), (False, row.instruction_negatives)):
            if any(known.setdefault(doc_id, is_positive) != is_positive for doc_id in doc_ids):
                crossed[row.row_id] = None
        if len(summary.first) < MOST_ROWS:
            summary.first.append(row)
        if len(summary.sample) < num_sampled:
            summary.sample.append(row)
        elif (place := draw.randrange(summary.num_rows)) < num_sampled:
            summary.sample[place] = row
    for row_ids, what in (
        (equal, "carry the same instruction on both sides, so that a reversed twin labels one request both ways"),
        (both, "have a passage that is positive and negative at once"),
        (
            [row_id for row_id in crossed if row_id not in set(both)],
            "label a passage the other way round than a row of the same query and instruction",
        ),
    ):
        if row_ids:
            summary.findings.append(
                Finding(
                    "FAILED", f"training: {len(row_ids):,} of {summary.num_rows:,} rows {what} (first: {row_ids[0]})"
                )
            )
    return summary


def few_queries(unique: int, groups: int) -> list[Finding]:
    """Return a finding where training groups are few queries over and over."""
    if not groups or unique >= FEW_QUERIES * groups:
        return []
    words = f"{groups:,} training rows are {unique:,} unique queries: a model can learn them by heart"
    return [Finding("warning", f"training: {words}; lower budget.limit, or bring more queries")]


def overlap(
    positives: Mapping[str, Collection[str]], passages: Mapping[str, Passage], bed: EvaluationSet
) -> list[Finding]:
    """Return what training shares with an evaluation set: judged pairs, or at least queries.

    `positives`: normal form of a training query -> ids of its positives; `passages` holds
    at least those of queries that the set has too. Ids of two sources may meet by chance, so a pair is shared when its
    texts are.
    """
    judged = [query for query in bed.queries if bed.qrels.get(query.query_id)]
    shared = [query for query in judged if normal(query.query) in positives]
    if not shared:
        return []
    wanted = {doc_id for query in shared for doc_id in relevant_of(bed, query)}
    texts = {passage.doc_id: body(passage) for passage in bed.documents if passage.doc_id in wanted}
    num_pairs = 0
    for query in shared:
        trained = {body(passages[doc_id]) for doc_id in positives[normal(query.query)]}
        num_pairs += sum(texts.get(doc_id) in trained for doc_id in relevant_of(bed, query))
    said = (
        f"{bed.name}: {len(shared):,} of {len(judged):,} judged queries are training queries too (first: "
        f"{shared[0].query_id})"
    )
    if not num_pairs:
        return [Finding("warning", f"{said}, with other relevant documents")]
    pairs = f"{num_pairs:,} judged pairs are trained on" if num_pairs > 1 else "a judged pair is trained on"
    level: Literal["FAILED", "warning"] = "FAILED" if len(shared) > LEAK * len(judged) else "warning"
    return [Finding(level, f"{said}, and {pairs}: there scores measure memory; take them out of one of the two")]


def relevant_of(bed: EvaluationSet, query: EvaluationQuery) -> list[str]:
    """Return the documents that are judged relevant to a query."""
    return [doc_id for doc_id, grade in bed.qrels.get(query.query_id, {}).items() if grade > 0]


def equal_passages(rows: Sequence[SourceRow | TrainingGroup], texts: Mapping[str, str]) -> list[Finding]:
    """Return a finding where the same text stands under two ids as positive and as negative of a row.

    `texts`: the normal form of every passage of the rows by its id.
    """
    equal = []
    for row in rows:
        positives = {texts[doc_id]: doc_id for doc_id in row.positives}
        for doc_id in (*row.hard_negatives, *row.instruction_negatives):
            if positives.get(texts[doc_id], doc_id) != doc_id:
                name = row.row_id if isinstance(row, SourceRow) else row.group_id
                equal.append(f"{name}: {positives[texts[doc_id]]} and {doc_id}")
                break
    words = f"training: {len(equal):,} of {len(rows):,} rows have the text of a positive under another id as negative"
    return [Finding("FAILED", f"{words} (first: {equal[0]})")] if equal else []


def equal_documents(bed: EvaluationSet) -> list[Finding]:
    """Return a finding where the same text under two ids is relevant to a query and excluded or judged irrelevant."""
    judged = {doc_id for grades in bed.qrels.values() for doc_id in grades}
    judged.update(doc_id for doc_ids in bed.changed_documents.values() for doc_id in doc_ids)
    texts = {passage.doc_id: body(passage) for passage in bed.documents if passage.doc_id in judged}
    equal, queries = list[str](), set[str]()
    for query in bed.queries:
        grades = bed.qrels.get(query.query_id, {})
        relevant = {texts[doc_id]: doc_id for doc_id in relevant_of(bed, query) if doc_id in texts}
        others = [doc_id for doc_id, grade in grades.items() if grade <= 0]
        for doc_id in dict.fromkeys([*others, *bed.changed_documents.get(query.query_id, ())]):
            if doc_id in texts and relevant.get(texts[doc_id], doc_id) != doc_id and not grades.get(doc_id, 0) > 0:
                equal.append(f"{query.query_id}: {relevant[texts[doc_id]]} and {doc_id}")
                queries.add(query.query_id)
    words = f"{bed.name}: {len(equal):,} documents have the text of a relevant one and are not relevant themselves, in"
    return [Finding("warning", f"{words} {len(queries):,} queries (first: {equal[0]})")] if equal else []


def shared_documents(trained: Collection[str], bed: EvaluationSet) -> list[Finding]:
    """Return a finding where relevant documents of a set are positives of training rows (their normal forms) too."""
    wanted = {doc_id for query in bed.queries for doc_id in relevant_of(bed, query)}
    texts = ((passage.doc_id, body(passage)) for passage in bed.documents if passage.doc_id in wanted)
    shared = [doc_id for doc_id, text in texts if text in trained]
    if len(shared) <= LEAK * len(wanted):
        return []
    words = f"{bed.name}: {len(shared):,} of {len(wanted):,} relevant documents are positives of training rows too"
    return [Finding("warning", f"{words} (first: {shared[0]}): a model may rank them up for having seen them")]


def contradictions(bed: EvaluationSet) -> list[Finding]:
    """Return what the labels of a set say both ways."""
    labels: dict[tuple[str, str], dict[str, bool]] = {}
    crossed, excluded = list[str](), list[str]()
    for query in bed.queries:
        known = labels.setdefault((normal(query.query), normal(query.instruction)), {})
        for doc_id, grade in bed.qrels.get(query.query_id, {}).items():
            if known.setdefault(doc_id, grade > 0) != (grade > 0):
                crossed.append(f"{query.query_id} {doc_id}")
        lost = set(bed.changed_documents.get(query.query_id, ()))
        excluded += [f"{query.query_id} {doc_id}" for doc_id in relevant_of(bed, query) if doc_id in lost]
    known_queries = {query.query_id: normal(query.instruction) for query in bed.queries}
    equal = [first for first, second in bed.opposites if known_queries.get(first) == known_queries.get(second)]
    findings = []
    for names, what in (
        (crossed, "documents are relevant and not relevant to the same query and instruction"),
        (excluded, "documents are relevant under an instruction and listed as excluded by it"),
        (equal, "complementary pairs carry the same instruction on both sides"),
    ):
        if names:
            findings.append(Finding("FAILED", f"{bed.name}: {len(names):,} {what} (first: {names[0]})"))
    return findings


def unmeasured(bed: EvaluationSet) -> list[Finding]:
    """Return what a set cannot measure although it looks as if it did."""
    originals = {query.base_id for query in bed.queries if query.condition == "original"}
    instructed = [query for query in bed.queries if query.condition in ("changed", "reversed")]
    alone = [query for query in instructed if query.base_id not in originals]
    findings = []
    if alone:
        findings.append(
            Finding(
                "warning",
                f"{bed.name}: p-MRR is not measured for {len(alone):,} of {len(instructed):,} instructed queries "
                f"(first: {alone[0].query_id}): no original variant of the query (in a BEIR folder: og)",
            )
        )
    if not any(relevant_of(bed, query) for query in bed.queries):
        findings.append(
            Finding("FAILED", f"{bed.name}: no query has a relevant document, so every score is 0 or missing")
        )
    elif silent := [q.query_id for q in bed.queries if bed.qrels.get(q.query_id) and not relevant_of(bed, q)]:
        words = f"{bed.name}: {len(silent):,} judged queries have no relevant document and score 0 (first: {silent[0]})"
        findings.append(Finding("warning", words))
    return findings


def of_run(
    groups: Sequence[TrainingGroup], passages: Mapping[str, Passage], sets: Iterable[EvaluationSet]
) -> list[str]:
    """Return what a run says before it trains on a mix and is measured on sets: the part that costs next to nothing."""
    positives: dict[str, set[str]] = {}
    for group in groups:
        positives.setdefault(normal(group.query), set()).update(group.positives)
    findings = few_queries(len(positives), len(groups))
    findings += equal_passages(groups, {doc_id: body(passage) for doc_id, passage in passages.items()})
    for bed in sets:
        findings += [*overlap(positives, passages, bed), *contradictions(bed)]
    return [finding.text for finding in findings]


def counts_of(bed: EvaluationSet) -> list[dict[str, Any]]:
    """Return per condition the queries, those that are judged and those with a relevant document."""
    rows = []
    for condition in CONDITIONS:
        queries = [query for query in bed.queries if query.condition == condition]
        if queries:
            judged = [query for query in queries if bed.qrels.get(query.query_id)]
            rows.append(
                {
                    "set": bed.name,
                    "condition": condition,
                    "queries": len(queries),
                    "judged": len(judged),
                    "with positives": sum(bool(relevant_of(bed, query)) for query in judged),
                    "changed documents": sum(len(bed.changed_documents.get(query.query_id, ())) for query in queries),
                }
            )
    return rows


def lacking_words(lacking: Mapping[str, int], remedies: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return how many rows lack each field: `868 without reversed_instruction, 2 without positives`.

    `remedies`: field -> what is said behind it.
    """
    most = sorted(lacking.items(), key=lambda item: -item[1])
    return ", ".join(f"{number:,} without {name}{remedies.get(name, '')}" for name, number in most if number)


def ignored_files(kind: str, path: str | None) -> list[str]:
    """Return the files of a source's folder that its reader passes over."""
    folder = Path(path) if path else None
    if folder is None or not folder.is_dir():
        return []
    files = itertools.islice((path for path in folder.rglob("*") if path.is_file()), MOST_FILES)
    return sorted(str(place) for place in (file.relative_to(folder) for file in files) if not _is_read(kind, place))


def _is_read(kind: str, place: Path) -> bool:
    if kind == "published":
        from ablate.data.published.reader import SUFFIXES

        return place.parent == Path() and place.name.endswith(SUFFIXES)
    labels = place.parent == Path("qrels") and place.suffix == ".tsv"
    return labels or str(place) in ("corpus.jsonl", "queries.jsonl")


def iterate(rows: Iterable[SourceRow], label: str) -> Iterator[SourceRow]:
    """Yield rows behind a bar that shows after two seconds, and on a terminal only."""
    from tqdm import tqdm

    yield from tqdm(rows, desc=label, unit=" rows", delay=2.0, disable=None, leave=False)
