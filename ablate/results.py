"""The only module that knows where results lie: stages found by id, locked while made, complete when their manifest is.

    <root>/mixes/<mix_id>/   <root>/runs/<train_id>/   <root>/evals/<eval_id>/   <root>/locks/
    <root>/studies/<study>/<digest>.json   <root>/failures/<study>/<label>-s<seed>.txt

A stage writes its files into its folder and its `manifest.json` last, by rename: the manifest alone says that the stage
is complete, and it holds the digest of every file. A lock keeps two processes from making the same stage; it names its
owner, is refreshed by a heartbeat and is taken over when the owner is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablate.config import digest
from ablate.drafts import draft_of, sweep
from ablate.lock import Lock
from ablate.records import UserError
from ablate.study import Study, declaration

Kind = Literal["mix", "train", "evaluation"]
FOLDERS: dict[str, str] = {"mix": "mixes", "train": "runs", "evaluation": "evals"}

WORKLOAD_FILE = "workload.json"
"""In the folder of a training: its totals, counted before it starts."""

_WRITTEN_INTO = ("locks", "vectors", *(f"{name}/*" for name in FOLDERS.values()), "evals/*/embeddings",
                 "studies/*", "failures/*", "tuning/*")  # fmt: skip
"""Folders of a store in which drafts may be left over."""
_SWEPT: set[Path] = set()

PACKAGES = (
    "torch", "lightning", "transformers", "faiss-cpu", "bm25s", "numpy", "scipy", "pytrec-eval-terrier", "hydra-core",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record that a stage is complete: from what it was made, what it holds, where and at what cost."""

    kind: Kind
    id: str
    parents: tuple[str, ...]
    recipe: dict[str, Any]
    """The full value whose digest is the id."""
    seed: int
    labels: tuple[str, ...]
    """Names under which this stage was asked for."""
    content_sha256: dict[str, str]
    """File name in the folder -> SHA-256."""
    counts: dict[str, Any]
    git: dict[str, Any]
    packages: dict[str, str]
    hardware: dict[str, Any]
    cost: dict[str, float]
    started: str
    finished: str
    declared: str = ""
    """Digest of the declaration of the study that stood when the stage was completed; empty without one."""


