"""The texts of the documents that a study was measured on: its sources are opened where the runs found them.

Judgments are kept with the scores, documents are not: they are read again, and only if the source is as it was.
"""

from __future__ import annotations

from collections.abc import Mapping

from ablate.data.sources import open_sets
from ablate.recipe.build import build
from ablate.recipe.schema import MtebSource, Recipe
from ablate.records import EvaluationSet, UserError
from ablate.store.files import CONFIG_FILE
from ablate.store.integrity import read_json
from analysis.study.evidence import Evidence
from analysis.study.runs import ArmRun


def has_texts(bed: EvaluationSet) -> bool:
    """Return whether a set has the texts of its documents."""
    return any(passage.text or passage.title for passage in bed.documents)


def with_documents(
    evidence: Evidence, run: ArmRun, judged: Mapping[str, EvaluationSet], remarks: list[str]
) -> dict[str, EvaluationSet]:
    """Return the sets of a run with the texts of their documents, of its source as it was; else add a remark on why.

    `judged`: data set -> its judgments as they are kept.
    """
    try:
        sets = _opened_sets(evidence, run)
        there = {bed.name: bed for bed in sets}
        lacking = [name for name in judged if name not in there]
        if lacking:
            raise UserError(f"the source has no {lacking[0]}")
        return {name: there[name] for name in judged}
    except UserError as error:
        remarks.append(f"the documents of {', '.join(judged)} cannot be read: {error}")
        return {}


def _opened_sets(evidence: Evidence, run: ArmRun) -> list[EvaluationSet]:
    store = evidence.store
    if run.train is None or run.mix is None:
        raise UserError(f"{run.arm} was not trained here, so its source is not recorded")
    values = read_json(store.checked(run.train, CONFIG_FILE), store.remedy(run.train))
    recipe = build(Recipe, values["recipe"] if isinstance(values, dict) and "recipe" in values else values)
    source = recipe.evaluation.source or recipe.source
    if isinstance(source, MtebSource):
        raise UserError("official benchmarks are opened by mteb, which analysis does not load")
    beds = open_sets(source, recipe.evaluation.sets, store.cache)
    recorded = (run.evaluation.recipe["evaluation"].get("source") or run.mix.recipe["source"]).get("revision")
    if beds.revision != recorded:
        where = getattr(source, "path", None) or source.kind
        raise UserError(f"the source {where} is not as it was ({beds.revision[:12]}, recorded is {str(recorded)[:12]})")
    return [beds.evaluation_set(name) for name in recipe.evaluation.sets]
