"""Hydra's sweeper `ablate_optuna`: hyper-parameters tuned on the dev set with any launcher (docs/tuning.md).

No future import of annotations here: Hydra executes plugins outside `sys.modules`, where dataclasses cannot resolve
them. Optuna is loaded by a sweep only, since Hydra loads every plugin at every start.
"""

import os
import sys
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf


@dataclass
class AblateOptunaConf:
    """Fields and defaults; what they mean and which values are allowed: `ablate.tuning.plan.Plan`."""

    _target_: str = "hydra_plugins.ablate_optuna.AblateOptuna"
    study: str = "tuning"
    objective: list[str] = field(default_factory=lambda: ["pairs/both/satisfying over violating"])
    directions: list[str] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    arms: list[str] = field(default_factory=list)
    n_trials: int = 20
    workers: int = 1
    max_failures: int = 3
    sampler: str = "tpe"
    sampler_seed: int = 0
    num_startup: int = 10
    pruner: str = "none"
    pruner_warmup: int = 0
    storage: str = "sqlite"


ConfigStore.instance().store(group="hydra/sweeper", name="ablate_optuna", node=AblateOptunaConf, provider="ablate")


class AblateOptuna(Sweeper):
    """Asks Optuna for one trial at a time, runs it as a job of the launcher, and tells what came of it."""

    def __init__(self, **values: Any) -> None:
        """Values are read in `setup`, before interpolations are resolved."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep what is needed to compose and launch jobs."""
        self.config: Any = config
        self.context = hydra_context
        self.launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that the study lacks; a mistake, and too many failures, end with one line and exit code 2."""
        from ablate.records import UserError
        from ablate.terminal import one_line

        try:
            self._sweep(arguments)
        except UserError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise SystemExit(2) from None

    def _sweep(self, arguments: list[str]) -> None:
        from ablate.records import UserError
        from ablate.tuning.plan import build_plan, check_no_secret
        from ablate.tuning.record import format_plan, write_record
        from ablate.tuning.space import parse
        from ablate.tuning.sweep import close_arms, look_at_arms, num_trials, open_arms, run_trials, sweep_lock

        if "LOCAL_RANK" in os.environ:
            raise UserError(
                "LOCAL_RANK is set: a process of a distributed training must not sweep; start the sweep outside of it"
            )
        settings: Any = self.config.hydra.sweeper
        raw: Any = OmegaConf.to_container(settings, resolve=False)
        check_no_secret(raw["storage"])
        values: Any = OmegaConf.to_container(settings, resolve=True)
        plan = build_plan(values)
        if plan.workers > 1 and type(self.launcher).__name__ == "BasicLauncher":
            raise UserError(
                f"hydra.sweeper.workers={plan.workers} needs a launcher with processes of its own: add "
                f"hydra/launcher=joblib or hydra/launcher=submitit_local"
            )
        dimensions, fixed = parse(plan.params, arguments)
        num_trials(plan, dimensions)  # a grid that does not fit is refused before anything is made
        arms = [self._arm(spec, plan, dimensions, fixed) for spec in plan.arms or ("",)]
        names = [arm.name for arm in arms]
        if len(set(names)) < len(names):
            raise UserError(f"hydra.sweeper.arms: {names} are names (runtime.label) that do not tell the arms apart")
        folder = plan.folder(self.config.runtime.results)
        if self.config.runtime.plan_only:
            looked_at = look_at_arms(plan, arms, dimensions, folder)
            print(format_plan(plan, looked_at, folder))
            close_arms(looked_at)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with sweep_lock(folder):
            opened = open_arms(plan, arms, dimensions, folder)
            self._warm_up(plan.workers)
            try:
                failures = run_trials(plan, opened, lambda overrides, number: self._launch(plan, overrides, number))
            finally:
                winners = write_record(plan, opened, folder)
                close_arms(opened)
        for path in winners:
            print(f"winner: {path}")
        if len(failures) >= plan.max_failures:
            raise UserError(
                f"{len(failures)} trials failed (hydra.sweeper.max_failures={plan.max_failures}), the "
                f"last: {failures[-1]}; the study is kept: mend it and issue the same command "
                f"again"
            )

    def _arm(self, spec: str, plan: Any, dimensions: Any, fixed: tuple[str, ...]) -> Any:
        """Compose an arm without any trial: mistakes show before the first one, and its recipe is what is declared."""
        from ablate.compose import Jobs
        from ablate.recipe.values import digest, plain
        from ablate.records import UserError
        from ablate.tuning.record import space_values
        from ablate.tuning.space import corners, to_texts
        from ablate.tuning.sweep import ArmToTune

        experiment, *own = spec.split() if spec else ("",)
        if experiment and any(item.lstrip("+").startswith("experiment=") for item in fixed):
            raise UserError("hydra.sweeper.arms names the arms; leave +experiment out of the command line")
        overrides = (*((f"+experiment={experiment}",) if experiment else ()), *own, *fixed)
        jobs = Jobs(self.context.config_loader, self.config)
        run = jobs.run(overrides)
        for point in corners(dimensions):
            jobs.run((*overrides, *to_texts(point)))
        dev = run.runtime.dev_set
        if dev is None or dev.startswith(("test", "heldout")):
            raise UserError(
                f"runtime.dev_set={dev!r}: tuning needs an evaluation set that no claim is tested on; name "
                f"one, such as runtime.dev_set=dev"
            )
        declared = {
            "space": space_values(dimensions),
            "objective": [list(plan.objective), list(plan.all_directions)],
            "sampler": [plan.sampler, plan.sampler_seed, plan.num_startup],
            "pruner": [plan.pruner, plan.pruner_warmup, run.runtime.dev_every if plan.pruner != "none" else None],
            "arm or setting": digest(plain(run.recipe)),
            "seed": run.seed,
            "dev set": dev,
        }
        return ArmToTune(run.runtime.label, overrides, declared)

    def _warm_up(self, workers: int) -> None:
        """Start joblib's shared worker processes: threads that find none break each other's first job."""
        if type(self.launcher).__name__ == "JoblibLauncher" and workers > 1:
            import joblib  # type: ignore[import-not-found,import-untyped,unused-ignore]

            self.launcher.joblib["n_jobs"] = workers
            joblib.Parallel(n_jobs=workers, backend="loky")(joblib.delayed(abs)(0) for _ in range(workers))

    def _launch(self, plan: Any, overrides: Any, number: int) -> Any:
        """Run one job to its end; whatever it or its launcher raises becomes a failed trial."""
        import traceback

        from ablate.records import UserError
        from ablate.tuning.plan import without_secret
        from ablate.tuning.sweep import outcome_of

        try:
            (back,) = self.launcher.launch([list(overrides)], initial_job_idx=number)
            returned = back._return_value  # the property would print and raise what a failed job raised
        except Exception as error:
            returned = error
        outcome = outcome_of(returned, len(plan.objective))
        if outcome.state == "failed" and isinstance(returned, Exception) and not isinstance(returned, UserError):
            print(without_secret("".join(traceback.format_exception(returned)), plan.storage), file=sys.stderr)
        return outcome._replace(message=without_secret(outcome.message, plan.storage))
