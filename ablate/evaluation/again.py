"""Stored rankings scored once more by their stored judgments: what came later is measured without a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ablate.evaluation.scoring import join, score_set
from ablate.evaluation.summary import Evaluation
from ablate.records import EvaluationSet


def unranked(stored: Evaluation, sets: Mapping[str, EvaluationSet]) -> list[str]:
    """Return the data sets of which an evaluation that was read back has no rankings, so that none can be scored."""
    ranked = {dataset for dataset, _ in stored.rankings}
    return [name for name in sets if name not in ranked]


def score_again(stored: Evaluation, sets: Mapping[str, EvaluationSet]) -> Evaluation:
    """Return what the rankings of an evaluation give by the judgments that are kept with it; raises as `score_set`."""
    parts = []
    for name, bed in sets.items():
        rankings = [ranking for (dataset, _), kept in stored.rankings.items() if dataset == name for ranking in kept]
        parts.append(score_set(bed, rankings))
    return join(parts)


def completed(stored: Evaluation, sets: Mapping[str, EvaluationSet]) -> Evaluation:
    """Return an evaluation with the scores of `score_again`, and all that was said of it when it was measured."""
    again = score_again(stored, sets)
    return dataclasses.replace(
        again,
        listed={name: {**stored.listed.get(name, {}), **reasons} for name, reasons in again.listed.items()},
        counts={name: {**stored.counts.get(name, {}), **counts} for name, counts in again.counts.items()},
        warnings=tuple(dict.fromkeys((*stored.warnings, *again.warnings))),
        provenance=stored.provenance,
    )
