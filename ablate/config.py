"""What an experiment is: frozen values, a strict build from plain dictionaries, differences, and the id chain.

`RunConfig = recipe + seed + runtime`. Everything in `Recipe` may change a number and is hashed; nothing in `Runtime`
does and none of it is hashed. Which is which is decided by this structure alone. Two kinds of values are replaced in
the hash by what they point to: a `Location` by the digest of its content, and factors and fields with a default at
their no-op by nothing.

    mix_id   = H(source with its revision, active factors, budget, seed)
    train_id = H(mix_id, model with its revision, train, seed)
    eval_id  = H(train_id, evaluation), or H(ranker, evaluation) where nothing is trained
    arm_id   = H(recipe)                                                    no seed: runs of one arm share it
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, TypeVar, Union

from ablate.factors import Factors, Range, Share, active, check_coherent
from ablate.records import UserError, check_name
from ablate.rules import Rule

T = TypeVar("T")

Location = NewType("Location", str)
"""A place (folder, file or hub id): ids hold the revision of its content instead."""

Label = NewType("Label", str)
"""A name for people: never part of an id."""

WANDB_NAME = re.compile(r"[^/\\#?%:\s\x00-\x1f]([^/\\#?%:\x00-\x1f]{0,126}[^/\\#?%:\s\x00-\x1f])?")
LARGEST = 2**63 - 1
"""Of whole numbers: what arrays and files can hold."""
LONGEST = 120
"""Characters of a value that a line about it repeats."""

Count = Annotated[int, Range(1, math.inf)]
Positive = Annotated[float, Range(1e-12, math.inf)]
NotNegative = Annotated[float, Range(0.0, math.inf)]


@dataclass(frozen=True, kw_only=True)
class WorldSource:
    """The generated world (`ablate.data.world`)."""

    kind: Literal["world"]
    seed: int
    """Seed of the corpus itself; the run's seed chooses rows from it."""
    documents: Annotated[int, Range(600, 10_000_000)]
    skew: Annotated[float, Range(0.5, 1.0)]
    """How often the original instruction of a row asks for the usual side of its constraint."""
    shortcut: Share
    """How strongly a style of writing goes with being the positive in original rows."""
    rows: Literal["complete", "all"]


@dataclass(frozen=True, kw_only=True)
class BeirSource:
    """A folder in BEIR's layout, with instructions as variants of queries (`ablate.data.beir`)."""

    kind: Literal["beir"]
    path: Location
    seed: int
    """Seed of the pairing of passages into rows and of the side that each row asks for."""
    train_split: str
    skew: Share
    """How often the original instruction of a row is the first-named of its two complementary variants."""
    reversals: tuple[tuple[str, str], ...] | None
    """Pairs of variants that are each other's complement; null: found from the labels."""
    rows: Literal["complete", "all"]
    """`complete`: only base rows that have an instruction, a complement and an instruction negative, so that every
    arm draws from the same rows. `all`: every row; a factor that a row cannot take is an error."""
    own_document: Literal["keep", "drop"] | None = None
    """What becomes of documents that are queries under the same id: `drop` leaves a query's own document out of its
    ranking, its labels and its training rows, as benchmarks like ArguAna ask for; null: such a folder is refused."""


@dataclass(frozen=True, kw_only=True)
class RulesSource:
    """A BEIR folder whose instructions are made from the metadata of its documents by rules (`ablate.data.rules`)."""

    kind: Literal["rules"]
    path: Location
    seed: int
    """Seed of the pairing of passages into rows, of the side that each row asks for, and of wordings."""
    train_split: str
    skew: Share
    """How often the original instruction of a row asks for documents that satisfy the rule."""
    minimum: Count
    """Documents that each side of a rule needs for a query to be used."""
    rules: tuple[Rule, ...]
    rows: Literal["complete", "all"]
    own_document: Literal["keep", "drop"] | None = None
    """As in a BEIR folder."""


