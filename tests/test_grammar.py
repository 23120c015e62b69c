"""The grammar of wordings: what brackets stand for, what a choice takes, which clause makes a side, what is refused."""

from __future__ import annotations

import pytest

from ablate.recipe.grammar import clause_taken, clauses, num_choices, parts_of, picks, share_words, spelled
from ablate.records import UserError


def every(text: str) -> list[str]:
    return [spelled(text, pick) for pick in picks(text)]


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
    assert every(text) == expected and num_choices(text) == len(expected)


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
