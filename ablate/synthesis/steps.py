"""The steps that write: which rows they take, what they ask, what stands against an answer, and the row that it makes.

    instructions            a query without an instruction gets one, of a drawn length and style
    instruction_negatives   a row with an instruction gets a passage that follows it and several that break it
    reverse                 a row with an instruction negative gets a complement under which the pair swaps labels
    paraphrase              a row with an instruction gets it in other words

A step fills what is empty; what a row has already is left alone unless it is to be replaced. The step `judge` is in
`judging`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ablate.data.published.synthesized import WRITTEN
from ablate.randomness import choose
from ablate.recipe.values import digest
from ablate.records import Passage, SourceRow
from ablate.synthesis.answers import InstructionReply, NegativesReply, ParaphraseReply, Reply, ReverseReply
from ablate.synthesis.asking import Task
from ablate.synthesis.checks import fault_of_instruction, fault_of_passage, words
from ablate.synthesis.prompts import Prompt

MOST_WORDS = {"short": 40, "medium": 100, "long": 200, "very_long": 400}
"""Words from which an instruction is too long for its length; lengths of other names have the last one."""
MOST_SHOWN = 3
"""Further passages that a prompt shows."""


@dataclass(frozen=True)
class Work:
    """A row with its texts, and a row of another query, about something else, where there is one."""

    row: SourceRow
    texts: Mapping[str, Passage]
    """doc_id -> passage, of all that the row names."""
    other: SourceRow | None

    def text(self, doc_id: str) -> str:
        """Return the text of a passage."""
        return self.texts[doc_id].text


@dataclass(frozen=True)
class Written:
    """A row with what was written for it."""

    row: SourceRow
    passages: tuple[Passage, ...] = ()
    """New ones."""
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Field that was written -> what is to be said of it beside model, prompt and time."""


class Step(Protocol):
    """A step that writes."""

    name: str
    schema: type[Reply]
    needed: tuple[str, ...]
    """Values that its prompt must have."""

    def lacking(self, row: SourceRow, replace: bool) -> str:
        """Return why a row is passed over, empty where it is not."""

    def task(self, work: Work, prompt: Prompt, seed: int) -> Task:
        """Return what is asked of a row."""

    def is_none(self, values: Any) -> bool:
        """Return whether the model said that it cannot be done."""

    def emptied(self, row: SourceRow) -> SourceRow:
        """Return a row without what the step writes, and without what that would make wrong."""

    def write(self, work: Work, values: Any, task: Task) -> Written:
        """Return the row with what was written."""


class Instructions:
    """An instruction for a query, its length and style drawn by the query's id (Promptriever's crossing)."""

    name = "instructions"
    schema: type[Reply] = InstructionReply
    needed: tuple[str, ...] = ("lengths", "styles")

    def lacking(self, row: SourceRow, replace: bool) -> str:
        """Return why a row is passed over."""
        return "has an instruction" if row.instruction and not replace else ""

    def task(self, work: Work, prompt: Prompt, seed: int) -> Task:
        """Return what is asked of a row."""
        row = work.row
        lengths, styles = prompt.values["lengths"], prompt.values["styles"]
        length = choose(sorted(lengths), seed, "length", row.row_id)
        style = choose(sorted(styles), seed, "style", row.row_id)
        shown = [work.text(doc_id) for doc_id in row.hard_negatives[:MOST_SHOWN]]
        positive = work.text(row.positives[0])
        most = MOST_WORDS.get(length, MOST_WORDS["very_long"])

        def fault(values: InstructionReply) -> str:
            return fault_of_instruction(values.instruction or "", [positive, *shown], [row.query], most)

        given = {"query": row.query, "positive": positive, "others": shown}
        asked = {"length": lengths[length], "style": styles[style]}
        known = {"texts": [row.instruction], "passage": positive, "length": length, "style": style}
        return Task(row.row_id, {**given, **asked}, known, fault)

    def is_none(self, values: InstructionReply) -> bool:
        """Return whether there is none."""
        return values.instruction is None

    def emptied(self, row: SourceRow) -> SourceRow:
        """Return a row without an instruction: whatever belonged to the old one goes."""
        return dataclasses.replace(
            row,
            instruction="",
            reversed_instruction="",
            paraphrase="",
            instruction_negatives=(),
            still_negative=(),
            answers=_united(row.answers, row.positives, row.instruction_negatives),
            asks_usual=None,
            restyled=(),
        )

    def write(self, work: Work, values: InstructionReply, task: Task) -> Written:
        """Return the row under its new instruction."""
        assert values.instruction is not None
        row = dataclasses.replace(self.emptied(work.row), instruction=values.instruction.strip())
        return Written(row, fields={"instruction": {"length": task.known["length"], "style": task.known["style"]}})


