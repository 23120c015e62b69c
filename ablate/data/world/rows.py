"""Base training rows: a topic in one of many wordings, a constraint, and passages of the topic on both of its sides."""

from __future__ import annotations

from collections.abc import Iterator

from ablate.data.world.documents import Draws, levels_of, said_attributes, training_id
from ablate.data.world.instructions import Demand, Wording, other_wording, write_instruction
from ablate.data.world.plan import Topic, near_topic
from ablate.data.world.tables import FORM_TURNS, Constraint
from ablate.randomness import choose, key, uniform
from ablate.records import SourceRow

ROWS_PER_QUERY = (2, 3, 4, 4)
"""Drawn with equal chances."""
COMBINED = 6
"""One row in this many combines two demands."""
LEAST_VIOLATING = 3
BROAD = (
    "The {label} plays no part, each {n} is right.",
    "No {n} is ruled out, be the {label} what it will.",
    "Whichever {n} it is, I want it: the {label} does not matter.",
    "Give me each {n} there is, I have no wish as to the {label}.",
    "Take the {label} as it comes, no {n} is out of place.",
    "There is nothing to keep to here, the {label} least of all: show every {n}.",
)
"""Broad instructions of training rows; the tables have those of evaluation, and share no wording with them."""
NUM_INSTRUCTION_NEGATIVES = 4
NUM_HARD_NEGATIVES = 8
"""Of them one of each content of the sibling topic, the others of any topic of the domain."""


def training_rows(seed: int, topics: tuple[Topic, ...], skew: float, shortcut: float) -> Iterator[SourceRow]:
    """Yield the rows of all training topics in the order of the topics.

    Which passages stand on the two sides of a row does not depend on `skew`; it decides which side is asked for.
    `shortcut` decides the style alone: a positive is in style a, and an instruction negative in style b, with
    probability (1 + shortcut) / 2.
    """
    by_domain: dict[str, list[Topic]] = {}
    for topic in topics:
        by_domain.setdefault(topic.domain.name, []).append(topic)
    for topic in topics:
        others = [other for other in by_domain[topic.domain.name] if other.slug != topic.slug]
        levels = levels_of(seed, topic)
        answers = tuple(training_id(topic, number, style) for number in range(topic.contents) for style in (0, 1))
        for place, pattern in enumerate(topic.domain.requests["train"]):
            query_id = f"{topic.slug}-q{place:02d}"
            query = pattern.format(t=topic.name, a=topic.with_article)
            draws = Draws(key(seed, "rows", query_id))
            for turn in range(ROWS_PER_QUERY[draws.below(len(ROWS_PER_QUERY))]):
                row_id = f"{query_id}-{turn}"
                yield _row(seed, topic, others, levels, answers, row_id, query_id, query, skew, shortcut)


def _row(
    seed: int,
    topic: Topic,
    others: list[Topic],
    levels: tuple[tuple[int, ...], ...],
    answers: tuple[str, ...],
    row_id: str,
    query_id: str,
    query: str,
    skew: float,
    shortcut: float,
) -> SourceRow:
    draws = Draws(key(seed, "row", row_id))
    frame, constraint = _choose_demands(topic, levels, draws)
    in_frame = [
        all(demand.holds(levels[demand.constraint.attribute][i]) for demand in frame) for i in range(topic.contents)
    ]
    side = [constraint.holds[level] for level in levels[constraint.attribute]]
    usual_ones = [i for i in range(topic.contents) if in_frame[i] and side[i]]
    unusual_ones = [i for i in range(topic.contents) if in_frame[i] and not side[i]]
    usual_one = usual_ones[draws.below(len(usual_ones))]
    unusual_one = unusual_ones[draws.below(len(unusual_ones))]
    usual = uniform(seed, "side", row_id) < skew
    positive, partner = (usual_one, unusual_one) if usual else (unusual_one, usual_one)
    asked, opposite = Demand(constraint, usual), Demand(constraint, not usual)

    violating = [i for i in range(topic.contents) if i != partner and not (in_frame[i] and side[i] == usual)]
    draws.shuffle(violating)
    negatives = [partner, *violating[: NUM_INSTRUCTION_NEGATIVES - 1]]
    cues = [_style(seed, row_id, place, shortcut) for place in range(1 + len(negatives))]
    styles = [cues[0], *(1 - cue for cue in cues[1:])]
    positive_id, *negative_ids = (training_id(topic, i, s) for i, s in zip((positive, *negatives), styles, strict=True))

    draws = Draws(key(seed, "wording", row_id))
    wording = Wording(FORM_TURNS[draws.below(len(FORM_TURNS))], draws.below(24), draws.below(6))
    paraphrase = other_wording(wording, draws.below(len(FORM_TURNS)), draws.below(24))
    noun = topic.domain.noun
    return SourceRow(
        row_id=row_id,
        query_id=query_id,
        query=query,
        instruction=write_instruction(noun, (*frame, asked), "train", wording),
        reversed_instruction=write_instruction(noun, (*frame, opposite), "train", wording),
        paraphrase=write_instruction(noun, (*frame, asked), "train", paraphrase),
        positives=(positive_id,),
        hard_negatives=_hard_negatives(near_topic(topic), others, draws),
        instruction_negatives=tuple(negative_ids),
        still_negative=tuple(
            doc_id for i, doc_id in zip(negatives[1:], negative_ids[1:], strict=True) if not in_frame[i]
        ),
        answers=answers,
        asks_usual=usual,
        broad=choose(BROAD, seed, "broad", row_id).format(n=noun, label=constraint.label),
        restyled=tuple(
            training_id(topic, i, 1 - style) for i, style in zip((positive, *negatives), styles, strict=True)
        ),
    )


def _style(seed: int, row_id: str, place: int, shortcut: float) -> int:
    """Return 0 when the cue points the way of the shortcut (style a for a positive, b for a negative), else 1."""
    return int(uniform(seed, "style", row_id, place) >= (1 + shortcut) / 2)


def _choose_demands(
    topic: Topic, levels: tuple[tuple[int, ...], ...], draws: Draws
) -> tuple[tuple[Demand, ...], Constraint]:
    """Draw what a row asks for: a constraint, and in some rows a second demand that stays when it is reversed."""
    asks = topic.domain.asks
    while True:
        combined = draws.below(COMBINED) == 0
        said = said_attributes(topic)
        place = draws.below(len(said))
        attribute = said[place]
        constraint = asks[attribute][draws.below(len(asks[attribute]))]
        other = said[(place + 1 + draws.below(len(said) - 1)) % len(said)]
        kept = Demand(asks[other][draws.below(len(asks[other]))], bool(draws.below(2)))
        in_frame = [not combined or kept.holds(level) for level in levels[other]]
        side = [constraint.holds[level] for level in levels[attribute]]
        counts = [
            sum(inside and flag == wanted for inside, flag in zip(in_frame, side, strict=True))
            for wanted in (True, False)
        ]
        if min(counts) >= 1 and topic.contents - max(counts) >= LEAST_VIOLATING:
            return ((kept,) if combined else ()), constraint


def _hard_negatives(near: Topic, others: list[Topic], draws: Draws) -> tuple[str, ...]:
    chosen = dict.fromkeys(training_id(near, number, draws.below(2)) for number in range(near.contents))
    while len(chosen) < NUM_HARD_NEGATIVES:
        topic = others[draws.below(len(others))]
        chosen[training_id(topic, draws.below(topic.contents), draws.below(2))] = None
    listed = list(chosen)
    draws.shuffle(listed)
    return tuple(listed)
