"""What a tuning sweep is: its frozen settings, and its storage, sampler and pruner by name."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import unquote

from ablate.recipe.build import build
from ablate.recipe.factors import Range
from ablate.recipe.schema import Count
from ablate.records import UserError
from ablate.store.files import TUNING, safe_name
from ablate.tuning.space import check_objective

if TYPE_CHECKING:
    import optuna

Whole = Annotated[int, Range(0, 2**31)]
SQLITE_WAIT_S = 60
"""How long a process waits for another one's write to a sqlite file."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of `hydra.sweeper` for `ablate_optuna`."""

    study: str
    """Name of the sweep; its files lie in `<results>/tuning/<study>/`."""
    objective: tuple[str, ...]
    """Measures of the dev set, each condition/direction/measure."""
    directions: tuple[Literal["maximize", "minimize"], ...]
    """One per objective; empty: all are maximised."""
    params: Any
    """The space: key to a choice, range or interval in Hydra's grammar."""
    arms: tuple[str, ...]
    """Arms that are tuned one like the other, each with overrides of its own after it; empty: the command line's."""
    n_trials: Count
    """Finished (complete or pruned) trials that each arm shall have in the study, over all calls."""
    workers: Count
    """Trials at a time; more than one needs a launcher with processes of its own."""
    max_failures: Count
    """Failed trials in one call at which no further trial is started."""
    sampler: Literal["tpe", "random", "grid", "nsga2", "gp"]
    sampler_seed: Whole
    num_startup: Count
    """Random trials before tpe and gp learn from trials; the size of a population of nsga2; finished trials before a
    pruner compares."""
    pruner: Literal["none", "median", "halving", "hyperband"]
    pruner_warmup: Whole
    """Training steps in which nothing is pruned; the smallest rung of halving and hyperband."""
    storage: str
    """`sqlite` or `journal` (a file in the study's folder), or a URL of SQLAlchemy."""

    def folder(self, results: str | Path) -> Path:
        """Return where the files of the study lie."""
        return Path(results).absolute() / TUNING / self.study

    @property
    def all_directions(self) -> tuple[Literal["maximize", "minimize"], ...]:
        """One direction per objective."""
        return self.directions or tuple("maximize" for _ in self.objective)


def build_plan(values: Mapping[str, Any]) -> Plan:
    """Build the settings strictly; raises UserError with the key, the value and what is allowed."""
    plan = build(Plan, {key: value for key, value in values.items() if key != "_target_"}, "hydra.sweeper")
    check_objective(plan.objective, plan.directions)
    if safe_name(plan.study) != plan.study:
        raise UserError(
            f"hydra.sweeper.study={plan.study!r} must be a name of letters, digits, dots, dashes, underscores"
        )
    if plan.pruner != "none" and len(plan.objective) > 1:
        raise UserError(
            f"hydra.sweeper.pruner={plan.pruner} compares trials by one number, and there are {len(plan.objective)} "
            f"objectives; set hydra.sweeper.pruner=none"
        )
    if plan.storage not in ("sqlite", "journal") and "://" not in plan.storage:
        raise UserError(
            f"hydra.sweeper.storage={plan.storage!r} is none of: sqlite, journal, a URL such as "
            f"postgresql+psycopg://host/database"
        )
    return plan


def check_no_secret(raw_storage: Any) -> None:
    """Raise UserError when a storage is spelled out with its password, which would stand in configurations and logs."""
    if isinstance(raw_storage, str) and "${" not in raw_storage and password(raw_storage) is not None:
        raise UserError(
            f"hydra.sweeper.storage={hidden(raw_storage)} holds a password; put the URL into an environment variable "
            f"(hydra.sweeper.storage='${{oc.env:TUNING_STORAGE}}'), or the password into PGPASSWORD or ~/.pgpass"
        )


def password(url: str) -> str | None:
    """Return the password inside a URL, as it is written there, or None."""
    match = re.match(r"[^:/]+://[^:@/]*:([^@]*)@", url) or re.search(r"[?&]password=([^&]*)", url)
    return match[1] if match else None


def hidden(url: str) -> str:
    """Return a storage URL fit for logs and records: `***` in the place of its password."""
    return without_secret(url, url)


def without_secret(text: str, url: str) -> str:
    """Return a text without the password of a storage URL, in whatever spelling."""
    secret = password(url)
    if not secret:
        return text
    for spelling in {secret, unquote(secret)}:
        text = text.replace(spelling, "***")
    return text


