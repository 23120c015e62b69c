"""Long documents: passages by stride and the best of them; vectors in shards that survive a kill."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import override, run_config
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.evaluation.scoring import evaluate
from ablate.model import encoder as encoder_module
from ablate.model.encoder import BiEncoder
from ablate.recipe.schema import ModelConfig, TinyModel
from ablate.records import EvaluationQuery, EvaluationSet, Passage, UserError
from ablate.retrieval.exact import Corpus, search
from ablate.retrieval.vectors import DocumentVectors, Retrieval, encode_all
from ablate.store.files import EMBEDDINGS_FOLDER

WORDS = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay")
MODEL = ModelConfig(
    name="tiny",
    path=None,
    hub_revision=None,
    tiny=TinyModel(vocabulary=120, hidden=16, layers=1, heads=2),
    lora=None,
    pooling="mean",
    normalise=True,
    query_prefix="",
    passage_prefix="",
    separator=" ",
    order="query_first",
    append_eos=False,
    query_length=16,
    passage_length=12,
    dropout=0.0,
    trust_remote_code=False,
)


def tiny(**changes: object) -> BiEncoder:
    model = dataclasses.replace(MODEL, **changes)  # type: ignore[arg-type]
    return BiEncoder.from_config(model, seed=1, tokenizer_texts=[" ".join(WORDS), "p : title of it"])


ENCODER = tiny()


def text_of(encoder: BiEncoder, ids: np.ndarray) -> str:
    return str(encoder.tokenizer.decode(ids))


# Windows


def test_windows_by_hand() -> None:
    long = Passage("long", "ant bee cat dog elk fox gnu")
    windows = ENCODER.template.tokenise_windows([long, Passage("short", "ant bee"), Passage("empty", "")], 4, 2)
    assert [text_of(ENCODER, ids) for ids in windows.ids] == [
        "[CLS] ant bee cat dog [SEP]",
        "[CLS] cat dog elk fox [SEP]",
        "[CLS] elk fox gnu [SEP]",
        "[CLS] ant bee [SEP]",
        "[CLS] [SEP]",
    ]
    assert (windows.num_passages, windows.num_truncated) == ([3, 1, 1], 0)


def test_prefix_and_title_stand_before_every_window_and_a_title_without_room_is_cut_and_counted() -> None:
    encoder = tiny(passage_prefix="p: ")
    titled = Passage("d", "ant bee cat dog elk", "title of it")
    windows = encoder.template.tokenise_windows([titled], 3, 3)
    assert [text_of(encoder, ids) for ids in windows.ids] == [
        "[CLS] p : title of it ant bee cat [SEP]",
        "[CLS] p : title of it dog elk [SEP]",
    ]
    assert windows.num_truncated == 0
    windows = encoder.template.tokenise_windows([titled], 7, 3)  # the text is shorter and leaves the title room
    assert text_of(encoder, windows.ids[0]) == "[CLS] p : title of it ant bee cat dog elk [SEP]"
    assert windows.num_truncated == 0
    longer = Passage("f", " ".join(WORDS[:8]), "title of it")
    windows = encoder.template.tokenise_windows([longer], 7, 7)
    assert text_of(encoder, windows.ids[0]) == "[CLS] p : title ant bee cat dog elk fox gnu [SEP]"
    assert windows.num_truncated == 1 and len(windows.ids[0]) == MODEL.passage_length


def test_a_prefix_without_room_is_refused() -> None:
    encoder = tiny(passage_prefix="p: ")
    message = "evaluation.window=9 leaves 1 of model.passage_length=12 tokens beside special tokens, and the prefix"
    with pytest.raises(UserError, match=message):
        encoder.template.tokenise_windows([Passage("d", "ant")], 9, 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 10), st.data())
def test_windows_cover_every_token_with_the_stated_overlap(length: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    body = [WORDS[place % len(WORDS)] for place in range(length)]
    found = ENCODER.template.tokenise_windows([Passage("d", " ".join(body))], window, stride)
    parts = [text_of(ENCODER, ids).split()[1:-1] for ids in found.ids]
    joined = list(parts[0])
    for before, part in zip(parts, parts[1:], strict=False):
        assert len(before) == window and before[stride:] == part[: window - stride]
        joined += part[window - stride :]
        assert len(part) > window - stride, "every passage brings new tokens"
    assert joined == body and all(len(part) <= window for part in parts) and found.num_passages == [len(parts)]


def test_documents_that_fit_have_the_vectors_of_passages() -> None:
    passages = [Passage("a", "ant bee"), Passage("b", "cat", "title"), Passage("c", "")]
    vectors, numbers, cut = ENCODER.encode_documents(passages, window=8, stride=4)
    assert np.array_equal(vectors, ENCODER.encode_passages(passages)) and numbers.tolist() == [1, 1, 1] and cut == 0
    whole, numbers, cut = ENCODER.encode_documents([*passages, Passage("d", " ".join(WORDS * 2))])
    assert len(whole) == 4 and numbers.tolist() == [1, 1, 1, 1] and cut == 1


# The best passage


def in_parts(vectors: np.ndarray, passages: Sequence[int] | None, *sizes: int) -> DocumentVectors:
    ends = np.cumsum(sizes)
    parts = tuple(np.split(vectors, ends[:-1]))
    return DocumentVectors(parts, tuple(map(len, parts)), None if passages is None else np.array(passages))


def test_best_passage_by_hand() -> None:
    vectors = np.array([[1, 0], [3, 0], [2, 9], [0, 5], [3, 1], [-1, -1]], dtype=np.float32)
    documents = in_parts(vectors, [2, 1, 2, 1], 6)  # a: rows 0 and 1, b: 2, c: 3 and 4, d: 5
    queries = np.array([[1, 0], [0, 1]], dtype=np.float32)
    first, second = search(documents, queries, ["a", "b", "c", "d"], ["q1", "q2"], 3)
    assert (first.doc_ids, first.scores.tolist()) == (("c", "a", "b"), [3.0, 3.0, 2.0])  # the tie by id, descending
    assert (second.doc_ids, second.scores.tolist()) == (("b", "c", "a"), [9.0, 5.0, 0.0])


@pytest.mark.parametrize("sizes", [(9000,), (4000, 4999, 1), (1000,) * 9])
def test_best_passage_equals_ranking_all_scores(sizes: tuple[int, ...]) -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    numbers = [4000, *([5] * 1000)]  # one document holds the best thousands of passages: candidates are extended
    vectors = generator.integers(-3, 4, (9000, 4)).astype(np.float32)
    vectors[:4000] = 3
    queries = generator.integers(-2, 3, (5, 4)).astype(np.float32)
    queries[0] = 1
    doc_ids = [f"d{place}" for place in range(1001)]
    starts = np.cumsum([0, *numbers])[:-1]
    best = np.maximum.reduceat(queries @ vectors.T, starts, axis=1)
    found = search(in_parts(vectors, numbers, *sizes), queries, doc_ids, list("abcde"), 40)
    for scores, ranking in zip(best, found, strict=True):
        expected = sorted(zip(scores.tolist(), doc_ids, strict=True), reverse=True)[:40]
        assert ranking.doc_ids == tuple(doc_id for _, doc_id in expected)
        assert ranking.scores.tolist() == [score for score, _ in expected]


def test_a_bad_passage_names_its_document() -> None:
    vectors = np.zeros((5, 2), dtype=np.float32)
    vectors[3, 1] = np.nan
    with pytest.raises(UserError, match="document 'b': its vector has a NaN"):
        Corpus(in_parts(vectors, [1, 3, 1], 2, 3), ["a", "b", "c"])
    with pytest.raises(UserError, match=r"document vectors have shape \(2, 2\) .* expected \(6, H\) float32"):
        Corpus(in_parts(vectors, [1, 4, 1], 2, 3), ["a", "b", "c"])


# In an evaluation


def bed(num_documents: int, words: int = 3) -> EvaluationSet:
    documents = [
        Passage(f"d{place}", " ".join(WORDS[(place + step) % len(WORDS)] for step in range(words + place % 4)))
        for place in range(num_documents)
    ]
    queries = [EvaluationQuery(f"q{word}", f"q{word}", word, "", "plain", "plain") for word in WORDS]
    qrels = {f"q{word}": {f"d{place}": 1} for place, word in enumerate(WORDS)}
    return EvaluationSet("toy/test", tuple(documents), tuple(queries), qrels, {}, ())


def test_a_needle_at_the_end_is_found_with_windows_and_cut_documents_are_counted_without() -> None:
    documents = (
        Passage("needle", " ".join(["ant"] * 30 + ["jay"] * 4)),
        Passage("hay", " ".join(["ant"] * 30 + ["bee"] * 4)),
        Passage("short", "cat"),
    )
    query = EvaluationQuery("q", "q", "jay jay jay jay", "", "plain", "plain")
    one = EvaluationSet("toy/test", documents, (query,), {"q": {"needle": 1}}, {}, ())
    plain = evaluate(ENCODER, [one], depth=3)
    assert plain.counts["toy/test"]["documents cut to length"] == 2
    assert (
        "toy/test: 2 of 3 documents are cut to the model's length, and the rest of their text is not read; "
        "evaluation.window and evaluation.stride split them" in plain.warnings
    )
    ranking = plain.rankings["toy/test", "plain"][0]
    assert ranking.scores_of(["needle"]) == ranking.scores_of(["hay"])
    split = evaluate(ENCODER, [one], depth=3, retrieval=Retrieval(window=4, stride=2))
    ranking = split.rankings["toy/test", "plain"][0]
    assert ranking.doc_ids[0] == "needle" and ranking.scores[0] == pytest.approx(1.0)
    counts = split.counts["toy/test"]
    assert (counts["documents split"], counts["passages"], counts["documents cut to length"]) == (2, 33, 0)
    assert not any("cut" in warning for warning in split.warnings)


class Fake:
    """An encoder that cannot split."""

    def encode_queries(self, queries: Sequence[tuple[str, str]], *, progress: str | None = None) -> np.ndarray:
        return np.ones((len(queries), 2), np.float32)

    def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> np.ndarray:
        return np.array([[len(passage.text), 1] for passage in passages], np.float32)


def test_an_encoder_that_cannot_split_is_refused_and_one_that_does_not_count_has_no_count() -> None:
    with pytest.raises(UserError, match="window=4 needs an encoder that splits documents, and Fake does not"):
        evaluate(Fake(), [bed(10)], depth=3, retrieval=Retrieval(window=4, stride=2))
    assert "documents cut to length" not in evaluate(Fake(), [bed(10)], depth=3).counts["toy/test"]


# Shards


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 documents instead of thousands."""
    monkeypatch.setattr(encoder_module, "SORTED_AT_ONCE", 16)


