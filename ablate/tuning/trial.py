"""Inside the job of a trial: its scores on the dev set become its objective, and a pruner may end it early."""

from __future__ import annotations

from collections.abc import Mapping

from ablate.engine.recorder import Stopped
from ablate.records import UserError
from ablate.tuning.plan import Plan, close_storage, make_pruner, open_storage


class Watcher:
    """Reports the objective of a training trial at every measurement on the dev set, and stops it where told.

    A context manager: its end closes the storage.
    """

    def __init__(self, plan: Plan, results: str, study: str, number: int) -> None:
        """The storage is opened only when there is a pruner to report to."""
        self._plan = plan
        self._storage, self._trial = None, None
        if plan.pruner != "none":
            import optuna

            self._storage = open_storage(plan, plan.folder(results))
            loaded = optuna.load_study(study_name=study, storage=self._storage, pruner=make_pruner(plan))
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(loaded._study_id, number)
            self._trial = optuna.Trial(loaded, trial_id)

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._storage is not None:
            close_storage(self._storage)

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
        values = []
        for name in self._plan.objective:
            match = [value for key, value in named.items() if key.endswith(f"/{name}")]
            if len(match) != 1:
                known = sorted("/".join(key.split("/")[-3:]) for key in named)
                raise UserError(f"hydra.sweeper.objective: the dev set has no {name!r}; it has: {', '.join(known)}")
            values.append(match[0])
        return tuple(values)
