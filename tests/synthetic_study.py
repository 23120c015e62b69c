"""Studies made of hand-written manifests and scores, for tests of what is read from a folder of results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ablate.evaluation.candidates import candidate_digest
from ablate.evaluation.scoring import score_set
from ablate.evaluation.storage import write_evaluation, write_scores
from ablate.recipe.identity import SCORING
from ablate.recipe.values import digest
from ablate.records import EvaluationQuery, EvaluationSet, Passage, QueryScore
from ablate.retrieval.rankings import Ranking, rank
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore
from ablate.study.declaration import DeclaredCell, Study, build_study, declaration
from ablate.study.records import StudyRecords

Place = tuple[str, str, str, str]
NDCG: Place = ("d/test", "plain", "plain", "nDCG@10")
CHANGED: Place = ("d/test", "changed", "after", "nDCG@10")
PMRR: Place = ("d/test", "changed", "after", "p-MRR")
GAIN: Place = ("d/test", "changed", "after", "instruction gain")
EVALUATION = {"source": None, "sets": ["test"], "depth": 10, "batch_size": 4}
MODEL = {"revision": "m", "pooling": "mean"}
NUM_UNITS = 20


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stages be written without the disk's confirmation, by one clean commit with one version of one package."""
    monkeypatch.setattr("ablate.store.results.os.fsync", lambda file: None)
    monkeypatch.setattr("ablate.store.provenance.machine", lambda: {"system": "Linux"})
    monkeypatch.setattr("ablate.store.provenance.git_state", lambda: {"commit": "1234567890ab", "dirty": False})
    monkeypatch.setattr("ablate.store.provenance.package_versions", lambda: {"torch": "1"})


