"""Candidates: reranking benchmarks rank the official list of each query, and nothing else may pass for that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ablate.records import EvaluationSet, UserError
from ablate.retrieval.rankings import Ranking


def candidate_digest(bed: EvaluationSet) -> str:
    """Return the SHA-256 of what is ranked: all document ids, sorted, then the lists if queries have their own."""
    lines = [f"{doc_id}\n" for doc_id in sorted(passage.doc_id for passage in bed.documents)]
    if bed.candidates is not None:
        lines += sorted(f"{query_id}\t{doc_id}\n" for query_id, own in bed.candidates.items() for doc_id in own)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_lists(bed: EvaluationSet) -> None:
    """Raise UserError for lists with gaps, which would make this another benchmark than the one that is named."""
    if bed.candidates is None:
        return
    known = {query.query_id for query in bed.queries}
    documents = {passage.doc_id for passage in bed.documents}
    for query_id in (query.query_id for query in bed.queries):
        if not bed.candidates.get(query_id):
            raise UserError(
                f"evaluation set {bed.name!r}: query {query_id!r} has no candidate list; this benchmark ranks the "
                "official list of each query, and searching all documents instead is another benchmark"
            )
    for query_id, own in bed.candidates.items():
        if query_id not in known:
            raise UserError(
                f"evaluation set {bed.name!r}: query {query_id!r} has candidates but is not among the queries; add the "
                "query or drop the entry"
            )
        if len(set(own)) < len(own) or not documents.issuperset(own):
            wrong = next(doc_id for doc_id in own if own.count(doc_id) > 1 or doc_id not in documents)
            raise UserError(
                f"evaluation set {bed.name!r}, query {query_id!r}: candidate {wrong!r} is there twice or is not among "
                "the documents; a list names distinct documents of the set"
            )


def check_ranked(bed: EvaluationSet, rankings: Mapping[str, Ranking]) -> None:
    """Raise UserError for rankings that hold other documents than the candidates of their query."""
    for query_id, own in (bed.candidates or {}).items():
        ranking = rankings.get(query_id)
        extra = set() if ranking is None else set(ranking.doc_ids).difference(own)
        if extra:
            raise UserError(
                f"{bed.name}, query {query_id!r}: document {min(extra)!r} is ranked and is not one of its "
                f"{len(own)} candidates; searching all documents is another benchmark: rank the candidates only"
            )