@dataclass(frozen=True, kw_only=True)
class PublishedSource:
    """Rows in a published format, from files or the hub (`ablate.data.published`); no evaluation sets of their own."""

    kind: Literal["published"]
    format: Literal["promptriever", "tevatron", "infir"]
    path: Location | None
    """A file or folder of .jsonl, .jsonl.gz or .parquet; null: from the hub."""
    repo: Location | None
    hub_revision: str | None
    """Commit of the hub repository."""
    subset: str | None
    split: str
    records: Literal["instructed", "plain", "all"]
    """Promptriever's rows only: which of the two forms of a row are read."""
    min_positive_score: Share | None
    """A positive of an instructed row whose judge score is not above this is dropped; null keeps all."""
    max_negative_score: Share | None
    """An instruction negative whose judge score is above this is dropped; null keeps all."""
    other_queries: bool
    """InF-IR only: the poisoned query with its own document as one more row."""
    passage_ids: Literal["docid", "docid_and_text"]
    rows: Literal["complete", "all"]


Source = WorldSource | BeirSource | RulesSource | PublishedSource


@dataclass(frozen=True, kw_only=True)
class MtebSource:
    """Official benchmarks under their names in mteb (`ablate.data.official`); evaluation sets only, no rows."""

    kind: Literal["mteb"]
    path: Location | None
    """A folder with a copy of each task's dataset repository, named like the task; null: from the hub."""
    split: str | None
    """null: the split that the task evaluates on."""
    revisions: Annotated[tuple[tuple[str, str], ...], Location]
    """(task, commit of its dataset): what is named in `evaluation.sets` must be pinned here; ids hold those pins."""


