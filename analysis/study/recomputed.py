"""The scores of a study once more, from the stored rankings and judgments, without a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ablate.evaluation.again import score_again, unranked
from ablate.evaluation.measures import INSTRUCTION_GAIN
from ablate.evaluation.storage import read_evaluation, read_judgments
from ablate.evaluation.summary import Evaluation
from ablate.recipe.identity import SCORING, scoring_of
from ablate.records import QueryScore, UserError
from ablate.store.files import JUDGMENTS_FILE
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore
from analysis.study.evidence import Evidence
from analysis.study.scores import Scores, scores_of

NEAR = 1e-12
"""Two values that are no further apart count as one; how many are not equal to the last bit is said."""


class NotKept(UserError):
    """What scores are computed from was not kept with them."""


@dataclass(frozen=True)
class Rescored:
    """An evaluation as it is stored, and what its own rankings and judgments give."""

    stored: Evaluation
    again: Evaluation
    """Of an evaluation that was scored before there was an instruction gain, without it."""
    num_new: int
    """Instruction gains that its rankings give and that it was scored before."""


def rescored(store: ResultStore, manifest: Manifest) -> Rescored:
    """Score the stored rankings of an evaluation by its stored judgments.

    Raises NotKept for an evaluation without its judgments or rankings, UserError for files that are damaged.
    """
    folder = store.whole(manifest)
    if JUDGMENTS_FILE not in manifest.content_sha256:
        raise NotKept("it was made before judgments were kept, so nothing can be scored again")
    sets, stored = read_judgments(folder), read_evaluation(folder, with_rankings=True)
    lacking = unranked(stored, sets)
    if lacking:
        raise NotKept(f"no rankings on {', '.join(lacking)} were kept, so nothing can be scored again")
    again = score_again(stored, sets)
    if scoring_of(manifest.recipe) >= SCORING:
        return Rescored(stored, again, 0)
    known = tuple(score for score in again.scores if score.measure != INSTRUCTION_GAIN)
    return Rescored(stored, dataclasses.replace(again, scores=known), len(again.scores) - len(known))


def _by_unit(evaluation: Evaluation) -> dict[tuple[str, ...], float]:
    return {score[:-1]: score.value for score in evaluation.scores}


def disagreement(both: Rescored) -> str:
    """Return in which scores an evaluation is not what its rankings and judgments give, in words, or nothing."""
    stored, again = _by_unit(both.stored), _by_unit(both.again)
    if len(stored) < len(both.stored.scores):
        return f"{len(both.stored.scores) - len(stored):,} scores are there twice"
    parts = []
    unequal = [unit for unit, value in stored.items() if unit in again and not _is_near(value, again[unit])]
    if unequal:
        unit = unequal[0]
        values = f"{_place(unit)} is {stored[unit]!r} and gives {again[unit]!r}"
        parts.append(f"{len(unequal):,} of {len(stored):,} scores are not what rankings and judgments give ({values})")
    for units, others, words in (
        (stored, again, "scores that rankings and judgments do not give"),
        (again, stored, "scores are missing that rankings and judgments give"),
    ):
        lone = [unit for unit in units if unit not in others]
        if lone:
            parts.append(f"{len(lone):,} {words} ({_place(lone[0])})")
    if both.stored.candidates != both.again.candidates:
        parts.append("the recorded digest of the candidate documents is not that of the stored lists")
    return "; ".join(parts)


def num_inexact(both: Rescored) -> int:
    """Return how many scores are not equal to the last bit."""
    again = _by_unit(both.again)
    return sum(value != again.get(unit) for unit, value in _by_unit(both.stored).items())


def _is_near(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=0, abs_tol=NEAR)


def _place(unit: tuple[str, ...]) -> str:
    dataset, condition, direction, unit_id, measure = unit
    posed = condition if direction in ("", condition) else f"{condition}: {direction}"
    return f"{measure} of {unit_id} on {dataset} ({posed})"


class RecomputedEvidence(Evidence):
    """The evidence of a study with other scores: those that rankings and judgments give.

    `again`: id of an evaluation -> its scores; asking for those of another one raises UserError.
    """

    def __init__(self, results: str | Path, study: str, again: Mapping[str, tuple[QueryScore, ...]]) -> None:
        super().__init__(results, study)
        self._again = {evaluation: scores_of(scores) for evaluation, scores in again.items()}

    def _scored(self, evaluation: Manifest) -> Scores:
        """Return the recomputed scores of a run."""
        if evaluation.id not in self._again:
            raise UserError(f"the scores of {', '.join(evaluation.labels)} seed {evaluation.seed} were not recomputed")
        return self._again[evaluation.id]
