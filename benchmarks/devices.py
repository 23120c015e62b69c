"""One training step by two processes: our shared step, DDP and FSDP2 on the same batches, what they compute and send.

    python -m benchmarks.devices [--steps 6] [--batch 32] [--double] [KEY=VALUE ...]

gloo on a CPU, one thread a process, an encoder with drawn weights on a mix of `dual_view` from the generated world.
Losses have the passages of both processes as negatives, in all ways:

shared   the texts of the step are dealt by length, each once (`ablate.model.distributed`); gradients are summed
split    the same with `runtime.shard_weights`: weights, gradients and moments in parts (FSDP2)
ddp      each process takes half of the groups with all their texts, as a sampler of DDP deals them; vectors are
         gathered, a passage that both encoded counts once, and DDP averages the gradients

The ways take turns step by step. Loss and gradients must be those of one process; exit code 1 where they are not.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from ablate.compose import load, strict
from ablate.data.batches import Batch, IntArray, TrainingSteps, sub_batches
from ablate.data.mix import build_mix
from ablate.engine.prepare import prepare
from ablate.model.distributed import ALONE, World, joined
from ablate.model.encoder import BiEncoder
from ablate.model.losses import batch_loss
from ablate.model.module import RetrieverModule
from ablate.model.sharding import split_up, whole
from ablate.project import ROOT
from ablate.recipe.schema import TrainConfig

OVERRIDES = (
    "+experiment=dual_view",
    "model=tiny",
    "model.tiny.hidden=256",
    "model.tiny.layers=4",
    "model.tiny.heads=4",
    "model.dropout=0.0",
    "source.documents=2000",
    "budget.limit=1024",
    "tracker=none",
    "runtime.device=cpu",
)
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12}
"""Largest difference of a loss, and of a gradient as a share of the largest one."""


@dataclasses.dataclass
class Cost:
    """What steps took in one process, and what it handed to collectives."""

    seconds: float = 0.0
    """Of the processor, in its step."""
    tokens: int = 0
    """Real ones that it encoded."""
    computed: int = 0
    """With padding."""
    calls: int = 0
    gradients: int = 0
    """Bytes; those of a gather are the bytes of all processes."""
    vectors: int = 0
    weights: int = 0

    def reset(self) -> None:
        """Forget what was counted."""
        vars(self).update(vars(Cost()))


@contextmanager
def counted(cost: Cost) -> Iterator[None]:
    """Count what goes through the collectives of a block."""
    sent = {
        "all_reduce": ("gradients", lambda tensor, *_: tensor.nbytes),
        "all_gather": ("vectors", lambda parts, *_: sum(part.nbytes for part in parts)),
        "reduce_scatter_single": ("gradients", lambda _, own, *__: own.nbytes),
        "reduce_scatter_tensor": ("gradients", lambda _, own, *__: own.nbytes),
        **dict.fromkeys(("all_gather_single", "all_gather_into_tensor"), ("weights", lambda own, *_: own.nbytes)),
    }  # of FSDP2's, the first name since torch 2.13
    sent = {name: kind for name, kind in sent.items() if hasattr(dist, name)}
    before = {name: getattr(dist, name) for name in sent}

    def watched(name: str) -> Callable[..., Any]:
        kind, num_bytes = sent[name]

        def call(*given: Any, **named: Any) -> Any:
            cost.calls += 1
            setattr(cost, kind, getattr(cost, kind) + num_bytes(*given, *named.values()))
            return before[name](*given, **named)

        return call

    for name in sent:
        setattr(dist, name, watched(name))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(dist, name, function)


class Whole(torch.nn.Module):
    """An encoder whose `forward` embeds tokenised texts, as DDP wants it."""

    def __init__(self, encoder: BiEncoder, size: int) -> None:
        """`size` texts go into a forward pass."""
        super().__init__()
        self.encoder, self.size = encoder, size

    def forward(self, texts: Sequence[IntArray]) -> torch.Tensor:
        """Return their vectors (N, H)."""
        return self.encoder.embed(texts, self.size)


class Shared:
    """The step of `RetrieverModule`, with whole weights or split ones."""

    def __init__(self, encoder: BiEncoder, train: TrainConfig, world: World, *, split: bool = False) -> None:
        """Take the encoder as it is, or split it up."""
        self.cost, self._world, self._split = Cost(), world, split
        self.encoder = split_up(encoder, world, "cpu", "fp32") if split else encoder
        self._module = RetrieverModule(
            self.encoder,
            train,
            seed=0,
            num_steps=1,
            precision="fp32",
            after_step=lambda step, values: None,
            world=world,
            sharded=split,
        )

    def backward(self, step: int, batch: Batch) -> torch.Tensor:
        """Do forward and backward pass; return the loss of the whole batch."""
        loss = self._module.loss(batch, self.encoder)
        loss.backward()
        if not self._split:
            self._world.sum_gradients(self.encoder.parameters())
        return loss


class Ddp:
    """The step of DistributedDataParallel on each process's part of the groups."""

    def __init__(self, encoder: BiEncoder, train: TrainConfig, world: World, steps: TrainingSteps) -> None:
        """Wrap the encoder."""
        self.cost, self.encoder = Cost(), encoder
        self._steps, self._train, self._world = steps, train, world
        self._network = DistributedDataParallel(Whole(encoder, train.sub_batch))
        self._network.register_comm_hook(None, allreduce_hook)  # as without, and through a function that is counted

    def _shares(self, step: int, batch: Batch) -> list[NDArray[np.int64]]:
        """Return, for each process, the places of the texts of its groups."""
        groups = [self._steps.groups[index] for index in self._steps.plan(0)[step]]
        bounds = np.linspace(0, len(groups), self._world.size + 1).astype(int)
        places = {doc_id: len(groups) + place for place, doc_id in enumerate(batch.doc_ids)}
        return [
            np.array(
                [*range(first, last), *(places[doc] for doc in self._steps.relations_of(groups[first:last]).doc_ids)]
            )
            for first, last in zip(bounds, bounds[1:], strict=False)
        ]

    def backward(self, step: int, batch: Batch) -> torch.Tensor:
        """Do forward and backward pass; return the loss of the whole batch."""
        shares = self._shares(step, batch)
        own_NH = self._network([batch.texts[place] for place in shares[self._world.rank]])
        vectors_NH = self._world.gather(own_NH, shares)
        places = np.sort(np.concatenate(shares))  # the order of what `gather` returns
        first = torch.from_numpy(np.unique(places, return_index=True)[1])
        vectors_NH = vectors_NH.index_select(0, first)
        number = len(batch.query_tokens)
        loss = batch_loss(
            vectors_NH[:number], vectors_NH[number:], batch.positive_QP, batch.candidate_QP, self._train.temperature
        )
        (loss * self._world.size).backward()  # DDP takes the mean, and each process has a gradient for its own vectors
        return loss