@dataclass(frozen=True, kw_only=True)
class Miner:
    """Hard negatives for rows that have none, from a ranking of the corpus for the query (`ablate.data.mining`)."""

    kind: Literal["bm25", "dense"]
    """dense: inner products of the untouched backbone of this recipe."""
    count: Count
    """Hard negatives per query."""
    depth: Count
    """Ranks that are looked at."""
    skip: Annotated[int, Range(0, math.inf)]
    """Ranks that are passed over first: the top of a ranking holds relevant documents that nobody judged."""
    near_duplicate: Share
    """Jaccard similarity of word 5-shingles from which a document counts as a copy of a relevant one."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What is held equal across arms."""

    unit: Literal["groups", "pairs", "tokens", "queries"]
    """groups: training rows; pairs: a query with one of its passages; tokens: of queries as posed and passages, as
    the arm's own tokenizer and template count them, to within half a percent; queries: unique base queries."""
    limit: Count | None
    """How many units; null: everything the source has (an unmatched arm)."""
    fill: Literal["fewer_queries", "repeat"]
    """fewer_queries: rows that a factor adds displace base queries, and a limit beyond the source is an error.
    repeat: rows are gone through again until the limit is reached."""
    negatives_per_group: Count
    """Passages beside the positive in every group, whatever their kind."""

    def used(self, card: Mapping[str, Any]) -> int:
        """Return how much of this budget's unit a mix uses, by its card."""
        names = {"groups": "groups", "pairs": "pairs", "tokens": "tokens", "queries": "unique_queries"}
        return int(card[names[self.unit]])

    def is_matched(self, card: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Return whether two mixes use equally much: exactly, or to one percent in tokens (each misses by half)."""
        one, two = self.used(card), self.used(other)
        return abs(one - two) <= (0.01 * max(one, two) if self.unit == "tokens" else 0)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters on a frozen backbone (peft)."""

    rank: Count
    alpha: Positive
    dropout: Share
    targets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A small BERT made from a config, with a WordPiece tokenizer trained on the source: for fast tests."""

    vocabulary: Annotated[int, Range(100, 100_000)]
    hidden: Count
    layers: Count
    heads: Count


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The bi-encoder: backbone, and how a text becomes a vector."""

    name: Label
    path: Location | None
    """Local directory or hub id; null: the weights inside the installed package (`embedded`) or `tiny`."""
    hub_revision: str | None
    """Commit of the hub repository; needed for a hub id, so that the same name means the same weights."""
    tiny: TinyModel | None
    lora: Lora | None
    pooling: Literal["mean", "cls", "last"]
    normalise: bool
    query_prefix: str
    passage_prefix: str
    separator: str
    """Between query and instruction, and nowhere else."""
    order: Literal["query_first", "instruction_first"]
    append_eos: bool
    """End every text with the tokenizer's end-of-text token, as RepLLaMA and Promptriever do for last-token pooling."""
    query_length: Annotated[int, Range(4, 32_768)]
    """Tokens of query with instruction, special tokens included."""
    passage_length: Annotated[int, Range(4, 32_768)]
    dropout: Share
    """Of the backbone in training; 0 is a modelling choice that makes training faster and is the same in all arms."""
    trust_remote_code: bool


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the encoder is trained on a mix."""

    epochs: Count
    batch_size: Annotated[int, Range(2, 65_536)]
    """Groups per optimiser step."""
    learning_rate: Positive
    weight_decay: NotNegative
    schedule: Literal["linear", "cosine", "constant"]
    warmup: Share
    """Share of all steps in which the learning rate rises linearly from zero."""
    clip_norm: Positive
    temperature: Positive
    in_batch_negatives: bool
    """Whether passages of other groups in the batch are negatives (those known to answer the query never are)."""
    precision: Literal["auto", "fp32", "bf16"]
    """auto becomes fp32 on a CPU and bf16 on CUDA before any id is taken, whichever processor it is; bf16 on a CPU is
    asked for by name, and pays on one with AMX or AVX512_BF16."""
    sub_batch: Count
    """Texts per forward pass inside a step; does not change the loss, only the last bits."""


@dataclass(frozen=True, kw_only=True)
class ExactIndex:
    """Every document is scored."""

    kind: Literal["exact"]


@dataclass(frozen=True, kw_only=True)
class IvfIndex:
    """Inverted lists around the centres of k-means: the documents of the nearest lists are scored."""

    kind: Literal["ivf"]
    lists: Count
    probes: Count
    """Lists that are scored for a query; as many as `lists` is exact search."""
    seed: Annotated[int, Range(0, 2**31 - 1)]
    """Of k-means."""
    checked_queries: Count
    """Queries that are searched exactly too, for the recall that is recorded."""


@dataclass(frozen=True, kw_only=True)
class HnswIndex:
    """A graph of near neighbours (arXiv 1603.09320) that is walked towards the query."""

    kind: Literal["hnsw"]
    links: Annotated[int, Range(2, 1024)]
    """Neighbours per document and level."""
    build_breadth: Count
    """Candidates looked at when a document is linked (efConstruction)."""
    search_breadth: Count
    """Candidates looked at for a query (efSearch), or the documents asked for if they are more."""
    checked_queries: Count
    """Queries that are searched exactly too, for the recall that is recorded."""


@dataclass(frozen=True, kw_only=True)
class PqIndex:
    """Product quantisation: all documents are scored by codes of some bytes, the best of them by their vectors."""

    kind: Literal["pq"]
    code_bytes: Count
    """Parts of a vector, one byte each; divides the vector's size."""
    oversampling: Annotated[float, Range(1.0, 1000.0)]
    """How many times the documents asked for are scored by their vectors."""
    seed: Annotated[int, Range(0, 2**31 - 1)]
    """Of k-means."""
    checked_queries: Count
    """Queries that are searched exactly too, for the recall that is recorded."""


Index = ExactIndex | IvfIndex | HnswIndex | PqIndex


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """On what and how a model is measured; always in fp32.

    A field with a default is left out of ids at its default, so that adding one changes no existing id.
    """

    source: Source | MtebSource | None
    """Where the evaluation sets are from; null: the source that is trained on."""
    sets: tuple[str, ...]
    """Names of evaluation sets of that source, such as `test`; of mteb: `TASK` or `TASK/SUBSET`."""
    depth: Count
    """Documents kept per ranking."""
    batch_size: Count
    window: Count | None = None
    """Tokens per passage of a document that is longer; the best passage gives the document its score (MaxP, arXiv
    1905.09217). null: a document is one passage, cut to the model's length."""
    stride: Count | None = None
    """Tokens from the start of one passage of a document to that of the next; window - stride of them overlap."""
    index: Index = ExactIndex(kind="exact")
    """How the nearest documents are found; all but `exact` may miss some, and the recall is recorded."""


RankerName = Literal["trained", "untouched", "bm25", "bm25_instruction", "random"]
"""What ranks the documents: the trained model, its backbone before training, BM25 for the bare query or for query and
instruction, or a coin."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that may change a number; an arm."""

    source: Source
    miner: Miner | None
    """null: the hard negatives that the source has."""
    factors: Factors
    budget: Budget
    model: ModelConfig
    train: TrainConfig
    evaluation: EvaluationConfig
    ranker: RankerName = "trained"
    """All but `trained` are baselines without a mix or a training: only what they rank by and the test beds decide."""


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Where runs are logged beside the local ledger."""

    kind: Literal["none", "wandb_offline", "wandb"]
    project: str
    entity: str | None
    log_model: bool


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What stands in no id: places, devices, displays.

    Under one id the last bits of a number depend on `device` and `threads`, and on the kernels that the libraries
    choose for the processor. Each manifest records what was used, and `analysis.fairness` compares it.
    """

    results: Location
    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Range(1, 1024)] | None
    """Processor threads; null: all cores."""
    label: str
    """Name of the arm, from the experiment file."""
    baseline: str | None
    """Arm whose recipe is shown beside this one at the start of a run."""
    study: str
    until: Literal["mix", "dev", "scores"]
    """Last stage that is made; `mix` builds and counts the data only, `dev` trains and measures on the dev set."""
    plan_only: bool
    """Show what would be run, what it would cost and what is there already, and run nothing."""
    checkpoint_every: Count
    """Steps between checkpoints."""
    dev_set: str | None
    """Evaluation set that is measured during training, for the eye and for tuning; never one of `evaluation.sets`."""
    dev_every: Count
    """Steps between measurements on the dev set."""
    shard_size: Count
    """Documents whose vectors lie in memory together at evaluation, rounded up to whole blocks of the encoder so that
    it changes no bit; those of larger sets are kept in files while they are searched, and a killed run finds them."""
    keep_embeddings: bool
    """Whether these files stay when the scores are there."""
    progress: bool
    tracker: TrackerConfig


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: a recipe, a seed, and how to run it here."""

    recipe: Recipe
    seed: Annotated[int, Range(0, LARGEST)]
    runtime: Runtime


def build_run(values: Mapping[str, Any]) -> RunConfig:
    """Build a RunConfig from the flat dictionary of the command line (recipe parts, `seed` and `runtime` side by side).

    Raises UserError with the dotted path, the value and what is allowed.
    """
    recipe_names = [field.name for field in dataclasses.fields(Recipe)]
    known = [*recipe_names, "seed", "runtime"]
    _refuse_unknown(values, known, "")
    for name in known:
        if values.get(name) is None and name != "miner":
            raise UserError(f"{name} is not set (null); every run needs it" + (": seed=0" if name == "seed" else ""))
    run = RunConfig(
        recipe=build(Recipe, {name: values[name] for name in recipe_names}),
        seed=_build(_hints(RunConfig)["seed"], values["seed"], "seed"),
        runtime=build(Runtime, values["runtime"], "runtime"),
    )
    check_coherent(run.recipe.factors)
    _check_together(run)
    return run


def _check_together(run: RunConfig) -> None:
    """Raise UserError for values that are right by themselves and wrong together."""
    recipe, runtime = run.recipe, run.runtime
    if recipe.factors.instruction_negatives > recipe.budget.negatives_per_group:
        raise UserError(
            f"factors.instruction_negatives={recipe.factors.instruction_negatives} does not fit into "
            f"budget.negatives_per_group={recipe.budget.negatives_per_group}; raise the budget's or lower the factor's"
        )
    sets = recipe.evaluation.sets
    if not sets or len(set(sets)) < len(sets):
        raise UserError(f"evaluation.sets={list(sets)} must name at least one set and none of them twice")
    window, stride, length = recipe.evaluation.window, recipe.evaluation.stride, recipe.model.passage_length
    if (window is None) != (stride is None) or (window is not None and stride is not None and stride > window):
        raise UserError(
            f"evaluation.window={window} and evaluation.stride={stride} go together, and the stride is at most the "
            f"window, so that no token is passed over: evaluation.window=128 evaluation.stride=64, or null for both"
        )
    if window is not None and window >= length:
        raise UserError(
            f"evaluation.window={window} does not fit into model.passage_length={length} beside special tokens; lower "
            f"the window or raise the length"
        )
    if isinstance(recipe.evaluation.index, IvfIndex) and recipe.evaluation.index.probes > recipe.evaluation.index.lists:
        raise UserError(
            f"evaluation.index.probes={recipe.evaluation.index.probes} is more than "
            f"evaluation.index.lists={recipe.evaluation.index.lists}; lower the probes"
        )
    check_name("runtime.study", runtime.study)
    check_name("runtime.label", runtime.label)
    for name, text in (("project", runtime.tracker.project), ("entity", runtime.tracker.entity)):
        if text is not None and not WANDB_NAME.fullmatch(text):
            raise UserError(f"runtime.tracker.{name}={_shown(text)} is no name for W&B: up to 128 characters, none of "
                            f"them white space but blanks, and none of / \\ # ? % :")  # fmt: skip
    if runtime.label == "untouched" and recipe.ranker != "untouched":
        raise UserError("runtime.label='untouched' is the name of the backbone before training; choose another one")
    switched_on = active(recipe.factors)
    if recipe.ranker != "trained" and switched_on:
        raise UserError(
            f"ranker={recipe.ranker!r} trains nothing, so factors.{next(iter(switched_on))} would mean nothing; leave "
            f"the factors off (+experiment=query_only does), or set ranker=trained"
        )
    if runtime.until == "dev" and runtime.dev_set is None:
        raise UserError("runtime.until=dev measures on the dev set, and runtime.dev_set is null; name one")
    if run.runtime.dev_set in run.recipe.evaluation.sets:
        raise UserError(
            f"runtime.dev_set={run.runtime.dev_set!r} is one of evaluation.sets={list(run.recipe.evaluation.sets)}; "
            f"what is watched in training must not be what is reported: set runtime.dev_set=null or name another set"
        )


def build(cls: type[T], values: Any, path: str = "") -> T:
    """Build a frozen dataclass from plain values; strict, recursive.

    Raises UserError for an unknown or missing key, a wrong type or a value out of range, with the dotted path.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{path or cls.__name__}={values!r} must be a group of keys: {_names(cls)}")
    _refuse_unknown(values, _names(cls), path)
    hints = _hints(cls)
    arguments = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        where = f"{path}.{field.name}" if path else field.name
        if field.name in values:
            arguments[field.name] = _build(hints[field.name], values[field.name], where)
        elif field.default is dataclasses.MISSING:
            raise UserError(f"{where} is missing; give it a value ({_describe(hints[field.name])})")
    return cls(**arguments)


