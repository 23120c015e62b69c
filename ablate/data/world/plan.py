"""Sizes and splits: which topics a world has, where each belongs, and how many documents it holds.

The numbers are integers throughout, so that a size means the same split everywhere. At 5,000 documents: 90 training
topics, and 30 / 60 / 40 topics for dev, test and held out. A smaller world has fewer topics. A larger one has more
evaluation topics (up to MOST_GROWTH times as many), and more contents in each training topic (up to MOST_CONTENTS);
beyond that it has more training topics; beyond those, more contents again. Where a split needs more topics than its
domain lists, every one of them is a listed topic narrowed by an invented name, so that none includes another.

Every topic has a sibling, another topic of which there are a few documents that mention the topic in passing: near
topics, which are not relevant to its queries.
"""

from __future__ import annotations

from typing import NamedTuple

from ablate.data.world.tables import Domain, TopicTexts, domains, shared, with_article
from ablate.randomness import key

REFERENCE = 5000
TRAIN_TOPICS = 15
"""Per domain; the same unit holds for the three below."""
DEV_TOPICS, TEST_TOPICS, HELDOUT_TOPICS = 5, 10, 20
EVALUATION_DOCUMENTS = 10
"""Per topic."""
NEAR_DOCUMENTS = 4
"""Per evaluation topic, of its sibling."""
NEAR_CONTENTS = 3
"""Per training topic, of its sibling."""
MOST_CONTENTS = 36
"""Per training topic, those of its sibling included."""
MOST_GROWTH = 4
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
    num_near: int
    """As many documents has its sibling; 0 for a sibling itself."""
    about: str | None
    """A description without the name; None for a sibling, whose documents all name it."""
    other: str
    """What its documents mention in passing: the sibling, or the topic that this is the sibling of."""
    sibling: str
    """Name of the sibling; empty for a sibling itself."""

    @property
    def voice(self) -> str:
        """Return which of the tables' splits its documents are worded from."""
        return "train" if self.split == "train" else "evaluation"


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
    growth = min(max(documents, REFERENCE), MOST_GROWTH * REFERENCE)
    dev: list[Topic] = []
    test: list[Topic] = []
    heldout: list[Topic] = []
    for domain in seen:
        listed = _shuffled(domain, seed)
        number = _scaled(DEV_TOPICS, documents, 1) * growth // REFERENCE
        dev += _evaluation_topics(domain, listed[:DEV_TOPICS], "dev", number)
        number = _scaled(TEST_TOPICS, documents, 1) * growth // REFERENCE
        test += _evaluation_topics(domain, listed[DEV_TOPICS : DEV_TOPICS + TEST_TOPICS], "test", number)
    for domain in unseen:
        number = _scaled(HELDOUT_TOPICS, documents, 3) * growth // REFERENCE
        heldout += _evaluation_topics(domain, _shuffled(domain, seed)[:HELDOUT_TOPICS], "heldout", number)

    rest = documents - sum(topic.contents + topic.num_near for topic in (*dev, *test, *heldout))
    if rest % 2:
        dev[0] = dev[0]._replace(contents=dev[0].contents + 1)
        rest -= 1
    base = _scaled(TRAIN_TOPICS, documents, 2)
    most = base * len(seen) * len(shared().names)
    num_topics = base * len(seen)
    if rest // 2 > num_topics * MOST_CONTENTS:
        num_topics = min(-(-(rest // 2) // MOST_CONTENTS), most)
    train: list[Topic] = []
    listed_by = {domain.name: _shuffled(domain, seed)[DEV_TOPICS + TEST_TOPICS :] for domain in seen}
    for i in range(num_topics):
        turn, place = divmod(i, base * len(seen))
        domain = seen[place % len(seen)]
        texts = listed_by[domain.name][place // len(seen)]
        contents = rest // 2 // num_topics + (i < rest // 2 % num_topics)
        invented = shared().names[turn] if num_topics > base * len(seen) else ""
        train.append(_topic(domain, i // len(seen), texts, "train", contents - NEAR_CONTENTS, NEAR_CONTENTS, invented))
    return Plan(tuple(train), tuple(dev), tuple(test), tuple(heldout))


def near_topic(topic: Topic) -> Topic:
    """Return the sibling of a topic as a topic of its own: it speaks of the same attributes and mentions the topic."""
    return topic._replace(
        name=topic.sibling,
        with_article=with_article(topic.sibling),
        slug=f"{topic.slug}-near",
        contents=topic.num_near,
        num_near=0,
        about=None,
        other=_mentioned(topic.domain, topic.name),
        sibling="",
    )


def _scaled(number: int, documents: int, least: int) -> int:
    return min(number, max(least, (2 * number * documents + REFERENCE) // (2 * REFERENCE)))


def _shuffled(domain: Domain, seed: int) -> list[TopicTexts]:
    return sorted(domain.topics, key=lambda texts: (key(seed, "topic", domain.name, texts.name), texts.name))


def _evaluation_topics(domain: Domain, listed: list[TopicTexts], split: str, number: int) -> list[Topic]:
    topics = []
    for place in range(number):
        turn, nth = divmod(place, len(listed))
        invented = shared().names[turn] if number > len(listed) else ""
        topics.append(_topic(domain, place, listed[nth], split, EVALUATION_DOCUMENTS, NEAR_DOCUMENTS, invented))
    return topics


def _topic(
    domain: Domain, place: int, texts: TopicTexts, split: str, contents: int, num_near: int, invented: str
) -> Topic:
    """Return a topic as listed, or narrowed by an invented name (empty: as listed)."""
    if invented:
        texts = TopicTexts(*(domain.modified.format(t=text, name=invented) for text in texts))
    slug = f"{domain.name}-{'-'.join(texts.name.lower().replace(chr(39), '').split())}"
    return Topic(
        domain=domain,
        place=place,
        name=texts.name,
        with_article=with_article(texts.name),
        slug=slug,
        split=split,
        contents=contents,
        num_near=num_near,
        about=texts.description,
        other=_mentioned(domain, texts.sibling),
        sibling=texts.sibling,
    )


def _mentioned(domain: Domain, name: str) -> str:
    return domain.mentioned.format(t=name, a=with_article(name))