class InstructionNegatives:
    """A passage that follows the instruction, and several that answer the query and break it."""

    name = "instruction_negatives"
    schema: type[Reply] = NegativesReply
    needed: tuple[str, ...] = ("failures", "count", "words")

    def lacking(self, row: SourceRow, replace: bool) -> str:
        """Return why a row is passed over."""
        if not row.instruction:
            return "has no instruction"
        return "has instruction negatives" if row.instruction_negatives and not replace else ""

    def task(self, work: Work, prompt: Prompt, seed: int) -> Task:
        """Return what is asked of a row."""
        row, failures = work.row, prompt.values["failures"]
        count, most = prompt.values["count"], 3 * prompt.values["words"]
        positive = work.text(row.positives[0])

        def fault(values: NegativesReply) -> str:
            if not 1 <= len(values.negatives) <= count:
                return f"it has {len(values.negatives)} negatives instead of 1 to {count}"
            seen = [positive]
            for text in (values.positive or "", *(negative.passage for negative in values.negatives)):
                if against := fault_of_passage(text, seen, most):
                    return against
                seen.append(text)
            unknown = [negative.failure for negative in values.negatives if negative.failure not in failures]
            return f"{unknown[0]!r:.40} is no way to fail; known: {', '.join(failures)}" if unknown else ""

        given = {"query": row.query, "instruction": row.instruction, "positive": positive}
        there = [work.text(doc_id) for doc_id in row.instruction_negatives[:count]]
        known = {"positive": positive, "negatives": there, "failures": sorted(failures)}
        return Task(row.row_id, given, known, fault)

    def is_none(self, values: NegativesReply) -> bool:
        """Return whether there is none."""
        return values.positive is None

    def emptied(self, row: SourceRow) -> SourceRow:
        """Return a row without instruction negatives; a complement belonged to one of them and goes."""
        return dataclasses.replace(
            row,
            instruction_negatives=(),
            reversed_instruction="",
            still_negative=(),
            answers=_united(row.answers, row.positives, row.instruction_negatives),
            restyled=(),
        )

    def write(self, work: Work, values: NegativesReply, task: Task) -> Written:
        """Return the row with its new passages."""
        positive = _passage(values.positive or "")
        negatives = {_passage(negative.passage): negative.failure for negative in values.negatives}
        ids = tuple(passage.doc_id for passage in negatives)
        row = self.emptied(work.row)
        row = dataclasses.replace(
            row,
            positives=(*row.positives, positive.doc_id),
            instruction_negatives=ids,
            answers=_united(row.answers, (positive.doc_id,), ids),
        )
        failures = {passage.doc_id: failure for passage, failure in negatives.items()}
        fields: dict[str, dict[str, Any]] = {"positives": {"written": positive.doc_id}}
        return Written(row, (positive, *negatives), fields | {"instruction_negatives": {"failures": failures}})


