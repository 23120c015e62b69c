"""Sizes and splits: which topics a world has, where each belongs, and how many documents it holds.

The numbers are integers throughout, so that a size means the same split everywhere. At 3,000 documents: 72 training
topics, and 12 / 24 / 32 topics for dev, test and held out. A smaller world has fewer topics. A larger one has more
documents in each evaluation topic (up to ten times as many) and in each training topic (up to 60 contents); beyond
that it has more training topics, each a base topic narrowed by an invented name; beyond those, more documents again.
"""

from __future__ import annotations

from typing import NamedTuple

from ablate.data.world.tables import Domain, domains, shared, with_article
from ablate.randomness import key

REFERENCE = 3000
TRAIN_TOPICS = 12
"""Per domain; the same unit holds for the three below."""
DEV_TOPICS, TEST_TOPICS, HELDOUT_TOPICS = 2, 4, 16
DEV_DOCUMENTS, TEST_DOCUMENTS, HELDOUT_DOCUMENTS = 18, 22, 16
"""Per topic."""
MOST_CONTENTS = 60
MOST_GROWTH = 10
EVALUATION_NAMES = ("dev", "test", "heldout")


class Topic(NamedTuple):
    """One topic of one domain in one split."""

    domain: Domain
    place: int
    """Among the topics of its split and domain."""
    name: str
    with_article: str
    slug: str
    """Start of the ids of its documents and queries; unique in the world."""
    split: str
    contents: int
    """Documents; in the training split each exists in both styles."""


class Plan(NamedTuple):
    """All topics of a world, by split."""

    train: tuple[Topic, ...]
    dev: tuple[Topic, ...]
    test: tuple[Topic, ...]
    heldout: tuple[Topic, ...]

    def evaluation(self, name: str) -> tuple[Topic, ...]:
        """Return the topics of one evaluation set."""
        return {"dev": self.dev, "test": self.test, "heldout": self.heldout}[name]


def make_plan(seed: int, documents: int) -> Plan:
    """Lay out a world of exactly this many documents; the seed decides which topic falls into which split."""
    seen = [domain for domain in domains() if not domain.held_out]
    unseen = [domain for domain in domains() if domain.held_out]
    order = {domain.name: _shuffled(domain, seed) for domain in domains()}

    num_dev = _scaled(DEV_TOPICS, documents, 1)
    num_test = _scaled(TEST_TOPICS, documents, 1)
    num_heldout = _scaled(HELDOUT_TOPICS, documents, 3)
    growth = min(max(documents, REFERENCE), MOST_GROWTH * REFERENCE)
    dev, test, heldout = [], [], []
    for domain in seen:
        names = order[domain.name]
        sizes = (DEV_DOCUMENTS * growth // REFERENCE, TEST_DOCUMENTS * growth // REFERENCE)
        dev += [_topic(domain, i, names[i], "dev", sizes[0]) for i in range(num_dev)]
        test += [_topic(domain, i, names[DEV_TOPICS + i], "test", sizes[1]) for i in range(num_test)]
    for domain in unseen:
        size = HELDOUT_DOCUMENTS * growth // REFERENCE
        names = order[domain.name]
        heldout += [_topic(domain, i, names[i], "heldout", size) for i in range(num_heldout)]

    rest = documents - sum(topic.contents for topic in (*dev, *test, *heldout))
    if rest % 2:
        dev[0] = dev[0]._replace(contents=dev[0].contents + 1)
        rest -= 1
    base = _scaled(TRAIN_TOPICS, documents, 2)
    most = base * len(seen) * (1 + len(shared().names))
    num_topics = base * len(seen)
    if rest // 2 > num_topics * MOST_CONTENTS:
        num_topics = min(-(-(rest // 2) // MOST_CONTENTS), most)
    train = []
    for i in range(num_topics):
        turn, place = divmod(i, base * len(seen))
        domain = seen[place % len(seen)]
        name = order[domain.name][DEV_TOPICS + TEST_TOPICS + place // len(seen)]
        contents = rest // 2 // num_topics + (i < rest // 2 % num_topics)
        train.append(_topic(domain, i // len(seen), name, "train", contents, turn))
    return Plan(tuple(train), tuple(dev), tuple(test), tuple(heldout))


def _scaled(number: int, documents: int, least: int) -> int:
    return min(number, max(least, (2 * number * documents + REFERENCE) // (2 * REFERENCE)))


def _shuffled(domain: Domain, seed: int) -> list[str]:
    return sorted(domain.topics, key=lambda topic: (key(seed, "topic", domain.name, topic), topic))


def _topic(domain: Domain, place: int, name: str, split: str, contents: int, turn: int = 0) -> Topic:
    if turn:
        name = domain.modified.format(t=name, name=shared().names[turn - 1])
    slug = f"{domain.name}-{'-'.join(name.lower().split())}"
    return Topic(domain, place, name, with_article(name), slug, split, contents)
