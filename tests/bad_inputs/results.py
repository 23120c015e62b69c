"""Folders of results that are damaged, or that someone else made to do harm."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import synthetic_study
from conftest import compose
from synthetic_study import Arm, claim, declare, make_study, study_block

from ablate.recipe.values import digest
from ablate.store.files import write_atomically
from ablate.store.results import ResultStore
from bad_inputs import BadInput

Change = Callable[[Path], object]


@functools.cache
def _template() -> Path:
    """Return a study `s` of the arms a and b with seeds 0 and 1, and the training s/own, which has a config.json."""
    root = Path(tempfile.mkdtemp(prefix="ablate-bad-results-"))
    with patch("ablate.store.provenance.git_state", dict), patch("ablate.store.results.os.fsync"):
        store = make_study(root, {"a": Arm(seeds=(0, 1)), "b": Arm(seeds=(0, 1), factors={"instructed": 1.0})})
        mix = next(store.manifests("mix"))
        recipe = {
            name: value
            for name, value in compose("seed=0", "model=tiny").items()
            if name not in ("seed", "runtime", "study")
        }
        train = {"stage": "train", "mix": mix.id, "model": {"revision": "m"}, "train": {}, "seed": 0}
        files = {"config.json": json.dumps({"recipe": recipe, "seed": 0}), "model/config.json": "{}"}
        synthetic_study._complete(store, "train", train, "s/own", 0, (mix.id,), files, {}, {})
        declare(root, study_block([claim("one", "greater")], seeds=[0, 1]))
    return root


def _sealed(folder: Path, **changes: Any) -> None:
    """Change fields of a manifest as someone would who knows how manifests are written: id and checksum agree."""
    path = folder / "manifest.json"
    values = {**json.loads(path.read_text()), **changes, "checksum": ""}
    values["checksum"] = digest(values)
    write_atomically(path, json.dumps(values))


def _edited(folder: Path, **changes: Any) -> None:
    """Change fields of a manifest of before checksums by hand."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "checksum": "", **changes}))


def _other_recipe(kind: Any, label: str, without: str = "", **changes: Any) -> Change:
    """Give a stage another recipe and the id that belongs to it."""

    def change(results: Path) -> None:
        folder = _stage(results, kind, label)
        recipe = {**json.loads((folder / "manifest.json").read_text())["recipe"], **changes}
        recipe.pop(without, None)
        folder = folder.rename(folder.with_name(digest(recipe)))
        _sealed(folder, recipe=recipe, id=folder.name)

    return change


def _stage(results: Path, kind: Any, label: str) -> Path:
    store = ResultStore(results)
    manifest = next(one for one in store.manifests(kind) if label in one.labels)
    return store.folder(kind, manifest.id)


def _recorded(results: Path, kind: str, label: str, name: str, content: bytes) -> None:
    """Put a file in the place of another and record it, so that only its content is against it."""
    folder = _stage(results, kind, label)
    (folder / name).write_bytes(content)
    values = json.loads((folder / "manifest.json").read_text())
    digests = {**values["content_sha256"], name: hashlib.sha256(content).hexdigest()}
    _sealed(folder, content_sha256=digests, content_bytes={**values["content_bytes"], name: len(content)})


def _config(results: Path, **model: Any) -> None:
    folder = _stage(results, "train", "s/own")
    values = json.loads((folder / "config.json").read_text())
    values["recipe"]["model"].update(model)
    _recorded(results, "train", "s/own", "config.json", json.dumps(values).encode())


def _bad(name: str, words: str, change: Change, *command: str) -> BadInput:
    def make(folder: Path) -> None:
        shutil.copytree(_template(), folder / "results", symlinks=True)
        change(folder / "results")

    return BadInput(name, command or ("analysis.collect", "s", "--results", "{dir}/results"), (words,), make)


def _evaluation(change: Callable[[Path], object]) -> Change:
    return lambda results: change(_stage(results, "evaluation", "s/a"))