@contextmanager
def storage_errors(plan: Plan) -> Iterator[None]:
    """Turn errors of opening a storage into UserErrors without its password."""
    import sqlalchemy.exc

    try:
        yield
    except ImportError as error:
        message = without_secret(str(error).splitlines()[0], plan.storage)
        raise UserError(
            f"hydra.sweeper.storage={hidden(plan.storage)} needs a package that is not installed ({message}); for "
            f'PostgreSQL: pip install -e ".[postgres]"'
        ) from None
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        message = without_secret(" ".join(str(error).split())[:300], plan.storage)
        raise UserError(
            f"hydra.sweeper.storage={hidden(plan.storage)} cannot be used: {message}; check address, account and rights"
        ) from None


@typing.overload
def open_storage(plan: Plan, folder: Path, *, create: Literal[True] = True) -> optuna.storages.BaseStorage: ...


@typing.overload
def open_storage(plan: Plan, folder: Path, *, create: Literal[False]) -> optuna.storages.BaseStorage | None: ...


def open_storage(plan: Plan, folder: Path, *, create: bool = True) -> optuna.storages.BaseStorage | None:
    """Open the storage of a plan; the sweeping process does it first, before any worker.

    Without `create`, one that is not there yet is not made: None.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options: dict[str, Any]
    file = {"journal": folder / "trials.journal", "sqlite": folder / "trials.db"}.get(plan.storage)
    if file is not None and not create and not file.is_file():
        return None
    if plan.storage == "journal":
        return optuna.storages.JournalStorage(JournalFileBackend(str(file)))
    if plan.storage == "sqlite":
        url, options = f"sqlite:///{file}", {"connect_args": {"timeout": SQLITE_WAIT_S}}
    else:
        url, options = plan.storage, {"pool_pre_ping": True}
    with storage_errors(plan):
        if file is None and not create and not _has_tables(url):
            return None
        return optuna.storages.RDBStorage(url, engine_kwargs=options)


def _has_tables(url: str) -> bool:
    """Return whether a database holds tables of Optuna; to ask an sqlite file that is not there would make it."""
    import sqlalchemy

    address = sqlalchemy.make_url(url)
    if address.drivername.startswith("sqlite") and not Path(address.database or "").is_file():
        return False
    engine = sqlalchemy.create_engine(url)
    try:
        return sqlalchemy.inspect(engine).has_table("studies")
    finally:
        engine.dispose()


def close_storage(storage: optuna.storages.BaseStorage) -> None:
    """Close the connections of a storage to its database, if it has one."""
    import optuna

    base = getattr(storage, "_backend", storage)  # a study wraps a database's storage into a cache
    if isinstance(base, optuna.storages.RDBStorage):
        base.remove_session()
        base.engine.dispose()


def mend_journal(path: Path) -> int:
    """Cut off the last line of a journal when a killed process left it half written; return the bytes that went.

    The next line would be joined to it, and the file could never be read again.
    """
    from optuna.storages.journal import JournalFileSymlinkLock

    if not path.is_file():
        return 0
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        with open(path, "r+b") as file:
            content = file.read()
            kept = content.rfind(b"\n") + 1
            file.truncate(kept)
        return len(content) - kept
    finally:
        lock.release()


def make_sampler(plan: Plan, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler for the trial of a number.

    Its seed comes from the plan's seed and the number, so that a sweep that goes on does not draw its first points
    again, and arms that are tuned alike start from the same random points.
    """
    import numpy as np
    import optuna

    seed = int(np.random.SeedSequence([plan.sampler_seed, number]).generate_state(1)[0])
    if plan.sampler == "tpe":
        return optuna.samplers.TPESampler(n_startup_trials=plan.num_startup, seed=seed, constant_liar=True)
    if plan.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=max(2, plan.num_startup), seed=seed)
    if plan.sampler == "gp":
        return optuna.samplers.GPSampler(n_startup_trials=plan.num_startup, seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)  # a grid's points are handed to it one by one


def make_pruner(plan: Plan) -> optuna.pruners.BasePruner:
    """Return the pruner; sweeping process and trials use the same one."""
    import optuna

    if plan.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=plan.num_startup, n_warmup_steps=plan.pruner_warmup)
    if plan.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, plan.pruner_warmup))
    if plan.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, plan.pruner_warmup))
    return optuna.pruners.NopPruner()
