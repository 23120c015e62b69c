"""What a run is, in frozen types: `RunConfig = recipe + seed + runtime`.

Everything in `Recipe` may change a number and is hashed; nothing in `Runtime` does and none of it is hashed. Which is
which is decided by this structure alone. Two kinds of values are replaced in ids by what they point to: a `Location` by
the digest of its content, and factors and fields with a default at their no-op by nothing (`recipe.identity`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, Protocol, TypeVar

from ablate.recipe.factors import Factors, Range, Share
from ablate.recipe.rules import Rule
from ablate.recipe.topics import WrittenQueries

T = TypeVar("T")

Location = NewType("Location", str)
"""A place (folder, file or hub id): ids hold the revision of its content instead."""

Label = NewType("Label", str)
"""A name for people: never part of an id."""

LARGEST = 2**63 - 1
"""Of whole numbers: what arrays and files can hold."""

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
    queries: WrittenQueries | None = None
    """How plain queries are written from metadata; null: those of the folder."""
    only: tuple[str, ...] | None = None
    """Names of the rules that are used; null: all of them."""
    minimum_share: Annotated[float, Range(0.0, 0.5)] = 0.0
    """Share of a query's documents that each side of a rule needs, beside `minimum`."""
    margin: Annotated[float, Range(0.0, 0.9)] = 0.0
    """Share of each side of a query, of the values nearest to a numeric bound, that training pairs are not taken from;
    evaluation keeps all."""
    num_wordings: Count | None = None
    """Wordings of a rule that training rows have, at most, drawn from all that its brackets stand for; null: all.
    Evaluation sets are the same whatever it is."""


@dataclass(frozen=True, kw_only=True)
class PublishedSource:
    """Rows in a published format, from files or the hub (`ablate.data.published`); no evaluation sets of their own."""

    kind: Literal["published"]
    format: Literal["promptriever", "tevatron", "infir", "synthesized"]
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


class PluginSource(Protocol):
    """Keys of a source that another distribution brings: a frozen dataclass of its own, found by its `kind`.

    `ablate.plugins` says where it is looked for, `docs/extending.md` what it must have.
    """

    @property
    def kind(self) -> str:
        """Name of its entry point."""

    @property
    def rows(self) -> Literal["complete", "all"]:
        """Which base rows take part."""

    def open(self, sets: tuple[str, ...]) -> object:
        """Return a `RowSource` (`ablate.data.sources`) that has these evaluation sets."""


Source = WorldSource | BeirSource | RulesSource | PublishedSource | PluginSource

OF_ROWS = ("skew", "shortcut", "rows", "margin", "num_wordings")
"""Keys of a source that decide its training rows and nothing else: documents and evaluation sets are the same."""


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


Stemmer = Literal["english", "porter"]
"""Snowball stemmers (https://snowballstem.org) that BM25 may reduce words by; `porter` is the one of Lucene's
PorterStemFilter, as Anserini uses it, `english` its successor."""


