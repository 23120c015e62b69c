"""A finished run read back from its files: its recipe, its mix, its scores, its model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablate.config import Recipe, build, plain
from ablate.records import UserError
from ablate.results import Manifest, ResultStore, read_manifest

if TYPE_CHECKING:
    from ablate.evaluation.protocol import Evaluation
    from ablate.model.encoder import BiEncoder

MODEL_FOLDER = "model"


@dataclass(frozen=True)
class FinishedRun:
    """A complete and undamaged training with what it was made from."""

    store: ResultStore
    manifest: Manifest
    mix: Manifest
    recipe: Recipe

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arm that this run is, without their studies."""
        return tuple(dict.fromkeys(label.partition("/")[2] for label in self.manifest.labels))

    def encoder(self) -> BiEncoder:
        """Load the trained model, on the CPU, in fp32, ready for encoding; LoRA is merged."""
        from ablate.model.encoder import BiEncoder

        folder = self.store.folder("train", self.manifest.id) / MODEL_FOLDER
        return BiEncoder.load(folder, self.recipe.model, batch_size=self.recipe.evaluation.batch_size)

    def evaluations(self) -> list[tuple[Manifest, Evaluation]]:
        """Return the complete evaluations of this model, without rankings; raises UserError for a damaged one."""
        found = [m for m in self.store.manifests("evaluation") if m.parents == (self.manifest.id,)]
        return [(manifest, self._read(manifest)) for manifest in found]

    def untouched(self, evaluation: Manifest) -> Evaluation | None:
        """Return the scores of the backbone before training on the same test beds, or None when there are none."""
        values = evaluation.recipe["evaluation"]
        source = self.mix.recipe["source"]
        wanted: dict[str, Any] = {
            "model": self.manifest.recipe["model"],
            "evaluation": {**values, "source": values["source"] or source},
        }
        if self.recipe.model.tiny is not None:
            wanted |= {"seed": self.manifest.seed, "vocabulary": source}
        for manifest in self.store.manifests("evaluation"):
            if manifest.recipe == {"stage": "untouched", **wanted}:
                return self._read(manifest)
        return None

    def other_seeds(self) -> dict[int, FinishedRun]:
        """Return the other complete runs of the same recipe that share a study and arm with this one, by seed."""
        found: dict[int, FinishedRun] = {}
        for manifest in self.store.manifests("train"):
            if manifest.seed != self.manifest.seed and set(manifest.labels) & set(self.manifest.labels):
                run = _open(self.store, manifest)
                if run.recipe == self.recipe:
                    found[manifest.seed] = run
        return dict(sorted(found.items()))

    def _read(self, manifest: Manifest) -> Evaluation:
        from ablate.evaluation.storage import read_evaluation

        refuse_damage(self.store, manifest)
        return read_evaluation(self.store.folder("evaluation", manifest.id))


def find_run(store: ResultStore, text: str) -> FinishedRun:
    """Return the run that a train id, the beginning of one, or `study/arm:seed` means.

    Raises UserError as `ResultStore.resolve` does, and for a run with files that are missing or were changed.
    """
    if not store.root.is_dir():
        raise UserError(f"--results {str(store.root)!r} is no folder; name the one that runs were written to")
    return _open(store, store.resolve("train", text))


def _open(store: ResultStore, manifest: Manifest) -> FinishedRun:
    refuse_damage(store, manifest)
    (mix_id,) = manifest.parents
    mix = read_manifest(store.folder("mix", mix_id))
    if mix is None:
        raise UserError(
            f"run {manifest.id} was trained on the mix {mix_id}, which is not complete under {store.root}; issue the "
            f"run's command again to make it"
        )
    path = store.folder("train", manifest.id) / "config.json"
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return FinishedRun(store, manifest, mix, build(Recipe, values["recipe"]))


def refuse_damage(store: ResultStore, manifest: Manifest) -> None:
    """Raise UserError naming the files of a stage that are missing or are not what its manifest vouches for."""
    damaged = store.damaged(manifest)
    if damaged:
        folder = store.folder(manifest.kind, manifest.id)
        raise UserError(
            f"{folder} is damaged ({', '.join(damaged[:4])}: missing or not what the manifest says); delete the folder "
            f"and issue the run's command again"
        )


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain values, ready for JSON."""
    values: dict[str, Any] = plain(recipe)
    return values
