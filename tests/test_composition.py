"""What a mix is made of beside its totals, and how well its labels are told by part of what the encoder is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from conftest import HandMadeSource, run_config

import ablate.data.predictable
from ablate.data.composition import asks_usual, composition_values, has_right_label, shown
from ablate.data.mix import Mix, build_mix
from ablate.data.world import World
from ablate.recipe.factors import Factors, first_draft
from ablate.recipe.schema import Budget
from ablate.records import Passage

PAIRED: dict[str, Any] = {"instructed": 1.0, "instruction_negatives": 1}
ORIGINAL, DUAL = Factors(**PAIRED), Factors(**PAIRED, reversed_views=1.0)


class Written(HandMadeSource):
    """The hand-made source with passages whose texts a function of their ids writes."""

    def __init__(self, write: Callable[[str], str], num_queries: int = 20, **changes: Any) -> None:
        super().__init__(num_queries, **changes)
        self.write = write

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        for doc_id in doc_ids:
            yield Passage(doc_id, self.write(doc_id))


class Styled(HandMadeSource):
    """Positives are in style x, all other passages in style y."""

    def style_of(self, doc_id: str) -> str | None:
        return "x" if doc_id.endswith("+") else "y"


def mix(factors: Factors, source: Any = None, seed: int = 0, **budget: object) -> Mix:
    values = {"unit": "groups", "limit": None, "fill": "fewer_queries", "negatives_per_group": 1, **budget}
    recipe = dataclasses.replace(run_config().recipe, factors=factors, budget=Budget(**values))  # type: ignore[arg-type]
    return build_mix(source or HandMadeSource(), recipe, seed)


def made_of(factors: Factors, source: Any = None, **budget: object) -> dict[str, float]:
    return dict(mix(factors, source, **budget).card["composition"])


def told(factors: Factors, source: Any, **budget: object) -> dict[str, float]:
    return dict(mix(factors, source, **budget).card["predictability"])


# labels and sides


@pytest.mark.parametrize(
    "factors",
    [
        Factors(),
        ORIGINAL,
        DUAL,
        Factors(**PAIRED, reversed_views=1.0, twin_polarity="paraphrase"),
        Factors(**PAIRED, plain_twins=1.0),
    ],
)
def test_labels_that_the_rows_decide_are_right(factors: Factors) -> None:
    card = made_of(factors)
    assert (card["right_labels"], card["right_labels_known"]) == (1.0, 1.0)


@pytest.mark.parametrize("wrong", [{"label_noise": 0.4}, {"twin_polarity": "random"}])
def test_wrong_labels_are_those_of_the_twins_that_were_not_swapped(wrong: dict[str, Any]) -> None:
    built = mix(Factors(**PAIRED, reversed_views=1.0, **wrong))
    unswapped = [group for group in built.groups if group.view == "reversed" and group.positives[0].endswith("+")]
    assert 0 < len(unswapped) < 16
    assert built.card["composition"]["right_labels"] == 1 - len(unswapped) / 32


@pytest.mark.parametrize("text", ["generic", "swapped", "repeat_query"])
def test_labels_under_an_instruction_that_is_not_of_the_row_are_not_known(text: Any) -> None:
    card = made_of(Factors(instructed=1.0, instruction_text=text), HandMadeSource(asks_usual=True))
    assert card["right_labels_known"] == 0.0
    assert "right_labels" not in card and "usual_side_asked" not in card
    half = mix(Factors(instructed=0.5, instruction_text=text))
    plain = half.card["views"]["plain"]
    assert 0 < half.card["composition"]["right_labels_known"] == plain / 16 < 1  # the plain ones are
    assert half.card["composition"]["right_labels"] == 1.0


@pytest.mark.parametrize(
    ("factors", "share"),
    [
        (ORIGINAL, 1.0),
        (DUAL, 0.5),
        (Factors(**PAIRED, reversed_views=1.0, twin_polarity="paraphrase"), 1.0),
        (Factors(**PAIRED, plain_twins=1.0), 1.0),
        (Factors(), None),
    ],
)
def test_a_twin_asks_for_the_other_side_and_plain_groups_for_none(factors: Factors, share: float | None) -> None:
    assert made_of(factors, HandMadeSource(asks_usual=True)).get("usual_side_asked") == share
    turned = made_of(factors, HandMadeSource(asks_usual=False)).get("usual_side_asked")
    assert turned == (None if share is None else 1 - share)
    assert "usual_side_asked" not in made_of(factors)  # the source does not know


@pytest.mark.parametrize(
    ("instruction", "positive", "label", "side"),
    [
        ("only q0r0", "q0r0+", True, True),
        ("only q0r0", "q0r0-0", False, True),
        ("nothing but q0r0", "q0r0+", True, True),
        ("nothing but q0r0", "q0r0-0", False, True),
        ("not q0r0", "q0r0-0", True, False),
        ("not q0r0", "q0r0-1", False, False),
        ("not q0r0", "q0r0+", False, False),
        ("only q7r0", "q0r0+", None, None),
        ("", "q0r0+", True, None),
        ("", "q0r0-0", False, None),
    ],
)
def test_a_label_and_a_side_are_those_of_the_row(
    instruction: str, positive: str, label: bool | None, side: bool | None
) -> None:
    draft = first_draft(next(HandMadeSource(asks_usual=True).rows()), 1)
    draft = draft._replace(group=dataclasses.replace(draft.group, instruction=instruction, positives=(positive,)))
    assert (has_right_label(draft), asks_usual(draft)) == (label, side)


def test_the_world_knows_sides_and_styles() -> None:
    def card(factors: Factors, skew: float, shortcut: float) -> dict[str, float]:
        return made_of(factors, World(seed=1, documents=600, skew=skew, shortcut=shortcut), limit=100)

    told_all = card(ORIGINAL, 1.0, 1.0)
    assert told_all["usual_side_asked"] == told_all["positives_in_style_a"] == told_all["negatives_in_style_b"] == 1.0
    assert told_all["positives_in_style_b"] == 0.0
    turned = card(DUAL, 1.0, 1.0)
    assert turned["usual_side_asked"] == turned["positives_in_style_a"] == turned["negatives_in_style_a"] == 0.5
    fair = card(ORIGINAL, 0.5, 0.0)
    assert 0.3 < fair["usual_side_asked"] < 0.7 and 0.3 < fair["positives_in_style_a"] < 0.7


# styles and lengths


def test_styles_are_counted_once_for_each_group() -> None:
    card = made_of(DUAL, Styled(), limit=8)
    assert {name: value for name, value in card.items() if "style" in name} == {
        "positives_in_style_x": 0.5,
        "positives_in_style_y": 0.5,
        "negatives_in_style_x": 0.5,
        "negatives_in_style_y": 0.5,
    }
    assert made_of(ORIGINAL, Styled())["negatives_in_style_x"] == 0.0
    assert not [name for name in made_of(ORIGINAL) if "style" in name]


def test_words_are_those_of_the_pairs() -> None:
    source = Written(lambda doc_id: "w " * 5 if doc_id.endswith("+") else "w " * (1 + int(doc_id[-1])))
    card = made_of(ORIGINAL, source, negatives_per_group=3)  # instruction negative -0, hard negatives h0 and h1
    assert (card["words_per_positive"], card["words_per_negative"]) == (5.0, (1 + 1 + 2) / 3)
    twins = made_of(DUAL, source)
    assert twins["words_per_positive"] == twins["words_per_negative"] == 3.0


# the label from a part


def test_a_word_of_the_positives_tells_the_label_and_twins_take_that_away() -> None:
    source = Written(lambda doc_id: "good text" if doc_id.endswith("+") else "bad text")
    assert told(ORIGINAL, source) == {"passage": 1.0, "length": 0.5}
    assert told(DUAL, source) == {"passage": 0.5, "length": 0.5}


def test_a_length_of_the_positives_tells_the_label() -> None:
    def middling(doc_id: str) -> str:
        row = int(doc_id[1 : doc_id.index("r")])
        return " ".join(f"{doc_id}{place}" for place in range(20 if doc_id.endswith("+") else (10, 30)[row % 2]))

    assert told(ORIGINAL, Written(middling)) == {"passage": 0.5, "length": 1.0}


def test_what_is_learned_of_one_query_is_tried_on_others() -> None:
    """Both rows of a query share words that no other query has: what is learned of one row would tell the other."""
    source = Written(lambda doc_id: f"{doc_id[: doc_id.index('r')]}{'good' if doc_id.endswith('+') else 'bad'}")
    assert told(ORIGINAL, source)["passage"] == 0.5


def test_a_weak_sign_is_told_as_often_as_it_is_right() -> None:
    def mostly(doc_id: str) -> str:
        is_odd_one_out = int(doc_id[1 : doc_id.index("r")]) % 5 == 0  # one query in five has it the other way round
        return "good" if doc_id.endswith("+") != is_odd_one_out else "bad"

    assert told(ORIGINAL, Written(mostly, 50))["passage"] == 0.8


def test_what_is_not_decided_counts_half() -> None:
    def sometimes(doc_id: str) -> str:
        is_silent = int(doc_id[1 : doc_id.index("r")]) % 2 == 0  # the positives of every other query have no words
        return ("" if is_silent else "good") if doc_id.endswith("+") else "bad"

    assert told(ORIGINAL, Written(sometimes))["passage"] == (0.75 + 1) / 2


def test_rare_positives_weigh_as_much_as_all_negatives() -> None:
    source = Written(lambda doc_id: "good" if doc_id.endswith(("+", "h0")) else "bad")
    card = told(Factors(), source, negatives_per_group=4)  # one of four negatives looks like a positive
    assert card["passage"] == (1 + 0.75) / 2


def test_the_side_tells_what_nearly_all_instructions_ask_for() -> None:
    usual = HandMadeSource(asks_usual=True)
    assert told(ORIGINAL, usual)["side"] == 1.0 and told(DUAL, usual)["side"] == 0.5
    assert told(ORIGINAL, HandMadeSource(asks_usual=False))["side"] == 1.0
    assert "side" not in told(Factors(instructed=1.0), usual)  # hard negatives stand on no side
    noisy = mix(Factors(**PAIRED, reversed_views=1.0, label_noise=1.0), usual)
    assert noisy.card["predictability"]["side"] == 1.0  # every positive is on the usual side, whatever is asked


def test_few_queries_and_groups_without_negatives_tell_nothing() -> None:
    source = Written(lambda doc_id: "good" if doc_id.endswith("+") else "bad", 4)
    assert told(ORIGINAL, source) == {}
    assert told(Factors(), Written(str), negatives_per_group=0) == {}


def test_a_sample_keeps_twins_together_and_is_that_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablate.data.predictable, "MOST_GROUPS", 33)

    def mostly(doc_id: str) -> str:
        return "good" if doc_id.endswith("+") != (int(doc_id[1 : doc_id.index("r")]) % 3 == 0) else "bad"

    assert told(DUAL, Written(mostly, 50))["passage"] == 0.5
    whole = [told(ORIGINAL, Written(mostly, 50))["passage"] for _ in range(2)]
    assert whole[0] == whole[1] != round(33 / 50, 4)  # all 100 groups would give this
    assert round(whole[0] * 33, 2) == pytest.approx(round(whole[0] * 33), abs=0.01)


def test_the_world_tells_its_labels_by_style_and_dual_view_takes_it_away() -> None:
    world = World(seed=1, documents=3000, skew=0.9, shortcut=0.9)
    skewed, twins = told(ORIGINAL, world, limit=400), told(DUAL, world, limit=400)
    assert skewed["passage"] > 0.9 and 0.85 < skewed["side"] < 0.95
    assert twins == {"side": 0.5, "passage": 0.5, "length": 0.5}


# what is read of it


def test_what_is_not_recorded_is_missing_and_what_is_not_known_is_none() -> None:
    counts = {"groups": 4, "unique_queries": 3, "unique_passages": 8}
    assert composition_values(counts, {}) == {"unique_queries": 3, "unique_passages": 8}
    assert composition_values(counts, {"first_epoch_negatives": 6})["negatives_per_row"] == 1.5
    recorded = {"positives_in_style_y": 0.75, "positives_in_style_x": 0.25, "negatives_in_style_z": 1.0}
    values = composition_values({**counts, "composition": recorded, "predictability": {"side": 0.9}}, {})
    assert values == {
        "unique_queries": 3,
        "unique_passages": 8,
        "right_labels": None,
        "usual_side_asked": None,
        "positives_in_style_x": 0.25,
        "negatives_in_style_z": 1.0,
        "words_per_positive": None,
        "words_per_negative": None,
        "label_from_passage": None,
        "label_from_side": 0.9,
        "label_from_length": None,
    }


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("right_labels", 1.0, "1.00"),
        ("right_labels", None, "-"),
        ("unique_queries", 1229.0, "1,229"),
        ("negatives_per_row", 14.53, "14.5"),
    ],
)
def test_values_are_shown_as_what_they_are(name: str, value: float | None, text: str) -> None:
    assert shown(name, value) == text
