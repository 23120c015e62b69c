"""The default sweeper: the cells of a study (`-m +sweeps=NAME`), or of comma lists, run until none is left.

What it decides is in `ablate.study.planning` and `ablate.study.running`; here is only what touches Hydra. Hydra
executes this file at every start, without putting it among the loaded modules: so nothing heavy is imported, and
annotations are real.
"""

import os
import sys
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

# A plain mapping and no dataclass, so that a file of sweeps/ can put another sweeper over it with keys of its own.
# workers: cells at the same time (`hydra.sweeper.workers=3`); null: what the launcher says.
SETTINGS = {"_target_": "hydra_plugins.ablate_study.StudySweeper", "workers": None}
ConfigStore.instance().store(group="hydra/sweeper", name="ablate_study", node=SETTINGS, provider="ablate")

ONE_BY_ONE, LANES = ("basic",), ("joblib", "submitit_local")
"""Launchers by how they get their cells; any other one gets all cells that are free as one batch."""


class StudySweeper(Sweeper):
    """Plans the cells of a command line, and hands them to the launcher until none is left."""

    def __init__(self, workers: Optional[int] = None) -> None:  # noqa: UP045
        self.workers = workers

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over."""
        from hydra.core.plugins import Plugins

        self.context, self.config = hydra_context, config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the cells; a mistake, or a cell that failed, ends with exit code 2."""
        from ablate.study.running import user_message

        try:
            failed = self._sweep(arguments)
        except Exception as error:
            message = user_message(error)
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr)
            raise SystemExit(2) from None
        if failed:
            raise SystemExit(2)

    def _sweep(self, arguments: list[str]) -> int:
        """Plan and run; return how many cells failed or make no sense."""
        from ablate.compose import Jobs, study_of, take_apart
        from ablate.store.results import ResultStore
        from ablate.study import planning, running, status
        from ablate.study.records import StudyRecords

        running.refuse_several_processes()
        jobs = Jobs(self.context.config_loader, self.config)
        given = take_apart(arguments, lists=True, loader=self.context.config_loader)
        study, name = None, OmegaConf.select(self.config, "hydra.runtime.choices.sweeps")
        if name is not None:
            study = study_of(self.config)
            if study is None:
                raise running.UserError(f"sweeps/{name}.yaml has no block `study`")
            points = list(planning.of_study(name, study, given))
        else:
            points = list(planning.crossed(given))
        identify, beds = _identify_once()
        cells = planning.plan(points, jobs.cell, identify)
        planning.refuse_common_mistake(cells)
        wrong = [cell for cell in cells if cell.config is None]
        store = ResultStore(self.config.runtime.results)
        status.estimate(store, cells)
        launcher = OmegaConf.select(self.config, "hydra.runtime.choices.hydra/launcher") or "basic"
        slurm: Any = self.launcher if hasattr(self.launcher, "launch_cells") else None
        workers = self._num_workers(launcher)
        notes, declared = [], []
        if study is not None:
            measured, planned = list(beds.values()), dict(zip(points, cells, strict=True))
            everything = planning.of_declaration(name, study, given)
            declared = planning.declared_cells(everything, planned, jobs.cell, identify)
            notes = _check_claims(study, cells, declared, store, measured)
        num_wrong = 0 if study is not None and study.incoherent == "list" else len(wrong)
        if self.config.runtime.plan_only:
            print("\n".join([status.format_plan(store, cells, workers), *(f"note: {note}" for note in notes)]))
            return num_wrong
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        for line in planning.incoherent_lines(cells):
            print(line, file=sys.stderr)
        sound = [cell for cell in cells if cell.config is not None]
        if slurm is not None:
            slurm.refuse_another_device(sound)
        if study is not None and sound:
            StudyRecords(store, sound[0].study).declare(study, declared)
            beyond = sorted({cell.seed for cell in sound if cell.seed not in study.seeds})
            if beyond:
                print(f"seeds {beyond} are not declared in {name}: recorded without its declaration", file=sys.stderr)
        board = running.Board(store, cells, workers=workers)
        board.tell()
        threads = max(1, len(os.sched_getaffinity(0)) // workers) if workers > 1 and launcher in LANES else None

        def overrides(cell: planning.Cell) -> list[str]:
            shared = threads if cell.config is not None and cell.config.runtime.threads is None else None
            return [*cell.overrides, *([] if shared is None else [f"runtime.threads={shared}"])]

        def launch(cell: planning.Cell, number: int) -> Optional[Exception]:  # noqa: UP045
            (job,) = self.launcher.launch([overrides(cell)], initial_job_idx=number)
            return job._return_value if job.status == JobStatus.FAILED else None

        def launch_all(batch: list[tuple[int, planning.Cell]]) -> Any:
            given = [overrides(cell) for _, cell in batch]
            if slurm is None:
                self.launcher.launch(given, initial_job_idx=batch[0][0])
                return
            names = [status.claim_name(cell) for _, cell in batch]
            for place, error in slurm.launch_cells(names, given, batch[0][0], store):
                yield batch[place][0], error

        if launcher in ONE_BY_ONE:
            running.run_one_by_one(board, launch)
        elif launcher in LANES:
            running.run_in_lanes(board, launch, workers)
        else:
            running.run_in_batches(board, launch_all, None if slurm is None else slurm.largest_batch())
        board.tell(again=False)
        for failed, reason in board.failed.items():
            print(f"failed: {failed}: {reason}", file=sys.stderr)
        if wrong:
            print(f"incoherent: {len(wrong)} of {len(cells)} cells, reasons above", file=sys.stderr)
        return len(board.failed) + num_wrong

    def _num_workers(self, launcher: str) -> int:
        """Return how many cells run at the same time: here, in a job array, or 1 where the launcher does not say it."""
        cores, settings = len(os.sched_getaffinity(0)), self.config.hydra.launcher
        if launcher not in LANES:
            return int(settings.get("array_parallelism") or 1)
        if self.workers is not None:
            return max(1, self.workers)
        if launcher == "joblib":
            return settings.n_jobs if settings.n_jobs > 0 else max(1, cores + 1 + settings.n_jobs)
        return max(1, cores // (settings.cpus_per_task or 1))


def _identify_once() -> Any:
    """Return a function from configurations to ids that opens each source once, and the sets that it met: run, name."""
    from ablate.engine.prepare import prepare
    from ablate.study.running import refuse_split_weights

    opened: dict[Any, Any] = {}
    beds: dict[Any, Any] = {}

    def identify(config: Any) -> Any:
        refuse_split_weights(config)
        run = prepare(config, opened=opened)
        for name in config.recipe.evaluation.sets:
            beds.setdefault((id(run.test_beds), name), (run, name))
        return run.identity

    return identify, beds


def _check_claims(study: Any, cells: Any, declared: Any, store: Any, measured: Any) -> list[str]:
    """Return notes on the claims of a study; raises UserError when they cannot be judged by what is going to be run.

    Where all cells are complete nothing is read, only the contrasts are looked at, and there is nothing to note.
    """
    from ablate.study import status
    from analysis.verdict.declarable import check_plan

    sound = [cell for cell in cells if cell.config is not None]
    if not sound or not (study.claims or study.margins):
        return []
    done, sets = all(status.is_done(store, cell) for cell in sound), None
    if not done and all(cell.config.runtime.until == "scores" for cell in sound):
        sets = [run.evaluation_set(name) for run, name in measured]
    rankers = {cell.label: cell.config.recipe.ranker for cell in sound}
    notes = check_plan(study, rankers, declared, store.arms("evaluation", sound[0].study), sets)
    return [] if done else notes
