"""The generated world: a corpus, instructions and labels that are exactly true, all from one seed.

Public surface: `World`, and `EVALUATION_NAMES`. Contents are YAML tables beside this module (`shared.yaml`,
`domains/`), writing and splits are the modules of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from ablate.data.world.documents import document_draws, levels_of, training_id, write
from ablate.data.world.plan import EVALUATION_NAMES, Plan, Topic, make_plan, near_topic
from ablate.data.world.queries import make_evaluation_set, topic_documents
from ablate.data.world.rows import training_rows
from ablate.data.world.tables import STYLES, revision
from ablate.records import EvaluationSet, Passage, SourceRow, UserError

__all__ = ["EVALUATION_NAMES", "World"]

_FEWEST, _MOST = 600, 10_000_000
_KEPT_TOPICS = 1024
_KEPT_DOCUMENTS = 10_000
"""Worlds up to this size keep the rows and the evaluation sets that were made once: at most some 20 MiB."""


class World:
    """One generated world; cheap to construct, everything is made when it is asked for."""

    evaluation_names = EVALUATION_NAMES

    def __init__(self, *, seed: int, documents: int, skew: float, shortcut: float) -> None:
        """Fix the world; raises UserError for a size, skew or shortcut outside what is allowed.

        `documents` counts every text, both renderings of a training content included. `skew` is the probability that
        the instruction of a row asks for the usual side of its constraint. With probability (1 + shortcut) / 2 a
        positive is written in style a, and an instruction negative in style b.
        """
        if not _FEWEST <= documents <= _MOST:
            raise UserError(
                f"source.documents={documents}: must lie between {_FEWEST} and {_MOST}; set it to 5000 for the default"
            )
        if not 0.5 <= skew <= 1:
            raise UserError(
                f"source.skew={skew}: must lie between 0.5 (no skew) and 1 (always the usual side); set it in between"
            )
        if not 0 <= shortcut <= 1:
            raise UserError(
                f"source.shortcut={shortcut}: must lie between 0 (style by coin) and 1 (style tells all); set it in "
                f"between"
            )
        self._seed = seed
        self._num_documents = documents
        self._skew = skew
        self._shortcut = shortcut
        self._levels: dict[str, tuple[tuple[int, ...], ...]] = {}
        self._rows: tuple[SourceRow, ...] | None = None
        self._sets: dict[str, EvaluationSet] = {}

    @property
    def revision(self) -> str:
        """Version of generator and tables: it changes when, and only when, the bytes of a world could."""
        return revision()

    @cached_property
    def _plan(self) -> Plan:
        return make_plan(self._seed, self._num_documents)

    @cached_property
    def _train_topics(self) -> dict[str, Topic]:
        """All topics of training passages by their slugs, each followed by its sibling."""
        return {topic.slug: topic for own in self._plan.train for topic in (own, near_topic(own))}

    def rows(self) -> Iterator[SourceRow]:
        """Yield all base training rows, in a fixed order."""
        if self._rows is not None:
            return iter(self._rows)
        made = training_rows(self._seed, self._plan.train, self._skew, self._shortcut)
        if self._num_documents > _KEPT_DOCUMENTS:
            return made
        self._rows = tuple(made)
        return iter(self._rows)

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        """Yield training passages in the order asked; raises UserError for an id that is not one."""
        for doc_id in doc_ids:
            topic, number, style = self._parse(doc_id)
            yield Passage(doc_id, self._text(topic, number, style))

    def generated(self, doc_id: str) -> bool | None:
        """Return True: every text is written by the generator."""
        return True

    def style_of(self, doc_id: str) -> str | None:
        """Return the style that the id of a training passage ends in."""
        return doc_id.rpartition(".")[2]

    def documents(self) -> Iterator[Passage]:
        """Yield the whole corpus topic by topic: training passages in both styles, then the evaluation sets."""
        for topic in self._train_topics.values():
            for number in range(topic.contents):
                for style in range(len(STYLES)):
                    yield Passage(training_id(topic, number, style), self._text(topic, number, style))
        for name in EVALUATION_NAMES:
            for topic in self._plan.evaluation(name):
                yield from topic_documents(self._seed, topic)
                yield from topic_documents(self._seed, near_topic(topic))

    def evaluation_set(self, name: str) -> EvaluationSet:
        """Return the documents, queries and labels of `dev`, `test` or `heldout`; raises UserError for another name."""
        if name not in EVALUATION_NAMES:
            raise UserError(f"world has no evaluation set {name!r}; choose from {', '.join(EVALUATION_NAMES)}")
        if name in self._sets:
            return self._sets[name]
        made = make_evaluation_set(self._seed, name, self._plan.evaluation(name))
        if self._num_documents <= _KEPT_DOCUMENTS:
            self._sets[name] = made
        return made

    def training_topics(self) -> Iterable[Topic]:
        """Return all topics that training passages are about, each followed by its sibling."""
        return self._train_topics.values()

    def content(self, doc_id: str) -> tuple[Topic, tuple[int, ...]]:
        """Return the topic of a training passage and the level of each attribute; UserError for an id that is none."""
        topic, number, _ = self._parse(doc_id)
        return topic, self._levels_at(topic, number)

    def _levels_at(self, topic: Topic, number: int) -> tuple[int, ...]:
        levels = self._levels.get(topic.slug)
        if levels is None:
            if len(self._levels) >= _KEPT_TOPICS:
                self._levels.clear()
            levels = self._levels[topic.slug] = levels_of(self._seed, topic)
        return tuple(dealt[number] for dealt in levels)

    def _text(self, topic: Topic, number: int, style: int) -> str:
        return write(topic, self._levels_at(topic, number), style, document_draws(self._seed, topic, number))

    def _parse(self, doc_id: str) -> tuple[Topic, int, int]:
        stem, _, style = doc_id.rpartition(".")
        slug, _, number = stem.rpartition("-")
        topic = self._train_topics.get(slug)
        if topic and style in STYLES and number.isascii() and number.isdigit() and int(number) < topic.contents:
            if doc_id == training_id(topic, int(number), STYLES.index(style)):
                return topic, int(number), STYLES.index(style)
        raise UserError(
            f"world has no training passage {doc_id!r}; ask for ids that the rows of the same seed and size name"
        )
