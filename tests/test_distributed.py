"""Several processes on one training: the same steps as one process on the same global batch, up to rounding."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, override
from test_training import STEPS

from ablate.model import distributed
from ablate.model.distributed import ALONE, World, joined, world_size
from ablate.records import UserError
from ablate.store.results import ResultStore

TINY = (
    "model=tiny",
    "train.batch_size=8",
    "tracker=none",
    "runtime.dev_set=null",
    "source.documents=600",
    "budget.limit=32",
    "runtime.threads=1",
)


def test_texts_are_shared_out_once_each_and_evenly_by_tokens() -> None:
    lengths = [5, 1, 9, 3, 7]  # longest first: places 2 4 0 3 1, dealt 0 1 1 0 0
    shares = World(0, 2).share(lengths)
    assert [share.tolist() for share in shares] == [[1, 2, 3], [0, 4]]
    assert [share.tolist() for share in ALONE.share(lengths)] == [[0, 1, 2, 3, 4]]
    many = World(2, 3).share(np.random.default_rng(0).integers(5, 300, 200).tolist())
    assert sorted(place for share in many for place in share.tolist()) == list(range(200))


def test_a_process_by_itself_gathers_nothing_and_leads() -> None:
    vectors = torch.ones(2, 3, requires_grad=True)
    assert ALONE.gather(vectors, [np.arange(2)]) is vectors
    assert ALONE.leads and not World(1, 2).leads
    with joined("cpu") as world:
        assert world is ALONE


def test_gradients_are_sent_in_buckets_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process with the same gradients is played: sums are twice as large, whatever shares a bucket."""
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (5, 4), (1,), (3, 1))]
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, number + 1.0)
    parameters[3].grad = None  # not used by this process
    sent = []

    def all_reduce(tensor: torch.Tensor) -> None:
        sent.append(tensor.tolist())
        tensor.mul_(2)

    monkeypatch.setattr(distributed, "BUCKET_BYTES", 4 * 10)
    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    World(0, 2).sum_gradients(parameters)
    assert sent == [[1.0] * 6 + [2.0] * 4, [3.0] * 20, [0.0] + [5.0] * 3]
    expected = (2.0, 4.0, 6.0, 0.0, 10.0)
    for parameter, value in zip(parameters, expected, strict=True):
        assert torch.equal(parameter.grad, torch.full_like(parameter, value))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["two", "0", "-1", ""])
def test_a_bad_number_of_processes_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="WORLD_SIZE=.* must be a whole number from 1"):
        world_size({"WORLD_SIZE": text})


def test_half_of_torchruns_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="WORLD_SIZE=2 is set and RANK is not"), joined("cpu"):
        pass


def start(program: list[str], processes: int) -> subprocess.CompletedProcess[str]:
    """Run a program, under torchrun when several processes are asked for, and end them all if they hang."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), *program]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    ) as process:
        try:
            out, err = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def run(results: Path, *overrides: str, processes: int) -> subprocess.CompletedProcess[str]:
    return start(["-m", "ablate.run", *overrides, *TINY, override("runtime.results", results)], processes)


STEPS_OF_A_SHARE = """
import dataclasses, json, sys, torch
from pathlib import Path
from test_training import GROUPS, MODEL, PASSAGES, RUNTIME, TRAIN, prepared
from ablate.model.distributed import joined
from ablate.model.encoder import BiEncoder
from ablate.model.module import fit

torch.set_num_threads(1)
model = dataclasses.replace(MODEL, dropout=0.0)
texts = [passage.text for passage in PASSAGES.values()]
steps = []
with joined("cpu") as world:
    world.announce(True) if world.leads else world.is_called()
    encoder = BiEncoder.from_config(model, seed=0, tokenizer_texts=texts)
    fit(
        encoder, prepared(encoder, GROUPS, model, dataclasses.replace(TRAIN, learning_rate=1e-6), 0), runtime=RUNTIME,
        checkpoint_dir=Path(sys.argv[1]) / str(world.rank), on_step=lambda _, values: steps.append(values), world=world,
    )
    assert bool(steps) == world.leads
    if world.leads:
        Path(sys.argv[1], "steps.json").write_text(json.dumps(steps))
"""


def test_two_processes_take_the_steps_of_one_on_the_same_batches(tmp_path: Path) -> None:
    """The learning rate is tiny, so that rounding does not grow through Adam's division by small moments."""
    script = tmp_path / "share.py"
    script.write_text(STEPS_OF_A_SHARE)
    found = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        done = start([str(script), str(folder)], processes)
        assert done.returncode == 0, done.stderr
        found[processes] = json.loads((folder / "steps.json").read_text())
    assert len(found[1]) == len(found[2]) == STEPS
    for one, two in zip(found[1], found[2], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4) and one["grad_norm"] > 0.01
        assert two["tokens"] == one["tokens"], "each unique text is encoded once, whoever does it"


def test_a_run_of_two_processes_is_one_run(tmp_path: Path) -> None:
    for _ in range(2):
        done = run(tmp_path, "+experiment=dual_view", processes=2)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("dual_view seed 0: mix") == 1, "the followers print nothing"
    store = ResultStore(tmp_path)
    (training,) = store.manifests("train")
    assert training.hardware["processes"] == 2 and training.counts["steps"] == 4 and not store.damaged(training)
    assert len(list(store.manifests("evaluation"))) == 2
    lines = (store.folder("train", training.id) / "ledger.jsonl").read_text().splitlines()
    assert sum('"loss"' in line for line in lines) == 4, "the leader alone logs, and the repeat found the run"


def test_a_multirun_under_torchrun_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "+experiment=dual_view,instructions", processes=2)
    assert done.returncode != 0
    assert "torchrun started 2 processes and each of them would go through every run" in done.stderr
    assert not (tmp_path / "runs").exists()
