"""The tables of the generated world: reads the YAML files of this package and compiles them for fast writing.

A domain has topics, requests (wordings of queries), attributes with levels (values) and the clauses that state them,
and asks: what an instruction can demand of an attribute, in words for both sides. Whatever a document or an
instruction says comes by split, `train` and `evaluation`, in other words; a held-out domain has the second alone.
Numbers are levels too: the n-th number of one split lies on the same sides of the thresholds as the n-th of the other,
and their clauses are written out here, so that writing a document only picks ready strings.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

GENERATOR_VERSION = 2
"""Raise whenever a change of the code changes a byte of what is generated; tables are hashed by themselves."""

STYLES = ("a", "b")
"""Habits of writing that state nothing: a is chatty, b is ornate."""

FORMS = ("short", "long", "persona", "negated")
FORM_TURNS = ("short", "persona", "negated", "short", "long", "negated")
"""From these the form of a training row is drawn with equal chances; in evaluation all forms are equally frequent."""
SPLITS = ("train", "evaluation")

_FOLDER = Path(__file__).parent
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


class Constraint(NamedTuple):
    """One demand on one attribute; `usual` and `complement` are verb phrases, by split, aligned by index."""

    attribute: int
    kind: str
    label: str
    holds: tuple[bool, ...]
    """Whether a document at this level of the attribute satisfies the usual side."""
    usual: dict[str, tuple[str, ...]]
    complement: dict[str, tuple[str, ...]]


class TopicTexts(NamedTuple):
    """How a topic is called, how a document can describe it without the name, and the topic that it is near to."""

    name: str
    description: str
    sibling: str


class Domain(NamedTuple):
    """One subject area, compiled. Texts of documents are by split, then by style."""

    name: str
    noun: str
    held_out: bool
    modified: str
    """How a topic is narrowed by an invented name, for large worlds."""
    mentioned: str
    """How a topic is mentioned in passing: with its article or without."""
    topics: tuple[TopicTexts, ...]
    requests: dict[str, tuple[str, ...]]
    intros: dict[str, tuple[tuple[str, ...], ...]]
    attributes: tuple[str, ...]
    clauses: dict[str, tuple[tuple[tuple[tuple[str, ...], ...], ...], ...]]
    """By split, style, attribute and level: the ways of stating it, lower case and without full stop."""
    distractors: dict[str, tuple[tuple[str, ...], ...]]
    asks: tuple[tuple[Constraint, ...], ...]
    """By attribute."""


class Shared(NamedTuple):
    """What all domains share, compiled."""

    prefixes: tuple[tuple[str, ...], ...]
    """By style."""
    closers: dict[str, tuple[tuple[str, ...], ...]]
    """By split and style."""
    passing: dict[str, tuple[str, ...]]
    """By split: how a document mentions a topic {m} that it is not about."""
    templates: dict[str, dict[str, tuple[str, ...]]]
    """By split and form; {p} is what is asked for, {q} its complement, {n} the noun of the domain."""
    broad: tuple[str, ...]
    names: tuple[str, ...]
    """Invented names of places and makers."""


def in_words(number: int) -> str:
    """Spell a number from 0 to 999 in English."""
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_UNITS[units]}" if units else "")
    hundreds, rest = divmod(number, 100)
    return f"{_UNITS[hundreds]} hundred" + (f" and {in_words(rest)}" if rest else "")


def with_article(noun: str) -> str:
    """Put `a` or `an` before a noun phrase, by its first letter."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


