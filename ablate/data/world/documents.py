"""Writing documents: the levels of their attributes, and the text that states them.

Each topic speaks of two of its domain's attributes, and its documents state each of these in two ways: a small encoder
can then learn to look for them from some hundreds of rows, which it cannot when six are stated once.

Levels are balanced inside a topic: each attribute deals its levels to the documents in a random order, so that no side
of a constraint is rare, and the second order crosses the first, so that sides of one attribute do not go with sides of
the other. The text of a document depends on the seed, its topic and its number; the style changes wording that states
nothing.

What a document is about is told once, in its first sentence: by name, or in one of DESCRIBED documents by a
description. Documents of the sibling of a topic mention the topic in passing, and some documents of the topic mention
the sibling, so that a name alone does not tell what a document is about.
"""

from __future__ import annotations

from typing import Any

from ablate.data.world.plan import Topic
from ablate.data.world.tables import STYLES, shared
from ablate.randomness import key

_MASK = (1 << 64) - 1


class Draws:
    """A cheap stream of integers (SplitMix64, Steele et al. 2014, doi 10.1145/2714064.2660195)."""

    __slots__ = ("state",)

    def __init__(self, state: int) -> None:
        self.state = state

    def below(self, bound: int) -> int:
        """Return the next integer in [0, bound), for bounds far below 2**64."""
        self.state = state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((state ^ (state >> 31)) * bound) >> 64

    def shuffle(self, items: list[Any]) -> None:
        """Bring a list into random order (Fisher-Yates)."""
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]


def levels_of(seed: int, topic: Topic) -> tuple[tuple[int, ...], ...]:
    """Return the level of each document of a topic: by attribute, then by number of the document."""
    size, first, second = topic.contents, *said_attributes(topic)
    dealt: list[tuple[int, ...]] = []
    orders: list[list[int]] = []
    by_attribute = topic.domain.clauses[topic.voice][0]
    for attribute, (name, by_level) in enumerate(zip(topic.domain.attributes, by_attribute, strict=True)):
        draws = Draws(key(seed, "levels", topic.slug, name))
        places = list(range(size))
        draws.shuffle(places)
        if attribute == second:
            places = _crossed(orders[first], draws)
        orders.append(places)
        count = len(by_level)
        dealt.append(tuple((place * count + draws.below(count)) // size for place in places))
    return tuple(dealt)


def _crossed(first: list[int], draws: Draws) -> list[int]:
    """Return another order of as many places, of which each half holds half of each half of the first."""
    half = len(first) // 2
    lower = [number for number, place in enumerate(first) if place < half]
    upper = [number for number, place in enumerate(first) if place >= half]
    low, high = list(range(half)), list(range(half, len(first)))
    for numbers in (lower, upper, low, high):
        draws.shuffle(numbers)
    quarter = half // 2
    places = [*low[:quarter], *high[: half - quarter], *low[quarter:], *high[half - quarter :]]
    crossed = dict(zip([*lower, *upper], places, strict=True))
    return [crossed[number] for number in range(len(first))]


WAYS_SAID = 2
DESCRIBED = 4
"""One document in this many describes its topic and does not name it."""
BESIDE = 3
"""One document of a topic in this many mentions the sibling, and one in this many adds what decides nothing."""


def said_attributes(topic: Topic) -> tuple[int, int]:
    """Return the two attributes (by place in the domain) that documents and instructions of a topic speak of.

    The topics of a domain take its pairs in turn, so that each attribute is said equally often.
    """
    count = len(topic.domain.attributes)
    turn, first = divmod(topic.place, count)
    second = (first + 1 + turn % (count - 1)) % count
    return min(first, second), max(first, second)


def document_draws(seed: int, topic: Topic, number: int) -> Draws:
    """Return the stream that decides everything about the wording of one document."""
    return Draws(key(seed, "document", topic.slug, number))


def write(topic: Topic, levels: tuple[int, ...], style: int, draws: Draws) -> str:
    """Write one document: intro, the clauses of each attribute and what is said beside them, a closing line.

    `style` indexes STYLES. The draws do not depend on it, so both renderings of a document say the same things in
    the same order.
    """
    domain, below = topic.domain, draws.below
    clauses = domain.clauses[topic.voice][style]
    distractors = domain.distractors[topic.voice][style]
    intros = domain.intros[topic.voice][style]
    intro = intros[below(len(intros))]
    described, beside = below(DESCRIBED) == 0, below(BESIDE)
    sentences = []
    for attribute in said_attributes(topic):
        ways = list(clauses[attribute][levels[attribute]])
        for _ in range(min(WAYS_SAID, len(ways))):
            sentences.append(ways.pop(below(len(ways))))
    common = shared()
    passing = common.passing[topic.voice]
    distractor, mention = distractors[below(len(distractors))], passing[below(len(passing))]
    if beside == 0 or topic.about is None:
        sentences.append(mention.format(m=topic.other))
    elif beside == 1:
        sentences.append(distractor)
    draws.shuffle(sentences)
    prefixes = common.prefixes[style]
    at, which = below(len(sentences)), below(len(prefixes))
    sentences[at] = prefixes[which] + sentences[at]
    closers = common.closers[topic.voice][style]
    if described and topic.about is not None:
        intro = intro.replace("{t}", topic.about).replace("{a}", topic.about)
    intro = intro.replace("{t}", topic.name).replace("{a}", topic.with_article)
    text = ". ".join([intro, *sentences, closers[below(len(closers))]])
    return ". ".join([sentence[0].upper() + sentence[1:] for sentence in text.split(". ")]) + "."


def training_id(topic: Topic, number: int, style: int) -> str:
    """Return the id of a training passage: content and style."""
    return f"{topic.slug}-{number:04d}.{STYLES[style]}"


def evaluation_id(topic: Topic, number: int) -> str:
    """Return the id of an evaluation document, which exists in one style only."""
    return f"{topic.slug}-{number:04d}"
