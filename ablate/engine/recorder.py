"""The tracker of a run, started by the first stage that has work to do and always finished."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ablate.engine.prepare import Run
from ablate.recipe.schema import RunConfig
from ablate.recipe.values import plain
from ablate.store.files import LEDGER_FILE
from ablate.tracking import Tracker, open_tracker


class Stopped(Exception):
    """Raised by a watcher out of a training that is not worth its cost; it can be gone on with later."""


class Recorder:
    """The tracker of one run, started by the first stage that has work to do and always finished."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._tracker: Tracker | None = None

    @property
    def tracker(self) -> Tracker:
        """The started tracker."""
        if self._tracker is None:
            config, identity = self.run.config, self.run.identity
            folder = self.run.store.folder("train", identity.train_id)
            folder.mkdir(parents=True, exist_ok=True)
            runtime = config.runtime
            self._tracker = open_tracker(
                runtime.tracker.kind,
                ledger_path=folder / LEDGER_FILE,
                folder=self.run.store.trackio if runtime.tracker.kind == "trackio" else self.run.store.unsent,
                project=runtime.tracker.project,
                entity=runtime.tracker.entity,
            )
            self._tracker.start(
                {**plain(config.recipe), "seed": config.seed},
                group=runtime.study,
                job_type=runtime.label,
                tags=tags(config),
                name=f"{runtime.label}-s{config.seed}",
                run_id=identity.train_id,
            )
        return self._tracker

    @contextlib.contextmanager
    def open(self) -> Iterator[Recorder]:
        """Finish the tracker at the end, whatever happened."""
        try:
            yield self
        except BaseException as error:
            if self._tracker is not None:
                failed = isinstance(error, Exception) and not isinstance(error, Stopped)
                self._tracker.finish("failed" if failed else "interrupted")
            raise
        if self._tracker is not None:
            self._tracker.finish("finished")


def tags(config: RunConfig) -> list[str]:
    """Return one tag per active factor, and the kinds of source and model."""
    from ablate.recipe.factors import active

    factors = [f"{name}={level}" for name, level in active(config.recipe.factors).items()]
    return [*factors, f"source={config.recipe.source.kind}", f"model={config.recipe.model.name}"]
