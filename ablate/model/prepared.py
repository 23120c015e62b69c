"""A mix made ready for a training: tokens, batches and digest, made once for all who ask for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from ablate.data.batches import TrainingSteps, first_ids, one_id_per_text, prepare_steps
from ablate.model.device import Precision
from ablate.model.text import TextTemplate
from ablate.recipe.schema import ModelConfig, TrainConfig
from ablate.recipe.values import digest, plain, without_defaults
from ablate.records import Passage, TrainingGroup, UserError
from ablate.timing import timed


class PreparedTraining:
    """A training before its first step; counting its totals and training itself share one of these.

    Nothing is made before it is asked for: what is counted and trained already is not tokenised again.
    """

    def __init__(
        self,
        groups: Sequence[TrainingGroup],
        passages: Mapping[str, Passage],
        *,
        model: ModelConfig,
        train: TrainConfig,
        seed: int,
        template: Callable[[], TextTemplate],
    ) -> None:
        """`template` opens the tokenizer when the first text needs it."""
        self.groups, self._passages = groups, passages
        self.model, self.train, self.seed = model, train, seed
        self._template = template

    @cached_property
    def template(self) -> TextTemplate:
        """How its texts become tokens."""
        return self._template()

    @cached_property
    def first_ids(self) -> dict[str, str]:
        """Document id -> the one that is trained on in its place, which has the same text."""
        return first_ids(self.groups, lambda doc_id: self.template.passage_text(self._passages[doc_id]))

    @property
    def steps(self) -> TrainingSteps:
        """All optimiser steps, in order; raises UserError for a passage that is missing and as `TrainingSteps` does."""
        return self._tokenised[0]

    @property
    def counts(self) -> dict[str, int]:
        """Unique texts and how many of them were cut, see `prepare_steps`."""
        return self._tokenised[1]

    @cached_property
    def _tokenised(self) -> tuple[TrainingSteps, dict[str, int]]:
        self._check_passages()
        return prepare_steps(
            one_id_per_text(self.groups, self.first_ids),
            self.template.tokenise_queries,
            lambda doc_ids: self.template.tokenise_passages([self._passages[doc_id] for doc_id in doc_ids]),
            batch_size=self.train.batch_size,
            epochs=self.train.epochs,
            seed=self.seed,
            in_batch_negatives=self.train.in_batch_negatives,
            order=self.train.order,
            same_query=self.train.same_query,
            most_negatives=self.train.most_negatives,
        )

    def _check_passages(self) -> None:
        for group in self.groups:
            for doc_id in (*group.positives, *group.negatives):
                if doc_id not in self._passages:
                    raise UserError(
                        f"group {group.group_id!r} names document {doc_id!r}, which the corpus does not hold; "
                        "build the mix again from this corpus"
                    )

    @timed("digests")
    def digest(self, precision: Precision) -> str:
        """Return a digest of what decides the training, so that a checkpoint is never taken for that of another."""
        model_values = {
            name: value for name, value in without_defaults(self.model).items() if name not in ("name", "path")
        }
        settings = [model_values, plain(self.train) | {"precision": precision}, self.seed]
        content = hashlib.sha256(digest(settings).encode())
        for group in self.groups:
            content.update(digest(group).encode())
        return content.hexdigest()
