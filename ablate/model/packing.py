"""Texts laid end to end in one row of tokens, so that no forward pass computes padding.

Attention stays within each text by the texts' ends, which every backbone of transformers hands through to the attention
that its configuration names (`cu_seq_lens_q` and `max_length_q`, as for FlashAttention); positions start anew with each
text. On CUDA the kernel is PyTorch's own FlashAttention, for 16-bit numbers; elsewhere each text is attended by itself,
which shows what is computed and saves nothing. Shapes: N texts, T tokens of all of them, H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from ablate.data.batches import IntArray, sent
from ablate.model.backbone import quiet_transformers, usable_positions
from ablate.model.device import own_generators
from ablate.records import UserError

ATTENTION = "ablate_packed"
"""Name of the attention among those of transformers."""
MOST_TOKENS = 65_536
"""Tokens of a row: enough to fill a large GPU, and few enough for the memory of any that trains the model."""
HALF = (torch.float16, torch.bfloat16)
UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some backbones do to attention scores and this attention does not."""
PROBES = tuple(np.arange(start, start + length, dtype=np.int32) for start, length in ((1, 9), (2, 8), (11, 5)))
"""Texts that a network is tried with; the one in question is first and the longest, and so the first of its row."""
ALIKE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""By precision, how far apart vectors of one text may be beside other texts and alone, relative to their norm."""


class Pack(NamedTuple):
    """Some texts in one row."""

    ids_1T: torch.Tensor
    places_1T: torch.Tensor
    """Of each token in its own text, from 0."""
    ends_N: torch.Tensor
    """Where texts end, with a 0 before the first: N + 1 numbers of 32 bits."""
    longest: int
    """Tokens of the longest text."""
    rows: NDArray[np.int64]
    """Where in the list of all texts each one stood."""

    @property
    def ids(self) -> torch.Tensor:
        """Tokens, none of them padding."""
        return self.ids_1T

    def to(self, device: torch.device) -> Pack:
        """Return the same pack on a device, without waiting for it."""
        ids_1T, places_1T, ends_N = (sent(tensor, device) for tensor in (self.ids_1T, self.places_1T, self.ends_N))
        return Pack(ids_1T, places_1T, ends_N, self.longest, self.rows)


def packs(texts: Sequence[IntArray], most_tokens: int = MOST_TOKENS) -> Iterator[Pack]:
    """Yield the texts in rows of at most `most_tokens` tokens (or one longer text), longest texts first."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        totals = np.cumsum(lengths[order[start:]])
        stop = start + max(1, int(np.searchsorted(totals, most_tokens, side="right")))
        rows = order[start:stop]
        ends = np.concatenate([[0], totals[: stop - start]])
        places = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths[rows])
        ids = np.concatenate([texts[row] for row in rows]).astype(np.int64)
        yield Pack(
            torch.from_numpy(ids)[None],
            torch.from_numpy(places)[None],
            torch.from_numpy(ends.astype(np.int32)),
            int(lengths[rows[0]]),
            rows,
        )
        start = stop