def count_texts(encoder: BiEncoder, cost: Cost) -> None:
    """Have an encoder count what it embeds."""
    embed = encoder.embed

    def counting(texts: Sequence[IntArray], size: int, held_tokens: int | None = None) -> torch.Tensor:
        cost.tokens += sum(map(len, texts))
        cost.computed += sum(part.ids_NL.numel() for part in sub_batches(texts, size, 0))
        return embed(texts, size, held_tokens)

    encoder.embed = counting


def held(encoder: BiEncoder) -> int:
    """Return the bytes of weights, gradients and two moments that this process keeps."""
    return 4 * sum((p.to_local() if isinstance(p, DTensor) else p).nbytes for p in encoder.parameters())


def worker(num_steps: int, batch_size: int, number: torch.dtype, overrides: Sequence[str]) -> int:
    """Take the steps in all ways as one of the processes; return the exit code."""
    torch.set_num_threads(1)
    config = strict(load([*OVERRIDES, f"train.batch_size={batch_size}", *overrides]))
    with tempfile.TemporaryDirectory() as folder, joined("cpu") as world:
        run = prepare(dataclasses.replace(config, runtime=dataclasses.replace(config.runtime, results=folder)))
        torch.set_num_threads(1)
        prepared = run.prepared(build_mix(run.source, run.config.recipe, seed=0))
        steps, train = prepared.steps, prepared.train

        def drawn() -> BiEncoder:
            return run.untouched_encoder().train().to(number)

        one = Shared(drawn(), train, ALONE)
        ways = {
            "shared": Shared(drawn(), train, world),
            "ddp": Ddp(drawn(), train, world, steps),
            "split": Shared(drawn(), train, world, split=True),
        }
        for way in (one, *ways.values()):
            count_texts(way.encoder, way.cost)
        furthest = dict.fromkeys(ways, (0.0, 0.0))
        for step in range(num_steps + 1):
            batch = steps[step]
            for name, way in {"one": one, **ways}.items():
                way.encoder.zero_grad(set_to_none=True)
                if step == 1:
                    way.cost.reset()  # the first step warms up
                if world.size > 1 and way is not one:
                    dist.barrier()
                started = time.process_time()
                with counted(way.cost):
                    loss = way.backward(step, batch)
                way.cost.seconds += time.process_time() - started
                gradients = torch.cat([whole(p.grad).flatten() for p in way.encoder.parameters() if p.grad is not None])
                if way is one:
                    expected = loss.detach(), gradients
                    continue
                of_loss = float((loss.detach() - expected[0]).abs())
                of_gradients = float((gradients - expected[1]).abs().max() / expected[1].abs().max())
                furthest[name] = tuple(map(max, furthest[name], (of_loss, of_gradients)))
        rows = {}
        for name, way in ways.items():
            rows[name] = [None] * world.size
            dist.all_gather_object(rows[name], (way.cost, held(way.encoder)))
        if world.leads:
            show(num_steps, one.cost, held(one.encoder), rows, furthest)
        world.announce(False)
    return int(any(value > TOLERANCE[number] for pair in furthest.values() for value in pair))


