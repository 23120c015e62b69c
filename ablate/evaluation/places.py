"""Where an evaluation set gives scores at all: known before anything is trained or searched."""

from __future__ import annotations

import numpy as np

from ablate.evaluation.scoring import score_set
from ablate.evaluation.summary import Key
from ablate.records import EvaluationSet
from ablate.retrieval.rankings import Ranking


def places(bed: EvaluationSet) -> dict[Key, list[str]]:
    """Return (dataset, condition, direction, measure) -> the units that any system has a score of there.

    It scores rankings of one document each, so what is measured is decided by the protocol alone. Raises UserError for
    a set that contradicts itself.
    """
    nothing = np.zeros(1, dtype=np.float32)
    nothing.setflags(write=False)
    rankings = []
    for query in bed.queries:
        first = bed.documents[0].doc_id if bed.candidates is None else bed.candidates[query.query_id][0]
        rankings.append(Ranking(query.query_id, (first,), nothing))
    found: dict[Key, list[str]] = {}
    for score in score_set(bed, rankings).scores:
        found.setdefault((score.dataset, score.condition, score.direction, score.measure), []).append(score.unit_id)
    return found
