"""Properties that every factor has, and what each shipped one does to a hand-made source."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable

import pytest
from conftest import HandMadeSource

from ablate.randomness import uniform
from ablate.recipe.factors import (
    FACTOR_NAMES,
    OFF,
    STAGES,
    Draft,
    Factors,
    StageSpec,
    active,
    apply_stages,
    check_coherent,
    fields_read,
    first_draft,
)
from ablate.recipe.wordings import GENERIC_INSTRUCTIONS
from ablate.records import SourceRow, TrainingGroup, UserError

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
    "broad": 0.5,
}
"""A level of each factor at which it does something, to half of the rows where it has shares."""
BASE: dict[str, object] = {"instructed": 1.0, "instruction_negatives": 1, "reversed_views": 1.0}
"""The arm dual_view, on which every factor can act."""
ALTERS_TWINS = {"reversed_views", "plain_twins", "instruction_negative_share"}
"""Factors that decide which rows have twins."""
SPECS = {stage.factor: stage for stage in STAGES}
EMPTY = {
    "instruction": "",
    "reversed_instruction": "",
    "paraphrase": "",
    "instruction_negatives": (),
    "asks_usual": None,
    "broad": "",
    "restyled": (),
}
"""Row fields that a source may leave empty -> what they are then."""


def on(name: str) -> object:
    """Return the level of a factor in `ON`; one that is not there fails in words."""
    if name not in ON:
        pytest.fail(
            f"the factor {name} has no level in ON of tests/test_factors.py: add one at which it does "
            f"something to half of the rows"
        )
    return ON[name]


def levels_on(name: str) -> list[object]:
    """Return every named level of a factor but its no-op, or the level of `ON` where levels are numbers."""
    named = typing.get_args(typing.get_type_hints(Factors)[name])
    return [level for level in named if level != getattr(OFF, name)] or [on(name)]


def drafts(seed: int = 0, negatives: int = 2, source: HandMadeSource | None = None, **levels: object) -> list[Draft]:
    first = (first_draft(row, negatives) for row in (source or HandMadeSource()).rows())
    return list(apply_stages(first, Factors(**levels), seed))  # type: ignore[arg-type]


def groups(seed: int = 0, negatives: int = 2, **levels: object) -> list[TrainingGroup]:
    return [draft.group for draft in drafts(seed, negatives, **levels)]


def needs_of(name: str) -> list[tuple[str, ...]]:
    """Return of which factors one must be on, for a factor at the level of `ON` (anything where it has none)."""
    return [needed for demands in SPECS[name].asks(ON.get(name)) for needed in demands.needs]


def with_needs(name: str) -> dict[str, object]:
    """Return the levels of the factors that a factor needs, and of those that these need, all fully on."""
    levels: dict[str, object] = {}
    for needed, *_ in needs_of(name):
        levels |= {needed: BASE[needed] if needed in BASE else on(needed), **with_needs(needed)}
    return levels


@pytest.mark.parametrize("name", FACTOR_NAMES)
def test_every_factor_has_a_level_here_and_a_docstring_that_says_off_and_on(name: str) -> None:
    assert on(name) != getattr(OFF, name), f"ON of tests/test_factors.py has {name} at its no-op"
    documented = inspect.getsource(Factors).split(f"    {name}: ")[1].split("\n\n")[0]
    assert re.search(r"\bOff( \([\w]+\))?:", documented) and re.search(r"\bOn( \([\w]+\))?:", documented), (
        f"the docstring under {name} in ablate/recipe/factors.py must say what `Off:` and `On:` mean"
    )


def test_a_level_or_a_pin_that_was_forgotten_is_told_in_words() -> None:
    with pytest.raises(pytest.fail.Exception, match="the factor new has no level in ON of tests/test_factors.py: add"):
        on("new")


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.factor)
def test_a_stage_speaks_of_factors_levels_and_fields_that_there_are(stage: StageSpec) -> None:
    earlier = FACTOR_NAMES[: FACTOR_NAMES.index(stage.factor)]
    asked = [stage.demands, *stage.at.values()]
    acts_on = {*stage.modifies, *(name for demands in asked for needed in demands.needs for name in needed)}
    assert acts_on <= {*earlier}, f"{stage.factor} acts on what {acts_on} make, so they come before it in STAGES"
    assert {name for demands in asked for name in demands.excludes} <= {*FACTOR_NAMES} - {stage.factor}
    assert {field for demands in asked for field in demands.reads} <= set(SourceRow.__slots__)
    assert {*stage.at} <= {*levels_on(stage.factor)}, f"{stage.factor}: demands at a level that it does not have"


@pytest.mark.parametrize("name", FACTOR_NAMES)
def test_off_is_the_identity(name: str) -> None:
    base = with_needs(name)
    assert groups(**base) == groups(**base, **{name: getattr(OFF, name)})


@pytest.mark.parametrize("name", FACTOR_NAMES)
def test_on_changes_the_mix_and_is_deterministic(name: str) -> None:
    base = with_needs(name)
    for level in levels_on(name):
        assert drafts(**base, **{name: level}) != drafts(**base)
        assert drafts(**base, **{name: level}) == drafts(**base, **{name: level})


@pytest.mark.parametrize("name", FACTOR_NAMES)
def test_what_a_factor_reads_of_a_row_is_what_it_says_it_reads(name: str) -> None:
    """A field that is not among `fields_read` may be empty without a trace in the mix."""
    for level in levels_on(name):
        levels = {**with_needs(name), name: level}
        for field in set(EMPTY) - set(fields_read(Factors(**levels))):  # type: ignore[arg-type]
            without = groups(source=HandMadeSource(**{field: EMPTY[field]}), **levels)
            assert without == groups(**levels), (
                f"factors.{name}={level} reads the field {field} of a row; say so in STAGES (`reads`)"
            )


@pytest.mark.parametrize("name", FACTOR_NAMES)
def test_a_factor_says_whether_the_budget_counts_its_drafts_and_whether_its_level_is_a_number_of_negatives(
    name: str,
) -> None:
    for level in levels_on(name):
        made = drafts(**{**BASE, **with_needs(name), name: level})
        all_counted = all(draft.is_counted for draft in made)
        assert (level in SPECS[name].uncounted_at) == (not all_counted), f"uncounted_at of {name}, level {level}"
    if isinstance(on(name), int):
        most = max(len(group.negatives) for group in groups(0, 2, **{**BASE, **with_needs(name), name: 3}))
        assert SPECS[name].takes_negatives == (most > 2), f"takes_negatives of {name}"


@pytest.mark.parametrize("name", [name for name in FACTOR_NAMES if isinstance(ON.get(name), float)])
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
        return {
            draft.row.row_id
            for draft in drafts(**levels)
            if draft.is_twin == (kind == "twin") and (kind == "twin" or draft.group.view == "original")
        }

    levels = {"instructed": 0.6, "instruction_negatives": 1, "reversed_views": 0.6}
    beside = {**with_needs(name), **levels}
    switched = {**beside, name: on(name)}
    assert rows(switched, "instructed") == rows(beside, "instructed"), f"{name} changes which rows are instructed"
    assert name in ALTERS_TWINS or rows(switched, "twin") == rows(beside, "twin"), (
        f"{name} changes which rows have twins; if it is made for that, name it in ALTERS_TWINS of this file"
    )


@pytest.mark.parametrize("name", [name for name in FACTOR_NAMES if needs_of(name)])
def test_a_factor_without_what_it_needs_is_refused_naming_both(name: str) -> None:
    needed = needs_of(name)[0][0]
    with pytest.raises(UserError, match=rf"factors\.{name}=.* factors\.{needed}"):
        check_coherent(Factors(**{name: on(name)}))  # type: ignore[arg-type]
    check_coherent(Factors(**{**with_needs(name), name: on(name)}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "other"),
    [(name, other) for name in SPECS for demands in SPECS[name].asks(ON.get(name)) for other in demands.excludes],
)
def test_two_factors_that_decide_the_same_are_refused_naming_both(name: str, other: str) -> None:
    both = {**with_needs(name), **with_needs(other), name: on(name), other: on(other)}
    with pytest.raises(UserError, match=rf"factors\.{name}=.* and factors\.{other}=.* both decide .*; leave one at "):
        check_coherent(Factors(**both))  # type: ignore[arg-type]


def test_active_lists_levels_that_are_not_the_no_op() -> None:
    assert active(Factors()) == {}
    assert active(Factors(instructed=1.0)) == {"instructed": 1.0}


def test_the_plain_group_of_a_row() -> None:
    group = groups()[0]
    assert (group.group_id, group.instruction, group.view) == ("q0r0/plain", "", "plain")
    assert group.positives == ("q0r0+",) and group.hard_negatives == ("q0r0h0", "q0r0h1")
    assert group.answers == next(HandMadeSource().rows()).answers != ()


def test_a_row_with_several_positives_trains_on_the_first_in_every_view() -> None:
    rows = HandMadeSource(positives=("first+", "second+")).rows()
    levels = {**BASE, "plain_twins": 1.0, "label_noise": 0.5}
    found = list(apply_stages((first_draft(row, 2) for row in rows), Factors(**levels), 0))  # type: ignore[arg-type]
    assert {len(draft.group.positives) for draft in found} == {1}
    assert {draft.group.positives for draft in found if draft.group.view != "reversed"} == {("first+",)}
    assert {"second+" in draft.group.negatives for draft in found} == {False}


def test_the_id_of_a_group_names_its_row_and_its_view() -> None:
    found = drafts(**BASE, plain_twins=1.0)[:3]
    assert [draft.group.group_id for draft in found] == ["q0r0/original", "q0r0/plain", "q0r0/reversed"]
    assert [draft.is_twin for draft in found] == [False, True, True]
    assert groups(**BASE, twin_polarity="paraphrase")[1].group_id == "q0r0/paraphrase"


@pytest.mark.parametrize("name", [name for name in FACTOR_NAMES if isinstance(ON[name], float)])
def test_a_row_is_touched_where_its_own_draw_lies_below_the_share(name: str) -> None:
    """So the rows of a level are the same on every machine, and in every mix that has them."""

    is_touched: dict[str, Callable[[TrainingGroup], bool]] = {
        "instructed": lambda group: group.view == "original",
        "instruction_negative_share": lambda group: bool(group.instruction_negatives),
        "reversed_views": lambda group: group.view == "reversed",
        "label_noise": lambda group: group.view == "reversed" and group.positives[0].endswith("+"),
        "plain_twins": lambda group: group.view == "plain",
        "broad": lambda group: group.instruction.startswith("any"),
    }
    found = groups(5, **{**with_needs(name), name: 0.4})
    below = {row.row_id for row in HandMadeSource().rows() if uniform(5, name, row.row_id) < 0.4}
    assert {group.group_id.split("/")[0] for group in found if is_touched[name](group)} == below
    assert 0 < len(below) < 16


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
    assert (twin.positives, twin.instruction_negatives) == (("q0r0-0",), ("q0r0+", "q0r0-2"))
    assert twin.hard_negatives == ("q0r0h0",)  # in the place of q0r0-1, which answers the complement
    rows = [dataclasses.replace(row, still_negative=row.instruction_negatives) for row in HandMadeSource().rows()]
    levels = Factors(instructed=1.0, instruction_negatives=3, reversed_views=1.0)
    twin = list(apply_stages((first_draft(row, 3) for row in rows), levels, 0))[1].group
    assert twin.instruction_negatives == ("q0r0+", "q0r0-1", "q0r0-2")  # all but the one that is the positive now


@pytest.mark.parametrize("name", FACTOR_NAMES)
@pytest.mark.parametrize("negatives", [1, 2, 3])
def test_no_passage_is_positive_and_negative_in_one_group_and_sizes_are_equal(name: str, negatives: int) -> None:
    for level in levels_on(name):
        for group in groups(0, negatives, **{**BASE, **with_needs(name), name: level}):
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
    first = (first_draft(row, 1) for row in HandMadeSource(num_queries=1).rows())
    rare = Factors(instructed=1e-9, instruction_text="swapped")  # no row is instructed: nothing to swap
    assert [draft.group.view for draft in apply_stages(first, rare, 0)] == ["plain", "plain"]


def test_swapping_takes_from_another_query_although_the_rows_of_one_do_not_stand_together() -> None:
    rows = sorted(HandMadeSource(num_queries=3).rows(), key=lambda row: row.row_id[2:])  # in rounds over the queries
    for order in (rows, rows[:4], [*rows[:3], *rows[2::-1]], [rows[0], rows[1], rows[0]]):
        drafted = (first_draft(row, 1) for row in order)
        swapped = list(apply_stages(drafted, Factors(instructed=1.0, instruction_text="swapped"), 0))
        assert [draft.row for draft in swapped] == order
        for draft in swapped:
            assert draft.group.instruction[5:7] != draft.row.query_id, "an instruction of the query's own"


def test_random_polarity_keeps_pairs_and_texts_and_swaps_by_a_coin() -> None:
    right, random = groups(**BASE), groups(**BASE, twin_polarity="random")
    wrong = 0
    for one, other in zip(right, random, strict=True):
        assert one.instruction == other.instruction and one.group_id == other.group_id
        assert {*one.positives, *one.negatives} == {*other.positives, *other.negatives}
        wrong += one.positives != other.positives
        assert one.view == "reversed" or one == other
    assert 0 < wrong < len(right) / 2
    heads = {row.row_id for row in HandMadeSource().rows() if uniform(0, "twin_polarity", row.row_id) < 0.5}
    as_original = {g.group_id.split("/")[0] for g in random if g.view == "reversed" and g.positives[0].endswith("+")}
    assert as_original == heads


def test_full_label_noise_labels_every_twin_like_its_original() -> None:
    for one, twin in _twins(groups(**BASE, label_noise=1.0)):
        assert twin.positives == one.positives and twin.instruction_negatives == one.instruction_negatives
        assert twin.instruction == f"not {one.group_id.split('/')[0]}"


def test_a_wrong_label_changes_the_first_two_passages_and_no_other() -> None:
    levels = {"instructed": 1.0, "instruction_negatives": 3, "reversed_views": 1.0}
    wrong = groups(0, 4, **levels, label_noise=1.0)[1]
    assert (wrong.view, wrong.positives) == ("reversed", ("q0r0+",))
    assert wrong.instruction_negatives == ("q0r0-0", "q0r0-2")  # as the right twin, but for the swap
    assert wrong.hard_negatives == groups(0, 4, **levels)[1].hard_negatives == ("q0r0h0", "q0r0h1")


def test_a_paraphrase_twin_has_other_words_and_the_same_labels() -> None:
    for one, twin in _twins(groups(**BASE, twin_polarity="paraphrase")):
        assert twin.positives == one.positives and twin.negatives == one.negatives
        assert twin.instruction == f"nothing but {one.group_id.split('/')[0]}" and twin.view == "original"


def test_a_paraphrase_or_a_restyled_twin_keeps_every_negative_of_its_original() -> None:
    levels = {**BASE, "instruction_negatives": 3}
    for polarity in ("paraphrase", "restyled"):
        one, twin = groups(0, 4, **levels, twin_polarity=polarity)[:2]
        assert [doc_id.removesuffix("*") for doc_id in twin.negatives] == [*one.negatives]


def test_a_restyled_twin_has_both_passages_in_their_other_style_and_nothing_else() -> None:
    for one, twin in _twins(groups(0, 1, **BASE, twin_polarity="restyled")):
        row = one.group_id.split("/")[0]
        assert one.positives == (f"{row}+",) and one.negatives == (f"{row}-0",)
        assert twin == dataclasses.replace(
            one, group_id=f"{row}/restyled", positives=(f"{row}+*",), instruction_negatives=(f"{row}-0*",)
        )


def test_a_restyled_reversal_is_the_reversal_with_both_passages_in_their_other_style() -> None:
    for right, twin in zip(groups(0, 1, **BASE), groups(0, 1, **BASE, twin_polarity="right_restyled"), strict=True):
        if right.view == "original":
            assert twin == right
        else:
            restyled = [tuple(f"{doc_id}*" for doc_id in part) for part in (right.positives, right.negatives)]
            assert twin == dataclasses.replace(right, positives=restyled[0], instruction_negatives=restyled[1])


def test_dead_polarity_has_one_positive_for_both_views_of_a_row_by_a_coin() -> None:
    right = 0
    for one, twin in _twins(groups(0, 1, **BASE, twin_polarity="dead")):
        row = one.group_id.split("/")[0]
        assert (one.instruction, twin.instruction) == (f"only {row}", f"not {row}")
        assert one.positives == twin.positives and one.negatives == twin.negatives
        assert {*one.positives, *one.negatives} == {f"{row}+", f"{row}-0"}
        assert (one.positives == (f"{row}+",)) == (uniform(0, "twin_polarity", row) < 0.5)
        right += (one.positives == (f"{row}+",)) + (twin.positives == (f"{row}-0",))
    assert right == 16  # of 32


def test_dead_polarity_leaves_rows_without_a_reversed_twin_as_they_are() -> None:
    levels = {**BASE, "reversed_views": 0.5}
    twinned = {g.group_id.split("/")[0] for g in groups(**levels) if g.view == "reversed"}
    tails = {row.row_id for row in HandMadeSource().rows() if uniform(0, "twin_polarity", row.row_id) >= 0.5}
    swapped = {
        g.group_id.split("/")[0]
        for g in groups(**levels, twin_polarity="dead")
        if g.view == "original" and not g.positives[0].endswith("+")
    }
    assert swapped == twinned & tails and tails - twinned


@pytest.mark.parametrize(
    ("polarity", "kinds"), [("right", {"original", "reversed"}), ("restyled", {"original", "restyled"})]
)
def test_twins_instead_keep_one_group_of_each_row_by_a_coin(polarity: str, kinds: set[str]) -> None:
    beside = {draft.group.group_id: draft for draft in drafts(**BASE, twin_polarity=polarity)}
    instead = drafts(**BASE, twin_polarity=polarity, twins="instead")
    assert [draft.row.row_id for draft in instead] == [row.row_id for row in HandMadeSource().rows()]
    assert all(draft == beside[draft.group.group_id]._replace(is_twin=False) for draft in instead)
    names = [draft.group.group_id.split("/")[1] for draft in instead]
    assert {*names} == kinds and all(4 <= names.count(kind) <= 12 for kind in kinds)


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
    assert fields_read(Factors(instructed=1.0, instruction_negatives=1)) == ("instruction", "instruction_negatives")
    assert fields_read(Factors(**BASE)) == ("instruction", "instruction_negatives", "reversed_instruction")  # type: ignore[arg-type]
    assert fields_read(Factors(**BASE, twin_polarity="paraphrase"))[-1] == "paraphrase"  # type: ignore[arg-type]


def _twins(found: list[TrainingGroup]) -> list[tuple[TrainingGroup, TrainingGroup]]:
    pairs = list(zip(found[::2], found[1::2], strict=True))
    assert pairs and all(a.group_id.split("/")[0] == b.group_id.split("/")[0] for a, b in pairs)
    return pairs


def test_a_broad_row_and_its_twin_ask_for_every_answer_against_hard_negatives() -> None:
    for draft in drafts(**BASE, broad=1.0):
        row, group = draft.row, draft.group
        assert group.instruction == row.broad and not group.instruction_negatives
        assert group.positives[0] in row.of_both_sides and group.negatives == row.hard_negatives[:2]
    shares = [groups(5, **{**BASE, "reversed_views": share}, broad=0.4) for share in (0.0, 1.0)]
    found = [{group.group_id.split("/")[0] for group in mix if group.instruction.startswith("any")} for mix in shares]
    assert found[0] == found[1], "a row is broad in one arm as in the other"


@pytest.mark.parametrize(
    "levels", [{"twin_polarity": level} for level in levels_on("twin_polarity")] + [{"label_noise": 0.5}, {}]
)
def test_no_group_of_a_broad_row_is_a_copy_of_another_or_the_combination_is_refused(levels: dict[str, object]) -> None:
    broad: dict[str, object] = {**BASE, **levels, "broad": 1.0}
    posed = [dataclasses.replace(group, group_id="", view="original") for group in groups(0, 2, **broad)]
    if len(set(posed)) < len(posed):
        with pytest.raises(UserError, match="and factors.broad=1.0 both decide the twins of broad rows"):
            check_coherent(Factors(**broad))  # type: ignore[arg-type]
    else:
        check_coherent(Factors(**broad))  # type: ignore[arg-type]
        assert levels.get("twin_polarity") in (None, "restyled", "right_restyled")


def test_hard_negatives_of_a_restyled_broad_group_are_those_of_its_row() -> None:
    for draft in drafts(**BASE, twin_polarity="right_restyled", broad=1.0):
        assert draft.group.negatives == draft.row.hard_negatives[:2]
