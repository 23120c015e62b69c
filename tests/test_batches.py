"""Who is whose negative, which rows meet in a batch, and that a step depends on the seed and its number alone."""

import math
import random
from collections import Counter

import numpy as np
import pytest
import torch

from ablate.data.batches import (
    TokenCache,
    Tokenised,
    TrainingSteps,
    base_row,
    collate,
    first_ids,
    one_id_per_text,
    plan_epoch,
    prepare_steps,
    relations,
    sub_batches,
)
from ablate.records import TrainingGroup, UserError


def group(group_id, positives, hard=(), broken=(), query_id=None, answers=(), instruction="", query=None):
    return TrainingGroup(
        group_id=group_id,
        query_id=query_id or group_id.split("/")[0],
        query=query or f"query of {query_id or group_id}",
        instruction=instruction,
        view="plain",
        positives=tuple(positives),
        hard_negatives=tuple(hard),
        instruction_negatives=tuple(broken),
        answers=tuple(answers),
    )


def count_characters(texts):
    return Tokenised([np.array([ord(letter) for letter in "".join(text)], np.int32) for text in texts], 0)


def table(matrix):
    return ["".join("x" if value else "." for value in row) for row in matrix.tolist()]


def test_two_views_share_their_passages_and_swap_labels():
    rows = [
        group("r/original", ["A"], broken=["B"], query_id="q"),
        group("r/reversed", ["B"], broken=["A"], query_id="q"),
    ]
    doc_ids, positive, candidate = relations(rows, in_batch_negatives=True)
    assert doc_ids == ("A", "B")
    assert table(positive) == ["x.", ".x"]
    assert table(candidate) == ["xx", "xx"]


def test_passages_of_other_rows_are_negatives_unless_they_may_be_relevant():
    rows = [
        group("a/original", ["A"], hard=["H"], query_id="q", answers=["Z"]),
        group("b/original", ["C"], hard=["D"], query_id="q"),  # same query, other instruction
        group("c/original", ["Z"], hard=["H"]),
    ]
    doc_ids, positive, candidate = relations(rows, in_batch_negatives=True)
    assert doc_ids == ("A", "H", "C", "D", "Z")
    assert table(positive) == ["x....", "..x..", "....x"]
    assert table(candidate) == [
        "xx...",  # C and D belong to another row of the query, Z is known to answer it
        "..xx.",  # A and H likewise, and a row of the query knows that Z answers it
        "xxxxx",
    ]


def test_a_listed_negative_stays_one_although_it_answers_the_query():
    rows = [group("a/original", ["A"], broken=["B"], answers=["A", "B", "C"]), group("c/plain", ["C"], hard=["D"])]
    assert table(relations(rows, True).candidate_QP) == ["xx.x", "xxxx"]


def test_without_in_batch_negatives_only_listed_passages_count():
    rows = [group("a/plain", ["A"], hard=["H"]), group("b/plain", ["B"], hard=["A"])]
    assert table(relations(rows, False).candidate_QP) == ["xx.", "x.x"]


def test_passages_of_the_same_query_are_negatives_where_their_label_is_known():
    rows = [
        group("a/original", ["A"], hard=["H"], broken=["B"], query_id="q", answers=["A", "B", "C"], instruction="new"),
        group("a/restyled", ["A2"], broken=["B2"], query_id="q", answers=["A", "B", "C"], instruction="new"),
        group("c/original", ["C"], hard=["K"], broken=["A"], query_id="q", answers=["A", "B", "C"], instruction="old"),
        group("d/plain", ["D"], hard=["L"]),
    ]
    doc_ids, _, masked = relations(rows, True)
    assert doc_ids == ("A", "B", "H", "A2", "B2", "C", "K", "D", "L")
    assert table(masked)[:3] == ["xxx....xx", "...xx..xx", "x....xxxx"]
    used = table(relations(rows, True, same_query="use").candidate_QP)
    assert used == [
        "xxx.x.xxx",  # B2 breaks the same instruction, K is hard for the query; A2 satisfies it, C is not known
        ".xxxx.xxx",
        "x.x..xxxx",  # under another instruction the labels of B and B2 are not known
        "xxxxxxxxx",
    ]
    assert table(relations(rows, False, same_query="use").candidate_QP) == table(relations(rows, False).candidate_QP)


