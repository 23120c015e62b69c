"""The bi-encoder: a backbone of transformers with pooling, or a table of token vectors, and vectors for texts.

Shapes: N texts, L tokens of the longest text, H hidden size.
"""

from __future__ import annotations

import copy
import os
import re
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.utils.checkpoint import checkpoint

from ablate.data.batches import IntArray, Query, SubBatch, Tokenised, sent, sub_batches
from ablate.model.backbone import (
    Backbone,
    add_lora,
    check_fit,
    draw_tiny,
    load_pretrained,
    quiet_transformers,
    resolve_backbone,
)
from ablate.model.packing import MOST_TOKENS, Pack, Packing, packing_of, packs, pool_packed
from ablate.model.static import (
    SAVED_NAME,
    TOKENIZER,
    WEIGHTS,
    StaticTable,
    draw_table,
    find_table,
    flat,
    open_tokenizer,
    read_table,
)
from ablate.model.text import TextTemplate, tiny_tokenizer
from ablate.recipe.schema import ModelConfig
from ablate.records import Passage, UserError
from ablate.timing import timed

SORTED_AT_ONCE = 16_384
"""Texts that are tokenised and sorted by length together when encoding: bounds memory on a large corpus."""
ADAPTER_FOLDER = "adapter"


class BiEncoder(torch.nn.Module, ABC):
    """What turns queries (with their instruction) and passages into vectors; one set of weights for both."""

    network: Any
    tokenizer: Any
    model: ModelConfig
    batch_size: int
    """Texts per forward pass when encoding."""
    template: TextTemplate

    @staticmethod
    def from_config(
        model: ModelConfig,
        *,
        seed: int,
        tokenizer: Any = None,
        tokenizer_texts: Iterable[str] | None = None,
        batch_size: int = 32,
    ) -> BiEncoder:
        """Return the encoder before any training, in evaluation mode, in fp32, on the CPU.

        `tokenizer` is the model's own where it is open already; else `tokenizer_texts` is what a tiny model takes its
        vocabulary from. The seed draws only what is not loaded: the weights of a tiny model, the vectors of a drawn
        table, LoRA's adapters. Raises UserError as `resolve_backbone` does.
        """
        backbone = resolve_backbone(model)
        if model.static is not None:
            place = find_table(Path(backbone.place))
            tokenizer = tokenizer or open_tokenizer(place)
            size = model.static.drawn
            table_VH = read_table(place) if size is None else draw_table(len(tokenizer), size, seed)
            return StaticEncoder(StaticTable(table_VH), tokenizer, model, batch_size).eval()
        if model.tiny is not None:
            if tokenizer is None:
                if tokenizer_texts is None:
                    raise UserError("model.tiny needs texts to take its vocabulary from, and none were given")
                tokenizer = tiny_tokenizer(model.tiny, tokenizer_texts)
            network = draw_tiny(model.tiny, len(tokenizer), model, seed)
        else:
            network, tokenizer = load_pretrained(backbone, model, tokenizer)
        if model.lora is not None:
            network = add_lora(network, model, seed)
        return TransformerEncoder(network, tokenizer, model, batch_size).eval()

    @staticmethod
    def load(folder: Path, model: ModelConfig, *, batch_size: int = 32) -> BiEncoder:
        """Return an encoder written by `save`, ready for encoding; a LoRA model comes back merged.

        Raises UserError when the folder does not hold one.
        """
        if not folder.is_dir():
            raise UserError(f"{folder} does not exist; it should hold a saved encoder")
        if model.static is not None:
            place = find_table(folder)
            return StaticEncoder(StaticTable(read_table(place)), open_tokenizer(place), model, batch_size).eval()
        network, tokenizer = load_pretrained(Backbone("directory", str(folder), ""), model)
        return TransformerEncoder(network, tokenizer, model, batch_size).eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Dimensions of a vector."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and tokenizer so that `load` and other programs read them."""

    @abstractmethod
    def embed(self, texts: Sequence[IntArray], size: int, held_tokens: int | None = None) -> torch.Tensor:
        """Return the vectors (N, H) of tokenised texts in their order, in one graph, `size` texts per forward pass.

        `held_tokens` bounds the tokens whose passes are held for the backward pass; None: all are.
        """

    @abstractmethod
    def _passes(self, texts: Sequence[IntArray]) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Yield the vectors of tokenised texts, `batch_size` at a time, with the places of these texts."""

    def pack(self, setting: bool | None) -> None:
        """Lay texts end to end from now on, as `runtime.packed` says; a lookup has no padding to save.

        Raises UserError as `packing_of` does.
        """

    def compile_layers(self) -> None:
        """Let PyTorch compile each layer of the network at its first pass; a lookup has none."""

    def halve(self) -> None:
        """Make all weights bf16; what is computed and not learned, such as the frequencies of positions, stays fp32."""
        for weights in self.parameters():
            weights.data = weights.data.bfloat16()

    @contextmanager
    def watched(self) -> Iterator[list[list[int]]]:
        """Yield a list that gets the tokens of each text that the network is given inside the block."""
        seen: list[list[int]] = []

        def watch(_: object, places: tuple[Any, ...], names: dict[str, Any]) -> None:
            seen.extend(self._given(*places, **names))

        handle = self.network.register_forward_pre_hook(watch, with_kwargs=True)
        try:
            yield seen
        finally:
            handle.remove()

    @abstractmethod
    def _given(self, *places: Any, **names: Any) -> list[list[int]]:
        """Return the tokens of each text among the arguments of a forward pass of the network, without padding."""

    @property
    def block_size(self) -> int:
        """Texts that are sorted and batched together: whole blocks can be encoded one by one, to the same bits."""
        return SORTED_AT_ONCE

    @timed("encode queries")
    def encode_queries(self, queries: Sequence[Query], *, progress: str | None = None) -> NDArray[np.float32]:
        """Return the vectors (N, H) of (query, instruction) pairs in fp32; `progress` names the progress line."""
        return self._encode(queries, self.template.tokenise_queries, progress)[0]

    @timed("encode documents")
    def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> NDArray[np.float32]:
        """Return the vectors (N, H) of passages in fp32; `progress` names the progress line."""
        return self._encode(passages, self.template.tokenise_passages, progress)[0]

    @timed("encode documents")
    def encode_documents(
        self,
        documents: Sequence[Passage],
        *,
        window: int | None = None,
        stride: int | None = None,
        progress: str | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
        """Return the vectors (P, H) of documents, split into passages where they are longer than `window` tokens.

        Beside them: how many passages each document has, in its order, and how many documents lost text. Without a
        window a document is one passage, cut to the model's length. Raises UserError as `tokenise_windows` does.
        """
        if window is None or stride is None:
            vectors, num_cut = self._encode(documents, self.template.tokenise_passages, progress)
            return vectors, np.ones(len(documents), np.int64), num_cut
        numbers: list[int] = []

        def tokenise(part: Sequence[Passage]) -> Tokenised:
            windows = self.template.tokenise_windows(part, window, stride)
            numbers.extend(windows.num_passages)
            return Tokenised(windows.ids, windows.num_truncated)

        vectors, num_cut = self._encode(documents, tokenise, progress)
        return vectors, np.array(numbers, np.int64), num_cut

    @torch.no_grad()
    def _encode(
        self, texts: Sequence[Any], tokenise: Callable[[Sequence[Any]], Tokenised], progress: str | None
    ) -> tuple[NDArray[np.float32], int]:
        """Return the vectors of all token sequences that `tokenise` makes of texts, and how many texts were cut."""
        was_training = self.training
        self.eval()
        try:
            parts, num_cut = [np.empty((0, self.hidden_size), np.float32)], 0
            with progress_line(len(texts), progress) as advance:
                for start in range(0, len(texts), SORTED_AT_ONCE):
                    block = texts[start : start + SORTED_AT_ONCE]
                    tokens = tokenise(block)
                    num_cut += tokens.num_truncated
                    vectors = np.empty((len(tokens.ids), self.hidden_size), np.float32)
                    places, outputs = list[NDArray[np.int64]](), list[torch.Tensor]()
                    for rows, output in self._passes(tokens.ids):
                        places.append(rows)
                        outputs.append(output.float())
                        advance(len(rows) * len(block) / len(tokens.ids))
                    if outputs:  # fetched together: a GPU then never waits for the host between passes
                        vectors[np.concatenate(places)] = torch.cat(outputs).cpu().numpy()
                    parts.append(vectors)
            return np.concatenate(parts), num_cut
        finally:
            self.train(was_training)


class TransformerEncoder(BiEncoder):
    """A backbone of transformers, and pooling."""

    def __init__(self, network: Any, tokenizer: Any, model: ModelConfig, batch_size: int = 32) -> None:
        """Wrap a transformers model; `batch_size` is the number of texts per forward pass when encoding.

        Raises UserError as `check_fit` does.
        """
        super().__init__()
        self.network = network
        self.tokenizer = tokenizer
        self.model = model
        self.batch_size = batch_size
        self.template = TextTemplate(model, tokenizer)
        self._packing: Packing | None = None
        if "use_cache" in network.config.to_dict():
            network.config.use_cache = False
        check_fit(network, tokenizer, model)

    @property
    def hidden_size(self) -> int:
        """Dimensions of a vector."""
        return int(self.network.config.hidden_size)

    @timed("write files")
    def save(self, folder: Path) -> None:
        """Write weights (safetensors), config and tokenizer, readable by transformers' AutoModel as they are.

        With LoRA the folder holds the merged weights, and the adapter by itself in `adapter/`, readable by peft.
        """
        network = self.network
        with quiet_transformers(), disk_errors(folder):
            if self.model.lora is not None:
                network.save_pretrained(str(folder / ADAPTER_FOLDER), safe_serialization=True)
                network = copy.deepcopy(network).merge_and_unload()
            network.save_pretrained(str(folder))
            self.tokenizer.save_pretrained(str(folder))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the vectors (N, H) of texts (N, L); the mask is 1 on real tokens, padding may be on either side."""
        return self._pooled(attention_mask, input_ids=input_ids)

    def _pooled(self, mask_NL: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        hidden_NLH = self.network(attention_mask=mask_NL, **inputs).last_hidden_state
        vectors_NH = pool(hidden_NLH, mask_NL, self.model.pooling)
        return torch.nn.functional.normalize(vectors_NH, dim=-1) if self.model.normalise else vectors_NH

    def pack(self, setting: bool | None) -> None:
        """Lay texts end to end from now on, as `runtime.packed` says; raises UserError as `packing_of` does."""
        if self._packing is not None:
            self._packing.undo()
        self._packing = packing_of(self.network, setting)

    def compile_layers(self) -> None:
        """Let PyTorch compile each layer of the network at its first pass, for texts of any length.

        Layers and not the whole: they share their code, which is compiled once for all of them.
        """
        for message in ("The .grad attribute of a Tensor that is not a leaf", "TensorFloat32 tensor cores"):
            warnings.filterwarnings(
                "ignore", f"{message}.*"
            )  # PyTorch's own compiler causes the one and asks the other
        lists = [module for module in self.network.modules() if isinstance(module, torch.nn.ModuleList)]
        for layer in max(lists, key=len, default=[]):
            layer.compile(dynamic=True)

    def _vectors(self, part: SubBatch | Pack, words: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors of the texts of one pass on the device; `words` are its word embeddings, if at hand."""
        if isinstance(part, Pack):
            assert self._packing is not None
            hidden_TH = self._packing.hidden(part, words)
            vectors_NH = pool_packed(hidden_TH, part.ends_N, self.model.pooling)
            return torch.nn.functional.normalize(vectors_NH, dim=-1) if self.model.normalise else vectors_NH
        if words is None:
            pooled_NH: torch.Tensor = self(part.ids_NL, part.mask_NL)
            return pooled_NH
        return self._pooled(part.mask_NL, inputs_embeds=words.view(*part.mask_NL.shape, -1))

    def embed(self, texts: Sequence[IntArray], size: int, held_tokens: int | None = None) -> torch.Tensor:
        """Return the vectors (N, H) of tokenised texts in their order, in one graph, `size` texts per forward pass.

        Words are looked up for all texts at once: the gradient of the table is as large as the table, and so it is
        made once and not once per forward pass. Forward passes of the last `held_tokens` tokens (None: all) keep what
        the backward pass needs; those before keep their vectors alone and are done again when the backward pass
        reaches them, on the same random numbers, which bounds memory for any number of texts and changes no gradient
        (Gao et al. 2021, arXiv 2101.06983).
        """
        parts = [part.to(self.device) for part in self._parts(texts, size, held_tokens)]
        sizes = [part.ids.numel() for part in parts]
        words = self.network.get_input_embeddings()(torch.cat([part.ids.flatten() for part in parts])).split(sizes)
        num_repeated = _num_repeated(sizes, held_tokens)
        vectors: list[torch.Tensor] = []
        for number, (part, own) in enumerate(zip(parts, words, strict=True)):
            if number < num_repeated:
                vectors.append(checkpoint(self._vectors, part, own, use_reentrant=False))
            else:
                vectors.append(self._vectors(part, own))
        back = torch.from_numpy(np.argsort(np.concatenate([part.rows for part in parts])))
        return torch.cat(vectors).index_select(0, sent(back, self.device))

    def _passes(self, texts: Sequence[IntArray]) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        for part in self._parts(texts, self.batch_size):
            yield part.rows, self._vectors(part.to(self.device))

    def _given(self, *places: Any, **names: Any) -> list[list[int]]:
        ids, mask = names["input_ids"], names.get("attention_mask")
        if mask is not None:
            return [own[real.bool()].tolist() for own, real in zip(ids, mask, strict=True)]
        return [own.tolist() for own in ids[0].split(names["cu_seq_lens_q"].diff().tolist())]

    def _parts(
        self, texts: Sequence[IntArray], size: int, held_tokens: int | None = None
    ) -> Iterator[SubBatch] | Iterator[Pack]:
        """Return what goes through the network at a time: `size` texts padded, or a row of as many as may be.

        Half of the tokens that may be held at most, so that there are passes whose tokens are not.
        """
        if self._packing is None:
            return sub_batches(texts, size, self.template.pad_id)
        return packs(texts, MOST_TOKENS if held_tokens is None else min(MOST_TOKENS, max(1, held_tokens // 2)))


class StaticEncoder(BiEncoder):
    """A table of token vectors; a text is their mean, without special tokens and without padding."""

    network: StaticTable

    def __init__(self, network: StaticTable, tokenizer: Any, model: ModelConfig, batch_size: int = 32) -> None:
        """`batch_size` is the number of texts per forward pass when encoding."""
        super().__init__()
        self.network = network
        self.tokenizer = tokenizer
        self.model = model
        self.batch_size = batch_size
        self.template = TextTemplate(model, tokenizer)

    @property
    def hidden_size(self) -> int:
        """Dimensions of a vector."""
        return self.network.size

    @timed("write files")
    def save(self, folder: Path) -> None:
        """Write table and tokenizer in the format of sentence-transformers' StaticEmbedding, cut at our length."""
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = copy.deepcopy(self.tokenizer.backend_tokenizer)
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.model.passage_length)
        with disk_errors(folder):
            save_file({SAVED_NAME: self.network.whole().cpu().contiguous()}, folder / WEIGHTS)
            tokenizer.save(str(folder / TOKENIZER))

    def embed(self, texts: Sequence[IntArray], size: int, held_tokens: int | None = None) -> torch.Tensor:
        """Return the vectors (N, H) of tokenised texts in their order, in one graph, `size` texts per forward pass.

        A lookup holds nothing, so that `held_tokens` bounds nothing here.
        """
        return torch.cat([self._means(texts[start : start + size]) for start in range(0, len(texts), size)])

    def _means(self, texts: Sequence[IntArray]) -> torch.Tensor:
        ids_T, starts_N = flat(texts)
        vectors_NH: torch.Tensor = self.network(sent(ids_T, self.device), sent(starts_N, self.device))
        return torch.nn.functional.normalize(vectors_NH, dim=-1) if self.model.normalise else vectors_NH

    def _passes(self, texts: Sequence[IntArray]) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        for start in range(0, len(texts), self.batch_size):
            part = texts[start : start + self.batch_size]
            yield np.arange(start, start + len(part)), self._means(part)

    def _given(self, *places: Any, **names: Any) -> list[list[int]]:
        ids_T, starts_N = places
        return [own.tolist() for own in ids_T.tensor_split(starts_N[1:].tolist())]


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the disk that safetensors or tokenizers met into the OSError that it was.

    What is written in Rust says it in words alone, tokenizers by a bare Exception.
    """
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error


def pool(hidden_NLH: torch.Tensor, mask_NL: torch.Tensor, pooling: Literal["mean", "cls", "last"]) -> torch.Tensor:
    """Return one vector per text (N, H): the mean over real tokens, the first real token, or the last one."""
    if pooling == "mean":
        weights_NL1 = mask_NL.unsqueeze(-1).to(hidden_NLH.dtype)
        return (hidden_NLH * weights_NL1).sum(dim=1) / weights_NL1.sum(dim=1).clamp(min=1)
    if pooling == "cls":
        place_N = mask_NL.argmax(dim=1)
    else:
        place_N = mask_NL.shape[1] - 1 - mask_NL.flip(1).argmax(dim=1)
    return hidden_NLH[torch.arange(len(hidden_NLH), device=hidden_NLH.device), place_N]


def _num_repeated(sizes: Sequence[int], held_tokens: int | None) -> int:
    """Return how many forward passes of so many tokens, from the first, are done again in the backward pass."""
    if held_tokens is None:
        return 0
    held = 0
    for number, size in reversed(list(enumerate(sizes, 1))):
        held += size
        if held > held_tokens:
            return number
    return 0


@contextmanager
def progress_line(total: int, name: str | None) -> Iterator[Callable[[float], object]]:
    """Show how far an encoding is, on a terminal only and once it takes more than two seconds; yields `advance(n)`."""
    from tqdm import tqdm

    hidden = name is None or not sys.stderr.isatty()
    with tqdm(total=total, desc=name, unit=" texts", delay=2, leave=False, disable=hidden, file=sys.stderr) as bar:
        yield bar.update
