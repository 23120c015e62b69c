"""Evaluation sets: every base query is posed bare, with a broad instruction, with a narrow one and with its complement.

Ids say what a base query asks for and how, `test-lodging-windmill-03-date-long`, so that scores can be broken down by
kind of constraint and form of wording. Labels come from the attributes of the documents alone.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ablate.data.world.documents import Draws, document_draws, evaluation_id, levels_of, said_attributes, write
from ablate.data.world.instructions import Demand, Wording, broad_instruction, write_instruction
from ablate.data.world.plan import Topic, near_topic
from ablate.data.world.tables import FORMS, STYLES, Constraint, shared
from ablate.randomness import key
from ablate.records import Condition, EvaluationQuery, EvaluationSet, Passage

QUERIES_PER_ATTRIBUTE = {"dev": 4, "test": 2, "heldout": 3}
"""Of each of the two that a topic speaks of; one query more combines them."""
LEAST_ON_A_SIDE = 2
SHARES = (0.3, 0.7)
"""Within these a single constraint splits a topic where it can."""


class BaseQuery(NamedTuple):
    """What is asked about a topic: demands that stay, and the constraint whose two sides are posed."""

    base_id: str
    query: str
    frame: tuple[Demand, ...]
    constraint: Constraint
    wording: Wording
    broad: int


def evaluation_documents(seed: int, topics: tuple[Topic, ...]) -> list[Passage]:
    """Write the documents of some topics and of their siblings, each in the style that a coin decides."""
    return [
        passage for topic in topics for each in (topic, near_topic(topic)) for passage in topic_documents(seed, each)
    ]


def topic_documents(seed: int, topic: Topic) -> list[Passage]:
    """Write the evaluation documents of one topic."""
    levels = levels_of(seed, topic)
    documents = []
    for number in range(topic.contents):
        style = key(seed, "coin", topic.slug, number) % len(STYLES)
        text = write(topic, tuple(dealt[number] for dealt in levels), style, document_draws(seed, topic, number))
        documents.append(Passage(evaluation_id(topic, number), text))
    return documents


def make_evaluation_set(seed: int, name: str, topics: tuple[Topic, ...]) -> EvaluationSet:
    """Write the documents, queries and labels of one evaluation set."""
    queries: list[EvaluationQuery] = []
    qrels: dict[str, dict[str, int]] = {}
    changed_documents: dict[str, tuple[str, ...]] = {}
    opposites: list[tuple[str, str]] = []
    clusters: dict[str, dict[str, str]] = {}
    asked: Counter[str] = Counter()
    for place, topic in enumerate(topics):
        levels = levels_of(seed, topic)
        ids = [evaluation_id(topic, number) for number in range(topic.contents)]
        for base in _base_queries(seed, name, place, topic, levels, asked):
            noun, broad = topic.domain.noun, broad_instruction(topic.domain.noun, base.constraint.label, base.broad)
            everything = dict.fromkeys(ids, 1)
            posed: tuple[tuple[Condition, str], ...] = (("plain", ""), ("original", broad))
            for condition, instruction in posed:
                query_id = f"{base.base_id}-{condition}"
                queries.append(EvaluationQuery(query_id, base.base_id, base.query, instruction, condition, condition))
                qrels[query_id] = everything
            sides: tuple[tuple[Condition, bool], ...] = (("changed", True), ("reversed", False))
            for condition, usual in sides:
                demands = (*base.frame, Demand(base.constraint, usual))
                query_id = f"{base.base_id}-{condition}"
                instruction = write_instruction(noun, demands, "evaluation", base.wording)
                direction = "usual" if usual else "unusual"
                queries.append(EvaluationQuery(query_id, base.base_id, base.query, instruction, condition, direction))
                good = [
                    all(demand.holds(levels[demand.constraint.attribute][i]) for demand in demands)
                    for i in range(topic.contents)
                ]
                qrels[query_id] = {doc_id: 1 for doc_id, flag in zip(ids, good, strict=True) if flag}
                changed_documents[query_id] = tuple(doc_id for doc_id, flag in zip(ids, good, strict=True) if not flag)
            opposites.append((f"{base.base_id}-changed", f"{base.base_id}-reversed"))
            for kind, cluster in clusters_of(topic, base).items():
                clusters.setdefault(kind, {})[base.base_id] = cluster
    documents = tuple(evaluation_documents(seed, topics))
    return EvaluationSet(
        f"world/{name}",
        documents,
        tuple(queries),
        qrels,
        changed_documents,
        tuple(opposites),
        clusters=clusters,
    )


def clusters_of(topic: Topic, base: BaseQuery) -> dict[str, str]:
    """Return kind -> cluster of a base query: its constraint, template and topic; the form and kind that describe it.

    The constraint is the attribute whose two sides are posed; `combined` is the kind where a second demand stays.
    """
    form, templates = base.wording.form, shared().templates["evaluation"][base.wording.form]
    return {
        "constraint": f"{topic.domain.name}.{topic.domain.attributes[base.constraint.attribute]}",
        "template": f"{form}-{base.wording.template % len(templates)}",
        "topic": topic.slug,
        "form": form,
        "kind": "combined" if base.frame else base.constraint.kind,
    }


def _base_queries(
    seed: int, name: str, place: int, topic: Topic, levels: tuple[tuple[int, ...], ...], asked: Counter[str]
) -> list[BaseQuery]:
    """Choose what is asked about a topic: its attributes in turn, and a combination.

    `asked` counts the queries of each kind so far and is counted on: each kind takes the forms in turn.
    """
    requests = topic.domain.requests["evaluation"]
    said = said_attributes(topic)
    count = len(said) * QUERIES_PER_ATTRIBUTE[name] + 1
    bases = []
    for turn in range(count):
        draws = Draws(key(seed, "base query", name, topic.slug, turn))
        combined = turn == count - 1
        frame, constraint = _choose(topic, levels, None if combined else said[turn % len(said)], draws)
        kind = "combined" if combined else constraint.kind
        form = FORMS[asked[kind] % len(FORMS)]
        asked[kind] += 1
        bases.append(
            BaseQuery(
                f"{name}-{topic.slug}-{turn:02d}-{kind}-{form}",
                requests[(place + turn) % len(requests)].format(t=topic.name, a=topic.with_article),
                frame,
                constraint,
                Wording(form, draws.below(12), draws.below(6)),
                draws.below(12),
            )
        )
    return bases


def _choose(
    topic: Topic, levels: tuple[tuple[int, ...], ...], attribute: int | None, draws: Draws
) -> tuple[tuple[Demand, ...], Constraint]:
    """Choose a constraint of the attribute, or of any beside a second demand (None), with documents on both sides."""
    asks = topic.domain.asks
    candidates: list[tuple[tuple[Demand, ...], Constraint]] = []
    if attribute is not None:
        candidates = [((), constraint) for constraint in asks[attribute]]
    else:
        for first in said_attributes(topic):
            for second in said_attributes(topic):
                for constraint in asks[first] if first != second else ():
                    for kept in asks[second]:
                        candidates += [((Demand(kept, usual),), constraint) for usual in (True, False)]
    draws.shuffle(candidates)

    def misfit(candidate: tuple[tuple[Demand, ...], Constraint]) -> tuple[bool, bool]:
        frame, constraint = candidate
        counts = []
        for usual in (True, False):
            demands = (*frame, Demand(constraint, usual))
            counts.append(
                sum(
                    all(demand.holds(levels[demand.constraint.attribute][i]) for demand in demands)
                    for i in range(topic.contents)
                )
            )
        too_few = min(counts) < LEAST_ON_A_SIDE or topic.contents - max(counts) < LEAST_ON_A_SIDE
        return too_few, any(not SHARES[0] <= number / topic.contents <= SHARES[1] for number in counts)

    best = min(candidates, key=misfit)
    assert not misfit(best)[0], f"{topic.slug}: no constraint with documents on both sides"
    return best
