"""A writer and a judge with known error rates, over rows whose source knows the truth: what an audit is held against.

The writer's classes of a complement, and what is true under each:

    right       a is excluded, b is wanted             the complement that the source knows
    back        a is wanted, b is excluded             the instruction in other words
    both        both are wanted                        either of the two conditions will do
    neither     both are excluded                      both conditions at once
    off_topic   both are excluded                      texts about another query only
    leak, quoted  as right; but they speak of passages, or hold words of one: the checks must reject them

none, refusal and malformed are answers without a text. Other steps copy what the source has, with the same rates for
all that is not about the swap. Every draw is keyed by seed, task and ask, so that a run can be told again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.data.judgments import QUESTIONS
from ablate.randomness import choose, uniform
from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.synthesis.answers import Reply, envelope
from ablate.synthesis.asking import Response, Task
from ablate.synthesis.prompts import Prompt, read_yaml

TRUTH: Mapping[str, tuple[bool, bool]] = {
    "right": (False, True),
    "back": (True, False),
    "both": (True, True),
    "neither": (False, False),
    "off_topic": (False, False),
    "leak": (False, True),
    "quoted": (False, True),
}
"""Class of a written complement -> (is a relevant under it, is b)."""
ABOUT_THE_SWAP = ("back", "both", "neither", "off_topic")
WITHOUT_TEXT = ("none", "refusal", "malformed")
ERRORS = (*ABOUT_THE_SWAP, "leak", "quoted", *WITHOUT_TEXT)
_RATES = ("sensitivity", "specificity")


@dataclass(frozen=True)
class Character:
    """A writer or a judge of the file of rates."""

    name: str
    seed: int
    values: Mapping[str, Any]


def read_character(path: Path, kind: str, name: str) -> Character:
    """Return the entry `name` of `kind` (writers, judges); raises UserError for none, and for rates that are none."""
    values = read_yaml(path)
    unknown = sorted(set(values) - {"seed", "writers", "judges"})
    if unknown:
        raise UserError(f"{path}: {unknown[0]!r} is not known; allowed: seed, writers, judges")
    seed, known = values.get("seed", 0), values.get(kind)
    if type(seed) is not int:
        raise UserError(f"{path}: seed={seed!r} must be a whole number")
    if not isinstance(known, dict) or not isinstance(known.get(name), dict):
        names = ", ".join(map(str, known)) if isinstance(known, dict) else "none"
        raise UserError(f"--model {name!r} is none of the {kind} of {path}: {names}")
    where = f"{path}: {kind}.{name}"
    if kind == "writers":
        _check(where, known[name], ERRORS, ("levers",))
    else:
        _check(where, known[name], (*_RATES, "blames"), ("levers", "end", "hides"))
        if "hides" in known[name]:
            if known[name]["hides"] is not True:
                raise UserError(f"{where}.hides={known[name]['hides']!r}; allowed: true, or leave it out")
        elif any(rate not in known[name] for rate in _RATES):
            raise UserError(f"{where} needs sensitivity and specificity, or hides: true")
        _check(f"{where}.end", known[name].get("end", {}), _RATES, ())
    for lever, rates in (known[name].get("levers") or {}).items():
        _check(f"{where}.levers.{lever}", rates, ERRORS if kind == "writers" else _RATES, ())
    return Character(name, seed, known[name])


def _check(where: str, rates: Any, names: tuple[str, ...], more: tuple[str, ...]) -> None:
    if not isinstance(rates, dict):
        raise UserError(f"{where} is {rates!r}; it must hold rates: {', '.join(names)}")
    for name, value in rates.items():
        if name not in (*names, *more):
            raise UserError(f"{where}: {name!r} is not known; allowed: {', '.join((*names, *more))}")
        if name in names and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
            raise UserError(f"{where}.{name}={value!r} must be a share, from 0 to 1")
    total = sum(value for name, value in rates.items() if name in names)
    if names == ERRORS and total > 1:
        raise UserError(f"{where}: the rates sum to {total:g}; they must not exceed 1")


class _Simulated:
    """What writer and judge share: a request is the task with what is known of it."""

    def __init__(self, character: Character, kind: str) -> None:
        self.model = f"simulated-{kind}-{character.name}"
        self.place = f"simulated:{digest({'seed': character.seed, 'values': dict(character.values)})}"
        self._seed, self._values = character.seed, character.values

    def body(self, messages: list[dict[str, str]], schema: type[Reply], prompt: Prompt, task: Task) -> dict[str, Any]:
        """Return the request."""
        return {"model": self.model, "schema": schema.__name__, "task": task.id, "known": dict(task.known)}

    async def close(self) -> None:
        """Nothing is held."""


class Writer(_Simulated):
    """Writes texts of which a known share is wrong, in known ways."""

    def __init__(self, character: Character) -> None:
        super().__init__(character, "writer")

    def class_of(self, task_id: str, lever: str, ask: int) -> str:
        """Return the class of an answer: `right`, or one of the errors."""
        rates = {**self._values, **self._values.get("levers", {}).get(lever, {})}
        draw = uniform(self._seed, "writer", task_id, ask)
        for name in ERRORS:
            draw -= rates.get(name, 0.0)
            if draw < 0:
                return name
        return "right"

    def truth(self, task: Task, ask: int) -> dict[str, bool]:
        """Return the four true answers about the complement of a task of `reverse`."""
        a, b = TRUTH[self.class_of(task.id, task.known["lever"], ask)]
        said = {"a_under_instruction": True, "b_under_instruction": False}
        return {**said, "a_under_complement": a, "b_under_complement": b}

    def body(self, messages: list[dict[str, str]], schema: type[Reply], prompt: Prompt, task: Task) -> dict[str, Any]:
        """Return the request; raises UserError where the source does not know the truth."""
        body = super().body(messages, schema, prompt, task)
        chosen = self.class_of(task.id, task.known.get("lever", ""), 0)
        _VALUES[schema.__name__](task.known, chosen, task.id, self._seed)
        return body

    async def send(self, body: dict[str, Any], ask: int) -> Response:
        """Return an answer of the drawn class."""
        known, schema = body["known"], body["schema"]
        chosen = self.class_of(body["task"], known.get("lever", ""), ask)
        tokens = len(json.dumps(known)) // 4, 40
        if chosen == "refusal":
            return Response(200, envelope(None, tokens, refusal="I cannot help with that."))
        if chosen == "malformed":
            return Response(200, envelope('{"instruction": "Show me', tokens))
        values = _VALUES[schema](known, chosen, body["task"], self._seed)
        return Response(200, envelope(json.dumps(values, ensure_ascii=False), tokens))


def _complement(known: Mapping[str, Any], chosen: str, task: str, seed: int) -> dict[str, Any]:
    first, second = known["instruction"], known["complement"]
    if not second or not known["paraphrase"]:
        raise _unknown(task, "a complement and a paraphrase")
    if chosen == "off_topic" and not known["other_query"]:
        raise _unknown(task, "a row of another query beside it")
    text = {
        "back": known["paraphrase"],
        "both": f"Either of two things will do. The one: {first} The other: {second}",
        "neither": f"Both of two things must hold at once. The one: {first} The other: {second}",
        "off_topic": f"Only what is about this counts, whatever else it says: {known['other_query']}",
    }.get(chosen, second)
    return {"lever": known["lever"], "instruction": _marred(text, chosen, known["passage"])}


def _copied(name: str) -> Any:
    def values(known: Mapping[str, Any], chosen: str, task: str, seed: int) -> dict[str, Any]:
        (text,) = known["texts"]
        if not text:
            raise _unknown(task, f"its {name}")
        return {name: _marred(text, chosen, known["passage"])}

    return values


def _negatives(known: Mapping[str, Any], chosen: str, task: str, seed: int) -> dict[str, Any]:
    if not known["negatives"]:
        raise _unknown(task, "its instruction negatives")
    named = [
        {"failure": choose(known["failures"], seed, "failure", task, place), "passage": text}
        for place, text in enumerate(known["negatives"])
    ]
    positive = f"{known['positive']} It was brought up to date not long ago."
    return {"positive": None if chosen == "none" else positive, "negatives": named}


def _marred(text: str, chosen: str, passage: str) -> str | None:
    """Return a text with what the checks must find, or None for an answer that says that it cannot be done."""
    if chosen == "leak":
        return f"{text} So it is passage B and not passage A."
    if chosen == "quoted":
        return f"{text} It says: {' '.join(passage.split()[:12])}"
    return None if chosen == "none" else text


_VALUES: Mapping[str, Any] = {
    "ReverseReply": _complement,
    "InstructionReply": _copied("instruction"),
    "ParaphraseReply": _copied("paraphrase"),
    "NegativesReply": _negatives,
}


def _unknown(task: str, what: str) -> UserError:
    return UserError(
        f"row {task!r}: a simulated writer copies what the source knows, and it does not know {what}; "
        f"take source=world (with --replace)"
    )


class Judge(_Simulated):
    """Answers with a known sensitivity and specificity, or hides what is wrong."""

    def __init__(self, character: Character) -> None:
        super().__init__(character, "judge")

    async def send(self, body: dict[str, Any], ask: int) -> Response:
        """Return an answer to one question about an item."""
        said = self._says(body["known"], body["task"])
        values = {"reason": "simulated", "relevant": said}
        return Response(200, envelope(json.dumps(values), (100, 10)))

    def _says(self, known: Mapping[str, Any], task: str) -> bool:
        question, gold = known["question"], known["gold"]
        if self._values.get("hides"):
            is_right: bool = gold == dict(QUESTIONS)
            item = task.rpartition("/")[0]
            is_blamed = is_right and uniform(self._seed, "blames", item) < self._values.get("blames", 0.0)
            return QUESTIONS[question] != (is_blamed and question == "b_under_complement")
        rate = self.rate("sensitivity" if gold[question] else "specificity", known["constraint"], known["place"])
        is_true: bool = gold[question]
        return is_true == (uniform(self._seed, "judge", task) < rate)

    def rate(self, name: str, constraint: str, place: float) -> float:
        """Return the sensitivity or specificity for a kind of constraint at a place of the file, from 0 to 1."""
        first = self._values.get("levers", {}).get(constraint, {}).get(name, self._values[name])
        last = self._values.get("end", {}).get(name, first)
        return float(first + place * (last - first))
