"""The grammar of wordings: what brackets stand for, what a choice takes, which clause makes a side, what is refused."""

from __future__ import annotations

import pytest

from ablate.recipe.grammar import (
    clause_taken,
    clauses,
    num_choices,
    parts_of,
    share_words,
    spelled,
    stands_for,
    texts_of,
    words_of,
)
from ablate.records import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", ["plain"]),
        ("[a|b] film[s|]", ["a films", "a film", "b films", "b film"]),
        ("[a]", ["a"]),
        ("[[a|b]] | c", ["[a|b] | c"]),
        ("[x [[1]]|y]", ["x [1]", "y"]),
        ("[from {value}|in {value}].", ["from {value}.", "in {value}."]),
    ],
)
def test_what_a_text_stands_for(text: str, expected: list[str]) -> None:
    assert list(texts_of(text)) == expected and num_choices(text) == len(expected)
    assert spelled(text, lambda place, num: 0) == expected[0]
    assert spelled(text, lambda place, num: num - 1) == expected[-1]
    assert all(stands_for(text, written, str) for written in expected)
    near = {change for written in expected for change in (f"{written}x", f"x{written}", written[:-1])} - {*expected}
    assert not any(stands_for(text, change, str) for change in near)


def test_a_text_is_found_among_a_billion_others_with_its_places_filled() -> None:
    text = "[a|aa]" * 30 + " since {value}"
    filled = [
        stands_for(text, f"{'a' * 45} since {year}", lambda option: option.format(value=1990)) for year in (1990, 1991)
    ]
    assert filled == [True, False] and num_choices(text) == 2**30


def test_words_are_compared_without_marks_and_with_signs_of_comparison() -> None:
    assert words_of("Only films, from {value}!") == words_of("only films from  {value}")
    assert words_of("year >= {value}") != words_of("year < {value}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a|b", r"\[ that is not closed"),
        ("a]", r"has a \] that does not fit"),
        ("[a [b|c]]", r"has a \[ that does not fit"),
        ("[a|b|a]", "has the same option twice"),
    ],
)
def test_brackets_that_do_not_fit_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^here=.*{said}"):
        parts_of(text, "here")


def test_clauses_are_the_options_that_the_sides_do_not_share() -> None:
    own, other = (
        "[Only|Just] films [from {value} on|since {value}].",
        "[Only|Just] films [before {value}|until {value}].",
    )
    assert clauses(own, other) == ("from {value} on", "since {value}")
    assert clause_taken(own, other, lambda place, num: num - 1) == "since {value}"
    assert clauses("Only [x|y] of {value}.", "Never [x|y] of {value}.") == ()
    assert clause_taken("All of {value}.", "None of {value}.", lambda place, num: 0) == "All of {value}."


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("released before {value}", "not released before {value}", True),
        ("old", "older", False),
        ("a b", "a b", True),
        ("a c", "a b c", False),
    ],
)
def test_one_clause_within_another(first: str, second: str, expected: bool) -> None:
    assert share_words(first, second) is share_words(second, first) is expected
