"""Peak memory and CPU time of a training step by batch size: all passes held, passes done again, full or tiled loss.

    python -m benchmarks.large_batches [--batches 8 32 128 512] [--held 2048] [--pairs 1024 4096]

Each figure comes from a process of its own, as what it took beyond its start. The encoder is a BERT of 4 layers of 256
with drawn weights, a group one query and two passages of 32 tokens; the loss alone is of n queries and 2n passages of
384 numbers.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from ablate.model import losses
from ablate.model.encoder import BiEncoder
from ablate.recipe.schema import ModelConfig, TinyModel

LENGTH = 32
MODEL = ModelConfig(
    name="drawn",
    path=None,
    hub_revision=None,
    tiny=TinyModel(vocabulary=2000, hidden=256, layers=4, heads=4),
    lora=None,
    pooling="mean",
    normalise=True,
    query_prefix="",
    passage_prefix="",
    separator=" ",
    order="query_first",
    append_eos=False,
    query_length=LENGTH,
    passage_length=LENGTH,
    dropout=0.0,
    trust_remote_code=False,
)


def relations(num_queries: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the relations of queries whose passages 2n and 2n + 1 are positive and negative; all are candidates."""
    positive_QP = torch.zeros(num_queries, 2 * num_queries, dtype=torch.bool)
    positive_QP[torch.arange(num_queries), 2 * torch.arange(num_queries)] = True
    return positive_QP, torch.ones_like(positive_QP)


def step(num_groups: int, held_tokens: int | None) -> None:
    """Do the forward and backward pass of a step, and print what it took."""
    encoder = BiEncoder.from_config(MODEL, seed=0, tokenizer_texts=["a few words"])
    texts = [np.full(LENGTH, 1 + number % 5, np.int32) for number in range(3 * num_groups)]
    encoder.embed(texts[:16], 16).sum().backward()  # type: ignore[no-untyped-call]
    measured = Measured()
    vectors_NH = encoder.embed(texts, 16, held_tokens)
    loss = losses.batch_loss(vectors_NH[:num_groups], vectors_NH[num_groups:], *relations(num_groups), 0.05)
    loss.backward()  # type: ignore[no-untyped-call]
    measured.show()


def loss_alone(num_queries: int, tiled: bool) -> None:
    """Compute a loss and its gradient, and print what it took."""
    losses.TILED_FROM = 0 if tiled else 2**62
    queries_QH, passages_PH = (
        torch.nn.functional.normalize(torch.randn(number, 384), dim=1).requires_grad_()
        for number in (num_queries, 2 * num_queries)
    )
    related = relations(num_queries)
    measured = Measured()
    losses.batch_loss(queries_QH, passages_PH, *related, 0.05).backward()  # type: ignore[no-untyped-call]
    measured.show()


class Measured:
    """Peak memory and CPU time of this process from here on."""

    def __init__(self) -> None:
        """Start."""
        self._memory, self._seconds = self._peak(), time.process_time()

    @staticmethod
    def _peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def show(self) -> None:
        """Print both."""
        print(f"{self._peak() - self._memory:.0f} MiB, {time.process_time() - self._seconds:.2f} CPU-s")


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line for each case and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_batches", description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="*", default=[8, 32, 128, 512], help="groups of a step")
    parser.add_argument("--held", type=int, default=2048, help="runtime.held_tokens of the bounded step")
    parser.add_argument("--pairs", type=int, nargs="*", default=[1024, 4096], help="queries of the loss alone")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.case:
        torch.set_num_threads(1)
        kind, number, held = options.case.split()
        if kind == "step":
            step(int(number), int(held) or None)
        else:
            loss_alone(int(number), kind == "tiled")
        return 0
    cases = [f"step {number} {held}" for number in options.batches for held in (0, options.held)]
    cases += [f"{kind} {number} 0" for number in options.pairs for kind in ("full", "tiled")]
    for case in cases:
        command = [sys.executable, "-m", "benchmarks.large_batches", "--case", case]
        figures = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        kind, number, held = case.split()
        what = f"step of {number} groups, held: {held if int(held) else 'all'}"
        print(f"{what if kind == 'step' else f'{kind} loss of {number} queries':40s} {figures}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
