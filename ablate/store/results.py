"""The folder of results: stages found by id, locked while made, complete when their manifest is.

    <root>/mixes/<mix_id>/   <root>/runs/<train_id>/   <root>/evals/<eval_id>/   <root>/locks/

A stage writes its files into its folder and its `manifest.json` last, by rename: the manifest alone says that the stage
is complete, and it holds the digest of every file. A lock keeps two processes from making the same stage; it names its
owner, is refreshed by a heartbeat and is taken over when the owner is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ablate.recipe.identity import scoring_of, without_scoring
from ablate.recipe.values import digest, flatten
from ablate.records import UserError, check_results
from ablate.secrets import is_same_but_for_secrets, scrub_text
from ablate.store import provenance
from ablate.store.drafts import draft_of, sweep
from ablate.store.files import (
    CACHE,
    FOLDERS,
    LEDGER_FILE,
    LOCKS,
    MANIFEST_FILE,
    PROFILES,
    TRACKIO,
    TUNING,
    TUNING_FILE,
    VECTORS,
    WANDB,
    WORKLOAD_FILE,
    WRITTEN_INTO,
    disk_trouble,
    write_atomically,
)
from ablate.store.integrity import digest_of, fault_of, give_usual_modes, read_json
from ablate.store.lock import Lock
from ablate.store.manifest import Kind, Manifest, another_recipe, is_texts, read_manifest, write_manifest
from ablate.store.provenance import now
from ablate.store.workload import Workload
from ablate.timing import timed

_SWEPT: set[Path] = set()


class ResultStore:
    """Stages under one root folder; raises UserError for an empty name, which would mean the current folder."""

    def __init__(self, root: str | Path) -> None:
        check_results(str(root))
        self.root = Path(root).absolute()

    def open(self) -> None:
        """Make the root folder, and sweep away what killed processes left half-written, once in a process.

        Raises UserError when the folder cannot be written to.
        """
        probe = draft_of(self.root / "probe")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            if disk_trouble(error):
                raise
            raise UserError(
                f"runtime.results={str(self.root)!r} cannot be used as the folder of results ({error.strerror}); name "
                f"another one"
            ) from error
        if self.root not in _SWEPT:
            _SWEPT.add(self.root)
            sweep([self.root, *(folder for pattern in WRITTEN_INTO for folder in self.root.glob(pattern))])

    def folder(self, kind: Kind, stage_id: str) -> Path:
        """Return the folder of a stage, whether it exists or not."""
        return self.root / FOLDERS[kind] / stage_id

    def folders(self, kind: Kind) -> list[Path]:
        """Return the folders of all stages of a kind, complete or not, in order of their ids."""
        return sorted((self.root / FOLDERS[kind]).glob("*"))

    def find(self, kind: Kind, recipe: Mapping[str, Any]) -> Manifest | None:
        """Return the manifest of the stage with this full recipe, or None when it is not complete.

        Raises UserError when the folder of that id holds another recipe, or a file named by the manifest is gone or
        has another size; the content is looked at by `checked` and `whole`.
        """
        stage_id = digest(recipe)
        folder = self.folder(kind, stage_id)
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        if not is_same_but_for_secrets(manifest.recipe, json.loads(json.dumps(recipe))):
            raise another_recipe(folder)
        self._refuse_damage(manifest, manifest.content_sha256, with_content=False)
        return manifest

    def checked(self, manifest: Manifest, name: str) -> Path:
        """Return a file of a complete stage: every reader of results opens what this returns, and nothing else.

        The file has the size and digest that its manifest records, checked once per process. Raises UserError, with
        what to delete, for one that is missing, was changed, lies outside the folder, or is not among its files.
        """
        folder = self.folder(manifest.kind, manifest.id)
        if name not in manifest.content_sha256:
            raise UserError(f"{folder} has no file {name} that its manifest vouches for; {self.remedy(manifest)}")
        self._refuse_damage(manifest, [name])
        return folder / name

    def whole(self, manifest: Manifest, under: str = "") -> Path:
        """Return the folder of a complete stage, or one in it, all files of which were checked as `checked` does.

        In folders that hold recorded files nothing else may lie: it would be read with them.
        """
        top = self.folder(manifest.kind, manifest.id)
        folder = top / under
        names = [name for name in manifest.content_sha256 if not under or name.startswith(f"{under}/")]
        if not names:
            raise UserError(f"{folder} has no file that its manifest vouches for; {self.remedy(manifest)}")
        self._refuse_damage(manifest, names)
        for inner in sorted({(top / name).parent for name in names} - {top}):
            for path in sorted(inner.iterdir()):
                known = str(path.relative_to(top))
                is_known = known in manifest.content_sha256 or any(name.startswith(f"{known}/") for name in names)
                if not is_known and not path.name.startswith("."):
                    raise UserError(f"{path} is not among the files that the manifest of {top} names; move it away")
        return folder

    def ledger(self, manifest: Manifest) -> Path | None:
        """Return the ledger of a complete training, None where it is gone.

        No manifest vouches for it: whoever reads it compares it with the counts of the manifest.
        """
        path = self.folder(manifest.kind, manifest.id) / LEDGER_FILE
        return path if path.is_file() else None

    def remedy(self, manifest: Manifest) -> str:
        """Return what to do about a damaged stage, as the end of a message."""
        names = ", ".join(f"{label} seed {manifest.seed}" for label in manifest.labels[:3])
        folder = self.folder(manifest.kind, manifest.id)
        return f"delete {folder} and issue the command that made it again ({names})"

    def fault(self, manifest: Manifest, name: str, *, with_content: bool = True) -> str:
        """Return what is wrong with a file of a stage, as words that follow its name, or nothing."""
        folder = self.folder(manifest.kind, manifest.id)
        size = manifest.content_bytes.get(name)
        return fault_of(folder, name, manifest.content_sha256[name], size, with_content=with_content)

    def _refuse_damage(self, manifest: Manifest, names: Iterable[str], *, with_content: bool = True) -> None:
        for name in names:
            words = self.fault(manifest, name, with_content=with_content)
            if words:
                place = self.folder(manifest.kind, manifest.id) / name
                raise UserError(f"{place} {words}; {self.remedy(manifest)}")

    @contextlib.contextmanager
    def making(self, kind: Kind, recipe: Mapping[str, Any]) -> Iterator[Path | None]:
        """Lock a stage and yield its folder to write into, or None when it is, or meanwhile became, complete.

        Waits while another process makes the same stage.
        """
        if self.find(kind, recipe) is not None:
            yield None
            return
        stage_id = digest(recipe)
        with self._stage_lock(kind, stage_id):
            if self.find(kind, recipe) is not None:
                yield None
                return
            folder = self.folder(kind, stage_id)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                yield folder
            except BaseException:
                with contextlib.suppress(OSError):  # what is in it is kept: the next attempt goes on from there
                    folder.rmdir()
                raise

    def is_made_elsewhere(self, kind: Kind, recipe: Mapping[str, Any]) -> bool:
        """Return whether a living process makes a stage at this moment, so that `making` would wait for it."""
        return self._stage_lock(kind, digest(recipe)).is_held()

    def _stage_lock(self, kind: Kind, stage_id: str) -> Lock:
        return self.lock(f"{kind}-{stage_id}")

    @timed("manifest")
    def complete(
        self,
        kind: Kind,
        recipe: Mapping[str, Any],
        *,
        files: tuple[str, ...],
        parents: tuple[str, ...],
        seed: int,
        label: str,
        counts: Mapping[str, Any],
        hardware: Mapping[str, Any],
        cost: Mapping[str, float],
        started: str,
        declared: str = "",
    ) -> Manifest:
        """Write the manifest of a finished stage, last and by rename, with size and digest of each of its files.

        Secrets stay out of it, and the id is that of the recipe with them. Returns the manifest as it was written.
        """
        stage_id = digest(recipe)
        folder = self.folder(kind, stage_id)
        give_usual_modes([folder / name for name in files])
        for name in files:  # on the disk before the manifest that vouches for them
            with open(folder / name, "rb") as file:
                os.fsync(file.fileno())
        manifest = Manifest(
            kind=kind,
            id=stage_id,
            parents=parents,
            recipe=dict(recipe),
            seed=seed,
            labels=(label,),
            content_sha256={name: digest_of(folder / name) for name in files},
            content_bytes={name: (folder / name).stat().st_size for name in files},
            counts=dict(counts),
            git=provenance.git_state(),
            packages=provenance.package_versions(),
            hardware={**provenance.machine(), **hardware},
            cost=dict(cost),
            started=started,
            finished=now(),
            declared=declared,
        )
        return write_manifest(folder, manifest)

    def add_label(self, kind: Kind, stage_id: str, label: str, datasets: Mapping[str, str] | None = None) -> None:
        """Record one more name under which a complete stage was asked for, and what its data sets are called there.

        `datasets`: data set as it is recorded -> its name, of those that have another one. Where nothing can be
        written, the stage is still there to be read: then it is only said.
        """
        folder, label, names = self.folder(kind, stage_id), scrub_text(label), dict(datasets or {})

        def lacks(manifest: Manifest | None) -> bool:
            return manifest is not None and (label not in manifest.labels or manifest.datasets.get(label, {}) != names)

        if not lacks(read_manifest(folder)):
            return
        with self.tolerating_no_space(f"{folder} does not get the name {label}"):
            with Lock(self.root / LOCKS / f"label-{stage_id}.json"):
                manifest = read_manifest(folder)
                if manifest is not None and lacks(manifest):
                    labels = tuple(dict.fromkeys((*manifest.labels, label)))
                    known = {name: aliases for name, aliases in manifest.datasets.items() if name != label}
                    known |= {label: names} if names else {}
                    write_manifest(folder, dataclasses.replace(manifest, labels=labels, datasets=known))

    @contextlib.contextmanager
    def tolerating_no_space(self, lost: str) -> Iterator[None]:
        """Say on standard error what is `lost` when a disk is full or read-only, for what no result depends on."""
        try:
            yield
        except OSError as error:
            if not disk_trouble(error) and error.errno not in (errno.EACCES, errno.EPERM):
                raise
            print(f"{lost}: {disk_trouble(error) or error.strerror}", file=sys.stderr)

    def manifests(self, kind: Kind) -> Iterator[Manifest]:
        """Yield the manifests of all complete stages of a kind, by label and seed: an order that no hash decides."""
        manifests = (read_manifest(path.parent) for path in (self.root / FOLDERS[kind]).glob(f"*/{MANIFEST_FILE}"))
        yield from sorted(
            (manifest for manifest in manifests if manifest is not None),
            key=lambda manifest: (manifest.labels, manifest.seed, manifest.id),
        )

    def resolve(self, kind: Kind, text: str) -> Manifest:
        """Return the complete stage that a person means: an id, the beginning of one, or `study/arm:seed`.

        `study/arm` alone will do where it has one seed. Raises UserError when nothing or more than one thing is meant,
        with a list, and when the stage that is meant is not complete.
        """
        label, colon, seed = text.rpartition(":") if "/" in text and ":" in text else (text, "", "")
        matches, known = list[Manifest](), list[Manifest](self.manifests(kind))
        if "/" in text:
            matches = [m for m in known if label in m.labels and seed in ("", str(m.seed))]
        elif text:
            matches = [m for m in known if m.id.startswith(text)]
        if len(matches) == 1:
            return matches[0]
        folder = self.root / FOLDERS[kind]
        if matches:
            raise UserError(
                f"{text!r} means {len(matches)} of kind {kind} under {folder}: {_listed(matches)}; say which"
                f"{self._how_they_differ(matches)}"
            )
        if text and "/" not in text:
            started = sorted(path.name for path in folder.glob("*") if path.name.startswith(text))
            if started:
                raise UserError(
                    f"{folder / started[0]} is not complete (it has no manifest.json); issue the command that made it "
                    f"again, it goes on where it stopped"
                )
        named = [m for m in known if colon and label in m.labels]
        raise UserError(
            f"no {kind} {text!r} under {folder}; give an id, the beginning of one, or study/arm:seed; there: "
            f"{_listed(named or known) or 'none'}"
        )

    def full_recipe(self, manifest: Manifest) -> dict[str, Any]:
        """Return the recipe of a stage with those of its parents in the place of their ids, where they are there."""
        recipe = dict(manifest.recipe)
        for kind in ("mix", "train"):
            stage_id = recipe.get(kind)
            parent = read_manifest(self.folder(kind, stage_id)) if isinstance(stage_id, str) else None
            if parent is not None:
                recipe[kind] = self.full_recipe(parent)
        return recipe

    def _how_they_differ(self, manifests: list[Manifest], limit: int = 3) -> str:
        """Return in which keys some stages differ, as the end of a sentence that names the command that shows all."""
        recipes = [flatten(self.full_recipe(manifest)) for manifest in manifests]
        keys = dict.fromkeys(key for recipe in recipes for key in recipe)
        unequal = [key for key in keys if any(recipe.get(key) != recipes[0].get(key) for recipe in recipes)]
        values = {key: ", ".join(str(recipe.get(key)) for recipe in recipes[:4]) for key in unequal[:limit]}
        shown = ", ".join(f"{key} ({text})" for key, text in values.items())
        more = f" and {len(unequal) - limit} more keys" if len(unequal) > limit else ""
        words = f"; they differ in {shown}{more}" if unequal else ""
        return f"{words}: python -m ablate.runs diff {manifests[0].id} {manifests[-1].id}"

    def vectors(self, train_id: str, corpus_digest: str) -> Path:
        """Return where the vectors of a corpus under a trained model are kept between searches; free to be deleted."""
        return self.root / VECTORS / f"{train_id}-{corpus_digest}.npz"

    def profile(self, eval_id: str) -> Path:
        """Return where the profile of a run with this evaluation lies; free to be deleted."""
        return self.root / PROFILES / eval_id

    def by_arm(self, kind: Kind, study: str) -> dict[tuple[str, int], Manifest]:
        """Return the complete stages of a kind in a study by arm and seed; a stage with two labels comes twice.

        Of evaluations of an arm that differ in the version of their scoring alone the newest version counts. Raises
        UserError when there is none, naming the studies that there are, and when two stages of one arm have the same
        seed, because a name then stands for two recipes.
        """
        labels = [(label, manifest) for manifest in self.manifests(kind) for label in manifest.labels]
        prefix = f"{scrub_text(study)}/"
        own = [(label.removeprefix(prefix), manifest) for label, manifest in labels if label.startswith(prefix)]
        newest: dict[tuple[str, str], int] = {}
        for arm, manifest in own:
            key = (arm, digest(without_scoring(manifest.recipe)))
            newest[key] = max(newest.get(key, 0), scoring_of(manifest.recipe))
        stages: dict[tuple[str, int], Manifest] = {}
        for arm, manifest in own:
            if scoring_of(manifest.recipe) < newest[arm, digest(without_scoring(manifest.recipe))]:
                continue
            if stages.setdefault((arm, manifest.seed), manifest).id != manifest.id:
                differ = self._how_they_differ([stages[arm, manifest.seed], manifest])
                raise UserError(
                    f"the arm {arm!r} of study {study!r} has two of kind {kind} with seed {manifest.seed} "
                    f"({stages[arm, manifest.seed].id} and {manifest.id}): two recipes share a name; give one of them "
                    f"another runtime.label or runtime.study{differ}"
                )
        if not stages:
            known = ", ".join(sorted({label.partition("/")[0] for label, _ in labels})) or "none"
            raise UserError(f"no {kind} of a study {study!r} under {self.root}; studies there: {known}")
        return stages

    def arms(self, kind: Kind, study: str) -> list[str]:
        """Return the arms of a study that have a complete stage of a kind, imported ones too."""
        labels = (label.partition("/") for manifest in self.manifests(kind) for label in manifest.labels)
        return sorted({arm for name, _, arm in labels if name == study})

    @property
    def cache(self) -> Path:
        """Where other packages keep what they fetched, and token ids of texts; free to be deleted."""
        return self.root / CACHE

    @property
    def unsent(self) -> Path:
        """Where W&B keeps what it has not sent."""
        return self.root / WANDB

    @property
    def trackio(self) -> Path:
        """Where trackio keeps its projects."""
        return self.root / TRACKIO

    def tuning_records(self) -> list[Path]:
        """Return the records of all searches for hyper-parameters, by the names of their studies."""
        return sorted(self.root.glob(f"{TUNING}/*/{TUNING_FILE}"))

    def lock(self, name: str) -> Lock:
        """Return a lock of this store by its name, not yet taken."""
        return Lock(self.root / LOCKS / f"{name}.json")

    def damaged(self, manifest: Manifest) -> list[str]:
        """Return the files of a stage that are missing or whose size or digest is not the recorded one."""
        return [name for name in manifest.content_sha256 if self.fault(manifest, name)]

    def manifest_file(self, manifest: Manifest) -> Path:
        """Return the file that holds the manifest of a complete stage."""
        return self.folder(manifest.kind, manifest.id) / MANIFEST_FILE

    def unlisted(self, manifest: Manifest) -> list[str]:
        """Return the files in the folder of a stage that its manifest does not name, but for hidden ones."""
        folder = self.folder(manifest.kind, manifest.id)
        names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
        visible = (str(name) for name in names if not any(part.startswith(".") for part in name.parts))
        return sorted(name for name in visible if name != MANIFEST_FILE and name not in manifest.content_sha256)

    def workload(self, train_id: str) -> Workload | None:
        """Return the totals of a training, counted before it starts, or None where they are not there.

        Raises UserError for a file that cannot be read, was changed, or belongs to another training.
        """
        path = self.folder("train", train_id) / WORKLOAD_FILE
        if not os.path.lexists(path):
            return None
        remedy = f"delete {path} and issue the run's command again"
        values = read_json(path, remedy)
        sums = {"train", "digest"}  # of before there were any: mix, labels and counts alone
        if (
            not isinstance(values, dict)
            or {*values} - sums != {"mix", "labels", "counts"}
            or not (
                isinstance(values["mix"], str)
                and is_texts(values["labels"])
                and isinstance(values["counts"], dict)
                and all(type(count) is int for count in values["counts"].values())
            )
        ):
            raise UserError(f"{path} is not a record of a training's totals; {remedy}")
        workload = Workload(train_id, values["mix"], tuple(values["labels"]), values["counts"])
        if sums & {*values} and (values.get("train"), values.get("digest")) != (train_id, digest(workload)):
            raise UserError(f"{path} was changed, or belongs to another training than {train_id}; {remedy}")
        return workload

    def keep_workload(self, workload: Workload) -> None:
        """Write the totals of a training under the names that it was asked for by."""
        folder = self.folder("train", workload.train)
        folder.mkdir(parents=True, exist_ok=True)
        values = dataclasses.asdict(workload)
        write_atomically(folder / WORKLOAD_FILE, json.dumps({**values, "digest": digest(workload)}))

    def workloads(self) -> Iterator[Workload]:
        """Yield the totals of all trainings, finished or only counted, in order of their ids."""
        for path in sorted((self.root / FOLDERS["train"]).glob(f"*/{WORKLOAD_FILE}")):
            workload = self.workload(path.parent.name)
            if workload is not None:
                yield workload


def stage_label(study: str, arm: str) -> str:
    """Return the name under which a stage is recorded, `study/arm`, without what looks like a secret."""
    return scrub_text(f"{study}/{arm}")


def _listed(manifests: list[Manifest], limit: int = 12) -> str:
    """Return ids with the names that they go by, at most `limit` of them and how many more there are."""
    lines = [f"{m.id} ({', '.join(f'{label}:{m.seed}' for label in m.labels)})" for m in manifests[:limit]]
    return ", ".join(lines) + (f" and {len(manifests) - limit} more" if len(manifests) > limit else "")
