"""Training: what a step does, and that stopping, resuming, measuring and neighbours change no bit of it."""

import dataclasses
import errno
import functools
import logging
import math
import os
import random
import re
import signal
import sys

import numpy as np
import pytest
import torch
import tqdm
from safetensors.torch import load_file
from torch.utils.checkpoint import checkpoint

from ablate.data.batches import prepare_steps, sub_batches
from ablate.model import device as device_module
from ablate.model import encoder as encoder_module
from ablate.model import module as module_module
from ablate.model import resume as resume_module
from ablate.model.device import own_generators, resolve_device, resolve_precision
from ablate.model.distributed import ALONE, World
from ablate.model.encoder import BiEncoder, _num_repeated
from ablate.model.module import FlopEstimate, HalfCopy, RetrieverModule, fit, rate_at
from ablate.model.peaks import peak
from ablate.model.prepared import PreparedTraining
from ablate.model.resume import Checkpoints
from ablate.randomness import key
from ablate.recipe.schema import Lora, ModelConfig, Runtime, TinyModel, TrackerConfig, TrainConfig
from ablate.records import Passage, TrainingGroup, UserError

MODEL = ModelConfig(
    name="tiny",
    path=None,
    hub_revision=None,
    tiny=TinyModel(vocabulary=100, hidden=16, layers=1, heads=2),
    lora=None,
    pooling="mean",
    normalise=True,
    query_prefix="",
    passage_prefix="",
    separator=" ",
    order="query_first",
    append_eos=False,
    query_length=20,
    passage_length=16,
    dropout=0.2,
    trust_remote_code=False,
)
TRAIN = TrainConfig(
    epochs=2,
    batch_size=4,
    learning_rate=3e-3,
    weight_decay=0.01,
    schedule="linear",
    warmup=0.2,
    clip_norm=1.0,
    temperature=0.05,
    in_batch_negatives=True,
    precision="fp32",
    sub_batch=5,
)
RUNTIME = Runtime(
    results="",
    device="cpu",
    threads=None,
    label="",
    baseline=None,
    objection=None,
    study="",
    until="scores",
    plan_only=False,
    shard_size=65_536,
    keep_embeddings=False,
    checkpoint_every=3,
    held_tokens=None,
    packed=None,
    compile=False,
    shard_weights=False,
    dev_set=None,
    dev_every=2,
    dev_queries=None,
    progress=True,
    profile=False,
    tracker=TrackerConfig(kind="none", project="", entity=None, log_model=False),
)
WORDS = ("dog", "cat", "ship", "tree", "road", "book", "lamp")
PASSAGES = {f"d{n}": Passage(f"d{n}", f"a {WORDS[n % 7]} and the {WORDS[(n * 3 + n // 7) % 7]}") for n in range(40)}
GROUPS = [
    TrainingGroup(f"r{n}/{view}", f"q{n}", f"which {WORDS[n % 7]}", f"{word} {WORDS[n % 5]}", view, pos, (), neg)
    for n in range(9)
    for view, word, pos, neg in (
        ("original", "only", (f"d{n}",), (f"d{n + 9}",)),
        ("reversed", "never", (f"d{n + 9}",), (f"d{n}",)),
    )
]  # 18 groups in batches of 4: 5 steps an epoch, 10 in all
STEPS = 10


class Stop(Exception):
    pass


def make_encoder(seed=1, model=MODEL):
    return BiEncoder.from_config(model, seed=seed, tokenizer_texts=[passage.text for passage in PASSAGES.values()])


def prepared(encoder, groups, model, training, seed):
    """Return a training on groups of PASSAGES, by the encoder's own tokenizer."""
    return PreparedTraining(groups, PASSAGES, model=model, train=training, seed=seed, template=lambda: encoder.template)


def train(
    folder, *, seed=1, encoder=None, stop_after=None, on_dev=None, groups=GROUPS, model=MODEL, world=ALONE, **changes
):
    """Train a fresh tiny encoder; return (weights, what on_step got, report)."""
    encoder = encoder or make_encoder(seed, model)
    log = []

    def on_step(step, values):
        log.append((step, values))
        if step == stop_after:
            raise Stop

    of_runtime = {"checkpoint_every", "device", "held_tokens", "packed", "compile", "progress"}
    runtime = dataclasses.replace(RUNTIME, **{k: v for k, v in changes.items() if k in of_runtime})
    settings = {k: v for k, v in changes.items() if k not in of_runtime}
    report = fit(
        encoder,
        prepared(encoder, groups, model, dataclasses.replace(TRAIN, **settings), seed),
        runtime=runtime,
        checkpoint_dir=folder,
        on_step=on_step,
        on_dev=on_dev,
        world=world,
    )
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}, log, report


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"))


