"""A small grammar of wordings: `[Only|Just] films [from|made in] {value}.` stands for each choice from its brackets.

A choice is one option of every bracket, so the text above stands for four. The two sides of a constraint have the same
brackets, and one choice is made for both. `[[` and `]]` are brackets that are meant as such.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator

from ablate.records import UserError

Pick = Callable[[int, int], int]
"""(place of a bracket with a choice, number of its options) -> the option that is taken."""

_TOKEN = re.compile(r"\[\[|\]\]|[\[\]|]")


def parts_of(text: str, where: str) -> tuple[tuple[str, ...], ...]:
    """Return a text as its parts, each with its options; what stands outside of brackets is a part with one.

    Raises UserError, at `where`, for brackets that do not close or stand in one another, and for an option that is
    there twice.
    """
    parts: list[tuple[str, ...]] = []
    options: list[str] | None = None
    written, position = "", 0
    for token in _TOKEN.finditer(text):
        written, position = written + text[position : token.start()], token.end()
        mark = token.group()
        if mark in ("[[", "]]"):
            written += mark[0]
        elif mark == "[" and options is None:
            parts.append((written,))
            options, written = [], ""
        elif mark == "|" and options is not None:
            options.append(written)
            written = ""
        elif mark == "]" and options is not None:
            options.append(written)
            if len(set(options)) < len(options):
                raise UserError(f"{where}={text!r} has the same option twice in one bracket; leave one of them out")
            parts.append(tuple(options))
            options, written = None, ""
        elif mark == "|":
            written += mark
        else:
            raise UserError(
                f"{where}={text!r} has a {mark} that does not fit; alternatives are written [one|other], not in one "
                f"another, and a bracket that is meant as one is doubled"
            )
    if options is not None:
        raise UserError(f"{where}={text!r} has a [ that is not closed; double a bracket that is meant as one")
    parts.append((written + text[position:],))
    return tuple(part for part in parts if part != ("",))


def num_choices(text: str) -> int:
    """Return how many texts a text stands for."""
    return math.prod(len(part) for part in parts_of(text, "text"))


def texts_of(text: str) -> Iterator[str]:
    """Yield every text that a text stands for, `num_choices` of them, in a fixed order."""
    return map("".join, itertools.product(*parts_of(text, "text")))


def stands_for(text: str, written: str, fill: Callable[[str], str]) -> bool:
    """Return whether `written` is one of the texts that a text stands for, each of its options filled in.

    Takes time in the number of options, not of texts.
    """
    ends = {0}
    for part in parts_of(text, "text"):
        options = [fill(option) for option in part]
        ends = {end + len(option) for option in options for end in ends if written.startswith(option, end)}
    return len(written) in ends


def spelled(text: str, pick: Pick) -> str:
    """Return one of the texts that a text stands for; brackets with one option are not picked from."""
    written, place = [], 0
    for options in parts_of(text, "text"):
        if len(options) == 1:
            written.append(options[0])
        else:
            written.append(options[pick(place, len(options))])
            place += 1
    return "".join(written)


def choices_of(text: str, where: str) -> tuple[tuple[str, ...], ...]:
    """Return the options of every bracket that has more than one; raises UserError as `parts_of` does."""
    return tuple(part for part in parts_of(text, where) if len(part) > 1)


def clauses(text: str, opposite: str) -> tuple[str, ...]:
    """Return what makes a text the side that it is: the options that its opposite does not have in that bracket.

    In lower case and without marks, so that clauses can be compared; none where the sides differ outside of brackets,
    because there is no telling then what of a whole sentence counts. The two have the same brackets.
    """
    sides = parts_of(text, "text"), parts_of(opposite, "text")
    fixed = [[part for part in side if len(part) == 1] for side in sides]
    if fixed[0] != fixed[1]:
        return ()
    pairs = zip(choices_of(text, "text"), choices_of(opposite, "text"), strict=True)
    return tuple(words_of(option) for own, other in pairs for option in own if option not in other)


def share_words(clause: str, other: str) -> bool:
    """Return whether one clause stands within the other, word by word."""
    short, long = sorted((clause, other), key=len)
    return f" {short} " in f" {long} "


def clause_taken(text: str, opposite: str, pick: Pick) -> str:
    """Return what a choice takes of the brackets in which two sides differ; the whole text where none does."""
    choices = [options[pick(place, len(options))] for place, options in enumerate(choices_of(text, "text"))]
    pairs = zip(choices, choices_of(opposite, "text"), strict=True)
    return " … ".join(option for option, other in pairs if option not in other) or spelled(text, pick)


def words_of(text: str) -> str:
    """Return the words, places in braces and signs of comparison of a text, in lower case and without other marks."""
    return " ".join(re.findall(r"[\w{}]+|[<>=≤≥≠+]", text.casefold()))
