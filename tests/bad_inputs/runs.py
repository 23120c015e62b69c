"""Command lines of `ablate.run` that make no sense."""

from __future__ import annotations

import json

from bad_inputs import BadInput, written
from bad_inputs.audits import JUDGMENT


def _run(name: str, words: str, *overrides: str) -> BadInput:
    return BadInput(name, ("ablate.run", "tracker=none", "runtime.results={dir}/results", *overrides), (words,))


BAD_INPUTS = [
    _run(
        "a unit that is no unit",
        "budget.unit='toknes' is not known; allowed: groups, pairs, tokens, queries",
        "budget.unit=toknes",
    ),
    _run(
        "a cap on negatives that there are not",
        "train.most_negatives=4 is about in-batch negatives, and train.in_batch_negatives=false leaves them out",
        "train.most_negatives=4",
        "train.in_batch_negatives=false",
    ),
    _run(
        "labels of negatives that there are not",
        "set it to true, or train.same_query=mask",
        "train.same_query=use",
        "train.in_batch_negatives=false",
    ),
    _run(
        "a cap below what a row lists",
        "train.most_negatives=2 is less than budget.negatives_per_group=3, which a row always keeps; raise it to 3",
        "train.most_negatives=2",
        "budget.negatives_per_group=3",
    ),
    _run(
        "rows chosen by judgments that are not named",
        "audit.take=clean chooses rows by their judgments, and audit.judgments is null; name the file",
        "+experiment=audited_clean",
    ),
    _run("judgments that are not there", "/nowhere.jsonl: no such file", "audit.judgments=/nowhere.jsonl"),
    _run("a way to take rows that is none", "audit.take='good' is not known; allowed: all, clean", "audit.take=good"),
    _run(
        "rows chosen for an arm that trains nothing",
        "ranker='bm25' trains nothing, so audit.take=clean would mean nothing",
        "+experiment=bm25",
        "audit.take=clean",
    ),
    *(
        BadInput(
            f"a judgment that is none: {words}",
            ("ablate.run", "tracker=none", "runtime.results={dir}/results", "audit.judgments={dir}/said.jsonl"),
            ("said.jsonl", words),
            written("said.jsonl", "".join(f"{json.dumps(said)}\n" for said in judgments)),
        )
        for words, judgments in (
            ("holds no judgment; name a file", []),
            ("line 1: kind is missing; an object here has item_id, rater, kind", [{"item_id": "r", "rater": "m"}]),
            ('line 1: item_id is ""; it must be a text that is not empty', [{**JUDGMENT, "item_id": ""}]),
            ('line 1: item_id is " "; it must be a text', [{**JUDGMENT, "item_id": " "}]),
            ('line 1: item_id is "i1 ", with white space at an end', [{**JUDGMENT, "item_id": "i1 "}]),
            ('line 1: rater is "ann\\t", with white space at an end', [{**JUDGMENT, "rater": "ann\t"}]),
            ("line 1: 'sure' is not known; allowed: item_id", [{**JUDGMENT, "sure": True}]),
            ('line 1: kind is "llm"; allowed: gold, judge, human', [{**JUDGMENT, "kind": "llm"}]),
            ('line 1: a_under_complement is "no"; allowed: true', [{**JUDGMENT, "a_under_complement": "no"}]),
            ("line 2: the human 'ann' judged item 'i1' before; keep one", [JUDGMENT, JUDGMENT]),
        )
    ),
    _run("a folder that is not there", "/nowhere", "source=beir", "source.path=/nowhere"),
]