@dataclass(frozen=True)
class Arm:
    """What an arm of a made study is: its factors and budget, and by how much its scores are shifted in each place."""

    factors: Mapping[str, Any] = field(default_factory=dict)
    shift: Mapping[Place, float] = field(default_factory=lambda: {NDCG: 0.0})
    groups: int = 8
    """What its mix has; 8 are asked for, so 16 stand for twins on top."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    train: Mapping[str, Any] = field(default_factory=lambda: {"learning_rate": 0.1})
    evaluation: Mapping[str, Any] = field(default_factory=lambda: EVALUATION)
    candidates: str = "c"
    content: str = ""
    hardware: Mapping[str, Any] = field(default_factory=lambda: {"device": "cpu", "device_name": "cpu", "threads": 1})
    declared: str = ""
    trained_under: str | None = None
    """Declaration of the training, where it is another one."""
    weights: str = ""
    """What the trained models hold; by default each its own."""
    system: Mapping[str, Any] | None = None
    """Recipe of an arm that is not trained here."""
    spread: float = 1.0
    """Factor on the noise between units and seeds."""
    ranked: bool = False
    """Scores come from rankings of `BED`, kept with its judgments."""
    scoring: int = SCORING
    """Version by which its evaluations are scored; 1 was not written down."""
    made_of: Mapping[str, Any] = field(default_factory=dict)
    """What the card of its mixes says beside the groups."""
    first_epoch_negatives: tuple[int, ...] = ()
    """Of each seed, where its trainings counted them."""
    losses: tuple[float, float] | None = None
    """First and last of its trainings; None: not counted."""


def scores(name: str, arm: Arm, seed: int) -> list[QueryScore]:
    """Return scores around .4: sd .02 by unit and arm, .005 by seed, .01 beside them."""
    found = []
    for place, shift in arm.shift.items():
        letters = [ord(letter) for letter in name + "".join(place)]
        own = np.random.Generator(np.random.PCG64(letters)).normal(0, 0.02, NUM_UNITS)
        noise = np.random.Generator(np.random.PCG64([*letters, seed])).normal(0, 0.01, NUM_UNITS + 1)
        values = 0.4 + shift + arm.spread * (own - own.mean() + noise[0] / 2 + noise[1:])
        found += [QueryScore(*place[:3], f"q{unit:02d}", place[3], float(value)) for unit, value in enumerate(values)]
    return found


BED = EvaluationSet(
    name="d/test",
    documents=tuple(Passage(f"d{number}", "") for number in range(10)),
    queries=tuple(
        EvaluationQuery(f"q{unit:02d}", f"q{unit:02d}", "", "", "plain", "plain") for unit in range(NUM_UNITS)
    ),
    qrels={f"q{unit:02d}": {f"d{unit % 10}": 1} for unit in range(NUM_UNITS)},
    changed_documents={},
    opposites=(),
)
"""Twenty plain queries with one relevant document among ten."""


def rankings(name: str, arm: Arm, seed: int) -> list[Ranking]:
    """Return rankings of all documents by noise, and of the relevant one by 10 times the shift of NDCG more."""
    found = []
    for unit in range(NUM_UNITS):
        letters = [ord(letter) for letter in name]
        noise = np.random.Generator(np.random.PCG64([*letters, seed, unit])).normal(0, 1, 10)
        noise[unit % 10] += 1 + 10 * arm.shift[NDCG]
        found.append(rank(f"q{unit:02d}", [passage.doc_id for passage in BED.documents], noise))
    return found


def make_study(root: Path, arms: Mapping[str, Arm], study: str = "s") -> ResultStore:
    """Write the stages of every arm and seed as a run would leave them."""
    store = ResultStore(root)
    for name, arm in arms.items():
        for seed in arm.seeds:
            _make_run(store, f"{study}/{name}", name, arm, seed)
    return store


def _make_run(store: ResultStore, label: str, name: str, arm: Arm, seed: int) -> None:
    parents: tuple[str, ...] = ()
    recipe: dict[str, Any]
    scoring = {} if arm.scoring == 1 else {"scoring": arm.scoring}
    if arm.system is None:
        budget = {"unit": "groups", "limit": 8, "fill": "fewer_queries", "negatives_per_group": 1}
        mix = {"stage": "mix", "source": {"kind": "world", "revision": "1"}, "factors": dict(arm.factors)}
        mix |= {"budget": budget, "seed": seed}
        content = arm.content or digest([mix["factors"], arm.groups])
        counts = {"groups": arm.groups, "content": content, **arm.made_of}
        mixed = _complete(store, "mix", mix, label, seed, (), {}, counts, {}, arm.declared)
        train = {"stage": "train", "mix": mixed.id, "model": MODEL, "train": dict(arm.train), "seed": seed}
        weights = {"model/model.safetensors": arm.weights or digest(train)}
        counts = {} if arm.losses is None else dict(zip(("first_loss", "last_loss"), arm.losses, strict=True))
        if arm.first_epoch_negatives:
            counts["first_epoch_negatives"] = arm.first_epoch_negatives[arm.seeds.index(seed)]
        under = arm.declared if arm.trained_under is None else arm.trained_under
        trained = _complete(store, "train", train, label, seed, (mixed.id,), weights, counts, arm.hardware, under)
        recipe = {"stage": "evaluation", "train": trained.id, "evaluation": dict(arm.evaluation), **scoring}
        parents = (trained.id,)
    else:
        recipe = {**arm.system, "evaluation": dict(arm.evaluation), **scoring}
    folder = store.folder("evaluation", digest(recipe))
    folder.mkdir(parents=True, exist_ok=True)
    notes: dict[str, str | None]
    if arm.ranked:
        notes = dict.fromkeys(write_evaluation(folder, score_set(BED, rankings(name, arm, seed))))
    else:
        _write(folder / "scores.parquet", scores(name, arm, seed))
        notes = {"notes.json": json.dumps({"candidates": {"d/test": arm.candidates}}), "scores.parquet": None}
    documents = {"candidates": {"d/test": candidate_digest(BED)}} if arm.ranked else {}
    _complete(store, "evaluation", recipe, label, seed, parents, notes, documents, arm.hardware, arm.declared)


def _write(path: Path, found: list[QueryScore]) -> None:
    """Write scores; those that are no number, which the writer refuses, by another way."""
    write_scores(path, [one._replace(value=0.0) if math.isnan(one.value) else one for one in found])
    if any(math.isnan(one.value) for one in found):
        table = pq.read_table(path)
        values = pa.array([math.nan] * len(table))
        pq.write_table(table.set_column(table.column_names.index("value"), "value", values), path)


def _complete(
    store: ResultStore,
    kind: Any,
    recipe: Mapping[str, Any],
    label: str,
    seed: int,
    parents: tuple[str, ...],
    files: Mapping[str, str | None],
    counts: Mapping[str, Any],
    hardware: Mapping[str, Any],
    declared: str = "",
) -> Manifest:
    folder = store.folder(kind, digest(recipe))
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (folder / name).write_text(text)
    folder.mkdir(parents=True, exist_ok=True)
    return store.complete(
        kind,
        recipe,
        files=tuple(files),
        parents=parents,
        seed=seed,
        label=label,
        counts=counts,
        hardware=hardware,
        cost={},
        started="2026-01-02T00:00:00+00:00",
        declared=declared,
    )


def claim(name: str, expects: str, place: Place = NDCG, contrast: str = "b - a", **more: Any) -> dict[str, Any]:
    """Return a claim as a file of `sweeps/` holds it."""
    dataset, condition, direction, measure = place
    where = {"dataset": dataset, "condition": condition, "direction": direction, "measure": measure}
    return {"name": name, "says": "so", "contrast": contrast, **where, "expects": expects, **more}


def study_block(claims: Iterable[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """Return the block `study` of a file of `sweeps/`."""
    usual = {"question": "is b better?", "arms": ["a", "b"], "seeds": [0, 1, 2, 3, 4], "claims": list(claims)}
    return {**usual, **more}


def declare(root: Path, block: Mapping[str, Any], at: str = "2026-01-01T00:00:00+00:00", study: str = "s") -> str:
    """Store a declaration with its cells, every arm called by its first word, and return its digest."""
    built: Study = build_study(block)
    path = root / "studies" / study / f"{built.digest}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"declared_at": at, "study": declaration(built)}))
    cells = [
        DeclaredCell(label=arm.split()[0], seed=seed, arm_id=digest(arm), differs={"arm": arm})
        for seed in built.seeds
        for arm in built.arms
    ]
    return StudyRecords(ResultStore(root), study).declare(built, cells)
