"""Run files and judgments: what is written is read back, byte for byte the same, and bad lines are named."""

from __future__ import annotations

import gzip
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.evaluation.trec import read_qrels, read_run, write_run
from ablate.records import UserError
from ablate.retrieval.rankings import rank


def test_a_run_file_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    write_run(path, [rank("q2", ["x", "y"], [0.1, 2]), rank("q1", ["z"], [-math.inf])], tag="mine")
    assert path.read_text() == "q2 Q0 y 1 2 mine\nq2 Q0 x 2 0.100000001 mine\nq1 Q0 z 1 -inf mine\n"
    assert list(read_run(path)) == ["q2", "q1"]


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text("aé9_/.", min_size=1, max_size=3), st.floats(width=32, allow_nan=False), min_size=1))
def test_scores_survive_to_the_bit(scores: dict[str, float]) -> None:
    ranking = rank("q", list(scores), list(scores.values()))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("r.run", "r.run.gz"):
            write_run(Path(folder) / name, [ranking])
            assert read_run(Path(folder) / name) == {"q": ranking}


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        st.text("q%s\\{}", min_size=1, max_size=3),
        st.dictionaries(st.text("aé%s.{}", min_size=1, max_size=3), st.floats(width=32, allow_nan=False)),
    )
)
def test_lines_are_those_of_the_format_whatever_the_ids(run: dict[str, dict[str, float]]) -> None:
    rankings = [rank(query_id, list(scores), list(scores.values())) for query_id, scores in run.items()]
    expected = "".join(
        f"{ranking.query_id} Q0 {doc_id} {place} {score:.9g} 100%s\n"
        for ranking in rankings
        for place, (doc_id, score) in enumerate(zip(ranking.doc_ids, ranking.scores.tolist(), strict=True), start=1)
    )
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder) / "r.run", rankings, tag="100%s")
        assert (Path(folder) / "r.run").read_text() == expected


def test_the_same_rankings_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = rank("q", [f"d{i}" for i in range(50)], np.linspace(0, 1, 50))
    write_run(tmp_path / "one.run.gz", [ranking])
    monkeypatch.setattr(time, "time", lambda: 2e9)
    write_run(str(tmp_path / "another.run.gz"), [ranking])
    content = (tmp_path / "one.run.gz").read_bytes()
    assert content == (tmp_path / "another.run.gz").read_bytes()
    assert b"one" not in content[:40] and content[4:8] == b"\0\0\0\0"
    assert gzip.decompress(content).startswith(b"q Q0 d49 1 1 ablate\n")


