"""One run made ready: configuration settled, source and backbone opened, ids taken."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.data.audited import Audited, read_audit
from ablate.data.mix import Mix, TokensOf
from ablate.data.sources import RowSource, SetSource, check_names, open_sets, open_source
from ablate.evaluation.measures import revisions_of, with_measures
from ablate.evaluation.rankers import plain_ranker
from ablate.evaluation.sampling import part_of
from ablate.evaluation.summary import QUERY_MEASURES
from ablate.recipe.identity import Identity, Revisions, identify
from ablate.recipe.schema import MtebSource, Recipe, RunConfig
from ablate.recipe.values import digest, without_defaults
from ablate.records import EvaluationSet, UserError
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore, stage_label
from ablate.timing import timed
from ablate.tracking import check_tracker

if TYPE_CHECKING:  # torch and transformers are loaded by the first stage that has work to do
    from ablate.model.backbone import Backbone
    from ablate.model.device import Precision
    from ablate.model.encoder import BiEncoder
    from ablate.model.prepared import PreparedTraining
    from ablate.model.text import TextTemplate
    from ablate.model.untouched import Untouched

TOKENIZER_ROWS = 500
"""Rows of the source whose texts train the tokenizer of the tiny model; the same for every arm and seed."""


@dataclass
class Run:
    """One run made ready: its configuration, source, backbone, ids and the store of its results."""

    config: RunConfig
    source: RowSource
    test_beds: SetSource
    """Where the evaluation sets are from; often the source itself."""
    backbone: Backbone
    identity: Identity
    revisions: Revisions
    store: ResultStore
    sets: dict[str, EvaluationSet] = field(default_factory=dict)
    declared: str = ""
    """Digest of the declaration of the study that this run is made for."""
    audited: Audited | None = None
    """What was judged of the rows; None where no file of judgments is named."""
    findings: tuple[str, ...] = ()
    """What `look_at_data` found: it stands with the scores."""

    @property
    def title(self) -> str:
        """Name of the arm and its seed, for people."""
        return f"{self.config.runtime.label} seed {self.config.seed}"

    @property
    def label(self) -> str:
        """Under which study and arm the stages of this run are recorded."""
        return stage_label(self.config.runtime.study, self.config.runtime.label)

    @cached_property
    def is_complete(self) -> bool:
        """Whether every stage was complete when this was asked first: then nothing needs to be written or locked."""
        from ablate.study.planning import Cell
        from ablate.study.status import is_done

        return is_done(self.store, Cell((), self.config.runtime.label, self.config.seed, self.config, self.identity))

    @cached_property
    def hardware(self) -> dict[str, Any]:
        """What the last bits of this run depend on beside its recipe, for manifests."""
        from ablate.model.device import arithmetic

        runtime = self.config.runtime
        return arithmetic(self.device, packed=runtime.packed, compiled=runtime.compile)

    @property
    def sharding(self) -> dict[str, Any]:
        """That weights were split over processes, which decides in which order gradients are summed; else nothing.

        No text of such a training is packed.
        """
        return {"shard_weights": True, "packed": False} if self.config.runtime.shard_weights else {}

    @property
    def device(self) -> str:
        """The device that this run computes on."""
        from ablate.model.device import resolve_device

        return resolve_device(self.config.runtime.device)

    @property
    def mines_by_model(self) -> bool:
        """Whether the mix depends on numbers that a model computes; else it is the same bytes on every machine."""
        return self.config.recipe.miner is not None and self.config.recipe.miner.kind == "dense"

    def mix_of(self, recipe: Recipe) -> Manifest | None:
        """Return the mix of another arm on the same data with this run's seed, or None when it is not built."""
        train = dataclasses.replace(recipe.train, precision=self.config.recipe.train.precision)
        other = identify(dataclasses.replace(recipe, train=train), self.config.seed, self.revisions)
        return self.store.find("mix", other.mix)

    @timed("source read")
    def evaluation_set(self, name: str) -> EvaluationSet:
        """Return an evaluation set by its name, read once."""
        if name not in self.sets:
            bed = self.test_beds.evaluation_set(name)
            if self._is_trained_on(name):
                remark = f"these are the queries that were trained on (source.train_split={name}): memory, not skill"
                bed = dataclasses.replace(bed, remarks=(remark, *bed.remarks))
            self.sets[name] = with_measures(bed, self.config.recipe.evaluation.measures)
        return self.sets[name]

    @cached_property
    def dev_part(self) -> EvaluationSet:
        """What of the dev set is measured in training where nothing is tuned by it."""
        runtime = self.config.runtime
        assert runtime.dev_set is not None
        bed = self.evaluation_set(runtime.dev_set)
        return bed if runtime.dev_queries is None else part_of(bed, runtime.dev_queries)

    def _is_trained_on(self, name: str) -> bool:
        """Return whether an evaluation set is the split that the run's own model is trained on."""
        recipe, beds = self.config.recipe, self.config.recipe.evaluation.source
        is_own = beds is None or self.test_beds.revision == self.revisions.source
        return recipe.ranker == "trained" and is_own and getattr(recipe.source, "train_split", None) == name

    @cached_property
    def untouched(self) -> Untouched:
        """The backbone before any training."""
        from ablate.model.untouched import Untouched

        return Untouched(self.backbone, self.config.recipe.model, self.config.seed, self._tokenizer_texts)

    @property
    def template(self) -> TextTemplate:
        """How texts become tokens; raises UserError when model, tokenizer and configuration do not fit each other."""
        return self._keeping(self.untouched.template)

    def untouched_encoder(self) -> BiEncoder:
        """Return the backbone before any training as an encoder of its own, on the device of the run."""
        encoder = self.untouched.encoder().to(self.device)
        self._keeping(encoder.template)
        return encoder

    def encoder_to_train(self) -> BiEncoder:
        """Return the backbone before any training; on the CPU where its weights are going to be split over devices."""
        if not self.config.runtime.shard_weights:
            return self.untouched_encoder()
        encoder = self.untouched.encoder()
        self._keeping(encoder.template)
        return encoder

    def trained_encoder(self, folder: Path) -> BiEncoder:
        """Return the model that a training left in a folder, on the device of the run."""
        from ablate.model.encoder import BiEncoder

        encoder = BiEncoder.load(folder, self.config.recipe.model).to(self.device)
        self._keeping(encoder.template)
        return encoder

    def _keeping(self, template: TextTemplate) -> TextTemplate:
        """Return a template that tokenises no text which a run on the same results has tokenised before."""
        template.keep_tokens(self.store)
        return template

    def prepared(self, mix: Mix) -> PreparedTraining:
        """Return the training on a mix; it is made ready when the first of its texts or steps is asked for."""
        from ablate.model.prepared import PreparedTraining

        recipe, seed = self.config.recipe, self.config.seed
        return PreparedTraining(
            mix.groups, mix.passages, model=recipe.model, train=recipe.train, seed=seed, template=lambda: self.template
        )

    def tokens_of(self) -> TokensOf | None:
        """Return the counter of tokens for a budget in tokens, or None for other budgets."""
        if self.config.recipe.budget.unit != "tokens":
            return None
        from ablate.model.workload import GroupTokens

        return GroupTokens(self.template)

    def _tokenizer_texts(self) -> Iterator[str]:
        doc_ids: dict[str, None] = {}
        for index, row in enumerate(self.source.rows()):
            if index == TOKENIZER_ROWS:
                break
            yield row.query
            yield row.instruction
            doc_ids.update(dict.fromkeys((*row.positives, *row.instruction_negatives[:1])))
        for passage in self.source.passages(doc_ids):
            yield passage.text


