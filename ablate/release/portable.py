"""An encoder as a directory that sentence-transformers and plain transformers load, giving the same vectors.

File formats: sentence-transformers 6 (https://sbert.net). `query_length` and `document_length` of its configuration
came with release 6.0; `encode_query` and `encode_document` obey them, which makes truncation exactly ours.

Shapes: N texts, L tokens of the longest text, H hidden size.
"""

from __future__ import annotations

import copy
import inspect
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ablate.model.backbone import quiet_transformers
from ablate.model.encoder import BiEncoder, StaticEncoder, disk_errors, pool
from ablate.model.static import SAVED_NAME, TABLE_FOLDER, TOKENIZER, WEIGHTS, flat
from ablate.recipe.schema import ModelConfig
from ablate.records import Passage, UserError

POOLING = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
"""Our names of poolings -> those of sentence-transformers."""
TOLERANCE = 1e-5
"""Largest difference of an element of a vector, relative to the longest vector."""
OLDEST_RELEASE = "6.0.0"
"""Of sentence-transformers, that reads separate lengths for queries and documents."""
MODULES = (
    ("", "sentence_transformers.base.modules.transformer.Transformer"),
    ("1_Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling"),
    ("2_Normalize", "sentence_transformers.base.modules.normalize.Normalize"),
)
STATIC_MODULES = (
    (TABLE_FOLDER, "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"),
    ("1_Normalize", "sentence_transformers.base.modules.normalize.Normalize"),
)


def write_portable(encoder: BiEncoder, source: Path, folder: Path) -> None:
    """Write an encoder into an empty folder; `source` is where `BiEncoder.save` wrote it, its weights are copied.

    Raises UserError for a backbone with code of its own, and for a tokenizer that cannot be made to end texts as ours
    does.
    """
    modules: Sequence[tuple[str, str]]
    if isinstance(encoder, StaticEncoder):
        (folder / TABLE_FOLDER).mkdir()
        for name in (WEIGHTS, TOKENIZER):
            shutil.copyfile(source / name, folder / TABLE_FOLDER / name)
        modules = STATIC_MODULES
    else:
        _write_transformer(encoder, source, folder)
        modules = MODULES
    _write_modules(encoder.model, modules if encoder.model.normalise else modules[:-1], folder)


def _write_transformer(encoder: BiEncoder, source: Path, folder: Path) -> None:
    """Write backbone, tokenizer, lengths and pooling of a model of transformers."""
    model, network = encoder.model, encoder.network
    if model.trust_remote_code:
        raise UserError(
            "model.trust_remote_code=true: the backbone has code of its own, which an export does not carry; copy "
            f"{source} by hand"
        )
    for path in sorted(source.iterdir()):
        if path.is_file() and (path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json")):
            shutil.copyfile(path, folder / path.name)
    shutil.copyfile(source / "config.json", folder / "config.json")
    with quiet_transformers(), disk_errors(folder):
        portable_tokenizer(encoder).save_pretrained(str(folder))
    transformer: dict[str, Any] = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "max_seq_length": max(model.query_length, model.passage_length),
        "query_length": model.query_length,
        "document_length": model.passage_length,
    }
    if takes_pooling_layer(network):
        transformer["model_kwargs"] = {"add_pooling_layer": False}
    _write(folder / "sentence_bert_config.json", transformer)
    _write(
        folder / "1_Pooling" / "config.json",
        {
            "embedding_dimension": encoder.hidden_size,
            "pooling_mode": POOLING[model.pooling],
            "include_prompt": True,
        },
    )


def _write_modules(model: ModelConfig, modules: Sequence[tuple[str, str]], folder: Path) -> None:
    """Write which modules an export has, and how texts are posed to it."""
    import transformers

    _write(
        folder / "modules.json",
        [{"idx": index, "name": str(index), "path": path, "type": kind} for index, (path, kind) in enumerate(modules)],
    )
    if model.normalise:
        names = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
        _write(folder / modules[-1][0] / "config.json", names)
    _write(
        folder / "config_sentence_transformers.json",
        {
            "__version__": {
                "sentence_transformers": OLDEST_RELEASE,
                "transformers": transformers.__version__,
                "pytorch": torch.__version__,
            },
            "model_type": "SentenceTransformer",
            "prompts": {
                "query": model.query_prefix,
                "passage": model.passage_prefix,
                "document": model.passage_prefix,  # what encode_document looks for first
            },
            "default_prompt_name": None,
            "similarity_fn_name": "cosine" if model.normalise else "dot",
        },
    )