def test_reading_goes_by_score_and_id_not_by_the_column_of_ranks(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(b"q Q0 a 1 0.5 t\r\n\n\tq  Q0\tb 2 0.5 t \nq Q0 c 3 1e2 t")
    assert read_run(path)["q"].doc_ids == ("c", "b", "a")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 d 1 0.5", r"line 2: 5 columns, expected 6: query Q0 document rank score tag"),
        ("q Q0 d 1 ٣ tag", "line 2: query 'q', document 'd': score '٣' is no number"),
        ("q Q0 d 1 1e308 tag", "line 2: .*: score 1e308 is beyond ±3.4e38, where all scores are equal; scale"),
        ("q Q0 d 1 high tag", "line 2: query 'q', document 'd': score 'high' is no number"),
        ("q Q0 d 1 1_0 tag", "line 2: .* score '1_0' is no number"),
        ("q Q0 d 1 nan tag", "line 2: query 'q', document 'd': the score is NaN"),
        ("q Q0 a 2 0.25 tag", "line 2: query 'q': document 'a' is there twice"),
    ],
)
def test_bad_run_lines(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "bad.run"
    path.write_text(f"q Q0 a 1 0.75 tag\n{line}\n")
    with pytest.raises(UserError, match=f"bad.run, {message}"):
        read_run(path)


ID_TROUBLES = {
    "a b": "has white space, which a TREC file cannot hold",
    "": "is empty",
    "a\n": "has white space",
    "a\x85": r"has a control character .*U\+0085",
    "\ud83d": r"half of a surrogate pair .*U\+D83D",
}


def test_ids_that_a_file_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "x.run"
    for bad, message in ID_TROUBLES.items():
        with pytest.raises(UserError, match=f"document id .* {message}"):
            write_run(path, [rank("q", [bad], [1.0])])
        with pytest.raises(UserError, match=f"query id .* {message}"):
            write_run(path, [rank(bad, ["d"], [1.0])])
    with pytest.raises(UserError, match="tag 'two words'"):
        write_run(path, [], tag="two words")
    with pytest.raises(UserError, match="query 'q' has two rankings"):
        write_run(path, [rank("q", ["a"], [1.0]), rank("q", ["b"], [1.0])])
    assert not path.exists()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.run: no such file"):
        read_run(tmp_path / "none.run")
    (tmp_path / "latin").write_bytes(b"q Q0 \xe9 1 1 t\n")
    with pytest.raises(UserError, match=r"latin, line 1: not UTF-8 .byte 6."):
        read_run(tmp_path / "latin")
    (tmp_path / "plain.gz").write_bytes(b"q Q0 a 1 1 t\n")
    with pytest.raises(UserError, match="plain.gz, after line 0: broken gzip"):
        read_run(tmp_path / "plain.gz")
    (tmp_path / "half.gz").write_bytes(gzip.compress(b"q Q0 a 1 1 t\n")[:-9])
    with pytest.raises(UserError, match="half.gz, after line [01]: broken gzip"):
        read_run(tmp_path / "half.gz")


QRELS = {
    "q.qrels": b"q1 0 a 2\nq1 0 b 0\nq2 0 a -1\n",
    "q.tsv": b"query-id\tcorpus-id\tscore\nq1\ta\t2\nq1\tb\t0\nq2\ta\t-1\n",
}


@pytest.mark.parametrize("name", ["q.qrels", "q.tsv", "q.qrels.gz", "q.tsv.gz"])
def test_both_forms_of_judgments_by_hand(tmp_path: Path, name: str) -> None:
    content = QRELS[name.removesuffix(".gz")]
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read_qrels(tmp_path / name) == {"q1": {"a": 2, "b": 0}, "q2": {"a": -1}}


def test_a_byte_order_mark_and_other_line_ends(tmp_path: Path) -> None:
    (tmp_path / "bom.tsv").write_bytes(b"\xef\xbb\xbfquery-id\tcorpus-id\tscore\r\nq\td\t1\r\n")
    assert read_qrels(tmp_path / "bom.tsv") == {"q": {"d": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q 0 a 1\nq 0 b\n", "line 2: 3 columns, expected 4: query 0 document grade .or the BEIR header"),
        ("query-id\tcorpus-id\tscore\nq\ta\n", "line 2: 2 columns, expected 3, tab-separated"),
        ("query-id\tcorpus-id\tscore\nq\t\t1\n", "line 2: 3 columns, expected 3"),
        ("q 0 a 1.5\n", "line 1: query 'q', document 'a': grade '1.5' is no integer"),
        ("q 0 a 1\nq 0 a 0\n", "line 2: query 'q': document 'a' is judged twice"),
    ],
)
def test_bad_judgments(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad"
    path.write_text(text)
    with pytest.raises(UserError, match=f"bad, {message}"):
        read_qrels(path)


def test_comments_are_passed_over_and_counted_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.qrels"
    path.write_text("# judged to depth 10\n#q9 0 d0 1\nq1 0 d0 1\n  # more\nq1 0 #d 2\n")
    notes: list[str] = []
    assert read_qrels(path, notes=notes) == {"q1": {"d0": 1, "#d": 2}}
    assert notes == [f"{path}: 3 comment lines (#) passed over"]
    assert read_qrels(path) and capsys.readouterr().err == f"{notes[0]}\n"
    path.write_text("# BEIR\nquery-id\tcorpus-id\tscore\nq1\td0\t1\n#q2\td0\t1\n")
    assert read_qrels(path, notes=notes) == {"q1": {"d0": 1}}


def test_columns_are_those_that_trec_eval_reads(tmp_path: Path) -> None:
    run, qrels = tmp_path / "a.run", tmp_path / "a.qrels"
    for odd in "\u00a0\u2028\u3000\u1680":
        run.write_text(f"q1 Q0 Foo{odd}Bar 1 3 bm25 k1=0.9 b=0.4\nq1\tQ0 {odd} 2 2 S\n", "utf-8")
        qrels.write_text(f"q1 0 Foo{odd}Bar 1\n\x0b q{odd} 0 d 2\r\n", "utf-8")
        assert read_run(run)["q1"].doc_ids == (f"Foo{odd}Bar", odd)
        assert read_qrels(qrels) == {"q1": {f"Foo{odd}Bar": 1}, f"q{odd}": {"d": 2}}
        write_run(run, [rank(f"q{odd}", [f"a{odd}b"], [1.0])])
        assert read_run(run)[f"q{odd}"].doc_ids == (f"a{odd}b",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1_0", "grade '1_0' is no integer; write a grade like 0 or 1, in ASCII digits"),
        ("٣", "grade '٣' is no integer"),
        ("+1", ".* is no integer"),
        ("2000000000", "grade '2000000000' is out of range; allowed: -1,000,000 to 1,000,000"),
        ("-1000001", ".* is out of range"),
        ("9" * 5000, "grade '9999.*9…' is out of range"),
    ],
)
def test_grades_are_small_integers_in_ascii_digits(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.qrels"
    path.write_text(f"q 0 a -1000000\nq 0 b {text}\n", "utf-8")
    with pytest.raises(UserError, match=f"a.qrels, line 2: query 'q', document 'b': {message}"):
        read_qrels(path)
