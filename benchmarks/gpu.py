"""Share of a GPU's peak in training and encoding, and what packed texts, compiled layers and the tiled loss bring.

    python -m benchmarks.gpu [--tiny] [--only decoder loss] [--texts 768]

Weights are drawn from configurations: an encoder of 305 M parameters of the mGTE kind (Zhang et al. 2024, arXiv
2407.19669: 12 layers of 768, 250,048 words) and two layers of a decoder of the size of Mistral 7B. They go through the
encoder of a run, in training with the bf16 copy, the fp32 weights and AdamW of a run. Texts of random lengths up to 256
tokens are padded in sub-batches of like length, or packed. MFU counts 6 operations per parameter and real token in
training and 2 in encoding, and attention; the peak is that of `ablate.model.peaks`. `--tiny` shows on a CPU that all of
it runs, and no speed.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch

from ablate.compose import load, strict
from ablate.data.batches import IntArray
from ablate.model import losses
from ablate.model.encoder import TransformerEncoder
from ablate.model.module import FlopEstimate, HalfCopy
from ablate.model.peaks import peak
from ablate.model.text import tiny_tokenizer
from ablate.recipe.schema import ModelConfig

PARTS = {"padded": (False, False), "packed": (True, False), "packed, compiled": (True, True)}
"""Name of a row -> whether texts are packed, and layers compiled."""
WORKS = ("encoder", "decoder", "loss")


def configurations(tiny: bool) -> dict[str, Any]:
    """Return what the weights are drawn from: an encoder of the mGTE kind, two layers of a decoder of the 7B kind."""
    from transformers import MistralConfig, ModernBertConfig

    hidden, heads, inner, layers, words = (64, 4, 128, 2, 500) if tiny else (768, 12, 3072, 12, 250_048)
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    encoder = ModernBertConfig(
        vocab_size=words,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=inner,
        num_hidden_layers=layers,
        global_attn_every_n_layers=1,
        **special,
    )
    hidden, heads, inner, words = (64, 4, 128, 500) if tiny else (4096, 32, 14_336, 32_000)
    decoder = MistralConfig(
        vocab_size=words,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads // 4,
        intermediate_size=inner,
        num_hidden_layers=2,
        sliding_window=None,
        use_cache=False,
        pad_token_id=0,
    )
    return {"encoder": encoder, "decoder": decoder}


def drawn(config: Any, device: str) -> TransformerEncoder:
    """Return a bi-encoder with weights drawn from a configuration, in fp32."""
    from transformers import AutoModel

    of_run = strict(load(["+experiment=query_only", "model=tiny"])).recipe.model
    model: ModelConfig = dataclasses.replace(of_run, query_length=256, passage_length=256)
    assert model.tiny is not None
    torch.manual_seed(0)
    with torch.device(device):
        network = AutoModel.from_config(config, attn_implementation="sdpa")
    return TransformerEncoder(network, tiny_tokenizer(model.tiny, ["a"]), model, batch_size=64).eval()


class Training:
    """Optimiser steps as a run does them in bf16, without Lightning and records."""

    def __init__(self, encoder: TransformerEncoder, texts: list[IntArray], packed: bool, compiled: bool) -> None:
        """Each third text is a query and the one after it its positive."""
        self.half = HalfCopy(encoder.train())
        self.half.encoder.pack(packed)
        if compiled:
            self.half.encoder.compile_layers()
        self._weights = list(encoder.parameters())
        self._optimizer = torch.optim.AdamW(self._weights, lr=1e-5, fused=True)
        self._texts = texts
        self.loss = torch.zeros(())

    def __call__(self) -> None:
        """Do one step."""
        self.half.pull()
        vectors_NH = self.half.encoder.embed(self._texts, 64)
        queries_QH, passages_PH = vectors_NH[::3], vectors_NH[1::3]
        positive_QP = torch.eye(len(queries_QH), len(passages_PH), dtype=torch.bool, device=vectors_NH.device)
        self.loss = losses.batch_loss(queries_QH, passages_PH, positive_QP, torch.ones_like(positive_QP), 0.05)
        self.loss.backward()  # type: ignore[no-untyped-call]
        self.half.push_gradients()
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def encoding(encoder: TransformerEncoder, texts: list[IntArray], packed: bool, compiled: bool) -> Callable[[], Any]:
    """Return what encodes all texts in bf16."""
    half = encoder.bfloat16()
    half.pack(packed)
    if compiled:
        half.compile_layers()

    @torch.no_grad()
    def work() -> Any:
        return half.embed(texts, 64)

    return work


def timed(work: Callable[[], object], rounds: int, device: str) -> tuple[float, float]:
    """Return the median seconds of a round, and the seconds of the first two, which do not count."""
    started = _now(device)
    work()
    work()
    first, taken = _now(device) - started, []
    for _ in range(rounds):
        begun = _now(device)
        work()
        taken.append(_now(device) - begun)
    return median(taken), first


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _fresh(device: str) -> None:
    gc.collect()
    torch.compiler.reset()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _row(
    name: str, seconds: float, first: float, operations: float, tokens: int, best: float | None, device: str
) -> str:
    rate = operations / seconds
    share = "-" if best is None else f"{rate / best:.1%}"
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    return (
        f"| {name} | {1000 * seconds:,.1f} | {tokens / seconds / 1e6:.3f} | {rate / 1e12:.1f} | {share} "
        f"| {memory:.1f} | {first:.1f} |"
    )


def losses_of(pairs: tuple[int, int, int], device: str, rounds: int) -> list[str]:
    """Return a row for the full and the tiled loss of random vectors, with their gradients."""
    num_queries, num_passages, hidden = pairs
    rows = []
    for name, tiled_from in (("full", 2**62), ("tiled", 0)):
        _fresh(device)
        losses.TILED_FROM = tiled_from
        torch.manual_seed(0)
        queries_QH, passages_PH = (
            torch.nn.functional.normalize(torch.randn(number, hidden, device=device), dim=1).requires_grad_()
            for number in (num_queries, num_passages)
        )
        positive_QP = torch.eye(num_queries, num_passages, dtype=torch.bool, device=device)
        candidate_QP = torch.ones_like(positive_QP)
        held = torch.cuda.memory_allocated() if device == "cuda" else 0

        def work(inputs: Any = (queries_QH, passages_PH, positive_QP, candidate_QP)) -> None:
            losses.batch_loss(*inputs, 0.05).backward()  # type: ignore[no-untyped-call]

        seconds, _ = timed(work, rounds, device)
        memory = (torch.cuda.max_memory_allocated() - held) / 2**30 if device == "cuda" else 0.0
        rows.append(f"| {name}, {num_queries:,} x {num_passages:,} x {hidden} | {1000 * seconds:.1f} | {memory:.2f} |")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for each network, work and part, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="small networks on the CPU, to see that all of it runs")
    parser.add_argument("--steps", type=int, default=10, help="rounds that are measured (default 10)")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=WORKS, metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--texts", type=int, default=768, help="texts of a step (default 768)")
    options = parser.parse_args(argv)
    if not options.tiny and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device here; --tiny runs on the CPU")
    device = "cpu" if options.tiny else "cuda"
    best = None if options.tiny else peak(torch.cuda.get_device_name(), "bf16")
    generator = np.random.default_rng(0)
    num_texts, longest = (12, 20) if options.tiny else (options.texts, 256)
    lengths = generator.integers(4, longest + 1, num_texts)
    texts = [generator.integers(1, 400, length).astype(np.int32) for length in lengths]
    tokens = int(lengths.sum())
    print(f"{torch.cuda.get_device_name() if best else device}, torch {torch.__version__}, bf16, {tokens:,} tokens\n")
    for name, config in configurations(options.tiny).items():
        if name not in options.only:
            continue
        print(f"| {name} | ms | million tokens/s | TFLOP/s | MFU | GiB | first two, s |\n|---|---|---|---|---|---|---|")
        for part, (packed, compiled) in PARTS.items():
            compiled = compiled and not options.tiny
            _fresh(device)
            encoder = drawn(config, device)
            training = FlopEstimate(encoder)(list(map(len, texts)))
            seconds, first = timed(encoding(encoder, texts, packed, compiled), options.steps, device)
            print(_row(f"encoding, {part}", seconds, first, training / 3, tokens, best, device), flush=True)
            del encoder
            _fresh(device)
            step = Training(drawn(config, device), texts, packed, compiled)
            seconds, first = timed(step, options.steps, device)
            row = _row(f"training, {part}", seconds, first, training, tokens, best, device)
            print(f"{row} loss {step.loss.item():.4f}", flush=True)
            del step
        print()
    if "loss" not in options.only:
        return 0
    print("| loss and gradient in fp32 | ms | GiB beside vectors and relations |\n|---|---|---|")
    print("\n".join(losses_of((16, 32, 8) if options.tiny else (16_384, 32_768, 768), device, options.steps)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
