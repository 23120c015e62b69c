"""Entry point: one run = one arm x one seed. Configuration -> mix -> train -> evaluate -> record.

    python -m ablate.run +experiment=dual_view seed=1
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: a busy neighbour then costs nothing
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ablate.config import Recipe, RunConfig, build_run
from ablate.records import UserError
from ablate.results import disk_trouble

if TYPE_CHECKING:
    from ablate.model.distributed import World
    from ablate.stages import Run, Watch

ROOT = Path(__file__).resolve().parent.parent


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="config")
def main(values: DictConfig) -> float | tuple[float, ...] | None:
    """Run what the command line describes; mistakes end with one line and exit code 2; a trial's go to its sweeper."""
    if "trial" in values:
        return tried(values)
    try:
        refuse_shared_multirun()
        execute(strict(values), baseline(values))
    except UserError as error:
        _stop(f"error: {error}")
    except OSError as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        _stop(f"error: {trouble}")
    return None


def tried(values: DictConfig) -> float | tuple[float, ...]:
    """Run one trial of the sweeper `ablate_optuna` and return its objective on the dev set (docs/tuning.md)."""
    import optuna

    from ablate.stages import Stopped
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


def execute(config: RunConfig, compared_with: Recipe | None = None, watch: Watch | None = None) -> dict[str, float]:
    """Make every stage of a run that is not there yet, and show what it is and what came out.

    Returns the means on the dev set under `runtime.until=dev`, else nothing. `watch`: see `stages.make_model`.
    """
    from ablate import stages

    run = stages.prepare(config)
    with stages.processes(run) as world:
        if world.leads:
            return lead(run, world, compared_with, watch)
        stages.follow(run, world)
    return {}


def lead(run: Run, world: World, compared_with: Recipe | None, watch: Watch | None) -> dict[str, float]:
    """Do all the work of a run; of several processes on one run, all but the others' share of the training."""
    from ablate import display, stages

    ranker, until = run.config.recipe.ranker, run.config.runtime.until
    display.show_run(run, compared_with)
    if ranker != "trained":
        if until == "scores":
            display.show_baseline(run, stages.make_scores(run, ranker)[0])
        return {}
    with stages.whole_run_lock(run), stages.Recorder(run).open() as recorder:
        mix, mix_manifest = stages.make_mix(run)
        workload = stages.make_workload(run, mix)
        display.show_card(run, mix_manifest, workload, compared_with)
        if until == "mix":
            return {}
        train_manifest = stages.make_model(run, mix, workload, recorder, world, watch)
        display.show_training(run, train_manifest)
        if until == "dev":
            on_dev = stages.measure_dev(run, stages.trained(run).to(run.device))
            if watch is None:
                display.show_dev(on_dev)
            return on_dev
        untouched, _ = stages.make_scores(run, "untouched")
        scores, _ = stages.make_scores(run, "trained", recorder)
    display.show_scores(run, scores, untouched)
    return {}


def refuse_shared_multirun() -> None:
    """Raise UserError when torchrun started several processes on one multirun: each would run all of its runs."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if HydraConfig.get().mode == RunMode.MULTIRUN and processes != "1":
        raise UserError(
            f"torchrun started {processes} processes and each of them would go through every run of this multirun; "
            f"use torchrun for one run (without -m), and a launcher (hydra/launcher=joblib, …) for many runs"
        )


def strict(values: DictConfig) -> RunConfig:
    """Return the frozen configuration of a composed one; raises UserError with the path of what is wrong."""
    try:
        return build_run(OmegaConf.to_container(values, resolve=True, throw_on_missing=True))  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'configuration'}: {error.msg or error}") from error


def baseline(values: DictConfig) -> Recipe | None:
    """Return the recipe of the arm that `runtime.baseline` names, or None.

    It is composed under the same overrides but for those of factors, which are what tells arms apart.
    """
    name = OmegaConf.select(values, "runtime.baseline")
    if name is None:
        return None
    given = HydraConfig.get().overrides.task
    overrides = [item for item in given if not re.match(r"[+~]*(experiment|factors)\b", item)]
    try:
        composed = hydra.compose("config", [f"+experiment={name}", *overrides])
    except HydraException as error:
        known = ", ".join(sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")))
        raise UserError(f"runtime.baseline={name!r} is no arm in conf/experiment/; known: {known}") from error
    return strict(composed).recipe


failed: list[str] = []
"""Messages of the runs of a multirun that failed; the other runs go on, and the exit code tells."""


def _stop(message: str) -> None:
    """Print one line about a run that cannot go on; a single run ends, a multirun goes on with the next one."""
    message = " ".join(message.split())
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        failed.append(message)
        message = f"run {HydraConfig.get().job.num} ({HydraConfig.get().job.override_dirname}): {message}"
    print(message, file=sys.stderr)
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        raise SystemExit(2)


if __name__ == "__main__":
    main()
    sys.exit(2 if failed else 0)
