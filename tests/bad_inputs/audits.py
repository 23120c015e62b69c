"""Items, judgments and sheets of an audit that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bad_inputs import BadInput

ITEM = {
    "id": "i1",
    "query_id": "q1",
    "query": "films",
    "passage_a": "old",
    "passage_b": "new",
    "instruction": "only old",
    "complement": "only new",
    "constraint_type": "date",
}
JUDGMENT = {
    "item_id": "i1",
    "rater": "ann",
    "kind": "human",
    "a_under_instruction": True,
    "b_under_instruction": False,
    "a_under_complement": False,
    "b_under_complement": True,
}


def _files(items: list[Any], judgments: list[Any]) -> Any:
    def make(folder: Path) -> None:
        for name, rows in (("items.jsonl", items), ("said.jsonl", judgments)):
            (folder / name).write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))

    return make


def _audit(name: str, words: str, items: list[Any], judgments: list[Any], *more: str) -> BadInput:
    command = ("analysis.inversion_audit", "--items", "{dir}/items.jsonl", "--judgments", "{dir}/said.jsonl", *more)
    return BadInput(name, command, (words,), _files(items, judgments))


def _sample(name: str, words: str, *more: str) -> BadInput:
    items = [{**ITEM, "id": f"i{n}", "query_id": f"q{n}"} for n in range(4)]
    return BadInput(name, ("analysis.sample_for_audit", *more), (words,), _files(items, []))


BAD_INPUTS = [
    _audit(
        "an item without a complement",
        "items.jsonl, line 1: complement is missing; an object here has id,",
        [{name: text for name, text in ITEM.items() if name != "complement"}],
        [JUDGMENT],
    ),
    _audit(
        "an item with an empty text",
        'items.jsonl, line 1: query is " "; it must be a text that is not empty',
        [{**ITEM, "query": " "}],
        [JUDGMENT],
    ),
    _audit(
        "an item with an unknown key",
        "items.jsonl, line 1: 'passage_c' is not known; allowed: id, query_id",
        [{**ITEM, "passage_c": "x"}],
        [JUDGMENT],
    ),
    _audit("an item twice", "items.jsonl, line 2: the id 'i1' stands on an earlier line too", [ITEM, ITEM], [JUDGMENT]),
    _audit(
        "known-bad in words",
        'items.jsonl, line 1: known_bad is "yes"; allowed: true, false',
        [{**ITEM, "known_bad": "yes"}],
        [JUDGMENT],
    ),
    _audit("known-bad items only", "has no item to audit", [{**ITEM, "known_bad": True}], [JUDGMENT]),
    _audit("an empty file of items", "items.jsonl has no item to audit", [], [JUDGMENT]),
    _audit("items that are a list", "items.jsonl, line 1: a list instead of a JSON object", ["[1]"], [JUDGMENT]),
    _audit("items that are no JSON", "items.jsonl, line 1: not JSON", ["{"], [JUDGMENT]),
    _audit(
        "a judgment of an unknown item",
        "said.jsonl, line 1: item_id 'i2' is none of the 1 items",
        [ITEM],
        [{**JUDGMENT, "item_id": "i2"}],
    ),
    _audit(
        "a judgment of an unknown kind",
        'said.jsonl, line 1: kind is "model"; allowed: gold, judge, human',
        [ITEM],
        [{**JUDGMENT, "kind": "model"}],
    ),
    _audit(
        "an answer in words",
        'said.jsonl, line 1: a_under_complement is "no"; allowed: true, false, null',
        [ITEM],
        [{**JUDGMENT, "a_under_complement": "no"}],
    ),
    _audit(
        "an answer that is a number",
        "said.jsonl, line 1: a_under_complement is 1; allowed: true, false, null",
        [ITEM],
        [{**JUDGMENT, "a_under_complement": 1}],
    ),
    _audit(
        "a rater who judges an item twice",
        "said.jsonl, line 2: the human 'ann' judged item 'i1' before; keep one",
        [ITEM],
        [JUDGMENT, JUDGMENT],
    ),
    _audit(
        "a threshold that is no share",
        "the threshold is 90.0; allowed: above 0 and below 1",
        [ITEM],
        [JUDGMENT],
        "--threshold",
        "90",
    ),
    _sample("a sample from nothing", "give --items F --to DIR to draw", "--to", "{dir}/audit"),
    _sample(
        "a sample larger than what is there",
        "the sample has 9 items; allowed: 1 to 4",
        "--items",
        "{dir}/items.jsonl",
        "--size",
        "9",
        "--to",
        "{dir}/audit",
    ),
    _sample(
        "a negative number of known-bad items",
        "--known-bad -1 must not be below 0",
        "--items",
        "{dir}/items.jsonl",
        "--size",
        "2",
        "--known-bad",
        "-1",
        "--to",
        "{dir}/audit",
    ),
    _sample(
        "sheets of no sample",
        "holds no sample (design.json is missing)",
        "--from",
        "{dir}",
        "--filled",
        "{dir}/items.jsonl",
        "--rater",
        "ann",
        "--out",
        "{dir}/out.jsonl",
    ),
]
