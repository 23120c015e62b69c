"""Writing documents: the levels of their attributes, and the text that states them.

Each topic speaks of NUM_SAID of its domain's attributes, and its documents state each of these in two ways: a small
encoder can then learn to look for them from a few hundred rows, which it cannot when six are stated once.

Levels are balanced inside a topic: each attribute deals its levels to the documents of a topic in a random order of
its own, so that no side of a constraint is rare and no two attributes go together but by chance. The text of a
document depends on the seed, its topic and its number; the style changes wording that states nothing.
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
    size = topic.contents
    dealt = []
    for name, by_level in zip(topic.domain.attributes, topic.domain.clauses[0], strict=True):
        draws = Draws(key(seed, "levels", topic.slug, name))
        places = list(range(size))
        draws.shuffle(places)
        count = len(by_level)
        dealt.append(tuple((place * count + draws.below(count)) // size for place in places))
    return tuple(dealt)


NUM_SAID = 3
WAYS_SAID = 2


def said_attributes(topic: Topic) -> tuple[int, ...]:
    """Return the attributes (by place in the domain) that documents and instructions of a topic speak of."""
    names = topic.domain.attributes
    drawn = sorted(range(len(names)), key=lambda place: key(0, "said", topic.slug, names[place]))
    return tuple(sorted(drawn[:NUM_SAID]))


def document_draws(seed: int, topic: Topic, number: int) -> Draws:
    """Return the stream that decides everything about the wording of one document."""
    return Draws(key(seed, "document", topic.slug, number))


def write(topic: Topic, levels: tuple[int, ...], style: int, draws: Draws) -> str:
    """Write one document: intro, the clauses of each attribute among distractors, a closing line.

    `style` indexes STYLES. The draws do not depend on it, so both renderings of a document say the same things in
    the same order.
    """
    domain, below = topic.domain, draws.below
    clauses = domain.clauses[style]
    distractors = domain.distractors[style]
    intro = domain.intros[style][below(len(domain.intros[style]))]
    sentences = []
    for attribute in said_attributes(topic):
        ways = list(clauses[attribute][levels[attribute]])
        for _ in range(min(WAYS_SAID, len(ways))):
            sentences.append(ways.pop(below(len(ways))))
    sentences.append(distractors[below(len(distractors))])
    draws.shuffle(sentences)
    common = shared()
    prefixes = common.prefixes[style]
    for _ in range(2):
        at, which = below(len(sentences)), below(len(prefixes))
        if not sentences[at].startswith(prefixes):
            sentences[at] = prefixes[which] + sentences[at]
    closers = common.closers[style]
    sentences = [intro, *sentences, closers[below(len(closers))]]
    text = ". ".join(sentences).replace("{t}", topic.name).replace("{a}", topic.with_article)
    return ". ".join([sentence[0].upper() + sentence[1:] for sentence in text.split(". ")]) + "."


def training_id(topic: Topic, number: int, style: int) -> str:
    """Return the id of a training passage: content and style."""
    return f"{topic.slug}-{number:04d}.{STYLES[style]}"


def evaluation_id(topic: Topic, number: int) -> str:
    """Return the id of an evaluation document, which exists in one style only."""
    return f"{topic.slug}-{number:04d}"
