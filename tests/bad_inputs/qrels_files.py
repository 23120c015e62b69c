"""Judgments, runs, groups and changed documents that `analysis.score` is given."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

from bad_inputs import BadInput, written

Content = str | bytes
QRELS, RUN = "q1 0 a 1\n", "q1 Q0 a 1 2 t\n"


def _write(folder: Path, **files: Content) -> None:
    for name, content in files.items():
        written(name.replace("_gz", ".gz"), content)(folder)


def _score(
    name: str, words: str, make: Callable[[Path], object], *options: str, qrels: str = "qrels", run: str = "run"
) -> BadInput:
    command = ("analysis.score", "--run", f"{{dir}}/{run}", "--qrels", f"{{dir}}/{qrels}", *options)
    return BadInput(name, command, (words,), make)


def _qrels(name: str, words: str, content: Content, file: str = "qrels") -> BadInput:
    return _score(
        name,
        f"{{dir}}/{file}{words}",
        lambda folder: _write(folder, run=RUN, **{file.replace(".", "_"): content}),
        qrels=file,
    )


def _run(name: str, words: str, content: Content, file: str = "run") -> BadInput:
    return _score(
        name,
        f"{{dir}}/{file}{words}",
        lambda folder: _write(folder, qrels=QRELS, **{file.replace(".", "_"): content}),
        run=file,
    )


def _groups(name: str, words: str, content: Content) -> BadInput:
    return _score(
        name,
        f"{{dir}}/groups, line 1: {words}",
        lambda folder: _write(folder, qrels=QRELS, run=RUN, groups=content),
        "--groups",
        "{dir}/groups",
    )


def _changed(name: str, words: str, content: Content) -> BadInput:
    options = [
        word
        for part in ("original", "changed")
        for word in (f"--{part}-run", "{dir}/run", f"--{part}-qrels", "{dir}/qrels")
    ]
    return BadInput(
        name,
        ("analysis.score", *options, "--changed-documents", "{dir}/diff"),
        (f"{{dir}}/diff{words}",),
        lambda folder: _write(folder, qrels=QRELS, run=RUN, diff=content),
    )


def _pipe(folder: Path) -> None:
    _write(folder, qrels=QRELS)
    os.mkfifo(folder / "run")


BOMB = gzip.compress((b" " * (2**20) + b"\n") * 9)

BAD_INPUTS = [
    _score("no judgments", "{dir}/qrels: no such file; check the path", lambda folder: _write(folder, run=RUN)),
    _score("no run", "{dir}/run: no such file; check the path", lambda folder: _write(folder, qrels=QRELS)),
    _score("a run that is a pipe", "{dir}/run is a pipe or a device, not a file; write its content into a file", _pipe),
    _score(
        "a run that is a folder", "{dir}/ is a folder; give a file", lambda folder: _write(folder, qrels=QRELS), run=""
    ),
    _qrels("three columns", ", line 2: 3 columns, expected 4: query 0 document grade", QRELS + "q1 b 1\n"),
    _qrels("five columns", ", line 2: 5 columns, expected 4", QRELS + "q1 0 b c 1\n"),
    _qrels(
        "a header of BEIR and three words",
        ", line 2: 1 columns, expected 3, tab-separated",
        "query-id\tcorpus-id\tscore\nq1 a 1\n",
    ),
    _qrels(
        "a header of BEIR and an empty id",
        ", line 2: 3 columns, expected 3, tab-separated",
        "query-id\tcorpus-id\tscore\nq1\t\t1\n",
    ),
    _qrels(
        "a grade with an underscore", ", line 1: query 'q1', document 'a': grade '1_0' is no integer", "q1 0 a 1_0\n"
    ),
    _qrels("a grade in Arabic digits", ", line 1: query 'q1', document 'a': grade '٣' is no integer", "q1 0 a ٣\n"),
    _qrels(
        "a grade of two thousand million",
        ", line 1: query 'q1', document 'a': grade '2000000000' is out of range",
        "q1 0 a 2000000000\n",
    ),
    _qrels("a grade of 5,000 digits", ", line 1: query 'q1', document 'a': grade '999", f"q1 0 a {'9' * 5000}\n"),
    _qrels("a document judged twice", ", line 2: query 'q1': document 'a' is judged twice", QRELS + QRELS),
    _qrels("judgments in UTF-16", ": UTF-16", QRELS.encode("utf-16")),
    _qrels("judgments that are not UTF-8", ", line 1: not UTF-8 (byte 6)", b"q1 0 \xe9 1\n"),
    _qrels("judgments with a NUL byte", ", line 2: a NUL byte", QRELS.encode() + b"q1 0 \0 1\n"),
    _qrels(
        "judgments with line ends of old Macs", ", line 1: a carriage return within the line", b"q1 0 a 1\rq1 0 b 1\r"
    ),
    _qrels("judgments that are no gzip", ", after line 0: broken gzip (Not a gzipped file", QRELS, "qrels.gz"),
    _run("a run of five columns", ", line 1: 5 columns, expected 6: query Q0 document rank score tag", "q1 Q0 a 1 2\n"),
    _run(
        "a score that is a word", ", line 1: query 'q1', document 'a': score 'high' is no number", "q1 Q0 a 1 high t\n"
    ),
    _run("a score that is no number", ", line 1: query 'q1', document 'a': the score is NaN", "q1 Q0 a 1 nan t\n"),
    _run("a score in Arabic digits", ", line 1: query 'q1', document 'a': score '٣' is no number", "q1 Q0 a 1 ٣ t\n"),
    _run(
        "a score of 1e308", ", line 1: query 'q1', document 'a': score 1e308 is beyond ±3.4e38", "q1 Q0 a 1 1e308 t\n"
    ),
    _run("a document ranked twice", ", line 2: query 'q1': document 'a' is there twice", RUN + RUN),
    _run("half a gzip file", ", after line 0: broken gzip", gzip.compress(RUN.encode())[:12], "run.gz"),
    _run("a gzip bomb", ", line 8: unpacks to more than 100 times its", BOMB, "run.gz"),
    _run("a line of ten megabytes", ", line 1: longer than 10,485,760 bytes", b"q" * (10 * 2**20 + 1)),
    _groups("a group without a query", "1 columns, expected 2, tab-separated: query group", "g\n"),
    _groups("a group between blanks", "1 columns, expected 2", "q1 g\n"),
    _groups("an empty group", "2 columns, expected 2", "q1\t\n"),
    _changed("changed documents that are a list", ", line 1: 1 columns, expected 4", '["a"]\n'),
    _changed("changed documents that are torn", ": not JSON", '{"q1": ["a"'),
    _changed(
        "a changed document with half of a character", r": \ud83d is half of a surrogate pair", r'{"q1": ["\ud83d"]}'
    ),
    _changed(
        "changed documents of great depth", ": JSON that cannot be read (nested too deeply)", '{"q1": ' + "[" * 100_000
    ),
    _changed("a changed document that is a number", ": query 'q1': expected a list of document ids", '{"q1": [1]}'),
    _changed("a query with two lists", ": query 'q1' is there twice", '{"q1": ["a"], "q1": ["b"]}'),
]