def losses(log):
    return [values["loss"] for _, values in log]


# The loop


def test_training_lowers_the_loss_and_reports_what_it_did(uninterrupted):
    _, log, report = uninterrupted
    assert [step for step, _ in log] == list(range(1, STEPS + 1))
    assert set(log[0][1]) == {"loss", "learning_rate", "grad_norm", "tokens", "seconds"}
    assert report.steps == STEPS and report.groups == 2 * len(GROUPS)
    assert report.tokens == sum(values["tokens"] for _, values in log) > 0 and report.flops > 0
    assert report.seconds == pytest.approx(sum(values["seconds"] for _, values in log))
    assert all(0 < values["seconds"] < 60 for _, values in log)
    assert (report.queries, report.passages) == (18, 18)
    assert (report.truncated_queries, report.truncated_passages) == (0, 0)


def test_many_epochs_learn_to_tell_the_two_views_apart(tmp_path):
    """A model that ignored the instruction could not get below ln 2 on a row and its reversed twin."""
    model = dataclasses.replace(MODEL, dropout=0.0)
    _, log, _ = train(tmp_path, model=model, epochs=60, groups=GROUPS[:2])
    assert losses(log)[-1] < 0.1 < math.log(2) < losses(log)[0]


def test_first_loss_is_the_formula_on_the_vectors_of_the_encoder(tmp_path):
    model = dataclasses.replace(MODEL, dropout=0.0)
    encoder = make_encoder(model=model)
    row = GROUPS[:2]
    queries = encoder.encode_queries([(group.query, group.instruction) for group in row])
    passages = encoder.encode_passages([PASSAGES["d0"], PASSAGES["d9"]])
    scores = queries @ passages.T / TRAIN.temperature
    expected = np.mean([np.log(np.exp(scores[q]).sum()) - scores[q, q] for q in range(2)])
    _, log, _ = train(tmp_path, encoder=encoder, model=model, groups=row, epochs=1)
    assert log[0][1]["loss"] == pytest.approx(expected, abs=1e-4)


def test_sub_batches_change_neither_loss_nor_gradient(tmp_path):
    model = dataclasses.replace(MODEL, dropout=0.0)
    runs = [train(tmp_path / str(size), model=model, sub_batch=size, epochs=1)[1] for size in (1, 3, 64)]
    for log in runs[1:]:
        for (_, one), (_, other) in zip(runs[0], log, strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
            assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


@pytest.mark.parametrize(
    ("held_tokens", "changes"),
    [
        (1, {}),
        (40, {}),
        (40, {"precision": "bf16"}),
        (1, {"sub_batch": 1}),
        (1, {"sub_batch": 64, "batch_size": 18}),
        (30, {"batch_size": 8, "most_negatives": 2, "same_query": "use"}),
        (
            30,
            {
                "model": dataclasses.replace(
                    MODEL, lora=Lora(rank=2, alpha=4.0, dropout=0.1, targets=("query", "value"))
                )
            },
        ),
    ],
)
def test_forward_passes_that_are_done_again_change_no_bit(tmp_path, monkeypatch, held_tokens, changes):
    """Under dropout too: the second pass draws what the first one drew."""
    whole, whole_log, _ = train(tmp_path / "whole", epochs=1, **changes)
    repeated = []

    def repeat(function, *arguments, use_reentrant):
        repeated.append(arguments)
        return checkpoint(function, *arguments, use_reentrant=use_reentrant)

    monkeypatch.setattr(encoder_module, "checkpoint", repeat)
    bounded, log, _ = train(tmp_path / "bounded", epochs=1, held_tokens=held_tokens, **changes)
    assert repeated and same(whole, bounded) and losses(log) == losses(whole_log)


@pytest.mark.parametrize(("held_tokens", "expected"), [(None, 0), (1, 3), (2, 2), (5, 2), (6, 1), (11, 1), (12, 0)])
def test_the_last_and_shortest_passes_are_held(held_tokens, expected):
    sizes = [part.ids.numel() for part in sub_batches([np.ones(n, np.int32) for n in (2, 6, 4)], 1, 0)]
    assert sizes == [6, 4, 2]
    assert _num_repeated(sizes, held_tokens) == expected


def test_with_no_token_held_every_pass_is_done_again_even_one_of_a_single_token():
    assert _num_repeated([4, 1], 0) == 2 and _num_repeated([4, 1], 1) == 1


def test_what_a_step_holds_does_not_grow_with_the_batch():
    """Counted in tensors that are kept for the backward pass; words and vectors alone grow."""
    encoder = make_encoder(model=dataclasses.replace(MODEL, dropout=0.0))
    texts = [np.full(16, 7, np.int32)] * 64

    def kept(number, held_tokens):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.nbytes), lambda none: none):
            encoder.embed(texts[:number], 4, held_tokens)
        return sum(sizes)

    assert kept(64, None) > 10 * kept(4, None)
    assert kept(64, 64) < 2 * kept(8, 64)


