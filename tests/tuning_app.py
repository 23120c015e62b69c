"""A job for tests of the sweeper: the configuration of ablate, and a formula in the place of a training.

Every job adds a line to $TUNING_LOG. $TUNING_JOB says what it does: `peak` (best at a rate of 1e-4), `slow`, `nan`,
`none`, `raise`, `two` (two objectives), `curve` (five reports to the pruner), `secret`.
"""

from __future__ import annotations

import math
import os
import time

import hydra
from conftest import ROOT
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="config")
def main(values: DictConfig) -> object:
    import optuna

    from ablate.engine.recorder import Stopped
    from ablate.tuning.plan import build_plan
    from ablate.tuning.trial import Watcher

    rate, number, job = values.train.learning_rate, values.trial.number, os.environ["TUNING_JOB"]
    with open(os.environ["TUNING_LOG"], "a") as file:
        file.write(f"{values.trial.study} {number} {rate!r}\n")
    score = -abs(math.log10(rate) + 4)
    if job == "slow" and number >= 2:
        time.sleep(60)
    if job == "raise":
        raise RuntimeError(f"broken, and the storage was {HydraConfig.get().sweeper.storage}")
    if job == "curve":
        plan = build_plan(OmegaConf.to_container(HydraConfig.get().sweeper, resolve=True))
        watcher = Watcher(plan, values.runtime.results, values.trial.study, number)
        try:
            for step in range(1, 6):
                watcher(step, {"dev/world/dev/pairs/both/satisfying over violating": score * step})
        except Stopped as error:
            raise optuna.TrialPruned(str(error)) from None
        return score * 5
    return {"nan": math.nan, "none": None, "two": (score, -rate)}.get(job, score)


if __name__ == "__main__":
    main()
