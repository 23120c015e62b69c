"""How constraints on metadata are declared: a rule names a field, what is measured of it, a constraint and wordings.

    name: cast_size                     direction of its queries: cast_size, and not-cast_size for the complement
    field: cast                         dotted path in a document's metadata, or `title` or `text`
    measure: items                      a number, from the list of people
    constraint: {kind: at_least}        with the threshold that splits the relevant documents of a query most evenly
    broad: Any film is relevant.
    wordings:
      - satisfying: Only films with {value} or more people in the cast are relevant.
        violating: Only films with fewer than {value} people in the cast are relevant.

Plain values only; `ablate.data.rules` applies them to a corpus.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import Literal, get_args

from ablate.recipe.grammar import choices_of, clauses, num_choices, parts_of, share_words, texts_of, words_of
from ablate.records import UserError

Measure = Literal["value", "length", "items", "first_letter", "decade", "present"]
"""value: the field itself; length: words of a text; items: entries of a list; first_letter: of a text, as a capital;
decade: 1990 for a year 1990 to 1999; present: whether the field is there and not empty."""

MEASURES: tuple[str, ...] = get_args(Measure)

RESERVED = ("plain", "og", "both", "all")
"""Directions that evaluation sets and scores have anyway."""

MOST_TEXTS = 100_000
"""Texts that one side of a wording may stand for: those of training are all held against those that are held out."""


@dataclass(frozen=True, kw_only=True)
class AtLeast:
    """A number at or above a threshold."""

    kind: Literal["at_least"]
    value: float | None = None
    """null: for each query the value that splits its relevant documents most evenly, the lower one of two."""


@dataclass(frozen=True, kw_only=True)
class Between:
    """A number within a closed interval."""

    kind: Literal["between"]
    low: float | None = None
    """null: for each query the value at the lower quartile of its relevant documents."""
    high: float | None = None
    """null: the value at the upper quartile."""


@dataclass(frozen=True, kw_only=True)
class Equals:
    """A number, text or truth value that is exactly this one."""

    kind: Literal["equals"]
    value: str | None = None
    """Written as in an instruction (`1990`, `true`); null: for each query the most common value among its relevant
    documents that leaves enough of them on the other side, the first in order of several."""


@dataclass(frozen=True, kw_only=True)
class Contains:
    """A list that has this entry, or a text that has these words, in any case."""

    kind: Literal["contains"]
    value: str | None = None
    """null (lists only): for each query the most common entry that leaves enough documents on the other side."""


@dataclass(frozen=True, kw_only=True)
class StartsWith:
    """A text that begins like this, in any case."""

    kind: Literal["starts_with"]
    value: str | None = None
    """null: for each query the most common first letter that leaves enough documents on the other side."""


@dataclass(frozen=True, kw_only=True)
class Present:
    """A field that is there and not empty; goes with the measure of the same name."""

    kind: Literal["present"]


Constraint = AtLeast | Between | Equals | Contains | StartsWith | Present

_MEASURES_OF: dict[type, tuple[str, ...]] = {
    AtLeast: ("value", "length", "items", "decade"),
    Between: ("value", "length", "items", "decade"),
    Equals: ("value", "length", "items", "first_letter", "decade"),
    Contains: ("value",),
    StartsWith: ("value",),
    Present: ("present",),
}


@dataclass(frozen=True, kw_only=True)
class Wording:
    """An instruction and its complement in the same words; `{value}`, or `{low}` and `{high}`, stand for the bound.

    `[Only|Just]` stands for either (`ablate.recipe.grammar`). Both sides have the same brackets with as many options,
    and one choice is made for both.
    """

    satisfying: str
    violating: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One constraint on one field of the documents."""

    name: str
    field: str
    """Dotted path in a document's metadata (`year`, `release.country`), or `title` or `text`."""
    measure: Measure
    constraint: Constraint
    broad: str
    """The instruction before it is narrowed: every document that answers the query is relevant."""
    wordings: tuple[Wording, ...]
    """Of training rows, and of evaluation queries where `evaluation_wordings` is null; two or more give paraphrases."""
    evaluation_wordings: tuple[Wording, ...] | None = None
    """Of evaluation queries, when they shall not be those of training."""
    missing: Literal["error", "exclude"] = "error"
    """exclude: documents without the field neither satisfy nor violate the rule."""


