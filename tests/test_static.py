"""A static table of token vectors: means by hand, training on the rows that a mix shows, formats of others, export."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HandMadeSource, extra, run_config
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from ablate.data.mix import build_mix
from ablate.model.backbone import resolve_backbone
from ablate.model.encoder import BiEncoder, StaticEncoder
from ablate.model.module import fit
from ablate.model.prepared import PreparedTraining
from ablate.model.static import StaticTable, flat
from ablate.recipe.schema import ModelConfig, StaticModel
from ablate.records import Passage, UserError
from ablate.release.portable import check_portable, plain_vectors, write_portable

WORDS = ("[UNK]", "red", "blue", "cat", "dog", "only", "not", "never")
TABLE = torch.arange(16, dtype=torch.float32).reshape(8, 2) + 1


def folder_of(place: Path, tensors: dict[str, torch.Tensor], words: tuple[str, ...] = WORDS) -> Path:
    place.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(place / "tokenizer.json"))
    save_file(tensors, place / "model.safetensors")
    return place


def config(place: Path, **values: object) -> ModelConfig:
    own = {"path": str(place), "query_length": 6, "passage_length": 6, "normalise": False, **values}
    return dataclasses.replace(run_config("model=static").recipe.model, **own)


def opened(place: Path, seed: int = 0, **values: object) -> BiEncoder:
    return BiEncoder.from_config(config(place, **values), seed=seed)


def test_a_text_is_the_mean_of_the_vectors_of_its_first_tokens(tmp_path: Path) -> None:
    encoder = opened(folder_of(tmp_path / "t", {"embedding.weight": TABLE.clone()}))
    # red = (3, 4), cat = (7, 8), only = (11, 12); an unknown word has the vector of [UNK], (1, 2)
    vectors = encoder.encode_queries([("red cat", ""), ("red", "only cat"), ("", ""), ("mouse", "")])
    np.testing.assert_allclose(vectors, [[5, 6], [7, 8], [0, 0], [1, 2]])
    cut = encoder.encode_passages([Passage("1", "red " * 6 + "cat")])
    np.testing.assert_allclose(cut, [[3, 4]])
    with encoder.watched() as seen:
        encoder.encode_queries([("red cat", ""), ("", ""), ("mouse", "")])
    assert seen == [[1, 3], [], [0]]


@pytest.mark.parametrize(
    "tensors",
    [
        {"embedding.weight": TABLE},
        {"embeddings": TABLE},
        {"embeddings": TABLE.half()},
        {"embeddings": TABLE.flip(0), "mapping": torch.arange(7, -1, -1)},
        {"embeddings": 2 * TABLE, "weights": torch.full((8,), 0.5)},
        {"bert.embeddings.word_embeddings.weight": TABLE, "bert.pooler.dense.weight": torch.ones(2, 2)},
    ],
    ids=["StaticEmbedding", "model2vec", "half precision", "mapping", "weights", "transformers"],
)
def test_tables_of_others_are_read(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    place = folder_of(tmp_path / "t", {name: tensor.clone().contiguous() for name, tensor in tensors.items()})
    np.testing.assert_array_equal(opened(place).encode_queries([("blue dog", "")]), [[7, 8]])


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"embeddings": torch.full((8, 2), 1e30)}, "row 0 of embeddings is too long for fp32"),
        ({"embeddings": torch.full((8, 1), 3e38)}, "row 0 of embeddings is too long for fp32"),
        ({"embeddings": TABLE, "weights": torch.tensor([1.0] * 7 + [1e30])}, "row 7 of embeddings is too long"),
        ({"embeddings": torch.zeros(8, 2)}, "no row of embeddings has a length above 0"),
        ({"embeddings": TABLE, "weights": torch.zeros(8)}, "no row of embeddings has a length above 0"),
        ({"embeddings": TABLE / 0}, "embeddings holds a NaN or an infinity"),
        ({"embeddings": TABLE, "mapping": torch.full((8,), 1.7)}, "mapping holds torch.float32; row numbers"),
        ({"embeddings": TABLE, "mapping": torch.ones(8, dtype=torch.bool)}, "mapping holds torch.bool"),
    ],
)
def test_tables_that_give_no_vectors_are_refused(tensors: dict[str, torch.Tensor], words: str, tmp_path: Path) -> None:
    place = folder_of(tmp_path / "t", {name: tensor.clone() for name, tensor in tensors.items()})
    with pytest.raises(UserError, match=words):
        opened(place)


@pytest.mark.parametrize(
    "tokens",
    [
        models.WordLevel({"red": 0, "zq": 1}),
        models.WordLevel({"red": 0}, unk_token="[UNK]"),
        models.WordPiece({"red": 0}),
        models.Unigram([("red", -1.0)]),
    ],
    ids=["no unknown token", "one that is not in the vocabulary", "pieces", "unigrams"],
)
def test_a_tokenizer_that_fails_at_unknown_words_is_refused(tokens: models.Model, tmp_path: Path) -> None:
    place = folder_of(tmp_path / "t", {"embeddings": TABLE.clone()})
    tokenizer = Tokenizer(tokens)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(place / "tokenizer.json"))
    with pytest.raises(UserError, match=r"tokenizer\.json fails at a word that it does not know \("):
        opened(place)


def test_a_drawn_table_is_of_its_seed_and_its_id_of_the_tokenizer_alone(tmp_path: Path) -> None:
    first = folder_of(tmp_path / "a", {"embeddings": TABLE.clone()})
    second = folder_of(tmp_path / "b", {"embeddings": TABLE + 1})
    drawn = StaticModel(drawn=5)
    queries = [("red cat", "")]
    ours = opened(first, seed=1, static=drawn).encode_queries(queries)
    np.testing.assert_array_equal(ours, opened(second, seed=1, static=drawn).encode_queries(queries))
    assert ours.shape == (1, 5) and not np.allclose(ours, opened(first, seed=2, static=drawn).encode_queries(queries))
    revisions = [resolve_backbone(config(place, static=drawn)).revision for place in (first, second)]
    assert revisions[0] == revisions[1]
    assert resolve_backbone(config(first)).revision != resolve_backbone(config(second)).revision


def test_minilm_gives_its_word_vectors_and_its_tokens() -> None:
    model = run_config("model=static").recipe.model
    encoder = BiEncoder.from_config(model, seed=0)
    (ids,) = encoder.template.tokenise_queries([("a garden", "")]).ids
    own = load_file(Path(resolve_backbone(model).place) / "model.safetensors")["embeddings.word_embeddings.weight"]
    expected = torch.nn.functional.normalize(own[torch.from_numpy(ids).long()].mean(0), dim=0)
    assert len(ids) == 2
    np.testing.assert_allclose(encoder.encode_queries([("a garden", "")])[0], expected, atol=1e-6)


def dense_steps(table: torch.Tensor, texts: list[np.ndarray], target: torch.Tensor, num_steps: int) -> torch.Tensor:
    """AdamW over the whole table, without decay."""
    whole = torch.nn.Parameter(table.clone())
    optimizer = torch.optim.AdamW([whole], lr=0.1, weight_decay=0.0)
    ids, starts = flat(texts)
    for _ in range(num_steps):
        optimizer.zero_grad()
        ((torch.nn.functional.embedding_bag(ids, whole, starts, mode="mean") - target) ** 2).sum().backward()
        optimizer.step()
    return whole.detach()


def test_training_the_shown_rows_is_training_the_table() -> None:
    texts = [np.array([1, 3, 3], np.int32), np.array([5], np.int32)]
    target = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    table = StaticTable(TABLE.clone())
    table.show(np.array([1, 3, 5]))
    optimizer = torch.optim.AdamW(table.parameters(), lr=0.1, weight_decay=0.0)
    for _ in range(5):
        optimizer.zero_grad()
        ((table.train()(*flat(texts)) - target) ** 2).sum().backward()
        optimizer.step()
    assert table.shown_KH.shape == (3, 2)
    torch.testing.assert_close(table.whole(), dense_steps(TABLE, texts, target, 5))
    torch.testing.assert_close(table.whole()[[0, 2, 4, 6, 7]], TABLE[[0, 2, 4, 6, 7]])


class Stop(Exception):
    pass


def trained(place: Path, checkpoints: Path, *, stop_at: int | None = None) -> StaticEncoder:
    run = run_config(
        "+experiment=dual_view",
        "model=static",
        "budget.limit=8",
        "train.batch_size=2",
        "train.learning_rate=.1",
        "runtime.checkpoint_every=1",
    )
    mix = build_mix(HandMadeSource(), run.recipe, 0)
    encoder = opened(place)
    prepared = PreparedTraining(
        mix.groups,
        mix.passages,
        model=encoder.model,
        train=dataclasses.replace(run.recipe.train, precision="fp32"),
        seed=0,
        template=lambda: encoder.template,
    )

    def on_step(step: int, values: dict[str, float]) -> None:
        if step == stop_at:
            raise Stop

    fit(encoder, prepared, runtime=run.runtime, checkpoint_dir=checkpoints, on_step=on_step)
    assert isinstance(encoder, StaticEncoder)
    return encoder


def test_a_training_that_was_stopped_ends_with_the_same_bits(tmp_path: Path) -> None:
    words = ("[UNK]", *WORDS[1:], "text", "of", "query", *map(str, range(8)))
    place = folder_of(tmp_path / "t", {"embeddings": torch.linspace(-1, 1, 4 * len(words)).reshape(-1, 4).cos()}, words)
    whole = trained(place, tmp_path / "whole")
    with pytest.raises(Stop):
        trained(place, tmp_path / "stopped", stop_at=3)
    resumed = trained(place, tmp_path / "stopped")
    before, after = opened(place).network.whole(), whole.network.whole()
    torch.testing.assert_close(after, resumed.network.whole(), rtol=0, atol=0)
    assert not torch.equal(before, after)
    torch.testing.assert_close(before[1:5], after[1:5], rtol=0, atol=0)  # red, blue, cat, dog: in no text of the mix


@pytest.fixture
def exported(tmp_path: Path) -> tuple[BiEncoder, Path]:
    own = {"normalise": True, "query_prefix": "red ", "passage_length": 6}
    encoder = opened(folder_of(tmp_path / "t", {"embeddings": TABLE.cos()}), **own)
    encoder.save(tmp_path / "saved")
    (tmp_path / "out").mkdir()
    write_portable(encoder, tmp_path / "saved", tmp_path / "out")
    return encoder, tmp_path / "out"


QUERIES = [("cat", ""), ("cat", "only not never"), ("cat " * 9, "not")]
PASSAGES = [Passage("1", "blue cat"), Passage("2", "dog", "red"), Passage("3", "not " * 5 + "cat dog")]


def test_an_export_has_the_places_of_a_static_embedding_and_our_vectors(exported: tuple[BiEncoder, Path]) -> None:
    encoder, folder = exported
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "0_StaticEmbedding/model.safetensors",
        "0_StaticEmbedding/tokenizer.json",
        "1_Normalize/config.json",
        "config_sentence_transformers.json",
        "modules.json",
    ]
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    assert [module["path"] for module in modules] == ["0_StaticEmbedding", "1_Normalize"]
    assert modules[0]["type"].endswith(".static_embedding.StaticEmbedding")
    assert list(load_file(folder / "0_StaticEmbedding" / "model.safetensors")) == ["embedding.weight"]
    assert check_portable(encoder, folder) <= 1e-6
    texts = [encoder.template.query_text(*query) for query in QUERIES]
    np.testing.assert_allclose(plain_vectors(encoder, folder, texts, 6), encoder.encode_queries(QUERIES), atol=1e-6)
    again = BiEncoder.from_config(dataclasses.replace(encoder.model, path=str(folder)), seed=0)
    np.testing.assert_allclose(again.encode_passages(PASSAGES), encoder.encode_passages(PASSAGES), atol=1e-6)


def test_an_export_of_another_table_is_refused(exported: tuple[BiEncoder, Path]) -> None:
    encoder, folder = exported
    encoder.network.table_VH[0] += 1
    with pytest.raises(UserError, match="safetensors with tokenizers gives other vectors than this run's model"):
        check_portable(encoder, folder)


@pytest.mark.extras
def test_sentence_transformers_gives_our_vectors(exported: tuple[BiEncoder, Path]) -> None:
    library = extra("sentence_transformers", minversion="6.0")
    encoder, folder = exported
    model = library.SentenceTransformer(str(folder), device="cpu")
    posed = [encoder.template.query_text(*query).removeprefix("red ") for query in QUERIES]
    np.testing.assert_allclose(model.encode_query(posed), encoder.encode_queries(QUERIES), atol=1e-6)
    texts = [encoder.template.passage_text(passage) for passage in PASSAGES]
    np.testing.assert_allclose(model.encode_document(texts), encoder.encode_passages(PASSAGES), atol=1e-6)
