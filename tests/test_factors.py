"""Properties that every factor has, and what each shipped one does to a hand-made source."""

from __future__ import annotations

import dataclasses
import re

import pytest
from conftest import HandMadeSource

from ablate.recipe.factors import (
    FACTOR_NAMES,
    OFF,
    STAGES,
    Draft,
    Factors,
    active,
    apply_stages,
    check_coherent,
    fields_read,
    first_draft,
)
from ablate.recipe.wordings import GENERIC_INSTRUCTIONS
from ablate.records import TrainingGroup, UserError

ON: dict[str, object] = {
    "instructed": 0.5,
    "instruction_text": "swapped",
    "instruction_negatives": 1,
    "instruction_negative_share": 0.5,
    "reversed_views": 0.5,
    "twin_polarity": "random",
    "label_noise": 0.5,
    "plain_twins": 0.5,
    "twins": "add",
}
"""A level of each factor at which it does something, to half of the rows where it has shares."""
BASE: dict[str, object] = {"instructed": 1.0, "instruction_negatives": 1, "reversed_views": 1.0}
"""The arm dual_view, on which every factor can act."""


def drafts(seed: int = 0, negatives: int = 2, **levels: object) -> list[Draft]:
    first = (first_draft(row, negatives) for row in HandMadeSource().rows())
    return list(apply_stages(first, Factors(**levels), seed))  # type: ignore[arg-type]


def groups(seed: int = 0, negatives: int = 2, **levels: object) -> list[TrainingGroup]:
    return [draft.group for draft in drafts(seed, negatives, **levels)]


def with_needs(name: str) -> dict[str, object]:
    """Return the levels of the factors that a factor needs, and of those that these need, all fully on."""
    stage = next(stage for stage in STAGES if stage.factor == name)
    levels: dict[str, object] = {}
    for needed, *_ in stage.needs:
        levels |= {needed: BASE[needed], **with_needs(needed)}
    return levels


def test_every_factor_has_a_level_here_and_a_docstring_that_says_off_and_on() -> None:
    import inspect

    assert set(ON) == set(FACTOR_NAMES)
    source = inspect.getsource(Factors)
    for name in FACTOR_NAMES:
        text = source.split(f"    {name}: ")[1].split('"""')[1]
        assert re.search(r"\bOff( \([\w]+\))?:", text) and re.search(r"\bOn( \([\w]+\))?:", text), name


@pytest.mark.parametrize("name", FACTOR_NAMES)
def test_off_is_the_identity(name: str) -> None:
    base = with_needs(name)
    assert groups(**base) == groups(**base, **{name: getattr(OFF, name)})


@pytest.mark.parametrize("name", FACTOR_NAMES)
def test_on_changes_the_mix_and_is_deterministic(name: str) -> None:
    base = with_needs(name)
    assert drafts(**base, **{name: ON[name]}) != drafts(**base)
    assert drafts(**base, **{name: ON[name]}) == drafts(**base, **{name: ON[name]})


@pytest.mark.parametrize("name", [name for name in FACTOR_NAMES if isinstance(ON[name], float)])
def test_a_share_is_drawn_by_the_seed_and_its_rows_are_nested(name: str) -> None:
    """The rows touched at a level contain, or are contained in, those touched at the next."""

    def touched(seed: int, share: float) -> set[str]:
        base = {group.group_id: group for group in groups(seed, **with_needs(name))}
        levels = {**with_needs(name), name: share}
        return {group.group_id for group in groups(seed, **levels) if base.get(group.group_id) != group}

    assert touched(0, 0.5) != touched(1, 0.5)
    low, middle, high = touched(0, 0.3), touched(0, 0.6), touched(0, 0.9)
    assert low <= middle <= high or low >= middle >= high
    assert len(low) != len(high)