def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _refuse_unknown(values: Mapping[str, Any], known: list[str], path: str) -> None:
    for name in values:
        if name not in known:
            raise UserError(unknown_key(str(name), known, path))


def unknown_key(name: str, known: Sequence[str], path: str = "") -> str:
    """Return the line about a key that is not there: where, which keys are, and which one was probably meant."""
    where = f"{path}." if path else ""
    return f"unknown key {where}{name}; known here: {', '.join(known) or 'none'}{meant(name, known, where)}"


def meant(name: str, known: Iterable[str], where: str = "") -> str:
    """Return the end of a line about an unknown name: `; did you mean X?`, or nothing when none is like it."""
    folded = {one.casefold(): one for one in known}
    alike = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {where}{folded[alike[0]]}?" if alike else ""


def _build(hint: Any, value: Any, path: str) -> Any:
    described, limits = _describe(hint), list[Range]()
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
        limits = [extra for extra in extras if isinstance(extra, Range)]
    if isinstance(hint, NewType):
        if hint is Location and value == "":
            raise UserError(
                f"{path} is empty, which would mean the current folder; name it, or write . for that folder"
            )
        hint = hint.__supertype__
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _build_union(typing.get_args(hint), value, path)
    if origin is Literal:
        if isinstance(value, (bool, list, Mapping)) or value not in typing.get_args(hint):
            known = [str(option) for option in typing.get_args(hint)]
            raise UserError(
                f"{path}={_shown(value)} is not known; allowed: {', '.join(known)}{meant(str(value), known)}"
            )
        return value
    if origin is tuple:
        return _build_tuple(typing.get_args(hint), value, path)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, path)  # type: ignore[arg-type]
    if hint is Any:
        return value
    return _build_scalar(hint, value, path, limits, described)


