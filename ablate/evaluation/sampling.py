"""A small part of an evaluation set that is the same in every run: for a look at a training, never for a result.

Base queries are drawn by their ids, each with all of its queries, so that the conditions stay comparable. They are
ranked among the documents that they have judgments for, and others up to `FEWEST_DOCUMENTS`, or among their
candidates. Values are higher than on the whole set, which has more documents, and may be compared with those of the
same part alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from ablate.randomness import key
from ablate.records import EvaluationSet

FEWEST_DOCUMENTS = 128
"""Where fewer are judged for the chosen queries, others are drawn until there are as many: so ranks mean something."""


def part_of(bed: EvaluationSet, num_base_queries: int) -> EvaluationSet:
    """Return a set with so many of the judged base queries, or the set itself where it has no more of them."""
    base_of = {query.query_id: query.base_id for query in bed.queries}
    judged = {base_of[query_id] for query_id, grades in bed.qrels.items() if grades}
    if len(judged) <= num_base_queries:
        return bed
    chosen = set(_drawn(judged, num_base_queries, bed.name, "base query"))
    plain = {query_id for base_id, query_id in bed.plain_of.items() if base_id in chosen}
    queries = tuple(query for query in bed.queries if query.base_id in chosen or query.query_id in plain)
    posed = {query.query_id for query in queries}
    qrels = {query_id: grades for query_id, grades in bed.qrels.items() if query_id in posed}
    changed = {query_id: doc_ids for query_id, doc_ids in bed.changed_documents.items() if query_id in posed}
    opposites = tuple(pair for pair in bed.opposites if posed.issuperset(pair))
    pairs = None if bed.pairs is None else {pair: bed.pairs[pair] for pair in opposites if pair in bed.pairs}
    candidates = None if bed.candidates is None else {q: ids for q, ids in bed.candidates.items() if q in posed}
    needed = {doc_id for grades in qrels.values() for doc_id in grades}
    needed |= {doc_id for doc_ids in changed.values() for doc_id in doc_ids}
    needed |= {doc_id for document_pairs in (pairs or {}).values() for pair in document_pairs for doc_id in pair}
    if candidates is None:
        others = {passage.doc_id for passage in bed.documents} - needed
        needed |= set(_drawn(others, max(0, FEWEST_DOCUMENTS - len(needed)), bed.name, "document"))
    else:
        needed = {doc_id for doc_ids in candidates.values() for doc_id in doc_ids}
    bases = {query.base_id for query in queries}
    return dataclasses.replace(
        bed,
        documents=tuple(passage for passage in bed.documents if passage.doc_id in needed),
        queries=queries,
        qrels=qrels,
        changed_documents=changed,
        opposites=opposites,
        pairs=pairs,
        candidates=candidates,
        own_documents={query_id: doc_id for query_id, doc_id in bed.own_documents.items() if query_id in posed},
        plain_of={base_id: query_id for base_id, query_id in bed.plain_of.items() if base_id in chosen},
        clusters={
            kind: {base_id: cluster for base_id, cluster in members.items() if base_id in bases}
            for kind, members in bed.clusters.items()
        },
    )


def _drawn(ids: Iterable[str], number: int, *purpose: str) -> list[str]:
    """Return so many ids, those with the lowest keyed draws; a larger number holds those of a smaller one."""
    return sorted(ids, key=lambda name: (key(0, "part of an evaluation set", *purpose, name), name))[:number]
