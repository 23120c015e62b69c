"""A table of token vectors in place of a network: a text is the mean of the vectors of its tokens.

The format is that of sentence-transformers' StaticEmbedding and of model2vec: `model.safetensors` with the table under
`embedding.weight` or `embeddings`, beside `tokenizer.json`; no special tokens around a text, no padding. Shapes: V
tokens of the vocabulary, K of them in a training, H dimensions, N texts, T tokens of all texts together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ablate.data.batches import IntArray
from ablate.model.device import own_generators
from ablate.recipe.schema import ModelConfig
from ablate.records import UserError

TABLE_FOLDER = "0_StaticEmbedding"
"""Where sentence-transformers keeps the table of a model of several modules."""
WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
SAVED_NAME = "embedding.weight"
"""Name of the table in files of StaticEmbedding, and in ours."""
TABLE_NAMES = (SAVED_NAME, "embeddings")
"""Names of a table: of StaticEmbedding, of model2vec."""
WORD_NAMES = ("word_embeddings.weight", "embed_tokens.weight", "tok_embeddings.weight", "wte.weight", "shared.weight")
"""Ends of the names under which transformers keep the vectors of their input tokens."""
UNUSUAL = "7 \u2603 \ua66e \U000104ab"
"""A digit, a sign and letters of two scripts that few vocabularies hold, beside a word that is in none."""
DRAWN_SPREAD = 0.05
"""Standard deviation of drawn vectors, about that of the word vectors of BERT models."""


class TablePlace(NamedTuple):
    """Where a table lies: the file of weights with the table's name in it, its shape, and the tokenizer."""

    weights: Path
    name: str
    shape: tuple[int, int]
    tokenizer: Path