@pytest.mark.parametrize("name", [name for name in FACTOR_NAMES if name != "instructed"])
def test_switching_a_factor_on_leaves_the_draws_of_the_others(name: str) -> None:
    """Which rows are instructed, and which get a twin, is the same whatever else is on."""

    def rows(levels: dict[str, object], kind: str) -> set[str]:
        return {draft.row.row_id for draft in drafts(**levels) if draft.is_twin == (kind == "twin")
                and (kind == "twin" or draft.group.view == "original")}  # fmt: skip

    levels = {"instructed": 0.6, "instruction_negatives": 1, "reversed_views": 0.6}
    assert rows({**levels, name: ON[name]}, "instructed") == rows(levels, "instructed")
    if name not in ("reversed_views", "plain_twins", "instruction_negative_share"):
        assert rows({**levels, name: ON[name]}, "twin") == rows(levels, "twin")


@pytest.mark.parametrize("name", [name for name in FACTOR_NAMES if with_needs(name)])
def test_a_factor_without_what_it_needs_is_refused_naming_both(name: str) -> None:
    needed = next(stage.needs[0][0] for stage in STAGES if stage.factor == name)
    with pytest.raises(UserError, match=rf"factors\.{name}=.* factors\.{needed}"):
        check_coherent(Factors(**{name: ON[name]}))  # type: ignore[arg-type]
    check_coherent(Factors(**{**with_needs(name), name: ON[name]}))  # type: ignore[arg-type]


def test_active_lists_levels_that_are_not_the_no_op() -> None:
    assert active(Factors()) == {}
    assert active(Factors(instructed=1.0)) == {"instructed": 1.0}


def test_the_plain_group_of_a_row() -> None:
    group = groups()[0]
    assert (group.group_id, group.instruction, group.view) == ("q0r0/plain", "", "plain")
    assert group.positives == ("q0r0+",) and group.hard_negatives == ("q0r0h0", "q0r0h1")


def test_an_instruction_negative_replaces_a_hard_negative() -> None:
    group = groups(instructed=1.0, instruction_negatives=1)[0]
    assert group.instruction == "only q0r0"
    assert group.instruction_negatives == ("q0r0-0",) and group.hard_negatives == ("q0r0h0",)


def test_plain_rows_never_get_instruction_negatives() -> None:
    for group in groups(instructed=0.5, instruction_negatives=2):
        assert bool(group.instruction_negatives) == (group.view == "original")


def test_a_reversed_twin_has_the_same_two_passages_with_swapped_labels() -> None:
    original, twin = groups(instructed=1.0, instruction_negatives=1, reversed_views=1.0)[:2]
    assert twin.view == "reversed" and twin.instruction == "not q0r0" and twin.query == original.query
    assert twin.positives == original.instruction_negatives == ("q0r0-0",)
    assert twin.instruction_negatives == original.positives == ("q0r0+",)
    assert twin.hard_negatives == original.hard_negatives


def test_further_instruction_negatives_stay_only_where_they_break_the_complement_too() -> None:
    original, twin = groups(0, 3, instructed=1.0, instruction_negatives=3, reversed_views=1.0)[:2]
    assert original.instruction_negatives == ("q0r0-0", "q0r0-1", "q0r0-2")
    assert twin.instruction_negatives == ("q0r0+", "q0r0-2")
    assert twin.hard_negatives == ("q0r0h0",)  # in the place of q0r0-1, which answers the complement


@pytest.mark.parametrize("name", FACTOR_NAMES)
@pytest.mark.parametrize("negatives", [1, 2, 3])
def test_no_passage_is_positive_and_negative_in_one_group_and_sizes_are_equal(name: str, negatives: int) -> None:
    for group in groups(0, negatives, **{**BASE, **with_needs(name), name: ON[name]}):
        assert not set(group.positives) & set(group.negatives)
        assert len(set(group.negatives)) == len(group.negatives) == negatives
        assert len(group.positives) == 1


def test_the_three_controls_of_the_instruction_text() -> None:
    own = {group.group_id: group for group in groups(instructed=1.0)}
    repeated = groups(instructed=1.0, instruction_text="repeat_query")
    assert repeated[0].instruction == "query 0"  # "only q0r0" has two words
    generic = groups(instructed=1.0, instruction_text="generic")
    assert {group.instruction for group in generic} <= set(GENERIC_INSTRUCTIONS)
    swapped = groups(instructed=1.0, instruction_text="swapped")
    assert [group.instruction for group in swapped[:2]] == ["only q1r0", "only q1r1"]
    assert [group.instruction for group in swapped[-2:]] == ["only q0r0", "only q0r1"]
    for changed in (repeated, generic, swapped):
        for group in changed:
            assert group.instruction != own[group.group_id].instruction
            assert group == dataclasses.replace(own[group.group_id], instruction=group.instruction)