class ResultStore:
    """Stages under one root folder."""

    def __init__(self, root: str | Path) -> None:
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
            sweep([self.root, *(folder for pattern in _WRITTEN_INTO for folder in self.root.glob(pattern))])

    def folder(self, kind: Kind, stage_id: str) -> Path:
        """Return the folder of a stage, whether it exists or not."""
        return self.root / FOLDERS[kind] / stage_id

    def find(self, kind: Kind, recipe: Mapping[str, Any]) -> Manifest | None:
        """Return the manifest of the stage with this full recipe, or None when it is not complete.

        Raises UserError when the folder of that id holds another recipe, or a file named by the manifest is gone.
        """
        stage_id = digest(recipe)
        folder = self.folder(kind, stage_id)
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        if manifest.recipe != json.loads(json.dumps(recipe)):
            raise UserError(
                f"{folder / 'manifest.json'} holds another recipe under the id {stage_id}; two recipes share a digest "
                f"or the file was edited: move the folder away and run again"
            )
        for name in manifest.content_sha256:
            if not (folder / name).is_file():
                raise UserError(f"{folder / name} is named by the manifest and missing; delete {folder} and run again")
        return manifest

    @contextlib.contextmanager
    def making(self, kind: Kind, recipe: Mapping[str, Any]) -> Iterator[Path | None]:
        """Lock a stage and yield its folder to write into, or None when it is, or meanwhile became, complete.

        Waits while another process makes the same stage.
        """
        if self.find(kind, recipe) is not None:
            yield None
            return
        stage_id = digest(recipe)
        with Lock(self.root / "locks" / f"{kind}-{stage_id}.json"):
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
        """Write the manifest of a finished stage, last and by rename, with the digest of each of its files."""
        stage_id = digest(recipe)
        folder = self.folder(kind, stage_id)
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
            content_sha256={name: sha256_of(folder / name) for name in files},
            counts=dict(counts),
            git=git_state(),
            packages=package_versions(),
            hardware={**machine(), **hardware},
            cost=dict(cost),
            started=started,
            finished=now(),
            declared=declared,
        )
        _write_manifest(folder, manifest)
        return manifest

    def add_label(self, kind: Kind, stage_id: str, label: str) -> None:
        """Record one more name under which a complete stage was asked for."""
        folder = self.folder(kind, stage_id)
        manifest = read_manifest(folder)
        if manifest is not None and label not in manifest.labels:
            with Lock(self.root / "locks" / f"label-{stage_id}.json"):
                manifest = read_manifest(folder)
                if manifest is not None and label not in manifest.labels:
                    _write_manifest(folder, dataclasses.replace(manifest, labels=(*manifest.labels, label)))

    def manifests(self, kind: Kind) -> Iterator[Manifest]:
        """Yield the manifests of all complete stages of a kind, in order of their ids."""
        for path in sorted((self.root / FOLDERS[kind]).glob("*/manifest.json")):
            manifest = read_manifest(path.parent)
            if manifest is not None:
                yield manifest

    def resolve(self, kind: Kind, text: str) -> Manifest:
        """Return the complete stage that a person means: an id, the beginning of one, or `study/arm:seed`.

        `study/arm` alone will do where it has one seed. Raises UserError when nothing or more than one thing is meant,
        with a list, and when the stage that is meant is not complete.
        """
        label, colon, seed = text.rpartition(":") if "/" in text and ":" in text else (text, "", "")
        found, known = list[Manifest](), list[Manifest](self.manifests(kind))
        if "/" in text:
            found = [m for m in known if label in m.labels and seed in ("", str(m.seed))]
        elif text:
            found = [m for m in known if m.id.startswith(text)]
        if len(found) == 1:
            return found[0]
        folder = self.root / FOLDERS[kind]
        if found:
            raise UserError(f"{text!r} means {len(found)} of kind {kind} under {folder}: {_listed(found)}; say which")
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

    def vectors(self, train_id: str, corpus_digest: str) -> Path:
        """Return where the vectors of a corpus under a trained model are kept between searches; free to be deleted."""
        return self.root / "vectors" / f"{train_id}-{corpus_digest}.npy"

    def by_arm(self, kind: Kind, study: str) -> dict[tuple[str, int], Manifest]:
        """Return the complete stages of a kind in a study by arm and seed; a stage with two labels comes twice.

        Raises UserError when there is none, naming the studies that there are, and when two stages of one arm have the
        same seed, because a name then stands for two recipes.
        """
        labels = [(label, manifest) for manifest in self.manifests(kind) for label in manifest.labels]
        found: dict[tuple[str, int], Manifest] = {}
        for label, manifest in labels:
            name, _, arm = label.partition("/")
            if name == study and found.setdefault((arm, manifest.seed), manifest).id != manifest.id:
                raise UserError(
                    f"the arm {arm!r} of study {study!r} has two of kind {kind} with seed {manifest.seed} "
                    f"({found[arm, manifest.seed].id} and {manifest.id}): two recipes share a name; give one of them "
                    f"another runtime.label or runtime.study"
                )
        if not found:
            known = ", ".join(sorted({label.partition("/")[0] for label, _ in labels})) or "none"
            raise UserError(f"no {kind} of a study {study!r} under {self.root}; studies there: {known}")
        return found

    def lock(self, name: str) -> Lock:
        """Return a lock of this store by its name, not yet taken."""
        return Lock(self.root / "locks" / f"{name}.json")

    def declare(self, study_name: str, study: Study) -> str:
        """Keep a declaration under its digest, with the time at which it was first seen, and return the digest.

        One that is there already stays as it is. Raises UserError for a name that would leave the folder.
        """
        path = self._of_study("studies", study_name) / f"{study.digest}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.lock(f"declare-{study.digest}"):
                if not path.is_file():
                    content = {"declared_at": now(), "study": declaration(study)}
                    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False))
        return study.digest

    def declarations(self, study_name: str) -> dict[str, dict[str, Any]]:
        """Return digest -> {"declared_at", "study"} of all declarations of a study, the earliest first.

        Raises UserError for one that cannot be read.
        """
        found: dict[str, dict[str, Any]] = {}
        for path in self._of_study("studies", study_name).glob("*.json"):
            content = _read_json(path)
            if content is None or set(content) != {"declared_at", "study"}:
                raise UserError(f"{path} is not a readable declaration of a study; move it away")
            found[path.stem] = content
        return dict(sorted(found.items(), key=lambda item: (item[1]["declared_at"], item[0])))

    def failure_file(self, study_name: str, label: str, seed: int) -> Path:
        """Return where the failure of a run is described, whether it failed or not."""
        return self._of_study("failures", study_name) / f"{_file_name(label)}-s{seed}.txt"

    def keep_failure(self, study_name: str, label: str, seed: int, text: str) -> Path:
        """Write what went wrong in a run and return the file; it stays until the run succeeds."""
        path = self.failure_file(study_name, label, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        return path

    def _of_study(self, folder: str, study_name: str) -> Path:
        if study_name in ("", ".", "..") or "/" in study_name or "\0" in study_name:
            raise UserError(f"{study_name!r} cannot be the name of a study; take letters, digits, dots and dashes")
        return self.root / folder / _file_name(study_name)

    def damaged(self, manifest: Manifest) -> list[str]:
        """Return the files of a stage that are missing or whose digest is not the recorded one."""
        folder = self.folder(manifest.kind, manifest.id)
        return [
            name
            for name, expected in manifest.content_sha256.items()
            if not (folder / name).is_file() or sha256_of(folder / name) != expected
        ]


def _listed(manifests: list[Manifest], limit: int = 12) -> str:
    """Return ids with the names that they go by, at most `limit` of them and how many more there are."""
    lines = [f"{m.id} ({', '.join(f'{label}:{m.seed}' for label in m.labels)})" for m in manifests[:limit]]
    return ", ".join(lines) + (f" and {len(manifests) - limit} more" if len(manifests) > limit else "")


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def is_deterministic(manifest: Manifest) -> bool:
    """Return whether another seed would give the same scores: BM25, a backbone with loaded weights, one imported run.

    A trained model depends on its seed, and so does what has a seed in its recipe: random order, drawn weights.
    """
    return manifest.recipe.get("stage") not in (None, "evaluation") and "seed" not in manifest.recipe


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in a folder, or None when there is none; raises UserError when it cannot be read."""
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["parents"], values["labels"] = tuple(values["parents"]), tuple(values["labels"])
        return Manifest(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not a readable manifest ({error}); delete {folder} and run again") from error


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    write_atomically(folder / "manifest.json", json.dumps(dataclasses.asdict(manifest), indent=1, sort_keys=True))


def write_atomically(path: Path, text: str) -> None:
    """Write a text file by a temporary file, fsync and rename: readers see the old file or the whole new one."""
    draft = draft_of(path)
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_name(text: str) -> str:
    """Return a text as a file name: anything but letters, digits, dot, dash and underscore is replaced."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".") or "_"


def _file_name(text: str) -> str:
    """Return a text as a file name of its own: what `safe_name` changes gets a digest, so that no two texts meet."""
    safe = safe_name(text)
    return safe if safe == text else f"{safe}-{digest(text)[:8]}"


def now() -> str:
    """Return the present time in UTC, to the second, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def git_state() -> dict[str, Any]:
    """Return commit and dirty flag of the repository that holds this package; commit None outside a repository."""
    where = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change a number."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def machine() -> dict[str, Any]:
    """Return what this machine is: system, processor, cores."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    return {"system": platform.system(), "processor": processor, "cores": os.cpu_count()}


def disk_trouble(error: OSError) -> str | None:
    """Return a one-line message for an error of a full or read-only disk, or None when it is something else."""
    words = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "the disk is read-only",
        errno.EFBIG: "the file size limit is reached",
    }
    if error.errno not in words:
        return None
    where = f" at {error.filename}" if error.filename else ""
    return (
        f"{words[error.errno]}{where}; finished stages are kept: make room (or point runtime.results elsewhere) and "
        f"issue the same command again"
    )
