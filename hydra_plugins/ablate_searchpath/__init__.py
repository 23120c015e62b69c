"""Lets Hydra find what is not in the shipped `conf/`: `sweeps/`, the present folder's own files, the factors' no-op.

A file of `sweeps/` is chosen with `+sweeps=NAME`. `conf/config.yaml` includes `all_factors_off`. The `conf/` and
`sweeps/` of the folder that a command is issued in are looked into before the shipped ones (`ablate.project`), and an
own file that is read in the place of a shipped one is told in a line of stderr.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin

from ablate.project import CONF, own, shipped
from ablate.recipe.factors import OFF
from ablate.terminal import one_line

OWN = "own"
"""Provider of what the present folder has."""
_told = set[str]()


class SweepsSource(FileConfigSource):
    """A folder with one group, `sweeps`: nothing else there is configuration."""

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

    def load_config(self, config_path: str) -> ConfigResult:
        """Return what a file holds."""
        if self.provider == OWN:
            _tell_hidden(config_path, config_path, shipped())
        return super().load_config(config_path)


def _inside(config_path: str) -> bool:
    return config_path.split("/")[0] == "sweeps"


class GroupsSource(FileConfigSource):
    """A `conf/` of which groups alone count: a `config.yaml` there is that of another program, or would hide ours."""

    @staticmethod
    def scheme() -> str:
        """Return the prefix of such paths."""
        return "ablate-groups"

    def is_config(self, config_path: str) -> bool:
        """Return whether a path is a file of a group."""
        return "/" in config_path and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return what a path holds; of the root only the groups."""
        if config_path == "":
            return [] if results_filter == ObjectType.CONFIG else super().list("", ObjectType.GROUP)
        return super().list(config_path, results_filter)

    def load_config(self, config_path: str) -> ConfigResult:
        """Return what a file holds."""
        _tell_hidden(config_path, f"conf/{config_path}", CONF)
        return super().load_config(config_path)


def _tell_hidden(config_path: str, name: str, folder: Path) -> None:
    """Say that an own file is read although one of the same name is shipped."""
    if (folder / f"{config_path.removesuffix('.yaml')}.yaml").is_file():
        _tell(f"{name.removesuffix('.yaml')}.yaml of this folder is read, not the shipped file of that name")


def _tell(text: str) -> None:
    """Print a note once."""
    if text not in _told:
        _told.add(text)
        print(f"note: {one_line(text)}", file=sys.stderr)


class AblateSearchPath(SearchPathPlugin):
    """Adds own groups before the shipped `conf/`, and the group `sweeps`, own files first, at the end."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add them."""
        conf, sweeps = own("conf"), own("sweeps")
        if conf is not None:
            if (conf / "config.yaml").is_file():
                _tell("conf/config.yaml of this folder is not read; its groups are (conf/GROUP/NAME.yaml)")
            search_path.prepend(OWN, f"{GroupsSource.scheme()}://{conf}", SearchPathQuery(provider="main"))
        if sweeps is not None:
            search_path.append(OWN, f"{SweepsSource.scheme()}://{sweeps.parent}")
        search_path.append("ablate", f"{SweepsSource.scheme()}://{shipped()}")


ConfigStore.instance().store("all_factors_off", {"factors": asdict(OFF)}, provider="ablate.recipe.factors")
