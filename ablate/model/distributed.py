"""One training on several devices: each process encodes its share of the step's texts, all see the whole batch.

Started by `torchrun --nproc-per-node N -m ablate.run …`, which sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT. Every process draws the same global batch; the unique texts of a step are shared out, the vectors are
gathered so that passages of all devices are negatives, and the gradients are summed. So a step does the arithmetic of
one process on the same batch, up to the order of sums, and a passage is still encoded once. Shapes: N texts, H hidden
size.
"""

from __future__ import annotations

import datetime
import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from ablate.records import UserError

TIMEOUT = datetime.timedelta(hours=24)
"""How long a process waits for the others: the first one may be building a mix or measuring a dev set."""

BUCKET_BYTES = 25 * 2**20
"""Of gradients that are sent together, as DDP's buckets; one call for each tensor waits many times."""


class World:
    """The processes of one training. The first one (rank 0) does all that is not a step; the others follow it."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        """A world of one process needs nothing to be set up."""
        self.rank, self.size = rank, size
        self._told = False

    @property
    def leads(self) -> bool:
        """Whether this process writes files, logs and measures."""
        return self.rank == 0

    def announce(self, train: bool) -> None:
        """Tell the followers, once, whether there is a training to take part in; only the first word counts."""
        if self.size > 1 and not self._told:
            self._told = True
            dist.broadcast(torch.tensor([int(train)], device=_device()), src=0)

    def is_called(self) -> bool:
        """Wait, as a follower, until the leader says whether there is a training to take part in."""
        word = torch.zeros(1, dtype=torch.int64, device=_device())
        dist.broadcast(word, src=0)
        return bool(word.item())

    def share(self, lengths: Sequence[int]) -> list[NDArray[np.int64]]:
        """Return, for each rank, the places of the texts that it encodes, so that all get about equally many tokens."""
        order = np.argsort([-length for length in lengths], kind="stable")
        turns = np.arange(len(order))
        rounds, place = np.divmod(turns, self.size)
        rank = np.where(rounds % 2 == 0, place, self.size - 1 - place)  # there and back: 0 1 1 0 0 1 …
        return [np.sort(order[rank == process]) for process in range(self.size)]

    def gather(self, own_NH: torch.Tensor, shares: Sequence[NDArray[np.int64]]) -> torch.Tensor:
        """Return the vectors of all texts (N, H); only those of this process carry a gradient."""
        if self.size == 1:
            return own_NH
        longest = max(map(len, shares))
        padded = own_NH.new_zeros(longest, own_NH.shape[1])
        padded[: len(own_NH)] = own_NH.detach()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        mine = self.rank
        rows = [own_NH if process == mine else parts[process][: len(shares[process])] for process in range(self.size)]
        back = torch.from_numpy(np.argsort(np.concatenate(shares))).to(own_NH.device)
        return torch.cat(rows).index_select(0, back)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes; a parameter that one process did not use counts as zero there."""
        if self.size == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            sums = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(sums)
            parts = sums.split([gradient.numel() for gradient in bucket])
            torch._foreach_copy_(bucket, [part.view_as(own) for part, own in zip(parts, bucket, strict=True)])


def _buckets(gradients: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Yield gradients in their order, so many at a time as fit into BUCKET_BYTES; one that is larger by itself."""
    bucket: list[torch.Tensor] = []
    for gradient in gradients:
        if bucket and sum(own.nbytes for own in bucket) + gradient.nbytes > BUCKET_BYTES:
            yield bucket
            bucket = []
        bucket.append(gradient)
    yield bucket


ALONE = World()


def world_size(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes torchrun started for this run; 1 without it. Raises UserError for a bad value."""
    text = environment.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"the environment variable WORLD_SIZE={text!r} must be a whole number from 1; use torchrun")
    return int(text)


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, if it did; at the leader's end the followers are let go."""
    size = world_size()
    if size == 1:
        yield ALONE
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(f"WORLD_SIZE={size} is set and {missing[0]} is not; start the run with torchrun")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    world = World(dist.get_rank(), size)
    try:
        yield world
    finally:
        try:
            if world.leads:
                world.announce(False)
        finally:
            gc.collect()  # split weights refer to the group in cycles, and must go before it
            dist.destroy_process_group()


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