def test_numbers_that_come_late_are_the_same_numbers(tmp_path, monkeypatch, uninterrupted):
    """As on CUDA, where the host does not wait for a step before it starts the next."""
    monkeypatch.setitem(module_module.LAG, "cpu", 1)
    seen = []
    weights, log, report = train(tmp_path / "late", on_dev=lambda step, encoder: seen.append((step, len(seen))))
    assert same(uninterrupted[0], weights) and [step for step, _ in log] == list(range(1, STEPS + 1))
    assert losses(log) == losses(uninterrupted[1]) and [step for step, _ in seen] == [2, 4, 6, 8, 10]
    assert report.seconds == pytest.approx(sum(values["seconds"] for _, values in log))
    with pytest.raises(Stop):
        train(tmp_path / "stopped", stop_after=5)
    assert same(train(tmp_path / "stopped")[0], uninterrupted[0])


def test_the_share_of_a_peak_is_told_where_it_is_known(tmp_path, monkeypatch):
    assert train(tmp_path / "unknown", epochs=1)[2].mfu is None
    monkeypatch.setattr(module_module, "_peak", lambda device, precision, world: 1e12)
    _, log, report = train(tmp_path / "known", epochs=1)
    assert report.mfu == pytest.approx(report.flops / report.seconds / 1e12)
    weighted = sum(values["mfu"] * values["seconds"] for _, values in log)
    assert weighted == pytest.approx(report.flops / 1e12)


def test_peaks_are_those_of_the_named_device_alone():
    assert peak("NVIDIA A100-SXM4-80GB", "bf16") == 312e12 and peak("NVIDIA H200", "fp32") == 66.9e12
    assert peak("NVIDIA L4", "bf16") == 121e12 and peak("NVIDIA L40S", "bf16") == 362e12
    assert peak("NVIDIA H200 NVL", "bf16") is None and peak("NVIDIA A1000", "bf16") is None


def test_learning_rate_rises_and_falls_as_configured():
    linear = [rate_at(step, 10, TRAIN) / TRAIN.learning_rate for step in range(10)]
    assert linear == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    cosine = dataclasses.replace(TRAIN, schedule="cosine", warmup=0.0)
    falling = [rate_at(step, 4, cosine) / TRAIN.learning_rate for step in range(4)]
    assert falling == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 1 / 2, (1 - math.sqrt(0.5)) / 2])
    warmed = [rate_at(step, 6, dataclasses.replace(cosine, warmup=1 / 3)) / TRAIN.learning_rate for step in range(6)]
    assert warmed == pytest.approx([1 / 3, 2 / 3, *falling])
    rising = [rate_at(step, 4, dataclasses.replace(TRAIN, warmup=1.0)) / TRAIN.learning_rate for step in range(4)]
    assert rising == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5])
    constant = dataclasses.replace(TRAIN, schedule="constant", warmup=0.0)
    assert {rate_at(step, 10, constant) for step in range(10)} == {TRAIN.learning_rate}


def test_weight_decay_spares_biases_and_norms(tmp_path):
    """With a gradient of zero (one passage, so the loss is constant) only decay moves weights."""
    before = {name: tensor.clone() for name, tensor in make_encoder().state_dict().items()}
    lonely = [TrainingGroup("r/plain", "q", "dog", "", "plain", ("d0",), (), ())]
    after, log, _ = train(
        tmp_path, groups=lonely, epochs=1, weight_decay=0.5, learning_rate=0.1, schedule="constant", warmup=0.0
    )
    assert losses(log) == [0.0]
    for name, tensor in before.items():
        expected = tensor * (1 - 0.1 * 0.5) if tensor.ndim >= 2 else tensor
        torch.testing.assert_close(after[name], expected, msg=name)


