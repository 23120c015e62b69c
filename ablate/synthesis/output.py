"""What a step leaves in its folder, written from the cache alone, so that the same command writes the same again.

rows.jsonl        rows that `source=synthesized` reads       (steps that write)
items.jsonl       items of an audit                          (reverse; judge, unless it was given them)
judgments.jsonl   what the judge said of them                (judge)
gold.jsonl        what is true of the items                  (reverse, with a simulated writer)
answers.jsonl     every request that was made, its raw answer and what that came to
summary.json      counts, tokens, cost, what is perhaps paid; written last
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from ablate.records import SourceRow
from ablate.store.drafts import draft_of, sweep
from ablate.synthesis.answers import OUTCOMES, Answer
from ablate.synthesis.asking import Asking, Known, Stop, Task
from ablate.synthesis.items import item_of, judgment
from ablate.synthesis.judging import judgment_of, tasks_of
from ablate.synthesis.rows import listed
from ablate.synthesis.simulated import Writer
from ablate.synthesis.steps import Step, Work, Written

ROWS, ITEMS, JUDGMENTS, GOLD = "rows.jsonl", "items.jsonl", "judgments.jsonl", "gold.jsonl"
ANSWERS, SUMMARY = "answers.jsonl", "summary.json"
CACHE = "synthesis.sqlite"
"""The file of all answers, in the caches of a folder of results."""


class Files:
    """Files of JSON lines in a folder, all of which get their names at the end."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder, self._names = folder, tuple(names)
        self._stack = ExitStack()
        self._open: dict[str, tuple[Path, TextIO]] = {}

    def __enter__(self) -> Files:
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep([self._folder])
        for name in self._names:
            draft = draft_of(self._folder / name)
            self._stack.callback(draft.unlink, missing_ok=True)
            self._open[name] = draft, self._stack.enter_context(open(draft, "w", encoding="utf-8"))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            if kind is None:
                for name, (draft, file) in self._open.items():
                    file.flush()
                    os.fsync(file.fileno())
                    os.replace(draft, self._folder / name)

    def line(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a line of a file."""
        self._open[name][1].write(json.dumps(values, ensure_ascii=False) + "\n")


class Report:
    """What a step came to, in counts."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.passed_over: Counter[str] = Counter()
        self.unanswered = 0
        self.written = 0

    def count(self, known: Known | None) -> None:
        """Count what is known of a task."""
        if known is None:
            self.unanswered += 1
            return
        self.outcomes[known.answer.outcome] += 1
        if known.answer.outcome in ("malformed", "rejected"):
            self.reasons[f"{known.answer.outcome}: {known.answer.reason}"] += 1

    def summary(self, asking: Asking, step: str, stop: Stop | None, cache: Any) -> dict[str, Any]:
        """Return everything as plain values; tokens and cost are those of the campaign over all its commands."""
        charge, states = cache.charged(asking.campaign), cache.states(asking.campaign)
        return {
            "step": step,
            "model": asking.engine.model,
            "endpoint": asking.engine.place,
            "prompt": asking.prompt.digest,
            "written": self.written,
            "answers": {name: self.outcomes[name] for name in OUTCOMES},
            "not_answered": self.unanswered,
            "given_up": dict(asking.given_up.most_common()),
            "passed_over": dict(self.passed_over.most_common()),
            "reasons": dict(self.reasons.most_common(20)),
            "requests": dict(sorted(states.items())),
            "perhaps_paid": [{"request": key, "sent": sent} for key, sent in cache.perhaps_paid(asking.campaign)],
            "tokens_in": charge.tokens_in,
            "tokens_out": charge.tokens_out,
            "cost": charge.cost,
            "stopped": None if stop is None else stop.reason,
        }


def record_of(written: Written, texts: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as it is written; `texts`: doc_id -> passage."""
    row = written.row
    passages = [{"docid": doc_id, "title": texts[doc_id].title, "text": texts[doc_id].text} for doc_id in listed(row)]
    return {**dataclasses.asdict(row), "passages": passages, "provenance": dict(provenance)}


def said_of(asking: Asking, known: Known, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a text is from: model, endpoint, prompt, request and time, and what else is to be said."""
    attempt = known.attempt
    return {
        "model": attempt.model,
        "endpoint": asking.engine.place,
        "prompt": attempt.prompt,
        "request": attempt.request[:16],
        "time": attempt.settled,
        **more,
    }


def write_rows(
    files: Files,
    report: Report,
    asking: Asking,
    step: Step,
    works: Iterable[tuple[Work, str, Task | None, Mapping[str, Any]]],
) -> None:
    """Write rows, items, gold and answers of a step; `works` yields row, why it is passed over, task, provenance."""
    for work, lacking, task, before in works:
        if task is None:
            report.passed_over[lacking] += 1
            files.line(ROWS, record_of(Written(work.row), work.texts, before))
            continue
        known = asking.known(task)
        report.count(known)
        _write_answers(files, asking, task)
        if known is None:
            continue
        provenance = {name: said for name, said in before.items() if name not in _changed(step, work.row)}
        written = Written(step.emptied(work.row))
        if known.answer.outcome == "usable":
            written = step.write(work, known.answer.values, task)
            report.written += 1
            provenance |= {name: said_of(asking, known, more) for name, more in written.fields.items()}
            if step.name == "reverse":
                plain = {doc_id: passage.text for doc_id, passage in work.texts.items()}
                files.line(ITEMS, item_of(written.row, plain, known.answer.values.lever))
                if isinstance(asking.engine, Writer):
                    truth = asking.engine.truth(task, known.ask)
                    files.line(GOLD, judgment(work.row.row_id, asking.engine.model, "gold", truth))
        texts = {**work.texts, **{passage.doc_id: passage for passage in written.passages}}
        files.line(ROWS, record_of(written, texts, provenance))


def _changed(step: Step, row: SourceRow) -> set[str]:
    """Return the fields that a step empties of a row."""
    before, after = dataclasses.asdict(row), dataclasses.asdict(step.emptied(row))
    return {name for name, value in before.items() if after[name] != value}


def write_judgments(
    files: Files,
    report: Report,
    asking: Asking,
    items: Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]],
    *,
    with_items: bool,
) -> None:
    """Write judgments and answers, and the items themselves where they were made of rows."""
    for item, known_truth in items:
        if with_items:
            files.line(ITEMS, item)
        answers: dict[str, Answer | None] = {}
        for question, task in tasks_of(item, known_truth):
            known = asking.known(task)
            report.count(known)
            _write_answers(files, asking, task)
            answers[question] = None if known is None else known.answer
        made = judgment_of(item["id"], asking.engine.model, answers)
        if made is not None:
            report.written += 1
            files.line(JUDGMENTS, made)


def _write_answers(files: Files, asking: Asking, task: Task) -> None:
    for ask, attempt, answer in asking.attempts(task):
        files.line(
            ANSWERS,
            {
                "task": task.id,
                "ask": ask,
                "attempt": attempt.number,
                "state": attempt.state,
                "outcome": None if answer is None else answer.outcome,
                "reason": "" if answer is None else answer.reason,
                "content": "" if answer is None else answer.content,
                "raw": attempt.raw,
                "status": attempt.status,
                "model": attempt.model,
                "prompt": attempt.prompt,
                "request": attempt.request,
                "sent": attempt.sent,
                "settled": attempt.settled,
                "tokens_in": attempt.charge.tokens_in,
                "tokens_out": attempt.charge.tokens_out,
                "cost": attempt.charge.cost,
            },
        )
