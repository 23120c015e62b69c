"""What a mix costs under a model and a training recipe, counted before it is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate.data.batches import Query, TokenCache, TrainingSteps
from ablate.model.prepared import PreparedTraining
from ablate.model.text import TextTemplate
from ablate.records import Passage, TrainingGroup


@dataclass(frozen=True)
class Workload:
    """Totals of a training in tokens (special tokens included), texts and steps."""

    query_tokens: int
    """Of the bare queries, summed over groups, once per epoch 1."""
    instruction_tokens: int
    """What the instructions add to them."""
    passage_tokens: int
    """Summed over the pairs of all groups, as if no passage were shared within a batch."""
    optimiser_steps: int
    """Over all epochs."""
    encoder_passes: int
    """Texts through the encoder over all epochs: each unique passage of a step once."""
    first_epoch_negatives: int
    """Negatives of all groups in the batches of epoch 1, those from the batch included and what is masked left out."""

    @property
    def tokens(self) -> int:
        """Tokens of one pass over the groups."""
        return self.query_tokens + self.instruction_tokens + self.passage_tokens


class GroupTokens:
    """Counts the tokens of groups by a template; a text that was counted once is not tokenised again."""

    def __init__(self, template: TextTemplate) -> None:
        self._template = template
        self._queries: dict[Query, int] = {}
        self._passages: dict[str, int] = {}

    def __call__(self, groups: Sequence[TrainingGroup], passages: Mapping[str, Passage]) -> list[int]:
        """Return the tokens of each group: the query as it is posed, and each of its passages."""
        posed = [(group.query, group.instruction) for group in groups]
        queries = TokenCache((query for query in posed if query not in self._queries), self._template.tokenise_queries)
        texts = TokenCache(
            (doc_id for group in groups for doc_id in doc_ids_of(group) if doc_id not in self._passages),
            lambda ids: self._template.tokenise_passages([passages[doc_id] for doc_id in ids]),
        )
        self._queries |= queries.lengths()
        self._passages |= texts.lengths()
        return [
            self._queries[query] + sum(self._passages[doc_id] for doc_id in doc_ids_of(group))
            for query, group in zip(posed, groups, strict=True)
        ]


def doc_ids_of(group: TrainingGroup) -> tuple[str, ...]:
    """Return the passages of a group, positives first."""
    return (*group.positives, *group.negatives)


def measure_workload(prepared: PreparedTraining) -> Workload:
    """Return the totals of a training; beside its own texts only bare queries are tokenised, each once.

    Raises UserError as the steps of the training do.
    """
    groups, steps, first = prepared.groups, prepared.steps, prepared.first_ids
    queries, passages = steps.queries.lengths(), steps.passages.lengths()
    bare = ((group.query, "") for group in groups)
    queries |= TokenCache(
        (query for query in bare if query not in queries), prepared.template.tokenise_queries
    ).lengths()
    query_tokens = sum(queries[group.query, ""] for group in groups)
    passes = 0
    for epoch in range(prepared.train.epochs):
        for batch in steps.plan(epoch):
            unique = {doc_id for index in batch for doc_id in doc_ids_of(steps.groups[index])}
            passes += len(batch) + len(unique)
    return Workload(
        query_tokens=query_tokens,
        instruction_tokens=sum(queries[group.query, group.instruction] for group in groups) - query_tokens,
        passage_tokens=sum(passages[first[doc_id]] for group in groups for doc_id in doc_ids_of(group)),
        optimiser_steps=len(steps),
        encoder_passes=passes,
        first_epoch_negatives=_num_negatives(steps),
    )


def _num_negatives(steps: TrainingSteps) -> int:
    """Return the candidates that are not positive, summed over all rows of the first epoch."""
    total = 0
    for batch in steps.plan(0):
        _, positive_QP, candidate_QP = steps.relations_of([steps.groups[index] for index in batch])
        total += int(candidate_QP.sum()) - int(positive_QP.sum())
    return total
