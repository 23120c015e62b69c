"""A finished run read back from its files: its recipe, its mix, its scores, its model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.recipe.build import build
from ablate.recipe.identity import scoring_of, untouched_of, without_scoring
from ablate.recipe.schema import ModelConfig, Recipe
from ablate.recipe.values import plain
from ablate.records import UserError
from ablate.secrets import is_scrubbed
from ablate.store.files import CONFIG_FILE, MODEL_FOLDER
from ablate.store.integrity import read_json, reading
from ablate.store.manifest import Manifest, read_manifest
from ablate.store.results import ResultStore

if TYPE_CHECKING:
    from ablate.evaluation.summary import Evaluation
    from ablate.model.encoder import BiEncoder


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

    @property
    def model_folder(self) -> Path:
        """Where the files of the trained model lie, each of them checked and nothing else among them."""
        return self.store.whole(self.manifest, MODEL_FOLDER)

    def loadable(self, *, trust_remote_code: bool = False) -> ModelConfig:
        """Return the settings that the model may be loaded by, before anything is loaded.

        Code that comes with a backbone is run only if the caller trusts it: what a folder of results says is not
        enough. Raises UserError where the model needs it, and where its settings were not kept whole.
        """
        model = self.recipe.model
        if model.trust_remote_code and not trust_remote_code:
            raise UserError(
                f"the model of run {self.manifest.id} is loaded by Python code that lies in {self.model_folder} "
                f"(model.trust_remote_code in its recipe); read that code, and add --trust-remote-code to run it"
            )
        if is_scrubbed(plain(dataclasses.replace(model, path=None))):
            raise UserError(
                f"the settings of the model of run {self.manifest.id} held what looks like a secret, which was not "
                f"kept (its config.json, key model); name the values otherwise and train again to use it elsewhere"
            )
        return model

    def encoder(self, *, trust_remote_code: bool = False) -> BiEncoder:
        """Load the trained model, on the CPU, in fp32, ready for encoding; LoRA is merged. Raises as `loadable`."""
        model = self.loadable(trust_remote_code=trust_remote_code)
        from ablate.model.encoder import BiEncoder

        return BiEncoder.load(self.model_folder, model, batch_size=self.recipe.evaluation.batch_size)

    def evaluations(self) -> list[tuple[Manifest, Evaluation]]:
        """Return the complete evaluations of this model, without rankings; raises UserError for a damaged one."""
        manifests = [m for m in self.store.manifests("evaluation") if m.parents == (self.manifest.id,)]
        return [(manifest, self._read(manifest)) for manifest in manifests]

    def untouched(self, evaluation: Manifest) -> Evaluation | None:
        """Return the scores of the backbone before training on the same test beds, or None when there are none.

        They are those that were scored by the same version as the evaluation.
        """
        wanted = untouched_of(
            self.manifest.recipe["model"],
            evaluation.recipe["evaluation"],
            self.mix.recipe["source"],
            drawn_by=self.manifest.seed if self.recipe.model.is_drawn else None,
        )
        for manifest in self.store.manifests("evaluation"):
            same_version = scoring_of(manifest.recipe) == scoring_of(evaluation.recipe)
            if same_version and without_scoring(manifest.recipe) == without_scoring(wanted):
                return self._read(manifest)
        return None

    def other_seeds(self) -> dict[int, FinishedRun]:
        """Return the other complete runs of the same recipe that share a study and arm with this one, by seed."""
        runs: dict[int, FinishedRun] = {}
        for manifest in self.store.manifests("train"):
            if manifest.seed != self.manifest.seed and set(manifest.labels) & set(self.manifest.labels):
                run = _open(self.store, manifest)
                if run.recipe == self.recipe:
                    runs[manifest.seed] = run
        return dict(sorted(runs.items()))

    def _read(self, manifest: Manifest) -> Evaluation:
        from ablate.evaluation.storage import read_evaluation

        return read_evaluation(self.store.whole(manifest))


def find_run(store: ResultStore, text: str) -> FinishedRun:
    """Return the run that a train id, the beginning of one, or `study/arm:seed` means.

    Raises UserError as `ResultStore.resolve` does, and for a run with files that are missing or were changed.
    """
    if not store.root.is_dir():
        raise UserError(f"--results {str(store.root)!r} is no folder; name the one that runs were written to")
    return _open(store, store.resolve("train", text))


def _open(store: ResultStore, manifest: Manifest) -> FinishedRun:
    store.whole(manifest)
    if len(manifest.parents) != 1:
        raise UserError(f"run {manifest.id} names {len(manifest.parents)} mixes as its parents, which must be one")
    (mix_id,) = manifest.parents
    mix = read_manifest(store.folder("mix", mix_id))
    if mix is None:
        raise UserError(
            f"run {manifest.id} was trained on the mix {mix_id}, which is not complete under {store.root}; issue the "
            f"run's command again to make it"
        )
    path = store.checked(manifest, CONFIG_FILE)
    values = read_json(path, store.remedy(manifest))
    with reading(path, store.remedy(manifest)):
        try:
            return FinishedRun(store, manifest, mix, build(Recipe, values["recipe"]))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain values, ready for JSON."""
    values: dict[str, Any] = plain(recipe)
    return values
