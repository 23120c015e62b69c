"""Items, judgments and sheets of an audit that are none."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from bad_inputs import BadInput, written

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


def _mix(name: str, words: str, *arguments: str, arm: str = "", changed: bool = False) -> BadInput:
    """A command on MIX; `arm`: whose mix lies in the folder of results; `changed`: with a file that was changed."""

    def make(folder: Path) -> None:
        _files([ITEM], [JUDGMENT])(folder)
        if arm:
            from mixes import make_mix

            mix = make_mix(folder, arm, limit=16)
            if changed:
                (folder / "mixes" / mix.id / "groups.jsonl.gz").write_bytes(b"x")

    return BadInput(name, ("analysis.inversion_audit", *arguments, "--results", "{dir}"), (words,), make)


def _drawn(folder: Path) -> None:
    """Draw two of four items into `audit`."""
    from analysis.sample_for_audit import main

    _files([{**ITEM, "id": f"i{n}", "query_id": f"q{n}"} for n in range(4)], [])(folder)
    with contextlib.redirect_stderr(io.StringIO()):
        main(["--items", str(folder / "items.jsonl"), "--size", "2", "--to", str(folder / "audit")])


def _changed(folder: Path) -> None:
    """The same, and then another text in an item."""
    _drawn(folder)
    path = folder / "audit" / "items.jsonl"
    path.write_text(path.read_text().replace("only old", "only very old", 1))


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
        "an item with a blank at its id's end",
        'items.jsonl, line 1: id is "i1 ", with white space at an end; cut it off',
        [{**ITEM, "id": "i1 "}],
        [JUDGMENT],
    ),
    _audit(
        "a judgment with a blank at its item's end",
        'said.jsonl, line 1: item_id is "i1 ", with white space at an end; cut it off',
        [ITEM],
        [{**JUDGMENT, "item_id": "i1 "}],
    ),
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
    _mix("an audit of nothing", "give either MIX, a finished mix, or --items F with --judgments F"),
    _mix(
        "an audit of two things",
        "give either MIX, a finished mix, or",
        "twins/dual_view",
        "--items",
        "{dir}/items.jsonl",
    ),
    _mix("items without an answer", "--items needs --judgments F", "--items", "{dir}/items.jsonl"),
    _mix(
        "items of items",
        "--items-to is about a mix; name one (MIX) instead of --items",
        "--items",
        "{dir}/items.jsonl",
        "--judgments",
        "{dir}/said.jsonl",
        "--items-to",
        "{dir}/x.jsonl",
    ),
    _mix("a mix that is not there", "no mix 'nope' under", "nope"),
    _mix("a mix of no name", "no mix '' under", ""),
    _mix(
        "a mix that has no twins",
        "has no pair of an original and its reversed twin: it has none",
        "twins/query_only",
        arm="query_only",
    ),
    _mix(
        "a mix of twins without originals",
        "reversed groups stand without their originals; name the mix of an arm with factors.reversed_views",
        "twins/balanced_original:0",
        arm="balanced_original",
    ),
    _mix("a mix that was changed", "groups.jsonl.gz", "twins/dual_view", arm="dual_view", changed=True),
    _mix("a threshold of a mix that is no share", "the threshold is 1.0; allowed", "nope", "--threshold", "1"),
    _mix(
        "answers about other items than those of a mix",
        "said.jsonl, line 1: item_id 'i1' is none of the",
        "twins/dual_view",
        "--judgments",
        "{dir}/said.jsonl",
        arm="dual_view",
    ),
    _mix("items into a folder", "is a folder; name a file", "nope", "--items-to", "{dir}"),
    _sample("a sample from nothing", "the following arguments are required: --items", "--to", "{dir}/audit"),
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
    *(
        BadInput(name, ("analysis.annotate", "{dir}/audit", *words), (said,), _drawn)
        for name, words, said in (
            ("no rater", (), "give --rater NAME to judge, or --adjudicate NAME NAME"),
            (
                "a rater that is a path",
                ("--rater", "../ann"),
                "the rater '../ann' is no name; allowed: a-z, 0-9, - and _",
            ),
            ("a rater in capitals", ("--rater", "Ann"), "the rater 'Ann' is no name; allowed: a-z"),
            (
                "the name of what is settled",
                ("--rater", "adjudicated"),
                "what is settled with --adjudicate; take another",
            ),
            ("settling for one rater", ("--adjudicate", "ann", "ann"), "give two different raters or more"),
            (
                "settling as a rater",
                ("--adjudicate", "a", "b", "--rater", "c"),
                "a page of its own; give it without --rater",
            ),
            ("settling what nobody judged", ("--adjudicate", "ann", "bob"), "ann.jsonl is missing; --adjudicate names"),
            (
                "a port beyond all",
                ("--rater", "ann", "--port", "70000"),
                "'70000' is no port; it must be a whole number",
            ),
            ("a port in words", ("--rater", "ann", "--port", "http"), "'http' is no port; it must be a whole number"),
            ("both ways at once", ("--to-csv", "{dir}/x.csv", "--from-csv", "{dir}/y.csv"), "give one of them"),
            ("a spreadsheet of nobody", ("--from-csv", "{dir}/said.jsonl"), "give --rater NAME to judge"),
            (
                "no spreadsheet",
                ("--rater", "ann", "--from-csv", "{dir}/none.csv"),
                "none.csv: no such file; check the path",
            ),
            ("another file", ("--rater", "ann", "--from-csv", "{dir}/items.jsonl"), "the column item_id is missing"),
        )
    ),
    BadInput(
        "judging no sample",
        ("analysis.annotate", "{dir}", "--rater", "ann"),
        ("holds no sample (design.json is missing); draw one with python -m analysis.sample_for_audit",),
    ),
    BadInput(
        "a design that is none",
        ("analysis.annotate", "{dir}", "--rater", "ann"),
        ("design.json is no design of a sample (seed, items_sha256, known_bad, sheets); draw the sample again",),
        written("design.json", '{"seed": "0"}'),
    ),
    BadInput(
        "a design that is cut off",
        ("analysis.annotate", "{dir}", "--rater", "ann"),
        ("design.json: not JSON (",),
        written("design.json", '{"seed": 0,'),
    ),
    BadInput(
        "items that were changed after the sample was drawn",
        ("analysis.annotate", "{dir}/audit", "--rater", "ann"),
        ("items.jsonl is not what design.json was drawn from; bring both files back, or draw again",),
        _changed,
    ),
]
