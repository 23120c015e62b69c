"""Totals of a training, counted before it, against sums by hand."""

from __future__ import annotations

import dataclasses

import pytest
from conftest import HandMadeSource, run_config

from ablate.data.mix import Mix, build_mix
from ablate.model.encoder import BiEncoder
from ablate.model.prepared import PreparedTraining
from ablate.model.text import TextTemplate
from ablate.model.workload import GroupTokens, measure_workload
from ablate.recipe.factors import Factors
from ablate.recipe.schema import Budget, TrainConfig


@pytest.fixture(scope="module")
def template() -> TextTemplate:
    """A tokenizer that knows every word of the hand-made source, one token each."""
    config = run_config("model=tiny")
    source = HandMadeSource()
    texts = [text for row in source.rows() for text in (row.query, row.instruction, row.reversed_instruction)]
    return BiEncoder.from_config(config.recipe.model, seed=0, tokenizer_texts=texts).template


def prepared(built: Mix, template: TextTemplate, train: TrainConfig) -> PreparedTraining:
    """Return a training on a mix with seed 0."""
    model = run_config("model=tiny").recipe.model
    return PreparedTraining(built.groups, built.passages, model=model, train=train, seed=0, template=lambda: template)


def mix(factors: Factors, num_queries: int = 8) -> Mix:
    base = run_config().recipe
    budget = Budget(unit="groups", limit=8, fill="fewer_queries", negatives_per_group=1)
    return build_mix(HandMadeSource(num_queries), dataclasses.replace(base, factors=factors, budget=budget), 0)


def test_totals_are_the_sums_over_groups(template: TextTemplate) -> None:
    train = dataclasses.replace(run_config().recipe.train, batch_size=4, epochs=2)
    built = mix(Factors(instructed=1.0, instruction_negatives=1, reversed_views=1.0))
    load = measure_workload(prepared(built, template, train))
    tokens = GroupTokens(template)(built.groups, built.passages)
    assert sum(tokens) == load.tokens == load.query_tokens + load.instruction_tokens + load.passage_tokens
    one = built.groups[0]
    by_hand = len(template.tokenise_queries([(one.query, one.instruction)]).ids[0]) + sum(
        len(template.tokenise_passages([built.passages[doc_id]]).ids[0]) for doc_id in (*one.positives, *one.negatives)
    )
    assert tokens[0] == by_hand
    assert load.optimiser_steps == 4
    # A batch holds two base rows with their twins: 4 queries and 4 passages, each passage once. Four batches.
    assert load.encoder_passes == 4 * 8


def test_plain_rows_have_no_instruction_tokens_and_share_no_passages(template: TextTemplate) -> None:
    train = dataclasses.replace(run_config().recipe.train, batch_size=4, epochs=1)
    built = mix(Factors())
    load = measure_workload(prepared(built, template, train))
    assert load.instruction_tokens == 0
    assert load.encoder_passes == 8 + 16


def test_negatives_are_those_of_the_first_epoch_without_what_is_masked(template: TextTemplate) -> None:
    built = mix(Factors(instructed=1.0, instruction_negatives=1, reversed_views=1.0), num_queries=2)
    train = dataclasses.replace(run_config().recipe.train, batch_size=8, epochs=3)
    # One batch of two queries with two rows each, all with their twins. The two passages of the other row of the same
    # query are masked: the group's own negative is left, and the four passages of the other query.
    assert measure_workload(prepared(built, template, train)).first_epoch_negatives == 8 * (1 + 4)
    alone = dataclasses.replace(train, in_batch_negatives=False)
    assert measure_workload(prepared(built, template, alone)).first_epoch_negatives == 8


def test_passages_of_one_text_are_one_negative(template: TextTemplate) -> None:
    built = mix(Factors(), num_queries=4)
    train = dataclasses.replace(run_config().recipe.train, batch_size=8, epochs=1)
    distinct = measure_workload(prepared(built, template, train)).first_epoch_negatives
    assert distinct == 8 * (1 + 3 * 2 * 2)  # own, and both passages of the six rows of three other queries
    hard = {doc_id for group in built.groups for doc_id in group.hard_negatives}
    same = {
        doc_id: passage._replace(text="the same") if doc_id in hard else passage
        for doc_id, passage in built.passages.items()
    }
    alike = measure_workload(prepared(dataclasses.replace(built, passages=same), template, train))
    assert alike.first_epoch_negatives == 8 * (1 + 3 * 2)
