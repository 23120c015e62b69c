"""Rankings made elsewhere, scored as a study's own are and kept beside them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ablate.evaluation.scoring import join, score_set
from ablate.evaluation.storage import judgments_digest, read_judgments, write_evaluation
from ablate.evaluation.summary import Evaluation
from ablate.recipe.identity import SCORING, without_scoring
from ablate.recipe.values import digest
from ablate.records import EvaluationSet, UserError
from ablate.retrieval.rankings import Ranking, rank
from ablate.store.files import JUDGMENTS_FILE
from ablate.store.integrity import sha256_of
from ablate.store.manifest import Manifest, is_deterministic
from ablate.store.provenance import now
from ablate.store.results import ResultStore, stage_label
from analysis.external.scored import count_ties, read_finite_run

SHOWN = 3
"""Ids that a message names before it counts the others."""


@dataclass(frozen=True)
class Beds:
    """What every evaluation of a study was scored by."""

    sets: Mapping[str, EvaluationSet]
    depth: int


@dataclass(frozen=True)
class Imported:
    """One seed of an imported arm."""

    manifest: Manifest
    evaluation: Evaluation | None
    """None when it was there already."""
    notes: tuple[str, ...]


def study_beds(store: ResultStore, study: str) -> Beds:
    """Return the evaluation sets of a study and the depth of its rankings.

    Raises UserError when two of its evaluations differ in a set or in depth, or none of them keeps its judgments.
    """
    manifests = {manifest.id: manifest for manifest in store.by_arm("evaluation", study).values()}
    agreed: dict[tuple[str, str], tuple[Any, str]] = {}

    def agree(what: str, name: str, value: Any, stage_id: str) -> None:
        before, where = agreed.setdefault((what, name), (value, stage_id))
        if before != value:
            raise UserError(
                f"study {study!r}: the evaluations {where} and {stage_id} differ in {what}{name}; import into a study "
                f"whose arms were all measured alike"
            )

    sets: dict[str, EvaluationSet] = {}
    files: set[tuple[Any, ...]] = set()
    for manifest in manifests.values():
        names = manifest.dataset_names(study)
        agree("the depth of their rankings", "", manifest.recipe["evaluation"]["depth"], manifest.id)
        for name, candidates in manifest.counts["candidates"].items():
            agree("the documents of ", names.get(name, name), candidates, manifest.id)
        content = manifest.content_sha256.get(JUDGMENTS_FILE)
        if content is None or (content, *names.items()) in files:
            continue
        files.add((content, *names.items()))
        for recorded, bed in read_judgments(store.checked(manifest, JUDGMENTS_FILE).parent).items():
            name = names.get(recorded, recorded)
            sets[name] = dataclasses.replace(bed, name=name, provenance={})  # how it was posed to a model of ours
            agree("the judgments of ", name, judgments_digest(sets[name]), manifest.id)
    without = sorted({name for what, name in agreed if what == "the documents of "} - set(sets))
    if without:
        raise UserError(
            f"study {study!r}: no evaluation keeps the judgments of {without[0]!r}, because all were made before they "
            f"were kept; run a cheap arm with the overrides of the others: python -m ablate.run +experiment=bm25 "
            f"runtime.study={study}"
        )
    return Beds(sets, next(iter(manifests.values())).recipe["evaluation"]["depth"])


def import_runs(
    store: ResultStore,
    study: str,
    name: str,
    runs: Mapping[int | None, Mapping[str, Sequence[Path]]],
    beds: Beds,
) -> dict[int | None, Imported]:
    """Score run files (seed -> dataset -> its files) as an arm and record them, None for an arm without a seed.

    Nothing is recorded before all seeds are read and scored. Raises UserError for a document that the set does not
    have, files without any of its queries, a query in two files, another content or kind under a name and seed that the
    study already has, and a content that it has under another seed.
    """
    recipes = {number: _recipe(name, number, files, beds) for number, files in runs.items()}
    _check_other_seeds({number: recipe["content"] for number, recipe in recipes.items()})
    for number, recipe in recipes.items():
        _check_free(store, study, name, number, recipe)
    scored = {number: _scored(store, name, recipe, runs[number], beds) for number, recipe in recipes.items()}
    return {
        number: _record(store, study, name, number, recipes[number], runs[number], scored[number]) for number in runs
    }


class _Scored(NamedTuple):
    evaluation: Evaluation | None
    """None when it is recorded already."""
    notes: tuple[str, ...]
    wall_s: float
    started: str


def _scored(
    store: ResultStore, name: str, recipe: Mapping[str, Any], files: Mapping[str, Sequence[Path]], beds: Beds
) -> _Scored:
    notes = [f"{dataset}: no run file; {name} has no scores there" for dataset in beds.sets if dataset not in files]
    started, clock = now(), time.monotonic()
    if store.find("evaluation", recipe) is not None:
        return _Scored(None, tuple(notes), 0.0, started)
    parts = []
    for dataset, paths in files.items():
        rankings, words = _read(beds.sets[dataset], paths, beds.depth)
        parts.append(score_set(beds.sets[dataset], rankings, depth=beds.depth))
        notes += words
    return _Scored(join(parts), tuple(notes), time.monotonic() - clock, started)


def _record(
    store: ResultStore,
    study: str,
    name: str,
    seed: int | None,
    recipe: Mapping[str, Any],
    files: Mapping[str, Sequence[Path]],
    scored: _Scored,
) -> Imported:
    label, evaluation = stage_label(study, name), scored.evaluation
    if evaluation is not None:
        with store.making("evaluation", recipe) as folder:
            if folder is not None:
                store.complete(
                    "evaluation",
                    recipe,
                    files=write_evaluation(folder, evaluation),
                    parents=(),
                    seed=seed or 0,
                    label=label,
                    counts={
                        "scores": len(evaluation.scores),
                        "candidates": evaluation.candidates,
                        "imported_from": {dataset: [str(path) for path in paths] for dataset, paths in files.items()},
                        "notes": list(scored.notes),
                    },
                    hardware={},
                    cost={"wall_s": scored.wall_s},
                    started=scored.started,
                )
    store.add_label("evaluation", digest(recipe), label)
    manifest = store.find("evaluation", recipe)
    assert manifest is not None
    return Imported(manifest, evaluation, scored.notes)


def _recipe(name: str, seed: int | None, files: Mapping[str, Sequence[Path]], beds: Beds) -> dict[str, Any]:
    return {
        "stage": "imported",
        "name": name,
        "content": {dataset: [sha256_of(path) for path in paths] for dataset, paths in sorted(files.items())},
        "evaluation": {
            "depth": beds.depth,
            "judgments": {dataset: judgments_digest(beds.sets[dataset]) for dataset in sorted(files)},
        },
        **({} if seed is None else {"seed": seed}),
        "scoring": SCORING,
    }


def _check_free(store: ResultStore, study: str, name: str, seed: int | None, recipe: Mapping[str, Any]) -> None:
    """Refuse a name and seed that the study has with another content, and a mixture of arms with and without seeds.

    Refuses a content, too, that the arm has under another seed.
    """
    for (arm, other_seed), manifest in store.by_arm("evaluation", study).items():
        if arm != name or digest(without_scoring(manifest.recipe)) == digest(without_scoring(recipe)):
            continue
        if manifest.recipe["stage"] != "imported":
            raise UserError(f"study {study!r} has an arm {name!r} that was run here; import under another --name")
        before = None if is_deterministic(manifest) else other_seed
        if before == seed:
            trouble = "from other files or for other judgments"
        elif before is None or seed is None:
            trouble = "as deterministic" if before is None else f"with seed {before}"
        else:
            _check_other_seeds({other_seed: manifest.recipe["content"], seed: recipe["content"]})
            continue
        asked = "" if seed is None else f" (asked for: seed {seed})"
        where = store.folder("evaluation", manifest.id)
        raise UserError(
            f"study {study!r} has {name!r}{asked} imported {trouble}; use another --name, or delete {where} and import "
            f"all its files in one command"
        )


def _check_other_seeds(contents: Mapping[int | None, Mapping[str, Sequence[str]]]) -> None:
    """Refuse files that stand for two training seeds (seed -> dataset -> digests): no variance can come from them."""
    known: dict[tuple[str, str], int | None] = {}
    for number, datasets in contents.items():
        for dataset, digests in datasets.items():
            for content in digests:
                first = known.setdefault((dataset, content), number)
                if first != number:
                    raise UserError(
                        f"the same run file of {dataset} is given for seeds {first} and {number}, as if training again "
                        "changed nothing; give each seed its own files, and a system without training randomness once, "
                        "by --deterministic"
                    )


def _read(bed: EvaluationSet, paths: Sequence[Path], depth: int) -> tuple[list[Ranking], list[str]]:
    """Return the rankings of a set from its files, cut to the study's depth, and what a reader must know."""
    documents = {passage.doc_id for passage in bed.documents}
    known = {query.query_id for query in bed.queries}
    rankings: dict[str, Ranking] = {}
    origin: dict[str, Path] = {}
    unknown: list[str] = []
    num_cut = 0
    for path in paths:
        for query_id, ranking in read_finite_run(path).items():
            if query_id not in known:
                unknown.append(query_id)
                continue
            for doc_id in ranking.doc_ids:
                if doc_id not in documents:
                    raise UserError(
                        f"{path}: query {query_id!r}: document {doc_id!r} is not among the {len(documents):,} "
                        f"documents of {bed.name}; rank exactly those of the study's evaluation set"
                    )
            if query_id in origin:
                raise UserError(f"{path}: query {query_id!r} is also in {origin[query_id]}; keep one ranking of it")
            origin[query_id] = path
            if len(ranking) > depth:
                num_cut += 1
                ranking = rank(query_id, ranking.doc_ids[:depth], ranking.scores[:depth])
            rankings[query_id] = ranking
    if not rankings:
        raise UserError(
            f"{', '.join(map(str, paths))}: none of the {len(known):,} queries of {bed.name} is there (they are "
            f"{_some(sorted(known))}; the file has {_some(unknown)}); name the data set that the file ranks"
        )
    missing = [query.query_id for query in bed.queries if query.query_id not in rankings]
    unequal = len({len(ranking) for ranking in rankings.values()}) > 1
    full = [
        min(depth, len(documents) if bed.candidates is None else len(bed.candidates[query_id])) for query_id in rankings
    ]
    num_short = sum(len(ranking) < size for ranking, size in zip(rankings.values(), full, strict=True))
    num_constant = sum(len(ranking) > 1 and ranking.scores[0] == ranking.scores[-1] for ranking in rankings.values())
    ties = count_ties(rankings)
    words = [
        (missing, f"{len(missing):,} of {len(known):,} queries have no ranking and score 0: {_some(missing)}"),
        (unknown, f"{len(unknown):,} queries of the file are not in the set and are ignored: {_some(unknown)}"),
        (num_cut, f"{num_cut:,} rankings were cut to the study's depth of {depth:,}"),
        (
            num_short,
            f"{num_short:,} of {len(rankings):,} rankings are shorter than the study's (the shortest has "
            f"{min(map(len, rankings.values())):,} of {max(full):,} documents); what is outside counts as not "
            "found",
        ),
        (
            num_constant,
            f"{num_constant:,} of {len(rankings):,} rankings have one score for all documents: their ids alone decide",
        ),
        (
            ties["documents"],
            f"{ties['documents']:,} of {ties['of_documents']:,} documents "
            f"({ties['documents'] / max(ties['of_documents'], 1):.0%}) in {ties['queries']:,} rankings "
            "share their score (float32) with another; their ids decide, descending as strings",
        ),
        (unequal, "the rankings have unlike lengths, so documents outside of them seem to move in p-MRR"),
    ]
    return list(rankings.values()), [f"{bed.name}: {text}" for holds, text in words if holds]


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:SHOWN])
    return f"{shown} and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else shown or "none"


def by_dataset(given: Sequence[str], beds: Beds) -> dict[str, list[Path]]:
    """Take `DATASET=FILE` words apart; raises UserError naming the data sets of the study."""
    files: dict[str, list[Path]] = {}
    known = ", ".join(sorted(beds.sets))
    for text in given:
        dataset = next((name for name in sorted(beds.sets, key=len, reverse=True) if text.startswith(f"{name}=")), None)
        path = "" if dataset is None else text[len(dataset) + 1 :]
        if dataset is None or not path:
            raise UserError(f"{text!r} must be DATASET=FILE with a data set of the study: {known}")
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; check the path")
        files.setdefault(dataset, []).append(Path(path))
    return files
