"""What is audited and what was said of it: items and atomic judgments, read from JSON lines and checked.

An item is a training pair in both of its views: under `instruction` passage a is labelled relevant and b not, under
`complement` the labels are swapped. A judgment answers four questions about it; the inversion is right when, under the
complement, a is not relevant and b is.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ablate.reading import at, json_object, lines
from ablate.records import UserError

Kind = Literal["gold", "judge", "human"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ADJUDICATED = "adjudicated"
"""Rater of the human judgments that settle items on which raters differ: they stand in place of those of the raters."""

QUESTIONS: Mapping[str, bool] = {
    "a_under_instruction": True,
    "b_under_instruction": False,
    "a_under_complement": False,
    "b_under_complement": True,
}
"""Is this passage relevant under this instruction? -> the answer that the labels claim."""

SWAP = ("a_under_complement", "b_under_complement")
"""The two questions that the inversion added."""

CLASSES: Mapping[tuple[bool, bool], str] = {
    (False, True): "right",
    (True, False): "back",
    (True, True): "both",
    (False, False): "neither",
}
"""Answers to `SWAP` -> class. `back`: the labels should have stayed; `both` and `neither` carry no signal."""
UNJUDGEABLE = "unjudgeable"


@dataclass(frozen=True)
class Item:
    """A training pair with its instruction and the complement that swaps its labels."""

    id: str
    query_id: str
    """Source query: items of one query are a cluster."""
    query: str
    passage_a: str
    passage_b: str
    instruction: str
    complement: str
    constraint_type: str
    stratum: str
    """Stratum of the sampling design; the constraint's type where the file names none."""
    known_bad: bool
    """Made wrong on purpose, to find raters who wave through: never part of the estimate."""


@dataclass(frozen=True)
class Judgment:
    """What one rater said of one item; None: this cannot be judged."""

    item_id: str
    rater: str
    kind: Kind
    a_under_instruction: bool | None
    b_under_instruction: bool | None
    a_under_complement: bool | None
    b_under_complement: bool | None

    @property
    def is_adjudicated(self) -> bool:
        """Return whether this settles what human raters said differently."""
        return self.kind == "human" and self.rater == ADJUDICATED

    @property
    def swap_class(self) -> str:
        """Return the class of the inversion: right, back, both, neither or unjudgeable."""
        a, b = self.a_under_complement, self.b_under_complement
        return UNJUDGEABLE if a is None or b is None else CLASSES[a, b]

    def agrees(self, question: str) -> bool:
        """Return whether the answer to a question is the one that the labels claim; None is not."""
        return getattr(self, question) is QUESTIONS[question]


_ITEM_TEXTS = ("id", "query_id", "query", "passage_a", "passage_b", "instruction", "complement", "constraint_type")


def read_items(path: str | Path) -> list[Item]:
    """Return the items of a JSON lines file; raises UserError with file and line for what is no item."""
    items: dict[str, Item] = {}
    for where, values in _lines(path, required=_ITEM_TEXTS, optional=("stratum", "known_bad")):
        for name in (*_ITEM_TEXTS, *(("stratum",) if "stratum" in values else ())):
            if not isinstance(values[name], str) or not values[name].strip():
                raise UserError(f"{where}: {name} is {_shown(values[name])}; it must be a text that is not empty")
        known_bad = values.get("known_bad", False)
        if not isinstance(known_bad, bool):
            raise UserError(f"{where}: known_bad is {_shown(known_bad)}; allowed: true, false")
        texts = {name: values[name] for name in _ITEM_TEXTS}
        item = Item(**texts, stratum=values.get("stratum", values["constraint_type"]), known_bad=known_bad)
        if item.id in items:
            raise UserError(f"{where}: the id {item.id!r} stands on an earlier line too; every item needs its own")
        items[item.id] = item
    if not any(not item.known_bad for item in items.values()):
        raise UserError(f"{path} has no item to audit; one JSON object a line with {', '.join(_ITEM_TEXTS)}")
    return list(items.values())


def read_judgments(paths: Sequence[str | Path], items: Sequence[Item]) -> list[Judgment]:
    """Return the judgments of JSON lines files, each rater's at most once per item.

    Raises UserError with file and line for what is no judgment and for an item that is unknown.
    """
    known = {item.id for item in items}
    judgments: dict[tuple[str, str, str], Judgment] = {}
    for path in paths:
        for where, values in _lines(path, required=("item_id", "rater", "kind", *QUESTIONS)):
            for name in ("item_id", "rater"):
                if not isinstance(values[name], str) or not values[name].strip():
                    raise UserError(f"{where}: {name} is {_shown(values[name])}; it must be a text that is not empty")
            if values["kind"] not in KINDS:
                raise UserError(f"{where}: kind is {_shown(values['kind'])}; allowed: {', '.join(KINDS)}")
            for name in QUESTIONS:
                if values[name] is not None and not isinstance(values[name], bool):
                    raise UserError(f"{where}: {name} is {_shown(values[name])}; allowed: true, false, null")
            judgment = Judgment(**values)
            if judgment.item_id not in known:
                raise UserError(f"{where}: item_id {judgment.item_id!r} is none of the {len(known)} items")
            key = (judgment.kind, judgment.rater, judgment.item_id)
            if judgments.setdefault(key, judgment) is not judgment:
                raise UserError(
                    f"{where}: the {judgment.kind} {judgment.rater!r} judged item {judgment.item_id!r} before; keep one"
                )
    return list(judgments.values())


def judgment_line(judgment: Judgment) -> str:
    """Return a judgment as a line of a file of judgments."""
    return json.dumps(dataclasses.asdict(judgment), ensure_ascii=False) + "\n"


def _lines(
    path: str | Path, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file:line, object) of a JSON lines file; raises UserError for what is none and for unknown keys."""
    for number, text in lines(path):
        where = at(path, number)
        values = json_object(text, where)
        missing = [name for name in required if name not in values]
        if missing:
            raise UserError(f"{where}: {missing[0]} is missing; an object here has {', '.join(required)}")
        unknown = sorted(set(values) - {*required, *optional})
        if unknown:
            raise UserError(f"{where}: {unknown[0]!r} is not known; allowed: {', '.join((*required, *optional))}")
        yield where, values


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
