"""Lets Hydra find `sweeps/` beside `conf/`: a file of it is chosen with `+sweeps=NAME`."""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class AblateSearchPath(SearchPathPlugin):
    """Adds the root of the repository as the last place where configuration groups are looked for."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the root."""
        search_path.append("ablate", f"file://{Path(__file__).resolve().parent.parent.parent}")
