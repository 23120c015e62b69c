"""Mining of hard negatives: rankings and exclusions by hand, ties, ids, errors, and a real folder."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import data_folder, extra, run_config

from ablate.data import mined
from ablate.data.beir import BeirFolder
from ablate.data.mined import Mined
from ablate.data.mix import build_mix, content_digest
from ablate.records import EvaluationQuery, EvaluationSet, Passage, SourceRow, UserError
from ablate.retrieval import mining as mining_ranks
from ablate.retrieval.bm25 import Bm25, parameters
from ablate.retrieval.mining import NearDuplicates

WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda sigma".split()


def row(
    row_id: str, query: str, positives: str = "", *, answers: str = "", instruction: str = "", hard: str = ""
) -> SourceRow:
    return SourceRow(
        row_id=row_id,
        query_id=row_id[:2],
        query=query,
        instruction="",
        reversed_instruction="",
        paraphrase="",
        positives=tuple(positives.split()),
        hard_negatives=tuple(hard.split()),
        instruction_negatives=tuple(instruction.split()),
        answers=tuple(answers.split()),
    )


class Source:
    """Documents and rows as given, and one evaluation set with the judgments given."""

    revision = "r1"
    evaluation_names = ("test",)

    def __init__(
        self, texts: dict[str, str], rows: list[SourceRow], judged: dict[str, dict[str, int]] | None = None
    ) -> None:
        self.texts, self._rows, self._judged, self.asked = texts, rows, judged or {}, 0

    def rows(self) -> Iterator[SourceRow]:
        return iter(self._rows)

    def documents(self) -> Iterator[Passage]:
        self.asked += 1
        return (Passage(doc_id, text) for doc_id, text in self.texts.items())

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        return (Passage(doc_id, self.texts[doc_id]) for doc_id in doc_ids)

    def evaluation_set(self, name: str) -> EvaluationSet:
        queries = tuple(EvaluationQuery(text, text, text, "", "plain", "plain") for text in self._judged)
        return EvaluationSet(name, tuple(self.documents()), queries, self._judged, {}, ())


def mine(source: Any, **changes: Any) -> Mined:
    values: dict[str, Any] = {"kind": "bm25", "count": 2, "depth": 10, "skip": 0, "near_duplicate": 0.8}
    return Mined(source, **{**values, **changes})


def negatives(mined: Mined) -> dict[str, tuple[str, ...]]:
    return {row.row_id: row.hard_negatives for row in mined.rows()}


# One query word, once in each text: BM25 ranks by length alone, shortest first, and equal lengths by id.
TEXTS = {f"d{n}": " ".join(["film", *WORDS[:n]]) for n in (4, 3, 2, 1)} | {
    "e2": "film omega psi",
    "none": "nothing at all",
}
"""Ranking of `film`: d1, d2 = e2, d3, d4."""


def test_bm25_ranks_by_hand_and_ties_by_id() -> None:
    source = Source(TEXTS, [row("q1r1", "a film", "none")])
    assert negatives(mine(source, count=5)) == {"q1r1": ("d1", "d2", "e2", "d3", "d4")}  # `none` has no query word
    assert negatives(mine(source, count=2, skip=2)) == {"q1r1": ("e2", "d3")}
    turned = Source(dict(reversed(TEXTS.items())), [row("q1r1", "a film", "none")])
    assert negatives(mine(turned, count=5)) == {"q1r1": ("d1", "d2", "e2", "d3", "d4")}


def test_ties_at_the_cut_are_taken_by_id() -> None:
    texts = {f"d{n}": "film" for n in (7, 3, 9, 1, 5)} | {"x": "other words"}
    assert negatives(mine(Source(texts, [row("q1", "film", "x")]), count=3, depth=3)) == {"q1": ("d1", "d3", "d5")}


def test_bm25_scores_are_those_of_the_formula() -> None:
    index = Bm25(Passage(doc_id, text) for doc_id, text in TEXTS.items())
    scores = index.scores("film")
    # 6 documents, film in 5 of them; words that are no stop words: 5 4 3 2 3, and 1 or more in `none`
    (none,) = index._tokenize(["nothing at all"], stopwords="en", return_ids=False, show_progress=False)
    mean = (5 + 4 + 3 + 2 + 3 + len(none)) / 6
    idf = np.log(1 + (6 - 5 + 0.5) / (5 + 0.5))
    expected = [idf / (1 + 0.9 * (1 - 0.4 + 0.4 * length / mean)) for length in (5, 4, 3, 2, 3)] + [0]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_everything_known_to_answer_the_query_is_left_out() -> None:
    rows = [
        row("q1r1", "film", "d1", instruction="d2"),
        row("q1r2", " FILM? ", "d3"),  # the same query text, spelled otherwise
        row("q2r1", "psi", "none", answers="none"),
    ]
    source = Source(TEXTS, rows, {"Film": {"d4": 1, "e2": 0}, "psi": {"d1": 1}})
    assert negatives(mine(source, count=2)) == {"q1r1": ("e2",), "q1r2": ("e2",), "q2r1": ("e2",)}


def test_near_duplicates_of_answers_are_left_out() -> None:
    base = " ".join(WORDS)  # 12 words, 8 shingles
    texts = {
        "p": f"film {base}",  # 9 shingles
        "same": f"Film, {base.upper()}!",
        "longer": f"film {base} omega",  # 10 shingles, 9 shared: 9 / 10
        "changed": f"film {' '.join(WORDS[:8])} other words here now",  # 9 shingles, 5 shared: 5 / 13
        "far": "a film about psi",
    }
    source = Source(texts, [row("q1", "film", "p")])
    assert negatives(mine(source, near_duplicate=0.8))["q1"] == ("far", "changed")
    assert set(negatives(mine(source, count=3, near_duplicate=0.9))["q1"]) == {"far", "changed", "longer"}
    assert negatives(mine(source, count=1, near_duplicate=0.3))["q1"] == ("far",)
    every = negatives(mine(source, count=4, near_duplicate=1.0))["q1"]
    assert set(every) == {"far", "changed", "longer"}  # `same` has equal words, whatever the threshold


@pytest.mark.parametrize(
    ("text", "threshold", "expected"),
    [
        ("one two three four five six", 0.5, True),  # 2 of 2
        ("one two three four five", 0.5, False),  # 1 of 2 is not above .5
        ("one two three four five", 0.49, True),
        ("ONE two, three four five six.", 1.0, True),
        ("one two", 0.0, False),
        ("", 0.0, False),
    ],
)
def test_jaccard_of_five_word_shingles(text: str, threshold: float, expected: bool) -> None:
    assert NearDuplicates(["nothing alike", "one two three four five six"], threshold).has(text) is expected


def test_rows_with_hard_negatives_keep_them() -> None:
    source = Source(TEXTS, [row("q1r1", "film", "d1", hard="none"), row("q1r2", "film", "d2")])
    assert negatives(mine(source)) == {"q1r1": ("none",), "q1r2": ("e2", "d3")}
    alone = Source(TEXTS, [row("q1r1", "film", "d1", hard="none")])
    assert negatives(mine(alone)) == {"q1r1": ("none",)} and alone.asked == 0


def test_mining_is_lazy_and_happens_once_per_text() -> None:
    source = Source(TEXTS, [row("q1r1", "film", "d1"), row("q1r2", "film", "d2")])
    mined = mine(source)
    assert source.asked == 0
    first = list(mined.rows())
    asked = source.asked
    assert list(mined.rows()) == first and source.asked == asked
    assert [p.doc_id for p in mined.passages(["e2"])] == ["e2"]
    assert len(list(mined.documents())) == 6 and mined.evaluation_names == ("test",)
    assert mined.evaluation_set("test").name == "test"


# --- dense ------------------------------------------------------------------------------------------------------------


class Vectors:
    """An encoder that looks vectors up."""

    def __init__(self, documents: dict[str, list[float]], queries: dict[str, list[float]]) -> None:
        self.documents, self.queries, self.asked = documents, queries, list[tuple[str, str]]()

    def encode_queries(
        self, queries: Sequence[tuple[str, str]], *, progress: str | None = None
    ) -> npt.NDArray[np.float32]:
        self.asked += queries
        return np.array([self.queries[text] for text, _ in queries], dtype=np.float32)

    def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> npt.NDArray[np.float32]:
        return np.array([self.documents[passage.doc_id] for passage in passages], dtype=np.float32)


def test_dense_ranks_by_inner_product_and_ties_by_id() -> None:
    vectors = {"d4": [1, 0], "d3": [0, 2], "d2": [2, 2], "d1": [1, 3], "e2": [3, -9], "none": [-1, -1]}
    encoder = Vectors(vectors, {"film": [1, 0], "psi": [0, 1]})
    source = Source(TEXTS, [row("q1", "film", "none"), row("q2", "psi", "e2"), row("q3", "film", "none")])
    mined = mine(source, kind="dense", count=4, encoder=lambda: encoder, encoder_revision="v1")
    # film: e2 3, d2 2, d1 = d4 1, d3 0; psi: d1 3, d2 = d3 2, d4 0, none -1
    assert negatives(mined) == {
        "q1": ("e2", "d2", "d1", "d4"),
        "q2": ("d1", "d2", "d3", "d4"),
        "q3": ("e2", "d2", "d1", "d4"),
    }
    assert encoder.asked == [("film", ""), ("psi", "")]  # bare, and once per text


def test_dense_ties_beyond_the_first_candidates_are_taken_by_id() -> None:
    texts = {f"d{n:03}": f"text {n}" for n in reversed(range(300))} | {"p": "the positive"}
    vectors = {doc_id: [0.1, 0.2, 0.3] for doc_id in texts}
    source = Source(texts, [row("q1", "film", "p")])
    mined = mine(
        source, kind="dense", depth=3, encoder=lambda: Vectors(vectors, {"film": [0.7, 0.1, 0.9]}), encoder_revision="v"
    )
    assert negatives(mined) == {"q1": ("d000", "d001")}


def test_dense_equals_a_ranking_of_all_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining_ranks, "_DOCUMENTS_AT_ONCE", 100)
    monkeypatch.setattr(mining_ranks, "_QUERIES_AT_ONCE", 3)
    draws = np.random.default_rng(0)
    texts = {f"d{n:03}": f"text {n}" for n in draws.permutation(350)} | {"p": "the positive"}
    vectors = {doc_id: list(draws.integers(-2, 3, 4)) for doc_id in texts} | {"p": [0] * 4}
    queries = {f"query {n}": list(draws.integers(-2, 3, 4)) for n in range(7)}
    source = Source(texts, [row(f"q{n}", text, "p") for n, text in enumerate(queries)])
    mined = mine(
        source, kind="dense", count=30, depth=31, encoder=lambda: Vectors(vectors, queries), encoder_revision="v"
    )
    found = negatives(mined)
    for n, query in enumerate(queries.values()):
        ranked = sorted((doc for doc in texts if doc != "p"), key=lambda doc: (-int(np.dot(vectors[doc], query)), doc))
        assert found[f"q{n}"] == tuple(ranked[:30])


def test_a_vector_that_is_not_finite() -> None:
    vectors = {doc_id: [1.0] for doc_id in TEXTS} | {"d3": [float("nan")]}
    source = Source(TEXTS, [row("q1", "film", "d1")])
    broken = mine(source, kind="dense", encoder=lambda: Vectors(vectors, {"film": [1.0]}), encoder_revision="v")
    with pytest.raises(UserError, match="the vector of 'd3' has a NaN or an infinity; mine with another encoder"):
        list(broken.rows())


# --- what is mined, by content ---------------------------------------------------------------------------------------


class Corpus(Source):
    """Six thousand short documents, many of them alike, and a hundred queries with one row each."""

    def __init__(self) -> None:
        draws = np.random.Generator(np.random.PCG64(1))
        vocabulary = [f"word{number}" for number in range(60)]
        texts = {
            f"d{number}": " ".join(draws.choice(vocabulary, size=int(draws.integers(2, 6))))
            for number in draws.permutation(6000)
        }
        queries = [" ".join(draws.choice(vocabulary, size=3)) for _ in range(100)]
        super().__init__(texts, [row(f"q{n:02}", text, f"d{n}", answers=f"d{n}") for n, text in enumerate(queries)])

    def generated(self, doc_id: str) -> bool:
        return False

    def style_of(self, doc_id: str) -> str | None:
        return None


class Alike:
    """An encoder by the text alone: small whole numbers, so that many scores tie, or numbers of any size."""

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole

    def _vectors(self, texts: Iterable[str]) -> npt.NDArray[np.float32]:
        streams = [np.random.Generator(np.random.PCG64([*text.encode()])) for text in texts]
        drawn = [stream.integers(-1, 2, 12) if self.whole else stream.standard_normal(12) for stream in streams]
        return np.array(drawn, dtype=np.float32)

    def encode_queries(
        self, queries: Sequence[tuple[str, str]], *, progress: str | None = None
    ) -> npt.NDArray[np.float32]:
        return self._vectors(text for text, _ in queries)

    def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> npt.NDArray[np.float32]:
        return self._vectors(passage.text for passage in passages)


@pytest.mark.parametrize(
    ("changes", "digest"),
    [
        ({"kind": "bm25"}, "70c4c3ae5e881b0a"),
        ({"kind": "dense", "encoder": lambda: Alike(whole=True)}, "05eb72cbc3adafeb"),
        ({"kind": "dense", "encoder": lambda: Alike(whole=False)}, "24ffa8cd53efb7c3"),
    ],
    ids=["bm25", "dense with ties", "dense"],
)
def test_golden_mined_mixes(changes: dict[str, Any], digest: str) -> None:
    """A change here means other negatives under the same id: raise `_VERSION` of mining with it."""
    mined = mine(Corpus(), count=3, depth=100, skip=1, encoder_revision="v1", **changes)
    base = run_config("+experiment=query_only").recipe
    recipe = dataclasses.replace(
        base,
        source=dataclasses.replace(base.source, rows="all"),
        budget=dataclasses.replace(base.budget, limit=None, negatives_per_group=3),
    )
    assert content_digest(build_mix(mined, recipe, 0).groups)[:16] == digest


# --- ids and errors ---------------------------------------------------------------------------------------------------


def test_the_revision_holds_everything_that_decides_a_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(TEXTS, [])
    dense: dict[str, Any] = {"kind": "dense", "encoder": lambda: Vectors({}, {}), "encoder_revision": "v1"}
    changes: list[dict[str, Any]] = [
        {},
        {"count": 3},
        {"depth": 11},
        {"skip": 1},
        {"near_duplicate": 0.5},
        dense,
        {**dense, "encoder_revision": "v2"},
    ]
    found = {mine(source, **change).revision for change in changes}
    assert len(found) == len(changes) and mine(source).revision in found
    assert mine(source, near_duplicate=1).revision == mine(source, near_duplicate=1.0).revision
    other = Source(TEXTS, [])
    other.revision = "r2"
    assert mine(other).revision not in found
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.1")
    assert mine(source).revision not in found
    assert mine(source, **dense).revision in found  # bm25s has no part in it


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": "tfidf"}, "mining kind='tfidf' is not known; allowed: bm25, dense"),
        ({"depth": 3, "skip": 2}, "mining depth=3 cannot give count=2 after skip=2 ranks; .* depth at least 4"),
        ({"count": 0}, "count=0 .*; count must be at least 1"),
        ({"near_duplicate": 1.5}, "near_duplicate=1.5 is out of range; allowed: 0 to 1"),
        ({"kind": "dense"}, "kind='dense' needs an encoder and its revision"),
    ],
)
def test_errors_in_values(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        mine(Source(TEXTS, []), **changes)


def test_a_row_has_fewer_where_fewer_are_left() -> None:
    source = Source(TEXTS, [row("q1r1", "film", "d1"), row("q2r1", "psi", "d1"), row("q3", "the", "d1")])
    assert {name: len(found) for name, found in negatives(mine(source, count=2)).items()} == {
        "q1r1": 2,
        "q2r1": 1,
        "q3": 0,
    }


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(UserError, match="needs the package bm25s; run `pip install bm25s`"):
        _ = mine(Source(TEXTS, [])).revision


@pytest.mark.extras
def test_a_stemmer_finds_other_forms_of_a_word() -> None:
    extra("Stemmer")
    documents = [Passage("many", "two films"), Passage("other", "two songs")]
    assert Bm25(documents).scores("film").tolist() == [0, 0]
    many, other = Bm25(documents, "english").scores("film").tolist()
    assert many > 0 == other
    assert parameters("english")["stemmer"] == f"english {metadata.version('PyStemmer')}"
    plain, stemmed, porter = (mine(Source(TEXTS, []), stemmer=name).revision for name in (None, "english", "porter"))
    assert len({plain, stemmed, porter}) == 3


def test_without_the_stemmer_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        if name == "PyStemmer":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", missing)
    assert parameters(None)["stemmer"] is None
    for asked in (lambda: parameters("porter"), lambda: mine(Source(TEXTS, []), stemmer="porter").revision):
        with pytest.raises(UserError, match="stemmer=porter needs the package PyStemmer; run `pip install PyStemmer`"):
            asked()


def test_progress_is_for_terminals_and_for_long_work_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(stream: io.StringIO, quiet: float) -> str:
        monkeypatch.setattr(mined, "QUIET_S", quiet)
        monkeypatch.setattr(sys, "stderr", stream)
        list(mine(Source(TEXTS, [row("q1", "film", "d1")])).rows())
        return stream.getvalue()

    assert shown(io.StringIO(), 0.0) == "" and shown(Terminal(), 60.0) == ""
    assert shown(Terminal(), 0.0).startswith("\rmining hard negatives (bm25):   0%")


# --- a real folder ----------------------------------------------------------------------------------------------------


def test_movies() -> None:
    path = data_folder("movies")
    folder = BeirFolder(
        path=str(path), train_split="train", evaluation_splits=("dev",), skew=0.5, seed=0, reversals=None
    )
    mined = mine(folder, count=8, depth=100)
    rows = list(mined.rows())
    assert len(rows) == len(list(folder.rows())) > 1000
    assert {len(set(row.hard_negatives)) for row in rows} == {8}
    for one in rows:
        assert not set(one.hard_negatives) & {*one.answers, *one.positives, *one.instruction_negatives}
    assert len({row.hard_negatives for row in rows}) > 90  # one list per query, and queries differ
    assert list(mine(folder, count=8, depth=100).rows()) == rows
