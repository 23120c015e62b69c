"""Commands of synthesis that cannot be done, and rows, prompts, rates and items that are none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synthesis_rows import row, rows_file

from bad_inputs import BadInput, written

READS = ("source=synthesized", "source.path={dir}/rows.jsonl")
SIMULATED = ("--engine", "simulated", "--model", "usual")
GOOD_PROMPT = "system: a\nuser: '{{ query }}'\nparameters: {max_tokens: 5}\n"


def _files(*makers: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for maker in makers:
            maker(folder)

    return make


def _rows(folder: Path) -> None:
    rows_file(folder, 2)


def _asked(
    name: str, words: str, *more: str, step: str = "paraphrase", make: Callable[[Path], object] = _rows
) -> BadInput:
    given = ("--out", "{dir}/out", "--results", "{dir}/results")
    return BadInput(name, ("ablate.synthesize", step, *given, *more), (words,), make)


def _row(name: str, words: str, **changed: Any) -> BadInput:
    kept = {key: value for key, value in row(0, **changed).items() if value is not None}
    return _asked(name, words, *READS, *SIMULATED, make=written("rows.jsonl", json.dumps(kept) + "\n"))


def _prompt(name: str, words: str, text: str, step: str = "paraphrase") -> BadInput:
    make = _files(_rows, written("p.yaml", text))
    return _asked(name, words, *READS, *SIMULATED, "--prompt", "{dir}/p.yaml", step=step, make=make)


def _rates(name: str, words: str, text: str) -> BadInput:
    make = _files(_rows, written("r.yaml", text))
    return _asked(name, words, *READS, *SIMULATED, "--rates", "{dir}/r.yaml", make=make)


ITEM = {
    "id": "i", "query_id": "q", "query": "fish", "passage_a": "old", "passage_b": "new", "instruction": "only old",
    "complement": "not old", "constraint_type": "time",
}  # fmt: skip
GOLD = {
    "item_id": "i", "a_under_instruction": True, "b_under_instruction": False, "a_under_complement": False,
    "b_under_complement": True,
}  # fmt: skip


def _judge(name: str, words: str, items: Sequence[Any], gold: Sequence[Any], model: str = "good") -> BadInput:
    make = _files(
        written("items.jsonl", "".join(json.dumps(item) + "\n" for item in items)),
        written("gold.jsonl", "".join(json.dumps(item) + "\n" for item in gold)),
    )
    given = ("--items", "{dir}/items.jsonl", "--gold", "{dir}/gold.jsonl", "--engine", "simulated", "--model", model)
    return _asked(name, words, *given, step="judge", make=make)


BAD_INPUTS = [
    _asked("a step that is none", "invalid choice: 'translate'", *SIMULATED, step="translate"),
    _asked("no model", "the following arguments are required: --model", *READS),
    _asked("a limit of zero", "--limit 0 must be 1 or more", *READS, *SIMULATED, "--limit", "0"),
    _asked("a share above one", "--share 1.5 must not exceed 1", *READS, *SIMULATED, "--share", "1.5"),
    _asked("a share of nothing", "--share 0 must be a finite number above 0", *READS, *SIMULATED, "--share", "0"),
    _asked(
        "a share that leaves no row", "the source gives no row; raise --share", *READS, *SIMULATED, "--share", "1e-9"
    ),
    _asked("a time-out without end", "--timeout inf must be a finite number", *READS, *SIMULATED, "--timeout", "inf"),
    _asked("a limit of cost without prices", "--max-cost needs --price-in", *READS, *SIMULATED, "--max-cost", "1"),
    _asked("two places of rows", "give one of: a source (KEY=VALUE), --mix, --items", *READS, *SIMULATED, "--mix", "a"),
    _asked("a mix that is none", "mix", *SIMULATED, "--mix", "abc"),
    _asked("a source key that is none", "source.pth", *SIMULATED, "source=synthesized", "source.pth=x"),
    _asked("items for a step that writes", "--items and --gold are for judge", *SIMULATED, "--items", "{dir}/i.jsonl"),
    _asked("gold for a real judge", "no other engine may see it", "--model", "m", "--gold", "{dir}/g", step="judge"),
    _asked("a simulated judge without gold", "needs --gold", *SIMULATED, step="judge"),
    _asked("a simulated judge without items", "needs --items", *SIMULATED, "--gold", "{dir}/g.jsonl", step="judge"),
    _asked("a judge that replaces", "--replace is for steps that write", "--model", "m", "--replace", step="judge"),
    _asked("an address that is none", "--endpoint 'host' is no address", *READS, "--model", "m", "--endpoint", "host"),
    _asked(
        "an address with a password",
        "--endpoint has a user or password in it",
        *READS,
        "--model",
        "m",
        "--endpoint",
        "https://me:hidden@host/v1",
    ),  # fmt: skip
    _asked(
        "an address with a key",
        "--endpoint has a query in it",
        *READS,
        "--model",
        "m",
        "--endpoint",
        "http://h/v1?key=x",
    ),
    _row("a row with a word for a flag", "'asks_usual' is 'yes' instead of true, false or null", asks_usual="yes"),
    _asked(
        "a folder without a model",
        "holds no config.json; with --engine transformers give a model's folder",
        *READS,
        "--engine",
        "transformers",
        "--model",
        "{dir}",
    ),  # fmt: skip
    _asked(
        "a writer that is none",
        "--model 'nobody' is none of the writers",
        *READS,
        "--engine",
        "simulated",
        "--model",
        "nobody",
    ),
    _asked(
        "a file of answers that is none",
        "--cache {dir}/rows.jsonl cannot be opened (file is not a database)",
        "--replace",
        "--limit",
        "1",
        *SIMULATED,
        "--cache",
        "{dir}/rows.jsonl",
    ),  # fmt: skip
    _asked(
        "rows that know no paraphrase", "and it does not know its paraphrase; take source=world", *READS, *SIMULATED
    ),
    _row("a row without a positive", "rows.jsonl, line 1: field 'positives' is empty", positives=[]),
    _row("a row whose passage is not there", "line 1: positives names 'x', which is not among its", positives=["x"]),
    _row("a row without a paraphrase field", "line 1: no field 'paraphrase'", paraphrase=None),
    _row("a row with a number for a text", "line 1: field 'instruction' is 3 instead of text", instruction=3),
    _row("a row with a text for a list", "instead of a list of texts", hard_negatives="d0h"),
    _row("a row without passages", "line 1: no field 'passages'", passages=None),
    _row("provenance in words", "field 'provenance' is 'me' instead of an object", provenance="me"),
    _asked(
        "other ids of passages",
        "source.passage_ids=docid_and_text: rows of format synthesized",
        *READS,
        *SIMULATED,
        "source.passage_ids=docid_and_text",
    ),  # fmt: skip
    _prompt("a prompt that is no YAML", "p.yaml: not a readable YAML file", "a: [1"),
    _prompt("a prompt that is a list", "p.yaml holds no object of named values", "[1]"),
    _prompt("a prompt without a system message", "p.yaml: system is missing or no text", "user: a\n"),
    _prompt(
        "a prompt without a limit", "parameters.max_tokens=None; it (or max_c", "system: a\nuser: b\nparameters: {}\n"
    ),
    _prompt(
        "a prompt that sets the model",
        "parameters.model is set by the command",
        GOOD_PROMPT.replace("5", "5, model: x"),
    ),
    _prompt(
        "a prompt that names what is not there",
        "the prompt cannot be filled ('qury' is undefined)",
        GOOD_PROMPT.replace("query", "qury"),
    ),
    _prompt("a prompt that is no template", "the prompt cannot be filled", GOOD_PROMPT.replace("}}", "")),
    _prompt(
        "a prompt without levers", "p.yaml: levers is missing; this step needs levers, words", GOOD_PROMPT, "reverse"
    ),
    _prompt(
        "a prompt with levers that are none", "p.yaml: levers=[] must be names", f"{GOOD_PROMPT}levers: []\n", "reverse"
    ),
    _rates("rates that are none", "writers.usual.back=2 must be a share, from 0 to 1", "writers: {usual: {back: 2}}"),
    _rates("rates above one", "writers.usual: the rates sum to 1.2", "writers: {usual: {back: .6, none: .6}}"),
    _rates(
        "an error that is none", "writers.usual: 'late' is not known; allowed: back", "writers: {usual: {late: .1}}"
    ),
    _rates(
        "a lever without rates",
        "writers.usual.levers.time is 3; it must hold rates",
        "writers: {usual: {levers: {time: 3}}}",
    ),
    _rates("rates of something else", "'authors' is not known; allowed: seed, writers, judges", "authors: {}"),
    _rates("a seed in words", "seed='x' must be a whole number", "seed: x\nwriters: {usual: {}}"),
    _judge("an item without gold", "item 'i' has no gold", [ITEM], []),
    _judge("gold without an answer", "gold.jsonl, line 1: no gold judgment", [ITEM], [{"item_id": "i"}]),
    _judge(
        "an item without a complement",
        "items.jsonl, line 1: complement is missing",
        [{**ITEM, "complement": ""}],
        [GOLD],
    ),
    _judge("an item twice", "items.jsonl, line 2: the id 'i' stands on an earlier line too", [ITEM, ITEM], [GOLD]),
    _judge("no item", "items.jsonl has no item", [], [GOLD]),
    _judge("a judge that is none", "--model 'usual' is none of the judges", [ITEM], [GOLD], "usual"),
]
