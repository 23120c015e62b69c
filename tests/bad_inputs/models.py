"""Directories that hold no model, or one that does not fit the configuration: refused before the mix is built."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_inputs import BadInput, nothing

BERT = {
    "model_type": "bert",
    "vocab_size": 12,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 64,
}
ROBERTA = {**BERT, "model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 66}
SMALL = (
    "source.documents=600",
    "budget.limit=16",
    "train.batch_size=8",
    "model.query_length=16",
    "model.passage_length=32",
)


@functools.cache
def _tokenizer() -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {word: number for number, word in enumerate(("<s>", "<pad>", "</s>", "<unk>", *"abcdefgh"))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return str(tokenizer.to_str())


HEADER = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


def _weights(length: int | None = None, header: bytes = HEADER) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(8)


def _table(rows: int) -> bytes:
    shape = {"dtype": "F32", "shape": [rows, 1], "data_offsets": [0, 4 * rows]}
    header = json.dumps({"embeddings.word_embeddings.weight": shape}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * rows)


def _folder(
    config: dict[str, Any] | str = BERT, weights: bytes = _weights(), **changes: str | bytes | None
) -> Callable[[Path], None]:
    """Return a `make` that writes a model directory; `changes` are other files by name, None for one left out."""
    files: dict[str, Any] = {
        "config.json": config if isinstance(config, str) else json.dumps(config),
        "model.safetensors": weights,
        "tokenizer.json": _tokenizer,
        "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}),
        **{name.replace("__", "."): content for name, content in changes.items()},
    }

    def make(folder: Path) -> None:
        (folder / "model").mkdir()
        for name, content in files.items():
            content = content() if callable(content) else content
            if content is not None:
                (folder / "model" / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def _row(
    name: str, words: str | tuple[str, ...], make: Callable[[Path], object] = nothing, *overrides: str
) -> BadInput:
    command = (
        "ablate.run",
        "model=local",
        "model.path='{dir}/model'",
        *SMALL,
        "tracker=none",
        "runtime.results='{dir}/results'",
        *overrides,
    )
    return BadInput(name, command, (words,) if isinstance(words, str) else words, make)


LORA = "+model.lora={rank: 2, alpha: 4, dropout: 0, targets: [%s]}"
STATIC = ("model=static", "model.passage_length=16")
TINY = ("model=tiny", "~model.path", "+model.path=null")

BAD_INPUTS = [
    _row("no folder", "is neither a directory nor a hub id"),
    _row("an empty folder", "holds no config.json", lambda folder: (folder / "model").mkdir()),
    _row("a file", "is a file; name the directory", lambda folder: (folder / "model").write_text("x")),
    _row("no tokenizer", "holds no tokenizer", _folder(tokenizer__json=None)),
    _row("no weights", "model.safetensors is needed", _folder(model__safetensors=None)),
    _row(
        "a pickle",
        "AutoModel.from_pretrained(DIR).save_pretrained(DIR)",
        _folder(model__safetensors=None, pytorch_model__bin=b"x"),
    ),
    _row("a config that is cut", "config.json is no JSON", _folder('{"model_type": "be')),
    _row("a config of great depth", "config.json is no JSON", _folder("[" * 100_000)),
    _row("a config that is a list", "names no model_type", _folder("[1]")),
    _row("a config without a type", "names no model_type", _folder('{"vocab_size": 3}')),
    _row("a type that is not known", ("cannot be loaded", "nosuch"), _folder({**BERT, "model_type": "nosuch"})),
    _row(
        "code of its own",
        ("cannot be loaded", "trust_remote_code"),
        _folder(
            {**BERT, "model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}},
            own__py="raise SystemExit(9)",
        ),
    ),
    _row(
        "heads that do not divide",
        ("cannot be loaded", "multiple of the number of attention heads"),
        _folder({**BERT, "num_attention_heads": 3}),
    ),
    _row("a size that is a word", "cannot be loaded", _folder({**BERT, "hidden_size": "eight"})),
    _row("a tokenizer that is cut", "cannot be loaded", _folder(tokenizer__json='{"version": "1.0", ')),
    _row(
        "a tokenizer of another model",
        "gives ids up to 11, and its network has embeddings for 9",
        _folder({**BERT, "vocab_size": 9}),
    ),
    _row("weights that are cut", "is no whole file of weights", _folder(weights=_weights()[:-3])),
    _row("weights that are empty", "is no whole file of weights", _folder(weights=b"")),
    _row("a header of 10^18 bytes", "is no whole file of weights", _folder(weights=_weights(10**18))),
    _row("a header that is no JSON", "is no whole file of weights", _folder(weights=_weights(header=b"{x}"))),
    _row(
        "weights of another shape", "has the shape [3, 1], and config.json asks for [12, 8]", _folder(weights=_table(3))
    ),
    _row(
        "more tokens than positions",
        "model.passage_length=65 is more than the 64 positions of",
        _folder(),
        "model.passage_length=65",
    ),
    *(
        _row(
            f"the positions that {kind} keeps",
            "model.passage_length=66 is more than the 64 positions of "
            "model.name='local' (66, of which its architecture reserves 2); set it to at most 64",
            _folder({**ROBERTA, "model_type": kind}),
            "model.passage_length=66",
        )
        for kind in ("roberta", "xlm-roberta", "camembert", "mpnet")
    ),
    _row("a query longer than positions", "model.query_length=65", _folder(ROBERTA), "model.query_length=65"),
    _row(
        "no end-of-text token",
        "has no end-of-text token; set model.append_eos=false",
        _folder(),
        "model.append_eos=true",
    ),
    _row("adapters on nothing", "model.lora.targets=['q_proj'] names no module", _folder(), LORA % "query,q_proj"),
    _row(
        "adapters on a norm", "['LayerNorm'] names a LayerNorm, which takes no adapter", _folder(), LORA % "LayerNorm"
    ),
    _row("adapters nowhere", "model.lora.targets=[] would train nothing", _folder(), LORA % ""),
    _row("a hub id without commit", "needs model.hub_revision to be a commit", nothing, "model.path=org/name"),
    _row("a hub id at a branch", "not 'main'", nothing, "model.path=org/name", "model.hub_revision=main"),
    _row(
        "heads of a tiny model",
        "model.tiny.hidden=33 is not a multiple of model.tiny.heads=2",
        nothing,
        *TINY,
        "model.tiny.hidden=33",
    ),
    _row(
        "a tiny vocabulary below the letters",
        "model.tiny.vocabulary=99 is out of range; allowed: 100 to 100000",
        nothing,
        *TINY,
        "model.tiny.vocabulary=99",
    ),
    *(
        _row(f"a static table with {key}", f"model.{key}={words}", nothing, *STATIC, f"model.{key}={value}")
        for key, value, words in (
            ("pooling", "cls", "cls is no mean"),
            ("order", "instruction_first", "instruction_first changes no mean"),
            ("append_eos", "true", "true adds the same vector to every text"),
            ("dropout", ".1", "0.1 is of a network's layers"),
            ("trust_remote_code", "true", "true is of networks that bring code"),
            ("hub_revision", "main", "main is of hub ids"),
            ("lora", "{rank: 2, alpha: 4, dropout: 0, targets: [q]}", "{…} adapts layers of a network"),
            ("tiny", "{vocabulary: 200, hidden: 8, layers: 1, heads: 1}", "{…} is another backbone"),
        )
    ),
    _row(
        "a static table of two lengths",
        "model.query_length=16 and model.passage_length=32 differ",
        nothing,
        *STATIC,
        "model.passage_length=32",
    ),
    _row("a static table in bf16", "bf16 makes matrix products quicker", nothing, *STATIC, "train.precision=bf16"),
    _row("a static table measured in bf16", "evaluation.precision=fp32", nothing, *STATIC, "evaluation.precision=bf16"),
    *(
        _row(f"split weights {name}", words, nothing, "runtime.shard_weights=true", *overrides)
        for name, words, overrides in (
            ("by one process", "this is one; start it with torchrun", (*TINY, "runtime.dev_set=null")),
            ("of a static table", "model.static has none", (*STATIC, "runtime.dev_set=null")),
            ("with LoRA", "or model.lora=null", (*TINY, LORA % "query", "runtime.dev_set=null")),
            ("of packed texts", "set runtime.packed=null", (*TINY, "runtime.dev_set=null", "runtime.packed=true")),
            ("with a dev set", "set runtime.dev_set=null", (*TINY, "runtime.dev_set=dev")),
        )
    ),
    _row("a static table of no folder", "is no directory here", nothing, *STATIC, "model.path=org/name"),
    _row("a drawn table of no size", "model.static.drawn=0 is out of range", nothing, *STATIC, "model.static.drawn=0"),
    _row(
        "a drawn table for dense mining",
        "miner.kind=dense needs a model with loaded weights",
        nothing,
        *STATIC,
        "model.path=null",
        "model.static.drawn=8",
        "+miner=dense",
    ),
    *(
        _row(f"a static table: {name}", words, _folder(**files), *STATIC, "model.path='{dir}/model'")
        for name, words, files in (
            ("none there", "holds no tables of token vectors (x)", {}),
            ("a pickle", "read from safetensors alone", {"model__safetensors": None, "pytorch_model__bin": b"x"}),
            ("cut", "is no whole file of weights", {"weights": _weights()[:-3]}),
            ("one column", "has the shape [2]", {"weights": _weights(header=HEADER.replace(b"x", b"embeddings"))}),
            ("no tokenizer", "holds no tokenizer.json", {"weights": _table(12), "tokenizer__json": None}),
            ("a tokenizer that is cut", "is no tokenizer", {"weights": _table(12), "tokenizer__json": "{"}),
            ("too few rows", "gives ids up to 11, and model.safetensors has vectors for 9", {"weights": _table(9)}),
        )
    ),
]
