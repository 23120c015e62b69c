"""Entry point: one run = one arm x one seed. Configuration -> mix -> train -> evaluate -> record.

python -m ablate.run +experiment=dual_view seed=1
python -m ablate.run -m +sweeps=dual_view               a study: many runs, planned and resumed by the sweeper
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: a busy neighbour then costs nothing
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from ablate.cli.explain import explained
from ablate.cli.interrupts import told_by_exit_code
from ablate.compose import baseline, declared, strict
from ablate.project import CONF
from ablate.recipe.schema import Recipe, RunConfig
from ablate.terminal import one_line, safe_output
from ablate.timing import recorded, staged, timed

if TYPE_CHECKING:
    from ablate.engine.prepare import Run
    from ablate.engine.stages import Watch
    from ablate.model.distributed import World

COLLECT_AFTER = 20_000
"""New objects between two searches for garbage in cycles; at Python's 700 they take a fifth of the time of imports."""


@explained
@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(values: DictConfig) -> float | tuple[float, ...] | None:
    """Run what the command line describes; mistakes end with one line and exit code 2; a trial's go to its sweeper."""
    from ablate.study import running

    if "trial" in values and HydraConfig.get().mode == RunMode.MULTIRUN:  # else it is a key like any unknown one
        return tried(values)
    try:
        with told_by_exit_code((signal.SIGTERM, signal.SIGHUP)):  # in a worker of a launcher
            config = strict(values)
            execute(config, baseline(values), declared(values, config.seed))
    except Exception as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # the sweeper tells, and the other runs go on
            raise running.keep_failure(values.runtime, values.seed, error) from error
        message = running.user_message(error)
        if message is None:
            raise
        print(f"error: {one_line(message)}", file=sys.stderr)
        raise SystemExit(2) from None
    return None


def tried(values: DictConfig) -> float | tuple[float, ...]:
    """Run one trial of the sweeper `ablate_optuna` and return its objective on the dev set (docs/tuning.md)."""
    import optuna

    from ablate.engine.recorder import Stopped
    from ablate.tuning.plan import build_plan
    from ablate.tuning.trial import Watcher

    plan = build_plan(OmegaConf.to_container(HydraConfig.get().sweeper, resolve=True))  # type: ignore[arg-type]
    with open_dict(values):
        trial = values.pop("trial")
    config = strict(values)
    try:
        with Watcher(plan, config.runtime.results, trial.study, trial.number) as watcher:
            objective = watcher.values(execute(config, watch=watcher))
    except Stopped as error:
        raise optuna.TrialPruned(str(error)) from None
    return objective if len(objective) > 1 else objective[0]


def execute(
    config: RunConfig, compared_with: Recipe | None = None, declared: str = "", watch: Watch | None = None
) -> dict[str, float]:
    """Make every stage of a run that is not there yet, and show what it is and what came out.

    Returns the means on the dev set under `runtime.until=dev`, else nothing. `watch`: see `stages.make_model`.
    """
    gc.set_threshold(COLLECT_AFTER)
    with recorded(config.runtime.profile and not config.runtime.plan_only) as recording:
        with timed("imports"):
            from ablate.engine import display, profiling, stages
            from ablate.engine.prepare import prepare

        run = prepare(config, declared=declared)
        if config.runtime.plan_only:
            display.show_plan(run)
            return {}
        profiling.follow_device(recording, run)
        with safe_output(errors=False), stages.processes(run) as world:
            if world.leads:
                on_dev = lead(run, world, compared_with, watch)
                profiling.tell(recording, run)
                return on_dev
            stages.follow(run, world)
    return {}


def lead(run: Run, world: World, compared_with: Recipe | None, watch: Watch | None) -> dict[str, float]:
    """Do all the work of a run; of several processes on one run, all but the others' share of the training."""
    from ablate.engine import display, stages
    from ablate.engine.recorder import Recorder

    ranker, until = run.config.recipe.ranker, run.config.runtime.until
    display.show_run(run, compared_with)
    if ranker != "trained":
        if until == "scores":
            with staged(ranker):
                display.show_baseline(run, stages.make_scores(run, ranker)[0])
        return {}
    lock = contextlib.nullcontext() if run.is_complete else stages.whole_run_lock(run)
    with lock, Recorder(run).open() as recorder:
        stages.check_model(run)
        mix, mix_manifest = stages.make_mix(run)
        prepared = run.prepared(mix)
        workload = stages.make_workload(run, prepared)
        display.show_card(run, mix_manifest, workload, compared_with)
        display.show_findings(stages.look_at_data(run, mix))
        if until == "mix":
            return {}
        train_manifest = stages.make_model(run, prepared, workload, recorder, world, watch)
        del mix, prepared  # tokens and texts are not needed beside the vectors of the evaluation sets
        display.show_training(run, train_manifest)
        if until == "dev":
            with staged("dev set"):
                on_dev = stages.measure_dev(run, stages.trained(run))
            if watch is None:
                display.show_dev(on_dev)
            return on_dev
        scores = {}
        for name in stages.in_turn(run):
            with staged(name):
                scores[name], _ = stages.make_scores(run, name, recorder if name == "trained" else None)
    display.show_scores(run, scores["trained"], scores["untouched"])
    return {}


if __name__ == "__main__":
    with told_by_exit_code():
        main()