def test_flops_by_hand():
    encoder = make_encoder()
    per_layer = 4 * (16 * 16 + 16) + 2 * 16 + (16 * 64 + 64) + (64 * 16 + 16) + 2 * 16
    outside_embeddings = per_layer + 2 * 16  # and the norm after the embeddings
    assert FlopEstimate(encoder)([3, 5]) == 6 * outside_embeddings * 8 + 12 * 1 * 16 * (9 + 25)
    lora = Lora(rank=2, alpha=4.0, dropout=0.0, targets=("query", "value"))
    two_layers = TinyModel(vocabulary=100, hidden=16, layers=2, heads=2)
    encoder = make_encoder(model=dataclasses.replace(MODEL, tiny=two_layers, lora=lora))
    frozen, adapters = 2 * per_layer + 2 * 16, 2 * 2 * (16 * 2 + 2 * 16)
    assert FlopEstimate(encoder)([3, 5]) == (4 * frozen + 6 * adapters) * 8 + 12 * 2 * 16 * (9 + 25)


def test_encoder_is_left_in_evaluation_mode_and_truncation_is_counted(tmp_path):
    model = dataclasses.replace(MODEL, query_length=4, passage_length=5)
    encoder = make_encoder(model=model)
    _, _, report = train(tmp_path, encoder=encoder, model=model, epochs=1)
    assert not encoder.training
    assert (report.truncated_queries, report.truncated_passages) == (18, 18)


def test_a_document_that_is_missing_is_named(tmp_path):
    stray = [TrainingGroup("r/plain", "q", "dog", "", "plain", ("d0",), ("nowhere",), ())]
    with pytest.raises(UserError, match="group 'r/plain' names document 'nowhere', which the corpus does not hold"):
        train(tmp_path, groups=stray)


# Bits


def test_same_seed_same_bits_and_another_seed_differs(uninterrupted, tmp_path):
    torch.manual_seed(99), np.random.seed(99), random.seed(99)  # what others left behind
    train(tmp_path / "before", seed=5)  # another training in the same process
    again, log, _ = train(tmp_path / "again")
    assert same(uninterrupted[0], again) and losses(log) == losses(uninterrupted[1])
    other, _, _ = train(tmp_path / "other", seed=2)
    assert not same(uninterrupted[0], other)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_encoder_that_comes_in_evaluation_mode_is_trained_with_dropout_too(tmp_path, precision):
    """As one that is read from a folder of weights does."""
    encoder = make_encoder()
    encoder.eval()
    found = losses(train(tmp_path / "eval", encoder=encoder, precision=precision)[1])
    assert found == losses(train(tmp_path / "train", precision=precision)[1])


def test_a_parameter_that_no_text_reaches_stays_as_it_is(tmp_path):
    def encoder():
        made = make_encoder()
        made.register_parameter("unused", torch.nn.Parameter(torch.ones(2, 2)))
        return made

    weights, _, _ = train(tmp_path / "whole", encoder=encoder())
    assert weights["unused"].tolist() == [[1, 1], [1, 1]]
    with pytest.raises(Stop):
        train(tmp_path / "stopped", encoder=encoder(), stop_after=7)
    assert same(weights, train(tmp_path / "stopped", encoder=encoder())[0])


def test_seed_alone_decides_order_and_dropout(tmp_path):
    logs = [train(tmp_path / str(seed), seed=seed, encoder=make_encoder(1))[1] for seed in (1, 2)]
    assert losses(logs[0]) != losses(logs[1])


def test_training_leaves_the_global_generators_and_handlers_alone(tmp_path):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    environment, handlers = dict(os.environ), [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    train(tmp_path, epochs=1)
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])
    assert environment == dict(os.environ)
    assert handlers == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("at", [2, 4, 10])
