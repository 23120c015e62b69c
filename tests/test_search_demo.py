"""`python -m ablate.search`: the two columns by hand, the kept vectors, and mistakes in one line."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

from ablate.model.encoder import BiEncoder
from ablate.recipe.schema import MtebSource
from ablate.records import EvaluationSet, Passage
from ablate.release.finished import find_run
from ablate.retrieval.rankings import rank
from ablate.search import PLAIN_ARROWS, Corpus, _arrows_for, _columns, _fit, corpus_of_run, main, side_by_side
from ablate.store.results import ResultStore

RUN = "polarity/dual_view:0"
DOCUMENTS = [Passage("a", "first words of a", "Title A"), Passage("b", "words of b"), Passage("c", "of c", "Title C")]
CORPUS = Corpus("three", {document.doc_id: document for document in DOCUMENTS})


def test_two_columns_by_hand() -> None:
    rankings = [rank("without", ["a", "b", "c"], [0.9, 0.8, 0.1]), rank("with", ["a", "b", "c"], [0.2, 0.8, 0.9])]
    lines = side_by_side(CORPUS, rankings, top=2, width=63).splitlines()
    assert lines[0] == "without the instruction        | with the instruction"
    assert lines[2] == "  1 →3      0.900  Title A     |   1 ↑2      0.900  Title C"
    assert lines[3] == "    first words of a           |     of c"
    assert lines[5] == "  2 →2      0.800  b           |   2 =       0.800  b"
    assert "1 of the top 2 with the instruction are not in the top 2 without it" in lines
    down = side_by_side(CORPUS, rankings[::-1], top=3, width=63).splitlines()
    assert down[8].startswith("  3 →1") and "|   3 ↓2      0.100  Title C" in down[8]


def test_one_column_without_an_instruction_and_no_more_than_there_is() -> None:
    only = [rank("without", ["a", "b", "c"], [0.9, 0.8, 0.1])]
    text = side_by_side(CORPUS, only, top=10, width=60)
    assert "|" not in text and [line[:3] for line in text.splitlines()[::3]] == ["  1", "  2", "  3"]


@pytest.mark.parametrize("text", ["short", "x" * 100, "日本語" * 20, "e\u0301" * 50, "word " * 40, ""])
@pytest.mark.parametrize("width", [5, 29, 80])
def test_a_line_has_its_columns_whatever_the_script(text: str, width: int) -> None:
    assert _columns(_fit(text, width, PLAIN_ARROWS)) == width


def test_nothing_in_a_document_can_steer_the_terminal() -> None:
    corpus = Corpus("one", {"a": Passage("a", "before\x1b[2J\nafter\u202e", "\x07title")})
    text = side_by_side(corpus, [rank("without", ["a"], [1.0])], top=1, width=60)
    assert all(char.isprintable() for line in text.splitlines() for char in line)
    assert _arrows_for("ascii") is PLAIN_ARROWS and _arrows_for(None) is PLAIN_ARROWS
    assert _arrows_for("utf-8")["up"] == "↑"


def search(results: Path, *arguments: str) -> int:
    return main([RUN, "a place near the sea", "--results", str(results), *arguments])


def test_the_documents_of_the_run_are_searched_and_their_vectors_kept(
    own_tiny_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert search(own_tiny_runs, "--instruction", "Only with a garden.", "--top", "3") == 0
    first = capsys.readouterr().out
    assert "of world/test" in first and "instruction  Only with a garden." in first
    assert max(map(len, first.splitlines()[3:])) <= 100
    ((kept),) = list((own_tiny_runs / "vectors").iterdir())
    run = find_run(ResultStore(own_tiny_runs), RUN)
    assert kept.name.startswith(run.manifest.id) and np.load(kept)["vectors"].dtype == np.float32

    def never(*_: object, **__: object) -> None:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patched:
        patched.setattr(BiEncoder, "encode_passages", never)
        assert search(own_tiny_runs, "--instruction", "Only with a garden.", "--top", "3") == 0
    assert capsys.readouterr().out == first
    whole = kept.read_bytes()
    vectors = np.load(kept)["vectors"]
    other_order = io.BytesIO()
    np.savez(other_order, vectors=vectors[::-1], of=np.array(f"{run.manifest.id} of another order"))
    flipped = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    for damaged in (whole[:200], flipped, other_order.getvalue()):
        kept.write_bytes(damaged)
        assert search(own_tiny_runs, "--instruction", "Only with a garden.", "--top", "3") == 0
        again = capsys.readouterr()
        assert again.out == first and "encoding again" in again.err
    assert list((own_tiny_runs / "vectors").iterdir()) == [kept]


def test_a_corpus_of_ones_own(own_tiny_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": d.doc_id, "title": d.title, "text": d.text}) + "\n" for d in DOCUMENTS))
    assert search(own_tiny_runs, "--corpus", str(path)) == 0
    out = capsys.readouterr().out
    assert "3 of " in out and "Title A" in out and "|" not in out
    assert search(own_tiny_runs, "--corpus", str(path), "--instruction", "word " * 200) == 0
    assert "note: cut to 64 tokens (model.query_length): the end is not read" in capsys.readouterr().out
    path.write_text('{"_id": "a"}\n')
    assert search(own_tiny_runs, "--corpus", str(path)) == 2
    assert "corpus.jsonl, line 1: `text` is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--top", "0"], "--top 0 shows nothing; give 1 or more"),
        (["--set", "dev"], "--set 'dev' is not one of this run's evaluation sets: test"),
        (["--corpus", "/nowhere/corpus.jsonl"], "/nowhere/corpus.jsonl"),
        (["--results", "/nowhere"], "--results '/nowhere' is no folder"),
    ],
)
def test_mistakes_are_one_line(
    tiny_runs: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(tiny_runs, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert main([RUN, " ", "--results", str(tiny_runs)]) == 2
    assert "the query is empty" in capsys.readouterr().err


def test_the_documents_of_an_official_benchmark_are_opened_as_one(
    tiny_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = find_run(ResultStore(tiny_runs), RUN)
    benchmark = MtebSource(kind="mteb", path=None, split=None, revisions=(("NevIR", "a" * 40),))
    evaluation = dataclasses.replace(run.recipe.evaluation, source=benchmark, sets=("NevIR",))
    official = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, evaluation=evaluation))

    class Tasks:
        def __init__(self, **given: object) -> None:
            assert given["sets"] == ("NevIR",) and given["caches"] == tiny_runs / "cache"

        def evaluation_set(self, name: str) -> EvaluationSet:
            return EvaluationSet(f"mteb/{name}", tuple(DOCUMENTS), (), {}, {}, ())

    monkeypatch.setattr("ablate.data.official.OfficialTasks", Tasks)
    assert corpus_of_run(official, None) == Corpus("mteb/NevIR", CORPUS.documents)