def test_what_one_row_has_as_hard_negative_and_another_as_an_answer_is_not_used():
    rows = [
        group("a/plain", ["A"], hard=["H"], query_id="q", query="old bridge"),
        group("b/plain", ["B"], hard=["K"], query_id="p", query="old bridge", answers=["H"], instruction="new"),
        group("c/plain", ["K"], hard=["L"], query_id="q", query="bridge", instruction="big"),
    ]
    used = relations(rows, True, same_query="use")
    assert used.doc_ids == ("A", "H", "B", "K", "L")
    assert table(used.candidate_QP) == [
        "xx..x",  # K is hard for the text of the query and the positive of a row with its id
        "..xxx",  # H is hard for the text of the query and known to answer it
        ".xxxx",
    ]


def test_a_row_has_no_more_negatives_than_asked_for_and_keeps_its_own():
    rows = [group(f"r{n}/plain", [f"A{n}"], hard=[f"H{n}", f"K{n}"]) for n in range(8)]
    whole = relations(rows, True)
    for most in (2, 5, 23, 40):
        doc_ids, positive, candidate = relations(rows, True, most_negatives=most, seed=1)
        negatives = candidate & ~positive
        assert negatives.sum(1).tolist() == [min(most, 23)] * 8
        assert bool((candidate <= whole.candidate_QP).all()) and torch.equal(positive, whole.positive_QP)
        for row, one in enumerate(rows):
            assert {*one.negatives} <= {doc_ids[column] for column in torch.nonzero(negatives[row]).flatten()}


def test_the_negatives_that_are_kept_are_drawn_by_seed_and_group():
    rows = [group(f"r{n}/plain", [f"A{n}"], hard=[f"H{n}"]) for n in range(8)]
    drawn = [table(relations(rows, True, most_negatives=5, seed=seed).candidate_QP) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({"".join(sorted(row)) for row in drawn[0]}) == 1 and len({*drawn[0]}) == 8


def test_the_rules_on_negatives_reach_the_batches():
    steps, _ = make_steps(most_negatives=2)
    assert [int((batch.candidate_QP & ~batch.positive_QP).sum(1).max()) for batch in (steps[0], steps[1])] == [2, 2]
    rows = [
        group("a/original", ["A"], broken=["B"], query_id="q", instruction="new"),
        group("a/restyled", ["C"], broken=["D"], query_id="q", instruction="new"),
    ]
    settings = {"batch_size": 2, "epochs": 1, "seed": 0, "in_batch_negatives": True}
    for rule, wanted in (("mask", 4), ("use", 6)):
        steps, _ = prepare_steps(rows, count_characters, count_characters, **settings, same_query=rule)
        assert int(steps[0].candidate_QP.sum()) == wanted


def test_a_passage_that_is_positive_and_negative_of_one_row_is_our_mistake():
    with pytest.raises(AssertionError, match="a positive of a/plain is its negative too"):
        relations([group("a/plain", ["A"], hard=["A"])], True)


def test_queries_of_equal_text_are_one_query():
    rows = [
        group("a/plain", ["A"], hard=["H"], query="old bridge"),
        group("b/plain", ["B"], hard=["K"], query="sea"),
        group("c/plain", ["C"], hard=["L"], query="old bridge", answers=["K"]),
    ]
    assert table(relations(rows, True).candidate_QP) == ["xxx...", "xxxxxx", "..x.xx"]  # columns A H B K C L


def test_passages_of_equal_text_have_one_id():
    texts = {"A": "stone", "copy": "stone", "B": "sea", "again": "sea", "H": "sand"}
    rows = [
        group("a/plain", ["A"], hard=["H"], answers=["again", "elsewhere"]),
        group("b/plain", ["B", "again"], hard=["copy", "A", "H"]),
        group("c/plain", ["copy"], hard=["A"], broken=["H"]),  # a negative that is the positive says nothing
    ]
    broken = group("d/plain", ["B"], hard=["H"], broken=["copy", "again", "A"])
    rows = [*rows, broken]
    first, second, third, fourth = one_id_per_text(rows, first_ids(rows, texts.__getitem__))
    assert (fourth.instruction_negatives, fourth.hard_negatives) == (("A",), ("H",))
    assert (first.positives, first.negatives, first.answers) == (("A",), ("H",), ("B", "elsewhere"))
    assert (second.positives, second.negatives) == (("B",), ("A", "H"))
    assert (third.positives, third.negatives) == (("A",), ("H",))
    doc_ids, positive, candidate = relations([first, second, third], True)
    assert doc_ids == ("A", "H", "B")
    assert table(positive) == ["x..", "..x", "x.."] and table(candidate) == ["xx.", "xxx", "xxx"]
    distinct = [group("a/plain", ["A"], hard=["H"]), group("b/plain", ["B"], hard=["H"])]
    assert one_id_per_text(distinct, first_ids(distinct, texts.__getitem__)) == distinct


def test_batch_holds_each_passage_once_and_tokens_in_order():
    rows = [group("a/plain", ["A"], hard=["H"]), group("b/plain", ["B"], hard=["H"])]
    queries = {(row.query, ""): np.arange(size, dtype=np.int32) for row, size in zip(rows, (3, 5), strict=True)}
    passages = {name: np.full(size, size, np.int32) for name, size in (("A", 2), ("H", 4), ("B", 6))}
    batch = collate(rows, queries, passages, relations(rows, True))
    assert batch.doc_ids == ("A", "H", "B")
    assert [len(text) for text in batch.texts] == [3, 5, 2, 4, 6]
    assert batch.num_tokens == 20
    moved = batch.to("cpu")
    assert (moved.group_ids, moved.doc_ids, moved.texts) == (batch.group_ids, batch.doc_ids, batch.texts)
    assert moved.positive_QP.equal(batch.positive_QP) and moved.candidate_QP.equal(batch.candidate_QP)


def test_sub_batches_are_sorted_padded_on_the_right_and_complete():
    texts = [np.arange(1, size + 1, dtype=np.int32) for size in (2, 5, 1, 4)]
    first, second = sub_batches(texts, 2, pad_id=9)
    assert first.rows.tolist() == [1, 3] and second.rows.tolist() == [0, 2]
    assert first.ids_NL.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 9]]
    assert first.mask_NL.tolist() == [[1] * 5, [1, 1, 1, 1, 0]]
    assert second.ids_NL.tolist() == [[1, 2], [1, 9]]


