"""The step `judge`: four questions about an item, each a request of its own, come to one judgment of an audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ablate.data.judgments import QUESTIONS
from ablate.records import UserError
from ablate.synthesis.answers import FINAL, Answer, JudgeReply
from ablate.synthesis.asking import Task
from ablate.synthesis.items import judgment


def tasks_of(item: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[tuple[str, Task]]:
    """Yield (question, task) of an item; `known` is what a simulated judge is told of the truth."""
    for question in QUESTIONS:
        passage, _, instruction = question.partition("_under_")
        given = {
            "query": item["query"],
            "instruction": item[instruction],
            "passage": item[f"passage_{passage}"],
        }
        told = {**known, "question": question}
        yield question, Task(f"{item['id']}/{question}", given, told, _no_fault)


def truth_of(item: Mapping[str, Any], gold: Mapping[str, Mapping[str, bool]], place: float) -> dict[str, Any]:
    """Return what a simulated judge is told of an item; raises UserError for one without gold.

    `place` runs from 0 at the first item to 1 at the last.
    """
    if item["id"] not in gold:
        raise UserError(f"item {item['id']!r} has no gold; give a --gold file with a judgment of every item")
    return {"gold": dict(gold[item["id"]]), "constraint": item["constraint_type"], "place": place}


def is_none(values: JudgeReply) -> bool:
    """Return whether the model said that it cannot be judged."""
    return values.relevant is None


def judgment_of(item_id: str, rater: str, answers: Mapping[str, Answer | None]) -> dict[str, Any] | None:
    """Return the judgment that four answers come to, None where one of them is missing or malformed.

    What the model refused or could not judge is null.
    """
    said: dict[str, bool | None] = {}
    for question, answer in answers.items():
        if answer is None or answer.outcome not in FINAL:
            return None
        said[question] = answer.values.relevant if answer.outcome == "usable" else None
    return judgment(item_id, rater, "judge", said)


def _no_fault(values: Any) -> str:
    return ""


NoFault = Callable[[Any], str]
