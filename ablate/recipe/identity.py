"""The id chain: what a stage is, is the digest of the values and contents that it is made from.

mix_id   = H(source with its revision, active factors, budget, seed, version of what builds mixes)
train_id = H(mix_id, model with its revision, train, seed)
eval_id  = H(train_id, evaluation, scoring), or H(ranker, evaluation, scoring) where nothing is trained
arm_id   = H(recipe)                                                    no seed: runs of one arm share it
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablate.recipe.factors import active
from ablate.recipe.schema import OF_ROWS, Label, Location, RankerName, Recipe
from ablate.recipe.values import digest, plain, type_hints, without_defaults

SCORING = 2
"""Version of what is scored of a ranking, part of every eval_id: raised whenever evaluations get a measure more.

1 (not written down): no instruction gain; 2: with it.
"""

MIX_VERSION = 2
"""Raised whenever the code would build another mix of the same source, factors, budget and seed.

2: rows are taken query by query in rounds; before, all rows of a query stood together, and ids had no version.
"""


@dataclass(frozen=True)
class Revisions:
    """What the places of a recipe hold: content revisions that stand in ids for paths."""

    source: str
    model: str
    miner: str = ""
    """Of the miner with what it ranks by; empty without one."""
    audit: str = ""
    """Of the judgments that rows are chosen by; empty without some."""
    evaluation: str = ""
    """Of the source of the evaluation sets; empty when it is the one that is trained on."""
    ranker: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Parameters of a ranker that is no model."""
    measures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Measures that the recipe adds -> distribution and version of what brings them; empty for ours."""


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
    evaluation = without_defaults(recipe.evaluation)
    if recipe.evaluation.source is not None:
        evaluation["source"] = _by_revision(recipe.evaluation.source, revisions.evaluation)
    if recipe.evaluation.measures:
        evaluation["measures"] = {name: revisions.measures.get(name, "") for name in recipe.evaluation.measures}
    mix = mix_of(recipe, source, model, seed, revisions)
    trained_by = without_defaults(recipe.train)
    train = {"stage": "train", "mix": digest(mix), "model": model, "train": trained_by, "seed": seed}
    untouched = untouched_of(model, evaluation, source, drawn_by=seed if recipe.model.is_drawn else None)
    scores: dict[str, Any]
    if recipe.ranker == "trained":
        scores = {"stage": "evaluation", "train": digest(train), "evaluation": evaluation, "scoring": SCORING}
        parts = {"source": source, "miner": recipe.miner and without_defaults(recipe.miner)}
        parts |= {name: mix[name] for name in ("version", "factors", "budget", "audit") if name in mix}
        arm = {"stage": "arm", **parts, "model": model, "train": trained_by, "evaluation": evaluation}
    else:
        scores = untouched if recipe.ranker == "untouched" else ranker_of(recipe.ranker, evaluation, source, revisions)
        if recipe.ranker == "random":
            scores = {**scores, "seed": seed}
        arm = {**without_scoring(scores), "stage": "arm", "seed": None, "ranker": recipe.ranker}
        if recipe.stemmer is not None:
            arm["stemmer"] = recipe.stemmer
    return Identity(mix=mix, train=train, evaluation=scores, untouched=untouched, arm=arm)


def mix_of(
    recipe: Recipe, source: Mapping[str, Any], model: Mapping[str, Any], seed: int, revisions: Revisions
) -> dict[str, Any]:
    """Return the identity of a mix, from the identities of its source and of the model that may count its tokens."""
    mix = {
        "stage": "mix",
        "version": MIX_VERSION,
        "source": source,
        "factors": active(recipe.factors),
        "budget": plain(recipe.budget),
        "seed": seed,
    }
    if recipe.audit.take != "all":
        mix["audit"] = _by_revision(recipe.audit, revisions.audit)
    if recipe.miner is not None:
        mix["miner"] = {**without_defaults(recipe.miner), "revision": revisions.miner}
    if recipe.budget.unit == "tokens":  # counted by the model's tokenizer and template
        mix["model"] = model
    return mix


def untouched_of(
    model: Mapping[str, Any], evaluation: Mapping[str, Any], source: Mapping[str, Any], *, drawn_by: int | None
) -> dict[str, Any]:
    """Return the identity of the scores of a backbone before training, from those of its parts.

    `drawn_by`: the seed of a backbone whose weights are drawn, None for one that is loaded. The vocabulary of a tiny
    model is that of the training source; a static table has a tokenizer of its own.
    """
    beds = _test_beds(evaluation, source)
    untouched = {"stage": "untouched", "model": model, "evaluation": beds, "scoring": SCORING}
    if drawn_by is None:
        return untouched
    vocabulary = {} if model.get("static") else {"vocabulary": source}
    return {**untouched, "seed": drawn_by, **vocabulary}


def ranker_of(
    ranker: RankerName, evaluation: Mapping[str, Any], source: Mapping[str, Any], revisions: Revisions
) -> dict[str, Any]:
    """Return the identity of the scores of a ranker that is no model: it has no batches, and only a coin has a seed."""
    beds = {name: value for name, value in _test_beds(evaluation, source).items() if name != "batch_size"}
    kind = {"kind": ranker, **revisions.ranker}
    return {"stage": "ranker", "ranker": kind, "evaluation": beds, "scoring": SCORING}


def scoring_of(recipe: Mapping[str, Any]) -> int:
    """Return by which version an evaluation was scored, from its identity."""
    return int(recipe.get("scoring", 1))


def without_scoring(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of an evaluation without its version: what was ranked, and by what it is judged."""
    return {name: value for name, value in recipe.items() if name != "scoring"}


def _test_beds(evaluation: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is measured on and how, with its source named even where it is the one that is trained on.

    Keys that decide training rows alone are no part of it: without training, a corpus is measured on once.
    """
    return {**evaluation, "source": _without_rows(evaluation["source"] or source)}


def _without_rows(source: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if name not in OF_ROWS}


def _by_revision(part: Any, revision: str) -> dict[str, Any]:
    """Return a part of the recipe without labels and places, and with the revision of the content they point to."""
    hints = type_hints(type(part))
    left_out = {name for name, hint in hints.items() if {Location, Label} & {hint, *typing.get_args(hint)}}
    values = without_defaults(part)
    return {name: value for name, value in values.items() if name not in left_out} | {"revision": revision}
