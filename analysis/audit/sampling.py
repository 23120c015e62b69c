"""Which items humans see: a stratified sample, known-bad items among them, and sheets that do not tell which is which.

Strata are those of the estimate (stratum x verdict of the judges), each with at least five items while the sample
lasts, the rest in proportion to their size. A sheet shows the two passages of an item in random order and the two
instructions in random order, so that a rater cannot tell what the labels claim.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate.data.judgments import QUESTIONS, Judgment
from ablate.randomness import key, stream
from ablate.records import UserError
from analysis.audit.items import Item
from analysis.audit.two_phase import MIN_LABELS

Answer = bool | None
"""What a rater says to one question: yes, no, or that it cannot be told."""


@dataclass(frozen=True)
class Sheet:
    """One item as a rater sees it; the columns of the spreadsheet."""

    item_id: str
    query: str
    first_instruction: str
    second_instruction: str
    first_passage: str
    second_passage: str
    first_passage_first_instruction: str = ""
    """Is the first passage relevant under the first instruction? Empty until it is answered; so below."""
    second_passage_first_instruction: str = ""
    first_passage_second_instruction: str = ""
    second_passage_second_instruction: str = ""


QUESTION_COLUMNS = tuple(field.name for field in dataclasses.fields(Sheet))[-4:]


@dataclass(frozen=True)
class Sample:
    """The drawn items (known-bad ones among them, in the order of the sheets) and the design."""

    items: tuple[Item, ...]
    strata: Mapping[str, tuple[int, int]]
    """Stratum -> (items drawn, items in it)."""


def digest_of(items: Sequence[Item]) -> str:
    """Return the SHA-256 of all items of an audit, so that a sample names what it was drawn from."""
    content = hashlib.sha256()
    for item in items:
        content.update(json.dumps(dataclasses.asdict(item), sort_keys=True, ensure_ascii=False).encode())
    return content.hexdigest()


def draw(items: Sequence[Item], judgments: Sequence[Judgment], size: int, num_bad: int, seed: int) -> Sample:
    """Return a sample of `size` items and `num_bad` known-bad ones, in random order.

    Items with gold are left out: they are known. Raises UserError when there are not so many items, or no two queries
    to make known-bad items from.
    """
    gold = {j.item_id for j in judgments if j.kind == "gold"}
    pool = [item for item in items if not item.known_bad and item.id not in gold]
    if not 1 <= size <= len(pool):
        raise UserError(f"the sample has {size} items; allowed: 1 to {len(pool)}, the items without gold")
    votes: dict[str, list[bool]] = defaultdict(list)
    for judgment in judgments:
        if judgment.kind == "judge":
            votes[judgment.item_id].append(judgment.swap_class == "right")
    strata: dict[str, list[Item]] = defaultdict(list)
    for item in pool:
        said = votes.get(item.id)
        verdict = "not judged" if said is None else "right" if 2 * sum(said) > len(said) else "wrong"
        strata[f"{item.stratum}: {verdict}"].append(item)
    sizes = allocate({name: len(members) for name, members in strata.items()}, size)
    chosen: list[Item] = []
    for name in sorted(strata):
        order = stream(seed, "audit sample", name).permutation(len(strata[name]))
        chosen += [strata[name][place] for place in order[: sizes[name]]]
    bad = known_bad(pool, num_bad, seed)
    mixed = [*chosen, *bad]
    order = stream(seed, "audit order").permutation(len(mixed))
    design = {name: (sizes[name], len(strata[name])) for name in sorted(strata)}
    return Sample(tuple(mixed[place] for place in order), design)


def allocate(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Return how many items each stratum gives: a floor of `MIN_LABELS` while it lasts, the rest in proportion.

    Rest places go to the largest remainders (Hamilton's method), ties by name.
    """
    names = sorted(sizes)
    floor = min(MIN_LABELS, total // len(names))
    given = {name: min(sizes[name], floor) for name in names}
    while (left := total - sum(given.values())) > 0:
        open_names = [name for name in names if given[name] < sizes[name]]
        room = sum(sizes[name] - given[name] for name in open_names)
        exact = {name: left * (sizes[name] - given[name]) / room for name in open_names}
        whole = {name: min(int(exact[name]), sizes[name] - given[name]) for name in open_names}
        if not any(whole.values()):
            ranked = sorted(open_names, key=lambda name: (-exact[name], name))
            whole = dict.fromkeys(ranked[:left], 1)
        given = {name: given[name] + whole.get(name, 0) for name in names}
    return given


def known_bad(pool: Sequence[Item], number: int, seed: int) -> list[Item]:
    """Return items made wrong on purpose: in turn the instruction in the complement's place, and another query's.

    Raises UserError when all items are of one query, because there is no other complement to take.
    """
    if number and len({item.query_id for item in pool}) < 2:
        raise UserError("known-bad items need items of at least two queries; use --known-bad 0")
    made = []
    for place in range(number):
        item = pool[key(seed, "known bad", place) % len(pool)]
        others = [other.complement for other in pool if other.query_id != item.query_id] if place % 2 else []
        wrong = others[key(seed, "other complement", place) % len(others)] if others else item.instruction
        made.append(dataclasses.replace(item, id=f"{item.id}#{place}", complement=wrong, known_bad=True))
    return made


def sheet_id(item: Item, seed: int) -> str:
    """Return the name of an item on a sheet, which tells nothing of it."""
    return f"s{key(seed, 'sheet', item.id):016x}"


def sheet(item: Item, seed: int) -> Sheet:
    """Return an item as a rater sees it: both orders are drawn from the seed and the item's id."""
    swapped_passages, swapped_instructions = _sides(item, seed)
    passages = (item.passage_b, item.passage_a) if swapped_passages else (item.passage_a, item.passage_b)
    texts = (item.complement, item.instruction) if swapped_instructions else (item.instruction, item.complement)
    return Sheet(sheet_id(item, seed), item.query, *texts, *passages)


def _sides(item: Item, seed: int) -> tuple[bool, bool]:
    return key(seed, "passages", item.id) % 2 == 1, key(seed, "instructions", item.id) % 2 == 1


def judgment_of(answers: Sequence[Answer], item: Item, seed: int, rater: str) -> Judgment:
    """Return what a rater says of an item by the four answers on its sheet, in the order of `QUESTION_COLUMNS`."""
    places = _places(item, seed)
    return Judgment(item.id, rater, "human", **{question: answers[place] for question, place in places.items()})


def answers_of(judgment: Judgment, item: Item, seed: int) -> tuple[Answer, ...]:
    """Return the four answers of a judgment as they stand on the item's sheet: `judgment_of` backwards."""
    by_place = {place: getattr(judgment, question) for question, place in _places(item, seed).items()}
    return tuple(by_place[place] for place in range(len(QUESTION_COLUMNS)))


def _places(item: Item, seed: int) -> dict[str, int]:
    """Return question -> its place among the `QUESTION_COLUMNS` of the item's sheet."""
    swapped_passages, swapped_instructions = _sides(item, seed)
    places = {}
    for question in QUESTIONS:
        passage, _, instruction = question.partition("_under_")
        first_passage = (passage == "a") != swapped_passages
        first_text = (instruction == "instruction") != swapped_instructions
        column = f"{'first' if first_passage else 'second'}_passage_{'first' if first_text else 'second'}_instruction"
        places[question] = QUESTION_COLUMNS.index(column)
    return places