def _manifest(**changes: Any) -> Change:
    return _evaluation(lambda folder: _edited(folder, **changes))


def _torn(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])


def _link(folder: Path) -> None:
    (folder / "scores.parquet").unlink()
    (folder / "scores.parquet").symlink_to("/etc/passwd")


def _pipe(folder: Path) -> None:
    (folder / "scores.parquet").unlink()
    os.mkfifo(folder / "scores.parquet")


def _exchanged(results: Path) -> None:
    a, b = (_stage(results, "evaluation", f"s/{arm}") / "scores.parquet" for arm in "ab")
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _workload(content: str) -> Change:
    return lambda results: (_stage(results, "train", "s/a") / "workload.json").write_text(content)


def _of_another(results: Path) -> None:
    train = _stage(results, "train", "s/a")
    values = {"train": "0" * 16, "mix": "0" * 16, "labels": ["s/a"], "counts": {"groups": 1}}
    (train / "workload.json").write_text(json.dumps({**values, "digest": digest(values)}))


def _renamed(results: Path) -> None:
    folder = _stage(results, "evaluation", "s/a")
    folder.rename(folder.with_name("f" * 16))


def _added(results: Path) -> None:
    (_stage(results, "train", "s/own") / "model" / "adapter_config.json").write_text("{}")


def _vanished_mix(results: Path) -> None:
    train = json.loads((_stage(results, "train", "s/own") / "manifest.json").read_text())
    shutil.rmtree(results / "mixes" / train["parents"][0])


def _scores(content: bytes) -> Change:
    return lambda results: _recorded(results, "evaluation", "s/a", "scores.parquet", content)


def _other_columns(results: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"value": [1.0]}), results / "x")
    content = (results / "x").read_bytes()
    (results / "x").unlink()
    _scores(content)(results)


AT = ("--results", "{dir}/results")
SEARCH = ("ablate.search", "s/own:0", "query", *AT)
EXPORT = ("ablate.export", "s/own:0", "--to", "{dir}/exported", *AT)
CLAIMS, FAIRNESS, BUDGETS, COSTS = (
    (f"analysis.{name}", "s", *AT) for name in ("claims", "fairness", "budgets", "costs")
)
SIGNIFICANCE = ("analysis.significance", "s", "--baseline", "a", *AT)
RUN = (
    "ablate.run",
    "tracker=none",
    "seed=0",
    "model=tiny",
    "runtime.plan_only=true",
    "runtime.results='{dir}/results'",
)