def test_sigterm_ends_a_training_with_its_exit_code(tmp_path, uninterrupted, at):
    """As a cluster sends it before the time is up, in the last step too: the process must not look finished."""

    def stop(step, encoder):
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        train(tmp_path, on_dev=stop, checkpoint_every=1)
    assert ended.value.code == 143
    assert same(train(tmp_path)[0], uninterrupted[0])


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5, 6, 8, 10])
def test_stopped_and_resumed_training_has_the_same_bits(uninterrupted, tmp_path, stop_after):
    """Checkpoints after 3, 6 and 9; a stop in step 3 or 6 comes right before one; 5 ends the first epoch."""
    with pytest.raises(Stop):
        train(tmp_path, stop_after=stop_after)
    torch.rand(3)
    weights, log, report = train(tmp_path)
    first = (stop_after - 1) // 3 * 3 + 1  # the step after the last checkpoint
    assert [step for step, _ in log] == list(range(first, STEPS + 1))
    assert same(uninterrupted[0], weights)
    assert losses(log) == losses(uninterrupted[1])[first - 1 :]
    assert (report.steps, report.tokens, report.flops) == dataclasses.astuple(uninterrupted[2])[0:1] + (
        uninterrupted[2].tokens,
        uninterrupted[2].flops,
    )


def test_stopped_twice_and_right_after_a_checkpoint(uninterrupted, tmp_path):
    def fail(step, encoder):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path, on_dev=fail)  # in the measurement of step 4, after the checkpoint of step 3
    with pytest.raises(Stop):
        train(tmp_path, stop_after=7)
    weights, log, _ = train(tmp_path)
    assert log[0][0] == 7 and same(uninterrupted[0], weights)


def test_a_finished_training_is_not_repeated(uninterrupted, tmp_path):
    train(tmp_path, checkpoint_every=5)
    weights, log, report = train(tmp_path, checkpoint_every=5)
    assert log == [] and report.steps == STEPS and same(uninterrupted[0], weights)


def test_measuring_on_the_dev_set_changes_no_bit(uninterrupted, tmp_path):
    seen = []

    def measure(step, encoder):
        seen.append(step)
        torch.rand(5), random.random(), np.random.rand()
        encoder.encode_queries([("dog", "")])

    weights, _, _ = train(tmp_path, on_dev=measure)
    assert seen == [2, 4, 6, 8, 10] and same(uninterrupted[0], weights)


# Checkpoints


