"""Weights split over processes: the steps of whole ones, checkpoints that any number of processes goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_distributed import run, start
from test_encoder import decoder_folder
from test_training import STEPS

from ablate.store.files import MODEL_FOLDER
from ablate.store.results import ResultStore

__all__ = ["decoder_folder"]  # a fixture of the tests of encoders

TRAININGS = """
import dataclasses, json, os, signal, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from test_encoder import decoder
from test_training import GROUPS, RUNTIME, TRAIN, prepared
from ablate.model.distributed import joined
from ablate.model.encoder import BiEncoder
from ablate.model.module import fit

torch.set_num_threads(1)
folder, model = Path(sys.argv[1]), decoder(sys.argv[2])
with joined("cpu") as world:
    world.announce(True) if world.leads else world.is_called()
    for name, given in json.loads(sys.argv[3]).items():
        killed_at = given.pop("killed_at", None)
        precision = given.pop("precision", "fp32")
        encoder, steps = BiEncoder.from_config(model, seed=0), []

        def on_step(step, values):
            steps.append(values)
            if step == killed_at:
                os.killpg(0, signal.SIGKILL)

        report = fit(
            encoder,
            prepared(encoder, GROUPS, model, dataclasses.replace(TRAIN, learning_rate=1e-3, precision=precision), 0),
            runtime=dataclasses.replace(RUNTIME, **given), checkpoint_dir=folder / name, on_step=on_step, world=world,
        )
        if world.leads:
            save_file(dict(encoder.state_dict()), folder / f"{name}.safetensors")
            (folder / f"{name}.json").write_text(json.dumps({"steps": steps, "flops": report.flops}))
"""


def trainings(folder: Path, model: Path, processes: int, **settings: dict[str, Any]) -> dict[str, Any]:
    """Train a decoder with each of some settings; return what the steps of each said, by name."""
    script = folder / "trainings.py"
    script.write_text(TRAININGS)
    done = start([str(script), str(folder), str(model), json.dumps(settings)], processes)
    if any("killed_at" in given for given in settings.values()):
        assert done.returncode != 0
        return {}
    assert done.returncode == 0, done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in settings}


def losses(said: dict[str, Any]) -> list[float]:
    return [step["loss"] for step in said["steps"]]


def furthest(folder: Path, one: str, other: str) -> float:
    """Return the largest difference between two trainings' weights."""
    left, right = load_file(folder / f"{one}.safetensors"), load_file(folder / f"{other}.safetensors")
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def test_split_weights_take_the_steps_of_whole_ones(tmp_path: Path, decoder_folder: Path) -> None:
    whole = trainings(tmp_path, decoder_folder, 1, whole={}, whole_bf16={"precision": "bf16"})
    split = {"shard_weights": True}
    held, half = {**split, "held_tokens": 8}, {**split, "precision": "bf16"}
    found = trainings(tmp_path, decoder_folder, 2, split=split, held=held, split_bf16=half)
    assert len(whole["whole"]["steps"]) == STEPS
    before, after = load_file(decoder_folder / "model.safetensors"), load_file(tmp_path / "whole.safetensors")
    assert all(float((after[f"network.{name}"] - before[name]).abs().max()) > 1e-3 for name in before), (
        "all are trained"
    )
    for name in ("split", "held"):
        assert losses(found[name]) == pytest.approx(losses(whole["whole"]), abs=1e-5)
        for one, two in zip(whole["whole"]["steps"], found[name]["steps"], strict=True):
            assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4) and one["grad_norm"] > 1.5, "clipped"
            assert two["tokens"] == one["tokens"]
        assert found[name]["flops"] == whole["whole"]["flops"]
        assert furthest(tmp_path, "whole", name) < 2e-4
    assert losses(found["split_bf16"]) == pytest.approx(losses(whole["whole_bf16"]), abs=0.05)
    assert losses(found["split_bf16"]) != pytest.approx(losses(whole["whole"]), abs=1e-5), "it did compute in bf16"


def test_a_killed_training_goes_on_with_another_number_of_processes(tmp_path: Path, decoder_folder: Path) -> None:
    split = {"shard_weights": True, "checkpoint_every": 3}
    unbroken = trainings(tmp_path, decoder_folder, 1, unbroken={"checkpoint_every": 3})["unbroken"]
    for name, processes, given in (("three", 3, split), ("one", 1, {"checkpoint_every": 3})):
        trainings(tmp_path, decoder_folder, 2, **{name: {**split, "killed_at": 5}})
        (kept,) = (tmp_path / name).glob("*.safetensors")
        assert kept.name.startswith("step-0000000003-")
        rest = trainings(tmp_path, decoder_folder, processes, **{name: given})[name]
        assert losses(rest) == pytest.approx(losses(unbroken)[3:], abs=1e-5), "steps 4 and after, from its checkpoint"
        assert furthest(tmp_path, "unbroken", name) < 2e-4


def test_a_run_with_split_weights_is_the_run_with_whole_ones(tmp_path: Path) -> None:
    done = run(tmp_path, "+experiment=dual_view", "runtime.shard_weights=true", processes=2)
    assert done.returncode == 0, done.stderr
    store = ResultStore(tmp_path)
    (training,) = store.manifests("train")
    assert training.hardware["shard_weights"] is True and training.hardware["processes"] == 2
    saved = store.folder("train", training.id) / MODEL_FOLDER
    assert json.loads((saved / "config.json").read_text())["architectures"] == ["BertModel"]
    again = run(tmp_path, "+experiment=dual_view", processes=1)
    assert again.returncode == 0, again.stderr
    assert [manifest.id for manifest in store.manifests("train")] == [training.id], "found again without the setting"