def _build_union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None:
        if type(None) in options:
            return None
        raise UserError(f"{path} is not set (null); allowed: {' or '.join(_describe(option) for option in options)}")
    options = tuple(option for option in options if option is not type(None))
    if len(options) == 1:
        return _build(options[0], value, path)
    kinds = {typing.get_args(_hints(option)["kind"])[0]: option for option in options}
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(f"{path}.kind={_shown(kind)} is not known; allowed: {', '.join(kinds)}"
                        f"{meant(str(kind), list(kinds))}")  # fmt: skip
    return build(kinds[kind], value, path)


def _build_tuple(items: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise UserError(f"{path}={_shown(value)} must be a list, like [{_describe(items[0])}, …]")
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_build(items[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if len(value) != len(items):
        raise UserError(f"{path}={_shown(value)} must have {len(items)} entries")
    both = enumerate(zip(items, value, strict=True))
    return tuple(_build(hint, item, f"{path}[{index}]") for index, (hint, item) in both)


def _build_scalar(hint: Any, value: Any, path: str, limits: list[Range], described: str) -> Any:
    if isinstance(value, int) and abs(value) > LARGEST:
        raise UserError(f"{path}={_shown(value)} is too large; whole numbers go to {LARGEST}")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if value is None:
        raise UserError(f"{path} is not set (null); it takes {described}")
    if value == "" and hint is not str:
        raise UserError(f"{path} has no value; it takes {described}")
    if type(value) is not hint:
        whole = f"; write {path}={value:.0f}" if hint is int and isinstance(value, float) and value.is_integer() else ""
        raise UserError(
            f"{path}={_shown(value)} has the wrong type ({type(value).__name__}); it takes {described}{whole}"
        )
    if hint is float and not math.isfinite(value):
        raise UserError(f"{path}={value!r} must be a finite number; it takes {described}")
    for limit in limits:
        if not limit.low <= value <= limit.high:
            raise UserError(f"{path}={value!r} is out of range; allowed: {_span(limit)}")
    return value


def _span(limit: Range) -> str:
    """Return a range in words."""
    low, high = (f"{end:g}" if isinstance(end, float) else str(end) for end in limit)
    return f"{low} to {high}" if math.isfinite(limit.high) else f"at least {low}"


def _shown(value: Any) -> str:
    """Return a value as a line repeats it: what is long, or too long to be written, by its beginning."""
    try:
        text = repr(value)
    except ValueError:  # a whole number beyond the limit of digits
        return f"a number of {value.bit_length()} bits" if isinstance(value, int) else "what cannot be written"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


WORDS: dict[Any, str] = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"
}  # fmt: skip


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Annotated:
        base, *extras = typing.get_args(hint)
        limits = ", ".join(_span(extra) for extra in extras if isinstance(extra, Range))
        return f"{_describe(base)}, {limits}" if limits else _describe(base)
    if isinstance(hint, NewType):
        return "text"
    if typing.get_origin(hint) is Literal:
        return ", ".join(str(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_describe(option) for option in typing.get_args(hint))
    return WORDS.get(hint) or str(getattr(hint, "__name__", hint))


def plain(value: Any) -> Any:
    """Return a dataclass as plain dictionaries and lists, ready for JSON or YAML."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    return value


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one dictionary with dotted keys; lists are values."""
    if isinstance(value, Mapping):
        return {
            key: leaf
            for name, item in value.items()
            for key, leaf in flatten(item, f"{path}.{name}" if path else str(name)).items()
        }
    return {path: value}


def diff(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two recipes differ, with the value of each; absent values are None."""
    left, right = flatten(plain(a)), flatten(plain(b))
    return {
        key: (left.get(key), right.get(key))
        for key in dict.fromkeys([*left, *right])
        if left.get(key) != right.get(key)
    }


def digest(value: Any) -> str:
    """Return the id of a plain value: 16 hex digits of SHA-256 over its canonical JSON."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Revisions:
    """What the places of a recipe hold: content revisions that stand in ids for paths."""

    source: str
    model: str
    miner: str = ""
    """Of the miner with what it ranks by; empty without one."""
    evaluation: str = ""
    """Of the source of the evaluation sets; empty when it is the one that is trained on."""
    ranker: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Parameters of a ranker that is no model."""


@dataclass(frozen=True)
class Identity:
    """The ids of a run, each beside the full value that it is the digest of."""

    mix: dict[str, Any]
    """Not made, like the training, by a ranker that needs none."""
    train: dict[str, Any]
    evaluation: dict[str, Any]
    """Of the arm's own ranker."""
    untouched: dict[str, Any]
    arm: dict[str, Any]

    @property
    def mix_id(self) -> str:
        """Id of the training mix."""
        return digest(self.mix)

    @property
    def train_id(self) -> str:
        """Id of the trained model."""
        return digest(self.train)

    @property
    def eval_id(self) -> str:
        """Id of the arm's scores."""
        return digest(self.evaluation)

    @property
    def untouched_id(self) -> str:
        """Id of the scores of the backbone before any training, shared by all arms on the same evaluation."""
        return digest(self.untouched)

    @property
    def arm_id(self) -> str:
        """Id of the recipe without its seed."""
        return digest(self.arm)


def identify(recipe: Recipe, seed: int, revisions: Revisions) -> Identity:
    """Return the id chain of a run; two spellings of one configuration give the same ids."""
    source = _by_revision(recipe.source, revisions.source)
    model = _by_revision(recipe.model, revisions.model)
    factors, budget = active(recipe.factors), plain(recipe.budget)
    evaluation = _without_defaults(recipe.evaluation)
    if recipe.evaluation.source is not None:
        evaluation["source"] = _by_revision(recipe.evaluation.source, revisions.evaluation)
    mix = {"stage": "mix", "source": source, "factors": factors, "budget": budget, "seed": seed}
    if recipe.miner is not None:
        mix["miner"] = {**plain(recipe.miner), "revision": revisions.miner}
    if recipe.budget.unit == "tokens":  # counted by the model's tokenizer and template
        mix["model"] = model
    train = {"stage": "train", "mix": digest(mix), "model": model, "train": plain(recipe.train), "seed": seed}
    test_beds = {**evaluation, "source": evaluation["source"] or source}
    untouched: dict[str, Any] = {"stage": "untouched", "model": model, "evaluation": test_beds}
    if recipe.model.tiny is not None:  # its weights are drawn, and its vocabulary is that of the training source
        untouched.update(seed=seed, vocabulary=source)
    scores: dict[str, Any]
    arm: dict[str, Any]
    if recipe.ranker == "trained":
        scores = {"stage": "evaluation", "train": digest(train), "evaluation": evaluation}
        arm = {
            "stage": "arm",
            "source": source,
            "miner": plain(recipe.miner),
            "factors": factors,
            "budget": budget,
            "model": model,
            "train": plain(recipe.train),
            "evaluation": evaluation,
        }
    else:
        scores = untouched if recipe.ranker == "untouched" else _of_ranker(recipe, seed, revisions, test_beds)
        arm = {**scores, "stage": "arm", "seed": None, "ranker": recipe.ranker}
    return Identity(mix=mix, train=train, evaluation=scores, untouched=untouched, arm=arm)


def _of_ranker(recipe: Recipe, seed: int, revisions: Revisions, test_beds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of the scores of a ranker that is no model: it has no batches, and only a coin has a seed."""
    beds = {name: value for name, value in test_beds.items() if name != "batch_size"}
    found = {"stage": "ranker", "ranker": {"kind": recipe.ranker, **revisions.ranker}, "evaluation": beds}
    return {**found, "seed": seed} if recipe.ranker == "random" else found


def _without_defaults(part: Any) -> dict[str, Any]:
    """Return a part of the recipe without the fields that are at their default."""
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    defaults = {field.name: field.default for field in dataclasses.fields(part)}
    return {name: plain(value) for name, value in values.items() if value != defaults[name]}


def _by_revision(part: Any, revision: str) -> dict[str, Any]:
    """Return a part of the recipe without labels and places, and with the revision of the content they point to."""
    hints = _hints(type(part))
    left_out = {name for name, hint in hints.items() if {Location, Label} & {hint, *typing.get_args(hint)}}
    found = _without_defaults(part)
    return {name: value for name, value in found.items() if name not in left_out} | {"revision": revision}