@dataclass(frozen=True, kw_only=True)
class Miner:
    """Hard negatives for rows that have none, from a ranking of the corpus for the query (`ablate.data.mined`).

    A field with a default is left out of ids at its default, so that adding one changes no existing id.
    """

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
    stemmer: Stemmer | None = None
    """What BM25 reduces words to their stems by (package PyStemmer); null: words as they are."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Which rows take part by what was judged of their pairs (`ablate.data.audited`); left out of ids at `all`."""

    take: Literal["all", "clean", "matched", "flagged"] = "all"
    """all: every row, whatever was judged. Else only rows that were judged take part. clean: those whose pair is right.
    matched: at most as many rows as clean has, the first ones of the seed's order whatever was judged of them: the
    control of equal size. flagged: those whose pair is not right. Under a budget all of them have the same number of
    groups, or are refused; queries are not matched, and the card counts them."""
    judgments: Location | None = None
    """File of judgments whose items are rows (docs/audit.md); ids hold the digest of its content where rows are chosen
    by it. null: none."""


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
        """Return whether second mixes use equally much: exactly, or to one percent in tokens (each misses by half)."""
        first, second = self.used(card), self.used(other)
        return abs(first - second) <= (0.01 * max(first, second) if self.unit == "tokens" else 0)


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
class StaticModel:
    """A table of token vectors in place of a network; a text is their mean (as sentence-transformers' StaticEmbedding).

    It is read from `model.path`: a folder of StaticEmbedding or model2vec, or a transformers model, whose input word
    vectors it is then; null: those of the package that `model=minilm` uses. A mean knows no order and no interaction
    of words, so an instruction adds its own vector to the query and can do nothing else.
    """

    drawn: Annotated[int, Range(1, 65_536)] | None
    """Dimensions of vectors that are drawn from the run's seed, for the tokenizer in that place; null: the vectors
    there."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The bi-encoder: backbone, and how a text becomes a vector.

    A field with a default is left out of ids at its default, so that adding one changes no existing id.
    """

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
    static: StaticModel | None = None
    """A table of token vectors in place of a network; then `tiny`, `lora` and all that layers alone have must be off,
    both lengths equal, and `train.precision` fp32."""

    @property
    def is_drawn(self) -> bool:
        """Whether its weights are drawn from the run's seed and not loaded."""
        return self.tiny is not None or (self.static is not None and self.static.drawn is not None)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the encoder is trained on a mix.

    A field with a default is left out of ids at its default, so that adding one changes no existing id.
    """

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
    order: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Which of the random orders of the rows: with another one, the same mix and the same draws are gone through in
    another sequence. For noise floors (`analysis.noise_floor`); no seed shares an order with another one."""
    same_query: Literal["mask", "use"] = "mask"
    """What passages of other groups of the same query are. mask: no negatives of a row, because their labels under its
    instruction are not known. use: negatives where they are (`ablate.data.batches.relations` has the rule)."""
    most_negatives: Count | None = None
    """Negatives of a row in a batch, at most: its own, and a keyed choice of the others; null: all there are. Arms
    whose groups share passages have fewer of them; a number that all arms reach makes them equal."""


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
    """On what and how a model is measured.

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
    measures: tuple[str, ...] = ()
    """Measures per query beside the usual ones: `nDCG@5`, `recall@20`, or what another distribution brings."""
    index: Index = ExactIndex(kind="exact")
    """How the nearest documents are found; all but `exact` may miss some, and the recall is recorded."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """In which documents and queries are encoded. bf16 is several times quicker where it is multiplied natively, and
    moves near ties; scores are fp32 in either case."""


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
    audit: Audit = Audit()
    stemmer: Stemmer | None = None
    """What the rankers `bm25` and `bm25_instruction` reduce words to their stems by (package PyStemmer); null: words as
    they are."""


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Where runs are logged beside the local ledger."""

    kind: Literal["none", "wandb_offline", "wandb", "trackio"]
    """`trackio` stays on this machine and needs no account."""
    project: str
    entity: str | None
    """User or team of W&B; null: that of the key."""
    log_model: bool
    """Whether the trained model is logged too, with its bytes."""


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
    objection: str | None
    """The objection to a result that this arm answers, in a few words, from the experiment file: a report names it."""
    study: str
    until: Literal["mix", "dev", "scores"]
    """Last stage that is made; `mix` builds and counts the data only, `dev` trains and measures on the dev set."""
    plan_only: bool
    """Show what would be run, what it would cost and what is there already, and run nothing."""
    checkpoint_every: Count
    """Steps between checkpoints."""
    held_tokens: Count | None
    """Tokens of a step, padding included, whose forward passes are kept for the backward pass; those beyond are done a
    second time, which takes a third longer and holds memory at that of these tokens for any train.batch_size, and
    changes no gradient. null: all of them are kept."""
    packed: bool | None
    """Whether texts are laid end to end in one row, so that no padding is computed; null: on CUDA in bf16, where the
    backbone can. It moves last bits alone and is recorded."""
    compile: bool
    """Whether PyTorch compiles the layers of the model, on CUDA alone: it takes time at the start of each process,
    which only long trainings and large corpora give back. It moves last bits alone and is recorded."""
    shard_weights: bool
    """Split weights, gradients and the optimiser's moments over the processes of one run (FSDP2), for a model that a
    device holds but cannot train; `held_tokens` at any number then has every forward pass done a second time, and no
    text is packed. Not with model.static, model.lora, runtime.packed=true, or a dev set."""
    dev_set: str | None
    """Evaluation set that is measured during training, for the eye and for tuning; never one of `evaluation.sets`."""
    dev_every: Count
    """Steps between measurements on the dev set."""
    dev_queries: Count | None
    """Base queries of the dev set that these take, drawn by their ids, each with all its queries, among the documents
    that are judged for them, or 128 with others; null: all. Tuning and `until=dev` always take the whole set."""
    shard_size: Count
    """Documents whose vectors lie in memory together at evaluation, rounded up to whole blocks of the encoder so that
    it changes no bit; those of larger sets are kept in files while they are searched, and a killed run finds them."""
    keep_embeddings: bool
    """Whether these files stay when the scores are there."""
    progress: bool
    profile: bool
    """Write and print where the time of the run went, and a trace of it that a browser opens."""
    tracker: TrackerConfig


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: a recipe, a seed, and how to run it here."""

    recipe: Recipe
    seed: Annotated[int, Range(0, LARGEST)]
    runtime: Runtime
