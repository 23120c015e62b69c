"""A bf16 copy of the weights beside autocast, in training on one batch: what a step takes, by attention.

    python -m benchmarks.half [--rounds 7] [--threads 1] [--weights DIR]

A step is forward and backward pass, clipping and AdamW on the fp32 weights. `copy` is the way of a run: forward and
backward pass in a bf16 copy, which takes over the weights before and gives back the gradients after. `autocast` keeps
fp32 weights and turns them into bf16 in each pass (torch.autocast). All variants see the same batches by turns; the
first round is dropped.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ablate.cli.overrides import quoted
from ablate.compose import load, strict
from ablate.data.mix import build_mix
from ablate.engine.prepare import prepare
from ablate.model.device import resolve_device
from ablate.model.encoder import BiEncoder
from ablate.model.losses import batch_loss
from ablate.model.module import HalfCopy
from ablate.model.packing import backbone_of

VARIANTS = ("fp32 sdpa", "autocast sdpa", "autocast eager", "copy sdpa", "copy eager", "copy packed")


class Step:
    """One optimiser step of a variant."""

    def __init__(self, variant: str, encoder: BiEncoder, temperature: float, sub_batch: int) -> None:
        """`encoder` is the variant's own."""
        self._way, _, attention = variant.partition(" ")
        self._encoder = encoder.train()
        self._half = HalfCopy(encoder) if self._way == "copy" else None
        self._computing = encoder if self._half is None else self._half.encoder
        if attention == "packed":
            backbone_of(self._computing.network).set_attn_implementation("sdpa")
            self._computing.pack(True)
        else:
            backbone_of(self._computing.network).set_attn_implementation(attention)
        self._weights = list(encoder.parameters())
        self._optimizer = torch.optim.AdamW(self._weights, lr=1e-5, fused=True)
        self._temperature, self._sub_batch = temperature, sub_batch

    def __call__(self, batch: Any) -> float:
        """Do the step on a batch and return its loss."""
        device = self._encoder.device
        batch = batch.to(device)
        self._optimizer.zero_grad(set_to_none=True)
        if self._half is not None:
            self._half.pull()
        with torch.autocast(device.type, torch.bfloat16, enabled=self._way == "autocast"):
            vectors_NH = self._computing.embed(batch.texts, self._sub_batch)
        queries_QH, passages_PH = vectors_NH.split([len(batch.query_tokens), len(vectors_NH) - len(batch.query_tokens)])
        loss = batch_loss(queries_QH, passages_PH, batch.positive_QP, batch.candidate_QP, self._temperature)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._half is not None:
            self._half.push_gradients()
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimizer.step()
        return loss.item()


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for each variant and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.half", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds that are measured (default 7)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1)")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of another backbone (default: MiniLM as shipped)"
    )
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see that all of it runs")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    model = [] if options.weights is None else ["model=local", quoted("model.path", options.weights.resolve())]
    with tempfile.TemporaryDirectory() as results:
        words = ["+experiment=dual_view", "tracker=none", "runtime.dev_set=null", quoted("runtime.results", results)]
        run = prepare(strict(load([*words, *(["model=tiny"] if options.tiny else model)])))
        recipe = run.config.recipe
        prepared = run.prepared(build_mix(run.source, recipe, run.config.seed))
        batches = [prepared.steps[number] for number in range(options.rounds + 1)]
        first = run.untouched_encoder()
        steps: dict[str, Callable[[Any], float]] = {
            name: Step(name, copy.deepcopy(first), recipe.train.temperature, recipe.train.sub_batch)
            for name in VARIANTS
        }
    clock = time.process_time if resolve_device("auto") == "cpu" else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in VARIANTS}
    losses: dict[str, float] = {}
    for batch in batches:
        for name, step in steps.items():
            started = clock()
            losses[name] = step(batch)
            taken[name].append(clock() - started)
    print(f"{resolve_device('auto')}, torch {torch.__version__}, batches of {len(batches[0].group_ids)} groups")
    print("\n| variant | ms per group | lowest to highest | last loss |\n|---|---:|---|---:|")
    for name, seconds in taken.items():
        of_group = sorted(1000 * one / len(batches[0].group_ids) for one in seconds[1:])
        print(f"| {name} | {median(of_group):.1f} | {of_group[0]:.1f} to {of_group[-1]:.1f} | {losses[name]:.4f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
