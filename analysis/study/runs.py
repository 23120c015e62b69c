"""The runs of a study with all their stages: which manifest came from which, and the recipe that they add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.recipe.values import digest
from ablate.store.files import SCORES_FILE
from ablate.store.manifest import Manifest, is_deterministic

_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class ArmRun:
    """One run of an arm: the manifest of its scores and of what they were made from."""

    arm: str
    seed: int
    evaluation: Manifest
    train: Manifest | None
    """None for what was not trained here: the untouched backbone, a ranker without training, imported rankings."""
    mix: Manifest | None

    @property
    def stages(self) -> tuple[Manifest, ...]:
        """Every stage that there is, the first first."""
        return tuple(stage for stage in (self.mix, self.train, self.evaluation) if stage is not None)

    @property
    def declared(self) -> str:
        """Digest of the declaration that the scores were completed under, empty for none."""
        return self.evaluation.declared

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe without the seed: source, miner, factors, budget, model, train, evaluation."""
        if self.train is None:
            return {"system": _system(self.evaluation), "evaluation": self.evaluation.recipe.get("evaluation")}
        mix = self.mix.recipe if self.mix is not None else {}
        parts = {name: value for name, value in mix.items() if name not in ("stage", "seed", "model")}
        parts |= {name: self.train.recipe.get(name) for name in ("model", "train")}
        return {"system": "trained", **parts, "evaluation": self.evaluation.recipe.get("evaluation")}


def same_model_keys(evaluation: Manifest, train: Manifest | None) -> set[str]:
    """Return what two evaluations of one model share: the training, the content of its weights, or the scores."""
    keys = {f"scores {evaluation.content_sha256[SCORES_FILE]}"} if SCORES_FILE in evaluation.content_sha256 else set()
    if train is None:
        return keys
    weights = {sha256 for name, sha256 in train.content_sha256.items() if name.endswith(_WEIGHTS)}
    return {*keys, f"train {train.id}", *(f"weights {sha256}" for sha256 in weights)}


def documents_of(evaluation: Manifest) -> dict[str, str]:
    """Return data set -> digest of the documents that an evaluation ranked, of those that recorded it."""
    return dict(evaluation.counts.get("candidates") or {})


def source_of(mix: Manifest) -> str:
    """Return the digest of the source that a mix was drawn from."""
    return digest(mix.recipe.get("source"))


def _system(manifest: Manifest) -> Any:
    """Return what an arm without training is: its whole recipe but for the evaluation and what belongs to one seed."""
    of_seed = {"evaluation", "seed", "vocabulary"} | ({"content"} if "seed" in manifest.recipe else set())
    return {name: value for name, value in manifest.recipe.items() if name not in of_seed}


def by_arm(runs: Sequence[ArmRun]) -> dict[str, list[ArmRun]]:
    """Return arm -> its runs, by seed."""
    arms: dict[str, list[ArmRun]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    return arms


def deterministic_arms(runs: Sequence[ArmRun]) -> frozenset[str]:
    """Return the arms all of whose runs are without training randomness."""
    arms = by_arm(runs)
    return frozenset(arm for arm, arm_runs in arms.items() if all(is_deterministic(run.evaluation) for run in arm_runs))


def seed_varies(runs: Sequence[ArmRun]) -> dict[str, str]:
    """Return arm -> what changes with its seed, from how its scores were made."""
    return {arm: _varied(arm_runs[0]) for arm, arm_runs in by_arm(runs).items()}


def _varied(run: ArmRun) -> str:
    if is_deterministic(run.evaluation):
        return "nothing"
    trained = "rows and draws of the mix, their order, initialisation and dropout"
    others = {"ranker": "order of the documents", "untouched": "initialisation", "imported": "what its importer varied"}
    return others.get(run.evaluation.recipe.get("stage", ""), trained)


def seeds_of(runs: Sequence[ArmRun], leave_out: frozenset[str] = frozenset()) -> Mapping[str, tuple[int, ...]]:
    """Return arm -> its seeds, rising."""
    return {arm: tuple(run.seed for run in arm_runs) for arm, arm_runs in by_arm(runs).items() if arm not in leave_out}