def takes_pooling_layer(network: Any) -> bool:
    """Return whether a network has a pooling head of its own, which is neither trained nor saved here."""
    return "add_pooling_layer" in inspect.signature(type(network)).parameters


def portable_tokenizer(encoder: BiEncoder) -> Any:
    """Return a copy of the tokenizer that by itself puts the special tokens of our template around a text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer, model = copy.deepcopy(encoder.tokenizer), encoder.model
    tokenizer.model_max_length = max(model.query_length, model.passage_length)
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token_id is None:  # padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(encoder.template.pad_id)
    head, tail = encoder.template.special_ids
    if tokenizer("a")["input_ids"] != [*head, *tokenizer("a", add_special_tokens=False)["input_ids"], *tail]:
        if not tokenizer.is_fast:
            raise UserError(
                f"the tokenizer of model.name={model.name!r} has no post-processor to append the end-of-text token "
                "with, so other programs would leave it out; it cannot be exported"
            )
        names = {number: tokenizer.convert_ids_to_tokens(number) for number in (*head, *tail)}
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=[*(names[number] for number in head), "$A", *(names[number] for number in tail)],
            special_tokens=[(name, number) for number, name in names.items()],
        )
    return tokenizer


def check_portable(encoder: BiEncoder, folder: Path) -> float:
    """Return the largest difference between our vectors and those of plain transformers on the written folder.

    Of a static table it is safetensors and tokenizers that read it, as StaticEmbedding does. Short and over-long
    texts, with and without instruction and title. Raises UserError above TOLERANCE.
    """
    model = encoder.model
    long_text = " ".join(f"word {number}" for number in range(max(model.query_length, model.passage_length)))
    queries = [("a query", ""), ("a query", "only what is new"), (long_text, "not this"), ("b", long_text)]
    passages = [Passage("1", "a text"), Passage("2", "a text", "a title"), Passage("3", long_text, "a title")]
    ours = np.concatenate([encoder.encode_queries(queries), encoder.encode_passages(passages)])
    template = encoder.template
    theirs = np.concatenate(
        [
            plain_vectors(encoder, folder, [template.query_text(*query) for query in queries], model.query_length),
            plain_vectors(
                encoder, folder, [template.passage_text(passage) for passage in passages], model.passage_length
            ),
        ]
    )
    difference = float(np.abs(ours - theirs).max() / np.linalg.norm(ours, axis=1).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"{reader_of(encoder)} gives other vectors than this run's model (largest difference {difference:.2g}, "
            f"allowed {TOLERANCE:g}): its tokenizer does not survive being saved, so nothing was exported"
        )
    return difference


@torch.no_grad()
def plain_vectors(encoder: BiEncoder, folder: Path, texts: Sequence[str], length: int) -> NDArray[np.float32]:
    """Return the vectors (N, H) of whole texts by transformers' Auto classes, from the files in a folder alone.

    Of a static table by tokenizers and safetensors; its files cut at their own length.
    """
    if isinstance(encoder, StaticEncoder):
        return _table_vectors(encoder.model, folder / TABLE_FOLDER, texts)
    from transformers import AutoModel, AutoTokenizer

    options = {"add_pooling_layer": False} if takes_pooling_layer(encoder.network) else {}
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        network = AutoModel.from_pretrained(str(folder), **options).eval()
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")
    hidden_NLH = network(**batch).last_hidden_state
    vectors_NH = pool(hidden_NLH, batch["attention_mask"], encoder.model.pooling)
    if encoder.model.normalise:
        vectors_NH = torch.nn.functional.normalize(vectors_NH, dim=-1)
    vectors: NDArray[np.float32] = vectors_NH.float().numpy()
    return vectors


def _table_vectors(model: ModelConfig, folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    encodings = Tokenizer.from_file(str(folder / TOKENIZER)).encode_batch(list(texts), add_special_tokens=False)
    ids_T, starts_N = flat([np.array(encoding.ids, np.int32) for encoding in encodings])
    table_VH = load_file(folder / WEIGHTS)[SAVED_NAME]
    vectors_NH = torch.nn.functional.embedding_bag(ids_T, table_VH, starts_N, mode="mean")
    if model.normalise:
        vectors_NH = torch.nn.functional.normalize(vectors_NH, dim=-1)
    vectors: NDArray[np.float32] = vectors_NH.numpy()
    return vectors


def reader_of(encoder: BiEncoder) -> str:
    """Return in words which libraries read the vectors of an export without sentence-transformers."""
    return "safetensors with tokenizers" if isinstance(encoder, StaticEncoder) else "plain transformers"


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
