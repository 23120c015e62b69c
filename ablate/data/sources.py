"""Where rows and evaluation sets come from: one small interface, and the dictionary of its implementations."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from ablate.recipe.rules import rules_used
from ablate.recipe.schema import BeirSource, MtebSource, PublishedSource, RulesSource, Source, WorldSource
from ablate.records import EvaluationSet, Passage, SourceRow, UserError
from ablate.timing import timed


class SetSource(Protocol):
    """Evaluation sets to measure on."""

    @property
    def revision(self) -> str:
        """What ids hold for the content: it changes whenever a byte that is read could change."""

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Names that `evaluation_set` takes."""

    def evaluation_set(self, name: str) -> EvaluationSet:
        """Return an evaluation set by its name; raises UserError for an unknown one."""


class RowSource(SetSource, Protocol):
    """A corpus with base rows to train on and evaluation sets to measure on."""

    def rows(self) -> Iterator[SourceRow]:
        """Yield all base rows, in a fixed order."""

    def generated(self, doc_id: str) -> bool | None:
        """Return whether a passage was written by a program or a language model; None when that is not known."""

    def style_of(self, doc_id: str) -> str | None:
        """Return the style that a training passage is written in; None when the source has no styles."""

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        """Yield the training passages of these ids, in the order asked; raises UserError for an unknown id."""

    def documents(self) -> Iterator[Passage]:
        """Yield the whole corpus, in a fixed order and in bounded memory."""


class ReadOnce:
    """Evaluation sets of which each is read once, or fails once: all runs of a plan ask one of these."""

    def __init__(self, sets: SetSource) -> None:
        self._sets = sets
        self._answers: dict[str, EvaluationSet | UserError] = {}

    @property
    def revision(self) -> str:
        """What ids hold for the content."""
        return self._sets.revision

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Names that `evaluation_set` takes."""
        return self._sets.evaluation_names

    def evaluation_set(self, name: str) -> EvaluationSet:
        """Return an evaluation set by its name; raises UserError where the first reading did."""
        if name not in self._answers:
            try:
                self._answers[name] = self._sets.evaluation_set(name)
            except UserError as error:
                self._answers[name] = error
        answer = self._answers[name]
        if isinstance(answer, UserError):
            raise answer
        return answer


def open_sets(source: Source | MtebSource, sets: tuple[str, ...], caches: Path) -> SetSource:
    """Return the source of these evaluation sets; other packages keep their caches in `caches`.

    Raises UserError when files are broken or a set is not known.
    """
    if isinstance(source, MtebSource):
        from ablate.data.official import OfficialTasks

        tasks = OfficialTasks(
            revisions=source.revisions, split=source.split, path=source.path, sets=sets, caches=caches
        )
        return ReadOnce(tasks)
    return open_source(source, sets)


def check_names(sets: SetSource, names: Iterable[str]) -> None:
    """Raise UserError when a source has no evaluation set of one of these names, which two keys can ask for."""
    for name in names:
        if name not in sets.evaluation_names:
            raise UserError(
                f"the source has no evaluation set {name!r}; it has: {', '.join(sets.evaluation_names) or 'none'} "
                f"(keys evaluation.sets and runtime.dev_set; sets of another source: +evaluation_source=NAME)"
            )


@functools.lru_cache(maxsize=1)
def _world(seed: int, documents: int, skew: float, shortcut: float) -> RowSource:
    """Return the world of these parameters, which decide all of it: the last one serves the next run of a process."""
    from ablate.data.world import World

    return World(seed=seed, documents=documents, skew=skew, shortcut=shortcut)


@timed("source read")
def open_source(source: Source, sets: tuple[str, ...]) -> RowSource:
    """Return the source that a recipe names, with these evaluation sets; raises UserError when files are broken."""
    if isinstance(source, WorldSource):
        return _world(source.seed, source.documents, source.skew, source.shortcut)
    if isinstance(source, RulesSource):
        from ablate.data.rules import RuleSource

        return RuleSource(
            path=source.path,
            rules=rules_used(source.rules, source.only),
            train_split=source.train_split,
            evaluation_splits=sets,
            skew=source.skew,
            seed=source.seed,
            minimum=source.minimum,
            own_document=source.own_document,
            queries=source.queries,
            minimum_share=source.minimum_share,
            margin=source.margin,
            num_wordings=source.num_wordings,
        )
    if isinstance(source, PublishedSource):
        from ablate.data.published import open_published

        return open_published(
            format=source.format,
            path=source.path,
            repo=source.repo,
            revision=source.hub_revision,
            subset=source.subset,
            split=source.split,
            records=source.records,
            min_positive_score=source.min_positive_score,
            max_negative_score=source.max_negative_score,
            other_queries=source.other_queries,
            passage_ids=source.passage_ids,
        )
    if isinstance(source, BeirSource):
        from ablate.data.beir import BeirFolder

        return BeirFolder(
            path=source.path,
            train_split=source.train_split,
            evaluation_splits=sets,
            skew=source.skew,
            seed=source.seed,
            reversals=source.reversals,
            own_document=source.own_document,
        )
    from ablate.data.brought import BroughtSource

    return BroughtSource(source, sets)