@cache
def raw_tables() -> dict[str, Any]:
    """Read every YAML file of the package: `shared`, and each domain by its name, in alphabetical order."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = [_FOLDER / "shared.yaml", *sorted((_FOLDER / "domains").glob("*.yaml"))]
    return {file.stem: yaml.load(file.read_text(encoding="utf-8"), Loader=loader) for file in files}


@cache
def revision() -> str:
    """Return the version of generator and tables: the same string means the same bytes."""
    text = json.dumps(raw_tables(), ensure_ascii=True, sort_keys=False)
    return f"{GENERATOR_VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@cache
def shared() -> Shared:
    """Compile the tables that all domains share."""
    table = raw_tables()["shared"]
    names = table["names"]
    return Shared(
        prefixes=tuple(tuple(table["styles"][style]["prefixes"]) for style in STYLES),
        closers={split: tuple(tuple(table["styles"][style]["closers"][split]) for style in STYLES) for split in SPLITS},
        passing={split: tuple(table["passing"][split]) for split in SPLITS},
        templates={split: {form: tuple(table["instructions"][split][form]) for form in FORMS} for split in SPLITS},
        broad=tuple(table["instructions"]["broad"]),
        names=tuple(first + last for first in names["first"] for last in names["last"]),
    )


@cache
def domains() -> tuple[Domain, ...]:
    """Compile all domains, in alphabetical order."""
    tables = raw_tables()
    return tuple(_domain(table, tables["shared"]) for name, table in tables.items() if name != "shared")


def _domain(table: dict[str, Any], common: dict[str, Any]) -> Domain:
    contractions = [common["styles"][style]["contractions"] for style in STYLES]
    splits = ("evaluation",) if table["held_out"] else SPLITS
    attributes = [{**common["attributes"].get(entry.get("like"), {}), **entry} for entry in table["attributes"]]

    def styled(texts: list[str]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(_contracted(text, short) for text in texts) for short in contractions)

    def stated(split: str) -> tuple[tuple[tuple[tuple[str, ...], ...], ...], ...]:
        levels = [_levels(attribute, split) for attribute in attributes]
        return tuple(
            tuple(tuple(styled(texts)[style] for texts in by_level) for by_level in levels)
            for style in range(len(STYLES))
        )

    return Domain(
        name=table["name"],
        noun=table["noun"],
        held_out=table["held_out"],
        modified=table["modified"],
        mentioned=table["mentioned"],
        topics=tuple(TopicTexts(name, *texts) for name, texts in table["topics"].items()),
        requests={split: tuple(texts) for split, texts in table["requests"].items()},
        intros={split: styled(table["intros"][split]) for split in splits},
        attributes=tuple(attribute["name"] for attribute in attributes),
        clauses={split: stated(split) for split in splits},
        distractors={split: styled(table["distractors"][split]) for split in splits},
        asks=tuple(_asks(place, attribute, splits) for place, attribute in enumerate(attributes)),
    )


def _contracted(text: str, short: dict[str, str]) -> str:
    """Shorten what opens a clause or follows its subject; `poisonous part of it is` must stay as it is."""
    for long_form, short_form in short.items():
        if text.startswith(long_form) or not long_form.startswith(("it ", "there ", "you ", "we ")):
            text = text.replace(long_form, short_form, 1)
    return text


def _levels(attribute: dict[str, Any], split: str) -> list[list[str]]:
    """Return the clauses of each level: as listed, or written out for each number."""
    if "numbers" not in attribute:
        return [list(clauses[split]) for clauses in attribute["values"].values()]
    return [
        [
            clause.format(n=number, w="" if number > 999 else in_words(number))
            for clause in attribute[f"says_{_band(number, attribute['thresholds'][split])}"][split]
        ]
        for number in attribute["numbers"][split]
    ]


def _band(number: int, thresholds: list[int]) -> str:
    """Return whether a number lies below all thresholds, above all, or among them."""
    assert number not in thresholds, f"{number} is a threshold"
    if number < min(thresholds):
        return "low"
    return "high" if number > max(thresholds) else "middle"


def _asks(place: int, attribute: dict[str, Any], splits: tuple[str, ...]) -> tuple[Constraint, ...]:
    """Return the constraints of an attribute: one for each threshold, or as listed."""
    if "numbers" in attribute:
        return tuple(
            _constraint(
                place,
                attribute,
                "above",
                "below",
                attribute["usual"],
                _above(attribute, nth, splits),
                {
                    side: {
                        split: tuple(
                            text.format(n=attribute["thresholds"][split][nth]) for text in attribute[side][split]
                        )
                        for split in splits
                    }
                    for side in ("above", "below")
                },
            )
            for nth in range(len(attribute["thresholds"]["evaluation"]))
        )
    return tuple(
        _constraint(
            place,
            attribute,
            "inside",
            "outside",
            ask["usual"],
            tuple(value in ask["values"] for value in attribute["values"]),
            {side: {split: tuple(ask[side][split]) for split in splits} for side in ("inside", "outside")},
        )
        for ask in attribute["asks"]
    )


def _above(attribute: dict[str, Any], nth: int, splits: tuple[str, ...]) -> tuple[bool, ...]:
    """Return which numbers lie above the n-th threshold: the same places in every split."""
    sides = {
        tuple(number > attribute["thresholds"][split][nth] for number in attribute["numbers"][split])
        for split in splits
    }
    assert len(sides) == 1, f"{attribute['name']}: numbers of the splits differ in their sides of threshold {nth}"
    return sides.pop()


def _constraint(
    place: int,
    attribute: dict[str, Any],
    first: str,
    second: str,
    usual: str,
    in_first: tuple[bool, ...],
    sides: dict[str, dict[str, tuple[str, ...]]],
) -> Constraint:
    """Return a constraint with two named sides; `in_first` says which levels lie on the first."""
    holds = in_first if usual == first else tuple(not flag for flag in in_first)
    complement = second if usual == first else first
    return Constraint(place, attribute["kind"], attribute["label"], holds, sides[usual], sides[complement])
