"""Stages listed, compared and removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ablate import runs
from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.store.manifest import Kind, Manifest
from ablate.store.results import ResultStore


def stage(
    store: ResultStore, kind: Kind, recipe: dict[str, object], *labels: str, parents: tuple[str, ...] = ()
) -> Manifest:
    """Complete a stage with one file of 1,000 bytes."""
    with store.making(kind, recipe) as folder:
        assert folder is not None
        (folder / "data").write_bytes(b"x" * 1000)
        made = store.complete(
            kind,
            recipe,
            files=("data",),
            parents=parents,
            seed=int(str(recipe["seed"])),
            label=labels[0],
            counts={},
            hardware={},
            cost={},
            started="2026-01-01T00:00:00+00:00",
        )
    for label in labels[1:]:
        store.add_label(kind, made.id, label)
    return made


def run(store: ResultStore, seed: int, rate: float, *labels: str, factors: int = 1) -> tuple[Manifest, ...]:
    mix = stage(store, "mix", {"stage": "mix", "factors": {"n": factors}, "seed": seed}, *labels)
    train = stage(store, "train", {"mix": mix.id, "train": {"rate": rate}, "seed": seed}, *labels, parents=(mix.id,))
    return mix, train, stage(store, "evaluation", {"train": train.id, "seed": seed}, *labels, parents=(train.id,))


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    made = ResultStore(tmp_path)
    run(made, 0, 0.1, "why/b")
    run(made, 1, 0.1, "why/b")
    run(made, 2, 0.1, "why/a", "other/a")
    return made


def command(store: ResultStore, *words: str) -> int:
    return runs.main([*words, "--results", str(store.root)])


def left(store: ResultStore) -> list[str]:
    return [f"{one.kind} {one.labels[0]}:{one.seed}" for one in runs.stages(store)]


def test_stages_are_listed_by_kind_name_and_seed(store: ResultStore, capsys: pytest.CaptureFixture[str]) -> None:
    (store.root / "runs" / "cut-short").mkdir()
    assert command(store, "list") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(words[0], words[-1]) for words in lines] == [
        (kind, name) for kind in ("mix", "train", "evaluation") for name in ("why/a:2", "why/b:0", "why/b:1")
    ] + [("train", "complete")]
    assert lines[-1][1] == "cut-short"
    assert command(store, "list", "other", "--kind", "train") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("other/a:2, why/a:2")


def test_a_difference_names_the_keys_of_parents_too(store: ResultStore, capsys: pytest.CaptureFixture[str]) -> None:
    mix, train, _ = run(store, 0, 0.2, "why/c", factors=2)
    assert command(store, "diff", "why/b:0", train.id[:9]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == ["3 keys are equal, 2 differ", "  mix.factors.n: 1 -> 2", "  train.rate: 0.1 -> 0.2"]
    assert command(store, "diff", "why/b:0", "why/b:0", "--kind", "mix") == 0
    assert "0 differ: the same recipe" in capsys.readouterr().out


def test_a_name_of_several_stages_says_how_they_differ(store: ResultStore) -> None:
    (store.root / "runs").mkdir(exist_ok=True)
    _, second, _ = run(store, 0, 0.2, "why/b", factors=3)
    words = r"means 2 of kind train .* they differ in mix.factors.n \((1, 3|3, 1)\), train.rate"
    with pytest.raises(UserError, match=words):
        store.resolve("train", "why/b:0")
    with pytest.raises(UserError, match="two recipes share a name.*python -m ablate.runs diff .*" + second.id[:4]):
        store.by_arm("train", "why")


def test_removal_keeps_what_has_other_names(store: ResultStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(store, "remove", "why", "--yes") == 0
    out = capsys.readouterr().out
    assert "stays: train" in out and "removed 6 stages, 0.0 MB" in out
    assert left(store) == [f"{kind} why/a:2" for kind in ("mix", "train", "evaluation")]


def test_removal_of_one_seed(store: ResultStore) -> None:
    assert command(store, "remove", "why/b:1", "--yes") == 0
    assert "train why/b:1" not in left(store) and "train why/b:0" in left(store)


def test_a_parent_goes_only_with_its_children(store: ResultStore, capsys: pytest.CaptureFixture[str]) -> None:
    mix = store.resolve("mix", "why/b:0")
    before = left(store)
    assert command(store, "remove", mix.id, "--yes") == 2
    assert "2 more stages were made from" in capsys.readouterr().err and left(store) == before
    assert command(store, "remove", mix.id, "--with-children", "--yes") == 0
    assert [one for one in left(store) if one.endswith("b:0")] == []


def test_nothing_goes_that_is_in_use_or_unasked(store: ResultStore, capsys: pytest.CaptureFixture[str]) -> None:
    before, train = left(store), store.resolve("train", "why/b:0")
    assert command(store, "remove", "why/b:0") == 2  # the tests have no terminal
    assert "nobody can be asked here; add --yes" in capsys.readouterr().err
    with store.lock(f"run-{train.id}"):
        assert command(store, "remove", "why/b:0", "--yes") == 2
        assert "a living process holds" in capsys.readouterr().err
    assert left(store) == before
    assert not list((store.root / "locks").glob("*.json"))


def test_half_a_removal_is_an_incomplete_stage(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: Path) -> None:
        raise OSError(5, os.strerror(5))

    mix = store.resolve("mix", "why/b:0")
    monkeypatch.setattr("shutil.rmtree", fails)
    assert command(store, "remove", "why/b:0", "--yes") == 2
    evaluations = [json.loads(path.read_text())["id"] for path in store.root.glob("evals/*/manifest.json")]
    assert len(evaluations) == 2 and store.find("mix", mix.recipe) == mix and digest(mix.recipe) == mix.id
