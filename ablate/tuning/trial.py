"""Inside the job of a trial: its scores on the dev set become its objective, and a pruner may end it early."""

from __future__ import annotations

from collections.abc import Mapping

from ablate.config import RunConfig
from ablate.records import UserError
from ablate.stages import Stopped
from ablate.tuning.plan import Plan, make_pruner, open_storage


class Watcher:
    """Reports the objective of a training trial at every measurement on the dev set, and stops it where told."""

    def __init__(self, plan: Plan, config: RunConfig, study: str, number: int) -> None:
        """The storage is opened only when there is a pruner to report to."""
        self._plan, self._config = plan, config
        self._trial = None
        if plan.pruner != "none":
            import optuna

            storage = open_storage(plan, plan.folder(config.runtime.results))
            loaded = optuna.load_study(study_name=study, storage=storage, pruner=make_pruner(plan))
            trial_id = storage.get_trial_id_from_study_id_trial_number(loaded._study_id, number)
            self._trial = optuna.Trial(loaded, trial_id)

    def __call__(self, step: int, scores: Mapping[str, float]) -> None:
        """Report; raises Stopped when the pruner has seen enough."""
        if self._trial is None:
            return
        self._trial.report(self.values(scores)[0], step)
        if self._trial.should_prune():
            raise Stopped(f"pruned at step {step}")

    def values(self, scores: Mapping[str, float]) -> tuple[float, ...]:
        """Return the objective's values; raises UserError naming what the dev set has when it lacks one."""
        prefix = "dev/"
        named = {key.removeprefix(prefix): value for key, value in scores.items()}
        found = []
        for name in self._plan.objective:
            match = [value for key, value in named.items() if key.endswith(f"/{name}")]
            if len(match) != 1:
                known = sorted("/".join(key.split("/")[-3:]) for key in named)
                raise UserError(
                    f"hydra.sweeper.objective: the dev set {self._config.runtime.dev_set!r} has no {name!r}; it has: "
                    f"{', '.join(known)}"
                )
            found.append(match[0])
        return tuple(found)
