"""Share of a GPU's peak in training and encoding, and what each part brings; not run to its end yet, anywhere.

    python -m benchmarks.gpu [--tiny] [--steps 5]

Weights are drawn from configurations: an encoder of 305 M parameters of the mGTE kind (Zhang et al. 2024, arXiv
2407.19669: 12 layers of 768, 250,048 words) and two layers of a decoder of the size of Mistral 7B. Texts of random
lengths are padded (`sdpa`, also compiled) or laid end to end (`packed`, torch.nn.attention.varlen on CUDA, so without
a token of padding). MFU counts 6 operations per parameter and real token in training and 2 in encoding, and attention;
the peak is that of `ablate.model.peaks`. `--tiny` shows on a CPU that everything runs, and no speed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from ablate.data.batches import IntArray, sub_batches
from ablate.model import losses
from ablate.model.encoder import pool
from ablate.model.peaks import peak

Embed = Callable[[list[IntArray]], torch.Tensor]
ENDS: dict[str, Any] = {}
"""Where the texts of the packed row that is under way end (`cumulative`), and the longest of them (`longest`)."""


def packed_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: object, **options: Any
) -> tuple[torch.Tensor, None]:
    """Return attention (1, T, heads, size) within each text of a packed row, as transformers calls it."""
    causal, scale = bool(getattr(module, "is_causal", False)), options.get("scaling")
    repeats = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(repeats, dim=1) for states in (key, value))
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        rows = (states[0].transpose(0, 1).contiguous() for states in (query, key, value))
        ends, longest = ENDS["cumulative"], ENDS["longest"]
        window = (-1, 0) if causal else (-1, -1)
        return varlen_attn(*rows, ends, ends, longest, longest, scale=scale, window_size=window)[None], None
    bounds = ENDS["cumulative"].tolist()
    parts = [
        scaled_dot_product_attention(*(s[:, :, a:b] for s in (query, key, value)), is_causal=causal, scale=scale)
        for a, b in zip(bounds, bounds[1:], strict=False)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def configurations(tiny: bool) -> dict[str, Any]:
    """Return what the weights are drawn from, by name."""
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
    return {"encoder of the mGTE kind": encoder, "decoder layers of the 7B kind": decoder}


def padded(network: Any, device: str) -> Embed:
    """Return what embeds texts in sub-batches of 64 of like length."""

    def embed(texts: list[IntArray]) -> torch.Tensor:
        vectors = []
        for ids_NL, mask_NL, _ in sub_batches(texts, 64, 0):
            ids_NL, mask_NL = ids_NL.to(device), mask_NL.to(device)
            vectors.append(pool(network(input_ids=ids_NL, attention_mask=mask_NL).last_hidden_state, mask_NL, "mean"))
        return torch.cat(vectors)

    return embed


def packed(network: Any, device: str) -> Embed:
    """Return what embeds texts laid end to end in one row, longest first as `padded` does."""

    def embed(texts: list[IntArray]) -> torch.Tensor:
        texts = sorted(texts, key=len, reverse=True)
        lengths = torch.tensor([len(text) for text in texts])
        ids = torch.from_numpy(np.concatenate(texts).astype(np.int64))[None].to(device)
        places = torch.cat([torch.arange(int(length)) for length in lengths])[None].to(device)
        ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(device, torch.int32)
        ENDS.update(cumulative=ends, longest=int(lengths.max()))
        hidden_TH = network(input_ids=ids, position_ids=places).last_hidden_state[0]
        of_text = torch.repeat_interleave(torch.arange(len(texts)), lengths).to(device)
        sums = hidden_TH.new_zeros(len(texts), hidden_TH.shape[1]).index_add(0, of_text, hidden_TH)
        return sums / lengths.to(device, hidden_TH.dtype)[:, None]

    return embed


def operations(network: Any, texts: list[IntArray], per_parameter: int) -> float:
    """Return the operations that texts need: 6 per parameter outside the embeddings to train, 2 to encode."""
    embedded = sum(p.numel() for m in network.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters())
    parameters = sum(p.numel() for p in network.parameters()) - embedded
    config = network.config
    attention = 2 * config.num_hidden_layers * config.hidden_size * sum(len(text) ** 2 for text in texts)
    return float(per_parameter) * (parameters * sum(map(len, texts)) + attention)


def seconds_of(work: Callable[[], object], steps: int, device: str) -> float:
    """Return the seconds of one round of work, after a first one that does not count."""
    work()
    started = _now(device)
    for _ in range(steps):
        work()
    return (_now(device) - started) / steps


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def loss_of(vectors_NH: torch.Tensor, tiled: bool) -> torch.Tensor:
    """Return the loss where each third text is a query, and the one after it its positive."""
    queries_QH, passages_PH = (torch.nn.functional.normalize(v, dim=1) for v in (vectors_NH[::3], vectors_NH[1::3]))
    positive_QP = torch.eye(len(queries_QH), len(passages_PH), dtype=torch.bool, device=vectors_NH.device)
    losses.TILED_FROM = 0 if tiled else 2**62
    return losses.batch_loss(queries_QH, passages_PH, positive_QP, torch.ones_like(positive_QP), 0.05)


class Work:
    """The two things that are timed."""

    def __init__(self, embed: Embed, texts: list[IntArray], optimizer: torch.optim.Optimizer, tiled: bool) -> None:
        """`optimizer` has the weights that `embed` uses."""
        self._embed, self._texts, self._optimizer, self.tiled = embed, texts, optimizer, tiled

    def train(self) -> None:
        """Do one step."""
        loss_of(self._embed(self._texts), self.tiled).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._optimizer.zero_grad()

    @torch.no_grad()
    def encode(self) -> torch.Tensor:
        """Return the vectors of all texts."""
        return self._embed(self._texts)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each network and part, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="small networks on the CPU, to see that all of it runs")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args(argv)
    from transformers import AttentionInterface, AttentionMaskInterface, AutoModel

    if not options.tiny and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device here; --tiny runs on the CPU")
    AttentionInterface.register("packed", packed_attention)
    AttentionMaskInterface.register("packed", lambda *arguments, **options: None)
    device = "cpu" if options.tiny else "cuda"
    best = None if options.tiny else peak(torch.cuda.get_device_name(), "bf16")
    drawn = np.random.default_rng(0)
    num_texts, longest = (12, 20) if options.tiny else (768, 256)
    print(f"{'cpu' if options.tiny else torch.cuda.get_device_name()}, torch {torch.__version__}, bf16")
    for name, config in configurations(options.tiny).items():
        texts = [
            drawn.integers(1, 400, length).astype(np.int32) for length in drawn.integers(4, longest + 1, num_texts)
        ]
        for part in ("sdpa", "packed", "compiled", "tiled loss"):
            torch.manual_seed(0)
            attention = "packed" if part == "packed" else "sdpa"
            network = AutoModel.from_config(config, attn_implementation=attention).to(device, torch.bfloat16)
            if part == "compiled":
                network.compile(dynamic=True, backend="eager" if options.tiny else "inductor")
            embed = (packed if part == "packed" else padded)(network, device)
            optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)

            work = Work(embed, texts, optimizer, tiled=part == "tiled loss")
            first = loss_of(work.encode(), work.tiled).item()
            figures = [f"first loss {first:.3f}"]
            for done, what, per_parameter in ((work.encode, "encoding", 2), (work.train, "training", 6)):
                rate = operations(network, texts, per_parameter) / seconds_of(done, options.steps, device)
                share = "peak not known" if best is None else f"{rate / best:.1%} MFU"
                figures.append(f"{what} {rate / 1e12:.3f} TFLOP/s, {share}")
            print(f"{name}, {part}: {'; '.join(figures)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