def prepare(config: RunConfig, *, declared: str = "", opened: dict[Any, Any] | None = None) -> Run:
    """Open source and backbone, settle what depends on the processor, and take the ids.

    With `opened`, sources and backbones are kept there and found again: for plans of many runs, made in one go.
    """
    with timed("imports"):
        import torch

        from ablate.model.backbone import resolve_backbone

    _check_stemmer(config.recipe)
    _check_sharding(config)
    torch.set_num_threads(config.runtime.threads or len(os.sched_getaffinity(0)))
    precision = _precision(config)
    train = dataclasses.replace(config.recipe.train, precision=precision)
    config = dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, train=train))
    elsewhere, sets = config.recipe.evaluation.source, config.recipe.evaluation.sets
    open_once = functools.partial(_once, {} if opened is None else opened)
    source = open_once(open_source, config.recipe.source, () if elsewhere else sets)
    store = ResultStore(config.runtime.results)
    test_beds: SetSource = open_once(open_sets, elsewhere, sets, store.cache) if elsewhere else source
    check_names(test_beds, (*sets, *([] if config.runtime.dev_set is None else [config.runtime.dev_set])))
    backbone = open_once(resolve_backbone, config.recipe.model)
    audited: Audited | None = open_once(read_audit, config.recipe.audit)
    revisions = Revisions(
        source.revision,
        backbone.revision,
        audit="" if audited is None else audited.revision,
        evaluation="" if elsewhere is None else test_beds.revision,
        measures=revisions_of(config.recipe.evaluation.measures, QUERY_MEASURES),
    )
    if config.recipe.miner is not None:
        source = _mined(source, config, backbone)
        revisions = dataclasses.replace(revisions, miner=source.revision)
    if config.recipe.ranker not in ("trained", "untouched"):
        ranker = plain_ranker(config.recipe.ranker, config.seed, config.recipe.stemmer)
        revisions = dataclasses.replace(revisions, ranker=ranker.parameters)
    identity = identify(config.recipe, config.seed, revisions)
    run = Run(config, source, test_beds, backbone, identity, revisions, store, declared=declared, audited=audited)
    if not (config.runtime.plan_only or run.is_complete):
        tracker = config.runtime.tracker
        check_tracker(tracker.kind, tracker.project, tracker.entity)
        store.open()
    fetched = isinstance(elsewhere, MtebSource) and config.runtime.until != "mix"
    if fetched and store.find("evaluation", identity.evaluation) is None:
        for name in sets:  # a missing package, file or network is told before the training, not after it
            run.evaluation_set(name)
    return run