class StaticTable(torch.nn.Module):
    """The vectors of all tokens; in a training, those of the tokens that it shows are the parameters.

    A token that no text of a training holds has no gradient, so nothing would move its vector but weight decay. It
    keeps its vector instead, and AdamW goes over K rows and not over V.
    """

    table_VH: torch.Tensor
    place_V: torch.Tensor
    """Token id -> its row among those that are shown; -1 for the others."""
    rows_K: torch.Tensor

    def __init__(self, table_VH: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("table_VH", table_VH)
        self.register_buffer("place_V", torch.full((len(table_VH),), -1))
        self.register_buffer("rows_K", torch.empty(0, dtype=torch.int64))
        self.shown_KH = torch.nn.Parameter(table_VH.new_empty(0, table_VH.shape[1]))

    @property
    def size(self) -> int:
        """Dimensions of a vector."""
        return self.table_VH.shape[1]

    def show(self, token_ids: IntArray) -> None:
        """Make the vectors of some tokens, each named once, the parameters; those of before keep what they learned."""
        self.table_VH = self.whole()
        self.rows_K = torch.from_numpy(np.sort(token_ids).astype(np.int64)).to(self.table_VH.device)
        self.place_V = torch.full_like(self.place_V, -1)
        self.place_V[self.rows_K] = torch.arange(len(self.rows_K), device=self.rows_K.device)
        self.shown_KH = torch.nn.Parameter(self.table_VH[self.rows_K])

    @torch.no_grad()
    def whole(self) -> torch.Tensor:
        """Return the table (V, H) with what the shown rows have learned."""
        self.table_VH[self.rows_K] = self.shown_KH
        return self.table_VH

    def forward(self, ids_T: torch.Tensor, starts_N: torch.Tensor) -> torch.Tensor:
        """Return the means (N, H) of texts that begin at `starts_N`; a text without tokens has the zero vector.

        In training mode all tokens must be shown.
        """
        if self.training:
            return torch.nn.functional.embedding_bag(self.place_V[ids_T], self.shown_KH, starts_N, mode="mean")
        return torch.nn.functional.embedding_bag(ids_T, self.whole(), starts_N, mode="mean")


def flat(texts: Sequence[IntArray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all tokens (T) of some texts one after the other, and where each text begins (N)."""
    ends_N = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    ids_T = np.concatenate(texts).astype(np.int64) if texts else np.empty(0, np.int64)
    return torch.from_numpy(ids_T), torch.from_numpy(ends_N[:-1])


def check_keys(model: ModelConfig) -> None:
    """Raise UserError for a key of the model that a table of token vectors gives no meaning."""
    why = {
        "tiny": (model.tiny is None, "is another backbone", "null"),
        "lora": (model.lora is None, "adapts layers of a network, and a table has none", "null"),
        "pooling": (model.pooling == "mean", "is no mean, and a table knows nothing else", "mean"),
        "order": (model.order == "query_first", "changes no mean", "query_first"),
        "append_eos": (not model.append_eos, "adds the same vector to every text", "false"),
        "dropout": (model.dropout == 0, "is of a network's layers", "0"),
        "trust_remote_code": (not model.trust_remote_code, "is of networks that bring code", "false"),
        "hub_revision": (model.hub_revision is None, "is of hub ids, and a table is read from a folder", "null"),
    }
    for key, (has_meaning, reason, allowed) in why.items():
        if not has_meaning:
            raise UserError(f"model.{key}={_said(getattr(model, key))} {reason}; with model.static set it to {allowed}")
    if model.query_length != model.passage_length:
        raise UserError(
            f"model.query_length={model.query_length} and model.passage_length={model.passage_length} differ, and the "
            f"files of a static model have one length for all texts; with model.static set both to one number"
        )


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (str, int, float)) else "{…}"


def find_table(folder: Path) -> TablePlace:
    """Return the table in a folder: of StaticEmbedding or model2vec, or the word vectors of a transformers model.

    Only headers are read. Raises UserError for a folder without weights, without `tokenizer.json`, with several
    tables, and for what is no table.
    """
    folder = folder / TABLE_FOLDER if (folder / TABLE_FOLDER).is_dir() else folder
    shapes = _shapes(folder)
    tables = [place for place in shapes if place[1] in TABLE_NAMES]
    tables = tables or [place for place in shapes if place[1].endswith(WORD_NAMES)]
    if len(tables) != 1:
        names = ", ".join(sorted(name for _, name in tables or shapes)[:4]) or "nothing"
        raise UserError(
            f"model.path={str(folder)!r} holds {len(tables) or 'no'} tables of token vectors ({names}); one of "
            f"{', '.join(TABLE_NAMES)}, or a name that ends in {', '.join(WORD_NAMES)}, is needed"
        )
    ((path, name),) = tables
    shape = shapes[path, name]
    if len(shape) != 2 or 0 in shape:
        raise UserError(f"{path}: {name} has the shape {shape}, and a table of token vectors has rows and columns")
    tokenizer = folder / TOKENIZER
    if not tokenizer.is_file():
        raise UserError(f"model.path={str(folder)!r} holds no {TOKENIZER}; add it (tokenizers: Tokenizer.save)")
    return TablePlace(path, name, (shape[0], shape[1]), tokenizer)


def _shapes(folder: Path) -> dict[tuple[Path, str], list[int]]:
    """Return (file, name) -> shape of all weights of a folder."""
    from safetensors import SafetensorError, safe_open

    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise UserError(
            f"model.path={str(folder)!r} holds no {WEIGHTS}; a static model is read from safetensors alone, a pickle "
            f"could run code"
        )
    shapes: dict[tuple[Path, str], list[int]] = {}
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                shapes |= {(path, name): list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path} is no whole file of weights ({error}); copy or download it again") from error
    return shapes


def open_tokenizer(place: TablePlace) -> Any:
    """Return the tokenizer of a table, whose ids all have a row.

    Raises UserError for one that cannot be read, and for one that fails at words that it does not know.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = Tokenizer.from_file(str(place.tokenizer))
    except Exception as error:  # what is written in Rust raises nothing narrower
        raise UserError(f"{place.tokenizer} is no tokenizer ({str(error)[:100]}); copy it again") from error
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    highest = max(vocabulary.values(), default=-1)
    if highest < 0:
        raise UserError(f"{place.tokenizer} knows no token; copy it again from the model")
    rows = _num_rows(place)
    if highest >= rows:
        raise UserError(
            f"{place.tokenizer} gives ids up to {highest}, and {place.weights.name} has vectors for {rows}; the "
            f"directory must hold the tokenizer and the weights of one model"
        )
    unknown = "zq"
    while unknown in vocabulary:
        unknown += "zq"
    try:
        tokenizer.encode(f"{unknown} {UNUSUAL}", add_special_tokens=False)
    except Exception as error:  # as above
        raise UserError(
            f"{place.tokenizer} fails at a word that it does not know ({str(error)[:100]}); give it an unknown token "
            f"that stands in its vocabulary (tokenizers: unk_token, or unk_id)"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _num_rows(place: TablePlace) -> int:
    """Return the number of token ids that have a vector; model2vec may let several share one."""
    mapping = _shapes(place.weights.parent).get((place.weights, "mapping"))
    return mapping[0] if mapping is not None and place.name in TABLE_NAMES else place.shape[0]


def read_table(place: TablePlace) -> torch.Tensor:
    """Return the vectors (V, H) of all token ids in fp32.

    A `mapping` of token ids to rows and `weights` of token ids, which model2vec may keep beside the table, are worked
    into it, as StaticEmbedding does. Raises UserError for numbers that are no fractions, a mapping that is not of whole
    numbers, rows whose squared length is not finite in fp32, and a table in which no row has a length.
    """
    from safetensors import safe_open

    with safe_open(place.weights, "pt") as file:
        beside = set(file.keys()) if place.name in TABLE_NAMES else set()
        table_VH: torch.Tensor = file.get_tensor(place.name)
        if not table_VH.is_floating_point():
            raise UserError(
                f"{place.weights}: {place.name} holds {table_VH.dtype}; a table of floating-point numbers is needed"
            )
        table_VH = table_VH.float()
        if "mapping" in beside:
            mapping_V = file.get_tensor("mapping")
            if mapping_V.is_floating_point() or mapping_V.is_complex() or mapping_V.dtype == torch.bool:
                raise UserError(
                    f"{place.weights}: mapping holds {mapping_V.dtype}; row numbers, which are integers, are needed"
                )
            mapping_V = mapping_V.long()
            if mapping_V.ndim != 1 or not ((mapping_V >= 0) & (mapping_V < len(table_VH))).all():
                raise UserError(f"{place.weights}: mapping names rows that {place.name} has not; copy it again")
            table_VH = table_VH[mapping_V]
        if "weights" in beside:
            weights_V = file.get_tensor("weights").float()
            if weights_V.shape != (len(table_VH),):
                raise UserError(f"{place.weights}: weights must hold one number per token ({len(table_VH)})")
            table_VH = table_VH * weights_V[:, None]
    if not torch.isfinite(table_VH).all():
        raise UserError(f"{place.weights}: {place.name} holds a NaN or an infinity; copy or download it again")
    squares_V = torch.linalg.vector_norm(table_VH, dim=1).square()
    if not torch.isfinite(squares_V).all():
        raise UserError(
            f"{place.weights}: row {int((~torch.isfinite(squares_V)).nonzero()[0])} of {place.name} is too long for "
            f"fp32 (its squared length is not finite), so no vector could be normalised; scale the table down"
        )
    if not squares_V.any():
        raise UserError(
            f"{place.weights}: no row of {place.name} has a length above 0 in fp32, so all texts would be equal; copy "
            f"or download it again"
        )
    return table_VH.contiguous()


def draw_table(rows: int, size: int, seed: int) -> torch.Tensor:
    """Return vectors (V, H) drawn from the seed's own stream, normal with the standard deviation DRAWN_SPREAD."""
    with own_generators(seed, "initial weights"):
        return DRAWN_SPREAD * torch.randn(rows, size)
