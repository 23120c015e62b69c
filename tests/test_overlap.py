"""What a mix and an evaluation set share: equal and near texts, templates, judged pairs; near by the definition."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from conftest import ROOT

from ablate.data import overlap
from ablate.data.overlap import (
    KINDS,
    SHINGLE_WORDS,
    Touched,
    Trained,
    near,
    overlap_of_documents,
    plain_text,
    shingle_blocks,
    template_of,
    touched,
    trained_pairs,
    words_of,
)
from ablate.records import EvaluationQuery, EvaluationSet, Passage, TrainingGroup

WORDS = [f"w{number}" for number in range(100)]
LONG = " ".join(WORDS[:20])


def near_pairs(
    passages: Sequence[str], documents: Sequence[str], threshold: float = 0.5, most: int = 10**6
) -> dict[tuple[int, int], float]:
    """Return (document, passage) -> share."""
    return {
        (document, passage): share
        for matches in near(passages, lambda: documents, threshold, most)
        for document, passage, share in zip(*(column.tolist() for column in matches), strict=True)
    }


def by_definition(passages: Sequence[str], documents: Sequence[str], threshold: float) -> dict[tuple[int, int], float]:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = words_of(text)
        starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
        return {tuple(words[start : start + SHINGLE_WORDS]) for start in starts} if words else set()

    pairs = {}
    for passage, held in enumerate(map(shingles, passages)):
        for document, own in enumerate(map(shingles, documents)):
            if own and own & held and len(own & held) / len(own) >= threshold:
                pairs[document, passage] = len(own & held) / len(own)
    return pairs


@pytest.mark.parametrize(
    ("passage", "document", "share"),
    [
        (LONG, LONG, 1.0),
        (LONG, LONG.upper().replace(" ", ",  "), 1.0),
        ("Straße Ｗ１ " + LONG, "STRASSE w1 " + LONG, 1.0),  # case folding and compatible forms
        ("before " * 30 + LONG, LONG, 1.0),  # a document cut out of a passage
        (LONG, LONG + " x" * 5, 13 / 18),
        (LONG, " ".join(WORDS[:10] + ["other"] + WORDS[11:20]), 5 / 13),  # below the threshold
        (LONG, " ".join(WORDS[40:80]) + " " + LONG, 13 / 53),  # a passage cut out of a document
        ("", "", None),
        (" ... ", "!?", None),
        ("word", "Word!", 1.0),
        ("word", "word word", None),
        ("a b c", "a b c d", None),
        ("a b c d e f g h", "a b c d e f g h", 1.0),
        ("a b c d e f g", "x a b c d e f g", None),
        ("東京は日本の首都である", "東京は日本の首都である。", 1.0),  # no blanks between words
        ("東京は日本の首都であると思う", "東京は日本の首都である", 1.0),
    ],
)
def test_a_document_is_near_by_the_share_of_its_shingles(passage: str, document: str, share: float | None) -> None:
    expected = {} if share is None or share < 0.5 else {(0, 0): share}
    assert near_pairs([passage], [document]) == pytest.approx(expected)
    if share is not None:
        assert near_pairs([passage], [document], share) == pytest.approx({(0, 0): share})
        assert near_pairs([passage], [document], min(1.0, share + 0.01)) == ({(0, 0): 1.0} if share == 1 else {})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
def test_the_search_gives_what_the_definition_gives(
    seed: int, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "_MOST_WORDS", 300)  # several blocks, forgotten hashes of words
    monkeypatch.setattr(overlap, "_MOST_HITS", 20)
    draw = np.random.Generator(np.random.PCG64(seed))
    sentences = [" ".join(draw.choice(WORDS[: 5 + 15 * seed], int(draw.integers(0, 15)))) for _ in range(12)]
    texts = [". ".join(draw.choice(sentences, int(draw.integers(0, 5)))) for _ in range(120)]
    passages, documents = texts[:60], texts[60:] + texts[:3]
    expected = by_definition(passages, documents, threshold)
    assert len(expected) > 10
    for most in (1, 100, 10**6):  # parts of the passages
        assert near_pairs(passages, documents, threshold, most) == pytest.approx(expected)


def test_hashes_are_the_same_in_every_process() -> None:
    asked = "next(shingle_blocks(['a b c d e f g h i'])).hashes.sum()"
    code = f"from ablate.data.overlap import shingle_blocks; print({asked})"
    sums = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert sums == {f"{next(shingle_blocks(['a b c d e f g h i'])).hashes.sum()}\n"}


def test_no_texts_are_near_nothing() -> None:
    assert near_pairs([], [LONG]) == near_pairs([LONG], []) == near_pairs([""], [LONG]) == {}


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        (("Only films of 1990 count.", "films with Ann"), ("only Films of 2001 count", "films with Bob"), True),
        (("Nothing by Ann Miller.", "songs by Ann Miller"), ("Nothing by Miller.", "songs by Miller"), False),
        (("Only hotels in Reykjavik.", "Reykjavik hotels"), ("Only hotels in Salzburg", "hotels Salzburg"), True),
        (("Only hotels in Reykjavik.", "places"), ("Only hotels in Salzburg", "places"), False),
    ],
)
def test_templates_mask_numbers_and_words_of_the_query(
    first: tuple[str, str], second: tuple[str, str], is_same: bool
) -> None:
    assert (template_of(*first) == template_of(*second)) is is_same
    assert template_of("", "query") == template_of("Hotels 1990", "hotels") == ""


def passage_of(doc_id: str, text: str, title: str = "") -> Passage:
    return Passage(doc_id, text, title)


PASSAGES = {
    passage.doc_id: passage
    for passage in (
        passage_of("t1", LONG),
        passage_of("t2", "The second text", "Title"),
        passage_of("t3", "a negative"),
        passage_of("t4", ""),
    )
}
GROUPS = [
    TrainingGroup("g1/plain", "q1", "What is it?", "Only of 1990.", "original", ("t1",), ("t3",), ()),
    TrainingGroup("g2/plain", "q2", "Where", "", "plain", ("t2", "t4"), (), ()),
]


def evaluation_set() -> EvaluationSet:
    documents = (
        passage_of("d1", LONG.upper()),  # equal to t1
        passage_of("d2", "title  the second TEXT"),  # equal to t2, whose title is apart
        passage_of("d3", LONG + " more"),  # near t1
        passage_of("d4", "a negative"),
        passage_of("d5", ""),
    )
    queries = tuple(
        EvaluationQuery(query_id, query_id, text, instruction, "original", "original")
        for query_id, text, instruction in (
            ("e1", "what  IS it?", "only of  1990."),
            ("e2", "where", "Only of 1991."),
            ("e3", "Another", "Other words"),
            ("e4", "what is it?", ""),
        )
    )
    qrels = {"e1": {"d1": 1, "d3": 2, "d2": 0}, "e2": {"d1": 1, "d5": 1}, "e3": {"d4": 1}}  # e4 is unjudged
    return EvaluationSet("s/test", documents, queries, qrels, {}, ())


def test_what_is_touched_is_counted_by_kind() -> None:
    trained, bed = Trained(), evaluation_set()
    trained.add("mix", GROUPS, PASSAGES)
    trained.add("other", GROUPS[1:], {doc_id: PASSAGES[doc_id] for doc_id in ("t2", "t4")})
    texts = [plain_text(passage) for passage in PASSAGES.values()]
    (shared,) = overlap_of_documents(trained, [bed], texts)
    kinds = {kind.kind: kind for kind in touched(trained.mixes["mix"], trained.names, bed, shared)}
    assert tuple(kinds) == KINDS
    assert kinds["queries"] == Touched("queries", 3, {"e1": "what  IS it?", "e2": "where"}, frozenset({"e1", "e2"}))
    assert (kinds["instructions"].examples, kinds["instructions"].number) == ({"only of 1990.": "e1"}, 3)
    assert list(kinds["templates"].examples) == ["only of #"]
    assert kinds["documents, equal"].examples == {"d1": "t1", "d2": "t2", "d4": "t3"}  # d5 has no text
    assert kinds["documents, equal"].queries == {"e1", "e2"}  # t3 is a negative
    assert kinds["documents, near"].examples == {"d3": "t1 (0.93)"}
    assert kinds["documents, near"].queries == {"e1"}
    assert (kinds["pairs, equal"].examples, kinds["pairs, equal"].number) == ({"e1 d1": "t1 (1.00)"}, 5)
    assert kinds["pairs, near"].examples == {"e1 d3": "t1 (0.93)"}
    others = {kind.kind: kind.examples for kind in touched(trained.mixes["other"], trained.names, bed, shared)}
    assert others["documents, equal"] == {"d2": "t2"}
    assert not others["documents, near"] and not others["pairs, equal"] and not others["templates"]
    assert [kind.kind for kind in touched(trained.mixes["mix"], trained.names, bed, None)] == list(KINDS[:3])


def test_nothing_shared_is_nothing_found() -> None:
    trained, bed = Trained(), evaluation_set()
    trained.add("mix", [], {})
    (shared,) = overlap_of_documents(trained, [bed], [])
    assert all(not kind.examples for kind in touched(trained.mixes["mix"], trained.names, bed, shared))


def test_pairs_by_id_need_the_same_query_text() -> None:
    bed = evaluation_set()
    assert trained_pairs({"what is it?": {"d1", "d2", "d3"}, "where": {"d4"}}, bed) == {"e1": 2}
    assert trained_pairs({"what": {"d1"}}, bed) == {}