def _check_stemmer(recipe: Recipe) -> None:
    """Raise UserError for a stemmer that nothing uses; a baseline that is only shown may have one from the command."""
    if recipe.stemmer is not None and recipe.ranker not in ("bm25", "bm25_instruction"):
        raise UserError(
            f"stemmer={recipe.stemmer} is of BM25 as a ranker, and ranker={recipe.ranker} has no words to stem; set it "
            f"to null (that of mined negatives is miner.stemmer)"
        )


def _check_sharding(config: RunConfig) -> None:
    """Raise UserError where weights should be split over processes and cannot be; a plan is made by one process."""
    from ablate.model.distributed import world_size

    model, runtime = config.recipe.model, config.runtime
    if not runtime.shard_weights or config.recipe.ranker != "trained":
        return
    if model.static is not None:
        raise UserError("runtime.shard_weights=true splits layers, and model.static has none; set it to false")
    if model.lora is not None:
        raise UserError(
            "runtime.shard_weights=true is for training all weights, and model.lora trains few; "
            "set it to false, or model.lora=null"
        )
    if runtime.packed:
        raise UserError(
            "runtime.shard_weights=true trains on padded texts, and runtime.packed=true asks for packed ones; "
            "set runtime.packed=null, which packs where it can"
        )
    if runtime.dev_set is not None:
        raise UserError(
            f"runtime.shard_weights=true leaves no device with the whole model to measure runtime.dev_set="
            f"{runtime.dev_set!r} with during training; set runtime.dev_set=null"
        )
    if world_size() == 1 and not runtime.plan_only:
        raise UserError(
            "runtime.shard_weights=true splits weights over several processes, and this is one; start it with torchrun "
            "--nproc-per-node N -m ablate.run, N the number of devices, or set it to false"
        )


def _precision(config: RunConfig) -> Precision:
    """Return the precision that `auto` stands for; a static table is trained in fp32, and another one is refused."""
    from ablate.model.device import check_passes, resolve_device, resolve_precision

    precision, device = config.recipe.train.precision, resolve_device(config.runtime.device)
    if config.recipe.model.static is None:
        resolved = resolve_precision(precision, device)
        check_passes(
            device, {resolved, config.recipe.evaluation.precision}, config.runtime.packed, config.runtime.compile
        )
        return resolved
    if precision == "bf16" or config.recipe.evaluation.precision == "bf16":
        raise UserError(
            "bf16 makes matrix products quicker, and a static table has none; with model.static set "
            "train.precision=fp32 and evaluation.precision=fp32"
        )
    return "fp32"


def _once(opened: dict[Any, Any], function: Callable[..., Any], *given: Any) -> Any:
    key = (function, *given)
    if key not in opened:
        opened[key] = function(*given)
    return opened[key]


def _mined(source: RowSource, config: RunConfig, backbone: Backbone) -> RowSource:
    """Return the source with hard negatives mined for rows that have none."""
    from ablate.data.mined import Mined

    miner, model = config.recipe.miner, config.recipe.model
    assert miner is not None
    if miner.kind == "dense" and model.is_drawn:
        raise UserError(
            f"miner.kind=dense needs a model with loaded weights, and those of model.name={model.name!r} are drawn: "
            f"use miner.kind=bm25"
        )

    def encoder() -> BiEncoder:
        from ablate.model.device import resolve_device
        from ablate.model.encoder import BiEncoder

        return BiEncoder.from_config(model, seed=config.seed).to(resolve_device(config.runtime.device))

    return Mined(
        source,
        kind=miner.kind,
        count=miner.count,
        depth=miner.depth,
        skip=miner.skip,
        near_duplicate=miner.near_duplicate,
        stemmer=miner.stemmer,
        encoder=encoder,
        encoder_revision=f"{backbone.revision} {digest({**without_defaults(model), 'path': None, 'name': None})}",
    )
