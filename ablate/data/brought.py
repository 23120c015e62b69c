"""A source that another distribution brings (`ablate.plugins`), asked through checks of all that it gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from ablate.plugins import Plugin, plugin_of, told
from ablate.recipe.schema import PluginSource
from ablate.records import EvaluationSet, Passage, SourceRow, UserError

METHODS = ("rows", "generated", "style_of", "passages", "documents", "evaluation_set")


class BroughtSource:
    """The `RowSource` that a plugin opened: what it raises, and what is of another type, is told in one line.

    Its revision begins with distribution and version, so that another release of the plugin gives other ids.
    """

    def __init__(self, source: PluginSource, sets: tuple[str, ...]) -> None:
        """Open the source of these keys; raises UserError when it does not open or lacks a method."""
        plugin = plugin_of("ablate.sources", source.kind)
        assert plugin is not None, "the keys were built from its type"
        self._plugin: Plugin = plugin
        with told(plugin, "in open()"):
            self._opened: Any = source.open(sets)
        for name in METHODS:
            if not callable(getattr(self._opened, name, None)):
                raise self._wrong("open()", f"what has no method {name}")
        revision, names = self._asked("revision"), self._asked("evaluation_names")
        if not isinstance(revision, str) or not revision:
            raise self._wrong("revision", f"{revision!r}, which must be a text: a digest of the content")
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise self._wrong("evaluation_names", f"{names!r}, which must be a tuple of texts")
        self.revision: str = f"{plugin.revision} {revision}"
        """Distribution, version, and the plugin's own revision."""
        self.evaluation_names: tuple[str, ...] = names
        """Names that `evaluation_set` takes."""

    def rows(self) -> Iterator[SourceRow]:
        """Yield all base rows, in a fixed order."""
        yield from self._each("rows()", self._opened.rows, SourceRow)

    def generated(self, doc_id: str) -> bool | None:
        """Return whether a passage was written by a program or a language model; None when that is not known."""
        with told(self._plugin, "in generated()"):
            answer = self._opened.generated(doc_id)
            return None if answer is None else bool(answer)

    def style_of(self, doc_id: str) -> str | None:
        """Return the style that a training passage is written in; None when the source has no styles."""
        with told(self._plugin, "in style_of()"):
            answer = self._opened.style_of(doc_id)
            return None if answer is None else str(answer)

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        """Yield the training passages of these ids, in the order asked; raises UserError for an unknown id."""
        asked = list(doc_ids)
        given = self._each("passages()", lambda: self._opened.passages(asked), Passage)
        for doc_id, passage in itertools.zip_longest(asked, given):
            if doc_id is None or passage is None or passage.doc_id != doc_id:
                instead = "nothing" if passage is None else repr(passage.doc_id)
                raise self._wrong("passages()", f"{instead} where {doc_id!r} was asked for")
            yield passage

    def documents(self) -> Iterator[Passage]:
        """Yield the whole corpus, in a fixed order."""
        yield from self._each("documents()", self._opened.documents, Passage)

    def evaluation_set(self, name: str) -> EvaluationSet:
        """Return an evaluation set by its name; raises UserError for an unknown one."""
        with told(self._plugin, f"in evaluation_set({name!r})"):
            bed = self._opened.evaluation_set(name)
        if not isinstance(bed, EvaluationSet):
            raise self._wrong(f"evaluation_set({name!r})", f"a {type(bed).__name__}, which must be an EvaluationSet")
        if bed.name.rpartition("/")[2] != name:
            raise self._wrong(f"evaluation_set({name!r})", f"a set named {bed.name!r}; its name is DATA_SET/{name}")
        return bed

    def _asked(self, name: str) -> Any:
        with told(self._plugin, f"in {name}"):
            return getattr(self._opened, name)

    def _each(self, doing: str, give: Any, kind: type) -> Iterator[Any]:
        with told(self._plugin, f"in {doing}"):
            items = iter(give())
        while True:
            with told(self._plugin, f"in {doing}"):
                try:
                    item = next(items)
                except StopIteration:
                    return
            if not isinstance(item, kind):
                raise self._wrong(doing, f"a {type(item).__name__}, which must be a {kind.__name__}")
            yield item

    def _wrong(self, doing: str, what: str) -> UserError:
        plugin = self._plugin
        return UserError(f"{plugin.title} gave in {doing} {what}; mend or uninstall {plugin.distribution}")
