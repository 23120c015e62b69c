"""Folders in BEIR's layout that cannot be read: places, corpus lines, and what `ablate.run` is told of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from bad_inputs import BadInput, nothing, written

CORPUS = [{"_id": f"d{number}", "title": f"title {number}", "text": f"text number {number}"} for number in range(6)]
QUERIES = [{"_id": f"q{number}", "text": f"question {number}"} for number in range(3)]
HEADER = "query-id\tcorpus-id\tscore\n"
LABELS = {"train": "q0\td0\t1\nq1\td1\t1\n", "dev": "q2\td2\t1\n"}
HALF = r"\ud83d"
"""Half of a surrogate pair as JSON writes it."""


def folder_of(
    folder: Path, corpus: object = None, queries: object = None, labels: dict[str, str | bytes] | None = None
) -> None:
    """Write `set/`: a folder that can be read, with some of its files replaced by text, bytes or objects."""
    (folder / "set" / "qrels").mkdir(parents=True)
    for name, given, usual in (("corpus", corpus, CORPUS), ("queries", queries, QUERIES)):
        found = usual if given is None else given
        if isinstance(found, list):
            found = "".join(json.dumps(one) + "\n" for one in found)
        written(f"set/{name}.jsonl", found)(folder)
    for split, text in (LABELS if labels is None else labels).items():
        body = text if isinstance(text, bytes) else (HEADER + text).encode()
        written(f"set/qrels/{split}.tsv", body)(folder)


def added(objects: list[dict[str, str]], line: str | bytes) -> bytes:
    """Return good lines and one more."""
    good = "".join(json.dumps(one) + "\n" for one in objects).encode()
    return good + (line if isinstance(line, bytes) else line.encode()) + b"\n"


def run(name: str, words: str | tuple[str, ...], make: Callable[[Path], object], *overrides: str) -> BadInput:
    """Return the row of a run on `set/` that reads it and builds the mix."""
    usual = ("+experiment=query_only", "model=tiny", "source=beir", "tracker=none", "runtime.until=mix")
    places = ("source.path={dir}/set", "runtime.results={dir}/results")
    told = (words,) if isinstance(words, str) else words
    return BadInput(name, ("ablate.run", *usual, *places, *overrides), told, make)


def _corpus(name: str, words: str, line: str | bytes) -> BadInput:
    return run(name, f"set/corpus.jsonl, line 7: {words}", lambda folder: folder_of(folder, added(CORPUS, line)))


def _whole(name: str, words: str, content: str | bytes) -> BadInput:
    return run(name, f"set/corpus.jsonl{words}", lambda folder: folder_of(folder, content))


def _instead(name: str, words: str, change: Callable[[Path], object], file: str = "corpus.jsonl") -> BadInput:
    def make(folder: Path) -> None:
        folder_of(folder)
        (folder / "set" / file).unlink()
        change(folder / "set" / file)

    return run(name, f"set/{file}{words}", make)


def _own(folder: Path) -> None:
    folder_of(folder, [*CORPUS, {"_id": "q2", "text": "A question: Question 2!"}])


def _with_a_pair(folder: Path) -> None:
    """Write a folder with two instructions of one query that are each other's complement, and documents to mine."""
    posed = [{"_id": f"q0-{v}", "text": "question 0", "instruction": f"only {v}"} for v in ("new", "old")]
    relevant = {"new": "d0", "old": "d1"}
    labels = {f"{variant}_train": f"q0-{variant}\t{doc_id}\t1\n" for variant, doc_id in relevant.items()}
    folder_of(folder, None, [*QUERIES, *posed], {"train": "q0\td0\t1\nq0\td1\t1\n", "dev": "q2\td2\t1\n", **labels})


