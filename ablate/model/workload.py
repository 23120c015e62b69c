"""What a mix costs under a model and a training recipe, counted before it is trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate.data.batches import TokenCache, one_id_per_text, plan_epoch
from ablate.model.text import TextTemplate
from ablate.recipe.schema import TrainConfig
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

    @property
    def tokens(self) -> int:
        """Tokens of one pass over the groups."""
        return self.query_tokens + self.instruction_tokens + self.passage_tokens


def group_tokens(template: TextTemplate, groups: Sequence[TrainingGroup], passages: Mapping[str, Passage]) -> list[int]:
    """Return the tokens of each group: the query as it is posed, and each of its passages."""
    queries = TokenCache([(group.query, group.instruction) for group in groups], template.tokenise_queries)
    texts = TokenCache(
        [doc_id for group in groups for doc_id in doc_ids_of(group)],
        lambda ids: template.tokenise_passages([passages[doc_id] for doc_id in ids]),
    )
    return [
        len(queries[group.query, group.instruction]) + sum(len(texts[doc_id]) for doc_id in doc_ids_of(group))
        for group in groups
    ]


def doc_ids_of(group: TrainingGroup) -> tuple[str, ...]:
    """Return the passages of a group, positives first."""
    return (*group.positives, *group.negatives)


def measure_workload(
    groups: Sequence[TrainingGroup],
    passages: Mapping[str, Passage],
    template: TextTemplate,
    train: TrainConfig,
    seed: int,
) -> Workload:
    """Return the totals of training on these groups; tokenises each unique text once."""
    posed = [(group.query, group.instruction) for group in groups]
    queries = TokenCache([*posed, *((query, "") for query, _ in posed)], template.tokenise_queries)
    doc_ids = [doc_id for group in groups for doc_id in doc_ids_of(group)]
    texts = TokenCache(doc_ids, lambda ids: template.tokenise_passages([passages[doc_id] for doc_id in ids]))
    bare = sum(len(queries[query, ""]) for query, _ in posed)
    group_ids = [group.group_id for group in groups]
    trained_on = one_id_per_text(groups, lambda doc_id: template.passage_text(passages[doc_id]))
    passes = 0
    for epoch in range(train.epochs):
        for batch in plan_epoch(group_ids, train.batch_size, seed, epoch):
            unique = {doc_id for index in batch for doc_id in doc_ids_of(trained_on[index])}
            passes += len(batch) + len(unique)
    return Workload(
        query_tokens=bare,
        instruction_tokens=sum(len(queries[query]) for query in posed) - bare,
        passage_tokens=sum(len(texts[doc_id]) for doc_id in doc_ids),
        optimiser_steps=train.epochs * math.ceil(len(groups) / train.batch_size),
        encoder_passes=passes,
    )
