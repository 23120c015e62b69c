"""What other distributions bring: sources and measures in Python, found by entry points and loaded when they are named.

    [project.entry-points."ablate.sources"]
    papers = "lab.papers:PapersSource"

`docs/extending.md` says what each group expects. Whatever a plugin raises becomes one line that names its distribution.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import traceback
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ablate.records import UserError

Group = Literal["ablate.sources", "ablate.measures"]
GROUPS: tuple[Group, ...] = typing.get_args(Group)


class Plugin(NamedTuple):
    """One entry point of another distribution."""

    group: Group
    name: str
    """Of the entry point: the kind of a source, the name of a measure."""
    distribution: str
    version: str
    place: str
    """`module:object`."""

    @property
    def revision(self) -> str:
        """Distribution and version, as ids hold them."""
        return f"{self.distribution} {self.version}"

    @property
    def title(self) -> str:
        """What a message calls it."""
        return f"{self.group.removeprefix('ablate.').removesuffix('s')} {self.name!r} of {self.revision}"


@functools.cache
def installed() -> tuple[Plugin, ...]:
    """Return what the distributions of this environment bring, by group and name, as it was when first asked for."""
    plugins = []
    for group in GROUPS:
        for entry in importlib.metadata.entry_points(group=group):
            assert entry.dist is not None
            plugins.append(Plugin(group, entry.name, entry.dist.name, entry.dist.version, entry.value))
    return tuple(sorted(plugins))


def plugin_names(group: Group) -> list[str]:
    """Return the names that a group has in this environment."""
    return list(dict.fromkeys(plugin.name for plugin in installed() if plugin.group == group))


def plugin_of(group: Group, name: str) -> Plugin | None:
    """Return the plugin of a name, or None; raises UserError where two distributions bring it."""
    plugins = [plugin for plugin in installed() if (plugin.group, plugin.name) == (group, name)]
    if len(plugins) > 1:
        titles = " and ".join(plugin.revision for plugin in plugins)
        raise UserError(f"{titles} both bring {name!r} ({group}); uninstall one of them")
    return plugins[0] if plugins else None


def plugin_versions() -> dict[str, str]:
    """Return distribution -> version of all that bring something."""
    return {plugin.distribution: plugin.version for plugin in installed()}


@contextlib.contextmanager
def told(plugin: Plugin, doing: str) -> Iterator[None]:
    """Raise UserError in the place of what a plugin raises, with the line of its code; its own UserErrors pass.

    A plugin that ends the process (SystemExit) is told too: with its exit code 0 a command would look done.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        package = plugin.place.partition(":")[0].partition(".")[0]
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if package in _parts(frame.filename)]
        at = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{plugin.title} failed {doing}: {reason}{at}; mend or uninstall {plugin.distribution}"
        ) from error


def _parts(file: str) -> tuple[str, ...]:
    return (*Path(file).parent.parts, Path(file).stem)


def load(plugin: Plugin) -> Any:
    """Return the object that an entry point names; raises UserError when it cannot be imported."""
    with told(plugin, f"when {plugin.place} was imported"):
        return importlib.metadata.EntryPoint(plugin.name, plugin.place, plugin.group).load()


def source_type(plugin: Plugin) -> type:
    """Return the type of the keys of a source; raises UserError when it is not as `docs/extending.md` asks."""
    kind = load(plugin)
    parameters = getattr(kind, "__dataclass_params__", None)
    if not isinstance(kind, type) or parameters is None or not parameters.frozen:
        raise _misshapen(plugin, "is no frozen dataclass")
    with told(plugin, "when its types were looked up"):
        hints = typing.get_type_hints(kind, include_extras=True)
    if hints.get("kind") != Literal[plugin.name]:
        raise _misshapen(plugin, f"has no field kind: Literal[{plugin.name!r}]")
    if hints.get("rows") != Literal["complete", "all"]:
        raise _misshapen(plugin, 'has no field rows: Literal["complete", "all"]')
    if not callable(getattr(kind, "open", None)):
        raise _misshapen(plugin, "has no method open(sets)")
    return kind


def measure_function(plugin: Plugin) -> Any:
    """Return the function of a measure; raises UserError when it is none."""
    function = load(plugin)
    if not callable(function) or isinstance(function, type):
        raise _misshapen(plugin, "is no function of grades and doc_ids")
    return function


def _misshapen(plugin: Plugin, what: str) -> UserError:
    return UserError(f"{plugin.title}: {plugin.place} {what}; docs/extending.md says what a plugin must be")