BAD_INPUTS = [
    run(
        "twins in another style, which a folder does not have",
        ("rows that the budget may take have no restyled", "choose an arm without them, or a source that has them"),
        _with_a_pair,
        "factors.instructed=1",
        "factors.instruction_negatives=1",
        "factors.reversed_views=1",
        "factors.twin_polarity=restyled",
        "budget.limit=2",
    ),
    run(
        "a folder that is a file",
        "/set' is not a folder; give a folder with corpus.jsonl, queries.jsonl, qrels/",
        written("set", "no folder"),
    ),
    run("no path", "source.path", nothing, "source.path=???"),
    _instead("no corpus", ": no such file; check the path", lambda path: None),
    _instead(
        "a packed corpus",
        ": no such file; unpack {dir}/set/corpus.jsonl.gz, which is there",
        lambda path: path.with_name("corpus.jsonl.gz").write_bytes(b""),
    ),
    _instead("no queries", ": no such file; check the path", lambda path: None, "queries.jsonl"),
    _instead("a corpus that is a folder", " is a folder; give a file", lambda path: path.mkdir()),
    _instead("a corpus that is a pipe", " is a pipe or a device, not a file", os.mkfifo),
    _instead("labels that are a pipe", " is a pipe or a device, not a file", os.mkfifo, "qrels/dev.tsv"),
    _instead(
        "a corpus that is a device", " is a pipe or a device, not a file", lambda path: path.symlink_to("/dev/zero")
    ),
    _instead("a link to nowhere", ": no such file; check the path", lambda path: path.symlink_to("/nowhere")),
    _instead("a link to itself", "' cannot be read (Too many levels", lambda path: path.symlink_to(path)),
    _whole("an empty corpus", " is empty; it needs at least one document", ""),
    _whole("a corpus of blank lines", " is empty; it needs at least one document", "\n \n\t\r\n"),
    _whole(
        "a corpus in UTF-16",
        ": UTF-16 (by its byte order mark); convert the file to UTF-8",
        '{"_id": "d0", "text": "a"}\n'.encode("utf-16"),
    ),
    _whole("a corpus in one line of ten megabytes", ", line 1: longer than 10,485,760 bytes", b" " * (10 * 2**20 + 1)),
    _whole(
        "a corpus with line ends of old Macs",
        ", line 1: a carriage return within the line",
        b'{"_id": "d0", "text": "a"}\r{"_id": "d1", "text": "b"}\r',
    ),
    _whole("a corpus that is a JSON list", ", line 1: a list instead of a JSON object", json.dumps(CORPUS)),
    _whole("a corpus that is a table", ", line 1: not JSON", "_id\ttext\nd0\ta\n"),
    _corpus("a torn line", "not JSON (Expecting value at column 9); every line is one JSON object", '{"_id": '),
    _corpus("a text", "a str instead of a JSON object", '"a"'),
    _corpus("a NUL byte", "a NUL byte; this is no text file", b'{"_id": "d9", "text": "a\0b"}'),
    _corpus(
        "bytes that are not UTF-8", "not UTF-8 (byte 24); convert the file to UTF-8", b'{"_id": "d9", "text": "\xff"}'
    ),
    _corpus("a surrogate in UTF-8", "not UTF-8 (byte 24)", b'{"_id": "d9", "text": "\xed\xa0\xbd"}'),
    _corpus(
        "depth without end",
        "JSON that cannot be read (nested too deeply)",
        '{"_id": "d9", "text": "a", "metadata": ' + "[" * 100_000,
    ),
    _corpus(
        "an integer of 5,000 digits",
        "JSON that cannot be read (Exceeds the limit",
        '{"_id": ' + "9" * 5000 + ', "text": "a"}',
    ),
    _corpus("half of a character in an id", r"\ud83d is half of a surrogate pair", f'{{"_id": "{HALF}", "text": "a"}}'),
    _corpus(
        "half of a character in a text", r"\ud83d is half of a surrogate pair", f'{{"_id": "d9", "text": "a {HALF}"}}'
    ),
    _corpus("no id", "`_id` is missing; every line needs `_id` and `text`", '{"id": "d9", "text": "a"}'),
    _corpus("no text", "`text` is missing; every line needs `_id` and `text`", '{"_id": "d9", "contents": "a"}'),
    _corpus("an id that is null", "`_id` is None; it must be a text", '{"_id": null, "text": "a"}'),
    _corpus("an id that is a list", "`_id` is ['d9']; it must be a text", '{"_id": ["d9"], "text": "a"}'),
    _corpus("an id that is true", "`_id` is True; it must be a text", '{"_id": true, "text": "a"}'),
    _corpus("an empty id", "`_id` '' is empty; rename it", '{"_id": "", "text": "a"}'),
    _corpus("an id of a blank", "`_id` ' ' has white space", '{"_id": " ", "text": "a"}'),
    _corpus(
        "an id with a blank",
        "`_id` 'd 9' has white space, which a TREC file cannot hold; rename it",
        '{"_id": "d 9", "text": "a"}',
    ),
    _corpus("an id with a tab", r"`_id` 'd\t9' has white space", r'{"_id": "d\t9", "text": "a"}'),
    _corpus("an id with a line feed", r"`_id` 'd9\n' has white space", r'{"_id": "d9\n", "text": "a"}'),
    _corpus(
        "an id with a control character",
        r"`_id` 'd\x1b[31m' has a control character or half",
        r'{"_id": "d\u001b[31m", "text": "a"}',
    ),
    _corpus(
        "an id that is there twice", "`_id` 'd0' is also in line 1; ids must be unique", '{"_id": "d0", "text": "a"}'
    ),
    _corpus("a text that is a number", "`text` is 5; it must be a text", '{"_id": "d9", "text": 5}'),
    _corpus("a text that is a list", "`text` is ['a']; it must be a text", '{"_id": "d9", "text": ["a"]}'),
    _corpus("a title that is an object", "`title` is {}; it must be a text", '{"_id": "d9", "text": "a", "title": {}}'),
    _corpus(
        "neither text nor title",
        "document 'd9' has neither text nor title; drop it or give it one",
        '{"_id": "d9", "text": null, "title": " "}',
    ),
    run(
        "queries that are documents",
        (
            "queries.jsonl: 1 queries are documents of the corpus under the same id (first: 'q2'), so each",
            "set source.own_document=drop",
        ),
        _own,
    ),
    run(
        "a word that says nothing of own documents",
        "source.own_document='no' is not known; allowed: keep, drop",
        folder_of,
        "source.own_document=no",
    ),
    run(
        "a training split without labels",
        "source.train_split='test' has no labels in {dir}/set/qrels; splits with labels: dev, train",
        folder_of,
        "source.train_split=test",
    ),
    run(
        "a set without labels",
        "evaluation.sets='test' has no labels in {dir}/set/qrels; splits with labels: dev, train",
        folder_of,
        "evaluation.sets=[test]",
    ),
]