class Reverse:
    """A complement: the positive and the first instruction negative swap labels, the other ones stay negatives."""

    name = "reverse"
    schema: type[Reply] = ReverseReply
    needed: tuple[str, ...] = ("levers", "words")

    def lacking(self, row: SourceRow, replace: bool) -> str:
        """Return why a row is passed over."""
        if not row.instruction:
            return "has no instruction"
        if not row.instruction_negatives:
            return "has no instruction negative"
        return "has a complement" if row.reversed_instruction and not replace else ""

    def task(self, work: Work, prompt: Prompt, seed: int) -> Task:
        """Return what is asked of a row."""
        row, levers = work.row, prompt.values["levers"]
        positive, partner = work.text(row.positives[0]), work.text(row.instruction_negatives[0])
        shown = [work.text(doc_id) for doc_id in row.instruction_negatives[1 : 1 + MOST_SHOWN]]
        most = prompt.values["words"]

        def fault(values: ReverseReply) -> str:
            if values.lever not in levers:
                return f"{values.lever!r:.40} is no lever; known: {', '.join(levers)}"
            passages = [positive, partner, *shown]
            return fault_of_instruction(values.instruction or "", passages, [row.instruction, row.query], most)

        given = {"query": row.query, "instruction": row.instruction, "positive": positive, "partner": partner}
        known = {
            "instruction": row.instruction,
            "complement": row.reversed_instruction,
            "paraphrase": row.paraphrase,
            "other_query": work.other.query if work.other is not None else "",
            "passage": partner,
            "lever": choose(sorted(levers), seed, "lever", row.row_id),
        }
        return Task(row.row_id, {**given, "others": shown}, known, fault)

    def is_none(self, values: ReverseReply) -> bool:
        """Return whether there is none."""
        return values.instruction is None

    def emptied(self, row: SourceRow) -> SourceRow:
        """Return a row without a complement."""
        return dataclasses.replace(row, reversed_instruction="", still_negative=())

    def write(self, work: Work, values: ReverseReply, task: Task) -> Written:
        """Return the row with its complement; what the prompt did not show is not known to stay negative."""
        row = dataclasses.replace(
            work.row,
            reversed_instruction=(values.instruction or "").strip(),
            still_negative=work.row.instruction_negatives[1 : 1 + MOST_SHOWN],
        )
        return Written(row, fields={"reversed_instruction": {"lever": values.lever}})


class Paraphrase:
    """The instruction in other words, with the same labels."""

    name = "paraphrase"
    schema: type[Reply] = ParaphraseReply
    needed: tuple[str, ...] = ()

    def lacking(self, row: SourceRow, replace: bool) -> str:
        """Return why a row is passed over."""
        if not row.instruction:
            return "has no instruction"
        return "has a paraphrase" if row.paraphrase and not replace else ""

    def task(self, work: Work, prompt: Prompt, seed: int) -> Task:
        """Return what is asked of a row."""
        row = work.row
        most = 2 * len(words(row.instruction)) + 10

        def fault(values: ParaphraseReply) -> str:
            return fault_of_instruction(values.paraphrase or "", (), [row.instruction], most)

        passage = work.text(row.positives[0])
        known = {"texts": [row.paraphrase], "passage": passage}
        return Task(row.row_id, {"query": row.query, "instruction": row.instruction}, known, fault)

    def is_none(self, values: ParaphraseReply) -> bool:
        """Return whether there is none."""
        return values.paraphrase is None

    def emptied(self, row: SourceRow) -> SourceRow:
        """Return a row without a paraphrase."""
        return dataclasses.replace(row, paraphrase="")

    def write(self, work: Work, values: ParaphraseReply, task: Task) -> Written:
        """Return the row with its paraphrase."""
        row = dataclasses.replace(work.row, paraphrase=(values.paraphrase or "").strip())
        return Written(row, fields={"paraphrase": {}})


_ALL: tuple[Step, ...] = (Instructions(), InstructionNegatives(), Reverse(), Paraphrase())
STEPS: Mapping[str, Step] = {step.name: step for step in _ALL}
"""Name -> step, of those that write."""


def _passage(text: str) -> Passage:
    return Passage(f"{WRITTEN}{digest(text.strip())[:12]}", text.strip())


def _united(*several: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(doc_id for ids in several for doc_id in ids))