def pool_packed(hidden_TH: torch.Tensor, ends_N: torch.Tensor, pooling: Literal["mean", "cls", "last"]) -> torch.Tensor:
    """Return one vector per text (N, H) in fp32: the mean over its tokens, its first token, or its last one.

    That of a text without tokens is 0, as its mean among padded texts is.
    """
    lengths_N = ends_N.diff().to(torch.int64)
    if pooling == "mean":
        return torch.segment_reduce(hidden_TH.float(), "mean", lengths=lengths_N, axis=0, unsafe=True, initial=0)
    places_N = (ends_N[:-1] if pooling == "cls" else ends_N[1:] - 1).clamp(max=len(hidden_TH) - 1)
    return hidden_TH.index_select(0, places_N).float().masked_fill((lengths_N == 0)[:, None], 0)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: object,
    *,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention (1, T, heads, size) within each text, as transformers calls it.

    `query` is (1, heads, T, size); `key` and `value` may have fewer heads. A window counts as in FlashAttention: so
    many tokens to each side, the token's own included. Raises UserError for what a backbone asks beyond this.
    """
    asked = [name for name in UNKNOWN if options.get(name) is not None] + (["dropout"] if dropout else [])
    if asked:
        raise UserError(f"attention on packed texts has no {asked[0]}")
    causal = bool(module.is_causal if is_causal is None else is_causal)
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (states.repeat_interleave(repeats, dim=1) for states in (key, value))
    side = -1 if sliding_window is None else sliding_window - 1
    if query.is_cuda:
        rows = [states[0].transpose(0, 1).contiguous() for states in (query, key, value)]
        attended = _on_cuda(rows, cu_seq_lens_q, max_length_q, scaling, (side, 0 if causal else side))
        return attended[None], None
    bounds = cu_seq_lens_q.tolist()
    parts = []
    for start, stop in zip(bounds, bounds[1:], strict=False):
        own_query, own_key, own_value = (states[:, :, start:stop] for states in (query, key, value))
        allowed = _allowed(stop - start, causal, side)
        parts.append(scaled_dot_product_attention(own_query, own_key, own_value, attn_mask=allowed, scale=scaling))
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _on_cuda(
    rows: Sequence[torch.Tensor], ends_N: torch.Tensor, longest: int, scale: float | None, window: tuple[int, int]
) -> torch.Tensor:
    """Return attention (T, heads, size) of a query, key and value of that shape, within each text.

    The kernel is that of torch.nn.attention.varlen.varlen_attn, called below its Python layers: they cost a step of a
    small model more than padding does (docs/performance.md).
    """
    query, key, value = rows
    attended: torch.Tensor = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        ends_N,
        ends_N,
        longest,
        longest,
        0.0,  # dropout
        window == (-1, 0),  # causal
        False,  # no mask to look at
        scale=scale,
        window_size_left=window[0],
        window_size_right=window[1],
    )[0]
    return attended


def _allowed(length: int, causal: bool, side: int) -> torch.Tensor | None:
    """Return which tokens (L, L) of a text each one attends to; None: all."""
    if not causal and side < 0:
        return None
    ahead = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    allowed = ahead <= 0 if causal else ahead <= side
    return allowed if side < 0 else allowed & (ahead >= -side)


class Packing:
    """How packed texts go through one network."""

    def __init__(self, network: Any) -> None:
        """`network` has the attention of padded texts still; `packing_of` gives it the other one."""
        self._network, self._first_place = network, usable_positions(network)[1]
        self._before = backbone_of(network).config._attn_implementation

    def undo(self) -> None:
        """Give the network the attention that it had."""
        backbone_of(self._network).set_attn_implementation(self._before)

    def hidden(self, pack: Pack, words_TH: torch.Tensor | None = None) -> torch.Tensor:
        """Return the last hidden states (T, H) of a pack on the network's device; `words_TH` are its word embeddings.

        Without them they are looked up.
        """
        given = {"input_ids": pack.ids_1T} if words_TH is None else {"inputs_embeds": words_TH[None]}
        states_1TH: torch.Tensor = self._network(
            **given,
            position_ids=pack.places_1T + self._first_place,
            cu_seq_lens_q=pack.ends_N,
            cu_seq_lens_k=pack.ends_N,
            max_length_q=pack.longest,
            max_length_k=pack.longest,
        ).last_hidden_state
        return states_1TH[0]


def packing_of(network: Any, setting: bool | None) -> Packing | None:
    """Return how texts of a network are packed from now on, or None where they are padded.

    `setting` is `runtime.packed`; null packs on CUDA in 16 bits where the backbone can. Raises UserError where packed
    texts are asked for and cannot be.
    """
    weights = next(network.parameters())
    if setting is False or (setting is None and not (weights.is_cuda and weights.dtype in HALF)):
        return None
    packing = Packing(network)
    reason = _objection(network, packing)
    if reason is None:
        return packing
    if setting:
        raise UserError(f"runtime.packed=true, but {reason}; set it to null or false")
    return None


def backbone_of(network: Any) -> Any:
    """Return the transformers model of a network, which adapters may stand around."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def _objection(network: Any, packing: Packing) -> str | None:
    """Return why texts of a network cannot be packed, or None once it attends within texts.

    It is tried and not looked up, because code from elsewhere may attend as it likes: a text must have the same vectors
    beside either of two others as alone. A network that cannot keeps the attention that it had.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, packed_attention)
    base, device = backbone_of(network), next(network.parameters()).device
    name, training = type(base).__name__, network.training

    def first_text(*texts: IntArray) -> torch.Tensor:
        return packing.hidden(next(packs(texts)).to(device))[: len(texts[0])].float()

    with torch.no_grad(), quiet_transformers(), own_generators(0, "packing"):
        try:
            network.eval()
            alone = first_text(PROBES[0])
            base.set_attn_implementation(ATTENTION)
            network.train(training)  # dropout of attention is part of the question, and so is a backward pass
            trained = [weights for weights in network.parameters() if training and weights.requires_grad]
            with torch.set_grad_enabled(bool(trained)):
                vectors = first_text(PROBES[0])
                if trained:
                    torch.autograd.grad(vectors.sum(), trained, allow_unused=True)
            network.eval()
            far = max(float((first_text(PROBES[0], other) - alone).norm()) for other in PROBES[1:])
            same = far <= ALIKE[next(network.parameters()).dtype] * float(alone.norm())
            reason = None if same else f"{name} lets packed texts see each other"
        except Exception as error:
            reason = f"{name} does not take packed texts ({' '.join(str(error).split())[:200]})"
        finally:
            network.train(training)
        if reason is not None:
            packing.undo()
    return reason