def bounds(constraint: Constraint) -> dict[str, float | str | None]:
    """Return what wordings of a constraint may use in braces, by name; None: chosen for each query."""
    if isinstance(constraint, Present):
        return {}
    if isinstance(constraint, Between):
        return {"low": constraint.low, "high": constraint.high}
    return {"value": constraint.value}


def rules_used(rules: tuple[Rule, ...], only: tuple[str, ...] | None) -> tuple[Rule, ...]:
    """Return the rules of these names, None for all; raises UserError for a name that no rule has."""
    names = [rule.name for rule in rules]
    for name in only or ():
        if name not in names:
            raise UserError(f"source.only has {name!r}, which no rule is called; rules: {', '.join(names) or 'none'}")
    return rules if only is None else tuple(rule for rule in rules if rule.name in only)


def check_rules(rules: tuple[Rule, ...], path: str = "source.rules") -> None:
    """Raise UserError, with the dotted path, when rules contradict themselves or each other."""
    if not rules:
        raise UserError(f"{path} is empty; declare at least one rule")
    for index, rule in enumerate(rules):
        _check_rule(rule, f"{path}[{index}]")
        if [other.name for other in rules].index(rule.name) != index:
            raise UserError(f"{path}[{index}].name={rule.name!r} is there twice; give each rule its own name")
        if rule.name.startswith("not-") or rule.name in RESERVED:
            raise UserError(
                f"{path}[{index}].name={rule.name!r} is the direction of something else; choose a name that is none of "
                f"{', '.join(RESERVED)} and does not begin with not-"
            )


def _check_rule(rule: Rule, path: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", rule.name):
        raise UserError(f"{path}.name={rule.name!r} goes into ids; use letters, digits, `_`, `-` and `.` only")
    if not rule.field or not all(rule.field.split(".")):
        raise UserError(
            f"{path}.field={rule.field!r} is no dotted path; write title, text, or a path like release.year"
        )
    if rule.measure not in MEASURES:
        raise UserError(f"{path}.measure={rule.measure!r} is not known; allowed: {', '.join(MEASURES)}")
    constraint = rule.constraint
    fitting = _MEASURES_OF[type(constraint)]
    if rule.measure not in fitting:
        raise UserError(
            f"{path}: constraint {constraint.kind} does not go with measure {rule.measure}; it takes "
            f"{', '.join(fitting)}"
        )
    if isinstance(constraint, (Equals, Contains, StartsWith)) and constraint.value is not None:
        if not constraint.value.strip():
            raise UserError(
                f"{path}.constraint.value={constraint.value!r} is blank; name a value, or null to choose one"
            )
    if isinstance(constraint, Between) and constraint.low is not None and constraint.high is not None:
        if constraint.low > constraint.high:
            raise UserError(
                f"{path}.constraint: low={constraint.low:g} is above high={constraint.high:g}; swap the two"
            )
    if rule.missing not in ("error", "exclude"):
        raise UserError(f"{path}.missing={rule.missing!r} is not known; allowed: error, exclude")
    _check_template(rule.broad, (), (), f"{path}.broad")
    limits = bounds(constraint)
    chosen = tuple(name for name, value in limits.items() if value is None)
    for name in ("wordings", "evaluation_wordings"):
        wordings: tuple[Wording, ...] | None = getattr(rule, name)
        if wordings is not None and not wordings:
            raise UserError(f"{path}.{name} is empty; write at least one instruction and its complement")
        for number, wording in enumerate(wordings or ()):
            where = f"{path}.{name}[{number}]"
            for side in ("satisfying", "violating"):
                _check_template(getattr(wording, side), tuple(limits), chosen, f"{where}.{side}")
                if num_choices(getattr(wording, side)) > MOST_TEXTS:
                    raise UserError(
                        f"{where}.{side}: its brackets stand for {num_choices(getattr(wording, side)):,} texts, and at "
                        f"most {MOST_TEXTS:,} are allowed; use fewer brackets or options"
                    )
            if wording.satisfying == wording.violating:
                raise UserError(f"{where}: satisfying and violating are the same text; they must be complements")
            sizes = [
                [len(part) for part in choices_of(text, where)] for text in (wording.satisfying, wording.violating)
            ]
            if sizes[0] != sizes[1]:
                raise UserError(
                    f"{where}: satisfying has brackets of {_counts(sizes[0])} options and violating of "
                    f"{_counts(sizes[1])}; both sides must have the same, because one choice is made for both"
                )
    _check_held_out(rule, path)


def _counts(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes)) or "no"


