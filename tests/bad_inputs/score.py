"""Run files, judgments and options of `analysis.score`: what measures nothing, or something else than it seems."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bad_inputs import BadInput

RUN = "q_1 Q0 a 1 2 t\nq_1 Q0 b 2 1 t\n"
QRELS = "q_1 0 a 1\n"
TABLE = "arm,seed,dataset,condition,direction,unit_id,measure,value\n"
LONG = ("--scores", "{dir}/s.csv", "--arm", "A", "--dataset", "D", "--seed")
PAIR = {
    "og.run": "1-og Q0 a 1 2 t\n1-og Q0 b 2 1 t\n",
    "new.run": "1-after Q0 b 1 2 t\n1-after Q0 a 2 1 t\n",
    "og.qrels": "1-og 0 a 1\n",
    "new.qrels": "1-after 0 b 1\n",
    "diff.json": '{"1": ["a"]}',
}
OPTIONS = ("--original-run", "--changed-run", "--original-qrels", "--changed-qrels", "--changed-documents")

MODES = {
    "original.run": "q1 Q0 a 1 2 t\nq1 Q0 b 2 1 t\n",
    "original.qrels": "q1 0 a 1\nq1 0 b 1\n",
    "instructed.run": "q1 Q0 a 1 3 t\nq1 Q0 b 2 1 t\n",
    "instructed.qrels": "q1 0 a 1\nq1 0 b 0\n",
    "reversed.run": "q1 Q0 b 1 2 t\nq1 Q0 a 2 1 t\n",
    "reversed.qrels": "q1 0 a 0\nq1 0 b 1\n",
}


def _files(content: Mapping[str, str | bytes]) -> BadInput:
    """Return a row that only makes files, for the helpers below."""

    def make(folder: Path) -> None:
        for name, text in content.items():
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return BadInput("", (), (), make)


def _run(
    name: str,
    words: str,
    *more: str,
    run: str = RUN,
    qrels: str = QRELS,
    beside: Mapping[str, str | bytes] | None = None,
) -> BadInput:
    command = ("analysis.score", "--run", "{dir}/a.run", "--qrels", "{dir}/a.qrels", *more)
    return BadInput(name, command, (words,), _files({"a.run": run, "a.qrels": qrels, **(beside or {})}).make)


def _pair(name: str, words: str, *more: str, **changed: str) -> BadInput:
    given = [part for option, file in zip(OPTIONS, PAIR, strict=True) for part in (option, f"{{dir}}/{file}")]
    content = {file: changed.get(file.replace(".", "_"), text) for file, text in PAIR.items()}
    return BadInput(name, ("analysis.score", *given, *more), (words,), _files(content).make)


def _modes(name: str, words: str, *more: str, without: str = "", **changed: str) -> BadInput:
    given = [part for file in MODES if file != without for part in (f"--{file.replace('.', '-')}", f"{{dir}}/{file}")]
    content = {file: changed.get(file.replace(".", "_"), text) for file, text in MODES.items()}
    return BadInput(name, ("analysis.score", *given, *more), (words,), _files(content).make)


BAD_INPUTS = [
    _run("no query is judged", "run: no query is judged, so there is nothing to measure", qrels=""),
    _run("no document is relevant", "no document is relevant for any of the 1 judged queries", qrels="q_1 0 a 0\n"),
    _run("grades below zero only", "no document is relevant for any of the 1 judged queries", qrels="q_1 0 a -1\n"),
    _run("a run without a line", "run: the run has no line", run=""),
    _run(
        "other queries",
        "none of the 1 ranked queries is among the 1 judged ones (ranked 'x', judged 'q_1')",
        run="x Q0 a 1 1 t\n",
    ),
    _run("an infinite score", "{dir}/a.run: query 'q_1', document 'a': the score is inf", run="q_1 Q0 a 1 inf t\n"),
    _run("an infinite score at the end", "document 'b': the score is -inf", run="q_1 Q0 a 1 1 t\nq_1 Q0 b 2 -inf t\n"),
    _run("a score beyond float32", "{dir}/a.run, line 1: query 'q_1', document 'a'", run="q_1 Q0 a 1 -1e308 t\n"),
    _run("an unknown measure", "measure 'ndcg' is not known", "--measure", "ndcg"),
    _run("a measure without a cut-off", "--measure 'WISE' cannot be asked for", "--measure", "WISE"),
    _run("a cut-off of zero", "measure 'nDCG@0' is not known", "--measure", "nDCG@0"),
    _run("a seed with an underscore", "--seed: '1_0' is no seed", *LONG, "1_0"),
    _run("a seed in other digits", "--seed: '٣' is no seed", *LONG, "٣"),
    _run("a negative seed", "--seed: '-1' is no seed", *LONG[:-1], "--seed=-1"),
    _run("a seed of 5,000 digits", "is no seed; it must be a whole number", *LONG, "9" * 5000),
    _run("an unknown option", "unrecognized arguments: --judged", "--judged"),
    _run(
        "a table of another kind",
        "--scores s.txt: the name must end in .csv or .parquet",
        "--scores",
        "s.txt",
        "--arm",
        "A",
        "--seed",
        "0",
        "--dataset",
        "D",
    ),
    _run(
        "a table that is something else",
        "{dir}/s.csv: has the columns a, value, not arm, seed",
        *LONG,
        "0",
        beside={"s.csv": "a,value\n"},
    ),
    _run(
        "a table with a text for a value",
        "{dir}/s.csv: cannot be read as a table of scores",
        *LONG,
        "0",
        beside={"s.csv": TABLE + "A,0,D,,,q_1,nDCG@10,x\n"},
    ),
    _run(
        "a table with a field beyond 131 kB",
        "{dir}/s.csv: cannot be read as a table of scores",
        *LONG,
        "0",
        beside={"s.csv": TABLE + f"{'x' * 140_000},0,D,,,q_1,nDCG@10,1\n"},
    ),
    _run(
        "a table with another value of the unit",
        "unit 'q_1' has nDCG@10 0.5 there and 1.0 now",
        *LONG,
        "0",
        beside={"s.csv": TABLE + "A,0,D,,,q_1,nDCG@10,0.5\n"},
    ),
    _run(
        "a torn Parquet table",
        "{dir}/s.parquet: cannot be read as a table of scores",
        "--scores",
        "{dir}/s.parquet",
        *LONG[2:],
        "0",
        beside={"s.parquet": b"PAR1xx"},
    ),
    _run("a run that is a folder", "{dir}/ is a folder; give a file", "--run", "{dir}/"),
    _run("a run that is not there", "{dir}/none.run: no such file", "--run", "{dir}/none.run"),
    _run(
        "groups in three columns",
        "{dir}/g.tsv, line 1: 3 columns",
        "--groups",
        "{dir}/g.tsv",
        beside={"g.tsv": "a\tb\tc\n"},
    ),
    BadInput("nothing to score", ("analysis.score",), ("nothing to score; give --run and --qrels",)),
    BadInput("a run without judgments", ("analysis.score", "--run", "a"), ("--qrels is missing, and --run is there",)),
    _run("a plain run for no p-MRR", "--plain-run is for p-MRR; give --original-run", "--plain-run", "{dir}/a.run"),
    _pair(
        "a plain run of other queries",
        "original: instruction gain has no value: no unit is left (1 skipped: without one of the rankings)",
        "--plain-run",
        "{dir}/new.run",
    ),
    _pair(
        "judgments of two changed variants",
        "changed -after (1 topics), -before (1 topics); say it by",
        new_qrels="1-after 0 b 1\n1-before 0 a 1\n",
    ),
    _pair(
        "judgments of one variant on both sides",
        "the original and the changed variant are both 'og'",
        new_qrels="1-og 0 b 1\n",
    ),
    _pair(
        "a variant that is not judged",
        "--changed-variant 'new': no judged changed query ends in '-new'; judged are -after (1 topics)",
        "--changed-variant",
        "new",
    ),
    _pair(
        "a run of another variant than the judgments",
        "changed: none of the 1 ranked queries is among the 1 judged ones (ranked '1-before', judged '1-after')",
        new_run="1-before Q0 a 1 1 t\n",
    ),
    _pair("a run of the plain query", "(ranked '1', judged '1-after')", new_run="1 Q0 a 1 1 t\n"),
    _pair(
        "topics that are not judged",
        "no query of the 1 topics of the changed documents: judged '1-og', topics '7'",
        diff_json='{"7": ["a"]}',
    ),
    _pair(
        "topics by the ids of the variant",
        "topics '1-after'; the query of topic t is t or t-VARIANT",
        diff_json='{"1-after": ["a"]}',
    ),
    _pair("no changed document", "p-MRR has no value: no unit is left (1 no changed document)", diff_json='{"1": []}'),
    _pair(
        "rankings of different topics only",
        "p-MRR has no value",
        diff_json='{"1": ["a"], "2": ["a"]}',
        new_qrels="2-after 0 a 1\n",
        new_run="2-after Q0 a 1 1 t\n",
    ),
    _pair("nothing relevant on a side", "changed: no document is relevant", new_qrels="1-after 0 b 0\n"),
    _modes("modes without a run", "--reversed-run is missing, and --original-run is there", without="reversed.run"),
    _modes(
        "modes without judgments", "--original-qrels is missing, and --original-run is there", without="original.qrels"
    ),
    _modes(
        "modes without the original run",
        "--original-run is missing, and --instructed-run is there",
        without="original.run",
    ),
    _modes(
        "modes and a pair at once",
        "--changed-run is for p-MRR, --instructed-run for SICR and WISE",
        "--changed-run",
        "{dir}/instructed.run",
    ),
    _modes(
        "modes with a variant",
        "--changed-variant is for p-MRR; give --original-run, --changed-run",
        "--changed-variant",
        "og",
    ),
    _modes("modes with Robustness@k", "--measure 'Robustness@5' is for --run and --qrels", "--measure", "Robustness@5"),
    _modes(
        "a query that is judged with the instruction only",
        "query 'q2' is in the instructed judgments and not in the original ones",
        instructed_qrels="q1 0 a 1\nq2 0 a 1\n",
    ),
    _modes(
        "a query that is not judged under the reverse",
        "query 'q2' is in the original judgments and not in the reversed ones",
        original_qrels="q1 0 a 1\nq2 0 a 1\n",
        instructed_qrels="q1 0 a 1\nq2 0 a 1\n",
    ),
    _modes(
        "modes under other query ids",
        "query 'q1' is in the original judgments and not in the instructed ones; SICR and WISE compare one query",
        instructed_qrels="q1-in 0 a 1\n",
        instructed_run="q1-in Q0 a 1 1 t\n",
    ),
    _modes(
        "a run of other queries than its judgments",
        "reversed: none of the 1 ranked queries is among the 1 judged",
        reversed_run="q1-rev Q0 a 1 1 t\n",
    ),
    _modes(
        "nothing relevant in a mode",
        "instructed: no document is relevant for any of the 1 judged queries",
        instructed_qrels="q1 0 a 0\n",
    ),
    _modes(
        "nothing relevant in two modes",
        "SICR has no value: no unit is left (1 left out: no document is relevant "
        "both originally and under the instruction); SICR and WISE need",
        original_qrels="q1 0 b 1\n",
        instructed_qrels="q1 0 a 1\n",
    ),
    _modes(
        "rankings of different queries only",
        "SICR has no value: no unit is left (2 skipped: without one of the rankings)",
        reversed_run="q2 Q0 a 1 1 t\n",
        original_qrels="q1 0 a 1\nq2 0 a 1\n",
        instructed_qrels="q1 0 a 1\nq2 0 a 1\n",
        reversed_qrels="q1 0 b 1\nq2 0 b 1\n",
    ),
    _modes(
        "an infinite score in a mode",
        "{dir}/instructed.run: query 'q1', document 'a': the score is inf",
        instructed_run="q1 Q0 a 1 inf t\n",
    ),
    _modes("a torn line in a mode", "{dir}/reversed.qrels, line 1: 3 columns, expected 4", reversed_qrels="q1 a 0\n"),
]
