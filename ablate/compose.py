"""Hydra -> RunConfig, baseline, declaration: the one composer.

A command line is composed from `conf/` and `sweeps/` into a `DictConfig`: by Hydra itself in its own programs, by
`load` elsewhere, and by `Jobs` for what a sweeper plans. All that is asked of such a configuration is asked here. What
Hydra, OmegaConf and YAML refuse becomes a UserError in words (`cli.explain`), unless a function leaves that to its
caller.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Sequence
from typing import Any

import hydra
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ablate.cli.explain import in_words
from ablate.project import CONF, files_of
from ablate.recipe.build import build_run
from ablate.recipe.schema import Recipe, RunConfig
from ablate.records import UserError
from ablate.study.declaration import Study, build_study
from ablate.study.planning import Composed, Given


def load(overrides: Sequence[str]) -> DictConfig:
    """Return what overrides make of `conf/`, without Hydra's own part; raises UserError for words it does not take."""
    GlobalHydra.instance().clear()
    with in_words(overrides), hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", list(overrides))


def values_of(composed: DictConfig, *, resolved: bool = True) -> dict[str, Any]:
    """Return plain values; raises UserError with the path of one that is missing or cannot be resolved.

    Not `resolved`: what refers to another value, and what is missing, stays as it is written, and nothing is raised.
    """
    with in_words():
        values = OmegaConf.to_container(composed, resolve=resolved, throw_on_missing=resolved)
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}


def strict(composed: DictConfig) -> RunConfig:
    """Return the frozen configuration of a run; raises UserError with the path of what is wrong."""
    return build_run({name: value for name, value in values_of(composed).items() if name != "study"})


def cell_of(composed: DictConfig) -> Composed:
    """Return plain values with the label as it was written; what OmegaConf raises is left to the caller."""
    label = OmegaConf.to_container(composed.runtime, resolve=False)["label"]  # type: ignore[index,call-overload]
    values: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return Composed(values, str(label))


def study_of(composed: DictConfig) -> Study | None:
    """Return the study that is declared there, or None; raises UserError for a declaration that makes no sense."""
    if "study" not in composed:
        return None
    with in_words():
        values = OmegaConf.to_container(composed.study, resolve=True)
    return build_study(values)  # type: ignore[arg-type]


def declared(composed: DictConfig, seed: int) -> str:
    """Return the digest of the study that a run of Hydra's belongs to, or nothing where none declares it or its seed.

    Raises UserError for a study that is not swept over.
    """
    chosen = [f"+{group}={name}" for group, name in HydraConfig.get().runtime.choices.items() if "sweeps" in group]
    if chosen and HydraConfig.get().mode != RunMode.MULTIRUN:
        raise UserError(f"a study has many runs: write -m before {chosen[0]}")
    study = study_of(composed)
    return study.digest if study is not None and seed in study.seeds else ""


def baseline(composed: DictConfig) -> Recipe | None:
    """Return the recipe of the arm that `runtime.baseline` of a run of Hydra's names, or None.

    It is composed from the same places under the same overrides but for those of factors, which tell arms apart.
    """
    name = OmegaConf.select(composed, "runtime.baseline")
    if name is None:
        return None
    given = HydraConfig.get().overrides
    kept = [item for item in given.task if not re.match(r"[+~]*(experiment|factors)\b", item)]
    overrides = [*given.hydra, f"+experiment={name}", *kept]
    try:
        with in_words(overrides):
            return strict(hydra.compose("config", overrides)).recipe
    except UserError as error:
        if not isinstance(error.__cause__, MissingConfigException):
            raise
        known = ", ".join(files_of("experiment"))
        raise UserError(f"runtime.baseline={name!r} is no arm in conf/experiment/; known: {known}") from error


