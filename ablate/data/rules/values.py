"""What a rule makes of a document: its field, the measured value, the bound chosen for a query, satisfied or not.

A field that is absent, null, a blank text or not a finite number is missing. Every other value is of one kind (number,
text, truth value, list, object), and a rule takes fields of one kind only.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate import reading
from ablate.recipe.grammar import Pick, spelled, stands_for
from ablate.recipe.rules import AtLeast, Between, Constraint, Contains, Equals, Present, Rule, StartsWith, bounds
from ablate.records import Passage, UserError

Value = bool | int | float | str | tuple[str, ...]
"""What a constraint is put to: tuples are lists of entries as they are written in instructions."""

NUMBER, TEXT, TRUTH, LIST, OBJECT = "number", "text", "truth value", "list", "object"


def read_values(
    corpus: Path, documents: Mapping[str, Passage], rules: Sequence[Rule], wanted: Collection[str]
) -> list[dict[str, Value]]:
    """Return, for each rule, document -> measured value, for the wanted documents that have the field.

    The fields of all documents are checked. Raises UserError, with the field and the first document, where one is
    missing and the rule does not exclude such documents, or where it is not of the kind that the rule takes.
    """
    checks = [_Check(rule, f"source.rules[{index}] ({rule.name})", corpus) for index, rule in enumerate(rules)]
    values: list[dict[str, Value]] = [{} for _ in rules]
    for doc_id, metadata in read_metadata(corpus):
        for rule, check, rule_values in zip(rules, checks, values, strict=True):
            raw = field_of(rule.field, documents[doc_id], metadata)
            if check.add(doc_id, raw, metadata) and doc_id in wanted:
                rule_values[doc_id] = measured(rule, raw)
    for check in checks:
        check.finish()
    return values


def read_metadata(corpus: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield document ids and metadata of a corpus file that has been checked line by line before."""
    for number, line in reading.lines(corpus):
        where = reading.at(corpus, number)
        record = reading.json_object(line, where)
        metadata = record.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise UserError(f"{where}: `metadata` is {metadata!r}; it must be an object")
        yield str(record["_id"]), metadata or {}


