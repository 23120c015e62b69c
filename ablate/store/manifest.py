"""The manifest: the record that a stage is complete, from what it was made, and the digest of every file of it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.secrets import is_scrubbed, scrub_texts
from ablate.store.files import FOLDERS, MANIFEST_FILE, write_atomically
from ablate.store.integrity import is_inside, read_json, reading

Kind = Literal["mix", "train", "evaluation"]


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
    datasets: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    """Label -> data set as it is recorded -> what it is called where this label is used, if that is another name: the
    name of a data set is that of its folder, and two folders may hold the same."""
    content_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    """File name in the folder -> size; empty in manifests that were written before sizes were recorded."""
    checksum: str = ""
    """Digest of all other fields as they were written; empty in manifests of before."""

    def dataset_names(self, study: str) -> dict[str, str]:
        """Return data set as it is recorded -> its name in a study, where that is another one."""
        asked = [names for label, names in self.datasets.items() if label.startswith(f"{study}/")]
        return {recorded: name for names in asked for recorded, name in names.items()}


class Recorded(dict[str, Any]):
    """What a manifest holds under a name, read from its file: a key that is asked for and missing is told in words."""

    place = "its manifest"
    """File and key, for the message."""
    remedy = "make it again"

    def __missing__(self, key: str) -> Any:
        raise UserError(f"{self.place}.{key} is missing; {self.remedy}")

    @classmethod
    def of(cls, value: Any, place: str, remedy: str) -> Any:
        """Return a value with every object in it as one of these."""
        if isinstance(value, list):
            return [cls.of(item, place, remedy) for item in value]
        if not isinstance(value, dict):
            return value
        checked = cls({key: cls.of(item, f"{place}.{key}", remedy) for key, item in value.items()})
        checked.place, checked.remedy = place, remedy
        return checked


def is_deterministic(manifest: Manifest) -> bool:
    """Return whether another seed would give the same scores: BM25, a backbone with loaded weights, one imported run.

    A trained model depends on its seed, and so does what has a seed in its recipe: random order, drawn weights.
    """
    return manifest.recipe.get("stage") not in (None, "evaluation") and "seed" not in manifest.recipe


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in the folder of a stage, or None when there is none.

    Raises UserError when it is no manifest, names files outside its folder, was changed since it was written, or is
    that of another stage: the digest of its recipe must be its id, and its id the name of the folder.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return None
    remedy = f"delete {folder} and run again"
    values = read_json(path, remedy)
    with reading(path, remedy):  # digests are taken of what may be anything
        wrong = _misshapen(values)
        if wrong:
            raise UserError(f"{path} is not a readable manifest ({wrong}); {remedy}")
        if values["id"] != folder.name or FOLDERS[values["kind"]] != folder.parent.name:
            raise UserError(f"{path} is the manifest of {values['kind']} {values['id']}, of another folder; {remedy}")
        if not is_scrubbed(values["recipe"]) and digest(values["recipe"]) != values["id"]:
            raise another_recipe(folder)
        manifest = Manifest(
            **{
                **{name: Recorded.of(value, f"{path}: {name}", remedy) for name, value in values.items()},
                "parents": tuple(values["parents"]),
                "labels": tuple(values["labels"]),
            }
        )
        if manifest.checksum and manifest.checksum != _checksum(manifest):
            raise UserError(f"{path} was changed after it was written (its checksum is that of other values); {remedy}")
        return manifest


def another_recipe(folder: Path) -> UserError:
    """Return what is said of a stage whose manifest holds another recipe than its id stands for."""
    return UserError(
        f"{folder / MANIFEST_FILE} holds another recipe under the id {folder.name}; two recipes share a digest or "
        f"the file was edited: move the folder away and run again"
    )


def is_texts(value: Any) -> bool:
    """Return whether a value from a file is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_named(value: Any, is_item: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(is_item, value.values()))


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{12,64}", value) is not None


