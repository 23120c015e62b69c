"""Trials by ask and tell: never a batch, so that no worker waits for another; a killed sweep goes on where it was.

One process sweeps a study at a time, behind a lock. It alone asks and tells; a trial's own process opens the storage
only to report to a pruner.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ablate.cli.overrides import quoted
from ablate.records import UserError
from ablate.store.lock import Lock
from ablate.tuning.plan import (
    Plan,
    close_storage,
    make_pruner,
    make_sampler,
    mend_journal,
    open_storage,
    storage_errors,
)
from ablate.tuning.space import Dimension, Point, grid, to_texts

if TYPE_CHECKING:
    import optuna

MAX_RETRIES = 3
"""How often in a row a point is tried again whose sweep was killed: it may be what kills it."""


class Outcome(NamedTuple):
    """What came back from the job of a trial."""

    state: Literal["complete", "pruned", "failed"]
    values: tuple[float, ...] = ()
    message: str = ""
    """What went wrong, in one line."""


Launch = Callable[[Sequence[str], int], Outcome]
"""Runs one job (overrides, trial number) to its end; raises nothing but what ends the sweep."""


class ArmToTune(NamedTuple):
    """One arm: its name, the overrides that make it, and what a change of makes a study another one."""

    name: str
    overrides: tuple[str, ...]
    declared: Mapping[str, Any]


def outcome_of(returned: Any, num_objectives: int) -> Outcome:
    """Return what a job's value or exception means for its trial."""
    import optuna

    if isinstance(returned, optuna.TrialPruned):
        return Outcome("pruned")
    if isinstance(returned, BaseException):
        name = "" if isinstance(returned, UserError) else f"{type(returned).__name__}: "
        return Outcome("failed", message=f"{name}{' '.join(str(returned).split())}")
    values = tuple(returned) if isinstance(returned, (list, tuple)) else (returned,)
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
        return Outcome("failed", message=f"the job returned {returned!r}; a trial must return its objective, a number")
    if len(values) != num_objectives:
        return Outcome("failed", message=f"the job returned {len(values)} numbers for {num_objectives} objectives")
    if any(math.isnan(value) for value in values):
        return Outcome("failed", message=f"the objective is not a number (nan): {returned!r}")
    return Outcome("complete", tuple(float(value) for value in values))


def num_trials(plan: Plan, dimensions: Mapping[str, Dimension]) -> int:
    """Return how many trials an arm is given; raises UserError for a grid that is endless or larger than that."""
    if plan.sampler != "grid":
        return plan.n_trials
    points = len(grid(dimensions))
    if points > plan.n_trials:
        raise UserError(
            f"the grid has {points} points and hydra.sweeper.n_trials={plan.n_trials} would leave some out; "
            f"set hydra.sweeper.n_trials={points} or take another sampler"
        )
    return points


class ArmStudy:
    """The Optuna study of one arm: asks for its next trial, tells what came of it, counts."""

    def __init__(self, plan: Plan, arm: ArmToTune, dimensions: Mapping[str, Dimension], study: optuna.Study) -> None:
        """Check that the study is this arm's with this space; raises UserError otherwise."""
        self.plan, self.arm, self.study, self.dimensions = plan, arm, study, dimensions
        self._distributions = {key: dimension.distribution() for key, dimension in dimensions.items()}
        self._grid = grid(dimensions) if plan.sampler == "grid" else None
        self._check_declared()
        self.target = num_trials(plan, dimensions)
        self.in_flight = 0
        self.finished = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.get_trials(deepcopy=False))

    def _check_declared(self) -> None:
        known = self.study.user_attrs.get("declared")
        if known is None:
            self.study.set_user_attr("declared", dict(self.arm.declared))
        elif known != self.arm.declared:
            names = {**known, **self.arm.declared}
            changed = [name for name in names if known.get(name) != self.arm.declared.get(name)]
            raise UserError(
                f"the tuning study {self.study.study_name!r} was begun with another {' and another '.join(changed)}; "
                f"its trials cannot be put beside new ones: choose another hydra.sweeper.study"
            )

    @property
    def missing(self) -> int:
        """Trials that are neither finished nor in flight."""
        return self.target - self.finished - self.in_flight

    def retry_orphans(self) -> int:
        """End the trials that a killed sweep left running, and put their points back into the queue; return how many.

        The new trial is queued before the old one is ended, and only once, so that a kill in between loses no point.
        """
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get("retry_of") for trial in trials}
        orphans = [trial for trial in trials if trial.state == TrialState.RUNNING]
        for trial in orphans:
            retries = trial.user_attrs.get("retries", 0) + 1
            point = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            message = "its sweep was killed"
            if retries > MAX_RETRIES:
                message += f" {retries} times at this point, which is not tried again"
                print(f"trial {trial.number} of {self.arm.name}: {message}")
            elif point and trial.number not in retried:
                self.study.enqueue_trial(point, user_attrs={"retry_of": trial.number, "retries": retries})
            self.study._storage.set_trial_user_attr(trial._trial_id, "error", message)
            self.study.tell(trial.number, state=TrialState.FAIL)
        return len(orphans)

    def ask(self) -> optuna.Trial:
        """Return the next trial with its point."""
        trials = self.study.get_trials(deepcopy=False)
        if self._grid is not None and not any(trial.state.name == "WAITING" for trial in trials):
            self.study.enqueue_trial(self._next_of_grid(trials))
        self.study.sampler = make_sampler(self.plan, len(trials))
        trial = self.study.ask(self._distributions)
        trial.set_user_attr("host", socket.gethostname())
        self.in_flight += 1
        return trial

    def _next_of_grid(self, trials: Sequence[optuna.trial.FrozenTrial]) -> Point:
        """Return the first point of the grid without a trial that is finished or running; failed ones come last."""
        assert self._grid is not None
        taken = [trial.params for trial in trials if trial.state.name in ("COMPLETE", "PRUNED", "RUNNING")]
        failed = [trial.params for trial in trials if trial.state.name == "FAIL"]
        rest = [point for point in self._grid if point not in taken]
        return min(rest, key=failed.count)

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """Record what came of a trial."""
        from optuna.trial import TrialState

        self.in_flight -= 1
        if outcome.state == "failed":
            trial.set_user_attr("error", outcome.message)
            self.study.tell(trial.number, state=TrialState.FAIL)
            return
        self.finished += 1
        if outcome.state == "pruned":
            self.study.tell(trial.number, state=TrialState.PRUNED)
        else:
            self.study.tell(trial.number, list(outcome.values))

    def overrides(self, trial: optuna.Trial) -> list[str]:
        """Return the command line of a trial's job."""
        return [
            *self.arm.overrides,
            *to_texts(trial.params),
            quoted("++runtime.study", f"tuning_{self.plan.study}"),
            quoted("++runtime.label", f"{self.arm.name}_t{trial.number}"),
            "++runtime.until=dev",
            "++runtime.baseline=null",
            quoted("++trial.study", self.study.study_name),
            f"++trial.number={trial.number}",
        ]