def take_apart(overrides: Sequence[str], *, lists: bool, loader: ConfigLoader | None = None) -> list[Given]:
    """Return overrides with their values; `loader` is what looks up the names of a glob(…).

    Raises UserError for words that are none, for a range to search, and without `lists` for any list of values.
    """
    try:
        items = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    except HydraException as error:
        raise UserError(" ".join(str(error).split())) from None
    given = []
    for item in items:
        key = item.get_key_element()
        if not item.is_sweep_override():
            given.append(Given(key, (item.get_value_element_as_str(),), False))
        elif not lists:
            raise UserError(f"{item.input_line}: a check takes one value of each key; give one of them")
        elif item.is_discrete_sweep():
            given.append(Given(key, tuple(str(value) for value in item.sweep_string_iterator()), True))
        else:
            raise UserError(f"{item.input_line}: a study has a list of values (key=1,2,3), not a range to search")
    return given


class Jobs:
    """Composes the jobs of a multirun: from the places, and with the overrides of Hydra itself, of its command line."""

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        """`loader` and `config` are what Hydra hands to a sweeper."""
        self._loader, self._config = loader, config
        self._short = copy.copy(loader)
        self._short.repository = _WithoutStudy(loader)  # type: ignore[attr-defined]
        self._cells: dict[tuple[str, ...], DictConfig] = {}

    def run(self, overrides: Sequence[str]) -> RunConfig:
        """Return the frozen configuration of a job, whatever its block `study`; raises UserError for what is wrong."""
        with self._in_words(overrides):
            composed = self._load(self._loader, overrides, leave_out=("hydra", "study"))
        return strict(composed)

    def cell(self, overrides: Sequence[str]) -> Composed:
        """Return the values of a job; those that differ in the seed alone, which stands last, are composed once.

        The block `study` takes part only where something refers to it: it may hold a claim on each arm, and would be
        read and merged again for each of them. Raises UserError for what Hydra does not take.
        """
        *shared, last = overrides or ("",)
        key, _, seed = last.partition("=")
        split = key == "seed" and seed.isdecimal()
        words = tuple(shared if split else overrides)
        with self._in_words(overrides):
            if words not in self._cells:
                self._cells[words] = self._composed(words)
            composed = self._cells[words]
            if split:
                OmegaConf.update(composed, "seed", int(seed))
            return cell_of(composed)

    def _composed(self, words: Sequence[str]) -> DictConfig:
        with contextlib.suppress(HydraException, OmegaConfBaseException):  # told below, in the words for the whole
            composed = self._load(self._short, words, leave_out=("hydra", "study"))
            OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
            if "oc.select:" not in str(OmegaConf.to_container(composed)):  # what is not there is no error of it
                return composed
        return self._load(self._loader, words, leave_out=("hydra",))

    def _load(self, loader: ConfigLoader, overrides: Sequence[str], leave_out: Sequence[str]) -> DictConfig:
        loaded = loader.load_sweep_config(self._config, list(overrides))
        return OmegaConf.masked_copy(loaded, [str(name) for name in loaded if name not in leave_out])

    def _in_words(self, overrides: Sequence[str]) -> Any:
        return in_words((*self._config.hydra.overrides.hydra, *overrides))


class _WithoutStudy(ConfigRepository):
    """The files of a loader, each read once, without the block `study` of those that write one for the whole.

    `study` in a file of another package is another key, such as `runtime.study`.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._read: dict[str, ConfigResult | None] = {}
        super().__init__(loader.get_search_path())

    def __deepcopy__(self, memo: dict[int, Any]) -> _WithoutStudy:
        """Return one that shares what was read: Hydra copies the repository for each configuration."""
        return copy.copy(self)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look into other places; what was read in those of before is not taken for theirs."""
        super().initialize_sources(config_search_path)
        self._read = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return a copy of what a file holds, because Hydra writes into it."""
        if config_path not in self._read:
            loaded = super().load_config(config_path)
            is_global = loaded is not None and loaded.header.get("package") == "_global_"
            if loaded is not None and is_global and isinstance(loaded.config, DictConfig) and "study" in loaded.config:
                names = [name for name in loaded.config if name != "study"]
                loaded.config = OmegaConf.masked_copy(loaded.config, [str(name) for name in names])
            self._read[config_path] = loaded
        return copy.deepcopy(self._read[config_path])