def test_last_two_checkpoints_are_kept_and_nothing_else_is_written(tmp_path, monkeypatch, capfd):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    train(tmp_path / "checkpoints")
    assert [path.name[:15] for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-0000000006",
        "step-0000000009",
    ]
    assert list((tmp_path / "cwd").iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(uninterrupted, tmp_path, caplog, damage):
    with pytest.raises(Stop):
        train(tmp_path, stop_after=8)
    last = max(tmp_path.iterdir())
    content = bytearray(last.read_bytes())
    if damage == "flipped":
        content[-5] ^= 1
    last.write_bytes({"cut": content[: len(content) // 2], "flipped": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        weights, log, _ = train(tmp_path)
    assert log[0][0] == 4 and same(uninterrupted[0], weights)
    assert f"checkpoint {last.name} is damaged" in caplog.text and "the one before it is used" in caplog.text


def test_a_checkpoint_is_a_plain_safetensors_file(tmp_path):
    from safetensors.torch import load_file

    tensors = {"weight/a": torch.arange(6.0).reshape(2, 3).T, "weight/b": torch.tensor([7.0])}
    Checkpoints(tmp_path, "training").save(3, tensors, {"tokens": 5.0})
    (path,) = tmp_path.iterdir()
    assert same(tensors, load_file(path))
    found = Checkpoints(tmp_path, "training").latest()
    assert found is not None and (found.step, found.counters) == (3, {"tokens": 5.0}) and same(tensors, found.tensors)


def test_remains_of_a_torn_write_are_removed(tmp_path):
    (tmp_path / "step-0000000003-abc.part").write_bytes(b"half")
    assert Checkpoints(tmp_path, "training").latest() is None
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_named_and_the_last_checkpoint_stays(uninterrupted, tmp_path, monkeypatch):
    write = resume_module.write_through

    def full(path, chunks):
        if "step-0000000006" in path.name:
            path.write_bytes(next(chunks))
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, chunks)

    monkeypatch.setattr(resume_module, "write_through", full)
    with pytest.raises(UserError, match=r"the checkpoint of step 6 .*No space left on device; make room there and giv"):
        train(tmp_path)
    assert [path.name[:15] for path in tmp_path.iterdir()] == ["step-0000000003"]
    monkeypatch.undo()
    assert same(uninterrupted[0], train(tmp_path)[0])


def test_checkpoints_of_another_training_are_refused(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, stop_after=4)
    with pytest.raises(UserError, match="is a checkpoint of another training .*empty that folder"):
        train(tmp_path, learning_rate=1e-3)
    with pytest.raises(UserError, match="is a checkpoint of another training"):
        train(tmp_path, groups=GROUPS[:-2])
    for change in ({"model": dataclasses.replace(MODEL, pooling="cls")}, {"seed": 2}, {"precision": "bf16"}):
        with pytest.raises(UserError, match="is a checkpoint of another training"):
            train(tmp_path, encoder=make_encoder(), **change)


def test_where_a_model_lies_and_what_it_is_called_make_no_other_training(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, stop_after=4)
    moved = dataclasses.replace(MODEL, name="other", path="/elsewhere")
    assert train(tmp_path, encoder=make_encoder(), model=moved, precision="auto")[1][0][0] == 4


@pytest.mark.parametrize("lag", [0, 1])
def test_a_loss_that_is_not_a_number_stops_before_weights_and_checkpoints(tmp_path, monkeypatch, lag):
    monkeypatch.setitem(module_module.LAG, "cpu", lag)
    encoder = make_encoder()

    def poison(step, trained):
        if step == 4:
            with torch.no_grad():
                next(trained.parameters()).fill_(math.nan)

    with pytest.raises(UserError, match=r"failed at step 5 of 10: the loss is nan .*lower train.learning_rate \(now"):
        train(tmp_path, encoder=encoder, on_dev=poison)
    assert [path.name[:15] for path in tmp_path.iterdir()] == ["step-0000000003"]


def test_a_gradient_that_is_not_a_number_stops_too(tmp_path):
    encoder = make_encoder()

    def poison(step, trained):
        if step == 4:
            next(trained.parameters()).register_hook(lambda gradient: gradient * math.inf)

    with pytest.raises(UserError, match=r"failed at step 5 of 10: the loss is \d\.\d+ and the gradient norm (nan|inf)"):
        train(tmp_path, encoder=encoder, on_dev=poison)


def test_interrupt_from_the_keyboard_stays_one(tmp_path):
    def interrupt(step, encoder):
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, on_dev=interrupt)
    assert signal.getsignal(signal.SIGINT) is handler


# Precision and devices


def test_bf16_keeps_fp32_weights_learns_the_same_and_resumes_to_the_bit(uninterrupted, tmp_path):
    weights, log, _ = train(tmp_path / "whole", precision="bf16")
    assert all(tensor.dtype == torch.float32 for tensor in weights.values() if tensor.is_floating_point())
    assert not same(uninterrupted[0], weights)
    assert losses(log)[0] == pytest.approx(losses(uninterrupted[1])[0], abs=0.1)
    with pytest.raises(Stop):
        train(tmp_path / "stopped", precision="bf16", stop_after=7)
    assert same(weights, train(tmp_path / "stopped", precision="bf16")[0])


def test_bf16_has_the_gradients_of_fp32_and_learns_as_it_does(tmp_path):
    model = dataclasses.replace(MODEL, dropout=0.0)
    of_fp32, of_bf16 = (first_step(tmp_path / p, precision=p, model=model)[1] for p in ("fp32", "bf16"))
    assert of_fp32.keys() == of_bf16.keys()
    flat = [torch.cat([moments[name].flatten() for name in of_fp32]) for moments in (of_fp32, of_bf16)]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.99
    assert flat[1].norm().item() == pytest.approx(flat[0].norm().item(), rel=0.05)
    _, log, _ = train(tmp_path / "learns", precision="bf16", model=model, epochs=60, groups=GROUPS[:2])
    assert losses(log)[-1] < 0.1 < math.log(2) < losses(log)[0]


def test_bf16_updates_smaller_than_its_resolution_are_not_lost():
    encoder = make_encoder()
    half = HalfCopy(encoder)
    weight = next(encoder.parameters())
    with torch.no_grad():
        weight.fill_(1.0)
        for _ in range(64):
            weight.add_(1e-4)
    half.pull()
    assert next(half.encoder.parameters()).dtype == torch.bfloat16
    assert next(half.encoder.parameters()).flatten()[0].item() == 1.0078125  # 1.0064 in bf16; one by one it stays at 1
    assert half.encoder.network.config._attn_implementation == "eager"
    assert encoder.network.config._attn_implementation == "sdpa"


def test_lora_trains_and_resumes_its_adapters_alone(tmp_path):
    lora = Lora(rank=2, alpha=4.0, dropout=0.1, targets=("query", "value"))
    model = dataclasses.replace(MODEL, lora=lora)
    before = make_encoder(model=model).state_dict()
    weights, _, _ = train(tmp_path / "whole", model=model)
    moved = {name for name, tensor in weights.items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in weights if "lora_" in name}
    with pytest.raises(Stop):
        train(tmp_path / "stopped", model=model, stop_after=7)
    kept = load_file(max((tmp_path / "stopped").iterdir()))
    assert kept and all("lora_" in name for name in kept)
    assert same(weights, train(tmp_path / "stopped", model=model)[0])


@pytest.mark.parametrize("native", [False, True])
def test_precision_follows_the_device_and_never_the_processor(native, monkeypatch, caplog):
    monkeypatch.setattr(device_module, "native_bf16", lambda device: native)
    assert resolve_precision("auto", "cpu") == resolve_precision("fp32", "cpu") == "fp32" and caplog.text == ""
    assert resolve_precision("bf16", "cpu") == "bf16"
    assert ("fp32 would be quicker" in caplog.text) is not native
    monkeypatch.setattr(device_module, "resolve_device", lambda device: "cuda")
    assert resolve_precision("auto", "auto") == "bf16" and resolve_precision("fp32", "auto") == "fp32"


@pytest.mark.parametrize(
    "flags, native",
    [
        ("fpu avx512f avx512_bf16 amx_tile", True),
        ("avx2 amx_bf16", True),
        ("avx2 avx512f avx512_vnni", False),
        ("avx2 no_amx_bf16_here", False),
        ("", False),
    ],
)
def test_native_bf16_is_read_from_the_flags_of_the_processor(flags, native, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    assert device_module.processor_flags(cpuinfo) == []
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: One: 9\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: x\n")
    found = device_module.processor_flags(cpuinfo)
    assert found == flags.split()
    monkeypatch.setattr(device_module, "processor_flags", lambda: found)
    assert device_module.native_bf16("cpu") is native


def test_what_the_last_bits_depend_on_is_recorded(monkeypatch):
    for name in device_module.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("MKL_DYNAMIC", "")
    found = device_module.arithmetic("cpu")
    assert found == {
        "device": "cpu",
        "device_name": "cpu",
        "threads": torch.get_num_threads(),
        "mkldnn": True,
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "packed": False,
        "compiled": False,
        "settings": {"MKL_CBWR": "COMPATIBLE"},
    }
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert device_module.arithmetic("cpu")["mkldnn"] is False


def test_device_follows_what_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(UserError, match="runtime.device='cuda' but PyTorch finds no CUDA device here; set runtime.dev"):
        resolve_device("cuda")


def test_own_generators_draw_what_torch_draws_from_their_key():
    with own_generators(1, "a"):
        drawn = torch.rand(3)
    torch.manual_seed(key(1, "a") % 2**63)
    assert torch.equal(drawn, torch.rand(3))


def test_own_generators_depend_on_seed_and_purpose_alone():
    def draw(*purpose):
        with own_generators(*purpose):
            return torch.rand(1).item(), np.random.rand(), random.random()

    first = draw(1, "a")
    torch.rand(10)
    assert draw(1, "a") == first
    assert draw(2, "a") != first and draw(1, "b") != first


def test_the_step_line_is_silent_without_a_terminal(tmp_path, monkeypatch, capsys):
    train(tmp_path / "a", epochs=1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("tqdm.tqdm", functools.partial(tqdm.tqdm, mininterval=0))  # every step is shown
    with pytest.raises(Stop):
        train(tmp_path / "b", epochs=1, stop_after=4)
    capsys.readouterr()
    log = train(tmp_path / "b", epochs=1)[1]  # from the checkpoint of step 3 on
    shown = capsys.readouterr()
    assert shown.out == "" and re.findall(r"(\d)/5", shown.err)[0] == "3"
    assert re.search(rf"5/5 \[[^]]*loss {losses(log)[-1]:.3f}\]", shown.err)
    train(tmp_path / "new", epochs=1)
    assert re.findall(r"(\d)/5", capsys.readouterr().err)[0] == "0"
    train(tmp_path / "c", epochs=1, progress=False)
    assert capsys.readouterr() == ("", "")


# What a step does to the weights, by hand


def first_step(folder, model=MODEL, **changes):
    """Return by parameter how the weights moved in the first step, and the first moments after it."""
    before = {name: value.clone() for name, value in make_encoder(model=model).named_parameters()}
    encoder = make_encoder(model=model)
    with pytest.raises(Stop):  # the checkpoint of a step follows on_step, so it is the second that stops
        train(folder, encoder=encoder, model=model, stop_after=2, checkpoint_every=1, **changes)
    tensors = load_file(next(folder.glob("step-0000000001-*.safetensors")))
    moved = {name: tensors[f"weight/{name}"] - value for name, value in before.items() if f"weight/{name}" in tensors}
    moments = {name: tensors[f"first_moment/{name}"] for name in moved if f"first_moment/{name}" in tensors}
    return moved, moments


def test_the_first_step_is_as_long_as_its_own_learning_rate(tmp_path):
    """Adam's first update is rate * g / (|g| + eps): the rate, wherever the gradient is far above eps."""
    moved, moments = first_step(tmp_path, learning_rate=1e-2, warmup=0.5, weight_decay=0.0, clip_norm=1e9)
    rate = 1e-2 * 1 / (5 + 1)  # step 0 of five that rise
    for name, moment in moments.items():
        steep = moment.abs() > 1e-5
        assert torch.allclose(moved[name][steep].abs(), torch.full((), rate), rtol=2e-3), name


def test_gradients_are_clipped_to_their_norm(tmp_path):
    """Adam's first moment after one step is a tenth of the gradient, so ten times its norm is the clipped norm."""
    norms = []
    for number, limit in enumerate((1e9, 0.05)):
        _, moments = first_step(tmp_path / str(number), clip_norm=limit)
        norms.append(10 * math.sqrt(sum(float((moment**2).sum()) for moment in moments.values())))
    assert norms[0] > 0.1 and norms[1] == pytest.approx(0.05, rel=1e-4)


def test_every_step_has_a_dropout_of_its_own(tmp_path, monkeypatch):
    seen = []

    def recorded(*purpose):
        seen.append(purpose)
        return own_generators(*purpose)

    monkeypatch.setattr("ablate.model.module.own_generators", recorded)
    train(tmp_path, seed=7)
    assert seen == [(7, "step", step) for step in range(STEPS)]


# One of several processes


def test_gradients_are_summed_over_processes_before_they_are_clipped_and_used(tmp_path):
    class Tripled(World):
        """Three processes that have the same gradients."""

        def sum_gradients(self, parameters):
            for parameter in parameters:
                parameter.grad *= 3

    alone, of_three = (
        train(tmp_path / str(world.rank + place), world=world, epochs=1, clip_norm=1e9)[1][0][1]
        for place, world in enumerate((ALONE, Tripled()))
    )
    assert of_three["grad_norm"] == pytest.approx(3 * alone["grad_norm"])


def test_a_process_without_a_share_encodes_a_text_that_counts_for_nothing():
    class Second(World):
        """The second of two processes, whose share of a small step is empty."""

        def share(self, lengths):
            return [np.arange(len(lengths)), np.arange(0)]

        def gather(self, own_NH, shares):
            assert own_NH.shape == (0, 16)
            return vectors_NH

    class Recorder:
        def embed(self, texts, size, held_tokens):
            seen.append(len(texts))
            return encoder.embed(texts, size, held_tokens)

    encoder, seen = make_encoder(model=dataclasses.replace(MODEL, dropout=0.0)), []
    template = encoder.template
    steps, _ = prepare_steps(
        GROUPS[:4],
        template.tokenise_queries,
        lambda ids: template.tokenise_passages([PASSAGES[i] for i in ids]),
        batch_size=4,
        epochs=1,
        seed=1,
        in_batch_negatives=True,
    )
    vectors_NH = encoder.embed(steps[0].texts, 5)
    settings = {"seed": 1, "num_steps": 1, "precision": "fp32", "after_step": lambda module, logged: None}
    found = RetrieverModule(encoder, TRAIN, world=Second(1, 2), **settings).loss(steps[0], Recorder())
    alone = RetrieverModule(encoder, TRAIN, **settings).loss(steps[0], encoder)
    assert seen == [1] and found.item() == pytest.approx(alone.item())
