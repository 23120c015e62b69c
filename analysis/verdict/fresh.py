"""What is new in the evidence for a claim: what of it was not in this folder of results before its declaration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from ablate.store.manifest import Manifest
from ablate.study.declaration import Claim
from analysis.study.evidence import Evidence
from analysis.study.runs import documents_of, source_of


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
    holding = evidence.declared_in(claim)
    runs = [run for run in evidence.runs_of(arms) if run.train is not None]
    by_seed: dict[int, set[bool]] = {}
    for run in runs:
        assert run.train is not None
        by_seed.setdefault(run.seed, set()).add(run.train.declared in holding)
    seen = _elsewhere(evidence.documents_under, holding)
    measured = [run.evaluation for run in runs if run.evaluation.declared in holding]
    sets = {name for stage in measured for name, documents in documents_of(stage).items() if documents not in seen}
    used = _elsewhere(evidence.sources_under, holding)
    sources = {_name(run.mix): source_of(run.mix) not in used for run in runs if run.mix is not None}
    return Fresh(
        tuple(seed for seed, under in sorted(by_seed.items()) if under == {True}),
        tuple(sorted(sets)),
        tuple(name for name, is_new in sorted(sources.items()) if is_new),
    )


def _elsewhere(found_under: Mapping[str, set[str]], holding: Collection[str]) -> set[str]:
    """Return what was found under other declarations than these, or under none."""
    return {found for declared, those in found_under.items() if declared not in holding for found in those}


def _name(mix: Manifest) -> str:
    source = mix.recipe.get("source") or {}
    return str(source.get("kind", "of the mix"))
