"""The store of results: manifests, completeness, locks."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.store.files import disk_trouble, safe_name, write_atomically
from ablate.store.manifest import Manifest, read_manifest
from ablate.store.results import ResultStore

RECIPE = {"stage": "mix", "value": 1}


def finish(store: ResultStore, recipe: dict[str, object], label: str = "a", seed: int = 3) -> Manifest:
    folder = store.folder("mix", digest(recipe))
    (folder / "data.txt").write_text("content")
    return store.complete(
        "mix",
        recipe,
        files=("data.txt",),
        parents=(),
        seed=seed,
        label=label,
        counts={"n": 1},
        hardware={"device": "cpu"},
        cost={"wall_s": 0.5},
        started="2026-01-01T00:00:00+00:00",
    )


def test_a_stage_is_complete_only_with_its_manifest(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with store.making("mix", RECIPE) as folder:
        assert folder == tmp_path / "mixes" / digest(RECIPE)
        (folder / "data.txt").write_text("half")
    assert store.find("mix", RECIPE) is None
    with store.making("mix", RECIPE) as folder:
        assert folder is not None
        finish(store, RECIPE)
    with store.making("mix", RECIPE) as folder:
        assert folder is None
    manifest = store.find("mix", RECIPE)
    assert manifest is not None
    assert (manifest.seed, manifest.labels, manifest.counts, manifest.parents) == (3, ("a",), {"n": 1}, ())
    assert manifest.content_sha256 == {"data.txt": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"}
    assert manifest.packages["python"].startswith("3.") and manifest.hardware["cores"] >= 1
    assert list(store.manifests("mix")) == [manifest]


def test_lists_go_by_label_and_seed_and_not_by_hash(tmp_path: Path) -> None:
    store, cells = ResultStore(tmp_path), [(f"s/{arm}", seed) for arm in ("a", "b") for seed in (1, 2, 10, 11)]
    recipes = {cell: {"stage": "mix", "arm": cell[0], "seed": cell[1]} for cell in reversed(cells)}
    for (label, seed), recipe in recipes.items():
        with store.making("mix", recipe):
            finish(store, recipe, label, seed)
    by_hash = sorted(cells, key=lambda cell: digest(recipes[cell]))
    assert [(one.labels[0], one.seed) for one in store.manifests("mix")] == cells != by_hash
    with pytest.raises(UserError, match=r"means 4 .*\(s/b:1\).*\(s/b:2\).*\(s/b:10\).*\(s/b:11\); say which"):
        store.resolve("mix", "s/b")


def test_an_attempt_that_fails_leaves_no_empty_folder_and_keeps_what_it_has_written(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with pytest.raises(UserError, match="bad file"), store.making("evaluation", RECIPE):
        raise UserError("bad file")
    assert list((tmp_path / "evals").iterdir()) == []
    with pytest.raises(KeyboardInterrupt), store.making("train", RECIPE) as folder:
        assert folder is not None
        (folder / "checkpoint").touch()
        raise KeyboardInterrupt
    assert folder is not None and (folder / "checkpoint").exists()


def test_a_missing_or_changed_file_is_noticed(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with store.making("mix", RECIPE) as folder:
        manifest = finish(store, RECIPE)
    assert folder is not None and store.damaged(manifest) == []
    (folder / "data.txt").write_text("other")
    assert store.damaged(manifest) == ["data.txt"]
    (folder / "data.txt").unlink()
    with pytest.raises(UserError, match=r"data\.txt is missing; delete"):
        store.find("mix", RECIPE)


def test_another_recipe_under_the_same_id_is_refused(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with store.making("mix", RECIPE) as folder:
        finish(store, RECIPE)
    assert folder is not None
    values = json.loads((folder / "manifest.json").read_text())
    values["recipe"]["value"] = 2
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="holds another recipe under the id"):
        store.find("mix", RECIPE)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        store.find("mix", RECIPE)


def test_a_second_label_is_added_once(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with store.making("mix", RECIPE):
        finish(store, RECIPE)
    for label in ("b", "a", "b"):
        store.add_label("mix", digest(RECIPE), label)
    manifest = store.find("mix", RECIPE)
    assert manifest is not None and manifest.labels == ("a", "b")


def test_an_atomic_write_that_fails_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_in_one_line_with_the_remedy() -> None:
    text = disk_trouble(OSError(errno.ENOSPC, "No space left on device", "/x/y"))
    assert text == (
        "the disk is full at /x/y; finished stages are kept: make room (or point runtime.results elsewhere) and issue "
        "the same command again"
    )
    assert disk_trouble(OSError(errno.ENOENT, "gone")) is None


def test_a_folder_of_results_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="runtime.results=.*file.* cannot be used as the folder of results"):
        ResultStore(tmp_path / "file").open()
    ResultStore(tmp_path / "new").open()
    assert list((tmp_path / "new").iterdir()) == []


def test_names_from_data_make_no_paths() -> None:
    assert safe_name("../../etc/passwd") == "_.._etc_passwd"
    assert safe_name("movies/dev") == "movies_dev"
    assert safe_name("..") == "_"


def test_no_manifest_is_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