def test_texts_of_one_length_keep_their_order():
    """So the rows of a batch, and with them the last bits of a sum, do not hang on a sorting algorithm."""
    texts = [np.zeros(1 + number % 2, np.int32) for number in range(200)]
    rows = [row for batch in sub_batches(texts, 64, pad_id=0) for row in batch.rows.tolist()]
    assert rows == [*range(1, 200, 2), *range(0, 200, 2)]


def test_cache_tokenises_each_text_once():
    seen = []

    def tokenise(texts):
        seen.extend(texts)
        return Tokenised([np.arange(len(text), dtype=np.int64) for text in texts], sum(len(text) > 3 for text in texts))

    cache = TokenCache(["ab", "abcd", "ab", "", "abcd"], tokenise)
    assert seen == ["ab", "abcd", ""] and len(cache) == 3
    assert cache["abcd"].tolist() == [0, 1, 2, 3] and cache[""].tolist() == [] and cache["ab"].dtype == np.int32
    assert cache.num_truncated == 1


def test_cache_tokenises_in_chunks_and_keeps_every_text(monkeypatch):
    monkeypatch.setattr("ablate.data.batches.CACHE_CHUNK", 2)
    chunks = []

    def tokenise(texts):
        chunks.append(texts)
        return Tokenised([np.array([ord(letter) for letter in text], np.int32) for text in texts], len(texts) - 1)

    cache = TokenCache("one two three four five".split(), tokenise)
    assert chunks == [["one", "two"], ["three", "four"], ["five"]] and cache.num_truncated == 2
    for text in "one two three four five".split():
        assert "".join(map(chr, cache[text])) == text
    assert len(TokenCache([], tokenise)) == 0


def units_of(*sizes):
    return [f"row{number}/{view}" for number, size in enumerate(sizes) for view in range(size)]