def test_swapping_needs_two_queries() -> None:
    first = (first_draft(row, 1) for row in HandMadeSource(num_queries=1).rows())
    with pytest.raises(UserError, match="swapped needs rows of at least two queries"):
        list(apply_stages(first, Factors(instructed=1.0, instruction_text="swapped"), 0))


def test_random_polarity_keeps_pairs_and_texts_and_swaps_by_a_coin() -> None:
    right, random = groups(**BASE), groups(**BASE, twin_polarity="random")
    wrong = 0
    for one, other in zip(right, random, strict=True):
        assert one.instruction == other.instruction and one.group_id == other.group_id
        assert {*one.positives, *one.negatives} == {*other.positives, *other.negatives}
        wrong += one.positives != other.positives
        assert one.view == "reversed" or one == other
    assert 0 < wrong < len(right) / 2


def test_full_label_noise_labels_every_twin_like_its_original() -> None:
    for one, twin in _twins(groups(**BASE, label_noise=1.0)):
        assert twin.positives == one.positives and twin.instruction_negatives == one.instruction_negatives
        assert twin.instruction == f"not {one.group_id.split('/')[0]}"


def test_a_paraphrase_twin_has_other_words_and_the_same_labels() -> None:
    for one, twin in _twins(groups(**BASE, twin_polarity="paraphrase")):
        assert twin.positives == one.positives and twin.negatives == one.negatives
        assert twin.instruction == f"nothing but {one.group_id.split('/')[0]}" and twin.view == "original"


def test_a_plain_twin_is_the_row_without_instruction_and_of_the_same_size() -> None:
    for one, twin in _twins(groups(instructed=1.0, instruction_negatives=1, plain_twins=1.0)):
        assert (twin.view, twin.instruction, twin.query) == ("plain", "", one.query)
        assert twin.positives == one.positives and len(twin.hard_negatives) == len(one.negatives)


def test_rows_beyond_the_share_keep_hard_negatives_and_get_no_reversed_twin() -> None:
    found = groups(**BASE, instruction_negative_share=0.5)
    without = {g.group_id.split("/")[0] for g in found if g.view == "original" and not g.instruction_negatives}
    assert 0 < len(without) < 16
    assert {g.group_id.split("/")[0] for g in found if g.view == "reversed"}.isdisjoint(without)


def test_twins_on_top_are_not_counted() -> None:
    assert [draft.is_counted for draft in drafts(**BASE, twins="add")[:4]] == [True, False, True, False]
    assert all(draft.is_counted for draft in drafts(**BASE))


def test_noise_and_polarity_together_are_refused() -> None:
    with pytest.raises(UserError, match="both decide the labels of twins"):
        check_coherent(Factors(**BASE, twin_polarity="random", label_noise=0.1))  # type: ignore[arg-type]


def test_fields_that_rows_must_have_follow_the_factors() -> None:
    assert fields_read(Factors()) == ()
    assert fields_read(Factors(instructed=1.0)) == ("instruction",)
    assert fields_read(Factors(**BASE)) == ("instruction", "instruction_negatives", "reversed_instruction")  # type: ignore[arg-type]
    assert fields_read(Factors(**BASE, twin_polarity="paraphrase"))[-1] == "paraphrase"  # type: ignore[arg-type]


def _twins(found: list[TrainingGroup]) -> list[tuple[TrainingGroup, TrainingGroup]]:
    pairs = list(zip(found[::2], found[1::2], strict=True))
    assert pairs and all(a.group_id.split("/")[0] == b.group_id.split("/")[0] for a, b in pairs)
    return pairs


def test_stage_order_is_the_order_of_the_fields() -> None:
    assert [stage.factor for stage in STAGES] == [field.name for field in dataclasses.fields(Factors)]
