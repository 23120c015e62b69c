"""Texts end to end in one row: vectors, losses and gradients of padded ones, and refused where they are not."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_training import MODEL, PASSAGES, Stop, make_encoder, same, train
from transformers import (
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    Gemma2Config,
    Gemma2Model,
    MistralConfig,
    MistralModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

from ablate.data.batches import sub_batches
from ablate.model.device import arithmetic, check_passes
from ablate.model.encoder import BiEncoder, pool
from ablate.model.packing import packing_of, packs, pool_packed
from ablate.recipe.schema import Lora
from ablate.records import UserError

SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
NO_DROPOUT = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
CALM = dataclasses.replace(MODEL, dropout=0.0)
SPECIAL = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")),
]
PACKED = {
    "BERT": lambda: BertModel(BertConfig(**SIZES, **NO_DROPOUT), add_pooling_layer=False),
    "RoBERTa, whose positions begin after padding": lambda: RobertaModel(
        RobertaConfig(**SIZES, **NO_DROPOUT, pad_token_id=0), add_pooling_layer=False
    ),
    "ModernBERT, with local attention": lambda: ModernBertModel(
        ModernBertConfig(**SIZES, **SPECIAL, local_attention=8, global_attn_every_n_layers=2)
    ),
    "Mistral, causal with a window and fewer keys": lambda: MistralModel(
        MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=5, pad_token_id=0)
    ),
    "Qwen3": lambda: Qwen3Model(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8)),
}
REFUSED = {
    "no softcap": lambda: Gemma2Model(Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8)),
    "no position_bias": lambda: T5EncoderModel(
        T5Config(vocab_size=100, d_model=32, num_layers=2, num_heads=4, d_ff=64, d_kv=8)
    ),
    "no dropout": lambda: BertModel(BertConfig(**SIZES), add_pooling_layer=False),
    "MPNetModel lets packed texts see each other": lambda: MPNetModel(MPNetConfig(**SIZES)),
    "DebertaV2Model lets packed texts see each other": lambda: DebertaV2Model(DebertaV2Config(**SIZES)),
}


def texts_of(number, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(1, 100, length).astype(np.int32) for length in generator.integers(3, 40, number)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 40))
def test_every_text_stands_in_one_row_from_its_first_token_on(lengths, most_tokens):
    texts = [np.arange(place * 10, place * 10 + length, dtype=np.int32) for place, length in enumerate(lengths)]
    seen = {}
    for pack in packs(texts, most_tokens):
        ends = pack.ends_N.tolist()
        assert ends[-1] == pack.ids_1T.numel() and (ends[-1] <= most_tokens or len(pack.rows) == 1)
        assert pack.longest == max(np.diff(ends))
        for row, start, stop in zip(pack.rows, ends, ends[1:], strict=False):
            seen[int(row)] = pack.ids_1T[0, start:stop].tolist()
            assert pack.places_1T[0, start:stop].tolist() == list(range(stop - start))
    assert seen == {place: text.tolist() for place, text in enumerate(texts)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("name", PACKED)
def test_packed_texts_have_the_vectors_of_padded_ones(name, pooling, device):
    torch.manual_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    network, texts = PACKED[name]().eval().to(device, dtype), texts_of(20)
    padded, packed = torch.empty(20, 32), torch.empty(20, 32)
    with torch.no_grad():
        for part in sub_batches(texts, 8, 0):
            moved = part.to(torch.device(device))
            states = network(input_ids=moved.ids_NL, attention_mask=moved.mask_NL).last_hidden_state
            padded[part.rows] = pool(states, moved.mask_NL, pooling).float().cpu()
        packing = packing_of(network, True)
        for pack in packs(texts, 150):
            states = packing.hidden(pack.to(torch.device(device)))
            packed[pack.rows] = pool_packed(states, pack.ends_N.to(device), pooling).cpu()
    far = (packed - padded).norm(dim=1) / padded.norm(dim=1)
    assert far.max() < (1e-5 if device == "cpu" else 2e-2)


@pytest.mark.parametrize("reason", REFUSED)
def test_a_backbone_that_attends_otherwise_is_not_packed(reason):
    network = REFUSED[reason]().train()
    before = network.config._attn_implementation
    with pytest.raises(UserError, match=f"runtime.packed=true, but .*{reason}"):
        packing_of(network, True)
    assert network.config._attn_implementation == before and network.training
    assert packing_of(network, None) is None


def test_nothing_is_packed_by_itself_on_a_cpu():
    network = PACKED["BERT"]()
    assert packing_of(network, None) is None and packing_of(network.bfloat16(), None) is None
    assert packing_of(network, False) is None and packing_of(network, True) is not None


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_text_without_tokens_has_a_vector_of_zeros_and_disturbs_no_other(pooling):
    network, texts = PACKED["Qwen3"]().eval(), texts_of(6)
    packing = packing_of(network, True)

    def vectors(texts):
        found = torch.full((len(texts), 32), torch.nan)
        for pack in packs(texts):
            found[pack.rows] = pool_packed(packing.hidden(pack), pack.ends_N, pooling)
        return found

    found = vectors([texts[0], texts[1][:0], *texts[1:], texts[1][:0]])
    assert not found[[1, 7]].any()
    torch.testing.assert_close(found[[0, 2, 3, 4, 5, 6]], vectors(texts))
    found.sum().backward()
    assert all(weights.grad.isfinite().all() for weights in network.parameters() if weights.grad is not None)


def test_an_encoder_that_packs_no_more_attends_as_before() -> None:
    encoder, texts = make_encoder(1, CALM), [text % 20 + 1 for text in texts_of(6)]
    before = encoder.embed(texts, 5)
    for setting in (True, True, False):
        encoder.pack(setting)
    assert torch.equal(encoder.embed(texts, 5), before)


@pytest.mark.parametrize("held_tokens", [None, 30])
def test_gradients_through_packed_texts_are_those_through_padded_ones(held_tokens):
    texts = texts_of(12)
    texts = [text % 20 + 1 for text in texts]

    def gradients(packed, held):
        encoder = make_encoder(1, CALM)
        encoder.pack(packed)
        vectors = encoder.embed(texts, 5, held)
        (vectors @ torch.linspace(-1, 1, vectors.shape[1])).square().sum().backward()
        return {name: weights.grad for name, weights in encoder.named_parameters() if weights.grad is not None}

    padded, packed = gradients(False, None), gradients(True, held_tokens)
    assert padded.keys() == packed.keys()
    for name in padded:
        torch.testing.assert_close(packed[name], padded[name], rtol=1e-4, atol=1e-6)


def test_a_training_on_packed_texts_goes_as_on_padded_ones_and_leaves_the_same_model(tmp_path):
    _, padded, _ = train(tmp_path / "padded", model=CALM, packed=False)
    encoder = make_encoder(1, CALM)
    _, packed, _ = train(tmp_path / "packed", encoder=encoder, model=CALM, packed=True)
    assert [values["loss"] for _, values in packed] == pytest.approx([values["loss"] for _, values in padded], rel=1e-4)
    encoder.save(tmp_path / "model")
    assert "ablate_packed" not in (tmp_path / "model" / "config.json").read_text()


ADAPTED = dataclasses.replace(CALM, lora=Lora(rank=4, alpha=8.0, dropout=0.0, targets=("query", "value")))


@pytest.mark.parametrize("model", [CALM, ADAPTED], ids=["whole", "adapted"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_the_network_is_given_can_be_watched(model, packed):
    encoder, passages = make_encoder(1, model), list(PASSAGES.values())[:7]
    encoder.batch_size = 3
    encoder.pack(packed)
    with encoder.watched() as seen:
        encoder.encode_passages(passages)
    encoder.encode_passages(passages)
    expected = [ids.tolist() for ids in encoder.template.tokenise_passages(passages).ids]
    assert sorted(seen) == sorted(expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_adapters_are_trained_on_packed_texts_as_on_padded_ones(tmp_path, precision):
    _, padded, _ = train(tmp_path / "padded", model=ADAPTED, precision=precision, packed=False)
    encoder = make_encoder(1, ADAPTED)
    _, packed, _ = train(tmp_path / "packed", encoder=encoder, model=ADAPTED, precision=precision, packed=True)
    within = 1e-4 if precision == "fp32" else 0.05
    assert [told["loss"] for _, told in packed] == pytest.approx([told["loss"] for _, told in padded], rel=within)
    encoder.save(tmp_path / "model")
    again = BiEncoder.load(tmp_path / "model", ADAPTED)
    passages = list(PASSAGES.values())
    assert np.allclose(again.encode_passages(passages), encoder.encode_passages(passages), atol=1e-5)


@pytest.mark.parametrize("held_tokens", [None, 8])
def test_a_training_on_packed_texts_that_was_stopped_ends_with_the_same_bits(tmp_path, held_tokens):
    changes = {"model": CALM, "packed": True, "held_tokens": held_tokens}
    whole, _, _ = train(tmp_path / "whole", **changes)
    with pytest.raises(Stop):
        train(tmp_path / "stopped", stop_after=5, **changes)
    rest, log, _ = train(tmp_path / "stopped", **changes)
    assert log[0][0] == 4 and same(rest, whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_training_on_a_gpu_goes_as_on_a_cpu(tmp_path, compiled):
    changes = {"precision": "bf16", "epochs": 2, "model": CALM}
    _, host, _ = train(tmp_path / "cpu", **changes)
    _, device, report = train(tmp_path / "cuda", device="cuda", compile=compiled, **changes)
    assert [values["loss"] for _, values in device] == pytest.approx([values["loss"] for _, values in host], rel=0.05)
    assert report.steps == len(host)


def test_what_cannot_be_packed_or_compiled_is_said_before_the_work():
    with pytest.raises(UserError, match="runtime.compile=true is for CUDA"):
        check_passes("cpu", {"fp32"}, None, True)
    with pytest.raises(UserError, match="evaluation.precision=bf16"):
        check_passes("cuda", {"bf16", "fp32"}, True, False)
    check_passes("cuda", {"bf16"}, True, True)
    check_passes("cpu", {"fp32"}, True, False)


def test_what_was_used_is_recorded():
    assert arithmetic("cpu")["packed"] is False and arithmetic("cpu", packed=True)["packed"] is True
    assert arithmetic("cpu")["compiled"] is False