class Killed(BaseException):
    """Stands for the end of the process."""


class Spy:
    """Counts the documents that are encoded, and is killed after some calls."""

    def __init__(self, encoder: BiEncoder, calls: int | None = None) -> None:
        self.encoder, self.calls, self.seen = encoder, calls, list[int]()

    @property
    def block_size(self) -> int:
        return self.encoder.block_size

    def encode_queries(self, queries, **options):  # type: ignore[no-untyped-def]
        return self.encoder.encode_queries(queries, **options)

    def encode_passages(self, passages, **options):  # type: ignore[no-untyped-def]
        raise AssertionError("documents are encoded as documents")

    def encode_documents(self, documents, **options):  # type: ignore[no-untyped-def]
        if self.calls is not None and len(self.seen) == self.calls:
            raise Killed
        self.seen.append(len(documents))
        return self.encoder.encode_documents(documents, **options)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("window", [None, 3])
def test_shards_equal_memory_to_the_bit_and_a_killed_evaluation_encodes_only_what_is_missing(
    tmp_path: Path, window: int | None
) -> None:
    one, stride = bed(70), None if window is None else 2
    whole = evaluate(ENCODER, [one], depth=20, retrieval=Retrieval(window=window, stride=stride))
    retrieval = Retrieval(window=window, stride=stride, shard_size=20, folder=tmp_path)  # 20 becomes 32: two blocks
    with pytest.raises(Killed):
        evaluate(Spy(ENCODER, calls=2), [one], depth=20, retrieval=retrieval)
    assert len(list(tmp_path.rglob("*.npy"))) == len(list(tmp_path.rglob("*.json"))) == 2
    spy = Spy(ENCODER)
    assert evaluate(spy, [one], depth=20, retrieval=retrieval) == whole
    assert spy.seen == [6]
    again = Spy(ENCODER)
    assert evaluate(again, [one], depth=20, retrieval=retrieval) == whole and again.seen == []


