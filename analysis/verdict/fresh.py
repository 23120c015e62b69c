"""What is new in the evidence for a claim: what of it was not in this folder of results before its declaration."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ablate.recipe.values import digest
from ablate.store.manifest import Manifest
from ablate.study.declaration import Claim
from analysis.study.evidence import Evidence


class Fresh(NamedTuple):
    """Seeds, evaluation sets and sources of the runs of a claim that are new under its declaration."""

    seeds: tuple[int, ...]
    sets: tuple[str, ...]
    sources: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"seeds {', '.join(map(str, self.seeds))}"] if self.seeds else []
        parts += [f"queries of {', '.join(self.sets)}"] if self.sets else []
        parts += [f"source {', '.join(self.sources)}"] if self.sources else []
        return ", ".join(parts) or "nothing"


def fresh(evidence: Evidence, claim: Claim, arms: Collection[str]) -> Fresh:
    """Return what is new in the runs of some arms under the declarations that have a claim.

    Seeds: all trainings with them stand under one. Sets and sources: nothing else in the folder, of whatever study,
    was measured on the same documents, or trained from the same source, before.
    """
    holding = {declaration.digest for declaration in evidence.declarations if claim in declaration.study.claims}
    runs = [run for run in evidence.runs if run.arm in arms and run.train is not None]
    by_seed: dict[int, set[bool]] = {}
    for run in runs:
        assert run.train is not None
        by_seed.setdefault(run.seed, set()).add(run.train.declared in holding)
    others = [manifest for manifest in evidence.store.manifests("evaluation") if manifest.declared not in holding]
    seen = {documents for other in others for documents in _candidates(other).values()}
    measured = [run.evaluation for run in runs if run.evaluation.declared in holding]
    sets = {name for stage in measured for name, documents in _candidates(stage).items() if documents not in seen}
    mixes = [m for m in evidence.store.manifests("mix") if m.declared not in holding]
    used = {_source(mix) for mix in mixes}
    sources = {_name(run.mix): _source(run.mix) not in used for run in runs if run.mix is not None}
    return Fresh(
        tuple(seed for seed, under in sorted(by_seed.items()) if under == {True}),
        tuple(sorted(sets)),
        tuple(name for name, is_new in sorted(sources.items()) if is_new),
    )


def _candidates(evaluation: Manifest) -> dict[str, str]:
    return dict(evaluation.counts.get("candidates") or {})


def _source(mix: Manifest) -> str:
    return digest(mix.recipe.get("source"))


def _name(mix: Manifest) -> str:
    source = mix.recipe.get("source") or {}
    return str(source.get("kind", "of the mix"))
