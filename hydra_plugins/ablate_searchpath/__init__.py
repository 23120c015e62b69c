"""Lets Hydra find what is not in `conf/`: `sweeps/` beside it, and the factors at their no-op, as the code has them.

A file of `sweeps/` is chosen with `+sweeps=NAME`. `conf/config.yaml` includes `all_factors_off`.
"""

from dataclasses import asdict

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.plugins.search_path_plugin import SearchPathPlugin

from ablate.project import ROOT
from ablate.recipe.factors import OFF


class SweepsSource(FileConfigSource):
    """The root of the repository with one group, `sweeps`: nothing else there is configuration."""

    @staticmethod
    def scheme() -> str:
        """Return the prefix of such paths."""
        return "ablate-sweeps"

    def is_group(self, config_path: str) -> bool:
        """Return whether a path is a group: `sweeps`, or a folder in it."""
        return config_path == "" or (_inside(config_path) and super().is_group(config_path))

    def is_config(self, config_path: str) -> bool:
        """Return whether a path is a file of the group."""
        return _inside(config_path) and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return what a path holds; of the root only the group."""
        if config_path == "":
            return [] if results_filter == ObjectType.CONFIG else ["sweeps"]
        return super().list(config_path, results_filter) if _inside(config_path) else []


def _inside(config_path: str) -> bool:
    return config_path.split("/")[0] == "sweeps"


class AblateSearchPath(SearchPathPlugin):
    """Adds the group `sweeps` at the end of the places where configuration is looked for."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append it."""
        search_path.append("ablate", f"{SweepsSource.scheme()}://{ROOT}")


ConfigStore.instance().store("all_factors_off", {"factors": asdict(OFF)}, provider="ablate.recipe.factors")
