"""Atomic judgments of training pairs, as files of them are read and written: judgments.jsonl, one a line.

An item is a pair in both of its views: under an instruction passage a is labelled relevant and b not, under the
complement the labels are swapped. A judgment answers four questions about it; the inversion is right when, under the
complement, a is not relevant and b is. Docs: docs/audit.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ablate.reading import json_objects, shown
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


class Read(NamedTuple):
    """A judgment and where it stands, for messages."""

    where: str
    judgment: Judgment


def judgments_in(paths: Iterable[str | Path]) -> Iterator[Read]:
    """Yield the judgments of JSON lines files.

    Raises UserError with file and line for what is no judgment, for an unknown key, and where a rater judges an item
    twice.
    """
    seen: set[tuple[str, str, str]] = set()
    for path in paths:
        for where, values in json_objects(path, required=("item_id", "rater", "kind", *QUESTIONS)):
            judgment = _judgment(values, where)
            key = (judgment.kind, judgment.rater, judgment.item_id)
            if key in seen:
                raise UserError(
                    f"{where}: the {judgment.kind} {judgment.rater!r} judged item {judgment.item_id!r} before; keep one"
                )
            seen.add(key)
            yield Read(where, judgment)


def _judgment(values: dict[str, Any], where: str) -> Judgment:
    for name in ("item_id", "rater"):
        check_name(values[name], name, where)
    if values["kind"] not in KINDS:
        raise UserError(f"{where}: kind is {shown(values['kind'])}; allowed: {', '.join(KINDS)}")
    for name in QUESTIONS:
        if values[name] is not None and not isinstance(values[name], bool):
            raise UserError(f"{where}: {name} is {shown(values[name])}; allowed: true, false, null")
    return Judgment(**values)


def check_name(value: object, name: str, where: str) -> None:
    """Raise UserError for what names no item or rater: no text, an empty one, or one with blanks at its ends."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: {name} is {shown(value)}; it must be a text that is not empty")
    if value != value.strip():
        raise UserError(f"{where}: {name} is {shown(value)}, with white space at an end; cut it off")


def judgment_line(judgment: Judgment) -> str:
    """Return a judgment as a line of a file of judgments."""
    return json.dumps(dataclasses.asdict(judgment), ensure_ascii=False) + "\n"
