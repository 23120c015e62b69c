"""What is true in the world: an instruction is read back into its demands, which are put to a passage's levels.

instruction -> the templates that it fits -> phrases -> demands, in every way in which it can be read
passage id  -> topic, level of each attribute                  (the tables that its text was written from)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from ablate.data.truth import UNKNOWN
from ablate.data.world import World
from ablate.data.world.tables import Domain, domains, shared

_SPLIT = "train"
_AND, _OR = " and ", " or "


class _Asked(NamedTuple):
    """A demand: a constraint by its places in the tables, with the side that is asked for."""

    attribute: int
    place: int
    usual: bool

    @property
    def opposite(self) -> _Asked:
        return self._replace(usual=not self.usual)


_Reading = frozenset[_Asked]


class WorldTruth:
    """Relevance of training passages by the tables of a world; see `ablate.data.truth.Truth`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._topics_of: dict[str, set[str]] = {}
        """Query as it is worded in training -> slugs of the topics that it asks for."""
        for topic in world.training_topics():
            for pattern in topic.domain.requests[_SPLIT]:
                query = pattern.format(t=topic.name, a=topic.with_article)
                self._topics_of.setdefault(query, set()).add(topic.slug)

    def is_relevant(self, query_id: str, query: str, instruction: str, doc_id: str) -> bool | None:
        """Return whether a passage is about what the query asks for and satisfies the instruction; None: not known.

        A query of the world asks for what its text says, whichever its id.
        """
        topic, levels = self._world.content(doc_id)
        slugs = self._topics_of.get(query)
        answers = {
            all(topic.domain.asks[a][place].holds[levels[a]] == usual for a, place, usual in reading)
            for reading in _readings(topic.domain.name, instruction)
        }
        if slugs is None or len(answers) != 1:
            return None
        return topic.slug in slugs and answers.pop()

    def constraint_type(self, query_id: str, query: str, instruction: str, complement: str, doc_id: str) -> str:
        """Return the kind of the constraint whose other side the complement asks for."""
        domain = self._world.content(doc_id)[0].domain
        kinds = {
            domain.asks[asked.attribute][asked.place].kind
            for reading in _readings(domain.name, instruction)
            for other in _readings(domain.name, complement)
            for asked in reading - other
            if other == reading - {asked} | {asked.opposite}
        }
        return kinds.pop() if len(kinds) == 1 else UNKNOWN


@functools.lru_cache(maxsize=1 << 16)
def _readings(domain_name: str, instruction: str) -> frozenset[_Reading]:
    """Return every set of demands that the instruction can be read as, in the words of a domain."""
    domain = _domain(domain_name)
    readings = set[_Reading]()
    for template in _templates(domain.noun):
        match = template.fullmatch(instruction)
        if match:
            said = match.groupdict()
            sides = [set(_demands(domain_name, said[name], name == "p")) for name in ("p", "q") if name in said]
            readings |= set.intersection(*sides)
    return frozenset(readings)


def _demands(domain_name: str, text: str, wanted: bool) -> Iterator[_Reading]:
    """Yield the demands that a text of phrases stands for: all of what is wanted, or any of what is not."""
    phrases = _phrases(domain_name, wanted)
    for asked in phrases.get(text, ()):
        yield frozenset([asked])
    joint = _AND if wanted else _OR
    for match in re.finditer(f"(?={joint})", text):
        first, second = text[: match.start()], text[match.start() + len(joint) :]
        for asked in phrases.get(first, ()):
            for other in phrases.get(second, ()):
                yield frozenset([asked, other])


@functools.cache
def _domain(name: str) -> Domain:
    return next(domain for domain in domains() if domain.name == name)


@functools.cache
def _phrases(domain_name: str, wanted: bool) -> dict[str, tuple[_Asked, ...]]:
    """Return phrase -> the demands that it is a wording of, or (not wanted) a wording of the complement of."""
    known: dict[str, tuple[_Asked, ...]] = {}
    for attribute, constraints in enumerate(_domain(domain_name).asks):
        for place, constraint in enumerate(constraints):
            for usual in (True, False):
                worded = constraint.usual if usual == wanted else constraint.complement
                for phrase in worded[_SPLIT]:
                    known[phrase] = (*known.get(phrase, ()), _Asked(attribute, place, usual))
    return known


@functools.cache
def _templates(noun: str) -> tuple[re.Pattern[str], ...]:
    """Return the training templates as patterns in which `p` is what is wanted and `q` what is not."""
    patterns = []
    for templates in shared().templates[_SPLIT].values():
        for template in templates:
            parts = re.split(r"\{([npq])\}", template)
            named = {"n": re.escape(noun), "p": "(?P<p>.+)", "q": "(?P<q>.+)"}
            pieces = (re.escape(part) if place % 2 == 0 else named[part] for place, part in enumerate(parts))
            patterns.append(re.compile("".join(pieces)))
    return tuple(patterns)
