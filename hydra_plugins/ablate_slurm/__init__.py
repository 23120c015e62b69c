"""The launcher behind `hydra/launcher=ablate_slurm`: cells as one job array, which a killed sweeper finds again.

submitit writes the jobs and queues them again after a time limit; here is what it does not do: it waits for a result
file or for accounting, so that a job that was cancelled, or whose node was lost, is waited for without end where there
is none. Here the queue is looked at (`ablate.study.slurm`). Hydra executes this file at every start, with the extra
`launchers` or without: nothing is imported from it but the class that Hydra's own SLURM launcher is.
"""

import functools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

try:
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
except ImportError:  # without the extra; the presets then say so, and nothing makes an instance
    BaseSubmititLauncher = Launcher

SBATCH = "sbatch: error: "
"""Before each line in which it says what is wrong."""

QUEUE: Any = None
"""One for the whole process: threads that wait for a job each look at the queue together."""


class SlurmLauncher(BaseSubmititLauncher):  # type: ignore[misc,valid-type,unused-ignore]
    """Queues jobs, waits until each has left a result or the queue, and attaches to jobs that are there already."""

    _EXECUTOR = "slurm"

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs to their ends, as Hydra's launchers do; raise what the first lost one was lost by."""
        jobs = dict(enumerate(self._submit(job_overrides, initial_job_idx, self.params["name"])))
        ended = dict(self._wait(jobs))
        for back in ended.values():
            if isinstance(back, Exception):
                raise back
        return [ended[position] for position in range(len(ended))]

    def launch_cells(
        self, cells: Sequence[str], job_overrides: Sequence[Sequence[str]], initial_job_idx: int, store: Any
    ) -> Iterator[tuple[int, Optional[Exception]]]:  # noqa: UP045
        """Run cells, named as their locks are, and yield the place of each with what it failed with, as they end.

        Cells whose job is in the queue are waited for and not queued again. Raises UserError when the queue cannot be
        asked, or the jobs are refused.
        """
        import submitit

        from ablate.records import UserError
        from ablate.study.slurm import Submissions

        submissions, in_queue = Submissions(store), _queue().jobs()
        if in_queue is None:
            raise UserError(
                "squeue does not answer, so it is not known which jobs are queued: the jobs go on; issue the same "
                "command again on a machine that SLURM's controller answers to"
            )
        known = submissions.living(in_queue)
        jobs = {
            place: submitit.SlurmJob(self.params["submitit_folder"], known[cell])
            for place, cell in enumerate(cells)
            if cell in known
        }
        if jobs:
            ids = ", ".join(job.job_id for job in list(jobs.values())[:5])
            print(
                f"in SLURM's queue already: {len(jobs)} cells ({ids}{', …' if len(jobs) > 5 else ''})", file=sys.stderr
            )
        marks = {in_queue[job.job_id].name.rpartition("-")[2] for job in jobs.values()}
        new = [place for place in range(len(cells)) if place not in jobs]
        if new:
            mark = submissions.add([cells[place] for place in new])
            marks.add(mark)
            try:
                name = f"{self.params['name']}-{mark}"
                queued = self._submit([job_overrides[place] for place in new], initial_job_idx, name)
            except UserError:
                submissions.remove(mark)
                raise
            jobs |= dict(zip(new, queued, strict=True))
            print(f"queued in SLURM: {len(new)} cells as job {queued[0].job_id.partition('_')[0]}", file=sys.stderr)
        try:
            for place, back in self._wait(jobs):
                failed = isinstance(back, JobReturn) and back.status == JobStatus.FAILED
                yield place, back if isinstance(back, Exception) else back._return_value if failed else None
        except BaseException:
            arrays = sorted({job.job_id.partition("_")[0] for job in jobs.values()})
            print(
                f"the jobs go on in SLURM: the same command waits for them, `scancel {' '.join(arrays)}` ends them",
                file=sys.stderr,
            )
            raise
        _queue().look_again()
        ended = {job.job_id for job in jobs.values()}  # the queue shows them for some seconds more
        left = _queue().jobs()
        for mark in marks:  # a cell that another process works on may have a job of the same array
            if left is not None and not any(
                job.name.endswith(f"-{mark}") and job_id not in ended for job_id, job in left.items()
            ):
                submissions.remove(mark)

    def refuse_another_device(self, cells: Sequence[Any]) -> None:
        """Raise UserError when the ids that were taken here are not those that the jobs will take on their nodes."""
        from ablate.model.device import resolve_device
        from ablate.records import UserError

        theirs = "cuda" if any(self.params.get(key) for key in ("gpus_per_node", "gpus_per_task", "gres")) else "cpu"
        for cell in cells:
            recipe, device = cell.config.recipe, cell.config.runtime.device
            if recipe.ranker == "trained" and recipe.train.precision == "auto" and device == "auto":
                if resolve_device("auto") != theirs:
                    words = {
                        "cuda": "no GPU and the jobs have one: add train.precision=bf16",
                        "cpu": "a GPU and the jobs have none: add runtime.device=cpu",
                    }[theirs]
                    raise UserError(
                        f"train.precision=auto is fp32 on a CPU and bf16 on a GPU, in ids too; this machine has {words}"
                    )

    def largest_batch(self) -> int:
        """Return how many cells can be queued as one array."""
        from ablate.study.slurm import largest_array

        return largest_array()

    def _submit(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int, name: str) -> list[Any]:
        """Queue jobs; raises UserError in sbatch's words when it refuses them."""
        import submitit
        from hydra.core.singleton import Singleton
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        from ablate.records import UserError
        from ablate.terminal import one_line

        folder = self.params["submitit_folder"]
        general = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes")
        general += ("stderr_to_stdout",)
        given = {
            key if key in general else f"slurm_{key}": value
            for key, value in self.params.items()
            if value is not None and key not in ("submitit_folder", "max_num_timeout", "name")
        }
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        places = range(initial_job_idx, initial_job_idx + len(job_overrides))
        states = [Singleton.get_state() for _ in places]
        try:
            executor = submitit.AutoExecutor(
                folder, cluster="slurm", slurm_max_num_timeout=self.params["max_num_timeout"]
            )
            executor.update_parameters(name=name, **given)
            jobs = executor.map_array(
                self,
                [list(overrides) for overrides in job_overrides],
                ["hydra.sweep.dir" for _ in places],
                list(places),
                [f"job_id_for_{place}" for place in places],
                states,
            )
        except (FailedJobError, FailedSubmissionError) as error:
            lines = [line.removeprefix(SBATCH) for line in str(error).splitlines() if line.startswith(SBATCH)]
            words = one_line("; ".join(lines) or str(error))
            raise UserError(f"SLURM refuses the jobs: {words}{_remedy(words)}") from None
        except RuntimeError as error:
            raise UserError(f"{one_line(error)}: no job can be queued from this machine") from None
        _queue().look_again()
        return list(jobs)

    def _wait(self, jobs: dict[int, Any]) -> Iterator[tuple[int, Any]]:
        """Yield the place of each job with the JobReturn that it left, or the exception that says how it was lost."""
        from ablate.store.lock import Reminder
        from ablate.study.slurm import GONE_AFTER_S, fate, in_words

        left, unseen, remind = dict(jobs), dict[int, float](), Reminder()
        while left:
            queued = _queue().jobs()
            for place, job in list(left.items()):
                if _has_result(job):
                    unseen.pop(place, None)
                    del left[place]
                    yield place, _result(job)
                elif queued is None or job.job_id in queued:
                    unseen.pop(place, None)
                elif time.monotonic() - unseen.setdefault(place, time.monotonic()) > GONE_AFTER_S:
                    del left[place]
                    how = f"SLURM job {job.job_id} left no result: {fate(job.job_id)}"
                    remedy = "the same command queues it again"
                    yield place, RuntimeError(f"{how}; what it wrote: {job.paths.stderr}; {remedy}")
            if left:
                words = "squeue does not answer; still waiting"
                if queued is not None:
                    words = in_words(queued[job.job_id] for job in left.values() if job.job_id in queued)
                remind(functools.partial(str, f"SLURM: {words}"))
                time.sleep(1.0)


def _has_result(job: Any) -> bool:
    folder = job.paths.folder
    try:
        os.utime(folder)  # so that a network file system asks its server what is in it
    except OSError:
        pass
    return bool(job.paths.result_pickle.exists())


def _result(job: Any) -> Any:
    try:
        return job.results()[0]
    except Exception as error:
        return error


def _remedy(words: str) -> str:
    no_gpu = "generic resource" in words or "gres" in words.lower()
    return ". For nodes without a GPU: hydra/launcher=ablate_slurm_cpu" if no_gpu else ""


def _queue() -> Any:
    global QUEUE
    from ablate.study.slurm import Queue

    if QUEUE is None:
        QUEUE = Queue()
    return QUEUE