def _is_finite(value: Any) -> bool:
    """Return whether plain values are without NaN and infinities, which have no place in JSON and no digest."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, list) else type(value) is not float or math.isfinite(value)


_SHAPE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": (lambda value: isinstance(value, str) and value in FOLDERS, "mix, train or evaluation"),
    "id": (_is_id, "at least 12 hex digits"),
    "parents": (lambda value: isinstance(value, list) and all(map(_is_id, value)), "a list of ids"),
    "recipe": (lambda value: isinstance(value, dict), "an object"),
    "seed": (_is_size, "a whole number from 0"),
    "labels": (is_texts, "a list of texts"),
    "content_sha256": (
        lambda value: _is_named(value, lambda item: isinstance(item, str)) and all(map(is_inside, value)),
        "an object of digests by files inside the folder",
    ),
    "counts": (lambda value: isinstance(value, dict), "an object"),
    "git": (lambda value: isinstance(value, dict), "an object"),
    "packages": (lambda value: _is_named(value, lambda item: isinstance(item, str)), "an object of texts"),
    "hardware": (lambda value: isinstance(value, dict), "an object"),
    "cost": (lambda value: _is_named(value, _is_number), "an object of numbers"),
    "started": (lambda value: isinstance(value, str), "text"),
    "finished": (lambda value: isinstance(value, str), "text"),
    "declared": (lambda value: isinstance(value, str), "text"),
    "datasets": (
        lambda value: _is_named(value, lambda names: _is_named(names, lambda name: isinstance(name, str))),
        "an object of names of data sets by label",
    ),
    "content_bytes": (lambda value: _is_named(value, _is_size), "an object of sizes"),
    "checksum": (lambda value: isinstance(value, str), "text"),
}
"""Field of a manifest -> what it must be, as a test and in words."""


def _is_count(value: Any) -> bool:
    return _is_number(value) or _is_named(value, _is_number)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_OBJECT, _TEXT = (_is_object, "an object"), (_is_text, "text")
_WITHIN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "recipe.stage": _TEXT,
    "recipe.source": _OBJECT,
    "recipe.source.revision": _TEXT,
    "recipe.budget": _OBJECT,
    "recipe.factors": _OBJECT,
    "recipe.model": _OBJECT,
    "recipe.model.revision": _TEXT,
    "recipe.evaluation": _OBJECT,
    "recipe.evaluation.depth": (_is_size, "a whole number from 0"),
    "recipe.evaluation.sets": (is_texts, "a list of texts"),
    "recipe.content": _OBJECT,
    "counts.content": _TEXT,
    "counts.composition": (lambda value: _is_named(value, _is_number), "an object of numbers"),
    "counts.predictability": (lambda value: _is_named(value, _is_number), "an object of numbers"),
    "counts.first_epoch_negatives": (_is_size, "a whole number from 0"),
    "counts.scores": (_is_size, "a whole number from 0"),
    "counts.candidates": (lambda value: _is_named(value, _is_text), "an object of digests by data set"),
    "counts.provenance": _OBJECT,
    "git.commit": _TEXT,
    "git.code": _TEXT,
    "git.dirty": (lambda value: isinstance(value, bool), "true or false"),
    "git.changed": (is_texts, "a list of texts"),
    "git.release": _TEXT,
    "hardware.settings": _OBJECT,
}
"""Key below a field of a manifest -> what it must be where it is there and not null."""


def _misshapen_within(values: Mapping[str, Any]) -> str:
    """Return which key below a field of a manifest is of another kind than readers expect, in words, or nothing."""
    totals = values["counts"] if values["kind"] != "evaluation" else ()
    rules = {f"counts.{name}": (_is_count, "a number or an object of numbers") for name in totals} | _WITHIN
    for key, (is_right, words) in rules.items():
        value: Any = values
        for name in key.split(".", 2) if key.startswith("recipe") else key.split(".", 1):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and not is_right(value):
            return f"{key} is {json.dumps(value)[:80]}, which must be {words}"
    return ""


def _misshapen(values: Any) -> str:
    """Return which field of a manifest is missing, unknown or of another kind, in words, or nothing."""
    if not isinstance(values, dict) or not _is_finite(values):
        return "no JSON object of finite values"
    for field in dataclasses.fields(Manifest):
        is_right, words = _SHAPE[field.name]
        if field.name in values:
            if not is_right(values[field.name]):
                return f"{field.name} is {json.dumps(values[field.name])[:80]}, which must be {words}"
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            return f"{field.name} is missing, which must be {words}"
    unknown = [name for name in values if name not in _SHAPE]
    return f"{unknown[0][:80]!r} is no field of a manifest" if unknown else _misshapen_within(values)


def _checksum(manifest: Manifest) -> str:
    """Return the digest of a manifest as its file holds it, but for the checksum."""
    return digest(json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(manifest, checksum="")))))


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write a manifest without secrets, and return it as it was written."""
    values = scrub_texts(dataclasses.asdict(manifest))
    written = Manifest(**{**values, "parents": tuple(values["parents"]), "labels": tuple(values["labels"])})
    written = dataclasses.replace(written, checksum=_checksum(written))
    write_atomically(folder / MANIFEST_FILE, json.dumps(dataclasses.asdict(written), indent=1, sort_keys=True))
    return written