def show(
    num_steps: int,
    one: Cost,
    held_by_one: int,
    rows: dict[str, list[tuple[Cost, int]]],
    furthest: dict[str, tuple[float, float]],
) -> None:
    """Print a table of figures per step."""
    print(
        "| way | loss differs by | gradients, share of the largest | CPU-s, all processes | busiest | tokens "
        "| with padding | busiest | calls | MB of gradients | of vectors | of weights | MB held per process |"
    )
    print("|---|" + "---:|" * 12)
    all_rows = {"one process": [(one, held_by_one)], **rows}
    for name, costs in all_rows.items():
        each = [cost for cost, _ in costs]
        first, (of_loss, of_gradients) = each[0], furthest.get(name, (0.0, 0.0))
        cells = [
            f"{of_loss:.1e}",
            f"{of_gradients:.1e}",
            f"{sum(cost.seconds for cost in each) / num_steps:.2f}",
            f"{max(cost.seconds for cost in each) / num_steps:.2f}",
            f"{sum(cost.tokens for cost in each) / num_steps:,.0f}",
            f"{sum(cost.computed for cost in each) / num_steps:,.0f}",
            f"{max(cost.computed for cost in each) / num_steps:,.0f}",
            f"{first.calls / num_steps:.0f}",
            *(f"{value / num_steps / 1e6:.2f}" for value in (first.gradients, first.vectors, first.weights)),
            f"{max(number for _, number in costs) / 1e6:.0f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def main(argv: Sequence[str] | None = None) -> int:
    """Start two processes on the steps and return their exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.devices", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=6, help="that are measured, after one that is not (default: 6)")
    parser.add_argument("--batch", type=int, default=32, help="groups of a step (default: 32)")
    parser.add_argument("--double", action="store_true", help="compute in fp64, where only mistakes make a difference")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what else is set, as for ablate.run")
    options = parser.parse_args(argv)
    if "RANK" in os.environ:
        number = torch.float64 if options.double else torch.float32
        return worker(options.steps, options.batch, number, options.overrides)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "benchmarks.devices"]
    given = sys.argv[1:] if argv is None else argv
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *torchrun, *given], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