BAD_INPUTS = [
    _bad("a torn manifest", "manifest.json cannot be read (JSONDecodeError", _evaluation(_torn)),
    _bad("a torn manifest, for costs", "manifest.json cannot be read", _evaluation(_torn), *COSTS),
    _bad("a torn manifest, for a plan", "manifest.json cannot be read", _evaluation(_torn), *RUN),
    _bad("a torn manifest, for fairness", "manifest.json cannot be read", _evaluation(_torn), *FAIRNESS),
    _bad(
        "a manifest that is a list",
        "is not a readable manifest (no JSON object of finite values)",
        _evaluation(lambda folder: (folder / "manifest.json").write_text("[]")),
    ),
    _bad(
        "a manifest of great depth",
        "manifest.json cannot be read (RecursionError",
        _evaluation(lambda folder: (folder / "manifest.json").write_text("[" * 100_000)),
    ),
    _bad(
        "a number of 5,000 digits",
        "manifest.json cannot be read (ValueError",
        _evaluation(lambda folder: (folder / "manifest.json").write_text('{"seed": ' + "9" * 5000 + "}")),
    ),
    _bad(
        "half a character in a recipe",
        "manifest.json cannot be read (UnicodeEncodeError",
        _manifest(recipe={"stage": "\ud800"}),
    ),
    _bad("no seed that is a number", 'seed is "0", which must be a whole number from 0', _manifest(seed="0")),
    _bad("a negative seed", "seed is -1, which must be a whole number from 0", _manifest(seed=-1), *CLAIMS),
    _bad("labels that are a text", 'labels is "s/a", which must be a list of texts', _manifest(labels="s/a")),
    _bad(
        "a cost that is infinite", "no JSON object of finite values", _manifest(cost={"wall_s": float("inf")}), *COSTS
    ),
    _bad("a cost that is a text", "which must be an object of numbers", _manifest(cost={"wall_s": "much"}), *COSTS),
    _bad("an unknown field", "'more' is no field of a manifest", _manifest(more=1)),
    _bad(
        "a parent that leaves the folder",
        'parents is ["../../x"], which must be a list of ids',
        _manifest(parents=["../../x"]),
    ),
    _bad("an id that leaves the folder", 'id is "../x", which must be at least 12 hex digits', _manifest(id="../x")),
    _bad("a kind that there is not", 'kind is "evil", which must be mix, train or evaluation', _manifest(kind="evil")),
    _bad("another recipe under the id", "holds another recipe under the id", _manifest(recipe={"stage": "x"})),
    _bad(
        "a manifest that was changed",
        "was changed after it was written (its checksum",
        _evaluation(lambda folder: _edited(folder, checksum="0" * 16)),
    ),
    _bad(
        "a mix without a budget",
        "manifest.json: recipe.budget is missing; delete",
        _other_recipe("mix", "s/a", "budget"),
        *BUDGETS,
    ),
    _bad(
        "a mix without a budget, for fairness",
        "recipe.budget is missing",
        _other_recipe("mix", "s/a", "budget"),
        *FAIRNESS,
    ),
    _bad(
        "a budget that is a text",
        'recipe.budget is "8", which must be an object',
        _other_recipe("mix", "s/a", budget="8"),
        *CLAIMS,
    ),
    _bad(
        "a mix whose content is not told",
        "counts.content is missing",
        lambda results: _sealed(_stage(results, "mix", "s/a"), counts={"groups": 8}),
        *FAIRNESS,
    ),
    _bad(
        "a total that is a text",
        'counts.groups is "many", which must be a number',
        lambda results: _sealed(_stage(results, "mix", "s/a"), counts={"groups": "many", "content": "c"}),
        *BUDGETS,
    ),
    _bad(
        "a composition that is a number",
        "counts.composition is 3, which must be an object of numbers",
        lambda results: _sealed(_stage(results, "mix", "s/a"), counts={"groups": 8, "content": "c", "composition": 3}),
        *BUDGETS,
    ),
    _bad(
        "a backbone that is a text",
        'recipe.model is "m", which must be an object',
        _other_recipe("train", "s/own", model="m"),
        *EXPORT,
    ),
    _bad(
        "an evaluation that is a text",
        'recipe.evaluation is "x", which must be an object',
        _other_recipe("evaluation", "s/a", evaluation="x"),
        *SIGNIFICANCE,
    ),
    _bad(
        "settings that are a text",
        'hardware.settings is "x", which must be an object',
        _manifest(hardware={"device": "cpu", "settings": "x"}),
        *FAIRNESS,
    ),
    _bad(
        "changed files that are a number",
        "git.changed is 1, which must be a list of texts",
        _manifest(git={"changed": 1}),
        *FAIRNESS,
    ),
    _bad("a stage under another id", "of another folder", _renamed),
    _bad(
        "a file outside the folder",
        "which must be an object of digests by files inside the folder",
        _manifest(content_sha256={"../../etc/passwd": "0" * 64}),
    ),
    _bad(
        "an absolute file",
        "which must be an object of digests by files inside the folder",
        _manifest(content_sha256={"/etc/passwd": "0" * 64}),
        *FAIRNESS,
    ),
    _bad(
        "a file outside the folder, for a plan",
        "which must be an object of digests by files inside the folder",
        _manifest(content_sha256={"x/../../y": "0" * 64}),
        *RUN,
    ),
    _bad("a link that leaves the folder", "scores.parquet is a link that leaves its folder", _evaluation(_link)),
    _bad("a pipe in the place of a file", "scores.parquet is no plain file", _evaluation(_pipe)),
    _bad(
        "changed scores",
        "scores.parquet was changed (",
        _evaluation(lambda folder: _flipped(folder / "scores.parquet")),
    ),
    _bad(
        "changed scores, for claims",
        "scores.parquet was changed (",
        _evaluation(lambda folder: _flipped(folder / "scores.parquet")),
        *CLAIMS,
    ),
    _bad(
        "changed scores, for significance",
        "scores.parquet was changed (",
        _evaluation(lambda folder: _flipped(folder / "scores.parquet")),
        *SIGNIFICANCE,
    ),
    _bad("exchanged scores", "scores.parquet was changed (", _exchanged, *SIGNIFICANCE),
    _bad("no scores", "scores.parquet is missing; delete", _evaluation(lambda f: (f / "scores.parquet").unlink())),
    _bad("recorded scores that are no Parquet", "scores.parquet cannot be read (ArrowInvalid", _scores(b"PAR1" * 9)),
    _bad("recorded scores with other columns", "scores.parquet cannot be read", _other_columns),
    _bad("a torn record of totals", "workload.json cannot be read (JSONDecodeError", _workload('{"mix"'), *BUDGETS),
    _bad(
        "totals that are texts",
        "workload.json is not a record of a training's totals",
        _workload('{"mix": "a", "labels": ["s/a"], "counts": {"groups": "8"}}'),
        *BUDGETS,
    ),
    _bad(
        "totals of another training", "workload.json was changed, or belongs to another training", _of_another, *BUDGETS
    ),
    _bad("totals, for collect", "workload.json is not a record of a training's totals", _workload("{}")),
    _bad(
        "code that a config.json asks for, for search",
        "add --trust-remote-code to run it",
        lambda results: _config(results, trust_remote_code=True),
        *SEARCH,
    ),
    _bad(
        "code that a config.json asks for, for export",
        "add --trust-remote-code to run it",
        lambda results: _config(results, trust_remote_code=True),
        *EXPORT,
    ),
    _bad(
        "a model with an unknown key",
        "config.json: unknown key model.evil",
        lambda results: _config(results, evil=1),
        *EXPORT,
    ),
    _bad(
        "a setting that was a secret",
        "held what looks like a secret, which was not kept",
        lambda results: _config(results, separator=" [removed: looks like a secret] "),
        *EXPORT,
    ),
    _bad(
        "a recipe that is no recipe",
        "config.json cannot be read (KeyError",
        lambda results: _recorded(results, "train", "s/own", "config.json", b"{}"),
        *EXPORT,
    ),
    _bad("a file more in a model", "adapter_config.json is not among the files that the manifest", _added, *EXPORT),
    _bad(
        "a changed file of a model",
        "model/config.json was changed (",
        lambda results: (_stage(results, "train", "s/own") / "model/config.json").write_text("[]"),
        *SEARCH,
    ),
    _bad("a run whose mix is gone", "which is not complete under", _vanished_mix, *SEARCH),
    _bad(
        "a declaration that is no JSON",
        "cannot be read (JSONDecodeError",
        lambda results: next(results.glob("studies/s/*.json")).write_text("{"),
        *CLAIMS,
    ),
    _bad(
        "cells of another declaration",
        "was changed, or belongs to another declaration than",
        lambda results: (path := next(results.glob("studies/s/cells/*.json"))).write_text(
            path.read_text().replace('"declaration": "', '"declaration": "0')
        ),
        *CLAIMS,
    ),
    _bad("a name with escape sequences", r"\x1b[2J", lambda results: None, "analysis.collect", "\x1b[2J", *AT),
]