def open_arms(
    plan: Plan, arms: Sequence[ArmToTune], dimensions: Mapping[str, Dimension], folder: Path
) -> list[ArmStudy]:
    """Open or create the study of every arm, before any worker is there."""
    import optuna

    if plan.storage == "journal" and (gone := mend_journal(folder / "trials.journal")):
        print(f"{folder / 'trials.journal'}: a killed process left {gone} bytes of half a line; they are cut off")
    storage = open_storage(plan, folder)
    opened = []
    for arm in arms:
        with storage_errors(plan):
            study = optuna.create_study(
                storage=storage,
                study_name=f"{plan.study}.{arm.name}",
                directions=plan.all_directions,
                pruner=make_pruner(plan),
                load_if_exists=True,
            )
            opened.append(ArmStudy(plan, arm, dimensions, study))
    return opened


def look_at_arms(
    plan: Plan, arms: Sequence[ArmToTune], dimensions: Mapping[str, Dimension], folder: Path
) -> list[ArmStudy]:
    """Return the study of every arm as it stands, in memory alone where there is none: nothing is made or changed."""
    import optuna

    storage = open_storage(plan, folder, create=False)
    with storage_errors(plan):
        known = set() if storage is None else {study.study_name for study in storage.get_all_studies()}
        looked_at = []
        for arm in arms:
            name = f"{plan.study}.{arm.name}"
            if storage is not None and name in known:
                study = optuna.load_study(study_name=name, storage=storage)
            else:
                study = optuna.create_study(study_name=name, directions=plan.all_directions)
            looked_at.append(ArmStudy(plan, arm, dimensions, study))
    return looked_at


def close_arms(arms: Sequence[ArmStudy]) -> None:
    """Close the storages of arms."""
    for arm in arms:
        close_storage(arm.study._storage)


def sweep_lock(folder: Path) -> Lock:
    """Return the lock that lets one process at a time sweep a study."""
    return Lock(folder / "sweep.lock")


def run_trials(plan: Plan, arms: Sequence[ArmStudy], launch: Launch) -> list[str]:
    """Run trials until every arm has as many finished ones as planned; return the messages of those that failed.

    The arm that is furthest behind is next, so that arms that are tuned alike stay level. After `plan.max_failures`
    failures no trial is started, and those in flight are waited for.
    """
    for arm in arms:
        print(f"{arm.study.study_name}: {arm.finished} of {arm.target} trials finished before this call", flush=True)
        if num := arm.retry_orphans():
            print(f"{arm.study.study_name}: {num} trials of a killed sweep are tried again at the same points")
    failures: list[str] = []
    flying: dict[Future[Outcome], tuple[ArmStudy, optuna.Trial]] = {}
    pool = ThreadPoolExecutor(plan.workers) if plan.workers > 1 else None
    try:
        while True:
            while len(flying) < plan.workers and len(failures) < plan.max_failures:
                arm = max(arms, key=lambda arm: arm.missing)
                if arm.missing <= 0:
                    break
                trial = arm.ask()
                flying[_start(pool, launch, arm.overrides(trial), trial.number)] = arm, trial
            if not flying:
                return failures
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                arm, trial = flying.pop(future)
                outcome = future.result()
                arm.tell(trial, outcome)
                if outcome.state == "failed":
                    failures.append(f"trial {trial.number} of {arm.arm.name}: {outcome.message}")
                _show(arm, trial, outcome)
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def _start(pool: ThreadPoolExecutor | None, launch: Launch, overrides: list[str], number: int) -> Future[Outcome]:
    """Start a job in a thread, or do it at once in this one: in-process jobs need the main thread."""
    if pool is not None:
        return pool.submit(launch, overrides, number)
    future: Future[Outcome] = Future()
    future.set_result(launch(overrides, number))
    return future


def _show(arm: ArmStudy, trial: optuna.Trial, outcome: Outcome) -> None:
    point = ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.params.items()
    )
    values = " ".join(f"{value:.4f}" for value in outcome.values)
    words = {"complete": values, "pruned": "pruned", "failed": f"FAILED: {outcome.message}"}[outcome.state]
    print(f"{arm.study.study_name} trial {trial.number} ({point}): {words} [{arm.finished}/{arm.target}]", flush=True)