@pytest.mark.usefixtures("blocks")
def test_a_shard_that_is_torn_or_of_other_documents_is_encoded_again(tmp_path: Path) -> None:
    retrieval = Retrieval(shard_size=16, folder=tmp_path)
    documents = bed(40).documents
    before = encode_all(ENCODER, documents, retrieval)
    paths = [path for path in before.parts if isinstance(path, Path)]
    known = json.loads(paths[0].with_suffix(".json").read_text())
    assert (known["documents"], known["rows"], known["dimensions"], known["cut"]) == (16, 16, 16, 0)
    paths[1].write_bytes(paths[1].read_bytes()[:-4])
    paths[2].with_suffix(".json").write_text("{")
    spy = Spy(ENCODER)
    encode_all(spy, documents, retrieval)
    assert spy.seen == [16, 8]
    spy = Spy(ENCODER)
    encode_all(spy, (Passage("other", "ant"), *documents[1:]), retrieval)
    assert spy.seen == [16]


def test_shards_of_a_run_go_when_its_scores_are_there_unless_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablate.engine import stages
    from ablate.engine.prepare import prepare

    monkeypatch.setattr(encoder_module, "SORTED_AT_ONCE", 32)
    small = ("model=tiny", "source.documents=600", "evaluation.sets=[test]", "tracker=none", "runtime.threads=1")
    kept = ("runtime.shard_size=32", "runtime.keep_embeddings=true")
    found = []
    for name, *overrides in (("whole",), ("shards", kept[0]), ("kept", *kept)):
        run = prepare(run_config(*small, override("runtime.results", tmp_path / name), *overrides))
        found.append(stages.make_scores(run, "untouched")[0])
        files = run.store.folder("evaluation", run.identity.untouched_id) / EMBEDDINGS_FOLDER
        assert files.exists() == (name == "kept")
    assert len(list(files.rglob("*.npy"))) > 1
    assert found[0] == found[1] == found[2]


@pytest.mark.usefixtures("blocks")
def test_a_small_set_writes_nothing(tmp_path: Path) -> None:
    vectors = encode_all(ENCODER, bed(20).documents, Retrieval(shard_size=20, folder=tmp_path))
    assert isinstance(vectors.parts[0], np.ndarray) and list(tmp_path.iterdir()) == []
