"""Tuning with real trainings: the objective is the dev set's, test sets stay unread, pruning leaves a clean run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, override, run_config

from ablate.engine import stages
from ablate.engine.prepare import prepare
from ablate.engine.recorder import Recorder, Stopped
from ablate.model.distributed import ALONE
from ablate.records import UserError
from ablate.store.results import ResultStore
from ablate.tracking import read_ledger
from ablate.tuning.plan import build_plan
from ablate.tuning.trial import Watcher

TINY = (
    "+experiment=dual_view",
    "model=tiny",
    "source.documents=600",
    "budget.limit=96",
    "train.batch_size=8",
    "tracker=none",
    "runtime.threads=1",
    "runtime.progress=false",
)
MEASURE = "pairs/both/satisfying over violating"


def test_a_tuning_sweep_trains_and_never_scores_a_test_set(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "ablate.run",
        "-m",
        "+sweeps=tune",
        "+sweeps/space=temperature",
        *TINY,
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.sampler=random",
        override("runtime.results", tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0 and done.stderr == "", done.stderr
    store = ResultStore(tmp_path)
    runs = list(store.manifests("train"))
    assert {run.labels for run in runs} == {("tuning_tune/dual_view_t0",), ("tuning_tune/dual_view_t1",)}
    assert len({run.recipe["train"]["temperature"] for run in runs}) == 2
    assert list(store.manifests("evaluation")) == []
    (arm,) = json.loads((tmp_path / "tuning" / "tune" / "tuning.json").read_text()).values()
    assert set(arm["space"]) == set(arm["best"][0]["params"]) == {"train.learning_rate", "train.temperature"}
    best = f"{arm['best'][0]['values'][MEASURE]:.4f}"
    assert best in done.stdout and 0 < float(best) < 1


def test_a_pruned_training_can_be_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = ("runtime.dev_every=4", "runtime.checkpoint_every=4", override("runtime.results", tmp_path))
    run = prepare(run_config(*TINY, *places))
    monkeypatch.setattr(stages, "measure_dev", lambda run, encoder: {"dev/x": 0.5})
    seen = []

    def watch(step: int, scores: dict[str, float]) -> None:
        seen.append((step, scores["dev/x"]))
        if len(seen) == 2:
            raise Stopped("pruned at step 8")

    prepared = run.prepared(stages.make_mix(run)[0])
    workload = stages.make_workload(run, prepared)
    with pytest.raises(Stopped, match="step 8"), Recorder(run).open() as recorder:
        stages.make_model(run, prepared, workload, recorder, ALONE, watch)
    ledger = run.store.folder("train", run.identity.train_id) / "ledger.jsonl"
    assert [step for step, _ in seen] == [4, 8]
    assert list(read_ledger(ledger))[-1]["status"] == "interrupted"
    assert run.store.find("train", run.identity.train) is None
    with Recorder(run).open() as recorder:
        stages.make_model(run, prepared, workload, recorder, ALONE, watch)
    assert [step for step, _ in seen] == [4, 8, 8, 12], "the step after the last checkpoint is done again"
    assert run.store.find("train", run.identity.train) is not None


def test_an_objective_that_the_dev_set_lacks_is_named_with_what_there_is(tmp_path: Path) -> None:
    plan = build_plan(
        dict(
            study="s",
            objective=["changed/before/nDCG@10"],
            directions=[],
            params={},
            arms=[],
            n_trials=1,
            workers=1,
            max_failures=1,
            sampler="tpe",
            sampler_seed=0,
            num_startup=1,
            pruner="none",
            pruner_warmup=0,
            storage="sqlite",
        )
    )
    watcher = Watcher(plan, str(tmp_path), "s.a", 0)
    scores = {"dev/movies/dev/changed/before/nDCG@10": 0.25, "dev/movies/dev/plain/plain/nDCG@10": 0.5}
    assert watcher.values(scores) == (0.25,)
    with pytest.raises(UserError, match="has no 'changed/before/nDCG@10'; it has: plain/plain/nDCG@10"):
        watcher.values({"dev/movies/dev/plain/plain/nDCG@10": 0.5})


def test_until_dev_needs_a_dev_set() -> None:
    with pytest.raises(UserError, match="runtime.dev_set is null"):
        run_config("runtime.until=dev", "runtime.dev_set=null")
