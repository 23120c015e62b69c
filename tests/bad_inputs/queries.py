"""queries.jsonl of a folder in BEIR's layout, and its labels in qrels/."""

from __future__ import annotations

from pathlib import Path

from bad_inputs import BadInput
from bad_inputs.sources import HALF, QUERIES, added, folder_of, run


def _query(name: str, words: str, line: str) -> BadInput:
    return run(
        name, f"set/queries.jsonl, line 4: {words}", lambda folder: folder_of(folder, queries=added(QUERIES, line))
    )


def _labels(name: str, words: str, line: str, place: str = "set/qrels/dev.tsv, line 3: ") -> BadInput:
    labels = {"train": "q0\td0\t1\n", "dev": f"q2\td2\t1\n{line}\n"}
    return run(name, f"{place}{words}", lambda folder: folder_of(folder, labels=labels))


def _files(name: str, words: str, **labels: str | bytes) -> BadInput:
    return run(name, words, lambda folder: folder_of(folder, labels=dict(labels)))


def _without_qrels(folder: Path) -> None:
    folder_of(folder, labels={})
    (folder / "set" / "qrels").rmdir()


BAD_INPUTS = [
    run(
        "no query",
        "set/queries.jsonl is empty; it needs at least one query",
        lambda folder: folder_of(folder, queries="\n"),
    ),
    run(
        "a variant without its instruction, of which no other query has one",
        "set/queries.jsonl, line 5: query 'q9-odd' has no instruction, and its text is that of 'q9'; give it its",
        lambda folder: folder_of(
            folder,
            queries=added(QUERIES, '{"_id": "q9", "text": "same"}\n{"_id": "q9-odd", "text": "same"}'),
        ),
    ),
    run(
        "a variant whose instruction is missing, with labels that name it",
        "set/queries.jsonl, line 5: query 'q1-new' has no instruction, and others of the variant 'new' have one",
        lambda folder: folder_of(
            folder,
            queries=added(
                QUERIES,
                '{"_id": "q0-new", "text": "a", "instruction": "only new ones"}\n{"_id": "q1-new", "text": "a"}',
            ),
            labels={"train": "q0\td0\t1\n", "dev": "q2\td2\t1\n", "diff_new_dev": "q1\td2\t1\n"},
        ),
    ),
    _query("a query without text", "query 'q9' has no text; drop it or give it one", '{"_id": "q9", "text": ""}'),
    _query("a query whose text is null", "query 'q9' has no text", '{"_id": "q9", "text": null}'),
    _query("a query whose text is a number", "`text` is 3; it must be a text", '{"_id": "q9", "text": 3}'),
    _query("a query without an id", "`_id` is missing", '{"query": "a", "text": "b"}'),
    _query(
        "a query that is there twice", "`_id` 'q0' is also in line 1; ids must be unique", '{"_id": "q0", "text": "a"}'
    ),
    _query(
        "a query id that reads as a comment",
        "query '#9' begins with #, as comments of judgments do; rename it",
        '{"_id": "#9", "text": "a"}',
    ),
    _query("a query id with a blank", "`_id` 'q 9' has white space", '{"_id": "q 9", "text": "a"}'),
    _query(
        "a query with half of a character", r"\ud83d is half of a surrogate pair", f'{{"_id": "q9", "text": "{HALF}"}}'
    ),
    _query(
        "an instruction that is a list",
        "`instruction` is ['a']; it must be a text",
        '{"_id": "q9", "text": "a", "instruction": ["a"]}',
    ),
    _query(
        "metadata that is a list",
        "`metadata` is [1]; it must be an object",
        '{"_id": "q9", "text": "a", "metadata": [1]}',
    ),
    _query(
        "a variant without an instruction",
        "query 'q9' is variant 'new' and has no instruction",
        '{"_id": "q9", "text": "a", "metadata": {"variant": "new"}}',
    ),
    _query(
        "a split that is a number",
        "`split` is 1; it must be a text",
        '{"_id": "q9", "text": "a", "metadata": {"split": 1}}',
    ),
    run("no qrels", "set/qrels is missing; a BEIR folder has one labels file per split in it", _without_qrels),
    _files("qrels without files", "has no labels in {dir}/set/qrels; splits with labels: none"),
    _files(
        "an empty labels file",
        "none of the 0 judgments of split 'dev' has a grade above 0",
        train="q0\td0\t1\n",
        dev="",
    ),
    _files(
        "labels that are all zero",
        "none of the 2 judgments of split 'dev' has a grade above 0, so nothing could",
        train="q0\td0\t1\n",
        dev="q2\td2\t0\nq2\td3\t-1\n",
    ),
    _files(
        "labels that are all comments",
        "none of the 0 judgments of split 'dev'",
        train="q0\td0\t1\n",
        dev="#q2\td2\t1\n",
    ),
    _files(
        "labels of other ids",
        "set/qrels/dev.tsv, line 2: query '7' is not in queries.jsonl; add it there or drop",
        train="q0\td0\t1\n",
        dev="7\t8\t1\n",
    ),
    _files(
        "labels in TREC's form",
        "set/qrels/dev.tsv, line 1: 1 columns instead of 3, separated by tabs",
        train="q0\td0\t1\n",
        dev=b"q2 0 d2 1\n",
    ),
    _files("labels in UTF-16", "set/qrels/dev.tsv: UTF-16", train="q0\td0\t1\n", dev="q2\td2\t1\n".encode("utf-16")),
    _labels("two columns", "2 columns instead of 3", "q2\td3"),
    _labels("four columns", "4 columns instead of 3", "q2\t0\td3\t1"),
    _labels("an unknown document", "document 'd99' is not in corpus.jsonl; add it there or drop", "q2\td99\t1"),
    _labels(
        "a grade with an underscore", "grade '1_0' is no integer; write a grade like 0 or 1, in ASCII", "q2\td3\t1_0"
    ),
    _labels("a grade in Arabic digits", "grade '٣' is no integer", "q2\td3\t٣"),
    _labels("a grade with a point", "grade '1.0' is no integer", "q2\td3\t1.0"),
    _labels("no grade", "grade '' is no integer", "q2\td3\t"),
    _labels(
        "a grade of two thousand million",
        "grade '2000000000' is out of range; allowed: -1,000,000 to 1,000,000",
        "q2\td3\t2000000000",
    ),
    _labels("a contradiction", "query 'q2' and document 'd2' have score 0 here and 1 before; keep one", "q2\td2\t0"),
    _files(
        "a diff of no variant",
        "diff_new_dev.tsv is for no known variant; variants of queries: none",
        train="q0\td0\t1\n",
        dev="q2\td2\t1\n",
        diff_new_dev="q2\td2\t1\n",
    ),
]
