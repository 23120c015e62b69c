"""What of the dev set is looked at in training: a fixed part, of which no result and no tuning takes notice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import override, run_config

from ablate.engine import stages
from ablate.engine.prepare import Run, prepare
from ablate.engine.recorder import Recorder
from ablate.evaluation import sampling
from ablate.evaluation.sampling import part_of
from ablate.evaluation.scoring import evaluate, score_set
from ablate.model.distributed import ALONE
from ablate.records import EvaluationSet, Passage
from ablate.retrieval.rankings import Ranking
from ablate.store.files import LEDGER_FILE
from ablate.tracking import ledger_steps

SMALL = (
    "+experiment=dual_view",
    "model=tiny",
    "source.documents=600",
    "evaluation.sets=[test]",
    "budget.limit=32",
    "train.batch_size=8",
    "tracker=none",
    "runtime.dev_every=2",
    "runtime.threads=1",
    "runtime.device=cpu",
)


class Coin:
    """An encoder whose vectors depend on the text alone."""

    def encode_queries(self, queries, *, progress=None):
        return np.array([self._vector("".join(query)) for query in queries], np.float32)

    def encode_passages(self, passages, *, progress=None):
        return np.array([self._vector(passage.text) for passage in passages], np.float32)

    @staticmethod
    def _vector(text: str) -> list[float]:
        return [float(sum(text.encode()) % 97), float(len(text)), 1.0]


def opened(results: Path, *overrides: str) -> Run:
    return prepare(run_config(*SMALL, *overrides, override("runtime.results", results)))


def trained_with(results: Path, *overrides: str, watch: stages.Watch | None = None) -> tuple[Run, set[str]]:
    """Train a run and return the names of what was logged of the dev set."""
    run = opened(results, *overrides)
    prepared = run.prepared(stages.make_mix(run)[0])
    workload = stages.make_workload(run, prepared)
    with Recorder(run).open() as recorder:
        stages.make_model(run, prepared, workload, recorder, ALONE, watch)
    steps = ledger_steps(run.store.folder("train", run.identity.train_id) / LEDGER_FILE)
    return run, {name.partition("/")[0] for values in steps.values() for name in values if "/" in name}


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> EvaluationSet:
    return opened(tmp_path_factory.mktemp("dev")).evaluation_set("dev")


def test_a_part_holds_whole_base_queries_and_what_they_need(
    dev: EvaluationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "FEWEST_DOCUMENTS", 60)
    part = part_of(dev, 2)
    bases = {query.base_id for query in part.queries}
    assert len(bases) == 2
    assert part.queries == tuple(query for query in dev.queries if query.base_id in bases)
    needed = {doc_id for grades in part.qrels.values() for doc_id in grades}
    doc_ids = [passage.doc_id for passage in part.documents]
    assert needed < set(doc_ids) and len(doc_ids) == 60 < len(dev.documents)
    assert part.documents == tuple(passage for passage in dev.documents if passage.doc_id in set(doc_ids))
    names = {(score.condition, score.direction, score.measure) for score in evaluate(Coin(), [dev], depth=100).scores}
    of_part = evaluate(Coin(), [part], depth=100).scores
    assert {(score.condition, score.direction, score.measure) for score in of_part} == names


def test_a_part_is_fixed_and_grows(dev: EvaluationSet) -> None:
    turned = dataclasses.replace(dev, documents=dev.documents[::-1], queries=dev.queries[::-1])
    assert set(part_of(turned, 5).queries) == set(part_of(dev, 5).queries)
    assert set(part_of(turned, 5).documents) == set(part_of(dev, 5).documents)
    assert set(part_of(dev, 5).queries) < set(part_of(dev, 6).queries)
    assert set(part_of(dataclasses.replace(dev, name="other"), 5).queries) != set(part_of(dev, 5).queries)
    assert part_of(dev, len(dev.queries)) is dev


def test_of_a_set_with_candidates_the_lists_stay_whole(dev: EvaluationSet) -> None:
    doc_ids = [passage.doc_id for passage in dev.documents]
    lists = {query.query_id: (*dev.qrels[query.query_id], *doc_ids[:3]) for query in dev.queries}
    part = part_of(dataclasses.replace(dev, candidates={q: tuple(dict.fromkeys(ids)) for q, ids in lists.items()}), 4)
    assert part.candidates is not None and set(part.candidates) == {query.query_id for query in part.queries}
    in_lists = {doc_id for own in part.candidates.values() for doc_id in own}
    assert {passage.doc_id for passage in part.documents} == in_lists
    assert evaluate(Coin(), [part], depth=100).scores


def test_only_judged_queries_are_drawn_and_the_plain_query_of_another_base_comes_along(dev: EvaluationSet) -> None:
    one, other, *_ = dict.fromkeys(query.base_id for query in dev.queries)
    came_along = []
    for narrowed, broad in ((one, other), (other, one)):
        judged = {query.query_id for query in dev.queries if query.base_id in (narrowed, broad)}
        plain = next(q.query_id for q in dev.queries if q.base_id == broad and q.condition == "plain")
        qrels = {query_id: grades for query_id, grades in dev.qrels.items() if query_id in judged}
        part = part_of(dataclasses.replace(dev, qrels=qrels, plain_of={narrowed: plain}), 1)
        drawn = {query.base_id for query in part.queries if query.query_id != plain}
        assert len(drawn) == 1 and drawn < {one, other}
        rankings = [Ranking(query.query_id, (), np.empty(0, np.float32)) for query in part.queries]
        assert score_set(part, rankings).scores
        came_along += [plain in {query.query_id for query in part.queries}] if drawn == {narrowed} else []
    assert came_along == [True], "the same base query is drawn in both turns, so it is the narrowed one in one of them"


def test_looking_at_a_part_moves_no_weight_and_is_called_a_part(tmp_path: Path) -> None:
    run, names = trained_with(tmp_path / "part", "runtime.dev_queries=4")
    whole, names_of_whole = trained_with(tmp_path / "whole", "runtime.dev_queries=null")
    none, _ = trained_with(tmp_path / "none", "runtime.dev_set=null")
    assert (names, names_of_whole) == ({"dev_part"}, {"dev"})
    manifests = [each.store.find("train", each.identity.train) for each in (run, whole, none)]
    weights = [manifest.content_sha256["model/model.safetensors"] for manifest in manifests if manifest is not None]
    assert len(weights) == 3 and len(set(weights)) == 1
    assert run.identity == whole.identity


def test_a_watcher_and_the_last_stage_dev_see_the_whole_dev_set(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    run, names = trained_with(tmp_path, "runtime.dev_queries=4", watch=lambda step, scores: seen.append(scores))
    assert names == {"dev"} and len(seen) == 2
    at_end = stages.measure_dev(run, stages.trained(run))
    assert at_end == seen[-1] and len(at_end) > 5
    assert len(run.dev_part.queries) < len(run.evaluation_set("dev").queries)


def test_documents_beyond_the_judged_are_few(dev: EvaluationSet) -> None:
    more = tuple(Passage(f"more-{number}", "a text that nobody judged") for number in range(1000))
    part = part_of(dataclasses.replace(dev, documents=(*dev.documents, *more)), 3)
    needed = {doc_id for grades in part.qrels.values() for doc_id in grades}
    assert len(needed) < sampling.FEWEST_DOCUMENTS == len(part.documents)
