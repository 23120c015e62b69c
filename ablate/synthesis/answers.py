"""What a raw answer comes to: usable, none, refusal, malformed or rejected; never an exception.

A raw answer is the body of a chat completion as it came. Nothing of it is trusted: not that it is JSON, not that it has
choices, not that its content keeps the schema that was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

Outcome = Literal["usable", "none", "refusal", "malformed", "rejected"]
"""none: the model said that it cannot be done; rejected: of the right form, and a check of ours stands against it."""
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FINAL = ("usable", "none", "refusal")
"""Outcomes after which the same is not asked again."""


class Reply(BaseModel):
    """An answer's schema: every field is there, of its very type, and no other."""

    model_config = ConfigDict(extra="forbid", strict=True)


class InstructionReply(Reply):
    """Of `instructions`."""

    instruction: str | None


class Negative(Reply):
    """A passage that answers the query and breaks the instruction."""

    failure: str
    passage: str


class NegativesReply(Reply):
    """Of `instruction_negatives`."""

    positive: str | None
    negatives: list[Negative]


class ReverseReply(Reply):
    """Of `reverse`."""

    lever: str
    instruction: str | None


class ParaphraseReply(Reply):
    """Of `paraphrase`."""

    paraphrase: str | None


class JudgeReply(Reply):
    """Of `judge`."""

    reason: str
    relevant: bool | None


@dataclass(frozen=True)
class Answer:
    """A raw answer as it was understood."""

    outcome: Outcome
    values: Any = None
    """An instance of the schema for usable, none and rejected."""
    reason: str = ""
    content: str = ""
    """What the model said, as far as there is such a thing."""


_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"\A```[a-zA-Z]*\n(.*)\n```\Z", re.DOTALL)


def understand(raw: str, schema: type[Reply], is_none: Callable[[Any], bool], fault: Callable[[Any], str]) -> Answer:
    """Return what a raw answer comes to; `fault` names what stands against values of the right form."""
    message, reason = _message(raw)
    if message is None:
        return Answer("malformed", reason=reason)
    content = message.get("content")
    said = content if isinstance(content, str) else ""
    if message.get("refusal"):
        return Answer("refusal", reason=str(message["refusal"])[:200], content=said)
    if reason == "content_filter":
        return Answer("refusal", reason="content_filter", content=said)
    if reason == "length":
        return Answer("malformed", reason="cut at the limit of tokens", content=said)
    if not said.strip():
        return Answer("malformed", reason="no content", content=said)
    text = _THOUGHT.sub("", said).strip()
    fenced = _FENCED.match(text)
    try:
        values = schema.model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return Answer("malformed", reason=f"{place}: {first['msg']}" if place else first["msg"], content=said)
    if is_none(values):
        return Answer("none", values, content=said)
    against = fault(values)
    return Answer("rejected" if against else "usable", values, against, said)


def _message(raw: str) -> tuple[dict[str, Any] | None, str]:
    """Return (message, why it finished), or (None, what is wrong with the body)."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        kind = "HTML" if raw.lstrip()[:1] == "<" else "no JSON"
        return None, f"the body is {kind}" if raw.strip() else "the body is empty"
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None, "the body has no choices"
    message = choices[0].get("message")
    if not isinstance(message, dict):
        return None, "the first choice has no message"
    return message, str(choices[0].get("finish_reason"))


def tokens_of(raw: str) -> tuple[int, int] | None:
    """Return (tokens of the request, tokens of the answer) as the body says it, None where it does not."""
    try:
        usage = json.loads(raw)["usage"]
        counts = usage["prompt_tokens"], usage["completion_tokens"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return counts if all(type(count) is int and count >= 0 for count in counts) else None


def envelope(content: str | None, tokens: tuple[int, int], *, refusal: str | None = None, cut: bool = False) -> str:
    """Return a body as an endpoint would send it, for engines that are none."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": "length" if cut else "stop"}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}, ensure_ascii=False)