def _check_held_out(rule: Rule, path: str) -> None:
    """Raise UserError for a held-out wording with a clause or a whole text of training, or a clause of the other side.

    A clause that stands on both sides (`leave out films from {value} on` beside `films from {value} on`) makes the
    words of a held-out instruction point the wrong way. Only clauses in brackets can be told from the rest of a text;
    whole texts are compared by their words, whatever of them is in brackets.
    """
    if rule.evaluation_wordings is None:
        return
    trained_texts = {
        words_of(text)
        for wording in rule.wordings
        for side in (wording.satisfying, wording.violating)
        for text in texts_of(side)
    }
    for number, wording in enumerate(rule.evaluation_wordings):
        sides = {"satisfying": wording.satisfying, "violating": wording.violating}
        for side, other in (("satisfying", "violating"), ("violating", "satisfying")):
            where = f"{path}.evaluation_wordings[{number}].{side}"
            own = clauses(sides[side], sides[other])
            seen = [
                clause
                for trained in rule.wordings
                for pair in ((trained.satisfying, trained.violating), (trained.violating, trained.satisfying))
                for clause in clauses(*pair)
            ]
            opposite = [
                clause
                for held_out in rule.evaluation_wordings
                for clause in clauses(getattr(held_out, other), getattr(held_out, side))
            ]
            for clause in own:
                for shared, of in ((seen, "training has it"), (opposite, "the opposite side has it")):
                    twins = [known for known in shared if share_words(clause, known)]
                    if twins:
                        raise UserError(
                            f"{where}: the clause {clause!r} is not held out, {of} (as {twins[0]!r}); write another one"
                        )
            for text in texts_of(sides[side]):
                if words_of(text) in trained_texts:
                    raise UserError(f"{where}: {text!r} is not held out, training has it; write another one")


def _check_template(text: str, allowed: tuple[str, ...], needed: tuple[str, ...], where: str) -> None:
    if not text.strip():
        raise UserError(f"{where} is blank; write an instruction")
    check_texts(text, allowed, needed, where, "which is chosen for each query")


def check_texts(text: str, allowed: tuple[str, ...], needed: tuple[str, ...], where: str, why: str) -> None:
    """Raise UserError unless every text that a text stands for names what is needed, and only what is allowed."""
    named = [[_names(option, text, where) for option in part] for part in parts_of(text, where)]
    for name in dict.fromkeys(name for part in named for names in part for name in names):
        if name not in allowed:
            known = " and ".join(f"{{{placeholder}}}" for placeholder in allowed) or "none"
            raise UserError(f"{where}={text!r} has {{{name}}}, which is not known here; allowed in braces: {known}")
    for name in needed:
        if not any(all(name in names for names in part) for part in named):
            raise UserError(f"{where}={text!r} does not name {{{name}}}, {why}; write it in")


def _names(option: str, text: str, where: str) -> list[str]:
    """Return the names in braces of one option of a text; a format or a conversion is part of the name."""
    try:
        parts = [part for part in string.Formatter().parse(option) if part[1] is not None]
    except ValueError as error:
        raise UserError(f"{where}={text!r} has a broken brace ({error}); double a brace that is meant as one") from None
    return [
        f"{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}"
        for _, name, spec, conversion in parts
    ]
