"""What both sides work on: the groups of a mix with their batches, the documents, the test beds and the weights."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.cli.overrides import quoted
from ablate.compose import load, strict
from ablate.data.mix import build_mix
from ablate.engine.prepare import prepare
from ablate.model.backbone import quiet_transformers
from ablate.model.encoder import BiEncoder
from ablate.model.module import FlopEstimate
from ablate.model.prepared import PreparedTraining
from ablate.recipe.schema import ModelConfig, Runtime, TrainConfig
from ablate.records import EvaluationSet, Passage, TrainingGroup

WEIGHTS_FOLDER = "weights"
MATERIAL_FILE = "material.pickle"


@dataclass(frozen=True)
class Material:
    """One workload. Groups have one id for each text, so both sides see the same passages."""

    name: str
    groups: list[TrainingGroup]
    passages: dict[str, Passage]
    batches: list[list[int]]
    """Of all epochs, in order, as places in `groups`."""
    model: ModelConfig
    train: TrainConfig
    seed: int
    runtime: Runtime
    sets: list[EvaluationSet]
    depth: int
    eval_batch: int
    query_texts: list[str]
    """Of each group, as the encoder reads it."""
    passage_texts: dict[str, str]
    flops: dict[str, list[float]]
    """side -> operations of each batch on its real tokens: `ours` with each unique passage once, `theirs` without."""
    tokens: list[int]
    """Of each batch, each unique passage once."""

    @property
    def rows(self) -> dict[str, list[str]]:
        """Columns of the other side's data set: anchor, positive and as many negatives as every group has."""
        columns = {"anchor": self.query_texts, "positive": [self.passage_texts[g.positives[0]] for g in self.groups]}
        for place in range(min(len(group.negatives) for group in self.groups)):
            columns[f"negative_{place + 1}"] = [self.passage_texts[g.negatives[place]] for g in self.groups]
        return columns

    def encoder(self, folder: Path) -> BiEncoder:
        """Return the encoder before any training, from the weights beside the material."""
        encoder = BiEncoder.load(folder / WEIGHTS_FOLDER, self.model)
        encoder.batch_size = self.eval_batch
        return encoder

    def prepared(self, encoder: BiEncoder, precision: str) -> PreparedTraining:
        """Return our training on the material in a precision."""
        return PreparedTraining(
            self.groups,
            self.passages,
            model=self.model,
            train=dataclasses.replace(self.train, precision=precision),
            seed=self.seed,
            template=lambda: encoder.template,
        )


def make(name: str, overrides: Sequence[str], folder: Path) -> Material:
    """Build the mix of a command line and write it into a folder, with its weights; raises UserError as a run does."""
    run = prepare(strict(load([*overrides, quoted("runtime.results", folder / "results")])))
    recipe, seed = run.config.recipe, run.config.seed
    mix = build_mix(run.source, recipe, seed)
    prepared = run.prepared(mix)
    steps, template, encoder = prepared.steps, prepared.template, run.untouched.encoder()
    with quiet_transformers():
        encoder.save(folder / WEIGHTS_FOLDER)
    estimate = FlopEstimate(encoder)
    batches = [batch for epoch in range(recipe.train.epochs) for batch in steps.plan(epoch)]
    own, theirs, tokens = [], [], []
    for batch in batches:
        groups = [steps.groups[place] for place in batch]
        queries = [steps.queries[group.query, group.instruction] for group in groups]
        unique = dict.fromkeys(doc_id for group in groups for doc_id in (*group.positives, *group.negatives))
        every = [doc_id for group in groups for doc_id in (*group.positives, *group.negatives)]
        lengths = _lengths(queries)
        own.append(estimate(lengths + _lengths(steps.passages[doc_id] for doc_id in unique)))
        theirs.append(estimate(lengths + _lengths(steps.passages[doc_id] for doc_id in every)))
        tokens.append(sum(lengths) + sum(_lengths(steps.passages[doc_id] for doc_id in unique)))
    made = Material(
        name=name,
        groups=list(steps.groups),
        passages=mix.passages,
        batches=batches,
        model=recipe.model,
        train=recipe.train,
        seed=seed,
        runtime=run.config.runtime,
        sets=[run.evaluation_set(name) for name in recipe.evaluation.sets],
        depth=recipe.evaluation.depth,
        eval_batch=recipe.evaluation.batch_size,
        query_texts=[template.query_text(group.query, group.instruction) for group in steps.groups],
        passage_texts={doc_id: template.passage_text(passage) for doc_id, passage in mix.passages.items()},
        flops={"ours": own, "theirs": theirs},
        tokens=tokens,
    )
    (folder / MATERIAL_FILE).write_bytes(pickle.dumps(made))
    return made


def _lengths(texts: Any) -> list[int]:
    return [len(text) for text in texts]


def read(folder: Path) -> Material:
    """Return the material of a folder that `make` wrote in this very benchmark."""
    made: Material = pickle.loads((folder / MATERIAL_FILE).read_bytes())
    return made


def unmasked(groups: Sequence[TrainingGroup], size: int) -> list[int]:
    """Return places of groups that share no query and no passage and know nothing of each other's passages.

    In a batch of them every passage is a candidate of every query, and none stands there twice: what a loss without
    masks computes too. The first that fit are taken, at most `size`.
    """
    chosen: list[int] = []
    queries: set[str] = set()
    passages: set[str] = set()
    answers: set[str] = set()
    for place, group in enumerate(groups):
        asked = {f"id {group.query_id}", f"text {group.query}"}
        listed = {*group.positives, *group.negatives}
        if len(group.positives) > 1 or asked & queries or listed & (passages | answers) or {*group.answers} & passages:
            continue
        chosen.append(place)
        queries |= asked
        passages |= listed
        answers |= {*group.answers}
        if len(chosen) == size:
            break
    return chosen