def field_of(path: str, passage: Passage, metadata: Mapping[str, Any]) -> Any:
    """Return the field of a document at a dotted path; None when it is missing."""
    value: Any = metadata
    if path in ("title", "text"):
        value = passage.title if path == "title" else passage.text
    else:
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return value.strip() or None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def measured(rule: Rule, raw: Any) -> Value:
    """Return the measured value of a field that is of the kind that the rule takes."""
    value: Value = shown(raw) if isinstance(raw, str) else raw
    if rule.measure == "present":
        return raw is not None and not (isinstance(raw, (list, dict)) and not raw)
    if rule.measure in ("length", "items"):
        return len(raw if rule.measure == "items" else raw.split())
    if rule.measure == "decade":
        return int(raw // 10) * 10
    if rule.measure == "first_letter":
        text = shown(raw)
        letter = next((letter for letter in text if letter.isalnum()), text[0])
        return letter.upper()
    return tuple(shown(entry) for entry in raw) if isinstance(raw, list) else value


def shown(value: bool | int | float | str) -> str:
    """Return a value as it is written in an instruction; texts with single blanks and composed letters (NFC)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return unicodedata.normalize("NFC", " ".join(str(value).split()))


def normal(text: str) -> str:
    """Return what spellings of one value have in common: no case, single blanks, and one form of each letter (NFKC)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def _kind(raw: Any) -> str:
    if isinstance(raw, bool):
        return TRUTH
    if isinstance(raw, (int, float)):
        return NUMBER
    return TEXT if isinstance(raw, str) else LIST if isinstance(raw, list) else OBJECT


def _kinds_taken(rule: Rule) -> tuple[str, ...]:
    if isinstance(rule.constraint, Contains) and rule.constraint.value is None:
        return (LIST,)
    by_measure = {"length": (TEXT,), "first_letter": (TEXT,), "items": (LIST,), "decade": (NUMBER,)}
    by_constraint = {"equals": (NUMBER, TEXT, TRUTH), "contains": (LIST, TEXT), "starts_with": (TEXT,)}
    if rule.measure == "value":
        return by_constraint.get(rule.constraint.kind, (NUMBER,))
    return by_measure.get(rule.measure, (NUMBER, TEXT, TRUTH, LIST, OBJECT))


class _Check:
    """Counts what a rule finds in the documents."""

    def __init__(self, rule: Rule, where: str, corpus: Path) -> None:
        self._rule, self._where, self._corpus = rule, where, corpus
        self._taken = _kinds_taken(rule)
        self._scalars = rule.measure == "value"
        self._num: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._num_missing, self._first_missing = 0, ""
        self._fields: dict[str, None] = {}

    def add(self, doc_id: str, raw: Any, metadata: Mapping[str, Any]) -> bool:
        """Count a document and return whether it can be measured."""
        if self._rule.measure == "present":
            return True
        if raw is None:
            self._num_missing += 1
            self._first_missing = self._first_missing or doc_id
            self._fields.update(dict.fromkeys(metadata) if len(self._fields) < 20 else {})
            return False
        kind = _kind(raw)
        if kind == LIST and self._scalars and any(_kind(entry) in (LIST, OBJECT) for entry in raw):
            kind = "list of objects"
        self._num[kind] += 1
        self._first.setdefault(kind, doc_id)
        return kind in self._taken

    def finish(self) -> None:
        """Raise UserError for what the rule cannot take."""
        rule, total = self._rule, self._num.total() + self._num_missing
        field = f"{self._where}: field {rule.field!r}"
        if self._num_missing and not self._num:
            known = ", ".join(["title", "text", *self._fields])
            raise UserError(f"{field} is in none of the {total} documents of {self._corpus}; known fields: {known}")
        if self._num_missing and rule.missing == "error":
            raise UserError(
                f"{field} is missing in {self._num_missing} of {total} documents of {self._corpus} (first: "
                f"{self._first_missing!r}); fill it in, or set missing: exclude, and they neither satisfy nor violate"
            )
        if len(self._num) > 1 or not set(self._num) <= set(self._taken):
            kinds = ", ".join(f"{kind} in {num} (first: {self._first[kind]!r})" for kind, num in self._num.items())
            raise UserError(
                f"{field} is {kinds} of {total} documents of {self._corpus}; measure {rule.measure} with "
                f"{rule.constraint.kind} takes one kind: {' or '.join(self._taken)}; convert the field, or choose "
                "another measure or constraint"
            )


# --- bounds -----------------------------------------------------------------------------------------------------------


def distance(constraint: Constraint, value: Any) -> float | None:
    """Return how far a measured number is from the nearest bound, None where a constraint has no distance."""
    if isinstance(constraint, AtLeast):
        assert constraint.value is not None
        return abs(float(value) - constraint.value)
    if isinstance(constraint, Between):
        assert constraint.low is not None and constraint.high is not None
        return min(abs(float(value) - constraint.low), abs(float(value) - constraint.high))
    return None


def settle(constraint: Constraint, values: Sequence[Any], minimum: int) -> Constraint | None:
    """Return the constraint with every bound chosen for the measured values of a query's relevant documents.

    None: no bound leaves `minimum` documents on both sides, as far as the choice looks at them.
    """
    if isinstance(constraint, AtLeast) and constraint.value is None:
        threshold = _even_threshold(values)
        return None if threshold is None else dataclasses.replace(constraint, value=threshold)
    if isinstance(constraint, Between) and None in (constraint.low, constraint.high):
        ordered, quarter = sorted(values), len(values) // 4
        if not ordered:
            return None
        low = ordered[quarter] if constraint.low is None else constraint.low
        high = ordered[-quarter - 1] if constraint.high is None else constraint.high
        return dataclasses.replace(constraint, low=low, high=high)
    if isinstance(constraint, (Equals, Contains, StartsWith)) and constraint.value is None:
        common = _common(constraint, values, minimum)
        return None if common is None else dataclasses.replace(constraint, value=common)
    return constraint


def _even_threshold(values: Sequence[float]) -> float | None:
    """Return the value v that splits values most evenly into below v and at least v, the lowest of several."""
    ordered = sorted(values)
    best, best_distance = None, math.inf
    for value in sorted(set(ordered))[1:]:
        distance = abs(len(ordered) - 2 * bisect.bisect_left(ordered, value))
        if distance < best_distance:
            best, best_distance = value, distance
    return best


def _common(constraint: Equals | Contains | StartsWith, values: Sequence[Any], minimum: int) -> str | None:
    """Return the most common option that leaves `minimum` values on both sides, the first in order of several."""
    options: Counter[str] = Counter()
    for value in values:
        if isinstance(constraint, Contains):
            spellings = {normal(entry): entry for entry in sorted(value, reverse=True)}
            options.update(spellings.values())
        elif isinstance(constraint, StartsWith):
            options.update([value[0].upper()] if value[0].isalnum() else [])
        else:
            options.update([shown(value)])
    for option, _ in sorted(options.items(), key=lambda item: (-item[1], item[0])):
        num = sum(satisfied(dataclasses.replace(constraint, value=option), value) for value in values)
        if minimum <= num <= len(values) - minimum:
            return option
    return None


def satisfied(constraint: Constraint, value: Any) -> bool:
    """Return whether a measured value satisfies a constraint whose bounds are chosen."""
    if isinstance(constraint, AtLeast):
        assert constraint.value is not None
        return bool(value >= constraint.value)
    if isinstance(constraint, Between):
        assert constraint.low is not None and constraint.high is not None
        return bool(constraint.low <= value <= constraint.high)
    if isinstance(constraint, Present):
        return bool(value)
    assert constraint.value is not None
    if isinstance(constraint, Equals):
        return shown(value) == shown(constraint.value)
    wanted = normal(constraint.value)
    if isinstance(constraint, StartsWith):
        ends_a_word = constraint.value[-1].isspace()
        return normal(value).startswith(f"{wanted} " if ends_a_word else wanted)
    if isinstance(value, tuple):
        return wanted in map(normal, value)
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", normal(value)) is not None


def worded(template: str, constraint: Constraint, pick: Pick) -> str:
    """Return an instruction from its template, a constraint whose bounds are chosen, and a choice from its brackets."""
    return spelled(template, pick).format(**_limits(constraint))


def is_worded(text: str, template: str, constraint: Constraint) -> bool:
    """Return whether a text is an instruction that `worded` makes with some choice from the brackets of a template."""
    limits = _limits(constraint)
    return stands_for(template, text, lambda option: option.format(**limits))


def _limits(constraint: Constraint) -> dict[str, str]:
    """Return the bounds of a constraint as they are written in an instruction, by name."""
    return {name: shown(value) for name, value in bounds(constraint).items() if value is not None}