@pytest.mark.parametrize("batch_size", [2, 4, 5, 7, 32])
@pytest.mark.parametrize("pairs", [0.0, 0.3, 0.9, 1.0])
def test_number_of_steps_is_the_same_for_every_mix_and_rows_are_never_split(batch_size, pairs):
    draw = random.Random(0)
    for num_units in (1, 3, 20, 57):
        ids = units_of(*(2 if draw.random() < pairs else 1 for _ in range(num_units)))
        batches = plan_epoch(ids, batch_size, seed=1, epoch=0)
        assert len(batches) == math.ceil(len(ids) / batch_size)
        assert sorted(index for batch in batches for index in batch) == list(range(len(ids)))
        places = {}
        for number, batch in enumerate(batches):
            for index in batch:
                places.setdefault(base_row(ids[index]), set()).add(number)
        assert all(len(numbers) == 1 for numbers in places.values())
        assert all(abs(len(batch) - batch_size) <= 1 for batch in batches[:-1])


def test_all_batches_but_the_last_are_full_when_single_rows_can_fill_them():
    sizes = [len(batch) for batch in plan_epoch(units_of(*[2, 1] * 20), 5, seed=3, epoch=0)]
    assert sizes == [5] * 12
    sizes = [len(batch) for batch in plan_epoch(units_of(*[2] * 21), 4, seed=3, epoch=0)]
    assert sizes == [4] * 10 + [2]


def test_an_open_place_goes_to_the_next_batch():
    assert [len(batch) for batch in plan_epoch(units_of(*[2] * 10), 5, seed=0, epoch=0)] == [4, 6, 4, 6]


def test_order_depends_on_seed_and_epoch_and_rows_keep_their_relative_order_across_mixes():
    ids = units_of(*[1] * 50)
    plan = plan_epoch(ids, 4, seed=1, epoch=0)
    assert plan == plan_epoch(list(ids), 4, seed=1, epoch=0)
    assert plan != plan_epoch(ids, 4, seed=2, epoch=0) and plan != plan_epoch(ids, 4, seed=1, epoch=1)
    fewer = ids[::2]
    order = [ids[index] for batch in plan for index in batch if ids[index] in fewer]
    assert order == [fewer[index] for batch in plan_epoch(fewer, 4, seed=1, epoch=0) for index in batch]


def make_steps(num_groups=10, seed=1, **changes):
    rows = [group(f"r{number}/plain", [f"d{number}"], hard=[f"d{number + 1}"]) for number in range(num_groups)]
    settings = {"batch_size": 4, "epochs": 3, "seed": seed, "in_batch_negatives": True} | changes
    return prepare_steps(rows, count_characters, count_characters, **settings)


def test_steps_cover_every_group_once_per_epoch_and_can_be_read_from_any_point():
    steps, counts = make_steps()
    assert len(steps) == 9 and steps.per_epoch == 3
    for epoch in range(3):
        seen = Counter(name for step in range(3) for name in steps[3 * epoch + step].group_ids)
        assert set(seen.values()) == {1} and len(seen) == 10
    fresh, _ = make_steps()
    assert fresh[7].group_ids == steps[7].group_ids  # without having read 0 to 6
    assert counts == {"queries": 10, "passages": 11, "truncated_queries": 0, "truncated_passages": 0}


def test_reading_steps_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    steps, _ = make_steps()
    steps[0]
    assert torch.equal(before, torch.get_rng_state())


def test_a_mix_without_groups_and_a_repeated_id_are_refused():
    with pytest.raises(UserError, match="the training mix has no groups; raise budget.limit"):
        make_steps(0)
    rows = [group("r/plain", ["A"]), group("s/plain", ["B"]), group("r/plain", ["C"])]
    cache = TokenCache(["A"], count_characters)
    with pytest.raises(UserError, match="group id 'r/plain' stands twice"):
        TrainingSteps(rows, cache, cache, batch_size=2, epochs=1, seed=0, in_batch_negatives=True)


def test_a_batch_must_hold_all_groups_of_a_row():
    ids = [f"r{row}/{view}" for row in range(4) for view in ("original", "reversed", "plain")]
    with pytest.raises(UserError, match="train.batch_size=2 is smaller than the 3 groups of base row 'r0'"):
        plan_epoch(ids, 2, 0, 0)
    assert all(plan_epoch(ids, 3, 0, 0))
