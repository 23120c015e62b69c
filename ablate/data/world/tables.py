"""The tables of the generated world: reads the YAML files of this package and compiles them for fast writing.

A domain has topics, requests (wordings of queries), attributes with levels (values) and the clauses that state them,
and asks: what an instruction can demand of an attribute, in words for both sides. Numbers, months and years are
levels too: their clauses are written out here, so that writing a document only picks ready strings.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

GENERATOR_VERSION = 1
"""Raise whenever a change of the code changes a byte of what is generated; tables are hashed by themselves."""

STYLES = ("a", "b")
"""Habits of writing that state nothing: a is chatty, b is ornate."""

FORMS = ("short", "long", "persona", "negated")
FORM_TURNS = ("short", "persona", "long", "short", "negated", "persona")
"""How often each form is used: these take turns in evaluation, and are drawn with equal chances in training."""
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


class Domain(NamedTuple):
    """One subject area, compiled."""

    name: str
    noun: str
    held_out: bool
    modified: str
    """How a topic is narrowed by an invented name, for large worlds; empty when held out."""
    topics: tuple[str, ...]
    requests: dict[str, tuple[str, ...]]
    intros: tuple[tuple[str, ...], ...]
    """By style."""
    attributes: tuple[str, ...]
    clauses: tuple[tuple[tuple[tuple[str, ...], ...], ...], ...]
    """By style, attribute and level: the ways of stating it, lower case and without full stop."""
    distractors: tuple[tuple[str, ...], ...]
    """By style."""
    asks: tuple[tuple[Constraint, ...], ...]
    """By attribute."""


class Shared(NamedTuple):
    """What all domains share, compiled."""

    prefixes: tuple[tuple[str, ...], ...]
    """By style."""
    closers: tuple[tuple[str, ...], ...]
    """By style."""
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
        closers=tuple(tuple(table["styles"][style]["closers"]) for style in STYLES),
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

    def styled(texts: list[str]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(_contracted(text, short) for text in texts) for short in contractions)

    levels = [_levels(attribute, common) for attribute in table["attributes"]]
    return Domain(
        name=table["name"],
        noun=table["noun"],
        held_out=table["held_out"],
        modified=table.get("modified", ""),
        topics=tuple(table["topics"]),
        requests={split: tuple(texts) for split, texts in table["requests"].items()},
        intros=styled(table["intros"]),
        attributes=tuple(attribute["name"] for attribute in table["attributes"]),
        clauses=tuple(
            tuple(tuple(styled(texts)[style] for texts in by_level) for by_level in levels)
            for style in range(len(STYLES))
        ),
        distractors=styled(table["distractors"]),
        asks=tuple(_asks(place, attribute) for place, attribute in enumerate(table["attributes"])),
    )


def _contracted(text: str, short: dict[str, str]) -> str:
    """Shorten what opens a clause or follows its subject; `poisonous part of it is` must stay as it is."""
    for long_form, short_form in short.items():
        if text.startswith(long_form) or not long_form.startswith(("it ", "there ", "you ", "we ")):
            text = text.replace(long_form, short_form, 1)
    return text


def _levels(attribute: dict[str, Any], common: dict[str, Any]) -> list[list[str]]:
    """Return the clauses of each level: as listed, or written out for each number."""
    if "numbers" not in attribute:
        return [list(clauses) for clauses in attribute["values"].values()]
    facts = common["years"] if attribute.get("facts") == "years" else {}
    names = common["months"] if attribute.get("names") == "months" else None
    return [
        [
            clause.format(
                n=names[number - 1] if names else number,
                w="" if number > 999 else in_words(number),
                f=facts.get(number, ""),
            )
            for clause in attribute["says"] + attribute[f"says_{_end(attribute, number)}"]
        ]
        for number in attribute["numbers"]
    ]


def _end(attribute: dict[str, Any], number: int) -> str:
    """Return whether a number lies below all thresholds (low) or above all (high)."""
    if number < min(attribute["thresholds"]):
        return "low"
    assert number > max(attribute["thresholds"]), f"{attribute['name']}: {number} lies among the thresholds"
    return "high"


def _asks(place: int, attribute: dict[str, Any]) -> tuple[Constraint, ...]:
    constraints = []
    if "numbers" in attribute:
        for threshold in attribute["thresholds"]:
            above = tuple(number > threshold for number in attribute["numbers"])
            name = _month(threshold) if attribute.get("names") == "months" else threshold
            sides = {
                side: {split: tuple(text.format(n=name) for text in texts) for split, texts in attribute[side].items()}
                for side in ("above", "below")
            }
            usual = attribute["usual"]
            constraints.append(
                Constraint(
                    place,
                    attribute["kind"],
                    attribute["label"],
                    above if usual == "above" else tuple(not flag for flag in above),
                    sides[usual],
                    sides["below" if usual == "above" else "above"],
                )
            )
        return tuple(constraints)
    for ask in attribute["asks"]:
        inside = tuple(value in ask["values"] for value in attribute["values"])
        sides = {side: {split: tuple(texts) for split, texts in ask[side].items()} for side in ("inside", "outside")}
        usual = ask["usual"]
        constraints.append(
            Constraint(
                place,
                attribute["kind"],
                attribute["label"],
                inside if usual == "inside" else tuple(not flag for flag in inside),
                sides[usual],
                sides["outside" if usual == "inside" else "inside"],
            )
        )
    return tuple(constraints)


def _month(number: int) -> str:
    return str(raw_tables()["shared"]["months"][number - 1])
